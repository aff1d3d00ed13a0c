"""The first update on a plain simulation and on kernels, with faults that it must see."""

from __future__ import annotations

from dataclasses import replace

import pytest

from sgdsim.model.loss import Loss
from sgdsim.model.noise import Noise
from sgdsim.model.optimizers import Optimizer
from sgdsim.model.run import Run
from sgdsim.model.update_rules import OPTIMIZERS
from sgdsim.prediction import NotApplicable
from sgdsim.simulation.run_loop import simulate_runs
from sgdsim.statistics.comparison import compare
from sgdsim.theory import find_law
from tests.planted_faults import rules
from tests.samples import daily
from tests.theory.laws.symmetry_runs import make_run, verdicts

LOSS = Loss(
    "u**4/4 + z*u + n*sin(w) + w**2/2", ("u", "w"), {}, {"z": Noise.parse("laplace"), "n": Noise.parse("normal")}
)
NONLINEAR = [name for name, rule in OPTIMIZERS.items() if not (rule.linear or rule.is_random or rule.is_of_matrices)]


@pytest.mark.parametrize("name", daily(NONLINEAR, "adam", "rmsprop_excluding"))
def test_a_right_simulation_agrees(name: str) -> None:
    """Where gradients have both signs, and batches of four are too many variables for `first-step`."""
    optimizer = Optimizer(name, {"weight_decay": 0.1}, batch_size=4)
    rows = verdicts(make_run(LOSS, optimizer=optimizer, rate="0.02", steps=2, trajectories=6400), "first-update")
    assert [(row.verdict, row.measured) for row in rows] == [("agrees", 0.0)] * 2


@pytest.mark.parametrize(
    ("name", "wrong", "changed"),
    [
        ("adam", "uncorrected_adam", {}),
        ("adamw", "uncorrected_adamw", {}),
        ("adamw", "adam", {"weight_decay": 0.01}),
        ("adamw", "adamw", {"decoupled_weight_decay": 0.1}),
        ("rmsprop", "rmsprop_excluding", {}),
        ("rmsprop", "rmsprop", {"alpha": 0.98}),
        ("signsgd", "sgd", {}),
        ("lion", "adam", {"epsilon": 0.1}),
    ],
)
def test_another_rule_is_accused(name: str, wrong: str, changed: dict[str, float]) -> None:
    run = make_run(LOSS, optimizer=Optimizer(name), rate="0.02", steps=2, trajectories=6400)
    with rules():
        rows = verdicts(run, "first-update", told=replace(run, optimizer=Optimizer(wrong, changed)))
    assert "disagrees" in {row.verdict for row in rows}


@pytest.mark.validate
@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_kernels_agree_and_without_correction_do_not(dtype: str) -> None:
    """Four parameters, of which one is drawn and one has a gradient that is zero in every second trajectory."""
    noise = {"n": Noise.parse("normal"), "r": Noise.parse("rademacher")}
    loss = Loss("x**2*w**2/9 + y**2 + u**2 + n*y + r*x + n*w**2", tuple("xyuw"), {}, noise)
    initial = {"x": 0.0, "y": 2.0, "u": 0.0, "w": Noise.parse("normal:-0.8,0.7")}
    run = make_run(
        loss, optimizer=Optimizer("adamw", batch_size=2), rate="0.005", steps=2, initial=initial, dtype=dtype
    )
    run, law = _recorded(run), find_law("first-update")
    rows = law.predictions([run])
    assert {row.verdict for row in compare(simulate_runs([run], scenario=""), rows)} == {"agrees"}
    with rules():
        other = simulate_runs([replace(run, optimizer=Optimizer("uncorrected_adamw", batch_size=2))], scenario="")
    assert [row.verdict for row in compare(other, rows)] == ["disagrees", "disagrees", "agrees"]  # u stays at zero


def _recorded(run: Run) -> Run:
    return replace(run, recorder=find_law("first-update").requirements(run))


def test_it_speaks_of_a_few_parameters() -> None:
    loss = Loss(
        "norm2(W)/2 + dot(e, b) + norm2(b)**2/4 + x**2", ("W[2,2]", "b[2]", "x"), {}, {"e[2]": Noise.parse("normal")}
    )
    run = _recorded(make_run(loss, optimizer=Optimizer("adam"), initial=dict.fromkeys(loss.parameters, 0.5)))
    quantities = [row.quantity for row in find_law("first-update").predictions([run])]
    assert quantities == [f"share of other first steps of {name}" for name in ("W[0,0]", "b[0]", "x")]


@pytest.mark.parametrize(
    ("optimizer", "why"),
    [(Optimizer("momentum"), "linear in the gradient"), (Optimizer("muon"), "steps whole matrices")],
)
def test_where_it_does_not_apply_it_says_why(optimizer: Optimizer, why: str) -> None:
    loss = Loss("norm2(W)/2", ("W[2,2]",))
    run = make_run(loss, optimizer=optimizer, initial=dict.fromkeys(loss.parameters, 0.5))
    with pytest.raises(NotApplicable, match=why):
        find_law("first-update").predictions([run])
