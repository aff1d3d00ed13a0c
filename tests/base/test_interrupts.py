"""Interrupts: none is lost, and where one would do harm it waits."""

from __future__ import annotations

import ctypes
import multiprocessing
import signal
import sys
import threading
from collections.abc import Callable, Iterator

import pytest

from sgdsim.base.interrupts import SIGNALS, Ended, Interrupts, held_back


def lost(number: int = signal.SIGINT) -> None:
    """A signal in a call-back from C, as from the compiler or HDF5: Python reports it and goes on."""
    ctypes.CFUNCTYPE(None)(lambda: signal.raise_signal(number))()


@pytest.fixture(autouse=True)
def handlers() -> Iterator[None]:
    """Every test leaves the handlers of signals as they were."""
    before = [signal.getsignal(number) for number in SIGNALS]
    yield
    assert [signal.getsignal(number) for number in SIGNALS] == before


def watched(*actions: Callable[[Interrupts], object], ending: bool = True) -> None:
    with Interrupts(ending) as interrupts:
        for action in actions:
            action(interrupts)


@pytest.mark.parametrize("number", SIGNALS)
@pytest.mark.parametrize(
    "actions",
    [
        (lost, lambda number: None),
        (signal.raise_signal, lambda number: pytest.fail("it went on")),
    ],
    ids=["lost", "raised"],
)
def test_every_signal_ends_in_an_exception_with_its_number(number, actions, capsys):
    with pytest.raises(Ended) as caught:
        watched(*(lambda _, action=action: action(number) for action in actions))
    assert caught.value.number == number
    assert capsys.readouterr().err == ""


def test_a_check_raises_what_was_lost_also_in_an_outer_context():
    def work(_: Interrupts) -> None:
        lost()
        with Interrupts() as inner:
            inner.check()
            pytest.fail("it went on")

    with pytest.raises(Ended):
        watched(work)


@pytest.mark.parametrize("number", SIGNALS)
def test_the_first_signal_can_wait_and_the_second_cannot(number):
    reached = []

    def work(interrupts: Interrupts) -> None:
        with interrupts.waiting():
            signal.raise_signal(number)
            reached.append("saved")
            signal.raise_signal(number)
            reached.append("too far")

    with pytest.raises(Ended):
        watched(work)
    assert reached == ["saved"]


def test_the_second_signal_ends_the_process():
    """Also where everything else would make it wait; of a library it does not end the program."""
    for ending, expected in ((True, -signal.SIGTERM), (False, 0)):
        process = multiprocessing.get_context("fork").Process(target=_end_while_saving, args=(ending,))
        process.start()
        process.join()
        assert process.exitcode == expected


def _end_while_saving(ending: bool) -> None:
    signal.signal(signal.SIGTERM, signal.SIG_DFL if ending else signal.SIG_IGN)
    with Interrupts(ending) as interrupts:
        interrupts.let_go()
        with held_back():
            signal.raise_signal(signal.SIGTERM)


def test_a_library_leaves_the_end_of_a_process_alone():
    with Interrupts():
        assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
        assert signal.getsignal(signal.SIGHUP) is signal.SIG_DFL


def test_a_signal_that_is_ignored_stays_so():
    """As SIGHUP under nohup."""
    previous = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with Interrupts(ending=True), held_back():
            signal.raise_signal(signal.SIGHUP)
    finally:
        signal.signal(signal.SIGHUP, previous)


def test_other_problems_in_call_backs_are_reported_as_ever(monkeypatch):
    reported = []
    monkeypatch.setattr(sys, "unraisablehook", reported.append)
    with Interrupts():
        ctypes.CFUNCTYPE(None)(lambda: 1 / 0)()
    assert [type(problem.exc_value) for problem in reported] == [ZeroDivisionError]


@pytest.mark.parametrize("number", SIGNALS)
def test_what_is_held_back_comes_at_the_end(number):
    reached = []

    def work(_: Interrupts) -> None:
        with held_back():
            lost(number)
            reached.append("the end")
        reached.append("too far")

    with pytest.raises(Ended) as caught:
        watched(work)
    assert (caught.value.number, reached) == (number, ["the end"])


def test_an_error_in_the_block_does_not_swallow_it():
    def work(_: Interrupts) -> None:
        with held_back():
            signal.raise_signal(signal.SIGINT)
            raise ValueError

    with pytest.raises(Ended):
        watched(work)


def test_other_threads_go_without():
    done = []

    def work() -> None:
        with Interrupts(ending=True) as interrupts, held_back():
            interrupts.check()
            done.append(True)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert done
