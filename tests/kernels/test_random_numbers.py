"""Statistics of the deviates as they come out of the kernels.

Every test takes a number of p-values of independent or dependent checks and fails when the smallest, times their
number (Bonferroni), is below `FALSE_ALARM`: a generator that is perfect fails one in a million of these tests. Seeds
are fixed, so what passes once passes always. Each check has a negative control, a flaw that it must find.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import pytest
import scipy.special
import scipy.stats
from numba import njit

from sgdsim.kernels.philox import STREAMS
from sgdsim.model.loss import Loss
from sgdsim.model.losses.river_valley import river_valley
from sgdsim.model.noise import Noise
from sgdsim.model.optimizers import Optimizer
from sgdsim.model.run import Run
from sgdsim.model.schedules import Schedule
from sgdsim.simulation.simulator import Simulator
from tests import naive
from tests.conftest import RIVER
from tests.kernel_calls import Kernels
from tests.samples import daily

FALSE_ALARM = 1e-6
SEED = 0x9E3779B97F4A7C15
LARGEST = {"float32": 6.77, "float64": 9.50}  # of |z|: sqrt(2 log 2^33) and sqrt(2 log 2^65)


def rejected(p: Mapping[str, float]) -> set[str]:
    """The checks that fail at the family-wise level."""
    return {name for name, value in p.items() if not value * len(p) > FALSE_ALARM}


def two_sided(z: float) -> float:
    return float(2 * scipy.stats.norm.sf(abs(z)))


def count_p(count: int, n: int, probability: float) -> float:
    """Two-sided p-value of a number of successes in n independent trials."""
    law = scipy.stats.binom(n, probability)
    return float(min(1.0, 2 * min(law.cdf(count), law.sf(count - 1))))


def mean_p(values: np.ndarray, mean: float, variance: float) -> float:
    return two_sided((float(values.mean(dtype=np.float64)) - mean) * math.sqrt(values.size / variance))


def ks_p(cdf_of_sorted: np.ndarray) -> float:
    """Kolmogorov-Smirnov, from the true distribution function at the sorted values."""
    n = cdf_of_sorted.size
    grid = np.arange(n + 1) / n
    distance = max(np.max(grid[1:] - cdf_of_sorted), np.max(cdf_of_sorted - grid[:-1]))
    return float(scipy.stats.kstwobign.sf(distance * math.sqrt(n)))


def moments_p(name: str, values: np.ndarray, highest: int, even: Callable[[int], float]) -> dict[str, float]:
    """Moments of a symmetric law from the formula of its even ones."""
    p, power = {}, np.ones_like(values)
    for k in range(1, highest + 1):
        power *= values
        mean = 0.0 if k % 2 else even(k)
        p[f"{name}, moment {k}"] = mean_p(power, mean, even(2 * k) - mean**2)
    return p


def pair_p(name: str, a: np.ndarray, b: np.ndarray) -> dict[str, float]:
    """Correlation of standard normals, and of their squares, which Box-Muller partners would show first."""
    a, b = a.astype(np.float64).ravel(), b.astype(np.float64).ravel()
    return {
        name: mean_p(a * b, 0.0, 1.0),
        f"{name}, squares": mean_p((a * a - 1) * (b * b - 1), 0.0, 4.0),
        f"{name}, square with sign": mean_p((a * a - 1) * b, 0.0, 2.0),
    }


def normal_p(z: np.ndarray) -> dict[str, float]:
    """Everything about an array (step, trajectory) of what should be independent standard normals."""
    n = z.size
    powers, tails = np.zeros(7), np.zeros(3, dtype=np.int64)
    thresholds = (4.0, 4.5, 5.0)
    for row in z:
        values = row.astype(np.float64)
        power = np.ones_like(values)
        for order in range(1, 7):
            power *= values
            powers[order] += power.sum()
        tails += [np.count_nonzero(abs(values) > threshold) for threshold in thresholds]
    moment = [normal_moment(order) for order in range(13)]
    p = {
        f"moment {k}": two_sided((powers[k] / n - moment[k]) * math.sqrt(n / (moment[2 * k] - moment[k] ** 2)))
        for k in range(1, 7)
    }
    p |= {
        f"beyond {threshold}": count_p(int(count), n, 2 * scipy.stats.norm.sf(threshold))
        for threshold, count in zip(thresholds, tails, strict=True)
    }
    p["Kolmogorov-Smirnov"] = ks_p(scipy.special.ndtr(np.sort(z, axis=None).astype(np.float64)))
    first = z[:16]  # enough for correlations
    for lag in (1, 2, 256):
        p |= pair_p(f"trajectories {lag} apart", first[:, lag:], first[:, :-lag])
    for lag in (1, 2, 3, 4, 8):
        p |= pair_p(f"steps {lag} apart", first[lag:], first[:-lag])
    p |= pair_p("Box-Muller partners", first[::2], first[1::2])
    return p


def normal_moment(order: int) -> int:
    return 0 if order % 2 else math.prod(range(1, order, 2))


# Two programs, each with every kind of deviate in the initial state and in the gradient.

DRAWN = {
    "normal": "normal:-0.3,0.7",
    "uniform": "uniform:0.1,0.4",
    "laplace": "laplace:0.2,1.5",
    "rademacher": "rademacher",
}


def families_run(trajectories: int = 1, **fields: Any) -> Run:
    """A run whose initial state is one draw of each family, and whose gradient is noise alone."""
    loss = Loss(
        " + ".join(f"{name}*xi_{name}" for name in DRAWN),
        tuple(DRAWN),
        noise={f"xi_{name}": Noise.parse(text) for name, text in DRAWN.items()},
    )
    initial = {name: Noise.parse(text) for name, text in DRAWN.items()}
    return Run(loss, Optimizer(), Schedule("1"), initial, trajectories, 1, SEED, **fields)


def normal_run(**fields: Any) -> Run:
    """One normal a step, four steps a draw, and one for the initial state; its kernels serve other tests too."""
    initial = {"x": 0.5, "y": Noise.parse("normal:1,0.1")}
    return Run(river_valley(constants=RIVER), Optimizer(), Schedule("1"), initial, 1, 1, SEED, **fields)


@pytest.fixture(scope="module", params=["float32", "float64"])
def noise_dtype(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def kernels(noise_dtype: str) -> Kernels:
    return Kernels(Simulator(normal_run(noise_dtype=noise_dtype)).program, "cpu")


@pytest.fixture(scope="module")
def initial_state(noise_dtype: str) -> dict[str, np.ndarray]:
    """Two million draws of each family."""
    (block,) = Simulator(families_run(2**21, noise_dtype=noise_dtype)).blocks(2**21)
    state = block.state.reshape(len(block.state), len(DRAWN), -1)
    return {name: state[:, i].ravel() for i, name in enumerate(DRAWN)}


def deviates(
    kernels: Kernels,
    n_draws: int,
    tiles: int,
    *,
    seed: int = SEED,
    first_draw: int = 0,
    first_trajectory: int = 0,
    point: int = 0,
    function: str = "step_deviates",
) -> np.ndarray:
    """The deviates of so many draws, one after the other in time, of so many tiles: (step, trajectory)."""
    draws = kernels.layout.draws if function == "step_deviates" else kernels.layout.starts
    kinds_used = 4 if kernels.noise is np.float32 else 2  # a float64 normal takes two words, and the first one's row
    found = np.empty((n_draws, tiles, draws.rows * kernels.lanes), kernels.noise)
    key = np.uint32(seed & 0xFFFFFFFF), np.uint32(seed >> 32)
    for draw in range(n_draws):
        completed = (first_draw + draw) * draws.steps_a_draw
        for tile in range(tiles):
            trajectory = first_trajectory + tile * kernels.lanes
            if function == "step_deviates":
                found[draw, tile] = kernels.step_deviates(trajectory, completed, key, point).reshape(-1)
            else:
                found[draw, tile] = kernels.initial_deviates(trajectory, key, point).reshape(-1)
    split = found.reshape(n_draws, tiles, kinds_used, draws.rows // kinds_used, kernels.lanes)[:, :, :, 0]
    return split.transpose(0, 2, 1, 3).reshape(n_draws * kinds_used, tiles * kernels.lanes)


@pytest.mark.parametrize("noise_dtype", daily(["float32", "float64"], "float32"), indirect=True)
def test_normals(kernels, noise_dtype):
    """Moments to order 6, tails, distribution, and correlations between steps, trajectories and partners."""
    z = deviates(kernels, 16 if noise_dtype == "float32" else 8, 1024)
    assert z.dtype == noise_dtype
    assert abs(z).max() <= LARGEST[noise_dtype]
    assert not rejected(normal_p(z))


@pytest.mark.parametrize("noise_dtype", daily(["float32", "float64"], "float32"), indirect=True)
def test_normals_of_other_counters_are_independent(kernels):
    """Sweep points, streams, seeds and far trajectories, each against the same reference."""
    here = deviates(kernels, 4, 1024)
    other: dict[str, dict[str, Any]] = {
        "next point": {"point": 1},
        "last point": {"point": 2**24 - 1},
        "initial state": {"function": "initial_deviates"},
        "next seed": {"seed": SEED + 1},
        "next high word of the seed": {"seed": SEED + 2**32},
        "trajectories beyond 2^32": {"first_trajectory": 2**32},
        "steps beyond 2^24": {"first_draw": 2**24},
    }
    p: dict[str, float] = {}
    for name, options in other.items():
        there = deviates(kernels, 1 if name == "initial state" else 4, 1024, **options)
        p |= pair_p(name, here[: len(there)], there)
    # Point and trajectory, step and trajectory: counters that differ by one in two words.
    p |= pair_p("next point and trajectory", here[:, 1:], deviates(kernels, 4, 1024, point=1)[:, :-1])
    assert not rejected(p)


@pytest.mark.parametrize("noise_dtype", daily(["float32", "float64"], "float32"), indirect=True)
def test_families(initial_state):
    """Distribution, tails and neighbours of every family, as the initial state draws them."""
    normal = (initial_state["normal"] + 0.3) / 0.7
    uniform = (initial_state["uniform"] - 0.25) / 0.3
    laplace = (initial_state["laplace"] - 0.2) / 1.5
    rademacher = initial_state["rademacher"]
    p: dict[str, float] = {}
    p["normal"] = ks_p(scipy.special.ndtr(np.sort(normal)))
    assert 0.1 <= initial_state["uniform"].min() < initial_state["uniform"].max() <= 0.4
    p["uniform"] = ks_p(np.sort(uniform) + 0.5)
    p |= moments_p("uniform", uniform, 6, lambda k: 0.5**k / (k + 1))
    p["Laplace"] = ks_p(scipy.stats.laplace.cdf(np.sort(laplace)))
    p |= moments_p("Laplace", laplace, 4, math.factorial)  # the sixth power is too skewed for a normal law of its mean
    for threshold in (6.0, 9.0, 12.0):
        tail = math.exp(-threshold) / 2
        p[f"Laplace above {threshold}"] = count_p(np.count_nonzero(laplace > threshold), laplace.size, tail)
        p[f"Laplace below -{threshold}"] = count_p(np.count_nonzero(laplace < -threshold), laplace.size, tail)
    assert set(np.unique(rademacher)) == {-1.0, 1.0}
    p["Rademacher"] = count_p(np.count_nonzero(rademacher > 0), rademacher.size, 0.5)
    scaled = {
        "normal": normal,
        "uniform": uniform * math.sqrt(12),
        "Laplace": laplace / math.sqrt(2),
        "Rademacher": rademacher,
    }
    for name, values in scaled.items():
        p[f"{name}, neighbouring trajectories"] = mean_p(values[1:] * values[:-1], 0.0, 1.0)
    for (a, x), (b, y) in itertools.combinations(scaled.items(), 2):
        p[f"{a} with {b}"] = mean_p(x * y, 0.0, 1.0)
    assert not rejected(p)


# Words.


@njit
def _fill(words, philox, key0, key1, c3):  # type: ignore[no-untyped-def]
    for trajectory in range(words.shape[1]):
        w = philox(np.uint32(0), np.uint32(trajectory), np.uint32(0), c3, key0, key1)
        words[0, trajectory], words[1, trajectory], words[2, trajectory], words[3, trajectory] = w


def words_p(words: np.ndarray) -> dict[str, float]:
    """Bits, bytes and neighbours of an array (word, trajectory)."""
    n = words.shape[1]
    p: dict[str, float] = {}
    bits = np.unpackbits(words.view(np.uint8).reshape(len(words), n, 4), axis=2, bitorder="little")
    ones = bits.sum(axis=1, dtype=np.int64)
    p["bits"] = float(scipy.stats.chi2.sf(((ones - n / 2) ** 2 / (n / 4)).sum(), ones.size))
    counts = np.array([np.bincount(byte, minlength=256) for byte in words.view(np.uint8).reshape(-1, n, 4)[0].T])
    p["bytes"] = float(scipy.stats.chi2.sf(((counts - n / 256) ** 2 / (n / 256)).sum(), counts.shape[0] * 255))
    same = (bits[:, :, 1:] == bits[:, :, :-1]).sum(axis=1, dtype=np.int64)
    p["neighbouring bits"] = float(scipy.stats.chi2.sf(((same - n / 2) ** 2 / (n / 4)).sum(), same.size))
    pairs = {
        "neighbouring trajectories": (words[:, 1:], words[:, :-1]),
        "words of a block": (words[1:], words[:-1]),
    }
    # Fewer than 7 or more than 25 flips of 32 are counted together.
    expected = np.bincount(np.clip(np.arange(33), 6, 26), scipy.stats.binom.pmf(np.arange(33), 32, 0.5))[6:]
    for name, (a, b) in pairs.items():
        flips = np.bincount(np.clip(np.bitwise_count(a ^ b), 6, 26).ravel(), minlength=27)[6:]
        law = expected * flips.sum()
        p[f"bits flipped, {name}"] = float(scipy.stats.chi2.sf(((flips - law) ** 2 / law).sum(), law.size - 1))
    return p


@pytest.fixture(scope="module")
def words() -> np.ndarray:
    kernels = Kernels(Simulator(normal_run()).program, "cpu")
    found = np.empty((4, 2**19), np.uint32)
    c3 = np.uint32(STREAMS["gradient_noise"] << 24)
    _fill(found, kernels.engine.philox4x32, np.uint32(SEED & 0xFFFFFFFF), np.uint32(SEED >> 32), c3)
    return found


def test_words(words):
    assert tuple(words[:, 12345]) == naive.block(SEED, STREAMS["gradient_noise"], 0, 12345, 0)
    assert not rejected(words_p(words))


# Controls: what the checks must accept, and what they must find.


@pytest.fixture(scope="module")
def good() -> np.ndarray:
    return np.random.default_rng(1).standard_normal((64, 2**16))


def test_checks_accept_another_generator(good):
    assert not rejected(normal_p(good))
    assert not rejected(words_p(np.random.default_rng(2).integers(0, 2**32, (4, 2**19), dtype=np.uint32)))


def test_checks_find_a_variance_off_by_one_percent(good):
    assert rejected(normal_p(good * math.sqrt(1.01))) >= {"moment 2", "moment 4"}


def test_checks_find_skewness_and_kurtosis(good):
    skew = good + 0.01 * (good**2 - 1)
    assert {"moment 3", "Kolmogorov-Smirnov"} <= rejected(normal_p((skew - skew.mean()) / skew.std()))
    tailed = good + 0.002 * good**3
    assert {"moment 4", "moment 6"} & rejected(normal_p(tailed / tailed.std()))


@pytest.mark.parametrize(("axis", "name"), [(0, "steps 1 apart"), (1, "trajectories 1 apart")])
def test_checks_find_an_autoregression_of_one_percent(good, axis, name):
    """AR(1): each value is 1 % of the one before and the rest new."""
    z = np.moveaxis(good[:16].copy(), axis, 0)
    for i in range(1, len(z)):
        z[i] = 0.01 * z[i - 1] + math.sqrt(1 - 0.01**2) * z[i]
    assert name in rejected(normal_p(np.moveaxis(z, 0, axis)))


def test_checks_find_dependent_partners(good):
    """The angle of a pair 0.02 off where it should be: each alone hardly shows it."""
    radius = np.hypot(good[:16:2], good[1:16:2])
    angle = np.arctan2(good[1:16:2], good[:16:2])
    z = good[:16].copy()
    bent = angle + 0.02 * np.sin(4 * angle)
    z[::2], z[1::2] = radius * np.cos(bent), radius * np.sin(bent)
    assert "Box-Muller partners, squares" in rejected(normal_p(z))


def test_checks_find_a_tail_cut_at_four_and_a_half_sigma(good):
    far = abs(good) > 4.5
    cut = good.copy()
    cut[far] = np.random.default_rng(3).standard_normal(np.count_nonzero(far))
    assert rejected(normal_p(cut)) == {"beyond 4.5"}


def test_checks_find_a_biased_bit(words):
    flawed = words.copy()
    flawed[2, np.random.default_rng(4).random(words.shape[1]) < 0.02] |= np.uint32(1 << 7)
    assert "bits" in rejected(words_p(flawed))
    copied = words.copy()
    copied[0, 1::100] = copied[0, ::100][: len(copied[0, 1::100])]
    assert "bits flipped, neighbouring trajectories" in rejected(words_p(copied))


# The same on a billion deviates.

_BINS = 7 * 2**10


@njit
def _accumulate(z, sums, histogram, tails):  # type: ignore[no-untyped-def]
    """Power sums to order 6, a histogram of |z|, negative values, tails, and products of rows and of lanes."""
    rows, lanes = z.shape
    for row in range(rows):
        for lane in range(lanes):
            value = np.float64(z[row, lane])
            square = value * value
            sums[1] += value
            sums[2] += square
            sums[3] += square * value
            sums[4] += square * square
            sums[5] += square * square * value
            sums[6] += square * square * square
            index = int(abs(value) * 1024.0)
            histogram[min(index, histogram.size - 1)] += 1
            tails[0] += value < 0.0
            for threshold in range(1, tails.size):
                tails[threshold] += abs(value) > threshold
            if lane:
                before = np.float64(z[row, lane - 1])
                sums[7] += value * before
                sums[8] += (square - 1.0) * (before * before - 1.0)
            if row:
                before = np.float64(z[row - 1, lane])
                sums[9] += value * before
                sums[10] += (square - 1.0) * (before * before - 1.0)


class Accumulator:
    """Statistics of any number of blocks of deviates (row, lane) at 4 ns each."""

    def __init__(self) -> None:
        self.sums, self.histogram, self.tails = np.zeros(11), np.zeros(_BINS, np.int64), np.zeros(7, np.int64)
        self._partial = np.zeros_like(self.sums)
        self._pairs = np.zeros(2)
        self._blocks = 0

    def add(self, block: np.ndarray) -> None:
        _accumulate(block, self._partial, self.histogram, self.tails)
        rows, lanes = block.shape
        self._pairs += rows * (lanes - 1), (rows - 1) * lanes
        self._blocks += 1
        if self._blocks % 1024 == 0:
            self.flush()

    def flush(self) -> None:
        """Sums of sums: rounding stays far below the standard errors."""
        self.sums += self._partial
        self._partial[:] = 0

    def p(self) -> dict[str, float]:
        self.flush()
        n = int(self.histogram.sum())
        moment = [normal_moment(order) for order in range(13)]
        p = {
            f"moment {k}": two_sided((self.sums[k] / n - moment[k]) * math.sqrt(n / (moment[2 * k] - moment[k] ** 2)))
            for k in range(1, 7)
        }
        for i, name in enumerate(("trajectories", "steps")):
            p[name] = two_sided(self.sums[7 + 2 * i] / math.sqrt(self._pairs[i]))
            p[f"{name}, squares"] = two_sided(self.sums[8 + 2 * i] / math.sqrt(4 * self._pairs[i]))
        p["signs"] = count_p(int(self.tails[0]), n, 0.5)
        for threshold in range(1, 7):
            p[f"beyond {threshold}"] = count_p(int(self.tails[threshold]), n, 2 * scipy.stats.norm.sf(threshold))
        # At the edges of the bins: no more than the supremum over all values, and hardly less.
        law = 2 * scipy.special.ndtr(np.arange(1, _BINS + 1) / 1024.0) - 1
        distance = np.max(abs(np.cumsum(self.histogram) / n - law))
        p["Kolmogorov-Smirnov of |z|"] = float(scipy.stats.kstwobign.sf(distance * math.sqrt(n)))
        expected = n * np.diff(law, prepend=0.0)
        kept = expected > 50
        chi2 = ((self.histogram - expected) ** 2 / expected)[kept].sum()
        p["bins"] = float(scipy.stats.chi2.sf(chi2, np.count_nonzero(kept)))
        return p


@pytest.mark.validate
def test_a_billion_normals():
    kernels = Kernels(Simulator(normal_run()).program, "cpu")
    accumulator = Accumulator()
    keys = np.uint32(SEED & 0xFFFFFFFF), np.uint32(SEED >> 32)
    for completed in range(0, 4 * 240, 4):
        for tile in range(4096):
            accumulator.add(kernels.step_deviates(tile * kernels.lanes, completed, keys))
    assert accumulator.histogram.sum() > 1e9
    assert not rejected(accumulator.p())


@pytest.mark.validate
@pytest.mark.parametrize(
    ("flaw", "found"),
    [
        (lambda z: z, set()),
        (lambda z: z * 1.001, {"moment 2"}),
        (lambda z: z + 0.002, {"moment 1", "signs"}),
        (lambda z: z[:, 1:] + 0.003 * z[:, :-1], {"trajectories"}),
        (lambda z: z[1:] + 0.003 * z[:-1], {"steps"}),
        (lambda z: z * np.sqrt(1 + 0.01 * (np.roll(z, 1, 1) ** 2 - 1)), {"trajectories, squares"}),
        (lambda z: z * np.sqrt(1 + 0.01 * (np.roll(z, 1, 0) ** 2 - 1)), {"steps, squares"}),
        (lambda z: np.where(abs(z) > 5, z / 2, z), {"beyond 5"}),
        (lambda z: np.round(z * 128) / 128, {"bins", "Kolmogorov-Smirnov of |z|"}),
    ],
)
def test_the_large_test_finds_small_flaws(flaw, found):
    accumulator = Accumulator()
    rng = np.random.default_rng(5)
    for _ in range(32):
        accumulator.add(np.ascontiguousarray(flaw(rng.standard_normal((4, 2**18)))))
    assert rejected(accumulator.p()) >= found
    assert bool(rejected(accumulator.p())) == bool(found)
