"""What `sgdsim show` prints: a loss with all that follows from it, and a schedule as a table and a picture."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from inspect import signature
from math import inf

import numpy as np

from sgdsim.base.errors import InputError, unknown_name
from sgdsim.formulas.formula import Formula, definition
from sgdsim.formulas.names import parameter_name
from sgdsim.formulas.vectors import base_name, coordinates
from sgdsim.input.numeric_files import read_numbers
from sgdsim.model.loss import Loss
from sgdsim.model.losses import CATALOGUE
from sgdsim.model.noise import Noise
from sgdsim.model.schedules import Schedule
from sgdsim.model.symmetry import Symmetry

MAX_STEPS = 10**8
"""Of a schedule that is shown, all of whose rates are computed."""

_STEPS = 1000
_WIDTH, _HEIGHT = 66, 12  # of the picture, without its labels
_TABULATED = 11


def loss_from(
    text: str,
    parameters: Sequence[str] = (),
    constants: Sequence[str] = (),
    noise: Sequence[str] = (),
    definitions: Sequence[str] = (),
    symmetries: Sequence[str] = (),
) -> Loss:
    """A loss of the catalogue with its defaults, or a formula whose other names are its parameters.

    Parameters
    ----------
    text
        A name of the catalogue, or a formula.
    parameters
        Names, ``u`` or ``w[3]`` for a vector; without any, every name that is not explained otherwise.
    constants
        ``a=1``.
    noise
        ``x=normal:0,0.5``.
    definitions
        ``y = 0.8*x + e``, in the order in which they use each other.
    symmetries
        ``rescale:u:1,w:-1``.

    Raises
    ------
    InputError
        For an unknown loss, and for options that cannot be read or do not make a loss.

    Examples
    --------
    >>> loss_from("a*(x - z)**2/2", constants=["a=1"], noise=["z=normal"]).parameters
    ('x',)
    """
    values = {name: _number(name, value) for name, value in _pairs("--constant", constants, "NAME=NUMBER, e.g. a=1")}
    if text.strip() in CATALOGUE:
        if parameters or noise or definitions or symmetries:
            raise InputError(f"{text.strip()}: of a loss of the catalogue only constants can be given")
        return _of_catalogue(text.strip(), values)
    formula = Formula.parse(text, where="the loss")
    if formula.names == {text.strip()} and not parameters:
        raise InputError(unknown_name("loss", text.strip(), CATALOGUE))
    known = [(name, one.text) for name, one in (definition(part, "--define") for part in definitions)]
    usage = "NAME=DISTRIBUTION, e.g. z=normal:0,0.5"
    distributions = {
        name: Noise.parse(value, f"--noise {name}") for name, value in _pairs("--noise", noise, usage, vectors=True)
    }
    explained = {base_name(name) for name in (*values, *distributions)} | {name for name, _ in known}
    return Loss(
        formula=text.strip(),
        parameters=tuple(_declared(parameters) or _undeclared([text, *(part for _, part in known)], explained)),
        constants=values,
        noise=distributions,
        definitions=dict(known),
        symmetries=tuple(Symmetry.parse(symmetry, "--symmetry") for symmetry in symmetries),
    )


def _of_catalogue(name: str, constants: dict[str, float]) -> Loss:
    family = CATALOGUE[name]
    if not constants:
        return family()
    if "constants" not in signature(family).parameters:
        raise InputError(f"--constant: {name} takes none")
    return family(constants=constants)


def _pairs(option: str, texts: Sequence[str], usage: str, vectors: bool = False) -> Iterator[tuple[str, str]]:
    for text in texts:
        left, equals, value = (part.strip() for part in text.partition("="))
        if not equals or not value:
            raise InputError(f"{option} {text!r}: expected {usage}")
        name, length = parameter_name(left, option)
        if length is not None and not vectors:
            raise InputError(f"{option} {text!r}: expected {usage}")
        yield from ((coordinate, value) for coordinate in coordinates(name, length))


def _number(name: str, text: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise InputError(f"--constant {name}: {text!r}, expected a number") from None


def _declared(parameters: Sequence[str]) -> list[str]:
    return [one for text in parameters for one in coordinates(*parameter_name(text, "--parameter"))]


def _undeclared(texts: Sequence[str], explained: set[str]) -> Iterator[str]:
    """Coordinates of the names that are not explained, in the order in which they come."""
    names = set().union(*(Formula.parse(text).names for text in texts)) - explained
    whole = " ".join(texts)
    for name in sorted(names, key=lambda name: re.search(rf"\b{name}\b", whole).start()):  # type: ignore[union-attr]
        indices = re.findall(rf"\b{name}\s*\[\s*(\d+)\s*\]", whole)
        yield from coordinates(name, max(map(int, indices)) + 1 if indices else None)


def describe_loss(loss: Loss) -> str:
    """Everything about a loss that can be said without numbers for its parameters.

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
    about += [f"formula: {loss.formula}", f"parameters: {', '.join(loss.parameters)}"]
    rows = [] if loss.data is None else [f"{loss.data.rows} rows of {', '.join(loss.columns)}"]
    sections = {
        "constants": [f"{name} = {value:.15g}" for name, value in loss.constants.items()],
        "noise": [f"{name} ~ {noise}: {_moments(noise)}" for name, noise in loss.noise.items()],
        "data": rows,
        "definitions": [f"{name} = {_definition(text)}" for name, text in loss.definitions.items()],
        "gradient of a sample": [
            f"{name}: {value}" for name, value in zip(loss.parameters, loss.gradient, strict=True)
        ],
        "population loss": _unless_there_is_none(lambda: [str(loss.population)]),
        "Hessian of the population loss": _unless_there_is_none(lambda: _hessian(loss)),
        "symmetries": [_symmetry(loss, symmetry) for symmetry in loss.symmetries],
        "charges": [f"{name} = {charge}" for name, charge in loss.charges.items()],
    }
    blocks = ["\n".join(about)]
    blocks += ["\n".join([f"{title}:", *(f"  {line}" for line in lines)]) for title, lines in sections.items() if lines]
    return "\n\n".join(blocks)


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


def _hessian(loss: Loss) -> list[str]:
    names = loss.parameters
    pairs = [(i, j) for i in range(len(names)) for j in range(i, len(names)) if i == j or loss.hessian[i, j] != 0]
    return [f"{names[i]}, {names[j]}: {loss.hessian[i, j]}" for i, j in pairs]


def _symmetry(loss: Loss, symmetry: Symmetry) -> str:
    arrow = ": " if symmetry.is_continuous else " -> "
    moves = ", ".join(f"{name}{arrow}{value}" for name, value in loss.directions(symmetry).items())
    return f"{symmetry.name}, generator {moves}" if symmetry.is_continuous else f"{symmetry.name}, {moves}"


def _arguments(name: str) -> str:
    """Of a family of the catalogue, keys of ``[loss]`` in a scenario."""
    shown = (f"{key} = {one.default!r}" for key, one in signature(CATALOGUE[name]).parameters.items())
    return ", ".join(shown)


def schedule_from(text: str) -> Schedule:
    """A schedule as the option ``--learning-rate`` takes it, ``file:FILE`` among others.

    Raises
    ------
    InputError
        For a file that cannot be read.

    Examples
    --------
    >>> schedule_from("0.1")
    Schedule(text='0.1', table=None)
    """
    kind, _, path = text.partition(":")
    return Schedule(text, tuple(read_numbers(path.strip()))) if kind.strip() == "file" else Schedule(text)


def describe_schedule(schedule: Schedule, steps: int | None = None) -> str:
    r"""The rates at some steps, and a picture of all, which fits into 80 columns.

    Parameters
    ----------
    schedule
        What is shown.
    steps
        Of the run; by default as many as a table has, else 1000.

    Raises
    ------
    InputError
        For a schedule that is none at this number of steps.

    Examples
    --------
    >>> print(describe_schedule(Schedule("linear:0.4,0"), 4).partition("\n\n")[0])
          step  learning rate
             0  0.4
             1  0.3
             2  0.2
             3  0.1
    """
    if steps is None:
        steps = len(schedule.table or ()) or _STEPS
    if not 1 <= steps <= MAX_STEPS:
        raise InputError(f"--steps: {steps}, expected 1 to {MAX_STEPS}")
    rates = schedule.rates(steps)
    shown = sorted({*range(0, steps, -(-steps // (_TABULATED - 1))), steps - 1})
    table = [f"{'step':>10}  learning rate", *(f"{step:10d}  {rates[step]:.6g}" for step in shown)]
    return "\n".join([*table, "", *_picture(rates)])


def _picture(rates: np.ndarray) -> Iterator[str]:
    """Rows of characters from the largest rate down to zero; each column covers the rates of its steps."""
    steps, top = len(rates), float(rates.max())
    levels = np.ceil(rates / top * _HEIGHT).astype(int).clip(1, _HEIGHT)  # the row of each rate, from below
    starts = np.arange(_WIDTH) * steps // _WIDTH
    stops = np.maximum(np.arange(1, _WIDTH + 1) * steps // _WIDTH, starts + 1)
    before = levels[np.r_[0, stops[:-1] - 1]]  # where the column on the left ends, so that they join
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
