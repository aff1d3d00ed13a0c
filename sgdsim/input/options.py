"""The options of the command line as one table.

From it follow click's options, their readers, their names in messages, and the tables in docs/simulate.md: a new option
is one new entry. Most options set a key of a scenario. Together they give the data of a scenario file, which are
checked like those of a file; only the form of each option is checked here.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal

from sgdsim.base import toml
from sgdsim.base.errors import InputError
from sgdsim.base.problems import attempt_all
from sgdsim.formulas.names import normal
from sgdsim.input import option_values as values
from sgdsim.input.option_values import Reader

CUSTOM = "custom"
"""Name of the files of a loss that is not in the catalogue."""


@dataclass(frozen=True)
class Option:
    """An option of the command line.

    Parameters
    ----------
    flag
        The flag, such as ``--learning-rate``.
    key
        The key of a scenario that it sets, ``optimizer.learning_rate``; empty for an option about a command.
    usage
        Form of its value in the help; empty for a switch.
    meaning
        One line for the help, with code in backticks.
    read
        Reader of the value that is given.
    kind
        ``text``; ``texts``, which may be given more than once; ``count``, a whole number; ``switch``.
    variable
        Name of the argument in calls from Python; by default the flag, with underscores.
    default
        Value without the option.
    of_catalogue
        Key that it sets for a loss of the catalogue, and the reader of its value, if these differ.
    called
        Further keys of a scenario for which messages name this option.
    short
        Short flag.
    """

    flag: str
    key: str
    usage: str
    meaning: str
    read: Reader = values.as_given
    kind: Literal["text", "texts", "count", "switch"] = "text"
    variable: str = ""
    default: str = ""
    of_catalogue: tuple[str, Reader] | None = None
    called: tuple[str, ...] = ()
    short: str = ""

    @property
    def name(self) -> str:
        """Name of the argument in calls from Python."""
        return self.variable or self.flag.removeprefix("--").replace("-", "_")

    @property
    def keys(self) -> tuple[str, ...]:
        """Keys of a scenario that it sets, and others for which messages name it."""
        own = [self.key, *((self.of_catalogue or ("",))[:1])]
        return (*dict.fromkeys(key for key in own if key), *self.called)


_LOSS = values.text("a name, or a formula")
_FILE = values.text("the name of a file")
_DECAY = values.number_or_text("a number, or a text such as 0.01:decoupled")

# fmt: off
TABLE: dict[str, list[Option]] = {
    "The loss": [
        Option("--loss", "loss.formula", "FORMULA", "Of one sample; or a name of the catalogue.", _LOSS,
               of_catalogue=("loss.name", _LOSS)),
        Option("--parameter", "loss.parameters", "NAME=VALUE",
               "Initial value, e.g. `u=1.5` or `w=normal:0,0.3`; `w[3]=0` is a vector, `W[6,4]=0` a matrix.",
               values.PARAMETERS, "texts",
               "parameters", of_catalogue=("run.initial", values.PARAMETERS)),
        Option("--constant", "loss.constants", "NAME=VALUE",
               "Of the formulas; also rows, `V=[[1,2],[3,4]]` or `V=V.csv`; a distribution, `b=normal`, gives each "
               "trajectory its own.", values.CONSTANTS, "texts", "constants"),
        Option("--noise", "loss.noise", "NAME=DISTRIBUTION",
               "E.g. `x=normal:0,0.5`, `x[4]=normal`, or jointly `p,q=normal:COVARIANCE.csv`.", values.NOISE, "texts",
               of_catalogue=("loss.noise", values.noise_or_argument)),
        Option("--define", "loss.define", "'NAME = FORMULA'", "A name for use in the formulas, e.g. `y = 0.8*x + e`.",
               values.DEFINITIONS, "texts", "definitions"),
        Option("--direction", "loss.direction", "'NAME = FORMULA'",
               "Moves a parameter in place of its gradient, e.g. `x = x*(b*y - a)`; all of them without a loss.",
               values.DIRECTIONS, "texts", "directions"),
        Option("--state", "loss.state", "'NAME = FORMULA; start=FORMULA'",
               "What a trajectory remembers, e.g. `last = x`, or `trace = trace/2 + x; start=1`; it starts at 0.",
               values.STATES, "texts", "states"),
        Option("--symmetry", "loss.symmetry", "SYMMETRY", "Of the loss, e.g. `rescale:u:1,w:-1`, or `generator:FILE`.",
               values.each("e.g. rescale:u:1,w:-1"), "texts", "symmetries"),
        Option("--data", "loss.data", "FILE", "Samples are rows of this table, CSV or HDF5; or of a data set "
               "drawn in each trajectory, `x=normal; rows=64`.", values.data),
        Option("--title", "title", "TEXT", "Of the file."),
    ],
    "Optimizers": [
        Option("--optimizer", "optimizer", "NAME[:KEY=VALUE,…]", "E.g. `adam:beta1=0.9,epsilon=0`.", values.optimizer,
               default="sgd", called=("optimizer.name",)),
        Option("--momentum", "optimizer.momentum", "NUMBER", "Makes SGD the heavy ball.", values.number),
        Option("--learning-rate", "optimizer.learning_rate", "RATE",
               "A number, a schedule, e.g. `cosine:0.1,0.001`, or `file:FILE`.", values.RATE),
        Option("--batch-size", "optimizer.batch_size", "INTEGER", "Samples of one step.", kind="count", default="1"),
        Option("--substeps", "optimizer.substeps", "INTEGER", "Of the rule in each step, on the same samples.",
               kind="count", default="1"),
        Option("--sampling", "optimizer.sampling", "NAME", "Of the rows of data: `replacement`, `batch` or `epoch`."),
        Option("--weight-decay", "optimizer.weight_decay", "NUMBER", "E.g. `0.01`, or `0.01:decoupled`.", _DECAY),
    ],
    "The run": [
        Option("--trajectories", "run.trajectories", "INTEGER", "How many there are, e.g. `1e6`.", kind="count"),
        Option("--steps", "run.steps", "INTEGER", "Steps of each.", kind="count"),
        Option("--time", "run.time", "NUMBER", "Instead, the sum of the learning rates of all steps, e.g. `10`.",
               values.number),
        Option("--seed", "run.seed", "INTEGER", "Seed of all noise, 64 bits.", kind="count"),
        Option("--dtype", "run.dtype", "NAME", "Of the states: `float64` or `float32`."),
        Option("--noise-dtype", "run.noise_dtype", "NAME", "Of normal noise: `float32` or `float64`."),
        Option("--antithetic", "run.antithetic", "", "Every second trajectory takes the mirrored noise of the last.",
               kind="switch"),
        Option("--stop", "run.stop", "CONDITION", "A trajectory ends where it holds first, e.g. `x > 1`; or another.",
               values.each("e.g. x > 1"), "texts"),
        Option("--from", "run.from", "FILE", "Start from the last states in this file.", _FILE, variable="start_from"),
        Option("--sweep", "sweep", "KEY=VALUE,…",
               "E.g. `optimizer.learning_rate=0.1,0.05`, or texts with commas between semicolons; several are paired.",
               values.SWEEPS, "texts", "sweeps"),
        Option("--set", "", "KEY=VALUE", "Set any value of the scenario, e.g. `run.steps=5000`.", values.settings,
               "texts", "settings"),
        Option("--threads", "", "INTEGER", "Threads of the CPU to use; changes no number.", kind="count",
               default="all"),
        Option("--device", "", "NAME", "`cpu`, `cuda`, `cuda:1`, or `auto`: what ends first.", default="cpu"),
        Option("--memory-limit", "", "SIZE", "Of results, e.g. `4GB`; snapshots that do not fit go to the disk.",
               default="80 % of what is free"),
        Option("--dask", "", "WHERE", "Compute on the workers of Dask: `local:4`, or `tcp://head:8786`."),
        Option("--cpu-target", "", "NAME", "Compile for any processor like it: `x86-64-v3` or `x86-64-v4`.",
               default="this one"),
        Option("--output", "", "FILE", "HDF5 file to write.", default="results/<name>.h5", short="-o"),
        Option("--save-scenario", "", "FILE", "Write the same as a scenario file too."),
        Option("--overwrite", "", "", "Replace an existing output file.", kind="switch"),
        Option("--shard", "", "NUMBER/OF", "Only this part of the run, e.g. `3/64`; the output is a folder."),
        Option("--resume", "", "", "Go on from the checkpoints beside the output, if there are any.", kind="switch"),
        Option("--checkpoint-every", "", "TIME",
               "E.g. `30s`, `5m`, or `never`; the default also saves one when a longer run is interrupted.",
               default="60s"),
        Option("--keep-state", "", "", "Keep the states, so that `sgdsim resume FILE --steps N` makes the run longer.",
               kind="switch"),
        Option("--quiet", "", "", "Only errors.", kind="switch"),
    ],
    "What is recorded": [
        Option("--every", "record.every", "INTEGER", "Steps from one record to the next.", kind="count"),
        Option("--records", "record.records", "INTEGER", "Instead, how many records at equal distances.", kind="count"),
        Option("--snapshot", "record.snapshots", "STEP", "Keep all states after this step, or `final`.",
               values.snapshots, "texts", "snapshots"),
        Option("--snapshot-trajectories", "record.snapshot_trajectories", "INTEGER",
               "Keep those of so many trajectories alone.", kind="count"),
        Option("--quantile", "record.quantiles", "NUMBER", "Read this quantile off each histogram, 0 to 1.",
               values.quantiles, "texts", "quantiles"),
        Option("--covariances", "record.covariances", "", "Record the covariances.", kind="switch"),
        Option("--observable", "record.observables", "'NAME = FORMULA'", "Record this too, e.g. `q = u**2 - w**2`.",
               values.OBSERVABLES, "texts", "observables"),
        Option("--histogram", "record.histograms", "NAME:LOW,HIGH,BINS",
               "Of one name, or two: `u,w:-4,4,50,-2,2,50`.", values.HISTOGRAMS, "texts", "histograms"),
        Option("--autocorrelation", "record.autocorrelation", "NAME:FROM:LAG,…",
               "Of a name, from a step on, with these lags.", values.AUTOCORRELATIONS, "texts", "autocorrelations"),
        Option("--drift", "record.drift", "NAME[|BY]:LOW,HIGH,BINS",
               "Mean and variance of a step by bins, e.g. `q:-4,4,80`.",
               values.drifts, "texts", "drifts"),
        Option("--control", "record.controls", "NAME",
               "Take the known part of the noise away from its mean at the end.",
               values.each("a name, e.g. q"), "texts", "controls"),
    ],
    "Predictions": [
        Option("--predict", "predict", "LAW|FORMULA",
               "E.g. `equipartition`, or `variance(x) = …; order=1; at=final`.", values.claims, "texts", "predictions"),
        Option("--no-automatic", "", "", "Hold it against no law but those that you ask for.", kind="switch"),
        Option("--all", "", "", "Print every row of the comparison, not a line a law.", kind="switch",
               variable="all_rows"),
        Option("--no-compare", "", "", "Write the file only, and record for no law but those that you ask for.",
               kind="switch"),
    ],
}
# fmt: on
"""All options of `sgdsim simulate`, by the heading of docs/simulate.md under which they stand."""


def options() -> list[Option]:
    """All options, in the order in which the help shows them and a saved scenario has their keys."""
    return [option for group in TABLE.values() for option in group]


# Functions that turn options into a scenario, and keys of a scenario in messages into options.


def scenario_data(*, settings: Sequence[str] = (), automatic: bool = True, **given: Any) -> dict[str, Any]:
    """Data of the scenario file that means the same as the options.

    Parameters
    ----------
    settings
        Any keys of a scenario, as ``run.steps=5000``. The other options come first; entries of ``predict`` add up.
    automatic
        True to add the laws that are tried on every run.
    **given
        Options of `TABLE` by name. Without a ``loss`` there must be directions of all parameters.

    Raises
    ------
    InputError
        With the problems of all options: the option, the value that was given, and what was expected.

    Examples
    --------
    >>> data = scenario_data(
    ...     loss="(x - z)**2/2", parameters=["x=1"], noise=["z=normal"], optimizer="sgd", learning_rate="0.1",
    ...     trajectories=1000, steps=100, automatic=False, title="A trap",
    ... )
    >>> print(toml.dumps(data))
    title = "A trap"
    <BLANKLINE>
    [loss]
    formula = "(x - z)**2/2"
    <BLANKLINE>
    [loss.parameters]
    x = 1
    <BLANKLINE>
    [loss.noise]
    z = "normal"
    <BLANKLINE>
    [optimizer]
    name = "sgd"
    learning_rate = 0.1
    <BLANKLINE>
    [run]
    trajectories = 1000
    steps = 100
    <BLANKLINE>
    """
    readers: list[Callable[[], Any]] = [partial(_read, given), partial(read_settings, settings)]
    scenario, others = attempt_all(readers)
    beneath: dict[str, Any] = {}
    attempt_all(partial(toml.set_key, beneath, key, value) for key, value in others.items())
    claims = all_claims(beneath.pop("predict", []), scenario.pop("predict", []), automatic)
    scenario = merged(beneath, scenario) | ({"predict": claims} if claims != [] else {})
    if given.get("momentum") is not None:
        scenario["optimizer"] = heavy_ball(scenario["optimizer"])
    _check_complete(scenario)
    order = ("title", "loss", "optimizer", "run", "record", "sweep", "predict")
    return {key: scenario[key] for key in sorted(scenario, key=lambda key: (*order, key).index(key))}


def loss_table(**given: Any) -> dict[str, Any]:
    """The ``[loss]`` table that options give.

    Raises
    ------
    InputError
        With the problems of all options.

    Examples
    --------
    >>> loss_table(loss="a*x**2", constants=["a=2"])
    {'formula': 'a*x**2', 'constants': {'a': 2}}
    """
    return _read(given)["loss"]  # type: ignore[no-any-return]


def read_settings(texts: Iterable[str]) -> dict[str, Any]:
    """The values of ``--set`` by dotted key; if a key is given twice, the last value counts.

    Raises
    ------
    InputError
        For anything but KEY=VALUE.

    Examples
    --------
    >>> read_settings(["run.steps=5e3", "loss.noise=laplace"])
    {'run.steps': 5000.0, 'loss.noise': 'laplace'}
    """
    return values.settings("--set", texts)


def scenario_name(data: Mapping[str, Any]) -> str:
    """Name of a scenario, from which its files are named: that of its loss in the catalogue.

    Examples
    --------
    >>> scenario_name({"loss": {"name": "river_valley"}}), scenario_name({"loss": {"formula": "x**2/2"}})
    ('river_valley', 'custom')
    """
    return CUSTOM if "formula" in data["loss"] else str(data["loss"].get("name", CUSTOM))


_KEY = re.compile(r"^(\s*)(\w+\.\w+)(\[[0-9]+\])?(?:\.((?:[^:\s.\"]|\"[^\"]*\")+))?(?=[:. ])", re.MULTILINE)
_OTHER = re.compile(r"(?<=expected it or )\w+\.\w+")
_ALONE = re.compile(r"\Athe command line:\n  (?=.*\Z)")  # a heading above a single line
_LAW = re.compile(r"^(\s*)predict\[[0-9]+\]\.(?:id|formula)(?=:)", re.MULTILINE)


def in_options(problem: str) -> str:
    """A problem of a scenario in which its keys are replaced by the options that set them; one alone has no heading.

    Examples
    --------
    >>> in_options("loss.parameters.w: unknown distribution 'normla'")
    "--parameter w: unknown distribution 'normla'"
    >>> in_options("predict[0].id: unknown law 'vally'")
    "--predict: unknown law 'vally'"
    >>> in_options("run.time: 2, expected it or run.steps, not both")
    '--time: 2, expected it or --steps, not both'
    """
    flags = {key: option.flag for option in options() for key in option.keys}

    def replace(match: re.Match[str]) -> str:
        indent, key, _, name = match.groups()
        if key not in flags:
            return match[0]
        return f"{indent}{flags[key]}" + ("" if name is None else f" {name}")

    problem = _OTHER.sub(lambda match: flags.get(match[0], match[0]), problem)
    return _ALONE.sub("", _LAW.sub(r"\1--predict", _KEY.sub(replace, problem)))


def _read(given: Mapping[str, Any]) -> dict[str, Any]:
    """The tables of a scenario that options give."""
    known = {option.name: option for option in options() if option.key}
    if unknown := given.keys() - known.keys():
        raise TypeError(f"unknown options {', '.join(sorted(unknown))}, expected some of {', '.join(known)}")
    catalogued = names_a_loss(given.get("loss") or "", given)
    asked = [option for name, option in known.items() if is_given(given.get(name))]
    found = attempt_all(partial(_read_one, option, given[option.name], catalogued) for option in asked)
    data: dict[str, Any] = {"loss": {}, "optimizer": {}, "run": {}}
    for option, key, value in found:
        table, _, name = key.partition(".")
        if name in data.get(table, {}):  # the text of --optimizer has set it already
            raise values.repeated(option.flag, str(given[option.name]), name)
        own: dict[str, Any] = {}
        toml.set_key(own, key, value)
        data = merged(own, data)
    return data


def names_a_loss(text: str, given: Mapping[str, Any]) -> bool:
    """True if a text is the name of a loss, and not a formula of a single name that options declare.

    Examples
    --------
    >>> names_a_loss("sphere", {}), names_a_loss("W", {"parameters": ["W[2,2]=1"]}), names_a_loss("2*x", {})
    (True, False, False)
    """
    from sgdsim.formulas.vectors import base_name

    texts = [one for key in ("parameters", "definitions") for one in given.get(key) or ()]
    declared = {base_name(normal(one.partition("=")[0].strip())) for one in texts}
    return text.strip().isidentifier() and normal(text.strip()) not in declared


def is_given(value: Any) -> bool:
    """True if an option was given; 0 and an empty text count as given."""
    return not (value is None or value is False or value in ((), []))


def _read_one(option: Option, given: Any, catalogued: bool) -> tuple[Option, str, Any]:
    key, read = (option.of_catalogue if catalogued else None) or (option.key, option.read)
    return option, key, read(option.flag, given)


def merged(under: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    """Nested tables merged into one; where both have a value, that of `over` is taken."""
    both = dict(over)
    for key, value in under.items():
        if isinstance(value, Mapping) and isinstance(over.get(key), Mapping):
            both[key] = merged(value, over[key])
        else:
            both.setdefault(key, value)
    return both


def all_claims(asked: Any, own: Sequence[Mapping[str, Any]], automatic: bool) -> Any:
    """Claims from ``--set`` and ``--predict``, and the laws that are tried on every run."""
    from sgdsim import theory

    if not isinstance(asked, list):
        return asked  # not a list of claims; the check of the scenario refuses it
    ids = [str(entry.get("id")) for entry in (*asked, *own) if isinstance(entry, Mapping)]
    named = {law.id for law in map(theory.law_named, ids) if law}
    laws = [{"id": id, "automatic": True} for id in theory.AUTOMATIC if automatic and id not in named]
    return [*asked, *own, *laws]


def heavy_ball(optimizer: Mapping[str, Any]) -> dict[str, Any]:
    """The table of an optimizer; ``sgd`` with a momentum becomes the optimizer ``momentum``."""
    if optimizer.get("name", "sgd") != "sgd":
        return dict(optimizer)
    return {"name": "momentum", **{key: value for key, value in optimizer.items() if key != "name"}}


def _check_complete(scenario: Mapping[str, Any]) -> None:
    """Refuse a scenario that lacks a key without a default."""
    run, optimizer, sweep = (scenario.get(name, {}) for name in ("run", "optimizer", "sweep"))
    missing = []
    if not scenario["loss"].keys() & {"formula", "name", "direction"}:
        missing.append("--loss: is missing, expected a formula, a name, or a --direction of each parameter")
    if "learning_rate" not in optimizer and not _is_swept(sweep, "learning_rate"):
        missing.append("--learning-rate: is missing, expected a number or a schedule such as cosine:0.1,0.001")
    if "trajectories" not in run and "from" not in run:
        missing.append("--trajectories: is missing, expected a whole number such as 1e6")
    if not run.keys() & {"steps", "time"} and not _is_swept(sweep, "steps") and not _is_swept(sweep, "time"):
        missing.append("--steps: is missing, expected a whole number such as 1e4")
    if missing:
        raise InputError("\n".join(missing))


def _is_swept(table: Any, key: str) -> bool:
    """True if a sweep varies the key, whether its dotted form is in quotes or makes tables."""
    if not isinstance(table, Mapping):
        return False
    return any(name.split(".")[-1] == key or _is_swept(value, key) for name, value in table.items())
