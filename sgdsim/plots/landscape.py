"""Landscape of a loss of two parameters: level lines, the ensemble, trajectories, and the entropic force as arrows."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress

import numpy as np

from sgdsim.base.errors import InputError, SgdsimError
from sgdsim.formulas.formula import Formula
from sgdsim.model.run import Run
from sgdsim.plots.mathematics import mark
from sgdsim.plots.panel import MOST_PANELS, Arrows, Contours, Drawing, Image, Line, Panel, Part
from sgdsim.plots.subject import Subject, require
from sgdsim.prediction import NotApplicable
from sgdsim.theory.methods.entropic_loss import EntropicLoss
from sgdsim.theory.methods.gradient_flow import flow

_WANTED = "a loss of two parameters"
_CELLS = 60
_GRID = 241  # points along each axis; 81 were too few for the lowest level line of a narrow valley
_ARROWS = 9
_LEVELS = 12
_PATHS = 4
_MARGIN = 0.15  # margin of the axes, as a fraction of the range that the ensemble covers
_TIMES = 200
_RESTS = 1e-3  # length of a path, relative to the parameters, below which it is drawn as a point


def drawing(subject: Subject) -> Drawing:
    """Drawing with one panel; of a sweep, with a panel for each point."""
    loss = subject.runs[0].loss if subject.runs else None
    require(loss and len(loss.parameters) == 2 and loss.formula, "landscape", _WANTED)
    points = range(len(subject.points))
    panels = tuple(_panel(subject, point) for point in points[:MOST_PANELS])
    left_out = tuple(subject.point_label(point) for point in points[MOST_PANELS:])
    notes = ("Grey: lines of equal population loss, closer where it is flat.",)
    return Drawing(panels, left_out, notes)


def _panel(subject: Subject, point: int) -> Panel:
    ensemble, run = subject.points[point], subject.runs[point]
    x_name, y_name = run.loss.parameters
    means = [np.asarray(ensemble["mean"])[:, column] for column in (0, 1)]
    widths = [np.sqrt(np.asarray(ensemble["variance"])[:, column]) for column in (0, 1)]
    flows = list(_flows(run)) if subject.theory else []
    ways = ([line.x for line in flows], [line.y for line in flows])
    limits = [_limits(*one) for one in zip(means, widths, ways, strict=True)]
    x, y = (np.linspace(*one, _GRID) for one in limits)
    parts: list[Part] = [*_density(subject, point, limits)]
    parts += _level_lines(run, x, y)
    parts += _paths(subject, point)
    parts.append(Line(means[0], means[1], "mean of all", "known", series=5))
    parts += flows
    if subject.theory:
        parts += _force(run, limits)
    title = f"population loss over {mark(x_name)} and {mark(y_name)}"
    title += "" if len(subject.points) == 1 else f", {subject.point_label(point)}"
    return Panel(title, mark(x_name), mark(y_name), tuple(parts))


def _limits(mean: np.ndarray, width: np.ndarray, flows: Sequence[np.ndarray]) -> tuple[float, float]:
    """Limits of an axis: the range of the ensemble and of the flows, with a margin."""
    known = np.isfinite(mean) & np.isfinite(width)
    covered = np.concatenate([(mean - 3 * width)[known], (mean + 3 * width)[known], *flows])
    low, high = float(covered.min()), float(covered.max())
    margin = _MARGIN * (high - low) or 0.5
    return low - margin, high + margin


def _density(subject: Subject, point: int, limits: list[tuple[float, float]]) -> Iterator[Image]:
    """Image of the density of the ensemble in the last snapshot."""
    ensemble = subject.points[point]
    if not ensemble.sizes.get("snapshot", 0):
        return
    theta = np.asarray(ensemble.variables["theta"].rows(ensemble.sizes["snapshot"] - 1, ensemble.sizes["snapshot"]))[0]
    theta = theta[np.isfinite(theta).all(axis=1)]
    edges = [np.linspace(*one, _CELLS + 1) for one in limits]
    counts, *_ = np.histogram2d(theta[:, 0], theta[:, 1], edges)
    area = np.outer(np.diff(edges[0]), np.diff(edges[1]))
    density = np.where(counts > 0, counts / (max(len(theta), 1) * area), np.nan).T
    step = int(ensemble["snapshot_step"][-1])
    yield Image(edges[0], edges[1], density, f"density at step {step}", role="density")


def _level_lines(run: Run, x: np.ndarray, y: np.ndarray) -> Iterator[Contours]:
    """Level lines of the population loss, if it has a closed form, at quantiles of its values on the grid."""
    with suppress(InputError):
        values = {**_constants(run), **dict(zip(run.loss.parameters, np.meshgrid(x, y), strict=True))}
        surface = np.broadcast_to(Formula.parse(str(run.loss.population)).evaluate(_named(values)), (len(y), len(x)))
        levels = np.unique(np.quantile(surface[np.isfinite(surface)], np.linspace(0.02, 0.98, _LEVELS)))
        if len(levels) > 1:
            yield Contours(x, y, surface, tuple(levels.tolist()), "population loss", "landscape")


def _constants(run: Run) -> dict[str, float]:
    return {name: float(value) for name, value in run.loss.constants.items()}


def _named(values: Mapping[str, object]) -> dict[str, object]:
    """Values by name, with the coordinates of a vector gathered under its base name."""
    from sgdsim.formulas.vectors import gather

    return dict(gather(values))


def _paths(subject: Subject, point: int) -> Iterator[Line]:
    """Lines of a few trajectories, if there are intermediate snapshots."""
    ensemble = subject.points[point]
    count = ensemble.sizes.get("snapshot", 0)
    if count < 3:
        return
    theta = np.asarray(ensemble["theta"][:, :_PATHS])
    for series in range(theta.shape[1]):
        label = "" if series else "single trajectories"
        yield Line(theta[:, series, 0], theta[:, series, 1], label, "path", series)


def _flows(run: Run) -> Iterator[Line]:
    """Paths of the gradient flows of the loss and of the entropic loss during the run; a flow at rest is a point."""
    time = float(run.schedule.rates(run.steps)[0]) * run.steps
    flows = (("loss", "flow of the loss"), ("entropic", "flow of the entropic loss"))
    for potential, name in flows[: 1 if run.optimizer.rule.is_random else 2]:
        with suppress(NotApplicable, SgdsimError):
            path = flow(run, potential, np.linspace(0.0, time, _TIMES).tolist())
            moves = bool(np.ptp(path, axis=0).max() > _RESTS * np.abs(path).max())
            shown = path if moves else path[-1:]
            yield Line(shown[:, 0], shown[:, 1], name, "rival" if potential == "loss" else "theory", joined=moves)


def _force(run: Run, limits: list[tuple[float, float]]) -> Iterator[Arrows]:
    """Arrows of the entropic force at the first learning rate, if the optimizer has such a force.

    A rule that adds noise of its own is pushed by its temperature too, so that the force of the gradients' noise is not
    where its ensemble goes.
    """
    if run.optimizer.rule.is_random:
        return
    rate = float(run.schedule.rates(run.steps)[0])
    inner = [np.linspace(low, high, _ARROWS + 2)[1:-1] for low, high in limits]
    x, y = (one.ravel() for one in np.meshgrid(*inner))
    with suppress(NotApplicable, SgdsimError):
        entropic = EntropicLoss(run.loss, run.optimizer)
        force = []
        for place in zip(x.tolist(), y.tolist(), strict=True):
            theta = dict(zip(run.loss.parameters, place, strict=True))
            force.append(entropic.gradient(theta, 0.0) - entropic.gradient(theta, rate))
        u, v = np.array(force).T
        if np.isfinite(force).all() and np.any(force):
            yield Arrows(x, y, u, v, "entropic force")
