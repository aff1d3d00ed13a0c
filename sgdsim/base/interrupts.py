"""Ctrl-C, and the signals by which a process is asked to end: raised as one exception, never lost.

Python raises what a signal asks for wherever the main thread happens to be. In a call-back from C, as of the compiler
or of HDF5, it can only be reported and forgotten: the program goes on, and ends as if nothing had been asked.
"""

from __future__ import annotations

import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType, TracebackType
from typing import Any, Self

SIGNALS = tuple(getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name))
"""Ctrl-C, ``kill``, and a terminal that is closed."""


class Ended(KeyboardInterrupt):
    """What a signal asks for; a `KeyboardInterrupt`, so that it passes and cleans up wherever Ctrl-C does.

    Parameters
    ----------
    number
        Of the signal.
    """

    def __init__(self, number: int = signal.SIGINT) -> None:
        super().__init__(signal.Signals(number).name)
        self.number = number


class Interrupts:
    """In its context an interrupt that is lost in a call-back from C is raised again, by `check` or at the end.

    Handlers of others stay as they are, and so do signals that are ignored, as in a job in the background. A context
    within another one has its interrupts.

    Parameters
    ----------
    ending
        Whether SIGTERM and SIGHUP are raised too, which by default end the process on the spot: for a program of
        ours, since a library leaves them alone.

    Examples
    --------
    >>> with Interrupts() as interrupts:
    ...     interrupts.check()
    """

    def __init__(self, ending: bool = False) -> None:
        self._ending = ending
        self._number: int | None = None
        self._before: dict[int, Any] = {}
        self._outer: Interrupts | None = None
        self._waiting = False

    def __enter__(self) -> Self:
        self._report = sys.unraisablehook
        handlers = _handlers()
        outer = getattr(handlers.get(signal.SIGINT), "__self__", None)
        if isinstance(outer, Interrupts):
            self._outer = outer
            return self
        self._before = {number: handler for number, handler in handlers.items() if self._may_replace(handler)}
        if self._before:
            for number in self._before:
                signal.signal(number, self._interrupt)
            sys.unraisablehook = self._report_others
        return self

    def check(self) -> None:
        """Raise an interrupt that was lost.

        Raises
        ------
        Ended
            If there was one.
        """
        if self._outer is not None:
            self._outer.check()
        if self._number is not None:
            raise Ended(self._number)

    @contextmanager
    def waiting(self) -> Iterator[None]:
        """In the block the first interrupt waits for `check`, where something can be saved; a second does not.

        Examples
        --------
        >>> try:
        ...     with Interrupts() as interrupts, interrupts.waiting():
        ...         signal.raise_signal(signal.SIGINT)
        ...         print("saved")
        ...         interrupts.check()
        ... except KeyboardInterrupt:
        ...     print("ended")
        saved
        ended
        """
        root = self._outer or self
        before, root._waiting = root._waiting, True
        try:
            yield
        finally:
            root._waiting = before

    def let_go(self) -> None:
        """From now on a signal ends our own program on the spot, whatever it is at: what is left can be lost."""
        root = self._outer or self
        if root._ending:
            for number in root._before:
                signal.signal(number, signal.SIG_DFL)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._before:
            for number, handler in self._before.items():
                signal.signal(number, handler)
            sys.unraisablehook = self._report
        if kind is None:
            self.check()

    def _may_replace(self, handler: Any) -> bool:
        return handler is signal.default_int_handler or (self._ending and handler is signal.SIG_DFL)

    def _interrupt(self, number: int, frame: FrameType | None) -> None:
        waits = self._waiting and self._number is None
        self._number = number
        if not waits:
            raise Ended(number)

    def _report_others(self, problem: Any) -> None:
        if not isinstance(problem.exc_value, KeyboardInterrupt):
            self._report(problem)


@contextmanager
def held_back() -> Iterator[None]:
    """Let no signal break into the block: what comes is handled when it is left.

    For a few moments in which an interrupt would be lost, such as calls of HDF5, or leave half of something. A signal
    that nobody handles keeps its default, to end the process.

    Examples
    --------
    >>> with held_back():
    ...     print("this is printed whatever comes")
    this is printed whatever comes
    """
    came: list[int] = []
    before = {number: handler for number, handler in _handlers().items() if callable(handler)}
    try:
        for number in before:
            signal.signal(number, lambda number, frame: came.append(number))
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        if came:
            signal.raise_signal(came[0])


def _handlers() -> dict[int, Any]:
    """What handles each signal now; none but the main thread may change that."""
    if threading.current_thread() is not threading.main_thread():
        return {}
    return {number: signal.getsignal(number) for number in SIGNALS}
