"""Loading of scenarios from a file, options or a call: they are checked, and record all that their claims need."""

from __future__ import annotations

import difflib
import os
import warnings
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from sgdsim import theory
from sgdsim.base import toml
from sgdsim.base.errors import InputError
from sgdsim.base.files import atomic_file, check_output
from sgdsim.base.findings import found
from sgdsim.base.problems import attempt, attempt_all
from sgdsim.formulas.formula import Formula
from sgdsim.formulas.names import STEP_NAMES, aliased
from sgdsim.formulas.vectors import base_name
from sgdsim.input.file_references import move_files, named_files
from sgdsim.input.scenario import Scenario
from sgdsim.input.wording import listed
from sgdsim.model.loss import Loss
from sgdsim.model.observables import STOPPED, Observable
from sgdsim.model.population_points import SEARCHED, population_points
from sgdsim.model.recorder import Recorder
from sgdsim.model.run import Run
from sgdsim.theory.claims import about_run

_FOR_PEOPLE = ("title", "description", "references")
_MOST_WARNINGS = 10  # unused constants that are named in warnings; further ones are only counted


def load_scenario(
    source: str | Path, overrides: Mapping[str, Any] | None = None, predictions: Sequence[str] = ()
) -> Scenario:
    """Read a scenario and add predictions; the scenario then records all that its predictions need.

    Parameters
    ----------
    source
        Path of a scenario file, or the name of a scenario that sgdsim ships.
    overrides
        Values by dotted key, such as ``{"run.steps": 5000}``.
    predictions
        Further predictions: ids of laws, and formulas such as ``"variance(x) = learning_rate/2; order=1; at=final"``.

    Returns
    -------
    Scenario
        The scenario, checked and ready to run.

    Raises
    ------
    InputError
        For a scenario, an override or a prediction that cannot be used, with all problems that were found.

    Examples
    --------
    >>> scenario = load_scenario("river_valley", {"run.steps": 100}, ["mean(y) = 0; resolution=0.01"])
    >>> "window_mean" in scenario.toml
    True
    """
    return _recorded(Scenario.load(source, overrides, predictions), str(source))


def load_parts(
    source: str | Path,
    overrides: Mapping[str, Any] | None = None,
    predictions: Sequence[str] = (),
    *,
    progress: bool = False,
) -> list[Scenario]:
    """Read all parts of a scenario, each as `load_scenario` reads one; a scenario without parts is the only one.

    Parameters
    ----------
    source, overrides, predictions
        See `load_scenario`; overrides and predictions hold for every part.
    progress
        Show a bar on standard error, if that is a terminal, while a large sweep is read.

    Raises
    ------
    InputError
        For a scenario, an override or a prediction that cannot be used.

    Examples
    --------
    >>> [scenario.part for scenario in load_parts("river_valley")]
    ['']
    """
    found = Scenario.load_parts(source, overrides, predictions, progress)
    return attempt_all(
        partial(_recorded, one, f"{source}, part {one.part}" if one.part else str(source)) for one in found
    )


def scenario_from(
    data: Mapping[str, Any], name: str, where: str, folder: str | Path = ".", *, progress: bool = False
) -> Scenario:
    """A scenario from the tables of a scenario file; it records all that its predictions need.

    Parameters
    ----------
    data
        Tables as in a scenario file.
    name
        Name of the scenario, from which its files are named.
    where
        Origin of the data, for messages.
    folder
        Folder from which relative paths of files in the data are taken.
    progress
        Show a bar on standard error, if that is a terminal, while a large sweep is read.

    Raises
    ------
    InputError
        For data, a prediction or a file that cannot be used.

    Examples
    --------
    >>> loss = {"formula": "(x - z)**2/2", "parameters": {"x": 1.0}, "noise": {"z": "normal"}}
    >>> run = {"trajectories": 1000, "steps": 100}
    >>> scenario_from({"loss": loss, "optimizer": {"learning_rate": 0.1}, "run": run}, "mine", "here").name
    'mine'
    """
    return _recorded(Scenario.of(data, name, where, Path(folder), progress), where)


def save_scenario(data: Mapping[str, Any], path: str | Path, output: str | Path, *, overwrite: bool = False) -> None:
    r"""Write the tables of a scenario as a scenario file; relative paths are changed to lead to the same files.

    Parameters
    ----------
    data
        Tables as in a scenario file; relative paths are taken from the working folder.
    path
        TOML file to write; it appears only once it is whole.
    output
        File that the run is going to write: the scenario is not saved if that file could not be.
    overwrite
        True if an existing file may be replaced.

    Raises
    ------
    InputError
        For a path that cannot be written to.

    Examples
    --------
    >>> from tempfile import TemporaryDirectory
    >>> with TemporaryDirectory() as folder:
    ...     save_scenario({"run": {"steps": 100}}, f"{folder}/mine.toml", f"{folder}/mine.h5")
    ...     Path(folder, "mine.toml").read_text()
    '[run]\nsteps = 100\n'
    """
    if os.path.realpath(path) == os.path.realpath(output):
        raise InputError(f"{path}: is the output too, expected another file for the scenario")
    check_output(path, overwrite, named_files(data))
    if Path(output).parent != Path("results") or Path("results").is_dir():  # a run makes results/
        check_output(output, overwrite)
    text = toml.dumps(move_files(data, ".", Path(path).parent)).lstrip()
    with atomic_file(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def _recorded(scenario: Scenario, where: str) -> Scenario:
    """The scenario, recording all that its predictions need; refuse predictions and formulas that cannot be used."""
    problems: list[str] = []
    attempt(problems, partial(_check_constants, scenario))
    wanted = attempt(problems, partial(_wanted, scenario))
    recorded = None if wanted is None else scenario.recording(wanted)
    for claim in _own_claims(recorded) if recorded else ():
        # A claim that cannot be evaluated is refused now, not after the run.
        attempt(problems, partial(claim.predictions, recorded.runs if recorded else ()))
    if problems or recorded is None:
        raise InputError(f"{where}:\n{listed(problems)}")
    return recorded


def _wanted(scenario: Scenario) -> list[Recorder]:
    """Recorders that the laws of a scenario need; kept, and used again for scenarios that differ by the seed alone."""
    runs = scenario.runs
    laws = [(claim.source, claim.seconds) for claim in scenario.claims if isinstance(claim.source, theory.Law)]

    def find() -> list[Any]:
        _check_formulas(runs[0])
        return list(dict.fromkeys(_as_data(_requirements(laws, run)) for run in runs))

    table = {key: value for key, value in scenario.data["run"].items() if key != "seed"}
    tables = {key: scenario.data[key] for key in scenario.data if key not in _FOR_PEOPLE} | {"run": table}
    code = [law.records for law, _ in laws] + [function for run in runs for function in run.code]
    # The states in the file of a start are not part of the scenario, so the answer cannot be kept.
    answer = find() if table.get("from") else found(["wanted", tables, named(runs)], find, code)
    return [_recorder(*data) for data in answer]


def _requirements(laws: Iterable[tuple[theory.Law, float]], run: Run) -> Recorder:
    wanted = Recorder()
    for law, seconds in laws:
        wanted = wanted.merge(theory.requirements([law], run, seconds))
    return wanted


def named(runs: Sequence[Run]) -> list[Any]:
    """Definitions of the losses, optimizers and schedules of runs, as plain data: users may have added their own."""
    losses = {id(run.loss): run.loss.plain for run in runs}
    rules = dict.fromkeys(text for run in runs for text in (repr(run.optimizer.rule), repr(run.schedule.family)))
    return [*losses.values(), *rules]


def _as_data(recorder: Recorder) -> tuple[Any, ...]:
    observables = ((one.name, one.formula, one.window, one.kind) for one in recorder.observables)
    return recorder.snapshots, tuple(observables)


def _recorder(snapshots: Sequence[int], observables: Sequence[tuple[str, str, Any, str]]) -> Recorder:
    made = (Observable(name, formula, window and tuple(window), kind) for name, formula, window, kind in observables)
    return Recorder(snapshots=tuple(snapshots), observables=tuple(made))


def _own_claims(scenario: Scenario) -> Iterator[theory.UserPrediction]:
    """Predictions of the user's own."""
    yield from (claim.source for claim in scenario.claims if isinstance(claim.source, theory.UserPrediction))


def _check_constants(scenario: Scenario) -> None:
    """Refuse a constant that looks like one left at its default; warn of unused ones, and of those that hide a name."""
    given = scenario.data["loss"].get("constants", {})
    losses = list({id(run.loss): run.loss for run in scenario.runs}.values())
    claimed = set[str]().union(*(claim.names for claim in _own_claims(scenario)))
    used = claimed.union(*map(_names, losses))
    run = scenario.runs[0]
    used |= _names_in(aliased(one.formula) for one in (*run.recorder.observables, *run.bounds))
    unused = [name for name in given if base_name(name) not in used]
    defaults = [known for known in losses[0].constants if known not in given]
    for name in unused if defaults else ():
        if near := difflib.get_close_matches(name, defaults, n=1):
            raise InputError(f"loss.constants.{name}: unknown constant {name!r}: did you mean {near[0]!r}?")
    for name in unused[:_MOST_WARNINGS]:
        _warn(f"loss.constants.{name}: no formula uses it")
    if len(unused) > _MOST_WARNINGS:
        _warn(f"loss.constants: no formula uses {len(unused) - _MOST_WARNINGS} others")
    for name in (name for name in losses[0].constants if name in _replaced(scenario)):
        _warn(f"loss.constants.{name}: formulas take {name} for this constant, not for what the run has of that name")


def _warn(text: str) -> None:
    warnings.warn(text, RuntimeWarning, stacklevel=3)


def _replaced(scenario: Scenario) -> set[str]:
    """Names in claims and observables that are also values of the optimizer; a constant of this name comes first."""
    run = scenario.runs[0]
    named = set[str]()
    for claim in _own_claims(scenario):
        swept = set() if claim.curve is None else {toml.split_key(claim.curve.key)[-1]}
        named |= (claim.names | swept) & about_run(run, run.steps).keys()
    for observable in run.recorder.observables:
        if observable.is_running:
            named |= observable.names & STEP_NAMES
    for state in run.loss.states.values():
        named |= Formula.parse(aliased(state.formula)).names & STEP_NAMES
    return named


def _check_formulas(run: Run) -> None:
    """Refuse formulas of a run that can be read but do not give one number, such as a vector."""
    loss = run.loss
    if not loss.is_small:  # formulas of the loss alone were checked, by their shapes, when it was made
        attempt_all(partial(_check_shape, loss, one) for one in run.recorder.observables)
        return
    checks: list[Callable[[], object]] = [lambda: loss.formula and loss.expression]
    checks.append(lambda: loss.population_rules if run.optimizer.rule.population else loss.rules)
    checks.append(partial(_expand_states, loss))
    checks += [partial(_expand, run, one) for one in run.recorder.observables]
    checks += [partial(_expand_bound, loss, one) for one in run.bounds]
    attempt_all(checks)


def _expand_bound(loss: Loss, one: Observable) -> object:
    return loss.expand(one.formula, "run.stop", _searched(loss, one.names, "run.stop"))


def _check_shape(loss: Loss, observable: Observable) -> None:
    """Refuse an observable that is not a number; one with quantities of the step is checked when it is compiled."""
    _searched(loss, observable.names, f"record.observables.{observable.name}")
    formula = Formula.parse(aliased(observable.formula), where=f"record.observables.{observable.name}")
    if formula.names <= {*loss.shapes, "pi"}:
        formula.shape(loss.shapes)


def _expand_states(loss: Loss) -> None:
    import sympy

    loss.remembered({}, {name: loss.symbols[name] for name in loss.parameters}, sympy.Integer(1))
    loss.memory_starts({})


def _expand(run: Run, observable: Observable) -> object:
    """An observable as an expression, in which the quantities of a step are replaced by their expressions."""
    import sympy

    gradient = {name: run.loss.symbols[name] for name in run.loss.parameters}
    where = f"record.observables.{observable.name}"
    searched = _searched(run.loss, observable.names, where)
    if run.stop and not observable.is_running:
        stopped = {name: sympy.Symbol(name, real=True) for name in STOPPED}
        return run.loss.expand(observable.formula, where, stopped | searched)
    return run.loss.expand_step(observable.formula, where, {}, gradient, sympy.Integer(1), searched)


def _searched(loss: Loss, names: Collection[str], where: str) -> dict[str, Any]:
    """Symbols for the eigenvalues that kernels compute iteratively; refuse them for a loss without a Hessian."""
    import sympy

    named = SEARCHED.intersection(names) if loss.searches else ()
    if named:
        try:
            population_points(loss)
        except InputError as error:
            raise InputError(f"{where}: hessian_max: {error}") from None
    return {name: sympy.Symbol(name, real=True) for name in named}


def _names(loss: Loss) -> set[str]:
    """Names in the formulas of a loss."""
    starts = [state.start for state in loss.states.values()]
    generators = [text for symmetry in loss.symmetries for text in symmetry.generator.values()]
    return _names_in([*loss.texts, *starts, *generators])


def _names_in(texts: Iterable[str]) -> set[str]:
    return set[str]().union(*(Formula.parse(text).names for text in texts))
