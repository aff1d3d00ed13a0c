"""Files are whole or not there; no two writers share a part; nothing is opened that may never end."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
import textwrap
import threading
from pathlib import Path
from typing import Any

import pytest

from sgdsim.base import files
from sgdsim.base.errors import InputError, RunError
from sgdsim.base.files import atomic_file, check_input, check_output

# Where a result may go.


def test_output_paths_are_checked_before_a_run(tmp_path: Path) -> None:
    path = tmp_path / "run.h5"
    check_output(path)
    assert os.listdir(tmp_path) == []
    with pytest.raises(InputError, match="there is no folder"):
        check_output(tmp_path / "nowhere" / "run.h5")
    with pytest.raises(InputError, match="a folder, expected the name of a file"):
        check_output(tmp_path, overwrite=True)
    path.write_text("precious")
    with pytest.raises(InputError, match="the file exists"):
        check_output(path)
    with pytest.raises(InputError, match="there is no folder"):
        check_output(path / "run.h5")
    check_output(path, overwrite=True)
    assert path.read_text() == "precious"
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(InputError, match="not a regular file"):
        check_output(tmp_path / "pipe", overwrite=True)
    with pytest.raises(InputError, match="File name too long"):
        check_output(tmp_path / ("x" * 300))


def test_what_is_read_for_a_result_is_not_replaced_by_it(tmp_path: Path) -> None:
    """By no name that it has: a copy is another file."""
    parent, copy = tmp_path / "parent.h5", tmp_path / "copy.h5"
    parent.write_text("states")
    copy.write_text("states")
    (tmp_path / "soft.h5").symlink_to(parent)
    os.link(parent, tmp_path / "hard.h5")
    for name in ("parent.h5", "soft.h5", "hard.h5"):
        with pytest.raises(InputError, match=f"{name}: is read for this, expected another file to write to"):
            check_output(tmp_path / name, True, [parent])
        check_output(tmp_path / name, True, [copy, tmp_path / "gone.h5"])
    with pytest.raises(InputError, match="the file exists"):  # which says how it could be replaced
        check_output(parent, False, [parent])


def test_a_path_that_ends_in_a_slash_is_no_file(tmp_path: Path) -> None:
    """It would be written under the name without."""
    with pytest.raises(InputError, match="new/: a folder, expected the name of a file"):
        check_output(f"{tmp_path}/new/")


def test_links_that_lead_back_to_themselves_are_refused(tmp_path: Path) -> None:
    (tmp_path / "a").symlink_to(tmp_path / "b")
    (tmp_path / "b").symlink_to(tmp_path / "a")
    for overwrite in (False, True):
        with pytest.raises(InputError, match="a: a link that leads back to itself"):
            check_output(tmp_path / "a", overwrite)
    (tmp_path / "ahead").symlink_to(tmp_path / "not_yet.h5")  # what a link leads to need not be there
    check_output(tmp_path / "ahead")


def test_a_working_folder_that_is_gone_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "gone").mkdir()
    monkeypatch.chdir(tmp_path / "gone")
    (tmp_path / "gone").rmdir()
    with pytest.raises(InputError, match=r"run\.h5: cannot write in the folder \.: No such file"):
        check_output("run.h5")


def test_a_read_only_folder_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tmp_path.chmod(0o500)
    try:
        if os.geteuid() == 0:  # whom permissions do not bind
            original = os.open

            def deny(path: Any, flags: int, *mode: int) -> int:
                if flags & os.O_CREAT:
                    raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
                return original(path, flags, *mode)

            monkeypatch.setattr(os, "open", deny)
        with pytest.raises(InputError, match=r"cannot write in the folder .*: Permission denied"):
            check_output(tmp_path / "run.h5")
    finally:
        tmp_path.chmod(0o700)
    assert os.listdir(tmp_path) == []


@pytest.mark.skipif(not Path("/proc/self").is_dir(), reason="needs a folder closed to root too")
def test_a_folder_closed_to_everyone_is_refused() -> None:
    with pytest.raises(InputError, match="cannot write in the folder /proc"):
        check_output("/proc/run.h5")


# Whole files.


def test_any_file_can_be_written_atomically(tmp_path: Path) -> None:
    path = tmp_path / "report.txt"
    path.write_text("old")

    def interrupted() -> None:
        with atomic_file(path) as temporary:
            temporary.write_text("ne")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert path.read_text() == "old"
    with atomic_file(path) as temporary:
        temporary.write_text("new")
        assert path.read_text() == "old"
    assert path.read_text() == "new"
    assert os.listdir(tmp_path) == ["report.txt"]


def test_an_interrupt_waits_until_the_file_is_in_its_place(tmp_path: Path) -> None:
    path, reached = tmp_path / "report.txt", []

    def interrupted() -> None:
        with atomic_file(path) as temporary:
            signal.raise_signal(signal.SIGINT)
            temporary.write_text("whole")
            reached.append("the end")

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert reached == ["the end"]
    assert path.read_text() == "whole"
    assert os.listdir(tmp_path) == ["report.txt"]


def test_threads_that_write_to_one_path_at_once(tmp_path: Path) -> None:
    """Each writes a file of its own, all at the same time; the last that is done wins."""
    path, together, failures = tmp_path / "report.txt", threading.Barrier(8), []

    def write(text: str) -> None:
        try:
            for _ in range(20):
                together.wait(30)
                with atomic_file(path) as temporary:
                    temporary.write_text(text)
                    assert temporary.read_text() == text
        except Exception as error:
            failures.append(error)
            together.abort()

    threads = [threading.Thread(target=write, args=(letter * 10_000,)) for letter in "abcdefgh"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    text = path.read_text()
    assert len(text) == 10_000
    assert set(text) in [{letter} for letter in "abcdefgh"]
    assert os.listdir(tmp_path) == ["report.txt"]


# Parts.

WRITER = """
    import sys, time
    from sgdsim.base.files import atomic_file
    with atomic_file(sys.argv[1]) as temporary:
        temporary.write_text("unfinished")
        print("writing", flush=True)
        time.sleep(60)
"""


def writer(path: Path) -> subprocess.Popen[str]:
    """A process in the middle of writing a file."""
    command = [sys.executable, "-c", textwrap.dedent(WRITER), str(path)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "writing\n"
    return process


def test_parts_of_dead_processes_are_removed_and_those_of_others_are_not(tmp_path: Path) -> None:
    (tmp_path / "notes.part").write_text("not ours")
    alive, dead = writer(tmp_path / "alive.h5"), writer(tmp_path / "dead.h5")
    try:
        dead.kill()
        dead.communicate(timeout=60)
        assert len(list(tmp_path.glob("*.sgdsim-*.part"))) == 2
        check_output(tmp_path / "third.h5")
        kept = sorted(path.name.partition(".sgdsim")[0] for path in tmp_path.iterdir())
        assert kept == ["alive.h5", "notes.part"]
    finally:
        for process in (alive, dead):
            process.kill()
            process.communicate(timeout=60)


def test_a_link_in_the_place_of_a_part_is_not_followed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    victim = tmp_path / "victim"
    victim.write_text("precious")
    monkeypatch.setattr(files.secrets, "token_hex", lambda count: "0" * (2 * count))
    (tmp_path / "run.h5.sgdsim-00000000.part").symlink_to(victim)
    with pytest.raises(InputError, match="File exists"):
        check_output(tmp_path / "run.h5")
    with pytest.raises(RunError, match="File exists"), atomic_file(tmp_path / "run.h5") as temporary:
        temporary.write_text("overwritten")
    assert victim.read_text() == "precious"


# What may be read.


def test_what_is_no_plain_file_is_refused_before_it_is_opened(tmp_path: Path) -> None:
    pipe, sparse, loop = (tmp_path / name for name in ("pipe", "sparse", "loop"))
    os.mkfifo(pipe)
    with sparse.open("wb") as file:
        file.truncate(8 * 2**30)
    loop.symlink_to("loop")
    for path, problem in (
        (tmp_path / "missing", "no such file"),
        (tmp_path, "a folder, expected a file"),
        (pipe, "not a regular file"),
        ("/dev/zero", "not a regular file"),
        (sparse, "8590 MB, expected at most 64 MB"),
        (f"{tmp_path}/\0", "cannot be read: embedded null byte"),
        (tmp_path / ("x" * 300), "cannot be read: File name too long"),
        (loop, "cannot be read: Too many levels of symbolic links"),
    ):
        with pytest.raises(InputError, match=problem):
            check_input(path)
    check_input(sparse, most=1e12)
