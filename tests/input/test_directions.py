"""Directions as they are written: in options, in files, in Python; and what is refused."""

from __future__ import annotations

from pathlib import Path

import pytest

import sgdsim
from sgdsim.base import toml
from sgdsim.base.errors import InputError
from sgdsim.input.loading import load_scenario
from sgdsim.input.options import scenario_data
from sgdsim.input.scenario import Scenario
from tests.command_line import invoked

RUN = ["--learning-rate", "0.1", "--trajectories", "10", "--steps", "4", "--device", "python", "--quiet"]
REST = {"learning_rate": "0.1", "trajectories": 10, "steps": 5, "automatic": False}
TABLES = "[optimizer]\nlearning_rate = 0.1\n[run]\ntrajectories = 10\nsteps = 5\n"


def test_options_make_a_scenario_without_a_loss():
    data = scenario_data(parameters=["x=1", "w[2]=0"], directions=["x = -x", "w = x*w - 1", "w[1] = 2"], **REST)
    assert data["loss"] == {
        "parameters": {"x": 1, "w[2]": 0},
        "direction": {"x": "-x", "w": "x*w - 1", "w[1]": "2"},
    }
    catalogued = scenario_data(loss="river_valley", directions=["x = -x"], **REST)
    assert catalogued["loss"] == {"name": "river_valley", "direction": {"x": "-x"}}


def test_the_same_by_file_by_options_and_from_python(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """The file that a run writes has the rule, and is read back; the numbers are the same."""
    monkeypatch.chdir(tmp_path)
    given = ["--parameter", "w[2]=0.5", "--parameter", "u=1", "--constant", "s=0.2", "--noise", "x[2]=rademacher"]
    given += ["--define", "y = dot(w, x)", "--direction", "w = -y*x + s*w", "--direction", "u = u - y", "--seed", "5"]
    code, output = invoked("simulate", *given, *RUN, "-o", "one.h5", "--save-scenario", "one.toml", "--no-automatic")
    assert code == 0, output
    one = sgdsim.Ensemble.open("one.h5")
    again = sgdsim.run_scenario(load_scenario("one.toml"), "two.h5", device="python")
    loss = sgdsim.Loss(
        "",
        ("w[0]", "w[1]", "u"),
        {"s": 0.2},
        {f"x[{i}]": sgdsim.Noise.parse("rademacher") for i in range(2)},
        {"y": "dot(w, x)"},
        direction={"w": ("-y*x[0] + s*w[0]", "-y*x[1] + s*w[1]"), "u": "u - y"},
    )
    start = {"w[0]": 0.5, "w[1]": 0.5, "u": 1.0}
    mine = sgdsim.simulate(loss, learning_rate=0.1, initial=start, trajectories=10, steps=4, seed=5, device="python")
    mine.save("three.h5")
    for ensemble in (again, mine):
        assert (ensemble["mean"][-1] == one["mean"][-1]).all()
    scenarios = [
        Scenario.parse(str(sgdsim.Ensemble.open(f"{name}.h5").attributes["scenario"]))
        for name in ("one", "two", "three")
    ]
    assert [one.runs[0].loss.direction["u"] for one in scenarios] == ["u - y"] * 3
    assert scenarios[2].runs[0].loss.direction["w"] == ("-y*x[0] + s*w[0]", "-y*x[1] + s*w[1]")
    assert scenarios[0].runs[0].loss.gradient == scenarios[2].runs[0].loss.gradient


def test_a_loss_of_the_catalogue_may_have_directions():
    scenario = Scenario.parse(
        '[loss]\nname = "river_valley"\ndirection = { x = "a0*x" }\n'
        + TABLES.replace("[run]", "[run]\ninitial = { x = 1, y = 1 }")
    )
    loss = scenario.runs[0].loss
    assert (loss.name, str(loss.gradient[0])) == ("river_valley", "a0*x")


def test_a_swept_direction():
    text = '[loss]\nparameters = { x = 1 }\ndirection = { x = "x" }\n[sweep]\n"loss.direction.x" = ["x", "2*x"]\n'
    assert [run.loss.direction["x"] for run in Scenario.parse(text + TABLES).runs] == ["x", "2*x"]


def test_show_prints_the_rule_and_its_mean():
    code, output = invoked(
        "show",
        "--direction",
        "x = x*(b*y - a)",
        "--direction",
        "y = y*z**2",
        "--noise",
        "z=normal",
        "--constant",
        "a=1",
        "--constant",
        "b=2",
    )
    assert code == 0, output
    assert output == (
        "parameters: x, y\n\nconstants:\n  a = 1\n  b = 2\n\nnoise:\n  z ~ normal:0.0,1.0: mean 0, variance 1\n\n"
        "direction of a sample, in place of its gradient:\n  x: x*(-a + b*y)\n  y: y*z**2\n\n"
        "mean direction:\n  x: x*(-a + b*y)\n  y: y\n"
    )
    code, output = invoked("show", "(v*u - 1)**2/2", "--direction", "u = u - v")
    assert "gradient of a sample:\n  v: u*(u*v - 1)\n\ndirection of a sample" in output
    assert "population loss:" in output


def test_theory_of_a_rule():
    code, output = invoked("theory", "--direction", "x = x - z", "--noise", "z=normal", "--learning-rate", "0.5")
    assert code == 0, output
    assert "variance(x) = 0.33333333" in output
    assert "x moves by a rule of its own, not by a gradient" in output


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--direction", "xx = -x"], "--direction xx: unknown parameter 'xx': did you mean 'x'?"),
        (["--direction", "w[2] = x"], "--direction w[2]: unknown parameter 'w[2]': did you mean 'w[1]'?"),
        (["--direction", "x = 2*zz"], "--direction x: unknown name 'zz'"),
        (["--direction", "x = w"], "--direction x: 'w' is a vector of 2, expected a number"),
        (["--direction", "w = v"], "--direction w: 'v' is a vector of 3, expected a vector of 2"),
        (["--direction", "w = x", "--direction", "w[0] = 1"], "--direction: moves w[0] twice"),
        (["--direction", "x = (x"], "--direction 'x = (x'"),
        (["--direction", "x"], "--direction 'x': expected 'NAME = FORMULA', e.g. 'x = x*(b*y - a)'"),
        (["--direction", "x = x", "--direction", "x = 1"], "--direction 'x = 1': x is given already, expected it once"),
        (["--direction", "x = next(x)"], "--direction"),
    ],
)
def test_bad_directions(options, message):
    parameters = [text for name in ("x=1", "w[2]=0", "v[3]=0") for text in ("--parameter", name)]
    code, output = invoked("simulate", "--loss", "x**2 + norm2(w) + norm2(v)", *parameters, *options, *RUN)
    assert code == 2
    assert message in output


def test_without_a_loss_all_parameters_need_a_direction():
    given = ["--parameter", "x=1", "--parameter", "w[2]=0"]
    code, output = invoked("simulate", *given, "--direction", "w[0] = x", *RUN)
    assert code == 2
    assert "nothing moves x, w[1], expected a loss, or a direction of each" in output
    code, output = invoked("simulate", *given, *RUN)
    assert (code, "--loss: is missing, expected a formula, a name, or a --direction of each" in output) == (2, True)


def test_without_a_loss_nothing_is_measured_of_one():
    for text in ("loss", "hessian_trace"):
        code, output = invoked(
            "simulate", "--parameter", "x=1", "--direction", "x = x", "--observable", f"l = {text}", *RUN
        )
        assert code == 2
        assert f"{text}: there is no loss: all parameters move by rules of their own" in output


def test_a_mean_direction_without_closed_form_is_refused_before_the_run():
    given = ["--parameter", "x=1", "--noise", "z=normal", "--direction", "x = tanh(x*z)"]
    code, output = invoked("simulate", *given, "--optimizer", "gradient_descent", *RUN)
    assert code == 2
    assert "--direction x: the expectation of tanh(x*z) over z has no closed form here" in output


def test_nothing_moves_a_parameter_in_python():
    with pytest.raises(InputError, match="nothing moves y, expected a loss, or a direction of each"):
        sgdsim.Loss("", ("x", "y"), direction={"x": "y"})


def test_a_saved_scenario_is_read_as_it_was(tmp_path: Path):
    data = scenario_data(parameters=["x=1"], directions=["x = -x"], **REST)
    (tmp_path / "mine.toml").write_text(toml.dumps(data), encoding="utf-8")
    assert load_scenario(tmp_path / "mine.toml").runs[0].loss.formula == ""
