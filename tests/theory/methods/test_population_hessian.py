"""The population Hessian in numbers, against the one in symbols; what cannot be had, and how long it takes."""

from __future__ import annotations

import time

import numpy as np
import pytest

from sgdsim.base.errors import InputError
from sgdsim.formulas.symbolic import SYMBOLIC
from sgdsim.formulas.vectors import coordinates
from sgdsim.model.data import Data
from sgdsim.model.loss import Loss
from sgdsim.model.losses import CATALOGUE
from sgdsim.model.noise import Noise
from sgdsim.theory.methods.population_hessian import _SLOPES, population_hessian

NORMAL = Noise.parse("normal")
ROWS = Data({"a": (1.0, -0.5, 2.0), "b": (0.0, 1.5, 1.0)})


def in_symbols(loss: Loss, point: dict[str, float]) -> np.ndarray | None:
    values = {loss.symbols[name]: value for name, value in {**loss.constants, **point}.items()}
    try:
        return np.array(loss.hessian.subs(values).evalf(), dtype=np.float64)
    except InputError:
        return None


def check(loss: Loss, point: dict[str, float]) -> None:
    expected, found = in_symbols(loss, point), population_hessian(loss, point)
    if expected is None:
        assert found is None
    else:
        np.testing.assert_allclose(found, expected, rtol=1e-12, atol=1e-13)


@pytest.mark.parametrize("name", CATALOGUE)
def test_every_loss_of_the_catalogue(name):
    loss = CATALOGUE[name]()
    check(loss, {key: 0.3 + 0.17 * i for i, key in enumerate(loss.parameters)})


FORMULAS = {
    **{name: f"{name}(x*y - 0.3)*x" for name in _SLOPES},
    "divided": "x/(2 + y**2)",
    "a root of a product": "(1 + x**2)**(1/3)*y**2",
    "a power that is a parameter": "(1 + x**2)**y",
    "the smaller": "min(x**2, 2*y, x*y)",
    "the larger": "max(x**2, 2*y, x*y)",
    "a choice": "where(x < y, x**2*y, y**3)",
    "powers of noise": "(x*z + y*e)**4/(1 + x**2) + (z*x)**0",
    "a whole power": "x**p*y**-2",
    "noise in a function": "cosh(x*s*y)*z**2",
    "noise in a divisor": "x**2/(2 + y*s)",
    "data": "(a*x + b*y - a*z)**2/2",
    "data in a function": "softplus(a*x*y) + softplus(b*x*s)",
}


@pytest.mark.parametrize("formula", FORMULAS.values(), ids=FORMULAS)
def test_all_that_a_formula_says(formula):
    noise = {"z": Noise.parse("normal:0.5,2"), "e": Noise.parse("uniform:-1,2"), "s": Noise.parse("table:-1@0.3,2@0.7")}
    loss = Loss(formula, ("x", "y"), {"p": 3.0}, noise, data=ROWS)
    for x, y in ((1.2, 0.7), (0.6, 1.3)):
        check(loss, {"x": x, "y": y})


def test_definitions_and_vectors():
    x, w = coordinates("x", 3), coordinates("w", 3)
    loss = Loss(
        "(dot(h, h) - y)**2 + norm2(w)/2",
        w,
        {"c": 0.5},
        dict.fromkeys(x, NORMAL),
        {"h": ("w[0]*x[1]", "c*w[1]*w[2]", "sin(w[2])"), "y": "sum(x) + c"},
    )
    check(loss, dict(zip(w, (0.3, -1.2, 2.0), strict=True)))


@pytest.mark.parametrize(
    ("formula", "noise"),
    [
        ("exp(z*x)", "normal"),
        ("abs(z - x)", "normal"),
        ("x**2/(1 + z**2)", "normal"),
        ("(z*x)**3", "student_t:3"),
        ("(1 + z)**x", "uniform:0,1"),
    ],
)
def test_none_where_there_is_no_closed_form(formula, noise):
    loss = Loss(formula, ("x",), {}, {"z": Noise.parse(noise)})
    assert in_symbols(loss, {"x": 0.5}) is None
    assert population_hessian(loss, {"x": 0.5}) is None


def test_none_where_there_are_too_many_cases():
    three = Noise.parse("table:-1@0.3,0@0.3,1@0.4")
    noise = dict.fromkeys(coordinates("z", 4), three)
    for names, known in ((coordinates("z", 3), True), (coordinates("z", 4), False)):
        loss = Loss("exp(x*sum(z))", ("x",), {}, {name: noise[name] for name in names})
        check(loss, {"x": 0.5})
        assert (population_hessian(loss, {"x": 0.5}) is not None) == known


def test_all_functions_are_known():
    binary = {"+", "-", "*", "/", "**", "negative", "sum", "min", "max", "where", "step"}
    assert set(SYMBOLIC) <= set(_SLOPES) | binary


@pytest.mark.parametrize("pairs", [20, 50])
def test_a_network_of_many_parameters_takes_no_time(pairs):
    """In symbols, 40 parameters took 20 s."""
    x, u, w = (coordinates(name, pairs) for name in "xuw")
    loss = Loss("(dot(u*w, x) - sum(x) - e)**2/2", (*u, *w), {}, dict.fromkeys((*x, "e"), NORMAL))
    began = time.process_time()
    hessian = population_hessian(loss, dict.fromkeys(loss.parameters, 0.5))
    assert time.process_time() - began < 5.0  # 0.02 and 0.1 s on an idle machine
    pair = np.array([[0.25, 0.25 - 0.75], [0.25 - 0.75, 0.25]])
    np.testing.assert_allclose(hessian, np.kron(pair, np.eye(pairs)), atol=1e-14)


def test_what_would_take_long_is_not_begun():
    loss = Loss("(sum(z)*x)**6", ("x",), {}, dict.fromkeys(coordinates("z", 60), NORMAL))
    began = time.process_time()
    assert population_hessian(loss, {"x": 0.5}) is None
    assert time.process_time() - began < 1.0
