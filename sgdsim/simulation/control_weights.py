"""Control variates for the mean of an observable: weights of a martingale that is strongly correlated with it.

For an observable f at the last step K let ``V_t(theta)`` be an approximation of ``E[f(theta_K)|theta_t = theta]``, and
``V_K`` of f. For any V,

    M = V_0(theta_0) - E V_0(theta_0) + sum_t (V_(t+1)(theta_(t+1)) - E[V_(t+1)(theta_(t+1))|theta_t])

has mean zero. If V were exact, ``f(theta_K) - M`` would be ``E f(theta_K)`` without any spread. Here V is an expansion
to second order about the noise-free path theta_0(t), whose steps are ``m(theta)`` with the Jacobian ``J = m'``:

    V_t = l.d + d.P d/2,  d = theta - theta_0(t),
    l_t = J^T l_(t+1),  P_t = J^T P_(t+1) J + sum_k l_(t+1),k m_k'',  from the derivatives of f at theta_0(K).

l is the linear response: with it alone a variance of relative order eta remains, with P one of order eta^2. In a valley
of curvature a, P solves the Poisson equation of ``x^2``: far from the end it is ``x^2/(1 - r^2)``, ``r = 1 - eta*a``.

Re-derived; martingale control variates are in Henderson & Glynn, Math. Oper. Res. 27, 253 (2002), adjoints of
stochastic dynamics in Milstein & Tretyakov, "Stochastic Numerics for Mathematical Physics", 2.4.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import isfinite
from typing import TYPE_CHECKING

import numpy as np

from sgdsim.base.errors import InputError
from sgdsim.formulas import evaluation
from sgdsim.kernels import control_step
from sgdsim.model.noise import Noise
from sgdsim.model.run import Run
from sgdsim.model.starts import Grid, Stored

if TYPE_CHECKING:
    import sympy

_RATE = "optimizer.learning_rate"


def weights(run: Run) -> np.ndarray:
    """Weights of all control variates of a run, in the form that its kernel takes.

    Returns
    -------
    ndarray
        Shape (control, completed steps, weight). The weights after each step are l and the upper triangle of P of
        ``V = l.theta + theta.P theta/2``, and last the mean of V over the starts, which only step 0 uses.

    Raises
    ------
    InputError
        For an optimizer or a loss without control variates, an observable that cannot be differentiated, a start
        of infinite variance, and a noise-free path that diverges.

    Examples
    --------
    For the mean of x in a valley of curvature 1, l is the remainder of a kick after the steps that are left.

    >>> from sgdsim.model.loss import Loss
    >>> from sgdsim.model.optimizers import Optimizer
    >>> from sgdsim.model.recorder import Recorder
    >>> from sgdsim.model.schedules import Schedule
    >>> loss = Loss("x**2/2 + z*x", ("x",), noise={"z": Noise.parse("normal")})
    >>> run = Run(loss, Optimizer(), Schedule("0.5"), {"x": 1.0}, 100, 3, recorder=Recorder(controls=("x",)))
    >>> weights(run)[0, 1:, 0]
    array([0.25, 0.5 , 1.  ])
    """
    if not run.recorder.controls:
        return np.zeros((0, 1, 1))
    try:
        control_step.check(run.loss, run.optimizer)
        path = _Path(run)
        return np.stack([path.weights(name) for name in run.recorder.controls])
    except InputError as error:
        raise InputError(f"record.controls: {error}") from None


@dataclass(frozen=True)
class _Start:
    """Mean and variance of each parameter at the start; the variance of given values counts as zero."""

    mean: np.ndarray
    variance: np.ndarray
    is_drawn: bool

    @classmethod
    def of(cls, run: Run) -> _Start:
        starts = [start for _, start in run.initial_items()]
        drawn = [start for start in starts if isinstance(start, Noise)]
        if not all(isfinite(start.moment(2)) for start in drawn):
            raise InputError("the start has no variance, expected a distribution that has one")
        mean = [float(start) if isinstance(start, float | int) else start.moment(1) for start in starts]
        variance = [start.cumulant(2) if isinstance(start, Noise) else 0.0 for start in starts]
        is_given = any(isinstance(start, Grid | Stored) for start in starts)
        return cls(np.array(mean), np.array(variance), bool(drawn) and not is_given)


class _Path:
    """The noise-free path, and the derivatives of the steps along it."""

    def __init__(self, run: Run) -> None:
        self._run, self._loss = run, run.loss
        self._rates = run.schedule.rates(run.steps)
        self._start = _Start.of(run)
        self._columns = control_step.columns(run.loss, run.optimizer)
        means = self._means()
        self.theta = self._follow(means)
        n, steps = len(means), len(self._rates)
        slopes = [mean.diff(symbol) for mean in means for symbol in self._loss.theta]
        self._slopes = self._along(slopes).reshape(steps, n, n)
        self._curvatures = None
        if self._columns > n + 1:
            curvatures = [slope.diff(symbol) for slope in slopes for symbol in self._loss.theta]
            self._curvatures = self._along(curvatures).reshape(steps, n, n, n)

    def weights(self, name: str) -> np.ndarray:
        """Weights of the control variate of one observable, shape (completed steps, weight)."""
        import sympy

        loss, n, steps = self._loss, self.theta.shape[1], len(self._rates)
        plain = {observable.name: observable.formula for observable in self._run.recorder.observables}
        formula = plain.get(name, name)
        if read := loss.states_in([formula]):
            raise InputError(f"{name}: reads {', '.join(read)}, expected parameters alone")
        target = loss.expand(formula, name)
        first = [target.diff(symbol) for symbol in loss.theta]
        second = [slope.diff(symbol) for slope in first for symbol in loss.theta]
        end = self._named(self.theta[-1])
        linear, form = np.zeros((steps + 1, n)), np.zeros((steps + 1, n, n))
        linear[-1] = evaluation.evaluate(first, end)
        if self._curvatures is not None:
            form[-1] = np.reshape(evaluation.evaluate([sympy.sympify(entry) for entry in second], end), (n, n))
        for t in reversed(range(steps)):
            slope = self._slopes[t]
            linear[t] = slope.T @ linear[t + 1]
            if self._curvatures is not None:
                form[t] = slope.T @ form[t + 1] @ slope + np.tensordot(linear[t + 1], self._curvatures[t], 1)
        if not (np.isfinite(linear).all() and np.isfinite(form).all()):
            raise InputError(f"{name}: has no derivatives along the path without noise")
        return self._table(linear - np.einsum("tij,tj->ti", form, self.theta), form)

    def _table(self, linear: np.ndarray, form: np.ndarray) -> np.ndarray:
        n = linear.shape[1]
        table = np.zeros((len(linear), self._columns))
        table[:, :n] = linear
        if self._curvatures is not None:
            first, second = np.transpose(control_step.pairs(n))
            table[:, n:-1] = form[:, first, second]
        if self._start.is_drawn:
            mean = self._start.mean
            table[0, -1] = linear[0] @ mean + (mean @ form[0] @ mean + np.diag(form[0]) @ self._start.variance) / 2
        else:
            table[0] = 0.0
        return table

    def _means(self) -> list[sympy.Expr]:
        import sympy

        gradient = [sympy.Symbol(f"gradient.{name}", real=True) for name in self._loss.parameters]
        rate = sympy.Symbol(_RATE, real=True)
        optimizer = self._run.optimizer
        return list(control_step.step_of(self._loss, optimizer, rate, gradient, optimizer.values).mean)

    def _follow(self, means: list[sympy.Expr]) -> np.ndarray:
        """Parameters after each step, shape (completed steps, parameter)."""
        path = np.empty((len(self._rates) + 1, len(means)))
        path[0] = self._start.mean
        for t, rate in enumerate(self._rates):
            path[t + 1] = evaluation.evaluate(means, self._named(path[t], rate))
            if not np.isfinite(path[t + 1]).all():
                raise InputError(f"the path without noise is not finite after step {t + 1}: lower the learning rate")
        return path

    def _along(self, expressions: list[sympy.Expr]) -> np.ndarray:
        """Values of expressions before each step, shape (step, expression)."""
        values = evaluation.evaluate(expressions, self._named(self.theta[:-1], self._rates))
        return np.stack([np.broadcast_to(value, self._rates.shape) for value in values], axis=-1)

    def _named(self, theta: np.ndarray, rate: object = 0.0) -> dict[str, object]:
        values = dict(zip(self._loss.parameters, np.moveaxis(theta, -1, 0), strict=True))
        return {**self._loss.constants, **values, _RATE: rate}
