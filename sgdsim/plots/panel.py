"""The content of figures as plain data: the kinds of figures make it, and `sgdsim.plots.render` draws it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

import numpy as np

MOST_PANELS = 6
MOST_PANELS_OF_PARTS = 12
MOST_SERIES = 4
MOST_STEPS = 200
"""Most points of a line in a panel: the eye cannot tell more apart."""

_SUPERSCRIPTS = str.maketrans("0123456789-\N{MINUS SIGN}", "⁰¹²³⁴⁵⁶⁷⁸⁹⁻⁻")

Scale = Literal["linear", "log", "symlog"]


@dataclass(frozen=True, eq=False)
class Points:
    """Measured points with standard errors.

    Parameters
    ----------
    x, y, stderr
        Coordinates and standard error of each point; a standard error may be NaN.
    label
        Text in the legend.
    series
        Number of the colour and marker.
    """

    x: np.ndarray
    y: np.ndarray
    stderr: np.ndarray
    label: str
    series: int = 0


@dataclass(frozen=True, eq=False)
class Line:
    """A line of predicted values, or of others without errors.

    Parameters
    ----------
    x, y
        Coordinates of each point; NaN interrupts the line.
    label
        Text in the legend; empty for none.
    role
        ``theory``, ``rival`` (dashed), ``fit``, ``path`` (one trajectory), ``known`` (in the colour of a measurement),
        ``mark`` (an upright line at each x), ``zero``, or ``undecided`` (a cross at each point).
    series
        Number of the line style; for ``path`` and ``known`` also of the colour.
    joined
        True if the points are joined; otherwise each is marked.
    allowed
        How far below and above each marked number of a theory the measured one may be, shape (2, point): a tolerance
        that a claim states, or the known error of the number.
    """

    x: np.ndarray
    y: np.ndarray
    label: str = ""
    role: Literal["theory", "rival", "fit", "path", "known", "mark", "zero", "undecided"] = "theory"
    series: int = 0
    joined: bool = True
    allowed: np.ndarray | None = None

    @property
    def tolerances(self) -> np.ndarray | None:
        """The allowed distances that can be drawn, as bars; None if there are none: a bound allows all on one side."""
        if self.allowed is None or self.joined or self.role != "theory":
            return None
        found = np.where(np.isfinite(self.allowed), self.allowed, 0.0)
        return found if found.any() else None


@dataclass(frozen=True, eq=False)
class Band:
    """A band between two curves.

    Parameters
    ----------
    x, low, high
        Coordinates of the two curves at each point.
    label, series
        Text in the legend, and number of the colour.
    strength
        Opacity, from 0 to 1.
    """

    x: np.ndarray
    low: np.ndarray
    high: np.ndarray
    label: str
    series: int = 0
    strength: float = 0.25


@dataclass(frozen=True, eq=False)
class Steps:
    """A value for each bin, with a band about it.

    Parameters
    ----------
    edges
        Edges of the bins, one more than bins.
    values, low, high
        Value and bounds of the band in each bin.
    label, series
        Text in the legend, and number of the colour.
    """

    edges: np.ndarray
    values: np.ndarray
    low: np.ndarray
    high: np.ndarray
    label: str
    series: int = 0


@dataclass(frozen=True, eq=False)
class Residuals:
    """Deviations from a prediction in standard errors.

    Parameters
    ----------
    x, z
        Position and deviation of each point.
    series
        Number of the colour and marker.
    line
        Number of the prediction, if the panel has several; each has another marker.
    freedom
        Degrees of freedom of the standard errors.
    """

    x: np.ndarray
    z: np.ndarray
    series: int = 0
    line: int | None = None
    freedom: float = np.inf


@dataclass(frozen=True, eq=False)
class Image:
    """A value for each cell of a plane.

    Parameters
    ----------
    x_edges, y_edges
        Edges of the cells, one more than cells along each axis.
    values
        Values of the cells, shape (y, x); NaN stays white.
    bar
        Text beside the bar of colours.
    logarithmic
        True if the colours are on a logarithmic scale.
    role
        ``value``, or ``density``, whose colours begin with white so that lines can be seen.
    """

    x_edges: np.ndarray
    y_edges: np.ndarray
    values: np.ndarray
    bar: str
    logarithmic: bool = False
    role: Literal["value", "density"] = "value"
    label: str = ""


@dataclass(frozen=True, eq=False)
class Contours:
    """Lines of equal value.

    Parameters
    ----------
    x, y, values
        Coordinates of a grid, and its values, shape (y, x).
    levels
        Values at which lines are drawn, increasing.
    label
        Text in the legend; empty for none.
    role
        ``theory``, whose lines are numbered, or ``landscape``.
    """

    x: np.ndarray
    y: np.ndarray
    values: np.ndarray
    levels: tuple[float, ...]
    label: str
    role: Literal["theory", "landscape"] = "theory"


@dataclass(frozen=True, eq=False)
class Arrows:
    """A vector at each place.

    Parameters
    ----------
    x, y, u, v
        Positions and components of the vectors.
    label
        Text in the legend.
    """

    x: np.ndarray
    y: np.ndarray
    u: np.ndarray
    v: np.ndarray
    label: str


Part = Points | Line | Band | Steps | Image | Contours | Arrows


@dataclass(frozen=True, eq=False)
class Panel:
    """One pair of axes, with smaller axes below for residuals or counts.

    Parameters
    ----------
    title
        Title, with the formula of the quantity.
    x_label, y_label
        Labels of the axes.
    parts
        Parts of the panel in the order of drawing.
    residuals
        Residuals, for the axes below.
    counts
        Number of counts in each bin, for the axes below, in place of residuals.
    x_scale, y_scale
        Scales of the axes.
    x_ticks
        Texts at 0, 1, … in place of numbers.
    """

    title: str
    x_label: str
    y_label: str
    parts: tuple[Part, ...]
    residuals: tuple[Residuals, ...] = ()
    counts: tuple[Steps, ...] = ()
    x_scale: Scale = "linear"
    y_scale: Scale = "linear"
    x_ticks: tuple[str, ...] = ()

    @property
    def has_prediction(self) -> bool:
        """True if theory, a rival or a fit is drawn."""
        return any(isinstance(part, Line | Contours) and part.role in ("theory", "rival", "fit") for part in self.parts)


@dataclass(frozen=True, eq=False)
class Drawing:
    """All panels of a figure.

    Parameters
    ----------
    panels
        At most `MOST_PANELS` panels, or `MOST_PANELS_OF_PARTS`.
    left_out
        Names of quantities that are not shown, for lack of room or because there is nothing to see.
    notes
        Sentences for the caption.
    """

    panels: tuple[Panel, ...]
    left_out: tuple[str, ...] = ()
    notes: tuple[str, ...] = field(default=())


def scale_for(values: np.ndarray, decades: float = 2.0) -> Scale:
    """Scale of an axis: logarithmic for positive values whose middle 90 % span the given number of decades.

    Examples
    --------
    >>> scale_for(np.array([1.0, 0.1, 0.001])), scale_for(np.array([1.0, 0.5])), scale_for(np.array([-1.0, 1e3]))
    ('log', 'linear', 'linear')
    """
    finite = np.asarray(values, dtype=float)
    finite = finite[np.isfinite(finite)]
    if not len(finite) or finite.min() <= 0:
        return "linear"
    low, high = np.quantile(finite, 0.05, method="lower"), np.quantile(finite, 0.95, method="higher")
    return "log" if high > low * 10.0**decades else "linear"


def edges_about(centres: np.ndarray, logarithmic: bool = False) -> np.ndarray:
    """Edges of cells with given centres, halfway between them.

    Examples
    --------
    >>> edges_about(np.array([1.0, 2.0, 4.0])), edges_about(np.array([1.0, 4.0]), logarithmic=True)
    (array([0.5, 1.5, 3. , 5. ]), array([0.5, 2. , 8. ]))
    """
    at = np.log(centres) if logarithmic else np.asarray(centres, dtype=float)
    middle = (at[1:] + at[:-1]) / 2
    edges = np.concatenate([[2 * at[0] - middle[0]], middle, [2 * at[-1] - middle[-1]]])
    return np.exp(edges) if logarithmic else edges


def spread(count: int, most: int) -> list[int]:
    """Indices below `count`, at most `most` of them, evenly spaced, with the first and the last.

    Examples
    --------
    >>> spread(3, 4), spread(101, 5), spread(9, 0)
    ([0, 1, 2], [0, 25, 50, 75, 100], [])
    """
    if count <= most:
        return list(range(count))
    if most < 1:
        return []
    return sorted({int(index) for index in np.linspace(0, count - 1, most).round()})


def superscript(exponent: int | str) -> str:
    """Exponent in superscript characters.

    Examples
    --------
    >>> superscript(-12)
    '⁻¹²'
    """
    return str(exponent).translate(_SUPERSCRIPTS)
