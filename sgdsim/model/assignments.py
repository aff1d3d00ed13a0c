"""Formulas that say something of parameters, a whole vector or coordinate by coordinate."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from sgdsim.base.errors import InputError, unknown_name
from sgdsim.formulas.arrays import Shape, described, entries, filled, shape_of
from sgdsim.formulas.formula import Formula
from sgdsim.formulas.vectors import base_name, shapes

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
        check_shape(text, shape_of(value), target_shape(name, moved), called(name))
        values = entries(value) if shape_of(value) else [value] * len(moved)
        if twice := found.keys() & set(moved):
            raise InputError(f"{where}: moves {', '.join(sorted(twice))} twice")
        found |= dict(zip(moved, values, strict=True))
    return found


def target_shape(name: str, moved: Sequence[str]) -> Shape:
    """The shape of what a name stands for, given the coordinates of `moved_by`."""
    return () if name in moved else shapes(moved)[name]


def check_shape(text: str | tuple[str, ...], shape: Shape, target: Shape, where: str) -> None:
    """Refuse formulas of another shape than what they are for; a number is for all of its coordinates.

    Raises
    ------
    InputError
        With both shapes.
    """
    if shape not in ((), target):
        shown = text if isinstance(text, str) else list(text)
        raise InputError(f"{where}: {shown!r} is {described(shape)}, expected {described(target)}")


def _value(text: str | tuple[str, ...], namespace: Mapping[str, Any], numbers: Mapping[str, Any], what: str) -> Any:
    formulas = [Formula.parse(part, where=what) for part in ((text,) if isinstance(text, str) else text)]
    for formula in formulas:
        formula.require(namespace)
    if not isinstance(text, str):
        return filled((len(formulas),), (formula.expression(namespace, numbers) for formula in formulas))
    return formulas[0].expression(namespace, numbers, vector=True)
