"""Files that are known to be wrong say so."""

from __future__ import annotations

from contextlib import nullcontext
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from sgdsim.app.cli import main
from sgdsim.ensemble import Ensemble
from tests import layout_1
from tests.samples import daily

SIMULATE = ("simulate", "--parameter", "x=0", "--learning-rate", 1, "--trajectories", 8, "--steps", 4)
SUM = ("--loss", "x**2/2 + (a + b + g)*x", "--noise", "a=normal:0,0.1", "--noise", "b=normal")
SENTENCE = "its log-normal variables are not independent of others, since they were made of the same random words"


def sgdsim(*arguments: object) -> Result:
    """Call the command, which must do as it is told."""
    result = CliRunner(catch_exceptions=False).invoke(main, [str(argument) for argument in arguments])
    assert result.exit_code == 0, result.output
    return result


def written(path: Path, *arguments: object, version: int) -> int:
    """Simulate as a version of the layout did; the one that the file names."""
    with layout_1.in_use() if version == 1 else nullcontext():
        sgdsim(*SIMULATE, *arguments, "--device", "python", "--no-compare", "--quiet", "-o", path)
    return int(Ensemble.open(path).attributes["counter_layout_version"])


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "file.h5"


DEPENDENT = [
    (*SUM, "--noise", "g=lognormal:0,0.5"),
    ("--loss", "x**2/2 + (a + g)*x", "--noise", "a=normal", "--noise", "g=lognormal:0,0.5", "--batch-size", 2),
    ("--loss", "x**2/2 + y*z*v", "--parameter", "v=normal", "--parameter", "y=normal", "--parameter", "z=lognormal"),
    (*SUM, "--noise", "g=lognormal:0,0.5", "--sweep", "optimizer.learning_rate=0.5,1"),
]
SOME = daily([(one,) for one in DEPENDENT], (DEPENDENT[0],), (DEPENDENT[1],))


@pytest.mark.parametrize("arguments", SOME)
def test_a_file_whose_noises_shared_words(arguments, path):
    assert written(path, *arguments, version=1) == 1
    assert sgdsim("info", path).stdout.startswith(f"WARNING: {SENTENCE}: simulate it again")
    assert f"{path}: {SENTENCE}" in sgdsim("compare", path).stderr.replace("\n", " ")


@pytest.mark.parametrize("arguments", SOME)
def test_the_same_written_today(arguments, path):
    assert written(path, *arguments, version=2) == 2
    assert "WARNING" not in sgdsim("info", path).stdout
    assert SENTENCE not in sgdsim("compare", path).output


@pytest.mark.parametrize(
    "arguments",
    [
        (*SUM, "--noise", "g=lognormal:0,0.5", "--noise-dtype", "float64"),
        ("--loss", "x**2/2 + g*x", "--noise", "g=lognormal:0,0.5"),
        ("--loss", "x**2/2 + (a + g)*x", "--noise", "a=normal", "--noise", "g=lognormal:0,0.5"),
        (*SUM, "--noise", "g=laplace"),
    ],
)
def test_a_file_of_the_same_version_that_is_right(arguments, path):
    """The negative control: all of one width, and a normal that is the partner of a log-normal."""
    for version in (1, 2):
        written_path = path.with_stem(f"file{version}")
        assert written(written_path, *arguments, version=version) == 1
        assert "WARNING" not in sgdsim("info", written_path).stdout
    assert Ensemble.open(path.with_stem("file1")).digest() == Ensemble.open(path.with_stem("file2")).digest()
