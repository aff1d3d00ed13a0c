"""The quadratic bowl with any Hessian and any covariance of an additive gradient noise."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from sgdsim.base.errors import InputError
from sgdsim.base.take import as_number
from sgdsim.formulas.vectors import coordinates
from sgdsim.model.loss import Loss
from sgdsim.model.losses.vectors import constant_vector, constants_from, random_vector, square


def quadratic(
    hessian: Sequence[float] | Sequence[Sequence[float]] = (1.0,),
    noise: str | Sequence[str] = "normal",
    covariance: Sequence[float] | Sequence[Sequence[float]] | None = None,
    linear: Sequence[float] | None = None,
    constants: Mapping[str, float] | None = None,
) -> Loss:
    """Quadratic bowl ``x.H.x/2 + b.x`` in any dimension, additive gradient noise ``sigma*xi``.

    The stationary covariance S solves ``S H + H S - eta H S H = eta C`` exactly at any learning rate eta below
    2/h for every curvature h; C = sigma^2 Cov(xi) need not commute with H.

    Parameters
    ----------
    hessian
        A symmetric matrix, or a list of curvatures.
    noise
        Distribution of each ``xi[i]``, in units of ``sigma``; a text alone for all.
    covariance
        Covariance of normal ``xi``, or its diagonal; None for independent coordinates, each as `noise` says.
    linear
        The vector b; None for zero.
    constants
        Values of ``sigma`` (default 1) and of any ``h_0``, ``h_1``, … (``h_0_0``, ``h_0_1``, … of a matrix, its upper
        triangle) and ``b_0``, ….

    Returns
    -------
    Loss
        A loss in ``x[0]``, ``x[1]``, ….

    Raises
    ------
    InputError
        For a matrix that is not square and symmetric, a covariance that is none, and lengths that differ.

    Notes
    -----
    Exact discrete covariances: arXiv:2012.03636, arXiv:2102.05375; re-derived. No symmetry: additive noise breaks all.

    Examples
    --------
    >>> quadratic([[1.0, 0.3], [0.3, 2.0]]).population
    h_0_0*x[0]**2/2 + h_0_1*x[0]*x[1] + h_1_1*x[1]**2/2
    """
    matrix = square(hessian, "hessian")
    n = len(matrix)
    if any(matrix[i][j] != matrix[j][i] for i in range(n) for j in range(i)):
        raise InputError("loss.hessian: the matrix is not symmetric")
    diagonal = as_number(hessian[0]) is not None
    entries = {
        (i, j): f"h_{i}" if diagonal else f"h_{i}_{j}" for i in range(n) for j in range(i, n) if i == j or matrix[i][j]
    }
    rows = [
        [f"{entries[min(i, j), max(i, j)]}*x[{j}]" for j in range(n) if (min(i, j), max(i, j)) in entries]
        for i in range(n)
    ]
    values = {"sigma": 1.0} | {name: matrix[i][j] for (i, j), name in entries.items()}
    noise_variables, definitions = random_vector("xi", n, noise, covariance, "noise")
    definitions = {**definitions, "hx": tuple(" + ".join(row) for row in rows)}
    slope = ""
    if linear is not None:
        slopes, definitions["b"] = constant_vector("b", linear, "linear", n)
        values |= slopes
        slope = " + dot(b, x)"
    return Loss(
        formula=f"dot(x, hx)/2{slope} + sigma*dot(xi, x)",
        parameters=coordinates("x", n),
        constants=constants_from(values, constants),
        noise=noise_variables,
        definitions=definitions,
        name="quadratic",
        description="quadratic bowl, additive gradient noise",
        references=("arXiv:2012.03636", "arXiv:2102.05375"),
    )
