"""States: variables that a trajectory carries beside its parameters, updated once in every step.

All formulas of a step, those of directions and of states, use the values before the step; the states are updated
together with the parameters. So ``last = x`` is x one step ago, and ``before = last`` is x two steps ago. As in
observables of a step, ``next(x)`` is the parameter after it, ``gradient(x)`` the gradient of the batch, and ``t`` the
number of completed steps before it; ``next(s)`` is the new value of a state that is declared earlier.
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
    """A state of a trajectory: the formula of its next value, and its start.

    Parameters
    ----------
    formula
        Value after a step, a formula of the values before it.
    start
        Value before the first step, a formula of the starts of the parameters and of constants.

    Raises
    ------
    InputError
        For an argument of the wrong type.

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
        """State of a text ``formula`` or ``formula; start=formula``.

        Parameters
        ----------
        text
            The formula of the next value, perhaps with the start.
        where
            Name of the state, for messages.

        Returns
        -------
        State
            The state.

        Raises
        ------
        InputError
            For a text of another form, or with a formula that cannot be read.
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
    """Names of the coordinates of a state; ``trace[3]`` declares three.

    Raises
    ------
    InputError
        For a vector or a matrix without coordinates, or with too many.

    Examples
    --------
    >>> state_coordinates("trace"), state_coordinates("trace[2]")
    (('trace',), ('trace[0]', 'trace[1]'))
    """
    return spread(name, (), f"loss.state.{name}")
