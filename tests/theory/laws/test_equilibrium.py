"""Heat capacity and entropy on a plain simulation, with wrong numbers to reject."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest

from sgdsim.ensemble import Ensemble
from sgdsim.model.run import Run
from sgdsim.prediction import Function, NotApplicable
from sgdsim.statistics.comparison import compare
from sgdsim.theory import find_law
from tests.samples import daily
from tests.statistics.test_estimators import stacked
from tests.theory.laws import closed_forms
from tests.theory.laws.entropy_runs import noisy_valley, rows_of
from tests.theory.laws.valley_runs import CURVATURES, make_run, simulate, walls


def test_entropy_of_a_valley_and_its_slope():
    """Handbook: 0.55164 at eta = 0.3, and dS/d ln(eta) = 1/(2 - eta*a)."""
    assert rows_of("entropy", noisy_valley())[0].predicted == pytest.approx(0.55164, abs=5e-6)
    *_, secant = rows_of("entropy", noisy_valley(rate=0.3), noisy_valley(rate=0.3001))
    assert secant.predicted == pytest.approx(1 / 1.7, rel=1e-4)
    assert isinstance(secant.measure, Function)
    assert secant.measure.function(np.array(0.2), np.array(0.3)) == pytest.approx(
        np.log(1.5) / 2 / np.log(1.0 + 1e-4 / 0.3)
    )


def test_an_entropy_says_why_it_does_not_hold():
    with pytest.raises(NotApplicable, match="Gaussian"):
        rows_of("entropy", noisy_valley(start="uniform:-1,1"))


RATES = (0.36, 0.4, 0.44)


def sweep(values: Sequence[tuple[float, float]], common: bool) -> tuple[list[Run], Ensemble]:
    runs = [make_run(walls(sigma=sigma), rate) for rate, sigma in values]
    seeds = [5] * len(runs) if common else range(len(runs))
    return runs, stacked([simulate(run, seed=seed) for run, seed in zip(runs, seeds, strict=True)])


@pytest.mark.parametrize("common", daily([True, False], True))
def test_heat_capacity_at_fixed_noise(common: bool) -> None:
    """Six secants and nine fluctuations, Holm at 1e-3 (fixed seed); common noise makes the secants sharp."""
    runs, ensemble = sweep([(rate, 1.0) for rate in RATES], common)
    predictions = find_law("heat-capacity").predictions(runs)
    secants = [row for row in predictions if row.statistic == "secant"]
    assert len(secants) == 6
    assert all("fixed noise" in row.quantity and row.point is None for row in secants)
    rows = compare(ensemble, predictions)
    assert not [row for row in rows if row.verdict == "disagrees"]
    leading = [replace(row, predicted=0.5) for row in secants if "x_2" in row.quantity]
    assert {row.verdict for row in compare(ensemble, leading)} == {"disagrees"}
    flat = [row.stderr for row in rows if row.statistic == "secant" and "x_0" in row.quantity]
    assert (max(flat) < 0.03) is common
    middle = [row.predicted for row in secants if "x_1" in row.quantity]
    derivative = closed_forms.heat_capacity_fixed_noise(0.4, 1.0)
    assert np.mean(middle) == pytest.approx(derivative, rel=5e-3)


def test_heat_capacity_at_fixed_learning_rate() -> None:
    runs, ensemble = sweep([(0.4, 1.0), (0.4, 1.2), (0.4, 1.1)], common=True)
    secants = [row for row in find_law("heat-capacity").predictions(runs) if row.statistic == "secant"]
    assert [row.quantity for row in secants[:2]] == [
        "heat capacity dfast_loss_x_0/dT at fixed learning rate, points 0 to 2",
        "heat capacity dfast_loss_x_0/dT at fixed learning rate, points 2 to 1",
    ]
    expected = closed_forms.heat_capacity_fixed_rate(0.4, CURVATURES[2])
    assert secants[-1].predicted == pytest.approx(expected, rel=1e-6)
    rows = compare(ensemble, secants)
    assert {row.verdict for row in rows} <= {"agrees", "inconclusive"}
    shared = {row.stderr / row.measured for row in rows}
    assert max(shared) < 0.03


def test_a_grid_gives_secants_along_each_axis_only() -> None:
    runs = [make_run(walls((1.0,), sigma=sigma), rate) for rate in (0.2, 0.4) for sigma in (1.0, 1.1)]
    quantities = [row.quantity for row in find_law("heat-capacity").predictions(runs) if row.statistic == "secant"]
    ends = sorted(quantity.split("fixed ")[1] for quantity in quantities)
    assert ends == [
        "learning rate, points 0 to 1",
        "learning rate, points 2 to 3",
        "noise, points 0 to 2",
        "noise, points 1 to 3",
    ]
