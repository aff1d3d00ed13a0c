"""What a scenario file may say: its keys, what each of them takes, and what is made of it.

Everything is checked before anything is refused, so that a user sees all problems at once: pydantic collects those of
single values, and what is made of them is tried part by part.
"""

from __future__ import annotations

import inspect
import os
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from math import inf, isfinite
from typing import Annotated, Any, TypeVar, get_type_hints

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    PlainValidator,
    TypeAdapter,
    ValidationError,
    WrapValidator,
)
from pydantic_core import PydanticCustomError

from sgdsim import theory, toml
from sgdsim.data import read_columns
from sgdsim.errors import InputError, unknown_name
from sgdsim.formula import parameter_name
from sgdsim.loss import Loss
from sgdsim.losses import CATALOGUE
from sgdsim.noise import Noise, correlated_normal
from sgdsim.observables import Observable
from sgdsim.optimizers import OPTIMIZERS, Optimizer
from sgdsim.run import DTYPES, Autocorrelation, Drift, Histogram, Plane, Recorder, Run, binned
from sgdsim.schedules import Schedule
from sgdsim.starts import Start, level_set, start_from, stored
from sgdsim.symmetry import Symmetry
from sgdsim.vectors import base_name, coordinates

T = TypeVar("T")
U = TypeVar("U")

_BYTES_A_STEP = 64  # the schedule and its temporaries, recorded steps
_LONGEST_SHOWN = 60
_MISSING = object()
_MOST_COORDINATES = 1024  # of one vector; the kernels spell them out
_MOST_PROBLEMS = 20  # a sweep can have as many as it has points
_PERCENTAGE = re.compile(r"\s*\d+(\.\d*)?([eE]-?\d+)?\s*%\s*")


def attempt(problems: list[str], build: Callable[[], T]) -> T | None:
    """What `build` makes; where it refuses, None, with the problem noted.

    Examples
    --------
    >>> problems = []
    >>> attempt(problems, lambda: Noise.parse("normla"))
    >>> problems
    ["noise: unknown distribution 'normla': did you mean 'normal'?"]
    """
    try:
        return build()
    except InputError as error:
        problems.append(str(error))
    except ValidationError as error:
        problems.extend(_described(error))
    return None


def attempt_all(builds: Iterable[Callable[[], T]]) -> list[T]:
    """What all of them make.

    Raises
    ------
    InputError
        With the problems of all.

    Examples
    --------
    >>> attempt_all([lambda: Noise.parse("normal"), lambda: Noise.parse("rademacher")])
    [Noise(family='normal', arguments=(0.0, 1.0)), Noise(family='rademacher', arguments=())]
    """
    problems: list[str] = []
    made = [attempt(problems, build) for build in builds]
    if problems:
        raise InputError("\n".join(dict.fromkeys(problems)))
    return [part for part in made if part is not None]


_EXPECTED = {
    "string_type": "text",
    "list_type": "a list",
    "dict_type": "a table",
    "model_type": "a table",
}


def _described(error: ValidationError, prefix: tuple[str, ...] = ()) -> Iterator[str]:
    """One problem after the other: where, what was given, what was expected."""
    for problem in error.errors():
        *path, last = place = (*prefix, *problem["loc"])
        where = dotted(place)
        if problem["type"] == "refused":
            yield problem["msg"]
        elif problem["type"] == "missing":
            yield f"{where}: is missing"
        elif problem["type"] == "extra_forbidden":
            section = next((part for part in reversed(path) if isinstance(part, str)), "")
            yield f"{where}: {unknown_name('key', str(last), _NESTED[section].model_fields)}"
        else:
            yield f"{where}: {shown(problem['input'])}, expected {_EXPECTED.get(problem['type'], problem['msg'])}"


def listed(problems: Sequence[str]) -> str:
    """Problems one below the other, the first of very many.

    Examples
    --------
    >>> listed(["run.steps: is missing"])
    '  run.steps: is missing'
    """
    more = len(problems) - _MOST_PROBLEMS
    texts = [*problems[:_MOST_PROBLEMS], *([f"and {more} more"] if more > 0 else [])]
    return "\n".join(f"  {line}" for text in texts for line in text.splitlines())


def dotted(path: Iterable[str | int]) -> str:
    """A key as it is written.

    Examples
    --------
    >>> dotted(["predict", 0, "at"])
    'predict[0].at'
    """
    return "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in path).lstrip(".")


def shown(value: Any) -> str:
    """A value as it is written, cut short if it is long.

    Examples
    --------
    >>> shown({"x": True})
    '{ x = true }'
    """
    text = toml.dump_value(value)
    return text if len(text) <= _LONGEST_SHOWN else f"{text[: _LONGEST_SHOWN - 1]}…"


# What single values may be: a reader gives what it makes of a value, or None.


def _whole(low: int, high: float = inf) -> Callable[[Any], int | None]:
    def read(value: Any) -> int | None:
        if isinstance(value, float) and value.is_integer():  # counts may be written 1e6
            value = int(value)
        return value if type(value) is int and low <= value <= high else None

    return read


def _finite(value: Any) -> float | None:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    try:
        return float(value) if isfinite(value) else None
    except OverflowError:
        return None


def _between(low: float, high: float) -> Callable[[Any], float | None]:
    def read(value: Any) -> float | None:
        number = _finite(value)
        return number if number is not None and low < number < high else None

    return read


def _text_or_number(value: Any) -> str | float | None:
    return value if isinstance(value, str) else _finite(value)


def _formula(value: Any) -> str | None:
    """A number is a formula too."""
    return value if isinstance(value, str) else None if _finite(value) is None else repr(value)


def _formulas(value: Any) -> str | list[str] | None:
    if not isinstance(value, list):
        return _formula(value)
    texts = [text for text in map(_formula, value) if text is not None]
    return texts if texts and len(texts) == len(value) else None


def _resolution(value: Any) -> str | float | None:
    if isinstance(value, str):
        return value if _PERCENTAGE.fullmatch(value) and _between(0, inf)(float(value.strip()[:-1])) else None
    return _between(0, inf)(value)


def _step(value: Any) -> int | str | None:
    return value if value == "final" else _whole(0)(value)


def _takes(expected: str, read: Callable[[Any], Any]) -> PlainValidator:
    def validate(value: Any) -> Any:
        made = read(value)
        if made is None:
            raise PydanticCustomError("expected", "{expected}", {"expected": expected})
        return made

    return PlainValidator(validate)


def _makes(build: Callable[[Any], object]) -> AfterValidator:
    """A value that something can be made of; the problem names its own key."""

    def validate(value: Any) -> Any:
        try:
            build(value)
        except InputError as error:
            raise PydanticCustomError("refused", "{problem}", {"problem": str(error)}) from None
        return value

    return AfterValidator(validate)


Count = Annotated[int, _takes("a whole number from 1", _whole(1))]
Step = Annotated[int | str, _takes('a step count, or "final"', _step)]
Seed = Annotated[int, _takes("a whole number of at most 64 bits, 0 to 18446744073709551615", _whole(0, 2**64 - 1))]
Number = Annotated[float, _takes("a finite number", _finite)]
Level = Annotated[float, _takes("a number between 0 and 1", _between(0, 1))]
StartValue = Annotated[float | str, _takes("a finite number or a distribution such as normal:0,1", _text_or_number)]
FormulaText = Annotated[str, _takes("a formula", _formula)]
FormulaTexts = Annotated[str | list[str], _takes("a formula or a list of formulas", _formulas)]
Resolution = Annotated[float | str, _takes('a positive number, or a percentage such as "2%"', _resolution)]


def _check_memory(steps: int) -> None:
    required, available = _BYTES_A_STEP * steps / 1e9, _memory() / 1e9
    if required > available:
        raise InputError(f"run.steps: {steps} steps take {required:.3g} GB of memory, this machine has {available:.3g}")


def _memory() -> float:
    try:
        return float(os.sysconf("SC_PHYS_PAGES")) * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, ValueError, OSError):  # not everywhere
        return inf


def _check_dtype(key: str, name: str) -> None:
    if name not in DTYPES:
        raise InputError(f"run.{key}: {unknown_name('dtype', name, DTYPES)}")


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
        value = _formulas(value) or value
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
    try:
        own = _OwnLoss.model_validate(section)
    except ValidationError as error:
        raise InputError("\n".join(_described(error, ("loss",)))) from None
    parts: list[Any] = attempt_all([partial(_starts, "loss.parameters", own.parameters), partial(_noise, own.noise)])
    starts, (noise, joint) = parts
    symmetries = attempt_all(partial(_symmetry, entry, tuple(starts)) for entry in own.symmetry)
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
    for independent, _ in joint:
        noise |= independent
    return noise, {name: text for _, definitions in joint for name, text in definitions.items()}


def _joint_noise(key: str, text: str) -> tuple[dict[str, Noise], dict[str, str]]:
    where, names = f"loss.noise.{key}", [name.strip() for name in key.split(",")]
    family, _, rest = text.partition(":")
    try:
        matrix = [[float(cell) for cell in row.split(",")] for row in rest.split(";")]
    except ValueError:
        matrix = []
    if family.strip() != "normal" or not matrix:
        raise InputError(f"{where}: {text!r}, expected normal: and the rows of a covariance, normal:1,0.5;0.5,1")
    return correlated_normal(names, matrix, where)


def _symmetry(entry: _Symmetry, parameters: Sequence[str]) -> Symmetry:
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


def _starts(where: str, values: Mapping[str, float | str]) -> dict[str, Start]:
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


def _check_optimizer(section: Mapping[str, Any]) -> None:
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
    texts = _formulas(rows)
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
        number = _whole(1)(value)
        Optimizer(optimizer, _required(optimizer), int(number or 1))
    else:
        number = _finite(value)
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
        numbers = [_between(0, inf)(value) for value in rate]
        if None not in numbers:
            return Schedule("table", tuple(number for number in numbers if number is not None))
    number = _between(0, inf)(rate)
    if not isinstance(rate, str) and number is None:
        expected = "a finite positive number, or a schedule such as cosine:0.1,0.001"
        raise InputError(f"optimizer.learning_rate: {shown(rate)}, expected {expected}")
    schedule = Schedule(rate if isinstance(rate, str) else repr(number))
    schedule.check()
    return schedule


def _observables(texts: Mapping[str, str]) -> list[Observable]:
    return attempt_all(partial(Observable.parse, name, text) for name, text in texts.items())


def _histograms(sections: Mapping[str, Sequence[float]]) -> dict[str, Histogram | Plane]:
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
    """

    source: theory.Law | theory.UserPrediction
    resolution: float | str | None = None


def build_claims(entries: Sequence[Mapping[str, Any]]) -> list[Claim]:
    """What the ``[[predict]]`` entries claim; the user's own are numbered in order.

    Raises
    ------
    InputError
        For an entry that is neither a law nor a formula that can be read.

    Examples
    --------
    >>> [claim.source.id for claim in build_claims([{"id": "NTL-1"}, {"formula": "mean(x) = 0"}])]
    ['NTL-1', 'user-1']
    """
    builds = []
    number = 0
    for index, entry in enumerate(entries):
        given = {key: value for key, value in entry.items() if value is not None}
        number += "formula" in given
        builds.append(partial(_claim, f"predict[{index}]", given, f"user-{number}"))
    return attempt_all(builds)


def _claim(where: str, entry: dict[str, Any], name: str) -> Claim:
    id = entry.get("id")
    if "formula" in entry:
        if id in theory.LAWS:
            raise InputError(f"{where}.id: {id} is a law of the handbook, expected another name for a formula")
        return Claim(theory.parse_user_prediction({**entry, "at": _whole(0)(entry.get("at")) or entry.get("at")}, name))
    if id is None:
        raise InputError(f"{where}: expected the id of a law or a formula")
    if id not in theory.LAWS:
        raise InputError(f"{where}.id: {unknown_name('law', id, theory.LAWS)}")
    for key in ("order", "at"):
        if key in entry:
            raise InputError(f"{where}.{key}: {shown(entry[key])}, expected only with a formula: a law has its own")
    return Claim(theory.LAWS[id], entry.get("resolution"))


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class _Symmetry(_Section):
    name: str
    generator: dict[str, FormulaText] = {}
    image: dict[str, FormulaText] = {}
    matrix: list[list[Number]] | None = None


def _short_symmetry(value: Any, validate: Callable[[Any], _Symmetry]) -> _Symmetry:
    """A symmetry may be a text, ``rescale:u:1,w:-1``."""
    if not isinstance(value, str):
        return validate(value)
    try:
        symmetry = Symmetry.parse(value, "loss.symmetry")
    except InputError as error:
        raise PydanticCustomError("refused", "{problem}", {"problem": str(error)}) from None
    return _Symmetry(name=symmetry.name, generator=dict(symmetry.generator), image=dict(symmetry.image))


class _OwnLoss(_Section):
    formula: FormulaText
    parameters: dict[str, StartValue]
    constants: dict[str, Number] = {}
    noise: dict[str, str] = {}
    define: dict[str, FormulaTexts] = {}
    symmetry: list[Annotated[_Symmetry, WrapValidator(_short_symmetry)]] = []
    data: dict[str, list[Any]] | None = None
    name: str = "custom"
    description: str = ""
    references: list[str] = []


class _From(_Section):
    file: str
    digest: str
    step: int
    seed: Seed
    trajectories: int
    moments: dict[str, list[Number]]


class _Run(_Section):
    trajectories: Count
    steps: Annotated[Count, _makes(_check_memory)]
    seed: Seed = 0
    dtype: Annotated[str, _makes(partial(_check_dtype, "dtype"))] = "float64"
    noise_dtype: Annotated[str, _makes(partial(_check_dtype, "noise_dtype"))] = "float32"
    initial: Annotated[dict[str, StartValue], _makes(partial(_starts, "run.initial"))] = {}
    from_: _From | None = Field(default=None, alias="from")


class _Autocorrelation(_Section):
    from_: Annotated[int, _takes("a whole number from 0", _whole(0))] = Field(default=0, alias="from")
    lags: list[Annotated[int, _takes("a whole number from 0", _whole(0))]]


class _Drift(_Section):
    by: str | None = None
    bins: list[Number]
    every: Count = 1
    from_: Annotated[int, _takes("a whole number from 0", _whole(0))] = Field(default=0, alias="from")


class _Record(_Section):
    every: Count | None = None
    snapshots: list[Step] = []
    snapshot_trajectories: Count | None = None
    quantiles: list[Level] = []
    covariances: bool = False
    autocorrelation: dict[str, _Autocorrelation] = {}
    drift: dict[str, _Drift] = {}
    observables: Annotated[dict[str, FormulaText], _makes(_observables)] = {}
    histograms: Annotated[dict[str, list[Number]], _makes(_histograms)] = {}


class _Predict(_Section):
    id: str | None = None
    formula: str | None = None
    resolution: Resolution | None = None
    order: Any = None
    at: Any = None


class Sections(_Section):
    """A whole scenario at one point of its sweep, as plain data."""

    title: str = ""
    references: list[str] = []
    alpha: Level = 1e-3
    loss: Annotated[dict[str, Any], _makes(build_loss)]
    optimizer: Annotated[dict[str, Any], _makes(_check_optimizer)]
    run: _Run
    record: _Record = _Record()
    sweep: dict[str, Any] = {}
    predict: Annotated[list[_Predict], _makes(lambda entries: build_claims([e.model_dump() for e in entries]))] = []


_NESTED: dict[str, type[_Section]] = {
    "": Sections,
    "loss": _OwnLoss,
    "symmetry": _Symmetry,
    "run": _Run,
    "from": _From,
    "record": _Record,
    "autocorrelation": _Autocorrelation,
    "drift": _Drift,
    "predict": _Predict,
}


def build_run(sections: Sections) -> Run:
    """The run of one point of a sweep.

    Raises
    ------
    InputError
        With every problem of the parts with each other.

    Examples
    --------
    >>> loss = {"formula": "x**2/2 + z*x", "parameters": {"x": 1}, "noise": {"z": "normal"}}
    >>> run = {"trajectories": 1e6, "steps": 1000}
    >>> build_run(Sections(loss=loss, optimizer={"learning_rate": 0.1}, run=run)).initial
    {'x': 1.0}
    """
    loss, steps = build_loss(sections.loss), sections.run.steps
    if sections.run.from_ is not None and sections.run.from_.seed == sections.run.seed:
        raise InputError(
            f"run.seed: {sections.run.seed} is that of run.from, whose noise would come again: take another"
        )
    blank = Run(
        loss,
        build_optimizer(sections.optimizer),
        Schedule("1"),
        dict.fromkeys(loss.parameters, 0.0),
        1,
        steps,
        sections.run.seed,
        Recorder(),
        sections.run.dtype,
        sections.run.noise_dtype,
    )
    parts: dict[str, Any] = {
        "trajectories": sections.run.trajectories,
        "schedule": build_schedule(sections.optimizer),
        "initial": _initial(sections, loss),
        "recorder": _recorder(sections.record, steps),
    }
    try:
        return replace(blank, **parts)
    except InputError:
        _try_apart(blank, **parts)
        raise


def _try_apart(
    blank: Run, trajectories: int, schedule: Schedule, initial: Mapping[str, Start], recorder: Recorder
) -> None:
    """Refuse the parts of a run that do not fit into a blank one, each with its own problem."""
    loss = blank.loss
    parts: list[dict[str, Any]] = [
        {"trajectories": trajectories},
        {"schedule": schedule},
        *({"initial": {**blank.initial, name: start}} for name, start in initial.items()),
        {"initial": {name: start for name, start in initial.items() if name in loss.parameters}},
        *({"recorder": Recorder(snapshots=(step,))} for step in recorder.snapshots),
        *({"recorder": Recorder(observables=(observable,))} for observable in recorder.observables),
    ]
    measured = [*loss.parameters, *(observable.name for observable in recorder.all_observables)]
    checks: list[Callable[[], object]] = [partial(replace, blank, **part) for part in parts]
    checks += [partial(_check_measured, name, measured) for name in recorder.histograms]
    attempt_all(checks)


def _check_measured(histogram: str, measured: Sequence[str]) -> None:
    for name in histogram.split(","):
        if name not in measured:
            raise InputError(f"record.histograms.{histogram}: {unknown_name('observable', name, measured)}")


def _initial(sections: Sections, loss: Loss) -> dict[str, Start]:
    """Initial values by coordinate: the loss's own, those of a file, of a whole vector, of coordinates."""
    initial = _starts("loss.parameters", sections.loss["parameters"]) if "formula" in sections.loss else {}
    if sections.run.from_ is not None:
        starts = stored(sections.run.from_.model_dump())
        initial |= {name: start for name, start in starts.items() if name in loss.parameters}
    for key, value in sorted(sections.run.initial.items(), key=lambda item: "[" in item[0]):
        moved = [name for name in loss.parameters if key in (name, base_name(name))]
        where = f"run.initial.{key}"
        initial |= dict.fromkeys(moved, start_from(value, where)) if moved else _starts("run.initial", {key: value})
    return initial


def _drift_bins(where: str, numbers: Sequence[float]) -> Histogram:
    bins = binned(numbers, where)
    if isinstance(bins, Plane):
        raise InputError(f"{where}: {shown(numbers)}, expected [low, high, bins]")
    return bins


def _recorder(record: _Record, steps: int) -> Recorder:
    snapshots = {steps if step == "final" else int(step) for step in record.snapshots}
    return Recorder(
        record.every,
        tuple(sorted(snapshots)),
        tuple(_observables(record.observables)),
        _histograms(record.histograms),
        record.snapshot_trajectories,
        tuple(record.quantiles),
        record.covariances,
        {name: Autocorrelation(one.from_, tuple(one.lags)) for name, one in record.autocorrelation.items()},
        {
            name: Drift(one.by or name, _drift_bins(f"record.drift.{name}.bins", one.bins), one.every, one.from_)
            for name, one in record.drift.items()
        },
    )
