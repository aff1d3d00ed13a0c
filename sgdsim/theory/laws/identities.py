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
from sgdsim.formulas.expressions import formula_text
from sgdsim.formulas.formula import Formula
from sgdsim.formulas.names import aliased
from sgdsim.formulas.vectors import base_name
from sgdsim.model.observables import Observable
from sgdsim.model.run import Recorder, Run
from sgdsim.prediction import Condition, Function, Moment, NotApplicable, Prediction, require, stored
from sgdsim.theory.law import law, row
from sgdsim.theory.methods.charge_balance import charged_balances
from sgdsim.theory.methods.step_noise import StepNoise
from sgdsim.theory.recorded_names import label_of, name_of

if TYPE_CHECKING:
    import sympy

WINDOW = 64
"""Number of last steps over which the identities are summed: a sum costs some 1 ns for each of these steps."""

MOST_APART = 3
"""Most parameters with all rows each; if there are more, their sum has the rows: every correlation shows in it."""

MOST_VARIANCES = 5
"""Most parameters with at least a row on the variance of each."""

_MOST_DIGITS = 17  # most digits of a denominator: longer fractions are written as decimals
_DIGITS_OF_A_UNIT = 3  # digits of the units in which kicks are added
MOST_TOGETHER = 12
"""Most parameters with a row on the variance of their sum: it has a term for each pair."""

_MOST_PRODUCTS = 2_000  # most products of terms in the square of the sum of all gradients, for a formula not too long

_MOST_TURNING = 20
"""Most terms of a factor that is split into parts of one sign and others."""

_ROUNDING = {"float64": 1e-9, "float32": 1e-4}
"""Tolerance of all rows: squares of a kick may differ by rounding alone, and no sample tells how large that is."""

_FAR = {"float64": 1e10, "float32": 1e4}
"""Sizes of the parameters, in standard deviations of a kick at the start, from which on kicks are made of rounding."""

_MOST_FAR = 0.01
"""Largest share of the trajectories that may be so far out: none of them in 1,000 shows that it is smaller."""

_RESOLUTION = {"mean": 0.02, "surplus": 0.01, "variance": 0.02, "product": 0.01}
_HALF = Fraction(1, 2)


@dataclass(frozen=True)
class _Martingale:
    """A running sum whose mean is zero, and the row on it.

    Parameters
    ----------
    observable
        The observable of the sum.
    kind
        The tested quantity: the ``mean`` of the sum, in standard deviations; for kicks of unit variance its
        ``variance`` over the number of steps; the ``surplus`` of a variance, or of a ``product`` of kicks, over those
        of the others.
    quantity
        The quantity in words for people; empty for a sum that is recorded only.
    others
        Names of observables that the row needs besides.
    """

    observable: Observable
    kind: str
    quantity: str
    others: tuple[str, ...] = ()


def window(run: Run) -> tuple[int, int]:
    """The first and the last of the steps over which the identities are summed."""
    return max(0, run.steps - WINDOW), run.steps


def _martingales(run: Run) -> list[_Martingale]:
    """The sums of a run, without those that have no closed form, or a long one."""
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
        yield partial(_of_loss, run, noise)
    for name, balance in charged_balances(run) if run.loss.formula else []:
        if noise.is_memoryless and not balance.is_translation:
            yield partial(_of_value, run, noise, balance.charge, f"charge_{name}", f"the charge of {name}")


def _makers_of_few(run: Run, noise: StepNoise) -> Iterator[Callable[[], list[_Martingale]]]:
    """Makers of sums for one entry of each of the first matrices or vectors, if the sum of all is too long."""
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
    """Sums of the kick of a parameter, or of the sum of all, and of its square; or only for a row on the variance."""
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
        with suppress(NotApplicable):  # the mean has a row even if the formula of the variance is too long
            surplus = running_sum(run, f"kick_{label}_squared", kick**2 - spread)
            found.append(_Martingale(surplus, "surplus", words, (first.name,)))
    return found


def _kick(run: Run, noise: StepNoise, form: tuple[int, ...]) -> tuple[sympy.Expr, sympy.Expr | None]:
    """The kick of a parameter, or of the sum of all, and its variance, if that is known.

    The kick by a coin, noise with two equally likely values, is in units of its standard deviation. All its squares are
    the same but for rounding, so that its variance must be measured from its sum.
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
    """The standard deviation of a kick at the start, at a rate of 1: in its units small kicks count like large ones.

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
    """Sums of the product of the kicks of two parameters, less its mean."""
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
    """The part of either sign in the factor by which correlated noises would make two gradient entries correlate.

    If noises n and k were wrongly correlated, they would add their covariance times ``(dg_i/dn)*(dg_j/dk)`` to that of
    the entries. If this factor has both signs, its mean may vanish, and with it the mean product of the kicks: as that
    of u does for the slopes n*u + x and k + y. The product times u shows such an error.
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
    """Sums of the change of a parameter's square, or of the norm of all, which show noise that depends on the state."""
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
    """Sums of parameters times the kicks of their gradient, which show noise that depends on the state.

    They serve for steps whose mean is not known.
    """
    import sympy

    products = [run.loss.theta[i] * noise.kicks[i] for i in form if noise.kick_covariance(i, i) != 0]
    if not products:
        return []
    name = run.loss.parameters[form[0]] if len(form) == 1 else "theta"
    observable = running_sum(run, f"drive_{_label(run, form)}", sympy.Add(*products))
    return [_Martingale(observable, "mean", f"mean of {name}*kick of {_words(run, noise, form)}, in std")]


def _of_value(run: Run, noise: StepNoise, value: sympy.Expr, label: str, words: str) -> list[_Martingale]:
    """Sums of a function of the parameters after the step, less its mean: the loss, or the charge of a symmetry."""
    following = dict(zip(run.loss.theta, noise.next, strict=True))
    change = value.xreplace(following) - noise.expectation_after(value)
    return [_Martingale(running_sum(run, f"change_{label}", change), "mean", f"unexplained change of {words}, in std")]


def _of_loss(run: Run, noise: StepNoise) -> list[_Martingale]:
    """Sums of the population loss after the step, less its mean."""
    try:
        return _of_value(run, noise, run.loss.population, "loss", "the loss")
    except InputError as error:
        raise NotApplicable(f"the population loss has no closed form: {error}") from None


def _is_coin(run: Run, form: tuple[int, ...]) -> bool:
    """True if all noise in some entries of the gradient is one coin: a variable with two equally likely values."""
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
        For an expression that is too long for a formula.
    """
    text = exact_text(expression)
    try:
        Formula.parse(aliased(text))
    except InputError as error:
        raise NotApplicable(f"{name} is no formula: {error}") from None
    return Observable(name, text, window(run), "sum")


def exact_text(expression: sympy.Expr) -> str:
    """The text of a formula, in which fractions of many digits are decimals."""
    import sympy

    long = {q: sympy.Float(q, _MOST_DIGITS) for q in expression.atoms(sympy.Rational) if len(str(q.q)) > _MOST_DIGITS}
    return formula_text(expression.xreplace(long))


def _records(run: Run) -> Recorder:
    found = dict.fromkeys(one.observable for one in _martingales(run))
    return Recorder(observables=(*found, _rates(run)[0], _far_out(run)) if found else ())


def _quotient(above: np.ndarray, below: np.ndarray) -> np.ndarray:
    return np.asarray(above / below)


@stored
def _beyond(expected: float, variance: np.ndarray) -> np.ndarray:
    """The part of a measured variance that is more than expected."""
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
    """Averages over the noise of a step, given the state before it. Exact, wherever the state came from.

    For a function f of the state let ``(P f)(theta) = E[f(theta')|theta]``, the mean over the noise of one step. Then

        E f(theta_T) - E f(theta_0) = sum_t E (P f - f)(theta_t),        M = sum_t (f(theta_(t+1)) - (P f)(theta_t))

    at any learning rate, schedule and batch: M is a martingale, of mean zero (Dynkin's formula). M itself is recorded
    along each trajectory, so that the error of its mean comes from the noise in the steps alone, not from f.

    A step without memory has ``theta' = m(theta) + d``, kicks d of covariance V(theta). Rows are

    - f = theta_i: the mean kick;
    - the mean of ``d_i^2 - V_ii`` and ``d_i*d_j - V_ij``: variance and correlation of the kicks;
    - f = theta_i^2, the population loss and the charge of each symmetry, declared or found, which show noise that
      depends on the state it meets; for steps whose mean is not known, theta_i times the kick.

    An optimizer with a memory, with noise of its own, or one that is not linear in the gradient, has kicks of the
    gradient of the batch in place of d. The rates are held against the schedule itself, at their steps. All sums are
    over the last 64 steps. If there are more than three parameters, the sum of all is taken, in whose variance every
    correlation shows, and for up to five also the variance of each. If that sum is too long, as for layers of matrices,
    the first entry of each matrix has rows of its own. In the sum kicks are in units of their standard deviation at the
    start.

    If two noises make kicks correlate by a factor that may have both signs, such as u, the product of the kicks times
    that factor has a row, too: without the factor, the halves of the trajectories with either sign might cancel.

    A mean is resolved to 2 % of the standard deviation of M over the trajectories: to an unknown force that shifts the
    end of the window by 2 % of the spread that noise causes there. A variance is resolved to 1 % of itself; to 2 % if
    the noise is a sign, whose square says nothing: then the variance of the sum is taken. A correlation is resolved to
    0.01.

    A kick is found as a difference. Far out, at parameters of more than 1e10 kicks at the start (1e4 in float32), it is
    made of rounding errors: the rows do not apply if a hundredth of the trajectories end there.

    If these rows agree, the steps are those of the formula: gradient, batch, rate and noise. The rows say nothing about
    the consequences of such steps.
    """
    found = _martingales(run)
    names = {one.observable.name: name_of(run, one.observable) for one in found}
    near = _near(run)
    rows = [_row(run, one, names, near) for one in found if one.quantity]
    require(rows, "no sum of the noise has a closed form of moderate length")
    return [*rows, _of_rates(run)]


def _far_out(run: Run) -> Observable:
    """The observable that is 1 for a trajectory whose parameters are too large for a kick to be seen beside them."""
    loss = run.loss
    bases = dict.fromkeys(map(base_name, loss.parameters))
    size = " + ".join(f"norm2({base})" if loss.shapes[base] else f"{base}**2" for base in bases)
    units = [1.0]
    if len(loss.parameters) <= MOST_APART:
        noise = StepNoise(run)
        with suppress(NotApplicable):
            units = [float(_unit(run, noise, i)) for i in range(len(loss.parameters))]
    return Observable("far_out", f"where({size} > {(_FAR[run.dtype] * min(units)) ** 2!r}, 1, 0)")


def _row(run: Run, one: _Martingale, names: Mapping[str, str], near: Condition) -> Prediction:
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
        assumes=(near,),
        allowed=(_ROUNDING[run.dtype],) * 2,
    )


def _near(run: Run) -> Condition:
    share = Moment("mean", name_of(run, _far_out(run)), run.steps)
    return Condition("few trajectories end where kicks are made of rounding errors", share, high=_MOST_FAR)


def _rates(run: Run) -> tuple[Observable, str]:
    """The observable that sums the rates times the number of their step, and its words for people.

    Without the number of the step if t is a name of the loss.
    """
    formula = "learning_rate" if "t" in run.loss.namespace_names else "learning_rate*(t + 1)"
    return Observable("rates", formula, window(run), "sum"), formula.replace("learning_rate", "rate")


def _of_rates(run: Run) -> Prediction:
    """A row which tests that the learning rates of the steps are those of the schedule."""
    (start, stop), (observable, words) = window(run), _rates(run)
    rates = run.schedule.rates(run.steps)[start:stop]
    predicted = rates.sum() if words == "rate" else rates @ (np.arange(start, stop) + 1.0)
    return row(Moment("mean", name_of(run, observable), run.steps), float(predicted), f"sum of {words}")
