"""One step of a run with one or two parameters, in symbols, and the points that a run starts from.

A step of a memoryless optimizer takes the parameters to a function of them and of fresh noise: a Markov chain.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from math import inf
from typing import TYPE_CHECKING, Any

import numpy as np

from sgdsim.base.errors import InputError
from sgdsim.formulas.evaluation import evaluate, kinks
from sgdsim.model.noise import Noise
from sgdsim.model.run import Run
from sgdsim.model.starts import Grid, Listed, Stored
from sgdsim.prediction import NotApplicable, require
from sgdsim.theory.methods.batch_gradient import batch_rule
from sgdsim.theory.methods.step_formula import after_step
from sgdsim.theory.quadrature.nested import Source
from sgdsim.theory.quadrature.rules import rule

if TYPE_CHECKING:
    import sympy

_RATE = "rate__"


@dataclass(frozen=True, eq=False)
class Step:
    """One step of a run, in symbols.

    Attributes
    ----------
    run
        The run whose step it is.
    after
        Each parameter after the step, in parameters, constants, the learning rate and the names of the sources.
    sources
        The random variables.
    edges
        Expressions that vanish where the step has a kink as a function of a continuous random variable.
    rate
        The learning rate.
    """

    run: Run
    after: tuple[sympy.Expr, ...]
    sources: tuple[Source, ...]
    edges: tuple[sympy.Expr, ...]
    rate: float

    @classmethod
    def of(cls, run: Run) -> Step:
        """The first step of a run.

        Raises
        ------
        NotApplicable
            For more than two parameters, an optimizer with memory, and batches that are too many to sum over.

        Examples
        --------
        >>> from sgdsim.model.loss import Loss
        >>> from sgdsim.model.optimizers import Optimizer
        >>> from sgdsim.model.schedules import Schedule
        >>> loss = Loss("a*x**2/2 + z*x", ("x",), {"a": 1.0}, {"z": Noise.parse("normal")})
        >>> Step.of(Run(loss, Optimizer(), Schedule("0.5"), {"x": 0.0}, 100, 10)).after
        (-rate__*(a*x + z) + x,)
        """
        import sympy

        _check(run)
        batch = batch_rule(run)
        rate = sympy.Symbol(_RATE, positive=True)
        after, kicks = after_step(run.loss, run.optimizer, batch.gradient, rate)
        sources = (*batch.sources, *(Source((symbol.name,), Noise("normal", (0.0, 1.0))) for symbol in kicks))
        return cls(run, after, sources, tuple(_noise_kinks(after, sources)), float(run.schedule.rates(run.steps)[0]))

    def at(self, rate: float) -> Step:
        """The step at another learning rate."""
        return replace(self, rate=rate)

    @property
    def known(self) -> Mapping[str, float]:
        """The constants of the loss, and the learning rate."""
        return {**self.run.loss.constants, _RATE: self.rate}

    @property
    def is_smoothed(self) -> bool:
        """True if continuous noise smooths the law."""
        return any(not source.is_discrete for source in self.sources)

    def values(self, points: np.ndarray) -> dict[str, Any]:
        """The values of the parameters at points, shape (point, parameter), and of the constants, by name."""
        return {**self.known, **dict(zip(self.run.loss.parameters, points.T, strict=True))}

    def expression(self, formula: str) -> sympy.Expr:
        """A formula in the parameters and constants as an expression.

        Raises
        ------
        InputError
            For a formula that depends on noise.
        """
        loss = self.run.loss
        expression = loss.expand(formula, "formula")
        random = sorted({symbol.name for symbol in expression.free_symbols} & set(loss.random))
        if random:
            raise InputError(
                f"formula: {formula!r} depends on the noise {', '.join(random)}, expected parameters alone"
            )
        return expression

    def evaluate(self, expression: sympy.Expr, points: np.ndarray) -> np.ndarray:
        """The values of an expression at points of shape (point, parameter)."""
        return np.broadcast_to(evaluate([expression], self.values(points))[0], len(points))


def _check(run: Run) -> None:
    number = len(run.loss.parameters)
    if number > 2:
        raise NotApplicable(f"there are {number} parameters, and a chain is computed of one or two; simulate instead")
    state = run.optimizer.rule.state
    if state:  # every optimizer that takes the gradient elsewhere, or takes another step, has one
        raise NotApplicable(
            f"{run.optimizer.name} remembers {', '.join(state)} from step to step, so that its parameters alone are "
            "no Markov chain; simulate instead"
        )


def _noise_kinks(expressions: Iterable[sympy.Expr], given: Iterable[Source]) -> list[sympy.Expr]:
    import sympy

    expressions = list(expressions)
    found: dict[Any, None] = {}
    for source in given:
        if not source.is_discrete:
            found |= dict.fromkeys(kinks(expressions, sympy.Symbol(source.names[0], real=True)))
    return list(found)


def start_points(
    run: Run, count: int, most: float = inf, breaks: Mapping[str, Sequence[float]] = {}
) -> tuple[np.ndarray, np.ndarray]:
    """Points and weights of the start, shape (point, parameter) and (point,).

    A drawn parameter has the points of a quadrature rule: `count` of them, or `count` in each panel between the breaks
    at which functions of it jump. Parameters on grids keep their pairs.

    Raises
    ------
    NotApplicable
        For starts whose points are not known, and, before they are made, for more than `most` points.
    """
    if any(isinstance(start, Listed | Stored) for start in run.initial.values()):
        raise NotApplicable(
            "the run starts from the states in another file, or from given values, of which it keeps moments alone"
        )
    listed = [n for n, (_, start) in enumerate(run.initial_items()) if isinstance(start, Grid)]
    points, weights = np.zeros((1, len(run.initial))), np.ones(1)
    if listed:
        found = np.zeros((run.trajectories, len(run.initial)))
        for number, (_, start) in enumerate(run.initial_items()):
            if isinstance(start, Grid):
                found[:, number] = start.values(0, run.trajectories)
        points, counts = np.unique(found, axis=0, return_counts=True)
        _allow(len(points), most)
        weights = counts / counts.sum()
    for number, (_, start) in enumerate(run.initial_items()):
        if isinstance(start, Noise):
            values, shares = rule(start, count, breaks.get(run.loss.parameters[number], ()))
            _allow(len(points) * len(values), most)
            points, several = np.repeat(points, len(values), axis=0), len(points)
            points[:, number] = np.tile(values, several)
            weights = np.outer(weights, shares).ravel()
        elif not isinstance(start, Grid):
            points[:, number] = float(start)  # type: ignore[arg-type]
    return points[weights > 0], weights[weights > 0]


def _allow(points: int, most: float) -> None:
    require(points <= most, f"the start has {points} points or more, expected at most {most}")
