"""The oracle: slow, boring, obviously right. Nothing here is imported from the package's kernels or theory."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence

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


def _below(word: int, n: int) -> int:
    return word * n // WORD


def row_words(seed: int, trajectory: int, group: int, count: int, point: int = 0) -> list[int]:
    """The words of the stream that rows of a data set are chosen with."""
    words: list[int] = []
    for index in range(-(-count // 4)):
        words += block(seed, 2, point, trajectory, group, index)
    return words[:count]


def rows_with_replacement(seed: int, trajectory: int, step: int, n: int, batch: int) -> list[int]:
    """A row a word; steps of one or two words share a block."""
    shared = 4 // batch if batch <= 2 else 1
    words = row_words(seed, trajectory, step // shared, batch * shared)
    first = step % shared * batch
    return [_below(word, n) for word in words[first : first + batch]]


def rows_without_replacement(seed: int, trajectory: int, step: int, n: int, batch: int) -> list[int]:
    """Floyd's subset: a row of the first n - batch + k + 1, or the last of them where it is taken."""
    taken: list[int] = []
    for k, word in enumerate(row_words(seed, trajectory, step, batch)):
        last = n - batch + k
        row = _below(word, last + 1)
        taken.append(last if row in taken else row)
    return taken


def shuffled(seed: int, trajectory: int, epoch: int, n: int) -> list[int]:
    """The rows of one epoch, by Fisher and Yates."""
    order = list(range(n))
    words = row_words(seed, trajectory, epoch, n)
    for i in range(1, n):
        j = _below(words[i], i + 1)
        order[i], order[j] = order[j], order[i]
    return order


def swapped_or_not(seed: int, trajectory: int, epoch: int, n: int, place: int) -> int:
    """The row at one place of an epoch, by the swap-or-not shuffle in six rounds a bit."""
    rounds = 6 * (n - 1).bit_length()
    row = place
    for number, word in enumerate(row_words(seed, trajectory, epoch, rounds)):
        partner = (_below(word, n) - row) % n
        bits = block(seed, 2, 0, trajectory, epoch, 2**20 + max(row, partner))[number // 32]
        row = partner if bits >> number % 32 & 1 else row
    return row


def random_swap_or_not(rng: np.random.Generator, samples: int, n: int, places: list[int], rounds: int) -> np.ndarray:
    """Swap-or-not with NumPy's random numbers, any number of rounds: shape (samples, places)."""
    rows = np.tile(np.array(places), (samples, 1))
    for _ in range(rounds):
        partner = (rng.integers(n, size=(samples, 1)) - rows) % n
        later = np.maximum(rows, partner)
        # Places that are partners share the bit: one for each unordered pair of a sample.
        coins = rng.integers(2, size=rows.shape).astype(bool)
        for i in range(rows.shape[1]):
            for j in range(i):
                coins[:, i] = np.where(later[:, i] == later[:, j], coins[:, j], coins[:, i])
        rows = np.where(coins, partner, rows)
    return rows


Gradient = Callable[[list[float], int], Sequence[float]]


def lion(
    start: Sequence[float],
    rates: np.ndarray,
    gradient: Gradient,
    _: np.ndarray,
    beta1: float,
    beta2: float,
    decay: float,
) -> np.ndarray:
    """Algorithm 2 of Chen et al., Symbolic Discovery of Optimization Algorithms, arXiv:2302.06675."""
    x, m, found = np.array(start), np.zeros(len(start)), []
    for t, rate in enumerate(rates):
        g = np.array(gradient(x.tolist(), t))
        update = np.sign(beta1 * m + (1 - beta1) * g)
        x = x - rate * (update + decay * x)
        m = beta2 * m + (1 - beta2) * g
        found.append(x)
    return np.array(found)


def muon(
    start: np.ndarray, rates: np.ndarray, gradients: Sequence[np.ndarray], momentum: float, decay: float, exact: bool
) -> np.ndarray:
    """Jordan et al., Muon: An optimizer for hidden layers in neural networks (2024), in double precision."""
    w, m, found = start, np.zeros(start.shape), []
    for g, rate in zip(gradients, rates, strict=True):
        m = momentum * m + (1 - momentum) * g
        u = (1 - momentum) * g + momentum * m
        if exact:
            left, _, right = np.linalg.svd(u, full_matrices=False)
            x = left @ right
        else:
            x = u / (np.linalg.norm(u) + 1e-7)
            x = x.T if len(w) > len(w.T) else x
            for _ in range(5):
                a = x @ x.T
                x = 3.4445 * x + (-4.7750 * a + 2.0315 * a @ a) @ x
            x = x.T if len(w) > len(w.T) else x
        w = (1 - rate * decay) * w - rate * max(1, len(w) / len(w.T)) ** 0.5 * x
        found.append(w)
    return np.array(found)


def schedule_free_sgd(
    start: Sequence[float],
    rates: np.ndarray,
    gradient: Gradient,
    _: np.ndarray,
    beta: float,
    decay: float,
    power: float,
) -> np.ndarray:
    """Defazio et al., The Road Less Scheduled, arXiv:2405.15682, as published in code: y is kept in place of x."""
    y, z, total, top, found = np.array(start), np.array(start), 0.0, 0.0, []
    for k, rate in enumerate(rates):
        top = max(top, rate)
        weight = (k + 1) ** power * top**2
        total += weight
        share = weight / total
        g = np.array(gradient(y.tolist(), k)) + decay * y
        y = (1 - share) * y + share * z + rate * (beta * (1 - share) - 1) * g
        z = z - rate * g
        found.append((y - (1 - beta) * z) / beta)
    return np.array(found)


def schedule_free_adamw(
    start: Sequence[float],
    rates: np.ndarray,
    gradient: Gradient,
    _: np.ndarray,
    beta1: float,
    beta2: float,
    epsilon: float,
    decay: float,
    power: float,
) -> np.ndarray:
    """Parameters along schedule-free AdamW, in the three sequences of the paper."""
    x, z, v = np.array(start), np.array(start), np.zeros(len(start))
    total, top, found = 0.0, 0.0, []
    for k, given in enumerate(rates):
        rate = given * math.sqrt(1 - beta2 ** (k + 1))
        top = max(top, rate)
        weight = (k + 1) ** power * top**2
        total += weight
        y = (1 - beta1) * z + beta1 * x
        g = np.array(gradient(y.tolist(), k))
        v = beta2 * v + (1 - beta2) * g**2
        z = z - rate * (g / (np.sqrt(v) + epsilon) + decay * y)
        x = (1 - weight / total) * x + weight / total * z
        found.append(x)
    return np.array(found)


def psgld(
    start: Sequence[float],
    rates: np.ndarray,
    gradient: Gradient,
    kicks: np.ndarray,
    temperature: float,
    alpha: float,
    epsilon: float,
) -> np.ndarray:
    """Algorithm 1 of Li et al., arXiv:1512.07666, without Gamma as they run it; their step is twice ours."""
    x, v, found = np.array(start), np.zeros(len(start)), []
    for t, rate in enumerate(rates):
        g = np.array(gradient(x.tolist(), t))
        v = alpha * v + (1 - alpha) * g**2
        scale = 1 / (epsilon + np.sqrt(v))
        x = x - rate * scale * g + np.sqrt(2 * rate * temperature * scale) * kicks[t]
        found.append(x)
    return np.array(found)


def baoab(
    start: Sequence[float],
    rates: np.ndarray,
    gradient: Gradient,
    kicks: np.ndarray,
    temperature: float,
    friction: float,
) -> np.ndarray:
    """Leimkuhler and Matthews, Appl. Math. Res. Express 2013, 34: five parts, a force in two of them."""
    x, v, found = np.array(start), np.zeros(len(start)), []
    for t, h in enumerate(rates):
        g = np.array(gradient(x.tolist(), t))
        if t > 0:
            v = v - h / 2 * g  # the last part of the step before
        v = v - h / 2 * g
        x = x + h / 2 * v
        kept = math.exp(-friction * h)
        v = kept * v + math.sqrt(temperature * (1 - kept**2)) * kicks[t]
        x = x + h / 2 * v
        found.append(x)
    return np.array(found)


def changes_by_bin(by: np.ndarray, change: np.ndarray, edges: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Count, mean and mean square of the finite changes whose ``by`` is finite and in each half-open bin."""
    seen = np.isfinite(by) & np.isfinite(change)
    by, change = by[seen], change[seen]
    bins = len(edges) - 1
    count, mean, square = np.zeros(bins, int), np.full(bins, np.nan), np.full(bins, np.nan)
    for index, (low, high) in enumerate(itertools.pairwise(edges)):
        inside = change[(by >= low) & (by < high)]
        count[index] = len(inside)
        if len(inside):
            mean[index], square[index] = inside.mean(), (inside**2).mean()
    return count, mean, square


def first_passage(values: np.ndarray, level: float) -> np.ndarray:
    """The first step at which each column is above the level, NaN where never."""
    above = values > level
    return np.where(above.any(axis=0), above.argmax(axis=0), np.nan)


def rescaling_loss(u: np.ndarray, w: np.ndarray, slope: float, sigma: float) -> np.ndarray:
    """Population loss of the rescaling net, standard normal inputs and label noise."""
    return (u * w - slope) ** 2 / 2 + sigma**2 / 2


def rescaling_gradient(
    u: np.ndarray, w: np.ndarray, x: np.ndarray, e: np.ndarray, slope: float, sigma: float
) -> tuple[np.ndarray, np.ndarray]:
    """Gradient of the two-weight net for one sample, with input x and label noise e."""
    error = (u * w - slope) * x - sigma * e
    return error * w * x, error * u * x


def rescaling_hessian(u: np.ndarray, w: np.ndarray, slope: float) -> np.ndarray:
    """Hessian of the population loss of the two-weight net, shape (…, 2, 2)."""
    cross = 2 * u * w - slope
    return np.stack([np.stack([w**2, cross], -1), np.stack([cross, u**2], -1)], -2)


def two_layer_gradient(
    first: np.ndarray, second: np.ndarray, x: np.ndarray, y: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """The gradient of ``(second @ tanh(first @ x) - y)**2 / 2``, averaged over the rows of x and y."""
    hidden = np.tanh(x @ first.T)
    residual = hidden @ second - y
    behind = residual[:, None] * second * (1 - hidden**2)
    return behind.T @ x / len(x), hidden.T @ residual / len(x)


def feedback_alignment(
    first: np.ndarray, second: np.ndarray, x: np.ndarray, y: np.ndarray, feedback: float
) -> tuple[np.ndarray, np.ndarray]:
    """Directions of feedback alignment for ``(second*(first @ x) - y)**2/2``, averaged over rows."""
    hidden = x @ first
    residual = second * hidden - y
    return feedback * residual @ x / len(x), residual @ hidden / len(x)


def gradient_by_differences(loss: Callable[[np.ndarray], float], theta: np.ndarray) -> np.ndarray:
    """The gradient of a plain NumPy function of all parameters, by central differences of fourth order."""
    slopes = np.empty(len(theta))
    for index, unit in enumerate(np.eye(len(theta))):
        h = 1e-3 * unit
        near, far = loss(theta + h) - loss(theta - h), loss(theta + 2 * h) - loss(theta - 2 * h)
        slopes[index] = (8 * near - far) / 12e-3
    return slopes


def trajectory_normals(seed: int, trajectories: int, count: int, point: int = 0) -> np.ndarray:
    """Normals of the constants of each trajectory, two of each pair of words, shape (constant, trajectory)."""
    normals = np.empty((-(-count // 4) * 4, trajectories))
    for trajectory in range(trajectories):
        for index in range(len(normals) // 4):
            w0, w1, w2, w3 = block(seed, 4, point, trajectory, 0, index)
            normals[4 * index : 4 * index + 4, trajectory] = (*normal_pair(w0, w1), *normal_pair(w2, w3))
    return normals[:count]
