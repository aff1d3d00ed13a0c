"""Antithetic pairs: the second trajectory mirrors the noise of the first, whatever draws it, and errors know it."""

from __future__ import annotations

import hashlib
from typing import Any

import numpy as np
import pytest

from sgdsim import Loss, Noise, simulate
from sgdsim.base.errors import InputError
from sgdsim.ensemble import Ensemble
from sgdsim.input.options import scenario_data
from sgdsim.input.scenario import Scenario
from sgdsim.model.data import Data
from sgdsim.model.optimizers import Optimizer
from sgdsim.simulation.run_loop import simulate_runs
from sgdsim.statistics.control_variates import controlled
from sgdsim.statistics.estimate import NotMeasured
from tests.samples import daily

SYMMETRIC = ("normal:0.5,2", "uniform:-1,3", "laplace:0.3,2", "student_t:3", "rademacher")
SKEWED = ("lognormal:0,0.5", "exponential:2", "bernoulli:0.3", "table:-1@0.2,0@0.5,4@0.3")


def draws(family: str, antithetic: bool = True, **options: Any) -> np.ndarray:
    """The noise of one step, by trajectory."""
    loss = Loss("z*x", ("x",), noise={"z": Noise.parse(family)})
    rest = {"learning_rate": 1.0, "initial": {"x": 0.0}, "steps": 1, "snapshots": [1], "device": "python"}
    ensemble = simulate(loss, trajectories=options.pop("trajectories", 4000), antithetic=antithetic, **rest, **options)
    return -np.asarray(ensemble["theta"][0, :, 0], dtype=float)


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("noise_dtype", ["float64", "float32"])
@pytest.mark.parametrize("family", daily(SYMMETRIC, "normal:0.5,2", "rademacher"))
def test_symmetric_noise_is_reflected(family, dtype, noise_dtype):
    values = draws(family, trajectories=600, dtype=dtype, noise_dtype=noise_dtype)
    centre = Noise.parse(family).moment(1)
    scale = np.abs(values).max()
    np.testing.assert_allclose(values[::2] + values[1::2], 2 * centre, atol=4 * scale * np.finfo(dtype).eps)


@pytest.mark.parametrize("family", SKEWED)
def test_skewed_noise_is_mirrored_in_probability(family):
    """Large where the other is small: the order of the pairs is turned round, and the law of both is the same.

    Means and second moments of 2000 values each at 5 standard errors: eight tests, a false alarm in 2e5.
    """
    values = draws(family)
    first, second = values[::2], values[1::2]
    order = np.argsort(first, kind="stable")
    assert (np.diff(second[order])[np.diff(first[order]) > 0] <= 1e-12).all()
    noise = Noise.parse(family)
    for k in (1, 2):
        error = np.std(second**k) / np.sqrt(len(second))
        assert abs(np.mean(second**k) - noise.moment(k)) < 5 * error


def test_the_first_of_a_pair_is_the_trajectory_of_an_ordinary_run():
    for family in ("normal", "student_t:4"):
        mirrored, ordinary = draws(family, trajectories=600), draws(family, antithetic=False, trajectories=600)
        np.testing.assert_array_equal(mirrored[::2], ordinary[::2])
        assert (mirrored[1::2] != ordinary[1::2]).all()


def pair_means(loss: Loss, optimizer: Optimizer | None = None, **options: Any) -> np.ndarray:
    """Means of the final states of pairs, shape (pair, parameter)."""
    settings = {"learning_rate": 0.2, "trajectories": 60, "steps": 7, "device": "python", **options}
    ensemble = simulate(loss, optimizer, antithetic=True, snapshots=[settings["steps"]], **settings)
    theta = np.asarray(ensemble["theta"][0])
    return (theta[::2] + theta[1::2]) / 2


@pytest.mark.parametrize(
    "optimizer", [Optimizer(), Optimizer("momentum", batch_size=3), Optimizer("langevin", {"temperature": 0.1})]
)
def test_pair_means_of_a_linear_chain_are_exact(optimizer):
    """Noise, kicks and random starts are odd in a linear chain: the mean of a pair is the path without noise."""
    loss = Loss("a*(x - z)**2/2", ("x",), {"a": 1.5}, {"z": Noise.parse("laplace:0.25,0.5")})
    found = pair_means(loss, optimizer, initial={"x": "normal:1,0.3"})
    quiet = Loss("a*(x - 0.25)**2/2", ("x",), {"a": 1.5})
    still = {"temperature": 0.0} if optimizer.name == "langevin" else {}
    path = pair_means(quiet, Optimizer(optimizer.name, still), initial={"x": 1.0})
    np.testing.assert_allclose(found, np.broadcast_to(path, found.shape), atol=1e-12)


def test_pair_means_of_a_nonlinear_chain_are_not():
    """The same test must fail where noise squared matters."""
    found = pair_means(Loss("(x - z)**4/40", ("x",), noise={"z": Noise.parse("normal")}), initial={"x": 1.0})
    assert found.std() > 0.01


@pytest.mark.parametrize("sampling", ["replacement", "batch", "epoch"])
def test_rows_are_counted_from_the_other_end(sampling):
    """In a table that is symmetric about its middle, the mean of a pair is the mean of the table."""
    loss = Loss("(x - y)**2/2", ("x",), data=Data({"y": (-1.0, -0.25, 0.0, 0.25, 1.0)}))
    found = pair_means(loss, Optimizer(batch_size=2, sampling=sampling), initial={"x": 1.0})
    np.testing.assert_allclose(found, 0.8**7, atol=1e-12)


def test_rows_of_a_large_table_are_mirrored_too():
    """Where the order of an epoch is computed place by place."""
    loss = Loss("(x - y)**2/2", ("x",), data=Data({"y": tuple(np.linspace(-1.0, 1.0, 301))}))
    found = pair_means(loss, Optimizer(sampling="epoch"), initial={"x": 1.0}, trajectories=4, steps=1)
    np.testing.assert_allclose(found, 0.8, atol=1e-12)


SCENARIO = """
    [loss]
    formula = "(u*w*x - y)**2/2"
    parameters = { u = 1.6, w = "normal:0.5,0.1" }
    noise = { x = "rademacher", e = "exponential" }
    define = { y = "0.8*x + 0.3*e" }
    [optimizer]
    learning_rate = 0.1
    [run]
    trajectories = 600
    steps = 5
    antithetic = true
    [record]
    observables = { q = "u**2 - w**2" }
    histograms = { q = [0.0, 4.0, 8] }
    quantiles = [0.5]
    covariances = true
    controls = ["q"]
"""


def test_numbers_do_not_depend_on_the_cut():
    scenario = Scenario.parse(SCENARIO)
    cuts: list[dict[str, int]] = [{}, {"block_trajectories": 256, "span_steps": 4}, {"block_trajectories": 512}]
    digests = {simulate_runs(scenario.runs, scenario=scenario.toml, device="python", **cut).digest() for cut in cuts}
    assert len(digests) == 1
    assert "antithetic = true" in scenario.toml
    assert Scenario.parse(scenario.toml).runs == scenario.runs


def test_an_odd_trajectory_has_no_image():
    with pytest.raises(InputError, match=r"run\.trajectories: 601, expected an even number with run\.antithetic"):
        Scenario.parse(SCENARIO, overrides={"run.trajectories": 601})


def test_the_option_sets_the_key():
    data = scenario_data(
        loss="(x - z)**2/2",
        parameters=["x=1"],
        noise=["z=normal"],
        learning_rate="0.1",
        trajectories=10,
        steps=4,
        antithetic=True,
        controls=["x"],
        automatic=False,
    )
    assert data["run"]["antithetic"] is True
    assert data["record"]["controls"] == ["x"]


# Standard errors.


def test_errors_know_of_the_pairs():
    """Of x the pairs leave nothing; of x^2, which both have in common, twice the variance of independent ones.

    An error from 64 groups is known to 9 %: 5 sigma are asked, of the square root of 2 that formulas would miss.
    """
    ensemble = simulate(
        Loss("(x - z)**2/2", ("x",), noise={"z": Noise.parse("normal")}),
        learning_rate=0.5,
        initial={"x": "normal:0,0.5"},
        trajectories=16_384,
        steps=1,
        observables={"y": "x**2"},
        antithetic=True,
    )
    assert len(np.unique(ensemble["group_count"][-1, :, 0])) == 1
    (error, square), independent = ensemble["mean_stderr"][-1], np.sqrt(ensemble["variance"][-1] / 16_384)
    assert error < 1e-12 * independent[0]
    assert 0.55 * 2**0.5 < square / independent[1] < 1.45 * 2**0.5
    assert square > 1.1 * independent[1]
    spread = ensemble["variance_stderr"][-1, 0]  # of a normal variable sqrt(2/n) of the variance, and twice of that
    assert 0.55 * 2 < spread / (ensemble["variance"][-1, 0] / 16_384**0.5) < 1.45 * 2


def test_errors_that_rest_on_independence_are_not_given():
    scenario = Scenario.parse(SCENARIO)
    ensemble = simulate_runs(scenario.runs, scenario=scenario.toml, device="python")
    assert ensemble.attributes["antithetic"] == 1
    assert np.isnan(ensemble["quantile_q_stderr"]).all()
    spread = ensemble["variance_stderr"][-1, :2]
    np.testing.assert_array_equal(np.diagonal(ensemble["covariance_stderr"][-1]), spread)
    assert np.isfinite(spread).all()
    assert np.isnan(ensemble["controlled_mean"]).all()
    with pytest.raises(NotMeasured, match="fewer than 16 groups"):
        controlled(ensemble, "q")


def test_pairs_lie_in_one_group():
    """The sums of a group over odd values vanish: no pair is torn apart, with 64 to 256 lanes."""
    for n in (2, 12, 40):
        loss = Loss("sum((x - z)**2)/2", tuple(f"x[{i}]" for i in range(n)), noise={"z": Noise.parse("normal")})
        ensemble = simulate(
            loss,
            learning_rate=0.5,
            initial=dict.fromkeys(loss.parameters, 0.0),
            trajectories=258,
            steps=1,
            antithetic=True,
            device="python",
        )
        assert ensemble.attributes["lanes"] == {2: 256, 12: 128, 40: 64}[n]
        np.testing.assert_allclose(ensemble["group_mean"][-1], 0.0, atol=1e-16)


def digest(ensemble: Ensemble) -> str:
    """Digest of the measurements of the kernels."""
    names = ("group_comoments", "group_count", "group_m2", "group_m3", "group_m4", "group_mean", "theta")
    return hashlib.sha256(b"".join(np.ascontiguousarray(ensemble[name]).tobytes() for name in names)).hexdigest()


@pytest.mark.parametrize("device", ["python", "cpu"])
def test_ordinary_runs_are_what_they_were(device):
    """All that an option not taken must not change, and what the two targets measure: see also `test_digests`."""
    noise = {"x": "rademacher", "e": "normal", "f": "student_t:5", "h": "exponential", "k": "lognormal:0,0.1"}
    loss = Loss(
        "(u*w*x - y)**2/2",
        ("u", "w"),
        {"s": 0.5},
        {name: Noise.parse(text) for name, text in noise.items()},
        {"y": "0.8*x + s*e + 0.01*(f + h + k)"},
    )
    ensemble = simulate(
        loss,
        learning_rate="linear:0.1,0.05",
        initial={"u": 1.6, "w": "normal:0.5,0.1"},
        trajectories=60,
        steps=12,
        every=5,
        seed=7,
        observables={"lost": "window_sum(u*gradient(u)*learning_rate + e*next(w), 0, 12)"},
        covariances=True,
        snapshots=[12],
        device=device,
    )
    assert digest(ensemble) == "805b15085fc2c2018e2a20511736a8bad93c759d563ab522730acee7bd18b2e6"
