"""Means that follow the flow of the entropic loss, in a simulation; the formula of the other sampling is rejected."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from sgdsim.model.data import Data
from sgdsim.model.loss import Loss
from sgdsim.model.noise import Noise
from sgdsim.model.optimizers import Optimizer
from sgdsim.model.recorder import Recorder
from sgdsim.model.run import Run
from sgdsim.model.schedules import Schedule
from sgdsim.model.symmetry import Symmetry
from sgdsim.prediction import NotApplicable, Prediction
from sgdsim.simulation.run_loop import simulate_runs
from sgdsim.statistics.comparison import Comparison, compare
from sgdsim.theory import find_law
from sgdsim.theory.methods.gradient_flow import modified_mean

RATES = (0.0125, 0.025, 0.05, 0.1)
LOSS = Loss(
    "(u*w - y)**2/2",
    ("u", "w"),
    data=Data({"y": (2.2, -0.2)}),
    symmetries=(Symmetry.parse("rescale:u:1,w:-1"),),
)
BENT = [
    Run(
        Loss("x**2/2 + x**3/12 + x**4/24 + 0.4*z*x", ("x",), noise={"z": Noise.parse("normal")}),
        Optimizer(),
        Schedule(repr(rate)),
        {"x": 1.0},
        500_000,
        80,
        recorder=Recorder(every=10),
    )
    for rate in RATES
]


def runs_of(id: str, sampling: str = "replacement", every: int = 10) -> list[Run]:
    start = {"u": 1.6, "w": 0.5}
    runs = [
        Run(
            LOSS,
            Optimizer("sgd", sampling=sampling),
            Schedule(repr(rate)),
            start,
            64_000,
            80,
            recorder=Recorder(every=every),
        )
        for rate in RATES
    ]
    return [replace(run, recorder=run.recorder.merge(find_law(id).requirements(run))) for run in runs]


def verdicts(runs: list[Run], rows: list[Prediction]) -> list[Comparison]:
    return compare(simulate_runs(runs, scenario="", sweep={"optimizer.learning_rate": RATES}, device="cpu"), rows)


def test_the_charge_follows_the_entropic_loss_and_not_the_loss() -> None:
    runs = runs_of("entropic-flow")
    rows = find_law("entropic-flow").predictions(runs)
    assert [row.measure.step for row in rows] == [80, 40, 20, 10]  # type: ignore[union-attr]
    (found,) = verdicts(runs, rows)
    assert found.verdict == "agrees"
    kept = [replace(row, predicted=(1.6**2 - 0.5**2) / 2) for row in rows]
    (found,) = verdicts(runs, kept)
    assert found.verdict == "disagrees"


def test_epochs_follow_it_weight_by_weight() -> None:
    runs = runs_of("entropic-flow", "epoch")
    found = verdicts(runs, find_law("entropic-flow").predictions(runs))
    assert [abs(row.z) < 4 for row in found] == [True, True]


def test_the_plain_mean_follows_its_modified_equation_and_not_the_flow() -> None:
    runs = runs_of("modified-mean")
    rows = find_law("modified-mean").predictions(runs)
    assert all(abs(row.z) < 4 for row in verdicts(runs, rows))
    rows = [row for row in rows if row.statistic == "mean"]
    of_epochs = find_law("entropic-flow").predictions(runs_of("entropic-flow", "epoch"))
    assert [row.quantity for row in of_epochs] == [row.quantity for row in rows]
    # To leading order the two differ, at the largest rate by more than what either leaves.
    apart = max(abs(one.predicted - other.predicted) for one, other in zip(rows, of_epochs, strict=True))
    assert apart > 5e-3
    assert np.isfinite(apart)


def test_runs_of_one_time_are_compared_at_their_ends() -> None:
    """Of `run.time` the points have different numbers of steps."""
    runs = [
        replace(run, steps=round(1.0 / rate), recorder=Recorder(every=80))
        for run, rate in zip(BENT, RATES, strict=True)
    ]
    rows = find_law("modified-mean").predictions(runs)
    assert [row.measure.step for row in rows] == [80, 80, 40, 40, 20, 20, 10, 10]  # type: ignore[union-attr]
    assert len({row.series for row in rows}) == 1


def test_slopes_over_the_rate_are_told_without_being_asked() -> None:
    """Mean and variance, with the flow and less noise to reject."""
    rows = find_law("modified-mean").predictions(BENT)
    assert find_law("modified-mean").automatic
    ensemble = simulate_runs(BENT, scenario="", sweep={"optimizer.learning_rate": RATES}, device="cpu")
    mean, variance = compare(ensemble, rows)
    assert (mean.verdict, variance.verdict) == ("agrees", "agrees")
    (flow,) = modified_mean(replace(BENT[0], steps=80)).flow
    wrong = [replace(row, predicted=flow if row.statistic == "mean" else 0.8 * row.predicted) for row in rows]
    assert [row.verdict for row in compare(ensemble, wrong)] == ["disagrees", "disagrees"]


@pytest.mark.parametrize(
    ("formula", "start", "why"),
    [
        pytest.param("6*x**2 + x**4/24 + z*x", 0.5, "rate times curvature", marks=pytest.mark.validate),
        ("2*x**2 + x**4/24 + z*x", 0.5, "rate times time"),
        pytest.param("(x**2 - 1)**2 + 2*z*x", 0.5, "the curvature within the spread", marks=pytest.mark.validate),
        ("0.35*(x**2 - 1)**2 + z*x", 0.0, "the curvature within the spread"),  # of a saddle
        ("x**2/2 + 3*z*x**2", 1.0, "the noise within the spread"),
    ],
)
def test_powers_that_do_not_fall_off_are_left_out(formula: str, start: float, why: str) -> None:
    loss = Loss(formula, ("x",), noise={"z": Noise.parse("normal")})
    rows, reasons = find_law("modified-mean").evaluate([replace(run, loss=loss, initial={"x": start}) for run in BENT])
    assert not rows
    assert why in " ".join(reasons)


def test_a_time_that_is_not_recorded_is_left_out() -> None:
    with pytest.raises(NotApplicable):
        find_law("entropic-flow").predictions(runs_of("entropic-flow", every=80))


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"optimizer": Optimizer("adam")}, "plain sgd"),
        ({"schedule": Schedule("cosine:0.1")}, "rate|constant"),
        ({"loss": replace(LOSS, symmetries=())}, "no symmetry with a charge"),
    ],
)
def test_it_says_where_it_does_not_apply(change: dict[str, object], why: str) -> None:
    runs = [replace(run, **change) for run in runs_of("entropic-flow")]  # type: ignore[arg-type]
    with pytest.raises(NotApplicable, match=why):
        find_law("entropic-flow").predictions(runs)
