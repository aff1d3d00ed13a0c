"""Verdicts: calibrated where the prediction is true, and a rejection of each kind of check where it is not."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import fields, replace

import numpy as np
import pytest
from scipy import stats

from sgdsim.ensemble import Ensemble
from sgdsim.prediction import (
    Condition,
    Correlation,
    Curve,
    Density,
    Distance,
    Function,
    Moment,
    Prediction,
    Rival,
    Tail,
)
from sgdsim.statistics.comparison import Comparison, compare, detectable, holm, two_sided
from sgdsim.statistics.goodness import chi_square, tail
from sgdsim.statistics.scores import straight
from sgdsim.statistics.verdict_table import format_table, to_json
from sgdsim.theory.law import Skipped
from tests.statistics.test_estimators import EDGES, LANES, stacked, synthetic, with_covariance, with_histogram

N = 64 * LANES * 128


def normal_cdf(values: np.ndarray) -> np.ndarray:
    return np.asarray(stats.norm.cdf(values))


def moment(statistic: str, predicted: float, **options: object) -> Prediction:
    return Prediction("user-1", f"{statistic}(x)", Moment(statistic, "x", 0), predicted, **options)  # type: ignore[arg-type]


def one(ensemble: Ensemble, prediction: Prediction) -> Comparison:
    return compare(ensemble, [prediction])[0]


def certain(ensemble: Ensemble) -> Ensemble:
    """Ensemble in which all observables are known to hide no rare events."""
    names = ", ".join(map(str, ensemble["observable"]))
    return Ensemble(ensemble.variables, {**ensemble.attributes, "certain": names, "certain_at_start": names})


def skewed_groups(seed: int, trajectories: int = N) -> np.ndarray:
    """Values whose 64 group means are lognormal, of mean 1 + 0.1*exp(1/8), and little else."""
    rng = np.random.default_rng(seed)
    means = 1.0 + 0.1 * np.exp(0.5 * rng.normal(size=64))
    return np.asarray(means[np.arange(trajectories) // LANES % 64] + 1e-3 * rng.normal(size=trajectories))


@pytest.fixture(scope="module")
def gaussian() -> Ensemble:
    rng = np.random.default_rng(1)
    x = rng.normal(1.0, 2.0, size=N)
    y = 0.6 * x + 0.8 * rng.normal(1.0, 2.0, size=N)
    snapshots = {0: {"x": (x - 1.0) / 2.0}, 1: {"x": x}, 2: {"x": y}, 3: {"x": rng.pareto(2.0, size=N) + 1.0}}
    records = [{"x": x, "y": y, "s": skewed_groups(1)}, {"x": 0.5 * x, "y": y, "s": x}, {"x": 0.01 * x, "y": y, "s": x}]
    ensemble = synthetic(records, record_steps=(0, 5, 10), snapshots=snapshots)
    return with_covariance(with_histogram(ensemble, "x", x, 2.0 * EDGES + 1.0), ("x", "y"), np.array([x, y]))


def normal_cdf_of(mean: float, std: float) -> Callable[[np.ndarray], np.ndarray]:
    return lambda values: np.asarray(stats.norm.cdf(values, mean, std))


VARIANCES = tuple(Moment("variance", "x", step) for step in (0, 5, 10))
TRUE = {
    "mean": moment("mean", 1.0),
    "variance": moment("variance", 4.0),
    "std": moment("std", 2.0),
    "skewness": moment("skewness", 0.0),
    "kurtosis": moment("kurtosis", 0.0),
    "correlation": Prediction("user-1", "correlation", Correlation("x", (1, 2)), 0.6),
    "covariance": Prediction("user-1", "covariance(x, y)", Moment("covariance", "x, y", 0), 2.4),
    "ks": Prediction("user-1", "distribution", Distance("x", 0, normal_cdf), 0.0),
    "ratio": Prediction(
        "user-1", "ratio", Function("ratio", np.divide, (Moment("std", "x", 0), Moment("mean", "x", 0))), 2.0
    ),
    "curve": Prediction("user-1", "variance(x) over step", Curve(VARIANCES, (4.0, 1.0, 4e-4)), 4.0),
    "density": Prediction("user-1", "density(x)", Density("x", 0, normal_cdf_of(1.0, 2.0)), 0.0),
    "tail": Prediction("user-1", "tail(x)", Tail("x", 3, 0.05), 2.0),
    "bootstrap": Prediction("user-1", "mean(s)", Moment("mean", "s", 0), 1.0 + 0.1 * np.exp(0.125)),
}


def _wrong(kind: str, true: Prediction) -> Prediction:
    """By 30 %; by 0.4 where nothing is predicted; a curve by 30 % at one of its points; a law by 30 % of its width."""
    if kind == "ks":
        return replace(true, measure=Distance("x", 0, normal_cdf_of(0.0, 1 / 1.3)))
    if kind == "density":
        return replace(true, measure=Density("x", 0, normal_cdf_of(1.0, 2.0 / 1.3)))
    if kind == "curve":
        return replace(true, measure=Curve(VARIANCES, (4.0, 1.3, 4e-4)))
    return replace(true, predicted=true.predicted * 1.3 + (0.4 if true.predicted == 0 else 0))


WRONG = {kind: _wrong(kind, prediction) for kind, prediction in TRUE.items()}


@pytest.mark.parametrize("kind", TRUE)
def test_a_true_prediction_agrees_where_the_data_suffice(gaussian: Ensemble, kind: str) -> None:
    """False alarm 1e-3 each (fixed seed)."""
    row = one(gaussian, replace(TRUE[kind], resolution=0.3))
    assert row.verdict == "agrees"
    assert row.detectable < 0.3
    assert row.p > 1e-3


@pytest.mark.parametrize("kind", WRONG)
def test_a_wrong_prediction_of_each_kind_is_rejected(gaussian: Ensemble, kind: str) -> None:
    """Negative controls."""
    row = one(gaussian, WRONG[kind])
    assert row.verdict == "disagrees"
    assert row.p_adjusted < 1e-3


def test_a_fine_resolution_is_inconclusive_and_says_what_would_decide(gaussian: Ensemble) -> None:
    row = one(gaussian, moment("mean", 1.0, resolution=0.01))
    assert row.verdict == "inconclusive"
    assert "times the trajectories" in row.note
    assert row.detectable == pytest.approx(detectable(row.stderr, 63, 1e-3), rel=1e-9)


def test_a_deviation_of_the_detectable_size_is_seen_in_nine_of_ten() -> None:
    """Over 2000 means of 64 groups: the power at the stated deviation, within 4 standard errors (0.7 % each)."""
    rng = np.random.default_rng(2)
    level = 0.01
    groups = rng.normal(size=(2000, 64))
    stderr = groups.std(axis=1, ddof=1) / 8
    shift = detectable(1 / 8, 63, level)
    z = (groups.mean(axis=1) + shift) / stderr
    power = np.mean([two_sided(value, 63) < level for value in z])
    assert abs(power - 0.9) < 4 * np.sqrt(0.09 / 2000) + 0.005


def test_a_row_has_the_p_value_whose_calibration_was_tested() -> None:
    rng = np.random.default_rng(4)
    for groups, statistic in ((64, "mean"), (20, "variance")):
        x = rng.normal(size=groups * 32)
        row = one(synthetic([{"x": x}], lanes=32), moment(statistic, 1.0))
        data = x.reshape(groups, 32)
        rest = [np.delete(data, k, axis=0) for k in range(groups)]
        left_out = np.array([r.mean() if statistic == "mean" else r.var(ddof=1) for r in rest])
        stderr = np.sqrt((groups - 1) / groups * np.sum((left_out - left_out.mean()) ** 2))
        z = ((x.mean() if statistic == "mean" else x.var(ddof=1)) - 1.0) / stderr
        # Of a variance, the squared error of the mean is of second order: sqrt(2)/n of it beside sqrt(2/n) in all.
        bent = 0.0 if statistic == "mean" else np.sqrt(2) / x.size * x.var() / stderr
        assert row.z == pytest.approx(z, rel=1e-9)
        assert row.p == pytest.approx(2 * stats.t(groups - 1).sf(abs(straight(z, bent))), rel=0.3 if bent else 1e-7)


RATES = np.array([0.1, 0.2, 0.3, 0.4, 0.6])


def series(order: int, predicted: np.ndarray, rates: np.ndarray = RATES) -> list[Prediction]:
    return [
        moment("mean", float(value), order=order, point=point, small=float(rate))
        for point, (rate, value) in enumerate(zip(rates, predicted, strict=True))
    ]


def measured(truth: np.ndarray, noise: float, seed: int, common: bool = False) -> Ensemble:
    rng = np.random.default_rng(seed)
    size = 64 * 4 * LANES
    noise *= 2.0  # so that errors are those of a quarter as many
    shared = rng.normal(size=size)
    draws = (shared if common else rng.normal(size=size) for _ in truth)
    return stacked([synthetic([{"x": value + noise * draw}]) for value, draw in zip(truth, draws, strict=True)])


@pytest.mark.parametrize("common", [False, True])
def test_an_order_that_holds_agrees_and_reports_the_next_term(common: bool) -> None:
    """mean = eta/2 + eta^2/4, claimed as eta/2 to order 1: false alarm 1e-3 (fixed seed).

    With the noise in common the residuals that are left have none at all, but what rounding makes of it.
    """
    ensemble = measured(RATES / 2 + RATES**2 / 4, 5e-4, seed=6, common=common)
    rows = compare(ensemble, series(1, RATES / 2))
    assert [row.verdict for row in rows] == ["agrees"]
    row = rows[0]
    assert (row.order, row.point, row.predicted) == (1, None, 0.0)
    assert row.resolution == pytest.approx(0.005)
    assert row.detectable < row.resolution
    c = re.match(r"c = (\S+) ± (\S+);", row.note)
    assert c is not None
    assert abs(float(c[1]) - 0.25) < 4 * float(c[2])
    assert "chi-square" in row.note


def test_a_wrong_coefficient_of_the_claimed_order_is_rejected() -> None:
    """Negative control: 0.48 where there is 0.5."""
    ensemble = measured(RATES / 2 + RATES**2 / 4, 2e-3, seed=7)
    row = compare(ensemble, series(1, 0.48 * RATES))[0]
    assert row.verdict == "disagrees"
    assert row.measured == pytest.approx(0.02, rel=0.2)


def test_a_residual_of_lower_order_than_claimed_is_rejected() -> None:
    """Negative controls: the term that an order 2 needs is missing, and a constant is off."""
    truth = RATES / 2 + RATES**2 / 4
    for order, claim, power in ((2, 0.48 * RATES + RATES**2 / 4, 1), (1, RATES / 2 + 0.02, 0)):
        row = compare(measured(truth, 2e-4, seed=8), series(order, claim))[0]
        assert row.verdict == "disagrees"
        assert f"of order {power}" in row.note


def test_one_more_term_is_taken_if_chi_square_asks() -> None:
    truth = RATES / 2 + RATES**2 / 4 + RATES**3
    row = compare(measured(truth, 2e-3, seed=9), series(1, RATES / 2))[0]
    assert row.verdict != "disagrees"
    assert "d = " in row.note


def test_what_no_powers_describe_is_inconclusive() -> None:
    truth = np.array([0.05, -0.05, 0.05, -0.05, 0.05])
    row = compare(measured(truth, 1e-4, seed=10), series(1, RATES / 2))[0]
    assert row.verdict == "inconclusive"
    assert "no power series" in row.note


def test_fewer_than_four_rates_do_not_make_an_order() -> None:
    rates = RATES[:3]
    rows = compare(measured(rates / 2, 1e-3, seed=11), series(1, rates / 2, rates))
    assert [row.verdict for row in rows] == ["inconclusive"] * 3
    assert all("4 learning rates or more, this quantity is predicted at 3" in row.note for row in rows)
    assert all(np.isfinite(row.z) for row in rows)


@pytest.mark.validate
def test_a_series_without_end_does_not_reject_its_own_first_term() -> None:
    """eta/(2 - eta), claimed as eta/2 to order 1: at most 2 of 200 rejected at 1e-3, at each of three noise levels.

    By chance alone there would be more with a probability of 1e-3. A truth of two terms could not show that the fit is
    cut off.
    """
    for rates, noise in (((0.1, 0.2, 0.4, 0.8), 1e-3), ((0.05, 0.1, 0.2, 0.4), 3e-3), ((0.05, 0.1, 0.2, 0.4), 1e-2)):
        truth, claims = np.array(rates) / (2 - np.array(rates)), series(1, np.array(rates) / 2, np.array(rates))
        rows = [compare(measured(truth, noise, seed=2000 + k), claims)[0] for k in range(200)]
        assert sum(row.verdict == "disagrees" for row in rows) <= 2, (rates, noise)


def test_infinite_z_is_not_mistaken_for_missing(gaussian: Ensemble) -> None:
    row = replace(one(gaussian, TRUE["mean"]), z=-np.inf, stderr=np.nan)
    written = json.loads(to_json([row], "f", "s"))["comparisons"][0]
    assert written["z"] < -1e300
    assert written["stderr"] is None


def test_series_that_differ_in_more_than_the_rate_are_not_mixed() -> None:
    ensemble = measured(np.concatenate([RATES, 2 * RATES]), 1e-3, seed=12)
    claims = series(1, RATES) + [
        replace(row, series="louder", point=5 + point) for point, row in enumerate(series(1, 2 * RATES))
    ]
    assert [row.verdict for row in compare(ensemble, claims)] == ["agrees", "agrees"]


def test_holm_is_the_textbooks() -> None:
    p = [0.001, 0.3, 0.012, 0.02]
    assert holm(p) == pytest.approx([0.004, 0.3, 0.036, 0.04])
    assert holm([]) == []


def test_holm_keeps_the_false_alarms_of_the_whole_table(gaussian: Ensemble) -> None:
    """A row of p = 5e-4 alone is rejected at 1e-3, among ten true ones it is not."""
    stderr = one(gaussian, TRUE["mean"]).stderr
    off = moment("mean", one(gaussian, TRUE["mean"]).measured + stderr * 3.68)
    assert one(gaussian, off).p == pytest.approx(5e-4, rel=0.05)
    assert one(gaussian, off).verdict == "disagrees"
    assert compare(gaussian, [off, *[TRUE["variance"]] * 9])[0].verdict == "inconclusive"


def test_diverged_and_excluded_trajectories_leave_it_open() -> None:
    x = np.random.default_rng(13).normal(size=N)
    status = np.zeros(N, np.int64)
    status[[1, 2]] = 8
    row = one(synthetic([{"x": x}], status=status), moment("mean", 5.0))
    assert (row.verdict, row.note) == ("inconclusive", "2 trajectories diverged")
    x[7] = np.nan
    row = one(synthetic([{"x": x}]), moment("mean", 5.0))
    assert (row.verdict, row.note) == ("inconclusive", "x is not finite in 1 trajectories")


def test_groups_too_skewed_for_a_bootstrap_leave_it_open() -> None:
    x = np.random.default_rng(14).normal(size=N)
    x[: LANES // 2] = 1e4
    row = one(synthetic([{"x": x}]), moment("mean", -5e3))
    assert row.verdict == "inconclusive"
    assert "z not trusted: skewness" in row.note


def test_skewed_groups_are_judged_by_a_bootstrap(gaussian: Ensemble) -> None:
    """Its p-value is not Student's, but always the same, and the deviation it can see is larger."""
    row, again = (one(gaussian, TRUE["bootstrap"]) for _ in range(2))
    assert row == again
    assert re.search(r"bootstrap over groups, whose skewness is 1\.\d", row.note)
    assert row.p != pytest.approx(two_sided(row.z, 63), rel=1e-3)
    assert row.detectable > detectable(row.stderr, 63, 1e-3)


@pytest.mark.validate
def test_a_bootstrap_too_coarse_for_so_many_rows_leaves_it_open(gaussian: Ensemble) -> None:
    """Its smallest p is 2e-6: of 1,000 tests each has a level of 1e-6, and what is wrong cannot be rejected."""
    many = [TRUE["mean"]] * 999
    row = compare(gaussian, [WRONG["bootstrap"], *many])[0]
    assert row.verdict == "inconclusive"
    assert "smallest p of the bootstrap, too coarse for the level 1e-06" in row.note
    assert compare(gaussian, [WRONG["bootstrap"], *many[:299]])[0].verdict == "disagrees"


def test_a_curve_is_about_the_point_that_is_furthest_off(gaussian: Ensemble) -> None:
    row = one(gaussian, WRONG["curve"])
    alone = one(gaussian, Prediction("user-1", "variance(x)", VARIANCES[1], 1.3))
    assert (row.predicted, row.measured, row.stderr, row.z) == (1.3, alone.measured, alone.stderr, alone.z)
    assert row.note == "furthest off at step 5, of 3 points"
    slight = replace(WRONG["curve"], measure=Curve(VARIANCES, (4.0, alone.measured - 2.5 * alone.stderr, 4e-4)))
    row = one(gaussian, slight)
    assert row.p == pytest.approx(1 - (1 - two_sided(2.5, 63)) ** 3, rel=0.1)  # the second order takes a little off
    assert row.detectable == pytest.approx(detectable(row.stderr, 63, 1 - (1 - 1e-3) ** (1 / 3)), rel=0.1)


def test_small_values_of_a_curve_are_held_to_the_scale_of_the_largest(gaussian: Ensemble) -> None:
    """A hundredth of the largest may be off by 10 %, a tenth of it by 1 %; unless the user says otherwise."""
    noise = 1e-3 * np.random.default_rng(24).normal(size=N)
    ensemble = synthetic([{"x": value + noise} for value in (1.0, 0.0101)], record_steps=(0, 1))
    curve = Curve((Moment("mean", "x", 0), Moment("mean", "x", 1)), (1.0, 0.01))
    row = one(ensemble, Prediction("c", "curve", curve, 1.0))
    assert row.verdict == "disagrees"
    assert row.resolution == pytest.approx(0.001)
    assert one(gaussian, replace(TRUE["curve"], resolution=0.2)).resolution == 0.2
    zero = Curve((Moment("mean", "x", 0), Moment("mean", "x", 5)), (0.0, 0.0))
    assert one(gaussian, Prediction("c", "curve", zero, 0.0)).resolution == pytest.approx(0.02, rel=0.02)


def test_a_curve_over_sweep_points(gaussian: Ensemble) -> None:
    """30 % off at one of three points is seen, and the note says at which."""
    rng = np.random.default_rng(22)
    sweep = stacked([synthetic([{"x": mean + rng.normal(size=N)}]) for mean in (1.0, 2.0, 3.0)])
    moments = tuple(Moment("mean", "x", 0, point) for point in range(3))
    right, wrong = (Prediction("c", "mean(x)", Curve(moments, v), 3.0) for v in ((1.0, 2.0, 3.0), (1.0, 2.6, 3.0)))
    rows = compare(sweep, [replace(right, resolution=0.1), wrong])
    assert [row.verdict for row in rows] == ["agrees", "disagrees"]
    assert "furthest off at sweep point 1, step 0, of 3 points" in rows[1].note


def test_curves_that_cannot_be_judged_say_why(gaussian: Ensemble) -> None:
    missing = Curve((VARIANCES[0], Moment("variance", "x", 7)), (4.0, 1.0))
    few = synthetic([{"x": np.random.default_rng(23).normal(size=12)}])
    for ensemble, curve, reason in (
        (gaussian, missing, "step 7"),
        (gaussian, Curve((), ()), "as many values as moments"),
        (few, Curve((VARIANCES[0],), (1.0,)), "fewer than 1000 trajectories"),
        (few, Curve((Moment("kurtosis", "x", 0),), (1.0,)), "no standard error"),
    ):
        row = one(ensemble, Prediction("c", "curve", curve, 1.0))
        assert row.verdict == "inconclusive"
        assert reason in row.note
    row = one(gaussian, replace(WRONG["curve"], order=1))
    assert row.verdict == "inconclusive"
    assert "an order is tested of numbers" in row.note


def test_a_density_has_the_textbooks_chi_square(gaussian: Ensemble) -> None:
    row = one(gaussian, TRUE["density"])
    counts = np.concatenate([np.atleast_1d(gaussian[f"{k}_x"][0]) for k in ("underflow", "histogram", "overflow")])
    expected = N * np.diff([0.0, *stats.norm.cdf(EDGES), 1.0])
    assert expected.min() > 10
    ratio = 2 * np.sum(counts * np.log(counts / expected))
    by_both = stats.chisquare(counts, expected).pvalue, stats.chi2.sf(ratio, len(counts) - 1)
    assert row.p == pytest.approx(max(by_both), rel=1e-6)
    assert row.measured == pytest.approx(np.abs(counts - expected).sum() / (2 * N))
    assert "on 25" in row.note
    assert np.isnan(row.stderr)


def test_a_histogram_that_was_not_recorded_leaves_it_open(gaussian: Ensemble) -> None:
    row = one(gaussian, replace(TRUE["density"], measure=Density("y", 0, normal_cdf)))
    assert row.verdict == "inconclusive"
    assert "no histogram of y was recorded" in row.note


def test_pairs_of_trajectories_are_not_taken_for_independent(gaussian: Ensemble) -> None:
    paired = Ensemble(gaussian.variables, {**gaussian.attributes, "antithetic": 1})
    for kind in ("ks", "density", "tail"):
        row = one(paired, WRONG[kind])
        assert row.verdict == "inconclusive"
        assert "antithetic" in row.note
    assert one(paired, WRONG["mean"]).verdict == "disagrees"
    few = Ensemble(synthetic([{"x": np.arange(32.0)}]).variables, paired.attributes)
    assert np.isnan(one(few, TRUE["mean"]).stderr)


def test_few_groups_are_noted_and_leave_other_statistics_open() -> None:
    x = np.random.default_rng(15).normal(size=10 * LANES)
    mean, kurtosis = compare(synthetic([{"x": x}]), [moment("mean", 0.0), moment("kurtosis", 0.0)])
    assert "fewer than 16 groups" in mean.note
    assert np.isfinite(mean.z)
    assert kurtosis.verdict == "inconclusive"
    assert "no standard error" in kurtosis.note


def test_what_was_not_recorded_leaves_it_open(gaussian: Ensemble) -> None:
    row = one(gaussian, Prediction("user-1", "mean(w)", Moment("mean", "w", 0), 1.0))
    assert row.verdict == "inconclusive"
    assert "unknown observable 'w'" in row.note


def test_default_resolutions(gaussian: Ensemble) -> None:
    expected = {
        "mean": 0.01,
        "variance": 0.04,
        "std": 0.02,
        "skewness": 0.05,
        "kurtosis": 0.05,
        "correlation": 0.006,
        "covariance": 0.024,
        "ks": 0.01,
        "ratio": 0.02,
        "curve": 0.04,
        "density": 0.01,
        "tail": 0.2,
        "bootstrap": 0.01 * TRUE["bootstrap"].predicted,
    }
    rows = {kind: one(gaussian, prediction) for kind, prediction in TRUE.items()}
    assert {kind: row.resolution for kind, row in rows.items()} == pytest.approx(expected)
    centred = synthetic([{"x": np.random.default_rng(16).normal(0, 3, size=N)}])
    assert one(centred, moment("mean", 0.0)).resolution == pytest.approx(0.03, rel=0.05)


def test_a_variance_predicted_to_vanish_needs_a_resolution() -> None:
    ensemble = synthetic([{"x": 1e-3 * np.random.default_rng(17).normal(size=N)}])
    tiny = moment("variance", 1e-6 - 1e-9, resolution=1e-6)
    assert one(ensemble, tiny).verdict == "agrees"
    assert one(ensemble, moment("variance", 0.0)).verdict == "disagrees"


def test_values_without_noise_are_held_to_rounding() -> None:
    x = np.full(N, 1.0 / 3.0)
    x[::2] += 1e-16
    ensemble = certain(synthetic([{"x": x}]))
    assert one(ensemble, moment("mean", 1.0 / 3.0)).verdict == "agrees"
    assert one(ensemble, moment("mean", 1.0 / 3.0 + 1e-9)).verdict == "disagrees"
    zero = certain(synthetic([{"x": np.zeros(N)}]))
    assert one(zero, moment("mean", 0.0)).verdict == "agrees"
    assert one(zero, moment("mean", 1e-30)).verdict == "disagrees"


def test_float32_runs_are_allowed_their_rounding() -> None:
    """Off by 1e-7, which float64 cannot be and float32 can; by 1 %, which neither can."""
    ensemble = certain(synthetic([{"x": np.full(N, 1.0)}]))
    assert one(ensemble, moment("mean", 1.0 + 1e-7)).verdict == "disagrees"
    ensemble.attributes["dtype"] = "float32"
    assert one(ensemble, moment("mean", 1.0 + 1e-7)).verdict == "agrees"
    assert one(ensemble, moment("mean", 1.01)).verdict == "disagrees"


def test_rounding_is_large_where_moments_nearly_cancel() -> None:
    ensemble = certain(synthetic([{"x": np.full(N, 1.0)}]))
    lateness = Function("lateness", lambda mean: (mean - 1.0) / 1e-4, (Moment("mean", "x", 0),))
    claims = [Prediction("user-1", "lateness", lateness, value, resolution=1.0) for value in (1e-3, 1.0)]
    assert [one(ensemble, claim).verdict for claim in claims] == ["disagrees", "disagrees"]
    ensemble.attributes["dtype"] = "float32"
    assert [one(ensemble, claim).verdict for claim in claims] == ["agrees", "disagrees"]


def test_distributions_of_float32_runs_are_allowed_their_rounding() -> None:
    """A normal law that is stretched by 1e-4, which 1e11 values tell from what it was, and by 1 %."""
    edges = np.linspace(-3, 3, 31)
    held, stretched, wider = (np.diff([0.0, *stats.norm.cdf(edges * scale), 1.0]) for scale in (1.0, 1.0001, 1.01))
    assert chi_square(1e11 * stretched, held).p < 1e-3
    assert chi_square(1e11 * stretched, held, stretched - held).p > 0.1
    assert chi_square(1e11 * wider, held, stretched - held).p < 1e-12
    values = np.random.default_rng(20).pareto(2.0, size=10**6) + 1.0
    values *= np.maximum(values / 1.2, 1.0) ** 0.01  # logarithms beyond 1.2 are off by 1 %, 0.005 in the mean
    assert tail(values, 2.0, 0.5, 1e-3).p < 1e-3
    assert tail(values, 2.0, 0.5, 1e-3, rounding=0.005).p > 1e-3
    assert tail(values, 2.1, 0.5, 1e-3, rounding=0.005).p < 1e-12


def test_a_rival_is_noted(gaussian: Ensemble) -> None:
    row = one(gaussian, moment("mean", 1.0, resolution=0.5, rival=Rival("the old formula", 3.0)))
    assert row.verdict == "agrees"
    assert row.note.startswith("the old formula gives 3: z = -")


def test_the_json_has_exactly_the_agreed_fields(gaussian: Ensemble) -> None:
    rows = compare(gaussian, [*TRUE.values(), moment("mean", 1.0, point=None)])
    data = json.loads(to_json(rows, "run.h5", "river_valley"))
    assert list(data) == ["file", "scenario", "comparisons"]
    names = "id quantity point statistic predicted measured stderr z p p_adjusted detectable resolution order verdict"
    assert all(list(row) == names.split() for row in data["comparisons"])
    assert [row["statistic"] for row in data["comparisons"] if row["stderr"] is None] == ["ks", "density"]
    assert [field.name for field in fields(Comparison)] == [*names.split(), "note", "expect", "part"]


def test_the_table_is_aligned_and_counts() -> None:
    x = np.random.default_rng(18).normal(size=N)
    ensemble = stacked([synthetic([{"x": x}]), synthetic([{"x": x + 1.0}])])
    claims = [moment("mean", 0.0, point=point, resolution=0.5) for point in (0, 1)]
    text = format_table(compare(ensemble, claims), [Skipped("equipartition", "no fast direction")])
    lines = text.splitlines()
    assert lines[0].split() == ["id", "quantity", "point", "predicted", "measured", "z", "verdict"]
    assert {line.index("agrees") for line in lines[1:3]} <= {lines[0].index("verdict"), lines[0].index("verdict") + 3}
    assert lines[3] == "1 agrees, 1 disagrees, 0 inconclusive (Holm over 2 tests, alpha = 0.001)"
    assert lines[4] == "equipartition does not apply: no fast direction"
    assert format_table([]).startswith("nothing to compare with")


def test_a_long_remark_of_several_rows_stands_once_and_every_verdict_is_counted() -> None:
    numbers = (0.5, 0.51, 0.02, 0.5, 0.6, 1.0, 0.1, 0.005)
    fails, alone = ("its condition that " + 70 * letter + " fails" for letter in "ab")
    notes = (f"{fails}; adiabatic", fails, alone)
    rows = [
        Comparison("valley", f"mean({name})", None, "mean", *numbers, "exact", "does not hold here", note)
        for name, note in zip("xyz", notes, strict=True)
    ]
    _, x, y, z, remark, summary = format_table(rows).splitlines()
    assert (x.endswith("  [1]; adiabatic"), y.endswith("  [1]"), z.endswith(f"  {alone}")) == (True, True, True)
    assert remark == f"[1] {fails}"
    assert summary.startswith("0 agree, 0 disagree, 0 inconclusive, 3 do not hold here (")


def test_few_trajectories_decide_nothing() -> None:
    """The error of a variance from 12 values is as wrong as the variance: 5 % of true claims would be rejected."""
    rng = np.random.default_rng(20)
    claims = [moment("variance", 1.0), moment("mean", 0.0)]
    for _ in range(50):
        rows = compare(synthetic([{"x": rng.normal(size=12)}]), claims)
        assert {row.verdict for row in rows} == {"inconclusive"}
        assert all("fewer than 1000 trajectories" in row.note for row in rows)


def test_a_sweep_of_one_value_is_a_single_run() -> None:
    x = np.random.default_rng(21).normal(size=N)
    assert one(stacked([synthetic([{"x": x}])]), moment("mean", 0.0, resolution=0.5)).verdict == "agrees"


def test_a_prediction_far_off_does_not_switch_off_the_distrust():
    """Rounding is that of what is measured, whatever was predicted."""
    heavy = np.random.default_rng(30).normal(1.0, 0.1, size=64 * 16 * LANES)
    heavy[0] = 1e6
    records = [{"x": heavy}]
    ensemble = synthetic(records)
    claim = Prediction("user-1", "mean(x)", Moment("mean", "x", 0), 1e20)
    (row,) = compare(ensemble, [claim])
    assert row.verdict == "inconclusive"
    assert "skewness" in row.note


def test_a_condition_that_only_survivors_show_is_open() -> None:
    """All trajectories have an early value, and those of large ones diverge: what is left fails a condition.

    Negative control: without divergence the same numbers fail it, and the law does not hold here.
    """
    early = np.random.default_rng(3).normal(0.1, 1.0, size=N)
    late = np.where(early > 1.0, np.nan, early)
    near = Condition("x is near 0.1", Moment("mean", "x", 100), 0.05, 0.15)
    law = Prediction("law", "mean(early)", Moment("mean", "early", 100), 0.2, assumes=(near,), asked=False)
    attributes = {"last_steps": json.dumps({"early": 2})}
    records = [{"early": early, "x": late}]
    status = np.where(early > 1.0, 40, 0)
    found = one(synthetic(records, record_steps=(100,), status=status, attributes=attributes), law)
    assert found.verdict == "inconclusive"
    assert f"is open (measured -0.221 ± 0.0047, expected from 0.05 to 0.15; {np.sum(status > 0)} traj" in found.note
    whole = [{"early": early, "x": np.where(early > 1.0, 0.0, early)}]
    found = one(synthetic(whole, record_steps=(100,), attributes=attributes), law)
    assert found.verdict == "does not hold here"
