"""Moments and histograms of one tile: the same for every program.

The functions below are pasted as text; the module provides ``lane_loop``, ``tile_loop``, ``inlined``, ``wide_vectors``,
``row_of`` and INFINITY.

On the CPU one thread measures a tile; on a GPU as many threads as it has lanes do so together. These hide the
difference: ``first_lane`` and LANE_STRIDE, the lanes of a thread; ``barrier``, at which it waits for the others;
``total``, the sum over all threads of a count; ``is_leader``, true for the thread that writes common results;
``add_one``, which adds to a count that others add to as well.
"""
# mypy: ignore-errors
# ruff: noqa: F821

import numpy as np

# --- pasted from here on ---


@lane_loop
def lane_sum(values):
    """Sum of all values, which are overwritten; summing by halves keeps the loop free of a serial dependence."""
    wide_vectors()
    half = len(values) // 2
    barrier()
    while half:
        for lane in range(first_lane(), half, LANE_STRIDE):
            values[lane] += values[lane + half]
        half //= 2
        barrier()
    result = values[0]
    barrier()
    return result


@tile_loop
def add_moments(moments, values, work):
    """Merge count, mean and central sums of the finite values of one tile into ``moments[5]``, in two passes."""
    lanes = len(values)
    d1, d2, d3, d4 = row_of(work, 0, lanes), row_of(work, 1, lanes), row_of(work, 2, lanes), row_of(work, 3, lanes)
    n = np.int64(0)
    for lane in range(first_lane(), lanes, LANE_STRIDE):
        value = np.float64(values[lane])
        finite = abs(value) < INFINITY
        d1[lane] = value if finite else 0.0
        n += finite
    n = total(n)
    if n == 0:
        return
    mean = lane_sum(d1) / n
    for lane in range(first_lane(), lanes, LANE_STRIDE):
        value = np.float64(values[lane])
        d = value - mean if abs(value) < INFINITY else 0.0
        d1[lane] = d
        d2[lane] = d * d
        d3[lane] = d * d * d
        d4[lane] = (d * d) * (d * d)
    m2 = lane_sum(d2)
    m3 = lane_sum(d3)
    m4 = lane_sum(d4)
    # The mean of the first pass is rounded: the sums are shifted to the mean of the deviations.
    shift = lane_sum(d1) / n
    m4 += shift * (-4.0 * m3 + shift * (6.0 * m2 - 3.0 * n * shift * shift))
    m3 += shift * (-3.0 * m2 + 2.0 * n * shift * shift)
    m2 -= n * shift * shift
    if is_leader():
        merge_moments(moments, n, mean + shift, m2, m3, m4)


@inlined
def merge_moments(moments, n, mean, m2, m3, m4):
    """Merge count, mean and central sums of n values into ``moments[5]``.

    The pairwise update of Pébay (SAND2008-6212, eqs. 2.1, 3.1): power sums would cancel when the mean is many standard
    deviations from zero.
    """
    na = moments[0]
    if na == 0:
        moments[0] = n
        moments[1] = mean
        moments[2] = m2
        moments[3] = m3
        moments[4] = m4
        return
    count = na + n
    delta = mean - moments[1]
    a2 = moments[2]
    a3 = moments[3]
    ra = na / count
    rb = n / count
    moments[0] = count
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


@lane_loop
def bin_of(value, edges):
    """Index of the half-open bin of a finite value; -1 below the first edge, the number of bins from the last on."""
    bins = len(edges) - 1
    if value < edges[0]:
        return -1
    if value >= edges[bins]:
        return bins
    index = min(int((value - edges[0]) * (bins / (edges[bins] - edges[0]))), bins - 1)
    # Rounding may have moved the value across an edge.
    if value < edges[index]:
        return index - 1
    return index + 1 if value >= edges[index + 1] else index


@tile_loop
def add_counts(counts, edges, values):
    """Count one tile's values in bins; the first count is the underflow, the last the overflow."""
    for lane in range(first_lane(), len(values), LANE_STRIDE):
        value = np.float64(values[lane])
        if abs(value) < INFINITY:
            add_one(counts, bin_of(value, edges) + 1)


@tile_loop
def add_cells(counts, first_edges, second_edges, first, second):
    """Count one tile's pairs of values in cells, the second varying fastest; the last count is of all outside."""
    rows, columns = len(first_edges) - 1, len(second_edges) - 1
    for lane in range(first_lane(), len(first), LANE_STRIDE):
        x, y = np.float64(first[lane]), np.float64(second[lane])
        if abs(x) < INFINITY and abs(y) < INFINITY:
            i, j = bin_of(x, first_edges), bin_of(y, second_edges)
            inside = 0 <= i < rows and 0 <= j < columns
            add_one(counts, i * columns + j if inside else rows * columns)


@tile_loop
def add_comoments(comoments, first, second, work):
    """Merge count, both means and the central sum of products of one tile's pairs of finite values into ``[4]``."""
    lanes = len(first)
    d1, d2, d3 = row_of(work, 0, lanes), row_of(work, 1, lanes), row_of(work, 2, lanes)
    n = np.int64(0)
    for lane in range(first_lane(), lanes, LANE_STRIDE):
        x, y = np.float64(first[lane]), np.float64(second[lane])
        finite = abs(x) < INFINITY and abs(y) < INFINITY
        d1[lane] = x if finite else 0.0
        d2[lane] = y if finite else 0.0
        n += finite
    n = total(n)
    if n == 0:
        return
    mean_x, mean_y = lane_sum(d1) / n, lane_sum(d2) / n
    for lane in range(first_lane(), lanes, LANE_STRIDE):
        x, y = np.float64(first[lane]), np.float64(second[lane])
        finite = abs(x) < INFINITY and abs(y) < INFINITY
        d3[lane] = (x - mean_x) * (y - mean_y) if finite else 0.0
    product = lane_sum(d3)
    if is_leader():
        merge_comoments(comoments, n, mean_x, mean_y, product)


@inlined
def merge_comoments(comoments, n, mean_x, mean_y, product):
    """Merge count, both means and the central sum of products of n pairs into ``comoments[4]``."""
    count = comoments[0] + n
    delta_x, delta_y = mean_x - comoments[1], mean_y - comoments[2]
    comoments[3] += product + delta_x * delta_y * (comoments[0] * (n / count))
    comoments[1] += delta_x * (n / count)
    comoments[2] += delta_y * (n / count)
    comoments[0] = count


@tile_loop
def add_changes(changes, edges, by, before, after):
    """Count one tile's changes, and sum them and their squares, by the bin of ``by`` before: into ``[bin, 3]``.

    One caller goes over all lanes, so that the order of the sums is always the same.
    """
    for lane in range(len(by)):
        value, change = np.float64(by[lane]), np.float64(after[lane]) - np.float64(before[lane])
        if abs(value) < INFINITY and abs(change) < INFINITY:
            index = bin_of(value, edges)
            if 0 <= index < len(edges) - 1:
                changes[index, 0] += 1.0
                changes[index, 1] += change
                changes[index, 2] += change * change


@tile_loop
def record(moments, counts, comoments, cells, plan, values, work):
    """Measure one tile's values: moments of every observable, histograms and comoments of some.

    Parameters
    ----------
    moments
        Moments that are merged into, (observable, 5).
    counts, comoments, cells
        Those of `tile.advance_tile`, for one record and place.
    plan
        Edges of all histograms in a row, the start of each, and the observable of each; the pairs of observables of the
        comoments; edges of all planes in a row, the start of each axis, the start of the cells of each plane, and the
        two observables of each.
    values
        The observed values, (observable * lane).
    work
        Scratch, (4 * lane).
    """
    edges, offsets, histogram_observable, pairs, plane_edges, plane_offsets, cell_offsets, plane_observables = plan
    lanes = len(work) // 4
    for observable in range(len(moments)):
        add_moments(moments[observable], row_of(values, observable, lanes), work)
    for histogram in range(len(histogram_observable)):
        start, stop = offsets[histogram], offsets[histogram + 1]
        bins = counts[start + histogram : stop + histogram + 1]
        add_counts(bins, edges[start:stop], row_of(values, histogram_observable[histogram], lanes))
    for pair in range(len(pairs)):
        first, second = row_of(values, pairs[pair, 0], lanes), row_of(values, pairs[pair, 1], lanes)
        add_comoments(comoments[pair], first, second, work)
    for plane in range(len(plane_observables)):
        add_cells(
            cells[cell_offsets[plane] : cell_offsets[plane + 1]],
            plane_edges[plane_offsets[2 * plane] : plane_offsets[2 * plane + 1]],
            plane_edges[plane_offsets[2 * plane + 1] : plane_offsets[2 * plane + 2]],
            row_of(values, plane_observables[plane, 0], lanes),
            row_of(values, plane_observables[plane, 1], lanes),
        )


@tile_loop
def record_changes(changes, plan, lanes, completed, before, after):
    """Add one tile's change over a step to the drifts that are measured at this step.

    Parameters
    ----------
    changes
        Sums of this tile, (bin of all drifts, 3).
    plan
        Edges of all drifts in a row, and the start of each; the observable that changes and the one that is binned; the
        first step at which each drift is measured, and the steps between two measurements.
    lanes
        Number of lanes of a tile.
    completed
        Number of completed steps before the step.
    before, after
        The observed values before and after the step, (observable * lane).
    """
    edges, offsets, observables, steps = plan
    barrier()
    for drift in range(len(observables)):
        if is_leader() and completed >= steps[drift, 0] and (completed - steps[drift, 0]) % steps[drift, 1] == 0:
            start, stop = offsets[drift], offsets[drift + 1]
            observable, by = observables[drift, 0], observables[drift, 1]
            add_changes(
                changes[start - drift : stop - drift - 1],
                edges[start:stop],
                row_of(before, by, lanes),
                row_of(before, observable, lanes),
                row_of(after, observable, lanes),
            )
    barrier()


@tile_loop
def looks(plan, completed):
    """True if any drift is measured at the next step."""
    _, _, observables, steps = plan
    for drift in range(len(observables)):
        if completed >= steps[drift, 0] and (completed - steps[drift, 0]) % steps[drift, 1] == 0:
            return True
    return False
