"""Files that one process holds."""

from __future__ import annotations

import multiprocessing
import os
import signal
import time
from collections.abc import Iterator
from multiprocessing.synchronize import Event
from pathlib import Path

import pytest

from sgdsim.base.errors import InputError
from sgdsim.base.hold import held, holder


def hold(path: Path, is_held: Event) -> None:
    with held(path, "it"):
        is_held.set()
        time.sleep(60)


@pytest.fixture
def other(tmp_path: Path) -> Iterator[multiprocessing.process.BaseProcess]:
    """Another process that holds the lock."""
    context = multiprocessing.get_context("fork")
    is_held = context.Event()
    process = context.Process(target=hold, args=(tmp_path / "lock", is_held))
    process.start()
    assert is_held.wait(10)
    yield process
    process.kill()
    process.join()


def test_another_process_is_named_and_its_death_ends_the_hold(other, tmp_path):
    path = tmp_path / "lock"
    assert holder(path).startswith(f"process {other.pid} on ")
    with pytest.raises(InputError, match=f"^it: is being written by process {other.pid} on "), held(path, "it"):
        pass
    os.kill(other.pid, signal.SIGKILL)
    other.join()
    assert path.exists()  # it is left over, and nobody holds it
    assert holder(path) == ""
    with held(path, "it"):
        assert holder(path).startswith(f"process {os.getpid()} on ")
    assert not path.exists()


def test_a_file_and_a_folder_that_go_in_the_moment_between_are_made_again(tmp_path, monkeypatch):
    """As the holder before takes them away."""
    import fcntl

    path, original, times = tmp_path / "folder" / "lock", fcntl.flock, [2]

    def flock(descriptor: int, operation: int) -> None:
        if times[0]:
            times[0] -= 1
            path.unlink()
            path.parent.rmdir()
        original(descriptor, operation)

    monkeypatch.setattr(fcntl, "flock", flock)
    with held(path, "it"):
        assert path.exists()
    assert times == [0]


def test_a_disk_without_locks_refuses_nobody(tmp_path, monkeypatch):
    import errno
    import fcntl

    def flock(descriptor: int, operation: int) -> None:
        raise OSError(errno.ENOLCK, "no locks available")

    monkeypatch.setattr(fcntl, "flock", flock)
    with held(tmp_path / "lock", "it"), held(tmp_path / "lock", "it"):
        assert holder(tmp_path / "lock") == ""
