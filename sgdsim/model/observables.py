"""Observables: named formulas of the state, or of the step, measured over the ensemble.

Plain observables are formulas in the loss's names and in quantities of the loss (`Loss.quantity`): ``loss``, the
population loss, ``population_gradient(u)``, ``hessian_trace``, ``hessian_max``, ``charge(rescale)``.

Running observables are accumulated along each trajectory and are part of the run's state:

- ``window_mean(f, a, b)``, ``window_sum(f, a, b)`` and ``window_max(f, a, b)``, the largest value, over the states
  after steps a + 1 … b; there is no largest value before them,
- ``value_at(f, k)``, the value after k steps; until then it has none,
- ``first_passage(f > g)``, the completed steps when it first holds; until then it has no value.

In these, ``f`` may also contain quantities of the step itself: ``u`` is then the value before the step, ``next(u)`` the
value after it, ``gradient(u)`` the gradient of the batch; the step's noise, ``learning_rate``, and ``t``, the number of
completed steps before it, are known too.

A *control* is a running sum whose mean is exactly zero. It is built for one observable, and makes its estimate sharper;
see `sgdsim.kernels.control_step`.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from math import prod
from typing import TYPE_CHECKING, Any

from sgdsim.base import take
from sgdsim.base.errors import InputError, unknown_name
from sgdsim.formulas.arrays import Shape, described
from sgdsim.formulas.expressions import formula_text
from sgdsim.formulas.formula import Formula
from sgdsim.formulas.names import FUNCTIONS, OF_NAMES, STEP_NAMES, FormulaError, aliased, normal, parameter_name
from sgdsim.formulas.vectors import coordinates

if TYPE_CHECKING:
    from sgdsim.model.loss import Loss

_CALL = re.compile(r"(?P<kind>window_(mean|sum|max)|value_at|first_passage)\s*\((?P<inside>.*)\)", re.DOTALL)
_CALLED = re.compile(r"\b([^\W\d]\w*)\s*\(")

_MOST_ENTRIES = 1024
"""Most entries of a recorded matrix, such as 32 rows of 32; each entry is an observable."""
_KINDS = ("plain", "mean", "sum", "max", "value", "earlier", "passage", "control")
_USAGE = {
    "window_mean": "window_mean(formula, start, stop), steps 0 <= start < stop",
    "window_sum": "window_sum(formula, start, stop), steps 0 <= start < stop",
    "window_max": "window_max(formula, start, stop), steps 0 <= start < stop",
    "value_at": "value_at(formula, step)",
    "first_passage": "first_passage(formula > formula)",
}


@dataclass(frozen=True)
class Observable:
    """A named quantity that is measured over the ensemble.

    Parameters
    ----------
    name
        Its name in files and predictions.
    formula
        A formula of the state or the step. The time of a first passage is the step at which it turns positive.
    window
        Steps ``(a, b)``, if the observable is accumulated over the states after steps a + 1 … b; else None.
    kind
        ``plain``, a value of the present state; ``mean``, ``sum`` or ``max`` over the window; ``value`` at its end;
        ``earlier``, the same for trajectories that are still alive, as the first of a pair of times; ``passage``, the
        first passage; or ``control``, a control variate for the formula. With a window ``plain`` becomes ``mean``.

    Examples
    --------
    >>> mean = Observable.parse("xbar", "window_mean(x, 100, 200)")
    >>> mean
    Observable(name='xbar', formula='x', window=(100, 200), kind='mean')
    >>> mean.is_running, sorted(mean.names)
    (True, ['x'])
    >>> from sgdsim.model.losses import CATALOGUE
    >>> Observable.parse("squares", "window_sum(gradient(x)**2, 0, 100)").is_of_step(CATALOGUE["double_well"]())
    True
    """

    name: str
    formula: str
    window: tuple[int, int] | None = None
    kind: str = "plain"

    def __post_init__(self) -> None:
        take.settle(
            self,
            "observable",
            name=take.text,
            formula=take.text,
            window=take.optional(_window),
            kind=take.one_of("kind", _KINDS),
        )
        object.__setattr__(self, "name", normal(self.name))
        object.__setattr__(self, "formula", normal(self.formula))
        if self.window and self.kind == "plain":
            object.__setattr__(self, "kind", "mean")

    @classmethod
    def parse(cls, name: str, text: str) -> Observable:
        """Observable of a formula or a call such as ``window_mean(x, 100, 200)``.

        Parameters
        ----------
        name
            Its name in files and predictions.
        text
            A formula, or one of ``window_mean(f, a, b)``, ``window_sum(f, a, b)``, ``window_max(f, a, b)``,
            ``value_at(f, k)`` and ``first_passage(f > g)``.

        Returns
        -------
        Observable
            The observable.

        Raises
        ------
        InputError
            For a name or formula that cannot be used, or a window that is not two increasing step counts.
        """
        where = f"record.observables.{take.text(name, 'the name of an observable')}"
        text = formula_text(text, where)
        parameter_name(name, where)
        kind = next((kind for kind in _USAGE if re.search(rf"\b{kind}\s*\(", text)), None)
        if kind is None:
            _check_calls(text, where)
            return cls(name, _checked(text, where))
        match = _CALL.fullmatch(text.strip())
        parsed = _running(match["kind"], match["inside"]) if match else None
        if parsed is None:
            raise InputError(f"{where}: {text!r}, expected {_USAGE[kind]}")
        kind, formula, window = parsed
        return cls(name, _checked(formula, where), window, kind)

    @property
    def is_running(self) -> bool:
        """True if the observable is accumulated along each trajectory."""
        return self.kind != "plain"

    @property
    def last_step(self) -> int | None:
        """Completed steps after which the value stays, even if the trajectory diverges; None if it does not stay.

        Examples
        --------
        >>> Observable.parse("early", "value_at(x, 2)").last_step, Observable("x2", "x**2").last_step
        (2, None)
        """
        return None if self.window is None or self.kind == "earlier" else self.window[1]

    @property
    def names(self) -> frozenset[str]:
        """Names in the formula; ``next(u)`` is written ``next__u``."""
        return Formula.parse(aliased(self.formula)).names

    def is_of_step(self, loss: Loss) -> bool:
        """Tell whether the formula contains quantities of a step, such as its gradient or noise, not of a state alone.

        Parameters
        ----------
        loss
            The loss whose names the formula uses.

        Returns
        -------
        bool
            True for a quantity of a step.
        """
        if self.kind == "control":
            return True
        names = self.names
        of_step = names & loss.varying | (names & STEP_NAMES) - loss.namespace_names
        return bool(of_step) or any(name.startswith(("next__", "gradient__")) for name in names)

    def written_out(self, words: Mapping[str, Shape]) -> Iterator[Observable]:
        """The observable itself, or one observable for each entry if its formula is a vector or a matrix.

        Parameters
        ----------
        words
            The shape of each name that formulas may use; see `Loss.words`.

        Yields
        ------
        Observable
            The observable, or that of the next entry, row by row.

        Raises
        ------
        InputError
            For too many entries.

        Examples
        --------
        >>> [str(one) for one in Observable.parse("k", "window_mean(w, 0, 9)").written_out({"w": (2,)})]
        ['window_mean((w)[0], 0, 9)', 'window_mean((w)[1], 0, 9)']
        """
        shape: Shape = ()
        formula = Formula.parse(aliased(self.formula))
        if self.kind not in ("passage", "control") and formula.names <= {*words, "pi"}:
            with suppress(FormulaError):  # a formula that cannot be read is reported where it is computed
                shape = formula.shape(words)
        if prod(shape) > _MOST_ENTRIES:
            where, found = f"record.observables.{self.name}", described(shape)
            raise InputError(f"{where}: {found}, {prod(shape):,} observables, expected at most {_MOST_ENTRIES}")
        for name in coordinates(self.name, shape):
            index = name.removeprefix(self.name)
            yield replace(self, name=name, formula=f"({self.formula}){index}") if index else self

    def __str__(self) -> str:
        if self.kind in ("plain", "control"):
            return self.formula
        if self.kind == "passage":
            return f"first_passage({self.formula} > 0)"
        start, stop = self.window or (0, 0)
        if self.kind in ("value", "earlier"):
            return f"value_at({self.formula}, {stop})"
        return f"window_{self.kind}({self.formula}, {start}, {stop})"


def _check_calls(text: str, where: str) -> None:
    """Refuse a misspelt call of the functions that only observables have, such as ``window_mean``."""
    calls = {*_USAGE, *OF_NAMES}
    for called in _CALLED.findall(text):
        known = {*FUNCTIONS, *calls}
        if called not in known and calls.intersection(difflib.get_close_matches(called, known, n=1)):
            raise InputError(f"{where}: {unknown_name('function', called, known)}")


def _window(value: Any, where: str) -> tuple[int, int]:
    steps = take.each(take.whole)(value, where)
    if len(steps) != 2 or steps[0] >= steps[1]:
        raise take.refused(value, where, "two steps, the first one before the second")
    return steps[0], steps[1]


STOPPED = ("stopped_at", "stopped_by")
"""Names of two observables of a trajectory that may end early: the number of completed steps at its end (no value until
then), and the number of the bound that it passed, counted from 1 (0 until then)."""


def bound(text: str, where: str = "run.stop") -> Observable:
    """The first passage at which a trajectory ends, from a text such as ``x > 1``.

    Raises
    ------
    InputError
        If the text is not two formulas with ``<`` or ``>`` between them.

    Examples
    --------
    >>> bound("x < 1").formula
    '1 - (x)'
    """
    parsed = _running("first_passage", take.text(text, where))
    if parsed is None:
        raise InputError(f"{where}: {text!r}, expected formula > formula, e.g. x > 1")
    return Observable("passage", _checked(parsed[1], where), None, "passage")


def control_for(name: str, formula: str) -> Observable:
    """The control of an observable.

    Examples
    --------
    >>> control_for("w[0]", "w[0]").name
    'control_w_0'
    """
    label = re.sub(r"\W+", "_", name).strip("_")
    return Observable(f"control_{label}", formula, kind="control")


def _checked(formula: str, where: str) -> str:
    Formula.parse(aliased(formula), where=where)
    return formula.strip()


def _running(kind: str, inside: str) -> tuple[str, str, tuple[int, int] | None] | None:
    """Kind, formula and window of a running observable; None if its arguments cannot be read."""
    if kind == "first_passage":
        sides = re.split(r"([<>])", inside)
        if len(sides) != 3 or not (sides[0].strip() and sides[2].strip()):
            return None
        low, high = (sides[0], sides[2]) if sides[1] == "<" else (sides[2], sides[0])
        return "passage", high.strip() if low.strip() == "0" else f"{high.strip()} - ({low.strip()})", None
    if kind == "value_at":
        formula, _, step = inside.rpartition(",")
        stop = _step(step)
        return ("value", formula, (stop - 1, stop)) if formula.strip() and stop >= 0 else None
    formula, *steps = inside.rsplit(",", 2)
    window = tuple(map(_step, steps))
    if len(window) != 2 or not 0 <= window[0] < window[1]:
        return None
    return kind.removeprefix("window_"), formula, (window[0], window[1])


def _step(text: str) -> int:
    """A number of steps, also written as 1e3; -1 if the text is not one."""
    try:
        number = float(text)
    except ValueError:
        return -1
    return int(number) if number.is_integer() else -1


def late(observable: Observable, steps: int) -> Observable:
    """A plain observable, averaged over the last half of a run: a sharper estimate of a stationary mean.

    Examples
    --------
    >>> late(Observable("energy", "x**2/2"), 100)
    Observable(name='late_energy', formula='x**2/2', window=(50, 100), kind='mean')
    """
    return Observable(f"late_{observable.name}", observable.formula, (steps // 2, steps))
