"""TOML in and out: dotted keys into nested tables, and a writer for plain data (the standard library only reads)."""

from __future__ import annotations

import datetime
import json
import re
import tomllib
from collections.abc import Mapping
from functools import partial
from typing import Any

from sgdsim.base.errors import InputError, shortened
from sgdsim.base.numbers import to_float

DEEPEST = 32
"""Most levels of nested tables and lists; the deepest key of a scenario has six."""

_BARE = re.compile(r"[A-Za-z0-9_-]+")
_PART = r'\s*("[^"]*"|[^."\s]+)\s*'
_DOTTED = re.compile(rf"{_PART}(\.{_PART})*")


def loads(text: str, where: str) -> dict[str, Any]:
    """Tables of a TOML text.

    Raises
    ------
    InputError
        For a syntax error, with its line and column; for a number that would be rounded to zero; for too deep a nest.

    Examples
    --------
    >>> loads("steps = 1_000", "here")
    {'steps': 1000}
    >>> loads("steps = ", "here")
    Traceback (most recent call last):
    sgdsim.base.errors.InputError: here: not valid TOML: Invalid value (at line 1, column 9, the end)
    """
    try:
        return tomllib.loads(text, parse_float=partial(to_float, where=where))
    except RecursionError:
        raise too_deep(f"{where}: not valid TOML") from None
    except ValueError as error:  # a number of more than 4300 digits raises a plain ValueError
        end = f"line {text.count(chr(10)) + 1}, column {len(text) - text.rfind(chr(10))}"
        problem = str(error).replace("end of document", f"{end}, the end")
        raise InputError(f"{where}: not valid TOML: {problem}") from None


def too_deep(where: str) -> InputError:
    """Error for tables and lists that are nested more deeply than in any scenario."""
    return InputError(f"{where}: nested too deeply, expected at most {DEEPEST} levels")


def dumps(data: Mapping[str, Any]) -> str:
    """TOML text of plain data: tables, arrays of tables, strings, numbers, booleans, dates, lists; None is left out.

    Examples
    --------
    >>> print(dumps({"title": "a", "run": {"steps": 10, "initial": {"x[0]": 1.5}}}))
    title = "a"
    <BLANKLINE>
    [run]
    steps = 10
    <BLANKLINE>
    [run.initial]
    "x[0]" = 1.5
    <BLANKLINE>
    """
    return "\n".join(_table(data, ())) + "\n"


def dump_value(value: Any) -> str:
    """TOML text of one value, on one line.

    Examples
    --------
    >>> dump_value([True, "a", {"b": 0.5}])
    '[true, "a", { b = 0.5 }]'
    """
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        return _quoted(value)
    if isinstance(value, list | tuple):
        return "[" + ", ".join(dump_value(entry) for entry in value) + "]"
    if isinstance(value, Mapping):
        entries = ", ".join(f"{_key(k)} = {dump_value(v)}" for k, v in value.items() if v is not None)
        return f"{{ {entries} }}" if entries else "{}"
    if isinstance(value, datetime.date | datetime.time):
        return value.isoformat()
    return repr(value)


def _table(data: Mapping[str, Any], path: tuple[str, ...]) -> list[str]:
    plain = {key: value for key, value in data.items() if not isinstance(value, Mapping) and not _is_tables(value)}
    lines = [f"{_key(key)} = {dump_value(value)}" for key, value in plain.items() if value is not None]
    for key, value in data.items():
        name = ".".join(_key(part) for part in (*path, key))
        if isinstance(value, Mapping):
            lines += ["", f"[{name}]", *_table(value, (*path, key))]
        elif _is_tables(value):
            for entry in value:
                lines += ["", f"[[{name}]]", *_table(entry, (*path, key))]
    return lines


def _is_tables(value: Any) -> bool:
    return isinstance(value, list | tuple) and bool(value) and all(isinstance(entry, Mapping) for entry in value)


def _key(key: str) -> str:
    return key if _BARE.fullmatch(key) else _quoted(key)


def _quoted(text: str) -> str:
    # JSON's escapes are TOML's, but for the slash and DEL.
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")


def split_key(dotted: str) -> list[str]:
    """Parts of a dotted key; quotes protect dots.

    Raises
    ------
    InputError
        For an empty part, a quote that is not closed, or too many parts.

    Examples
    --------
    >>> split_key('record.histograms."x[0]"')
    ['record', 'histograms', 'x[0]']
    """
    if not _DOTTED.fullmatch(dotted):
        raise InputError(f"{shortened(dotted)!r} is not a key, expected names between dots, such as run.steps")
    parts = [part.strip('"') for part in re.findall(_PART, dotted)]
    if len(parts) > DEEPEST:
        raise InputError(f"{shortened(dotted)!r} has {len(parts)} names between dots, expected at most {DEEPEST}")
    return parts


def set_key(data: dict[str, Any], dotted: str, value: Any) -> None:
    """Set a nested value in place, and create the tables above it that are missing.

    Raises
    ------
    InputError
        If a part of the key names a value that is not a table.

    Examples
    --------
    >>> data = {"run": {"steps": 10}}
    >>> set_key(data, "run.initial.x[0]", 1.5)
    >>> data
    {'run': {'steps': 10, 'initial': {'x[0]': 1.5}}}
    """
    *path, last = split_key(dotted)
    table = data
    for key in path:
        table = table.setdefault(key, {})
        if not isinstance(table, dict):
            raise InputError(f"{dotted}: {key} is {dump_value(table)}, expected a table")
    table[last] = value


def with_key(data: Mapping[str, Any], dotted: str, value: Any) -> dict[str, Any]:
    """Copy of the data with a nested value set; values beside it are shared, not copied.

    Raises
    ------
    InputError
        If a part of the key names a value that is not a table.

    Examples
    --------
    >>> with_key({"run": {"steps": 10, "seed": 1}}, "run.steps", 20)
    {'run': {'steps': 20, 'seed': 1}}
    """
    made = table = dict(data)
    *path, _ = split_key(dotted)
    for key in path:
        if not isinstance(table.get(key), Mapping):
            break
        table[key] = dict(table[key])
        table = table[key]
    set_key(made, dotted, value)
    return made


def parse_value(text: str, where: str = "value") -> Any:
    """Value of a command-line argument: read as TOML if it is TOML, else the text itself.

    Raises
    ------
    InputError
        For a number that would be rounded to zero.

    Examples
    --------
    >>> parse_value("5_000"), parse_value("cosine:0.1,0.001")
    (5000, 'cosine:0.1,0.001')
    """
    try:
        table = tomllib.loads(f"value = {text}", parse_float=partial(to_float, where=where))
    except RecursionError:
        raise too_deep(where) from None
    except ValueError:
        return text
    return table["value"] if len(table) == 1 else text  # a line break could bring in further keys
