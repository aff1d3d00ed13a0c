"""Starts: grids and points of level sets."""

from __future__ import annotations

import numpy as np
import pytest

from sgdsim.base.errors import InputError
from sgdsim.input.loading import scenario_from
from sgdsim.model.losses import CATALOGUE
from sgdsim.model.optimizers import Optimizer
from sgdsim.model.recorder import Recorder
from sgdsim.model.run import Run
from sgdsim.model.schedules import Schedule
from sgdsim.model.starts import Grid, level_set
from sgdsim.simulation.run_loop import simulate_runs

# Grids.


@pytest.mark.parametrize(
    ("text", "grid"),
    [
        ("grid:-1,1", Grid(-1.0, 1.0, 0)),
        ("grid:-1,1,5", Grid(-1.0, 1.0, 5)),
        (" grid:2,0,2".strip(), Grid(2.0, 0.0, 2)),
        ("grid:0,1,1e2", Grid(0.0, 1.0, 100)),
    ],
)
def test_a_grid_is_read(text, grid):
    assert Grid.parse(text) == grid
    if grid.points:
        assert Grid.parse(str(grid)) == grid


@pytest.mark.parametrize(
    "text", ["grid:", "grid:1", "grid:1,2,1", "grid:1,2,2.5", "grid:1,2,3,4", "grid:a,b", "grid:0,inf", "grid:0,1,nan"]
)
def test_what_is_no_grid(text):
    with pytest.raises(InputError, match="expected grid:low,high or grid:low,high,points") as refused:
        Grid.parse(text, "run.initial.u")
    assert str(refused.value).startswith("run.initial.u: ")


@pytest.mark.parametrize("points", [2, 7, 256, 300])
def test_trajectories_start_on_the_grid(points):
    """One after the other, and again when the points are used up, over several tiles and blocks."""
    initial = {"u": Grid(-1.5, 2.0, points), "w": 0.5}
    one = Run(CATALOGUE["rescaling"](), Optimizer(), Schedule("0.1"), initial, 300, 4, 5, Recorder(snapshots=(0,)))
    found = simulate_runs([one], scenario="", device="python", block_trajectories=256)
    expected = np.resize(np.linspace(-1.5, 2.0, points), 300)
    np.testing.assert_allclose(found["theta"][0, :, 0], expected, rtol=0, atol=1e-15)
    assert (found["theta"][0, :, 1] == 0.5).all()


def test_a_grid_has_as_many_points_as_trajectories():
    assert Grid.parse("grid:0,1").over(11) == Grid(0.0, 1.0, 11, 11)
    assert Grid.parse("grid:0,1,5").over(11).points == 5
    assert Grid.parse("grid:0,1").over(1).values(0, 1).tolist() == [0.0]


def test_moments_of_a_grid_are_those_of_its_points():
    grid = Grid(1.0, 4.0, 7)
    points = np.linspace(1.0, 4.0, 7)
    centred = points - points.mean()
    assert [grid.moment(n) for n in range(5)] == pytest.approx([np.mean(points**n) for n in range(5)], rel=1e-14)
    fourth = np.mean(centred**4) - 3 * np.mean(centred**2) ** 2
    expected = [points.mean(), np.mean(centred**2), 0.0, fourth]
    assert [grid.cumulant(n) for n in range(1, 5)] == pytest.approx(expected, rel=1e-11, abs=1e-11)
    # Many points of an interval of width b - a: the uniform law, of variance (b - a)^2/12.
    assert Grid(0.0, 6.0, 10_001).cumulant(2) == pytest.approx(3.0, rel=1e-3)


# Level sets.


@pytest.mark.parametrize(
    ("charge", "product"), [(3.0, 2.0), (-3.0, 2.0), (0.0, -1.0), (5.0, 0.0), (0.0, 0.0), (-4.0, 0.0)]
)
def test_a_point_of_a_level_set_has_its_charge_and_product(charge, product):
    point = level_set(["a", "b"], f"level:{charge},{product}")
    assert list(point) == ["a", "b"]
    assert point["a"] >= 0
    assert point["a"] ** 2 - point["b"] ** 2 == pytest.approx(charge, abs=1e-12)
    assert point["a"] * point["b"] == pytest.approx(product, abs=1e-12)


@pytest.mark.parametrize(
    ("names", "text"),
    [
        (["u"], "level:1,2"),
        (["u", "v", "w"], "level:1,2"),
        (["u", "w"], "level:1"),
        (["u", "w"], "level:1,2,3"),
        (["u", "w"], "level:a,b"),
        (["u", "w"], "level:nan,1"),
        (["u", "w"], "level:inf,1"),
    ],
)
def test_what_is_no_level_set(names, text):
    with pytest.raises(InputError, match="expected level:charge,product"):
        level_set(names, text)


def test_moments_of_a_grid_are_those_of_the_trajectories():
    """Of which the last ones may not go round once more."""
    grid = Grid.parse("grid:-1,1,1000").over(1500)
    assert grid.moment(1) == pytest.approx(grid.values(0, 1500).mean(), rel=1e-12)
    assert grid.moment(1) < -0.1
    assert Grid.parse("grid:-1,1,1000").over(500).cumulant(2) < 0.1


def test_a_level_set_starts_two_parameters():
    run = {"trajectories": 5, "initial": {"u,w": "level:3,2"}}
    data = {"loss": {"name": "rescaling"}, "optimizer": {"learning_rate": 0.1}, "run": {"steps": 4, **run}}
    (one,) = scenario_from(data, "level", "scenario").runs
    assert one.initial == {"u": 2.0, "w": 1.0}


@pytest.mark.parametrize("charge", [-1e8, -1e5, -1.0, 0.0, 1.0, 1e5, 1e8])
@pytest.mark.parametrize("product", [-2.0, -1e-3, 0.0, 1e-3, 1.0])
def test_a_level_set_keeps_both_numbers(charge, product):
    """Also where one of the two parameters is tiny and a difference would cancel."""
    u, w = level_set(["u", "w"], f"level:{charge!r},{product!r}").values()
    assert u >= 0
    assert u * u - w * w == pytest.approx(charge, rel=1e-12, abs=1e-12)
    assert u * w == pytest.approx(product, rel=1e-12, abs=1e-15)


@pytest.mark.parametrize("text", ["normal:0,1", "grid:-1,1"])
def test_other_starts_of_two_parameters_are_no_level_set(text):
    with pytest.raises(InputError, match="expected level:charge,product"):
        level_set(["u", "w"], text)
