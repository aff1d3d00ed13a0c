"""Entropic forces, against brute force and closed forms."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from sgdsim.model.loss import Loss
from sgdsim.model.noise import Noise
from sgdsim.model.optimizers import Optimizer
from sgdsim.model.recorder import Drift as Recorded
from sgdsim.model.recorder import Histogram, Recorder
from sgdsim.model.run import Run
from sgdsim.model.schedules import Schedule
from sgdsim.model.starts import Grid
from sgdsim.prediction import DriftCurve, NotApplicable
from sgdsim.theory import find_law
from sgdsim.theory.laws import entropic_force
from sgdsim.theory.laws.entropic_force import Drift
from sgdsim.theory.methods.rivers import river
from tests.theory.laws.river_runs import EXPONENTIAL, PARABOLA, make_run


def at_rest(rate: float, a: float, sigma: float) -> Noise:
    return Noise("normal", (0.0, float(np.sqrt(rate * sigma**2 / (a * (2 - rate * a))))))


def test_the_displacement_is_that_of_the_handbook():
    """Measured there at eta = .05: -.26555 +- 4e-4, -.065452 +- 6e-5, and .69572 +- 2e-4."""
    run = make_run(EXPONENTIAL, rate=0.05, steps=60, a0=1.0, k=2.0, sigma=2.0, x=at_rest(0.05, 1.0, 2.0))
    assert Drift(river(run)).path(60)[-1] == pytest.approx(-0.26555, abs=2.5e-3)
    run = make_run(EXPONENTIAL, rate=0.05, steps=100, a0=2.0, k=1.0, x=at_rest(0.05, 2.0, 1.0))
    assert Drift(river(run)).path(100)[-1] == pytest.approx(-0.065452, abs=2.5e-4)
    run = make_run(PARABOLA, rate=0.02, steps=3000, a0=2.0, k=1.0, y=1.0, x=at_rest(0.02, 4.0, 1.0))
    assert Drift(river(run)).path(3000)[-1] == pytest.approx(0.69572, abs=8e-4)


def test_corrections_are_those_of_brute_force():
    """The mean of y over 60 steps of a million trajectories: the leading order is ten standard errors off."""
    rate, steps, n = 0.1, 60, 400_000
    random = np.random.default_rng(1)
    run = make_run(EXPONENTIAL, rate=rate, steps=steps, a0=2.0, k=1.0, x=at_rest(rate, 2.0, 1.0))
    x, y = np.sqrt(rate / (2 * (2 - 2 * rate))) * random.standard_normal(n), np.zeros(n)
    for _ in range(steps):
        a = 2 * np.exp(y)
        x, y = x - rate * (a * x + random.standard_normal(n)), y - rate * a * x**2 / 2
    drift = Drift(river(run))
    error = y.std() / np.sqrt(n)
    assert abs(y.mean() - drift.path(steps)[-1]) < 4 * error + 0.01 * abs(y.mean())
    assert abs(y.mean() - steps * drift.leading(0.0)) > 10 * error + 0.01 * abs(y.mean())


@pytest.mark.parametrize("a", [EXPONENTIAL, PARABOLA])
def test_the_conditional_drift_solves_the_equations_of_moments(a):
    """``q = E[x^2; y]`` at p = 1, beyond T/a: 2aq = 2Tp + (a'w/2)' - dq/dt, w = 3q^2, dq/dt = (T/a)(a'q/2)'."""
    run = make_run(a, rate=1e-7, a0=2.0, k=1.0, sigma=np.sqrt(2 * 1e-3 / 1e-7))  # T = 1e-3, continuous time
    known = river(run)
    t = known.temperature
    y, h = 0.7, 1e-3

    def slope(function):
        return (function(y + h) - function(y - h)) / (2 * h)

    rest = t / known.a(y)
    moment = slope(lambda s: known.a(s, 1) * 3 * (t / known.a(s)) ** 2 / 2)
    change = t / known.a(y) * slope(lambda s: known.a(s, 1) * t / known.a(s) / 2)
    q = rest + (moment - change) / (2 * known.a(y))
    expected = -known.rate * known.a(y, 1) * q / 2
    drift = Drift(known)
    assert float(drift.conditional(y) / expected) == pytest.approx(1.0, abs=3e-7)
    assert abs(float(drift.first(y) / drift.conditional(y)) - 1.0) > 1e-6  # which is not D1


def test_the_conditional_drift_is_a_row_where_it_is_recorded():
    recorder = Recorder(drifts={"y": Recorded("y", Histogram(-1, 1, 4), start=300)})
    run = make_run(PARABOLA, rate=0.02, steps=600, y=Grid(-1.5, 1.5, 0), recorder=recorder, a0=1.0, k=1.0)
    (row,) = find_law("entropic-force").predictions([run])
    assert isinstance(row.measure, DriftCurve)
    drift = Drift(river(run))
    fine = np.linspace(-1, -0.5, 2001)
    assert row.measure.values[0] == pytest.approx(float(np.mean(drift.conditional(fine))), rel=1e-4)
    narrow = replace(run, initial={"x": 0.0, "y": Grid(-0.5, 0.5, 0)})
    with pytest.raises(NotApplicable, match="uniform density"):
        find_law("entropic-force").predictions([narrow])


def test_rates_that_forget_the_start_at_other_records_are_one_series():
    """The slowest of four fell out of the series, which had too few rates then."""
    recorder = Recorder(every=100)
    runs = [
        make_run(EXPONENTIAL, rate=rate, steps=1000, recorder=recorder, a0=1.0, k=0.5) for rate in (0.02, 0.04, 0.08)
    ]
    rows = [row for run in runs for row in find_law("entropic-force").predictions([run])]
    assert len({row.measure.moments[0].step for row in rows}) > 1
    assert len({(row.quantity, row.series) for row in rows}) == 1


def test_the_steep_river_is_that_of_the_handbook():
    for options, measured, error in (
        ({"rate": 0.1, "k": 1.0, "g": 0.5, "sigma": 0.1}, -0.00131623, 3 * 1.3e-6),
        ({"rate": 0.05, "k": 1.5, "g": -0.3, "sigma": 0.2}, -0.00190985, 3 * 2.9e-6),
    ):
        rest = at_rest(options["rate"], 1.0, options["sigma"])
        run = make_run(EXPONENTIAL, "-g*y", steps=40 if options["g"] > 0 else 80, a0=1.0, x=rest, **options)
        end, shift = entropic_force.path(river(run))
        assert end == pytest.approx(options["g"] * options["rate"] * run.steps)
        if options["g"] > 0:
            assert shift == pytest.approx(measured, abs=error)
        assert entropic_force.path(river(run), adiabatic=True)[1] != pytest.approx(shift, rel=0.02)


def test_the_shift_is_right_to_first_order_by_brute_force():
    run = make_run(EXPONENTIAL, "-g*y", rate=0.1, steps=40, a0=1.0, k=1.0, g=0.5, sigma=0.3)
    random = np.random.default_rng(2)
    x, y = np.zeros(200_000), np.zeros(200_000)
    for _ in range(40):
        a = np.exp(y)
        x, y = x - 0.1 * (a * x + 0.3 * random.standard_normal(len(x))), y - 0.1 * (a * x**2 / 2 - 0.5)
    (row,) = find_law("steep-river").predictions([run])
    assert float(row.measure.function(y.mean())) == pytest.approx(1.0, abs=4 * 0.003 + 0.03 * 0.09)
    assert abs(float(row.measure.function(y.mean())) - row.rival.predicted) > 0.01


def test_the_lag_in_continuous_time():
    s = 20.0
    run = make_run(EXPONENTIAL, "-g*y", rate=0.001, steps=9000, a0=1.0, k=1.0, g=0.5, sigma=1e-3)
    known = river(run)
    heat, y = known.rest(0.0), 0.0
    for _ in range(6000):
        a = np.exp(y)
        heat, y = (1 - 0.001 * a) ** 2 * heat + 1e-6 * 1e-6, y + 0.0005
    assert np.exp(y) * heat / known.temperature == pytest.approx(entropic_force.lag(2 * np.exp(y) / 0.5), rel=2e-2)
    assert entropic_force.lag(s) == pytest.approx(1 + 1 / s + 2 / s**2 + 6 / s**3, abs=3e-4)


def test_speed_against_the_force_is_that_of_the_handbook():
    """Per step, at eta = .05 and .1: .0018491 +- 1.5e-6 and .0023385 +- 4e-6."""
    for rate, measured in ((0.05, 0.0018491), (0.1, 0.0023385)):
        run = make_run(EXPONENTIAL, "-g*y", rate=rate, steps=60, a0=1.0, k=1.0, g=0.05, x=at_rest(rate, 1.0, 1.0))
        speed = Drift(river(run)).path(60)[-1] / 60
        assert speed == pytest.approx(measured, rel=5e-3)


def test_signs_move_the_river_as_the_handbook_says():
    run = make_run(
        EXPONENTIAL, rate=0.02, steps=3000, every=1000, a0=1.0, k=1.0, sigma_y=1.0,
        river_noise="normal", optimizer=Optimizer("signsgd"),
    )  # fmt: skip
    assert 3000 * entropic_force.drift(river(run, ("signsgd",))) == pytest.approx(-0.3, abs=1e-3)
    (row,) = find_law("entropic-force-signsgd").predictions([run])
    assert row.order == 0


@pytest.mark.parametrize(
    "id",
    [
        "entropic-force",
        "entropic-force-state-noise",
        "steep-river",
        "entropic-trap",
        "edge-of-stability",
        "noisy-river",
        "two-temperatures",
        "river-speed",
        "trap-threshold",
        "entropic-force-signsgd",
    ],
)
def test_other_optimizers_are_refused(id):
    run = make_run(EXPONENTIAL, "-g*y", a0=1.0, k=1.0, g=0.05, optimizer=Optimizer("adam"))
    with pytest.raises(NotApplicable):
        find_law(id).predictions([run])


def noisy_walls(formula: str, rate: float = 0.02, steps: int = 800) -> Run:
    loss = Loss(formula, ("x", "y"), {"s": 1.5}, {"xi": Noise.parse("normal")})
    return Run(loss, Optimizer(), Schedule(repr(rate)), {"x": 0.0, "y": 1.0}, 1000, steps, recorder=Recorder(every=400))


LABELS, ROUGH = "(y*x - s*xi)**2/2", "y**2*x**2/2 + s*y**2*xi*x"


def test_noise_of_labels_moves_the_river_as_closed_forms_say():
    """a = y^2: noise like a makes y' = -eta^2*s^2*y/2, noise like a^2 y' = -eta^2*s^2*y^3/2."""
    h = 0.02**2 * 1.5**2
    assert entropic_force.displacement(noisy_walls(LABELS), 0, 800) == pytest.approx(np.expm1(-h * 400), rel=1e-7)
    assert entropic_force.displacement(noisy_walls(ROUGH), 0, 800) == pytest.approx((1 + h * 800) ** -0.5 - 1, rel=1e-7)
    for formula, power in ((LABELS, "q = 1"), (ROUGH, "q = 2")):
        (row,) = find_law("entropic-force-state-noise").predictions([noisy_walls(formula)])
        assert power in row.quantity
    with pytest.raises(NotApplicable, match="no flat river"):
        find_law("entropic-force-state-noise").predictions([noisy_walls("y**2*x**2/2 + s*xi*x")])


def test_noise_of_labels_moves_the_river_as_brute_force_has_it():
    rate, n, s = 0.02, 20_000, 1.5
    random = np.random.default_rng(5)
    x, y = np.zeros(n), np.ones(n)
    for step in range(800):
        if step == 400:
            start = y.mean()
        error = y * x - s * random.standard_normal(n)
        x, y = x - rate * y * error, y - rate * x * error
    (row,) = find_law("entropic-force-state-noise").predictions([noisy_walls(LABELS)])
    found = float(row.measure.function(start, y.mean()))
    assert found == pytest.approx(1.0, abs=0.05)
    additive = -(rate**2) * s**2 / 2 * 400  # noise as of the start, at any y
    assert abs((y.mean() - start) / additive - 1.0) > 0.1
