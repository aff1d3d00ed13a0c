"""Scenarios: TOML files that describe what to simulate, what to measure, and which predictions to compare it with."""

from __future__ import annotations

import itertools
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from importlib import resources
from pathlib import Path
from typing import Any

from sgdsim.base import take, toml
from sgdsim.base.errors import InputError, unknown_name
from sgdsim.base.files import check_input, unreadable
from sgdsim.base.problems import attempt
from sgdsim.input.builders import Claim, read_claims
from sgdsim.input.file_references import inline_files, named_files
from sgdsim.input.option_values import claim
from sgdsim.input.parts import parts_of
from sgdsim.input.plain import plain
from sgdsim.input.runs import read_runs
from sgdsim.input.schema import KEYS, TABLES, TOP, About
from sgdsim.input.sweep import labels, read_sweep
from sgdsim.input.wording import listed, validated
from sgdsim.model.recorder import Recorder
from sgdsim.model.run import Run


@dataclass(frozen=True)
class Scenario:
    """A scenario that has been read and checked.

    Parameters
    ----------
    name
        Name of the scenario, from which its files are named.
    data
        The resolved TOML data: overrides applied, defaults filled in.
    runs
        The run of each point of the sweep; a single run without a sweep.
    sweep
        The swept values by dotted key, one for each point.
    claims
        The laws and the user's own predictions with which the ensemble is compared, in order.
    part
        Name of the part, if the file has parts.
    sources
        The files from which it was read.

    Raises
    ------
    InputError
        For an argument of the wrong type.

    Examples
    --------
    >>> scenario = Scenario.load("river_valley", {"run.trajectories": 1000})
    >>> scenario.runs[0].trajectories, scenario.common_noise
    (1000, False)
    >>> again = Scenario.parse(scenario.toml)
    >>> again.runs == scenario.runs, again.data == Scenario.of(scenario.data, "again", "this example").data
    (True, True)
    >>> [one.name for one in Scenario.parse_parts(scenario.toml, name="mine")]
    ['mine']
    >>> recorded = scenario.recording([Recorder(snapshots=(100,))])
    >>> recorded.runs[0].recorder.snapshots, scenario.runs[0].recorder.snapshots
    ((100, 2000), (2000,))
    """

    name: str
    data: Mapping[str, Any]
    runs: tuple[Run, ...]
    sweep: Mapping[str, tuple[Any, ...]]
    claims: tuple[Claim, ...] = ()
    part: str = ""
    sources: tuple[Path, ...] = ()

    def __post_init__(self) -> None:
        take.settle(
            self,
            "scenario",
            name=take.text,
            data=take.by_name(take.anything),
            runs=take.each(take.of_kind(Run, "a Run")),
            sweep=take.by_name(take.each(take.anything)),
            claims=take.each(take.of_kind(Claim, "a Claim")),
            part=take.text,
            sources=take.each(take.of_kind(Path, "a Path")),
        )

    @classmethod
    def load(
        cls, source: str | Path, overrides: Mapping[str, Any] | None = None, predictions: Sequence[str] = ()
    ) -> Scenario:
        """Read a scenario file, or a scenario that sgdsim ships, by its name.

        Unlike `load_scenario` it does not record what the predictions need.

        Parameters
        ----------
        source
            Path of the file, or name of the scenario.
        overrides
            Values by dotted key, such as ``{"run.steps": 5000}``.
        predictions
            Further predictions: ids of laws, and formulas of the user's own.

        Returns
        -------
        Scenario
            The scenario.

        Raises
        ------
        InputError
            With all problems that were found: the key, the value, and what was expected.
        """
        return _only(cls.load_parts(source, overrides, predictions), str(source))

    @classmethod
    def load_parts(
        cls,
        source: str | Path,
        overrides: Mapping[str, Any] | None = None,
        predictions: Sequence[str] = (),
        progress: bool = False,
    ) -> list[Scenario]:
        """Read all parts of a file, each a scenario of its own; a file without ``[[part]]`` is a single part.

        The tables of a part replace those of the file; of ``run`` and ``record`` only the keys that it has.

        Parameters
        ----------
        source
            Path of the file, or name of a scenario that sgdsim ships.
        overrides
            Values by dotted key, for every part.
        predictions
            Further predictions for every part: ids of laws, and formulas of the user's own.
        progress
            True to show a bar on standard error, if that is a terminal, while a large sweep is read.

        Returns
        -------
        list
            A scenario for each part.

        Raises
        ------
        InputError
            With all problems that were found: the key, the value, and what was expected.

        Examples
        --------
        >>> [scenario.name for scenario in Scenario.load_parts("river_valley")]
        ['river_valley']
        """
        path, text = _read(source)
        progress = take.flag(progress, "progress")
        data = toml.loads(text, str(source))
        overrides, predictions = _overrides(overrides), take.each(take.text)(predictions, "predictions")
        parts = _read_parts(data, path.stem, str(source), overrides, predictions, path.parent, progress)
        return [replace(one, sources=(path, *one.sources)) for one in parts]

    @classmethod
    def parse(
        cls,
        text: str,
        name: str = "scenario",
        where: str = "scenario",
        overrides: Mapping[str, Any] | None = None,
        predictions: Sequence[str] = (),
        folder: Path | None = None,
    ) -> Scenario:
        """Read a scenario from TOML text.

        Parameters
        ----------
        text
            The TOML text.
        name
            Name of the scenario, from which its files are named.
        where
            Origin of the text, for messages.
        overrides, predictions
            Values by dotted key, and further predictions; see `load`.
        folder
            Folder from which relative paths of files in the text are taken; None to read no files.

        Returns
        -------
        Scenario
            The scenario.

        Raises
        ------
        InputError
            With all problems that were found: the key, the value, and what was expected.
        """
        return _only(cls.parse_parts(text, name, where, overrides, predictions, folder), where)

    @classmethod
    def parse_parts(
        cls,
        text: str,
        name: str = "scenario",
        where: str = "scenario",
        overrides: Mapping[str, Any] | None = None,
        predictions: Sequence[str] = (),
        folder: Path | None = None,
    ) -> list[Scenario]:
        """Read all parts of a scenario from TOML text.

        Parameters
        ----------
        text
            The TOML text.
        name
            Name of the scenario, from which its files are named.
        where
            Origin of the text, for messages.
        overrides, predictions
            Values by dotted key, and further predictions, for every part; see `load_parts`.
        folder
            Folder from which relative paths of files in the text are taken; None to read no files.

        Returns
        -------
        list
            A scenario for each part.

        Raises
        ------
        InputError
            With all problems that were found: the key, the value, and what was expected.
        """
        data, name = toml.loads(take.text(text, "text"), where), take.text(name, "name")
        overrides, predictions = _overrides(overrides), take.each(take.text)(predictions, "predictions")
        return _read_parts(data, name, where, overrides, predictions, _folder(folder))

    @classmethod
    def of(
        cls, data: Mapping[str, Any], name: str, where: str, folder: Path | None = None, progress: bool = False
    ) -> Scenario:
        """Scenario from the tables of a scenario file.

        Parameters
        ----------
        data
            The tables.
        name
            Name of the scenario, from which its files are named.
        where
            Origin of the tables, for messages.
        folder
            Folder from which relative paths of files in the tables are taken; None to read no files.
        progress
            True to show a bar on standard error, if that is a terminal, while a large sweep is read.

        Returns
        -------
        Scenario
            The scenario.

        Raises
        ------
        InputError
            With all problems that were found: the key, the value, and what was expected.
        """
        return _only(_read_parts(data, name, where, {}, (), folder, progress), where)

    def recording(self, recorders: Sequence[Recorder]) -> Scenario:
        """Scenario that records, at every point, also what the given recorders do.

        If observables of two recorders share a name and differ in their formula, one of them gets another name.

        Parameters
        ----------
        recorders
            The recorders, such as one for each point of a sweep.

        Returns
        -------
        Scenario
            The scenario with all that is recorded in its runs and its data.
        """
        wanted = Recorder()
        for recorder in recorders:
            wanted = wanted.merge(_beside(wanted, recorder))
        if len({run.steps for run in self.runs}) > 1:  # a step of one point may be beyond the end of another
            wanted = Recorder(observables=tuple(one for one in wanted.observables if one.window is None))
            runs = tuple(replace(run, recorder=run.recorder.merge(wanted)) for run in self.runs)
            observables = runs[0].recorder.describe()["observables"]
            return replace(
                self, runs=runs, data={**self.data, "record": {**self.data["record"], "observables": observables}}
            )
        merged = self.runs[0].recorder.merge(wanted)
        same = all(run.recorder == merged for run in self.runs)
        runs = self.runs if same else tuple(replace(run, recorder=merged) for run in self.runs)
        return replace(self, runs=runs, data={**self.data, "record": merged.describe()})

    @property
    def toml(self) -> str:
        """The resolved scenario as TOML text, with which it can be run again."""
        return toml.dumps(self.data)

    @property
    def common_noise(self) -> bool:
        """True if all points of the sweep draw the same noise."""
        return bool(self.data["sweep"].get("common_noise", False))


def _read_parts(
    data: Mapping[str, Any],
    name: str,
    where: str,
    overrides: Mapping[str, Any],
    predictions: Sequence[str],
    folder: Path | None,
    progress: bool = False,
) -> list[Scenario]:
    """All parts of a scenario, from the data of a file or a call."""
    try:
        data, overrides, predictions = plain(data), plain(overrides), plain(predictions)
    except InputError as error:
        raise InputError(f"{where}:\n{listed([str(error)])}") from None
    problems = [f"{key}: {unknown_name('key', key, TOP)}" for key in data if key not in TOP]
    parts = attempt(problems, partial(parts_of, {key: data[key] for key in data if key in TOP})) or []
    settings = _for_every_part(overrides, [part for part, _ in parts], problems)
    found, notes = [], dict[str, list[str]]()
    for part, own in parts:
        scenario = _read_part(own, name, settings, predictions, folder, notes.setdefault(part, []), progress)
        found.append(replace(scenario, part=part) if scenario else None)
    problems += _of_parts(notes)
    if problems:
        raise InputError(f"{where}:\n{listed(problems)}")
    return [scenario for scenario in found if scenario]


def _for_every_part(overrides: Mapping[str, Any], parts: Sequence[str], problems: list[str]) -> dict[str, Any]:
    """The overrides, without those that name a part, which are added to the problems."""
    kept = {}
    for key, value in overrides.items():
        first, _, rest = key.partition(".")
        if first in parts and first not in TOP:
            problems.append(f"{key}: {first} is a part, but what is set holds for every part, expected {rest}")
        else:
            kept[key] = value
    return kept


def _of_parts(notes: Mapping[str, Sequence[str]]) -> list[str]:
    """The problems of all parts; a problem of every part is reported once."""
    if len(notes) < 2:
        return [f"part {part}: {problem}" if part else problem for part, own in notes.items() for problem in own]
    shared = [problem for problem in next(iter(notes.values())) if all(problem in own for own in notes.values())]
    rest = [f"part {part}: {one}" for part, own in notes.items() for one in own if one not in shared]
    return [*(f"every part: {problem}" for problem in shared), *rest]


def _only(parts: Sequence[Scenario], where: str) -> Scenario:
    if len(parts) > 1 or parts[0].part:
        raise InputError(f"{where}: has the parts {', '.join(one.part for one in parts)}, expected a scenario without")
    return parts[0]


def _read_part(
    data: dict[str, Any],
    name: str,
    overrides: Mapping[str, Any],
    predictions: Sequence[str],
    folder: Path | None,
    problems: list[str],
    progress: bool,
) -> Scenario | None:
    """The scenario from the data of a file or a part; None if there are problems."""
    for key, value in overrides.items():
        attempt(problems, partial(toml.set_key, data, key, value))
        _give_up(data, key, overrides)
    failed: list[str] = []
    if predictions and isinstance(data.setdefault("predict", []), list):
        # Files that overrides name are looked for in the working folder, not beside the scenario.
        added = {"predict": [claim(text) for text in predictions]}
        data["predict"] = [*data["predict"], *(attempt(failed, partial(inline_files, added, ".")) or added)["predict"]]
    sources = [] if folder is None else named_files(data, folder)
    if folder is not None:
        data = attempt(failed, partial(inline_files, data, folder)) or data
    problems += failed
    # A value that an unreadable file should have given is not read: a second error about it would say nothing new.
    left_out = {problem.partition(".")[0].partition("[")[0] for problem in failed}
    others = {key: value for key, value in data.items() if key not in TABLES}
    about = attempt(problems, partial(validated, About, others, KEYS))
    swept = attempt(problems, partial(read_sweep, data.get("sweep", {})))
    runs, tables = read_runs(data, swept or {}, problems, tuple(left_out), progress)
    claims = attempt(problems, partial(read_claims, [] if "predict" in left_out else data.get("predict", [])))
    if problems or about is None or claims is None:
        return None
    resolved = {
        **about.model_dump(),
        **{key: tables[key] for key in ("loss", "optimizer", "run", "record")},
        "sweep": data.get("sweep", {}),
        "predict": [table for table, _ in claims],
    }
    claimed = tuple(claim for _, claim in claims)
    return Scenario(name, resolved, tuple(runs), labels(swept or {}), claimed, sources=tuple(sources))


_INSTEAD = (("run", "steps", "time"), ("record", "every", "records"))
"""Tables with two keys of which only one may be given."""


def _give_up(data: Mapping[str, Any], key: str, overrides: Mapping[str, Any]) -> None:
    """Remove a key whose alternative is overridden, unless the key is overridden too."""
    for table, first, second in _INSTEAD:
        for one, other in ((first, second), (second, first)):
            held = data.get(table)
            if key == f"{table}.{one}" and f"{table}.{other}" not in overrides and isinstance(held, dict):
                held.pop(other, None)


def _folder(given: Any) -> Path | None:
    found = take.optional(take.path)(given, "folder")
    return None if found is None else Path(found)


def _overrides(given: Mapping[str, Any] | None) -> dict[str, Any]:
    """Overrides as a table by dotted key; empty for None."""
    return take.optional(take.by_name(take.anything))(given, "overrides") or {}


def shipped() -> dict[str, Path]:
    """The shipped scenarios by name.

    Examples
    --------
    >>> "river_valley" in shipped()
    True
    """
    folder = resources.files("sgdsim.scenarios")
    paths = [Path(str(entry)) for entry in folder.iterdir() if entry.name.endswith(".toml")]
    return {path.stem: path for path in sorted(paths)}


def _read(source: str | Path) -> tuple[Path, str]:
    path = Path(take.path(source, "source"))
    known = shipped()
    if not os.path.isfile(path) and str(source) in known:
        path = known[str(source)]
    if not os.path.exists(path):
        meant = unknown_name("shipped scenario", path.stem, known)
        is_name = not path.suffix or "did you mean" in meant  # for a missing file the list of all names would not help
        raise InputError(f"{source}: no such file" + (f" ({meant})" if is_name else ""))
    if os.path.isdir(path):
        raise InputError(f"{source}: is a folder, expected a scenario file")
    check_input(path)
    try:
        text = path.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise unreadable(source, error) from None
    except ValueError:
        raise InputError(f"{source}: is not a text file, expected a scenario in TOML") from None
    if not text.strip():
        raise InputError(f"{source}: is empty, expected a scenario in TOML")
    return path, text


def _beside(taken: Recorder, other: Recorder) -> Recorder:
    """The snapshots of another recorder and its observables that are not taken yet, under names that are free."""
    names = {observable.name for observable in taken.observables}
    meanings = {(observable.formula, observable.window) for observable in taken.observables}
    new = [observable for observable in other.observables if (observable.formula, observable.window) not in meanings]
    return Recorder(
        snapshots=other.snapshots,
        observables=tuple(replace(observable, name=_free(observable.name, names)) for observable in new),
    )


def _free(name: str, taken: set[str]) -> str:
    numbered = (f"{name}_{number}" for number in itertools.count(2))
    return next(candidate for candidate in itertools.chain([name], numbered) if candidate not in taken)
