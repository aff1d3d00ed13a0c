"""TOML in and out: dotted keys into nested tables, and a writer for plain data (the standard library only reads)."""

from __future__ import annotations

import json
import re
import tomllib
from collections.abc import Mapping
from typing import Any

from sgdsim.errors import InputError

_BARE = re.compile(r"[A-Za-z0-9_-]+")


def loads(text: str, where: str) -> dict[str, Any]:
    """Read TOML.

    Raises
    ------
    InputError
        With the line and column of a syntax error.
    """
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise InputError(f"{where}: not valid TOML: {error}") from None


def dumps(data: Mapping[str, Any]) -> str:
    """Write plain data: tables, arrays of tables, strings, numbers, booleans, lists.

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


def _table(data: Mapping[str, Any], path: tuple[str, ...]) -> list[str]:
    plain = {key: value for key, value in data.items() if not _is_table(value) and not _is_tables(value)}
    lines = [f"{_key(key)} = {_value(value)}" for key, value in plain.items() if value is not None]
    for key, value in data.items():
        name = ".".join(_key(part) for part in (*path, key))
        if _is_table(value):
            lines += ["", f"[{name}]", *_table(value, (*path, key))]
        elif _is_tables(value):
            for entry in value:
                lines += ["", f"[[{name}]]", *_table(entry, (*path, key))]
    return lines


def _is_table(value: Any) -> bool:
    return isinstance(value, Mapping)


def _is_tables(value: Any) -> bool:
    return isinstance(value, list | tuple) and bool(value) and all(_is_table(entry) for entry in value)


def _key(key: str) -> str:
    return key if _BARE.fullmatch(key) else json.dumps(key)


def _value(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        # JSON's escapes are TOML's, but for the slash and DEL.
        return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
    if isinstance(value, list | tuple):
        return "[" + ", ".join(_value(entry) for entry in value) + "]"
    return repr(value)


def split_key(dotted: str) -> list[str]:
    """The parts of a dotted key; quotes protect dots.

    Examples
    --------
    >>> split_key('record.histograms."x[0]"')
    ['record', 'histograms', 'x[0]']
    """
    parts = re.findall(r'"([^"]*)"|([^."]+)', dotted)
    return [quoted or bare for quoted, bare in parts]


def set_key(data: dict[str, Any], dotted: str, value: Any) -> None:
    """Set a nested value in place, making the tables on the way.

    Raises
    ------
    InputError
        Where the way leads through something that is not a table.
    """
    *path, last = split_key(dotted) or [""]
    table = data
    for key in path:
        table = table.setdefault(key, {})
        if not isinstance(table, dict):
            raise InputError(f"{dotted}: {key!r} is not a table")
    table[last] = value


def parse_value(text: str) -> Any:
    """A value as written on the command line: TOML if it is TOML, else the text itself.

    Examples
    --------
    >>> parse_value("5_000"), parse_value("cosine:0.1,0.001")
    (5000, 'cosine:0.1,0.001')
    """
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        return text
