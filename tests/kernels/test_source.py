"""Generated modules: what they compute on every target, in which width, and that their loops are SIMD."""

from __future__ import annotations

import math
import platform
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import llvmlite.binding as llvm
import numpy as np
import pytest
import sympy
from numba import config, njit

from sgdsim.formulas.formula import Formula
from sgdsim.formulas.names import FUNCTIONS
from sgdsim.kernels import cache
from sgdsim.kernels.program import Program
from sgdsim.kernels.source import engine, generate
from sgdsim.model.loss import Loss
from sgdsim.model.losses.river_valley import river_valley
from sgdsim.model.noise import Noise
from sgdsim.model.observables import Observable
from sgdsim.model.optimizers import Optimizer
from tests.conftest import RIVER
from tests.kernel_calls import Kernels, from_python


def make_program(loss: Loss, **fields: Any) -> Program:
    return Program(loss, **{"optimizer": Optimizer(), "initial": dict.fromkeys(loss.parameters, 0.0), **fields})


def plain(loss: Loss, lanes: int = 2, **fields: Any) -> Kernels:
    """A program as the python target runs it, with few lanes."""
    return Kernels(make_program(loss, **fields), "python", lanes)


def step(kernels: Kernels, state: np.ndarray, rate: float = 1.0) -> np.ndarray:
    """The state after one step whose deviates are all zero."""
    after = state.ravel().copy()
    deviates = np.zeros(kernels.layout.draws.rows * kernels.lanes, kernels.noise)
    with np.errstate(all="ignore"):
        kernels.update(after, deviates, rate)
    return after.reshape(state.shape)


# One loss with every function of formulas, each of a parameter of its own, and each an observable too.

ONE_ARGUMENT = [name for name, usage in FUNCTIONS.items() if usage == f"{name}(x)"]
TERMS = {f"p{i}": f"{name}(p{i})" for i, name in enumerate(ONE_ARGUMENT)}
TERMS |= {
    "q0": "min(q0, 0.3*q0**2 + 0.1, 0.9)",
    "q1": "max(q1, 0.5, 0.7*q1)",
    "q2": "where(q2 < 0.6, exp(q2), q2*log(q2))",
    "q3": "(q3 + 0.5)**2.5 + 1/q3**3 + k**q3",
    "q4": "norm2(w)*q4 + dot(v, w)*q4**7 + sum(v)/q4",
}
POSITIVE = {"p1", "p2", *(f"q{i}" for i in range(5))}
EVERYTHING = Loss(
    " + ".join(TERMS.values()),
    tuple(TERMS),
    {"k": 1.7},
    definitions={"v": ("q4", "0.5", "k"), "w": ("1", "q4*q4", "-0.3")},
)
OBSERVABLES = tuple(Observable(f"o_{name}", formula) for name, formula in TERMS.items())


def states(program: Program, lanes: int) -> np.ndarray:
    rng = np.random.default_rng(7)
    theta = rng.uniform(0.2, 1.5, (len(TERMS), lanes))
    free = [name not in POSITIVE for name in TERMS]
    theta[free] *= rng.choice([-1, 1], (sum(free), lanes))
    return theta.astype(program.dtype)


@pytest.fixture(scope="module", params=["float64", pytest.param("float32", marks=pytest.mark.validate)])
def everything(request: pytest.FixtureRequest) -> Program:
    return make_program(EVERYTHING, observables=OBSERVABLES, dtype=request.param)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A cache of formulas that is empty: assembly can be read only of what this process has compiled itself."""
    path = tmp_path_factory.mktemp("kernels")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(cache, "cache_folder", lambda: path)
        patch.setattr(cache, "_generator_hash", lambda: "read by tests")
        yield path


@pytest.fixture(scope="module")
def compiled(everything: Program, folder: Path) -> Kernels:
    return Kernels(everything, "cpu")


@pytest.fixture(scope="module")
def modules(everything: Program, compiled: Kernels) -> list[Kernels]:
    return [plain(EVERYTHING, observables=OBSERVABLES, dtype=everything.dtype), compiled]


def check_functions(kernels: Kernels) -> None:
    """Every observable is what its formula says."""
    program = kernels.program
    tolerance = 1e-14 if program.dtype == "float64" else 4e-6
    theta = states(program, kernels.lanes)
    values = kernels.observe(theta)
    np.testing.assert_array_equal(values[: len(TERMS)], theta)
    point = dict(zip(TERMS, theta.astype(np.float64), strict=True)) | EVERYTHING.constants
    point["v"] = [point["q4"], 0.5, point["k"]]
    point["w"] = [1.0, point["q4"] ** 2, -0.3]
    for found, formula in zip(values[len(TERMS) :], TERMS.values(), strict=True):
        expected = Formula.parse(formula).evaluate(point)
        np.testing.assert_allclose(found, expected, rtol=tolerance, atol=tolerance, err_msg=formula)


def test_every_function_agrees_with_its_formula(modules):
    for kernels in modules:
        check_functions(kernels)


def test_every_function_agrees_with_its_formula_in_float32():
    """On the plain target by default; to compile all of them once more takes seconds."""
    check_functions(plain(EVERYTHING, observables=OBSERVABLES, dtype="float32"))


def test_every_gradient_agrees_with_sympy(everything, modules):
    """The update's own derivatives, at rate 1 from a noiseless loss, against SymPy's in 30 digits."""
    tolerance = 1e-14 if everything.dtype == "float64" else 4e-6
    constants = {EVERYTHING.symbols["k"]: sympy.Rational(17, 10)}
    for kernels in modules:
        theta = states(everything, kernels.lanes)
        slopes = (theta - step(kernels, theta)).astype(np.float64)
        for i, slope in enumerate(EVERYTHING.gradient):
            for lane in range(min(kernels.lanes, 3)):
                x = float(theta[i, lane])
                exact = float(slope.subs({**constants, EVERYTHING.theta[i]: sympy.Rational(x)}).evalf(30))
                assert slopes[i, lane] == pytest.approx(exact, rel=tolerance, abs=4 * tolerance * max(abs(x), 1))


def test_dead_lanes_show_nan_everywhere(everything, modules):
    for kernels in modules:
        theta = states(everything, kernels.lanes)
        theta[3, 1] = np.nan
        theta[:, 0] = np.inf
        values = kernels.observe(theta)
        assert np.isnan(values[:, :2]).all()
        assert np.isfinite(values[:, 2:]).all()
        assert from_python(kernels.engine.count_outside)(theta.ravel()) == 1 + len(theta)


def test_targets_differ_by_their_header_alone():
    program = make_program(river_valley(constants=RIVER))
    for texts in zip(
        *((generate(program, target), engine("float64", "float32", target)) for target in ("python", "cpu")),
        strict=True,
    ):
        one, other = (text[text.index("REAL, COUNT,") :] for text in texts)
        assert one == other


def test_observables_of_a_window_are_accumulated():
    """The share of a step is added with its weight to the variable behind the parameters."""
    observables = (Observable("a", "x", (0, 4)), Observable("u", "x*y"), Observable("b", "exp(y)", (2, 4)))
    kernels = plain(Loss("x*y", ("x", "y")), observables=observables)
    state = np.array([[0.5, -1.0], [2.0, 0.25], [1.0, 0.0], [0.0, 0.0], [0.0, 3.0], [0.0, 0.0]])
    flat = state.ravel().copy()
    for running in range(2):
        kernels.accumulate(flat, running, 0.25)
    expected = state.copy()
    expected[2] += 0.25 * state[0]
    expected[4] += 0.25 * np.exp(state[1])
    excess = [3, 5]  # what rounding added too much
    found = flat.reshape(6, 2)
    np.testing.assert_allclose(np.delete(found, excess, 0), np.delete(expected, excess, 0), rtol=1e-15)
    assert np.abs(found[excess]).max() < 1e-15
    np.testing.assert_allclose(kernels.observe(expected)[2:], [expected[2], state[0] * state[1], expected[4]])


@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_sums_do_not_lose_what_rounding_takes(dtype):
    """Ten thousand times a share far below the last digit of the sum; adding it up plainly moves nothing."""
    observables = (Observable("total", "x", (0, 1), "sum"),)
    kernels = plain(Loss("x", ("x",)), lanes=1, observables=observables, dtype=dtype)
    tiny = np.finfo(dtype).eps / 8
    state = np.array([tiny, 1.0, 0.0], dtype)
    for _ in range(10_000):
        kernels.accumulate(state, 0, 1.0)
    assert state[1] - 1.0 == pytest.approx(10_000 * tiny, rel=1e-3)


# Names: a loss may use any that the generated text uses itself.

SQUARES = "({0}**2 + {1})**2*({0}**2 + {1} + 1)**3 + exp({0}**2 + {1})*{2}"


@pytest.mark.parametrize(
    "names",
    [
        ("t_0", "t_1", "t_2"),
        pytest.param(("s_1", "s_0", "c_0"), marks=pytest.mark.validate),
        pytest.param(("state", "lane", "constants"), marks=pytest.mark.validate),
        pytest.param(("LANES", "REAL", "np"), marks=pytest.mark.validate),
        pytest.param(("gradient", "theta", "learning_rate"), marks=pytest.mark.validate),
        pytest.param(("offset", "deviates", "math"), marks=pytest.mark.validate),
        ("exp64", "E", "I"),
        pytest.param(("S", "N", "beta"), marks=pytest.mark.validate),
        pytest.param(("loss", "velocity", "weight_decay"), marks=pytest.mark.validate),
        ("θ", "λ_1", "量"),
    ],
)
def test_names_of_a_loss_do_not_meet_those_of_the_text(names):
    """As the same loss in other names, with momentum and weight decay: their names too."""
    optimizer = Optimizer("momentum", {"weight_decay": 0.3, "momentum": 0.5}, batch_size=2)
    found = []
    for x, y, k in (names, ("x", "y", "k")):
        loss = Loss(SQUARES.format(x, y, k) + " + zz*" + x, (x, y), {k: 0.7}, {"zz": Noise.parse("normal:0,0.1")})
        kernels = plain(loss, optimizer=optimizer, observables=(Observable("u", SQUARES.format(x, y, k)),))
        state = np.array([[0.3, -0.2], [0.4, 0.1], [0.05, 0.0], [0.0, -0.02]])
        found.append((step(kernels, state, 0.125), kernels.observe(state)))
    for one, other in zip(*found, strict=True):
        np.testing.assert_array_equal(one, other)


def test_a_constant_called_learning_rate_is_the_loss_s_own():
    kernels = plain(Loss("learning_rate*x**2/2", ("x",), {"learning_rate": 3.0}))
    np.testing.assert_array_equal(step(kernels, np.array([[1.0, -2.0]]), 0.5), [[-0.5, 1.0]])


@pytest.mark.parametrize("target", ["python", "cpu"])
def test_a_loss_without_noise_is_gradient_descent(target):
    kernels = Kernels(make_program(Loss("x**2*y", ("x", "y"))), target)
    state = np.tile([[0.5], [1.5]], kernels.lanes)
    assert kernels.step_deviates(0, 0, (np.uint32(0), np.uint32(0))).size == 0
    np.testing.assert_allclose(step(kernels, state, 0.1)[:, 0], [0.5 - 0.1 * 1.5, 1.5 - 0.1 * 0.25])


# SIMD.

x86 = pytest.mark.skipif(platform.machine() not in ("x86_64", "AMD64"), reason="reads x86 assembly")
_ARITHMETIC = r"(?:add|sub|mul|div|sqrt|min|max|and|cmp\w*?|fn?m(?:add|sub)\d+)"


def body(kernels: Kernels, name: str) -> str:
    """The assembly of a compiled function alone, without wrappers."""
    if name in FORMULAS:
        text = getattr(kernels.formula, name)._library.get_asm_str()
    else:
        return assembly_of(getattr(kernels.engine, name))
    return first_function(text)


def assembly_of(function: Any) -> str:
    """Likewise of one that Python calls."""
    (text,) = function.inspect_asm().values()
    return first_function(text)


def first_function(text: str) -> str:
    """The first function in an assembly that is none of the wrappers."""
    start = re.search(r"(?m)^(_ZN(?!7cpython)[^:\s]+):$", text)
    assert start is not None
    return text[start.end() : text.index(f"\t.size\t{start[1]}", start.end())]


def registers() -> str:
    """Those of vectors as wide as the processor's."""
    avx = llvm.get_host_cpu_features().get("avx") and config.CPU_NAME != "generic"
    return "%[yz]mm" if avx else "%xmm"


def packed(text: str) -> int:
    """Instructions that compute with vectors."""
    return len(re.findall(rf"(?m)^\s+v?{_ARITHMETIC}p[sd]\s.*{registers()}", text))


def scalar(text: str) -> int:
    return len(re.findall(rf"(?m)^\s+v?{_ARITHMETIC}s[sd]\s", text))


def is_simd(text: str) -> bool:
    """Vectors, and no call that would hide a scalar one; a scalar copy of the loop is for arrays that overlap."""
    return packed(text) > 0 and 2 * packed(text) >= scalar(text) and "call" not in text


def run_all(kernels: Kernels) -> None:
    """Call, and so compile, every lane loop."""
    state = np.full((kernels.program.n_variables, kernels.lanes), 0.5, kernels.real)
    kernels.step_deviates(0, 0, (np.uint32(0), np.uint32(0)))
    step(kernels, state)
    kernels.observe(state)
    from_python(kernels.engine.count_outside)(state.ravel())


FORMULAS = ["update", "observe"]
LOOPS = [*FORMULAS, "normals32", "uniforms32", "count_outside"]
SIMD_PROGRAMS = {
    "reference": lambda: make_program(
        river_valley(constants=RIVER), observables=(Observable("u", "a*x**2/2"), Observable("l", "loss"))
    ),
    "exp and tanh in float32, batch of 3": lambda: make_program(
        Loss(
            "tanh(k*x*z)*exp(-y**2) + relu(x)*z + s*w*y/3",
            ("x", "y"),
            {"k": 1.5, "s": 0.1},
            {"z": Noise.parse("normal"), "w": Noise.parse("uniform:-1,1")},
        ),
        observables=(Observable("u", "exp(0.1*x)*tanh(y)"), Observable("v", "where(x < y, exp(x), log(1 + y**2))")),
        optimizer=Optimizer(batch_size=3),
        dtype="float32",
    ),
}


@pytest.fixture(scope="module", params=list(SIMD_PROGRAMS))
def simd_kernels(request: pytest.FixtureRequest, folder: Path) -> Kernels:
    kernels = Kernels(SIMD_PROGRAMS[request.param](), "cpu")
    run_all(kernels)
    return kernels


@x86
@pytest.mark.parametrize("name", LOOPS)
def test_loops_are_simd(simd_kernels, name):
    text = body(simd_kernels, name)
    assert is_simd(text), (packed(text), scalar(text), re.findall(r"call.*", text))


@x86
def test_reference_loops_have_the_expected_arithmetic(simd_kernels):
    """An update of two parameters has a handful of operations, a pair of normals ten times as many."""
    assert packed(body(simd_kernels, "update")) >= 10
    assert packed(body(simd_kernels, "normals32")) >= 25
    assert "gather" not in body(simd_kernels, "update")  # the deviates of neighbouring lanes are neighbours


@x86
def test_words_are_drawn_with_vectors(simd_kernels):
    """Two products a round, of ten, for as many lanes as a vector holds; a scalar copy for arrays that overlap."""
    text = body(simd_kernels, "draw_words")
    assert len(re.findall(rf"(?m)^\s+v?pmuludq\s.*{registers()}", text)) >= 20
    assert "call" not in text


@pytest.mark.validate
@x86
def test_loops_with_every_function_are_simd(compiled):
    run_all(compiled)
    for name in ("update", "count_outside", "observe"):
        text = body(compiled, name)
        assert is_simd(text), (name, packed(text), scalar(text), re.findall(r"call.*", text))


@pytest.mark.validate
@x86
def test_loops_over_arrays_are_simd(folder):
    """No scalar arithmetic at all; what is called sets and copies memory."""
    loss = Loss(
        "norm2(B@tanh(A@x) - y)/2",
        ("A[8,8]", "B[3,8]"),
        noise={"x[8]": Noise.parse("normal"), "y[3]": Noise.parse("normal")},
    )
    observables = (Observable("u", "norm2(A)"), Observable("v", "sum(exp(0.1*B))"))
    optimizer = Optimizer("momentum", batch_size=2)
    kernels = Kernels(make_program(loss, observables=observables, optimizer=optimizer, dtype="float32"), "cpu")
    run_all(kernels)
    for name in FORMULAS:
        text = body(kernels, name)
        assert packed(text) > 100
        assert scalar(text) == 0
        assert doubles(text) == 0


def doubles(text: str) -> int:
    """Instructions that compute in float64, or convert from or to it, but for a number that the call is given."""
    return len(re.findall(rf"(?m)^\s+v?(?:(?:{_ARITHMETIC}|cvt\w*2)[ps]d|cvtpd2\w+)\s", text))


@x86
@pytest.mark.parametrize("name", LOOPS)
def test_float32_kernels_have_no_double_arithmetic(simd_kernels, name):
    """A bare 0.5 would widen an operation to float64: half the speed, and two conversions."""
    wide = simd_kernels.real is np.float64 and name in (*FORMULAS, "count_outside")
    assert (doubles(body(simd_kernels, name)) > 0) == wide


@x86
def test_float32_functions_have_no_double_arithmetic(compiled):
    run_all(compiled)
    for name in ("update", "observe", "count_outside"):
        assert (doubles(body(compiled, name)) > 0) == (compiled.real is np.float64)


@x86
def test_scalar_loops_are_recognised(simd_kernels):
    """Controls, compiled in the same way: a call of the C library, and a chain from lane to lane."""
    options, wide, lanes = simd_kernels.engine._options, simd_kernels.engine.wide_vectors, simd_kernels.lanes

    @njit(**options)
    def library(x, y):  # type: ignore[no-untyped-def]
        wide()
        for lane in range(lanes):
            y[lane] = math.exp(x[lane]) * 0.5 + x[lane]

    @njit(**options)
    def chain(x, y):  # type: ignore[no-untyped-def]
        wide()
        for lane in range(1, lanes):
            y[lane] = y[lane - 1] * x[lane] + 0.5

    @njit(**options)
    def branch(x, y):  # type: ignore[no-untyped-def]
        wide()
        for lane in range(lanes):
            if x[lane] > 1e100:
                break
            y[lane] = x[lane] * x[lane]

    @njit(**options)
    def good(x, y):  # type: ignore[no-untyped-def]
        wide()
        for lane in range(lanes):
            y[lane] = x[lane] * x[lane] + 0.5

    found = []
    for function in (library, chain, branch, good):
        function(np.ones(lanes), np.ones(lanes))
        found.append(is_simd(assembly_of(function)))
    assert found == [False, False, False, True]
