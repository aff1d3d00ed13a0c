"""Files that a scenario names: how they come into it, what is refused, and how their paths move with it."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from sgdsim.base import toml
from sgdsim.base.errors import InputError
from sgdsim.input import file_references
from sgdsim.input.file_references import inline_files, move_files, named_files


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def write(content: str, name: str = "file.csv") -> str:
    Path(name).write_text(content, encoding="utf-8")
    return name


def scenario() -> dict:
    return {
        "title": "file:rates.txt",
        "loss": {
            "formula": "x**2/2",
            "data": "data.csv",
            "noise": {"p,q": "normal:cov.csv", "r,s": "normal:1,0.5;0.5,1", "z": "normal:0,1"},
            "symmetry": ["rescale:u:1,w:-1", "generator:turn.csv", {"name": "own", "generator": {"u": "w"}}],
        },
        "optimizer": {"learning_rate": "file:rates.txt", "preconditioner": "cov.csv", "metric": "cov.csv"},
        "run": {"steps": 2},
    }


def test_files_come_into_the_scenario(folder, monkeypatch):
    write("x,y\n1,2.5\n-1,0\n", "data.csv")
    write("1,0.5\n0.5,0.1\n", "cov.csv")
    write("0,-1\n1,0\n", "turn.csv")
    write("0.1\n0.05\n", "rates.txt")
    given = scenario()
    monkeypatch.chdir("/")
    made = inline_files(given, folder)
    assert given == scenario()  # is left alone
    assert made == {
        "title": "file:rates.txt",
        "loss": {
            "formula": "x**2/2",
            "data": {"x": [1.0, -1.0], "y": [2.5, 0.0]},
            "noise": {"p,q": "normal:1,0.5;0.5,0.1", "r,s": "normal:1,0.5;0.5,1", "z": "normal:0,1"},
            "symmetry": [
                "rescale:u:1,w:-1",
                {"name": "generator", "matrix": [[0.0, -1.0], [1.0, 0.0]]},
                {"name": "own", "generator": {"u": "w"}},
            ],
        },
        "optimizer": {
            "learning_rate": [0.1, 0.05],
            "preconditioner": [[1.0, 0.5], [0.5, 0.1]],
            "metric": [[1.0, 0.5], [0.5, 0.1]],
        },
        "run": {"steps": 2},
    }
    assert inline_files(made, "/nowhere") == made
    assert toml.loads(toml.dumps(made), "here") == made


def test_all_problems_of_files_with_their_keys():
    with pytest.raises(InputError) as refused:
        inline_files(scenario())
    assert str(refused.value).splitlines() == [
        "loss.data: data.csv: no such file",
        "loss.noise.p,q: cov.csv: no such file",
        "loss.symmetry[1]: turn.csv: no such file",
        "optimizer.learning_rate: rates.txt: no such file",
        "optimizer.preconditioner: cov.csv: no such file",
        "optimizer.metric: cov.csv: no such file",
    ]


@pytest.mark.parametrize(
    "data",
    [
        {},
        {"loss": 3, "optimizer": [], "run": None},
        {"loss": {"data": {"x": [1]}, "noise": "normal", "symmetry": "scale:w"}},
        {"loss": {"data": "", "noise": {"p,q": 3, "u": "normal:C.csv"}, "symmetry": ["generator:", 3]}},
        {"optimizer": {"learning_rate": "file:", "preconditioner": [1, 2], "metric": " "}},
        {"optimizer": {"learning_rate": "cosine:0.1,0.001"}},
    ],
)
def test_what_names_no_file_stays(data):
    assert inline_files(data) == data
    assert move_files(data, "/a", "/b") == data


def test_states_of_another_run_stay_in_their_file(folder, monkeypatch):
    monkeypatch.setattr(
        "sgdsim.input.snapshots.describe_snapshot",
        lambda path, count: {"file": path, "trajectories": count or 9, "seeds": [2]},
    )
    write("", "before.h5")
    where = os.path.realpath("before.h5")
    for run, count in (({"trajectories": 5.0}, 5), ({}, 9)):
        made = inline_files({"run": {"from": "before.h5", **run}}, folder)
        start = {"file": where, "trajectories": count, "seeds": [2]}
        assert made == {"run": {"from": start, "trajectories": count, "seed": 3}}
    monkeypatch.undo()
    monkeypatch.chdir(folder)
    for name, problem in (("before.h5", "is not an HDF5 file"), ("missing.h5", "no such file")):
        with pytest.raises(InputError, match=rf"^run\.from: \S*{name}: {problem}"):
            inline_files({"run": {"from": name}})


def test_more_cells_than_data_may_have(monkeypatch):
    monkeypatch.setattr(file_references, "MAX_CELLS", 3)
    write("x,y\n1,2\n3,4\n")
    with pytest.raises(InputError, match=r"^loss\.data: file\.csv: 4 values, expected at most 3$"):
        inline_files({"loss": {"data": "file.csv"}})


def test_paths_lead_to_the_same_files_from_another_folder(folder):
    given = {**scenario(), "run": {"from": "before.h5"}}
    moved = move_files(given, folder, folder / "deep" / "er")
    up = os.path.join("..", "..")
    assert moved["loss"]["data"] == f"{up}/data.csv"
    assert moved["loss"]["noise"] == {**scenario()["loss"]["noise"], "p,q": f"normal:{up}/cov.csv"}
    assert moved["loss"]["symmetry"][1] == f"generator:{up}/turn.csv"
    assert moved["optimizer"]["learning_rate"] == f"file:{up}/rates.txt"
    assert moved["optimizer"]["metric"] == f"{up}/cov.csv"
    assert moved["run"]["from"] == f"{up}/before.h5"
    assert move_files(scenario(), folder, folder) == scenario()
    assert move_files({"loss": {"data": "/a/b.csv"}}, "/", "/c") == {"loss": {"data": "/a/b.csv"}}


def test_the_files_that_are_named(folder):
    """Those of which one may become the output of a run that reads it."""
    names = ["data.csv", "cov.csv", "turn.csv", "rates.txt", "cov.csv", "cov.csv"]
    assert named_files(scenario(), folder) == [folder / name for name in names]
    assert named_files({"run": {"from": "/a/b.h5"}}, folder) == [Path("/a/b.h5")]
