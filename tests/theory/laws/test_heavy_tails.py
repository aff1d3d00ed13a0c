"""Collapse and heavy tails on a plain simulation, with a wrong run to reject."""

from __future__ import annotations

from dataclasses import replace

import pytest

from sgdsim.model.loss import Loss
from sgdsim.model.noise import Noise
from sgdsim.model.schedules import Schedule
from sgdsim.prediction import NotApplicable
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
