"""The noise of one step, as theory knows it: its conditional mean and covariance given the state before the step.

Given theta, the gradient of a batch has a mean and a covariance,

    g = gbar(theta) + D,    E[D|theta] = 0,    E[D D^T|theta] = C(theta),

which are formulas where the noise has its moments: polynomials, sums over rows of data and over discrete values. A
memoryless step that is linear in the gradient makes of it ``theta' = m(theta) + d`` with d of covariance V. So for any
theta before the step, wherever it came from,

    E[theta'_i - m_i|theta] = 0,
    E[(theta'_i - m_i)(theta'_j - m_j) - V_ij|theta] = 0,
    E[theta'_i^2 - m_i^2 - V_ii|theta] = 0.

Of a step that is not linear in the gradient, or remembers what was before, the same is known of the gradient itself.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from math import isfinite
from typing import TYPE_CHECKING

from sgdsim.base import budget
from sgdsim.base.errors import InputError
from sgdsim.formulas.expansion import expanded, terms
from sgdsim.model.loss import Loss
from sgdsim.model.noise import Noise
from sgdsim.model.run import Run
from sgdsim.prediction import NotApplicable, require
from sgdsim.theory.methods.batch_gradient import batch_rule
from sgdsim.theory.methods.batch_noise import batch_share
from sgdsim.theory.methods.step_formula import after_step
from sgdsim.theory.quadrature.nested import Source

if TYPE_CHECKING:
    import sympy

MOST_TERMS = 400
"""Of what an expectation of the loss after a step is taken: SymPy takes up to 1 ms a term."""


@dataclass(frozen=True, eq=False)
class StepNoise:
    """What theory knows of the noise of one step of a run.

    Parameters
    ----------
    run
        Whose step it is.

    Raises
    ------
    NotApplicable
        Where there is no noise, where batches depend on each other, and for a mean gradient without closed form.

    Examples
    --------
    >>> from sgdsim.model.noise import Noise
    >>> from sgdsim.model.optimizers import Optimizer
    >>> from sgdsim.model.schedules import Schedule
    >>> loss = Loss("a*x**2/2 + s*z*x**2/2", ("x",), {"a": 1.0, "s": 0.5}, {"z": Noise.parse("normal")})
    >>> noise = StepNoise(Run(loss, Optimizer(batch_size=2), Schedule("0.1"), {"x": 1.0}, 100, 10))
    >>> noise.kicks, noise.kick_covariance(0, 0)
    ((a*learning_rate*x + next(x) - x,), learning_rate**2*s**2*x**2/2)
    """

    run: Run

    def __post_init__(self) -> None:
        run = self.run
        require(
            run.optimizer.sampling != "epoch",
            "the batches of an epoch depend on each other: what a step does is not known from its state alone",
        )
        taken = "learning_rate" in run.loss.namespace_names
        require(not taken, "learning_rate is a name of the loss, and the mean of a step needs that of the step")
        rule = run.optimizer.rule
        require(not rule.point, f"{run.optimizer.name} takes its gradient elsewhere than at the parameters")
        require(run.loss.random or rule.is_random, "there is no noise")
        require(not rule.population or rule.is_random, "the optimizer draws no noise")
        assert self.slopes  # refuses those without closed form

    @property
    def is_memoryless(self) -> bool:
        """Whether the step is linear in the gradient and of the parameters alone."""
        return self.run.optimizer.rule.linear and not self.run.optimizer.rule.state

    @property
    def is_of_gradient(self) -> bool:
        """Whether kicks are those of the gradient: of steps with a memory, and beside noise of the optimizer's own."""
        return not self.is_memoryless or self.run.optimizer.rule.is_random

    @cached_property
    def rate(self) -> sympy.Symbol:
        """The learning rate of the step."""
        import sympy

        return sympy.Symbol("learning_rate", real=True)

    @cached_property
    def next(self) -> tuple[sympy.Symbol, ...]:
        """The parameters after the step."""
        return named("next", self.run.loss)

    @cached_property
    def slopes(self) -> tuple[sympy.Expr, ...]:
        """The mean gradient."""
        try:
            return tuple(self.run.loss.population_gradient)
        except InputError as error:
            raise NotApplicable(f"the mean gradient has no closed form: {error}") from None

    @cached_property
    def means(self) -> tuple[sympy.Expr, ...]:
        """The conditional mean of each parameter after a memoryless step."""
        after, kicks = after_step(self.run.loss, self.run.optimizer, self.slopes, self.rate)
        return tuple(value.xreplace(dict.fromkeys(kicks, 0)) for value in after)

    @cached_property
    def kicks(self) -> tuple[sympy.Expr, ...]:
        """What the noise of the step adds to each parameter, or to each entry of the gradient."""
        if not self.is_of_gradient:
            return tuple(after - mean for after, mean in zip(self.next, self.means, strict=True))
        gradient = named("gradient", self.run.loss)
        return tuple(found - slope for found, slope in zip(gradient, self.slopes, strict=True))

    @cached_property
    def response(self) -> tuple[sympy.Matrix, sympy.Matrix]:
        """What a memoryless step makes of the gradient and of the optimizer's own noise, as matrices."""
        import sympy

        gradient = named("gradient", self.run.loss)
        after, kicks = after_step(self.run.loss, self.run.optimizer, gradient, self.rate)
        vector = sympy.Matrix(after)
        own = vector.jacobian(kicks) if kicks else sympy.zeros(len(after), 0)
        return vector.jacobian(gradient), own

    def gradient_covariance(self, i: int, j: int) -> sympy.Expr:
        """The covariance of two entries of the gradient of a batch.

        Raises
        ------
        NotApplicable
            Where it has no closed form, or does not exist.
        """
        key = min(i, j), max(i, j)
        if key not in self._covariances:
            self._covariances[key] = self._covariance(*key)
        return self._covariances[key]

    @cached_property
    def _covariances(self) -> dict[tuple[int, int], sympy.Expr]:
        return {}

    def _covariance(self, i: int, j: int) -> sympy.Expr:
        import sympy

        loss = self.run.loss
        budget.check()
        many = terms(loss.gradient[i]) * terms(loss.gradient[j])
        require(many <= MOST_TERMS, f"the covariance of the gradient has more than {MOST_TERMS} terms")
        try:
            second = loss.expectation(expanded(loss.gradient[i] * loss.gradient[j]))
            share = batch_share(self.run.optimizer, loss)
            return share * sympy.factor_terms(expanded(second - self.slopes[i] * self.slopes[j]))
        except InputError as error:
            raise NotApplicable(f"the covariance of the gradient has no closed form: {error}") from None

    def kick_covariance(self, i: int, j: int) -> sympy.Expr:
        """The conditional covariance of two of the `kicks`."""
        return self.gradient_covariance(i, j) if self.is_of_gradient else self.step_covariance(i, j)

    def step_covariance(self, i: int, j: int) -> sympy.Expr:
        """The conditional covariance of two parameters after a memoryless step."""
        import sympy

        to_gradient, own = self.response
        n = len(self.run.loss.parameters)
        weights = {(a, b): to_gradient[i, a] * to_gradient[j, b] for a in range(n) for b in range(n)}
        given = [weight * self.gradient_covariance(*pair) for pair, weight in weights.items() if weight != 0]
        return sympy.Add(*given, *(own[i, k] * own[j, k] for k in range(own.cols)))

    def has_fourth_moments(self, i: int) -> bool:
        """Whether the square of a kick has a variance, without which its mean has no standard error."""
        import sympy

        loss = self.run.loss
        for name in (name for name in loss.noise if loss.symbols[name] in loss.gradient[i].free_symbols):
            degree = int(sympy.degree(loss.gradient[i], loss.symbols[name])) if _is_polynomial(loss, i, name) else 1
            if not isfinite(loss.noise[name].moment(4 * degree)):
                return False
        return True

    def expectation_after(self, value: sympy.Expr) -> sympy.Expr:
        """The conditional expectation of a function of the parameters after a memoryless step.

        Parameters
        ----------
        value
            In the symbols of the parameters.

        Raises
        ------
        NotApplicable
            Where it has no closed form, or very many terms.
        """
        import sympy

        require(self.is_memoryless, "the step remembers what was before, or is not linear in the gradient")
        loss, batch = self.run.loss, batch_rule(self.run)
        after, kicks = after_step(loss, self.run.optimizer, batch.gradient, self.rate)
        # About the mean, of which only the powers of the noise need be known: E L(m + d) = L(m) + L''(m) E d^2/2 + …
        centres = [sympy.Symbol(f"mean__{name}", real=True) for name in loss.parameters]
        moved = [c + expanded(a - m) for c, a, m in zip(centres, after, self.means, strict=True)]
        ended = value.xreplace(dict(zip(loss.theta, moved, strict=True)))
        require(terms(ended) <= MOST_TERMS, f"has more than {MOST_TERMS} terms")
        try:
            found = averaging(loss, batch.sources, kicks).expectation(ended)
        except InputError as error:
            raise NotApplicable(f"the mean of the loss after a step has no closed form: {error}") from None
        return sympy.factor_terms(found).xreplace(dict(zip(centres, self.means, strict=True)))


def named(function: str, loss: Loss) -> tuple[sympy.Symbol, ...]:
    """Symbols that print as ``next(x)`` or ``gradient(x)``."""
    import sympy

    return tuple(sympy.Symbol(f"{function}({name})", real=True) for name in loss.parameters)


def _is_polynomial(loss: Loss, i: int, name: str) -> bool:
    return bool(loss.gradient[i].is_polynomial(loss.symbols[name]))


def averaging(loss: Loss, sources: Sequence[Source], kicks: Sequence[sympy.Symbol]) -> Loss:
    """A loss whose noise is that of a batch and of the optimizer: what averages over it averages over a step.

    Raises
    ------
    NotApplicable
        For what is random in a batch, but is no noise variable: a table of outcomes, a mean over samples.
    """
    # All of the loss's: the entry of a vector that stood alone, as e[1], would be a vector of its own.
    noise = {**loss.noise, **{symbol.name: Noise("normal", (0.0, 1.0)) for symbol in kicks}}
    rows = {name for source in sources if source.noise is None for name in source.names}
    known = rows <= set(loss.columns) and all(source.samples == 1 for source in sources)
    require(known, "what is random in a batch is no noise variable")
    noise |= {source.names[0]: source.noise for source in sources if source.noise is not None}
    resting = dict.fromkeys(loss.parameters, "0")
    return Loss("", loss.parameters, loss.constants, noise, direction=resting, data=loss.data if rows else None)
