"""The progress bar: on a terminal with rate and time left, else nothing at all."""

from __future__ import annotations

import fcntl
import io
import os
import pty
import struct
import sys
import termios
import time

import pytest

from sgdsim.progress import Progress


def drawn(shown: bool, monkeypatch, width: int = 100) -> str:
    """What a terminal is sent."""
    master, slave = pty.openpty()
    fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 24, width, 0, 0))
    with open(slave, "w", encoding="utf-8") as terminal:
        monkeypatch.setattr(sys, "stderr", terminal)
        with Progress(4_000_000, shown) as bar:
            for _ in range(4):
                time.sleep(0.12)  # tqdm draws ten times a second
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
    assert "M trajectory-steps/s" in text
    assert "1.00M/4.00M" in text
    assert "00:01" in text or "00:00" in text
    assert text.rstrip(" ").endswith("\r")  # it clears its line


def test_nothing_is_drawn_when_it_is_not_wanted(monkeypatch):
    assert drawn(False, monkeypatch) == ""


def test_nothing_is_written_to_what_is_no_terminal(monkeypatch):
    file = io.StringIO()
    monkeypatch.setattr(sys, "stderr", file)
    with Progress(10, True) as bar:
        bar.update(5)
    assert file.getvalue() == ""
