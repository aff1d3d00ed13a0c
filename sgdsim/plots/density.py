"""Densities from recorded histograms and snapshots, with their predictions."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from sgdsim.ensemble import Ensemble, Variable
from sgdsim.plots.mathematics import mark
from sgdsim.plots.panel import (
    MOST_PANELS,
    MOST_SERIES,
    Drawing,
    Line,
    Panel,
    Part,
    Residuals,
    Scale,
    Steps,
    spread,
)
from sgdsim.plots.style import COLOURS
from sgdsim.plots.subject import Subject, prediction_label, require
from sgdsim.prediction import Density, Distance, Prediction
from sgdsim.statistics import histograms, records

Place = tuple[int, int]
"""Number of a point of a sweep, and a step."""

FEWEST_EXPECTED = 10.0
"""Fewest expected counts in a bin for which its deviation is nearly normal."""
_CONCENTRATED = 0.9  # fraction of the trajectories in a single bin from which on no density is drawn
_BINS = (8, 80)
_DENSE = 300  # places at which a predicted density is drawn
_TAILS = 0.6  # fraction of bins in the tails from which on the axis is logarithmic; 0.4 for a million normal values


@dataclass(frozen=True, eq=False)
class _Quantity:
    """A quantity with a density, and the points and steps at which it was recorded."""

    name: str
    places: tuple[Place, ...]
    histogram: bool


def drawing(subject: Subject) -> Drawing:
    """Drawing with a panel for each quantity, and up to four steps or points of a sweep in each panel."""
    predicted = _predicted(subject)
    quantities = list(_quantities(subject))
    require(quantities, "density", "histograms or snapshots: --histogram NAME:LOW,HIGH,BINS or --snapshot final")
    quantities.sort(key=lambda one: not any((one.name, *place) in predicted for place in one.places))
    left_out = [f"density of {one.name}" for one in quantities[MOST_PANELS:]] + _planes(subject)
    panels, pool = [], list[Place]()
    for quantity in quantities[:MOST_PANELS]:
        panel, without = _panel(subject, quantity, predicted, pool)
        panels += [panel] if panel else []
        left_out += without
    what = "a distribution that is spread over more than one bin: other bins, or a later snapshot"
    require(panels, "density", what)
    return Drawing(tuple(panels), tuple(left_out), _notes(subject))


def _notes(subject: Subject) -> tuple[str, ...]:
    if not _are_independent(subject):
        return ("Trajectories come in mirrored pairs: densities have no error bands.",)
    return (f"Bands: all bins together hold with a probability of {1 - subject.alpha:g} (Clopper-Pearson).",)


def _are_independent(subject: Subject) -> bool:
    return not subject.ensemble.attributes.get("antithetic", 0)


def _predicted(subject: Subject) -> dict[tuple[str, int, int], list[Prediction]]:
    """Predictions of a distribution, by name, sweep point and step."""
    found: dict[tuple[str, int, int], list[Prediction]] = {}
    for prediction in subject.predictions:
        measure = prediction.measure
        if isinstance(measure, Distance | Density):
            name = measure.parameter if isinstance(measure, Distance) else measure.observable
            found.setdefault((name, prediction.point or 0, measure.step), []).append(prediction)
    return found


def _quantities(subject: Subject) -> Iterator[_Quantity]:
    ensemble, points = subject.ensemble, range(len(subject.points))
    histograms = [name.removeprefix("underflow_") for name in ensemble if name.startswith("underflow_")]
    for name in filter(subject.shows, histograms):
        yield _Quantity(name, tuple((p, int(step)) for p in points for step in subject.steps_of(p)), True)
    if ensemble.sizes.get("snapshot", 0):
        for name in (str(name) for name in ensemble["parameter"] if str(name) not in histograms):
            if not subject.shows(name):
                continue
            kept = tuple((p, int(step)) for p in points for step in subject.points[p]["snapshot_step"])
            yield _Quantity(name, kept, False)


def _planes(subject: Subject) -> list[str]:
    names = [name.removeprefix("outside_") for name in subject.ensemble if name.startswith("outside_")]
    return [f"histogram of two quantities, {name}" for name in names]


def _panel(
    subject: Subject,
    quantity: _Quantity,
    predicted: Mapping[tuple[str, int, int], list[Prediction]],
    pool: list[Place],
) -> tuple[Panel | None, list[str]]:
    """Panel of a quantity, if there is a density to see, and notes on omissions; the pool is shared by all panels."""
    name = quantity.name
    wanted = {place for place in quantity.places if (name, *place) in predicted}
    counts = {place: _counts(subject, quantity, place) for place in _chosen(subject, quantity, wanted, pool)}
    shown = [place for place, one in counts.items() if _is_spread(one.counts)]
    left_out = [f"{name} at {_label(subject, place)}, all in one bin" for place in counts if place not in shown]
    pool += [place for place in shown if place not in pool]
    parts: list[Part] = []
    residuals: list[Residuals] = []
    for place in shown:
        one, series = counts[place], pool.index(place)
        parts.append(_steps(subject, name, one, _label(subject, place), series))
        claims = predicted.get((name, *place), [])
        for style, prediction in enumerate(claims):
            control = prediction_label(prediction) in subject.controls
            line = _theory(one, prediction, style)
            parts.append(replace(line, role="rival") if control else line)
            if _are_independent(subject) and not control:
                residuals.append(_residuals(one, prediction, series, style if len(claims) > 1 else None))
    if not shown:
        return None, left_out
    scale: Scale = "log" if any(_is_heavy(part.values) for part in parts if isinstance(part, Steps)) else "linear"
    title = f"density of {subject.formula(name)}"
    return Panel(title, mark(name), "density", tuple(parts), tuple(residuals), y_scale=scale), left_out


def _is_heavy(density: np.ndarray) -> bool:
    """True if most bins are in tails that a linear axis would not show."""
    return bool(np.mean(density < 0.01 * density.max()) > _TAILS)


def _chosen(subject: Subject, quantity: _Quantity, wanted: set[Place], pool: Sequence[Place]) -> list[Place]:
    """Places of a density that are drawn: the last step of each point of a sweep, else several steps.

    Steps with a prediction come first, then those that other panels show, then others, as long as all panels together
    need no more than the available colours.
    """
    if len(subject.points) > 1:
        last = max(step for _, step in wanted or quantity.places)
        ends = dict(sorted(quantity.places)) if subject.has_swept_steps else {}
        places = [place for place in quantity.places if place[1] == ends.get(place[0], last)]
        return [places[index] for index in spread(len(places), MOST_SERIES)]
    first = sorted(wanted)[-MOST_SERIES:]
    first += [place for place in pool if place in quantity.places and place not in first][: MOST_SERIES - len(first)]
    moved = [place for place in quantity.places if place[1] > 0] or list(quantity.places)
    room = min(MOST_SERIES - len(first), len(COLOURS) - len({*pool, *first}))
    # Evenly over all of them, so that none is beside one that is shown already.
    evenly = [moved[index] for index in spread(len(moved), room + len(first))]
    return sorted([*first, *[place for place in evenly if place not in first][:room]])


def _label(subject: Subject, place: Place) -> str:
    point, step = place
    return f"step {step}" if len(subject.points) == 1 else f"{subject.point_label(point)}, step {step}"


def _counts(subject: Subject, quantity: _Quantity, place: Place) -> histograms.Counts:
    point, step = place
    ensemble = subject.points[point]
    if quantity.histogram:
        return histograms.histogram(ensemble, quantity.name, step)
    return _binned(records.live(ensemble, quantity.name, step))


def _binned(values: np.ndarray) -> histograms.Counts:
    """Counts in equal bins over the range of most values; for n values there are 2 n^(1/3) bins (Rice's rule)."""
    if not len(values):
        return histograms.Counts(np.zeros(3, np.int64), np.array([0.0, 1.0]))
    low, high = np.quantile(values, [0.001, 0.999])
    margin = 0.05 * (high - low) or 1.0
    bins = int(np.clip(2 * len(values) ** (1 / 3), *_BINS))
    edges = np.linspace(low - margin, high + margin, bins + 1)
    inside, _ = np.histogram(values, edges)
    below = np.count_nonzero(values < edges[0])
    return histograms.Counts(np.array([below, *inside, len(values) - below - inside.sum()]), edges)


def _is_spread(counts: np.ndarray) -> bool:
    return bool(counts.sum() and counts.max() <= _CONCENTRATED * counts.sum())


def _steps(subject: Subject, name: str, counts: histograms.Counts, label: str, series: int) -> Steps:
    found = histograms.histogram_density(_with(name, counts), name, 0, subject.alpha)
    inside = _occupied(counts)
    edges, density = counts.edges[inside.start : inside.stop + 1], found.density[inside]
    if not _are_independent(subject):
        return Steps(edges, density, density, density, label, series)
    return Steps(edges, density, found.lower[inside], found.upper[inside], label, series)


def _occupied(counts: histograms.Counts) -> slice:
    """Bins from the first to the last that is not empty, with one more on either side."""
    used = np.flatnonzero(counts.counts[1:-1])
    return slice(max(int(used[0]) - 1, 0), min(int(used[-1]) + 2, len(counts.edges) - 1))


def _with(name: str, counts: histograms.Counts) -> Ensemble:
    """Ensemble that holds these counts and nothing else."""
    parts = {"underflow": counts.counts[0], "histogram": counts.counts[1:-1], "overflow": counts.counts[-1]}
    bins = {
        f"{kind}_{name}": Variable(("record", *(["bin"] if np.ndim(part) else [])), np.array([part]))
        for kind, part in parts.items()
    }
    edges = Variable((f"edge_{name}",), counts.edges)
    return Ensemble({**bins, f"edges_{name}": edges, "record_step": Variable(("record",), np.array([0]))}, {})


def _probabilities(edges: np.ndarray, prediction: Prediction) -> np.ndarray:
    assert isinstance(prediction.measure, Distance | Density)
    return np.asarray(np.diff(prediction.measure.cdf(edges)), dtype=float)


def _theory(counts: histograms.Counts, prediction: Prediction, style: int) -> Line:
    """Line of the predicted mean density over the width of a bin, which in the middle of a bin its count estimates."""
    assert isinstance(prediction.measure, Distance | Density)
    inside = _occupied(counts)
    edges = counts.edges[inside.start : inside.stop + 1]
    centres, widths = (edges[1:] + edges[:-1]) / 2, np.diff(edges)
    x = np.unique(np.concatenate([centres, np.linspace(centres[0], centres[-1], _DENSE)]))
    half = np.interp(x, centres, widths) / 2
    below, above = np.asarray(prediction.measure.cdf(np.concatenate([x - half, x + half])), dtype=float).reshape(2, -1)
    return Line(x, (above - below) / (2 * half), prediction_label(prediction), "theory", style)


def _residuals(counts: histograms.Counts, prediction: Prediction, series: int, line: int | None) -> Residuals:
    """Deviations of counts in binomial standard errors, in bins with enough expected counts."""
    p = _probabilities(counts.edges, prediction)
    n = float(counts.counts.sum())
    enough = (n * p >= FEWEST_EXPECTED) & (n * (1.0 - p) >= FEWEST_EXPECTED)
    centres = (counts.edges[1:] + counts.edges[:-1])[enough] / 2
    found, p = counts.counts[1:-1][enough], p[enough]
    z = (found - n * p) / np.sqrt(n * p * (1.0 - p))
    return Residuals(centres, z, series, line)
