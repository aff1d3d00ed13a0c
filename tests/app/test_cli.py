"""The command line as a user meets it: exit codes, messages, and nothing left behind."""

from __future__ import annotations

import ctypes
import fcntl
import json
import os
import pty
import re
import signal
import struct
import subprocess
import sys
import tempfile
import termios
import time
from pathlib import Path
from typing import Any

import h5py
import pytest
from click.testing import CliRunner, Result

from sgdsim import __version__, ensemble
from sgdsim.app.catalogue import entries
from sgdsim.app.cli import main
from sgdsim.base import cache_folder, toml
from sgdsim.ensemble import writing
from tests.samples import daily

VALLEY: dict[str, Any] = {
    "title": "A quadratic valley",
    "loss": {"name": "river_valley", "a": "a0", "c": "c2*y**2/2", "constants": {"a0": 1.0, "c2": 0.1, "sigma": 1.0}},
    "optimizer": {"learning_rate": 0.5},
    "run": {"trajectories": 2000, "steps": 40, "seed": 7, "initial": {"x": 0.0, "y": 1.0}},
    "record": {"every": 20, "snapshots": ["final"]},
    "predict": [{"formula": "variance(x) = learning_rate/(2 - learning_rate); resolution=50%"}],
}
WRONG = "variance(x) = 5; resolution=1"
ROW = ["id", "quantity", "point", "statistic", "predicted", "measured", "stderr", "z", "p", "p_adjusted"]
ROW += ["detectable", "resolution", "order", "verdict"]


def sgdsim(*arguments: object) -> Result:
    """Call the command; whatever is not an exit is a traceback, and a failure of the test."""
    return CliRunner(catch_exceptions=False).invoke(main, [str(argument) for argument in arguments])


def refused(*arguments: object) -> str:
    """Call a command that must end with exit code 2 and a message, without output of any other kind."""
    before = sorted(Path.cwd().rglob("*"))
    result = sgdsim(*arguments)
    assert result.exit_code == 2, result.output
    assert result.stdout == ""
    assert "Error: " in result.stderr
    assert sorted(Path.cwd().rglob("*")) == before
    return result.stderr


@pytest.fixture(scope="module")
def home(tmp_path_factory) -> Path:
    """A folder with a scenario and its ensemble, made once."""
    folder = tmp_path_factory.mktemp("home")
    (folder / "valley.toml").write_text(toml.dumps(VALLEY), encoding="utf-8")
    result = sgdsim("run", folder / "valley.toml", "-o", folder / "valley.h5")
    assert result.exit_code == 0, result.output
    return folder


@pytest.fixture
def folder(home, tmp_path, monkeypatch) -> Path:
    """The working folder of a test, with the same scenario."""
    (tmp_path / "valley.toml").write_bytes((home / "valley.toml").read_bytes())
    monkeypatch.chdir(tmp_path)
    return tmp_path


# Help.


def test_help_imports_click_alone():
    code = """
import sys
from sgdsim.app.cli import main
main(["--help"], standalone_mode=False)
main(["run", "--help"], standalone_mode=False)
heavy = {"numpy", "numba", "sympy", "scipy", "pydantic", "h5py", "xarray"} & set(sys.modules)
assert not heavy, heavy
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "compare" in done.stdout


@pytest.mark.parametrize("command", sorted(main.commands))
def test_every_command_has_help_with_an_example(command):
    result = sgdsim(command, "-h")
    assert result.exit_code == 0
    words = " ".join(result.stdout.split())
    assert words.startswith(f"Usage: main {command}")
    assert f"Example: sgdsim {command}" in words


def test_help_is_in_groups():
    words = sgdsim("simulate", "-h").stdout
    headings = ["The loss", "Optimizers", "The run", "What is recorded", "Predictions"]
    assert [words.index(f"─ {heading} ─") for heading in headings] == sorted(
        words.index(f"─ {heading} ─") for heading in headings
    )
    assert words.index("─ What is recorded ─") < words.index("--histogram") < words.index("─ Predictions ─")
    shown = sgdsim("-h").stdout
    assert all(f"│ {command} " in shown for command in main.commands)


def test_errors_of_the_command_line_stay_plain_lines():
    result = sgdsim("run", "--tempo", "3")
    assert result.exit_code == 2
    assert result.stderr.startswith("Error: No such option")
    assert "│" not in result.stderr


@pytest.mark.parametrize(
    ("words", "problem"),
    [
        (["compare", "a.h5", "b.h5"], "Got unexpected extra argument (b.h5) (main compare --help)"),
        (["compare"], "Missing argument 'FILE' (main compare --help)"),
        (["simulate", "--loss"], "Option '--loss' requires an argument (main simulate --help)"),
        (["simulat"], "No such command 'simulat'. Did you mean 'simulate'? (main --help)"),
        (["--bogus"], "No such option"),
        (["run", "x", "--steps", "few"], "Invalid value for '--steps': 'few', expected a whole number"),
    ],
)
def test_what_is_wrong_with_the_words_of_a_command_is_one_line(words, problem):
    result = sgdsim(*words)
    assert result.exit_code == 2
    assert result.stderr.startswith(f"Error: {problem}")
    assert "--bogus" not in words or "--bogus" in result.stderr
    assert result.stderr.endswith("--help)\n") or "expected" in result.stderr
    assert result.stderr.count("\n") == 1


def test_version_and_module():
    version = rf"sgdsim, version {re.escape(__version__)}(, commit [0-9a-f]{{40}}\+?)?\n"
    assert re.fullmatch(version, sgdsim("--version").stdout)
    done = subprocess.run([sys.executable, "-m", "sgdsim", "--version"], capture_output=True, text=True, check=False)
    assert done.returncode == 0
    assert re.fullmatch(version, done.stdout)


def test_what_is_printed_is_there_as_json(home):
    for kind in ("losses", "predictions", "figures"):
        assert json.loads(sgdsim("list", kind, "--json").stdout) == entries(kind)
    assert "SIMD" in json.loads(sgdsim("doctor", "--json").stdout)
    shown = json.loads(sgdsim("show", "x**2/2 + z*x", "--noise", "z=normal", "--learning-rate", "0.1", "--json").stdout)
    assert shown["sections"]["population loss"] == ["x**2/2"]
    assert shown["schedule"]["0"] == 0.1
    assert json.loads(sgdsim("show", "valley", "--json").stdout)["id"] == "valley"
    (path,) = home.rglob("*.h5")
    held = json.loads(sgdsim("info", path, "--json").stdout)
    opened = ensemble.Ensemble.open(path)
    assert held["dimensions"] == opened.sizes
    assert set(held["variables"]) == set(opened.names)
    assert json.loads(sgdsim("info", path, "--json", "--digest").stdout) == {"digest": opened.digest()}


@pytest.mark.parametrize(
    ("words", "wanted"),
    [
        (["run", "river_"], "river_valley"),
        (["simulate", "--loss", "river_v"], "river_valley"),
        (["simulate", "--predict", "equi"], "equipartition"),
        (["simulate", "--optimizer", "ada"], "adam"),
        (["show", "equi"], "equipartition"),
        (["plot", "a.h5", "--kind", "dia"], "diagram"),
        (["list", "optim"], "optimizers"),
    ],
)
def test_the_shell_completes(words, wanted, monkeypatch):
    """As bash asks: the words so far, and which of them is being written."""
    monkeypatch.setenv("_MAIN_COMPLETE", "bash_complete")
    monkeypatch.setenv("COMP_WORDS", " ".join(["main", *words]))
    monkeypatch.setenv("COMP_CWORD", str(len(words)))
    assert f"plain,{wanted}" in sgdsim().stdout.splitlines()


# Run.


def test_a_run_writes_a_file_and_prints_the_table(folder):
    result = sgdsim("run", "valley.toml", "--predict", "mean(x) = 0; resolution=1", "--predict", "mean(y) = 0")
    path = folder / "results" / "valley.h5"
    assert path.is_file()
    first, wrong, meaning, *_ = result.stdout.splitlines()
    assert re.match(r"results/valley.h5: 2,000 trajectories in [0-9.]+ s, \S+ trajectory-steps/s ", first)
    assert wrong.split()[:2] == ["mean(y)", "disagrees"]  # it has not come to rest, and stands first
    assert re.match(r"    mean\(y\) is \S+( ± \S+)?, predicted 0$", meaning)
    assert (result.exit_code, result.stderr) == (1, "")
    header, *rows = sgdsim("compare", path, "--all").stdout.splitlines()
    assert header.split()[:3] == ["id", "quantity", "predicted"]
    assert [row.split()[0] for row in rows[:3]] == ["claim"] * 3
    assert "--overwrite" in refused("run", "valley.toml")
    assert sgdsim("run", "valley.toml", "--overwrite").exit_code == 0


def test_options_win_over_settings_over_the_file(folder):
    options = ["--trajectories", "1e3", "--steps", "1_2", "--seed", 2**64 - 1, "--set", "run.steps=99"]
    options += ["--set", "run.initial.x=0.25", "--set", "loss.constants.a0=0.25"]
    assert sgdsim("run", "valley.toml", "-o", "out.h5", "--no-compare", "--quiet", *options).exit_code == 0
    with h5py.File("out.h5") as file:
        scenario = toml.loads(file.attrs["scenario"], "the file")
        assert file.attrs["seed"] == str(2**64 - 1)
        assert list(file["snapshot_step"]) == [12]
        assert file["status"].shape == (1000,)
    assert scenario["run"]["seed"] == 2**64 - 1
    assert scenario["run"]["initial"] == {"x": 0.25, "y": 1.0}
    assert scenario["loss"]["constants"]["a0"] == 0.25


def test_a_shipped_scenario_by_its_name(folder):
    options = ["--trajectories", 1000, "--steps", 8, "--target-is-unknown"]
    assert "No such option" in refused("run", "river_valley", *options)
    assert "did you mean 'river_valley'" in refused("run", "rivervalley")


@pytest.mark.parametrize("quiet", [False, True])
def test_exit_code_1_when_a_comparison_disagrees(quiet, folder):
    result = sgdsim("run", "valley.toml", "-o", "out.h5", "--predict", WRONG, *["--quiet"] * quiet)
    assert (result.exit_code, result.stderr) == (1, "")
    assert (result.stdout == "") == quiet
    assert (folder / "out.h5").is_file()
    assert sgdsim("compare", "out.h5").exit_code == 1
    assert sgdsim("compare", "out.h5", "--json").exit_code == 1
    silent = sgdsim("compare", "out.h5", "--quiet")
    assert (silent.exit_code, silent.output) == (1, "")
    assert (
        sgdsim("run", "valley.toml", "-o", "out.h5", "--overwrite", "--predict", WRONG, "--no-compare").exit_code == 0
    )


def test_a_law_that_applies_nowhere_is_refused_before_the_run(folder):
    trap = ["--loss", "x**2/2 + z*x", "--noise", "z=normal", "--parameter", "x=0", "--learning-rate", 0.1]
    trap += ["--trajectories", 8, "--steps", 4, "--no-automatic"]
    for command in (["run", "valley.toml"], ["simulate", *trap]):
        message = refused(*command, "-o", "out.h5", "--predict", "momentum")
        assert message == refused(
            *command, "-o", "out.h5", "--predict", "mean(x) = 1; id=mine", "--predict", "momentum"
        )
        assert "predict: momentum applies to no run of this scenario: holds for momentum, ema, nesterov" in message


def test_an_unstable_setting_runs_and_warns(folder):
    options = ["--set", "optimizer.learning_rate=2.5", "--steps", 700, "--trajectories", 600, "-o", "out.h5"]
    result = sgdsim("run", "valley.toml", *options)
    assert result.exit_code == 0
    assert result.stderr.startswith("Warning: unstable: learning rate 2.5 times curvature 1 ")
    assert result.stderr.count("\n") == 1
    assert "WARNING: 600 diverged and are excluded" in result.stdout
    assert "inconclusive" in result.stdout
    assert sgdsim("run", "valley.toml", *options, "--overwrite", "--quiet").stderr == ""


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--steps", "abc"], "Invalid value for '--steps': 'abc', expected a whole number such as 5000, 5_000 or 5e3"),
        (["--steps", "1.5"], "Invalid value for '--steps': '1.5'"),
        (["--trajectories", "nan"], "Invalid value for '--trajectories': 'nan'"),
        (["--trajectories", "inf"], "Invalid value for '--trajectories': 'inf'"),
        (["--seed", "1__0"], "Invalid value for '--seed': '1__0'"),
        (["--steps", "9" * 5000], "Invalid value for '--steps'"),
        (["--steps", 0], "run.steps: 0, expected a whole number from 1"),
        (["--steps", -5], "run.steps: -5, expected a whole number from 1"),
        (["--trajectories", 0], "run.trajectories: 0, expected a whole number from 1"),
        (["--trajectories", "1e12"], "GB"),
        (["--steps", "1e12"], "run.steps: 1000000000000 steps take 6.4e+04 GB of memory, this machine has"),
        (["--seed", 2**64], "run.seed: 18446744073709551616, expected a whole number of at most 64 bits"),
        (["--seed", -1], "run.seed: -1, expected a whole number of at most 64 bits"),
        (["--threads", 0], "--threads: 0, expected 1 to "),
        (["--threads", "1e6"], "--threads: 1000000, expected 1 to "),
        (["--set", "run.stesp=5"], "run.stesp: unknown key 'stesp': did you mean 'steps'?"),
        (["--set", "rum.steps=5"], "rum: unknown key 'rum': did you mean 'run'?"),
        (["--set", "run.steps"], "--set 'run.steps': expected KEY=VALUE, e.g. run.steps=5000"),
        (["--set", "=5"], "--set '=5': expected KEY=VALUE"),
        (["--set", "run..steps=5"], "'run..steps' is not a key, expected names between dots"),
        (["--set", "run.steps=[1,"], 'run.steps: "[1,", expected a whole number from 1'),
        (["--set", "run.initial={x = 0,"], 'run.initial: "{x = 0,", expected a table'),
        (["--set", "run.initial.x[0]=1"], "run.initial.x[0]: unknown parameter 'x[0]'"),
        (["--set", "optimizer.learning_rate=-1"], "optimizer.learning_rate: -1, expected a finite positive number"),
        (["--set", "title=\udcff"], "is no text in UTF-8"),
        (["--predict", ""], "prediction '': expected statistic(observable) = formula"),
        (["--predict", "varance(x) = 1"], "unknown statistic 'varance': did you mean 'variance'?"),
        (["--predict", "variance(xx) = 1"], "unknown observable 'xx': did you mean 'x'?"),
        (["--predict", "variance(x) = sigm"], "unknown name 'sigm': did you mean 'sigma'?"),
        (["-o", "missing/out.h5"], "missing/out.h5: there is no folder missing"),
        (["-o", "."], "a folder, expected the name of a file"),
        (["-o", "valley.toml"], "valley.toml: the file exists"),
        (["-o", "/proc/out.h5"], "/proc/out.h5: cannot write in the folder /proc"),
    ],
)
@pytest.mark.usefixtures("folder")
def test_bad_options(arguments, message):
    assert message in refused("run", "valley.toml", *arguments)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "some.toml: no such file"),
        (b"", "some.toml: is empty, expected a scenario in TOML"),
        (b"\xff\xfe\0\0", "some.toml: is not a text file, expected a scenario in TOML"),
        (b"a = 1\nb = = 1\n", "some.toml: not valid TOML: Invalid value (at line 2, column 5)"),
        (
            b"loss = 3\nrun = 4\n",
            "some.toml:\n  loss: 3, expected a table\n  optimizer: is missing\n  run: 4, expected",
        ),
    ],
)
def test_bad_scenarios(content, message, folder):
    if content is not None:
        (folder / "some.toml").write_bytes(content)
    assert f"Error: {message}" in refused("run", "some.toml")


@pytest.mark.usefixtures("folder")
def test_a_folder_is_no_scenario():
    assert "is a folder, expected a scenario file" in refused("run", ".")


def test_a_cache_that_cannot_be_written_is_warned_of_and_the_run_works(folder, monkeypatch):
    monkeypatch.setenv("SGDSIM_CACHE_DIR", "/proc/kernels")
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    loss = '{formula = "x**2 + z*x", parameters = {x = 0.0}, noise = {z = "rademacher"}}'
    options = ["--set", f"loss={loss}", "--set", "run.initial={}", "--no-compare", "-o", "out.h5"]
    remembered = cache_folder.cache_folder, cache_folder._temporary_folder, cache_folder.warn_once
    for function in remembered:
        function.cache_clear()
    try:
        result = sgdsim("run", "valley.toml", *options)
        assert (sgdsim("doctor").exit_code, sgdsim("doctor").stderr) == (0, "")  # once a process
    finally:
        for function in remembered:
            function.cache_clear()
    assert result.exit_code == 0, result.output
    (line,) = result.stderr.splitlines()
    assert line.startswith("Warning: the kernel cache")
    assert "cannot be used" in line
    assert (folder / "out.h5").is_file()


def test_memory_that_runs_out_has_a_message(monkeypatch):
    monkeypatch.setattr("sgdsim.app.catalogue.catalogue", lambda kind: (_ for _ in ()).throw(MemoryError))
    result = sgdsim("list")
    assert (result.exit_code, result.stderr) == (1, "Error: out of memory; take fewer trajectories or snapshots.\n")


def test_a_full_disk_under_the_output_has_a_message():
    code = "import sys; from sgdsim.app.cli import main; main(['list', 'losses'])"
    with open("/dev/full", "w", encoding="utf-8") as full:
        done = subprocess.run([sys.executable, "-c", code], stdout=full, stderr=subprocess.PIPE, text=True, check=False)
    assert done.returncode == 1
    assert done.stderr == "Error: [Errno 28] No space left on device\n"


# The other commands.


def test_json_has_the_fields_of_the_table(home):
    result = sgdsim("compare", home / "valley.h5", "--json")
    report = json.loads(result.stdout)
    assert (result.exit_code, result.stderr) == (0, "")
    assert list(report) == ["file", "scenario", "comparisons"]
    assert (report["file"], report["scenario"]) == (str(home / "valley.h5"), "valley")
    (row,) = report["comparisons"]
    assert list(row) == ROW
    assert (row["id"], row["quantity"], row["point"], row["order"]) == ("user-1", "variance(x)", None, "exact")
    assert row["verdict"] in {"agrees", "disagrees", "inconclusive"}
    assert row["resolution"] == pytest.approx(0.5 * row["predicted"])


def test_a_comparison_needs_the_file_alone(home, folder):
    (folder / "valley.toml").unlink()
    (folder / "moved.h5").write_bytes((home / "valley.h5").read_bytes())
    assert sgdsim("compare", "moved.h5").stdout == sgdsim("compare", home / "valley.h5").stdout
    assert json.loads(sgdsim("compare", "moved.h5", "--json").stdout)["scenario"] == "valley"


def test_info(home):
    text = sgdsim("info", home / "valley.h5").stdout
    for part in ("trajectory = 2000", "theta (snapshot, trajectory, parameter)", "seed: 7", 'name = "river_valley"'):
        assert part in text


def test_the_digest_does_not_depend_on_threads(home, folder):
    assert sgdsim("run", "valley.toml", "-o", "one.h5", "--threads", 1, "--quiet").exit_code == 0
    digests = {sgdsim("info", path, "--digest").stdout for path in ("one.h5", home / "valley.h5")}
    assert len(digests) == 1
    assert re.fullmatch(r"[0-9a-f]{64}\n", digests.pop())


@pytest.mark.parametrize("command", [["info"], ["info", "--digest"], ["compare"], ["compare", "--json"]])
def test_files_that_are_not_ours(command, home, folder):
    whole = (home / "valley.h5").read_bytes()
    Path("text.h5").write_text("no HDF5")
    Path("empty.h5").write_bytes(b"")
    Path("truncated.h5").write_bytes(whole[: len(whole) // 2])
    Path("future.h5").write_bytes(whole)
    with h5py.File("foreign.h5", "w") as file:
        file["x"] = 1
    with h5py.File("future.h5", "r+") as file:
        file.attrs["schema_version"] = 99
    Path("other.h5").mkdir()
    for name, problem in {
        "missing.h5": "no such file",
        "other.h5": "a folder, expected a file",
        "text.h5": "not an HDF5 file",
        "empty.h5": "not an HDF5 file",
        "truncated.h5": "truncated or damaged",
        "foreign.h5": "not one written by sgdsim",
        "future.h5": "unknown schema_version 99",
    }.items():
        message = refused(*command, name)
        assert name in message
        assert problem in message


SAMPLES = ["simulate", "--loss", "(x - y)**2/2", "--parameter", "x=0", "--learning-rate", "0.1", "--trajectories", "8"]
SAMPLES += ["--steps", "2", "--device", "python", "--no-compare", "-o", "new.h5"]


@pytest.mark.parametrize(
    ("command", "suffix"),
    [
        (["run"], ".toml"),
        *((["info"], suffix) for suffix in (".h5", "")),
        (["compare"], ".h5"),
        (["plot"], ".h5"),
        (["theory"], ".h5"),
        (["schedule", "--peak", "0.1", "--steps", "9", "--measure"], ".h5"),
        ([*SAMPLES, "--noise", "y=normal", "--from"], ".h5"),
        *(([*SAMPLES, "--data"], suffix) for suffix in (".csv", ".h5")),
        (["schedule"], ".csv"),
    ],
)
@pytest.mark.usefixtures("folder")
def test_pipes_devices_and_huge_files_are_read_by_no_command(command, suffix):
    """A scenario, data or a result: a pipe never begins, a device never ends, and 8 GB of nothing take the memory."""
    os.mkfifo(f"pipe{suffix}")
    Path(f"zero{suffix}").symlink_to("/dev/zero")
    with open(f"huge{suffix}", "wb") as file:
        file.truncate(8 * 2**30)
    for name, problem in {
        "pipe": "not a regular file",
        "zero": "not a regular file",
        "huge": "(8590 MB, expected at most 64 MB|is not an HDF5 file)\n$",
    }.items():
        *others, last = command
        prefix = "file:" if last == "schedule" else ""
        message = refused(*others, last, f"{prefix}{name}{suffix}")
        assert re.search(f"({name}{suffix}|/dev/zero): {problem}", message), message


@pytest.mark.validate
def test_names_of_files_that_are_no_text(home, folder):
    """The file system takes any bytes; a command uses them or says in one sentence that it cannot."""
    name = os.fsdecode(b"\xff\xfe")
    Path(f"{name}.h5").write_bytes((home / "valley.h5").read_bytes())
    Path(f"{name}.csv").write_text("y\n1\n2\n")
    for command in ("info", "compare", "theory", "plot"):
        assert sgdsim(command, f"{name}.h5").exit_code == 0, command
    for option, file, more in (("--data", f"{name}.csv", []), ("--from", f"{name}.h5", ["--noise", "y=normal"])):
        message = refused(*SAMPLES, *more, option, file)
        assert message == f"Error: {option}: '\\udcff\\udcfe' is no text in UTF-8\n"


def test_a_scenario_in_a_file_that_no_longer_parses(home, folder):
    Path("old.h5").write_bytes((home / "valley.h5").read_bytes())
    with h5py.File("old.h5", "r+") as file:
        file.attrs["scenario"] = file.attrs["scenario"].replace("river_valley", "river_delta")
    message = refused("compare", "old.h5")
    assert "the scenario in old.h5:\n  loss.name: unknown loss 'river_delta': did you mean 'river_valley'?" in message
    assert sgdsim("info", "old.h5").exit_code == 0


def test_lists():
    assert sgdsim("list").stdout.startswith("losses:\n  river_valley")
    assert sgdsim("list", "schedules").stdout.startswith("schedules:\n  constant:rate ")
    assert "unknown kind 'scenario': did you mean 'scenarios'?" in refused("list", "scenario")


def test_the_doctor():
    result = sgdsim("doctor")
    assert result.exit_code == 0
    assert result.stdout.startswith(f"sgdsim        {__version__}\n")


# Runs that are not finished, and runs in shards.


def test_a_run_in_shards_is_merged_and_compared(folder):
    assert sgdsim("run", "valley.toml", "-o", "whole.h5", "--no-compare").exit_code == 0
    for number in (1, 2):
        result = sgdsim("run", "valley.toml", "--shard", f"{number}/2", "-o", "parts")
        assert (result.exit_code, result.stderr) == (0, "")
        assert result.stdout == f"parts/{number}-of-2.shard: sgdsim merge parts puts all of them together\n"
    small = sgdsim("run", "valley.toml", "--shard", "1/2", "-o", "small", "--memory-limit", "1 B")
    assert "memory_limit: the run needs" in small.stderr
    assert sgdsim("peek", "parts/1-of-2.shard").stdout.startswith("parts/1-of-2.shard: finished")
    merged = sgdsim("merge", "parts")
    assert merged.stdout.startswith("parts.h5: 2,000 trajectories in ")
    assert sgdsim("info", "parts.h5", "--digest").stdout == sgdsim("info", "whole.h5", "--digest").stdout
    assert sgdsim("compare", "parts.h5").stdout in merged.stdout


def test_a_run_that_is_finished_is_read_where_it_is_resumed(folder):
    """It printed the speed of the old run, as if it had been computed again."""
    first, *verdicts = sgdsim("run", "valley.toml", "-o", "run.h5", "--resume").stdout.splitlines()
    assert "trajectory-steps/s" in first
    for again in (["run", "valley.toml", "-o", "run.h5", "--resume"], ["resume", "run.h5"]):
        said = ["run.h5: is finished, nothing was left to compute", *verdicts]
        assert sgdsim(*again).stdout.splitlines() == said
        assert "memory_limit: 'abc', expected a size such as 500MB" in refused(*again, "--memory-limit", "abc")
        assert "--threads: 0, expected 1 to" in refused(*again, "--threads", 0)
    assert "finished" in sgdsim("peek", "run.h5").stdout
    assert sorted(path.name for path in folder.iterdir()) == ["run.h5", "valley.toml"]


@pytest.mark.parametrize(
    ("command", "message"),
    [
        (["run", "valley.toml", "--checkpoint-every", "soon"], "--checkpoint-every: 'soon', expected a time such as"),
        (["run", "valley.toml", "--checkpoint-every", "0s"], "--checkpoint-every: '0s', expected a time such as"),
        (["run", "valley.toml", "--shard", "1/2"], "--shard: expected --output with a folder"),
        (["run", "valley.toml", "--shard", "3/2", "-o", "parts"], "--shard: '3/2', expected a number from 1 to 2"),
        (["run", "valley.toml", "--shard", "1/2", "-o", "valley.toml"], "cannot make this folder"),
        (["merge", "parts"], "parts: no such folder"),
        (["merge", "."], "holds no shards"),
        (["resume", "none.h5"], "none.h5: there is nothing to resume"),
        (["resume", "none.shard"], "none.shard: there is nothing to resume"),
        (["resume", "none.shard", "--dask", "local:1"], "--dask: makes shards of its own, and this is one"),
        (["peek", "none.h5"], "none.h5: no such file, and no checkpoints beside it"),
    ],
)
def test_what_cannot_be_resumed_or_merged_is_refused_and_changes_nothing(command, message, folder):
    result = sgdsim(*command)
    assert (result.exit_code, result.stdout) == (2, "")
    assert message in result.stderr
    assert len(result.stderr.splitlines()) == 1
    assert [path.name for path in folder.iterdir()] == ["valley.toml"]


# Interrupts.


def test_an_interrupt_has_its_exit_code(monkeypatch):
    monkeypatch.setattr("sgdsim.app.catalogue.catalogue", lambda kind: (_ for _ in ()).throw(KeyboardInterrupt))
    result = sgdsim("list")
    assert (result.exit_code, result.stderr) == (130, "Interrupted; nothing unfinished is left behind.\n")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_an_interrupt_that_is_lost_in_the_final_write_ends_the_command(number, folder, monkeypatch):
    """In a call-back from C, as HDF5 has many, Python only reports it and goes on."""
    original = writing.labelled

    def interrupted(*arguments: Any) -> Any:
        ctypes.CFUNCTYPE(None)(lambda: signal.raise_signal(number))()
        return original(*arguments)

    monkeypatch.setattr(writing, "labelled", interrupted)
    result = sgdsim("run", "valley.toml", "-o", "out.h5")
    assert (result.exit_code, result.stdout) == (128 + number, "")  # nothing was printed, let alone compared
    assert result.stderr.endswith("; nothing unfinished is left behind.\n")
    assert sorted(path.name for path in folder.iterdir()) == ["out.h5", "valley.toml"]
    assert ensemble.Ensemble.open("out.h5").attributes["title"] == VALLEY["title"]  # it is whole


@pytest.mark.parametrize("number", daily([signal.SIGINT, signal.SIGTERM, signal.SIGHUP], signal.SIGTERM))
def test_a_signal_ends_a_long_run_at_once_and_leaves_a_checkpoint(number, folder):
    """On a terminal, as a user would; measured from the signal to the message."""
    master, slave = pty.openpty()
    fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 100, 0, 0))
    # In the background of a script, or under nohup, signals are ignored from the start, and would be here.
    heeding = (
        "import os, signal, sys; signal.signal(int(sys.argv[1]), signal.SIG_DFL); os.execv(sys.argv[2], sys.argv[2:])"
    )
    command = [sys.executable, "-m", "sgdsim", "run", "valley.toml", "--trajectories", "4e5", "--steps", "1e6"]
    process = subprocess.Popen(
        [sys.executable, "-c", heeding, str(int(number)), *command], stdout=subprocess.PIPE, stderr=slave, text=True
    )
    os.close(slave)
    assert process.stdout is not None
    try:
        seen = read_until(master, "million/s")  # the bar: compiled, and under way
        assert (folder / "results").is_dir()
        began = time.perf_counter()
        process.send_signal(number)
        seen = read_until(master, "from there")
        elapsed = time.perf_counter() - began
        assert process.wait(10) == 128 + number
        assert process.stdout.read() == ""
    finally:
        process.kill()
        process.wait()
        process.stdout.close()
        os.close(master)
    assert "Traceback" not in seen
    assert elapsed < 1.0  # 0.2 s on a machine that does nothing else
    kept = {path.name for path in (folder / "results" / "valley.h5.unfinished").iterdir()}
    assert "00000001.state" in kept
    assert "lock" not in kept


def read_until(descriptor: int, text: str) -> str:
    seen = ""
    while text not in seen:
        seen += os.read(descriptor, 4096).decode(errors="replace")
    return seen


def test_nothing_is_drawn_where_there_is_no_terminal(folder):
    command = [sys.executable, "-m", "sgdsim", "run", "valley.toml", "--no-compare"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    # A line on the compiler is said where that takes more than a second.
    assert (done.returncode, re.sub(r"^compiling .* …\n", "", done.stderr)) == (0, "")
    assert (folder / "results" / "valley.h5").is_file()


# Standard streams.


@pytest.mark.parametrize("closed", daily(["2>&-", "<&- >&- 2>&-"], "2>&-"))
def test_a_closed_stream_loses_no_run(closed, home, folder):
    """As of services; the number of the stream must not become that of the result, into which libraries would print."""
    command = f"exec '{sys.executable}' -m sgdsim run valley.toml -o out.h5 {closed}"
    done = subprocess.run(["sh", "-c", command], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert ("agrees" in done.stdout) == (closed == "2>&-")
    assert ensemble.Ensemble.open("out.h5").digest() == ensemble.Ensemble.open(home / "valley.h5").digest()


def test_a_closed_stream_gives_its_number_to_no_file():
    code = """
import os
from sgdsim.app.catalogue import entries
from sgdsim.app.cli import main

main(["list", "losses"], standalone_mode=False)
print(os.open(os.devnull, os.O_RDONLY))
"""
    command = ["sh", "-c", 'exec "$0" -c "$1" <&- 2>&-', sys.executable, code]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert int(done.stdout.split()[-1]) > 2


@pytest.mark.validate
def test_a_warning_that_cannot_be_told_loses_no_run(folder):
    options = ["run", "valley.toml", "-o", "out.h5", "--set", "optimizer.learning_rate=2.5", "--no-compare"]
    assert "trajectories may diverge" in sgdsim(*options).stderr
    Path("out.h5").unlink()
    with open("/dev/full", "w", encoding="utf-8") as full:
        done = subprocess.run([sys.executable, "-m", "sgdsim", *options], stderr=full, check=False)
    assert done.returncode == 0
    assert ensemble.Ensemble.open("out.h5").attributes["title"] == VALLEY["title"]


def test_what_moves_a_cursor_or_is_no_text_is_printed_escaped(folder):
    """A title may come with a file from anywhere, and hide what the terminal shows."""
    title = "\x1b[2J\x1b]0;owned\x07 \u202e\ufeff \x9b1m\r é ± 谷"
    Path("wild.toml").write_text(toml.dumps({**VALLEY, "title": title}), encoding="utf-8")
    assert sgdsim("run", "wild.toml", "-o", "wild.h5", "--quiet", "--no-compare").exit_code == 0
    shown = sgdsim("info", "wild.h5").stdout
    assert r"\x1b[2J\x1b]0;owned\x07 \u202e\ufeff \x9b1m\r é ± 谷" in shown
    assert all(one.isprintable() or one == "\n" for one in shown)
    error = refused("run", "wild.toml", "--set", "loss.name='\x1b[2J'", "-o", "other.h5")
    assert "\x1b" not in error


@pytest.mark.validate
def test_paths_and_terminals_without_the_letters(folder):
    name = os.fsdecode(b"out\xff.h5")
    result = sgdsim("run", "valley.toml", "-o", name)
    assert result.exit_code == 0
    assert result.stdout.startswith(r"out\udcff.h5: 2,000 trajectories")
    command = [sys.executable, "-m", "sgdsim", "compare", name, "--all"]
    environment = {**os.environ, "PYTHONIOENCODING": "ascii"}
    done = subprocess.run(command, capture_output=True, env=environment, check=False)
    assert (done.returncode, done.stderr) == (0, b"")
    assert rb" \xb1 " in done.stdout


# A working folder that is gone.

SMALL = ["simulate", "--loss", "x**2/2", "--parameter", "x=1", "--learning-rate", "0.1", "--trajectories", "8"]
SMALL += ["--steps", "2"]


@pytest.mark.parametrize(
    "command",
    [
        ["run", "river_valley", "--trajectories", "8", "--steps", "2"],
        ["run", "river_valley", "--trajectories", "8", "--steps", "2", "-o", "out.h5"],
        [*SMALL, "--save-scenario", "mine.toml"],
        ["compare", "out.h5"],
        ["info", "out.h5"],
        ["plot", "out.h5"],
        ["schedule", "--measure", "out.h5"],
    ],
)
def test_a_working_folder_that_is_gone_is_one_sentence(command, tmp_path, monkeypatch):
    (tmp_path / "gone").mkdir()
    monkeypatch.chdir(tmp_path / "gone")
    (tmp_path / "gone").rmdir()
    result = sgdsim(*command)
    assert (result.exit_code, result.stdout) == (2, "")
    assert result.stderr.startswith("Error: ")
    assert result.stderr.count("\n") == 1


@pytest.mark.validate
def test_numbers_of_the_schedule_are_read_like_all_others():
    given = ["--noise", "1", "--slope", "0.02", "--peak", ".1", "--steps", "6e1"]
    assert sgdsim("schedule", "--curvature", "1_0e-1", *given).exit_code == 0
    for text in ("1e-400", "1__0", "nan", "x"):
        expected = f"Invalid value for '--curvature': '{text}', expected a number such as 0.5 or 5e-3"
        assert expected in refused("schedule", "--curvature", text, *given)


@pytest.mark.parametrize(
    ("command", "message"),
    [
        (["show", "valley", "--constant", "a=1"], "--constant: expected it with a loss, and valley is a law"),
        (["show", "valley", "--no-symmetries", "--json"], "--no-symmetries: expected it with a loss, and valley"),
        (["schedule", "cosine:0.1,0.01", "--overwrite"], "--overwrite: expected it without cosine:0.1,0.01"),
        (["schedule", "--curvature", 1, "--overwrite"], "--overwrite: expected it with --output"),
        (["suite", "--score", "some.csv", "--overwrite"], "--overwrite: expected it with --output"),
    ],
)
def test_options_that_would_say_nothing_are_refused(command, message):
    assert refused(*command).startswith(f"Error: {message}")


def test_a_reader_that_has_had_enough_is_no_failure(folder):
    """As `head`, which ended in exit code 1, that of a failed run."""
    command = [sys.executable, "-m", "sgdsim", "list", "predictions"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as ours:
        assert ours.stdout is not None
        ours.stdout.close()
        assert (ours.stderr.read(), ours.wait()) == ("", 128 + signal.SIGPIPE)
