"""Simulate millions of independent SGD trajectories and hold them against theory.

Everything a user needs is here and imported on first use, so that ``import sgdsim`` costs nothing.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sgdsim.data import Data
    from sgdsim.ensemble import Ensemble, Variable
    from sgdsim.errors import InputError, RunError, SgdsimError
    from sgdsim.loss import Loss
    from sgdsim.losses.river_valley import river_valley
    from sgdsim.noise import Noise
    from sgdsim.observables import Observable
    from sgdsim.optimizers import Optimizer
    from sgdsim.run import Autocorrelation, Drift, Histogram, Plane, Recorder, Run
    from sgdsim.scenario import Scenario
    from sgdsim.schedules import Schedule
    from sgdsim.simulation import simulate
    from sgdsim.starts import Grid
    from sgdsim.symmetry import Symmetry
    from sgdsim.theory import Prediction
    from sgdsim.workflow import compare_file, load_scenario, plot_file, run_scenario

__version__ = "0.1.0"

_HOMES = {
    "Autocorrelation": "run",
    "Data": "data",
    "Drift": "run",
    "Ensemble": "ensemble",
    "Grid": "starts",
    "Histogram": "run",
    "InputError": "errors",
    "Loss": "loss",
    "Noise": "noise",
    "Observable": "observables",
    "Optimizer": "optimizers",
    "Plane": "run",
    "Prediction": "theory",
    "Recorder": "run",
    "Run": "run",
    "RunError": "errors",
    "Scenario": "scenario",
    "Schedule": "schedules",
    "SgdsimError": "errors",
    "Symmetry": "symmetry",
    "Variable": "ensemble",
    "compare_file": "workflow",
    "load_scenario": "workflow",
    "plot_file": "workflow",
    "river_valley": "losses.river_valley",
    "run_scenario": "workflow",
    "simulate": "simulation",
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
    "Symmetry",
    "Variable",
    "__version__",
    "compare_file",
    "load_scenario",
    "plot_file",
    "river_valley",
    "run_scenario",
    "simulate",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'sgdsim' has no attribute {name!r}")
    value = getattr(importlib.import_module(f"sgdsim.{_HOMES[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
