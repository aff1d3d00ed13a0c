"""From a scenario to a file and from a file to a verdict: what the commands do, as calls."""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sgdsim import comparison, theory
from sgdsim.comparison import Comparison
from sgdsim.ensemble import Ensemble, check_output
from sgdsim.errors import InputError
from sgdsim.scenario import Scenario
from sgdsim.simulation import output_bytes, simulate_runs


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
        """Whether any prediction was rejected."""
        return any(row.verdict == "disagrees" for row in self.comparisons)

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
    scenario = Scenario.load(source, overrides)
    if predictions:
        scenario = scenario.predicting([{"formula": text} for text in predictions])
    sources = _prediction_sources(scenario)
    laws = [source for source in sources if isinstance(source, theory.Law)]
    scenario = scenario.recording([theory.requirements(laws, run) for run in scenario.runs])
    for source in sources:
        if isinstance(source, theory.UserPrediction):
            source.predictions(scenario.runs)  # a claim that cannot be evaluated is refused now, not after the run
    return scenario


def run_scenario(
    scenario: Scenario,
    path: str | Path,
    *,
    threads: int | None = None,
    target: str = "cpu",
    overwrite: bool = False,
    progress: bool = False,
) -> Ensemble:
    """Simulate a scenario and write its file.

    Parameters
    ----------
    scenario
        As `load_scenario` gives it.
    path
        HDF5 file to write.
    threads, target, progress
        See `simulation.simulate_runs`.
    overwrite
        Whether an existing file may be replaced.

    Raises
    ------
    InputError
        For an output that cannot be written or does not fit, before the run starts.
    """
    check_output(path, overwrite)
    _check_disk(Path(path), output_bytes(scenario.runs))
    ensemble = simulate_runs(
        scenario.runs,
        scenario=scenario.toml,
        common_noise=scenario.common_noise,
        sweep=scenario.sweep or None,
        title=str(scenario.data["title"]),
        threads=threads,
        target=target,
        progress=progress,
    )
    ensemble.save(path, overwrite=overwrite)
    return ensemble


def compare_file(path: str | Path) -> Report:
    """Hold the ensemble in a file against the predictions of its scenario, from the file alone.

    Raises
    ------
    InputError
        For a file that is not ours or cannot be read.
    """
    ensemble = Ensemble.open(path)
    name = Path(path).stem
    scenario = Scenario.parse(str(ensemble.attributes["scenario"]), name, where=f"the scenario in {path}")
    alpha = float(scenario.data["alpha"])
    predictions, skipped = theory.predict(_prediction_sources(scenario), scenario.runs)
    rows = comparison.compare(ensemble, predictions, alpha)
    return Report(os.fspath(path), name, rows, skipped, alpha)


def _prediction_sources(scenario: Scenario) -> list[theory.Law | theory.UserPrediction]:
    """Laws by identifier and the user's claims, numbered in order."""
    sources: list[theory.Law | theory.UserPrediction] = []
    for entry in scenario.data["predict"]:
        if "formula" in entry:
            claims = sum(isinstance(source, theory.UserPrediction) for source in sources)
            sources.append(theory.parse_user_prediction(entry, f"user-{claims + 1}"))
        elif "id" in entry:
            sources.append(theory.law(entry["id"]))
        else:
            raise InputError("predict: an entry needs the id of a law or a formula")
    return sources


def _check_disk(path: Path, required: int) -> None:
    free = shutil.disk_usage(path.resolve().parent).free
    if required > free:
        raise InputError(
            f"{path}: the file needs {required / 1e9:.1f} GB, {free / 1e9:.1f} GB are free: take fewer trajectories, "
            "snapshots or sweep points, or record less often"
        )
