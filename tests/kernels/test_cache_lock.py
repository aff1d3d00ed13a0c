"""The lock between processes: it excludes, it ends with its process, and nobody waits for ever."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from sgdsim.kernels import cache_lock
from sgdsim.kernels.cache_lock import Lock

HOLD = """
import sys, time
from pathlib import Path
from sgdsim.kernels.cache_lock import Lock
Lock(Path(sys.argv[1])).acquire()
print("held", flush=True)
time.sleep(600)
"""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "a.lock"


@pytest.fixture
def holder(path: Path) -> Iterator[subprocess.Popen[str]]:
    """Another process that holds the lock."""
    process = subprocess.Popen([sys.executable, "-c", HOLD, str(path)], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    with process, process.stdout:
        assert process.stdout.readline() == "held\n"
        yield process
        process.kill()


@pytest.fixture
def waiting(monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    """Returns once somebody has begun to wait for a lock."""
    begun = threading.Event()

    def sleep(seconds: float, original: Callable[[float], None] = time.sleep) -> None:
        begun.set()
        original(seconds)

    monkeypatch.setattr(cache_lock.time, "sleep", sleep)
    return lambda: begun.wait(60) or pytest.fail("nobody waits")


def test_one_holds_it_and_the_other_waits(path, waiting):
    first, second = Lock(path), Lock(path)
    first.acquire()
    first.acquire()  # it holds it already
    thread = threading.Thread(target=second.acquire)
    thread.start()
    waiting()
    assert thread.is_alive()
    first.release()
    thread.join(60)
    assert not thread.is_alive()
    second.release()
    second.release()
    first.acquire()
    first.release()


def test_it_ends_with_its_process(path, holder, waiting):
    thread = threading.Thread(target=(lock := Lock(path)).acquire)
    thread.start()
    waiting()
    assert thread.is_alive()
    holder.kill()
    thread.join(60)
    assert not thread.is_alive()
    lock.release()


def test_nobody_waits_for_ever(path, holder, monkeypatch):
    """A process may be suspended: then the others do the work, too."""
    monkeypatch.setattr(cache_lock, "_MOST_SECONDS", 0.1)
    Lock(path).acquire()
    assert holder.poll() is None


@pytest.mark.parametrize("terminal", [True, False])
def test_who_waits_says_so_on_a_terminal_alone(path, holder, monkeypatch, terminal):
    monkeypatch.setattr(cache_lock, "_MOST_SECONDS", 0.2)
    monkeypatch.setattr(cache_lock, "_SECONDS_IN_SILENCE", 0.0)
    monkeypatch.setattr(sys.stderr, "isatty", lambda: terminal, raising=False)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        Lock(path).acquire()
    assert [str(one.message) for one in caught] == ["waiting for another process, which compiles the same"] * terminal
    assert holder.poll() is None


def test_an_interrupt_ends_the_waiting(path, holder, monkeypatch):
    def interrupted(_: float) -> None:
        raise KeyboardInterrupt

    lock = Lock(path)
    with monkeypatch.context() as patch:
        patch.setattr(cache_lock.time, "sleep", interrupted)
        with pytest.raises(KeyboardInterrupt):
            lock.acquire()
    lock.release()
    holder.kill()
    holder.wait()
    lock.acquire()
    lock.release()


def test_where_there_are_no_locks_nobody_waits(path, monkeypatch):
    def unsupported(_: int) -> None:
        raise OSError(95, "Operation not supported")

    path.mkdir()
    Lock(path).acquire()  # its file cannot be made
    monkeypatch.setattr(cache_lock, "_take", unsupported)
    lock = Lock(path.with_name("b.lock"))
    lock.acquire()
    lock.release()
