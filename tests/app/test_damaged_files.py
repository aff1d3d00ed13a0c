"""Whatever stands in a file, each command ends as it may: exit code 0, 1 or 2, one message, and no signal."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.samples import daily

READERS = ("info", "compare", "from")
DRAWERS = ("plot", "moments", "drift")
PARTS = 8
"""Into which the long tests are cut, for as many processes."""


def ends(folder: Path, *arguments: object) -> dict[str, int]:
    """Count of each exit code of commands that read changed files; all must end in a documented way."""
    command = [sys.executable, "-m", "tests.damaged_files", *map(str, arguments)]
    root = str(Path(__file__).parents[2])
    done = subprocess.run(
        command, cwd=folder, env={**os.environ, "PYTHONPATH": root}, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    *problems, last = map(json.loads, done.stdout.splitlines())
    assert problems == []
    counted: dict[str, int] = last["ends"]
    return counted


@pytest.mark.parametrize(
    ("kinds", "count", "commands"),
    daily(
        [
            ("structured", 4, READERS[:2]),
            ("structured", 4, READERS),
            ("flips", 8, READERS[:1]),
            ("structured", 4, DRAWERS[:1]),
        ],
        ("flips", 8, READERS[:1]),
    ),
)
def test_some_damaged_files(kinds, count, commands, tmp_path):
    """Each is read; some are refused, and in others what was changed is no matter."""
    counted = ends(tmp_path, kinds, "--count", count, "--commands", *commands)
    assert sum(counted.values()) == count * len(commands)
    assert counted["2"] > 0
    assert counted["0"] > 0


@pytest.mark.validate
@pytest.mark.parametrize("first", range(PARTS))
def test_every_variable_and_attribute_in_every_way(first, tmp_path):
    assert sum(ends(tmp_path, "structured", "--first", first, "--parts", PARTS).values()) > 10_000 / PARTS


@pytest.mark.validate
@pytest.mark.parametrize("first", range(PARTS))
def test_thousands_of_files_with_other_bytes(first, tmp_path):
    count = 4000 // PARTS
    counted = ends(
        tmp_path, "flips", "--first", 1000 + first, "--parts", PARTS, "--count", count, "--commands", *READERS
    )
    assert sum(counted.values()) == count * len(READERS)
