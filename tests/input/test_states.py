"""States as they are written: in options, in files, in Python; and what is refused."""

from __future__ import annotations

from pathlib import Path

import pytest

import sgdsim
from sgdsim.input.loading import load_scenario
from sgdsim.input.options import scenario_data
from sgdsim.input.scenario import Scenario
from tests.command_line import invoked

RUN = ["--learning-rate", "0.1", "--trajectories", "10", "--steps", "4", "--device", "python", "--quiet"]
TABLES = "[optimizer]\nlearning_rate = 0.1\n[run]\ntrajectories = 10\nsteps = 5\n"


def test_options_make_a_table():
    states = ["last = x", "trace[2] = trace/2 + w; start=1"]
    data = scenario_data(loss="x**2", states=states, learning_rate="0.1", trajectories=10, steps=5, automatic=False)
    assert data["loss"]["state"] == {"last": "x", "trace[2]": "trace/2 + w; start=1"}


def test_the_same_by_file_by_options_and_from_python(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    given = ["--loss", "(x - last)**2/2 + norm2(w - trace) + z*x", "--parameter", "x=1", "--parameter", "w[2]=0.5"]
    given += ["--constant", "a=0.2", "--noise", "z=normal", "--state", "last = x; start=a + x"]
    given += ["--state", "trace[2] = (1 - a)*trace + a*w", "--observable", "o = trace[1] + last", "--seed", "5"]
    code, output = invoked("simulate", *given, *RUN, "-o", "one.h5", "--save-scenario", "one.toml", "--no-automatic")
    assert code == 0, output
    one = sgdsim.Ensemble.open("one.h5")
    again = sgdsim.run_scenario(load_scenario("one.toml"), "two.h5", device="python")
    loss = sgdsim.Loss(
        "(x - last)**2/2 + norm2(w - trace) + z*x",
        ("x", "w[0]", "w[1]"),
        {"a": 0.2},
        {"z": sgdsim.Noise.parse("normal")},
        states={"last": sgdsim.State("x", "a + x"), "trace[2]": sgdsim.State("(1 - a)*trace + a*w")},
    )
    start = {"x": 1.0, "w[0]": 0.5, "w[1]": 0.5}
    run = {"learning_rate": 0.1, "initial": start, "trajectories": 10, "steps": 4, "seed": 5, "device": "python"}
    mine = sgdsim.simulate(loss, observables={"o": "trace[1] + last"}, **run)
    mine.save("three.h5")
    for ensemble in (again, mine):
        assert (ensemble["mean"][-1] == one["mean"][-1]).all()
    for name in ("one", "two", "three"):
        text = str(sgdsim.Ensemble.open(f"{name}.h5").attributes["scenario"])
        assert Scenario.parse(text).runs[0].loss.states == loss.states


def test_constants_of_a_start_are_swept(tmp_path: Path):
    """Numbers of a run and not of its kernel."""
    text = '[loss]\nformula = "x**2"\nparameters = { x = 1 }\nconstants = { a = 1 }\nstate = { m = "m; start=a*x" }\n'
    sweep = '[sweep]\n"loss.constants.a" = [1, 2]\n[record]\nobservables = { o = "m" }\n'
    scenario = Scenario.parse(text + TABLES + sweep)
    ensemble = sgdsim.run_scenario(scenario, tmp_path / "swept.h5", device="python")
    assert ensemble["mean"][:, -1, 1].tolist() == [1.0, 2.0]


def test_a_loss_of_the_catalogue_may_have_states():
    text = '[loss]\nname = "river_valley"\nstate = { last = "x" }\ndirection = { y = "last" }\n'
    loss = Scenario.parse(text + TABLES + "initial = { x = 1, y = 1 }\n").runs[0].loss
    assert (loss.name, loss.memory, str(loss.gradient[1])) == ("river_valley", ("last",), "last")


def test_show_prints_states():
    code, output = invoked("show", "(x - last)**2/2", "--state", "last = x; start=1")
    assert code == 0, output
    assert "parameters: x\n" in output
    assert "states:\n  last = x; start=1\n" in output


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--state", "m = next(m)"], "--state m: m reads a next value that is not known yet, its own"),
        (
            ["--state", "m = next(k)", "--state", "k = x"],
            "a next value that is not known yet, that of k, which",
        ),
        (
            ["--define", "d = k*x", "--state", "m = next(d)", "--state", "k = x"],
            "not known yet, that of k, which",
        ),
        (["--state", "m = yy"], "--state m: unknown name 'yy'"),
        (["--state", "m = next(yy)"], "--state m: unknown name 'next(yy)'"),
        (["--state", "m = gradient(m)"], "--state m: unknown name 'gradient(m)'"),
        (["--state", "m = x; start=m"], "--state m: start reads m, expected numbers, constants and parameters alone"),
        (["--state", "m = x; start=z"], "--state m: start: unknown name 'z'"),
        (["--state", "m = x; stop=1"], "--state m: 'x; stop=1', expected a formula, and perhaps its start"),
        (["--state", "m = x; start"], "--state m: 'x; start', expected a formula, and perhaps its start"),
        (["--state", "m"], "--state 'm': expected 'NAME = FORMULA', e.g. 'trace = 0.9*trace + x; start=1'"),
        (["--state", "m = (x"], "--state m:"),
        (["--state", "x = x"], "'x' is both a parameter and a state"),
        (["--state", "z = x"], "'z' is both a noise variable and a state"),
        (["--state", "m[0] = x"], "--state m[0]: 0 coordinates, expected 1 to 16384"),
        (["--state", "m[99999] = x"], "--state m[99999]: 99999 coordinates, expected 1 to 16384"),
        (["--state", "m = x", "--state", "m[2] = x"], "states m, m[0], m[1]: expected each name once"),
        (["--state", "m = w"], "--state m: 'w' is a vector of 2, expected a number"),
        (["--state", "m[3] = w"], "--state m[3]: 'w' is a vector of 2, expected a vector of 3"),
        (["--state", "m = m + z", "--batch-size", "2"], "--state m: z differs between the 2 samples of a step"),
        (["--state", "m = m + z", "--optimizer", "gradient_descent"], "--state m: gradient_descent draws no z"),
        (
            ["--state", "m = x; start=x", "--parameter", "x=grid:0,1"],
            "start reads x, which starts on a grid",
        ),
        (["--state", "m = x", "--observable", "m = x"], "the name is already taken by the loss"),
    ],
)
def test_bad_states(options, message):
    parameters = [] if "x=grid:0,1" in options else ["--parameter", "x=1"]
    given = ["--loss", "x**2 + norm2(w) + z*x", *parameters, "--parameter", "w[2]=0", "--noise", "z=normal"]
    code, output = invoked("simulate", *given, *options, *RUN)
    assert code == 2
    assert message in output


def test_a_run_that_goes_on_does_not_forget(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """A snapshot has the parameters alone: to start the states anew would be another run."""
    monkeypatch.chdir(tmp_path)
    given = ["--loss", "(x - m)**2 + z*x", "--parameter", "x=1", "--noise", "z=normal", "--state", "m = x"]
    code, output = invoked("simulate", *given, *RUN, "--snapshot", "final", "-o", "one.h5", "--no-automatic")
    assert code == 0, output
    code, output = invoked("simulate", *given, *RUN, "--from", "one.h5", "-o", "two.h5")
    assert code == 2
    assert "has the parameters alone, and nothing of what loss.state remembers: m" in output


def test_a_text_is_a_state_in_python_and_a_number_is_none():
    loss = sgdsim.Loss("x**2", ("x",), states={"m": "x; start=1"})  # type: ignore[dict-item]
    assert loss.states == {"m": sgdsim.State("x", "1")}
    with pytest.raises(sgdsim.InputError, match="expected a state, such as"):
        sgdsim.Loss("x**2", ("x",), states={"m": 1.0})  # type: ignore[dict-item]
