"""The law of the parameters after the first steps of a run, as points with weights: of the start and of the noise.

Each step takes every point to several, one for each node of the noise of a batch, by the formulas of the optimizer in
numbers, memory and all. Means over the points are exact where the parameters are polynomials of the noise of low
degree; elsewhere a finer rule tells how far a coarser one is off. It does so where steps are smooth in the noise: two
rules may miss the same jump. So gradients with kinks are refused, and those of both signs where a step divides by them.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from sgdsim.base import budget
from sgdsim.base.errors import InputError
from sgdsim.formulas import evaluation
from sgdsim.model.noise import Noise
from sgdsim.model.optimizers import Optimizer
from sgdsim.model.run import Run
from sgdsim.prediction import NotApplicable, require
from sgdsim.theory.chain.step import start_points
from sgdsim.theory.methods.batch_gradient import Batch, batch_rule
from sgdsim.theory.quadrature.nested import Source, node_number, nodes
from sgdsim.theory.quadrature.rules import Level, is_discrete

MOST_POINTS = 1_000_000

_ORDERS = ((7, 8), (9, 12), (13, 16), (17, 24), (25, 32))  # nodes of a coarse rule, with one in the middle, and a fine
_NEGLIGIBLE = 1e-20  # largest weight of a point that is left out
_RARE = 1e-12  # largest probability of a sign of the gradient that is neglected


@dataclass(frozen=True, eq=False)
class Points:
    """A law of the parameters, as points with weights.

    Attributes
    ----------
    theta
        Values of each parameter at the points.
    weights
        Probabilities of the points.
    """

    theta: dict[str, np.ndarray]
    weights: np.ndarray

    def mean(self, name: str) -> float:
        """The mean of a parameter."""
        return float(self.weights @ self.theta[name])

    def covariance(self, one: str, other: str) -> float:
        """The covariance of two parameters."""
        deviations = (self.theta[name] - self.mean(name) for name in (one, other))
        return float(self.weights @ np.prod(list(deviations), axis=0))


def laws_after(run: Run, steps: int) -> list[tuple[Points, ...]]:
    """The law after each of the first steps, by a coarse rule and by a fine one.

    Raises
    ------
    NotApplicable
        For too many points, for a step that is not smooth in the noise, and with a matrix of learning rates.

    Examples
    --------
    >>> from sgdsim.model.loss import Loss
    >>> from sgdsim.model.optimizers import Optimizer
    >>> from sgdsim.model.schedules import Schedule
    >>> loss = Loss("x**2/2 + z*x", ("x",), {}, {"z": Noise.parse("normal")})
    >>> momentum = Optimizer("momentum", {"momentum": 0.5})
    >>> fine = laws_after(Run(loss, momentum, Schedule("0.5"), {"x": 1.0}, 100, 10), 2)[1]
    >>> [round(law.mean("x"), 12) for law in fine], [round(law.covariance("x", "x"), 12) for law in fine]
    ([0.5, 0.0], [0.25, 0.5])
    """
    has_matrix = bool(run.optimizer.preconditioner or run.optimizer.metric)
    require(not has_matrix, "with a matrix of learning rates no step is followed by points")
    import sympy

    batch = batch_rule(run)
    symbols = set[sympy.Symbol]().union(*(slope.free_symbols for slope in batch.gradient))
    has_kinks = any(evaluation.kinks(batch.gradient, symbol) for symbol in symbols)
    kicks = run.loss.parameters if run.optimizer.rule.is_random else ()
    sources = (*batch.sources, *(Source((_kick(name),), Noise("normal", (0.0, 1.0))) for name in kicks))
    require(
        not (has_kinks and _is_continuous(run, sources)), "the gradient has kinks, which points of the noise may miss"
    )
    require(not run.optimizer.rule.is_of_matrices, f"{run.optimizer.name} steps whole matrices")
    coarse, fine = _orders(run, sources, steps)
    return [tuple(_followed(run, batch, sources, steps, order)) for order in (coarse, fine)]


def steps_by_sign(optimizer: Optimizer) -> bool:
    """True if a first step has, but for an epsilon, a length of its own in the direction of the gradient.

    Examples
    --------
    >>> [steps_by_sign(Optimizer(name)) for name in ("sgd", "signsgd", "adam")]
    [False, True, True]
    """
    divides = any(word in text for _, text in optimizer.inner() for word in ("sqrt(", "sign("))
    return divides and not optimizer.rule.linear


def _kick(name: str) -> str:
    return f"xi__{name}"


def _orders(run: Run, sources: Sequence[Source], steps: int) -> tuple[int, int]:
    """The numbers of nodes of the finest two rules whose points are not too many."""
    drawn = [start for start in run.initial.values() if isinstance(start, Noise) and not is_discrete(start)]
    # A parameter that starts from a density has one point in this count; its number of points is the rule's.
    starts = len(start_points(run, 1, MOST_POINTS)[1])
    for coarse, fine in reversed(_ORDERS):
        each = node_number(sources, Level(fine), [])
        if starts * fine ** len(drawn) * float(each) ** steps <= MOST_POINTS:
            return coarse, fine
    require(False, f"the noise of {steps} steps has more than {MOST_POINTS:,} points")
    raise AssertionError


def _followed(run: Run, batch: Batch, sources: Sequence[Source], steps: int, order: int) -> Iterator[Points]:
    loss, rule, rates = run.loss, run.optimizer.rule, run.schedule.rates(run.steps)
    points, weights = start_points(run, order)
    own = {name: {"theta": points[:, i]} for i, name in enumerate(loss.parameters)}
    for values in own.values():
        values |= {state: np.zeros(len(points)) for state in rule.state}
    of_signs = steps_by_sign(run.optimizer)
    for step in range(steps):
        budget.check()
        told = {"t": step, "learning_rate": float(rates[step])}
        at = {name: run.optimizer.point({**values, **told}) for name, values in own.items()}
        found = nodes(sources, [], {**loss.constants, **at}, Level(order))
        shape = np.broadcast_shapes(found.weights.shape, (len(weights),) + (1,) * len(sources))
        shares = weights.reshape(-1, *(1,) * len(sources)) * found.weights
        kept = shares.ravel() > _NEGLIGIBLE
        slopes = evaluation.evaluate(batch.gradient, found.values)
        smooth = not of_signs or all(_has_one_sign(slope, shares) for slope in slopes)
        require(smooth, f"{run.optimizer.name} divides by a gradient that may have both signs")
        own = {
            name: _moved(run, {**values, **told}, slope, found.values.get(_kick(name), 0.0), shape, kept)
            for (name, values), slope in zip(own.items(), slopes, strict=True)
        }
        weights = shares.ravel()[kept]
        yield Points({name: values["theta"] for name, values in own.items()}, weights)


def _has_one_sign(slope: np.ndarray, shares: np.ndarray) -> bool:
    below = float(np.where(slope < 0, shares, 0.0).sum())
    return not _RARE < below < 1.0 - _RARE


def _is_continuous(run: Run, sources: Sequence[Source]) -> bool:
    """True if the start, the noise of a batch or the optimizer's own noise has a density, and so may cross kinks."""
    drawn = [start for start in run.initial.values() if isinstance(start, Noise)]
    return not (all(source.is_discrete for source in sources) and all(start.atoms() for start in drawn))


def _moved(
    run: Run,
    values: Mapping[str, np.ndarray | float],
    slope: np.ndarray,
    kick: np.ndarray | float,
    shape: tuple[int, ...],
    kept: np.ndarray,
) -> dict[str, np.ndarray]:
    """A parameter and its memory after a step, at the points that are kept."""
    spread = {name: _on_first_axis(value, len(shape) - 1) for name, value in values.items()}
    try:
        after = run.optimizer.steps({**spread, "gradient": slope, "xi": kick})
    except InputError as error:  # the gradient overflows
        raise NotApplicable(f"a step has no value at every point of the noise: {error}") from None
    names = ("theta", *run.optimizer.rule.state)
    return {name: np.broadcast_to(after[name], shape).ravel()[kept] for name in names}


def _on_first_axis(value: np.ndarray | float, axes: int) -> np.ndarray | float:
    return value.reshape(-1, *(1,) * axes) if isinstance(value, np.ndarray) else value
