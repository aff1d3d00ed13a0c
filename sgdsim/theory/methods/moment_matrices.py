"""The matrices by which a step changes the moments of the state: polynomials in the learning rate."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from typing import TYPE_CHECKING, Any

import numpy as np

from sgdsim.base import budget
from sgdsim.formulas.expansion import expanded
from sgdsim.formulas.formula import Formula
from sgdsim.model.loss import Loss
from sgdsim.model.optimizers import Optimizer
from sgdsim.prediction import NotApplicable, require
from sgdsim.theory.methods.gradient_moments import GradientMoments, Polynomial, Powers, rational, times

if TYPE_CHECKING:
    import sympy


def matrices_of(
    loss: Loss,
    optimizer: Optimizer,
    powers: Sequence[Powers],
    centre: np.ndarray,
    gradients: GradientMoments,
    time: int,
) -> np.ndarray:
    """The matrix T by which a step changes the moments, as coefficients of powers of the learning rate.

    Parameters
    ----------
    loss, optimizer
        The loss and the optimizer of the run.
    powers
        Exponents of each moment: those of the constant moment 1 first, then by order.
    centre
        The point that the moments are about, one number for each entry of the state.
    gradients
        Joint moments of the gradient about the centre.
    time
        Completed steps before the step; the first step of some optimizers differs from the others.

    Returns
    -------
    numpy.ndarray
        Shape (power of the rate, moment, moment).

    Raises
    ------
    NotApplicable
        For a step that is no polynomial in the rate, and a preconditioner that depends on the parameters.

    Examples
    --------
    >>> loss, optimizer, centre = Loss("x**2/2", ("x",)), Optimizer(), np.zeros(1)
    >>> gradients = GradientMoments(loss, optimizer, centre, np.zeros(1), 1)
    >>> matrices_of(loss, optimizer, [(0,), (1,)], centre, gradients, 0)[:, 1, 1]  # x' = (1 - eta) x
    array([ 1., -1.])
    """
    forms = step_forms(loss, optimizer, centre, gradients.pulls, time)
    n, states = len(loss.parameters), len(forms)
    position = {p: i for i, p in enumerate(powers)}
    entries: dict[tuple[int, int, int], float] = {}
    products: dict[Powers, Polynomial] = {powers[0]: {(0,) * (states + 2 * n + 1): 1.0}}
    for row, alpha in enumerate(powers):
        budget.check()
        if row:
            last = max(i for i, p in enumerate(alpha) if p)
            less = tuple(p - (i == last) for i, p in enumerate(alpha))
            products[alpha] = times(products[less], forms[last])
        for key, value in products[alpha].items():
            state, gradient, kick, rate = _parts(key, states, n)
            weight = value * prod(_normal_moment(p) for p in kick)
            if not weight:
                continue
            chosen = tuple(i for i, p in enumerate(gradient) for _ in range(p))
            for theta, moment in gradients[chosen].items():
                joint = (*(s + t for s, t in zip(state, theta, strict=False)), *state[n:])
                index = (rate, row, position[joint])
                entries[index] = entries.get(index, 0.0) + weight * moment
    matrices = np.zeros((1 + max(rate for rate, *_ in entries), len(powers), len(powers)))
    for index, value in entries.items():
        matrices[index] = value
    return matrices


def _parts(key: Powers, states: int, n: int) -> tuple[Powers, Powers, Powers, int]:
    """Exponents of the state, of the batch's gradient, of the kick in half powers of the rate, and of the rate."""
    state, gradient, kick = key[:states], key[states : states + n], key[states + n : states + 2 * n]
    # A kick comes with the square root of the rate, and only even powers of it have a mean.
    return state, gradient, kick, key[-1] + sum(kick) // 2


def _normal_moment(order: int) -> float:
    return 0.0 if order % 2 else float(prod(range(1, order, 2)))


def step_forms(loss: Loss, optimizer: Optimizer, centre: np.ndarray, pulls: np.ndarray, time: int) -> list[Polynomial]:
    """Each entry of the state after a step, less its centre, as a polynomial.

    Its variables are the state, the gradient, the kicks and the learning rate, in this order. The parameters of this
    function are those of `matrices_of` and `GradientMoments`.

    Examples
    --------
    >>> step_forms(Loss("x**2/2", ("x",)), Optimizer(), np.zeros(1), np.zeros(1), 0)  # x - eta g
    [{(1, 0, 0, 0): 1.0, (0, 1, 0, 1): -1.0}]
    """
    import sympy

    n, rule = len(loss.parameters), optimizer.rule
    state = {(i, s): sympy.Symbol(f"state_{s}_{i}") for i in range(n) for s in rule.state}
    gradient = [sympy.Symbol(f"gradient_{i}") for i in range(n)]
    kicks = [sympy.Symbol(f"kick_{i}") for i in range(n)]
    rate = sympy.Symbol("learning_rate", positive=True)
    deviation = [sympy.Symbol(f"deviation_{i}") for i in range(n)]
    centres = list(map(rational, centre))
    held = dict(zip(state, centres[n:], strict=True))
    values: list[dict[str, Any]] = []
    for i in range(n):
        names: dict[str, Any] = {k: sympy.Rational(v) for k, v in optimizer.values.items()}
        # The square root of the rate that belongs to a kick is counted with the kick's powers, in `_parts`.
        names |= {"theta": deviation[i] + centres[i], "gradient": gradient[i] - rational(pulls[i])}
        names |= {"t": sympy.Integer(time), "learning_rate": rate, "xi": kicks[i] / sympy.sqrt(rate)}
        names |= {s: state[i, s] + held[i, s] for s in rule.state}
        for name, text in (*rule.scalars, *optimizer.inner()):
            names[name] = Formula.parse(text).expression(names)
        values.append(names)
    directions = _preconditioned(loss, optimizer, [names["direction"] for names in values])
    after = []
    for names, direction, c in zip(values, directions, centres[:n], strict=True):
        names["direction"] = direction
        after.append(Formula.parse(optimizer.final).expression(names) - c)
    after += [values[i][s] - held[i, s] for i in range(n) for s in rule.state]
    variables = [*deviation, *(state[i, s] for i in range(n) for s in rule.state), *gradient, *kicks, rate]
    return [_polynomial(expression, variables) for expression in after]


def _polynomial(expression: sympy.Expr, variables: Sequence[sympy.Symbol]) -> Polynomial:
    import sympy

    try:
        polynomial = sympy.Poly(expanded(expression), *variables)
    except sympy.PolynomialError:
        raise NotApplicable("a step of the optimizer is no polynomial in the learning rate") from None
    return {tuple(map(int, powers)): float(value) for powers, value in polynomial.terms() if value != 0}


def _preconditioned(loss: Loss, optimizer: Optimizer, directions: Sequence[sympy.Expr]) -> list[sympy.Expr]:
    import sympy

    matrix = optimizer.matrix(loss)
    if matrix is None:
        return list(directions)
    require(not (matrix.free_symbols & set(loss.theta)), "the preconditioner depends on the parameters")
    fixed = matrix.subs({loss.symbols[name]: sympy.Float(value, 17) for name, value in loss.constants.items()})
    return list(fixed * sympy.Matrix(directions))
