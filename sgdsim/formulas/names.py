"""The names that formulas may use: their functions and the user's own names; and the errors for others."""

from __future__ import annotations

import keyword
import re
import unicodedata
from collections.abc import Mapping
from typing import TypeVar

from sgdsim.base.errors import InputError

T = TypeVar("T")

_ONE_ARGUMENT = (
    *("exp", "log", "sqrt", "sin", "cos", "tan", "tanh", "sinh", "cosh", "atan", "erf"),
    *("abs", "sign", "step", "relu", "softplus", "sigmoid"),
)

#: Each function of formulas with its usage.
FUNCTIONS: Mapping[str, str] = {name: f"{name}(x)" for name in _ONE_ARGUMENT} | {
    "min": "min(a, b, …)",
    "max": "max(a, b, …)",
    "where": "where(a < b, x, y)",
    "sum": "sum(w)",
    "dot": "dot(v, w)",
    "norm2": "norm2(w)",
    "transpose": "transpose(A)",
    "outer": "outer(v, w)",
    "trace": "trace(A)",
    "diag": "diag(A)",
    "eye": "eye(3)",
    "alignment": "alignment(K, L)",
    "cka": "cka(A, B) or cka(A, B, S)",
}
RESERVED = FUNCTIONS.keys() - {"transpose", "outer", "trace", "diag", "eye", "alignment", "cka"}
"""Functions whose names a user cannot take; names of other functions may be used, too, such as a state ``trace``."""

GRAMMAR = "numbers, names, + - * / ** @, indices such as w[0], and functions such as exp(x)"
# Functions of a name, as ``next(u)``, become names of the same length, so that a message points at the right column.
OF_NAMES = ("next", "gradient", "population_gradient", "charge")
_FUNCTION = re.compile(rf"\b({'|'.join(OF_NAMES)})\s*\(\s*(\w+)\s*(\[\s*\d+\s*(?:,\s*\d+\s*)?\])?\s*\)")
_RUN = re.compile(r"[^\x00-/:-@\[-^`{-\x7f]+")  # runs of ASCII letters, digits, _ and characters beyond ASCII
_BETWEEN = re.compile(r",(?![^\[]*\])")  # a comma that does not separate two indices
_ALIAS = re.compile(rf"({'|'.join(OF_NAMES)})__")


class FormulaError(InputError):
    """A text is not a formula, or has no value; `column` is the place in the stripped text, counted from 0."""

    column: int = 0


def formula_error(problem: str, text: str, column: int, where: str, expected: str = "") -> FormulaError:
    """Error that points at a column of the text; of a long text only the surroundings are shown."""
    column = max(0, min(column, len(text)))
    start, stop = max(0, column - 60), column + 40
    before, after = "…" if start else "", "…" if stop < len(text) else ""
    shown = "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in text[start:stop])
    caret = " " * (column - start + len(before)) + "^"
    lines = [f"{where}: {problem}", f"  {before}{shown}{after}", f"  {caret}"]
    error = FormulaError("\n".join(lines + [f"expected {expected}"] * bool(expected)))
    error.column = column
    return error


STEP_NAMES = frozenset({"learning_rate", "t"})
"""Names of numbers that belong to a step, unless the loss has a constant of this name."""


def aliased(text: str) -> str:
    """Write ``next(u)``, ``gradient(u)``, … as names that formulas know.

    Examples
    --------
    >>> aliased("next(u) - u"), aliased("gradient(w[0])"), aliased("next(charge(scale))")
    ('next__u - u', 'gradient__w[0]', 'next__charge__scale')
    """

    def alias(match: re.Match[str]) -> str:
        name = f"{match[1]}__{match[2]}{match[3] or ''}"
        return name.ljust(len(match[0]))

    while (outer := _FUNCTION.sub(alias, text)) != text:  # next(charge(rescale)): from the inside
        text = outer
    return text


def unaliased(name: str) -> str:
    """A name as the user wrote it, such as ``next(u)``, for messages.

    Examples
    --------
    >>> unaliased("next__charge__scale"), unaliased("u")
    ('next(charge(scale))', 'u')
    """
    found = _ALIAS.match(name)
    return f"{found[1]}({unaliased(name[found.end() :])})" if found else name


def normal(text: str) -> str:
    """A text in the normal form in which formulas compare names.

    Python's grammar takes letters of the same meaning for the same letter (Unicode's NFKC): the micro sign for the
    Greek mu, the symbol phi for the letter. All code that declares, records or looks up a name must do the same.

    Examples
    --------
    >>> normal("loss.constants.µ") == "loss.constants.μ", normal("ϕ[0]") == "φ[0]", normal("x²")
    (True, True, 'x²')
    """

    def name(match: re.Match[str]) -> str:
        return unicodedata.normalize("NFKC", match[0]) if match[0].isidentifier() else match[0]

    return text if text.isascii() else _RUN.sub(name, text)


def normal_keys(table: Mapping[str, T], where: str) -> dict[str, T]:
    """A table whose keys are in the normal form of names, see `normal`.

    Raises
    ------
    InputError
        For two keys that are the same name.

    Examples
    --------
    >>> normal_keys({"µ": 1.0}, "constants") == {"μ": 1.0}
    True
    """
    found = {normal(key): value for key, value in table.items()}
    if len(found) < len(table):
        twice = next(key for key in table if sum(normal(other) == normal(key) for other in table) > 1)
        raise InputError(f"{where}: {normal(twice)!r} is there twice, in two spellings that formulas take for one")
    return found


def check_name(name: str, where: str = "name") -> str:
    """A name in its normal form, if formulas can use it.

    Raises
    ------
    FormulaError
        For a text that is not an identifier, a Python keyword, ``pi``, or the name of a function.

    Examples
    --------
    >>> check_name("theta_1")
    'theta_1'
    """
    if not name.isidentifier():
        raise formula_error(
            f"{name!r} is not a name", name, 0, where, "letters, digits and underscores, no digit first"
        )
    seen = normal(name)
    if keyword.iskeyword(seen) or seen in RESERVED or seen == "pi" or _ALIAS.match(seen):
        raise formula_error(f"the name {name!r} is reserved", name, 0, where, f"another name, such as {name}_0")
    return seen


def split_names(text: str) -> list[str]:
    """The names of a comma-separated list; a comma within an index, as in ``W[0,1]``, does not separate.

    Examples
    --------
    >>> split_names("u, W[0, 1]")
    ['u', 'W[0,1]']
    """
    return [re.sub(r"\s+(?=[^\[]*\])", "", name.strip()) for name in _BETWEEN.split(text)]


def parameter_name(text: str, where: str = "parameter") -> tuple[str, tuple[int, ...]]:
    """Split ``w[3]`` or ``W[6, 4]`` into the name and the numbers.

    Raises
    ------
    FormulaError
        For anything but a name, or a name with one or two whole numbers in brackets.

    Examples
    --------
    >>> parameter_name("W[6, 4]"), parameter_name("w[3]"), parameter_name("w")
    (('W', (6, 4)), ('w', (3,)), ('w', ()))
    """
    name, bracket, rest = text.strip().partition("[")
    if bracket and not re.fullmatch(r"\s*[0-9]{1,9}\s*(,\s*[0-9]{1,9}\s*)?\]", rest):
        raise formula_error(
            f"{text!r} is not a parameter", text, len(name) + 1, where, "a name, or one such as w[3] or W[6,4]"
        )
    return check_name(name, where), tuple(map(int, rest[:-1].split(","))) if bracket else ()
