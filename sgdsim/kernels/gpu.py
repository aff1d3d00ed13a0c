"""Blocks on an NVIDIA GPU: the one module that imports `numba.cuda`, numba's own or that of numba-cuda."""

from __future__ import annotations

import importlib.metadata
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Any

import numpy as np
from numba import config, cuda

from sgdsim.base.errors import InputError, RunError
from sgdsim.kernels import cache
from sgdsim.kernels.accumulators import Accumulators
from sgdsim.kernels.block import Block, Common, first_after
from sgdsim.kernels.program import GROUPS, Program

TARGET = "cudasim" if config.ENABLE_CUDASIM else "cuda"

# Most trajectories of a block: an H100 runs 270,336 threads at once, and more of them hide the end of the last wave.
_MOST_TRAJECTORIES = 2**22
_SHARE_OF_MEMORY = 0.4  # part of the free memory for a block: the last one is still held when the next is made
_MEASURED_BYTES = 2**29  # most bytes of observed values and snapshots before they are measured and fetched
_THREADS = 4 if config.ENABLE_CUDASIM else 128  # threads of a block if they share nothing


class Gpu:
    """The executor that runs blocks on a GPU; see `Executor`.

    Parameters
    ----------
    program, common
        The program, and the data that all blocks share.
    number
        The number of the GPU.

    Raises
    ------
    RunError
        If there is no such GPU, or none at all; the message says what would help.
    """

    def __init__(self, program: Program, common: Common, number: int = 0) -> None:
        self.name = f"cuda, {select(number)}"
        self._program = program
        self._common = common
        self.kernel: Any = cache.load(program, TARGET)
        self._buffers: dict[str, Any] = {}
        plan = common.plan
        with explained():
            shared = common.constants, common.windows, common.ends, common.weight_rows, common.data
            self._fixed = list(map(_to_device, shared))
            self._record_plan, self._drift_plan = (tuple(map(_to_device, one)) for one in (plan.record, plan.drift))
            self._arguments, self._ends = _to_device(common.arguments), _to_device(common.ends)
            self.block_trajectories = self._trajectories_that_fit()

    def notice(self) -> str:
        """An empty message, since all that is compiled belongs to the formula."""
        return ""

    def compile(self, empty: Accumulators) -> None:
        """Compile the kernels, or load them, by running a span of no steps that records its start."""
        table = self._program.step_table(np.ones(1), 0)
        with cache.compiling(), explained():
            self._advance(self.block(0, 1), 0, table, slice(0, 1), slice(0, 0), None)

    def block(self, first_tile: int, tiles: int) -> Block:
        """A block at its start."""
        common, lanes = self._common, self._program.lanes
        with explained():
            state = cuda.device_array((tiles, self._program.n_variables * lanes), self._program.dtype)
            status = _to_device(np.zeros((tiles, lanes), np.int64))
            changes = _to_device(np.zeros((tiles, common.plan.drift_bins, 3)))
            counter = *common.key, common.point
            self.kernel.initialize[tiles, lanes](
                first_tile, common.trajectories, self._arguments, self._ends, *counter, state, status
            )
        return Block(first_tile, 0, state, status, changes)

    def put(self, block: Block, parameter: int, values: np.ndarray) -> None:
        """Give a parameter of every trajectory a value."""
        lanes = self._program.lanes
        with explained():
            state = block.state.copy_to_host()
            state[:, parameter * lanes : (parameter + 1) * lanes] = values
            block.state.copy_to_device(state)

    def restore(self, block: Block, saved: Block) -> None:
        """Copy to a block all that a saved one holds."""
        with explained():
            for field in ("state", "status", "changes"):
                if getattr(saved, field).size:
                    getattr(block, field).copy_to_device(np.ascontiguousarray(getattr(saved, field)))
        block.step = saved.step

    def advance(self, block: Block, stop: int, step_table: np.ndarray, into: Accumulators) -> None:
        """Run a block to a number of completed steps."""
        start, common, substeps = block.step, self._common, self._program.optimizer.substeps
        with explained():
            while block.step < stop:
                part = min(stop, self._end_of_part(block))
                records, snapshots = (
                    slice(first_after(steps, block.step), int(np.searchsorted(steps, part, "right")))
                    for steps in (common.record_steps, common.snapshot_steps)
                )
                table = step_table[(block.step - start) * substeps : (part - start) * substeps]
                self._advance(block, part, table, records, snapshots, into)

    def release(self) -> None:
        """Free the memory that is kept from span to span."""
        self._buffers.clear()

    def fetch(self, array: Any) -> np.ndarray:
        """A field of a block as an array of NumPy."""
        with explained():
            return np.asarray(array.copy_to_host())

    def _advance(
        self, block: Block, stop: int, table: np.ndarray, records: slice, snapshots: slice, into: Accumulators | None
    ) -> None:
        """Run a block, and measure it into some records and snapshots."""
        common, plan, lanes, tiles = self._common, self._common.plan, self._program.lanes, block.tiles
        measured, parameters = len(self._program.observable_names), len(self._program.loss.parameters)
        first_row = block.first_tile * lanes
        rows = min(tiles * lanes, 0 if into is None else max(into.theta.shape[1] - first_row, 0))
        n_records, n_snapshots = records.stop - records.start, snapshots.stop - snapshots.start
        dtype = self._program.dtype
        theta = self._buffer("theta", (n_snapshots, rows, parameters), dtype)
        values = self._buffer("records", (n_records, tiles, measured * lanes), dtype)
        changing = measured * lanes if plan.drift_bins else 0
        self.kernel.advance[tiles, lanes](
            block.first_tile,
            first_row,
            block.step,
            stop,
            common.steps,
            *common.key,
            common.point,
            _to_device(table),
            *self._fixed,
            _to_device(common.record_steps[records]),
            self._drift_plan,
            _to_device(common.snapshot_steps[snapshots]),
            block.changes,
            theta,
            block.state,
            block.status,
            values,
            self._buffer("before", (tiles, changing), dtype),
            self._buffer("after", (tiles, changing), dtype),
        )
        if n_records:
            self._measure(block, values, records, into)
        if n_snapshots and rows and into is not None:
            into.theta[snapshots, first_row : first_row + rows] = theta.copy_to_host()
        cuda.synchronize()
        block.step = stop

    def _measure(self, block: Block, values: Any, records: slice, into: Accumulators | None) -> None:
        """Merge moments and counts of the observed values into those of the groups."""
        plan, tiles, n_records = self._common.plan, block.tiles, len(values)
        measured = len(self._program.observable_names)
        tile_moments = self._cleared("moments", (n_records, tiles, measured, 5))
        tile_comoments = self._cleared("comoments", (n_records, tiles, plan.pairs, 4))
        counts = _to_device(np.zeros((n_records, GROUPS, plan.bins), np.uint32))
        cells = _to_device(np.zeros((n_records, GROUPS, plan.cells), np.uint32))
        place = block.first_tile, GROUPS
        self.kernel.measure[n_records * tiles, self._program.lanes](
            *place, tiles, values, self._record_plan, tile_moments, counts, tile_comoments, cells
        )
        groups = [
            _to_device(np.zeros((0, GROUPS, n, width)) if into is None else getattr(into, field)[records])
            for field, n, width in (("moments", measured, 5), ("comoments", plan.pairs, 4))
        ]
        grid = max(-(-n_records * GROUPS * (measured + plan.pairs) // _THREADS), 1), _THREADS
        self.kernel.merge[grid](*place, tile_moments, tile_comoments, *groups)
        if into is not None:
            into.moments[records], into.comoments[records] = (group.copy_to_host() for group in groups)
            into.counts[records] += counts.copy_to_host()
            into.cells[records] += cells.copy_to_host()

    def _end_of_part(self, block: Block) -> int:
        """The step up to which a block may run before its measured values fill the memory; a multiple of 4."""
        common, program, tiles = self._common, self._program, block.tiles
        a_number = tiles * program.lanes * np.dtype(program.dtype).itemsize
        a_record = len(program.observable_names) * (a_number + tiles * 40) + tiles * common.plan.pairs * 32
        a_record += GROUPS * 4 * (common.plan.bins + common.plan.cells)
        a_snapshot = len(program.loss.parameters) * a_number
        end = common.steps
        for steps, size in ((common.record_steps, a_record), (common.snapshot_steps, a_snapshot)):
            too_many = first_after(steps, block.step) + max(_MEASURED_BYTES // size, 1)
            if too_many < len(steps):
                end = min(end, (int(steps[too_many]) - 1) // 4 * 4)
        return max(end, block.step + 4)

    def _trajectories_that_fit(self) -> int:
        program, plan = self._program, self._common.plan
        measured = len(program.observable_names) * (3 if plan.drift_bins else 1)
        numbers = program.n_variables + measured + len(program.loss.parameters)
        size = numbers * np.dtype(program.dtype).itemsize + 8 + plan.drift_bins * 24 // program.lanes
        most = int(max(_free_memory() - 2 * _MEASURED_BYTES, _MEASURED_BYTES) * _SHARE_OF_MEMORY / size)
        tiles = min(most, _MOST_TRAJECTORIES) * program.weight // program.lanes  # the run divides it by the weight
        return max(tiles // GROUPS * GROUPS, GROUPS) * program.lanes

    def _buffer(self, name: str, shape: tuple[int, ...], dtype: str) -> Any:
        """Memory that is kept from span to span."""
        size = int(np.prod(shape))
        if not size:
            return cuda.device_array(shape, dtype)
        if name not in self._buffers or self._buffers[name].size < size:
            self._buffers.pop(name, None)
            self._buffers[name] = cuda.device_array(size, dtype)
        return self._buffers[name][:size].reshape(shape)

    def _cleared(self, name: str, shape: tuple[int, ...]) -> Any:
        buffer = self._buffer(name, shape, "float64")
        if buffer.size:
            self.kernel.clear[-(-buffer.size // _THREADS), _THREADS](buffer.reshape(buffer.size))
        return buffer


def _to_device(array: np.ndarray) -> Any:
    return cuda.to_device(np.ascontiguousarray(array))


def _free_memory() -> int:
    if config.ENABLE_CUDASIM:
        return 2**26
    return int(cuda.current_context().get_memory_info()[0])


def select(number: int) -> str:
    """Choose a GPU for this thread, and return its name.

    Raises
    ------
    RunError
        If there is no such GPU, or none at all.
    """
    if config.ENABLE_CUDASIM:
        return "simulator"
    from numba.cuda.cudadrv import driver

    with explained():
        if not cuda.is_available():
            raise RunError(f"no GPU can be used: {absence()}")
        refuse_older(_version(driver.driver.get_version()), _toolkit_version())
        found = len(cuda.gpus)
        if number >= found:
            raise RunError(f"--device cuda:{number}: this machine has {found}, cuda:0 to cuda:{found - 1}")
        cuda.select_device(number)
        return _text(cuda.get_current_device().name)


def describe() -> list[str]:
    """Sentences on the front end, the driver, the toolkit, and each GPU with its compute capability and memory.

    Raises
    ------
    RunError
        If there is no GPU.
    """
    said = [f"numba.cuda of {_front_end()}"]
    if config.ENABLE_CUDASIM:
        return [*said, "the simulator of CUDA runs kernels, NUMBA_ENABLE_CUDASIM is set"]
    select(0)
    from numba.cuda.cudadrv import driver

    with explained():
        said.append(f"driver for CUDA {_version(driver.driver.get_version())}")
        said.append(f"toolkit: {_toolkit()}")
        for number, device in enumerate(cuda.gpus):
            with device:
                free, total = cuda.current_context().get_memory_info()
                major, minor = device.compute_capability
                said.append(
                    f"cuda:{number} {_text(device.name)}, compute capability {major}.{minor}, "
                    f"{free / 2**30:.1f} of {total / 2**30:.1f} GiB free"
                )
    return said


def refuse_older(driver: str, toolkit: str) -> None:
    """Refuse a driver of an older major version of CUDA than the toolkit, whose code it cannot run.

    Raises
    ------
    RunError
        For such a driver.

    Examples
    --------
    >>> refuse_older("13.0", "13.2")
    """
    major, needed = (int(version.partition(".")[0] or 0) for version in (driver, toolkit))
    if major < needed:
        raise RunError(
            f"the GPU's driver is for CUDA {driver}, older than the toolkit here, {toolkit}: "
            f"update the driver, or pip install 'numba-cuda[cu{major}]'"
        )


def _toolkit_version() -> str:
    """Version of the compiler that comes as a package; empty if only the system has one, whose version is not known."""
    with suppress(importlib.metadata.PackageNotFoundError):
        return importlib.metadata.version("nvidia-nvvm")
    return ""


def _toolkit() -> str:
    found = []
    for package in ("cuda-bindings", "nvidia-nvvm", "nvidia-nvjitlink"):
        with suppress(importlib.metadata.PackageNotFoundError):
            found.append(f"{package} {importlib.metadata.version(package)}")
    return ", ".join(found) or "that of the system"


def _text(name: bytes | str) -> str:
    return name.decode() if isinstance(name, bytes) else name


def _front_end() -> str:
    try:
        return f"numba-cuda {importlib.metadata.version('numba-cuda')}"
    except importlib.metadata.PackageNotFoundError:
        return f"numba {importlib.metadata.version('numba')}"


def _version(number: Any) -> str:
    return ".".join(map(str, number if isinstance(number, tuple) else divmod(int(number), 1000)))


def absence() -> str:
    """A sentence on why there is no GPU, and on what would help: a driver is not enough without the extra."""
    try:
        importlib.metadata.version("numba-cuda")
    except importlib.metadata.PackageNotFoundError:
        return f"numba-cuda is not installed, pip install 'sgdsim[cuda]', and {_no_device()}"
    return _no_device()


def _no_device() -> str:
    problem = cuda.cuda_error()
    if problem:
        return _remedy(str(problem))
    try:
        devices = len(cuda.gpus)
    except Exception as error:  # the message of the driver is the answer
        return _remedy(str(error))
    if devices:
        return "the compiler of CUDA, NVVM, is missing or not found: pip install 'sgdsim[cuda]'"
    return "a driver answers, but it finds no device; use --device cpu"


_REMEDIES: Sequence[tuple[tuple[str, ...], str]] = (
    (
        ("OUT_OF_MEMORY", "out of memory"),
        "its memory is full: take fewer snapshots or trajectories, or let nothing else run on it",
    ),
    (
        (
            *("UNSUPPORTED_PTX_VERSION", "Unsupported .version", "SYSTEM_DRIVER_MISMATCH", "INSUFFICIENT_DRIVER"),
            *("INVALID_IMAGE", "INVALID_SOURCE", "NO_BINARY_FOR_GPU", "JIT_COMPILER_NOT_FOUND"),
        ),
        "its driver is older than the CUDA toolkit here: update the driver, or install numba-cuda[cu12]",
    ),
    (
        ("LAUNCH_OUT_OF_RESOURCES", "too many resources", "too much local data", "too much shared data"),
        "the kernel of this run needs more registers or memory a thread than it has: use --device cpu",
    ),
    (("NO_DEVICE", "no CUDA-capable device"), "the driver finds no device: see nvidia-smi, or use --device cpu"),
    (
        ("NVVM cannot", "libnvvm", "libNVVM", "libnvrtc", "Failure finding", "libdevice cannot"),
        "the CUDA toolkit is missing or not found: pip install 'sgdsim[cuda]'",
    ),
    (
        ("libcuda", "Error at driver init", "driver library", "CUDA driver"),
        "no NVIDIA driver answers: install one, or use --device cpu",
    ),
)


def _remedy(text: str) -> str:
    said = " ".join(line.strip() for line in text.splitlines() if line.strip().strip("-="))
    for marks, remedy in _REMEDIES:
        if any(mark in said for mark in marks):
            return f"{remedy} ({said})"
    return said


@contextmanager
def explained() -> Iterator[None]:
    """Context that turns errors of the driver and the compiler into one sentence with a remedy."""
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="Grid size")  # few trajectories need not fill a GPU
            yield
    except (RunError, InputError):
        raise
    except Exception as error:
        kind = type(error)
        of_cuda = kind.__module__.split(".")[0] in ("numba", "cuda", "numba_cuda")
        if not of_cuda and kind is not RuntimeError and not isinstance(error, OSError):
            raise
        raise RunError(f"the GPU failed: {_remedy(str(error) or kind.__name__)}") from error
