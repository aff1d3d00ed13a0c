"""Ourselves on a GPU, through `sgdsim.simulate` alone."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from benchmarks.jobs import Job
from benchmarks.peers import Models, State
from benchmarks.peers.our_losses import LOSSES, noiseless_river_valley, optimizer
from sgdsim import bench
from sgdsim.loss import Loss
from sgdsim.losses.river_valley import river_valley
from sgdsim.simulation import simulate


def gpu() -> str:
    """Its name."""
    from numba import cuda

    if not cuda.is_available():
        raise RuntimeError("numba finds no GPU")
    name = cuda.get_current_device().name
    return name.decode() if isinstance(name, bytes) else str(name)


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


LOSSES_OF: dict[str, dict[str, Callable[[Job], Loss]]] = {
    "river_valley": {
        "": lambda job: river_valley(constants=job.constants),
        "noise summed, ": lambda job: bench.noise_summed(job.constants["sigma"]),
        "noise off, ": noiseless_river_valley,
    },
    **{model: {"": make_loss} for model, make_loss in LOSSES.items()},
}
MODELS: Models = {
    model: {
        f"{part}{dtype}": partial(Run, make_loss, dtype)
        for part, make_loss in parts.items()
        for dtype in ("float32", "float64")
    }
    for model, parts in LOSSES_OF.items()
}
