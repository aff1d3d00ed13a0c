"""Linear stability at the start: where plain SGD and momentum must leave, and where nothing can be said."""

from __future__ import annotations

import pytest

from sgdsim.model.loss import Loss
from sgdsim.model.losses.river_valley import river_valley
from sgdsim.model.noise import Noise
from sgdsim.model.optimizers import Optimizer
from sgdsim.model.run import Run
from sgdsim.model.schedules import Schedule
from sgdsim.theory.methods.stability import instabilities


def quadratic(curvature: float, rate: str, optimizer: Optimizer | None = None) -> Run:
    loss = Loss("a*x**2/2 + z*x", ("x",), {"a": curvature}, {"z": Noise.parse("normal")})
    return Run(loss, optimizer or Optimizer(), Schedule(rate), {"x": 0.0}, 10, 10)


@pytest.mark.parametrize(
    ("curvature", "rate", "optimizer", "stable"),
    [
        (1.0, "1.999", None, True),
        (1.0, "2", None, False),
        (20.0, "0.1", None, False),
        (1.0, "linear:3,0.1", None, False),
        (1e-17, "0.1", None, True),
        (-5.0, "1", None, True),
        (1.0, "1.5", Optimizer("sgd", {"weight_decay": 0.5}), False),
        (1.0, "3.7", Optimizer("momentum", {"momentum": 0.9}), True),
        (1.0, "3.8", Optimizer("momentum", {"momentum": 0.9}), False),
    ],
)
def test_the_threshold(curvature, rate, optimizer, stable):
    """Rate times curvature reaches 2 for SGD, 2*(1 + m) for momentum m < 1."""
    assert (instabilities([quadratic(curvature, rate, optimizer)])[0] is None) == stable


def test_the_curvature_is_that_of_the_mean_start(river_run):
    loss = river_valley(constants={"a0": 1.0, "k": 0.5, "c2": 0.1})
    run = river_run(loss=loss, initial={"x": 0.0, "y": Noise.parse("normal:4,1")}, schedule=Schedule("0.25"))
    assert instabilities([run])[0] == "unstable: learning rate 0.25 times curvature 9 at the mean initial state is 2.25"


def test_all_directions_count():
    loss = river_valley(a=["0.5", "5", "1"], c="0")
    initial = dict.fromkeys(loss.parameters, 1.0)
    assert "curvature 5 " in str(instabilities([Run(loss, Optimizer(), Schedule("0.5"), initial, 10, 10)])[0])


@pytest.mark.parametrize("formula", ["exp(z*x)", "x**4 - sqrt(x)", "log(x)"])
def test_nothing_is_said_where_the_curvature_cannot_be_had(formula):
    loss = Loss(formula, ("x",), {}, {"z": Noise.parse("normal")})
    assert instabilities([Run(loss, Optimizer(), Schedule("9"), {"x": 0.0}, 10, 10)])[0] is None
