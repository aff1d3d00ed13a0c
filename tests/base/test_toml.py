"""TOML in and out: what is written is read back, and what is no TOML is refused with its place."""

from __future__ import annotations

import datetime
import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sgdsim.base import toml
from sgdsim.base.errors import InputError

SCALARS = st.one_of(
    st.booleans(),
    st.integers(),
    st.floats(allow_nan=False, allow_infinity=False),
    st.text(),
    st.dates(),
    st.datetimes(),
    st.times(),
)
VALUES = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3), max_leaves=12
)


@settings(derandomize=True, max_examples=100, deadline=None)
@given(st.dictionaries(st.text(), VALUES, max_size=4))
def test_what_is_written_is_read_back(data):
    """Keys and text of any kind: quotes, control characters, line breaks, beyond the basic plane, empty."""
    assert toml.loads(toml.dumps(data), "here") == data


@pytest.mark.parametrize("number", [1e16, 1e-7, -0.0, 5e-324, 1.7976931348623157e308, 2**64 - 1, -(2**70), 0.1 + 0.2])
def test_numbers_survive_to_the_bit(number):
    again = toml.loads(toml.dumps({"x": number}), "here")["x"]
    assert (again, type(again), math.copysign(1, again)) == (number, type(number), math.copysign(1, number))


def test_none_is_left_out():
    assert toml.loads(toml.dumps({"a": None, "b": {"c": None}, "d": [{"e": None}]}), "here") == {"b": {}, "d": [{}]}


def test_infinities_and_nan_are_written_as_toml():
    assert toml.dump_value([math.inf, -math.inf, math.nan]) == "[inf, -inf, nan]"


def test_mixed_lists_and_dates_are_written_inline():
    data = {"a": [1, {"b c": [{"d": 2}]}, datetime.date(1979, 5, 27)]}
    assert toml.dumps(data) == 'a = [1, { "b c" = [{ d = 2 }] }, 1979-05-27]\n'
    assert toml.loads(toml.dumps(data), "here") == data


@pytest.mark.parametrize(
    ("text", "place"),
    [
        ("a = 1\nb = = 2\n", "line 2, column 5"),
        ("a = 1\nb = [1,\n", "line 3, column 1"),
        ("a = ", "line 1, column 5"),
        ("a = 1\na = 2\n", "line 2, column 6"),
        ("[a\n", "line 1, column 3"),
    ],
)
def test_a_syntax_error_has_line_and_column(text, place):
    with pytest.raises(InputError, match=f"run.toml: not valid TOML: .*{place}"):
        toml.loads(text, "run.toml")


@pytest.mark.parametrize(
    "text", ["a = " + "9" * 5000, "a = " + "[" * 20_000, "\ufeffa = 1", "a = \0", "a = 2021-13-01"]
)
def test_what_breaks_a_reader_is_refused_too(text):
    with pytest.raises(InputError, match="not valid TOML"):
        toml.loads(text, "here")


@pytest.mark.parametrize(
    ("dotted", "parts"),
    [
        ("run.steps", ["run", "steps"]),
        ("run.initial.x[0]", ["run", "initial", "x[0]"]),
        ('a."b.c".d', ["a", "b.c", "d"]),
        (" a . b ", ["a", "b"]),
        ('"x y"', ["x y"]),
        ("größe.θ", ["größe", "θ"]),
    ],
)
def test_dotted_keys(dotted, parts):
    assert toml.split_key(dotted) == parts


@pytest.mark.parametrize("dotted", ["", ".", "a..b", "a.", ".a", 'a."b', 'a"b"', "a b", '"a" "b"'])
def test_what_is_no_dotted_key_is_refused(dotted):
    with pytest.raises(InputError, match="is not a key, expected names between dots"):
        toml.split_key(dotted)


def test_a_key_is_set_through_tables_only():
    data = {"run": {"steps": 10}}
    toml.set_key(data, 'record.histograms."x[0]"', [0, 1, 2])
    assert data == {"run": {"steps": 10}, "record": {"histograms": {"x[0]": [0, 1, 2]}}}
    with pytest.raises(InputError, match=r"run\.steps\.a: steps is 10, expected a table"):
        toml.set_key(data, "run.steps.a", 1)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("5_000", 5000),
        ("1e6", 1e6),
        ("18446744073709551615", 2**64 - 1),
        ("true", True),
        ("[1, 'a']", [1, "a"]),
        ("{x = 0.5}", {"x": 0.5}),
        ('"quoted"', "quoted"),
        ("a0*(1 + k*y**2)", "a0*(1 + k*y**2)"),
        ("cosine:0.1,0.001", "cosine:0.1,0.001"),
        ("", ""),
        ("[1,", "[1,"),
        ("5\nb = 3", "5\nb = 3"),
        ("9" * 5000, "9" * 5000),
    ],
)
def test_a_value_is_toml_or_the_text_itself(text, value):
    parsed = toml.parse_value(text)
    assert (parsed, type(parsed)) == (value, type(value))


def test_a_number_that_would_become_zero_is_refused():
    with pytest.raises(InputError, match="here: 1e-400 is below the smallest float"):
        toml.loads("a = [1.0, 1e-400]", "here")
    with pytest.raises(InputError, match="below the smallest float"):
        toml.parse_value("1e-400")
    assert toml.loads("a = 0e-400", "here") == {"a": 0.0}


def test_keys_of_very_many_parts_are_refused():
    """Python's own limit ended in a traceback."""
    with pytest.raises(InputError, match="has 3000 names between dots, expected at most 32"):
        toml.set_key({}, ".".join(["a"] * 3000), 1)
    assert len(toml.split_key(".".join(["a"] * 32))) == 32


def test_a_key_is_set_beside_the_data():
    data = {"run": {"steps": 1, "initial": {"x": 0.0}}, "loss": {"name": "a"}}
    made = toml.with_key(data, "run.initial.y", 2.0)
    assert made == {"run": {"steps": 1, "initial": {"x": 0.0, "y": 2.0}}, "loss": {"name": "a"}}
    assert data == {"run": {"steps": 1, "initial": {"x": 0.0}}, "loss": {"name": "a"}}
    assert made["loss"] is data["loss"]  # what is beside it is shared
    assert toml.with_key({}, "a.b", 1) == {"a": {"b": 1}}
    with pytest.raises(InputError, match="steps is 1, expected a table"):
        toml.with_key(data, "run.steps.x", 1)
