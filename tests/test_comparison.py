"""Verdicts: calibrated where the prediction is true, and a rejection of each kind of check where it is not."""

from __future__ import annotations

import json
import re
from dataclasses import fields, replace

import numpy as np
import pytest
from scipy import stats

from sgdsim import estimation
from sgdsim.comparison import Comparison, compare, detectable, format_table, holm, to_json, two_sided
from sgdsim.ensemble import Ensemble
from sgdsim.moments import Moments
from sgdsim.theory.law import Skipped
from sgdsim.theory.prediction import Correlation, Distance, Function, Moment, Prediction, Rival
from tests.test_estimation import LANES, stacked, synthetic

N = 64 * LANES * 128


def normal_cdf(values: np.ndarray) -> np.ndarray:
    return np.asarray(stats.norm.cdf(values))


def moment(statistic: str, predicted: float, **options: object) -> Prediction:
    return Prediction("user-1", f"{statistic}(x)", Moment(statistic, "x", 0), predicted, **options)  # type: ignore[arg-type]


def one(ensemble: Ensemble, prediction: Prediction) -> Comparison:
    return compare(ensemble, [prediction])[0]


@pytest.fixture(scope="module")
def gaussian() -> Ensemble:
    rng = np.random.default_rng(1)
    x = rng.normal(1.0, 2.0, size=N)
    y = 0.6 * x + 0.8 * rng.normal(1.0, 2.0, size=N)
    snapshots = {0: {"x": (x - 1.0) / 2.0}, 1: {"x": x}, 2: {"x": y}}
    return synthetic([{"x": x, "y": y}], snapshots=snapshots)


TRUE = {
    "mean": moment("mean", 1.0),
    "variance": moment("variance", 4.0),
    "std": moment("std", 2.0),
    "skewness": moment("skewness", 0.0),
    "kurtosis": moment("kurtosis", 0.0),
    "correlation": Prediction("user-1", "correlation", Correlation("x", (1, 2)), 0.6),
    "ks": Prediction("user-1", "distribution", Distance("x", 0, normal_cdf), 0.0),
    "ratio": Prediction(
        "user-1", "ratio", Function("ratio", np.divide, (Moment("std", "x", 0), Moment("mean", "x", 0))), 2.0
    ),
}


def _wrong_cdf(values: np.ndarray) -> np.ndarray:
    return normal_cdf(values * 1.3)


WRONG = {
    kind: replace(prediction, measure=Distance("x", 0, _wrong_cdf))
    if kind == "ks"
    else replace(prediction, predicted=prediction.predicted * 1.3 + (0.4 if prediction.predicted == 0 else 0))
    for kind, prediction in TRUE.items()
}


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


LEVELS = (0.05, 0.01, 0.001)


def _calibrated(p: np.ndarray) -> bool:
    """Whether rejections at each level lie within a binomial band of false alarm 1e-4."""
    bands = {level: stats.binom(len(p), level).ppf([5e-5, 1 - 5e-5]) for level in LEVELS}
    return all(low <= np.count_nonzero(p < level) <= high for level, (low, high) in bands.items())


def _scores(statistic: str, groups: int, size: int = 256) -> np.ndarray:
    """z of true predictions over 10,000 ensembles of normal values, their group sums drawn from their exact law."""
    rng = np.random.default_rng(3)
    scores = []
    for _ in range(20):
        mean = rng.normal(size=(500, groups)) / np.sqrt(size)
        m2 = rng.chisquare(size - 1, size=(500, groups))
        sums = Moments(np.full(mean.shape, float(size)), mean, m2, 0 * m2, 0 * m2)
        values = estimation.STATISTICS[statistic](estimation.unite(sums, estimation.all_and_left_out(groups)))
        parts = estimation.deviations(values[:, 0], values[:, 1:], np.full(groups, 1.0 / groups))
        truth = 0.0 if statistic == "mean" else 1.0
        scores.append((values[:, 0] - truth) / np.sqrt(np.sum(parts**2, axis=1)))
    return np.concatenate(scores)


@pytest.mark.parametrize("groups", [64, 16])
@pytest.mark.parametrize("statistic", ["mean", "variance"])
def test_p_values_are_calibrated_over_ten_thousand_ensembles(statistic: str, groups: int) -> None:
    """True predictions are rejected at 0.05, 0.01 and 0.001 as often as that says; false alarm 3e-4 each case."""
    assert _calibrated(2 * stats.t(groups - 1).sf(np.abs(_scores(statistic, groups))))


def test_normal_quantiles_for_few_groups_are_not_calibrated() -> None:
    """Negative control of the calibration itself."""
    assert not _calibrated(2 * stats.norm.sf(np.abs(_scores("mean", 16))))


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
        assert row.z == pytest.approx(z, rel=1e-9)
        assert row.p == pytest.approx(2 * stats.t(groups - 1).sf(abs(z)), rel=1e-7)


def test_correlations_and_distributions_are_calibrated() -> None:
    """Over 1000 small ensembles each, through `compare`; false alarm 3e-4 each."""
    rng = np.random.default_rng(5)
    p: dict[str, list[float]] = {"correlation": [], "ks": []}
    n = 64 * 8
    for _ in range(1000):
        x = rng.normal(size=n)
        y = 0.6 * x + 0.8 * rng.normal(size=n)
        ensemble = synthetic([{"x": x}], snapshots={0: {"x": x}, 1: {"x": x}, 2: {"x": y}}, lanes=8)
        for kind, values in p.items():
            values.append(one(ensemble, TRUE[kind]).p)
    for kind, values in p.items():
        assert _calibrated(np.array(values)), kind


RATES = np.array([0.1, 0.2, 0.3, 0.4, 0.6])


def series(order: int, predicted: np.ndarray, rates: np.ndarray = RATES) -> list[Prediction]:
    return [
        moment("mean", float(value), order=order, point=point, learning_rate=float(rate))
        for point, (rate, value) in enumerate(zip(rates, predicted, strict=True))
    ]


def measured(truth: np.ndarray, noise: float, seed: int, common: bool = False) -> Ensemble:
    rng = np.random.default_rng(seed)
    size = 64 * LANES
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
    assert all("4 learning rates" in row.note for row in rows)
    assert all(np.isfinite(row.z) for row in rows)


def test_orders_are_calibrated() -> None:
    """Over 400 sweeps with noise small enough to see eta^2: p of the row within its bands, false alarm 3e-4."""
    truth = RATES / 2 + RATES**2 / 4
    rows = [compare(measured(truth, 2e-3, seed=100 + k), series(1, RATES / 2))[0] for k in range(400)]
    assert _calibrated(np.array([row.p for row in rows]))


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


def test_a_skewed_distribution_of_groups_leaves_it_open() -> None:
    x = np.random.default_rng(14).normal(size=N)
    x[: LANES // 2] = 1e4
    row = one(synthetic([{"x": x}]), moment("mean", -5e3))
    assert row.verdict == "inconclusive"
    assert "skewness" in row.note


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
        "ks": 0.01,
        "ratio": 0.02,
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
    ensemble = synthetic([{"x": x}])
    assert one(ensemble, moment("mean", 1.0 / 3.0)).verdict == "agrees"
    assert one(ensemble, moment("mean", 1.0 / 3.0 + 1e-9)).verdict == "disagrees"
    zero = synthetic([{"x": np.zeros(N)}])
    assert one(zero, moment("mean", 0.0)).verdict == "agrees"
    assert one(zero, moment("mean", 1e-30)).verdict == "disagrees"


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
    assert data["comparisons"][6]["stderr"] is None
    assert [field.name for field in fields(Comparison)] == [*names.split(), "note"]


def test_the_table_is_aligned_and_counts() -> None:
    x = np.random.default_rng(18).normal(size=N)
    ensemble = stacked([synthetic([{"x": x}]), synthetic([{"x": x + 1.0}])])
    claims = [moment("mean", 0.0, point=point, resolution=0.5) for point in (0, 1)]
    text = format_table(compare(ensemble, claims), [Skipped("NTL-4", "no fast direction")])
    lines = text.splitlines()
    assert lines[0].split() == ["id", "quantity", "point", "predicted", "measured", "z", "verdict"]
    assert {line.index("agrees") for line in lines[1:3]} <= {lines[0].index("verdict"), lines[0].index("verdict") + 3}
    assert lines[3] == "1 agrees, 1 disagrees, 0 inconclusive (Holm over 2 tests, alpha = 0.001)"
    assert lines[4] == "NTL-4 does not apply: no fast direction"
    assert format_table([]).startswith("nothing to compare with")


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
