"""The Makefile: what is rebuilt when, and whose exit code it is. The commands themselves are stood in for."""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from pathlib import Path

import pytest

from sgdsim.app.families import ALL, FAMILIES

ROOT = Path(__file__).parent.parent
STUB = """#!/bin/sh
echo "$(basename "$0") $*" >> calls
while [ $# -gt 0 ]; do [ "$1" = --output ] && : > "$2"; shift; done
exit "${VERDICT:-0}"
"""


@pytest.fixture
def project(tmp_path):
    """A project with one scenario and an environment whose commands only write down how they were called."""
    shutil.copy(ROOT / "Makefile", tmp_path)
    for folder in ("scenarios", "sgdsim", "results", "docs", ".venv/bin"):
        (tmp_path / folder).mkdir(parents=True)
    for name in ("setup.cfg", "pyproject.toml", "scenarios/one.toml", "sgdsim/a.py"):
        (tmp_path / name).touch()
    for name in ("python", "sgdsim", "ruff", "mypy"):
        stub = tmp_path / ".venv/bin" / name
        stub.write_text(STUB)
        stub.chmod(0o755)
    age(tmp_path, *(path for path in tmp_path.rglob("*") if path.is_file()))
    for stamp in (".core", ".dev", ".docs"):
        (tmp_path / ".venv" / stamp).touch()
    return tmp_path


def age(project: Path, *paths: Path) -> None:
    for path in paths:
        os.utime(path, (time.time() - 1000,) * 2)


def make(project: Path, *arguments: str, **environment: str) -> tuple[int, str]:
    clean = {k: v for k, v in os.environ.items() if not k.startswith("MAKE")}
    done = subprocess.run(
        ["make", *arguments], cwd=project, env=clean | environment, capture_output=True, text=True, check=False
    )
    return done.returncode, done.stdout


def calls(project: Path) -> list[str]:
    log = project / "calls"
    lines = log.read_text().splitlines() if log.exists() else []
    log.unlink(missing_ok=True)
    return lines


def test_make_alone_prints_help(project):
    status, text = make(project)
    assert status == 0
    for target in (
        "run",
        "test",
        "scenarios",
        "validate",
        "bench",
        "bench-gpu",
        "lint",
        "docs",
        "test-docs",
        "clean",
        "one",
    ):
        assert target in text
    assert not calls(project)


def test_a_scenario_runs_once_and_is_compared_every_time(project):
    run = "sgdsim run scenarios/one.toml --output results/one.h5 --no-compare --overwrite"
    compare = "sgdsim compare results/one.h5"
    make(project, "one")
    assert [line.strip() for line in calls(project)] == [run, compare]
    make(project, "one")
    assert calls(project) == [compare]
    age(project, project / "results/one.h5")
    (project / "sgdsim/a.py").touch()
    make(project, "scenarios")
    assert [line.strip() for line in calls(project)] == [run, compare]


def test_the_figure_of_a_scenario_follows_its_file(project):
    make(project, "results/one.svg")
    assert calls(project)[-1] == "sgdsim plot results/one.h5 --output results/one.svg --overwrite"


@pytest.mark.parametrize("family", FAMILIES)
def test_a_family_of_scenarios_is_one_target(family, project):
    assert make(project, family, VERDICT="1")[0] != 0
    assert calls(project) == [f"python -m sgdsim.app.families {family}"]


def test_everything_ends_with_a_page_about_it_whatever_the_verdict(project):
    (project / "results/one.h5").touch()
    report = "sgdsim report results/one.h5 --output results/index.html --overwrite"
    assert make(project, ALL)[0] == 0
    assert calls(project) == [f"python -m sgdsim.app.families {ALL}", report]
    (project / ".venv/bin/python").write_text(STUB.replace("${VERDICT:-0}", "1"))
    assert make(project, ALL)[0] != 0
    assert calls(project) == [f"python -m sgdsim.app.families {ALL}", report]


def test_the_verdict_is_the_exit_code_every_time(project):
    make(project, "one")
    calls(project)
    for _ in range(2):
        assert make(project, "one", VERDICT="1")[0] != 0
        assert calls(project) == ["sgdsim compare results/one.h5"]


def test_a_failed_run_leaves_no_output(project):
    assert make(project, "one", VERDICT="1")[0] != 0
    assert not (project / "results/one.h5").exists()


@pytest.mark.parametrize("target", ["docs", "scenarios", "results"])
def test_targets_named_like_folders_do_something(project, target):
    make(project, target)
    assert calls(project)


def test_installs_when_the_environment_is_older_than_the_metadata(project):
    (project / ".venv/.dev").unlink()
    make(project, "lint")
    assert any("pip install" in line and ".[dev]" in line for line in calls(project))


def test_the_benchmark_on_a_gpu_needs_no_environment(project):
    make(project, "bench-gpu", "PY=.venv/bin/python")
    assert calls(project) == ["python -m benchmarks --device cuda"]


def test_every_shipped_scenario_is_a_target():
    text = subprocess.run(
        ["make", "--dry-run", "scenarios"],
        cwd=ROOT,
        env={k: v for k, v in os.environ.items() if not k.startswith("MAKE")},
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    for path in (ROOT / "scenarios").glob("*.toml"):
        assert f"compare results/{path.stem}.h5" in text
