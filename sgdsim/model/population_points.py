"""The population loss as the mean of a formula over few points, for large losses without a closed form.

A polynomial of degree two in n independent noise variables has the same mean over the noise as over 2n points. At each
point one variable, with mean m_i and variance v_i, is at ``m_i ± sqrt(n*v_i)``, and the others are at their means
(Stroud 1957). Rows of data are such points already.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from math import inf

import numpy as np

from sgdsim.base.errors import InputError
from sgdsim.formulas.expressions import formula_text
from sgdsim.formulas.formula import Formula
from sgdsim.formulas.graph import Node, below
from sgdsim.formulas.vectors import base_name
from sgdsim.model.data import Data
from sgdsim.model.expectation import check_common
from sgdsim.model.loss import Loss
from sgdsim.model.loss_graph import LossGraph

SEARCHED = frozenset({"hessian_max", "next__hessian_max"})
"""Names in formulas of the largest eigenvalue of the Hessian, at a state and at the state after a step."""


@dataclass(frozen=True, eq=False)
class PopulationPoints:
    """A formula and points at which its mean is the population loss.

    Attributes
    ----------
    formulas
        Terms of the formula.
    names
        Noise variables and columns of data in the formula; empty if it contains neither.
    values
        Their values at the points, shape (point, name).
    """

    formulas: tuple[str, ...]
    names: tuple[str, ...]
    values: np.ndarray


def population_points(loss: Loss) -> PopulationPoints:
    """The formula and the points that give the population loss of a loss.

    Raises
    ------
    InputError
        If there is no loss, or if its mean is known neither by points nor in closed form.

    Examples
    --------
    >>> points = population_points(Loss("(w*x - 1)**2/2", ("w",), noise={"x": "normal:0,3"}))
    >>> points.names, points.values.tolist()
    (('x',), [[3.0], [-3.0]])
    """
    if not loss.formula:
        raise InputError("there is no loss: all parameters move by rules of their own")
    used = loss.reach(Formula.parse(loss.formula).names)
    noise = {name: one for name, one in loss.noise.items() if base_name(name) in used}
    if noise and degree(LossGraph(loss).loss, {base_name(name) for name in noise}) > 2:
        return _closed(loss)
    for name, one in noise.items():
        if not np.isfinite(one.moment(2)):
            raise InputError(f"the moment of order 2 of {name} ~ {one} does not exist")
    means = np.array([one.moment(1) for one in noise.values()])
    away = np.diag([np.sqrt(len(noise) * one.cumulant(2)) for one in noise.values()])
    around = np.concatenate([means + away, means - away]) if noise else np.zeros((1, 0))
    check_common(loss, (name for name in loss.own_columns if base_name(name) in used))
    columns = (
        {n: v for n, v in loss.data.columns.items() if base_name(n) in used} if isinstance(loss.data, Data) else {}
    )
    rows = np.array(list(columns.values())).T if columns else np.zeros((1, 0))
    values = np.hstack([np.repeat(rows, len(around), axis=0), np.tile(around, (len(rows), 1))])
    return PopulationPoints((loss.formula,), (*columns, *noise), values)


def _closed(loss: Loss) -> PopulationPoints:
    """The population loss in closed form, as a formula without noise, from SymPy."""
    from sympy import Add

    try:
        loss.require_small()
    except InputError as error:
        raise InputError(
            f"noise enters the loss beyond the second degree, and for a closed form {error}, or samples as rows of data"
        ) from None
    terms = tuple(formula_text(term, "population loss") for term in Add.make_args(loss.population))
    return PopulationPoints(terms, (), np.zeros((1, 0)))


def degree(value: Node, names: Collection[str]) -> float:
    """The degree of a node as a polynomial in some names; infinite if it is not a polynomial.

    Examples
    --------
    >>> loss = Loss("(w*x - e)**2 + exp(w)*x", ("w",), noise={"x": "normal", "e": "normal"})
    >>> degree(LossGraph(loss).loss, {"x", "e"}), degree(LossGraph(loss).loss, {"w"})
    (2, inf)
    """
    known: dict[int, float] = {}
    for node in below([value]):
        parts = [known[argument.place] for argument in node.arguments]
        if node.operation == "name":
            known[node.place] = int(node.detail in names)
        elif not any(parts):
            known[node.place] = 0
        else:
            known[node.place] = _DEGREES.get(node.operation, _none)(node, parts)
    return known[value.place]


def _none(node: Node, parts: list[float]) -> float:
    return inf


def _most(node: Node, parts: list[float]) -> float:
    return max(parts)


def _power(node: Node, parts: list[float]) -> float:
    exponent = node.arguments[1]
    whole = exponent.operation == "number" and exponent.detail >= 0 and float(exponent.detail).is_integer()
    return parts[0] * int(exponent.detail) if whole else inf


_DEGREES: Mapping[str, Callable[[Node, list[float]], float]] = {
    **dict.fromkeys(("+", "-", "negative", "view", "place", "stack", "total"), _most),
    **dict.fromkeys(("*", "product"), lambda _, parts: sum(parts)),
    "/": lambda _, parts: inf if parts[1] else parts[0],
    "**": _power,
}
