"""Gradients of many parameters by one sweep back: against derivatives one by one, differences, and an oracle."""

from __future__ import annotations

import math

import numpy as np
import pytest
import sympy

from sgdsim.app.simulate import simulate
from sgdsim.formulas.evaluation import evaluate
from sgdsim.formulas.symbolic import SYMBOLIC
from sgdsim.formulas.vectors import coordinates
from sgdsim.kernels import source
from sgdsim.kernels.formula_functions import MANY
from sgdsim.kernels.program import Program
from sgdsim.kernels.reverse import gradient
from sgdsim.model.data import Data
from sgdsim.model.loss import Loss
from sgdsim.model.losses.diagonal_network import diagonal_network
from sgdsim.model.noise import Noise
from sgdsim.model.optimizers import Optimizer
from tests import naive
from tests.kernels.test_catalogue_kernels import OTHERS, check_step, optimizer
from tests.samples import daily

INPUTS, HIDDEN, ROWS = 3, 4, 5
NORMAL = Noise.parse("normal")


def network(inputs: int, hidden: int, **options: object) -> Loss:
    """Two layers of tanh, biases left out."""
    first = [f"a{i}" for i in range(hidden)]
    neurons = tuple(f"tanh(dot({name}, x))" for name in first)
    definitions = {"x": tuple(f"z{i}" for i in range(inputs)), "h": neurons}
    parameters = [key for name in first for key in coordinates(name, inputs)]
    return Loss("(dot(b, h) - y)**2/2", (*parameters, *coordinates("b", hidden)), definitions=definitions, **options)


def values_of(expressions: list[sympy.Expr], assignments: list, point: dict[str, float]) -> list[float]:
    known = dict(point)
    for symbol, value in assignments:
        (known[symbol.name],) = evaluate([value], known)
    return evaluate(expressions, known)


FORMULAS = {
    **{
        name: f"{name}(0.3*x*y + 0.4)*x**2"
        for name in SYMBOLIC
        if name.isalpha() and name not in ("negative", "sum", "min", "max", "where")
    },
    "division": "x/(y**2 + x*y) - 3/x**3",
    "powers": "x**2.5*y**k + (x*y)**y + 2**x",
    "the smaller": "min(x**2, y, x*y)*y",
    "the larger": "exp(max(x**2, y, x*y))",
    "a branch that has no value": "where(x < y, x**2*y, sqrt(y - x))*x",
    "used twice": "(x*y + 1)**2*exp(x*y)/(x*y + 1) + x*y",
    "a number": "k**2",
    "one of two": "log(k + y)",
}


@pytest.mark.parametrize("formula", FORMULAS.values(), ids=FORMULAS)
def test_what_a_formula_says(formula):
    """Against the derivatives by SymPy, and against differences of the formula itself."""
    loss = Loss(formula, ("x", "y"), {"k": 1.7})
    assignments, slopes = gradient(loss.expression, loss.theta, sympy.numbered_symbols("sweep."))
    for x, y in ((0.7, 1.1), (0.31, 0.83)):
        point = {"x": x, "y": y, "k": 1.7}
        found = values_of(slopes, assignments, point)
        np.testing.assert_allclose(found, evaluate(loss.gradient, point), rtol=1e-13, atol=1e-14)
        for name, slope in zip("xy", found, strict=True):
            beside = [evaluate([loss.expression], {**point, name: point[name] + h})[0] for h in (1e-6, -1e-6)]
            assert slope == pytest.approx((beside[0] - beside[1]) / 2e-6, rel=1e-7, abs=1e-8)


def test_what_is_shared_is_assigned_once():
    """The residual of a diagonal network, which each of its derivatives has as a factor."""
    loss = diagonal_network([1.0] * 20)
    assignments, slopes = gradient(loss.expression, loss.theta, sympy.numbered_symbols("sweep."))
    sums = [value for _, value in assignments if value.is_Add]
    assert len(sums) == 1
    assert len(assignments) == 1 + len(slopes) == 41


def test_few_parameters_have_their_derivatives_one_by_one():
    for pairs, swept in ((MANY // 2 - 1, False), (MANY // 2, True)):
        loss = diagonal_network([1.0] * pairs)
        text = source.generate(Program(loss, Optimizer(), dict.fromkeys(loss.parameters, 0.5)), "cpu")
        assert ("r_0 = " in text) == swept


@pytest.mark.parametrize("rule", daily(["sgd", "momentum", "adam"], "sgd"))
def test_a_step_of_a_network_is_what_the_formula_says(rule):
    noise = dict.fromkeys((*(f"z{i}" for i in range(INPUTS)), "y"), NORMAL)
    check_step(network(INPUTS, HIDDEN, noise=noise), optimizer(rule))


@pytest.mark.validate
@pytest.mark.parametrize("rule", OTHERS)
def test_a_step_of_a_network_by_every_optimizer(rule):
    noise = dict.fromkeys((*(f"z{i}" for i in range(INPUTS)), "y"), NORMAL)
    check_step(network(INPUTS, HIDDEN, noise=noise), optimizer(rule))


@pytest.mark.parametrize("options", [{"batch_size": ROWS, "sampling": "batch"}, {"name": "gradient_descent"}])
@pytest.mark.parametrize("hidden", [3, HIDDEN])
def test_a_batch_of_all_rows_is_that_of_the_oracle(hidden, options):
    """Three hidden neurons have 12 parameters, whose derivatives are made one by one, four have 16."""
    rng = np.random.default_rng(3)
    columns = rng.normal(size=(INPUTS + 1, ROWS))
    data = Data({name: tuple(column) for name, column in zip(("z0", "z1", "z2", "y"), columns, strict=True)})
    loss = network(INPUTS, hidden, data=data)
    start = rng.normal(size=len(loss.parameters))
    ensemble = simulate(
        loss,
        Optimizer(**options),
        learning_rate=0.1,
        initial=dict(zip(loss.parameters, start, strict=True)),
        trajectories=1,
        steps=3,
        snapshots=[3],
        device="python",
    )
    first, second = start[: hidden * INPUTS].reshape(hidden, INPUTS), start[hidden * INPUTS :]
    for _ in range(3):
        slopes = naive.two_layer_gradient(first, second, columns[:-1].T, columns[-1])
        first, second = first - 0.1 * slopes[0], second - 0.1 * slopes[1]
    found = ensemble["theta"][0, 0]
    np.testing.assert_allclose(found, [*first.ravel(), *second], rtol=1e-12)
    assert not math.isclose(found[0], start[0], rel_tol=1e-3)


def test_names_that_the_text_uses_are_free():
    names = (*(f"r_{i}" for i in range(8)), *(f"t_{i}" for i in range(8)))
    noise = dict.fromkeys((*(f"z{i}" for i in range(8)), "e"), NORMAL)
    terms = "+".join(f"r_{i}*t_{i}*z{i}" for i in range(8))
    check_step(Loss(f"({terms} - e)**2/2", names, noise=noise), Optimizer())


def test_other_names_make_the_same_text():
    """Names that sort in another order: SymPy sums and multiplies in the order of names, and the last bits with it."""
    texts = []
    for names in (list("abcdefghijklmnop"), list("zyxwvutsrqponmlk")):
        first, second = names[:8], names[8:]
        terms = "+".join(
            f"tanh({one}*{other} + Z{i}*{one})*{other}"
            for i, (one, other) in enumerate(zip(first, second, strict=True))
        )
        loss = Loss(
            f"({terms} - E)**2/2", tuple(names), noise=dict.fromkeys((*(f"Z{i}" for i in range(8)), "E"), NORMAL)
        )
        texts.append(source.generate(Program(loss, Optimizer("adam"), dict.fromkeys(names, 0.5)), "cpu"))
    assert "r_1 = " in texts[0]
    assert texts[0] == texts[1]
