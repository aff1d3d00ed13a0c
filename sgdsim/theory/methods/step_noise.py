"""The noise of one step of a run: its conditional mean and covariance, given the state before the step.

Given theta, the gradient of a batch has a mean and a covariance,

    g = gbar(theta) + D,    E[D|theta] = 0,    E[D D^T|theta] = C(theta),

which are formulas where the noise has its moments: polynomials, sums over rows of data and over discrete values. A
memoryless step that is linear in the gradient makes of it ``theta' = m(theta) + d`` with d of covariance V. So for any
theta before the step, wherever it came from,

    E[theta'_i - m_i|theta] = 0,
    E[(theta'_i - m_i)(theta'_j - m_j) - V_ij|theta] = 0,
    E[theta'_i^2 - m_i^2 - V_ii|theta] = 0.

For a step that is not linear in the gradient, or that has a memory, the same identities hold for the gradient itself.
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
from sgdsim.theory.methods.noise_means import mean_over_noise
from sgdsim.theory.methods.step_formula import after_step
from sgdsim.theory.quadrature.nested import Source

if TYPE_CHECKING:
    import sympy

MOST_TERMS = 400
"""Most terms of an expression whose expectation is taken: SymPy takes up to 1 ms a term."""


@dataclass(frozen=True, eq=False)
class StepNoise:
    """The noise of one step of a run, in formulas.

    Parameters
    ----------
    run
        The run.

    Raises
    ------
    NotApplicable
        If there is no noise, if batches depend on each other, and for a mean gradient without closed form.

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
        assert self.slopes  # refuses a mean gradient without closed form

    @property
    def is_memoryless(self) -> bool:
        """True if the step is linear in the gradient and has no memory besides the parameters."""
        return self.run.optimizer.rule.linear and not self.run.optimizer.rule.state

    @property
    def is_of_gradient(self) -> bool:
        """True if `kicks` are those of the gradient: for steps with a memory, and for optimizers with own noise."""
        return not self.is_memoryless or self.run.optimizer.rule.is_random

    @cached_property
    def rate(self) -> sympy.Symbol:
        """The symbol of the learning rate."""
        import sympy

        return sympy.Symbol("learning_rate", real=True)

    @cached_property
    def next(self) -> tuple[sympy.Symbol, ...]:
        """Symbols of the parameters after the step."""
        return named("next", self.run.loss)

    @cached_property
    def slopes(self) -> tuple[sympy.Expr, ...]:
        """The mean gradient."""
        try:
            return tuple(mean_over_noise(self.run.loss, slope) for slope in self.run.loss.gradient)
        except InputError as error:
            raise NotApplicable(f"the mean gradient has no closed form: {error}") from None

    @cached_property
    def means(self) -> tuple[sympy.Expr, ...]:
        """The conditional mean of each parameter after a memoryless step."""
        after, kicks = after_step(self.run.loss, self.run.optimizer, self.slopes, self.rate)
        return tuple(value.xreplace(dict.fromkeys(kicks, 0)) for value in after)

    @cached_property
    def kicks(self) -> tuple[sympy.Expr, ...]:
        """Deviations of the parameters after the step, or of the gradient, from their conditional means."""
        if not self.is_of_gradient:
            return tuple(after - mean for after, mean in zip(self.next, self.means, strict=True))
        gradient = named("gradient", self.run.loss)
        return tuple(found - slope for found, slope in zip(gradient, self.slopes, strict=True))

    @cached_property
    def response(self) -> tuple[sympy.Matrix, sympy.Matrix]:
        """The matrices by which the gradient and the optimizer's own noise act in a memoryless step."""
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
            If it has no closed form, or does not exist.
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
            second = mean_over_noise(loss, expanded(loss.gradient[i] * loss.gradient[j]))
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
        """True if the square of a kick has a variance, without which its mean has no standard error."""
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
            An expression in the symbols of the parameters.

        Raises
        ------
        NotApplicable
            If it has no closed form, or very many terms.
        """
        import sympy

        require(self.is_memoryless, "the step remembers what was before, or is not linear in the gradient")
        loss, batch = self.run.loss, batch_rule(self.run)
        after, kicks = after_step(loss, self.run.optimizer, batch.gradient, self.rate)
        # Expanded about symbols for the means m, so that only powers of the noise d are averaged:
        # E L(m + d) = L(m) + L''(m) E d^2/2 + …
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
    """A loss whose noise is that of a batch and of the optimizer: its expectation is the average over a step.

    Raises
    ------
    NotApplicable
        For a batch whose random sources are no noise variables: a table of outcomes, or a mean over samples.
    """
    # The new loss has all noise of the old one: an entry of a vector alone, as e[1], would become a vector of its own.
    noise = {**loss.noise, **{symbol.name: Noise("normal", (0.0, 1.0)) for symbol in kicks}}
    rows = {name for source in sources if source.noise is None for name in source.names}
    known = rows <= set(loss.columns) and all(source.samples == 1 for source in sources)
    require(known, "what is random in a batch is no noise variable")
    noise |= {source.names[0]: source.noise for source in sources if source.noise is not None}
    resting = dict.fromkeys(loss.parameters, "0")
    return Loss("", loss.parameters, loss.constants, noise, direction=resting, data=loss.data if rows else None)
