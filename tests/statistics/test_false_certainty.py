"""False alarms where a standard error is not what it seems: rare events, lattices, and errors of second order.

As in `test_calibration`; a row may be in doubt, but may not accuse a true prediction more often than it says. Most have
the negative control that the plain standard error, or the plain test, does.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from functools import partial

import numpy as np
import pytest
from scipy import special, stats

from sgdsim.ensemble import Ensemble, Variable
from sgdsim.prediction import Correlation, Distance, Function, Moment, Prediction
from sgdsim.statistics import bootstrap, estimators
from sgdsim.statistics.comparison import compare
from sgdsim.statistics.goodness import chi_square
from sgdsim.statistics.rows import rows_of
from sgdsim.statistics.scores import ratio, two_sided
from sgdsim.statistics.two_values import TwoValues
from tests.samples import daily
from tests.statistics.test_calibration import GROUPS, SIZE, all_of, many, no_more_than_said, snapshot
from tests.statistics.test_estimators import synthetic


@pytest.fixture(autouse=True)
def fewer_draws(monkeypatch: pytest.MonkeyPatch) -> None:
    """Bootstraps of 9,999 draws, which reach 2e-4: a hundred times as many take most of the time."""
    monkeypatch.setattr(bootstrap, "studentised", partial(bootstrap.studentised, resamples=9_999))


def accused(ensemble: Ensemble, prediction: Prediction) -> float:
    """p where the row is judged; 1 where it is in doubt, and so accuses no one."""
    (row,) = rows_of([prediction], ensemble, 1e-3)
    return 1.0 if row.score.doubts or np.isnan(row.score.p) else row.score.p


def of_counts(counts: np.ndarray, sizes: int, pair: tuple[float, float], attributes: dict[str, str]) -> Ensemble:
    """Group sums of values that are the second of a pair in so many trajectories of each group, the first in others."""
    share = counts / sizes
    low, distance = pair[0], pair[1] - pair[0]
    sums = {"count": np.full(len(counts), float(sizes)), "mean": low + distance * share}
    for power in (2, 3, 4):
        sums[f"m{power}"] = counts * (distance * (1 - share)) ** power + (sizes - counts) * (-distance * share) ** power
    dimensions = ("record", "group", "observable")
    variables = {f"group_{name}": Variable(dimensions, data[None, :, None]) for name, data in sums.items()}
    names = {"observable": Variable(("observable",), ["x"]), "record_step": Variable(("record",), [0])}
    return Ensemble({**variables, **names}, attributes)


RANGES = {"ranges": '{"x": [0.0, 1.0]}'}


def test_means_over_standard_deviations_that_one_group_makes() -> None:
    """Of values of many sizes any group outweighs all others together, and each gives one over the root of the number.

    Negative control: the error from leaving out groups accuses a mean of zero.
    """
    rng = np.random.default_rng(8)
    groups = np.repeat(10.0 ** np.arange(64), 64)
    values = np.where(np.arange(64 * 64) % 64 == 0, groups, 1.0) * rng.choice([-1.0, 1.0], size=64 * 64)
    ratio_of = Function("ratio", np.divide, (Moment("mean", "x", 0), Moment("std", "x", 0)))
    ensemble = synthetic([{"x": values}])
    (row,) = rows_of([Prediction("r", "mean over std", ratio_of, 0.0)], ensemble, 1e-3)
    assert row.score.p < 1e-3
    assert any("one group of trajectories makes the mean of x" in doubt for doubt in row.score.doubts)
    ordinary = synthetic([{"x": rng.normal(size=64 * 64)}])
    assert accused(ordinary, Prediction("r", "mean over std", ratio_of, 0.5)) < 1e-3


def _entropy(*shares: np.ndarray) -> np.ndarray:
    return np.sum([special.entr(share) for share in shares], axis=0)


def test_states_that_one_trajectory_visits_leave_an_entropy_certain() -> None:
    """One trajectory of half a million is in a third state: one group makes its share, which hardly moves the entropy.

    Negative control: the root of that share, which depends on nothing else, is in doubt.
    """
    state = np.random.default_rng(9).choice([0, 1], p=[0.3, 0.7], size=64 * 8192)
    state[17] = 2
    ranges = ", ".join(f'"at_{k}": [0.0, 1.0]' for k in range(3))
    at = {f"at_{k}": (state == k).astype(float) for k in range(3)}
    ensemble = synthetic([at], attributes={"ranges": f"{{{ranges}}}"})
    shares = tuple(Moment("mean", f"at_{k}", 0) for k in range(3))
    entropy = Prediction("h", "entropy", Function("entropy", _entropy, shares), 0.0)
    alone = Prediction("r", "root of a share", Function("root", np.sqrt, (shares[2],)), 0.0)
    by_entropy, by_share = rows_of([entropy, alone], ensemble, 1e-3)
    assert not by_entropy.score.doubts
    assert by_entropy.score.p < 1e-3
    assert any("one group of trajectories makes the mean of at_2" in doubt for doubt in by_share.score.doubts)


def test_a_mean_of_heavy_tails_is_in_doubt_however_little_it_has_moved_a_sum() -> None:
    """Nearly all of the mean exp(50) of a log-normal variable is in values that none of 65,536 trajectories has drawn.

    The other term hides the error that groups show, not what is missing: p accuses the true sum.
    """
    rng = np.random.default_rng(0)
    heavy = np.exp(10.0 * rng.normal(size=64 * 1024))
    noise = 12.0 * heavy.std() * rng.normal(size=64 * 1024)
    total = Function("sum", np.add, (Moment("mean", "noise", 0), Moment("mean", "heavy", 0)))
    ensemble = synthetic([{"noise": noise, "heavy": heavy}])
    (row,) = rows_of([Prediction("s", "sum of means", total, np.exp(50.0))], ensemble, 1e-3)
    assert row.score.p < 1e-3
    assert any("one group of trajectories makes the mean of heavy" in doubt for doubt in row.score.doubts)


@all_of(200)
@pytest.mark.parametrize("known", [RANGES, {}], ids=["bounds", "no bounds"])
@pytest.mark.parametrize("expected", daily([0.1, 1.0, 3.0, 30.0, 300.0], 1.0, 30.0))
def test_means_of_events(expected: float, known: dict[str, str], ensembles: int) -> None:
    """Of 16,384 trajectories so many are expected to show an event; with bounds or without, none is accused too often.

    Negative control: standard errors alone reject a truth in a third of the samples where one event is expected.
    """
    probability = expected / (GROUPS * SIZE)
    claim = Prediction("e", "mean(x)", Moment("mean", "x", 0), probability)
    by_error = []

    def draw(rng: np.random.Generator) -> float:
        ensemble = of_counts(rng.binomial(SIZE, probability, GROUPS).astype(float), SIZE, (0.0, 1.0), known)
        one = estimators.statistic(ensemble, "mean", "x", 0)
        by_error.append(two_sided(ratio(one.value - probability, one.stderr), 63))
        return accused(ensemble, claim)

    assert no_more_than_said(many(ensembles, 46, draw))
    if expected in (0.1, 1.0, 3.0):
        assert np.mean(np.array(by_error) < 1e-3) > 0.5 * np.exp(-expected)


@all_of(200)
@pytest.mark.parametrize("statistic", daily(["variance", "std", "skewness", "kurtosis"], "variance", "kurtosis"))
@pytest.mark.parametrize("probability", daily([1e-4, 0.1, 0.5], 1e-4, 0.5))
def test_other_statistics_of_two_values(probability: float, statistic: str, ensembles: int) -> None:
    """Negative control: the jackknife takes the variance of two equally likely values for certain."""
    truth = float(TwoValues(-1.0, 1.0, 1, 2).statistic(statistic, np.array([probability]))[0])
    claim = Prediction("e", f"{statistic}(x)", Moment(statistic, "x", 0), truth)
    by_error = []

    def draw(rng: np.random.Generator) -> float:
        ensemble = of_counts(rng.binomial(SIZE, probability, GROUPS).astype(float), SIZE, (-1.0, 1.0), {})
        one = estimators.statistic(ensemble, statistic, "x", 0)
        by_error.append(two_sided(ratio(one.value - truth, one.stderr), 63))
        return accused(ensemble, claim)

    assert no_more_than_said(many(ensembles, 47, draw))
    if probability == 0.5 and statistic in ("variance", "std"):
        assert np.mean(np.array(by_error) < 1e-3) > 0.02


LATTICES: dict[str, Callable[[np.random.Generator, int], np.ndarray]] = {
    "signs with noise of 1e-3": lambda rng, n: rng.choice([-1.0, 1.0], n) + 1e-3 * rng.normal(size=n),
    "signs with noise of 1e-2": lambda rng, n: rng.choice([-1.0, 1.0], n) + 1e-2 * rng.normal(size=n),
    "signs with noise of 1e-1": lambda rng, n: rng.choice([-1.0, 1.0], n) + 0.1 * rng.normal(size=n),
    "three nodes of Gauss": lambda rng, n: np.sqrt(3.0) * rng.choice([-1.0, 0.0, 1.0], n, p=[1 / 6, 2 / 3, 1 / 6]),
    "sums of four signs": lambda rng, n: rng.choice([-1.0, 1.0], (n, 4)).sum(axis=1),
    "normal": lambda rng, n: rng.normal(size=n),
}


def _truth(law: str, statistic: str) -> float:
    """The exact statistic of a sum of independent parts, from their cumulants."""
    noise = {"signs with noise of 1e-3": 1e-6, "signs with noise of 1e-2": 1e-4, "signs with noise of 1e-1": 1e-2}
    second = {"three nodes of Gauss": 1.0, "sums of four signs": 4.0, "normal": 1.0}.get(law, 1.0 + noise.get(law, 0.0))
    fourth = {"three nodes of Gauss": 0.0, "sums of four signs": -8.0, "normal": 0.0}.get(law, -2.0)
    return {"variance": second, "std": np.sqrt(second), "skewness": 0.0, "kurtosis": fourth / second**2}[statistic]


@all_of(40)
@pytest.mark.parametrize("statistic", daily(["variance", "std", "skewness", "kurtosis"], "variance", "kurtosis"))
@pytest.mark.parametrize("law", daily(LATTICES, "signs with noise of 1e-2", "three nodes of Gauss", "normal"))
def test_statistics_near_which_the_first_order_vanishes(law: str, statistic: str, ensembles: int) -> None:
    """4,096 values, in 64 groups; doubts are allowed, accusations no more than said."""
    claim = Prediction("s", f"{statistic}(x)", Moment(statistic, "x", 0), _truth(law, statistic))

    def draw(rng: np.random.Generator) -> float:
        return accused(synthetic([{"x": LATTICES[law](rng, 4096)}], lanes=64), claim)

    assert no_more_than_said(many(ensembles, 48, draw))


FUNCTIONS: dict[str, tuple[Function, float]] = {
    "square of a mean of nought": (Function("square", np.square, (Moment("mean", "x", 0),)), 0.0),
    "product of means of nought": (
        Function("product", np.multiply, (Moment("mean", "x", 0), Moment("mean", "y", 0))),
        0.0,
    ),
    "cosine of a mean of nought": (Function("cosine", np.cos, (Moment("mean", "x", 0),)), 1.0),
    "ratio to a mean of one": (
        Function("ratio", lambda a, b: a / (1.0 + b), (Moment("mean", "x", 0), Moment("mean", "y", 0))),
        0.0,
    ),
}


@all_of(40)
@pytest.mark.parametrize("name", FUNCTIONS)
def test_functions_whose_gradient_vanishes(name: str, ensembles: int) -> None:
    """All but the ratio, whose gradient does not, are in doubt."""
    function, truth = FUNCTIONS[name]
    claim = Prediction("f", name, function, truth)
    doubts = []

    def draw(rng: np.random.Generator) -> float:
        x, y = rng.normal(size=(2, 2048))
        ensemble = synthetic([{"x": x, "y": y}], lanes=32)
        (row,) = rows_of([claim], ensemble, 1e-3)
        doubts.append(bool(row.score.doubts))
        return accused(ensemble, claim)

    assert no_more_than_said(many(ensembles, 49, draw))
    assert np.mean(doubts) == (0.0 if name.startswith("ratio") else 1.0)


@all_of(40)
@pytest.mark.parametrize("name", [name for name in FUNCTIONS if not name.startswith("ratio")])
def test_functions_at_an_extremum_with_a_tolerance(name: str, ensembles: int) -> None:
    """Of a true claim all but one in a hundred agree, and few are accused; a wrong one disagrees."""
    function, truth = FUNCTIONS[name]
    agreed = list[bool]()
    narrow, wide = (Prediction("f", name, function, truth, allowed=(off, off), resolution=off) for off in (1e-12, 0.03))

    def measured(rng: np.random.Generator, mean: float) -> Ensemble:
        x, y = mean + rng.normal(size=(2, 2048))
        return synthetic([{"x": x, "y": y}], lanes=32)

    def draw(rng: np.random.Generator) -> float:
        ensemble = measured(rng, 0.0)
        (row,), (verdict,) = rows_of([narrow], ensemble, 1e-3), compare(ensemble, [wide])
        agreed.append(verdict.verdict == "agrees")
        return 1.0 if row.score.doubts else float(row.score.p)

    assert no_more_than_said(many(ensembles, 55, draw))
    assert np.mean(agreed) >= 0.99
    (wrong,) = compare(measured(np.random.default_rng(56), 0.6), [wide])
    assert wrong.verdict == "disagrees"


@all_of(200)
@pytest.mark.parametrize(
    ("statistic", "probability"),
    daily(list(itertools.product(("mean", "variance"), (1e-5, 3e-4, 1e-2))), ("mean", 3e-4), ("variance", 1e-5)),
)
def test_noise_with_a_rare_outcome(statistic: str, probability: float, ensembles: int) -> None:
    """Normal noise with a kick of 30, after one step of 16,384 trajectories, where 0.2, 5 and 160 of them are kicked.

    Negative control: of samples without a kick, standard errors alone reject the truth where it should be seen.
    """
    kicked = TwoValues(0.0, 30.0, 1, 2)
    truth = float(kicked.statistic(statistic, np.array([probability]))[0]) + (statistic == "variance")
    claim = Prediction("r", f"{statistic}(x)", Moment(statistic, "x", 1), truth)
    attributes = {"rarest_noise": str(probability)}
    blind = []

    def draw(rng: np.random.Generator) -> float:
        x = rng.normal(size=16_384) + 30.0 * (rng.random(16_384) < probability)
        ensemble = synthetic([{"x": x}], (1,), lanes=256, attributes=attributes)
        one = estimators.statistic(ensemble, statistic, "x", 1)
        blind.append(bool(abs(one.skewness) < 1 and two_sided(ratio(one.value - truth, one.stderr), 63) < 1e-3))
        return accused(ensemble, claim)

    assert no_more_than_said(many(ensembles, 54, draw))
    if probability == 3e-4 and ensembles >= 10_000:
        assert np.mean(blind) > 0.003


@all_of(200)
def test_correlations_near_one(ensembles: int) -> None:
    """Of 2,048 values that differ by 1e-3 of their spread."""

    def draw(rng: np.random.Generator) -> float:
        x, noise = rng.normal(size=(2, 2048))
        truth = 1.0 / np.sqrt(1.0 + 1e-6)
        ensemble = synthetic([{"x": x}], snapshots={1: {"x": x}, 2: {"x": x + 1e-3 * noise}}, lanes=32)
        return accused(ensemble, Prediction("c", "correlation", Correlation("x", (1, 2)), float(truth)))

    assert no_more_than_said(many(ensembles, 50, draw))


@all_of(2000)
def test_densities_with_few_expected_in_a_bin(ensembles: int) -> None:
    """Ten in one bin, 16,000 in the other. Negative control: Pearson's sum alone sees a surplus too often."""
    probabilities = np.array([10.0, 16_374.0]) / 16_384
    rng = np.random.default_rng(52)
    counts = rng.multinomial(16_384, probabilities, size=10 * ensembles)
    p = np.array([chi_square(row, probabilities).p for row in counts])
    expected = 16_384 * probabilities
    pearson = stats.chi2.sf(((counts - expected) ** 2 / expected).sum(1), 1)
    assert no_more_than_said(p)
    if ensembles >= 10_000:
        assert np.mean(pearson < 1e-4) > 2e-4
        assert np.mean(p < 1e-4) <= 1.3e-4


@all_of(400)
def test_distribution_functions_with_steps(ensembles: int) -> None:
    """Of 1,024 sums of four signs, off by rounding. Negative control: a distance that counts the step itself."""
    places, law = np.arange(-4.0, 5.0, 2.0), stats.binom(4, 0.5)

    def cdf(values: np.ndarray) -> np.ndarray:
        return np.asarray(law.cdf(np.searchsorted(places, values, side="right") - 1.0))

    claim = Prediction("k", "law", Distance("x", 0, cdf), 0.0)
    naive = []

    def draw(rng: np.random.Generator) -> float:
        values = rng.choice([-1.0, 1.0], (1024, 4)).sum(axis=1) * (1.0 + 1e-15 * rng.normal(size=1024))
        naive.append(stats.kstest(values, cdf).pvalue)
        return accused(snapshot(values), claim)

    assert no_more_than_said(many(ensembles, 53, draw))
    assert np.mean(np.array(naive) < 1e-3) > 0.9
