"""Laws of rivers, NTL-20 to NTL-26, against closed equations of moments, brute force and the handbook's numbers."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from sgdsim.losses.river_valley import river_valley
from sgdsim.noise import Noise
from sgdsim.optimizers import Optimizer
from sgdsim.run import Drift as Recorded
from sgdsim.run import Histogram, Recorder, Run
from sgdsim.schedules import Schedule
from sgdsim.starts import Grid
from sgdsim.theory import law, ntl21, ntl22, ntl26
from sgdsim.theory.ntl20 import Drift
from sgdsim.theory.prediction import DriftCurve, NotApplicable
from sgdsim.theory.river import river

EXPONENTIAL, PARABOLA = "a0*exp(k*y)", "a0*(1 + k*y**2)"


def make_run(a: str, c: str = "0", rate: float = 0.05, steps: int = 100, every: int | None = None, **options) -> Run:
    start = {"x": options.pop("x", 0.0), "y": options.pop("y", 0.0)}
    optimizer = options.pop("optimizer", Optimizer())
    river_noise = options.pop("river_noise", None)
    recorder = options.pop("recorder", Recorder(every=every))
    constants = {"sigma": 1.0, **options}
    loss = river_valley(a=a, c=c, river_noise=river_noise, constants=constants)
    return Run(loss, optimizer, Schedule(repr(rate)), start, 1000, steps, recorder=recorder)


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
    (row,) = law("NTL-20").predictions([run])
    assert isinstance(row.measure, DriftCurve)
    drift = Drift(river(run))
    fine = np.linspace(-1, -0.5, 2001)
    assert row.measure.values[0] == pytest.approx(float(np.mean(drift.conditional(fine))), rel=1e-4)
    narrow = replace(run, initial={"x": 0.0, "y": Grid(-0.5, 0.5, 0)})
    with pytest.raises(NotApplicable, match="uniform density"):
        law("NTL-20").predictions([narrow])


def test_the_steep_river_is_that_of_the_handbook():
    for options, measured, error in (
        ({"rate": 0.1, "k": 1.0, "g": 0.5, "sigma": 0.1}, -0.00131623, 3 * 1.3e-6),
        ({"rate": 0.05, "k": 1.5, "g": -0.3, "sigma": 0.2}, -0.00190985, 3 * 2.9e-6),
    ):
        rest = at_rest(options["rate"], 1.0, options["sigma"])
        run = make_run(EXPONENTIAL, "-g*y", steps=40 if options["g"] > 0 else 80, a0=1.0, x=rest, **options)
        end, shift = ntl21.path(river(run))
        assert end == pytest.approx(options["g"] * options["rate"] * run.steps)
        if options["g"] > 0:
            assert shift == pytest.approx(measured, abs=error)
        assert ntl21.path(river(run), adiabatic=True)[1] != pytest.approx(shift, rel=0.02)


def test_the_shift_is_right_to_first_order_by_brute_force():
    run = make_run(EXPONENTIAL, "-g*y", rate=0.1, steps=40, a0=1.0, k=1.0, g=0.5, sigma=0.3)
    random = np.random.default_rng(2)
    x, y = np.zeros(200_000), np.zeros(200_000)
    for _ in range(40):
        a = np.exp(y)
        x, y = x - 0.1 * (a * x + 0.3 * random.standard_normal(len(x))), y - 0.1 * (a * x**2 / 2 - 0.5)
    (row,) = law("NTL-21").predictions([run])
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
    assert np.exp(y) * heat / known.temperature == pytest.approx(ntl21.lag(2 * np.exp(y) / 0.5), rel=2e-2)
    assert ntl21.lag(s) == pytest.approx(1 + 1 / s + 2 / s**2 + 6 / s**3, abs=3e-4)


def test_the_trap_is_that_of_the_handbook():
    run = make_run(PARABOLA, "b*(y - yc)**2/2", rate=0.01, steps=8000, a0=2.0, k=1.0, b=0.2, yc=1.0, y=1.0)
    y = ntl22.trap(river(run))
    assert y == pytest.approx(0.987274, abs=3 * 2.3e-5)
    assert ntl22.variance(river(run), y) == pytest.approx(7.827e-6, rel=0.03)
    run = make_run(EXPONENTIAL, "b*y**2/2", rate=0.03, steps=8000, a0=2.0, k=1.0, b=0.5)
    y = ntl22.trap(river(run))
    assert y == pytest.approx(-0.0154433, abs=3 * 1.1e-5)
    assert ntl22.variance(river(run), y) == pytest.approx(5.058e-5, rel=2e-3)


def test_the_trap_is_right_to_second_order_against_the_exact_balance_of_forces():
    """At small eta the finite-eta root and its shift, as derived otherwise in the handbook, are the same to eta^2."""
    for rate in (0.01, 0.005):
        run = make_run(EXPONENTIAL, "b*y**2/2", rate=rate, steps=8000, a0=2.0, k=1.0, b=0.5)
        root = -rate / 2 * 1.0 / (2 * 0.5) * 1.0 / (1 - rate)  # c' + a' eta sigma^2/(2a(2 - eta a)) = 0 near y = 0
        assert ntl22.trap(river(run)) == pytest.approx(root, abs=1.2 * rate**2)


def test_a_river_that_nothing_holds_is_refused():
    with pytest.raises(NotApplicable, match="nothing holds"):
        ntl22.trap(river(make_run(PARABOLA, "-g*y", a0=4.0, k=1.0, g=1.0)))


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
    assert 3000 * ntl26.drift(river(run, ("signsgd",))) == pytest.approx(-0.3, abs=1e-3)
    (row,) = law("NTL-26").predictions([run])
    assert row.order == 0


def test_a_noisy_river_has_the_gibbs_law_of_the_handbook():
    options = {"a0": 1.0, "k": 2.0, "b": 0.5, "sigma": 1.5, "sigma_y": 1.5, "river_noise": "normal"}
    run = make_run(PARABOLA, "b*y**2/2", rate=0.05, steps=800, **options)
    run = replace(run, recorder=law("NTL-23").requirements(run))
    (row,) = law("NTL-23").predictions([run])
    assert row.predicted == pytest.approx(0.098622, abs=2e-4)
    with pytest.raises(NotApplicable):
        law("NTL-23").predictions([make_run(PARABOLA, "b*y**2/2", **{**options, "sigma_y": 1.0})])


@pytest.mark.parametrize("id", ["NTL-20", "NTL-21", "NTL-22", "NTL-23", "NTL-24", "NTL-26"])
def test_other_optimizers_are_refused(id):
    run = make_run(EXPONENTIAL, "-g*y", a0=1.0, k=1.0, g=0.05, optimizer=Optimizer("adam"))
    with pytest.raises(NotApplicable):
        law(id).predictions([run])
