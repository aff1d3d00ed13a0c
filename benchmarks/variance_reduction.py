"""Gain of each method of variance reduction on three small forces, at equal cost.

``python -m benchmarks.variance_reduction`` prints the table alone. A gain is the variance of the plain mean times its
seconds over the same of the technique; trajectories are as many in both, seconds the best of several warm runs.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from benchmarks.bar import table
from sgdsim import Loss, Noise
from sgdsim.base import toml
from sgdsim.ensemble import Ensemble
from sgdsim.model.losses.river_valley import river_valley
from sgdsim.model.observables import Observable
from sgdsim.model.optimizers import Optimizer
from sgdsim.model.recorder import Recorder
from sgdsim.model.run import Run
from sgdsim.model.schedules import Schedule
from sgdsim.model.starts import Start
from sgdsim.simulation.run_loop import simulate_runs
from sgdsim.statistics.control_variates import best_mean, controlled
from sgdsim.statistics.estimate import Estimate, combine
from sgdsim.statistics.estimators import statistic

TRAJECTORIES = 16_384  # 64 groups of one tile
DEGREE = 6  # of the polynomial in t that stands for a linear response
LABELS = 2.2, -0.2
START = 1.6, 0.5
NEIGHBOUR = 1.01  # of a learning rate
LEAST = 0.001  # seconds, about what a tile of trajectories takes


@dataclass(frozen=True)
class Force:
    """A small difference between the mean of an observable and what a simpler theory says.

    Parameters
    ----------
    name, target
        For people, and the observable.
    run
        Without controls.
    simpler
        What the mean is compared with.
    response
        Derivative of the target's mean by the parameters after each step, (step, parameter); None where it has none.
    """

    name: str
    target: str
    run: Run
    simpler: float
    response: np.ndarray | None = None


@dataclass(frozen=True)
class Gain:
    """A row of the table.

    Parameters
    ----------
    force, technique
        What is measured, and how.
    size
        Of the force.
    stderr, seconds
        Of one run, without compilation.
    gain
        Over the plain estimate of the same, at equal cost.
    to_ten
        Seconds until the force is ten standard errors.
    """

    force: str
    technique: str
    size: float
    stderr: float
    seconds: float
    gain: float
    to_ten: float


def rescaling_forces(rate: float = 0.005) -> list[Force]:
    """Forces on E(u^2 - w^2) and E u beyond the flows of first order, at T = 1."""
    middle, spread = sum(LABELS) / 2, (LABELS[0] - LABELS[1]) / 2
    loss = Loss("(u*w - m - s*z)**2/2", ("u", "w"), {"m": middle, "s": spread}, noise={"z": Noise.parse("rademacher")})
    u, w = START
    observables = (Observable("q", "u**2 - w**2"),)
    initial: dict[str, Start] = {"u": u, "w": w}
    run = Run(
        loss,
        Optimizer(),
        Schedule(repr(rate)),
        initial,
        TRAJECTORIES,
        round(1 / rate),
        1,
        Recorder(observables=observables),
    )
    end = _descent(rate, run.steps, middle)[-1]
    flow = _entropic_flow(rate, middle, spread)
    return [
        Force(
            "charge beyond the entropic flow",
            "q",
            run,
            float(flow[0] ** 2 - flow[1] ** 2),
            _linear_response(rate, run.steps, middle, 2 * end * [1, -1]),
        ),
        Force(
            "mean beyond its second order",
            "u",
            run,
            float(_second_order_mean(rate, middle, spread)[0]),
            _linear_response(rate, run.steps, middle, np.array([1.0, 0.0])),
        ),
    ]


def river_force(rate: float = 0.01, steps: int = 1000) -> Force:
    """entropic-force: the next order of the entropic drift at eta*a = 0.01."""
    loss = river_valley(a="a0*exp(k*y)", c="0", constants={"a0": 1.0, "k": 1.0, "sigma": 1.0})
    initial: dict[str, Start] = {"x": Noise.parse(f"normal:0,{(rate / (2 - rate)) ** 0.5}"), "y": 0.0}
    run = Run(loss, Optimizer(), Schedule(repr(rate)), initial, TRAJECTORIES, steps, 1)
    return Force("drift beyond its leading order (entropic-force)", "y", run, -(rate**2) / 4 * steps)


def forces() -> list[Force]:
    """All of them."""
    return [*rescaling_forces(), river_force()]


def measure(forces: Sequence[Force], rounds: int = 5) -> list[Gain]:
    """All techniques on all forces."""
    return [row for force in forces for row in _rows(force, rounds)]


def _rows(force: Force, rounds: int) -> list[Gain]:
    run, target, step = force.run, force.target, force.run.steps
    with_control = _recording(run, controls=(target,))
    techniques: dict[str, tuple[Run, Callable[[Ensemble], Estimate]]] = {
        "plain": (run, lambda e: statistic(e, "mean", target, step)),
        "antithetic": (replace(run, antithetic=True), lambda e: statistic(e, "mean", target, step)),
        "control": (with_control, lambda e: controlled(e, target)),
        "control, antithetic": (replace(with_control, antithetic=True), lambda e: controlled(e, target)),
    }
    if force.response is not None:
        by_hand = _recording(run, Observable.parse("by_hand", _first_order(force)))
        techniques["control of first order, by hand"] = by_hand, lambda e: controlled(e, target, ["by_hand"])
    found = {name: (*_timed([one], rounds), estimate) for name, (one, estimate) in techniques.items()}
    estimates = {name: (estimate(ensemble), seconds) for name, (ensemble, seconds, estimate) in found.items()}
    size = estimates["control, antithetic"][0].value - force.simpler
    plain = _work(*estimates["plain"])
    rows = [_gain(force.name, name, one, seconds, plain, size) for name, (one, seconds) in estimates.items()]
    return [*rows, *_differences(force, rounds)]


def _differences(force: Force, rounds: int) -> list[Gain]:
    """Between neighbouring learning rates; the force is the difference itself."""
    rates = [float(force.run.schedule.text) * factor for factor in (1.0, NEIGHBOUR)]
    found: dict[str, tuple[Estimate, float]] = {}
    for kind, controls in (("plain", ()), ("control", (force.target,))):
        run = _recording(force.run, controls=controls)
        runs = [replace(run, schedule=Schedule(repr(rate))) for rate in rates]
        for noise, common in (("noise of their own", False), ("common noise", True)):
            swept, seconds = _timed(runs, rounds, common_noise=common, sweep={"optimizer.learning_rate": rates})
            means = [best_mean(swept.select(point), force.target, run.steps) for point in (1, 0)]
            found[f"{kind}, {noise}"] = combine(np.subtract, means), seconds
    plain, size = _work(*found["plain, noise of their own"]), found["control, common noise"][0]
    title = f"difference of rates 1 % apart, {force.target}"
    return [_gain(title, name, one, seconds, plain, size.value) for name, (one, seconds) in found.items()]


def _gain(force: str, technique: str, estimate: Estimate, seconds: float, plain: float, size: float) -> Gain:
    work = _work(estimate, seconds)
    return Gain(force, technique, size, estimate.stderr, seconds, plain / work, work * (10 / size) ** 2)


def _timed(runs: Sequence[Run], rounds: int, **options: Any) -> tuple[Ensemble, float]:
    """The ensemble, and the seconds of the fastest of several runs after a first one that may compile."""
    text = toml.dumps(runs[0].describe())
    found = [simulate_runs(runs, scenario=text, **options) for _ in range(rounds + 1)]
    return found[0], min(float(ensemble.attributes["wall_seconds"]) for ensemble in found[1:])


def _work(estimate: Estimate, seconds: float) -> float:
    return estimate.stderr**2 * seconds


def _recording(run: Run, *observables: Observable, controls: tuple[str, ...] = ()) -> Run:
    recorder = run.recorder
    return replace(
        run, recorder=replace(recorder, observables=(*recorder.observables, *observables), controls=controls)
    )


def _first_order(force: Force) -> str:
    """The linear response as polynomials in t, by what the gradient differs from its mean."""
    assert force.response is not None
    steps = np.arange(force.run.steps)
    terms = []
    for name, response in zip(force.run.loss.parameters, force.response.T, strict=True):
        text = "0"
        for coefficient in np.polyfit(steps / len(steps), response, DEGREE):
            text = f"({text})*t/{len(steps)} + {float(coefficient)!r}"
        terms.append(f"({text})*learning_rate*(population_gradient({name}) - gradient({name}))")
    return f"window_sum({' + '.join(terms)}, 0, {len(steps)})"


# The theory of the rescaling loss, (u*w - middle - spread*z)^2/2 with z = +-1, written out.


def _descent(rate: float, steps: int, middle: float) -> np.ndarray:
    """Gradient descent on the mean loss, (completed steps, parameter)."""
    path = [np.array(START)]
    for _ in range(steps):
        path.append(path[-1] - rate * (path[-1].prod() - middle) * path[-1][::-1])
    return np.stack(path)


def _hessian(theta: np.ndarray, middle: float) -> np.ndarray:
    u, w = theta
    return np.array([[w * w, 2 * u * w - middle], [2 * u * w - middle, u * u]])


def _linear_response(rate: float, steps: int, middle: float, end: np.ndarray) -> np.ndarray:
    """Derivative of the target at the end by the parameters after each step, from that by the last ones."""
    path, rows = _descent(rate, steps, middle), [end]
    for theta in path[-2:0:-1]:
        rows.append(rows[-1] - rate * _hessian(theta, middle) @ rows[-1])
    return np.stack(rows[::-1])


def _entropic_flow(rate: float, middle: float, spread: float) -> np.ndarray:
    """The gradient flow on ``L + (eta/4) E|g|^2`` up to T = 1."""

    def slope(_: float, theta: np.ndarray) -> np.ndarray:
        rest, size = theta.prod() - middle, theta @ theta
        force = rest * theta[::-1]
        noise = 2 * rest * size * theta[::-1] + 2 * (rest**2 + spread**2) * theta
        return np.asarray(-force - rate / 4 * noise)

    return _integrate(slope, np.array(START))


def _second_order_mean(rate: float, middle: float, spread: float) -> np.ndarray:
    """``theta_0 + eta*m`` at T = 1, with the covariance eta*S of the iterates."""

    def slope(_: float, state: np.ndarray) -> np.ndarray:
        theta, mean, covariance = state[:2], state[2:4], state[4:].reshape(2, 2)
        (u, w), hessian = theta, _hessian(theta, middle)
        force = (theta.prod() - middle) * theta[::-1]
        third = np.array(
            [4 * w * covariance[0, 1] + 2 * u * covariance[1, 1], 2 * w * covariance[0, 0] + 4 * u * covariance[0, 1]]
        )
        noise = spread**2 * np.outer(theta[::-1], theta[::-1])
        change = noise - hessian @ covariance - covariance @ hessian
        return np.concatenate([-force, -hessian @ mean - hessian @ force / 2 - third / 2, change.ravel()])

    state = _integrate(slope, np.array([*START, *np.zeros(6)]))
    return np.asarray(state[:2] + rate * state[2:4])


def _integrate(slope: Callable[[float, np.ndarray], np.ndarray], start: np.ndarray) -> np.ndarray:
    from scipy.integrate import solve_ivp

    return np.asarray(solve_ivp(slope, (0.0, 1.0), start, method="DOP853", rtol=1e-12, atol=1e-14).y[:, -1])


def report(gains: Sequence[Gain]) -> str:
    """The table as Markdown."""
    rows = (
        [
            one.force,
            one.technique,
            f"{one.size:.2g}",
            f"{one.stderr:.2g}",
            f"{1e9 * one.seconds / TRAJECTORIES:.3g}",
            f"{one.gain:.3g}",
            f"{one.to_ten:.2g}" if one.to_ten > LEAST else f"< {LEAST}",
        ]
        for one in gains
    )
    head = [
        "force",
        "technique",
        "size",
        f"error of {TRAJECTORIES:,} trajectories",
        "ns a trajectory",
        "gain at equal cost",
        "s to ten standard errors",
    ]
    return table(head, rows)


if __name__ == "__main__":
    print(report(measure(forces())))
