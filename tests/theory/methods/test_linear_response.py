"""Linear response: against the exact recursion and the exact chain as the step shrinks, and where it must refuse."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from sgdsim.formulas.differences import jacobian
from sgdsim.model.data import Data
from sgdsim.model.loss import Loss
from sgdsim.model.noise import Noise
from sgdsim.model.optimizers import Optimizer
from sgdsim.model.run import Run
from sgdsim.model.schedules import Schedule
from sgdsim.prediction import NotApplicable
from sgdsim.theory.methods.linear_response import Population, batch_noise, minimum, response
from sgdsim.theory.methods.moment_recursion import recursion

NOISE = {"a": Noise.parse("normal"), "b": Noise.parse("laplace")}
BOWL = Loss("(x**2 + 0.6*x*y + 2*y**2)/2 - x + a*x + (0.5*a + 0.8*b)*y", ("x", "y"), {}, NOISE)
DENSE = (("1.2", "0.3"), ("0.3", "0.8"))

OPTIMIZERS = {
    "sgd": Optimizer("sgd", {"weight_decay": 0.2}, batch_size=3),
    "sgd, decoupled decay": Optimizer("sgd", {"decoupled_weight_decay": 0.2}),
    "sgd, matrix": Optimizer("sgd", {"weight_decay": 0.2}, preconditioner=DENSE),
    "momentum": Optimizer("momentum", {"momentum": 0.7, "weight_decay": 0.2}),
    "momentum, matrix": Optimizer("momentum", {"momentum": 0.7, "weight_decay": 0.2}, preconditioner=DENSE),
    "nesterov": Optimizer("nesterov", {"momentum": 0.7}, batch_size=2),
    "nesterov, metric": Optimizer("nesterov", {"momentum": 0.7}, metric=DENSE),
    "ema": Optimizer("ema", {"momentum": 0.7, "weight_decay": 0.2}),
    "ema, matrix": Optimizer("ema", {"momentum": 0.7}, preconditioner=DENSE),
    "langevin": Optimizer("langevin", {"temperature": 0.3, "weight_decay": 0.2}),
}


def make_run(loss: Loss, optimizer: Optimizer | None = None, rate: float = 0.2, **initial: float) -> Run:
    starts = dict.fromkeys(loss.parameters, 0.0) | initial
    return Run(loss, optimizer or Optimizer(), Schedule(repr(rate)), starts, 1000, 10)


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_the_recursion_says_the_same_where_both_are_exact(name: str) -> None:
    """Two derivations: the Lyapunov equation of SciPy, and the recursion of moments."""
    run = make_run(BOWL, OPTIMIZERS[name])
    found, law = response(run), recursion(run, 2).stationary()
    expected = [[law.covariance(one, other) for one in "xy"] for other in "xy"]
    np.testing.assert_allclose(found.covariance, expected, rtol=1e-10, atol=1e-14)
    np.testing.assert_allclose(found.theta, [law.mean("x"), law.mean("y")], atol=1e-9)
    flow = np.array(found.noise) * 0.2 / 2  # continuous time, T C/H of unit curvature, is another
    assert np.abs(found.covariance - flow).max() > 1e-3
    assert found.excess_loss == pytest.approx(np.trace(found.hessian @ np.array(expected)) / 2, rel=1e-9)


@pytest.mark.parametrize("sampling", ["replacement", "batch"])
def test_batches_of_data(sampling: str) -> None:
    loss = Loss(
        "(x - p)**2/2 + (y - q)**2 + 0.3*x*y",
        ("x", "y"),
        data=Data({"p": (0.0, 1.0, 4.0, 2.0), "q": (1.0, -1.0, 0.5, 3.0)}),
    )
    run = make_run(loss, Optimizer(batch_size=3, sampling=sampling))
    law = recursion(run, 2).stationary()
    expected = [[law.covariance(one, other) for one in "xy"] for other in "xy"]
    np.testing.assert_allclose(response(run).covariance, expected, rtol=1e-10)
    rows = np.array([[0.0, 1.0, 4.0, 2.0], [2.0, -2.0, 1.0, 6.0]])
    share = 1 / 3 if sampling == "replacement" else 1 / 3 * (4 - 3) / (4 - 1)
    np.testing.assert_allclose(response(run).noise, np.cov(rows, ddof=0) * share, rtol=1e-9)


def test_random_curvature_corrects_the_leading_order_by_eta() -> None:
    """Linear response has eta sigma^2/(2 - eta), the law eta sigma^2/(2 - 2 eta): relative error of order 1."""
    loss = Loss("h*x**2/2 - e*x", ("x",), {}, {"h": Noise.parse("uniform:0,2"), "e": Noise.parse("normal")})
    errors = []
    for rate in (0.04, 0.02, 0.01):
        run = make_run(loss, rate=rate)
        exact = recursion(run, 2).stationary().variance("x")
        errors.append(abs(response(run).covariance[0, 0] / exact - 1))
    slopes = np.diff(np.log(errors)) / np.log(0.5)
    np.testing.assert_allclose(slopes, 1.0, atol=0.03)


# Nonlinear losses, against the stationary law of a dense chain.


def stationary(after: Callable[[np.ndarray], np.ndarray], width: float, grid: np.ndarray) -> np.ndarray:
    """The density of theta' = after(theta) + width*z, by the trapezoid rule, which is exact to rounding here."""
    step = grid[1] - grid[0]
    kernel = np.exp(-(((grid[:, None] - after(grid)) / width) ** 2) / 2) * step / np.sqrt(2 * np.pi) / width
    matrix = kernel / kernel.sum(axis=0) - np.eye(len(grid))
    matrix[0] = 1.0
    right = np.zeros(len(grid))
    right[0] = 1.0
    return np.linalg.solve(matrix, right)


def test_an_anharmonic_valley_to_leading_order() -> None:
    """Relative error of order eta, as response takes the curvature at the minimum alone."""
    loss = Loss("x**2/2 + x**3/6 + x**4/8 + 0.5*z*x", ("x",), {}, {"z": Noise.parse("normal")})
    errors, shifted = [], []
    for rate in (0.08, 0.04, 0.02):
        grid = np.linspace(-1.6, 1.6, 500) * np.sqrt(rate / 0.04)
        share = stationary(lambda x, rate=rate: x - rate * (x + x**2 / 2 + x**3 / 2), 0.5 * rate, grid)
        mean = share @ grid
        variance = share @ (grid - mean) ** 2
        found = response(make_run(loss, rate=rate)).covariance[0, 0]
        errors.append(abs(found / variance - 1))
        shifted.append(abs(rate * 0.25 / variance - 1))  # eta c/h: twice the variance
    slopes = np.diff(np.log(errors)) / np.log(0.5)
    np.testing.assert_allclose(slopes, 1.0, atol=0.12)
    assert min(shifted) > 0.5


@pytest.mark.parametrize("rule", ["sgd", "momentum"])
def test_a_kinked_loss_to_leading_order_by_simulation(rule: str) -> None:
    """E|x - z| of Laplace z has curvature 1 and gradient noise 1 at 0, though no sample has curvature.

    The naive ensemble must be within 5 standard errors (false alarm 6e-7) and 6 %; eta c/h is rejected.
    """
    rate, b = 0.04, 0.6 if rule == "momentum" else 0.0
    loss = Loss("abs(x - z)", ("x",), {}, {"z": Noise.parse("laplace")})
    optimizer = Optimizer(rule, {"momentum": b} if b else {}, batch_size=2)
    found = response(make_run(loss, optimizer, rate, x=0.7))
    assert found.theta[0] == pytest.approx(0.0, abs=1e-7)
    assert found.hessian[0, 0] == pytest.approx(1.0, abs=1e-3)
    assert found.noise[0, 0] == pytest.approx(0.5, abs=1e-6)
    random = np.random.default_rng(20251122)
    x, v = np.zeros(20_000), np.zeros(20_000)
    for _ in range(400):
        v = b * v + np.sign(x - random.laplace(size=(2, len(x)))).mean(axis=0)
        x = x - rate * v
    variance, error = x.var(), x.var() * np.sqrt(2 / len(x))
    assert abs(variance - found.covariance[0, 0]) < 5 * error + 0.06 * variance
    assert abs(variance - 2 * found.covariance[0, 0]) > 5 * error + 0.06 * variance


def test_the_logistic_loss_to_leading_order() -> None:
    """Random label flips hold the weight; a dense chain of the two slopes -x sigmoid(-x w), x sigmoid(x w)."""
    loss = Loss("softplus(-s*w)", ("w",), {}, {"s": Noise.parse("table:1@0.7,-1@0.3")})
    best = np.log(0.7 / 0.3)
    found = response(make_run(loss, rate=0.1))
    p = 0.7
    assert found.theta[0] == pytest.approx(best, abs=1e-8)
    assert found.hessian[0, 0] == pytest.approx(p * (1 - p), rel=1e-9)
    assert found.noise[0, 0] == pytest.approx(p * (1 - p), rel=1e-9)
    errors = []
    for rate in (0.2, 0.1):
        random = np.random.default_rng(3)
        w = np.full(20_000, best)
        total, squares = 0.0, 0.0
        for step in range(1400):
            slope = 1 / (1 + np.exp(-w)) - (random.random(w.shape) < p)
            w = w - rate * slope
            if step >= 400 and step % 20 == 0:
                total, squares = total + w.mean(), squares + (w**2).mean()
        variance = squares / 50 - (total / 50) ** 2
        errors.append(variance / response(make_run(loss, rate=rate)).covariance[0, 0] - 1)
    assert abs(errors[1]) < abs(errors[0]) < 0.15


# Directions without curvature.


def test_flat_valleys_leave_out_their_floor() -> None:
    loss = Loss("(u*w - 1)**2/2 + z*(u*w - 1)", ("u", "w"), {}, {"z": Noise.parse("normal:0,0.3")})
    found = response(make_run(loss, rate=0.05, u=2.0, w=0.3))
    assert found.flat_directions == 1
    u, w = found.theta
    assert u * w == pytest.approx(1.0, abs=1e-9)
    along = np.array([w, u]) / np.hypot(u, w)
    sharp = u * u + w * w
    expected = 0.05 * 0.09 * sharp / (sharp * (2 - 0.05 * sharp)) * np.outer(along, along)
    np.testing.assert_allclose(found.covariance, expected, rtol=1e-6, atol=1e-12)


def test_a_memory_of_flat_directions_comes_in_through_a_matrix() -> None:
    """y has no curvature but noise; P mixes what the velocity holds of it into x."""
    loss = Loss("x**2 + z*x + e*y", ("x", "y"), {}, {"z": Noise.parse("normal"), "e": Noise.parse("normal")})
    optimizer = Optimizer("momentum", {"momentum": 0.6}, preconditioner=(("1", "0.4"), ("0.4", "1")))
    run = Run(loss, optimizer, Schedule("0.2"), {"x": 0.0, "y": 0.0}, 1000, 400)
    exact = recursion(run, 2).after(400).variance("x")
    assert response(run).covariance[0, 0] == pytest.approx(exact, rel=1e-10)
    diagonal = Optimizer("momentum", {"momentum": 0.6})
    assert response(make_run(loss, diagonal)).covariance[0, 0] != pytest.approx(exact, rel=1e-3)


# Finding the minimum.


@pytest.mark.parametrize(
    ("formula", "start", "expected"),
    [
        ("(x - 3)**2 + (y + 1)**2 + x*y/2", (10.0, 10.0), (3.4666666666666668, -1.8666666666666667)),
        ("x**4/4 - x**2/2 + 0.1*x + y**2", (1.0, 1.0), (0.9456492739235914, 0.0)),
        ("x**4/4 - x**2/2 + 0.1*x + y**2", (-1.0, 1.0), (-1.0466805318046022, 0.0)),
        ("100*(y - x**2)**2 + (1 - x)**2", (-1.2, 1.0), (1.0, 1.0)),
        ("1e-9*(x - 1)**2 + 1e-9*(y - 2)**2", (0.0, 0.0), (1.0, 2.0)),
        ("1e6*(x - 1)**2 + (y - 2)**2", (0.0, 0.0), (1.0, 2.0)),
    ],
)
def test_minima_are_found(formula: str, start: tuple[float, ...], expected: tuple[float, ...]) -> None:
    found = minimum(Loss(formula, ("x", "y")), np.array(start))
    np.testing.assert_allclose(found, expected, atol=1e-7)


def test_minima_with_weight_decay_and_noise() -> None:
    loss = Loss("(x - z)**2/2", ("x",), {}, {"z": Noise.parse("normal:2,1")})
    assert minimum(loss, np.zeros(1), 0.25)[0] == pytest.approx(2 / 1.25)


@pytest.mark.parametrize("start", [(1.3, 0.4), (0.2, -2.0), (0.05, 0.05), (3.0, 3.0)])
def test_a_bottom_without_curvature_is_a_minimum(start: tuple[float, ...]) -> None:
    found = minimum(Loss("x**2*y**2/2", ("x", "y")), np.array(start))
    assert np.prod(found) == pytest.approx(0.0, abs=1e-3)
    found = minimum(Loss("x**4 + y**4", ("x", "y")), np.array(start))
    np.testing.assert_allclose(found, 0.0, atol=0.05)


@pytest.mark.parametrize(
    ("formula", "start", "message"),
    [
        ("-x**2 - y**2", (1.0, 1.0), "without bound|saddle"),
        ("x + y**2", (0.0, 1.0), "without bound"),
        ("x**4/4 - x**2/2 + y**2", (0.0, 1.0), "saddle"),
        ("x**2 - y**2 + y**4", (1.0, 0.0), "saddle"),
        ("1e6*x**2 - y**2 + y**4", (1.0, 0.0), "saddle"),
        ("x**2 + x**4*1e6 - y**2 + y**4", (10.0, 0.0), "saddle"),
        ("log(x) + y**2", (-1.0, 1.0), "cannot|no minimum|without bound"),
    ],
)
def test_where_there_is_no_minimum(formula: str, start: tuple[float, ...], message: str) -> None:
    with pytest.raises(NotApplicable, match=message):
        minimum(Loss(formula, ("x", "y")), np.array(start))


def test_kinked_losses_have_minima_where_the_mean_is_smooth() -> None:
    """The median of z, and of rows of data, whose mean loss keeps its kink."""
    smooth = Loss("abs(x - z)", ("x",), {}, {"z": Noise.parse("exponential:2")})
    assert minimum(smooth, np.zeros(1))[0] == pytest.approx(2 * np.log(2) - 2, abs=1e-7)
    sharp = Loss("abs(x - d)", ("x",), data=Data({"d": (0.0, 1.0, 5.0)}))
    with pytest.raises(NotApplicable):
        response(make_run(sharp, x=3.0))


@pytest.mark.parametrize(
    ("loss", "optimizer", "rate", "message"),
    [
        (BOWL, Optimizer("adam"), 0.1, "not linear"),
        (BOWL, Optimizer("momentum", {"decoupled_weight_decay": 0.1}), 0.1, "decoupled"),
        (BOWL, Optimizer("sgd", {"decoupled_weight_decay": 0.1}, preconditioner=DENSE), 0.1, "decoupled"),
        (BOWL, Optimizer(preconditioner=("1 + x**2", "1")), 0.1, "depends on the parameters"),
        (BOWL, Optimizer(), 1.2, "not stable"),
        (Loss("(x - d)**2", ("x",), data=Data({"d": (0.0, 1.0)})), Optimizer(sampling="epoch"), 0.1, "epoch"),
        (Loss("z*x", ("x",), {}, {"z": Noise.parse("normal")}), Optimizer(), 0.1, "no direction has curvature"),
    ],
)
def test_where_there_is_no_response(loss: Loss, optimizer: Optimizer, rate: float, message: str) -> None:
    with pytest.raises(NotApplicable, match=message):
        response(make_run(loss, optimizer, rate))


def test_a_hill_is_not_taken_for_a_flat_direction() -> None:
    loss = Loss("x**2 - y**2 + y**4 + z*x", ("x", "y"), {}, {"z": Noise.parse("normal")})
    with pytest.raises(NotApplicable, match="not a minimum"):
        response(make_run(loss), np.zeros(2))


def test_shuffled_epochs_are_much_colder() -> None:
    """Why they are refused: the steps of an epoch make up for each other; by simulation, far from independent rows."""
    rows = np.array([0.0, 1.0, 2.0, 5.0])
    random = np.random.default_rng(0)
    x = np.full(4000, rows.mean())
    for _ in range(60):
        order = random.permuted(np.tile(rows, (len(x), 1)), axis=1)
        for column in order.T:
            x = x - 0.1 * (x - column)
    independent = 0.1 * rows.var() / (2 - 0.1)
    assert x.var() < 0.3 * independent


# The population loss in numbers.


@pytest.mark.parametrize(
    "formula", ["softplus(x*z)*y**2 + (x - z)**4/4", "abs(x - z) + y**2*z**2", "(x*y - z)**2/2 + tanh(x)*y"]
)
def test_derivatives_of_the_population_loss(formula: str) -> None:
    loss = Loss(formula, ("x", "y"), {}, {"z": Noise.parse("laplace:0.3,0.7")})
    about, theta = Population(loss, 0.2), np.array([0.8, -0.6])
    slope = jacobian(lambda at: np.array([about.value(at)]), theta)[0]
    np.testing.assert_allclose(about.gradient(theta), slope, rtol=1e-7, atol=1e-8)
    np.testing.assert_allclose(about.hessian(theta), jacobian(about.gradient, theta), rtol=1e-6, atol=1e-6)
    random = np.random.default_rng(1)
    z = random.laplace(0.3, 0.7, 200_000)
    names = {"x": theta[0], "y": theta[1], "z": z}
    from sgdsim.formulas.evaluation import evaluate

    samples = np.stack(np.broadcast_arrays(*evaluate(loss.gradient, names)))
    error = 5 * (np.cov(samples).max() + 1) * 6 / np.sqrt(len(z))
    np.testing.assert_allclose(about.noise(theta), np.cov(samples), atol=error)


def test_the_noise_of_a_batch() -> None:
    loss = Loss("(x - p)**2/2", ("x",), data=Data({"p": (0.0, 1.0, 2.0, 5.0)}))
    found = batch_noise(make_run(loss, Optimizer(batch_size=3, sampling="batch")), np.eye(1))
    from itertools import combinations

    means = [np.mean(batch) for batch in combinations([0.0, 1.0, 2.0, 5.0], 3)]
    assert found[0, 0] * np.var([0.0, 1.0, 2.0, 5.0]) == pytest.approx(np.var(means))
    assert batch_noise(make_run(loss, Optimizer("gradient_descent")), np.eye(1))[0, 0] == 0
    label = Loss("(x - p - z)**2/2", ("x",), {}, {"z": Noise.parse("normal")}, data=loss.data)
    with pytest.raises(NotApplicable, match="different parts"):
        batch_noise(make_run(label, Optimizer(batch_size=3, sampling="batch")), np.eye(1))
