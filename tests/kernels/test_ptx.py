"""The CUDA kernels of the catalogue as assembled for sm_80 and sm_90, with no GPU: registers, spills, widths.

`make test-ptx` installs what that takes, 0.6 GB of compilers.
"""

from __future__ import annotations

import contextlib
import re
import types
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from typing import Any
from unittest import mock

import pytest

from sgdsim.formulas.vectors import coordinates
from sgdsim.kernels import cache as kernels
from sgdsim.kernels.program import Program
from sgdsim.model.data import SAMPLINGS, Data
from sgdsim.model.loss import Loss
from sgdsim.model.losses import CATALOGUE
from sgdsim.model.noise import Noise
from sgdsim.model.observables import Observable
from sgdsim.model.optimizers import Optimizer
from tests.conftest import OF_NUMBERS, needed

linker = pytest.importorskip("cuda.bindings.nvjitlink", reason="needs the extra ptx: make test-ptx")
numba_cuda = pytest.importorskip("numba_cuda", reason="needs the extra ptx: make test-ptx")

pytestmark = pytest.mark.validate

ARCHITECTURES = (8, 0), (9, 0)
NORMAL = Noise.parse("normal")
MOST_REGISTERS = 128  # of up to 16 parameters: two blocks of 256 threads on a multiprocessor, at the least


@contextlib.contextmanager
def offline(architecture: tuple[int, int]) -> Iterator[None]:
    """A device that says what it can do and nothing else: compilers ask for that alone."""
    from numba.cuda import compiler, dispatcher

    device = types.SimpleNamespace(compute_capability=architecture, id=0)
    with contextlib.ExitStack() as stack:
        for module in (compiler, dispatcher):
            stack.enter_context(mock.patch.object(module, "get_current_device", return_value=device))
        yield


def array(dtype: Any, axes: int) -> Any:
    from numba import types

    return types.Array(dtype, axes, "C")


def advance_types(program: Program) -> Any:
    """Types of the arguments of `advance`, as `Gpu` passes them."""
    from numba import types as t

    real, index, double, word = getattr(t, program.dtype), t.int64, t.float64, t.uint32
    drift = t.Tuple((array(double, 1), array(index, 1), array(index, 2), array(index, 2)))
    place = (index,) * 5 + (word, word, index)
    inputs = array(real, 2), array(real, 1), array(index, 2), array(index, 1), array(double, 1), array(real, 1)
    plans = array(index, 1), drift, array(index, 1)
    sinks = array(double, 3), array(real, 3), array(real, 2), array(index, 2), array(real, 3)
    return t.void(*place, *inputs, *plans, *sinks, array(real, 2), array(real, 2))


@dataclass(frozen=True)
class Assembled:
    """Registers, spilled bytes and float64 instructions of a kernel, from the assembler."""

    registers: int
    spilled: int
    wide: int  # instructions of float64


@cache
def assembled(loss: str, optimizer: str, dtype: str, architecture: tuple[int, int], running: bool = False) -> Assembled:
    model = CATALOGUE[loss]()
    observables = (Observable.parse("average", f"window_mean({model.parameters[0]}, 0, 4)"),) if running else ()
    values = needed(optimizer)
    start = dict.fromkeys(model.parameters, 0.5)
    return assembled_advance(Program(model, Optimizer(optimizer, values), start, observables, dtype), architecture)


def assembled_advance(program: Program, architecture: tuple[int, int] = (9, 0)) -> Assembled:
    """The kernel that steps."""
    from numba import cuda

    module = kernels.load(program, "cuda")
    with offline(architecture):
        ptx, _ = cuda.compile_ptx(module.advance.py_func, advance_types(program), cc=architecture)
    return report(ptx, architecture)


def assembled_start(program: Program) -> Assembled:
    """The kernel that draws where trajectories start."""
    from numba import cuda
    from numba import types as t

    module, words = kernels.load(program, "cuda"), (t.uint32, t.uint32)
    real, double = getattr(t, program.dtype), t.float64
    arguments = (
        t.int64,
        t.int64,
        array(double, 1),
        array(t.int64, 1),
        *words,
        t.int64,
        array(real, 2),
        array(t.int64, 2),
    )
    with offline((9, 0)):
        ptx, _ = cuda.compile_ptx(module.initialize.py_func, t.void(*arguments), cc=(9, 0))
    return report(ptx, (9, 0))


def report(ptx: str, architecture: tuple[int, int]) -> Assembled:
    """Assemble a text."""
    name = f"sm_{architecture[0]}{architecture[1]}"
    handle = linker.create(2, [f"-arch={name}", "-verbose"])
    data = ptx.encode()
    linker.add_data(handle, linker.InputType.PTX, data, len(data), "kernel")
    linker.complete(handle)
    log = bytearray(linker.get_info_log_size(handle))
    linker.get_info_log(handle, log)
    said = log.decode()
    registers = max(int(found) for found in re.findall(r"Used (\d+) registers", said))
    spilled = sum(int(found) for found in re.findall(r"(\d+) bytes spill", said))
    return Assembled(registers, spilled, len(re.findall(r"\.f64", ptx)))


@pytest.mark.parametrize("architecture", ARCHITECTURES, ids=lambda one: f"sm_{one[0]}{one[1]}")
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("loss", CATALOGUE)
def test_losses_of_the_catalogue_stay_in_registers(loss, dtype, architecture):
    found = assembled(loss, "sgd", dtype, architecture)
    if len(CATALOGUE[loss]().parameters) <= 16:
        assert found.spilled == 0
        assert found.registers <= MOST_REGISTERS
    if dtype == "float32" and loss not in WIDE:
        assert found.wide == 0


# Their deviates are drawn from 64 bits, as float64: exponential, Laplace and Student-t tails would end early.
WIDE = frozenset(
    name
    for name, make in CATALOGUE.items()
    if any("v" in "".join(noise.law.deviates) for noise in make().noise.values())
)


@pytest.mark.parametrize("optimizer", [name for name in OF_NUMBERS if name != "sgd"])
def test_optimizers_stay_in_registers_and_narrow(optimizer):
    found = assembled("rescaling", optimizer, "float32", (9, 0))
    assert found.spilled == found.wide == 0
    assert found.registers <= MOST_REGISTERS


def test_float64_is_seen_where_there_is_some():
    """The control: float64 states, and the share of a step in a running mean."""
    assert assembled("river_valley", "sgd", "float64", (9, 0)).wide > 0
    assert assembled("river_valley", "sgd", "float32", (9, 0), running=True).wide > 0


ROWS = Data({"x": (1.0, -1.0, 0.5, 2.0), "y": (2.0, 0.0, 1.0, -1.0)})
FIT = Loss("(u*x - y)**2/2", ("u",), data=ROWS)
VALLEY = CATALOGUE["river_valley"]()
MANY = Loss("norm2(x)/2 + dot(x, xi)", coordinates("x", 80), noise=dict.fromkeys(coordinates("xi", 80), NORMAL))
FEATURES = {
    "a batch": (Program(VALLEY, Optimizer(batch_size=4), {"x": 0.0, "y": 0.0}), True),
    "drifts": (Program(VALLEY, Optimizer(), {"x": 0.0, "y": 0.0}, drifts=True), True),
    "antithetic": (Program(VALLEY, Optimizer(), {"x": 0.0, "y": 0.0}, antithetic=True), True),
    "wide deviates": (Program(VALLEY, Optimizer(), {"x": 0.0, "y": 0.0}, noise_dtype="float64"), True),
    "random starts": (Program(VALLEY, Optimizer(), {"x": NORMAL, "y": Noise.parse("uniform:-1,1")}), True),
    **{
        f"rows by {sampling}": (Program(FIT, Optimizer(batch_size=2, sampling=sampling), {"u": 0.0}), True)
        for sampling in SAMPLINGS
    },
    # Beyond what registers hold, the state is in global memory; the deviates of a step are the thread's own.
    "many variables": (Program(MANY, Optimizer(), dict.fromkeys(MANY.parameters, 0.0)), False),
}


@pytest.mark.parametrize("feature", FEATURES)
def test_features_are_assembled(feature):
    program, narrow = FEATURES[feature]
    found, start = assembled_advance(program), assembled_start(program)
    if narrow:
        assert found.spilled == start.spilled == 0
        assert found.registers <= MOST_REGISTERS


def test_what_measures_is_assembled():
    """The kernels beside `advance`, whose types do not depend on the loss."""
    from numba import cuda
    from numba import types as t

    program = Program(CATALOGUE["river_valley"](), Optimizer(), {"x": 0.0, "y": 0.0})
    module = kernels.load(program, "cuda")
    double, index, word = t.float64, t.int64, t.uint32
    plan = (double, 1), (index, 1), (index, 1), (index, 2), (double, 1), (index, 1), (index, 1), (index, 2)
    plan_type = t.Tuple([array(*one) for one in plan])
    four, counts = array(double, 4), array(word, 3)
    signatures = {
        "measure": (index, index, index, array(double, 3), plan_type, four, counts, four, counts),
        "merge": (index, index, four, four, four, four),
        "clear": (array(double, 1),),
    }
    for name, arguments in signatures.items():
        with offline((9, 0)):
            ptx, _ = cuda.compile_ptx(getattr(module, name).py_func, t.void(*arguments), cc=(9, 0))
        assert report(ptx, (9, 0)).spilled == 0, name
