"""Subjects of commands: a loss, a scenario or a file, each turned into a scenario or a loss."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from sgdsim.base import toml
from sgdsim.base.errors import InputError, unknown_name
from sgdsim.base.files import about
from sgdsim.formulas.arrays import declared
from sgdsim.formulas.formula import Formula
from sgdsim.formulas.names import normal, parameter_name, split_names
from sgdsim.formulas.vectors import base_name
from sgdsim.input.builders import build_loss, build_schedule, is_own
from sgdsim.input.file_references import inline_files
from sgdsim.input.loading import load_scenario, scenario_from
from sgdsim.input.option_values import RATE
from sgdsim.input.options import (
    in_options,
    loss_table,
    merged,
    names_a_loss,
    read_settings,
    scenario_data,
    scenario_name,
)
from sgdsim.input.scenario import Scenario, shipped
from sgdsim.model.loss import Loss
from sgdsim.model.losses import CATALOGUE
from sgdsim.model.schedules import Schedule

DEFAULT_RATE = "0.01"
DEFAULT_STEPS = 1000
_DEFAULTS = (f"optimizer.learning_rate={DEFAULT_RATE}", "run.trajectories=1000", f"run.steps={DEFAULT_STEPS}")
_NAME = re.compile(r"[^\W\d][\w-]*")
_START = 1.0  # start of every parameter for which the user gives none


def scenario_of(subject: str | None, **options: Any) -> Scenario:
    """The scenario of a subject: a loss with options, a scenario or a file. Options that are not given have defaults.

    Parameters
    ----------
    subject
        A file that a run has written, a scenario file, the name of a shipped scenario, the name of a loss of the
        catalogue, or a formula; None if options give directions of all parameters. A name of both a scenario and a
        loss means the scenario, unless options describe the loss further.
    options
        See `sgdsim.input.options.scenario_data`; a scenario takes only ``settings``.

    Raises
    ------
    InputError
        For a subject that is none of these, and options that cannot be used.

    Examples
    --------
    >>> scenario_of("(x - z)**2/2", noise=["z=normal"]).runs[0].initial
    {'x': 1.0}
    """
    given = _given(options)
    if subject is None:
        return _of_loss(None, given)
    path = Path(subject)
    if path.suffix in (".h5", ".hdf5"):
        return _of_file(path, given)
    if path.suffix == ".toml" or (subject in shipped() and not given.keys() - {"settings"}):
        return _of_scenario(subject, given)
    return _of_loss(subject, given)


def loss_of(subject: str | None, also: Iterable[str] = (), **options: Any) -> Loss:
    """A loss of the catalogue, or a formula whose names are parameters unless options explain them.

    Parameters
    ----------
    subject
        A name of the catalogue, or a formula; None if options give directions of all parameters.
    also
        Ids of laws, for the near match of a misspelt subject.
    options
        See `sgdsim.input.options.scenario_data`.

    Raises
    ------
    InputError
        For an unknown loss, and for options that cannot be read or do not make a loss.

    Examples
    --------
    >>> loss_of("a*(x - z)**2/2", constants=["a=1"], noise=["z=normal"]).parameters
    ('x',)
    """
    given = _given(options)
    _check_known(subject, "law", also, given)
    settings = read_settings(given.pop("settings", ()))
    table = loss_table(loss=subject, **given)
    beneath: dict[str, Any] = {"loss": {}}
    for key, value in settings.items():
        toml.set_key(beneath, key, value)
    table = merged(beneath["loss"], table)
    if not is_own(table) and any("=" not in text for text in options.get("parameters") or ()):
        raise InputError(f"--parameter: {table['name']} has parameters of its own")
    try:
        if is_own(table) and "parameters" not in given:
            table["parameters"] = _unexplained(table)
        return build_loss(inline_files({"loss": table})["loss"])
    except InputError as error:
        raise InputError(in_options(str(error))) from None


def schedule_of(text: str) -> Schedule:
    """A schedule from the text of the option ``--learning-rate``, also ``file:FILE``.

    Raises
    ------
    InputError
        For a file that cannot be read, and a text that is not a schedule.

    Examples
    --------
    >>> schedule_of("1e-1")
    Schedule(text='0.1', table=None)
    """
    rate = RATE("--learning-rate", text)
    return build_schedule(inline_files({"optimizer": {"learning_rate": rate}})["optimizer"])


def _of_file(path: Path, options: Mapping[str, Any]) -> Scenario:
    from sgdsim.ensemble import Ensemble

    if options:
        raise InputError(f"{path}: holds its own scenario, expected no options")
    with about(path):
        attributes = Ensemble.open(path).attributes
        if "scenario" not in attributes:
            raise InputError(f"{path}: holds no scenario")
        name = str(attributes.get("scenario_name", path.stem))
        return Scenario.parse(str(attributes["scenario"]), name, where=f"the scenario in {path}")


def _of_scenario(subject: str, options: Mapping[str, Any]) -> Scenario:
    others = sorted(options.keys() - {"settings"})
    if others:
        raise InputError(f"{subject}: is a scenario, of which --set KEY=VALUE changes values, not {', '.join(others)}")
    return load_scenario(subject, read_settings(options.get("settings", ())))


def _of_loss(subject: str | None, options: Mapping[str, Any]) -> Scenario:
    _check_known(subject, "scenario", shipped().keys() - {subject}, options)
    # As settings that come first: the user's own settings, which follow, override them.
    settings = (*_DEFAULTS, *options.get("settings", ()))
    data = scenario_data(loss=subject, **{**options, "settings": settings})
    try:
        if "parameters" not in options:
            data = _started(data)
        return scenario_from(data, scenario_name(data), "the command line")
    except InputError as error:
        raise InputError(in_options(str(error))) from None


def _given(options: Mapping[str, Any]) -> dict[str, Any]:
    """The options that were given; a parameter without a value starts at 1."""
    given = {key: value for key, value in options.items() if value is not None and value != ()}
    if "parameters" in given:
        given["parameters"] = [text if "=" in text else _starting(text) for text in given["parameters"]]
    return given


def _starting(name: str) -> str:
    parameter_name(name, f"--parameter {name!r}")  # refuses a text that is more than a name
    return f"{name}={_START}"


def _check_known(subject: str | None, kind: str, others: Iterable[str], options: Mapping[str, Any]) -> None:
    """Refuse a name that is no loss, with a near match among losses and names of other kinds.

    A name with a hyphen may be a difference, which is a formula, unless a known name with a hyphen is very near.
    """
    name = (subject or "").strip()
    if not _NAME.fullmatch(name) or name in CATALOGUE:
        return
    kinds = {**dict.fromkeys(others, kind), **dict.fromkeys(CATALOGUE, "loss")}
    hyphened = "-" in name
    near = [known for known in kinds if "-" in known] if hyphened else kinds
    close = difflib.get_close_matches(name, near, n=1, cutoff=0.8 if hyphened else 0.6)
    if close and (hyphened or names_a_loss(name, options)):
        raise InputError(unknown_name(kinds[close[0]], name, close))
    if names_a_loss(name, options):
        raise InputError(unknown_name("loss", name, CATALOGUE))


def _started(data: dict[str, Any]) -> dict[str, Any]:
    """The scenario with a start for every parameter."""
    loss = data["loss"]
    if is_own(loss):
        return {**data, "loss": {**loss, "parameters": {**_unexplained(loss), **loss.get("parameters", {})}}}
    names = build_loss(inline_files({"loss": loss})["loss"]).parameters
    return {
        **data,
        "run": {**data["run"], "initial": {**dict.fromkeys(names, _START), **data["run"].get("initial", {})}},
    }


def _unexplained(loss: Mapping[str, Any]) -> dict[str, float]:
    """Parameters that start at 1: all names in the formulas of a loss that have no other meaning, in their order."""
    if "data" in loss:
        raise InputError("loss.data: name the parameters too, e.g. --parameter w=1")
    tables = [loss.get(key, {}) for key in ("constants", "noise", "define", "state")]
    explained = {base_name(name) for table in tables for names in table for name in split_names(names)}
    direction = loss.get("direction", {})
    several = [*direction, *direction.values(), *loss.get("define", {}).values()]
    texts = [loss["formula"]] if "formula" in loss else []
    texts += [part for text in several for part in ([text] if isinstance(text, str) else text)]
    names = set[str]().union(*(Formula.parse(text, where="the loss").names for text in texts)) - explained
    whole = normal(" ".join(texts))
    found = {}
    for name in sorted(names, key=lambda name: re.search(rf"\b{name}\b", whole).start()):  # type: ignore[union-attr]
        indices = re.findall(rf"\b{name}\s*\[\s*(\d+)\s*(?:,\s*(\d+)\s*)?\]", whole)
        sizes = [max(map(int, place)) + 1 for place in zip(*indices, strict=True) if all(place)]
        found[f"{name}{declared(tuple(sizes))}" if sizes else name] = _START
    return found
