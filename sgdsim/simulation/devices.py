"""Where an ensemble is simulated: the CPU, a GPU, or whichever ends first."""

from __future__ import annotations

from dataclasses import dataclass
from types import ModuleType

from sgdsim.base import take
from sgdsim.base.errors import InputError, RunError, unknown_name
from sgdsim.kernels.block import Common, Executor
from sgdsim.kernels.host import Host
from sgdsim.kernels.program import Program
from sgdsim.kernels.workers import Workers

DEVICES = ("cpu", "cuda", "auto", "python")


@dataclass(frozen=True)
class Device:
    """Where to simulate.

    Parameters
    ----------
    target
        ``cpu``, ``cuda``, ``auto``, or ``python``: the kernels' text as it stands, slow and easy to step through.
    number
        Which GPU.
    """

    target: str = "cpu"
    number: int = 0

    @classmethod
    def parse(cls, text: str | Device) -> Device:
        """Read ``cuda:1``.

        Raises
        ------
        InputError
            For anything else than a known device, with a number where it is a GPU.

        Examples
        --------
        >>> Device.parse("cuda:1")
        Device(target='cuda', number=1)
        """
        if isinstance(text, Device):
            return text
        target, colon, number = take.text(text, "--device").partition(":")
        if target not in DEVICES:
            raise InputError(f"--device: {unknown_name('device', target, DEVICES)}")
        if colon and not (target == "cuda" and number.isdecimal()):
            raise InputError(f"--device: {text!r}, expected cpu, auto, cuda, or cuda:N with the number of a GPU")
        return cls(target, int(number or 0))

    def __str__(self) -> str:
        return f"cuda:{self.number}" if self.target == "cuda" else self.target


def executor(device: Device, program: Program, common: Common, workers: Workers) -> Executor:
    """What runs the blocks of a program on a device.

    Raises
    ------
    RunError
        If it is a GPU that cannot be used.
    """
    if device.target != "cuda":
        return Host(program, common, device.target, workers)
    gpu: Executor = _gpu().Gpu(program, common, device.number)
    return gpu


# What a process takes to wake a GPU and to load its kernels: an estimate, to be measured where there is one.
_GPU_START_SECONDS = 1.0
# Of a step of two parameters and one deviate, on one thread: measured, see docs/performance.md.
_CPU_SECONDS = 1.3e-9


def choose(device: Device, work: float, threads: int) -> tuple[Device, str]:
    """What ``auto`` means for a run, and why.

    Parameters
    ----------
    device
        Anything but ``auto`` stands.
    work
        Trajectory-steps, each times `Program.weight`.
    threads
        Of the CPU.

    Examples
    --------
    >>> choose(Device("auto"), 1e6, 2)[1]
    'took the CPU, without looking for a GPU: it needs about 0.00065 s, a GPU 1 s to start'
    """
    if device.target != "auto":
        return device, ""
    seconds = work * _CPU_SECONDS / threads
    if seconds < _GPU_START_SECONDS:
        why = f"it needs about {seconds:.2g} s, a GPU {_GPU_START_SECONDS:g} s to start"
        return Device("cpu"), f"took the CPU, without looking for a GPU: {why}"
    try:
        name = _gpu().select(0)
    except RunError as error:
        return Device("cpu"), f"took the CPU, which needs about {seconds:.2g} s: {error}"
    return Device("cuda"), f"took {name}, since the CPU needs about {seconds:.2g} s"


def _gpu() -> ModuleType:
    """The module that speaks to GPUs, imported where one is asked for: it takes a moment, and needs an extra.

    Raises
    ------
    RunError
        If they are missing.
    """
    try:
        from sgdsim.kernels import gpu
    except ImportError as error:
        raise RunError(f"no GPU can be used: {error}; pip install 'sgdsim[cuda]'") from error
    return gpu
