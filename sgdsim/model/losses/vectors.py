"""Vectors of constants and of random variables, from which several families of losses are built."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from sgdsim.base import take
from sgdsim.base.errors import InputError
from sgdsim.formulas.vectors import coordinates
from sgdsim.model.correlated_noise import correlated_normal
from sgdsim.model.noise import Noise

_MOST_COORDINATES = 10_000  # most coordinates of a family whose dimension is an argument


def constant_vector(
    name: str, values: Sequence[float], argument: str, length: int | None = None
) -> tuple[dict[str, float], tuple[str, ...]]:
    """Constants ``m_0``, ``m_1``, … that a sweep may set one by one, and the definition of the vector of them.

    Parameters
    ----------
    name
        Name of the vector.
    values
        Its values.
    argument
        Argument from which they come, for messages.
    length
        Number of values that is required; None for any number from one.

    Raises
    ------
    InputError
        For an empty list or a wrong length.

    Examples
    --------
    >>> constant_vector("m", [1.0, 0.5], "teacher")
    ({'m_0': 1.0, 'm_1': 0.5}, ('m_0', 'm_1'))
    """
    values = take.each(take.number)(values, f"loss.{argument}")
    if not values:
        raise InputError(f"loss.{argument}: an empty list, expected at least one number")
    if length is not None and len(values) != length:
        raise InputError(f"loss.{argument}: {len(values)} numbers, expected {length}, one a coordinate")
    constants = {f"{name}_{i}": float(value) for i, value in enumerate(values)}
    return constants, tuple(constants)


def square(values: Sequence[float | Sequence[float]], argument: str) -> list[list[float]]:
    """A matrix from its rows, or a diagonal matrix from a list of numbers.

    Raises
    ------
    InputError
        For an empty list, and a matrix that is not square.

    Examples
    --------
    >>> square([1.0, 2.0], "hessian")
    [[1.0, 0.0], [0.0, 2.0]]
    """
    given = take.each(_row)(values, f"loss.{argument}")
    n = len(given)
    if not n:
        raise InputError(f"loss.{argument}: an empty list, expected a matrix or its diagonal")
    rows: list[list[float]] = []
    for i, row in enumerate(given):
        if isinstance(row, tuple):
            rows.append([float(x) for x in row])
        else:
            rows.append([float(row) if i == j else 0.0 for j in range(n)])
    if any(len(row) != n for row in rows):
        lengths = ", ".join(str(len(row)) for row in rows)
        raise InputError(f"loss.{argument}: {n} rows of {lengths} numbers, expected a square matrix")
    return rows


def random_vector(
    name: str,
    length: int,
    distribution: str | Sequence[str],
    covariance: Sequence[float] | Sequence[Sequence[float]] | None = None,
    argument: str = "inputs",
) -> tuple[dict[str, Noise], dict[str, tuple[str, ...]]]:
    """Independent variables ``x[0]``, ``x[1]``, …, or jointly normal ones.

    Parameters
    ----------
    name
        Name of the vector.
    length
        Number of its coordinates.
    distribution
        Distribution of each coordinate; a single text for all of them.
    covariance
        Covariance, or its diagonal, of a normal vector of mean zero; in place of the distributions.
    argument
        Argument from which the distribution comes, for messages.

    Returns
    -------
    noise, definitions
        The noise variables, and the definition of the vector if it is made from others.

    Raises
    ------
    InputError
        For a wrong number of distributions, a matrix that is not a covariance, and both together.

    Examples
    --------
    >>> random_vector("x", 2, "rademacher")
    ({'x[0]': Noise(family='rademacher', arguments=()), 'x[1]': Noise(family='rademacher', arguments=())}, {})
    >>> random_vector("x", 2, "normal", [[4.0, 2.0], [2.0, 1.0]])[1]
    {'x': ('2.0*x_0_x_1[0]', '1.0*x_0_x_1[0]')}
    """
    if covariance is not None:
        if distribution != "normal":
            raise InputError(f"loss.{argument}: {distribution!r}, expected 'normal' where a covariance is given")
        names = [f"{name}_{i}" for i in range(length)]
        noise, texts = correlated_normal(names, square(covariance, "covariance"), "loss.covariance")
        return noise, {name: tuple(texts.values())}
    each = (
        [distribution] * length
        if isinstance(distribution, str)
        else take.each(take.text)(distribution, f"loss.{argument}")
    )
    if len(each) != length:
        raise InputError(f"loss.{argument}: {len(each)} distributions, expected {length}, one a coordinate")
    pairs = zip(coordinates(name, length), each, strict=True)
    return {coordinate: Noise.parse(text, f"loss.{argument}") for coordinate, text in pairs}, {}


def _row(value: Any, where: str) -> float | tuple[float, ...]:
    """A row of a matrix, or an entry of its diagonal."""
    several = isinstance(value, Sequence | np.ndarray) and not isinstance(value, str)
    return take.each(take.number)(value, where) if several else take.number(value, where)


def constants_from(defaults: Mapping[str, float], given: Mapping[str, float] | None) -> dict[str, float]:
    """Constants by name: the defaults, replaced and completed by the given ones.

    Raises
    ------
    InputError
        For a value that is not a number.

    Examples
    --------
    >>> constants_from({"a": 1.0, "b": 1.0}, {"b": 2.0})
    {'a': 1.0, 'b': 2.0}
    """
    return {**defaults, **(take.optional(take.by_name(take.number))(given, "loss.constants") or {})}


def count_of(value: int, least: int, argument: str) -> int:
    """The whole number that a value is, if it is not below the least.

    Raises
    ------
    InputError
        If it is below, or not a whole number.

    Examples
    --------
    >>> count_of(2, 1, "neurons")
    2
    """
    found = take.whole(value, f"loss.{argument}")
    if found < least:
        raise InputError(f"loss.{argument}: {found}, expected at least {least}")
    if found > _MOST_COORDINATES:
        raise InputError(f"loss.{argument}: {found}, expected at most {_MOST_COORDINATES}")
    return found
