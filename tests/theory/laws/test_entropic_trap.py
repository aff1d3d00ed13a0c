"""Entropic traps, against brute force and exact balances of forces."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from sgdsim.model.observables import Observable
from sgdsim.model.recorder import Recorder
from sgdsim.model.run import Run
from sgdsim.prediction import NotApplicable
from sgdsim.theory import find_law
from sgdsim.theory.laws import entropic_trap
from sgdsim.theory.methods.rivers import river
from tests.theory.laws.river_runs import EXPONENTIAL, PARABOLA, make_run


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
