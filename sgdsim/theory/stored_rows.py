"""Rows of theory as plain data, which can be stored and read again to the last bit.

A row whose measure is a function, such as a distance from a distribution, has no plain form and is computed again.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from typing import Any

from sgdsim.prediction import (
    Condition,
    Correlation,
    Curve,
    DriftCurve,
    Moment,
    Prediction,
    Quantile,
    Rival,
    Tail,
)

_KINDS = {one.__name__: one for one in (Condition, Correlation, Curve, DriftCurve, Moment, Quantile, Rival, Tail)}
_IS = "is"


class NotPlain(Exception):
    """The error for a row that holds more than numbers and texts."""


def plain_row(row: Prediction) -> dict[str, Any]:
    """A row as plain data.

    Raises
    ------
    NotPlain
        For a row that measures a function.

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
    if is_dataclass(value) and type(value).__name__ in _KINDS:
        return {_IS: type(value).__name__, **{one.name: _plain(getattr(value, one.name)) for one in fields(value)}}
    if isinstance(value, tuple):
        return [_plain(one) for one in value]
    if value is None or isinstance(value, str | bool):
        return value
    if isinstance(value, int | float):
        return float(value) if isinstance(value, float) else int(value)
    raise NotPlain(type(value).__name__)


def _read(value: Any) -> Any:
    if isinstance(value, Mapping):
        own = {name: _read(one) for name, one in value.items() if name != _IS}
        return _KINDS[value[_IS]](**own)
    return tuple(map(_read, value)) if isinstance(value, list) else value
