"""Scenarios: TOML files that say what to simulate, how to measure it, and what to hold it against."""

from __future__ import annotations

import copy
import inspect
import itertools
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from importlib import resources
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from sgdsim import toml
from sgdsim.errors import InputError, unknown_name
from sgdsim.formula import parameter_name
from sgdsim.loss import Loss, Symmetry
from sgdsim.losses import CATALOGUE
from sgdsim.noise import Noise
from sgdsim.observables import Observable
from sgdsim.optimizers import Optimizer
from sgdsim.run import Histogram, Recorder, Run
from sgdsim.schedules import Schedule
from sgdsim.vectors import coordinates

T = TypeVar("T")


def _integral(value: object) -> object:
    """Counts may be written 1e6."""
    return int(value) if isinstance(value, float) and value.is_integer() else value


Count = Annotated[int, BeforeValidator(_integral), Field(ge=1)]
Step = Annotated[int, BeforeValidator(_integral), Field(ge=0)]
Number = Annotated[float, Field(allow_inf_nan=False)]
Start = Number | str


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class _Formula(_Section):
    name: str = "custom"
    formula: str
    parameters: dict[str, Start]
    constants: dict[str, Number] = {}
    noise: dict[str, str] = {}
    define: dict[str, str | list[str]] = {}
    symmetry: list[dict[str, Any]] = []
    description: str = ""
    references: list[str] = []


class _Run(_Section):
    trajectories: Count
    steps: Count
    seed: Annotated[int, BeforeValidator(_integral), Field(ge=0, lt=2**64)] = 0
    dtype: str = "float64"
    noise_dtype: str = "float32"
    initial: dict[str, Start] = {}


class _Record(_Section):
    every: Count | None = None
    snapshots: list[Step | Literal["final"]] = []
    observables: dict[str, str] = {}
    histograms: dict[str, list[Number]] = {}


class _Predict(_Section):
    id: str | None = None
    formula: str | None = None
    resolution: Number | str | None = None
    order: int | None = None
    at: Step | str | None = None


class _Scenario(_Section):
    title: str = ""
    references: list[str] = []
    alpha: Annotated[float, Field(gt=0, lt=1)] = 1e-3
    loss: dict[str, Any]
    optimizer: dict[str, Any]
    run: _Run
    record: _Record = _Record()
    sweep: dict[str, Any] = {}
    predict: list[_Predict] = []


@dataclass(frozen=True)
class Scenario:
    """A scenario, read and checked.

    Parameters
    ----------
    name
        What its files are called.
    data
        The resolved TOML data: overrides applied, defaults filled in.
    runs
        One run a sweep point; a single one without a sweep.
    sweep
        The swept values by dotted key, one a point.

    Examples
    --------
    >>> scenario = Scenario.load("river_valley", {"run.trajectories": 1000})
    >>> scenario.runs[0].trajectories
    1000
    """

    name: str
    data: Mapping[str, Any]
    runs: tuple[Run, ...]
    sweep: Mapping[str, tuple[Any, ...]]

    @classmethod
    def load(cls, source: str | Path, overrides: Mapping[str, Any] | None = None) -> Scenario:
        """Read a file, or a shipped scenario by its bare name.

        Parameters
        ----------
        source
            A path or a name.
        overrides
            Values by dotted key, e.g. ``{"run.steps": 5000}``.

        Raises
        ------
        InputError
            With every problem found: key, value, what was expected.
        """
        name, text = _read(source)
        return cls.parse(text, name, where=str(source), overrides=overrides)

    @classmethod
    def parse(
        cls,
        text: str,
        name: str = "scenario",
        where: str = "scenario",
        overrides: Mapping[str, Any] | None = None,
    ) -> Scenario:
        """Read TOML text; see `load`."""
        data = toml.loads(text, where)
        for key, value in (overrides or {}).items():
            toml.set_key(data, key, value)
        try:
            model = _Scenario.model_validate(data)
            resolved = model.model_dump(exclude_none=True)
            sweep = _sweep(model.sweep)
            points = [_with_values(resolved, {k: v[i] for k, v in sweep.items()}) for i in range(_length(sweep))]
            runs = tuple(_build_run(_Scenario.model_validate(point)) for point in points)
            _check_shapes(runs)
        except ValidationError as error:
            raise InputError(f"{where}:\n" + "\n".join(_problems(error))) from None
        except InputError as error:
            raise InputError(f"{where}:\n{error}") from None
        return cls(name, resolved, runs, sweep)

    def predicting(self, entries: Sequence[Mapping[str, Any]]) -> Scenario:
        """The same scenario with further ``[[predict]]`` entries."""
        return replace(self, data={**self.data, "predict": [*self.data["predict"], *entries]})

    def recording(self, recorders: Sequence[Recorder]) -> Scenario:
        """The same scenario with the given recorders merged into those of its runs, point by point."""
        runs = tuple(
            replace(run, recorder=run.recorder.merge(recorder))
            for run, recorder in zip(self.runs, recorders, strict=True)
        )
        data = {**self.data, "record": runs[0].recorder.describe()}
        return replace(self, runs=runs, data=data)

    @property
    def toml(self) -> str:
        """The resolved scenario as text, enough to run it again."""
        return toml.dumps(self.data)

    @property
    def common_noise(self) -> bool:
        """Whether all sweep points draw the same noise."""
        return bool(self.data["sweep"].get("common_noise", False))


def shipped() -> dict[str, Path]:
    """The shipped scenarios by name."""
    folder = resources.files("sgdsim.scenarios")
    paths = [Path(str(entry)) for entry in folder.iterdir() if entry.name.endswith(".toml")]
    return {path.stem: path for path in sorted(paths)}


def _read(source: str | Path) -> tuple[str, str]:
    path = Path(source)
    known = shipped()
    if not path.exists() and str(source) in known:
        path = known[str(source)]
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        hint = unknown_name("shipped scenario", path.stem, known)
        raise InputError(f"{source}: no such file ({hint})") from None
    except IsADirectoryError:
        raise InputError(f"{source}: is a folder, expected a scenario file") from None
    except UnicodeDecodeError:
        raise InputError(f"{source}: is not a text file, expected a scenario in TOML") from None
    except OSError as error:
        raise InputError(f"{source}: cannot be read: {error.strerror}") from None
    if not text.strip():
        raise InputError(f"{source}: is empty, expected a scenario in TOML")
    return path.stem, text


def _problems(error: ValidationError) -> Iterable[str]:
    """One line a problem: where, what was given, what was expected."""
    for problem in error.errors():
        *path, last = problem["loc"]
        where = ".".join(str(part) for part in problem["loc"])
        if problem["type"] == "extra_forbidden":
            section = ".".join(str(part) for part in path)
            yield f"  {where}: {unknown_name(f'key of [{section}]' if section else 'key', str(last), _fields(path))}"
        elif problem["type"] == "missing":
            yield f"  {where}: is missing"
        else:
            yield f"  {where}: {problem['input']!r}: {problem['msg']}"


def _fields(path: Sequence[int | str]) -> Iterable[str]:
    sections: dict[str, type[_Section]] = {"run": _Run, "record": _Record, "predict": _Predict}
    return (sections[str(path[0])] if path else _Scenario).model_fields


def _sweep(section: Mapping[str, Any]) -> dict[str, tuple[Any, ...]]:
    """The values of every swept key, one a point: lists are paired, those of the grid multiplied out."""
    paired = {key: value for key, value in section.items() if key not in ("grid", "common_noise")}
    grid = section.get("grid", {})
    for key, value in [*paired.items(), *grid.items()]:
        if not isinstance(value, list) or not value:
            raise InputError(f"  sweep.{key}: {value!r}, expected a list of values")
        if toml.split_key(key)[0] not in ("loss", "optimizer", "run"):
            raise InputError(f"  sweep.{key}: only keys of loss, optimizer and run can be swept")
    lengths = {key: len(value) for key, value in paired.items()}
    if len(set(lengths.values())) > 1:
        raise InputError(f"  sweep: paired lists differ in length: {lengths}; use [sweep.grid] for their product")
    axes: list[list[dict[str, Any]]] = []
    if paired:
        axes.append([dict(zip(paired, values, strict=True)) for values in zip(*paired.values(), strict=True)])
    axes += [[{key: value} for value in values] for key, values in grid.items()]
    points = [{k: v for part in parts for k, v in part.items()} for parts in itertools.product(*axes)]
    return {key: tuple(point[key] for point in points) for key in (*paired, *grid)}


def _length(sweep: Mapping[str, Sequence[Any]]) -> int:
    return len(next(iter(sweep.values()))) if sweep else 1


def _with_values(data: Mapping[str, Any], values: Mapping[str, Any]) -> dict[str, Any]:
    point = copy.deepcopy(dict(data))
    for key, value in values.items():
        toml.set_key(point, key, value)
    return point


def _build_run(model: _Scenario) -> Run:
    """The run of one point; every section's problem is reported, not only the first."""
    problems: list[str] = []

    def attempt(build: Callable[[], T]) -> T | None:
        try:
            return build()
        except InputError as error:
            problems.append("\n".join(f"  {line}" for line in str(error).splitlines()))
            return None

    loss = attempt(lambda: build_loss(model.loss))
    optimizer = attempt(lambda: _build_optimizer(model.optimizer))
    schedule = attempt(lambda: _build_schedule(model.optimizer, model.run.steps))
    initial = attempt(lambda: _build_initial(model))
    recorder = attempt(lambda: _build_recorder(model.record, model.run.steps))
    run = None
    if loss and optimizer and schedule and recorder and initial is not None:
        run = attempt(
            lambda: Run(
                loss,
                optimizer,
                schedule,
                initial,
                model.run.trajectories,
                model.run.steps,
                model.run.seed,
                recorder,
                model.run.dtype,
                model.run.noise_dtype,
            )
        )
    if problems or run is None:
        raise InputError("\n".join(problems))
    return run


def build_loss(section: Mapping[str, Any]) -> Loss:
    """A loss from the ``[loss]`` table: a catalogue entry with its arguments, or a formula.

    Raises
    ------
    InputError
        For an unknown loss or key, or one of the wrong type.
    """
    if "formula" in section:
        return _formula_loss(section)
    name = section.get("name")
    if not isinstance(name, str):
        raise InputError("loss: expected a name from the catalogue or a formula")
    if name not in CATALOGUE:
        raise InputError(f"loss.name: {unknown_name('loss', name, CATALOGUE)}")
    family = CATALOGUE[name]
    arguments = {key: value for key, value in section.items() if key != "name"}
    known = inspect.signature(family).parameters
    for key in arguments:
        if key not in known:
            raise InputError(f"loss.{key}: {unknown_name(f'key of {name}', key, known)}")
    constants = arguments.get("constants", {})
    if not isinstance(constants, dict) or not all(_is_number(value) for value in constants.values()):
        raise InputError(f"loss.constants: {constants!r}, expected a table of numbers")
    return family(**arguments)


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _formula_loss(section: Mapping[str, Any]) -> Loss:
    try:
        model = _Formula.model_validate(section)
    except ValidationError as error:
        raise InputError("\n".join(f"loss.{line.strip()}" for line in _problems(error))) from None
    return Loss(
        formula=model.formula,
        parameters=tuple(name for key in model.parameters for name in coordinates(*parameter_name(key))),
        constants=model.constants,
        noise={
            name: Noise.parse(text, f"loss.noise.{key}")
            for key, text in model.noise.items()
            for name in coordinates(*parameter_name(key))
        },
        definitions={key: text if isinstance(text, str) else tuple(text) for key, text in model.define.items()},
        symmetries=tuple(Symmetry(entry["name"], entry["generator"]) for entry in model.symmetry),
        name=model.name,
        description=model.description,
        references=tuple(model.references),
    )


def _build_optimizer(section: Mapping[str, Any]) -> Optimizer:
    hyperparameters = {k: v for k, v in section.items() if k not in ("name", "learning_rate", "batch_size")}
    for key, value in hyperparameters.items():
        if not _is_number(value):
            raise InputError(f"optimizer.{key}: {value!r}, expected a number")
    batch_size = _integral(section.get("batch_size", 1))
    if not isinstance(batch_size, int) or isinstance(batch_size, bool):
        raise InputError(f"optimizer.batch_size: {batch_size!r}, expected a positive integer")
    return Optimizer(str(section.get("name", "sgd")), hyperparameters, batch_size)


def _build_schedule(section: Mapping[str, Any], steps: int) -> Schedule:
    if "learning_rate" not in section:
        raise InputError("optimizer.learning_rate: is missing")
    rate = section["learning_rate"]
    if not isinstance(rate, str) and not _is_number(rate):
        raise InputError(f"optimizer.learning_rate: {rate!r}, expected a number or a schedule")
    schedule = Schedule(rate if isinstance(rate, str) else repr(float(rate)))
    schedule.rates(min(steps, 2))
    return schedule


def _build_initial(model: _Scenario) -> dict[str, float | Noise]:
    """Initial values by coordinate; a vector's name stands for all of its coordinates."""
    given = {**model.loss.get("parameters", {}), **model.run.initial}
    initial: dict[str, float | Noise] = {}
    for key, value in given.items():
        start = Noise.parse(value, f"run.initial.{key}") if isinstance(value, str) else float(value)
        name, length = parameter_name(key)
        explicit = key in model.run.initial
        for coordinate in (key,) if explicit else coordinates(name, length):
            initial[coordinate] = start
    return initial


def _build_recorder(record: _Record, steps: int) -> Recorder:
    histograms = {}
    for name, bins in record.histograms.items():
        if len(bins) != 3 or not float(bins[2]).is_integer():
            raise InputError(f"record.histograms.{name}: {bins}, expected [low, high, bins]")
        histograms[name] = Histogram(bins[0], bins[1], int(bins[2]))
    return Recorder(
        record.every,
        tuple(sorted({steps if step == "final" else step for step in record.snapshots})),
        tuple(Observable.parse(name, text) for name, text in record.observables.items()),
        histograms,
    )


def _check_shapes(runs: Sequence[Run]) -> None:
    """All points of a sweep stand in the same arrays."""
    for key in ("trajectories", "steps", "dtype", "noise_dtype", "measured"):
        if len({getattr(run, key) for run in runs}) > 1:
            raise InputError(f"  sweep: the points differ in run.{key}; make a scenario of each")
