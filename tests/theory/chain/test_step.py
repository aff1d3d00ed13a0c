"""One step of a run in symbols."""

from __future__ import annotations

import pytest

from sgdsim.base.errors import InputError
from sgdsim.theory.chain.chain import chain
from sgdsim.theory.chain.step import Step
from tests.theory.chain.runs import ar1


def test_a_step_is_what_the_optimizer_says() -> None:
    run = ar1(
        "normal", 0.25, preconditioner=("2",), hyperparameters={"weight_decay": 0.5, "decoupled_weight_decay": 1.0}
    )
    after = Step.of(run).after[0].subs({"a": 1.0})
    x, z = run.loss.symbols["x"], run.loss.symbols["z"]
    assert float(after.subs({run.loss.symbols["a"]: 1, x: 3, z: 1})) == pytest.approx(
        3 - 0.25 * 2 * (3 + 1 + 0.5 * 3) - 0.25 * 3
    )


def test_formulas_of_noise_are_refused() -> None:
    with pytest.raises(InputError, match="depends on the noise z"):
        chain(ar1()).expectation("x*z")
