"""Figures of a file, or of an ensemble in memory, with the predictions of its scenario."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sgdsim.app.kept_predictions import curves
from sgdsim.app.verdicts import opened_parts, predictions_of, scenario_of
from sgdsim.base import take
from sgdsim.base.errors import InputError, unknown_name
from sgdsim.base.files import about, check_output
from sgdsim.ensemble import WHOLE, Ensemble, open_parts
from sgdsim.input.scenario import Scenario

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from sgdsim.plots.subject import Subject


def plot_file(
    path: str | Path,
    output: str | Path | None = None,
    kind: str | None = None,
    size: tuple[float, float] | None = None,
    overwrite: bool = False,
    *,
    residuals: bool = False,
    only: Sequence[str] = (),
    part: str = "",
    theory: bool = True,
    style: str = "paper",
) -> Path:
    """Draw the ensemble in a file with the predictions of its scenario; nothing but the file is needed.

    Parameters
    ----------
    path
        Path of a file that a run has written.
    output
        Path of the figure, SVG, PNG or PDF by its suffix; by default an SVG beside the file.
    kind
        A key of `sgdsim.plots.drawing.KINDS`; None for the kind that shows most.
    size
        Width and height in inches; None for a size that suits the content.
    overwrite
        True if an existing figure may be replaced.
    residuals
        True to draw the difference of measurement and prediction below.
    only
        Names of parameters and observables to show; by default all.
    part
        Name of the part to draw, if the file has parts; by default all.
    theory
        True to draw the predictions.
    style
        ``paper`` or ``talk``, see `sgdsim.plots.drawing.draw`.

    Returns
    -------
    Path
        Path of the figure.

    Raises
    ------
    InputError
        For a file that `compare_file` refuses, a kind that nothing was recorded for, and an output that cannot be
        written.
    RunError
        If matplotlib is not installed.

    Examples
    --------
    >>> from tempfile import TemporaryDirectory
    >>> from sgdsim.app.workflow import run_scenario
    >>> from sgdsim.input.loading import load_scenario
    >>> scenario = load_scenario("river_valley", {"run.trajectories": 64, "run.steps": 20})
    >>> with TemporaryDirectory() as folder:
    ...     _ = run_scenario(scenario, f"{folder}/run.h5", device="python")
    ...     plot_file(f"{folder}/run.h5").name
    'run.svg'
    """
    looks: dict[str, Any] = {"residuals": residuals, "only": only, "part": part, "theory": theory, "style": style}
    return drawn_file(path, output, kind, size, overwrite, **looks)[0]


def drawn_file(
    path: str | Path,
    output: str | Path | None = None,
    kind: str | None = None,
    size: tuple[float, float] | None = None,
    overwrite: bool = False,
    *,
    residuals: bool,
    only: Sequence[str],
    part: str,
    theory: bool,
    style: str,
) -> tuple[Path, str]:
    """Path of the figure of `plot_file`, and the kinds of figures that it shows."""
    from sgdsim.plots import drawing

    drawing.require_matplotlib()
    kind = drawing.checked_kind(take.optional(take.text)(kind, "kind"))
    size, style = drawing.checked_size(size), drawing.checked_style(style)
    overwrite, residuals = take.flag(overwrite, "overwrite"), take.flag(residuals, "residuals")
    theory, part = take.flag(theory, "theory"), take.text(part, "part")
    only = take.each(take.text)(only, "only")
    with about(take.path(path, "path")):
        opened = [one for one in opened_parts(path) if not part or one[1].part == part]
        if not opened:
            raise InputError(f"--part: {unknown_name('part', part, [name for name in open_parts(path) if name])}")
    target = Path(path).with_suffix(".svg") if output is None else Path(take.path(output, "output"))
    drawing.checked_suffix(target)
    check_output(target if output is None else output, overwrite, [path])
    with about(path):
        shown = {one.part: _subject(ensemble, one, kind, only, theory) for ensemble, one in opened}
        figure = drawing.draw_parts(shown, kind, size, residuals=residuals, style=style)
        drawing.save_figure(figure, target)  # here the texts of the file are drawn
    return target, str(figure.get_label())


def plot_ensemble(
    ensemble: Ensemble,
    kind: str | None = None,
    size: tuple[float, float] | None = None,
    *,
    residuals: bool = False,
    only: Sequence[str] = (),
    theory: bool = True,
    style: str = "paper",
) -> Figure:
    """Draw an ensemble in memory with the predictions of its scenario.

    Parameters
    ----------
    ensemble
        Ensemble of a run or of a whole sweep, one part.
    kind, size, residuals, only, theory, style
        See `plot_file`.

    Returns
    -------
    matplotlib.figure.Figure
        The figure.

    Raises
    ------
    InputError
        For a kind that nothing was recorded for.
    RunError
        If matplotlib is not installed.

    Examples
    --------
    >>> from sgdsim import simulate
    >>> run = {"initial": {"x": 1.0}, "trajectories": 64, "steps": 8, "every": 2, "device": "python"}
    >>> plot_ensemble(simulate("x**2/2 + z*x", noise={"z": "normal"}, learning_rate=0.5, **run)).get_label()
    'moments'
    """
    from sgdsim.plots import drawing

    drawing.require_matplotlib()
    ensemble = take.of_kind(Ensemble, "an Ensemble")(ensemble, "ensemble")
    kind = drawing.checked_kind(take.optional(take.text)(kind, "kind"))
    size, style = drawing.checked_size(size), drawing.checked_style(style)
    residuals, theory = take.flag(residuals, "residuals"), take.flag(theory, "theory")
    subject = _subject(ensemble, scenario_of(ensemble), kind, take.each(take.text)(only, "only"), theory)
    return drawing.draw_parts({WHOLE: subject}, kind, size, residuals=residuals, style=style)


def _subject(
    ensemble: Ensemble, scenario: Scenario, kind: str | None, only: Sequence[str], with_theory: bool
) -> Subject:
    """Subject of a part: the ensemble with its predictions, at records and in between if the figure shows these."""
    from sgdsim.plots.drawing import choose_kind
    from sgdsim.plots.subject import Subject

    alpha = float(scenario.data["alpha"])
    if not with_theory:
        return Subject(ensemble, (), alpha, only=only, theory=False)
    predictions, _ = predictions_of(ensemble, scenario)
    subject = Subject(ensemble, predictions, alpha, only=only)
    kind = kind or choose_kind(ensemble, subject.predictions)
    along, between = curves(scenario, kind, _drawn(subject, kind))
    return replace(subject, predictions=(*subject.predictions, *along), curves=between)


def _drawn(subject: Subject, kind: str) -> frozenset[str]:
    """Ids of the laws and claims whose curves a figure shows; others are not computed."""
    from sgdsim.plots import diagram, moments, sweep

    drawn = {"sweep": sweep.drawn, "diagram": diagram.drawn, "moments": moments.drawn}.get(kind)
    return drawn(subject) if drawn else frozenset()
