"""Vectors by coordinate."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sgdsim.base.errors import InputError
from sgdsim.formulas.arrays import entries, shape_of
from sgdsim.formulas.names import split_names
from sgdsim.formulas.vectors import assigned, base_name, coordinates, gather, shapes, spread

SIZES = st.lists(st.integers(1, 12), max_size=2).map(tuple)
declarations = st.dictionaries(st.sampled_from(["a", "w", "w1", "θ"]), SIZES)


def test_coordinates():
    assert coordinates("x", ()) == ("x",)
    assert coordinates("w", 3) == ("w[0]", "w[1]", "w[2]")
    assert coordinates("w", 1) == ("w[0]",)
    assert coordinates("w", 0) == ()
    assert coordinates("W", (2, 2)) == ("W[0,0]", "W[0,1]", "W[1,0]", "W[1,1]")


@pytest.mark.parametrize(("name", "base"), [("x", "x"), ("w[0]", "w"), ("w[12]", "w"), ("w_1", "w_1"), ("W[0,2]", "W")])
def test_base_name(name, base):
    assert base_name(name) == base


@settings(derandomize=True, deadline=None, database=None)
@given(declarations)
def test_gather_is_the_inverse_of_coordinates(declarations):
    """Numbers stay, vectors and matrices become arrays in order, names keep their order."""
    names = [key for name, shape in declarations.items() for key in coordinates(name, shape)]
    gathered = gather(dict(zip(names, range(len(names)), strict=True)))
    assert {name: shape_of(value) for name, value in gathered.items()} == shapes(names) == declarations
    assert list(gathered) == list(declarations)
    assert [entry for value in gathered.values() for entry in entries(value)] == list(range(len(names)))
    bases = [name for name, shape in declarations.items() for _ in coordinates(name, shape)]
    assert [base_name(key) for key in names] == bases


def test_gather_leaves_the_values_alone():
    values = {"x": (1, 2), "w[0]": None}
    gathered = gather(values)
    assert gathered["x"] == (1, 2)
    assert entries(gathered["w"]) == [None]
    assert values == {"x": (1, 2), "w[0]": None}


def test_a_declaration_is_of_all_or_of_one():
    names = ["W[0,0]", "W[0,1]", "v[2]", "M[2,1]", "x"]
    assert [spread(name, names, "here") for name in names] == [
        ("W[0,0]",), ("W[0,1]",), ("v[0]", "v[1]"), ("M[0,0]", "M[1,0]"), ("x",)
    ]  # fmt: skip


def test_after_a_declaration_a_smaller_one_is_an_entry_of_it():
    """It was a declaration of its own: ``w[1]=2`` after ``w[3]=0`` changed w[0]."""
    assert assigned({"w[3]": 0, "w[1]": 2}, "here") == {"w[0]": 0, "w[1]": 2, "w[2]": 0}
    changed = assigned({"W[2,2]": 0, "W[1,0]": 2, "W[1,1]": 3}, "here")
    assert changed == {"W[0,0]": 0, "W[0,1]": 0, "W[1,0]": 2, "W[1,1]": 3}
    assert assigned({"w": [1, 2, 3], "w[1]": 5}, "here") == {"w[0]": 1, "w[1]": 5, "w[2]": 3}
    assert assigned({"w[0]": 1, "w[1]": 2}, "here") == {"w[0]": 1, "w[1]": 2}
    assert spread("w[3]", ["w[1]", "w[3]"], "here") == ("w[0]", "w[1]", "w[2]")
    assert spread("w[3]", ["W[4,4]", "w[3]"], "here") == ("w[0]", "w[1]", "w[2]")


def test_an_entry_has_its_own_value_in_any_order():
    """``w[1]=2`` before ``w[3]=0`` was forgotten."""
    for entry in (1, 2):
        changed = assigned({f"w[{entry}]": 2, "a": 1, "w[3]": 0}, "here")
        assert changed == {"a": 1, "w[0]": 0, "w[1]": 0, "w[2]": 0, f"w[{entry}]": 2}
        assert [name for name in changed if name != "a"] == ["w[0]", "w[1]", "w[2]"]
    assert list(assigned({"W[1,1]": 5, "W[2,2]": 0}, "here").items())[-1] == ("W[1,1]", 5)


@pytest.mark.parametrize(
    ("name", "problem"),
    [
        ("w[0]", "here: 0 coordinates, expected 1 to 16384"),
        ("W[3,0]", "here: 0 coordinates"),
        ("W[200,200]", "here: 40000 coordinates"),
        ("W[1,2,3]", r"W\[6,4\]"),
        ("W[1,]", r"W\[6,4\]"),
        ("W[a]", r"W\[6,4\]"),
    ],
)
def test_declarations_of_nothing_or_too_much_are_refused(name, problem):
    with pytest.raises(InputError, match=problem):
        spread(name, (), "here")


def test_commas_of_an_index_separate_no_names():
    """Spaces in an index go, as coordinates have none."""
    assert split_names("u, W[0,1],v[2] ,W[1, 2]") == ["u", "W[0,1]", "v[2]", "W[1,2]"]
