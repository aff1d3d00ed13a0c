"""One step of a run in symbols."""

from __future__ import annotations

import pytest

from sgdsim.base.errors import InputError
from sgdsim.formulas.evaluation import evaluate
from sgdsim.theory.chain.chain import chain
from sgdsim.theory.chain.step import Step
from tests.theory.chain.runs import ar1


def test_a_step_is_what_the_optimizer_says() -> None:
    run = ar1(
        "normal", 0.25, preconditioner=("2",), hyperparameters={"weight_decay": 0.5, "decoupled_weight_decay": 1.0}
    )
    for step, rate in ((Step.of(run), 0.25), (Step.of(run).at(0.1), 0.1)):
        after = evaluate(step.after, {**step.known, "x": 3.0, "z": 1.0})[0]
        assert after == pytest.approx(3 - rate * 2 * (3 + 1 + 0.5 * 3) - rate * 3)


def test_formulas_of_noise_are_refused() -> None:
    with pytest.raises(InputError, match="depends on the noise z"):
        chain(ar1()).expectation("x*z")
