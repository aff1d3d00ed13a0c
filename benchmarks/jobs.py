"""Jobs: descriptions of what is simulated, which every peer reads."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any


@dataclass(frozen=True)
class Job:
    """One ensemble.

    Parameters
    ----------
    trajectories, steps
        How many, and how long.
    model
        Names what is simulated: a key of each peer's ``MODELS``.
    learning_rate
        Of every step.
    constants, initial
        Numbers of the model, and the start that all trajectories share.
    """

    trajectories: int
    steps: int
    model: str = "river_valley"
    learning_rate: float = 0.1
    constants: Mapping[str, float] = field(default_factory=lambda: {"a0": 1.0, "k": 0.5, "c2": 0.1, "sigma": 1.0})
    initial: Mapping[str, float] = field(default_factory=lambda: {"x": 0.5, "y": 1.0})

    def describe(self) -> dict[str, Any]:
        """Job as plain data; ``Job(**description)`` is the job again."""
        return asdict(self)

    @property
    def work(self) -> int:
        """Trajectory-steps."""
        return self.trajectories * self.steps
