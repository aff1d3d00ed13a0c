"""Overflows in theory are refusals with a reason, and no warning of NumPy's gets out."""

from __future__ import annotations

import warnings
from collections.abc import Callable

import numpy as np
import pytest

from sgdsim.model.loss import Loss
from sgdsim.model.noise import Noise
from sgdsim.model.optimizers import Optimizer
from sgdsim.model.run import Run
from sgdsim.model.schedules import Schedule
from sgdsim.prediction import Moment, NotApplicable, Prediction
from sgdsim.theory import AUTOMATIC, LAWS
from sgdsim.theory.guard import guarded
from sgdsim.theory.law import Law, row


def collapse(s: float, rate: float, start: float = 1.0, steps: int = 120) -> Run:
    loss = Loss("(a + s*xi)*x**2/2", ("x",), {"a": 1.0, "s": s}, {"xi": Noise.parse("normal")})
    return Run(loss, Optimizer(), Schedule(repr(rate)), {"x": start}, 1000, steps)


@pytest.mark.parametrize(
    ("compute", "reason"),
    [
        (lambda: 1e200**2, "beyond those of a computer .overflow."),
        (lambda: 1.0 / (1e-200 * 1e-200), "beyond those of a computer .division by zero."),
        (lambda: np.linalg.eigvals(np.array([[np.inf]])), "no solution in numbers"),
        (lambda: np.linalg.inv(np.zeros((2, 2))), "no solution in numbers .Singular matrix."),
    ],
)
def test_arithmetic_that_fails_is_a_refusal(compute: Callable[[], object], reason: str) -> None:
    with pytest.raises(NotApplicable, match=reason), guarded():
        compute()


def test_warnings_stay_inside() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with guarded():
            assert np.isnan(np.exp(1000.0) - np.exp(1000.0))
        with pytest.raises(RuntimeWarning):  # the negative control
            np.exp(1000.0) - np.exp(1000.0)


def law_of(*numbers: float) -> Law:
    def rows(run: Run) -> list[Prediction]:
        return [row(Moment("mean", "x", run.steps), number, f"mean {i}") for i, number in enumerate(numbers)]

    return Law("test", "a test", "ours", "here", "", rows)


def test_rows_that_are_no_numbers_are_left_out_and_a_law_without_others_says_so() -> None:
    run = collapse(1.0, 0.1)
    rows, reasons = law_of(np.inf, 1.0, np.nan).evaluate([run])
    assert [row.predicted for row in rows] == [1.0]
    assert reasons == []
    assert law_of(np.inf).evaluate([run, run]) == ([], ["its numbers overflow: mean 0 is inf"])
    assert law_of().evaluate([run]) == ([], [])


@pytest.mark.parametrize("start", [1.0, 1e200])
@pytest.mark.parametrize("rate", [0.1, 1.0, 10.0, 1e60])
@pytest.mark.parametrize("s", [1e-3, 100.0, 1e200])
def test_no_law_warns_or_fails_over_a_grid_on_which_everything_overflows(s: float, rate: float, start: float) -> None:
    run = collapse(s, rate, start)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for id in AUTOMATIC:
            LAWS[id].requirements(run)
            for row in LAWS[id].evaluate([run])[0]:
                assert np.isfinite(row.predicted)


def test_an_overflow_is_named() -> None:
    assert LAWS["affine-moments"].evaluate([collapse(1.0, 1e60)]) == (
        [],
        ["the moments after 120 steps are beyond the largest float"],
    )


def test_a_variance_whose_fourth_moment_underflows_is_not_predicted() -> None:
    """At eta a = 1, x is a product of 120 normal numbers: its variance is 1e-240, and none of any sample's is near."""
    rows, _ = LAWS["affine-moments"].evaluate([collapse(0.1, 1.0)])
    assert [row.statistic for row in rows] == ["mean"]
    rows, _ = LAWS["affine-moments"].evaluate([collapse(0.1, 0.1)])  # the control
    assert [row.statistic for row in rows] == ["mean", "variance", "skewness"]


def test_a_batch_with_more_nodes_than_memory_is_refused() -> None:
    """Four samples of Student's t, and two kicks of Langevin's: 136 GiB of nodes were asked of the system."""
    noise = {"n": Noise.parse("normal"), "t": Noise.parse("student_t:9")}
    loss = Loss("1 - cos(x) + exp(x/3)*y**2/2 + n*x + t*y", ("x", "y"), noise=noise)
    optimizer = Optimizer("langevin", {"temperature": 0.03}, batch_size=4)
    run = Run(loss, optimizer, Schedule("0.03"), {"x": Noise.parse("uniform:-1,1"), "y": 0.1}, 100, 60)
    rows, reasons = LAWS["second-step"].evaluate([run])
    assert not rows
    assert "1,000,000 points" in reasons[0]
    rows, reasons = LAWS["last-step"].evaluate([run])
    assert not rows
    assert "7 random variables" in reasons[0]
    with pytest.raises(NotApplicable, match="more memory"), guarded():
        np.zeros(2**59)
