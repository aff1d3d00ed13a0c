"""cooling to best-schedule against quadrature, brute-force recursion, optimisers and the numbers of the handbook."""

from __future__ import annotations

import tomllib
from dataclasses import replace
from importlib import resources

import numpy as np
import pytest
from click.testing import CliRunner
from scipy import integrate, optimize

from sgdsim import simulate
from sgdsim.app.cli import main
from sgdsim.app.schedule_design import Measured, describe_design, design_from, measure, plot_design
from sgdsim.base.errors import InputError
from sgdsim.formulas.vectors import coordinates
from sgdsim.model.loss import Loss
from sgdsim.model.losses.river_valley import river_valley
from sgdsim.model.noise import Noise
from sgdsim.model.optimizers import Optimizer
from sgdsim.model.recorder import Recorder
from sgdsim.model.run import Run
from sgdsim.model.schedules import Schedule
from sgdsim.prediction import Curve, Function, Moment, NotApplicable, Prediction
from sgdsim.statistics.estimate import Estimate
from sgdsim.theory import find_law, requirements
from sgdsim.theory.laws import best_schedule, cooling, fastest_cooling
from sgdsim.theory.laws.best_schedule import Design

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
    rate: str, steps: int = 300, a: float = 1.0, start: float | None = None, ids=("cooling",), **options
) -> Run:
    loss = river_valley(a="a0", c="0", constants={"a0": a, "sigma": 1.0})
    spread = np.sqrt(EQUILIBRIUM if start is None else start)
    initial = {"x": Noise("normal", (0.0, float(spread))), "y": 0.0}
    settings = {"recorder": Recorder(every=25), "optimizer": Optimizer()} | options
    run = Run(loss=loss, schedule=Schedule(rate), initial=initial, trajectories=1000, steps=steps, **settings)
    return replace(run, recorder=run.recorder.merge(requirements([find_law(id) for id in ids], run)))


def brute_force(rates: np.ndarray, a: float = 1.0, noise: float = 1.0, v0: float = EQUILIBRIUM) -> float:
    for rate in rates:
        v0 = (1 - rate * a) ** 2 * v0 + rate**2 * noise
    return v0


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


def test_the_greedy_rates_are_the_best_of_all():
    def log_variance(logs: np.ndarray) -> float:
        return float(np.log(brute_force(np.exp(logs))))

    found = optimize.minimize(log_variance, np.full(12, np.log(0.1)), tol=1e-12, options={"gtol": 1e-9})
    assert np.exp(found.fun) == pytest.approx(fastest_cooling.bound(12, 1.0, 1.0, EQUILIBRIUM), rel=1e-9)
    assert np.exp(found.x) == pytest.approx(fastest_cooling.greedy_rates(12, 1.0, 1.0, EQUILIBRIUM), rel=1e-4)


def test_no_schedule_passes_the_bound():
    random = np.random.default_rng(1)
    rates = np.exp(random.normal(-2, 1.5, size=(100, 2000)))
    v = brute_force(rates, v0=np.full(2000, EQUILIBRIUM))
    least = fastest_cooling.bound(100, 1.0, 1.0, EQUILIBRIUM)
    assert v.min() >= least
    best = brute_force(fastest_cooling.greedy_rates(100, 1.0, 1.0, EQUILIBRIUM))
    assert best == pytest.approx(least, rel=1e-12)


def test_the_harmonic_schedule_saturates_the_bound_and_others_do_not():
    (row,) = find_law("fastest-cooling").predictions([make_run("harmonic:0.2,1", ids=("fastest-cooling",))])
    assert row.predicted == pytest.approx(1.0, abs=1e-12)
    assert row.rival is None
    assert row.measure.function(0.0016181) == pytest.approx(1.0, abs=1e-4)
    (row,) = find_law("fastest-cooling").predictions([make_run("cosine:0.2,0", ids=("fastest-cooling",))])
    assert row.predicted == pytest.approx(0.0050986 / 0.0016181, rel=1e-4)
    assert row.rival.predicted == 1.0


def several(rate: Schedule, steps: int = 40) -> Run:
    curvatures = (2.0, 1.0, 0.5)
    names, noise = coordinates("x", 3), {f"z[{i}]": Noise.parse("normal") for i in range(3)}
    loss = Loss("sum(a*x**2/2 + z*x)", names, {}, noise, {"a": [str(a) for a in curvatures]})
    starts = [Noise("normal", (0.0, float(np.sqrt(0.2 / (a * (2 - 0.2 * a)))))) for a in curvatures]
    run = Run(loss, Optimizer(), rate, dict(zip(loss.parameters, starts, strict=True)), 1000, steps)
    return replace(run, recorder=run.recorder.merge(requirements([find_law("fastest-cooling")], run)))


def of_all(run: Run) -> Prediction:
    return next(row for row in find_law("fastest-cooling").predictions([run]) if "modes" in row.quantity)


def total(rates: np.ndarray) -> float:
    return sum(a * brute_force(rates, a, v0=0.2 / (a * (2 - 0.2 * a))) / 2 for a in (2.0, 1.0, 0.5))


def test_the_greedy_rates_of_several_modes_are_the_best_next_step_and_not_the_best_of_all():
    a = np.array([2.0, 1.0, 0.5])
    rates, left = fastest_cooling.greedy_for_all(40, a, np.ones(3), 0.2 / (a * (2 - 0.2 * a)))
    assert np.sum(a * left) / 2 == pytest.approx(total(rates), rel=1e-12)
    for step in (1, 5, 40):
        before = rates[: step - 1]
        last = optimize.minimize_scalar(lambda rate, before=before: total(np.append(before, rate)), (0.001, 0.2))
        assert last.x == pytest.approx(rates[step - 1], rel=1e-5)
    row = of_all(several(Schedule("table", tuple(rates))))
    assert row.predicted == pytest.approx(1.0, rel=1e-12)
    assert row.rival is None
    harmonic = several(Schedule("harmonic:0.2,1"))
    row = of_all(harmonic)
    assert row.predicted == pytest.approx(total(harmonic.schedule.rates(40)) / total(rates), rel=1e-12)
    assert row.predicted < 1.0


def test_the_lowest_last_rate_is_the_greedy_one():
    """The parabola through three totals; rates that are not greedy before lead to another state, not to another law."""
    lasts = (0.02, 0.06, 0.1)
    runs = [several(Schedule(f"where(t < 4, 0.2/(2 + 0.2*t), {last})"), 5) for last in lasts]
    (row,) = (row for row in find_law("fastest-cooling").predictions(runs) if "last rate" in row.quantity)
    before = runs[0].schedule.rates(5)[:4]
    energies = [
        [a * brute_force(np.append(before, x), a, v0=0.2 / (a * (2 - 0.2 * a))) / 2 for a in (2, 1, 0.5)] for x in lasts
    ]
    assert row.measure.function(*np.ravel(energies)) == pytest.approx(row.predicted, rel=1e-9)
    found = optimize.minimize_scalar(lambda rate: total(np.append(before, rate)), (0.01, 0.1))
    assert found.x == pytest.approx(row.predicted, rel=1e-5)
    assert abs(row.rival.predicted / row.predicted - 1) > 0.1
    assert not [row for row in find_law("fastest-cooling").predictions(runs[:2]) if "last rate" in row.quantity]


def test_the_shipped_greedy_rates_are_those_of_the_law():
    text = resources.files("scenarios").joinpath("cooling.toml").read_text(encoding="utf-8")
    part = next(part for part in tomllib.loads(text)["part"] if part["name"] == "three_greedy")
    a = np.array([2.0, 1.0, 0.5])
    rates, _ = fastest_cooling.greedy_for_all(part["run"]["steps"], a, np.ones(3), 0.2 / (a * (2 - 0.2 * a)))
    np.testing.assert_allclose(part["optimizer"]["learning_rate"], rates, rtol=1e-6)


def test_of_the_greedy_schedule_the_bound_itself_is_predicted(monkeypatch):
    """A wrong bound must not cancel."""
    monkeypatch.setattr(fastest_cooling, "bound", lambda steps, curvature, noise, v0: 0.003)
    (row,) = find_law("fastest-cooling").predictions([make_run("harmonic:0.2,1", ids=("fastest-cooling",))])
    assert row.predicted == 1.0
    assert row.measure.function(0.0016181) == pytest.approx(2 * 0.0016181 / 0.003)


def signed_run(rate: str, start: float = 0.2, a: float = 0.5) -> Run:
    loss = Loss("a*x**2/2 + s*z*x", ("x",), {"a": a, "s": 1.0}, {"z": Noise.parse("normal")})
    run = Run(loss, Optimizer("signsgd"), Schedule(rate), {"x": Noise("normal", (0.0, start))}, 1000, 100)
    return replace(run, recorder=run.recorder.merge(requirements([find_law("fastest-cooling")], run)))


BEST_SIGN = "{0}*sqrt(2/pi)/(25 + {0}**2*2*t/pi)"


def test_sign_descent_cools_by_its_recursion_against_a_loop():
    """A plain loop of 100,000, 0.45 %, at a^2 v_0/sigma^2 = 0.01; twice the rate leaves 26 % more."""
    run = signed_run(BEST_SIGN.format(0.5))
    (row,) = find_law("fastest-cooling").predictions([run])
    rng = np.random.default_rng(3)
    x = rng.normal(0.0, 0.2, 100_000)
    for rate in run.schedule.rates(100):
        x = x - rate * np.sign(0.5 * x + rng.normal(size=x.size))
    assert row.measure.function(np.mean(x**2) / 4) == pytest.approx(row.predicted, rel=0.02)
    assert (row.predicted, row.order) == (1.0, 0)
    assert row.small == pytest.approx(0.01)
    assert row.rival.predicted == pytest.approx((25 + 50 / np.pi) / (25 + 25), rel=1e-9)
    assert row.resolution == pytest.approx((1 - row.rival.predicted) / 2)
    assert find_law("fastest-cooling").predictions([signed_run("sqrt(2/pi)/(25 + t/(2*pi))")])[0].predicted > 1.2


def test_the_least_of_sign_descent_is_one_series_in_its_strength():
    runs = [signed_run(BEST_SIGN.format(a), a=a) for a in (0.25, 0.5, 0.75, 1.0)]
    series = [row for run in runs for row in find_law("fastest-cooling").predictions([run])]
    assert len({row.series for row in series}) == 1
    assert [row.small for row in series] == pytest.approx([0.0025, 0.01, 0.0225, 0.04])
    off = [
        fastest_cooling.sign_variance(run.schedule.rates(100), a, 1.0, 0.04) * (25 + 200 / np.pi * a * a) - 1
        for run, a in zip(runs, (0.25, 0.5, 0.75, 1.0), strict=True)
    ]
    assert off[0] < off[1] < off[2] < 0.01  # it vanishes with the strength


def test_sign_descent_is_refused_where_its_recursion_is_not_closed():
    with pytest.raises(NotApplicable, match="expected to"):
        find_law("fastest-cooling").predictions([signed_run("0.01", 1.0)])
    run = signed_run("0.01")
    with pytest.raises(NotApplicable, match="a normal start of x"):
        find_law("fastest-cooling").predictions([replace(run, initial={"x": 0.0})])


DESIGN = Design(curvature=1.0, noise=1.0, slope=0.02, peak=0.1, steps=600)


def test_the_design_is_the_handbooks():
    assert DESIGN.decay_steps == pytest.approx(101.8, abs=0.01)
    assert DESIGN.final_rate == pytest.approx(0.0089443, abs=1e-7)
    assert DESIGN.closed_form == pytest.approx(-0.016621, abs=1e-6)
    assert DESIGN.loss(DESIGN.rates) == pytest.approx(-0.016593, abs=1e-6)
    excess = {name: DESIGN.loss(rates) - DESIGN.loss(DESIGN.rates) for name, rates in DESIGN.alternatives().items()}
    assert list(excess.values()) == pytest.approx([0.0017, 0.0027, 0.0071, 0.0075, 0.0158, 0.0189], abs=1e-4)


def test_no_rates_are_better_than_the_design_by_more_than_its_order():
    """The optimiser starts elsewhere, so that it has to find the plateau, the length of the decay and its end."""
    gaps = []
    for scale in (1, 2):  # half the peak, twice the steps, and a river as steep against the noise
        design = Design(1.0, 1.0, 0.04 / scale**0.5, 0.2 / scale, 120 * scale)
        best = design.optimum()
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
    value, slope = design._loss_and_slope(parts)
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
    assert (design.optimum() > 0.0999).mean() > 0.95


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


def test_a_run_is_measured_within_its_errors():
    loss = river_valley(a="a0", c="-g*y", constants={"a0": 0.8, "g": 0.05, "sigma": 0.5})
    ensemble = simulate(loss, learning_rate=0.1, initial={"x": 1.0, "y": 0.0}, trajectories=4096, steps=100, every=5)
    found = measure(ensemble)
    for estimate, truth in ((found.curvature, 0.8), (found.noise, 0.5), (found.slope, 0.05)):
        assert abs(estimate.value - truth) < 4 * estimate.stderr + 1e-12
        assert estimate.stderr < 0.02
    design = design_from(None, None, None, 0.1, 600, found)
    assert design.slope == pytest.approx(0.05)
    assert "measured curvature a" in describe_design(design, found)
    with pytest.raises(InputError, match="unknown parameter"):
        measure(ensemble, "z")


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ((None, 1.0, 0.02, 0.1, 600), "--curvature is missing"),
        ((1.0, -1.0, 0.02, 0.1, 600), "--noise -1"),
        ((30.0, 1.0, 0.02, 0.1, 600), "stable below 2"),
        ((1.0, 1.0, 0.02, 0.1, 10**9), "--steps 1000000000"),
    ],
)
def test_what_cannot_be_designed_is_refused(given, message):
    with pytest.raises(InputError, match=message):
        design_from(*given)


def test_a_design_says_what_its_numbers_are():
    short = describe_design(Design(1.0, 1.0, 1e-4, 0.1, 100))
    assert "  no plateau: from 0.1 on, rate/(1 + a*rate*k) for 100 steps, down to" in short
    assert "too short for the best decay, of 22351 steps" in short
    assert "losses are counted from the river's where the run begins" in short
    quiet = Measured(Estimate(1.0, 0.1, 9), Estimate(1.0, 0.1, 9), Estimate(0.02, 1.8e-17, 9))
    assert "measured slope g = 0.02 ± 0\n" in describe_design(DESIGN, quiet)


def test_a_figure_that_exists_is_refused_before_anything_is_printed(tmp_path):
    (tmp_path / "there.svg").touch()
    given = ["--curvature", "1", "--noise", "1", "--slope", "0.02", "--peak", "0.1", "--steps", "60"]
    done = CliRunner().invoke(main, ["schedule", *given, "-o", str(tmp_path / "there.svg")])
    assert done.exit_code == 2
    assert done.output.startswith("Error: ")


def test_a_design_is_drawn(tmp_path):
    path = plot_design(DESIGN, tmp_path / "schedule.svg")
    assert "plateau_harmonic" in path.read_text()
    with pytest.raises(InputError):
        plot_design(DESIGN, path)
