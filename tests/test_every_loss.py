"""Random losses as a user may write them: rows are decided soon, and a fault that was planted is found.

Row by row the identities are tested elsewhere; here the promise is counted, over random losses of up to four
parameters, eleven optimizers, eight families of noise, batches, schedules and weight decay, and over matrices, vectors
and parameters that move by rules of their own.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from sgdsim.app import theory_report
from sgdsim.app.verdicts import compare_file
from sgdsim.input.loading import scenario_from
from sgdsim.simulation.run_loop import simulate_runs
from sgdsim.theory import AUTOMATIC
from tests.every_loss import CAUGHT, SHARE, TRAJECTORIES, Outcome, all_losses, outcomes, tally
from tests.planted_faults import FAULTS
from tests.random_losses import cases


def check(found: Sequence[Outcome], share: float = SHARE, caught: float = CAUGHT) -> None:
    """The promises, where a share of the losses has decided rows and of the faults is caught."""
    broken = [count for count in tally(found, share, caught) if not count.kept]
    assert not broken, broken


@pytest.mark.validate
def test_random_losses_get_decided_rows_and_faults_are_caught(tmp_path: Path) -> None:
    """One of them, to which four of the faults can be done, must do: the share of the thousand is close to one."""
    found = list(outcomes(cases(1, 1, TRAJECTORIES, seed=44), tmp_path / "log"))
    assert len({fault for one in found for fault in one.planted}) >= 3
    check(found, share=1.0, caught=1.0)


def test_outcomes_go_on_where_their_log_ends(tmp_path: Path) -> None:
    log = tmp_path / "log"
    kept = Outcome("kept", 4, {}, 0.5, {"a fault": True})
    log.write_text(kept.line + "\n")
    assert list(outcomes([{}], log)) == [kept]


def test_a_tally_names_what_breaks_a_promise() -> None:
    good = Outcome("good", 4, {}, 0.5, {"a fault": True})
    assert all(count.kept for count in tally([good] * 10))
    for bad in (replace(good, decided=2), replace(good, seconds=6.0), replace(good, planted={"a fault": False})):
        (broken,) = [count for count in tally([good, good, replace(bad, loss="bad")]) if not count.kept]
        assert any("bad" in loss for loss in broken.losses)
    accused = [replace(good, accused={"law: x": 9.0})] * 3
    assert [count.promise for count in tally(accused) if not count.kept] == ["at most 1 accused"]


@pytest.mark.validate
@pytest.mark.parametrize("arrays", [False, True], ids=["losses", "arrays"])
def test_all_random_losses(tmp_path: Path, arrays: bool) -> None:
    """A thousand, and two hundred of matrices, vectors and rules."""
    found = list(outcomes(all_losses(arrays), tmp_path / "log"))
    assert {fault for one in found for fault in one.planted} == set(FAULTS)
    check(found)


@pytest.mark.parametrize("number", [1, pytest.param(10, marks=pytest.mark.validate)])
def test_the_laws_of_a_run_are_told_beforehand(tmp_path: Path, number: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """`sgdsim theory` prints the laws that the table of the run has, what they cost, and why others do not apply."""
    monkeypatch.setattr(theory_report, "SECTIONS", {})  # but the predictions, none of which needs the others
    asked = [{"id": id, "automatic": True} for id in AUTOMATIC]
    for data in cases(number, 1, trajectories=64, seed=37):
        run = {**data["run"], "steps": 20}  # as nothing is compiled
        scenario = scenario_from({**data, "run": run, "record": {}, "predict": asked}, "random", "here")
        printed = theory_report.report_of(scenario)[-1]
        ensemble = simulate_runs(scenario.runs, scenario=scenario.toml, device="python")
        ensemble.save(tmp_path / "run.h5", overwrite=True)
        report = compare_file(tmp_path / "run.h5")
        untold = {row.id for row in report.skipped} - {row.id for row in report.comparisons}
        named = {entry.name.split(":")[0] for entry in printed.entries if ":" in entry.name}
        silent = " ".join(str(entry.value) for entry in printed.entries if not entry.name)
        assert named - untold == {row.id for row in report.comparisons}
        assert all(id in silent for id in set(AUTOMATIC) - named)
        assert printed.entries[-1].name == "seconds that laws take"
