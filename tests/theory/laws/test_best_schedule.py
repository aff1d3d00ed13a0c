"""The best schedule, against an optimiser and other schedules."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from scipy import optimize

from sgdsim.model.losses.river_valley import river_valley
from sgdsim.model.noise import Noise
from sgdsim.model.optimizers import Optimizer
from sgdsim.model.run import Run
from sgdsim.model.schedules import Schedule
from sgdsim.prediction import Function, NotApplicable
from sgdsim.theory import find_law
from sgdsim.theory.laws import best_schedule
from sgdsim.theory.laws.best_schedule import Design
from tests.theory.laws.schedule_runs import DESIGN


def test_the_design_is_the_handbooks():
    assert DESIGN.decay_steps == pytest.approx(101.8, abs=0.01)
    assert DESIGN.final_rate == pytest.approx(0.0089443, abs=1e-7)
    assert DESIGN.closed_form == pytest.approx(-0.016621, abs=1e-6)
    assert DESIGN.loss(DESIGN.rates) == pytest.approx(-0.016593, abs=1e-6)
    excess = {name: DESIGN.loss(rates) - DESIGN.loss(DESIGN.rates) for name, rates in DESIGN.alternatives().items()}
    assert list(excess.values()) == pytest.approx([0.0017, 0.0027, 0.0071, 0.0075, 0.0158, 0.0189], abs=1e-4)


def optimum(design: Design) -> np.ndarray:
    """The best of all learning rates up to the peak, by an optimiser on the exact loss."""
    found = optimize.minimize(
        lambda parts: loss_and_slope(design, parts),
        design.rates / design.peak,
        jac=True,
        bounds=[(1e-9, 1.0)] * design.steps,
        method="L-BFGS-B",
        options={"maxiter": 20_000, "maxfun": 40_000, "ftol": 1e-15, "gtol": 1e-11},
    )
    return np.asarray(found.x * design.peak)


def loss_and_slope(design: Design, parts: np.ndarray) -> tuple[float, np.ndarray]:
    """By the adjoint of the recursion, in units of what is to be won."""
    a, noise, rates = design.curvature, design.noise, design.peak * parts
    v = np.empty(design.steps + 1)
    v[0] = design._rest
    for step, rate in enumerate(rates):
        v[step + 1] = (1.0 - rate * a) ** 2 * v[step] + rate**2 * noise
    slopes, adjoint = np.empty(design.steps), a / 2.0
    for step in range(design.steps - 1, -1, -1):
        r = 1.0 - rates[step] * a
        slopes[step] = adjoint * 2.0 * (rates[step] * noise - a * r * v[step])
        adjoint *= r * r
    scale = design.noise * design.peak
    value = a * v[-1] / 2.0 - design.slope**2 * rates.sum()
    return float(value / scale), (slopes - design.slope**2) * design.peak / scale


def test_no_rates_are_better_than_the_design_by_more_than_its_order():
    """The optimiser starts elsewhere, so that it has to find the plateau, the length of the decay and its end."""
    gaps = []
    for scale in (1, 2):  # half the peak, twice the steps, and a river as steep against the noise
        design = Design(1.0, 1.0, 0.04 / scale**0.5, 0.2 / scale, 120 * scale)
        best = optimum(design)
        assert design.loss(best) <= design.loss(design.rates)
        gaps.append((design.loss(design.rates) - design.loss(best)) / design.peak)
        assert best[0] == pytest.approx(design.peak)
        assert best[-1] == pytest.approx(design.final_rate, rel=design.peak / 2)
        decay = best[best < 0.98 * design.peak]
        assert len(decay) == pytest.approx(design.decay_steps, abs=3)
        slopes = np.diff(1 / decay[2:])
        assert slopes == pytest.approx(np.full(len(slopes), 1.0), abs=design.peak / 2)
    assert 0 < gaps[1] < 0.6 * gaps[0] < 1e-3


def test_the_gradient_of_the_optimiser_is_that_of_the_loss():
    design = Design(0.7, 1.3, 0.1, 0.3, 12)
    parts = np.random.default_rng(1).uniform(0.1, 1, 12)
    value, slope = loss_and_slope(design, parts)
    scale = design.noise * design.peak
    assert value * scale == pytest.approx(design.loss(parts * design.peak))
    numerical = optimize.approx_fprime(parts, lambda p: design.loss(p * design.peak) / scale, 1e-7)
    assert slope == pytest.approx(numerical, abs=1e-6)


def test_the_closed_form_is_right_to_leading_order():
    errors = []
    for scale in (1, 2, 4):
        design = Design(1.0, 1.0, 0.02 / scale**0.5, 0.1 / scale, 600 * scale)
        errors.append((design.closed_form - design.loss(design.rates)) / design.peak)
    assert errors[1] / errors[0] == pytest.approx(0.5, abs=0.05)
    assert errors[2] / errors[1] == pytest.approx(0.5, abs=0.03)


def test_a_steep_river_wants_no_decay():
    design = Design(1.0, 1.0, 0.5, 0.1, 100)
    assert design.decay_steps == 0
    assert (design.rates == 0.1).all()
    assert (optimum(design) > 0.0999).mean() > 0.95


def river(rate: str, c: str = "-g*y", steps: int = 600, y: float = 0.0) -> Run:
    loss = river_valley(a="a0", c=c, constants={"a0": 1.0, "sigma": 1.0, **({"g": 0.02} if "g" in c else {"b": 0.002})})
    start = Noise("normal", (0.0, float(np.sqrt(0.1 / 1.9))))
    run = Run(loss, Optimizer(), Schedule(rate), {"x": start, "y": y}, 1000, steps)
    return replace(run, recorder=find_law("best-schedule").requirements(run))


def test_the_loss_at_the_end_is_exact_for_a_curved_river():
    run = river("cosine:0.1,0", "b*y**2/2", 300, 3.0)
    (row,) = find_law("best-schedule").predictions([run])
    y, v = 3.0, 0.1 / 1.9
    for rate in run.schedule.rates(300):
        y, v = y - rate * 0.002 * y, (1 - rate) ** 2 * v + rate**2
    assert row.predicted == pytest.approx(0.002 * y * y / 2 + v / 2, rel=1e-12)


def test_the_design_of_a_curved_river_is_no_worse_than_others_of_its_kind():
    runs = [river("0.1", "b*y**2/2", 1000, 3.0)]
    design = best_schedule.design_for(runs[0])
    best = best_schedule.exact_loss(river(design.text, "b*y**2/2", 1000, 3.0))
    for factor in (0.8, 0.9, 1.1, 1.2):
        other = f"plateau_harmonic:0.1,1,{factor * design.decay_steps}"
        assert best_schedule.exact_loss(river(other, "b*y**2/2", 1000, 3.0)) > best


def test_what_other_schedules_lose_is_measured_against_the_best():
    runs = [river(rate) for rate in ("plateau_harmonic:0.1,1,101.8034", "linear:0.1,0", "0.1")]
    rows = [row for row in find_law("best-schedule").predictions(runs) if isinstance(row.measure, Function)]
    assert [row.predicted for row in rows] == pytest.approx([0.0074469, 0.0189083], abs=1e-6)
    assert rows[0].measure.function(3.0, 1.0) == 2.0


def test_a_river_that_the_valley_moves_is_refused():
    loss = river_valley(constants={"sigma": 1.0})
    run = Run(loss, Optimizer(), Schedule("0.1"), {"x": 0.0, "y": 1.0}, 1000, 100)
    with pytest.raises(NotApplicable):
        best_schedule.exact_loss(run)
