"""A run as legs, steps at one learning rate each, and the operators of its legs on a mesh.

Steps at one rate have one operator, whose powers are made by squaring if that is less work. If the rate changes all the
time, a leg has the mean rate of a few steps, and its operator is interpolated by a polynomial in the rate through a few
operators: the mean of a smooth function after a step is smooth in the rate. Probability that leaves the mesh goes to a
state of its own, so that the chance of leaving is one more expectation.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from sgdsim.base import budget
from sgdsim.prediction import require
from sgdsim.theory.chain.mesh import Mesh
from sgdsim.theory.chain.operator import backward_operator
from sgdsim.theory.chain.step import Step
from sgdsim.theory.quadrature.rules import Level

_SMALL = 0.05  # rate, in units of the mean rate, below which rates count as equal
_CHANGE = 0.2  # largest relative change of the rate within a leg
_SPARSE = 0.3  # share of non-zero entries below which matrices are stored as sparse ones
_SECONDS_A_SQUARE = 6e-11  # to square a matrix, divided by the cube of its size
_SECONDS_AN_ENTRY = 1.5e-9  # to multiply an entry of a matrix that is in no cache with a few columns, or to add it
_SECONDS_A_SPARSE_ENTRY = 5e-9  # to multiply an entry of a sparse matrix with a few columns


@dataclass(frozen=True)
class Leg:
    """Consecutive steps at one rate."""

    rate: float
    steps: int


def legs_of(rates: np.ndarray, most: int) -> tuple[Leg, ...]:
    """The legs of a run: consecutive steps at one rate; for more than `most` different rates, legs of rates between.

    In that case the rate of a leg is the mean over its steps. Within a leg it only rises or only falls, and in all legs
    about as much: expectations are off by the square of this change, which meshes of different legs show. The last step
    is a leg by itself, at its own rate.

    Raises
    ------
    NotApplicable
        For a rate that turns too often, or changes too much within a leg, for its mean to stand for it.

    Examples
    --------
    >>> legs_of(np.array([0.2, 0.2, 0.1, 0.1, 0.1]), 2)
    (Leg(rate=0.2, steps=2), Leg(rate=0.1, steps=2), Leg(rate=0.1, steps=1))
    >>> [leg.steps for leg in legs_of(0.1 / np.arange(10, 21), 5)]
    [2, 2, 3, 3, 1]
    """
    before, last = rates[:-1], Leg(float(rates[-1]), 1)
    if not len(before):
        return (last,)
    number = len(np.unique(rates))
    exact = number <= most
    starts = np.flatnonzero(np.diff(before)) + 1 if exact else _starts(before, most, number)
    parts = np.split(before, starts)
    return (*(Leg(float(part[0] if exact else part.mean()), len(part)) for part in parts), last)


def _starts(rates: np.ndarray, most: int, number: int) -> np.ndarray:
    """The steps at which legs begin: after equal changes of the rate, and where it turns."""
    moves = np.sign(np.diff(rates))
    moving = np.flatnonzero(moves)
    turns = moving[1:][moves[moving[1:]] != moves[moving[:-1]]] + 1
    places = np.append(0.0, np.cumsum(np.abs(np.diff(np.log(rates + _SMALL * rates.mean())))))
    change = places[-1] / (most - 1)
    require(
        len(turns) <= most and change <= _CHANGE,
        f"the learning rate takes {number} values, turns {len(turns)} times and changes by {change:.2g} of itself in "
        f"each of {most} legs, expected at most {most} turns and a change of {_CHANGE}; simulate instead",
    )
    leg = np.minimum(places / places[-1] * (most - 1), most - 2).astype(np.int64)
    return np.union1d(np.flatnonzero(np.diff(leg) > 0) + 1, turns)


def rates_of(legs: Sequence[Leg], most: int) -> np.ndarray:
    """The rates at which operators are computed: those of the legs, or `most` Chebyshev points if these are too many.

    Examples
    --------
    >>> rates_of([Leg(0.2, 10), Leg(0.1, 5), Leg(0.1, 1)], 3)
    array([0.1, 0.2])
    >>> rates_of([Leg(rate, 1) for rate in (0.0, 0.1, 0.15, 0.2)], 3)
    array([0. , 0.1, 0.2])
    """
    rates = np.unique([leg.rate for leg in legs])
    if len(rates) <= most:
        return rates
    share = np.sin(np.pi / 2 * np.arange(most) / (most - 1)) ** 2
    return np.asarray(rates[0] + (rates[-1] - rates[0]) * share)


@dataclass(frozen=True, eq=False)
class MeshedRun:
    """A run on a mesh.

    Attributes
    ----------
    step, mesh, level
        The step, the mesh and the quadrature of its operators.
    legs
        The legs of the run.
    rates
        Learning rates at which operators are computed.
    start
        Weights of the start: of the states of the mesh, and last of all beyond it.
    """

    step: Step
    mesh: Mesh
    level: tuple[Level, ...]
    legs: tuple[Leg, ...]
    rates: np.ndarray
    start: np.ndarray

    def operator(self, rate: float) -> Any:
        """The matrix of P at the rate of a leg; sparse if steps are short, as a state then reaches few panels."""
        from scipy.sparse import csr_array

        others = self.rates[:, None] != self.rates
        factors = np.where(others, (rate - self.rates) / np.where(others, self.rates[:, None] - self.rates, 1.0), 1.0)
        found = factors.prod(axis=1) @ self._entries
        size = self.mesh.size + 1
        if self._places is None:
            return found.reshape(size, size)
        return csr_array((found, *self._places), shape=(size, size))

    @cached_property
    def _entries(self) -> np.ndarray:
        """Entries of the operators at `rates`, a row for each, without zeros common to all if they are many."""
        return self._operators[0]

    @cached_property
    def _places(self) -> tuple[np.ndarray, np.ndarray] | None:
        return self._operators[1]

    @cached_property
    def _operators(self) -> tuple[np.ndarray, tuple[np.ndarray, np.ndarray] | None]:
        size = self.mesh.size
        whole = np.zeros((len(self.rates), size + 1, size + 1))
        whole[:, -1, -1] = 1.0
        for one, rate in zip(whole, self.rates, strict=True):
            one[:-1, :-1], one[:-1, -1] = backward_operator(self.step.at(float(rate)), self.mesh, self.level)
        some = (whole != 0).any(axis=0)
        if some.mean() > _SPARSE:
            return whole.reshape(len(whole), -1), None
        pointers = np.append(0, np.cumsum(some.sum(axis=1)))
        return whole[:, some], (np.nonzero(some)[1], pointers)

    def leaves(self, rate: float) -> np.ndarray:
        """The probability of leaving the mesh in a step from each of its states."""
        last = self.operator(rate)[:-1, [-1]]
        return np.asarray(last if isinstance(last, np.ndarray) else last.toarray()).ravel()

    def applied(self, leg: Leg, values: np.ndarray) -> np.ndarray:
        """Expectations of functions of the state after a leg, from each state before it."""
        return _power(self.operator(leg.rate), leg.steps, values)

    def carried(self, leg: Leg, weights: np.ndarray) -> np.ndarray:
        """Weights of the states after a leg, from those before it."""
        return _power(self.operator(leg.rate).T, leg.steps, weights)

    def require_time(self, times: float) -> None:
        """Refuse a run that would take too long, as the time of its first operator tells, `times` over."""
        began = budget.clock()
        size = self.mesh.size
        matrix, _ = backward_operator(self.step.at(float(self.rates[0])), self.mesh, self.level)
        seconds = (budget.clock() - began) * len(self.rates)
        filled = np.count_nonzero(matrix)
        entries = int(filled) if filled < _SPARSE * size**2 else size**2
        seconds += float(np.sum([_plan(size, entries, leg.steps)[1] for leg in self.legs]))
        seconds += len(self.legs) * len(self.rates) * entries * _SECONDS_AN_ENTRY
        steps = sum(leg.steps for leg in self.legs)
        budget.require(times * seconds, f"{steps} steps on a mesh of {size} states")


def _plan(size: int, entries: int, count: int) -> tuple[int, float]:
    """The number of squarings with which a power of a matrix takes the least time, and that time in seconds."""
    costs = [count * entries * (_SECONDS_AN_ENTRY if entries == size**2 else _SECONDS_A_SPARSE_ENTRY)]
    for squares in range(1, count.bit_length()):
        turns = (count >> squares) + squares / 2
        costs.append(squares * size**3 * _SECONDS_A_SQUARE + turns * size**2 * _SECONDS_AN_ENTRY)
    return int(np.argmin(costs)), min(costs)


def _power(matrix: Any, count: int, values: np.ndarray) -> np.ndarray:
    """The product of a power of a matrix with values."""
    squares, _ = _plan(len(values), matrix.size, count)
    if squares and not isinstance(matrix, np.ndarray):
        matrix = matrix.toarray()
    for _ in range(squares):
        budget.check()
        values = matrix @ values if count % 2 else values
        matrix, count = matrix @ matrix, count // 2
    for _ in range(count):
        budget.check()
        values = matrix @ values
    return values
