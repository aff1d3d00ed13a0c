"""The integral fluctuation theorem of the first steps in any well."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from math import inf
from typing import TYPE_CHECKING

import numpy as np

from sgdsim.formulas import evaluation
from sgdsim.model.noise import Noise
from sgdsim.model.run import Recorder, Run
from sgdsim.prediction import NotApplicable, PathMean, Prediction, require
from sgdsim.theory.law import law, row
from sgdsim.theory.methods.gibbs import Gibbs
from sgdsim.theory.methods.modes import constant_rate
from sgdsim.theory.quadrature.rules import rule

if TYPE_CHECKING:
    import sympy

_STEPS = 5  # number K of steps of a path
_NARROWER = 0.5  # standard deviation of p~ in units of that of the start
_RESOLUTION = 0.02  # resolution of the mean weight, which is 1
# Largest mean square of the weight, whose mean is 1. A start wider by a tenth may already make it infinite.
_LARGEST_SQUARE = 10.0
_NODES = 48  # nodes of the fit of a linear slope to that of the run


def entropy_production(x: np.ndarray, slope: np.ndarray, rate: float, temperature: float) -> np.ndarray:
    """The entropy production Sigma of paths x (step, trajectory) with slopes L'(x), summed over the steps.

    Examples
    --------
    >>> x = np.array([[1.0], [0.9]])  # in a quadratic it is (x^2 - x'^2)/(2 V), V = T/(1 - eta/2)
    >>> entropy_production(x, x, 0.1, 0.05).round(6)
    array([1.805])
    """
    step = np.diff(x, axis=0)
    back, forth = (rate * slope[1:] - step) ** 2, (step + rate * slope[:-1]) ** 2
    return np.asarray((back - forth).sum(axis=0) / (4.0 * rate * temperature))


def mean_square_of_weight(
    slope: float, curvature: float, width: float, rate: float, temperature: float, steps: int
) -> float:
    """The mean square of the weight of paths in a loss of linear slope; infinite if it does not exist.

    Parameters
    ----------
    slope, curvature
        The slope of the loss at the centre of the start, and its growth: the curvature.
    width
        The standard deviation of the start.
    rate, temperature, steps
        The learning rate, the temperature, and the number of steps.

    Examples
    --------
    >>> [round(mean_square_of_weight(0.0, 1.0, width, 0.1, 0.2, 5), 3) for width in (0.02, 0.5, 20.0)]
    [inf, 1.453, inf]
    """
    states, variance = np.eye(steps + 1), 2.0 * rate * temperature
    kept, pull = (1.0 - rate * curvature) * states, rate * slope
    back, forth = states[:-1] - kept[1:], states[1:] - kept[:-1]
    # Minus twice the logarithm of the integrand is a quadratic form in the states, less the centre.
    forms = np.vstack([states[-1:], states[:1], back, forth])
    shifts = np.array([0.0, 0.0, *[pull] * (2 * steps)])
    shares = np.array(
        [2.0 / (_NARROWER * width) ** 2, -1.0 / width**2, *[2.0 / variance] * steps, *[-1.0 / variance] * steps]
    )
    matrix, linear = forms.T @ (shares[:, None] * forms), forms.T @ (shares * shifts)
    powers = np.linalg.eigvalsh(matrix)
    if powers[0] <= 0.0:
        return inf
    least = shares @ shifts**2 - linear @ np.linalg.solve(matrix, linear)
    scales = np.log(width) - 2.0 * np.log(_NARROWER * width) - steps / 2.0 * np.log(variance)
    with np.errstate(over="ignore"):
        return float(np.exp(scales - (least + np.log(powers).sum()) / 2.0))


@dataclass(frozen=True)
class _Paths:
    """The numbers of the theorem for paths of one run."""

    slope: sympy.Expr
    constants: dict[str, float]
    name: str
    rate: float
    temperature: float
    centre: float
    width: float

    @classmethod
    def of(cls, run: Run) -> _Paths:
        gibbs, loss, name = Gibbs(run), run.loss, run.loss.parameters[0]
        require(len(loss.parameters) == 1, f"holds for one parameter, the loss has {len(loss.parameters)}")
        require(gibbs.is_normal, "the noise is not normal, so that the way back has another probability")
        require(not run.optimizer.decay, "holds without weight decay")
        start = run.initial[name]
        if not (isinstance(start, Noise) and start.family == "normal"):
            raise NotApplicable(f"{name} does not start from a normal law")
        centre, width = start.moment(1), float(np.sqrt(start.cumulant(2)))
        slope = loss.population.diff(loss.theta[0])
        paths = cls(slope, dict(loss.constants), name, constant_rate(run), gibbs.temperature, centre, width)
        square = paths.mean_square(len(_steps(run)) - 1)
        require(
            square <= _LARGEST_SQUARE,
            f"the mean square of the weight is {square:.3g} where the slope is taken as linear, expected at most "
            f"{_LARGEST_SQUARE:g}: paths that are too rare for a sample make its mean, as the start, of standard "
            f"deviation {width:.3g}, is too narrow, too wide or too far from rest",
        )
        return paths

    def mean_square(self, steps: int) -> float:
        """The mean square of the weight, with a linear slope fitted to that of the run over p~."""
        x, shares = rule(Noise("normal", (self.centre, _NARROWER * self.width)), _NODES)
        (found,) = evaluation.evaluate([self.slope], {**self.constants, self.name: x})
        slope = np.broadcast_to(found, x.shape)
        curvature = float(shares @ (slope * (x - self.centre))) / (_NARROWER * self.width) ** 2
        return mean_square_of_weight(float(shares @ slope), curvature, self.width, self.rate, self.temperature, steps)

    def total(self, x: np.ndarray) -> np.ndarray:
        """The sum of Sigma over all steps, plus the boundary term ``ln p_0(x_0) - ln p~(x_K)``."""
        (slope,) = evaluation.evaluate([self.slope], {**self.constants, self.name: x})
        start, end = (x[0] - self.centre) / self.width, (x[-1] - self.centre) / (_NARROWER * self.width)
        boundary = (end**2 - start**2) / 2.0 + np.log(_NARROWER)
        produced = entropy_production(x, np.broadcast_to(slope, x.shape), self.rate, self.temperature)
        return np.asarray(produced + boundary)

    def weight(self, x: np.ndarray) -> np.ndarray:
        return np.asarray(np.exp(-self.total(x)))


def _steps(run: Run) -> tuple[int, ...]:
    return tuple(range(min(_STEPS, run.steps) + 1))


def _records(run: Run) -> Recorder:
    _Paths.of(run)
    return Recorder(snapshots=_steps(run))


@law(
    "fluctuation-theorem",
    "the integral fluctuation theorem of the first steps, with its boundary",
    source="re-derived, cf. Seifert (2005)",
    holds="any well of one parameter with normal additive noise, from a normal start about as wide as it is at rest",
    records=_records,
)
def fluctuation_theorem(run: Run) -> Iterator[Prediction]:
    """The integral fluctuation theorem for the first steps in any well, at any learning rate. Exact.

    Of a step ``x' = x - eta*L'(x) + s*z``, z normal and ``s^2 = 2*eta*T``, let

        Sigma = ln p(x -> x') - ln p(x' -> x) = [(x - x' + eta*L'(x'))^2 - (x' - x + eta*L'(x))^2]/(2*s^2),

    the logarithm of the ratio of its probability to that of the way back. Then for every normalised p~

        < p~(x_K)/p_0(x_0) * exp(-sum of Sigma) > = 1,    < sum of Sigma + ln p_0(x_0) - ln p~(x_K) > >= 0,

    since the mean is the integral of ``p~(x_K)*p(x_K -> x_(K-1))*...*p(x_1 -> x_0)`` over all paths. Here p~ is the law
    of the start, half as wide, and K is 5. The weight has a finite variance only if the cloud that is carried back
    from p~ is narrower than the start. For a start that is much narrower or wider than the law at rest, the mean is
    dominated by paths too rare for any sample. So there are rows only if the mean square of the weight, for a linear
    slope fitted to that of the run, is at most 10. Without the boundary term the mean would not be 1 but, in a
    quadratic, ``|1 - eta*L''|^-K``, and the sum of Sigma alone may be negative in the mean.
    """
    paths, steps = _Paths.of(run), _steps(run)
    require(set(steps) <= set(run.recorder.snapshots), "the first states are not kept")

    def mean_of(function: Callable[[np.ndarray], np.ndarray]) -> PathMean:
        return PathMean(paths.name, steps, function)

    conditions = f"{len(steps) - 1} steps at the temperature {paths.temperature:.4g}"
    weight = "<exp(-entropy production)>, with its boundary"
    yield row(mean_of(paths.weight), 1.0, weight, resolution=_RESOLUTION, conditions=conditions)
    total = "<entropy production>, with its boundary, >"
    yield row(mean_of(paths.total), 0.0, total, resolution=_RESOLUTION, conditions=conditions, allowed=(0.0, inf))
