"""Runs whose chains the tests know, and how a result is held against an exact one.

Statistical checks allow 4.9 standard errors: one false alarm in a million each.
"""

from __future__ import annotations

from typing import Any

from sgdsim.model.data import Data
from sgdsim.model.loss import Loss
from sgdsim.model.noise import Noise
from sgdsim.model.optimizers import Optimizer
from sgdsim.model.run import Run
from sgdsim.model.schedules import Schedule
from sgdsim.theory.quadrature.nested import Numerical

SIGMAS = 4.9


def make_run(
    formula: str,
    noise: dict[str, str],
    rate: float | str = 0.1,
    constants: dict[str, float] | None = None,
    initial: dict[str, Any] | None = None,
    data: Data | None = None,
    **optimizer: Any,
) -> Run:
    initial = initial or {"x": 0.3}
    noises = {name: Noise.parse(text) for name, text in noise.items()}
    loss = Loss(formula, tuple(initial), constants or {}, noises, data=data)
    return Run(loss, Optimizer(**optimizer), Schedule(str(rate)), initial, 100, 10)


def ar1(noise: str = "normal", rate: float = 0.5, **optimizer: Any) -> Run:
    return make_run("a*x**2/2 + z*x", {"z": noise}, rate, {"a": 1.0}, **optimizer)


def river(rate: float = 0.1) -> Run:
    constants = {"a0": 2.0, "b": 0.2, "yc": 1.0}
    formula = "a0*(1 + y**2)*x**2/2 + b*(y - yc)**2/2 + z*x"
    return make_run(formula, {"z": "normal"}, rate, constants, {"x": 0.0, "y": 0.85})


def check(found: Numerical, exact: float, relative: float, scale: float = 0.0) -> None:
    """Within the target, and within a small multiple of what it says of itself."""
    error = abs(found.value - exact)
    assert error <= relative * max(abs(exact), scale), (found, exact)
    assert error <= 10 * found.error, (found, exact)
    assert found.error <= relative * max(abs(exact), scale), (found, exact)
