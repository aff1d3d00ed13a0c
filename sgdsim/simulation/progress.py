"""Progress of a run: a bar on a terminal, else a line a minute; and Ctrl-C, which must not get lost."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from threading import Timer
from types import TracebackType
from typing import Self

from sgdsim.base.bar import Bar, Lines, is_terminal
from sgdsim.base.budget import PATIENCE
from sgdsim.base.interrupts import Interrupts


class Progress:
    """Counter of trajectory-steps, which shows their rate and the time left on standard error.

    In its context an interrupt that arrives in a call-back of the compiler, where Python would only print and drop it,
    is raised again at the next `update`.

    Parameters
    ----------
    total
        Number of trajectory-steps of the whole run.
    shown
        False to show nothing.

    Examples
    --------
    >>> with Progress(1000, shown=False) as progress:
    ...     progress.update(500)
    """

    def __init__(self, total: int, shown: bool) -> None:
        self._total = total
        self._shown = shown
        self._bar: Bar | Lines | None = None
        self._interrupts = Interrupts()

    def __enter__(self) -> Self:
        self._interrupts.__enter__()
        if self._shown:
            self._bar = (Bar if is_terminal() else Lines)(self._total, "steps")
        return self

    def say(self, text: str) -> None:
        """Print a line above the bar, if there is a terminal."""
        if text and self._bar is not None:
            self._bar.say(text)

    @contextmanager
    def announcing(self, text: str) -> Iterator[None]:
        """Tell what the block does, in a pipe too, if it takes longer than a second."""
        if self._bar is None:
            yield
            return
        timer = Timer(PATIENCE, self._bar.announce, [text])
        timer.daemon = True
        timer.start()
        try:
            yield
        finally:
            timer.cancel()

    def begin(self, done: int) -> None:
        """Note the number of trajectory-steps that were done before the run was resumed."""
        if self._bar is not None:
            self._bar.update(done)

    def waiting(self) -> AbstractContextManager[None]:
        """Let an interrupt wait during the block; see `Interrupts.waiting`."""
        return self._interrupts.waiting()

    def let_go(self) -> None:
        """Let a signal end the program at once from now on; see `Interrupts.let_go`."""
        self._interrupts.let_go()

    def update(self, done: int) -> None:
        """Add to the number of trajectory-steps that are done.

        Raises
        ------
        KeyboardInterrupt
            If an interrupt was lost before.
        """
        self._interrupts.check()
        if self._bar is not None:
            self._bar.update(done)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        try:
            if self._bar is not None:
                self._bar.close()
        finally:
            self._interrupts.__exit__(kind, error, traceback)
