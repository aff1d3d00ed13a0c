"""The bar of progress: what it says, and that it never costs the work anything."""

from __future__ import annotations

import io
import sys

from sgdsim.base import bar


class Terminal(io.StringIO):
    """A terminal that may go away."""

    gone = False

    def isatty(self):
        return True

    def write(self, text):
        if self.gone:
            raise OSError(5, "Input/output error")
        return super().write(text)


def test_a_terminal_that_goes_away_takes_the_bar_with_it(monkeypatch):
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    drawn = bar.Bar(4, "points")
    drawn.update(1)
    terminal.gone = True
    drawn._drawn = 0.0  # it would draw at once
    drawn.update(1)
    drawn.say("nobody hears this")
    drawn.close()
    assert "0 of 4 points" in terminal.getvalue()


def test_only_what_takes_long_has_a_bar(monkeypatch):
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    assert list(bar.watched(3, "points", patience=100.0)) == [0, 1, 2]
    assert terminal.getvalue() == ""
    assert list(bar.watched(3, "points", patience=-1.0)) == [0, 1, 2]
    assert "points" in terminal.getvalue()


def test_a_closed_standard_error_is_no_terminal(monkeypatch):
    monkeypatch.setattr(sys, "stderr", None)
    assert list(bar.watched(2, "points", patience=-1.0)) == [0, 1]
