"""The progress bar: on a terminal with rate and time left, else nothing at all."""

from __future__ import annotations

import ctypes
import fcntl
import io
import os
import pty
import re
import signal
import struct
import sys
import termios
import threading
import time
from collections.abc import Callable

import pytest

from sgdsim.simulation import progress
from sgdsim.simulation.progress import Progress


def drawn(shown: bool, monkeypatch, width: int = 100) -> str:
    """Text that a terminal receives."""
    master, slave = pty.openpty()
    fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 24, width, 0, 0))
    with open(slave, "w", encoding="utf-8") as terminal:
        monkeypatch.setattr(sys, "stderr", terminal)
        with Progress(4_000_000, shown) as bar:
            for _ in range(4):
                time.sleep(0.12)  # the bar is drawn ten times a second
                bar.update(1_000_000)
        terminal.write("end")
        terminal.flush()
        text = ""
        while not text.endswith("end"):
            text += os.read(master, 4096).decode()
    os.close(master)
    return text.removesuffix("end")


@pytest.mark.parametrize("width", [0, 100])
def test_a_terminal_shows_rate_and_time_left(width, monkeypatch):
    """One that does not know its width too."""
    text = drawn(True, monkeypatch, width)
    assert re.search(r"million/s, 0:00:0\d left", text)
    assert "2.00 of 4.00 million steps" in text
    assert text.endswith("\x1b[2K")  # it clears its line


def test_nothing_is_drawn_when_it_is_not_wanted(monkeypatch):
    assert drawn(False, monkeypatch) == ""


def test_nothing_is_written_to_what_is_no_terminal(monkeypatch):
    file = io.StringIO()
    monkeypatch.setattr(sys, "stderr", file)
    with Progress(10, True) as bar:
        bar.update(5)
    assert file.getvalue() == ""


def lost_interrupt() -> None:
    """Ctrl-C in a call-back from C, as from the compiler: Python reports it and goes on."""
    ctypes.CFUNCTYPE(None)(lambda: signal.raise_signal(signal.SIGINT))()


def watched(*actions: Callable[[Progress], None]) -> None:
    with Progress(10, False) as bar:
        for action in actions:
            action(bar)


@pytest.mark.parametrize(
    "actions",
    [
        (lambda bar: lost_interrupt(), lambda bar: bar.update(1)),
        (lambda bar: bar.update(10), lambda bar: lost_interrupt()),
        (lambda bar: signal.raise_signal(signal.SIGINT), lambda bar: pytest.fail("it went on")),
    ],
    ids=["before an update", "before the end", "elsewhere"],
)
def test_an_interrupt_is_not_lost(actions, capsys):
    with pytest.raises(KeyboardInterrupt):
        watched(*actions)
    assert capsys.readouterr().err == ""
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_other_problems_in_call_backs_are_reported_as_ever(monkeypatch):
    reported = []
    monkeypatch.setattr(sys, "unraisablehook", reported.append)
    with Progress(10, False):
        ctypes.CFUNCTYPE(None)(lambda: 1 / 0)()
    assert [type(problem.exc_value) for problem in reported] == [ZeroDivisionError]


def test_handlers_of_others_are_left_alone():
    def mine(number, frame):
        raise AssertionError

    previous = signal.signal(signal.SIGINT, mine)
    try:
        with Progress(10, False):
            assert signal.getsignal(signal.SIGINT) is mine
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # a job in the background
        with Progress(10, False) as bar:
            signal.raise_signal(signal.SIGINT)
            bar.update(10)
    finally:
        signal.signal(signal.SIGINT, previous)


def test_it_works_outside_the_main_thread():
    done = []

    def work():
        with Progress(10, False) as bar:
            bar.update(10)
            done.append(True)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert done


def test_a_pipe_gets_a_plain_line_a_minute(monkeypatch):
    """As the log of a batch job; none with --quiet."""
    for shown, expected in ((True, ["2.00 of 6.00 million steps, 31.2 thousand/s, 0:02:08 left"]), (False, [])):
        file, now = io.StringIO(), 1000.0
        monkeypatch.setattr(sys, "stderr", file)
        monkeypatch.setattr(time, "monotonic", lambda: now)  # noqa: B023
        with Progress(6_000_000, shown) as bar:
            bar.begin(0)
            for _ in range(2):
                now += 32.0
                bar.update(1_000_000)
        assert file.getvalue().splitlines() == expected


def test_a_pipe_is_told_what_takes_longer_than_a_second(monkeypatch):
    """Compiling was silent for half a minute; now it says so, but not with --quiet, nor where it takes less."""
    monkeypatch.setattr(progress, "PATIENCE", 0.05)
    for shown, seconds, expected in ((True, 0.3, "compiling …\n"), (True, 0.0, ""), (False, 0.3, "")):
        file = io.StringIO()
        monkeypatch.setattr(sys, "stderr", file)
        with Progress(10, shown) as bar, bar.announcing("compiling …"):
            time.sleep(seconds)
        assert file.getvalue() == expected
