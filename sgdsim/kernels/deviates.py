"""Random words, and the deviates that are made of them: a loop over lanes for each kind.

The functions below are pasted as text; the module provides ``lane_loop``, ``row_of``, ``wide_vectors``,
``philox4x32`` and the deviates of `elementary`. `draws` decides which words make which deviates.

- words: scratch, (4 * lane), uint32.
- counter: key0, key1, point, pair. The two words of the seed; the part of the counter that is the same for all streams;
  a mask of the bits of a lane's number that choose its words.
"""
# mypy: ignore-errors
# ruff: noqa: F821

import numpy as np

# --- pasted from here on ---


@lane_loop
def draw_words(words, stream, c0, block, trajectory, counter):
    """Draw four words for each lane: those of one block number in the counters."""
    wide_vectors()
    key0, key1, point, pair = counter
    lanes = len(words) // 4
    low = trajectory & 0xFFFFFFFF
    c0 = np.uint32(c0)
    c2 = np.uint32(((trajectory >> 32) << 24) | block)
    c3 = np.uint32((stream << 24) | point)
    # Not words[lanes + lane]: an index that may be negative, for all LLVM knows, makes a scatter.
    words0, words1 = row_of(words, 0, lanes), row_of(words, 1, lanes)
    words2, words3 = row_of(words, 2, lanes), row_of(words, 3, lanes)
    for lane in range(lanes):
        w0, w1, w2, w3 = philox4x32(c0, np.uint32((low + lane) & pair), c2, c3, key0, key1)
        words0[lane] = w0
        words1[lane] = w1
        words2[lane] = w2
        words3[lane] = w3


# One loop for words and what is made of them would run out of registers: measured 12 % slower.


@lane_loop
def normals32(word0, word1, z0, z1):
    """Make two normals of two words."""
    wide_vectors()
    for lane in range(len(z0)):
        z0[lane], z1[lane] = box_muller32(word0[lane], word1[lane])


@lane_loop
def normals64(word0, word1, word2, word3, z0, z1):
    """Make two normals of four words."""
    wide_vectors()
    for lane in range(len(z0)):
        z0[lane], z1[lane] = box_muller64(word0[lane], word1[lane], word2[lane], word3[lane])


@lane_loop
def uniforms32(word, u):
    """Make a centred uniform of a word."""
    wide_vectors()
    for lane in range(len(u)):
        u[lane] = uniform32(word[lane]) - np.float32(0.5)  # exact


@lane_loop
def uniforms64(word0, word1, u):
    """Make a centred uniform of two words."""
    wide_vectors()
    for lane in range(len(u)):
        u[lane] = uniform64(word0[lane], word1[lane]) - 0.5
