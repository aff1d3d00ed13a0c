"""From a scenario to a file and from a file to a verdict: what the commands do, as calls."""

from __future__ import annotations

import os
import shutil
import sys
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import asdict, dataclass, fields, replace
from functools import partial
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sgdsim import theory
from sgdsim.app import dask_workers
from sgdsim.app.flaws import known_flaw
from sgdsim.app.kept_predictions import curves, kept, with_predictions
from sgdsim.base import take
from sgdsim.base.budget import OutOfTime, limited
from sgdsim.base.errors import InputError, RunError, shortened, unknown_name
from sgdsim.base.files import about, check_output
from sgdsim.base.findings import found
from sgdsim.base.html import html_table
from sgdsim.ensemble import WHOLE, Ensemble, open_parts, save_parts
from sgdsim.input.builders import Claim
from sgdsim.input.scenario import Scenario
from sgdsim.model.loss import Loss
from sgdsim.model.run import Run
from sgdsim.simulation.checkpoints import seconds_between
from sgdsim.simulation.run_loop import limits_of_parts, output_bytes, simulate_runs, work
from sgdsim.simulation.unfinished import Description, description_beside, unfinished
from sgdsim.statistics import verdict_table
from sgdsim.statistics.comparison import Comparison, compare_parts
from sgdsim.statistics.conditions import testable
from sgdsim.theory import Prediction
from sgdsim.theory.methods.stability import instabilities

if TYPE_CHECKING:
    import pandas
    from matplotlib.figure import Figure

    from sgdsim.plots.subject import Subject

_MOMENT = 0.1  # seconds that a law has to show that it speaks of a run
_MOST_WARNINGS = 10  # of one kind, and
_MOST_LISTED = 20  # points of a sweep in each: there may be 100,000


@dataclass(frozen=True, repr=False)
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

    def screen(self, width: int = 80, colour: bool = False) -> str:
        """A line for each law or claim, see `verdict_screen.screen`."""
        from sgdsim.app.verdict_screen import screen

        return screen(self.comparisons, self.skipped, self.alpha, width, colour)

    def table(self) -> str:
        """The rows as aligned text."""
        return verdict_table.format_table(self.comparisons, self.skipped, self.alpha)

    def __repr__(self) -> str:
        return self.table()

    def _repr_html_(self) -> str:
        """What a notebook shows."""
        rows = verdict_table.texts(self.comparisons)
        counted = escape(verdict_table.summary_line(self.comparisons, self.alpha))
        return (html_table(rows[0], rows[1:]) if len(rows) > 1 else "") + f"<p>{counted}</p>"

    def to_dataframe(self) -> pandas.DataFrame:
        """The rows as a `pandas.DataFrame`, a column for each field of a `Comparison`.

        Raises
        ------
        RunError
            If pandas is not installed.
        """
        try:
            import pandas
        except ImportError:
            raise RunError("to_dataframe needs pandas, which is not installed: pip install pandas") from None
        return pandas.DataFrame(
            [asdict(row) for row in self.comparisons], columns=[one.name for one in fields(Comparison)]
        )

    def to_json(self) -> str:
        """The rows as JSON."""
        return verdict_table.to_json(self.comparisons, self.file, self.scenario)


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
    resume
        Whether to go on from the checkpoints of such a run, if there are any; of one that is finished its file is read.
    checkpoint_every
        Seconds from one to the next, also as ``"5m"``, or ``"never"``; by default every minute, and one when a run is
        interrupted that takes longer.
    client
        A `dask.distributed.Client`, on whose workers the run is computed, to the same bits; see `dask_workers`.
    memory_limit
        Bytes that results may take, also as ``"4GB"``; by default 80 % of what is free. Snapshots that do not fit are
        kept on the disk until the file is written.

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
    >>> from sgdsim.input.loading import load_scenario
    >>> scenario = load_scenario("river_valley", {"run.trajectories": 1000, "run.steps": 20})
    >>> with TemporaryDirectory() as folder:
    ...     ensemble = run_scenario(scenario, f"{folder}/run.h5", device="python")
    ...     compare_file(f"{folder}/run.h5").disagrees
    False
    """
    options: dict[str, Any] = {"threads": threads, "device": device, "progress": progress}
    options |= {"overwrite": overwrite, "resume": resume, "checkpoint_every": checkpoint_every, "client": client}
    options |= {"memory_limit": memory_limit}
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
    keep_predictions: bool = False,
) -> list[Ensemble]:
    """Simulate all parts of a scenario, and write one file with a group for each.

    Parameters
    ----------
    scenarios
        As `load_parts` gives them.
    path, threads, device, overwrite, progress, resume, checkpoint_every, client, memory_limit
        As of `run_scenario`.
    keep_predictions
        Whether the file keeps what theory says of the run, so that a comparison and figures need not compute it.

    Returns
    -------
    list of Ensemble
        One a part.

    Raises
    ------
    InputError
        As `run_scenario`.
    """
    kind = take.of_kind(Scenario, "a Scenario, such as load_scenario('river_valley')")
    scenarios = take.each(kind)(scenarios, "scenario")
    overwrite, progress = take.flag(overwrite, "overwrite"), take.flag(progress, "progress")
    resume, keep_predictions = take.flag(resume, "resume"), take.flag(keep_predictions, "keep_predictions")
    given = default_output(scenarios[0]) if path is None else take.path(path, "path")
    output = Path(given)
    with _default_folder(output) if output.parent == Path("results") else nullcontext():
        check_output(given, overwrite or resume, [source for one in scenarios for source in _read_for(one)])
        _check_disk(output, sum(output_bytes(one.runs) for one in scenarios))
        for one in scenarios:
            check_runs(one.runs)
        described = Description.new([(one.part, one.name, one.toml) for one in scenarios], overwrite, device)
        options: dict[str, Any] = {"threads": threads, "device": device, "progress": progress}
        every = seconds_between(checkpoint_every)
        return _written(scenarios, output, described, resume, every, options, client, memory_limit, keep_predictions)


def resume_file(
    path: str | Path,
    *,
    threads: int | None = None,
    progress: bool = False,
    checkpoint_every: float | str | None = None,
    client: Any = None,
    memory_limit: float | str | None = None,
    keep_predictions: bool = False,
) -> list[Ensemble]:
    """Go on with a run that was killed or interrupted, from the checkpoints beside its output alone.

    Parameters
    ----------
    path
        Of the file that it was going to write.
    threads, progress, checkpoint_every, client, memory_limit
        As of `run_scenario`.
    keep_predictions
        As of `run_parts`.

    Returns
    -------
    list of Ensemble
        One a part; those in the file if it is finished.

    Raises
    ------
    InputError
        If there is nothing to go on from.
    """
    path = Path(take.path(path, "path"))
    described = description_beside(path)
    if described is None and path.is_file():
        return list(open_parts(path).values())
    if described is None:
        raise InputError(f"{path}: there is nothing to resume, neither the file nor checkpoints beside it")
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
    return _written(scenarios, path, described, True, every, options, client, memory_limit, keep_predictions)


def _written(
    scenarios: Sequence[Scenario],
    output: Path,
    described: Description,
    resume: bool,
    every: float | None,
    options: Mapping[str, Any],
    client: Any = None,
    memory_limit: float | str | None = None,
    keep_predictions: bool = False,
) -> list[Ensemble]:
    """Simulate what is described, save checkpoints on the way, and write its file."""
    total = sum(work(one.runs) for one in scenarios)
    client = None if client is None else dask_workers.checked(client)
    with unfinished(output, described, total=total, every=every, resume=resume) as run:
        if resume and (found := run.finished()) is not None:
            return list(found.values())
        if client is not None or run.shards:
            how = {"threads": options["threads"], "progress": options["progress"], "every": every}
            ensembles = dask_workers.run_with(client, scenarios, run, **how, memory_limit=memory_limit)
        else:
            limits = limits_of_parts([one.runs for one in scenarios], run.checkpoints.folder, memory_limit)
            ensembles = [
                simulate_scenario(
                    one, text, checkpoints=run.checkpoints.part(index), memory_limit=limits[index], **options
                )
                for index, (one, (_, _, text)) in enumerate(zip(scenarios, run.described.scenarios, strict=True))
            ]
        for ensemble in ensembles:
            run.sign(ensemble)
        interrupted = None
        if keep_predictions:
            try:
                pairs = zip(ensembles, scenarios, strict=True)
                ensembles = [with_predictions(ensemble, one, _told) for ensemble, one in pairs]
            except KeyboardInterrupt as error:  # what was computed is not lost for what theory says of it
                interrupted = error
        parts = {one.part: made for one, made in zip(scenarios, ensembles, strict=True)}
        save_parts(parts, output, overwrite=run.described.overwrite or described.overwrite)
    if interrupted is not None:
        raise interrupted
    return ensembles


def _read_for(scenario: Scenario) -> Iterator[Path]:
    """The files that a scenario was read from, and those that hold its first states."""
    yield from scenario.sources
    if start := scenario.data["run"].get("from"):
        yield Path(start["file"])


def simulate_scenario(scenario: Scenario, text: str | None = None, **options: Any) -> Ensemble:
    """Simulate a scenario in memory, with options of `simulate_runs`; the text is what it says of itself."""
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
    """Where a scenario's file goes that the user has not named.

    Examples
    --------
    >>> from sgdsim.input.loading import load_scenario
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
    with about(take.path(path, "path")):
        return _compared(_opened(path), os.fspath(path))


def available_laws(path: str | Path) -> dict[str, bool]:
    """The laws that speak of the runs in a file but were not asked for, and whether they take long.

    Of a sweep the first point is looked at. What is found is kept, so that it is free the next time.

    Raises
    ------
    InputError
        As `compare_file`.
    """
    with about(take.path(path, "path")):
        scenarios = [_scenario_in(ensemble, part, path) for part, ensemble in open_parts(path).items()]
        return {id: slow for one in scenarios for id, slow in _available(one)}


def _available(scenario: Scenario) -> list[tuple[str, bool]]:
    run = scenario.runs[0]
    known = {claim.source.id for claim in scenario.claims}
    laws = [law for id, law in theory.LAWS.items() if id not in known]
    tables = {key: scenario.data[key] for key in ("optimizer", "record")}
    settings = {key: value for key, value in scenario.data["run"].items() if key != "seed"}

    def find() -> list[list[Any]]:
        tried = ((law.id, _takes_long(law, run)) for law in laws)
        return [[id, slow] for id, slow in tried if slow is not None]

    question = ["available", run.loss.plain, tables, settings, sorted(known)]
    return [(id, slow) for id, slow in found(question, find, [law.at_point for law in laws])]


def _takes_long(law: theory.Law, run: Run) -> bool | None:
    """Whether a law needs more than a moment for a run; None where it says nothing of it."""
    raised = OutOfTime.raised
    try:
        wanted = law.requirements(run, _MOMENT)
        rows, _ = law.evaluate([replace(run, recorder=run.recorder.merge(wanted))], _MOMENT)
    except InputError:  # it would record something under a name that is taken
        return None
    slow = OutOfTime.raised > raised
    return slow if slow or rows else None


def compare_ensemble(ensemble: Ensemble, predictions: Sequence[str] = ()) -> Report:
    """Hold an ensemble in memory against the predictions of its scenario, and others.

    Where neither asks for any, against the laws that are tried on every run, as far as what they need was recorded.

    Parameters
    ----------
    ensemble
        Of a run or a whole sweep, one part.
    predictions
        Further ones: ids of laws and formulas of your own.

    Raises
    ------
    InputError
        For an ensemble without a scenario, one point of a sweep, and a prediction that cannot be used.

    Examples
    --------
    >>> from sgdsim import simulate
    >>> run = {"initial": {"x": 0.0}, "trajectories": 1000, "steps": 30, "device": "python"}
    >>> ensemble = simulate("x**2/2 + z*x", noise={"z": "normal"}, learning_rate=0.5, **run)
    >>> [row.verdict for row in compare_ensemble(ensemble, ["mean(x) = 5"]).comparisons]
    ['disagrees']
    """
    ensemble = take.of_kind(Ensemble, "an Ensemble")(ensemble, "ensemble")
    predictions = take.each(take.text)(predictions, "predictions")
    return _compared([(ensemble, _scenario_of(ensemble, predictions))], "")


def _scenario_of(ensemble: Ensemble, predictions: Sequence[str] = ()) -> Scenario:
    """The scenario of an ensemble in memory; where nothing is asked for, with the laws that are tried on every run."""
    scenario = _scenario_in(ensemble, WHOLE, "the ensemble", predictions)
    if len(scenario.runs) > 1 and "point" not in ensemble.sizes:
        raise InputError("the ensemble: is one point of a sweep, expected the whole sweep")
    if scenario.claims:
        return scenario
    laws = tuple(Claim(theory.LAWS[id], asked=False) for id in theory.AUTOMATIC)
    return replace(scenario, claims=laws)


def _compared(opened: Sequence[tuple[Ensemble, Scenario]], file: str) -> Report:
    """All parts held against what their scenarios predict."""
    scenario = opened[0][1]
    alpha = float(scenario.data["alpha"])
    parts, skipped = [], []
    for ensemble, one in opened:
        rows, reasons = _predictions(ensemble, one)
        kept, untested = testable(ensemble, rows, alpha)
        parts.append((one.part, ensemble, kept))
        skipped += [*reasons, *(theory.Skipped(id, reason, one.part) for id, reason in untested)]
    return Report(file, scenario.name, compare_parts(parts, alpha), skipped, alpha)


def plot_file(
    path: str | Path,
    output: str | Path | None = None,
    kind: str | None = None,
    size: tuple[float, float] | None = None,
    overwrite: bool = False,
    *,
    residuals: bool = False,
    only: Sequence[str] = (),
    part: str = "",
    theory: bool = True,
    style: str = "paper",
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
    residuals
        Whether what is measured less what is predicted stands below.
    only
        Parameters and observables to show; none for all.
    part
        Of a file with parts, the one to draw; all by default.
    theory
        Whether what is predicted is drawn.
    style
        ``paper`` or ``talk``, see `sgdsim.plots.drawing.draw`.

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
    >>> from sgdsim.input.loading import load_scenario
    >>> scenario = load_scenario("river_valley", {"run.trajectories": 64, "run.steps": 20})
    >>> with TemporaryDirectory() as folder:
    ...     _ = run_scenario(scenario, f"{folder}/run.h5", device="python")
    ...     plot_file(f"{folder}/run.h5").name
    'run.svg'
    """
    from sgdsim.plots import drawing

    drawing.require_matplotlib()
    kind = drawing.checked_kind(take.optional(take.text)(kind, "kind"))
    size, style = drawing.checked_size(size), drawing.checked_style(style)
    overwrite, residuals = take.flag(overwrite, "overwrite"), take.flag(residuals, "residuals")
    theory, part = take.flag(theory, "theory"), take.text(part, "part")
    only = take.each(take.text)(only, "only")
    with about(take.path(path, "path")):
        opened = [one for one in _opened(path) if not part or one[1].part == part]
        if not opened:
            raise InputError(f"--part: {unknown_name('part', part, [name for name in open_parts(path) if name])}")
    target = Path(path).with_suffix(".svg") if output is None else Path(take.path(output, "output"))
    drawing.checked_suffix(target)
    check_output(target if output is None else output, overwrite, [path])
    with about(path):
        shown = {one.part: _subject(ensemble, one, kind, only, theory) for ensemble, one in opened}
        figure = drawing.draw_parts(shown, kind, size, residuals=residuals, style=style)
        drawing.save_figure(figure, target)  # where the texts of the file are drawn
    return target


def plot_ensemble(
    ensemble: Ensemble,
    kind: str | None = None,
    size: tuple[float, float] | None = None,
    *,
    residuals: bool = False,
    only: Sequence[str] = (),
    theory: bool = True,
    style: str = "paper",
) -> Figure:
    """Draw an ensemble in memory with the predictions of its scenario, as `plot_file` draws one of a file.

    Parameters
    ----------
    ensemble
        Of a run or a whole sweep, one part.
    kind, size, residuals, only, theory, style
        As of `plot_file`.

    Raises
    ------
    InputError, RunError
        As `plot_file`.

    Examples
    --------
    >>> from sgdsim import simulate
    >>> run = {"initial": {"x": 1.0}, "trajectories": 64, "steps": 8, "every": 2, "device": "python"}
    >>> plot_ensemble(simulate("x**2/2 + z*x", noise={"z": "normal"}, learning_rate=0.5, **run)).get_label()
    'moments'
    """
    from sgdsim.plots import drawing

    drawing.require_matplotlib()
    ensemble = take.of_kind(Ensemble, "an Ensemble")(ensemble, "ensemble")
    kind = drawing.checked_kind(take.optional(take.text)(kind, "kind"))
    size, style = drawing.checked_size(size), drawing.checked_style(style)
    residuals, theory = take.flag(residuals, "residuals"), take.flag(theory, "theory")
    subject = _subject(ensemble, _scenario_of(ensemble), kind, take.each(take.text)(only, "only"), theory)
    return drawing.draw_parts({WHOLE: subject}, kind, size, residuals=residuals, style=style)


def _subject(
    ensemble: Ensemble, scenario: Scenario, kind: str | None, only: Sequence[str], with_theory: bool
) -> Subject:
    """What is to be drawn of a part: its predictions, at the records on the way and in between where these show."""
    from sgdsim.plots.drawing import choose_kind
    from sgdsim.plots.subject import Subject

    alpha = float(scenario.data["alpha"])
    if not with_theory:
        return Subject(ensemble, (), alpha, only=only)
    predictions, _ = _predictions(ensemble, scenario)
    along, between = curves(scenario, kind or choose_kind(ensemble))
    return Subject(ensemble, (*predictions, *along), alpha, between, only)


def _opened(path: str | Path) -> list[tuple[Ensemble, Scenario]]:
    """What each part of a file holds, and the scenario in it; warns of what is known to be wrong with it."""
    opened = [(ensemble, _scenario_in(ensemble, part, path)) for part, ensemble in open_parts(path).items()]
    for ensemble, scenario in opened:
        if flaw := known_flaw(ensemble):
            where = f"{path}, part {scenario.part}" if scenario.part else path
            warnings.warn(f"{where}: {flaw}", RuntimeWarning, stacklevel=3)
    return opened


def _scenario_in(ensemble: Ensemble, part: str, path: str | Path, predictions: Sequence[str] = ()) -> Scenario:
    name = str(ensemble.attributes.get("scenario_name", Path(path).stem))
    if "scenario" not in ensemble.attributes:
        raise InputError(f"{path}: holds no scenario, and so nothing to compare with")
    text = str(ensemble.attributes["scenario"])
    return replace(Scenario.parse(text, name, f"the scenario in {path}", None, predictions), part=part)


def _predictions(ensemble: Ensemble, scenario: Scenario) -> tuple[list[Prediction], list[theory.Skipped]]:
    """What laws and user say about a scenario, held to the resolution and the verdict that the user asks for.

    What the ensemble has kept of it is not computed again.
    """
    found: list[Prediction] = []
    skipped: list[theory.Skipped] = []
    for claim, told in zip(scenario.claims, kept(ensemble, scenario), strict=True):
        rows, reasons = told or _told(claim, scenario)
        found += [replace(_resolved(row, claim.resolution), expect=claim.expect, asked=claim.asked) for row in rows]
        skipped += [replace(one, part=scenario.part, asked=claim.asked) for one in reasons]
    return found, skipped


def _told(claim: Claim, scenario: Scenario) -> tuple[list[Prediction], list[theory.Skipped]]:
    with limited(say=partial(_tell, claim.source.id)):
        return theory.predict([claim.source], scenario.runs, claim.seconds)


def _tell(id: str) -> None:
    """Say on standard error what takes long."""
    if sys.stderr is not None:
        print(f"computing what {id} predicts …", file=sys.stderr, flush=True)


def _resolved(row: Prediction, resolution: float | str | None) -> Prediction:
    if isinstance(resolution, str):
        resolution = float(resolution.strip().removesuffix("%")) / 100 * abs(row.predicted)
    # A part of nothing is nothing to hold a row to: it keeps its own.
    return replace(row, resolution=resolution) if resolution else row


def check_runs(runs: Sequence[Run]) -> None:
    """Warn of what is likely to go wrong in a run, before it begins."""
    _warn_of_instability(runs)
    _warn_of_undefined(runs)
    _warn_of_dropped_rows(runs[0])


def _warn_of_instability(runs: Sequence[Run]) -> None:
    reasons: dict[str, list[int]] = {}
    for point, reason in enumerate(instabilities(runs)):
        if reason is not None:
            reasons.setdefault(reason, []).append(point)
    for reason, points in list(reasons.items())[:_MOST_WARNINGS]:
        at = f"sweep point {_listed(points)}: " if len(runs) > 1 else ""
        warnings.warn(f"{at}{reason}; trajectories may diverge", RuntimeWarning, stacklevel=4)
    if more := sum(map(len, list(reasons.values())[_MOST_WARNINGS:])):
        warnings.warn(f"{more} more sweep points are unstable", RuntimeWarning, stacklevel=4)


def _listed(points: Sequence[int]) -> str:
    """The points of a sweep by number, the first of very many."""
    more = f" and {len(points) - _MOST_LISTED} more" if len(points) > _MOST_LISTED else ""
    return ", ".join(map(str, points[:_MOST_LISTED])) + more


def _warn_of_undefined(runs: Sequence[Run]) -> None:
    """Say before a run which of its trajectories may become not a number."""
    losses = {id(run.loss): run.loss for run in runs if run.loss.is_partial}.values()
    for text, base in dict.fromkeys(pair for loss in losses for pair in _unsafe(loss)):
        warnings.warn(
            f"loss: {shortened(text)} is not a number where {shortened(base)} is negative, and a trajectory ends there",
            RuntimeWarning,
            stacklevel=4,
        )


def _unsafe(loss: Loss) -> list[tuple[str, str]]:
    """The texts of `Loss.unsafe`, and of what must not become negative there."""
    question = ["unsafe", loss.plain]
    texts = found(question, lambda: [(str(node), str(node.args[0])) for node in loss.unsafe], loss.code)
    return [(text, base) for text, base in texts]


def _warn_of_dropped_rows(run: Run) -> None:
    data, batch_size = run.loss.data, run.optimizer.batch_size
    if data is not None and run.optimizer.sampling == "epoch" and data.rows % batch_size:
        batches, dropped = divmod(data.rows, batch_size)
        message = f"{data.rows} rows make {batches} batches of {batch_size}; each epoch leaves {dropped} of them out"
        warnings.warn(f"{message}, others each time", RuntimeWarning, stacklevel=4)


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
