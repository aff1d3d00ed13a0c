"""Schedules of the learning rate, which give the rate at each step.

A named schedule is one entry of `SCHEDULES`: its arguments, and a formula in ``t``, the number of completed steps, and
``N``, the number of steps of the run. Other schedules are a number, a formula of the user's own in ``t`` and ``N``, or
a table with the rate of each step.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from math import isfinite

import numpy as np

from sgdsim.base import take
from sgdsim.base.errors import InputError, unknown_name
from sgdsim.base.numbers import to_float
from sgdsim.formulas.formula import Formula

_KEY = "optimizer.learning_rate"
MOST_STEPS = 2**32
"""Most steps of a run: its counter of random numbers has 32 bits for groups of steps."""


_WHOLE = 1e-9
"""Relative deviation up to which a number of steps counts as whole: rates are decimals, which floats round."""


@dataclass(frozen=True)
class Family:
    """A named schedule.

    Attributes
    ----------
    arguments
        Argument names with their defaults; None where the user must give one.
    formula
        The rate at step ``t`` (counted from 0) of ``N``, a formula in ``t``, ``N``, the arguments and ``stage``.
    stage
        A formula in ``t``, ``N`` and the arguments, whose value rounded down is ``stage``; empty if there is none.
    least
        The smallest value that an argument may have, for arguments with a bound.
    """

    arguments: Mapping[str, float | None]
    formula: str
    stage: str = ""
    least: Mapping[str, float] = field(default_factory=dict)


SCHEDULES: dict[str, Family] = {
    "constant": Family({"rate": None}, "rate"),
    "linear": Family({"start": None, "end": 0.0}, "start + (end - start)*t/N"),
    "cosine": Family({"start": None, "end": 0.0}, "end + (start - end)*(1 + cos(pi*t/N))/2"),
    "exponential": Family({"start": None, "decay_steps": None}, "start*exp(-t/decay_steps)"),
    "step": Family(
        {"start": None, "factor": None, "every": None}, "start*factor**stage", stage="t/every", least={"every": 1}
    ),
    "inverse": Family({"start": None, "decay_steps": None}, "start/(1 + t/decay_steps)"),
    # The law fastest-cooling: no schedule cools a mode faster that is stationary at the rate `start`.
    "harmonic": Family({"start": None, "curvature": None}, "start/(2 + t*curvature*start)"),
    # The law best-schedule: the lowest final loss in a river valley; the rate decays over the last `decay` steps.
    "plateau_harmonic": Family(
        {"peak": None, "curvature": None, "decay": None},
        "peak/(1 + curvature*peak*max(0, decay - (N - t)))",
        least={"decay": 0},
    ),
    "polynomial": Family({"start": None, "power": None}, "start*((N - t)/N)**power"),
    # Warm-up, stable, decay. The first step has the rate peak/warmup; the decay ends as the mirror image of that.
    "wsd": Family(
        {"peak": None, "warmup": None, "decay": None, "end": 0.0},
        "min(1, (t + 1)/max(1, warmup))*(end + (peak - end)*min(1, (N - t)/max(1, decay)))",
        least={"warmup": 0, "decay": 0},
    ),
}


@dataclass(frozen=True)
class Schedule:
    """The learning rate over the steps of a run.

    Parameters
    ----------
    text
        A number; a named schedule, ``name:argument,argument``; or a formula in ``t`` (completed steps) and ``N`` (steps
        of the run). With a table, the name of the table.
    table
        The rate of each step, in place of a formula.

    Raises
    ------
    InputError
        For an argument of the wrong type. The text is read, and may be refused, when rates are asked for.

    Examples
    --------
    >>> Schedule("linear:0.1,0").rates(4)
    array([0.1  , 0.075, 0.05 , 0.025])
    >>> Schedule("my rates", table=(0.2, 0.1)).rates(2)
    array([0.2, 0.1])
    >>> Schedule("cosine:0.1,0").check()
    >>> Schedule("cosine:0.1,0").family.arguments
    {'start': None, 'end': 0.0}
    """

    text: str
    table: tuple[float, ...] | None = None

    def __post_init__(self) -> None:
        take.settle(self, "schedule", text=take.text, table=take.optional(take.each(take.real)))

    @property
    def family(self) -> Family | None:
        """The named schedule; a formula of the user's own as a schedule without arguments; None for a table."""
        return None if self.table is not None else self._family()[0]

    def check(self) -> None:
        """Refuse a text or table that is not a schedule, whatever the number of steps.

        Raises
        ------
        InputError
            For an unknown schedule, bad arguments, a formula with other names than ``t`` and ``N``, or a table with a
            rate that is not finite and positive.
        """
        if self.table is not None:
            self.rates(len(self.table))
            return
        family, arguments = self._family()
        known = {"t", "N", *arguments} | ({"stage"} if family.stage else set())
        Formula.parse(family.formula, where=_KEY).require(known)

    def rates(self, steps: int) -> np.ndarray:
        """The learning rate at each step.

        Parameters
        ----------
        steps
            Number of steps of the run.

        Returns
        -------
        numpy.ndarray
            Shape (steps,), float64.

        Raises
        ------
        InputError
            For a text that is not a schedule, a rate that is not finite and positive, and a table of another length.
        """
        steps = take.whole(steps, "steps")
        if not 0 <= steps <= MOST_STEPS:
            raise InputError(f"steps: {steps}, expected a whole number from 0 to {MOST_STEPS}")
        if self.table is not None:
            if len(self.table) != steps:
                raise InputError(f"{_KEY}: {self.text!r} has {len(self.table)} rates, expected {steps}, one a step")
            rates = np.array(self.table, dtype=np.float64)
        else:
            family, arguments = self._family()
            values = {**arguments, "t": np.arange(steps, dtype=np.float64), "N": float(steps)}
            if family.stage:
                values["stage"] = np.floor(Formula.parse(family.stage, where=_KEY).evaluate(values))
            found = Formula.parse(family.formula, where=_KEY).evaluate(values)
            rates = np.array(np.broadcast_to(found, steps), dtype=np.float64)
        bad = ~((rates > 0) & np.isfinite(rates))
        if bad.any():
            step = int(bad.argmax())
            problem = f"{self.text!r} is {rates[step]} at step {step}"
            raise InputError(f"{_KEY}: {problem}, expected a finite positive number")
        return rates

    def steps_in(self, time: float) -> int:
        """The number of steps that take a given time at a constant rate; the time is the sum of the rates.

        Parameters
        ----------
        time
            Sum of the learning rates of all steps, in the units of the learning rate.

        Returns
        -------
        int
            Number of steps.

        Raises
        ------
        InputError
            For a rate that changes, and if no whole number of steps takes this time, apart from rounding.

        Examples
        --------
        >>> Schedule("0.1").steps_in(3.0), Schedule("1/3").steps_in(3.0)
        (30, 9)
        """
        time, family = take.number(time, "time"), self.family
        if family is None or Formula.parse(family.formula, where=_KEY).names & {"t", "N", "stage"}:
            raise InputError(f"run.time: {time:g} with the rate {self.text!r}, expected run.steps, or a constant rate")
        rate = float(self.rates(1)[0])
        steps = round(time / rate)
        if steps < 1 or abs(time / rate - steps) > _WHOLE * steps:
            raise InputError(f"run.time: {time:g} is {time / rate:.6g} steps of {rate:g}, expected a whole number")
        return steps

    def times(self, steps: int) -> np.ndarray:
        """The time after 0, 1, … steps, which is the sum of the learning rates so far.

        Parameters
        ----------
        steps
            Number of steps of the run.

        Returns
        -------
        numpy.ndarray
            Shape (steps + 1,), float64, in the units of the learning rate.

        Examples
        --------
        >>> Schedule("0.1").times(3).tolist()
        [0.0, 0.1, 0.2, 0.30000000000000004]
        """
        steps = take.whole(steps, "steps")
        rates = self.rates(steps)
        if len(rates) and (rates == rates[0]).all():  # a long sum would add up rounding errors
            return np.asarray(rates[0] * np.arange(steps + 1))
        return np.concatenate([[0.0], np.cumsum(rates)])

    def _family(self) -> tuple[Family, dict[str, float]]:
        """The named schedule and its arguments; a formula of the user's own is a schedule without arguments."""
        name, colon, rest = (part.strip() for part in self.text.partition(":"))
        if ";" in self.text or ("," in name and "(" not in name):
            sweep = f"--sweep '{_KEY}=0.1;cosine:0.1,0.001'"
            raise InputError(f"{_KEY}: {self.text!r}, expected one schedule; several are a sweep, {sweep}")
        if not colon:
            return Family({}, self.text), {}
        if name not in SCHEDULES:
            raise InputError(f"{_KEY}: {unknown_name('schedule', name, SCHEDULES)}")
        family = SCHEDULES[name]
        defaults = list(family.arguments.values())
        try:
            given = [to_float(part, _KEY) for part in rest.split(",")]
        except ValueError:
            given = []
        arguments = [*given, *defaults[len(given) :]]
        numbers = [value for value in arguments if value is not None and isfinite(value)]
        if not len(numbers) == len(arguments) == len(defaults):
            usage = f"{name}:{','.join(family.arguments)}"
            raise InputError(f"{_KEY}: {self.text!r}, expected {usage} with finite numbers")
        values = dict(zip(family.arguments, numbers, strict=True))
        for argument, least in family.least.items():
            if values[argument] < least:
                raise InputError(f"{_KEY}: {self.text!r}, expected {argument} from {least}")
        return family, values
