"""Constants and data of each trajectory, drawn again: what the kernels of the run used."""

from __future__ import annotations

import numpy as np
import pytest

import sgdsim
from sgdsim.base.errors import InputError

N = 150  # more than a tile
GIVEN = {
    "initial": {"w": 0.0},
    "data": {"x": "normal:1,2", "rows": 4},
    "learning_rate": 1.0,
    "trajectories": N,
    "steps": 1,
    "snapshots": [1],
    "seed": 5,
    "batch_size": 4,
    "sampling": "batch",
}


def test_they_are_what_the_kernel_used(tmp_path):
    """One step of a linear loss over all rows goes to minus what it read; also from the file, and at a sweep."""
    constants = {"b": "student_t:3", "B[2,2]": "normal:0,0.5", "g": "grid:0,1"}
    found = sgdsim.simulate("w*(b*x + 2*B[1,0] + g)", constants=constants, **GIVEN)
    found.save(tmp_path / "own.h5")
    again = sgdsim.Ensemble.open(tmp_path / "own.h5")
    b, matrix, g, x = (again.drawn(name) for name in ("b", "B", "g", "x"))
    assert (b.shape, matrix.shape, x.shape) == ((N,), (N, 2, 2), (N, 4))
    np.testing.assert_array_equal(matrix[:, 1, 0], found.drawn("B[1,0]"))
    expected = -(b * x.mean(axis=1) + 2 * matrix[:, 1, 0] + g)
    np.testing.assert_allclose(found["theta"][0, :, 0], expected, rtol=1e-13, atol=1e-13)
    assert np.abs(found["theta"][0, ::-1, 0] - expected).max() > 0.1


def test_points_of_a_sweep_have_their_own():
    for common in (False, True):
        given = {**GIVEN, "learning_rate": [0.5, 1.0], "common_noise": common}
        found = sgdsim.simulate("w*b*x", constants={"b": "normal"}, **given)
        b, x = found.drawn("b"), found.drawn("x")
        assert (b.shape, x.shape) == ((2, N), (2, N, 4))
        expected = -np.array([[0.5], [1.0]]) * b * x.mean(axis=2)
        np.testing.assert_allclose(found["theta"][:, 0, :, 0], expected, rtol=1e-13, atol=1e-13)
        assert np.array_equal(b[0], b[1]) == common


def test_what_no_trajectory_has_of_its_own_is_refused():
    found = sgdsim.simulate("w*x", **GIVEN)
    with pytest.raises(InputError, match="unknown constant or column of each trajectory 'y'"):
        found.drawn("y")
    plain = sgdsim.simulate("w*w", initial={"w": 1.0}, learning_rate=0.1, trajectories=2, steps=1)
    with pytest.raises(InputError, match="no constant and no data are of each trajectory"):
        plain.drawn("b")
