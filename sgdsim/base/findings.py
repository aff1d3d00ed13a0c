"""Results of SymPy, kept beside the kernels as plain data, so that a second process need not import SymPy.

To import SymPy takes half a second, and its algebra more. The name of a kept result is a hash of the question, of all
code that could answer it and of the versions of the libraries which that code calls. Another question or other code
is answered anew; so is a question to code of the user's own, of which no version is known.
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
_MOST = 100  # results that a process keeps: the points of a large sweep would fill the folder with files

T = TypeVar("T")

_kept = itertools.count()


def found(question: Any, find: Callable[[], T], by: Iterable[Callable[..., Any]] = ()) -> T:
    """Answer to a question: as it was kept by an earlier process, or computed now.

    Parameters
    ----------
    question
        Plain data: all that the answer depends on, except code.
    find
        Function that computes the answer, which is plain data too. Errors and answers cut short by a time limit are
        not kept.
    by
        Functions that take part in the answer. If one of them is not of this package, nothing is kept.

    Examples
    --------
    >>> found(["an example", 2], lambda: {"answer": [4]})
    {'answer': [4]}
    """
    if not all(map(is_ours, by)):
        return find()
    path = cache_folder() / f"sgdsim_found_{_name(question)}.json"
    with suppress(OSError, ValueError):  # no such file, or a damaged one
        known: T = json.loads(cache_files.read(path))
        return known
    ended = OutOfTime.raised
    answer = find()
    if OutOfTime.raised == ended and next(_kept) < _MOST:
        with suppress(OSError):  # a result that cannot be kept is computed again by the next process
            cache_files.write(path, json.dumps(answer).encode())
    return answer


def is_ours(function: Callable[..., Any]) -> bool:
    """True if a function belongs to this package, whose code is known."""
    return function.__module__.startswith("sgdsim.")


def answered_by() -> str:
    """Hash of all code that computes answers, and of the versions of the libraries it calls."""
    return hashlib.sha256(json.dumps(_by()).encode()).hexdigest()[:20]


def _name(question: Any) -> str:
    return hashlib.sha256(json.dumps([question, *_by()]).encode()).hexdigest()[:20]


def _by() -> list[Any]:
    return [_code(), _versions(), sys.implementation.cache_tag]


@cache
def _code() -> str:
    return hashlib.sha256(b"".join(file.read_bytes() for file in _files())).hexdigest()


def _files() -> list[Path]:
    """Source files of all code that computes answers."""
    package = Path(__file__).parent.parent
    rooms = (file for room in _ROOMS for file in sorted((package / room).rglob("*.py")))
    return [package / "prediction.py", *rooms]


@cache
def _versions() -> list[str]:
    return [importlib.metadata.version(name) for name in ("sympy", "mpmath", "numpy", "scipy")]
