"""The generator against published vectors, and the layout of its counter."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from sgdsim.kernels import cache
from sgdsim.kernels.philox import STREAMS
from sgdsim.simulation.simulator import Simulator
from tests import naive
from tests.kernel_calls import Kernels

KNOWN = [
    line.split()
    for line in (Path(__file__).parents[1] / "data" / "philox4x32_known_answers.txt").read_text().splitlines()
    if not line.startswith("#")
]


@pytest.mark.parametrize("row", KNOWN, ids=lambda row: f"{row[0]}-{row[1]}")
def test_oracle_gives_known_answers(row):
    words = [int(word, 16) for word in row[1:]]
    assert naive.philox4x32(tuple(words[:4]), tuple(words[4:6]), int(row[0])) == tuple(words[6:])


@pytest.mark.parametrize("row", [row for row in KNOWN if row[0] == "10"], ids=lambda row: row[1])
def test_every_target_gives_known_answers(row, target, river_run):
    kernels = Kernels(Simulator(river_run(), device=target).program, target)
    words = [np.uint32(int(word, 16)) for word in row[1:]]
    assert kernels.philox4x32(words[:6]) == tuple(map(int, words[6:]))


def test_stream_ids_are_distinct_bytes():
    ids = list(STREAMS.values())
    assert len(set(ids)) == len(ids)
    assert all(0 <= number < 256 for number in ids)


@pytest.mark.parametrize("trajectory", [0, 255, 256 * 7 + 3, 2**32 - 1, 2**32 + 5, 2**39 + 12345])
def test_deviates_follow_the_documented_counter(trajectory, target, river_run):
    """Trajectories up to 2^40, any step, any point, a 64-bit seed: the oracle's words, to float32 rounding."""
    seed, step, point = 0xFEDCBA9876543210, 4 * 123456, 77
    kernels = Kernels(Simulator(river_run(seed=seed), device=target).program, target)
    key = np.uint32(seed & 0xFFFFFFFF), np.uint32(seed >> 32)
    lane = 0 if target == "cuda" else trajectory % kernels.lanes
    found = kernels.step_deviates(trajectory - lane, step, key, point)[:, lane]
    w = naive.block(seed, STREAMS["gradient_noise"], point, trajectory, step // 4)
    expected = (*naive.normal_pair(*w[:2]), *naive.normal_pair(*w[2:]))
    np.testing.assert_allclose(found, expected, rtol=0, atol=2e-6)


def test_cached_module_is_shared(river_run):
    program = Simulator(river_run()).program
    assert cache.load(program, "cpu") is cache.load(program, "cpu")
