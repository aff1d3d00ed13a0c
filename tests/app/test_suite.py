"""The suite for other simulators: one that reads nothing but its files passes, and what is wrong fails."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner

from sgdsim.app.cli import main
from sgdsim.app.suite import STEPS, cases, score, write_suite
from sgdsim.base.errors import InputError
from sgdsim.formulas.formula import Formula

N = 10_000
COLUMNS = "case,step,quantity,trajectories,mean,variance"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("suite") / "suite"
    write_suite(folder)
    return folder


def draw(rng: np.random.Generator, text: str, size: int) -> np.ndarray:
    """NumPy's own distributions, by their names in the suite."""
    name, _, rest = text.partition(":")
    if name == "table":
        values, weights = zip(*(map(float, pair.split("@")) for pair in rest.split(",")), strict=True)
        return rng.choice(values, size, p=weights)
    given = [float(one) for one in rest.split(",")] if rest else []
    known = {
        "normal": lambda: rng.normal(*given, size),
        "laplace": lambda: rng.laplace(*given, size),
        "uniform": lambda: rng.uniform(*given, size),
        "lognormal": lambda: rng.lognormal(*given, size),
        "rademacher": lambda: rng.choice([-1.0, 1.0], size),
        "exponential": lambda: rng.exponential(given[0], size) - given[0],
        "bernoulli": lambda: (rng.random(size) < given[0]).astype(float),
    }
    return known[name]()


def simulate(case: dict[str, Any], rng: np.random.Generator, wrong: str = "") -> list[list[Any]]:
    """SGD in NumPy, from what the file says alone; perhaps with a mistake."""
    names = list(case["parameters"])
    start = case["parameters"].items()
    theta = {n: draw(rng, v, N) if isinstance(v, str) else np.full(N, float(v)) for n, v in start}
    state = {(key, name): np.full(N, v) for key, v in case["state at the start"].items() for name in names}
    steps = [[part.strip() for part in line.split(" = ", 1)] for line in case["step"]]
    gradients = {name: Formula.parse(text) for name, text in case["gradient of a sample"].items()}
    rows = []
    for t, rate in enumerate(case["learning rates"]):
        total = dict.fromkeys(names, np.zeros(N))
        size = case["batch size"]
        if case["data"]:
            count = len(next(iter(case["data"].values())))
            order = rng.permuted(np.tile(np.arange(count), (N, 1)), axis=1)[:, :size]
            chosen = order if case["sampling"] == "batch" else rng.integers(count, size=(N, size))
        for sample in range(size):
            noise = {name: draw(rng, text, N) for name, text in case["noise"].items()}
            noise = {name: 1.1 * value for name, value in noise.items()} if wrong == "noise" else noise
            if case["data"]:
                noise |= {name: np.array(column)[chosen[:, sample]] for name, column in case["data"].items()}
            values = {**case["constants"], **noise, **theta}
            total = {name: total[name] + gradients[name].evaluate(values) / size for name in names}
        moved = {}
        for name in names:
            values = {**case["hyperparameters"], "theta": theta[name], "gradient": total[name], "t": float(t)}
            values |= {"learning_rate": rate, "xi": rng.normal(size=N)}
            values |= {key: one for (key, of), one in state.items() if of == name}
            for key, formula in steps:
                values[key] = Formula.parse(formula).evaluate(values)
            moved[name] = values["theta"]
            state |= {(key, name): values[key] for key in case["state at the start"]}
        theta = moved
        if t + 1 in STEPS:
            rows += [[case["case"], t + 1, n, N, float(np.mean(x)), float(np.var(x, ddof=1))] for n, x in theta.items()]
    return rows


def written(path: Path, rows: list[list[Any]]) -> Path:
    with path.open("w", newline="") as file:
        csv.writer(file).writerows([COLUMNS.split(","), *rows])
    return path


@pytest.fixture(scope="module")
def exact(folder: Path) -> list[list[Any]]:
    """Results of a simulator that makes no errors."""
    with (folder / "expected.csv").open() as file:
        return [[r["case"], r["step"], r["quantity"], N, r["mean"], r["variance"]] for r in csv.DictReader(file)]


def test_there_are_sixty_models_of_every_kind(folder: Path) -> None:
    description = json.loads((folder / "suite.json").read_text())
    names = [case["case"] for case in description["cases"]]
    assert len(set(names)) == len(names) >= 60
    assert {case["sampling"] for case in description["cases"]} == {"replacement", "batch"}
    with (folder / "expected.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert {row["case"] for row in rows} == set(names)
    assert all(float(row["fourth_central_moment"]) >= float(row["variance"]) ** 2 >= 0 for row in rows)
    assert "No number in it was simulated" in (folder / "README.md").read_text()


def test_the_moments_of_a_trap_are_those_of_a_page_of_algebra() -> None:
    """x' = (1 - eta) x - eta s z: mean (1 - eta)^t, variance a geometric sum, normal from a fixed start."""
    trap = next(case for case in cases() if case.name == "trap-normal")
    for step in STEPS:
        mean, variance, fourth = trap.expected[step, "x"]
        assert mean == pytest.approx(0.8**step)
        assert variance == pytest.approx(0.01 * (1 - 0.64**step) / (1 - 0.64))
        assert fourth == pytest.approx(3 * variance**2)


@pytest.mark.validate
def test_a_simulator_that_reads_the_files_alone_is_accepted(folder: Path, tmp_path: Path) -> None:
    rng = np.random.default_rng(20261129)
    description = json.loads((folder / "suite.json").read_text())
    results = [row for case in description["cases"] for row in simulate(case, rng)]
    found = score(written(tmp_path / "results.csv", results))
    assert found.accepted, found.table()
    assert found.means == len(results) > 400
    assert len(found.failed) <= found.allowed


@pytest.mark.parametrize("name", ["trap-normal", "regression-batch", "data-most", "plane-momentum"])
def test_a_simulator_with_wrong_noise_is_rejected(
    folder: Path, exact: list[list[Any]], tmp_path: Path, name: str
) -> None:
    """The negative control: noise that is larger by a tenth, in one case; with data, rows drawn with replacement.

    The other cases have their exact moments, which alone are accepted.
    """
    case = next(one for one in json.loads((folder / "suite.json").read_text())["cases"] if one["case"] == name)
    wrong = simulate({**case, "sampling": "replacement"}, np.random.default_rng(1), "noise")
    assert score(written(tmp_path / "exact.csv", exact)).accepted
    rows = [row for row in exact if row[0] != name] + wrong
    done = CliRunner().invoke(main, ["suite", "--score", str(written(tmp_path / "wrong.csv", rows))])
    assert done.exit_code == 1
    assert f"{name}: variance of" in done.output
    assert "REJECTED" in done.output


def test_what_is_missing_is_said_and_not_accepted(exact: list[list[Any]], tmp_path: Path) -> None:
    found = score(written(tmp_path / "few.csv", [row for row in exact if row[0] != "plane-sgd"]))
    assert found.missing == ("plane-sgd",)
    assert not found.accepted


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("case,step\ntrap,1\n", "there is no column quantity, trajectories, mean, variance"),
        (f"{COLUMNS}\ntrap-norml,1,x,9,0,0\n", "line 2: unknown case 'trap-norml': did you mean 'trap-normal'?"),
        (f"{COLUMNS}\ntrap-normal,3,x,9,0,0\n", "x after 3 steps, expected x after 1, 2, 5"),
        (f"{COLUMNS}\ntrap-normal,1,x,1,0,0\n", "trajectories: 1, expected 2 or more"),
        (f"{COLUMNS}\ntrap-normal,1,x,9,zero,0\n", "line 2: mean: 'zero', expected a number"),
        (f"{COLUMNS}\ntrap-normal,1,x,9\n", "line 2: expected 6 values"),
    ],
)
def test_a_table_that_is_none_is_refused(tmp_path: Path, text: str, problem: str) -> None:
    (tmp_path / "table.csv").write_text(text)
    with pytest.raises(InputError, match=r"expected|unknown|no column") as error:
        score(tmp_path / "table.csv")
    assert problem in str(error.value)


def test_the_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    run = CliRunner().invoke
    assert run(main, ["suite", "-o", "suite"]).output == f"suite: {len(cases())} models\n"
    assert run(main, ["suite", "-o", "suite"]).exit_code == 2
    assert run(main, ["suite", "-o", "suite", "--overwrite"]).exit_code == 0
    for arguments, problem in {(): "--output FOLDER or --score FILE", ("--score", "no.csv"): "no.csv"}.items():
        done = run(main, ["suite", *arguments])
        assert done.exit_code == 2
        assert problem in done.output
