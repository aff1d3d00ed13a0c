"""Linear response about a minimum: the stationary covariance of SGD with any linear optimizer, to leading order.

At a minimum ``theta*`` of the population loss (with weight decay) of Hessian H, where the batch's gradient noise has
covariance C, the state s = (theta - theta*, optimizer's variables) takes the step ``s' = F s + G w``, with F the step
of the optimizer where the gradient is ``H theta`` and ``Cov w = C``, so that the stationary covariance solves the
discrete Lyapunov equation

    S = F S F^T + G C G^T,

which is exact at any learning rate where the loss is quadratic and the noise does not depend on theta. Elsewhere it
is the leading order: anharmonic terms and the noise's dependence on theta add relative corrections of order eta.
Directions without curvature, such as the orbits of a symmetry, have no stationary law of their own and are left out.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from sgdsim.base.errors import InputError
from sgdsim.formulas import evaluation
from sgdsim.formulas.differences import jacobian
from sgdsim.model.loss import Loss
from sgdsim.model.run import Run
from sgdsim.prediction import NotApplicable, require
from sgdsim.theory.methods.batch_noise import batch_share
from sgdsim.theory.potential import require_gradient
from sgdsim.theory.quadrature.expectation import Expected
from sgdsim.theory.quadrature.rules import rule

if TYPE_CHECKING:
    import sympy

FLAT = 1e-8
"""Curvature, in units of the largest, below which a direction counts as flat."""


_DEGREE = 8  # largest degree of a gradient in one noise variable, whose square the nodes average exactly
_MOST_NODES = 50_000  # most nodes over all noise variables
_ANHARMONIC = 5.0  # growth of the curvature within a standard deviation from which on a response is not linear


@dataclass(frozen=True, eq=False)
class Population:
    """The population loss in numbers: value, gradient, Hessian and gradient noise at given parameters.

    Parameters
    ----------
    loss
        The loss whose noise is averaged over.
    decay
        Coupled weight decay, which adds ``decay*|theta|^2/2``.

    Examples
    --------
    >>> from sgdsim.model.noise import Noise
    >>> loss = Loss("a*(x - z)**2/2", ("x",), {"a": 2.0}, {"z": Noise.parse("normal:1,1")})
    >>> about = Population(loss)
    >>> about.gradient(np.array([3.0])), about.hessian(np.array([3.0])), about.noise(np.array([3.0]))
    (array([4.]), array([[2.]]), array([[4.]]))
    """

    loss: Loss
    decay: float = 0.0

    def value(self, theta: np.ndarray) -> float:
        """The population loss, with the part of weight decay."""
        return float(self._value.at(self._named(theta)).value[0] + self.decay * theta @ theta / 2.0)

    def gradient(self, theta: np.ndarray) -> np.ndarray:
        """The gradient of the population loss, (parameter,)."""
        return np.asarray(self._gradient.at(self._named(theta)).value + self.decay * theta)

    def hessian(self, theta: np.ndarray) -> np.ndarray:
        """The Hessian of the population loss, (parameter, parameter); by differences if samples have kinks."""
        n = len(theta)
        if self._has_kinks:
            slopes, finer = (jacobian(self.gradient, theta, step) for step in (1e-4, 0.4e-4))
            if not np.allclose(slopes, finer, rtol=1e-3, atol=1e-6 * np.abs(slopes).max()):
                raise InputError("the population loss has a kink here: there is no curvature")
            return np.asarray((slopes + slopes.T) / 2.0)
        upper = self._hessian.at(self._named(theta)).value
        hessian = np.empty((n, n))
        hessian[np.triu_indices(n)] = upper
        hessian.T[np.triu_indices(n)] = upper
        return hessian + self.decay * np.eye(n)

    def noise(self, theta: np.ndarray) -> np.ndarray:
        """Covariance of the gradient of one sample, (parameter, parameter)."""
        named = self._named(theta)
        if self._nodes is not None:
            values, weights = self._nodes
            found = evaluation.evaluate(self.loss.gradient, {**self.loss.constants, **named, **values})
            slopes = np.stack([np.broadcast_to(slope, weights.shape) for slope in found])
            centred = slopes - (slopes @ weights)[:, None]
            return np.asarray((centred * weights) @ centred.T)
        n, slope = len(theta), self._gradient.at(named).value
        second = np.empty((n, n))
        second[np.triu_indices(n)] = self._second_moments.at(named).value
        second.T[np.triu_indices(n)] = second[np.triu_indices(n)]
        return second - np.outer(slope, slope)

    def trace(self, theta: np.ndarray) -> float:
        """The trace of the Hessian."""
        if self._has_kinks:
            return float(np.trace(self.hessian(theta)))
        return float(self._trace.at(self._named(theta)).value[0] + self.decay * len(theta))

    @cached_property
    def _trace(self) -> Expected:
        gradient = self.loss.gradient
        return Expected(self.loss, [sum(g.diff(s) for g, s in zip(gradient, self.loss.theta, strict=True))])

    @cached_property
    def _nodes(self) -> tuple[dict[str, np.ndarray], np.ndarray] | None:
        """Samples with weights that give the covariance of a polynomial gradient exactly: a product of Gauss rules.

        A gradient of n parameters is then evaluated once, in place of n^2 products of its entries. None if the gradient
        is no polynomial of low degree in the noise, or the nodes are too many.
        """
        gradient, symbols = self.loss.gradient, self.loss.symbols
        used = [name for name in self.loss.noise if any(symbols[name] in g.free_symbols for g in gradient)]
        if not all(_is_polynomial(g, [symbols[name] for name in used]) for g in gradient):
            return None
        if any(not np.isfinite(self.loss.noise[name].moment(2 * _DEGREE)) for name in used):
            return None
        axes = [rule(self.loss.noise[name], _DEGREE + 1) for name in used]
        rows = 1 if self.loss.data is None else self.loss.data.rows
        if rows * np.prod([len(weights) for _, weights in axes]) > _MOST_NODES:
            return None
        index, *grid = np.meshgrid(np.arange(rows), *(values for values, _ in axes), indexing="ij")
        weights = np.full(rows, 1.0 / rows)
        for _, along in axes:
            weights = np.multiply.outer(weights, along)
        values = {name: part.ravel() for name, part in zip(used, grid, strict=True)}
        for name in self.loss.columns:
            assert self.loss.data is not None
            values[name] = np.array(self.loss.data.columns[name])[index.ravel()]
        return values, weights.ravel()

    def _named(self, theta: np.ndarray) -> Mapping[str, float]:
        return dict(zip(self.loss.parameters, map(float, theta), strict=True))

    @cached_property
    def _has_kinks(self) -> bool:
        from sgdsim.formulas.symbolic import Kinked

        return bool(self.loss.expression.has(Kinked))

    @cached_property
    def _value(self) -> Expected:
        return Expected(self.loss, [self.loss.expression])

    @cached_property
    def _gradient(self) -> Expected:
        return Expected(self.loss, self.loss.gradient)

    @cached_property
    def _hessian(self) -> Expected:
        return Expected(self.loss, self._upper(lambda i, j: self.loss.gradient[i].diff(self.loss.theta[j])))

    @cached_property
    def _second_moments(self) -> Expected:
        return Expected(self.loss, self._upper(lambda i, j: self.loss.gradient[i] * self.loss.gradient[j]))

    def _upper(self, entry: Callable[[int, int], sympy.Expr]) -> list[sympy.Expr]:
        n = len(self.loss.parameters)
        return [entry(i, j) for i in range(n) for j in range(i, n)]


def _is_polynomial(expression: sympy.Expr, variables: Sequence[sympy.Symbol]) -> bool:
    """True if an expression is a polynomial of a low degree in each of the variables."""
    import sympy

    if not variables:
        return True
    if not expression.is_polynomial(*variables):
        return False
    return all(bool(sympy.degree(expression, symbol) <= _DEGREE) for symbol in variables)


def minimum(loss: Loss, start: np.ndarray, decay: float = 0.0) -> np.ndarray:
    """The minimum of the population loss that the gradient leads to.

    Parameters
    ----------
    loss
        The loss whose noise is averaged over.
    start
        The point at which the search begins, (parameter,).
    decay
        Coupled weight decay.

    Returns
    -------
    ndarray
        The parameters at the minimum.

    Raises
    ------
    NotApplicable
        If the loss falls without bound, the search ends at a saddle, or the population loss does not exist.

    Examples
    --------
    >>> float(minimum(Loss("(u*w - 1)**2/2", ("u", "w")), np.array([2.0, 0.1])).prod().round(9))
    1.0
    """
    from scipy.optimize import minimize

    about = Population(loss, decay)
    try:
        with np.errstate(all="ignore"):  # SciPy squares parameters that have run away
            options = {"gtol": 1e-9, "maxiter": 2000}
            theta = np.asarray(minimize(about.value, start, jac=about.gradient, method="BFGS", options=options).x)
        _check_within_reach(theta, start)
        theta = _polished(about, theta)
        slope, curvature = about.gradient(theta), np.linalg.eigvalsh(about.hessian(theta))
    except (InputError, np.linalg.LinAlgError) as error:
        raise NotApplicable(f"the population loss cannot be minimised: {error}") from None
    _check_within_reach(theta, start)
    require(
        np.isfinite(about.value(theta)) and np.isfinite(slope).all() and np.isfinite(curvature).all(),
        "no minimum: the population loss or its slope is not finite where the search ends",
    )
    scale = max(float(np.abs(curvature).max()), 1e-300)
    # If the bottom has no curvature, as that of x**4, the slope is held against the one at the start.
    steepest = max(scale * (1.0 + np.abs(theta).max()), float(np.abs(about.gradient(start)).max()))
    require(
        not np.abs(slope).max() > 1e-6 * steepest,
        f"the population loss has no minimum that the search reaches: its slope stays at {np.abs(slope).max():.2g}",
    )
    require(
        not (curvature[0] < -FLAT * scale and _falls(about, theta)),
        f"the search ends at a saddle, with a curvature of {curvature[0]:.4g}",
    )
    require(
        not _fades(about, theta, start, steepest),
        "the population loss has no minimum: it falls ever more slowly towards infinity",
    )
    return theta


def _check_within_reach(theta: np.ndarray, start: np.ndarray) -> None:
    require(
        np.isfinite(theta).all() and np.abs(theta).max() <= 1e6 * (1.0 + np.abs(start).max()),
        "the population loss has no minimum near the start: it falls without bound",
    )


def _fades(about: Population, theta: np.ndarray, start: np.ndarray, steepest: float) -> bool:
    """True if the loss falls further along flat directions that the search followed until their slope vanished."""
    curvatures, directions = np.linalg.eigh(about.hessian(theta))
    flat = directions[:, curvatures < 1e-6 * steepest]
    fall = about.value(theta) - about.value(theta + flat @ (flat.T @ (theta - start)))
    return bool(fall > 1e-12 * abs(about.value(start) - about.value(theta)))


def _falls(about: Population, theta: np.ndarray) -> bool:
    """True if the loss falls along the direction of lowest curvature, as a negative curvature says.

    A bottom without curvature, as that of u**2*w**2, is met up to the tolerance of the search: there the curvature may
    be negative, but the loss soon rises.
    """
    curvatures, directions = np.linalg.eigh(about.hessian(theta))
    step = 1e-3 * (1.0 + np.abs(theta).max())
    lowest = min(about.value(theta + sign * step * directions[:, 0]) for sign in (-1.0, 1.0))
    return bool(lowest < about.value(theta) + curvatures[0] * step**2 / 4.0)


def _polished(about: Population, theta: np.ndarray) -> np.ndarray:
    """Parameters after a few of Newton's steps along the directions with curvature."""
    for _ in range(3):
        slope, hessian = about.gradient(theta), about.hessian(theta)
        if not (np.isfinite(slope).all() and np.isfinite(hessian).all()):
            break
        step = np.linalg.lstsq(hessian, slope, rcond=FLAT)[0]
        if np.abs(about.gradient(theta - step)).max() > np.abs(slope).max():
            break
        theta = theta - step
    return theta


@dataclass(frozen=True, eq=False)
class Response:
    """The stationary law near a minimum, to leading order.

    Attributes
    ----------
    theta
        The minimum, (parameter,).
    hessian
        Hessian there of the population loss with weight decay, (parameter, parameter).
    noise
        Covariance there of the gradient of a batch.
    covariance
        Stationary covariance of the parameters, within the directions that have curvature.
    stiff
        Directions that have curvature, as columns, (parameter, direction).
    radius
        Factor by which a step shrinks the slowest disturbance within these directions.
    """

    theta: np.ndarray
    hessian: np.ndarray
    noise: np.ndarray
    covariance: np.ndarray
    stiff: np.ndarray
    radius: float

    @property
    def flat_directions(self) -> int:
        """Number of directions without curvature."""
        return int(len(self.theta) - self.stiff.shape[1])

    @property
    def excess_loss(self) -> float:
        """Mean of the population loss above its minimum, ``Tr(H S)/2``."""
        return float(np.trace(self.hessian @ self.covariance) / 2.0)


def response(run: Run, theta: np.ndarray | None = None) -> Response:
    """Linear response of a run at the minimum below its start, or at a given one.

    Raises
    ------
    NotApplicable
        For an optimizer that is not linear, a parameter that moves by another rule than its gradient, a loss without
        minimum, and a learning rate at which the minimum is not stable.

    Examples
    --------
    >>> from sgdsim.model.noise import Noise
    >>> from sgdsim.model.optimizers import Optimizer
    >>> from sgdsim.model.schedules import Schedule
    >>> loss = Loss("2*x**2/2 + z*x", ("x",), {}, {"z": Noise.parse("normal")})
    >>> run = Run(loss, Optimizer("momentum", {"momentum": 0.8}), Schedule("0.3"), {"x": 0.0}, 1000, 100)
    >>> response(run).covariance.round(6)
    array([[0.45]])
    """
    from scipy.linalg import block_diag, solve_discrete_lyapunov

    require_gradient(run.loss)
    optimizer = run.optimizer
    require(optimizer.rule.linear, f"{optimizer.name} is not linear in the gradient: there is no linear response")
    require(
        not optimizer.values["decoupled_weight_decay"]
        or not (optimizer.rule.state or optimizer.matrix(run.loss) is not None),
        "decoupled weight decay has no potential beside a memory or a preconditioner",
    )
    require(optimizer.sampling != "epoch", "the batches of an epoch depend on each other")
    decay = optimizer.decay
    if theta is None:
        theta = minimum(run.loss, start_of(run), decay)
    about = Population(run.loss, decay)
    hessian, noise = about.hessian(theta), batch_noise(run, about.noise(theta))
    values, vectors = np.linalg.eigh(hessian)
    require(not values[0] < -FLAT * np.abs(values).max(), f"not a minimum: there is a curvature of {values[0]:.4g}")
    stiff = vectors[:, values > FLAT * max(values.max(), 1e-300)]
    require(stiff.shape[1], "no direction has curvature")
    rate = float(run.schedule.rates(run.steps)[-1])
    step, kick, shake = _step(run, rate)
    # The memory keeps its flat directions: a preconditioner may turn them into others.
    inner = block_diag(stiff, *[np.eye(len(theta))] * len(optimizer.rule.state))
    matrix = inner.T @ step(hessian) @ inner
    radius = float(np.abs(np.linalg.eigvals(matrix)).max())
    require(radius < 1.0, f"not stable: a disturbance grows by {radius:.4g} a step; take a smaller learning rate")
    source = inner.T @ (kick @ noise @ kick.T + shake) @ inner
    covariance = inner @ solve_discrete_lyapunov(matrix, source) @ inner.T
    n = len(theta)
    _check_harmonic(about, theta, hessian, covariance[:n, :n])
    return Response(theta, hessian, noise, covariance[:n, :n], stiff, radius)


def _check_harmonic(about: Population, theta: np.ndarray, hessian: np.ndarray, covariance: np.ndarray) -> None:
    """Refuse a response within whose spread the curvature changes much, as at the bottom of x**4."""
    spreads, axes = np.linalg.eigh(covariance)
    for spread, axis in zip(spreads, axes.T, strict=True):
        here = float(axis @ hessian @ axis)
        if spread > 0 and here > 0:
            there = float(axis @ about.hessian(theta + np.sqrt(spread) * axis) @ axis)
            require(
                there < _ANHARMONIC * here,
                f"the curvature grows {there / here:.3g}-fold within a standard deviation: not a linear response",
            )


def flat_directions(hessian: np.ndarray) -> np.ndarray:
    """Directions without curvature, orthonormal columns, (parameter, direction).

    Examples
    --------
    >>> flat_directions(np.diag([2.0, 0.0]))
    array([[0.],
           [1.]])
    """
    return _directions(hessian)[0]


def _directions(hessian: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Directions without curvature, and directions with it, as columns."""
    values, vectors = np.linalg.eigh(hessian)
    stiff = values > FLAT * max(values.max(), 1e-300)
    return vectors[:, ~stiff], vectors[:, stiff]


def batch_noise(run: Run, noise: np.ndarray) -> np.ndarray:
    """Covariance of the gradient of a batch from that of a sample.

    Examples
    --------
    >>> from sgdsim.model.data import Data
    >>> from sgdsim.model.optimizers import Optimizer
    >>> from sgdsim.model.schedules import Schedule
    >>> loss = Loss("(x - z)**2/2", ("x",), data=Data({"z": (0.0, 1.0, 2.0)}))
    >>> run = Run(loss, Optimizer(batch_size=2, sampling="batch"), Schedule("0.1"), {"x": 0.0}, 1000, 10)
    >>> batch_noise(run, np.eye(1))  # (1/2) * (3 - 2)/(3 - 1)
    array([[0.25]])
    """
    return noise * float(batch_share(run.optimizer, run.loss))


def start_of(run: Run) -> np.ndarray:
    """The mean start of a run, (parameter,)."""
    starts = (run.initial[name] for name in run.loss.parameters)
    return np.array([float(s) if isinstance(s, float | int) else s.moment(1) for s in starts])


def _step(run: Run, rate: float) -> tuple[Callable[[np.ndarray], np.ndarray], np.ndarray, np.ndarray]:
    """The step F as a function of the Hessian, G, and the covariance of the optimizer's own noise in a step."""
    optimizer, n = run.optimizer, len(run.loss.parameters)
    names = ("theta", *optimizer.rule.state)

    def response_to(**inputs: float) -> np.ndarray:
        zero = dict.fromkeys(names, 0.0) | {"gradient": 0.0, "xi": 0.0, "t": 1.0, "learning_rate": rate}
        decays = {"weight_decay": 0.0, "decoupled_weight_decay": 0.0}  # both decays are in the Hessian
        after = optimizer.steps({**zero, **decays, **inputs})
        return np.array([after[name] for name in names])

    to_gradient, to_kick = response_to(gradient=1.0), response_to(xi=1.0)
    own = np.stack([response_to(**{name: 1.0}) for name in names], axis=1)
    free, kick = _preconditioned(run, to_gradient, own)
    shake = np.kron(np.outer(to_kick, to_kick), np.eye(n))
    first = np.zeros((len(names) * n, n))
    first[:n] = np.eye(n)
    return lambda hessian: free + kick @ hessian @ first.T, kick, shake


def _preconditioned(run: Run, to_gradient: np.ndarray, own: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The matrix of a step without gradient, and that of a gradient; a preconditioner acts on what moves theta."""
    n, matrix = len(run.loss.parameters), run.optimizer.matrix(run.loss)
    constants = {run.loss.symbols[name]: value for name, value in run.loss.constants.items()}
    if matrix is None:
        weights = np.eye(n)
    elif matrix.free_symbols & set(run.loss.theta):
        raise NotApplicable("the preconditioner depends on the parameters")
    else:
        weights = np.array(matrix.subs(constants), dtype=np.float64)
    free, kick = np.kron(own, np.eye(n)), np.kron(to_gradient[:, None], np.eye(n))
    states = len(own)
    if states > 1:
        free[:n, n:] = np.hstack([own[0, s] * weights for s in range(1, states)])
    kick[:n] = to_gradient[0] * weights
    return free, kick
