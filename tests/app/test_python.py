"""One call from Python: what it takes, and what the ensemble that it returns knows."""

from __future__ import annotations

import inspect

import numpy as np
import pytest
import sympy

import sgdsim
from sgdsim.app.workflow import run_parts
from sgdsim.ensemble import open_parts, to_datatree
from sgdsim.input.loading import load_parts
from sgdsim.input.options import options

COMMON = {"initial": {"x": 1.0}, "trajectories": 64, "steps": 8, "every": 4, "device": "python"}
TRAP = {**COMMON, "constants": {"a": 1.0}, "noise": {"z": "normal"}}
FORMULA = "a*x**2/2 + z*x"


def simulate(loss="a*x**2/2 + z*x", rate=0.25, **changes):
    return sgdsim.simulate(loss, learning_rate=rate, **{**TRAP, **changes})


def numbers(ensemble):
    """All that was recorded, without the scenario that says how it was written."""
    return {name: ensemble[name].tobytes() for name in ensemble}


def test_a_loss_is_a_text_an_expression_a_table_or_a_loss():
    a, x, z = sympy.symbols("a x z")
    own = {"constants": None, "noise": None}
    table = {"formula": FORMULA, "constants": {"a": 1}, "noise": {"z": "normal"}}
    loss = sgdsim.Loss(FORMULA, ("x",), {"a": np.float16(1)}, {"z": "normal"})
    expected = numbers(simulate())
    assert numbers(simulate(a * x**2 / 2 + z * x)) == expected
    assert numbers(simulate(table, **own)) == expected
    assert numbers(simulate(loss, **own)) == expected
    assert numbers(simulate(constants={"a": np.float32(2)})) != expected


def test_every_digit_of_an_expression_counts():
    x = sympy.Symbol("x")
    third = sympy.Float(1 / 3)
    plain = sgdsim.Loss(f"{1 / 3!r}*x**2", ("x",))
    assert sgdsim.Loss(third * x**2, ("x",)).formula == plain.formula
    assert sgdsim.Loss(sympy.Max(x, 1) * sympy.Abs(x) * sympy.E, ("x",)).gradient


def test_a_loss_of_the_catalogue_and_vectors():
    ensemble = simulate("river_valley", noise=None, constants={"a0": 2}, initial={"x": 0.5, "y": "normal"})
    assert [str(name) for name in ensemble["parameter"]] == ["x", "y"]
    vector = {"initial": {"w[2]": 0.5}, "constants": {"b": np.array([1.0, 2.0])}}
    ensemble = simulate("norm2(w)/2 + dot(b, w)*z", **vector)
    assert [str(name) for name in ensemble["parameter"]] == ["w[0]", "w[1]"]


@pytest.mark.parametrize(
    "rate", [np.full(8, 0.25), np.full(8, 0.25, np.float32), lambda step: 0.25 + 0 * step, "0.25", np.float16(0.25)]
)
def test_a_learning_rate_is_a_number_a_text_an_array_or_a_function(rate):
    assert numbers(simulate(rate=rate)) == numbers(simulate())


def test_a_function_is_asked_for_every_step():
    falling = simulate(rate=lambda step: 1 / (4 + step))
    assert falling["learning_rate"][1:].tolist() == [1 / 7, 1 / 11]


def test_an_optimizer_is_a_text_or_a_table():
    adam = numbers(simulate(optimizer="adam:beta1=0.5", batch_size=2))
    assert numbers(simulate(optimizer={"name": "adam", "beta1": 0.5, "batch_size": 2})) == adam
    assert numbers(simulate(optimizer=sgdsim.Optimizer("adam", {"beta1": 0.5}, 2))) == adam
    assert numbers(simulate(momentum=0.5)) == numbers(simulate(optimizer="momentum:momentum=0.5"))


def test_symmetries_and_states_may_be_objects():
    own = {"constants": {"s": 0.5}, "initial": {"u": 1.6, "w": 0.5}, "noise": {"x": "rademacher", "e": "normal"}}
    own |= {"define": {"y": "0.8*x + s*e"}, "observables": {"q": "charge(rescale)", "m": "trace"}}
    loss, state = "(u*w*x - y)**2/2", "trace/2 + u; start=1"
    written = numbers(simulate(loss, symmetry=["rescale:u:1,w:-1"], state={"trace": state}, **own))
    objects = {"symmetry": [sgdsim.Symmetry.parse("rescale:u:1,w:-1")], "state": {"trace": sgdsim.State.parse(state)}}
    assert numbers(simulate(loss, **objects, **own)) == written


def test_data_may_be_arrays(tmp_path):
    rows = {"u": np.array([1.0, -1.0, 0.5], np.float32), "v": np.arange(3)}
    own = {"constants": None, "noise": None, "batch_size": 2, "sampling": "epoch"}
    given = simulate("(u*x - v)**2/2", data=rows, **own)
    (tmp_path / "rows.csv").write_text("u,v\n1,0\n-1,1\n0.5,2\n")
    assert numbers(simulate("(u*x - v)**2/2", data=str(tmp_path / "rows.csv"), **own)) == numbers(given)


def test_a_call_says_what_a_scenario_says(tmp_path):
    """With a sweep, claims and laws: what the same scenario in TOML records, and what is made of it."""
    path = tmp_path / "mine.toml"
    path.write_text(
        """
title = "mine"
[loss]
name = "custom"
formula = "a*x**2/2 + z*x"
constants = { a = 1 }
parameters = { x = 1.0 }
noise = { z = "normal" }
[optimizer]
name = "sgd"
learning_rate = 0.1
[run]
trajectories = 64
steps = 8
[record]
every = 4
[sweep]
"optimizer.learning_rate" = [0.1, 0.2]
common_noise = true
[[predict]]
formula = "mean(x) = (1 - learning_rate)^steps"
[[predict]]
id = "valley"
""".replace("^", "**")
    )
    file = sgdsim.run_scenario(sgdsim.load_scenario(path), tmp_path / "mine.h5", device="python")
    claims = ["mean(x) = (1 - learning_rate)**steps", "valley"]
    call = simulate(rate=[0.1, 0.2], common_noise=True, predict=claims, title="mine")
    assert numbers(call) == numbers(file)
    assert {row.id for row in call.compare().comparisons} == {"user-1", "valley"}
    rows = [(row.id, row.point, row.z) for row in call.compare().comparisons]
    assert rows == [(row.id, row.point, row.z) for row in sgdsim.compare_file(tmp_path / "mine.h5").comparisons]


def test_what_is_asked_for_is_recorded():
    ensemble = simulate(predict=["correlations"], steps=40)
    assert len(ensemble["snapshot_step"]) > 0
    assert {row.id for row in ensemble.compare().comparisons} == {"correlations"}
    assert {row.id for row in simulate(automatic=True).compare().comparisons} >= {"valley", "valley-energy"}


def test_compare_takes_further_claims_and_rejects_a_wrong_one():
    report = simulate(trajectories=2000).compare(["mean(x) = 0.75**8", "mean(x) = 5"])
    assert [row.verdict for row in report.comparisons] == ["inconclusive", "disagrees"]
    assert report.disagrees


def test_one_point_of_a_sweep_is_not_compared():
    with pytest.raises(sgdsim.InputError, match="one point of a sweep"):
        simulate(rate=[0.1, 0.2]).select(0).compare()


def test_statistics_by_name():
    ensemble = simulate(observables={"r": sympy.Symbol("x") ** 2})
    assert ensemble.steps.tolist() == [0, 4, 8]
    assert ensemble.mean("x").tolist() == ensemble["mean"][:, 0].tolist()
    assert ensemble.variance("r").tolist() == ensemble["variance"][:, 1].tolist()
    assert ensemble.statistic("mean_stderr", "r").tolist() == ensemble["mean_stderr"][:, 1].tolist()
    assert simulate(rate=[0.1, 0.2]).mean("x").shape == (2, 3)
    with pytest.raises(sgdsim.InputError, match="unknown observable 'q'"):
        ensemble.mean("q")
    with pytest.raises(sgdsim.InputError, match="did you mean 'variance'"):
        ensemble.statistic("varianc", "x")


def test_a_frame_has_every_statistic():
    pytest.importorskip("pandas")
    sweep = simulate(rate=[0.1, 0.2])
    frame = sweep.to_dataframe()
    assert frame.index.names == ["optimizer.learning_rate", "step", "observable"]
    assert frame.loc[(0.2, 8, "x"), "mean"] == sweep.mean("x")[1, 2]
    assert simulate().to_dataframe().loc[(8, "x"), "variance"] == simulate().variance("x")[-1]


def test_what_is_swept_is_an_index_in_xarray():
    pytest.importorskip("xarray")
    rate, a = "sweep_optimizer.learning_rate", "sweep_loss.constants.a"
    sweep = simulate(rate=[0.2, 0.1])
    data = sweep.to_xarray()
    assert data["mean"].dims == (rate, "record", "observable")
    assert float(data["mean"].sel({rate: 0.1}, method="nearest")[-1, 0]) == sweep.mean("x")[1, -1]
    grid = simulate(sweep={"grid": {"loss.constants.a": [1, 2, 3], "optimizer.learning_rate": [0.2, 0.1]}})
    data = grid.to_xarray()
    assert data["mean"].dims == (a, rate, "record", "observable")
    assert data["mean"].attrs == dict(grid.variables["mean"].attributes)
    for point in range(6):
        at = {a: grid[a][point], rate: grid[rate][point]}
        assert float(data["mean"].sel(at)[-1, 0]) == grid.mean("x")[point, -1]
    paired = simulate(rate=[0.2, 0.1], sweep={"loss.constants.a": [1, 2]}).to_xarray()
    assert float(paired["mean"].sel({a: 2})[-1, 0]) == paired["mean"].values[1, -1, 0]


def test_parts_are_a_tree(tmp_path):
    pytest.importorskip("xarray")
    path = tmp_path / "parts.toml"
    part = '[[part]]\nname = "{}"\n[part.optimizer]\nlearning_rate = {}\n'
    path.write_text(
        '[loss]\nformula = "x**2/2 + z*x"\nparameters = { x = 1 }\nnoise = { z = "normal" }\n'
        "[run]\ntrajectories = 8\nsteps = 4\n" + part.format("cold", 0.1) + part.format("hot", 0.5)
    )
    ensembles = run_parts(load_parts(path), tmp_path / "parts.h5", device="python")
    tree = to_datatree(open_parts(tmp_path / "parts.h5"))
    assert list(tree) == ["cold", "hot"]
    assert float(tree["hot/mean"][-1, 0]) == ensembles[1].mean("x")[-1]


def test_notebooks_show_what_there_is():
    sweep = simulate(rate=[0.1, 0.2], title="1 < 2")
    html = sweep._repr_html_()
    assert "1 &lt; 2" in html
    assert html.count("<tr>") == 3
    assert "mean(x)" in sweep.compare(["mean(x) = 5"])._repr_html_()
    assert repr(sweep.compare()) == sweep.compare().table()
    pytest.importorskip("pandas")
    assert list(sweep.compare(["mean(x) = 5"]).to_dataframe()["quantity"]) == ["mean(x)"] * 2
    latex = sgdsim.Loss("a*x**2/2 + xi*x", ("x",), {"a": 1.0}, {"xi": "normal"})._repr_latex_()
    assert latex == r"$\displaystyle \ell = \frac{a x^{2}}{2} + x \xi$"


def test_a_figure_of_an_ensemble_in_memory():
    pytest.importorskip("matplotlib")
    figure = simulate(predict=["mean(x) = 0.75**8"]).plot("moments", (6, 4))
    assert figure.get_label() == "moments"


OTHERWISE = {
    "parameters": "initial",
    "definitions": "define",
    "directions": "direction",
    "states": "state",
    "symmetries": "symmetry",
    "sweeps": "sweep",
    "predictions": "predict",
    "no_automatic": "automatic",
    "dask": "client",
    "quiet": "progress",
}
"""What the command line calls otherwise than Python does."""

WITHOUT = {
    "settings": "every key has an argument",
    "shard": "sgdsim.app.cluster.run_shard",
    "all_rows": "Ensemble.compare",
    "no_compare": "Ensemble.compare",
}
"""What is said otherwise."""


def test_every_option_of_the_command_line_is_an_argument():
    """Of one call, `simulate`: those that were missing were start_from, substeps, cpu_target and save_scenario."""
    arguments = set(inspect.signature(sgdsim.simulate).parameters)
    names = {option.name for option in options()} - WITHOUT.keys()
    plural = {name: name if name in arguments else f"{name}s" for name in names}
    assert {OTHERWISE.get(name, plural[name]) for name in names} - arguments == set()
    assert not WITHOUT.keys() & arguments


def test_a_run_starts_from_the_last_states_of_another(tmp_path):
    own = {"initial": {"x": 1.0, "w[2]": "normal"}, "observables": {"n": "norm2(w)"}}
    loss = "a*x**2/2 + z*x + norm2(w)/2"
    simulate(loss, **own, snapshots=["final"], output=tmp_path / "first.h5")
    ends = sgdsim.Ensemble.open(tmp_path / "first.h5")
    own |= {"start_from": tmp_path / "first.h5", "trajectories": None}
    more = simulate(loss, **own | {"initial": None})
    assert more.sizes["trajectory"] == 64
    for name in ("x", "w[0]", "w[1]"):
        assert more.mean(name)[0] == pytest.approx(ends.mean(name)[-1])
    again = simulate(loss, **own | {"initial": {"x": 5.0}, "trajectories": 8})
    assert again.mean("x")[0] == 5.0
    assert again.sizes["trajectory"] == 8


def test_a_scenario_that_is_saved_says_the_same(tmp_path):
    call = simulate(substeps=2, save_scenario=tmp_path / "mine.toml")
    again = sgdsim.run_scenario(sgdsim.load_scenario(tmp_path / "mine.toml"), tmp_path / "mine.h5", device="python")
    assert numbers(again) == numbers(call) != numbers(simulate())


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"start_from": "nowhere.h5"}, "nowhere.h5"),
        ({"trajectories": None}, "trajectories: expected how many"),
        ({"loss": "a*x**2/2 + q*x"}, "unknown name 'q'"),
        ({"loss": "quartc"}, "unknown loss 'quartc'"),
        ({"loss": sgdsim.Loss("x**2", ("x",))}, "constants: stands in the Loss"),
        ({"noise": {"z": "normla"}}, "loss.noise.z: unknown distribution 'normla'"),
        ({"rate": lambda step: 1 / step}, "learning_rate: at step 0 it fails: ZeroDivisionError"),
        ({"rate": np.full(7, 0.1)}, "has 7 rates, expected 8"),
        ({"rate": [0.1, None]}, r"learning_rate\[1\]: None, expected a finite number"),
        ({"rate": [0.1, 0.2], "sweep": {"optimizer.learning_rate": [1]}}, "is swept already"),
        ({"predict": ["vally"]}, "unknown law 'vally'"),
        ({"optimizer": sgdsim.Optimizer(), "momentum": 0.5}, "momentum: stands in the Optimizer"),
    ],
)
def test_what_cannot_be_used_is_said(changes, message):
    with pytest.raises(sgdsim.InputError, match=message):
        simulate(**changes)
