"""Controls: zero mean by construction, weights that follow the target, and what they leave of the variance."""

from __future__ import annotations

import itertools
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import sympy

from sgdsim import Loss, Noise, simulate
from sgdsim.base.errors import InputError
from sgdsim.ensemble import Ensemble
from sgdsim.formulas import evaluation
from sgdsim.kernels import control_step
from sgdsim.model.data import Data
from sgdsim.model.losses.river_valley import river_valley
from sgdsim.model.optimizers import Optimizer
from sgdsim.model.recorder import Recorder
from sgdsim.model.run import Run
from sgdsim.model.schedules import Schedule
from sgdsim.simulation.control_weights import weights
from sgdsim.statistics.control_variates import controlled
from tests.samples import daily

Z_LIMIT = 5.0  # a normal deviate is beyond it once in 1.7e6 cases


def rescaling(noise: str = "rademacher") -> Loss:
    """The two samples y = 2.2 and -0.2 of the scalar net, as noise."""
    return Loss("(u*w - 1 - 1.2*z)**2/2", ("u", "w"), noise={"z": Noise.parse(noise)})


def rows() -> Loss:
    columns = {"x": (1.0, 2.0, -1.0, 0.5), "y": (0.5, 1.0, -0.6, 0.2)}
    return Loss("(u*w*x - y)**2/2", ("u", "w"), data=Data(columns))


def regression() -> Loss:
    noise = {"x": Noise.parse("normal"), "e": Noise.parse("laplace:0,0.5")}
    return Loss("(u*w*x - y)**2/2", ("u", "w"), noise=noise, definitions={"y": "0.8*x + e"})


def run_of(loss: Loss, optimizer: Optimizer | None = None, rate: str = "0.1", steps: int = 10, **fields: Any) -> Run:
    initial = fields.pop("initial", {"u": 1.6, "w": 0.5})
    recorder = Recorder(controls=fields.pop("controls", ("u",)))
    return Run(loss, optimizer or Optimizer(), Schedule(rate), initial, 100, steps, recorder=recorder, **fields)


def moments_of_control(ensemble: Ensemble, name: str) -> tuple[float, float, float]:
    """Mean, its standard error, and z."""
    index = list(ensemble["observable"]).index(name)
    mean, error = (float(ensemble[key][-1, index]) for key in ("mean", "mean_stderr"))
    return mean, error, mean / error


DYNAMICS: dict[str, tuple[Loss, Optimizer]] = {
    "two samples": (rescaling(), Optimizer()),
    "skewed noise": (rescaling("exponential"), Optimizer()),
    "random inputs": (regression(), Optimizer()),
    "batch of noise": (regression(), Optimizer(batch_size=3)),
    "rows with replacement": (rows(), Optimizer(batch_size=2)),
    "different rows": (rows(), Optimizer(batch_size=3, sampling="batch")),
    "weight decay": (rescaling(), Optimizer("sgd", {"weight_decay": 0.3, "decoupled_weight_decay": 0.2})),
    "preconditioner": (rescaling(), Optimizer(preconditioner=("1 + u**2", "0.5"))),
}


def samples(loss: Loss, optimizer: Optimizer, draws: int, rng: np.random.Generator) -> dict[str, np.ndarray]:
    """Noise or rows of so many batches, (draw, sample)."""
    shape = draws, optimizer.batch_size
    if loss.data is not None:
        order = rng.random((draws, loss.data.rows)).argsort(axis=1)[:, : optimizer.batch_size]
        chosen = order if optimizer.sampling == "batch" else rng.integers(loss.data.rows, size=shape)
        return {name: np.array(column)[chosen] for name, column in loss.data.columns.items()}
    families = {
        "rademacher": lambda: rng.choice([-1.0, 1.0], shape),
        "normal": lambda: rng.normal(size=shape),
        "laplace": lambda: rng.laplace(0.0, 0.5, shape),
        "exponential": lambda: rng.exponential(size=shape) - 1.0,
    }
    return {name: families[noise.family]() for name, noise in loss.noise.items()}


def increments(loss: Loss, optimizer: Optimizer, wrong: float = 1.0) -> np.ndarray:
    """Increments of one step with arbitrary weights, for many batches; optionally with a wrong covariance."""
    rng = np.random.default_rng(20250604)
    draws, n = 100_000, control_step.columns(loss, optimizer)
    gradient = sympy.symbols([f"g{i}" for i in range(len(loss.theta))])
    coefficients = sympy.symbols([f"b{i}" for i in range(n)])
    step = control_step.step_of(loss, optimizer, sympy.Symbol("eta"), gradient, optimizer.values)
    step = replace(step, covariance=tuple(wrong * entry for entry in step.covariance))
    values: dict[str, Any] = {"eta": 0.3, "u": 1.3, "w": 0.6}
    batches = samples(loss, optimizer, draws, rng)
    slopes = evaluation.evaluate(loss.gradient, {**values, **batches})
    values |= {f"g{i}": slope.mean(axis=1) for i, slope in enumerate(slopes)}
    values |= {f"b{i}": float(weight) for i, weight in enumerate(rng.normal(size=n))}
    return np.asarray(evaluation.evaluate([control_step.increment(step, coefficients)], values)[0])


def z_of(values: np.ndarray) -> float:
    return float(values.mean() / values.std() * np.sqrt(len(values)))


@pytest.mark.parametrize("name", DYNAMICS)
def test_an_increment_has_mean_zero_whatever_the_weights(name):
    """Eight tests at 5 standard errors: a false alarm in 2e5. A covariance twice too large is seen in each."""
    loss, optimizer = DYNAMICS[name]
    assert abs(z_of(increments(loss, optimizer))) < Z_LIMIT
    assert abs(z_of(increments(loss, optimizer, wrong=2.0))) > Z_LIMIT


def test_the_increment_is_that_of_the_quadratic_form():
    """V after the step less its mean, with the mean taken over both values of the noise."""
    loss, optimizer, rng = rescaling(), Optimizer(), np.random.default_rng(1)
    linear, form, eta = rng.normal(size=2), rng.normal(size=(2, 2)), 0.2
    form += form.T
    theta = np.array([1.3, 0.6])

    def after(z: float) -> np.ndarray:
        s = theta.prod() - 1 - 1.2 * z
        return theta - eta * s * theta[::-1]

    def value(z: float) -> float:
        return float(linear @ after(z) + after(z) @ form @ after(z) / 2)

    gradient, names = sympy.symbols("g0 g1"), sympy.symbols("b:6")
    step = control_step.step_of(loss, optimizer, sympy.Symbol("eta"), gradient, optimizer.values)
    values = {"u": theta[0], "w": theta[1], "eta": eta}
    values |= dict(zip(["g0", "g1"], (theta - after(1.0)) / eta, strict=True))
    values |= {f"b{i}": x for i, x in enumerate([*linear, form[0, 0], form[0, 1], form[1, 1], 0.0])}
    found = evaluation.evaluate([control_step.increment(step, names)], values)[0]
    assert found == pytest.approx(value(1.0) - (value(1.0) + value(-1.0)) / 2, rel=1e-12)


def test_many_parameters_and_open_covariances_are_of_first_order():
    vector = Loss("sum((w - z)**2)/2", tuple(f"w[{i}]" for i in range(8)), noise={"z": Noise.parse("normal")})
    assert control_step.columns(vector, Optimizer()) == 9
    mixed = Loss("(u*x - z)**2/2", ("u",), noise={"z": Noise.parse("normal")}, data=Data({"x": (1.0, 2.0, 3.0)}))
    assert control_step.columns(mixed, Optimizer(batch_size=2, sampling="batch")) == 2
    assert control_step.columns(mixed, Optimizer(batch_size=2)) == 3
    heavy = Loss("(u - z)**2/2", ("u",), noise={"z": Noise.parse("student_t:1.5")})
    assert control_step.columns(heavy, Optimizer()) == 2


# The weights.


def test_weights_in_a_valley_solve_the_poisson_equation():
    """``-eta a' (1 - r^(2n))/(1 - r^2)/2`` times x^2 with n steps to go, and y itself."""
    loss = river_valley(a="a0*exp(k*y)", c="0", constants={"a0": 2.0, "k": 0.5})
    run = run_of(loss, rate="0.1", steps=30, controls=("y",), initial={"x": Noise.parse("normal:0,0.2"), "y": 0.0})
    table = weights(run)[0]
    r2, left = 0.8**2, np.arange(30, -1, -1)
    np.testing.assert_allclose(table[:, :2], [[0.0, 1.0]] * 31, atol=1e-15)
    np.testing.assert_allclose(table[:, 2], -0.1 * 0.5 * 2.0 * (1 - r2**left) / (1 - r2), atol=1e-14)
    np.testing.assert_allclose(table[:, 3:5], 0.0, atol=1e-15)
    assert table[0, 5] == pytest.approx(table[0, 2] * 0.2**2 / 2)


def test_weights_are_derivatives_along_the_path_without_noise():
    """By differences of the noise-free map, gradient descent from perturbed starts."""
    run = run_of(rescaling(), rate="linear:0.1,0.05", steps=12)

    def final(u: float, w: float) -> float:
        for rate in run.schedule.rates(12):
            u, w = u - rate * (u * w - 1) * w, w - rate * (u * w - 1) * u
        return u

    start, h = np.array([1.6, 0.5]), 1e-4
    row = _Unstarted(run).row(0)
    gradient = [(final(*(start + h * e)) - final(*(start - h * e))) / (2 * h) for e in np.eye(2)]
    corners = [(a + b, a - b) for a, b in itertools.combinations_with_replacement(np.eye(2), 2)]
    form = [
        sum(final(*(start + s * h * far)) - final(*(start + s * h * near)) for s in (1, -1)) / (4 * h * h)
        for far, near in corners
    ]
    matrix = np.array([[row[2], row[3]], [row[3], row[4]]])
    np.testing.assert_allclose(row[:2] + matrix @ start, gradient, rtol=1e-6)
    np.testing.assert_allclose(row[2:5], form, rtol=1e-4)


class _Unstarted:
    """The weights of step 0 too, which are zero where the start is a number: of a start that is all but one."""

    def __init__(self, run: Run) -> None:
        initial = {"u": Noise.parse("normal:1.6,1e-9"), "w": Noise.parse("normal:0.5,1e-9")}
        self._table = weights(replace(run, initial=initial))[0]

    def row(self, step: int) -> np.ndarray:
        return np.asarray(self._table[step])


@pytest.mark.parametrize("start", [1.6, "grid"])
def test_starts_that_are_given_add_nothing(start):
    from sgdsim.model.starts import Grid

    initial = {"u": Grid(1.0, 2.0, 5) if start == "grid" else start, "w": 0.5}
    assert not weights(run_of(rescaling(), initial=initial))[0, 0].any()


@pytest.mark.parametrize(
    ("problem", "make"),
    [
        ("needs plain sgd, not momentum", lambda: run_of(rescaling(), Optimizer("momentum"))),
        ("needs steps that are independent", lambda: run_of(rows(), Optimizer(sampling="epoch"))),
        ("needs noise", lambda: run_of(Loss("u**2/2", ("u",)), initial={"u": 1.0})),
        (
            "has no closed form",
            lambda: run_of(Loss("exp(u*z)", ("u",), noise={"z": Noise.parse("normal")}), initial={"u": 1.0}),
        ),
        ("the start has no variance", lambda: run_of(rescaling(), initial={"u": Noise.parse("student_t:2"), "w": 1.0})),
        ("not finite after step", lambda: run_of(rescaling(), rate="30", steps=20)),
    ],
)
def test_what_has_no_control_is_refused(problem, make):
    with pytest.raises(InputError, match=problem) as refused:
        weights(make())
    assert str(refused.value).startswith("record.controls: ")


def test_names_of_controls_are_checked():
    with pytest.raises(InputError, match=r"record\.controls: .*did you mean 'u'"):
        run_of(rescaling(), controls=("uu",))
    with pytest.raises(InputError, match=r"unknown observable 'nan': known are u, w$") as refused:
        run_of(rescaling(), controls=("nan",))
    assert "\n" not in str(refused.value)
    with pytest.raises(InputError, match="control_u: the name is already taken"):
        run_of(rescaling(), controls=("u", "u"))


# In the kernels.


@pytest.mark.parametrize("name", daily(DYNAMICS, *list(DYNAMICS)[::3]))
def test_controls_that_are_simulated_have_mean_zero(name):
    """Sixteen controls at 5 standard errors of 300 trajectories (Student's t): a false alarm in 7e4."""
    loss, optimizer = DYNAMICS[name]
    ensemble = simulate(
        loss,
        optimizer,
        learning_rate="linear:0.1,0.05",
        initial={"u": "normal:1.2,0.2", "w": 0.5},
        trajectories=300,
        steps=8,
        observables={"q": "u**2 - w**2"},
        controls=["q", "u"],
        device="python",
        seed=11,
    )
    for control in ("control_q", "control_u"):
        _, error, z = moments_of_control(ensemble, control)
        assert error > 0
        assert abs(z) < Z_LIMIT
    assert all(ensemble["controlled_gain"] > 5)


def test_a_wrong_conditional_mean_is_seen_in_a_simulation():
    """The control of u^2 by hand, with the variance of the noise right and twice too large."""
    text = "window_sum(next(x)**2 - (x - learning_rate*population_gradient(x))**2 - {}*learning_rate**2, 0, 10)"
    ensemble = simulate(
        Loss("x**2/2 + z*x", ("x",), noise={"z": Noise.parse("normal")}),
        learning_rate=0.1,
        initial={"x": 0.0},
        trajectories=300,
        steps=10,
        observables={"right": text.format(1.0), "wrong": text.format(2.0)},
        device="python",
    )
    assert abs(moments_of_control(ensemble, "right")[2]) < Z_LIMIT
    assert abs(moments_of_control(ensemble, "wrong")[2]) > Z_LIMIT


def test_a_linear_chain_is_left_without_any_noise():
    """x_K and x_K^2 less their controls are their means, trajectory by trajectory; the start is random too."""
    loss = Loss("a*x**2/2 + s*z*x", ("x",), {"a": 1.0, "s": 0.5}, {"z": Noise.parse("exponential")})
    ensemble = simulate(
        loss,
        learning_rate=0.25,
        initial={"x": "normal:1,0.5"},
        trajectories=50,
        steps=6,
        observables={"square": "x**2"},
        controls=["x", "square"],
        device="python",
        noise_dtype="float64",
    )
    mean, variance = 0.75**6, 0.75**12 * 0.25
    variance += sum(0.75 ** (2 * k) for k in range(6)) * (0.25 * 0.5) ** 2
    expected = [mean, mean**2 + variance]
    np.testing.assert_allclose(ensemble["controlled_mean"], expected, rtol=1e-12)
    assert all(ensemble["controlled_mean_stderr"] < 1e-7)


def exact_mean(steps: int, rate: float, function: Any) -> float:
    """Over all sequences of the two samples."""
    total = 0.0
    for signs in itertools.product((-1.0, 1.0), repeat=steps):
        u, w = 1.6, 0.5
        for z in signs:
            s = u * w - 1 - 1.2 * z
            u, w = u - rate * s * w, w - rate * s * u
        total += function(u, w)
    return total / 2**steps


def test_controlled_means_are_those_of_all_paths():
    """Against an exact sum over 2^8 paths, at 5 standard errors; being off by a plain one would be seen."""
    ensemble = simulate(
        rescaling(),
        learning_rate=0.1,
        initial={"u": 1.6, "w": 0.5},
        trajectories=600,
        steps=8,
        observables={"q": "u**2 - w**2"},
        controls=["q", "u"],
        device="python",
        seed=2,
    )
    for name, function in {"q": lambda u, w: u * u - w * w, "u": lambda u, w: u}.items():
        estimate = controlled(ensemble, name)
        expected = exact_mean(8, 0.1, function)
        assert abs(estimate.value - expected) < Z_LIMIT * estimate.stderr
        assert estimate.gain > 30
        wrong = expected + float(ensemble["mean_stderr"][-1, list(ensemble["observable"]).index(name)])
        assert abs(estimate.value - wrong) > Z_LIMIT * estimate.stderr


def test_what_is_left_falls_with_the_square_of_the_learning_rate():
    """At fixed eta*K the gain of second order grows 16-fold from eta to eta/4; 8-fold is asked of 400 trajectories."""
    gains = []
    for rate, steps in ((0.1, 4), (0.025, 16)):
        ensemble = simulate(
            rescaling(),
            learning_rate=rate,
            initial={"u": 1.6, "w": 0.5},
            trajectories=400,
            steps=steps,
            controls=["u"],
            device="python",
        )
        gains.append(float(ensemble["controlled_gain"][0]))
    assert gains[1] > 8 * gains[0]


@pytest.mark.validate
def test_a_river_has_a_control_without_linear_response():
    """entropic-force: the drift of y in a valley that is nothing but curved comes from x^2 alone."""
    loss = river_valley(a="a0*exp(k*y)", c="0", constants={"a0": 1.0, "k": 1.0})
    ensemble = simulate(
        loss,
        learning_rate=0.1,
        initial={"x": f"normal:0,{(0.1 / 1.9) ** 0.5}", "y": 0.0},
        trajectories=300,
        steps=30,
        controls=["y"],
        device="python",
    )
    assert ensemble["controlled_gain"][0] > 100
    assert abs(moments_of_control(ensemble, "control_y")[2]) < Z_LIMIT


def test_nothing_depends_on_the_cut():
    from sgdsim.base import toml
    from sgdsim.simulation.run_loop import simulate_runs

    run = run_of(rescaling(), steps=8, controls=("u", "w"))
    run = replace(run, trajectories=600)
    digests = {
        simulate_runs([run], scenario=toml.dumps(run.describe()), device="python", **cut).digest()
        for cut in ({}, {"block_trajectories": 256, "span_steps": 4}, {"block_trajectories": 512, "span_steps": 4})
    }
    assert len(digests) == 1


def test_t_is_the_number_of_steps_before():
    """The control of x by hand: what is left of a kick of step t after all steps, ``r^(K - 1 - t)``."""
    loss = Loss("x**2/2 + z*x", ("x",), noise={"z": Noise.parse("normal")})
    rest = {"learning_rate": 0.25, "initial": {"x": 1.0}, "trajectories": 60, "steps": 5, "device": "python"}
    text = "window_sum(0.75**(4 - t)*learning_rate*(population_gradient(x) - gradient(x)), 0, 5)"
    ensemble = simulate(loss, observables={"hand": text, "last": "window_sum(t, 0, 5)"}, controls=["x"], **rest)
    _, hand, last, control = ensemble["mean"][-1]
    assert hand == pytest.approx(control, rel=1e-12)
    assert last == 0 + 1 + 2 + 3 + 4
    own = Loss("t*x**2/2", ("x",), {"t": 3.0})
    assert simulate(own, observables={"own": "window_sum(t, 0, 5)"}, **rest)["mean"][-1, 1] == 15
    with pytest.raises(InputError, match="unknown name 't'"):
        simulate(loss, observables={"plain": "t*x"}, **rest)


VALLEY = {"x": "normal:0,0.0708881", "y": 0.0}  # at rest: 0.01/(2 - 0.01) is its variance
JOBS: dict[str, tuple[Loss, dict[str, Any], dict[str, str], tuple[str, ...]]] = {
    "entropic flow and modified equation": (
        rescaling(),
        {"learning_rate": 0.005, "initial": {"u": 1.6, "w": 0.5}, "steps": 200},
        {"q": "u**2 - w**2"},
        ("q", "u"),
    ),
    "entropic-force": (
        river_valley(a="a0*exp(k*y)", c="0", constants={"a0": 1.0, "k": 1.0}),
        {"learning_rate": 0.01, "initial": VALLEY, "steps": 500},
        {},
        ("y",),
    ),
}


@pytest.mark.validate
@pytest.mark.parametrize("job", JOBS)
def test_small_forces_gain_more_than_tenfold_at_equal_cost(job):
    """On compiled kernels: variance times seconds, each the best of three warm runs."""
    loss, run, observables, names = JOBS[job]
    results = []
    for controls in ((), names):
        rest = {**run, "observables": observables, "controls": controls, "trajectories": 16_384}
        runs = [simulate(loss, **rest) for _ in range(4)]
        results.append((runs[0], min(float(one.attributes["wall_seconds"]) for one in runs[1:])))
    (plain, plain_seconds), (ours, seconds) = results
    for i, name in enumerate(names):
        index = list(plain["observable"]).index(name)
        variances = plain["mean_stderr"][-1, index] ** 2, ours["controlled_mean_stderr"][i] ** 2
        assert variances[0] * plain_seconds > 10 * variances[1] * seconds
