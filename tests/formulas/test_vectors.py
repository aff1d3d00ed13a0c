"""Vectors by coordinate."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sgdsim.formulas.vectors import base_name, coordinates, gather

lengths = st.dictionaries(st.sampled_from(["a", "w", "w1", "θ"]), st.one_of(st.none(), st.integers(1, 12)))


def test_coordinates():
    assert coordinates("x", None) == ("x",)
    assert coordinates("w", 3) == ("w[0]", "w[1]", "w[2]")
    assert coordinates("w", 1) == ("w[0]",)
    assert coordinates("w", 0) == ()


@pytest.mark.parametrize(("name", "base"), [("x", "x"), ("w[0]", "w"), ("w[12]", "w"), ("w_1", "w_1")])
def test_base_name(name, base):
    assert base_name(name) == base


@settings(derandomize=True, deadline=None, database=None)
@given(lengths)
def test_gather_is_the_inverse_of_coordinates(lengths):
    """Numbers stay, vectors become lists in order, names keep their order."""
    names = [key for name, length in lengths.items() for key in coordinates(name, length)]
    gathered = gather(dict(zip(names, range(len(names)), strict=True)))
    assert list(gathered) == list(lengths)
    flat: list[object] = []
    for name, length in lengths.items():
        value = gathered[name]
        assert isinstance(value, list) == (length is not None)
        flat += value if isinstance(value, list) else [value]
        assert {base_name(key) for key in coordinates(name, length)} == {name}
    assert flat == list(range(len(names)))


def test_gather_leaves_the_values_alone():
    values = {"x": (1, 2), "w[0]": None}
    assert gather(values) == {"x": (1, 2), "w": [None]}
    assert values == {"x": (1, 2), "w[0]": None}
