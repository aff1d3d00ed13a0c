"""How it looks: so that series can be told apart in grey and by the colour-blind too, in colour, marker and dashes."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

# Okabe and Ito, Color Universal Design (2008), in an order in which neighbours differ in grey as well.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
MARKERS = ("o", "s", "^", "D", "v", "P")
DASHES: tuple[Any, ...] = ("-", (0, (5, 1.5, 1, 1.5)), (0, (1, 1.2)), (0, (6, 1.5, 1, 1.5, 1, 1.5)), (0, (3, 1)))
FRAMES = ("D", "s", "^", "v", "o")
MAPS = {"value": "viridis", "density": "Blues"}
THEORY = "#000000"
RIVAL = "#7F7F7F"
RIVAL_DASHES: tuple[Any, ...] = ((0, (6, 3)), (0, (2, 2)), (0, (8, 2, 2, 2)))

_RC: dict[Any, Any] = {
    "font.family": "DejaVu Sans",
    "font.size": 8.0,
    "axes.titlesize": 8.0,
    "axes.labelsize": 8.0,
    "xtick.labelsize": 7.0,
    "ytick.labelsize": 7.0,
    "legend.fontsize": 7.5,
    "axes.linewidth": 0.6,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.formatter.limits": (-3, 4),
    "xtick.major.width": 0.6,
    "ytick.major.width": 0.6,
    "lines.linewidth": 1.2,
    "lines.markersize": 3.6,
    "hatch.linewidth": 0.4,
    "legend.frameon": False,
    "mathtext.fontset": "dejavusans",
    "pdf.fonttype": 42,
    "svg.hashsalt": "sgdsim",  # with it, and without dates, a figure has the same bytes each time
}


_TALK: dict[Any, Any] = {"lines.linewidth": 1.8, "lines.markersize": 4.5, "axes.linewidth": 0.9}
"""Besides, in small panels."""


@contextmanager
def our_style(look: str = "paper") -> Iterator[None]:
    """Matplotlib's defaults with ours, whatever the user's settings, which stand as they were afterwards."""
    import matplotlib

    with matplotlib.rc_context(), np.errstate(over="ignore"):  # of ticks beyond the largest float
        matplotlib.rcdefaults()
        matplotlib.rcParams.update(_RC | _TALK if look == "talk" else _RC)
        yield


def colour(series: int) -> str:
    """Of a series; grey for what is no series.

    Examples
    --------
    >>> colour(0), colour(6), colour(-1)
    ('#0072B2', '#0072B2', '#7F7F7F')
    """
    return RIVAL if series < 0 else COLOURS[series % len(COLOURS)]


def marker(series: int) -> str:
    """Of a series."""
    return MARKERS[series % len(MARKERS)]


def dashes(series: int) -> Any:
    """Of a line."""
    return DASHES[series % len(DASHES)]


def rival_dashes(series: int) -> Any:
    """Of a line that is to be told from others that are grey too."""
    return RIVAL_DASHES[series % len(RIVAL_DASHES)]


def face(series: int) -> str:
    """What fills the markers of a series: every second one is hollow."""
    return "white" if series % 2 else colour(series)


def frame(series: int) -> str:
    """Of a prediction at single points, around what is measured there."""
    return FRAMES[series % len(FRAMES)]
