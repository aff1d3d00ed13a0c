"""The points of a sweep, and the tables that they share."""

from __future__ import annotations

import io
import time
from pathlib import Path

import pytest

from sgdsim.base import toml
from sgdsim.base.errors import InputError
from sgdsim.input import runs as runs_of
from sgdsim.input.runs import read_runs
from sgdsim.input.scenario import Scenario
from sgdsim.input.sweep import MOST_POINTS, read_sweep
from sgdsim.model.loss import Loss
from tests.input.valley import DATA


def test_more_points_than_can_be_run_are_counted_before_they_are_made():
    """A grid of 10^18 is refused at once."""
    axis = [float(n) for n in range(10**6)]
    began = time.process_time()
    with pytest.raises(InputError, match=f"sweep: {10**12} points, expected at most {MOST_POINTS}"):
        read_sweep({"grid": {"run.seed": axis, "optimizer.learning_rate": axis}})
    with pytest.raises(InputError, match=f"sweep: {MOST_POINTS + 1} points"):
        read_sweep({"run.seed": list(range(MOST_POINTS + 1))})
    assert time.process_time() - began < 5  # 0.6 s
    assert len(read_sweep({"run.seed": list(range(MOST_POINTS))})["run.seed"]) == MOST_POINTS
    assert read_sweep({}) == read_sweep({"grid": {}}) == {}


def count(monkeypatch: pytest.MonkeyPatch) -> list[Loss]:
    """The losses that are made from now on."""
    made: list[Loss] = []
    check = Loss.__post_init__
    monkeypatch.setattr(Loss, "__post_init__", lambda loss: (made.append(loss), check(loss))[1])
    return made


@pytest.mark.parametrize(
    ("sweep", "losses"),
    [
        ({"optimizer.learning_rate": [0.1, 0.2, 0.3]}, 1),
        ({"loss.constants.a": [1.0, 2.0, 3.0]}, 3),
        ({"grid": {"loss.constants.a": [1.0, 2.0], "optimizer.learning_rate": [0.1, 0.2, 0.3]}}, 2),
        ({"loss.constants.a": [1, 1.0, "1"]}, 2),  # and one that is none
    ],
)
def test_a_table_is_read_once_for_each_of_its_values(sweep, losses, monkeypatch):
    made = count(monkeypatch)
    problems: list[str] = []
    runs, _ = read_runs(DATA, read_sweep(sweep), problems)
    assert len(made) == losses
    assert bool(problems) == (sweep == {"loss.constants.a": [1, 1.0, "1"]})
    assert len({id(run.loss) for run in runs}) == losses


def test_a_large_sweep_is_read_in_little_time():
    """0.3 ms a point; it was 5 when each point read every table."""
    rates = [0.1 + n / 10**6 for n in range(3000)]
    few, many = ({**DATA, "sweep": {"optimizer.learning_rate": rates[:points]}} for points in (30, 3000))
    Scenario.of(few, "few", "here")
    began = time.process_time()
    scenario = Scenario.of(many, "many", "here")
    assert (time.process_time() - began) / 3000 < 2.5e-3
    assert [run.schedule.text for run in scenario.runs[:2]] == ["0.1", "0.100001"]
    assert len(scenario.runs) == 3000


def test_the_problems_of_all_points_are_found_and_few_are_shown():
    data = {**DATA, "sweep": {"optimizer.learning_rate": [-1.0 - n for n in range(1000)]}}
    with pytest.raises(InputError) as refused:
        Scenario.of(data, "bad", "here")
    assert str(refused.value).splitlines()[-1] == "  and 970 more"


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize(("progress", "stream"), [(True, Terminal()), (False, Terminal()), (True, io.StringIO())])
def test_reading_a_sweep_is_shown_to_who_waits_for_it(progress, stream, monkeypatch):
    monkeypatch.setattr("sys.stderr", stream)
    monkeypatch.setattr(runs_of, "_PATIENCE", 0.0)
    data = {**DATA, "sweep": {"run.seed": list(range(50))}}
    Scenario.of(data, "shown", "here", progress=progress)
    assert ("of 50 sweep points" in stream.getvalue()) == (progress and stream.isatty())


def test_files_that_cannot_be_read_hide_no_other_problem():
    """And make none of their own: what should have filled a table is no number either."""
    data = {**DATA, "loss": {**DATA["loss"], "noise": {"p,q": "normal:C.csv"}}, "optimizer": {"learning_rate": -1}}
    with pytest.raises(InputError) as refused:
        Scenario.parse(toml.dumps(data), "mine", "mine.toml", {"run.seed": -1}, (), Path("."))
    first, *rest = [line.strip() for line in str(refused.value).splitlines()[1:]]
    assert first == "loss.noise.p,q: C.csv: no such file"
    assert [line.split(":")[0] for line in rest] == ["optimizer.learning_rate", "run.seed"]
