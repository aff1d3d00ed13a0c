"""The second step on a plain simulation, with faults that it must see."""

from __future__ import annotations

from dataclasses import replace
from math import inf

import numpy as np
import pytest

from sgdsim.model.loss import Loss
from sgdsim.model.noise import Noise
from sgdsim.model.optimizers import Optimizer
from sgdsim.model.run import Run
from sgdsim.model.update_rules import OPTIMIZERS
from sgdsim.prediction import NotApplicable
from sgdsim.theory import find_law
from sgdsim.theory.chain.step import start_points
from sgdsim.theory.methods import first_steps
from sgdsim.theory.methods.first_steps import laws_after
from tests.theory.laws.symmetry_runs import make_run, verdicts

LOSS = Loss(
    "(u**2 - 1)**2/4 + 2*u*w + cosh(w) + z*u/2 + z*n*w/4 + n*w/3",
    ("u", "w"),
    noise={"z": Noise.parse("uniform:-1,1"), "n": Noise.parse("normal")},
)
KNOWN = ["sgd", "momentum", "nesterov", "ema", "schedule_free_sgd"]


@pytest.mark.parametrize("name", KNOWN)
def test_a_right_simulation_agrees(name: str) -> None:
    rows = verdicts(make_run(LOSS, optimizer=Optimizer(name), rate="0.1", steps=2), "second-step")
    assert len(rows) == 6
    assert all(abs(row.z) < 4.0 for row in rows)
    assert not [row for row in rows if row.verdict == "disagrees"]


def test_adam_whose_gradient_keeps_its_sign_agrees_and_another_memory_does_not(monkeypatch: pytest.MonkeyPatch) -> None:
    loss = Loss("u**2/2 + z*u", ("u",), noise={"z": Noise.parse("uniform:-0.4,0.4")})
    run = make_run(loss, optimizer=Optimizer("adam"), rate="0.05", steps=2, initial={"u": 1.0})
    rows = verdicts(run, "second-step")
    assert {row.quantity for row in rows} == {f"{one}(u) after the second step" for one in ("mean", "variance")}
    assert not [row for row in rows if row.verdict == "disagrees"]
    rule = OPTIMIZERS["adam"]
    monkeypatch.setitem(OPTIMIZERS, "forgetful", replace(rule, hyperparameters={**rule.hyperparameters, "beta1": 0.5}))
    # The first step is the same; only the second one knows how much is remembered.
    found = verdicts(run, "second-step", told=replace(run, optimizer=Optimizer("forgetful")))
    assert "disagrees" in {row.verdict for row in found}
    assert "disagrees" not in {row.verdict for row in verdicts(run, "first-step")}


def test_noise_that_parameters_share_is_in_their_covariance() -> None:
    run = make_run(LOSS, rate="0.1", steps=2)
    apart = replace(
        LOSS,
        formula=LOSS.formula.replace("z*n*w/4 + n*w/3", "n*w/3 + m*w/4"),
        noise={**LOSS.noise, "m": LOSS.noise["z"]},
    )
    shared = replace(LOSS, formula=LOSS.formula.replace("z*n*w/4", "z*w/4"))
    told = [
        row
        for row in verdicts(replace(run, loss=shared), "second-step", told=replace(run, loss=apart))
        if "covariance" in row.quantity
    ]
    assert {row.verdict for row in told} == {"disagrees"}


def test_points_are_refused_where_they_may_miss_a_jump() -> None:
    with pytest.raises(NotApplicable, match="both signs"):
        laws_after(make_run(LOSS, optimizer=Optimizer("adam"), rate="0.1", steps=2), 2)
    kinked = Loss("abs(u) + z*u", ("u",), noise={"z": Noise.parse("normal")})
    with pytest.raises(NotApplicable, match="kinks"):
        laws_after(make_run(kinked, steps=2), 2)
    for kicked in (Optimizer("langevin", {"temperature": 0.2}), Optimizer("baoab", {"temperature": 0.2})):
        with pytest.raises(NotApplicable, match="kinks"):  # of a gradient without noise, which the kicks cross
            laws_after(make_run(Loss("abs(u)", ("u",)), optimizer=kicked, steps=2, initial={"u": 0.145}), 2)
    many = Loss("u**2/2 + sin(z*u)", ("u",), noise={"z": Noise.parse("normal")})
    with pytest.raises(NotApplicable, match="points"):
        find_law("second-step").predictions([make_run(many, optimizer=Optimizer(batch_size=4), steps=2)])


def test_a_start_of_too_many_points_is_refused_before_they_are_made(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[int, float]] = []

    def noted(run: Run, count: int, most: float = inf) -> tuple[np.ndarray, np.ndarray]:
        asked.append((count, most))
        return start_points(run, count, most)

    monkeypatch.setattr(first_steps, "start_points", noted)
    drawn = Noise.parse("normal:1,0.1")
    run = make_run(LOSS, steps=3, initial={"u": drawn, "w": drawn})
    with pytest.raises(NotApplicable, match="points"):
        laws_after(run, 3)
    assert asked == [(1, first_steps.MOST_POINTS)]
    # The finest rules have points enough for their number, less those of no weight.
    laws = laws_after(replace(run, loss=Loss("u**2/2 + w**4/4", ("u", "w"))), 2)
    assert 24**2 < len(laws[1][0].weights) <= 32**2


def test_a_covariance_of_numbers_too_large_to_square_leaves_the_other_rows() -> None:
    """The square of a mean of 1e176 is no Python number: the law ended with that error, and had no row at all."""
    loss = Loss("u**4/4 + w**2/2 + z*u + n*w", ("u", "w"), noise=LOSS.noise)
    run = make_run(loss, rate="0.1", steps=2, initial={"u": 1e20, "w": 1.0})
    law = find_law("second-step")
    with np.errstate(over="ignore"):
        quantities = {row.quantity for row in law.predictions([replace(run, recorder=law.records(run))])}
    assert "variance(w) after the second step" in quantities
