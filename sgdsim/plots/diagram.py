"""Map over two swept numbers: measured values as colours, predictions as contours."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from sgdsim.model.schedules import Schedule
from sgdsim.plots.panel import MOST_PANELS, Contours, Drawing, Image, Line, Panel, Part, edges_about, scale_for
from sgdsim.plots.subject import Subject, prediction_label, quantity_label, require, statistic_label, swept_label
from sgdsim.prediction import Curve, Function, Moment, Prediction
from sgdsim.statistics.estimate import Estimate
from sgdsim.theory.methods.stability import instabilities

_WANTED = "a grid of two swept numbers, sweep.grid, with two or more values of each"
_LEVELS = 5
_RATES = 200  # learning rates that are tried for the limit of stability
_RATE = "optimizer.learning_rate"
_ERRORS = 2.0  # standard errors from zero beyond which the sign of a value counts as known
_NOTHING = Estimate(float("nan"), float("nan"), 0)


def axes_of_grid(sweep: Mapping[str, np.ndarray]) -> tuple[str, str] | None:
    """The two keys whose values make a grid; None if there is no grid.

    Examples
    --------
    >>> axes_of_grid({"a": np.array([1, 1, 2, 2]), "b": np.array([1, 2, 1, 2])})
    ('a', 'b')
    """
    several = [key for key, values in sweep.items() if len(set(values.tolist())) > 1]
    if len(several) != 2 or any(sweep[key].dtype.kind not in "fiu" for key in several):
        return None
    places = set(zip(*(sweep[key].tolist() for key in several), strict=True))
    counts = [len(set(sweep[key].tolist())) for key in several]
    return (several[0], several[1]) if len(places) == counts[0] * counts[1] == len(sweep[several[0]]) else None


def is_mapped(prediction: Prediction) -> bool:
    """True if a prediction is about moments at a single point of the sweep.

    Examples
    --------
    >>> slope = Function("slope", sum, (Moment("mean", "x", 9, point=3),))
    >>> is_mapped(Prediction("user-1", "slope", slope, 1.0, "exact"))
    False
    """
    measure = prediction.measure
    if isinstance(measure, Function):
        return all(one.point in (None, prediction.point) for one in measure.moments)
    return isinstance(measure, Moment | Curve)


@dataclass(frozen=True)
class _Claim:
    """A number that is predicted at one point of the grid.

    Parameters
    ----------
    quantity
        A moment, or the text of a formula of moments; the same at all points.
    id, label, point, predicted
        Id, label, point and number of the prediction.
    measure
        What to measure at this point.
    """

    quantity: Moment | str
    id: str
    label: str
    point: int
    predicted: float
    measure: Moment | Function


def _claims(subject: Subject, predictions: Sequence[Prediction] | None = None) -> Iterator[_Claim]:
    for prediction, moment, value in subject.claims(predictions):
        plain = Moment(moment.statistic, moment.observable, moment.step)
        yield _Claim(plain, prediction.id, prediction_label(prediction), moment.point or 0, value, plain)
    for one in subject.predictions if predictions is None else predictions:
        if isinstance(one.measure, Function) and is_mapped(one):
            yield _Claim(quantity_label(one), one.id, prediction_label(one), one.point or 0, one.predicted, one.measure)


def drawing(subject: Subject) -> Drawing:
    """Drawing with a panel for each predicted quantity, or else for the final means and variances; divergence first."""
    keys = axes_of_grid(subject.sweep)
    require(keys, "diagram", _WANTED)
    assert keys is not None
    quantities = _quantities(subject)
    last = int(subject.record_steps[-1])
    plain = [Moment(kind, name, last) for name in subject.measured for kind in subject.statistics_of(name)]
    shown = list(quantities or dict.fromkeys(plain))
    limit = _limit_of_stability(subject, keys) if subject.theory else []
    panels = [*_diverged(subject, keys, limit)]
    panels += [_panel(subject, keys, one, quantities.get(one, []), limit) for one in shown]
    left_out = [panel.title for panel in panels[MOST_PANELS:]]
    notes = ("White: linearly unstable, or nothing left.",) if limit else ()
    return Drawing(tuple(panels[:MOST_PANELS]), tuple(left_out), notes)


def drawn(subject: Subject) -> frozenset[str]:
    """Ids of the laws and claims that have contours in a panel."""
    shown = list(_quantities(subject).values())[:MOST_PANELS]
    return frozenset(claim.id for claims in shown for claim in claims)


def _quantities(subject: Subject) -> dict[Moment | str, list[_Claim]]:
    found: dict[Moment | str, list[_Claim]] = {}
    for claim in _claims(subject):
        found.setdefault(claim.quantity, []).append(claim)
    return found


def _grid(
    sweep: Mapping[str, np.ndarray], keys: tuple[str, str], values: Sequence[float]
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Values of both keys, and the values of all points in the shape (y, x)."""
    x, y = (np.unique(sweep[key].astype(float)) for key in keys)
    found = np.full((len(y), len(x)), np.nan)
    found[np.searchsorted(y, sweep[keys[1]]), np.searchsorted(x, sweep[keys[0]])] = values
    return x, y, found


def _panel(
    subject: Subject,
    keys: tuple[str, str],
    quantity: Moment | str,
    claims: Sequence[_Claim],
    limit: Sequence[Line],
) -> Panel:
    lost = instabilities(subject.runs) if subject.runs else [None] * len(subject.points)
    alike = dict.fromkeys(range(len(lost)), quantity) if isinstance(quantity, Moment) else {}
    measures = alike | {claim.point: claim.measure for claim in claims}
    shown = [point in measures and not lost[point] for point in range(len(lost))]
    estimates = [subject.estimate(measures[point], point) if shown[point] else _NOTHING for point in range(len(lost))]
    x, y, values = _grid(subject.sweep, keys, [one.value for one in estimates])
    if isinstance(quantity, Moment):
        bar = statistic_label(quantity.statistic, quantity.observable)
        when = "" if quantity.step == subject.record_steps[-1] else f", step {quantity.step}"
        title = f"{quantity.statistic} of {subject.formula(quantity.observable)}{when}"
    else:
        bar, title = "value", quantity
    parts: list[Part] = [_image(x, y, values, bar)]
    for label in dict.fromkeys(claim.label for claim in claims):
        parts += _contours(subject, keys, quantity, label, values)
    if any(isinstance(part, Contours) and part.levels == (0.0,) for part in parts):
        parts += _undecided(subject, keys, estimates)
    return _framed(keys, title, x, y, [*parts, *limit])


def _undecided(subject: Subject, keys: tuple[str, str], estimates: Sequence[Estimate]) -> list[Line]:
    """Marks at points whose value has no known sign, so that their side of the boundary is not known."""
    near = np.array([abs(one.value) <= _ERRORS * one.stderr for one in estimates])
    x, y = (subject.sweep[key].astype(float)[near] for key in keys)
    return [Line(x, y, f"within {_ERRORS:g} standard errors of zero", "undecided")] if near.any() else []


def _image(x: np.ndarray, y: np.ndarray, values: np.ndarray, bar: str) -> Part:
    x_edges, y_edges = (edges_about(one, scale_for(one, 0.6) == "log") for one in (x, y))
    return Image(x_edges, y_edges, values, bar, scale_for(values.ravel(), 1.5) == "log")


def _contours(
    subject: Subject, keys: tuple[str, str], quantity: Moment | str, label: str, measured: np.ndarray
) -> Iterator[Contours]:
    """Contours of the predicted values, on a dense grid if there is one and theory had the time for it."""
    curves = subject.curves
    dense = any(claim.quantity == quantity and claim.label == label for claim in _claims(subject, curves.predictions))
    sweep = curves.sweep if dense and set(keys) <= curves.sweep.keys() else subject.sweep
    values = np.full(len(sweep[keys[0]]), np.nan)
    for claim in _claims(subject, None if sweep is subject.sweep else curves.predictions):
        if claim.quantity == quantity and claim.label == label:
            values[claim.point] = claim.predicted
    finite = measured[np.isfinite(measured)]
    predicted = values[np.isfinite(values)]
    if len(predicted) < 4 or np.ptp(predicted) == 0 or not len(finite):
        return
    low, high = max(predicted.min(), finite.min()), min(predicted.max(), finite.max())
    space = np.geomspace if low > 0 and high > 10 * low else np.linspace
    levels = space(low, high, _LEVELS + 2)[1:-1] if low < high else np.array([])
    if low < 0 < high:  # the zero contour is the boundary of a phase
        levels = np.zeros(1)
    if len(levels):
        x, y, found = _grid(sweep, keys, values.tolist())
        yield Contours(x, y, found, tuple(levels.tolist()), label)


def _diverged(subject: Subject, keys: tuple[str, str], limit: list[Line]) -> list[Panel]:
    """Panel of the fraction of diverged trajectories, if any diverged, with the limit of linear stability."""
    lost = [float(np.mean(np.asarray(one["status"]) > 0)) for one in subject.points if "status" in one]
    if not any(lost):
        return []
    x, y, values = _grid(subject.sweep, keys, lost)
    return [_framed(keys, "diverged trajectories", x, y, [_image(x, y, values, "part"), *limit])]


def _limit_of_stability(subject: Subject, keys: tuple[str, str]) -> list[Line]:
    """Line of the smallest learning rate at which linear stability is lost, for each value of the other key."""
    if _RATE not in keys or not subject.runs:
        return []
    other = keys[1 - keys.index(_RATE)]
    rates = np.unique(subject.sweep[_RATE].astype(float))
    tried = np.geomspace(rates[0], rates[-1], _RATES)
    found = {}
    for value in np.unique(subject.sweep[other]):
        run = subject.runs[int(np.argmax(subject.sweep[other] == value))]
        at = [replace(run, schedule=Schedule(repr(float(rate)))) for rate in tried]
        lost = [rate for rate, reason in zip(tried, instabilities(at), strict=True) if reason]
        if lost:
            found[float(value)] = float(lost[0])
    if len(found) < 2:
        return []
    along, limit = np.array(list(found)), np.array(list(found.values()))
    x, y = (limit, along) if keys[0] == _RATE else (along, limit)
    return [Line(x, y, "limit of linear stability", "rival")]


def _framed(keys: tuple[str, str], title: str, x: np.ndarray, y: np.ndarray, parts: Sequence[Part]) -> Panel:
    x_scale, y_scale = scale_for(x, 0.6), scale_for(y, 0.6)
    x_label, y_label = map(swept_label, keys)
    return Panel(title, x_label, y_label, tuple(parts), x_scale=x_scale, y_scale=y_scale)
