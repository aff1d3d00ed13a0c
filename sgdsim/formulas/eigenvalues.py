"""The largest eigenvalue of a matrix of formulas."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sgdsim.base.errors import InputError

if TYPE_CHECKING:
    import sympy

MOST_EIGENVALUES = 3  # rows of the largest matrix whose eigenvalues are had in closed form here, by the cubic formula


def largest_eigenvalue(hessian: sympy.Matrix) -> sympy.Expr:
    """The largest eigenvalue of a symmetric matrix in closed form, for up to 3 rows.

    Parameters
    ----------
    hessian
        The matrix, of formulas of real symbols.

    Raises
    ------
    InputError
        For more rows.

    Examples
    --------
    >>> from sympy import Matrix
    >>> largest_eigenvalue(Matrix([[2, 1], [1, 2]]))
    3
    """
    from sympy import cos, pi, sqrt

    from sgdsim.formulas.symbolic import SYMBOLIC

    n = hessian.rows
    if n == 1:
        return hessian[0]
    mean = hessian.trace() / n
    rest = hessian - mean * hessian.eye(n)
    if n == 2:
        return mean + sqrt(rest[0, 0] ** 2 + rest[0, 1] ** 2)
    if n > MOST_EIGENVALUES:
        raise InputError(f"hessian_max: has no closed form for {n} parameters, only for up to {MOST_EIGENVALUES}")
    # The roots of the cubic are 2 p cos(phi + 2 pi k/3) with cos 3 phi = det/(2 p^3). This form has cubes of the
    # entries: sixth powers would leave the range of floats. With c = cos 3 phi the angle comes from
    # tan(3 phi/2) = sqrt(1 - c)/sqrt(1 + c): rounding may make one of the two roots zero, never both.
    p = sqrt((rest * rest).trace() / 6)
    unit = SYMBOLIC["where"](0, p, p, 1)
    (a, b, c), (d, e), f = rest[0, :], rest[1, 1:], rest[2, 2]
    # SymPy's own determinant is multiplied out, and loses digits by cancellation.
    determinant = a * d * f + 2 * b * c * e - a * e**2 - d * c**2 - f * b**2
    cosine = determinant / (2 * unit**3)
    sine, along = (sqrt(SYMBOLIC["relu"](1 + sign * cosine)) for sign in (-1, 1))
    angle = SYMBOLIC["where"](0, along, 2 * SYMBOLIC["atan"](sine / along), pi)
    return mean + 2 * p * cos(angle / 3)
