"""One module a program.

Each has ``MODELS``: for each model and variant a function ``prepare(job, threads)`` that returns a function: called, it
simulates the job from its start to its end, waits until that is done, and returns the final state by parameter, nothing
where there is none to compare.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib import import_module
from typing import Any

from benchmarks.jobs import Job

State = dict[str, Any]  # arrays, here or on a GPU
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
        """True if the library is installed."""
        return importlib.util.find_spec(self.distribution) is not None

    @property
    def models(self) -> Models:
        """The module's ``MODELS``."""
        models: Models = self._imported().MODELS
        return models

    def gpu(self) -> str:
        """The name of the GPU that the library sees; it raises where there is none."""
        return str(self._imported().gpu())

    def _imported(self) -> Any:
        return import_module(f"benchmarks.peers.{self.module}")


PEERS = {
    peer.name: peer
    for peer in (
        Peer("sgdsim", "sgdsim", "ours"),
        Peer("NumPy", "numpy", "numpy_vectorised", threaded=False),
        Peer("naive numba", "numba", "numba_loop"),
        Peer("JAX", "jax", "jax_scan"),
        Peer("PyTorch", "torch", "torch_eager"),
        Peer("diffrax", "diffrax", "diffrax_euler"),
    )
}
# Their modules also have ``gpu()``, which names the GPU that the library sees, or raises.
GPU_PEERS = {
    peer.name: peer
    for peer in (
        Peer("sgdsim", "sgdsim", "ours_cuda"),
        Peer("JAX", "jax", "jax_scan"),
        Peer("PyTorch", "torch", "torch_cuda"),
        Peer("diffrax", "diffrax", "diffrax_euler"),
    )
}
