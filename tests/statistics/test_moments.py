"""Merged central sums against two passes in extended precision."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sgdsim.statistics.moments import Moments, merge, merge_axis
from tests import naive

reproducible = settings(derandomize=True, deadline=None, max_examples=100, database=None)
EMPTY = Moments(*np.zeros(5))


def exact(values: Sequence[float]) -> Moments:
    """Central sums in rational arithmetic, rounded once."""
    if not len(values):
        return EMPTY
    fractions = [Fraction(float(value)) for value in values]
    mean = sum(fractions) / len(fractions)
    sums = [float(sum((x - mean) ** k for x in fractions)) for k in (2, 3, 4)]
    return Moments(*map(np.asarray, (float(len(values)), float(mean), *sums)))


def merged(parts: Sequence[Sequence[float]]) -> Moments:
    total = EMPTY
    for part in parts:
        total = merge(total, exact(part))
    return total


def assert_close(found: Moments, expected: Moments, tolerance: float = 1e-12) -> None:
    """To rounding relative to the size that each sum has in general; the odd one may cancel."""
    n, spread = float(expected.count), float(np.sqrt(expected.m2 / max(expected.count, 1)))
    assert found.count == expected.count
    assert found.mean == pytest.approx(float(expected.mean), rel=1e-14, abs=tolerance * spread)
    # A mean m that is rounded by eps m shifts every deviation by as much.
    slack = tolerance + 4e-16 * abs(float(expected.mean)) / spread if spread else 1.0
    for k, sums in ((2, "m2"), (3, "m3"), (4, "m4")):
        size = n * spread**k + float(expected.m4) * spread ** (k - 4) if spread else 0.0
        assert getattr(found, sums) == pytest.approx(float(getattr(expected, sums)), rel=0, abs=slack * size)


values = st.lists(st.floats(-100, 100, allow_subnormal=False).map(lambda x: round(x, 3)), max_size=12)


@reproducible
@given(st.lists(values, min_size=1, max_size=6))
def test_any_partition_gives_the_moments_of_the_whole(parts):
    """Empty parts, parts of one value and equal values included."""
    assert_close(merged(parts), exact([x for part in parts for x in part]))


@reproducible
@given(st.lists(values, min_size=2, max_size=4), st.floats(-1e3, 1e3), st.sampled_from([2.0**-40, 0.5, -1.0, 2.0**30]))
def test_shifts_and_scales(parts, shift, scale):
    """Central sums do not move with the sample, and scale with their power."""
    whole = merged(parts)
    scaled = merged([[scale * x for x in part] for part in parts])
    for k, (one, other) in enumerate(zip(whole[1:], scaled[1:], strict=True)):
        assert other == one * scale ** max(k + 1, 1)  # powers of two: to the bit
    flat = [x + shift for part in parts for x in part]
    moved = merged([[x + shift for x in part] for part in parts])
    assert_close(moved, exact(flat), 1e-11)


@reproducible
@given(st.lists(values, min_size=2, max_size=5), st.randoms(use_true_random=False))
def test_order_does_not_matter_beyond_rounding(parts, random):
    whole = [x for part in parts for x in part]
    random.shuffle(parts)
    assert_close(merged(parts), exact(whole))


@pytest.mark.parametrize("mean", [0.0, 1e6, -1e9])
def test_means_far_from_zero_do_not_cancel(mean):
    """64 parts of a skewed law: variance to 1e-9 and kurtosis to 1e-6 where the mean is 1e6 widths from zero."""
    rng = np.random.default_rng(8)
    parts = [mean + rng.exponential(1.0, rng.integers(0, 400)) for _ in range(64)]
    total = EMPTY
    for part in parts:
        d = part.astype(np.longdouble)
        centre = d.mean() if len(d) else np.longdouble(0)
        sums = [((d - centre) ** k).sum() for k in (2, 3, 4)]
        total = merge(total, Moments(*(np.float64(x) for x in (len(d), centre, *sums))))
    expected = naive.central_moments(np.concatenate(parts))
    scale = 1e3 if mean == -1e9 else 1.0  # its values themselves have three digits fewer
    assert total.mean == pytest.approx(expected[0], rel=1e-15)
    assert total.variance == pytest.approx(expected[1], rel=1e-12 if mean == 0 else 1e-9 * scale)
    assert total.skewness == pytest.approx(expected[2], abs=1e-9 * scale)
    assert total.kurtosis == pytest.approx(expected[3], abs=1e-6 * scale)


def test_empty_parts_leave_everything_as_it_is():
    """To the bit, whatever the empty side holds for a mean."""
    sample = exact([1.1, 2.7, -0.3])
    for nothing in (EMPTY, EMPTY._replace(mean=np.float64(1e300)), EMPTY._replace(mean=np.float64(np.nan))):
        for found in (merge(sample, nothing), merge(nothing, sample)):
            assert [float(x) for x in found] == [float(x) for x in sample]
    both = merge(EMPTY, EMPTY)
    assert both.count == 0
    assert np.isnan([both.variance, both.skewness, both.kurtosis, both.mean_stderr, both.variance_stderr]).all()


def test_axes_are_merged_in_index_order_element_by_element():
    rng = np.random.default_rng(9)
    samples = rng.normal(size=(3, 64, 2, 5))  # record, group, observable, value
    fields = [naive.central_moments(row) for row in samples.reshape(-1, 5)]
    mean, variance, skewness, kurtosis = np.array(fields).T.reshape(4, 3, 64, 2)
    m2 = 4 * variance
    moments = Moments(np.full_like(mean, 5.0), mean, m2, skewness * m2**1.5 / np.sqrt(5), (kurtosis + 3) * m2**2 / 5)
    total = merge_axis(moments, 1)
    by_hand = Moments(*(field[:, 0] for field in moments))
    for group in range(1, 64):
        by_hand = merge(by_hand, Moments(*(field[:, group] for field in moments)))
    for one, other in zip(total, by_hand, strict=True):
        np.testing.assert_array_equal(one, other)
    for record in range(3):
        for observable in range(2):
            expected = naive.central_moments(samples[record, :, observable].ravel())
            found = [total.mean, total.variance, total.skewness, total.kurtosis]
            np.testing.assert_allclose([x[record, observable] for x in found], expected, rtol=1e-11, atol=1e-12)


def test_statistics_by_hand():
    sample = exact([1.0, 2.0, 4.0, 9.0])
    assert sample.variance == pytest.approx(38 / 3)
    assert sample.mean_stderr == pytest.approx(np.sqrt(38 / 12))
    assert sample.skewness == pytest.approx(2 * (-27 - 8 + 0 + 125) / 38**1.5)
    assert sample.kurtosis == pytest.approx(4 * (81 + 16 + 0 + 625) / 38**2 - 3)
    one = exact([5.0])
    assert np.isnan([one.variance, one.mean_stderr, one.variance_stderr]).all()
    constant = exact([2.0] * 9)
    assert constant.variance == 0
    assert np.isnan([constant.skewness, constant.kurtosis]).all()
    assert constant.variance_stderr == 0


def test_standard_errors_are_those_of_repeated_samples():
    """10,000 samples of 50: mean and variance scatter as their standard errors say, to 3 % (4 standard errors)."""
    rng = np.random.default_rng(10)
    for draws in (rng.normal(size=(10_000, 50)), rng.exponential(size=(10_000, 50))):
        mean, d = draws.mean(axis=1), draws - draws.mean(axis=1, keepdims=True)
        sums = Moments(np.full(10_000, 50.0), mean, *((d**k).sum(axis=1) for k in (2, 3, 4)))
        assert np.sqrt((sums.mean_stderr**2).mean()) == pytest.approx(mean.std(), rel=0.03)
        assert np.sqrt((sums.variance_stderr**2).mean()) == pytest.approx(sums.variance.std(), rel=0.08)


def test_overflow_is_quiet_and_visible():
    """Heavy tails may overflow a fourth power: infinite or NaN, never a wrong finite number, and no warning."""
    huge = Moments(*map(np.float64, (3.0, 1e90, 1e180, 1e270, 1e300)))
    total = merge(huge, Moments(*map(np.float64, (2.0, -1e90, 1e180, -1e270, 1e300))))
    assert not np.isfinite(total.m4)
    assert not np.isfinite(total.kurtosis)
