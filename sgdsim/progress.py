"""A progress bar on standard error, silent when that is not a terminal."""

from __future__ import annotations

import os
import sys
from types import TracebackType
from typing import Any, Self


class Progress:
    """Counts trajectory-steps; shows their rate and the time left.

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

    def __enter__(self) -> Self:
        if self._shown:
            from tqdm import tqdm

            # A terminal may not know its width; tqdm would take that for no room at all.
            width = None if os.get_terminal_size(sys.stderr.fileno()).columns else 80
            self._bar = tqdm(total=self._total, unit=" trajectory-steps", unit_scale=True, leave=False, ncols=width)
        return self

    def update(self, done: int) -> None:
        """Note that so many more trajectory-steps are done."""
        if self._bar is not None:
            self._bar.update(done)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._bar is not None:
            self._bar.close()
