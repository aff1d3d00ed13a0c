"""Calls of functions that formulas lack, such as ``mean(x)`` in a claim: each becomes a name whose value is given.

The name is as long as the call, so that an error message points at the right column. Messages show the call itself.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np

from sgdsim.base.errors import unknown_name
from sgdsim.formulas.arrays import Shape
from sgdsim.formulas.formula import Formula
from sgdsim.formulas.names import FUNCTIONS, FormulaError, formula_error
from sgdsim.formulas.walker import NUMBERS

_CALLED = re.compile(r"(?<![\w.])([^\W\d]\w*)\s*\(")


@dataclass(frozen=True)
class Call:
    """One call in a formula.

    Parameters
    ----------
    function, arguments
        The function and its arguments, as they are written.
    text
        The whole call.
    column
        Position of the call in the formula, counted from 0.
    """

    function: str
    arguments: tuple[str, ...]
    text: str
    column: int


@dataclass(frozen=True)
class WithCalls:
    """A formula in which names stand for calls.

    Parameters
    ----------
    text
        The formula as it was written.
    formula
        The formula with the names.
    calls
        The call that each name stands for.
    where
        Name of the formula, for messages.

    Examples
    --------
    >>> found = WithCalls.parse("log(mean(x)) - 2*quantile(y, 0.9)", ("mean", "quantile"))
    >>> found.formula.text
    'log(_mean0_) - 2*_quantile1______'
    >>> [(call.function, call.arguments) for call in found.calls.values()]
    [('mean', ('x',)), ('quantile', ('y', '0.9'))]
    """

    text: str
    formula: Formula
    calls: Mapping[str, Call]
    where: str

    @classmethod
    def parse(
        cls, text: str, functions: Collection[str], *, where: str = "formula", kind: str = "function"
    ) -> WithCalls:
        """Read a formula with calls of the given functions; a call within a call is part of its arguments.

        Raises
        ------
        FormulaError
            For a bracket that is not closed, an unknown function, and whatever `Formula.parse` refuses.
        """
        text = re.sub(r"\s", " ", text).strip()
        calls: dict[str, Call] = {}
        without, end = "", 0
        for match in _CALLED.finditer(text):
            function, start = match[1], match.start()
            if function not in functions and function not in FUNCTIONS and start >= end:
                known = [*functions, *FUNCTIONS]
                raise formula_error(unknown_name(kind, function, known), text, start, where)
            if function not in functions or start < end:
                continue
            arguments, stop = _arguments(text, match.end(), where)
            name = f"_{function}{len(calls)}".ljust(stop - start, "_")
            while name in text:
                name += "_"
            calls[name] = Call(function, arguments, text[start:stop], start)
            without, end = without + text[end:start] + name, stop
        with _as_written(calls):
            return cls(text, Formula.parse(without + text[end:], where=where), calls, where)

    @property
    def names(self) -> frozenset[str]:
        """The names outside of calls."""
        return self.formula.names - self.calls.keys()

    def fail(self, call: Call, problem: str, expected: str = "") -> FormulaError:
        """Error that points at a call."""
        return formula_error(problem, self.text, call.column, self.where, expected)

    def require(self, known: Collection[str]) -> None:
        """Refuse names that are not known; see `Formula.require`."""
        with _as_written(self.calls):
            self.formula.require({*known, *self.calls})

    def require_number(self, shapes: Mapping[str, Shape]) -> None:
        """Refuse unknown names, shapes that do not fit and a result that is an array, given the shapes of all names."""
        with _as_written(self.calls):
            self.formula.require(shapes)
            self.formula.shape(shapes, vector=False)

    def evaluate(self, values: Mapping[str, Any]) -> float:
        """The value for given values of names and calls; see `Formula.evaluate`."""
        with _as_written(self.calls):
            return float(self.formula.evaluate(values))

    def of_arrays(self, values: Mapping[str, Any]) -> np.ndarray:
        """The values for arrays of arguments; not finite where the formula has no value."""
        return np.asarray(self.formula.in_algebra(values, NUMBERS))


@contextmanager
def _as_written(calls: Mapping[str, Call]) -> Iterator[None]:
    """Show calls, not the names that stand for them, in the message of an error in the block."""
    try:
        yield
    except FormulaError as error:
        text = str(error)
        for name, call in reversed(list(calls.items())):
            text = text.replace(name, call.text)
        shown = FormulaError(text)
        shown.column = error.column
        raise shown from None


def _arguments(text: str, start: int, where: str) -> tuple[tuple[str, ...], int]:
    """Arguments of a call, split at its commas, and the position after its closing bracket."""
    depth, arguments, begin = 1, [], start
    for place in range(start, len(text)):
        depth += (text[place] in "([") - (text[place] in ")]")
        if depth == 0 or (depth == 1 and text[place] == ","):
            arguments.append(text[begin:place].strip())
            begin = place + 1
        if depth == 0:
            return tuple(arguments), place + 1
    raise formula_error("'(' was never closed", text, start - 1, where)
