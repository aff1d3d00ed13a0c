"""Watching a run: a progress bar where there is a terminal, and Ctrl-C, which must not get lost."""

from __future__ import annotations

import os
import signal
import sys
import threading
from types import FrameType, TracebackType
from typing import Any, Self


class Progress:
    """Counts trajectory-steps; shows their rate and the time left on standard error if that is a terminal.

    In its context an interrupt that arrives in a call-back of the compiler, where Python can only report and forget
    it, is raised again with the next `update`.

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
        self._shown = shown and sys.stderr.isatty()
        self._bar: Any = None
        self._interrupted = False
        self._watching = False

    def __enter__(self) -> Self:
        in_main = threading.current_thread() is threading.main_thread()
        self._watching = in_main and signal.getsignal(signal.SIGINT) is signal.default_int_handler
        self._report = sys.unraisablehook
        if self._watching:
            signal.signal(signal.SIGINT, self._interrupt)
            sys.unraisablehook = self._report_others
        if self._shown:
            from tqdm import tqdm

            # A terminal may not know its width; tqdm would take that for no room at all.
            width = None if os.get_terminal_size(sys.stderr.fileno()).columns else 80
            self._bar = tqdm(total=self._total, unit=" trajectory-steps", unit_scale=True, leave=False, ncols=width)
        return self

    def update(self, done: int) -> None:
        """Note that so many more trajectory-steps are done.

        Raises
        ------
        KeyboardInterrupt
            If one was lost before.
        """
        if self._interrupted:
            raise KeyboardInterrupt
        if self._bar is not None:
            if not self._bar.n:
                self._bar.unpause()  # until now kernels were compiled
            self._bar.update(done)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._watching:
            signal.signal(signal.SIGINT, signal.default_int_handler)
            sys.unraisablehook = self._report
        if self._bar is not None:
            self._bar.close()
        if kind is None and self._interrupted:
            raise KeyboardInterrupt

    def _interrupt(self, number: int, frame: FrameType | None) -> None:
        self._interrupted = True
        raise KeyboardInterrupt

    def _report_others(self, problem: Any) -> None:
        if not isinstance(problem.exc_value, KeyboardInterrupt):
            self._report(problem)
