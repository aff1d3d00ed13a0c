"""Fast directions of a loss, in symbols: parameters whose own gradient is linear in them, with noise of its own."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING

from sgdsim.formulas.expansion import bounded, expanded
from sgdsim.formulas.expressions import formula_text
from sgdsim.model.loss import Loss
from sgdsim.model.noise import Noise
from sgdsim.model.observables import Observable
from sgdsim.model.run import Run
from sgdsim.model.update_rules import OPTIMIZERS
from sgdsim.prediction import require
from sgdsim.theory.methods.noise_free_path import constants_of
from sgdsim.theory.recorded_names import label_of

if TYPE_CHECKING:
    import sympy


@dataclass(frozen=True)
class Direction:
    """A fast direction of a loss, in symbols.

    Attributes
    ----------
    parameter
        The coordinate of the direction.
    curvature, centre
        ``A`` and the bottom of the valley.
    couplings
        For each noise variable, the constant that multiplies it in the gradient.
    """

    parameter: str
    curvature: sympy.Expr
    centre: sympy.Expr
    couplings: Mapping[str, sympy.Expr]

    def fast_loss(self, loss: Loss) -> Observable:
        """The observable ``A*(p - centre)**2/2``."""
        formula = self.curvature * (loss.symbols[self.parameter] - self.centre) ** 2 / 2
        return Observable(f"fast_loss_{label_of(self.parameter)}", formula_text(formula))

    def time_average(self, start: int, stop: int) -> Observable:
        """The running mean of the parameter over the states after steps start + 1 … stop."""
        return Observable(f"time_average_{label_of(self.parameter)}", self.parameter, (start, stop))

    def is_gaussian(self, run: Run) -> bool:
        """True if the parameter is Gaussian at every step: normal noise, and a normal or fixed start."""
        start = run.initial[self.parameter]
        noises = [run.loss.noise[name] for name in self.couplings]
        normal = isinstance(start, float | int) or (isinstance(start, Noise) and start.family == "normal")
        return normal and all(noise.family == "normal" for noise in noises)


@lru_cache(maxsize=256)
def directions(loss: Loss, *, noisy: bool = True) -> tuple[Direction, ...]:
    """The fast directions of a loss, found in its gradient; with `noisy` false also those without noise.

    Examples
    --------
    >>> normal = Noise.parse("normal")
    >>> loss = Loss("a*y**2*x**2/2 + s*z*x - g*y", ("x", "y"), {"a": 1.0, "s": 2.0, "g": 0.1}, {"z": normal})
    >>> [(d.parameter, d.curvature, d.couplings) for d in directions(loss)]
    [('x', a*y**2, {'z': s})]
    """
    found = (_direction(loss, index, noisy) for index in range(len(loss.parameters)))
    return tuple(direction for direction in found if direction is not None)


def _direction(loss: Loss, index: int, noisy: bool) -> Direction | None:
    import sympy

    gradient, parameter = loss.gradient[index], loss.theta[index]
    noise = {name: loss.symbols[name] for name in loss.noise}
    random = {loss.symbols[name] for name in loss.random}
    moving = {*loss.theta, *random}
    curvature = gradient.diff(parameter)
    if curvature == 0 or curvature.free_symbols & {parameter, *random}:
        return None
    rest = expanded(gradient - curvature * parameter)
    couplings = {name: rest.diff(symbol) for name, symbol in noise.items() if symbol in rest.free_symbols}
    force = expanded(rest - sum(factor * noise[name] for name, factor in couplings.items()))
    centre = sympy.cancel(bounded(-force / curvature))
    if (noisy and not couplings) or any(term.free_symbols & moving for term in (centre, *couplings.values())):
        return None
    others = set().union(*(g.free_symbols for i, g in enumerate(loss.gradient) if i != index))
    if any(noise[name] in others for name in couplings):
        return None
    return Direction(loss.parameters[index], curvature, centre, couplings)


def candidate_directions(run: Run) -> tuple[Direction, ...]:
    """The fast directions of a run's loss, whether or not they turn out to be stable valleys.

    Raises
    ------
    NotApplicable
        For an optimizer other than SGD.
    """
    optimizer = run.optimizer
    require(optimizer.rule is OPTIMIZERS["sgd"], f"holds for plain sgd, the optimizer is {optimizer.name}")
    require(
        not (optimizer.preconditioner or optimizer.metric),
        "holds for one learning rate, the optimizer has a matrix of them",
    )
    return directions(run.loss)


def number(loss: Loss, expression: sympy.Expr) -> float:
    """The value of an expression of constants."""
    return float(expression.subs(constants_of(loss)))
