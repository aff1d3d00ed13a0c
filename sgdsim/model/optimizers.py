"""An update rule with its hyperparameters, its batches and its preconditioner; see `sgdsim.model.update_rules`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from math import inf
from typing import TYPE_CHECKING, Any

import numpy as np

from sgdsim.base import take
from sgdsim.base.errors import InputError, unknown_name
from sgdsim.formulas.arrays import Shape, array, shape_of
from sgdsim.model.data import SAMPLINGS
from sgdsim.model.polar import Polar
from sgdsim.model.update_rules import OPTIMIZERS, Rule, parsed

if TYPE_CHECKING:
    import sympy

    from sgdsim.model.loss import Loss

Matrix = tuple[str, ...] | tuple[tuple[str, ...], ...]

MAX_BATCH = 2**16
"""Samples a step: their noise is drawn at once."""

MAX_SUBSTEPS = 2**16
"""Of a step: what all trajectories share of each is a row of a table."""

_OTHERS = ("preconditioner", "metric", "substeps")

_DECAYS = {"weight_decay": 0.0, "decoupled_weight_decay": 0.0}

_FADING = (0.0, 1.0)  # what is left of an average after a step
_RANGES = dict.fromkeys(("momentum", "alpha", "beta1", "beta2"), _FADING)
_RANGES |= dict.fromkeys(("epsilon", "temperature", "friction", "weight_power"), (0.0, inf))


@dataclass(frozen=True)
class Optimizer:
    """An update rule with its hyperparameters, and how batches are made.

    Parameters
    ----------
    name
        A key of `OPTIMIZERS`.
    hyperparameters
        Those that differ from their defaults; ``weight_decay`` and ``decoupled_weight_decay`` among them.
    batch_size
        Samples whose mean gradient makes one step.
    sampling
        How rows of a data set are chosen, a key of `sgdsim.model.data.SAMPLINGS`.
    preconditioner
        The matrix P: a formula of the parameters and constants for each diagonal entry, or rows of formulas.
    metric
        Instead, the matrix whose inverse is P (natural gradient), likewise.
    substeps
        Steps of the rule that make one step, each with this part of the learning rate and all with the same batch.

    Raises
    ------
    InputError
        For an unknown optimizer, hyperparameter or sampling, a value that is missing or not finite, a batch that is
        empty or too large, or a preconditioner that is no square matrix.

    Examples
    --------
    >>> Optimizer("sgd", {"weight_decay": 0.1}).values
    {'weight_decay': 0.1, 'decoupled_weight_decay': 0.0}
    """

    name: str = "sgd"
    hyperparameters: Mapping[str, float] = field(default_factory=dict)
    batch_size: int = 1
    sampling: str = "replacement"
    preconditioner: Matrix = ()
    metric: Matrix = ()
    substeps: int = 1

    def __post_init__(self) -> None:
        take.settle(
            self,
            "optimizer",
            name=take.one_of("optimizer", OPTIMIZERS),
            hyperparameters=take.by_name(take.anything),
            batch_size=take.whole,
            sampling=take.one_of("sampling", SAMPLINGS),
            preconditioner=take.each(_row),
            metric=take.each(_row),
            substeps=take.whole,
        )
        for name in self.hyperparameters:
            if name not in self.defaults:
                known = (*self.defaults, "learning_rate", "batch_size", "sampling", *_OTHERS, "name")
                raise InputError(f"optimizer.{name}: {unknown_name(f'key of {self.name}', name, known)}")
        given = {name: take.number(value, f"optimizer.{name}") for name, value in self.hyperparameters.items()}
        object.__setattr__(self, "hyperparameters", given)
        for name, value in given.items():
            low, high = _RANGES.get(name, (-inf, inf))
            if not low <= value < high:
                expected = f"a number from {low:g}" + (f", less than {high:g}" if high < inf else "")
                raise InputError(f"optimizer.{name}: {value}, expected {expected}")
        for name, default in self.defaults.items():
            if default is None and name not in self.hyperparameters:
                raise InputError(f"optimizer.{name}: is missing, {self.name} has no default for it")
        if not 1 <= self.batch_size <= MAX_BATCH:
            raise InputError(f"optimizer.batch_size: {self.batch_size}, expected a whole number from 1 to {MAX_BATCH}")
        if not 1 <= self.substeps <= MAX_SUBSTEPS:
            raise InputError(f"optimizer.substeps: {self.substeps}, expected a whole number from 1 to {MAX_SUBSTEPS}")
        if self.substeps > 1 and self.rule.kick:
            raise InputError(f"optimizer.substeps: {self.substeps}, but {self.name} has noise of its own, expected 1")
        self._check_preconditioner()

    def _check_preconditioner(self) -> None:
        for key in ("preconditioner", "metric"):
            rows = getattr(self, key)
            if any(not isinstance(row, str) and len(row) != len(rows) for row in rows) or len(set(map(type, rows))) > 1:
                raise InputError(f"optimizer.{key}: expected a number for each parameter, or a square matrix")
            if rows and self.rule.is_random:
                raise InputError(f"optimizer.{key}: {self.name} takes none, as its noise would have to follow")
            if rows and self.rule.is_of_matrices:
                raise InputError(f"optimizer.{key}: {self.name} takes none, as it steps whole matrices")
            if rows and self.rule.step:
                raise InputError(f"optimizer.{key}: {self.name} takes none, as its step is an average")
        if self.preconditioner and self.metric:
            raise InputError("optimizer.metric: expected either a metric or a preconditioner, its inverse")

    def matrix(self, loss: Loss) -> sympy.Matrix | None:
        """The matrix P in the symbols of a loss; None for the identity.

        Raises
        ------
        InputError
            For a matrix of another size than the loss has parameters, an unknown name, or a metric without inverse.
        """
        import sympy

        from sgdsim.model.loss import Loss

        loss = take.of_kind(Loss, "a Loss")(loss, "loss")
        rows, key = (self.metric, "metric") if self.metric else (self.preconditioner, "preconditioner")
        if not rows:
            return None
        where = f"optimizer.{key}"
        if len(rows) != len(loss.parameters):
            raise InputError(f"{where}: {len(rows)} rows, expected {len(loss.parameters)}, one a parameter")
        if isinstance(rows[0], str):
            matrix = sympy.diag(*(loss.expand(str(entry), where) for entry in rows))
        else:
            matrix = sympy.Matrix([[loss.expand(entry, where) for entry in row] for row in rows])
        random = {symbol.name for symbol in matrix.free_symbols} & set(loss.random)
        if random:
            raise InputError(f"{where}: depends on the noise {', '.join(sorted(random))}")
        if not self.metric:
            return matrix
        if matrix.det() == 0:
            raise InputError(f"{where}: has no inverse")
        _check_metric(matrix, where)
        return matrix.inv()

    def __hash__(self) -> int:
        matrices = self.preconditioner, self.metric
        return hash((self.name, *self.values.items(), self.batch_size, self.sampling, *matrices, self.substeps))

    def steps(self, values: Mapping[str, Any]) -> dict[str, Any]:
        """One step of one parameter in numbers, without a preconditioner.

        Parameters
        ----------
        values
            ``theta``, ``gradient``, ``t``, ``learning_rate``, the state variables, and ``xi`` where there is a kick.
            Matrices are lists of rows, or arrays of objects.

        Returns
        -------
        dict
            All values after the step, ``theta`` and the state variables among them.

        Examples
        --------
        >>> Optimizer("sgd").steps({"theta": 1.0, "gradient": 2.0, "t": 0, "learning_rate": 0.25})["theta"]
        0.5
        """
        after = {**self.values, **values}
        for name, text in self.assignments(shape_of(array(values["theta"]))):
            after[name] = parsed(text).evaluate(after, vector=True)
        return after

    def point(self, values: Mapping[str, Any]) -> Any:
        """Where the gradient of a step is taken, for values as of `steps` but of the gradient."""
        if not self.rule.point:
            return values["theta"]
        known = {**self.values, **values}
        for name, text in (*self.rule.scalars, ("point", self.rule.point)):
            known[name] = parsed(text).evaluate(known)
        return known["point"]

    def assignments(self, shape: Shape = ()) -> list[tuple[str, str]]:
        """All formulas of one step of a parameter of a shape, without a preconditioner, in order."""
        return [*self.rule.scalars, *self.inner(shape), ("theta", self.final)]

    def inner(self, shape: Shape = ()) -> list[tuple[str, str]]:
        """The formulas of a parameter of a shape from its gradient to its direction."""
        if not self.rule.is_of_matrices:
            return self.given
        polar = Polar.of(shape)
        lines = [*self.given, *polar.first]
        for coefficients in self.rule.polynomials:
            lines += [*zip("abc", map(repr, coefficients), strict=True), *polar.repeated]
        return [*lines, *polar.last]

    @property
    def given(self) -> list[tuple[str, str]]:
        """The same, entry by entry: but for the polynomials of a rule that has some."""
        rule = self.rule
        point = [("point", rule.point)] if rule.point else []
        gradient = ("gradient", f"gradient + weight_decay*{'point' if rule.point else 'theta'}")
        direction = [("direction", rule.direction)] if rule.direction else []
        return [*point, gradient, *rule.assignments, *direction]

    @property
    def final(self) -> str:
        """The last formula of a step, of the direction past the preconditioner."""
        if self.rule.step:
            return self.rule.step
        kick = f" + {self.rule.kick}" if self.rule.kick else ""
        return f"theta - learning_rate*direction - learning_rate*decoupled_weight_decay*theta{kick}"

    def step_matrix(self, curvature: float, learning_rate: float) -> np.ndarray | None:
        """One step where the gradient is ``curvature*theta``, as a matrix on theta and the state variables.

        None for rules that are not linear in them. The first step may be another one: this is of all later ones.

        Examples
        --------
        >>> Optimizer("sgd").step_matrix(curvature=2.0, learning_rate=0.25)
        array([[0.5]])
        """
        curvature, learning_rate = take.number(curvature, "curvature"), take.number(learning_rate, "learning_rate")
        if not self.rule.linear:
            return None
        names = ("theta", *self.rule.state)
        columns = []
        for unit in np.eye(len(names)):
            values: dict[str, Any] = dict(zip(names, unit, strict=True))
            values |= {"learning_rate": learning_rate, "gradient": curvature * values["theta"], "t": 1.0, "xi": 0.0}
            after = self.steps(values)
            columns.append([after[name] for name in names])
        return np.array(columns).T

    @property
    def rule(self) -> Rule:
        """The update rule."""
        return OPTIMIZERS[self.name]

    @property
    def defaults(self) -> dict[str, float | None]:
        """Every hyperparameter with its default."""
        return {**_DECAYS, **self.rule.hyperparameters}

    @property
    def values(self) -> dict[str, float]:
        """Every hyperparameter with its value."""
        return {name: self.hyperparameters.get(name, default or 0.0) for name, default in self.defaults.items()}

    @property
    def decay(self) -> float:
        """Weight decay, coupled and decoupled, which are one for plain SGD."""
        return self.values["weight_decay"] + self.values["decoupled_weight_decay"]


def _check_metric(matrix: sympy.Matrix, where: str) -> None:
    """Refuse what is no metric: a matrix that is not symmetric, or one of numbers that is not positive."""
    if matrix != matrix.T:
        raise InputError(f"{where}: is not symmetric")
    if not matrix.free_symbols:
        smallest = float(np.linalg.eigvalsh(np.array(matrix, dtype=np.float64))[0])
        if smallest < 0:
            raise InputError(f"{where}: has the eigenvalue {smallest:.3g}, expected none below zero")


def _row(value: Any, where: str) -> str | tuple[str, ...]:
    """A row of a matrix, or an entry of its diagonal."""
    several = isinstance(value, Sequence | np.ndarray) and not isinstance(value, str)
    return take.each(_entry)(value, where) if several else _entry(value, where)


def _entry(value: Any, where: str) -> str:
    """A formula; a number is one too."""
    return take.text(value, where) if isinstance(value, str) else repr(float(take.number(value, where)))
