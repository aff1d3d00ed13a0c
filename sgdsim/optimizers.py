"""Optimizers: update rules as formulas, merged into the kernel that follows the gradient.

An optimizer is one entry of `OPTIMIZERS`: assignments that are carried out in order for every parameter, in the
names ``theta`` (the parameter), ``gradient`` (of the batch), ``learning_rate``, its hyperparameters, and its own
state variables, which start at zero.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from math import isfinite
from typing import Any

import numpy as np

from sgdsim.errors import InputError, unknown_name
from sgdsim.formula import Formula

MAX_BATCH = 2**16
"""Samples a step: their noise is drawn at once."""


@dataclass(frozen=True)
class Rule:
    """An update rule.

    Attributes
    ----------
    hyperparameters
        Names with their defaults.
    state
        State variables, one of each a parameter.
    assignments
        ``(name, formula)`` in order; a name is ``theta``, a state variable or an intermediate.
    """

    hyperparameters: Mapping[str, float]
    state: tuple[str, ...]
    assignments: tuple[tuple[str, str], ...]


OPTIMIZERS: dict[str, Rule] = {
    # As torch.optim.SGD: weight decay enters the gradient, momentum is the heavy ball without dampening.
    "sgd": Rule(
        {"weight_decay": 0.0},
        (),
        (("theta", "theta - learning_rate*(gradient + weight_decay*theta)"),),
    ),
    "momentum": Rule(
        {"weight_decay": 0.0, "momentum": 0.9},
        ("velocity",),
        (
            ("velocity", "momentum*velocity + gradient + weight_decay*theta"),
            ("theta", "theta - learning_rate*velocity"),
        ),
    ),
}


@dataclass(frozen=True)
class Optimizer:
    """An update rule with its hyperparameters and the size of its batches.

    Parameters
    ----------
    name
        A key of `OPTIMIZERS`.
    hyperparameters
        Those that differ from their defaults.
    batch_size
        Independent samples whose mean gradient makes one step.

    Raises
    ------
    InputError
        For an unknown optimizer or hyperparameter, a value that is not finite, or a batch that is empty or too large.

    Examples
    --------
    >>> Optimizer("sgd", {"weight_decay": 0.1}).values
    {'weight_decay': 0.1}
    """

    name: str = "sgd"
    hyperparameters: Mapping[str, float] = field(default_factory=dict)
    batch_size: int = 1

    def __post_init__(self) -> None:
        if self.name not in OPTIMIZERS:
            raise InputError(f"optimizer.name: {unknown_name('optimizer', self.name, OPTIMIZERS)}")
        for name, value in self.hyperparameters.items():
            if name not in self.rule.hyperparameters:
                known = (*self.rule.hyperparameters, "learning_rate", "batch_size", "name")
                raise InputError(f"optimizer.{name}: {unknown_name(f'key of {self.name}', name, known)}")
            if not isfinite(value):
                raise InputError(f"optimizer.{name}: {value}, expected a finite number")
        if not 1 <= self.batch_size <= MAX_BATCH:
            raise InputError(f"optimizer.batch_size: {self.batch_size}, expected a whole number from 1 to {MAX_BATCH}")

    def step_matrix(self, curvature: float, learning_rate: float) -> np.ndarray:
        """One step where the gradient is ``curvature*theta``, as a matrix on theta and the state variables.

        It holds for rules that are linear in them, as all of `OPTIMIZERS` are.

        Examples
        --------
        >>> Optimizer("sgd").step_matrix(curvature=2.0, learning_rate=0.25)
        array([[0.5]])
        """
        names = ("theta", *self.rule.state)
        columns = []
        for unit in np.eye(len(names)):
            values: dict[str, Any] = {**self.values, **dict(zip(names, unit, strict=True))}
            values |= {"learning_rate": learning_rate, "gradient": curvature * values["theta"]}
            for name, text in self.rule.assignments:
                values[name] = Formula.parse(text).evaluate(values)
            columns.append([values[name] for name in names])
        return np.array(columns).T

    @property
    def rule(self) -> Rule:
        """The update rule."""
        return OPTIMIZERS[self.name]

    @property
    def values(self) -> dict[str, float]:
        """Every hyperparameter with its value."""
        return {**self.rule.hyperparameters, **self.hyperparameters}
