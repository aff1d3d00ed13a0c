"""Predictions between the points of a sweep, so that theory is drawn as a curve of its own."""

from __future__ import annotations

import itertools
from collections.abc import Collection, Mapping, Sequence
from contextlib import suppress
from typing import Any

import numpy as np

from sgdsim import theory
from sgdsim.base.budget import OutOfTime, limited
from sgdsim.base.errors import InputError
from sgdsim.input.builders import Claim
from sgdsim.input.scenario import Scenario
from sgdsim.model.run import Run
from sgdsim.plots.subject import Curves
from sgdsim.theory.methods.stability import instabilities

SECONDS = 5.0
"""Seconds that a law may take for its curve; otherwise its line goes from point to point."""
_POINTS = 96
_POINTS_OF_MAP = 24  # points along each axis of a map
_NUMBERS = ("optimizer.learning_rate", "loss.constants.", "optimizer.momentum", "optimizer.weight_decay")


def predictions_between(scenario: Scenario, drawn: Collection[str], over_both: bool = False) -> Curves | None:
    """Predictions of laws and claims on a dense grid of the swept values; None if no values lie in between.

    If several keys are swept, the learning rate is made dense, or else the first key with numbers; the others keep
    their values. If these are only paired with the dense key, their values in between are unknown: there is no grid.

    Parameters
    ----------
    scenario
        Scenario of the ensemble.
    drawn
        Ids of the laws and claims that the figure shows.
    over_both
        True to make two swept keys dense, as for a map.

    Examples
    --------
    >>> from sgdsim.input.loading import scenario_from
    >>> loss = {"formula": "x**2/2 + z*x", "parameters": {"x": 0.0}, "noise": {"z": "normal"}}
    >>> data = {"loss": loss, "run": {"trajectories": 10, "steps": 99}, "predict": [{"id": "valley"}]}
    >>> rates = {"sweep": {"optimizer.learning_rate": [0.1, 0.2, 0.8]}}
    >>> found = predictions_between(scenario_from({**data, **rates}, "mine", "here"), ["valley"])
    >>> len(found.sweep["optimizer.learning_rate"]) > 90
    True
    """
    swept: dict[str, list[Any]] = {key: list(values) for key, values in scenario.sweep.items()}
    several = [key for key, values in swept.items() if len(set(values)) > 1]
    numbers = [key for key in several if key.startswith(_NUMBERS) and all(map(_is_number, swept[key]))]
    if not numbers or not drawn:
        return None
    key = min(numbers, key=lambda one: one != _NUMBERS[0])
    others = list(dict.fromkeys(_others(swept, key)))
    if len(others) * len(set(swept[key])) != len(swept[key]):
        return None
    if over_both and len(numbers) == len(swept) == 2:
        grid = {one: _dense([float(value) for value in swept[one]], _POINTS_OF_MAP) for one in swept}
        pairs = list(itertools.product(*grid.values()))
        return _curves(scenario, drawn, {one: [pair[place] for pair in pairs] for place, one in enumerate(grid)})
    dense = _dense([float(value) for value in swept[key]])
    names = [one for one in swept if one != key]
    table: dict[str, list[Any]] = {key: dense * len(others)}
    table |= {name: [one[place] for one in others for _ in dense] for place, name in enumerate(names)}
    return _curves(scenario, drawn, table)


def _curves(scenario: Scenario, drawn: Collection[str], table: Mapping[str, Sequence[Any]]) -> Curves | None:
    """Predictions at given values of the swept keys, without those at which a run is bound to diverge."""
    with suppress(InputError):
        runs = Scenario.of({**scenario.data, "sweep": table}, scenario.name, "a curve").runs
        lost = {point for point, reason in enumerate(instabilities(runs)) if reason}
        asked = [claim for claim in scenario.claims if claim.source.id in drawn]
        found = [one for one in _predicted(asked, runs) if one.point not in lost]
        return Curves(tuple(found), {name: np.array(values) for name, values in table.items()})
    return None


def _is_number(value: object) -> bool:
    return isinstance(value, int | float)


def _others(swept: Mapping[str, Sequence[Any]], key: str) -> list[tuple[Any, ...]]:
    """Values of all other keys, a tuple for each point."""
    rows = [values for name, values in swept.items() if name != key]
    return list(zip(*rows, strict=True)) if rows else [()] * len(swept[key])


def _dense(values: Sequence[float], points: int = _POINTS) -> list[float]:
    low, high = min(values), max(values)
    space = np.geomspace if low > 0 and high > 4 * low else np.linspace
    return sorted({*values, *space(low, high, points).tolist()} if len(set(values)) > 1 else set(values))


def _predicted(claims: Sequence[Claim], runs: Sequence[Run]) -> list[theory.Prediction]:
    found: list[theory.Prediction] = []
    for claim in claims:
        with suppress(OutOfTime, InputError), limited(SECONDS):
            found += theory.predict([claim.source], runs, SECONDS)[0]
    return found
