"""The law at the end of a run of any loss, against samples of a few lines of NumPy and against closed forms."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from sgdsim.model.run import Run
from sgdsim.model.schedules import Schedule
from sgdsim.prediction import Distance, NotApplicable, Prediction
from sgdsim.theory import find_law
from sgdsim.theory.chain.evolution import evolve
from sgdsim.theory.methods.moment_recursion import recursion
from tests.theory.chain.runs import SIGMAS, make_run

LAW = find_law("last-step")


def rows_of(run: Run) -> dict[str, Prediction]:
    run = replace(run, recorder=run.recorder.merge(LAW.requirements(run)))
    return {row.quantity: row for row in LAW.predictions([run])}


def two_wells(steps: int) -> Run:
    run = make_run("(x**2 - 1)**2/4 + z*x", {"z": "normal"}, 0.1, initial={"x": -1.0})
    return replace(run, steps=steps, recorder=replace(run.recorder, snapshots=(steps,)))


def sample(rates: np.ndarray, count: int = 50_000) -> np.ndarray:
    random, x = np.random.default_rng(4), np.full(count, -1.0)
    for rate in rates:
        x = x - rate * (x**3 - x + random.standard_normal(count))
    return x


def test_moments_and_distribution_of_a_double_well_that_has_not_forgotten_its_start() -> None:
    rows, x = rows_of(two_wells(40)), sample(np.full(40, 0.1))
    far = sample(np.full(20, 0.1))  # the negative control
    for values, agrees in ((x, True), (far, False)):
        error = values.std() / np.sqrt(len(values))
        assert (abs(values.mean() - rows["mean(x)"].predicted) < SIGMAS * error) == agrees
        distance = rows["distribution of x"].measure
        assert isinstance(distance, Distance)
        off = np.abs(distance.cdf(np.sort(values)) - np.arange(len(values)) / len(values)).max()
        assert (off < 2.5 / np.sqrt(len(values))) == agrees  # Kolmogorov: one in a hundred thousand
    spread = np.sqrt(((x - x.mean()) ** 2).var() / len(x))
    assert abs(x.var() - rows["variance(x)"].predicted) < SIGMAS * spread


def test_a_rate_that_changes_has_rows_too() -> None:
    run = replace(two_wells(60), schedule=Schedule("cosine:0.3"))
    rates = run.schedule.rates(60)
    rows = rows_of(run)
    assert set(rows) == {"mean(x)", "variance(x)"}  # the last step is too short for a distribution
    for values, agrees in ((sample(rates), True), (sample(rates[::-1]), False)):
        error = values.std() / np.sqrt(len(values))
        spread = np.sqrt(((values - values.mean()) ** 2).var() / len(values))
        assert not agrees or abs(values.mean() - rows["mean(x)"].predicted) < SIGMAS * error
        assert (abs(values.var() - rows["variance(x)"].predicted) < SIGMAS * spread) == agrees


@pytest.mark.validate
def test_two_parameters_have_a_covariance() -> None:
    run = make_run(
        "x**4/4 + x*y/2 + y**2 + z*x + w*y", {"z": "normal", "w": "laplace"}, 0.1, initial={"x": 1.0, "y": 0}
    )
    run = replace(run, steps=12)
    random, (x, y) = np.random.default_rng(5), np.array([np.ones(50_000), np.zeros(50_000)])
    for _ in range(12):
        slopes = x**3 + y / 2 + random.standard_normal(len(x)), x / 2 + 2 * y + random.laplace(size=len(x))
        x, y = x - 0.1 * slopes[0], y - 0.1 * slopes[1]
    rows, product = rows_of(run), (x - x.mean()) * (y - y.mean())
    assert set(rows) == {"mean(x)", "variance(x)", "mean(y)", "variance(y)", "covariance(x, y)"}
    found = rows["covariance(x, y)"].predicted
    assert abs(product.mean() - found) < SIGMAS * product.std() / np.sqrt(len(x))
    assert abs(found) > SIGMAS * product.std() / np.sqrt(len(x))  # so that a covariance of zero would have failed
    assert set({row.id: row for row in LAW.predictions([run])}) == {"last-step"}  # without the product, too


def test_the_coarse_meshes_know_how_far_they_are_off() -> None:
    noise, initial = {"z": "normal", "w": "normal"}, {"x": 1.0, "y": -0.5}
    run = replace(make_run("x**2/2 + x*y/2 + y**2 + z*x + w*y", noise, 0.2, initial=initial), steps=20)
    exact, found = recursion(run).after(20), evolve(run, ["x", "y", "x**2", "x*y"], 20, fineness=0)
    mean = {name: exact.cumulants(name)[0] for name in "xy"}
    truth = [mean["x"], mean["y"], exact.covariance("x", "x") + mean["x"] ** 2]
    truth.append(exact.covariance("x", "y") + mean["x"] * mean["y"])
    for one, value in zip(found, truth, strict=True):
        assert abs(one.value - value) <= 3 * one.error + 1e-15
        assert one.error < 1e-4


def test_what_is_too_coarse_or_affine_makes_no_row() -> None:
    narrow = make_run("x**4/4 + 1e-8*z*x", {"z": "normal"}, 0.1, initial={"x": 1.0})
    assert "variance(x)" not in rows_of(narrow)
    affine = make_run("x**2/2 + z*x", {"z": "normal"})
    with pytest.raises(NotApplicable, match="affine-moments says the same"):
        LAW.predictions([affine])
    kept = replace(affine, recorder=replace(affine.recorder, snapshots=(affine.steps,)))
    assert set(rows_of(kept)) == {"distribution of x"}
