"""The first step on a plain simulation, with faults that it must see."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from sgdsim.model.data import Data
from sgdsim.model.loss import Loss
from sgdsim.model.noise import Noise
from sgdsim.model.optimizers import Optimizer
from sgdsim.model.schedules import Schedule
from sgdsim.model.update_rules import OPTIMIZERS
from sgdsim.prediction import NotApplicable, Prediction
from sgdsim.simulation.run_loop import simulate_runs
from sgdsim.statistics.comparison import compare
from sgdsim.theory import find_law
from tests.samples import daily
from tests.theory.laws.symmetry_runs import make_run, verdicts

LOSS = Loss(
    "(u**2 - 1)**2/4 + u*w/3 + cosh(w) + z*u/2 + n*w**2/4",
    ("u", "w"),
    noise={"z": Noise.parse("normal"), "n": Noise.parse("laplace:0,0.5")},
)


KNOWN = [name for name, rule in OPTIMIZERS.items() if not (rule.population or rule.is_random or "muon" in name)]
"""What the plain simulation knows; those with noise of their own are in the sample of every loss."""


def test_whole_matrices_have_no_rows_where_the_noise_is_continuous() -> None:
    loss = Loss("norm2(A@x)/2", ("A[1,2]",), noise={"x[2]": Noise.parse("normal")})
    with pytest.raises(NotApplicable, match="for rows of data and discrete noise alone"):
        find_law("first-step").predictions([make_run(loss, optimizer=Optimizer("muon"), rate="0.05", steps=2)])


MATRICES = Loss(
    "norm2(B@A@x - y)/2",
    ("A[3,2]", "B[1,3]"),
    noise={"y[1]": Noise.parse("rademacher")},
    definitions={"x": ("p", "q")},
    data=Data({"p": (0.9, -0.7, 0.2), "q": (0.3, 1.1, -1.3)}),
)
MATRIX_START = {name: 0.11 * i - 0.4 for i, name in enumerate(MATRICES.parameters)}


@pytest.mark.parametrize("name", ["muon", "muon_exact"])
def test_a_first_step_of_whole_matrices(name: str) -> None:
    """Against the plain rule, over the six outcomes of a sample."""
    law = find_law("first-step")
    run = make_run(MATRICES, optimizer=Optimizer(name), rate="0.05", steps=2, initial=MATRIX_START)
    rows = {row.quantity: row.predicted for row in law.predictions([replace(run, recorder=law.requirements(run))])}
    first, second = np.split(np.array([*MATRIX_START.values()]), [6])
    a, b, ends = first.reshape(3, 2), second.reshape(1, 3), []
    for x in MATRICES.data.array.T:
        for y in (-1.0, 1.0):
            error = b @ a @ x - y
            parts = []
            for theta, slope in ((a, np.outer(b.T @ error, x)), (b, np.outer(error, a @ x))):
                nothing = np.zeros(theta.shape).tolist()
                given = {"theta": theta.tolist(), "gradient": slope.tolist(), "velocity": nothing}
                after = run.optimizer.steps({**given, "t": 0, "learning_rate": 0.05})["theta"]
                parts.append(np.array(after, dtype=float).ravel())
            ends.append(np.concatenate(parts))
    for i, key in enumerate(MATRICES.parameters):
        assert rows[f"mean({key}) after the first step"] == pytest.approx(np.mean(ends, axis=0)[i], abs=1e-12)
        assert rows[f"variance({key}) after the first step"] == pytest.approx(np.var(ends, axis=0)[i], rel=1e-9)


@pytest.mark.validate
def test_a_simulation_of_whole_matrices_agrees() -> None:
    """And one of another learning rate does not."""
    law = find_law("first-step")
    run = make_run(MATRICES, optimizer=Optimizer("muon"), rate="0.05", steps=2, initial=MATRIX_START)
    run = replace(run, recorder=law.requirements(run))
    rows = law.predictions([run])
    found = compare(simulate_runs([run], scenario="", device="cpu"), rows)
    assert {"agrees"} <= {row.verdict for row in found} <= {"agrees", "inconclusive"}
    other = simulate_runs([replace(run, schedule=Schedule("0.06"))], scenario="", device="cpu")
    assert "disagrees" in {row.verdict for row in compare(other, rows)}


@pytest.mark.parametrize("name", daily(KNOWN, "sgd", "adam"))
def test_a_right_simulation_agrees(name: str) -> None:
    rows = verdicts(make_run(LOSS, optimizer=Optimizer(name), rate="0.05", steps=2), "first-step")
    assert len(rows) == 4
    assert not [row for row in rows if row.verdict == "disagrees"]
    assert all(abs(row.z) < 4.0 for row in rows)


def test_adam_without_bias_correction_is_accused(monkeypatch: pytest.MonkeyPatch) -> None:
    rule = OPTIMIZERS["adam"]
    uncorrected = replace(rule, direction="mean/(sqrt(square) + epsilon)", scalars=rule.scalars[:2])
    monkeypatch.setitem(OPTIMIZERS, "uncorrected", uncorrected)
    run = make_run(LOSS, optimizer=Optimizer("adam"), rate="0.05", steps=2)
    assert not [row for row in verdicts(run, "first-step") if row.verdict == "disagrees"]
    rows = verdicts(run, "first-step", told=replace(run, optimizer=Optimizer("uncorrected")))
    assert {row.verdict for row in rows if row.statistic == "mean"} == {"disagrees"}


def test_steps_against_the_others_may_be_too_rare_to_be_seen() -> None:
    """One in four million: what they add to the mean, and their variance, were held against a sample without one."""
    loss = Loss("1.19*(u - 0.469)**2/2 + 1.17*z*u", ("u",), noise={"z": Noise.parse("normal")})
    run = make_run(loss, optimizer=Optimizer("rmsprop", batch_size=4), rate="0.03", initial={"u": -2.0}, steps=2)
    law = find_law("first-step")
    (row,) = law.predictions([replace(run, recorder=law.requirements(run))])
    unseen = row.predicted - (-2.0 + 0.03 / np.sqrt(0.01))  # a sample without one
    assert row.statistic == "mean"
    assert 1e-7 < abs(unseen) < row.allowed[0] < 1e-6
    run = replace(run, initial={"u": -0.5})  # one in forty
    often = verdicts(run, "first-step")
    assert {row.statistic for row in often} == {"mean", "variance"}
    assert not [row for row in often if row.verdict == "disagrees"]
    wrong = verdicts(run, "first-step", told=replace(run, schedule=Schedule("0.033")))
    assert "disagrees" in {row.verdict for row in wrong}


def test_means_over_a_drawn_start_are_those_of_a_sample() -> None:
    initial = {"u": Noise.parse("normal:0.5,0.3"), "w": Noise.parse("rademacher")}
    law, run = find_law("first-step"), make_run(LOSS, initial=initial)
    rows = {row.quantity: row.predicted for row in law.predictions([replace(run, recorder=law.requirements(run))])}
    rng, n = np.random.default_rng(1), 1_000_000
    u, w = rng.normal(0.5, 0.3, n), 2.0 * rng.integers(0, 2, n) - 1.0
    z, e = rng.normal(size=n), rng.laplace(0.0, 0.5, n)
    after = u - 0.2 * (u * (u**2 - 1) + w / 3 + z / 2), w - 0.2 * (u / 3 + np.sinh(w) + e * w / 2)
    for name, values in zip("uw", after, strict=True):
        spread = values.std() / np.sqrt(n)
        assert rows[f"mean({name}) after the first step"] == pytest.approx(values.mean(), abs=4 * spread)
        assert rows[f"variance({name}) after the first step"] == pytest.approx(values.var(), rel=0.01)


LANGEVIN = Optimizer("langevin", {"temperature": 0.2})


@pytest.mark.parametrize(
    ("formula", "optimizer", "laws"),
    [
        ("abs(u)", Optimizer(), ["first-step", "noise-free"]),
        ("abs(u)", LANGEVIN, ["first-step", "last-step"]),
        ("u**2/2", Optimizer("signsgd"), ["first-step", "noise-free", "last-step"]),
        ("u**2/2 + 0.001*z*u", Optimizer("adam"), ["first-step"]),
    ],
)
def test_a_jump_near_the_middle_of_a_drawn_start_is_not_missed(
    formula: str, optimizer: Optimizer, laws: list[str]
) -> None:
    """The nodes of two even rules next to the middle had the jump between them: E sign(u) was 0 for 0.115, exactly."""
    noise = {"z": Noise.parse("normal")} if "z" in formula else {}
    run = make_run(Loss(formula, ("u",), noise=noise), optimizer=optimizer, rate="0.1", steps=1)

    def rows(id: str, start: str) -> list[Prediction]:
        begun, law = replace(run, initial={"u": Noise.parse(start)}), find_law(id)
        return law.predictions([replace(begun, recorder=law.requirements(begun))])

    for id in laws:
        assert rows(id, "normal:20,1")[0].predicted == pytest.approx(19.9)  # where there is no jump
        with pytest.raises(NotApplicable, match="known"):
            rows(id, "normal:0.145,1")


def test_where_it_does_not_apply_it_says_why() -> None:
    with pytest.raises(NotApplicable, match="expected at most 3"):
        find_law("first-step").predictions(
            [make_run(Loss("x**2 + y**2 + z**2 + w**2", tuple("xyzw")), initial=dict.fromkeys("xyzw", 1.0))]
        )
    with pytest.raises(NotApplicable, match="no fourth moment"):
        find_law("first-step").predictions([make_run(LOSS, initial={"u": Noise.parse("student_t:3"), "w": 0.0})])


def test_a_parameter_is_told_of_though_the_noise_of_another_is_too_much() -> None:
    noise = {"n": Noise.parse("uniform:-1,1")}
    loss = Loss("u**2/2 + w**2/2 + n*sin(w)", ("u", "w"), noise=noise)
    run = make_run(loss, optimizer=Optimizer("adam", batch_size=4), rate="0.05", steps=2)
    (row,) = verdicts(run, "first-step")
    assert row.quantity == "mean(u) after the first step"
    assert row.predicted == pytest.approx(1.0 - 0.05)


def test_batches_of_signs_are_summed_over() -> None:
    loss = Loss("1 - cos(u) + z*u", ("u",), noise={"z": Noise.parse("rademacher")})
    run = make_run(loss, optimizer=Optimizer("rmsprop", batch_size=2), rate="0.01", steps=2)
    mean, variance = verdicts(run, "first-step")
    assert "disagrees" not in {mean.verdict, variance.verdict}
    # A gradient g makes a step of eta*g/sqrt(0.01*g^2); its signs are those of sin(1) + {-1, 0, 0, 1}.
    assert mean.predicted == pytest.approx(1.0 - 0.1 * 0.5, rel=1e-6)
    assert variance.predicted == pytest.approx(0.01 * 0.75, rel=1e-6)


def test_a_parameter_may_depend_on_an_entry_of_a_vector_of_noise_alone() -> None:
    """The second entry, e[1], was taken for a vector of one entry, and the law ended in a KeyError."""
    noise = {"e[2]": Noise.parse("laplace")}
    loss = Loss("norm2(w)/2 + norm2(w)**2/8 + dot(e, w)/2", ("w[2]",), {}, noise)
    run = make_run(loss, rate="0.1", steps=2)
    rows = verdicts(run, "first-step")
    assert len(rows) == 4
    assert not [row for row in rows if row.verdict == "disagrees"]


def test_a_batch_whose_mean_has_no_law_has_a_mean_and_a_variance() -> None:
    """The mean of three terms, each a product of noise and the parameters, is no noise variable."""
    run = make_run(LOSS, optimizer=Optimizer(batch_size=3), rate="0.2", steps=2, initial={"u": 1.0, "w": 0.5})
    rows = verdicts(run, "first-step")
    assert [row.quantity for row in rows] == [
        f"{statistic}({name}) after the first step" for name in "uw" for statistic in ("mean", "variance")
    ]
    assert "disagrees" not in {row.verdict for row in rows}
    # Var(z/2)/3 of a unit normal; laplace:0,0.5 has the variance 1/2, by the slope n*w/2 at w = 1/2.
    assert rows[1].predicted == pytest.approx(0.2**2 / 4 / 3, rel=1e-12)
    assert rows[3].predicted == pytest.approx(0.2**2 * 0.5 / 16 / 3, rel=1e-12)
    wrong = verdicts(run, "first-step", told=replace(run, optimizer=Optimizer()))
    assert "disagrees" in {row.verdict for row in wrong}
