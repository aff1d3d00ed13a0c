"""The elementary functions and deviates against mpmath, in plain Python and compiled, and that their loops are SIMD."""

from __future__ import annotations

import functools
import math
import re
from collections.abc import Callable
from typing import Any

import llvmlite.binding as llvm
import mpmath
import numpy as np
import pytest
from numba import njit
from numpy.typing import NDArray

from sgdsim.kernels import elementary
from sgdsim.kernels.fused import fused
from sgdsim.kernels.pasted import scalar_functions
from sgdsim.kernels.source import header
from tests.samples import daily

Array = NDArray[Any]

# Bounds in ulp, read from the table that users read.
BOUNDS = {
    f"{name}{bits}": float(bound)
    for name, *bounds in re.findall(r"(?m)^(\w+) +(\d\.\d) +(\d\.\d)$", elementary.__doc__ or "")
    for bits, bound in zip(("64", "32"), bounds, strict=True)
}
DTYPES: dict[str, Any] = {"64": np.float64, "32": np.float32}
WIDE: dict[str, Any] = {"64": np.longdouble, "32": np.float64}
SIMPLE = [f"{name}{bits}" for name in ("relu", "step", "sign") for bits in DTYPES]
NORMALS = ["box_muller32", "box_muller64"]
DEVIATES = ["uniform32", "uniform64", *NORMALS]
UNARY = sorted(name for name in BOUNDS if not name.startswith("power"))

# Same function for mpmath numbers and for arrays of a wider type.
EXACT: dict[str, Callable[[Any], Any]] = {
    "sigmoid": lambda x: 1 / (1 + mpmath.exp(-x)),
    "tanh_slope": lambda x: mpmath.sech(x) ** 2,
    "softplus": lambda x: mpmath.log1p(mpmath.exp(x)),
}
WIDER: dict[str, Callable[[Array], Array]] = {
    "atan": np.arctan,
    "sigmoid": lambda x: 1 / (1 + np.exp(-x)),
    "tanh_slope": lambda x: 1 / np.cosh(x) ** 2,
    "softplus": lambda x: np.maximum(x, 0) + np.log1p(np.exp(-abs(x))),
}


def _exact(name: str) -> Callable[[Any], Any]:
    return EXACT.get(name) or getattr(mpmath, name)


def _wider(name: str) -> Callable[[Array], Array]:
    return WIDER.get(name) or getattr(np, name)


@functools.cache
def _module(target: str) -> dict[str, Any]:
    """The namespace of a generated module that has all the functions."""
    namespace: dict[str, Any] = {"np": np, "math": math}
    exec(header(target) + fused(scalar_functions("elementary.py", [*BOUNDS, *SIMPLE, *DEVIATES])), namespace)
    return namespace


def _lane_loop(function: Callable[..., None]) -> Any:
    """Compiled as lane loops are, but for Python to call."""
    return njit(**_module("cpu")["_options"])(function)


@functools.cache
def _loop(name: str) -> Any:
    """A compiled loop over arrays, with the inputs before the outputs."""
    namespace = _module("cpu")
    n = namespace[name].py_func.__code__.co_argcount
    inputs = [f"x{i}" for i in range(n)]
    outputs = ["y0", "y1"] if name.startswith("box") else ["y0"]
    lines = [
        f"def loop({', '.join(inputs + outputs)}):",
        "    for i in range(x0.size):",
        f"        {', '.join(f'{y}[i]' for y in outputs)} = {name}({', '.join(f'{x}[i]' for x in inputs)})",
    ]
    exec("\n".join(lines), namespace)
    return _lane_loop(namespace.pop("loop"))


def _compiled(name: str, *x: Array) -> Array:
    out = np.empty(x[0].size, DTYPES[name[-2:]])
    _loop(name)(*x, out)
    return out


def _plain(name: str, *x: Array) -> Array:
    function = _module("python")[name]
    values = [function(*row) for row in zip(*x, strict=True)]
    assert {type(value) for value in values} == {DTYPES[name[-2:]]}
    return np.array(values)


def _ulps(got: Array, high: Array, low: Array | float) -> Array:
    """Distance of the results from high + low, in units of the last place of the result."""
    spacing = np.spacing(abs(high).astype(got.dtype)).astype(np.float64)
    return np.asarray(abs((got.astype(np.float64) - high) - low) / spacing)


def _pair(exact: list[Any]) -> tuple[Array, Array]:
    high = np.array([float(value) for value in exact])
    return high, np.array([float(value - float(value)) for value in exact])


def _range(name: str, bits: str) -> tuple[float, float]:
    """Range in which the function is defined, finite and not constant."""
    largest = float(np.finfo(DTYPES[bits]).max)
    log = math.log(largest)
    trigonometric = 1e6 if bits == "64" else 1e5
    return {
        "exp": (-1.05 * log, log),
        "expm1": (-40.0, log),
        "log": (0.0, largest),
        "log1p": (-1.0, largest),
        "tanh": (-22.0, 22.0),
        "tanh_slope": (-340.0, 340.0) if bits == "64" else (-42.0, 42.0),
        "sinh": (-log - 0.69, log + 0.69),
        "cosh": (-log - 0.69, log + 0.69),
        "sigmoid": (-1.05 * log, 40.0),
        "softplus": (-1.05 * log, 40.0),
        "sin": (-trigonometric, trigonometric),
        "cos": (-trigonometric, trigonometric),
        "tan": (-trigonometric, trigonometric),
        "atan": (-largest, largest),
        "erf": (-6.5, 6.5),
    }[name]


def _sample(name: str, bits: str, n: int) -> Array:
    """Points over the whole range, near 0 and 1, and on a logarithmic scale of both signs."""
    rng = np.random.default_rng(n)
    dtype = DTYPES[bits]
    low, high = _range(name, bits)
    smallest = math.log10(float(np.finfo(dtype).smallest_subnormal))
    magnitudes = 10 ** rng.uniform(smallest, math.log10(high), n)
    parts = [
        rng.uniform(max(low, -1e4 if name == "atan" else low), min(high, 1e4 if name == "atan" else high), n),
        rng.uniform(-2, 2, n),
        rng.uniform(0.3, 0.5, n),
        1 + 10 ** rng.uniform(-16, -1, n) * rng.choice([-1, 1], n),
        magnitudes,
        -magnitudes,
    ]
    x = np.concatenate(parts).astype(dtype)
    return x[(x > low) & (x < high)]


def _breakpoints(name: str, bits: str) -> Array:
    """The neighbours of every point where the text of a function changes its branch."""
    dtype = DTYPES[bits]
    low, high = _range(name, bits)
    k = np.concatenate([np.arange(-40, 41), np.linspace(-1070, 1023, 101).round()])
    reduction = (k + 0.5) * math.log(2)
    points = {
        "log": 2.0 ** (k[abs(k) < 1022] + 0.5),
        "log1p": 2.0 ** (k[abs(k) < 1022] + 0.5) - 1,
        "sinh": np.append(reduction, [-1.0, 1.0]),
        "tanh": np.append(reduction / 2, [-20.0, 20.0]),
        "tanh_slope": reduction / 2,
        "sin": np.arange(-300, 300) * (math.pi / 4),
        "cos": np.arange(-300, 300) * (math.pi / 4),
        "tan": np.arange(-300, 300) * (math.pi / 4),
        "atan": np.array([-2.0, -0.5, 0.5, 2.0]),
        "erf": np.array([-6.0, -4.0, 4.0, 6.0]),
    }.get(name, reduction)
    with np.errstate(over="ignore"):
        x = points.astype(dtype)
    x = np.concatenate([x, np.nextafter(x, dtype(np.inf)), np.nextafter(x, dtype(-np.inf))])
    return x[(x > low) & (x < high)]


@pytest.fixture(autouse=True)
def _precision() -> Any:
    with mpmath.workprec(160):
        yield


COMPILED = ("exp32", "exp64", "log32", "log64", "sin32", "erf64", "tanh64")
"""Those that are compiled alone every day, in a third of a second each.

Plain Python runs the same text of all, and `test_source` compiles all in one kernel.
"""


@pytest.mark.parametrize("name", daily(UNARY, *COMPILED))
def test_error_against_mpmath(name: str) -> None:
    function, bits = name[:-2], name[-2:]
    x = np.concatenate([_sample(function, bits, 100), _breakpoints(function, bits)])
    high, low = _pair([_exact(function)(mpmath.mpf(float(value))) for value in x])
    with np.errstate(under="ignore"):
        assert _ulps(_compiled(name, x), high, low).max() <= BOUNDS[name]
    every = np.random.default_rng(0).permutation(x.size)[:300]
    with np.errstate(all="raise", under="ignore"):
        plain = _plain(name, x[every])
    with np.errstate(under="ignore"):
        assert _ulps(plain, high[every], low[every]).max() <= BOUNDS[name]


@pytest.mark.parametrize("name", daily([name for name in UNARY if not name.startswith("erf")], "exp64", "log32"))
def test_error_against_wider_type(name: str) -> None:
    function, bits = name[:-2], name[-2:]
    if np.finfo(WIDE[bits]).nmant < np.finfo(DTYPES[bits]).nmant + 8:
        pytest.skip("long double is no wider than double here")
    x = _sample(function, bits, 20_000)
    with np.errstate(under="ignore", over="ignore"):
        wide = _wider(function)(x.astype(WIDE[bits]))
        high = wide.astype(np.float64)
        low = (wide - high).astype(np.float64)
        assert _ulps(_compiled(name, x), high, low).max() <= BOUNDS[name]
        few = slice(None, None, 20)
        np.testing.assert_array_equal(_plain(name, x[few]), _compiled(name, x)[few])


@pytest.mark.parametrize("bits", daily(["64", "32"], "64"))
def test_error_of_power(bits: str) -> None:
    rng = np.random.default_rng(1)
    n, dtype = 300, DTYPES[bits]
    limit = math.log(np.finfo(dtype).max)
    x = np.concatenate([
        10 ** rng.uniform(-3, 3, n),
        10 ** rng.uniform(math.log10(np.finfo(dtype).smallest_subnormal), math.log10(np.finfo(dtype).max), n),
        1 + 10 ** rng.uniform(-12 if bits == "64" else -6, -1, n) * rng.choice([-1, 1], n),
        2.0 ** (rng.integers(-20, 20, n) + 0.5),
    ]).astype(dtype)  # fmt: skip
    # Half of the exponents lead close to overflow and underflow.
    y = rng.uniform(-1, 1, x.size) * np.where(np.arange(x.size) % 2, limit, 5) / abs(np.log(x.astype(np.float64)))
    y = y.astype(dtype)
    high, low = _pair([mpmath.power(float(a), float(b)) for a, b in zip(x, y, strict=True)])
    with np.errstate(under="ignore"):
        assert _ulps(_compiled(f"power{bits}", x, y), high, low).max() <= BOUNDS[f"power{bits}"]
        plain = _plain(f"power{bits}", x[::7], y[::7])
        assert _ulps(plain, high[::7], low[::7]).max() <= BOUNDS[f"power{bits}"]


def _assert_same(got: Array, expected: Array) -> None:
    """Equal to rounding; NaN, infinities and zeros with their signs."""
    np.testing.assert_allclose(got, expected, rtol=8 * np.finfo(got.dtype).eps)
    zero = expected == 0
    np.testing.assert_array_equal(np.signbit(got[zero]), np.signbit(expected[zero]))


def _special_values(name: str) -> tuple[Array, Array]:
    """Infinities, zeros, subnormal numbers and the like, and the function of them."""
    function, bits = name[:-2], name[-2:]
    info = np.finfo(DTYPES[bits])
    x = np.array([np.inf, -np.inf, np.nan, 0.0, -0.0, 1.0, -1.0, 0.5], info.dtype)
    x = np.append(x, [info.smallest_subnormal, -info.smallest_subnormal, info.tiny])
    if function not in ("sin", "cos", "tan"):
        x = np.append(x, [info.max, info.min])
    with np.errstate(all="ignore"):
        if function == "erf":
            expected = np.array([math.erf(value) for value in x])
        else:
            expected = _wider(function)(x.astype(WIDE[bits]))
        return x, expected.astype(info.dtype)


@pytest.mark.parametrize("name", UNARY)
def test_special_values(name: str) -> None:
    x, expected = _special_values(name)
    with np.errstate(all="ignore"):
        _assert_same(_plain(name, x), expected)


@pytest.mark.parametrize("name", daily(UNARY, *COMPILED))
def test_special_values_of_compiled_functions(name: str) -> None:
    x, expected = _special_values(name)
    _assert_same(_compiled(name, x), expected)


@pytest.mark.parametrize(("name", "largest"), [("exp64", 709.782712893384), ("exp32", 88.72283)])
def test_overflow_and_gradual_underflow(name: str, largest: float) -> None:
    info = np.finfo(DTYPES[name[-2:]])
    smallest = math.log(info.smallest_subnormal)
    x = np.array([largest, smallest * 0.99999], info.dtype)
    beyond = np.array([np.nextafter(x[0], info.max), smallest - 0.7], info.dtype)
    assert np.isfinite(_compiled(name, x)).all()
    assert _compiled(name, x)[1] == info.smallest_subnormal
    np.testing.assert_array_equal(_compiled(name, beyond), [np.inf, 0.0])


@pytest.mark.parametrize("bits", daily(["64", "32"], "64"))
def test_special_values_of_power(bits: str) -> None:
    dtype = DTYPES[bits]
    digits = np.finfo(dtype).nmant
    positive = [0.0, 1.0, 0.5, 2.0, 3.0, 2.5, 1e30, 1e-30, np.inf, 2.0**digits + 1, 2.0 ** (digits + 1) + 2]
    values = np.array([*positive, *(-value for value in positive), np.nan], dtype)
    x, y = (grid.ravel() for grid in np.meshgrid(values, values))
    with np.errstate(all="ignore"):
        expected = np.power(x, y)
        _assert_same(_compiled(f"power{bits}", x, y), expected)
        _assert_same(_plain(f"power{bits}", x, y), expected)


@pytest.mark.parametrize("name", daily(["sin64", "cos64", "sin32", "cos32"], "sin32", "cos64"))
def test_large_arguments(name: str) -> None:
    info = np.finfo(DTYPES[name[-2:]])
    end = 2.0**50 if name.endswith("64") else 2.0**21
    x = (10 ** np.random.default_rng(3).uniform(5, math.log10(end), 1000)).astype(info.dtype)
    exact = np.array([float(_exact(name[:-2])(mpmath.mpf(float(value)))) for value in x])
    assert (abs(_compiled(name, x) - exact) <= abs(x) * info.eps + 2 * info.eps).all()
    assert (abs(_compiled(name, np.array([end, 2 * end, info.max, info.min], info.dtype))) <= 1).all()


ODD = [f"{name}{bits}" for name in ("sin", "tan", "sinh", "tanh", "atan", "erf") for bits in DTYPES]


@pytest.mark.parametrize("name", daily(ODD, "sin32", "tanh64", "erf64"))
def test_odd_functions_are_odd_to_the_bit(name: str) -> None:
    x = _sample(name[:-2], name[-2:], 1000)
    np.testing.assert_array_equal(_compiled(name, -x), -_compiled(name, x))


@pytest.mark.parametrize("bits", ["64", "32"])
def test_functions_by_pieces(bits: str) -> None:
    x = np.array([-np.inf, -2.0, -0.0, 0.0, 3.0, np.inf, np.nan], DTYPES[bits])
    for evaluate in (_compiled, _plain):
        np.testing.assert_array_equal(evaluate(f"relu{bits}", x), [0, 0, 0, 0, 3, np.inf, np.nan])
        np.testing.assert_array_equal(evaluate(f"step{bits}", x), [0, 0, 0, 0, 1, 1, np.nan])
        np.testing.assert_array_equal(evaluate(f"sign{bits}", x), [-1, -1, 0, 0, 1, 1, np.nan])


EDGES = [0, 1, 2, 0x1FFFFFFF, 0x20000000, 0x3FFFFFFF, 0x40000000, 0x7FFFFFFF, 0x80000000, 0xE0000000]
EDGES += [0xBFFFFFFF, 0xC0000000, 0xFFFFFFFE, 0xFFFFFFFF]


def _words(count: int) -> list[Array]:
    """Random words, and all combinations of edges (of low and high word, where two words make a number)."""
    random = np.random.default_rng(4).integers(0, 2**32, (count, 300), dtype=np.uint32)
    numbers = [[word] for word in EDGES]
    if count == 4:
        numbers = [[low, high] for high in EDGES for low in (0, 0xFFFFFFFF)]
    edges = [[*a, *b] for a in numbers for b in numbers]
    return list(np.concatenate([random, np.array(edges, np.uint32).T[:count]], axis=1))


@pytest.mark.parametrize(("name", "words", "half_step"), [("uniform32", 1, 2.0**-24), ("uniform64", 2, 2.0**-53)])
def test_uniforms(name: str, words: int, half_step: float) -> None:
    w = _words(words)
    u = _compiled(name, *w)
    assert u.tobytes() == _plain(name, *w).tobytes()
    assert u.min() == half_step
    assert u.max() == 1 - half_step
    np.testing.assert_array_equal(_compiled(name, *(~word for word in w)), 1 - u)
    np.testing.assert_allclose(u.astype(np.float64), w[-1] * 2.0**-32, atol=2 * half_step + 2.0**-32 * (words - 1))


def _exact_normals(words: list[int]) -> list[Any]:
    """Radius and angle from all bits of the first and second half of the words, the low word first."""
    bits = 16 * len(words)
    first, second = (
        sum(word << 32 * i for i, word in enumerate(half))
        for half in (words[: len(words) // 2], words[len(words) // 2 :])
    )
    scale = mpmath.mpf(2) ** bits
    radius = mpmath.sqrt(-2 * mpmath.log1p(-(scale - first - 0.5) / scale))
    within = ((second << 2) + 2) % 2**bits
    within -= (within >> (bits - 1)) << bits
    angle = mpmath.pi / 4 + mpmath.pi / 2 * within / scale
    signs = [1 - 2 * ((second >> (bits - 1 - i)) & 1) for i in range(2)]
    return [signs[0] * radius * mpmath.cos(angle), signs[1] * radius * mpmath.sin(angle), radius]


@pytest.mark.parametrize(("name", "words", "bound"), [("box_muller32", 2, 3e-7), ("box_muller64", 4, 6e-16)])
def test_normals(name: str, words: int, bound: float) -> None:
    w = _words(words)
    z = np.empty((2, w[0].size), DTYPES[name[-2:]])
    _loop(name)(*w, *z)
    exact = np.array([[float(v) for v in _exact_normals([int(x) for x in row])] for row in zip(*w, strict=True)])
    assert (abs(z - exact.T[:2]) <= bound * exact.T[2]).all()
    function = _module("python")[name]
    with np.errstate(all="raise"):
        plain = np.array([function(*row) for row in zip(*w, strict=True)])
    assert plain.dtype == z.dtype
    assert (abs(plain - exact[:, :2]) <= bound * exact[:, 2:]).all()
    # All bits of the radius are used, at both ends.
    bits = 16 * words
    radius = np.hypot(*z.astype(np.float64))
    assert abs(z).max() == pytest.approx(math.sqrt(2 * (bits + 1) * math.log(2)), rel=1e-6)
    assert radius.min() == pytest.approx(2.0 ** (-bits / 2), rel=1e-6)


@pytest.mark.skipif(not llvm.get_host_cpu_features().get("fma"), reason="counts AVX instructions")
@pytest.mark.parametrize("name", daily([*BOUNDS, *SIMPLE, *NORMALS], *COMPILED, *SIMPLE, *NORMALS, "power64"))
def test_loops_are_simd(name: str) -> None:
    bits = name[-2:]
    if name.startswith("box"):
        _loop(name)(*_words(2 if bits == "32" else 4), *np.empty((2, 2000), DTYPES[bits]))
    else:
        _compiled(name, *np.ones((2 if name.startswith("power") else 1, 8), DTYPES[bits]))
    _assert_simd(_loop(name))


def test_a_library_call_is_not_simd() -> None:
    namespace = {"exp": math.exp}
    exec("def loop(x, y):\n    for i in range(x.size):\n        y[i] = exp(x[i]) * x[i] + 1.0", namespace)
    loop = _lane_loop(namespace["loop"])
    loop(np.ones(8), np.ones(8))
    with pytest.raises(AssertionError):
        _assert_simd(loop)


def _assert_simd(loop: Any) -> None:
    (text,) = loop.inspect_asm().values()
    arithmetic = r"(?m)^\s+v(?:fn?m\w+|add|sub|mul|max|min|cmp\w*|and\w*)p[sd]\s.*%[yz]mm"
    assert re.findall(arithmetic, text)
    # Scalar copies of the loop remain for a remainder and for overlapping arrays, one of them unrolled: three on Zen 3
    # beside one of vectors. A vector loop that does a part of its work lane by lane has eight or more a copy.
    fma = r"(?m)^\s+vfn?m\w+%s\s"
    assert 3 * len(re.findall(fma % "p[sd]", text)) >= len(re.findall(fma % "s[sd]", text))
    (text,) = loop.inspect_llvm().values()
    assert not re.findall(r"call \w+ @(?:llvm\.)?(?:exp|log|sin|cos|tan|pow|erf)\w*", text)
