"""Readers of the arguments of a call from Python: texts, SymPy expressions, arrays and plain dictionaries."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from sgdsim.base import take
from sgdsim.base.errors import InputError
from sgdsim.base.numbers import read_number
from sgdsim.formulas.arrays import declared, described
from sgdsim.formulas.expressions import formula_text
from sgdsim.formulas.names import normal, parameter_name
from sgdsim.formulas.vectors import base_name, shapes, spread
from sgdsim.model.data import Data, DrawnData
from sgdsim.model.loss import Loss
from sgdsim.model.noise import Noise
from sgdsim.model.optimizers import Optimizer
from sgdsim.model.run import Run
from sgdsim.model.schedules import Schedule
from sgdsim.model.starts import (
    Grid,
    Listed,
    Start,
    Stored,
    by_parameter,
    numbers_of,
    of_each_trajectory,
    start_from,
    stored,
)
from sgdsim.model.states import State
from sgdsim.model.symmetry import Symmetry

_RATE = "optimizer.learning_rate"


def read_loss(loss: Any, initial: Any, trajectories: int | None = None, **tables: Any) -> tuple[Loss, dict[str, Start]]:
    """A loss with the starts of its parameters.

    Parameters
    ----------
    loss
        A `Loss`; a formula, as text or as an expression of SymPy; the name of one in the catalogue; or a table
        ``[loss]`` as in a scenario.
    initial
        The start of each parameter. The names here are the parameters of a formula; a vector is declared as ``w[3]``.
    trajectories
        Number of trajectories, if it is known.
    **tables
        Tables of ``[loss]``, if the loss is not a `Loss`: ``constants``, ``noise``, ``define`` and so on; and
        ``each``, constants with a value for each trajectory, see `one_a_trajectory`.

    Raises
    ------
    InputError
        If the argument is none of these.

    Examples
    --------
    >>> loss, starts = read_loss("norm2(w)/2 + z*w[0]", {"w[2]": "normal"}, noise={"z": "rademacher"})
    >>> loss.parameters, str(starts["w[1]"])
    (('w[0]', 'w[1]'), 'normal:0.0,1.0')
    """
    table = take.by_name(take.anything)(initial, "initial")
    listed = one_a_trajectory(tables.pop("each", None), trajectories)
    given = {name: value for name, value in tables.items() if value is not None}
    if isinstance(loss, Loss):
        if listed:
            loss = replace(loss, constants={**loss.constants, **loss.drawn, **listed}, drawn={})
        if given:
            raise InputError(f"{next(iter(given))}: stands in the Loss, expected only with a formula or a name")
        return loss, _starts(loss, table)
    if listed:
        given["constants"] = _beside(given.get("constants", {}), listed)
    from sgdsim.input import builders
    from sgdsim.input.file_references import inline_files
    from sgdsim.input.plain import plain

    defined = given.get("define")
    section = _section(loss, [*table, *(defined if isinstance(defined, Mapping) else ())])
    section |= {name: _written(value, f"loss.{name}") for name, value in given.items()}
    section = plain(section, ("loss",))
    if builders.is_own(section) and "parameters" not in section:
        if not table:
            raise take.refused(table, "initial", "where each parameter of the formula starts, {'x': 0.0}")
        section["parameters"], table = _declared(table)
    made, starts = builders.read_loss(inline_files({"loss": section})["loss"])
    return made, {**starts, **_starts(made, table)}


def starts_of_file(
    path: Any, initial: Mapping[str, Any], loss: Any, trajectories: int | None
) -> tuple[dict[str, Any], int]:
    """Starts from the last states in a file, except those that are given, and the number of trajectories.

    Raises
    ------
    InputError
        If the file holds no last states, or none of the parameters of the loss.
    """
    from sgdsim.input.snapshots import describe_snapshot

    described = describe_snapshot(take.path(path, "start_from"), trajectories)
    held = stored(described)
    if isinstance(loss, Loss):
        held = {name: one for name, one in held.items() if name in loss.parameters}
    given = {normal(base_name(name)) for name in initial}
    held = {name: one for name, one in held.items() if base_name(name) not in given}
    if not held:
        raise InputError(f"start_from: {path} holds {', '.join(stored(described))}, none that is to start there")
    return {**held, **initial}, int(described["trajectories"])


def _declared(table: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """The starts of a formula's parameters as a scenario writes them, and those that cannot be written as text."""
    written: dict[str, Any] = {}
    others: dict[str, Any] = {}
    of_file = shapes(name for name, value in table.items() if isinstance(value, Stored) and "[" in name)
    written |= {f"{base}{declared(shape)}": 0.0 for base, shape in of_file.items()}
    for name, value in table.items():
        if "(" in name or (isinstance(value, Stored) and "[" in name):  # a variable of the optimizer, a coordinate
            others[name] = value
        elif isinstance(value, Stored | Listed):
            written[name], others[name] = 0.0, value  # a placeholder, which that value replaces
        elif (found := _of_each(name, value, table)) is not None:
            written[found[0]] = 0.0
            others |= found[1]
        else:
            written[name] = _written_start(value, f"initial.{name}")
    return written, others


def _of_each(name: str, value: Any, names: Collection[str]) -> tuple[str, dict[str, Listed]] | None:
    """The declaration and the starts of an array that has a start for each trajectory; None for any other start."""
    numbers = numbers_of(value)
    if numbers is None or not numbers.ndim:
        return None
    base, shape = parameter_name(name, "initial")
    if shape and spread(name, names, "initial") == (f"{base}{declared(shape)}",):
        return name, {f"{base}{declared(shape)}": Listed.of(numbers, f"initial.{name}")}
    whole = numbers.shape[1:]
    if (whole == shape) if shape else numbers.ndim != 2:  # two dimensions alone are one matrix, for all trajectories
        return f"{base}{declared(whole)}" if whole else base, of_each_trajectory(base, numbers, "initial")
    return None


def one_a_trajectory(each: Any, trajectories: int | None = None) -> dict[str, Listed]:
    """Constants with a value for each trajectory, by coordinate, from arrays (trajectory, axes of the constant…).

    Parameters
    ----------
    each
        The arrays by name.
    trajectories
        Number of trajectories, if it is known.

    Raises
    ------
    InputError
        If a value is not an array of numbers, or has another number of trajectories.

    Examples
    --------
    >>> list(one_a_trajectory({"b": [1.0, 2.0], "v": np.ones((2, 3))}))
    ['b', 'v[0]', 'v[1]', 'v[2]']
    """
    found: dict[str, Listed] = {}
    for name, values in (take.optional(take.by_name(take.anything))(each, "each") or {}).items():
        base, shape = parameter_name(name, "each")
        array = numbers_of(values)
        if array is None or array.ndim not in (1, 2, 3) or not array.size or shape not in ((), array.shape[1:]):
            wanted = described(shape) if shape else "a number, a vector or a matrix"
            raise take.refused(values, f"each.{name}", f"an array with {wanted} for each trajectory")
        if trajectories is not None and len(array) != trajectories:
            raise InputError(f"each.{name}: {len(array)} values, expected {trajectories}, one a trajectory")
        found |= of_each_trajectory(base, array, "each")
    return found


def _beside(constants: Any, each: Mapping[str, Listed]) -> dict[str, Any]:
    """One table of the constants that all trajectories share and those of each; a name among both is refused."""
    table = take.by_name(take.anything)(constants, "constants")
    bases = set(map(base_name, each))
    for name in table:
        if base_name(name) in bases:
            raise InputError(f"each.{base_name(name)}: is among the constants too, expected it in one of them")
    return {**table, **each}


def _section(loss: Any, declared: Iterable[str]) -> dict[str, Any]:
    """The ``[loss]`` table of a formula or of a name in the catalogue; a declared parameter's name is a formula."""
    if isinstance(loss, Mapping):
        return take.by_name(take.anything)(loss, "loss")
    text = formula_text(loss, "loss")
    named = text.strip().isidentifier() and normal(text.strip()) not in map(base_name, map(normal, declared))
    return {"name": text.strip()} if named else {"formula": text}


def _written(value: Any, where: str) -> Any:
    """A value as a scenario writes it; it may be an object of sgdsim or a SymPy expression."""
    if isinstance(value, Noise | Grid | State):
        return str(value)
    if isinstance(value, Listed):
        return value.describe()
    if isinstance(value, Data | DrawnData):
        value = value.describe()
    if isinstance(value, Symmetry):
        kind = next(kind for kind in ("generator", "image", "layers") if getattr(value, kind))
        value = {"name": value.name, kind: getattr(value, kind)}
    if isinstance(value, Mapping):
        return {name: _written(one, f"{where}.{name}") for name, one in value.items()}
    if isinstance(value, list | tuple):
        return [_written(one, where) for one in value]
    return formula_text(value, where) if hasattr(value, "free_symbols") else value


def _starts(loss: Loss, table: Mapping[str, Any]) -> dict[str, Start]:
    """The start of every coordinate; the start of a vector's name holds for all its coordinates."""
    by_coordinate = by_parameter(table, loss.parameters)
    return {name: start_from(value, f"initial.{name}") for name, value in by_coordinate.items()}


def _written_start(value: Any, where: str) -> Any:
    if isinstance(value, Noise | Grid):
        return str(value)
    if isinstance(value, list | tuple | np.ndarray) and np.ndim(np.asarray(value, dtype=object)):
        return [_written_start(one, where) for one in value]
    return take.text(value, where) if isinstance(value, str) else _number(value, where)


def _number(value: Any, where: str) -> float:
    number = take.as_number(value)
    if number is None:
        raise take.refused(value, where, "a finite number, a distribution or a grid")
    return float(number)


def read_optimizer(optimizer: Any, **settings: Any) -> Optimizer:
    """An optimizer from an `Optimizer`, a text such as ``"adam:beta1=0.9"``, or a table as in a scenario.

    Parameters
    ----------
    optimizer
        The optimizer in one of these forms; None for SGD.
    **settings
        ``momentum``, ``batch_size``, ``weight_decay`` and ``sampling``, where they are given.

    Raises
    ------
    InputError
        If the argument is none of these.

    Examples
    --------
    >>> read_optimizer("adam:beta1=0.5", batch_size=4).values["beta1"], read_optimizer(None, momentum=0.5).name
    (0.5, 'momentum')
    """
    given = {name: value for name, value in settings.items() if value is not None}
    if isinstance(optimizer, Optimizer):
        if given:
            raise InputError(f"{next(iter(given))}: stands in the Optimizer, expected only with the name of one")
        return optimizer
    if optimizer is None and not given:
        return Optimizer()
    if isinstance(optimizer, str) and ":" not in optimizer and not given:
        return Optimizer(optimizer)
    from sgdsim.input import builders
    from sgdsim.input.option_values import optimizer as read_text
    from sgdsim.input.options import heavy_ball
    from sgdsim.input.plain import plain

    if optimizer is None or isinstance(optimizer, str):
        table = read_text("optimizer", take.text(optimizer or "sgd", "optimizer"))
    else:
        table = take.by_name(take.anything)(optimizer, "optimizer")
    if "learning_rate" in table:
        raise InputError("optimizer.learning_rate: expected as the argument learning_rate")
    table = plain({**table, **given}, ("optimizer",))
    return builders.build_optimizer(heavy_ball(table) if "momentum" in given else table)


def read_rates(learning_rate: Any, steps: int) -> list[Schedule]:
    """The schedules of the learning rate that an argument means; a list gives one for each point of a sweep.

    Parameters
    ----------
    learning_rate
        A number; a schedule, ``"cosine:0.1,0.001"``; an array with the rate of every step; a function of the step, from
        0; or a list of numbers and schedules.
    steps
        Number of steps of the run.

    Raises
    ------
    InputError
        If the argument is none of these.

    Examples
    --------
    >>> [schedule.text for schedule in read_rates([0.1, "cosine:0.1"], 2)]
    ['0.1', 'cosine:0.1']
    >>> read_rates(lambda step: 0.1 / (1 + step), 2)[0].rates(2)
    array([0.1 , 0.05])
    """
    if isinstance(learning_rate, list | tuple):
        if not learning_rate:
            raise take.refused(learning_rate, "learning_rate", "at least one rate")
        return [_number_or_text(rate, f"learning_rate[{index}]") for index, rate in enumerate(learning_rate)]
    if isinstance(learning_rate, Schedule):
        return [learning_rate]
    if isinstance(learning_rate, np.ndarray) and learning_rate.ndim == 1:
        return [Schedule("table", take.each(take.real)(learning_rate, "learning_rate"))]
    if callable(learning_rate):
        return [Schedule("table", _called(learning_rate, steps))]
    return [_number_or_text(learning_rate, "learning_rate")]


def _called(rate: Any, steps: int) -> tuple[float, ...]:
    """The learning rate at each step, from a function of the user's."""
    found = []
    for step in range(steps):
        try:
            value = rate(step)
        except Exception as error:
            raise InputError(f"learning_rate: at step {step} it fails: {type(error).__name__}: {error}") from error
        found.append(take.real(value, f"learning_rate at step {step}"))
    return tuple(found)


def _number_or_text(rate: Any, where: str) -> Schedule:
    number = take.as_number(rate)
    if number is None and not isinstance(rate, str):
        raise take.refused(rate, where, "a finite number, or a schedule such as 'cosine:0.1,0.001'")
    return Schedule(take.text(rate, where) if number is None else repr(float(number)))


def scenario_tables(
    run: Run,
    schedules: Sequence[Schedule],
    *,
    sweep: Any = None,
    common_noise: bool = False,
    predict: Any = (),
    automatic: bool = False,
    title: str = "",
) -> dict[str, Any]:
    """The tables of the scenario file that means the same as a call.

    Parameters
    ----------
    run
        The run; of a sweep, that of the first point.
    schedules
        Schedules of the learning rate: one, or one for each point if learning rates are swept.
    sweep, common_noise
        Other swept values by dotted key, as in ``[sweep]``; and True if all points draw the same noise.
    predict, automatic
        Ids of laws, formulas and tables of ``[[predict]]``; and True to try the laws that are tried on every run.
    title
        Title of the scenario.

    Raises
    ------
    InputError
        For arguments of the wrong type.
    """
    from sgdsim.input.option_values import claim
    from sgdsim.input.options import all_claims

    swept = take.optional(take.by_name(take.anything))(sweep, "sweep") or {}
    if len(schedules) > 1:
        if _RATE in swept:
            raise InputError(f"sweep.{_RATE}: is swept already, by the list learning_rate")
        numbers = [read_number(one.text) for one in schedules]
        rates = [one.text if number is None else number for one, number in zip(schedules, numbers, strict=True)]
        swept = {_RATE: rates, **swept}
    if take.flag(common_noise, "common_noise"):
        swept = {**swept, "common_noise": True}
    asked = [
        dict(one) if isinstance(one, Mapping) else claim(take.text(one, f"predict[{index}]"))
        for index, one in enumerate(take.each(take.anything)(predict, "predict"))
    ]
    claims = all_claims([], asked, take.flag(automatic, "automatic"))
    tables = run.describe()
    return {"title": take.text(title, "title"), **tables, "sweep": swept, "predict": claims}
