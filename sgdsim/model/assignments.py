"""Formulas that say something of parameters, a whole vector or coordinate by coordinate."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from sgdsim.base.errors import InputError, unknown_name
from sgdsim.formulas.formula import Formula
from sgdsim.formulas.vectors import base_name

if TYPE_CHECKING:
    import sympy


def moved_by(name: str, parameters: Sequence[str], where: str) -> list[str]:
    """The coordinates that a name stands for: a parameter, a whole vector, or one of its coordinates.

    Raises
    ------
    InputError
        For a name that is no parameter.

    Examples
    --------
    >>> moved_by("w", ["u", "w[0]", "w[1]"], "here"), moved_by("w[1]", ["u", "w[0]", "w[1]"], "here")
    (['w[0]', 'w[1]'], ['w[1]'])
    """
    moved = [key for key in parameters if name in (key, base_name(key))]
    if not moved:
        raise InputError(f"{where}: {unknown_name('parameter', name, parameters)}")
    return moved


def by_coordinate(
    texts: Mapping[str, str | tuple[str, ...]],
    parameters: Sequence[str],
    namespace: Mapping[str, Any],
    numbers: Mapping[str, Any],
    where: str,
    called: Callable[[str], str],
) -> dict[str, sympy.Expr]:
    """What formulas say of each coordinate; one number that is said of a vector holds for all of its coordinates.

    Parameters
    ----------
    texts
        By parameter; a tuple of formulas is a vector.
    parameters
        All coordinates.
    namespace, numbers
        What the formulas may name, and constants for exponents, as of `Loss`.
    where, called
        Where they stand, and what each is called, for messages.

    Raises
    ------
    InputError
        For a name that is no parameter, one that is named twice, an unknown name, and vectors that do not fit.
    """
    found: dict[str, sympy.Expr] = {}
    for name, text in texts.items():
        moved = moved_by(name, parameters, where)
        value = _value(text, namespace, numbers, called(name))
        values = value if isinstance(value, tuple) else (value,) * len(moved)
        if len(values) != len(moved):
            shown = text if isinstance(text, str) else list(text)
            raise InputError(f"{called(name)}: {shown!r} is a vector of {len(values)}, expected {len(moved)}")
        if twice := found.keys() & set(moved):
            raise InputError(f"{where}: moves {', '.join(sorted(twice))} twice")
        found |= dict(zip(moved, values, strict=True))
    return found


def _value(
    text: str | tuple[str, ...], namespace: Mapping[str, Any], numbers: Mapping[str, Any], what: str
) -> sympy.Expr | tuple[sympy.Expr, ...]:
    formulas = [Formula.parse(part, where=what) for part in ((text,) if isinstance(text, str) else text)]
    for formula in formulas:
        formula.require(namespace)
    if not isinstance(text, str):
        return tuple(formula.expression(namespace, numbers) for formula in formulas)
    return formulas[0].expression(namespace, numbers, vector=True)
