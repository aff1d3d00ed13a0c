"""Memory that is free, and the share of it that a run may take."""

from __future__ import annotations

import re
from math import inf

from sgdsim.base import take
from sgdsim.base.numbers import read_number

SHARE = 0.8
"""Fraction of the free memory that a run may take by default; the rest is left to other programs."""

_UNITS = {"": 1.0, "b": 1.0, "kb": 1e3, "mb": 1e6, "gb": 1e9, "tb": 1e12}
_UNITS |= {"kib": 2.0**10, "mib": 2.0**20, "gib": 2.0**30, "tib": 2.0**40}


def available_memory() -> float:
    """Bytes that may be taken without swapping; infinite where the system does not say.

    Examples
    --------
    >>> available_memory() > 1e6
    True
    """
    try:
        with open("/proc/meminfo", encoding="ascii") as file:
            fields = dict(line.split(":") for line in file)
        return float(fields["MemAvailable"].split()[0]) * 1024
    except (OSError, KeyError):
        return inf


def memory_limit(given: float | str | None) -> float:
    """Bytes that a run may take: as many as a user says, by default `SHARE` of what is free.

    Raises
    ------
    InputError
        For a text that is not a size.

    Examples
    --------
    >>> memory_limit("4GB"), memory_limit("500 MB"), memory_limit("1 KiB"), memory_limit(None) > 1e6
    (4000000000.0, 500000000.0, 1024.0, True)
    """
    if given is None:
        return SHARE * available_memory()
    number = take.as_number(given) if not isinstance(given, str) else None
    if isinstance(given, str) and (match := re.fullmatch(r"(.*?)\s*([A-Za-z]*)", given.strip())):
        number, unit = read_number(match[1]), _UNITS.get(match[2].lower())
        number = None if number is None or unit is None else number * unit
    if number is None or number <= 0:
        raise take.refused(given, "memory_limit", "a size such as 500MB or 4GB")
    return float(number)
