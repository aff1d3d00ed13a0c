"""Joint moments of the mean gradient of a batch, for samples whose gradient is affine in the parameters.

The mean over a batch of B independent samples has
``E prod_j gbar_j = sum over partitions of B(B - 1)…/B^k * prod_blocks
E prod_j g_j``; without replacement the sums over distinct rows follow from those over all rows by inclusion and
exclusion.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from math import comb, factorial, perm, prod
from typing import TYPE_CHECKING, Any

import numpy as np

from sgdsim.base import budget
from sgdsim.base.errors import InputError
from sgdsim.formulas.expansion import bounded
from sgdsim.model.loss import Loss
from sgdsim.model.optimizers import Optimizer
from sgdsim.prediction import NotApplicable, require
from sgdsim.theory.quadrature.expectation import Expected

if TYPE_CHECKING:
    import sympy

Powers = tuple[int, ...]
Polynomial = dict[Powers, float]
Indices = tuple[int, ...]


class GradientMoments:
    """Joint moments of the batch's mean gradient, polynomials in the deviation of theta from the centre.

    The gradient has the decay's pull at the centre with it, so that its mean there is zero.

    Parameters
    ----------
    loss, optimizer
        The loss and the optimizer of the run.
    centre
        One number for each parameter.
    pulls
        The force of the decay at the centre, which makes the mean gradient there zero; one number for each parameter.
    order
        The highest order of a moment.

    Raises
    ------
    NotApplicable
        If a moment of the gradient does not exist.

    Examples
    --------
    >>> from sgdsim.model.noise import Noise
    >>> loss = Loss("x**2/2 + z*x", ("x",), {}, {"z": Noise.parse("normal")})
    >>> GradientMoments(loss, Optimizer(), np.zeros(1), np.zeros(1), 2)[0, 0]  # E (x + z)^2
    {(2,): 1.0, (1,): 0.0, (0,): 1.0}
    """

    def __init__(self, loss: Loss, optimizer: Optimizer, centre: np.ndarray, pulls: np.ndarray, order: int) -> None:
        self.loss, self.optimizer, self.pulls = loss, optimizer, pulls
        self.parameters = len(loss.parameters)
        self.single = self._of_one_sample(centre, order)
        self.known: dict[Indices, Polynomial] = {}

    def _of_one_sample(self, centre: np.ndarray, order: int) -> dict[Indices, Polynomial]:
        import sympy

        from sgdsim.formulas.symbolic import exact

        loss = self.loss
        shift = {symbol: symbol + sympy.Float(c, 17) for symbol, c in zip(loss.theta, centre, strict=True) if c}
        own = self._population() if self.optimizer.rule.population else loss.gradient
        gradient = [g + rational(pull) for g, pull in zip(own, self.pulls, strict=True)]
        constants = {loss.symbols[name]: exact(value) for name, value in loss.constants.items()}
        random = [loss.symbols[name] for name in loss.random]
        apart = [bounded(g.subs(shift)) for g in gradient]
        if all(g.is_polynomial(*loss.theta, *random) for g in apart):
            means = {name: sympy.Rational(self._mean(name)) for name in loss.random}
            exactly = {symbol: symbol + sympy.Rational(float(c)) for symbol, c in zip(loss.theta, centre, strict=True)}
            exactly |= {loss.symbols[name]: loss.symbols[name] + mean for name, mean in means.items()}
            about = [bounded(g.xreplace(constants).xreplace(exactly)) for g in gradient]
            polynomials = [sympy.Poly(g, *loss.theta, *random) for g in about]
            return self._of_polynomials([{p: float(c) for p, c in one.terms()} for one in polynomials], means, order)
        shifted = [sympy.Poly(g, *loss.theta) for g in apart]
        products: dict[Indices, Any] = {(): sympy.Poly(1, *loss.theta)}
        for total in range(1, order + 1):
            for chosen in itertools.combinations_with_replacement(range(self.parameters), total):
                budget.check()
                products[chosen] = products[chosen[:-1]] * shifted[chosen[-1]]
        terms = [(chosen, powers, c) for chosen, poly in products.items() for powers, c in poly.terms()]
        values = self._expected([c for *_, c in terms])
        found: dict[Indices, Polynomial] = {chosen: {} for chosen in products}
        for (chosen, powers, _), value in zip(terms, values, strict=True):
            found[chosen][tuple(map(int, powers))] = value
        return found

    def _of_polynomials(
        self, gradient: Sequence[Polynomial], means: Mapping[str, sympy.Rational], order: int
    ) -> dict[Indices, Polynomial]:
        """Joint moments of one sample's gradient, given as polynomials in theta and in the noise less its mean.

        With the mean in the noise, terms of ``(theta - z)^k`` would cancel after they are rounded: if the mean is
        large, no digit would be left.
        """
        n = self.parameters
        products: dict[Indices, Polynomial] = {(): {(0,) * (n + len(means)): 1.0}}
        for total in range(1, order + 1):
            for chosen in itertools.combinations_with_replacement(range(n), total):
                budget.check()
                products[chosen] = times(products[chosen[:-1]], gradient[chosen[-1]])
        drawn = dict.fromkeys(powers[n:] for one in products.values() for powers in one)
        moments = {powers: self._central(means, powers) for powers in drawn}
        found: dict[Indices, Polynomial] = {chosen: {} for chosen in products}
        for chosen, one in products.items():
            for powers, value in one.items():
                found[chosen][powers[:n]] = found[chosen].get(powers[:n], 0.0) + value * moments[powers[n:]]
        return found

    def _mean(self, name: str) -> float:
        """The mean of a column of data or of a noise variable; 0 for noise without a mean."""
        if name not in self.loss.noise:
            return float(self._columns[name].mean())
        mean = self.loss.noise[name].moment(1)
        return mean if np.isfinite(mean) else 0.0

    def _central(self, means: Mapping[str, sympy.Rational], powers: Powers) -> float:
        """The joint central moment of noise and columns of data, with an exponent for each."""
        used = {name: power for name, power in zip(means, powers, strict=True) if power}
        rows = [(self._columns[name] - float(means[name])) ** used[name] for name in used if name in self._columns]
        factors = [
            self._central_of(name, means[name], power) for name, power in used.items() if name in self.loss.noise
        ]
        return float(np.mean(np.prod(rows, axis=0))) * prod(factors)

    @cached_property
    def _columns(self) -> dict[str, np.ndarray]:
        data = self.loss.data
        return {} if data is None else {name: np.array(column) for name, column in data.columns.items()}

    def _central_of(self, name: str, mean: sympy.Rational, power: int) -> float:
        """The central moment of one noise variable, in exact fractions, whose terms cancel before they are rounded."""
        noise = self.loss.noise[name]
        why = f"a moment of the gradient does not exist: that of order {power} of {name} ~ {noise}"
        require(np.isfinite(noise.moment(power)), why)
        return float(sum(comb(power, k) * noise.exact_moment(k) * (-mean) ** (power - k) for k in range(power + 1)))

    def _expected(self, expressions: Sequence[sympy.Expr]) -> list[float]:
        try:
            return [float(value) for value in Expected(self.loss, expressions).at({}).value]
        except InputError as error:
            raise NotApplicable(f"a moment of the gradient does not exist: {error}") from None

    def _population(self) -> tuple[sympy.Expr, ...]:
        try:
            return tuple(self.loss.expectation(g) for g in self.loss.gradient)
        except InputError as error:
            raise NotApplicable(f"the population gradient has no closed form: {error}") from None

    def __getitem__(self, chosen: Indices) -> Polynomial:
        """The joint moment ``E prod gbar_j`` over the chosen indices, which may repeat."""
        if chosen not in self.known:
            total: Polynomial = {}
            for blocks in _partitions(chosen):
                budget.check()
                for powers, value in self._over_distinct(blocks).items():
                    weight = perm(self.optimizer.batch_size, len(blocks))
                    share = weight / self.optimizer.batch_size ** len(chosen)
                    total[powers] = total.get(powers, 0.0) + share * value
            self.known[chosen] = total
        return self.known[chosen]

    def _over_distinct(self, blocks: Sequence[Indices]) -> Polynomial:
        """The mean of a product of blocks, each of another sample."""
        if self.optimizer.sampling == "replacement" or self.loss.data is None:
            return _product([self.single[block] for block in blocks], self.parameters)
        rows, total = self.loss.data.rows, dict[Powers, float]()
        for merged in _partitions(tuple(range(len(blocks)))):
            sign = prod((-1) ** (len(part) - 1) * factorial(len(part) - 1) for part in merged)
            parts = [self.single[tuple(sorted(i for b in part for i in blocks[b]))] for part in merged]
            for powers, value in _product(parts, self.parameters).items():
                share = sign * rows ** len(merged) / perm(rows, len(blocks))
                total[powers] = total.get(powers, 0.0) + share * value
        return total


def rational(value: float) -> sympy.Rational:
    """The exact fraction that a float stands for.

    Examples
    --------
    >>> rational(0.75)
    3/4
    """
    import sympy

    return sympy.Rational(float(value))


def _partitions(items: Indices) -> Iterator[list[Indices]]:
    """All partitions of items into blocks; equal items count as different."""
    if not items:
        yield []
        return
    first, rest = items[0], items[1:]
    for blocks in _partitions(rest):
        yield [(first,), *blocks]
        for i, block in enumerate(blocks):
            yield [*blocks[:i], (first, *block), *blocks[i + 1 :]]


def _product(factors: Sequence[Polynomial], variables: int) -> Polynomial:
    result: Polynomial = {(0,) * variables: 1.0}
    for factor in factors:
        budget.check()
        result = times(result, factor)
    return result


def times(one: Polynomial, other: Polynomial) -> Polynomial:
    """The product of two polynomials, given by their coefficients.

    Examples
    --------
    >>> times({(0,): 1.0, (1,): 2.0}, {(1,): 3.0})
    {(1,): 3.0, (2,): 6.0}
    """
    result: Polynomial = {}
    for (p, a), (q, b) in itertools.product(one.items(), other.items()):
        powers = tuple(i + j for i, j in zip(p, q, strict=True))
        result[powers] = result.get(powers, 0.0) + a * b
    return result
