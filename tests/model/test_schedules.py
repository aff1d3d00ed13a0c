"""Schedules: the rates of every kind by hand, and what is none."""

from __future__ import annotations

import numpy as np
import pytest

from sgdsim.base.errors import InputError
from sgdsim.model.schedules import SCHEDULES, Schedule

T = np.arange(10)


@pytest.mark.parametrize(
    ("text", "rates"),
    [
        ("0.1", np.full(10, 0.1)),
        ("1", np.full(10, 1.0)),
        ("constant:0.25", np.full(10, 0.25)),
        ("linear:1,0.5", 1 - 0.05 * T),
        ("linear:1", 1 - 0.1 * T),
        ("cosine:0.3,0.1", 0.1 + 0.1 * (1 + np.cos(np.pi * T / 10))),
        ("cosine: 0.3 , 0.1", 0.1 + 0.1 * (1 + np.cos(np.pi * T / 10))),
        ("exponential:0.5,4", 0.5 * np.exp(-T / 4)),
        ("step:0.8,0.5,4", [0.8] * 4 + [0.4] * 4 + [0.2] * 2),
        ("step:0.8,0.5,1", 0.8 * 0.5**T),
        ("step:0.8,0.5,2.5", [0.8] * 3 + [0.4] * 2 + [0.2] * 3 + [0.1] * 2),
        ("step:0.8,0.5,99", np.full(10, 0.8)),
        ("inverse:0.6,2", [0.6 / (1 + 0.5 * t) for t in range(10)]),
        ("harmonic:0.5,4", [0.25, 0.125, 0.5 / 6, 0.0625, 0.05, 0.5 / 12, 0.5 / 14, 0.03125, 0.5 / 18, 0.025]),
        ("plateau_harmonic:0.5,4,3", [0.5] * 8 + [0.5 / 3, 0.1]),
        ("polynomial:0.3,2", [0.003 * k**2 for k in range(10, 0, -1)]),
        ("polynomial:0.3,1", 0.03 * (10 - T)),
        ("polynomial:0.3,0", np.full(10, 0.3)),
        ("wsd:0.8,4,2", [0.2, 0.4, 0.6, 0.8, 0.8, 0.8, 0.8, 0.8, 0.8, 0.4]),
        ("wsd:0.8,4,2,0.4", [0.2, 0.4, 0.6, 0.8, 0.8, 0.8, 0.8, 0.8, 0.8, 0.6]),
        ("wsd:0.8,0,0", np.full(10, 0.8)),
        ("wsd:0.8,1,4", [0.8] * 7 + [0.6, 0.4, 0.2]),
        ("wsd:1,10,10", [0.1, 0.18, 0.24, 0.28, 0.3, 0.3, 0.28, 0.24, 0.18, 0.1]),
        ("0.1/(1 + t)", 0.1 / (1 + T)),
        ("0.1*(1 - t/N)", 0.1 * (1 - T / 10)),
        ("where(t < 5, 0.2, 0.1)", np.where(T < 5, 0.2, 0.1)),
    ],
)
def test_rates_follow_the_formula(text, rates):
    schedule = Schedule(text)
    schedule.check()
    np.testing.assert_allclose(schedule.rates(10), rates, rtol=4e-16)
    assert schedule.rates(10).dtype == np.float64


@pytest.mark.parametrize("name", SCHEDULES)
def test_every_schedule_has_a_rate_at_the_first_step(name):
    arguments = ",".join("0.5" for _ in SCHEDULES[name].arguments)
    expected = {"harmonic": 0.25}.get(name, 0.5)
    arguments = {"step": "0.5,0.5,1"}.get(name, arguments)
    assert Schedule(f"{name}:{arguments}").rates(1) == pytest.approx(expected)


@pytest.mark.parametrize("every", [1, 3, 7, 10, 49, 1000])
def test_a_step_schedule_steps_exactly_at_multiples(every):
    """Of which t/every, in floating point, must be neither short nor ahead."""
    t = range(100_000)
    expected = [0.5 * 0.999 ** (step // every) for step in t]
    np.testing.assert_allclose(Schedule(f"step:0.5,0.999,{every}").rates(len(t)), expected, rtol=1e-13)


def test_no_schedule_cools_one_mode_faster_than_the_harmonic_one():
    """fastest-cooling: from rest at eta, 1/v grows by a^2/sigma^2 in each step, and any other schedule ends above."""
    eta, a, sigma, steps = 0.3, 0.7, 1.3, 50
    start = eta * sigma**2 / (a * (2 - eta * a))

    def cooled(rates):
        variance = start
        for rate in rates:
            variance = (1 - rate * a) ** 2 * variance + rate**2 * sigma**2
        return variance

    rates = Schedule(f"harmonic:{eta},{a}").rates(steps)
    assert cooled(rates) == pytest.approx(1 / (1 / start + steps * a**2 / sigma**2), rel=1e-13)
    for other in (rates * 1.01, rates * 0.99, Schedule(f"inverse:{eta},{1 / (a * eta)}").rates(steps)):
        assert cooled(other) > cooled(rates) * (1 + 1e-6)


# Tables.


def test_a_table_is_one_rate_a_step():
    schedule = Schedule("file:rates.csv", table=(0.3, 0.2, 0.1))
    schedule.check()
    assert schedule.rates(3).tolist() == [0.3, 0.2, 0.1]
    assert schedule.rates(3).dtype == np.float64
    assert schedule == Schedule("file:rates.csv", table=(0.3, 0.2, 0.1))
    assert len({schedule, Schedule("file:rates.csv", table=(0.3, 0.2, 0.1)), Schedule("file:rates.csv")}) == 2


@pytest.mark.parametrize("steps", [1, 2, 4])
def test_a_table_of_another_number_of_steps_is_refused(steps):
    message = f"optimizer.learning_rate: 'mine' has 3 rates, expected {steps}, one a step"
    with pytest.raises(InputError, match=message):
        Schedule("mine", table=(0.3, 0.2, 0.1)).rates(steps)


@pytest.mark.parametrize("rate", [0.0, -0.1, float("nan"), float("inf")])
def test_a_table_with_a_bad_rate_is_refused(rate):
    schedule = Schedule("mine", table=(0.3, rate))
    for refuses in (schedule.check, lambda: schedule.rates(2)):
        with pytest.raises(InputError, match=f"'mine' is {rate} at step 1, expected a finite positive number"):
            refuses()


# What is none.


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("cosin:0.1", "unknown schedule 'cosin': did you mean 'cosine'"),
        ("constant:", "expected constant:rate with finite numbers"),
        ("constant:nan", "expected constant:rate with finite numbers"),
        ("constant:inf", "expected constant:rate with finite numbers"),
        ("constant:a", "expected constant:rate with finite numbers"),
        ("cosine:1,2,3", "expected cosine:start,end with finite numbers"),
        ("exponential:0.1", "expected exponential:start,decay_steps with finite numbers"),
        ("step:0.1,0.5", "expected step:start,factor,every with finite numbers"),
        ("step:0.1,0.5,0", "expected every from 1"),
        ("wsd:0.1,100", "expected wsd:peak,warmup,decay,end with finite numbers"),
        ("wsd:0.1,-1,5", "expected warmup from 0"),
        ("wsd:0.1,5,-1", "expected decay from 0"),
        ("0.1*stage", "unknown name 'stage'"),
        ("", "there is no formula"),
        ("0.1*s", "unknown name 's': known are N, pi, t"),
        ("nan", "unknown name 'nan'"),
        ("1e400", "the value is inf"),
        ("0.1 0.2", "invalid syntax"),
        ("0.1,0.05", "expected one schedule; several are a sweep, --sweep 'optimizer.learning_rate="),
        ("0.1;cosine:0.1,0.001", "expected one schedule; several are a sweep"),
        ("0.1,cosine:0.1,0.001", "expected one schedule; several are a sweep"),
        ("t.real", "an attribute"),
    ],
)
def test_what_no_number_of_steps_makes_a_schedule(text, problem):
    for refuses in (Schedule(text).check, lambda: Schedule(text).rates(3)):
        with pytest.raises(InputError) as refused:
            refuses()
        assert str(refused.value).startswith("optimizer.learning_rate: ")
        assert problem in str(refused.value)


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("0", "'0' is 0.0 at step 0, expected a finite positive number"),
        ("-0.1", "'-0.1' is -0.1 at step 0"),
        ("0.2 - 0.1*t", "'0.2 - 0.1\\*t' is 0.0 at step 2"),
        ("linear:0.1,-0.1", "at step 2"),
        ("1/t", "division by zero"),
        ("exponential:0.1,0", "division by zero"),
        ("inverse:0.1,0", "division by zero"),
        ("inverse:0.1,-3", "division by zero"),
        ("inverse:0.1,-2.5", "at step 3"),
        ("harmonic:0.1,-10", "division by zero"),
        ("polynomial:-0.1,2", "at step 0"),
        ("step:0.1,-1,2", "at step 2"),
        ("step:0.1,0,2", "at step 2"),
        ("step:0.1,1e200,1", "the value is inf"),
        ("wsd:0.1,2,2,-0.1", "at step 3"),
        ("wsd:-0.1,2,2", "at step 0"),
    ],
)
def test_every_rate_must_be_finite_and_positive(text, problem):
    Schedule(text).check()
    with pytest.raises(InputError, match=problem):
        Schedule(text).rates(4)
