"""The charge of a symmetry under SGD: its exact change in one step, its balance law, and whether it is broken.

A continuous symmetry with generator ``v(theta)`` has ``g . v = 0`` for the gradient g of every sample. Where
``v = A theta + b`` with symmetric A, the charge ``Q = theta^T A theta/2 + b . theta`` has v for its gradient, and
the step ``theta' = theta - eta*(g + lambda*theta)`` changes it, pathwise and at any learning rate, by

    Q' = (1 - eta*lambda)^2*Q + (eta^2/2)*g^T A g                        of theta^T A theta/2,
    Q' = (1 - eta*lambda)*Q                                              of a translation, b . theta.

With a constant learning-rate matrix P that commutes with A, ``Q = theta^T A P^-1 theta/2`` changes by
``(eta^2/2)*g^T A P g``. A law that is stationary, with a mean of Q, therefore balances

    E g^T A g = (2/eta^2)*(1 - (1 - eta*lambda)^2)*E Q.

The entropic force along the orbit is ``(eta/2) E g^T J_s g`` with J_s the symmetric part of J P, J the generator's
Jacobian: without P, symmetries that preserve the norm, such as rotations, are not broken, nor are translations.

Balance for rescaling symmetry: arXiv:2308.06671; the exact forms are re-derived.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from sgdsim.formulas.expansion import expanded
from sgdsim.model.loss import Loss
from sgdsim.model.optimizers import Optimizer
from sgdsim.model.run import Run
from sgdsim.model.symmetry import Symmetry
from sgdsim.prediction import NotApplicable, require
from sgdsim.theory.methods.batch_noise import batch_share
from sgdsim.theory.methods.found_symmetries import generators
from sgdsim.theory.methods.linear_response import start_of
from sgdsim.theory.quadrature.expectation import Expected

if TYPE_CHECKING:
    import sympy


MOST_SEARCHED = 8
"""Most parameters for which generators are looked for without being asked: that takes 0.2 s."""

MOST_FOUND = 4
"""Most charges of generators so found that have rows: layers of matrices have dozens, which say much the same."""

_WITH_CHARGES = ("sgd", "gradient_descent")  # optimizers that change a charge by a known amount


@dataclass(frozen=True, eq=False)
class Balance:
    """A continuous symmetry of a loss under SGD.

    Parameters
    ----------
    loss, optimizer
        The dynamics.
    symmetry
        A symmetry of the loss.

    Raises
    ------
    NotApplicable
        For a discrete symmetry.

    Examples
    --------
    >>> from sgdsim.model.noise import Noise
    >>> noise, symmetries = {"z": Noise.parse("normal")}, (Symmetry.parse("rescale:u:1,w:-1"),)
    >>> loss = Loss("u*w*z", ("u", "w"), {}, noise, symmetries=symmetries)
    >>> balance = Balance(loss, Optimizer(), loss.symmetries[0])
    >>> balance.charge, balance.imbalance.exact, balance.is_broken
    (u**2/2 - w**2/2, (-u**2 + w**2,), True)
    """

    loss: Loss
    optimizer: Optimizer
    symmetry: Symmetry

    def __post_init__(self) -> None:
        require(self.symmetry.is_continuous, f"{self.symmetry.name} is a discrete symmetry, which SGD keeps exactly")

    @cached_property
    def generator(self) -> sympy.Matrix:
        """The generator v(theta), a column."""
        import sympy

        directions = self.loss.directions(self.symmetry)
        return sympy.Matrix([directions.get(name, sympy.Integer(0)) for name in self.loss.parameters])

    @cached_property
    def jacobian(self) -> sympy.Matrix:
        """The Jacobian J of the generator: the matrix A of a linear one."""
        import sympy

        return self.generator.jacobian(sympy.Matrix(self.loss.theta))

    @cached_property
    def charge(self) -> sympy.Expr | None:
        """The charge Q, with the preconditioner's weights; None if the symmetry has none."""
        import sympy

        matrix = self.optimizer.matrix(self.loss)
        plain = self.loss.charge(self.symmetry)
        if matrix is None or plain is None:
            return plain
        if matrix.free_symbols & set(self.loss.theta):
            return None
        theta, inverse = sympy.Matrix(self.loss.theta), matrix.inv()
        weighted = inverse * self.jacobian
        if weighted != weighted.T:
            return None
        constant = self.generator - self.jacobian * theta
        return expanded((theta.T * weighted * theta)[0] / 2 + (constant.T * inverse * theta)[0])

    @cached_property
    def change(self) -> sympy.Expr | None:
        """The exact change of Q in one step, without that by weight decay, divided by eta^2.

        It is an expression in ``gradient(u)`` of the batch; None if no such identity is known.
        """
        import sympy

        if self.charge is None or self.optimizer.name not in _WITH_CHARGES:
            return None
        matrix = self.optimizer.matrix(self.loss)
        if matrix is not None and self.decay:
            return None
        if self.decay and not (self.is_linear or self.is_translation):
            return None
        g = sympy.Matrix(self.batch_gradient)
        weighted = self.jacobian if matrix is None else self.jacobian * matrix
        return expanded((g.T * weighted * g)[0] / 2)

    @cached_property
    def batch_gradient(self) -> tuple[sympy.Symbol, ...]:
        """Symbols for the gradient of the batch."""
        import sympy

        return tuple(sympy.Symbol(f"gradient({name})", real=True) for name in self.loss.parameters)

    @property
    def decay(self) -> float:
        """The weight decay lambda."""
        return self.optimizer.decay

    def kept(self, rate: float) -> float:
        """The factor of Q in a step by weight decay alone: (1 - eta*lambda)^2, for a translation (1 - eta*lambda)."""
        return (1.0 - rate * self.decay) ** (1 if self.is_translation else 2)

    @cached_property
    def is_linear(self) -> bool:
        """True if the generator is a matrix times theta."""
        import sympy

        constant = self.generator - self.jacobian * sympy.Matrix(self.loss.theta)
        return (
            not self.jacobian.free_symbols & set(self.loss.theta)
            and constant.applyfunc(expanded).is_zero_matrix is True
        )

    @cached_property
    def is_translation(self) -> bool:
        """True if the generator is constant."""
        return self.jacobian.is_zero_matrix is True

    @cached_property
    def imbalance(self) -> Expected:
        """The mean ``E g^T J_s g`` over the gradient of a batch, which vanishes at balance."""
        import sympy

        g, share, symmetric = sympy.Matrix(self.loss.gradient), batch_share(self.optimizer, self.loss), self._symmetric
        one = (g.T * symmetric * g)[0]
        if share == 1:
            return Expected(self.loss, [one])
        slopes = Expected(self.loss, self.loss.gradient).exact
        if slopes is None:
            raise NotApplicable("the mean gradient of the batch has no closed form")
        mean = sympy.Matrix(slopes)
        flat = (mean.T * symmetric * mean)[0]
        return Expected(self.loss, [share * one + (1 - share) * flat])

    @cached_property
    def _symmetric(self) -> sympy.Matrix:
        """The symmetric part of J P."""
        matrix = self.optimizer.matrix(self.loss)
        require(
            not (matrix is not None and matrix.free_symbols & set(self.loss.theta)),
            "a preconditioner that depends on the parameters has no balance law that is known",
        )
        product = self.jacobian if matrix is None else self.jacobian * matrix
        return (product + product.T) / 2

    @cached_property
    def is_broken(self) -> bool:
        """True if an entropic force acts along the orbit at any of eight random points."""
        if self._symmetric.applyfunc(expanded).is_zero_matrix:
            return False
        random = np.random.default_rng(0)
        theta = {name: random.normal(size=8) for name in self.loss.parameters}
        values = self.imbalance.at(theta).value
        moved = [g for g, row in zip(self.loss.gradient, self._symmetric.tolist(), strict=True) if any(row)]
        scale = Expected(self.loss, [sum(g**2 for g in moved)]).at(theta).value
        return bool(np.nanmax(np.abs(values / scale)) > 1e-9)

    def drift(self, theta: Mapping[str, float], rate: float) -> float:
        """Mean change of Q in the next step from given parameters, exact for sgd.

        Raises
        ------
        NotApplicable
            If the change is not known.
        """
        from sgdsim.formulas import evaluation

        if self.change is None or self.charge is None:
            raise NotApplicable(f"the change of the charge of {self.symmetry.name} in one step is not known")
        require(
            self.optimizer.sampling != "epoch", "the batches of an epoch depend on each other, and so on the parameters"
        )
        charge = evaluation.evaluate([self.charge], {**self.loss.constants, **theta})[0]
        push = float(self.imbalance.at(theta).value[0])
        return float((self.kept(rate) - 1.0) * charge + rate**2 / 2.0 * push)


def balances(run: Run) -> list[Balance]:
    """The continuous symmetries of a run's loss.

    Examples
    --------
    >>> from sgdsim.model.schedules import Schedule
    >>> balances(Run(Loss("x**2", ("x",)), Optimizer(), Schedule("0.1"), {"x": 0.0}, 1000, 10))
    []
    """
    return [Balance(run.loss, run.optimizer, one) for one in run.loss.symmetries if one.is_continuous]


def charged_balances(run: Run) -> list[tuple[str, Balance]]:
    """The symmetries with a charge, each with the charge's name: all that are declared, then those that are found.

    Examples
    --------
    >>> from sgdsim.model.losses.diagonal_network import diagonal_network
    >>> from sgdsim.model.schedules import Schedule
    >>> loss = diagonal_network()
    >>> run = Run(loss, Optimizer(), Schedule("0.1"), dict.fromkeys(loss.parameters, 0.5), 1000, 10)
    >>> [name for name, _ in charged_balances(run)]
    ['rescale', 'rescale_2']
    """
    return [*declared_balances(run), *found_balances(run)]


def known_changes(run: Run) -> list[tuple[str, Balance]]:
    """The symmetries whose charge a step changes by a known amount, each with the charge's name.

    Raises
    ------
    NotApplicable
        If there are none.
    """
    known = [(name, one) for name, one in charged_balances(run) if one.change is not None]
    require(known, "the loss has no symmetry with a charge, or the optimizer's steps have no known change")
    return known


def declared_balances(run: Run) -> list[tuple[str, Balance]]:
    """The declared symmetries with a charge, each with the charge's name; no two share one.

    Examples
    --------
    >>> from sgdsim.model.losses.diagonal_network import diagonal_network
    >>> from sgdsim.model.schedules import Schedule
    >>> loss = diagonal_network()
    >>> run = Run(loss, Optimizer(), Schedule("0.1"), dict.fromkeys(loss.parameters, 0.5), 1000, 10)
    >>> [(name, balance.symmetry.name) for name, balance in declared_balances(run)]
    [('rescale', 'rescale'), ('rescale_2', 'rescale')]
    """
    loss = run.loss
    names = {charge: name for name, charge in loss.charges.items()}
    charged = [one for one in balances(run) if one.charge is not None]  # a matrix of rates changes the loss's charge
    return [(names[loss.charge(one.symmetry)], one) for one in charged]


def found_balances(run: Run) -> list[tuple[str, Balance]]:
    """The symmetries with a charge that a loss does not declare, each with a name of its own.

    Examples
    --------
    >>> from sgdsim.model.noise import Noise
    >>> from sgdsim.model.schedules import Schedule
    >>> loss = Loss("u*w*z", ("u", "w"), {}, {"z": Noise.parse("normal")})
    >>> run = Run(loss, Optimizer(), Schedule("0.1"), {"u": 1.0, "w": 0.0}, 1000, 10)
    >>> [(name, balance.charge) for name, balance in found_balances(run)]
    [('rescale', u**2/2 - w**2/2)]
    """
    loss, found = run.loss, list[tuple[str, Balance]]()
    if run.optimizer.name not in _WITH_CHARGES or len(loss.parameters) > MOST_SEARCHED:
        return []
    try:
        undeclared = generators(loss)
    except NotApplicable:
        return []
    times = Counter(one.name for one in loss.symmetries)
    for symmetry in undeclared:
        balance = Balance(loss, run.optimizer, symmetry)
        if balance.charge is not None and balance.change is not None:
            times[symmetry.name] += 1
            number = times[symmetry.name]
            found.append((symmetry.name if number == 1 else f"{symmetry.name}_{number}", balance))
    return found[:MOST_FOUND]


def relaxation_time(balance: Balance, run: Run) -> float:
    """Number of steps in which a charge forgets its start, ``-Q/drift`` at the start; NaN if it does not fall there.

    Examples
    --------
    >>> from sgdsim.model.noise import Noise
    >>> from sgdsim.model.schedules import Schedule
    >>> noise, symmetries = {"z": Noise.parse("normal")}, (Symmetry.parse("rescale:u:1,w:-1"),)
    >>> loss = Loss("u*w*z", ("u", "w"), {}, noise, symmetries=symmetries)
    >>> run = Run(loss, Optimizer(), Schedule("0.1"), {"u": 1.0, "w": 0.0}, 1000, 10)
    >>> round(relaxation_time(balances(run)[0], run), 9)  # 1/(eta^2 E s^2)
    100.0
    """
    from sgdsim.formulas import evaluation

    theta = dict(zip(run.loss.parameters, map(float, start_of(run)), strict=True))
    drift = balance.drift(theta, float(run.schedule.rates(run.steps)[-1]))
    assert balance.charge is not None
    charge = evaluation.evaluate([balance.charge], {**run.loss.constants, **theta})[0]
    return float(-charge / drift) if charge * drift < 0 else np.nan
