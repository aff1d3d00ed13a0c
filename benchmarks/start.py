"""A fresh process: up to its first step, a run and its memory, or the kernels of a loss; run by `processes`."""

from __future__ import annotations

import sys
import time
from pathlib import Path

TRAJECTORIES, STEPS = 1_000_000, 20


def first_step() -> None:
    """Imports, scenario, kernel, initial state and four steps."""
    from sgdsim.input.loading import load_scenario
    from sgdsim.kernels.accumulators import Accumulators
    from sgdsim.simulation.result_arrays import allocate
    from sgdsim.simulation.simulator import Simulator

    run = load_scenario("river_valley", {"run.trajectories": 1000}).runs[0]
    simulator = Simulator(run)
    into = Accumulators(*(array[0] for array in vars(allocate([simulator.run])).values()))
    simulator.advance(next(simulator.blocks()), 4, into)


def memory() -> None:
    """Print the bytes that a run with one snapshot takes above what the process held before, its kernel loaded."""
    import sgdsim

    loss = sgdsim.river_valley(constants={"a0": 1.0, "k": 0.5, "c2": 0.1})

    def simulate(trajectories: int) -> None:
        sgdsim.simulate(
            loss, learning_rate=0.1, initial={"x": 0, "y": 1}, trajectories=trajectories, steps=STEPS, snapshots=[STEPS]
        )

    simulate(1000)
    Path("/proc/self/clear_refs").write_text("5", encoding="ascii")  # forget the peak of imports and compilation
    before = _kilobytes("VmRSS")
    simulate(TRAJECTORIES)
    print((_kilobytes("VmHWM") - before) * 1024)


def kernels() -> None:
    """Print the processor seconds that the kernels of a loss take, imports excepted, from its text to machine code."""
    import numba  # noqa: F401
    import sympy  # noqa: F401

    from benchmarks.losses import loss_job
    from benchmarks.peers.our_losses import LOSSES
    from benchmarks.peers.ours import simulator
    from sgdsim.kernels import source  # noqa: F401

    model = sys.argv[2]
    job = loss_job(model, 1000, 96)
    began = time.process_time()
    simulator(job, 1, LOSSES[model](job)).compile()
    print(time.process_time() - began)


def first_call() -> None:
    """Print the processor seconds of the first call of JAX's `vmap` of `grad`, imports excepted, less a second one."""
    from benchmarks.losses import loss_job
    from benchmarks.peers import PEERS

    model = sys.argv[2]
    models, job = PEERS["JAX"].models, loss_job(model, 1000, 96)
    began = time.process_time()
    simulate = models[model]["vmap of grad, float32"](job, 1)
    simulate()
    first, began = time.process_time() - began, time.process_time()
    simulate()
    print(first - (time.process_time() - began))


def _kilobytes(field: str) -> int:
    status = Path("/proc/self/status").read_text(encoding="ascii")
    return next(int(line.split()[1]) for line in status.splitlines() if line.startswith(f"{field}:"))


if __name__ == "__main__":
    {"first_step": first_step, "memory": memory, "kernels": kernels, "first_call": first_call}[sys.argv[1]]()
