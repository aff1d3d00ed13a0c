"""The first step of a run, exactly, for any loss and optimizer."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from math import isfinite, prod
from typing import TYPE_CHECKING

import numpy as np

from sgdsim.base.errors import InputError
from sgdsim.formulas import evaluation
from sgdsim.formulas.arrays import entries, filled, shape_of
from sgdsim.formulas.vectors import coordinates, gather
from sgdsim.model.loss import Loss
from sgdsim.model.noise import Noise
from sgdsim.model.observables import Observable
from sgdsim.model.run import Recorder, Run
from sgdsim.prediction import Moment, NotApplicable, Prediction, require
from sgdsim.theory.chain.step import start_points
from sgdsim.theory.law import law, row
from sgdsim.theory.methods.batch_gradient import Batch, batch_rule
from sgdsim.theory.methods.first_steps import steps_by_sign
from sgdsim.theory.methods.step_formula import after_step
from sgdsim.theory.methods.step_noise import StepNoise, averaging
from sgdsim.theory.quadrature import nested
from sgdsim.theory.quadrature.expectation import Expected
from sgdsim.theory.quadrature.rules import Level, is_discrete
from sgdsim.theory.recorded_names import label_of, name_of

if TYPE_CHECKING:
    import sympy

MOST_PARAMETERS = 3
"""Most parameters with rows: the starts of more are too many points."""
MOST_ENTRIES = 16
"""Most entries of matrices that an optimizer steps as a whole, if they start at numbers."""
_MOST_OUTCOMES = 100_000  # most pairs of a point of the start and an outcome of the noise

_POINTS = (25, 24)  # points of a drawn parameter by two rules: they alternate, so that no jump escapes both
_RESOLVED = 0.02  # relative resolution of a row

_TOLERANCE = 1e-6  # relative error of a quadrature at which it ends
_FAR_OFF = 1e-4  # error of a quadrature, in units of the variance, from which on it is not used
_NOTHING = 1e-9  # variance, in units of the mean square, that is taken for rounding
_FEWEST = 10  # expected trajectories that step against the others, from which on a sample shows some


def _observable(name: str) -> Observable:
    return Observable.parse(f"first_{label_of(name)}", f"value_at({name}, 1)")


def check_start(run: Run) -> None:
    """Refuse many parameters, and a start whose square has no standard error."""
    number, starts = len(run.loss.parameters), run.initial.values()
    whole = run.optimizer.rule.is_of_matrices and all(isinstance(start, float | int) for start in starts)
    most = MOST_ENTRIES if whole else MOST_PARAMETERS
    require(number <= most, f"there are {number} parameters, expected at most {most}")
    drawn = (start for start in run.initial.values() if isinstance(start, Noise))
    require(all(isfinite(start.moment(4)) for start in drawn), "the start has no fourth moment")


def _records(run: Run) -> Recorder:
    check_start(run)
    return Recorder(observables=tuple(map(_observable, run.loss.parameters)))


@law(
    "first-step",
    "exact mean and variance after the first step, for any loss and optimizer",
    source="re-derived",
    holds="one to three parameters; batches whose noise is a few variables",
    records=_records,
    automatic=True,
    any_field=True,
)
def first_step(run: Run) -> Iterator[Prediction]:
    """Mean and variance of each parameter after one step from the run's own start. Exact.

    Before its first step an optimizer has nothing to remember, so that the step is a formula of the start and of the
    noise of one batch, whatever the optimizer: ``theta_1 = step(theta_0, g(theta_0, xi))``. Means over xi are closed
    forms, sums, or quadratures, split at kinks; those over the start are sums over its points.

    The step of an optimizer of whole matrices is no formula of moderate length. If the noise is rows of data or
    discrete, its step is computed in numbers for each outcome; with continuous noise there are no rows.

    The law tests how an optimizer uses its first gradient, with any correction of the bias of its averages. A mean is
    resolved to 2 % of its change and of the spread, a variance to 2 % of itself. Nothing is neglected. If a
    step has a length of its own and fewer than ten trajectories are expected to step against the others, the mean may
    lack these, and the variance, which is due to them, has no row.
    """
    check_start(run)
    has_density = any(isinstance(start, Noise) and not is_discrete(start) for start in run.initial.values())
    rules = [start_points(run, count) for count in _POINTS[: 1 + has_density]]
    points, weights = np.concatenate([found for found, _ in rules]), [shares for _, shares in rules]
    ends = np.cumsum([len(shares) for shares in weights])[:-1]
    batch, rate = batch_rule(run), float(run.schedule.rates(run.steps)[0])
    theta = dict(zip(run.loss.parameters, points.T, strict=True))
    reasons, rows = list[str](), list[Prediction]()
    if run.optimizer.rule.is_of_matrices:
        for name, (first, second) in _whole_matrices(run, batch, rate, theta).items():
            parts = (np.split(one, ends) for one in (theta[name], first, second, np.zeros(len(points))))
            moved = [_Moved.of(*one) for one in zip(weights, *parts, strict=True)]
            rows += _rows(run, name, moved[0], moved[-1])
        require(rows, "the step is nothing")
        yield from rows
        return
    after, kicks = after_step(run.loss, run.optimizer, batch.gradient, rate, is_first=True)
    for name, symbol, value in zip(run.loss.parameters, run.loss.theta, after, strict=True):
        used = {one.name for one in value.free_symbols}
        sources = [one for one in batch.sources if used.intersection(one.names)]
        try:
            moved = [value - symbol, (value - symbol) ** 2]
            if all(one.is_discrete for one in sources) and not kicks:
                (first, second), off = _sums(run.loss, sources, moved, theta), np.zeros(len(points))
            elif any(one.samples > 1 for one in sources):
                (first, second), off = _by_covariance(run, name, rate, theta), np.zeros(len(points))
            else:
                (first, second), (_, off) = _expectations(averaging(run.loss, sources, kicks), moved, theta)
        except NotApplicable as reason:
            reasons.append(str(reason))
            continue
        parts = (np.split(one, ends) for one in (theta[name], first, second, off))
        moved = [_Moved.of(*one) for one in zip(weights, *parts, strict=True)]
        rows += _rows(run, name, moved[0], moved[-1])
    require(len(reasons) < len(after), "; ".join(reasons))
    require(rows, "no mean over the start and the noise of a step is known to its fourth digit")
    yield from rows


def _whole_matrices(
    run: Run, batch: Batch, rate: float, theta: Mapping[str, np.ndarray]
) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Means over discrete noise of each coordinate's change and of its square, for each point of the start."""
    loss, optimizer, sources = run.loss, run.optimizer, list(batch.sources)
    why = f"{optimizer.name} steps whole matrices: in numbers, for rows of data and discrete noise alone"
    require(all(one.is_discrete for one in sources), why)
    outcomes, points = prod(one.outcomes for one in sources), len(next(iter(theta.values())))
    require(outcomes * points <= _MOST_OUTCOMES, f"the noise of a step has {outcomes:,} outcomes, very many")
    nodes = nested.nodes(sources, [], {**loss.constants, **theta}, Level(1))
    axes = tuple(range(1, len(sources) + 1))
    slopes = evaluation.evaluate(list(batch.gradient), nodes.values)
    before = gather({name: nodes.values[name] for name in loss.parameters})
    gradient = gather(dict(zip(loss.parameters, slopes, strict=True)))
    found: dict[str, tuple[np.ndarray, np.ndarray]] = {}
    for base, matrix in before.items():
        nothing = filled(shape_of(matrix), [0.0] * len(entries(matrix)))
        given = {**dict.fromkeys(optimizer.rule.state, nothing), "theta": matrix, "gradient": gradient[base]}
        after = optimizer.steps({**given, "t": 0, "learning_rate": rate})["theta"]
        for name, one, other in zip(coordinates(base, shape_of(matrix)), entries(matrix), entries(after), strict=True):
            moved = np.asarray(other - one) * np.ones_like(nodes.weights)
            first, second = ((power * nodes.weights).sum(axis=axes) for power in (moved, moved**2))
            found[name] = np.broadcast_to(first, points), np.broadcast_to(second, points)
    return found


@dataclass(frozen=True)
class _Moved:
    """Mean of a parameter after a step, its change, its variance, and the error of the mean square.

    They are by one of the two rules for the start.
    """

    mean: float
    shift: float
    variance: float
    off: float

    @classmethod
    def of(
        cls, weights: np.ndarray, start: np.ndarray, first: np.ndarray, second: np.ndarray, off: np.ndarray
    ) -> _Moved:
        """The moments that follow from the mean change at each point of the start, and from its mean square."""
        centre, shift = float(start @ weights), float(first @ weights)
        square = float((second + 2.0 * (start - centre) * first + (start - centre) ** 2) @ weights)
        return cls(centre + shift, shift, max(square - shift**2, 0.0), float(off @ weights))


def _sums(
    loss: Loss, sources: list[nested.Source], values: list[sympy.Expr], theta: dict[str, np.ndarray]
) -> list[np.ndarray]:
    """Means of expressions over discrete noise, one for each point of the start."""
    found = nested.nodes(sources, [], {**loss.constants, **theta}, Level(1))
    axes = tuple(range(1, len(sources) + 1))
    points = len(next(iter(theta.values())))
    weighted = [np.asarray(value * found.weights) for value in evaluation.evaluate(values, found.values)]
    return [np.broadcast_to(one.sum(axis=axes), points) for one in weighted]


def _by_covariance(run: Run, name: str, rate: float, theta: dict[str, np.ndarray]) -> list[np.ndarray]:
    """Means of a parameter's change and of its square, one for each point of the start, whose noise has no formula.

    The mean of a batch of samples has a mean and a variance, and a step that is linear in it needs no more.
    """
    noise, i = StepNoise(run), run.loss.parameters.index(name)
    require(noise.is_memoryless, f"{run.optimizer.name} remembers, or is not linear in the mean over a batch")
    shift = noise.means[i] - run.loss.theta[i]
    values = {**run.loss.constants, **theta, noise.rate.name: rate}
    found = evaluation.evaluate([shift, shift**2 + noise.step_covariance(i, i)], values)
    return [np.broadcast_to(one, len(theta[name])) for one in found]


def _expectations(loss: Loss, values: list[sympy.Expr], theta: dict[str, np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """Means of expressions over the noise, and their errors, of shape (expression, point of the start)."""
    found = Expected(loss, values)
    try:
        if found.exact is not None:
            exact = found.at(theta)
            return exact.value, exact.error
        # More digits would take very many points near a kink of width epsilon, as Adam has.
        several = nested.expectation(loss, values, theta, _TOLERANCE)
    except InputError as error:
        raise NotApplicable(f"the mean of the first step: {error}") from None
    return np.stack([one.value for one in several]), np.stack([one.error for one in several])


def _rows(run: Run, name: str, other: _Moved, found: _Moved) -> Iterator[Prediction]:
    mean, variance = found.mean, found.variance
    recorded, scale = name_of(run, _observable(name)), float(np.hypot(found.shift, np.sqrt(variance)))
    off = found.off + abs(variance - other.variance)
    # Of two values s and -s the second has a share of about variance/(4 s^2): a mean may lack all that it adds.
    against = run.trajectories * variance / 4.0
    is_rare = steps_by_sign(run.optimizer) and against < _FEWEST * found.shift**2
    if scale > 0 and found.off + abs(mean - other.mean) * scale < _FAR_OFF * scale**2:
        quantity, unseen = f"mean({name}) after the first step", variance / abs(found.shift) if is_rare else 0.0
        moment = Moment("mean", recorded, run.steps)
        yield row(moment, mean, quantity, resolution=_RESOLVED * scale, allowed=(unseen, unseen))
    if variance > _NOTHING * scale**2 and off < _FAR_OFF * variance and not is_rare:
        quantity = f"variance({name}) after the first step"
        yield row(Moment("variance", recorded, run.steps), variance, quantity, resolution=_RESOLVED * variance)
