"""Builders of what the tables of a scenario describe: loss, optimizer, schedule, starts, recorder, claims."""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from math import inf
from types import NoneType, UnionType
from typing import Any, Union, get_args, get_origin, get_type_hints

from pydantic import TypeAdapter, ValidationError

from sgdsim import theory
from sgdsim.base import take
from sgdsim.base.budget import SECONDS
from sgdsim.base.errors import InputError, unknown_name
from sgdsim.base.numbers import read_number
from sgdsim.base.problems import attempt_all
from sgdsim.formulas.vectors import base_name
from sgdsim.input.fields import between, finite, formulas, resolution, whole
from sgdsim.input.readers import check_free
from sgdsim.input.schema import BESIDE, KEYS, BesideTable, LossTable, PredictTable, RecordTable, RunTable, SymmetryTable
from sgdsim.input.wording import shown, validated
from sgdsim.model.data import read_data
from sgdsim.model.loss import Loss
from sgdsim.model.losses import CATALOGUE
from sgdsim.model.optimizers import Optimizer
from sgdsim.model.recorder import Autocorrelation, Drift, Plane, Recorder, binned
from sgdsim.model.schedules import Schedule
from sgdsim.model.starts import Start, by_parameter, stored
from sgdsim.model.states import State
from sgdsim.model.symmetry import Symmetry
from sgdsim.model.update_rules import OPTIMIZERS
from sgdsim.prediction import EXPECTED

_MISSING = object()

_WORDS: Mapping[Any, str] = {
    str: "text",
    int: "a whole number",
    float: "a number",
    Sequence[str]: "a list of texts",
    Sequence[float]: "a list of numbers",
    Sequence[Sequence[float]]: "a list of such rows",
    Mapping[str, float]: "a table of numbers",
}
"""Types of arguments of catalogue losses, in words."""

_FORMULAS = {str, Sequence[str]}

_COUNTS = ("batch_size", "substeps")
"""Keys of the optimizer that are whole numbers."""


def build_loss(section: Mapping[str, Any]) -> Loss:
    """A loss from the ``[loss]`` table: a catalogue entry with its arguments, or a formula.

    Raises
    ------
    InputError
        For an unknown loss or key, or one of the wrong type.

    Examples
    --------
    >>> build_loss({"name": "river_valley", "a": ["0.5", 2], "c": "0"}).parameters
    ('x[0]', 'x[1]', 'y')
    """
    return read_loss(section)[0]


def read_loss(section: Mapping[str, Any]) -> tuple[Loss, dict[str, Start]]:
    """A loss from the ``[loss]`` table, and the starts of its parameters; a loss of the catalogue gives no starts.

    Raises
    ------
    InputError
        For an unknown loss or key, or one of the wrong type.
    """
    return _own_loss(section) if is_own(section) else (_catalogued(section), {})


def is_own(section: Mapping[str, Any]) -> bool:
    """True if a ``[loss]`` table describes a loss of the user's own: a formula, or directions without a loss.

    Examples
    --------
    >>> is_own({"name": "lotka_volterra", "direction": {"x": "y", "y": "-x"}}), is_own({"name": "river_valley"})
    (True, False)
    """
    return "formula" in section or ("direction" in section and section.get("name") not in CATALOGUE)


def _catalogued(section: Mapping[str, Any]) -> Loss:
    section = dict(section)
    beside = validated(BesideTable, {key: section.pop(key) for key in BESIDE if key in section}, KEYS, ("loss",))
    loss = _of_catalogue(section)
    if not beside.direction and not beside.state:
        return loss
    return replace(loss, direction=_definitions(beside.direction), states=_states(beside.state))


def _of_catalogue(section: Mapping[str, Any]) -> Loss:
    if "name" not in section:
        raise InputError("loss: expected the name of one in the catalogue (sgdsim list losses), or a formula")
    name = section["name"]
    if not isinstance(name, str):
        raise InputError(f"loss.name: {shown(name)}, expected text")
    if name not in CATALOGUE:
        raise InputError(f"loss.name: {unknown_name('loss', name, CATALOGUE)}")
    hints = get_type_hints(CATALOGUE[name])
    hints.pop("return", None)
    needed = [key for key, one in inspect.signature(CATALOGUE[name]).parameters.items() if one.default is one.empty]
    given = {**dict.fromkeys(needed, _MISSING), **{key: value for key, value in section.items() if key != "name"}}
    arguments = attempt_all(
        partial(_argument, name, key, value, hints) for key, value in given.items() if key != "name"
    )
    return CATALOGUE[name](**dict(arguments))


def _argument(name: str, key: str, value: Any, hints: Mapping[str, Any]) -> tuple[str, Any]:
    """The name and value of an argument of a catalogue loss; a number becomes a formula if no number is allowed."""
    if key not in hints:
        raise InputError(f"loss.{key}: {unknown_name(f'key of {name}', key, hints)}")
    if value is _MISSING:
        raise InputError(f"loss.{key}: is missing")
    kinds = _kinds(hints[key])
    if _FORMULAS.issuperset(kinds):
        value = formulas(value) or value
    try:
        return key, TypeAdapter(hints[key]).validate_python(value, strict=True)
    except ValidationError as error:
        for inside in error.errors()[0]["loc"][:1]:
            if isinstance(value, dict) and inside in value:
                raise InputError(f"loss.{key}.{inside}: {shown(value[inside])}, expected a number") from None
        expected = ", or ".join(_WORDS.get(kind, str(kind)) for kind in kinds)
        raise InputError(f"loss.{key}: {shown(value)}, expected {expected}") from None


def _kinds(hint: Any) -> list[Any]:
    """The alternative types of an annotation, without None, which means that the argument is not given."""
    alternatives = get_args(hint) if get_origin(hint) in (Union, UnionType) else (hint,)
    return [kind for kind in alternatives if kind is not NoneType]


def _own_loss(section: Mapping[str, Any]) -> tuple[Loss, dict[str, Start]]:
    own = validated(LossTable, section, KEYS, ("loss",))
    starts, noise = own.parameters.value, own.noise.value
    symmetries = attempt_all(partial(_symmetry, entry, tuple(starts)) for entry in own.symmetry.value)
    check_free("define", list(own.define), list(noise.definitions))
    check_free("constants", list(own.constants.value), list(noise.constants))
    loss = Loss(
        formula=own.formula,
        parameters=tuple(starts),
        constants={**own.constants.value, **noise.constants},
        noise=noise.independent,
        definitions={**noise.definitions, **_definitions(own.define)},
        symmetries=tuple(symmetries),
        data=None if own.data is None else read_data(own.data),
        direction=_definitions(own.direction),
        states=_states(own.state),
        name=own.name,
        description=own.description,
        references=tuple(own.references),
    )
    return loss, starts


def _definitions(texts: Mapping[str, str | list[str]]) -> dict[str, str | tuple[str, ...]]:
    """Formulas by name; the formulas of a vector as a tuple."""
    return {key: text if isinstance(text, str) else tuple(text) for key, text in texts.items()}


def _states(texts: Mapping[str, str]) -> dict[str, State]:
    read = attempt_all(partial(State.parse, text, f"loss.state.{name}") for name, text in texts.items())
    return dict(zip(texts, read, strict=True))


def _symmetry(entry: Symmetry | SymmetryTable, parameters: Sequence[str]) -> Symmetry:
    """A symmetry that is given by its text, its matrix, its generator or its images."""
    if isinstance(entry, Symmetry):
        return entry
    if entry.matrix is not None:
        return Symmetry.linear(entry.name, parameters, entry.matrix)
    return Symmetry(entry.name, entry.generator, entry.image)


def combine_starts(run: RunTable, loss: Loss, own: Mapping[str, Start]) -> dict[str, Start]:
    """Starts of the coordinates of a loss: from the loss itself, from a file, for a whole vector, or one by one.

    Parameters
    ----------
    run
        The ``[run]`` table: further starts, and perhaps a file of last states.
    loss, own
        The loss, and the starts that its table gives.

    Raises
    ------
    InputError
        If the file holds no parameter of the loss.
    """
    start = dict(own)
    if run.from_ is not None:
        held = stored(run.from_.model_dump())
        if not held.keys() & set(loss.parameters):
            raise InputError(f"run.from: holds {', '.join(held)}, none of {', '.join(loss.parameters)}")
        start |= {name: one for name, one in held.items() if name in loss.parameters}
    for key, read in sorted(run.initial.value.items(), key=lambda item: "[" in item[0]):
        moved = [name for name in loss.parameters if key in (name, base_name(name))]
        if moved and isinstance(run.initial.plain[key], list):
            by_parameter({key: run.initial.plain[key]}, loss.parameters)  # refuses a list of the wrong shape
            start |= read
        else:
            start |= dict.fromkeys(moved, next(iter(read.values()))) if moved else read
    return start


def read_optimizer(section: Mapping[str, Any]) -> tuple[Optimizer, Schedule]:
    """The optimizer and the schedule of the ``[optimizer]`` table.

    Raises
    ------
    InputError
        With the problems of both the optimizer and the schedule.
    """
    parts: list[Any] = attempt_all([partial(build_optimizer, section), partial(build_schedule, section)])
    return parts[0], parts[1]


def build_optimizer(section: Mapping[str, Any]) -> Optimizer:
    """An optimizer from the ``[optimizer]`` table.

    Raises
    ------
    InputError
        For an unknown optimizer or key, or one of the wrong type.

    Examples
    --------
    >>> build_optimizer({"name": "momentum", "momentum": 0.5, "learning_rate": 0.1}).values
    {'weight_decay': 0.0, 'decoupled_weight_decay': 0.0, 'momentum': 0.5}
    """
    name = section.get("name", "sgd")
    if not isinstance(name, str):
        raise InputError(f"optimizer.name: {shown(name)}, expected text")
    matrices = {
        key: _matrix(f"optimizer.{key}", section[key]) for key in ("preconditioner", "metric") if key in section
    }
    other = ("name", "learning_rate", "sampling", *matrices)
    given = {key: value for key, value in section.items() if key not in other}
    values = dict(attempt_all(partial(_hyperparameter, name, key, value) for key, value in given.items()))
    counts: dict[str, Any] = {key: int(values.pop(key)) for key in _COUNTS if key in values}
    return Optimizer(name, values, sampling=section.get("sampling", "replacement"), **matrices, **counts)


def _matrix(where: str, rows: Any) -> Any:
    """The diagonal, or the rows, of a matrix of formulas."""
    if isinstance(rows, list) and rows and all(isinstance(row, list) for row in rows):
        return tuple(_matrix(where, row) for row in rows)
    texts = formulas(rows)
    if not isinstance(texts, list):
        raise InputError(f"{where}: {shown(rows)}, expected a list of numbers or formulas, or a list of such rows")
    return tuple(texts)


def _hyperparameter(optimizer: str, key: str, value: Any) -> tuple[str, float]:
    number: float | None
    if key == "weight_decay" and isinstance(value, str):
        amount, _, kind = value.partition(":")
        if kind.strip() == "decoupled":
            decay = read_number(amount, "optimizer.weight_decay")
            key, value = "decoupled_weight_decay", amount.strip() if decay is None else decay
    if key in _COUNTS:
        number = whole(1)(value)
        count: dict[str, Any] = {key: int(number or 1)}
        Optimizer(optimizer, _required(optimizer), **count)
    else:
        number = finite(value)
        Optimizer(optimizer, {**_required(optimizer), key: number or 0.0})
    if number is None:
        expected = "a whole number from 1" if key in _COUNTS else "a finite number"
        raise InputError(f"optimizer.{key}: {shown(value)}, expected {expected}")
    return key, number


def _required(optimizer: str) -> dict[str, float]:
    """A placeholder value for every hyperparameter of an optimizer that has no default."""
    rule = OPTIMIZERS.get(optimizer)
    return {} if rule is None else {name: 1.0 for name, default in rule.hyperparameters.items() if default is None}


def build_schedule(section: Mapping[str, Any]) -> Schedule:
    """The learning rate from the ``[optimizer]`` table: a positive number, a named schedule or a formula.

    Raises
    ------
    InputError
        If it is missing or none of these.

    Examples
    --------
    >>> build_schedule({"learning_rate": 1}).rates(2)
    array([1., 1.])
    """
    if "learning_rate" not in section:
        raise InputError("optimizer.learning_rate: is missing")
    rate = section["learning_rate"]
    if isinstance(rate, list) and rate:
        numbers = [between(0, inf)(value) for value in rate]
        if None not in numbers:
            return Schedule("table", tuple(number for number in numbers if number is not None))
    number = between(0, inf)(rate)
    if not isinstance(rate, str) and number is None:
        expected = "a finite positive number, or a schedule such as cosine:0.1,0.001"
        raise InputError(f"optimizer.learning_rate: {shown(rate)}, expected {expected}")
    schedule = Schedule(rate if isinstance(rate, str) else repr(number))
    schedule.check()
    return schedule


def build_recorder(record: RecordTable) -> Recorder:
    """The recorder of the ``[record]`` table, without its snapshots, some of which depend on the number of steps.

    Raises
    ------
    InputError
        With the problems of the bins of all drift recorders.
    """
    return Recorder(
        record.every,
        (),
        tuple(record.observables.value),
        record.histograms.value,
        record.snapshot_trajectories,
        tuple(record.quantiles),
        record.covariances,
        {name: Autocorrelation(one.from_, tuple(one.lags)) for name, one in record.autocorrelation.items()},
        _drifts(record),
        tuple(record.controls),
        record.records,
    )


def _drifts(record: RecordTable) -> dict[str, Drift]:
    def read(name: str) -> tuple[str, Drift]:
        one, where = record.drift[name], f"record.drift.{name}.bins"
        bins = binned(one.bins, where)
        if isinstance(bins, Plane):
            raise InputError(f"{where}: {shown(one.bins)}, expected [low, high, bins]")
        return name, Drift(one.by or name, bins, one.every, one.from_)

    return dict(attempt_all(partial(read, name) for name in record.drift))


@dataclass(frozen=True)
class Claim:
    """A law, or the user's own prediction, with which a scenario is compared.

    Parameters
    ----------
    source
        The law or the prediction.
    resolution
        The smallest deviation that the rows of a law must be able to see: a number, or a percentage of the predicted
        value; None for the resolution that each row has by default.
    expect
        The verdict that every row must find; ``disagrees`` makes the rows negative controls.
    asked
        True if the user asked for the law. A law that is tried on every run gives no verdict where its conditions fail.
    budget
        Seconds that a law may take at a sweep point. None for the law's own limit, or for no limit if the user asked
        for the law.
    """

    source: theory.Law | theory.UserPrediction
    resolution: float | str | None = None
    expect: str = "agrees"
    asked: bool = True
    budget: float | None = None

    def __post_init__(self) -> None:
        take.settle(
            self,
            "predict",
            source=take.of_kind(theory.Law | theory.UserPrediction, "a law or a prediction of the user"),
            resolution=take.optional(_resolution),
            expect=take.one_of("verdict", EXPECTED),
            asked=take.flag,
            budget=take.optional(_seconds),
        )

    @property
    def seconds(self) -> float:
        """Seconds that the law may take at a sweep point."""
        if self.budget is not None or self.asked:
            return inf if self.budget is None else self.budget
        return self.source.seconds if isinstance(self.source, theory.Law) else SECONDS


def _resolution(value: Any, where: str) -> float | str:
    found = resolution(value)
    if found is None:
        raise take.refused(value, where, 'a positive number, or a percentage such as "2%"')
    return found


def _seconds(value: Any, where: str) -> float:
    found = take.number(value, where)
    if found <= 0:
        raise take.refused(value, where, "a positive number of seconds")
    return float(found)


def read_claims(entries: Any) -> list[tuple[dict[str, Any], Claim]]:
    """The ``[[predict]]`` entries, without unset keys, and the claim of each; the user's own predictions are numbered.

    Raises
    ------
    InputError
        With all entries that are neither a law nor a formula that can be read.

    Examples
    --------
    >>> [claim.source.id for _, claim in read_claims([{"id": "valley"}, {"formula": "mean(x) = 0"}])]
    ['valley', 'user-1']
    >>> table, claim = read_claims([{"formula": "mean(x) = 5; id=far; order=1; expect=disagrees"}])[0]
    >>> table["formula"], claim.source.id, claim.expect
    ('mean(x) = 5; order=1', 'far', 'disagrees')
    """
    if not isinstance(entries, list):
        raise InputError(f"predict: {shown(entries)}, expected a list")

    def read(index: int, entry: Any, name: str) -> tuple[dict[str, Any], Claim]:
        spread = _spread(entry)
        table = validated(PredictTable, spread, KEYS, ("predict", index)).model_dump(exclude_none=True)
        return table, _claim(f"predict[{index}]", table, name)

    builds, number = [], 0
    for index, entry in enumerate(entries):
        number += isinstance(entry, Mapping) and "formula" in entry
        builds.append(partial(read, index, entry, f"user-{number}"))
    return attempt_all(builds)


def _spread(entry: Any) -> Any:
    """An entry in which settings that stand in the text of its formula, ``id`` and ``expect``, have become keys."""
    if not isinstance(entry, Mapping) or not isinstance(entry.get("formula"), str):
        return entry
    first, *options = entry["formula"].split(";")
    given = {key.strip(): value.strip() for key, _, value in (one.partition("=") for one in options)}
    beside = {key: given[key] for key in ("id", "expect") if given.get(key)}
    others = [one for one in options if one.partition("=")[0].strip() not in beside]
    return {**beside, **entry, "formula": ";".join([first, *others])} if beside else entry


def _claim(where: str, entry: Mapping[str, Any], name: str) -> Claim:
    id, expect = entry.get("id"), entry.get("expect", "agrees")
    asked = not entry.get("automatic", False)
    entry = {key: value for key, value in entry.items() if key not in ("expect", "automatic")}
    if "formula" in entry:
        if "budget" in entry:
            raise InputError(f"{where}.budget: {shown(entry['budget'])}, expected only with a law")
        if id is not None and theory.law_named(id):
            raise InputError(f"{where}.id: {id} is a law, expected another name for a formula")
        source = theory.parse_user_prediction({**entry, "at": whole(0)(entry.get("at")) or entry.get("at")}, name)
        return Claim(source, expect=expect, asked=asked)
    if id is None:
        raise InputError(f"{where}: expected the id of a law or a formula")
    try:
        law = theory.find_law(id)
    except InputError as error:
        raise InputError(f"{where}.id: {error}") from None
    for key in ("order", "at", "curve", "fraction", "tolerance"):
        if key in entry:
            raise InputError(f"{where}.{key}: {shown(entry[key])}, expected only with a formula: a law has its own")
    return Claim(law, entry.get("resolution"), expect, asked, entry.get("budget"))
