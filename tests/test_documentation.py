"""Every command and every program in the README and the docs runs as it stands."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
import warnings
from pathlib import Path

import pytest
from click.testing import CliRunner

from sgdsim.app.cli import main
from sgdsim.input.options import TABLE
from tests.options_table import docs_table

ROOT = Path(__file__).parent.parent
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]
# Their examples take minutes together, for `make test-docs`; the README and the first pages run in `make test` too.
TAUGHT = {"tutorials", "howto", "explanation"}
LONG = {"analysis", "extending", "gpu", "identities", "long_runs", "networks", "plots", "recorders", "report", "rules"}
LONG |= {"suite", "variance_reduction"}
_BLOCK = re.compile(r"^```(sh|python)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def blocks(page: Path) -> list[tuple[str, str]]:
    return _BLOCK.findall(page.read_text(encoding="utf-8"))


def run(command: list[str], folder: Path) -> None:
    # This interpreter's folder first: `sgdsim` is then the one under test, whatever the environment is called.
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    environment = {k: v for k, v in os.environ.items() if not k.startswith("MAKE")} | {"PATH": path}
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"


def run_ours(arguments: list[str]) -> None:
    """In this process, whose imports and compiled functions are there: a process of its own takes two seconds more."""
    done = CliRunner().invoke(main, arguments)
    assert done.exit_code == 0, f"{arguments}\n{done.output}\n{done.exception!r}"


def run_program(text: str, where: str) -> None:
    """In this process too; what it imports for itself, the README's first block in a fresh process still shows."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        exec(compile(text, where, "exec"), {"__name__": "__main__"})


def _page(page: Path) -> object:
    """A page as a parameter; those that take long are for `make test-docs` and `make validate`."""
    slow = page.parent.name in TAUGHT or (page.parent.name == "docs" and page.stem in LONG)
    return pytest.param(page, marks=pytest.mark.validate if slow else (), id=f"{page.parent.name}/{page.name}")


@pytest.mark.parametrize("page", [_page(page) for page in PAGES])
def test_every_block_of_the_page_runs(page, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "results").mkdir()
    programs = [text for language, text in blocks(page) if language == "python"]
    for language, text in blocks(page):
        if language == "python":
            # The README's first stands for users' own processes; what the others add to the package must not stay.
            first = page == ROOT / "README.md" and text == programs[0]
            if first or page in (ROOT / "CONTRIBUTING.md", ROOT / "docs" / "extending.md"):
                run([sys.executable, "-W", "error", "-c", text], tmp_path)
            else:
                run_program(text, f"{page.name}: ```python")
            continue
        for line in text.replace("\\\n", " ").splitlines():
            command = line.split("  #")[0].strip()
            if command.startswith("make"):
                # `make test` is what runs this test; the targets themselves are covered in test_makefile.
                run(["make", "--dry-run", *command.split()[1:]], ROOT)
            elif command.startswith("sgdsim ") and not re.search(
                r"[|>;&$]", re.sub(r"'[^']*'|\"[^\"]*\"", "", command)
            ):
                run_ours(shlex.split(command)[1:])
            elif command:
                run(["bash", "-c", command], tmp_path)


def test_promises_name_tests_that_there_are():
    known = "\n".join(path.read_text(encoding="utf-8") for path in (ROOT / "tests").rglob("test_*.py"))
    page = (ROOT / "docs" / "promises.md").read_text(encoding="utf-8")
    names = re.findall(r"`(test_\w+)`", page)
    assert len(names) > 10
    assert not [name for name in names if f"def {name}(" not in known]
    sections = re.findall(r"^\| promise \| test \|\n\| --- \| --- \|\n((?:\|.*\n)+)", page, re.MULTILINE)
    promises = [row for section in sections for row in section.splitlines()]
    assert len(promises) > 40
    assert not [row for row in promises if not re.search(r"\| [^|]*`test_\w+`[^|]*\|$", row)]
    assert not [path for path in re.findall(r"`(tests/[\w/]+\.py)`", page) if not (ROOT / path).is_file()]


def test_links_between_pages_lead_somewhere():
    for page in [*PAGES, ROOT / "results" / "README.md"]:
        for target in re.findall(r"\]\(([^)#]+)", page.read_text(encoding="utf-8")):
            assert target.startswith("http") or (page.parent / target).exists(), f"{page.name}: {target}"


def test_the_scenarios_of_the_page_are_valid():
    """Blocks as they stand, but the second, completed by what it leaves out."""
    from sgdsim.input.scenario import Scenario

    first, second, parts, last = re.findall(
        r"^```toml\n(.*?)^```$", (ROOT / "docs/scenarios.md").read_text(), re.M | re.S
    )
    assert len(Scenario.parse(first).runs) == 3
    rest = "[optimizer]\nlearning_rate = 0.1\n[run]\ntrajectories = 10\nsteps = 10\n"
    assert Scenario.parse(second + rest).runs[0].loss.parameters == ("u", "w")
    assert [one.runs[0].steps for one in Scenario.parse_parts(parts)] == [200, 500]
    assert len(Scenario.parse(last).runs[0].loss.symmetries) == 4


@pytest.mark.parametrize("heading", TABLE)
def test_the_tables_of_options_are_those_of_the_package(heading):
    """Under its heading each; what is said of an option stands in one place."""
    page = (ROOT / "docs" / "simulate.md").read_text(encoding="utf-8")
    section = page.partition(f"\n## {heading}")[2].partition("\n## ")[0]
    assert docs_table(heading) in section, f"docs/simulate.md, {heading}:\n{docs_table(heading)}"


def test_the_pages_name_everything_there_is():
    """Tables are written by hand; what is new in the package must be put there."""
    from sgdsim.app import cli
    from sgdsim.formulas.names import FUNCTIONS
    from sgdsim.input.schema import KEYS
    from sgdsim.model.data import SAMPLINGS
    from sgdsim.model.losses import CATALOGUE
    from sgdsim.model.noise import FAMILIES
    from sgdsim.model.schedules import SCHEDULES
    from sgdsim.model.symmetry import KINDS
    from sgdsim.model.update_rules import OPTIMIZERS

    options = [option for parameter in cli.simulate.params for option in parameter.opts if option.startswith("--")]
    keys = [*KEYS["record"], *KEYS["run"], *KEYS["loss"]]
    expected = {
        "simulate.md": [*OPTIMIZERS, *SCHEDULES, *FAMILIES, *SAMPLINGS, *KINDS, *options],
        "formulas.md": FUNCTIONS,
        "losses.md": CATALOGUE,
        "scenarios.md": [key.rstrip("_") for key in keys],
    }
    for page, names in expected.items():
        text = (ROOT / "docs" / page).read_text(encoding="utf-8")
        missing = [name for name in names if not re.search(rf"[`.]{re.escape(name)}\b", text)]
        assert not missing, f"{page}: {missing}"


def wrong_places(page: str) -> list[str]:
    """The files that a page names which are not there, and the names beside them that they do not define."""
    problems = []
    for row in (line for line in page.splitlines() if line.startswith("| ")):
        for code in re.findall(r"`([^`]+)`", row):
            if "/" in code:
                problems += [] if (ROOT / code).exists() else [f"{code} is not there"]
        for name, code in re.findall(r"`([A-Z]\w*)(?:\.\w+)?` in(?: its)? `([\w/.]+\.py)`", row):
            path = ROOT / code if "/" in code else None
            if (
                path is not None
                and path.is_file()
                and not re.search(rf"(?m)^(class )?{name}\b", path.read_text("utf-8"))
            ):
                problems.append(f"{code} defines no {name}")
    return problems


def test_the_places_where_something_is_added_are_there() -> None:
    assert not wrong_places((ROOT / "docs" / "extending.md").read_text("utf-8"))
    assert len(wrong_places("| law | `LAWS` in `sgdsim/cli.py` |\n| x | `NOTHING` in `sgdsim/model/noise.py` |")) == 2
