"""The user's own claims: ``variance(q) = learning_rate*s**2/2; order=1; at=final``.

The left side is what is measured, as `sgdsim.theory.claimed_statistics` reads it. The right side is the claimed value,
or with ``<`` or ``>`` in place of ``=`` a bound of it:

- for statistics and formulas in them: a formula in the loss's constants, ``learning_rate`` (of the step that leads to
  the record), ``batch_size``, the optimizer's hyperparameters, ``steps``, ``time`` (the sum of the rates up to the
  record) and ``expect(f)``, the mean of a formula over the noise and the data of one sample;
- for one moment also a curve, ``{ step = [0, 100], value = [1.0, 0.5] }``, or over the points of a sweep
  ``{ learning_rate = [0.1, 0.2], value = [1.0, 2.0] }``;
- for ``density(x)``: a formula that names x too, a density up to a factor (`sgdsim.theory.methods.normalised_density`);
- for ``tail(x)``: the exponent of P(|x| > t) ~ t^-exponent.

Options, after semicolons or as keys of ``[[predict]]``:

- ``at``: ``final`` (default) or a recorded step; for a tail, a step with a snapshot;
- ``order``: k for a formula valid up to and including the power k of the learning rate; without it, exact;
- ``tolerance``: the largest deviation of a right number, for a formula that is an approximation, or for a row without
  chance, whose only error is that of rounding;
- ``resolution``: the smallest deviation worth seeing;
- ``fraction``: the largest values that a tail is made of, as a part of all.

A tolerance or resolution is a number, or a percentage as ``0.5%``: of the predicted value, of a curve's largest value,
or of all probability.

Two options are about the entry as a whole: ``id``, its name, and ``expect``, the verdict that it must find.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import inf, isfinite
from typing import Any

import numpy as np

from sgdsim.base import toml
from sgdsim.base.errors import InputError, shortened, unknown_name
from sgdsim.formulas.calls import Call, WithCalls
from sgdsim.formulas.names import normal, normal_keys
from sgdsim.formulas.vectors import gather
from sgdsim.model.run import Histogram, Run
from sgdsim.prediction import STATISTICS, Curve, Density, Measure, Moment, Order, Prediction, Tail, is_named
from sgdsim.theory.claimed_statistics import DISTRIBUTIONS, Left, Statistic
from sgdsim.theory.law import series_of
from sgdsim.theory.methods.normalised_density import NormalisedDensity

OPTIONS = ("order", "at", "tolerance", "resolution", "fraction")

_RELATION = re.compile(r"<=?|>=?|=")
_VALUE = "value"
_LONGEST_NAME = 60  # letters of a claim that stand for it in messages
_SAME = 1e-9  # largest relative difference between a swept value and the same value in a file


@dataclass(frozen=True)
class Values:
    """The numbers of a claimed curve.

    Parameters
    ----------
    key
        ``step``, or the key that is swept.
    at
        Values of the key, each once.
    values
        The claimed value at each.
    """

    key: str
    at: tuple[float, ...]
    values: tuple[float, ...]


@dataclass(frozen=True)
class UserPrediction:
    """A claim of the user, read but not yet evaluated.

    Parameters
    ----------
    id
        The name of the claim: ``user-1``, or one that the user gave.
    left, formula
        The two sides; the right side of a curve is its column ``value``.
    order
        ``exact``, or k for a formula valid to the power k of the learning rate.
    at
        A recorded step; None for the last.
    resolution
        The smallest deviation worth seeing; with `relative`, as a part of the predicted value.
    relative
        True if the resolution was given in percent.
    curve
        The numbers of a claimed curve; None for a formula.
    fraction
        The part of all values that a tail is made of.
    relation
        ``=``, or ``<`` or ``>`` if the formula is a bound.
    tolerance, tolerance_relative
        The largest deviation of a right number, and True if it was given in percent.
    """

    id: str
    left: Left
    formula: WithCalls
    order: Order = "exact"
    at: int | None = None
    resolution: float | None = None
    relative: bool = False
    curve: Values | None = None
    fraction: float = Tail.fraction
    relation: str = "="
    tolerance: float = 0.0
    tolerance_relative: bool = False

    def predictions(self, runs: Sequence[Run]) -> list[Prediction]:
        """The claim at every point of a sweep, or for one run.

        Raises
        ------
        InputError
            For an unknown observable or name (with a near match), a step or anything else that is needed but not
            recorded, or a value that is not finite.
        """
        if self.curve is not None and self.curve.key != "step":
            return [self._over_points(runs, self.curve)]
        if self.left.is_over_points:
            return [self._of_slopes(runs)]
        swept = len(runs) > 1
        places = zip(runs, range(len(runs)), series_of(runs), strict=True)
        return [self._at_point(run, point if swept else None, differing) for run, point, differing in places]

    @property
    def names(self) -> frozenset[str]:
        """All names in the claim that stand for values of a run."""
        within = (WithCalls.parse(call.arguments[0], (), where=self._where) for call in self.formula.calls.values())
        return self.left.names.union(self.formula.names, *(one.names for one in within))

    def _at_point(self, run: Run, point: int | None, differing: str) -> Prediction:
        if self.curve is not None:
            statistic = self._statistic
            observable = statistic.measured(run, self._where)
            steps = (self._recorded_step(run, int(at)) for at in self.curve.at)
            moments = [Moment(statistic.kind, observable, step) for step in steps]
            return self._curve(observable, moments, self.curve, point)
        step = self._recorded_step(run, run.steps if self.at is None else self.at)
        values = self._values(run, step)
        measure, predicted = self._measure(run, step, values), 0.0
        if not isinstance(measure, Density):
            predicted = self._predicted(values)
        if isinstance(measure, Tail) and not predicted > 0:
            raise InputError(f"{self._where}: {self.formula.text} is {predicted:g}, expected a positive exponent")
        return Prediction(
            self.id,
            self._quantity(measure, step),
            measure,
            predicted,
            self.order,
            self._resolution(1.0 if isinstance(measure, Density) else predicted),
            point,
            source="user",
            conditions=f"{self.relation} {self.formula.text}",
            small=_rate(run, step),
            series=differing,
            allowed=self._allowed(predicted),
        )

    def _of_slopes(self, runs: Sequence[Run]) -> Prediction:
        """A claim about all points of a sweep together."""
        steps = [self._recorded_step(run, run.steps if self.at is None else self.at) for run in runs]
        values = [self._values(run, step) for run, step in zip(runs, steps, strict=True)]
        measure = self.left.over_points(runs, steps, values, self._where)
        predicted = [self._predicted(here) for here in values]
        if np.ptp(predicted) > _SAME * abs(predicted[0]):
            found = ", ".join(f"{value:g}" for value in dict.fromkeys(predicted))
            raise InputError(f"{self._where}: {self.formula.text} is {found} at the points of the sweep, expected one")
        return Prediction(
            self.id,
            self._quantity(measure, steps[0]),
            measure,
            predicted[0],
            resolution=self._resolution(predicted[0]),
            source="user",
            conditions=f"{self.relation} {self.formula.text}",
            allowed=self._allowed(predicted[0]),
        )

    def _predicted(self, values: Mapping[str, Any]) -> float:
        self.formula.require(values)
        return self.formula.evaluate(values)

    def _values(self, run: Run, step: int) -> dict[str, Any]:
        """Values of all names that a claim may use; the loss's own names win."""
        values = {**about_run(run, step), **gather(run.loss.constants)}
        return values | {name: self._expected(run, step, call) for name, call in self.formula.calls.items()}

    def _expected(self, run: Run, step: int, call: Call) -> float:
        """The mean of a formula over the noise and the data of one sample."""
        import sympy

        from sgdsim.theory.quadrature.expectation import Expected

        of_run = {name: value for name, value in about_run(run, step).items() if name not in run.loss.namespace}
        symbols = {name: sympy.Symbol(name, real=True) for name in of_run}
        expression = run.loss.expand(call.arguments[0], f"{self._where}: {call.text}", symbols)
        carried = [name for name in run.loss.carried if run.loss.symbols[name] in expression.free_symbols]
        if carried:
            expected = "noise, columns of data, constants and what a claim may name besides"
            raise self.formula.fail(call, f"{', '.join(carried)} has a value of its own in each trajectory", expected)
        try:
            return float(Expected(run.loss, [expression]).at(of_run).value[0])
        except InputError as error:
            raise InputError(f"{self._where}: {error}") from None

    def _allowed(self, predicted: float) -> tuple[float, float]:
        if self.relation != "=":
            return (inf, 0.0) if self.relation == "<" else (0.0, inf)
        tolerance = self.tolerance * (abs(predicted) if self.tolerance_relative else 1.0)
        return tolerance, tolerance

    def _measure(self, run: Run, step: int, values: Mapping[str, Any]) -> Measure:
        one = self.left.single
        if one is None or one.kind not in DISTRIBUTIONS:
            return self.left.at_point(run, step, values, self._where)
        observable = one.measured(run, self._where)
        if one.kind == "tail":
            one.check_snapshot(run, step, self._where)
            return Tail(observable, step, self.fraction)
        histogram = run.recorder.histograms.get(observable)
        if not isinstance(histogram, Histogram):
            needed = f"record.histograms = {{ {observable} = [low, high, bins] }}"
            raise one.needs(f"a histogram: {needed}, or --histogram {observable}:LOW,HIGH,BINS", self._where)
        formula, variable = _as_variable(self.formula.formula.text, observable)
        WithCalls.parse(formula, (), where=self._where).require({**values, variable: 0.0})
        density = NormalisedDensity(formula, variable, values, self._where)
        density.cdf(histogram.edges)  # a density that cannot be normalised is refused before the run
        return Density(observable, step, density.cdf)

    def _over_points(self, runs: Sequence[Run], curve: Values) -> Prediction:
        """The prediction of a curve over the points of a sweep."""
        statistic, values, swept = self._statistic, [], []
        observable, moments = statistic.measured(runs[0], self._where), []
        for point, run in enumerate(runs):
            step = self._recorded_step(run, run.steps if self.at is None else self.at)
            swept.append(self._swept(run, curve.key, step))
            moments.append(Moment(statistic.kind, observable, step, point if len(runs) > 1 else None))
        found = []
        for row, (at, value) in enumerate(zip(curve.at, curve.values, strict=True), 1):
            points = [point for point, here in enumerate(swept) if np.isclose(here, at, rtol=_SAME, atol=0.0)]
            if not points:
                known = ", ".join(f"{here:g}" for here in dict.fromkeys(swept))
                raise InputError(
                    f"{self._where}: row {row} of the curve: no point has {curve.key} = {at:g}, but {known}"
                )
            found += [moments[point] for point in points]
            values += [value] * len(points)
        return self._curve(observable, found, Values(curve.key, curve.at, tuple(values)), None)

    def _swept(self, run: Run, key: str, step: int) -> float:
        """The value of a swept key in a run; the key may be given without its section."""
        starts = {name: start for name, start in run.initial.items() if isinstance(start, float | int)}
        known = {**starts, **about_run(run, step), **run.loss.constants}
        name = toml.split_key(key)[-1]
        if name not in known:
            raise InputError(f"{self._where}: curve: {unknown_name('step or swept key', key, ['step', *known])}")
        return float(known[name])

    def _curve(self, observable: str, moments: Sequence[Moment], curve: Values, point: int | None) -> Prediction:
        largest = max(curve.values, key=abs)
        steps = {moment.step for moment in moments}
        quantity = f"{self._statistic.kind}({observable}) over {curve.key}"
        return Prediction(
            self.id,
            quantity + (f" at step {self.at}" if self.at is not None and len(steps) == 1 else ""),
            Curve(tuple(moments), curve.values),
            largest,
            self.order,
            self._resolution(largest),
            point,
            source="user",
            conditions=f"= {len(curve.values)} values over {curve.key}",
            allowed=self._allowed(largest),
        )

    @property
    def _statistic(self) -> Statistic:
        """The statistic of a curve."""
        assert self.left.single is not None
        return self.left.single

    def _recorded_step(self, run: Run, step: int) -> int:
        if not 0 <= step <= run.steps:
            raise InputError(f"{self._where}: step {step}, expected 0 to {run.steps}")
        recorded = run.recorder.record_steps(run.steps)
        if step not in recorded and not (self.left.is_of_snapshots and step in run.recorder.snapshots):
            nearest = recorded[np.argmin(np.abs(recorded - step))]
            raise InputError(f"{self._where}: step {step} is not recorded; the nearest that is, is {nearest}")
        return step

    def _resolution(self, scale: float) -> float | None:
        if self.resolution is None and self.tolerance:  # the claim says nothing of deviations below its tolerance
            return self._allowed(scale)[1]
        if self.resolution is None or not self.relative:
            return self.resolution
        return self.resolution * abs(scale)

    def _quantity(self, measure: Measure, step: int) -> str:
        relation = "" if self.relation == "=" else f" {self.relation} {shortened(self.formula.text, 24)}"
        measured = f"{measure.statistic}({measure.observable})" if isinstance(measure, Moment) else self.left.text
        return measured + ("" if self.at is None else f" at step {step}") + relation

    @property
    def name(self) -> str:
        """The name of the claim for people: the id that the user has given it, or else the text of the claim."""
        return _name(self.id, f"{self.left.text} {self.relation} {self.formula.text}")

    @property
    def _where(self) -> str:
        return f"prediction {self.name}"


def parse_user_prediction(source: str | Mapping[str, Any], id: str = "user-1") -> UserPrediction:
    """Read a claim, as text or as a ``[[predict]]`` table with the text under ``formula``.

    Parameters
    ----------
    source
        The text, or a table; a key of the table overrides the option of the same name in the text.
    id
        The name of the claim, unless the table has one.

    Raises
    ------
    InputError
        For a text that cannot be read, with a near match for an unknown statistic or option.

    Examples
    --------
    >>> claim = parse_user_prediction("variance(q) = learning_rate*s**2/2; order=1; resolution=0.5%")
    >>> claim.left.text, claim.formula.text, claim.order, claim.resolution, claim.relative
    ('variance(q)', 'learning_rate*s**2/2', 1, 0.005, True)
    >>> parse_user_prediction("mean(q) = { step = [0, 10], value = [1.0, 0.5] }").curve
    Values(key='step', at=(0.0, 10.0), values=(1.0, 0.5))
    """
    table = {"formula": source} if isinstance(source, str) else {k: v for k, v in source.items() if v is not None}
    id = str(table.pop("id", id))
    claim, *options = normal(str(table.pop("formula", ""))).split(";")
    where = f"prediction {_name(id, claim.strip())}"
    curve = table.pop("curve", None)
    given = {**dict(_option(text, where) for text in options if text.strip()), **table}
    for key in given:
        if key not in OPTIONS:
            raise InputError(f"{where}: {unknown_name('option', key, (*OPTIONS, 'id', 'expect'))}")
    left, relation, right = _sides(claim, where)
    if right.startswith("{"):
        curve, right = toml.parse_value(right), _VALUE
        where = f"prediction {_name(id, f'{left.text} {relation} {right}')}"
    values = None if curve is None else _curve_values(curve, where)
    _check_options(left, values, relation, given, where)
    formula = WithCalls.parse(right, ("expect",), where=where)
    for call in formula.calls.values():
        if len(call.arguments) != 1:
            raise formula.fail(call, call.text, "expect(formula)")
    resolution, relative = _part("resolution", given.get("resolution"), where)
    tolerance, tolerance_relative = _part("tolerance", given.get("tolerance"), where)
    return UserPrediction(
        id,
        left,
        formula,
        _order(given.get("order", "exact"), where),
        _at(given.get("at", "final"), where),
        resolution,
        relative,
        values,
        _fraction(given.get("fraction", Tail.fraction), where),
        relation,
        tolerance or 0.0,
        tolerance_relative,
    )


def _name(id: str, text: str) -> str:
    return id if is_named(id) else repr(shortened(text, _LONGEST_NAME))


def _sides(claim: str, where: str) -> tuple[Left, str, str]:
    """The left side of a claim, its relation sign and its right side."""
    outside = (m for m in _RELATION.finditer(claim) if claim.count("(", 0, m.start()) == claim.count(")", 0, m.start()))
    relation = next(outside, None)
    text, right = (claim[: relation.start()], claim[relation.end() :].strip()) if relation else (claim, "")
    if relation is None or not right or "(" not in text:
        raise InputError(f"{where}: expected statistic(observable) = formula")
    left = Left.parse(text, where)
    if not left.formula.calls:
        raise InputError(f"{where}: expected statistic(observable) = formula")
    if right.startswith("file:"):
        raise InputError(f"{where}: {right!r}, expected the numbers: files are read where a scenario is")
    return left, relation.group()[0], right


def _curve_values(table: Any, where: str) -> Values:
    usage = "{ step = […], value = […] }, or what is swept in place of step"
    keys = [key for key in table if key != _VALUE] if isinstance(table, Mapping) else []
    if len(keys) != 1 or _VALUE not in table:
        raise InputError(f"{where}: a curve, expected {usage}")
    (key,), table = map(normal, keys), normal_keys(table, where)
    for column in (key, _VALUE):
        numbers = table[column]
        if not isinstance(numbers, list) or not numbers or not all(map(_is_number, numbers)):
            raise InputError(f"{where}: {column} of the curve, expected a list of finite numbers")
    at, values = (tuple(map(float, table[column])) for column in (key, _VALUE))
    if len(at) != len(values):
        raise InputError(f"{where}: {len(at)} of {key} and {len(values)} values, expected equally many")
    for row, number in enumerate(at, 1):
        if number in at[: row - 1]:
            raise InputError(f"{where}: row {row} of the curve: {key} = {number:g} stands there twice")
        if key == "step" and (number < 0 or number % 1):
            raise InputError(f"{where}: row {row} of the curve: step {number:g}, expected a whole number from 0")
    return Values(key, at, values)


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and isfinite(value)


def _check_options(left: Left, curve: Values | None, relation: str, given: Mapping[str, Any], where: str) -> None:
    """Refuse options that a claim of this form does not have."""
    kind = left.kind
    form = "a curve" if curve is not None else f"a {kind}"
    has_order = given.get("order", "exact") != "exact"
    is_formula = curve is None and kind not in DISTRIBUTIONS
    is_number = is_formula and not has_order
    if relation != "=" and not is_number:
        raise InputError(
            f"{where}: {relation} of {_known_form(form, given)}, expected only of an exact number or formula"
        )
    if "tolerance" in given and not ((is_number or curve is not None) and relation == "="):
        of = "a bound" if is_number else _known_form(form, given)
        expected = "expected only of an exact number, formula or curve"
        raise InputError(f"{where}: tolerance={given['tolerance']} of {of}, {expected}")
    if curve is not None and kind not in (*STATISTICS, "covariance"):
        raise InputError(f"{where}: {form} of a {kind}, expected a formula")
    if has_order and (not is_formula or left.is_over_points):
        raise InputError(f"{where}: order={given['order']} of {form}, expected only of a number or formula")
    if "at" in given and curve is not None and curve.key == "step":
        raise InputError(f"{where}: at={given['at']} of a curve over steps, which has its own")
    if "fraction" in given and kind != "tail":
        raise InputError(f"{where}: fraction={given['fraction']} of {form}, expected only of a tail")


def _known_form(form: str, given: Mapping[str, Any]) -> str:
    return form if given.get("order", "exact") == "exact" else f"a formula of order {given['order']}"


def _option(text: str, where: str) -> tuple[str, str]:
    key, equals, value = (part.strip() for part in text.partition("="))
    if not equals or not value:
        known = ", ".join((*OPTIONS, "id", "expect"))
        raise InputError(f"{where}: {text.strip()!r}, expected option=value with an option of {known}")
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


def _part(key: str, value: object, where: str) -> tuple[float | None, bool]:
    """The number of an option, and True if it is a part of the predicted value: it was given in percent."""
    if value is None:
        return None, False
    text = str(value).strip()
    relative = text.endswith("%")
    number = _positive(text.removesuffix("%"))
    if number is None:
        raise InputError(f"{where}: {key} {value!r}, expected a positive number or a percentage such as 0.5%")
    return (number / 100.0 if relative else number), relative


def _fraction(value: object, where: str) -> float:
    number = _positive(str(value))
    if number is None or number >= 1:
        raise InputError(f"{where}: fraction {value!r}, expected a number between 0 and 1 such as 0.001")
    return number


def _positive(text: str) -> float | None:
    try:
        number = float(text)
    except ValueError:
        return None
    return number if 0 < number < float("inf") else None


def _as_variable(formula: str, observable: str) -> tuple[str, str]:
    """A formula in which a coordinate ``w[0]`` is a variable of its own, and the name of the variable."""
    name, bracket, index = observable.partition("[")
    if not bracket:
        return formula, observable
    places = index.rstrip("]").split(",")
    variable = f"{name}_{'_'.join(places)}_"
    spaced = r"\s*,\s*".join(places)
    return re.sub(rf"\b{name}\s*\[\s*{spaced}\s*\]", variable, formula), variable


def about_run(run: Run, step: int) -> dict[str, float]:
    """Values at a step of what a claim may name of a run and its optimizer; a constant of such a name wins."""
    about_run = {
        "learning_rate": _rate(run, step),
        "batch_size": float(run.optimizer.batch_size),
        "steps": float(run.steps),
        "time": float(run.schedule.times(run.steps)[step]),
    }
    return {**about_run, **run.optimizer.values}


def _rate(run: Run, step: int) -> float:
    """The learning rate of the step that led to a record; at the start, that of the first step."""
    return float(run.schedule.rates(run.steps)[max(step - 1, 0)])
