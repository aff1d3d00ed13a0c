"""Trajectories that end at their first passage, against NumPy, on every target."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import xarray as xr

from sgdsim.app.verdicts import compare_file
from sgdsim.app.workflow import run_scenario
from sgdsim.base.errors import InputError
from sgdsim.input.scenario import Scenario
from sgdsim.model import rare_events
from sgdsim.model.loss import Loss
from sgdsim.model.noise import Noise
from sgdsim.model.observables import Observable
from sgdsim.model.optimizers import Optimizer
from sgdsim.model.recorder import Drift, Histogram, Recorder
from sgdsim.model.run import Run
from sgdsim.model.schedules import Schedule
from sgdsim.model.starts import Grid
from sgdsim.model.states import State
from sgdsim.prediction import NotApplicable
from sgdsim.simulation.run_loop import simulate_runs
from sgdsim.theory.law import LAWS
from tests import naive

SEED, N, STEPS = 31, 40, 9
WALK = Loss("-(z + a)*x", ("x",), {"a": 0.05}, {"z": Noise.parse("normal")}, states={"trace": State("trace/2 + x")})
BOUNDS = ("x > 1.3", "x**2 > 1.2 + a")  # both may be passed in one step: the first one counts
OBSERVABLES = {
    "sum_x": f"window_sum(x, 0, {STEPS})",
    "made": f"window_sum(learning_rate*z + 0*next(x), 0, {STEPS})",
    "late": "value_at(x, 6)",
    "passage": "first_passage(x < -0.5)",
    "up": "where(stopped_by > 1.5, 0, where(stopped_by > 0.5, 1, 0))",
    "t": "trace",
}


def make(initial: Any = None, stop: tuple[str, ...] = BOUNDS, optimizer: Optimizer | None = None, **others: Any) -> Run:
    observables = tuple(Observable.parse(*item) for item in OBSERVABLES.items())
    recorder = Recorder(every=1, observables=observables, snapshots=(STEPS,))
    start = {"x": Grid.parse("grid:-1,1.4") if initial is None else initial}
    fields = {"recorder": recorder, **others}
    return Run(
        WALK,
        optimizer or Optimizer("momentum", {"momentum": 0.5}),
        Schedule("0.5"),
        start,
        N,
        STEPS,
        SEED,
        stop=stop,
        **fields,
    )


def expected_of(parts: int) -> dict[str, np.ndarray]:
    """All records, (record, trajectory), of the heavy ball that stops."""
    x, trace, velocity = np.linspace(-1, 1.4, N), np.zeros(N), np.zeros(N)
    at, by, sums, made = np.full(N, np.nan), np.zeros(N), np.zeros(N), np.zeros(N)
    late, passage = np.full(N, np.nan), np.full(N, np.nan)
    rows: dict[str, list[np.ndarray]] = {}
    for step, xi in enumerate([None, *naive.gradient_normals(SEED, N, STEPS)]):
        runs = np.isnan(at)
        if xi is not None:
            before = x
            for _ in range(parts):
                velocity = np.where(runs, 0.5 * velocity - (xi + 0.05), velocity)
                x = np.where(runs, x - 0.5 / parts * velocity, x)
            trace = np.where(runs, trace / 2 + before, trace)
            made, sums = made + np.where(runs, 0.5 * xi, 0.0), sums + x
        new = np.where(x > 1.3, 1, np.where(x**2 > 1.25, 2, 0))
        by, at = np.where(runs, new, by), np.where(runs & (new > 0), step, at)
        late = x if step == 6 else late
        passage = np.where(np.isnan(passage) & (x < -0.5), step, passage)
        found = {
            "x": x,
            "sum_x": sums,
            "made": made,
            "late": late,
            "passage": passage,
            "up": 1.0 * (by == 1),
            "t": trace,
        }
        for name, value in {**found, "stopped_at": at, "stopped_by": by}.items():
            rows.setdefault(name, []).append(value)
    return {name: np.array(values) for name, values in rows.items()}


@pytest.mark.parametrize("parts", [1, 3])
def test_a_trajectory_ends_at_its_first_passage_and_stays_there(parts, target):
    """Its moments count on at the value where it stopped; sums over steps end; what it remembers stays as it was."""
    run = make(optimizer=Optimizer("momentum", {"momentum": 0.5}, substeps=parts))
    found = simulate_runs([run], scenario="", device=target)
    expected = expected_of(parts)
    assert {0, 1, 2} == set(expected["stopped_by"][-1])
    np.testing.assert_array_equal(found["stopped_by"], expected["stopped_by"][-1])
    np.testing.assert_array_equal(found["stopped_at"], np.nan_to_num(expected["stopped_at"][-1], nan=-1))
    np.testing.assert_allclose(found["theta"][0, :, 0], expected["x"][-1], atol=1e-6)
    names = [str(name) for name in found["observable"]]
    assert names == ["x", *OBSERVABLES, "stopped_at", "stopped_by"]
    for column, name in enumerate(names):
        np.testing.assert_array_equal(found["count"][:, column], np.isfinite(expected[name]).sum(axis=1), err_msg=name)
        known = (row[np.isfinite(row)] for row in expected[name])
        mean = [row.mean() if len(row) else np.nan for row in known]
        np.testing.assert_allclose(found["mean"][:, column], mean, atol=2e-6, err_msg=name)
    assert not found["status"].any()


def test_a_bound_that_is_never_passed_changes_nothing():
    """Bit by bit, but for the two observables more."""
    runs = [
        Run(WALK, Optimizer("adam"), Schedule("0.5"), {"x": 0.0}, N, STEPS, SEED, Recorder(every=1), stop=stop)
        for stop in ((), ("x > 1e9",))
    ]
    free, bound = (simulate_runs([run], scenario="", device="python") for run in runs)
    np.testing.assert_array_equal(free["mean"], bound["mean"][:, :1])
    assert bound["stopped_by"].tolist() == [0] * N
    assert bound["stopped_at"].tolist() == [-1] * N


def test_a_diverging_trajectory_may_end_before():
    """``x' = 3 x``: what stops at 100 does not diverge, what is not looked at does."""
    loss = Loss("-x**2", ("x",))
    for stop, diverged in ((("x > 100",), 0), (("x < -100",), 1)):
        run = Run(loss, Optimizer(), Schedule("1.0"), {"x": 1.0}, 1, 400, SEED, stop=stop)
        found = simulate_runs([run], scenario="", device="python")
        assert bool(found["status"][0]) == bool(diverged)
        assert found["stopped_by"].tolist() == [1 - diverged]
        assert found["stopped_at"].tolist() == [-1 if diverged else 5]


def ruin(**run: Any) -> dict[str, Any]:
    return {
        "loss": {"formula": "-z*x", "parameters": {"x": 0}, "noise": {"z": "rademacher"}, "constants": {"up": 2.5}},
        "optimizer": {"learning_rate": 1},
        "run": {"trajectories": 20_000, "steps": 200, "stop": ["x > up", "x < -1.5"], **run},
        "record": {"observables": {"won": "where(stopped_by < 1.5, 1, 0)"}},
        "predict": [
            {"formula": "mean(won) = 2/5; resolution=5%"},
            {"formula": "mean(stopped_at) = 2*3; resolution=5%"},
            {"formula": "mean(stopped_by) = 2*3/5 + 2/5; resolution=5%"},
            {"formula": "mean(won) = 1/2", "expect": "disagrees"},
        ],
    }


def test_the_ruin_of_a_gambler(tmp_path):
    """Exit probabilities and mean time of a walk between -2 and 3, as Huygens had them; the scenario has them too."""
    scenario = Scenario.of(ruin(), "ruin", "ruin")
    run_scenario(scenario, tmp_path / "ruin.h5")
    assert [row.outcome for row in compare_file(tmp_path / "ruin.h5").comparisons] == ["agrees"] * 4
    with xr.open_dataset(tmp_path / "ruin.h5") as data:
        assert data["stopped_by"].dims == data["stopped_at"].dims == ("trajectory",)
        up = data["stopped_by"] == 1
        assert float(up.mean()) == pytest.approx(float(data["mean"][-1, 1]))
        assert (data["stopped_at"].where(up, drop=True) >= 3).all()
        assert "1 x > up, 2 x < -1.5" in data["stopped_by"].attrs["long_name"]
    assert Scenario.parse(scenario.toml).runs == scenario.runs


def test_a_bound_makes_what_it_watches_rare():
    """The path of continuous noise is constant in all trajectories or in none; one that may end is so by chance."""
    loss = Loss("x**2/2 + z*x + y*b", ("x", "y"), {"b": 1.0}, {"z": Noise.parse("normal")})
    observables = (Observable("q", "y"),)
    for stop, certain in (((), "x, y, q"), (("x > 9",), ""), (("y > 9",), "x, y, q, stopped_at, stopped_by")):
        run = Run(
            loss,
            Optimizer(),
            Schedule("0.1"),
            {"x": 0.0, "y": 0.0},
            N,
            5,
            0,
            Recorder(observables=observables),
            stop=stop,
        )
        assert rare_events.attributes([run])["certain"] == certain


def test_no_law_speaks_of_trajectories_that_end():
    for law in LAWS.values():
        with pytest.raises(NotApplicable, match=r"trajectories end at x > 1\.3"):
            law.predictions([make()])


@pytest.mark.parametrize(
    ("fields", "problem"),
    [
        ({"stop": ["x"]}, "run.stop: 'x', expected formula > formula, e.g. x > 1"),
        ({"stop": ["x > w"]}, "run.stop: unknown name 'w'"),
        ({"stop": ["x > z"]}, "run.stop: unknown name 'z'"),
        ({"stop": "x > 1"}, 'run.stop: "x > 1", expected a list'),
    ],
)
def test_what_is_no_bound(fields, problem):
    with pytest.raises(InputError) as caught:
        Scenario.of(ruin(**fields), "ruin", "ruin")
    assert problem in str(caught.value)


@pytest.mark.parametrize(
    ("recorder", "problem"),
    [
        (Recorder(drifts={"x": Drift("x", Histogram(-1, 1, 4))}), "record.drift: counts every step, expected none"),
        (Recorder(controls=("x",)), "record.controls: a control runs to the end, expected none"),
        (Recorder(observables=(Observable("stopped_at", "x"),)), "record.observables.stopped_at: the name is already"),
    ],
)
def test_what_cannot_be_recorded_of_trajectories_that_end(recorder, problem):
    with pytest.raises(InputError) as caught:
        make(recorder=recorder)
    assert problem in str(caught.value)
