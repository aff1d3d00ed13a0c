"""What is made of single keys of a scenario: starts, noise, symmetries, observables, histograms."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, TypeVar

from sgdsim.base.errors import InputError
from sgdsim.base.problems import attempt_all
from sgdsim.formulas.names import parameter_name
from sgdsim.formulas.vectors import MOST_COORDINATES, base_name, coordinates
from sgdsim.input.columns import read_column
from sgdsim.input.wording import shown
from sgdsim.model.noise import Noise, correlated_normal
from sgdsim.model.observables import Observable
from sgdsim.model.recorder import Histogram, Plane, binned
from sgdsim.model.starts import Start, level_set, start_from

T = TypeVar("T")
U = TypeVar("U")


StartText = float | str | Mapping[str, Any]
"""A start as it is written: a number, a text, or a table that stands for the column of a file."""


def read_starts(where: str, values: Mapping[str, StartText]) -> dict[str, Start]:
    """An initial value for each coordinate; a point of a level set as ``"u,w" = "level:charge,product"``."""
    points = attempt_all(
        partial(level_set, [name.strip() for name in key.split(",")], str(value), f"{where}.{key}")
        for key, value in values.items()
        if "," in key
    )
    single = {key: value for key, value in values.items() if "," not in key}
    starts = _by_coordinate(where, single, _read_start)
    return {**starts, **{name: value for point in points for name, value in point.items()}}


def _read_start(where: str, value: StartText) -> Start:
    if isinstance(value, Mapping):
        return read_column(value, where)
    return start_from(value if isinstance(value, str) else float(value), where)


def read_start_of_each(values: Mapping[str, StartText]) -> dict[str, dict[str, Start]]:
    """What `read_starts` makes of each key of ``run.initial``; ``square(u)`` is a variable of the optimizer."""

    def read(key: str, value: StartText) -> dict[str, Start]:
        return (
            {key: _read_start(f"run.initial.{key}", value)} if "(" in key else read_starts("run.initial", {key: value})
        )

    return dict(zip(values, attempt_all(partial(read, *item) for item in values.items()), strict=True))


def read_noise(values: Mapping[str, str]) -> tuple[dict[str, Noise], dict[str, str]]:
    """Independent noise variables, and the definitions of jointly normal ones, ``"x,y" = "normal:1,0.5;0.5,1"``.

    Raises
    ------
    InputError
        For what is no distribution, no covariance, or stands for two things.
    """
    single = {key: text for key, text in values.items() if "," not in key}
    noise = _by_coordinate("loss.noise", single, lambda where, text: Noise.parse(text, where))
    joint = attempt_all(partial(_joint_noise, key, text) for key, text in values.items() if "," in key)
    definitions: dict[str, str] = {}
    for independent, combined in joint:
        check_free("noise", [*independent, *combined], [*noise, *definitions])
        noise |= independent
        definitions |= combined
    return noise, definitions


def check_free(section: str, names: Sequence[str], taken: Sequence[str]) -> None:
    """Refuse names that stand for something already.

    Raises
    ------
    InputError
        With the first of them.
    """
    used = {base_name(name) for name in taken}
    for name in dict.fromkeys(base_name(name) for name in names):
        if name in used:
            raise InputError(f"loss.{section}: {name!r} stands for two things, expected another name for one of them")


def _joint_noise(key: str, text: str) -> tuple[dict[str, Noise], dict[str, str]]:
    where, names = f"loss.noise.{key}", [name.strip() for name in key.split(",")]
    family, _, rest = text.partition(":")
    try:
        matrix = [[float(cell) for cell in row.split(",")] for row in rest.split(";")]
    except ValueError:
        matrix = []
    if family.strip() != "normal" or not matrix:
        raise InputError(f"{where}: {text!r}, expected normal: and the rows of a covariance, normal:1,0.5;0.5,1")
    if len(set(names)) < len(names):
        raise InputError(f"{where}: names a variable twice")
    return correlated_normal(names, matrix, where)


def read_observables(texts: Mapping[str, str]) -> list[Observable]:
    """The observables of ``record.observables``.

    Raises
    ------
    InputError
        With the problems of all.
    """
    return attempt_all(partial(Observable.parse, name, text) for name, text in texts.items())


def read_histograms(sections: Mapping[str, Sequence[float]]) -> dict[str, Histogram | Plane]:
    """The bins of ``record.histograms``, by the name of a quantity or of two.

    Raises
    ------
    InputError
        With the problems of all.
    """

    def read(name: str, numbers: Sequence[float]) -> tuple[str, Histogram | Plane]:
        where = f"record.histograms.{name}"
        parts = [part.strip() for part in name.split(",")]
        if len(numbers) != 3 * len(parts):
            expected = "[low, high, bins] of a name, [low, high, bins, low, high, bins] of two"
            raise InputError(f"{where}: {shown(numbers)}, expected {expected}")
        return ",".join(parts), binned(numbers, where)

    return dict(attempt_all(partial(read, name, numbers) for name, numbers in sections.items()))


def _by_coordinate(where: str, values: Mapping[str, T], read: Callable[[str, T], U]) -> dict[str, U]:
    """What is made of each value, by coordinate.

    A vector is declared as a whole, ``w[3]``, or by all of its coordinates, ``w[0]``, ``w[1]``, ….
    """

    def coordinate(key: str, value: T) -> dict[str, U]:
        name, length = parameter_name(key, f"{where}.{key}")
        if length is not None and length > MOST_COORDINATES:
            raise InputError(f"{where}.{key}: {length} coordinates, expected at most {MOST_COORDINATES}")
        one_by_one = length is None or f"{name}[0]" in values
        return dict.fromkeys((key,) if one_by_one else coordinates(name, length), read(f"{where}.{key}", value))

    parts = attempt_all(partial(coordinate, key, value) for key, value in values.items())
    return {name: made for part in parts for name, made in part.items()}
