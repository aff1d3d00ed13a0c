"""Collapse and heavy tails on a plain simulation, with a wrong run to reject."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from sgdsim.model.loss import Loss
from sgdsim.model.noise import Noise
from sgdsim.model.run import Run
from sgdsim.model.schedules import Schedule
from sgdsim.prediction import NotApplicable
from sgdsim.simulation.run_loop import simulate_runs
from sgdsim.statistics.comparison import Comparison, compare
from sgdsim.theory import find_law
from tests.theory.laws.symmetry_runs import NOISE, REGRESSION, make_run, verdicts


class TestLyapunov:
    LOSS = Loss("(-0.2 + 1.5*z)*u**2/2", ("u",), {}, {"z": Noise.parse("table:-1@0.5,1@0.5")})

    def test_the_typical_growth_agrees(self) -> None:
        mean, variance = verdicts(make_run(self.LOSS, rate="0.4"), "lyapunov")
        # Handbook: (1/2) log|(1 - eta*h)^2 - eta^2 D^2| = -0.107588.
        assert mean.predicted == pytest.approx(-0.107588 * 12, abs=1e-5)
        assert abs(mean.z) < 4
        assert abs(variance.z) < 4

    def test_another_spread_is_rejected(self) -> None:
        told = Loss("(-0.2 + 1.3*z)*u**2/2", ("u",), {}, self.LOSS.noise)
        rows = verdicts(make_run(self.LOSS, rate="0.4"), "lyapunov", told=make_run(told, rate="0.4"))
        assert rows[1].verdict == "disagrees"

    def test_it_needs_a_gradient_that_is_a_factor_times_the_parameter(self) -> None:
        with pytest.raises(NotApplicable, match="random factor"):
            find_law("lyapunov").predictions([make_run(Loss("(u - z)**2/2", ("u",), {}, NOISE))])


class TestCollapse:
    """Two-point noise about a saddle: log|(1 + eta*a)^2 - eta^2*D^2|/2 a step, by hand; a window in the rate."""

    RATES = (0.1, 0.25, 1.2)

    def runs(self, spread: float) -> list[Run]:
        loss = Loss(f"({spread}*z - 0.2)*u**2/2", ("u",), {}, {"z": Noise.parse("table:-1@0.5,1@0.5")})
        runs = [make_run(loss, rate=str(rate), trajectories=6400) for rate in self.RATES]
        return [replace(run, recorder=find_law("collapse").requirements(run)) for run in runs]

    def verdict(self, told: float) -> Comparison:
        swept = {"optimizer.learning_rate": self.RATES}
        simulated = simulate_runs(self.runs(1.5), scenario="", sweep=swept)
        (row,) = compare(simulated, find_law("collapse").predictions(self.runs(told)))
        return row

    def test_all_points_are_one_row(self) -> None:
        (row,) = find_law("collapse").predictions(self.runs(1.5))
        growth = [np.log(abs((1 + 0.2 * rate) ** 2 - (1.5 * rate) ** 2)) / 2 for rate in self.RATES]
        assert row.measure.values == pytest.approx([12 * one for one in growth])  # type: ignore[union-attr]
        assert "over 3 points, of which 1 collapse" in row.quantity
        assert abs(self.verdict(1.5).z) < 4

    def test_another_spread_at_any_point_is_rejected(self) -> None:
        assert self.verdict(1.3).verdict == "disagrees"


class TestTail:
    def test_the_exponent_of_regression(self) -> None:
        run = make_run(REGRESSION, rate="0.8", steps=60, trajectories=64 * 4096)
        (row,) = verdicts(run, "heavy-tail")
        assert row.predicted == pytest.approx(1.546, abs=1e-3)  # handbook
        assert abs(row.z) < 4

    def test_a_lighter_tail_is_rejected(self) -> None:
        run = make_run(REGRESSION, rate="0.8", steps=60, trajectories=64 * 4096)
        (row,) = verdicts(run, "heavy-tail", told=replace(run, schedule=Schedule("0.4")))
        assert abs(row.z) > 5

    @pytest.mark.parametrize(
        ("formula", "why"),
        [("(x*u - 20*x - e)**2/2", "minimum at 20"), ("(x*u - 20*x)**2/2 + 0*e", "collapse|minimum at 20")],
    )
    def test_the_tail_is_about_a_noisy_minimum_at_zero(self, formula: str, why: str) -> None:
        run = make_run(Loss(formula, ("u",), {}, REGRESSION.noise), rate="0.8", steps=60)
        run = replace(run, recorder=find_law("heavy-tail").requirements(run))
        with pytest.raises(NotApplicable, match=why):
            find_law("heavy-tail").predictions([run])

    def test_it_waits_until_the_start_is_forgotten(self) -> None:
        run = make_run(REGRESSION, rate="0.8", steps=6)
        run = replace(run, recorder=find_law("heavy-tail").requirements(run))
        with pytest.raises(NotApplicable, match="remembered"):
            find_law("heavy-tail").predictions([run])
