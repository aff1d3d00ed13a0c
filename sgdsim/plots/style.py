"""Style of figures: series differ in colour, marker and dashes, so that they can be told apart in grey, too."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

# Colours for the colour-blind (Okabe and Ito, Color Universal Design, 2008), ordered so that neighbours differ in grey.
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
    "svg.hashsalt": "sgdsim",  # with this, and without dates, the file of a figure has the same bytes each time
}


_TALK: dict[Any, Any] = {"lines.linewidth": 1.8, "lines.markersize": 4.5, "axes.linewidth": 0.9}
"""Settings of matplotlib for a talk, whose panels are small."""


@contextmanager
def our_style(look: str = "paper") -> Iterator[None]:
    """Use matplotlib's defaults with our settings during the block; the user's settings are restored afterwards."""
    import matplotlib

    with matplotlib.rc_context(), np.errstate(over="ignore"):  # ticks may lie beyond the largest float
        matplotlib.rcdefaults()
        matplotlib.rcParams.update(_RC | _TALK if look == "talk" else _RC)
        yield


def colour(series: int) -> str:
    """Colour of a series; grey for a negative number, which is no series.

    Examples
    --------
    >>> colour(0), colour(6), colour(-1)
    ('#0072B2', '#0072B2', '#7F7F7F')
    """
    return RIVAL if series < 0 else COLOURS[series % len(COLOURS)]


def marker(series: int) -> str:
    """Marker of a series."""
    return MARKERS[series % len(MARKERS)]


def dashes(series: int) -> Any:
    """Dashes of a predicted line."""
    return DASHES[series % len(DASHES)]


def rival_dashes(series: int) -> Any:
    """Dashes of a rival's line, which must differ from other grey lines."""
    return RIVAL_DASHES[series % len(RIVAL_DASHES)]


def face(series: int) -> str:
    """Fill colour of the markers of a series; those of every second series are hollow."""
    return "white" if series % 2 else colour(series)


def frame(series: int) -> str:
    """Marker that frames measured points for a prediction at single points."""
    return FRAMES[series % len(FRAMES)]
