"""The entropic loss against enumerations of all batches, finite differences of mpmath's quadrature, and paths."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from functools import lru_cache

import mpmath
import numpy as np
import pytest

from sgdsim.formulas.evaluation import evaluate
from sgdsim.model.data import Data
from sgdsim.model.loss import Loss
from sgdsim.model.noise import Noise
from sgdsim.model.optimizers import Optimizer
from sgdsim.model.run import Run
from sgdsim.model.schedules import Schedule
from sgdsim.prediction import NotApplicable
from sgdsim.theory.methods.entropic_loss import EntropicLoss
from sgdsim.theory.methods.gradient_flow import flow

ROWS = np.array([[0.7, 1.3], [-1.1, 0.4], [2.0, -0.6], [0.2, 2.2], [-0.5, -1.9]])
NET = Loss(
    "(u*w*x - y)**2/2", ("u", "w"), data=Data({"x": tuple(ROWS[:, 0].tolist()), "y": tuple(ROWS[:, 1].tolist())})
)
POINT = np.array([0.8, -1.3])
RATE = 0.13

BATCHES: dict[str, Callable[[], list[tuple[int, ...]]]] = {
    "replacement": lambda: list(itertools.product(range(5), repeat=2)),
    "batch": lambda: list(itertools.combinations(range(5), 2)),
}


def net_slope(theta: np.ndarray, row: np.ndarray) -> np.ndarray:
    u, w = theta
    slip = row[0] * (u * w * row[0] - row[1])
    return np.array([slip * w, slip * u])


def net_potential(
    theta: np.ndarray, batches: Sequence[tuple[int, ...]], decay: float = 0.0, metric: np.ndarray | None = None
) -> float:
    """The definition spelled out: the mean over batches of l_B + (eta/4) g_B^T P g_B."""
    metric = np.eye(2) if metric is None else metric
    total = 0.0
    for batch in batches:
        slope = np.mean([net_slope(theta, ROWS[i]) for i in batch], axis=0) + decay * theta
        value = np.mean([(theta[0] * theta[1] * ROWS[i, 0] - ROWS[i, 1]) ** 2 / 2 for i in batch])
        total += value + decay * theta @ theta / 2 + RATE / 4 * slope @ metric @ slope
    return float(total / len(batches))


def differences(function: Callable[[np.ndarray], float], at: np.ndarray, step: float = 1e-3) -> np.ndarray:
    """Central differences of sixth order."""
    shares = {1: 3 / 4, 2: -3 / 20, 3: 1 / 60}
    return np.array(
        [
            sum(c * (function(at + k * h) - function(at - k * h)) for k, c in shares.items()) / step
            for h in step * np.eye(len(at))
        ]
    )


def value_of(entropic: EntropicLoss, theta: np.ndarray, rate: float = RATE) -> float:
    names = dict(zip(entropic.loss.parameters, theta, strict=True)) | entropic.loss.constants
    assert entropic.potential is not None
    return float(evaluate([entropic.potential], {**names, str(entropic.rate): rate})[0])


def named(loss: Loss, theta: np.ndarray) -> dict[str, float]:
    return dict(zip(loss.parameters, map(float, theta), strict=True))


@pytest.mark.parametrize("decay", [0.0, 0.21])
@pytest.mark.parametrize("sampling", BATCHES)
def test_batches_of_a_data_set_by_enumeration(sampling: str, decay: float) -> None:
    batches = BATCHES[sampling]()
    entropic = EntropicLoss(NET, Optimizer("sgd", {"weight_decay": decay}, batch_size=2, sampling=sampling))
    assert value_of(entropic, POINT) == pytest.approx(net_potential(POINT, batches, decay), rel=1e-13)
    slope = differences(lambda theta: net_potential(theta, batches, decay), POINT)
    np.testing.assert_allclose(entropic.gradient(named(NET, POINT), RATE), slope, rtol=1e-9)
    # Without the factor (N - B)/(N - 1), or with it where there is none, the same test fails.
    other = BATCHES["batch" if sampling == "replacement" else "replacement"]()
    assert value_of(entropic, POINT) != pytest.approx(net_potential(POINT, other, decay), rel=1e-3)


def test_an_epoch_has_the_potential_of_batches_without_replacement() -> None:
    epoch, batch = (EntropicLoss(NET, Optimizer(batch_size=2, sampling=kind)) for kind in ("epoch", "batch"))
    assert epoch.potential == batch.potential


def test_the_full_batch_and_gradient_descent_have_no_noise() -> None:
    whole = EntropicLoss(NET, Optimizer(batch_size=5, sampling="batch"))
    descent = EntropicLoss(NET, Optimizer("gradient_descent"))
    expected = net_potential(POINT, [tuple(range(5))])
    assert value_of(whole, POINT) == pytest.approx(expected, rel=1e-13)
    assert value_of(descent, POINT) == pytest.approx(expected, rel=1e-13)


@pytest.mark.parametrize("decay", [0.0, 0.21])
def test_a_matrix_of_learning_rates(decay: float) -> None:
    metric = np.array([[2.0, 0.5], [0.5, 1.25]])
    rows = (("2", "0.5"), ("0.5", "1.25"))
    entropic = EntropicLoss(NET, Optimizer("sgd", {"weight_decay": decay}, batch_size=2, preconditioner=rows))
    batches = BATCHES["replacement"]()
    assert value_of(entropic, POINT) == pytest.approx(net_potential(POINT, batches, decay, metric), rel=1e-13)
    assert value_of(entropic, POINT) != pytest.approx(net_potential(POINT, batches, decay), rel=1e-3)


def test_force_and_gradient_are_those_of_the_potential() -> None:
    entropic = EntropicLoss(NET, Optimizer(batch_size=2, sampling="batch"))
    assert entropic.force is not None
    names = {**named(NET, POINT), str(entropic.rate): RATE}
    by_force = np.array(evaluate(entropic.force, names), dtype=float)
    mean = [tuple(range(5))]
    free = differences(lambda theta: net_potential(theta, BATCHES["batch"]()) - _mean_loss(theta), POINT)
    np.testing.assert_allclose(by_force, -free, rtol=1e-9)
    assert np.abs(by_force - free).max() > 1e-3  # the sign
    whole = differences(lambda theta: net_potential(theta, mean) - _mean_loss(theta), POINT)
    assert np.abs(by_force + whole).max() > 1e-3  # the noise's part


def _mean_loss(theta: np.ndarray) -> float:
    return float(np.mean((theta[0] * theta[1] * ROWS[:, 0] - ROWS[:, 1]) ** 2 / 2))


def test_the_covariance_of_the_noise() -> None:
    entropic = EntropicLoss(NET, Optimizer(batch_size=2))
    assert entropic.noise_covariance is not None
    found = np.array(evaluate(list(entropic.noise_covariance), named(NET, POINT))).reshape(2, 2)
    slopes = np.array([net_slope(POINT, row) for row in ROWS])
    np.testing.assert_allclose(found, np.cov(slopes.T, ddof=0), rtol=1e-12)
    assert not np.allclose(found, np.cov(slopes.T), rtol=1e-3)  # N - 1 is another


@pytest.mark.parametrize("batch", [1, 3])
def test_noise_of_a_batch_is_averaged_over_signs(batch: int) -> None:
    """Rademacher noise, all 2^B batches; |grad L|^2 + Tr Sigma/B, and not (|grad L|^2 + Tr Sigma)/B."""
    loss = Loss("(u*w - z)**2/2 + 0.3*z*u", ("u", "w"), {}, {"z": Noise.parse("rademacher")})
    u, w = POINT

    def squared(signs: tuple[int, ...]) -> float:
        slope = np.mean([((u * w - z) * w + 0.3 * z, (u * w - z) * u) for z in signs], axis=0)
        return float(slope @ slope)

    expected = np.mean([squared(signs) for signs in itertools.product((-1, 1), repeat=batch)])
    entropic = EntropicLoss(loss, Optimizer(batch_size=batch))
    assert entropic.square(named(loss, POINT)) == pytest.approx(expected, rel=1e-13)
    one = EntropicLoss(loss, Optimizer()).square(named(loss, POINT))
    assert batch == 1 or expected != pytest.approx(one / batch, rel=1e-3)


# What has no closed form: a logistic loss, and a loss with kinks.


def _laplace(z: mpmath.mpf) -> mpmath.mpf:
    return mpmath.exp(-abs(z)) / 2


def _normal(z: mpmath.mpf) -> mpmath.mpf:
    return mpmath.exp(-(z**2) / 2) / mpmath.sqrt(2 * mpmath.pi)


@lru_cache
def _mean_of(kind: str, x: float) -> tuple[float, float, float]:
    """Mean loss, mean slope and mean squared slope, by mpmath."""
    if kind == "logistic":  # softplus(-z*x) with z ~ N(0.5, 1)
        ends = [-12, -4, 0, 4, 12]
        value, slope, square = (
            mpmath.quad(lambda n, f=f: f(n + 0.5) * _normal(n), ends)
            for f in (
                lambda z: mpmath.log(1 + mpmath.exp(-z * x)),
                lambda z: -z / (1 + mpmath.exp(z * x)),
                lambda z: (z / (1 + mpmath.exp(z * x))) ** 2,
            )
        )
    else:  # abs(x - z) + x^2*z/4 with z ~ Laplace
        ends = sorted({-60, -5, 0, 5, 60, x})
        value, slope, square = (
            mpmath.quad(lambda z, f=f: f(z) * _laplace(z), ends)
            for f in (
                lambda z: abs(x - z) + x**2 * z / 4,
                lambda z: mpmath.sign(x - z) + x * z / 2,
                lambda z: (mpmath.sign(x - z) + x * z / 2) ** 2,
            )
        )
    return float(value), float(slope), float(square)


LOSSES = {
    "logistic": Loss("softplus(-z*x)", ("x",), {}, {"z": Noise.parse("normal:0.5,1")}),
    "kinks": Loss("abs(x - z) + x**2*z/4", ("x",), {}, {"z": Noise.parse("laplace")}),
}


@pytest.mark.parametrize("batch", [1, 4])
@pytest.mark.parametrize("kind", LOSSES)
def test_numerical_values_and_gradients_against_mpmath(kind: str, batch: int) -> None:
    loss, decay, at = LOSSES[kind], 0.15, 0.6
    entropic = EntropicLoss(loss, Optimizer("sgd", {"weight_decay": decay}, batch_size=batch))
    assert entropic.potential is None
    assert entropic.force is None

    def square(x: float) -> float:
        _, slope, squared = _mean_of(kind, x)
        return (slope + decay * x) ** 2 + (squared - slope**2) / batch

    def potential(theta: np.ndarray) -> float:
        x = round(float(theta[0]), 12)
        return _mean_of(kind, x)[0] + decay * x**2 / 2 + RATE / 4 * square(x)

    assert entropic.square({"x": at}) == pytest.approx(square(at), rel=1e-9)
    found = entropic.gradient({"x": at}, RATE)
    expected = differences(potential, np.array([at]), 0.01)
    np.testing.assert_allclose(found, expected, rtol=1e-7)
    plain = _mean_of(kind, at)[1] + decay * at
    assert abs(found[0] - plain) > 1e-3 * abs(plain)  # the entropic force is seen


def test_exact_and_numerical_are_the_same_where_both_are_known() -> None:
    """The same noise as values of a table, and as a smooth distribution's quadrature, of one quadratic loss."""
    loss = Loss("(u*w - z)**2/2", ("u", "w"), {}, {"z": Noise.parse("normal:0.4,1.3")})
    optimizer = Optimizer("sgd", {"weight_decay": 0.3}, batch_size=3, preconditioner=(("2", "0.5"), ("0.5", "1.25")))
    entropic, hidden = EntropicLoss(loss, optimizer), EntropicLoss(loss, optimizer)
    for part in ("mean_square", "potential", "force"):
        hidden.__dict__[part] = None  # as if it had no closed form
    theta = named(loss, POINT)
    assert hidden.square(theta) == pytest.approx(entropic.square(theta), rel=1e-12)
    np.testing.assert_allclose(hidden.gradient(theta, RATE), entropic.gradient(theta, RATE), rtol=1e-9)


# The heavy ball.


def _heavy_ball(start: np.ndarray, h: float, b: float, time: float) -> np.ndarray:
    """Full-batch heavy ball on (u*w - 1)^2/2 + u^2/4 with v_0 = 0."""
    theta, velocity = start.copy(), np.zeros(2)
    for _ in range(round(time / h)):
        u, w = theta
        slope = np.array([(u * w - 1) * w + u / 2, (u * w - 1) * u])
        velocity = b * velocity - h * (1 - b) * slope
        theta = theta + velocity
    return theta


@pytest.mark.parametrize("b", [0.0, 0.7])
def test_the_heavy_ball_follows_its_potential_to_second_order(b: float) -> None:
    """With v_0 = 0, the flow is read at the lagged time T - h b/(1 - b)."""
    loss = Loss("(u*w - 1)**2/2 + u**2/4", ("u", "w"))
    start, time = np.array([1.6, 0.5]), 1.6
    errors: dict[str, list[float]] = {"right": [], "no lag": [], "sgd's": [], "loss": []}
    for h in (0.02, 0.01, 0.005):
        rate = h * (1 - b)
        path = _heavy_ball(start, h, b, time)

        def along(optimizer: Optimizer, until: float, potential: str, rate: float = rate) -> np.ndarray:
            run = Run(loss, optimizer, Schedule(repr(rate)), {"u": 1.6, "w": 0.5}, 1000, 10)
            return flow(run, potential, [until])[0]

        ball = Optimizer("momentum", {"momentum": b})
        lagged = time - h * b / (1 - b)
        errors["right"].append(_distance(path, along(ball, lagged * (1 - b), "entropic")))
        errors["no lag"].append(_distance(path, along(ball, time * (1 - b), "entropic")))
        errors["loss"].append(_distance(path, along(ball, lagged * (1 - b), "loss")))
        # The coefficient h/4 without (1 + b)/(1 - b): that of sgd at the rate h.
        errors["sgd's"].append(_distance(path, along(Optimizer(), lagged, "entropic", h)))
    slopes = {name: np.log2(e[-2] / e[-1]) for name, e in errors.items()}
    assert slopes["right"] == pytest.approx(2.0, abs=0.1)
    assert slopes["loss"] < 1.3
    if b:
        assert slopes["no lag"] < 1.3
        assert slopes["sgd's"] < 1.3


def _distance(one: np.ndarray, other: np.ndarray) -> float:
    return float(np.abs(one - other).max())


def test_the_coefficients_of_the_heavy_ball() -> None:
    """(h/4) [ (1 + b)/(1 - b) |grad L|^2 + Tr Sigma/B ]."""
    loss = Loss("x**2/2 + z*x", ("x",), {}, {"z": Noise.parse("normal")})
    b, rate, x, batch = 0.6, 0.05, 1.7, 3
    entropic = EntropicLoss(loss, Optimizer("momentum", {"momentum": b}, batch_size=batch))
    h = rate / (1 - b)
    expected = x**2 / 2 + h / 4 * ((1 + b) / (1 - b) * x**2 + 1 / batch)
    assert value_of(entropic, np.array([x]), rate) == pytest.approx(expected, rel=1e-13)
    assert float(entropic.time_unit) == pytest.approx(1 / (1 - b))


def test_small_decays_keep_their_digits() -> None:
    loss = Loss("x**2/2", ("x",))
    entropic = EntropicLoss(loss, Optimizer("sgd", {"weight_decay": 1.23456789e-7}))
    assert entropic.mean_square is not None
    grown = entropic.square({"x": 1.0}) - 1.0
    assert grown == pytest.approx(2 * 1.23456789e-7, rel=1e-7)


@pytest.mark.parametrize(
    ("optimizer", "message"),
    [
        (Optimizer("adam"), "no entropic potential"),
        (Optimizer("nesterov"), "no entropic potential"),
        (Optimizer(preconditioner=("u**2", "1")), "depends on the parameters"),
        (Optimizer("momentum", {"weight_decay": 0.1}), "without weight decay"),
        (Optimizer("momentum", preconditioner=("2", "1")), "without weight decay and matrices"),
        (Optimizer("sgd", {"decoupled_weight_decay": 0.1}, preconditioner=("2", "1")), "no potential"),
        (Optimizer(preconditioner=(("2", "0.1"), ("0.3", "1"))), "not symmetric"),
    ],
)
def test_where_there_is_no_potential(optimizer: Optimizer, message: str) -> None:
    with pytest.raises(NotApplicable, match=message):
        EntropicLoss(NET, optimizer)


def test_decoupled_decay_is_coupled_decay_of_sgd() -> None:
    values = [
        value_of(EntropicLoss(NET, Optimizer("sgd", {kind: 0.2}, batch_size=2)), POINT)
        for kind in ("weight_decay", "decoupled_weight_decay")
    ]
    assert values[0] == values[1]
