"""The archives that are published: the wheel runs, and the sdist holds what its own tests need."""

from __future__ import annotations

import os
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent


@pytest.fixture(scope="module")
def archives(tmp_path_factory):
    """An sdist, and the wheel that is built from it."""
    folder = tmp_path_factory.mktemp("archives")
    command = [sys.executable, "-m", "build", "--no-isolation", "--outdir", folder, ROOT]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    (sdist,), (wheel,) = folder.glob("*.tar.gz"), folder.glob("*.whl")
    return sdist, wheel


def test_a_wheel_runs_somewhere_else(archives, tmp_path):
    """From the unpacked wheel alone: code, types and the shipped scenarios."""
    with zipfile.ZipFile(archives[1]) as wheel:
        wheel.extractall(tmp_path / "site")
    code = (
        "import sgdsim, sys; from sgdsim.app.cli import main; print(sgdsim.__file__);"
        "main(['run', 'river_valley', '--trajectories', '64', '--steps', '20', '--no-compare', '-o', 'out.h5'])"
    )
    environment = {**os.environ, "PYTHONPATH": str(tmp_path / "site")}
    done = subprocess.run(
        [sys.executable, "-P", "-c", code], cwd=tmp_path, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert str(tmp_path) in done.stdout.splitlines()[0]
    assert (tmp_path / "out.h5").exists()
    assert (tmp_path / "site/sgdsim/py.typed").exists()


def test_an_sdist_holds_every_file_of_the_project(archives):
    """All that git tracks, so that its `make test` has what it needs; where there is no git, this tree is an sdist."""
    if not (ROOT / ".git").exists():
        pytest.skip("the tree is no checkout")
    tracked = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True).stdout.split()
    with tarfile.open(archives[0]) as sdist:
        held = {name.partition("/")[2] for name in sdist.getnames()}
    assert not set(tracked) - held
