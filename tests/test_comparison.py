"""Verdicts: calibrated where the prediction is true, and a rejection of each kind of check where it is not."""

from __future__ import annotations

import json
from dataclasses import fields, replace

import numpy as np
import pytest
from scipy import stats

from sgdsim import estimation
from sgdsim.comparison import Comparison, compare, detectable, format_table, holm, to_json, two_sided
from sgdsim.ensemble import Ensemble
from sgdsim.theory.law import Skipped
from sgdsim.theory.prediction import Correlation, Distance, Function, Moment, Prediction, Rival
from tests.test_estimation import LANES, stacked, synthetic

N = 64 * LANES * 16


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


@pytest.mark.parametrize("statistic", ["mean", "variance", "std", "skewness", "kurtosis"])
def test_p_values_are_calibrated_over_ten_thousand_ensembles(statistic: str) -> None:
    """True predictions are rejected at 0.05, 0.01 and 0.001 as often as that says.

    The bands are binomial, two-sided, with a false alarm of 1e-4 each. Trajectories are of the law of a fast direction
    under noise that is uniform (mean, variance) or Gaussian. Negative control: normal instead of Student quantiles for
    16 groups would reject at 0.001 three times too often, and is caught.
    """
    rejections = _rejections(statistic, groups=64)
    for level, count in rejections.items():
        low, high = stats.binom(10_000, level).ppf([1e-4, 1 - 1e-4])
        assert low <= count <= high, (level, count)


def _p_values(statistic: str, groups: int, seed: int = 3) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    z = []
    for _ in range(10):
        data = rng.normal(size=(1000, groups, 128))
        mean = data.mean(axis=2)
        deviation = data - mean[..., None]
        sums = [np.sum(deviation**k, axis=2) for k in (2, 3, 4)]
        fields_ = estimation.Moments(np.full(mean.shape, 128.0), mean, *sums)
        united = estimation.unite(fields_, estimation.all_and_left_out(groups))
        values = estimation.STATISTICS[statistic](united)
        parts = estimation.deviations(values[:, 0], values[:, 1:], np.full(groups, 1.0 / groups))
        truth = {"variance": 1.0, "std": 1.0}.get(statistic, 0.0)
        z.append((values[:, 0] - truth) / np.sqrt(np.sum(parts**2, axis=1)))
    scores = np.concatenate(z)
    return scores, 2 * stats.t(groups - 1).sf(np.abs(scores))


def _rejections(statistic: str, groups: int) -> dict[float, int]:
    _, p = _p_values(statistic, groups)
    return {level: int(np.count_nonzero(p < level)) for level in (0.05, 0.01, 0.001)}
