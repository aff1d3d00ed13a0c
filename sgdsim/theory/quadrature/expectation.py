"""Expectations over the noise of one sample: exact in symbols if that ends soon, else by quadrature.

Polynomials in the noise need its moments only, data and discrete noise a sum: `Loss.expectation` has both, and the
result is an expression again. Anything else, and whatever would grow beyond `MOST_OPERATIONS`, stays an integrand,
whose expectation `sgdsim.theory.quadrature.nested` computes where numbers for the parameters are known; it is marked
*numerical* then, and comes with an error.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from sgdsim.base.errors import InputError
from sgdsim.formulas import evaluation
from sgdsim.formulas.expansion import terms
from sgdsim.model.loss import Loss
from sgdsim.theory.quadrature import nested

if TYPE_CHECKING:
    import sympy

MOST_OPERATIONS = 20_000
"""Operations of the expressions whose expectation is taken in symbols: more would take SymPy over 2 s."""

_OPERATIONS_A_TERM = 6.0  # operations a term counts as: SymPy takes up to 1 ms for one with a coefficient of any kind


@dataclass(frozen=True, eq=False)
class Expected:
    """Expectations of several expressions in a loss's symbols.

    Parameters
    ----------
    loss
        The loss whose noise is averaged over.
    expressions
        The integrands.

    Examples
    --------
    >>> from sgdsim.model.noise import Noise
    >>> loss = Loss("a*(x - z)**2/2", ("x",), {"a": 2.0}, {"z": Noise.parse("normal:1,1")})
    >>> Expected(loss, [loss.gradient[0] ** 2]).exact
    (a**2*x**2 - 2*a**2*x + 2*a**2,)
    >>> loss = Loss("log(1 + (x - z)**2)", ("x",), {}, {"z": Noise.parse("normal")})
    >>> squared = Expected(loss, [loss.gradient[0] ** 2])
    >>> squared.exact is None, squared.at({"x": 0.0}).value.round(6)
    (True, array([0.622718]))
    """

    loss: Loss
    expressions: Sequence[sympy.Expr]

    @cached_property
    def exact(self) -> tuple[sympy.Expr, ...] | None:
        """The expectations as expressions of parameters and constants; None where they are numerical."""
        if sum(_work(expression, self.loss) for expression in self.expressions) > MOST_OPERATIONS:
            return None
        try:
            return tuple(self.loss.expectation(expression) for expression in self.expressions)
        except InputError:
            return None

    @property
    def is_numerical(self) -> bool:
        """True if the values come from quadrature."""
        return self.exact is None

    def at(self, theta: Mapping[str, Any]) -> nested.Numerical:
        """The values at numbers or arrays for the parameters, with the error of what is numerical.

        Returns
        -------
        Numerical
            Arrays with the expressions along the first axis.

        Raises
        ------
        InputError
            If an expectation does not exist, or takes too many evaluations.
        """
        if self.exact is not None:
            values = evaluation.evaluate(self.exact, {**self.loss.constants, **theta})
            stacked = _stacked(values, theta)
            return nested.Numerical(stacked, np.zeros_like(stacked))
        # An expectation that depends on no parameter is the same at any point.
        anywhere = theta or dict.fromkeys(self.loss.parameters, 0.0)
        found = nested.expectation(self.loss, self.expressions, anywhere)
        return nested.Numerical(
            _stacked([one.value for one in found], theta), _stacked([one.error for one in found], theta)
        )


def _stacked(values: Sequence[Any], theta: Mapping[str, Any]) -> np.ndarray:
    shape = np.broadcast_shapes(*(np.shape(value) for value in theta.values()))
    return np.stack([np.broadcast_to(np.asarray(value, dtype=np.float64), shape) for value in values])


def _work(expression: sympy.Expr, loss: Loss) -> float:
    """A guess of the operations that an expectation in symbols takes: about the number of the expanded terms."""
    import sympy

    used = [loss.symbols[name] for name in loss.random if loss.symbols[name] in expression.free_symbols]
    operations = float(sympy.count_ops(expression)) + 1.0
    if not used:
        return operations
    by_degree = operations * (1.0 + sum(_degree(expression, symbol) for symbol in used))
    return max(by_degree, _OPERATIONS_A_TERM * terms(expression))


def _degree(expression: sympy.Expr, symbol: sympy.Symbol) -> int:
    """An upper bound of the degree in a symbol of an expression that need not be expanded."""
    if expression == symbol:
        return 1
    if symbol not in expression.free_symbols:
        return 0
    if expression.is_Pow and expression.exp.is_Integer and expression.exp > 0:
        return int(expression.exp) * _degree(expression.base, symbol)
    degrees = [_degree(argument, symbol) for argument in expression.args]
    return sum(degrees) if expression.is_Mul else max(degrees)
