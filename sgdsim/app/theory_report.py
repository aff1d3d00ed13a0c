"""Output of `sgdsim theory`: all that theory says about a run, from its description alone."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

from sgdsim.app.theory_entries import Entry, Section
from sgdsim.app.theory_sections import OF_ANY_FIELD, SECTIONS, UNDECLARED
from sgdsim.base import budget
from sgdsim.base.errors import InputError
from sgdsim.model.run import Run
from sgdsim.prediction import NotApplicable, Prediction, is_named
from sgdsim.theory import Skipped, predict
from sgdsim.theory.guard import guarded
from sgdsim.theory.potential import require_gradient, require_simple_steps

if TYPE_CHECKING:
    from sgdsim.input.scenario import Scenario

_CHEAP = 0.01  # seconds below which the time of a law is not listed


def report(run: Run, predictions: Iterable[Prediction] = (), find_symmetries: bool = True) -> list[Section]:
    """Everything that theory says about a run.

    Parameters
    ----------
    run
        Run of one point of a scenario.
    predictions
        Predictions of laws and of the user for it.
    find_symmetries
        True to look for symmetries that the loss does not declare.

    Examples
    --------
    >>> from sgdsim.model.loss import Loss
    >>> from sgdsim.model.noise import Noise
    >>> from sgdsim.model.optimizers import Optimizer
    >>> from sgdsim.model.schedules import Schedule
    >>> loss = Loss("x**2/2 + z*x", ("x",), {}, {"z": Noise.parse("normal")})
    >>> sections = report(Run(loss, Optimizer(), Schedule("0.5"), {"x": 1.0}, 1000, 100))
    >>> print(sections[6].text())
    Exact moments of the stationary law:
      mean(x) = 0
      variance(x) = 0.33333333
      skewness(x) = 0
      kurtosis(x) = 0
    """
    sections = [section(title, run) for title in SECTIONS if find_symmetries or title != UNDECLARED]
    return [*sections, _section("Predictions", partial(_predictions, predictions), run)]


def section(title: str, run: Run) -> Section:
    """Section with the title of a key of `SECTIONS`.

    Examples
    --------
    >>> from sgdsim.model.loss import Loss
    >>> from sgdsim.model.optimizers import Optimizer
    >>> from sgdsim.model.schedules import Schedule
    >>> run = Run(Loss("x**2/2", ("x",)), Optimizer(), Schedule("0.5"), {"x": 1.0}, 1000, 100)
    >>> section("Gibbs law", run).reason
    'there is no noise, and so no temperature'
    """
    return _section(title, partial(_of_gradients, title), run)


def _of_gradients(title: str, run: Run) -> Iterable[Entry]:
    """Entries of a section; most sections refuse a run in which a parameter moves by another rule than its gradient."""
    require_simple_steps(run)
    run.loss.require_small()
    if title not in OF_ANY_FIELD:
        require_gradient(run.loss)
    return SECTIONS[title](run)


def report_of(scenario: Scenario, point: int = 0, find_symmetries: bool = True) -> list[Section]:
    """Everything that theory says about one point of a scenario, with the predictions that it is compared with.

    Raises
    ------
    InputError
        For a point that the sweep does not have.

    Examples
    --------
    >>> from sgdsim.input.loading import load_scenario
    >>> report_of(load_scenario("river_valley"))[-1].entries[0].name
    'valley: mean(x)'
    """
    if not 0 <= point < len(scenario.runs):
        raise InputError(f"--point: {point}, expected 0 to {len(scenario.runs) - 1}")
    found: list[Prediction] = []
    skipped: list[Skipped] = []
    took: dict[str, float] = {}
    for claim in scenario.claims:
        began = budget.clock()
        rows, reasons = predict([claim.source], scenario.runs, claim.seconds)
        took[claim.source.id] = budget.clock() - began
        found += rows
        skipped += reasons
    here = (one for one in found if one.point in (None, point))
    sections = report(scenario.runs[point], here, find_symmetries)
    together: dict[str, list[str]] = {}
    for one in skipped:
        together.setdefault(one.reason, []).append(one.id)
    silent = (Entry("", f"no {', '.join(ids)}: {reason}") for reason, ids in together.items())
    last, costs = sections[-1], (_costs(took),) if took else ()
    return [*sections[:-1], replace(last, entries=(*last.entries, *silent, *costs))]


def _costs(seconds: Mapping[str, float]) -> Entry:
    """Entry with the seconds that laws take after a run, the slowest first."""
    dear = sorted((id for id in seconds if seconds[id] >= _CHEAP), key=lambda id: -seconds[id])
    texts = [f"{id} {seconds[id]:.2g}" for id in dear]
    cheap = len(seconds) - len(dear)
    texts += [f"{cheap} {'others' if dear else 'laws'} less than {_CHEAP:g} each"] if cheap else []
    return Entry("seconds that laws take", ", ".join(texts))


def _section(title: str, part: Callable[[Run], Iterable[Entry]], run: Run) -> Section:
    try:
        with budget.limited(budget.SECONDS), guarded():
            entries = tuple(part(run))
    except (NotApplicable, InputError, budget.OutOfTime) as reason:
        return Section(title, reason=str(reason))
    return Section(title, entries, reason="" if entries else "there are none")


def _predictions(predictions: Iterable[Prediction], run: Run) -> Iterator[Entry]:
    for one in predictions:
        order = one.order if isinstance(one.order, str) else f"order {one.order}"
        point = "" if one.point is None else f" at point {one.point}"
        name = f"{one.id}: " if is_named(one.id) else ""
        yield Entry(f"{name}{one.quantity}{point}", float(one.predicted), note=f"{order}; {one.source}")
