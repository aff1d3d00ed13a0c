"""What is to be drawn, as plain data: the kinds make it, `sgdsim.plots.render` draws it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

import numpy as np

MOST_PANELS = 6
MOST_PANELS_OF_PARTS = 12
MOST_SERIES = 4
MOST_STEPS = 200
"""More points a panel than the eye can tell apart."""

_SUPERSCRIPTS = str.maketrans("0123456789-\N{MINUS SIGN}", "⁰¹²³⁴⁵⁶⁷⁸⁹⁻⁻")

Scale = Literal["linear", "log", "symlog"]


@dataclass(frozen=True, eq=False)
class Points:
    """An estimate with its standard errors.

    Parameters
    ----------
    x, y, stderr
        Of each point; a standard error may be NaN.
    label
        In the legend.
    series
        Which colour and marker it has.
    """

    x: np.ndarray
    y: np.ndarray
    stderr: np.ndarray
    label: str
    series: int = 0


@dataclass(frozen=True, eq=False)
class Line:
    """What is predicted, or something else that is known without errors.

    Parameters
    ----------
    x, y
        Of each point; NaN interrupts it.
    label
        In the legend; none if empty.
    role
        ``theory``, ``rival`` (dashed), ``fit``, ``path`` (one trajectory), ``known`` (coloured as what is measured),
        ``mark`` (an upright line at each x), ``zero``, or ``undecided`` (a cross at each point).
    series
        Which line style, or for ``path`` and ``known`` which colour too.
    joined
        Whether the points are joined; if not, each is marked.
    """

    x: np.ndarray
    y: np.ndarray
    label: str = ""
    role: Literal["theory", "rival", "fit", "path", "known", "mark", "zero", "undecided"] = "theory"
    series: int = 0
    joined: bool = True


@dataclass(frozen=True, eq=False)
class Band:
    """What lies between two curves.

    Parameters
    ----------
    x, low, high
        Of each point.
    label, series
        As in `Points`.
    strength
        Opacity.
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
        One more than there are bins.
    values, low, high
        Of each bin.
    label, series
        As in `Points`.
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
        Of each point.
    series
        As in `Points`.
    line
        Which of several predictions in the panel they are from, for another marker.
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
        One more than there are cells.
    values
        Shape (y, x); NaN stays white.
    bar
        What the colours mean, beside their bar.
    logarithmic
        Whether colours go by decades.
    role
        ``value``, or ``density``, which begins with white so that lines show.
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
        Of a grid; the values have shape (y, x).
    levels
        Where a line goes, increasing.
    label
        In the legend; none if empty.
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
        Places and vectors.
    label
        In the legend.
    """

    x: np.ndarray
    y: np.ndarray
    u: np.ndarray
    v: np.ndarray
    label: str


Part = Points | Line | Band | Steps | Image | Contours | Arrows


@dataclass(frozen=True, eq=False)
class Panel:
    """One pair of axes, with a smaller one below where there is something to put in.

    Parameters
    ----------
    title
        What is shown, with its formula.
    x_label, y_label
        Of the axes.
    parts
        In the order of drawing.
    residuals
        For the axes below.
    counts
        Or else, how much each bin rests on.
    x_scale, y_scale
        Of the axes.
    x_ticks
        Texts at 0, 1, …, in place of numbers.
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
        """Whether theory, a rival or a fit is drawn."""
        return any(isinstance(part, Line | Contours) and part.role in ("theory", "rival", "fit") for part in self.parts)


@dataclass(frozen=True, eq=False)
class Drawing:
    """All panels of a figure.

    Parameters
    ----------
    panels
        No more than `MOST_PANELS`, or `MOST_PANELS_OF_PARTS`.
    left_out
        What there was no room for, or nothing to see in.
    notes
        Sentences for the caption.
    """

    panels: tuple[Panel, ...]
    left_out: tuple[str, ...] = ()
    notes: tuple[str, ...] = field(default=())


def scale_for(values: np.ndarray, decades: float = 2.0) -> Scale:
    """Logarithmic for positive values of which the middle nine tenths span so many decades.

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
    """The edges of cells that have these centres, halfway between them.

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
    """At most so many indices out of `count`, first and last among them, evenly.

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
    """Raised digits.

    Examples
    --------
    >>> superscript(-12)
    '⁻¹²'
    """
    return str(exponent).translate(_SUPERSCRIPTS)
