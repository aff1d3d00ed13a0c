"""Dynkin's formula: exact identities for any loss, start, rate, schedule, batch and optimizer."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from fractions import Fraction
from functools import partial
from math import inf
from typing import TYPE_CHECKING

import numpy as np

from sgdsim.base import budget
from sgdsim.base.errors import InputError
from sgdsim.formulas import evaluation
from sgdsim.formulas.expansion import terms
from sgdsim.formulas.formula import Formula
from sgdsim.formulas.names import aliased
from sgdsim.formulas.vectors import base_name
from sgdsim.model.observables import Observable
from sgdsim.model.run import Recorder, Run
from sgdsim.prediction import Function, Moment, NotApplicable, Prediction, require
from sgdsim.theory.law import law, row
from sgdsim.theory.methods.charge_balance import charged_balances
from sgdsim.theory.methods.step_noise import StepNoise
from sgdsim.theory.recorded_names import label_of, name_of

if TYPE_CHECKING:
    import sympy

WINDOW = 64
"""Steps over which the identities are summed, the last ones: a sum costs some 1 ns for each of these steps."""

MOST_APART = 3
"""Parameters of which each has all its rows; of more the sum of all has them, in which every correlation shows."""

MOST_VARIANCES = 5
"""Parameters of which each has at least a row of its variance."""

_MOST_DIGITS = 17
_DIGITS_OF_A_UNIT = 3
MOST_TOGETHER = 12
"""Parameters of whose sum the variance is taken: it has a term for each pair."""

_MOST_PRODUCTS = 2_000  # of terms, in the square of the sum of all gradients: more are no formula of moderate length

_MOST_TURNING = 20
"""Terms of a factor that is to be split into those of one sign and the others."""

_ROUNDING = {"float64": 1e-9, "float32": 1e-4}
"""Of all rows: the square of a kick may have one value but for rounding, of which no sample tells how large it is."""

_RESOLUTION = {"mean": 0.02, "surplus": 0.01, "variance": 0.02, "product": 0.01}
_HALF = Fraction(1, 2)


@dataclass(frozen=True)
class _Martingale:
    """A running sum whose mean is zero.

    Parameters
    ----------
    observable
        What is recorded.
    kind
        What is told of it: its ``mean``, in standard deviations; of kicks of unit variance its ``variance``, over the
        number of steps; the ``surplus`` of a variance or of a ``product`` of kicks, over those of the others.
    quantity
        For people; empty of what is only recorded.
    others
        Names of observables that its row takes too.
    """

    observable: Observable
    kind: str
    quantity: str
    others: tuple[str, ...] = ()


def window(run: Run) -> tuple[int, int]:
    """The last steps of a run."""
    return max(0, run.steps - WINDOW), run.steps


def _martingales(run: Run) -> list[_Martingale]:
    """The sums of a run; those that have no closed form, or a long one, are left out."""
    noise = StepNoise(run)
    found = _made(_makers(run, noise))
    if len(run.loss.parameters) > MOST_APART and not any(one.kind in ("surplus", "variance") for one in found):
        found += _made(_makers_of_few(run, noise))
    return found


def _made(makers: Iterable[Callable[[], list[_Martingale]]]) -> list[_Martingale]:
    found: list[_Martingale] = []
    for make in makers:
        budget.check()
        try:
            found += make()
        except NotApplicable:
            continue
    return found


def _makers(run: Run, noise: StepNoise) -> Iterator[Callable[[], list[_Martingale]]]:
    n = len(run.loss.parameters)
    apart, together = [(i,) for i in range(n)], tuple(range(n))
    forms = apart if n <= MOST_APART else [together]
    for form in forms:
        yield partial(_of_form, run, noise, form)
    for form in apart if MOST_APART < n <= MOST_VARIANCES else ():
        yield partial(_of_form, run, noise, form, of_variance=True)
    for i, j in itertools.combinations(range(n), 2) if n <= MOST_APART else ():
        yield partial(_of_pair, run, noise, i, j)
    for form in forms:
        yield partial(_of_square if noise.is_memoryless else _of_drive, run, noise, form)
    if noise.is_memoryless and run.loss.formula:
        yield partial(_of_value, run, noise, run.loss.population, "loss", "the loss")
    for name, balance in charged_balances(run) if run.loss.formula else []:
        if noise.is_memoryless and not balance.is_translation:
            yield partial(_of_value, run, noise, balance.charge, f"charge_{name}", f"the charge of {name}")


def _makers_of_few(run: Run, noise: StepNoise) -> Iterator[Callable[[], list[_Martingale]]]:
    """An entry of each of the first matrices or vectors stands for all, where their sum is too long."""
    first: dict[str, int] = {}
    for i, name in enumerate(run.loss.parameters):
        first.setdefault(base_name(name), i)
    few = list(first.values())[:MOST_APART]
    for i in few:
        yield partial(_of_form, run, noise, (i,))
    for i, j in itertools.combinations(few, 2):
        yield partial(_of_pair, run, noise, i, j)
    for i in few:
        yield partial(_of_square if noise.is_memoryless else _of_drive, run, noise, (i,))


def _of_form(run: Run, noise: StepNoise, form: tuple[int, ...], of_variance: bool = False) -> list[_Martingale]:
    """The kick of a parameter, or of the sum of all, and its square; or a row of its variance alone."""
    label, words = _label(run, form), _words(run, noise, form)
    kick, spread = _kick(run, noise, form)
    first = running_sum(run, f"kick_{label}", kick)
    found = [_Martingale(first, "mean", "" if of_variance else f"mean kick of {words}, in std")]
    if spread == 0:
        return []
    words = f"unexplained part of the variance of kicks of {words}"
    if spread == 1:
        found.append(_Martingale(first, "variance", words))
    elif spread is not None and all(noise.has_fourth_moments(i) for i in form):
        with suppress(NotApplicable):  # the mean has a row, though the variance be too long
            surplus = running_sum(run, f"kick_{label}_squared", kick**2 - spread)
            found.append(_Martingale(surplus, "surplus", words, (first.name,)))
    return found


def _kick(run: Run, noise: StepNoise, form: tuple[int, ...]) -> tuple[sympy.Expr, sympy.Expr | None]:
    """The kick of a parameter, or of the sum of all, and its variance, if that is known.

    A coin's is in units of its standard deviation: its squares are all the same and tell of nothing but rounding, so
    that its variance must be had from its sum.
    """
    import sympy

    if len(form) > MOST_TOGETHER or sum(terms(run.loss.gradient[i]) for i in form) ** 2 > _MOST_PRODUCTS:
        return sympy.Add(*(noise.kicks[i] for i in form)), None
    units = [_unit(run, noise, i) if len(form) > 1 else sympy.Integer(1) for i in form]
    kick = sympy.Add(*(noise.kicks[i] / unit for i, unit in zip(form, units, strict=True)))
    pairs = itertools.product(zip(form, units, strict=True), repeat=2)
    try:
        spread = sympy.Add(*(noise.kick_covariance(i, j) / (one * other) for (i, one), (j, other) in pairs))
    except NotApplicable:
        return kick, None
    return (kick / sympy.sqrt(spread), sympy.Integer(1)) if spread != 0 and _is_coin(run, form) else (kick, spread)


def _unit(run: Run, noise: StepNoise, i: int) -> sympy.Expr:
    """The standard deviation of a kick at the start, at a rate of 1: in a sum small kicks count like large ones.

    It is a fraction, as products of SymPy's floats of three digits have three digits.
    """
    import sympy

    from sgdsim.formulas.symbolic import exact

    start = {name: one if isinstance(one, float | int) else one.moment(1) for name, one in run.initial.items()}
    values = {**run.loss.constants, **start, noise.rate.name: 1.0}
    try:
        (variance,) = evaluation.evaluate([noise.kick_covariance(i, i)], values)
    except NotApplicable:
        return sympy.Integer(1)
    return exact(float(f"{np.sqrt(variance):.{_DIGITS_OF_A_UNIT}g}")) if 0 < variance < inf else sympy.Integer(1)


def _of_pair(run: Run, noise: StepNoise, i: int, j: int) -> list[_Martingale]:
    """The product of the kicks of two parameters."""
    import sympy

    (first, of_first), (second, of_second) = (_kick(run, noise, (k,)) for k in (i, j))
    if None in (of_first, of_second) or 0 in (of_first, of_second) or _is_coin(run, (i, j)):
        return []
    units = [sympy.sqrt(noise.kick_covariance(k, k)) if _is_coin(run, (k,)) else sympy.Integer(1) for k in (i, j)]
    product = first * second - noise.kick_covariance(i, j) / sympy.Mul(*units)
    words = f"unexplained correlation of kicks of {_words(run, noise, (i,))}, {_words(run, noise, (j,))}"
    labels = [_label(run, (k,)) for k in (i, j)]
    name = f"kick_{'_'.join(labels)}"
    found = [_Martingale(running_sum(run, name, product), "product", words, tuple(f"kick_{one}" for one in labels))]
    turning = _turning_factor(run, i, j)
    if turning != 1:
        with suppress(NotApplicable):
            weighted = running_sum(run, f"{name}_weighted", turning * product)
            found.append(_Martingale(weighted, "mean", f"{words}, times {turning}, in std"))
    return found


def _turning_factor(run: Run, i: int, j: int) -> sympy.Expr:
    """The part that may be of either sign of the factor by which noises make two entries of the gradient correlate.

    Noises n and k that share what they are made of add their covariance times ``(dg_i/dn)*(dg_j/dk)`` to that of the
    entries. Where this is of both signs its mean may be zero, as that of u in the slopes n*u + x and k + y is, and so
    is what the product of the kicks shows. Times u, it shows.
    """
    import sympy

    loss = run.loss
    at_means = {loss.symbols[name]: noise.moment(1) for name, noise in loss.noise.items()}
    first, second = (
        {name: loss.gradient[k].diff(loss.symbols[name]).xreplace(at_means) for name in loss.noise} for k in (i, j)
    )
    factor = sympy.Add(*(first[one] * second[other] for one, other in itertools.permutations(loss.noise, 2)))
    if factor == 0 or terms(factor) > _MOST_TURNING or factor.free_symbols & {loss.symbols[n] for n in loss.random}:
        return sympy.Integer(1)
    parts = sympy.Mul.make_args(sympy.factor(factor))
    moves = [part for part in parts if part.free_symbols & set(loss.theta)]
    return sympy.Mul(*(part for part in moves if not (part.is_nonnegative or part.is_nonpositive)))


def _of_square(run: Run, noise: StepNoise, form: tuple[int, ...]) -> list[_Martingale]:
    """The square of a parameter, or of the norm of all: whether noise knows of the state that it meets."""
    import sympy

    label = _label(run, form)
    spreads = [noise.step_covariance(i, i) for i in form]
    if not any(spreads):
        return []
    parts = [noise.next[i] ** 2 - noise.means[i] ** 2 - spread for i, spread in zip(form, spreads, strict=True)]
    words = f"{run.loss.parameters[form[0]]}^2" if len(form) == 1 else "|theta|^2"
    observable = running_sum(run, f"change_{label}_squared", sympy.Add(*parts))
    return [_Martingale(observable, "mean", f"unexplained change of {words}, in std")]


def _of_drive(run: Run, noise: StepNoise, form: tuple[int, ...]) -> list[_Martingale]:
    """Parameters times the kicks of their gradient: the same of steps whose mean is not known."""
    import sympy

    products = [run.loss.theta[i] * noise.kicks[i] for i in form if noise.kick_covariance(i, i) != 0]
    if not products:
        return []
    name = run.loss.parameters[form[0]] if len(form) == 1 else "theta"
    observable = running_sum(run, f"drive_{_label(run, form)}", sympy.Add(*products))
    return [_Martingale(observable, "mean", f"mean of {name}*kick of {_words(run, noise, form)}, in std")]


def _of_value(run: Run, noise: StepNoise, value: sympy.Expr, label: str, words: str) -> list[_Martingale]:
    """A function of the parameters after the step, less its mean: the loss, the charge of a symmetry."""
    following = dict(zip(run.loss.theta, noise.next, strict=True))
    change = value.xreplace(following) - noise.expectation_after(value)
    return [_Martingale(running_sum(run, f"change_{label}", change), "mean", f"unexplained change of {words}, in std")]


def _is_coin(run: Run, form: tuple[int, ...]) -> bool:
    """Whether all noise in these entries of the gradient is one variable with two values of equal probability."""
    loss = run.loss
    used = set[str]().union(*({symbol.name for symbol in loss.gradient[i].free_symbols} for i in form))
    noise, is_single = [loss.noise[name] for name in used & set(loss.noise)], run.optimizer.batch_size == 1
    shares = [[share for _, share in one.atoms()] for one in noise]
    return is_single and not used & set(loss.columns) and shares == [[_HALF, _HALF]]


def _label(run: Run, form: tuple[int, ...]) -> str:
    return label_of(run.loss.parameters[form[0]]) if len(form) == 1 else "all"


def _words(run: Run, noise: StepNoise, form: tuple[int, ...]) -> str:
    names = run.loss.parameters[form[0]] if len(form) == 1 else "the sum"
    return f"gradient({names})" if noise.is_of_gradient else names


def running_sum(run: Run, name: str, expression: sympy.Expr) -> Observable:
    """The sum of an expression over the last steps.

    Raises
    ------
    NotApplicable
        For what is too long for a formula.
    """
    text = formula_text(expression)
    try:
        Formula.parse(aliased(text))
    except InputError as error:
        raise NotApplicable(f"{name} is no formula: {error}") from None
    return Observable(name, text, window(run), "sum")


def formula_text(expression: sympy.Expr) -> str:
    """As a formula, fractions of many digits as decimals."""
    import sympy

    from sgdsim.formulas.symbolic import SYMBOLIC

    long = {q: sympy.Float(q, _MOST_DIGITS) for q in expression.atoms(sympy.Rational) if len(str(q.q)) > _MOST_DIGITS}
    return str(expression.xreplace(long).replace(sympy.Abs, SYMBOLIC["abs"]))


def _records(run: Run) -> Recorder:
    found = dict.fromkeys(one.observable for one in _martingales(run))
    return Recorder(observables=(*found, _rates(run)[0]) if found else ())


def _quotient(above: np.ndarray, below: np.ndarray) -> np.ndarray:
    return np.asarray(above / below)


def _beyond(expected: float, variance: np.ndarray) -> np.ndarray:
    """What is more than expected, in parts of what is measured."""
    return np.asarray(1.0 - expected / variance)


def _as_correlation(surplus: np.ndarray, *deviations: np.ndarray) -> np.ndarray:
    return np.asarray(surplus / np.prod(np.stack(np.broadcast_arrays(*deviations)), axis=0))


@law(
    "identities",
    "exact identities of the noise of every step, for any loss, rate and start",
    source="re-derived; Dynkin's formula",
    holds="any loss whose mean gradient is a formula and is taken at the parameters, but for shuffled epochs",
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
    - f = theta_i^2, the population loss and the charge of each symmetry, declared or found, in which it shows whether
      noise knows of the state that it meets; of steps whose mean is not known, theta_i times the kick.

    An optimizer with a memory, with noise of its own, or one that is not linear in the gradient, has kicks of the
    gradient of the batch in place of d. The rates are held against the schedule itself, at their steps. All sums are
    over the last 64 steps. Of more than three parameters the sum of all is taken, in whose variance every correlation
    shows, and of up to five the variance of each; where that sum is too long, as that of layers of matrices, the first
    entry of each matrix has rows of its own. In the sum kicks are in units of their standard deviation at the start.

    Where two noises make kicks correlate by a factor that may be of both signs, such as u, the product of the kicks has
    a row times that factor, too: without it what one half of the trajectories shows may cancel that of the other.

    A mean is resolved where 2 % of the standard deviation of M over the trajectories would be seen: an unknown force
    that shifts the end of the window by 2 % of what noise does there. A variance is resolved to 1 % of itself, to 2 %
    where noise is a sign, whose square tells nothing: then the variance of the sum is taken. A correlation is resolved
    to 0.01.

    That these rows agree says that the steps are those of the formula: gradient, batch, rate and noise. It says nothing
    of what follows from such steps.
    """
    found = _martingales(run)
    names = {one.observable.name: name_of(run, one.observable) for one in found}
    rows = [_row(run, one, names) for one in found if one.quantity]
    require(rows, "no sum of the noise has a closed form of moderate length")
    return [*rows, _of_rates(run)]


def _row(run: Run, one: _Martingale, names: Mapping[str, str]) -> Prediction:
    start, stop = window(run)

    def moment(statistic: str, name: str) -> Moment:
        return Moment(statistic, names[name], run.steps)

    own = moment("mean", one.observable.name)
    if one.kind == "mean":
        measure = Function("mean over std", _quotient, (own, moment("std", one.observable.name)))
    elif one.kind == "surplus":
        measure = Function("surplus", _quotient, (own, *(moment("variance", kick) for kick in one.others)))
    elif one.kind == "variance":
        measure = Function("surplus", partial(_beyond, stop - start), (moment("variance", one.observable.name),))
    else:
        measure = Function("correlation", _as_correlation, (own, *(moment("std", kick) for kick in one.others)))
    return row(
        measure,
        0.0,
        one.quantity,
        resolution=_RESOLUTION[one.kind],
        conditions=f"steps {start + 1} to {stop}",
        allowed=(_ROUNDING[run.dtype],) * 2,
    )


def _rates(run: Run) -> tuple[Observable, str]:
    """The rates with the steps that they are of, unless t is a name of the loss; what is summed, for people."""
    formula = "learning_rate" if "t" in run.loss.namespace_names else "learning_rate*(t + 1)"
    return Observable("rates", formula, window(run), "sum"), formula.replace("learning_rate", "rate")


def _of_rates(run: Run) -> Prediction:
    """Whether the rates are those of the schedule, at their steps: what theory knows without the steps."""
    (start, stop), (observable, words) = window(run), _rates(run)
    rates = run.schedule.rates(run.steps)[start:stop]
    predicted = rates.sum() if words == "rate" else rates @ (np.arange(start, stop) + 1.0)
    return row(Moment("mean", name_of(run, observable), run.steps), float(predicted), f"sum of {words}")
