"""Exact moments against sums over all paths: every batch, and noise by Gauss rules that have its moments exactly."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import pytest

from sgdsim.model.data import Data
from sgdsim.model.loss import Loss
from sgdsim.model.losses import CATALOGUE
from sgdsim.model.noise import Noise
from sgdsim.model.optimizers import Optimizer
from sgdsim.model.run import Run
from sgdsim.model.schedules import Schedule
from sgdsim.prediction import NotApplicable
from sgdsim.theory import find_law
from sgdsim.theory.methods.moment_recursion import StateMoments, is_affine, recursion

Slope = Callable[[np.ndarray], np.ndarray]  # gradients (path, parameter) of a batch

# Five nodes have the moments of the normal law up to order 9, of the uniform law likewise.
_HERMITE = np.polynomial.hermite_e.hermegauss(5)
NORMAL = [(float(z), float(w / _HERMITE[1].sum())) for z, w in zip(*_HERMITE, strict=True)]
_LEGENDRE = np.polynomial.legendre.leggauss(5)
UNIFORM = [(float(z), float(w / 2)) for z, w in zip(*_LEGENDRE, strict=True)]
SIGNS = [(-1.0, 0.5), (1.0, 0.5)]
SKEWED = [(-2.0, 0.25), (0.5, 0.5), (1.0, 0.25)]


@dataclass(frozen=True)
class Case:
    """A loss with the gradient of one sample, spelled out, and what a sample may be."""

    loss: Loss
    slope: Callable[[np.ndarray, Sequence[float]], np.ndarray]
    samples: Sequence[tuple[tuple[float, ...], float]]


def _noise_case(text: str, atoms: Sequence[tuple[float, float]], multiplicative: bool) -> Case:
    """Noise z in the slope, and where it is multiplicative in the curvature of x too."""
    formula = "(1.1*x**2 + 0.6*x*y + 0.7*y**2)/2 + 0.4*x - 0.2*y + 0.8*z*x + 0.3*z*y"
    share = 0.5 if multiplicative else 0.0
    loss = Loss(f"{formula} + {share}*z*x**2/2", ("x", "y"), {}, {"z": Noise.parse(text)})

    def slope(theta: np.ndarray, sample: Sequence[float]) -> np.ndarray:
        (z,), (x, y) = sample, theta.T
        return np.stack([1.1 * x + 0.3 * y + 0.4 + 0.8 * z + share * z * x, 0.3 * x + 0.7 * y - 0.2 + 0.3 * z], axis=1)

    return Case(loss, slope, [((z,), share) for z, share in atoms])


ROWS = ((0.9, 0.3, 1.2), (-0.7, 1.1, 0.4), (0.2, -1.3, -0.9), (1.4, 0.6, 0.1))


def _data_case() -> Case:
    columns = {name: tuple(row[i] for row in ROWS) for i, name in enumerate(("p", "q", "t"))}
    loss = Loss("(p*x + q*y - t)**2/2", ("x", "y"), data=Data(columns))

    def slope(theta: np.ndarray, sample: Sequence[float]) -> np.ndarray:
        p, q, t = sample
        return np.outer(p * theta[:, 0] + q * theta[:, 1] - t, [p, q])

    return Case(loss, slope, [(row, 0.25) for row in ROWS])


CASES = {
    "additive normal": _noise_case("normal", NORMAL, False),
    "multiplicative normal": _noise_case("normal", NORMAL, True),
    "additive signs": _noise_case("rademacher", SIGNS, False),
    "multiplicative signs": _noise_case("rademacher", SIGNS, True),
    "multiplicative uniform": _noise_case("uniform:-1,1", UNIFORM, True),
    "multiplicative skewed": _noise_case("table:-2@0.25,0.5@0.5,1@0.25", SKEWED, True),
    "data": _data_case(),
}


def batches(case: Case, optimizer: Optimizer) -> list[tuple[tuple[tuple[float, ...], ...], float]]:
    """Every batch there is, with its probability."""
    if optimizer.name == "gradient_descent":
        return [((), 1.0)]
    size = optimizer.batch_size
    if optimizer.sampling == "batch":
        chosen = list(itertools.combinations(case.samples, size))
        return [(tuple(sample for sample, _ in batch), 1 / len(chosen)) for batch in chosen]
    drawn = itertools.product(case.samples, repeat=size)
    return [(tuple(s for s, _ in batch), float(np.prod([p for _, p in batch]))) for batch in drawn]


def mean_slope(case: Case, theta: np.ndarray, batch: Sequence[Sequence[float]]) -> np.ndarray:
    if batch:
        return np.asarray(np.mean([case.slope(theta, sample) for sample in batch], axis=0))
    return np.asarray(sum(share * case.slope(theta, sample) for sample, share in case.samples))


def after_step(
    optimizer: Optimizer, metric: np.ndarray, theta: np.ndarray, v: np.ndarray, g: np.ndarray, rate: float, first: bool
) -> tuple[np.ndarray, np.ndarray]:
    """One step of every linear rule, written by hand."""
    values = optimizer.values
    b = values.get("momentum", 0.0)
    g = g + values["weight_decay"] * theta
    if optimizer.name == "momentum":
        v = b * v + g
        way = v
    elif optimizer.name == "nesterov":
        v = b * v + g
        way = g + b * v
    elif optimizer.name == "ema":
        v = g if first else b * v + (1 - b) * g
        way = v
    else:
        way = g
    return theta - rate * way @ metric.T - rate * values["decoupled_weight_decay"] * theta, v


def paths(case: Case, run: Run, metric: np.ndarray, steps: int) -> tuple[np.ndarray, np.ndarray]:
    """The states on all paths, (path, theta and velocities), and their probabilities."""
    optimizer, rates = run.optimizer, run.schedule.rates(run.steps)
    starts = list(itertools.product(NORMAL, SIGNS))
    theta = np.array([[0.7 + 0.4 * z, -0.3 + 0.5 * s] for (z, _), (s, _) in starts])
    weights = np.array([p * q for (_, p), (_, q) in starts])
    v = np.zeros_like(theta)
    kicks = [((a, b), p * q) for (a, p), (b, q) in itertools.product(NORMAL[1:4], repeat=2)]
    if optimizer.name == "langevin":  # three nodes have the moments up to order 5
        nodes = [(-np.sqrt(3), 1 / 6), (0.0, 2 / 3), (np.sqrt(3), 1 / 6)]
        kicks = [((a, b), p * q) for (a, p), (b, q) in itertools.product(nodes, repeat=2)]
    else:
        kicks = [((0.0, 0.0), 1.0)]
    for step in range(steps):
        found = []
        for batch, share in batches(case, optimizer):
            g = mean_slope(case, theta, batch)
            moved, velocity = after_step(optimizer, metric, theta, v, g, rates[step], step == 0)
            size = np.sqrt(2 * rates[step] * optimizer.values.get("temperature", 0.0))
            found += [(moved + size * np.array(kick), velocity, weights * share * p) for kick, p in kicks]
        theta, v, weights = (np.concatenate(parts) for parts in zip(*found, strict=True))
    return np.hstack([theta, v]), weights


def make_run(case: Case, optimizer: Optimizer, rate: str = "cosine:0.5,0.1", steps: int = 4) -> Run:
    starts = {"x": Noise.parse("normal:0.7,0.4"), "y": Noise.parse("table:-0.8@0.5,0.2@0.5")}
    return Run(case.loss, optimizer, Schedule(rate), starts, 1000, steps)


def worst_moment(moments: StateMoments, states: np.ndarray, weights: np.ndarray) -> float:
    """The largest deviation of all moments to order 4, in units of the moment of the magnitudes."""
    n = len(moments.names)
    about = states[:, :n] - np.array([moments.centre.get(name, 0.0) for name in moments.names])
    worst = 0.0
    for powers, value in moments.values.items():
        monomial = np.prod(about ** np.array(powers), axis=1)
        worst = max(worst, abs(weights @ monomial - value) / (weights @ np.abs(monomial)))
    return float(worst)


OPTIMIZERS = {
    "sgd": Optimizer("sgd", {"weight_decay": 0.1, "decoupled_weight_decay": 0.2}),
    "momentum": Optimizer("momentum", {"momentum": 0.6, "weight_decay": 0.1, "decoupled_weight_decay": 0.2}),
    "nesterov": Optimizer("nesterov", {"momentum": 0.6, "weight_decay": 0.1, "decoupled_weight_decay": 0.2}),
    "ema": Optimizer("ema", {"momentum": 0.6, "weight_decay": 0.1, "decoupled_weight_decay": 0.2}),
    "gradient_descent": Optimizer("gradient_descent", {"weight_decay": 0.1}),
    "langevin": Optimizer("langevin", {"temperature": 0.7, "weight_decay": 0.1}),
}
METRIC = np.array([[1.2, 0.3], [0.1, 0.8]])
ROWS_OF_METRIC = (("1.2", "0.3"), ("0.1", "0.8"))
FEW = {"additive normal": 3, "multiplicative normal": 3, "multiplicative uniform": 3, "data": 3}


@pytest.mark.parametrize("rule", OPTIMIZERS)
def test_every_linear_optimizer_after_three_steps_of_a_schedule(rule: str) -> None:
    case, optimizer = CASES["multiplicative skewed"], OPTIMIZERS[rule]
    run = make_run(case, optimizer)
    steps = 2 if rule == "langevin" else 3
    states, weights = paths(case, run, np.eye(2), steps)
    law = recursion(run, 3 if rule in ("nesterov", "ema") else 4)  # to order 4 in the full product
    assert worst_moment(law.after(steps), states, weights) < 1e-12
    assert worst_moment(law.after(steps - 1), states, weights) > 1e-3


@pytest.mark.parametrize("name", [name for name in CASES if name != "data"])
def test_every_noise_after_four_steps(name: str) -> None:
    case, steps = CASES[name], FEW.get(name, 4)
    run = make_run(case, Optimizer())
    states, weights = paths(case, run, np.eye(2), steps)
    assert worst_moment(recursion(run).after(steps), states, weights) < 1e-12


@pytest.mark.parametrize("rule", ["sgd", "nesterov"])
def test_a_dense_preconditioner_that_is_not_symmetric(rule: str) -> None:
    case = CASES["multiplicative signs"]
    values = {"weight_decay": 0.1, "decoupled_weight_decay": 0.2}
    run = make_run(case, Optimizer(rule, values, preconditioner=ROWS_OF_METRIC))
    states, weights = paths(case, run, METRIC, 4)
    moments = recursion(run, 4 if rule == "sgd" else 2).after(4)
    assert worst_moment(moments, states, weights) < 1e-12
    wrong, weights = paths(case, run, METRIC.T, 4)
    assert worst_moment(moments, wrong, weights) > 1e-4


def test_a_metric_is_the_inverse() -> None:
    case, metric = CASES["additive signs"], np.array([[2.0, 0.5], [0.5, 1.0]])
    run = make_run(case, Optimizer(metric=(("2", "0.5"), ("0.5", "1"))))
    states, weights = paths(case, run, np.linalg.inv(metric), 4)
    assert worst_moment(recursion(run).after(4), states, weights) < 1e-12


@pytest.mark.parametrize(
    ("sampling", "size"),
    [("batch", 2), *(pytest.param(*case, marks=pytest.mark.validate) for case in (("replacement", 2), ("batch", 3)))],
)
def test_batches_of_rows(sampling: str, size: int) -> None:
    """All batches of N = 4 rows over 3 steps; moments to order 4."""
    case = CASES["data"]
    run = make_run(case, Optimizer(batch_size=size, sampling=sampling))
    states, weights = paths(case, run, np.eye(2), 3)
    moments = recursion(run).after(3)
    assert worst_moment(moments, states, weights) < 1e-12
    other = "batch" if sampling == "replacement" else "replacement"
    wrong = paths(case, make_run(case, Optimizer(batch_size=size, sampling=other)), np.eye(2), 3)
    assert worst_moment(moments, *wrong) > 1e-3


@pytest.mark.parametrize(("sampling", "size"), [("batch", 3), ("batch", 4), ("batch", 5), ("replacement", 3)])
def test_larger_batches_of_rows_in_one_dimension(sampling: str, size: int) -> None:
    """Three and four different rows in one moment, of N = 5, over two steps: moments to order 4."""
    rows = ((0.9, 1.2), (-0.7, 0.4), (1.4, -0.9), (0.2, 2.0), (1.1, -1.5))
    columns = {name: tuple(row[i] for row in rows) for i, name in enumerate("pt")}
    loss = Loss("(p*x - t)**2/2", ("x",), data=Data(columns))
    run = Run(loss, Optimizer(batch_size=size, sampling=sampling), Schedule("0.6"), {"x": 0.3}, 10, 2)
    chosen = itertools.combinations(rows, size) if sampling == "batch" else itertools.product(rows, repeat=size)
    factors = [np.mean([(p * p, p * t) for p, t in batch], axis=0) for batch in chosen]
    x = np.array([0.3])
    for _ in range(2):
        x = np.concatenate([x - 0.6 * (a * x - b) for a, b in factors])
    assert worst_moment(recursion(run).after(2), x[:, None], np.full(len(x), 1 / len(x))) < 1e-12


def test_the_full_batch_is_gradient_descent() -> None:
    case = CASES["data"]
    law = recursion(make_run(case, Optimizer(batch_size=4, sampling="batch")), 2).after(4)
    states, weights = paths(case, make_run(case, Optimizer("gradient_descent")), np.eye(2), 4)
    assert worst_moment(law, states, weights) < 1e-12


@pytest.mark.parametrize("name", ["multiplicative skewed"])
def test_batches_of_independent_samples(name: str) -> None:
    case = CASES[name]
    run = make_run(case, Optimizer(batch_size=3))
    states, weights = paths(case, run, np.eye(2), 2)
    assert worst_moment(recursion(run).after(2), states, weights) < 1e-12
    single = paths(case, make_run(case, Optimizer()), np.eye(2), 2)
    assert worst_moment(recursion(run).after(2), *single) > 1e-3


def test_momentum_with_batches_of_rows() -> None:
    case = CASES["data"]
    optimizer = Optimizer("momentum", {"momentum": 0.7, "weight_decay": 0.1}, batch_size=2, sampling="batch")
    run = make_run(case, optimizer)
    states, weights = paths(case, run, np.eye(2), 3)
    assert worst_moment(recursion(run, 2).after(3), states, weights) < 1e-12


def test_cumulants_and_covariances_of_the_moments() -> None:
    case = CASES["multiplicative skewed"]
    run = make_run(case, Optimizer())
    states, weights = paths(case, run, np.eye(2), 3)
    moments = recursion(run).after(3)
    mean = weights @ states[:, :2]
    x, y = (states[:, :2] - mean).T
    m2, m3, m4 = (weights @ x**k for k in (2, 3, 4))
    np.testing.assert_allclose(moments.cumulants("x"), [mean[0], m2, m3, m4 - 3 * m2**2], rtol=1e-10)
    assert moments.covariance("x", "y") == pytest.approx(weights @ (x * y), rel=1e-11)
    assert moments.mean("y") == pytest.approx(mean[1], rel=1e-12)


# The stationary law.


@pytest.mark.parametrize("rule", ["sgd", "momentum", "nesterov", "ema", "langevin"])
def test_the_stationary_law_is_where_the_recursion_ends(rule: str) -> None:
    case = CASES["multiplicative skewed"]
    order = 3 if rule in ("nesterov", "ema") else 4  # as above, which is remembered
    law = recursion(make_run(case, OPTIMIZERS[rule], "0.25", steps=600), order)
    ended, at_rest = law.after(600), law.stationary()
    scale = max(1.0, *map(abs, ended.values.values()))
    for powers, value in at_rest.values.items():
        if sum(powers) == order == 3:
            assert np.isnan(value)
            continue
        assert ended.values[powers] == pytest.approx(value, abs=1e-10 * scale)


H = np.array([[1.0, 0.3], [0.3, 2.0]])
C = np.array([[1.0, 0.5], [0.5, 0.6]])


def _quadratic() -> Loss:
    """Curvature H, noise of covariance C, which do not commute."""
    factor = np.linalg.cholesky(C)
    noise = {"n[0]": Noise.parse("normal"), "n[1]": Noise.parse("normal")}
    shake = f"({factor[0, 0]!r})*n[0]*x + (({factor[1, 0]!r})*n[0] + ({factor[1, 1]!r})*n[1])*y".replace(
        "np.float64", ""
    )
    return Loss(f"(x**2 + 0.6*x*y + 2*y**2)/2 + {shake}", ("x", "y"), {}, noise)


def test_nt26_the_discrete_lyapunov_equation() -> None:
    run = Run(_quadratic(), Optimizer(), Schedule("0.5"), {"x": 0.0, "y": 0.0}, 1000, 10)
    law = recursion(run, 2).stationary()
    s = np.array([[law.covariance(a, b) for a in "xy"] for b in "xy"])
    np.testing.assert_allclose(s @ H + H @ s - 0.5 * H @ s @ H, 0.5 * C, atol=1e-13)
    np.testing.assert_allclose([s[0, 0], s[0, 1], s[1, 1]], [0.31734, 0.10353, 0.15714], atol=6e-6)  # the handbook's
    # The continuous-time equation S H + H S = eta C, and its figures in the handbook.
    assert np.abs(s @ H + H @ s - 0.5 * C).max() > 0.05


def test_nt26_momentum() -> None:
    run = Run(_quadratic(), Optimizer("momentum", {"momentum": 0.6}), Schedule("0.3"), {"x": 0.0, "y": 0.0}, 1000, 10)
    law = recursion(run, 2).stationary()
    found = [law.covariance("x", "x"), law.covariance("x", "y"), law.covariance("y", "y")]
    np.testing.assert_allclose(found, [0.36795, 0.06378, 0.14979], atol=6e-6)
    zero = np.zeros((2, 2))
    f = np.block([[np.eye(2) - 0.3 * H, 0.6 * np.eye(2)], [-0.3 * H, 0.6 * np.eye(2)]])
    kick = 0.3**2 * np.block([[C, C], [C, C]])
    s = np.block([[zero, zero], [zero, zero]])
    for _ in range(500):
        s = f @ s @ f.T + kick
    np.testing.assert_allclose(found, [s[0, 0], s[0, 1], s[1, 1]], rtol=1e-12)


@pytest.mark.parametrize(("rate", "b", "h"), [(0.3, 0.8, 2.0), (0.7, 0.3, 1.5), (0.05, 0.95, 4.0)])
def test_nt26_momentum_of_one_mode(rate: float, b: float, h: float) -> None:
    """Var theta = eta c (1 + b)/(h (1 - b)(2(1 + b) - eta h)), Var v = 2 eta^2 c/((1 - b)(2(1 + b) - eta h))."""
    loss = Loss("h*x**2/2 + z*x", ("x",), {"h": h}, {"z": Noise.parse("normal")})
    run = Run(loss, Optimizer("momentum", {"momentum": b}), Schedule(repr(rate)), {"x": 0.0}, 1000, 10)
    law, below = recursion(run, 2).stationary(), 2 * (1 + b) - rate * h
    assert law.variance("x") == pytest.approx(rate * (1 + b) / (h * (1 - b) * below), rel=1e-12)
    # The handbook's v is the displacement, the velocity here is it over -eta.
    assert rate**2 * law.variance("velocity of x") == pytest.approx(2 * rate**2 / ((1 - b) * below), rel=1e-12)
    assert law.variance("x") != pytest.approx(rate / (2 * h * (1 - b)), rel=1e-3)  # continuous time


@pytest.mark.parametrize(("b", "limit"), [(0.0, 2.0), (0.5, 3.0), (0.9, 3.8)])
def test_momentum_is_stable_below_its_bound(b: float, limit: float) -> None:
    loss = Loss("x**2/2 + z*x", ("x",), {}, {"z": Noise.parse("normal")})
    run = Run(loss, Optimizer("momentum", {"momentum": b}), Schedule("0.1"), {"x": 0.0}, 1000, 10)
    law = recursion(run, 2)
    for order in (1, 2):
        assert law.radius(order, limit - 1e-3) < 1 < law.radius(order, limit + 1e-3)


@pytest.mark.parametrize(("dimension", "batch"), [(1, 1), (1, 4), (2, 1), (3, 2)])
def test_nt27_regression_and_where_its_variance_ends(dimension: int, batch: int) -> None:
    """Var = (eta sigma^2/B)/(2 - eta a (1 + (d + 1)/B)), infinite from eta a (1 + (d + 1)/B) = 2 on."""
    width = 0.8
    loss = CATALOGUE["linear_regression"]([1.0] * dimension, f"normal:0,{width}", constants={"sigma": 0.7})
    a = width**2
    limit = 2 / (a * (1 + (dimension + 1) / batch))

    def variance(share: float) -> float:
        run = Run(
            loss,
            Optimizer(batch_size=batch),
            Schedule(repr(share * limit)),
            dict.fromkeys(loss.parameters, 0.0),
            10,
            10,
        )
        return recursion(run, 2).stationary().variance(loss.parameters[0])

    for share in (0.3, 0.9, 0.9999):
        rate = share * limit
        expected = rate * 0.49 / batch / (2 - rate * a * (1 + (dimension + 1) / batch))
        assert variance(share) == pytest.approx(expected, rel=1e-8)
        assert variance(share) != pytest.approx(
            rate * 0.49 / batch / (2 - rate * a * (1 + dimension / batch)), rel=1e-2
        )
    assert variance(1.0001) == np.inf
    assert variance(1.1) == np.inf


@pytest.mark.parametrize(("d", "rate", "batch", "figure"), [(1, 0.3, 1, 0.27273), (1, 0.5, 4, 0.1), (3, 0.2, 1, 0.6)])
def test_nt27_figures_of_the_handbook(d: int, rate: float, batch: int, figure: float) -> None:
    loss = CATALOGUE["linear_regression"]([0.0] * d)
    run = Run(loss, Optimizer(batch_size=batch), Schedule(repr(rate)), dict.fromkeys(loss.parameters, 0.0), 10, 10)
    law = recursion(run, 2).stationary()
    assert sum(law.variance(name) for name in loss.parameters) == pytest.approx(figure, abs=5e-6)


def test_nt27_anisotropic_inputs() -> None:
    """S A + A S - eta [(1 + 1/B) A S A + Tr(A S) A/B] = eta sigma^2 A/B."""
    a, rate, batch = np.array([[1.0, 0.4], [0.4, 0.5]]), 0.35, 2
    loss = CATALOGUE["linear_regression"]([1.0, 0.0], covariance=a.tolist(), constants={"sigma": 0.9})
    run = Run(loss, Optimizer(batch_size=batch), Schedule(repr(rate)), dict.fromkeys(loss.parameters, 0.0), 10, 10)
    law = recursion(run, 2).stationary()
    s = np.array([[law.covariance(i, j) for i in loss.parameters] for j in loss.parameters])
    left = s @ a + a @ s - rate * ((1 + 1 / batch) * a @ s @ a + np.trace(a @ s) * a / batch)
    np.testing.assert_allclose(left, rate * 0.81 * a / batch, rtol=1e-9)
    without = s @ a + a @ s - rate * ((1 + 1 / batch) * a @ s @ a)
    assert np.abs(without - rate * 0.81 * a / batch).max() > 1e-2


def test_which_moments_the_stationary_law_has() -> None:
    """Moments of order k exist where E|1 - eta x^2|^k < 1: kappa = 5.3, 3.8, 2.9, 1.5 at these rates."""

    def cumulants(rate: float) -> tuple[float, ...]:
        loss = CATALOGUE["linear_regression"]([0.0])
        return (
            recursion(Run(loss, Optimizer(), Schedule(repr(rate)), {"w[0]": 0.0}, 10, 10))
            .stationary()
            .cumulants("w[0]")
        )

    assert np.isfinite(cumulants(0.3)).all()
    for rate in (0.4, 0.5):  # no fourth moment; whether there is a third is not known from signed moments
        mean, variance, third, fourth = cumulants(rate)
        assert np.isfinite([mean, variance]).all()
        assert np.isnan(third)
        assert not np.isfinite(fourth)
    assert cumulants(0.8)[1] == np.inf


def test_signed_third_moments_do_not_pass_for_absolute_ones() -> None:
    """A ~ N(0, 0.9^2): E A^3 = 0 is below 1, E|A|^3 = 1.16 is not, so that delta has no third moment."""
    loss = Loss(
        "(1 - a)*x**2/2 - e*x",
        ("x",),
        {},
        {n: Noise.parse(t) for n, t in (("a", "normal:0,0.9"), ("e", "exponential"))},
    )
    law = recursion(Run(loss, Optimizer(), Schedule("1"), {"x": 0.0}, 10, 10))
    assert law.radius(3, 1.0) < 1 < law.radius(4, 1.0)
    assert 0.9**3 * 2 * np.sqrt(2 / np.pi) > 1
    assert np.isnan(law.stationary().cumulants("x")[2])
    assert law.stationary().variance("x") == pytest.approx(1 / (1 - 0.81))


def test_nt14_random_curvature_of_one_mode_by_naive_simulation() -> None:
    """Variance and fourth cumulant within 5 standard errors (false alarm 6e-7 each); continuous time is rejected."""
    loss = Loss("h*x**2/2 - e*x", ("x",), {}, {"h": Noise.parse("uniform:0.4,1.6"), "e": Noise.parse("laplace")})
    law = recursion(Run(loss, Optimizer(), Schedule("0.6"), {"x": 1.0}, 10, 40)).after(40)
    random = np.random.default_rng(20251122)
    x = np.ones(200_000)
    for _ in range(40):
        x -= 0.6 * (random.uniform(0.4, 1.6, x.shape) * x - random.laplace(size=x.shape))
    for power in (1, 2, 3, 4):
        raw = x**power
        error = raw.std() / np.sqrt(len(x))
        expected = _raw(law, power)
        assert abs(raw.mean() - expected) < 5 * error
    square = x**2
    assert abs(square.mean() - 0.6 * 2 / 2) > 5 * square.std() / np.sqrt(len(x))


def _raw(moments: StateMoments, power: int) -> float:
    from math import comb

    centre = moments.centre["x"]
    return sum(comb(power, k) * centre ** (power - k) * moments.values[(k,)] for k in range(power + 1))


# Where there is no recursion.


def test_which_gradients_are_affine() -> None:
    noise = {"z": Noise.parse("normal")}
    assert is_affine(Loss("(z*x - y)**2 + abs(z)*x", ("x", "y"), {}, noise))
    assert is_affine(Loss("(x + y)**3 - x**3 - y**3 - 3*x*y*(x + y)", ("x", "y")))  # nothing is left of it
    assert not is_affine(Loss("(x + y*z)**3", ("x", "y"), {}, noise))
    assert not is_affine(Loss("abs(x - z)", ("x",), {}, noise))
    assert not is_affine(Loss("where(x < 1, x**2, 2*x - 1)", ("x",)))


SIMPLE = Loss("(x - d)**2/2", ("x",), data=Data({"d": (0.0, 1.0, 4.0)}))


@pytest.mark.parametrize(
    ("loss", "optimizer", "message"),
    [
        (SIMPLE, Optimizer("adam"), "not linear"),
        (SIMPLE, Optimizer(sampling="epoch"), "epoch"),
        (SIMPLE, Optimizer(preconditioner=("1 + x**2",)), "depends on the parameters"),
        (Loss("x**4", ("x",)), Optimizer(), "not affine"),
        (Loss("x**2/2 + x*z", ("x",), {}, {"z": Noise.parse("student_t:3")}), Optimizer(), "does not exist"),
        (Loss("cos(z)*x", ("x",), {}, {"z": Noise.parse("normal")}), Optimizer("gradient_descent"), "closed form"),
        (
            Loss("(x - d - z)**2/2", ("x",), {}, {"z": Noise.parse("normal")}, data=SIMPLE.data),
            Optimizer(batch_size=2, sampling="batch"),
            "beside other noise",
        ),
        (Loss("norm2(x)", tuple(f"x[{i}]" for i in range(12))), Optimizer(), "too many"),
    ],
)  # fmt: skip
def test_where_there_is_no_recursion(loss: Loss, optimizer: Optimizer, message: str) -> None:
    run = Run(loss, optimizer, Schedule("0.1"), dict.fromkeys(loss.parameters, 0.0), 10, 10)
    with pytest.raises(NotApplicable, match=message):
        recursion(run)


def test_a_mean_that_does_not_come_to_rest() -> None:
    run = Run(Loss("x**2/2 + z*y", ("x", "y"), {}, {"z": Noise.parse("normal")}), Optimizer(), Schedule("0.1"),
              {"x": 0.0, "y": 0.0}, 10, 10)  # fmt: skip
    with pytest.raises(NotApplicable, match="does not come to rest"):
        recursion(run, 2).stationary()
    assert recursion(run, 2).after(10).variance("y") == pytest.approx(0.1)


def test_numerical_moments_of_the_gradient() -> None:
    """Noise that enters through its cosine: by Gauss-Hermite sums over two steps."""
    loss = Loss("x**2/2 + cos(z)*x", ("x",), {}, {"z": Noise.parse("normal")})
    run = Run(loss, Optimizer(), Schedule("0.4"), {"x": 0.5}, 10, 2)
    nodes, weights = np.polynomial.hermite_e.hermegauss(60)
    weights = weights / weights.sum()
    one = 0.5 - 0.4 * (0.5 + np.cos(nodes))
    two = (one[:, None] * 0.6 - 0.4 * np.cos(nodes)).ravel()
    share = np.outer(weights, weights).ravel()
    mean = share @ two
    moments = recursion(run).after(2)
    assert moments.mean("x") == pytest.approx(mean, rel=1e-11)
    assert moments.variance("x") == pytest.approx(share @ (two - mean) ** 2, rel=1e-10)
    assert moments.cumulants("x")[2] == pytest.approx(share @ (two - mean) ** 3, rel=1e-8)


@pytest.mark.validate
@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("rule", OPTIMIZERS)
def test_the_full_product_of_optimizers_and_noise(rule: str, name: str) -> None:
    case, optimizer = CASES[name], OPTIMIZERS[rule]
    run, steps = make_run(case, optimizer), 2
    states, weights = paths(case, run, np.eye(2), steps)
    assert worst_moment(recursion(run).after(steps), states, weights) < 1e-12


def test_lower_moments_stand_where_higher_ones_overflow() -> None:
    """x is a product of independent factors: E x^k = (E (1 - eta (a + s xi))^k)^n, and only some are floats."""
    loss = Loss("(a + s*xi)*x**2/2", ("x",), {"a": 1.0, "s": 1.0}, {"xi": Noise.parse("normal")})
    run = Run(loss, Optimizer(), Schedule("10"), {"x": 2.0}, 1000, 100)
    found = recursion(run).after(100)
    assert found.mean("x") == pytest.approx(2.0 * 81.0**50, rel=1e-12)
    assert found.variance("x") == pytest.approx(4.0 * (181.0**100 - 81.0**100), rel=1e-12)
    assert found.cumulants("x")[3] == np.inf
    longer = Run(loss, Optimizer(), Schedule("10"), {"x": 2.0}, 1000, 150)
    assert recursion(longer).after(150).mean("x") == pytest.approx(2.0 * 9.0**150, rel=1e-12)
    assert recursion(longer).after(150).variance("x") == np.inf
    longest = Run(loss, Optimizer(), Schedule("10"), {"x": 2.0}, 1000, 400)
    with pytest.raises(NotApplicable, match="after 400 steps are beyond the largest float"):
        recursion(longest).after(400)


def test_a_start_with_few_moments_has_these() -> None:
    loss = Loss("x**2/2 + z*x", ("x",), {}, {"z": Noise.parse("normal")})
    run = Run(loss, Optimizer(), Schedule("0.5"), {"x": Noise.parse("student_t:3")}, 1000, 2)
    found = recursion(run).after(2)
    assert found.mean("x") == 0.0
    assert found.variance("x") == pytest.approx(3.0 / 16 + 0.25 * (1 + 1 / 4))
    assert found.cumulants("x")[3] == np.inf
    with pytest.raises(NotApplicable, match="no mean"):
        recursion(Run(loss, Optimizer(), Schedule("0.5"), {"x": Noise.parse("student_t:1")}, 1000, 2)).after(2)


def test_rounding_is_no_variance() -> None:
    """Steps without noise: what 200 of them leave of rounding, 1e-14 of the second moment, was a claimed variance."""
    noise = {"n": Noise.parse("bernoulli:0.3")}
    loss = Loss("slow*x + s*n*x**2/2", ("x",), {"slow": 0.00825, "s": 1.06}, noise)
    run = Run(loss, Optimizer("gradient_descent"), Schedule("0.0681"), {"x": 0.0}, 1000, 200)
    moments = recursion(run).after(200)
    assert moments.cumulants("x")[1] == 0.0
    assert not moments.is_told("x")
    noisy = replace(run, optimizer=Optimizer("sgd"))
    assert recursion(noisy).after(200).is_told("x")
    assert {one.statistic for one in find_law("affine-moments").predictions([run])} == {"mean"}


def test_rounding_is_no_skewness() -> None:
    """Decay holds the mean at -13, whose cube is 1e13 times that of the spread: the skewness came out as 3."""
    loss = Loss("0.0185*x + 0.0713*n*x**2/2", ("x",), {}, {"n": Noise.parse("uniform:-1,1")})
    decay = {"weight_decay": 0.0014}
    run = Run(loss, Optimizer("ema", decay), Schedule("0.011"), {"x": 0.0}, 100, 400)
    _, variance, third, fourth = recursion(run).after(400).cumulants("x")
    assert variance == pytest.approx(1.617e-7, rel=1e-2)
    assert np.isnan([third, fourth]).all()
    assert {one.statistic for one in find_law("affine-moments").predictions([run])} == {"mean", "variance"}


def test_rows_of_a_matrix_are_regressions_of_their_own():
    """Up to the fourth moment, which took minutes while powers of the gradient were expressions."""
    noise = {name: Noise.parse("normal" if name != "e[0]" else "laplace") for name in ("x[0]", "x[1]", "e[0]", "e[1]")}
    matrix = Loss("norm2(W@x - V@x - s*e)/2", ("W[2,2]",), {"V": [[1.0, -0.5], [0.3, 0.8]], "s": 0.3}, noise)
    row = Loss(
        "(dot(w, x) - dot(v, x) - s*e)**2/2",
        ("w[2]",),
        {"v": [1.0, -0.5], "s": 0.3},
        {"x[0]": noise["x[0]"], "x[1]": noise["x[1]"], "e": noise["e[0]"]},
    )
    moments = {
        loss: recursion(Run(loss, Optimizer(), Schedule("0.1"), dict.fromkeys(loss.parameters, 0.2), 100, 30), 4).after(
            30
        )
        for loss in (matrix, row)
    }
    for i in (0, 1):
        found, expected = moments[matrix].cumulants(f"W[0,{i}]"), moments[row].cumulants(f"w[{i}]")
        np.testing.assert_allclose(found, expected, rtol=1e-9)


@pytest.mark.parametrize("mean", [1e3, 1e5])
@pytest.mark.parametrize(
    ("optimizer", "values"),
    [
        ("sgd", {}),
        ("sgd", {"weight_decay": 0.1}),
        ("sgd", {"decoupled_weight_decay": 0.1}),
        ("sgd", {"weight_decay": 0.05, "decoupled_weight_decay": 0.1}),
        ("momentum", {"decoupled_weight_decay": 0.1, "momentum": 0.5}),
    ],
)
def test_a_far_minimum_has_moments_of_as_many_digits(mean: float, optimizer: str, values: dict[str, float]) -> None:
    """Moments of noise about zero canceled after the rounding: at 1e3 the skewness was 1e-7, at 1e6 it was 65.

    So did the decay's pull, which was apart from the gradient that balances it; and of decoupled decay the whole
    recursion, whose centre was where the gradient vanishes and not where decay holds the parameters.
    """
    loss = Loss("(x - z)**2/2 + (y - x)**2/2", ("x", "y"), {}, {"z": Noise.parse(f"normal:{mean},1")})
    run = Run(loss, Optimizer(optimizer, values), Schedule("0.2"), dict.fromkeys("xy", mean), 1000, 300)
    near = replace(run, loss=replace(loss, noise={"z": Noise.parse("normal")}), initial=dict.fromkeys("xy", 0.0))
    (_, variance, third, fourth), (_, expected, _, _) = (
        recursion(one).after(300).cumulants("x") for one in (run, near)
    )
    assert variance == pytest.approx(expected, rel=1e-11)
    assert abs(third) / variance**1.5 < 1e-11
    assert abs(fourth) / variance**2 < 1e-11
    rows = {row.quantity: row.predicted for row in find_law("affine-moments").predictions([run])}
    assert abs(rows["skewness(x)"]) < 1e-11


def test_a_far_column_has_moments_of_as_many_digits() -> None:
    """A skewed column far from zero, and noise that is skewed, too."""
    noise, found = {"n": Noise.parse("exponential:1")}, {}
    for far in (0.0, 3e4):
        data = Data({"d": tuple(far + one for one in (-1.0, 0.5, 3.0))})
        loss = Loss("(x - d - n)**2/2 + (x - far)**2*(d - far)/20", ("x",), {"far": far}, noise, data=data)
        moments = recursion(Run(loss, Optimizer(), Schedule("0.2"), {"x": far}, 1000, 40)).after(40)
        found[far] = (moments.mean("x") - far, *moments.cumulants("x")[1:])
    np.testing.assert_allclose(found[3e4], found[0.0], rtol=1e-9)
