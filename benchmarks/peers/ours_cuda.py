"""Ourselves on a GPU, through `sgdsim.simulate` alone."""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np

from benchmarks.jobs import Job
from benchmarks.peers import State
from benchmarks.peers.our_losses import LOSSES, noiseless_river_valley, optimizer
from sgdsim.app.simulate import simulate
from sgdsim.model import run as described
from sgdsim.model.loss import Loss
from sgdsim.model.losses.river_valley import river_valley
from sgdsim.model.optimizers import Optimizer
from sgdsim.model.schedules import Schedule
from sgdsim.simulation.simulator import Simulator


def gpu() -> str:
    """Its name.

    Raises
    ------
    RunError
        Where there is none.
    """
    from sgdsim.kernels.gpu import select

    return select(0)


class Run:
    """A job; the state that it returns is the last record, a mean and a variance with their errors for each parameter.

    Attributes
    ----------
    seconds
        Of the last call by the run's own clock: kernels ready, from the initial state to the results on this side.
    """

    def __init__(self, make_loss: Callable[[Job], Loss], dtype: str, job: Job, threads: int) -> None:
        self.seconds = 0.0
        self._loss, self._dtype, self._job = make_loss(job), dtype, job

    def __call__(self) -> State:
        job, loss = self._job, self._loss
        ensemble = simulate(
            loss,
            optimizer(job),
            learning_rate=job.learning_rate,
            initial={name: job.initial[name] for name in loss.parameters},
            trajectories=job.trajectories,
            steps=job.steps,
            seed=1,
            dtype=self._dtype,
            device="cuda",
        )
        self.seconds = float(ensemble.attributes["wall_seconds"])
        return {
            f"{kind}({name})": (float(ensemble[kind][-1, i]), float(ensemble[f"{kind}_stderr"][-1, i]))
            for i, name in enumerate(loss.parameters)
            for kind in ("mean", "variance")
        }


class NoiseAlone:
    """The deviates of the same trajectories and steps, drawn by the same function and thrown away.

    Attributes
    ----------
    seconds
        Of the last call, on the device.
    """

    def __init__(self, dtype: str, job: Job, threads: int) -> None:
        from numba import cuda

        self.seconds = 0.0
        schedule, start = Schedule(repr(job.learning_rate)), job.initial
        size = job.trajectories, job.steps
        run = described.Run(river_valley(constants=job.constants), Optimizer(), schedule, start, *size, dtype=dtype)
        kernel: Any = Simulator(run, device="cuda").kernel
        draw_deviates, rows, width = kernel.step_deviates, kernel.HELD_DEVIATE_ROWS, kernel.NOISE
        stride, self._tile, self._job = kernel.STEPS_A_DRAW, kernel.TILE, job

        @cuda.jit  # type: ignore[untyped-decorator]
        def draw(steps: int, key: np.uint32, results: Any) -> None:
            deviates, words = cuda.local.array(rows, width), cuda.local.array(4, np.uint32)
            total = width(0.0)
            for step in range(0, steps, stride):
                draw_deviates(None, deviates, words, cuda.grid(1), step, (key, key, 0, -1))
                for row in range(rows):
                    total += deviates[row]
            if total == width(0.123456789):  # never, for all the compiler knows sometimes: nothing is optimised away
                results[0] = total

        self._draw, self._results = draw, cuda.device_array(1, width)

    def __call__(self) -> State:
        from numba import cuda

        began = time.perf_counter()
        self._draw[-(-self._job.trajectories // self._tile), self._tile](self._job.steps, np.uint32(1), self._results)
        cuda.synchronize()
        self.seconds = time.perf_counter() - began
        return {}


LOSSES_OF: dict[str, dict[str, Callable[[Job], Loss]]] = {
    "river_valley": {
        "": lambda job: river_valley(constants=job.constants),
        "noise off, ": noiseless_river_valley,
    },
    **{model: {"": make_loss} for model, make_loss in LOSSES.items()},
}
MODELS: dict[str, dict[str, Any]] = {
    model: {
        f"{part}{dtype}": partial(Run, make_loss, dtype)
        for part, make_loss in parts.items()
        for dtype in ("float32", "float64")
    }
    for model, parts in LOSSES_OF.items()
}
MODELS["river_valley"] |= {f"noise alone, {dtype}": partial(NoiseAlone, dtype) for dtype in ("float32", "float64")}
