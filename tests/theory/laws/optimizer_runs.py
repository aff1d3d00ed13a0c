"""Walls under any optimizer, and what laws say about them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from sgdsim.app.verdicts import compare_file
from sgdsim.app.workflow import run_scenario
from sgdsim.base import toml
from sgdsim.input.loading import load_scenario
from sgdsim.model.loss import Loss
from sgdsim.model.noise import Noise
from sgdsim.model.optimizers import Optimizer
from sgdsim.model.run import Run
from sgdsim.model.schedules import Schedule
from sgdsim.prediction import Prediction
from sgdsim.theory import find_law

NORMAL = {"z": Noise.parse("normal")}


def wall(a: float = 2.0, sigma: float = 0.7, centre: float = 0.0) -> Loss:
    return Loss("a*(x - x0)**2/2 + s*z*x", ("x",), {"a": a, "s": sigma, "x0": centre}, NORMAL)


def make_run(loss: Loss, optimizer: Optimizer, rate: float, start: Any = 0.3, steps: int = 400) -> Run:
    return Run(loss, optimizer, Schedule(repr(rate)), dict.fromkeys(loss.parameters, start), 1000, steps)


def predicted(id: str, run: Run) -> dict[str, Prediction]:
    """By quantity, with all recorded that the law asks for."""
    run = replace(run, recorder=run.recorder.merge(find_law(id).requirements(run)))
    return {row.quantity: row for row in find_law(id).predictions([run])}


def optimizer(name: str, **values: float) -> Optimizer:
    batch = int(values.pop("batch_size", 1))
    return Optimizer(name, values, batch)


def signed(noise: str) -> Loss:
    return Loss("a*x**2/2 + s*z*x", ("x",), {"a": 2.0, "s": 0.5}, {"z": Noise.parse(noise)})


def verdicts(folder: Path, rows: dict[str, str], **sections: Any) -> None:
    """Simulate ``a*x**2/2 + s*z*x``, or what the sections say, and see that laws and formulas have these verdicts."""
    data = {
        "loss": {
            "formula": "a*x**2/2 + s*z*x",
            "parameters": {"x": 0.0},
            "constants": {"a": 1.0, "s": 1.0},
            "noise": {"z": "normal"},
        },
        "predict": [{"id": row} if "=" not in row else {"formula": row} for row in rows],
        **sections,
    }
    (folder / "run.toml").write_text(toml.dumps(data), encoding="utf-8")
    run_scenario(load_scenario(folder / "run.toml"), folder / "run.h5")
    found = compare_file(folder / "run.h5")
    ids, number = {}, 0
    for row in rows:
        number += "=" in row
        ids[f"user-{number}" if "=" in row else row] = row
    judged = [(ids[one.id], one.verdict) for one in found.comparisons]
    assert {row for row, _ in judged} == set(rows), found.table()
    assert all(rows[row] == verdict for row, verdict in judged), found.table()
