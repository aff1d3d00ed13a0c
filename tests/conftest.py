"""Fixtures that every test may use."""

from __future__ import annotations

import gc
import sys
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from numba import config

from sgdsim.base.errors import RunError
from sgdsim.kernels.program import Program
from sgdsim.model.losses.river_valley import river_valley
from sgdsim.model.noise import Noise
from sgdsim.model.optimizers import Optimizer
from sgdsim.model.run import Run
from sgdsim.model.schedules import Schedule
from sgdsim.model.update_rules import OPTIMIZERS
from sgdsim.simulation import progress
from tests import layout_1 as layout

RIVER = {"a0": 1.0, "k": 0.5, "c2": 0.1, "sigma": 1.0}


OF_NUMBERS = [name for name, rule in OPTIMIZERS.items() if not rule.is_of_matrices]
"""Optimizers of any parameters."""


def needed(optimizer: str) -> dict[str, float]:
    """Values of the hyperparameters of an optimizer that have no default, such as a temperature."""
    return {key: 0.5 for key, default in OPTIMIZERS[optimizer].hyperparameters.items() if default is None}


SIMULATED = bool(config.ENABLE_CUDASIM)


def gpu() -> str | None:
    """The name of a GPU that can be used, or None."""
    if SIMULATED:
        return None
    try:
        from sgdsim.kernels.gpu import select

        return select(0)
    except (ImportError, RunError):
        return None


def targets() -> list[str]:
    """Targets of kernels in this process; CUDA's simulator needs a process of its own, `make test-cudasim`."""
    return ["cuda"] if SIMULATED else ["python", "cpu", *(["cuda"] if gpu() else [])]


COMPILED = [one for one in targets() if one != "python"]
"""Targets that are held against plain Python, which agrees with itself whatever it does."""


@pytest.fixture(autouse=True)
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Say nothing of what takes long: how long compiling takes is a matter of the machine and of its cache."""
    monkeypatch.setattr(progress, "PATIENCE", 3600.0)


def _share_safely() -> None:
    """Give all threads of the simulator the same shared array: it makes one where it finds none, unguarded."""
    from numba.cuda.simulator.kernelapi import FakeCUDAShared

    lock, original = threading.Lock(), FakeCUDAShared.array

    def array(self: Any, shape: Any, dtype: Any) -> Any:
        with lock:
            return original(self, shape, dtype)  # which tells arrays apart by the line of this call: we have but one

    FakeCUDAShared.array = array


def pytest_collection_finish() -> None:
    """Let the garbage collector walk less often: through what stays, such as SymPy's caches, it took 8 % of time."""
    gc.freeze()
    gc.set_threshold(50_000, 20, 50)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Deselect tests that have no target, in the simulator of CUDA."""
    if SIMULATED:
        # In seconds: its threads wait for each other all the time, and the default is 500 times as long.
        sys.setswitchinterval(1e-5)
        _share_safely()
        apart = [item for item in items if not (item.path.name == "test_cuda.py" or "[cuda" in item.name)]
        items[:] = [item for item in items if item not in apart]
        config.hook.pytest_deselected(items=apart)


@pytest.fixture(params=targets())
def target(request: pytest.FixtureRequest) -> str:
    """Every target that runs in this process; a kernel test that takes it covers them all."""
    return str(request.param)


@pytest.fixture
def size(target: str) -> Callable[[int, int], int]:
    """Function that gives the number of trajectories for a target: few if it is slow, many if it is fast."""

    def of(few: int, many: int) -> int:
        return min(few, 20) if SIMULATED else few if target == "python" else many

    return of


@pytest.fixture(autouse=SIMULATED)
def small_tiles(monkeypatch: pytest.MonkeyPatch) -> None:
    """Tiles of 4 trajectories: the simulator runs a Python thread for each."""
    monkeypatch.setattr(Program, "lanes", property(lambda self: 4))


@pytest.fixture
def layout_1() -> Iterator[None]:
    """Kernels draw as they did in version 1 of the layout of random words."""
    with layout.in_use():
        yield


@pytest.fixture
def river_run() -> Callable[..., Run]:
    """Makes runs of the river valley; keyword arguments replace fields of the run."""

    def make(**fields: Any) -> Run:
        defaults: dict[str, Any] = {
            "loss": river_valley(constants=RIVER),
            "optimizer": Optimizer(),
            "schedule": Schedule("0.1"),
            "initial": {"x": 0.5, "y": Noise.parse("normal:1,0.1")},
            "trajectories": 100,
            "steps": 40,
            "seed": 20251121,
        }
        return Run(**{**defaults, **fields})

    return make
