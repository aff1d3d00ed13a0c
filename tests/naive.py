"""The oracle: slow, boring, obviously right. Nothing here is imported from the package's kernels or theory."""

from __future__ import annotations

import math

import numpy as np

WORD = 2**32


def philox4x32(counter: tuple[int, ...], key: tuple[int, int], rounds: int = 10) -> tuple[int, int, int, int]:
    """Philox4x32 in exact integer arithmetic, as defined by Salmon et al. (SC'11)."""
    c0, c1, c2, c3 = counter
    k0, k1 = key
    for _ in range(rounds):
        p0, p1 = 0xD2511F53 * c0, 0xCD9E8D57 * c2
        c0, c1, c2, c3 = (p1 // WORD) ^ c1 ^ k0, p1 % WORD, (p0 // WORD) ^ c3 ^ k1, p0 % WORD
        k0, k1 = (k0 + 0x9E3779B9) % WORD, (k1 + 0xBB67AE85) % WORD
    return c0, c1, c2, c3


def block(seed: int, stream: int, point: int, trajectory: int, group: int, index: int = 0) -> tuple[int, int, int, int]:
    """The four words of one block of the documented counter layout."""
    counter = (group, trajectory % WORD, (trajectory // WORD) << 24 | index, stream << 24 | point)
    return philox4x32(counter, (seed % WORD, seed // WORD))


def normal_pair(word0: int, word1: int) -> tuple[float, float]:
    """Box-Muller in double precision: radius from all bits of word0, quadrant from the top two bits of word1."""
    signed = word0 - WORD if word0 >= WORD // 2 else word0
    u = (signed + 0.5) / WORD
    radius = math.sqrt(-2 * (math.log1p(u) if u < 0 else math.log(u)))
    turn = (word1 * 4) % WORD
    turn -= WORD if turn >= WORD // 2 else 0
    angle = math.pi / 4 + (turn + 0.5) / WORD * math.pi / 2
    z0, z1 = radius * math.cos(angle), radius * math.sin(angle)
    return (-z0 if word1 >> 31 else z0), (-z1 if (word1 >> 30) & 1 else z1)


def gradient_normals(seed: int, trajectories: int, steps: int, point: int = 0) -> np.ndarray:
    """One normal a step: four steps share a block, in order. Shape (steps, trajectories)."""
    normals = np.empty((-(-steps // 4) * 4, trajectories))
    for trajectory in range(trajectories):
        for group in range(len(normals) // 4):
            w0, w1, w2, w3 = block(seed, 1, point, trajectory, group)
            normals[4 * group : 4 * group + 4, trajectory] = (*normal_pair(w0, w1), *normal_pair(w2, w3))
    return normals[:steps]


def initial_normals(seed: int, trajectories: int, point: int = 0) -> np.ndarray:
    """One normal a trajectory for the initial state."""
    return np.array([normal_pair(*block(seed, 0, point, trajectory, 0)[:2])[0] for trajectory in range(trajectories)])


def river_valley(
    x: np.ndarray,
    y: np.ndarray,
    normals: np.ndarray,
    learning_rate: np.ndarray,
    a0: float,
    k: float,
    c2: float,
    sigma: float,
) -> tuple[np.ndarray, np.ndarray]:
    """SGD on c2 y^2/2 + a0 (1 + k y^2) x^2/2 + sigma xi x, all states: shapes (steps + 1, trajectories)."""
    xs, ys = [x], [y]
    for eta, xi in zip(learning_rate, normals, strict=True):
        x, y = (
            x - eta * (a0 * (1 + k * y**2) * x + sigma * xi),
            y - eta * (c2 * y + a0 * k * y * x**2),
        )
        xs.append(x)
        ys.append(y)
    return np.array(xs), np.array(ys)


def central_moments(values: np.ndarray) -> tuple[float, float, float, float]:
    """Mean, unbiased variance, skewness and excess kurtosis in two passes at extended precision."""
    values = values.astype(np.longdouble)
    n = len(values)
    mean = values.sum() / n
    d = values - mean
    m2, m3, m4 = (d**2).sum(), (d**3).sum(), (d**4).sum()
    return float(mean), float(m2 / (n - 1)), float(np.sqrt(n) * m3 / m2**1.5), float(n * m4 / m2**2 - 3)
