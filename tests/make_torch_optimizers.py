"""Writes tests/data/torch_optimizers.json: where torch's own optimizers go, in float64, step by step.

Run as ``python -m tests.make_torch_optimizers`` with torch installed, once; the tests read the file.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

FILE = Path(__file__).parent / "data" / "torch_optimizers.json"
STEPS = 500
KEPT = (1, 2, 3, 4, 5, 10, 20, 50, 100, 200, 350, 500)  # completed steps
START = (1.5, -0.7)

# Ours, with its hyperparameters, the rate, and the class of torch with its arguments.
CASES: dict[str, tuple[str, dict[str, float], str, str, dict[str, Any]]] = {
    "sgd": ("sgd", {}, "0.05", "SGD", {}),
    "sgd, decay": ("sgd", {"weight_decay": 0.1}, "0.05", "SGD", {"weight_decay": 0.1}),
    "momentum": ("momentum", {"momentum": 0.9}, "0.02", "SGD", {"momentum": 0.9}),
    "momentum, decay": (
        *("momentum", {"momentum": 0.8, "weight_decay": 0.1}, "0.02"),
        *("SGD", {"momentum": 0.8, "weight_decay": 0.1}),
    ),
    "nesterov": ("nesterov", {"momentum": 0.9}, "0.02", "SGD", {"momentum": 0.9, "nesterov": True}),
    "nesterov, decay": (
        *("nesterov", {"momentum": 0.8, "weight_decay": 0.1}, "0.02"),
        *("SGD", {"momentum": 0.8, "weight_decay": 0.1, "nesterov": True}),
    ),
    "ema": ("ema", {"momentum": 0.9}, "0.1", "SGD", {"momentum": 0.9, "dampening": 0.9}),
    "ema, decay": (
        *("ema", {"momentum": 0.75, "weight_decay": 0.1}, "0.1"),
        *("SGD", {"momentum": 0.75, "dampening": 0.75, "weight_decay": 0.1}),
    ),
    "rmsprop": ("rmsprop", {}, "0.01", "RMSprop", {}),
    "rmsprop, other settings": (
        *("rmsprop", {"alpha": 0.9, "epsilon": 1e-3, "weight_decay": 0.05}, "0.02"),
        *("RMSprop", {"alpha": 0.9, "eps": 1e-3, "weight_decay": 0.05}),
    ),
    "adam": ("adam", {}, "0.01", "Adam", {}),
    "adam, decay": ("adam", {"weight_decay": 0.1}, "0.01", "Adam", {"weight_decay": 0.1}),
    "adam, other settings": (
        *("adam", {"beta1": 0.5, "beta2": 0.9, "epsilon": 1e-2}, "0.03"),
        *("Adam", {"betas": [0.5, 0.9], "eps": 1e-2}),
    ),
    "adamw": ("adamw", {}, "0.01", "AdamW", {}),
    "adamw, other settings": (
        *("adamw", {"beta1": 0.8, "beta2": 0.99, "epsilon": 1e-4, "decoupled_weight_decay": 0.2}, "0.02"),
        *("AdamW", {"betas": [0.8, 0.99], "eps": 1e-4, "weight_decay": 0.2}),
    ),
    # Rates that change: what stands before or after the rate in a rule shows only here.
    "momentum, cosine": (
        *("momentum", {"momentum": 0.9, "weight_decay": 0.05}, "cosine:0.05,0.001"),
        *("SGD", {"momentum": 0.9, "weight_decay": 0.05}),
    ),
    "nesterov, cosine": ("nesterov", {}, "cosine:0.05,0.001", "SGD", {"momentum": 0.9, "nesterov": True}),
    "ema, cosine": ("ema", {}, "cosine:0.1,0.001", "SGD", {"momentum": 0.9, "dampening": 0.9}),
    "rmsprop, steps": ("rmsprop", {}, "step:0.02,0.5,100", "RMSprop", {}),
    "adam, warm-up": ("adam", {}, "wsd:0.03,50,200", "Adam", {}),
    "adamw, warm-up": ("adamw", {"decoupled_weight_decay": 0.1}, "wsd:0.03,50,200", "AdamW", {"weight_decay": 0.1}),
}


def noise(step: int, parameter: int) -> float:
    """Reproducible numbers from a multiplicative generator (Park and Miller), between -1 and 1."""
    state = (2 * step + parameter + 1) * 1_000_003 % 2_147_483_647
    for _ in range(5):
        state = state * 48_271 % 2_147_483_647
    return 2 * state / 2_147_483_647 - 1


def gradient(theta: Sequence[float], step: int) -> Sequence[float]:
    """Gradient of a coupled quartic with noise; it has products only, which round alike everywhere."""
    x, y = theta
    return (
        0.5 * x + x * y * y + 0.3 * noise(step, 0),
        2 * y + x * x * y + 0.1 * noise(step, 1),
    )


def run(name: str) -> dict[str, Any]:
    """One entry of the file."""
    import torch

    from sgdsim.model.schedules import Schedule

    ours, hyperparameters, rate, kind, arguments = CASES[name]
    rates = Schedule(rate).rates(STEPS).tolist()
    theta = torch.tensor(START, dtype=torch.float64, requires_grad=True)
    optimizer = getattr(torch.optim, kind)([theta], lr=rates[0], **arguments)
    path = {}
    for step in range(STEPS):
        optimizer.param_groups[0]["lr"] = rates[step]
        theta.grad = torch.tensor(gradient(theta.tolist(), step), dtype=torch.float64)
        optimizer.step()
        if step + 1 in KEPT:
            path[str(step + 1)] = theta.tolist()
    assert all(math.isfinite(x) for x in theta.tolist())
    return {
        "optimizer": ours,
        "hyperparameters": hyperparameters,
        "learning_rate": rate,
        "torch": {"class": kind, "arguments": arguments},
        "theta": path,
    }


def content() -> dict[str, Any]:
    """All of the file."""
    import torch

    return {
        "torch": torch.__version__.partition("+")[0],
        "steps": STEPS,
        "start": list(START),
        "cases": {name: run(name) for name in CASES},
    }


def lines(data: dict[str, Any]) -> str:
    """One line a case, and one for each of the rest."""
    cases = ",\n".join(f"  {json.dumps(name)}: {json.dumps(case)}" for name, case in data["cases"].items())
    rest = "".join(f"{json.dumps(key)}: {json.dumps(value)},\n" for key, value in data.items() if key != "cases")
    return f'{{\n{rest}"cases": {{\n{cases}\n}}\n}}\n'


if __name__ == "__main__":
    FILE.write_text(lines(content()), encoding="utf-8")
