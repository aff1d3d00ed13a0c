"""Statistics against the swept values, with predictions and rivals at all points."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from sgdsim.plots.panel import MOST_PANELS, Drawing, Line, Panel, Part, Points, Residuals, scale_for
from sgdsim.plots.subject import (
    SHORT,
    Subject,
    allowances,
    arrays,
    deviations,
    freedom,
    prediction_label,
    quantity_label,
    require,
    statistic_label,
    swept_label,
    swept_symbol,
)
from sgdsim.prediction import Correlation, Curve, Function, Measure, Moment, PathMean, Prediction, Quantile
from sgdsim.statistics.estimate import Estimate, NotMeasured


@dataclass(frozen=True, eq=False)
class _Claim:
    """One predicted number."""

    label: str
    measure: Measure
    point: int
    predicted: float
    prediction: Prediction
    rival: tuple[str, float] | None = None


@dataclass(frozen=True, eq=False)
class _Axis:
    """The axis of swept values.

    Parameters
    ----------
    label, x, ticks
        Label of the axis; the value of each point; and texts at ticks, if the values are texts.
    series
        Number of the curve on which each point lies, if there are several.
    """

    label: str
    x: np.ndarray
    ticks: tuple[str, ...]
    series: np.ndarray
    names: tuple[str, ...]


def drawing(subject: Subject) -> Drawing:
    """Drawing with a panel for each predicted quantity; without predictions, for each mean and variance at the end."""
    require(len(subject.points) > 1, "sweep", "a sweep: [sweep] of a scenario, or --sweep KEY=VALUE,…")
    axis = _axis(subject.sweep, len(subject.points))
    measures = _groups(subject) or _plain(subject)
    panels: list[Panel] = []
    styles = {label: style for style, label in enumerate(dict.fromkeys(one.label for one in _claims(subject)))}
    left_out = [group.title for group in measures[MOST_PANELS:]]
    for group in measures[:MOST_PANELS]:
        try:
            panels.append(_panel(subject, group, axis, styles))
        except NotMeasured as reason:
            left_out.append(f"{group.title} ({reason})")
    require(panels, "sweep", "anything that is predicted")
    return Drawing(tuple(panels), tuple(left_out))


def drawn(subject: Subject) -> frozenset[str]:
    """Ids of the laws and claims that have a curve in a panel."""
    shown = (claim for group in _groups(subject)[:MOST_PANELS] for claim in group.claims)
    with_curve = (one for one in shown if isinstance(one.measure, Moment | Function))
    return frozenset(one.prediction.id for one in with_curve)


@dataclass(frozen=True, eq=False)
class _Group:
    """Content of one panel: predicted numbers, or a `moment` without a prediction."""

    title: str
    claims: Sequence[_Claim]
    moment: Moment | None = None


def _groups(subject: Subject) -> list[_Group]:
    groups: dict[object, list[_Claim]] = {}
    for claim in _claims(subject):
        groups.setdefault(_key(subject, claim), []).append(claim)
    by_use = sorted(groups.values(), key=lambda claims: all(claim.label in subject.controls for claim in claims))
    return [_Group(_title(subject, claims), claims) for claims in by_use]  # what must be rejected comes last


def _plain(subject: Subject) -> list[_Group]:
    last = int(subject.record_steps[-1])
    return [
        _Group(f"{statistic} of {subject.formula(name)}", (), Moment(statistic, name, last))
        for name in subject.measured
        for statistic in subject.statistics_of(name)
    ]


def _claims(subject: Subject) -> Iterator[_Claim]:
    for prediction, moment, value in subject.claims():
        point = moment.point or 0
        plain = subject.same_record(Moment(moment.statistic, moment.observable, moment.step), point, 0)
        rival = None if isinstance(prediction.measure, Curve) else _rival(prediction)
        yield _Claim(prediction_label(prediction), plain, point, value, prediction, rival)
    for prediction in subject.predictions:
        if isinstance(prediction.measure, Function | Quantile | Correlation | PathMean):
            label, at = prediction_label(prediction), prediction.point or 0
            yield _Claim(label, prediction.measure, at, prediction.predicted, prediction, _rival(prediction))


def _rival(prediction: Prediction) -> tuple[str, float] | None:
    return (prediction.rival.name, prediction.rival.predicted) if prediction.rival else None


def _key(subject: Subject, claim: _Claim) -> object:
    """Key that is equal for the same quantity at different points."""
    measure = claim.measure
    if isinstance(measure, Function):
        places = zip(measure.moments, _places(claim), strict=True)
        same = [subject.same_record(one, point, 0) for one, point in places]
        moments = tuple((one.statistic, one.observable, one.step) for one in same)
        own = claim.prediction.quantity if claim.prediction.source == "user" else measure.statistic
        return claim.label, own, moments
    if isinstance(measure, PathMean):  # its function may depend on the point
        return claim.label, measure.parameter, claim.prediction.quantity
    return measure


def _title(subject: Subject, claims: Sequence[_Claim]) -> str:
    measure = claims[0].measure
    if isinstance(measure, Moment):
        when = "" if measure.step == subject.record_steps[-1] else f", step {measure.step}"
        return f"{measure.statistic} of {subject.formula(measure.observable)}{when}"
    return re.sub(r",? *points [\d to,]+$", "", quantity_label(claims[0].prediction))


def _axis(sweep: Mapping[str, np.ndarray], count: int) -> _Axis:
    """Axis of the learning rate, or else of the first key with several values; the other keys make separate curves."""
    several = [key for key, values in sweep.items() if len(set(values.tolist())) > 1] or [*sweep]
    if not several:
        return _Axis("sweep point", np.arange(float(count)), (), np.zeros(count, int), ("measured",))
    values = sweep[several[0]]
    kinds = list(dict.fromkeys(values.tolist()))
    texts = values.dtype.kind not in "fiu"
    x = np.array([kinds.index(value) for value in values.tolist()], float) if texts else values.astype(float)
    paired = f" (with {', '.join(map(swept_symbol, several[1:]))})" if several[1:] and len(kinds) == len(values) else ""
    others = [
        ", ".join(f"{swept_symbol(key)} = {sweep[key][point]}" for key in several[1:]) for point in range(len(values))
    ]
    names = ["measured"] if len(kinds) == len(values) else list(dict.fromkeys(others))
    series = np.array([0 if len(names) == 1 else names.index(other) for other in others])
    return _Axis(swept_label(several[0]) + paired, x, tuple(map(str, kinds)) if texts else (), series, tuple(names))


def _without_places(axis: _Axis) -> _Axis:
    """Axis for numbers about all points together, such as a slope, which have no place among the swept values."""
    zeros = np.zeros(len(axis.x))
    return _Axis(axis.label, zeros, ("all together",), zeros.astype(int), ("measured",))


def _panel(subject: Subject, group: _Group, axis: _Axis, styles: Mapping[str, int]) -> Panel:
    if group.claims and all(len(set(_places(claim))) == len(axis.x) for claim in group.claims):
        axis = _without_places(axis)
    parts: list[Part] = [*_measured(subject, group, axis)]
    residuals: list[Residuals] = []
    labels = list(dict.fromkeys(claim.label for claim in group.claims))
    for series in range(len(axis.names)):
        mine = [claim for claim in group.claims if _series_of(claim, axis) == series]
        for label in labels:
            claims = sorted((one for one in mine if one.label == label), key=lambda one: _x(one, axis))
            if not claims:
                continue
            x = np.array([_x(claim, axis) for claim in claims])
            predicted = np.array([claim.predicted for claim in claims])
            curve = _curve(subject, claims[0], axis.names[series])
            if label in subject.controls:
                joined = len(x) > 1 and not axis.ticks
                parts.append(Line(*(curve or (x, predicted)), label, "rival", styles[label], joined=joined))
                continue
            estimates = [_estimate(subject, claim) for claim in claims]
            # What is about several points together, such as a slope, says nothing of what lies in between.
            joined = not axis.ticks and all(len(set(_places(claim))) == 1 for claim in claims)
            if curve is not None:
                parts.append(Line(*curve, label, "theory", styles[label]))
            else:
                allowed = allowances([claim.prediction for claim in claims])
                is_line = joined and len(x) > 1
                parts.append(Line(x, predicted, label, "theory", styles[label], joined=is_line, allowed=allowed))
            parts += _rivals(x, claims, joined=joined)
            line = styles[label] if len(labels) > 1 else None
            z = deviations(estimates, predicted, [claim.prediction.allowed for claim in claims])
            residuals.append(Residuals(x, z, series, line, freedom(estimates)))
    points = [part for part in parts if isinstance(part, Points)]
    return Panel(
        group.title,
        axis.label,
        _y_label(group),
        tuple(parts),
        tuple(residuals),
        x_scale="linear" if axis.ticks else scale_for(axis.x, 1.0),
        y_scale=scale_for(np.concatenate([part.y for part in points])),
        x_ticks=axis.ticks,
    )


def _y_label(group: _Group) -> str:
    measure = group.moment or group.claims[0].measure
    if isinstance(measure, Moment):
        return statistic_label(measure.statistic, measure.observable)
    if isinstance(measure, Function) and len(group.claims[0].prediction.quantity) <= SHORT:
        return group.title
    return "value" if isinstance(measure, Function) else measure.statistic


def _measured(subject: Subject, group: _Group, axis: _Axis) -> Iterator[Points]:
    """Measured points: at all points of the sweep for a moment, else at those with a prediction."""
    measure = group.moment or group.claims[0].measure
    if isinstance(measure, Moment):
        points = range(len(subject.points))
        found = [(axis.x[p], axis.series[p], subject.estimate(_at(subject, measure, p), p)) for p in points]
    else:
        first = [claim for claim in group.claims if claim.label == group.claims[0].label]
        found = [(_x(claim, axis), _series_of(claim, axis), _estimate(subject, claim)) for claim in first]
    found.sort(key=lambda one: (one[1], one[0]))
    for series, name in enumerate(axis.names):
        mine = [one for one in found if one[1] == series]
        if mine:
            values, stderrs = arrays([estimate for *_, estimate in mine])
            yield Points(np.array([x for x, *_ in mine]), values, stderrs, name, series)


def _estimate(subject: Subject, claim: _Claim) -> Estimate:
    measure = claim.measure
    return subject.estimate(_at(subject, measure, claim.point) if isinstance(measure, Moment) else measure, claim.point)


def _at(subject: Subject, measure: Moment, point: int) -> Moment | Quantile:
    """Moment at another point, at the same record as the given one, which is for the first point."""
    return subject.same_record(measure, 0, point)


def _places(claim: _Claim) -> list[int]:
    """Points of the sweep that a number is about."""
    moments = claim.measure.moments if isinstance(claim.measure, Function) else ()
    return [claim.point if one.point is None else one.point for one in moments] or [claim.point]


def _x(claim: _Claim, axis: _Axis) -> float:
    """Position of a number on the axis: the mean over the points that it is about."""
    return float(np.mean(axis.x[sorted(set(_places(claim)))]))


def _series_of(claim: _Claim, axis: _Axis) -> int:
    return int(axis.series[_places(claim)[0]])


def _curve(subject: Subject, claim: _Claim, series: str) -> tuple[np.ndarray, np.ndarray] | None:
    """Curve of the same prediction between the points, at the same values of the other keys."""
    curves = subject.curves
    if not curves.sweep:
        return None
    keys = {key: np.asarray(curves.sweep[key]) for key in subject.sweep if key in curves.sweep}
    axis = _axis(keys, 0)
    if series not in axis.names:
        return None
    same = ((point, value) for one, point, value in _same(subject, claim) if _label_as(one, claim) == claim.label)
    found = {float(axis.x[point]): value for point, value in same if axis.names[axis.series[point]] == series}
    if len(found) < 3:
        return None
    return np.array(sorted(found)), np.array([found[x] for x in sorted(found)])


def _label_as(prediction: Prediction, claim: _Claim) -> str:
    """Label of a prediction in between, which says the same whether the claim must hold or be rejected."""
    return prediction_label(replace(prediction, expect=claim.prediction.expect))


def _same(subject: Subject, claim: _Claim) -> Iterator[tuple[Prediction, int, float]]:
    """Predictions of the same quantity between the points, each with its point and value."""
    if isinstance(claim.measure, Moment):
        key = _plain_key(claim.measure)
        for prediction, moment, value in subject.claims(subject.curves.predictions):
            if key == _plain_key(moment):
                yield prediction, moment.point or 0, value
    elif isinstance(claim.measure, Function):
        for prediction in subject.curves.predictions:
            if prediction.point is not None and prediction.quantity == claim.prediction.quantity:
                yield prediction, prediction.point, prediction.predicted


def _plain_key(measure: Moment) -> tuple[str, str, int]:
    return measure.statistic, measure.observable, measure.step


def _rivals(x: np.ndarray, claims: Sequence[_Claim], joined: bool) -> Iterable[Line]:
    for name in dict.fromkeys(claim.rival[0] for claim in claims if claim.rival):
        values = [claim.rival[1] if claim.rival and claim.rival[0] == name else np.nan for claim in claims]
        yield Line(x, np.array(values), name, "rival", joined=joined and len(x) > 1)
