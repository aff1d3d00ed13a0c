"""Learning-rate schedules: the rate as an array over steps.

A schedule is one entry of `SCHEDULES`: its arguments and a formula in ``t``, the number of completed steps,
and ``N``, the number of steps of the run. Anything else is a number or the user's own formula in ``t`` and ``N``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import isfinite

import numpy as np

from sgdsim.errors import InputError, unknown_name
from sgdsim.formula import Formula

_KEY = "optimizer.learning_rate"


@dataclass(frozen=True)
class Family:
    """A named schedule.

    Attributes
    ----------
    arguments
        Argument names with their defaults; None where the user must give one.
    formula
        The rate of step ``t`` (counted from 0) of ``N``, of ``t``, ``N`` and the arguments.
    """

    arguments: Mapping[str, float | None]
    formula: str


SCHEDULES: dict[str, Family] = {
    "constant": Family({"rate": None}, "rate"),
    "linear": Family({"start": None, "end": 0.0}, "start + (end - start)*t/N"),
    "cosine": Family({"start": None, "end": 0.0}, "end + (start - end)*(1 + cos(pi*t/N))/2"),
    "exponential": Family({"start": None, "decay_steps": None}, "start*exp(-t/decay_steps)"),
}


@dataclass(frozen=True)
class Schedule:
    """A learning rate over the steps of a run.

    Parameters
    ----------
    text
        A number, ``name:arg,arg`` for a named schedule, or a formula in ``t`` and ``N``.

    Examples
    --------
    >>> Schedule("linear:0.1,0").rates(4)
    array([0.1  , 0.075, 0.05 , 0.025])
    """

    text: str

    def check(self) -> None:
        """Refuse what no number of steps makes a schedule.

        Raises
        ------
        InputError
            For an unknown schedule, bad arguments, or a formula with other names than ``t`` and ``N``.
        """
        formula, arguments = self._formula()
        formula.require({"t", "N", *arguments})

    def rates(self, steps: int) -> np.ndarray:
        """The rate of each step, shape (steps,), float64.

        Raises
        ------
        InputError
            As `check`, and for a rate that is not finite and positive.
        """
        formula, arguments = self._formula()
        values = {**arguments, "t": np.arange(steps, dtype=np.float64), "N": float(steps)}
        rates = np.array(np.broadcast_to(formula.evaluate(values), steps), dtype=np.float64)
        bad = ~((rates > 0) & np.isfinite(rates))
        if bad.any():
            step = int(bad.argmax())
            problem = f"{self.text!r} is {rates[step]} at step {step}"
            raise InputError(f"{_KEY}: {problem}, expected a finite positive number")
        return rates

    def _formula(self) -> tuple[Formula, dict[str, float]]:
        """The schedule's formula, with the arguments of a named one."""
        name, colon, rest = (part.strip() for part in self.text.partition(":"))
        if not colon:
            return Formula.parse(self.text, where=_KEY), {}
        if name not in SCHEDULES:
            raise InputError(f"{_KEY}: {unknown_name('schedule', name, SCHEDULES)}")
        family = SCHEDULES[name]
        defaults = list(family.arguments.values())
        try:
            given = [float(part) for part in rest.split(",")]
        except ValueError:
            given = []
        arguments = [*given, *defaults[len(given) :]]
        numbers = [value for value in arguments if value is not None and isfinite(value)]
        if not len(numbers) == len(arguments) == len(defaults):
            usage = f"{name}:{','.join(family.arguments)}"
            raise InputError(f"{_KEY}: {self.text!r}, expected {usage} with finite numbers")
        return Formula.parse(family.formula, where=_KEY), dict(zip(family.arguments, numbers, strict=True))
