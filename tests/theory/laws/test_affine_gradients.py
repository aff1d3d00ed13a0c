"""Moments of affine gradients on a plain simulation, with a wrong run to reject."""

from __future__ import annotations

import numpy as np
import pytest

from sgdsim.model.loss import Loss
from sgdsim.model.noise import Noise
from sgdsim.model.optimizers import Optimizer
from sgdsim.model.recorder import Recorder
from sgdsim.prediction import NotApplicable
from sgdsim.theory import find_law
from tests.theory.laws.symmetry_runs import NOISE, REGRESSION, make_run, verdicts


class TestMoments:
    @pytest.mark.parametrize(
        "optimizer",
        [
            Optimizer(batch_size=2),
            Optimizer("momentum", {"momentum": 0.5}),
            Optimizer("sgd", {"weight_decay": 0.2}, preconditioner=(("1", "0.2"), ("0.1", "0.5"))),
        ],
        ids=lambda optimizer: optimizer.name,
    )
    def test_every_linear_optimizer_agrees(self, optimizer: Optimizer) -> None:
        loss = Loss("u**2/2 + 0.3*u*w + w**2 + z*(u + 0.5*w)", ("u", "w"), {}, {"z": Noise.parse("laplace")})
        rows = verdicts(make_run(loss, optimizer=optimizer, recorder=Recorder(every=4)), "affine-moments")
        assert {row.verdict for row in rows} <= {"agrees", "inconclusive"}
        assert {row.quantity for row in rows} >= {"mean(u)", "variance(w)", "variance(u) at step 8"}
        assert all(abs(row.z) < 5 for row in rows)

    def test_another_momentum_is_rejected(self) -> None:
        loss = Loss("u**2/2 + 0.3*u*w + w**2 + z*(u + 0.5*w)", ("u", "w"), {}, NOISE)
        run = make_run(loss, optimizer=Optimizer("momentum", {"momentum": 0.5}))
        told = make_run(loss, optimizer=Optimizer("momentum", {"momentum": 0.6}))
        assert any(row.verdict == "disagrees" for row in verdicts(run, "affine-moments", told=told))

    def test_it_leaves_fast_directions_to_valley(self) -> None:
        with pytest.raises(NotApplicable, match="valley"):
            find_law("affine-moments").predictions([make_run(Loss("u**2/2 + z*u", ("u",), {}, NOISE))])

    def test_it_is_silent_on_anharmonic_losses(self) -> None:
        with pytest.raises(NotApplicable, match="affine"):
            find_law("affine-moments").predictions([make_run(Loss("u**4/4 + z*u", ("u",), {}, NOISE))])


def test_a_variance_that_rare_trajectories_make_is_not_predicted() -> None:
    """At 200 steps the variance is 1e24 and no sample holds it: what it measures is no evidence."""
    run = make_run(REGRESSION, rate="0.8", steps=200)
    assert {row.statistic for row in find_law("affine-moments").predictions([run])} == {"mean"}


def test_numbers_are_finite_where_moments_are_not() -> None:
    run = make_run(REGRESSION, rate="0.8", steps=60)
    rows = find_law("affine-moments").predictions([run])
    assert np.isfinite([row.predicted for row in rows]).all()
