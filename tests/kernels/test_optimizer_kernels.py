"""Optimizers in the kernels: the rule in numbers, applied to gradients by hand, with the same noise."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from sgdsim.kernels.accumulators import Accumulators
from sgdsim.kernels.formula_functions import MANY
from sgdsim.model.loss import Loss
from sgdsim.model.losses import CATALOGUE
from sgdsim.model.observables import Observable
from sgdsim.model.optimizers import Optimizer
from sgdsim.model.recorder import Recorder
from sgdsim.model.run import Run
from sgdsim.model.schedules import Schedule
from sgdsim.model.update_rules import OPTIMIZERS
from sgdsim.simulation.result_arrays import allocate
from sgdsim.simulation.run_loop import simulate_runs
from sgdsim.simulation.simulator import Simulator
from tests import naive
from tests.conftest import COMPILED, OF_NUMBERS, RIVER, needed
from tests.samples import daily

SEED = 7
N, STEPS = 5, 12
NET = {"slope": 1.0, "sigma": 0.5}
LOSSES = {"river_valley": RIVER, "rescaling": NET}
NOISE = {"river_valley": ("xi",), "rescaling": ("x", "e")}
START = {"river_valley": {"x": 0.5, "y": 1.0}, "rescaling": {"u": 1.2, "w": 0.6}}
SCHEDULE = Schedule("cosine:0.1,0.02")

# A matrix by name; as it is given, and in numbers of the parameters, (trajectory, row, column).
MATRICES: dict[str, tuple[dict[str, Any], Callable[[np.ndarray], np.ndarray]]] = {
    "diagonal": ({"preconditioner": ("2", "1/4")}, lambda _: np.diag([2.0, 0.25])),
    "dense": (
        {"preconditioner": (("2", "0.5"), ("-0.3", "1"))},
        lambda _: np.array([[2.0, 0.5], [-0.3, 1.0]]),
    ),
    "of the state": (
        {"preconditioner": ("1/(1 + u**2)", "exp(-slope*u*w)")},
        lambda theta: _diagonal(1 / (1 + theta[:, 0] ** 2), np.exp(-theta[:, 0] * theta[:, 1])),
    ),
    "metric": (
        {"metric": (("2 + u**2", "u*w"), ("u*w", "1 + w**2"))},
        lambda theta: np.linalg.inv(
            np.array([[[2 + u * u, u * w], [u * w, 1 + w * w]] for u, w in theta]).reshape(-1, 2, 2)
        ),
    ),
}


def _diagonal(*entries: np.ndarray) -> np.ndarray:
    return np.stack(entries, -1)[:, None, :] * np.eye(len(entries))


def make(loss: str, optimizer: Optimizer, **fields: Any) -> Run:
    """All states kept, noise of 64 bits, so that targets may be compared to rounding."""
    defaults: dict[str, Any] = {
        "loss": CATALOGUE[loss](constants=LOSSES[loss]),
        "schedule": SCHEDULE,
        "initial": START[loss],
        "trajectories": N,
        "steps": STEPS,
        "seed": SEED,
        "recorder": Recorder(snapshots=tuple(range(fields.get("steps", STEPS) + 1))),
        "noise_dtype": "float64",
    }
    return Run(optimizer=optimizer, **{**defaults, **fields})


def simulated(run: Run, target: str = "python") -> np.ndarray:
    """Shape (steps + 1, trajectory, parameter)."""
    return np.asarray(simulate_runs([run], scenario="", device=target)["theta"])


def noise_of(loss: str) -> np.ndarray:
    """The noise of every step of every trajectory, read off path observables: (step, name, trajectory)."""
    texts = [f"window_sum({name}, {step}, {step + 1})" for step in range(STEPS) for name in NOISE[loss]]
    observables = tuple(Observable.parse(f"o{i}", text) for i, text in enumerate(texts))
    simulator = Simulator(make(loss, Optimizer(), recorder=Recorder(observables=observables)), device="python")
    arrays = allocate([simulator.run])
    (block,) = simulator.blocks()
    simulator.advance(block, STEPS, Accumulators(*(field[0] for field in vars(arrays).values())))
    variables = block.state.reshape(simulator.program.n_variables, simulator.lanes)[:, :N]
    return variables[list(simulator.program.running_rows)].reshape(STEPS, len(NOISE[loss]), N)


@pytest.fixture(scope="module")
def noise() -> dict[str, np.ndarray]:
    return {loss: noise_of(loss) for loss in LOSSES}


def gradient(loss: str, theta: np.ndarray, noise: np.ndarray, population: bool = False) -> np.ndarray:
    """By hand, (trajectory, parameter)."""
    a, b = theta.T
    if loss == "river_valley":
        xi = 0.0 if population else noise[0]
        wall = RIVER["a0"] * (1 + RIVER["k"] * b**2)
        return np.stack([wall * a + RIVER["sigma"] * xi, RIVER["c2"] * b + RIVER["a0"] * RIVER["k"] * b * a**2], -1)
    if population:
        return np.stack([(a * b - NET["slope"]) * b, (a * b - NET["slope"]) * a], -1)
    return np.stack(naive.rescaling_gradient(a, b, noise[0], noise[1], **NET), -1)


def by_hand(
    run: Run,
    noise: np.ndarray,
    matrix: Callable[[np.ndarray], np.ndarray] | None = None,
    kicks: np.ndarray | None = None,
    at_theta: bool = False,
) -> np.ndarray:
    """The optimizer's rule in numbers: as `simulated`."""
    one, rates = run.optimizer, run.schedule.rates(run.steps)
    start = np.array([[run.initial[name] for name in run.loss.parameters]] * run.trajectories, dtype=float)
    values: Mapping[str, Any] = {name: start * (name == "theta") for name in ("theta", *one.rule.state)}
    found = [start]
    for t, rate in enumerate(rates.tolist()):
        theta = values["theta"]
        before = {**values, "t": t, "learning_rate": rate, "xi": 0.0 if kicks is None else kicks[t]}
        slope = gradient(run.loss.name, theta if at_theta else one.point(before), noise[t], one.rule.population)
        after = one.steps({**before, "gradient": slope})
        if matrix is not None:
            direction = np.einsum("...ij,...j->...i", matrix(theta), after["direction"])
            after["theta"] = theta - rate * direction - rate * after["decoupled_weight_decay"] * theta
        values = {name: after[name] for name in values}
        found.append(values["theta"])
    return np.array(found)


def kicks_of(seed: int, trajectories: int, steps: int) -> np.ndarray:
    """An optimizer's own noise of 32 bits: two parameters take two words a step, two steps share a block."""
    kicks = np.empty((-(-steps // 2) * 2, trajectories, 2))
    for trajectory in range(trajectories):
        for group in range(len(kicks) // 2):
            w0, w1, w2, w3 = naive.block(seed, 3, 0, trajectory, group)
            kicks[2 * group, trajectory] = naive.normal_pair(w0, w1)
            kicks[2 * group + 1, trajectory] = naive.normal_pair(w2, w3)
    return kicks[:steps]


RULES = [name for name in OF_NUMBERS if not OPTIMIZERS[name].is_random]


@pytest.mark.parametrize(
    ("name", "loss"),
    daily(
        [(name, loss) for name in RULES for loss in LOSSES],
        ("adam", "river_valley"),
        *((name, "rescaling") for name in RULES),
    ),
)
def test_steps_are_those_of_the_rule(name, loss, noise):
    run = make(loss, Optimizer(name))
    found = simulated(run)
    np.testing.assert_allclose(found, by_hand(run, noise[loss]), rtol=1e-12, atol=1e-13)
    assert (np.abs(np.diff(found, axis=0)) > 0).all()


ELSEWHERE = [name for name, rule in OPTIMIZERS.items() if rule.point]


@pytest.mark.parametrize("batch_size", [1, 3])
@pytest.mark.parametrize("name", ELSEWHERE)
def test_a_batch_takes_its_gradient_where_the_rule_says(name, batch_size):
    """Without noise, so that all samples of a batch have the gradient by hand; with decay there, and other settings."""
    loss = CATALOGUE["river_valley"](constants={**RIVER, "sigma": 0.0})
    one = Optimizer(name, {"weight_decay": 0.3, "decoupled_weight_decay": 0.2, "weight_power": 1.5}, batch_size)
    run = replace(make("river_valley", one), loss=loss)
    found = simulated(run)
    np.testing.assert_allclose(found, by_hand(run, np.zeros((STEPS, 1, N))), rtol=1e-12, atol=1e-13)
    there = by_hand(replace(run, optimizer=replace(one, batch_size=1)), np.zeros((STEPS, 1, N)), at_theta=True)
    assert np.abs(found - there).max() > 1e-4  # the control: gradients where the parameters are


@pytest.mark.parametrize("name", ELSEWHERE)
def test_many_parameters_take_their_gradient_where_the_rule_says(name):
    """Of ``w_i^4/4 + w_i*w_(i+1)``, by one sweep."""
    n = MANY + 2
    formula = " + ".join(f"w[{i}]**4/4 + w[{i}]*w[{(i + 1) % n}]" for i in range(n))
    start = {f"w[{i}]": 0.1 * i - 0.33 for i in range(n)}
    run = replace(make("river_valley", Optimizer(name)), loss=Loss(formula, tuple(start)), initial=start)
    values: Mapping[str, Any] = {key: np.array(list(start.values())) * (key == "theta") for key in _variables(run)}
    for t, rate in enumerate(run.schedule.rates(STEPS).tolist()):
        before = {**values, "t": t, "learning_rate": rate}
        w = run.optimizer.point(before)
        after = run.optimizer.steps({**before, "gradient": w**3 + np.roll(w, 1) + np.roll(w, -1)})
        values = {key: after[key] for key in values}
    np.testing.assert_allclose(simulated(run)[-1, 0], values["theta"], rtol=1e-12, atol=1e-13)


def _variables(run: Run) -> tuple[str, ...]:
    return ("theta", *run.optimizer.rule.state)


@pytest.mark.parametrize("name", daily(["lion", "psgld", "baoab", *ELSEWHERE], "lion", "baoab"))
@pytest.mark.parametrize("target", COMPILED)
def test_every_target_has_the_same_bits(name, target):
    run = make("rescaling", Optimizer(name, needed(name), batch_size=2), initial=START["rescaling"])
    np.testing.assert_array_equal(simulated(run, target), simulated(run))


@pytest.mark.parametrize("name", ["sgd", "ema", "rmsprop_excluding", "adam"])
def test_weight_decay_is_coupled_or_decoupled(name, noise):
    """They are one for plain SGD and for no other rule here."""
    ends = []
    for decay in ({"weight_decay": 0.7}, {"decoupled_weight_decay": 0.7}):
        run = make("rescaling", Optimizer(name, decay))
        found = simulated(run)
        np.testing.assert_allclose(found, by_hand(run, noise["rescaling"]), rtol=1e-12, atol=1e-13)
        ends.append(found[-1])
    assert (np.abs(ends[0] - ends[1]).max() < 1e-12) == (name == "sgd")


@pytest.mark.parametrize("kind", MATRICES)
@pytest.mark.parametrize("name", ["sgd", "adam"])
def test_preconditioners_and_metrics_come_after_the_rule(name, kind, noise):
    """And before decoupled weight decay, which they leave alone."""
    given, matrix = MATRICES[kind]
    run = make("rescaling", Optimizer(name, {"weight_decay": 0.1, "decoupled_weight_decay": 0.2}, **given))
    expected = by_hand(run, noise["rescaling"], matrix)
    np.testing.assert_allclose(simulated(run), expected, rtol=1e-12, atol=1e-13)
    assert np.abs(expected - by_hand(run, noise["rescaling"])).max() > 1e-3  # the matrix is seen


@pytest.mark.parametrize("hyperparameters", [{}, {"beta1": 0.5, "beta2": 0.6, "epsilon": 1e-3}])
def test_adam_corrects_its_averages_at_every_step(hyperparameters, noise):
    """A decaying schedule, defaults that are compiled in and values that are not."""
    run = make("river_valley", Optimizer("adam", hyperparameters), schedule=Schedule("0.5/(1 + t)"))
    np.testing.assert_allclose(simulated(run), by_hand(run, noise["river_valley"]), rtol=1e-12, atol=1e-13)


@pytest.mark.parametrize("name", ["momentum", "adam"])
def test_float32_stays_near(name, noise):
    """1e-5 after 12 steps of values of order one: some hundred roundings of 6e-8."""
    run = make("rescaling", Optimizer(name), dtype="float32")
    found = simulated(run)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, by_hand(run, noise["rescaling"]), rtol=0, atol=1e-5)


@pytest.mark.validate
@pytest.mark.parametrize("name", ["sgd", "adam"])
def test_compiled_steps_are_those_of_the_rule(name, noise):
    run = make("river_valley", Optimizer(name))
    np.testing.assert_allclose(simulated(run, "cpu"), by_hand(run, noise["river_valley"]), rtol=1e-12, atol=1e-13)


def test_gradient_descent_takes_no_noise(noise):
    """The population gradient: another seed changes nothing, and no words are drawn."""
    one = Optimizer("gradient_descent", {"weight_decay": 0.1})
    runs = [make("rescaling", one, seed=seed) for seed in (1, 2)]
    found = [simulated(run) for run in runs]
    np.testing.assert_array_equal(*found)
    np.testing.assert_array_equal(found[0], found[0][:, :1].repeat(N, axis=1))
    assert Simulator(runs[0], device="python").executor.layout.draws.rows == 0
    np.testing.assert_allclose(found[0], by_hand(runs[0], noise["rescaling"]), rtol=1e-12)


def langevin(name: str = "langevin", **fields: Any) -> Run:
    one = Optimizer(name, {"temperature": 0.5, "weight_decay": 0.3})
    return make("river_valley", one, **{"schedule": Schedule("0.1"), "noise_dtype": "float32", **fields})


def displacements(theta: np.ndarray, noise: np.ndarray, rate: float) -> np.ndarray:
    """Displacements beyond those by gradient, noise and weight decay, in units of the kick."""
    before = theta[:-1]
    slopes = np.array([gradient("river_valley", now, xi) + 0.3 * now for now, xi in zip(before, noise, strict=True)])
    return np.asarray((np.diff(theta, axis=0) + rate * slopes) / np.sqrt(2 * rate * 0.5))


@pytest.mark.parametrize("target", ["python", pytest.param("cpu", marks=pytest.mark.validate)])
@pytest.mark.parametrize("name", [name for name, rule in OPTIMIZERS.items() if rule.is_random])
def test_noise_of_the_optimizer_has_its_own_words(name, target):
    """Stream 3 of the documented layout, two words a step: to the rounding of float32 deviates."""
    run = langevin(name)
    xi = naive.gradient_normals(SEED, N, STEPS)[:, None]
    expected = by_hand(run, xi, kicks=kicks_of(SEED, N, STEPS))
    np.testing.assert_allclose(simulated(run, target), expected, rtol=0, atol=5e-6)


@pytest.mark.validate
def test_langevin_noise_is_standard_and_independent():
    """Of 4096 trajectories and 8 steps; bounds of 5 standard errors, a false-alarm rate of 6e-7 each."""
    n, steps = 4096, 8
    run = langevin(trajectories=n, steps=steps, initial={"x": 0.5, "y": 1.0})
    theta = simulated(run, "cpu")
    normals = naive.gradient_normals(SEED, n, steps)
    kicks = displacements(theta, normals[:, None], 0.1)
    count = kicks.size
    assert abs(kicks.mean()) < 5 / np.sqrt(count)
    assert abs(kicks.var() - 1) < 5 * np.sqrt(2 / count)
    pairs = [(kicks[..., 0], kicks[..., 1]), (kicks[:-1], kicks[1:]), (kicks[..., 0], normals)]
    for one, two in [*pairs, (kicks[..., 1], normals), (kicks[:, :-1], kicks[:, 1:])]:
        assert abs(np.mean(one * two)) < 5 / np.sqrt(one.size)


def test_rules_that_differ_in_a_default_alone_have_kernels_of_their_own():
    """Adam and AdamW have the same formulas; what is compiled in tells them apart."""
    one, two = (
        Simulator(make("rescaling", Optimizer(name)), device="python").executor.formula for name in ("adam", "adamw")
    )
    assert one.__name__ != two.__name__


def test_langevin_without_temperature_is_gradient_noise_alone():
    one = Optimizer("langevin", {"temperature": 0.0})
    np.testing.assert_array_equal(
        simulated(make("river_valley", one)), simulated(make("river_valley", Optimizer("sgd")))
    )
