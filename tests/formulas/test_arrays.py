"""Vectors and matrices in formulas: every operation against NumPy, in all algebras, and shapes that do not fit."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import sympy
from hypothesis import given, settings
from hypothesis import strategies as st

from sgdsim.formulas.arrays import Shape, Shapes, array, declared, entries, filled, shape_of
from sgdsim.formulas.formula import Formula
from sgdsim.formulas.limits import MAX_ENTRIES
from sgdsim.formulas.names import FormulaError
from sgdsim.formulas.vectors import coordinates, gather

RNG = np.random.default_rng(3)
VALUES = {"a": RNG.normal(), "v": RNG.normal(size=3), "w": RNG.normal(size=2)}
VALUES |= {"A": RNG.normal(size=(2, 3)), "B": RNG.normal(size=(3, 2)), "S": RNG.normal(size=(3, 3))}
SHAPES = {name: np.shape(value) for name, value in VALUES.items()}


def _cosine(one: Any, other: Any) -> Any:
    return (one * other).sum() / np.linalg.norm(one) / np.linalg.norm(other)


# A formula, and the same by NumPy.
BY_NUMPY = {
    "A@v": lambda a, v, w, A, B, S: A @ v,
    "w@A": lambda a, v, w, A, B, S: w @ A,
    "v@v": lambda a, v, w, A, B, S: v @ v,
    "A@B": lambda a, v, w, A, B, S: A @ B,
    "a*w@A@B@w/2": lambda a, v, w, A, B, S: a * w @ A @ B @ w / 2,
    "A@S@B@A@v": lambda a, v, w, A, B, S: A @ S @ B @ A @ v,
    "w@A@S": lambda a, v, w, A, B, S: w @ A @ S,
    "v - a*B@w": lambda a, v, w, A, B, S: v - a * B @ w,
    "transpose(A) - B/a": lambda a, v, w, A, B, S: A.T - B / a,
    "(A@S).T@w": lambda a, v, w, A, B, S: (A @ S).T @ w,
    "outer(v, w)": lambda a, v, w, A, B, S: np.outer(v, w),
    "dot(v, B@w)": lambda a, v, w, A, B, S: v @ B @ w,
    "dot(A, B.T)": lambda a, v, w, A, B, S: (A * B.T).sum(),
    "norm2(A)": lambda a, v, w, A, B, S: (A**2).sum(),
    "sum(A) + sum(v)": lambda a, v, w, A, B, S: A.sum() + v.sum(),
    "trace(S)": lambda a, v, w, A, B, S: np.trace(S),
    "diag(S)": lambda a, v, w, A, B, S: np.diag(S),
    "diag(v)": lambda a, v, w, A, B, S: np.diag(v),
    "S - a*eye(3)": lambda a, v, w, A, B, S: S - a * np.eye(3),
    "A[1,2] + A[0][1] + v[2]": lambda a, v, w, A, B, S: A[1, 2] + A[0, 1] + v[2],
    "A[1]*v": lambda a, v, w, A, B, S: A[1] * v,
    "(A@B)[0, 1]": lambda a, v, w, A, B, S: (A @ B)[0, 1],
    "-tanh(A)**2 + exp(a)": lambda a, v, w, A, B, S: -(np.tanh(A) ** 2) + np.exp(a),
    "max(A, B.T, 0)": lambda a, v, w, A, B, S: np.maximum(np.maximum(A, B.T), 0),
    "where(A < a, A, 2)": lambda a, v, w, A, B, S: np.where(a > A, A, 2),
    "relu(S)@v": lambda a, v, w, A, B, S: np.maximum(S, 0) @ v,
    "alignment(A, B.T)": lambda a, v, w, A, B, S: (A * B.T).sum() / np.linalg.norm(A) / np.linalg.norm(B),
    "alignment(v, B@w)": lambda a, v, w, A, B, S: v @ (B @ w) / np.linalg.norm(v) / np.linalg.norm(B @ w),
    # By kernels of features at inputs whose second moments these are.
    "cka(A, S)": lambda a, v, w, A, B, S: _cosine(A.T @ A, S.T @ S),
    "cka(A, A@S, S.T@S)": lambda a, v, w, A, B, S: _cosine(S @ A.T @ A @ S.T, S @ S.T @ A.T @ A @ S @ S.T),
    "A**2 + 2**A": lambda a, v, w, A, B, S: A**2 + 2.0**A,
}


def nested(values: dict[str, Any]) -> dict[str, Any]:
    """Lists and rows, as formulas take them."""
    return {name: np.asarray(value).tolist() for name, value in values.items()}


def symbols(shapes: dict[str, Shape]) -> dict[str, Any]:
    """A symbol for each coordinate."""
    keys = [key for name, shape in shapes.items() for key in coordinates(name, shape)]
    return gather({key: sympy.Symbol(key, real=True) for key in keys})


@pytest.mark.parametrize("text", list(BY_NUMPY))
def test_each_operation_is_what_numpy_makes_of_it(text):
    """As numbers, as expressions entry by entry, and as a shape."""
    formula, expected = Formula.parse(text), np.asarray(BY_NUMPY[text](**VALUES))
    assert formula.shape(SHAPES) == expected.shape
    found = formula.evaluate(nested(VALUES), vector=True)
    assert shape_of(found) == expected.shape
    np.testing.assert_allclose(np.array(entries(found), dtype=float), expected.ravel(), rtol=1e-13)

    namespace = symbols(SHAPES)
    written = formula.expression(namespace, vector=True)
    assert shape_of(written) == expected.shape
    pairs = zip(namespace.values(), VALUES.values(), strict=True)
    point = {s: x for one, value in pairs for s, x in zip(entries(one), np.ravel(value), strict=True)}
    numbers = [float(entry.subs(point)) for entry in entries(written)]
    np.testing.assert_allclose(numbers, expected.ravel(), rtol=1e-12)


def test_one_number_at_many_points_is_no_vector():
    x = np.linspace(0.0, 1.0, 5)
    found = Formula.parse("norm2(W@v)").evaluate({"W": [[1.0, x], [0.0, 2.0]], "v": [1.0, x]})
    np.testing.assert_allclose(found, (1 + x**2) ** 2 + 4 * x**2)


def test_names_of_new_functions_are_free():
    """A state may be called trace; as a function it is one all the same."""
    formula = Formula.parse("trace(S)*trace + outer")
    assert formula.names == {"S", "trace", "outer"}
    assert formula.evaluate({"S": [[1.0, 5.0], [5.0, 2.0]], "trace": 2.0, "outer": 0.5}) == 6.5
    with pytest.raises(FormulaError, match="trace is a function"):
        Formula.parse("2*trace").expression({})


def test_products_with_a_vector_take_few_operations():
    """From the right, 2*64**2 products and sums and not 64**3."""
    shapes = {"A": (64, 64), "B": (64, 64), "x": (64,)}
    work = Shapes()
    assert Formula.parse("A@B@x").in_algebra(shapes, work, vector=True) == (64,)
    assert work.work == 2 * 64**2


REFUSED = [
    ("A@w", 1, "shapes [2,3] and [2] do not fit"),
    ("2*A@A", 3, "shapes [2,3] and [2,3] do not fit"),
    ("v + A@S@B", 2, "shapes [3] and [2,2] do not fit"),
    ("A@S@w", 3, "shapes [3,3] and [2] do not fit"),
    ("A*B", 1, "shapes [2,3] and [3,2] do not fit"),
    ("A + v", 2, "shapes [2,3] and [3] do not fit"),
    ("max(v, w)", 0, "shapes [3] and [2] do not fit"),
    ("dot(v, w)", 0, "shapes [3] and [2] do not fit"),
    ("a@v", 1, "not vectors or matrices, but a number and a vector of 3"),
    ("1 + norm2(a)", 10, "not a vector or a matrix, but a number"),
    ("trace(A)", 0, "not a square matrix, but a matrix of 2 by 3"),
    ("2*v.T", 3, "not a matrix, but a vector of 3"),
    ("diag(A)", 0, "not a vector or a square matrix, but a matrix of 2 by 3"),
    ("outer(A, v)", 0, "not two vectors, but a matrix of 2 by 3 and a vector of 3"),
    ("A[2,0]", 0, "index 2, 0 of a matrix of 2 by 3"),
    ("A[0,3]", 0, "index 0, 3 of a matrix of 2 by 3"),
    ("v[0,0]", 0, "index 0, 0 of a vector of 3"),
    ("a[0]", 0, "an index of what is not a vector"),
    ("A[a]", 0, "an index that is not understood"),
    ("eye(a)", 4, "a size that is not understood"),
    ("eye(2.0)", 4, "a size that is not understood"),
    ("eye(1000)", 4, "a matrix of 1000 by 1000, 1,000,000 numbers"),
    ("v.real", 1, "an attribute is not part of a formula"),
]


@pytest.mark.parametrize(("text", "column", "problem"), REFUSED)
def test_shapes_that_do_not_fit_are_named_where_they_stand(text, column, problem):
    for act in (
        lambda: Formula.parse(text).shape(SHAPES),
        lambda: Formula.parse(text).evaluate(nested(VALUES), vector=True),
        lambda: Formula.parse(text).expression(symbols(SHAPES), vector=True),
    ):
        with pytest.raises(FormulaError) as error:
            act()
        assert problem in str(error.value)
        assert error.value.column == column


def test_intermediate_arrays_are_bounded():
    with pytest.raises(
        FormulaError, match=f"a matrix of 200 by 200, 40,000 numbers\n.*\n.*\nexpected at most {MAX_ENTRIES:,}"
    ):
        Formula.parse("sum(outer(u, u))").shape({"u": (200,)})


@pytest.mark.parametrize("rows", [[[1, 2], [3]], [[1], 2], [], [[]]])
def test_ragged_lists_are_no_arrays(rows):
    with pytest.raises(ValueError, match=r"rows of different lengths|an empty list"):
        array(rows)


def texts(depth: int = 3) -> st.SearchStrategy[str]:
    """Formulas of any shape, most of which do not fit."""
    leaves = st.sampled_from([*SHAPES, "2", "eye(2)", "A[0]", "S[1,2]"])
    if depth == 0:
        return leaves
    below = texts(depth - 1)
    pairs = st.tuples(below, st.sampled_from(["+", "-", "*", "@"]), below).map(lambda three: "({}{}{})".format(*three))
    calls = st.tuples(st.sampled_from(["tanh", "transpose", "sum", "norm2", "trace", "diag"]), below)
    two = st.tuples(st.sampled_from(["dot", "outer", "max"]), below, below)
    return st.one_of(
        leaves,
        pairs,
        pairs,
        calls.map(lambda one: "{}({})".format(*one)),
        two.map(lambda one: "{}({},{})".format(*one)),
    )


def by_numpy(text: str) -> np.ndarray | None:
    """The value that Python and NumPy make of a formula; None where shapes do not fit as strictly as in formulas."""

    class Strict(np.ndarray):
        def __array_ufunc__(self, ufunc: Any, method: str, *inputs: Any, **options: Any) -> Any:
            plain = [np.asarray(one) for one in inputs]
            shapes = {one.shape for one in plain if ufunc is not np.matmul and one.ndim}
            if method == "__call__" and (len(shapes) > 1 or options):
                raise ValueError
            return np.asarray(getattr(ufunc, method)(*plain, **options)).view(Strict)

    def of(dimensions: set[int], square: bool = False) -> Any:
        def check(value: Any) -> np.ndarray:
            found = np.asarray(value)
            if found.ndim not in dimensions or (square and found.ndim == 2 and len(set(found.shape)) > 1):
                raise ValueError
            return found

        return check

    any_, one, two = of({1, 2}), of({1}), of({2})
    functions = {
        "tanh": np.tanh,
        "transpose": lambda x: two(x).T.view(Strict),
        "sum": lambda x: any_(x).sum(),
        "norm2": lambda x: (any_(x) ** 2).sum(),
        "trace": lambda x: np.trace(of({2}, True)(x)),
        "diag": lambda x: np.diag(of({1, 2}, True)(x)).view(Strict),
        "dot": lambda x, y: np.multiply(any_(x).view(Strict), any_(y).view(Strict)).sum(),
        "outer": lambda x, y: np.outer(one(x), one(y)).view(Strict),
        "max": np.maximum,
        "eye": lambda n: np.eye(n).view(Strict),
    }
    values = {name: np.asarray(value).view(Strict) for name, value in VALUES.items()}
    try:
        return np.asarray(eval(text, {"__builtins__": {}}, functions | values))
    except (ValueError, TypeError, IndexError):
        return None


@settings(derandomize=True, deadline=None, database=None, max_examples=200)
@given(texts())
def test_a_formula_fits_exactly_where_numpy_says_so(text):
    """The shape algebra, numbers and NumPy agree on what fits, on its shape, and on its value."""
    expected = by_numpy(text)
    if expected is None:
        with pytest.raises(FormulaError):
            Formula.parse(text).shape(SHAPES)
        with pytest.raises(FormulaError):
            Formula.parse(text).evaluate(nested(VALUES), vector=True)
        return
    formula = Formula.parse(text)
    found = formula.evaluate(nested(VALUES), vector=True)
    assert formula.shape(SHAPES) == shape_of(found) == expected.shape
    np.testing.assert_allclose(np.array(entries(found), dtype=float), expected.ravel(), rtol=1e-10, atol=1e-10)


@settings(derandomize=True, deadline=None, database=None)
@given(st.lists(st.integers(1, 4), max_size=2).map(tuple), st.lists(st.integers(1, 4), max_size=2).map(tuple))
def test_a_misfit_names_both_shapes(one, other):
    """Whatever the shapes of a sum are, it fits where they are equal or one is a number; else both are named."""
    shapes = {"p": one, "q": other}
    formula = Formula.parse("1 + (p + q)")
    if one == other or () in (one, other):
        assert formula.shape(shapes) == (one or other)
        return
    with pytest.raises(FormulaError) as error:
        formula.shape(shapes)
    assert f"shapes {declared(one)} and {declared(other)} do not fit" in str(error.value)
    assert error.value.column == len("1 + (p ")


def test_filled_holds_arrays_of_floats_as_single_entries():
    x = np.arange(3.0)
    assert shape_of(filled((2, 1), [x, 2.0])) == (2, 1)
    assert entries(filled((2, 1), [x, 2.0]))[0] is x
