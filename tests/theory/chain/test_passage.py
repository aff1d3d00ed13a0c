"""First passages against simulations and the equations of a birth and death chain."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.special import ndtr

from sgdsim.model.noise import Noise
from sgdsim.prediction import NotApplicable
from sgdsim.theory.chain.chain import chain
from tests.theory.chain.runs import SIGMAS, ar1, check, make_run


def passage_times(threshold: float, start: float, rate: float, number: int) -> np.ndarray:
    rng = np.random.default_rng(11)
    x, times = np.full(number, start), np.full(number, -1)
    completed = 0
    while (times < 0).any():
        fresh = (times < 0) & (x > threshold)
        times[fresh] = completed
        x = x - rate * (x + rng.standard_normal(number))
        completed += 1
    return times


@pytest.mark.parametrize(("threshold", "start"), [(0.0, -1.0), (0.4, 0.4), (0.9, 0.3)])
def test_first_passages(threshold: float, start: float) -> None:
    law = chain(ar1("normal", 0.3))
    found = law.passage(f"x - {threshold}", {"x": start})
    times = passage_times(threshold, start, 0.3, 20_000)
    error = times.std() / np.sqrt(len(times))
    assert found.error < 1e-8 * found.value
    assert abs(found.value - times.mean()) < SIGMAS * error
    if found.value < 10:
        assert abs(found.value - 1 - times.mean()) > SIGMAS * error  # counted from one


@pytest.mark.parametrize(
    ("start", "below"), [("uniform:-1,1.3", 1 / 2.3), ("normal:0.3,0.7", float(ndtr(-0.3 / 0.7))), (-0.2, 1.0)]
)
def test_a_start_on_both_sides_of_the_threshold(start: str | float, below: float) -> None:
    """A step to -z is positive every other time, so that two steps are the mean of all that begin below."""
    found = chain(ar1("normal", 1.0)).passage("x", {"x": Noise.parse(start) if isinstance(start, str) else start})
    check(found, 2.0 * below, 1e-10)


def test_a_start_that_few_points_do_not_resolve_has_an_error() -> None:
    """With Rademacher noise the mean time jumps wherever a step may just pass the threshold."""
    run = {"x": Noise.parse("uniform:-2,0.5")}
    found = chain(ar1("rademacher", 0.3)).passage("x - 0.4", run)
    several = [chain(ar1("rademacher", 0.3)).passage("x - 0.4", {"x": x}).value for x in (-1.9, -1.0, -0.1)]
    assert several[2] < found.value < several[0]
    assert found.error > 1e-4 * found.value


def test_passages_on_a_lattice() -> None:
    """Against the equations of the birth and death chain."""
    law = chain(ar1("normal", 1.0, name="signsgd"))
    states = np.array([-30.7 + n for n in range(32)])  # up to 0.3, below the threshold 0.5
    up = ndtr(-states)
    system = np.eye(32) - np.diag(up[:-1], 1) - np.diag(1 - up[1:], -1)
    system[0, 0] -= 1 - up[0]
    exact = np.linalg.solve(system, np.ones(32))[-2]
    check(law.passage("x - 0.5", {"x": -0.7}), exact, 1e-8)
    assert law.passage("x", {"x": 0.3}).value == 0


def test_a_passage_that_hardly_ever_comes_is_refused() -> None:
    with pytest.raises(NotApplicable, match="rare"):
        chain(ar1("normal", 0.3)).passage("x - 50")


def test_escapes_over_a_barrier_approach_the_formula_of_eyring_and_kramers() -> None:
    """Its error is of the order of the rate; without the curvature of the saddle it is off by a factor."""
    far = []
    for rate, steps in ((0.2, 309.4), (0.1, 7_055), (0.05, 2_009_902)):  # as documented
        run = make_run("(x**2 - 1)**2/4 + z*x", {"z": "normal"}, rate, initial={"x": -1.0})
        found = chain(run).passage("x - 1").value
        assert found == pytest.approx(steps, rel=2e-4)
        far.append(found * rate / (2.0 * np.pi / np.sqrt(2.0) * np.exp(0.5 / rate)) - 1.0)
    assert far == pytest.approx([0.143, 0.070, 0.027], abs=5e-4)
    assert 1.5 < far[0] / far[1] < far[1] / far[2] < 3.0
