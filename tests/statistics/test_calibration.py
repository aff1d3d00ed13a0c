"""False alarms: a true prediction of each kind is rejected as often as the level says.

Rejections at 0.05, 0.01 and 0.001 must lie within binomial bands of 1e-4, so that each test here fails by chance with a
probability of at most 3e-4 (seeds are fixed). A shorter version runs always, 10,000 ensembles in `make validate`. That
the bands notice what is wrong by a factor of two, and that every kind of check rejects a wrong prediction, is tested
too, the latter in test_comparison.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from scipy import stats

from sgdsim.ensemble import Ensemble, Variable
from sgdsim.prediction import Correlation, Curve, Density, Distance, Moment, Prediction, Tail
from sgdsim.statistics import bootstrap, estimators
from sgdsim.statistics.comparison import compare
from sgdsim.statistics.estimate import Estimate, all_and_left_out, deviations, unite
from sgdsim.statistics.goodness import tail
from sgdsim.statistics.moments import Moments
from sgdsim.statistics.order_test import Advice, Series, advise, order_test
from sgdsim.statistics.scores import detectable, score, two_sided
from tests.statistics.test_estimators import stacked, synthetic

LEVELS = (0.05, 0.01, 0.001)
GROUPS = 64
SIZE = 256


def all_of(count: int) -> object:
    """The always-run number of ensembles, and 10,000 for the long suite."""
    return pytest.mark.parametrize("ensembles", [count, pytest.param(10_000, marks=pytest.mark.validate)])


def rejections(p: np.ndarray) -> list[tuple[int, float, float]]:
    """Number of rejections, and its band, at each level."""
    return [(int(np.count_nonzero(p < level)), *stats.binom(len(p), level).ppf([5e-5, 1 - 5e-5])) for level in LEVELS]


def calibrated(p: np.ndarray) -> bool:
    return all(low <= count <= high for count, low, high in rejections(p))


def no_more_than_said(p: np.ndarray) -> bool:
    return all(count <= high for count, _, high in rejections(p))


def drawn(rng: np.random.Generator, records: int = 1, mean: float = 0.0, std: float = 1.0) -> dict[str, Variable]:
    """Group sums of normal values x at every record, from their exact law."""
    shape = (records, GROUPS, 1)
    sums = {
        "count": np.full(shape, float(SIZE)),
        "mean": mean + std * rng.normal(size=shape) / np.sqrt(SIZE),
        "m2": std**2 * rng.chisquare(SIZE - 1, size=shape),
        "m3": np.zeros(shape),
        "m4": np.zeros(shape),
    }
    variables = {f"group_{name}": Variable(("record", "group", "observable"), data) for name, data in sums.items()}
    variables["observable"] = Variable(("observable",), ["x"])
    variables["record_step"] = Variable(("record",), np.arange(records))
    return variables


def p_of(ensemble: Ensemble, prediction: Prediction) -> float:
    return compare(ensemble, [prediction])[0].p


def many(count: int, seed: int, draw: Callable[[np.random.Generator], float]) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return np.array([draw(rng) for _ in range(count)])


# Moments.


def _scores(statistic: str, groups: int, count: int) -> np.ndarray:
    """z of true predictions for normal values, the sums of their groups drawn from their exact law."""
    rng, scores = np.random.default_rng(3), []
    for _ in range(count // 500):
        mean = rng.normal(size=(500, groups)) / np.sqrt(SIZE)
        m2 = rng.chisquare(SIZE - 1, size=(500, groups))
        sums = Moments(np.full(mean.shape, float(SIZE)), mean, m2, 0 * m2, 0 * m2)
        values = estimators.STATISTICS[statistic](unite(sums, all_and_left_out(groups)))
        parts = deviations(values[:, 0], values[:, 1:], np.full(groups, 1.0 / groups))
        truth = 0.0 if statistic == "mean" else 1.0
        scores.append((values[:, 0] - truth) / np.sqrt(np.sum(parts**2, axis=1)))
    return np.concatenate(scores)


@all_of(2000)
@pytest.mark.parametrize("groups", [64, 16])
@pytest.mark.parametrize("statistic", ["mean", "variance"])
def test_moments(statistic: str, groups: int, ensembles: int) -> None:
    assert calibrated(2 * stats.t(groups - 1).sf(np.abs(_scores(statistic, groups, ensembles))))


def test_normal_quantiles_for_few_groups_are_not_calibrated() -> None:
    """Negative control of the bands: rejections at 1e-3 are 2.8 times as many."""
    assert not calibrated(2 * stats.norm.sf(np.abs(_scores("mean", 16, 10_000))))


@all_of(100)
def test_correlations(ensembles: int) -> None:
    def draw(rng: np.random.Generator) -> float:
        x, noise = rng.normal(size=(2, GROUPS * 8))
        ensemble = synthetic([{"x": x}], snapshots={1: {"x": x}, 2: {"x": 0.6 * x + 0.8 * noise}}, lanes=8)
        return p_of(ensemble, Prediction("c", "correlation", Correlation("x", (1, 2)), 0.6))

    assert calibrated(many(ensembles, 5, draw))


# Curves.


@all_of(100)
def test_curves_of_independent_points(ensembles: int) -> None:
    moments = tuple(Moment("variance", "x", step) for step in range(6))

    def draw(rng: np.random.Generator) -> float:
        ensemble = Ensemble(drawn(rng, records=6), {})
        return p_of(ensemble, Prediction("c", "curve", Curve(moments, (1.0,) * 6), 1.0))

    assert calibrated(many(ensembles, 31, draw))


@pytest.mark.validate
@all_of(200)
def test_curves_of_points_that_move_together_reject_no_more_than_said(ensembles: int) -> None:
    """Sidak's level holds whatever the correlation, here 0.9 between neighbours."""
    moments = tuple(Moment("mean", "x", step) for step in range(6))

    def draw(rng: np.random.Generator) -> float:
        variables = drawn(rng, records=6)
        sums = variables["group_mean"].data
        for step in range(1, 6):
            sums[step] = 0.9 * sums[step - 1] + np.sqrt(1 - 0.81) * sums[step]
        variables["group_mean"] = Variable(("record", "group", "observable"), sums)
        return p_of(Ensemble(variables, {}), Prediction("c", "curve", Curve(moments, (0.0,) * 6), 0.0))

    assert no_more_than_said(many(ensembles, 32, draw))


# Distributions.


EDGES = np.linspace(-3.0, 3.0, 31)


def _histograms(rng: np.random.Generator, n: int, probabilities: np.ndarray) -> Ensemble:
    counts = rng.multinomial(n, probabilities)
    variables = {
        "histogram_x": Variable(("record", "bin_x"), counts[None, 1:-1]),
        "underflow_x": Variable(("record",), counts[:1]),
        "overflow_x": Variable(("record",), counts[-1:]),
        "edges_x": Variable(("edge_x",), EDGES),
        "record_step": Variable(("record",), [0]),
    }
    return Ensemble(variables, {})


@all_of(400)
@pytest.mark.parametrize("n", [500, 50_000])
def test_densities(n: int, ensembles: int) -> None:
    """With few values most bins are merged, with many none."""
    probabilities = np.diff([0.0, *stats.norm.cdf(EDGES), 1.0])
    claim = Prediction("d", "density", Density("x", 0, lambda x: np.asarray(stats.norm.cdf(x))), 0.0)
    assert calibrated(many(ensembles, 33, lambda rng: p_of(_histograms(rng, n, probabilities), claim)))


def test_a_density_off_by_what_is_detectable_is_seen() -> None:
    """In the worst case 90 % of 500; less than 84 % would be 1e-4 by chance. A total variation of that size, spread in
    proportion to the probabilities, is the worst case: any other has a larger chi-square.
    """
    probabilities = np.diff([0.0, *stats.norm.cdf(EDGES), 1.0])
    claim = Prediction("d", "density", Density("x", 0, lambda x: np.asarray(stats.norm.cdf(x))), 0.0)
    rng, n = np.random.default_rng(34), 50_000
    seen = compare(_histograms(rng, n, probabilities), [claim])[0].detectable
    signs = np.where(np.cumsum(probabilities) < 0.5, 1.0, -1.0)
    signs -= np.sum(signs * probabilities)
    off = probabilities * (1.0 + 2.0 * seen * signs / np.sum(np.abs(signs) * probabilities))
    assert np.abs(off - probabilities).sum() / 2 == pytest.approx(seen)
    power = np.mean([p_of(_histograms(rng, n, off), claim) < 1e-3 for _ in range(500)])
    assert 0.84 < power < 0.96


@all_of(400)
def test_distribution_functions(ensembles: int) -> None:
    claim = Prediction("k", "law", Distance("x", 0, lambda x: np.asarray(stats.norm.cdf(x))), 0.0)

    def draw(rng: np.random.Generator) -> float:
        return p_of(snapshot(rng.normal(size=512)), claim)

    assert calibrated(many(ensembles, 35, draw))


def snapshot(values: np.ndarray) -> Ensemble:
    theta = Variable(("snapshot", "trajectory", "parameter"), values[None, :, None])
    names = {"parameter": Variable(("parameter",), ["x"]), "snapshot_step": Variable(("snapshot",), [0])}
    return Ensemble({"theta": theta, **names}, {})


# Tails.


@all_of(400)
@pytest.mark.parametrize("fraction", [0.02, 0.2])
def test_tails(fraction: float, ensembles: int) -> None:
    """Pareto's law, from 40 and from 400 values: it is a power everywhere."""
    claim = Prediction("t", "tail", Tail("x", 0, fraction), 2.5)

    def draw(rng: np.random.Generator) -> float:
        return p_of(snapshot(rng.pareto(2.5, size=2000) + 1.0), claim)

    assert calibrated(many(ensembles, 36, draw))


def test_true_powers_are_seldom_in_doubt_and_others_seldom_rejected() -> None:
    """Of 500 samples each, true exponents.

    Pareto's law is in doubt in 1 %, more than 15 by chance with 1e-4. Student's t of 3 degrees is not yet a power where
    its outer tenth begins: without the doubt nearly all samples would reject the exponent, with it at most 1 %.
    """
    rng = np.random.default_rng(37)
    pareto = [tail(rng.pareto(3.0, size=20_000) + 1.0, 3.0, 0.05, 1e-3) for _ in range(500)]
    assert sum(bool(one.doubts) for one in pareto) <= 15
    student = [tail(rng.standard_t(3.0, size=20_000), 3.0, 0.1, 1e-3) for _ in range(500)]
    assert sum(one.p < 1e-3 for one in student) > 450
    assert sum(one.p < 1e-3 and not one.doubts for one in student) <= 5


def test_an_exponent_off_by_what_is_detectable_is_seen() -> None:
    """In 90 % of 500, upwards or downwards, whichever is harder; less than 84 % or more than 95 % with 1e-4."""
    rng, power = np.random.default_rng(38), []
    seen = tail(rng.pareto(2.0, size=10_000) + 1.0, 2.0, 0.05, 1e-3).detectable(1e-3)
    for exponent in (2.0 - seen, 2.0 + seen):
        samples = (rng.pareto(exponent, size=10_000) + 1.0 for _ in range(500))
        power.append(np.mean([tail(values, 2.0, 0.05, 1e-3).p < 1e-3 for values in samples]))
    assert 0.84 < min(power) < 0.95
    assert max(power) > 0.84


# Bootstrap.


Draw = Callable[[np.random.Generator, tuple[int, int]], np.ndarray]


def _bootstrapped(draw: Draw, mean: float, count: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """p by bootstrap and by Student's t of true means of groups, and the skewness of these."""
    rng, found = np.random.default_rng(39), []
    for _ in range(count // 100):
        values = draw(rng, (100, GROUPS))
        left_out = (values.sum(1, keepdims=True) - values) / (GROUPS - 1)
        parts = deviations(values.mean(1), left_out, np.full(GROUPS, 1.0 / GROUPS))
        z = (values.mean(1) - mean) / np.sqrt(np.sum(parts**2, axis=1))
        p = list(map(bootstrap.p_value, bootstrap.studentised(parts, 9999), z))
        found.append([p, 2 * stats.t(GROUPS - 1).sf(np.abs(z)), stats.skew(values, axis=1)])
    by_bootstrap, by_student, skewness = np.concatenate(found, axis=1)
    return by_bootstrap, by_student, skewness


LAWS: dict[str, tuple[Draw, float]] = {
    "normal": (lambda rng, shape: rng.normal(size=shape), 0.0),
    "gamma, skewness 1": (lambda rng, shape: rng.gamma(4.0, size=shape), 4.0),
    "exponential, skewness 2": (lambda rng, shape: rng.gamma(1.0, size=shape), 1.0),
    "lognormal, skewness 1.75": (lambda rng, shape: np.exp(0.5 * rng.normal(size=shape)), np.exp(0.125)),
}


@all_of(200)
@pytest.mark.parametrize("law", LAWS)
def test_bootstraps(law: str, ensembles: int) -> None:
    """The p-value is the larger of two, so that it may reject less often than it says, but not half as often."""
    p, *_ = _bootstrapped(*LAWS[law], ensembles)
    assert no_more_than_said(p)
    for level in LEVELS:
        assert np.count_nonzero(p < level) >= stats.binom(len(p), level / 2).ppf(1e-4)


@pytest.mark.validate
def test_where_the_bootstrap_is_not_to_be_trusted() -> None:
    """What is said of groups whose median skewness is 2.6: truths are rejected at 1e-3 two to five times too often."""
    p, *_ = _bootstrapped(lambda rng, shape: np.exp(rng.normal(size=shape)), np.exp(0.5), 20_000)
    assert 0.002 < np.mean(p < 1e-3) < 0.005


@all_of(2000)
def test_skewed_groups_need_the_bootstrap(ensembles: int) -> None:
    """Groups of exponential law that rows judge by it. Negative control: Student's t rejects twice as often."""
    p, student, skewness = _bootstrapped(*LAWS["exponential, skewness 2"], ensembles)
    judged = (skewness > 1) & (skewness <= bootstrap.MOST_SKEWED)
    assert 0.6 < np.mean(judged) < 0.8
    assert no_more_than_said(p[judged])
    assert np.sum(student[judged] < 0.01) > 1.6 * np.sum(p[judged] < 0.01)


@pytest.mark.validate
def test_a_score_is_of_the_bootstrap_where_groups_are_skewed() -> None:
    """Between 1 and 2; below Student's t, beyond in doubt. Its p-value is the one whose calibration was tested."""
    rng, shares = np.random.default_rng(40), np.full(GROUPS, 1.0 / GROUPS)
    kinds = set()
    for values in rng.gamma(1.0, size=(30, GROUPS)):
        estimate = Estimate.jackknife(values.mean(), (values.sum() - values) / (GROUPS - 1), shares)
        one, skewness = score(estimate, 1.0), stats.skew(values)
        kind = "student" if skewness <= 1 else "bootstrap" if skewness <= 2 else "doubt"
        kinds.add(kind)
        assert bool(one.doubts) == (kind == "doubt")
        assert (one.floor > 0) == (kind == "bootstrap")
        expected = two_sided(one.z, GROUPS - 1)
        if kind == "bootstrap":
            expected = bootstrap.p_value(bootstrap.studentised(estimate.deviations), one.z)
        assert one.p == expected
    assert kinds == {"student", "bootstrap", "doubt"}


def test_a_mean_of_skewed_groups_off_by_what_is_detectable_is_seen() -> None:
    """In 90 % or more of 300 samples, either sign; less than 81 % with 1e-4."""
    rng, power = np.random.default_rng(45), {-1: 0, 1: 0}
    for values in rng.gamma(4.0, size=(300, GROUPS)):
        parts = (values - values.mean()) / np.sqrt(GROUPS * (GROUPS - 1))
        t, stderr = bootstrap.studentised(parts, 1999), np.sqrt(np.sum(parts**2))
        seen = stderr * bootstrap.detectable(t, 0.05, 0.9)
        for sign in power:
            power[sign] += bootstrap.p_value(t, (values.mean() - 4.0 + sign * seen) / stderr) < 0.05
    assert min(power.values()) > 0.81 * 300


# Orders.


RATES = np.array([0.1, 0.2, 0.3, 0.4, 0.6])


@all_of(100)
def test_orders(ensembles: int) -> None:
    """mean = eta/2 + eta^2/4, claimed as eta/2 to order 1."""
    truth = RATES / 2 + RATES**2 / 4
    claims = [
        Prediction("o", "mean(x)", Moment("mean", "x", 0), rate / 2, 1, point=point, small=rate)
        for point, rate in enumerate(RATES)
    ]

    def draw(rng: np.random.Generator) -> float:
        ensemble = stacked([Ensemble(drawn(rng, mean=value, std=4e-2), {}) for value in truth])
        return compare(ensemble, claims)[0].p

    assert calibrated(many(ensembles, 41, draw))


def _estimates(rates: np.ndarray, truth: np.ndarray, errors: np.ndarray, rng: np.random.Generator) -> Series:
    """Estimates of independent points from 64 groups, held against eta/2 to order 1."""
    estimates = []
    for value, error in zip(truth, errors, strict=True):
        groups = value + error * np.sqrt(GROUPS) * rng.normal(size=GROUPS)
        left_out = (groups.sum() - groups) / (GROUPS - 1)
        estimates.append(Estimate.jackknife(groups.mean(), left_out, np.full(GROUPS, 1.0 / GROUPS)))
    return Series(rates, estimates, rates / 2, 1)


def _decides(series: Series, alpha: float = 1e-3) -> str:
    test = order_test(series, alpha)
    b, stderr = test.guard.coefficients[0], test.guard.stderrs[0]
    if two_sided(b / stderr, test.fit.freedom) <= alpha and test.accepted:
        return "disagrees"
    fine = test.accepted and test.power == series.order
    return "agrees" if fine and detectable(stderr, test.fit.freedom, alpha) <= 0.01 / 2 else "undecided"


LARGE = np.array([0.4, 0.6, 0.8, 1.2, 1.6])
# What is measured, at which rates, with which error, how errors grow with the rate.
UNDECIDED: dict[str, tuple[Callable[[np.ndarray], np.ndarray], np.ndarray, float, float, str]] = {
    "errors too large": (lambda eta: eta / 2 + eta**2 / 4, RATES, 2e-3, 0.5, "agrees"),
    "errors too large, a series without end": (lambda eta: eta / (2 - eta), RATES, 2e-3, 1.0, "agrees"),
    "rates too large": (lambda eta: eta / (2 - eta), LARGE, 1e-4, 0.0, "agrees"),
    "rates much too large": (lambda eta: eta / (2 - eta), LARGE, 1e-6, 1.0, "agrees"),
    "wrong by 3 %": (lambda eta: eta / (2 - eta) - 0.015 * eta, RATES, 2e-3, 0.5, "disagrees"),
    "wrong by 3 %, rates too large": (lambda eta: eta / (2 - eta) - 0.015 * eta, LARGE, 1e-5, 0.5, "disagrees"),
}


@pytest.mark.parametrize("case", UNDECIDED)
def test_who_follows_the_advice_gets_an_answer(case: str) -> None:
    """Undecided in 9 of 10 trials before, decided, and rightly, in 3 of 4 after, of 40.

    The advice is uncertain itself: how errors grow with the rate is estimated from five of them, and in one of twenty
    trials chi-square asks for a term too many.
    """
    measured, rates, error, growth, answer = UNDECIDED[case]
    rng, before, after = np.random.default_rng(42), [], []
    for _ in range(40):
        series = _estimates(rates, measured(rates), error * (rates / rates.max()) ** growth, rng)
        before.append(_decides(series))
        advice = advise(series, 0.01 * rates / 2, 1e-3)
        eta, fewer = rates * advice.factor, 1.0 / np.sqrt(advice.trajectories)
        after.append(_decides(_estimates(eta, measured(eta), fewer * error * (eta / rates.max()) ** growth, rng)))
    assert before.count("undecided") >= 36
    assert after.count(answer) >= 30


def test_the_same_rates_are_kept_where_trajectories_alone_decide() -> None:
    """Errors that do not grow, and terms that fall off at once: nothing is won at other rates."""
    rates = np.array([0.1, 0.15, 0.2, 0.25, 0.3])
    advice = advise(
        _estimates(rates, rates / 2 + rates**2 / 4, np.full(5, 5e-4), np.random.default_rng(43)), 0.1 * rates, 1e-3
    )
    assert advice.factor == 1
    assert advice.trajectories > 1


def test_advice_is_a_sentence() -> None:
    assert str(Advice(0.5, 1.0)) == "0.5 times these learning rates would decide"
    assert str(Advice(1.0, 340.0)) == "340 times the trajectories would decide"
    assert str(Advice(0.25, 1500.0)) == "0.25 times these learning rates with 1,500 times the trajectories would decide"
    assert str(Advice(np.nan, np.inf)).startswith("no 0.004 to 8 times these learning rates would decide")


def test_an_undecided_row_of_an_order_gives_the_advice() -> None:
    """In its note, at the level of one among all rows, whether errors are too large or chi-square refuses."""
    for rates, std in ((RATES, 0.3), (LARGE, 1e-4)):
        rng = np.random.default_rng(44)
        claims = [
            Prediction("o", "mean(x)", Moment("mean", "x", 0), rate / 2, 1, point=point, small=rate)
            for point, rate in enumerate(rates)
        ]
        points = [Ensemble(drawn(rng, mean=rate / (2 - rate), std=std), {}) for rate in rates]
        row = compare(stacked(points), claims)[0]
        assert row.verdict == "inconclusive"
        assert "times these learning rates" in row.note
        assert "would decide" in row.note
