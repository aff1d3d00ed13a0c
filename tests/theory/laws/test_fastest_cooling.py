"""The fastest cooling, against all other schedules."""

from __future__ import annotations

import tomllib
from dataclasses import replace
from importlib import resources

import numpy as np
import pytest
from scipy import optimize

from sgdsim.formulas.vectors import coordinates
from sgdsim.model.loss import Loss
from sgdsim.model.noise import Noise
from sgdsim.model.optimizers import Optimizer
from sgdsim.model.run import Run
from sgdsim.model.schedules import Schedule
from sgdsim.prediction import NotApplicable, Prediction
from sgdsim.theory import find_law, requirements
from sgdsim.theory.laws import fastest_cooling
from tests.theory.laws.schedule_runs import EQUILIBRIUM, brute_force, make_run, total


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
