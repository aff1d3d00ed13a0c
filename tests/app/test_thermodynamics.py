"""The summary of all scenarios of the thermodynamic laws."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from sgdsim.app import thermodynamics, workflow
from sgdsim.app.thermodynamics import Summary, run_all, summarize
from sgdsim.app.workflow import Report
from sgdsim.base.errors import InputError
from sgdsim.input import loading
from sgdsim.input.scenario import shipped
from sgdsim.statistics.comparison import Comparison


def row(z: float, verdict: str, expect: str = "agrees") -> Comparison:
    numbers = (0.5, 0.5, 0.1, z, 0.5, 0.5, 0.1, 0.2)
    return Comparison("valley", "variance(x)", None, "variance", *numbers, "exact", verdict, expect=expect)


def test_controls_count_for_the_scenario_by_whether_they_were_rejected():
    rows = [row(1.0, "agrees"), row(-2.5, "agrees"), row(float("nan"), "inconclusive")]
    controls = [row(90.0, "disagrees", "disagrees"), row(0.1, "agrees", "disagrees")]
    assert summarize(Report("f", "one", [*rows, *controls], [], 1e-3), 2.0) == Summary("one", 5, 3, 1, 1, -2.5, 2.0)


def test_a_scenario_that_does_not_exist_is_an_error_before_any_is_run(tmp_path):
    with pytest.raises(InputError, match="no such scenario: nothing"):
        run_all(tmp_path, ["equipartition", "nothing"])
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("verdict", ["agrees", "disagrees"])
def test_table_and_json_say_the_same_and_the_exit_code_is_the_verdict(verdict, tmp_path, monkeypatch, capsys):
    """The runs are stood in for."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "results").mkdir()
    report = Report("f", "equipartition", [row(1.5, verdict)], [], 1e-3)
    monkeypatch.setattr(thermodynamics, "load_parts", lambda name: [name])
    monkeypatch.setattr(thermodynamics, "run_parts", lambda *_, **__: None)
    monkeypatch.setattr(thermodynamics, "compare_file", lambda path: report)
    monkeypatch.setattr(thermodynamics, "shipped", lambda: thermodynamics.SCENARIOS)
    with pytest.raises(SystemExit) as ended:
        thermodynamics.main()
    assert ended.value.code == (verdict == "disagrees")
    table = (tmp_path / "results/thermodynamics.md").read_text().splitlines()
    assert table[0].split(" | ")[-2].strip() == "worst z"
    assert len(table) == 2 + len(thermodynamics.SCENARIOS)
    assert "\n".join(table) in capsys.readouterr().out
    written = json.loads((tmp_path / "results/thermodynamics.json").read_text())
    keys = ["scenario", "checks", "agrees", "disagrees", "inconclusive", "worst_z", "seconds"]
    assert list(written[0]) == keys
    assert [written[0][key] for key in keys[1:-1]] == [1, int(verdict == "agrees"), int(verdict == "disagrees"), 0, 1.5]


def test_every_scenario_has_a_page_and_its_commands_name_it():
    pages = Path(__file__).parents[2] / "docs/thermodynamics"
    for name in set(thermodynamics.SCENARIOS) & set(shipped()):
        assert f"make {name} results/{name}.svg" in (pages / f"{name}.md").read_text(encoding="utf-8")


def test_the_names_are_those_of_real_calls():
    """What is stood in for above is what the module would call."""
    assert thermodynamics.load_parts is loading.load_parts
    assert thermodynamics.run_parts is workflow.run_parts
