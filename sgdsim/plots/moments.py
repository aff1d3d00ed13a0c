"""Moments against steps, with their predictions."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial

import numpy as np

from sgdsim.plots.panel import (
    MOST_PANELS,
    MOST_SERIES,
    MOST_STEPS,
    Drawing,
    Line,
    Panel,
    Part,
    Points,
    Residuals,
    scale_for,
    spread,
)
from sgdsim.plots.subject import (
    Subject,
    allowances,
    arrays,
    deviations,
    freedom,
    names_in,
    prediction_label,
    require,
    statistic_label,
)
from sgdsim.prediction import Curve, Measure, Moment, Prediction, Rival
from sgdsim.theory import LAWS

Key = tuple[str, str]
Claims = dict[tuple[str, int], dict[int, tuple[float, Prediction]]]
"""Predicted values and their predictions by step, for each label and point."""


def drawing(subject: Subject) -> Drawing:
    """Drawing with a panel for each statistic of an observable; those with predictions come first."""
    require(len(subject.record_steps), "moments", "any moments")
    claims: dict[Key, Claims] = defaultdict(lambda: defaultdict(dict))
    for prediction, moment, value in subject.claims():
        if moment.step in subject.steps_of(moment.point or 0):
            key = moment.statistic, moment.observable
            claims[key][prediction_label(prediction), moment.point or 0][moment.step] = value, prediction
    aids = _aids(subject)
    others = [
        (statistic, name) for name in subject.measured for statistic in subject.statistics_of(name) if name not in aids
    ]
    keys = [*claims, *(key for key in others if key not in claims and _varies(subject, key))]
    keys.sort(key=lambda key: _is_of_law(subject, key, claims.get(key)))
    points = spread(len(subject.points), MOST_SERIES)
    styles = {label: i for i, label in enumerate(dict.fromkeys(label for one in claims.values() for label, _ in one))}
    left_out = [f"{statistic}({name})" for statistic, name in keys[MOST_PANELS:]]
    left_out += [subject.point_label(point) for point in range(len(subject.points)) if point not in points]
    panels = tuple(_panel(subject, key, claims[key], points, styles) for key in keys[:MOST_PANELS])
    return Drawing(panels, tuple(left_out), _thinning(subject))


def drawn(subject: Subject) -> frozenset[str]:
    """Ids of the laws with a number in a panel, which have one at other records too."""
    return frozenset(one.id for one in subject.predictions if isinstance(one.measure, Moment) and one.order == "exact")


def _aids(subject: Subject) -> frozenset[str]:
    """Observables that laws put together into what they predict, which say nothing by themselves."""
    laws = [one for one in subject.predictions if one.source != "user"]
    measures: list[Measure] = [one.measure for one in laws if not isinstance(one.measure, Moment | Curve)]
    measures += [condition.measure for one in laws for condition in one.assumes]
    return frozenset(name for one in measures for name in names_in(one) if name in subject.observables)


def _is_of_law(subject: Subject, key: Key, claims: Claims | None) -> bool:
    """True for a value along the path that serves a law which nobody asks for, as of first steps: it comes last."""
    along = {one.name for run in subject.runs[:1] for one in run.recorder.observables if one.is_running}
    ids = {one.id for found in (claims or {}).values() for _, one in found.values()}
    return key[1] in along and bool(ids) and all(id in LAWS and LAWS[id].automatic for id in ids)


def _varies(subject: Subject, key: Key) -> bool:
    """True if a statistic is worth a panel: one that is zero throughout, as some variances, is not."""
    statistic, name = key
    if statistic not in subject.ensemble:
        return True
    column = [str(one) for one in subject.ensemble["observable"]].index(name)
    values = np.asarray(subject.ensemble[statistic])[..., column]
    return bool(np.any(values[np.isfinite(values)] != 0))


def _thinning(subject: Subject) -> tuple[str, ...]:
    count = len(subject.record_steps)
    return (f"{MOST_STEPS} of {count} records are shown.",) if count > MOST_STEPS else ()


def _panel(subject: Subject, key: Key, claims: Claims, points: Sequence[int], styles: dict[str, int]) -> Panel:
    statistic, name = key
    shown_records = spread(len(subject.record_steps), MOST_STEPS)
    parts: list[Part] = []
    residuals: list[Residuals] = []
    for series, point in enumerate(points):
        steps = subject.steps_of(point)[shown_records]
        values, stderrs = arrays(subject.at_steps(statistic, name, steps, point))
        parts.append(Points(subject.along(point, steps), values, stderrs, subject.point_label(point), series))
    several = len({label for label, _ in claims}) > 1
    for (label, point), found in claims.items():
        if point not in points:
            continue
        steps = subject.steps_of(point)[shown_records]
        at, predicted = np.array(sorted(found)), np.array([found[step][0] for step in sorted(found)])
        places, dense = subject.along(point, at), _is_dense(at, steps)
        if label in subject.controls:
            parts.append(Line(places, predicted, label, "rival", styles[label], joined=dense))
            continue
        estimates = subject.at_steps(statistic, name, at, point)
        between = _between(subject, key, label, point)
        if len(between) > len(at) > 1:
            all_steps = {**between, **{int(step): value for step, value in zip(at, predicted, strict=True)}}
            x = np.array(sorted(all_steps))
            parts.append(Line(x, np.array([all_steps[step] for step in x.tolist()]), label, "theory", styles[label]))
        else:
            allowed = allowances([found[step][1] for step in at.tolist()])
            parts.append(Line(places, predicted, label, "theory", styles[label], dense, allowed))
        parts += _rivals(found, steps, partial(subject.along, point))
        line = styles[label] if several else None
        z = deviations(estimates, predicted, [found[step][1].allowed for step in at.tolist()])
        residuals.append(Residuals(places, z, points.index(point), line, freedom(estimates)))
    shown = np.concatenate([part.y for part in parts if isinstance(part, Points)])
    return Panel(
        f"{statistic} of {subject.formula(name)}",
        "time" if subject.has_swept_steps else "step",
        statistic_label(statistic, name),
        tuple(parts),
        tuple(residuals),
        x_scale="symlog" if _by_decades(subject.along(0, subject.record_steps[shown_records])) else "linear",
        y_scale=scale_for(shown),
    )


def _between(subject: Subject, key: Key, label: str, point: int) -> dict[int, float]:
    """Values of a prediction at steps that were not recorded; empty if the axis shows times."""
    if subject.has_swept_steps:
        return {}
    return {
        moment.step: value
        for prediction, moment, value in subject.claims(subject.curves.predictions)
        if (moment.statistic, moment.observable) == key
        and (moment.point or 0) == point
        and prediction_label(prediction) == label
    }


def _rivals(
    found: Mapping[int, tuple[float, Prediction]], steps: np.ndarray, along: Callable[[Iterable[int]], np.ndarray]
) -> Iterator[Line]:
    rivals: dict[int, Rival | None] = {step: found[step][1].rival for step in sorted(found)}
    for name in dict.fromkeys(rival.name for rival in rivals.values() if rival):
        values = {step: rival.predicted for step, rival in rivals.items() if rival and rival.name == name}
        at = np.array(list(values))
        yield Line(along(at), np.array(list(values.values())), name, "rival", joined=_is_dense(at, steps))


def _is_dense(at: np.ndarray, steps: np.ndarray) -> bool:
    """True if nearly all records have a prediction, so that a line through the predictions does not mislead."""
    between = np.count_nonzero((steps >= at.min()) & (steps <= at.max()))
    return bool(len(at) > 2 and len(at) >= 0.5 * between)


def _by_decades(steps: np.ndarray) -> bool:
    later = steps[steps > 0]
    return len(later) > 3 and scale_for(later) == "log" and bool(np.median(later) < later.max() / 10)
