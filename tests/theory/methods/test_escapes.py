"""Escapes over barriers against the exact chain."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from sgdsim.model.run import Run
from sgdsim.theory.chain.evolution import evolve
from sgdsim.theory.methods.escapes import escapes
from sgdsim.theory.methods.linear_response import response
from tests.theory.chain.runs import make_run


def well(rate: float, steps: int) -> Run:
    return replace(make_run("(x**2 - 1)**2/4 + z*x", {"z": "normal"}, rate, initial={"x": 1.0}), steps=steps)


def test_the_share_that_leaves_a_well_is_that_of_the_chain() -> None:
    """To leading order in the rate, over four decades."""
    for rate in (0.03, 0.07):
        run = well(rate, 2000)
        (one,) = escapes(run, response(run))
        assert one.saddle == pytest.approx(0.0, abs=1e-9)
        assert one.share == pytest.approx(evolve(run, ["step(-x)"], 2000, fineness=0)[0].value, rel=0.1)


def test_a_saddle_is_found_beside_other_directions() -> None:
    loss, noise = "(x**2 - 1)**2/4 + y**2*(1 + x**2) + x*y/4 + z*x + w*y", {"z": "normal", "w": "normal"}
    run = replace(make_run(loss, noise, 0.05, initial={"x": 1.0, "y": 0.0}), steps=2000)
    (one,) = escapes(run, response(run))
    assert np.abs(one.saddle).max() < 1e-9
    (alone,) = escapes(well(0.05, 2000), response(well(0.05, 2000)))
    assert 0.3 < one.share / alone.share < 3.0


def test_a_single_well_has_no_way_out_and_noise_that_vanishes_on_the_way_opens_none() -> None:
    run = make_run("x**4/4 + x**2 + z*x", {"z": "normal"}, initial={"x": 0.1})
    assert not escapes(run, response(run))
    bounded = make_run("(x**2 - 1)**2/4 + z*max(x - 0.5, 0)**4", {"z": "normal"}, 0.05, initial={"x": 1.0})
    assert [one.share for one in escapes(bounded, response(bounded)) if one.saddle.item() < 0.5] == [0.0]
