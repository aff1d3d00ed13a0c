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
    return {"normal": rng.normal, "uniform": rng.uniform, "laplace": rng.laplace}[noise.family](
        *noise.arguments, size=shape
    )


def simulate(run: Run) -> Ensemble:
    """SGD by the formulas of loss and optimizer, one step after the other."""
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
        noise = {name: draws(one, rng, (optimizer.batch_size, n)) for name, one in loss.noise.items()}
        gradients = [np.broadcast_to(g, (optimizer.batch_size, n)).mean(0) for g in _gradients(loss, values, noise)]
        rate = float(run.schedule.rates(run.steps)[step])
        for one in run.recorder.observables:
            if one.is_running:
                sums[one.name] = sums[one.name] + _pushed(one.formula, loss, gradients, rate)
        steps = []
        for name, gradient in zip(loss.parameters, gradients, strict=True):
            given = {"theta": theta[name], "gradient": gradient, "t": step, "learning_rate": rate, **states[name]}
            after = optimizer.steps(given)
            states[name] = {state: after[state] for state in states[name]}
            steps.append((after["theta"] - theta[name]) / rate)
        moves = weights @ np.array(steps)
        theta = {name: theta[name] + rate * move for name, move in zip(loss.parameters, moves, strict=True)}
    steps, known = run.recorder.record_steps(run.steps).tolist(), rare_events.attributes([run])
    return synthetic(records, steps, snapshots, lanes=64, attributes=known)


def _gradients(loss: Loss, values: dict[str, np.ndarray], noise: dict[str, np.ndarray]) -> list[np.ndarray]:
    return evaluation.evaluate(loss.gradient, {**values, **noise})


def _pushed(formula: str, loss: Loss, gradients: list[np.ndarray], rate: float) -> np.ndarray:
    import sympy

    symbols = {name: sympy.Symbol(f"g_{i}", real=True) for i, name in enumerate(loss.parameters)}
    expression = loss.expand_step(formula, "sum", {}, symbols, sympy.Float(rate, 17))
    return evaluation.evaluate([expression], {f"g_{i}": g for i, g in enumerate(gradients)})[0]


def verdicts(run: Run, id: str, told: Run | None = None) -> list[Comparison]:
    """The rows of a law for a run, held against an ensemble of another one where that is given."""
    run = replace(run, recorder=run.recorder.merge(find_law(id).requirements(run)))
    simulated = run if told is None else replace(told, recorder=run.recorder)
    return compare(simulate(simulated), find_law(id).predictions([run]))
