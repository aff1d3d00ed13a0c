"""Comparison of a file, or of an ensemble in memory, with the predictions of its scenario."""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sgdsim import theory
from sgdsim.app.flaws import known_flaw
from sgdsim.app.kept_predictions import told_of
from sgdsim.base import take
from sgdsim.base.budget import OutOfTime
from sgdsim.base.errors import InputError
from sgdsim.base.files import about
from sgdsim.base.findings import found
from sgdsim.base.html import html_table
from sgdsim.base.packages import imported
from sgdsim.ensemble import WHOLE, Ensemble, open_parts
from sgdsim.input.builders import Claim
from sgdsim.input.loading import named
from sgdsim.input.scenario import Scenario
from sgdsim.model.run import Run
from sgdsim.statistics import verdict_table
from sgdsim.statistics.comparison import Comparison, compare_parts
from sgdsim.statistics.conditions import testable
from sgdsim.theory import Prediction

if TYPE_CHECKING:
    import pandas


_MOMENT = 0.1  # seconds within which a law must show that it applies to a run


@dataclass(frozen=True, repr=False)
class Report:
    """The comparison of an ensemble with every prediction of its scenario.

    Attributes
    ----------
    file, scenario
        Path of the file (empty for an ensemble in memory) and name of the scenario.
    comparisons
        A row for each prediction.
    skipped
        Laws that do not apply, with the reason.
    alpha
        Probability of one or more false rejections in the table.
    points
        Labels of the sweep points of each part.
    scenarios
        The scenario of each part.
    """

    file: str
    scenario: str
    comparisons: Sequence[Comparison]
    skipped: Sequence[theory.Skipped]
    alpha: float
    points: Mapping[str, Sequence[str]] = field(default_factory=dict)
    scenarios: Sequence[Scenario] = ()

    @property
    def disagrees(self) -> bool:
        """True if a prediction was rejected, or a negative control was not."""
        return any(row.outcome == "disagrees" for row in self.comparisons)

    def screen(self, width: int = 80, colour: bool = False) -> str:
        """Text with a line for each law or claim, see `verdict_screen.screen`."""
        from sgdsim.app.verdict_screen import screen

        return screen(self.comparisons, self.skipped, self.alpha, width, colour, self.points)

    def table(self) -> str:
        """Rows as aligned text."""
        return verdict_table.format_table(self.comparisons, self.skipped, self.alpha)

    def __repr__(self) -> str:
        return self.table()

    def _repr_html_(self) -> str:
        """HTML of the rows for a notebook."""
        rows = verdict_table.texts(self.comparisons)
        counted = escape(verdict_table.summary_line(self.comparisons, self.alpha))
        return (html_table(rows[0], rows[1:]) if len(rows) > 1 else "") + f"<p>{counted}</p>"

    def to_dataframe(self) -> pandas.DataFrame:
        """Rows as a `pandas.DataFrame`, with a column for each field of a `Comparison`.

        Raises
        ------
        RunError
            If pandas is not installed.
        """
        columns = [one.name for one in fields(Comparison)]
        pandas = imported("pandas", "to_dataframe")
        return pandas.DataFrame([asdict(row) for row in self.comparisons], columns=columns)

    def to_json(self) -> str:
        """Rows as JSON."""
        return verdict_table.to_json(self.comparisons, self.file, self.scenario)


def compare_file(path: str | Path, *, quiet: bool = False) -> Report:
    """Compare the ensemble in a file with the predictions of its scenario; nothing but the file is needed.

    Parameters
    ----------
    path
        Path of a file that a run has written.
    quiet
        True to announce no long computation on standard error.

    Returns
    -------
    Report
        A row with a verdict for each prediction.

    Raises
    ------
    InputError
        For a file that cannot be read or that sgdsim did not write, or whose scenario cannot be read.

    Examples
    --------
    >>> from tempfile import TemporaryDirectory
    >>> from sgdsim import simulate
    >>> run = {"initial": {"x": 0.0}, "trajectories": 1000, "steps": 30, "device": "python", "predict": ["mean(x) = 5"]}
    >>> with TemporaryDirectory() as folder:
    ...     run["output"] = f"{folder}/run.h5"
    ...     _ = simulate("x**2/2 + z*x", noise={"z": "normal"}, learning_rate=0.5, **run)
    ...     compare_file(f"{folder}/run.h5").disagrees
    True
    """
    quiet = take.flag(quiet, "quiet")
    with about(take.path(path, "path")):
        return _compared(opened_parts(path), os.fspath(path), quiet)


def available_laws(scenarios: Iterable[Scenario]) -> dict[str, bool]:
    """Laws that apply to the runs of scenarios but were not asked for; True for those that take long.

    Of a sweep the first point is examined. The answer is kept, so that it is immediate the next time.
    """
    return {id: slow for one in scenarios for id, slow in _available(one)}


def _available(scenario: Scenario) -> list[tuple[str, bool]]:
    run = scenario.runs[0]
    known = {claim.source.id for claim in scenario.claims}
    laws = [law for id, law in theory.LAWS.items() if id not in known]
    tables = {key: scenario.data[key] for key in ("loss", "optimizer", "record")}
    settings = {key: value for key, value in scenario.data["run"].items() if key != "seed"}

    def find() -> list[list[Any]]:
        tried = ((law.id, _takes_long(law, run)) for law in laws)
        return [[id, slow] for id, slow in tried if slow is not None]

    # The states in the file of a start are not part of the scenario, so the answer cannot be kept.
    question = ["available", named([run]), tables, settings, sorted(known)]
    answer = find() if settings.get("from") else found(question, find, [*(law.at_point for law in laws), *run.code])
    return [(id, slow) for id, slow in answer]


def _takes_long(law: theory.Law, run: Run) -> bool | None:
    """Tell whether a law needs more than a moment for a run; None if it does not apply to the run."""
    raised = OutOfTime.raised
    try:
        wanted = law.requirements(run, _MOMENT)
        rows, _ = law.evaluate([replace(run, recorder=run.recorder.merge(wanted))], _MOMENT)
    except InputError:  # the law would record an observable under a name that is taken
        return None
    slow = OutOfTime.raised > raised
    OutOfTime.raised = raised  # to need more than a moment is an answer, which may be kept
    return slow if slow or rows else None


def compare_ensemble(ensemble: Ensemble, predictions: Sequence[str] = ()) -> Report:
    """Compare an ensemble in memory with the predictions of its scenario, and with further ones.

    Without any prediction it is compared with the laws that are tried on every run, if what they need was recorded.

    Parameters
    ----------
    ensemble
        Ensemble of a run or of a whole sweep, one part.
    predictions
        Further predictions: ids of laws and formulas of your own.

    Returns
    -------
    Report
        A row with a verdict for each prediction.

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
    return _compared([(ensemble, scenario_of(ensemble, predictions))], "")


def _compared(opened: Sequence[tuple[Ensemble, Scenario]], file: str, quiet: bool = False) -> Report:
    """Report that compares all parts with the predictions of their scenarios."""
    scenario = opened[0][1]
    alpha = float(scenario.data["alpha"])
    parts, skipped = [], []
    for ensemble, one in opened:
        rows, reasons = predictions_of(ensemble, one, quiet)
        kept, untested = testable(ensemble, rows, alpha)
        parts.append((one.part, ensemble, kept))
        skipped += [*reasons, *(theory.Skipped(id, reason, one.part) for id, reason in untested)]
    points = {one.part: _labels(one) for _, one in opened}
    scenarios = tuple(one for _, one in opened)
    return Report(file, scenario.name, compare_parts(parts, alpha), skipped, alpha, points, scenarios)


def _labels(scenario: Scenario) -> list[str]:
    """Labels of the points of a sweep: what is swept, without the table that it stands in."""
    names = {key: key.rpartition(".")[2] for key in scenario.sweep}
    return [
        ", ".join(f"{names[key]} = {values[point]}" for key, values in scenario.sweep.items())
        for point in range(len(scenario.runs) if names else 0)
    ]


def opened_parts(path: str | Path) -> list[tuple[Ensemble, Scenario]]:
    """Ensemble and scenario of each part of a file; known errors of the file are reported as warnings.

    Raises
    ------
    InputError
        For a file that cannot be read or that sgdsim did not write, or whose scenario cannot be read.
    """
    opened = [(ensemble, _scenario_in(ensemble, part, path)) for part, ensemble in open_parts(path).items()]
    for ensemble, scenario in opened:
        if flaw := known_flaw(ensemble):
            where = f"{path}, part {scenario.part}" if scenario.part else path
            warnings.warn(f"{where}: {flaw}", RuntimeWarning, stacklevel=3)
    return opened


def scenario_of(ensemble: Ensemble, predictions: Sequence[str] = ()) -> Scenario:
    """Scenario of an ensemble in memory; without any prediction it has the laws that are tried on every run."""
    scenario = _scenario_in(ensemble, WHOLE, "the ensemble", predictions)
    if len(scenario.runs) > 1 and "point" not in ensemble.sizes:
        raise InputError("the ensemble: is one point of a sweep, expected the whole sweep")
    if scenario.claims:
        return scenario
    laws = tuple(Claim(theory.LAWS[id], asked=False) for id in theory.AUTOMATIC)
    return replace(scenario, claims=laws)


def _scenario_in(ensemble: Ensemble, part: str, path: str | Path, predictions: Sequence[str] = ()) -> Scenario:
    name = str(ensemble.attributes.get("scenario_name", Path(path).stem))
    if "scenario" not in ensemble.attributes:
        raise InputError(f"{path}: holds no scenario, and so nothing to compare with")
    text = str(ensemble.attributes["scenario"])
    return replace(Scenario.parse(text, name, f"the scenario in {path}", None, predictions), part=part)


def predictions_of(
    ensemble: Ensemble, scenario: Scenario, quiet: bool = False
) -> tuple[list[Prediction], list[theory.Skipped]]:
    """Predictions of laws and user for a scenario, at the requested resolution; and the laws that do not apply.

    Predictions that are kept in the ensemble are not computed again.
    """
    found: list[Prediction] = []
    skipped: list[theory.Skipped] = []
    for claim, told in zip(scenario.claims, told_of(ensemble, scenario, quiet), strict=True):
        found += [
            replace(_resolved(row, claim.resolution), expect=claim.expect, asked=claim.asked) for row in told.rows
        ]
        skipped += [replace(one, part=scenario.part, asked=claim.asked) for one in told.skipped]
    return found, skipped


def _resolved(row: Prediction, resolution: float | str | None) -> Prediction:
    if isinstance(resolution, str):
        resolution = float(resolution.strip().removesuffix("%")) / 100 * abs(row.predicted)
    # A percentage of a predicted zero gives no resolution: such a row keeps its own.
    return replace(row, resolution=resolution) if resolution else row
