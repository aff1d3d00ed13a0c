"""Gradient balance: where a charge comes to rest, against formulas by hand, and on a simulation."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

import sgdsim
from sgdsim.model.loss import Loss
from sgdsim.model.noise import Noise
from sgdsim.model.optimizers import Optimizer
from sgdsim.model.run import Run
from sgdsim.model.schedules import Schedule
from sgdsim.model.symmetry import Symmetry
from sgdsim.prediction import NotApplicable
from sgdsim.simulation.run_loop import simulate_runs
from sgdsim.statistics.comparison import Comparison, compare
from sgdsim.theory import find_law
from sgdsim.theory.methods.balanced_orbit import balanced_point
from sgdsim.theory.methods.charge_balance import balances

INPUTS = np.array([2.0, 0.5])
TEACHER = np.array([1.0, 0.8])
SIGMA = 0.5
COINS = {f"x[{i}]": Noise.parse(f"table:{-(v**0.5)!r}@0.5,{v**0.5!r}@0.5") for i, v in enumerate(INPUTS.tolist())}
TWO_LAYERS = Loss(
    "(u*dot(w, x) - x[0] - 4*x[1]/5 - s*e)**2/2",
    ("u", "w[0]", "w[1]"),
    {"s": SIGMA},
    {**COINS, "e": Noise.parse("normal")},
    symmetries=(Symmetry.parse("rescale:u:1,w:-1"),),
)


def run_of(
    loss: Loss = TWO_LAYERS, rate: float = 0.1, steps: int = 4000, settings: dict[str, float] | None = None
) -> Run:
    start = {"u": 1.2, "w[0]": 0.8, "w[1]": 0.7}
    initial = {name: start[name] for name in loss.parameters}
    run = Run(loss, Optimizer("sgd", settings or {}), Schedule(repr(rate)), initial, 6400, steps, seed=3)
    return replace(run, recorder=find_law("gradient-balance").requirements(run))


def verdicts(run: Run, told: Run | None = None) -> list[Comparison]:
    simulated = run if told is None else replace(told, recorder=run.recorder)
    return compare(
        simulate_runs([simulated], scenario="", device="cpu"), find_law("gradient-balance").predictions([run])
    )


def test_an_anisotropic_input_balances_gradients_and_not_norms() -> None:
    """``u^4 = m S m/Tr S`` and the relaxation rate ``2 eta^2 sigma^2 Tr S/(1 + |m|^2/u^4)``, by hand."""
    signal, trace, rate = float(TEACHER @ (INPUTS * TEACHER)), float(INPUTS.sum()), 0.1
    square = np.sqrt(signal / trace)
    norm = float(TEACHER @ TEACHER) / square
    found = balanced_point(run_of(rate=rate), balances(run_of())[0])
    assert found.charge == pytest.approx((square - norm) / 2, rel=1e-6)
    assert found.relaxation == pytest.approx((1 + norm / square) / (2 * rate**2 * SIGMA**2 * trace), rel=1e-6)


def test_weight_decay_and_rates_of_each_layer_move_the_balance() -> None:
    """Of ``(u w - 1 - e)^2/2``: ``Q' = ((1 - eta lambda)^2 - eta^2 s^2) Q``; at rates m ``u^2/m_u = w^2/m_w``."""
    loss = Loss("(u*w - 1 - e)**2/2", ("u", "w"), {}, {"e": Noise.parse("normal")})
    loss = replace(loss, symmetries=(Symmetry.parse("rescale:u:1,w:-1"),))
    run = Run(loss, Optimizer("sgd", {"weight_decay": 0.05}), Schedule("0.1"), {"u": 2.0, "w": 0.5}, 1000, 10)
    assert balanced_point(run, balances(run)[0]).relaxation == pytest.approx(1 / (1 - 0.995**2 + 0.01))
    rates = Run(loss, Optimizer("sgd", preconditioner=("4", "1")), Schedule("0.1"), {"u": 2.0, "w": 0.5}, 1000, 10)
    found = balanced_point(rates, balances(rates)[0])
    assert found.charge == pytest.approx(0.0, abs=1e-9)
    assert found.relaxation == pytest.approx(1 / (0.01 * 4))


def test_a_run_at_rest_balances() -> None:
    (row,) = verdicts(run_of())
    assert abs(row.z) < 4
    assert row.stderr < 0.01


def test_weight_decay_that_the_run_does_not_tell_of_is_rejected() -> None:
    (row,) = verdicts(run_of(), told=run_of(settings={"weight_decay": 0.02}))
    assert row.verdict == "disagrees"


def test_four_rates_tell_where_the_charge_rests() -> None:
    runs = [run_of(rate=rate, steps=int(40 / rate**2)) for rate in (0.05, 0.07, 0.1, 0.14)]
    steps = max(run.steps for run in runs)
    runs = [replace(run_of(rate=float(run.schedule.text), steps=steps)) for run in runs]
    rows = [row for row in find_law("gradient-balance").predictions(runs) if row.order == 0]
    assert len(rows) == 4


def test_a_run_that_is_too_short_is_refused_with_the_steps_that_it_needs() -> None:
    with pytest.raises(NotApplicable, match=r"relaxes in .* steps, and .* at least [\d,]+ steps, not 100"):
        find_law("gradient-balance").predictions([run_of(steps=100)])


@pytest.mark.parametrize(
    ("formula", "why"),
    [
        ("(u*w - 1)**2/2 + 0*e", "no point of the orbit is balanced"),
        ("(u - 1 - w - e)**2/2", "no symmetry with a charge"),
    ],
)
def test_it_says_where_nothing_balances(formula: str, why: str) -> None:
    symmetry = Symmetry.parse("rescale:u:1,w:-1" if "u*w" in formula else "translation:u,w")
    loss = Loss(formula, ("u", "w"), {}, {"e": Noise.parse("normal")}, symmetries=(symmetry,))
    run = Run(loss, Optimizer(), Schedule("0.1"), {"u": 2.0, "w": 0.5}, 1000, 10000)
    with pytest.raises(NotApplicable, match=why):
        find_law("gradient-balance").predictions([run])


def test_it_is_tried_on_every_run() -> None:
    assert sgdsim.theory.LAWS["gradient-balance"].automatic


def test_a_symmetry_that_nobody_declared_balances_as_well() -> None:
    law, found = find_law("gradient-balance"), run_of(replace(TWO_LAYERS, symmetries=()))
    assert found.recorder == run_of().recorder
    assert [row.quantity for row in law.predictions([found])] == [row.quantity for row in law.predictions([run_of()])]


def test_a_symmetry_beside_the_declared_one_counts_as_well() -> None:
    """Of which the orbit of the minimum is a surface, and the balanced point of one is none."""
    loss = Loss("(u*w*r - 1 - e)**2/2", ("u", "w", "r"), {}, {"e": Noise.parse("normal")})
    loss = replace(loss, symmetries=(Symmetry.parse("rescale:u:1,w:-1"),))
    run = Run(loss, Optimizer(), Schedule("0.1"), dict.fromkeys("uwr", 1.0), 1000, 10_000)
    with pytest.raises(NotApplicable, match="one symmetry with a charge, the loss has 2"):
        find_law("gradient-balance").predictions([run])
