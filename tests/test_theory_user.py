"""The user's own predictions: what is read, what is evaluated, and what is refused."""

from __future__ import annotations

import numpy as np
import pytest

from sgdsim.errors import InputError
from sgdsim.loss import Loss
from sgdsim.noise import Noise
from sgdsim.observables import Observable
from sgdsim.optimizers import Optimizer
from sgdsim.run import Recorder, Run
from sgdsim.schedules import Schedule
from sgdsim.theory import parse_user_prediction, predict
from sgdsim.theory.prediction import Moment

LOSS = Loss(
    "a*q**2/2 + s*z*q + b[0]*b[1]*q",
    ("q",),
    {"a": 2.0, "s": 3.0, "b[0]": 4.0, "b[1]": 0.0},
    {"z": Noise.parse("normal")},
)


def make_run(rate: str = "0.1", optimizer: Optimizer | None = None, loss: Loss = LOSS) -> Run:
    recorder = Recorder(every=5, observables=(Observable.parse("energy", "a*q**2/2"),))
    return Run(loss, optimizer or Optimizer(), Schedule(rate), {"q": 0.0}, 100, 20, recorder=recorder)


def test_text_and_table_are_the_same_claim() -> None:
    text = parse_user_prediction("mean( energy )= learning_rate*s**2/4 ; order = 1; at=10; resolution=2%", "mine")
    table = parse_user_prediction(
        {"formula": "mean(energy) = learning_rate*s**2/4", "order": 1, "at": 10, "resolution": "2%", "id": "mine"}
    )
    assert text == table
    row = text.predictions([make_run()])[0]
    assert (row.id, row.quantity, row.order, row.point) == ("mine", "mean(energy) at step 10", 1, None)
    assert row.measure == Moment("mean", "energy", 10)
    assert row.predicted == pytest.approx(0.225)
    assert row.resolution == pytest.approx(0.02 * 0.225)
    assert row.learning_rate == pytest.approx(0.1)


def test_defaults_are_exact_at_the_last_step() -> None:
    row = parse_user_prediction({"formula": "std(q) = 1", "order": None}).predictions([make_run()])[0]
    assert (row.order, row.measure, row.resolution) == ("exact", Moment("std", "q", 20), None)


def test_names_are_constants_and_what_the_run_is_made_of() -> None:
    run = make_run("0.25", Optimizer("momentum", {"momentum": 0.5}, 4))
    formula = "mean(q) = a + 10*s + 100*b[0] + learning_rate + batch_size + 1000*momentum + 5*steps"
    row = parse_user_prediction(formula).predictions([run])[0]
    assert row.predicted == pytest.approx(2 + 30 + 400 + 0.25 + 4 + 500 + 100)


def test_the_learning_rate_is_that_of_the_step_that_led_there() -> None:
    claim = "mean(q) = learning_rate; at={}"
    run = make_run("linear:1,0")
    values = [parse_user_prediction(claim.format(at)).predictions([run])[0].predicted for at in (0, 5, 20)]
    assert values == pytest.approx([1.0, 0.8, 0.05])


def test_points_of_a_sweep_share_a_series_if_only_the_rate_differs() -> None:
    louder = Loss(LOSS.formula, LOSS.parameters, {**LOSS.constants, "s": 5.0}, LOSS.noise)
    runs = [make_run("0.1"), make_run("0.2"), make_run("0.1", loss=louder)]
    rows, skipped = predict([parse_user_prediction("variance(q) = learning_rate*s**2/4; order=1")], runs)
    assert not skipped
    assert [row.point for row in rows] == [0, 1, 2]
    assert rows[0].series == rows[1].series != rows[2].series
    assert [row.predicted for row in rows] == pytest.approx([0.225, 0.45, 0.625])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("varaince(q) = 1", "did you mean 'variance'"),
        ("variance(q) == 1", "prediction user-1"),
        ("variance q = 1", r"expected statistic\(observable\) = formula"),
        ("variance(q) =", r"expected statistic\(observable\) = formula"),
        ("", r"expected statistic\(observable\) = formula"),
        ("variance(q) = 1; ordre=1", "did you mean 'order'"),
        ("variance(q) = 1; order", "expected option=value"),
        ("variance(q) = 1; order=-1", "whole number"),
        ("variance(q) = 1; order=1.5", "whole number"),
        ("variance(q) = 1; at=last", "expected final or a recorded step"),
        ("variance(q) = 1; resolution=0", "positive number"),
        ("variance(q) = 1; resolution=nan", "positive number"),
        ("variance(q) = 1; resolution=much", "positive number"),
        ("variance(q) = (1", "prediction user-1"),
    ],
)
def test_what_cannot_be_read_is_refused(text: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        parse_user_prediction(text)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("variance(engery) = 1", "did you mean 'energy'"),
        ("variance(q) = learning_rat", "did you mean 'learning_rate'"),
        ("variance(q) = z", "unknown"),
        ("variance(q) = 1; at=7", "the nearest that is, is 5"),
        ("variance(q) = 1/b[1]", "prediction user-1"),
        ("variance(q) = log(0)", "prediction user-1"),
    ],
)
def test_what_the_run_does_not_know_is_refused(text: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        parse_user_prediction(text).predictions([make_run()])


def test_a_claim_evaluates_to_a_float() -> None:
    row = parse_user_prediction("kurtosis(q) = 0").predictions([make_run()])[0]
    assert isinstance(row.predicted, float)
    assert np.isfinite(row.predicted)
