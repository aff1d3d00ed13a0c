"""Warnings, before a run begins, of what is likely to go wrong in it."""

from __future__ import annotations

import warnings
from collections.abc import Sequence

from sgdsim.base.errors import shortened
from sgdsim.base.findings import found
from sgdsim.model.loss import Loss
from sgdsim.model.run import Run
from sgdsim.theory.methods.stability import instabilities

_MOST_WARNINGS = 10  # of one kind, and
_MOST_LISTED = 20  # points of a sweep in each: there may be 100,000


def check_runs(runs: Sequence[Run]) -> None:
    """Warn of what is likely to go wrong in a run, before it begins."""
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
    """The points of a sweep by number, the first of very many."""
    more = f" and {len(points) - _MOST_LISTED} more" if len(points) > _MOST_LISTED else ""
    return ", ".join(map(str, points[:_MOST_LISTED])) + more


def _warn_of_undefined(runs: Sequence[Run]) -> None:
    """Say before a run which of its trajectories may become not a number."""
    losses = {id(run.loss): run.loss for run in runs if run.loss.is_partial}.values()
    for text, base in dict.fromkeys(pair for loss in losses for pair in _unsafe(loss)):
        warnings.warn(
            f"loss: {shortened(text)} is not a number where {shortened(base)} is negative, and a trajectory ends there",
            RuntimeWarning,
            stacklevel=4,
        )


def _unsafe(loss: Loss) -> list[tuple[str, str]]:
    """The texts of `Loss.unsafe`, and of what must not become negative there."""
    question = ["unsafe", loss.plain]
    texts = found(question, lambda: [(str(node), str(node.args[0])) for node in loss.unsafe], loss.code)
    return [(text, base) for text, base in texts]


def _warn_of_dropped_rows(run: Run) -> None:
    data, batch_size = run.loss.data, run.optimizer.batch_size
    if data is not None and run.optimizer.sampling == "epoch" and data.rows % batch_size:
        batches, dropped = divmod(data.rows, batch_size)
        message = f"{data.rows} rows make {batches} batches of {batch_size}; each epoch leaves {dropped} of them out"
        warnings.warn(f"{message}, others each time", RuntimeWarning, stacklevel=4)
