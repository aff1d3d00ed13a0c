"""Readers of arguments: a reader returns the plain Python value of an argument, or refuses it by its name.

A reader is a function of a value and of where it stands, such as ``"run.steps"``. `of_kind`, `each`, `by_name` and
`optional` make further readers; `settle` reads the fields of a dataclass.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Mapping, Sequence
from math import isfinite
from types import UnionType
from typing import Any, TypeVar

import numpy as np

from sgdsim.base.errors import InputError, shortened, unknown_name

T = TypeVar("T")

Reader = Callable[[Any, str], T]


def as_number(value: Any) -> int | float | None:
    """Finite number as a Python number, also from NumPy; None if the value is not a finite number.

    Examples
    --------
    >>> as_number(np.float32(0.5)), as_number(2), as_number(True), as_number(float("nan"))
    (0.5, 2, None, None)
    """
    plain = _plain(value)
    if isinstance(plain, bool) or not isinstance(plain, int | float):
        return None
    plain = int(plain) if isinstance(plain, int) else float(plain)
    try:
        return plain if isfinite(plain) else None
    except OverflowError:  # a whole number beyond the largest float
        return None


def as_whole(value: Any) -> int | None:
    """Whole number as a Python int, also from 1e6; None if the value is not a whole number.

    Examples
    --------
    >>> as_whole(1e6), as_whole(np.int64(3)), as_whole(1.5)
    (1000000, 3, None)
    """
    number = as_number(value)
    return None if number is None or number != int(number) else int(number)


def _plain(value: Any) -> Any:
    """Python number in place of a NumPy scalar; any other value as it is."""
    return value.item() if isinstance(value, np.generic | np.ndarray) and value.ndim == 0 else value


def refused(value: Any, where: str, expected: str) -> InputError:
    """Error for a value that is not as expected.

    Examples
    --------
    >>> str(refused(None, "steps", "a whole number"))
    'steps: None, expected a whole number'
    >>> str(refused(np.ones((2, 2)), "steps", "a whole number"))
    'steps: array([[1., 1.], [1., 1.]]), expected a whole number'
    """
    try:
        shown = " ".join(repr(value).split())  # the text of an array has several lines
    except Exception:  # an object of the user's own, or a number of too many digits
        shown = f"a value of type {type(value).__name__}"
    return InputError(f"{where}: {shortened(shown)}, expected {expected}")


def number(value: Any, where: str) -> int | float:
    """Finite number that a value is."""
    found = as_number(value)
    if found is None:
        raise refused(value, where, "a finite number")
    return found


def real(value: Any, where: str) -> float:
    """Number that a value is; infinite and NaN are allowed, as results of a computation may be."""
    plain = _plain(value)
    if isinstance(plain, float):
        return float(plain)
    return float(number(plain, where))


def whole(value: Any, where: str) -> int:
    """Whole number that a value is; 1e6 is allowed."""
    found = as_whole(value)
    if found is None:
        raise refused(value, where, "a whole number")
    return found


def flag(value: Any, where: str) -> bool:
    """Truth value, True or False, that a value is."""
    plain = _plain(value)
    if not isinstance(plain, bool):
        raise refused(value, where, "True or False")
    return plain


def text(value: Any, where: str) -> str:
    """Text that a value is, if UTF-8 can encode it."""
    if not isinstance(value, str):
        raise refused(value, where, "text")
    try:
        value.encode()
    except UnicodeEncodeError:
        raise refused(value, where, "text that UTF-8 can write") from None
    return str(value)


def path(value: Any, where: str) -> str | os.PathLike[str]:
    """Path of a file: a text or a path object."""
    if not isinstance(value, str | os.PathLike) or not isinstance(os.fspath(value), str):
        raise refused(value, where, "the path of a file")
    try:
        good = b"\0" not in os.fsencode(value) and os.fspath(value) != ""
    except UnicodeEncodeError:
        good = False
    if not good:
        raise refused(value, where, "the path of a file")
    return value


def of_kind(kind: type[T] | UnionType, expected: str) -> Reader[Any]:
    """Reader of instances of a class.

    Examples
    --------
    >>> of_kind(int, "an int")("1", "here")
    Traceback (most recent call last):
    sgdsim.base.errors.InputError: here: '1', expected an int
    """

    def read(value: Any, where: str) -> Any:
        if not isinstance(value, kind):
            raise refused(value, where, expected)
        return value

    return read


def one_of(kind: str, known: Collection[str]) -> Reader[str]:
    """Reader of names that are in a list of known ones.

    Examples
    --------
    >>> one_of("dtype", ["float64", "float32"])("float46", "run.dtype")
    Traceback (most recent call last):
    sgdsim.base.errors.InputError: run.dtype: unknown dtype 'float46': did you mean 'float64'?
    """

    def read(value: Any, where: str) -> str:
        name = text(value, where)
        if name not in known:
            raise InputError(f"{where}: {unknown_name(kind, name, known)}")
        return name

    return read


def each(read: Reader[T]) -> Reader[tuple[T, ...]]:
    """Reader of sequences and NumPy arrays; the given reader reads each value.

    Examples
    --------
    >>> each(whole)(np.array([1, 2]), "steps")
    (1, 2)
    """

    def read_all(value: Any, where: str) -> tuple[T, ...]:
        several = isinstance(value, Sequence) or (isinstance(value, np.ndarray) and value.ndim > 0)
        if not several or isinstance(value, str | bytes | bytearray | memoryview):
            raise refused(value, where, "a sequence, such as a list")
        return tuple(read(one, f"{where}[{index}]") for index, one in enumerate(value))

    return read_all


def by_name(read: Reader[T]) -> Reader[dict[str, T]]:
    """Reader of tables with names for keys; the given reader reads each value.

    Examples
    --------
    >>> by_name(number)({"a": np.float64(1.0), "b": None}, "constants")
    Traceback (most recent call last):
    sgdsim.base.errors.InputError: constants.b: None, expected a finite number
    """

    def read_all(value: Any, where: str) -> dict[str, T]:
        if not isinstance(value, Mapping):
            raise refused(value, where, "a table, such as a dict")
        names = [text(name, f"{where}, a key") for name in value]
        return {name: read(one, f"{where}.{name}") for name, one in zip(names, value.values(), strict=True)}

    return read_all


def optional(read: Reader[T]) -> Reader[T | None]:
    """Reader that accepts None as well."""
    return lambda value, where: None if value is None else read(value, where)


def anything(value: Any, where: str) -> Any:
    """Value as it is: other code checks it."""
    return value


def settle(instance: Any, where: str, **readers: Reader[Any]) -> None:
    """Read fields of a dataclass, which may be frozen, and replace them by plain values.

    Parameters
    ----------
    instance
        The dataclass instance.
    where
        Name of the instance, which stands before the names of its fields in messages.
    **readers
        Reader of each field, by the name of the field.

    Raises
    ------
    InputError
        For a value that its reader refuses.
    """
    prefix = f"{where}." if where else ""
    for name, read in readers.items():
        object.__setattr__(instance, name, read(getattr(instance, name), f"{prefix}{name}"))
