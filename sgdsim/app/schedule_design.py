"""Output of `sgdsim schedule`: the best schedule for a river in a valley, whose numbers are given or measured."""

from __future__ import annotations

from dataclasses import dataclass
from math import exp
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from sgdsim.app.loss_report import describe_schedule
from sgdsim.base.errors import InputError, unknown_name
from sgdsim.base.files import check_output
from sgdsim.ensemble import Ensemble
from sgdsim.model.schedules import Schedule
from sgdsim.statistics.estimate import Estimate, combine
from sgdsim.statistics.estimators import statistic
from sgdsim.theory.laws.best_schedule import Design

if TYPE_CHECKING:
    from sgdsim.plots.panel import Drawing

MOST_STEPS = 1_000_000
"""Most steps of a design: every step is computed for each of its rivals."""

_MEANINGS = {"curvature": "a", "noise": "sigma", "slope": "g", "peak": "eta_max", "steps": "N"}


@dataclass(frozen=True)
class Measured:
    """Curvature of a valley, standard deviation of its gradient noise, and slope of its river."""

    curvature: Estimate
    noise: Estimate
    slope: Estimate


def measure(ensemble: Ensemble, fast: str = "x", river: str = "y") -> Measured:
    """Read a valley and its river off one run of plain SGD at a constant rate that began beside the bottom.

    The mean of x falls by ``r = 1 - eta*a`` a step, its variance comes to rest at ``eta*sigma^2/(a*(2 - eta*a))``, and
    the mean of y moves by ``eta*g`` a step, which is taken from the second half of the run.

    Parameters
    ----------
    ensemble
        A run with records on the way.
    fast, river
        Names of the parameters x and y.

    Raises
    ------
    InputError
        For a sweep, a learning rate that changes, too few records, and a run that is not in a valley.
    """
    rate = _constant_rate(ensemble)
    names = [str(name) for name in ensemble["parameter"]]
    for name in (fast, river):
        if name not in names:
            raise InputError(unknown_name("parameter", name, names))
    steps = [int(step) for step in ensemble["record_step"]]
    first, last = (statistic(ensemble, "mean", fast, step) for step in (0, steps[-1]))
    fallen = {
        step: (statistic(ensemble, "mean", fast, step).value - last.value) / (first.value - last.value)
        for step in steps[1:-1]
        if first.value != last.value
    }
    usable = {step: left for step, left in fallen.items() if exp(-3) < left < 1.0}
    if not usable:
        raise InputError(f"no record shows how {fast} falls: start it beside the bottom, and record more often")
    step = min(usable, key=lambda one: abs(usable[one] - exp(-1)))

    def to_curvature(start: Any, now: Any, rest: Any) -> Any:
        return (1.0 - ((now - rest) / (start - rest)) ** (1.0 / step)) / rate

    curvature = combine(to_curvature, [first, statistic(ensemble, "mean", fast, step), last])
    variance = statistic(ensemble, "variance", fast, steps[-1])
    noise = combine(lambda a, v: np.sqrt(v * a * (2.0 - rate * a) / rate), [curvature, variance])
    middle = min(steps, key=lambda one: abs(one - steps[-1] / 2))
    ends = [statistic(ensemble, "mean", river, one) for one in (middle, steps[-1])]
    slope = combine(lambda before, after: np.abs(after - before) / (rate * (steps[-1] - middle)), ends)
    return Measured(curvature, noise, slope)


def _constant_rate(ensemble: Ensemble) -> float:
    if ensemble.sizes.get("point", 1) > 1:
        raise InputError("a sweep, expected one run to measure")
    if len(ensemble["record_step"]) < 4:
        raise InputError("records of the first and the last steps alone: record on the way, --every")
    rates = np.asarray(ensemble["learning_rate"], dtype=float)
    if np.nanmax(rates) != np.nanmin(rates):
        raise InputError("the learning rate changes, expected a run at a constant one to measure")
    return float(rates[-1])


def design_from(
    curvature: float | None,
    noise: float | None,
    slope: float | None,
    peak: float | None,
    steps: int | None,
    measured: Measured | None = None,
) -> Design:
    """A design of a schedule from given numbers, or else from measured ones.

    Parameters
    ----------
    curvature, noise, slope, peak, steps
        Curvature ``a`` of the valley, standard deviation ``sigma`` of the gradient noise, slope ``g`` of the river,
        largest learning rate ``eta_max`` and number of steps ``N``.
    measured
        Measured values, used for the first three where they are not given.

    Raises
    ------
    InputError
        For a number that is missing or not positive, and a peak rate at which the valley is unstable.

    Examples
    --------
    >>> design_from(1.0, 1.0, 0.02, 0.1, 600).text
    'plateau_harmonic:0.1,1,101.803'
    """
    values: dict[str, Any] = {
        "curvature": curvature, "noise": noise, "slope": slope, "peak": peak, "steps": steps,
    }  # fmt: skip
    if measured is not None:
        for name in ("curvature", "noise", "slope"):
            values[name] = getattr(measured, name).value if values[name] is None else values[name]
    for name, value in values.items():
        if value is None:
            raise InputError(f"--{name} is missing: {_MEANINGS[name]}, or measure it with --measure FILE")
        if not 0 < value < float("inf"):
            raise InputError(f"--{name} {value:g}: expected a positive number")
    if values["steps"] > MOST_STEPS:
        raise InputError(f"--steps {values['steps']}: expected at most {MOST_STEPS}")
    if values["curvature"] * values["peak"] >= 2.0:
        raise InputError(
            f"--peak {values['peak']:g}: curvature times peak is {values['curvature'] * values['peak']:.3g}, and the "
            "valley is stable below 2"
        )
    return Design(values["curvature"], values["noise"] ** 2, values["slope"], values["peak"], values["steps"])


def describe_design(design: Design, measured: Measured | None = None) -> str:
    r"""Text about the best schedule: its loss, the losses of other schedules, and a picture.

    Examples
    --------
    >>> print(describe_design(Design(1.0, 1.0, 0.02, 0.1, 600)).partition("\n\n")[0])
    best schedule: --learning-rate plateau_harmonic:0.1,1,101.803
      plateau at 0.1 until step 498, then rate/(1 + a*rate*k) for 102 steps, down to 0.00902499
      s = sqrt(a sigma^2 eta_max/(2 g^2)) = 11.1803, eta_max*a = 0.1: valid to leading order in this
    """
    length = min(design.decay_steps, float(design.steps))
    decay = f"rate/(1 + a*rate*k) for {length:.0f} steps, down to {design.rates[-1]:.6g}"
    plateau = f"plateau at {design.peak:g} until step {design.steps - length:.0f}, then "
    if design.decay_steps > design.steps:
        plateau = f"no plateau: from {design.peak:g} on, "
        decay += f"; the run is too short for the best decay, of {design.decay_steps:.0f} steps"
    size = design.peak * design.curvature
    terms = f"  s = sqrt(a sigma^2 eta_max/(2 g^2)) = {design.contrast:.6g}, eta_max*a = {size:g}"
    terms += ": valid to leading order in this"
    about = [
        f"best schedule: --learning-rate {design.text}",
        f"  {plateau}{decay}"
        if length
        else f"  no decay: the river is so steep that {design.peak:g} is best to the end",
        terms,
    ]
    best = design.loss(design.rates)
    rows = [("the best", best, 0.0)]
    rows += [(name, loss := design.loss(rates), loss - best) for name, rates in design.alternatives().items()]
    table = [f"{'loss at the end':>16}  {'over the best':>13}  schedule"]
    table += [f"{loss:16.6g}  {excess:13.4g}  {name}" for name, loss, excess in rows]
    table.append("losses are counted from the river's where the run begins: below 0 it has come down")
    blocks = ["\n".join(about), "\n".join(table), describe_schedule(Schedule(design.text), design.steps)]
    if measured is not None:
        names = {"curvature": "curvature a", "noise": "noise sigma", "slope": "slope g"}
        found = [(text, getattr(measured, name)) for name, text in names.items()]
        blocks.insert(0, "\n".join(f"measured {text} = {one.value:.6g} ± {_error(one)}" for text, one in found))
    return "\n\n".join(blocks)


def _error(estimate: Estimate) -> str:
    """Standard error of an estimate; 0 if it is only rounding, as for a river without noise."""
    return f"{estimate.stderr if estimate.stderr > 1e-12 * abs(estimate.value) else 0.0:.2g}"


def check_figure(output: str | Path, overwrite: bool = False, measured: str | Path | None = None) -> Path:
    """Path of a figure, if it can be written and would not replace the measured file.

    Raises
    ------
    InputError
        For an existing figure, or an unknown suffix.
    RunError
        If matplotlib is not installed.
    """
    from sgdsim.plots import drawing

    drawing.require_matplotlib()
    target = Path(output)
    drawing.checked_suffix(target)
    check_output(output, overwrite, [] if measured is None else [measured])
    return target


def plot_design(design: Design, output: str | Path, overwrite: bool = False) -> Path:
    """Draw the best schedule and its rivals, with the loss of each during the run.

    Raises
    ------
    InputError
        For an existing figure, or an unknown suffix.
    RunError
        If matplotlib is not installed.
    """
    from sgdsim.plots import drawing

    target = check_figure(output, overwrite)
    from sgdsim.plots.render import render

    facts = [f"a = {design.curvature:g}, sigma^2 = {design.noise:g}, g = {design.slope:g}; the loss of each is exact."]
    figure = render(_drawing(design), "The best schedule for a river in a valley", facts, None, 1e-3)
    drawing.save_figure(figure, target)
    return target


def _drawing(design: Design) -> Drawing:
    from sgdsim.plots.panel import Drawing, Line, Panel

    best, steps = design.loss(design.rates), np.arange(design.steps) + 1
    shown = np.unique(np.linspace(0, design.steps - 1, 1500).astype(int))
    lines = [Line(steps[shown], design.rates[shown], "the best", "theory", 0)]
    left_out = []
    for series, (name, rates) in enumerate(design.alternatives().items()):
        if series < 4:
            label = f"{name}: loses {design.loss(rates) - best:.3g}"
            lines.append(Line(steps[shown], rates[shown], label, "known", series))
        else:
            left_out.append(f"{name}, which loses {design.loss(rates) - best:.3g}")
    panel = Panel(f"learning rate {design.text}", "step", "learning rate", tuple(lines))
    return Drawing((panel,), tuple(left_out))
