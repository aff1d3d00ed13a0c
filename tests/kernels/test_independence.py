"""Noises are jointly independent, not only each of its law: what no test of one noise alone can see."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
import scipy.stats

from sgdsim.model.data import Data
from sgdsim.model.loss import Loss
from sgdsim.model.noise import Noise
from sgdsim.model.optimizers import Optimizer
from sgdsim.model.run import Recorder, Run
from sgdsim.model.schedules import Schedule
from sgdsim.simulation.run_loop import simulate_runs
from tests.conftest import targets
from tests.samples import daily

FALSE_ALARM = 1e-6
"""Of each test, over all that it compares, for a seed that is chosen once."""

NOISES = ["lognormal:0,0.5", "uniform:-1,1", "normal", "laplace", "exponential", "lognormal:1,0.3", "student_t:5"]
NOISES += ["rademacher", "bernoulli:0.3", "table:-1@0.2,0@0.5,2@0.3"]


def draws(device: str, trajectories: int) -> np.ndarray:
    """Each noise in both samples of two steps, (noise and sample and step, many times).

    A batch is both rows of a data set, each of which leads the noises of its sample to parameters of its own: those of
    the first sample are the later ones. A step subtracts them, at the rate that undoes the mean over the batch.
    """
    steps = max(4, 2 * math.ceil(1024 / trajectories))
    terms = [f"(row*p{i} + (1 - row)*q{i})*n{i}" for i in range(len(NOISES))]
    names = [f"{p}{i}" for p in "pq" for i in range(len(NOISES))]
    noise = {f"n{i}": Noise.parse(text) for i, text in enumerate(NOISES)}
    loss = Loss(" + ".join(terms), tuple(names), noise=noise, data=Data({"row": (0.0, 1.0)}))
    run = Run(
        loss,
        Optimizer(batch_size=2, sampling="batch"),
        Schedule("2"),
        dict.fromkeys(names, 0.0),
        trajectories,
        steps,
        seed=5,
        recorder=Recorder(snapshots=tuple(range(steps + 1))),
    )
    found = -np.diff(simulate_runs([run], scenario="", device=device)["theta"], axis=0)
    pairs = found.reshape(steps // 2, 2, trajectories, len(names)).transpose(1, 3, 0, 2)
    return pairs.reshape(2 * len(names), -1)


def dependent(values: np.ndarray) -> set[tuple[int, int]]:
    """Pairs of rows of which values, squares or absolute values are correlated.

    Of ranks, so that heavy tails do not matter: all their orders are equally likely where rows are independent.
    """
    n = values.shape[1]
    ranks = scipy.stats.rankdata(values, axis=1) / (n + 1) - 0.5
    columns = np.concatenate([ranks, ranks**2, abs(ranks)])
    row = np.tile(np.arange(len(values)), 3)
    varies = columns.std(axis=1) > 1e-9  # the square of a sign does not
    columns, row = columns[varies], row[varies]
    columns -= columns.mean(axis=1, keepdims=True)
    columns /= np.linalg.norm(columns, axis=1, keepdims=True)
    first, second = np.triu_indices(len(columns), 1)
    others = row[first] != row[second]
    first, second = first[others], second[others]
    z = (columns @ columns.T)[first, second] * math.sqrt(n - 1)
    rejected = 2 * scipy.stats.norm.sf(abs(z)) * len(z) < FALSE_ALARM
    pairs = np.sort(np.stack([row[first[rejected]], row[second[rejected]]]), axis=0)
    return set(map(tuple, pairs.T.tolist()))


@pytest.mark.parametrize("target", daily(targets(), *({"cpu"} & {*targets()})))
def test_all_pairs_of_noises_samples_and_steps(target: str, size: Callable[[int, int], int]) -> None:
    assert not dependent(draws(target, size(128, 8000)))


@pytest.mark.parametrize(
    "target", [pytest.param(one, marks=[pytest.mark.validate] * (one != "python")) for one in targets()]
)
def test_the_pairs_that_shared_words_are_found(target: str, size: Callable[[int, int], int], layout_1: None) -> None:
    """The negative control: the layout in which normals of 32 and of 64 bits were made of the same words."""
    normal, lognormal, n = NOISES.index("normal"), NOISES.index("lognormal:0,0.5"), len(NOISES)
    shared = {(normal, n + normal), (normal, n + lognormal)}  # the second sample's with the first's
    assert dependent(draws(target, size(128, 20_000))) >= shared | {(i + 2 * n, j + 2 * n) for i, j in shared}


def test_the_test_finds_what_hides_in_squares() -> None:
    """Two variables without correlation, one of which is wider where the other is large."""
    rng = np.random.default_rng(1)
    x, y, other = rng.standard_normal((3, 20_000))
    assert dependent(np.stack([x, y * np.sqrt(0.8 + 0.2 * x**2), other])) == {(0, 1)}
    assert not dependent(np.stack([x, y, other]))


def sum_of_three(trajectories: int) -> float:
    """z of the variance of a sum of two normals and a log-normal, which a step at rate 1 puts in place of x."""
    noise = {n: Noise.parse(text) for n, text in {"a": "normal:0,0.1", "b": "normal", "g": "lognormal:0,0.5"}.items()}
    loss = Loss("x**2/2 + (a + b + g)*x", ("x",), noise=noise)
    ensemble = simulate_runs([Run(loss, Optimizer(), Schedule("1"), {"x": 0.0}, trajectories, 4)], scenario="")
    variance = 0.01 + 1 + math.exp(0.25) * (math.exp(0.25) - 1)
    return float((ensemble["variance"][-1, 0] - variance) / ensemble["variance_stderr"][-1, 0])


def test_the_variance_of_a_sum() -> None:
    assert abs(sum_of_three(200_000)) < scipy.stats.norm.isf(FALSE_ALARM / 2)


@pytest.mark.validate
def test_the_variance_of_a_sum_of_what_shares_words(layout_1: None) -> None:
    """The negative control: where the fault was first seen, 60 standard errors for two million trajectories."""
    assert sum_of_three(200_000) > 15
