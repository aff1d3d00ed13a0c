"""Functions that simulate a scenario and write its file, as the commands do."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from sgdsim.app import dask_workers
from sgdsim.app.extending import changed, extending, go_on, not_kept
from sgdsim.app.kept_predictions import Told, told_before, with_predictions
from sgdsim.app.run_warnings import check_runs
from sgdsim.base import take
from sgdsim.base.errors import InputError
from sgdsim.base.files import check_output
from sgdsim.base.memory import memory_limit as limit_of_memory
from sgdsim.ensemble import Ensemble, open_parts, save_parts
from sgdsim.input.scenario import Scenario
from sgdsim.simulation.checkpoints import seconds_between
from sgdsim.simulation.kept_states import Kept
from sgdsim.simulation.memory_needs import kept_bytes, limits_of_parts, output_bytes
from sgdsim.simulation.part_checkpoints import Part
from sgdsim.simulation.run_loop import simulate_runs, thread_count, work
from sgdsim.simulation.unfinished import Description, description_beside, unfinished


def run_scenario(
    scenario: Scenario,
    path: str | Path | None = None,
    *,
    threads: int | None = None,
    device: str = "cpu",
    overwrite: bool = False,
    progress: bool = False,
    resume: bool = False,
    checkpoint_every: float | str | None = None,
    client: Any = None,
    memory_limit: float | str | None = None,
    keep_state: bool = False,
) -> Ensemble:
    """Simulate a scenario and write its file.

    Parameters
    ----------
    scenario
        The scenario, from `load_scenario`.
    path
        HDF5 file to write; by default ``results/<name>.h5``. A missing folder ``results`` is created.
    threads
        Number of threads; by default as many as the process may use.
    device
        ``cpu``; ``cuda``, or ``cuda:1`` for the second GPU; ``auto`` for the one that should finish first; or
        ``python``, which runs the kernels without compiling them.
    overwrite
        True if an existing file may be replaced.
    progress
        True to show a progress bar.
    resume
        True to continue from the checkpoints of an interrupted run; the file of a finished run is read.
    checkpoint_every
        Seconds between two checkpoints, also as ``"5m"``, or ``"never"``; by default a minute. A longer run also saves
        one when it is interrupted.
    client
        A `dask.distributed.Client`, on whose workers the run is computed, with bit-identical results.
    memory_limit
        Bytes that results may take, also as ``"4GB"``; by default 80 % of the free memory. Snapshots that do not fit
        are kept on the disk until the file is written.
    keep_state
        True to keep the state of every trajectory beside the file. With `resume`, a scenario with more steps or more
        trajectories continues from there; the result is bit-identical to a single run.

    Returns
    -------
    Ensemble
        The ensemble that was written.

    Raises
    ------
    InputError
        For an output that cannot be written or does not fit, before the run starts; for checkpoints of another run;
        for workers that would compute something else.

    Warns
    -----
    RuntimeWarning
        When the learning rate is too large for the curvature of the start.

    Examples
    --------
    >>> from tempfile import TemporaryDirectory
    >>> from sgdsim.app.verdicts import compare_file
    >>> from sgdsim.input.loading import load_scenario
    >>> scenario = load_scenario("river_valley", {"run.trajectories": 1000, "run.steps": 20})
    >>> with TemporaryDirectory() as folder:
    ...     ensemble = run_scenario(scenario, f"{folder}/run.h5", device="python")
    ...     compare_file(f"{folder}/run.h5").disagrees
    False
    """
    options: dict[str, Any] = {"threads": threads, "device": device, "progress": progress}
    options |= {"overwrite": overwrite, "resume": resume, "checkpoint_every": checkpoint_every, "client": client}
    options |= {"memory_limit": memory_limit, "keep_state": keep_state}
    return run_parts([scenario], path, **options)[0]


def run_parts(
    scenarios: Sequence[Scenario],
    path: str | Path | None = None,
    *,
    threads: int | None = None,
    device: str = "cpu",
    overwrite: bool = False,
    progress: bool = False,
    resume: bool = False,
    checkpoint_every: float | str | None = None,
    client: Any = None,
    memory_limit: float | str | None = None,
    keep_state: bool = False,
    keep_predictions: bool = False,
    must_apply: Collection[str] = (),
) -> list[Ensemble]:
    """Simulate all parts of a scenario, and write one file with a group for each.

    Parameters
    ----------
    scenarios
        Scenarios of all parts, from `load_parts`.
    path, threads, device, overwrite, progress, resume, checkpoint_every, client, memory_limit, keep_state
        See `run_scenario`.
    keep_predictions
        True to compute the predictions of theory before the run and to keep them in the file, so that comparisons and
        figures need not compute them.
    must_apply
        Ids of laws and claims. With `keep_predictions`, one that applies to no run is refused before anything runs,
        unless a run is resumed.

    Returns
    -------
    list of Ensemble
        An ensemble for each part.

    Raises
    ------
    InputError
        For an output or checkpoints that `run_scenario` refuses, and for a law that must apply and does not.
    """
    kind = take.of_kind(Scenario, "a Scenario, such as load_scenario('river_valley')")
    scenarios = take.each(kind)(scenarios, "scenario")
    overwrite, progress = take.flag(overwrite, "overwrite"), take.flag(progress, "progress")
    resume, keep_state = take.flag(resume, "resume"), take.flag(keep_state, "keep_state")
    keep_predictions = take.flag(keep_predictions, "keep_predictions")
    _check_resources(threads, memory_limit)
    given = default_output(scenarios[0]) if path is None else take.path(path, "path")
    output = Path(given)
    with _default_folder(output) if output.parent == Path("results") else nullcontext():
        check_output(given, overwrite or resume, [source for one in scenarios for source in _read_for(one)])
        kept = sum(kept_bytes(one.runs) for one in scenarios) if keep_state else 0
        _check_disk(output, kept + sum(output_bytes(one.runs) for one in scenarios))
        for one in scenarios:
            check_runs(one.runs)
        texts = [(one.part, one.name, one.toml) for one in scenarios]
        described = Description.new(texts, overwrite, device, keeps=keep_state)
        options: dict[str, Any] = {"threads": threads, "device": device, "progress": progress}
        every = seconds_between(checkpoint_every)
        ids = () if resume else take.each(take.text)(must_apply, "must_apply")
        told = partial(told_before, scenarios, ids, quiet=not progress) if keep_predictions else None
        return _written(scenarios, output, described, resume, every, options, client, memory_limit, told)


def resume_file(
    path: str | Path,
    *,
    steps: int | None = None,
    trajectories: int | None = None,
    threads: int | None = None,
    progress: bool = False,
    checkpoint_every: float | str | None = None,
    client: Any = None,
    memory_limit: float | str | None = None,
    keep_predictions: bool = False,
) -> list[Ensemble]:
    """Continue a run that was killed or interrupted, from the checkpoints beside its output.

    A finished run whose states were kept can be made longer or larger.

    Parameters
    ----------
    path
        Path of the file that the run was going to write.
    steps, trajectories
        New number of steps or trajectories, not smaller than before.
    threads, progress, checkpoint_every, client, memory_limit
        See `run_scenario`.
    keep_predictions
        See `run_parts`.

    Returns
    -------
    list of Ensemble
        An ensemble for each part; those in the file if the run is finished.

    Raises
    ------
    InputError
        If there is nothing to continue from; and for settings that depend on the number of steps or of trajectories.
    """
    path = Path(take.path(path, "path"))
    _check_resources(threads, memory_limit)
    given = {"run.steps": steps, "run.trajectories": trajectories}
    overrides = {key: take.whole(number, key) for key, number in given.items() if number is not None}
    described = description_beside(path)
    if described is None and not path.is_file():
        raise InputError(f"{path}: there is nothing to resume, neither the file nor checkpoints beside it")
    if overrides:
        described = _changed(path, described, overrides)
    if described is None:
        return list(open_parts(path).values())
    scenarios = [
        replace(Scenario.parse(text, name, where=f"the scenario of {path}"), part=part)
        for part, name, text in described.scenarios
    ]
    options: dict[str, Any] = {
        "threads": threads,
        "device": described.device,
        "progress": take.flag(progress, "progress"),
    }
    every = seconds_between(checkpoint_every)
    told = partial(told_before, scenarios, quiet=not progress) if keep_predictions else None
    return _written(scenarios, path, described, True, every, options, client, memory_limit, told)


def _check_resources(threads: int | None, memory_limit: float | str | None) -> None:
    """Refuse numbers that cannot be used, also where nothing is left to compute."""
    thread_count(threads)
    limit_of_memory(memory_limit)


def _changed(path: Path, described: Description | None, overrides: Mapping[str, int]) -> Description:
    """Description of the unfinished run at a path, or else of the kept one, with other numbers."""
    if described is None:
        if (kept := Kept.beside(path)) is None:
            raise not_kept(path)
        was = Description.read(kept.run, kept.folder)
        described = Description.new(was.scenarios, False, was.device)
    return changed(described, overrides, path)


def _written(
    scenarios: Sequence[Scenario],
    output: Path,
    described: Description,
    resume: bool,
    every: float | None,
    options: Mapping[str, Any],
    client: Any = None,
    memory_limit: float | str | None = None,
    told: Callable[[], list[list[Told | None]]] | None = None,
) -> list[Ensemble]:
    """Compute predictions, simulate the run with checkpoints on the way, and write its file."""
    total = sum(work(one.runs) for one in scenarios)
    client = None if client is None else dask_workers.checked(client)
    runs = [one.runs for one in scenarios]
    described = extending(output, described, runs) if resume else described
    with unfinished(output, described, total=total, every=every, resume=resume) as run:
        go_on(run, runs, client)
        if resume and (found := run.finished()) is not None:
            return list(found.values())
        answers = None if told is None else told()
        if client is not None or run.shards:
            how = {"threads": options["threads"], "progress": options["progress"], "every": every}
            ensembles = dask_workers.run_with(client, scenarios, run, **how, memory_limit=memory_limit)
        else:
            limits = limits_of_parts([one.runs for one in scenarios], run.checkpoints.folder, memory_limit)
            ensembles = [
                simulate_scenario(
                    one, text, checkpoints=Part(run.checkpoints, index), memory_limit=limits[index], **options
                )
                for index, (one, (_, _, text)) in enumerate(zip(scenarios, run.described.scenarios, strict=True))
            ]
        for ensemble in ensembles:
            run.sign(ensemble)
        if answers is not None:
            ensembles = list(map(with_predictions, ensembles, scenarios, answers))
        parts = {one.part: made for one, made in zip(scenarios, ensembles, strict=True)}
        save_parts(parts, output, overwrite=run.described.overwrite or described.overwrite)
        run.keep()
    return ensembles


def _read_for(scenario: Scenario) -> Iterator[Path]:
    """Files from which a scenario was read, and files with its starts."""
    yield from scenario.sources
    if start := scenario.data["run"].get("from"):
        yield Path(start["file"])


def simulate_scenario(scenario: Scenario, text: str | None = None, **options: Any) -> Ensemble:
    """Simulate a scenario in memory, with options of `simulate_runs`; ``text`` is the scenario that is stored."""
    ensemble = simulate_runs(
        scenario.runs,
        scenario=scenario.toml if text is None else text,
        common_noise=scenario.common_noise,
        sweep=scenario.sweep or None,
        title=str(scenario.data["title"]),
        **options,
    )
    ensemble.attributes["scenario_name"] = scenario.name
    return ensemble


def default_output(scenario: Scenario) -> Path:
    """Default path of the file of a scenario.

    Examples
    --------
    >>> from sgdsim.input.loading import load_scenario
    >>> str(default_output(load_scenario("river_valley")))
    'results/river_valley.h5'
    """
    return Path("results") / f"{scenario.name}.h5"


@contextmanager
def _default_folder(path: Path) -> Iterator[None]:
    """Create the default folder for results, and remove it if it stays empty."""
    folder = path.parent
    made = not folder.exists()
    try:
        folder.mkdir(exist_ok=True)
    except OSError as error:
        raise InputError(f"{folder}: cannot make this folder: {error.strerror}; choose another with --output") from None
    try:
        yield
    except BaseException:
        if made:
            with suppress(OSError):
                folder.rmdir()
        raise


def _check_disk(path: Path, required: int) -> None:
    free = shutil.disk_usage(path.resolve().parent).free
    if required > free:
        raise InputError(
            f"{path}: the file needs {required / 1e9:.3g} GB, {free / 1e9:.3g} GB are free: take fewer trajectories, "
            "snapshots, bins or sweep points, or record less often"
        )
