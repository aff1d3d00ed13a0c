"""Printed expressions mean what their formulas mean, in both widths."""

from __future__ import annotations

import ast
import math
from random import Random

import numpy as np
import pytest
import sympy
from hypothesis import given, settings
from hypothesis import strategies as st

from sgdsim.formulas.formula import Formula
from sgdsim.formulas.names import FUNCTIONS, FormulaError
from sgdsim.formulas.walker import NUMERIC
from sgdsim.kernels import elementary
from sgdsim.kernels.printer import KernelPrinter
from sgdsim.kernels.source import header

POINTS = ((0.7, 1.3), (-0.4, 0.6), (1.9, -0.8), (0.0, 2.5))
SYMBOLS = {name: sympy.Symbol(f"s_{name}", real=True) for name in "xy"}
DTYPES = {"float64": np.float64, "float32": np.float32}

# Every function with arguments of either sign where it has a value, and every operator in every place.
FORMULAS = [
    *(f"{name}(x - y/3)" for name, usage in FUNCTIONS.items() if usage == f"{name}(x)" and name not in ("log", "sqrt")),
    *("log(x**2 + 0.1)", "sqrt(x**2 + 0.1)", "sqrt(2)*x", "1/sqrt(y**2 + 1)", "log(2)*x"),
    *("min(x, y)", "max(x, y)", "min(x, y, 0.5)", "max(x, -y, 0.5, x*y)", "min(x, y)**2", "2*min(x, -y) - max(x, y)"),
    *(f"where(x {sign} y, x + 1, 2*y)" for sign in ("<", "<=", ">", ">=")),
    *("where(x < 0, -x, x)*y", "-where(x < 1, where(y < 1, x, y), x - y)", "where(x*y < x - y, exp(x), sin(y))"),
    *(f"(x - y)**{n}" for n in range(8)),
    *("(x + 0.1)**64", "1.01**x", "2**(x*y)", "(x**2 + 1)**y", "(y**2 + 1)**(1/3)", "(y**2 + 1)**1.5"),
    *("(y**2 + 1)**-1.5", "(y**2 + 1)**-0.5", "(x**2 + 1)**-3", "(x**2 + 1)**-1", "cos(x)**-2"),
    *("x**2**2", "-x**2", "(-x)**2", "-(-x)**3"),
    *("x - (y - 1)", "x - y - 1", "x/(y*2.5)", "x/y/2.5", "x/(y/2.5)", "-x/y", "x*-y", "x - -y", "-(x + y)*(x - y)"),
    *("2*(x + y)", "-(x + y)", "-0.5*x", "x/3", "1/y", "-1/y", "1/(x*y - 7)", "(x + y)/(x - y)**2", "3", "-0.25"),
    *("x*y*(x + 1)*(y - 1)/((x - 5)*(y + 5)**2)", "exp(-x**2)/y", "exp(-x)*exp(-y)", "tanh(x)**3/sinh(y)"),
    *("1/(1 + exp(-x))", "pi*x", "1e-3*x", "123456789*x", "x/7e10", "x + 1e20", "0.1 + 0.2"),
    *("x**3 - 3*x**2 + 3*x - 1", "(x + y)**2 - x**2"),
]  # fmt: skip


def printed(formula: str, dtype: str) -> str:
    return KernelPrinter(dtype).doprint(Formula.parse(formula).expression(SYMBOLS))


HEADER: dict[str, object] = {"np": np, "math": math}
exec(header("python"), HEADER)


def value(text: str, x: float, y: float, dtype: str) -> np.floating:
    """Value of a text, run on NumPy scalars with the functions of `elementary`."""
    real = DTYPES[dtype]
    names = {name: getattr(elementary, name) for name in dir(elementary) if name[-2:] in ("64", "32")}
    names |= {"REAL": real, "NAN": real(np.nan), "s_x": real(x), "s_y": real(y)}
    with np.errstate(all="ignore"):
        return real(eval(text, {**HEADER, **names}))


@pytest.mark.parametrize("formula", FORMULAS)
def test_double_precision(formula):
    text = printed(formula, "float64")
    for x, y in POINTS:
        try:
            expected = Formula.parse(formula).evaluate({"x": x, "y": y})
        except FormulaError:
            continue  # no value here
        assert value(text, x, y, "float64") == pytest.approx(expected, rel=1e-13, abs=1e-14), (text, x, y)


@pytest.mark.parametrize("formula", FORMULAS)
def test_single_precision(formula):
    """Every number has the width of the state, and the value is the same to single rounding."""
    text = printed(formula, "float32")
    tree = ast.parse(text, mode="eval")
    narrow = {id(a) for node in ast.walk(tree) if isinstance(node, ast.Call) and ast.unparse(node.func) == "REAL"
              for argument in node.args for a in ast.walk(argument)}  # fmt: skip
    literals = [node for node in ast.walk(tree) if isinstance(node, ast.Constant)]
    assert all(id(node) in narrow for node in literals), text
    assert "64(" not in text
    for x, y in POINTS:
        try:
            expected = Formula.parse(formula).evaluate({"x": x, "y": y})
        except FormulaError:
            continue
        assert value(text, x, y, "float32") == pytest.approx(expected, rel=3e-5, abs=3e-6), (text, x, y)


@pytest.mark.parametrize("dtype", list(DTYPES))
def test_nan_stays_nan(dtype):
    """Through comparisons too, so that no observable of a trajectory that is lost looks like a number."""
    for formula in FORMULAS:
        if SYMBOLS["x"] in Formula.parse(formula).expression(SYMBOLS).free_symbols:
            assert np.isnan(value(printed(formula, dtype), math.nan, 0.7, dtype)), formula


def test_every_function_is_printed():
    used = "".join(FORMULAS)
    elementwise = FUNCTIONS.keys() & NUMERIC.keys() - {"sum"}
    assert len(elementwise) > 15
    assert all(f"{name}(" in used for name in elementwise)


def random_formula(random: Random, depth: int) -> str:
    """A formula of any shape."""
    if depth == 0 or random.random() < 0.1:
        return random.choice(["x", "y", "x", "y", "2", "0.5", "1.7", "pi", "3", "-1.1"])
    a, b = (random_formula(random, depth - 1) for _ in range(2))
    return random.choice(
        [
            *(f"({a}) {sign} ({b})" for sign in "+-*/"),
            *(f"{a} {sign} {b}" for sign in ("+", "-", "*")),
            f"({a})**{random.choice([2, 3, 4, -1, -2])}",
            f"-({a})",
            f"{random.choice(['exp', 'sin', 'cos', 'tanh', 'atan', 'sigmoid', 'softplus', 'relu', 'abs', 'erf'])}({a})",
            f"{random.choice(['min', 'max'])}({a}, {b})",
            f"where({a} < {b}, {b}, {a} - 1)",
            f"sqrt(1 + ({a})**2)",
        ]
    )


@pytest.mark.validate
@settings(derandomize=True, deadline=None, max_examples=80, database=None)
@given(st.integers(0, 2**32))
def test_formulas_of_any_shape(seed):
    """Against 30 digits, so that a sum that cancels is known from a text that is wrong."""
    formula = random_formula(Random(seed), 4)
    try:
        expression = Formula.parse(formula).expression(SYMBOLS)
    except FormulaError:
        return  # a division by zero, or too large
    text = KernelPrinter("float64").doprint(expression)
    for x, y in POINTS:
        point = {SYMBOLS["x"]: sympy.Rational(str(x)), SYMBOLS["y"]: sympy.Rational(str(y))}
        exact = expression.subs(point).evalf(30)
        if exact.is_Float and exact.is_finite and abs(exact) < 1e100:
            assert value(text, x, y, "float64") == pytest.approx(float(exact), rel=1e-9, abs=1e-9), (formula, text)


def test_derivatives():
    """Kinks, and functions whose derivatives are other functions."""
    for formula in ("abs(x)*y", "max(x, y, 0)**2", "softplus(3*x)", "erf(x*y)", "where(x < y, x**3, exp(y))", "tan(x)"):
        slope = Formula.parse(formula).expression(SYMBOLS).diff(SYMBOLS["x"])
        text = KernelPrinter("float64").doprint(slope)
        for x, y in POINTS[:3]:
            ahead, behind = (Formula.parse(formula).evaluate({"x": x + d, "y": y}) for d in (1e-6, -1e-6))
            assert value(text, x, y, "float64") == pytest.approx((ahead - behind) / 2e-6, rel=1e-7, abs=1e-8)


def test_functions_are_noted():
    printer = KernelPrinter("float32")
    printer.doprint(Formula.parse("exp(x) + tanh(x)*x**2.5 + sqrt(x)").expression(SYMBOLS))
    assert printer.functions == {"exp32", "tanh32", "power32"}


def test_small_powers_are_products():
    """No call and no division in a polynomial."""
    for n in range(1, 65):
        text = printed(f"x**{n}", "float64")
        assert set(text) <= set("s_x*()")
        assert value(text, 1.0625, 0, "float64") == pytest.approx(1.0625**n, rel=1e-14)


def test_a_node_without_text_is_an_error():
    with pytest.raises(AssertionError, match="no kernel text for gamma"):
        KernelPrinter("float64").doprint(sympy.gamma(SYMBOLS["x"]))
