"""Watching a run: a progress bar where there is a terminal, and Ctrl-C, which must not get lost."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from types import TracebackType
from typing import Any, Self

from sgdsim.base.interrupts import Interrupts

_WIDTH = 80  # of a terminal that does not know its own; tqdm would take that for no room at all


class Progress:
    """Counts trajectory-steps; shows their rate and the time left on standard error if that is a terminal.

    In its context an interrupt that arrives in a call-back of the compiler, where Python can only report and forget
    it, is raised again with the next `update`. A terminal that goes away takes the bar with it, not the run.

    Parameters
    ----------
    total
        Trajectory-steps of the whole run.
    shown
        False for no bar at all.

    Examples
    --------
    >>> with Progress(1000, shown=False) as progress:
    ...     progress.update(500)
    """

    def __init__(self, total: int, shown: bool) -> None:
        self._total = total
        self._shown = shown
        self._bar: Any = None
        self._interrupts = Interrupts()

    def __enter__(self) -> Self:
        self._interrupts.__enter__()
        if self._shown:
            self._draw(self._begin)
        return self

    def say(self, text: str) -> None:
        """A line above the bar, where there is one."""
        if text and self._bar:
            self._bar.write(text, file=sys.stderr)

    def update(self, done: int) -> None:
        """Note that so many more trajectory-steps are done.

        Raises
        ------
        KeyboardInterrupt
            If one was lost before.
        """
        self._interrupts.check()
        if self._bar is not None:
            self._draw(lambda: self._advance(done))

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        try:
            if self._bar is not None:
                self._draw(self._bar.close)
        finally:
            self._interrupts.__exit__(kind, error, traceback)

    def _begin(self) -> None:
        if sys.stderr is None or not sys.stderr.isatty():  # None where it was closed before Python began
            return
        from tqdm import tqdm

        width = None if os.get_terminal_size(sys.stderr.fileno()).columns else _WIDTH
        self._bar = tqdm(total=self._total, unit=" trajectory-steps", unit_scale=True, leave=False, ncols=width)

    def _advance(self, done: int) -> None:
        if not self._bar.n:
            self._bar.unpause()  # until now kernels were compiled
        self._bar.update(done)

    def _draw(self, action: Callable[[], object]) -> None:
        try:
            action()
        except (OSError, ValueError):  # the latter of a file that Python has closed
            if self._bar is not None:
                self._bar.disable = True  # or it would try again when it is forgotten
            self._bar = None
