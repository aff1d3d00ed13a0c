"""The martingale increments of control variates: changes of a quadratic form of the parameters by the noise of a step.

A step takes theta to ``theta' = m(theta) + d``, where the deviation d has mean zero and covariance C(theta), given
theta. For ``V = l.theta + theta.P theta/2`` with any l and P,

    V(theta') - E[V(theta')|theta] = (l + P m).d + (d.P d - tr P C)/2,

whose mean is exactly zero, at any learning rate and from any state: the increment of a martingale. The weights l and P
come from theory, which chooses them so that the sum of the increments follows an observable; see
`sgdsim.simulation.control_weights`. Here is what follows from the loss and the optimizer alone.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING

from sgdsim.base.errors import InputError
from sgdsim.formulas.expansion import expanded
from sgdsim.model.loss import Loss
from sgdsim.model.optimizers import Optimizer

if TYPE_CHECKING:
    import sympy

MOST_PARAMETERS = 6
"""Most parameters with weights P: there are as many of them as half the square of the parameters."""


@dataclass(frozen=True)
class Step:
    """A step of plain SGD, given the state before it.

    Parameters
    ----------
    mean
        Conditional mean of each parameter after the step.
    deviation
        Deviation of each parameter after the step from its mean.
    covariance
        Covariance of the deviations for each pair of parameters, in the order of `pairs`; empty if P is left out.
    """

    mean: tuple[sympy.Expr, ...]
    deviation: tuple[sympy.Expr, ...]
    covariance: tuple[sympy.Expr, ...]


def step_of(
    loss: Loss,
    optimizer: Optimizer,
    learning_rate: sympy.Expr,
    gradient: Sequence[sympy.Expr],
    hyperparameters: Mapping[str, sympy.Expr],
) -> Step:
    """The step in the symbols of a loss.

    Parameters
    ----------
    loss, optimizer
        The dynamics.
    learning_rate, gradient, hyperparameters
        Symbols for the learning rate, for the gradient of the batch, and for the optimizer's own numbers.

    Raises
    ------
    InputError
        For an optimizer with a memory, steps that depend on each other, and a mean gradient without closed form.

    Examples
    --------
    >>> from sympy import Symbol
    >>> from sgdsim.model.noise import Noise
    >>> loss = Loss("x**2/2 + z*x", ("x",), noise={"z": Noise.parse("normal")})
    >>> step_of(loss, Optimizer(), Symbol("eta"), [Symbol("g")], Optimizer().values)
    Step(mean=(-eta*x + x,), deviation=(-eta*(g - x),), covariance=(eta**2,))
    """
    import sympy

    check(loss, optimizer)
    n, matrix = len(loss.theta), optimizer.matrix(loss)
    matrix = sympy.eye(n) if matrix is None else matrix
    theta, slope = sympy.Matrix(loss.theta), sympy.Matrix(loss.population_gradient)
    decay, decoupled = hyperparameters["weight_decay"], hyperparameters["decoupled_weight_decay"]
    mean = theta - learning_rate * (matrix * (slope + decay * theta) + decoupled * theta)
    deviation = -learning_rate * (matrix * (sympy.Matrix(gradient) - slope))
    covariance = gradient_covariance(loss, optimizer)
    if covariance is None:
        return Step(tuple(mean), tuple(deviation), ())
    spread = learning_rate**2 * (matrix * covariance * matrix.T)
    return Step(tuple(mean), tuple(deviation), tuple(spread[i, j] for i, j in pairs(n)))


def check(loss: Loss, optimizer: Optimizer) -> None:
    """Refuse losses and optimizers for which the conditional mean of a step is not known.

    Raises
    ------
    InputError
        For such a loss or optimizer; the message says why.

    Examples
    --------
    >>> check(Loss("x**2/2", ("x",)), Optimizer("momentum"))
    Traceback (most recent call last):
    ...
    sgdsim.base.errors.InputError: a control needs plain sgd, not momentum
    """
    if optimizer.name != "sgd":
        raise InputError(f"a control needs plain sgd, not {optimizer.name}")
    if optimizer.substeps > 1:
        raise InputError(f"a control needs whole steps, not {optimizer.substeps} substeps")
    if optimizer.sampling == "epoch":
        raise InputError("a control needs steps that are independent, expected another sampling than epoch")
    if loss.recalled:
        raise InputError(f"a control needs steps of the parameters alone, not of {', '.join(loss.recalled)}")
    if loss.mixed:
        raise InputError(f"a control needs steps that are alike in all trajectories, not of {', '.join(loss.mixed)}")
    if not loss.random:
        raise InputError("a control needs noise, of which this loss has none")


@lru_cache(maxsize=16)
def gradient_covariance(loss: Loss, optimizer: Optimizer) -> sympy.ImmutableMatrix | None:
    """The covariance of the gradient of a batch; None for many parameters, or if it has no closed form.

    Examples
    --------
    >>> from sgdsim.model.data import Data
    >>> loss = Loss("(x - z)**2/2", ("x",), data=Data({"z": (0.0, 1.0, 2.0)}))
    >>> gradient_covariance(loss, Optimizer(batch_size=2, sampling="batch"))[0]
    1/6
    """
    import sympy

    n, batch = len(loss.theta), sympy.Integer(optimizer.batch_size)
    share = 1 / batch
    if n > MOST_PARAMETERS:
        return None
    if optimizer.sampling == "batch" and loss.data is not None and batch > 1:
        if loss.noise:
            return None  # batches without replacement leave different shares of the rows' noise and of other noise
        share *= (loss.data.rows - batch) / sympy.Integer(max(loss.data.rows - 1, 1))
    covariance = sympy.zeros(n, n)
    try:
        slope = loss.population_gradient
        for i, j in pairs(n):
            second = loss.expectation(expanded(loss.gradient[i] * loss.gradient[j]))
            covariance[i, j] = covariance[j, i] = share * sympy.factor_terms(expanded(second - slope[i] * slope[j]))
    except InputError:
        return None
    return sympy.ImmutableMatrix(covariance)


def increment(step: Step, weights: Sequence[sympy.Expr]) -> sympy.Expr:
    """The increment of the martingale in a step.

    Parameters
    ----------
    step
        The step, as `step_of` gives it.
    weights
        The weights; `columns` tells their number.

    Examples
    --------
    >>> from sympy import symbols
    >>> x, d, c = symbols("x d c")
    >>> increment(Step((x,), (d,), (c,)), symbols("l p mean"))
    d*l + p*(-c + d**2 + 2*d*x)/2
    """
    n = len(step.mean)
    linear, d = weights[:n], step.deviation
    share = sum(linear[i] * d[i] for i in range(n))
    if step.covariance:
        for (i, j), weight, spread in zip(pairs(n), weights[n:], step.covariance, strict=False):
            mixed = step.mean[i] * d[j] + step.mean[j] * d[i] + d[i] * d[j] - spread
            share += weight * mixed / (2 if i == j else 1)
    return share


def start(theta: Sequence[sympy.Expr], weights: Sequence[sympy.Expr]) -> sympy.Expr:
    """The first value of the martingale: ``V(theta)`` at the start less its mean, which is the last of the weights.

    Examples
    --------
    >>> from sympy import symbols
    >>> start(symbols("u w"), symbols("a:3"))
    a0*u + a1*w - a2
    """
    n = len(theta)
    value = sum(weights[i] * theta[i] for i in range(n))
    for (i, j), weight in zip(pairs(n), weights[n:-1], strict=False):
        value += weight * theta[i] * theta[j] / (2 if i == j else 1)
    return value - weights[-1]


def columns(loss: Loss, optimizer: Optimizer) -> int:
    """Number of weights: l, the upper triangle of P in the order of `pairs` if it is used, and the mean at the start.

    Examples
    --------
    >>> columns(Loss("x**2/2 + y**2", ("x", "y")), Optimizer())
    6
    """
    n = len(loss.parameters)
    return n + 1 + (0 if gradient_covariance(loss, optimizer) is None else len(pairs(n)))


def pairs(n: int) -> list[tuple[int, int]]:
    """The pairs of indices of an upper triangle, row by row.

    Examples
    --------
    >>> pairs(2)
    [(0, 0), (0, 1), (1, 1)]
    """
    return list(itertools.combinations_with_replacement(range(n), 2))
