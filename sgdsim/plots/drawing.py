"""Figures of an ensemble: measurements with theory; nothing but the file is needed.

A figure is a `matplotlib.figure.Figure`; pyplot and its global state are not used. `KINDS` lists the kinds of figures;
each has a file in `sgdsim/plots/`.
"""

from __future__ import annotations

import importlib
import importlib.util
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from sgdsim.base import take
from sgdsim.base.errors import InputError, RunError, shortened, unknown_name
from sgdsim.base.files import atomic_file
from sgdsim.ensemble import WHOLE, Ensemble
from sgdsim.plots.mathematics import mark
from sgdsim.prediction import Prediction
from sgdsim.statistics import records

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from sgdsim.model.loss import Loss
    from sgdsim.model.optimizers import Optimizer
    from sgdsim.plots.panel import Drawing
    from sgdsim.plots.subject import Subject

KINDS = {
    "density": "histograms or snapshots at several steps, with predicted distributions",
    "moments": "mean, variance and other statistics against steps",
    "drift": "mean change of a step, and that of its square, by bins",
    "sweep": "statistics against what is swept",
    "order": "what a prediction of finite order leaves, against its small parameter",
    "schedule": "the learning rate against steps",
    "diagram": "a grid of two swept numbers as a map, with predicted contours and the limit of stability",
    "landscape": "a loss of two parameters, with the ensemble and the entropic force on it",
    "evolution": "a density over time as an image, with quantiles",
    "trajectories": "a few trajectories, and the quantiles of all",
}
STYLES = ("paper", "talk")
SUFFIXES = (".svg", ".png", ".pdf")
SMALLEST, LARGEST = 2.0, 50.0
_FEWEST_OF_MAP = 4
_EQUALS = "\N{NO-BREAK SPACE}=\N{NO-BREAK SPACE}"
_MOST_NAMES = 4  # definitions that a caption lists

_METADATA: dict[str, dict[str, None]] = {"svg": {"Date": None}, "pdf": {"CreationDate": None}, "png": {}}


def choose_kind(ensemble: Ensemble, predictions: Sequence[Prediction] | None = None) -> str:
    """The kind of figure that shows most of an ensemble.

    A sweep over learning rates with a prediction of finite order is shown as a test of the order, a sweep over
    schedules with intermediate records by its moments, a grid of two numbers as a diagram, and any other sweep as a
    sweep. A single run is shown by its moments if it has intermediate records, else by its drift or its densities.

    Parameters
    ----------
    ensemble
        A run or a sweep.
    predictions
        Predictions for it; None if they are not computed yet: then the claims of its scenario count.

    Examples
    --------
    >>> from sgdsim.ensemble import Variable
    >>> choose_kind(Ensemble({"record_step": Variable(("record",), [0, 50, 100])}, {}))
    'moments'
    """
    if ensemble.sizes.get("point", 1) > 1:
        if _has_order(ensemble, predictions):
            return "order"
        if _is_map(ensemble):
            return "diagram"
        return "moments" if _of_schedules(ensemble) and ensemble.sizes.get("record", 0) > 2 else "sweep"
    if ensemble.sizes.get("record", 0) == 2 and any(name.startswith("drift_") for name in ensemble):
        return "drift"
    densities = ensemble.sizes.get("snapshot", 0) or any(name.startswith("underflow_") for name in ensemble)
    return "density" if densities and ensemble.sizes.get("record", 0) <= 2 else "moments"


def _is_map(ensemble: Ensemble) -> bool:
    """True if the sweep is a grid with enough values of both numbers for a map."""
    from sgdsim.plots.diagram import axes_of_grid
    from sgdsim.plots.subject import Subject

    sweep = Subject(ensemble).sweep
    keys = axes_of_grid(sweep)
    return keys is not None and min(len(set(sweep[key].tolist())) for key in keys) >= _FEWEST_OF_MAP


def _of_schedules(ensemble: Ensemble) -> bool:
    key = "sweep_optimizer.learning_rate"
    rates = {str(rate) for rate in ensemble[key]} if key in ensemble else set()
    return len(rates) > 1 and not all(map(_is_number, rates))


def _is_number(text: str) -> bool:
    try:
        return bool(float(text))
    except ValueError:
        return False


def _has_order(ensemble: Ensemble, predictions: Sequence[Prediction] | None) -> bool:
    """True if a prediction of finite order is asked for and applies; laws that are only tried do not count."""
    from sgdsim.plots.order import series
    from sgdsim.plots.subject import Subject
    from sgdsim.statistics.comparison import FEWEST_RATES

    subject = Subject(ensemble, (), 1.0)
    rates = subject.sweep.get("optimizer.learning_rate", ())
    if len(set(rates)) < FEWEST_RATES:
        return False
    if predictions is not None:
        return bool(series(predictions))
    claims = [claim for claim in subject.scenario.claims if claim.asked] if subject.scenario else []
    return any(getattr(c.source, "finite_order", isinstance(getattr(c.source, "order", None), int)) for c in claims)


def draw(
    ensemble: Ensemble,
    predictions: Iterable[Prediction] = (),
    kind: str | None = None,
    size: tuple[float, float] | None = None,
    alpha: float = 1e-3,
    *,
    residuals: bool = False,
    only: Sequence[str] = (),
    style: str = "paper",
) -> Figure:
    """Draw an ensemble with its predictions.

    Parameters
    ----------
    ensemble
        A run or a sweep, in memory or from a file; names, formulas and schedules are taken from its scenario.
    predictions
        Predictions for the ensemble.
    kind
        A key of `KINDS`; None for the kind from `choose_kind`.
    size
        Width and height in inches; None for a size that suits the number of panels.
    alpha
        Probability that any residual leaves the outer band, or a density its band, by chance.
    residuals
        True to draw the difference of measurement and prediction below.
    only
        Names of parameters and observables to show, or statistics of them, ``variance(x)``; by default all.
    style
        ``paper``, or ``talk``: larger letters and thicker lines, no caption.

    Returns
    -------
    matplotlib.figure.Figure
        Its label is the kind; in a notebook it shows itself.

    Raises
    ------
    InputError
        For an unknown kind, style or name, one that nothing was recorded for, and a size that cannot be used.
    RunError
        If matplotlib is not installed.

    Examples
    --------
    >>> import sgdsim
    >>> loss = sgdsim.Loss("x**2/2 + z*x", ("x",), noise={"z": "normal"})
    >>> run = {"initial": {"x": 1.0}, "trajectories": 64, "steps": 8, "every": 2, "device": "python"}
    >>> figure = draw(sgdsim.simulate(loss, learning_rate=0.1, **run))
    >>> figure.get_label(), [axes.get_ylabel() for axes in figure.axes]
    ('moments', ['mean(${x}$)', 'variance(${x}$)'])
    """
    require_matplotlib()
    from sgdsim.plots.subject import Subject

    subject = Subject(ensemble, tuple(predictions), alpha, only=only)
    return draw_parts({WHOLE: subject}, kind, size, residuals=residuals, style=style)


def draw_parts(
    parts: Mapping[str, Subject],
    kind: str | None = None,
    size: tuple[float, float] | None = None,
    *,
    residuals: bool = False,
    style: str = "paper",
) -> Figure:
    """Draw several ensembles, each with its predictions, in one figure.

    Parameters
    ----------
    parts
        Ensembles with their predictions, by the name of the part.
    kind, size, residuals, style
        See `draw`; the kind holds for all parts, and None gives each part its own.

    Returns
    -------
    matplotlib.figure.Figure
        A figure with as many panels of each part as there is room for.

    Raises
    ------
    InputError
        For an unknown kind, style or name, one that nothing was recorded for, and a size that cannot be used.
    RunError
        If matplotlib is not installed.
    """
    require_matplotlib()
    from sgdsim.plots.naming import with_short_names
    from sgdsim.plots.render import render
    from sgdsim.simulation.provenance import UNTITLED

    size = checked_size(size)
    checked_kind(kind)
    checked_style(style)
    kinds = [kind or choose_kind(subject.ensemble, subject.predictions) for subject in parts.values()]
    drawings = [_drawing(one, subject) for one, subject in zip(kinds, parts.values(), strict=True)]
    if kind is None:
        alone = len(parts) == 1
        drawings = [_with_numbers(*one, alone) for one in zip(kinds, parts.values(), drawings, strict=True)]
    drawings = [with_short_names(*one) for one in zip(parts.values(), drawings, strict=True)]
    names, first = [*parts], next(iter(parts.values()))
    attributes = first.ensemble.attributes
    title = str(attributes.get("title", "")).removesuffix(f": {names[0]}") or str(attributes.get("scenario_name", ""))
    title = "" if title == UNTITLED else title  # a default title says nothing
    facts = [fact for name, subject in parts.items() for fact in (*_facts(subject, name), *_lost(subject))]
    drawing = _joined(names, drawings)
    if not residuals:
        drawing = replace(drawing, panels=tuple(replace(panel, residuals=()) for panel in drawing.panels))
    figure = render(drawing, title, facts, size, first.alpha, style)
    figure.set_label(", ".join(dict.fromkeys(kinds)))
    return figure


def _drawing(kind: str, subject: Subject) -> Drawing:
    drawing: Drawing = importlib.import_module(f"sgdsim.plots.{kind}").drawing(subject)
    return drawing


def _with_numbers(kind: str, subject: Subject, drawing: Drawing, alone: bool) -> Drawing:
    """Drawing with panels, at the front, for all predicted numbers that this kind does not draw.

    In a figure of several parts they replace panels without predictions.
    """
    from sgdsim.plots import numbers

    found = numbers.drawing(kind, subject)
    own = drawing.panels if alone else tuple(panel for panel in drawing.panels if panel.has_prediction)
    if found.panels and not own:
        return found
    return replace(drawing, panels=found.panels + (own or drawing.panels), left_out=found.left_out + drawing.left_out)


def _joined(names: Sequence[str], drawings: Sequence[Drawing]) -> Drawing:
    """Drawing with the panels of all parts, as many of each as there is room for, titled with the part."""
    from sgdsim.plots.panel import MOST_PANELS_OF_PARTS, Drawing

    if len(drawings) == 1:
        return drawings[0]
    places = sorted((number, part) for part, one in enumerate(drawings) for number in range(len(one.panels)))
    shown = [sum(part == this for _, part in places[:MOST_PANELS_OF_PARTS]) for this in range(len(drawings))]
    rows = list(zip(names, drawings, shown, strict=True))
    panels = tuple(replace(panel, title=f"{name}: {panel.title}") for name, one, n in rows for panel in one.panels[:n])
    left_out = tuple(
        f"{name}: {len(one.panels[n:]) + len(one.left_out)} more"
        for name, one, n in rows
        if one.panels[n:] or one.left_out
    )
    notes = tuple(dict.fromkeys(note for one in drawings for note in one.notes))
    return Drawing(panels, left_out, notes)


def _facts(subject: Subject, part: str) -> list[str]:
    """Sentences on what was simulated; for a part without its formula, for which there is no room."""
    if not subject.runs:
        return []
    run = subject.runs[0]
    loss = part or _dynamics(run.loss)
    names = [
        mark(f"{n} = {d if isinstance(d, str) else f'[{chr(44).join(d)}]'}") for n, d in run.loss.definitions.items()
    ]
    loss += (
        f", where {', '.join(names[:_MOST_NAMES])}{' …' if names[_MOST_NAMES:] else ''}" if names and not part else ""
    )
    rates = {one.schedule.text for one in subject.runs}
    rate = f", {mark('learning_rate')}{_EQUALS}{_rate(rates.pop())}" if len(rates) == 1 else ""
    points = f"{len(subject.points)} x " if len(subject.points) > 1 else ""
    joint = ": " if part else ". "
    numbers = [
        f"{mark(name)}{_EQUALS}{value:g}" for name, value in run.loss.constants.items() if not _is_swept(subject, name)
    ]
    loss += f"; {', '.join(numbers)}" if 0 < len(numbers) <= _MOST_NAMES and not part else ""
    lengths = sorted({one.steps for one in subject.runs})
    steps = f"{lengths[0]:,}" if len(lengths) == 1 else f"{lengths[0]:,} to {lengths[-1]:,}"
    return [
        f"{loss}{joint}{_optimizer(run.optimizer)}{rate}, {points}{run.trajectories:,} trajectories, {steps} steps."
    ]


def _optimizer(optimizer: Optimizer) -> str:
    """Name of an optimizer with the numbers that were given for it, and the size of its batch."""
    given = {**optimizer.hyperparameters, **({"batch size": optimizer.batch_size} if optimizer.batch_size > 1 else {})}
    return ", ".join([optimizer.name, *(f"{name.replace('_', ' ')} {value:g}" for name, value in given.items())])


def _lost(subject: Subject) -> list[str]:
    """A sentence on trajectories that diverged: what is drawn leaves them out from then on."""
    found = sum(map(records.diverged, subject.points))
    return [f"{found:,} trajectories diverged and are left out from then on."] if found else []


def _rate(text: str) -> str:
    """Text of a learning rate, with four digits."""
    return f"{float(text):.4g}" if _is_number(text) else shortened(text, 40)


def _is_swept(subject: Subject, constant: str) -> bool:
    return f"loss.constants.{constant}" in subject.sweep


def _dynamics(loss: Loss) -> str:
    """The loss of a sample, and the directions that take the place of gradients."""
    of_loss = [f"Loss of a sample: {mark(shortened(loss.formula, 90))}"] if loss.formula else []
    rules = [f"{n}: {d if isinstance(d, str) else f'[{chr(44).join(d)}]'}" for n, d in loss.direction.items()]
    return ". ".join(of_loss + ([f"Directions {shortened(', '.join(rules), 90)}"] if rules else []))


def save_figure(figure: Figure, path: str | os.PathLike[str]) -> None:
    """Write a figure in the format that the suffix names; the same figure gives the same bytes.

    Parameters
    ----------
    figure
        A figure from `draw`.
    path
        Path with a suffix of `SUFFIXES`. The file appears only once it is whole, and replaces an older one.

    Raises
    ------
    InputError
        For an unknown suffix.
    RunError
        If writing fails.

    Examples
    --------
    >>> from tempfile import TemporaryDirectory
    >>> from matplotlib.figure import Figure
    >>> with TemporaryDirectory() as folder:
    ...     save_figure(Figure(), f"{folder}/empty.svg")
    ...     Path(folder, "empty.svg").read_text()[:5]
    '<?xml'
    """
    from sgdsim.plots.style import our_style

    form = checked_suffix(path).removeprefix(".")
    with our_style(), atomic_file(path) as temporary:
        figure.savefig(temporary, format=form, dpi=200, metadata=_METADATA[form])


def require_matplotlib() -> None:
    """Refuse to go on without matplotlib, before anything is computed.

    Raises
    ------
    RunError
        If matplotlib is not installed.
    """
    if importlib.util.find_spec("matplotlib") is None:
        raise RunError("figures need matplotlib, which is not installed: pip install 'sgdsim[plot]'")


def checked_kind(kind: str | None) -> str | None:
    """Kind of figure, if it is known.

    Raises
    ------
    InputError
        For an unknown kind, with a near match.

    Examples
    --------
    >>> checked_kind("densities")
    Traceback (most recent call last):
    ...
    sgdsim.base.errors.InputError: unknown kind of figure 'densities': did you mean 'density'?
    """
    if kind is not None and kind not in KINDS:
        raise InputError(unknown_name("kind of figure", kind, KINDS))
    return kind


def checked_style(style: str) -> str:
    """Style of a figure, if it is known.

    Raises
    ------
    InputError
        For an unknown style.

    Examples
    --------
    >>> checked_style("talk")
    'talk'
    """
    return take.one_of("style", STYLES)(style, "--style")


def checked_suffix(path: str | os.PathLike[str]) -> str:
    """Suffix of a path, if figures can be written in that format.

    Raises
    ------
    InputError
        For any other suffix.

    Examples
    --------
    >>> checked_suffix("results/valley.SVG")
    '.svg'
    """
    suffix = Path(path).suffix.lower()
    if suffix not in SUFFIXES:
        raise InputError(f"{path}: the suffix is {suffix or 'missing'!r}, expected one of {', '.join(SUFFIXES)}")
    return suffix


def checked_size(size: tuple[float, float] | None) -> tuple[float, float] | None:
    """Size of a figure in inches, if it is within the sizes of a sheet of paper.

    Raises
    ------
    InputError
        For a width or height that is too small or too large.

    Examples
    --------
    >>> checked_size((7.0, 5.0))
    (7.0, 5.0)
    """
    if size is None:
        return None
    sides = take.each(take.real)(size, "size")
    if len(sides) != 2 or not all(SMALLEST <= side <= LARGEST for side in sides):
        shown = "x".join(f"{side:g}" for side in sides)
        raise InputError(f"size {shown}: expected a width and a height of {SMALLEST:g} to {LARGEST:g} inches")
    return sides[0], sides[1]


def parse_size(text: str) -> tuple[float, float]:
    """Width and height in inches, from a text such as ``7x5``.

    Raises
    ------
    InputError
        For any other text.

    Examples
    --------
    >>> parse_size("7x5")
    (7.0, 5.0)
    """
    try:
        width, height = map(float, text.lower().split("x"))
    except ValueError:
        raise InputError(f"size {text!r}, expected WIDTHxHEIGHT in inches, e.g. 7x5") from None
    checked_size((width, height))
    return width, height
