"""A loss is a formula: its derivatives, its exact expectations, its symmetries, and what is refused."""

from __future__ import annotations

import functools
import itertools
import math
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from random import Random
from typing import Any

import mpmath
import numpy as np
import pytest
import scipy.special
import sympy

from sgdsim.base.errors import InputError
from sgdsim.formulas.names import FormulaError
from sgdsim.model.data import Data
from sgdsim.model.loss import Loss
from sgdsim.model.noise import FAMILIES, Family, Noise
from sgdsim.model.observables import Observable
from sgdsim.model.symmetry import Symmetry
from tests.samples import daily


@pytest.fixture(autouse=True)
def _precision() -> Iterator[None]:
    with mpmath.workdps(50):
        yield


NOISE = {"z": Noise.parse("normal:0.5,2"), "e": Noise.parse("laplace:0,0.5")}

# A loss, and the same by hand in mpmath: of the parameters, then the noise.
EXAMPLES: dict[str, tuple[Loss, Callable[..., Any]]] = {
    "two layers": (
        Loss("(u*w*z - e)**2/2", ("u", "w"), noise=NOISE),
        lambda u, w, z, e: (u * w * z - e) ** 2 / 2,
    ),
    "vectors": (
        Loss("(dot(u, v)*z - k)**2 + norm2(u)/2", ("u[0]", "u[1]", "v[0]", "v[1]"), {"k": 0.5}, {"z": NOISE["z"]}),
        lambda a, b, c, d, z: ((a * c + b * d) * z - mpmath.mpf("0.5")) ** 2 + (a * a + b * b) / 2,
    ),
    "functions": (
        Loss("exp(-x**2)*tanh(k*y) + z*erf(x*y) + softplus(y)*z**2", ("x", "y"), {"k": 1.5}, {"z": NOISE["z"]}),
        lambda x, y, z: (
            mpmath.exp(-x * x) * mpmath.tanh(1.5 * y) + z * mpmath.erf(x * y) + mpmath.log1p(mpmath.exp(y)) * z**2
        ),
    ),
    "kinks": (
        Loss("max(x, y)**2 + abs(x - 2*y)*e + where(x < 0.3, x**3, y**4) + relu(x + y)", ("x", "y"), noise=NOISE),
        lambda x, y, z, e: max(x, y) ** 2 + abs(x - 2 * y) * e + (x**3 if x < 0.3 else y**4) + max(x + y, 0),
    ),
    "definitions": (
        Loss(
            "r**2/2 + sum(h)*z",
            ("w[0]", "w[1]", "b"),
            {"s": 0.25},
            {"z": NOISE["z"]},
            {"h": ("tanh(w[0])", "s*w[1]"), "r": "h[0]*h[1] - b"},
        ),
        lambda a, b, c, z: (mpmath.tanh(a) * b / 4 - c) ** 2 / 2 + (mpmath.tanh(a) + b / 4) * z,
    ),
    "powers and quotients": (
        Loss("(1 + x**2)**1.5/(2 + y**4) + 2**x*z - sqrt(1 + y**2)*e", ("x", "y"), noise=NOISE),
        lambda x, y, z, e: (1 + x * x) ** mpmath.mpf(1.5) / (2 + y**4) + 2**x * z - mpmath.sqrt(1 + y * y) * e,
    ),
}


def random_points(loss: Loss, count: int) -> Iterator[tuple[dict[sympy.Symbol, sympy.Rational], list[Any]]]:
    """Random points, each for SymPy and for mpmath."""
    random = Random(11)
    for _ in range(count):
        values = {name: sympy.Rational(random.randint(-1500, 1500), 1024) for name in (*loss.parameters, *loss.noise)}
        constants = {loss.symbols[name]: sympy.Rational(str(value)) for name, value in loss.constants.items()}
        point = {loss.symbols[name]: value for name, value in values.items()}
        yield point | constants, [mpmath.mpf(value.p) / value.q for value in values.values()]


def number(expression: sympy.Expr, point: dict[sympy.Symbol, sympy.Rational]) -> Any:
    return mpmath.mpf(str(sympy.sympify(expression).subs(point).evalf(40)))


@pytest.mark.parametrize("name", list(EXAMPLES))
def test_gradient_against_finite_differences(name):
    loss, by_hand = EXAMPLES[name]
    for point, at in random_points(loss, 5):
        assert abs(number(loss.expression, point) - by_hand(*at)) < 1e-30
        for i, entry in enumerate(loss.gradient):
            order = tuple(int(j == i) for j in range(len(at)))
            assert abs(number(entry, point) - mpmath.diff(by_hand, tuple(at), order)) < 1e-20


def nodes(noise: Noise) -> list[tuple[float, float]]:
    """Gauss quadrature for the law of a noise variable: places and weights, exact for polynomials."""
    normal, laplace, uniform = (
        list(zip(*roots(12), strict=True))
        for roots in (scipy.special.roots_hermitenorm, scipy.special.roots_laguerre, scipy.special.roots_legendre)
    )
    match noise.family, noise.arguments:
        case "normal", (mean, std):
            return [(mean + std * x, w / math.sqrt(2 * math.pi)) for x, w in normal]
        case "laplace", (mean, scale):
            return [(mean + sign * scale * x, w / 2) for x, w in laplace for sign in (-1, 1)]
        case "uniform", (low, high):
            return [((low + high) / 2 + (high - low) / 2 * x, w / 2) for x, w in uniform]
        case "rademacher", ():
            return [(-1.0, 0.5), (1.0, 0.5)]
    raise AssertionError(noise)


@pytest.mark.parametrize("name", list(EXAMPLES))
def test_population_loss_against_quadrature(name):
    loss, by_hand = EXAMPLES[name]
    assert not {loss.symbols[noise] for noise in loss.noise} & loss.population.free_symbols
    for point, at in random_points(loss, 2):
        expected = mpmath.fsum(
            math.prod(weight for _, weight in drawn) * by_hand(*at[: len(loss.parameters)], *(z for z, _ in drawn))
            for drawn in itertools.product(*map(nodes, loss.noise.values()))
        )
        assert abs(number(loss.population, point) - expected) < 1e-12 * (1 + abs(expected))


@pytest.mark.parametrize("name", list(EXAMPLES))
def test_hessian_is_that_of_the_population_loss(name):
    """Central differences of the population loss in SymPy's own numbers."""
    loss, _ = EXAMPLES[name]
    h = sympy.Rational(1, 10**12)
    assert loss.hessian == loss.hessian.T
    for point, _ in random_points(loss, 2):
        for i, a in enumerate(loss.theta):
            for j, b in enumerate(loss.theta):

                def shifted(
                    di: int,
                    dj: int,
                    point: dict[sympy.Symbol, Any] = point,
                    a: sympy.Symbol = a,
                    b: sympy.Symbol = b,
                ) -> Any:
                    moved = dict(point)
                    moved[a] += di * h
                    moved[b] += dj * h
                    return number(loss.population, moved)

                difference = (shifted(1, 1) - shifted(1, -1) - shifted(-1, 1) + shifted(-1, -1)) / 4 * 10**24
                assert abs(number(loss.hessian[i, j], point) - difference) < 1e-10 * (1 + abs(difference))


@pytest.mark.parametrize("family", ["normal:0.3,0.7", "uniform:-1,3", "laplace:0.2,0.5", "rademacher"])
def test_expectations_of_polynomials(family):
    """All products of powers of two noise variables, exactly in the constants' symbols."""
    loss = Loss("x*z*e*k", ("x",), {"k": 0.1}, {"z": Noise.parse(family), "e": Noise.parse("uniform:0,0.5")})
    x, k, z, e = (loss.symbols[name] for name in "xkze")
    for powers in [(1, 0), (0, 3), (2, 2), (5, 1), (6, 4)]:
        expression = (x + k) * z ** powers[0] * e ** powers[1] + x
        exact = loss.expectation(expression)
        moments = [
            math.fsum(weight * place**power for place, weight in nodes(loss.noise[name]))
            for name, power in zip("ze", powers, strict=True)
        ]
        coefficient = exact.coeff(k)
        assert coefficient.is_Rational
        assert float(coefficient) == pytest.approx(moments[0] * moments[1], rel=1e-11, abs=1e-14)
        assert sympy.expand(exact - coefficient * (x + k) - x) == 0
    assert loss.expectation(x * k) == x * k
    assert loss.expectation((z + x) ** 2) == sympy.expand(loss.expectation(sympy.expand((z + x) ** 2)))


def test_moments_of_the_gradient_by_hand():
    """Label noise: E (w z - e)^2/2 = (w^2 E z^2 - 2 w E z E e + E e^2)/2."""
    loss = Loss("(w*z - e)**2/2", ("w",), noise=NOISE)
    w = loss.theta[0]
    assert loss.population == w**2 * sympy.Rational(17, 8) + sympy.Rational(1, 4)
    gradient = loss.gradient[0]
    covariance = sympy.expand(loss.expectation(gradient**2) - loss.expectation(gradient) ** 2)
    fourth = 3 * 2**4 + 6 * 2**2 * sympy.Rational(1, 4) + sympy.Rational(1, 16)  # of z
    second = sympy.Rational(17, 4)
    assert covariance == sympy.expand(w**2 * (fourth - second**2) + second / 2)


@pytest.mark.parametrize("formula", ["exp(z*x)", "abs(z)*x", "x/z", "sqrt(1 + z**2)*x", "tanh(z) + x", "z**x"])
def test_expectations_without_closed_form_are_refused(formula):
    loss = Loss(formula, ("x",), noise={"z": Noise.parse("normal")})
    with pytest.raises(InputError, match=r"the expectation of .* over z has no closed form here"):
        _ = loss.population


def test_moments_that_do_not_exist_are_refused(monkeypatch):
    heavy = Family({}, ("v",), "tan(pi*v)", lambda k: float("inf") if k else 1)
    monkeypatch.setitem(FAMILIES, "cauchy", heavy)
    loss = Loss("(x - z)**2", ("x",), noise={"z": Noise("cauchy")})
    with pytest.raises(InputError, match=r"the moment of order \d of z ~ cauchy does not exist"):
        _ = loss.population


def test_names_in_formulas():
    loss = Loss("a*x**2/2 + x*z", ("x",), {"a": 3.0}, {"z": Noise.parse("normal")}, {"h": "a*x"})
    a, (x,) = loss.symbols["a"], loss.theta
    assert loss.expand("h + loss") == a * x + a * x**2 / 2
    own = Loss("loss**2", ("loss",))
    assert own.expand("2*loss") == 2 * own.theta[0]  # a parameter of that name comes first
    with pytest.raises(FormulaError, match="did you mean 'h'"):
        loss.expand("hh + 1")


def test_construction_does_not_import_sympy():
    code = (
        "import sys; from sgdsim.model.losses.river_valley import river_valley;"
        "river_valley(constants={'a0': 1.0, 'k': 0.5, 'c2': 0.1}, noise='laplace'); assert 'sympy' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_losses_are_values():
    one, other = (Loss("a*x", ("x",), {"a": a}) for a in (1.0, 1.0))
    assert one == other
    assert hash(one) == hash(other)
    assert one != Loss("a*x", ("x",), {"a": 2.0})
    with pytest.raises(AttributeError):
        one.formula = "x"  # type: ignore[misc]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"parameters": ()}, "at least one parameter"),
        ({"parameters": ("x", "x")}, "parameters x, x: expected each name once"),
        ({"formula": "sum(w)", "parameters": ("w[0]", "w[0]")}, "w[0], w[0]: expected each name once"),
        ({"formula": "sum(w)", "parameters": ("w[1]", "w[0]")}, "a vector as w[0], w[1], …"),
        ({"formula": "sum(w)", "parameters": ("w[0]", "w[2]")}, "a vector as w[0], w[1], …"),
        ({"formula": "sum(w)", "parameters": ("w", "w[0]")}, "expected each name once"),
        ({"noise": {"z[0]": NOISE["z"], "z[2]": NOISE["z"]}}, "noise variables z[0], z[2]: expected"),
        ({"constants": {"x": 1.0}}, "'x' is both a parameter and a constant"),
        ({"noise": {"x": NOISE["z"]}}, "'x' is both a parameter and a noise variable"),
        ({"constants": {"k": 1.0}, "noise": {"k": NOISE["z"]}}, "'k' is both a constant and a noise variable"),
        ({"constants": {"k": 1.0}, "definitions": {"k": "1"}}, "'k' is both a constant and a definition"),
        ({"parameters": ("x", "w[0]"), "constants": {"w": 1.0}}, "'w' is both a parameter and a constant"),
        ({"parameters": ("x", "exp")}, "'exp' is reserved"),
        ({"parameters": ("x", "lambda")}, "'lambda' is reserved"),
        ({"constants": {"pi": 3.0}}, "'pi' is reserved"),
        ({"noise": {"sum": NOISE["z"]}}, "'sum' is reserved"),
        ({"definitions": {"where": "1"}}, "'where' is reserved"),
        ({"parameters": ("x", "2y")}, "'2y' is not a name"),
        ({"constants": {"a b": 1.0}}, "'a b' is not a name"),
        ({"constants": {"k": float("inf")}}, "loss.constants.k: inf, expected a finite number"),
        ({"constants": {"k": float("nan")}}, "loss.constants.k: nan, expected a finite number"),
        ({"formula": "x**2 + sigm*x", "constants": {"sigma": 1.0}}, "unknown name 'sigm': did you mean 'sigma'?"),
        ({"formula": "x**2 +"}, "loss formula: "),
        ({"formula": "xx", "parameters": ("x", "y")}, "did you mean 'x'?"),
        ({"definitions": {"a": "b", "b": "x"}}, "loss definition 'a': unknown name 'b'"),
        ({"definitions": {"a": ("x", "z")}}, "loss definition 'a': unknown name 'z'"),
        ({"formula": "loss + x"}, "unknown name 'loss'"),
    ],
)
def test_what_is_no_loss_is_refused(arguments, message):
    with pytest.raises(InputError) as error:
        Loss(**{"formula": "x**2", "parameters": ("x",), **arguments})
    assert message in str(error.value)


# Symmetries.

Z = {"z": Noise.parse("normal"), "e": Noise.parse("uniform:-1,1")}
SYMMETRIC = {
    "rescaling": ("(u*w*z - e)**2/2", ("u", "w"), "rescale:u:1,w:-1"),
    "three layers": ("(u*v*w**2*z - e)**4", ("u", "v", "w"), "rescale:u:4,w:-2"),
    "of a kinked layer": ("(relu(u)*w*z - e)**2 + abs(u*w)", ("u", "w"), "rescale:u:1,w:-1"),
    "of a logarithm": ("log(u*w)*z + sqrt(u*w)", ("u", "w"), "rescale:u:1,w:-1"),
    "rotation": ("tanh(sqrt(u**2 + v**2))*z - e", ("u", "v"), "rotation:u,v"),
    "of vectors": ("(norm2(u) + norm2(v))**2*z", ("u[0]", "u[1]", "v[0]", "v[1]"), "rotation:u,v"),
    "translation": ("exp(z)*x**2", ("x", "y"), "translation:y"),
    "of a vector": ("(u[0] - u[1])**2*z", ("u[0]", "u[1]"), "translation:u"),
    "scale": ("z*u[0]*u[1]/norm2(u) - e", ("u[0]", "u[1]"), "scale:u"),
    "by a trigonometric identity": ("(sin(u)**2 + cos(u)**2)*z*x", ("u", "x"), "translation:u"),
    "by the noise": ("(s**2 - 1)*u*x", ("u", "x"), "translation:u"),
    "at this constant": ("(k - 0.5)*u*x", ("u", "x"), "translation:u"),
}
BROKEN = {
    "another power": ("(u*w*z - e)**2/2", ("u", "w"), "rescale:u:1,w:-1.000001"),
    "weight decay": ("(u*w*z - e)**2/2 + 1e-6*u**2", ("u", "w"), "rescale:u:1,w:-1"),
    "on average alone": ("(u*z + e)**2 - u**2*z**2", ("u", "w"), "translation:u"),
    "but for a few samples": ("u*step(z - 1)", ("u",), "translation:u"),
    "somewhere alone": ("relu(u - 1)*z", ("u",), "translation:u"),
    "rotation": ("(u**2 + 2*v**2)*z", ("u", "v"), "rotation:u,v"),
    "scale": ("z*u[0]*u[1]/(norm2(u) + 1)", ("u[0]", "u[1]"), "scale:u"),
    "in the twentieth digit": ("z*(u**2*w**2 + 1e-20*u**3*w**2)", ("u", "w"), "rescale:u:1,w:-1"),
}


def symmetric_loss(formula: str, parameters: tuple[str, ...], *symmetries: Symmetry) -> Loss:
    return Loss(formula, parameters, {"k": 0.5}, {**Z, "s": Noise.parse("rademacher")}, symmetries=symmetries)


@pytest.mark.parametrize("name", list(SYMMETRIC))
def test_symmetries_are_accepted(name):
    formula, parameters, text = SYMMETRIC[name]
    loss = symmetric_loss(formula, parameters, Symmetry.parse(text))
    assert loss.symmetries[0].name == text.partition(":")[0]
    assert isinstance(hash(loss.symmetries), int)


@pytest.mark.parametrize("name", list(BROKEN))
def test_what_is_no_symmetry_is_refused(name):
    formula, parameters, text = BROKEN[name]
    with pytest.raises(InputError, match=r"along its generator the loss of a sample changes by .*, expected 0$"):
        symmetric_loss(formula, parameters, Symmetry.parse(text))


def test_theory_says_from_what_size_on_it_has_no_formulas():
    """Of matrices alone: 9 parameters times 15 operations are few, 81 times 99 are many."""
    Loss("norm2(W@x)", ("W[3,3]",), {"x": [1.0] * 3}).require_small()
    Loss("norm2(w*x)", ("w[500]",), {"x": [1.0] * 500}).require_small()
    with pytest.raises(InputError, match=r"the gradient has about 8,019 operations .* expected at most 1,000"):
        Loss("norm2(W@x)", ("W[9,9]",), {"x": [1.0] * 9}).require_small()


def test_population_loss_and_hessian_of_a_small_matrix():
    """tr((W - V) C (W - V)')/2 for inputs of covariance C, and C for each row of W, against NumPy."""
    loss = Loss(
        "norm2(W@x - V@x)/2", ("W[2,2]",), {"V": [[1.0, -0.5], [0.3, 0.8]], "L": [[1.0, 0.0], [0.6, 0.8]]},
        dict.fromkeys(["z[0]", "z[1]"], Noise.parse("normal")), {"x": "L@z"},
    )  # fmt: skip
    rng = np.random.default_rng(2)
    values = {name: rng.normal(size=(2, 2)) for name in "WVL"}
    point = {loss.symbols[f"{name}[{i},{j}]"]: values[name][i, j] for name in "WVL" for i in (0, 1) for j in (0, 1)}
    covariance = values["L"] @ values["L"].T
    gap = values["W"] - values["V"]
    assert float(loss.population.subs(point)) == pytest.approx(np.trace(gap @ covariance @ gap.T) / 2, rel=1e-12)
    found = np.array(loss.hessian.subs(point), dtype=float)
    np.testing.assert_allclose(found, np.kron(np.eye(2), covariance), rtol=1e-12, atol=1e-14)


def test_an_entry_of_a_declared_vector_is_no_second_declaration():
    with pytest.raises(InputError, match=r"parameters w\[0\], w\[1\], w\[2\], w\[1\]: expected each name once"):
        Loss("norm2(w)", ("w[3]", "w[1]"))


def test_theory_says_from_how_many_terms_on_it_has_no_formulas():
    """Few operations may be many terms: a product of matrices doubles them for each factor of 2 by 2."""
    square = [[1.0, 0.5], [0.2, 1.0]]
    fixed = dict.fromkeys("ABCV", square)
    noise = dict.fromkeys(["x[0]", "x[1]"], Noise.parse("normal"))
    layers = "W1[2,2]", "W2[2,2]"
    Loss("norm2(W2@W1@A@x - V@x)", layers, fixed, noise).require_small()
    with pytest.raises(InputError, match=r"the loss has about 1,190 terms .* expected at most 500"):
        Loss("norm2(B@W2@W1@A@C@x - V@x)", layers, fixed, noise).require_small()


LAYERS = {
    "matrices": ("norm2(W2@W1@x)*z", ("W1[3,2]", "W2[2,3]")),
    "of a scalar output": ("(dot(v, W1@x) - e)**2", ("W1[3,2]", "v[3]")),
    "vectors": ("(w[0]*v[0]*z - e)**2", ("w[1]", "v[1]")),
}


@pytest.mark.parametrize("name", list(LAYERS))
def test_layers_have_a_matrix_of_charges(name):
    """The entries of W1 W1' - W2' W2, each once, against NumPy at random numbers."""
    formula, (first, second) = LAYERS[name]
    names = [one.partition("[")[0] for one in (first, second)]
    loss = Loss(
        formula, (first, second), {"x": [0.5, 2.0]}, Z, symmetries=(Symmetry.parse(f"layers:{','.join(names)}"),)
    )
    rng = np.random.default_rng(1)
    before, after = (rng.normal(size=loss.shapes[one]) for one in names)
    point = dict(zip(loss.theta, [*before.ravel(), *after.ravel()], strict=True))
    width = len(before)
    before, after = before.reshape(width, -1), after.reshape(-1, width)
    charge = before @ before.T - after.T @ after
    expected = {f"layers_{i}_{j}": charge[i, j] for i in range(width) for j in range(i, width)}
    found = {key: float(value.subs(point)) for key, value in loss.charges.items()}
    assert found == pytest.approx(expected, rel=1e-12)


def test_three_layers_have_charges_between_neighbours():
    symmetry = Symmetry.parse("layers:W1,W2,v")
    loss = Loss("(sum(v@W2@W1)*x - z)**2", ("W1[2,1]", "W2[2,2]", "v[2]"), {"x": 0.5}, Z, symmetries=(symmetry,))
    pairs = [f"{i}_{j}" for i, j in ((0, 0), (0, 1), (1, 1))]
    assert list(loss.charges) == [f"layers_{pair}_{ij}" for pair in ("W1_W2", "W2_v") for ij in pairs]
    s = loss.symbols
    expected = s["W2[0,0]"] * s["W2[1,0]"] + s["W2[0,1]"] * s["W2[1,1]"] - s["v[0]"] * s["v[1]"]
    assert sympy.expand(loss.charges["layers_W2_v_0_1"] - expected) == 0


WIDE = ("W1[12,4]", "W2[12,12]", "W3[4,12]")
SAMPLES = {"x[4]": Noise.parse("normal"), "y[4]": Noise.parse("normal")}


@pytest.mark.parametrize(
    "name",
    daily(["layers:W1,W2,W3", "scale:W1", "sign:W1,W2", "rescale:W1:1,W3:-1"], "layers:W1,W2,W3", "rescale:W1:1,W3:-1"),
)
@pytest.mark.parametrize("formula", ["norm2(W3@W2@W1@x - y)", "norm2(W3@W2@tanh(W1@x) - y)"])
def test_symmetries_of_large_matrices_are_checked_by_numbers(name, formula, monkeypatch):
    """The same verdicts as of small ones, and no loss is ever written out."""
    monkeypatch.setattr(Loss, "expression", property(lambda self: pytest.fail("written out")))
    linear = "tanh" not in formula
    right = {"layers:W1,W2,W3": linear, "sign:W1,W2": True, "rescale:W1:1,W3:-1": linear}.get(name, False)
    make = functools.partial(Loss, formula, WIDE, {}, SAMPLES, symmetries=(Symmetry.parse(name),))
    if right:
        make()
    else:
        with pytest.raises(InputError, match=r"the loss of a sample changes by .* at a random point, expected 0"):
            make()


@pytest.mark.parametrize(
    ("formula", "symmetry"),
    [
        ("norm2(V@W)/2 + sum(sqrt(W)) + z*W[0,0]", "scale:W"),
        ("norm2(V@W)/2 + sum(sqrt(W)) + z*W[0,0]", "layers:W,V"),
        ("norm2(V@W)/2 + sum(W**1.5) + z*W[0,0]", "sign:W"),
        ("exp(norm2(V@W)) + z*W[0,0]", "scale:W"),
    ],
)
def test_what_is_no_number_speaks_for_no_symmetry(formula, symmetry):
    """At most random points these losses have no value, or overflow; it was taken for a change of nothing."""
    with pytest.raises(InputError, match=r"changes by|is not a number at most points"):
        Loss(formula, ("W[12,12]", "V[12,12]"), {}, Z, symmetries=(Symmetry.parse(symmetry),))


@pytest.mark.parametrize(
    ("formula", "symmetry", "message"),
    [
        ("norm2(W2@tanh(W1@x))*z", "layers:W1,W2", "'layers_0_0': along its generator the loss of a sample changes by"),
        (
            "norm2(W1@x) + norm2(W2)",
            "layers:W1,W2",
            "'layers_0_0': along its generator the loss of a sample changes by",
        ),
        ("norm2(W2@W1@x)*z", "layers:W2,W1", "W2[4,3] and W1[3,2] do not fit, expected 4 columns of W1"),
        ("norm2(W2@W1@x)*z", "layers:W1,W3", "unknown parameter 'W3': known are W1, W2, b"),
        ("norm2(W2@W1@x)*z + b", "layers:W1,b", "b is a number, expected a matrix or a vector"),
        ("norm2(W2@W1@x)*z", "layers:W1", "'layers:W1', expected layers:W1,W2,… with the names of parameters"),
    ],
)
def test_what_are_no_layers(formula, symmetry, message):
    with pytest.raises(InputError) as error:
        Loss(formula, ("W1[3,2]", "W2[4,3]", "b"), {"x": [0.5, 2.0]}, Z, symmetries=(Symmetry.parse(symmetry),))
    assert message in str(error.value)


def test_the_offending_expression_is_shown():
    with pytest.raises(InputError) as error:
        symmetric_loss("u*w*z + u**3", ("u", "w"), Symmetry("balance", {"u": "u", "w": "-w"}))
    assert str(error.value) == (
        "loss.symmetry 'balance': along its generator the loss of a sample changes by 3*u**3, expected 0"
    )
    with pytest.raises(InputError) as error:
        symmetric_loss("tanh(u + w*z)**2*exp(u)**k/(1 + u**2 + w**2)**2", ("u", "w"), Symmetry.parse("scale:u"))
    assert " …, expected 0" in str(error.value)
    assert len(str(error.value)) < 350


def test_generators_may_be_formulas_of_parameters_constants_and_definitions():
    """A nonlinear flow: l depends on x*exp(k*y) alone, which (x, y) -> (-k x, 1) leaves alone."""
    loss = Loss(
        "(r - z)**2",
        ("x", "y"),
        {"k": 0.7},
        Z,
        {"r": "x*exp(k*y)"},
        (Symmetry("flow", {"x": "-k*x", "y": "1"}), Symmetry("faster", {"x": "-k*r", "y": "r/x"})),
    )
    assert len(loss.symmetries) == 2


@pytest.mark.parametrize(
    ("generator", "message"),
    [
        ({"uu": "1"}, "unknown parameter 'uu': did you mean 'u'?"),
        ({"k": "1"}, "unknown parameter 'k'"),
        ({"u": "kk*u"}, "generator of u: unknown name 'kk': did you mean 'k'?"),
        ({"u": "z"}, "generator of u: unknown name 'z'"),
        ({"u": "u +"}, "generator of u: "),
        ({}, "expected one of generator, image and layers"),
        ({"v": "v", "v[0]": "1"}, "moves v[0] twice"),
        ({"u": "v"}, "'v' is a vector of 2, expected a number"),
        ({"v": "a"}, "'a' is a vector of 3, expected a vector of 2"),
    ],
)
def test_generators_that_cannot_be_read_are_refused(generator, message):
    with pytest.raises(InputError) as error:
        Loss(
            "u*k*z + norm2(v)",
            ("u", "v[0]", "v[1]"),
            {"k": 1.0},
            Z,
            {"a": ("1", "2", "3")},
            (Symmetry("mine", generator),),
        )
    assert str(error.value).startswith("loss.symmetry 'mine'")
    assert message in str(error.value)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("rescale", "expected rescale:u:1,w:-1"),
        ("rescale:u", "expected rescale:u:1,w:-1"),
        ("rescale:u:1,w", "expected rescale:u:1,w:-1"),
        ("rotation:u", "expected rotation:u,v"),
        ("rotation:u,v,w", "expected rotation:u,v"),
        ("scale", "expected scale:w"),
        ("sign:u,", "expected sign:u"),
        ("permutation:u", "expected permutation:u,w"),
        ("permutation:u,w;v", "expected permutation:u,w"),
        ("rescal:u:1", "unknown symmetry 'rescal': did you mean 'rescale'?"),
        ("mirror:u", "unknown symmetry 'mirror': known are generator, layers, permutation, rescale"),
        ("", "unknown symmetry ''"),
    ],
)
def test_symmetries_that_cannot_be_read_are_refused(text, expected):
    with pytest.raises(InputError, match=re.escape(expected)):
        Symmetry.parse(text)


def test_discrete_symmetries():
    """The image of a loss under them is the loss; where it is not, the change is shown."""
    assert Symmetry.parse("permutation:u[0],u[1];w[0],w[1]").image == {
        "u[0]": "u[1]", "u[1]": "u[0]", "w[0]": "w[1]", "w[1]": "w[0]"
    }  # fmt: skip
    parts = ("sign:u,w", "permutation:u,w")
    loss = Loss("(u*w*z)**2 + u**2 + w**2 + u*w", ("u", "w"), {}, Z, {}, tuple(map(Symmetry.parse, parts)))
    assert loss.charges == {}
    with pytest.raises(InputError, match=r"under it the loss of a sample changes by .*2\*u\*w"):
        Loss("u*w + u**2*w**2", ("u", "w"), {}, {}, {}, (Symmetry.parse("sign:u"),))
    with pytest.raises(InputError, match="under it the loss of a sample changes"):
        Loss("u**2 + 2*w**2", ("u", "w"), {}, {}, {}, (Symmetry.parse("permutation:u,w"),))


def test_charges():
    """Their gradient is the generator; a rotation has none, and two symmetries of one name are numbered."""
    texts = ("rescale:u:1,w:-1", "rescale:a:2,b:-1", "translation:z")
    loss = Loss("u*w + a*b**2 + z - z", ("u", "w", "a", "b", "z"), symmetries=tuple(map(Symmetry.parse, texts)))
    u, w, a, b, z = loss.theta
    assert loss.charges == {"rescale": u**2 / 2 - w**2 / 2, "rescale_2": a**2 - b**2 / 2, "translation": z}
    assert Loss("u**2 + v**2", ("u", "v"), symmetries=(Symmetry.parse("rotation:u,v"),)).charges == {}


def test_common_symmetries():
    assert Symmetry.parse("rescale: u : 2, w : -1") == Symmetry("rescale", {"u": "2*u", "w": "-1*w"})
    assert Symmetry.parse("scale:w") == Symmetry("scale", {"w": "w"})
    assert Symmetry.parse("rotation:u,v") == Symmetry("rotation", {"u": "-v", "v": "u"})
    assert Symmetry.parse("translation:z") == Symmetry("translation", {"z": "1"})


def test_expectations_over_few_cases():
    """Of what is not polynomial: exact sums over discrete noise and over rows, and what is left stays with moments."""
    noise = {"y": Noise.parse("rademacher"), "k": Noise.parse("table:1@0.25,2@0.75"), "z": Noise.parse("normal:0.5,1")}
    loss = Loss("softplus(-y*w*k) + z*w", ("w",), noise=noise)
    w = loss.theta[0]
    expected = sum(
        p * loss.expression.subs({loss.symbols["y"]: y, loss.symbols["k"]: k, loss.symbols["z"]: sympy.Rational(1, 2)})
        for y in (-1, 1)
        for k, p in ((1, sympy.Rational(1, 8)), (2, sympy.Rational(3, 8)))
    )
    assert sympy.expand(loss.population - expected) == 0
    rows = Data({"x": (1.0, -1.0, 3.0), "y": (0.0, 1.0, 1.0)})
    over = Loss("exp(x*w)*y*b", ("w",), noise={"b": Noise.parse("bernoulli:0.25")}, data=rows)
    w = over.theta[0]
    assert sympy.expand(over.population - (sympy.exp(-w) + sympy.exp(3 * w)) / 12) == 0
    with pytest.raises(InputError, match="no closed form"):
        _ = Loss("exp(z*w)", ("w",), noise={"z": noise["z"]}).population


def test_moments_of_rows_are_joint():
    """E x y is not E x E y, and a polynomial of them is exact."""
    loss = Loss("(w*x - y)**2/2 + s*w", ("w",), {"s": 1.0}, data=Data({"x": (1.0, 2.0), "y": (0.1, 0.4)}))
    w, s = loss.theta[0], loss.symbols["s"]
    assert (
        sympy.expand(loss.population - (w**2 * 5 / 4 - w * sympy.Rational(9, 20) + sympy.Rational(17, 400) + s * w))
        == 0
    )


def test_names_of_the_step_cannot_be_taken():
    """`gradient(u)` is read as a name of its own, which no user can have; names that merely look like it are free."""
    for name in ("next__u", "gradient__u", "population_gradient__u", "charge__s"):
        with pytest.raises(InputError, match="is reserved"):
            Loss("u*k", ("u",), {name: 1.0})
    loss = Loss("u**2/2 + 0*next_u", ("u",), {"next_u": 7.0, "gradient_u": 3.0})
    assert not Observable.parse("o", "window_mean(next_u*u, 0, 2)").is_of_step(loss)
    assert Observable.parse("o", "window_mean(next(u)*u, 0, 2)").is_of_step(loss)
    assert str(loss.expand("gradient_u + population_gradient(u)")) == "gradient_u + u"


def test_the_charge_of_an_affine_generator():
    """Its gradient is the generator; one whose matrix is not symmetric, or that is not affine, has none."""
    generator = {"u": "2*u + w + 3", "w": "u + k", "v": "k*v"}
    loss = Loss("0*u*w*v", ("u", "w", "v"), {"k": 5.0}, symmetries=(Symmetry("s", generator),))
    (charge,) = loss.charges.values()
    given = loss.directions(loss.symmetries[0])
    assert [sympy.expand(charge.diff(symbol) - given[symbol.name]) for symbol in loss.theta] == [0, 0, 0]
    for other in ({"u": "w"}, {"u": "w", "w": "2*u"}, {"u": "u**2"}, {"u": "u*w", "w": "u**2/2"}):
        assert Loss("0*u*w", ("u", "w"), symmetries=(Symmetry("s", other),)).charges == {}


def test_charges_are_made_for_a_formula_that_speaks_of_one(monkeypatch):
    loss = Loss("u*w", ("u", "w"), symmetries=(Symmetry.parse("rescale:u:1,w:-1"),))
    made = []
    monkeypatch.setattr(Symmetry, "charge", lambda *_: made.append(1))
    loss.expand("loss + u")
    assert not made
    with pytest.raises(InputError, match="unknown name"):
        loss.expand("charge(rescale)")
    assert made


def test_charges_of_numbered_names_do_not_meet():
    one, other = {"u": "u", "w": "-w"}, {"a": "a", "b": "-b"}
    symmetries = (Symmetry("s_2", one), Symmetry("s", other), Symmetry("s", one))
    loss = Loss("u*w + a*b", ("u", "w", "a", "b"), symmetries=symmetries)
    assert list(loss.charges) == ["s_2", "s", "s_3"]


def test_vectors_of_constants_are_in_order():
    with pytest.raises(InputError, match=r"constants c\[1\], c\[0\]"):
        Loss("(x - c[0])**2/2", ("x",), {"c[1]": 5.0, "c[0]": 3.0})


@pytest.mark.parametrize(
    ("formula", "expected"),
    [("(x**2 + y**2 + 2*v**2)/2", 2.0), ("(2*x**2 + 2*y**2 + v**2)/2", 2.0), ("x**2 + y**2 + v**2", 2.0)],
)
def test_the_largest_eigenvalue_where_others_are_equal(formula, expected):
    loss = Loss(formula, ("x", "y", "v"))
    assert float(loss.quantity("hessian_max")) == pytest.approx(expected, abs=1e-12)


def test_constant_exponents_that_are_whole_are_numbers():
    """By themselves, in definitions, in vectors, and made of several; others stay what they are."""
    definitions: dict[str, Any] = {"n": "2*mu"}
    whole = Loss("x**n/2 + x**mu", ("x",), {"mu": 2.0}, definitions=definitions)
    x, mu = whole.symbols["x"], whole.symbols["mu"]
    assert whole.expression == x**4 / 2 + x**2
    assert whole.gradient == (2 * x**3 + 2 * x,)
    assert whole.expand("x**(n - 1)*mu") == mu * x**3
    assert Loss("x**n", ("x",), {"mu": 1.25}, definitions=definitions).expression == x ** (2 * mu)
    vector = Loss("sum(w**c)", ("w[0]", "w[1]"), {"c[0]": 2.0, "c[1]": 2.5})
    assert str(vector.expression) == "w[0]**2 + w[1]**c[1]"
    assert str(Loss("x**(y*mu)", ("x", "y"), {"mu": 2.0}).expression) == "x**(mu*y)"
    assert str(Loss("x**mu", ("x",), {"mu": 65.0}).expression) == "x**mu"
    symmetry = Symmetry("turn", {"u": "w**k", "w": "-u**k"})
    assert Loss("(u**2 + w**2)**p", ("u", "w"), {"k": 1.0, "p": 1.5}, symmetries=(symmetry,)).charges == {}


def test_the_slope_of_a_power_has_a_value_at_zero():
    loss = Loss("x**p + abs(x)**p", ("x",), {"p": 2.5})
    assert "/x" not in str(loss.gradient[0])
    at_zero = loss.gradient[0].subs({loss.symbols["p"]: 2.5}).subs({loss.symbols["x"]: 0})
    assert at_zero == 0
    assert loss.hessian[0].subs({loss.symbols["p"]: 2.5}).subs({loss.symbols["x"]: 0}) == 0


@pytest.mark.parametrize(
    ("formula", "unsafe"),
    [
        ("x**p", ["x**p"]),
        ("x**1.5", ["x**(3/2)"]),
        ("sqrt(x - z)", ["sqrt(x - z)"]),
        ("log(x)*y", ["log(x)"]),
        ("x**q + x**2/2", []),
        ("sqrt(x**2 + y**2) + abs(x)**p + (exp(x) + y**2)**p", []),
        ("x**2*a**p/a", []),
    ],
)
def test_roots_of_what_may_become_negative(formula, unsafe):
    loss = Loss(formula, ("x", "y"), {"p": 1.5, "q": 4.0, "a": 2.0}, {"z": Noise.parse("normal")})
    assert list(map(str, loss.unsafe)) == unsafe


@pytest.mark.parametrize(
    ("formula", "partial"),
    [("x**p", True), ("x**q/2 + x/a + sqrt(a)", False), ("1/x", True), ("a/(1 + x**2)", True), ("x**-2", True)],
)
def test_what_may_have_no_value(formula, partial):
    assert Loss(formula, ("x",), {"p": 1.5, "q": 4.0, "a": 2.0}).is_partial is partial
