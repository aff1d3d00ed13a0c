"""Progress: how much is done, how fast, and how long it takes yet. A bar on a terminal, elsewhere a line a minute."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from math import log10
from typing import Any

_EVERY = 0.1  # seconds between two drawings of the bar
_LINE_EVERY = 60.0  # seconds between two lines in the log of a batch job
_WIDTH = 80  # columns of a terminal that does not tell its width
_WORDS = ("", " thousand", " million", " billion", " trillion", " quadrillion")


class Bar:
    """Progress bar on standard error, which must be a terminal. If the terminal closes, the work goes on without it.

    Parameters
    ----------
    total
        Amount of work, in the unit.
    unit
        Name of what is counted, such as ``"steps"``.
    """

    def __init__(self, total: int, unit: str) -> None:
        self._total, self._unit = total, unit
        self._done, self._start, self._drawn = 0, 0.0, 0.0
        self._rich: Any = None
        self._task: Any = None
        self._safely(self._open)

    def update(self, done: int) -> None:
        """Add to the work that is done. The clock starts at the first call, after the kernels are compiled."""
        now = time.monotonic()
        if not self._start:
            self._start = now
        else:
            self._done += done
        self._completed(done, now)

    def say(self, text: str) -> None:
        """Print a line above the bar."""
        self._safely(lambda: self._rich.console.print(text, markup=False, highlight=False))

    announce = say

    def close(self) -> None:
        """Clear the line."""
        if self._rich is not None:
            self._safely(self._rich.stop)
        self._rich = None

    def _completed(self, done: int, now: float) -> None:
        drawn = now - self._drawn >= _EVERY
        self._drawn = now if drawn else self._drawn
        speed = self._done / (now - self._start) if now > self._start else 0.0
        self._safely(lambda: self._rich.update(self._task, advance=done, speed=speed, refresh=drawn))

    def _open(self) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, Progress, ProgressColumn
        from rich.text import Text

        total, unit = self._total, self._unit

        class Numbers(ProgressColumn):
            def render(self, task: Any) -> Text:
                return Text(_numbers(task.completed, total, unit, task.fields["speed"]), no_wrap=True)

        console = Console(file=sys.stderr)
        if not console.width > 1:
            console = Console(file=sys.stderr, width=_WIDTH)
        options = {"auto_refresh": False, "transient": True, "redirect_stdout": False, "redirect_stderr": False}
        self._rich = Progress(BarColumn(20), Numbers(), console=console, **options)  # type: ignore[arg-type]
        self._task = self._rich.add_task("", total=self._total, speed=0.0)
        self._rich.start()

    def _safely(self, action: Callable[[], object]) -> None:
        if self._rich is None and action != self._open:
            return
        try:
            action()
        except (OSError, ValueError):  # the latter of a file that Python has closed
            self._rich = None


class Lines:
    """Progress as one plain line a minute on standard error, for a pipe or the log of a batch job; see `Bar`."""

    def __init__(self, total: int, unit: str) -> None:
        self._total, self._unit = total, unit
        self._done, self._before = 0, 0
        self._start = self._said = 0.0

    def update(self, done: int) -> None:
        """Add to the work that is done. The clock starts at the first call."""
        now = time.monotonic()
        self._done += done
        if not self._start:
            self._start, self._said, self._before = now, now, self._done
        elif now - self._said >= _LINE_EVERY:
            self._said = now
            speed = (self._done - self._before) / (now - self._start)
            self._print(_numbers(self._done, self._total, self._unit, speed))

    def say(self, text: str) -> None:
        """Do nothing: the messages of a bar are for people who wait at a terminal."""

    def announce(self, text: str) -> None:
        """A line on what takes long."""
        self._print(text)

    def close(self) -> None:
        """Do nothing: there is no bar to clear."""

    def _print(self, text: str) -> None:
        with suppress(OSError, ValueError, AttributeError):  # the last where standard error is closed, and None
            sys.stderr.write(f"{text}\n")
            sys.stderr.flush()


def watched(total: int, unit: str, patience: float) -> Iterator[int]:
    """Numbers from 0 below a total; on a terminal a bar appears once the loop has taken ``patience`` seconds."""
    start, bar = time.monotonic(), None
    try:
        for done in range(total):
            if bar is not None:
                bar.update(1)
            elif is_terminal() and time.monotonic() - start > patience:
                bar = Bar(total - done, unit)
            yield done
    finally:
        if bar is not None:
            bar.close()


def is_terminal() -> bool:
    """True if standard error is a terminal. It is None if it was closed before Python started."""
    return sys.stderr is not None and sys.stderr.isatty()


def _numbers(done: float, total: int, unit: str, speed: float) -> str:
    """Progress in words: the work done, the speed and the time left.

    Examples
    --------
    >>> _numbers(1.5e9, 4_000_000_000, "steps", 5e8)
    '1.50 of 4.00 billion steps, 500 million/s, 0:00:05 left'
    >>> _numbers(0, 40, "points", 0.0)
    '0 of 40 points'
    """
    rank = min(int(log10(max(total, 1))) // 3, len(_WORDS) - 1)
    digits = 2 if rank else 0
    text = f"{done / 1000**rank:.{digits}f} of {total / 1000**rank:.{digits}f}{_WORDS[rank]} {unit}"
    if not speed:
        return text
    of_speed = min(max(int(log10(max(speed, 1))) // 3, 0), len(_WORDS) - 1)
    seconds = int((total - done) / speed)
    left = f"{seconds // 3600}:{seconds // 60 % 60:02}:{seconds % 60:02}"
    return f"{text}, {speed / 1000**of_speed:.3g}{_WORDS[of_speed]}/s, {left} left"
