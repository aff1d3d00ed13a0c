"""The largest eigenvalue in closed form, against NumPy's."""

from __future__ import annotations

import numpy as np
import pytest
import sympy

from sgdsim.formulas import evaluation
from sgdsim.formulas.eigenvalues import largest_eigenvalue


@pytest.mark.parametrize("scale", [1e-60, 1.0, 1e60])  # whose sixth powers are no floats
@pytest.mark.parametrize("values", [(1.0, 1.0, -1.0), (1.0, -1.0, -1.0), (1.0, 1.0, 1.0), (2.0, 0.5, -0.3)])
def test_three_rows_of_any_size_and_with_equal_eigenvalues(values: tuple[float, ...], scale: float) -> None:
    """Of two largest ones that are equal it was 1.67 for 1, where rounding took its root to 0."""
    names = sympy.symbols("a b c d e f", real=True)
    a, b, c, d, e, f = names
    formula = largest_eigenvalue(sympy.Matrix([[a, b, c], [b, d, e], [c, e, f]]))
    axes = np.linalg.qr(np.random.default_rng(0).standard_normal((200, 3, 3)))[0]
    matrices = scale * np.einsum("nij,j,nkj->nik", axes, values, axes)
    upper = dict(
        zip((name.name for name in names), (matrices[:, i, j] for i in range(3) for j in range(i, 3)), strict=True)
    )
    (found,) = evaluation.evaluate([formula], upper)
    np.testing.assert_allclose(found / scale, max(values), atol=1e-7)  # a root of rounding, of two that are equal
