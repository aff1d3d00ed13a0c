"""The residual of a prediction of finite order against its small parameter, with fitted powers."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from sgdsim.base.errors import shortened
from sgdsim.plots.mathematics import mark
from sgdsim.plots.panel import MOST_PANELS, Drawing, Line, Panel, Part, Points, Residuals, scale_for, superscript
from sgdsim.plots.subject import Subject, arrays, is_named, quantity_label, require
from sgdsim.prediction import Number, Prediction
from sgdsim.statistics.comparison import FEWEST_RATES
from sgdsim.statistics.estimate import NotMeasured
from sgdsim.statistics.order_test import OrderTest, Series, order_test
from sgdsim.statistics.power_fit import PowerFit

_WANTED = "a prediction of finite order at two or more learning rates: --predict 'variance(x) = …; order=1' of a sweep"

_MINUS = "\N{MINUS SIGN}"


def drawing(subject: Subject) -> Drawing:
    """Drawing with a panel for each prediction: its residual must begin with a higher power than its order."""
    found = series(subject.predictions)
    require(found, "order", _WANTED)
    panels: list[Panel] = []
    left_out = [f"{_called(group[0])}, {group[0].quantity}" for group in found[MOST_PANELS:]]
    notes: list[str] = []
    for group in found[:MOST_PANELS]:
        try:
            panel, note = _panel(subject, sorted(group, key=lambda one: one.small))
        except NotMeasured as reason:
            left_out.append(f"{_called(group[0])}, {group[0].quantity} ({reason})")
            continue
        panels.append(panel)
        notes += note
    require(panels, "order", "what is predicted")
    return Drawing(tuple(panels), tuple(left_out), tuple(notes))


def series(predictions: Sequence[Prediction]) -> list[list[Prediction]]:
    """Predictions of finite order, each a list over two or more values of the small parameter."""
    groups: dict[object, list[Prediction]] = {}
    for prediction in predictions:
        if isinstance(prediction.order, int) and isinstance(prediction.measure, Number):
            key = prediction.id, prediction.quantity, prediction.order, prediction.series
            groups.setdefault(key, []).append(prediction)
    return [group for group in groups.values() if len({one.small for one in group}) > 1]


def _panel(subject: Subject, group: Sequence[Prediction]) -> tuple[Panel, list[str]]:
    first, order = group[0], group[0].order
    assert isinstance(order, int)
    estimates = [subject.estimate(one.measure, one.point or 0) for one in group]
    rates = np.array([one.small for one in group])
    predicted = np.array([one.predicted for one in group])
    values, stderrs = arrays(estimates)
    residual = values - predicted
    sign = -1.0 if np.all(residual < 0) else 1.0
    difference = f"predicted {_MINUS} measured" if sign < 0 else f"measured {_MINUS} predicted"
    parts: list[Part] = [Points(rates, sign * residual, stderrs, difference)]
    residuals: tuple[Residuals, ...] = ()
    same_groups = len({one.groups for one in estimates}) == 1 and bool(np.all(stderrs > 0))
    notes = []
    if len(set(rates.tolist())) >= FEWEST_RATES and same_groups:
        test = order_test(Series(rates, estimates, predicted, order), subject.alpha)
        x = np.geomspace(rates.min(), rates.max(), 101)
        parts.append(Line(x, sign * _powers(test.fit, test.power, x), "fitted powers", "fit"))
        z = (residual - _powers(test.fit, test.power, rates)) / stderrs
        residuals = (Residuals(rates, z, freedom=test.fit.freedom),)
        notes.append(_note(first, order, test))
    else:
        notes.append(
            f"{_called(first)}: powers are fitted at {FEWEST_RATES} or more values of {first.small_name}, with errors."
        )
    reliable = bool(np.all(np.abs(residual) > 2 * stderrs))
    panel = Panel(
        _title(first),
        _small(first),
        difference,
        tuple(parts),
        residuals,
        x_scale=scale_for(rates, 0.5),
        y_scale="log" if reliable and np.all(sign * residual > 0) else "linear",
    )
    return panel, notes


def _small(prediction: Prediction) -> str:
    """Name of the small parameter of a prediction of finite order."""
    name = prediction.small_name
    return f"{name} {mark('learning_rate')}" if name == "learning rate" else mark(name)


def _title(prediction: Prediction) -> str:
    relation, _, right = shortened(prediction.conditions, 110).partition(" ")
    formula = f" {relation} {mark(right)}" if prediction.source == "user" else f", {prediction.id}"
    return f"{quantity_label(prediction)}{formula}, order {prediction.order}"


def _powers(fit: PowerFit, power: int, x: np.ndarray) -> np.ndarray:
    return np.asarray(sum(c * x ** (power + k) for k, c in enumerate(fit.coefficients)))


def _note(prediction: Prediction, order: int, test: OrderTest) -> str:
    b, error = float(test.guard.coefficients[0]), float(test.guard.stderrs[0])
    small = "η" if prediction.small_name == "learning rate" else "ε"
    terms = [f"{_number(float(c))} {small}{_raised(test.power + k)}" for k, c in enumerate(test.fit.coefficients)]
    accepted = "" if test.accepted else ", which chi-square does not accept"
    power = _raised(test.power)
    powers = " + ".join(terms).replace(f"+ {_MINUS}", f"{_MINUS} ")
    return (
        f"{_called(prediction)}: fit {powers}{accepted}; with one more term, that of {small}{power} is "
        f"{_number(b, 2)} ± {error:.2g}, and must vanish if the formula is valid up to {small}{_raised(order)}."
    )


def _number(value: float, digits: int = 3) -> str:
    return f"{value:.{digits}g}".replace("-", _MINUS)


def _called(prediction: Prediction) -> str:
    """Name of a prediction in a sentence: the id of a law, the name or the quantity of a claim."""
    return prediction.id if is_named(prediction) else quantity_label(prediction)


def _raised(power: int) -> str:
    return "" if power == 1 else superscript(power)
