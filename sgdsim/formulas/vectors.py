"""Names of vectors and matrices: their coordinates are ``w[0]``, ``W[0,2]``, …, their base names ``w`` and ``W``."""

from __future__ import annotations

import itertools
import operator
from collections.abc import Collection, Iterable, Mapping
from math import prod
from typing import Any

import numpy as np

from sgdsim.base.errors import InputError
from sgdsim.formulas.arrays import Shape, array, declared, described, entries, filled, shape_of
from sgdsim.formulas.limits import MAX_ENTRIES
from sgdsim.formulas.names import parameter_name

_MOST_DIMENSIONS = 2


def coordinates(name: str, shape: int | Shape) -> tuple[str, ...]:
    """Names of the coordinates of a scalar, a vector or a matrix, row by row.

    Examples
    --------
    >>> coordinates("w", 2), coordinates("W", (1, 2)), coordinates("x", ())
    (('w[0]', 'w[1]'), ('W[0,0]', 'W[0,1]'), ('x',))
    """
    shape = (shape,) if isinstance(shape, int) else shape
    places = itertools.product(*map(range, shape))
    return tuple(f"{name}[{','.join(map(str, place))}]" for place in places) if shape else (name,)


def shapes(names: Iterable[str]) -> dict[str, Shape]:
    """The shape of each base name, derived from its last coordinate.

    Examples
    --------
    >>> shapes(["a", "w[0]", "w[1]", "W[0,0]", "W[0,1]"])
    {'a': (), 'w': (2,), 'W': (1, 2)}
    """
    found: dict[str, Shape] = {}
    for name in names:
        base, bracket, place = name.partition("[")
        found[base] = tuple(int(i) + 1 for i in place[:-1].split(",")) if bracket else ()
    return found


def spread(name: str, names: Collection[str], where: str) -> tuple[str, ...]:
    """The coordinates that a name declares: ``W[6,4]`` declares a matrix of 6 by 4, or it names one entry.

    It names an entry if the names include the first entry, ``W[0,0]``, or a larger declaration, ``W[8,8]``.

    Raises
    ------
    InputError
        For a text that is not a name, and for a vector or matrix without coordinates or with too many.

    Examples
    --------
    >>> spread("w[1]", ["w[1]"], "parameter"), spread("w[1]", ["w[0]", "w[1]"], "parameter")
    (('w[0]',), ('w[1]',))
    """
    base, shape = parameter_name(name, where)
    if shape and (f"{base}[{','.join('0' * len(shape))}]" in names or _inside(base, shape, names)):
        return (f"{base}{declared(shape)}",)
    if 0 in shape or prod(shape) > MAX_ENTRIES:
        raise InputError(f"{where}: {prod(shape)} coordinates, expected 1 to {MAX_ENTRIES}")
    return coordinates(base, shape)


def _inside(base: str, shape: Shape, names: Iterable[str]) -> bool:
    """True if one of the names declares an array that has this coordinate."""
    wholes = (parameter_name(other)[1] for other in names if other.startswith(f"{base}["))
    return any(len(whole) == len(shape) and all(map(operator.lt, shape, whole)) for whole in wholes)


def assigned(values: Mapping[str, Any], where: str) -> dict[str, Any]:
    """The value of each coordinate. A value for a whole vector or matrix holds where a coordinate has none of its own.

    Parameters
    ----------
    values
        Values by the names that `spread` takes, or lists, rows or arrays by base name.
    where
        Name of the table, for messages.

    Raises
    ------
    InputError
        For a list whose shape differs from the declaration, rows of different lengths, and three dimensions.

    Examples
    --------
    >>> assigned({"V": [[1, 2], [3, 4]], "w[2]": 5}, "constants")
    {'V[0,0]': 1, 'V[0,1]': 2, 'V[1,0]': 3, 'V[1,1]': 4, 'w[0]': 5, 'w[1]': 5}
    """
    found: dict[str, Any] = {}
    own: set[str] = set()
    arrays = {name: array_of(value, f"{where}.{name}") for name, value in values.items()}
    names = [*values, *(f"{name}{declared(shape_of(given))}" for name, given in arrays.items() if shape_of(given))]
    for name, value in values.items():
        given = arrays[name]
        base, shape = parameter_name(name, f"{where}.{name}")
        if shape_of(given):
            if shape not in ((), shape_of(given)):
                raise InputError(f"{where}.{name}: {described(shape_of(given))}, expected {described(shape)}")
            keys, one_each = coordinates(base, shape_of(given)), entries(given)
        else:
            keys = spread(name, names, f"{where}.{name}")
            one_each = [value] * len(keys)
        if keys == (f"{base}{declared(shape)}",) and shape:
            own.add(keys[0])
            found[keys[0]] = value
            continue
        for key, one in zip(keys, one_each, strict=True):
            found[key] = found.pop(key) if key in own else one
    return found


def array_of(value: Any, where: str) -> Any:
    """The array of a list, of rows, or of a NumPy array; any other value as it is.

    Raises
    ------
    InputError
        For rows of different lengths, an empty array, and more than two dimensions.
    """
    try:
        found = array(value.tolist() if isinstance(value, np.ndarray) else value)
    except ValueError as error:
        raise InputError(f"{where}: {error}, expected a number, a list of numbers, or rows of them") from None
    if len(shape_of(found)) > _MOST_DIMENSIONS:
        raise InputError(f"{where}: {described(shape_of(found))}, expected a number, a vector or a matrix")
    return found


def gather(values: Mapping[str, Any]) -> dict[str, Any]:
    """Group the coordinates ``w[0]``, ``w[1]``, … of vectors and matrices under their base name, in order.

    Examples
    --------
    >>> gather({"a": 1.0, "w[0]": 2.0, "w[1]": 3.0})
    {'a': 1.0, 'w': array([2.0, 3.0], dtype=object)}
    """
    parts: dict[str, list[Any]] = {}
    for key, value in values.items():
        parts.setdefault(base_name(key), []).append(value)
    return {base: filled(shape, parts[base]) for base, shape in shapes(values).items()}


def base_name(coordinate: str) -> str:
    """The base name of a coordinate: ``w`` of ``w[3]``; a scalar's name is its own.

    Examples
    --------
    >>> base_name("w[3]"), base_name("x")
    ('w', 'x')
    """
    return coordinate.partition("[")[0]
