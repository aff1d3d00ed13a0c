"""The law near a minimum, order by order, in a simulated sweep over learning rates; leading order is the control."""

from __future__ import annotations

from dataclasses import replace

import pytest

from sgdsim.model.loss import Loss
from sgdsim.model.noise import Noise
from sgdsim.model.optimizers import Optimizer
from sgdsim.model.run import Run
from sgdsim.model.schedules import Schedule
from sgdsim.prediction import Moment
from sgdsim.simulation.run_loop import simulate_runs
from sgdsim.statistics.comparison import compare
from sgdsim.theory import find_law
from sgdsim.theory.methods.minimum_expansion import expansion

RATES = (0.08, 0.15, 0.25, 0.35)
LAW = find_law("near-minimum")
LOSS = Loss("x**2/2 + x**3/12 + x**4/24 + z*x", ("x",), noise={"z": Noise.parse("normal")})


def sweep(trajectories: int = 1000, rates: tuple[float, ...] = RATES) -> list[Run]:
    return [Run(LOSS, Optimizer(), Schedule(repr(rate)), {"x": 0.0}, trajectories, 200) for rate in rates]


def test_a_sweep_has_rows_of_the_mean_and_of_the_variance_with_their_orders() -> None:
    runs = sweep()
    rows = LAW.predictions(runs)
    assert [(row.statistic, row.order, row.small) for row in rows[:2]] == [("mean", 1, 0.08), ("variance", 2, 0.08)]
    assert len(rows) == 8
    assert rows[1].predicted == expansion(runs[0]).covariance[0, 0]
    found = expansion(runs[3])
    assert [row.resolution for row in rows[6:]] == pytest.approx(
        [0.5 * abs(found.mean[0]), 0.5 * (found.covariance[0, 0] - found.leading[0, 0])]
    )
    assert rows[1].conditions == "of which +3 % are of the next order"


@pytest.mark.parametrize(
    ("runs", "why"),
    [
        (sweep()[:1], "4 learning rates or more"),
        (sweep(rates=(0.1, 0.2)), "there are 2 learning rates, expected 4"),
        (sweep(rates=(0.001, 0.1, 0.15, 0.2)), "of the start is left"),
        (sweep(rates=(0.3, 0.5, 0.9, 1.4)), "the next order is 0.53 of the leading variance"),
        ([replace(run, schedule=Schedule(f"linear:{0.1 + i / 20}")) for i, run in enumerate(sweep())], "changes"),
    ],
)
def test_it_says_where_it_does_not_apply(runs: list[Run], why: str) -> None:
    rows, reasons = LAW.evaluate(runs)
    assert not rows
    assert why in " ".join(reasons)


def test_it_does_not_hold_where_trajectories_leave_over_a_barrier() -> None:
    well = Loss("(x**2 - 1)**2/4 + z*x", ("x",), noise={"z": Noise.parse("normal")})
    runs = [Run(well, Optimizer(), Schedule(str(rate)), {"x": 1.0}, 1000, 400) for rate in (0.02, 0.03, 0.035, 0.04)]
    assert len(LAW.predictions(runs)) == 8
    hot = [replace(run, schedule=Schedule(str(2 * run.schedule.rates(1)[0]))) for run in runs]
    rows, reasons = LAW.evaluate(hot)
    assert not rows
    assert "of the trajectories have left the minimum over the barrier at x = 0, which shows" in " ".join(reasons)


@pytest.mark.validate
def test_the_next_order_holds_and_leading_order_does_not() -> None:
    runs = sweep(2_000_000)
    ensemble = simulate_runs(runs, scenario="", device="cpu", sweep={"optimizer.learning_rate": RATES})
    rows = LAW.predictions(runs)
    assert {row.verdict for row in compare(ensemble, rows)} == {"agrees"}
    leading = [
        replace(row, predicted=float(expansion(runs[row.point]).leading[0, 0]))
        for row in rows
        if isinstance(row.measure, Moment) and row.measure.statistic == "variance" and row.point is not None
    ]
    assert {row.verdict for row in compare(ensemble, leading)} == {"disagrees"}
