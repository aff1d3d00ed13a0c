"""Exact results about states, and what theory refuses to predict about steps that read them."""

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
from sgdsim.model.observables import Observable
from sgdsim.model.rare_events import attributes
from sgdsim.model.recorder import Recorder
from sgdsim.theory import LAWS
from sgdsim.theory.methods.stability import instabilities

A, S, ETA, B, STEPS = 0.8, 0.5, 0.25, 0.1, 15
SOURCE = "the step reads m, and so has a memory of its own"


def averaged(start: float) -> tuple[float, float]:
    """Mean and variance of the average of iterates of ``x' = q x - eta s z``, as sums over the noise of each step."""
    q, n = 1 - ETA * A, STEPS
    mean = start * q * (1 - q**n) / (1 - q) / n
    heard = (1 - q ** np.arange(n, 0, -1)) / (1 - q)  # by what each kick moves the sum of all x after it
    return mean, (ETA * S / n) ** 2 * float((heard**2).sum())


def traced(start: float) -> tuple[float, float]:
    """Mean and variance of ``trace' = (1 - b) trace + b x`` beside it, by the moments of the pair."""
    matrix = np.array([[1 - ETA * A, 0.0], [B, 1 - B]])
    mean, covariance = np.array([start, 0.0]), np.zeros((2, 2))
    for _ in range(STEPS):
        mean, covariance = matrix @ mean, matrix @ covariance @ matrix.T + np.diag([(ETA * S) ** 2, 0.0])
    return mean[1], covariance[1, 1]


@pytest.mark.parametrize(
    ("text", "exact"),
    [("m + (next(x) - m)/(t + 1)", averaged), (f"(1 - {B})*m + {B}*x", traced)],
    ids=["the average of the iterates", "an eligibility trace"],
)
def test_mean_and_variance_are_exact(text, exact, tmp_path: Path):
    """At 1e-3 for all rows together; 3 % more is the control, which must be rejected."""
    mean, variance = exact(1.0)
    claims: list[dict[str, Any]] = [
        {"formula": f"mean(o) = {mean}; resolution=1%"},
        {"formula": f"variance(o) = {variance}; resolution=2%"},
        {"formula": f"mean(o) = {1.03 * mean}; resolution=1%", "expect": "disagrees"},
        {"formula": f"variance(o) = {1.03 * variance}; resolution=2%", "expect": "disagrees"},
    ]
    data = {
        "loss": {
            "formula": "a*x**2/2 + s*z*x",
            "parameters": {"x": 1.0},
            "constants": {"a": A, "s": S},
            "noise": {"z": "normal"},
            "state": {"m": text},
        },
        "optimizer": {"learning_rate": ETA},
        "run": {"trajectories": 400_000, "steps": STEPS, "seed": 8},
        "record": {"observables": {"o": "m"}},
        "predict": [*claims, {"id": "affine-moments"}, {"id": "valley"}],
    }
    run_scenario(scenario_from(data, "remembered", "here"), tmp_path / "remembered.h5")
    report = compare_file(tmp_path / "remembered.h5")
    verdicts = {(row.id, row.statistic): row.verdict for row in report.comparisons}
    assert not report.disagrees, report.table()
    assert [verdicts[key] for key in (("user-1", "mean"), ("user-2", "variance"))] == ["agrees"] * 2, report.table()
    # A state that no step reads takes no law away.
    assert any(id == "valley" for id, _ in verdicts)


def run_of(loss: sgdsim.Loss, rate: float = 0.1, **fields: Any) -> sgdsim.Run:
    start = dict.fromkeys(loss.parameters, 0.5)
    optimizer = fields.pop("optimizer", sgdsim.Optimizer())
    return sgdsim.Run(loss, optimizer, sgdsim.Schedule(repr(rate)), start, 1000, 100, **fields)


NOISE = {"z": sgdsim.Noise.parse("normal")}
MEMORY = {"m": sgdsim.State("0.5*m + x")}


@pytest.mark.parametrize("id", LAWS)
@pytest.mark.parametrize(
    "loss",
    [
        sgdsim.Loss("x**2/2 + z*x + m*x", ("x",), noise=NOISE, states=MEMORY),
        sgdsim.Loss("", ("x",), noise=NOISE, definitions={"d": "x + m"}, direction={"x": "d + z"}, states=MEMORY),
    ],
    ids=["loss", "direction"],
)
def test_laws_refuse_steps_that_read_a_state(id, loss):
    runs = [run_of(loss, rate) for rate in (0.1, 0.05, 0.02, 0.01)]
    assert LAWS[id].evaluate(runs) == ([], [SOURCE])
    assert LAWS[id].requirements(runs[0]) == Recorder()


def test_a_preconditioner_that_reads_a_state_is_refused_too():
    loss = sgdsim.Loss("x**2/2 + z*x", ("x",), noise=NOISE, states=MEMORY)
    optimizer = sgdsim.Optimizer(preconditioner=("1/(1 + m**2)",))
    assert LAWS["valley"].evaluate([run_of(loss, optimizer=optimizer)]) == ([], [SOURCE])
    assert LAWS["valley"].evaluate([run_of(loss)])[0]


def test_the_report_and_the_warning_refuse():
    run = run_of(sgdsim.Loss("5*x**2/2 + m*x", ("x",), states=MEMORY), rate=0.5)
    assert {section(title, run).reason for title in SECTIONS} == {SOURCE}
    assert instabilities([run])[0] is None
    assert instabilities([run_of(sgdsim.Loss("5*x**2/2", ("x",), states=MEMORY), rate=0.5)])[0] is not None


def test_controls_refuse_what_they_do_not_know():
    reading = sgdsim.Loss("x**2/2 + z*x + m*x", ("x",), noise=NOISE, states=MEMORY)
    beside = sgdsim.Loss("x**2/2 + z*x", ("x",), noise=NOISE, states=MEMORY)
    rest: dict[str, Any] = {"learning_rate": 0.1, "initial": {"x": 1}, "trajectories": 64, "steps": 4}
    rest |= {"device": "python", "every": 4}
    with pytest.raises(sgdsim.InputError, match="a control needs steps of the parameters alone, not of m"):
        sgdsim.simulate(reading, controls=["x"], **rest)
    with pytest.raises(sgdsim.InputError, match="o: reads m, expected parameters alone"):
        sgdsim.simulate(beside, controls=["o"], observables={"o": "x + m"}, **rest)
    found = sgdsim.simulate(beside, controls=["x"], **rest)
    names = list(found["observable"])
    variances = [found["variance"][-1, names.index(name)] for name in ("x", "control_x")]
    assert variances[0] == pytest.approx(variances[1], rel=1e-9)


def test_rare_noise_is_found_in_states():
    """k counts and c follows x, which feels no noise; m hears of it one step late, and y of m; n begins with y."""
    loss = sgdsim.Loss(
        "",
        ("x", "y"),
        noise={"z": sgdsim.Noise.parse("bernoulli:0.001")},
        direction={"x": "x", "y": "y + m"},
        states={
            "k": sgdsim.State("k + t"),
            "c": sgdsim.State("next(x) - gradient(x)"),
            "m": sgdsim.State("m/2 + z"),
            "n": sgdsim.State("n", "y"),
        },
    )
    recorder = Recorder(observables=tuple(Observable(f"o_{name}", name) for name in "kcmn"))
    assert attributes([run_of(loss, recorder=recorder)])["certain"] == "x, o_k, o_c"
    drawn = {"x": 1.0, "y": sgdsim.Noise.parse("bernoulli:0.001")}
    run = sgdsim.Run(loss, sgdsim.Optimizer(), sgdsim.Schedule("0.1"), drawn, 100, 10, recorder=recorder)
    assert attributes([run])["certain_at_start"] == "x, o_k, o_c, o_m"
