"""What SymPy has found out about a text, kept beside the kernels as plain data, so that a second process need not ask.

SymPy takes half a second to be imported, and then its time. What is kept is named by a hash of the question, of all
code that could answer it and of the versions of what that code calls: another question, or other code, asks anew. So
does code of the user's own, of which no version is known.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import itertools
import json
import sys
from collections.abc import Callable, Iterable
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Any, TypeVar

from sgdsim.base import cache_files
from sgdsim.base.budget import OutOfTime
from sgdsim.base.cache_folder import cache_folder

_ROOMS = ("base", "formulas", "ensemble", "model", "theory", "input", "plots", "app")
_MOST = 100  # that a process keeps: the points of a large sweep would fill the folder with files

T = TypeVar("T")

_kept = itertools.count()


def found(question: Any, find: Callable[[], T], by: Iterable[Callable[..., Any]] = ()) -> T:
    """What was found before about a question, or what is found now.

    Parameters
    ----------
    question
        Plain data: all that the answer depends on but for code.
    find
        Finds the answer, which is plain data too; what it raises is not kept, nor what had no time to be found.
    by
        Functions that take part in it. Where one is not of this package, nothing is kept.

    Examples
    --------
    >>> found(["an example", 2], lambda: {"answer": [4]})
    {'answer': [4]}
    """
    if not all(function.__module__.startswith("sgdsim.") for function in by):
        return find()
    path = cache_folder() / f"sgdsim_found_{_name(question)}.json"
    with suppress(OSError, ValueError):  # no such file, or a damaged one
        known: T = json.loads(cache_files.read(path))
        return known
    ended = OutOfTime.raised
    answer = find()
    if OutOfTime.raised == ended and next(_kept) < _MOST:
        with suppress(OSError):  # only the next process misses it
            cache_files.write(path, json.dumps(answer).encode())
    return answer


def answered_by() -> str:
    """A hash of all code that answers and of the versions of what it calls."""
    return hashlib.sha256(json.dumps(_by()).encode()).hexdigest()[:20]


def _name(question: Any) -> str:
    return hashlib.sha256(json.dumps([question, *_by()]).encode()).hexdigest()[:20]


def _by() -> list[Any]:
    return [_code(), _versions(), sys.implementation.cache_tag]


@cache
def _code() -> str:
    return hashlib.sha256(b"".join(file.read_bytes() for file in _files())).hexdigest()


def _files() -> list[Path]:
    """Of all code that finds answers."""
    package = Path(__file__).parent.parent
    rooms = (file for room in _ROOMS for file in sorted((package / room).rglob("*.py")))
    return [package / "prediction.py", *rooms]


@cache
def _versions() -> list[str]:
    return [importlib.metadata.version(name) for name in ("sympy", "mpmath", "numpy", "scipy")]
