"""Simulate millions of independent SGD trajectories and hold them against theory.

Everything a user needs is here and imported on first use, so that ``import sgdsim`` costs nothing.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from sgdsim.base.version import __version__

if TYPE_CHECKING:
    from sgdsim.app.figures import plot_file
    from sgdsim.app.simulate import simulate
    from sgdsim.app.verdicts import compare_file
    from sgdsim.app.workflow import run_scenario
    from sgdsim.base.errors import InputError, RunError, SgdsimError
    from sgdsim.ensemble import Ensemble, Variable, open_parts, to_datatree
    from sgdsim.input.loading import load_scenario
    from sgdsim.input.scenario import Scenario
    from sgdsim.model.data import Data
    from sgdsim.model.loss import Loss
    from sgdsim.model.losses.river_valley import river_valley
    from sgdsim.model.noise import Noise
    from sgdsim.model.observables import Observable
    from sgdsim.model.optimizers import Optimizer
    from sgdsim.model.recorder import Autocorrelation, Drift, Histogram, Plane, Recorder
    from sgdsim.model.run import Run
    from sgdsim.model.schedules import Schedule
    from sgdsim.model.starts import Grid
    from sgdsim.model.states import State
    from sgdsim.model.symmetry import Symmetry
    from sgdsim.prediction import Prediction

_HOMES = {
    "Autocorrelation": "model.recorder",
    "Data": "model.data",
    "Drift": "model.recorder",
    "Ensemble": "ensemble",
    "Grid": "model.starts",
    "Histogram": "model.recorder",
    "InputError": "base.errors",
    "Loss": "model.loss",
    "Noise": "model.noise",
    "Observable": "model.observables",
    "Optimizer": "model.optimizers",
    "Plane": "model.recorder",
    "Prediction": "prediction",
    "Recorder": "model.recorder",
    "Run": "model.run",
    "RunError": "base.errors",
    "Scenario": "input.scenario",
    "Schedule": "model.schedules",
    "SgdsimError": "base.errors",
    "State": "model.states",
    "Symmetry": "model.symmetry",
    "Variable": "ensemble",
    "compare_file": "app.verdicts",
    "load_scenario": "input.loading",
    "open_parts": "ensemble",
    "plot_file": "app.figures",
    "river_valley": "model.losses.river_valley",
    "run_scenario": "app.workflow",
    "simulate": "app.simulate",
    "to_datatree": "ensemble",
}

__all__ = [
    "Autocorrelation",
    "Data",
    "Drift",
    "Ensemble",
    "Grid",
    "Histogram",
    "InputError",
    "Loss",
    "Noise",
    "Observable",
    "Optimizer",
    "Plane",
    "Prediction",
    "Recorder",
    "Run",
    "RunError",
    "Scenario",
    "Schedule",
    "SgdsimError",
    "State",
    "Symmetry",
    "Variable",
    "__version__",
    "compare_file",
    "load_scenario",
    "open_parts",
    "plot_file",
    "river_valley",
    "run_scenario",
    "simulate",
    "to_datatree",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'sgdsim' has no attribute {name!r}")
    value = getattr(importlib.import_module(f"sgdsim.{_HOMES[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
