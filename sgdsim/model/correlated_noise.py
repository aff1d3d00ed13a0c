"""Jointly normal noise of a given covariance, written with independent variables."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from sgdsim.base.errors import InputError
from sgdsim.formulas.vectors import coordinates
from sgdsim.model.noise import Noise


def correlated_normal(
    names: Sequence[str], covariance: Sequence[Sequence[float]], where: str = "noise"
) -> tuple[dict[str, Noise], dict[str, str]]:
    """Jointly normal variables of mean zero, as combinations of independent ones.

    Parameters
    ----------
    names
        Names of the variables in formulas.
    covariance
        Covariance matrix, shape (variable, variable), symmetric and positive semi-definite.
    where
        Name of the matrix, for messages.

    Returns
    -------
    noise, definitions
        Independent standard normals ``x_y[0]``, ``x_y[1]``, … for variables ``x`` and ``y``, and the definitions of
        ``x`` and ``y`` from these.

    Raises
    ------
    InputError
        For a matrix that is not square, symmetric and positive semi-definite.

    Examples
    --------
    >>> noise, definitions = correlated_normal(["x", "y"], [[1.0, 0.6], [0.6, 1.0]])
    >>> definitions
    {'x': '1.0*x_y[0]', 'y': '0.6*x_y[0] + 0.8*x_y[1]'}
    """
    factor = _covariance_factor(covariance, len(names), where)
    base = "_".join(names)
    noise = dict.fromkeys(coordinates(base, len(names)), Noise("normal", (0.0, 1.0)))
    rows = [[f"{x!r}*{base}[{j}]" for j, x in enumerate(row) if x] or [f"0*{base}[0]"] for row in factor.tolist()]
    return noise, {name: " + ".join(row) for name, row in zip(names, rows, strict=True)}


def correlated_vector(
    name: str, length: int, covariance: Sequence[Sequence[float]], where: str = "noise"
) -> tuple[dict[str, Noise], dict[str, str], dict[str, list[list[float]]]]:
    """A jointly normal vector of mean zero, as a matrix times a vector of independent ones.

    Parameters
    ----------
    name, length
        Name of the vector and its number of coordinates.
    covariance, where
        Covariance matrix and its name for messages; see `correlated_normal`.

    Returns
    -------
    noise, definitions, constants
        The independent variables, the definition of the vector, and the matrix in it.

    Raises
    ------
    InputError
        For a matrix that is not square, symmetric and positive semi-definite.

    Examples
    --------
    >>> _, definitions, constants = correlated_vector("x", 2, [[1.0, 0.6], [0.6, 1.0]])
    >>> definitions, constants
    ({'x': 'x_factor@x_normal'}, {'x_factor': [[1.0, 0.0], [0.6, 0.8]]})
    """
    factor = _covariance_factor(covariance, length, where)
    noise = dict.fromkeys(coordinates(f"{name}_normal", length), Noise("normal", (0.0, 1.0)))
    return noise, {name: f"{name}_factor@{name}_normal"}, {f"{name}_factor": factor.tolist()}


def _covariance_factor(covariance: Sequence[Sequence[float]], size: int, where: str) -> np.ndarray:
    """Lower triangular matrix L for which ``L L^T`` is the covariance."""
    if len({len(row) for row in covariance}) > 1:
        raise InputError(f"{where}: a covariance of rows of {', '.join(str(len(row)) for row in covariance)} numbers")
    matrix = np.array(covariance, dtype=np.float64)
    if matrix.shape != (size, size):
        raise InputError(f"{where}: a covariance of shape {matrix.shape}, expected {size} rows and columns")
    if not np.isfinite(matrix).all() or not np.allclose(matrix, matrix.T, rtol=1e-12, atol=0):
        raise InputError(f"{where}: the covariance is not finite and symmetric")
    factor = _factor(matrix)
    if factor is None:
        smallest = float(np.linalg.eigvalsh(matrix)[0])
        raise InputError(f"{where}: the covariance has the eigenvalue {smallest:.3g}, expected none below zero")
    return factor


def _factor(matrix: np.ndarray) -> np.ndarray | None:
    """Lower triangular L for which ``L L^T`` is the matrix, which may be singular; None if there is no such L."""
    n = len(matrix)
    factor = np.zeros((n, n))
    scale = np.sqrt(np.abs(np.diag(matrix)))
    for j in range(n):
        rest = matrix[:, j] - factor[:, :j] @ factor[j, :j]
        tolerance = 1e-12 * scale[j] * scale
        if rest[j] > tolerance[j]:
            factor[j, j] = np.sqrt(rest[j])
            factor[j + 1 :, j] = rest[j + 1 :] / factor[j, j]
        elif rest[j] < -tolerance[j] or (np.abs(rest[j:]) > 1e3 * tolerance[j:]).any():
            return None
    return factor
