"""Laws NTL-13 and NTL-14 in potentials that are not quadratic."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from sgdsim.loss import Loss
from sgdsim.losses.anharmonic import anharmonic
from sgdsim.noise import Noise
from sgdsim.optimizers import Optimizer
from sgdsim.run import Run
from sgdsim.schedules import Schedule
from sgdsim.theory import law, ntl12, ntl14
from sgdsim.theory.prediction import Function, NotApplicable, Prediction

WELLS = "h*(x**2 - 1)**2 + s*z*x"


def make_run(loss: Loss, rate: float = 0.1, start: Any = 0.5, steps: int = 300) -> Run:
    run = Run(loss, Optimizer(), Schedule(repr(rate)), {"x": start}, 1000, steps)
    wanted = law("NTL-13").requirements(run).merge(law("NTL-14").requirements(run))
    return replace(run, recorder=run.recorder.merge(wanted))


def wells(sigma: float, rate: float = 0.1, steps: int = 300) -> Run:
    loss = Loss(WELLS, ("x",), {"h": 0.25, "s": sigma}, {"z": Noise.parse("normal")})
    return make_run(loss, rate, Noise.parse("table:-1@0.5,1@0.5"), steps)


def rows(id: str, *runs: Run) -> dict[str, Prediction]:
    return {row.quantity: row for row in law(id).predictions(runs)}


def test_the_virial_holds_along_a_plain_loop_and_not_without_its_second_term():
    run = wells(2.0)
    (row,) = rows("NTL-13", run).values()
    rng, x = np.random.default_rng(1), np.repeat([-1.0, 1.0], 20_000)
    virial, squared = [], []
    for step in range(400):
        slope = x**3 - x
        if step >= 100:
            virial.append(np.mean(x * slope))
            squared.append(np.mean(slope**2))
        x = x - 0.1 * (slope + 2.0 * rng.normal(size=x.size))
    measure = row.measure
    assert isinstance(measure, Function)
    assert measure.function(np.mean(virial), np.mean(squared)) == pytest.approx(row.predicted, abs=0.01)
    assert np.mean(virial) / 0.2 > 1.05


def test_a_quadratic_valley_is_ntl_12():
    runs = [make_run(anharmonic(2.0, constants={"sigma": s}), 0.4, 0.0, 100) for s in (1.0, 1.5)]
    (secant,) = (row for quantity, row in rows("NTL-14", *runs).items() if "heat capacity" in quantity)
    assert secant.predicted == pytest.approx(ntl12.heat_capacity_fixed_rate(0.4, 1.0), rel=1e-6)
    assert secant.rival is not None
    assert secant.rival.predicted == pytest.approx(0.5, rel=1e-6)


def test_the_bump_of_the_double_well():
    """Handbook, NTL-14: Gibbs' C at T = 0.02, 0.05, 0.5 is .542, .637, .175."""
    for temperature, heat in ((0.02, 0.542), (0.05, 0.637), (0.5, 0.175)):
        limit = ntl14._by_gibbs(wells(float(np.sqrt(2 * temperature / 0.05)), 0.05))
        assert limit is not None
        assert limit[1] / temperature**2 == pytest.approx(heat, abs=5e-4)


def test_gibbs_law_is_the_limit_of_small_steps():
    """At fixed T the chain is off by O(eta), once the top of the barrier has come to rest."""
    off = []
    for rate in (0.08, 0.04):
        row = rows("NTL-14", wells(float(np.sqrt(2 * 0.02 / rate)), rate, 1200))["Var(potential)/T^2"]
        assert row.rival is not None
        off.append(row.predicted / row.rival.predicted - 1)
    assert off[0] / off[1] == pytest.approx(2.0, rel=0.1)


def test_where_they_do_not_hold_they_say_why():
    two = Loss("x**2 + y**2 + z*x", ("x", "y"), {}, {"z": Noise.parse("normal")})
    run = Run(two, Optimizer(), Schedule("0.1"), {"x": 0.0, "y": 0.0}, 9, 9)
    with pytest.raises(NotApplicable, match="one parameter, the loss has 2"):
        law("NTL-13").predictions([run])
    with pytest.raises(NotApplicable, match="plain sgd"):
        law("NTL-14").predictions([replace(wells(1.0), optimizer=Optimizer("momentum"))])
