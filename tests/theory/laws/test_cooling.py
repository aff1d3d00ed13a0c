"""Cooling, against the recursion and quadrature."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import integrate

from sgdsim.prediction import Curve, Function, Moment, NotApplicable
from sgdsim.theory import find_law
from sgdsim.theory.laws import cooling
from tests.theory.laws.schedule_runs import brute_force, make_run

HANDBOOK = {
    "exponential:0.2,60": 0.0024335,
    "0.2*(1 - (t + 0.5)/N)": 0.0057765,  # the handbook's linear schedule, at the middle of each step
    "cosine:0.2,0": 0.0050986,
    "inverse:0.2,10": 0.0021610,
    "harmonic:0.2,1": 0.0016181,
    "where(t < 100, 0.2, 0.02)": 0.0050661,
}


@pytest.mark.parametrize(("rate", "energy"), HANDBOOK.items())
def test_the_fast_loss_at_the_end_is_the_recursions_and_the_handbooks(rate, energy):
    run = make_run(rate)
    (row,) = (one for one in find_law("cooling").predictions([run]) if isinstance(one.measure, Moment))
    assert row.predicted == pytest.approx(brute_force(run.schedule.rates(300)) / 2, rel=1e-12)
    assert row.predicted == pytest.approx(energy, abs=6e-8)


def test_the_whole_history_is_that_of_the_recursion():
    run = make_run("cosine:0.2,0.001")
    (row,) = (one for one in find_law("cooling").predictions([run]) if isinstance(one.measure, Curve))
    rates = run.schedule.rates(300)
    for moment, value in zip(row.measure.moments, row.measure.values, strict=True):
        assert value == pytest.approx(brute_force(rates[: moment.step]) / 2, rel=1e-12)


def continuous(rate, total: float, v0: float) -> float:
    """The variance in continuous time by an integrator, a and sigma one."""
    solved = integrate.solve_ivp(
        lambda t, v: -2 * rate(t) * v + rate(t) ** 2, (0, total), [v0], rtol=1e-10, atol=1e-14, method="LSODA"
    )
    return float(solved.y[0, -1])


def test_closed_forms_solve_the_equation_of_continuous_time():
    form = cooling.after_exponential(0.2, 60.0, 300, 1.0, 1.0, 0.1)
    assert form == pytest.approx(continuous(lambda t: 0.2 * np.exp(-t / 60), 300, 0.1), rel=1e-7)
    form = cooling.after_linear(0.2, 300, 1.0, 1.0, 0.1)
    assert form == pytest.approx(continuous(lambda t: 0.2 * (1 - t / 300), 300, 0.1), rel=1e-7)
    form = cooling.after_inverse(0.2, 10.0, 300, 1.0, 1.0, 0.1)
    assert form == pytest.approx(continuous(lambda t: 0.2 / (1 + t / 10), 300, 0.1), rel=1e-7)
    form = cooling.after_inverse(0.05, 10.0, 300, 1.0, 1.0, 0.1)  # g = 1
    assert form == pytest.approx(continuous(lambda t: 0.05 / (1 + t / 10), 300, 0.1), rel=1e-7)
    long = continuous(lambda t: 0.1 * (1 + np.cos(np.pi * t / 30000)), 30000, 0.1)
    assert cooling.after_cosine(0.2, 30000, 1.0, 1.0) == pytest.approx(long, rel=5e-3)


@pytest.mark.parametrize("rate", ["exponential:{0},{1}", "linear:{0},0", "inverse:{0},{1}"])
def test_closed_forms_are_off_by_the_first_order_in_the_learning_rate(rate):
    """Half the rate over twice the steps, half the error."""
    errors = []
    for scale in (1, 2, 4):
        run = make_run(rate.format(0.1 / scale, 100 * scale), 300 * scale, start=0.1 / scale)
        (row,) = (one for one in find_law("cooling").predictions([run]) if isinstance(one.measure, Moment))
        errors.append(row.rival.predicted / row.predicted - 1)
    assert 1e-3 < abs(errors[0]) < 0.1
    assert errors[1] / errors[0] == pytest.approx(0.5, abs=0.05)
    assert errors[2] / errors[1] == pytest.approx(0.5, abs=0.03)


def test_newtons_law_after_a_step_of_the_rate():
    run = make_run("step:0.2,0.1,150")
    (row,) = (one for one in find_law("cooling").predictions([run]) if isinstance(one.measure, Function))
    start, stop = (moment.step for moment in row.measure.moments)
    bath = 0.02 / (2 * (2 - 0.02))
    rates = run.schedule.rates(300)
    before, after = (brute_force(rates[:step]) / 2 for step in (start, stop))
    assert start == 150
    assert row.predicted == pytest.approx((after - bath) / (before - bath), rel=1e-10)
    assert row.measure.function(before, after) == pytest.approx(row.predicted)


def test_a_constant_rate_is_left_to_other_laws():
    for id in ("cooling", "freeze-out", "fastest-cooling"):
        with pytest.raises(NotApplicable):
            find_law(id).predictions([make_run("0.2")])


@pytest.mark.parametrize(("power", "tail"), [(1, 0.38), (2, 0.52), (3, 0.70)])
def test_the_end_of_a_decay_is_right_to_the_first_order_in_the_freezing_rate(power, tail):
    offsets = []
    for length in (250, 1000, 4000):
        run = make_run(f"0.2*min(1, (N - t)/{length})**{power}", 4000, ids=("freeze-out",))
        (row,) = find_law("freeze-out").predictions([run])
        measured = brute_force(run.schedule.rates(4000)) / 2
        offsets.append((row.measure.function(measured) - 1) / row.small)
    assert offsets == pytest.approx([tail] * 3, abs=0.02)
    assert abs(offsets[2] - offsets[1]) < abs(offsets[1] - offsets[0])


def test_exponents_of_the_end():
    for power, exponent in ((1, 1 / 2), (2, 2 / 3), (3, 3 / 4)):
        short, long = (cooling.PowerEnd(0.2, n, power).variance(1.0, 1.0) for n in (8000, 32000))
        assert np.log(short / long) / np.log(4) == pytest.approx(exponent)
        rates = [0.2 * ((n - np.arange(n)) / n) ** power for n in (8000, 32000)]
        measured = np.log(brute_force(rates[0]) / brute_force(rates[1])) / np.log(4)
        assert measured == pytest.approx(exponent, abs=1e-3)


@pytest.mark.parametrize("rate", ["harmonic:0.2,1", "exponential:0.2,60", "cosine:0.2,0", "wsd:0.2,0,10"])
def test_other_ends_are_refused(rate):
    with pytest.raises(NotApplicable):
        find_law("freeze-out").predictions([make_run(rate, ids=("freeze-out",))])
