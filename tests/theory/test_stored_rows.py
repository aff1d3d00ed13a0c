"""Rows of theory are plain data and come back to the last bit; what holds a function is refused."""

from __future__ import annotations

import json
from dataclasses import replace
from math import inf

import pytest

from sgdsim.prediction import (
    Condition,
    Correlation,
    Curve,
    Distance,
    DriftCurve,
    Function,
    Moment,
    Prediction,
    Quantile,
    Rival,
    Tail,
)
from sgdsim.theory.stored_rows import NotPlain, plain_row, row_of

MOMENT = Moment("mean", "x", 9, 2)
ROW = Prediction(
    "valley", "mean(x)", MOMENT, 0.1 + 0.2, 1, 0.05, 2, rival=Rival("leading order", 1 / 3), small=0.1, series="a text"
)


@pytest.mark.parametrize(
    "measure",
    [
        MOMENT,
        Quantile("x", 9, 0.5),
        Correlation("x", (3, 9)),
        Curve((MOMENT, MOMENT), (0.1, 1e-300)),
        DriftCurve("x", (1.0, inf)),
        Tail("x", 9),
    ],
)
def test_a_row_comes_back_to_the_last_bit(measure):
    row = replace(ROW, measure=measure, assumes=(Condition("it rests", MOMENT, high=0.3),), allowed=(inf, 0.0))
    again = row_of(json.loads(json.dumps(plain_row(row))))
    assert replace(again, series=row.series) == row
    assert again.series == plain_row(replace(row, point=3))["series"] != plain_row(replace(row, series="b"))["series"]


@pytest.mark.parametrize("measure", [Distance("x", 9, lambda x: x), Function("ratio", max, (MOMENT,))])
def test_what_holds_a_function_is_refused(measure):
    with pytest.raises(NotPlain):
        plain_row(replace(ROW, measure=measure))
    with pytest.raises(NotPlain):
        plain_row(replace(ROW, assumes=(Condition("it rests", Function("ratio", max, (MOMENT,))),)))


@pytest.mark.parametrize("measure", [{"is": "Function"}, {"is": "os.system"}, {}])
def test_nothing_else_is_made_of_data(measure):
    with pytest.raises(KeyError):
        row_of({**plain_row(ROW), "measure": measure})
