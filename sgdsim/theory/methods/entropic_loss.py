"""The entropic loss: the potential whose gradient flow one step of SGD follows to second order.

    phi = L + (eta/4)*S,    S = E |g_B|^2 = |grad L|^2 + c*Tr Sigma,

with Sigma the covariance of the gradient of one sample, and c what a batch of B leaves of it: 1/B where samples are
drawn independently, (1/B)(N - B)/(N - 1) without replacement from N rows, 0 for full-batch gradient descent. Weight
decay adds ``lambda*theta`` to every gradient and its potential to L; a constant learning-rate matrix P (in units of
eta) makes S = E g^T P g, and the flow ``-P grad phi``; the heavy ball, in time units of h = eta/(1 - b), has

    phi = L + (h/4)*((1 + b)/(1 - b)*|grad L|^2 + c*Tr Sigma).

The entropic force is ``-grad(phi - L)``. It acts pathwise, in the charges of symmetries and in shuffled epochs; the
plain mean of independently sampled SGD does not follow it to second order, see
`sgdsim.theory.methods.gradient_flow`.

The entropic loss is arXiv:2505.12387's, for batches, decay and matrices; heavy ball re-derived, cf. arXiv:2302.00849.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from sgdsim.formulas import evaluation
from sgdsim.formulas.differences import jacobian
from sgdsim.model.loss import Loss
from sgdsim.model.optimizers import Optimizer
from sgdsim.prediction import require
from sgdsim.theory.methods.batch_noise import batch_share
from sgdsim.theory.quadrature.expectation import MOST_OPERATIONS, Expected

if TYPE_CHECKING:
    import sympy

_LONGEST_DENOMINATOR = 1000  # largest denominator of a number that is written as a fraction
_KNOWN = ("sgd", "momentum", "gradient_descent", "langevin")  # optimizers whose entropic loss is known


@dataclass(frozen=True, eq=False)
class EntropicLoss:
    """The entropic loss of a loss under an optimizer.

    Parameters
    ----------
    loss, optimizer
        The dynamics.

    Raises
    ------
    NotApplicable
        For an optimizer without such a potential, and a preconditioner that depends on the parameters.

    Examples
    --------
    >>> from sgdsim.model.noise import Noise
    >>> loss = Loss("(u*w - z)**2/2", ("u", "w"), {}, {"z": Noise.parse("normal")})
    >>> entropic = EntropicLoss(loss, Optimizer())
    >>> entropic.mean_square
    u**4*w**2 + u**2*w**4 + u**2 + w**2
    >>> entropic.force
    (-learning_rate*(4*u**3*w**2 + 2*u*w**4 + 2*u)/4, -learning_rate*(2*u**4*w + 4*u**2*w**3 + 2*w)/4)
    """

    loss: Loss
    optimizer: Optimizer

    def __post_init__(self) -> None:
        name = self.optimizer.name
        require(
            name in _KNOWN,
            f"{name} has no entropic potential that is known in closed form; it is for {', '.join(_KNOWN)}",
        )
        matrix = self.optimizer.matrix(self.loss)
        require(
            not (matrix is not None and matrix.free_symbols & set(self.loss.theta)),
            "a preconditioner that depends on the parameters has no entropic potential",
        )
        require(
            not (self.optimizer.rule.state and (self.decay or matrix is not None)),
            "the heavy ball's entropic potential is known without weight decay and matrices",
        )
        require(
            not (matrix is not None and matrix != matrix.T),
            "a preconditioner that is not symmetric has no entropic potential",
        )
        require(
            not (matrix is not None and self.optimizer.values["decoupled_weight_decay"]),
            "decoupled weight decay passes the preconditioner by, and the two have no potential",
        )

    @property
    def decay(self) -> float:
        """The weight decay lambda; coupled and decoupled are the same for all optimizers that are known here."""
        return self.optimizer.decay

    @cached_property
    def rate(self) -> sympy.Symbol:
        """The symbol of the learning rate."""
        import sympy

        names = ("learning_rate", "eta", "rate_of_the_step")
        return sympy.Symbol(next(name for name in names if name not in self.loss.symbols), positive=True)

    @cached_property
    def time_unit(self) -> sympy.Expr:
        """The time of one step in units of the learning rate: 1, or 1/(1 - b) for the heavy ball."""
        return 1 / (1 - self._momentum)

    @cached_property
    def gain(self) -> sympy.Expr:
        """The factor of ``|grad L|^2`` in S: 1, or (1 + b)/(1 - b) for the heavy ball."""
        return (1 + self._momentum) / (1 - self._momentum)

    @cached_property
    def _momentum(self) -> sympy.Expr:
        return _exact(self.optimizer.values["momentum"] if self.optimizer.rule.state else 0.0)

    @cached_property
    def noise_share(self) -> sympy.Expr:
        """The part c of the gradient noise of a sample that is left in a batch."""
        return batch_share(self.optimizer, self.loss)

    @cached_property
    def metric(self) -> sympy.Matrix:
        """The learning-rate matrix P in units of the learning rate."""
        import sympy

        matrix = self.optimizer.matrix(self.loss)
        return sympy.eye(len(self.loss.parameters)) if matrix is None else matrix

    @cached_property
    def mean_gradient(self) -> Expected:
        """The gradient of the population loss, without weight decay."""
        return Expected(self.loss, self.loss.gradient)

    @cached_property
    def mean_square_of_sample(self) -> Expected:
        """The mean ``E g^T P g`` over one sample, without weight decay."""
        return Expected(self.loss, [_quadratic(self.metric, self.loss.gradient)])

    @cached_property
    def mean_square(self) -> sympy.Expr | None:
        """The mean square S in symbols; None if an expectation is numerical."""
        import sympy

        slopes, square = self.mean_gradient.exact, self.mean_square_of_sample.exact
        if slopes is None or square is None:
            return None
        pulled = [g + _exact(self.decay) * p for g, p in zip(slopes, self.loss.theta, strict=True)]
        noise = square[0] - _quadratic(self.metric, slopes)
        total = self.gain * _quadratic(self.metric, pulled) + self.noise_share * noise
        return _tidy(sympy.sympify(total))

    @cached_property
    def potential(self) -> sympy.Expr | None:
        """The entropic loss in symbols; None if an expectation is numerical."""
        mean = Expected(self.loss, [self.loss.expression]).exact
        if mean is None or self.mean_square is None:
            return None
        squares = sum(p**2 for p in self.loss.theta)
        return mean[0] + _exact(self.decay) * squares / 2 + self._weight * self.mean_square

    @cached_property
    def force(self) -> tuple[sympy.Expr, ...] | None:
        """The entropic force ``-grad(phi - L)`` in symbols; None if an expectation is numerical."""
        if self.mean_square is None:
            return None
        return tuple(-self._weight * self.mean_square.diff(p) for p in self.loss.theta)

    @cached_property
    def noise_covariance(self) -> sympy.Matrix | None:
        """Covariance of the gradient of one sample in symbols; None if it is numerical."""
        import sympy

        g, slopes = self.loss.gradient, self.mean_gradient.exact
        pairs = [(i, j) for i in range(len(g)) for j in range(i, len(g))]
        second = Expected(self.loss, [g[i] * g[j] for i, j in pairs]).exact
        if slopes is None or second is None:
            return None
        entries = {pair: _tidy(e - slopes[pair[0]] * slopes[pair[1]]) for pair, e in zip(pairs, second, strict=True)}
        return sympy.Matrix(len(g), len(g), lambda i, j: entries[min(i, j), max(i, j)])

    def gradient(self, theta: Mapping[str, float], rate: float) -> np.ndarray:
        """The gradient of phi in numbers, (parameter,), from symbols if there are any, else from expectations.

        Parameters
        ----------
        theta
            A number for each parameter.
        rate
            The learning rate.
        """
        about = np.array([theta[name] for name in self.loss.parameters])
        slope = self.mean_gradient.at(theta).value + self.decay * about
        if not rate:
            return np.asarray(slope)
        return np.asarray(slope + rate * float(self.time_unit) / 4.0 * self._slope_of_square(theta))

    def _slope_of_square(self, theta: Mapping[str, float]) -> np.ndarray:
        from sgdsim.formulas.symbolic import Kinked

        values, n = {**self.loss.constants, **theta}, len(theta)
        if self.mean_square is not None:
            return np.array(evaluation.evaluate(self._square_slopes, values), dtype=np.float64)
        about = np.array([theta[name] for name in self.loss.parameters])
        if self.loss.expression.has(Kinked):  # across a kink, derivative and expectation may not be exchanged
            return np.asarray(jacobian(lambda at: np.array([self.square(self._named(at))]), about)[0])
        found = self._slopes_of_sample.at(theta).value
        slope, hessian, square = found[:n], found[n : n + n * n].reshape(n, n), found[n + n * n :]
        metric = np.array(evaluation.evaluate(list(self.metric), values), dtype=float).reshape(n, n)
        mean = 2.0 * (hessian + self.decay * np.eye(n)) @ metric @ (slope + self.decay * about)
        noise = square - 2.0 * hessian @ metric @ slope
        return np.asarray(float(self.gain) * mean + float(self.noise_share) * noise)

    @cached_property
    def _slopes_of_sample(self) -> Expected:
        """Expectations of the gradient of a sample, of its Hessian, and of the gradient of ``g^T P g``."""
        gradient, square = self.loss.gradient, self.mean_square_of_sample.expressions[0]
        hessian = [g.diff(symbol) for g in gradient for symbol in self.loss.theta]
        return Expected(self.loss, [*gradient, *hessian, *(square.diff(symbol) for symbol in self.loss.theta)])

    def square(self, theta: Mapping[str, float]) -> float:
        """The mean square S in numbers."""
        if self.mean_square is not None:
            return float(evaluation.evaluate([self.mean_square], {**self.loss.constants, **theta})[0])
        metric = np.array(evaluation.evaluate(list(self.metric), {**self.loss.constants, **theta}), dtype=float)
        metric = metric.reshape(len(theta), len(theta))
        about = np.array([theta[name] for name in self.loss.parameters])
        slope = self.mean_gradient.at(theta).value
        pulled = slope + self.decay * about
        noise = self.mean_square_of_sample.at(theta).value[0] - slope @ metric @ slope
        return float(float(self.gain) * pulled @ metric @ pulled + float(self.noise_share) * noise)

    @cached_property
    def _square_slopes(self) -> list[sympy.Expr]:
        assert self.mean_square is not None
        return [self.mean_square.diff(p) for p in self.loss.theta]

    @property
    def _weight(self) -> sympy.Expr:
        """The factor of S in phi."""
        return self.rate * self.time_unit / 4

    def _named(self, theta: np.ndarray) -> Mapping[str, float]:
        return dict(zip(self.loss.parameters, map(float, theta), strict=True))


def _quadratic(matrix: sympy.Matrix, vector: Sequence[sympy.Expr]) -> sympy.Expr:
    import sympy

    column = sympy.Matrix(vector)
    return (column.T * matrix * column)[0]


def _exact(value: float) -> sympy.Expr:
    """A number as a short fraction if that is the same float, else by the decimals that it is written with."""
    import sympy

    from sgdsim.formulas.symbolic import exact

    short = Fraction(value).limit_denominator(_LONGEST_DENOMINATOR)
    return sympy.Rational(short) if float(short) == value else exact(float(value))


def _tidy(expression: sympy.Expr) -> sympy.Expr:
    """An expression, expanded if that is cheap, so that terms which cancel are gone."""
    import sympy

    small = sympy.count_ops(expression) * 20 <= MOST_OPERATIONS
    return sympy.expand(expression) if small and expression.is_polynomial() else expression
