"""Means over noise that have no closed form, against sums over a sample, and a run that they must accuse."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from sgdsim.base.errors import InputError
from sgdsim.formulas.evaluation import evaluate
from sgdsim.model.data import Data
from sgdsim.model.loss import Loss
from sgdsim.model.noise import Noise
from sgdsim.theory.methods.noise_means import mean_over_noise
from tests.theory.laws.symmetry_runs import draws, make_run, verdicts

NOISE = {"x": Noise.parse("normal:0.3,1"), "y": Noise.parse("laplace"), "e": Noise.parse("uniform:-1,1")}
UNIT = Loss("(w*tanh(a*x)*exp(-y**2) + v*x*tanh(x) - e)**2/2", ("w", "v"), {"a": 0.7}, NOISE)
"""A unit whose input is squashed: of two slopes neither is a polynomial in the noise."""


def test_the_mean_is_that_of_a_sample() -> None:
    rng, n = np.random.default_rng(5), 400_000
    sample = {name: draws(noise, rng, (n,)) for name, noise in NOISE.items()}
    theta = {"w": 0.8, "v": -0.4, "a": 0.7}
    for expression in (UNIT.expression, *UNIT.gradient, (UNIT.gradient[0] * UNIT.gradient[1]).expand()):
        mean = mean_over_noise(UNIT, expression)
        assert {one.name for one in mean.free_symbols} <= {"w", "v"}
        (exact,), (values,) = (evaluate([one], {**theta, **sample}) for one in (mean, expression))
        assert abs(np.mean(values) - exact) < 4 * np.std(values) / np.sqrt(n)


def test_what_mixes_noises_or_parameters_is_refused() -> None:
    for text in ("tanh(w*x)", "tanh(x + y)*w", "1/(1 + x**2 + w**2)"):
        loss = replace(UNIT, formula=text)
        with pytest.raises(InputError, match="no closed form"):
            mean_over_noise(loss, loss.expression)
    rows = Data({"c": tuple(np.linspace(-1, 1, 100))})
    loss = Loss("w*tanh(c)*tanh(x)", ("w",), {}, {"x": NOISE["x"]}, data=rows)
    with pytest.raises(InputError, match="no closed form"):
        mean_over_noise(loss, loss.expression)


def test_a_network_of_squashed_noise_has_identities_that_find_a_fault() -> None:
    run = make_run(UNIT, rate="0.1", steps=20, initial={"w": 0.5, "v": -0.2}, trajectories=64 * 384)
    rows = verdicts(run, "identities")
    assert len(rows) > 5
    assert "disagrees" not in {row.outcome for row in rows}
    broader = replace(UNIT, noise={**NOISE, "x": Noise.parse("normal:0.3,1.1")})
    found = verdicts(run, "identities", told=replace(run, loss=broader))
    assert "disagrees" in {row.outcome for row in found}
