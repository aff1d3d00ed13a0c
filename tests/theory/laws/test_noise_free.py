"""Runs without noise: closed forms, a plain simulation, and a fault."""

from __future__ import annotations

from dataclasses import replace

import pytest

from sgdsim.model.loss import Loss
from sgdsim.model.noise import Noise
from sgdsim.model.optimizers import Optimizer
from sgdsim.model.recorder import Recorder
from sgdsim.model.schedules import Schedule
from sgdsim.model.update_rules import OPTIMIZERS
from sgdsim.prediction import NotApplicable
from sgdsim.theory import find_law
from tests.conftest import OF_NUMBERS
from tests.theory.laws.symmetry_runs import make_run, verdicts

LOSS = Loss("(u**2 - 1)**2/4 + u*w/3 + cosh(w)", ("u", "w"))


def rows(run):  # type: ignore[no-untyped-def]
    return {row.quantity: row.predicted for row in find_law("noise-free").predictions([run])}


@pytest.mark.parametrize("name", [name for name in OF_NUMBERS if not OPTIMIZERS[name].is_random])
def test_a_right_simulation_agrees_and_one_with_another_rate_does_not(name: str) -> None:
    run = make_run(LOSS, optimizer=Optimizer(name), rate="linear:0.1", trajectories=2048, recorder=Recorder(every=6))
    found = verdicts(run, "noise-free")
    assert {row.verdict for row in found} == {"agrees"}
    assert len(found) == 4
    late = (0.1, *run.schedule.rates(12)[:-1].tolist())
    wrong = verdicts(run, "noise-free", told=replace(run, schedule=Schedule("late", table=late)))
    assert "disagrees" in {row.verdict for row in wrong}


def test_a_valley_contracts_its_start() -> None:
    run = make_run(Loss("a*u**2/2", ("u",), {"a": 0.5}), rate="0.1", initial={"u": Noise.parse("normal:1,0.2")})
    found = rows(run)
    assert found["mean(u)"] == pytest.approx(0.95**12)
    assert found["variance(u)"] == pytest.approx(0.04 * 0.95**24)


def test_rounding_is_no_variance() -> None:
    """Of a parameter that starts at a number, beside one that is drawn, quadrature leaves the last digits."""
    run = make_run(Loss("u**2/2 + w**2/2", ("u", "w")), rate="0.1", initial={"u": 0.3, "w": Noise.parse("normal")})
    assert set(rows(run)) == {"mean(u)", "mean(w)", "variance(w)"}


def test_the_population_gradient_has_no_noise() -> None:
    loss = Loss("(u - z)**2/2", ("u",), noise={"z": Noise.parse("normal:0.5,1")})
    run = make_run(loss, rate="0.1", initial={"u": 1.0})
    assert rows(replace(run, optimizer=Optimizer("gradient_descent")))["mean(u)"] == pytest.approx(0.5 + 0.5 * 0.9**12)
    with pytest.raises(NotApplicable, match="noise in the steps"):
        rows(run)


def test_what_a_quadrature_does_not_follow_is_not_told() -> None:
    """A start on both sides of a barrier: the points of a quadrature do not tell how many go where."""
    run = make_run(Loss("(u**2 - 1)**2/4", ("u",)), steps=200, initial={"u": Noise.parse("normal:0.1,0.3")})
    with pytest.raises(NotApplicable):
        rows(run)


def test_a_start_of_too_many_points_is_refused_before_they_are_made() -> None:
    """Of 18 numbers that are drawn there are 49^18."""
    names = tuple(f"w[{i}]" for i in range(18))
    run = make_run(Loss("norm2(w)/2", ("w[18]",)), initial=dict.fromkeys(names, Noise.parse("normal:0,1")))
    with pytest.raises(NotApplicable, match="the start has 117649 points or more, expected at most 10000"):
        rows(run)
