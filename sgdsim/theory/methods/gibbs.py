"""The Gibbs law of SGD with isotropic additive noise, and its first correction at finite learning rate.

Where the covariance of the gradient noise is ``sigma^2`` times the identity, everywhere, small steps have the
temperature ``T = eta*c*sigma^2/2`` (c of the batch; a Langevin optimizer adds its own) and the stationary density

    rho = rho_0*[1 + eta*(q - E_0 q)] + O(eta^2) at fixed T,
    rho_0 ~ exp(-L/T),    q = |grad L|^2/(4 T) - Laplacian L/2.

The gradient-norm term has the opposite sign of the entropic loss's: ``exp(-phi/T)`` is wrong. The correction is that of
normal noise: a third cumulant adds a term of order sqrt(eta), a fourth one of order eta.

Re-derived; for a quadratic valley it reproduces the exact variance ``T/(a*(1 - eta*a/2))`` to first order.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from sgdsim.base.errors import InputError
from sgdsim.formulas import evaluation
from sgdsim.formulas.expansion import expanded
from sgdsim.model.run import Run
from sgdsim.prediction import NotApplicable, require
from sgdsim.theory.methods.entropic_loss import EntropicLoss
from sgdsim.theory.methods.linear_response import Population, minimum, start_of
from sgdsim.theory.methods.modes import constant_rate
from sgdsim.theory.quadrature.expectation import Expected
from sgdsim.theory.quadrature.nested import Numerical

if TYPE_CHECKING:
    import sympy

MOST_PARAMETERS = 3

_FLAT = 60.0  # height above the minimum, in temperatures, from which on the density is negligible
_POINTS = {1: (801, 1201), 2: (161, 241), 3: (61, 91)}  # points along an axis of the coarse and fine grid, by dimension
_DOUBLINGS = 90  # most widenings of the box
_DEEPER = 600.0  # depth below the start's minimum, in temperatures, whose exponential is still a float
_WIDE = 8.0  # extent of the region that is searched for other wells, in units of the box
_WIDE_POINTS = {1: 2001, 2: 201, 3: 61}  # points along an axis in that search, by dimension


@dataclass(frozen=True, eq=False)
class Gibbs:
    """The Gibbs law of a run.

    Parameters
    ----------
    run
        A run of plain SGD or Langevin dynamics at constant learning rate.

    Raises
    ------
    NotApplicable
        For noise that depends on the state or is not isotropic, no noise at all, another optimizer, or too many
        parameters for the normalisation.

    Examples
    --------
    >>> from sgdsim.model.loss import Loss
    >>> from sgdsim.model.noise import Noise
    >>> from sgdsim.model.optimizers import Optimizer
    >>> from sgdsim.model.schedules import Schedule
    >>> loss = Loss("x**2/2 + z*x", ("x",), {}, {"z": Noise.parse("normal")})
    >>> gibbs = Gibbs(Run(loss, Optimizer(), Schedule("0.1"), {"x": 0.0}, 100, 10))
    >>> gibbs.temperature, gibbs.expectation("x**2", corrected=False).value.round(6)
    (0.05, np.float64(0.05))
    >>> gibbs.expectation("x**2").value.round(6)  # T*(1 + eta/2), of T/(1 - eta/2)
    np.float64(0.0525)
    """

    run: Run

    def __post_init__(self) -> None:
        require(
            self.run.optimizer.name in ("sgd", "langevin"),
            f"the Gibbs law is for sgd and langevin, the optimizer is {self.run.optimizer.name}",
        )
        require(
            not (self.run.optimizer.preconditioner or self.run.optimizer.metric),
            "the Gibbs law is for one learning rate, the optimizer has a matrix of them",
        )
        require(self.run.optimizer.sampling != "epoch", "the batches of an epoch depend on each other")
        require(
            len(self.run.loss.parameters) <= MOST_PARAMETERS,
            f"the Gibbs law is normalised numerically in up to {MOST_PARAMETERS} dimensions",
        )
        require(self.temperature > 0, "there is no noise, and so no temperature")
        constant_rate(self.run)

    @cached_property
    def temperature(self) -> float:
        """The temperature T, in the units of the loss."""
        import sympy

        run = self.run
        entropic = EntropicLoss(run.loss, run.optimizer)
        covariance = entropic.noise_covariance
        if covariance is None:
            raise NotApplicable("the covariance of the gradient noise has no closed form")
        values = {run.loss.symbols[name]: value for name, value in run.loss.constants.items()}
        covariance = covariance.subs(values)
        first = covariance[0, 0]
        spread = (covariance - first * sympy.eye(covariance.rows)).applyfunc(expanded)
        require(
            not (first.free_symbols & set(run.loss.theta)),
            "the gradient noise depends on the parameters: its law is not that of Gibbs",
        )
        require(spread.is_zero_matrix, "the gradient noise is not isotropic: its law is not that of Gibbs")
        heat = constant_rate(run) * float(entropic.noise_share) * float(first) / 2.0
        return heat + run.optimizer.values.get("temperature", 0.0)

    def density(self, *theta: Any, corrected: bool = True) -> Any:
        """The normalised density at parameters, arrays that broadcast, with the first correction or without."""
        self._check_noise(corrected)
        weight, q = self._weight(dict(zip(self.run.loss.parameters, theta, strict=True)))
        _, norm, mean = self._integrals(self._grids[1], None)
        return weight / norm * (1.0 + corrected * constant_rate(self.run) * (q - mean))

    def expectation(self, formula: str, *, corrected: bool = True) -> Numerical:
        """The mean of a formula of the parameters and constants.

        Parameters
        ----------
        formula
            A formula in the loss's names and quantities.
        corrected
            True for the law with the first correction in the learning rate.

        Raises
        ------
        NotApplicable
            For the correction if the noise is not normal, and for a loss that does not grow far away.
        """
        self._check_noise(corrected)
        expression = self.run.loss.expand(formula, "expectation")
        rate = corrected * constant_rate(self.run)
        coarse, fine = (self._integrals(points, expression, rate)[0] for points in self._grids)
        return Numerical(np.float64(fine), np.float64(abs(fine - coarse) + 1e-14 * abs(fine)))

    def _check_noise(self, corrected: bool) -> None:
        require(
            self.is_normal or not corrected,
            "the correction is that of normal noise, and the gradient noise is another",
        )

    @cached_property
    def is_normal(self) -> bool:
        """True if the gradient is affine in normal noise, and has no other noise."""
        loss = self.run.loss
        used = {symbol.name for g in loss.gradient for symbol in g.free_symbols} & set(loss.random)
        if any(name in loss.columns or loss.noise[name].family != "normal" for name in used):
            return False
        symbols = [loss.symbols[name] for name in used]
        slopes = [g.diff(symbol) for g in loss.gradient for symbol in symbols]
        return not any(expanded(slope).free_symbols & set(symbols) for slope in slopes)

    def _integrals(self, points: int, expression: sympy.Expr | None, rate: float = 0.0) -> tuple[float, float, float]:
        """Mean of an expression, norm of exp(-L/T) and mean of q, by the trapezoidal rule on a grid."""
        names = self.run.loss.parameters
        axes = [np.linspace(low, high, points) for low, high in self._box]
        grid = dict(zip(names, np.meshgrid(*axes, indexing="ij"), strict=True))
        weight, q = self._weight(grid)
        total = weight.sum()
        norm, mean = float(total * np.prod([axis[1] - axis[0] for axis in axes])), float((weight * q).sum() / total)
        if expression is None:
            return np.nan, norm, mean
        values = evaluation.evaluate([expression], {**self.run.loss.constants, **grid})[0]
        return float((weight * values * (1.0 + rate * (q - mean))).sum() / total), norm, mean

    @property
    def _grids(self) -> tuple[int, int]:
        return _POINTS[len(self.run.loss.parameters)]

    def _weight(self, theta: Mapping[str, Any]) -> tuple[Any, Any]:
        """The weight exp(-L/T) relative to the minimum, and q."""
        potential, slope, laplacian = self._values(theta)
        weight = np.exp(-(potential - self._bottom[1]) / self.temperature)
        return weight, slope / (4.0 * self.temperature) - laplacian / 2.0

    def _values(self, theta: Mapping[str, Any]) -> tuple[Any, Any, Any]:
        """The loss L, |grad L|^2 and the Laplacian, with weight decay."""
        loss, decay = self.run.loss, self.run.optimizer.decay
        n = len(loss.parameters)
        value, *rest = self._derivatives.at(theta).value
        coordinates = [np.asarray(theta[name], dtype=np.float64) for name in loss.parameters]
        value = value + decay * sum(x * x for x in coordinates) / 2.0
        slopes = [g + decay * x for g, x in zip(rest[:n], coordinates, strict=True)]
        return value, sum(g * g for g in slopes), sum(rest[n:]) + n * decay

    @cached_property
    def _derivatives(self) -> Expected:
        loss = self.run.loss
        mean = Expected(loss, [loss.expression]).exact
        if mean is None:
            raise NotApplicable("the population loss has no closed form")
        slopes = [mean[0].diff(symbol) for symbol in loss.theta]
        return Expected(loss, [mean[0], *slopes, *(g.diff(s) for g, s in zip(slopes, loss.theta, strict=True))])

    @cached_property
    def _bottom(self) -> tuple[np.ndarray, float]:
        """The minimum below the start, and the population loss there."""
        loss, decay = self.run.loss, self.run.optimizer.decay
        theta = minimum(loss, start_of(self.run), decay)
        steepest = float(np.linalg.eigvalsh(Population(loss, decay).hessian(theta)).max())
        require(
            not constant_rate(self.run) * steepest >= 2.0,
            f"not stable: learning rate times curvature is {constant_rate(self.run) * steepest:.3g}",
        )
        named = dict(zip(self.run.loss.parameters, map(float, theta), strict=True))
        return theta, float(self._values(named)[0])

    @cached_property
    def _box(self) -> list[tuple[float, float]]:
        """Bounds along each axis beyond which the density is negligible: at the faces of the box and well outside."""
        centre, _ = self._bottom
        reach = np.full((len(centre), 2), float(np.sqrt(self.temperature)))
        for _ in range(_DOUBLINGS):
            held = self._held(centre, _WIDE * reach)
            if (held <= reach).all():
                return [(float(c - r[0]), float(c + r[1])) for c, r in zip(centre, reach, strict=True)]
            reach = np.where(held > reach, 1.25 * reach, reach)
            if reach.max() > 1e8 * (1.0 + np.abs(centre).max()):
                break
        raise NotApplicable("the loss does not grow far away: there is no law to normalise")

    def _held(self, centre: np.ndarray, reach: np.ndarray) -> np.ndarray:
        """Distances along each axis, to both sides, up to which the density is not negligible on a wide grid.

        The grid is wide since behind a barrier there may be another well.
        """
        points = _WIDE_POINTS[len(centre)]
        axes = [np.linspace(c - r[0], c + r[1], points) for c, r in zip(centre, reach, strict=True)]
        grid = np.meshgrid(*axes, indexing="ij")
        values = np.broadcast_to(self._values(dict(zip(self.run.loss.parameters, grid, strict=True)))[0], grid[0].shape)
        if not np.isfinite(values).all():
            raise InputError("the population loss is not finite everywhere: there is no Gibbs law to normalise")
        require(
            not values.min() < self._bottom[1] - _DEEPER * self.temperature,
            "there is a deeper well than that of the start; begin the run in the deepest",
        )
        inside = values < self._bottom[1] + _FLAT * self.temperature
        sides = [(c - part[inside].min(), part[inside].max() - c) for c, part in zip(centre, grid, strict=True)]
        cells = (reach.sum(axis=1) / (points - 1))[:, None]
        return np.asarray(np.array(sides) + cells)
