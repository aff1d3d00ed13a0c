"""The river valley in all its shapes: gradient, Hessian and population loss against the formula written by hand."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from random import Random
from typing import Any

import mpmath
import pytest
import sympy

from sgdsim.base.errors import InputError
from sgdsim.model.loss import Loss
from sgdsim.model.losses import CATALOGUE
from sgdsim.model.losses.river_valley import river_valley
from sgdsim.model.noise import Noise

CONSTANTS = {"a0": 1.25, "k": 0.5, "c2": 0.1, "sigma": 0.75}


@dataclass(frozen=True)
class Shape:
    """Arguments of `river_valley`, and what they mean in mpmath: each a_i(y), c(y)."""

    arguments: dict[str, Any]
    a: list[Callable[[Any], Any]]
    c: Callable[[Any], Any] = lambda y: mpmath.mpf("0.1") * y**2 / 2
    constants: dict[str, float] = field(default_factory=lambda: dict(CONSTANTS))
    river_noise: bool = False


a0, k = mpmath.mpf(1.25), mpmath.mpf(0.5)
SHAPES = {
    "constant": Shape({"a": "a0"}, [lambda y: a0]),
    "flat river": Shape({"a": "a0", "c": "0"}, [lambda y: a0], lambda y: 0 * y),
    "exponential": Shape({"a": "a0*exp(k*y)"}, [lambda y: a0 * mpmath.exp(k * y)]),
    "quadratic": Shape({}, [lambda y: a0 * (1 + k * y**2)]),
    "cubic": Shape({"a": "a0*y**3"}, [lambda y: a0 * y**3]),
    "power": Shape({"a": "a0*(y + 9)**k"}, [lambda y: a0 * mpmath.sqrt(y + 9)]),
    "inverse": Shape(
        {"a": "a0/(y + 9)**2", "c": "-c2*y"}, [lambda y: a0 / (y + 9) ** 2], lambda y: -y / mpmath.mpf(10)
    ),
    "double well": Shape(
        {"c": "c2*(y**2 - 1)**2", "a": "a0*(2 + tanh(y))"},
        [lambda y: a0 * (2 + mpmath.tanh(y))],
        lambda y: (y**2 - 1) ** 2 / mpmath.mpf(10),
    ),
    "one direction in a list": Shape({"a": ["a0*exp(k*y)"]}, [lambda y: a0 * mpmath.exp(k * y)]),
    "three directions": Shape(
        {"a": ["a0", "2*a0*exp(-k*y)", "a0*(1 + k*y**2)"]},
        [lambda y: a0, lambda y: 2 * a0 * mpmath.exp(-k * y), lambda y: a0 * (1 + k * y**2)],
    ),
    "river noise": Shape(
        {"river_noise": "laplace:0,0.5", "noise": "uniform:-1,2"},
        [lambda y: a0 * (1 + k * y**2)],
        constants={**CONSTANTS, "sigma_y": 0.25},
        river_noise=True,
    ),
    "two directions and river noise": Shape(
        {"a": ["a0", "a0*exp(k*y)"], "river_noise": "normal:1,2"},
        [lambda y: a0, lambda y: a0 * mpmath.exp(k * y)],
        constants={**CONSTANTS, "sigma_y": 0.25},
        river_noise=True,
    ),
}


@pytest.fixture(autouse=True)
def _precision() -> Iterator[None]:
    with mpmath.workdps(50):
        yield


def by_hand(shape: Shape, means: bool) -> Callable[..., Any]:
    """The loss of a sample, or of the mean noise, as a function of x_1 … x_n, y, xi_1 … xi_n, zeta."""
    loss = river_valley(**shape.arguments, constants=shape.constants)
    expected = [mpmath.mpf(repr(noise.moment(1))) for noise in loss.noise.values()]
    n = len(shape.a)

    def value(*arguments: Any) -> Any:
        x, y, noise = arguments[:n], arguments[n], expected if means else arguments[n + 1 :]
        total = shape.c(y) + sum(a(y) * xi**2 / 2 for a, xi in zip(shape.a, x, strict=True))
        total += mpmath.mpf(0.75) * sum(z * xi for z, xi in zip(noise, x, strict=False))
        return total + (mpmath.mpf(0.25) * noise[n] * y if shape.river_noise else 0)

    return value


def points(loss: Loss, count: int = 4) -> list[dict[str, sympy.Rational]]:
    random = Random(3)
    names = (*loss.parameters, *loss.noise)
    return [{name: sympy.Rational(random.randint(-2000, 2000), 1024) for name in names} for _ in range(count)]


def number(loss: Loss, expression: sympy.Expr, point: dict[str, sympy.Rational]) -> Any:
    values = {loss.symbols[name]: value for name, value in point.items()}
    values |= {loss.symbols[name]: sympy.Rational(value) for name, value in loss.constants.items() if name != "c2"}
    values |= {loss.symbols["c2"]: sympy.Rational(1, 10)}
    return mpmath.mpf(str(expression.subs(values).evalf(40)))


@pytest.mark.parametrize("name", list(SHAPES))
def test_derivatives_against_finite_differences(name):
    shape = SHAPES[name]
    loss = river_valley(**shape.arguments, constants=shape.constants)
    sample, mean = by_hand(shape, False), by_hand(shape, True)
    m = len(loss.parameters)
    for point in points(loss):
        at = [mpmath.mpf(value.p) / value.q for value in point.values()]
        assert abs(number(loss, loss.expression, point) - sample(*at)) < 1e-35
        assert abs(number(loss, loss.population, point) - mean(*at)) < 1e-35
        for i in range(m):
            order = [int(j == i) for j in range(len(at))]
            assert abs(number(loss, loss.gradient[i], point) - mpmath.diff(sample, tuple(at), tuple(order))) < 1e-20
            for j in range(m):
                second = [int(index == i) + int(index == j) for index in range(m)]
                exact = mpmath.diff(mean, tuple(at[:m]), tuple(second))
                assert abs(number(loss, loss.hessian[i, j], point) - exact) < 1e-15


def test_names():
    loss = river_valley(a=["a0", "2*a0"], river_noise="normal", constants=CONSTANTS)
    assert loss.parameters == ("x[0]", "x[1]", "y")
    assert list(loss.noise) == ["xi[0]", "xi[1]", "zeta"]
    assert loss.constants["sigma_y"] == 1.0
    assert river_valley(constants=CONSTANTS).parameters == ("x", "y")
    assert "sigma_y" not in river_valley(constants=CONSTANTS).constants
    assert river_valley(a="a0", c="0", constants={"a0": 1.0}).constants["sigma"] == 1.0
    assert CATALOGUE["river_valley"] is river_valley


def test_curvatures_are_definitions_for_observables():
    loss = river_valley(a=["a0", "2*a0"], constants=CONSTANTS)
    a, x = sympy.Symbol("a0", real=True), loss.theta
    assert loss.expand("sum(a*x**2/2)") == a * x[0] ** 2 / 2 + a * x[1] ** 2
    assert loss.expand("a[1] + c").subs(loss.symbols["y"], 0) == 2 * a


def test_sampled_noise_is_independent_in_each_direction():
    loss = river_valley(a=["a0", "2*a0"], river_noise="normal", constants=CONSTANTS)
    noise = [loss.symbols[name] for name in loss.noise]
    for i, entry in enumerate(loss.gradient):
        assert [z for z in noise if entry.has(z)] == [noise[i]]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"a": "a0*exp(q*y)"}, "loss definition 'a': unknown name 'q'"),
        ({"c": "cc2*y"}, "did you mean 'c2'?"),
        ({"noise": "gauss"}, "loss.noise: unknown distribution 'gauss'"),
        ({"river_noise": "lapalce"}, "loss.river_noise: unknown distribution 'lapalce': did you mean 'laplace'?"),
        ({"constants": {**CONSTANTS, "k": float("nan")}}, "loss.constants.k: nan, expected a finite number"),
        ({"constants": {**CONSTANTS, "x": 1.0}}, "'x' is both a parameter and a constant"),
        ({"constants": {**CONSTANTS, "xi": 1.0}}, "'xi' is both a constant and a noise variable"),
        ({"constants": {**CONSTANTS, "a": 1.0}}, "'a' is both a constant and a definition"),
    ],
)
def test_what_is_no_valley_is_refused(arguments, message):
    with pytest.raises(InputError) as error:
        river_valley(**{"constants": CONSTANTS, **arguments})
    assert message in str(error.value)


def test_noise_may_be_any_family():
    loss = river_valley(noise="rademacher", constants=CONSTANTS)
    assert loss.noise == {"xi": Noise("rademacher")}
    assert loss.expectation(loss.gradient[0] ** 2 - loss.expand("a**2*x**2")) == loss.symbols["sigma"] ** 2
