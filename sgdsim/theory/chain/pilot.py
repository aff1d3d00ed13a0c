"""A trial of a few hundred trajectories, which shows where a chain lives before anything is computed there.

Only the domain of the computation and its coordinates are taken from it, no number of a result.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from sgdsim.base import budget
from sgdsim.formulas.evaluation import evaluate
from sgdsim.model.noise import Noise
from sgdsim.model.run import Run
from sgdsim.model.starts import Grid, Listed, Stored
from sgdsim.prediction import NotApplicable
from sgdsim.theory.chain.settings import BLOCK, SEED, TRAJECTORIES
from sgdsim.theory.chain.step import Step
from sgdsim.theory.quadrature.nested import Source


def _draw(source: Source, random: np.random.Generator, number: int) -> dict[str, np.ndarray]:
    if source.noise is None:
        assert source.table is not None
        chosen = random.choice(len(source.table), size=number, p=source.shares)
        return dict(zip(source.names, source.table[chosen].T, strict=True))
    draws = _noise_draws(source.noise, random, (source.samples, number))
    return {source.names[0]: draws.mean(axis=0)}


def _noise_draws(noise: Noise, random: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    arguments = noise.arguments
    if noise.atoms():
        values, shares = zip(*noise.atoms(), strict=True)
        weights = np.array(shares, dtype=np.float64)
        return random.choice(np.array(values, dtype=np.float64), size=shape, p=weights / weights.sum())
    if noise.family == "exponential":
        return np.asarray(arguments[0] * (random.standard_exponential(shape) - 1))
    draws: dict[str, Callable[..., np.ndarray]] = {
        "normal": random.normal,
        "uniform": random.uniform,
        "laplace": random.laplace,
        "lognormal": random.lognormal,
        "student_t": random.standard_t,
    }
    return np.asarray(draws[noise.family](*arguments, size=shape))


def sampled_starts(run: Run, random: np.random.Generator) -> np.ndarray:
    """A sample of the start, shape (trajectory, parameter)."""
    columns = []
    for _, start in run.initial_items():
        if isinstance(start, Noise):
            columns.append(_noise_draws(start, random, (TRAJECTORIES,)))
        elif isinstance(start, Grid):
            number = run.trajectories
            columns.append(np.resize(start.values(0, number)[:: max(1, number // TRAJECTORIES)], TRAJECTORIES))
        elif isinstance(start, Listed | Stored):
            columns.append(random.normal(start.moment(1), max(start.cumulant(2), 0.0) ** 0.5, TRAJECTORIES))
        else:
            columns.append(np.full(TRAJECTORIES, float(start)))
    return np.array(columns).T


def sampled_states(step: Step, state: np.ndarray, random: np.random.Generator, steps: int) -> np.ndarray:
    """States after each of a number of steps, shape (step, trajectory, parameter)."""
    states = np.empty((steps, *state.shape))
    for number in range(steps):
        budget.check()
        values = step.values(state)
        for source in step.sources:
            values |= _draw(source, random, len(state))
        found = evaluate(step.after, values)
        state = np.array([np.broadcast_to(column, len(state)) for column in found]).T
        states[number] = state
    return states


def run_pilot(step: Step) -> np.ndarray:
    """A sample of states when their spread has settled, shape (state, parameter).

    Raises
    ------
    NotApplicable
        If the trial diverges, or collapses onto a point or a line.
    """
    random = np.random.default_rng(SEED)
    state = sampled_starts(step.run, random)
    scales = []
    for _ in range(6):
        states = sampled_states(step, state, random, BLOCK)
        state = states[-1]
        if not np.isfinite(state).all() or np.abs(state).max() > 1e100:
            raise NotApplicable("the chain diverges: a trial of it left all bounds; take a lower learning rate")
        scales.append(spread_of(states[BLOCK // 2 :].reshape(-1, state.shape[1])))
        if len(scales) > 1 and (np.abs(scales[-1] - scales[-2]) < 0.1 * scales[-1]).all():
            break
    last = scales[-1]
    size = np.abs(state).max(axis=0)
    if (last <= 1e-12 * (1e-100 + size)).any() or (last < 1e-6 * scales[0]).any() or _is_line(state):
        raise NotApplicable(
            "the chain collapses: a trial of it runs into a point, or a line, on which nothing is random any more; "
            "evolve() gives its law after so many steps"
        )
    if (last > 1e6 * scales[0]).any():
        raise NotApplicable("the chain diverges: a trial of it spreads without bound; take a lower learning rate")
    return states[BLOCK // 2 :].reshape(-1, state.shape[1])


def _is_line(states: np.ndarray) -> bool:
    """True if two parameters lie on a line, and so are only one."""
    within = states / states.std(axis=0)
    return within.shape[1] == 2 and bool(np.linalg.eigvalsh(np.cov(within.T))[0] < 1e-12)


def spread_of(states: np.ndarray) -> np.ndarray:
    """Half the width of the middle two thirds of each parameter; its standard deviation if that width is zero."""
    low, high = np.quantile(states, [0.16, 0.84], axis=0)
    spread = (high - low) / 2
    return np.asarray(np.where(spread > 0, spread, states.std(axis=0)))
