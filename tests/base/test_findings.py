"""Results of SymPy are kept as plain data, and computed anew when anything that they depend on has changed."""

from __future__ import annotations

import itertools
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from sgdsim.base import budget, cache_files, findings
from sgdsim.base.findings import found


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(findings, "cache_folder", lambda: tmp_path)
    monkeypatch.setattr(findings, "_kept", itertools.count())  # other tests may have kept all that a process keeps
    return tmp_path


def counting(answer: object) -> tuple[list[int], Callable[[], object]]:
    calls: list[int] = []

    def find() -> object:
        calls.append(1)
        return answer

    return calls, find


def test_a_question_is_asked_once(folder):
    calls, find = counting({"a": [1, None, 0.1]})
    assert [found(["q", 1], find) for _ in range(3)] == [{"a": [1, None, 0.1]}] * 3
    assert len(calls) == 1
    assert len(list(folder.iterdir())) == 1


@pytest.mark.parametrize("other", [["q", 2], ["q", 1, None], "q", ["q", 1.5]])
def test_another_question_is_asked(other):
    calls, find = counting(3)
    assert found(["q", 1], find) == found(other, find) == 3
    assert len(calls) == 2


@pytest.mark.parametrize("part", ["_code", "_versions"])
def test_other_code_is_asked_anew(part, monkeypatch):
    calls, find = counting(3)
    found("q", find)
    monkeypatch.setattr(findings, part, lambda: "other")
    found("q", find)
    assert len(calls) == 2


def test_the_code_is_all_that_finds_answers():
    """Every module of the package that is imported where a scenario with a symmetry and all its laws is read anew."""
    code = (
        "import sys; from sgdsim.input.loading import load_parts; load_parts('entropic_force');"
        "print(*(m.__file__ for n, m in sys.modules.items() if n.startswith('sgdsim.')), sep='\\n')"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    imported = {Path(line) for line in done.stdout.split()}
    assert len(imported) > 100
    shipped = {path for path in imported if path.parent.name == "scenarios"}  # a folder of data
    assert imported - shipped <= set(findings._files())


@pytest.mark.parametrize("content", [b"", b"{", b"3"])
def test_a_damaged_answer_is_found_anew(folder, content):
    """A file of ours that holds no JSON, too."""
    calls, find = counting(3)
    found("q", find)
    (path,) = folder.iterdir()
    path.write_bytes(content)
    assert found("q", find) == 3
    cache_files.write(path, b"{")
    assert found("q", find) == 3
    assert found("q", find) == 3
    assert len(calls) == 3


def test_what_raises_is_not_kept(folder):
    def fail() -> None:
        raise ValueError("no")

    for _ in range(2):
        with pytest.raises(ValueError, match="no"):
            found("q", fail)
    assert not list(folder.iterdir())


def test_what_had_no_time_to_be_found_is_not_kept(folder):
    """A machine may be slow once."""

    def cut_short(seconds: float) -> list[str]:
        try:
            with budget.limited(seconds):
                budget.check()
        except budget.OutOfTime:
            return []
        return ["x**2"]

    assert found("q", lambda: cut_short(-1.0)) == []
    assert not list(folder.iterdir())
    assert found("q", lambda: cut_short(60.0)) == ["x**2"]
    assert found("q", lambda: cut_short(-1.0)) == ["x**2"]


def test_a_folder_that_cannot_be_written_costs_time_alone(monkeypatch):
    monkeypatch.setattr(findings, "cache_folder", lambda: Path("/nowhere/at/all"))
    calls, find = counting(3)
    assert found("q", find) == found("q", find) == 3
    assert len(calls) == 2


def test_a_process_keeps_a_number_of_answers(folder, monkeypatch):
    """The points of a sweep are no reason to fill the disk."""
    monkeypatch.setattr(findings, "_kept", iter(range(10_000)))
    for i in range(findings._MOST + 5):
        assert found(i, lambda i=i: 2 * i) == 2 * i
    assert len(list(folder.iterdir())) == findings._MOST


def test_code_of_the_user_is_asked_each_time(folder):
    """A function from elsewhere may be another one tomorrow, under the same name."""
    calls, find = counting(3)
    assert found("q", find, [found, counting]) == found("q", find, [found, counting]) == 3
    assert len(calls) == 2
    assert found("q", find, [found]) == found("q", find, [found]) == 3
    assert len(calls) == 3
    assert len(list(folder.iterdir())) == 1
