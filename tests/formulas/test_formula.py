"""The parser of formulas: what it admits, what it refuses and where, and that both algebras agree."""

from __future__ import annotations

import contextlib
import pickle
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import mpmath
import numpy as np
import pytest
import sympy
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from sgdsim.formulas import symbolic
from sgdsim.formulas.formula import Formula, definition
from sgdsim.formulas.names import FUNCTIONS, FormulaError, check_name, parameter_name
from sgdsim.formulas.walker import NUMERIC

X, Y = sympy.symbols("x y", real=True)
W = [sympy.Symbol(f"w[{i}]", real=True) for i in range(3)]
SYMBOLS: dict[str, Any] = {"x": X, "y": Y, "w": W}
EXACT = {X: sympy.Rational(7, 10), Y: sympy.Rational(-13, 10), W[0]: sympy.Rational(1, 8), W[1]: -2, W[2]: 3}
NUMBERS: dict[str, Any] = {"x": 0.7, "y": -1.3, "w": [0.125, -2.0, 3.0]}
NODES = (
    *(sympy.Symbol, sympy.Rational, type(sympy.pi), type(sympy.E), sympy.Add, sympy.Mul, sympy.Pow),
    *(sympy.exp, sympy.log, sympy.sin, sympy.cos, sympy.erf),
    *(symbolic.tan, symbolic.atan),
    *(
        symbolic.sinh,
        symbolic.cosh,
        symbolic.tanh,
        symbolic.tanh_slope,
        symbolic.sigmoid,
        symbolic.softplus,
        symbolic.relu,
    ),
    *(symbolic.step, symbolic.sign, symbolic.abs, symbolic.min, symbolic.max, symbolic.where),
)
ONE_ARGUMENT = [name for name, usage in FUNCTIONS.items() if usage == f"{name}(x)"]


def expression(text: str, **values: Any) -> sympy.Expr:
    return Formula.parse(text).expression({**SYMBOLS, **values})


def nodes_are_listed(expr: sympy.Expr) -> bool:
    return all(isinstance(node, NODES) for node in sympy.preorder_traversal(expr))


# Reading


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("0.1*x", X / 10),
        ("+x - -y", X + Y),
        ("-x**2", -(X**2)),
        ("2**x**y", 2 ** (X**Y)),
        ("x/2/y", X / (2 * Y)),
        ("pi*x", sympy.pi * X),
        ("1e-3 + 1_000 + .5", sympy.Rational(1000501, 1000)),
        ("w[1]*w[0]", W[0] * W[1]),
        ("sum(w*x)", X * W[0] + X * W[1] + X * W[2]),
        ("sum(x*w - 1)", X * W[0] + X * W[1] + X * W[2] - 3),
        ("dot(w, -w)", -sum(c**2 for c in W)),
        ("norm2(w)", sum(c**2 for c in W)),
        ("sum(exp(w))", sum(sympy.exp(c) for c in W)),
        ("min(x, y, 1)", symbolic.min(symbolic.min(X, Y), 1)),
        ("where(x < y, 1, 2)", symbolic.where(X, Y, 1, 2)),
        ("where(x > y, 1, 2)", symbolic.where(Y, X, 1, 2)),
        ("where(x <= y, 1, 2)", symbolic.where(Y, X, 2, 1)),
        ("where(x >= y, 1, 2)", symbolic.where(X, Y, 2, 1)),
        ("max(3, 2) + min(3, 2) + abs(-3) + sign(-2) + step(0) + relu(-1)", sympy.Integer(7)),
        ("sqrt(x**2)", symbolic.abs(X)),
        ("tan(-x)", symbolic.tan(-X)),
        (" (x\n + y)\t", X + Y),
    ],
)
def test_expression_is_the_one_that_the_text_means(text: str, expected: sympy.Expr) -> None:
    assert sympy.expand(expression(text) - expected) == 0


def test_names_are_those_of_values_not_of_functions() -> None:
    assert Formula.parse("exp(a) + sum(w) + w[0] + pi*µ").names == {"a", "w", "μ"}


def test_vector_result_is_only_given_where_it_is_wanted() -> None:
    with pytest.raises(FormulaError, match="a vector of 3 numbers"):
        expression("2*w")
    assert list(Formula.parse("2*w").expression(SYMBOLS, vector=True)) == [2 * c for c in W]
    assert Formula.parse("2*x").expression(SYMBOLS, vector=True) == 2 * X


def test_evaluate_takes_arrays() -> None:
    t = np.arange(5.0)
    formula = Formula.parse("where(t < N/2, rate, rate/t) + 0*sum(w)")
    values = formula.evaluate({"t": t, "N": 4, "rate": 0.5, "w": [t, 1.0]})
    np.testing.assert_array_equal(values, np.where(t < 2, 0.5, 0.5 / np.maximum(t, 1)))
    assert isinstance(Formula.parse("where(x < 1, 2, 3)").evaluate({"x": 0}), float)


def test_both_algebras_have_the_same_operations() -> None:
    whole = {
        "dot",
        "norm2",
        "transpose",
        "outer",
        "trace",
        "diag",
        "eye",
        "alignment",
        "cka",
    }  # of arrays, made of the others
    assert set(NUMERIC) == set(symbolic.SYMBOLIC) >= set(FUNCTIONS) - whole


def test_long_sums_are_read_and_pickled() -> None:
    formula = Formula.parse("+".join(["x"] * 1000))
    assert formula.expression(SYMBOLS) == 1000 * X
    assert pickle.loads(pickle.dumps(formula)) == formula


def test_reading_and_evaluating_do_not_import_sympy() -> None:
    code = (
        "import sys; from sgdsim.formulas.formula import Formula; Formula.parse('softplus(x)').evaluate({'x': 1.0}); "
        "sys.exit('sympy' in sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


# Refusing

REFUSED = [
    ("__import__('os')", 0, "unknown function '__import__'"),
    ("2*x.real", 3, "an attribute"),
    ("x.__class__(3)", 0, "a call of what is not a function"),
    ("1 + (lambda: x)", 5, "a lambda"),
    ("1 + (y := 3)", 5, "an assignment"),
    ("y := 3", 2, "invalid syntax"),
    ("x = 3", 2, "invalid syntax"),
    ("x + 'text'", 4, "'text' is not a number"),
    ("x + True", 4, "True is not a number"),
    ("None", 0, "None is not a number"),
    ("...", 0, "Ellipsis is not a number"),
    ("2 + 1j", 4, "1j is not a number"),
    ("[x for x in y]", 0, "a comprehension"),
    ("f'{x}'", 0, "a string"),
    ("x if y else 2", 0, "a condition outside where"),
    ("x < 2", 2, "a condition outside where"),
    ("x and y", 0, "a condition outside where"),
    ("not x", 0, "a condition outside where"),
    ("x if", 0, "expected 'else'|invalid syntax"),
    ("x" * 3000, 2000, "3000 characters"),
    ("(" * 300 + "x" + ")" * 300, 200, "too many nested parentheses"),
    ("exp(" * 60 + "x" + ")" * 60, 204, "nested too deeply"),
    ("-" * 1999 + "x", 51, "nested too deeply"),
    ("2**10**9", 5, "an exponent beyond 64"),
    ("9**9**9", 4, "an exponent beyond 64"),
    ("((9**16)**16)**16", 13, "the value is inf"),
    ("x**-65", 3, "an exponent beyond 64"),
    ("exp(x=3)", 4, "a named argument"),
    ("exp(*x)", 4, "a starred argument"),
    ("exp(**x)", 4, "a named argument"),
    ("x + 2@3", 5, "not vectors or matrices, but a number and a number"),
    ("(π) // x", 4, "unknown operator"),
    ("x^2", 1, "unknown operator"),
    ("x + 1/0", 5, "division by zero"),
    ("x/(2 - 2)", 1, "division by zero"),
    ("x + log(-1)", 4, "the value is nan"),
    ("1 + 1e400", 4, "the value is inf"),
    ("1 + 1e-400", 4, "below the smallest float"),
    ("9" * 400, 0, "too large"),
    ("sqrt(-2)", 0, "the value is nan"),
    ("w[i]", 0, "an index"),
    ("w[-1]", 0, "an index"),
    ("w[True]", 0, "an index"),
    ("w[0:2]", 0, "an index"),
    ("(2 + 1)[0]", 0, "an index"),
    ("2*exp", 2, "exp is a function"),
    ("2*expp(x)", 2, "unknown function 'expp': did you mean 'exp'"),
    ("min(x)", 0, "min with 1 argument"),
    ("sin(x, y)", 0, "sin with 2 arguments"),
    ("where(x, 1, 2)", 6, "a condition that is not understood"),
    ("where(x < y < 1, 1, 2)", 8, "a condition that is not understood"),
    ("where(x == y, 1, 2)", 8, "a condition that is not understood"),
    ("sum(3)", 4, "not a vector"),
    ("pi[0]", 0, "not a vector"),
    ("x # y", 2, "'#' has no meaning"),
    ("x\0y", 0, "null bytes"),
    ("\ud800", 0, "not a formula"),
    ("2x", 0, "invalid decimal literal"),
    ("", 0, "there is no formula"),
    ("  \n ", 0, "there is no formula"),
]


@pytest.mark.parametrize(("text", "column", "problem"), REFUSED)
def test_refusal_points_at_the_column(text: str, column: int, problem: str) -> None:
    with pytest.raises(FormulaError, match=problem) as refusal:
        Formula.parse(text, where="loss formula")
    assert refusal.value.column == column
    first, shown, caret, *_ = str(refusal.value).splitlines()
    assert first.startswith("loss formula: ")
    assert caret.strip() == "^"
    place = len(caret) - 1
    assert place <= len(shown)
    if column < len(text.strip()) and text[column].isprintable():
        assert shown[place] == text[column]


@pytest.mark.parametrize(
    ("text", "column", "problem"),
    [
        ("x + thta", 4, "unknown name 'thta': did you mean 'theta'"),
        ("w[3]", 0, "index 3 of a vector of 3"),
        ("2 + x[0]", 4, "not a vector"),
        ("w + v", 2, r"shapes \[3\] and \[2\]"),
        ("sum(x)", 4, "not a vector"),
        ("dot(w, x)", 7, "not a vector"),
        ("1/(x - x)", 1, "division by zero"),
        ("x + log(-theta)", 4, "not a real number|the value is nan"),
        ("(-theta)**0.5", 8, "a negative number to a power|the value is nan"),
        ("exp(1000*theta)", 0, "beyond the largest float|the value is inf"),
    ],
)
def test_values_that_do_not_fit_are_refused_in_both_algebras(text: str, column: int, problem: str) -> None:
    formula = Formula.parse(text)
    with pytest.raises(FormulaError, match=problem) as refusal:
        formula.expression({**SYMBOLS, "v": [X, Y], "theta": 1.0})
    assert refusal.value.column == column
    with pytest.raises(FormulaError, match=problem) as refusal:
        formula.evaluate({**NUMBERS, "v": [1.0, 2.0], "theta": 1.0})
    assert refusal.value.column == column


@pytest.mark.parametrize("value", [float("nan"), float("inf"), np.float64("-inf")])
def test_values_that_are_not_finite_are_refused(value: float) -> None:
    formula = Formula.parse("1 + x")
    for compute in (formula.expression, formula.evaluate):
        with pytest.raises(FormulaError, match=f"the value is {value}"):
            compute({"x": value})


@pytest.mark.parametrize(
    "text",
    [
        "(65*(0.1234567**1.5012345678))**1.5",
        "(c*x)**1.23456*(7*max(x, 0.1))**2.34567*c**0.01",
        "tanh(x**0.33333333)",
        "(6.5**1.2345678*10**(3/4))**(1/3)*x",
        "(exp(1.23456*log(c)))**1.5",
    ],
)
def test_high_roots_are_floats(text: str) -> None:
    expr = expression(text, c=0.123456789)
    assert all(power.exp.is_Float or power.exp.q < 13 for power in expr.diff(X).atoms(sympy.Pow))
    value = Formula.parse(text).evaluate({**NUMBERS, "c": 0.123456789})
    assert float(expr.subs(X, sympy.Rational(7, 10))) == pytest.approx(value, rel=1e-14)


def test_require_points_at_the_first_unknown_name() -> None:
    formula = Formula.parse("exp(pi*x) + thta + zeta")
    with pytest.raises(FormulaError, match="'thta': did you mean 'theta'") as refusal:
        formula.require(["x", "theta"])
    assert refusal.value.column == 12
    formula.require(["x", "thta", "zeta"])


@pytest.mark.parametrize(
    "text", ["y**y", "y*y + x", "exp(-y)", "y + 1/y", "y**64", "(y + 1)**2/4", "where(y < x, y, -y)"]
)
@pytest.mark.parametrize("start", [X, sympy.Rational(1, 3)])
def test_definitions_of_definitions_end_in_a_refusal(text: str, start: sympy.Expr) -> None:
    formula, y = Formula.parse(text), start
    with pytest.raises(FormulaError, match=r"nested|digits|beyond|terms"):  # noqa: PT012
        for _ in range(100):
            y = formula.expression({"x": X, "y": y})


@pytest.mark.parametrize(
    "text", ["exp(exp(exp(exp(c))))", "sqrt(exp(c)**64 - 1)", "((c**16)**16)**16", "c**c", "c**c**c"]
)
def test_huge_numbers_end_in_a_refusal(text: str) -> None:
    with pytest.raises(FormulaError):
        expression(text, c=1e300)


# Names


def test_definition_is_a_name_and_a_formula() -> None:
    name, formula = definition(" y = 0.8*x + e ")
    assert (name, formula.text) == ("y", "0.8*x + e")
    assert formula.names == {"x", "e"}


@pytest.mark.parametrize(
    "text", ["y", "2y = x", "y == x", "lambda = 2", "exp = 2", "pi = 3", "= 2", "y =", "y = x = 2"]
)
def test_definition_of_anything_else_is_refused(text: str) -> None:
    with pytest.raises(FormulaError):
        definition(text)


def test_names_are_returned_as_formulas_see_them() -> None:
    micro, mu = "\N{MICRO SIGN}", "\N{GREEK SMALL LETTER MU}"
    assert check_name(micro) == mu
    assert Formula.parse(micro).evaluate({mu: 2.0}) == 2.0


@pytest.mark.parametrize("name", ["", "a b", "1a", "w[0]", "for", "None", "where", "norm2", "pi"])
def test_names_that_formulas_cannot_use_are_refused(name: str) -> None:
    with pytest.raises(FormulaError):
        check_name(name)


def test_parameter_name() -> None:
    assert parameter_name("w[12]") == ("w", (12,))
    for text in ("w[", "w[]", "w[-1]", "w[1.5]", "w[0][1]", "[0]", "exp[2]", "w[1]x"):
        with pytest.raises(FormulaError):
            parameter_name(text)


# Derivatives


def _sigmoid(x: Any) -> Any:
    return 1 / (1 + mpmath.exp(-x))


SLOPES: dict[str, Callable[[Any], Any]] = {
    "exp": mpmath.exp,
    "log": lambda x: 1 / x,
    "sqrt": lambda x: 1 / (2 * mpmath.sqrt(x)),
    "sin": mpmath.cos,
    "cos": lambda x: -mpmath.sin(x),
    "tan": lambda x: mpmath.sec(x) ** 2,
    "tanh": lambda x: mpmath.sech(x) ** 2,
    "sinh": mpmath.cosh,
    "cosh": mpmath.sinh,
    "atan": lambda x: 1 / (1 + x**2),
    "erf": lambda x: 2 / mpmath.sqrt(mpmath.pi) * mpmath.exp(-(x**2)),
    "abs": mpmath.sign,
    "sign": lambda x: mpmath.mpf(0),
    "step": lambda x: mpmath.mpf(0),
    "relu": lambda x: mpmath.mpf(x > 0),
    "softplus": _sigmoid,
    "sigmoid": lambda x: _sigmoid(x) * _sigmoid(-x),
}


@pytest.mark.parametrize("point", [-100, -3, 3, 100])
@pytest.mark.parametrize("name", ONE_ARGUMENT)
def test_slopes_are_right_far_from_the_origin(name: str, point: int) -> None:
    if name in ("log", "sqrt") and point < 0:
        return
    slope = expression(f"{name}(x)").diff(X)
    assert nodes_are_listed(slope)
    assert nodes_are_listed(slope.diff(X))
    with mpmath.workdps(60):
        expected = SLOPES[name](mpmath.mpf(point))
        exact = mpmath.mpf(slope.subs(X, point).evalf(30))
        assert mpmath.almosteq(exact, expected, rel_eps=1e-12, abs_eps=0)
        double = Formula.parse(str(slope)).evaluate({"x": float(point)})
        # Only the slope of erf lies below the smallest float.
        assert mpmath.almosteq(double, expected, rel_eps=1e-12, abs_eps=1e-300)


@pytest.mark.parametrize("name", ONE_ARGUMENT)
@pytest.mark.parametrize("point", [-100.0, -2.0, 0.0, 2.0, 100.0])
def test_functions_have_the_same_value_in_both_algebras(name: str, point: float) -> None:
    if name in ("log", "sqrt") and point <= 0:
        return
    exact = expression(f"{name}(x)").subs(X, sympy.Integer(int(point))).evalf(20)
    assert Formula.parse(f"{name}(x)").evaluate({"x": point}) == pytest.approx(float(exact), rel=1e-13, abs=0)


@pytest.mark.parametrize(
    ("text", "slope"),
    [
        ("relu(x)", "step(x)"),
        ("softplus(2*x)", "2*sigmoid(2*x)"),
        ("sigmoid(x)", "sigmoid(x)*sigmoid(-x)"),
        ("abs(x**3)", "3*x**2*sign(x**3)"),
        ("max(x, 2*x, y)", "where(max(x, 2*x) < y, 0, where(x < 2*x, 2, 1))"),
        ("min(x, y*x)", "where(y*x < x, y, 1)"),
        ("where(x > 0, log(x), x)", "where(0 < x, 1/x, 1)"),
        ("where(x > 0, y, y)", "0"),
        ("x**y", "y*x**y/x"),
    ],
)
def test_derivatives_of_kinks(text: str, slope: str) -> None:
    assert expression(text).diff(X) == expression(slope)


def test_branch_not_taken_does_not_poison_the_slope() -> None:
    slope = Formula.parse(str(expression("where(x > 0, x*log(x), 0)").diff(X)))
    assert slope.evaluate({"x": 0.0}) == 0.0
    assert expression("where(x > 0, log(x), 2)").subs(X, -1) == 2
    at_zero = symbolic.where(0, sympy.sqrt(2), 1, sympy.log(-2))
    assert at_zero.evalf() == sympy.Float(1)


@pytest.mark.parametrize(
    "text", ["where(log(x) < 0, 1, 2)", "min(log(x), 1)", "step(log(x))", "abs(log(x))", "relu(log(x))"]
)
def test_what_is_undefined_decides_nothing(text: str) -> None:
    with pytest.raises(FormulaError, match="the value is nan"):
        Formula.parse(text).evaluate({"x": -1.0})
    assert not expression(text).subs(X, -1).evalf().is_Number


# Properties

LEAVES = st.sampled_from(["x", "y", "w[0]", "w[2]", "0.5", "2", "3", "1e-2", "pi", "0", "x**2"])
VECTORS = st.sampled_from(["w", "2*w", "w*x", "exp(w)", "w - y"])


def _compound(parts: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    powers = ["2", "-1", "0.5", "1.5", "3", "y", "x", "(1/3)"]
    return st.one_of(
        st.builds("({}){}({})".format, parts, st.sampled_from("+-*/"), parts),
        st.builds("({})**{}".format, parts, st.sampled_from(powers)),
        st.builds("-{}".format, parts),
        st.builds("{}({})".format, st.sampled_from(ONE_ARGUMENT), parts),
        st.builds("{}({}, {})".format, st.sampled_from(["min", "max"]), parts, parts),
        st.builds(
            "where({} {} {}, {}, {})".format, parts, st.sampled_from(["<", "<=", ">", ">="]), parts, parts, parts
        ),
        st.builds("{}({})".format, st.sampled_from(["sum", "norm2"]), VECTORS),
        st.builds("dot({}, {})".format, VECTORS, VECTORS),
    )


FORMULAS = st.recursive(LEAVES, _compound, max_leaves=8)
TOKENS = st.sampled_from(
    [
        *"xyw0123456789.+-*/()[]<>=, e_π\n#'\"\\{}:@!&|^~%\0",
        *FUNCTIONS,
        "**",
        "lambda ",
        " if ",
        " else ",
        "w[0]",
        "1e",
        "0x",
    ]
)


@given(FORMULAS)
@settings(derandomize=True, deadline=None, max_examples=150)
def test_both_algebras_agree_and_derivatives_are_of_listed_nodes(text: str) -> None:
    assume(_is_formula(text))
    formula = Formula.parse(text)
    try:
        expr = formula.expression(SYMBOLS)
    except FormulaError:
        return
    assert nodes_are_listed(expr)
    slope = expr.diff(X)
    assert nodes_are_listed(slope)
    if slope.count_ops() < 100:
        assert nodes_are_listed(slope.diff(Y))
    try:
        value = formula.evaluate(NUMBERS)
    except FormulaError:
        return
    exact = expr.subs(EXACT).evalf(20)
    assert isinstance(value, float)
    if exact.is_Number and abs(value) < 1e6:
        assert value == pytest.approx(float(exact), rel=1e-7, abs=1e-9)


@given(FORMULAS)
@settings(derandomize=True, deadline=None, max_examples=80)
def test_printed_expression_is_the_same_formula(text: str) -> None:
    assume(_is_formula(text))
    try:
        expr = expression(text)
    except FormulaError:
        return
    assume(not expr.has(sympy.E))
    again = expression(str(expr))
    if again != expr:  # a number may have been multiplied into a sum
        difference = (again - expr).subs(EXACT).evalf(20, chop=True)
        assert not difference.is_Number or abs(difference) < 1e-9 * (1 + abs(expr.subs(EXACT).evalf(20)))


def _is_formula(text: str) -> bool:
    try:
        Formula.parse(text)
    except FormulaError:
        return False
    return True


@given(st.one_of(st.text(max_size=30), st.lists(TOKENS, max_size=30).map("".join)))
@settings(derandomize=True, deadline=None, max_examples=300)
def test_any_text_is_a_formula_or_refused(text: str) -> None:
    _try_everything(text)


@given(FORMULAS, st.lists(st.tuples(st.integers(0, 60), st.integers(0, 3), TOKENS), min_size=1, max_size=3))
@settings(derandomize=True, deadline=None, max_examples=150)
def test_any_mutated_formula_is_a_formula_or_refused(text: str, mutations: list[tuple[int, int, str]]) -> None:
    for place, removed, token in mutations:
        start = place % (len(text) + 1)
        text = text[:start] + token + text[start + removed :]
    _try_everything(text)


def _try_everything(text: str) -> None:
    with contextlib.suppress(FormulaError):
        formula = Formula.parse(text)
        formula.expression(SYMBOLS).diff(X)
        formula.evaluate(NUMBERS)
