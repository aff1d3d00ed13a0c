"""Losses with a symmetry, and a plain simulation of them."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from sgdsim.ensemble import Ensemble
from sgdsim.formulas import evaluation
from sgdsim.model import rare_events
from sgdsim.model.loss import Loss
from sgdsim.model.noise import Noise
from sgdsim.model.optimizers import Optimizer
from sgdsim.model.run import Run
from sgdsim.model.schedules import Schedule
from sgdsim.statistics.comparison import Comparison, compare
from sgdsim.theory import find_law
from tests.statistics.test_estimators import synthetic

NOISE = {"z": Noise.parse("normal")}
REGRESSION = Loss("(x*u - e)**2/2", ("u",), {}, {"x": Noise.parse("normal"), "e": Noise.parse("normal")})


def make_run(loss: Loss, rate: str = "0.2", steps: int = 12, **options: object) -> Run:
    initial = dict(zip(loss.parameters, (1.0, 0.4, -0.3), strict=False))
    settings = {"optimizer": Optimizer(), "initial": initial, "trajectories": 64 * 1024, "seed": 5} | options
    return Run(loss=loss, schedule=Schedule(rate), steps=steps, **settings)  # type: ignore[arg-type]


def draws(noise: Noise, rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    if noise.family == "table":
        return rng.choice(noise.arguments[::2], size=shape, p=noise.arguments[1::2])
    if noise.family == "rademacher":
        return 2.0 * rng.integers(0, 2, shape) - 1.0
    families = {"normal": rng.normal, "lognormal": rng.lognormal, "uniform": rng.uniform, "laplace": rng.laplace}
    return families[noise.family](*noise.arguments, size=shape)


def simulate(run: Run, repeat: int = 1) -> Ensemble:
    """SGD by the formulas of loss and optimizer, one step after the other; a fault, if noise is used repeatedly."""
    loss, optimizer, rng = run.loss, run.optimizer, np.random.default_rng(run.seed)
    n, fixed = run.trajectories, run.loss.constants
    theta = {name: np.full(n, float(run.initial[name])) for name in loss.parameters}  # type: ignore[arg-type]
    states = {name: {state: np.zeros(n) for state in optimizer.rule.state} for name in loss.parameters}
    matrix = optimizer.matrix(loss)
    weights = np.eye(len(theta)) if matrix is None else np.array(matrix, dtype=float)
    sums = {one.name: np.zeros(n) for one in run.recorder.observables if one.is_running}
    records, snapshots = [], {}
    for step in range(run.steps + 1):
        values = {**fixed, **theta}
        if step in run.recorder.record_steps(run.steps):
            plain = {o.name: o.formula for o in run.recorder.observables if not o.is_running}
            measured = {name: evaluation.evaluate([loss.expand(text)], values)[0] for name, text in plain.items()}
            records.append({name: np.array(value) for name, value in {**theta, **measured, **sums}.items()})
        if step in run.recorder.snapshots:
            snapshots[step] = {name: value.copy() for name, value in theta.items()}
        if step == run.steps:
            break
        if step % repeat == 0:
            noise = {name: draws(one, rng, (optimizer.batch_size, n)) for name, one in loss.noise.items()}
        rate = float(run.schedule.rates(run.steps)[step])
        own = {name: {"theta": theta[name], "t": step, "learning_rate": rate, **states[name]} for name in theta}
        at = {**fixed, **{name: optimizer.point(one) for name, one in own.items()}}
        gradients = [np.broadcast_to(g, (optimizer.batch_size, n)).mean(0) for g in _gradients(loss, at, noise)]
        steps = []
        for name, gradient in zip(loss.parameters, gradients, strict=True):
            after = optimizer.steps({**own[name], "gradient": gradient})
            states[name] = {state: after[state] for state in states[name]}
            steps.append((after["theta"] - theta[name]) / rate)
        moves = weights @ np.array(steps)
        before = theta
        theta = {name: theta[name] + rate * move for name, move in zip(loss.parameters, moves, strict=True)}
        for one in run.recorder.observables:
            first, last = one.window or (0, run.steps)
            if one.is_running and first <= step < last:
                share = _share(one.formula, loss, before, theta, gradients, rate, step)
                sums[one.name] = share if one.kind == "value" else sums[one.name] + share
    steps, known = run.recorder.record_steps(run.steps).tolist(), rare_events.attributes([run])
    return synthetic(records, steps, snapshots, lanes=64, attributes=known)


def _gradients(loss: Loss, values: dict[str, np.ndarray], noise: dict[str, np.ndarray]) -> list[np.ndarray]:
    return evaluation.evaluate(loss.gradient, {**values, **noise})


def _share(
    formula: str,
    loss: Loss,
    before: dict[str, np.ndarray],
    after: dict[str, np.ndarray],
    gradients: list[np.ndarray],
    rate: float,
    step: int,
) -> np.ndarray:
    """Increment of a sum in a step; for a formula of the state alone, its value after the step."""
    import sympy

    slopes = {name: sympy.Symbol(f"g_{i}", real=True) for i, name in enumerate(loss.parameters)}
    ended = {loss.symbols[name]: sympy.Symbol(f"n_{i}", real=True) for i, name in enumerate(loss.parameters)}
    eta = sympy.Symbol("eta", real=True)
    expression = loss.expand_step(formula, "sum", ended, slopes, eta)
    is_of_step = expression.free_symbols - {loss.symbols[name] for name in (*loss.parameters, *loss.constants)}
    values: dict[str, object] = {
        **loss.constants,
        **(before if is_of_step else after),
        "eta": rate,
        "optimizer.t": step,
    }
    values |= {f"g_{i}": g for i, g in enumerate(gradients)}
    values |= {f"n_{i}": after[name] for i, name in enumerate(loss.parameters)}
    return np.broadcast_to(evaluation.evaluate([expression], values)[0], gradients[0].shape)


def verdicts(run: Run, id: str, told: Run | None = None) -> list[Comparison]:
    """The rows of a law for a run, held against an ensemble of another one where that is given."""
    run = replace(run, recorder=run.recorder.merge(find_law(id).requirements(run)))
    simulated = run if told is None else replace(told, recorder=run.recorder)
    return compare(simulate(simulated), find_law(id).predictions([run]))
