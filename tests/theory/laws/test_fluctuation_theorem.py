"""The integral fluctuation theorem, against quadrature over all paths."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from sgdsim.model.loss import Loss
from sgdsim.model.noise import Noise
from sgdsim.model.optimizers import Optimizer
from sgdsim.model.run import Run
from sgdsim.model.schedules import Schedule
from sgdsim.prediction import NotApplicable, PathMean
from sgdsim.simulation.run_loop import simulate_runs
from sgdsim.statistics.comparison import compare
from sgdsim.theory import find_law
from sgdsim.theory.laws.fluctuation_theorem import mean_square_of_weight

LAW = find_law("fluctuation-theorem")
RATE, SIGMA = 0.1, 2.0


def make_run(noise: str = "normal", steps: int = 2, **options: object) -> Run:
    loss = Loss("(x**2 - 1)**2/4 + s*z*x", ("x",), {"s": SIGMA}, {"z": Noise.parse(noise)})
    run = Run(loss, Optimizer(), Schedule(str(RATE)), {"x": Noise.parse("normal:0.2,0.9")}, 20_000, steps, seed=4)
    return replace(run, **options)  # type: ignore[arg-type]


def told(run: Run) -> tuple[PathMean, PathMean]:
    weight, total = LAW.predictions([replace(run, recorder=LAW.requirements(run))])
    assert (weight.predicted, total.predicted, total.allowed) == (1.0, 0.0, (0.0, np.inf))
    assert isinstance(weight.measure, PathMean)
    assert isinstance(total.measure, PathMean)
    return weight.measure, total.measure


def mean_over_paths(measure: PathMean, rate: float = RATE) -> float:
    """Gauss-Hermite over the start and the noise of two steps."""
    nodes, weights = np.polynomial.hermite_e.hermegauss(60)
    first, *kicks = (axis.ravel() for axis in np.meshgrid(nodes, nodes, nodes, indexing="ij"))
    x = [0.2 + 0.9 * first]
    for kick in kicks:
        x.append(x[-1] - rate * (x[-1] ** 3 - x[-1] + SIGMA * kick))
    w = np.einsum("i,j,k->ijk", weights, weights, weights).ravel() / weights.sum() ** 3
    return float(w @ measure.function(np.array(x)))


def test_the_mean_weight_is_one_by_quadrature_and_only_at_the_rate_of_the_run() -> None:
    weight, total = told(make_run())
    assert weight.steps == (0, 1, 2)
    assert mean_over_paths(weight) == pytest.approx(1.0, abs=2e-3)
    assert mean_over_paths(total) > 0.1
    assert abs(mean_over_paths(weight, rate=0.8 * RATE) - 1.0) > 0.02


def test_langevin_noise_is_the_same_noise() -> None:
    quiet = Loss("(x**2 - 1)**2/4", ("x",))
    hot = Optimizer("langevin", {"temperature": RATE * SIGMA**2 / 2})
    x = np.random.default_rng(1).normal(size=(3, 5))
    plain, langevin = told(make_run()), told(make_run(loss=quiet, optimizer=hot))
    for one, other in zip(plain, langevin, strict=True):
        np.testing.assert_allclose(one.function(x), other.function(x), rtol=1e-12)


@pytest.mark.validate
def test_a_run_agrees_and_one_at_another_temperature_does_not() -> None:
    run = make_run(steps=5)
    run = replace(run, recorder=LAW.requirements(run))
    rows = LAW.predictions([run])
    for scale, verdict in ((1.0, "agrees"), (1.1, "disagrees")):
        noisier = replace(run, loss=replace(run.loss, constants={"s": scale * SIGMA}), trajectories=400_000)
        found = compare(simulate_runs([noisier], scenario=""), rows)
        assert found[0].verdict == verdict, found[0]


@pytest.mark.parametrize(
    ("changed", "why"),
    [
        ({"initial": {"x": 0.5}}, "normal law"),
        ({"optimizer": Optimizer("sgd", {"weight_decay": 0.1})}, "decay"),
        ({"optimizer": Optimizer("signsgd")}, "sgd and langevin"),
        ({"loss": Loss("(x**2 - 1)**2/4 + z*x", ("x",), {}, {"z": Noise.parse("rademacher")})}, "not normal"),
        ({"loss": Loss("x**2/2 + z*x**2", ("x",), {}, {"z": Noise.parse("normal")})}, "depends on the parameters"),
    ],
)
def test_it_says_nothing_of_other_runs(changed: dict[str, object], why: str) -> None:
    with pytest.raises(NotApplicable, match=why):
        LAW.predictions([make_run(**changed)])


QUADRATIC = Loss("x**2/2 + x*z", ("x",), {}, {"z": Noise.parse("normal:0,2")})


def weights(width: float, steps: int, count: int) -> np.ndarray:
    """Weights of simulated paths in the quadratic, whose entropy production is a difference of states."""
    random, kept = np.random.default_rng(3), 1.0 - RATE
    first = x = width * random.standard_normal(count)
    for _ in range(steps):
        x = kept * x + RATE * SIGMA * random.standard_normal(count)
    produced = (first**2 - x**2) * (1.0 - kept**2) / (2.0 * (RATE * SIGMA) ** 2)
    return 2.0 * np.exp(-produced - 2.0 * (x / width) ** 2 + (first / width) ** 2 / 2.0)


@pytest.mark.parametrize("width", [0.4, 0.9])
def test_the_mean_square_of_the_weight_is_that_of_a_sample(width: float) -> None:
    found = weights(width, 5, 400_000)
    expected = mean_square_of_weight(0.0, 1.0, width, RATE, RATE * SIGMA**2 / 2, 5)
    error = found.std() / np.sqrt(len(found))
    assert abs(found.mean() - 1.0) < 4.0 * error
    assert (found**2).mean() == pytest.approx(expected, rel=0.02)
    told(make_run(loss=QUADRATIC, initial={"x": Noise("normal", (0.0, width))}, steps=5))


@pytest.mark.parametrize("width", [0.02, 20.0])
def test_a_weight_whose_mean_no_sample_shows_is_refused(width: float) -> None:
    assert weights(width, 5, 400_000).mean() < 0.5  # of a mean that is 1
    with pytest.raises(NotApplicable, match="mean square of the weight is inf"):
        told(make_run(loss=QUADRATIC, initial={"x": Noise("normal", (0.0, width))}, steps=5))
    with pytest.raises(NotApplicable, match="too far from rest"):
        told(make_run(loss=QUADRATIC, initial={"x": Noise.parse("normal:3,0.4")}, steps=5))
