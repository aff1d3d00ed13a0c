"""The folder ``FILE.unfinished`` beside an output while it is computed; one process holds it.

It has the checkpoints of the run, see `checkpoints`, and a log; or the finished shards of a run that other processes
compute. When the file is written the folder is removed. After a run was killed or interrupted it stays, with all that
is needed to continue.
"""

from __future__ import annotations

import os
import secrets
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sgdsim.base import pieces, toml
from sgdsim.base.errors import InputError, RunError, shortened
from sgdsim.base.files import PathLike
from sgdsim.base.hold import held, holder
from sgdsim.base.version import __version__
from sgdsim.ensemble import Ensemble, open_parts
from sgdsim.model.run import Run
from sgdsim.simulation import kept_states
from sgdsim.simulation.checkpoints import Checkpoints
from sgdsim.simulation.kept_states import Extension, Kept

_SCHEMA = 2
_LOCK = "lock"
_CUT = "cut"
"""Name of the file with the number of shards of a run, which is written before the shards."""

_LEFT = "*.state", "*.done", "log.jsonl", "*.shard", "*.part", _CUT
"""Files that a run may leave, in the order of removal: without the first two all others are ignored."""
_MOST_SHOWN = 5  # differing keys of two scenarios that a message shows


@dataclass(frozen=True)
class Description:
    """Description of a computation, by which it is recognised and continued.

    Parameters
    ----------
    scenarios
        Part, name and resolved TOML of each part.
    overwrite
        True if the output may replace another file.
    device
        Device on which it is computed.
    id
        Unique id of this run; its file has it as ``run_id``.
    shard
        Shard of the run that is computed here, as ``3/64``; empty for the whole run.
    keeps
        True if states are kept, so that the run can be made longer or larger.
    extends
        The id of the run that this one makes longer or larger; empty for none.
    version, schema
        Versions of the package and of the format of the folder.
    """

    scenarios: tuple[tuple[str, str, str], ...]
    overwrite: bool
    device: str
    id: str
    shard: str = ""
    keeps: bool = False
    extends: str = ""
    version: str = __version__
    schema: int = _SCHEMA

    @classmethod
    def new(
        cls,
        scenarios: Sequence[tuple[str, str, str]],
        overwrite: bool,
        device: str,
        shard: str = "",
        keeps: bool = False,
    ) -> Description:
        """Description of a new run, with an id of its own."""
        return cls(tuple(scenarios), overwrite, device, secrets.token_hex(16), shard, keeps)

    @classmethod
    def read(cls, table: Mapping[str, Any], where: PathLike) -> Description:
        """Description from a checkpoint.

        Raises
        ------
        InputError
            For another version of the package or of the format.
        """
        if (table.get("schema"), table.get("version")) != (_SCHEMA, __version__):
            was = f"by sgdsim {table.get('version')}, format {table.get('schema')}"
            raise InputError(f"{where}: was begun {was}, and this is {__version__}, format {_SCHEMA}")
        scenarios = tuple((part, name, text) for part, name, text in table["scenarios"])
        device, id, shard, extends = (str(table[key]) for key in ("device", "id", "shard", "extends"))
        return cls(scenarios, bool(table["overwrite"]), device, id, shard, bool(table["keeps"]), extends)


def folder_of(output: PathLike) -> Path:
    """Folder of an unfinished run, beside its output.

    Examples
    --------
    >>> str(folder_of("results/valley.h5"))
    'results/valley.h5.unfinished'
    """
    target = Path(os.path.realpath(output)) if os.path.islink(output) else Path(output)
    return target.with_name(f"{target.name}.unfinished")


def is_held(output: PathLike) -> str:
    """Process that computes an output, in words; empty if none does."""
    return holder(folder_of(output) / _LOCK)


class Unfinished:
    """A run that is going to write a file, new or continued.

    Parameters
    ----------
    output
        Path of the file.
    described
        Description of the computation.
    checkpoints
        Checkpoints in the folder.
    """

    def __init__(self, output: PathLike, described: Description, checkpoints: Checkpoints) -> None:
        self.output, self.described, self.checkpoints = output, described, checkpoints

    @property
    def shards(self) -> int:
        """Number of shards into which the run is divided; 0 if it is not."""
        about = _read_cut(self.checkpoints.folder)
        return int(about["of"]) if about else 0

    def cut(self, of: int) -> None:
        """Divide the run into shards, which other processes compute; see `Shard`.

        Raises
        ------
        InputError
            If the run was begun in one piece.
        """
        folder = self.checkpoints.folder
        if self.checkpoints.are_there:
            raise InputError(f"{folder}: was begun on this machine alone: go on without --dask, or begin anew")
        pieces.write(folder / _CUT, {"run": vars(self.described), "of": of}, {})

    def _keep_what_is_left(self) -> None:
        """Keep the states of a run that was killed after its file was written."""
        kept = Kept.beside(self.output)
        if kept is None or kept.run["id"] != self.described.id:
            self.keep()

    def sign(self, ensemble: Ensemble) -> None:
        """Write the id of the run into an ensemble, so that a run that is killed later recognises its file."""
        if _is_begun(self.checkpoints) or self.described.keeps:
            ensemble.attributes["run_id"] = self.described.id

    def extend(self, kept: Kept, was: Sequence[Sequence[Run]], now: Sequence[Sequence[Run]]) -> None:
        """Continue from the state of a shorter or smaller run; ``was`` and ``now`` have the runs of each part."""
        still_counts = any(new[0].steps == old[0].steps for old, new in zip(was, now, strict=True))
        self.checkpoints.extension = Extension(kept, was, still_counts)

    def keep(self) -> None:
        """Keep the states of the run, now that its file is written; or remove those of an earlier run."""
        checkpoints, extension = self.checkpoints, self.checkpoints.extension
        if not self.described.keeps:
            kept_states.remove(self.output)
            return
        before = extension.kept if extension is not None and extension.still_counts else None
        try:
            if not checkpoints.is_written:
                raise RunError("the disk may be full")
            kept_states.keep(self.output, checkpoints.done_pieces(), vars(self.described), checkpoints.elapsed, before)
        except (OSError, RunError) as error:
            kept_states.remove(self.output)
            said = f"{self.output}: its states are not kept, since they could not be written: {error}"
            warnings.warn(said, RuntimeWarning, stacklevel=2)

    def finished(self) -> dict[str, Ensemble] | None:
        """Ensembles in the output, if this run has written them or would write the same; else None."""
        if not os.path.isfile(self.output):
            return None
        parts = open_parts(self.output)
        if _is_begun(self.checkpoints):
            if run_ids(self.output) != {self.described.id}:
                return None
            self._keep_what_is_left()
            return parts
        if self.described.overwrite:
            return None
        for (part, _, text), (name, ensemble) in zip(self.described.scenarios, parts.items(), strict=False):
            refuse_another(str(self.output), str(ensemble.attributes.get("scenario", "")), text)
            if part != name:
                raise InputError(f"{self.output}: holds another scenario: the part {name}, not {part}")
        return parts


@contextmanager
def unfinished(
    output: PathLike,
    described: Description,
    *,
    total: int,
    every: float | None = None,
    resume: bool = False,
) -> Iterator[Unfinished]:
    """Hold the output of a run during the block, with a folder for its checkpoints, which is removed at the end.

    Parameters
    ----------
    output
        Path of the file that the block writes.
    described
        Description of the computation.
    total
        Number of trajectory-steps.
    every
        Seconds between two checkpoints; see `Checkpoints`.
    resume
        True to continue from existing checkpoints.

    Raises
    ------
    InputError
        If another process holds the output; if there are checkpoints of another run, or, without `resume`, any.
    """
    folder = folder_of(output)
    try:
        folder.mkdir(exist_ok=True)
    except OSError as error:
        raise InputError(f"{folder}: cannot make this folder: {error.strerror}") from None
    try:
        with held(folder / _LOCK, str(output)):
            checkpoints = Checkpoints(folder, total, every)
            with _kept(output, checkpoints):
                found = description(checkpoints)
                if found is not None:
                    described = _agreed(output, found, described, resume)
                if found is None or not resume:
                    _clear(folder)
                    checkpoints.begin_anew()
                checkpoints.about = {"run": vars(described)}
                checkpoints.keeps = described.keeps
                yield Unfinished(output, described, checkpoints)
            _clear(folder)
    finally:
        with suppress(OSError):
            folder.rmdir()


@contextmanager
def _kept(output: PathLike, checkpoints: Checkpoints) -> Iterator[None]:
    """Keep the folder if the block fails and there is something to continue from, and say so in the error."""
    try:
        yield
    except InputError:
        raise
    except BaseException as error:
        if _is_begun(checkpoints):
            error.add_note(f"What is done is kept: sgdsim resume {output} goes on from there.")
        raise
    finally:
        if not _is_begun(checkpoints):
            _clear(checkpoints.folder)


def description_beside(output: PathLike) -> Description | None:
    """Description of the run whose checkpoints are beside an output; None if there are none."""
    folder = folder_of(output)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # damaged pieces are reported when they are used
        return description(Checkpoints(folder, 1)) if folder.is_dir() else None


def description(checkpoints: Checkpoints) -> Description | None:
    """Description of the run of checkpoints or shards; None if none is undamaged.

    Raises
    ------
    InputError
        For another version of the package or of the format.
    """
    newest = next(checkpoints.states(), None)
    about = _read_cut(checkpoints.folder) if newest is None else newest.heading
    return None if about is None else Description.read(about["run"], checkpoints.folder)


def cut(folder: Path) -> tuple[Description, int] | None:
    """Description of the run whose shards are in a folder, and their number; None if there are none."""
    about = _read_cut(folder)
    return None if about is None else (Description.read(about["run"], folder), int(about["of"]))


def is_of(folder: Path, described: Description) -> bool:
    """True if a folder belongs to this run in shards, and is not another folder of the same name on another disk."""
    try:
        about = _read_cut(folder)
    except InputError:
        return False
    return about is not None and about["run"]["id"] == described.id


def _is_begun(checkpoints: Checkpoints) -> bool:
    """True if there is something from which a run can continue."""
    return checkpoints.are_there or (checkpoints.folder / _CUT).exists()


def _read_cut(folder: Path) -> dict[str, Any] | None:
    """Stored description of the run whose shards are in a folder, and their number; None if there are none."""
    try:
        return pieces.read(folder / _CUT)[0] if (folder / _CUT).exists() else None
    except pieces.DamagedError as error:
        warnings.warn(f"{error}; the run begins anew", RuntimeWarning, stacklevel=2)
        return None


def _agreed(output: PathLike, found: Description, described: Description, resume: bool) -> Description:
    """Description of the existing run, if it is the wanted one."""
    folder = folder_of(output)
    if not resume and described.overwrite:
        return described
    if not resume:
        raise InputError(f"{folder}: a run is not finished: --resume goes on with it, and --overwrite begins anew")
    if described.keeps and not found.keeps:
        raise InputError(f"{folder}: was begun without --keep-state: go on without, or --overwrite begins anew")
    if [one[0] for one in found.scenarios] != [one[0] for one in described.scenarios]:
        raise InputError(f"{folder}: holds another scenario, with other parts")
    for (part, _, was), (_, _, now) in zip(found.scenarios, described.scenarios, strict=True):
        refuse_another(f"{folder}{f', part {part}' if part else ''}", was, now)
    may_replace = found.shard or found.overwrite or described.overwrite
    if os.path.exists(output) and not may_replace and run_ids(output) != {found.id}:
        raise InputError(f"{output}: the file exists, and --overwrite replaces it")
    return found


def run_ids(output: PathLike) -> set[Any]:
    """Ids of the runs in a file."""
    return {ensemble.attributes.get("run_id") for ensemble in open_parts(output).values()}


def refuse_another(where: str, was: str, now: str, here_is: str = "here", may_differ: Sequence[str] = ()) -> None:
    """Refuse a scenario that differs from the wanted one.

    Parameters
    ----------
    where
        Path of the existing scenario.
    was, now
        The existing scenario, and the wanted one.
    here_is
        Name of the wanted scenario in messages.
    may_differ
        Keys in which they may differ.

    Raises
    ------
    InputError
        With the keys that differ.
    """
    if was == now:
        return
    here_is = here_is if here_is == "here" else f"in {here_is}"
    there, here = _flat(toml.loads(was, where)), _flat(toml.loads(now, "the scenario"))
    if not (keys := [key for key in _differing(there, here) if key not in may_differ]):
        return
    said = [f"{key} is {_shown(there, key)} there and {_shown(here, key)} {here_is}" for key in keys[:_MOST_SHOWN]]
    more = f", and {len(keys) - _MOST_SHOWN} more" if len(keys) > _MOST_SHOWN else ""
    raise InputError(f"{where}: holds another scenario: {', '.join(said)}{more}")


def _differing(there: Mapping[str, Any], here: Mapping[str, Any]) -> list[str]:
    return [key for key in (*there, *(key for key in here if key not in there)) if there.get(key) != here.get(key)]


def _flat(table: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, value in table.items():
        if isinstance(value, Mapping):
            found |= _flat(value, f"{prefix}{key}.")
        else:
            found[f"{prefix}{key}"] = value
    return found


def _shown(table: Mapping[str, Any], key: str) -> str:
    return shortened(repr(table[key]), 60) if key in table else "missing"


def _clear(folder: Path) -> None:
    """Remove the files of a run from its folder, and from the folders of its shards."""
    for inner in folder.glob("*.shard.unfinished"):
        _clear(inner)
        with suppress(OSError):
            (inner / _LOCK).unlink(missing_ok=True)
            inner.rmdir()
    for pattern in _LEFT:
        for path in folder.glob(pattern):
            with suppress(OSError):
                path.unlink()
