"""Means over the noise of expressions that are no polynomials in it, as closed forms in the parameters.

The slope of ``norm2(W@tanh(x) - e)/2`` has terms such as ``W_01*tanh(x_0)*tanh(x_1)``: products of a factor without
noise and of functions of one noise variable each, which are independent. The means of these functions are numbers.
"""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING

from sgdsim.base import budget
from sgdsim.base.errors import InputError
from sgdsim.formulas.expansion import expanded
from sgdsim.model.loss import Loss
from sgdsim.theory.quadrature import nested

if TYPE_CHECKING:
    import sympy

_TOLERANCE = 1e-12  # relative error of a mean: the sum of a thousand kicks is known to its ninth digit
_KNOWN = 1e-9  # largest error of a mean: a row of identities allows as much
_MOST_TERMS = 400  # most terms of which each is averaged by itself


def mean_over_noise(loss: Loss, expression: sympy.Expr) -> sympy.Expr:
    """The mean over the noise of a sample, which is exact for polynomials in it, and to 12 digits for other products.

    Parameters
    ----------
    loss
        The loss with the noise, the data and the constants.
    expression
        An expression in the symbols of the loss.

    Raises
    ------
    InputError
        If a factor of a term depends on several noise variables, or on noise and a parameter.

    Examples
    --------
    >>> from sgdsim.model.noise import Noise
    >>> noise = {"z": Noise.parse("normal"), "n": Noise.parse("normal:2")}
    >>> loss = Loss("w*tanh(z)**2 + w**2*z**2*n", ("w",), noise=noise)
    >>> mean_over_noise(loss, loss.expression).evalf(8)
    2.0*w**2 + 0.39429449*w
    """
    import sympy

    try:
        return loss.expectation(expression)
    except InputError as reason:
        parts = sympy.Add.make_args(expanded(expression))
        if len(parts) > _MOST_TERMS:
            raise
        means = [_mean_of_term(loss, part) for part in parts]
        if any(mean is None for mean in means):
            raise InputError(str(reason)) from None
        return sympy.Add(*means)


def _mean_of_term(loss: Loss, term: sympy.Expr) -> sympy.Expr | None:
    """The mean of a product; None if a factor mixes noise variables, or noise and parameters."""
    import sympy

    noise = {loss.symbols[name]: name for name in loss.random}
    known = {loss.symbols[name]: sympy.Float(value, 17) for name, value in loss.constants.items()}
    rest, functions = sympy.Integer(1), defaultdict[sympy.Symbol, sympy.Expr](lambda: sympy.Integer(1))
    for factor in sympy.Mul.make_args(term):
        used = factor.free_symbols & set(noise)
        if not used:
            rest *= factor
        elif len(used) == 1 and not (factor.free_symbols - used - set(known)):
            functions[next(iter(used))] *= factor
        else:
            return None
    if any(noise[symbol] not in loss.noise for symbol in functions):
        return None  # columns of one row of data are not independent
    return sympy.Mul(rest, *(_mean(loss, function.xreplace(known), noise[z]) for z, function in functions.items()))


def _mean(loss: Loss, function: sympy.Expr, name: str) -> sympy.Expr:
    """The mean of a function of one noise variable alone."""
    from sgdsim.formulas.symbolic import exact

    budget.check()
    try:
        return loss.expectation(function)
    except InputError:
        pass
    alone = Loss("", ("rest",), noise={"z": loss.noise[name]}, direction={"rest": "0"})
    own = function.xreplace({loss.symbols[name]: alone.symbols["z"]})
    key = own, str(loss.noise[name])  # coordinates of a vector have the same means
    if key not in _MEANS:
        (found,) = nested.expectation(alone, [own], {"rest": 0.0}, _TOLERANCE)
        if not found.error <= _KNOWN * max(1.0, abs(found.value)):
            raise InputError(f"the mean of {function} over {name} is known to {found.error:.1g} only")
        _MEANS[key] = exact(float(found.value))
    return _MEANS[key]


_MEANS: dict[tuple[sympy.Expr, str], sympy.Expr] = {}
