"""The first law: work and heat of a run add up to the change of its energy."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import suppress

import numpy as np

from sgdsim.formulas.expansion import expanded
from sgdsim.model.observables import Observable
from sgdsim.model.run import Recorder, Run
from sgdsim.prediction import FEWEST_RATES, DriftCurve, Moment, NotApplicable, Prediction, require
from sgdsim.theory.law import law, ratio_row, row
from sgdsim.theory.laws.valley import stationary_fast_loss
from sgdsim.theory.methods.directions import candidate_directions
from sgdsim.theory.methods.modes import Mode, plain_modes
from sgdsim.theory.methods.rivers import River, river
from sgdsim.theory.recorded_names import name_of

ROUNDING = 1e-14
"""Largest rounding error of the few products and sums of one step, with numbers of order one: 50 times the last bit."""


def books(run: Run) -> dict[str, Observable]:
    """The running sums of the law, by name.

    Examples
    --------
    >>> from sgdsim.model.losses.river_valley import river_valley
    >>> from sgdsim.model.optimizers import Optimizer
    >>> from sgdsim.model.schedules import Schedule
    >>> loss = river_valley(a="a0", c="0", constants={"a0": 2.0})
    >>> str(books(Run(loss, Optimizer(), Schedule("0.1"), {"x": 0.0, "y": 0.0}, 100, 10))["heat"])
    'window_sum((a0)*(next(x)**2 - x**2)/2, 0, 10)'
    """
    fast, slow, a, c = _landscape(run)
    a_next, c_next = (_next(text, slow) for text in (a, c))
    x2, y2 = f"{fast}**2", f"next({fast})**2"
    dc, da = f"({c_next}) - ({c})", f"(({a_next}) - ({a}))"
    du = f"(({c_next}) + ({a_next})*{y2}/2 - ({c}) - ({a})*{x2}/2)"
    work, heat = f"{dc} + {da}*{x2}/2", f"({a_next})*({y2} - {x2})/2"
    symmetric = (f"{dc} + {da}*({x2} + {y2})/4", f"(({a}) + ({a_next}))*({y2} - {x2})/4")
    formulas = {
        "work": work,
        "heat": heat,
        "unbalanced": f"where(abs({work} + {heat} - {du}) > {ROUNDING}, 1, 0)",
        "unbalanced_symmetric": f"where(abs({symmetric[0]} + {symmetric[1]} - {du}) > {ROUNDING}, 1, 0)",
        "work_symmetric": symmetric[0],
        "work_on_walls": f"{da}*{x2}/2",
        "heat_of_noise": f"{heat} - ({a_next})*((1 - learning_rate*({a}))**2 - 1)*{x2}/2",
    }
    return {name: Observable(name, formula, (0, run.steps), "sum") for name, formula in formulas.items()}


def _landscape(run: Run) -> tuple[str, str, str, str]:
    """Names of x and y, and the formulas a and c of the population loss."""
    require(len(run.loss.parameters) == 2, "speaks of one fast direction and one river")
    for direction in candidate_directions(run):
        (slow,) = set(run.loss.parameters) - {direction.parameter}
        x = run.loss.symbols[direction.parameter]
        rest = expanded(run.loss.population - direction.curvature * x**2 / 2)
        if direction.centre == 0 and x not in rest.free_symbols:
            return direction.parameter, slow, str(direction.curvature), str(rest)
    raise NotApplicable("no fast direction has its bottom at 0")


def _next(formula: str, slow: str) -> str:
    import re

    return re.sub(rf"\b{re.escape(slow)}\b", f"next({slow})", formula)


_SPLITS = {"unbalanced": "|W + Q - dU|", "unbalanced_symmetric": "|W + Q - dU| of the symmetric split"}


def _relaxation(mode: Mode) -> Iterator[Prediction]:
    """A row on the mean heat of a step, at rest, as a function of the fast loss before it."""
    from scipy.special import gammainc

    run = mode.run
    recorded = next((o for o in run.recorder.observables if o.name in run.recorder.drifts), None)
    rest = stationary_fast_loss(float(mode.rates[0]), mode.curvature, mode.noise_variance)
    at_rest = mode.constant_rate and mode.is_gaussian and abs(mode.fast_loss(0)[0] / rest - 1.0) < 1e-9
    if recorded is None or not at_rest or run.recorder.drifts[recorded.name].by != recorded.name:
        return
    if run.loss.expand(recorded.formula) != run.loss.expand(mode.direction.fast_loss(run.loss).formula):
        return
    edges = run.recorder.drifts[recorded.name].bins.edges / (2.0 * rest)
    means = 2.0 * rest * 0.5 * np.diff(gammainc(1.5, edges)) / np.diff(gammainc(0.5, edges))
    pull = float(mode.pull[0])
    values = -pull * (2.0 - pull) * (means - rest)
    yield row(
        DriftCurve(recorded.name, tuple(map(float, values))),
        float(values[0]),
        f"mean heat of a step by {recorded.name} before it, {len(values)} bins",
        resolution=0.03 * float(np.abs(values).max()),
        conditions=f"bath {rest:.6g}",
    )


def river_means(known: River) -> dict[str, float]:
    """Mean work on the walls of a river that runs, and mean heat, to leading order in sigma^2."""
    y, v, work, heat, rate = known.start, known.start_heat, 0.0, 0.0, known.rate
    for _ in range(known.run.steps):
        a, after = float(known.a(y)), y - rate * float(known.c(y, 1))
        cooled, closed = (1.0 - rate * a) ** 2 * v + rate**2 * known.noise, float(known.a(after))
        work, heat = work + (closed - a) * v / 2.0, heat + closed * (cooled - v) / 2.0
        y, v = after, cooled
    return {"work_on_walls": work, "heat": heat}


def _across(runs: Sequence[Run]) -> Iterator[Prediction]:
    """Rows on mean work and heat of rivers along walls that change; none for other runs.

    Raises
    ------
    NotApplicable
        For such rivers, if their means are not predicted.
    """
    if not all(_runs_along_walls(run) for run in runs):
        return
    rivers = [river(run) for run in runs]
    noises = {known.noise for known in rivers}
    require(not any(known.river_noise for known in rivers), "mean work and heat of a river: it has noise of its own")
    require(
        len(noises) >= FEWEST_RATES,
        f"mean work and heat of a river take {FEWEST_RATES} noises or more, not {len(noises)}",
    )
    for point, known in enumerate(rivers):
        yield from _river(known, point)


@law(
    "first-law",
    "first law: work and heat add up, step by step",
    source="re-derived; work and heat claimed in arXiv:2505.10559",
    holds=(
        "any potential whose work and heat are recorded; mean heat of a fixed valley; work on the walls of a "
        "river that runs"
    ),
    records=lambda run: Recorder(observables=tuple(books(run).values())),
    across=_across,
)
def first_law(run: Run) -> Iterator[Prediction]:
    """The first law, exact for every trajectory and every step, to rounding.

    With ``U = c(y) + a(y)*x^2/2`` a step is booked in two moves: first the river moves while x is frozen, then x
    does,

        W = c(y') - c(y) + (a(y') - a(y))*x^2/2,    Q = a(y')*(x'^2 - x^2)/2,    W + Q = U' - U.

    The symmetric split ``W = dc + da*(x^2 + x'^2)/4, Q = (a + a')*(x'^2 - x^2)/4`` adds up, too, and so does the
    split into the slow and the fast loss, ``W = dc, Q = d(a*x^2/2)``, the closest to the paper's words, which books
    the entropic work as heat.

    Tested is the number of steps in which ``|W + Q - dU|`` is more than rounding: it must be zero for every trajectory.
    In a fixed valley the mean heat of all steps is tested too, by the exact recursion of ``v = E x^2``; and at rest, if
    the drift of U as a function of U is recorded, the heat of a step from a given U:

        E[Q|x] = -eta*a*(2 - eta*a)*(U - U_inf),    E Q_noise = eta^2*a*sigma^2/2,    Q_noise = Q - a*(r^2 - 1)*x^2/2,

    r = 1 - eta*a.

    For a river that runs, the mean work on its walls and the mean heat are, along the noise-free path y0 and with the
    heat V of the walls on it (steep-river),

        <sum (a(y') - a(y))*x^2/2> = sum (a(y0') - a(y0))*V/2,    <sum Q> = sum a(y0')*(V' - V)/2,

    exactly in eta, to leading order in sigma^2. This is tested over four or more noises, with sigma^2 in place of the
    learning rate.

    That slow loss is work and fast loss is heat is claimed in arXiv:2505.10559; the bookkeeping is
    re-derived.
    """
    named = books(run)
    for name, text in _SPLITS.items():
        measure = Moment("mean", name_of(run, named[name]), run.steps)
        # Books that do not balance are wrong at every step: one step in a thousand is far below that.
        yield row(measure, 0.0, f"steps of {run.steps} with {text} > {ROUNDING:g}", resolution=1e-3 * run.steps)
    found: list[Mode] = []
    with suppress(NotApplicable):  # the balance itself holds in any potential
        found = plain_modes(run)
    for mode in found:
        yield from _heats(mode, named)
        yield from _relaxation(mode)


def _runs_along_walls(run: Run) -> bool:
    """True if both the curvature and the river's own loss depend on the slow parameter."""
    try:
        _, slow, a, c = _landscape(run)
    except NotApplicable:
        return False
    return all(run.loss.symbols[slow] in run.loss.expand(text).free_symbols for text in (a, c))


def _river(known: River, point: int) -> Iterator[Prediction]:
    run, named = known.run, books(known.run)
    for name, value in river_means(known).items():
        yield ratio_row(
            Moment("mean", name_of(run, named[name]), run.steps),
            value,
            f"mean({name}) of a river over first-law",
            order=0,
            point=point,
            conditions=f"{value:.6g} in {run.steps} steps, sigma^2 = {known.noise:.4g}",
            small=known.noise,
            small_name="sigma^2",
            series=f"first-law {known.series} {known.rate}",
        )


def _heats(mode: Mode, named: dict[str, Observable]) -> Iterator[Prediction]:
    run, steps = mode.run, mode.run.steps
    gained = mode.fast_loss(steps)[0] - mode.fast_loss(0)[0]
    noise = float(np.sum(mode.rates**2) * mode.curvature * mode.noise_variance / 2.0)
    for name, value in (("heat", gained), ("heat_of_noise", noise)):
        measure = Moment("mean", name_of(run, named[name]), steps)
        quantity = f"mean({name}) over {steps} steps"
        yield row(measure, float(value), quantity, mode.order, 0.01 * noise, conditions=mode.conditions)
