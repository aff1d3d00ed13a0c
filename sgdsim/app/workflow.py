"""From a scenario to a file and from a file to a verdict: what the commands do, as calls."""

from __future__ import annotations

import difflib
import os
import shutil
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from sgdsim import theory
from sgdsim.app.flaws import known_flaw
from sgdsim.base import toml
from sgdsim.base.errors import InputError, shortened
from sgdsim.base.files import atomic_file, check_output
from sgdsim.ensemble import Ensemble, open_parts, save_parts
from sgdsim.formulas.formula import Formula
from sgdsim.formulas.names import aliased
from sgdsim.formulas.vectors import base_name
from sgdsim.input.numeric_files import inline_files, move_files
from sgdsim.input.problems import attempt, attempt_all, listed
from sgdsim.input.scenario import Scenario
from sgdsim.model.observables import Observable
from sgdsim.model.run import Run
from sgdsim.simulation.run_loop import output_bytes, simulate_runs
from sgdsim.statistics import comparison
from sgdsim.statistics.comparison import Comparison
from sgdsim.theory import Prediction
from sgdsim.theory.methods.stability import instability


@dataclass(frozen=True)
class Report:
    """Every prediction of a scenario held against its ensemble.

    Attributes
    ----------
    file, scenario
        What was compared.
    comparisons
        One row a prediction.
    skipped
        Laws that do not apply, with the reason.
    alpha
        Probability of one or more false rejections in the table.
    """

    file: str
    scenario: str
    comparisons: Sequence[Comparison]
    skipped: Sequence[theory.Skipped]
    alpha: float

    @property
    def disagrees(self) -> bool:
        """Whether any prediction was rejected, or a negative control was not."""
        return any(row.outcome == "disagrees" for row in self.comparisons)

    def table(self) -> str:
        """The rows as aligned text."""
        return comparison.format_table(self.comparisons, self.skipped, self.alpha)

    def to_json(self) -> str:
        """The rows as JSON."""
        return comparison.to_json(self.comparisons, self.file, self.scenario)


def load_scenario(
    source: str | Path, overrides: Mapping[str, Any] | None = None, predictions: Sequence[str] = ()
) -> Scenario:
    """Read a scenario, add predictions, and see to it that all they need is recorded.

    Parameters
    ----------
    source
        A path, or the name of a shipped scenario.
    overrides
        Values by dotted key.
    predictions
        The user's own, as ``"variance(x) = learning_rate/2; order=1; at=final"``.

    Raises
    ------
    InputError
        For a scenario, an override or a prediction that cannot be used.

    Examples
    --------
    >>> scenario = load_scenario("river_valley", {"run.steps": 100}, ["mean(y) = 0; resolution=0.01"])
    >>> "window_mean" in scenario.toml
    True
    """
    return _recorded(Scenario.load(source, overrides, predictions), str(source))


def load_parts(
    source: str | Path, overrides: Mapping[str, Any] | None = None, predictions: Sequence[str] = ()
) -> list[Scenario]:
    """Read all parts of a scenario, as `load_scenario` reads one; of a scenario without parts the only one.

    Parameters
    ----------
    source, overrides, predictions
        As of `load_scenario`; overrides and predictions hold for every part.

    Raises
    ------
    InputError
        As `load_scenario`.

    Examples
    --------
    >>> [scenario.part for scenario in load_parts("river_valley")]
    ['']
    """
    found = Scenario.load_parts(source, overrides, predictions)
    return attempt_all(
        partial(_recorded, one, f"{source}, part {one.part}" if one.part else str(source)) for one in found
    )


def scenario_from(data: Mapping[str, Any], name: str, where: str, folder: str | Path = ".") -> Scenario:
    """A scenario of data such as a file holds, with all recorded that its predictions need.

    Parameters
    ----------
    data
        Tables as in a scenario file.
    name
        What its files are called.
    where
        Where the data come from, for messages.
    folder
        Where the paths begin of files that the data name.

    Raises
    ------
    InputError
        As `load_scenario`, and for a file that cannot be used.

    Examples
    --------
    >>> loss = {"formula": "(x - z)**2/2", "parameters": {"x": 1.0}, "noise": {"z": "normal"}}
    >>> run = {"trajectories": 1000, "steps": 100}
    >>> scenario_from({"loss": loss, "optimizer": {"learning_rate": 0.1}, "run": run}, "mine", "here").name
    'mine'
    """
    try:
        text = toml.dumps(inline_files(data, folder))
    except InputError as error:
        raise InputError(f"{where}:\n{listed(str(error).splitlines())}") from None
    return _recorded(Scenario.parse(text, name, where), where)


def save_scenario(data: Mapping[str, Any], path: str | Path, output: str | Path, *, overwrite: bool = False) -> None:
    r"""Write data such as `scenario_from` takes as a scenario file, whose paths lead to the same files from there.

    Parameters
    ----------
    data
        Tables as in a scenario file; paths begin in the working folder.
    path
        TOML file to write; it is whole from the moment it is there.
    output
        What the run is going to write: nothing is saved where that will be refused.
    overwrite
        Whether an existing file may be replaced.

    Raises
    ------
    InputError
        For a path that cannot be written to.

    Examples
    --------
    >>> from tempfile import TemporaryDirectory
    >>> with TemporaryDirectory() as folder:
    ...     save_scenario({"run": {"steps": 100}}, f"{folder}/mine.toml", f"{folder}/mine.h5")
    ...     Path(folder, "mine.toml").read_text()
    '[run]\nsteps = 100\n'
    """
    if os.path.realpath(path) == os.path.realpath(output):
        raise InputError(f"{path}: is the output too, expected another file for the scenario")
    check_output(path, overwrite)
    if Path(output).parent != Path("results") or Path("results").is_dir():  # this one is made if it is not there
        check_output(output, overwrite)
    text = toml.dumps(move_files(data, ".", Path(path).parent)).lstrip()
    with atomic_file(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def _recorded(scenario: Scenario, where: str) -> Scenario:
    """The scenario with all recorded that its predictions need, if they and its formulas can be used."""
    problems: list[str] = []
    attempt(problems, partial(_check_constants, scenario))
    attempt(problems, partial(_check_formulas, scenario.runs[0]))
    recorded = None if problems else attempt(problems, partial(_recording, scenario))
    for claim in recorded.claims if recorded else ():
        # A claim that cannot be evaluated is refused now, not after the run.
        if recorded and isinstance(claim.source, theory.UserPrediction):
            attempt(problems, partial(claim.source.predictions, recorded.runs))
    if problems or recorded is None:
        raise InputError(f"{where}:\n{listed(problems)}")
    return recorded


def _recording(scenario: Scenario) -> Scenario:
    """The scenario with all recorded that its laws need."""
    laws = [claim.source for claim in scenario.claims if isinstance(claim.source, theory.Law)]
    return scenario.recording([theory.requirements(laws, run) for run in scenario.runs])


def run_scenario(
    scenario: Scenario,
    path: str | Path | None = None,
    *,
    threads: int | None = None,
    device: str = "cpu",
    overwrite: bool = False,
    progress: bool = False,
) -> Ensemble:
    """Simulate a scenario and write its file.

    Parameters
    ----------
    scenario
        As `load_scenario` gives it.
    path
        HDF5 file to write; by default ``results/<name>.h5``. A folder ``results`` is made.
    threads, device, progress
        See `simulation.simulate_runs`.
    overwrite
        Whether an existing file may be replaced.

    Raises
    ------
    InputError
        For an output that cannot be written or does not fit, before the run starts.

    Warns
    -----
    RuntimeWarning
        When the learning rate is too large for the curvature of the start.

    Examples
    --------
    >>> from tempfile import TemporaryDirectory
    >>> scenario = load_scenario("river_valley", {"run.trajectories": 1000, "run.steps": 20})
    >>> with TemporaryDirectory() as folder:
    ...     ensemble = run_scenario(scenario, f"{folder}/run.h5", device="python")
    ...     compare_file(f"{folder}/run.h5").disagrees
    False
    """
    options: dict[str, Any] = {"threads": threads, "device": device, "progress": progress}
    return run_parts([scenario], path, overwrite=overwrite, **options)[0]


def run_parts(
    scenarios: Sequence[Scenario],
    path: str | Path | None = None,
    *,
    threads: int | None = None,
    device: str = "cpu",
    overwrite: bool = False,
    progress: bool = False,
) -> list[Ensemble]:
    """Simulate all parts of a scenario, and write one file with a group for each.

    Parameters
    ----------
    scenarios
        As `load_parts` gives them.
    path, threads, device, overwrite, progress
        As of `run_scenario`.

    Returns
    -------
    list of Ensemble
        One a part.

    Raises
    ------
    InputError
        As `run_scenario`.
    """
    output = default_output(scenarios[0]) if path is None else Path(path)
    with _default_folder(output) if output.parent == Path("results") else nullcontext():
        check_output(output, overwrite)
        _check_disk(output, sum(output_bytes(one.runs) for one in scenarios))
        for one in scenarios:
            _warn_of_instability(one.runs)
            _warn_of_undefined(one.runs)
            _warn_of_dropped_rows(one.runs[0])
        options: dict[str, Any] = {"threads": threads, "device": device, "progress": progress}
        ensembles = [_simulated(one, **options) for one in scenarios]
        save_parts(
            {one.part: made for one, made in zip(scenarios, ensembles, strict=True)}, output, overwrite=overwrite
        )
    return ensembles


def _simulated(scenario: Scenario, **options: Any) -> Ensemble:
    ensemble = simulate_runs(
        scenario.runs,
        scenario=scenario.toml,
        common_noise=scenario.common_noise,
        sweep=scenario.sweep or None,
        title=str(scenario.data["title"]),
        **options,
    )
    ensemble.attributes["scenario_name"] = scenario.name
    return ensemble


def default_output(scenario: Scenario) -> Path:
    """Where a scenario's file goes that the user has not named.

    Examples
    --------
    >>> str(default_output(load_scenario("river_valley")))
    'results/river_valley.h5'
    """
    return Path("results") / f"{scenario.name}.h5"


def compare_file(path: str | Path) -> Report:
    """Hold the ensemble in a file against the predictions of its scenario, from the file alone.

    Raises
    ------
    InputError
        For a file that is not ours or cannot be read, or whose scenario cannot.
    """
    opened = _opened(path)
    scenario = opened[0][1]
    alpha = float(scenario.data["alpha"])
    found = [_predictions(one) for _, one in opened]
    parts = [(one.part, ensemble, rows) for (ensemble, one), (rows, _) in zip(opened, found, strict=True)]
    rows = comparison.compare_parts(parts, alpha)
    skipped = [reason for _, reasons in found for reason in reasons]
    return Report(os.fspath(path), scenario.name, rows, skipped, alpha)


def plot_file(
    path: str | Path,
    output: str | Path | None = None,
    kind: str | None = None,
    size: tuple[float, float] | None = None,
    overwrite: bool = False,
) -> Path:
    """Draw the ensemble in a file with the predictions of its scenario, from the file alone.

    Parameters
    ----------
    path
        HDF5 file.
    output
        Figure to write, SVG, PNG or PDF by its suffix; by default an SVG beside the file.
    kind
        One of `plotting.KINDS`; None for the one that shows most.
    size
        Width and height in inches; None for one that goes with what is shown.
    overwrite
        Whether an existing figure may be replaced.

    Returns
    -------
    Path
        Of the figure.

    Raises
    ------
    InputError
        As `compare_file`; for a kind that nothing was recorded for; for an output that cannot be written.
    RunError
        If matplotlib is not installed.

    Examples
    --------
    >>> from tempfile import TemporaryDirectory
    >>> scenario = load_scenario("river_valley", {"run.trajectories": 64, "run.steps": 20})
    >>> with TemporaryDirectory() as folder:
    ...     _ = run_scenario(scenario, f"{folder}/run.h5", device="python")
    ...     plot_file(f"{folder}/run.h5").name
    'run.svg'
    """
    from sgdsim.plots import drawing
    from sgdsim.plots.along import predictions_along

    drawing.require_matplotlib()
    drawing.checked_kind(kind)
    opened = _opened(path)
    target = Path(path).with_suffix(".svg") if output is None else Path(output)
    drawing.checked_suffix(target)
    check_output(target, overwrite)
    shown = []
    for ensemble, scenario in opened:
        own = kind or drawing.choose_kind(ensemble)
        predictions, _ = _predictions(scenario)
        if own == "moments":
            laws = [claim.source for claim in scenario.claims if isinstance(claim.source, theory.Law)]
            predictions += predictions_along(laws, scenario.runs)
        shown.append((scenario.part, ensemble, predictions))
    figure = drawing.draw_parts(shown, kind, size, float(opened[0][1].data["alpha"]))
    drawing.save_figure(figure, target)
    return target


def _opened(path: str | Path) -> list[tuple[Ensemble, Scenario]]:
    """What each part of a file holds, and the scenario in it; warns of what is known to be wrong with it."""
    opened = [(ensemble, _scenario_in(ensemble, part, path)) for part, ensemble in open_parts(path).items()]
    for ensemble, scenario in opened:
        if flaw := known_flaw(ensemble):
            where = f"{path}, part {scenario.part}" if scenario.part else path
            warnings.warn(f"{where}: {flaw}", RuntimeWarning, stacklevel=3)
    return opened


def _scenario_in(ensemble: Ensemble, part: str, path: str | Path) -> Scenario:
    name = str(ensemble.attributes.get("scenario_name", Path(path).stem))
    if "scenario" not in ensemble.attributes:
        raise InputError(f"{path}: holds no scenario, and so nothing to compare with")
    text = str(ensemble.attributes["scenario"])
    return replace(Scenario.parse(text, name, where=f"the scenario in {path}"), part=part)


def _predictions(scenario: Scenario) -> tuple[list[Prediction], list[theory.Skipped]]:
    """What laws and user say about a scenario, held to the resolution and the verdict that the user asks for."""
    found: list[Prediction] = []
    skipped: list[theory.Skipped] = []
    for claim in scenario.claims:
        rows, reasons = theory.predict([claim.source], scenario.runs)
        found += [replace(_resolved(row, claim.resolution), expect=claim.expect) for row in rows]
        skipped += [replace(one, part=scenario.part) for one in reasons]
    return found, skipped


def _resolved(row: Prediction, resolution: float | str | None) -> Prediction:
    if isinstance(resolution, str):
        resolution = float(resolution.strip().removesuffix("%")) / 100 * abs(row.predicted)
    # A part of nothing is nothing to hold a row to: it keeps its own.
    return replace(row, resolution=resolution) if resolution else row


def _check_constants(scenario: Scenario) -> None:
    """Refuse a constant that looks like one left at its default; warn of others that nothing uses."""
    given = scenario.data["loss"].get("constants", {})
    used = set().union(*map(_names, scenario.runs))
    for claim in scenario.claims:
        if isinstance(claim.source, theory.UserPrediction):
            used |= Formula.parse(claim.source.formula).names
    for name in (name for name in given if base_name(name) not in used):
        defaults = [known for known in scenario.runs[0].loss.constants if known not in given]
        near = difflib.get_close_matches(name, defaults, n=1)
        if near:
            raise InputError(f"loss.constants.{name}: unknown constant {name!r}: did you mean {near[0]!r}?")
        warnings.warn(f"loss.constants.{name}: no formula uses it", RuntimeWarning, stacklevel=3)


def _check_formulas(run: Run) -> None:
    """Refuse what can be read but is not one number, such as a vector."""
    observables = run.recorder.observables
    checks: list[Callable[[], object]] = [lambda: run.loss.expression]
    checks += [partial(_expand, run, one) for one in observables]
    attempt_all(checks)


def _expand(run: Run, observable: Observable) -> object:
    """An observable as an expression; what the step adds to the names is put in for what it stands for."""
    import sympy

    gradient = {name: run.loss.symbols[name] for name in run.loss.parameters}
    where = f"record.observables.{observable.name}"
    return run.loss.expand_step(observable.formula, where, {}, gradient, sympy.Integer(1))


def _names(run: Run) -> set[str]:
    """What the formulas of a run name."""
    loss = run.loss
    texts = [loss.formula, *(aliased(observable.formula) for observable in run.recorder.observables)]
    for definition in loss.definitions.values():
        texts += [definition] if isinstance(definition, str) else definition
    texts += [text for symmetry in loss.symmetries for text in symmetry.generator.values()]
    return set().union(*(Formula.parse(text).names for text in texts))


def _warn_of_instability(runs: Sequence[Run]) -> None:
    reasons: dict[str, list[int]] = {}
    for point, run in enumerate(runs):
        reason = instability(run)
        if reason is not None:
            reasons.setdefault(reason, []).append(point)
    for reason, points in reasons.items():
        at = f"sweep point {', '.join(map(str, points))}: " if len(runs) > 1 else ""
        warnings.warn(f"{at}{reason}; trajectories may diverge", RuntimeWarning, stacklevel=3)


def _warn_of_undefined(runs: Sequence[Run]) -> None:
    """Say before a run which of its trajectories may become not a number."""
    texts = dict.fromkeys((str(node), str(node.args[0])) for run in runs for node in run.loss.unsafe)
    for text, base in texts:
        warnings.warn(
            f"loss: {shortened(text)} is not a number where {shortened(base)} is negative, and a trajectory ends there",
            RuntimeWarning,
            stacklevel=3,
        )


def _warn_of_dropped_rows(run: Run) -> None:
    data, batch_size = run.loss.data, run.optimizer.batch_size
    if data is not None and run.optimizer.sampling == "epoch" and data.rows % batch_size:
        batches, dropped = divmod(data.rows, batch_size)
        message = f"{data.rows} rows make {batches} batches of {batch_size}; each epoch leaves {dropped} of them out"
        warnings.warn(f"{message}, others each time", RuntimeWarning, stacklevel=3)


@contextmanager
def _default_folder(path: Path) -> Iterator[None]:
    """Make the folder that results go to by default; take it away if nothing comes of it."""
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
