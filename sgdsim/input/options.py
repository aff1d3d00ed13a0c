"""Options of the command line as a scenario: one small reader for each form that they have.

What comes out is what a scenario file would hold, and is read and checked like one. Here only the form is checked.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from math import isfinite
from typing import Any

from sgdsim import theory
from sgdsim.base import toml
from sgdsim.base.errors import InputError
from sgdsim.formulas.formula import Formula
from sgdsim.formulas.names import check_name, parameter_name
from sgdsim.input.problems import attempt_all

CUSTOM = "custom"
"""What the files of a loss are called that is not in the catalogue."""

_INTEGER = re.compile(r"[+-]?[0-9]+(_[0-9]+)*")
_NUMBER = re.compile(r"[+-]?([0-9]+(_[0-9]+)*\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?")
_LONGEST_NUMBER = 400  # digits

_OPTIONS = {
    "loss.formula": "--loss",
    "loss.name": "--loss",
    "loss.parameters": "--parameter",
    "run.initial": "--parameter",
    "loss.constants": "--constant",
    "loss.noise": "--noise",
    "loss.define": "--define",
    "loss.symmetry": "--symmetry",
    "loss.data": "--data",
    "optimizer.name": "--optimizer",
    **{
        f"optimizer.{key}": f"--{key.replace('_', '-')}"
        for key in ("learning_rate", "batch_size", "sampling", "weight_decay", "momentum")
    },
    **{
        f"run.{key}": f"--{key.replace('_', '-')}"
        for key in ("trajectories", "steps", "seed", "dtype", "noise_dtype", "antithetic", "from")
    },
    "record.every": "--every",
    "record.snapshots": "--snapshot",
    "record.snapshot_trajectories": "--snapshot-trajectories",
    "record.observables": "--observable",
    "record.histograms": "--histogram",
    "record.quantiles": "--quantile",
    "record.covariances": "--covariances",
    "record.controls": "--control",
    "record.autocorrelation": "--autocorrelation",
    "record.drift": "--drift",
}
_KEY = re.compile(r"^(\s*)(\w+\.\w+)(\[[0-9]+\])?(?:\.((?:[^:\s.\"]|\"[^\"]*\")+))?(?=[:. ])", re.MULTILINE)


def scenario_data(
    *,
    loss: str,
    parameters: Sequence[str] = (),
    constants: Sequence[str] = (),
    noise: Sequence[str] = (),
    definitions: Sequence[str] = (),
    symmetries: Sequence[str] = (),
    data: str | None = None,
    optimizer: str | None = None,
    momentum: str | None = None,
    learning_rate: str | None = None,
    batch_size: int | None = None,
    sampling: str | None = None,
    weight_decay: str | None = None,
    trajectories: int | None = None,
    steps: int | None = None,
    seed: int | None = None,
    dtype: str | None = None,
    noise_dtype: str | None = None,
    antithetic: bool = False,
    start_from: str | None = None,
    every: int | None = None,
    snapshots: Sequence[str] = (),
    snapshot_trajectories: int | None = None,
    observables: Sequence[str] = (),
    histograms: Sequence[str] = (),
    quantiles: Sequence[str] = (),
    covariances: bool = False,
    autocorrelations: Sequence[str] = (),
    drifts: Sequence[str] = (),
    controls: Sequence[str] = (),
    sweeps: Sequence[str] = (),
    predictions: Sequence[str] = (),
    automatic: bool = True,
    title: str | None = None,
    settings: Sequence[str] = (),
) -> dict[str, Any]:
    """What a scenario file would hold that means the same.

    Parameters
    ----------
    loss
        A name of the catalogue, or a formula.
    parameters
        ``u=1.5`` or ``w=normal:0,0.3``: initial values, which declare the parameters of a formula.
    constants
        ``a=1``.
    noise
        ``x=normal``, or jointly ``p,q=normal:COV.csv``; of a loss of the catalogue also ``laplace``, or several.
    definitions
        ``y = 0.8*x + e``, in the order in which they use each other.
    symmetries
        ``rescale:u:1,w:-1`` or ``generator:FILE``.
    data
        A file of named columns.
    optimizer
        ``adam`` or ``adam:beta1=0.9,epsilon=0``.
    momentum
        A number; SGD becomes the optimizer that has it.
    learning_rate, weight_decay
        A number, or the text of a schedule and of a kind of decay.
    batch_size, sampling
        Of a batch.
    trajectories, steps, seed, dtype, noise_dtype
        Of the run.
    antithetic
        Whether trajectories come in mirrored pairs.
    start_from
        A file whose last states are the first ones.
    every
        Steps between two records.
    snapshots
        Steps, or ``final``.
    snapshot_trajectories
        How many of the trajectories stand in the snapshots.
    observables
        ``q = u**2 - w**2``.
    histograms
        ``q:-4,4,200``, or of two ``u,w:-4,4,50,-2,2,50``.
    quantiles
        Numbers between 0 and 1.
    covariances
        Whether covariances are recorded.
    autocorrelations
        ``x:1000:1,10,100``, a start and lags.
    drifts
        ``q:-4,4,80``, or ``q|x:-4,4,80`` for bins of x.
    controls
        Names whose means get a control.
    sweeps
        ``optimizer.learning_rate=0.1,0.05``; several are paired.
    predictions
        The user's own.
    automatic
        Whether the laws of the handbook are asked for.
    title
        Of the file.
    settings
        ``run.steps=5000``: any other key of a scenario; what the other options say wins.

    Raises
    ------
    InputError
        With the problems of all options: the option, what was given, what was expected.

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
    catalogued = loss.strip().isidentifier()
    readers: list[tuple[str, Callable[[], Any]]] = [
        ("title", lambda: title),
        ("loss.name" if catalogued else "loss.formula", partial(_text, "--loss", loss, "a name, or a formula")),
        ("run.initial" if catalogued else "loss.parameters", partial(_starts, parameters)),
        ("loss.constants", partial(_constants, constants)),
        ("loss.noise", partial(_noise, noise, catalogued)),
        ("loss.define", partial(_definitions, definitions)),
        ("loss.symmetry", lambda: [_text("--symmetry", text, "e.g. rescale:u:1,w:-1") for text in symmetries]),
        ("loss.data", partial(_text, "--data", data, "the name of a file")),
        ("optimizer", partial(_optimizer, optimizer, momentum)),
        ("optimizer.learning_rate", partial(_text_or_number, "--learning-rate", learning_rate)),
        ("optimizer.batch_size", lambda: batch_size),
        ("optimizer.sampling", lambda: sampling),
        ("optimizer.weight_decay", partial(_text_or_number, "--weight-decay", weight_decay)),
        ("run.trajectories", lambda: trajectories),
        ("run.steps", lambda: steps),
        ("run.seed", lambda: seed),
        ("run.dtype", lambda: dtype),
        ("run.noise_dtype", lambda: noise_dtype),
        ("run.antithetic", lambda: antithetic or None),
        ("run.from", partial(_text, "--from", start_from, "the name of a file")),
        ("record.every", lambda: every),
        ("record.snapshots", partial(_snapshots, snapshots)),
        ("record.snapshot_trajectories", lambda: snapshot_trajectories),
        ("record.quantiles", partial(_quantiles, quantiles)),
        ("record.covariances", lambda: covariances or None),
        ("record.observables", partial(_observables, observables)),
        ("record.histograms", partial(_histograms, histograms)),
        ("record.autocorrelation", partial(_autocorrelations, autocorrelations)),
        ("record.drift", partial(_drifts, drifts)),
        ("record.controls", lambda: [_text("--control", text, "a name, e.g. q") for text in controls]),
        ("sweep", partial(_sweeps, sweeps)),
        ("predict", lambda: _predictions(predictions, automatic)),
        ("settings", partial(read_settings, settings)),
    ]
    read = dict(attempt_all(partial(_read, key, reader) for key, reader in readers))
    others = read.pop("settings")
    scenario: dict[str, Any] = {"loss": {}, "optimizer": read.pop("optimizer"), "run": {}}
    for key, value in read.items():
        if value is not None and value not in ([], {}):
            toml.set_key(scenario, key, value)
    beneath: dict[str, Any] = {}
    attempt_all(partial(toml.set_key, beneath, key, value) for key, value in others.items())
    scenario = _merged(beneath, scenario)
    _check_complete(scenario)
    order = ("title", "loss", "optimizer", "run", "record", "sweep", "predict")
    return {key: scenario[key] for key in sorted(scenario, key=lambda key: (*order, key).index(key))}


def scenario_name(data: Mapping[str, Any]) -> str:
    """What the files of a scenario are called: as its loss in the catalogue.

    Examples
    --------
    >>> scenario_name({"loss": {"name": "river_valley"}}), scenario_name({"loss": {"formula": "x**2/2"}})
    ('river_valley', 'custom')
    """
    return str(data["loss"]["name"]) if "formula" not in data["loss"] else CUSTOM


def read_settings(texts: Iterable[str]) -> dict[str, Any]:
    """The values of ``--set`` by dotted key; of one key the last.

    Raises
    ------
    InputError
        For anything but KEY=VALUE.

    Examples
    --------
    >>> read_settings(["run.steps=5e3", "loss.noise=laplace"])
    {'run.steps': 5000.0, 'loss.noise': 'laplace'}
    """
    values = {}
    for text in texts:
        key, equals, value = text.partition("=")
        if not equals or not key.strip():
            raise InputError(f"--set {text!r}: expected KEY=VALUE, e.g. run.steps=5000")
        values[key.strip()] = toml.parse_value(value.strip())
    return values


def in_options(problem: str) -> str:
    """A problem of a scenario, its keys called by the options that set them.

    Examples
    --------
    >>> in_options("loss.parameters.w: unknown distribution 'normla'")
    "--parameter w: unknown distribution 'normla'"
    """

    def replace(match: re.Match[str]) -> str:
        indent, key, _, name = match.groups()
        if key not in _OPTIONS:
            return match[0]
        return f"{indent}{_OPTIONS[key]}" + ("" if name is None else f" {name}")

    return _KEY.sub(replace, problem)


def _read(key: str, reader: Callable[[], Any]) -> tuple[str, Any]:
    return key, reader()


def _merged(under: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    """Tables within tables; where both have a value, that of `over`."""
    merged = dict(over)
    for key, value in under.items():
        if isinstance(value, Mapping) and isinstance(over.get(key), Mapping):
            merged[key] = _merged(value, over[key])
        else:
            merged.setdefault(key, value)
    return merged


def _check_complete(scenario: Mapping[str, Any]) -> None:
    """Refuse what lacks something that has no default."""
    run, optimizer, sweep = (scenario.get(name, {}) for name in ("run", "optimizer", "sweep"))
    missing = []
    if "learning_rate" not in optimizer and not _swept(sweep, "learning_rate"):
        missing.append("--learning-rate: is missing, expected a number or a schedule such as cosine:0.1,0.001")
    if "trajectories" not in run and "from" not in run:
        missing.append("--trajectories: is missing, expected a whole number such as 1e6")
    if "steps" not in run:
        missing.append("--steps: is missing, expected a whole number such as 1e4")
    if missing:
        raise InputError("\n".join(missing))


def _swept(table: Any, key: str) -> bool:
    """Whether a sweep has the key, in quotes or in tables."""
    if not isinstance(table, Mapping):
        return False
    return any(name.split(".")[-1] == key or _swept(value, key) for name, value in table.items())


# Numbers and texts.


def _number(text: str) -> float | None:
    """A finite number, an int if it is written as one, or None."""
    text = text.strip()
    if len(text) > _LONGEST_NUMBER or not _NUMBER.fullmatch(text):
        return None
    number = int(text) if _INTEGER.fullmatch(text) else float(text)
    return number if isinstance(number, int) or isfinite(number) else None


def _whole(text: str) -> int | None:
    number = _number(text)
    return None if number is None or number != int(number) else int(number)


def _value(text: str) -> float | str:
    number = _number(text)
    return text.strip() if number is None else number


def _numbers(text: str) -> list[float] | None:
    numbers = [number for number in map(_number, text.split(",")) if number is not None]
    return numbers if len(numbers) == text.count(",") + 1 else None


def _refusal(option: str, text: str, expected: str) -> InputError:
    return InputError(f"{option} {text!r}: expected {expected}")


def _repeated(option: str, text: str, name: str) -> InputError:
    return InputError(f"{option} {text!r}: {name} is given already, expected it once")


def _text(option: str, text: str | None, expected: str) -> str | None:
    if text is not None and not text.strip():
        raise _refusal(option, text, expected)
    return text if text is None else text.strip()


def _text_or_number(option: str, text: str | None) -> float | str | None:
    kinds = {"--learning-rate": "cosine:0.1,0.001", "--weight-decay": "0.01:decoupled"}
    text = _text(option, text, f"a number, or a text such as {kinds[option]}")
    return None if text is None else _value(text)


# NAME=VALUE, NAME:a,b,c and the like.


def _named(
    option: str,
    texts: Sequence[str],
    separator: str,
    usage: str,
    read: Callable[[str, int], Any],
    *,
    name: Callable[[str, str], object] = parameter_name,
    joint: bool = False,
    overlapping: bool = False,
) -> dict[str, Any]:
    """What texts say of names; `read` gets the rest and the number of names, and gives None for what it cannot.

    Names may stand together where they are `joint`, and each in several texts where these are `overlapping`.
    """
    found: dict[str, Any] = {}
    taken: set[str] = set()
    for text in texts:
        left, separated, rest = (part.strip() for part in text.partition(separator))
        names = [one.strip() for one in left.split(",")]
        if not separated or not rest or not all(names) or (len(names) > 1 and not joint):
            raise _refusal(option, text, usage)
        for one in names:
            name(one, f"{option} {text!r}")
        value = read(rest, len(names))
        if value is None:
            raise _refusal(option, text, usage)
        for one in [",".join(names)] if overlapping else names:
            if one in taken:
                raise _repeated(option, text, one)
            taken.add(one)
        found[",".join(names)] = value
    return found


def _starts(texts: Sequence[str]) -> dict[str, Any]:
    usage = "NAME=VALUE with a number or a distribution, e.g. u=1.5 or w=normal:0,0.3, or u,w=level:CHARGE,PRODUCT"

    def read(rest: str, names: int) -> float | str | None:
        return _value(rest) if names == 1 or rest.startswith("level:") else None

    return _named("--parameter", texts, "=", usage, read, joint=True)


def _constants(texts: Sequence[str]) -> dict[str, Any]:
    return _named("--constant", texts, "=", "NAME=NUMBER, e.g. a=1", lambda rest, _: _number(rest))


def _noise(texts: Sequence[str], catalogued: bool) -> dict[str, Any] | list[str] | str:
    plain = [text.strip() for text in texts]
    if catalogued and texts and all(text and "=" not in text for text in plain):
        return plain if len(plain) > 1 else plain[0]
    usage = "NAME=DISTRIBUTION, e.g. x=normal:0,0.5 or p,q=normal:1,0.5;0.5,1"
    return _named("--noise", texts, "=", usage, lambda rest, _: None if _number(rest) is not None else rest, joint=True)


def _definitions(texts: Sequence[str]) -> dict[str, Any]:
    def read(text: str, rest: str, _: int) -> str:
        return Formula.parse(rest, where=f"--define {text!r}").text

    usage, found = "'NAME = FORMULA', e.g. 'y = 0.8*x + e'", dict[str, Any]()
    for text in texts:
        one = _named("--define", [text], "=", usage, partial(read, text), name=check_name)
        for name in one.keys() & found.keys():
            raise _repeated("--define", text, name)
        found |= one
    return found


def _observables(texts: Sequence[str]) -> dict[str, Any]:
    usage = "'NAME = FORMULA', e.g. 'q = u**2 - w**2'"
    return _named("--observable", texts, "=", usage, lambda rest, _: rest, name=check_name)


def _histograms(texts: Sequence[str]) -> dict[str, Any]:
    def read(rest: str, names: int) -> list[float] | None:
        numbers = _numbers(rest)
        return numbers if numbers is not None and names <= 2 and len(numbers) == 3 * names else None

    usage = "NAME:LOW,HIGH,BINS, e.g. q:-4,4,200, or of two u,w:-4,4,50,-2,2,50"
    return _named("--histogram", texts, ":", usage, read, joint=True, overlapping=True)


def _autocorrelations(texts: Sequence[str]) -> dict[str, Any]:
    def read(rest: str, _: int) -> dict[str, Any] | None:
        start, colon, lags = rest.partition(":")
        steps = [_whole(step) for step in (start, *lags.split(","))]
        return {"from": steps[0], "lags": steps[1:]} if colon and None not in steps else None

    return _named("--autocorrelation", texts, ":", "NAME:FROM:LAG,LAG,… in steps, e.g. x:1000:1,10,100", read)


def _drifts(texts: Sequence[str]) -> dict[str, Any]:
    usage = "NAME:LOW,HIGH,BINS, or of bins of another NAME|OTHER:LOW,HIGH,BINS, e.g. q|x:-4,4,80"
    found: dict[str, Any] = {}
    for text in texts:
        left, colon, rest = (part.strip() for part in text.partition(":"))
        name, bar, by = (part.strip() for part in left.partition("|"))
        bins = _numbers(rest)
        if not colon or not name or bool(bar) != bool(by) or bins is None or len(bins) != 3:
            raise _refusal("--drift", text, usage)
        for one in (name, by or name):
            parameter_name(one, f"--drift {text!r}")
        if name in found:
            raise _repeated("--drift", text, name)
        found[name] = {"by": by or name, "bins": bins}
    return found


def _sweeps(texts: Sequence[str]) -> dict[str, Any]:
    def read(rest: str, _: int) -> list[Any] | None:
        if rest.startswith("["):  # for texts with commas
            values = toml.parse_value(rest)
            return values if isinstance(values, list) and values else None
        parts = [part.strip() for part in rest.split(",")]
        return [_value(part) for part in parts] if all(parts) else None

    def name(key: str, where: str) -> None:
        try:
            toml.split_key(key)
        except InputError as error:
            raise InputError(f"{where}: {error}") from None

    usage = "KEY=VALUE,VALUE,…, e.g. optimizer.learning_rate=0.1,0.05"
    return _named("--sweep", texts, "=", usage, read, name=name)


# The others.


def _optimizer(text: str | None, momentum: str | None) -> dict[str, Any]:
    usage = "NAME, or NAME:KEY=VALUE,KEY=VALUE, e.g. adam:beta1=0.9,epsilon=0"
    section: dict[str, Any] = {}
    if text is not None:
        name, colon, rest = (part.strip() for part in text.partition(":"))
        if not name.isidentifier() or bool(colon) != bool(rest):
            raise _refusal("--optimizer", text, usage)
        section["name"] = name
        for part in rest.split(",") if rest else []:
            key, equals, value = (piece.strip() for piece in part.partition("="))
            if not key.isidentifier() or not equals or not value:
                raise _refusal("--optimizer", text, usage)
            if key in section:
                raise _repeated("--optimizer", text, key)
            section[key] = _value(value)
    if momentum is not None:
        number = _number(momentum)
        if number is None:
            raise _refusal("--momentum", momentum, "a number, e.g. 0.9")
        if "momentum" in section:
            raise _repeated("--momentum", momentum, "momentum")
        if section.get("name", "sgd") == "sgd":
            section["name"] = "momentum"
        section["momentum"] = number
    return section


def _snapshots(texts: Sequence[str]) -> list[int | str]:
    found: list[int | str] = []
    for text in texts:
        step = "final" if text.strip() == "final" else _whole(text)
        if step is None:
            raise _refusal("--snapshot", text, "a step, or final")
        if step in found:
            raise _repeated("--snapshot", text, text.strip())
        found.append(step)
    return found


def _quantiles(texts: Sequence[str]) -> list[float]:
    found: list[float] = []
    for text in texts:
        number = _number(text)
        if number is None or not 0 < number < 1:
            raise _refusal("--quantile", text, "a number between 0 and 1, e.g. 0.05")
        if number in found:
            raise _repeated("--quantile", text, text.strip())
        found.append(number)
    return found


def _predictions(texts: Sequence[str], automatic: bool) -> list[dict[str, str]]:
    return [{"formula": text} for text in texts] + [{"id": id} for id in theory.AUTOMATIC if automatic]
