"""Runs that are interrupted on their way."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from sgdsim.simulation.simulator import Simulator


@contextmanager
def interrupted(monkeypatch: pytest.MonkeyPatch, spans: int) -> Iterator[pytest.ExceptionInfo[KeyboardInterrupt]]:
    """Interrupt the run in the block in the span after so many."""
    original, left = Simulator.advance, spans

    def advance(*arguments: Any) -> None:
        nonlocal left
        left -= 1
        original(*arguments)
        if left < 0:
            signal.raise_signal(signal.SIGINT)

    with monkeypatch.context() as patch:
        patch.setattr(Simulator, "advance", advance)
        with pytest.raises(KeyboardInterrupt) as caught:
            yield caught
