"""The rows of a data set that make the batch of a step, for every lane: from counters alone, whatever came before.

The functions below are pasted as text; the module provides ``lane_loop``, ``wide_vectors``, ``philox4x32``, the
functions of `deviates`, and MINIBATCH_INDEX, the stream. All samplings take the same arguments and return the index in
`rows` at which the rows of the step begin:

- rows: buffer of rows, (row buffer * lane), uint32, of which each step needs a batch for each lane,
- order: the order of this epoch, if it is kept, (row * lane), uint8,
- words: scratch, (4 * lane), uint32,
- sampling: `Layout.sampling_numbers`,
- trajectory, completed, counter: numbers of the random counters,
- fresh: true if nothing in the buffers belongs to this tile.

A word w of 32 bits chooses one of n rows as ``w*n >> 32``: no row is favoured by more than n/2^32 of its share.
"""
# mypy: ignore-errors
# ruff: noqa: F821

import numpy as np

# --- pasted from here on ---


@lane_loop
def choose(words, n):
    """Turn words into numbers below n."""
    wide_vectors()
    for i in range(len(words)):
        words[i] = np.uint32((np.uint64(words[i]) * np.uint64(n)) >> np.uint64(32))


@lane_loop
def rows_none(rows, order, words, sampling, trajectory, completed, fresh, counter):
    """Choose no rows, as there is no data set."""
    return 0


@inlined
def rows_replacement(rows, order, words, sampling, trajectory, completed, fresh, counter):
    """Choose any row for each sample."""
    _, n_rows, _, _, steps, words_a_step, _ = sampling
    size = len(words)
    phase = completed & (steps - 1)
    if phase == 0:
        for block in range(steps * words_a_step // 4):
            drawn = row_of(rows, block, size)
            draw_words(drawn, MINIBATCH_INDEX, completed >> (steps // 2), block, trajectory, counter)
            choose(drawn, n_rows)
    return phase * words_a_step * (size // 4)


@lane_loop
def mark_taken(row, other, taken):
    """Note the lanes in which two samples are the same row."""
    wide_vectors()
    for lane in range(len(taken)):
        taken[lane] |= np.uint32(row[lane] == other[lane])


@lane_loop
def replace_taken(row, last, taken):
    """Replace the row of a sample, if it is taken already, by the last row that it could be."""
    wide_vectors()
    for lane in range(len(taken)):
        row[lane] = np.uint32(last) if taken[lane] else row[lane]
        taken[lane] = np.uint32(0)


@inlined
def rows_batch(rows, order, words, sampling, trajectory, completed, fresh, counter):
    """Choose different rows for the samples of a batch: every subset is equally likely (Bentley and Floyd, 1987)."""
    _, n_rows, batch, _, _, _, _ = sampling
    lanes = len(words) // 4
    for block in range((batch + 3) // 4):
        draw_words(row_of(rows, block, len(words)), MINIBATCH_INDEX, completed, block, trajectory, counter)
    taken = row_of(words, 0, lanes)
    for lane in range(lanes):
        taken[lane] = np.uint32(0)
    for k in range(batch):
        last = np.int64(n_rows) - batch + k
        row = row_of(rows, k, lanes)
        choose(row, np.uint32(last + 1))
        for i in range(k):
            mark_taken(row, row_of(rows, i, lanes), taken)
        replace_taken(row, last, taken)
    return 0


@lane_loop
def swap(order, i, places):
    """Make a step of Fisher and Yates: exchange place i with one of the places up to i."""
    lanes = len(places)
    here = row_of(order, i, lanes)
    for lane in range(lanes):
        there = np.uint64(places[lane]) * np.uint64(lanes) + np.uint64(lane)
        here[lane], order[there] = order[there], here[lane]


@inlined
def rows_epoch(rows, order, words, sampling, trajectory, completed, fresh, counter):
    """Take the rows in the order of this epoch, shuffled by Fisher and Yates when it begins."""
    _, n_rows, batch, batches_an_epoch, _, _, _ = sampling
    lanes = len(words) // 4
    epoch, place = completed // batches_an_epoch, completed % batches_an_epoch
    if fresh or place == 0:
        for i in range(np.int64(n_rows)):
            row = row_of(order, i, lanes)
            for lane in range(lanes):
                row[lane] = i
        for i in range(1, np.int64(n_rows)):
            word = i % 4
            if word == 0 or i == 1:
                draw_words(words, MINIBATCH_INDEX, epoch, i // 4, trajectory, counter)
            places = row_of(words, word, lanes)
            choose(places, np.uint32(i + 1))
            swap(order, i, places)
    chosen = row_of(order, place, batch * lanes)
    for i in range(batch * lanes):
        rows[i] = chosen[i]
    return 0


@lane_loop
def swap_or_not(chosen, keys, n_rows, number, epoch, trajectory, counter):
    """Make one round for every lane: exchange places with the partner, or not, by a bit that both partners share."""
    wide_vectors()
    key0, key1, point, pair = counter
    low = trajectory & 0xFFFFFFFF
    high = np.uint32((trajectory >> 32) << 24)
    c3 = np.uint32((MINIBATCH_INDEX << 24) | point)
    shift = np.uint32(number % 32)
    for lane in range(len(chosen)):
        row = chosen[lane]
        key = keys[lane]
        partner = np.uint32(key - row if key >= row else key + n_rows - row)
        later = row if row > partner else partner
        # Blocks from 2^20 on, as those below have the keys of the rounds.
        block = np.uint32(later + np.uint32(1048576))
        w0, w1, w2, w3 = philox4x32(np.uint32(epoch), np.uint32((low + lane) & pair), high | block, c3, key0, key1)
        bits = w0 if number < 32 else w1 if number < 64 else w2 if number < 96 else w3
        chosen[lane] = partner if (bits >> shift) & np.uint32(1) else row


@inlined
def rows_hashed(rows, order, words, sampling, trajectory, completed, fresh, counter):
    """Take the rows in the order of this epoch, each by the swap-or-not shuffle (Hoang, Morris, Rogaway, 2012).

    The order of many rows would not stay in cache; here any place of it is computed alone, in some rounds.
    """
    _, n_rows, batch, batches_an_epoch, _, _, rounds = sampling
    lanes = len(words) // 4
    epoch, place = completed // batches_an_epoch, completed % batches_an_epoch
    for k in range(batch):
        chosen = row_of(rows, k, lanes)
        for lane in range(lanes):
            chosen[lane] = np.uint32(place * batch + k)
        for number in range(rounds):
            if number % 4 == 0:
                draw_words(words, MINIBATCH_INDEX, epoch, number // 4, trajectory, counter)
                choose(words, n_rows)
            swap_or_not(chosen, row_of(words, number % 4, lanes), n_rows, number, epoch, trajectory, counter)
    return 0
