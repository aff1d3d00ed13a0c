"""Calls within formulas: they become names of their length, and messages show what was written."""

from __future__ import annotations

import re

import numpy as np
import pytest

from sgdsim.formulas.calls import WithCalls
from sgdsim.formulas.names import FormulaError

FUNCTIONS = ("mean", "quantile", "slope")


def test_calls_become_names_of_their_length() -> None:
    found = WithCalls.parse("2*mean( w[0] ) + slope(mean(x)**2, log(a*(1 + b))) - b", FUNCTIONS)
    assert len(found.formula.text) == len(found.text)
    assert [(call.function, call.arguments, call.column) for call in found.calls.values()] == [
        ("mean", ("w[0]",), 2),
        ("slope", ("mean(x)**2", "log(a*(1 + b))"), 17),
    ]
    assert found.names == {"b"}
    first, second = found.calls
    assert found.evaluate({first: 3.0, second: 0.5, "b": 1.0}) == 5.5
    assert found.of_arrays({first: np.array([0.0, 1.0]), second: 0.0, "b": 0.0}).tolist() == [0.0, 2.0]


def test_there_may_be_many_calls_and_names_like_theirs() -> None:
    text = " + ".join(["mean(x)"] * 12) + " + _mean0_"
    found = WithCalls.parse(text, FUNCTIONS)
    assert found.evaluate({**dict.fromkeys(found.calls, 1.0), "_mean0_": 100.0}) == 112.0


def test_an_array_has_no_value_where_there_is_none() -> None:
    found = WithCalls.parse("log(mean(x))/mean(x)", FUNCTIONS)
    with np.errstate(all="ignore"):
        values = found.of_arrays(dict.fromkeys(found.calls, np.array([1.0, -1.0, 0.0])))
    assert values[0] == 0.0
    assert not np.isfinite(values[1:]).any()


@pytest.mark.parametrize(
    ("text", "message", "column"),
    [
        ("1 + maen(x)", "unknown function 'maen': did you mean 'mean'?", 4),
        ("1 + mean(x", "'(' was never closed", 8),
        ("mean(x) + sin(y, z)", "sin with 2 arguments", 10),
        ("mean(x) mean(y)", "invalid syntax", 8),
        ("mean(x)[0] + sum(3)", "not a vector", 17),
        ("(mean(x) + a)/quantile(y, 0.5) + 2**1e9", "an exponent beyond", 36),
    ],
)
def test_what_cannot_be_read_points_at_what_was_written(text: str, message: str, column: int) -> None:
    with pytest.raises(FormulaError, match=re.escape(message)) as caught:
        WithCalls.parse(text, FUNCTIONS)
    assert caught.value.column == column
    assert str(caught.value).splitlines()[1].strip() == text


def test_an_unknown_name_points_at_what_was_written() -> None:
    found = WithCalls.parse("mean(x)*rat", FUNCTIONS)
    with pytest.raises(
        FormulaError, match=r"unknown name 'rat': did you mean 'rate'\?\n  mean\(x\)\*rat\n          \^"
    ):
        found.require({"rate"})
