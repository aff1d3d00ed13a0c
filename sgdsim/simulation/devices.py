"""Devices on which an ensemble is simulated: the CPU, a GPU, or the one that should finish first."""

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
    """A device on which to simulate.

    Parameters
    ----------
    target
        ``cpu``, ``cuda``, ``auto``, or ``python``, which runs the kernels without compiling them: slow, but easy to
        step through.
    number
        Number of the GPU.
    """

    target: str = "cpu"
    number: int = 0

    @classmethod
    def parse(cls, text: str | Device) -> Device:
        """Device of a text such as ``cpu`` or ``cuda:1``.

        Raises
        ------
        InputError
            For an unknown device, and for a number without a GPU.

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
    """Executor that runs the blocks of a program on a device.

    Raises
    ------
    RunError
        If the device is a GPU that cannot be used.
    """
    if device.target != "cuda":
        return Host(program, common, device.target, workers)
    gpu: Executor = _gpu().Gpu(program, common, device.number)
    return gpu


# Seconds that a process needs to start a GPU and to load its kernels; an estimate.
_GPU_START_SECONDS = 1.0
# Seconds of a step with two parameters and one random deviate, on one thread; measured, see docs/performance.md.
_CPU_SECONDS = 1.3e-9


def choose(device: Device, work: float, threads: int) -> tuple[Device, str]:
    """The device that is used for a run, and the reason if the device is ``auto``.

    Parameters
    ----------
    device
        The user's device, which is returned as it is unless it is ``auto``.
    work
        Number of trajectory-steps, each multiplied by `Program.weight`.
    threads
        Number of threads of the CPU.

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
    """The module for GPUs. It is imported only when a GPU is asked for, as this takes time and needs extra libraries.

    Raises
    ------
    RunError
        If these libraries are missing.
    """
    try:
        from sgdsim.kernels import gpu
    except ImportError as error:
        raise RunError(f"no GPU can be used: {error}; pip install 'sgdsim[cuda]'") from error
    return gpu
