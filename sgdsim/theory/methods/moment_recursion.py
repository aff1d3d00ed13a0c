"""Exact moments of SGD for losses whose gradient is affine in the parameters, for every sample.

With gradients ``g(theta, xi) = G(xi) theta + c(xi)`` and an optimizer that is linear in them, the state ``s`` (the
parameters and the optimizer's own variables) takes a step that is affine in ``s`` with random coefficients. So the
moments of ``s`` up to order k obey a closed linear recursion, at any learning rate, for any schedule and noise:

    E s'^alpha = sum_beta T(eta)[alpha, beta] E s^beta,    |beta| <= |alpha| <= k.

Its fixed point has the moments of the stationary law. A moment of even order j exists if the block of order j has its
spectrum inside the unit circle, and is infinite otherwise. Of odd order, signed moments may come to rest although
absolute ones are infinite: the third counts as unknown unless the fourth exists, and the mean is the limit of the
means of ensembles. For noise that does not depend on the state this is the discrete Lyapunov equation of linear
response.

Re-derived; the second moments of regression are in arXiv:2012.03636 and arXiv:2102.05375.
"""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from math import comb, prod
from typing import Any

import numpy as np

from sgdsim.base import budget
from sgdsim.base.errors import InputError, unknown_name
from sgdsim.formulas.expansion import expanded
from sgdsim.formulas.names import normal
from sgdsim.model.loss import Loss
from sgdsim.model.noise import Noise
from sgdsim.model.optimizers import Optimizer
from sgdsim.model.run import Run
from sgdsim.prediction import NotApplicable, require
from sgdsim.theory.methods.batch_noise import is_mixed
from sgdsim.theory.methods.gradient_moments import GradientMoments, Powers
from sgdsim.theory.methods.moment_matrices import matrices_of, step_forms
from sgdsim.theory.quadrature.expectation import Expected

HIGHEST = 4
"""Highest order of a moment."""

MOST_MOMENTS = 800
"""Most moments of a recursion: the matrices of 800 take 5 MB for each power of the learning rate."""

_LARGEST = int(np.finfo(np.float64).max)


@dataclass(frozen=True, eq=False)
class Recursion:
    """The closed recursion of moments of one run.

    Attributes
    ----------
    run
        The run.
    names
        Names of the state's entries: parameters first, then the optimizer's variables, ``velocity of u``.
    centre
        The point that the moments are about, one number for each entry.
    powers
        Exponents of each moment: those of the constant moment 1 first, then by order.
    matrices
        Coefficients of T in powers of the learning rate, (power, moment, moment).
    first_matrices
        Coefficients of T in the very first step, which differs for some optimizers.

    Examples
    --------
    >>> from sgdsim.model.optimizers import Optimizer
    >>> from sgdsim.model.schedules import Schedule
    >>> loss = Loss("x**2*theta**2/2 - x*e*theta", ("theta",), {}, {n: Noise.parse("normal") for n in ("x", "e")})
    >>> run = Run(loss, Optimizer(), Schedule("0.3"), {"theta": 0.0}, 1000, 200)
    >>> round(recursion(run, 2).stationary().variance("theta"), 6)  # eta/(2 - 3 eta)
    0.272727
    """

    run: Run
    names: tuple[str, ...]
    centre: np.ndarray
    powers: tuple[Powers, ...]
    matrices: np.ndarray
    first_matrices: np.ndarray

    def after(self, step: int) -> StateMoments:
        """The moments after a number of steps, from the run's own start and with its schedule.

        Raises
        ------
        InputError
            For a step that the run does not have.
        NotApplicable
            For a start on a grid or from a file, and if even the mean overflows.
        """
        if step not in range(self.run.steps + 1):
            raise InputError(f"step {step}, expected a whole number from 0 to {self.run.steps}")
        start, orders = self._start(), np.array([sum(powers) for powers in self.powers])
        for highest in range(int(orders.max()), 0, -1):
            # A moment does not depend on those of higher order, which may be infinite or overflow.
            kept = orders <= highest
            values = self._advanced(start[kept], step)
            if np.isfinite(values).all():
                beyond = np.where(orders[~kept] % 2, np.nan, np.inf)  # odd moments may have either sign
                return self._moments(np.concatenate([values, beyond]), 4.0 * float(np.finfo(float).eps) * step)
        require(np.isfinite(start[orders <= 1]).all(), "the start has no mean")
        raise NotApplicable(f"the moments after {step} steps are beyond the largest float")

    def _advanced(self, values: np.ndarray, step: int) -> np.ndarray:
        """The moments up to some order after a number of steps, from those at the start."""
        kept = slice(len(values))
        rates = self.run.schedule.rates(self.run.steps)[:step]
        with np.errstate(all="ignore"):
            for rate in rates[:1]:
                values = _at(self.first_matrices, rate)[kept, kept] @ values
            for rate, equal in itertools.groupby(rates[1:]):
                budget.check()
                values = np.linalg.matrix_power(_at(self.matrices, rate)[kept, kept], len(list(equal))) @ values
        return values

    def stationary(self) -> StateMoments:
        """The moments of the stationary law at the last learning rate; infinite if they do not exist.

        The third moments are NaN if the fourth do not exist, or if the recursion does not have them.

        Raises
        ------
        NotApplicable
            If not even the mean comes to rest.
        """
        matrix = self.matrix(float(self.run.schedule.rates(self.run.steps)[-1]))
        values = np.full(len(self.powers), np.inf)
        values[0] = 1.0
        orders = np.array([sum(powers) for powers in self.powers])
        for order in range(1, int(orders.max()) + 1):
            block, lower = orders == order, orders < order
            within = matrix[np.ix_(block, block)]
            if np.abs(np.linalg.eigvals(within)).max() >= 1.0 - 1e-12:
                break
            source = matrix[np.ix_(block, lower)] @ values[lower]
            values[block] = np.linalg.solve(np.eye(len(within)) - within, source)
        if orders.max() < HIGHEST or not np.isfinite(values[-1]):
            values[(orders == HIGHEST - 1) & np.isfinite(values)] = np.nan
        require(
            np.isfinite(values[1]), "the mean does not come to rest: a direction without curvature, or too large a step"
        )
        return self._moments(values)

    def matrix(self, rate: float) -> np.ndarray:
        """The matrix T at a learning rate, (moment, moment).

        Raises
        ------
        NotApplicable
            If it overflows.
        """
        matrix = _at(self.matrices, rate)
        require(np.isfinite(matrix).all(), "the recursion of the moments is beyond the largest float")
        return matrix

    def radius(self, order: int, rate: float) -> float:
        """Spectral radius of the block of an order: if it is below 1, moments of this order come to rest."""
        block = [sum(powers) == order for powers in self.powers]
        return float(np.abs(np.linalg.eigvals(self.matrix(rate)[np.ix_(block, block)])).max())

    def _start(self) -> np.ndarray:
        require(
            all(isinstance(start, float | int | Noise) for start in self.run.initial.values()),
            "the start is neither numbers nor independent distributions",
        )
        given = {**dict.fromkeys(self.names, 0.0), **self.run.initial}
        starts = [_moments_about(given[name], c) for name, c in zip(self.names, self.centre, strict=True)]
        with np.errstate(all="ignore"):
            return np.array([prod(starts[i][p] for i, p in enumerate(powers)) for powers in self.powers])

    def _moments(self, values: np.ndarray, rounding: float = 0.0) -> StateMoments:
        centre = dict(zip(self.names, self.centre, strict=True))
        return StateMoments(self.names, centre, dict(zip(self.powers, values, strict=True)), max(rounding, 1e-14))


def _at(matrices: np.ndarray, rate: float) -> np.ndarray:
    """The value at a learning rate of a polynomial in it whose coefficients are matrices."""
    with np.errstate(all="ignore"):
        return np.asarray(np.tensordot(rate ** np.arange(len(matrices)), matrices, axes=1))


@dataclass(frozen=True, eq=False)
class StateMoments:
    """Moments of the state about a centre, with their relative error by the rounding of many steps."""

    names: tuple[str, ...]
    centre: Mapping[str, float]
    values: Mapping[Powers, float]
    rounding: float = 1e-14

    def mean(self, name: str) -> float:
        """The mean of one entry of the state."""
        return float(self.centre.get(name, 0.0) + self._raw({name: 1}))

    def variance(self, name: str) -> float:
        """The variance of one entry of the state; infinite if it does not exist."""
        return self.covariance(name, name)

    def covariance(self, one: str, other: str) -> float:
        """The covariance of two entries of the state."""
        product = self._raw(Counter([one, other]))
        with np.errstate(all="ignore"):
            found = product - self._raw({one: 1}) * self._raw({other: 1}) if np.isfinite(product) else product
        return float(found)

    def cumulants(self, name: str) -> tuple[float, ...]:
        """Cumulants 1 to 4 of one entry of the state, as far as the recursion goes; infinite or NaN beyond.

        The third and the fourth are also NaN where their rounding is more than a hundredth of what the spread makes.
        """
        order = max(map(sum, self.values))
        raw = [self._raw({name: power}) if power <= order else np.nan for power in range(HIGHEST + 1)]
        _, m1, m2, m3, m4 = raw
        with np.errstate(all="ignore"):
            k2, k3 = m2 - m1**2, m3 - 3 * m1 * m2 + 2 * m1**3
            k2 = 0.0 if abs(k2) <= self.rounding * m2 < np.inf else k2  # the rounding of a variable that does not vary
            k4 = m4 - 4 * m1 * m3 - 3 * m2**2 + 12 * m1**2 * m2 - 6 * m1**4 if m4 < np.inf else m4
            size = abs(m1) + np.sqrt(m2)  # nothing is larger than a few of its powers
            k3 = np.nan if self.rounding * size**3 > 0.01 * k2**1.5 else k3
            k4 = np.nan if self.rounding * size**4 > 0.01 * k2**2 else k4
            k3, k4 = (0.0, 0.0) if k2 == 0 else (k3, k4)
        return self.mean(name), float(k2), float(k3), float(k4)

    def is_told(self, name: str) -> bool:
        """True if rounding is less than a hundredth of the variance of one entry of the state."""
        variance, square = self.cumulants(name)[1], self._raw({name: 2})
        return bool(variance > 100.0 * self.rounding * square or np.isinf(square))

    def _raw(self, powers: Mapping[str, int]) -> np.float64:
        powers = {normal(name): power for name, power in powers.items()}
        for name in powers:
            if name not in self.names:
                raise InputError(unknown_name("variable", name, self.names))
        return np.float64(self.values[tuple(powers.get(name, 0) for name in self.names)])


def recursion(run: Run, order: int = HIGHEST) -> Recursion:
    """The recursion of moments of a run, up to an order of at most 4.

    Raises
    ------
    NotApplicable
        For gradients that are not affine in the parameters, an optimizer that is not linear, a preconditioner that
        depends on them, batches that remember each other, or too many moments.
    """
    return Recursion(run, *_of(run.loss, run.optimizer, order))


@lru_cache(maxsize=64)  # all points of a sweep over learning rates share it
def _of(
    loss: Loss, optimizer: Optimizer, order: int
) -> tuple[tuple[str, ...], np.ndarray, tuple[Powers, ...], np.ndarray, np.ndarray]:
    require(optimizer.rule.linear, f"{optimizer.name} is not linear in the gradient")
    require(is_affine(loss), "the gradient of a sample is not affine in the parameters")
    require(optimizer.sampling != "epoch", "the batches of an epoch depend on each other")
    require(
        not (
            optimizer.sampling == "batch"
            and optimizer.batch_size > 1
            and not optimizer.rule.population
            and is_mixed(loss)
        ),
        "rows without replacement beside other noise are not in this recursion",
    )
    names = (
        *loss.parameters,
        *(f"{state} of {name}" for name in loss.parameters for state in optimizer.rule.state),
    )
    powers = tuple(_powers(len(names), order))
    require(
        len(powers) <= MOST_MOMENTS,
        f"{len(names)} variables have {len(powers)} moments up to order {order}, too many",
    )
    centre, pulls = _centre(loss, optimizer)
    gradients = GradientMoments(loss, optimizer, centre[: len(loss.parameters)], pulls, order)
    later, first = (matrices_of(loss, optimizer, powers, centre, gradients, time) for time in (1, 0))
    return names, centre, powers, later, first


def is_affine(loss: Loss) -> bool:
    """True if the gradient of every sample is affine in the parameters.

    Examples
    --------
    >>> is_affine(Loss("x**2*y", ("x", "y")))
    False
    """
    from sgdsim.formulas.symbolic import Kinked

    theta = set(loss.theta)
    if any(node.free_symbols & theta for g in loss.gradient for node in g.atoms(Kinked)):
        return False
    slopes = (g.diff(symbol) for g in loss.gradient for symbol in loss.theta)
    return not any(expanded(slope).free_symbols & theta for slope in slopes)


def _powers(variables: int, order: int) -> Iterator[Powers]:
    """Exponents of all monomials up to an order, by order."""
    for total in range(order + 1):
        for chosen in itertools.combinations_with_replacement(range(variables), total):
            counts = Counter(chosen)
            yield tuple(counts[i] for i in range(variables))


def _centre(loss: Loss, optimizer: Optimizer) -> tuple[np.ndarray, np.ndarray]:
    """The state that a step leaves unchanged on average, and what must be added to the mean gradient there for 0.

    Moments about this centre do not lose digits by cancellation.
    """
    zero = dict.fromkeys(loss.parameters, 0.0)
    slopes = [g.diff(symbol) for g in loss.gradient for symbol in loss.theta]
    try:
        values = Expected(loss, [*loss.gradient, *slopes]).at(zero).value
    except InputError as error:
        raise NotApplicable(f"the mean gradient does not exist: {error}") from None
    require(np.isfinite(values).all(), "the mean gradient is beyond the largest float")
    n, decay = len(loss.parameters), optimizer.values["weight_decay"]
    constant, matrix = values[:n], values[n:].reshape(n, n)
    states = n * len(optimizer.rule.state)
    if not optimizer.values.get("decoupled_weight_decay"):
        theta = np.linalg.lstsq(matrix + decay * np.eye(n), -constant, rcond=None)[0]
        return np.concatenate([theta, np.zeros(states)]), decay * theta
    # Decoupled decay holds the optimizer's variables away from zero too.
    linear, by_gradient = _linear_step(loss, optimizer)
    linear[:, :n] += by_gradient @ matrix
    centre = np.linalg.lstsq(np.eye(n + states) - linear, by_gradient @ constant, rcond=None)[0]
    return centre, -(constant + matrix @ centre[:n])


def _linear_step(loss: Loss, optimizer: Optimizer) -> tuple[np.ndarray, np.ndarray]:
    """The matrices of the state and of the gradient in the state after a step, at a small learning rate."""
    n = len(loss.parameters)
    names = n + n * len(optimizer.rule.state)
    found = np.zeros((names, names + n))
    for row, form in enumerate(step_forms(loss, optimizer, np.zeros(names), np.zeros(n), 1)):
        for powers, value in form.items():
            *linear, rate = (*powers[: names + n], powers[-1])
            if sum(linear) == 1 and not any(powers[names + n : -1]):
                found[row, linear.index(1)] += value * 2.0 ** (-7 * rate)
    return found[:, :names], found[:, names:]


def _moments_about(start: Any, centre: float) -> tuple[float, ...]:
    """Raw moments 0 to 4 of a start about a centre."""
    from fractions import Fraction

    if isinstance(start, float | int):
        with np.errstate(all="ignore"):
            return tuple(np.float64(start - centre) ** np.arange(HIGHEST + 1))
    raw = [start.moment(k) for k in range(HIGHEST + 1)]
    if not np.isfinite(raw).all():
        return tuple(raw)
    exact = [Fraction(value) for value in raw]
    about = Fraction(float(centre))
    moments = [
        sum((comb(k, j) * exact[j] * (-about) ** (k - j) for j in range(k + 1)), Fraction()) for k in range(HIGHEST + 1)
    ]
    return tuple(float(moment) if abs(moment) < _LARGEST else np.inf for moment in moments)
