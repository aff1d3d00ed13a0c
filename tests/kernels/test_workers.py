"""Threads: all of them run, in the caller's time, and none fails in silence."""

from __future__ import annotations

import threading
import time

import pytest

from sgdsim.kernels.workers import Workers


@pytest.mark.parametrize("count", [1, 2, 5])
def test_every_worker_runs_once_with_the_arguments(count):
    calls: list[tuple[int, int, str]] = []
    with Workers(count) as workers:
        assert workers.count == count
        for _ in range(3):
            calls.clear()
            workers.run(lambda worker, of, what: calls.append((worker, of, what)), "argument")
            assert sorted(calls) == [(worker, count, "argument") for worker in range(count)]


def test_one_worker_is_the_caller_s_thread():
    seen: list[object] = []
    with Workers(1) as workers:
        workers.run(lambda *_: seen.append(threading.current_thread()))
    assert seen == [threading.current_thread()]


def test_workers_run_at_the_same_time():
    """Two that wait for each other both arrive, the first of them in the caller's thread."""
    barrier = threading.Barrier(2, timeout=10)
    threads: dict[int, object] = {}

    def kernel(worker: int, of: int) -> None:
        threads[worker] = threading.current_thread()
        barrier.wait()

    with Workers(2) as workers:
        workers.run(kernel)
    assert threads[0] is threading.current_thread()
    assert threads[1] is not threads[0]


@pytest.mark.parametrize(("count", "failing"), [(1, 0), (2, 0), (2, 1), (3, 2)])
def test_exceptions_of_any_worker_reach_the_caller(count, failing):
    def kernel(worker: int, of: int) -> None:
        if worker == failing:
            raise ValueError(f"worker {worker}")

    done: list[int] = []
    with Workers(count) as workers:
        with pytest.raises(ValueError, match=f"worker {failing}"):
            workers.run(kernel)
        workers.run(lambda worker, of: done.append(worker))  # and the threads live on
    assert sorted(done) == list(range(count))


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_a_failure_waits_for_the_others(error):
    """An interrupt in the caller's thread must not leave another writing into arrays that go away."""
    finished = threading.Event()

    def kernel(worker: int, of: int) -> None:
        if worker == 0:
            raise error
        time.sleep(0.1)
        finished.set()

    with Workers(2) as workers:
        with pytest.raises(error):
            workers.run(kernel)
        assert finished.is_set()


def test_leaving_the_context_ends_the_threads():
    before = threading.active_count()
    with Workers(3) as workers:
        workers.run(lambda *_: time.sleep(0.01))
        assert threading.active_count() > before
    assert threading.active_count() == before
