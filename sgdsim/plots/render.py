"""Drawing of panels into a `matplotlib.figure.Figure`, without pyplot."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from sgdsim.base.errors import InputError
from sgdsim.plots import mathematics, style
from sgdsim.plots.panel import (
    Arrows,
    Band,
    Contours,
    Drawing,
    Image,
    Line,
    Panel,
    Part,
    Points,
    Residuals,
    Steps,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

ERRORS = 2.0
"""Half-length of error bars and bands, in standard errors."""
_MARGIN = 0.08  # inches around the figure
_CHARACTERS = 40  # characters of all texts at ticks, beyond which these are turned
_SMALLEST = (0.8, 0.6)  # inches, smallest width and height of axes
_LOWEST = 0.25  # inches, smallest height of the axes below
_TEXTS = 1.3  # inches, approximate height of title, legend and caption together
_OF_TALK = 0.7  # size of a panel for a talk, relative to the usual size
_SYMLOG = 3.0  # multiple of the band beyond which residuals are drawn on a logarithmic scale


def render(
    drawing: Drawing,
    title: str,
    facts: Sequence[str],
    size: tuple[float, float] | None,
    alpha: float,
    look: str = "paper",
) -> Figure:
    """Draw all panels.

    Parameters
    ----------
    drawing
        Panels and notes.
    title
        Title of the figure.
    facts
        Sentences of the caption, before the drawing's own notes.
    size
        Width and height in inches; None for a size that suits the number of panels.
    alpha
        Probability that any residual leaves the outer band by chance.
    look
        ``paper``, or ``talk``: small panels with thick lines, whose letters are large on a screen, and no caption.

    Raises
    ------
    InputError
        For a size that is too small for the panels.
    """
    from matplotlib.figure import Figure
    from matplotlib.layout_engine import ConstrainedLayoutEngine

    drawing = replace(drawing, panels=tuple(_without_unknown(panel) for panel in drawing.panels))
    columns = _columns(len(drawing.panels), size)
    rows = math.ceil(len(drawing.panels) / columns)
    low = any(panel.residuals or panel.counts for panel in drawing.panels)
    part = _OF_TALK if look == "talk" else 1.0
    width, height = size or (part * max(3.4 * columns, 4.8), part * (2.9 if low else 2.4) * rows)
    with style.our_style(look):
        layout = ConstrainedLayoutEngine(w_pad=0.08, h_pad=0.05, wspace=0.02, hspace=0.02)
        figure = Figure(figsize=(width, height), layout=layout)
        cells = figure.add_gridspec(rows, columns)
        band = _family_band(drawing.panels, alpha)
        handles: dict[str, Any] = {}
        own_legends = _differ(drawing.panels)
        for place, panel in enumerate(drawing.panels):
            cell = cells[place // columns, place % columns]
            handles = _draw_panel(figure, cell, panel, band, width / columns, own_legends) | handles
        sentences = [*facts, *_band_note(drawing.panels, band, alpha), *drawing.notes]
        sentences += [f"Left out: {'; '.join(drawing.left_out)}."] if drawing.left_out else []
        shared = {} if own_legends else _ordered(handles, drawing.panels)
        _write(figure, title, shared, "" if look == "talk" else " ".join(sentences), grow=size is None)
        _check_layout(figure, len(drawing.panels))
        figure.set_layout_engine("none")  # the layout is final; to compute it again would double the time
        for axes in figure.axes:  # the last digits from the layout's solver differ from time to time
            axes.set_position(np.round(axes.get_position().bounds, 6).tolist())
    return figure


def _without_unknown(panel: Panel) -> Panel:
    """Panel without residuals whose standard error is unknown, as in a run with a single group."""
    return replace(panel, residuals=tuple(one for one in panel.residuals if np.any(np.isfinite(one.z))))


def _columns(count: int, size: tuple[float, float] | None) -> int:
    """Number of panels side by side, for which their shape is nearest to the usual one and few places stay empty."""
    if size is None:
        return {1: 1, 2: 2, 3: 3, 4: 2}.get(count, 3 if count <= 9 else 4)
    width, height = size[0], size[1] - _TEXTS

    def misshapen(columns: int) -> float:
        rows = math.ceil(count / columns)
        return abs(math.log(width / columns / (max(height, 1.0) / rows) / 1.2)) + 0.3 * (rows * columns - count)

    return min(range(1, count + 1), key=misshapen)


def _differ(panels: Sequence[Panel]) -> bool:
    """True if the same look has different meanings in two panels, so that each needs a legend of its own."""
    meanings: dict[object, set[frozenset[str]]] = {}
    for panel in panels:
        labels: dict[object, set[str]] = {}
        for part in panel.parts:
            if part.label:
                labels.setdefault(_look(part), set()).add(part.label)
        for look, found in labels.items():
            meanings.setdefault(look, set()).add(frozenset(found))
    return any(len(found) > 1 for found in meanings.values())


def _look(part: Part) -> object:
    if isinstance(part, Image | Contours | Arrows):
        return type(part), part.label
    if not isinstance(part, Line):
        return type(part), part.series
    role = "theory" if part.role == "fit" else part.role
    return role, part.joined, part.series if role in ("theory", "path", "known", "mark") else 0


def _draw_panel(figure: Figure, cell: Any, panel: Panel, band: float, width: float, own_legend: bool) -> dict[str, Any]:
    """Draw one panel, and return the legend's handle for each label."""
    below = bool(panel.residuals or panel.counts)
    parts = cell.subgridspec(2, 1, height_ratios=(3, 1.1)) if below else cell.subgridspec(1, 1)
    axes = figure.add_subplot(parts[0])
    _text(axes.set_title(_wrapped(panel.title, width - 0.7, 8.0), loc="left"))
    handles = {part.label: _DRAW[type(part)](part, axes) for part in panel.parts}
    lowest = axes
    if below:
        lowest = figure.add_subplot(parts[1], sharex=axes)
        axes.tick_params(labelbottom=False, which="both")
        axes.xaxis.get_offset_text().set_visible(False)
        _draw_residuals(lowest, panel.residuals, band) if panel.residuals else _draw_counts(lowest, panel.counts)
    _set_scales(axes, panel, width)
    if own_legend:
        named = _ordered(handles, [panel])
        labels = [_plain(_wrapped(label, width - 1.6, 6.5)) for label in named]
        behind: dict[str, Any] = {"frameon": True, "framealpha": 0.5, "edgecolor": "none"}  # points stay visible
        axes.legend(list(named.values()), labels, loc="best", fontsize=6.5, handlelength=2.6, borderpad=0.2, **behind)
    if sum(max(map(len, text.split("\n"))) for text in panel.x_ticks) > _CHARACTERS:
        for label in lowest.get_xticklabels():
            label.set(rotation=25, ha="right", rotation_mode="anchor")
    _text(axes.set_ylabel(panel.y_label))
    _text(lowest.set_xlabel(panel.x_label))
    figure.align_ylabels([axes, lowest])
    return handles


def _wrapped(text: str, width: float, points: float) -> str:
    """Text in lines of a given width in inches."""
    return mathematics.wrapped(text, max(int(width * 72 / (mathematics.LETTER * points)), 12))


def _text(text: Any) -> None:
    """Typeset the marked formulas of a text; in other texts a dollar sign does not begin a formula."""
    if mathematics.is_marked(text.get_text()):
        text.set_text(mathematics.typeset(text.get_text()))
    else:
        text.set_parse_math(False)


def _plain(text: str) -> str:
    """Label for a legend, which would leave out a label that begins with an underscore."""
    return mathematics.typeset(text if not text.startswith("_") else f" {text}")


def _draw_points(part: Points, axes: Axes) -> Any:
    looks: dict[str, Any] = {
        "color": style.colour(part.series),
        "markerfacecolor": style.face(part.series),
        "zorder": 2,
        "label": _plain(part.label),
    }
    marker = style.marker(part.series)
    if not np.any(np.isfinite(part.stderr)):
        return axes.plot(part.x, part.y, marker, **looks)[0]
    return axes.errorbar(part.x, part.y, ERRORS * part.stderr, fmt=marker, elinewidth=0.8, capsize=1.5, **looks)


def _draw_line(part: Line, axes: Axes) -> Any:
    dashes = style.dashes(part.series)
    if part.role == "undecided":
        crosses: dict[str, Any] = {"color": "0.35", "linestyle": "none", "marker": "x", "markersize": 4}
        return axes.plot(part.x, part.y, label=_plain(part.label), **crosses)[0]
    if part.role == "mark":
        marks = [axes.axvline(x, color=style.RIVAL, linestyle=dashes, label=_plain(part.label)) for x in part.x]
        return marks[0]
    looks: dict[str, Any] = {
        "theory": {"color": style.THEORY, "linestyle": dashes, "zorder": 4},
        "fit": {"color": style.THEORY, "zorder": 4},
        "rival": {"color": style.RIVAL, "linestyle": style.rival_dashes(part.series), "zorder": 3},
        "path": {"color": style.colour(part.series), "linestyle": dashes, "linewidth": 0.8},
        "known": {"color": style.colour(part.series), "linestyle": dashes, "zorder": 1},
        "zero": {"color": style.RIVAL, "linewidth": 0.5, "zorder": 1},
    }[part.role]
    if part.tolerances is not None:
        bars: dict[str, Any] = {"elinewidth": 0.8, "capsize": 4.0, "zorder": 3}
        axes.errorbar(part.x, part.y, part.tolerances, fmt="none", ecolor=looks["color"], **bars)
    if not part.joined:
        looks |= {"linestyle": "none", "marker": style.frame(part.series), "markerfacecolor": "none", "markersize": 8}
    return axes.plot(part.x, part.y, label=_plain(part.label) or "_", **looks)[0]


def _draw_band(part: Band, axes: Axes) -> Any:
    looks: dict[str, Any] = {"color": style.colour(part.series), "alpha": part.strength, "linewidth": 0, "zorder": 1}
    return axes.fill_between(part.x, part.low, part.high, label=_plain(part.label), **looks)


def _draw_steps(part: Steps, axes: Axes) -> Any:
    colour = style.colour(part.series)
    axes.stairs(part.high, part.edges, baseline=part.low, fill=True, color=colour, alpha=0.25, linewidth=0, zorder=1)
    axes.stairs(part.values, part.edges, baseline=None, color=colour, linewidth=0.6, zorder=2)
    centres = (part.edges[1:] + part.edges[:-1]) / 2
    every = max(1, len(centres) // 30)
    return axes.plot(
        centres,
        part.values,
        style.marker(part.series),
        color=colour,
        markerfacecolor=style.face(part.series),
        markevery=(part.series * every // 4, every),
        markersize=3.0,
        label=_plain(part.label),
        zorder=2,
    )[0]


_FAR = 0.7  # fraction of the cells that colours tell apart, in a map with both signs


def _draw_image(part: Image, axes: Axes) -> Any:
    from matplotlib.colors import LogNorm, Normalize

    finite = part.values[np.isfinite(part.values) & (part.values > 0 if part.logarithmic else True)]
    low, high = (finite.min(), finite.max()) if len(finite) else (0.0, 1.0)
    if low == high:
        low, high = (low / 2, high * 2) if part.logarithmic else (low - 0.5, high + 0.5)
    norm = LogNorm(low, high) if part.logarithmic else Normalize(low, high)
    looks: dict[str, Any] = {"cmap": style.MAPS[part.role], "norm": norm, "rasterized": True, "zorder": 0}
    signed = part.role == "value" and low < 0 < high
    if signed:  # white at zero, and one colour for all values far from it
        most = float(np.quantile(np.abs(finite), _FAR))
        looks |= {"cmap": "PuOr", "norm": Normalize(-most, most)}
    mesh = axes.pcolormesh(part.x_edges, part.y_edges, part.values, **looks)
    bar = axes.figure.colorbar(mesh, ax=axes, pad=0.02, aspect=25, extend="both" if signed else "neither")
    if bar.solids is not None:
        bar.solids.set_rasterized(True)
    _text(bar.ax.set_ylabel(part.bar))
    bar.outline.set_visible(False)
    return mesh


def _draw_contours(part: Contours, axes: Axes) -> Any:
    from matplotlib.lines import Line2D
    from matplotlib.patheffects import withStroke

    is_theory = part.role == "theory"
    looks: dict[str, Any] = {"color": style.THEORY if is_theory else "0.45", "linewidth": 1.0 if is_theory else 0.8}
    lines = {"colors": looks["color"], "linewidths": looks["linewidth"]}
    drawn = axes.contour(part.x, part.y, part.values, part.levels, **lines)
    if is_theory:  # a black line with a white rim is visible on every colour
        white: list[Any] = [withStroke(linewidth=2.2, foreground="white")]
        axes.clabel(drawn, fmt="%.3g", fontsize=6.0, inline_spacing=2)
        drawn.set_path_effects(white)
        for text in drawn.labelTexts:
            text.set_path_effects(white)
    return Line2D([], [], label=_plain(part.label) or "_", **looks)


def _draw_arrows(part: Arrows, axes: Axes) -> Any:
    from matplotlib.lines import Line2D

    steps = [float(np.diff(np.unique(one)).min()) for one in (part.x, part.y)]
    longest = max(float(np.abs(one).max()) / step for one, step in zip((part.u, part.v), steps, strict=True))
    in_plane: dict[str, Any] = {"angles": "xy", "scale_units": "xy", "scale": longest or 1.0}  # arrows do not meet
    axes.quiver(part.x, part.y, part.u, part.v, color=style.colour(1), width=0.005, pivot="mid", zorder=3, **in_plane)
    looks: dict[str, Any] = {"color": style.colour(1), "marker": ">", "markersize": 4, "linewidth": 1.0}
    return Line2D([], [], label=_plain(part.label), **looks)


_DRAW: dict[type, Callable[[Any, Axes], Any]] = {
    Image: _draw_image,
    Contours: _draw_contours,
    Arrows: _draw_arrows,
    Points: _draw_points,
    Line: _draw_line,
    Band: _draw_band,
    Steps: _draw_steps,
}


_LEAST_LIMIT = 1e-300  # smallest limit of a logarithmic axis; its reciprocal is the largest


def _set_scales(axes: Axes, panel: Panel, width: float) -> None:
    from sgdsim.plots.ticks import linear_ticks, logarithmic_ticks

    linear_ticks(axes.yaxis)
    if any(isinstance(part, Line) and not part.joined and part.role != "mark" for part in panel.parts):
        axes.margins(0.08, 0.15)  # frames are large, and must not be cut off
    if panel.x_ticks:
        axes.set_xticks(range(len(panel.x_ticks)), [_plain(text) for text in panel.x_ticks])
        axes.set_xlim(-0.5, len(panel.x_ticks) - 0.5)
    elif panel.x_scale == "symlog":
        later = np.concatenate([part.x for part in panel.parts if isinstance(part, Points)])
        axes.set_xscale("symlog", linthresh=float(later[later > 0].min()))
        logarithmic_ticks(axes.xaxis)
    elif panel.x_scale == "log":
        axes.set_xscale("log")
        logarithmic_ticks(axes.xaxis)
    else:
        axes.locator_params(axis="x", nbins=max(2, min(9, int(1.7 * width))))
        linear_ticks(axes.xaxis)
    if any(isinstance(part, Image) for part in panel.parts):
        axes.margins(0)
    if panel.y_scale == "log":
        _set_logarithmic(axes)
        lowest = [part.values[part.values > 0].min() for part in panel.parts if isinstance(part, Steps)]
        if lowest:
            axes.set_ylim(bottom=min(lowest) / 3)
        logarithmic_ticks(axes.yaxis)


def _set_logarithmic(axes: Axes) -> None:
    """Make the y-axis logarithmic, with finite limits even if values are near the largest float."""
    with np.errstate(all="ignore"), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # matplotlib warns about its margins
        axes.set_yscale("log")
        low, high = axes.get_ylim()
        if not (np.isfinite([low, high]).all() and low > 0):
            axes.set_ylim(max(low, _LEAST_LIMIT) if low > 0 else _LEAST_LIMIT, min(high, 1 / _LEAST_LIMIT))


def _draw_residuals(axes: Axes, residuals: Sequence[Residuals], band: float) -> None:
    from sgdsim.plots.ticks import logarithmic_ticks

    axes.axhspan(-2, 2, color="0.88", linewidth=0, zorder=0)
    axes.axhline(0, color="black", linewidth=0.5, zorder=1)
    for height in (-band, band):
        axes.axhline(height, color="black", linestyle=(0, (2, 2)), linewidth=0.7, zorder=1)
    for one in residuals:
        looks: dict[str, Any] = {"color": style.colour(one.series), "markersize": 2.8, "zorder": 3}
        looks |= {"marker": style.marker(one.series), "markerfacecolor": style.face(one.series), "linestyle": "none"}
        if one.line is not None:
            looks |= {"marker": style.frame(one.line), "markerfacecolor": "none", "markersize": 4}
        axes.plot(one.x, one.z, **looks)
    most = _reach(residuals, band)
    if most > _SYMLOG * band:
        axes.set_yscale("symlog", linthresh=band)
        ticks = [sign * 10.0**power for sign in (-1, 1) for power in range(1, 9, 1 if most < 1e3 else 2)]
        axes.set_yticks([0.0, *(tick for tick in ticks if abs(tick) <= 1.25 * most)])
        logarithmic_ticks(axes.yaxis)
        most *= 1.6
    else:
        axes.locator_params(axis="y", nbins=3)
    axes.set_ylim(-1.25 * most, 1.25 * most)
    axes.set_ylabel("z")


def _draw_counts(axes: Axes, counts: Sequence[Steps]) -> None:
    from sgdsim.plots.ticks import linear_ticks, logarithmic_ticks

    for one in counts:
        axes.stairs(one.values, one.edges, color=style.colour(one.series), linestyle=style.dashes(one.series))
    seen = np.concatenate([one.values[one.values > 0] for one in counts])
    if len(seen) and seen.max() > 10 * seen.min():
        axes.set_yscale("log")
        logarithmic_ticks(axes.yaxis, most=20.0)
    else:
        axes.set_ylim(bottom=0)
        linear_ticks(axes.yaxis)
    axes.set_ylabel("seen", fontsize=6.5)


def _family_band(panels: Sequence[Panel], alpha: float) -> float:
    """Bound that the largest of all residuals exceeds with probability alpha at most (Bonferroni, Student's t)."""
    from scipy.special import stdtrit

    found = [one for panel in panels for one in panel.residuals]
    tests = _tests(panels)
    if not tests:
        return 0.0
    freedom = min(one.freedom for one in found)
    return float(stdtrit(min(freedom, 1e9), 1.0 - alpha / (2.0 * tests)))


def _tests(panels: Sequence[Panel]) -> int:
    return sum(int(np.isfinite(one.z).sum()) for panel in panels for one in panel.residuals)


def _band_note(panels: Sequence[Panel], band: float, alpha: float) -> list[str]:
    has_errors = any(
        isinstance(part, Points) and np.any(np.isfinite(part.stderr)) for panel in panels for part in panel.parts
    )
    notes = [f"Bars: ±{ERRORS:g} standard errors."] if has_errors else []
    if any(isinstance(part, Line) and part.tolerances is not None for panel in panels for part in panel.parts):
        notes.append("Bars of predicted numbers: what they allow.")
    tests = _tests(panels)
    if tests:
        within = f"±{band:.1f}, which any of {tests} exceeds with a probability of at most {alpha:g}"
        notes.append(f"Below: z, residuals in standard errors; grey ±2, dashed {within}.")
    if any(_reach(panel.residuals, band) > _SYMLOG * band for panel in panels):
        notes.append("Where z reaches far, its axis is logarithmic beyond the dashed lines.")
    return notes


def _reach(residuals: Sequence[Residuals], band: float) -> float:
    """Largest |z| of the residuals, but at least the band."""
    return max([band, *(float(np.nanmax(np.abs(one.z))) for one in residuals)])


def _ordered(handles: dict[str, Any], panels: Sequence[Panel]) -> dict[str, Any]:
    """Entries of the legend: measurements first, then the others, in the order of drawing."""
    parts = [part for panel in panels for part in panel.parts if part.label]
    parts.sort(key=lambda part: isinstance(part, Line))
    return {part.label: handles[part.label] for part in parts}


def _write(figure: Figure, title: str, handles: dict[str, Any], caption: str, grow: bool) -> None:
    """Place title and legend above the panels and the caption below; the figure may grow for them.

    Matplotlib's constrained layout would put the title over the legend.
    """
    width, height = figure.get_size_inches()
    top, bottom = _MARGIN, _MARGIN
    above = figure.text(_MARGIN / width, 1.0, _wrapped(title, width - 2 * _MARGIN, 10.0), fontsize=10, va="top")
    below = figure.text(
        _MARGIN / width, 0.0, _wrapped(caption, width - 2 * _MARGIN, 6.5), fontsize=6.5, va="bottom", color="0.25"
    )
    _text(above)
    _text(below)
    legend = _legend(figure, handles, width)
    heights = [artist.get_window_extent().height / figure.dpi for artist in (above, legend, below) if artist]
    title_height, legend_height, caption_height = heights[0], sum(heights[1:-1]), heights[-1]
    top = title_height + legend_height + 2 * _MARGIN
    bottom = caption_height + 2 * _MARGIN
    if grow:
        height += top + bottom
        figure.set_size_inches(width, height)
    above.set_y(1 - _MARGIN / height)
    below.set_y(_MARGIN / height)
    if legend:
        legend.set_bbox_to_anchor((0.5 * _MARGIN / width, 1 - (title_height + 1.5 * _MARGIN) / height))
    layout: Any = figure.get_layout_engine()
    layout.set(rect=(0.0, bottom / height, 1.0, 1 - (top + bottom) / height))


def _legend(figure: Figure, handles: dict[str, Any], width: float) -> Any:
    if not handles:
        return None
    widths = np.array([mathematics.letters(label) * mathematics.LETTER * 7.5 / 72 + 0.5 for label in handles])
    fitting = [n for n in range(1, len(widths) + 1) if _legend_width(widths, n) <= width - 2 * _MARGIN]
    return figure.legend(
        list(handles.values()),
        [_plain(label) for label in handles],
        loc="upper left",
        ncols=max(fitting, default=1),
        handlelength=2.6,
        columnspacing=1.2,
        borderaxespad=0.0,
        borderpad=0.3,
    )


def _legend_width(widths: np.ndarray, columns: int) -> float:
    """Width of a legend that is filled column by column."""
    return float(sum(column.max() for column in np.array_split(widths, columns)))


def _check_layout(figure: Figure, panels: int) -> None:
    """Refuse a size that leaves no room to the panels."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        layout: Any = figure.get_layout_engine()
        layout.execute(figure)  # `draw_without_rendering`, which draws everything, takes three times as long
    collapsed = any("constrained_layout not applied" in str(one.message) for one in caught)
    for axes in figure.axes:
        _fit_label(axes)
    if collapsed or any(_is_too_small(axes, figure.dpi) for axes in figure.axes):
        width, height = figure.get_size_inches()
        number = f"{panels} panel{'s' if panels > 1 else ''}"
        raise InputError(
            f"size {width:g}x{height:g}: too small for {number} with title and caption, expected more inches"
        )


def _fit_label(axes: Axes) -> None:
    """Make a label smaller if it is longer than its axis and would run into the next one."""
    label = axes.yaxis.label
    ratio = axes.get_window_extent().height / max(label.get_window_extent().height, 1.0)
    label.set_fontsize(float(label.get_fontsize()) * min(1.0, ratio))


def _is_too_small(axes: Axes, dpi: float) -> bool:
    if axes.get_label() == "<colorbar>":
        return False
    extent = axes.get_window_extent()
    width, height = extent.width / dpi, extent.height / dpi
    return bool(width < _SMALLEST[0] or height < (_SMALLEST[1] if axes.get_title(loc="left") else _LOWEST))
