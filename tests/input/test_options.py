"""Options of the command line: the scenario that they make, and what is refused."""

from __future__ import annotations

import importlib
import re
from typing import Any

import pytest
from click.testing import CliRunner

from sgdsim import theory
from sgdsim.app import cli
from sgdsim.base import toml
from sgdsim.base.errors import InputError
from sgdsim.input.options import (
    TABLE,
    Option,
    in_options,
    options,
    read_settings,
    scenario_data,
    scenario_name,
)
from tests.options_table import docs_table

AUTOMATIC = [{"id": id, "automatic": True} for id in theory.AUTOMATIC]


def data(**options: Any) -> dict[str, Any]:
    """The scenario of a few options, none of which is missing."""
    least: dict[str, Any] = {"loss": "x**2/2", "learning_rate": "0.1", "trajectories": 10, "steps": 5}
    return scenario_data(**{**least, "automatic": False, **options})


def refusal(**options: Any) -> str:
    with pytest.raises(InputError) as refused:
        data(**options)
    return str(refused.value)


def test_everything_at_once():
    made = scenario_data(
        loss="(u*w*x - y)**2/2",
        parameters=["u=1.5", "w = normal:0,0.3", "v[3]=1e-3"],
        constants=["a=1", "b = -2.5"],
        noise=["x=normal", "e=normal:0,0.5", "p, q=normal:COV.csv"],
        definitions=["y = 0.8*x + e", "d = y**2"],
        symmetries=["rescale:u:1,w:-1", "generator:FILE"],
        data="FILE.csv",
        optimizer="adam:beta1=0.9,epsilon=0",
        learning_rate="cosine:0.1,0.001",
        batch_size=4,
        sampling="epoch",
        weight_decay="0.01:decoupled",
        trajectories=10**6,
        steps=20000,
        seed=2**64 - 1,
        dtype="float32",
        noise_dtype="float64",
        start_from="before.h5",
        every=100,
        snapshots=["20_000", "1e3", "final"],
        snapshot_trajectories=1000,
        observables=["q = u**2 - w**2", "m = window_mean(u, 10, 20)"],
        histograms=["q:-4,4,200", "u,w:-4,4,50,-2,2,50", "u:-1,1,10"],
        quantiles=["0.05", ".5"],
        covariances=True,
        autocorrelations=["x:1000:1,10,1e2"],
        drifts=["q:-4,4,80", "u|x:-1.5,4,80"],
        sweeps=["optimizer.learning_rate=0.1,0.05", "run.initial.u=1,normal", 'loss.noise.x=["normal:0,1", "laplace"]'],
        predictions=["mean(q) = 0; at=final"],
        title="Mine",
        settings=["alpha=0.01", "run.steps=7", "loss.constants.c=3"],
    )
    assert made == {
        "title": "Mine",
        "loss": {
            "formula": "(u*w*x - y)**2/2",
            "parameters": {"u": 1.5, "w": "normal:0,0.3", "v[3]": 1e-3},
            "constants": {"a": 1, "b": -2.5, "c": 3},
            "noise": {"x": "normal", "e": "normal:0,0.5", "p,q": "normal:COV.csv"},
            "define": {"y": "0.8*x + e", "d": "y**2"},
            "symmetry": ["rescale:u:1,w:-1", "generator:FILE"],
            "data": "FILE.csv",
        },
        "optimizer": {
            "name": "adam",
            "beta1": 0.9,
            "epsilon": 0,
            "learning_rate": "cosine:0.1,0.001",
            "batch_size": 4,
            "sampling": "epoch",
            "weight_decay": "0.01:decoupled",
        },
        "run": {
            "trajectories": 10**6,
            "steps": 20000,
            "seed": 2**64 - 1,
            "dtype": "float32",
            "noise_dtype": "float64",
            "from": "before.h5",
        },
        "record": {
            "every": 100,
            "snapshots": [20000, 1000, "final"],
            "snapshot_trajectories": 1000,
            "observables": {"q": "u**2 - w**2", "m": "window_mean(u, 10, 20)"},
            "histograms": {"q": [-4, 4, 200], "u,w": [-4, 4, 50, -2, 2, 50], "u": [-1, 1, 10]},
            "quantiles": [0.05, 0.5],
            "covariances": True,
            "autocorrelation": {"x": {"from": 1000, "lags": [1, 10, 100]}},
            "drift": {"q": {"by": "q", "bins": [-4, 4, 80]}, "u": {"by": "x", "bins": [-1.5, 4, 80]}},
        },
        "sweep": {
            "optimizer.learning_rate": [0.1, 0.05],
            "run.initial.u": [1, "normal"],
            "loss.noise.x": ["normal:0,1", "laplace"],
        },
        "predict": [{"formula": "mean(q) = 0; at=final"}, *AUTOMATIC],
        "alpha": 0.01,
    }
    assert list(made) == ["title", "loss", "optimizer", "run", "record", "sweep", "predict", "alpha"]
    assert toml.loads(toml.dumps(made), "here") == made


def test_only_what_is_given():
    assert data() == {
        "loss": {"formula": "x**2/2"},
        "optimizer": {"learning_rate": 0.1},
        "run": {"trajectories": 10, "steps": 5},
    }


def test_definitions_keep_their_order():
    made = data(definitions=["b = 2*x", "a = b + 1", "c = a*b"])
    assert list(made["loss"]["define"]) == ["b", "a", "c"]


def test_a_loss_of_the_catalogue():
    made = data(loss="river_valley", parameters=["x=1"], noise=["laplace"], constants=["a0=2"])
    assert made["loss"] == {"name": "river_valley", "noise": "laplace", "constants": {"a0": 2}}
    assert made["run"]["initial"] == {"x": 1}
    assert scenario_name(made) == "river_valley"
    assert scenario_name(data()) == "custom"
    assert data(loss="some", noise=["laplace", " normal"])["loss"]["noise"] == ["laplace", "normal"]
    assert data(loss="some", noise=["z=laplace"])["loss"]["noise"] == {"z": "laplace"}


@pytest.mark.parametrize(
    ("options", "section"),
    [
        ({}, {}),
        ({"optimizer": "sgd"}, {"name": "sgd"}),
        ({"momentum": "0.9"}, {"name": "momentum", "momentum": 0.9}),
        ({"optimizer": "sgd", "momentum": "0.9"}, {"name": "momentum", "momentum": 0.9}),
        ({"optimizer": "nesterov", "momentum": ".5"}, {"name": "nesterov", "momentum": 0.5}),
        ({"optimizer": "sgd:preconditioner=P.csv"}, {"name": "sgd", "preconditioner": "P.csv"}),
        ({"optimizer": " adam : beta1 = 0.5 "}, {"name": "adam", "beta1": 0.5}),
        ({"weight_decay": "1e-2"}, {"weight_decay": 0.01}),
    ],
)
def test_optimizers(options, section):
    assert data(**options)["optimizer"] == {**section, "learning_rate": 0.1}


@pytest.mark.parametrize(
    ("text", "value"),
    [("1", 1), ("+1", 1), ("1_000", 1000), ("1e3", 1000.0), ("-.5", -0.5), ("2.", 2.0), ("normal", "normal")],
)
def test_numbers_become_numbers(text, value):
    made = data(parameters=[f"u={text}"])["loss"]["parameters"]["u"]
    assert (made, type(made)) == (value, type(value))


@pytest.mark.parametrize("text", ["nan", "inf", "1e999", "1__0", "0x10", "1 2", "9" * 5000])
def test_what_looks_like_a_number_and_is_none_stays_text(text):
    assert data(parameters=[f"u={text}"])["loss"]["parameters"]["u"] == text


def test_settings():
    assert read_settings(["run.steps=5_000", " a = [1, 2]", "a=b=c"]) == {"run.steps": 5000, "a": "b=c"}
    made = data(settings=["run.seed=3", "optimizer={name = 'adam', learning_rate = 3}", "loss.define.a=['x', '2*x']"])
    assert made["run"]["seed"] == 3
    assert made["optimizer"] == {"name": "adam", "learning_rate": 0.1}  # the option wins
    assert made["loss"]["define"] == {"a": ["x", "2*x"]}
    assert data(settings=["record.every=2"], every=5)["record"] == {"every": 5}


def test_the_laws_are_asked_for_unless_they_are_not_wanted():
    assert data(automatic=True)["predict"] == AUTOMATIC
    assert data(predictions=["mean(x) = 0"])["predict"] == [{"formula": "mean(x) = 0"}]


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        # NAME=VALUE
        ({"parameters": ["u"]}, "--parameter 'u': expected NAME=VALUE with a number or a distribution, e.g. u=1.5"),
        ({"parameters": ["=1"]}, "--parameter '=1': expected NAME=VALUE"),
        ({"parameters": ["u="]}, "--parameter 'u=': expected NAME=VALUE"),
        ({"parameters": ["u,w=1"]}, "--parameter 'u,w=1': expected NAME=VALUE"),
        ({"parameters": ["2u=1"]}, "--parameter '2u=1': '2u' is not a name"),
        ({"parameters": ["exp=1"]}, "--parameter 'exp=1': the name 'exp' is reserved"),
        ({"parameters": ["v[x]=1"]}, "--parameter 'v[x]=1': 'v[x]' is not a parameter"),
        ({"parameters": ["u=1", "u=2"]}, "--parameter 'u=2': u is given already, expected it once"),
        ({"constants": ["a=b"]}, "--constant 'a=b': expected NAME=NUMBER, e.g. a=1"),
        ({"constants": ["a=nan"]}, "--constant 'a=nan': expected NAME=NUMBER, e.g. a=1"),
        ({"constants": ["a=1", " a=1"]}, "--constant ' a=1': a is given already"),
        ({"noise": ["x"]}, "--noise 'x': expected NAME=DISTRIBUTION, e.g. x=normal:0,0.5"),
        ({"noise": ["x=3"]}, "--noise 'x=3': expected NAME=DISTRIBUTION"),
        ({"noise": ["p,=normal:C.csv"]}, "--noise 'p,=normal:C.csv': expected NAME=DISTRIBUTION"),
        ({"noise": ["p,q=normal:C.csv", "q=normal"]}, "--noise 'q=normal': q is given already"),
        ({"noise": ["p,p=normal:C.csv"]}, "--noise 'p,p=normal:C.csv': p is given already"),
        ({"loss": "some", "noise": ["laplace", "z=normal"]}, "--noise 'laplace': expected NAME=DISTRIBUTION"),
        # 'name = formula'
        ({"definitions": ["y"]}, "--define 'y': expected 'NAME = FORMULA', e.g. 'y = 0.8*x + e'"),
        ({"definitions": ["y = 2*"]}, "--define 'y = 2*': invalid syntax"),
        ({"definitions": ["y[0] = 2"]}, "--define 'y[0] = 2': 'y[0]' is not a name"),
        ({"definitions": ["y = x", "y = 2"]}, "--define 'y = 2': y is given already"),
        ({"observables": ["u**2"]}, "--observable 'u**2': expected 'NAME = FORMULA', e.g. 'q = u**2 - w**2'"),
        ({"observables": ["q =  "]}, "--observable 'q =  ': expected 'NAME = FORMULA'"),
        ({"observables": ["q = u", "q = w"]}, "--observable 'q = w': q is given already"),
        # NAME:a,b,c
        ({"histograms": ["q"]}, "--histogram 'q': expected NAME:LOW,HIGH,BINS, e.g. q:-4,4,200, or of two u,w:"),
        ({"histograms": ["q:-4,4"]}, "--histogram 'q:-4,4': expected NAME:LOW,HIGH,BINS"),
        ({"histograms": ["q:-4,4,x"]}, "--histogram 'q:-4,4,x': expected NAME:LOW,HIGH,BINS"),
        ({"histograms": ["q:-4,4,"]}, "--histogram 'q:-4,4,': expected NAME:LOW,HIGH,BINS"),
        ({"histograms": ["u,w:-4,4,50"]}, "--histogram 'u,w:-4,4,50': expected NAME:LOW,HIGH,BINS"),
        ({"histograms": ["a,b,c:0,1,2,0,1,2,0,1,2"]}, "expected NAME:LOW,HIGH,BINS"),
        ({"histograms": ["q:-4,4,9", "q:-4,4,8"]}, "--histogram 'q:-4,4,8': q is given already"),
        ({"autocorrelations": ["x:1000"]}, "--autocorrelation 'x:1000': expected NAME:FROM:LAG,LAG,… in steps"),
        ({"autocorrelations": ["x:1000:"]}, "--autocorrelation 'x:1000:': expected NAME:FROM:LAG"),
        ({"autocorrelations": ["x:1.5:1"]}, "--autocorrelation 'x:1.5:1': expected NAME:FROM:LAG"),
        ({"autocorrelations": ["x:1:1", "x:1:2"]}, "--autocorrelation 'x:1:2': x is given already"),
        ({"drifts": ["q"]}, "--drift 'q': expected NAME:LOW,HIGH,BINS, or of bins of another NAME|OTHER:LOW,HIGH,BINS"),
        ({"drifts": ["q|:-4,4,80"]}, "--drift 'q|:-4,4,80': expected NAME:LOW,HIGH,BINS"),
        ({"drifts": ["q:-4,4"]}, "--drift 'q:-4,4': expected NAME:LOW,HIGH,BINS"),
        ({"drifts": ["q|2:-4,4,8"]}, "--drift 'q|2:-4,4,8': '2' is not a name"),
        ({"drifts": ["q:-4,4,8", "q|x:-4,4,8"]}, "--drift 'q|x:-4,4,8': q is given already"),
        # KEY=…
        ({"sweeps": ["optimizer.learning_rate"]}, "--sweep 'optimizer.learning_rate': expected KEY=VALUE,VALUE,…"),
        ({"sweeps": ["run.seed=1,,2"]}, "--sweep 'run.seed=1,,2': expected KEY=VALUE,VALUE,…"),
        ({"sweeps": ["run.seed=[1"]}, "--sweep 'run.seed=[1': expected KEY=VALUE,VALUE,…"),
        (
            {"sweeps": ["run..seed=1,2"]},
            "--sweep 'run..seed=1,2': 'run..seed' is not a key, expected names between dots",
        ),
        ({"sweeps": ["run.seed=1,2", "run.seed=3,4"]}, "--sweep 'run.seed=3,4': run.seed is given already"),
        ({"settings": ["run.steps"]}, "--set 'run.steps': expected KEY=VALUE, e.g. run.steps=5000"),
        ({"settings": ["run..steps=1"]}, "'run..steps' is not a key, expected names between dots"),
        ({"settings": ["a=1", "a.b=1"]}, "a.b: a is 1, expected a table"),
        # the others
        ({"loss": " "}, "--loss ' ': expected a name, or a formula"),
        ({"data": ""}, "--data '': expected the name of a file"),
        ({"start_from": ""}, "--from '': expected the name of a file"),
        ({"symmetries": [""]}, "--symmetry '': expected e.g. rescale:u:1,w:-1"),
        (
            {"optimizer": ""},
            "--optimizer '': expected NAME, or NAME:KEY=VALUE,KEY=VALUE, e.g. adam:beta1=0.9,epsilon=0",
        ),
        ({"optimizer": "adam:"}, "--optimizer 'adam:': expected NAME, or NAME:KEY=VALUE"),
        ({"optimizer": "adam:0.9"}, "--optimizer 'adam:0.9': expected NAME, or NAME:KEY=VALUE"),
        ({"optimizer": "adam:beta1="}, "--optimizer 'adam:beta1=': expected NAME, or NAME:KEY=VALUE"),
        ({"optimizer": "adam:beta1=1,beta1=2"}, "--optimizer 'adam:beta1=1,beta1=2': beta1 is given already"),
        ({"momentum": "big"}, "--momentum 'big': expected a number, e.g. 0.9"),
        ({"optimizer": "momentum:momentum=0.5", "momentum": "0.9"}, "--momentum '0.9': momentum is given already"),
        ({"learning_rate": " "}, "--learning-rate ' ': expected a number, or a text such as cosine:0.1,0.001"),
        ({"weight_decay": ""}, "--weight-decay '': expected a number, or a text such as 0.01:decoupled"),
        ({"snapshots": ["last"]}, "--snapshot 'last': expected a step, or final"),
        ({"snapshots": ["1.5"]}, "--snapshot '1.5': expected a step, or final"),
        ({"snapshots": ["1e3", "1000"]}, "--snapshot '1000': 1000 is given already"),
        ({"quantiles": ["5%"]}, "--quantile '5%': expected a number between 0 and 1, e.g. 0.05"),
        ({"quantiles": ["1"]}, "--quantile '1': expected a number between 0 and 1"),
        ({"quantiles": ["0.5", ".5"]}, "--quantile '.5': .5 is given already"),
        # missing
        ({"learning_rate": None}, "--learning-rate: is missing, expected a number or a schedule"),
        ({"trajectories": None}, "--trajectories: is missing, expected a whole number such as 1e6"),
        ({"steps": None}, "--steps: is missing, expected a whole number such as 1e4"),
    ],
)
def test_bad_options(options, expected):
    assert expected in refusal(**options)


def test_all_problems_at_once():
    lines = refusal(parameters=["u"], quantiles=["2"], optimizer="").splitlines()
    assert [line.split()[0] for line in lines] == ["--parameter", "--optimizer", "--quantile"]
    lines = refusal(learning_rate=None, steps=None).splitlines()
    assert [line.split()[0] for line in lines] == ["--learning-rate:", "--steps:"]


def test_what_other_options_say_is_not_missing():
    data(learning_rate=None, sweeps=["optimizer.learning_rate=0.1,0.2"])
    data(learning_rate=None, settings=["sweep.grid.optimizer.learning_rate=[0.1, 0.2]"])
    data(learning_rate=None, settings=["optimizer.learning_rate=0.1"])
    data(trajectories=None, start_from="before.h5")
    data(steps=None, settings=["run.steps=3"])


@pytest.mark.parametrize(
    ("problem", "expected"),
    [
        ("run.steps: 0, expected a whole number", "--steps: 0, expected a whole number"),
        ("  optimizer.learning_rate: -1, expected", "  --learning-rate: -1, expected"),
        ("the command line:\n  run.seed: 1.5", "--seed: 1.5"),
        ("the command line:\n  run.seed: 1.5\n  run.steps: 0", "the command line:\n  --seed: 1.5\n  --steps: 0"),
        ("loss.parameters.v[3]: 'a'", "--parameter v[3]: 'a'"),
        ("run.initial.x: unknown", "--parameter x: unknown"),
        ("record.histograms.u,w: [0]", "--histogram u,w: [0]"),
        ("record.snapshots[1]: 7", "--snapshot: 7"),
        ("  loss.symmetry 'scale': along", "  --symmetry 'scale': along"),
        ("loss.noise.p,q: C.csv: no such file", "--noise p,q: C.csv: no such file"),
        ("optimizer.beta1: 3, expected", "optimizer.beta1: 3, expected"),
        ("a\n  run.from: b\n  run.seed: c", "a\n  --from: b\n  --seed: c"),
        ("prediction user-1: 'run.steps: 3'", "prediction user-1: 'run.steps: 3'"),
    ],
)
def test_problems_name_options(problem, expected):
    assert in_options(problem) == expected


def test_a_law_is_asked_for_by_its_id():
    """It adds to the laws that are tried on every run, and is asked for where it is one of them."""
    given = {"loss": "x**2/2 + z*x", "parameters": ["x=0"], "noise": ["z=normal"], "learning_rate": "0.1"}
    given |= {"trajectories": 100, "steps": 10}
    entries = scenario_data(predictions=["virial; resolution=2%", "valley", "mean(x) = 0"], **given)["predict"]
    asked = [entry for entry in entries if not entry.get("automatic")]
    assert asked == [{"id": "virial", "resolution": "2%"}, {"id": "valley"}, {"formula": "mean(x) = 0"}]
    assert [entry["id"] for entry in entries if entry.get("automatic")] == [
        id for id in theory.AUTOMATIC if id != "valley"
    ]


# One table.


def test_an_option_more_is_an_entry_more(monkeypatch):
    """Click's option, its reader, its name in messages and its row in the docs: of one line each."""
    more = Option("--tempo", "run.tempo", "INTEGER", "How fast, e.g. `3`.", kind="count", default="1")
    monkeypatch.setitem(TABLE, "The run", [*TABLE["The run"], more])
    assert data(tempo=3)["run"]["tempo"] == 3
    assert in_options("run.tempo: 3, expected less") == "--tempo: 3, expected less"
    assert "| `--tempo INTEGER` | `run.tempo` | How fast, e.g. `3`. Default: `1`. |" in docs_table("The run")
    try:
        simulate = importlib.reload(cli).main
        shown = CliRunner().invoke(simulate, ["simulate", "--help"]).output
        told = CliRunner().invoke(simulate, [*LEAST, "--tempo", "3"]).output
    finally:
        monkeypatch.undo()
        importlib.reload(cli)
    assert re.search(r"--tempo +INTEGER +How fast, e.g. 3.  \[default: 1\]", shown)
    assert "--tempo: unknown key 'tempo'" in told  # no table of the scenario has it
    assert "--tempo" not in CliRunner().invoke(cli.main, ["simulate", "--help"]).output


LEAST = ["simulate", "--loss", "x**2/2", "--parameter", "x=1", "--learning-rate", "0.1", "--trajectories", "1"]
LEAST += ["--steps", "1"]


def test_every_option_sets_one_key_and_has_one_name():
    names = [option.name for option in options()]
    flags = [flag for option in options() for flag in (option.flag, option.short) if flag]
    keys = [key for option in options() for key in option.keys]
    for each in (names, flags, keys):
        assert len(each) == len(set(each))


def test_an_option_that_there_is_none_of_is_a_mistake_of_the_caller():
    with pytest.raises(TypeError, match="unknown options learningrate, expected some of loss, parameters"):
        data(learningrate="0.1")


# Sweeps.


@pytest.mark.parametrize(
    ("text", "values"),
    [
        ("0.1,0.05", [0.1, 0.05]),
        ("0.1;cosine:0.1,0.001", [0.1, "cosine:0.1,0.001"]),
        ("cosine:0.1,0.001;linear:0.1,0;0.1", ["cosine:0.1,0.001", "linear:0.1,0", 0.1]),
        ("cosine:0.1,linear:0.2", ["cosine:0.1", "linear:0.2"]),
        ("laplace:0,normal", None),
        ("0.01:decoupled,0.02:decoupled", ["0.01:decoupled", "0.02:decoupled"]),
        ("min(a0,1),a0", ["min(a0,1)", "a0"]),
        ('"normal:0,1","laplace"', ["normal:0,1", "laplace"]),
        ('["cosine:0.1,0.001"]', ["cosine:0.1,0.001"]),
        ("true,false", [True, False]),
        (".5,2.,1_000", [0.5, 2.0, 1000]),
    ],
)
def test_values_of_a_sweep(text, values):
    """Split where it is clear what is a value, by semicolons always."""
    made = data(learning_rate=None, settings=["optimizer.learning_rate=1"], sweeps=[f"optimizer.x={text}"])
    assert made["sweep"]["optimizer.x"] == (values or ["laplace:0", "normal"])


@pytest.mark.parametrize(
    ("text", "readings"),
    [
        ("0.1,cosine:0.1,0.001", "3 values, 0.1;cosine:0.1;0.001, or 2, 0.1;cosine:0.1,0.001?"),
        ("cosine:0.1,0.001", '2 values, cosine:0.1;0.001, or 1, ["cosine:0.1,0.001"]?'),
        ("normal:0,1,laplace:0,2", "4 values, normal:0;1;laplace:0;2, or 2, normal:0,1;laplace:0,2?"),
        ("0.01:decoupled,0.02", "2 values, 0.01:decoupled;0.02, or 1,"),
    ],
)
def test_a_sweep_that_can_be_read_in_two_ways_is_refused_with_both(text, readings):
    assert f"--sweep 'run.x={text}': is this {readings}" in refusal(sweeps=[f"run.x={text}"])


# Numbers.


@pytest.mark.parametrize(
    "options",
    [
        {"constants": ["a=1e-400"]},
        {"parameters": ["u=1e-400"]},
        {"learning_rate": "1e-400"},
        {"momentum": "1e-400"},
        {"weight_decay": "1e-400"},
        {"optimizer": "adam:epsilon=1e-400"},
        {"histograms": ["u:0,1e-400,3"]},
        {"drifts": ["u:0,1e-400,3"]},
        {"quantiles": ["1e-400"]},
        {"sweeps": ["loss.constants.a=1,1e-400"]},
        {"settings": ["loss.constants.a=1e-400"]},
        {"settings": ["run.initial={x = 1e-400}"]},
    ],
)
def test_a_number_that_would_become_zero_is_refused(options):
    """It was 0 in silence, and a formula refused it."""
    assert "1e-400 is below the smallest float, expected 0 or a number from 5e-324" in refusal(**options)


@pytest.mark.parametrize("text", [".5", "2.", "+1", "1_000", "1e3"])
def test_numbers_are_the_same_whichever_option_they_stand_in(text):
    made = data(constants=[f"a={text}"], settings=[f"loss.constants.b={text}"], sweeps=[f"loss.constants.c={text}"])
    constants = made["loss"]["constants"]
    assert constants["a"] == constants["b"] == made["sweep"]["loss.constants.c"][0]
    assert type(constants["a"]) is type(constants["b"])


# What --set asks for beside what other options have by default.


def test_predictions_that_are_set_are_asked_for():
    """They were left out in silence where laws are tried without being asked for."""
    made = data(automatic=True, settings=['predict=[{id="virial"}]'], predictions=["mean(x) = 0"])["predict"]
    assert made == [{"id": "virial"}, {"formula": "mean(x) = 0"}, *AUTOMATIC]
    first = theory.AUTOMATIC[0]
    former = next(old for old, new in theory.FORMER_IDS.items() if new == first)
    for name in (first, former):
        made = data(automatic=True, settings=[f'predict=[{{id="{name}", resolution="2%"}}]'])["predict"]
        assert made == [{"id": name, "resolution": "2%"}, *AUTOMATIC[1:]]
    assert data(settings=["predict=3"])["predict"] == 3  # the scenario says what it is not
    assert "predict" not in data(settings=["predict=[]"])


def test_a_momentum_is_that_of_the_optimizer_that_is_set():
    """It made a heavy ball of it."""
    made = data(momentum="0.9", settings=["optimizer.name=nesterov"])["optimizer"]
    assert made == {"name": "nesterov", "momentum": 0.9, "learning_rate": 0.1}
    assert data(momentum="0.9", settings=["optimizer.name=sgd"])["optimizer"]["name"] == "momentum"
