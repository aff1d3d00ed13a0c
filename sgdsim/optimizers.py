"""Optimizers: update rules as formulas, merged into the kernel that follows the gradient.

An optimizer is one entry of `OPTIMIZERS`: assignments that are carried out in order for every parameter, in the
names ``theta`` (the parameter), ``gradient`` (of the batch), ``learning_rate``, its hyperparameters, and its own
state variables, which start at zero.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from math import isfinite

from sgdsim.errors import InputError, unknown_name


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
        For an unknown optimizer or hyperparameter, a value that is not finite, or an empty batch.

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
                raise InputError(f"optimizer.{name}: {value} is not finite")
        if self.batch_size < 1:
            raise InputError(f"optimizer.batch_size: {self.batch_size}, expected a positive integer")

    @property
    def rule(self) -> Rule:
        """The update rule."""
        return OPTIMIZERS[self.name]

    @property
    def values(self) -> dict[str, float]:
        """Every hyperparameter with its value."""
        return {**self.rule.hyperparameters, **self.hyperparameters}
