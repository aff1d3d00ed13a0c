"""Vectors are written by coordinate, ``w[0]``, ``w[1]``, …; formulas see them under their base name."""

from __future__ import annotations

from collections.abc import Mapping

MOST_COORDINATES = 1024
"""Of one vector; the kernels spell them out."""


def coordinates(name: str, length: int | None) -> tuple[str, ...]:
    """Names of the coordinates of a scalar (length None) or of a vector.

    Examples
    --------
    >>> coordinates("w", 2)
    ('w[0]', 'w[1]')
    """
    return (name,) if length is None else tuple(f"{name}[{index}]" for index in range(length))


def gather(values: Mapping[str, object]) -> dict[str, object]:
    """Group the coordinates ``w[0]``, ``w[1]``, … of vectors under their base name, in order.

    Examples
    --------
    >>> gather({"a": 1.0, "w[0]": 2.0, "w[1]": 3.0})
    {'a': 1.0, 'w': [2.0, 3.0]}
    """
    gathered: dict[str, object] = {}
    for key, value in values.items():
        base, bracket, _ = key.partition("[")
        if bracket:
            vector = gathered.setdefault(base, [])
            assert isinstance(vector, list)
            vector.append(value)
        else:
            gathered[key] = value
    return gathered


def base_name(coordinate: str) -> str:
    """The name under which a coordinate's vector, or the scalar itself, is known.

    Examples
    --------
    >>> base_name("w[3]"), base_name("x")
    ('w', 'x')
    """
    return coordinate.partition("[")[0]
