"""Expectations over noise and data: rules against exact moments and closed forms, and what is refused."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest

from sgdsim.base.errors import InputError
from sgdsim.model.data import Data
from sgdsim.model.loss import Loss
from sgdsim.model.noise import Noise
from sgdsim.model.optimizers import Optimizer
from sgdsim.model.run import Run
from sgdsim.model.schedules import Schedule
from sgdsim.prediction import NotApplicable
from sgdsim.theory.methods.batch_gradient import batch_rule
from sgdsim.theory.quadrature.nested import expectation, nodes
from sgdsim.theory.quadrature.rules import Level, density, is_discrete, mean_rule, rule

FAMILIES = (
    "normal:0.3,2",
    "uniform:-1,3",
    "laplace:0.5,2",
    "exponential:1.5",
    "lognormal:0.1,0.8",
    "student_t:5.5",
    "rademacher",
    "bernoulli:0.3",
    "table:-1@0.25,0@0.5,3@0.25",
    "normal:1,0",
)


def mean(formula: str, noise: dict[str, str], x: Any = 0.0, tolerance: float = 1e-10, data: Data | None = None) -> Any:
    loss = Loss(formula, ("x",), noise={name: Noise.parse(text) for name, text in noise.items()}, data=data)
    return expectation(loss, [loss.expression], {"x": x}, tolerance)[0]


def make_run(formula: str, noise: dict[str, str], data: Data | None = None, **optimizer: Any) -> Run:
    loss = Loss(formula, ("x",), noise={name: Noise.parse(text) for name, text in noise.items()}, data=data)
    return Run(loss, Optimizer(**optimizer), Schedule("0.1"), {"x": 0.0}, 10, 10)


def _erf(x: float) -> float:
    from math import erf

    return erf(x)


def _phi(x: Any) -> Any:
    return np.exp(-(x**2) / 2) / np.sqrt(2 * np.pi)


def _cdf(x: Any) -> Any:
    return (1 + np.vectorize(_erf)(x / np.sqrt(2))) / 2


def _square(x: Any) -> Any:
    return 4 / 3 * np.abs(x) ** 1.5 - x + 1 / 3


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("arguments", [(40,), (12, [0.2]), (12, [np.nan], 2)])
def test_a_rule_has_the_moments_of_its_noise(family: str, arguments: Any) -> None:
    noise = Noise.parse(family)
    values, weights = rule(noise, *arguments)
    for order in range(5):
        scale = np.abs(values) ** order @ weights
        assert values**order @ weights == pytest.approx(noise.moment(order), abs=1e-13 * scale)


@pytest.mark.parametrize("family", [family for family in FAMILIES if not is_discrete(Noise.parse(family))])
def test_the_density_is_that_of_the_rule(family: str) -> None:
    noise = Noise.parse(family)
    values, weights = np.polynomial.legendre.leggauss(60)
    low, high = 0.6, 0.9
    points = low + (high - low) * (values + 1) / 2
    found = density(noise, points) @ weights * (high - low) / 2
    nodes_, shares = rule(noise, 24, [low, high], 2)
    assert found == pytest.approx(shares[(nodes_ > low) & (nodes_ < high)].sum(), abs=1e-12)
    with pytest.raises(InputError, match="discrete"):
        density(Noise.parse("rademacher"), 0.0)


@pytest.mark.parametrize(
    ("formula", "noise", "exact"),
    [
        ("abs(x - z)", {"z": "normal"}, lambda x: x * np.vectorize(_erf)(x / np.sqrt(2)) + 2 * _phi(x)),
        ("abs(x - z)", {"z": "laplace"}, lambda x: np.abs(x) + np.exp(-np.abs(x))),
        ("abs(x - z)", {"z": "uniform:-1,1"}, lambda x: np.where(np.abs(x) < 1, (1 + x**2) / 2, np.abs(x))),
        ("relu(z - x)", {"z": "exponential:1"}, lambda x: np.where(x > -1, np.exp(-(x + 1.0)), -x)),
        ("exp(x*z)", {"z": "normal"}, lambda x: np.exp(x**2 / 2)),
        ("exp(x*z/2)", {"z": "laplace"}, lambda x: 1 / (1 - x**2 / 4)),
        ("cos(x*z)", {"z": "normal"}, lambda x: np.exp(-(x**2) / 2)),
        ("step(x - z)", {"z": "student_t:2"}, lambda x: 0.5 + x / 2 / np.sqrt(2 + x**2)),
        ("step(x - z)", {"z": "lognormal:0,1"}, lambda x: np.where(x > 0, _cdf(np.log(np.maximum(x, 1e-9))), 0.0)),
        ("relu(x*z + w)", {"z": "normal", "w": "normal"}, lambda x: np.sqrt((x**2 + 1) / 2 / np.pi)),
        ("step(x - z*w)", {"z": "normal", "w": "rademacher"}, _cdf),
        ("abs(x - z**2)", {"z": "uniform:0,1"}, lambda x: np.where((x > 0) & (x < 1), _square(x), np.abs(x - 1 / 3))),
    ],
)
def test_expectations_with_closed_forms(formula: str, noise: dict[str, str], exact: Any) -> None:
    x = np.array([[-1.2, -0.3], [0.0, 0.7], [0.99, 1.5]])
    found = mean(formula, noise, x)
    assert found.value.shape == x.shape
    np.testing.assert_allclose(found.value, exact(x), atol=1e-10, rtol=1e-10)
    assert (np.abs(found.value - exact(x)) <= 10 * found.error + 1e-15).all()
    assert (found.error < 1e-9).all()


def test_a_rule_that_does_not_know_of_the_kink_is_wrong() -> None:
    """The negative control: what the test above sees."""
    values, weights = rule(Noise.parse("normal"), 24)
    assert abs(np.abs(0.7 - values) @ weights - (0.7 * _erf(0.7 / np.sqrt(2)) + 2 * _phi(0.7))) > 1e-3


def test_rows_of_data_and_discrete_noise_are_summed() -> None:
    data = Data({"d": (1.0, -2.0, 0.5), "e": (0.0, 1.0, 3.0)})
    found = mean("tanh(x*d*y) + e", {"y": "table:1@0.25,-3@0.75"}, np.array([0.3, -1.0]), data=data)
    for number, x in enumerate((0.3, -1.0)):
        exact = np.mean(
            [0.25 * np.tanh(x * d) + 0.75 * np.tanh(-3 * x * d) + e for d, e in ((1, 0), (-2, 1), (0.5, 3))]
        )
        assert found.value[number] == pytest.approx(exact, rel=1e-14)
    assert (found.error < 1e-14).all()


def test_rows_and_continuous_noise_together() -> None:
    data = Data({"d": tuple(np.linspace(-1, 1, 7))})
    found = mean("relu(x*d + z)", {"z": "normal"}, 0.8, data=data)
    shifts = 0.8 * np.linspace(-1, 1, 7)
    assert found.value == pytest.approx(np.mean(shifts * _cdf(shifts) + _phi(shifts)), rel=1e-12)
    assert isinstance(found.value, float)


def test_polynomials_take_exact_moments() -> None:
    assert mean("z**4*x", {"z": "student_t:4.5"}, 2.0).value == pytest.approx(
        2 * Noise.parse("student_t:4.5").moment(4)
    )
    many = mean("(x + " + " + ".join(f"z{i}" for i in range(9)) + ")**2", {f"z{i}": "normal" for i in range(9)}, 2.0)
    assert many.value == pytest.approx(13.0, rel=1e-14)


@pytest.mark.parametrize(
    ("formula", "noise"),
    [
        ("z**2*abs(x)", "student_t:2"),
        ("abs(z)**3", "student_t:3"),
        ("sinh(z)", "student_t:30"),
        ("exp(1.5*z)", "laplace"),
        ("sinh(1.5*z)", "laplace"),  # zero by symmetry under any rule
        ("exp(z**2)", "normal"),
        ("1/z", "normal"),
        ("z*abs(z)", "student_t:1.5"),
    ],
)
def test_an_expectation_that_does_not_exist_is_refused(formula: str, noise: str) -> None:
    with pytest.raises(InputError, match="does not exist"):
        mean(formula, {"z": noise}, 0.3)


def test_too_many_variables_are_refused() -> None:
    noise = {f"z{i}": "normal" for i in range(8)}
    with pytest.raises(InputError, match="too many variables"):
        mean("tanh(x + " + "*".join(noise) + ")", noise, 0.3)


def test_nodes_are_nested_where_kinks_depend_on_outer_variables() -> None:
    loss = Loss("abs(x + y*z)", ("x",), noise={"y": Noise.parse("uniform:1,2"), "z": Noise.parse("normal")})
    found = expectation(loss, [loss.expression], {"x": 0.4})[0]
    grid, shares = np.polynomial.legendre.leggauss(60)
    y = 1.5 + grid / 2
    exact = (0.4 * np.vectorize(_erf)(0.4 / y / np.sqrt(2)) + 2 * y * _phi(0.4 / y)) @ shares / 2
    assert found.value == pytest.approx(exact, rel=1e-11)


def gradients(run: Run, x: float) -> tuple[np.ndarray, np.ndarray]:
    """Values and weights of the gradient of a batch."""
    from sgdsim.formulas.evaluation import evaluate

    batch = batch_rule(run)
    found = nodes(batch.sources, [], {**run.loss.constants, "x": np.array([x])}, Level(20))
    value = evaluate(batch.gradient, found.values)[0]
    value, weights = np.broadcast_arrays(value, found.weights)
    return value.ravel(), weights.ravel()


@pytest.mark.parametrize(
    "family", ["normal:0.2,1", "laplace", "uniform:-1,2", "exponential", "rademacher", "bernoulli:0.3"]
)
def test_cumulants_of_a_batch_of_affine_noise(family: str) -> None:
    samples = 13
    values, weights = gradients(make_run("x**2/2 + z*x", {"z": family}, batch_size=samples), 0.5)
    noise = Noise.parse(family)
    middle = values @ weights
    second, third, fourth = ((values - middle) ** n @ weights for n in (2, 3, 4))
    assert middle == pytest.approx(0.5 + noise.moment(1), abs=1e-13)
    assert second == pytest.approx(noise.cumulant(2) / samples, rel=1e-11)
    assert third == pytest.approx(noise.cumulant(3) / samples**2, abs=1e-13)
    assert fourth - 3 * second**2 == pytest.approx(noise.cumulant(4) / samples**3, abs=1e-12)


@pytest.mark.parametrize("sampling", ["replacement", "batch"])
def test_all_batches_of_rows(sampling: str) -> None:
    rows = (1.0, -2.0, 0.5, 3.0)
    run = make_run("tanh(x*d)", {}, Data({"d": rows}), batch_size=3, sampling=sampling)
    values, weights = gradients(run, 0.4)
    slopes = [d / np.cosh(0.4 * d) ** 2 for d in rows]
    every = itertools.product(slopes, repeat=3) if sampling == "replacement" else itertools.combinations(slopes, 3)
    exact = np.array([np.mean(batch) for batch in every])
    assert weights.sum() == pytest.approx(1.0, rel=1e-13)
    for order in (1, 2, 5):
        assert values**order @ weights == pytest.approx(np.mean(exact**order), rel=1e-12)


def test_rows_with_discrete_noise_in_a_batch_without_replacement() -> None:
    rows = (1.0, -2.0, 0.5)
    run = make_run("tanh(x*d*y)", {"y": "bernoulli:0.3"}, Data({"d": rows}), batch_size=2, sampling="batch")
    values, weights = gradients(run, 0.4)
    exact = 0.0
    for pair in itertools.combinations(rows, 2):
        for labels in itertools.product((0, 1), repeat=2):
            share = np.prod([0.3 if label else 0.7 for label in labels]) / 3
            slope = np.mean([d * y / np.cosh(0.4 * d * y) ** 2 for d, y in zip(pair, labels, strict=True)])
            exact += share * slope**3
    assert values**3 @ weights == pytest.approx(exact, rel=1e-12)


def test_label_noise_of_a_batch_of_rows() -> None:
    rows = (1.0, -2.0, 0.5)
    run = make_run("(x*d - y)**2/2", {"y": "normal"}, Data({"d": rows}), batch_size=2)
    values, weights = gradients(run, 0.4)
    means = [0.4 * (a * a + b * b) / 2 for a, b in itertools.product(rows, repeat=2)]
    spreads = [(a * a + b * b) / 4 for a, b in itertools.product(rows, repeat=2)]
    assert values**2 @ weights == pytest.approx(np.mean(np.square(means) + spreads), rel=1e-12)


def test_batches_that_are_too_many_are_refused() -> None:
    many = Data({"d": tuple(np.linspace(-1, 1, 100))})
    with pytest.raises(NotApplicable, match="different batches of 8 samples"):
        batch_rule(make_run("tanh(x*d)", {}, many, batch_size=8))
    with pytest.raises(NotApplicable, match="5 noise variables"):
        batch_rule(make_run("tanh(x*z)", {"z": "normal"}, batch_size=5))
    with pytest.raises(NotApplicable, match="shuffled"):
        batch_rule(make_run("tanh(x*d)", {}, many, sampling="epoch"))
    with pytest.raises(NotApplicable, match="population gradient"):
        batch_rule(make_run("tanh(x*z)", {"z": "normal"}, name="gradient_descent"))


@pytest.mark.parametrize(
    ("family", "samples", "most"), [("laplace", 2, 3e-6), ("laplace", 5, 1e-13), ("exponential", 5, 1e-13)]
)
def test_the_rule_of_a_mean_has_the_characteristic_function(family: str, samples: int, most: float) -> None:
    """Rounding in weights far out once put nodes there: the first row was off by 1e-3, and its moments were right."""
    values, weights = mean_rule(Noise.parse(family), samples, 48)
    step = 3.0 / samples
    one = {"laplace": 1.0 / (1.0 + step**2), "exponential": np.exp(-1j * step) / (1.0 - 1j * step)}[family]
    assert abs(weights @ np.exp(3j * values) - one**samples) < most
    assert abs(weights.sum() - 1.0) < 3e-15
    assert abs(weights @ values**2 * samples - Noise.parse(family).moment(2)) < 1e-14
