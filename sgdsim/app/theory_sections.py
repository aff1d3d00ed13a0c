"""Results of theory about a run, with a section for each theory.

Sections are independent: a section that does not apply raises the reason, and the others still appear.
"""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import replace
from math import isfinite

import numpy as np

from sgdsim.app.theory_entries import Entry, number
from sgdsim.formulas.differences import jacobian
from sgdsim.formulas.expressions import formula_text
from sgdsim.model.run import Run
from sgdsim.model.symmetry import Symmetry
from sgdsim.prediction import NotApplicable
from sgdsim.theory.methods import charge_balance as balances_of
from sgdsim.theory.methods import gradient_flow, linear_response, symmetry_identities
from sgdsim.theory.methods.entropic_loss import EntropicLoss
from sgdsim.theory.methods.found_symmetries import undeclared
from sgdsim.theory.methods.gibbs import Gibbs
from sgdsim.theory.methods.kesten import multiplier, tail_moments
from sgdsim.theory.methods.minimum_expansion import expansion
from sgdsim.theory.methods.moment_recursion import is_affine, recursion
from sgdsim.theory.quadrature.expectation import Expected

UNDECLARED = "Symmetries that are not declared"
_RESTING = 1e-9  # largest slope at a point that counts as a minimum: the tolerance of the search
_MANY = 8  # number of parameters from which on their covariance takes long to integrate
_SMALL = 3  # largest number of parameters whose matrices are written out


def _last_rate(run: Run) -> Iterator[Entry]:
    """Entry that warns of a changing learning rate: the stationary state at the last rate may not be reached."""
    rates = run.schedule.rates(run.steps)
    if np.ptp(rates) > 0:
        yield Entry(
            "learning rate", float(rates[-1]), note="the last of the schedule; the run may not come to rest at it"
        )


def _entropic(run: Run) -> Iterator[Entry]:
    entropic = EntropicLoss(run.loss, run.optimizer)
    if entropic.mean_square is None or entropic.potential is None or entropic.force is None:
        yield Entry("", "E|g|^2 has no closed form: numerical below")
        return
    if run.optimizer.rule.state:
        yield Entry(
            "S", formula_text(entropic.mean_square), note="E|g|^2, the mean gradient's part times (1 + b)/(1 - b)"
        )
    else:
        yield Entry("E|g|^2", formula_text(entropic.mean_square), note="of the batch that the optimizer takes")
    yield Entry("phi", formula_text(entropic.potential), note="exact to order learning_rate")
    names = run.loss.parameters
    for name, force in zip(names, entropic.force, strict=True):
        yield Entry(f"entropic force on {name}", formula_text(force))
    covariance = entropic.noise_covariance if len(names) <= _SMALL else None
    if covariance is not None:
        for i, one in enumerate(names):
            for j in range(i, len(names)):
                yield Entry(
                    f"gradient noise covariance({one}, {names[j]})", formula_text(covariance[i, j]), note="one sample"
                )


def _at_start(run: Run) -> Iterator[Entry]:
    yield from _about(run, linear_response.start_of(run))


def _about(run: Run, theta: np.ndarray) -> Iterator[Entry]:
    """Entries on the population loss at a point, its derivatives, and the change of its Hessian's trace by SGD."""
    about = linear_response.Population(run.loss, run.optimizer.decay)
    named = dict(zip(run.loss.parameters, map(float, theta), strict=True))
    yield Entry("theta", ", ".join(f"{name} = {value:.8g}" for name, value in named.items()))
    mean = Expected(run.loss, [run.loss.expression])
    found = mean.at(named)
    if not np.isfinite(found.value[0]):
        raise NotApplicable(f"the population loss is {found.value[0]} at {named}")
    yield Entry("L", float(found.value[0]), float(found.error[0]), "numerical" if mean.is_numerical else "")
    yield number("|grad L|", np.linalg.norm(about.gradient(theta)))
    curvatures = np.linalg.eigvalsh(about.hessian(theta))
    yield Entry("curvatures", ", ".join(f"{value:.6g}" for value in curvatures), note="eigenvalues of the Hessian of L")
    yield number("Tr H", curvatures.sum())
    yield number("Tr Sigma", np.trace(about.noise(theta)), "gradient noise of one sample")
    yield from _sharpening(run, theta, about)


def _sharpening(run: Run, theta: np.ndarray, about: linear_response.Population) -> Iterator[Entry]:
    """Entries on the mean change of the Hessian's trace in a step, by the loss and by the entropic force.

    At a minimum only the force along flat directions counts: across the valley the loss balances it.
    """
    try:
        entropic = EntropicLoss(run.loss, run.optimizer)
    except NotApplicable:
        return
    rate = float(run.schedule.rates(run.steps)[-1])
    named = dict(zip(run.loss.parameters, map(float, theta), strict=True))
    slope = jacobian(lambda at: np.array([about.trace(at)]), theta)[0]
    if np.linalg.norm(about.gradient(theta)) <= _RESTING:
        flat = linear_response.flat_directions(about.hessian(theta))
        slope = flat @ flat.T @ slope
    by_loss, by_all = (entropic.gradient(named, used) for used in (0.0, rate))
    unit = rate * float(entropic.time_unit)
    yield number("change of Tr H in a step, by the loss", -unit * slope @ by_loss, "leading order")
    force = -unit * slope @ (by_all - by_loss)
    noticed = abs(force) > 1e-12 * (1.0 + np.abs(slope).sum())
    way = ("sharpening" if force > 0 else "flattening") if noticed else "neither sharpening nor flattening"
    yield number("change of Tr H in a step, by the entropic force", force, f"leading order: {way}")


def _at_minimum(run: Run) -> Iterator[Entry]:
    theta = linear_response.minimum(run.loss, linear_response.start_of(run), run.optimizer.decay)
    yield from _about(run, theta)
    yield from _last_rate(run)
    try:
        found = linear_response.response(run, theta)
    except NotApplicable as reason:
        yield Entry("", f"no linear response: {reason}")
        return
    if found.flat_directions:
        yield Entry("flat directions", float(found.flat_directions), note="left out of the covariances")
    names = run.loss.parameters
    note = "leading order; exact for a quadratic loss with state-independent noise"
    for i, one in enumerate(names):
        for j in range(i, len(names) if len(names) <= _SMALL else i + 1):
            yield number(f"covariance({one}, {names[j]})", found.covariance[i, j], note)
    yield number("excess loss", found.excess_loss, note)
    yield from _of_next_order(run)


def _of_next_order(run: Run) -> Iterator[Entry]:
    """Entries of the next order in the learning rate, which show how far linear response may be trusted."""
    try:
        found = expansion(run)
    except NotApplicable as reason:
        yield Entry("", f"no next order: {reason}")
        return
    for i, name in enumerate(run.loss.parameters):
        leading = float(found.leading[i, i])
        yield number(f"mean({name}) at rest", found.mean[i], "to order learning_rate")
        if found.is_moved(i):
            more = (
                f"to order learning_rate**2, {100 * (found.covariance[i, i] / leading - 1):+.2g} % beyond leading order"
            )
            yield number(f"variance({name}) at rest", found.covariance[i, i], more)


def _symmetries(run: Run) -> Iterator[Entry]:
    yield from _of_symmetries(run, run.loss.symmetries)


def _undeclared(run: Run) -> Iterator[Entry]:
    found = undeclared(run.loss)
    numbered = Counter(one.name for one in found)
    for name in [name for name, times in numbered.items() if times > 1]:
        several = (f"{name} {number}" for number in itertools.count(1))
        found = tuple(replace(one, name=next(several)) if one.name == name else one for one in found)
    for one in found:
        moves = (f"{name} {':' if one.is_continuous else '->'} {v}" for name, v in run.loss.directions(one).items())
        yield Entry(f"{'generator' if one.is_continuous else 'map'} of {one.name}", ", ".join(moves))
        yield from _of_symmetries(run, (one,))


def _of_symmetries(run: Run, symmetries: Iterable[Symmetry]) -> Iterator[Entry]:
    start = dict(zip(run.loss.parameters, map(float, linear_response.start_of(run)), strict=True))
    rate = float(run.schedule.rates(run.steps)[-1])
    for symmetry in symmetries:
        if not symmetry.is_continuous:
            yield Entry(symmetry.name, "discrete: kept by SGD path by path where the noise has it too")
            continue
        found = balances_of.Balance(run.loss, run.optimizer, symmetry)
        yield from _of_symmetry(found, run, start, rate)


def _of_symmetry(found: balances_of.Balance, run: Run, start: Mapping[str, float], rate: float) -> Iterator[Entry]:
    name = found.symmetry.name
    state = "an entropic force breaks it" if found.is_broken else "not broken: no entropic force along its orbits"
    yield Entry(name, state)
    if found.charge is None:
        yield Entry(f"charge of {name}", "there is none, or none that this optimizer's steps are known to change")
        return
    yield Entry(f"charge of {name}", str(found.charge))
    if found.change is None:
        yield Entry(f"change of the charge of {name} in a step", "not known in closed form for this optimizer")
        return
    kept = found.kept(rate)
    text = f"learning_rate**2*({found.change})" + ("" if kept == 1 else f" - {1 - kept:.6g}*charge")
    yield Entry(f"change of the charge of {name} in a step", text, note="exact, path by path")
    if found.is_broken:
        yield Entry(f"balance law of {name}", _balance_law(found, rate), note="stationary, at any learning rate")
    try:
        yield number(f"mean change of the charge of {name} at the start", found.drift(start, rate), "exact, one step")
        steps = balances_of.relaxation_time(found, run)
    except NotApplicable:
        return
    if isfinite(steps):
        yield number(f"steps in which the charge of {name} changes by itself", steps, "at the rate of the start")


def _balance_law(found: balances_of.Balance, rate: float) -> str:
    left = f"E[{2 * found.change}]" if found.change is not None else ""
    kept = found.kept(rate)
    return f"{left} = 0" if kept == 1 else f"{left} = {2 * (1 - kept) / rate**2:.6g}*E[charge]"


def _identities(run: Run) -> Iterator[Entry]:
    if not run.loss.symmetries:
        raise NotApplicable("the loss declares no symmetry")
    for check in symmetry_identities.checks(run.loss):
        verdict = "holds" if check.holds else f"FAILS, expected at most {symmetry_identities.TOLERANCE:g}"
        yield number(f"{check.id} of {check.symmetry}", check.residual, verdict)


def _moments(run: Run) -> Iterator[Entry]:
    yield from _last_rate(run)
    law = recursion(run).stationary()
    for name in run.loss.parameters:
        mean, variance, third, fourth = law.cumulants(name)
        yield number(f"mean({name})", mean)
        yield number(f"variance({name})", variance, "" if isfinite(variance) else "the tail is too heavy for one")
        if variance > 0 and isfinite(variance):
            if not np.isnan(third):
                yield number(f"skewness({name})", third / variance / np.sqrt(variance))
            if not np.isnan(fourth):
                yield number(f"kurtosis({name})", fourth / variance / variance)
    for i, one in enumerate(run.loss.parameters):
        for other in run.loss.parameters[i + 1 :]:
            yield number(f"covariance({one}, {other})", law.covariance(one, other))


def _chain(run: Run) -> Iterator[Entry]:
    from sgdsim.theory.chain.chain import chain

    found = chain(run)
    for name in run.loss.parameters:
        yield number(f"mean({name})", found.expectation(name))
        yield number(f"variance({name})", found.variance(name))
    try:
        values = found.relaxation(1)
    except NotApplicable as reason:
        yield Entry("", f"no relaxation time: {reason}")
        return
    if len(values) and 0 < abs(values[0]) < 1:
        yield number("relaxation time", -1.0 / np.log(abs(values[0])), "steps, of the slowest mode")


def _gibbs(run: Run) -> Iterator[Entry]:
    law = Gibbs(run)
    yield number("temperature", law.temperature)
    if not law.is_normal:
        yield Entry("", "its correction at finite learning rate is known for normal noise alone")
    for name in run.loss.parameters:
        for corrected in (True, False) if law.is_normal else (False,):
            mean = law.expectation(name, corrected=corrected)
            square = law.expectation(f"{name}**2", corrected=corrected)
            label = "" if corrected else ", uncorrected"
            note = "to order learning_rate at fixed temperature" if corrected else "leading order"
            yield number(f"mean({name}){label}", mean, note)
            yield number(f"variance({name}){label}", float(square.value) - float(mean.value) ** 2, note)


def _flows(run: Run) -> Iterator[Entry]:
    names = run.loss.parameters
    for title, potential in (("of L", "loss"), ("of phi", "entropic")):
        for name, value in zip(names, gradient_flow.flow(run, potential)[0], strict=True):
            yield number(f"{name} by the flow {title}", value)
    if len(names) > _MANY:
        return
    try:
        mean = gradient_flow.modified_mean(run)
    except NotApplicable as reason:
        yield Entry("", f"no modified equation of the mean: {reason}")
        return
    for i, name in enumerate(names):
        yield number(f"mean({name})", mean.mean[i], "modified equation, to order learning_rate")
        yield number(f"variance({name})", mean.covariance[i, i], "leading order")


def _tails(run: Run) -> Iterator[Entry]:
    yield from _last_rate(run)
    factor = multiplier(run)
    of = "" if is_affine(run.loss) else ", of the linearisation at the minimum"
    yield number("Lyapunov exponent", factor.lyapunov, f"E log|1 - eta*h|{of}")
    yield number("growth of the second moment in a step", factor.power(2.0), f"E (1 - eta*h)^2{of}")
    if of:
        yield Entry("", "no tail exponent: the gradient is not affine, and far out it is another one")
        return
    try:
        exponent = factor.kesten
    except NotApplicable as reason:
        yield Entry("", f"no tail exponent: {reason}")
        return
    yield number("tail exponent", exponent, f"where the noise does not vanish: {tail_moments(float(exponent.value))}")


SECTIONS: Mapping[str, Callable[[Run], Iterable[Entry]]] = {
    "Entropic loss": _entropic,
    "At the start": _at_start,
    "At the minimum below the start": _at_minimum,
    "Symmetries": _symmetries,
    UNDECLARED: _undeclared,
    "Identities of the symmetries, worst residual": _identities,
    "Exact moments of the stationary law": _moments,
    "Exact chain, stationary law": _chain,
    "Gibbs law": _gibbs,
    "Flows, at the end of the run": _flows,
    "Collapse and tails": _tails,
}
"""Functions of all sections, by their title."""

OF_ANY_FIELD = ("Exact moments of the stationary law", "Exact chain, stationary law")
