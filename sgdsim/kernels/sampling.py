"""Which rows of a data set make the batch of a step, for every lane: from counters alone, whatever came before.

The functions below are pasted as text; the module provides ``device``, ``lane_loop``, ``wide_vectors``,
``philox4x32``, LANES, PAIR, N_ROWS, BATCH_SIZE, BATCHES_AN_EPOCH, ROW_STEPS, ROW_WORDS, ROW_STREAM, ROUNDS, and one of
them under the name of ``draw_rows``. All take the same arguments and return where in `rows` the step's rows begin:

- rows: (row buffer * lane), uint32, of which each step needs BATCH_SIZE a lane,
- order: (row * lane), uint8, the order of this epoch where it is kept,
- scratch: (4 * lane), uint32,
- trajectory, completed, key0, key1, point: of the counters,
- fresh: whether nothing in the buffers belongs to this tile.

A word w of 32 bits chooses one of n rows as ``w*n >> 32``: no row is favoured by more than n/2^32 of its share.
"""
# mypy: ignore-errors
# ruff: noqa: F821

import numpy as np

# --- pasted from here on ---


@lane_loop
def draw_words(words, c0, block, trajectory, key0, key1, point):
    """Four words a lane: the block of this number in the counters."""
    wide_vectors()
    low = trajectory & 0xFFFFFFFF
    c2 = np.uint32(((trajectory >> 32) << 24) | block)
    c3 = np.uint32((ROW_STREAM << 24) | point)
    for lane in range(LANES):
        w0, w1, w2, w3 = philox4x32(np.uint32(c0), np.uint32((low + lane) & PAIR), c2, c3, key0, key1)
        words[lane] = w0
        words[LANES + lane] = w1
        words[2 * LANES + lane] = w2
        words[3 * LANES + lane] = w3


@lane_loop
def choose(words, n):
    """Turn words into numbers below n."""
    wide_vectors()
    for i in range(len(words)):
        words[i] = np.uint32((np.uint64(words[i]) * np.uint64(n)) >> np.uint64(32))


@lane_loop
def rows_none(rows, order, scratch, trajectory, completed, fresh, key0, key1, point):
    """No data set."""
    return 0


@lane_loop
def rows_replacement(rows, order, scratch, trajectory, completed, fresh, key0, key1, point):
    """Any row for each sample."""
    phase = completed & (ROW_STEPS - 1)
    if phase == 0:
        for block in range(ROW_STEPS * ROW_WORDS // 4):
            words = rows[4 * block * LANES : 4 * (block + 1) * LANES]
            draw_words(words, completed >> (ROW_STEPS // 2), block, trajectory, key0, key1, point)
            choose(words, N_ROWS)
    return phase * ROW_WORDS * LANES


@lane_loop
def mark_taken(rows, k, i, taken):
    """Note the lanes in which samples i and k are the same row."""
    wide_vectors()
    for lane in range(LANES):
        taken[lane] |= np.uint32(rows[i * LANES + lane] == rows[k * LANES + lane])


@lane_loop
def replace_taken(rows, k, last, taken):
    """Where the row of sample k is taken, let it be the last one of those that it could be."""
    wide_vectors()
    for lane in range(LANES):
        rows[k * LANES + lane] = np.uint32(last) if taken[lane] else rows[k * LANES + lane]
        taken[lane] = np.uint32(0)


@lane_loop
def rows_batch(rows, order, scratch, trajectory, completed, fresh, key0, key1, point):
    """Different rows for the samples of a batch: every subset is equally likely (Bentley and Floyd, 1987)."""
    for block in range((BATCH_SIZE + 3) // 4):
        draw_words(rows[4 * block * LANES : 4 * (block + 1) * LANES], completed, block, trajectory, key0, key1, point)
    taken = scratch[0:LANES]
    for lane in range(LANES):
        taken[lane] = np.uint32(0)
    for k in range(BATCH_SIZE):
        last = np.int64(N_ROWS) - BATCH_SIZE + k
        choose(rows[k * LANES : (k + 1) * LANES], last + 1)
        for i in range(k):
            mark_taken(rows, k, i, taken)
        replace_taken(rows, k, last, taken)
    return 0


@lane_loop
def swap(order, i, places):
    """A step of Fisher and Yates: place i changes with one of the places up to i."""
    for lane in range(LANES):
        j = np.int64(places[lane])
        order[i * LANES + lane], order[j * LANES + lane] = order[j * LANES + lane], order[i * LANES + lane]


@lane_loop
def rows_epoch(rows, order, scratch, trajectory, completed, fresh, key0, key1, point):
    """The rows in the order of this epoch, shuffled by Fisher and Yates when it begins."""
    epoch, batch = completed // BATCHES_AN_EPOCH, completed % BATCHES_AN_EPOCH
    if fresh or batch == 0:
        for i in range(len(order)):
            order[i] = i // LANES
        for i in range(1, np.int64(N_ROWS)):
            word = i % 4
            if word == 0 or i == 1:
                draw_words(scratch, epoch, i // 4, trajectory, key0, key1, point)
            places = scratch[word * LANES : (word + 1) * LANES]
            choose(places, i + 1)
            swap(order, i, places)
    first = batch * BATCH_SIZE * LANES
    for i in range(BATCH_SIZE * LANES):
        rows[i] = order[first + i]
    return 0


@lane_loop
def swap_or_not(chosen, keys, number, epoch, trajectory, key0, key1, point):
    """One round for every lane: change places with the partner, or not, by a bit that both partners share."""
    wide_vectors()
    low = trajectory & 0xFFFFFFFF
    high = np.uint32((trajectory >> 32) << 24)
    c3 = np.uint32((ROW_STREAM << 24) | point)
    shift = np.uint32(number % 32)
    for lane in range(LANES):
        row = chosen[lane]
        key = keys[lane]
        partner = np.uint32(key - row if key >= row else key + N_ROWS - row)
        later = row if row > partner else partner
        # Blocks from 2^20 on: below, the keys of the rounds are drawn.
        block = np.uint32(later + np.uint32(1048576))
        w0, w1, w2, w3 = philox4x32(np.uint32(epoch), np.uint32((low + lane) & PAIR), high | block, c3, key0, key1)
        bits = w0 if number < 32 else w1 if number < 64 else w2 if number < 96 else w3
        chosen[lane] = partner if (bits >> shift) & np.uint32(1) else row


@lane_loop
def rows_hashed(rows, order, scratch, trajectory, completed, fresh, key0, key1, point):
    """The rows in the order of this epoch, each by the swap-or-not shuffle (Hoang, Morris, Rogaway, 2012).

    The order of many rows would not stay in cache; here any place of it is computed alone, in ROUNDS rounds.
    """
    epoch, batch = completed // BATCHES_AN_EPOCH, completed % BATCHES_AN_EPOCH
    for k in range(BATCH_SIZE):
        chosen = rows[k * LANES : (k + 1) * LANES]
        for lane in range(LANES):
            chosen[lane] = np.uint32(batch * BATCH_SIZE + k)
        for number in range(ROUNDS):
            word = number % 4
            if word == 0:
                draw_words(scratch, epoch, number // 4, trajectory, key0, key1, point)
                choose(scratch, N_ROWS)
            keys = scratch[word * LANES : (word + 1) * LANES]
            swap_or_not(chosen, keys, number, epoch, trajectory, key0, key1, point)
    return 0
