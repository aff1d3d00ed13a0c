"""Estimators against a naive two-pass on all the data, their errors against the spread of repetitions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pytest
from scipy import stats

from sgdsim.ensemble import Ensemble, Variable
from sgdsim.prediction import STATISTICS
from sgdsim.statistics import estimators, histograms, moments, records, snapshot_estimators
from sgdsim.statistics.estimate import Estimate, NotMeasured, all_and_left_out, combine, deviations, unite
from sgdsim.statistics.moments import Moments

LANES = 4


def group_sums(values: np.ndarray, lanes: int = LANES) -> Moments:
    """Central sums by group, in two passes; NaN counts as excluded."""
    labels = np.arange(len(values)) // lanes % 64
    alive = np.isfinite(values)
    labels, values = labels[alive], values[alive]
    count = np.bincount(labels, minlength=64).astype(float)
    mean = np.bincount(labels, values, minlength=64) / np.maximum(count, 1)
    mean += np.bincount(labels, values - mean[labels], minlength=64) / np.maximum(count, 1)
    deviation = values - mean[labels]
    return Moments(count, mean, *(np.bincount(labels, deviation**k, minlength=64) for k in (2, 3, 4)))


def synthetic(
    records: Sequence[Mapping[str, np.ndarray]],
    record_steps: Sequence[int] = (0,),
    snapshots: Mapping[int, Mapping[str, np.ndarray]] | None = None,
    status: np.ndarray | None = None,
    lanes: int = LANES,
    attributes: Mapping[str, str] | None = None,
) -> Ensemble:
    """An ensemble straight from draws: observables at each record, parameters at snapshots."""
    names = list(records[0])
    sums = [[group_sums(np.asarray(record[name], dtype=float), lanes) for name in names] for record in records]
    trajectories = len(next(iter(records[0].values())))
    dimensions = ("record", "group", "observable")
    variables = {
        f"group_{field}": Variable(
            dimensions, np.array([[getattr(s, field) for s in row] for row in sums]).transpose(0, 2, 1)
        )
        for field in Moments._fields
    }
    variables["excluded"] = Variable(
        ("record", "observable"), np.array([[trajectories - int(s.count.sum()) for s in row] for row in sums])
    )
    variables["observable"] = Variable(("observable",), np.array(names))
    variables["record_step"] = Variable(("record",), np.array(record_steps))
    variables["status"] = Variable(("trajectory",), np.zeros(trajectories, np.int64) if status is None else status)
    if snapshots:
        parameters = list(next(iter(snapshots.values())))
        theta = np.array([[snapshot[name] for name in parameters] for snapshot in snapshots.values()])
        variables["theta"] = Variable(("snapshot", "trajectory", "parameter"), theta.transpose(0, 2, 1))
        variables["snapshot_step"] = Variable(("snapshot",), np.array(list(snapshots)))
        variables["parameter"] = Variable(("parameter",), np.array(parameters))
    return Ensemble(variables, {"lanes": lanes, "dtype": "float64", **(attributes or {})})


def with_histogram(ensemble: Ensemble, name: str, values: np.ndarray, edges: np.ndarray) -> Ensemble:
    """Ensemble with a histogram at its only record, or at the first of several."""
    inside = np.histogram(values, np.append(edges[:-1], np.nextafter(edges[-1], -np.inf)))[
        0
    ]  # the last edge is outside
    outside = {"underflow": np.count_nonzero(values < edges[0]), "overflow": np.count_nonzero(values >= edges[-1])}
    rest = ensemble.sizes["record"] - 1
    variables = {
        f"histogram_{name}": Variable(("record", f"bin_{name}"), np.array([inside] + rest * [0 * inside])),
        f"edges_{name}": Variable((f"edge_{name}",), edges),
        **{f"{kind}_{name}": Variable(("record",), np.array([n] + rest * [0])) for kind, n in outside.items()},
    }
    return Ensemble({**ensemble.variables, **variables}, ensemble.attributes)


def with_covariance(ensemble: Ensemble, names: Sequence[str], pair: np.ndarray, lanes: int = LANES) -> Ensemble:
    """Ensemble with the comoments of two quantities, (2, trajectory), at every record."""
    labels = np.arange(pair.shape[1]) // lanes % 64
    count = np.bincount(labels, minlength=64)
    means = [np.bincount(labels, values, minlength=64) / np.maximum(count, 1) for values in pair]
    u, v = (values - mean[labels] for values, mean in zip(pair, means, strict=True))
    sums = np.stack([count, *means, np.bincount(labels, u * v, minlength=64)], axis=-1)
    records = ensemble.sizes["record"]
    variables = {
        "group_comoments": Variable(("record", "group", "pair", "comoment"), np.array(records * [sums[:, None]])),
        "pair": Variable(("pair",), np.array([", ".join(names)])),
    }
    return Ensemble({**ensemble.variables, **variables}, ensemble.attributes)


def stacked(points: Sequence[Ensemble]) -> Ensemble:
    """A sweep from its points."""
    shared = ("observable", "parameter", "record_step", "snapshot_step")
    variables = {
        name: variable
        if name in shared or name in points[0].sizes
        else Variable(("point", *variable.dimensions), np.array([point[name] for point in points]))
        for name, variable in points[0].variables.items()
    }
    return Ensemble(variables, points[0].attributes)


def naive(name: str, values: np.ndarray) -> float:
    deviation = values - values.mean()
    m2, m3, m4 = (np.mean(deviation**k) for k in (2, 3, 4))
    return float(
        {
            "mean": values.mean(),
            "variance": values.var(ddof=1),
            "std": values.std(ddof=1),
            "skewness": m3 / m2**1.5,
            "kurtosis": m4 / m2**2 - 3.0,
        }[name]
    )


def test_the_two_lists_of_statistics_agree() -> None:
    assert tuple(estimators.STATISTICS) == STATISTICS


@pytest.mark.parametrize("trajectories", [64 * LANES, 1000, 64 * LANES * 3 - 7])
@pytest.mark.parametrize("name", STATISTICS)
def test_statistics_and_replicates_are_those_of_a_two_pass(name: str, trajectories: int) -> None:
    values = np.random.default_rng(1).gamma(2.0, size=trajectories)
    estimate = estimators.statistic(synthetic([{"x": values}]), name, "x", 0)
    assert estimate.value == pytest.approx(naive(name, values), rel=1e-12)
    labels = np.arange(trajectories) // LANES % 64
    left_out = [naive(name, values[labels != group]) for group in range(64)]
    assert estimate.replicates == pytest.approx(left_out, rel=1e-11)


@pytest.mark.validate
def test_groups_of_a_mean_are_as_skewed_as_its_values_make_them() -> None:
    """Normal ones are skewed beyond 1 once in 600 draws, by chance. Controls: skewed and dependent values."""
    normal = np.random.default_rng(5).normal(size=(4000, 64))
    by_chance = max(normal, key=lambda values: abs(stats.skew(values)))  # a sum of 64 independent ones for each group
    spread = np.random.default_rng(6).normal(size=(64, 64)) * np.sqrt(63.0 / 64.0)
    spread -= spread.mean(0)
    independent, dependent = by_chance / 8.0 + spread, by_chance + spread
    skewed = np.random.default_rng(7).exponential(size=(1, 64)) ** 2  # groups of one value
    found = {
        name: estimators.statistic(synthetic([{"x": values.ravel()}], lanes=1), "mean", "x", 0).skewness
        for name, values in {"chance": independent, "dependent": dependent, "law": skewed}.items()
    }
    assert abs(stats.skew(by_chance)) > 1.0
    assert abs(found["chance"]) < 0.2
    assert found["dependent"] == pytest.approx(stats.skew(by_chance))
    assert found["law"] == pytest.approx(stats.skew(skewed.ravel()))


def test_a_mean_a_million_standard_deviations_from_zero_costs_no_digits() -> None:
    values = 1e6 + np.random.default_rng(2).normal(size=4096)
    ensemble = synthetic([{"x": values}])
    exact = values - 1e6  # exact in floating point
    assert estimators.statistic(ensemble, "variance", "x", 0).value == pytest.approx(naive("variance", exact), rel=1e-9)
    assert estimators.statistic(ensemble, "kurtosis", "x", 0).value == pytest.approx(naive("kurtosis", exact), rel=1e-6)


def test_unite_is_pairwise_merging_in_index_order() -> None:
    sums = group_sums(np.random.default_rng(3).laplace(size=5000) + 3.0)
    merged = moments.merge_axis(sums, 0)
    for one, two in zip(unite(sums, np.ones((1, 64))), merged, strict=True):
        assert one[0] == pytest.approx(float(two), rel=1e-13)


def test_empty_groups_and_excluded_trajectories_do_not_count() -> None:
    values = np.random.default_rng(4).normal(size=40 * LANES)
    values[3] = np.nan
    ensemble = synthetic([{"x": values}])
    estimate = estimators.statistic(ensemble, "mean", "x", 0)
    assert estimate.groups == 40
    assert estimate.value == pytest.approx(np.nanmean(values), rel=1e-13)
    assert records.excluded(ensemble, "x", 0) == 1
    assert records.diverged(ensemble) == 0


def test_diverged_trajectories_are_counted() -> None:
    status = np.zeros(1000, np.int64)
    status[[5, 7]] = 40
    assert records.diverged(synthetic([{"x": np.zeros(1000)}], status=status)) == 2


def test_below_16_groups_the_moments_give_the_error_of_mean_variance_and_std() -> None:
    values = np.random.default_rng(5).normal(size=15 * LANES)
    ensemble = synthetic([{"x": values}])
    n = len(values)
    mean = estimators.statistic(ensemble, "mean", "x", 0)
    assert mean.stderr == pytest.approx(values.std(ddof=1) / np.sqrt(n), rel=1e-12)
    assert mean.groups == 0
    assert "16 groups" in mean.note
    variance = estimators.statistic(ensemble, "variance", "x", 0)
    m4 = np.mean((values - values.mean()) ** 4)
    expected = np.sqrt((m4 - (n - 3) / (n - 1) * values.var(ddof=1) ** 2) / n)
    assert variance.stderr == pytest.approx(expected, rel=1e-12)
    assert np.isnan(estimators.statistic(ensemble, "kurtosis", "x", 0).stderr)
    assert np.isnan(combine(lambda a: 2 * a, [mean]).stderr)


def test_what_was_not_recorded_is_said_so() -> None:
    ensemble = synthetic([{"x": np.zeros(100)}])
    with pytest.raises(NotMeasured, match="step 5"):
        estimators.statistic(ensemble, "mean", "x", 5)
    with pytest.raises(NotMeasured, match="did you mean 'x'"):
        estimators.statistic(ensemble, "mean", "xx", 0)
    with pytest.raises(NotMeasured, match="snapshots"):
        snapshot_estimators.correlation(ensemble, "x", (0, 1))


def test_correlation_is_numpys_and_leaves_out_what_is_not_finite() -> None:
    rng = np.random.default_rng(6)
    x = rng.normal(size=3000) + 100.0
    y = 0.3 * x + rng.normal(size=3000)
    y[::50] = np.nan
    ensemble = synthetic([{"x": x}], snapshots={1: {"x": x}, 2: {"x": y}})
    estimate = snapshot_estimators.correlation(ensemble, "x", (1, 2))
    alive = np.isfinite(y)
    assert estimate.value == pytest.approx(np.corrcoef(x[alive], y[alive])[0, 1], rel=1e-12)
    labels = np.arange(3000) // LANES % 64
    assert estimate.replicates is not None
    for group in (0, 13, 63):
        rest = alive & (labels != group)
        expected = np.corrcoef(x[rest], y[rest])[0, 1]
        assert estimate.replicates[group] == pytest.approx(expected, rel=1e-12)


def test_ks_distance_is_scipys() -> None:
    values = np.random.default_rng(7).normal(size=999)
    ensemble = synthetic([{"x": values}], snapshots={9: {"x": np.append(values, np.nan)[: len(values)]}})
    distance, n = snapshot_estimators.ks_distance(ensemble, "x", 9, stats.norm(0.1).cdf)
    assert n == 999
    assert distance == pytest.approx(stats.kstest(values, stats.norm(0.1).cdf).statistic, rel=1e-12)


@pytest.mark.parametrize(
    "trajectories", [64 * 32, pytest.param(100 * 32, marks=pytest.mark.validate)]
)  # equal groups, and groups of 32 and 64
def test_jackknife_errors_are_those_of_repetitions(trajectories: int) -> None:
    """The mean of stderr^2 is the variance of the estimates.

    Over 1000 repetitions the ratio of the two has a standard error of sqrt(2/1000) = 4.5 %; it must lie
    within four (false alarm 6e-5 each) of 1. Negative control: errors a fifth too large or too small are
    caught.
    """
    rng = np.random.default_rng(8)
    data = rng.normal(size=(1000, trajectories))
    labels = np.arange(trajectories) // 32 % 64
    order = np.argsort(labels, kind="stable")
    bounds = np.searchsorted(labels[order], np.arange(64))
    counts = np.bincount(labels)
    means = np.add.reduceat(data[:, order], bounds, axis=1) / counts
    deviation = data[:, order] - np.repeat(means, counts, axis=1)
    sums = [np.add.reduceat(deviation**k, bounds, axis=1) for k in (2, 3, 4)]
    groups = Moments(np.broadcast_to(counts.astype(float), means.shape), means, *sums)
    united = unite(groups, all_and_left_out(64))
    for name in STATISTICS:
        values = estimators.STATISTICS[name](united)
        parts = deviations(values[:, 0], values[:, 1:], counts / trajectories)
        ratio = np.mean(np.sum(parts**2, axis=1)) / np.var(values[:, 0], ddof=1)
        allowance = 4 * np.sqrt(2 / 1000)
        assert abs(ratio - 1.0) < allowance, name
        assert all(abs(factor**2 * ratio - 1.0) > allowance for factor in (0.8, 1.2)), name


@pytest.mark.parametrize("trajectories", [64 * LANES * 3 - 7, 10 * LANES])
def test_covariance_is_numpys(trajectories: int) -> None:
    rng = np.random.default_rng(12)
    pair = rng.normal(size=(2, trajectories)) + 100.0
    pair[1] += 0.5 * pair[0]
    ensemble = with_covariance(synthetic([{"u": pair[0], "w": pair[1]}]), ("u", "w"), pair)
    estimate = estimators.statistic(ensemble, "covariance", "u, w", 0)
    assert estimate.value == pytest.approx(np.cov(pair)[0, 1], rel=1e-10)
    if trajectories < 16 * LANES:
        assert np.isnan(estimate.stderr)
        return
    labels = np.arange(trajectories) // LANES % 64
    left_out = [np.cov(pair[:, labels != group])[0, 1] for group in range(64)]
    assert estimate.replicates == pytest.approx(left_out, rel=1e-10)


def test_a_covariance_that_was_not_recorded_is_said_so() -> None:
    ensemble = synthetic([{"u": np.zeros(300), "w": np.zeros(300)}])
    with pytest.raises(NotMeasured, match=r"record\.covariances"):
        estimators.statistic(ensemble, "covariance", "u, w", 0)
    with pytest.raises(NotMeasured, match="unknown pair"):
        estimators.statistic(with_covariance(ensemble, ("u", "w"), np.zeros((2, 300))), "covariance", "u, v", 0)


EDGES = np.linspace(-3.0, 3.0, 25)


def test_a_histogram_has_all_values() -> None:
    values = np.array([-3.5, -3.0, 0.0, 2.99, 3.0, 7.0])
    counts, edges = histograms.histogram(with_histogram(synthetic([{"x": values}]), "x", values, EDGES), "x", 0)
    assert (counts[0], counts[1], counts[13], counts[-2], counts[-1], counts.sum()) == (1, 1, 1, 1, 2, 6)
    assert edges == pytest.approx(EDGES)
    with pytest.raises(NotMeasured, match="no histogram of y"):
        histograms.histogram(synthetic([{"x": values}]), "y", 0)


def test_bands_of_densities_hold_the_truth_in_all_bins_at_once() -> None:
    """Of 2000 histograms at most 5 % leave the band of 5 % anywhere: more than 6.9 % by chance has 1e-4.

    Negative controls: a density with another mean leaves it nearly always, and so do bands that are no wider than those
    of a single bin.
    """
    rng, n, level = np.random.default_rng(13), 400, 0.05
    probabilities = np.diff([0.0, *stats.norm.cdf(EDGES), 1.0])
    truth, shifted = (np.diff(stats.norm.cdf(EDGES, mean)) / np.diff(EDGES) for mean in (0.0, 0.5))
    base = with_histogram(synthetic([{"x": np.zeros(n)}]), "x", np.zeros(n), EDGES).variables
    left = {"truth": 0, "shifted": 0, "single": 0}
    for counts in rng.multinomial(n, probabilities, size=2000):
        drawn = {"histogram_x": counts[None, 1:-1], "underflow_x": counts[:1], "overflow_x": counts[-1:]}
        ensemble = Ensemble({**base, **{k: Variable(base[k].dimensions, v) for k, v in drawn.items()}}, {})
        band = histograms.histogram_density(ensemble, "x", 0, level)
        left["truth"] += bool(np.any((truth < band.lower) | (truth > band.upper)))
        left["shifted"] += bool(np.any((shifted < band.lower) | (shifted > band.upper)))
        narrow = histograms.histogram_density(ensemble, "x", 0, level * len(truth))
        left["single"] += bool(np.any((truth < narrow.lower) | (truth > narrow.upper)))
    most = stats.binom(2000, level).ppf(1 - 1e-4)
    assert left["truth"] <= most
    assert left["shifted"] > 1800
    assert left["single"] > 2 * most
    assert band.density.sum() * band.widths[0] == pytest.approx(counts[1:-1].sum() / n)


def test_pairs_of_trajectories_count_once() -> None:
    values = np.random.default_rng(14).normal(size=4000)
    plain = with_histogram(synthetic([{"x": values}]), "x", values, EDGES)
    paired = Ensemble(plain.variables, {**plain.attributes, "antithetic": 1})
    one, other = (histograms.histogram_density(ensemble, "x", 0) for ensemble in (plain, paired))
    assert other.density == pytest.approx(one.density)
    ratio = (other.upper - other.lower)[8:16] / (one.upper - one.lower)[8:16]
    assert ratio == pytest.approx(np.sqrt(2), rel=0.02)


def test_a_difference_between_points_with_common_noise_is_sharp() -> None:
    rng = np.random.default_rng(9)
    noise = rng.normal(size=64 * 64)
    other = rng.normal(size=64 * 64)
    alone = [estimators.statistic(synthetic([{"x": x}]), "mean", "x", 0) for x in (noise, noise + 0.01 * other, other)]

    def difference(a: float, b: float) -> float:
        return b - a

    common = combine(difference, alone[:2])
    independent = combine(difference, alone[::2])
    assert common.stderr == pytest.approx(0.01 / 64, rel=0.4)
    assert independent.stderr == pytest.approx(np.sqrt(2) / 64, rel=0.4)


def quantiles_of(draw: np.ndarray, probability: float) -> Estimate:
    names = {"parameter": Variable(("parameter",), ["x"]), "snapshot_step": Variable(("snapshot",), [9])}
    theta = Variable(("snapshot", "trajectory", "parameter"), draw[None, :, None])
    return snapshot_estimators.quantile(Ensemble({"theta": theta, **names}, {"lanes": LANES}), "x", 9, probability)


@pytest.mark.parametrize(
    ("law", "probability"),
    [
        (stats.norm(), 0.9),
        *(pytest.param(law, 0.5, marks=pytest.mark.validate) for law in (stats.norm(), stats.expon())),
    ],
)
def test_errors_of_quantiles_are_those_of_repetitions(law: Any, probability: float) -> None:
    """Beside the law of sample quantiles, p (1 - p)/(n f^2).

    Over 1000 repetitions the ratio of the mean of stderr^2 to it must lie within 10 % (the density is taken over a
    finite range), and the quantiles' own variance within 4.5 standard errors of 4.5 %. At the level of 1 % there are 10
    rejections, and 23 or more with a chance of 2e-4. Negative control: with errors a fifth smaller there are more.
    """
    rng, n = np.random.default_rng(11), 6400
    found = [quantiles_of(law.rvs(n, random_state=rng), probability) for _ in range(1000)]
    truth = law.ppf(probability)
    variance = probability * (1 - probability) / n / law.pdf(truth) ** 2
    values, stderrs = (np.array([getattr(one, field) for one in found]) for field in ("value", "stderr"))
    assert np.mean(stderrs**2) / variance == pytest.approx(1.0, abs=0.1)
    assert np.var(values, ddof=1) / variance == pytest.approx(1.0, abs=4.5 * 0.045)
    z = np.abs(values - truth) / stderrs
    assert np.count_nonzero(z > stats.t(63).ppf(0.995)) < 23
    assert np.count_nonzero(z > 0.8 * stats.t(63).ppf(0.995)) > 23


def test_a_quantile_is_numpys_and_leaves_out_what_is_not_finite() -> None:
    draw = np.random.default_rng(3).normal(size=2000)
    draw[7] = np.nan
    found = quantiles_of(draw, 0.3)
    assert found.value == pytest.approx(np.nanquantile(draw, 0.3), rel=1e-15)
    assert (found.groups, found.sample) == (64, pytest.approx(2 * 1999 * 0.3))
    few = quantiles_of(draw[:32], 0.3)
    assert (few.note, np.isnan(few.stderr)) == ("fewer than 16 groups", True)
    with pytest.raises(NotMeasured, match="step 8"):
        snapshot_estimators.quantile(synthetic([{"x": draw}], snapshots={9: {"x": draw}}), "x", 8, 0.3)


def test_pairs_of_mirrored_trajectories_make_a_median_better_known() -> None:
    """Of x and 1/10 - x the share below 1/20 is a half for certain; the groups see it, a binomial law does not."""
    half = np.random.default_rng(4).normal(size=3200)
    pairs = np.stack([half, 0.1 - half], axis=1).ravel()
    assert quantiles_of(pairs, 0.5).stderr < 0.1 * quantiles_of(half, 0.5).stderr


def test_a_value_that_many_share_is_certain_or_in_doubt() -> None:
    """A quarter, a half and a quarter of three values: the median is the second, the lower quartile could be either."""
    values = np.repeat([-1.0, 0.0, 1.0], [1600, 3200, 1600])
    draw = np.random.default_rng(5).permutation(values)
    assert (quantiles_of(draw, 0.5).value, quantiles_of(draw, 0.5).stderr) == (0.0, 0.0)
    assert (quantiles_of(draw, 0.9).value, quantiles_of(draw, 0.9).stderr) == (1.0, 0.0)
    edge = quantiles_of(draw, 0.26)
    assert (np.isnan(edge.stderr), edge.note) == (True, "many trajectories share a value there")
