"""Observables that could hide rare events, compared with runs in which they do, and do not."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest

from sgdsim.model import rare_events
from sgdsim.model.data import Data
from sgdsim.model.loss import Loss
from sgdsim.model.losses import CATALOGUE
from sgdsim.model.noise import Noise
from sgdsim.model.observables import Observable
from sgdsim.model.optimizers import Optimizer
from sgdsim.model.recorder import Recorder
from sgdsim.model.run import Run
from sgdsim.model.schedules import Schedule
from sgdsim.model.starts import start_from
from sgdsim.model.symmetry import Symmetry
from sgdsim.simulation.run_loop import simulate_runs

OBSERVABLES = {"product": "x*y", "rare": "where(x > 3, 1, 0)", "late": "window_mean(abs(x), 5, 10)"}


def found(
    formula: str,
    noise: str = "normal",
    start: Mapping[str, Any] | None = None,
    optimizer: Optimizer | None = None,
    observables: Mapping[str, str] = OBSERVABLES,
    **loss: Any,
) -> tuple[set[str], set[str], dict[str, list[float]]]:
    """Names that are certain, names that are certain at the start, and ranges."""
    known = Loss(formula, ("x", "y"), noise={"z": Noise.parse(noise)}, **loss)
    recorder = Recorder(observables=tuple(Observable.parse(name, text) for name, text in observables.items()))
    starts = {name: start_from(value) for name, value in {"x": 0.5, "y": 1.0, **(start or {})}.items()}
    run = Run(known, optimizer or Optimizer(), Schedule("0.1"), starts, 100, 20, recorder=recorder)
    told = rare_events.attributes([run])
    certain, at_start = ({*told[key].split(", ")} - {""} for key in ("certain", "certain_at_start"))
    return certain, at_start, json.loads(told["ranges"])


EVERYTHING = {"x", "y", "product", "rare", "late"}
APART = "x**2/2 + x*z + y**2/2"
"""Noise moves x alone."""


def test_polynomials_of_continuous_noise_are_certain_and_kinks_are_not() -> None:
    assert found(APART)[0] == {"x", "y", "product"}
    assert found("x**4/4 + x*z + x*y**2", noise="laplace")[0] == {"x", "y", "product"}


def test_of_discrete_noise_only_what_it_does_not_reach_is_certain() -> None:
    assert found(APART, noise="rademacher")[0] == {"y"}
    assert found("x**2*y**2/2 + x*z", noise="bernoulli:0.001")[0] == set()
    assert found("x**2/2 + x*z*0 + y**2", noise="rademacher")[0] == EVERYTHING


def test_nothing_random_leaves_everything_certain() -> None:
    assert found(APART, optimizer=Optimizer("gradient_descent"))[0] == EVERYTHING
    assert found(APART, noise="bernoulli:1")[0] == EVERYTHING
    assert found("x**2/2 + s*x*z", noise="rademacher", constants={"s": 0.0})[0] == EVERYTHING


def test_kinks_of_the_loss_and_of_the_optimizer() -> None:
    assert found("abs(x) + x*z + y**2/2")[0] == {"y"}
    assert found(APART, optimizer=Optimizer("adam"))[0] == {"y"}
    assert found(APART, optimizer=Optimizer("momentum"))[0] == {"x", "y", "product"}
    assert found(APART, optimizer=Optimizer("langevin", {"temperature": 1.0}))[0] == {"x", "y", "product"}


def test_a_preconditioner_mixes_what_it_multiplies() -> None:
    dense = Optimizer("sgd", preconditioner=((1.0, 0.5), (0.5, 1.0)))
    assert found(APART, noise="rademacher", optimizer=dense)[0] == set()
    assert found(APART, optimizer=dense)[0] == {"x", "y", "product"}


def test_starts() -> None:
    """A start that is drawn varies, one on a grid is given; before the first step nothing else does."""
    assert found(APART, noise="rademacher")[1] == EVERYTHING
    assert found(APART, start={"x": "normal:0,1"})[1] == {"x", "y", "product", "late"}
    assert found(APART, start={"x": "rademacher"})[1] == {"y", "late"}
    assert found(APART, start={"x": "grid:-1,1"})[1] == EVERYTHING
    assert found(APART, optimizer=Optimizer("gradient_descent"), start={"y": "rademacher"})[0] == {"x", "rare", "late"}


def test_rows_of_data_are_discrete_unless_all_are_taken() -> None:
    data = Data({"u": (1.0, -1.0, 2.0)})
    assert found("(x - u)**2/2 + x*z*0 + y**2", data=data)[0] == {"y"}
    whole = Optimizer("sgd", batch_size=3, sampling="batch")
    assert found("(x - u)**2/2 + x*z*0 + y**2", data=data, optimizer=whole)[0] == EVERYTHING


def test_what_speaks_of_the_step_and_of_the_loss() -> None:
    observables = {
        "moved": "window_sum(next(x) - x, 0, 10)",
        "slope": "window_sum(gradient(y), 0, 10)",
        "still": "population_gradient(y)",
        "all": "loss + hessian_trace",
        "noise": "window_sum(z, 0, 10)",
        "passage": "first_passage(x > 3)",
        "largest": "window_max(x, 0, 10)",
        "rate": "window_mean(learning_rate, 0, 10)",
    }
    assert found(APART, observables=observables)[0] == {"x", "y", *observables} - {"passage", "largest"}
    discrete = found(APART, noise="rademacher", observables=observables)[0]
    assert discrete == {"y", "slope", "still", "rate"}


def test_charges() -> None:
    symmetry = (Symmetry.parse("rescale:x:1,y:-1"),)
    observables = {"q": "charge(rescale)", "moved": "window_sum(next(charge(rescale)), 0, 10)"}
    options: dict[str, Any] = {"symmetries": symmetry, "observables": observables}
    assert found("(x*y - z)**2/2", **options)[0] == {"x", "y", "q", "moved"}
    assert found("(x*y - z)**2/2", noise="rademacher", **options)[0] == set()


def test_ranges() -> None:
    observables = {
        "rare": "100*where(x > 3, 1, 0)",
        "count": "window_sum(step(x), 10, 20)",
        "share": "window_mean(step(x), 10, 20)",
        "ever": "window_max(step(x), 10, 20)",
        "early": "value_at(tanh(y), 3)",
        "free": "x**2",
        "passage": "first_passage(step(x) > 0)",
    }
    ranges = found(APART, observables=observables)[2]
    assert ranges == {
        "rare": [0.0, 100.0],
        "count": [0.0, 10.0],
        "share": [0.0, 1.0],
        "ever": [0.0, 1.0],
        "early": [-1.0, 1.0],
    }


def test_the_rarest_outcome_that_matters() -> None:
    """Of a rare kick; of noise whose rare values are as small as others; of data with an outlier, and without."""

    def rarest(noise: str = "normal", batch_size: int = 1, start: str | float = 0.0, **loss: Any) -> tuple[Any, Any]:
        formula = "x**2/2 + x*z" + (" + x*u" if loss else "")
        known = Loss(formula, ("x",), noise={"z": Noise.parse(noise)}, **loss)
        optimizer = Optimizer("sgd", batch_size=batch_size)
        told = rare_events.attributes([Run(known, optimizer, Schedule("0.1"), {"x": start_from(start)}, 100, 10)])
        return told["rarest_start"], told["rarest_noise"]

    assert rarest() == (1.0, 1.0)
    assert rarest("bernoulli:0.00001", batch_size=4) == (1.0, pytest.approx(4e-5))
    assert rarest("table:-1@0.499,1@0.5,0.1@0.001")[1] == pytest.approx(0.499)
    assert rarest(start="bernoulli:0.001")[0] == pytest.approx(0.001)
    normal = tuple(np.random.default_rng(1).normal(size=10_000))
    assert rarest(data=Data({"u": normal}))[1] == 1.0
    assert rarest(data=Data({"u": (*normal, 30.0)}))[1] == pytest.approx(1e-4, rel=0.01)


def test_points_of_a_sweep_are_told_together() -> None:
    """What one point hides, and the widest range."""

    def run(scale: float) -> Run:
        loss = Loss("x**2/2 + s*z*x", ("x",), {"s": scale}, {"z": Noise.parse("rademacher")})
        recorder = Recorder(observables=(Observable("e", "(1 + s)*step(x - 1)"),))
        return Run(loss, Optimizer(), Schedule("0.1"), {"x": 1.0}, 100, 10, recorder=recorder)

    assert rare_events.attributes([run(0.0)])["certain"] == "x, e"
    both = rare_events.attributes([run(0.0), run(2.0)])
    assert (both["certain"], json.loads(both["ranges"])) == ("", {"e": [0.0, 3.0]})


@pytest.mark.parametrize("name", CATALOGUE)
def test_every_loss_of_the_catalogue_can_be_told(name: str) -> None:
    loss = CATALOGUE[name]()
    recorder = Recorder(
        observables=tuple(Observable(f"of_{i}", one) for i, one in enumerate(sorted(loss.quantities)[:1]))
    )
    run = Run(loss, Optimizer(), Schedule("0.1"), dict.fromkeys(loss.parameters, 0.5), 100, 10, recorder=recorder)
    told = rare_events.attributes([run])
    assert set(told["certain_at_start"].split(", ")) == set(run.measured)


STILL = {
    "x**2*y**2/2 + x*z": ({"y": 0.0}, {"y"}),
    "(x**2 - 1)**2/4 + z*y**2/2": ({"y": 0.0}, EVERYTHING),
    "cosh(y) + exp(x)*y**2 + z*x": ({"x": 0.0, "y": 0.0}, {"y"}),
    "z*x*y": ({"x": 0.0, "y": 0.0}, EVERYTHING),
    "z*x*y + x**2/2": ({"x": 0.0, "y": 1.0}, set()),
    "z*y**2/2 + y": ({"y": 0.0}, {"x"}),
}
"""Losses of noise with two values, where they begin, and what is certain: x from 0.5 if nothing else is said."""


@pytest.mark.parametrize("formula", STILL)
def test_a_parameter_at_zero_that_has_no_slope_there_stays(formula: str) -> None:
    """It was taken for a number that a rare event might change, so that nothing about it was ever decided."""
    start, expected = STILL[formula]
    certain, _, _ = found(formula, noise="rademacher", start=start)
    assert certain & {"x", "y"} == expected & {"x", "y"}
    run = Run(
        Loss(formula, ("x", "y"), noise={"z": Noise.parse("rademacher")}),
        *(Optimizer(), Schedule("0.1"), {"x": 0.5, "y": 1.0, **start}, 64, 20),
    )
    moved = {
        name for name, spread in zip("xy", simulate_runs([run], scenario="")["variance"][-1], strict=True) if spread
    }
    assert not moved & certain


def test_noise_of_its_own_or_a_memory_moves_it() -> None:
    for optimizer in (
        Optimizer("langevin", {"temperature": 0.1}),
        Optimizer(preconditioner=(("1", "0.5"), ("0.5", "1"))),
    ):
        assert "y" not in found("x**2/2 + x*z + y**2/2", "rademacher", {"y": 0.0}, optimizer)[0]
    assert "y" in found("x**2/2 + x*z + y**2/2", "rademacher", {"y": 0.0})[0]
