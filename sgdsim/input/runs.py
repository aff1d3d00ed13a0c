"""The runs of a scenario, one for each point of its sweep. A table is read once for each combination of its values."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

from sgdsim.base import toml
from sgdsim.base.bar import watched
from sgdsim.base.errors import InputError
from sgdsim.base.problems import attempt
from sgdsim.input.builders import build_recorder, combine_starts, read_loss, read_optimizer
from sgdsim.input.schema import KEYS, RecordTable, RunTable
from sgdsim.input.wording import shown, validated
from sgdsim.model.loss import Loss
from sgdsim.model.optimizers import Optimizer
from sgdsim.model.recorder import Recorder
from sgdsim.model.run import Run
from sgdsim.model.schedules import Schedule
from sgdsim.model.starts import Start

_PATIENCE = 1.0  # seconds of reading before a progress bar appears

Read = tuple[Mapping[str, Any], Any]
"""A table with its defaults filled in, and the object built from it."""


def read_runs(
    data: Mapping[str, Any],
    swept: Mapping[str, Sequence[Any]],
    problems: list[str],
    left_out: Sequence[str] = (),
    progress: bool = False,
) -> tuple[list[Run], dict[str, Mapping[str, Any]]]:
    """The run of every point of a sweep, and the tables of the first point with all defaults filled in.

    Parameters
    ----------
    data
        A scenario, as plain data.
    swept
        The values of every swept key, one for each point.
    problems
        List to which problems are added: a problem of all points once, others with their point. With problems there
        are no runs.
    left_out
        Names of tables that are not read, because their problems are known already.
    progress
        Show a bar on standard error, if that is a terminal and the reading takes long.

    Examples
    --------
    >>> loss = {"formula": "x**2/2 + z*x", "parameters": {"x": 1}, "noise": {"z": "normal"}}
    >>> tables = {"loss": loss, "optimizer": {}, "run": {"trajectories": 1e6, "steps": 1000}}
    >>> runs, _ = read_runs(tables, {"optimizer.learning_rate": (0.1, 0.2)}, [])
    >>> runs[0].loss is runs[1].loss, runs[1].schedule.text
    (True, '0.2')
    """
    readers = {"loss": _read_loss, "optimizer": _read_optimizer, "run": _read_run}
    tables = {name: _Table(data, name, swept, read) for name, read in readers.items() if name not in left_out}
    record = attempt(problems, partial(_read_record, data.get("record", {})))
    points = len(next(iter(swept.values()))) if swept else 1
    runs, notes = [], dict[int, list[str]]()
    recorder = functools.cache(partial(_recorder, record[1])) if record else None
    for point in watched(points, "sweep points", _PATIENCE) if progress else range(points):
        own: list[str] = []
        read = {name: table.at(point, own) for name, table in tables.items()}
        made = {name: one[1] for name, one in read.items() if one is not None}
        if recorder is not None and made.keys() == readers.keys():
            run = attempt(own, partial(_build, made["loss"], made["optimizer"], made["run"], recorder))
            runs += [] if run is None else [run]
        if own:
            notes[point] = own
    problems += _of_points(notes, swept, points)
    attempt(problems, partial(_check_shapes, runs))
    first = {name: one[0] for name, one in ((name, table.at(0, [])) for name, table in tables.items()) if one}
    return runs, first if record is None else {**first, "record": record[0]}


class _Table:
    """A table of a scenario, with its values at the points of the sweep.

    Parameters
    ----------
    data, name
        The scenario, and the name of the table.
    swept
        The values of all swept keys.
    read
        Function that builds an object from the table.
    """

    def __init__(
        self, data: Mapping[str, Any], name: str, swept: Mapping[str, Sequence[Any]], read: Callable[[Any], Read]
    ) -> None:
        self._data, self._name, self._read = data, name, read
        self._swept = {key: values for key, values in swept.items() if toml.split_key(key)[0] == name}
        self._made: dict[tuple[str, ...], tuple[Read | None, list[str]]] = {}

    def at(self, point: int, problems: list[str]) -> Read | None:
        """The object built at a point, shared by points with the same table; None if there are problems."""
        values = {key: values[point] for key, values in self._swept.items()}
        same = tuple(map(repr, values.values()))  # tells 1, 1.0 and "1" apart
        if same not in self._made:
            own: list[str] = []
            self._made[same] = attempt(own, partial(self._make, values)), own
        made, own = self._made[same]
        problems += own
        return made

    def _make(self, values: Mapping[str, Any]) -> Read:
        data = self._data
        for key, value in values.items():
            data = toml.with_key(data, key, value)
        if self._name not in data:
            raise InputError(f"{self._name}: is missing")
        table = data[self._name]
        if not isinstance(table, Mapping):
            raise InputError(f"{self._name}: {shown(table)}, expected a table")
        return self._read(table)


def _read_loss(table: Mapping[str, Any]) -> Read:
    return table, read_loss(table)


def _read_optimizer(table: Mapping[str, Any]) -> Read:
    return table, read_optimizer(table)


def _read_run(table: Mapping[str, Any]) -> Read:
    """The ``[run]`` table; refuse to continue a run with the noise it had, or with a wrong number of trajectories."""
    run = validated(RunTable, table, KEYS, ("run",))
    if run.steps is None and run.time is None:
        raise InputError("run.steps: is missing")
    if run.steps is not None and run.time is not None:
        raise InputError(f"run.time: {run.time:g}, expected it or run.steps, not both")
    if run.from_ is not None and run.seed in run.from_.seeds:
        raise InputError(f"run.seed: {run.seed} is that of run.from, whose noise would come again")
    if run.from_ is not None and run.from_.antithetic and not run.antithetic:
        raise InputError("run.antithetic: false, expected true: trajectories of run.from are pairs with mirrored noise")
    if run.from_ is not None and run.trajectories != run.from_.trajectories:
        known = f"run.from describes the first {run.from_.trajectories}"
        raise InputError(f"run.trajectories: {run.trajectories}, but {known}: name the file itself in run.from")
    return run.model_dump(exclude_none=True, by_alias=True), run


def _read_record(table: Any) -> tuple[Mapping[str, Any], tuple[RecordTable, Recorder]]:
    record = validated(RecordTable, table, KEYS, ("record",))
    return record.model_dump(exclude_none=True, by_alias=True), (record, build_recorder(record))


def _recorder(record: tuple[RecordTable, Recorder], steps: int) -> Recorder:
    """The recorder of a run of ``steps`` steps, with its snapshots."""
    snapshots = {steps if step == "final" else int(step) for step in record[0].snapshots}
    return replace(record[1], snapshots=tuple(sorted(snapshots)))


def _build(
    loss_and_start: tuple[Loss, Mapping[str, Start]],
    dynamics: tuple[Optimizer, Schedule],
    run: RunTable,
    recorder: Callable[[int], Recorder],
) -> Run:
    """The run of one point; refuse parts that do not fit together."""
    (loss, own), (optimizer, schedule) = loss_and_start, dynamics
    steps = schedule.steps_in(run.time) if run.time is not None else run.steps or 0
    return Run(
        loss,
        optimizer,
        schedule,
        combine_starts(run, loss, own),
        run.trajectories,
        steps,
        run.seed,
        recorder(steps),
        run.dtype,
        run.noise_dtype,
        run.antithetic,
        tuple(run.stop or ()),
    )


def _of_points(notes: Mapping[int, Sequence[str]], swept: Mapping[str, Sequence[Any]], points: int) -> list[str]:
    """The problems of all points; a problem of every point is reported once."""
    everywhere = len(notes) == points
    shared = [one for one in notes[0] if all(one in own for own in notes.values())] if everywhere else []
    rest = []
    for point, own in notes.items():
        where = ", ".join(f"{key} = {shown(values[point])}" for key, values in swept.items())
        rest += [f"sweep point {point} ({where}): {one}" for one in own if one not in shared]
    return [*shared, *rest]


def _check_shapes(runs: Sequence[Run]) -> None:
    """Refuse points whose results do not fit into the same arrays."""
    for key in ("trajectories", "dtype", "noise_dtype", "measured"):
        if len({getattr(run, key) for run in runs}) > 1:
            what = "the parameters" if key == "measured" else f"run.{key}"
            raise InputError(f"sweep: the points differ in {what}; make a scenario of each")
    if len({run.steps for run in runs}) > 1:
        _check_records(runs)


def _check_records(runs: Sequence[Run]) -> None:
    """Refuse points of different length whose records and snapshots do not correspond to each other."""
    if runs[0].recorder.autocorrelations:
        raise InputError("record.autocorrelation: lags are steps, expected none where the points differ in steps")
    if len({len(run.recorder.record_steps(run.steps)) for run in runs}) > 1:
        raise InputError("record.every: the points differ in steps, expected record.records, equally many at each")
    if len({len(run.recorder.snapshots) for run in runs}) > 1:
        raise InputError("record.snapshots: the points differ in steps, expected steps that are the last of none")
