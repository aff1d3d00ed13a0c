"""The summaries of families of scenarios."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from sgdsim.app import families, workflow
from sgdsim.app.families import FAMILIES, Summary, members, run_family, speeds, summarize
from sgdsim.app.verdicts import Report
from sgdsim.base.errors import InputError
from sgdsim.ensemble import Ensemble
from sgdsim.input import loading
from sgdsim.input.scenario import Scenario, shipped
from sgdsim.model.loss_graph import LossGraph
from sgdsim.statistics.comparison import Comparison


def row(z: float, verdict: str, expect: str = "agrees") -> Comparison:
    numbers = (0.5, 0.5, 0.1, z, 0.5, 0.5, 0.1, 0.2)
    return Comparison("valley", "variance(x)", None, "variance", *numbers, "exact", verdict, expect=expect)


def test_controls_count_for_the_scenario_by_whether_they_were_rejected():
    rows = [row(1.0, "agrees"), row(-2.5, "agrees"), row(float("nan"), "inconclusive")]
    controls = [row(90.0, "disagrees", "disagrees"), row(0.1, "agrees", "disagrees")]
    assert summarize(Report("f", "one", [*rows, *controls], [], 1e-3), 2.0) == Summary("one", 5, 3, 1, 1, -2.5, 2.0)


def test_a_scenario_that_does_not_exist_is_an_error_before_any_is_run(tmp_path, monkeypatch):
    monkeypatch.setitem(FAMILIES, "entropic", ("equipartition", "nothing"))
    with pytest.raises(InputError, match="no such scenario: nothing"):
        run_family("entropic", tmp_path)
    assert not list(tmp_path.iterdir())


def test_all_is_every_scenario_once():
    assert sorted(members("all")) == sorted(shipped())
    assert members("all")[: len(FAMILIES["thermodynamics"])] == members("thermodynamics")


@pytest.mark.parametrize("arguments", [[], ["one", "two"]])
def test_the_command_line_wants_one_family(arguments, monkeypatch, capsys):
    monkeypatch.setattr("sys.argv", ["families", *arguments])
    with pytest.raises(SystemExit) as ended:
        families.main()
    assert ended.value.code == 2
    assert "expected the name of a family: thermodynamics, entropic, networks, all" in capsys.readouterr().err


@pytest.mark.parametrize("family", ["thermodynamics", "all"])
@pytest.mark.parametrize("verdict", ["agrees", "disagrees"])
def test_table_and_json_say_the_same_and_the_exit_code_is_the_verdict(family, verdict, tmp_path, monkeypatch, capsys):
    """The runs are stood in for."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "results").mkdir()
    report = Report("f", "equipartition", [row(1.5, verdict)], [], 1e-3)
    monkeypatch.setattr(families, "load_parts", lambda name: [])
    monkeypatch.setattr(families, "run_parts", lambda *_, **__: [])
    monkeypatch.setattr(families, "compare_file", lambda path: report)
    monkeypatch.setattr("sys.argv", ["families", family])
    with pytest.raises(SystemExit) as ended:
        families.main()
    assert ended.value.code == (verdict == "disagrees")
    table = (tmp_path / f"results/{family}.md").read_text().splitlines()
    assert [cell.strip(" |") for cell in table[0].split(" | ")[-4:]] == ["worst z", "seconds", "steps/s", "flops/s"]
    assert len(table) == 2 + len(members(family))
    assert "\n".join(table) in capsys.readouterr().out
    written = json.loads((tmp_path / f"results/{family}.json").read_text())
    keys = ["scenario", "checks", "agrees", "disagrees", "inconclusive", "worst_z", "seconds"]
    assert list(written[0]) == [*keys, "steps_per_second", "flops_per_second"]
    assert [written[0][key] for key in keys[1:-1]] == [1, int(verdict == "agrees"), int(verdict == "disagrees"), 0, 1.5]


def test_speeds_are_of_all_parts_and_of_the_simulation_alone():
    """Of (u w x - y)^2/2 with y = s x + sigma e: u w x - y takes five operations, its slopes in u and w five more."""
    loss = {
        "formula": "(u*w*x - a*x - s*e)**2/2",
        "parameters": {"u": 1.0, "w": 1.0},
        "constants": {"a": 1.0, "s": 1.0},
    }
    data = {"loss": {**loss, "noise": {"x": "normal", "e": "normal"}}, "optimizer": {"learning_rate": 0.1}}
    parts = [Scenario.of({**data, "run": {"trajectories": 100, "steps": n}}, "one", "one") for n in (10, 30)]
    seconds = [
        Ensemble({}, {"wall_seconds": 0.5, "compile_seconds": 60.0}),
        Ensemble({}, {"wall_seconds": 1.5, "compile_seconds": 60.0}),
    ]
    operations = LossGraph(parts[0].runs[0].loss).operations
    assert operations == 9
    assert speeds(parts, seconds) == (2000.0, 2000.0 * (operations + 4))


@pytest.mark.parametrize(("family", "name"), [(family, name) for family in FAMILIES for name in FAMILIES[family]])
def test_every_scenario_has_a_page_and_its_commands_name_it(family, name):
    page = Path(__file__).parents[2] / "docs" / family / f"{name}.md"
    assert f"make {name} results/{name}.svg" in page.read_text(encoding="utf-8")
    assert f"`{name}`" in (page.parent / "README.md").read_text(encoding="utf-8")


def test_the_names_are_those_of_real_calls():
    """What is stood in for above is what the module would call."""
    assert families.load_parts is loading.load_parts
    assert families.run_parts is workflow.run_parts
