"""What a command may be about: a loss, a scenario or a file, and the scenario that each of them means."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from sgdsim.app.loss_report import loss_from
from sgdsim.base.errors import InputError
from sgdsim.formulas.vectors import base_name
from sgdsim.input.scenario import Scenario, shipped

DEFAULT_RATE = "0.01"
DEFAULT_STEPS = 1000
_DEFAULTS = (f"optimizer.learning_rate={DEFAULT_RATE}", "run.trajectories=1000", f"run.steps={DEFAULT_STEPS}")
_START = "1"  # of every parameter that the user gives none for

_OF_LOSS = ("parameters", "constants", "noise", "definitions", "symmetries", "data")


def scenario_of(subject: str, **options: Any) -> Scenario:
    """The scenario that a loss with options, a scenario or a file means; what is not given has a default.

    Parameters
    ----------
    subject
        A file that a run has written, a scenario file, the name of a shipped scenario, the name of a loss of the
        catalogue, or a formula. What is a scenario and a loss is taken for the scenario, unless options say more
        about the loss.
    options
        As `sgdsim.input.options.scenario_data`; of a scenario ``settings`` alone.

    Raises
    ------
    InputError
        For a subject that is none of these, and options that cannot be used.

    Examples
    --------
    >>> scenario_of("(x - z)**2/2", noise=["z=normal"]).runs[0].initial
    {'x': 1.0}
    """
    given = {key: value for key, value in options.items() if value is not None and value != ()}
    path = Path(subject)
    if path.suffix in (".h5", ".hdf5"):
        return _of_file(path, given)
    if path.suffix == ".toml" or (subject in shipped() and not given.keys() - {"settings"}):
        return _of_scenario(subject, given)
    return _of_loss(subject, given)


def _of_file(path: Path, options: Mapping[str, Any]) -> Scenario:
    from sgdsim.ensemble import Ensemble

    if options:
        raise InputError(f"{path}: holds its own scenario, expected no options")
    attributes = Ensemble.open(path).attributes
    if "scenario" not in attributes:
        raise InputError(f"{path}: holds no scenario")
    name = str(attributes.get("scenario_name", path.stem))
    return Scenario.parse(str(attributes["scenario"]), name, where=f"the scenario in {path}")


def _of_scenario(subject: str, options: Mapping[str, Any]) -> Scenario:
    from sgdsim.app.workflow import load_scenario
    from sgdsim.input.options import read_settings

    others = sorted(options.keys() - {"settings"})
    if others:
        raise InputError(f"{subject}: is a scenario, of which --set KEY=VALUE changes values, not {', '.join(others)}")
    return load_scenario(subject, read_settings(options.get("settings", ())))


def _of_loss(subject: str, options: Mapping[str, Any]) -> Scenario:
    from sgdsim.app.workflow import scenario_from
    from sgdsim.input.options import in_options, scenario_data, scenario_name

    parameters = _with_starts(options.get("parameters", ())) or _found(subject, options)
    # As settings, the first of which lose against those of the user.
    settings = (*_DEFAULTS, *options.get("settings", ()))
    data = scenario_data(loss=subject, **{**options, "parameters": parameters, "settings": settings})
    try:
        return scenario_from(data, scenario_name(data), "the command line")
    except InputError as error:
        raise InputError(in_options(str(error))) from None


def _with_starts(parameters: Sequence[str]) -> list[str]:
    return [text if "=" in text else f"{text}={_START}" for text in parameters]


def _found(subject: str, options: Mapping[str, Any]) -> list[str]:
    """All names of the loss that are nothing else, as parameters."""
    known = {key: options[key] for key in _OF_LOSS if key in options and key != "data"}
    if "data" in options:
        raise InputError("--data: name the parameters too, e.g. --parameter w=1")
    counts: dict[str, int] = {}
    names = loss_from(subject, **known).parameters if not _is_named(subject) else loss_from(subject).parameters
    for name in names:
        counts[base_name(name)] = counts.get(base_name(name), 0) + 1
    vectors = {base_name(name) for name in names if "[" in name}
    return [f"{name}[{count}]={_START}" if name in vectors else f"{name}={_START}" for name, count in counts.items()]


def _is_named(subject: str) -> bool:
    from sgdsim.model.losses import CATALOGUE

    return subject.strip() in CATALOGUE
