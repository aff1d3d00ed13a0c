"""Identities that a symmetry imposes on every sample's gradient and Hessian (EQV-1 … EQV-7), checked in numbers.

With generator field v of Jacobian J, and ``l(flow_c theta) = l(theta)`` for the loss l of a sample:

- EQV-1: ``g . v = 0``;
- EQV-2: ``H v = -J^T g``, so that v is a zero mode at a minimum;
- EQV-3: ``v^T H v = -g . J v``;
- EQV-4, of linear generators K with E = exp(c K): ``g(E theta) = E^-T g``, ``H(E theta) = E^-T H E^-1``;
- EQV-7, of symmetric K: one step of SGD changes ``theta^T K theta`` by ``eta^2 g^T K g``.

A discrete symmetry R, any differentiable map of Jacobian J, has

- EQV-6: ``g(theta) = J^T g(R theta)``, and where R is linear ``H(theta) = R^T H(R theta) R``.

EQV-5 is of homogeneous models, and EQV-8 counts zero modes: the tests hold them.

arXiv:2512.21447; the formulas are re-derived.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from sgdsim.formulas import evaluation
from sgdsim.model.loss import Loss
from sgdsim.model.optimizers import Optimizer
from sgdsim.model.symmetry import Symmetry
from sgdsim.theory.methods.charge_balance import Balance

if TYPE_CHECKING:
    import sympy

TOLERANCE = 1e-12
"""Largest residual, in units of the sum of the terms' magnitudes, that counts as zero; rounding leaves some 1e-15."""

_POINTS = 8  # random points at which identities are checked
_RATE = 0.1  # learning rate of the step in EQV-7


@dataclass(frozen=True)
class Check:
    """One identity for one symmetry.

    Attributes
    ----------
    id
        The name of the identity: ``EQV-1``.
    symmetry
        The name of the symmetry.
    residual
        The largest residual over all points, in units of the sum of the magnitudes of the terms.
    """

    id: str
    symmetry: str
    residual: float

    @property
    def holds(self) -> bool:
        """True if the residual is no more than rounding."""
        return self.residual <= TOLERANCE


def checks(loss: Loss, seed: int = 0) -> list[Check]:
    """All identities that apply to the symmetries of a loss, at random parameters and samples.

    Examples
    --------
    >>> loss = Loss("(u*w - 1)**2/2", ("u", "w"), symmetries=(Symmetry.parse("rescale:u:1,w:-1"),))
    >>> [(check.id, check.holds) for check in checks(loss)]
    [('EQV-1', True), ('EQV-2', True), ('EQV-3', True), ('EQV-4', True), ('EQV-7', True)]
    """
    points = _samples(loss, np.random.default_rng(seed))
    found: list[Check] = []
    for symmetry in loss.symmetries:
        residuals = _of_generator(loss, symmetry, points) if symmetry.is_continuous else _of_map(loss, symmetry, points)
        found += [Check(id, symmetry.name, value) for id, value in residuals.items()]
    return found


def _samples(loss: Loss, random: np.random.Generator) -> list[dict[str, float]]:
    """Random points: parameters away from zero, the noise and data of a sample, and the constants."""
    from random import Random

    draw, found = Random(int(random.integers(2**32))), []
    for _ in range(_POINTS):
        signs, sizes = random.choice([-1.0, 1.0], len(loss.parameters)), random.uniform(0.5, 1.5, len(loss.parameters))
        values = dict(zip(loss.parameters, signs * sizes, strict=True)) | dict(loss.constants)
        values |= {name: noise.draw(draw) for name, noise in loss.noise.items()}
        values |= {} if loss.data is None else loss.data.draw(draw)
        found.append(values)
    return found


@dataclass(frozen=True, eq=False)
class _Numbers:
    """Gradient and Hessian of a sample, and a generator or a map with its Jacobian, at given values."""

    loss: Loss
    moved: sympy.Matrix  # v(theta), or R(theta)

    def at(self, values: Mapping[str, Any]) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        import sympy

        n = len(self.loss.parameters)
        hessian = [g.diff(symbol) for g in self.loss.gradient for symbol in self.loss.theta]
        jacobian = list(self.moved.jacobian(sympy.Matrix(self.loss.theta)))
        numbers = evaluation.evaluate([*self.loss.gradient, *hessian, *self.moved, *jacobian], values)
        flat = np.array([float(number) for number in numbers])
        g, h, v, j = np.split(flat, np.cumsum([n, n * n, n]))
        return g, h.reshape(n, n), v, j.reshape(n, n)


def _of_generator(loss: Loss, symmetry: Symmetry, points: Sequence[dict[str, float]]) -> dict[str, float]:
    from scipy.linalg import expm

    balance = Balance(loss, Optimizer(), symmetry)
    numbers, worst = _Numbers(loss, balance.generator), dict[str, float]()
    for values in points:
        g, h, v, j = numbers.at(values)
        residuals = {
            "EQV-1": _relative([g * v]),
            "EQV-2": _relative([h * v, j.T * g]),
            "EQV-3": _relative([v[:, None] * h * v, g[:, None] * j * v], total=True),
        }
        if balance.is_linear:
            transport = expm(0.3 * j)
            theta = np.array([values[name] for name in loss.parameters])
            there = dict(zip(loss.parameters, transport @ theta, strict=True))
            g_there, h_there, *_ = numbers.at({**values, **there})
            back = np.linalg.inv(transport)
            residuals["EQV-4"] = max(
                _difference(g_there, back.T @ g, scale=np.linalg.norm(g)),
                _difference(h_there, back.T @ h @ back, scale=np.linalg.norm(h)),
            )
            if balance.charge is not None:
                after = theta - _RATE * g
                terms = (after @ j @ after, -theta @ j @ theta, -(_RATE**2) * g @ j @ g)
                scale = np.abs(after) @ np.abs(j) @ np.abs(after) + np.abs(theta) @ np.abs(j) @ np.abs(theta)
                residuals["EQV-7"] = float(abs(sum(terms)) / scale)
        for id, value in residuals.items():
            worst[id] = max(worst.get(id, 0.0), value)
    return worst


def _of_map(loss: Loss, symmetry: Symmetry, points: Sequence[dict[str, float]]) -> dict[str, float]:
    import sympy

    directions = loss.directions(symmetry)
    images = sympy.Matrix([directions.get(name, loss.symbols[name]) for name in loss.parameters])
    numbers, worst = _Numbers(loss, images), 0.0
    is_linear = not images.jacobian(sympy.Matrix(loss.theta)).free_symbols & set(loss.theta)
    for values in points:
        g, h, there, j = numbers.at(values)
        g_there, h_there, *_ = numbers.at({**values, **dict(zip(loss.parameters, there, strict=True))})
        worst = max(worst, _difference(g, j.T @ g_there, scale=np.linalg.norm(g)))
        if is_linear:
            worst = max(worst, _difference(h, j.T @ h_there @ j, scale=np.linalg.norm(h)))
    return {"EQV-6": worst}


def _relative(terms: Sequence[np.ndarray], total: bool = False) -> float:
    """The largest sum of terms along the last axis, or the sum of all, in units of the sum of magnitudes."""
    axis = None if total else -1
    value = sum(np.sum(term, axis=axis) for term in terms)
    size = sum(np.sum(np.abs(term), axis=axis) for term in terms)
    return float(np.max(np.abs(value)) / max(float(np.max(size)), 1e-300))


def _difference(one: np.ndarray, other: np.ndarray, scale: Any) -> float:
    return float(np.abs(one - other).max() / max(float(scale), float(np.abs(other).max()), 1e-300))
