"""Numbers as they are written: what is one, and what would silently become another."""

from __future__ import annotations

import pytest

from sgdsim.base.errors import InputError
from sgdsim.base.numbers import read_number, read_whole, to_float


@pytest.mark.parametrize(
    ("text", "number"),
    [
        *(
            ("1", 1),
            ("+1", 1),
            ("-1_000", -1000),
            ("1e3", 1000.0),
            (" .5 ", 0.5),
            ("2.", 2.0),
            ("1_0.5e1_0", 10.5e10),
        ),
        *(("0", 0), ("0.0e-999", 0.0), ("5e-324", 5e-324), ("9007199254740993", 9007199254740993)),
    ],
)
def test_numbers(text: str, number: float) -> None:
    """An int stays one, so that 64 bits of a seed do."""
    assert read_number(text) == number
    assert type(read_number(text)) is type(number)


@pytest.mark.parametrize(
    "text",
    ["", "nan", "inf", "1e999", "1__0", "_1", "1_", "0x10", "1 2", "1,5", "\u0661", "e5", ".", "9" * 5000, "9" * 350],
)
def test_what_is_no_number(text: str) -> None:
    assert read_number(text) is None


@pytest.mark.parametrize("text", ["1e-400", "-2.5e-324_0", "0.0001e-330"])
def test_a_number_that_would_become_zero_is_refused(text: str) -> None:
    with pytest.raises(InputError, match=r"^here: .* is below the smallest float, expected 0 or a number from 5e-324$"):
        read_number(text, "here")


def test_whole_numbers() -> None:
    assert [read_whole(text) for text in ("1e6", "5_000", "18446744073709551615", "1.5", "x")] == [
        *(10**6, 5000, 2**64 - 1, None, None)
    ]
    assert to_float("1e999") == float("inf")
