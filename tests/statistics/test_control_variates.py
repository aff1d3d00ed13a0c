"""Means with controls: regression by groups and by trajectories, honest errors, and what is refused."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from sgdsim import Loss, Noise, simulate
from sgdsim.base.errors import InputError
from sgdsim.ensemble import Ensemble, Variable
from sgdsim.statistics.control_variates import Groups, best_mean, controlled, regression
from sgdsim.statistics.estimate import NotMeasured
from sgdsim.statistics.estimators import statistic
from tests.samples import daily

LOSS = Loss("(u*w - 1 - z)**2/2", ("u", "w"), noise={"z": Noise.parse("normal")})
RUN: dict[str, Any] = {"learning_rate": 0.1, "initial": {"u": 1.6, "w": 0.5}, "steps": 8, "device": "python"}


def grouped(values: np.ndarray, groups: int) -> Groups:
    """Groups of trajectories, from values (variable, trajectory)."""
    parts = [part for part in np.array_split(np.arange(values.shape[1]), groups) if len(part)]
    means = np.stack([values[:, part].mean(axis=1) for part in parts], axis=-1)
    rests = [values[:, part] - means[:, [i]] for i, part in enumerate(parts)]
    within = np.stack([rest @ rest.T for rest in rests], axis=-1)
    return Groups(np.array([len(part) for part in parts], dtype=float), means, within)


def correlated(rng: np.random.Generator, trajectories: int, controls: int = 1) -> np.ndarray:
    """A target of mean 3 with skewed controls and a tenth of noise of its own."""
    known = rng.exponential(size=(controls, trajectories)) - 1.0
    return np.vstack([3.0 + 2.0 * known.sum(axis=0) + 0.1 * rng.normal(size=trajectories), known])


@pytest.mark.parametrize(
    ("controls", "groups", "trajectories"),
    daily(
        [(n, *size) for n in (1, 2) for size in ((64, 960), (61, 1000), (4, 200), (1, 200))],
        (1, 64, 960),
        (2, 4, 200),
        (2, 1, 200),
    ),
)
def test_errors_are_those_of_repetitions(groups, trajectories, controls):
    """500 repetitions: the mean of z^2 has a standard error of 0.065, asked are 0.7 to 1.35, false alarms 1e-5.

    Errors that leave out what the control explains are seen at once, and so would be errors of half the size.
    """
    rng = np.random.default_rng(20250605)
    estimates = [regression(grouped(correlated(rng, trajectories, controls), groups)) for _ in range(500)]
    squares = [((estimate.value - 3.0) / estimate.stderr) ** 2 for estimate in estimates]
    assert 0.7 < np.mean(squares) < 1.35
    assert not 0.7 < np.mean(squares) * 4 < 1.35
    gains = [estimate.gain for estimate in estimates]
    assert np.median(gains) == pytest.approx(400.0 * controls + 1, rel=0.2)
    assert np.median([estimate.coefficients[0] for estimate in estimates]) == pytest.approx(2.0, rel=0.01)


def test_means_of_groups_alone_will_do():
    """Without covariances of trajectories the error is a few percent larger, and as honest."""
    rng = np.random.default_rng(3)
    squares, ratios = [], []
    for _ in range(300):
        known = grouped(correlated(rng, 960), 64)
        alone = regression(Groups(known.count, known.mean))
        squares.append(((alone.value - 3.0) / alone.stderr) ** 2)
        ratios.append(alone.stderr / regression(known).stderr)
        assert alone.freedom == 62
    assert 0.7 < np.mean(squares) < 1.35
    assert 1.0 < np.mean(ratios) < 1.1
    with pytest.raises(NotMeasured, match="fewer than 16 groups"):
        regression(Groups(known.count[:15], known.mean[:, :15]))


def test_a_control_with_another_mean_biases_and_one_without_spread_does_nothing():
    rng = np.random.default_rng(4)
    values = correlated(rng, 6400)
    biased = regression(grouped(values + np.array([[0.0], [0.05]]), 64))
    assert abs(biased.value - 3.0) > 5 * biased.stderr
    constant = regression(grouped(np.vstack([values[0], np.zeros(6400)]), 64))
    plain = grouped(values[:1], 64)
    assert constant.coefficients == (0.0,)
    assert constant.value == pytest.approx(np.average(plain.mean[0], weights=plain.count))
    assert constant.gain == pytest.approx(1.0, rel=1e-3)


def test_empty_groups_do_not_count():
    values = grouped(correlated(np.random.default_rng(5), 640), 20)
    padded = Groups(
        np.append(values.count, 0.0),
        np.pad(values.mean, ((0, 0), (0, 1))),
        np.pad(values.within, [(0, 0)] * 2 + [(0, 1)]),
    )
    assert regression(padded).stderr == regression(values).stderr


# From ensembles.


@pytest.fixture(scope="module")
def ensemble() -> Ensemble:
    return simulate(LOSS, trajectories=300, observables={"q": "u**2 - w**2"}, controls=["q", "u"], every=4, **RUN)


def test_the_file_holds_what_the_function_gives(ensemble, tmp_path):
    ensemble.save(tmp_path / "run.h5")
    again = Ensemble.open(tmp_path / "run.h5")
    assert list(again["controlled"]) == ["q", "u"]
    for i, name in enumerate(again["controlled"]):
        estimate = controlled(again, str(name))
        stored = (again[key][i] for key in ("controlled_mean", "controlled_mean_stderr", "controlled_gain"))
        assert (estimate.value, estimate.stderr, estimate.gain) == pytest.approx(tuple(stored), rel=1e-12)
        plain = statistic(again, "mean", str(name), 8)
        assert estimate.stderr < plain.stderr / 4
        assert abs(estimate.value - plain.value) < 5 * plain.stderr


def test_points_of_a_sweep_have_controls_of_their_own():
    from sgdsim.input.scenario import Scenario
    from sgdsim.simulation.run_loop import simulate_runs

    text = """
        [loss]
        formula = "(u*w - 1 - z)**2/2"
        parameters = { u = 1.6, w = 0.5 }
        noise = { z = "normal" }
        [optimizer]
        learning_rate = 0.1
        [run]
        trajectories = 60
        steps = 6
        [record]
        controls = ["u"]
        [sweep]
        "optimizer.learning_rate" = [0.1, 0.05]
    """
    scenario = Scenario.parse(text)
    swept = simulate_runs(scenario.runs, scenario=scenario.toml, sweep=scenario.sweep, device="python")
    assert swept.variables["controlled_mean"].dimensions == ("point", "controlled")
    for point in range(2):
        assert controlled(swept.select(point), "u").value == pytest.approx(swept["controlled_mean"][point, 0])
    assert all(swept["controlled_gain"] > 20)
    assert Scenario.parse(scenario.toml).runs[0].recorder.controls == ("u",)


def test_controls_of_others_and_several_at_once(ensemble):
    """Both controls for one target: their covariance is not recorded, so with few groups there is no estimate."""
    with pytest.raises(NotMeasured, match="no covariances"):
        controlled(ensemble, "u", ["control_u", "control_q"])
    with pytest.raises(NotMeasured, match="unknown observable 'control_w'"):
        controlled(ensemble, "q", ["control_w"])
    with pytest.raises(NotMeasured, match="'control_w'"):
        controlled(ensemble, "w")
    with pytest.raises(NotMeasured, match="step 3 is none"):
        controlled(ensemble, "q", step=3)


def test_the_best_mean_is_the_controlled_one_where_there_is_one(ensemble):
    assert best_mean(ensemble, "u", 8).value == controlled(ensemble, "u").value
    assert best_mean(ensemble, "w", 8).value == statistic(ensemble, "mean", "w", 8).value
    assert best_mean(ensemble, "u", 4).value == statistic(ensemble, "mean", "u", 4).value
    with pytest.raises(NotMeasured):
        best_mean(ensemble, "u", 3)


def test_with_trajectories_left_out_there_is_no_controlled_mean():
    """A start so far out that a quarter of them diverges: controls have mean zero over all of them only."""
    wild = simulate(
        LOSS, trajectories=40, **{**RUN, "initial": {"u": "uniform:0,8", "w": 4.0}, "steps": 12}, controls=["u"]
    )
    assert 0 < np.count_nonzero(wild["status"]) < 40
    assert np.isnan(wild["controlled_mean"]).all()
    with pytest.raises(NotMeasured, match="left out"):
        controlled(wild, "u")
    assert best_mean(wild, "u", 12).value == statistic(wild, "mean", "u", 12).value


def test_a_file_without_covariances_takes_the_groups():
    rng = np.random.default_rng(6)
    groups = grouped(correlated(rng, 1280), 32)
    sums = {"count": np.tile(groups.count, (2, 1)), "mean": groups.mean, "m2": np.einsum("iig->ig", groups.within)}
    over = ("record", "group", "observable")
    variables = {f"group_{key}": Variable(over, value.T[None]) for key, value in sums.items()}
    variables |= {
        "observable": Variable(("observable",), ["f", "m"]),
        "record_step": Variable(("record",), [9]),
        "excluded": Variable(("record", "observable"), [[0, 0]]),
    }
    estimate = controlled(Ensemble(variables, {}), "f", ["m"])
    assert estimate.value == regression(Groups(groups.count, groups.mean)).value
    assert estimate.gain > 100


def test_what_runs_along_trajectories_has_no_control():
    with pytest.raises(InputError, match=r"record\.controls: late runs along each trajectory"):
        simulate(LOSS, trajectories=4, observables={"late": "window_mean(u, 2, 8)"}, controls=["late"], **RUN)


def test_the_table_of_gains_measures_what_it_says():
    """Small: its linear response is the first order of ours, its control by hand has mean zero and takes most away."""
    from dataclasses import replace

    from benchmarks import variance_reduction as bench
    from sgdsim.simulation.control_weights import weights
    from sgdsim.simulation.run_loop import simulate_runs

    force = bench.rescaling_forces(rate=0.1)[1]
    small = replace(force.run, trajectories=300)
    path = bench._descent(0.1, 10, 1.0)
    with_control = bench._recording(small, controls=("u",))
    linear, form = np.split(weights(with_control)[0, 1:, :-1], [2], axis=1)
    matrix = form[:, [0, 1, 1, 2]].reshape(-1, 2, 2)
    np.testing.assert_allclose(linear + np.einsum("tij,tj->ti", matrix, path[1:]), force.response, atol=1e-12)
    by_hand = bench._recording(small, bench.Observable.parse("by_hand", bench._first_order(force)))
    measured = simulate_runs([by_hand], scenario="", device="python")
    index = list(measured["observable"]).index("by_hand")
    mean, error = measured["mean"][-1, index], measured["mean_stderr"][-1, index]
    assert abs(mean) < 5 * error
    assert np.isfinite(force.simpler)
    gain = bench.Gain("f", "t", -1e-3, 1e-4, 0.1, 12.3, 1e-5)
    assert bench.report([gain]).splitlines()[-1].startswith("| f | t | -0.001 | 0.0001 |")
