"""Rows of a data set: the documented words on every target, and the laws of what is drawn."""

from __future__ import annotations

import functools
import itertools
import math

import numpy as np
import pytest
from scipy import stats

from sgdsim.kernels.philox import STREAMS
from sgdsim.kernels.program import SHUFFLED_ROWS, Program
from sgdsim.model.data import MAX_CELLS, Data
from sgdsim.model.loss import Loss
from sgdsim.model.optimizers import Optimizer
from tests import naive
from tests.kernel_calls import Kernels
from tests.samples import daily

SEED = 20251121 << 20
FALSE_ALARM = 1e-6
"""Of each chi-square test of a law, for seeds that are chosen once."""


@functools.lru_cache(maxsize=1)
def _program(rows: int, batch: int, sampling: str) -> Program:
    loss = Loss("theta*x", ("theta",), data=Data({"x": tuple(map(float, range(rows)))}))
    return Program(loss, Optimizer(batch_size=batch, sampling=sampling), {"theta": 0.0})


@functools.cache
def sampled(rows: int, batch: int, sampling: str, target: str) -> Kernels:
    return Kernels(_program(rows, batch, sampling), target)


def buffers(one: Kernels) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Filled with what no draw makes."""
    return (
        np.full(one.layout.words.rows * one.lanes, 2**32 - 1, np.uint32),
        np.full(one.layout.order_rows * one.lanes, 255, np.uint8),
        np.full(4 * one.lanes, 2**32 - 1, np.uint32),
    )


def draw(one: Kernels, space: tuple[np.ndarray, ...], trajectory: int, step: int, fresh: bool) -> np.ndarray:
    """The rows of one step of one tile, (lane, sample)."""
    key = np.uint32(SEED & 0xFFFFFFFF), np.uint32(SEED >> 32)
    return one.rows(space, trajectory, step, key, fresh=fresh).T.astype(np.int64)


def drawn(one: Kernels, tiles: int, steps: range) -> np.ndarray:
    """Shape (trajectory, step, sample)."""
    space = buffers(one)
    found = [
        np.stack([draw(one, space, tile * one.lanes, step, step == steps[0]) for step in steps], axis=1)
        for tile in range(tiles)
    ]
    return np.concatenate(found)


CASES = [(5, 1, "replacement"), (5, 2, "replacement"), (300, 5, "replacement"), (6, 3, "batch"), (9, 9, "batch")]
CASES += [(6, 6, "epoch"), (7, 2, "epoch"), (256, 100, "epoch"), (257, 1, "epoch")]
COMPILED = [(5, 2, "replacement"), (6, 3, "batch"), (6, 6, "epoch"), (1000, 4, "epoch")]


def expected(rows: int, batch: int, sampling: str, trajectory: int, step: int) -> list[int]:
    if sampling == "replacement":
        return naive.rows_with_replacement(SEED, trajectory, step, rows, batch)
    if sampling == "batch":
        return naive.rows_without_replacement(SEED, trajectory, step, rows, batch)
    epoch, first = step // (rows // batch), step % (rows // batch) * batch
    if rows <= 256:
        return naive.shuffled(SEED, trajectory, epoch, rows)[first : first + batch]
    return [naive.swapped_or_not(SEED, trajectory, epoch, rows, first + k) for k in range(batch)]


@pytest.mark.parametrize(
    ("target", "case"),
    [
        *daily([("python", case) for case in CASES], *(("python", case) for case in CASES[:7])),
        *(("cpu", case) for case in COMPILED),
    ],
)
def test_rows_are_those_of_the_oracle(target, case):
    """Word for word on both targets, for trajectories below and above 2^32."""
    one = sampled(*case, target)
    steps = range(1) if target == "python" and case[0] > 200 else range(5)
    for trajectory in (0, 2**32 + 256):
        space = buffers(one)
        for step in steps:
            rows = draw(one, space, trajectory, step, step == 0)
            for lane in (0, 1, 255):
                assert rows[lane].tolist() == expected(*case, trajectory + lane, step), (trajectory, step, lane)


def test_targets_draw_the_same_rows_in_every_lane():
    for case in COMPILED[:3]:
        one, two = (drawn(sampled(*case, target), 1, range(7)) for target in ("python", "cpu"))
        np.testing.assert_array_equal(one, two)


@pytest.mark.parametrize("case", [(5, 1, "replacement"), (6, 3, "batch"), (7, 2, "epoch"), (1000, 4, "epoch")])
def test_rows_do_not_depend_on_where_a_span_begins(case):
    """Spans begin at multiples of 4 with new buffers, in the middle of an epoch too."""
    target = "cpu" if case[0] > 200 else "python"
    one = sampled(*case, target)
    steps = 10
    whole = drawn(one, 1, range(steps))
    for start in (4, 8):
        space = buffers(one)
        cut = [draw(one, space, 0, step, step == start) for step in range(start, steps)]
        np.testing.assert_array_equal(np.stack(cut, axis=1), whole[:, start:])


def test_the_buffers_of_one_tile_are_of_no_use_to_the_next():
    """A tile begins fresh; had it kept the order of the one before, its rows would be that one's."""
    one = sampled(7, 2, "epoch", "python")
    space = buffers(one)
    first = draw(one, space, 0, 4, fresh=True)
    stale = draw(one, space, one.lanes, 4, fresh=False)
    np.testing.assert_array_equal(stale, first)
    assert not np.array_equal(draw(one, space, one.lanes, 4, fresh=True), first)


@pytest.mark.parametrize(("rows", "batch"), [(7, 2), (6, 6), (5, 1), (1, 1)])
def test_an_epoch_takes_different_rows(rows, batch):
    """floor(M/B)*B of them, other ones in the next epoch and in the next trajectory."""
    one = sampled(rows, batch, "epoch", "python")
    count = rows // batch
    found = drawn(one, 1, range(3 * count)).reshape(one.lanes, 3, count * batch)
    assert found.min() == 0
    assert found.max() == rows - 1
    in_order = np.sort(found, axis=2)
    assert (np.diff(in_order, axis=2) > 0).all()
    if rows > 1:
        assert (found[:, 0] == found[:, 1]).all(axis=1).mean() < 0.5
        assert len(np.unique(found[:, 0], axis=0)) > 1
    if rows % batch:  # every row is left out now and then
        assert len(np.unique(found)) == rows


def test_a_hashed_epoch_takes_every_row_once():
    """A thousand rows, all of them in every trajectory, in two epochs."""
    one = sampled(1000, 4, "epoch", "cpu")
    found = drawn(one, 1, range(500)).reshape(2 * one.lanes, 1000)
    np.testing.assert_array_equal(np.sort(found, axis=1), np.broadcast_to(np.arange(1000), found.shape))
    assert len(np.unique(found, axis=0)) == 2 * one.lanes


@pytest.mark.parametrize("case", [*CASES[:4], CASES[6], pytest.param(CASES[8], marks=pytest.mark.validate)])
def test_no_word_comes_twice(case, monkeypatch):
    """All words are of one stream, and of new counters; those of a hashed epoch are the same for all its rows."""
    one = sampled(*case, "python")
    philox, counters = one.engine.philox4x32, []
    monkeypatch.setattr(one.engine, "philox4x32", lambda *words: counters.append(words[:4]) or philox(*words))
    drawn(one, 1, range(5))
    rows, _, sampling = case
    assert {int(c3) >> 24 for _, _, _, c3 in counters} == {STREAMS["minibatch_index"]}
    if sampling == "epoch" and rows > SHUFFLED_ROWS:
        blocks = {int(c2) for _, _, c2, _ in counters}
        assert {block for block in blocks if block < 2**20} == set(range(-(-rounds(one) // 4)))
        assert {block - 2**20 for block in blocks if block >= 2**20} <= set(range(rows))
    else:
        assert len(set(counters)) == len(counters)


def test_every_round_of_a_hashed_epoch_has_a_bit_of_its_own():
    """Of the most rows there can be: 128 bits a block, blocks of 24 bits, behind those of the keys."""
    one = sampled(MAX_CELLS, 1, "epoch", "python")
    assert rounds(one) <= 128
    assert rounds(one) // 4 < 2**20
    assert 2**20 + MAX_CELLS <= 2**24


def rounds(one: Kernels) -> int:
    """Number of rounds of the swap-or-not shuffle."""
    return one.layout.sampling_numbers()[-1]


# Laws. Each test of the same name takes a sample, and says how likely one at least as far off is.


def chance_of_orders(orders: np.ndarray) -> float:
    """P-value of a sample of permutations, (sample, M), by chi-square over all M!."""
    n = orders.shape[1]
    codes = (orders * n ** np.arange(n)).sum(axis=1)
    counts = np.zeros(math.factorial(n))
    _, found = np.unique(codes, return_counts=True)
    counts[: len(found)] = found
    return float(stats.chisquare(counts).pvalue)


def chance_of_pairs(first: np.ndarray, second: np.ndarray, n: int) -> float:
    """P-value of rows at two places, by chi-square over all pairs, or over coarse cells and residues of many rows.

    Sums and differences of the two rows, modulo their number, are what swap-or-not rounds leave traces in.
    """
    samples = len(first)
    if n * (n - 1) <= samples / 20:
        counts = np.bincount(first * n + second, minlength=n * n).reshape(n, n)
        if counts.diagonal().any():
            return 0.0
        return float(stats.chisquare(counts[~np.eye(n, dtype=bool)]).pvalue)
    if (first == second).any():
        return 0.0
    cells = 20
    edges = np.arange(n) * cells // n
    sizes = np.bincount(edges)
    joint = np.outer(sizes, sizes) - np.diag(sizes)
    counts = np.bincount(edges[first] * cells + edges[second], minlength=cells**2)
    chances = [stats.chisquare(counts, joint.reshape(-1) * samples / (n * (n - 1))).pvalue]
    chances += [stats.chisquare(np.bincount(rows, minlength=n)).pvalue for rows in (first, second)]
    chances.append(stats.chisquare(np.bincount((first - second) % n, minlength=n)[1:]).pvalue)
    # Of all ordered pairs, n - 1 have any given sum where n is odd; where it is even, n - 2 an even and n an odd one.
    i, j = np.divmod(np.arange(n * n), n)
    sums = np.bincount((i + j)[i != j] % n, minlength=n)
    chances.append(stats.chisquare(np.bincount((first + second) % n, minlength=n), sums * samples / sums.sum()).pvalue)
    return min(1.0, len(chances) * float(min(chances)))


@pytest.mark.parametrize("rows", [6, *(pytest.param(rows, marks=pytest.mark.validate) for rows in (2, 3, 4, 5))])
def test_every_order_is_equally_likely(rows):
    one = sampled(rows, rows, "epoch", "cpu")
    orders = drawn(one, 200, range(20))
    assert chance_of_orders(orders.reshape(-1, rows)) > FALSE_ALARM


@pytest.mark.parametrize("rows", [3, 4, 6])
def test_a_biased_shuffle_is_seen(rows):
    """Negative control: places that change with any other one, not with one of those up to them; 100,000 samples."""
    rng = np.random.default_rng(rows)
    orders = np.tile(np.arange(rows), (100_000, 1))
    lanes = np.arange(len(orders))
    for i in range(rows):
        j = rng.integers(rows, size=len(orders))
        held = orders[lanes, j]
        orders[lanes, j], orders[:, i] = orders[:, i].copy(), held
    assert chance_of_orders(orders) < FALSE_ALARM
    assert chance_of_orders(rng.permuted(np.tile(np.arange(rows), (100_000, 1)), axis=1)) > FALSE_ALARM


def test_pairs_of_eight_rows_have_their_law():
    """All places i < j, the false-alarm rate shared between them."""
    one = sampled(8, 8, "epoch", "cpu")
    orders = drawn(one, 200, range(4)).reshape(-1, 8)
    chances = [chance_of_pairs(orders[:, i], orders[:, j], 8) for i, j in itertools.combinations(range(8), 2)]
    assert min(chances) > FALSE_ALARM / len(chances)


def test_pairs_of_a_thousand_rows_have_their_law():
    """Four places at the beginning of 200 epochs, 51,200 samples of each two."""
    rows = drawn(sampled(1000, 4, "epoch", "cpu"), 200, range(1))[:, 0]
    chances = [chance_of_pairs(rows[:, i], rows[:, j], 1000) for i, j in itertools.combinations(range(4), 2)]
    assert min(chances) > FALSE_ALARM / len(chances)


@pytest.mark.validate
def test_pairs_of_sixty_four_rows_have_their_law():
    one = sampled(64, 64, "epoch", "cpu")
    orders = drawn(one, 400, range(20)).reshape(-1, 64)
    places = [(0, 1), (0, 63), (31, 32), (1, 62), (20, 40), (62, 63)]
    chances = [chance_of_pairs(orders[:, i], orders[:, j], 64) for i, j in places]
    assert min(chances) > FALSE_ALARM / len(places)


@pytest.mark.validate
def test_pairs_of_a_thousand_rows_have_their_law_at_length():
    """A million samples, places of the first and of the last batch of an epoch."""
    one = sampled(1000, 4, "epoch", "cpu")
    space = buffers(one)
    found = []
    for tile in range(400):
        for epoch in range(10):
            first, last = (draw(one, space, tile * one.lanes, 250 * epoch + batch, False) for batch in (0, 249))
            found.append(np.concatenate([first, last], axis=1))
    rows = np.concatenate(found)
    places = list(itertools.combinations(range(8), 2))
    chances = [chance_of_pairs(rows[:, i], rows[:, j], 1000) for i, j in places]
    assert min(chances) > FALSE_ALARM / len(places)


@pytest.mark.parametrize(("rows", "few"), [(8, 6), (1000, 6)])
def test_too_few_rounds_of_swap_or_not_are_seen(rows, few):
    """Negative control: six rounds in all leave traces in 50,000 samples, six a bit none."""
    rng = np.random.default_rng(rows)
    samples = 50_000
    for places in ([0, 1], [3, rows - 1]):
        short = naive.random_swap_or_not(rng, samples, rows, places, few)
        whole = naive.random_swap_or_not(rng, samples, rows, places, 6 * (rows - 1).bit_length())
        assert chance_of_pairs(short[:, 0], short[:, 1], rows) < FALSE_ALARM
        assert chance_of_pairs(whole[:, 0], whole[:, 1], rows) > FALSE_ALARM


def test_every_batch_is_an_equally_likely_subset():
    """Three of six: 20 subsets; 102,400 samples."""
    rows = np.sort(drawn(sampled(6, 3, "batch", "cpu"), 100, range(4)).reshape(-1, 3), axis=1)
    assert (np.diff(rows, axis=1) > 0).all()
    counts = np.unique(rows @ [36, 6, 1], return_counts=True)[1]
    assert len(counts) == 20
    assert stats.chisquare(counts).pvalue > FALSE_ALARM


def test_rows_with_replacement_are_uniform_and_independent():
    """Four successive samples, over two steps: all 5^4 combinations equally likely; 204,800 samples."""
    rows = drawn(sampled(5, 2, "replacement", "cpu"), 200, range(8)).reshape(-1, 4)
    counts = np.bincount(rows @ [125, 25, 5, 1], minlength=625)
    assert stats.chisquare(counts).pvalue > FALSE_ALARM
    # From one block of the counter to the next, and between neighbouring trajectories.
    words = drawn(sampled(5, 2, "replacement", "cpu"), 200, range(4)).reshape(-1, 8)
    for one, two in ((words[:, 3], words[:, 4]), (words[:-1, 0], words[1:, 0])):
        assert stats.chisquare(np.bincount(one * 5 + two, minlength=25)).pvalue > FALSE_ALARM
