"""The exact chain as a law, against the closed form of a valley."""

from __future__ import annotations

from dataclasses import replace

import pytest

from sgdsim.model.loss import Loss
from sgdsim.model.noise import Noise
from sgdsim.model.optimizers import Optimizer
from sgdsim.model.run import Run
from sgdsim.model.schedules import Schedule
from sgdsim.prediction import NotApplicable
from sgdsim.theory import find_law
from sgdsim.theory.laws.valley import stationary_variance


def test_the_chain_of_a_valley_has_its_variance_and_two_rivers_have_no_chain():
    loss = Loss("a*x**2/2 + z*x", ("x",), {"a": 1.0}, {"z": Noise.parse("normal")})
    run = Run(loss, Optimizer(), Schedule("0.5"), {"x": 0.0}, 1000, 100)
    rows = {row.quantity: row.predicted for row in find_law("exact-chain").predictions([run])}
    assert rows["variance(x)"] == pytest.approx(stationary_variance(0.5, 1.0, 1.0), rel=1e-6)
    many = Loss("x**2/2 + y**2/2 + w**2/2 + z*(x + y + w)", ("x", "y", "w"), {}, loss.noise)
    with pytest.raises(NotApplicable):
        find_law("exact-chain").predictions([replace(run, loss=many, initial=dict.fromkeys("xyw", 0.0))])
