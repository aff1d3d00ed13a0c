"""The parts of a scenario: several losses, optimizers or settings that one phenomenon needs, in one file.

Every ``[[part]]`` is a scenario of its own, whose results are a group of the output file. Its tables replace those that
stand above, which all parts share; of ``run`` and ``record`` only the keys that it has are replaced. Its key ``set``
changes single values of any table by their dotted keys.
"""

from __future__ import annotations

import copy
import re
from collections.abc import Iterator, Mapping
from typing import Any

from sgdsim.base import toml
from sgdsim.base.errors import InputError
from sgdsim.ensemble import WHOLE
from sgdsim.formulas.names import normal
from sgdsim.input.wording import shown

_MERGED = ("run", "record")
_COMMON = ("title", "alpha", "references")
_NAME = re.compile(r"[A-Za-z]\w*")


def parts_of(data: Mapping[str, Any]) -> list[tuple[str, dict[str, Any]]]:
    """Name and data of each part; data without parts are a single part with the name `WHOLE`.

    Parameters
    ----------
    data
        Data of a scenario file.

    Raises
    ------
    InputError
        For parts that are not tables or have no name, two parts of the same name, and keys that a part cannot set.

    Examples
    --------
    >>> parts = [{"name": "cold", "optimizer": {"learning_rate": 0.1}}, {"name": "long", "run": {"steps": 99}}]
    >>> data = {"optimizer": {"learning_rate": 0.5}, "run": {"steps": 9, "seed": 1}, "part": parts}
    >>> for name, own in parts_of(data):
    ...     print(name, own)
    cold {'optimizer': {'learning_rate': 0.1}, 'run': {'steps': 9, 'seed': 1}, 'title': 'cold'}
    long {'optimizer': {'learning_rate': 0.5}, 'run': {'steps': 99, 'seed': 1}, 'title': 'long'}
    >>> data["part"] = [{"name": "hot", "set": {"optimizer.learning_rate": 0.9}}]
    >>> parts_of(data)[0][1]["optimizer"]
    {'learning_rate': 0.9}
    """
    if "part" not in data:
        return [(WHOLE, dict(data))]
    common = {key: value for key, value in data.items() if key != "part"}
    tables = data["part"]
    if not isinstance(tables, list) or not tables or not all(isinstance(one, Mapping) for one in tables):
        raise InputError(f"part: {shown(tables)}, expected tables, [[part]]")
    found = [(name, _merged(common, table, name)) for name, table in _named(tables)]
    if len(dict(found)) < len(found):
        names = [name for name, _ in found]
        raise InputError(f"part: two are called {next(name for name in names if names.count(name) > 1)}")
    return found


def _named(tables: list[Mapping[str, Any]]) -> Iterator[tuple[str, Mapping[str, Any]]]:
    for index, table in enumerate(tables):
        name = table.get("name")
        if not isinstance(name, str) or not _NAME.fullmatch(name):
            given = shown(name) if "name" in table else "is missing"
            raise InputError(f"part[{index}].name: {given}, expected letters, digits and _, a letter first")
        for key in _COMMON:
            if key in table:
                raise InputError(f"part {name}: {key} is that of the whole file, expected above all parts")
        yield name, table


def _merged(common: Mapping[str, Any], table: Mapping[str, Any], name: str) -> dict[str, Any]:
    own = {key: value for key, value in table.items() if key not in ("name", "set")}
    for key in _MERGED:
        if isinstance(common.get(key), Mapping) and isinstance(own.get(key), Mapping):
            own[key] = {**common[key], **own[key]}
    title = common.get("title", "")
    merged = copy.deepcopy({**common, **own, "title": f"{title}: {name}" if title else name})
    settings = table.get("set", {})
    if not isinstance(settings, Mapping):
        raise InputError(f"part {name}: set: {shown(settings)}, expected values by dotted key, such as run.steps")
    for key, value in settings.items():
        _set(merged, normal(key), copy.deepcopy(value), name)
    return merged


def _set(data: dict[str, Any], key: str, value: Any, name: str) -> None:
    """Change a value of a part; refuse to change its name, or keys that belong to the whole file."""
    if isinstance(value, Mapping):
        raise InputError(f"part {name}: set.{key}: {shown(value)}, expected a value; quotes make one key of {key}.…")
    if key in _COMMON:
        raise InputError(f"part {name}: set: {key} is that of the whole file, expected above all parts")
    try:
        toml.set_key(data, key, value)
    except InputError as error:
        raise InputError(f"part {name}: set: {error}") from None
