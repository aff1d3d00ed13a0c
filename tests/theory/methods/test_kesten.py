"""Lyapunov and tail exponents against mpmath, closed forms, figures of the handbook, and naive simulation."""

from __future__ import annotations

import itertools
from collections.abc import Callable

import mpmath
import numpy as np
import pytest
from scipy.optimize import brentq

from sgdsim.base.errors import InputError
from sgdsim.model.data import Data
from sgdsim.model.loss import Loss
from sgdsim.model.noise import Noise
from sgdsim.model.optimizers import Optimizer
from sgdsim.model.run import Run
from sgdsim.model.schedules import Schedule
from sgdsim.prediction import NotApplicable
from sgdsim.theory.methods.kesten import Multiplier, multiplier, tail_moments

HILL = Loss(
    "(d*h - a)*t**2/2 - e*t", ("t",), {"d": 1.5, "a": 0.2}, {"h": Noise.parse("rademacher"), "e": Noise.parse("normal")}
)
BELL = Loss(HILL.formula, HILL.parameters, HILL.constants, {"h": Noise.parse("normal"), "e": Noise.parse("normal")})
REGRESSION = Loss("(x*t - e)**2/2", ("t",), {}, {"x": Noise.parse("normal"), "e": Noise.parse("normal")})


def factor(loss: Loss, rate: float, optimizer: Optimizer | None = None, start: float = 0.0) -> Multiplier:
    starts = dict.fromkeys(loss.parameters, start)
    return multiplier(Run(loss, optimizer or Optimizer(), Schedule(repr(rate)), starts, 10, 10))


def curvature(noise: str, formula: str = "h") -> Loss:
    return Loss(f"({formula})*t**2/2", ("t",), {}, {"h": Noise.parse(noise)})


def test_a_batch_has_the_mean_of_its_noise() -> None:
    """Of any family: of two uniform draws the noise of one was taken, whose logarithm varies twice as much."""
    loss, random = curvature("uniform:-1,1", "0.7 + 0.8*h"), np.random.default_rng(6)
    for size in (1, 2):
        found = factor(loss, 0.3, Optimizer(batch_size=size))
        logs = np.log(1 - 0.3 * (0.7 + 0.8 * random.uniform(-1, 1, (200_000, size)).mean(axis=1)))
        assert found.lyapunov.value == pytest.approx(logs.mean(), abs=4.9 * logs.std() / np.sqrt(len(logs)))
        assert found.log_variance.value == pytest.approx(logs.var(), rel=0.02)


# The Lyapunov exponent


def two_points(rate: float, a: float = 0.2, d: float = 1.5) -> float:
    return float(np.log(abs((1 + rate * a) ** 2 - rate**2 * d**2)) / 2)


def bell(rate: float, a: float = 0.2, d: float = 1.5) -> float:
    s, m = rate * d, 1 + rate * a
    c = m / s
    return float(
        mpmath.log(s)
        - (mpmath.euler + mpmath.log(2)) / 2
        + c**2 / 2 * mpmath.hyp2f2(1, 1, mpmath.mpf(3) / 2, 2, -(c**2) / 2)
    )


@pytest.mark.parametrize("rate", [0.05, 0.1, 0.18, 0.4, 1.0, 1.3])
def test_nt20_two_points_and_a_bell(rate: float) -> None:
    for loss, closed in ((HILL, two_points), (BELL, bell)):
        found = factor(loss, rate).lyapunov
        assert found.value == pytest.approx(closed(rate), abs=1e-10)
        assert found.error < 1e-9
    assert factor(HILL, rate).lyapunov.value != pytest.approx(bell(rate), abs=1e-6)


@pytest.mark.parametrize(
    ("loss", "rate", "figure"),
    [
        (HILL, 0.4, -0.107588),
        (HILL, 0.1, 0.008871),
        (HILL, 0.18, 0.000198),
        (BELL, 0.4, -0.12391),
        (BELL, 0.1, 0.008610),
        (BELL, 1.3, 0.22765),
    ],
)
def test_nt20_figures_of_the_handbook(loss: Loss, rate: float, figure: float) -> None:
    assert factor(loss, rate).lyapunov.value == pytest.approx(figure, abs=6e-6)


@pytest.mark.parametrize(("loss", "low", "high"), [(HILL, 0.180995, 1.046096), (BELL, 0.167282, 0.894792)])
def test_nt20_windows_of_collapse(loss: Loss, low: float, high: float) -> None:
    def exponent(rate: float) -> float:
        return float(factor(loss, rate).lyapunov.value)

    assert brentq(exponent, 0.1, 0.4, xtol=1e-9) == pytest.approx(low, abs=6e-7)
    assert brentq(exponent, 0.4, 1.3, xtol=1e-9) == pytest.approx(high, abs=6e-7)
    # The mean of squares is another matter: it grows where almost every path collapses.
    assert exponent(0.25) < 0
    assert factor(loss, 0.25).power(2.0).value > 1


def test_nt20_moments_grow_as_stated() -> None:
    rate, d, a = 0.25, 1.5, 0.2
    assert factor(BELL, rate).power(2.0).value == pytest.approx((1 + rate * a) ** 2 + (rate * d) ** 2, rel=1e-10)
    assert np.log(factor(HILL, rate).power(2.0).value) == pytest.approx(0.22, abs=0.01)


def test_collapse_by_naive_simulation() -> None:
    """The mean and variance of log|delta_t|/t are E log|A| and Var log|A|/t: 5 standard errors, false alarm 6e-7.

    The same test rejects log of the mean, log of the root mean square, and the continuous-time rate.
    """
    rate, steps, paths = 0.4, 50, 40_000
    found = factor(BELL, rate)
    random = np.random.default_rng(20251122)
    logs = np.zeros(paths)
    for _ in range(steps):
        logs += np.log(np.abs(1 - rate * (1.5 * random.normal(size=paths) - 0.2)))
    error = logs.std() / np.sqrt(paths) / steps
    mean = logs.mean() / steps
    assert abs(mean - found.lyapunov.value) < 5 * error
    for wrong in (np.log(1.08), np.log(found.power(2.0).value) / 2, 0.08 - (rate * 1.5) ** 2 / 2):
        assert abs(mean - wrong) > 5 * error
    spread = logs.var() / steps
    deviation = ((logs - logs.mean()) ** 2).std() / np.sqrt(paths) / steps
    assert abs(spread - found.log_variance.value) < 5 * deviation


# Every distribution.


def _log_of(noise: str, map_: Callable[[mpmath.mpf], mpmath.mpf], zeros: list[float], power: float | None) -> float:
    """E log|A| or E|A|^q by mpmath, with panels that end where A vanishes."""
    name, _, rest = noise.partition(":")
    numbers = [float(part) for part in rest.split(",")] if rest else []
    density, ends = {
        "uniform": lambda: (lambda x: 1 / mpmath.mpf(numbers[1] - numbers[0]), numbers),
        "laplace": lambda: (lambda x: mpmath.exp(-abs(x)) / 2, [-40, -3, 0, 3, 40]),
        "exponential": lambda: (lambda x: mpmath.exp(-(x + 1)), [-1, 0, 3, 40]),
        "student_t": lambda: (lambda x: _student(x, numbers[0]), [-mpmath.inf, -30, -3, 0, 3, 30, mpmath.inf]),
        "normal": lambda: (mpmath.npdf, [-12, -3, 0, 3, 12]),
    }[name]()
    inside = [z for z in zeros if ends[0] < z < ends[-1]]
    points = sorted({*ends, *inside})

    def integrand(x: mpmath.mpf) -> mpmath.mpf:
        a = abs(map_(x))
        if power is None:
            return mpmath.log(a) * density(x) if a else mpmath.mpf(0)
        return a**power * density(x)

    return float(mpmath.quad(integrand, points))


def _student(x: mpmath.mpf, dof: float) -> mpmath.mpf:
    scale = mpmath.gamma((dof + 1) / 2) / (mpmath.gamma(dof / 2) * mpmath.sqrt(dof * mpmath.pi))
    return scale * (1 + x**2 / dof) ** (-(dof + 1) / 2)


@pytest.mark.parametrize("noise", ["uniform:-1,3", "laplace", "exponential", "student_t:3", "student_t:1", "normal"])
def test_logarithms_and_powers_of_every_distribution(noise: str) -> None:
    rate = 0.8
    found = factor(curvature(noise), rate)
    zeros = [1 / rate]
    assert found.lyapunov.value == pytest.approx(_log_of(noise, lambda x: 1 - rate * x, zeros, None), abs=1e-8)
    expected = _log_of(noise, lambda x: 1 - rate * x, zeros, 0.7)
    assert found.power(0.7).value == pytest.approx(expected, rel=1e-5 if noise == "student_t:1" else 1e-8)


@pytest.mark.parametrize("noise", ["uniform:-1,3", "laplace", "normal"])
def test_curvature_that_is_not_linear_in_the_noise(noise: str) -> None:
    rate = 0.8
    found = factor(curvature(noise, "h**2 - 0.1"), rate)
    zero = np.sqrt(1 / rate + 0.1)
    expected = _log_of(noise, lambda x: 1 - rate * (x**2 - mpmath.mpf("0.1")), [-zero, zero], None)
    assert found.lyapunov.value == pytest.approx(expected, abs=1e-8)
    found = factor(curvature(noise, "exp(h/2) - 1"), rate)
    zero = 2 * np.log(1 + 1 / rate)
    expected = _log_of(noise, lambda x: 1 - rate * (mpmath.exp(x / 2) - 1), [zero], None)
    assert found.lyapunov.value == pytest.approx(expected, abs=1e-8)


def test_uniform_noise_in_closed_form() -> None:
    rate = 0.8
    low, high = 1 - rate * 3, 1 + rate

    def integral(x: float) -> float:
        return x * np.log(abs(x)) - x

    found = factor(curvature("uniform:-1,3"), rate)
    assert found.lyapunov.value == pytest.approx((integral(high) - integral(low)) / (high - low), abs=1e-11)
    for order in (0.5, 2.0, 3.0):
        expected = (high ** (order + 1) + abs(low) ** (order + 1)) / (order + 1) / (high - low)
        assert found.power(order).value == pytest.approx(expected, rel=1e-10)


def test_rows_and_noise_together() -> None:
    """Curvature of a row, plus that of signs, plus normal noise; its Lyapunov exponent in closed form."""
    loss = Loss(
        "(d + 0.5*r + 0.7*z)*t**2/2", ("t",), {}, {"r": Noise.parse("rademacher"), "z": Noise.parse("normal")},
        data=Data({"d": (0.2, -0.4, 1.5)}),
    )  # fmt: skip
    expected = np.mean([bell(0.6, -(d + 0.5 * r), 0.7) for d in (0.2, -0.4, 1.5) for r in (-1, 1)])
    assert factor(loss, 0.6).lyapunov.value == pytest.approx(expected, abs=1e-10)


@pytest.mark.parametrize("sampling", ["replacement", "batch"])
def test_batches_of_rows_by_enumeration(sampling: str) -> None:
    rows = (0.3, -0.4, 1.9, 1.1)
    loss = Loss("d*t**2/2 - e*t", ("t",), {}, {}, data=Data({"d": rows, "e": (1.0, 0.0, -1.0, 2.0)}))
    found = factor(loss, 0.9, Optimizer(batch_size=2, sampling=sampling))
    chosen = itertools.combinations(rows, 2) if sampling == "batch" else itertools.product(rows, repeat=2)
    factors = np.array([1 - 0.9 * np.mean(batch) for batch in chosen])
    assert found.lyapunov.value == pytest.approx(np.log(np.abs(factors)).mean(), rel=1e-12)
    assert found.power(3.0).value == pytest.approx((np.abs(factors) ** 3).mean(), rel=1e-12)
    assert found.log_variance.value == pytest.approx(np.log(np.abs(factors)).var(), rel=1e-12)


@pytest.mark.parametrize("batch", [2, pytest.param(3, marks=pytest.mark.validate)])
def test_batches_of_squares(batch: int) -> None:
    """1 - eta chi^2_B/B of regression: against the density of chi^2; that of one sample is another."""
    rate, half = 0.9, mpmath.mpf(batch) / 2
    loss = curvature("normal", "h**2")
    found = factor(loss, rate, Optimizer(batch_size=batch))
    norm = 2**half * mpmath.gamma(half)

    def integrand(x: mpmath.mpf) -> mpmath.mpf:
        return mpmath.log(abs(1 - rate * x / batch)) * x ** (half - 1) * mpmath.exp(-x / 2) / norm

    zero = batch / rate
    expected = float(mpmath.quad(integrand, [0, zero, 2 * zero, 20, 80]))
    assert abs(found.lyapunov.value - expected) <= min(found.lyapunov.error, 5e-3)
    assert found.lyapunov.value != pytest.approx(factor(loss, rate).lyapunov.value, abs=1e-2)
    square = 1 - 2 * rate + rate**2 * (1 + 2 / batch)
    assert found.power(2.0).value == pytest.approx(square, rel=1e-10)


def test_noise_of_a_batch_that_enters_through_its_mean() -> None:
    """Normal curvature noise of a batch of 4 has half the spread."""
    found = factor(BELL, 0.4, Optimizer(batch_size=4))
    assert found.lyapunov.value == pytest.approx(bell(0.4, d=0.75), abs=1e-10)


def test_weight_decay() -> None:
    """E log|1 - eta lam - eta h|, coupled and decoupled alike."""
    for kind in ("weight_decay", "decoupled_weight_decay"):
        found = factor(BELL, 0.4, Optimizer("sgd", {kind: 0.5}))
        assert found.lyapunov.value == pytest.approx(bell(0.4, a=0.2 - 0.5), abs=1e-10)


def test_the_curvature_at_the_minimum() -> None:
    """A quartic whose curvature depends on where one is: at +-1 it is 2 + h."""
    loss = Loss(
        "t**4/4 - t**2/2 + h*(t**2 - 1)**2/8 + 0.1*e*t",
        ("t",),
        {},
        {"h": Noise.parse("normal"), "e": Noise.parse("normal")},
    )
    found = factor(loss, 0.5, start=0.8)
    assert found.lyapunov.value == pytest.approx(bell(0.5, a=-2.0, d=1.0), abs=1e-8)
    run = Run(loss, Optimizer(), Schedule("0.5"), {"t": 0.8}, 10, 10)
    assert multiplier(run, 0.0).lyapunov.value == pytest.approx(bell(0.5, a=1.0, d=0.5), abs=1e-8)


def test_gradient_descent_has_no_spread() -> None:
    found = factor(BELL, 0.4, Optimizer("gradient_descent"))
    assert found.lyapunov.value == pytest.approx(np.log(1.08))
    assert found.log_variance.value == pytest.approx(0.0, abs=1e-15)


def test_a_factor_of_zero_is_the_end_of_a_path() -> None:
    found = factor(curvature("table:1@0.5,3@0.5"), 1.0)
    assert found.lyapunov.value == -np.inf
    assert found.power(2.0).value == pytest.approx(2.0)
    assert found.kesten.value == pytest.approx(1.0, rel=1e-9)  # E|A|^k = 2^k/2


# The exponent of the tail


@pytest.mark.parametrize(
    ("rate", "figure"),
    [(0.3, 5.306), (0.4, 3.806), (0.5, 2.904), (2 / 3, 2.0), (0.8, 1.546), (1.0, 1.091), (1.5, 0.477)],
)
def test_nt28_tails_of_regression(rate: float, figure: float) -> None:
    found = factor(REGRESSION, rate).kesten
    assert found.value == pytest.approx(figure, abs=6e-4)
    assert found.error < 1e-8
    ends = [0, 1 / np.sqrt(rate), 3, 14]
    norm = 2 * mpmath.quad(lambda x: abs(1 - rate * x**2) ** found.value * mpmath.npdf(x), ends)
    assert float(norm) == pytest.approx(1.0, abs=1e-9)


@pytest.mark.parametrize(("mean", "std", "figure"), [(0.3, 0.9, 2.306), (0.0, 1.2, 1.160), (0.5, np.sqrt(0.75), 2.0)])
def test_nt28_a_bell(mean: float, std: float, figure: float) -> None:
    """s^k 2^(k/2) Gamma((k+1)/2)/sqrt(pi) 1F1(-k/2; 1/2; -mu^2/(2 s^2)) = 1; k = 2 where mu^2 + s^2 = 1."""
    found = factor(curvature(f"normal:{1 - mean},{std}"), 1.0).kesten.value
    assert found == pytest.approx(figure, abs=6e-4)
    k = mpmath.mpf(float(found))
    size = std**k * 2 ** (k / 2) * mpmath.gamma((k + 1) / 2) / mpmath.sqrt(mpmath.pi)
    size *= mpmath.hyp1f1(-k / 2, 0.5, -(mean**2) / (2 * std**2))
    assert float(size) == pytest.approx(1.0, abs=1e-9)


@pytest.mark.parametrize(("m", "s"), [(0.75, 1.0), (0.1, 0.5), (1.0, 3.0)])
def test_nt28_a_lognormal_factor(m: float, s: float) -> None:
    """A = exp(N(-m, s^2)): kappa = 2 m/s^2, E log A = -m, Var log A = s^2."""
    found = factor(curvature(f"lognormal:{-m},{s}", "1 - h"), 1.0)
    assert found.lyapunov.value == pytest.approx(-m, abs=1e-9)
    assert found.log_variance.value == pytest.approx(s**2, rel=1e-8)
    assert found.kesten.value == pytest.approx(2 * m / s**2, rel=1e-8)


@pytest.mark.parametrize("q", [0.6, 0.8])
def test_nt28_two_points(q: float) -> None:
    """A in {2, 1/2}: kappa = log2(q/(1 - q))."""
    loss = curvature(f"table:-1@{1 - q},0.5@{q}")
    assert factor(loss, 1.0).kesten.value == pytest.approx(np.log2(q / (1 - q)), rel=1e-10)


def test_the_variance_ends_where_kappa_is_2() -> None:
    """The second moment and the exponent of the tail together: E A^2 = 1 - 2 eta + 3 eta^2 = 1 at eta = 2/3."""
    assert factor(REGRESSION, 2 / 3).power(2.0).value == pytest.approx(1.0, rel=1e-11)
    assert factor(REGRESSION, 0.66).kesten.value > 2 > factor(REGRESSION, 0.67).kesten.value


def test_where_there_is_no_tail() -> None:
    with pytest.raises(NotApplicable, match="not negative"):
        _ = factor(BELL, 0.1).kesten
    with pytest.raises(NotApplicable, match="no power-law tail"):
        _ = factor(curvature("uniform:0.5,1.5"), 0.5).kesten
    with pytest.raises(NotApplicable, match="no power-law tail"):
        _ = factor(curvature("uniform:0.5,1.5"), 1.0).kesten


@pytest.mark.parametrize(
    ("loss", "optimizer", "message"),
    [
        (Loss("x**2 + y**2", ("x", "y")), Optimizer(), "expected one"),
        (BELL, Optimizer("momentum"), "plain sgd"),
        (BELL, Optimizer(preconditioner=("2",)), "preconditioner"),
        (Loss("d*t**2", ("t",), data=Data({"d": (0.0, 1.0)})), Optimizer(sampling="epoch"), "shuffled"),
        (REGRESSION, Optimizer(batch_size=16), "noise variables"),
    ],
)
def test_where_there_is_no_multiplier(loss: Loss, optimizer: Optimizer, message: str) -> None:
    with pytest.raises(NotApplicable, match=message):
        factor(loss, 0.1, optimizer)


def test_which_moments_are_left() -> None:
    assert tail_moments(0.9).startswith("not even")
    assert tail_moments(4.5).startswith("moments up to")
    assert "without a standard error" in tail_moments(3.0)
    with pytest.raises(InputError, match="positive"):
        tail_moments(-1.0)
