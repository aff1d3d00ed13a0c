"""Theory of parameters that move by rules of their own, and what it refuses to predict."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import sgdsim
from sgdsim.app.theory_report import section
from sgdsim.app.theory_sections import SECTIONS
from sgdsim.app.verdicts import compare_file
from sgdsim.app.workflow import run_scenario
from sgdsim.input.loading import scenario_from
from sgdsim.model.losses import CATALOGUE
from sgdsim.model.observables import Observable
from sgdsim.model.rare_events import attributes
from sgdsim.model.recorder import Recorder
from sgdsim.theory import LAWS
from sgdsim.theory.methods.stability import instabilities

FIELD = (
    "affine-moments",
    "identities",
    "first-step",
    "first-update",
    "second-step",
    "last-step",
    "noise-free",
    "at-rest",
    "lyapunov",
    "collapse",
    "exact-chain",
)
TURNED: dict[str, Any] = {
    "loss": {
        "parameters": {"x": 1.0, "y": 0.0},
        "constants": {"a": 0.5, "b": 1.5, "s": 0.4},
        "noise": {"z": "normal", "e": "rademacher"},
        "direction": {"x": "a*x - b*y + s*z", "y": "b*x + a*y + s*e*(1 + 0.5*x)"},
    },
    "optimizer": {"learning_rate": 0.1},
    "run": {"trajectories": 200_000, "steps": 40, "seed": 3},
    "record": {"every": 20},
}


def run_of(rate: float = 0.1, **fields: Any) -> sgdsim.Run:
    """A river valley whose x moves by another rule."""
    river = CATALOGUE["river_valley"]()
    loss = sgdsim.Loss(
        river.formula,
        river.parameters,
        river.constants,
        river.noise,
        river.definitions,
        river.symmetries,
        direction={"x": "a0*x + sigma*xi"},
    )
    start = {"x": 0.1, "y": 1.0}
    return sgdsim.Run(loss, sgdsim.Optimizer(), sgdsim.Schedule(repr(rate)), start, 1000, 100, **fields)


def test_moments_of_a_rotation_with_noise(tmp_path: Path):
    """At 1e-3 for all rows together; a claim that is 5 % off is the control."""
    law = {"id": "affine-moments", "resolution": "3%"}
    scenario = scenario_from({**TURNED, "predict": [law]}, "turned", "here")
    rows = {row.quantity: row.predicted for row in LAWS["affine-moments"].predictions(scenario.runs)}
    wrong = {"formula": f"variance(x) = {1.05 * rows['variance(x)']}; resolution=2%", "expect": "disagrees"}
    data = {**TURNED, "predict": [law, wrong]}
    run_scenario(scenario_from(data, "turned", "here"), tmp_path / "turned.h5")
    report = compare_file(tmp_path / "turned.h5")
    assert not report.disagrees, report.table()
    *of_law, control = report.comparisons
    assert [row.verdict for row in of_law].count("agrees") >= 6, report.table()
    assert control.verdict == "disagrees"
    # The means turn, as those of no gradient do.
    factor = (1 - 0.1 * 0.5 - 0.1j * 1.5) ** 40
    assert rows["mean(x)"] == pytest.approx(factor.real)
    assert rows["mean(y)"] == pytest.approx(factor.imag)


def test_the_chain_of_a_rule_without_potential():
    """The circle map ``x' = x - eta*(sin(x) + c)`` with noise, against the moments of 20,000 paths in NumPy."""
    loss = sgdsim.Loss(
        "", ("x",), {"c": 0.3}, {"z": sgdsim.Noise.parse("normal")}, direction={"x": "sin(x) + c + 0.5*z"}
    )
    run = sgdsim.Run(loss, sgdsim.Optimizer(), sgdsim.Schedule("0.2"), {"x": 1.0}, 1000, 30)
    rows = {row.quantity: row for row in LAWS["exact-chain"].predictions([run])}
    rng, x = np.random.default_rng(5), np.ones(20_000)
    for _ in range(30):
        x = x - 0.2 * (np.sin(x) + 0.3 + 0.5 * rng.standard_normal(len(x)))
    # Five standard errors, a false-alarm rate of 1e-6.
    assert rows["mean(x)"].predicted == pytest.approx(x.mean(), abs=5 * x.std() / np.sqrt(len(x)))
    assert rows["variance(x)"].predicted == pytest.approx(x.var(), rel=5 * np.sqrt(2 / len(x)))
    assert rows["mean(x)"].rival is None


@pytest.mark.parametrize("id", [id for id in LAWS if id not in FIELD])
def test_laws_of_a_potential_refuse(id):
    runs = [run_of(rate) for rate in (0.1, 0.05, 0.02, 0.01)]
    found, reasons = LAWS[id].evaluate(runs)
    assert not found
    assert reasons == ["x moves by a rule of its own, not by a gradient"]
    assert LAWS[id].requirements(runs[0]) == Recorder()


def test_a_law_refuses_the_points_of_a_sweep_that_have_a_rule():
    river = sgdsim.Run(
        CATALOGUE["river_valley"](), sgdsim.Optimizer(), sgdsim.Schedule("0.1"), {"x": 0.1, "y": 1.0}, 1000, 100
    )
    found, reasons = LAWS["valley"].evaluate([river, run_of()])
    assert {row.point for row in found} == {0}
    assert reasons == ["point 1: x moves by a rule of its own, not by a gradient"]


def test_laws_of_any_field_say_so():
    assert tuple(law.id for law in LAWS.values() if law.any_field) == FIELD


def test_without_the_rule_some_of_these_laws_speak():
    river = sgdsim.Run(
        CATALOGUE["river_valley"](), sgdsim.Optimizer(), sgdsim.Schedule("0.1"), {"x": 0.1, "y": 1.0}, 1000, 100
    )
    assert LAWS["valley"].evaluate([river])[0]


def test_the_report_refuses_what_needs_a_gradient():
    found = {title: section(title, run_of()).reason for title in SECTIONS}
    refused = {title for title, reason in found.items() if "x moves by a rule of its own" in reason}
    assert refused == SECTIONS.keys() - {"Exact moments of the stationary law", "Exact chain, stationary law"}


def test_no_curvature_is_called_unstable():
    """The loss has a curvature of 5 that its parameter does not feel."""
    still = sgdsim.Loss("5*x**2/2", ("x",), direction={"x": "0.1*x"})
    felt = sgdsim.Loss("5*x**2/2", ("x",))
    runs = [sgdsim.Run(loss, sgdsim.Optimizer(), sgdsim.Schedule("0.5"), {"x": 1.0}, 10, 10) for loss in (still, felt)]
    assert instabilities([runs[0]])[0] is None
    assert instabilities([runs[1]])[0] is not None


def test_rare_noise_is_found_in_directions():
    """x is the same in all trajectories until y reaches it; w[1] never feels the noise."""
    loss = sgdsim.Loss(
        "",
        ("x", "y", "w[0]", "w[1]"),
        noise={"z": sgdsim.Noise.parse("bernoulli:0.001")},
        direction={"x": "x", "y": "y + z", "w": ("z", "w[1]")},
    )
    start = dict.fromkeys(loss.parameters, 1.0)
    recorder = Recorder(observables=(Observable("both", "x + w[1]"), Observable("rare", "x + w[0]")))
    run = sgdsim.Run(loss, sgdsim.Optimizer(), sgdsim.Schedule("0.1"), start, 1000, 100, recorder=recorder)
    assert attributes([run])["certain"] == "x, w[1], both"


def test_controls_need_no_gradient():
    """Of a linear field with additive noise the control is the whole noise."""
    loss = sgdsim.Loss(
        "",
        ("x", "y"),
        noise={"z": sgdsim.Noise.parse("normal")},
        direction={"x": "0.5*x - 2*y + z", "y": "2*x + 0.5*y"},
    )
    found = sgdsim.simulate(
        loss,
        learning_rate=0.1,
        initial={"x": 1.0, "y": 0.0},
        trajectories=256,
        steps=30,
        controls=["x"],
        every=30,
        device="python",
    )
    names = list(found["observable"])
    x, control = names.index("x"), names.index("control_x")
    assert found["variance"][-1, x] > 0.01
    assert found["variance"][-1, control] == pytest.approx(found["variance"][-1, x], rel=1e-9)
    mean = ((1 - 0.1 * (0.5 + 2j)) ** 30).real
    assert found["mean"][-1, x] - found["mean"][-1, control] == pytest.approx(mean, rel=1e-9)
