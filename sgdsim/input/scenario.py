"""Scenarios: TOML files that say what to simulate, how to measure it, and what to hold it against."""

from __future__ import annotations

import copy
import itertools
import os
import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from importlib import resources
from pathlib import Path
from typing import Any

from sgdsim.base import toml
from sgdsim.base.errors import InputError, unknown_name
from sgdsim.base.files import check_input, unreadable
from sgdsim.input.builders import Claim, build_claims
from sgdsim.input.numeric_files import inline_files
from sgdsim.input.parts import parts_of
from sgdsim.input.problems import attempt, attempt_all, listed, shown
from sgdsim.input.schema import TABLES, Sections, build_run, read_sections
from sgdsim.model.recorder import Recorder
from sgdsim.model.run import Run

_TOP = (*TABLES, "part")


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
    part
        Of a file with parts, the name of this one.

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
    part: str = ""

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
            Further predictions of the user, as the ``formula`` of a ``[[predict]]`` entry.

        Raises
        ------
        InputError
            With every problem found: key, value, what was expected.
        """
        return _only(cls.load_parts(source, overrides, predictions), str(source))

    @classmethod
    def load_parts(
        cls, source: str | Path, overrides: Mapping[str, Any] | None = None, predictions: Sequence[str] = ()
    ) -> list[Scenario]:
        """Read all parts of a file, each a scenario of its own; one without ``[[part]]`` is the only one.

        Tables of a part take the place of the file's, but ``run`` and ``record``, whose keys are added to those.
        Overrides and further predictions hold for every part.

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
        return cls.parse_parts(text, path.stem, str(source), overrides, predictions, path.parent)

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
        data = _normal(toml.loads(text, where))
        problems = [f"{key}: {unknown_name('key', key, _TOP)}" for key in data if key not in _TOP]
        parts = attempt(problems, partial(parts_of, {key: data[key] for key in data if key in _TOP})) or []
        settings = _for_every_part(overrides or {}, [part for part, _ in parts], problems)
        found, notes = [], dict[str, list[str]]()
        for part, own in parts:
            scenario = _parsed(own, name, settings, predictions, folder, notes.setdefault(part, []))
            found.append(replace(scenario, part=part) if scenario else None)
        problems += _of_parts(notes)
        if problems:
            raise InputError(f"{where}:\n{listed(problems)}")
        return [scenario for scenario in found if scenario]

    def recording(self, recorders: Sequence[Recorder]) -> Scenario:
        """The same scenario with all that the given recorders ask for, one a point, recorded at every point.

        An observable whose name has another formula at another point gets a name of its own.
        """
        wanted = Recorder()
        for recorder in recorders:
            wanted = wanted.merge(_beside(wanted, recorder))
        runs = tuple(replace(run, recorder=run.recorder.merge(wanted)) for run in self.runs)
        return replace(self, runs=runs, data={**self.data, "record": runs[0].recorder.describe()})

    @property
    def claims(self) -> list[Claim]:
        """The laws and the user's own predictions that it is held against, in order."""
        return build_claims(self.data["predict"])

    @property
    def toml(self) -> str:
        """The resolved scenario as text, enough to run it again."""
        return toml.dumps(self.data)

    @property
    def common_noise(self) -> bool:
        """Whether all sweep points draw the same noise."""
        return bool(self.data["sweep"].get("common_noise", False))


def _for_every_part(overrides: Mapping[str, Any], parts: Sequence[str], problems: list[str]) -> dict[str, Any]:
    """The overrides but those that name a part, which are problems."""
    kept = {}
    for key, value in overrides.items():
        first, _, rest = key.partition(".")
        if first in parts and first not in _TOP:
            problems.append(f"{key}: {first} is a part, but what is set holds for every part, expected {rest}")
        else:
            kept[key] = value
    return kept


def _of_parts(notes: Mapping[str, Sequence[str]]) -> list[str]:
    """The problems of all parts: what is wrong with every one is said once."""
    if len(notes) < 2:
        return [f"part {part}: {problem}" if part else problem for part, own in notes.items() for problem in own]
    shared = [problem for problem in next(iter(notes.values())) if all(problem in own for own in notes.values())]
    rest = [f"part {part}: {one}" for part, own in notes.items() for one in own if one not in shared]
    return [*(f"every part: {problem}" for problem in shared), *rest]


def _only(parts: Sequence[Scenario], where: str) -> Scenario:
    if len(parts) > 1 or parts[0].part:
        raise InputError(f"{where}: has the parts {', '.join(one.part for one in parts)}, expected a scenario without")
    return parts[0]


def _parsed(
    data: dict[str, Any],
    name: str,
    overrides: Mapping[str, Any],
    predictions: Sequence[str],
    folder: Path | None,
    problems: list[str],
) -> Scenario | None:
    """The scenario of a file's, or a part's, data; None where there are problems."""
    for key, value in overrides.items():
        attempt(problems, partial(toml.set_key, data, key, value))
    if predictions and isinstance(data.setdefault("predict", []), list):
        # Their files are looked for where the user is, not beside the scenario.
        added = {"predict": [{"formula": formula} for formula in predictions]}
        data["predict"] += (attempt(problems, partial(inline_files, added, ".")) or added)["predict"]
    attempt(problems, partial(_check_text, data))
    if folder is not None:
        data = attempt(problems, partial(inline_files, data, folder)) or data
    data = _normal(data)
    swept = attempt(problems, partial(_sweep, data.get("sweep", {})))
    points = _build_points(data, swept or {}, problems)
    if problems or swept is None:
        return None
    resolved = points[0][0].model_dump(exclude_none=True, by_alias=True)
    return Scenario(name, resolved, tuple(run for _, run in points), _labels(swept))


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
    path = Path(source)
    known = shipped()
    if not os.path.isfile(path) and str(source) in known:
        path = known[str(source)]
    if not os.path.exists(path):
        raise InputError(f"{source}: no such file ({unknown_name('shipped scenario', path.stem, known)})")
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


def _check_text(data: Mapping[str, Any]) -> None:
    """Arguments of the command line may hold bytes that are no text."""
    try:
        toml.dumps(data).encode()
    except UnicodeEncodeError as error:
        raise InputError(f"{error.object[error.start : error.end]!r} is no text in UTF-8") from None


def _normal(data: Any) -> Any:
    """Keys as formulas see names, which take letters of the same meaning for one, such as the two signs for mu."""
    if isinstance(data, Mapping):
        return {unicodedata.normalize("NFKC", key): _normal(value) for key, value in data.items()}
    return [_normal(value) for value in data] if isinstance(data, list) else data


def _sweep(section: Any) -> dict[str, tuple[Any, ...]]:
    """The values of every swept key, one a point: lists are paired, those of the grid multiplied out."""
    if not isinstance(section, Mapping):
        return {}  # reported with the types of the other sections
    grid_section, common_noise = section.get("grid", {}), section.get("common_noise", False)
    if not isinstance(grid_section, Mapping):
        raise InputError(f"sweep.grid: {shown(grid_section)}, expected a table of lists")
    if not isinstance(common_noise, bool):
        raise InputError(f"sweep.common_noise: {shown(common_noise)}, expected true or false")
    paired = dict(_flat({key: value for key, value in section.items() if key not in ("grid", "common_noise")}))
    grid = dict(_flat(grid_section))
    attempt_all(partial(_check_swept, key, value) for key, value in [*paired.items(), *grid.items()])
    for key in paired.keys() & grid.keys():
        raise InputError(f"sweep.grid.{key}: is swept already, outside the grid")
    lengths = {key: len(value) for key, value in paired.items()}
    if len(set(lengths.values())) > 1:
        listed = ", ".join(f"{key} has {length}" for key, length in lengths.items())
        raise InputError(f"sweep: {listed} values, expected equally many; [sweep.grid] makes the product of lists")
    axes = [[dict(zip(paired, values, strict=True)) for values in zip(*paired.values(), strict=True)]] if paired else []
    axes += [[{key: value} for value in values] for key, values in grid.items()]
    points = [{k: v for part in parts for k, v in part.items()} for parts in itertools.product(*axes)]
    return {key: tuple(point[key] for point in points) for key in (*paired, *grid)}


def _flat(table: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Dotted keys, whether the dots stand in quotes or make tables."""
    for key, value in table.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{key}.")
        else:
            yield prefix + key, value


def _check_swept(key: str, values: Any) -> None:
    where, sections = f"sweep.{key}", ("loss", "optimizer", "run")
    section = toml.split_key(key)[0]
    if section not in sections:
        raise InputError(f"{where}: {unknown_name('section to sweep', section, sections)}")
    if not isinstance(values, list) or not values:
        raise InputError(f"{where}: {shown(values)}, expected a list of values")
    for value in values:
        if isinstance(value, bool) or not isinstance(value, str | int | float):
            raise InputError(f"{where}: {shown(value)} in the list, expected numbers or texts")


def _labels(swept: Mapping[str, tuple[Any, ...]]) -> dict[str, tuple[Any, ...]]:
    """Numbers where all are numbers, else text: the coordinates of a file have one type."""
    return {
        key: tuple(map(str, values)) if any(isinstance(value, str) for value in values) else values
        for key, values in swept.items()
    }


def _build_points(
    data: Mapping[str, Any], swept: Mapping[str, tuple[Any, ...]], problems: list[str]
) -> list[tuple[Sections, Run]]:
    """Sections and run of every point; problems of all points are noted once, others with their point."""
    count = len(next(iter(swept.values()))) if swept else 1
    built, notes = [], {}
    for point in range(count):
        values = {key: choices[point] for key, choices in swept.items()}
        own: list[str] = []
        sections = attempt(own, partial(_sections, data, values))
        run = None if sections is None else attempt(own, partial(build_run, sections))
        if sections is not None and run is not None:
            built.append((sections, run))
        notes[f"sweep point {point} ({', '.join(f'{key} = {shown(value)}' for key, value in values.items())})"] = own
    shared = [problem for problem in next(iter(notes.values())) if all(problem in own for own in notes.values())]
    problems += shared
    problems += [f"{point}: {problem}" for point, own in notes.items() for problem in own if problem not in shared]
    attempt(problems, partial(_check_shapes, [run for _, run in built]))
    return built


def _sections(data: Mapping[str, Any], values: Mapping[str, Any]) -> Sections:
    point = copy.deepcopy(dict(data))
    for key, value in values.items():
        toml.set_key(point, key, value)
    return read_sections(point)


def _check_shapes(runs: Sequence[Run]) -> None:
    """All points of a sweep stand in the same arrays."""
    for key in ("trajectories", "steps", "dtype", "noise_dtype", "measured"):
        if len({getattr(run, key) for run in runs}) > 1:
            what = "the parameters" if key == "measured" else f"run.{key}"
            raise InputError(f"sweep: the points differ in {what}; make a scenario of each")


def _beside(taken: Recorder, other: Recorder) -> Recorder:
    """What is not taken yet, under names that are free."""
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
