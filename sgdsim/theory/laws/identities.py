"""Dynkin's formula: exact identities for any loss, start, rate, schedule, batch and optimizer."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from sgdsim.base import budget
from sgdsim.model.observables import Observable
from sgdsim.model.run import Recorder, Run
from sgdsim.prediction import Function, Moment, NotApplicable, Prediction, require
from sgdsim.theory.law import law, row
from sgdsim.theory.methods.step_noise import StepNoise
from sgdsim.theory.recorded_names import label_of, name_of

if TYPE_CHECKING:
    import sympy

WINDOW = 64
"""Steps over which the identities are summed, the last ones: a sum costs some 1 ns for each of these steps."""

MOST_APART = 3
"""Parameters of which each has its rows; of more the sum of all has them, in which every correlation shows."""

_MOST_OPERATIONS = 2_000  # of a formula that is evaluated at each step
_MOST_DIGITS = 17
_OF_FLUCTUATION = 0.02
_OF_VARIANCE = 0.01
_OF_COIN = 0.02
_HALF = Fraction(1, 2)


@dataclass(frozen=True)
class _Martingale:
    """A running sum whose mean is zero.

    Parameters
    ----------
    observable
        What is recorded.
    kind
        ``kick``, ``square``, ``product`` or ``change``; of a kick of one magnitude ``bracket``, what its sum has for a
        variance.
    quantity
        For people.
    scale
        Names of the observables of kind ``kick`` in whose standard deviations a product is judged.
    """

    observable: Observable
    kind: str
    quantity: str
    scale: tuple[str, ...] = ()


def _window(run: Run) -> tuple[int, int]:
    return max(0, run.steps - WINDOW), run.steps


def _martingales(run: Run) -> list[_Martingale]:
    """The sums of a run; those that have no closed form, or a long one, are left out."""
    noise = StepNoise(run)
    found: list[_Martingale] = []
    for make in _makers(run, noise):
        budget.check()
        try:
            found += make()
        except NotApplicable:
            continue
    return found


def _makers(run: Run, noise: StepNoise) -> Iterator[Callable[[], list[_Martingale]]]:
    n = len(run.loss.parameters)
    forms = [(i,) for i in range(n)] if n <= MOST_APART else [tuple(range(n))]
    for form in forms:
        yield partial(_of_form, run, noise, form)
    for i, j in itertools.combinations(range(n), 2) if n <= MOST_APART else ():
        yield partial(_of_pair, run, noise, i, j)
    if noise.is_memoryless:
        for form in forms:
            yield partial(_of_square, run, noise, form)
        if run.loss.formula:
            yield partial(_of_loss, run, noise)


def _of_form(run: Run, noise: StepNoise, form: tuple[int, ...]) -> list[_Martingale]:
    """The kick of a parameter, or of the sum of all, and its square."""
    import sympy

    kick = sympy.Add(*(noise.kicks[i] for i in form))
    label, words = _label(run, form), _words(run, noise, form)
    first = _sum(run, f"kick_{label}", kick)
    found = [_Martingale(first, "kick", f"mean kick of {words}, in std")]
    try:
        spread = sympy.Add(*(noise.kick_covariance(i, j) for i in form for j in form))
    except NotApplicable:
        return found
    if spread == 0:
        return []
    words = f"variance of kicks of {words} over theory's"
    if _is_coin(run, form):  # its squares are all the same, and tell of nothing but rounding
        second = _sum(run, f"kick_{label}_variance", spread)
        found.append(_Martingale(second, "bracket", words, (first.name,)))
    elif all(noise.has_fourth_moments(i) for i in form):
        second = _sum(run, f"kick_{label}_squared", kick**2 - spread)
        found.append(_Martingale(second, "square", words, (first.name,)))
    return found


def _of_pair(run: Run, noise: StepNoise, i: int, j: int) -> list[_Martingale]:
    first, second = (_label(run, (k,)) for k in (i, j))
    if 0 in (noise.kick_covariance(i, i), noise.kick_covariance(j, j)) or _is_coin(run, (i, j)):
        return []
    product = noise.kicks[i] * noise.kicks[j] - noise.kick_covariance(i, j)
    words = f"correlation of kicks of {_words(run, noise, (i,))}, {_words(run, noise, (j,))} less theory's"
    both = f"kick_{first}", f"kick_{second}"
    return [_Martingale(_sum(run, f"kick_{first}_{second}", product), "product", words, both)]


def _of_square(run: Run, noise: StepNoise, form: tuple[int, ...]) -> list[_Martingale]:
    """The square of a parameter, or of the norm of all: whether noise knows of the state that it meets."""
    import sympy

    label = _label(run, form)
    parts = [noise.next[i] ** 2 - noise.means[i] ** 2 - noise.kick_covariance(i, i) for i in form]
    if sympy.Add(*(noise.kick_covariance(i, i) for i in form)) == 0:
        return []
    words = f"{run.loss.parameters[form[0]]}^2" if len(form) == 1 else "|theta|^2"
    observable = _sum(run, f"change_{label}_squared", sympy.Add(*parts))
    return [_Martingale(observable, "change", f"unexplained change of {words}, in std")]


def _of_loss(run: Run, noise: StepNoise) -> list[_Martingale]:
    value = run.loss.population
    following = dict(zip(run.loss.theta, noise.next, strict=True))
    change = value.xreplace(following) - noise.expectation_after(value)
    quantity = "unexplained change of the loss, in std"
    return [_Martingale(_sum(run, "change_loss", change), "change", quantity)]


def _is_coin(run: Run, form: tuple[int, ...]) -> bool:
    """Whether all noise in these entries of the gradient is one variable with two values of equal probability."""
    loss = run.loss
    used = set[str]().union(*({symbol.name for symbol in loss.gradient[i].free_symbols} for i in form))
    noise, is_single = [loss.noise[name] for name in used & set(loss.noise)], run.optimizer.batch_size == 1
    shares = [[share for _, share in one.atoms()] for one in noise]
    return is_single and not run.optimizer.rule.kick and not used & set(loss.columns) and shares == [[_HALF, _HALF]]


def _label(run: Run, form: tuple[int, ...]) -> str:
    return label_of(run.loss.parameters[form[0]]) if len(form) == 1 else "all"


def _words(run: Run, noise: StepNoise, form: tuple[int, ...]) -> str:
    names = run.loss.parameters[form[0]] if len(form) == 1 else "the sum"
    return names if noise.is_memoryless else f"gradient({names})"


def _sum(run: Run, name: str, expression: sympy.Expr) -> Observable:
    """The sum over the window, if a kernel is not kept long by it."""
    require(expression.count_ops() <= _MOST_OPERATIONS, "is a long formula")
    return Observable(name, _text(expression), _window(run), "sum")


def _text(expression: sympy.Expr) -> str:
    """As a formula, fractions of many digits as decimals."""
    import sympy

    long = {q: sympy.Float(q, _MOST_DIGITS) for q in expression.atoms(sympy.Rational) if len(str(q.q)) > _MOST_DIGITS}
    return str(expression.xreplace(long))


def _records(run: Run) -> Recorder:
    found = [one.observable for one in _martingales(run)]
    return Recorder(observables=(*found, _rates(run)) if found else ())


def _quotient(above: np.ndarray, below: np.ndarray) -> np.ndarray:
    return np.asarray(above / below)


def _as_variance(surplus: np.ndarray, variance: np.ndarray) -> np.ndarray:
    """The measured variance of kicks over that of theory, from their difference and the measured one."""
    return np.asarray(variance / (variance - surplus))


def _as_correlation(surplus: np.ndarray, *deviations: np.ndarray) -> np.ndarray:
    return np.asarray(surplus / np.prod(np.stack(np.broadcast_arrays(*deviations)), axis=0))


@law(
    "identities",
    "exact identities of the noise of every step, for any loss, rate and start",
    source="re-derived; Dynkin's formula",
    holds="any loss and optimizer whose mean gradient is a formula, but for shuffled epochs",
    records=_records,
    automatic=True,
    any_field=True,
)
def identities(run: Run) -> list[Prediction]:
    """What the noise of a step does on average, given the state before it. Exact, wherever the state came from.

    For a function f of the state let ``(P f)(theta) = E[f(theta')|theta]``, the mean over the noise of one step. Then

        E f(theta_T) - E f(theta_0) = sum_t E (P f - f)(theta_t),        M = sum_t (f(theta_t+1) - (P f)(theta_t))

    at any learning rate, schedule and batch: M is a martingale, of mean zero (Dynkin's formula). M itself is recorded
    along each trajectory, so that the error of its mean is that of the noise in the steps alone, and not that of f.

    A step without memory has ``theta' = m(theta) + d``, kicks d of covariance V(theta). Rows are

    - f = theta_i: the mean kick;
    - the mean of ``d_i^2 - V_ii`` and ``d_i*d_j - V_ij``: variance and correlation of the kicks;
    - f = theta_i^2 and the population loss, in which it shows whether noise knows of the state that it meets.

    An optimizer with a memory, or one that is not linear in the gradient, has kicks of the gradient of the batch in
    place of d. The rates are held against the schedule itself, at their steps. All sums are over the last 64 steps. Of
    more than three parameters the sum of all is taken, in whose variance every correlation shows.

    A mean is resolved where 2 % of the standard deviation of M over the trajectories would be seen: an unknown force
    that shifts the end of the window by 2 % of what noise does there. A variance is resolved to 1 % of itself, to 2 %
    where noise is a sign, whose square tells nothing: then the variance of the sum is taken. A correlation is resolved
    to 0.01.

    That these rows agree says that the steps are those of the formula: gradient, batch, rate and noise. It says nothing
    of what follows from such steps.
    """
    rows: list[Prediction] = []
    names: dict[str, str] = {}
    for one in _martingales(run):
        name = names[one.observable.name] = name_of(run, one.observable)
        rows.append(_row(run, one, name, tuple(names[kick] for kick in one.scale)))
    require(rows, "no sum of the noise has a closed form of moderate length")
    return [*rows, _of_rates(run)]


def _row(run: Run, one: _Martingale, name: str, kicks: tuple[str, ...]) -> Prediction:
    start, stop = _window(run)
    mean = Moment("mean", name, run.steps)
    conditions = f"steps {start + 1} to {stop}"
    if one.kind == "bracket":
        moments = (Moment("variance", kicks[0], run.steps), mean)
        measure, value, resolution = Function("variance ratio", _quotient, moments), 1.0, _OF_COIN
    elif one.kind == "square":
        moments = (mean, Moment("variance", kicks[0], run.steps))
        measure, value, resolution = Function("variance ratio", _as_variance, moments), 1.0, _OF_VARIANCE
    elif one.kind == "product":
        spreads = (Moment("std", kick, run.steps) for kick in kicks)
        measure, value = Function("correlation", _as_correlation, (mean, *spreads)), 0.0
        resolution = _OF_VARIANCE
    else:
        moments = (mean, Moment("std", name, run.steps))
        measure, value, resolution = Function("mean over std", _quotient, moments), 0.0, _OF_FLUCTUATION
    return row(measure, value, one.quantity, resolution=resolution, conditions=conditions)


def _rates(run: Run) -> Observable:
    return Observable("rates", "learning_rate*(t + 1)", _window(run), "sum")


def _of_rates(run: Run) -> Prediction:
    """Whether the rates are those of the schedule, at their steps: what theory knows without the steps."""
    start, stop = _window(run)
    steps = np.arange(start, stop) + 1.0
    predicted = float(run.schedule.rates(run.steps)[start:stop] @ steps)
    return row(Moment("mean", name_of(run, _rates(run)), run.steps), predicted, "sum of rate*(t + 1)")
