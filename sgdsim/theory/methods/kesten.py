"""Collapse and heavy tails of a one-dimensional linearisation.

A small displacement delta from a point that SGD keeps, or from a minimum with noise of its own, takes the step
``delta' = A delta + noise`` with the random multiplier ``A = 1 - eta*(h + lambda)``, h the curvature of a batch. Then

- ``Lambda = E log|A|`` is the Lyapunov exponent: without further noise almost every path collapses if it is
  negative, at the rate Lambda a step, whatever the mean of delta^2 does;
- with further noise a stationary law exists if Lambda < 0, and has the tail ``P(|delta| > x) ~ x^-kappa`` with
  ``E|A|^kappa = 1`` (Kesten); only its moments below kappa exist.

These means are integrals over the noise of one step, with a logarithmic singularity where A = 0: panels end there.

Kesten tails of SGD: arXiv:2006.04740; collapse: arXiv:2303.13093, arXiv:2306.04251; formulas re-derived.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from sgdsim.base import budget
from sgdsim.base.errors import InputError
from sgdsim.formulas import evaluation
from sgdsim.model.noise import Noise
from sgdsim.model.run import Run
from sgdsim.prediction import require
from sgdsim.theory.methods.batch_gradient import batch_rule
from sgdsim.theory.quadrature.nested import Numerical, Source
from sgdsim.theory.quadrature.rules import Level, density, rule

if TYPE_CHECKING:
    import sympy

LARGEST_EXPONENT = 200.0
"""Largest exponent of a tail that is looked for: a steeper tail could not be measured."""

# Rules over the outer variables, coarse and fine; the innermost variable is integrated adaptively.
_SMOOTH = (Level(48), Level(64))  # for several continuous variables
_PANELS = (Level(8, 2), Level(16, 2))  # for a single one, whose integrand has kinks where zeros of A meet
_NOTHING = 1e-18  # largest weight of a node that is left out


@dataclass(frozen=True, eq=False)
class Multiplier:
    """The random factor A of a displacement of one parameter in one step.

    Parameters
    ----------
    expression
        The multiplier A, in the names of the sources.
    sources
        The random sources, independent of each other.

    Examples
    --------
    >>> from sgdsim.model.loss import Loss
    >>> from sgdsim.model.optimizers import Optimizer
    >>> from sgdsim.model.schedules import Schedule
    >>> loss = Loss("(x*theta - e)**2/2", ("theta",), {}, {"x": Noise.parse("normal"), "e": Noise.parse("normal")})
    >>> found = multiplier(Run(loss, Optimizer(), Schedule("0.8"), {"theta": 0.0}, 100, 10))
    >>> round(found.lyapunov.value, 4), round(found.kesten.value, 3)
    (-0.4657, 1.546)
    """

    expression: sympy.Expr
    sources: Sequence[Source]

    def mean(self, function: Callable[[np.ndarray], Any]) -> Numerical:
        """The mean ``E f(|A|)`` of a function f that is smooth for positive arguments.

        Raises
        ------
        NotApplicable
            If the integral does not exist, or has too many variables.
        """
        *coarse, fine = (self._mean(function, level) for level in self._levels)
        return Numerical(fine[0], sum(abs(fine[0] - one[0]) for one in coarse) + fine[1] + 1e-14 * abs(fine[0]))

    @property
    def _levels(self) -> tuple[Level, ...]:
        """Levels of the rules over the outer variables; one level is enough if all of them are discrete."""
        continuous = sum(not source.is_discrete for source in self._outer_and_inner[0])
        return _PANELS if continuous == 1 else _SMOOTH if continuous else _SMOOTH[:1]

    @cached_property
    def lyapunov(self) -> Numerical:
        """The Lyapunov exponent ``E log|A|``; minus infinity if A vanishes with positive probability."""
        return self.mean(np.log)

    @cached_property
    def log_variance(self) -> Numerical:
        """The variance ``Var log|A|``, by which the variance of log|delta| grows in a step."""
        centre = float(self.lyapunov.value)
        return self.mean(lambda a: (np.log(a) - centre) ** 2)

    def power(self, order: float) -> Numerical:
        """The factor ``E|A|^q`` by which a step multiplies ``E|delta|^q``."""
        return self.mean(lambda a: a**order)

    @cached_property
    def kesten(self) -> Numerical:
        """The exponent kappa of the tail.

        Raises
        ------
        NotApplicable
            If there is no stationary law, or its tail is lighter than any power that could be measured, as when A never
            exceeds 1.
        """
        from scipy.optimize import brentq

        exponent = float(self.lyapunov.value)
        require(exponent < 0, f"E log|1 - eta*h| = {exponent:.4g} is not negative: there is no stationary law")
        high = 1.0
        while float(self.power(high).value) < 1.0:
            high *= 2.0
            require(
                high <= LARGEST_EXPONENT,
                f"E|1 - eta*h|^k stays below 1 up to k = {LARGEST_EXPONENT:g}: no power-law tail",
            )
        low = high / 2.0
        while float(self.power(low).value) >= 1.0:
            low /= 2.0

        def excess(order: float) -> float:
            return float(np.log(self.power(order).value))

        root = brentq(excess, low, high, xtol=1e-12, rtol=1e-12)
        step = 1e-4 * root
        slope = (excess(root + step) - excess(root - step)) / (2.0 * step)
        return Numerical(root, float(self.power(root).error) / abs(slope) + 1e-11 * root)

    def _mean(self, function: Callable[[np.ndarray], Any], level: Level) -> tuple[float, float]:
        """Value and error of a mean, with a rule of one level for each outer variable."""
        inner = self._outer_and_inner[1]
        combinations, edges = self._laid_out(level)
        weights = np.array([weight for _, weight in combinations])
        if inner is None:
            sizes = [float(evaluation.evaluate([self.expression], values)[0]) for values, _ in combinations]
            with np.errstate(divide="ignore"):
                return float(weights @ function(np.abs(sizes))), 0.0
        outer = [values for values, _ in combinations]
        values, errors = _integrals(self.expression, inner, outer, edges, function)
        return float(weights @ values), float(weights @ errors)

    def _laid_out(self, level: Level) -> tuple[list[tuple[dict[str, float], float]], list[list[float]]]:
        """Values of the outer variables with their weights, and for each the panels of the inner variable."""
        if level not in self._known:
            outer, inner = self._outer_and_inner
            combinations = list(_combinations(outer, level))
            edges: list[list[float]] = []
            if inner is not None and inner.noise is not None:
                noise, name = inner.noise, inner.names[0]
                edges = [_edges(noise, _zeros(self.expression, name, values, noise)) for values, _ in combinations]
            self._known[level] = combinations, edges
        return self._known[level]

    @cached_property
    def _known(self) -> dict[Level, tuple[list[tuple[dict[str, float], float]], list[list[float]]]]:
        return {}

    @cached_property
    def _outer_and_inner(self) -> tuple[list[Source], Source | None]:
        """The outer sources, and the inner one, integrated adaptively: the continuous one of the lowest degree in A."""
        continuous = [source for source in self.sources if not source.is_discrete]
        require(len(continuous) <= 3, f"{len(continuous)} continuous variables, at most 3 can be integrated over")
        if not continuous:
            return list(self.sources), None
        inner = min(continuous, key=lambda source: self._degree(source.names[0]))
        return [source for source in self.sources if source is not inner], inner

    def _degree(self, name: str) -> float:
        import sympy

        symbol = next((s for s in self.expression.free_symbols if s.name == name), None)
        if symbol is None:
            return 0.0
        try:
            return float(sympy.Poly(self.expression, symbol).degree())
        except sympy.PolynomialError:
            return np.inf


def multiplier(run: Run, theta: float | None = None) -> Multiplier:
    """The multiplier of displacements from a minimum of a loss with one parameter.

    Parameters
    ----------
    run
        A run of plain SGD at constant learning rate, or of full-batch gradient descent.
    theta
        The point of the linearisation; by default the minimum below the start.

    Raises
    ------
    NotApplicable
        For several parameters, another optimizer, and a batch with too many variables.
    """
    from sgdsim.formulas.symbolic import Kinked
    from sgdsim.theory.methods.linear_response import minimum, start_of

    loss, optimizer = run.loss, run.optimizer
    require(
        len(loss.parameters) == 1,
        f"{len(loss.parameters)} parameters, expected one; reduce the loss to the direction sought",
    )
    require(optimizer.name in ("sgd", "gradient_descent"), f"holds for plain sgd, the optimizer is {optimizer.name}")
    require(not (optimizer.preconditioner or optimizer.metric), "holds without a preconditioner")
    require(
        not any(node.has(loss.theta[0]) for node in loss.gradient[0].atoms(Kinked)),
        "the gradient has jumps or kinks, which the linearisation does not see",
    )
    batch = batch_rule(run)
    curvature = batch.gradient[0].diff(loss.theta[0])
    if theta is None and loss.theta[0] in curvature.free_symbols:
        theta = float(minimum(loss, start_of(run), optimizer.decay)[0])
    values = {loss.symbols[name]: value for name, value in loss.constants.items()}
    if theta is not None:
        values[loss.theta[0]] = theta
    rate = float(run.schedule.rates(run.steps)[-1])
    expression = 1.0 - rate * (curvature.subs(values) + optimizer.decay)
    names = {symbol.name for symbol in expression.free_symbols}
    return _of_singles(expression, [source for source in batch.sources if names & set(source.names)])


def _of_singles(expression: sympy.Expr, sources: Sequence[Source]) -> Multiplier:
    """The multiplier in single draws, where a source is the mean of several."""
    import sympy

    singles = list[Source]()
    for source in sources:
        names = [f"{source.names[0]}__{k}" for k in range(source.samples)] if source.samples > 1 else []
        singles += [replace(source, names=(name,), samples=1) for name in names] or [source]
        if names:
            mean = sympy.Add(*(sympy.Symbol(name, real=True) for name in names)) / len(names)
            expression = expression.xreplace({one: mean for one in expression.free_symbols if one.name in source.names})
    return Multiplier(expression, tuple(singles))


def _combinations(sources: Sequence[Source], level: Level) -> Iterator[tuple[dict[str, float], float]]:
    """Values of the outer sources, with the probability of each."""
    tables = [_table(source, level) for source in sources]
    for rows in itertools.product(*tables):
        budget.check()
        values = {name: value for row, _ in rows for name, value in row.items()}
        weight = float(np.prod([share for _, share in rows])) if rows else 1.0
        if weight > _NOTHING:
            yield values, weight


def _table(source: Source, level: Level) -> list[tuple[dict[str, float], float]]:
    if source.noise is None:
        assert source.table is not None
        assert source.shares is not None
        rows = zip(source.table, source.shares, strict=True)
        return [(dict(zip(source.names, map(float, row), strict=True)), float(share)) for row, share in rows]
    if source.is_discrete:
        return [({source.names[0]: float(value)}, float(share)) for value, share in source.noise.atoms()]
    nodes, weights = rule(source.noise, level.order, pieces=level.pieces)
    return [({source.names[0]: float(x)}, float(w)) for x, w in zip(nodes, weights, strict=True)]


def _integrals(
    expression: sympy.Expr,
    inner: Source,
    combinations: Sequence[Mapping[str, float]],
    edges: Sequence[Sequence[float]],
    function: Callable[[np.ndarray], Any],
) -> tuple[np.ndarray, np.ndarray]:
    """The means over the inner variable of f(|A|) for each combination of the others, and their errors."""
    from scipy.integrate import tanhsinh

    assert inner.noise is not None
    noise, name = inner.noise, inner.names[0]
    panels = [(i, low, high) for i, ends in enumerate(edges) for low, high in itertools.pairwise(ends)]
    owner = np.array([i for i, *_ in panels])
    outer = {key: np.array([values[key] for values in combinations])[owner] for key in combinations[0]}

    def integrand(x: np.ndarray, *others: np.ndarray) -> np.ndarray:
        values = {name: x, **dict(zip(outer, others, strict=True))}
        size = np.abs(evaluation.evaluate([expression], values)[0])
        return np.asarray(function(np.maximum(size, 1e-300)) * density(noise, x))

    low, high = (np.array([panel[i] for panel in panels]) for i in (1, 2))
    found = tanhsinh(integrand, low, high, args=tuple(outer.values()), atol=1e-14, rtol=1e-12, maxlevel=9)
    require(np.isfinite(found.integral).all(), f"a mean over {name} ~ {noise} does not exist")
    sums = [np.bincount(owner, part, minlength=len(combinations)) for part in (found.integral, found.error)]
    return sums[0], sums[1]


def _edges(noise: Noise, zeros: Sequence[float]) -> list[float]:
    """Ends of the panels: the ends of the support, points in its middle region, and the zeros of A."""
    low, high = _support(noise)
    variance = noise.cumulant(2)
    centre, width = (noise.moment(1), float(np.sqrt(variance))) if np.isfinite(variance) else (0.0, 1.0)
    middle = [centre + k * width for k in (-8.0, -3.0, 0.0, 3.0, 8.0)]
    inside = sorted({float(x) for x in (*zeros, *middle) if low < x < high})
    return [low, *inside, high]


def _support(noise: Noise) -> tuple[float, float]:
    arguments = dict(zip(noise.law.arguments, noise.arguments, strict=True))
    if noise.family == "uniform":
        return arguments["low"], arguments["high"]
    if noise.family == "exponential":
        return -arguments["scale"], np.inf
    return (0.0, np.inf) if noise.family == "lognormal" else (-np.inf, np.inf)


def _zeros(expression: sympy.Expr, name: str, values: Mapping[str, float], noise: Noise) -> list[float]:
    """Values of a variable at which A vanishes: the roots of a polynomial, else those that a scan finds."""
    import sympy

    symbol = next(s for s in expression.free_symbols if s.name == name)
    fixed = expression.subs({s: values[s.name] for s in expression.free_symbols if s.name in values})
    try:
        coefficients = [float(c) for c in sympy.Poly(fixed, symbol).all_coeffs()]
    except sympy.PolynomialError:
        return _scanned(fixed, name, noise)
    roots = np.roots(coefficients)
    return [float(root.real) for root in roots if abs(root.imag) <= 1e-12 * max(1.0, abs(root))]


def _scanned(expression: sympy.Expr, name: str, noise: Noise) -> list[float]:
    from scipy.optimize import brentq

    def at(x: Any) -> Any:
        return evaluation.evaluate([expression], {name: x})[0]

    grid, _ = rule(noise, 256)
    grid = np.sort(grid)
    signs = np.sign(at(grid))
    changes = np.flatnonzero(signs[:-1] * signs[1:] < 0)
    return [float(brentq(at, grid[i], grid[i + 1])) for i in changes]


def tail_moments(exponent: float) -> str:
    """A sentence on the moments that are finite with a tail of this exponent.

    Examples
    --------
    >>> tail_moments(1.5)
    'the mean exists, the variance does not'
    """
    if not exponent > 0:
        raise InputError(f"tail exponent {exponent}, expected a positive number")
    if exponent <= 1:
        return "not even the mean exists"
    if exponent <= 2:
        return "the mean exists, the variance does not"
    if exponent <= 4:
        return "the variance exists, but without a standard error: the fourth moment does not"
    return "moments up to the fourth exist"
