"""Formulas that are assigned to parameters, to a whole vector or coordinate by coordinate."""

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
    """The coordinates that a name means: of a parameter, of a whole vector, or a single coordinate.

    Raises
    ------
    InputError
        For a name that is not a parameter.

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
    """Expression for each coordinate from formulas; a single number for a vector holds for all of its coordinates.

    Parameters
    ----------
    texts
        Formulas by parameter; a tuple of formulas is a vector.
    parameters
        Names of all coordinates.
    namespace, numbers
        Values of the names in the formulas, and of constants in exponents; see `Loss.namespace` and `Loss.numbers`.
    where, called
        Name of the table, and function that gives the name of each formula, for messages.

    Raises
    ------
    InputError
        For a name that is not a parameter or occurs twice, an unknown name in a formula, and vectors that do not fit.
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
    """The shape of the parameter or vector with a name, given its coordinates from `moved_by`."""
    return () if name in moved else shapes(moved)[name]


def check_shape(text: str | tuple[str, ...], shape: Shape, target: Shape, where: str) -> None:
    """Refuse a formula whose shape differs from that of the parameter; a number fits any parameter.

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
