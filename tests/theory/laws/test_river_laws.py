"""Laws of rivers against closed equations of moments, brute force and the handbook's numbers."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from sgdsim.model.loss import Loss
from sgdsim.model.losses.river_valley import river_valley
from sgdsim.model.noise import Noise
from sgdsim.model.observables import Observable
from sgdsim.model.optimizers import Optimizer
from sgdsim.model.run import Drift as Recorded
from sgdsim.model.run import Histogram, Recorder, Run
from sgdsim.model.schedules import Schedule
from sgdsim.model.starts import Grid
from sgdsim.prediction import DriftCurve, NotApplicable
from sgdsim.theory import find_law
from sgdsim.theory.laws import entropic_force, entropic_trap, noisy_river
from sgdsim.theory.laws.entropic_force import Drift
from sgdsim.theory.methods.rivers import river

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
    (row,) = find_law("entropic-force").predictions([run])
    assert isinstance(row.measure, DriftCurve)
    drift = Drift(river(run))
    fine = np.linspace(-1, -0.5, 2001)
    assert row.measure.values[0] == pytest.approx(float(np.mean(drift.conditional(fine))), rel=1e-4)
    narrow = replace(run, initial={"x": 0.0, "y": Grid(-0.5, 0.5, 0)})
    with pytest.raises(NotApplicable, match="uniform density"):
        find_law("entropic-force").predictions([narrow])


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


def test_the_trap_is_that_of_the_handbook():
    run = make_run(PARABOLA, "b*(y - yc)**2/2", rate=0.01, steps=8000, a0=2.0, k=1.0, b=0.2, yc=1.0, y=1.0)
    y = entropic_trap.trap(river(run))
    assert y == pytest.approx(0.987274, abs=3 * 2.3e-5)
    assert entropic_trap.variance(river(run), y) == pytest.approx(7.827e-6, rel=0.03)
    run = make_run(EXPONENTIAL, "b*y**2/2", rate=0.03, steps=8000, a0=2.0, k=1.0, b=0.5)
    y = entropic_trap.trap(river(run))
    assert y == pytest.approx(-0.0154433, abs=3 * 1.1e-5)
    assert entropic_trap.variance(river(run), y) == pytest.approx(5.058e-5, rel=2e-3)


def test_the_trap_is_right_to_second_order_against_the_exact_balance_of_forces():
    """At small eta the finite-eta root and its shift, as derived otherwise in the handbook, are the same to eta^2."""
    for rate in (0.01, 0.005):
        run = make_run(EXPONENTIAL, "b*y**2/2", rate=rate, steps=8000, a0=2.0, k=1.0, b=0.5)
        root = -rate / 2 * 1.0 / (2 * 0.5) * 1.0 / (1 - rate)  # c' + a' eta sigma^2/(2a(2 - eta a)) = 0 near y = 0
        assert entropic_trap.trap(river(run)) == pytest.approx(root, abs=1.2 * rate**2)


def test_a_river_that_nothing_holds_is_refused():
    with pytest.raises(NotApplicable, match="nothing holds"):
        entropic_trap.trap(river(make_run(PARABOLA, "-g*y", a0=4.0, k=1.0, g=1.0)))


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


def test_a_noisy_river_has_the_gibbs_law_of_the_handbook():
    options = {"a0": 1.0, "k": 2.0, "b": 0.5, "sigma": 1.5, "sigma_y": 1.5, "river_noise": "normal"}
    run = make_run(PARABOLA, "b*y**2/2", rate=0.05, steps=800, **options)
    run = replace(run, recorder=find_law("noisy-river").requirements(run))
    (row,) = find_law("noisy-river").predictions([run])
    assert row.predicted == pytest.approx(0.098622, abs=2e-4)
    with pytest.raises(NotApplicable):
        find_law("noisy-river").predictions([make_run(PARABOLA, "b*y**2/2", **{**options, "sigma_y": 1.0})])


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


# Held, passing, at the edge of stability


def passing(rate: float, ratio: float, steps: int = 16000, g: float = 0.02, **options) -> Run:
    """The handbook's river between parabolic walls at so many T_c, with its first passage of 1.5."""
    recorder = Recorder(observables=(Observable("passage", "y - 1.5", None, "passage"),))
    sigma = np.sqrt(4.0 * ratio * g / rate)
    return make_run(
        PARABOLA, "-g*y", rate=rate, steps=steps, a0=4.0, k=1.0, g=g, sigma=sigma, recorder=recorder, **options
    )


def test_the_held_river_is_that_of_the_handbook():
    """Measured there: .373682 +- 5e-4 and .171644 +- 2.3e-4; leading order has .38197 and .17157."""
    for ratio, measured, error in ((1.5, 0.373682, 5e-4), (3.0, 0.171644, 2.3e-4)):
        (row,) = find_law("trap-threshold").predictions([passing(0.0125, ratio, 40000, y=0.3)])
        assert row.predicted == pytest.approx(measured, abs=4 * error)
        assert row.order == 1
    assert entropic_trap.leading_trap(river(passing(0.0125, 1.5))) == pytest.approx(0.381966, abs=1e-6)
    assert entropic_trap.threshold(river(passing(0.0125, 1.5))) == pytest.approx(0.04)


def test_the_time_of_transit_is_that_of_the_handbook():
    """Measured there: 10757 +- 20 at T_c/2. At 3/4 of T_c its mean is of those alone that had passed."""
    (row,) = find_law("trap-threshold").predictions([passing(0.0125, 0.5)])
    assert entropic_trap.transit(river(passing(0.0125, 0.5)), 1.5) == pytest.approx(10757, rel=5e-3)
    assert "passage" in row.measure.moments[0].observable
    with pytest.raises(NotApplicable, match="no first_passage"):
        find_law("trap-threshold").predictions([replace(passing(0.0125, 0.5), recorder=Recorder())])


def test_the_time_to_leading_order_has_a_closed_form():
    """At T/T_c = 1/2: the integral of (1 + y^2)/(1 - y + y^2)."""
    expected = 1.5 + np.log(1 - 1.5 + 2.25) / 2 + (np.arctan(2 / np.sqrt(3)) + np.arctan(1 / np.sqrt(3))) / np.sqrt(3)
    found = entropic_trap.transit(river(passing(0.0125, 0.5)), 1.5, leading=True)
    assert found * 0.0125 * 0.02 == pytest.approx(expected, rel=1e-8)


@pytest.mark.parametrize("s", [0.2, 6.0 / 13.0])
def test_what_passes_is_not_at_rest_as_brute_force_has_it(s):
    """z is an Ornstein-Uhlenbeck process, y runs by 1 - s*z^2: z^2 where y first passes 0, from far below."""
    random, step, found = np.random.default_rng(8), 0.02, []
    z, y, keep = random.standard_normal(8000), np.full(8000, -6.0), np.exp(-0.02)
    while z.size:
        after = keep * z + np.sqrt(1.0 - keep**2) * random.standard_normal(z.size)
        ahead = y + step * (1.0 - s * (z**2 + after**2) / 2.0)
        found.append(after[ahead >= 0.0] ** 2)
        z, y = after[ahead < 0.0], ahead[ahead < 0.0]
    squares = s / 2.0 * (1.0 - np.concatenate(found))
    error = squares.std() / np.sqrt(squares.size)
    delta = entropic_trap.lead_at_passage(s)
    assert delta == pytest.approx(entropic_trap.lead_at_passage(s, 80), rel=5e-3)
    assert squares.mean() == pytest.approx(delta, abs=4 * error + 0.03 * delta)  # 0.03: of the step
    assert abs(squares.mean() - s**2 / (1.0 - s)) > 5 * error  # as if y never turned back


def test_the_time_of_transit_is_that_of_brute_force():
    rate, g, n = 0.02, 0.08, 2000
    known = river(passing(rate, 0.5, g=g))
    random = np.random.default_rng(3)
    x, y, passage = np.zeros(n), np.zeros(n), np.zeros(n)
    for step in range(1, 5000):
        kick = np.sqrt(known.noise) * random.standard_normal(n)
        x, y = x - rate * (4 * (1 + y * y) * x + kick), y - rate * (4 * y * x * x - g)
        passage[(passage == 0) & (y > 1.5)] = step
        if passage.all():
            break
    assert passage.all()
    error = passage.std() / np.sqrt(n)
    predicted = entropic_trap.transit(known, 1.5)
    assert abs(passage.mean() - predicted) < 4 * error + 0.01 * predicted
    assert abs(passage.mean() - entropic_trap.transit(known, 1.5, leading=True)) > 4 * error + 0.01 * predicted


def test_other_rivers_have_no_threshold():
    with pytest.raises(NotApplicable, match="speaks of a river"):
        find_law("trap-threshold").predictions([make_run(EXPONENTIAL, "-g*y", a0=1.0, k=1.0, g=0.05)])


def at_the_edge(g: float, steps: int = 2000) -> Run:
    return make_run(
        EXPONENTIAL, "-g*y", rate=0.1, steps=steps, a0=1.0, k=1.0, g=g, sigma=np.sqrt(5 * g), y=2.8
    )  # fmt: skip


def test_the_edge_of_stability_is_that_of_the_handbook():
    """eta*a = 2 - k*eta*sigma^2/(2g) = 1.75; measured there: 2.85556 +- 1.2e-4."""
    known = river(at_the_edge(0.05))
    root = entropic_trap.root(known)
    assert 0.1 * np.exp(root) == pytest.approx(1.75, rel=1e-9)
    shift, spread, left = entropic_trap.fluctuations(known, root)
    assert root + shift == pytest.approx(2.85578, abs=1e-5)
    assert spread > 0
    assert left < 1
    with pytest.raises(NotApplicable, match="does not run"):
        entropic_trap.root(river(make_run(PARABOLA, "g*y", a0=1.0, k=1.0, g=0.05)))


def test_the_edge_of_stability_is_that_of_brute_force():
    """Shift and variance over the law's, at two gammas: what is left is of order gamma, and extrapolates to 1.

    The extrapolation leaves a gamma^2, of which twice what is seen in the variance is allowed for, 400 gamma_1*gamma_2:
    8 % of the variance would be rejected either way, and 25 % of the shift.
    """
    gammas, ratios, errors = (0.016, 0.004), [], []
    for seed, gamma in enumerate(gammas):
        g, n = gamma / 0.1, 2000
        known = river(at_the_edge(g))
        root = entropic_trap.root(known)
        shift, spread, left = entropic_trap.fluctuations(known, root)
        random, forgotten = np.random.default_rng(40 + seed), int(np.log(1e-3) / np.log(left))
        x, y = np.zeros(n), np.full(n, root)
        sums, squares, steps = np.zeros(n), np.zeros(n), 12 * forgotten
        for step in range(forgotten + steps):
            a = np.exp(y)
            x, y = x - 0.1 * (a * x + np.sqrt(5 * g) * random.standard_normal(n)), y - 0.1 * (a * x**2 / 2 - g)
            if step >= forgotten:
                sums, squares = sums + (y - root), squares + (y - root) ** 2
        means = np.array([sums / steps / shift, (squares / steps - (sums.mean() / steps) ** 2) / spread])
        ratios.append(means.mean(axis=1))
        errors.append(means.std(axis=1) / np.sqrt(n))
    (far, near), (far_error, near_error) = ratios, errors
    np.testing.assert_array_less(np.abs(near - 1.0), np.abs(far - 1.0) / 2.0 + 4.0 * np.hypot(near_error, far_error))
    limit, error = (4.0 * near - far) / 3.0, np.hypot(4.0 * near_error, far_error) / 3.0
    np.testing.assert_array_less(np.abs(limit - 1.0), 4.0 * error + 400.0 * gammas[0] * gammas[1])


# Two temperatures, and noise that depends on the river


def test_two_temperatures_are_those_of_the_handbook():
    """Predicted there: .059433, and .3125 without entropy."""
    options = {"a0": 2.0, "k": 1.0, "b": 0.02, "sigma": 2.0, "sigma_y": 0.5, "river_noise": "normal"}
    run = make_run(PARABOLA, "b*y**2/2", rate=0.05, steps=5000, **options)
    run = replace(run, recorder=find_law("two-temperatures").requirements(run))
    (row,) = find_law("two-temperatures").predictions([run])
    assert row.order == 0
    assert noisy_river.spread(river(run)).square == pytest.approx(0.059433, abs=1e-6)
    assert noisy_river.spread(river(run), entropy=False).square == pytest.approx(0.3125)
    with pytest.raises(NotApplicable, match="no temperature of its own"):
        find_law("two-temperatures").predictions(
            [make_run(PARABOLA, "b*y**2/2", rate=0.05, **{**options, "sigma_y": 2.0})]
        )
    with pytest.raises(NotApplicable, match="remembered"):
        find_law("two-temperatures").predictions([replace(run, steps=100)])


def cold_river(c: str, **constants: float) -> Run:
    options = {"a0": 2.0, "k": 1.0, "sigma": 2.0, "sigma_y": 0.5, "river_noise": "normal", **constants}
    return make_run(PARABOLA, c, rate=0.05, steps=5000, **options)


@pytest.mark.parametrize(
    ("b", "centre", "start"), [(20.0, 3.0, 0.0), (20.0, 7.0, 7.0), (2.0, 2.0, 0.0), (2.0, 30.0, -5.0), (2e4, 0.0, 0.3)]
)
def test_a_river_that_is_narrow_or_off_the_origin_is_found_wherever_it_is(b, centre, start):
    """Against a sum over 20 standard deviations of the river alone, on both sides of where it is least hot."""
    run = cold_river("b*(y - yc)**2/2", b=b, yc=centre, y=start)
    cold, hot = 0.05 * 0.25 / 2, 0.05 * 4.0 / 2
    y = centre + np.sqrt(cold / b) * np.linspace(-20, 20, 400_001)
    energy = b * (y - centre) ** 2 / (2 * cold) + hot / (2 * cold) * np.log(2 * (1 + y**2))
    p = np.exp(energy.min() - energy)
    law_of_y = noisy_river.spread(river(run))
    assert law_of_y.square == pytest.approx(p @ y**2 / p.sum(), rel=1e-7)
    assert law_of_y.mean == pytest.approx(p @ y / p.sum(), rel=1e-7, abs=1e-12)


def test_a_very_narrow_river_has_its_temperature_over_its_curvature():
    """T_y/b = 6.25e-7, which a grid of 0.01 about the origin does not see."""
    run = make_run(
        PARABOLA, "b*y**2/2", rate=0.001, a0=200.0, k=1e-3, b=200.0, sigma=1.0, sigma_y=0.5, river_noise="normal"
    )
    assert noisy_river.spread(river(run)).square == pytest.approx(6.25e-7, rel=1e-6)


def test_a_river_that_nothing_holds_or_with_two_bottoms_has_no_law():
    with pytest.raises(NotApplicable, match="cannot be normalised"):
        noisy_river.spread(river(cold_river("b*log(1 + y**2)", b=-1.0, y=0.5)))
    with pytest.raises(NotApplicable, match="more than one maximum"):
        noisy_river.spread(river(cold_river("b*(y**2 - 1)**2", b=1.0, y=0.5)))


def noisy_walls(formula: str, rate: float = 0.02, steps: int = 800) -> Run:
    loss = Loss(formula, ("x", "y"), {"s": 1.5}, {"xi": Noise.parse("normal")})
    return Run(loss, Optimizer(), Schedule(repr(rate)), {"x": 0.0, "y": 1.0}, 1000, steps, recorder=Recorder(every=400))


LABELS, ROUGH = "(y*x - s*xi)**2/2", "y**2*x**2/2 + s*y**2*xi*x"


def test_noise_of_labels_moves_the_river_as_closed_forms_say():
    """a = y^2: noise like a makes y' = -eta^2*s^2*y/2, noise like a^2 y' = -eta^2*s^2*y^3/2."""
    h = 0.02**2 * 1.5**2
    assert entropic_force.displacement(noisy_walls(LABELS), 0, 800) == pytest.approx(np.expm1(-h * 400), rel=1e-7)
    assert entropic_force.displacement(noisy_walls(ROUGH), 0, 800) == pytest.approx((1 + h * 800) ** -0.5 - 1, rel=1e-7)
    for formula, power in ((LABELS, "q = 1,"), (ROUGH, "q = 2,")):
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
