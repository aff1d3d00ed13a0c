"""Warnings, before a run begins, of likely problems in it."""

from __future__ import annotations

import warnings
from collections.abc import Sequence

from sgdsim.base.errors import shortened
from sgdsim.base.findings import found
from sgdsim.model.loss import Loss
from sgdsim.model.run import Run
from sgdsim.theory.methods.stability import instabilities

_MOST_WARNINGS = 10  # warnings of one kind
_MOST_LISTED = 20  # points of a sweep that a warning lists: there may be 100,000


def check_runs(runs: Sequence[Run]) -> None:
    """Warn of likely problems in a run, before it begins."""
    _warn_of_instability(runs)
    _warn_of_undefined(runs)
    _warn_of_dropped_rows(runs[0])


def _warn_of_instability(runs: Sequence[Run]) -> None:
    reasons: dict[str, list[int]] = {}
    for point, reason in enumerate(instabilities(runs)):
        if reason is not None:
            reasons.setdefault(reason, []).append(point)
    for reason, points in list(reasons.items())[:_MOST_WARNINGS]:
        at = f"sweep point {_listed(points)}: " if len(runs) > 1 else ""
        warnings.warn(f"{at}{reason}; trajectories may diverge", RuntimeWarning, stacklevel=4)
    if more := sum(map(len, list(reasons.values())[_MOST_WARNINGS:])):
        warnings.warn(f"{more} more sweep points are unstable", RuntimeWarning, stacklevel=4)


def _listed(points: Sequence[int]) -> str:
    """Text of the numbers of points of a sweep; of many points only the first."""
    more = f" and {len(points) - _MOST_LISTED} more" if len(points) > _MOST_LISTED else ""
    return ", ".join(map(str, points[:_MOST_LISTED])) + more


def _warn_of_undefined(runs: Sequence[Run]) -> None:
    """Warn that trajectories of a run may become NaN."""
    losses = {id(run.loss): run.loss for run in runs if run.loss.is_partial}.values()
    for text, base in dict.fromkeys(pair for loss in losses for pair in _unsafe(loss)):
        warnings.warn(
            f"loss: {shortened(text)} is not a number where {shortened(base)} is negative, and a trajectory ends there",
            RuntimeWarning,
            stacklevel=4,
        )


def _unsafe(loss: Loss) -> list[tuple[str, str]]:
    """Texts of the expressions `Loss.unsafe`, each with the argument that must not become negative."""
    question = ["unsafe", loss.plain]
    texts = found(question, lambda: [(str(node), str(node.args[0])) for node in loss.unsafe], loss.code)
    return [(text, base) for text, base in texts]


def _warn_of_dropped_rows(run: Run) -> None:
    data, batch_size = run.loss.data, run.optimizer.batch_size
    if data is not None and run.optimizer.sampling == "epoch" and data.rows % batch_size:
        batches, dropped = divmod(data.rows, batch_size)
        message = f"{data.rows} rows make {batches} batches of {batch_size}; each epoch leaves {dropped} of them out"
        warnings.warn(f"{message}, others each time", RuntimeWarning, stacklevel=4)
