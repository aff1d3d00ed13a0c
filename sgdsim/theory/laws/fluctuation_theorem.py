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

if TYPE_CHECKING:
    import sympy

_STEPS = 5
_NARROWER = 0.5  # the standard deviation of p~ over that of the start
_RESOLUTION = 0.02


def entropy_production(x: np.ndarray, slope: np.ndarray, rate: float, temperature: float) -> np.ndarray:
    """Sigma of paths x (step, trajectory) with their slopes L'(x), summed over the steps.

    Examples
    --------
    >>> x = np.array([[1.0], [0.9]])  # in a quadratic it is (x^2 - x'^2)/(2 V), V = T/(1 - eta/2)
    >>> entropy_production(x, x, 0.1, 0.05).round(6)
    array([1.805])
    """
    step = np.diff(x, axis=0)
    back, forth = (rate * slope[1:] - step) ** 2, (step + rate * slope[:-1]) ** 2
    return np.asarray((back - forth).sum(axis=0) / (4.0 * rate * temperature))


@dataclass(frozen=True)
class _Paths:
    """What the theorem makes of paths of one run."""

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
        return cls(slope, dict(loss.constants), name, constant_rate(run), gibbs.temperature, centre, width)

    def total(self, x: np.ndarray) -> np.ndarray:
        """Sigma of all steps, and ``ln p_0(x_0) - ln p~(x_K)``."""
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
    holds="any well of one parameter with normal additive noise, from a normal start",
    records=_records,
)
def fluctuation_theorem(run: Run) -> Iterator[Prediction]:
    """The integral fluctuation theorem for the first steps in any well, at any learning rate. Exact.

    Of a step ``x' = x - eta*L'(x) + s*z``, z normal and ``s^2 = 2*eta*T``, let

        Sigma = ln p(x -> x') - ln p(x' -> x) = [(x - x' + eta*L'(x'))^2 - (x' - x + eta*L'(x))^2]/(2*s^2),

    the logarithm of how much more probable it is than the way back. Then for every normalised p~

        < p~(x_K)/p_0(x_0) * exp(-sum of Sigma) > = 1,    < sum of Sigma + ln p_0(x_0) - ln p~(x_K) > >= 0,

    since the mean is the integral of ``p~(x_K)*p(x_K -> x_(K-1))*...*p(x_1 -> x_0)`` over all paths. Here p~ is the law
    of the start, half as wide, and K is 5: the weight has a finite variance only where the cloud that is carried back
    from p~ is narrower than the start. Without the boundary the mean is another, in a quadratic
    ``|1 - eta*L''|^-K``, and the sum of Sigma alone may be negative in the mean.
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
