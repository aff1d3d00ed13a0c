"""Laws virial and potential-energy in potentials that are not quadratic."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from sgdsim.model.loss import Loss
from sgdsim.model.losses.anharmonic import anharmonic
from sgdsim.model.noise import Noise
from sgdsim.model.optimizers import Optimizer
from sgdsim.model.run import Run
from sgdsim.model.schedules import Schedule
from sgdsim.prediction import Function, NotApplicable, Prediction
from sgdsim.theory import find_law
from sgdsim.theory.chain.evolution import evolve
from sgdsim.theory.laws import any_potential
from sgdsim.theory.laws.any_potential import potential
from tests.theory.laws import closed_forms

WELLS = "h*(x**2 - 1)**2 + s*z*x"


def make_run(loss: Loss, rate: float = 0.1, start: Any = 0.5, steps: int = 300) -> Run:
    run = Run(loss, Optimizer(), Schedule(repr(rate)), {"x": start}, 1000, steps)
    wanted = find_law("virial").requirements(run).merge(find_law("potential-energy").requirements(run))
    return replace(run, recorder=run.recorder.merge(wanted))


def wells(sigma: float, rate: float = 0.1, steps: int = 300) -> Run:
    loss = Loss(WELLS, ("x",), {"h": 0.25, "s": sigma}, {"z": Noise.parse("normal")})
    return make_run(loss, rate, Noise.parse("table:-1@0.5,1@0.5"), steps)


def rows(id: str, *runs: Run) -> dict[str, Prediction]:
    return {row.quantity: row for row in find_law(id).predictions(runs)}


def test_the_virial_holds_along_a_plain_loop_and_not_without_its_second_term():
    run = wells(2.0)
    (row,) = rows("virial", run).values()
    rng, x = np.random.default_rng(1), np.repeat([-1.0, 1.0], 5_000)
    virial, squared = [], []
    for step in range(300):
        slope = x**3 - x
        if step >= 100:
            virial.append(np.mean(x * slope))
            squared.append(np.mean(slope**2))
        x = x - 0.1 * (slope + 2.0 * rng.normal(size=x.size))
    measure = row.measure
    assert isinstance(measure, Function)
    assert measure.function(np.mean(virial), np.mean(squared)) == pytest.approx(row.predicted, abs=0.01)
    assert np.mean(virial) / 0.2 > 1.05
    assert row.resolution == 0.01
    assert row.rival.predicted == pytest.approx(2 - np.mean(virial) / 0.2, rel=0.15)  # by Gibbs' law, which is cooler
    (row,) = (row for row in rows("virial", wells(0.4, 0.01)).values())
    assert row.resolution == pytest.approx((1 - row.rival.predicted) / 2)  # 1 % would not see the second term


def power(p: float, sigma: float, rate: float = 0.1) -> Run:
    return make_run(anharmonic(p, constants={"c": 1.3, "sigma": sigma}), rate, 0.3, 300)


@pytest.mark.parametrize("p", [1.5, 4.0])
def test_the_next_order_of_a_power_law_is_what_the_chain_says(p):
    """What is left of p*<V>/T - 1 - e falls as e^2: the term of e itself is right."""
    off, sizes = [], []
    for rate, steps in ((0.2, 100), (0.1, 200)):
        run = power(p, 1.0, rate)
        (energy,) = evolve(run, [str(potential(run))], steps)
        known = any_potential.PowerLaw.of(run)
        assert known == any_potential.PowerLaw(p, pytest.approx(1.3))
        sizes.append(known.small(rate / 2, rate))
        off.append(p * float(energy.value) / (rate / 2) - 1 - sizes[-1])
    assert abs(off[0]) < 6 * sizes[0] ** 2
    assert np.log(off[0] / off[1]) / np.log(sizes[0] / sizes[1]) == pytest.approx(2.0, abs=0.25)


def test_the_energies_of_power_laws_are_one_series():
    runs = [power(4.0, s) for s in (0.5, 1.0, 1.5)] + [power(4.0, 1.0, 0.05)]
    series = [row for row in find_law("virial").predictions(runs) if row.order == 1]
    assert [row.measure.moments[0].point for row in series] == [0, 1, 2, 3]
    assert len({row.series for row in series}) == 1
    assert all(row.predicted == 1 + row.small for row in series)
    assert not [row for row in find_law("virial").predictions(runs[:3]) if row.order == 1]
    assert not [row for row in find_law("virial").predictions([wells(s) for s in (0.4, 0.7, 1, 2)]) if row.order == 1]


def test_the_energy_of_an_absolute_value_is_exact():
    row = rows("virial", make_run(anharmonic(1.0, constants={"c": 0.3}), 0.1, 0.0))["mean(late_potential)"]
    assert row.predicted == pytest.approx(0.0545)  # handbook
    rng, x, total = np.random.default_rng(2), np.zeros(4000), []
    for step in range(1500):
        x = x - 0.1 * (0.3 * np.sign(x) + rng.normal(size=x.size))
        total += [0.3 * np.mean(np.abs(x))] if step >= 500 else []
    assert np.mean(total) == pytest.approx(row.predicted, rel=0.02)
    assert row.rival.predicted < 0.93 * row.predicted


def test_a_quadratic_valley_has_the_heat_capacity_of_valleys():
    runs = [make_run(anharmonic(2.0, constants={"sigma": s}), 0.4, 0.0, 100) for s in (1.0, 1.5)]
    (secant,) = (row for quantity, row in rows("potential-energy", *runs).items() if "heat capacity" in quantity)
    assert secant.predicted == pytest.approx(closed_forms.heat_capacity_fixed_rate(0.4, 1.0), rel=1e-6)
    assert secant.rival is not None
    assert secant.rival.predicted == pytest.approx(0.5, rel=1e-6)


def test_the_bump_of_the_double_well():
    """Handbook, potential-energy: Gibbs' C at T = 0.02, 0.05, 0.5 is .542, .637, .175."""
    for temperature, heat in ((0.02, 0.542), (0.05, 0.637), (0.5, 0.175)):
        limit = any_potential._by_gibbs(wells(float(np.sqrt(2 * temperature / 0.05)), 0.05))
        assert limit is not None
        assert limit[1] / temperature**2 == pytest.approx(heat, abs=5e-4)


@pytest.mark.validate
def test_gibbs_law_is_the_limit_of_small_steps():
    """At fixed T the chain is off by O(eta), once the top of the barrier has come to rest."""
    off = []
    for rate, steps in ((0.08, 400), (0.04, 800)):
        row = rows("potential-energy", wells(float(np.sqrt(2 * 0.02 / rate)), rate, steps))["Var(potential)/T^2"]
        assert row.rival is not None
        off.append(row.predicted / row.rival.predicted - 1)
    assert off[0] / off[1] == pytest.approx(2.0, rel=0.1)


def test_where_they_do_not_hold_they_say_why():
    two = Loss("x**2 + y**2 + z*x", ("x", "y"), {}, {"z": Noise.parse("normal")})
    run = Run(two, Optimizer(), Schedule("0.1"), {"x": 0.0, "y": 0.0}, 9, 9)
    with pytest.raises(NotApplicable, match="one parameter, the loss has 2"):
        find_law("virial").predictions([run])
    with pytest.raises(NotApplicable, match="plain sgd"):
        find_law("potential-energy").predictions([replace(wells(1.0), optimizer=Optimizer("momentum"))])
