"""The user's own claims: ``variance(q) = learning_rate*s**2/2; order=1; at=final``.

Left a statistic of a parameter or recorded observable, right a formula in the loss's constants,
``learning_rate`` (of the step that leads to the record), ``batch_size``, the optimizer's hyperparameters and
``steps``. Options, after semicolons or as keys of ``[[predict]]``:

- ``at``: ``final`` (default) or a recorded step;
- ``order``: k for a formula valid up to and including the power k of the learning rate; without it, exact;
- ``resolution``: the smallest deviation worth seeing, a number or ``0.5%`` of the predicted value.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from sgdsim.errors import InputError, unknown_name
from sgdsim.formula import Formula
from sgdsim.run import Run
from sgdsim.theory.prediction import STATISTICS, Moment, Order, Prediction
from sgdsim.vectors import gather

OPTIONS = ("order", "at", "resolution")
_LEFT = re.compile(r"\s*(?P<statistic>\w+)\s*\(\s*(?P<observable>\w+(\[\d+\])?)\s*\)\s*")


@dataclass(frozen=True)
class UserPrediction:
    """A claim of the user, read but not yet evaluated.

    Parameters
    ----------
    id
        ``user-1``, or what the user calls it.
    statistic, observable, formula
        ``statistic(observable) = formula``.
    order
        ``exact`` or k.
    at
        A recorded step; None for the last.
    resolution
        A number; with `relative`, in parts of the predicted value.
    relative
        Whether the resolution was given in percent.
    """

    id: str
    statistic: str
    observable: str
    formula: str
    order: Order = "exact"
    at: int | None = None
    resolution: float | None = None
    relative: bool = False

    def predictions(self, runs: Sequence[Run]) -> list[Prediction]:
        """The claim at every point of a sweep, or for one run.

        Raises
        ------
        InputError
            For an unknown observable or name (with a near match), a step that is not recorded, or a value
            that is not finite.
        """
        swept = len(runs) > 1
        return [self._at_point(run, point if swept else None) for point, run in enumerate(runs)]

    def _at_point(self, run: Run, point: int | None) -> Prediction:
        if self.observable not in run.measured:
            raise InputError(f"{self._where}: {unknown_name('observable', self.observable, run.measured)}")
        step = self._step(run)
        values = _values(run, step)
        formula = Formula.parse(self.formula, where=self._where)
        formula.require(values)
        predicted = float(formula.evaluate(values))
        resolution = self.resolution
        if resolution is not None and self.relative:
            resolution *= abs(predicted)
        return Prediction(
            self.id,
            f"{self.statistic}({self.observable})" + ("" if self.at is None else f" at step {step}"),
            Moment(self.statistic, self.observable, step),
            predicted,
            self.order,
            resolution,
            point,
            source="user",
            conditions=f"= {self.formula}",
            learning_rate=_rate(run, step),
            series=_series(run),
        )

    def _step(self, run: Run) -> int:
        step = run.steps if self.at is None else self.at
        recorded = run.recorder.record_steps(run.steps)
        if step not in recorded:
            nearest = recorded[np.argmin(np.abs(recorded - step))]
            raise InputError(f"{self._where}: step {step} is not recorded; the nearest that is, is {nearest}")
        return step

    @property
    def _where(self) -> str:
        return f"prediction {self.id}"


def parse_user_prediction(source: str | Mapping[str, Any], id: str = "user-1") -> UserPrediction:
    """Read a claim, as text or as a ``[[predict]]`` table with the text under ``formula``.

    Parameters
    ----------
    source
        The text, or a table; a key of the table overrides the option of the same name in the text.
    id
        What to call it, unless the table says so.

    Raises
    ------
    InputError
        For anything that cannot be read, with a near match for an unknown statistic or option.

    Examples
    --------
    >>> claim = parse_user_prediction("variance(q) = learning_rate*s**2/2; order=1; resolution=0.5%")
    >>> claim.statistic, claim.observable, claim.formula, claim.order, claim.resolution, claim.relative
    ('variance', 'q', 'learning_rate*s**2/2', 1, 0.005, True)
    """
    table = {"formula": source} if isinstance(source, str) else {k: v for k, v in source.items() if v is not None}
    id = str(table.pop("id", id))
    where = f"prediction {id}"
    claim, *options = str(table.pop("formula", "")).split(";")
    given = {**dict(_option(text, where) for text in options if text.strip()), **table}
    for key in given:
        if key not in OPTIONS:
            raise InputError(f"{where}: {unknown_name('option', key, OPTIONS)}")
    left, equals, right = claim.partition("=")
    match = _LEFT.fullmatch(left)
    if match is None or not equals or not right.strip():
        raise InputError(f"{where}: {claim.strip()!r}, expected statistic(observable) = formula")
    if match["statistic"] not in STATISTICS:
        raise InputError(f"{where}: {unknown_name('statistic', match['statistic'], STATISTICS)}")
    Formula.parse(right.strip(), where=where)
    resolution, relative = _resolution(given.get("resolution"), where)
    return UserPrediction(
        id,
        match["statistic"],
        match["observable"],
        right.strip(),
        _order(given.get("order", "exact"), where),
        _at(given.get("at", "final"), where),
        resolution,
        relative,
    )


def _option(text: str, where: str) -> tuple[str, str]:
    key, equals, value = (part.strip() for part in text.partition("="))
    if not equals or not value:
        raise InputError(f"{where}: {text.strip()!r}, expected option=value with an option of {', '.join(OPTIONS)}")
    return key, value


def _order(value: object, where: str) -> Order:
    if value == "exact":
        return "exact"
    if isinstance(value, str | int) and not isinstance(value, bool) and str(value).isdecimal():
        return int(value)
    raise InputError(f"{where}: order {value!r}, expected exact or a whole number from 0")


def _at(value: object, where: str) -> int | None:
    if value == "final":
        return None
    if isinstance(value, str | int) and not isinstance(value, bool) and str(value).isdecimal():
        return int(value)
    raise InputError(f"{where}: at {value!r}, expected final or a recorded step")


def _resolution(value: object, where: str) -> tuple[float | None, bool]:
    if value is None:
        return None, False
    text = str(value).strip()
    relative = text.endswith("%")
    try:
        number = float(text.removesuffix("%"))
    except ValueError:
        number = 0.0
    if not 0 < number < float("inf"):
        raise InputError(f"{where}: resolution {value!r}, expected a positive number or a percentage such as 0.5%")
    return (number / 100.0 if relative else number), relative


def _values(run: Run, step: int) -> dict[str, Any]:
    """What a claim may name; the loss's own names win."""
    about_run = {
        "learning_rate": _rate(run, step),
        "batch_size": float(run.optimizer.batch_size),
        "steps": float(run.steps),
    }
    return {**about_run, **run.optimizer.values, **gather(run.loss.constants)}


def _rate(run: Run, step: int) -> float:
    """The rate of the step that led there; before the first, that of the first."""
    return float(run.schedule.rates(run.steps)[max(step - 1, 0)])


def _series(run: Run) -> str:
    """Everything about a run but its learning rate."""
    tables = run.describe()
    del tables["optimizer"]["learning_rate"]
    return json.dumps(tables, sort_keys=True)
