"""Exact expectations over the noise and the data of a loss."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

from sgdsim.base import budget
from sgdsim.base.errors import InputError, shortened
from sgdsim.formulas.expansion import bounded, terms
from sgdsim.model.data import Data
from sgdsim.model.written_loss import WrittenLoss

if TYPE_CHECKING:
    import sympy

_MANY_TERMS = 100  # terms from which on it pays to check first whether an expression is polynomial at all
_MOST_CASES = 64  # rows of data, or values of discrete noise, over which a sum is written out


def expectation(loss: WrittenLoss, expression: sympy.Expr) -> sympy.Expr:
    """Exact expectation over the noise of an expression that is polynomial in it.

    Parameters
    ----------
    loss
        The loss with the noise and the data that are averaged over.
    expression
        An expression in the symbols of the loss.

    Raises
    ------
    InputError
        If the expression is not polynomial in the noise, needs a moment that does not exist, or has too many terms.

    Examples
    --------
    >>> loss = WrittenLoss("z**2*x", ("x",), noise={"z": "normal:0,2"})
    >>> x, z = loss.symbols["x"], loss.symbols["z"]
    >>> expectation(loss, z**2 * x)
    4*x
    """
    import sympy

    budget.check()
    used = [name for name in loss.random if loss.symbols[name] in expression.free_symbols]
    if not used:
        return expression
    check_common(loss, used)
    symbols = [loss.symbols[name] for name in used]
    if terms(expression) > _MANY_TERMS and not expression.is_polynomial(*symbols):
        return _case_by_case(loss, expression, used)  # SymPy would expand the expression before it found that out
    try:
        polynomial = sympy.Poly(bounded(expression), *symbols)
    except sympy.PolynomialError:
        return _case_by_case(loss, expression, used)
    return sympy.Add(*(_moment(loss, dict(zip(used, powers, strict=True))) * c for powers, c in polynomial.terms()))


def check_common(loss: WrittenLoss, names: Iterable[str]) -> None:
    """Refuse a mean over data that each trajectory has of its own: the mean differs, and there is no formula of it."""
    own = [name for name in names if name in loss.own_columns]
    if own:
        raise InputError(f"each trajectory has its own rows of {', '.join(own)}, expected a mean over common ones")


def _case_by_case(loss: WrittenLoss, expression: sympy.Expr, used: Sequence[str]) -> sympy.Expr:
    """The expectation of an expression that is not polynomial: an exact sum over rows of data and discrete noise."""
    import sympy

    from sgdsim.formulas.symbolic import exact

    weighted: list[tuple[sympy.Expr, dict[str, sympy.Expr]]] = [(sympy.Integer(1), {})]
    rows = [] if not isinstance(loss.data, Data) else [loss.data.row(index) for index in range(loss.data.rows)]
    if columns := [name for name in used if name in loss.columns]:
        weighted = [(sympy.Rational(1, len(rows)), {name: exact(row[name]) for name in columns}) for row in rows]
    for name in (name for name in used if name in loss.noise):
        atoms = [(exact(value), exact(share)) for value, share in loss.noise[name].atoms()]
        pairs = itertools.product(weighted, atoms or [(None, sympy.Integer(1))])
        weighted = [(w * share, {**at, name: value} if atoms else at) for (w, at), (value, share) in pairs]
        if len(weighted) > _MOST_CASES:
            break
    if not weighted[0][1] or len(weighted) > _MOST_CASES:
        over = ", ".join(used)
        raise InputError(f"the expectation of {shortened(expression)} over {over} has no closed form here")
    return sympy.Add(
        *(w * expectation(loss, expression.xreplace({loss.symbols[n]: v for n, v in at.items()})) for w, at in weighted)
    )


def _moment(loss: WrittenLoss, powers: Mapping[str, int]) -> sympy.Expr:
    """The expectation of a product of powers of noise variables and columns."""
    import sympy

    budget.check()

    from sgdsim.formulas.symbolic import exact

    product = sympy.Integer(1)
    rows = {name: power for name, power in powers.items() if power and name in loss.columns}
    if isinstance(loss.data, Data) and rows:
        product *= exact(loss.data.moment(rows))
    for name in (name for name, power in powers.items() if power and name in loss.noise):
        moment = loss.noise[name].exact_moment(powers[name])
        if not moment.is_finite:
            raise InputError(f"the moment of order {powers[name]} of {name} ~ {loss.noise[name]} does not exist")
        product *= moment
    return product
