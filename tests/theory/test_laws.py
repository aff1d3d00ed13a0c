"""Properties of all laws: their names, their reasons, and what they ask to be recorded."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import pytest

from sgdsim import theory
from sgdsim.base.errors import InputError
from sgdsim.model.loss import Loss
from sgdsim.model.losses.linear_regression import linear_regression
from sgdsim.model.noise import Noise
from sgdsim.model.optimizers import Optimizer
from sgdsim.model.run import Recorder, Run
from sgdsim.model.schedules import Schedule
from sgdsim.model.update_rules import OPTIMIZERS
from sgdsim.prediction import NotApplicable
from sgdsim.theory import LAWS, find_law, laws
from tests.conftest import OF_NUMBERS, needed
from tests.theory.laws.optimizer_runs import make_run, optimizer, signed, wall


@pytest.mark.parametrize(
    ("id", "run", "reason"),
    [
        ("momentum", make_run(wall(), Optimizer(), 0.1), "the optimizer is sgd"),
        ("momentum", make_run(wall(), optimizer("momentum", weight_decay=0.1), 0.1), "weight-decay"),
        ("momentum", make_run(wall(), optimizer("momentum"), 2.0), "x is unstable"),
        ("momentum", make_run(wall(), optimizer("momentum"), 0.01, steps=20), "remembers"),
        ("weight-decay", make_run(wall(), Optimizer(), 0.1), "no weight decay"),
        ("weight-decay", make_run(wall(), optimizer("nesterov", decoupled_weight_decay=0.1), 0.1), "without decoupled"),
        ("minibatches", make_run(wall(), optimizer("momentum"), 0.1), "plain sgd"),
        ("minibatches", make_run(linear_regression([0.0]), Optimizer(), 0.7), "it is infinite"),
        ("signsgd-noiseless", make_run(wall(), Optimizer("signsgd"), 0.1), "without noise"),
        (
            "signsgd-noiseless",
            make_run(Loss("x**2", ("x",)), Optimizer("signsgd"), 0.1, Noise.parse("uniform:0,0.25")),
            "multiples",
        ),
        (
            "signsgd",
            make_run(Loss("x**2/2 + z*x", ("x",), {}, {"z": Noise.parse("exponential")}), Optimizer("signsgd"), 0.1),
            "symmetric",
        ),
        ("signsgd", make_run(wall(), Optimizer("signsgd"), 0.1, Noise.parse("uniform:0,0.3")), "1.5 periods"),
        ("signsgd", make_run(signed("laplace"), optimizer("signsgd", batch_size=2), 0.1), "batches of one"),
        ("rmsprop", make_run(wall(), optimizer("rmsprop", alpha=0.7), 0.1), "as alpha goes to 1"),
        ("rmsprop", make_run(wall(), optimizer("rmsprop", alpha=0.9), 0.3), "expected at most 0.5"),
        ("rmsprop", make_run(wall(), optimizer("rmsprop", alpha=0.99), 0.1), "remembers"),
        ("rmsprop", make_run(wall(), optimizer("rmsprop_excluding", alpha=0.99), 0.1), "its variance is infinite"),
        ("rmsprop", make_run(wall(), optimizer("rmsprop", alpha=0.999), 0.1), "remembers"),
        ("adam", make_run(wall(), optimizer("adam", epsilon=0.1), 0.1, steps=9000), "without epsilon"),
        ("adam", make_run(wall(), optimizer("adam", beta1=0.995), 0.1, steps=9000), "ten times faster"),
        ("adam", make_run(wall(), optimizer("rmsprop"), 0.1), "the optimizer is rmsprop with 0"),
        ("adam", make_run(wall(), optimizer("rmsprop", weight_decay=0.1), 0.1), "there is a coupled one"),
    ],
)
def test_where_they_do_not_hold_they_say_why(id, run, reason):
    run = replace(run, recorder=run.recorder.merge(find_law(id).requirements(run)))
    with pytest.raises(NotApplicable, match=reason):
        find_law(id).predictions([run])


@pytest.mark.parametrize("name", OF_NUMBERS)
def test_every_law_may_be_asked_for_under_every_optimizer(name):
    run = make_run(wall(), Optimizer(name, needed(name)), 0.1)
    for law in LAWS.values():
        assert isinstance(law.requirements(run), Recorder)


@pytest.mark.parametrize("name", [name for name in OPTIMIZERS if name not in OF_NUMBERS])
def test_no_law_takes_a_step_of_matrices_for_one_of_numbers(name):
    noise = {key: Noise.parse("normal") for key in ("x[0]", "x[1]")}
    loss = Loss("norm2(W@x - x)/2", ("W[2,2]",), noise=noise)
    run = Run(loss, Optimizer(name), Schedule("0.1"), dict.fromkeys(loss.parameters, 0.1), 1000, 4)
    for law in LAWS.values():
        with pytest.raises(NotApplicable):
            law.predictions([run])


def test_an_unknown_law_has_a_near_match() -> None:
    with pytest.raises(InputError, match="did you mean 'heat-capacity'"):
        find_law("heat-capcity")


def test_a_law_is_explained():
    """What `sgdsim show` prints of it: what it says, where it holds, and what it follows from, without our numbers."""
    for one in theory.LAWS.values():
        assert len(one.derivation.splitlines()) > 3, one.id
        assert one.title
        assert one.holds
        assert not re.search(r"NTL?-[0-9]", f"{one.derivation} {one.source} {one.holds} {one.title}"), one.id


def test_former_ids_lead_to_laws_that_are():
    assert set(theory.FORMER_IDS.values()) <= set(theory.LAWS)
    for former, id in theory.FORMER_IDS.items():
        assert find_law(former).id == id


def test_every_file_of_laws_has_its_file_of_tests() -> None:
    files = {path.stem for path in Path(laws.__file__).parent.glob("[a-z]*.py")}
    assert {f"test_{name}" for name in files} == {path.stem for path in Path(__file__).parent.glob("laws/test_*.py")}
