"""The binomial law of what takes two values: found from moments, exact in its p-values, honest about what it sees."""

from __future__ import annotations

from math import sqrt

import numpy as np
import pytest
from scipy import stats

from sgdsim.prediction import STATISTICS, Moment, Prediction
from sgdsim.statistics import estimators
from sgdsim.statistics.comparison import Comparison, compare
from sgdsim.statistics.estimate import Estimate
from sgdsim.statistics.two_values import TwoValues, two_sided
from tests.statistics.test_estimators import naive, synthetic

N = 16_384


def found(values: np.ndarray) -> TwoValues | None:
    return TwoValues.of_moments(estimators.total(synthetic([{"x": values}], lanes=64), "x", 0))


def row(values: np.ndarray, claim: str, predicted: float, known: str = "", **options: float) -> Comparison:
    ensemble = synthetic([{"x": values}], lanes=64, attributes={"ranges": f'{{"x": {known}}}'} if known else {})
    prediction = Prediction("user-1", f"{claim}(x)", Moment(claim, "x", 0), predicted, **options)  # type: ignore[arg-type]
    return compare(ensemble, [prediction])[0]


@pytest.mark.parametrize("pair", [(0.0, 1.0), (-0.1, 0.1), (3.0, 3.001), (-1e6, 1.0)])
@pytest.mark.parametrize("events", [1, 2, 17, N // 2, N // 2 + 1, N - 3, N - 1])
def test_two_values_are_found_from_the_moments(events: int, pair: tuple[float, float]) -> None:
    values = np.repeat(pair, [N - events, events])
    np.random.default_rng(1).shuffle(values)
    two = found(values)
    assert two is not None
    assert (two.events, two.sample) == (events, N)
    assert (two.low, two.high) == pytest.approx(pair, rel=1e-9, abs=1e-12 * np.ptp(pair))


def test_other_samples_are_not_of_two_values() -> None:
    rng = np.random.default_rng(2)
    three = np.repeat([0.0, 1.0, 2.0], [N - 101, 100, 1])
    for values in (np.ones(N), three, rng.normal(size=N), rng.choice([-1.0, 1.0], N) + 1e-4 * rng.normal(size=N)):
        assert found(values) is None


def test_a_heavy_tail_whose_largest_value_is_alone_is_not_of_two_values() -> None:
    """Of a law whose mean exists; 1e-6 of samples by chance, at most."""
    rng = np.random.default_rng(3)
    assert not any(found(rng.pareto(1.1, size=N)) for _ in range(200))


@pytest.mark.parametrize("p", [1e-5, 0.3, 0.5, 0.9])
@pytest.mark.parametrize("name", STATISTICS)
def test_a_statistic_is_a_function_of_the_probability(name: str, p: float) -> None:
    """The one of a sample of that share, and it leads back to the probability."""
    two = TwoValues(-1.0, 3.0, 1, 10)
    value = float(two.statistic(name, np.array([p]))[0])
    assert min(abs(one - p) for one in two.probabilities(name, value)) < 1e-9
    for one in two.probabilities(name, value):
        assert float(two.statistic(name, np.array([one]))[0]) == pytest.approx(value)
    sample = np.repeat([-1.0, 3.0], [7000, 3000])
    unbiased = 10_000 / 9999 if name in ("variance", "std") else 1.0
    exact = float(two.statistic(name, np.array([0.3]))[0])
    assert naive(name, sample) == pytest.approx(exact * (sqrt(unbiased) if name == "std" else unbiased))


def test_p_values_are_those_of_the_binomial_law() -> None:
    for events, n, p in ((0, 100, 0.01), (7, 100, 0.01), (50, 100, 0.5), (100, 100, 0.9), (3, 100_000, 3e-5)):
        law = stats.binom(n, p)
        expected = min(1.0, 2.0 * min(law.cdf(events), law.sf(events - 1)))
        assert two_sided(events, n, p) == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize(
    ("name", "p"), [("mean", 0.0), ("mean", 3e-4), ("mean", 0.2), ("variance", 0.5), ("std", 0.1), ("kurtosis", 0.3)]
)
def test_what_is_detectable_is_seen_in_nine_of_ten_samples_and_no_less_would_be(name: str, p: float) -> None:
    """Exactly, by sums over the binomial law, for deviations in both directions that there can be."""
    n, level = 20_000, 1e-3
    two = TwoValues(0.0, 1.0, 5, n)
    claimed = float(two.statistic(name, np.array([p]))[0])
    seen = two.score(name, Estimate(claimed, 0.1, 63), claimed).detectable(level)
    events = np.arange(n + 1)
    p_values = np.max(
        [
            2 * np.minimum(stats.binom.cdf(events, n, one), stats.binom.sf(events - 1, n, one))
            for one in two.probabilities(name, claimed)
        ],
        axis=0,
    )

    def power(value: float) -> float:
        return min(
            (float(stats.binom.pmf(events, n, one)[p_values <= level].sum()) for one in two.probabilities(name, value)),
            default=1.0,  # no probability gives it: it cannot be
        )

    assert min(power(claimed + 1.01 * seen), power(claimed - 1.01 * seen)) >= 0.9
    assert min(power(claimed + 0.97 * seen), power(claimed - 0.97 * seen)) < 0.9


def test_who_follows_the_advice_sees_the_resolution() -> None:
    for p, resolution in ((0.0, 1e-6), (3e-6, 1e-6), (0.1, 1e-3)):
        few = TwoValues(0.0, 1.0, 0, 2048)
        score = few.score("mean", Estimate(p, 0.0, 63), p)
        times = score.factor(1e-3, resolution)
        more = TwoValues(0.0, 1.0, 0, round(2048 * times)).score("mean", Estimate(p, 0.0, 63), p)
        assert score.detectable(1e-3) > resolution >= more.detectable(1e-3) > 0.95 * resolution


def test_events_that_no_trajectory_shows() -> None:
    """Of a rare event with 0.34 expected; a wrong claim that it never happens is not agreed with, nor a far one."""
    none = np.zeros(100_000)
    assert row(none, "mean", 3.4e-6, "[0, 1]").verdict == "inconclusive"
    assert row(none, "mean", 0.0, "[0, 1]", resolution=1e-6).verdict == "inconclusive"
    assert row(none, "mean", 0.0, "[0, 1]", resolution=1e-3).verdict == "agrees"
    assert row(none, "mean", 1e-3, "[0, 1]").verdict == "disagrees"  # negative control: a hundred are expected
    assert row(none, "variance", 1e-3, "[0, 1]").verdict == "disagrees"
    assert row(none + 1.0, "mean", 1.0 - 3.4e-6, "[0, 1]", resolution=1e-6).verdict == "inconclusive"
    assert row(none + 1.0, "mean", 0.99, "[0, 1]").verdict == "disagrees"


def test_bounds_further_away_hide_more() -> None:
    none = np.zeros(100_000)
    assert row(none, "mean", 1e-3, "[0, 1000]").verdict == "inconclusive"
    assert row(none, "mean", -1e-3, "[0, 1000]").verdict == "disagrees"  # nothing leads there
    assert row(none, "mean", 1.0, "[0, 1000]").verdict == "disagrees"


def test_no_spread_and_no_bounds_decide_nothing() -> None:
    for claim, predicted in (("mean", 0.0), ("mean", 1e-6), ("mean", 9.0), ("variance", 0.0), ("variance", 1.0)):
        one = row(np.zeros(N), claim, predicted, resolution=0.1)
        assert one.verdict == "inconclusive"
        assert "all trajectories show the same x" in one.note
        assert np.isnan(one.p)


def test_few_events_are_told_by_number() -> None:
    values = np.zeros(100_000)
    values[[5, 70_000, 99_999]] = 1.0
    one = row(values, "mean", 1e-4, "[0, 1]")
    assert one.verdict == "inconclusive"
    assert "binomial law: 3 of 100,000 trajectories show 1, the others 0" in one.note
    assert one.p == pytest.approx(2 * stats.binom.cdf(3, 100_000, 1e-4))
    assert one.stderr == pytest.approx(sqrt(3) / 100_000, rel=0.2)
    assert row(values, "mean", 1e-3).verdict == "disagrees"


def test_two_equally_likely_values() -> None:
    """The variance of signs is known to one in N: an error of 1 % in it is seen, and a true one is never accused."""
    signs = 0.1 * np.random.default_rng(4).choice([-1.0, 1.0], N)
    for claim, true in (("variance", 0.01), ("std", 0.1), ("kurtosis", -2.0), ("skewness", 0.0), ("mean", 0.0)):
        assert row(signs, claim, true).p > 1e-3, claim
    assert row(signs, "variance", 0.01).verdict == "agrees"
    assert row(signs, "variance", 0.0099).verdict == "disagrees"
    assert row(signs, "variance", 0.0101).verdict == "disagrees"  # no share of two such values gives it
    assert row(signs, "skewness", 0.2).verdict == "disagrees"


def test_pairs_of_trajectories_have_no_binomial_law() -> None:
    values = np.zeros(N)
    values[[1, 2]] = 1.0
    ensemble = synthetic([{"x": values}], lanes=64, attributes={"ranges": '{"x": [0, 1]}', "antithetic": "1"})
    claim = Prediction("user-1", "mean(x)", Moment("mean", "x", 0), 1e-4)
    assert "binomial" not in compare(ensemble, [claim])[0].note
