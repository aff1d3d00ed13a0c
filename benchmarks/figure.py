"""One figure of a benchmark, from its data alone: every program on the reference job, and ours over sizes."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("svg")

from matplotlib import pyplot

OURS, OTHERS = "#c44e52", "#8c9bb5"


def draw(data: Mapping[str, Any], path: Path) -> None:
    """Write the figure."""
    timings = [timing for timing in data["timings"] if timing["nanoseconds"]]
    reference = [t for t in timings if t["group"] == "reference" and t["threads"] == 1]
    sizes = [t for t in timings if t["group"] == "trajectories"]
    figure, (left, right) = pyplot.subplots(
        1, 2, figsize=(11, 1.6 + 0.24 * len(reference)), layout="constrained", width_ratios=(1.25, 1)
    )
    _bars(left, reference)
    _rates(right, sizes, reference)
    where = data["environment"]
    figure.suptitle(where.get("GPU", where["Processor"]), fontsize=9)
    # Nothing that changes from one run to the next but the numbers.
    with matplotlib.rc_context({"svg.hashsalt": "benchmark"}):
        figure.savefig(path, metadata={"Date": None})
    pyplot.close(figure)


def _bars(axes: Any, timings: Sequence[Mapping[str, Any]]) -> None:
    """Time of a trajectory-step, the slowest on top, with the range over the rounds."""
    ordered = sorted(timings, key=lambda timing: timing["nanoseconds"])
    names = [f"{timing['peer']}, {timing['variant']}" for timing in ordered]
    medians = [timing["nanoseconds"] for timing in ordered]
    colours = [OURS if timing["peer"] == "sgdsim" else OTHERS for timing in ordered]
    spans = [_span(timing) for timing in ordered]
    # Of one round all three are the same number, but for its last digit.
    errors = [
        [max(median - low, 0.0) for median, (low, _) in zip(medians, spans, strict=True)],
        [max(high - median, 0.0) for median, (_, high) in zip(medians, spans, strict=True)],
    ]
    axes.barh(names, medians, color=colours, xerr=errors, error_kw={"elinewidth": 0.8, "ecolor": "0.3"})
    for row, (median, (_, high)) in enumerate(zip(medians, spans, strict=True)):
        axes.annotate(f"{median:.3g}", (high, row), (4, 0), textcoords="offset points", va="center", fontsize=8)
    axes.set(xscale="log", xlabel="ns a trajectory-step", title="Reference job" + _threads(timings))
    # Whole decades, so that no bar looks longer than it is by where the axis begins.
    axes.set_xlim(10 ** math.floor(math.log10(min(medians))), 2 * max(high for _, high in spans))
    axes.tick_params(axis="y", labelsize=8)
    axes.spines[["top", "right"]].set_visible(False)


def _rates(axes: Any, timings: Sequence[Mapping[str, Any]], reference: Sequence[Mapping[str, Any]]) -> None:
    """Trajectory-steps a second of ours against the number of trajectories; the quickest of the others as lines."""
    for threads in sorted({timing["threads"] for timing in timings}):
        own = [timing for timing in timings if timing["threads"] == threads]
        label = f"sgdsim, {own[0]['variant']}" + ("" if threads == 1 else f", {threads} threads")
        sizes = [timing["job"]["trajectories"] for timing in own]
        rates = [1e9 / timing["nanoseconds"] for timing in own]
        axes.plot(sizes, rates, "o-" if threads == 1 else "s--", color=OURS, label=label)
    quickest: dict[str, Mapping[str, Any]] = {}
    for timing in sorted(reference, key=lambda timing: timing["nanoseconds"]):
        if timing["peer"] != "sgdsim":
            quickest.setdefault(timing["peer"], timing)
    for style, (peer, timing) in zip(("-", "--", "-.", ":", (0, (5, 1, 1, 1, 1, 1))), quickest.items(), strict=False):
        at = timing["job"]["trajectories"]
        label = f"{peer}, {timing['variant']}, at {at:,}"
        axes.axhline(1e9 / timing["nanoseconds"], color="0.45", linestyle=style, linewidth=1, label=label)
    axes.set(xscale="log", yscale="log", xlabel="trajectories", ylabel="trajectory-steps a second", title="Sizes")
    low, high = axes.get_ylim()
    axes.set_ylim(low, high * (high / low) ** 0.6)  # room for the legend
    axes.legend(fontsize=7, frameon=False, loc="upper left")
    axes.spines[["top", "right"]].set_visible(False)


def _span(timing: Mapping[str, Any]) -> tuple[float, float]:
    """Least and most over the rounds, per trajectory-step."""
    seconds = timing["processor_seconds"] or timing["wall_seconds"]
    work = timing["job"]["trajectories"] * timing["job"]["steps"] / 1e9
    return min(seconds) / work, max(seconds) / work


def _threads(timings: Sequence[Mapping[str, Any]]) -> str:
    return ", one thread" if timings and timings[0]["processor_seconds"] else ""
