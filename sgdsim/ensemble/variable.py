"""Arrays whose axes have names, with attributes that a file can hold."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np

from sgdsim.base import take
from sgdsim.base.errors import InputError
from sgdsim.base.sparse import Sparse

Attribute = str | int | float

# Names of attributes that HDF5 and netCDF reserve, and of those by which a boolean is told from an int8.
RESERVED = {"CLASS", "NAME", "DIMENSION_LIST", "REFERENCE_LIST", "DIMENSION_LABELS"}
RESERVED |= {"_NCProperties", "_Netcdf4Dimid", "_Netcdf4Coordinates", "flag_values", "flag_meanings"}


@dataclass(frozen=True, eq=False)
class Variable:
    """An array whose axes have names.

    Parameters
    ----------
    dimensions
        A name for each axis, all different.
    data
        Booleans, integers, real numbers of at most 64 bits, or text; anything that `numpy.asarray` takes.
    attributes
        Texts and numbers, such as ``units`` and ``long_name``; without these a file has ``1`` and the variable's name.

    Raises
    ------
    InputError
        For axes without a name or with the same one, and for values or attributes that a file cannot hold.

    Examples
    --------
    >>> start = Variable(("parameter",), [1.0, 0.0], {"units": "1", "long_name": "initial value"})
    >>> start.shape, start.nonzero, start.rows(0, 1), start.at(0).shape
    ((2,), 1, array([1.]), ())
    """

    dimensions: tuple[str, ...]
    data: np.ndarray
    attributes: Mapping[str, Attribute] = field(default_factory=dict)

    def __post_init__(self) -> None:
        take.settle(self, "", dimensions=take.each(take.text))
        object.__setattr__(self, "data", _storable(self.data))
        object.__setattr__(self, "attributes", allowed(self.attributes))
        if len(self.dimensions) != self.data.ndim or len(set(self.dimensions)) != self.data.ndim:
            expected = f"expected {self.data.ndim} different names, one an axis of the data"
            raise InputError(f"dimensions {self.dimensions}: {expected}")

    @property
    def shape(self) -> tuple[int, ...]:
        """Length of each axis."""
        return self.data.shape

    @property
    def nonzero(self) -> int:
        """The number of values that are not zero."""
        return int(np.count_nonzero(self.data))

    @property
    def others(self) -> np.ndarray:
        """The values that are not zero, shape (nonzero,).

        Examples
        --------
        >>> Variable(("trajectory",), [0, 12, 0]).others
        array([12])
        """
        return np.asarray(self.data[self.data != 0])

    def rows(self, start: int, stop: int) -> np.ndarray:
        """Values at the places ``start`` to ``stop`` of the first axis, the last one excluded.

        Parameters
        ----------
        start, stop
            Places along the first axis, counted from 0.

        Returns
        -------
        numpy.ndarray
            Shape (stop - start, further axes…).
        """
        return self.data[start:stop]

    def at(self, index: int) -> Variable:
        """Variable of the values at one place of the first axis, without that axis.

        Parameters
        ----------
        index
            Place along the first axis, counted from 0.

        Returns
        -------
        Variable
            The values, with the same attributes.
        """
        return Variable(self.dimensions[1:], self.data[index], self.attributes)


class Implied(Variable):
    """A variable whose values are computed when they are used, from a description that takes less memory."""

    def __init__(self, dimensions: tuple[str, ...], attributes: Mapping[str, Attribute]) -> None:
        object.__setattr__(self, "dimensions", dimensions)
        object.__setattr__(self, "attributes", attributes)

    def __getattr__(self, name: str) -> Any:
        if name != "data":
            raise AttributeError(name)
        return self.rows(0, self.shape[0])


class Rare(Implied):
    """Whole numbers that are nearly all zero, such as the step at which each trajectory was found to diverge.

    Parameters
    ----------
    dimensions, attributes
        See `Variable`.
    values
        The values that are not zero.

    Examples
    --------
    >>> status = Rare(("trajectory",), Sparse((4,), "int32", np.array([2]), np.array([40])), {})
    >>> status.data, status.nonzero
    (array([ 0,  0, 40,  0], dtype=int32), 1)
    """

    def __init__(self, dimensions: tuple[str, ...], values: Sparse, attributes: Mapping[str, Attribute]) -> None:
        super().__init__(dimensions, attributes)
        object.__setattr__(self, "values", values)

    values: Sparse

    @property
    def shape(self) -> tuple[int, ...]:
        """Length of each axis."""
        return self.values.shape

    @property
    def nonzero(self) -> int:
        """The number of values that are not zero."""
        return len(self.values.index)

    @property
    def others(self) -> np.ndarray:
        """The values that are not zero, shape (nonzero,)."""
        return self.values.values

    def rows(self, start: int, stop: int) -> np.ndarray:
        """Values ``start`` to ``stop`` along the first axis."""
        return self.values.rows(start, stop)

    def at(self, index: int) -> Variable:
        """The values at one place of the first axis, without that axis."""
        return Rare(self.dimensions[1:], self.values.at(index), self.attributes)


class Counted(Implied):
    """The coordinate of a dimension that counts from 0.

    Parameters
    ----------
    name
        Name of the dimension.
    size, dtype
        Number and type of the values.
    attributes
        See `Variable`.

    Examples
    --------
    >>> Counted("trajectory", 3, "int32", {}).data
    array([0, 1, 2], dtype=int32)
    """

    def __init__(self, name: str, size: int, dtype: str, attributes: Mapping[str, Attribute]) -> None:
        super().__init__((name,), attributes)
        object.__setattr__(self, "size", size)
        object.__setattr__(self, "dtype", dtype)

    size: int
    dtype: str

    @property
    def shape(self) -> tuple[int, ...]:
        """Length of the axis."""
        return (self.size,)

    def rows(self, start: int, stop: int) -> np.ndarray:
        """Values ``start`` to ``stop``."""
        return np.arange(start, max(min(stop, self.size), start), dtype=self.dtype)


WHOLE = ""
"""The name of the only part of a file without parts."""


class Contents(NamedTuple):
    """The contents of an ensemble in a file: variables by name, and attributes."""

    variables: Mapping[str, Variable]
    attributes: Mapping[str, Attribute]


def sizes_of(variables: Mapping[str, Variable]) -> dict[str, int]:
    """The length of each dimension.

    Raises
    ------
    InputError
        If the length of a dimension differs between variables.

    Examples
    --------
    >>> sizes_of({"x": Variable(("trajectory",), [0.5, 1.5])})
    {'trajectory': 2}
    """
    sizes: dict[str, int] = {}
    for name, variable in variables.items():
        for dimension, size in zip(variable.dimensions, variable.shape, strict=True):
            if sizes.setdefault(dimension, size) != size:
                others = f"others have {sizes[dimension]}"
                raise InputError(f"variable {name!r}: length {size} along {dimension!r}, {others}")
    return sizes


def labelled(name: str, variable: Variable) -> dict[str, Attribute]:
    """The attributes of a variable, with a default for ``units`` and ``long_name`` if they are missing.

    Examples
    --------
    >>> labelled("x", Variable(("trajectory",), [0.5, 1.5], {"long_name": "position"}))
    {'units': '1', 'long_name': 'position'}
    """
    return {"units": "1", "long_name": name, **variable.attributes}


def allowed(attributes: Mapping[str, Attribute]) -> dict[str, Attribute]:
    """Attributes in the form in which a file holds them.

    Raises
    ------
    InputError
        For a name that a file reserves, and for a value that is neither text nor one number.

    Examples
    --------
    >>> allowed({"seed": np.int64(7)})
    {'seed': 7}
    """
    attributes = take.by_name(take.anything)(attributes, "attributes")
    for name in attributes:
        if name in RESERVED or not name.isprintable() or not name:
            raise InputError(f"attribute {name!r}: the file format reserves the name or cannot hold it")
    return {name: plain(name, value) for name, value in attributes.items()}


def plain(name: str, value: object) -> Attribute:
    """The value of an attribute in the form in which a file holds it, a text or a number.

    Raises
    ------
    InputError
        If the value is neither; the message names the attribute.

    Examples
    --------
    >>> plain("title", b"valley")
    'valley'
    """
    if isinstance(value, np.ndarray | np.generic):
        value = value.item()
    if isinstance(value, bytes):
        value = value.decode(errors="backslashreplace")
    if isinstance(value, str):
        # A command line may hold bytes that are not UTF-8.
        return value.encode(errors="backslashreplace").decode().replace("\0", "\\x00")
    if isinstance(value, int) and -(2**63) <= value < 2**64:
        return int(value)
    if isinstance(value, float):
        return value
    raise InputError(f"attribute {name!r}: {value!r} is neither text nor a number of at most 64 bits")


def _storable(data: object) -> np.ndarray:
    try:
        array = np.asarray(data)
    except Exception as error:  # an object of the user's own may raise anything
        raise take.refused(data, "data", f"real numbers or text of one shape ({error})") from None
    if array.dtype.kind in "OTU":
        for text in array.flat:
            if not isinstance(text, str) or "\0" in text or text.encode(errors="replace").decode() != text:
                raise take.refused(text, "data", "real numbers of at most 64 bits, or text without NUL, valid in UTF-8")
        return array.astype(np.str_)
    if array.dtype.kind not in "biuf" or array.dtype.itemsize > 8:
        raise InputError(f"data: values of type {array.dtype} cannot be stored, expected real numbers or text")
    return array
