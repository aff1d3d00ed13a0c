"""Plain data of a scenario, in the types that TOML has, whether it came from a file, options or a call."""

from __future__ import annotations

import datetime
from collections.abc import Mapping
from typing import Any

from sgdsim.base import toml
from sgdsim.base.errors import InputError, shortened
from sgdsim.formulas.names import normal
from sgdsim.input.wording import dotted

_PLAIN = (bool, int, float, datetime.date, datetime.time)


def plain(value: Any, path: tuple[str, ...] = (), depth: int = 0) -> Any:
    """Copy of the data in new tables and lists, with keys in the normal form of names and without values that are None.

    In the normal form letters of the same meaning are one letter, such as the two signs for mu.

    Parameters
    ----------
    value
        Tables, lists, texts, numbers, booleans and dates; also NumPy's numbers and arrays.
    path, depth
        Key and depth of the value in the scenario, for messages.

    Raises
    ------
    InputError
        For a value of any other type, a text that UTF-8 cannot encode, and tables that are nested too deeply.

    Examples
    --------
    >>> plain({"run": {"steps": 100, "seed": None}, "references": ("one", "two")})
    {'run': {'steps': 100}, 'references': ['one', 'two']}
    """
    if isinstance(value, str):
        return _text(value, path)
    if depth > toml.DEEPEST:
        raise toml.too_deep(dotted(path[:3]))
    if isinstance(value, Mapping):
        return {
            name: plain(one, (*path, name), depth + 1)
            for name, one in ((_name(key, path), one) for key, one in value.items())
            if one is not None
        }
    if isinstance(value, list | tuple):
        return [plain(one, path, depth + 1) for one in value]
    if hasattr(value, "tolist"):  # a NumPy number or array
        return plain(value.tolist(), path, depth)
    if not isinstance(value, _PLAIN):
        raise InputError(f"{dotted(path)}: {shortened(repr(value))}, expected a number, text, list or table")
    return value


def _name(key: Any, path: tuple[str, ...]) -> str:
    if not isinstance(key, str):
        raise InputError(f"{dotted(path)}: the key {shortened(repr(key))}, expected text")
    return normal(_text(key, path))


def _text(text: str, path: tuple[str, ...]) -> str:
    """The text, unless UTF-8 cannot encode it: arguments of the command line may hold any bytes."""
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise InputError(f"{dotted(path)}: {text[error.start : error.end]!r} is no text in UTF-8") from None
    return text
