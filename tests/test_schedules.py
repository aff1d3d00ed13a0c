"""Schedules: the rates of every kind by hand, and what is none."""

from __future__ import annotations

import numpy as np
import pytest

from sgdsim.errors import InputError
from sgdsim.schedules import SCHEDULES, Schedule

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
        ("0.1/(1 + t)", 0.1 / (1 + T)),
        ("0.1*(1 - t/N)", 0.1 * (1 - T / 10)),
        ("where(t < 5, 0.2, 0.1)", np.where(T < 5, 0.2, 0.1)),
    ],
)
def test_rates_follow_the_formula(text, rates):
    schedule = Schedule(text)
    schedule.check()
    np.testing.assert_allclose(schedule.rates(10), rates, rtol=1e-15)
    assert schedule.rates(10).dtype == np.float64


@pytest.mark.parametrize("name", SCHEDULES)
def test_every_schedule_has_a_rate_at_the_first_step(name):
    arguments = ",".join("0.5" for _ in SCHEDULES[name].arguments)
    assert Schedule(f"{name}:{arguments}").rates(1) == pytest.approx(0.5)


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
        ("", "there is no formula"),
        ("0.1*s", "unknown name 's': known are N, pi, t"),
        ("nan", "unknown name 'nan'"),
        ("1e400", "the value is inf"),
        ("0.1 0.2", "invalid syntax"),
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
    ],
)
def test_every_rate_must_be_finite_and_positive(text, problem):
    Schedule(text).check()
    with pytest.raises(InputError, match=problem):
        Schedule(text).rates(4)
