"""The command that takes a scenario by its options: it means what a scenario file means."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import h5py
import pytest
from click.testing import CliRunner, Result

from sgdsim import theory
from sgdsim.app.cli import main
from sgdsim.base import toml
from sgdsim.input.file_references import inline_files
from sgdsim.input.loading import save_scenario
from sgdsim.model.loss import Loss

LOSS = "(u*w*x - y)**2/2"
TRAP = ["--loss", LOSS, "--parameter", "u=1.5", "--parameter", "w=normal:0,0.3", "--noise", "x=normal"]
TRAP += ["--noise", "e=normal:0,0.5", "--define", "y = 0.8*x + e", "--observable", "q = u**2 - w**2"]
RUN = ["--learning-rate", "0.05", "--batch-size", "4", "--trajectories", "1e3", "--steps", "40", "--every", "20"]
WHOLE = [*TRAP, *RUN, "--seed", "7", "--histogram", "q:-4,4,200", "--snapshot", "40", "--snapshot", "20"]
# As measured: little of it is lost in 40 small steps.
CLAIM = ["--predict", "mean(q) = 2.11; at=final; resolution=1"]
FILE = """\
[loss]
formula = "(u*w*x - y)**2/2"

[loss.parameters]
u = 1.5
w = "normal:0,0.3"

[loss.noise]
x = "normal"
e = "normal:0,0.5"

[loss.define]
y = "0.8*x + e"

[optimizer]
learning_rate = 0.05
batch_size = 4

[run]
trajectories = 1000
steps = 40
seed = 7

[record]
every = 20
snapshots = [40, 20]

[record.observables]
q = "u**2 - w**2"

[record.histograms]
q = [-4, 4, 200]

[[predict]]
formula = "mean(q) = 2.11; at=final; resolution=1"
"""


def sgdsim(*arguments: object) -> Result:
    """Call the command; whatever is not an exit is a traceback, and a failure of the test."""
    return CliRunner(catch_exceptions=False).invoke(main, [str(argument) for argument in arguments])


def refused(*arguments: object) -> str:
    """Call a command that must end with exit code 2 and a message, and leave nothing behind."""
    before = sorted(Path.cwd().rglob("*"))
    result = sgdsim("simulate", *arguments)
    assert result.exit_code == 2, result.output
    assert result.stdout == ""
    assert "Error: " in result.stderr
    assert sorted(Path.cwd().rglob("*")) == before
    return result.stderr


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def digest(path: object) -> str:
    return sgdsim("info", path, "--digest").stdout


def test_help_shows_every_option_and_imports_click_alone():
    code = """
import sys
from sgdsim.app.cli import main
main(["simulate", "--help"], standalone_mode=False)
heavy = {"numpy", "numba", "sympy", "scipy", "pydantic", "h5py", "xarray"} & set(sys.modules)
assert not heavy, heavy
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    names = "loss parameter constant noise define data symmetry optimizer learning-rate momentum weight-decay"
    names += " batch-size sampling from dtype noise-dtype every observable histogram quantile covariances"
    names += " autocorrelation drift snapshot snapshot-trajectories sweep no-automatic title save-scenario output"
    names += " trajectories steps seed threads set predict no-compare overwrite quiet"
    for name in names.split():
        assert f"--{name} " in done.stdout.replace("\n", " ")


def test_options_mean_what_a_file_means(folder):
    """One run by options, one of the scenario that it saved, one of the same scenario by hand."""
    result = sgdsim("simulate", *WHOLE, *CLAIM, "--no-automatic", "--save-scenario", "saved.toml", "--all")
    assert (result.exit_code, result.stderr) == (0, "")
    first, header, row, *_ = result.stdout.splitlines()
    assert first.startswith("results/custom.h5: 1,000 trajectories in ")
    assert header.split()[:3] == ["id", "quantity", "predicted"]
    assert row.split()[:2] == ["claim", "mean(q)"]
    assert (folder / "saved.toml").read_text(encoding="utf-8") == FILE
    Path("hand.toml").write_text(FILE, encoding="utf-8")
    for name in ("saved", "hand"):
        assert sgdsim("run", f"{name}.toml", "--no-compare", "--quiet").exit_code == 0
    assert digest("results/custom.h5") == digest("results/saved.h5") == digest("results/hand.h5")
    with h5py.File("results/custom.h5") as file:
        assert file.attrs["scenario_name"] == "custom"
        assert list(file["snapshot_step"]) == [20, 40]
    # What stands there is replaced only by those who ask for it.
    assert "results/custom.h5: the file exists, and --overwrite replaces it" in refused(*WHOLE)
    assert "saved.toml: the file exists" in refused(*WHOLE, "-o", "new.h5", "--save-scenario", "saved.toml")
    again = [*WHOLE, "--no-automatic", "--predict", "mean(q) = 99; resolution=1", "--save-scenario", "saved.toml"]
    result = sgdsim("simulate", *again, "--overwrite", "--quiet")
    assert (result.exit_code, result.output) == (1, "")
    assert "mean(q) = 99" in (folder / "saved.toml").read_text(encoding="utf-8")


@pytest.mark.validate
def test_laws_that_do_not_apply_say_so():
    result = sgdsim("simulate", *WHOLE, "-o", "out.h5", "--all")
    assert result.exit_code == 0
    with h5py.File("out.h5") as file:
        scenario = toml.loads(file.attrs["scenario"], "the file")
    assert [entry["id"] for entry in scenario["predict"]] == list(theory.AUTOMATIC)
    assert "valley, valley-energy, correlations, equipartition, heat-capacity do not apply: " in result.stdout


def test_a_loss_of_the_catalogue_and_a_sweep():
    options = ["--loss", "river_valley", "--set", "loss.a=a0", "--set", "loss.c=c2*y**2/2", "--constant", "a0=1"]
    options += ["--constant", "c2=0.1", "--parameter", "x=0", "--parameter", "y=1", "--noise", "normal"]
    options += ["--sweep", "optimizer.learning_rate=0.5,0.25", "--snapshot", "final", "--trajectories", 500]
    options += ["--steps", 20, "--device", "python"]
    result = sgdsim("simulate", *options, "--no-compare", "--title", "A valley", "--quiet")
    assert (result.exit_code, result.output) == (0, "")
    with h5py.File("results/river_valley.h5") as file:
        assert file.attrs["title"] == "A valley"
        assert file["status"].shape == (2, 500)


def test_without_noise():
    options = ["--loss", "u**2/2", "--parameter", "u=1", "--learning-rate", 0.5, "--trajectories", 8, "--steps", 3]
    options += ["--no-automatic", "--device", "python"]
    result = sgdsim("simulate", *options, "--predict", "mean(u) = 0.125; resolution=1e-6")
    assert result.exit_code == 0, result.output


@pytest.mark.validate
def test_what_overflows_is_said_and_drawn_without_a_warning():
    """A collapse over learning rates and noise of which some multiply x by 1e62 a step."""
    options = ["--loss", "(a + s*xi)*x**2/2", "--parameter", "x=1", "--constant", "a=1", "--noise", "xi=normal"]
    options += ["--constant", "s=1", "--learning-rate", 0.1, "--trajectories", 64, "--steps", 120, "-o", "a.h5"]
    grid = 'sweep.grid={"optimizer.learning_rate"=[0.1, 1e60], "loss.constants.s"=[0.1, 100]}'
    result = sgdsim("simulate", *options, "--set", grid, "--all", "--device", "python")
    assert result.exit_code in (0, 1), result.output
    assert "encountered" not in result.stderr
    assert "affine-moments does not apply: point 2, 3: the moments after 120 steps are beyond" in result.stdout
    drawn = sgdsim("plot", "a.h5", "-o", "a.svg")
    assert (drawn.exit_code, drawn.stderr) == (0, ""), drawn.output
    report = sgdsim("theory", "a.h5", "--point", 3)
    assert (report.exit_code, report.stderr) == (0, ""), report.output


def test_names_have_more_than_one_spelling():
    """The micro sign and the Greek mu, the symbol phi and the letter, all over one command line."""
    options = ["--loss", "µ*ϕ**2/2 + ϵ*φ", "--parameter", "φ=1", "--constant", "μ=1", "--noise", "ε=normal"]
    options += ["--learning-rate", 0.1, "--trajectories", 8, "--steps", 4, "--device", "python", "--no-automatic"]
    options += ["--observable", "ω = ϕ**2", "--histogram", "ϕ,ω:-3,3,4,0,4,4", "--drift", "φ|ϕ:-3,3,4"]
    options += ["--autocorrelation", "ϕ:2:1", "--control", "ϕ", "--sweep", "loss.constants.µ=1,0.5"]
    options += ["--predict", "mean(ϕ) = 0*µ", "--predict", 'variance(φ) = { "µ" = [1, 0.5], value = [1, 1] }']
    options += ["--set", "loss.constants.µ=2", "--all"]
    result = sgdsim("simulate", *options, "--save-scenario", "saved.toml", "-o", "a.h5")
    assert result.exit_code == 0, result.output
    assert "claim  variance(φ) over μ" in result.stdout
    changed = ["--set", "sweep={}", "--set", "predict=[]", "--set", "loss.constants.µ=3", "--device", "python"]
    assert sgdsim("run", "saved.toml", *changed, "-o", "b.h5", "--no-compare").exit_code == 0
    with h5py.File("a.h5") as first, h5py.File("b.h5") as second:
        assert list(first["sweep_loss.constants.μ"]) == [1.0, 0.5]
        assert toml.loads(second.attrs["scenario"], "the file")["loss"]["constants"] == {"μ": 3.0}
    twice = ["--loss", "x*µ", "--parameter", "x=1", "--learning-rate", 1, "--trajectories", 8, "--steps", 4]
    assert "--constant 'μ=2': μ is given already" in refused(*twice, "--constant", "µ=1", "--constant", "μ=2")


def test_what_becomes_not_a_number_is_foreseen_and_named():
    options = ["--loss", "x**(2*mu)/2", "--parameter", "x=grid:-1,1", "--learning-rate", 0.1, "--trajectories", 5]
    options += ["--steps", 4, "--no-automatic", "--device", "python", "--sweep", "loss.constants.mu=1,1.25"]
    result = sgdsim("simulate", *options, "--no-compare")
    assert result.exit_code == 0, result.output
    warning = "Warning: loss: x**(2*mu) is not a number where x is negative, and a trajectory ends there\n"
    assert result.stderr == warning
    assert "; WARNING: 2 became not a number (a root, power or logarithm of a negative number" in result.stdout
    assert "diverged" not in result.stdout


def test_a_saved_scenario_leads_to_the_same_files(folder):
    (folder / "there").mkdir()
    Path("rates.txt").write_text("0.1\n0.05\n", encoding="utf-8")
    data = {"loss": {"formula": "x**2/2"}, "optimizer": {"learning_rate": "file:rates.txt"}}
    save_scenario(data, "there/mine.toml", "mine.h5")
    saved = toml.loads(Path("there", "mine.toml").read_text(encoding="utf-8"), "there")
    assert saved["optimizer"]["learning_rate"] == f"file:{Path('..', 'rates.txt')}"
    assert inline_files(saved, "there") == inline_files(data)


def test_files_are_read_before_anything_is_written():
    Path("rates.txt").write_text("0.1\nfast\n", encoding="utf-8")
    message = refused(*TRAP, *RUN, "--learning-rate", "file:rates.txt", "--save-scenario", "mine.toml")
    assert "Error: --learning-rate: rates.txt: row 2 (line 2), column 1: 'fast', expected" in message


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        # What click refuses.
        (["--steps", "abc"], "Invalid value for '--steps': 'abc', expected a whole number such as 5000, 5_000 or 5e3"),
        (["--batch-size", "1.5"], "Invalid value for '--batch-size': '1.5', expected a whole number"),
        (["--every", ""], "Invalid value for '--every': '', expected a whole number"),
        (["--learning-rte", "1"], "No such option"),
        # The form of an option.
        (["--parameter", "u"], "Error: --parameter 'u': expected NAME=VALUE with a number or a distribution"),
        (["--parameter", "u=2"], "Error: --parameter 'u=2': u is given already, expected it once"),
        (["--constant", "a"], "Error: --constant 'a': expected NAME=NUMBER"),
        (["--noise", "x"], "Error: --noise 'x': expected NAME=DISTRIBUTION"),
        (["--define", "y"], "Error: --define 'y': expected 'NAME = FORMULA'"),
        (["--observable", "u"], "Error: --observable 'u': expected 'NAME = FORMULA'"),
        (["--histogram", "u"], "Error: --histogram 'u': expected NAME:LOW,HIGH,BINS"),
        (["--autocorrelation", "u"], "Error: --autocorrelation 'u': expected NAME:FROM:LAG"),
        (["--drift", "u"], "Error: --drift 'u': expected NAME:LOW,HIGH,BINS"),
        (["--quantile", "u"], "Error: --quantile 'u': expected a number between 0 and 1"),
        (["--snapshot", "u"], "Error: --snapshot 'u': expected a step, or final"),
        (["--sweep", "u"], "Error: --sweep 'u': expected KEY=VALUE,VALUE"),
        (["--set", "u"], "Error: --set 'u': expected KEY=VALUE"),
        (["--optimizer", "adam:0.9"], "Error: --optimizer 'adam:0.9': expected NAME, or NAME:KEY=VALUE"),
        (["--momentum", "u"], "Error: --momentum 'u': expected a number"),
        (["--learning-rate", ""], "Error: --learning-rate '': expected a number, or a text such as"),
        (["--weight-decay", ""], "Error: --weight-decay '': expected a number, or a text such as"),
        # What it says.
        (["--loss", "u**2 + ww"], "unknown name 'ww': did you mean 'w'?"),
        (["--loss", "river"], "--loss: unknown loss 'river': "),
        (["--predict", "vally"], "--predict: unknown law 'vally': did you mean 'valley'?"),
        (["--predict", "mean(u) = file:c.csv"], "--predict: c.csv: no such file"),
        (["--loss", "2*"], "invalid syntax"),
        (["--parameter", "v=normla:0,1"], "--parameter v: unknown distribution 'normla': did you mean 'normal'?"),
        (["--parameter", "v=nan"], "--parameter v: unknown distribution 'nan'"),
        (["--noise", "z=normal:0,-1"], "--noise z: 'normal:0,-1' needs std >= 0"),
        (["--noise", "p,q=normal:C.csv"], "Error: --noise p,q: C.csv: no such file"),
        (["--symmetry", "generator:G.csv"], "Error: --symmetry: G.csv: no such file"),
        (["--data", "D.csv"], "Error: --data: D.csv: no such file"),
        (["--optimizer", "sgdd"], "--optimizer: unknown optimizer 'sgdd': did you mean 'sgd'?"),
        (["--optimizer", "sgd:beta=1"], "optimizer.beta: unknown key of sgd 'beta'"),
        (["--learning-rate", "-1"], "--learning-rate: -1, expected a finite positive number"),
        (["--learning-rate", "file:R.csv"], "Error: --learning-rate: R.csv: no such file"),
        (["--batch-size", "0"], "--batch-size: 0, expected a whole number"),
        (["--trajectories", "0"], "--trajectories: 0, expected a whole number from 1"),
        (["--steps", "-5"], "--steps: -5, expected a whole number from 1"),
        (["--seed", "-1"], "--seed: -1, expected a whole number of at most 64 bits"),
        (["--dtype", "float16"], "--dtype: unknown dtype 'float16'"),
        (["--noise-dtype", "float16"], "--noise-dtype: unknown dtype 'float16'"),
        (["--every", "0"], "--every: 0, expected a whole number from 1"),
        (["--snapshot", "41"], "41"),
        (["--observable", "r = uu"], "unknown name 'uu'"),
        (["--histogram", "qq:0,1,5"], "--histogram qq: unknown observable 'qq': did you mean 'q'?"),
        (["--histogram", "q:1,0,5"], "--histogram q: [1"),
        (["--set", "run.stesp=5"], "run.stesp: unknown key 'stesp': did you mean 'steps'?"),
        (["--sweep", "rum.steps=5,6"], "sweep.rum.steps: unknown section to sweep 'rum'"),
        (["--predict", "varance(u) = 1"], "unknown statistic 'varance': did you mean 'variance'?"),
        (["--threads", "0"], "--threads: 0, expected 1 to "),
        (["-o", "missing/out.h5"], "missing/out.h5: there is no folder missing"),
        (["-o", "missing/out.h5", "--save-scenario", "s.toml"], "missing/out.h5: there is no folder missing"),
        (["--save-scenario", "missing/s.toml"], "missing/s.toml: there is no folder missing"),
        (["--save-scenario", "."], ".: a folder, expected the name of a file"),
        (["-o", "s.toml", "--save-scenario", "./s.toml"], "./s.toml: is the output too, expected another file"),
        (["--title", "\udcff"], "is no text in UTF-8"),
    ],
)
def test_bad_options(arguments, message):
    assert message in refused(*TRAP, *RUN, *arguments)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "--loss: is missing, expected a formula, a name, or a --direction of each parameter"),
        (TRAP, "--learning-rate: is missing, expected a number or a schedule"),
        (TRAP, "--trajectories: is missing, expected a whole number"),
        (TRAP, "--steps: is missing, expected a whole number"),
    ],
)
def test_missing_options(arguments, message):
    assert message in refused(*arguments)


def test_all_problems_at_once():
    message = refused(*TRAP, *RUN, "--learning-rate", "-1", "--seed", "-1", "--parameter", "v=normla")
    assert all(option in message for option in ("--learning-rate: -1", "--seed: -1", "--parameter v: "))


def test_a_run_goes_on_where_another_ended(folder):
    """From its last states, as many trajectories, with noise of its own: the same seed would draw the same again."""
    first = ["simulate", *TRAP, *RUN, "--seed", "7", "--snapshot", "final", "--no-automatic", "--quiet"]
    assert sgdsim(*first, "-o", "first.h5").exit_code == 0
    rates = ["--learning-rate", "0.05", "--batch-size", "4", "--device", "python"]
    again = [*TRAP, *rates, "--steps", "2", "--from", "first.h5", "--snapshot", "0", "--no-automatic"]
    assert sgdsim("simulate", *again, "-o", "second.h5", "--quiet").exit_code == 0
    with h5py.File("first.h5") as one, h5py.File("second.h5") as two:
        assert (two["theta"][0] == one["theta"][0]).all()
        assert two.attrs["seed"] == "8"
    assert "run.from, whose noise would come again" in refused(*again, "--seed", "7", "-o", "third.h5")


def test_results_go_to_a_folder_that_is_made(folder):
    assert sgdsim("simulate", *TRAP, *RUN, "--no-automatic", "--quiet", "-o", "results/mine.h5").exit_code == 0
    assert Path("results/mine.h5").exists()


@pytest.mark.validate  # 10 s of compilation
def test_observables_of_the_step_are_read_like_all_others(folder):
    """What they are in numbers is tested with the recorders."""
    texts = {
        "work": "window_sum(next(loss) - loss, 0, 40)",
        "force": "window_mean(gradient(u)*population_gradient(u)*learning_rate, 0, 40)",
        "late": "value_at(charge(rescale), 20)",
        "out": "first_passage(u > 1.55)",
        "flat": "hessian_trace + hessian_max",
    }
    options = [part for name, text in texts.items() for part in ("--observable", f"{name} = {text}")]
    command = ["simulate", *TRAP, "--symmetry", "rescale:u:1,w:-1", *RUN, *options, "--no-automatic", "--quiet"]
    assert sgdsim(*command, "-o", "steps.h5").exit_code == 0
    with h5py.File("steps.h5") as file:
        names = [name.decode() for name in file["observable"][:]]
        count = dict(zip(names, file["count"][0], strict=True))
        assert names[-5:] == list(texts)
        assert count["late"] == count["out"] == 0  # they have no value yet
        assert (file["count"][-1][names.index("late")] == 1000).all()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--parameter", "v,z=level:1"], "expected level:charge,product"),
        (["--parameter", "v,z=1"], "u,w=level:CHARGE,PRODUCT"),
        (["--quantile", "0.5"], "are read off histograms, of which there are none"),
        (["--set", "record.drift.u.evry=3"], "unknown key 'evry': did you mean 'every'?"),
        (["--optimizer", "langevin"], "langevin has no default for it"),
        (["--autocorrelation", "u:38:1,5"], "lags: 5, expected an integer from 0 to 2"),
        (["--observable", "bad = next(u)"], "unknown name 'next(u)'"),
        (["--observable", "bad = window_sum(x, 0, 40)"], "expected the noise of single samples"),
        (["--sampling", "epoch"], "expected only with a data set"),
    ],
)
def test_bad_input_of_recorders_and_optimizers(options, message):
    assert message in refused(*TRAP, *RUN, *options, "-o", "no.h5")


# How often anything is made.


def counted(monkeypatch: pytest.MonkeyPatch) -> dict[str, int]:
    """Counts of losses made, and of TOML texts written and read, from now on."""
    counts = {"losses": 0, "written": 0, "read": 0}

    def count(owner: Any, name: str, what: str) -> None:
        original = getattr(owner, name)

        def counting(*arguments: Any, **named: Any) -> Any:
            counts[what] += 1
            return original(*arguments, **named)

        monkeypatch.setattr(owner, name, counting)

    count(Loss, "__post_init__", "losses")
    count(toml, "dumps", "written")
    count(toml.tomllib, "loads", "read")
    return counts


SWEPT = ["--sweep", "optimizer.learning_rate=0.05,0.1,0.15", *RUN, "--device", "python", "--steps", "2", "--every", "2"]
SWEPT += ["--trajectories", "64"]
SWEPT += ["--no-compare", "--quiet"]


@pytest.mark.parametrize(
    ("more", "expected"),
    [
        ([], {"losses": 1, "written": 1, "read": 0}),
        (["--no-automatic"], {"losses": 1, "written": 1, "read": 0}),
        (["--predict", "mean(u) = 1.5; resolution=1"], {"losses": 1, "written": 1, "read": 0}),
        (["--constant", "a=1", "--sweep", "loss.constants.a=1,2,3"], {"losses": 3, "written": 1, "read": 0}),
        (["--save-scenario", "mine.toml"], {"losses": 1, "written": 2, "read": 0}),  # as it was given, too
    ],
)
@pytest.mark.filterwarnings("ignore:loss.constants.a:RuntimeWarning")
def test_a_loss_is_made_once_and_the_text_written_once(more, expected, monkeypatch):
    """It was six losses, two texts written and one read, of three points that share their loss."""
    counts = counted(monkeypatch)
    result = sgdsim("simulate", *TRAP, *SWEPT, *more, "-o", "out.h5")
    assert (result.exit_code, result.output) == (0, "")
    assert counts == expected


def test_a_file_is_read_once_and_its_text_written_once(monkeypatch):
    Path("hand.toml").write_text(FILE, encoding="utf-8")
    counts = counted(monkeypatch)
    few = ["--steps", "40", "--trajectories", "32", "--device", "python"]
    assert sgdsim("run", "hand.toml", "--no-compare", "--quiet", *few).exit_code == 0
    assert counts == {"losses": 1, "written": 1, "read": 1}


# What is asked for, and what is not.


def test_nothing_is_recorded_for_laws_where_nothing_is_compared():
    """It was four snapshots of two: twice the memory."""
    trap = ["--loss", "(x - z)**2/2", "--parameter", "x=1", "--noise", "z=normal", "--learning-rate", "0.5"]
    trap += ["--trajectories", "64", "--steps", "8", "--every", "1", "--device", "python", "--quiet"]
    trap += ["--snapshot", "1", "--snapshot", "2"]
    assert sgdsim("simulate", *trap, "--no-compare", "-o", "file.h5").exit_code == 0
    assert sgdsim("simulate", *trap, "-o", "compared.h5").exit_code == 0
    with h5py.File("file.h5") as file, h5py.File("compared.h5") as compared:
        assert list(file["snapshot_step"]) == [1, 2]
        assert toml.loads(file.attrs["scenario"], "the file")["predict"] == []
        assert len(compared["snapshot_step"]) > 2
    asked = ["--no-compare", "--set", 'predict=[{id="valley"}]']
    assert sgdsim("simulate", *trap, *asked, "-o", "asked.h5").exit_code == 0
    with h5py.File("asked.h5") as file:
        assert toml.loads(file.attrs["scenario"], "the file")["predict"] == [{"id": "valley"}]
        assert len(file["snapshot_step"]) > 2


@pytest.mark.validate
def test_a_law_that_is_set_is_in_the_table():
    """It was left out in silence where laws are tried without being asked for."""
    run = ["--learning-rate", "0.05", "--trajectories", "64", "--steps", "4", "--device", "python"]
    for more in ([], ["--no-automatic"]):
        claim = ["--set", 'predict=[{id="virial"}]', "--all"]
        result = sgdsim("simulate", *TRAP, *run, *more, *claim, "-o", f"{len(more)}.h5")
        assert result.exit_code == 0
        assert "virial" in result.stdout
        assert ("lyapunov" in result.stdout) == (not more)


def test_a_run_does_not_replace_the_one_that_it_goes_on_from(folder):
    """With --overwrite its parent was gone, without a word."""
    once = ["--learning-rate", "0.05", "--steps", "2", "--device", "python", "--no-automatic", "--quiet"]
    assert sgdsim("simulate", *TRAP, *once, "--trajectories", 8, "--snapshot", "final", "-o", "x.h5").exit_code == 0
    whole = (folder / "x.h5").read_bytes()
    (folder / "link.h5").symlink_to("x.h5")
    for output in ("x.h5", "link.h5"):
        message = refused(*TRAP, *once, "--from", "x.h5", "-o", output, "--overwrite")
        assert message == f"Error: {output}: is read for this, expected another file to write to\n"
    assert (folder / "x.h5").read_bytes() == whole
    assert sgdsim("simulate", *TRAP, *once, "--from", "x.h5", "-o", "next.h5", "--overwrite").exit_code == 0
    assert sgdsim("info", "next.h5").exit_code == 0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["-o", "new/"], "Error: new/: a folder, expected the name of a file\n"),
        (["--save-scenario", "new/"], "Error: new/: a folder, expected the name of a file\n"),
        (["-o", "loop"], "Error: loop: a link that leads back to itself, expected the name of a file\n"),
        (["--save-scenario", "loop"], "Error: loop: a link that leads back to itself, expected the name of a file\n"),
        (["--set", f"title={'[' * 400}{']' * 400}"], "title: nested too deeply, expected at most 32 levels\n"),
        (["--set", f"{'.'.join(['a'] * 3000)}=1"], "has 3000 names between dots, expected at most 32\n"),
        (["--constant", "a=1e-400"], "Error: --constant 'a=1e-400': 1e-400 is below the smallest float, expected 0"),
        (["--histogram", "q:-1,1,1e9"], "--histogram q: [-1.0, 1.0, 1000000000.0], expected at most 16777216 bins\n"),
        (["--histogram", "q,u:0,1,1e5,0,1,1e5"], "--histogram q,u: 100000 by 100000 bins, expected at most 16777216"),
        (["--histogram", "q:-1e308,1e308,10"], "expected a width (high - low)/bins that floats can hold"),
        (["--histogram", "q:0,5e-324,1"], "expected a width (high - low)/bins that floats can hold"),
        (["--drift", "q:-1,1,1e9"], "--drift q.bins: [-1.0, 1.0, 1000000000.0], expected at most 16777216 bins\n"),
        (["--sweep", "optimizer.learning_rate=0.1,cosine:0.1,0.001"], "is this 3 values, 0.1;cosine:0.1;0.001, or 2,"),
    ],
)
def test_what_took_memory_or_ended_in_a_traceback_is_one_sentence(arguments, message, folder):
    (folder / "loop").symlink_to("pool")
    (folder / "pool").symlink_to("loop")
    assert message in refused(*TRAP, *RUN, *arguments)
