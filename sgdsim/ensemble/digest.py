"""The digest of a run: one number that a repetition of the run must reproduce."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterator, Mapping

import numpy as np

from sgdsim.ensemble.variable import Variable

THEORY = frozenset({"prediction", "claim"})
"""Dimensions of the variables that hold predictions of theory, which are not results of the run."""


def digest(variables: Mapping[str, Variable], scenario: object) -> str:
    """SHA-256 of variables and of the text of a scenario; see `sgdsim.Ensemble.digest`.

    Examples
    --------
    >>> digest({"status": Variable(("trajectory",), [0, 12])}, "")[:8]
    'db7a6da9'
    """
    digest = hashlib.sha256(json.dumps(scenario).encode())
    for name, variable in sorted(variables.items()):
        if not THEORY.isdisjoint(variable.dimensions):
            continue
        for number, piece in enumerate(_pieces(variable)):
            kind = "text" if piece.dtype.kind == "U" else piece.dtype.newbyteorder("<").str
            if number == 0:
                digest.update(json.dumps([name, variable.dimensions, kind, variable.shape]).encode())
            digest.update(_bytes(piece))
    return digest.hexdigest()


def _pieces(variable: Variable) -> Iterator[np.ndarray]:
    """Values of a variable in order, a part at a time: a file may be larger than the memory."""
    if not variable.shape:
        yield variable.data
        return
    step = max(1, 2**21 // max(1, math.prod(variable.shape[1:])))
    for start in range(0, max(1, variable.shape[0]), step):
        yield variable.rows(start, start + step)


def _bytes(values: np.ndarray) -> bytes | memoryview:
    if values.dtype.kind == "U":
        return b"".join(text.encode() + b"\0" for text in values.flat)
    return np.ascontiguousarray(values, values.dtype.newbyteorder("<")).reshape(-1).view(np.uint8).data
