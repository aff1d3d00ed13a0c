"""Rivers in a valley."""

from __future__ import annotations

from sgdsim.model.losses.river_valley import river_valley
from sgdsim.model.optimizers import Optimizer
from sgdsim.model.recorder import Recorder
from sgdsim.model.run import Run
from sgdsim.model.schedules import Schedule

EXPONENTIAL, PARABOLA = "a0*exp(k*y)", "a0*(1 + k*y**2)"


def make_run(a: str, c: str = "0", rate: float = 0.05, steps: int = 100, every: int | None = None, **options) -> Run:
    start = {"x": options.pop("x", 0.0), "y": options.pop("y", 0.0)}
    optimizer = options.pop("optimizer", Optimizer())
    river_noise = options.pop("river_noise", None)
    recorder = options.pop("recorder", Recorder(every=every))
    constants = {"sigma": 1.0, **options}
    loss = river_valley(a=a, c=c, river_noise=river_noise, constants=constants)
    return Run(loss, optimizer, Schedule(repr(rate)), start, 1000, steps, recorder=recorder)
