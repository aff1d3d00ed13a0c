"""Ourselves: the whole step, and its parts alone."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
from numba import njit

from benchmarks.jobs import Job
from benchmarks.peers import Models, Simulate, State
from benchmarks.peers.our_losses import LOSSES, POLYNOMIALS, noiseless_river_valley, optimizer
from sgdsim.kernels.accumulators import Accumulators
from sgdsim.kernels.layout import table
from sgdsim.kernels.workers import Workers
from sgdsim.model.loss import Loss
from sgdsim.model.losses.river_valley import river_valley
from sgdsim.model.observables import Observable
from sgdsim.model.recorder import Recorder
from sgdsim.model.run import Run
from sgdsim.model.schedules import Schedule
from sgdsim.simulation.result_arrays import allocate
from sgdsim.simulation.simulator import Simulator

# Beside the two parameters: four in all.
OBSERVABLES = Observable("thermal", "a*x**2/2"), Observable("river", "c")
LOSS_OBSERVABLES = Observable("product", "u*w"), Observable("difference", "u**2 - w**2")


def _noisy(job: Job) -> Loss:
    return river_valley(constants=job.constants)


def simulator(
    job: Job, threads: int, loss: Loss, recorder: Recorder | None = None, dtype: str = "float64"
) -> Simulator:
    """Simulator of a job with a loss; without a recorder it records nothing but the end."""
    schedule = Schedule(repr(job.learning_rate))
    size = job.trajectories, job.steps
    run = Run(loss, optimizer(job), schedule, job.initial, *size, 1, recorder or Recorder(), dtype)
    return Simulator(run, workers=Workers(threads))


def whole_step(make_loss: Callable[[Job], Loss], recorder: Recorder, dtype: str, job: Job, threads: int) -> Simulate:
    """Simulation as in `sgdsim.simulate`, between arguments and result, with the test for divergence."""
    loss = make_loss(job)
    ours = simulator(job, threads, loss, recorder, dtype)

    def simulate() -> State:
        into = Accumulators(*(array[0] for array in vars(allocate([ours.run])).values()))
        states = []
        for block in ours.blocks():
            for _ in ours.spans(block, into):
                pass
            states.append(ours.final_state(block))
        final = np.concatenate(states, axis=1)
        return dict(zip(loss.parameters, final[:, : job.trajectories], strict=False)) if loss.random else {}

    return simulate


def noise_alone(job: Job, threads: int) -> Simulate:
    """The deviates of the same tiles and steps, drawn and thrown away."""
    executor: Any = simulator(job, threads, _noisy(job)).executor
    fill, stream, layout = executor.kernel.draw, executor.kernel.GRADIENT_NOISE, executor.layout
    rows, stride, lanes = layout.draws.rows, layout.draws.steps_a_draw, layout.program.lanes
    lines, shift = table(layout.draws), stride // 2

    @njit  # type: ignore[untyped-decorator]
    def draw(tiles: int, steps: int, key: np.uint32) -> float:
        deviates, words = np.empty(rows * lanes, np.float32), np.empty(4 * lanes, np.uint32)
        last = 0.0
        for tile in range(tiles):
            for step in range(0, steps, stride):
                fill(lines, stream, step >> shift, deviates, words, tile * lanes, (key, key, 0, -1))
            last += deviates[0]
        return last

    def simulate() -> State:
        draw(-(-job.trajectories // lanes), job.steps, np.uint32(1))
        return {}

    return simulate


def _recording(observables: tuple[Observable, ...]) -> Recorder:
    return Recorder(every=100, observables=observables)


_OFF = Recorder()
_STEP = partial(whole_step, _noisy, _OFF)

MODELS: Models = {
    "river_valley": {
        "float64": partial(_STEP, "float64"),
        "float32": partial(_STEP, "float32"),
        "noise alone": noise_alone,
        "noise off": partial(whole_step, noiseless_river_valley, _OFF, "float64"),
        "recording": partial(whole_step, _noisy, _recording(OBSERVABLES), "float64"),
    },
    **{
        model: {
            "float64": partial(whole_step, make_loss, _OFF, "float64"),
            "float32": partial(whole_step, make_loss, _OFF, "float32"),
            "recording": partial(whole_step, make_loss, _recording(LOSS_OBSERVABLES), "float64"),
            **(
                {"polynomial": partial(whole_step, POLYNOMIALS[model], _OFF, "float64")} if model in POLYNOMIALS else {}
            ),
        }
        for model, make_loss in LOSSES.items()
    },
}
