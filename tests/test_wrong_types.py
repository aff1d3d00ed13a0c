"""Whatever a public function or class is given, it works or says which argument is wrong, and never anything else.

The arguments are found by introspection, so that a new public function is tried as soon as it is there; one that has
arguments without defaults must be added to `EXAMPLES` with values that work.
"""

import datetime
import inspect
import itertools
import re
import signal
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import sgdsim
from sgdsim.app.verdicts import Report
from sgdsim.input.builders import Claim
from sgdsim.model.losses import CATALOGUE
from sgdsim.prediction import Moment
from sgdsim.theory import LAWS

LONGEST = 120  # seconds on the wall, of a loaded machine too, before a call is taken for one that never ends

WRONG: dict[str, Callable[[], Any]] = {
    "None": lambda: None,
    "True": lambda: True,
    "1.5": lambda: 1.5,
    "-1": lambda: -1,
    "0": lambda: 0,
    "nan": lambda: float("nan"),
    "inf": lambda: float("inf"),
    "huge": lambda: 10**30,
    "beyond floats": lambda: 10**400,
    "more digits than Python writes": lambda: 10**5000,
    "complex": lambda: 1j,
    "empty text": lambda: "",
    "text": lambda: "abc",
    "a colon": lambda: "abc:1,x",
    "lone surrogate": lambda: "\ud800",
    "NUL": lambda: "a\0b",
    "bytes": lambda: b"x",
    "list": list,
    "tuple of None": lambda: (None,),
    "numbers": lambda: [1, 2.5],
    "texts": lambda: ["abc", ""],
    "nested": lambda: [[["x"]]],
    "dict": dict,
    "dict of None": lambda: {"x": None},
    "dict of objects": lambda: {"x": object(), "y": "\ud800"},
    "dict of numbers": lambda: {1: 2},
    "set": lambda: {1, "a"},
    "generator": lambda: (n for n in [1, 2]),
    "endless": itertools.count,
    "object": object,
    "class": lambda: int,
    "lambda": lambda: lambda *_: None,
    "array of no axis": lambda: np.array(1.5),
    "array": lambda: np.array([1.0, 2.0]),
    "empty array": lambda: np.empty((0, 3)),
    "matrix": lambda: np.eye(2),
    "cube": lambda: np.zeros((2, 2, 2)),
    "array of objects": lambda: np.array([None, object()]),
    "array of texts": lambda: np.array(["a", "b"]),
    "array of complex numbers": lambda: np.array([1j]),
    "path": lambda: Path("no-such-file"),
    "date": lambda: datetime.datetime(2020, 1, 1),
}


OF_THE_HOUSE = {
    f"{owner}.{method}"
    for owner, methods in {
        "Data": "draw moment row",
        "Grid": "moment over values",
        "Loss": "charge directions expand expand_step expectation memory_starts quantities_for reach remembered "
        "states_in drawn_in",
        "Noise": "draw",
        "Observable": "is_of_step written_out",
        "Optimizer": "point steps steps_whole",
        "Prediction": "nearest",
        "Recorder": "merge pairs record_steps written_out",
        "Report": "screen",
        "Scenario": "of recording",
        "Symmetry": "charge directions neighbours written_out",
        "Variable": "at rows",
    }.items()
    for method in methods.split()
}
"""Methods that the house calls, with what it has made itself; every other method is tried."""


@dataclass
class Target:
    """A public callable, with arguments that work."""

    name: str
    call: Callable[..., Any]

    @property
    def arguments(self) -> list[str]:
        """Names of all that it takes, but ``where``, which only stands in messages."""
        return [one.name for one in self._parameters if one.name != "where"]

    @property
    def missing(self) -> list[str]:
        """Arguments without a default for which there is no example."""
        return [one.name for one in self._parameters if one.default is one.empty and one.name not in self.example]

    @property
    def example(self) -> dict[str, Any]:
        """Arguments that work."""
        return EXAMPLES[self.name]() if self.name in EXAMPLES else {}

    @property
    def _parameters(self) -> list[inspect.Parameter]:
        named = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
        return [one for one in inspect.signature(self.call).parameters.values() if one.kind in named]


def targets() -> Iterator[Target]:
    """Everything public: functions, constructors and methods."""
    named = {name: getattr(sgdsim, name) for name in sgdsim.__all__}
    named |= {f"losses.{name}": family for name, family in CATALOGUE.items()}
    named |= {one.__name__: one for one in (Claim, Moment, Report)}
    named["simulate of a formula"] = sgdsim.simulate
    for name, one in named.items():
        if inspect.isclass(one) and not issubclass(one, Exception):
            yield Target(name, one)
            for key, what in vars(one).items():
                if not key.startswith("_") and f"{name}.{key}" not in OF_THE_HOUSE:
                    if isinstance(what, classmethod):
                        yield Target(f"{name}.{key}", getattr(one, key))
                    elif inspect.isfunction(what) and len(inspect.signature(what).parameters) > 1:
                        yield Target(f"{name}.{key}", getattr(INSTANCES[name](), key))
        elif callable(one) and not inspect.isclass(one):
            yield Target(name, one)


def _loss() -> sgdsim.Loss:
    return sgdsim.Loss("a*x**2/2 + s*z*x", ("x",), {"a": 1.0, "s": 1.0}, {"z": sgdsim.Noise.parse("normal")})


def _run() -> sgdsim.Run:
    return sgdsim.Run(_loss(), sgdsim.Optimizer(), sgdsim.Schedule("0.1"), {"x": 0.0}, 8, 4)


@cache
def _ensemble() -> sgdsim.Ensemble:
    return sgdsim.simulate(
        "a*x**2/2 + s*z*x + b*x",
        constants={"a": 1.0, "s": 1.0, "b": "normal"},
        noise={"z": "normal"},
        learning_rate=[0.1, 0.2],
        initial={"x": 0.0},
        trajectories=8,
        steps=4,
        snapshots=["final"],
        device="python",
    )


@cache
def _scenario() -> sgdsim.Scenario:
    return sgdsim.load_scenario("river_valley", {"run.trajectories": 8, "run.steps": 4})


INSTANCES: dict[str, Callable[[], Any]] = {
    "Ensemble": _ensemble,
    "Loss": _loss,
    "Noise": lambda: sgdsim.Noise.parse("normal"),
    "Optimizer": sgdsim.Optimizer,
    "Report": lambda: Report("run.h5", "a", (), (), 0.001),
    "Schedule": lambda: sgdsim.Schedule("0.1"),
}

EXAMPLES: dict[str, Callable[[], dict[str, Any]]] = {
    "Autocorrelation": lambda: {"start": 1, "lags": (1, 2)},
    "Claim": lambda: {"source": LAWS["valley"]},
    "Data": lambda: {"columns": {"x": (1.0, 2.0)}},
    "Drift": lambda: {"by": "x", "bins": sgdsim.Histogram(0.0, 1.0, 4)},
    "Ensemble": lambda: {"variables": {}, "attributes": {}},
    "Ensemble.compare": lambda: {"predictions": ["mean(x) = 0"]},
    "Ensemble.drawn": lambda: {"name": "b"},
    "Ensemble.mean": lambda: {"name": "x"},
    "Ensemble.parameter": lambda: {"name": "x"},
    "Ensemble.open": lambda: {"path": "run.h5"},
    "Ensemble.save": lambda: {"path": "saved.h5", "overwrite": True},
    "Ensemble.select": lambda: {"point": 1},
    "Ensemble.statistic": lambda: {"kind": "mean", "name": "x"},
    "Ensemble.variance": lambda: {"name": "x"},
    "Grid": lambda: {"low": 0.0, "high": 1.0, "points": 3},
    "Grid.parse": lambda: {"text": "grid:0,1"},
    "Histogram": lambda: {"low": 0.0, "high": 1.0, "bins": 4},
    "Loss": lambda: {"formula": "x**2/2", "parameters": ("x",)},
    "Loss.quantity": lambda: {"name": "hessian_trace"},
    "State": lambda: {"formula": "x"},
    "State.parse": lambda: {"text": "x; start=1"},
    "Moment": lambda: {"statistic": "mean", "observable": "x", "step": 4},
    "Noise": lambda: {"family": "normal", "arguments": (0.0, 1.0)},
    "Noise.cumulant": lambda: {"order": 4},
    "Noise.exact_moment": lambda: {"order": 4},
    "Noise.moment": lambda: {"order": 4},
    "Noise.parse": lambda: {"text": "normal"},
    "Observable": lambda: {"name": "r", "formula": "x**2"},
    "Observable.parse": lambda: {"name": "r", "text": "x**2"},
    "Optimizer.matrix": lambda: {"loss": _loss()},
    "Optimizer.step_matrix": lambda: {"curvature": 1.0, "learning_rate": 0.1},
    "Plane": lambda: dict.fromkeys(("first", "second"), sgdsim.Histogram(0.0, 1.0, 4)),
    "Prediction": lambda: {"id": "a", "quantity": "q", "measure": Moment("mean", "x", 4), "predicted": 1.0},
    "Report": lambda: {"file": "run.h5", "scenario": "a", "comparisons": (), "skipped": (), "alpha": 0.001},
    "Run": lambda: {
        "loss": _loss(),
        "optimizer": sgdsim.Optimizer(),
        "schedule": sgdsim.Schedule("0.1"),
        "initial": {"x": 0.0},
        "trajectories": 8,
        "steps": 4,
    },
    "Scenario": lambda: {"name": "a", "data": {}, "runs": (_run(),), "sweep": {}},
    "Scenario.load": lambda: {"source": "river_valley"},
    "Scenario.load_parts": lambda: {"source": "river_valley"},
    "Scenario.parse": lambda: {"text": _scenario().toml, "where": "the text"},
    "Scenario.parse_parts": lambda: {"text": _scenario().toml, "where": "the text"},
    "Schedule": lambda: {"text": "0.1"},
    "Schedule.rates": lambda: {"steps": 4},
    "Schedule.steps_in": lambda: {"time": 1.0},
    "Schedule.times": lambda: {"steps": 4},
    "Symmetry": lambda: {"name": "rescale", "generator": {"u": "u", "w": "-w"}},
    "Symmetry.linear": lambda: {"name": "turn", "parameters": ("u", "v"), "matrix": [[0, -1], [1, 0]]},
    "Symmetry.parse": lambda: {"text": "sign:u"},
    "Variable": lambda: {"dimensions": ("x",), "data": [1.0]},
    "compare_file": lambda: {"path": "run.h5"},
    "load_scenario": lambda: {"source": "river_valley"},
    "open_parts": lambda: {"path": "run.h5"},
    "plot_file": lambda: {"path": "run.h5", "overwrite": True},
    "to_datatree": lambda: {"parts": {"part": _ensemble()}},
    "run_scenario": lambda: {"scenario": _scenario(), "path": "again.h5", "device": "python", "overwrite": True},
    "simulate of a formula": lambda: {
        "loss": "x**2/2",
        "noise": {"z": "normal"},
        "learning_rate": 0.1,
        "initial": {"x": 0.0},
        "trajectories": 8,
        "steps": 4,
        "device": "python",
    },
    "simulate": lambda: {
        "loss": _loss(),
        "learning_rate": 0.1,
        "initial": {"x": 0.0},
        "trajectories": 8,
        "steps": 4,
        "device": "python",
    },
}


@contextmanager
def _no_longer_than(seconds: int) -> Iterator[None]:
    def stop(*_: object) -> None:
        raise AssertionError(f"it has not ended after {seconds} s")

    before = signal.signal(signal.SIGALRM, stop)
    signal.alarm(seconds)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


def _texts(value: Any) -> Iterator[str]:
    """The texts that a value is, or that are in it; of such as ``abc:1`` the name."""
    if isinstance(value, str | Path):
        name = str(value).partition(":")[0]
        if not name:
            yield from ("''", "there is no")
            return
        yield from (repr(value)[1:-1], name)
        yield "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in name)
    elif isinstance(value, list | tuple | dict | np.ndarray):
        yield from (text for one in (value.flat if isinstance(value, np.ndarray) else value) for text in _texts(one))


def fault(call: Callable[..., Any], example: dict[str, Any], argument: str, value: Any) -> str:
    """Description of a wrong error of a call with one argument replaced; empty for a right error."""
    try:
        with _no_longer_than(LONGEST), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            call(**{**example, argument: value})
    except sgdsim.InputError as error:
        # Where a text or a name is none of the right ones, the message may show that alone.
        shown = any(re.search(rf"(?<!\w){re.escape(text)}(?!\w)", str(error)) for text in _texts(value))
        return "" if argument in str(error) or shown else f"does not name the argument: {error}"
    except BaseException as error:
        return f"{type(error).__name__}: {error}"
    return ""


@pytest.fixture(autouse=True)
def _in_a_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, file: bytes) -> None:
    monkeypatch.chdir(tmp_path)
    Path("run.h5").write_bytes(file)


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    """The bytes of a run's file."""
    path = tmp_path_factory.mktemp("run") / "run.h5"
    sgdsim.run_scenario(_scenario(), path, device="python")
    return path.read_bytes()


TARGETS = list(targets())
SLOW = {"plot_file", "run_scenario", "simulate", "simulate of a formula", "Ensemble.open"}
"""Where a value is right, these draw, simulate or read: every day they are given every fifth value, in turn."""
SLOWEST = {"Ensemble.plot"}
"""What it draws, ``plot_file`` draws too."""


@pytest.mark.parametrize(
    ("target", "every"),
    [
        *(pytest.param(one, 8 if one.name in SLOW else 1, id=one.name) for one in TARGETS if one.name not in SLOWEST),
        *(
            pytest.param(one, 1, id=f"{one.name}, every value", marks=pytest.mark.validate)
            for one in TARGETS
            if one.name in SLOW | SLOWEST
        ),
    ],
)
def test_wrong_values_are_refused_by_the_name_of_the_argument(target: Target, every: int) -> None:
    assert not target.missing, f"give EXAMPLES[{target.name!r}] values of {target.missing} that work"
    target.call(**target.example)  # so that what is refused is refused for the wrong value
    faults = {
        f"{argument} = {name}": problem
        for place, argument in enumerate(target.arguments)
        for name, made in list(WRONG.items())[place % every :: every]
        if (problem := fault(target.call, target.example, argument, made()))
    }
    assert not faults, "\n".join(f"{target.name}: {where}: {problem}" for where, problem in faults.items())


FLAT = st.sampled_from(list(WRONG)).map(lambda name: WRONG[name]())
NESTED = st.recursive(
    FLAT,
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["x", "u", "", "a b"]), inner, max_size=2)
    ),
    max_leaves=4,
)
"""Wrong values, and lists and tables of them."""

RUNS = {"run_scenario", "plot_file", "compare_file", "Ensemble.plot", "Ensemble.compare"}
RUNS |= {"simulate", "simulate of a formula"}
"""Of what the test above tries alone: it takes long where a value is right."""


@pytest.mark.validate
@settings(derandomize=True, max_examples=600, deadline=None, suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_wrong_values_within_lists_and_tables_are_refused_likewise(data):
    target = data.draw(st.sampled_from([target for target in TARGETS if target.name not in RUNS and target.arguments]))
    argument = data.draw(st.sampled_from(target.arguments))
    value = data.draw(NESTED)
    problem = fault(target.call, target.example, argument, value)
    assert not problem or "does not name" in problem, f"{target.name}: {argument} = {value!r}: {problem}"


def _forgets(steps: int, name: str = "a") -> range:
    """Checks nothing."""
    return range(steps + len(name))


def _names_another(steps: int) -> None:
    raise sgdsim.InputError("there is something wrong")


def _never_ends(steps: int) -> None:
    while True:
        pass


def test_what_forgets_to_check_is_found(monkeypatch):
    """Negative controls: a test that finds nothing in these would find nothing anywhere."""
    assert fault(_forgets, {"steps": 1}, "steps", None).startswith("TypeError")
    assert fault(_forgets, {"steps": 1}, "name", 1.5).startswith("TypeError")
    assert fault(_forgets, {"steps": 1}, "steps", 2) == ""
    assert "does not name the argument" in fault(_names_another, {}, "steps", None)
    monkeypatch.setattr("tests.test_wrong_types.LONGEST", 1)
    assert "has not ended" in fault(_never_ends, {}, "steps", None)


def test_every_public_name_is_tried():
    """A new one is there by itself, and its example is asked for."""
    names = {target.name.partition(".")[0] for target in TARGETS}
    assert {name for name in sgdsim.__all__ if name not in names} == {
        *("InputError", "RunError", "SgdsimError", "__version__")
    }
    assert Target("new", _forgets).missing == ["steps"]


def test_numbers_of_numpy_are_numbers():
    """Counts, seeds, constants, starts, rates and types: a run records of them what it records of plain ones."""
    common = {"observables": {"r": "x**2"}, "device": "python"}
    constants = {"a": np.float32(1.0), "s": np.int64(1)}
    loss = sgdsim.Loss("a*x**2/2 + s*z*x", ("x",), constants, {"z": sgdsim.Noise.parse("normal")})
    ours = sgdsim.simulate(
        loss,
        learning_rate=np.float64(0.5),
        initial={"x": np.int32(1)},
        trajectories=np.int64(8),
        steps=np.float64(4.0),
        seed=np.uint64(2**64 - 1),
        every=np.int8(2),
        snapshots=["final", np.int64(2)],
        quantiles=np.array([0.5]),
        histograms={"x": np.array([-1.0, 1.0, 4.0])},
        dtype=np.float32,
        noise_dtype=np.dtype("float64"),
        antithetic=np.bool_(True),
        threads=np.int64(1),
        **common,
    )
    plain = sgdsim.simulate(
        sgdsim.Loss("a*x**2/2 + s*z*x", ("x",), {"a": 1.0, "s": 1}, {"z": sgdsim.Noise.parse("normal")}),
        learning_rate=0.5,
        initial={"x": 1},
        trajectories=8,
        steps=4,
        seed=2**64 - 1,
        every=2,
        snapshots=[2, 4],
        quantiles=[0.5],
        histograms={"x": [-1.0, 1.0, 4]},
        dtype="float32",
        noise_dtype="float64",
        antithetic=True,
        **common,
    )
    assert ours.digest() == plain.digest()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"initial": {"x": None}}, r"initial\.x: None, expected a finite number, a Noise, a Grid"),
        ({"learning_rate": None}, "learning_rate: None, expected a finite number, or a schedule such as"),
        (
            {"learning_rate": np.ones((30, 2))},
            r"learning_rate: array\(\[\[1\., 1\.\], \[1\., [^\n]* …, expected a finite",
        ),
        ({"learning_rate": True}, "learning_rate: True, expected a finite number"),
        ({"every": 1.5}, r"record\.every: 1\.5, expected a whole number"),
        ({"threads": 1.5}, "threads: 1.5, expected a whole number"),
        ({"snapshots": ["last"]}, "snapshots: 'last', expected a whole number"),
        ({"dtype": int}, "run.dtype: <class 'int'>, expected text"),
        ({"dtype": np.floating}, "run.dtype: <class 'numpy.floating'>, expected one type, such as np.float32"),
        ({"optimizer": None, "progress": 1}, "progress: 1, expected True or False"),
    ],
)
def test_wrong_types_of_a_run(arguments, message):
    with pytest.raises(sgdsim.InputError, match=message):
        sgdsim.simulate(**{**EXAMPLES["simulate"](), **arguments})
