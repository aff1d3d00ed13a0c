"""Scenarios with parts: one file, one table, one exit code; and negative controls in the table."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner

from sgdsim.app import workflow
from sgdsim.app.cli import main
from sgdsim.base import toml
from sgdsim.base.errors import InputError
from sgdsim.ensemble import Ensemble, Variable, open_parts, save_parts
from sgdsim.input import loading
from sgdsim.input.scenario import Scenario
from sgdsim.prediction import Moment, Prediction
from sgdsim.statistics.comparison import Comparison, compare_parts
from sgdsim.statistics.verdict_table import format_table, to_json
from sgdsim.theory.law import Skipped

SCENARIO: dict[str, Any] = {
    "title": "Two valleys",
    "loss": {"formula": "a*x**2/2 + z*x", "parameters": {"x": 0.0}, "constants": {"a": 1.0}, "noise": {"z": "normal"}},
    "optimizer": {"learning_rate": 0.5},
    "run": {"trajectories": 64, "steps": 8, "seed": 3, "initial": {"x": 1.0}},
    "record": {"every": 4},
    "predict": [{"formula": "mean(x) = (1 - learning_rate*a)**steps"}],
    "part": [
        {"name": "plain"},
        {
            "name": "swept",
            "optimizer": {"name": "momentum"},
            "sweep": {"optimizer.learning_rate": [0.1, 0.2]},
            "run": {"steps": 4, "initial": {"x": 0.0}},
            "predict": [{"formula": "mean(x) = 9", "expect": "disagrees"}],
        },
    ],
}


def parsed(data: dict[str, Any]) -> list[Scenario]:
    return Scenario.parse_parts(toml.dumps(data), "two", "two.toml")


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The file of the scenario."""
    folder = tmp_path_factory.mktemp("parts")
    (folder / "two.toml").write_text(toml.dumps(SCENARIO), encoding="utf-8")
    workflow.run_parts(loading.load_parts(folder / "two.toml"), folder / "two.h5", device="python")
    return folder / "two.h5"


def test_tables_of_a_part_replace_those_of_the_file_and_keys_of_run_and_record_single_ones():
    plain, swept = parsed(SCENARIO)
    assert (plain.name, plain.part, swept.part) == ("two", "plain", "swept")
    assert (plain.data["title"], swept.data["title"]) == ("Two valleys: plain", "Two valleys: swept")
    assert [run.optimizer.name for run in (*plain.runs, *swept.runs)] == ["sgd", "momentum", "momentum"]
    assert [(run.trajectories, run.steps, run.seed) for run in (plain.runs[0], swept.runs[1])] == [
        (64, 8, 3),
        (64, 4, 3),
    ]
    assert swept.runs[0].initial == {"x": 0.0}
    assert [claim.expect for one in (plain, swept) for claim in one.claims] == ["agrees", "disagrees"]


def test_a_part_may_change_single_values_of_any_table():
    parts = [{"name": "as_above"}, {"name": "stiff", "set": {"loss.constants.a": 3.0, "run.initial.x": 2.0}}]
    above, stiff = (one.runs[0] for one in parsed({**SCENARIO, "part": parts}))
    assert (above.loss.constants, above.initial) == ({"a": 1.0}, {"x": 1.0})
    assert (stiff.loss.constants, stiff.initial) == ({"a": 3.0}, {"x": 2.0})
    assert (stiff.loss.formula, stiff.steps) == (above.loss.formula, above.steps)
    before = [{"name": "stiff", "loss": {**SCENARIO["loss"], "formula": "a*x**4"}, "set": {"loss.constants.a": 3.0}}]
    (own,) = (one.runs[0] for one in parsed({**SCENARIO, "part": before}))
    assert (own.loss.formula, own.loss.constants) == ("a*x**4", {"a": 3.0})  # after the tables of the part


def test_the_scenario_of_a_part_is_one_without_parts():
    for one in parsed(SCENARIO):
        assert Scenario.parse(one.toml, "two").runs == one.runs


def test_what_is_overridden_holds_for_every_part():
    text = toml.dumps(SCENARIO)
    found = Scenario.parse_parts(text, overrides={"run.steps": 12}, predictions=["variance(x) = 1"])
    assert [one.runs[0].steps for one in found] == [12, 12]
    assert [len(one.claims) for one in found] == [2, 2]


def test_a_scenario_with_parts_is_not_read_as_one():
    with pytest.raises(InputError, match=r"two\.toml: has the parts plain, swept, expected a scenario without"):
        Scenario.parse(toml.dumps(SCENARIO), where="two.toml")


@pytest.mark.parametrize(
    ("parts", "message"),
    [
        ([{}], r"part\[0\]\.name: is missing, expected letters"),
        ([{"name": "a/b"}], r'part\[0\]\.name: "a/b", expected letters, digits and _, a letter first'),
        ([{"name": "a"}, {"name": "a"}], "part: two are called a$"),
        ([{"name": "a", "alpha": 0.1}], "part a: alpha is that of the whole file"),
        ([{"name": "a", "runs": {}}], "part a: runs: unknown key 'runs'"),
        ([{"name": "a", "run": {"steps": 0}}, {"name": "b", "loss": 1}], "part a: run.steps: 0(.|\n)*part b: loss: 1"),
        (
            [{"name": "a", "predict": [{"formula": "mean(x) = 0", "expect": "no"}]}],
            r"predict\[0\].expect: unknown verdict 'no'",
        ),
        ([{"name": "a", "set": 3}], "part a: set: 3, expected values by dotted key, such as run.steps"),
        (
            [{"name": "a", "set": {"loss": {"constants": {"a": 2.0}}}}],
            r"part a: set.loss: .*quotes make one key of loss",
        ),
        ([{"name": "a", "set": {"loss.formula.a": 2.0}}], "part a: set: loss.formula.a: formula is .*expected a table"),
        ([{"name": "a", "set": {"loss..a": 2.0}}], "part a: set: 'loss..a' is not a key"),
        ([{"name": "a", "set": {"alpha": 0.1}}], "part a: set: alpha is that of the whole file"),
        ([{"name": "a", "set": {"runs.steps": 3}}], "part a: runs: unknown key 'runs'"),
        (3, "part: 3, expected tables"),
    ],
)
def test_what_is_wrong_with_parts_is_said(parts, message):
    with pytest.raises(InputError, match=message):
        parsed({**SCENARIO, "part": parts})


def problems_of(data: dict[str, Any], **options: Any) -> list[str]:
    with pytest.raises(InputError) as caught:
        Scenario.parse_parts(toml.dumps(data), "two", "two.toml", **options)
    return [line.strip() for line in str(caught.value).splitlines()[1:]]


def test_every_problem_of_a_part_names_it():
    parts = [{"name": "a"}, {"name": "b", "optimizer": {"learning_rat": 0.5}}]
    (unknown,) = problems_of({**SCENARIO, "part": parts})  # what is misspelt is not missing, too
    assert unknown.startswith("part b: optimizer.learning_rat: unknown")


def test_problems_of_the_whole_file_are_said_once():
    misspelt = [{"name": "long"}]
    assert problems_of({**SCENARIO, "parts": misspelt}) == ["parts: unknown key 'parts': did you mean 'part'?"]
    common = {key: value for key, value in SCENARIO.items() if key != "run"} | {"runs": {}}
    common["part"] = [{"name": "a"}, {"name": "b"}]
    assert problems_of(common) == ["runs: unknown key 'runs': did you mean 'run'?"]
    assert problems_of({**common, "part": [{"name": "a"}]}) == ["runs: unknown key 'runs': did you mean 'run'?"]
    common = {**SCENARIO, "optimizer": {"learning_rat": 0.5}, "part": [{"name": "a"}, {"name": "b"}]}
    (unknown,) = problems_of(common)
    assert unknown.startswith("every part: optimizer.learning_rat: unknown")


def test_what_is_set_holds_for_every_part():
    (problem,) = problems_of(SCENARIO, overrides={"plain.optimizer.learning_rate": 0.1})
    expected = "plain is a part, but what is set holds for every part, expected optimizer.learning_rate"
    assert problem == f"plain.optimizer.learning_rate: {expected}"


def test_an_unknown_law_is_seen_beside_a_bad_resolution():
    predict = [{"id": "valley", "resolution": "x%"}, {"id": "NTL-99"}, {"formula": "mean(x) ="}]
    alone = {key: value for key, value in SCENARIO.items() if key != "part"} | {"predict": predict}
    found = problems_of(alone)
    assert [problem.split(":")[0] for problem in found[:2]] == ["predict[0].resolution", "predict[1].id"]
    assert len(found) == 3


def test_a_law_that_does_not_apply_names_the_part():
    rows = format_table(
        [], [Skipped("valley", "no", "hot"), Skipped("valley-energy", "no", "hot"), Skipped("valley", "no")]
    )
    assert rows.splitlines()[1:] == ["part hot: valley, valley-energy do not apply: no", "valley does not apply: no"]


def test_one_file_holds_all_parts(path):
    parts = open_parts(path)
    assert list(parts) == ["plain", "swept"]
    assert (parts["plain"].sizes["trajectory"], parts["swept"].sizes["point"]) == (64, 2)
    with pytest.raises(InputError, match="holds the parts plain, swept: name one"):
        Ensemble.open(path)
    with pytest.raises(InputError, match="unknown part 'swetp': did you mean 'swept'"):
        Ensemble.open(path, "swetp")
    assert Ensemble.open(path, "plain")["status"].shape == (64,)  # read only now


def test_a_part_is_what_the_scenario_alone_would_be(path, tmp_path):
    alone = {key: value for key, value in SCENARIO.items() if key != "part"} | {"title": "Two valleys: plain"}
    scenario = loading.scenario_from(alone, "two", "here")
    made = workflow.run_scenario(scenario, tmp_path / "one.h5", device="python")
    assert Ensemble.open(path, "plain").digest() == made.digest()
    with pytest.raises(InputError, match="has no parts, and so no 'plain'"):
        Ensemble.open(tmp_path / "one.h5", "plain")


def test_parts_can_be_opened_as_groups(path):
    xarray = pytest.importorskip("xarray")
    pytest.importorskip("h5netcdf")
    with xarray.open_dataset(path, group="swept", engine="h5netcdf") as data:
        assert data["mean"].dims == ("point", "record", "observable")


def test_a_file_that_is_not_whole_is_not_left_behind(path, tmp_path):
    one = Ensemble.open(path, "plain")
    with pytest.raises(InputError, match="'parameter' is missing"):
        save_parts({"one": one, "two": Ensemble({}, {})}, tmp_path / "no.h5")
    assert not list(tmp_path.iterdir())


def synthetic(mean: float) -> Ensemble:
    """A million values of variance 1 in 64 groups, whose means scatter by exactly the standard error."""
    n = 15625
    scatter = np.random.default_rng(1).normal(size=64)
    means = mean + (scatter - scatter.mean()) / scatter.std(ddof=1) / np.sqrt(n)
    sums = {"count": np.full(64, n), "mean": means, "m2": np.full(64, n), "m3": np.zeros(64), "m4": np.full(64, 3 * n)}
    dimensions = ("record", "group", "observable")
    variables = {f"group_{key}": Variable(dimensions, value[None, :, None] * 1.0) for key, value in sums.items()}
    names = {"observable": Variable(("observable",), ["x"]), "record_step": Variable(("record",), [9])}
    return Ensemble({**variables, **names}, {})


def claim(predicted: float, expect: str = "agrees") -> Prediction:
    return Prediction("user-1", "mean(x)", Moment("mean", "x", 9), predicted, resolution=0.01, expect=expect)


def test_holm_goes_over_the_rows_of_all_parts():
    """p = 4e-4 is rejected alone at 1e-3, and not among three."""
    off = synthetic(3.75e-3)
    (alone,) = compare_parts([("one", off, [claim(0.0)])])
    assert (alone.verdict, alone.part) == ("disagrees", "one")
    assert 3.5e-4 < alone.p < 1e-3
    rows = compare_parts([("one", off, [claim(0.0)]), ("two", synthetic(0.0), [claim(0.0), claim(1e-5)])])
    assert [(row.part, row.verdict) for row in rows] == [("one", "agrees"), ("two", "agrees"), ("two", "agrees")]
    assert rows[0].p_adjusted == pytest.approx(3 * alone.p)


def test_a_control_agrees_only_if_it_is_rejected():
    rows = compare_parts([("", synthetic(0.0), [claim(0.0), claim(0.5, "disagrees"), claim(0.0, "disagrees")])])
    assert [row.verdict for row in rows] == ["agrees", "disagrees", "agrees"]
    assert [row.outcome for row in rows] == ["agrees", "agrees", "disagrees"]
    table = format_table(rows)
    assert " -0 " not in format_table(compare_parts([("", synthetic(0.0), [claim(-0.0)])]))
    assert "rejected (control)" in table.splitlines()[2]
    assert "NOT REJECTED (control)" in table.splitlines()[3]
    assert table.splitlines()[-1].startswith("1 agrees, 0 disagree, 0 inconclusive; 1 of 2 controls rejected (Holm")
    written = json.loads(to_json(rows, "f", "s"))["comparisons"]
    assert [row["expect"] for row in written] == ["agrees", "disagrees", "disagrees"]


def test_a_control_that_cannot_be_decided_is_not_rejected():
    (row,) = compare_parts(
        [("", synthetic(0.0), [Prediction("c", "q", Moment("mean", "no", 9), 0.0, expect="disagrees")])]
    )
    assert (row.verdict, row.outcome) == ("inconclusive", "disagrees")


def test_the_table_shows_parts_only_where_there_are_some():
    numbers = (0.5, 0.51, 0.02, 0.5, 0.6, 1.0, 0.1, 0.005)
    row = Comparison("valley", "variance(x)", None, "variance", *numbers, "exact", "agrees")
    assert not format_table([row]).startswith("part")


def test_commands_take_all_parts(path, tmp_path):
    runner = CliRunner()
    compared = runner.invoke(main, ["compare", str(path)])
    assert re.match(r"(plain|swept), ", compared.output)
    assert runner.invoke(main, ["compare", str(path), "--all"]).output.startswith("part")
    assert compared.exit_code == 1  # 64 trajectories reject no control
    shown = runner.invoke(main, ["info", "--digest", str(path)]).output.split()
    assert shown[1::2] == ["plain", "swept"]
    drawn = runner.invoke(main, ["plot", str(path), "-o", str(tmp_path / "two.svg")])
    assert "moments, sweep" in drawn.output
    text = (tmp_path / "two.svg").read_text(encoding="utf-8")
    assert "Two valleys" in text
    assert all(f"{part}: mean of " in text for part in ("plain", "swept"))
