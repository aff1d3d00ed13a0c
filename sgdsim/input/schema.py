"""What a scenario file may say: its sections and keys, and the run that they make.

Everything is checked before anything is refused, so that a user sees all problems at once: pydantic collects those of
single values, and what is made of them is tried part by part.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from math import inf
from typing import Annotated, Any

from pydantic import Field

from sgdsim.base.errors import InputError, unknown_name
from sgdsim.formulas.vectors import base_name
from sgdsim.input.builders import (
    build_claims,
    build_loss,
    build_optimizer,
    build_schedule,
    check_optimizer,
    read_histograms,
    read_observables,
    read_starts,
)
from sgdsim.input.fields import (
    Count,
    FormulaText,
    Level,
    Number,
    Resolution,
    Section,
    Seed,
    StartValue,
    Step,
    makes,
    takes,
    whole,
)
from sgdsim.input.problems import Problems, attempt, attempt_all, shown, validated
from sgdsim.model.loss import Loss
from sgdsim.model.recorder import Autocorrelation, Drift, Histogram, Plane, Recorder, binned, check_measured
from sgdsim.model.run import DTYPES, Run
from sgdsim.model.schedules import Schedule
from sgdsim.model.starts import Start, start_from, stored
from sgdsim.prediction import EXPECTED

_BYTES_A_STEP = 64  # the schedule and its temporaries, recorded steps


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


def _check_expect(verdict: str) -> None:
    if verdict not in EXPECTED:
        raise InputError(f"predict.expect: {unknown_name('verdict', verdict, EXPECTED)}")


class _From(Section):
    file: str
    digest: str
    step: int
    seeds: list[Seed]
    antithetic: bool | None = None  # left out where it is false, as in files that are older than it
    trajectories: Count
    moments: dict[str, Annotated[list[Number], Field(min_length=4, max_length=4)]]


class _Run(Section):
    trajectories: Count
    steps: Annotated[Count, makes(_check_memory)]
    seed: Seed = 0
    dtype: Annotated[str, makes(partial(_check_dtype, "dtype"))] = "float64"
    noise_dtype: Annotated[str, makes(partial(_check_dtype, "noise_dtype"))] = "float32"
    antithetic: bool = False
    initial: Annotated[dict[str, StartValue], makes(partial(read_starts, "run.initial"))] = {}
    from_: _From | None = Field(default=None, alias="from")


class _Autocorrelation(Section):
    from_: Annotated[int, takes("a whole number from 0", whole(0))] = Field(default=0, alias="from")
    lags: list[Annotated[int, takes("a whole number from 0", whole(0))]]


class _Drift(Section):
    by: str | None = None
    bins: list[Number]
    every: Count = 1
    from_: Annotated[int, takes("a whole number from 0", whole(0))] = Field(default=0, alias="from")


class _Record(Section):
    every: Count | None = None
    snapshots: list[Step] = []
    snapshot_trajectories: Count | None = None
    quantiles: list[Level] = []
    covariances: bool = False
    controls: list[str] = []
    autocorrelation: dict[str, _Autocorrelation] = {}
    drift: dict[str, _Drift] = {}
    observables: Annotated[dict[str, FormulaText], makes(read_observables)] = {}
    histograms: Annotated[dict[str, list[Number]], makes(read_histograms)] = {}


class _Predict(Section):
    id: str | None = None
    formula: str | None = None
    resolution: Resolution | None = None
    expect: Annotated[str, makes(_check_expect)] | None = None
    order: Any = None
    at: Any = None
    curve: Any = None
    fraction: Any = None


class Sections(Section):
    """A whole scenario at one point of its sweep, as plain data."""

    title: str = ""
    references: list[str] = []
    alpha: Level = 1e-3
    loss: Annotated[dict[str, Any], makes(build_loss)]
    optimizer: Annotated[dict[str, Any], makes(check_optimizer)]
    run: _Run
    record: _Record = _Record()
    sweep: dict[str, Any] = {}
    predict: Annotated[list[_Predict], makes(lambda entries: build_claims([e.model_dump() for e in entries]))] = []


_SECTIONS: dict[str, type[Section]] = {
    "": Sections,
    "run": _Run,
    "from": _From,
    "record": _Record,
    "autocorrelation": _Autocorrelation,
    "drift": _Drift,
    "predict": _Predict,
}
TABLES = tuple(Sections.model_fields)
"""What may stand at the top of a scenario."""
_KEYS = {name: [field.alias or key for key, field in one.model_fields.items()] for name, one in _SECTIONS.items()}


def read_sections(data: Mapping[str, Any]) -> Sections:
    """A scenario at one point of its sweep, checked.

    Raises
    ------
    InputError
        With every problem of single values and of what is made of each.

    Examples
    --------
    >>> loss = {"formula": "x**2/2 + z*x", "parameters": {"x": 1}, "noise": {"z": "normal"}}
    >>> run = {"trajectories": 1e6, "steps": 1000}
    >>> read_sections({"loss": loss, "optimizer": {"learning_rate": 0.1}, "run": run}).run.trajectories
    1000000
    """
    try:
        return validated(Sections, data, _KEYS)
    except Problems as error:
        found = list(error.each)
        attempt(found, partial(_check_claims, data.get("predict")))
        raise Problems(list(dict.fromkeys(found))) from None


_CLAIMED = ("id", "formula", "order", "at", "curve", "fraction")


def _check_claims(entries: Any) -> None:
    """Refuse laws and formulas that are none, also beside a resolution or another value that is none."""
    if isinstance(entries, list) and all(isinstance(entry, Mapping) for entry in entries):
        about = [{key: entry[key] for key in entry if key in _CLAIMED} for entry in entries]
        if all(isinstance(entry.get(key, ""), str) for entry in about for key in ("id", "formula")):
            build_claims(about)


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
    _check_from(sections.run)
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
        return replace(blank, **parts, antithetic=sections.run.antithetic)
    except InputError:
        _try_apart(blank, **parts)
        raise


def _check_from(run: _Run) -> None:
    """Refuse to go on from another run with its noise, or with other trajectories than its description is of."""
    if run.from_ is None:
        return
    if run.seed in run.from_.seeds:
        raise InputError(f"run.seed: {run.seed} is that of run.from, whose noise would come again")
    if run.from_.antithetic and not run.antithetic:
        raise InputError("run.antithetic: false, expected true: trajectories of run.from are pairs with mirrored noise")
    if run.trajectories != run.from_.trajectories:
        known = f"run.from describes the first {run.from_.trajectories}"
        raise InputError(f"run.trajectories: {run.trajectories}, but {known}: name the file itself in run.from")


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
    checks += [
        partial(check_measured, f"record.histograms.{names}", name, measured)
        for names in recorder.histograms
        for name in names.split(",")
    ]
    attempt_all(checks)


def _initial(sections: Sections, loss: Loss) -> dict[str, Start]:
    """Initial values by coordinate: the loss's own, those of a file, of a whole vector, of coordinates."""
    initial = read_starts("loss.parameters", sections.loss["parameters"]) if "formula" in sections.loss else {}
    if sections.run.from_ is not None:
        starts = stored(sections.run.from_.model_dump())
        if not starts.keys() & set(loss.parameters):
            raise InputError(f"run.from: holds {', '.join(starts)}, none of {', '.join(loss.parameters)}")
        initial |= {name: start for name, start in starts.items() if name in loss.parameters}
    for key, value in sorted(sections.run.initial.items(), key=lambda item: "[" in item[0]):
        moved = [name for name in loss.parameters if key in (name, base_name(name))]
        where = f"run.initial.{key}"
        initial |= dict.fromkeys(moved, start_from(value, where)) if moved else read_starts("run.initial", {key: value})
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
        tuple(read_observables(record.observables)),
        read_histograms(record.histograms),
        record.snapshot_trajectories,
        tuple(record.quantiles),
        record.covariances,
        {name: Autocorrelation(one.from_, tuple(one.lags)) for name, one in record.autocorrelation.items()},
        {
            name: Drift(one.by or name, _drift_bins(f"record.drift.{name}.bins", one.bins), one.every, one.from_)
            for name, one in record.drift.items()
        },
        tuple(record.controls),
    )
