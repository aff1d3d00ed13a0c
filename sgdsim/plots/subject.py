"""The subject of a figure: an ensemble, its predictions, and the names and formulas in its scenario."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from sgdsim.base.errors import InputError, unknown_name
from sgdsim.ensemble import Ensemble
from sgdsim.plots.mathematics import is_typeset, letters, mark
from sgdsim.prediction import (
    STATISTICS,
    Correlation,
    Curve,
    Function,
    Measure,
    Moment,
    PathMean,
    Prediction,
    Quantile,
)
from sgdsim.prediction import is_named as prediction_is_named
from sgdsim.statistics import estimators, snapshot_estimators
from sgdsim.statistics.estimate import Estimate, NotMeasured, combine

if TYPE_CHECKING:
    from sgdsim.input.scenario import Scenario
    from sgdsim.model.run import Run

SHORT = 22
"""Number of letters for which an axis has room."""
_TITLE = 32
"""Number of letters of a formula for which a title has room."""
_NEGLIGIBLE = 1e-3
"""Allowed deviation, in units of the resolution of a prediction, that is not worth a bar."""

_RATE = "optimizer.learning_rate"
_DECAY = "optimizer.weight_decay"


@dataclass(frozen=True, eq=False)
class Curves:
    """Predictions where nothing was measured, which are drawn as lines.

    Parameters
    ----------
    predictions
        Predictions at steps between records, or at the points of `sweep`.
    sweep
        Swept values by key, one for each point of these predictions.
    """

    predictions: tuple[Prediction, ...] = ()
    sweep: Mapping[str, np.ndarray] = field(default_factory=dict)


@dataclass(frozen=True, eq=False)
class Subject:
    """An ensemble with its predictions.

    Parameters
    ----------
    ensemble
        A run, or a sweep with a leading dimension ``point``.
    predictions
        Predictions of its scenario, or others.
    alpha
        Probability that any value leaves its band by chance.
    curves
        Predictions in between, at other steps or points.
    only
        Names of the parameters and observables to show, or statistics of them, ``variance(x)``; by default all.
    theory
        False to show nothing that is not measured, such as flows and limits of stability.
    """

    ensemble: Ensemble
    predictions: Sequence[Prediction] = ()
    alpha: float = 1e-3
    curves: Curves = Curves()
    only: Sequence[str] = ()
    theory: bool = True

    def __post_init__(self) -> None:
        if self.only:
            names = [str(name) for name in self.ensemble["observable"]]
            for text, (_, name) in zip(self.only, self._asked, strict=True):
                if name not in names:
                    raise InputError(f"--only {text}: {unknown_name('observable', name, names)}")
            of_these = tuple(one for one in self.predictions if self._is_about(one.measure))
            object.__setattr__(self, "predictions", of_these)

    @cached_property
    def _asked(self) -> list[tuple[str, str]]:
        """Statistic, or an empty text for all, and name of each entry of `only`."""
        entries = [re.fullmatch(rf"({'|'.join(STATISTICS)})\((.+)\)", text) for text in self.only]
        return [(one[1], one[2]) if one else ("", text) for one, text in zip(entries, self.only, strict=True)]

    def shows(self, *names: str) -> bool:
        """True if any of these names is to be shown."""
        return not self.only or any(name in names for _, name in self._asked)

    def statistics_of(self, name: str) -> tuple[str, ...]:
        """Statistics of a parameter or an observable that are to be shown, whether predicted or not."""
        asked = tuple(statistic for statistic, of in self._asked if of == name)
        return asked if asked and "" not in asked else ("mean", "variance")

    def _is_about(self, measure: Measure) -> bool:
        """True if a prediction is about what is to be shown."""
        if not isinstance(measure, Moment | Curve):
            return self.shows(*names_in(measure))
        moments = measure.moments if isinstance(measure, Curve) else (measure,)
        return any(one in self._asked for at in moments for one in (("", at.observable), (at.statistic, at.observable)))

    @cached_property
    def points(self) -> list[Ensemble]:
        """Ensemble of each point of a sweep; the ensemble itself for a single run."""
        count = self.ensemble.sizes.get("point")
        return [self.ensemble] if count is None else [self.ensemble.select(point) for point in range(count)]

    @cached_property
    def scenario(self) -> Scenario | None:
        """Scenario from which the ensemble was made, if it is known."""
        from sgdsim.input.scenario import Scenario

        text = self.ensemble.attributes.get("scenario")
        return Scenario.parse(str(text), where="the scenario in the ensemble") if text else None

    @property
    def runs(self) -> tuple[Run, ...]:
        """Run of each point; empty without a scenario."""
        return self.scenario.runs if self.scenario else ()

    @property
    def measured(self) -> list[str]:
        """Names of the parameters and the user's observables that are to be shown."""
        names = [str(name) for name in self.ensemble["observable"] if self.shows(str(name))]
        if not self.runs:
            return names
        mine = {*self.runs[0].loss.parameters, *(one.name for one in self.runs[0].recorder.observables)}
        return [name for name in names if name in mine]

    @property
    def record_steps(self) -> np.ndarray:
        """Numbers of completed steps at the records; those of the first point if points differ in steps."""
        return self.steps_of(0)

    def steps_of(self, point: int) -> np.ndarray:
        """Numbers of completed steps at the records of a point."""
        return np.asarray(self.points[point]["record_step"])

    @property
    def has_swept_steps(self) -> bool:
        """True if the points differ in their number of steps; they are then compared at equal times."""
        return np.ndim(self.ensemble["record_step"]) > 1

    def same_record(self, moment: Moment | Quantile, of: int, point: int) -> Moment | Quantile:
        """Moment at the same record of another point, which is another step if points differ in steps."""
        if not self.has_swept_steps:
            return moment
        record = int(np.searchsorted(self.steps_of(of), moment.step))
        return replace(moment, step=int(self.steps_of(point)[record]))

    def along(self, point: int, steps: Iterable[int]) -> np.ndarray:
        """Positions of records on the axis of a figure: their steps, or their times if points differ in steps."""
        steps = np.array([*steps], dtype=np.int64)
        if not self.has_swept_steps:
            return steps
        return np.asarray(self.points[point]["time"])[np.searchsorted(self.steps_of(point), steps)]

    @cached_property
    def observables(self) -> dict[str, str]:
        """Formulas of the user's observables, by name."""
        return {one.name: str(one) for run in self.runs[:1] for one in run.recorder.observables}

    def definition(self, name: str) -> str:
        """Text of an observable with its formula, ``q = u**2 - w**2``, marked; a parameter is only its name."""
        return mark(f"{name} = {self.observables[name]}" if name in self.observables else name)

    def formula(self, name: str) -> str:
        """Definition of an observable if a title has room for it, else its name."""
        whole = self.definition(name)
        return whole if is_typeset(whole) and letters(whole) <= _TITLE else mark(name)

    @cached_property
    def controls(self) -> frozenset[str]:
        """Labels of predictions that must be rejected, which are drawn as rivals, without residuals."""
        return frozenset(prediction_label(one) for one in self.predictions if one.expect == "disagrees")

    @cached_property
    def sweep(self) -> dict[str, np.ndarray]:
        """Swept values by key, one for each point; the learning rate comes first."""
        keys = [name for name in self.ensemble if name.startswith("sweep_")]
        found = {key.removeprefix("sweep_"): np.asarray(self.ensemble[key]) for key in keys}
        return {key: found[key] for key in sorted(found, key=lambda key: (key != _RATE, list(found).index(key)))}

    def point_label(self, point: int) -> str:
        """Label of a point: its swept values.

        Examples
        --------
        >>> Subject(Ensemble({}, {}), (), 0.001).point_label(0)
        'measured'
        """
        values = [f"{swept_symbol(key)} = {_number(values[point])}" for key, values in self.sweep.items()]
        return ", ".join(values) or "measured"

    def claims(self, predictions: Sequence[Prediction] | None = None) -> Iterator[tuple[Prediction, Moment, float]]:
        """Predictions about moments, with the moment and the value; a curve gives each of its moments."""
        for prediction in self.predictions if predictions is None else predictions:
            measure = prediction.measure
            if isinstance(measure, Moment):
                pairs: list[tuple[Moment, float]] = [(measure, prediction.predicted)]
            elif isinstance(measure, Curve):
                pairs = list(zip(measure.moments, measure.values, strict=True))
            else:
                continue
            for moment, value in pairs:
                yield prediction, replace(moment, point=_first(moment.point, prediction.point, 0)), value

    def estimate(self, measure: Measure, point: int = 0) -> Estimate:
        """Estimate of the number that a prediction is about.

        Raises
        ------
        NotMeasured
            For a quantity that was not recorded, and a measure that is not a single number.
        """
        if isinstance(measure, Moment):
            ensemble = self.points[_first(measure.point, point)]
            return estimators.statistic(ensemble, measure.statistic, measure.observable, measure.step)
        if isinstance(measure, Quantile):
            ensemble = self.points[_first(measure.point, point)]
            return snapshot_estimators.quantile(ensemble, measure.observable, measure.step, measure.probability)
        if isinstance(measure, Correlation):
            return snapshot_estimators.correlation(self.points[point], measure.parameter, measure.steps)
        if isinstance(measure, PathMean):
            return snapshot_estimators.path_mean(self.points[point], measure.parameter, measure.steps, measure.function)
        if isinstance(measure, Function):
            return combine(measure.function, [self.estimate(moment, point) for moment in measure.moments])
        raise NotMeasured(f"a {measure.statistic} is not one number")

    def at_steps(self, statistic: str, observable: str, steps: Iterable[int], point: int) -> list[Estimate]:
        """Estimates of a statistic at several steps."""
        return [self.estimate(Moment(statistic, observable, int(step)), point) for step in steps]


def names_in(measure: Measure) -> tuple[str, ...]:
    """Names of the parameters and observables that a prediction is about.

    Examples
    --------
    >>> names_in(Moment("mean", "x", 9))
    ('x',)
    """
    moments = getattr(measure, "moments", (measure,))
    of_each = (getattr(one, "observable", None) or getattr(one, "parameter", None) for one in moments)
    return tuple(name for name in of_each if name)


def swept_name(key: str) -> str:
    """Name of a swept key in words.

    Examples
    --------
    >>> swept_name("optimizer.learning_rate"), swept_name("loss.constants.s"), swept_name("run.seed")
    ('learning rate', 's', 'run.seed')
    """
    for prefix in ("loss.constants.", "optimizer."):
        if key.startswith(prefix):
            return key.removeprefix(prefix).replace("_rate", " rate").replace("_decay", " decay")
    return key


def swept_symbol(key: str) -> str:
    """Symbol of a swept key, if it has one, such as η for the learning rate.

    Examples
    --------
    >>> swept_symbol("run.seed")
    'run.seed'
    """
    if key in (_RATE, _DECAY) or key.startswith("loss.constants."):
        return mark(key.rpartition(".")[2])
    return swept_name(key)


def swept_label(key: str) -> str:
    """Label of an axis for a swept key, in words and with its symbol."""
    return f"{swept_name(key)} {swept_symbol(key)}" if key in (_RATE, _DECAY) else swept_symbol(key)


def prediction_label(prediction: Prediction) -> str:
    """Label of a prediction in a legend: the id of a law, the name of a claim, or else its formula.

    Examples
    --------
    >>> from sgdsim.plots.mathematics import plain
    >>> claim = Prediction("user-1", "mean(x)", Moment("mean", "x", 9), 0.0, 1, source="user", conditions="= 0")
    >>> plain(prediction_label(claim)), plain(prediction_label(replace(claim, id="rest", order="exact")))
    ('0, order 1', 'rest')
    """
    order = f", order {prediction.order}" if isinstance(prediction.order, int) else ""
    control = ", to be rejected" if prediction.expect == "disagrees" else ""
    if prediction.source != "user":
        return f"{prediction.id}{order or f', {prediction.order}'}{control}"
    return f"{claim_name(prediction)}{order}{control}"


def is_named(prediction: Prediction) -> bool:
    """True if a prediction is a law, or a claim to which the user has given a name."""
    return prediction.source != "user" or prediction_is_named(prediction.id)


def claim_name(prediction: Prediction) -> str:
    """Name of a claim, or else its right-hand side."""
    if is_named(prediction):
        return prediction.id
    relation, _, right = prediction.conditions.partition(" ")
    if isinstance(prediction.measure, Curve):
        return right  # a text such as "11 values over step"
    return mark(right) if relation == "=" else f"{relation} {mark(right)}"


def quantity_label(prediction: Prediction) -> str:
    """Text of the quantity of a prediction; that of a claim is marked as a formula.

    Examples
    --------
    >>> from sgdsim.plots.mathematics import is_typeset, letters, mark
    >>> claim = Prediction("user-1", "mean(x) at step 9", Moment("mean", "x", 9), 0.0, source="user")
    >>> quantity_label(claim) == f"{mark('mean(x)')} at step 9"
    True
    """
    if prediction.source != "user":
        return prediction.quantity
    left, rest = re.fullmatch(r"(.+?)((?: at step \d+)?(?: [<>] .*)?)", prediction.quantity, re.DOTALL).groups()  # type: ignore[union-attr]
    return f"{mark(left)}{rest}"


def statistic_label(statistic: str, name: str) -> str:
    """Label of an axis for a statistic; a long name is left out, as the title of the panel has it.

    Examples
    --------
    >>> from sgdsim.plots.mathematics import plain
    >>> plain(statistic_label("mean", "x")), statistic_label("variance", "time_average_of_x")
    ('mean(x)', 'variance')
    """
    return f"{statistic}({mark(name)})" if len(f"{statistic}({name})") <= SHORT else statistic


def arrays(estimates: Sequence[Estimate]) -> tuple[np.ndarray, np.ndarray]:
    """Values and standard errors of estimates, as arrays."""
    values = np.array([one.value for one in estimates])
    return values, np.array([one.stderr for one in estimates])


def allowances(predictions: Sequence[Prediction]) -> np.ndarray:
    """Distances below and above each predicted number that are allowed, shape (2, prediction); 0 where negligible.

    Examples
    --------
    >>> about = "claim", "mean(x)", Moment("mean", "x", 9), 1.0
    >>> allowances([Prediction(*about, allowed=one) for one in ((0.02, 0.02), (1e-9, 1e-9))]).tolist()
    [[0.02, 0.0], [0.02, 0.0]]
    """
    least = np.array([_NEGLIGIBLE * (one.resolution or abs(one.predicted)) for one in predictions])
    allowed = np.array([one.allowed for one in predictions], dtype=float).reshape(-1, 2).T
    return np.where(allowed > least, allowed, 0.0)


def deviations(
    estimates: Sequence[Estimate], predicted: np.ndarray, allowed: Sequence[tuple[float, float]]
) -> np.ndarray:
    """Deviations from the nearest number that each prediction allows, in standard errors; NaN without an error.

    Examples
    --------
    >>> estimates = [Estimate(1.5, 0.25, 9), Estimate(1.5, 0.25, 9), Estimate(1.0, 0.0, 9)]
    >>> deviations(estimates, np.ones(3), [(0.0, 0.0), (0.1, 0.25), (0.0, 0.0)])
    array([ 2.,  1., nan])
    """
    values, stderrs = arrays(estimates)
    below, above = np.array(allowed).T
    nearest = np.clip(values, predicted - below, predicted + above)
    return np.asarray(np.where(stderrs > 0, (values - nearest) / np.where(stderrs > 0, stderrs, 1.0), np.nan))


def freedom(estimates: Sequence[Estimate]) -> float:
    """Smallest number of degrees of freedom among estimates."""
    return min((float(one.freedom) for one in estimates if one.stderr > 0), default=np.inf)


def require(condition: object, kind: str, what: str) -> None:
    """Refuse a kind of figure for which nothing was recorded.

    Raises
    ------
    InputError
        With what must be recorded for it.

    Examples
    --------
    >>> require([], "drift", "a drift, e.g. --drift q:-4,4,80")
    Traceback (most recent call last):
    ...
    sgdsim.base.errors.InputError: --kind drift: the file does not hold a drift, e.g. --drift q:-4,4,80
    """
    if not condition:
        raise InputError(f"--kind {kind}: the file does not hold {what}")


def _first(*values: int | None) -> int:
    return next((value for value in values if value is not None), 0)


def _number(value: object) -> str:
    return f"{value:g}" if isinstance(value, int | float | np.floating | np.integer) else str(value)
