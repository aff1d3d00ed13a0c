"""States: what a trajectory remembers beside its parameters, updated once in every step.

All formulas of a step, directions and states alike, read the values before it; the states take their next values
together with the parameters. So ``last = x`` is x one step ago, and ``before = last`` is x two steps ago. In the words
of the observables of a step, ``next(x)`` is the parameter after it, ``gradient(x)`` the gradient of the batch, and
``t`` counts the completed steps before it; ``next(s)`` is the next value of a state that stands before.
"""

from __future__ import annotations

from dataclasses import dataclass

from sgdsim.base import take
from sgdsim.base.errors import InputError
from sgdsim.formulas.formula import Formula
from sgdsim.formulas.names import aliased, normal
from sgdsim.formulas.vectors import spread


@dataclass(frozen=True)
class State:
    """The next value of a state, and where it starts.

    Parameters
    ----------
    formula
        Its value after a step.
    start
        Its value before the first: a formula of the parameters there, and of constants.

    Examples
    --------
    >>> State.parse("(1 - a)*trace + a*x; start=x")
    State(formula='(1 - a)*trace + a*x', start='x')
    """

    formula: str
    start: str = "0"

    def __post_init__(self) -> None:
        take.settle(self, "state", formula=take.text, start=take.text)

    @classmethod
    def parse(cls, text: str, where: str = "state") -> State:
        """Read a state as the user writes it.

        Raises
        ------
        InputError
            For what is no formula, with a ``start`` or without.
        """
        formula, semicolon, option = normal(take.text(text, where)).partition(";")
        key, equals, start = option.partition("=")
        if semicolon and not (key.strip() == "start" and equals and start.strip()):
            raise InputError(f"{where}: {text!r}, expected a formula, and perhaps its start: trace/2 + x; start=1")
        made = cls(formula.strip(), start.strip() if semicolon else "0")
        for part in (made.formula, made.start):
            Formula.parse(aliased(part), where=where)
        return made

    def __str__(self) -> str:
        return self.formula if self.start == "0" else f"{self.formula}; start={self.start}"


def state_coordinates(name: str) -> tuple[str, ...]:
    """The coordinates of a state, of which ``trace[3]`` has three.

    Raises
    ------
    InputError
        For a vector or a matrix without coordinates, or of too many.

    Examples
    --------
    >>> state_coordinates("trace"), state_coordinates("trace[2]")
    (('trace',), ('trace[0]', 'trace[1]'))
    """
    return spread(name, (), f"loss.state.{name}")
