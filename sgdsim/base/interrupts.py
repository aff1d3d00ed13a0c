"""Ctrl-C, and the signals that ask a process to end: raised as one exception, never lost.

Python raises the exception of a signal wherever the main thread happens to be. Within a call-back from C, as of the
compiler or of HDF5, the exception is printed and dropped: the program would go on as if nothing had been asked.
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
"""Signals of Ctrl-C, of ``kill``, and of a terminal that is closed."""


class Ended(KeyboardInterrupt):
    """Request of a signal that the process end. It is a `KeyboardInterrupt`, so it is handled wherever Ctrl-C is.

    Parameters
    ----------
    number
        Number of the signal.
    """

    def __init__(self, number: int = signal.SIGINT) -> None:
        super().__init__(signal.Signals(number).name)
        self.number = number


class Interrupts:
    """Context in which an interrupt that is lost in a call-back from C is raised again, by `check` or at the end.

    Signals that another handler handles, or that are ignored, as in a background job, stay so. A context within
    another one shares its interrupts.

    Parameters
    ----------
    ending
        True if SIGTERM and SIGHUP are raised too, which by default end the process at once. Only our own program sets
        it: a library leaves these signals alone.

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
        """Raise an interrupt that was lost in a call-back from C.

        Raises
        ------
        Ended
            If an interrupt was lost.
        """
        if self._outer is not None:
            self._outer.check()
        if self._number is not None:
            raise Ended(self._number)

    @contextmanager
    def waiting(self) -> Iterator[None]:
        """Let the first interrupt wait, during the block, until `check`, where work can be saved; a second does not.

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
        """Let a signal end our own program at once from now on: the work that is left may be lost."""
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
    """Let no signal interrupt the block: a signal is handled when the block is left.

    This is for short calls in which an interrupt would be lost, such as those of HDF5, or would leave a result half
    written. A signal without a handler keeps its default, which is to end the process.

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
    """Present handler of each signal; empty outside the main thread, which alone may change handlers."""
    if threading.current_thread() is not threading.main_thread():
        return {}
    return {number: signal.getsignal(number) for number in SIGNALS}
