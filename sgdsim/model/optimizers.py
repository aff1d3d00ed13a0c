"""Optimizers: an update rule with hyperparameters, batches and a preconditioner; see `sgdsim.model.update_rules`."""

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
"""Most samples in a batch: the noise of all is drawn at once."""

MAX_SUBSTEPS = 2**16
"""Most substeps of a step: the values of each that all trajectories share are a row of a table."""

_OTHERS = ("preconditioner", "metric", "substeps")

_DECAYS = {"weight_decay": 0.0, "decoupled_weight_decay": 0.0}

_FADING = (0.0, 1.0)  # range of the factor by which an average fades in a step
_RANGES = dict.fromkeys(("momentum", "alpha", "beta1", "beta2"), _FADING)
_RANGES |= dict.fromkeys(("epsilon", "temperature", "friction", "weight_power"), (0.0, inf))


@dataclass(frozen=True)
class Optimizer:
    """An update rule with its hyperparameters, the batches and a preconditioner.

    Parameters
    ----------
    name
        Name of the update rule, such as ``sgd`` or ``adam``; ``sgdsim list optimizers`` shows all.
    hyperparameters
        Values that differ from the defaults, also of ``weight_decay`` and ``decoupled_weight_decay``.
    batch_size
        Number of samples whose mean gradient makes one step.
    sampling
        Name of the way in which rows of a data set are chosen: a key of `sgdsim.model.data.SAMPLINGS`.
    preconditioner
        The matrix P that multiplies the direction of a step: a formula of the parameters and constants for each
        diagonal entry, or rows of formulas.
    metric
        The inverse of P (natural gradient), in the same form and in place of it.
    substeps
        Number of steps of the rule that make one step: each takes this fraction of the learning rate, and all use the
        same batch.

    Raises
    ------
    InputError
        For an unknown optimizer, hyperparameter or sampling, a value that is missing or not finite, a batch that is
        empty or too large, or a preconditioner that is not a square matrix.

    Examples
    --------
    >>> Optimizer("sgd", {"weight_decay": 0.1}).values
    {'weight_decay': 0.1, 'decoupled_weight_decay': 0.0}
    >>> heavy_ball = Optimizer("momentum", {"momentum": 0.8})
    >>> heavy_ball.defaults["momentum"], heavy_ball.decay, heavy_ball.rule.state
    (0.9, 0.0, ('velocity',))

    The formulas of a step:

    >>> heavy_ball.given == heavy_ball.inner(), heavy_ball.assignments()[1]
    (True, ('velocity', 'momentum*velocity + gradient'))
    >>> heavy_ball.final
    'theta - learning_rate*direction - learning_rate*decoupled_weight_decay*theta'
    >>> Optimizer("nesterov").point({"theta": 1.0, "velocity": 0.0, "learning_rate": 0.1, "t": 0})
    1.0

    A preconditioner is a matrix in the symbols of a loss.

    >>> from sgdsim.model.losses import CATALOGUE
    >>> Optimizer(preconditioner=("1 + x**2",)).matrix(CATALOGUE["double_well"]())
    Matrix([[x**2 + 1]])
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
        """The preconditioner P in the symbols of a loss.

        Parameters
        ----------
        loss
            The loss whose parameters and constants the formulas use.

        Returns
        -------
        sympy.Matrix or None
            Shape (parameter, parameter); None for the identity.

        Raises
        ------
        InputError
            If the size differs from the number of parameters; for an unknown name, and for a metric without inverse.
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
            Numbers for ``theta``, ``gradient``, ``t``, ``learning_rate``, the state variables, and ``xi`` if the rule
            has noise of its own. Matrices are lists of rows, or arrays of objects.

        Returns
        -------
        dict
            Values of ``theta``, the state variables and intermediates after the step.

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
        """The point at which the gradient of a step is taken.

        Parameters
        ----------
        values
            Numbers as for `steps`, without the gradient.

        Returns
        -------
        float
            Value of the parameter at this point.
        """
        if not self.rule.point:
            return values["theta"]
        known = {**self.values, **values}
        for name, text in (*self.rule.scalars, ("point", self.rule.point)):
            known[name] = parsed(text).evaluate(known)
        return known["point"]

    def assignments(self, shape: Shape = ()) -> list[tuple[str, str]]:
        """All formulas of one step of a parameter, in order, without a preconditioner.

        Parameters
        ----------
        shape
            Shape of the parameter; ``()`` for a number.

        Returns
        -------
        list
            Pairs of a name and its formula.
        """
        return [*self.rule.scalars, *self.inner(shape), ("theta", self.final)]

    def inner(self, shape: Shape = ()) -> list[tuple[str, str]]:
        """The formulas of a step from the gradient of a parameter to its direction.

        Parameters
        ----------
        shape
            Shape of the parameter; ``()`` for a number.

        Returns
        -------
        list
            Pairs of a name and its formula.

        Raises
        ------
        InputError
            For a vector, if the rule steps whole matrices.
        """
        if not self.rule.is_of_matrices:
            return self.given
        polar = Polar.of(shape)
        lines = [*self.given, *polar.first]
        for coefficients in self.rule.polynomials:
            lines += [*zip("abc", map(repr, coefficients), strict=True), *polar.repeated]
        return [*lines, *polar.last]

    @property
    def given(self) -> list[tuple[str, str]]:
        """The formulas from gradient to direction for a single entry, without those that act on whole matrices."""
        rule = self.rule
        point = [("point", rule.point)] if rule.point else []
        gradient = ("gradient", f"gradient + weight_decay*{'point' if rule.point else 'theta'}")
        direction = [("direction", rule.direction)] if rule.direction else []
        return [*point, gradient, *rule.assignments, *direction]

    @property
    def final(self) -> str:
        """The last formula of a step, in which ``direction`` is already multiplied by the preconditioner."""
        if self.rule.step:
            return self.rule.step
        kick = f" + {self.rule.kick}" if self.rule.kick else ""
        return f"theta - learning_rate*direction - learning_rate*decoupled_weight_decay*theta{kick}"

    def step_matrix(self, curvature: float, learning_rate: float) -> np.ndarray | None:
        """Matrix of one step in a quadratic loss, which acts on theta and the state variables.

        The first step may differ, as the state variables start at zero; the matrix is that of all later steps.

        Parameters
        ----------
        curvature
            Second derivative of the loss: the gradient is ``curvature*theta``.
        learning_rate
            Learning rate of the step.

        Returns
        -------
        numpy.ndarray or None
            Shape (1 + state variables, 1 + state variables); None if the rule is not linear in them.

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
        """Default of every hyperparameter; None if it has none."""
        return {**_DECAYS, **self.rule.hyperparameters}

    @property
    def values(self) -> dict[str, float]:
        """Value of every hyperparameter."""
        return {name: self.hyperparameters.get(name, default or 0.0) for name, default in self.defaults.items()}

    @property
    def decay(self) -> float:
        """Sum of the coupled and the decoupled weight decay, which have the same effect in plain SGD."""
        return self.values["weight_decay"] + self.values["decoupled_weight_decay"]


def _check_metric(matrix: sympy.Matrix, where: str) -> None:
    """Refuse a matrix that is not symmetric, or a matrix of numbers with a negative eigenvalue."""
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
    """Text of a formula, which may be a number."""
    return take.text(value, where) if isinstance(value, str) else repr(float(take.number(value, where)))
