"""Scenarios: TOML files that say what to simulate, how to measure it, and what to hold it against."""

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
    claims
        The laws and the user's own predictions that it is held against, in order.
    part
        Of a file with parts, the name of this one.
    sources
        The files that it was read from.

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
        """Read a file, or a shipped scenario by its bare name.

        Parameters
        ----------
        source
            A path or a name.
        overrides
            Values by dotted key, e.g. ``{"run.steps": 5000}``.
        predictions
            Further predictions: the ids of laws, and formulas of the user's own.

        Raises
        ------
        InputError
            With every problem found: key, value, what was expected.
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
        """Read all parts of a file, each a scenario of its own; one without ``[[part]]`` is the only one.

        Tables of a part take the place of the file's, but ``run`` and ``record``, whose keys are added to those.
        Overrides and further predictions hold for every part. With progress, the reading of a large sweep is shown.

        Raises
        ------
        InputError
            As `load`.

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
        """Read TOML text; see `load`. Files that it names are looked for in the folder, and not at all without one."""
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
        """Read TOML text; see `load_parts`, and `parse` for the folder."""
        data, name = toml.loads(take.text(text, "text"), where), take.text(name, "name")
        overrides, predictions = _overrides(overrides), take.each(take.text)(predictions, "predictions")
        return _read_parts(data, name, where, overrides, predictions, _folder(folder))

    @classmethod
    def of(
        cls, data: Mapping[str, Any], name: str, where: str, folder: Path | None = None, progress: bool = False
    ) -> Scenario:
        """Read data such as a file holds; see `parse` for the folder, and `load_parts` for progress."""
        return _only(_read_parts(data, name, where, {}, (), folder, progress), where)

    def recording(self, recorders: Sequence[Recorder]) -> Scenario:
        """The same scenario with all that the given recorders ask for, one a point, recorded at every point.

        An observable whose name has another formula at another point gets a name of its own.
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
        """The resolved scenario as text, enough to run it again."""
        return toml.dumps(self.data)

    @property
    def common_noise(self) -> bool:
        """Whether all sweep points draw the same noise."""
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
"""Tables with two keys of which one stands in place of the other."""


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
