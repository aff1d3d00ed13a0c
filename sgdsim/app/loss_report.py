"""Output of `sgdsim show`: a loss with all that follows from it, a law, or a schedule as a table and a picture."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from inspect import signature
from math import inf
from typing import Any

import numpy as np

from sgdsim.base.errors import InputError
from sgdsim.model.loss import Loss
from sgdsim.model.losses import CATALOGUE
from sgdsim.model.noise import Noise
from sgdsim.model.schedules import Schedule
from sgdsim.model.symmetry import Symmetry
from sgdsim.prediction import NotApplicable

MAX_STEPS = 10**8
"""Most steps of a schedule that is shown: all its rates are computed."""

_STEPS = 1000
_WIDTH, _HEIGHT = 66, 12  # columns and rows of the picture, without its labels
_TABULATED = 11


def describe_law(id: str) -> str | None:
    """Text about a law: its claim, range and derivation; None if there is no such law.

    Examples
    --------
    >>> print(describe_law("equipartition").splitlines()[0])
    equipartition: equipartition over fast directions, and their number
    """
    facts = law_facts(id)
    if facts is None:
        return None
    about = {key: text for key, text in facts.items() if key not in ("id", "title", "derivation")}
    lines = [f"{facts['id']}: {facts['title']}", *(f"{key}: {text}" for key, text in about.items())]
    return "\n".join([*lines, "", facts["derivation"]])


def law_facts(id: str) -> dict[str, str] | None:
    """Content of `describe_law`, by name.

    Examples
    --------
    >>> law_facts("valley")["id"]
    'valley'
    """
    from sgdsim.theory import law_named

    law = law_named(id)
    if law is None:
        return None
    tried = "yes" if law.automatic else "no"
    about = {"holds for": law.holds, "source": law.source, "tried on every run": tried}
    return {"id": law.id, "title": law.title, **about, "derivation": law.derivation}


def describe_loss(loss: Loss, find_symmetries: bool = True) -> str:
    """Text about a loss with all that can be said without numbers for its parameters.

    Parameters
    ----------
    loss
        The loss.
    find_symmetries
        True to look for symmetries that it does not declare.

    Examples
    --------
    >>> print(describe_loss(Loss("x**2/2 + z*x", ("x",), {}, {"z": Noise.parse("normal")})))
    formula: x**2/2 + z*x
    parameters: x
    <BLANKLINE>
    noise:
      z ~ normal:0.0,1.0: mean 0, variance 1
    <BLANKLINE>
    gradient of a sample:
      x: x + z
    <BLANKLINE>
    population loss:
      x**2/2
    <BLANKLINE>
    Hessian of the population loss:
      x, x: 1
    """
    about = [f"{loss.name}: {loss.description}"] if loss.description else []
    about += [f"references: {', '.join(loss.references)}"] if loss.references else []
    if loss.name in CATALOGUE:
        about.append(f"arguments, with their defaults: {_arguments(loss.name)}")
    about += [f"formula: {loss.formula}"] if loss.formula else []
    about.append(f"parameters: {', '.join(loss.parameters)}")
    sections = loss_facts(loss, find_symmetries)["sections"]
    blocks = ["\n".join(about)]
    blocks += ["\n".join([f"{title}:", *(f"  {line}" for line in lines)]) for title, lines in sections.items()]
    return "\n\n".join(blocks)


def loss_facts(loss: Loss, find_symmetries: bool = True) -> dict[str, Any]:
    """Content of `describe_loss`, by name; each section is a list of lines.

    Examples
    --------
    >>> loss_facts(Loss("x**2/2", ("x",)))["sections"]["population loss"]
    ['x**2/2']
    """
    rows = [] if loss.data is None else [loss.data.summary]
    sections = {
        "constants": [f"{name} = {value:.15g}" for name, value in loss.constants.items()],
        "constants of each trajectory": [f"{name} ~ {start}" for name, start in loss.drawn.items()],
        "noise": [f"{name} ~ {noise}: {_moments(noise)}" for name, noise in loss.noise.items()],
        "data": rows,
        "definitions": [f"{name} = {_definition(text)}" for name, text in loss.definitions.items()],
        "gradient of a sample": _unless_it_is_long(loss, lambda: _gradient(loss)),
        "direction of a sample, in place of its gradient": [f"{name}: {rule}" for name, rule in loss.rules.items()],
        "mean direction": _unless_there_is_none(lambda: _mean_rules(loss)),
        "states": [f"{name} = {state}" for name, state in loss.states.items()],
        "population loss": _unless_it_is_long(loss, lambda: [str(loss.population)]) if loss.formula else [],
        "Hessian of the population loss": _unless_it_is_long(loss, lambda: _hessian(loss)) if loss.formula else [],
        "symmetries": [_symmetry(loss, symmetry) for symmetry in loss.symmetries],
        "charges": [f"{name} = {charge}" for name, charge in loss.charges.items()],
        "symmetries that are not declared": list(_undeclared(loss)) if find_symmetries else [],
    }
    about = {"name": loss.name, "description": loss.description, "references": list(loss.references)}
    about |= {"formula": loss.formula, "parameters": list(loss.parameters)}
    return {**about, "sections": {title: lines for title, lines in sections.items() if lines}}


def _moments(noise: Noise) -> str:
    values = {"mean": noise.moment(1), "variance": noise.cumulant(2)}
    return ", ".join(f"{k} {v:.6g}" if abs(v) < inf else f"its {k} does not exist" for k, v in values.items())


def _definition(text: str | tuple[str, ...]) -> str:
    return text if isinstance(text, str) else f"[{', '.join(text)}]"


def _unless_there_is_none(lines: Callable[[], list[str]]) -> list[str]:
    try:
        return lines()
    except InputError as error:
        return [f"there is none: {error}"]


def _unless_it_is_long(loss: Loss, lines: Callable[[], list[str]]) -> list[str]:
    try:
        loss.require_small()
    except InputError as error:
        return [f"not shown: {error}"]
    return _unless_there_is_none(lines)


def _gradient(loss: Loss) -> list[str]:
    pairs = zip(loss.parameters, loss.gradient, strict=True)
    return [f"{name}: {value}" for name, value in pairs if name not in loss.rules]


def _mean_rules(loss: Loss) -> list[str]:
    return [f"{name}: {rule}" for name, rule in loss.population_rules.items()]


def _hessian(loss: Loss) -> list[str]:
    names = loss.parameters
    pairs = [(i, j) for i in range(len(names)) for j in range(i, len(names)) if i == j or loss.hessian[i, j] != 0]
    return [f"{names[i]}, {names[j]}: {loss.hessian[i, j]}" for i, j in pairs]


def _symmetry(loss: Loss, symmetry: Symmetry) -> str:
    arrow = ": " if symmetry.is_continuous else " -> "
    moves = ", ".join(f"{name}{arrow}{value}" for name, value in loss.directions(symmetry).items())
    return f"{symmetry.name}, generator {moves}" if symmetry.is_continuous else f"{symmetry.name}, {moves}"


def _undeclared(loss: Loss) -> Iterator[str]:
    """Lines about undeclared symmetries that were found, with their charges; empty if there are none."""
    from sgdsim.theory.methods.found_symmetries import undeclared

    try:
        found = undeclared(loss)
    except NotApplicable:
        return
    for symmetry in found:
        charge = loss.charge(symmetry)
        yield _symmetry(loss, symmetry) + ("" if charge is None else f"; charge {charge}")


def _arguments(name: str) -> str:
    """Line about the arguments of a loss in the catalogue, which are keys of ``[loss]`` in a scenario."""
    shown = (f"{key} = {one.default!r}" for key, one in signature(CATALOGUE[name]).parameters.items())
    return ", ".join(shown)


def describe_schedule(schedule: Schedule, steps: int | None = None) -> str:
    r"""Text with the learning rates at some steps, and a picture of all in at most 80 columns.

    Parameters
    ----------
    schedule
        The schedule.
    steps
        Number of steps of the run; by default the length of a table, else 1000.

    Raises
    ------
    InputError
        For a schedule that is not valid for this number of steps.

    Examples
    --------
    >>> print(describe_schedule(Schedule("linear:0.4,0"), 4).partition("\n\n")[0])
          step  learning rate
             0  0.4
             1  0.3
             2  0.2
             3  0.1
    """
    rates = _rates(schedule, steps)
    table = [f"{'step':>10}  learning rate", *(f"{step:10d}  {rates[step]:.6g}" for step in _shown(len(rates)))]
    return "\n".join([*table, "", *_picture(rates)])


def rates_at(schedule: Schedule, steps: int | None = None) -> dict[int, float]:
    """Learning rates of `describe_schedule`, by step.

    Examples
    --------
    >>> rates_at(Schedule("linear:1,0"), 4)
    {0: 1.0, 1: 0.75, 2: 0.5, 3: 0.25}
    """
    rates = _rates(schedule, steps)
    return {step: float(rates[step]) for step in _shown(len(rates))}


def _rates(schedule: Schedule, steps: int | None) -> np.ndarray:
    if steps is None:
        steps = len(schedule.table or ()) or _STEPS
    if not 1 <= steps <= MAX_STEPS:
        raise InputError(f"--steps: {steps}, expected 1 to {MAX_STEPS}")
    return schedule.rates(steps)


def _shown(steps: int) -> list[int]:
    return sorted({*range(0, steps, -(-steps // (_TABULATED - 1))), steps - 1})


def _picture(rates: np.ndarray) -> Iterator[str]:
    """Rows of characters from the largest rate down to zero; each column covers the rates of its steps."""
    steps, top = len(rates), float(rates.max())
    levels = np.ceil(rates / top * _HEIGHT).astype(int).clip(1, _HEIGHT)  # row of each rate, counted from below
    starts = np.arange(_WIDTH) * steps // _WIDTH
    stops = np.maximum(np.arange(1, _WIDTH + 1) * steps // _WIDTH, starts + 1)
    before = levels[np.r_[0, stops[:-1] - 1]]  # row at which the column on the left ends, so that columns join
    spans = [
        (min(levels[a:b].min(), left), max(levels[a:b].max(), left))
        for a, b, left in zip(starts, stops, before, strict=True)
    ]
    for row in range(_HEIGHT, 0, -1):
        label = f"{top * row / _HEIGHT:.3g}" if row in (_HEIGHT, _HEIGHT // 2) else ""
        line = "".join("*" if low <= row <= high else " " for low, high in spans)
        yield f"{label:>10} |{line}".rstrip()
    yield f"{0:>10} +{'-' * _WIDTH}"
    last = str(steps - 1)
    yield f"{'':>12}0{last:>{_WIDTH - 1}}" if steps > 1 else f"{'':>12}0"
