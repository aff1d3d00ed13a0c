"""Exact moments of SGD where the gradient of every sample is affine in the parameters.

With gradients ``g(theta, xi) = G(xi) theta + c(xi)`` and an optimizer that is linear in them, the state ``s`` (the
parameters and the optimizer's own variables) takes a step that is affine in ``s`` with random coefficients. So the
moments of ``s`` up to order k obey a closed linear recursion, at any learning rate, for any schedule and noise:

    E s'^alpha = sum_beta T(eta)[alpha, beta] E s^beta,    |beta| <= |alpha| <= k.

Its fixed point is the stationary law's, moment by moment: that of even order j exists where the block of order j has
its spectrum inside the unit circle, and is infinite otherwise. Of odd order, signed moments may come to rest
where absolute ones are infinite: the third is taken as not known unless the fourth exists, and the mean is the limit of
the means of ensembles. For noise that does not depend on the state this is the
discrete Lyapunov equation of linear response.

The mean over a batch of B independent samples has
``E prod_j gbar_j = sum over partitions of B(B - 1)…/B^k * prod_blocks
E prod_j g_j``; without replacement the sums over distinct rows follow from those over all rows by inclusion and
exclusion.

Re-derived; the second moments of regression are in arXiv:2012.03636 and arXiv:2102.05375.
"""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from math import comb, factorial, perm, prod
from typing import TYPE_CHECKING, Any

import numpy as np

from sgdsim.base import budget
from sgdsim.base.errors import InputError, unknown_name
from sgdsim.formulas.expansion import bounded, expanded
from sgdsim.formulas.formula import Formula
from sgdsim.formulas.names import normal
from sgdsim.model.loss import Loss
from sgdsim.model.noise import Noise
from sgdsim.model.optimizers import Optimizer
from sgdsim.model.run import Run
from sgdsim.prediction import NotApplicable, require
from sgdsim.theory.methods.batch_noise import is_mixed
from sgdsim.theory.quadrature.expectation import Expected

if TYPE_CHECKING:
    import sympy

HIGHEST = 4
MOST_MOMENTS = 800
"""Of a recursion: 35 the matrices of 800 take 5 MB for each power of the rate."""

_LARGEST = int(np.finfo(np.float64).max)

Powers = tuple[int, ...]
Polynomial = dict[Powers, float]
Indices = tuple[int, ...]


@dataclass(frozen=True, eq=False)
class Recursion:
    """The closed recursion of moments of one run.

    Attributes
    ----------
    run
        Whose moments they are.
    names
        Of the state's entries: parameters first, then the optimizer's variables, ``velocity of u``.
    centre
        What the moments are about, one number for each of these.
    powers
        Exponents of each moment, 1 first, then by order.
    matrices
        Coefficients of T in powers of the learning rate, (power, moment, moment).
    first_matrices
        The same for the very first step, where it is another one.

    Examples
    --------
    >>> from sgdsim.model.optimizers import Optimizer
    >>> from sgdsim.model.schedules import Schedule
    >>> loss = Loss("x**2*theta**2/2 - x*e*theta", ("theta",), {}, {n: Noise.parse("normal") for n in ("x", "e")})
    >>> run = Run(loss, Optimizer(), Schedule("0.3"), {"theta": 0.0}, 1000, 200)
    >>> round(recursion(run, 2).stationary().variance("theta"), 6)  # eta/(2 - 3 eta)
    0.272727
    """

    run: Run
    names: tuple[str, ...]
    centre: np.ndarray
    powers: tuple[Powers, ...]
    matrices: np.ndarray
    first_matrices: np.ndarray

    def after(self, step: int) -> StateMoments:
        """The moments after so many steps of the run's own start and schedule.

        Raises
        ------
        InputError
            For a step that the run does not have.
        NotApplicable
            For a start on a grid or from a file, and where not even the mean is a float any more.
        """
        if step not in range(self.run.steps + 1):
            raise InputError(f"step {step}, expected a whole number from 0 to {self.run.steps}")
        start, orders = self._start(), np.array([sum(powers) for powers in self.powers])
        for highest in range(int(orders.max()), 0, -1):
            # A moment does not depend on those of higher order, which may be infinite or beyond the largest float.
            kept = orders <= highest
            values = self._advanced(start[kept], step)
            if np.isfinite(values).all():
                beyond = np.where(orders[~kept] % 2, np.nan, np.inf)  # odd ones may have either sign
                return self._moments(np.concatenate([values, beyond]), 4.0 * float(np.finfo(float).eps) * step)
        require(np.isfinite(start[orders <= 1]).all(), "the start has no mean")
        raise NotApplicable(f"the moments after {step} steps are beyond the largest float")

    def _advanced(self, values: np.ndarray, step: int) -> np.ndarray:
        """The first moments after so many steps, from those at the start."""
        kept = slice(len(values))
        rates = self.run.schedule.rates(self.run.steps)[:step]
        with np.errstate(all="ignore"):
            for rate in rates[:1]:
                values = _at(self.first_matrices, rate)[kept, kept] @ values
            for rate, equal in itertools.groupby(rates[1:]):
                budget.check()
                values = np.linalg.matrix_power(_at(self.matrices, rate)[kept, kept], len(list(equal))) @ values
        return values

    def stationary(self) -> StateMoments:
        """The moments of the stationary law at the last learning rate; infinite where they do not exist.

        The third ones are NaN where the fourth do not exist, or are beyond the recursion.

        Raises
        ------
        NotApplicable
            Where not even the mean comes to rest.
        """
        matrix = self.matrix(float(self.run.schedule.rates(self.run.steps)[-1]))
        values = np.full(len(self.powers), np.inf)
        values[0] = 1.0
        orders = np.array([sum(powers) for powers in self.powers])
        for order in range(1, int(orders.max()) + 1):
            block, lower = orders == order, orders < order
            within = matrix[np.ix_(block, block)]
            if np.abs(np.linalg.eigvals(within)).max() >= 1.0 - 1e-12:
                break
            source = matrix[np.ix_(block, lower)] @ values[lower]
            values[block] = np.linalg.solve(np.eye(len(within)) - within, source)
        if orders.max() < HIGHEST or not np.isfinite(values[-1]):
            values[(orders == HIGHEST - 1) & np.isfinite(values)] = np.nan
        require(
            np.isfinite(values[1]), "the mean does not come to rest: a direction without curvature, or too large a step"
        )
        return self._moments(values)

    def matrix(self, rate: float) -> np.ndarray:
        """T at a learning rate, (moment, moment).

        Raises
        ------
        NotApplicable
            Where it is beyond the largest float.
        """
        matrix = _at(self.matrices, rate)
        require(np.isfinite(matrix).all(), "the recursion of the moments is beyond the largest float")
        return matrix

    def radius(self, order: int, rate: float) -> float:
        """Spectral radius of the block of an order: where it is below 1, moments of this order come to rest."""
        block = [sum(powers) == order for powers in self.powers]
        return float(np.abs(np.linalg.eigvals(self.matrix(rate)[np.ix_(block, block)])).max())

    def _start(self) -> np.ndarray:
        require(
            all(isinstance(start, float | int | Noise) for start in self.run.initial.values()),
            "the start is neither numbers nor independent distributions",
        )
        given = {**dict.fromkeys(self.names, 0.0), **self.run.initial}
        starts = [_moments_about(given[name], c) for name, c in zip(self.names, self.centre, strict=True)]
        with np.errstate(all="ignore"):
            return np.array([prod(starts[i][p] for i, p in enumerate(powers)) for powers in self.powers])

    def _moments(self, values: np.ndarray, rounding: float = 0.0) -> StateMoments:
        centre = dict(zip(self.names, self.centre, strict=True))
        return StateMoments(self.names, centre, dict(zip(self.powers, values, strict=True)), max(rounding, 1e-14))


def _at(matrices: np.ndarray, rate: float) -> np.ndarray:
    """The matrix of a polynomial in the learning rate."""
    with np.errstate(all="ignore"):
        return np.asarray(np.tensordot(rate ** np.arange(len(matrices)), matrices, axes=1))


@dataclass(frozen=True, eq=False)
class StateMoments:
    """Moments of the state about a centre, with the relative error that many steps of rounding leave in them."""

    names: tuple[str, ...]
    centre: Mapping[str, float]
    values: Mapping[Powers, float]
    rounding: float = 1e-14

    def mean(self, name: str) -> float:
        """The mean of one entry of the state."""
        return float(self.centre.get(name, 0.0) + self._raw({name: 1}))

    def variance(self, name: str) -> float:
        """The variance of one entry of the state; infinite where it does not exist."""
        return self.covariance(name, name)

    def covariance(self, one: str, other: str) -> float:
        """The covariance of two entries of the state."""
        product = self._raw(Counter([one, other]))
        with np.errstate(all="ignore"):
            found = product - self._raw({one: 1}) * self._raw({other: 1}) if np.isfinite(product) else product
        return float(found)

    def cumulants(self, name: str) -> tuple[float, ...]:
        """Cumulants 1 to 4 of one entry of the state, as far as the recursion goes; infinite or NaN beyond."""
        order = max(map(sum, self.values))
        raw = [self._raw({name: power}) if power <= order else np.nan for power in range(HIGHEST + 1)]
        _, m1, m2, m3, m4 = raw
        with np.errstate(all="ignore"):
            k2, k3 = m2 - m1**2, m3 - 3 * m1 * m2 + 2 * m1**3
            k2 = 0.0 if abs(k2) <= self.rounding * m2 < np.inf else k2  # rounding, of a variable that does not vary
            k4 = m4 - 4 * m1 * m3 - 3 * m2**2 + 12 * m1**2 * m2 - 6 * m1**4 if m4 < np.inf else m4
        return self.mean(name), float(k2), float(k3), float(k4)

    def is_told(self, name: str) -> bool:
        """Whether the variance of one entry of the state is told from rounding, to one part in a hundred."""
        variance, square = self.cumulants(name)[1], self._raw({name: 2})
        return bool(variance > 100.0 * self.rounding * square or np.isinf(square))

    def _raw(self, powers: Mapping[str, int]) -> np.float64:
        powers = {normal(name): power for name, power in powers.items()}
        for name in powers:
            if name not in self.names:
                raise InputError(unknown_name("variable", name, self.names))
        return np.float64(self.values[tuple(powers.get(name, 0) for name in self.names)])


def recursion(run: Run, order: int = HIGHEST) -> Recursion:
    """The recursion of moments of a run, up to an order of at most 4.

    Raises
    ------
    NotApplicable
        For gradients that are not affine in the parameters, an optimizer that is not linear, a preconditioner that
        depends on them, batches that remember each other, or too many moments.
    """
    return Recursion(run, *_of(run.loss, run.optimizer, order))


@lru_cache(maxsize=64)  # the points of a sweep over the learning rate have it in common
def _of(
    loss: Loss, optimizer: Optimizer, order: int
) -> tuple[tuple[str, ...], np.ndarray, tuple[Powers, ...], np.ndarray, np.ndarray]:
    require(optimizer.rule.linear, f"{optimizer.name} is not linear in the gradient")
    require(is_affine(loss), "the gradient of a sample is not affine in the parameters")
    require(optimizer.sampling != "epoch", "the batches of an epoch depend on each other")
    require(
        not (
            optimizer.sampling == "batch"
            and optimizer.batch_size > 1
            and not optimizer.rule.population
            and is_mixed(loss)
        ),
        "rows without replacement beside other noise are not in this recursion",
    )
    names = (
        *loss.parameters,
        *(f"{state} of {name}" for name in loss.parameters for state in optimizer.rule.state),
    )
    powers = tuple(_powers(len(names), order))
    require(
        len(powers) <= MOST_MOMENTS,
        f"{len(names)} variables have {len(powers)} moments up to order {order}, too many",
    )
    centre, pulls = _centre(loss, optimizer)
    gradients = _GradientMoments(loss, optimizer, centre[: len(loss.parameters)], pulls, order)
    later, first = (_matrices(loss, optimizer, powers, centre, gradients, time) for time in (1, 0))
    return names, centre, powers, later, first


def is_affine(loss: Loss) -> bool:
    """Whether the gradient of every sample is affine in the parameters.

    Examples
    --------
    >>> is_affine(Loss("x**2*y", ("x", "y")))
    False
    """
    from sgdsim.formulas.symbolic import Kinked

    theta = set(loss.theta)
    if any(node.free_symbols & theta for g in loss.gradient for node in g.atoms(Kinked)):
        return False
    slopes = (g.diff(symbol) for g in loss.gradient for symbol in loss.theta)
    return not any(expanded(slope).free_symbols & theta for slope in slopes)


def _powers(variables: int, order: int) -> Iterator[Powers]:
    """Exponents of all monomials up to an order, by order."""
    for total in range(order + 1):
        for chosen in itertools.combinations_with_replacement(range(variables), total):
            counts = Counter(chosen)
            yield tuple(counts[i] for i in range(variables))


def _centre(loss: Loss, optimizer: Optimizer) -> tuple[np.ndarray, np.ndarray]:
    """Where a step does nothing on average, so that moments about it do not cancel; what the gradient lacks to 0."""
    zero = dict.fromkeys(loss.parameters, 0.0)
    slopes = [g.diff(symbol) for g in loss.gradient for symbol in loss.theta]
    try:
        values = Expected(loss, [*loss.gradient, *slopes]).at(zero).value
    except InputError as error:
        raise NotApplicable(f"the mean gradient does not exist: {error}") from None
    require(np.isfinite(values).all(), "the mean gradient is beyond the largest float")
    n, decay = len(loss.parameters), optimizer.values["weight_decay"]
    constant, matrix = values[:n], values[n:].reshape(n, n)
    states = n * len(optimizer.rule.state)
    if not optimizer.values.get("decoupled_weight_decay"):
        theta = np.linalg.lstsq(matrix + decay * np.eye(n), -constant, rcond=None)[0]
        return np.concatenate([theta, np.zeros(states)]), decay * theta
    # Decoupled decay holds the optimizer's variables away from zero too.
    linear, by_gradient = _linear_step(loss, optimizer)
    linear[:, :n] += by_gradient @ matrix
    centre = np.linalg.lstsq(np.eye(n + states) - linear, by_gradient @ constant, rcond=None)[0]
    return centre, -(constant + matrix @ centre[:n])


def _linear_step(loss: Loss, optimizer: Optimizer) -> tuple[np.ndarray, np.ndarray]:
    """The coefficients of state and gradient in the state after a step, at a small rate."""
    n = len(loss.parameters)
    names = n + n * len(optimizer.rule.state)
    found = np.zeros((names, names + n))
    for row, form in enumerate(_step_forms(loss, optimizer, np.zeros(names), np.zeros(n), 1)):
        for powers, value in form.items():
            *linear, rate = (*powers[: names + n], powers[-1])
            if sum(linear) == 1 and not any(powers[names + n : -1]):
                found[row, linear.index(1)] += value * 2.0 ** (-7 * rate)
    return found[:, :names], found[:, names:]


class _GradientMoments:
    """Joint moments of the batch's mean gradient, polynomials in the deviation of theta from the centre.

    The gradient has the decay's pull at the centre with it, so that its mean there is zero.
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
        gradient = [g + _rational(pull) for g, pull in zip(own, self.pulls, strict=True)]
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
        """The same of polynomials in theta and in what is random, less its mean, of which each product has its moment.

        About zero, ``(theta - z)^k`` would cancel after its products are rounded, to nothing where the mean is large.
        """
        n = self.parameters
        products: dict[Indices, Polynomial] = {(): {(0,) * (n + len(means)): 1.0}}
        for total in range(1, order + 1):
            for chosen in itertools.combinations_with_replacement(range(n), total):
                budget.check()
                products[chosen] = _times(products[chosen[:-1]], gradient[chosen[-1]])
        drawn = dict.fromkeys(powers[n:] for one in products.values() for powers in one)
        moments = {powers: self._central(means, powers) for powers in drawn}
        found: dict[Indices, Polynomial] = {chosen: {} for chosen in products}
        for chosen, one in products.items():
            for powers, value in one.items():
                found[chosen][powers[:n]] = found[chosen].get(powers[:n], 0.0) + value * moments[powers[n:]]
        return found

    def _mean(self, name: str) -> float:
        """Of a column, or of noise; 0 where that has none."""
        if name not in self.loss.noise:
            return float(self._columns[name].mean())
        mean = self.loss.noise[name].moment(1)
        return mean if np.isfinite(mean) else 0.0

    def _central(self, means: Mapping[str, sympy.Rational], powers: Powers) -> float:
        """The moment of what is random, less its mean, for exponents of each."""
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
        """The same of one noise, whose terms cancel before they are rounded."""
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
        """``E prod gbar_j`` over the chosen indices, with repetition."""
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
        """The mean over distinct samples, one a block."""
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


def _rational(value: float) -> sympy.Rational:
    """The float, exactly."""
    import sympy

    return sympy.Rational(float(value))


def _partitions(items: Indices) -> Iterator[list[Indices]]:
    """All ways to part items, taken as different, into blocks."""
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
        result = _times(result, factor)
    return result


def _times(one: Polynomial, other: Polynomial) -> Polynomial:
    result: Polynomial = {}
    for (p, a), (q, b) in itertools.product(one.items(), other.items()):
        powers = tuple(i + j for i, j in zip(p, q, strict=True))
        result[powers] = result.get(powers, 0.0) + a * b
    return result


def _matrices(
    loss: Loss,
    optimizer: Optimizer,
    powers: Sequence[Powers],
    centre: np.ndarray,
    gradients: _GradientMoments,
    time: int,
) -> np.ndarray:
    """Coefficients of T in powers of the learning rate."""
    forms = _step_forms(loss, optimizer, centre, gradients.pulls, time)
    n, states = len(loss.parameters), len(forms)
    position = {p: i for i, p in enumerate(powers)}
    entries: dict[tuple[int, int, int], float] = {}
    products: dict[Powers, Polynomial] = {powers[0]: {(0,) * (states + 2 * n + 1): 1.0}}
    for row, alpha in enumerate(powers):
        budget.check()
        if row:
            last = max(i for i, p in enumerate(alpha) if p)
            less = tuple(p - (i == last) for i, p in enumerate(alpha))
            products[alpha] = _times(products[less], forms[last])
        for key, value in products[alpha].items():
            state, gradient, kick, rate = _parts(key, states, n)
            weight = value * prod(_normal_moment(p) for p in kick)
            if not weight:
                continue
            chosen = tuple(i for i, p in enumerate(gradient) for _ in range(p))
            for theta, moment in gradients[chosen].items():
                joint = (*(s + t for s, t in zip(state, theta, strict=False)), *state[n:])
                index = (rate, row, position[joint])
                entries[index] = entries.get(index, 0.0) + weight * moment
    matrices = np.zeros((1 + max(rate for rate, *_ in entries), len(powers), len(powers)))
    for index, value in entries.items():
        matrices[index] = value
    return matrices


def _parts(key: Powers, states: int, n: int) -> tuple[Powers, Powers, Powers, int]:
    """Exponents of the state, of the batch's gradient, of the kick in half powers of the rate, and of the rate."""
    state, gradient, kick = key[:states], key[states : states + n], key[states + n : states + 2 * n]
    # A kick comes with the square root of the rate, and only even powers of it have a mean.
    return state, gradient, kick, key[-1] + sum(kick) // 2


def _normal_moment(order: int) -> float:
    return 0.0 if order % 2 else float(prod(range(1, order, 2)))


def _step_forms(loss: Loss, optimizer: Optimizer, centre: np.ndarray, pulls: np.ndarray, time: int) -> list[Polynomial]:
    """Each entry of the state after a step, about its centre, in state, gradient, kick and learning rate."""
    import sympy

    n, rule = len(loss.parameters), optimizer.rule
    state = {(i, s): sympy.Symbol(f"state_{s}_{i}") for i in range(n) for s in rule.state}
    gradient = [sympy.Symbol(f"gradient_{i}") for i in range(n)]
    kicks = [sympy.Symbol(f"kick_{i}") for i in range(n)]
    rate = sympy.Symbol("learning_rate", positive=True)
    deviation = [sympy.Symbol(f"deviation_{i}") for i in range(n)]
    centres = list(map(_rational, centre))
    held = dict(zip(state, centres[n:], strict=True))
    values: list[dict[str, Any]] = []
    for i in range(n):
        names: dict[str, Any] = {k: sympy.Rational(v) for k, v in optimizer.values.items()}
        # The square root of the rate is put in with the powers of the kick.
        names |= {"theta": deviation[i] + centres[i], "gradient": gradient[i] - _rational(pulls[i])}
        names |= {"t": sympy.Integer(time), "learning_rate": rate, "xi": kicks[i] / sympy.sqrt(rate)}
        names |= {s: state[i, s] + held[i, s] for s in rule.state}
        for name, text in (*rule.scalars, *optimizer.inner()):
            names[name] = Formula.parse(text).expression(names)
        values.append(names)
    directions = _preconditioned(loss, optimizer, [names["direction"] for names in values])
    after = []
    for names, direction, c in zip(values, directions, centres[:n], strict=True):
        names["direction"] = direction
        after.append(Formula.parse(optimizer.final).expression(names) - c)
    after += [values[i][s] - held[i, s] for i in range(n) for s in rule.state]
    variables = [*deviation, *(state[i, s] for i in range(n) for s in rule.state), *gradient, *kicks, rate]
    return [_polynomial(expression, variables) for expression in after]


def _polynomial(expression: sympy.Expr, variables: Sequence[sympy.Symbol]) -> Polynomial:
    import sympy

    try:
        polynomial = sympy.Poly(expanded(expression), *variables)
    except sympy.PolynomialError:
        raise NotApplicable("a step of the optimizer is no polynomial in the learning rate") from None
    return {tuple(map(int, powers)): float(value) for powers, value in polynomial.terms() if value != 0}


def _preconditioned(loss: Loss, optimizer: Optimizer, directions: Sequence[sympy.Expr]) -> list[sympy.Expr]:
    import sympy

    matrix = optimizer.matrix(loss)
    if matrix is None:
        return list(directions)
    require(not (matrix.free_symbols & set(loss.theta)), "the preconditioner depends on the parameters")
    fixed = matrix.subs({loss.symbols[name]: sympy.Float(value, 17) for name, value in loss.constants.items()})
    return list(fixed * sympy.Matrix(directions))


def _moments_about(start: Any, centre: float) -> tuple[float, ...]:
    """Raw moments 0 to 4 of a start about a centre."""
    from fractions import Fraction
    from math import comb

    if isinstance(start, float | int):
        with np.errstate(all="ignore"):
            return tuple(np.float64(start - centre) ** np.arange(HIGHEST + 1))
    raw = [start.moment(k) for k in range(HIGHEST + 1)]
    if not np.isfinite(raw).all():
        return tuple(raw)
    exact = [Fraction(value) for value in raw]
    about = Fraction(float(centre))
    moments = [
        sum((comb(k, j) * exact[j] * (-about) ** (k - j) for j in range(k + 1)), Fraction()) for k in range(HIGHEST + 1)
    ]
    return tuple(float(moment) if abs(moment) < _LARGEST else np.inf for moment in moments)
