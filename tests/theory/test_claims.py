"""The user's own predictions: what is read, what is evaluated, and what is refused."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy import stats

from sgdsim.app.verdicts import compare_file
from sgdsim.app.workflow import run_scenario
from sgdsim.base import toml
from sgdsim.base.errors import InputError
from sgdsim.input.file_references import move_files
from sgdsim.input.loading import load_scenario
from sgdsim.input.scenario import Scenario
from sgdsim.model.data import Data
from sgdsim.model.loss import Loss
from sgdsim.model.noise import Noise
from sgdsim.model.observables import Observable
from sgdsim.model.optimizers import Optimizer
from sgdsim.model.recorder import Histogram, Recorder, binned
from sgdsim.model.run import Run
from sgdsim.model.schedules import Schedule
from sgdsim.prediction import Curve, Density, Function, Moment, Quantile, Tail
from sgdsim.theory import Prediction, parse_user_prediction, predict
from sgdsim.theory.methods.normalised_density import NormalisedDensity

LOSS = Loss(
    "a*q**2/2 + s*z*q + b[0]*b[1]*q",
    ("q",),
    {"a": 2.0, "s": 3.0, "b[0]": 4.0, "b[1]": 0.0},
    {"z": Noise.parse("normal")},
)


def make_run(rate: str = "0.1", optimizer: Optimizer | None = None, loss: Loss = LOSS, steps: int = 20) -> Run:
    recorder = Recorder(every=5, observables=(Observable.parse("energy", "a*q**2/2"),))
    return Run(loss, optimizer or Optimizer(), Schedule(rate), {"q": 0.0}, 100, steps, recorder=recorder)


def test_text_and_table_are_the_same_claim() -> None:
    text = parse_user_prediction("mean( energy )= learning_rate*s**2/4 ; order = 1; at=10; resolution=2%", "mine")
    table = parse_user_prediction(
        {"formula": "mean(energy) = learning_rate*s**2/4", "order": 1, "at": 10, "resolution": "2%", "id": "mine"}
    )
    assert text == table
    row = text.predictions([make_run()])[0]
    assert (row.id, row.quantity, row.order, row.point) == ("mine", "mean(energy) at step 10", 1, None)
    assert row.measure == Moment("mean", "energy", 10)
    assert row.predicted == pytest.approx(0.225)
    assert row.resolution == pytest.approx(0.02 * 0.225)
    assert row.small == pytest.approx(0.1)


def test_defaults_are_exact_at_the_last_step() -> None:
    row = parse_user_prediction({"formula": "std(q) = 1", "order": None}).predictions([make_run()])[0]
    assert (row.order, row.measure, row.resolution) == ("exact", Moment("std", "q", 20), None)


def test_names_are_constants_and_what_the_run_is_made_of() -> None:
    run = make_run("0.25", Optimizer("momentum", {"momentum": 0.5}, 4))
    formula = "mean(q) = a + 10*s + 100*b[0] + learning_rate + batch_size + 1000*momentum + 5*steps"
    row = parse_user_prediction(formula).predictions([run])[0]
    assert row.predicted == pytest.approx(2 + 30 + 400 + 0.25 + 4 + 500 + 100)


def test_the_learning_rate_is_that_of_the_step_that_led_there() -> None:
    claim = "mean(q) = learning_rate; at={}"
    run = make_run("linear:1,0")
    values = [parse_user_prediction(claim.format(at)).predictions([run])[0].predicted for at in (0, 5, 20)]
    assert values == pytest.approx([1.0, 0.8, 0.05])


def test_points_of_a_sweep_share_a_series_if_only_the_rate_differs() -> None:
    louder = Loss(LOSS.formula, LOSS.parameters, {**LOSS.constants, "s": 5.0}, LOSS.noise)
    runs = [make_run("0.1"), make_run("0.2"), make_run("0.1", loss=louder)]
    rows, skipped = predict([parse_user_prediction("variance(q) = learning_rate*s**2/4; order=1")], runs)
    assert not skipped
    assert [row.point for row in rows] == [0, 1, 2]
    assert rows[0].series == rows[1].series != rows[2].series
    assert [row.predicted for row in rows] == pytest.approx([0.225, 0.45, 0.625])


def test_points_of_one_time_share_a_series_though_they_differ_in_steps() -> None:
    """A claim of finite order over a fixed time was called one at a single rate, four times."""
    claim = [parse_user_prediction("log(mean(q)) = -learning_rate*time; order=1")]

    def series(*ends: tuple[str, int]) -> list[str]:
        return [row.series for row in predict(claim, [make_run(rate, steps=steps) for rate, steps in ends])[0]]

    assert len({*series(("0.1", 40), ("0.2", 20), ("0.4", 10))}) == 1
    assert len({*series(("0.1", 40), ("0.2", 20), ("0.1", 80), ("0.2", 40))}) == 2
    assert len({*series(("0.1", 40), ("0.2", 40), ("0.1", 80), ("0.2", 80))}) == 2


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("varaince(q) = 1", "did you mean 'variance'"),
        ("variance(q) == 1", r"prediction 'variance\(q\) == 1': "),
        ("variance q = 1", r"expected statistic\(observable\) = formula"),
        ("variance(q) =", r"expected statistic\(observable\) = formula"),
        ("", r"expected statistic\(observable\) = formula"),
        ("variance(q) = 1; ordre=1", "did you mean 'order'"),
        ("variance(q) = 1; order", "expected option=value"),
        ("variance(q) = 1; order=-1", "whole number"),
        ("variance(q) = 1; order=1.5", "whole number"),
        ("variance(q) = 1; at=last", "expected final or a recorded step"),
        ("variance(q) = 1; resolution=0", "positive number"),
        ("variance(q) = 1; resolution=nan", "positive number"),
        ("variance(q) = 1; resolution=much", "positive number"),
        ("variance(q) = (1", r"prediction 'variance\(q\) = \(1': "),
    ],
)
def test_what_cannot_be_read_is_refused(text: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        parse_user_prediction(text)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("variance(engery) = 1", "did you mean 'energy'"),
        ("variance(q) = learning_rat", "did you mean 'learning_rate'"),
        ("variance(q) = z", "unknown"),
        ("variance(q) = 1; at=7", "the nearest that is, is 5"),
        ("variance(q) = 1/b[1]", r"prediction 'variance\(q\) = 1/b\[1\]': "),
        ("variance(q) = log(0)", r"prediction 'variance\(q\) = log\(0\)': "),
    ],
)
def test_what_the_run_does_not_know_is_refused(text: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        parse_user_prediction(text).predictions([make_run()])


def test_a_claim_evaluates_to_a_float() -> None:
    row = parse_user_prediction("kurtosis(q) = 0").predictions([make_run()])[0]
    assert isinstance(row.predicted, float)
    assert np.isfinite(row.predicted)


# Curves, densities, tails, covariances.


RECORDER = Recorder(
    every=5,
    snapshots=(10, 20),
    observables=(Observable.parse("energy", "a*q**2/2"),),
    histograms={"q": Histogram(-4.0, 4.0, 40), "w[1]": Histogram(-4.0, 4.0, 40), "q,w[0]": binned([-1, 1, 2] * 2)},
    covariances=True,
)
VECTOR = Loss("a*q**2/2 + s*z*q + w[0]**2 + w[1]**2", ("q", "w[0]", "w[1]"), LOSS.constants, LOSS.noise)


def full_run(rate: str = "0.1", **constants: float) -> Run:
    loss = Loss(VECTOR.formula, VECTOR.parameters, {**VECTOR.constants, **constants}, VECTOR.noise)
    initial = {"q": 2.0, "w[0]": 0.0, "w[1]": 1.0}
    return Run(loss, Optimizer(), Schedule(rate), initial, 100, 20, recorder=RECORDER)


def claimed(text: str | dict[str, object], *runs: Run) -> list[Prediction]:
    return parse_user_prediction(text).predictions(runs or (full_run(),))


def test_a_covariance_is_of_two_parameters_in_the_order_of_the_record() -> None:
    (row,) = claimed("covariance(w[0], q) = a/4; order=1")
    assert row.measure == Moment("covariance", "q, w[0]", 20)
    assert (row.quantity, row.predicted, row.order) == ("covariance(q, w[0])", 0.5, 1)


def test_a_curve_over_steps_is_one_row_a_point_of_a_sweep() -> None:
    text = "variance(q) = { step = [0, 10, 20], value = [0, 1.5, -2] }; resolution=2%"
    rows = claimed(text, full_run("0.1"), full_run("0.2"))
    assert [row.point for row in rows] == [0, 1]
    assert rows[0].quantity == "variance(q) over step"
    moments = tuple(Moment("variance", "q", step) for step in (0, 10, 20))
    assert rows[0].measure == Curve(moments, (0.0, 1.5, -2.0))
    assert rows[0].resolution == pytest.approx(0.04)
    table = {"formula": "variance(q) = value", "curve": {"step": [0, 10, 20], "value": [0.0, 1.5, -2.0]}}
    assert parse_user_prediction({**table, "resolution": "2%"}) == parse_user_prediction(text)


@pytest.mark.parametrize("key", ["learning_rate", "optimizer.learning_rate"])
def test_a_curve_over_a_sweep_is_one_row(key: str) -> None:
    """Its rows may stand in any order, and leave out points."""
    runs = [full_run(rate) for rate in ("0.1", "0.2", "0.3")]
    (row,) = claimed({"formula": "mean(q) = value; at=10", "curve": {key: [0.3, 0.1], "value": [3, 1]}}, *runs)
    assert row.point is None
    assert row.measure == Curve((Moment("mean", "q", 10, 2), Moment("mean", "q", 10, 0)), (3.0, 1.0))
    assert row.quantity == f"mean(q) over {key} at step 10"


def test_constants_and_starts_may_be_swept() -> None:
    runs = [full_run(s=value) for value in (1.0, 1.0, 2.0)]
    (row,) = claimed('mean(q) = { "loss.constants.s" = [1.0, 2.0], value = [5.0, 6.0] }', *runs)
    assert isinstance(row.measure, Curve)
    assert [(moment.point, value) for moment, value in zip(row.measure.moments, row.measure.values, strict=True)] == [
        (0, 5.0),
        (1, 5.0),
        (2, 6.0),
    ]
    (row,) = claimed("mean(q) = { run.initial.q = [2], value = [7] }".replace("run.initial.q", '"run.initial.q"'))
    assert row.measure == Curve((Moment("mean", "q", 20),), (7.0,))


def test_a_density_is_normalised_over_the_whole_line() -> None:
    rows = claimed("density(q) = exp(-q**2/(2*a)); at=10; resolution=2%", full_run(a=4.0), full_run(a=9.0))
    for row, std in zip(rows, (2.0, 3.0), strict=True):
        assert isinstance(row.measure, Density)
        assert (row.measure.observable, row.measure.step, row.resolution) == ("q", 10, 0.02)
        points = np.array([1.0, -7.5, 0.0])
        assert row.measure.cdf(points) == pytest.approx(stats.norm.cdf(points, 0, std), abs=1e-9)
    (row,) = claimed("density(w[1]) = where(w[ 1 ] > 0, exp(-w[1]), 0)")
    assert isinstance(row.measure, Density)
    assert row.measure.cdf(np.array([0.0, 1.0])) == pytest.approx([0.0, 1 - np.exp(-1)], abs=1e-9)


@pytest.mark.parametrize(
    ("formula", "law"),
    [
        ("1/(1 + x**2)", stats.cauchy),
        ("(1 + x**2/1.5)**(-1.25)", stats.t(1.5)),
        ("exp(-(x - 50)**2/2)", stats.norm(50)),
        ("exp(-x**2/2e-10)", stats.norm(0, 1e-5)),
        ("where(x > 0.3, exp(0.3 - x), 0)", stats.expon(0.3)),
        ("where(x > 0, exp(-x)/sqrt(abs(x)), 0)", stats.gamma(0.5)),
        ("where(abs(x) < 2, 7, 0)", stats.uniform(-2, 4)),
    ],
)
def test_densities_have_the_distribution_functions_of_scipy(formula: str, law: Any) -> None:
    """Also far outside of the bins, much narrower than one, with slow tails, jumps and a pole."""
    points = np.linspace(-4.0, 4.0, 41)
    assert NormalisedDensity(formula, "x").cdf(points) == pytest.approx(law.cdf(points), abs=1e-9)


@pytest.mark.parametrize(
    ("formula", "message"),
    [
        ("1 - x**2", "is -15 at x = -4"),
        ("1/(1 + abs(x))", "cannot be integrated"),
        ("1", "cannot be integrated"),
        ("where(x > 0, 1/x, 0)", "density"),
        ("where(abs(x - 0.7) > 0, 1/(x - 0.7)**2, 0)", "density"),
        ("exp(x)", "expected a density on the whole line"),
        ("sqrt(x)*exp(-x)", "expected a density on the whole line"),
        ("0*x", "zero everywhere"),
    ],
)
def test_what_is_no_density_is_refused(formula: str, message: str) -> None:
    with pytest.raises(InputError, match=re.escape(message)):
        NormalisedDensity(formula, "x").cdf(np.linspace(-4.0, 4.0, 41))


def test_a_tail_is_of_a_snapshot() -> None:
    (row,) = claimed("tail(w[1]) = 1 + b[0]/8; at=10; fraction=0.01")
    assert (row.measure, row.predicted, row.resolution) == (Tail("w[1]", 10, 0.01), 1.5, None)
    assert claimed("tail(q) = 2.5")[0].measure == Tail("q", 20, 0.001)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("covarience(q, w[0]) = 1", "did you mean 'covariance'"),
        ("desnity(q) = exp(-q**2)", "did you mean 'density'"),
        ("covariance(q) = 1", "covariance(u, w) of two parameters"),
        ("covariance(q, q) = 1", "covariance(u, w) of two parameters"),
        ("mean(q, w[0]) = 1", "others of one name"),
        ("mean(q) = file:curve.csv", "files are read where a scenario is"),
        ("mean(q) = { step = [0] }", "expected { step = […], value = […] }"),
        ("mean(q) = { step = [0], eta = [0], value = [1] }", "expected { step = […], value = […] }"),
        ("mean(q) = { step = [0], value = [1", "expected { step = […], value = […] }"),
        ("mean(q) = { step = [], value = [] }", "expected a list of finite numbers"),
        ("mean(q) = { step = [0], value = [nan] }", "value of the curve, expected a list of finite numbers"),
        ("mean(q) = { step = [0, 10], value = [1] }", "2 of step and 1 values"),
        ("mean(q) = { step = [0, 10, 0], value = [1, 2, 3] }", "row 3 of the curve: step = 0 stands there twice"),
        ("mean(q) = { step = [0.5], value = [1] }", "expected a whole number from 0"),
        ("mean(q) = { step = [0], value = [1] }; at=10", "which has its own"),
        ("mean(q) = { step = [0], value = [1] }; order=1", "expected only of a number or formula"),
        ("density(q) = { step = [0], value = [1] }", "expected a formula"),
        ("density(q) = exp(-q**2); order=2", "expected only of a number or formula"),
        ("tail(q) = 2; fraction=0", "expected a number between 0 and 1"),
        ("tail(q) = 2; fraction=1", "expected a number between 0 and 1"),
        ("mean(q) = 2; fraction=0.1", "expected only of a tail"),
        ("tail(q) = 2; fractoin=0.1", "did you mean 'fraction'"),
    ],
)
def test_what_is_no_claim_of_its_form_is_refused(text: str, message: str) -> None:
    with pytest.raises(InputError, match=re.escape(message)):
        parse_user_prediction(text)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("covariance(q, energy) = 1", "unknown parameter 'energy'"),
        ("covariance(q, w[2]) = 1", "did you mean 'w[1]'"),
        ("tail(energy) = 2", "unknown parameter 'energy'"),
        ("tail(q) = 2; at=5", "needs a snapshot at step 5: record.snapshots, or --snapshot 5"),
        ("tail(q) = -2", "expected a positive exponent"),
        ("density(energy) = exp(-energy)", "--histogram energy:LOW,HIGH,BINS"),
        ("density(q) = exp(-p**2)", "unknown name 'p'"),
        ("density(q) = q", "is -"),
        ("density(q) = exp(-q**2); at=7", "the nearest that is, is 5"),
        ("mean(q) = { step = [0, 7], value = [1, 2] }", "the nearest that is, is 5"),
        ("mean(q) = { learning_rat = [0.1], value = [1] }", "did you mean 'learning_rate'"),
        (
            "mean(q) = { learning_rate = [0.1, 0.4], value = [1, 2] }",
            "row 2 of the curve: no point has learning_rate = 0.4, but 0.1",
        ),
    ],
)
def test_what_the_run_cannot_be_held_against_is_refused(text: str, message: str) -> None:
    with pytest.raises(InputError, match=re.escape(message)):
        claimed(text)


def test_covariances_and_snapshots_have_to_be_recorded() -> None:
    bare = Run(VECTOR, Optimizer(), Schedule("0.1"), full_run().initial, 100, 20)
    for text, message in (
        ("covariance(q, w[0]) = 1", "record.covariances = true, or --covariances"),
        ("tail(q) = 1", "--snapshot final"),
        ("density(w[1]) = exp(-w[1]**2)", "record.histograms"),
    ):
        with pytest.raises(InputError, match=re.escape(message)):
            claimed(text, bare)


# Curves in files.


def scenario(tmp_path: Path, claim: str, **sections: Any) -> Scenario:
    data = {
        "loss": {"formula": "(q - z)**2/2", "parameters": {"q": 0.0}, "noise": {"z": "normal"}},
        "optimizer": {"learning_rate": 0.5},
        "run": {"trajectories": 512, "steps": 4},
        "record": {"every": 1, "histograms": {"q": [-3.0, 3.0, 12]}, "snapshots": ["final"]},
        "predict": [{"formula": claim}],
        **sections,
    }
    path = tmp_path / "trap.toml"
    path.write_text(toml.dumps(data), encoding="utf-8")
    return load_scenario(path)


def test_a_result_needs_no_other_file_than_its_own(tmp_path: Path) -> None:
    """Variance 1/3 (1 - 4^-t) of the trap, from a file that is gone when the verdict is asked for."""
    curve = tmp_path / "curve.csv"
    steps = range(1, 5)
    curve.write_text("step,value\n" + "".join(f"{t},{(1 - 0.25**t) / 3}\n" for t in steps), encoding="utf-8")
    one = scenario(tmp_path, "variance(q) = file:curve.csv; resolution=50%")
    assert "file:" not in one.toml
    assert "{ step = [1.0, 2.0, 3.0, 4.0], value = [0.25, 0.3125," in one.data["predict"][0]["formula"]
    assert one.data["predict"][0]["formula"].endswith("; resolution=50%")
    curve.unlink()
    wrong = [one.data["predict"][0], {"formula": "variance(q) = { step = [1, 2], value = [0.25, 0.5] }"}]
    run_scenario(replace(one, data={**one.data, "predict": wrong}), tmp_path / "trap.h5", device="python")
    rows = compare_file(tmp_path / "trap.h5").comparisons
    assert [row.statistic for row in rows] == ["curve", "curve"]
    assert rows[0].p > 1e-3
    assert rows[1].verdict in ("disagrees", "inconclusive")
    assert rows[1].z < -5
    assert "furthest off at step 2, of 2 points" in rows[1].note


def test_a_density_and_a_tail_are_held_against_what_was_recorded(tmp_path: Path) -> None:
    """The law after 4 steps is normal; each claim beside one of half or twice its width."""
    variance = (1 - 0.25**4) / 3
    claims = [f"density(q) = exp(-q**2/(2*{variance * factor}))" for factor in (1, 4)]
    run = {"trajectories": 2048, "steps": 4}  # below a thousand nothing is decided
    one = scenario(tmp_path, claims[0], run=run, predict=[{"formula": claim} for claim in claims])
    run_scenario(one, tmp_path / "trap.h5", device="python")
    right, wrong = compare_file(tmp_path / "trap.h5").comparisons
    assert (right.verdict, wrong.verdict) == ("inconclusive", "disagrees")
    assert right.p > 1e-3
    assert "times the trajectories would decide" in right.note


def test_paths_of_curves_lead_to_the_same_file_from_elsewhere() -> None:
    claim = "mean(q) = file:curves/mean.csv; at=10"
    moved = move_files({"predict": [{"id": "valley"}, {"formula": claim}]}, "/home/a", "/home/b")
    assert moved["predict"][1]["formula"] == "mean(q) = file:../a/curves/mean.csv; at=10"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "line 1: '', expected a first line step,value"),
        ("step,value\n", "no rows"),
        ("step;value\n0;1\n", "line 1: 'step;value', expected a first line step,value"),
        ("step,size\n0,1\n", "line 1, column 2: 'step,size', expected"),
        ("value,step\n0,1\n", "line 1, column 1: 'value,step', expected"),
        ("step,value\n0,1\n10\n", "row 2 (line 3): 1 cell, expected 2"),
        ("step,value\n0,1\n10,two\n", "row 2 (line 3), column 'value': 'two', expected a finite number"),
        ("step,value\n,1\n", "row 1 (line 2), column 'step': the value is missing"),
        ("step,value\n0,1\n0,2\n", "row 2 of the curve: step = 0 stands there twice"),
    ],
)
def test_curves_that_cannot_be_read_are_refused(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "curve.csv").write_text(text, encoding="utf-8")
    with pytest.raises(InputError, match=re.escape(message)):
        scenario(tmp_path, "variance(q) = file:curve.csv")


def test_a_file_that_is_not_there_is_named_with_its_claim(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"predict\[0\]\.formula: .*curve\.csv: no such file"):
        scenario(tmp_path, "variance(q) = file:curve.csv")


def test_a_curve_over_a_sweep_comes_from_a_file(tmp_path: Path) -> None:
    (tmp_path / "curve.csv").write_text("optimizer.learning_rate,value\n0.5,0.3\n1,1\n", encoding="utf-8")
    one = scenario(tmp_path, "variance(q) = file:curve.csv", sweep={"optimizer.learning_rate": [0.25, 0.5, 1.0]})
    (row,) = one.claims[0].source.predictions(one.runs)
    assert isinstance(row.measure, Curve)
    assert [moment.point for moment in row.measure.moments] == [1, 2]


# Bounds, and tolerances.


def test_a_bound_allows_all_on_its_side() -> None:
    (below,) = parse_user_prediction("mean(q) < 1/learning_rate").predictions([make_run()])
    assert (below.quantity, below.predicted, below.allowed) == ("mean(q) < 1/learning_rate", 10.0, (np.inf, 0.0))
    assert (below.nearest(-5.0), below.nearest(11.0)) == (-5.0, 10.0)
    (above,) = parse_user_prediction("variance(q) >= 2; at=10").predictions([make_run()])
    assert (above.quantity, above.allowed, above.nearest(1.0)) == ("variance(q) at step 10 > 2", (0.0, np.inf), 2.0)


def test_a_tolerance_is_a_number_or_a_part_of_the_prediction() -> None:
    (row,) = parse_user_prediction("mean(q) = -4; tolerance=0.5%").predictions([make_run()])
    assert row.allowed == pytest.approx((0.02, 0.02))
    assert row.resolution == pytest.approx(0.02)
    (row,) = parse_user_prediction({"formula": "mean(q) = 4", "tolerance": 0.1, "resolution": 1}).predictions(
        [make_run()]
    )
    assert (row.allowed, row.resolution) == ((0.1, 0.1), 1.0)


@pytest.mark.parametrize(
    ("claim", "message"),
    [
        ("mean(q) = 1; tolerance=0", "tolerance '0', expected a positive number or a percentage"),
        ("mean(q) = 1; tolerance=x%", "tolerance 'x%', expected a positive number or a percentage"),
        ("mean(q) = 1; tolerence=1%", "unknown option 'tolerence': did you mean 'tolerance'?"),
        ("mean(q) < 1; tolerance=1%", "tolerance=1% of a bound, expected only of an exact number, formula or curve"),
        (
            "mean(q) = 1; tolerance=1%; order=2",
            "tolerance=1% of a formula of order 2, expected only of an exact number",
        ),
        ("mean(q) < 1; order=2", "< of a formula of order 2, expected only of an exact number or formula"),
        ("density(q) > exp(-q**2)", "> of a density, expected only of an exact number or formula"),
        (
            "mean(q) < { step = [0, 5], value = [1.0, 2.0] }",
            "< of a curve, expected only of an exact number or formula",
        ),
        ("mean(q) <", "'mean(q) <': expected statistic(observable) = formula"),
    ],
)
def test_bounds_and_tolerances_that_are_refused(claim: str, message: str) -> None:
    with pytest.raises(InputError, match=re.escape(message)):
        parse_user_prediction(claim)


def test_verdicts_of_bounds_and_tolerances(tmp_path: Path) -> None:
    """A quarter of a million trajectories: the variance 1/19 = 0.0526 is known to 0.3 %, and 1/20 is 5 % off."""
    claims = {
        "variance(x) < 0.06": "agrees",
        "variance(x) < 0.0526315; resolution=3%": "agrees",  # it is the bound itself, but for chance
        "variance(x) < 0.0526316": "inconclusive",
        "variance(x) < 0.05": "disagrees",
        "variance(x) > 0.05": "agrees",
        "variance(x) > 0.06": "disagrees",
        "variance(x) > 0": "agrees",
        "variance(x) = learning_rate/2": "disagrees",
        "variance(x) = learning_rate/2; tolerance=8%": "agrees",
        "variance(x) = learning_rate/2; tolerance=2%": "disagrees",
        "mean(y) = exp(-learning_rate*steps)": "disagrees",  # y has no noise: 0.9**60
        "mean(y) = 0.9**60*(1 + 1e-9)": "disagrees",
        "mean(y) = 0.9**60*(1 + 1e-9); tolerance=1e-6%": "agrees",
        "mean(y) < 0.002": "agrees",
        "mean(y) > 0.002": "disagrees",
        "variance(x) = { step = [30, 60], value = [0.05, 0.05] }": "disagrees",
        "variance(x) = { step = [30, 60], value = [0.05, 0.05] }; tolerance=8%": "agrees",
        "variance(x) = { step = [30, 60], value = [0.05, 0.05] }; tolerance=2%": "disagrees",
        "mean(y) = { step = [0, 30, 60], value = [1, 0.0424, 0.0018] }; tolerance=0.001": "agrees",
        "mean(y) = { step = [0, 30, 60], value = [1, 0.0440, 0.0018] }; tolerance=0.1%": "disagrees",
    }
    text = (
        '[loss]\nformula = "x**2/2 + y**2/2 + z*x"\nparameters = { x = 0.0, y = 1.0 }\nnoise = { z = "normal" }\n'
        "[optimizer]\nlearning_rate = 0.1\n[run]\ntrajectories = 250_000\nsteps = 60\n[record]\nevery = 30\n"
    )
    text += "".join(f'[[predict]]\nformula = "{claim}"\n' for claim in claims)
    run_scenario(Scenario.parse(text), tmp_path / "run.h5")
    found = compare_file(tmp_path / "run.h5")
    assert {claim: row.verdict for claim, row in zip(claims, found.comparisons, strict=True)} == claims, found.table()
    assert "expected at most 0.06" in found.table()


# Functions of statistics, quantiles, slopes over a sweep, and means over the noise.


def bowl(**sections: Any) -> Scenario:
    """Variance ``rate/(2 - rate)*(1 - (1 - rate)**(2*steps))`` of x, a normal law, beside a y without noise."""
    data = {
        "loss": {
            "formula": "x**2/2 + (y - 1)**2/2 + z*x",
            "parameters": {"x": 0.0, "y": 0.0},
            "constants": {"c": 3.0},
            "noise": {"z": "normal"},
        },
        "optimizer": {"learning_rate": 0.1},
        "run": {"trajectories": 250_000, "steps": 60},
        "record": {"snapshots": ["final"], "covariances": True, "observables": {"grown": "exp(x)", "both": "x + y"}},
        **sections,
    }
    return Scenario.parse(toml.dumps(data))


def verdicts(claims: dict[str, str], path: Path, **sections: Any) -> None:
    predict = [{"formula": claim} for claim in claims]
    run_scenario(bowl(predict=predict, **sections), path)
    found = compare_file(path)
    assert {claim: row.verdict for claim, row in zip(claims, found.comparisons, strict=True)} == claims, found.table()


def test_verdicts_of_functions_of_statistics(tmp_path: Path) -> None:
    """A variance known to 0.3 %; each true claim beside one that is a few percent off."""
    variance = "learning_rate/(2 - learning_rate)*(1 - (1 - learning_rate)**(2*steps))"
    verdicts(
        {
            f"variance(x)/mean(y)**2 = {variance}/(1 - (1 - learning_rate)**steps)**2; resolution=3%": "agrees",
            f"variance(x)/mean(y)**2 = {variance}; resolution=3%": "agrees",  # but for 0.4 %, which is not seen
            f"variance(x)/mean(y)**2 = 1.03*{variance}": "disagrees",
            f"c*variance(x) - variance(both)/std(x) = c*{variance} - sqrt({variance}); resolution=3%": "agrees",
            "log(mean(grown)) - mean(x) > 0": "agrees",
            "log(mean(grown)) - mean(x) < 0": "disagrees",
            f"log(mean(grown)) - mean(x) = {variance}/2; resolution=3%": "agrees",
            "median(x) = 0; resolution=0.01": "agrees",
            "median(x) = 0.01": "disagrees",
            f"quantile(x, 0.9) = 1.2815515655*sqrt({variance}); resolution=2%": "agrees",
            "quantile(x, 0.9)/std(x) = 1.2815515655; resolution=2%": "agrees",
            "quantile(x, 0.9)/std(x) = 1.25; resolution=2%": "disagrees",
            "(quantile(x, 0.75) - quantile(x, 0.25))/std(x) = 1.3489795; resolution=2%": "agrees",
            "median(y) = 1 - (1 - learning_rate)**steps": "agrees",  # all the same
            "median(y) = 1": "disagrees",
            f"variance(x) = {variance}*expect(z**2); resolution=3%": "agrees",
            f"variance(x) = {variance}*expect(z**4)": "disagrees",
        },
        tmp_path / "run.h5",
    )


def test_verdicts_of_slopes_over_a_sweep(tmp_path: Path) -> None:
    """Of log(rate/(2 - rate)) over log(rate), by NumPy's fit; a power law of exponent 1 is 2.6 % off."""
    rates = [0.05, 0.1, 0.2]
    exponent = np.polyfit(np.log(rates), [np.log(rate / (2 - rate)) for rate in rates], 1)[0]
    verdicts(
        {
            "slope(variance(x), learning_rate/(2 - learning_rate)) = 1; resolution=5%": "agrees",
            f"slope(log(variance(x)), log(learning_rate)) = {exponent:.9f}; resolution=3%": "agrees",
            "slope(log(variance(x)), log(learning_rate)) = 1": "disagrees",
            f"slope(log(std(x)), log(learning_rate))*2 = {exponent:.9f}; resolution=3%": "agrees",
            "slope(std(x), quantile(x, 0.9)) = 1/1.2815515655; resolution=5%": "agrees",
            "slope(std(x), quantile(x, 0.9)) = 1/1.2": "disagrees",
        },
        tmp_path / "sweep.h5",
        sweep={"optimizer.learning_rate": rates},
        run={"trajectories": 100_000, "steps": 150},
    )


def test_a_function_speaks_of_each_point_of_a_sweep() -> None:
    (first, second) = claimed("a*variance(q)/mean(energy) = learning_rate; order=1", full_run(), full_run("0.2"))
    assert (first.point, second.point, first.predicted, second.predicted) == (0, 1, 0.1, 0.2)
    assert isinstance(first.measure, Function)
    assert first.measure.moments == (Moment("variance", "q", 20), Moment("mean", "energy", 20))
    assert first.measure.function(np.array([1.0, 2.0]), np.array([4.0, 0.5])).tolist() == [0.5, 8.0]
    assert (first.quantity, first.small) == ("a*variance(q)/mean(energy)", 0.1)


NORMALS = {f"x[{i}]": Noise.parse("normal") for i in range(2)}
LAYERS = Loss("norm2(W@x - x)/2", ("W[2,2]",), {"V": [[1.0, 0.5], [0.5, 2.0]]}, NORMALS)
GAIN = Observable.parse("gain", "window_sum(next(W) - W, 0, 9)")
KERNEL = Recorder(observables=(Observable.parse("K", "W@W.T"), GAIN))


def test_a_statistic_of_a_matrix_is_that_of_its_entries() -> None:
    run = Run(LAYERS, Optimizer(), Schedule("0.1"), dict.fromkeys(LAYERS.parameters, 0.0), 1000, 20, recorder=KERNEL)
    text = "cka(mean(W), mean(K), V) + sum(variance(gain)) + mean(K[0,1])*std(W[1,1])"
    (row,) = parse_user_prediction(f"{text} = 1").predictions([run])
    assert isinstance(row.measure, Function)
    keys = [f"[{i},{j}]" for i in (0, 1) for j in (0, 1)]
    kinds = {"W": "mean", "K": "mean", "gain": "variance"}
    moments = [Moment(kind, f"{name}{key}", 20) for name, kind in kinds.items() for key in keys]
    assert row.measure.moments == (*moments, Moment("std", "W[1,1]", 20))
    values = np.random.default_rng(2).uniform(size=(13, 5))
    expected = []
    for w, k, gain, std in zip(values[:4].T, values[4:8].T, values[8:12].T, values[12], strict=True):
        root = np.linalg.cholesky([[1.0, 0.5], [0.5, 2.0]])
        a, b = (root.T @ one.reshape(2, 2).T @ one.reshape(2, 2) @ root for one in (w, k))
        expected.append((a * b).sum() / np.linalg.norm(a) / np.linalg.norm(b) + gain.sum() + k[1] * std)
    np.testing.assert_allclose(row.measure.function(*values), expected, rtol=1e-12)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("mean(K) = 1", "K is no number, expected an entry, such as mean(K[0,0])"),
        ("2*mean(K) = 1", "a matrix of 2 by 2 numbers\n  2*mean(K)"),
        ("dot(mean(K), mean(W)[0]) = 1", "shapes [2,2] and [2] do not fit"),
        ("median(W) = 1", "W is no number, expected an entry, such as quantile(W[0,0])"),
        ("trace(mean(L)) = 1", "unknown observable 'L'"),
        ("trace(mean(K[0,0])) = 1", "not a square matrix, but a number\n  trace(mean(K[0,0]))"),
    ],
)
def test_statistics_of_matrices_are_checked_before_the_run(text: str, message: str) -> None:
    run = Run(LAYERS, Optimizer(), Schedule("0.1"), dict.fromkeys(LAYERS.parameters, 0.0), 1000, 20, recorder=KERNEL)
    with pytest.raises(InputError, match=re.escape(message)):
        parse_user_prediction(text).predictions([run])


def test_verdicts_of_kernels(tmp_path: Path) -> None:
    """Means that are known: of W each row shrinks by 1 - rate, of W W.T it has a variance besides."""
    text = """
[loss]
formula = "norm2(W)/2 + dot(W[0], z)"
parameters = { "W[2,2]" = [[1, 2], [0, 1]] }
noise = { "z[2]" = "normal" }
[optimizer]
learning_rate = 0.5
[run]
trajectories = 200_000
steps = 2
[record]
observables = { K = "W@W.T" }
"""
    data = toml.loads(text, "text")
    w, extra = np.array([[1.0, 2.0], [0.0, 1.0]]) / 4, 2 * (0.5**2 + 0.25**2)
    k = w @ w.T + np.diag([extra, 0.0])
    cosine = float((k * w).sum() / np.linalg.norm(k) / np.linalg.norm(w))
    claims = {
        f"alignment(mean(K), mean(W)) = {cosine!r}; resolution=2%": "agrees",
        f"alignment(mean(K), mean(W)) = {1.03 * cosine!r}": "disagrees",
        f"trace(mean(K)) = {float(np.trace(k))!r}; resolution=2%": "agrees",
    }
    data["predict"] = [{"formula": claim} for claim in claims]
    run_scenario(Scenario.parse(toml.dumps(data)), tmp_path / "kernels.h5")
    found = compare_file(tmp_path / "kernels.h5")
    assert {claim: row.verdict for claim, row in zip(claims, found.comparisons, strict=True)} == claims, found.table()


def test_a_slope_is_that_of_least_squares() -> None:
    rates = ["0.1", "0.2", "0.4", "0.5"]
    (row,) = claimed("1 + slope(mean(q)**2 + a, 3*learning_rate) = s; at=10", *map(full_run, rates))
    assert (row.point, row.predicted, row.quantity) == (
        None,
        3.0,
        "1 + slope(mean(q)**2 + a, 3*learning_rate) at step 10",
    )
    assert isinstance(row.measure, Function)
    assert row.measure.moments == tuple(Moment("mean", "q", 10, point) for point in range(4))
    values = np.random.default_rng(1).normal(size=(4, 7))
    fits = [np.polyfit([3 * float(rate) for rate in rates], column**2 + 2, 1)[0] for column in values.T]
    np.testing.assert_allclose(row.measure.function(*values), 1 + np.array(fits), rtol=1e-12)
    np.testing.assert_allclose(row.measure.function(*values[:, 0]), 1 + fits[0], rtol=1e-12)


def test_points_of_a_slope_may_end_at_steps_of_their_own() -> None:
    """Runs of one time at several rates: each point is read at its own end, which said too many values to unpack."""
    longer = replace(full_run("0.1"), steps=60)
    (row,) = claimed("slope(mean(q), learning_rate*steps) = 1", longer, full_run("0.2"))
    assert isinstance(row.measure, Function)
    assert row.measure.moments == (Moment("mean", "q", 60, 0), Moment("mean", "q", 20, 1))
    assert row.measure.function(5.0, 3.0) == pytest.approx((5 - 3) / (6 - 4))


def test_quantiles_are_of_snapshots() -> None:
    (row,) = claimed("median(w[1]) = 0; at=10")
    assert (row.measure, row.quantity) == (Quantile("w[1]", 10, 0.5), "median(w[1]) at step 10")
    (row,) = claimed("quantile(q, 0.9) - median(q) = 1")
    assert isinstance(row.measure, Function)
    assert row.measure.moments == (Quantile("q", 20, 0.9), Quantile("q", 20, 0.5))


@pytest.mark.parametrize(
    ("formula", "value"),
    [
        ("a*expect(z**4) + 1", 7.0),
        ("expect(z)", 0.0),
        ("expect(abs(z)) - sqrt(2/pi)", 0.0),  # a kink
        ("expect(log(1 + (learning_rate*s*z)**2))", 0.0804095087),
        ("expect(log(abs(1 + learning_rate*z)))", -0.0050776417),
        ("expect(learning_rate)*steps", 2.0),
        ("expect(r**2)", 10.0),  # r = 1 + s*z is defined by the loss
    ],
)
def test_means_over_the_noise(formula: str, value: float) -> None:
    """Exact or by quadrature; those of logarithms as SciPy integrates them."""
    loss = Loss(LOSS.formula, LOSS.parameters, LOSS.constants, LOSS.noise, {"r": "1 + s*z"})
    (row,) = parse_user_prediction(f"mean(q) = {formula}").predictions([make_run(loss=loss)])
    assert row.predicted == pytest.approx(value, abs=1e-8)


def test_means_over_the_rows_of_data() -> None:
    data = Data({"y": (1.0, 2.0, 6.0)})
    loss = Loss("a*(q - y)**2/2", ("q",), {"a": 1.0}, data=data)
    (row,) = parse_user_prediction("mean(q) = expect(y**2)/expect(y)").predictions([make_run(loss=loss)])
    assert row.predicted == pytest.approx(41 / 9)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("2 = 2", "'2 = 2': expected statistic(observable) = formula"),
        ("2*learning_rate = 2", "expected statistic(observable) = formula"),
        ("log(2) = 2", "expected statistic(observable) = formula"),
        (
            "variance(q)/maen(q) = 1",
            "unknown statistic 'maen': did you mean 'mean'?\n  variance(q)/maen(q)\n              ^",
        ),
        ("mean(q**2) = 1", "mean(q**2)\n  mean(q**2)\n  ^\nexpected a parameter or the name of a recorded observable"),
        ("quantile(q) = 1", "expected covariance(u, w) of two parameters, quantile(x, 0.9)"),
        ("quantile(q, 1) = 1", "quantile(x, 0.9)"),
        ("2*quantile(q, half) = 1", "quantile(q, half)\n  2*quantile(q, half)\n    ^"),
        ("slope(mean(q)) = 1", "slope(f, g) of two formulas"),
        ("slope(mean(q), slope(mean(q), a)) = 1", "unknown statistic 'slope'"),
        ("mean(q)*slope(mean(q), a) = 1", "mean(q) is of one point, and slope of all"),
        ("2*density(q) = 1", "a density in a formula"),
        ("mean(q)/tail(q) = 1", "a tail in a formula"),
        ("mean(q)**2 = { step = [0], value = [1] }", "a curve of a function, expected a formula"),
        ("median(q) = { step = [0], value = [1] }", "a curve of a quantile, expected a formula"),
        ("slope(mean(q), a) = 1; order=1", "order=1 of a slope, expected only of a number or formula"),
        ("mean(q) = expect(z, z)", "expected expect(formula)"),
        ("mean(q) = exepct(z)", "unknown function 'exepct': did you mean 'expect'?"),
        ("mean(q) = 1 + expect(z", "'(' was never closed"),
    ],
)
def test_functions_that_cannot_be_read_are_refused(text: str, message: str) -> None:
    with pytest.raises(InputError, match=re.escape(message)):
        parse_user_prediction(text)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("variance(q)/mean(engery) = 1", "did you mean 'energy'"),
        (
            "variance(q)/learning_rat = 1",
            "unknown name 'learning_rat': did you mean 'learning_rate'?\n  variance(q)/lear",
        ),
        ("median(energy) = 1", "unknown parameter 'energy'"),
        ("median(q) = 1; at=5", "median(q) needs a snapshot at step 5: record.snapshots, or --snapshot 5"),
        ("slope(mean(q), learning_rate) = 1", "is over the points of a sweep, and this is a single run"),
        ("mean(q) = expect(q*z)", "q has a value of its own in each trajectory\n  expect(q*z)\n  ^\nexpected noise"),
        ("mean(q) = expect(zz)", "prediction 'mean(q) = expect(zz)': expect(zz): unknown name 'zz'"),
        ("mean(q) = expect(exp(z**2))", "prediction 'mean(q) = expect(exp(z**2))': the expectation of exp(z**2)"),
        ("mean(q) = 1/expect(z)", "division by zero\n  1/expect(z)\n   ^"),
    ],
)
def test_functions_that_the_run_does_not_know_are_refused(text: str, message: str) -> None:
    with pytest.raises(InputError, match=re.escape(message)):
        claimed(text, full_run())


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("slope(mean(q), a) = 1", "a is 2 at every point of the sweep, expected what differs"),
        ("slope(mean(q), log(learning_rate - 0.1)) = 1", "log(learning_rate - 0.1)"),
        ("slope(mean(q), learning_rate) = learning_rate", "learning_rate is 0.1, 0.2 at the points of the sweep"),
        ("a*slope(mean(q), learning_rate) = 1", "unknown name 'a'"),
    ],
)
def test_slopes_that_a_sweep_does_not_have_are_refused(text: str, message: str) -> None:
    with pytest.raises(InputError, match=re.escape(message)):
        claimed(text, full_run(), full_run("0.2"))
