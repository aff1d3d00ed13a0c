"""One step of an optimizer in symbols: the parameters after it, from those before and the gradient of a batch."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from sgdsim.base.errors import InputError
from sgdsim.formulas.formula import Formula
from sgdsim.model.loss import Loss
from sgdsim.model.optimizers import Optimizer
from sgdsim.prediction import NotApplicable, require

if TYPE_CHECKING:
    import sympy


def after_step(
    loss: Loss, optimizer: Optimizer, gradient: Sequence[sympy.Expr], rate: Any, *, is_first: bool = False
) -> tuple[tuple[sympy.Expr, ...], list[sympy.Symbol]]:
    """The parameters after a step with a gradient, and the normal kicks of the optimizer, if it has any.

    Parameters
    ----------
    loss, optimizer
        The dynamics.
    gradient
        The gradient of the batch, one entry for each parameter.
    rate
        The learning rate, a number or a symbol.
    is_first
        True for the first step of a run, before which an optimizer has nothing to remember.

    Raises
    ------
    NotApplicable
        For a later step of an optimizer with a memory.

    Examples
    --------
    >>> from sympy import Symbol
    >>> loss = Loss("x**2/2", ("x",))
    >>> after_step(loss, Optimizer(), loss.gradient, Symbol("eta"))
    ((-eta*x + x,), [])
    >>> after_step(loss, Optimizer("momentum"), loss.gradient, Symbol("eta"), is_first=True)[0]
    (-eta*x + x,)
    """
    try:
        return _after_step(loss, optimizer, gradient, rate, is_first)
    except InputError as error:  # the polynomials of Muon, for one, grow too long
        raise NotApplicable(f"a step of {optimizer.name} is no formula of moderate length: {error}") from None


def _after_step(
    loss: Loss, optimizer: Optimizer, gradient: Sequence[sympy.Expr], rate: Any, is_first: bool
) -> tuple[tuple[sympy.Expr, ...], list[sympy.Symbol]]:
    import sympy

    from sgdsim.formulas.symbolic import exact

    state = optimizer.rule.state
    require(is_first or not state, f"{optimizer.name} remembers {', '.join(state)} from step to step")
    require(not optimizer.rule.is_of_matrices, f"{optimizer.name} steps whole matrices")
    values: dict[str, Any] = {name: exact(value) for name, value in optimizer.values.items()}
    values["learning_rate"] = rate
    if is_first:
        values |= {**dict.fromkeys(state, sympy.Integer(0)), "t": sympy.Integer(0)}
        for name, text in optimizer.rule.scalars:
            values[name] = Formula.parse(text).expression(values)
    kicks = [sympy.Symbol(f"xi__{symbol.name}", real=True) for symbol in loss.theta]
    several = []
    for theta, slope, kick in zip(loss.theta, gradient, kicks, strict=True):
        inner = {**values, "theta": theta, "gradient": slope, "xi": kick}
        for name, text in optimizer.inner():
            inner[name] = Formula.parse(text).expression(inner)
        several.append(inner)
    matrix = optimizer.matrix(loss)
    if matrix is not None:
        directions = matrix * sympy.Matrix([inner["direction"] for inner in several])
        several = [{**inner, "direction": one} for inner, one in zip(several, directions, strict=True)]
    after = tuple(Formula.parse(optimizer.final).expression(inner) for inner in several)
    used = set[sympy.Symbol]().union(*(value.free_symbols for value in after))
    return after, [kick for kick in kicks if kick in used]
