"""Files of numbers: what can be read, and what is refused and where."""

from __future__ import annotations

import time
from pathlib import Path

import h5py
import numpy as np
import pytest

from sgdsim.base.errors import InputError
from sgdsim.input.numeric_files import read_matrix, read_numbers, read_table


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def write(content: str | bytes, name: str = "file.csv") -> str:
    Path(name).write_bytes(content if isinstance(content, bytes) else content.encode())
    return name


def refusal(read, path) -> str:
    with pytest.raises(InputError) as refused:
        read(path)
    return str(refused.value)


@pytest.mark.parametrize(
    "content",
    [
        "x,y\n1,2.5\n-1e-3,0\n",
        "x,y\n1,2.5\n-1e-3,0",
        "x,y\r\n1,2.5\r\n-1e-3,0\r\n\r\n\n",
        "\ufeffx,y\n1,2.5\n-1e-3,0\n",
        ' x , "y"\n" 1",2.5\n-1e-3 ,+0.\n   \n',
    ],
)
def test_tables(content):
    assert read_table(write(content)) == {"x": [1.0, -0.001], "y": [2.5, 0.0]}


def test_one_column_and_other_letters():
    assert read_table(write("θ_1\n3\n\n")) == {"θ_1": [3.0]}


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ("", "file.csv: no rows, expected a line of names and at least one of numbers"),
        ("\n\n", "file.csv: no rows, expected a line of names"),
        ("x,y\n", "file.csv: no rows, expected a line of names and at least one of numbers"),
        ("x,\n1,2\n", "file.csv: line 1, column 2: there is no name, expected one of each column"),
        ("\n1,2\n", "file.csv: the first line is blank, expected the names of the columns"),
        ("x,x\n1,2\n", "file.csv: line 1, column 1: there are two columns 'x', expected a name of its own"),
        ("1,2\n3,4\n", "file.csv: line 1, column 1: 1, expected the name of the column on the first line"),
        ("x;y\n1;2\n", "file.csv: line 1, column 1: 'x;y', expected commas between the names"),
        ("x\ty\n1\t2\n", "file.csv: line 1, column 1: 'x\\ty', expected commas between the names"),
        ("x,2y\n1,2\n", "file.csv: line 1, column 2: '2y' is not a name"),
        ("x,exp\n1,2\n", "file.csv: line 1, column 2: the name 'exp' is reserved"),
        ("x,y\n1,2\n3\n", "file.csv: row 2 (line 3): 1 cell, expected 2 as in the first line"),
        ("x,y\n1,2,3\n", "file.csv: row 1 (line 2): 3 cells, expected 2"),
        ("x,y\n1,2\n\n3,4\n", "file.csv: row 2 (line 3): a blank line, expected 2"),
        ("x,y\n1,2\n,\n", "file.csv: row 2 (line 3), column 'x': the value is missing, expected a number"),
        ("x,y\n1,2\n3,\n", "file.csv: row 2 (line 3), column 'y': the value is missing, expected a number"),
        ("x,y\n1,nan\n", "file.csv: row 1 (line 2), column 'y': 'nan' is missing, expected a number"),
        ("x,y\n1,NA\n", "file.csv: row 1 (line 2), column 'y': 'NA' is missing, expected a number"),
        ("x,y\n1,two\n", "file.csv: row 1 (line 2), column 'y': 'two', expected a finite number"),
        ("x,y\n1,inf\n", "file.csv: row 1 (line 2), column 'y': 'inf', expected a finite number"),
        ("x,y\n1,1e999\n", "file.csv: row 1 (line 2), column 'y': '1e999', expected a finite number"),
        ("x,y\n1,1_0\n", "file.csv: row 1 (line 2), column 'y': '1_0', expected a finite number"),
        ('x,y\n1,"2\n', "file.csv: unexpected end of data, expected comma-separated values"),
        (b"x\n\xff\n", "file.csv: is no text in UTF-8, expected comma-separated values"),
        ("x\n" + "a" * 200, f"file.csv: row 1 (line 2), column 'x': '{'a' * 40}…', expected"),
    ],
)
def test_bad_tables(content, expected):
    assert refusal(read_table, write(content)).startswith(expected)


@pytest.mark.parametrize("read", [read_table, read_matrix, read_numbers])
def test_files_that_cannot_be_read(read, monkeypatch):
    Path("other.csv").mkdir()
    assert refusal(read, "missing.csv") == "missing.csv: no such file"
    assert refusal(read, "other.csv") == "other.csv: a folder, expected a file"
    assert refusal(read, "/dev/null") == "/dev/null: not a regular file"
    assert "cannot be read" in refusal(read, "a\0b") or "no such file" in refusal(read, "a\0b")
    with open("large.csv", "wb") as file:
        file.truncate(65_000_000)  # holds nothing on the disk
    assert refusal(read, "large.csv") == "large.csv: 65 MB, expected at most 64 MB"
    monkeypatch.setattr(
        Path, "read_bytes", lambda path: (_ for _ in ()).throw(PermissionError(13, "Permission denied"))
    )
    assert refusal(read, write("1\n")) == "file.csv: cannot be read: Permission denied"


def test_hdf5():
    for name in ("file.h5", "file.HDF5"):
        with h5py.File(name, "w") as file:
            file["x"] = np.array([1, 2], dtype=np.int32)
            file["y"] = np.array([0.5, -1], dtype=">f4")
            file["plane"] = np.zeros((2, 2))
            file["label"] = ["a", "b"]
            file["number"] = 3.0
            file.create_group("group")["z"] = [1.0, 2.0]
            file["nowhere"] = h5py.SoftLink("/missing")
        assert read_table(name) == {"x": [1.0, 2.0], "y": [0.5, -1.0]}


@pytest.mark.parametrize(
    ("columns", "expected"),
    [
        ({"x": [1.0, 2.0], "y": [1.0]}, "file.h5: x has 2, y has 1 rows, expected equally many"),
        ({"x": [1.0, np.nan]}, "file.h5: row 2, column 'x': the value is missing, expected a finite number"),
        ({"x": [-np.inf]}, "file.h5: row 1, column 'x': -inf, expected a finite number"),
        ({"2x": [1.0]}, "file.h5: dataset '2x': '2x' is not a name"),
        ({"x": np.zeros(0)}, "file.h5: no rows, expected at least one"),
        ({"x": ["a"]}, "file.h5: the root holds x, expected numeric datasets of one dimension"),
        ({}, "file.h5: the root holds nothing, expected numeric datasets of one dimension"),
    ],
)
def test_bad_hdf5(columns, expected):
    with h5py.File("file.h5", "w") as file:
        for name, values in columns.items():
            file[name] = values
    assert refusal(read_table, "file.h5").startswith(expected)


def test_hdf5_that_is_none_or_too_large():
    assert refusal(read_table, write("x\n1\n", "text.h5")) == "text.h5: is not an HDF5 file"
    with h5py.File("packed.h5", "w") as file:
        file.create_dataset("x", (10**8,), "f8", chunks=(10**6,))
    assert refusal(read_table, "packed.h5") == "packed.h5: the columns are larger than 64 MB"


def test_matrices():
    assert read_matrix(write("1,0.5\n0.5,1\n\n")) == [[1.0, 0.5], [0.5, 1.0]]
    assert read_matrix(write("\ufeff2")) == [[2.0]]


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ("", "file.csv: no rows, expected comma-separated numbers"),
        ("1,2\n3\n", "file.csv: row 2 (line 2): 1 cell, expected 2"),
        ("p,q\n1,2\n", "file.csv: row 1 (line 1), column 1: 'p', expected a finite number"),
        ("1,2\n3,\n", "file.csv: row 2 (line 2), column 2: the value is missing"),
    ],
)
def test_bad_matrices(content, expected):
    assert refusal(read_matrix, write(content)).startswith(expected)


@pytest.mark.parametrize("content", ["0.1\n0.05\n", "rate\n0.1\n0.05\n\n", "rate,step\n0.1,a\n0.05\n"])
def test_numbers(content):
    assert read_numbers(write(content)) == [0.1, 0.05]


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ("", "file.csv: no rows, expected one number a line"),
        ("rate\n", "file.csv: no rows, expected one number a line"),
        ("0.1\n\n0.2\n", "file.csv: row 2 (line 2), column 1: the value is missing"),
        ("nan\n0.2\n", "file.csv: row 1 (line 1), column 1: 'nan' is missing"),
        ("0.1\nx\n", "file.csv: row 2 (line 2), column 1: 'x', expected a finite number"),
    ],
)
def test_bad_numbers(content, expected):
    assert refusal(read_numbers, write(content)).startswith(expected)


def test_very_many_columns_are_read_in_their_number_of_steps():
    """Names that were compared with each other took an hour of 200,000, and would take four minutes of these."""
    names = [f"c{n}" for n in range(50_000)]
    began = time.process_time()
    table = read_table(write(",".join(names) + "\n" + ",".join(["1"] * len(names))))
    assert time.process_time() - began < 30  # half a second
    assert list(table) == names
    with pytest.raises(InputError, match=r"line 1, column 1: there are two columns 'c0'"):
        read_table(write(",".join([*names, "c0"]) + "\n"))


def test_a_number_that_would_become_zero_is_refused():
    for read, content, place in (
        (read_table, "x\n1e-400\n", "'x'"),
        (read_matrix, "1e-400", "1"),
        (read_numbers, "1e-400", "1"),
    ):
        assert f"column {place}: 1e-400 is below the smallest float" in refusal(read, write(content))
