"""How much memory there is."""

from __future__ import annotations

from math import inf


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
