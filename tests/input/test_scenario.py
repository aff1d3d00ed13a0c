"""Scenarios: what is read is what runs, every problem at once, and the resolved text gives the same runs again."""

from __future__ import annotations

import copy
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sgdsim.base import toml
from sgdsim.base.errors import InputError
from sgdsim.input.builders import build_loss
from sgdsim.input.scenario import Scenario, shipped
from sgdsim.model.losses import CATALOGUE
from sgdsim.model.noise import Noise
from sgdsim.model.observables import Observable
from sgdsim.model.recorder import Histogram, Recorder
from tests.samples import daily

VALLEY: dict[str, Any] = {
    "loss": {
        "name": "river_valley",
        "a": "a0",
        "c": "c2*y**2/2",
        "constants": {"a0": 1.0, "c2": 0.1, "sigma": 1.0},
    },
    "optimizer": {"learning_rate": 0.1},
    "run": {"trajectories": 100, "steps": 8, "initial": {"x": 0.0, "y": 1.0}},
}
OWN: dict[str, Any] = {
    "loss": {
        "formula": "(u*w*x - y)**2/2",
        "parameters": {"u": 1.5, "w": "normal:0,0.3"},
        "constants": {"s": 0.5},
        "noise": {"x": "normal", "e": "laplace"},
        "define": {"y": "0.8*x + s*e"},
    },
    "optimizer": {"name": "momentum", "learning_rate": "cosine:0.1,0.01", "momentum": 0.5, "batch_size": 4},
    "run": {"trajectories": 1e6, "steps": 1e3, "seed": 2**64 - 1, "dtype": "float32", "noise_dtype": "float64"},
    "record": {
        "every": 100,
        "snapshots": ["final", 0, 500],
        "observables": {"v": "u*w", "vbar": "window_mean(u*w, 500, 1000)"},
        "histograms": {"v": [-1, 1, 20]},
    },
}


def parse(data: dict[str, Any], overrides: dict[str, Any] | None = None, predictions: tuple[str, ...] = ()) -> Scenario:
    return Scenario.parse(toml.dumps(data), "some", "some.toml", overrides, predictions)


def problems(data: dict[str, Any], overrides: dict[str, Any] | None = None) -> str:
    with pytest.raises(InputError) as refused:
        parse(data, overrides)
    message = str(refused.value)
    assert message.startswith("some.toml:\n  ")
    return message


def test_everything_that_is_said_is_in_the_run():
    (run,) = parse(OWN).runs
    assert (run.trajectories, run.steps, run.seed, run.dtype, run.noise_dtype) == (
        *(10**6, 1000, 2**64 - 1),
        *("float32", "float64"),
    )
    assert run.loss.parameters == ("u", "w")
    assert run.loss.noise == {"x": Noise("normal", (0.0, 1.0)), "e": Noise("laplace", (0.0, 1.0))}
    assert run.initial == {"u": 1.5, "w": Noise("normal", (0.0, 0.3))}
    assert run.optimizer.values == {"weight_decay": 0.0, "decoupled_weight_decay": 0.0, "momentum": 0.5}
    assert (run.optimizer.batch_size, run.schedule.text) == (4, "cosine:0.1,0.01")
    assert run.recorder == Recorder(
        100,
        (0, 500, 1000),
        (Observable("v", "u*w"), Observable("vbar", "u*w", (500, 1000))),
        {"v": Histogram(-1, 1, 20)},
    )


def test_defaults():
    scenario = parse(VALLEY)
    (run,) = scenario.runs
    assert (run.seed, run.dtype, run.noise_dtype, run.recorder) == (0, "float64", "float32", Recorder())
    assert (scenario.name, scenario.sweep, scenario.claims, scenario.common_noise) == ("some", {}, (), False)
    assert scenario.data["alpha"] == 1e-3


@pytest.mark.parametrize("name", daily(shipped(), "river_valley", *list(shipped())[::5]))
def test_a_shipped_scenario_is_read_by_its_name(name):
    for scenario in Scenario.load_parts(name, {"run.trajectories": 4000}):
        assert (scenario.name, scenario.runs[0].trajectories) == (name, 4000)
        assert Scenario.parse(scenario.toml).runs == scenario.runs


def test_final_snapshots_follow_the_steps():
    assert Scenario.load("river_valley", {"run.steps": 77}).runs[0].recorder.snapshots == (77,)


def test_overrides():
    scenario = parse(
        VALLEY,
        {
            "run.steps": 1e2,
            "run.initial.x": "normal:0,2",
            'record.histograms."y"': [0, 1, 4],
            "loss.constants.a0": 3,
            "title": "again",
        },
    )
    (run,) = scenario.runs
    assert (run.steps, run.initial["x"], run.loss.constants["a0"]) == (100, Noise("normal", (0.0, 2.0)), 3.0)
    assert run.recorder.histograms == {"y": Histogram(0, 1, 4)}
    assert scenario.data["title"] == "again"


@pytest.mark.parametrize("seed", [0, 2**53 + 1, 2**63, 2**64 - 1])
def test_seeds_survive_exactly(seed):
    scenario = parse(VALLEY, {"run.seed": seed})
    assert scenario.runs[0].seed == Scenario.parse(scenario.toml).runs[0].seed == seed


@pytest.mark.parametrize("steps", [1000, 1e3])
def test_counts_may_be_floats(steps):
    count = parse(VALLEY, {"run.steps": steps}).runs[0].steps
    assert (count, type(count)) == (1000, int)


@pytest.mark.parametrize("one", ["1.5", 1.5])
@pytest.mark.parametrize("data", [VALLEY, OWN], ids=["catalogue", "own"])
def test_a_number_is_a_formula_wherever_one_is_taken(data, one):
    """In the catalogue's arguments, definitions, observables."""
    changed = copy.deepcopy(data)
    changed["record"] = {"observables": {"one": one}}
    if data is VALLEY:
        changed["loss"] |= {"a": [one, 2], "c": one}
        changed["run"]["initial"] = {"x": 0.0, "y": 1.0}
        loss = parse(changed).runs[0].loss
        assert loss.definitions == {"c": "1.5", "a": ("1.5", "2")}
    else:
        changed["loss"]["define"] = {"b": one, "c": [one, 2], "y": "b*x + sum(c)*s*e"}
        loss = parse(changed).runs[0].loss
        assert loss.definitions == {"b": "1.5", "c": ("1.5", "2"), "y": "b*x + sum(c)*s*e"}
    assert parse(changed).runs[0].recorder.observables == (Observable("one", "1.5"),)


def test_a_vector_starts_as_a_whole_or_by_coordinate():
    data = copy.deepcopy(VALLEY)
    data["loss"]["a"] = ["1", "2", "3"]
    data["run"]["initial"] = {"x[1]": 5.0, "x": 1, "y": 0}
    assert parse(data).runs[0].initial == {"x[0]": 1.0, "x[1]": 5.0, "x[2]": 1.0, "y": 0.0}
    assert parse(data, {"run.initial.x[0]": 9}).runs[0].initial["x[0]"] == 9.0


@pytest.mark.parametrize("parameters", [{"w[2]": 0.5}, {"w[0]": 0.5, "w[1]": 0.5}])
def test_a_vector_is_declared_as_a_whole_or_by_coordinate(parameters):
    loss = {"formula": "sum((w - z)**2)", "parameters": parameters, "noise": {"z[2]": "normal"}}
    run = parse({**VALLEY, "loss": loss, "run": {"trajectories": 1, "steps": 1}}).runs[0]
    assert run.initial == {"w[0]": 0.5, "w[1]": 0.5}
    assert list(run.loss.noise) == ["z[0]", "z[1]"]


def test_a_run_described_is_the_same_run():
    """What `simulate` writes for its file."""
    data = copy.deepcopy(OWN)
    data["loss"] = {
        "formula": "dot(w, w)*q/2 + sum(z*w)",
        "parameters": {"w[3]": "uniform:0,1", "q": 0.5},
        "noise": {"z[3]": "rademacher"},
        "symmetry": [],
    }
    data["record"] = {"histograms": {"w[1]": [0, 1, 3]}}
    (run,) = parse(data).runs
    assert parse(run.describe()).runs[0].describe() == run.describe()


def test_names_are_what_formulas_take_them_for():
    """Python's grammar takes the micro sign for the Greek mu, and the phi of one font for that of another."""
    data = copy.deepcopy(OWN)
    data["loss"] |= {"formula": "\u00b5*\u03d5**2 + x*e*\u03c6", "parameters": {"\u03d5": 1.0}, "define": {}}
    data["loss"]["constants"] = {"\u00b5": 2.0}
    data["record"] = {"histograms": {"\u03d5": [0, 1, 2]}}
    (run,) = parse(data, {"run.initial.\u03d5": 3.0}).runs
    assert (run.loss.parameters, run.loss.constants, run.initial) == (("\u03c6",), {"\u03bc": 2.0}, {"\u03c6": 3.0})


def test_a_symmetry_is_read():
    data = copy.deepcopy(OWN)
    data["loss"]["symmetry"] = [{"name": "rescale", "generator": {"u": "u", "w": "-w"}}]
    (symmetry,) = parse(data).runs[0].loss.symmetries
    assert (symmetry.name, symmetry.generator) == ("rescale", {"u": "u", "w": "-w"})


# Sweeps.


def swept(sweep: dict[str, Any]) -> dict[str, Any]:
    return {**VALLEY, "sweep": sweep}


def test_lists_are_paired_and_grids_multiplied():
    data = swept(
        {
            "optimizer.learning_rate": [0.1, 0.2],
            "loss.constants.a0": [1, 2],
            "grid": {"run.initial.x": [0.0, 5.0, 6.0]},
        }
    )
    scenario = parse(data)
    assert scenario.sweep == {
        "optimizer.learning_rate": (0.1, 0.1, 0.1, 0.2, 0.2, 0.2),
        "loss.constants.a0": (1, 1, 1, 2, 2, 2),
        "run.initial.x": (0.0, 5.0, 6.0, 0.0, 5.0, 6.0),
    }
    points = [(run.schedule.text, run.loss.constants["a0"], run.initial["x"]) for run in scenario.runs]
    assert points == [("0.1", 1, 0), ("0.1", 1, 5), ("0.1", 1, 6), ("0.2", 2, 0), ("0.2", 2, 5), ("0.2", 2, 6)]
    assert Scenario.parse(scenario.toml).runs == scenario.runs


def test_dots_make_the_same_key_with_and_without_quotes():
    quoted = parse(swept({"optimizer.learning_rate": [0.1, 0.2], "common_noise": True}))
    bare = parse(swept({"optimizer": {"learning_rate": [0.1, 0.2]}, "common_noise": True}))
    assert (quoted.sweep, quoted.runs, quoted.common_noise) == (bare.sweep, bare.runs, True)


def test_what_is_swept_need_not_stand_elsewhere():
    data = swept({"optimizer.learning_rate": [0.1, "cosine:0.1,0.01"]})
    scenario = parse({**data, "optimizer": {}})
    assert [run.schedule.text for run in scenario.runs] == ["0.1", "cosine:0.1,0.01"]
    assert scenario.sweep == {"optimizer.learning_rate": ("0.1", "cosine:0.1,0.01")}  # labels of one type


@pytest.mark.parametrize(
    ("sweep", "problem"),
    [
        (3, "sweep: 3, expected a table"),
        ({"optimizer.learnin_rate": [1]}, "optimizer.learnin_rate: unknown key of sgd 'learnin_rate': did you mean"),
        ({"run.stesp": [1]}, "run.stesp: unknown key 'stesp': did you mean 'steps'?"),
        ({"optimiser.learning_rate": [1]}, "unknown section to sweep 'optimiser': did you mean 'optimizer'?"),
        ({"record.every": [1, 2]}, "unknown section to sweep 'record': known are loss, optimizer, run"),
        ({"optimizer.learning_rate": 0.1}, "sweep.optimizer.learning_rate: 0.1, expected a list of values"),
        ({"optimizer.learning_rate": []}, "sweep.optimizer.learning_rate: [], expected a list of values"),
        ({"loss.a": [["1", "2"]]}, 'sweep.loss.a: ["1", "2"] in the list, expected numbers or texts'),
        ({"optimizer.learning_rate": [True]}, "true in the list, expected numbers or texts"),
        ({"grid": 3}, "sweep.grid: 3, expected a table of lists"),
        ({"common_noise": 1}, "sweep.common_noise: 1, expected true or false"),
        ({"": [1]}, "'' is not a key"),
        ({"run": [1]}, "run: 1, expected a table"),
        ({"run.trajectories": [10, 20]}, "sweep: the points differ in run.trajectories; make a scenario of each"),
        (
            {"optimizer.learning_rate": [0.1, 0.2], "run.seed": [1]},
            "sweep: optimizer.learning_rate has 2, run.seed has 1 values, expected equally many; [sweep.grid]",
        ),
        ({"run.seed": [1], "grid": {"run.seed": [1]}}, "sweep.grid.run.seed: is swept already"),
        (
            {"optimizer.learning_rate": [0.1, -1]},
            "sweep point 1 (optimizer.learning_rate = -1): optimizer.learning_rate: -1, expected a finite positive",
        ),
    ],
)
def test_what_is_no_sweep(sweep, problem):
    assert problem in problems({**VALLEY, "sweep": sweep})


def test_what_is_wrong_at_all_points_is_said_once_and_many_problems_are_cut_short():
    wrong = {**swept({"optimizer.learning_rate": [0.1, 0.2]}), "record": {"evry": 1}}
    assert problems(wrong).count("did you mean 'every'?") == 1
    message = problems(swept({"optimizer.learning_rate": [-1 - n for n in range(50)]}))
    assert len(message.splitlines()) == 32
    assert message.endswith("and 20 more")


# Problems.


def test_all_problems_at_once():
    observables = {"u": "sinn(x)", "q": "windw_mean(x, 0, 4)", "c": "chrge(scale)", "2": "x"}
    message = problems(
        {
            "titel": "typo",
            "loss": {"name": "river_vally"},
            "optimizer": {"learning_rate": -0.1, "momentun": 3, "batch_size": 0},
            "run": {"trajectories": 1.5, "stpes": 8, "seed": -1, "dtype": "float16", "initial": {"x": "normla"}},
            "record": {"evry": 2, "observables": observables, "histograms": {"x": [1, 0, 2]}},
            "predict": [{"id": "NTL-99"}, {}, {"formula": "varance(x) = 1"}, {"formula": "mean(x) = 1", "at": -1}],
            "sweep": {"common_noise": 0},
        }
    )
    for problem in (
        "titel: unknown key 'titel': did you mean 'title'?",
        "loss.name: unknown loss 'river_vally': did you mean 'river_valley'?",
        "optimizer.learning_rate: -0.1, expected a finite positive number, or a schedule",
        "optimizer.momentun: unknown key of sgd 'momentun'",
        "optimizer.batch_size: 0, expected a whole number from 1",
        "run.trajectories: 1.5, expected a whole number from 1",
        "run.stpes: unknown key 'stpes': did you mean 'steps'?",
        "run.seed: -1, expected a whole number of at most 64 bits",
        "run.dtype: unknown dtype 'float16': did you mean 'float64'?",
        "run.initial.x: unknown distribution 'normla': did you mean 'normal'?",
        "record.evry: unknown key 'evry': did you mean 'every'?",
        "record.observables.u: unknown function 'sinn': did you mean 'sin'?",
        "record.observables.q: unknown function 'windw_mean': did you mean 'window_mean'?",
        "record.observables.c: unknown function 'chrge': did you mean 'charge'?",
        "record.observables.2: '2' is not a name",
        "record.histograms.x: [1.0, 0.0, 2.0], expected [low, high, bins], low < high",
        "predict[0].id: unknown law 'NTL-99'",
        "predict[1]: expected the id of a law or a formula",
        "prediction 'varance(x) = 1': unknown statistic 'varance': did you mean 'variance'?",
        "prediction 'mean(x) = 1': at -1, expected final or a recorded step",
        "sweep.common_noise: 0, expected true or false",
    ):
        assert problem in message
    assert "run.steps: is missing" not in message  # it is there, misspelt


def test_all_problems_of_the_parts_with_each_other_at_once():
    data = copy.deepcopy(VALLEY)
    data["run"]["initial"] = {"x": 0.0, "z": 1.0, "q": 1.0}
    data["optimizer"]["learning_rate"] = "0.3 - 0.1*t"
    data["run"]["trajectories"] = 2**41
    data["record"] = {
        "snapshots": [99, 98],
        "observables": {"u": "qq*x", "v": "window_mean(x, 1, 99)", "y": "x", "w": "x"},
        "histograms": {"tt": [0, 1, 2], "w": [0, 1, 2]},
    }
    message = problems(data)
    for problem in (
        "run.trajectories: 2199023255552, expected",
        "optimizer.learning_rate: '0.3 - 0.1*t' is",
        "run.initial.z: unknown parameter 'z': known are x, y",
        "run.initial.q: unknown parameter 'q'",
        "run.initial: no initial value for y",
        "record.snapshots: 99",
        "record.snapshots: 98",
        "record.observables.u: unknown name 'qq'",
        "record.observables.v: the window ends at step 99, the run at 8",
        "record.observables.y: the name is already taken",
        "record.histograms.tt: unknown observable 'tt'",
    ):
        assert problem in message
    assert "histograms.w" not in message


@pytest.mark.parametrize(
    ("key", "value", "problem"),
    [
        ("loss", 3, "loss: 3, expected a table"),
        ("optimizer", [1], "optimizer: [1], expected a table"),
        ("run", "fast", 'run: "fast", expected a table'),
        ("record", 3, "record: 3, expected a table"),
        ("predict", {"id": "valley"}, 'predict: { id = "valley" }, expected a list'),
        ("predict", ["valley"], 'predict[0]: "valley", expected a table'),
        ("title", 3, "title: 3, expected text"),
        ("references", "one", 'references: "one", expected a list'),
        ("alpha", 0, "alpha: 0, expected a number between 0 and 1"),
        ("alpha", 1, "alpha: 1, expected a number between 0 and 1"),
        ("alpha", float("nan"), "alpha: nan, expected a number between 0 and 1"),
        *((f"run.{n}", v, f"run.{n}: {t}, expected") for n in ("trajectories", "steps") for v, t in (
            (0, "0"), (-5, "-5"), (1.5, "1.5"), ("abc", '"abc"'), ("1e6", '"1e6"'), (True, "true"),
            (float("nan"), "nan"), (float("inf"), "inf"),
        )),
        ("run.steps", 2**40, "run.steps: 1099511627776 steps take 7.04e+04 GB of memory, this machine has"),
        ("run.trajectories", 1e30, "run.trajectories: 1000000000000000019884624838656, expected"),
        *(("run.seed", v, f"run.seed: {t}, expected") for v, t in (
            (-1, "-1"), (2**64, "18446744073709551616"), (1.5, "1.5"), ("1", '"1"'), (True, "true"), (1e30, "1e+30"),
        )),
        ("run.dtype", 3, "run.dtype: 3, expected text"),
        ("run.noise_dtype", "f", "run.noise_dtype: unknown dtype 'f': known are float32, float64"),
        ("run.initial", 3, "run.initial: 3, expected a table"),
        *(("run.initial.x", v, f"run.initial.x: {t}, expected a finite number or a distribution") for v, t in (
            (True, "true"), (float("nan"), "nan"), (float("inf"), "inf"), (10**400, f"1{'0' * 58}…"),
        )),
        ("run.initial.x", [1], "run.initial.x[0]: unknown parameter"),
        ("run.initial.x", [[1], [1, 2]], "run.initial.x: rows of different lengths, expected"),
        ("run.initial.x", "0.5", "run.initial.x: unknown distribution '0.5'"),
        ("run.initial.x", "normal:0,-1", "run.initial.x: 'normal:0,-1' needs std >= 0"),
        ("run.initial.x y", 1.0, "run.initial.x y: 'x y' is not a name"),
        ("run.initial.x[", 1.0, "run.initial.x[: 'x[' is not a parameter"),
        ("run.initial.x[0]", 1.0, "run.initial.x[0]: unknown parameter 'x[0]'"),
        *(("optimizer.learning_rate", v, f"learning_rate: {t}, expected a finite positive number") for v, t in (
            (0, "0"), (0.0, "0.0"), (-0.1, "-0.1"), (float("nan"), "nan"), (float("inf"), "inf"), (True, "true"),
            ([0.1, -1], "[0.1, -1]"), ({}, "{}"), (10**400, f"1{'0' * 58}…"),
        )),
        ("optimizer.learning_rate", "-0.1", "'-0.1' is -0.1 at step 0, expected a finite positive number"),
        ("optimizer.learning_rate", [0.1], "1 rates, expected 8, one a step"),
        ("optimizer.learning_rate", "abc", "unknown name 'abc': known are N, pi, t"),
        ("optimizer.learning_rate", "cosin:0.1", "unknown schedule 'cosin': did you mean 'cosine'?"),
        ("optimizer.name", "adamm", "unknown optimizer 'adamm': did you mean 'adam'?"),
        ("optimizer.name", 3, "optimizer.name: 3, expected text"),
        *(("optimizer.batch_size", v, f"optimizer.batch_size: {t}, expected a whole number from 1") for v, t in (
            (0, "0"), (1.5, "1.5"), (True, "true"), ("a", '"a"'), (1e30, "1000000000000000019884624838656"),
        )),
        ("optimizer.weight_decay", "a", 'optimizer.weight_decay: "a", expected a finite number'),
        ("optimizer.weight_decay", float("inf"), "optimizer.weight_decay: inf, expected a finite number"),
        ("loss.name", 3, "loss.name: 3, expected text"),
        ("loss.b", "1", "loss.b: unknown key of river_valley 'b': known are a, c, constants, noise, river_noise"),
        ("loss.a", True, "loss.a: true, expected text, or a list of texts"),
        ("loss.a", {}, "loss.a: {}, expected text, or a list of texts"),
        ("loss.a", ["1", {}], 'loss.a: ["1", {}], expected text, or a list of texts'),
        ("loss.a", "a1", "unknown name 'a1'"),
        ("loss.noise", 5, "loss.noise: unknown distribution '5'"),
        ("loss.noise", ["normal"], 'loss.noise: ["normal"], expected text'),
        ("loss.river_noise", False, "loss.river_noise: false, expected text"),
        ("loss.constants", 3, "loss.constants: 3, expected a table of numbers"),
        ("loss.constants.a0", "1", 'loss.constants.a0: "1", expected a number'),
        ("loss.constants.a0", True, "loss.constants.a0: true, expected a number"),
        ("loss.constants.a0", float("nan"), "loss.constants.a0: nan, expected a finite number"),
        ("record.every", 0, "record.every: 0, expected a whole number from 1"),
        ("record.snapshots", 3, "record.snapshots: 3, expected a list"),
        ("record.snapshots", ["fnal"], 'record.snapshots[0]: "fnal", expected a step count, or "final"'),
        ("record.snapshots", [-1], 'record.snapshots[0]: -1, expected a step count, or "final"'),
        ("record.snapshots", [True], 'record.snapshots[0]: true, expected a step count, or "final"'),
        ("record.observables", 3, "record.observables: 3, expected a table"),
        ("record.observables.u", True, "record.observables.u: true, expected a formula"),
        ("record.observables.u", "xi", "record.observables.u: unknown name 'xi'"),
        ("record.histograms.q", [0, 1, 2], "record.histograms.q: unknown observable 'q': known are x, y"),
        ("record.histograms.x", 3, "record.histograms.x: 3, expected a list"),
        ("record.histograms.x", [0, 1], "record.histograms.x: [0.0, 1.0], expected [low, high, bins]"),
        ("record.histograms.x", [0, 1, 0], "expected [low, high, bins]"),
        ("record.histograms.x", [0, 1, 1.5], "expected [low, high, bins]"),
        ("record.histograms.x", [0, float("nan"), 1], "record.histograms.x[1]: nan, expected a finite number"),
        ("record.histograms.x", [0, 1, True], "record.histograms.x[2]: true, expected a finite number"),
        ("predict", [{"id": 3}], "predict[0].id: 3, expected text"),
        ("predict", [{"id": "valley", "at": 3}], "predict[0].at: 3, expected only with a formula"),
        ("predict", [{"id": "valley", "order": 1}], "predict[0].order: 1, expected only with a formula"),
        ("predict", [{"id": "valley", "formula": "mean(x) = 0"}], "predict[0].id: valley is a law"),
        ("predict", [{"id": "valley", "reslution": 1}], "predict[0].reslution: unknown key 'reslution': did you mean"),
        *(("predict", [{"id": "valley", "resolution": v}], "predict[0].resolution: ") for v in (
            0, -1, "a%", "-1%", "0%", "1e999%", "2", True, float("nan"), float("inf"), "nan%",
        )),
    ],
)  # fmt: skip
def test_a_bad_value(key, value, problem):
    data = copy.deepcopy(VALLEY)
    toml.set_key(data, ".".join(f'"{part}"' for part in key.split(".")), value)
    assert problem in problems(data)
    if key != "title":
        assert problem in problems(VALLEY, {".".join(f'"{part}"' for part in key.split(".")): value})


@pytest.mark.parametrize(
    ("key", "value", "problem"),
    [
        ("formula", True, "loss.formula: true, expected a formula"),
        ("formula", "u*w*q", "unknown name 'q'"),
        ("parameters", {}, "loss.parameters: a loss needs at least one parameter"),
        ("parameters", 3, "loss.parameters: 3, expected a table"),
        ("parameters", {"u": "normla", "w": "unifrm:0,1"}, "loss.parameters.u: unknown distribution 'normla'"),
        ("parameters", {"u": "normla", "w": "unifrm:0,1"}, "loss.parameters.w: unknown distribution 'unifrm'"),
        ("parameters", {"w[999999999]": 1.0}, "loss.parameters.w[999999999]: 999999999 coordinates, expected 1 to"),
        ("parameters", {"u v": 1.0}, "loss.parameters.u v: 'u v' is not a name"),
        ("constants", {"s": "a"}, 'loss.constants.s: "a", expected a finite number'),
        ("noise", {"x": 3}, "loss.noise.x: 3, expected text"),
        ("noise", {"x": "normla"}, "loss.noise.x: unknown distribution 'normla': did you mean 'normal'?"),
        ("noises", {}, "loss.noises: unknown key 'noises': did you mean 'noise'?"),
        ("define", {"y": True}, "loss.define.y: true, expected a formula or a list of formulas"),
        ("define", {"y": []}, "loss.define.y: [], expected a formula or a list of formulas"),
        ("symmetry", [{}], "loss.symmetry[0].name: is missing"),
        ("symmetry", [{"name": "s"}], "loss.symmetry 's': expected one of generator, image and layers"),
        ("symmetry", [3], "loss.symmetry[0]: 3, expected a table"),
        ("symmetry", ["rescal:u:1,w:-1"], "unknown symmetry 'rescal': did you mean 'rescale'?"),
        ("symmetry", {"name": "x"}, 'loss.symmetry: { name = "x" }, expected a list'),
        ("symmetry", [{"name": "s", "generator": 3}], "loss.symmetry[0].generator: 3, expected a table"),
        ("symmetry", [{"name": "s", "genrator": {}}], "unknown key 'genrator': did you mean 'generator'?"),
        ("symmetry", [{"name": "s", "generator": {"q": "u"}}], "unknown parameter 'q': known are u, w"),
    ],
)
def test_a_bad_loss_of_ones_own(key, value, problem):
    assert problem in problems({**OWN, "loss": {**OWN["loss"], key: value}})


def test_neither_a_name_nor_a_formula():
    assert "loss: expected the name of one in the catalogue" in problems({**OWN, "loss": {"formla": "x"}})


def test_arguments_of_the_catalogue_that_are_numbers(monkeypatch):
    """An entry may ask for numbers; only where it does not, a number is a formula."""

    def family(dimension: int, width: float = 1.0, a: str = "1"):
        return build_loss({**OWN["loss"], "constants": {"s": dimension * width}, "name": a})

    monkeypatch.setitem(CATALOGUE, "numbers", family)
    loss = build_loss({"name": "numbers", "dimension": 3, "width": 2, "a": 5})
    assert (loss.constants, loss.name) == ({"s": 6.0}, "5")
    for wrong, problem in [("3", '"3", expected a whole number'), (1.5, "1.5, expected a whole number")]:
        with pytest.raises(InputError, match=f"loss.dimension: {problem}"):
            build_loss({"name": "numbers", "dimension": wrong})
    with pytest.raises(InputError, match=r"loss\.dimension: is missing"):
        build_loss({"name": "numbers"})


def test_overrides_that_lead_nowhere_are_listed_with_the_rest():
    message = problems(VALLEY, {"run.steps.x": 1, "a..b": 2, "run.trajectories": 0})
    assert "run.steps.x: steps is 8, expected a table" in message
    assert "'a..b' is not a key" in message
    assert "run.trajectories: 0, expected a whole number from 1" in message


def test_text_that_is_no_text_is_refused():
    with pytest.raises(InputError, match="is no text in UTF-8"):
        parse(VALLEY, {"title": "\udcff"})


# Files.


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (None, "no such file"),
        (b"", "is empty, expected a scenario in TOML"),
        (b" \n\t\n", "is empty, expected a scenario in TOML"),
        (bytes(range(256)), "is not a text file, expected a scenario in TOML"),
        ('title = "é"'.encode("latin-1"), "is not a text file, expected a scenario in TOML"),
        (b"\0\0\0", "not valid TOML"),
        (b"a = 1\nb = = 1\n", "not valid TOML: .*line 2, column 5"),
    ],
)
def test_what_is_no_scenario_file(content, problem, tmp_path):
    path = tmp_path / "some.toml"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(InputError, match=problem) as refused:
        Scenario.load(path)
    assert str(refused.value).startswith(str(path))


def test_a_folder_is_no_scenario(tmp_path, monkeypatch):
    with pytest.raises(InputError, match="is a folder, expected a scenario file"):
        Scenario.load(tmp_path)
    (tmp_path / "river_valley").mkdir()
    monkeypatch.chdir(tmp_path)
    assert Scenario.load("river_valley").name == "river_valley"  # the shipped one


def test_an_unknown_name_has_a_near_match():
    with pytest.raises(InputError, match="unknown shipped scenario 'rivervalley': did you mean 'river_valley'"):
        Scenario.load("rivervalley")


def test_a_file_that_is_missing_is_not_told_the_names_of_all_scenarios():
    with pytest.raises(InputError, match=r"^mine\.toml: no such file$"):
        Scenario.load("mine.toml")
    with pytest.raises(InputError, match="did you mean 'river_valley'"):
        Scenario.load("rivervalley.toml")


@pytest.mark.parametrize("lead", [b"", b"\xef\xbb\xbf"], ids=["plain", "byte order mark"])
@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_files_of_other_editors_are_read(lead, end, tmp_path):
    path = tmp_path / "some.toml"
    path.write_bytes(lead + toml.dumps(VALLEY).replace("\n", end).encode())
    assert Scenario.load(path).runs == parse(VALLEY).runs


# The resolved text.

NAMES = ["p", "q2", "θ", "long_name"]
POSITIVE = st.floats(1e-6, 1e3)


def starts() -> st.SearchStrategy[Any]:
    finite = st.floats(-1e6, 1e6)
    distributions = st.builds("normal:{},{}".format, finite, POSITIVE) | st.sampled_from(["rademacher", "uniform:-1,2"])
    return finite | st.integers(-5, 5) | distributions


@st.composite
def scenarios(draw: st.DrawFn) -> dict[str, Any]:
    names = draw(st.lists(st.sampled_from(NAMES), min_size=1, unique=True))
    vector = draw(st.integers(0, 3))
    steps = draw(st.integers(1, 50))
    wall = " + ".join(f"k*{name}**2/2 + {name}*z" for name in names) + (" + sum(w**2)" if vector else "")
    measured = [*names, *(f"w[{i}]" for i in range(vector)), "seen"]
    rates = POSITIVE | st.integers(1, 9) | st.builds("cosine:{},{}".format, POSITIVE, POSITIVE)
    data: dict[str, Any] = {
        "title": draw(st.text(max_size=20)),
        "alpha": draw(st.floats(1e-6, 0.5)),
        "loss": {
            "formula": wall,
            "parameters": {name: draw(starts()) for name in names} | ({f"w[{vector}]": 1} if vector else {}),
            "constants": {"k": draw(st.floats(-1e3, 1e3) | st.integers(-5, 5))},
            "noise": {"z": draw(st.sampled_from(["normal", "laplace:0,0.1", "normal:1e-3,2"]))},
            "define": {"half": draw(st.sampled_from(["k/2", 0.5]))},
        },
        "optimizer": {"learning_rate": draw(rates), "batch_size": draw(st.integers(1, 9))},
        "run": {
            "trajectories": draw(st.integers(1, 2**40)),
            "steps": draw(st.sampled_from([steps, float(steps)])),
            "seed": draw(st.integers(0, 2**64 - 1)),
            "dtype": draw(st.sampled_from(["float32", "float64"])),
            "initial": {name: draw(starts()) for name in names[:1]},
        },
        "record": {
            "snapshots": draw(st.lists(st.integers(0, steps) | st.just("final"), max_size=3)),
            "observables": {"seen": f"half*{names[0]}"},
            "histograms": {draw(st.sampled_from(measured)): [draw(st.floats(-9, 0)), 1, draw(st.integers(1, 99))]},
        },
        "predict": [{"id": "valley", "resolution": "2%"}, {"formula": "mean(seen) = k", "resolution": draw(POSITIVE)}],
    }
    if draw(st.booleans()):
        data["sweep"] = {
            "optimizer.learning_rate": draw(st.lists(rates, min_size=1, max_size=3)),
            "grid": {"loss": {"constants": {"k": draw(st.lists(st.floats(-9, 9), min_size=1, max_size=2))}}},
            "common_noise": draw(st.booleans()),
        }
    return data


@settings(derandomize=True, max_examples=60, deadline=None)
@given(scenarios())
def test_the_resolved_text_gives_the_same_scenario(data):
    scenario = parse(data)
    more = Recorder(snapshots=(0,), observables=(Observable("more", "half"),))
    recorded = scenario.recording([more] * len(scenario.runs))
    for one in (scenario, recorded):
        again = Scenario.parse(one.toml, "some")
        assert (again.runs, again.sweep, again.claims) == (one.runs, one.sweep, one.claims)
        assert (again.common_noise, again.data["alpha"]) == (one.common_noise, one.data["alpha"])
    # To the letter once it says what is recorded: a run of the resolved text has the same digest.
    assert Scenario.parse(recorded.toml, "some").recording([Recorder()] * len(scenario.runs)).toml == recorded.toml


def test_all_points_record_alike():
    """What one point needs, all record; one name for two formulas becomes two names."""
    scenario = parse(swept({"loss.a": ["a0", "2*a0"]}))
    recorders = [
        Recorder(snapshots=(3,), observables=(Observable("wall", "a0*x**2/2"),)),
        Recorder(snapshots=(5,), observables=(Observable("wall", "a0*x**2"), Observable("mean_x", "x", (2, 8)))),
    ]
    recorded = scenario.recording(recorders)
    observables = (Observable("wall", "a0*x**2/2"), Observable("wall_2", "a0*x**2"), Observable("mean_x", "x", (2, 8)))
    assert [run.recorder for run in recorded.runs] == [Recorder(snapshots=(3, 5), observables=observables)] * 2
    assert Scenario.parse(recorded.toml).runs == recorded.runs


@pytest.mark.parametrize(
    ("section", "problem"),
    [
        ({"noise": {"x,y": "normal:1,0.9;0.9,1", "x,w": "normal:1,0;0,1"}}, "'x' stands for two things"),
        ({"noise": {"a,b_c": "normal:1,0;0,1", "a_b,c": "normal:1,0;0,1"}}, "'a_b_c' stands for two things"),
        ({"noise": {"x_y[2]": "student_t:3", "x,y": "normal:1,0;0,1"}}, "'x_y' stands for two things"),
        ({"noise": {"x,y": "normal:1,0;0,1"}, "define": {"x": "2"}}, "'x' stands for two things"),
        ({"noise": {"x,x": "normal:1,0;0,1"}}, "names a variable twice"),
        ({"noise": {"x,y": "normal:1,2;2,1"}}, "has the eigenvalue -1"),
    ],
)
def test_joint_noise_has_names_of_its_own(section, problem):
    """A second meaning would silently take the place of the first."""
    loss = {"formula": "q**2", "parameters": {"q": 1}, **section}
    assert problem in problems(
        {"loss": loss, "optimizer": {"learning_rate": 0.1}, "run": {"trajectories": 9, "steps": 4}}
    )
