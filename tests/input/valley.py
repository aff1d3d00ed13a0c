"""A scenario of one weight in a noisy valley, as the tables of its file."""

from __future__ import annotations

from typing import Any

DATA: dict[str, Any] = {
    "loss": {
        "formula": "a*(x - z)**2/2",
        "parameters": {"x": 1.0},
        "constants": {"a": 1.0},
        "noise": {"z": "normal"},
    },
    "optimizer": {"learning_rate": 0.1},
    "run": {"trajectories": 10, "steps": 5},
}
