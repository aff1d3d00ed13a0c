"""Moments and counts of the values that the threads of a GPU have observed, tile by tile and merged group by group.

This text is pasted behind `measure`. Moments of a tile stand alone until `merge` adds the tiles of each group in order
of their index, as the CPU does: no number depends on which tile was measured first.
"""
# mypy: ignore-errors
# ruff: noqa: F821

import numpy as np
from numba import cuda

# --- pasted from here on ---

WORK = 4 * LANES


@kernel
def measure(first_tile, n_groups, tiles, records, record_plan, moments, counts, comoments, cells):
    """Measure the observed values, with a block of LANES threads for each record and tile.

    Parameters
    ----------
    first_tile, n_groups, tiles
        Index in the ensemble of the first tile; number of groups; number of tiles.
    records
        The observed values, (record, tile, observable * LANES).
    record_plan
        See `measure.record`.
    moments, comoments
        Arrays for the moments, (record, tile, observable, 5) and (record, tile, pair, 4), zero before.
    counts, cells
        Counts that are added to, (record, group, bin) and (record, group, cell).
    """
    work = cuda.shared.array(WORK, np.float64)
    r, tile = cuda.blockIdx.x // tiles, cuda.blockIdx.x % tiles
    group = (first_tile + tile) % n_groups
    record(moments[r, tile], counts[r, group], comoments[r, tile], cells[r, group], record_plan, records[r, tile], work)


@kernel
def merge(first_tile, n_groups, tile_moments, tile_comoments, moments, comoments):
    """Merge the tiles of each group in order of their index, with a thread for each record, group, observable or pair.

    Parameters
    ----------
    first_tile
        Index in the ensemble of the first tile.
    n_groups
        Number of groups.
    tile_moments, tile_comoments
        Moments of the tiles, (record, tile, observable, 5) and (record, tile, pair, 4).
    moments, comoments
        Moments that they are merged into, (record, group, observable, 5) and (record, group, pair, 4).
    """
    tiles, observables = tile_moments.shape[1], tile_moments.shape[2]
    columns = observables + tile_comoments.shape[2]
    place = cuda.grid(1)
    column, group, record = place % columns, place // columns % n_groups, place // columns // n_groups
    if record < len(moments):
        for tile in range((group - first_tile) % n_groups, tiles, n_groups):
            if column < observables:
                one = tile_moments[record, tile, column]
                if one[0] > 0:
                    merge_moments(moments[record, group, column], one[0], one[1], one[2], one[3], one[4])
            else:
                pair = column - observables
                both = tile_comoments[record, tile, pair]
                if both[0] > 0:
                    merge_comoments(comoments[record, group, pair], both[0], both[1], both[2], both[3])


@kernel
def clear(values):
    """Set all to zero."""
    i = cuda.grid(1)
    if i < len(values):
        values[i] = 0.0
