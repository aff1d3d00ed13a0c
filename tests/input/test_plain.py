"""Data of a scenario are plain, whichever way they came."""

from __future__ import annotations

import datetime
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sgdsim.base import toml
from sgdsim.base.errors import InputError
from sgdsim.input.loading import scenario_from
from sgdsim.input.plain import plain
from sgdsim.input.scenario import Scenario

DATA: dict[str, Any] = {
    "loss": {"formula": "(x - z)**2/2", "parameters": {"x": 1.0}, "noise": {"z": "normal"}},
    "optimizer": {"learning_rate": 0.1},
    "run": {"trajectories": 10, "steps": 5},
}


def test_what_python_has_beside_toml_becomes_what_toml_has():
    given = {
        "a": (1, 2.5),
        "b": None,
        "c": np.float64(0.5),
        "d": np.arange(3),
        "e": np.int64(3),
        "\u00b5": np.bool_(True),
    }
    made = plain({"t": given})
    assert made == {"t": {"a": [1, 2.5], "c": 0.5, "d": [0, 1, 2], "e": 3, "\u03bc": True}}
    assert [type(made["t"][key]) for key in ("c", "e", "\u03bc")] == [float, int, bool]
    assert toml.loads(toml.dumps(made), "here") == made


def test_what_is_plain_stays_as_it_is_in_tables_of_its_own():
    data = {"a": [1, "text", True, math.inf, datetime.date(2025, 1, 1)], "b": {"c": [{"d": 0}]}}
    made = plain(data)
    assert made == data
    made["b"]["c"][0]["d"] = 1
    assert data["b"]["c"][0]["d"] == 0


@pytest.mark.parametrize(
    ("value", "problem"),
    [
        ({"run": {"steps": 1j}}, "run.steps: 1j, expected a number, text, list or table"),
        ({"run": [object]}, "run: <class 'object'>, expected a number, text, list or table"),
        ({"run": {1: 2}}, "run: the key 1, expected text"),
        ({"title": "\udcff"}, "title: '\\udcff' is no text in UTF-8"),
        ({"loss": {"\udcff": 1}}, "loss: '\\udcff' is no text in UTF-8"),
        ({"list": [None]}, "list: None, expected a number, text, list or table"),
    ],
)
def test_what_is_not_plain(value, problem):
    with pytest.raises(InputError) as refused:
        plain(value)
    assert problem in str(refused.value)


def nested(depth: int) -> list[Any]:
    value: list[Any] = []
    for _ in range(depth - 1):
        value = [value]
    return value


def test_a_nest_too_deep_for_python_is_refused_in_one_sentence(tmp_path):
    """400 lists, 3,000 tables: of a file, of a call, of an override."""
    plain({"a": nested(toml.DEEPEST - 1)})
    deep: dict[str, Any] = {}
    for _ in range(3000):
        deep = {"a": deep}
    for data in ({**DATA, "title": nested(400)}, {**DATA, "loss": deep}):
        with pytest.raises(InputError, match=r"^here:\n  \S+: nested too deeply, expected at most 32 levels$"):
            scenario_from(data, "name", "here")
    with pytest.raises(InputError, match="nested too deeply"):
        Scenario.load("river_valley", {"title": nested(400)})
    for name, text in (("lists", "a = " + "[" * 400 + "]" * 400), ("dots", ".".join(["a"] * 3000) + " = 1")):
        Path(tmp_path, f"{name}.toml").write_text(text)
        with pytest.raises(InputError, match="nested too deeply"):
            Scenario.load(tmp_path / f"{name}.toml")


def test_a_call_means_what_a_file_means():
    call = {**DATA, "run": {"trajectories": np.int64(10), "steps": 5.0, "seed": None}, "references": ("one", "two")}
    file = {**DATA, "references": ["one", "two"]}
    made = scenario_from(call, "name", "here")
    assert made.toml == scenario_from(file, "name", "here").toml
    assert made.runs == Scenario.parse(toml.dumps(file)).runs
