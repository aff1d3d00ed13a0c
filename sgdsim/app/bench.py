"""A quick measurement of the speed of this installation, which ``sgdsim bench`` prints.

The reference job is the river valley with additive noise on the gradient of x: two parameters, and one normal number in
each step. NumPy does the same in the same rounds, vectorised over trajectories. ``benchmarks/``, beside the package,
compares more jobs with more programs, and checks first that they simulate the same.
"""

from __future__ import annotations

import os
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from sgdsim.app.simulate import simulate
from sgdsim.base.errors import InputError
from sgdsim.model.loss import Loss
from sgdsim.model.losses.river_valley import river_valley
from sgdsim.model.noise import Noise
from sgdsim.simulation.devices import Device

CONSTANTS = {"a0": 1.0, "k": 0.5, "c2": 0.1, "sigma": 1.0}
LEARNING_RATE = 0.1
START = {"x": 0.5, "y": 1.0}
ROUNDS = 5
NUMPY_STEPS = 20
_OF_NOISE = "(1: all is noise; the bar of make bench, 1.6, has noise thrown away)"


@dataclass(frozen=True)
class Size:
    """Numbers of trajectories and steps of a timed run."""

    trajectories: int
    steps: int


SIZES = {"cpu": Size(65_536, 1000), "cuda": Size(4_194_304, 10_000)}


def noise_summed(sigma: float = 1.0) -> Loss:
    """Loss whose step only adds the random number of the reference job to x, to time the random numbers.

    Examples
    --------
    >>> noise_summed().gradient
    (sigma*xi,)
    """
    return Loss("sigma*xi*x", ("x",), {"sigma": sigma}, {"xi": Noise.parse("normal")}, name="noise_summed")


def measure(device: str = "cpu", size: Size | None = None, rounds: int = ROUNDS) -> dict[str, list[float]]:
    """Seconds of one trajectory-step in each round, by the name of the timed program.

    Parameters
    ----------
    device
        ``cpu``, ``cuda``, or ``cuda:1`` for the second GPU.
    size
        Size of the timed runs; by default all together take a second or two.
    rounds
        Number of rounds. Each round times every program once, so that other load slows all alike.

    Raises
    ------
    InputError
        For an unknown device.
    RunError
        If there is no such device.
    """
    target = Device.parse(device).target
    if target not in SIZES:
        raise InputError(f"--device: {device!r}, expected cpu, cuda, or cuda:N: one device is timed")
    size = size or SIZES[target]
    reference = river_valley(constants=CONSTANTS)
    timed: dict[str, Callable[[], float]] = {
        "float64": lambda: _seconds(reference, device, size, "float64"),
        "float32": lambda: _seconds(reference, device, size, "float32"),
        "noise summed": lambda: _seconds(noise_summed(), device, size, "float64" if target == "cpu" else "float32"),
    }
    if target == "cpu" and (threads := _processors()) > 1:
        timed[f"float64, {threads} threads"] = lambda: _seconds(reference, device, size, "float64", threads)
    timed["NumPy, float64"] = lambda: _numpy_seconds(min(size.trajectories, SIZES["cpu"].trajectories))
    for run in timed.values():  # the first run compiles
        run()
    found: dict[str, list[float]] = {name: [] for name in timed}
    for _ in range(rounds):
        for name, run in timed.items():
            found[name].append(run())
    return found


def report(found: dict[str, list[float]], device: str = "cpu") -> str:
    """Text of a table with medians, ranges and the most important ratios.

    Examples
    --------
    >>> print(report({"float64": [1e-9], "float32": [8e-10], "noise summed": [8e-10], "NumPy, float64": [2e-8]}))
    On the CPU...
    float64         1.00 ns (1.00 to 1.00)  1.00e+09 trajectory-steps/s
    float32         0.80 ns (0.80 to 0.80)  1.25e+09 trajectory-steps/s
    noise summed    0.80 ns (0.80 to 0.80)  1.25e+09 trajectory-steps/s
    NumPy, float64 20.00 ns (20.00 to 20.00)  5.00e+07 trajectory-steps/s
    NumPy float64 / ours float64: 20 (the bar is 11)
    full step / noise drawn and summed: 1.25 (1: all is noise; the bar of make bench, 1.6, has noise thrown away)
    """
    full, bar = ("float64", " (the bar is 11)") if device == "cpu" else ("float32", "")
    width = max(map(len, found))
    lines = [f"On {_where(device)}; median of {len(found[full])} rounds, and their range:"]
    for name, seconds in found.items():
        middle, low, high = (1e9 * value for value in (statistics.median(seconds), min(seconds), max(seconds)))
        digits = 2 if device == "cpu" else 5
        span = f"{middle:{digits + 3}.{digits}f} ns ({low:.{digits}f} to {high:.{digits}f})"
        lines.append(f"{name:{width}} {span}  {1e9 / middle:.2e} trajectory-steps/s")
    lines += [
        f"NumPy float64 / ours float64: {_ratio(found['NumPy, float64'], found['float64']):.3g}{bar}",
        f"full step / noise drawn and summed: {_ratio(found[full], found['noise summed']):.3g} {_OF_NOISE}",
    ]
    lines += [
        f"speed on {name.split(', ')[1]} / on 1: {_ratio(found['float64'], found[name]):.3g}"
        for name in found
        if name.endswith("threads")
    ]
    return "\n".join(lines)


def _seconds(loss: Loss, device: str, size: Size, dtype: str, threads: int = 1) -> float:
    """Seconds of a trajectory-step, by the run's own clock, without the time to compile."""
    where: dict[str, Any] = {"threads": threads} if device == "cpu" else {"device": device}
    ensemble = simulate(
        loss,
        learning_rate=LEARNING_RATE,
        initial={name: START[name] for name in loss.parameters},
        trajectories=size.trajectories,
        steps=size.steps,
        dtype=dtype,
        **where,
    )
    return float(ensemble.attributes["wall_seconds"]) / (size.trajectories * size.steps)


def _numpy_seconds(trajectories: int) -> float:
    """Seconds of a trajectory-step in NumPy."""
    a0, k, c2, sigma = CONSTANTS.values()
    rng = np.random.default_rng(1)
    x, y = np.full(trajectories, START["x"]), np.full(trajectories, START["y"])
    began = time.perf_counter()
    for _ in range(NUMPY_STEPS):
        xi = rng.standard_normal(trajectories)
        gradient_x = a0 * (1 + k * y * y) * x + sigma * xi
        gradient_y = c2 * y + a0 * k * y * x * x
        x -= LEARNING_RATE * gradient_x
        y -= LEARNING_RATE * gradient_y
    return (time.perf_counter() - began) / (trajectories * NUMPY_STEPS)


def _ratio(one: list[float], other: list[float]) -> float:
    """Median ratio of two times over the rounds, which a slow round does not change."""
    return statistics.median(a / b for a, b in zip(one, other, strict=True))


def _processors() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _where(device: str) -> str:
    if device != "cpu":
        return f"the GPU, {device}"
    import llvmlite.binding

    return f"the CPU, {llvmlite.binding.get_host_cpu_name()}"
