"""Philox4x32-10 (Salmon et al., SC'11), counter based: no state to carry, the same words on every target.

Key: the 64-bit seed, low word first. Counter words:

- c0: group of steps. With w words a step, w <= 2: step // (4 / w); w >= 4: step.
- c1: trajectory, low 32 bits.
- c2: trajectory, high 8 bits << 24 | block, the index of the four words within the step.
- c3: stream << 24 | sweep point.

`philox4x32` is pasted as text into the generated modules; see `source`.
"""
# mypy: disallow-untyped-defs=False

import numpy as np

STREAMS = {
    "initial_state": 0,  # one draw for each parameter, before the first step
    "gradient_noise": 1,  # the noise variables of the loss, batch_size samples in a step
    "minibatch_index": 2,  # the rows of a finite data set that make the batch
    "optimizer_noise": 3,  # noise that an optimizer adds itself (Langevin)
    "trajectory_constants": 4,  # constants that differ between trajectories
    "trajectory_data": 5,  # rows of a data set that each trajectory has for itself
}

PHILOX_M0, PHILOX_M1 = np.uint64(0xD2511F53), np.uint64(0xCD9E8D57)
PHILOX_W0, PHILOX_W1 = np.uint64(0x9E3779B9), np.uint64(0xBB67AE85)
HIGH, LOW = np.uint64(32), np.uint64(0xFFFFFFFF)


def philox4x32(c0, c1, c2, c3, k0, k1):
    """Four random words of counter (c0, c1, c2, c3) and key (k0, k1), all uint32."""
    # Words stand in 64-bit lanes whose upper half is noise, masked where a product reads it: a round is then two
    # multiplications, two shifts and two exclusive ors of vectors. Narrowing each word doubles the instructions.
    c0, c1, c2, c3 = np.uint64(c0), np.uint64(c1), np.uint64(c2), np.uint64(c3)
    k0, k1 = np.uint64(k0), np.uint64(k1)
    for _ in range(10):
        p0 = PHILOX_M0 * (c0 & LOW)
        p1 = PHILOX_M1 * (c2 & LOW)
        c0, c1, c2, c3 = (p1 >> HIGH) ^ c1 ^ k0, p1, (p0 >> HIGH) ^ c3 ^ k1, p0
        k0 += PHILOX_W0
        k1 += PHILOX_W1
    return np.uint32(c0 & LOW), np.uint32(c1 & LOW), np.uint32(c2 & LOW), np.uint32(c3 & LOW)
