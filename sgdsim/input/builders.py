"""From the tables of a scenario to what they describe: losses, optimizers, schedules, claims."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from math import inf
from typing import Annotated, Any, TypeVar, get_type_hints

from pydantic import TypeAdapter, ValidationError, WrapValidator

from sgdsim import theory
from sgdsim.base import toml
from sgdsim.base.errors import InputError, unknown_name
from sgdsim.formulas.formula import parameter_name
from sgdsim.formulas.vectors import base_name, coordinates
from sgdsim.input.fields import (
    FormulaText,
    FormulaTexts,
    Number,
    Section,
    StartValue,
    between,
    finite,
    formulas,
    refused,
    whole,
)
from sgdsim.input.problems import attempt_all, shown, validated
from sgdsim.model.data import read_columns
from sgdsim.model.loss import Loss
from sgdsim.model.losses import CATALOGUE
from sgdsim.model.noise import Noise, correlated_normal
from sgdsim.model.observables import Observable
from sgdsim.model.optimizers import OPTIMIZERS, Optimizer
from sgdsim.model.run import Histogram, Plane, binned
from sgdsim.model.schedules import Schedule
from sgdsim.model.starts import Start, level_set, start_from
from sgdsim.model.symmetry import Symmetry

T = TypeVar("T")
U = TypeVar("U")

_MISSING = object()
_MOST_COORDINATES = 1024  # of one vector; the kernels spell them out


class _SymmetrySection(Section):
    name: str
    generator: dict[str, FormulaText] = {}
    image: dict[str, FormulaText] = {}
    matrix: list[list[Number]] | None = None


def _short_symmetry(value: Any, validate: Callable[[Any], _SymmetrySection]) -> _SymmetrySection:
    """A symmetry may be a text, ``rescale:u:1,w:-1``."""
    if not isinstance(value, str):
        return validate(value)
    try:
        symmetry = Symmetry.parse(value, "loss.symmetry")
    except InputError as error:
        raise refused(error) from None
    return _SymmetrySection(name=symmetry.name, generator=dict(symmetry.generator), image=dict(symmetry.image))


class _OwnLoss(Section):
    formula: FormulaText
    parameters: dict[str, StartValue]
    constants: dict[str, Number] = {}
    noise: dict[str, str] = {}
    define: dict[str, FormulaTexts] = {}
    symmetry: list[Annotated[_SymmetrySection, WrapValidator(_short_symmetry)]] = []
    data: dict[str, list[Any]] | None = None
    name: str = "custom"
    description: str = ""
    references: list[str] = []


_KEYS = {"loss": _OwnLoss.model_fields, "symmetry": _SymmetrySection.model_fields}


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
    if "formula" in section:
        return _own_loss(section)
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
    """An argument of a catalogue entry; a number where only formulas are taken is a formula."""
    if key not in hints:
        raise InputError(f"loss.{key}: {unknown_name(f'key of {name}', key, hints)}")
    if value is _MISSING:
        raise InputError(f"loss.{key}: is missing")
    hint = inspect.formatannotation(hints[key])
    if not re.search(r"\b(float|int)\b", hint):
        value = formulas(value) or value
    try:
        return key, TypeAdapter(hints[key]).validate_python(value, strict=True)
    except ValidationError as error:
        words = {"collections.abc.": "", "Sequence[Sequence[float]]": "a list of such rows"}
        words |= {"Sequence[float]": "a list of numbers", "str | Sequence[str]": "text, or a list of texts"}
        words |= {"Sequence[str]": "a list of texts", "Mapping[str, float]": "a table of numbers"}
        words |= {"str": "text", "float": "a number", "int": "a whole number", " | None": "", " |": " or"}
        for python, plain in words.items():
            hint = hint.replace(python, plain)
        for inside in error.errors()[0]["loc"][:1]:
            if isinstance(value, dict) and inside in value:
                raise InputError(f"loss.{key}.{inside}: {shown(value[inside])}, expected a number") from None
        raise InputError(f"loss.{key}: {shown(value)}, expected {hint}") from None


def _own_loss(section: Mapping[str, Any]) -> Loss:
    own = validated(_OwnLoss, section, _KEYS, ("loss",))
    parts: list[Any] = attempt_all(
        [partial(read_starts, "loss.parameters", own.parameters), partial(_noise, own.noise)]
    )
    starts, (noise, joint) = parts
    symmetries = attempt_all(partial(_symmetry, entry, tuple(starts)) for entry in own.symmetry)
    _check_free("define", list(own.define), list(joint))
    own_definitions = {key: text if isinstance(text, str) else tuple(text) for key, text in own.define.items()}
    return Loss(
        formula=own.formula,
        parameters=tuple(starts),
        constants=own.constants,
        noise=noise,
        definitions={**joint, **own_definitions},
        symmetries=tuple(symmetries),
        data=None if own.data is None else read_columns(own.data),
        name=own.name,
        description=own.description,
        references=tuple(own.references),
    )


def _noise(values: Mapping[str, str]) -> tuple[dict[str, Noise], dict[str, str]]:
    """Independent noise variables, and the definitions of jointly normal ones, ``"x,y" = "normal:1,0.5;0.5,1"``."""
    single = {key: text for key, text in values.items() if "," not in key}
    noise = _by_coordinate("loss.noise", single, lambda where, text: Noise.parse(text, where))
    joint = attempt_all(partial(_joint_noise, key, text) for key, text in values.items() if "," in key)
    definitions: dict[str, str] = {}
    for independent, combined in joint:
        _check_free("noise", [*independent, *combined], [*noise, *definitions])
        noise |= independent
        definitions |= combined
    return noise, definitions


def _check_free(section: str, names: Sequence[str], taken: Sequence[str]) -> None:
    """Refuse names that stand for something already."""
    used = {base_name(name) for name in taken}
    for name in dict.fromkeys(base_name(name) for name in names):
        if name in used:
            raise InputError(f"loss.{section}: {name!r} stands for two things, expected another name for one of them")


def _joint_noise(key: str, text: str) -> tuple[dict[str, Noise], dict[str, str]]:
    where, names = f"loss.noise.{key}", [name.strip() for name in key.split(",")]
    family, _, rest = text.partition(":")
    try:
        matrix = [[float(cell) for cell in row.split(",")] for row in rest.split(";")]
    except ValueError:
        matrix = []
    if family.strip() != "normal" or not matrix:
        raise InputError(f"{where}: {text!r}, expected normal: and the rows of a covariance, normal:1,0.5;0.5,1")
    if len(set(names)) < len(names):
        raise InputError(f"{where}: names a variable twice")
    return correlated_normal(names, matrix, where)


def _symmetry(entry: _SymmetrySection, parameters: Sequence[str]) -> Symmetry:
    """A symmetry by its generator, its images or its matrix."""
    if entry.matrix is not None:
        return Symmetry.linear(entry.name, parameters, entry.matrix)
    return Symmetry(entry.name, entry.generator, entry.image)


def _by_coordinate(where: str, values: Mapping[str, T], read: Callable[[str, T], U]) -> dict[str, U]:
    """What is made of each value, by coordinate.

    A vector is declared as a whole, ``w[3]``, or by all of its coordinates, ``w[0]``, ``w[1]``, ….
    """

    def coordinate(key: str, value: T) -> dict[str, U]:
        name, length = parameter_name(key, f"{where}.{key}")
        if length is not None and length > _MOST_COORDINATES:
            raise InputError(f"{where}.{key}: {length} coordinates, expected at most {_MOST_COORDINATES}")
        one_by_one = length is None or f"{name}[0]" in values
        return dict.fromkeys((key,) if one_by_one else coordinates(name, length), read(f"{where}.{key}", value))

    parts = attempt_all(partial(coordinate, key, value) for key, value in values.items())
    return {name: made for part in parts for name, made in part.items()}


def read_starts(where: str, values: Mapping[str, float | str]) -> dict[str, Start]:
    """An initial value for each coordinate; a point of a level set as ``"u,w" = "level:charge,product"``."""
    points = attempt_all(
        partial(level_set, [name.strip() for name in key.split(",")], str(value), f"{where}.{key}")
        for key, value in values.items()
        if "," in key
    )
    single = {
        key: float(value) if not isinstance(value, str) else value for key, value in values.items() if "," not in key
    }
    starts = _by_coordinate(where, single, lambda key, value: start_from(value, key))
    return {**starts, **{name: value for point in points for name, value in point.items()}}


def check_optimizer(section: Mapping[str, Any]) -> None:
    """Refuse an ``[optimizer]`` table of which no optimizer, or no schedule, can be made."""
    builds: list[Callable[[], object]] = [partial(build_optimizer, section), partial(build_schedule, section)]
    attempt_all(builds)


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
    batch_size = int(values.pop("batch_size", 1))
    return Optimizer(name, values, batch_size, section.get("sampling", "replacement"), **matrices)


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
            key, value = "decoupled_weight_decay", toml.parse_value(amount.strip())
    if key == "batch_size":
        number = whole(1)(value)
        Optimizer(optimizer, _required(optimizer), int(number or 1))
    else:
        number = finite(value)
        Optimizer(optimizer, {**_required(optimizer), key: number or 0.0})
    if number is None:
        expected = "a whole number from 1" if key == "batch_size" else "a finite number"
        raise InputError(f"optimizer.{key}: {shown(value)}, expected {expected}")
    return key, number


def _required(optimizer: str) -> dict[str, float]:
    """Some value for every hyperparameter that has no default."""
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


def read_observables(texts: Mapping[str, str]) -> list[Observable]:
    """The observables of ``[record.observables]``."""
    return attempt_all(partial(Observable.parse, name, text) for name, text in texts.items())


def read_histograms(sections: Mapping[str, Sequence[float]]) -> dict[str, Histogram | Plane]:
    """The bins of ``[record.histograms]``, by the name of a quantity or of two."""

    def read(name: str, numbers: Sequence[float]) -> tuple[str, Histogram | Plane]:
        where = f"record.histograms.{name}"
        parts = [part.strip() for part in name.split(",")]
        if len(numbers) != 3 * len(parts):
            expected = "[low, high, bins] of a name, [low, high, bins, low, high, bins] of two"
            raise InputError(f"{where}: {shown(numbers)}, expected {expected}")
        return ",".join(parts), binned(numbers, where)

    return dict(attempt_all(partial(read, name, numbers) for name, numbers in sections.items()))


@dataclass(frozen=True)
class Claim:
    """A law of the handbook, or the user's own prediction, that a scenario is held against.

    Parameters
    ----------
    source
        What predicts.
    resolution
        What the user asks of the rows of a law: a number, or a percentage of the predicted value; None for their own.
    expect
        The verdict that every row must find; ``disagrees`` makes them negative controls.
    """

    source: theory.Law | theory.UserPrediction
    resolution: float | str | None = None
    expect: str = "agrees"


def build_claims(entries: Sequence[Mapping[str, Any]]) -> list[Claim]:
    """What the ``[[predict]]`` entries claim; the user's own are numbered in order.

    Raises
    ------
    InputError
        For an entry that is neither a law nor a formula that can be read.

    Examples
    --------
    >>> [claim.source.id for claim in build_claims([{"id": "valley"}, {"formula": "mean(x) = 0"}])]
    ['valley', 'user-1']
    """
    builds = []
    number = 0
    for index, entry in enumerate(entries):
        given = {key: value for key, value in entry.items() if value is not None}
        number += "formula" in given
        builds.append(partial(_claim, f"predict[{index}]", given, f"user-{number}"))
    return attempt_all(builds)


def _claim(where: str, entry: dict[str, Any], name: str) -> Claim:
    id, expect = entry.get("id"), entry.get("expect", "agrees")
    entry = {key: value for key, value in entry.items() if key != "expect"}
    if "formula" in entry:
        if id in theory.LAWS or id in theory.FORMER_IDS:
            raise InputError(f"{where}.id: {id} is a law, expected another name for a formula")
        source = theory.parse_user_prediction({**entry, "at": whole(0)(entry.get("at")) or entry.get("at")}, name)
        return Claim(source, expect=expect)
    if id is None:
        raise InputError(f"{where}: expected the id of a law or a formula")
    try:
        law = theory.find_law(id)
    except InputError as error:
        raise InputError(f"{where}.id: {error}") from None
    for key in ("order", "at", "curve", "fraction"):
        if key in entry:
            raise InputError(f"{where}.{key}: {shown(entry[key])}, expected only with a formula: a law has its own")
    return Claim(law, entry.get("resolution"), expect)
