"""One module a program.

Each has ``MODELS``: for each model and variant a function ``prepare(job, threads)`` that returns a function: called, it
simulates the job from its start to its end and returns the final state by parameter, nothing where there is none to
compare.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib import import_module

import numpy as np

from benchmarks.jobs import Job

State = dict[str, np.ndarray]
Simulate = Callable[[], State]
Prepare = Callable[[Job, int], Simulate]
Models = Mapping[str, Mapping[str, Prepare]]


@dataclass(frozen=True)
class Peer:
    """A program.

    Parameters
    ----------
    name, distribution
        What it is called in tables, and by package indices.
    module
        In this package; it imports the library.
    threaded
        Whether it can use more threads than one.
    """

    name: str
    distribution: str
    module: str
    threaded: bool = True

    @property
    def installed(self) -> bool:
        """Whether the library is here."""
        return importlib.util.find_spec(self.distribution) is not None

    @property
    def models(self) -> Models:
        """The module's ``MODELS``."""
        models: Models = import_module(f"benchmarks.peers.{self.module}").MODELS
        return models


PEERS = {
    peer.name: peer
    for peer in (
        Peer("sgdsim", "sgdsim", "ours"),
        Peer("NumPy", "numpy", "numpy_vectorised", threaded=False),
        Peer("naive numba", "numba", "numba_loop"),
        Peer("JAX", "jax", "jax_scan"),
        Peer("PyTorch", "torch", "torch_eager"),
    )
}
