"""Rows of theory are plain data and come back to the last bit; functions by their names, if they have one."""

from __future__ import annotations

import json
from dataclasses import replace
from functools import partial
from math import inf

import numpy as np
import pytest

from sgdsim.prediction import (
    Condition,
    Correlation,
    Curve,
    Distance,
    DriftCurve,
    Function,
    Moment,
    PathMean,
    Prediction,
    Quantile,
    Rival,
    Tail,
    over,
)
from sgdsim.theory.chain.evolution import _interpolated
from sgdsim.theory.chain.mesh import Axis, Map, Mesh
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


def _again(measure):
    return row_of(json.loads(json.dumps(plain_row(replace(ROW, measure=measure))))).measure


@pytest.mark.parametrize("function", [np.divide, over, partial(over, 0.3), partial(over, np.float64(0.3))])
def test_a_function_comes_back_by_its_name(function):
    here = np.array([0.1, 0.7]), np.array([0.2, 1.1])
    measure = Function("ratio", function, (MOMENT, MOMENT))
    assert np.array_equal(_again(measure).function(*here), function(*here))
    assert _again(PathMean("x", (1, 2), function)).function(*here).tolist() == function(*here).tolist()


def test_a_distribution_on_a_mesh_comes_back_to_the_last_bit():
    mesh = Mesh((Axis(np.array([-1.0, 0.1, 2.0]), 3),), Map(np.array([1 / 3]), np.array([[0.7]])))
    cdf = partial(_interpolated, mesh, np.linspace(0.0, 1.0, mesh.size))
    points = np.linspace(-1.0, 2.0, 7)
    assert np.array_equal(_again(Distance("x", 9, cdf)).cdf(points), cdf(points))


@pytest.mark.parametrize("function", [lambda x: x, max, MOMENT.__init__, partial(json.dumps), json.dumps, int])
def test_what_has_no_name_in_theory_is_refused(function):
    with pytest.raises(NotPlain):
        plain_row(replace(ROW, measure=Distance("x", 9, function)))
    with pytest.raises(NotPlain):
        plain_row(replace(ROW, assumes=(Condition("it rests", Function("ratio", function, (MOMENT,))),)))


@pytest.mark.parametrize(
    "measure",
    [
        {"is": "os.system"},
        {"is": "os:system"},
        {"is": "function", "name": "os:system"},
        {"is": "function", "name": "sgdsim.theory.law:inspect"},
        {"is": "function", "name": "sgdsim.theory.law:replace"},
        {"is": "function", "name": "numpy:load"},
        {"is": "function", "name": "sgdsim.theory.methods.entropic_loss:_quadratic"},  # its texts would be evaluated
        {
            "is": "partial",
            "of": {"is": "function", "name": "sgdsim.prediction:over"},
            "arguments": ["x"],
            "keywords": {},
        },
        {
            "is": "partial",
            "of": {"is": "function", "name": "sgdsim.prediction:over"},
            "arguments": [],
            "keywords": {"unit": ["x"]},
        },
        {
            "is": "partial",
            "of": {"is": "function", "name": "sgdsim.prediction:over"},
            "arguments": [{"is": "array", "values": ["x"]}],
            "keywords": {},
        },
        {"is": "sgdsim.prediction:over"},
        {"is": "sgdsim.theory.nowhere:over"},
        {},
    ],
)
def test_nothing_else_is_made_of_data(measure):
    with pytest.raises(KeyError):
        row_of({**plain_row(ROW), "measure": measure})
