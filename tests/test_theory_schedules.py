"""NTL-16 to NTL-19 against quadrature, brute-force recursion, optimisers and the numbers of the handbook."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import integrate, optimize

from sgdsim.losses.river_valley import river_valley
from sgdsim.noise import Noise
from sgdsim.optimizers import Optimizer
from sgdsim.run import Recorder, Run
from sgdsim.schedules import Schedule
from sgdsim.theory import law, ntl16, ntl17, ntl18, requirements
from sgdsim.theory.prediction import Curve, Function, Moment, NotApplicable

EQUILIBRIUM = 0.2 / (2 - 0.2)
"""Variance at rest at the rate 0.2 of curvature and noise 1."""

HANDBOOK = {
    "exponential:0.2,60": 0.0024335,
    "0.2*(1 - (t + 0.5)/N)": 0.0057765,  # the handbook's linear schedule, at the middle of each step
    "cosine:0.2,0": 0.0050986,
    "inverse:0.2,10": 0.0021610,
    "harmonic:0.2,1": 0.0016181,
    "where(t < 100, 0.2, 0.02)": 0.0050661,
}


def make_run(
    rate: str, steps: int = 300, a: float = 1.0, start: float | None = None, ids=("NTL-16",), **options
) -> Run:
    loss = river_valley(a="a0", c="0", constants={"a0": a, "sigma": 1.0})
    spread = np.sqrt(EQUILIBRIUM if start is None else start)
    initial = {"x": Noise("normal", (0.0, float(spread))), "y": 0.0}
    settings = {"recorder": Recorder(every=25), "optimizer": Optimizer()} | options
    run = Run(loss=loss, schedule=Schedule(rate), initial=initial, trajectories=1000, steps=steps, **settings)
    return Run(
        **{
            **{
                name: getattr(run, name)
                for name in ("loss", "optimizer", "schedule", "initial", "trajectories", "steps")
            },
            "recorder": run.recorder.merge(requirements([law(id) for id in ids], run)),
        }
    )


def brute_force(rates: np.ndarray, a: float = 1.0, noise: float = 1.0, v0: float = EQUILIBRIUM) -> float:
    for rate in rates:
        v0 = (1 - rate * a) ** 2 * v0 + rate**2 * noise
    return v0


@pytest.mark.parametrize(("rate", "energy"), HANDBOOK.items())
def test_the_fast_loss_at_the_end_is_the_recursions_and_the_handbooks(rate, energy):
    run = make_run(rate)
    (row,) = (one for one in law("NTL-16").predictions([run]) if isinstance(one.measure, Moment))
    assert row.predicted == pytest.approx(brute_force(run.schedule.rates(300)) / 2, rel=1e-12)
    assert row.predicted == pytest.approx(energy, abs=6e-8)


def test_the_whole_history_is_that_of_the_recursion():
    run = make_run("cosine:0.2,0.001")
    (row,) = (one for one in law("NTL-16").predictions([run]) if isinstance(one.measure, Curve))
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
    form = ntl16.after_exponential(0.2, 60.0, 300, 1.0, 1.0, 0.1)
    assert form == pytest.approx(continuous(lambda t: 0.2 * np.exp(-t / 60), 300, 0.1), rel=1e-7)
    form = ntl16.after_linear(0.2, 300, 1.0, 1.0, 0.1)
    assert form == pytest.approx(continuous(lambda t: 0.2 * (1 - t / 300), 300, 0.1), rel=1e-7)
    form = ntl16.after_inverse(0.2, 10.0, 300, 1.0, 1.0, 0.1)
    assert form == pytest.approx(continuous(lambda t: 0.2 / (1 + t / 10), 300, 0.1), rel=1e-7)
    form = ntl16.after_inverse(0.05, 10.0, 300, 1.0, 1.0, 0.1)  # g = 1
    assert form == pytest.approx(continuous(lambda t: 0.05 / (1 + t / 10), 300, 0.1), rel=1e-7)
    long = continuous(lambda t: 0.1 * (1 + np.cos(np.pi * t / 30000)), 30000, 0.1)
    assert ntl16.after_cosine(0.2, 30000, 1.0, 1.0) == pytest.approx(long, rel=5e-3)


@pytest.mark.parametrize("rate", ["exponential:{0},{1}", "linear:{0},0", "inverse:{0},{1}"])
def test_closed_forms_are_off_by_the_first_order_in_the_learning_rate(rate):
    """Half the rate over twice the steps, half the error."""
    errors = []
    for scale in (1, 2, 4):
        run = make_run(rate.format(0.1 / scale, 100 * scale), 300 * scale, start=0.1 / scale)
        (row,) = (one for one in law("NTL-16").predictions([run]) if isinstance(one.measure, Moment))
        errors.append(row.rival.predicted / row.predicted - 1)
    assert 1e-3 < abs(errors[0]) < 0.1
    assert errors[1] / errors[0] == pytest.approx(0.5, abs=0.05)
    assert errors[2] / errors[1] == pytest.approx(0.5, abs=0.03)


def test_newtons_law_after_a_step_of_the_rate():
    run = make_run("step:0.2,0.1,150")
    (row,) = (one for one in law("NTL-16").predictions([run]) if isinstance(one.measure, Function))
    start, stop = (moment.step for moment in row.measure.moments)
    bath = 0.02 / (2 * (2 - 0.02))
    rates = run.schedule.rates(300)
    before, after = (brute_force(rates[:step]) / 2 for step in (start, stop))
    assert start == 150
    assert row.predicted == pytest.approx((after - bath) / (before - bath), rel=1e-10)
    assert row.measure.function(before, after) == pytest.approx(row.predicted)


def test_a_constant_rate_is_left_to_other_laws():
    for id in ("NTL-16", "NTL-17", "NTL-18"):
        with pytest.raises(NotApplicable):
            law(id).predictions([make_run("0.2")])


@pytest.mark.parametrize(("power", "tail"), [(1, 0.38), (2, 0.52), (3, 0.70)])
def test_the_end_of_a_decay_is_right_to_the_first_order_in_the_freezing_rate(power, tail):
    offsets = []
    for length in (250, 1000, 4000):
        run = make_run(f"0.2*min(1, (N - t)/{length})**{power}", 4000, ids=("NTL-17",))
        (row,) = law("NTL-17").predictions([run])
        measured = brute_force(run.schedule.rates(4000)) / 2
        offsets.append((row.measure.function(measured) - 1) / row.learning_rate)
    assert offsets == pytest.approx([tail] * 3, abs=0.02)
    assert abs(offsets[2] - offsets[1]) < abs(offsets[1] - offsets[0])


def test_exponents_of_the_end():
    for power, exponent in ((1, 1 / 2), (2, 2 / 3), (3, 3 / 4)):
        short, long = (ntl17.PowerEnd(0.2, n, power).variance(1.0, 1.0) for n in (8000, 32000))
        assert np.log(short / long) / np.log(4) == pytest.approx(exponent)
        rates = [0.2 * ((n - np.arange(n)) / n) ** power for n in (8000, 32000)]
        measured = np.log(brute_force(rates[0]) / brute_force(rates[1])) / np.log(4)
        assert measured == pytest.approx(exponent, abs=1e-3)


@pytest.mark.parametrize("rate", ["harmonic:0.2,1", "exponential:0.2,60", "cosine:0.2,0", "wsd:0.2,0,10"])
def test_other_ends_are_refused(rate):
    with pytest.raises(NotApplicable):
        law("NTL-17").predictions([make_run(rate, ids=("NTL-17",))])


def test_the_greedy_rates_are_the_best_of_all():
    def log_variance(logs: np.ndarray) -> float:
        return float(np.log(brute_force(np.exp(logs))))

    found = optimize.minimize(log_variance, np.full(12, np.log(0.1)), tol=1e-12, options={"gtol": 1e-9})
    assert np.exp(found.fun) == pytest.approx(ntl18.bound(12, 1.0, 1.0, EQUILIBRIUM), rel=1e-9)
    assert np.exp(found.x) == pytest.approx(ntl18.greedy_rates(12, 1.0, 1.0, EQUILIBRIUM), rel=1e-4)


def test_no_schedule_passes_the_bound():
    random = np.random.default_rng(1)
    rates = np.exp(random.normal(-2, 1.5, size=(100, 2000)))
    v = brute_force(rates, v0=np.full(2000, EQUILIBRIUM))
    least = ntl18.bound(100, 1.0, 1.0, EQUILIBRIUM)
    assert v.min() >= least
    best = brute_force(ntl18.greedy_rates(100, 1.0, 1.0, EQUILIBRIUM))
    assert best == pytest.approx(least, rel=1e-12)


def test_the_harmonic_schedule_saturates_the_bound_and_others_do_not():
    (row,) = law("NTL-18").predictions([make_run("harmonic:0.2,1", ids=("NTL-18",))])
    assert row.predicted == pytest.approx(1.0, abs=1e-12)
    assert row.rival is None
    assert row.measure.function(0.0016181) == pytest.approx(1.0, abs=1e-4)
    (row,) = law("NTL-18").predictions([make_run("cosine:0.2,0", ids=("NTL-18",))])
    assert row.predicted == pytest.approx(0.0050986 / 0.0016181, rel=1e-4)
    assert row.rival.predicted == 1.0
