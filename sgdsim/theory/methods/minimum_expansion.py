"""The stationary law of plain SGD near a minimum, one order beyond linear response.

With deviations ``d`` from the minimum, of order ``sqrt(eta)``, the mean gradient G and the covariance of its noise are

    G_i = H_ij d_j + K_ijk d_j d_k/2 + Q_ijkl d_j d_k d_l/6,
    C_ij(d) = C_ij + C_ij,k d_k + C_ij,kl d_k d_l/2,

and at rest the means of ``d``, ``d d`` and ``d d d`` are the same before a step and after it. In coordinates in which H
is diagonal, with curvatures h and the third cumulants k of the noise, this is

    h_i E d_i = - K_ijk S_jk/2,                               (h_i + h_j) S_ij = eta C_ij,
    (h_i + h_j + h_k) E d_i d_j d_k = - sum K_kab F_ijab/2 + eta sum (E d_i C_jk + C_jk,a S_ia) - eta^2 k_ijk,
    (h_i + h_j) E d_i d_j = eta C_ij - sum (K_jab E d_i d_a d_b/2 + Q_jabc F_iabc/6)
                            + eta^2-terms: eta (h_i h_j S_ij + C_ij,a E d_a + C_ij,ab S_ab/2),

with ``F = S S + S S + S S`` of four indices and sums over the places of an index. So the mean is known to order eta,
the covariance to order eta^2.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np

from sgdsim.base.errors import InputError
from sgdsim.model.loss import Loss
from sgdsim.model.run import Run
from sgdsim.prediction import NotApplicable, require
from sgdsim.theory.methods.linear_response import Response, response
from sgdsim.theory.quadrature.expectation import Expected

if TYPE_CHECKING:
    import sympy

MOST_PARAMETERS = 3
"""Most parameters: more would take hundreds of derivatives."""

_NOTHING = 1e-9  # share of the leading variance below which noise does not move a parameter


@dataclass(frozen=True, eq=False)
class Expansion:
    """The stationary law near a minimum.

    Attributes
    ----------
    response
        Linear response at the minimum.
    mean
        Mean of the parameters, to order eta.
    covariance
        Covariance of the parameters, to order eta^2.
    leading
        Covariance of the parameters, to order eta.
    """

    response: Response
    mean: np.ndarray
    covariance: np.ndarray
    leading: np.ndarray

    def is_moved(self, i: int) -> bool:
        """True if noise moves a parameter to leading order."""
        return bool(self.leading[i, i] > _NOTHING * np.trace(self.leading))


def expansion(run: Run) -> Expansion:
    """The stationary law of a run near the minimum below its start, one order beyond linear response.

    Raises
    ------
    NotApplicable
        For another optimizer than plain SGD, many parameters, directions without curvature, and kinks.

    Examples
    --------
    >>> from sgdsim.model.loss import Loss
    >>> from sgdsim.model.noise import Noise
    >>> from sgdsim.model.optimizers import Optimizer
    >>> from sgdsim.model.schedules import Schedule
    >>> loss = Loss("x**2/2 + k*x**3/6 + z*x", ("x",), {"k": 0.3}, {"z": Noise.parse("normal")})
    >>> found = expansion(Run(loss, Optimizer(), Schedule("0.1"), {"x": 0.0}, 100, 10))
    >>> found.mean.round(9), found.leading.round(9), found.covariance.round(9)
    (array([-0.0075]), array([[0.05]]), array([[0.052725]]))
    """
    from sgdsim.formulas.symbolic import Kinked

    loss, optimizer, n = run.loss, run.optimizer, len(run.loss.parameters)
    require(n <= MOST_PARAMETERS, f"there are {n} parameters, expected at most {MOST_PARAMETERS}")
    plain = optimizer.name == "sgd" and optimizer.matrix(loss) is None and not optimizer.decay
    require(plain, "it is known for plain SGD alone, without weight decay and matrix of rates")
    drawn = loss.data is None or optimizer.sampling == "replacement"
    require(drawn, "the rows of a batch are drawn without replacement")
    require(not loss.expression.has(Kinked), "the loss has kinks")
    found = response(run)
    require(not found.flat_directions, f"{found.flat_directions} directions have no curvature")
    try:
        return _expanded(run, found)
    except InputError as error:
        raise NotApplicable(f"a derivative at the minimum has no expectation: {error}") from None


def _expanded(run: Run, found: Response) -> Expansion:
    eta, batch = float(run.schedule.rates(run.steps)[-1]), run.optimizer.batch_size
    h, axes = np.linalg.eigh(found.hessian)
    third, fourth, noise_slope, second, skew = _derivatives(run.loss, tuple(found.theta.tolist()))
    # The covariance is E g g less the square of the mean gradient. The square and its slope vanish at the minimum, its
    # second derivative does not.
    squared = np.einsum("ik,jl->ijkl", found.hessian, found.hessian)
    noise_curvature = second - squared - squared.transpose(0, 1, 3, 2)
    k, q = _turned(third, axes), _turned(fourth, axes)
    c0 = _turned(found.noise, axes)
    c1, c2 = _turned(noise_slope, axes) / batch, _turned(noise_curvature, axes) / batch
    skewness = _turned(skew, axes) / batch**2

    pairs = h[:, None] + h
    s = eta * c0 / pairs
    mean = -np.einsum("ijk,jk->i", k, s) / (2.0 * h)
    f = np.einsum("ij,kl->ijkl", s, s)
    f = f + f.transpose(0, 2, 1, 3) + f.transpose(0, 2, 3, 1)
    pushed = np.einsum("kab,ijab->ijk", k, f) / 2.0
    carried = np.einsum("i,jk->ijk", mean, c0) + np.einsum("jka,ia->ijk", c1, s)
    cubes = eta * (carried + carried.transpose(1, 0, 2) + carried.transpose(1, 2, 0))
    cubes -= pushed + pushed.transpose(0, 2, 1) + pushed.transpose(2, 0, 1) + eta**2 * skewness
    cubes /= pairs[:, :, None] + h
    bent = np.einsum("jab,iab->ij", k, cubes) / 2.0 + np.einsum("jabc,iabc->ij", q, f) / 6.0
    more = np.outer(h, h) * s + np.einsum("ija,a->ij", c1, mean) + np.einsum("ijab,ab->ij", c2, s) / 2.0
    square = (eta * c0 - bent - bent.T + eta * more) / pairs
    covariance = square - np.outer(mean, mean)
    return Expansion(found, found.theta + axes @ mean, axes @ covariance @ axes.T, axes @ s @ axes.T)


def _turned(tensor: np.ndarray, axes: np.ndarray) -> np.ndarray:
    """A tensor in the coordinates that the columns of a matrix span."""
    for place in range(tensor.ndim):
        tensor = np.moveaxis(np.tensordot(tensor, axes, axes=(place, 0)), -1, place)
    return tensor


@lru_cache(maxsize=8)  # all points of a sweep over learning rates share them
def _derivatives(loss: Loss, theta: tuple[float, ...]) -> tuple[np.ndarray, ...]:
    """The tensors K and Q, the first two derivatives of ``E g g``, and ``E g g g``, all at the minimum."""
    n, g, t = len(loss.parameters), loss.gradient, loss.theta
    tensors: list[tuple[int, Callable[..., sympy.Expr], bool]] = [
        (3, lambda i, j, k: g[i].diff(t[j], t[k]), True),
        (4, lambda i, j, k, m: g[i].diff(t[j], t[k], t[m]), True),
        (3, lambda i, j, k: (g[i] * g[j]).diff(t[k]), False),
        (4, lambda i, j, k, m: (g[i] * g[j]).diff(t[k], t[m]), False),
        (3, lambda i, j, k: g[i] * g[j] * g[k], True),
    ]
    wanted: dict[tuple[int, tuple[int, ...]], sympy.Expr] = {}
    for number, (order, entry, symmetric) in enumerate(tensors):
        for index in itertools.product(range(n), repeat=order):
            key = number, _key(index, symmetric)
            if key not in wanted:
                wanted[key] = entry(*key[1])
    named = dict(zip(loss.parameters, theta, strict=True))
    values = dict(zip(wanted, Expected(loss, list(wanted.values())).at(named).value, strict=True))
    found = []
    for number, (order, _, symmetric) in enumerate(tensors):
        indices = itertools.product(range(n), repeat=order)
        found.append(
            np.array([float(values[number, _key(index, symmetric)]) for index in indices]).reshape((n,) * order)
        )
    return tuple(found)


def _key(index: tuple[int, ...], symmetric: bool) -> tuple[int, ...]:
    """The index of the first of equal entries of a tensor.

    It is symmetric in all indices, or in the first two and in the others.
    """
    return tuple(sorted(index)) if symmetric else (*sorted(index[:2]), *sorted(index[2:]))
