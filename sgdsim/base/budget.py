"""The time that a computation may take: whoever starts it sets a limit, and its loops look at the clock.

Seconds are those of the computing thread, so that what can be had does not depend on what else the machine does.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from math import inf
from typing import ClassVar

SECONDS = 20.0
"""Seconds that a law may take at a sweep point if the user did not ask for it."""

PATIENCE = 1.0
"""Seconds after which a message says what is being computed."""

clock = time.thread_time


class OutOfTime(Exception):
    """A computation has taken, or would take, more time than it has."""

    raised: ClassVar[int] = 0
    """Number of errors raised so far: an answer that one of them has cut short must not be kept."""

    def __init__(self, *arguments: object) -> None:
        super().__init__(*arguments)
        OutOfTime.raised += 1


@dataclass
class _Notice:
    """Message to be sent once, when a computation has taken a long time."""

    at: float
    say: Callable[[], object] | None


@dataclass(frozen=True)
class _Budget:
    seconds: float
    began: float
    notice: _Notice


_current: ContextVar[_Budget | None] = ContextVar("budget", default=None)


@contextmanager
def limited(seconds: float = inf, say: Callable[[], object] | None = None) -> Iterator[None]:
    """End what is computed in the block, wherever it calls `check`, once it has taken so many seconds.

    Parameters
    ----------
    seconds
        The limit. That of a block around this one holds as well.
    say
        Called once when the block has taken `PATIENCE`, to tell what takes so long; by default as the block around.

    Raises
    ------
    OutOfTime
        From within, by `check` or `require`.

    Examples
    --------
    >>> with limited(0.0):
    ...     while True:
    ...         check()
    Traceback (most recent call last):
    sgdsim.base.budget.OutOfTime: needs more than 0 s
    """
    outer, now = _current.get(), clock()
    notice = _Notice(now + PATIENCE, say) if say is not None or outer is None else outer.notice
    inner = _Budget(seconds, now, notice)
    if outer is not None and outer.seconds - (now - outer.began) < seconds:
        inner = _Budget(outer.seconds, outer.began, notice)
    token = _current.set(inner)
    try:
        yield
    finally:
        _current.reset(token)


def check() -> None:
    """Look at the clock, in a loop whose turns take longer than a microsecond.

    Raises
    ------
    OutOfTime
        Where the time is used up.
    """
    budget = _current.get()
    if budget is None:
        return
    now = clock()
    if budget.notice.say is not None and now > budget.notice.at:
        say, budget.notice.say = budget.notice.say, None
        say()
    if now - budget.began > budget.seconds:
        raise OutOfTime(f"needs more than {budget.seconds:g} s")


def require(seconds: float, what: str) -> None:
    """Refuse, before it begins, what would take longer than there is time left.

    Parameters
    ----------
    seconds
        An estimate.
    what
        What takes them, for the message.

    Raises
    ------
    OutOfTime
        With the estimate.

    Examples
    --------
    >>> with limited(1.0):
    ...     require(100.0, "a mesh of 2000 states")
    Traceback (most recent call last):
    sgdsim.base.budget.OutOfTime: needs about 100 s for a mesh of 2000 states, and has 1 s
    """
    check()
    budget = _current.get()
    if budget is not None and clock() - budget.began + seconds > budget.seconds:
        raise OutOfTime(f"needs about {max(seconds, 1.0):.0f} s for {what}, and has {budget.seconds:g} s")
