"""Cases of which some are tried by `make test`, and all by `make validate`."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import pytest


def daily(cases: Iterable[Any], *kept: Any) -> list[Any]:
    """Parameters of a test: all cases, of which those that are not kept for every day are marked for the long suite."""
    known = list(cases)
    assert not [one for one in kept if one not in known]
    marks = [() if one in kept else pytest.mark.validate for one in known]
    given = [one if isinstance(one, tuple) else (one,) for one in known]
    return [pytest.param(*one, marks=mark) for one, mark in zip(given, marks, strict=True)]
