"""Laws entropy and residual-entropy: entropies of valleys and of the lattice of SignSGD."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from sgdsim.model.loss import Loss
from sgdsim.model.noise import Noise
from sgdsim.model.optimizers import Optimizer
from sgdsim.model.run import Run
from sgdsim.model.schedules import Schedule
from sgdsim.prediction import Function, NotApplicable, Prediction
from sgdsim.theory import find_law


def make_run(optimizer: str = "sgd", rate: float = 0.3, sigma: float = 1.0, start: str = "normal:0,1") -> Run:
    loss = Loss("a*x**2/2 + s*z*x", ("x",), {"a": 1.0, "s": sigma}, {"z": Noise.parse("normal")})
    return Run(loss, Optimizer(optimizer), Schedule(repr(rate)), {"x": Noise.parse(start)}, 1000, 200)


def predicted(id: str, *runs: Run) -> list[Prediction]:
    recorded = [replace(run, recorder=run.recorder.merge(find_law(id).requirements(run))) for run in runs]
    return find_law(id).predictions(recorded)


def test_entropy_of_a_valley_and_its_slope():
    """Handbook: 0.55164 at eta = 0.3, and dS/d ln(eta) = 1/(2 - eta*a)."""
    assert predicted("entropy", make_run())[0].predicted == pytest.approx(0.55164, abs=5e-6)
    *_, secant = predicted("entropy", make_run(rate=0.3), make_run(rate=0.3001))
    assert secant.predicted == pytest.approx(1 / 1.7, rel=1e-4)
    assert isinstance(secant.measure, Function)
    assert secant.measure.function(np.array(0.2), np.array(0.3)) == pytest.approx(
        np.log(1.5) / 2 / np.log(1.0 + 1e-4 / 0.3)
    )


@pytest.mark.parametrize(("sigma", "start", "entropy"), [(0.02, 0.25, 1.0), (0.02, 0.0, 1.5)])
def test_the_residual_entropy_is_that_of_the_orbit(sigma, start, entropy):
    run = make_run("signsgd", 0.5, sigma, f"table:{start}@0.5,{start - 0.5}@0.5")
    assert predicted("residual-entropy", run)[0].predicted == pytest.approx(entropy * np.log(2), abs=1e-9)


def test_the_entropy_of_the_lattice_against_a_plain_loop():
    """200,000 values at one step, for which three standard errors are 0.006 in the entropy."""
    (row,) = predicted("residual-entropy", make_run("signsgd", 0.5, 1.0, "table:-0.25@0.5,0.25@0.5"))
    rng, x = np.random.default_rng(1), np.repeat([-0.25, 0.25], 100_000)
    for _ in range(200):
        x = x - 0.5 * np.sign(x + rng.normal(size=x.size))
    shares = np.unique(np.round(2 * x, 3), return_counts=True)[1] / x.size
    found = -np.sum(shares * np.log(shares))
    assert row.predicted == pytest.approx(found, abs=0.006)
    one_half = predicted("residual-entropy", make_run("signsgd", 0.5, 1.0, "table:0.25@1"))[0].predicted
    assert row.predicted == pytest.approx(one_half + np.log(2), abs=1e-4)  # both halves are mirror images


def test_where_they_do_not_hold_they_say_why():
    with pytest.raises(NotApplicable, match="not start on one lattice"):
        predicted("residual-entropy", make_run("signsgd", 0.5, 1.0, "table:0@0.5,0.3@0.5"))
    with pytest.raises(NotApplicable, match="neither at a number nor"):
        predicted("residual-entropy", make_run("signsgd", 0.5, 1.0, "uniform:-1,1"))
    with pytest.raises(NotApplicable, match="Gaussian"):
        predicted("entropy", make_run(start="uniform:-1,1"))
