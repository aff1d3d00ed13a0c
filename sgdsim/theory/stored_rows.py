"""Rows of theory as plain data, which can be stored and read again to the last bit.

A function that a row measures by is stored as its name with its arguments, and so is a data class that is among these,
if theory has declared it by `sgdsim.prediction.stored`. A file can name nothing else, whatever it holds. What is not
declared, such as a function within a function, has no plain form, and the row is computed again.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import fields, is_dataclass
from functools import partial
from importlib import import_module
from types import FunctionType
from typing import Any

import numpy as np

from sgdsim.prediction import (
    STORED,
    Condition,
    Correlation,
    Curve,
    Density,
    Distance,
    DriftCurve,
    Function,
    Moment,
    PathMean,
    Prediction,
    Quantile,
    Rival,
    Tail,
)

_OF_A_ROW = (Condition, Correlation, Curve, Density, Distance, DriftCurve, Function, Moment, PathMean, Quantile, Rival)
_KINDS = {one.__name__: one for one in (*_OF_A_ROW, Tail)}
_IS = "is"


class NotPlain(Exception):
    """The error for a row that holds more than numbers, texts, and functions that have a name."""


def plain_row(row: Prediction) -> dict[str, Any]:
    """A row as plain data.

    Raises
    ------
    NotPlain
        For a row with a function, or a value, that has no name.

    Examples
    --------
    >>> from dataclasses import replace
    >>> row = Prediction("valley", "mean(x)", Moment("mean", "x", 9), 0.1, order=1, series="a long text")
    >>> plain_row(row)["measure"]
    {'is': 'Moment', 'statistic': 'mean', 'observable': 'x', 'step': 9, 'point': None}
    >>> row_of(plain_row(row)) == replace(row, series=plain_row(row)["series"])
    True
    """
    series = row.series and hashlib.sha256(row.series.encode()).hexdigest()[:16]  # only equality of series counts
    return {one.name: _plain(getattr(row, one.name)) for one in fields(row)} | {"series": series}


def row_of(data: Mapping[str, Any]) -> Prediction:
    """The row that plain data stand for.

    Raises
    ------
    InputError, KeyError, TypeError
        For data that are no row.
    """
    return Prediction(**{name: _read(value) for name, value in data.items()})


def _plain(value: Any) -> Any:
    if value is None or isinstance(value, str | bool):
        return value
    if isinstance(value, int | float):
        return float(value) if isinstance(value, float) else int(value)
    if isinstance(value, tuple):
        return [_plain(one) for one in value]
    return _plain_array(value) if isinstance(value, np.ndarray | np.generic) else _plain_object(value)


def _plain_array(value: np.ndarray | np.generic) -> Any:
    if value.dtype not in (np.float64, np.int64, np.bool_):
        raise NotPlain(f"array of {value.dtype}")
    return {_IS: "array", "values": value.tolist()} if isinstance(value, np.ndarray) else value.item()


def _plain_object(value: Any) -> dict[str, Any]:
    if isinstance(value, partial):
        keywords = {name: _plain(one) for name, one in value.keywords.items()}
        return {_IS: "partial", "of": _plain(value.func), "arguments": _plain(value.args), "keywords": keywords}
    if isinstance(value, np.ufunc | FunctionType):
        return {_IS: "function", "name": _name(value)}
    if is_dataclass(value) and not isinstance(value, type):
        return {_IS: _name(type(value)), **{one.name: _plain(getattr(value, one.name)) for one in fields(value)}}
    raise NotPlain(type(value).__name__)


def _read(value: Any) -> Any:
    if isinstance(value, list):
        return tuple(map(_read, value))
    if not isinstance(value, Mapping):
        return value
    if value[_IS] == "array":
        found = np.array(value["values"])
        if found.dtype.kind not in "bif":
            raise KeyError("array")
        return found
    if value[_IS] == "function":
        return _named(value["name"])
    if value[_IS] == "partial":
        arguments = _read(value["arguments"])
        keywords = {name: _read(one) for name, one in value["keywords"].items()}
        if any(isinstance(one, str | tuple) for one in (*arguments, *keywords.values())):
            raise KeyError("text")  # SymPy would evaluate it
        return partial(_read(value["of"]), *arguments, **keywords)
    kind = _named(value[_IS])
    if not (isinstance(kind, type) and is_dataclass(kind)):
        raise KeyError(value[_IS])
    return kind(**{name: _read(one) for name, one in value.items() if name != _IS})


def _name(value: Any) -> str:
    """The name by which a function or a data class is found again."""
    known = type(value) is type and value.__name__ in _KINDS
    module = "numpy" if isinstance(value, np.ufunc) else value.__module__
    name = value.__name__ if known else f"{module}:{value.__name__}"
    try:
        found = _named(name)
    except KeyError:
        found = None
    if found is not value:
        raise NotPlain(name)
    return name


def _named(name: str) -> Any:
    """The function or the data class of a name; raises KeyError for all that is not meant to be named by files."""
    if name in _KINDS:
        return _KINDS[name]
    module, _, own = name.partition(":")
    if module == "numpy":
        found = getattr(np, own, None)
        if isinstance(found, np.ufunc):
            return found
    if module.startswith("sgdsim.theory."):  # a law that was not used yet is not imported yet
        with suppress(ImportError):
            import_module(module)
    return STORED[name]
