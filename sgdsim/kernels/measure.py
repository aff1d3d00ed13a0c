"""Moments and histograms of one tile: the same for every program, compiled once, kept in a module of its own.

The functions below are pasted as text; the module provides ``lane_loop``, ``tile_loop``, ``wide_vectors`` and LANES.
"""
# mypy: ignore-errors
# ruff: noqa: F821

import numpy as np

# --- pasted from here on ---


@lane_loop
def lane_sum(values):
    """Sum of LANES values, which it overwrites; halving keeps the loop free of a serial dependence."""
    wide_vectors()
    half = LANES // 2
    while half:
        for lane in range(half):
            values[lane] += values[lane + half]
        half //= 2
    return values[0]


@tile_loop
def add_moments(moments, values, work):
    """Merge count, mean and central sums of the finite values of one tile into ``moments[5]``.

    Two passes over the lanes, then the pairwise update of Pébay (SAND2008-6212, eqs. 2.1, 3.1): power sums
    would cancel when the mean is many standard deviations from zero.
    """
    d1 = work[0:LANES]
    d2 = work[LANES : 2 * LANES]
    d3 = work[2 * LANES : 3 * LANES]
    d4 = work[3 * LANES : 4 * LANES]
    n = 0
    for lane in range(LANES):
        value = np.float64(values[lane])
        finite = abs(value) < INFINITY
        d1[lane] = value if finite else 0.0
        n += finite
    if n == 0:
        return
    mean = lane_sum(d1) / n
    for lane in range(LANES):
        value = np.float64(values[lane])
        d = value - mean if abs(value) < INFINITY else 0.0
        d1[lane] = d
        d2[lane] = d * d
        d3[lane] = d * d * d
        d4[lane] = (d * d) * (d * d)
    m2 = lane_sum(d2)
    m3 = lane_sum(d3)
    m4 = lane_sum(d4)
    # The first pass rounds the mean; shift the sums to the mean of the deviations.
    shift = lane_sum(d1) / n
    m4 += shift * (-4.0 * m3 + shift * (6.0 * m2 - 3.0 * n * shift * shift))
    m3 += shift * (-3.0 * m2 + 2.0 * n * shift * shift)
    m2 -= n * shift * shift
    mean += shift
    na = moments[0]
    if na == 0:
        moments[0] = n
        moments[1] = mean
        moments[2] = m2
        moments[3] = m3
        moments[4] = m4
        return
    total = na + n
    delta = mean - moments[1]
    a2 = moments[2]
    a3 = moments[3]
    ra = na / total
    rb = n / total
    moments[0] = total
    moments[1] += delta * rb
    moments[2] += m2 + delta * delta * na * rb
    moments[3] += m3 + delta * (delta * delta * na * rb * (ra - rb) + 3.0 * (ra * m2 - rb * a2))
    moments[4] += (
        m4
        + delta
        * delta
        * (delta * delta * na * rb * (ra * ra - ra * rb + rb * rb) + 6.0 * (ra * ra * m2 + rb * rb * a2))
        + 4.0 * delta * (ra * m3 - rb * a3)
    )


@tile_loop
def add_counts(counts, edges, values):
    """Count one tile's values in half-open bins; the first count is underflow, the last overflow."""
    bins = len(edges) - 1
    inverse_width = bins / (edges[bins] - edges[0])
    for lane in range(LANES):
        value = np.float64(values[lane])
        if not abs(value) < INFINITY:
            continue
        if value < edges[0]:
            counts[0] += np.uint32(1)
        elif value >= edges[bins]:
            counts[bins + 1] += np.uint32(1)
        else:
            index = min(int((value - edges[0]) * inverse_width), bins - 1)
            # The product may round across an edge.
            if value < edges[index]:
                index -= 1
            elif value >= edges[index + 1]:
                index += 1
            counts[index + 1] += np.uint32(1)


@tile_loop
def record(moments, counts, edges, offsets, histogram_observable, values, work):
    """Measure one tile's values: moments of every observable, histograms of some.

    Parameters
    ----------
    moments
        (observable, 5), merged into.
    counts, edges, offsets, histogram_observable
        As in `tile.advance`, for one record and group.
    values
        (observable * lane).
    work
        (4 * lane), scratch.
    """
    for observable in range(len(moments)):
        add_moments(moments[observable], values[observable * LANES : (observable + 1) * LANES], work)
    for histogram in range(len(histogram_observable)):
        first = histogram_observable[histogram] * LANES
        start, stop = offsets[histogram], offsets[histogram + 1]
        add_counts(counts[start + histogram : stop + histogram + 1], edges[start:stop], values[first : first + LANES])
