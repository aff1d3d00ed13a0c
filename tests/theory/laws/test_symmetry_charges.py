"""Charges of symmetries on a plain simulation, with a wrong run to reject."""

from __future__ import annotations

import pytest

from sgdsim.model.loss import Loss
from sgdsim.model.noise import Noise
from sgdsim.model.optimizers import Optimizer
from sgdsim.model.symmetry import Symmetry
from sgdsim.prediction import NotApplicable
from sgdsim.theory import find_law
from tests.theory.laws.symmetry_runs import NOISE, make_run, verdicts

RESCALE = Symmetry.parse("rescale:u:1,w:-1")


def linear(noise: str = "uniform:-1,1") -> Loss:
    return Loss("u*w*z", ("u", "w"), {}, {"z": Noise.parse(noise)}, symmetries=(RESCALE,))


class TestCharges:
    def test_the_change_of_a_charge_is_exact_path_by_path(self) -> None:
        rows = verdicts(make_run(linear()), "charges")
        identity, mean = rows
        assert identity.measured == pytest.approx(1.0 + 0.16, abs=1e-12)
        assert identity.verdict == "agrees"
        # E Q_t = Q_0*(1 - eta^2 E s^2)^t with E s^2 = 1/3.
        assert mean.predicted == pytest.approx((1.0 - 0.16) / 2 * (1 - 0.04 / 3) ** 12)
        assert mean.verdict == "agrees"

    def test_another_learning_rate_is_rejected(self) -> None:
        rows = verdicts(make_run(linear()), "charges", told=make_run(linear(), rate="0.4"))
        assert rows[1].verdict == "disagrees"

    def test_dynamics_without_the_symmetry_are_rejected(self) -> None:
        # A constant force on u alone: the sum of pushes no longer explains the charge.
        loss = linear()
        broken = Loss("u*w*z + u/5", ("u", "w"), {}, loss.noise)
        object.__setattr__(broken, "symmetries", (RESCALE,))
        rows = verdicts(make_run(loss), "charges", told=make_run(broken))
        assert rows[0].verdict == "disagrees"

    def test_the_charge_of_a_translation_is_kept_but_for_weight_decay(self) -> None:
        shift = Symmetry.parse("translation:u,w")
        loss = Loss("(u - w - z)**2/2", ("u", "w"), {}, NOISE, symmetries=(shift,))
        run = make_run(loss, optimizer=Optimizer("sgd", {"weight_decay": 0.5}))
        rows = verdicts(run, "charges")
        assert rows[0].verdict == "agrees"
        assert "0.282" in rows[0].quantity  # 0.9^12
        told = make_run(loss)
        assert verdicts(run, "charges", told=told)[0].verdict == "disagrees"

    def test_symmetries_that_nobody_declared_have_their_rows_too(self) -> None:
        loss = Loss("u*w*z", ("u", "w"), {}, linear().noise)
        kept, mean = verdicts(make_run(loss), "charges")
        assert kept.quantity.startswith("mean(charge_rescale)")
        assert (kept.verdict, mean.verdict) == ("agrees", "agrees")
        told = make_run(Loss("u*w*z + u/5", ("u", "w"), {}, loss.noise))
        assert verdicts(make_run(loss), "charges", told=told)[0].verdict == "disagrees"
        assert verdicts(make_run(linear()), "charges")[0].predicted == kept.predicted

    @pytest.mark.parametrize(
        ("optimizer", "why"),
        [(Optimizer("adam"), "no known change"), (Optimizer("sgd", preconditioner=("1", "2")), "matrix")],
    )
    def test_it_says_where_it_does_not_apply(self, optimizer: Optimizer, why: str) -> None:
        with pytest.raises(NotApplicable, match=why):
            find_law("charges").predictions([make_run(linear(), optimizer=optimizer)])


def test_a_constant_called_learning_rate_is_not_that_of_the_step() -> None:
    loss = Loss("u*w*z*learning_rate", ("u", "w"), {"learning_rate": 2.0}, NOISE, symmetries=(RESCALE,))
    with pytest.raises(NotApplicable, match="name of the loss"):
        find_law("charges").predictions([make_run(loss)])
