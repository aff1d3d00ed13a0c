"""Readers of single keys of a scenario: starts, noise, symmetries, observables, histograms."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple, TypeVar

from sgdsim.base.errors import InputError
from sgdsim.base.problems import attempt_all
from sgdsim.formulas.arrays import entries, filled, shape_of
from sgdsim.formulas.names import parameter_name, split_names
from sgdsim.formulas.vectors import array_of, assigned, base_name
from sgdsim.input.columns import read_column
from sgdsim.input.wording import shown
from sgdsim.model.correlated_noise import correlated_normal, correlated_vector
from sgdsim.model.noise import Noise
from sgdsim.model.observables import Observable
from sgdsim.model.recorder import Histogram, Plane, binned
from sgdsim.model.starts import Start, level_set, start_from

T = TypeVar("T")
U = TypeVar("U")


def read_starts(where: str, values: Mapping[str, Any]) -> dict[str, Start]:
    """The start of each coordinate; ``"u,w" = "level:charge,product"`` starts at a point of a level set."""
    points = attempt_all(
        partial(level_set, split_names(key), str(value), f"{where}.{key}")
        for key, value in values.items()
        if _joint(key)
    )
    single = {key: value for key, value in values.items() if not _joint(key)}
    starts = _by_coordinate(where, single, _read_start)
    return {**starts, **{name: value for point in points for name, value in point.items()}}


def _read_start(where: str, value: Any) -> Start:
    """A start from its written form: a number, a text, or a table that describes the column of a file."""
    return read_column(value, where) if isinstance(value, Mapping) else start_from(value, where)


def read_start_of_each(values: Mapping[str, Any]) -> dict[str, dict[str, Start]]:
    """Starts of each key of ``run.initial``, see `read_starts`; ``square(u)`` is a variable of the optimizer."""

    def read(key: str, value: Any) -> dict[str, Start]:
        where = f"run.initial.{key}"
        if "(" not in key and (_joint(key) or 0 not in parameter_name(key, where)[1]):
            return read_starts("run.initial", {key: value})
        return {key: _read_start(where, value)}  # also a single coordinate such as w[2], which declares no vector

    builds = (partial(read, key, value) for key, value in values.items())
    return dict(zip(values, attempt_all(builds), strict=True))


class Noises(NamedTuple):
    """Independent noise variables, the definitions that derive others from them, and the constants in these."""

    independent: dict[str, Noise]
    definitions: dict[str, str]
    constants: dict[str, Any]


def read_noise(values: Mapping[str, str]) -> Noises:
    """Independent noise variables, and jointly normal ones, ``"x,y"`` or ``"x[2]" = "normal:1,0.5;0.5,1"``.

    Raises
    ------
    InputError
        For a text that is not a distribution or a covariance, and for a name that has another meaning already.
    """
    joint = {key: text for key, text in values.items() if _joint(key) or ";" in text}
    single = {key: text for key, text in values.items() if key not in joint}
    found = Noises(_by_coordinate("loss.noise", single, lambda where, text: Noise.parse(text, where)), {}, {})
    for independent, combined, factors in attempt_all(partial(_joint_noise, *item) for item in joint.items()):
        check_free("noise", [*independent, *combined, *factors], list(itertools.chain(*found)))
        found = Noises(found[0] | independent, found[1] | combined, found[2] | factors)
    return found


def check_free(section: str, names: Sequence[str], taken: Sequence[str]) -> None:
    """Refuse names that have a meaning already.

    Raises
    ------
    InputError
        With the first such name.
    """
    used = {base_name(name) for name in taken}
    for name in dict.fromkeys(base_name(name) for name in names):
        if name in used:
            raise InputError(f"loss.{section}: {name!r} stands for two things, expected another name for one of them")


def _joint(key: str) -> bool:
    """True if a key consists of several names."""
    return len(split_names(key)) > 1


def _joint_noise(key: str, text: str) -> Noises:
    where, names = f"loss.noise.{key}", split_names(key)
    family, _, rest = text.partition(":")
    try:
        matrix = [[float(cell) for cell in row.split(",")] for row in rest.split(";")]
    except ValueError:
        matrix = []
    if family.strip() != "normal" or not matrix:
        raise InputError(f"{where}: {text!r}, expected normal: and the rows of a covariance, normal:1,0.5;0.5,1")
    if len(set(names)) < len(names):
        raise InputError(f"{where}: names a variable twice")
    if len(names) > 1:
        return Noises(*correlated_normal(names, matrix, where), {})
    name, shape = parameter_name(key, where)
    if len(shape) != 1:
        raise InputError(f"{where}: a covariance, expected a vector, such as {name}[{len(matrix)}]")
    return Noises(*correlated_vector(name, shape[0], matrix, where))


def read_observables(texts: Mapping[str, str]) -> list[Observable]:
    """The observables of ``record.observables``.

    Raises
    ------
    InputError
        With the problems of all observables.
    """
    return attempt_all(partial(Observable.parse, name, text) for name, text in texts.items())


def read_histograms(sections: Mapping[str, Sequence[float]]) -> dict[str, Histogram | Plane]:
    """The bins of ``record.histograms``, by the name of one quantity, or by the names of two.

    Raises
    ------
    InputError
        With the problems of all histograms.
    """

    def read(name: str, numbers: Sequence[float]) -> tuple[str, Histogram | Plane]:
        where = f"record.histograms.{name}"
        parts = split_names(name)
        if len(numbers) != 3 * len(parts):
            expected = "[low, high, bins] of a name, [low, high, bins, low, high, bins] of two"
            raise InputError(f"{where}: {shown(numbers)}, expected {expected}")
        return ",".join(parts), binned(numbers, where)

    return dict(attempt_all(partial(read, name, numbers) for name, numbers in sections.items()))


def _by_coordinate(where: str, values: Mapping[str, T], read: Callable[[str, T], U]) -> dict[str, U]:
    """Results of the reader for each value, or for each entry of a list, by coordinate."""

    def made(key: str, value: T) -> Any:
        given = array_of(value, f"{where}.{key}")
        return filled(shape_of(given), (read(f"{where}.{key}", entry) for entry in entries(given)))

    each = attempt_all(partial(made, key, value) for key, value in values.items())
    return assigned(dict(zip(values, each, strict=True)), where)
