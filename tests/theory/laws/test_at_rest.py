"""The virial at rest on a plain simulation, an ensemble that still moves, and a fault."""

from __future__ import annotations

from dataclasses import replace

import pytest

from sgdsim.model.loss import Loss
from sgdsim.model.noise import Noise
from sgdsim.model.optimizers import Optimizer
from sgdsim.model.run import Run
from sgdsim.prediction import NotApplicable
from sgdsim.statistics.comparison import Comparison, compare
from sgdsim.theory import find_law
from tests.theory.laws.symmetry_runs import make_run, simulate

NOISE = {"z": Noise.parse("normal"), "n": Noise.parse("laplace:0,0.5")}
LOSS = Loss("u**2/2 + u**4/4 + c*u*w + w**2 + z*u + n*w", ("u", "w"), {"c": 0.5}, NOISE)


def automatic(run: Run, told: Run | None = None) -> Comparison:
    """The row of a law that nobody asked for."""
    law = find_law("at-rest")
    run = replace(run, recorder=law.requirements(run))
    simulated = run if told is None else replace(told, recorder=run.recorder)
    (found,) = compare(simulate(simulated), [replace(row, asked=False) for row in law.predictions([run])])
    return found


def at_rest(steps: int = 130, **options: object) -> Run:
    return make_run(LOSS, rate="0.2", steps=steps, initial={"u": 0.0, "w": 0.0}, trajectories=64 * 512, **options)


@pytest.mark.validate
def test_at_rest_slopes_take_what_noise_adds() -> None:
    row = automatic(at_rest())
    assert row.verdict == "agrees"
    assert row.measured == pytest.approx(1.0, abs=5 * row.stderr)


def test_it_is_exact_with_decay_and_batches() -> None:
    optimizer = Optimizer("sgd", {"weight_decay": 0.2}, batch_size=2)
    row = automatic(at_rest(optimizer=optimizer))
    assert row.verdict == "agrees"


def test_what_still_moves_is_said() -> None:
    row = automatic(make_run(LOSS, rate="0.005", steps=100, initial={"u": 2.0, "w": 0.0}, trajectories=64 * 64))
    assert row.verdict == "does not hold here"
    assert "u^2 is at rest fails" in row.note


def test_another_noise_is_rejected() -> None:
    """At rest is what the variance of the noise says; the declared one adds less."""
    wrong = replace(LOSS, noise={**NOISE, "z": Noise.parse("normal:0,1.1")})
    row = automatic(at_rest(), told=replace(at_rest(), loss=wrong))
    assert row.verdict == "disagrees"


@pytest.mark.parametrize(
    ("run", "why"),
    [
        (at_rest(steps=64), "more than 64 steps"),
        (at_rest(optimizer=Optimizer("adam")), "adam remembers"),
        (make_run(LOSS, rate="linear:0.1", steps=100), "nothing comes to rest"),
    ],
)
def test_it_says_where_it_does_not_apply(run: Run, why: str) -> None:
    with pytest.raises(NotApplicable, match=why):
        find_law("at-rest").predictions([run])


def test_what_is_left_of_a_start_may_move_the_ratio_by_as_much() -> None:
    """At rest to 2 %, the ratio was off by 1.1 %: ten standard errors, so that a right run was accused."""
    size = "(u**2 + v**2 + w**2)"
    loss = Loss(
        f"0.448*{size}/2 + {size}**2/8 + 0.35*(z*u + m*v + n*w)",
        ("u", "v", "w"),
        noise=dict.fromkeys("zmn", Noise.parse("uniform:-1,1")),
    )
    start = {"u": 0.315, "v": -0.503, "w": -1.332}
    row = automatic(make_run(loss, rate="0.0601", steps=200, initial=start))
    assert 4.0 * row.stderr < row.measured - 1.0 < 0.02
    assert row.verdict != "disagrees"
