"""What the threads of a GPU have observed, measured tile by tile and merged group by group.

Pasted as text behind `measure`. Moments of a tile stand alone until `merge` adds the tiles of each group in order of
their index, as the CPU does: no number depends on which tile was measured first.
"""
# mypy: ignore-errors
# ruff: noqa: F821

import numpy as np
from numba import cuda

# --- pasted from here on ---

WORK = 4 * LANES


@kernel
def measure(first_tile, n_groups, tiles, records, record_plan, moments, counts, comoments, cells):
    """Measure what is observed: a block of LANES threads a record and tile.

    Parameters
    ----------
    first_tile, n_groups, tiles
        Index in the ensemble of the first tile; how many groups; how many tiles.
    records
        (record, tile, observable * LANES).
    record_plan
        See `measure.record`.
    moments, comoments
        (record, tile, observable, 5) and (record, tile, pair, 4), zero before.
    counts, cells
        (record, group, bin) and (record, group, cell), added to.
    """
    work = cuda.shared.array(WORK, np.float64)
    r, tile = cuda.blockIdx.x // tiles, cuda.blockIdx.x % tiles
    group = (first_tile + tile) % n_groups
    record(moments[r, tile], counts[r, group], comoments[r, tile], cells[r, group], record_plan, records[r, tile], work)


@kernel
def merge(first_tile, n_groups, tile_moments, tile_comoments, moments, comoments):
    """Merge the tiles of each group in order of their index: a thread a record, group and observable or pair.

    Parameters
    ----------
    first_tile
        Index in the ensemble of the first tile.
    n_groups
        How many.
    tile_moments, tile_comoments
        (record, tile, observable, 5) and (record, tile, pair, 4).
    moments, comoments
        (record, group, observable, 5) and (record, group, pair, 4), merged into.
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
