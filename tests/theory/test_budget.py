"""A law that takes too long ends in a reason, one that does not is what it was; nothing is expanded without bound."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest

from sgdsim.base import budget
from sgdsim.base.errors import InputError
from sgdsim.input.builders import read_claims
from sgdsim.input.loading import load_scenario, scenario_from
from sgdsim.model.loss import Loss
from sgdsim.model.noise import Noise
from sgdsim.model.optimizers import Optimizer
from sgdsim.model.run import Run
from sgdsim.model.schedules import Schedule
from sgdsim.prediction import Moment, Prediction
from sgdsim.theory import AUTOMATIC, LAWS, predict
from sgdsim.theory.chain.evolution import evolve
from sgdsim.theory.law import Law, row


def run_of(formula: str = "x**2/2 + z*x", steps: int = 100) -> Run:
    loss = Loss(formula, ("x",), noise={"z": Noise.parse("normal")})
    return Run(loss, Optimizer(), Schedule("0.1"), {"x": 1.0}, 64, steps)


@pytest.fixture
def now(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """A clock that goes on by a second with each look at it."""
    times = [0.0]

    def look() -> float:
        times[0] += 1.0
        return times[0]

    monkeypatch.setattr(budget, "clock", look)
    return times


def law_of(turns: int) -> Law:
    """A law that takes so many turns."""

    def rows(run: Run) -> Iterator[Prediction]:
        for _ in range(turns):
            budget.check()
        yield row(Moment("mean", "x", run.steps), 1.0)

    return Law("slow", "a test", "ours", "here", "", rows)


def test_a_law_that_is_slow_is_stopped_and_one_that_is_fast_is_not(now: list[float]) -> None:
    rows, reasons = law_of(1000).evaluate([run_of()], 20.0)
    assert rows == []
    assert reasons == ["needs more than 20 s; --predict slow sets no limit, and budget in [[predict]] another"]
    rows, reasons = law_of(10).evaluate([run_of()], 20.0)
    assert [one.predicted for one in rows] == [1.0]
    assert reasons == []
    assert len(law_of(1000).evaluate([run_of()])[0]) == 1  # without a limit


def test_a_law_that_is_too_slow_at_a_point_is_not_tried_at_the_next(now: list[float]) -> None:
    rows, reasons = law_of(1000).evaluate([run_of()] * 50, 20.0)
    assert rows == []
    assert len(reasons) == 1
    assert now[0] < 60


def test_what_a_law_says_does_not_depend_on_its_budget() -> None:
    run = run_of()
    for id in ("valley", "affine-moments", "exact-chain"):
        assert LAWS[id].evaluate([run], 1e6) == LAWS[id].evaluate([run])


def test_a_law_that_needs_time_to_say_what_to_record_asks_for_nothing(now: list[float]) -> None:
    def slow(run: Run) -> object:
        while True:
            budget.check()

    law = Law("slow", "a test", "ours", "here", "", lambda run: [], slow, automatic=True)  # type: ignore[arg-type]
    assert not law.requirements(run_of(), 20.0).observables


@pytest.mark.parametrize(
    ("entry", "seconds"),
    [
        ({"id": "valley"}, float("inf")),
        ({"id": "valley", "automatic": True}, 20.0),
        ({"id": "last-step", "automatic": True}, 2.0),
        ({"id": "valley", "budget": 3}, 3.0),
        ({"id": "valley", "automatic": True, "budget": 60.0}, 60.0),
    ],
)
def test_who_asks_sets_the_limit(entry: dict[str, object], seconds: float) -> None:
    ((_, claim),) = read_claims([entry])
    assert claim.seconds == seconds


@pytest.mark.parametrize("value", [0, -1, "1 min", True, float("nan")])
def test_a_budget_that_is_none_is_refused(value: object) -> None:
    with pytest.raises(InputError, match=r"budget: .*positive number of seconds"):
        read_claims([{"id": "valley", "budget": value}])


def test_a_formula_has_no_budget() -> None:
    with pytest.raises(InputError, match=r"budget: 3.*, expected only with a law"):
        read_claims([{"formula": "mean(x) = 0", "budget": 3}])


def test_the_chain_of_the_river_valley_is_refused_before_it_begins() -> None:
    """It took 12 minutes in silence: 2000 steps on a mesh of 1600 states, again and again."""
    scenario = load_scenario("river_valley")
    before = time.thread_time()
    rows, reasons = LAWS["exact-chain"].evaluate(scenario.runs, 2.0)
    assert rows == []
    assert len(reasons) == 1
    assert reasons[0].startswith("needs ")
    assert "--predict exact-chain sets no limit" in reasons[0]
    assert time.thread_time() - before < 10.0


def test_the_chain_of_a_short_run_in_the_river_valley_is_computed() -> None:
    """The negative control, whose numbers are those of the chain without a budget."""
    run = load_scenario("river_valley", {"run.steps": 4}).runs[0]
    with budget.limited(60.0):
        (found,) = evolve(run, ["x"], 4)
    assert abs(found.value) <= 10 * found.error < 1e-6


@pytest.mark.parametrize(("terms", "power"), [(19, 6), (59, 20)])
def test_a_power_of_a_sum_is_not_expanded_and_the_run_is_as_before(terms: int, power: int) -> None:
    """These took 25 seconds, and more than a minute."""
    formula = f"({'+'.join(f'exp({k}*x*z)' for k in range(1, terms + 1))})**{power}"
    before = time.thread_time()
    scenario = scenario_from(
        {
            "loss": {"formula": formula, "parameters": {"x": 0.0}, "noise": {"z": "normal:0,0.001"}},
            "optimizer": {"learning_rate": 1e-9},
            "run": {"trajectories": 64, "steps": 8},
            "predict": [{"id": id, "automatic": True} for id in AUTOMATIC],
        },
        "mine",
        "here",
    )
    for claim in scenario.claims:
        rows, reasons = predict([claim.source], scenario.runs, claim.seconds)
        # Quadratures, which need no expansion; the second step of the larger power overflows.
        is_numerical = claim.source.id in ("first-step", *(("second-step",) if power == 6 else ()))
        assert bool(rows) == is_numerical
        assert bool(reasons) != is_numerical
    with pytest.raises(InputError, match=r"terms when expanded|no closed form"):
        scenario.runs[0].loss.population  # noqa: B018
    assert time.thread_time() - before < 10.0


def test_a_polynomial_of_many_terms_has_no_population_loss() -> None:
    names = tuple(f"w[{i}]" for i in range(40))
    loss = Loss("(sum(w) + z)**6", names, noise={"z": Noise.parse("normal")})
    with pytest.raises(InputError, match=r"has up to .* terms when expanded, expected at most 10,000"):
        loss.population  # noqa: B018
    small = Loss("(sum(w) + z)**2", names[:3], noise={"z": Noise.parse("normal")})
    assert str(small.population.subs(dict.fromkeys(small.theta, 0))) == "1"  # the negative control


def test_a_sum_in_a_denominator_is_not_expanded_for_minutes() -> None:
    loss = Loss(
        "z*x/(x + y + u + v + 9)**60 + (x**2 + y**2 + u**2 + v**2)/2", tuple("xyuv"), {}, {"z": Noise.parse("normal")}
    )
    run = Run(loss, Optimizer(), Schedule("0.1"), dict.fromkeys("xyuv", 1.0), 64, 100)
    began = time.thread_time()
    for id in AUTOMATIC:
        LAWS[id].evaluate([run], 2.0)
    assert time.thread_time() - began < 3.0 * len(AUTOMATIC)
