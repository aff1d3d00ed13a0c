"""Trajectories of two parameters on the landscape of the population loss, with the flows of theory through them."""

from __future__ import annotations

from contextlib import suppress

import numpy as np

from sgdsim.base.errors import InputError
from sgdsim.formulas import evaluation
from sgdsim.model.run import Run
from sgdsim.plots.panel import Cloud, Contours, Drawing, Line, Panel, Part
from sgdsim.plots.subject import Subject, require
from sgdsim.prediction import NotApplicable
from sgdsim.theory.methods.gradient_flow import flow

PATHS = 3
DOTS = 400
_CELLS = 120
_TIMES = 200
_MARGIN = 0.12
_RESTS = 1e-3  # of the parameters: a path that is shorter is a point
FLOWS = {"loss": ("flow of the loss", "rival"), "entropic": ("flow of the entropic loss", "theory")}


def drawing(subject: Subject) -> Drawing:
    """One panel, of the first sweep point: a few paths, where all are at the end, and the flows of L and phi."""
    ensemble = subject.points[0]
    require(ensemble.sizes.get("parameter") == 2, "landscape", "two parameters")
    require(ensemble.sizes.get("snapshot", 0) > 1, "landscape", "two or more snapshots: record.snapshots")
    names = [str(name) for name in ensemble["parameter"]]
    theta = ensemble.variables["theta"]
    rows = range(len(ensemble["snapshot_step"]))
    kept = min(DOTS, theta.shape[1])
    states = np.array([np.asarray(theta.rows(row, row + 1)[0, :kept], dtype=float) for row in rows])
    flows: list[Part] = [] if not subject.runs else _flows(subject.runs[0])
    ends = np.concatenate([states.reshape(-1, 2), *(np.column_stack([one.x, one.y]) for one in flows)])  # type: ignore[union-attr]
    parts: list[Part] = _contours(subject.runs[0], ends) if subject.runs else []
    parts.append(Cloud(states[-1, :, 0], states[-1, :, 1], f"trajectories at step {ensemble['snapshot_step'][-1]}"))
    for path in range(min(PATHS, kept)):
        label = "single trajectories" if not path else ""
        parts.append(Line(states[:, path, 0], states[:, path, 1], label, "path", 1 + path))
    panel = Panel("trajectories on the population loss", names[0], names[1], (*parts, *flows))
    return Drawing((panel,), notes=("Grey: level lines of the population loss, by its square root.",))


def _flows(run: Run) -> list[Part]:
    found: list[Part] = []
    for potential, (label, role) in FLOWS.items():
        with suppress(NotApplicable):
            times = float(run.schedule.rates(run.steps)[0]) * run.steps * np.linspace(0.0, 1.0, _TIMES)
            path = flow(run, potential, times.tolist())
            moves = np.ptp(path, axis=0).max() > _RESTS * np.abs(path).max()
            shown = path if moves else path[-1:]
            found.append(Line(shown[:, 0], shown[:, 1], label, role, joined=bool(moves)))  # type: ignore[arg-type]
    return found


def _contours(run: Run, states: np.ndarray) -> list[Part]:
    """The population loss about all that is shown; nothing where it has no closed form."""
    finite = states[np.isfinite(states).all(axis=1)]
    low, high = finite.min(axis=0), finite.max(axis=0)
    margin = _MARGIN * np.maximum(high - low, 1e-3)
    axes = [np.linspace(one - gap, other + gap, _CELLS) for one, other, gap in zip(low, high, margin, strict=True)]
    grid = dict(zip(run.loss.parameters, np.meshgrid(*axes), strict=True))
    try:
        values = evaluation.evaluate([run.loss.population], {**run.loss.constants, **grid})[0]
    except InputError:
        return []
    values = np.broadcast_to(np.asarray(values, dtype=float), (_CELLS, _CELLS))
    return [Contours(axes[0], axes[1], np.sqrt(values - values.min()))]
