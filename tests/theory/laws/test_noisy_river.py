"""Noisy rivers, against quadrature."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from sgdsim.model.run import Run
from sgdsim.prediction import NotApplicable
from sgdsim.theory import find_law
from sgdsim.theory.laws import noisy_river
from sgdsim.theory.methods.rivers import river
from tests.theory.laws.river_runs import PARABOLA, make_run


def test_a_noisy_river_has_the_gibbs_law_of_the_handbook():
    options = {"a0": 1.0, "k": 2.0, "b": 0.5, "sigma": 1.5, "sigma_y": 1.5, "river_noise": "normal"}
    run = make_run(PARABOLA, "b*y**2/2", rate=0.05, steps=800, **options)
    run = replace(run, recorder=find_law("noisy-river").requirements(run))
    (row,) = find_law("noisy-river").predictions([run])
    assert row.predicted == pytest.approx(0.098622, abs=2e-4)
    with pytest.raises(NotApplicable):
        find_law("noisy-river").predictions([make_run(PARABOLA, "b*y**2/2", **{**options, "sigma_y": 1.0})])


def test_two_temperatures_are_those_of_the_handbook():
    """Predicted there: .059433, and .3125 without entropy."""
    options = {"a0": 2.0, "k": 1.0, "b": 0.02, "sigma": 2.0, "sigma_y": 0.5, "river_noise": "normal"}
    run = make_run(PARABOLA, "b*y**2/2", rate=0.05, steps=5000, **options)
    run = replace(run, recorder=find_law("two-temperatures").requirements(run))
    (row,) = find_law("two-temperatures").predictions([run])
    assert row.order == 0
    assert noisy_river.spread(river(run)).square == pytest.approx(0.059433, abs=1e-6)
    assert noisy_river.spread(river(run), entropy=False).square == pytest.approx(0.3125)
    with pytest.raises(NotApplicable, match="no temperature of its own"):
        find_law("two-temperatures").predictions(
            [make_run(PARABOLA, "b*y**2/2", rate=0.05, **{**options, "sigma_y": 2.0})]
        )
    with pytest.raises(NotApplicable, match="remembered"):
        find_law("two-temperatures").predictions([replace(run, steps=100)])


def cold_river(c: str, **constants: float) -> Run:
    options = {"a0": 2.0, "k": 1.0, "sigma": 2.0, "sigma_y": 0.5, "river_noise": "normal", **constants}
    return make_run(PARABOLA, c, rate=0.05, steps=5000, **options)


@pytest.mark.parametrize(
    ("b", "centre", "start"), [(20.0, 3.0, 0.0), (20.0, 7.0, 7.0), (2.0, 2.0, 0.0), (2.0, 30.0, -5.0), (2e4, 0.0, 0.3)]
)
def test_a_river_that_is_narrow_or_off_the_origin_is_found_wherever_it_is(b, centre, start):
    """Against a sum over 20 standard deviations of the river alone, on both sides of where it is least hot."""
    run = cold_river("b*(y - yc)**2/2", b=b, yc=centre, y=start)
    cold, hot = 0.05 * 0.25 / 2, 0.05 * 4.0 / 2
    y = centre + np.sqrt(cold / b) * np.linspace(-20, 20, 400_001)
    energy = b * (y - centre) ** 2 / (2 * cold) + hot / (2 * cold) * np.log(2 * (1 + y**2))
    p = np.exp(energy.min() - energy)
    law_of_y = noisy_river.spread(river(run))
    assert law_of_y.square == pytest.approx(p @ y**2 / p.sum(), rel=1e-7)
    assert law_of_y.mean == pytest.approx(p @ y / p.sum(), rel=1e-7, abs=1e-12)


def test_a_very_narrow_river_has_its_temperature_over_its_curvature():
    """T_y/b = 6.25e-7, which a grid of 0.01 about the origin does not see."""
    run = make_run(
        PARABOLA, "b*y**2/2", rate=0.001, a0=200.0, k=1e-3, b=200.0, sigma=1.0, sigma_y=0.5, river_noise="normal"
    )
    assert noisy_river.spread(river(run)).square == pytest.approx(6.25e-7, rel=1e-6)


def test_a_river_that_nothing_holds_or_with_two_bottoms_has_no_law():
    with pytest.raises(NotApplicable, match="cannot be normalised"):
        noisy_river.spread(river(cold_river("b*log(1 + y**2)", b=-1.0, y=0.5)))
    with pytest.raises(NotApplicable, match="more than one maximum"):
        noisy_river.spread(river(cold_river("b*(y**2 - 1)**2", b=1.0, y=0.5)))
