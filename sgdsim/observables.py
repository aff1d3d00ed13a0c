"""Observables: named formulas of the state, measured over the ensemble.

Plain observables are formulas in the loss's names and ``loss``, the population loss. A running observable
``window_mean(formula, a, b)`` is the mean of its formula over the states after steps a + 1 … b along each
trajectory; it is part of the run's state.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from sgdsim.errors import InputError
from sgdsim.formula import Formula, check_name

_WINDOW = re.compile(r"window_mean\s*\((?P<formula>.*),(?P<start>[^,()]*),(?P<stop>[^,()]*)\)", re.DOTALL)


@dataclass(frozen=True)
class Observable:
    """One named quantity.

    Parameters
    ----------
    name
        What it is called in files and predictions.
    formula
        A formula of the state.
    window
        ``(a, b)`` for a running mean over the states after steps a + 1 … b, else None.

    Examples
    --------
    >>> Observable.parse("xbar", "window_mean(x, 100, 200)")
    Observable(name='xbar', formula='x', window=(100, 200))
    """

    name: str
    formula: str
    window: tuple[int, int] | None = None

    @classmethod
    def parse(cls, name: str, text: str) -> Observable:
        """Read an observable as the user writes it.

        Raises
        ------
        InputError
            For a name or formula that cannot be used, or a window that is not two increasing step counts.
        """
        where = f"record.observables.{name}"
        check_name(name, where=where)
        if "window_mean" not in text:
            Formula.parse(text, where=where)
            return cls(name, text.strip())
        match = _WINDOW.fullmatch(text.strip())
        window = (_step(match["start"]), _step(match["stop"])) if match else (0, 0)
        if match is None or not 0 <= window[0] < window[1]:
            raise InputError(f"{where}: {text!r}, expected window_mean(formula, start, stop), steps 0 <= start < stop")
        Formula.parse(match["formula"], where=where)
        return cls(name, match["formula"].strip(), window)

    def __str__(self) -> str:
        if self.window is None:
            return self.formula
        return f"window_mean({self.formula}, {self.window[0]}, {self.window[1]})"


def _step(text: str) -> int:
    """A step count, also written 1e3; -1 for anything else."""
    try:
        number = float(text)
    except ValueError:
        return -1
    return int(number) if number.is_integer() else -1
