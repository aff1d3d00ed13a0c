"""The first law, against brute force and simulation."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from scipy import integrate, stats

from sgdsim import simulate
from sgdsim.model.losses.river_valley import river_valley
from sgdsim.model.optimizers import Optimizer
from sgdsim.model.recorder import Drift, Histogram
from sgdsim.model.run import Run
from sgdsim.model.schedules import Schedule
from sgdsim.prediction import DriftCurve, NotApplicable
from sgdsim.theory import find_law
from sgdsim.theory.laws import first_law
from sgdsim.theory.methods.rivers import river
from tests.theory.laws.work_runs import make_run, normal, rest


def test_work_and_heat_add_up_in_a_simulation_and_their_means_are_exact():
    loss = river_valley(a="a0*exp(k*y)", c="b*y**2/2", constants={"a0": 1.0, "k": 0.5, "b": 0.1, "sigma": 0.5})
    run = Run(loss, Optimizer(), Schedule("0.2"), {"x": 0.5, "y": normal(0.1)}, 128, 12)
    unused = ("work_on_walls", "heat_of_noise")
    named = {name: str(one) for name, one in first_law.books(run).items() if name not in unused}
    named["change"] = "window_sum(b*(next(y)**2 - y**2)/2 + a0*(exp(k*next(y))*next(x)**2 - exp(k*y)*x**2)/2, 0, 12)"
    ensemble = simulate(
        loss, learning_rate=0.2, initial=run.initial, trajectories=128, steps=12, observables=named, device="python"
    )
    means = dict(zip(map(str, ensemble["observable"]), ensemble["mean"][-1], strict=True))
    assert means["work"] + means["heat"] == pytest.approx(means["change"], abs=1e-13)
    assert means["unbalanced"] == means["unbalanced_symmetric"] == 0
    assert abs(means["work"] - means["work_symmetric"]) > 1e-4  # the splits differ, their sums do not


def test_the_mean_heat_is_that_of_the_recursion():
    run = make_run("first-law", x=normal(1.0))
    rows = {row.quantity: row.predicted for row in find_law("first-law").predictions([run])}
    v = 1.0
    for _ in range(40):
        v = 0.64 * v + 0.04
    assert rows["mean(heat) over 40 steps"] == pytest.approx(v / 2 - 0.5)
    assert rows["mean(heat_of_noise) over 40 steps"] == pytest.approx(40 * 0.02)  # the handbook's .02 a step


def test_the_heat_of_a_step_follows_the_fast_loss_before_it():
    drifts = {"fast_loss_x": Drift("fast_loss_x", Histogram(0.0, 0.3, 5))}
    run = make_run("first-law", x=normal(rest(0.2)))
    recorder = run.recorder.merge(find_law("valley-energy").requirements(run))
    run = replace(run, recorder=replace(recorder, drifts=drifts))
    (row,) = (one for one in find_law("first-law").predictions([run]) if isinstance(one.measure, DriftCurve))
    density = stats.norm(scale=np.sqrt(rest(0.2))).pdf
    for i, value in enumerate(row.measure.values):
        low, high = np.sqrt(2 * 0.06 * i), np.sqrt(2 * 0.06 * (i + 1))
        mass = integrate.quad(density, low, high)[0]
        # Of x'^2/2 - x^2/2 given x, over the bin.
        heat = integrate.quad(lambda x: density(x) * ((0.64 - 1) * x * x + 0.04) / 2, low, high)[0]
        assert value == pytest.approx(heat / mass, rel=1e-6)


def test_a_loss_without_a_valley_is_refused():
    loss = river_valley(a=["1", "2"], c="0")
    with pytest.raises(NotApplicable):
        first_law.books(Run(loss, Optimizer(), Schedule("0.1"), dict.fromkeys(loss.parameters, 0.0), 100, 10))


def closing(sigma: float) -> Run:
    loss = river_valley(a="a0*exp(k*y)", c="-g*y", constants={"a0": 0.5, "k": 1.0, "g": 0.2, "sigma": sigma})
    return Run(loss, Optimizer(), Schedule("0.1"), {"x": 0.0, "y": 0.0}, 1000, 150)


def test_mean_work_and_heat_of_a_river_are_those_of_brute_force():
    n, rate, sigma = 20_000, 0.1, 0.1
    random = np.random.default_rng(6)
    x, y, work, heat = np.zeros(n), np.zeros(n), np.zeros(n), np.zeros(n)
    for _ in range(150):
        a = 0.5 * np.exp(y)
        after = x - rate * (a * x + sigma * random.standard_normal(n))
        y = y - rate * (a * x**2 / 2 - 0.2)
        closed = 0.5 * np.exp(y)
        work += (closed - a) * x**2 / 2
        heat += closed * (after**2 - x**2) / 2
        x = after
    means = first_law.river_means(river(closing(sigma)))
    for measured, name in ((work, "work_on_walls"), (heat, "heat")):
        error = measured.std() / np.sqrt(n)
        assert measured.mean() == pytest.approx(means[name], abs=4 * error + 1.5 * sigma**2 * abs(means[name]))
        assert abs(measured.mean()) > 20 * error
    assert means["work_on_walls"] > 0 > means["heat"]  # pressed together, it gives off heat


def test_mean_work_and_heat_take_four_noises():
    runs = [closing(sigma) for sigma in (0.1, 0.2, 0.3, 0.4)]
    runs = [replace(run, recorder=find_law("first-law").requirements(run)) for run in runs]
    found, reasons = find_law("first-law").evaluate(runs)
    assert [row.point for row in found if row.order == 0] == [0, 0, 1, 1, 2, 2, 3, 3]
    assert not reasons
    found, reasons = find_law("first-law").evaluate(runs[:3])
    assert found  # of the books
    assert not [row for row in found if row.order == 0]
    assert reasons == ["mean work and heat of a river take 4 noises or more, not 3"]


def test_mean_work_of_a_noisy_river_is_refused_and_that_of_a_fixed_valley_is_not_asked_for():
    constants = {"a0": 0.5, "k": 1.0, "g": 0.2, "sigma": 0.1, "sigma_y": 0.1}
    loss = river_valley(a="a0*exp(k*y)", c="-g*y", river_noise="normal", constants=constants)
    run = replace(closing(0.1), loss=loss)
    run = replace(run, recorder=find_law("first-law").requirements(run))
    assert find_law("first-law").evaluate([run, run])[1] == ["mean work and heat of a river: it has noise of its own"]
    assert find_law("first-law").evaluate([make_run("first-law", rate) for rate in ("0.1", "0.2")])[1] == []
