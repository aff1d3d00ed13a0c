"""Numbers written as text: one rule for options, tables and the arguments of distributions and schedules."""

from __future__ import annotations

import re
from math import isinf

from sgdsim.base.errors import InputError

NUMBER = re.compile(r"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?")
"""Pattern of a decimal number."""

_INTEGER = re.compile(r"[+-]?[0-9]+")
_SEPARATOR = re.compile(r"(?<=[0-9])_(?=[0-9])")
_LONGEST = 400  # most characters that are read as one number


def read_number(text: str, where: str = "number") -> float | None:
    """Finite number that a text spells, an int if it is written as one; None if the text is not a number.

    Parameters
    ----------
    text
        The number. Digits may have underscores between them, as in TOML and Python.
    where
        Name of the number, for the message.

    Raises
    ------
    InputError
        For a number that is not zero and would be rounded to zero.

    Examples
    --------
    >>> read_number("1_000"), read_number(" -.5e3 "), read_number("nan"), read_number("1e999")
    (1000, -500.0, None, None)
    """
    digits = _SEPARATOR.sub("", text.strip())
    if len(digits) > _LONGEST or not NUMBER.fullmatch(digits):
        return None
    number = to_float(digits, where)
    return None if isinf(number) else int(digits) if _INTEGER.fullmatch(digits) else number


def read_whole(text: str, where: str = "number") -> int | None:
    """Whole number that a text spells, ``1e6`` too; None if the text is not a whole number.

    Examples
    --------
    >>> read_whole("1e6"), read_whole("1.5")
    (1000000, None)
    """
    number = read_number(text, where)
    return None if number is None or number != int(number) else int(number)


def to_float(text: str, where: str = "number") -> float:
    """Float that is nearest to a decimal number.

    Raises
    ------
    InputError
        For a number that is not zero and would be rounded to zero.

    Examples
    --------
    >>> to_float("0e5"), to_float("5e-324")
    (0.0, 5e-324)
    """
    number = float(text)
    if number == 0 and re.search("[1-9]", text.lower().partition("e")[0]):
        raise InputError(f"{where}: {text} is below the smallest float, expected 0 or a number from 5e-324")
    return number
