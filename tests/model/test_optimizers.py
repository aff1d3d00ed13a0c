"""Optimizers: the steps in numbers against torch's and by hand, as a matrix, and what is refused.

The kernels are held to the same rules elsewhere.
"""

from __future__ import annotations

import functools
import json
import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest
import sympy

from sgdsim.base.errors import InputError
from sgdsim.formulas.formula import Formula
from sgdsim.model.loss import Loss
from sgdsim.model.noise import Noise
from sgdsim.model.optimizers import MAX_BATCH, Optimizer
from sgdsim.model.schedules import Schedule
from sgdsim.model.update_rules import OPTIMIZERS
from tests import make_torch_optimizers as reference
from tests import naive
from tests.conftest import needed
from tests.samples import daily


def optimizer(name: str, **fields: Any) -> Optimizer:
    return Optimizer(name, needed(name), **fields)


def path(
    one: Optimizer,
    rates: np.ndarray,
    gradient: Callable[[Sequence[float], int], Sequence[float]],
    start: list[float],
    kicks: np.ndarray | None = None,
) -> np.ndarray:
    """The parameters after each step, (step, parameter)."""
    values = {name: np.array(start) * (name == "theta") for name in ("theta", *one.rule.state)}
    found = []
    for t, rate in enumerate(rates.tolist()):
        before = {**values, "t": t, "learning_rate": rate, "xi": 0.0 if kicks is None else kicks[t]}
        now = np.array(gradient(one.point(before).tolist(), t))
        after = one.steps({**before, "gradient": now})
        values = {name: after[name] for name in values}
        found.append(values["theta"])
    return np.array(found)


# Against torch.

STORED = json.loads(reference.FILE.read_text(encoding="utf-8"))


@functools.lru_cache(maxsize=1)
def difference(one: Optimizer, name: str) -> float:
    """The largest relative one, over the steps that are stored."""
    case = STORED["cases"][name]
    rates = Schedule(case["learning_rate"]).rates(STORED["steps"])
    found = path(one, rates, reference.gradient, STORED["start"])
    steps = [int(step) - 1 for step in case["theta"]]
    expected = np.array(list(case["theta"].values()))
    assert steps[-1] == STORED["steps"] - 1
    return float(np.max(np.abs(found[steps] / expected - 1)))


@pytest.mark.parametrize("name", daily(STORED["cases"], *list(STORED["cases"])[::3]))
def test_steps_are_those_of_torch(name):
    case = STORED["cases"][name]
    assert difference(Optimizer(case["optimizer"], case["hyperparameters"]), name) < 1e-12


@pytest.mark.parametrize(
    ("name", "key", "factor"),
    [
        ("adam", "beta2", 1 - 1e-6),
        pytest.param("adam", "beta1", 1 - 1e-6, marks=pytest.mark.validate),
        pytest.param("adam, other settings", "epsilon", 1 + 1e-6, marks=pytest.mark.validate),
        pytest.param("adamw", "decoupled_weight_decay", 1 + 1e-6, marks=pytest.mark.validate),
        ("rmsprop", "alpha", 1 - 1e-6),
        pytest.param("momentum, decay", "weight_decay", 1 + 1e-6, marks=pytest.mark.validate),
        ("ema", "momentum", 1 - 1e-6),
    ],
)
def test_another_hyperparameter_is_seen(name, key, factor):
    """Negative control: one part in a million is a thousand times the tolerance."""
    case = STORED["cases"][name]
    one = Optimizer(case["optimizer"], case["hyperparameters"])
    other = Optimizer(case["optimizer"], {**case["hyperparameters"], key: one.values[key] * factor})
    assert difference(other, name) > 1e-9


def test_every_case_is_stored():
    assert list(STORED["cases"]) == list(reference.CASES)
    assert (STORED["steps"], tuple(STORED["start"])) == (reference.STEPS, reference.START)
    for name, (ours, hyperparameters, rate, kind, arguments) in reference.CASES.items():
        case = STORED["cases"][name]
        assert (case["optimizer"], case["hyperparameters"], case["learning_rate"]) == (ours, hyperparameters, rate)
        assert case["torch"] == {"class": kind, "arguments": arguments}
    torch_has = {"sgd", "momentum", "nesterov", "ema", "rmsprop", "adam", "adamw"}
    assert {case["optimizer"] for case in STORED["cases"].values()} == torch_has


def test_the_file_is_what_torch_does():
    """To the last bits: a compiler may contract products and sums."""
    pytest.importorskip("torch")
    made = reference.content()
    assert list(made["cases"]) == list(STORED["cases"])
    for name, case in made["cases"].items():
        stored = STORED["cases"][name]
        assert {**case, "theta": None} == {**stored, "theta": None}
        assert list(case["theta"]) == list(stored["theta"])
        np.testing.assert_allclose(list(case["theta"].values()), list(stored["theta"].values()), rtol=1e-12)


# By hand.


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_every_rule_uses_names_that_it_has(name):
    one = optimizer(name)
    rule = one.rule
    shared = {"t", "learning_rate", "weight_decay", "decoupled_weight_decay", *rule.hyperparameters}
    for target, text in rule.scalars:
        Formula.parse(text).require(shared)
        shared.add(target)
    known = {*shared, "theta", *rule.state}
    if rule.point:
        Formula.parse(rule.point).require(known)
        known.add("point")
    known |= {"gradient", "xi"}
    for target, text in rule.assignments:
        Formula.parse(text).require(known)
        known.add(target)
    for text in (rule.direction, rule.kick, rule.step):
        Formula.parse(text or "0").require(known)
    assert bool(rule.direction) != bool(rule.step)
    assert {target for target, _ in rule.assignments} >= set(rule.state)


@pytest.mark.parametrize("name", daily(OPTIMIZERS, "momentum", "rmsprop", "adam", "schedule_free_sgd"))
def test_every_hyperparameter_matters(name):
    rates = np.full(60, 0.1)
    for key, value in optimizer(name).values.items():
        if key != "temperature":
            other = Optimizer(name, {**needed(name), key: value / 2 + 0.1})
            ends = [
                path(one, rates, lambda theta, t: [0.05 * (-1) ** t + 0.001 * t + 0.1 * (theta[0] - 1)], [1.0])
                for one in (optimizer(name), other)
            ]
            assert abs(ends[0] - ends[1]).max() > 1e-4, key


def test_values_are_defaults_and_what_is_given():
    values = Optimizer("momentum", {"weight_decay": 0.1}).values
    assert values == {"weight_decay": 0.1, "decoupled_weight_decay": 0.0, "momentum": 0.9}
    assert Optimizer("adamw").values["decoupled_weight_decay"] == 0.01
    assert Optimizer("adamw", {"decoupled_weight_decay": 0.0}).decay == 0


STATE = {"theta": 2.0, "gradient": 0.5, "t": 0, "learning_rate": 0.25, "xi": 0.0}


@pytest.mark.parametrize(
    ("name", "decay", "theta"),
    [
        # 2 - 0.25*(0.5 + 0.1*2), either way
        ("sgd", "weight_decay", 2 - 0.25 * 0.7),
        ("sgd", "decoupled_weight_decay", 2 - 0.25 * 0.5 - 0.25 * 0.2),
        # The sign of 0.7, or that of 0.5 and the decay besides
        ("signsgd", "weight_decay", 1.75),
        ("signsgd", "decoupled_weight_decay", 1.75 - 0.05),
        # The first step of Adam, of size one but for epsilon
        ("adam", "weight_decay", 2 - 0.25 / (1 + 1e-8 / 0.7)),
        ("adamw", "decoupled_weight_decay", 2 - 0.25 / (1 + 1e-8 / 0.5) - 0.05),
    ],
)
def test_weight_decay_coupled_and_decoupled(name, decay, theta):
    one = Optimizer(name, {decay: 0.1})
    assert one.steps({**STATE, **dict.fromkeys(one.rule.state, 0.0)})["theta"] == pytest.approx(theta, rel=1e-15)


def test_coupled_and_decoupled_decay_add_up():
    both = Optimizer("sgd", {"weight_decay": 0.1, "decoupled_weight_decay": 0.3})
    assert both.steps(STATE)["theta"] == pytest.approx(2 - 0.25 * (0.5 + 0.4 * 2), rel=1e-15)
    assert both.decay == 0.4


@pytest.mark.parametrize(("gradient", "theta"), [(1e-300, 1.75), (-7.0, 2.25), (0.0, 2.0)])
def test_signsgd(gradient, theta):
    assert Optimizer("signsgd").steps({**STATE, "gradient": gradient})["theta"] == theta


def test_rmsprop_excluding_the_present_gradient():
    """Squares 4 (the first gradient's own), then 0.5*4 + 0.5*1; the step divides by the root of what came before."""
    one = Optimizer("rmsprop_excluding", {"alpha": 0.5, "epsilon": 0.5})
    first = one.steps({**STATE, "gradient": -2.0, "square": 0.0})
    assert (first["theta"], first["square"]) == (2 + 0.25 * 2 / 2.5, 4.0)
    second = one.steps({**STATE, "t": 1, "gradient": 1.0, "theta": first["theta"], "square": first["square"]})
    assert second["theta"] == pytest.approx(2.2 - 0.25 * 1 / 2.5, rel=1e-15)
    assert second["square"] == 2.5
    third = one.steps({**STATE, "t": 2, "gradient": 3.0, "theta": 0.0, "square": 2.5})
    assert third["theta"] == pytest.approx(-0.25 * 3 / (math.sqrt(2.5) + 0.5), rel=1e-15)


def test_gradient_descent_takes_the_gradient_of_the_population():
    assert OPTIMIZERS["gradient_descent"].population
    assert [name for name, rule in OPTIMIZERS.items() if rule.population] == ["gradient_descent"]
    assert Optimizer("gradient_descent").steps(STATE)["theta"] == 2 - 0.125


def test_langevin_kicks():
    """By sqrt(2*rate*temperature) times a deviate."""
    one = Optimizer("langevin", {"temperature": 2.0})
    assert one.steps({**STATE, "xi": 3.0})["theta"] == 2 - 0.125 + 3
    assert one.steps(STATE)["theta"] == 2 - 0.125
    assert [name for name, rule in OPTIMIZERS.items() if rule.is_random] == ["langevin", "psgld", "baoab"]


# Against their publications, written out by hand.

PULL = 0.8


def pushed(theta: Sequence[float], t: int) -> list[float]:
    """A gradient that depends on the state, of two parameters."""
    return [PULL * x + math.sin(t + 1.0) + 0.3 * i for i, x in enumerate(theta)]


CASES: dict[str, tuple[Optimizer, str, Callable[..., np.ndarray]]] = {
    "Lion": (
        Optimizer("lion", {"decoupled_weight_decay": 0.1}),
        "0.01",
        lambda *given: naive.lion(*given, beta1=0.9, beta2=0.99, decay=0.1),
    ),
    "Lion, other settings": (
        Optimizer("lion", {"beta1": 0.95, "beta2": 0.98}),
        "cosine:0.1,0.01",
        lambda *given: naive.lion(*given, beta1=0.95, beta2=0.98, decay=0.0),
    ),
    "schedule-free SGD": (
        Optimizer("schedule_free_sgd"),
        "0.1",
        lambda *given: naive.schedule_free_sgd(*given, beta=0.9, decay=0.0, power=0.0),
    ),
    "schedule-free SGD, warmup, decay and weights": (
        Optimizer("schedule_free_sgd", {"momentum": 0.8, "weight_decay": 0.1, "weight_power": 1.5}),
        "0.1*min(1, (t + 1)/5)",
        lambda *given: naive.schedule_free_sgd(*given, beta=0.8, decay=0.1, power=1.5),
    ),
    "schedule-free SGD, decoupled decay, which is the same": (
        Optimizer("schedule_free_sgd", {"decoupled_weight_decay": 0.1}),
        "exponential:0.1,8",
        lambda *given: naive.schedule_free_sgd(*given, beta=0.9, decay=0.1, power=0.0),
    ),
    "schedule-free AdamW": (
        Optimizer("schedule_free_adamw", {"beta2": 0.99, "decoupled_weight_decay": 0.1}),
        "0.1",
        lambda *given: naive.schedule_free_adamw(*given, beta1=0.9, beta2=0.99, epsilon=1e-8, decay=0.1, power=0.0),
    ),
    "schedule-free AdamW, warmup and weights": (
        Optimizer("schedule_free_adamw", {"beta1": 0.8, "epsilon": 1e-3, "weight_power": 2.0}),
        "0.1*min(1, (t + 1)/5)",
        lambda *given: naive.schedule_free_adamw(*given, beta1=0.8, beta2=0.999, epsilon=1e-3, decay=0.0, power=2.0),
    ),
    "SGLD with a preconditioner": (
        Optimizer("psgld", {"temperature": 0.5}),
        "0.01",
        lambda *given: naive.psgld(*given, temperature=0.5, alpha=0.99, epsilon=1e-5),
    ),
    "BAOAB": (
        Optimizer("baoab", {"temperature": 0.5}),
        "0.1",
        lambda *given: naive.baoab(*given, temperature=0.5, friction=1.0),
    ),
    "BAOAB, friction": (
        Optimizer("baoab", {"temperature": 2.0, "friction": 0.3}),
        "0.5",
        lambda *given: naive.baoab(*given, temperature=2.0, friction=0.3),
    ),
}
KICKS = np.cos(3.0 * np.arange(1, 21))[:, None] * [1.0, -0.5]


@pytest.mark.parametrize("name", CASES)
def test_steps_are_those_of_the_publication(name):
    """Twenty, and the control: with the gradients of the steps after them they are others."""
    one, schedule, by_hand = CASES[name]
    rates, start = Schedule(schedule).rates(20), [1.0, -0.7]
    expected = by_hand(start, rates, pushed, KICKS)
    np.testing.assert_allclose(path(one, rates, pushed, start, KICKS), expected, rtol=1e-12)
    later = path(one, rates, lambda theta, t: pushed(theta, t + 1), start, KICKS)
    assert np.abs(later / expected - 1).max() > 1e-3


WAVES = [np.fromfunction(lambda i, j, t=t: np.sin((t + 1) * (i + 1) + j), (3, 3)) for t in range(20)]  # of rank two
OTHERS = [np.sin(np.arange(9.0) ** 2 * (t + 1)).reshape(3, 3) for t in range(20)]  # of rank three


@pytest.mark.parametrize(
    ("shape", "gradients"), [((2, 3), WAVES), ((3, 2), WAVES), ((1, 3), WAVES), ((1, 1), WAVES), ((3, 3), OTHERS)]
)
@pytest.mark.parametrize("exact", [False, True])
def test_steps_of_matrices_are_those_of_muon(shape, gradients, exact):
    """Twenty, and the control: with the other polar factor they are others."""
    one = Optimizer("muon_exact" if exact else "muon", {"decoupled_weight_decay": 0.1})
    pushes = [gradient[: shape[0], : shape[1]] for gradient in gradients]
    values = {"theta": np.ones(shape).tolist(), "velocity": np.zeros(shape).tolist()}
    found = []
    for t, push in enumerate(pushes):
        after = one.steps({**values, "gradient": push.tolist(), "t": t, "learning_rate": 0.02})
        values = {name: after[name].tolist() for name in values}
        found.append(values["theta"])
    by_hand = functools.partial(naive.muon, np.ones(shape), np.full(20, 0.02), pushes, momentum=0.95, decay=0.1)
    np.testing.assert_allclose(np.array(found), by_hand(exact=exact), rtol=1e-12)
    assert np.abs(np.array(found) / by_hand(exact=not exact) - 1).max() > 1e-3


def test_muon_of_numbers_is_lion():
    """Whose beta1 is the square of the momentum, which is beta2."""
    rates, start = np.full(20, 0.02), [1.0, -0.7]
    lion = Optimizer("lion", {"beta1": 0.95**2, "beta2": 0.95})
    expected = path(lion, rates, pushed, start)
    np.testing.assert_allclose(path(Optimizer("muon_exact"), rates, pushed, start), expected, rtol=1e-12)


def test_lion_without_memory_is_signsgd_and_a_schedule_free_start_is_sgd():
    rates, start = np.full(20, 0.01), [1.0, -0.7]
    lion = Optimizer("lion", {"beta1": 0.0, "beta2": 0.5})
    np.testing.assert_array_equal(path(lion, rates, pushed, start), path(Optimizer("signsgd"), rates, pushed, start))
    free, plain = (path(optimizer(name), rates[:1], pushed, start) for name in ("schedule_free_sgd", "sgd"))
    np.testing.assert_allclose(free, plain, rtol=1e-15)


@pytest.mark.parametrize("name", ["schedule_free_sgd", "schedule_free_adamw", "baoab", "psgld"])
def test_no_preconditioner_where_the_step_would_have_to_follow(name):
    with pytest.raises(InputError, match=rf"optimizer\.preconditioner: {name} takes none, as its"):
        optimizer(name, preconditioner=("1", "2"))


# As a matrix.


def test_a_step_of_sgd_as_a_matrix():
    """1 - rate*(curvature + decay)."""
    np.testing.assert_allclose(Optimizer("sgd", {"weight_decay": 0.5}).step_matrix(2.0, 0.1), [[0.75]], rtol=1e-15)
    decoupled = Optimizer("sgd", {"decoupled_weight_decay": 0.5})
    np.testing.assert_allclose(decoupled.step_matrix(2.0, 0.1), [[0.75]], rtol=1e-15)


def test_a_step_of_momentum_as_a_matrix():
    """Of (theta, velocity): v' = m*v + a*theta, theta' = theta - rate*v'."""
    matrix = Optimizer("momentum", {"momentum": 0.5}).step_matrix(2.0, 0.1)
    np.testing.assert_allclose(matrix, [[1 - 0.1 * 2, -0.1 * 0.5], [2, 0.5]], rtol=1e-15)


def test_a_step_of_nesterov_as_a_matrix():
    """Of (theta, velocity): v' = m*v + a*theta, theta' = theta - rate*(a*theta + m*v')."""
    matrix = Optimizer("nesterov", {"momentum": 0.5}).step_matrix(2.0, 0.1)
    np.testing.assert_allclose(matrix, [[1 - 0.1 * (2 + 1), -0.1 * 0.25], [2, 0.5]], rtol=1e-15)


def test_a_later_step_of_the_average_as_a_matrix():
    """Of (theta, velocity): v' = m*v + (1 - m)*a*theta, theta' = theta - rate*v'."""
    matrix = Optimizer("ema", {"momentum": 0.75}).step_matrix(2.0, 0.1)
    np.testing.assert_allclose(matrix, [[1 - 0.1 * 0.5, -0.1 * 0.75], [0.5, 0.75]], rtol=1e-15)


def test_the_kick_is_no_part_of_the_matrix():
    np.testing.assert_allclose(optimizer("langevin").step_matrix(2.0, 0.1), [[0.8]], rtol=1e-15)


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_the_matrix_makes_the_steps_of_every_linear_rule(name):
    one = optimizer(name)
    matrix = one.step_matrix(1.5, 0.2)
    if not one.rule.linear:
        assert matrix is None
        return
    names = ("theta", *one.rule.state)
    state = np.array([0.7, -0.4][: len(names)])
    values = dict(zip(names, state.tolist(), strict=True))
    after = one.steps({**STATE, **values, "gradient": 1.5 * 0.7, "t": 5, "learning_rate": 0.2})
    np.testing.assert_allclose(matrix @ state, [after[name] for name in names], rtol=1e-14)


# What is refused.


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        (("soap",), "optimizer.name: unknown optimizer 'soap': known are adam, adamw, baoab, ema, gradient_descent"),
        (("momentun",), "did you mean 'momentum'"),
        (("sgd", {"weight_dcay": 0.1}), "optimizer.weight_dcay: unknown key of sgd .* did you mean 'weight_decay'"),
        (("sgd", {"momentum": 0.1}), "optimizer.momentum: unknown key of sgd"),
        (("sgd", {"weight_decay": float("nan")}), "optimizer.weight_decay: nan, expected a finite number"),
        (("langevin",), "optimizer.temperature: is missing"),
        (("sgd", {}, 0), f"optimizer.batch_size: 0, expected a whole number from 1 to {MAX_BATCH}"),
        (("sgd", {}, MAX_BATCH + 1), "optimizer.batch_size"),
        (("sgd", {}, 1, "epochs"), "optimizer.sampling: unknown sampling 'epochs': did you mean 'epoch'"),
    ],
)
def test_what_is_no_optimizer(arguments, problem):
    with pytest.raises(InputError, match=problem):
        Optimizer(*arguments)


@pytest.mark.parametrize("key", ["preconditioner", "metric"])
@pytest.mark.parametrize("rows", [(("1", "0"),), (("1", "0"), ("1",)), ("1", ("0", "1"))])
def test_a_preconditioner_that_is_no_matrix(key, rows):
    with pytest.raises(InputError, match=f"optimizer.{key}: expected a number for each parameter, or a square matrix"):
        Optimizer(**{key: rows})


def test_a_preconditioner_that_cannot_be_taken():
    with pytest.raises(InputError, match="either a metric or a preconditioner"):
        Optimizer(preconditioner=("1", "2"), metric=("1", "2"))
    with pytest.raises(InputError, match=r"optimizer\.metric: langevin takes none"):
        optimizer("langevin", metric=("1", "2"))


# Preconditioners.

LOSS = Loss("a*x**2/2 + y**4 + z*x", ("x", "y"), {"a": 2.0}, {"z": Noise.parse("normal")}, {"r": "x**2 + 1"})
A, X, Y = (LOSS.symbols[name] for name in ("a", "x", "y"))


def test_the_preconditioner_in_the_symbols_of_the_loss():
    assert optimizer("sgd").matrix(LOSS) is None
    diagonal = Optimizer(preconditioner=("1/a", "r + y"))
    assert diagonal.matrix(LOSS) == sympy.diag(1 / A, X**2 + 1 + Y)
    full = Optimizer(preconditioner=(("1", "x"), ("-x", "0.5")))
    assert full.matrix(LOSS) == sympy.Matrix([[1, X], [-X, sympy.Rational(1, 2)]])


def test_the_metric_is_inverted():
    assert Optimizer(metric=("a", "r")).matrix(LOSS) == sympy.diag(1 / A, 1 / (X**2 + 1))
    matrix = Optimizer(metric=(("2", "x"), ("x", "1 + x**2"))).matrix(LOSS)
    assert sympy.simplify(matrix * sympy.Matrix([[2, X], [X, 1 + X**2]])) == sympy.eye(2)


@pytest.mark.parametrize(
    ("fields", "problem"),
    [
        ({"preconditioner": ("1",)}, "optimizer.preconditioner: 1 rows, expected 2, one a parameter"),
        ({"metric": ("1", "2", "3")}, "optimizer.metric: 3 rows, expected 2"),
        ({"preconditioner": ("1", "b")}, "optimizer.preconditioner: unknown name 'b'"),
        ({"preconditioner": ("1", "z**2")}, "optimizer.preconditioner: depends on the noise z"),
        ({"metric": ("z", "1")}, "optimizer.metric: depends on the noise z"),
        ({"metric": ("1", "0")}, "optimizer.metric: has no inverse"),
        ({"metric": (("1", "x"), ("x", "x**2"))}, "optimizer.metric: has no inverse"),
        ({"metric": (("x**2 + 2*x + 1", "x + 1"), ("x + 1", "1"))}, "optimizer.metric: has no inverse"),
    ],
)
def test_preconditioners_that_do_not_fit_the_loss(fields, problem):
    with pytest.raises(InputError, match=problem):
        Optimizer(**fields).matrix(LOSS)


@pytest.mark.parametrize(
    ("name", "key", "value"),
    [("adam", "beta1", 1.0), ("adam", "beta2", -0.1), ("momentum", "momentum", 1.1), ("rmsprop", "alpha", 1.5),
     ("adam", "epsilon", -1e-8), ("langevin", "temperature", -1.0)],
)  # fmt: skip
def test_hyperparameters_that_make_no_sense(name, key, value):
    with pytest.raises(InputError, match=f"optimizer.{key}: {value}, expected a number from 0"):
        Optimizer(name, {key: value})


def test_matrices_of_numbers_are_taken():
    assert Optimizer(preconditioner=(1.0, 2.0)).preconditioner == ("1.0", "2.0")
    loss = Loss("u**2 + w**2", ("u", "w"))
    with pytest.raises(InputError, match="has the eigenvalue -1, expected none below zero"):
        Optimizer(metric=((1, 2), (2, 1))).matrix(loss)
    with pytest.raises(InputError, match="is not symmetric"):
        Optimizer(metric=((1, 2), (0, 1))).matrix(loss)


def test_muon_refuses_a_vector():
    with pytest.raises(InputError, match="muon steps matrices"):
        Optimizer("muon").assignments((3,))
