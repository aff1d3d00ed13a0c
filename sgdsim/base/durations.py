"""Lengths of time as they are written on a command line."""

from __future__ import annotations

import math
import re

from sgdsim.base import take
from sgdsim.base.errors import InputError
from sgdsim.base.numbers import read_number

_UNITS = {"": 1, "s": 1, "m": 60, "min": 60, "h": 3600, "d": 86400}


def read_seconds(given: object, where: str) -> float:
    """Seconds of a text such as ``90s``, ``5m`` or ``2h``, or of a number; infinite for ``never``.

    Raises
    ------
    InputError
        For any other text, and for a time that is not positive.

    Examples
    --------
    >>> read_seconds("90s", "every"), read_seconds("1.5h", "every"), read_seconds(30, "every")
    (90.0, 5400.0, 30.0)
    """
    expected = "a time such as 60s, 5m or 2h, or never"
    if not isinstance(given, str):
        number = take.as_number(given)
        if number is None or number <= 0:
            raise take.refused(given, where, expected)
        return float(number)
    if given.strip() == "never":
        return math.inf
    match = re.fullmatch(r"(.*?)\s*([a-z]*)", given.strip())
    number = read_number(match[1]) if match and match[2] in _UNITS else None
    if match is None or number is None or number <= 0:
        raise InputError(f"{where}: {given!r}, expected {expected}")
    return float(number * _UNITS[match[2]])
