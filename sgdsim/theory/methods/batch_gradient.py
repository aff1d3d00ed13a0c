"""The distribution of the mean gradient over a batch, as random sources for quadrature rules."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from itertools import combinations_with_replacement
from math import comb, lgamma, log, prod
from typing import TYPE_CHECKING

import numpy as np

from sgdsim.base.errors import InputError
from sgdsim.model.loss import Loss
from sgdsim.model.noise import Noise
from sgdsim.model.run import Run
from sgdsim.prediction import NotApplicable, require
from sgdsim.theory.quadrature.nested import Source, sources
from sgdsim.theory.quadrature.rules import atoms

if TYPE_CHECKING:
    import sympy

_BATCHES = 4096  # most different batches that are summed over
_MOST_OUTCOMES = 128  # most outcomes of one sample, if each has a term in the gradient of a batch
_MOST_VARIABLES = 4  # most continuous noise variables of all samples of a batch together
_LIGHT = ("uniform", "laplace", "exponential")  # distributions that are determined by their moments


@dataclass(frozen=True, eq=False)
class Batch:
    """The gradient of a batch, and its random sources.

    Attributes
    ----------
    gradient
        One entry for each parameter: an expression in the parameters, constants and the names of the sources.
    sources
        The random sources, independent of each other.
    """

    gradient: tuple[sympy.Expr, ...]
    sources: tuple[Source, ...]


def batch_rule(run: Run) -> Batch:
    """The distribution of the mean gradient over a batch.

    Noise that enters affinely with the same factor in every sample is replaced by its mean over the batch, which for
    normal noise is exact. Otherwise rows of data and discrete noise are summed over all possible batches, and
    continuous noise has a variable for each sample.

    Raises
    ------
    NotApplicable
        For rows that are shuffled, a population gradient without closed form, and too many batches or variables.

    Examples
    --------
    >>> from sgdsim.model.optimizers import Optimizer
    >>> from sgdsim.model.schedules import Schedule
    >>> loss = Loss("a*x**2/2 + z*x", ("x",), {"a": 1.0}, {"z": Noise.parse("normal")})
    >>> run = Run(loss, Optimizer(batch_size=4), Schedule("0.1"), {"x": 0.0}, 100, 10)
    >>> found = batch_rule(run)
    >>> found.gradient, str(found.sources[0].noise)
    ((a*x + z,), 'normal:0.0,0.5')
    """
    loss, samples = run.loss, run.optimizer.batch_size
    if run.optimizer.rule.population:
        return Batch(_population_gradient(loss), ())
    used = [name for name in loss.random if any(loss.symbols[name] in slope.free_symbols for slope in loss.gradient)]
    require(
        not (run.optimizer.sampling == "epoch" and any(name in loss.columns for name in used)),
        "rows that are shuffled for each epoch are remembered from step to step; simulate instead",
    )
    if samples == 1:
        return Batch(loss.gradient, tuple(sources(loss, used)))
    means = [source for name in used if (source := _mean(run, name)) is not None]
    others = [name for name in used if all(name not in source.names for source in means)]
    if not others:
        return Batch(loss.gradient, tuple(means))
    given = sources(loss, others)
    if all(source.is_discrete for source in given) and not (run.optimizer.sampling == "batch" and loss.data):
        rest = _all_batches(run, given)
    else:
        rest = _sample_by_sample(run, given)
    return Batch(rest.gradient, (*rest.sources, *means))


def _population_gradient(loss: Loss) -> tuple[sympy.Expr, ...]:
    try:
        return loss.population_gradient
    except InputError as error:
        raise NotApplicable(f"the population gradient has no closed form: {error}") from None


def _mean(run: Run, name: str) -> Source | None:
    """The mean of a noise variable over the batch; None if the batch's gradient does not follow from that mean."""
    loss, samples = run.loss, run.optimizer.batch_size
    if name not in loss.noise:
        return None
    noise = loss.noise[name]
    factors = [slope.diff(loss.symbols[name]) for slope in loss.gradient]
    random = {loss.symbols[other] for other in loss.random}
    if any(factor.free_symbols & random for factor in factors):
        return None
    if noise.family == "normal":
        mean, std = noise.arguments
        return Source((name,), Noise("normal", (mean, std / float(np.sqrt(samples)))))
    if noise.atoms():
        table, shares = _mean_of_atoms(noise, samples)
        return None if len(shares) > _BATCHES else Source((name,), table=table[:, None], shares=shares)
    if noise.family in _LIGHT and run.optimizer.rule.linear:
        return Source((name,), noise, samples=samples)
    return None


def _mean_of_atoms(noise: Noise, samples: int) -> tuple[np.ndarray, np.ndarray]:
    law = {Fraction(0): 1.0}
    for _ in range(samples):
        after: dict[Fraction, float] = {}
        for (total, weight), (value, share) in itertools.product(law.items(), noise.atoms()):
            after[total + value] = after.get(total + value, 0.0) + weight * float(share)
        law = after
        if len(law) > _BATCHES:
            break
    return np.array([float(total / samples) for total in law]), np.array(list(law.values()))


def _all_batches(run: Run, given: Sequence[Source]) -> Batch:
    """The gradient of a batch as a sum over the outcomes of one sample, whose shares of the batch are random."""
    import sympy

    from sgdsim.formulas.symbolic import exact

    loss, samples = run.loss, run.optimizer.batch_size
    names, outcomes, chances = _outcomes(given)
    number = len(outcomes)
    require(
        comb(number + samples - 1, samples) <= _BATCHES and number <= _MOST_OUTCOMES,
        _too_many(run, comb(number + samples - 1, samples)),
    )
    labels = tuple(f"share__{index}" for index in range(number))
    values = [{loss.symbols[n]: exact(float(x)) for n, x in zip(names, row, strict=True)} for row in outcomes]
    gradient = tuple(
        sympy.Add(*(sympy.Symbol(s, real=True) * slope.xreplace(at) for s, at in zip(labels, values, strict=True)))
        for slope in loss.gradient
    )
    table = np.array(
        [np.bincount(chosen, minlength=number) for chosen in combinations_with_replacement(range(number), samples)]
    )
    shares = np.array([_multinomial(counts, chances) for counts in table])
    return Batch(gradient, (Source(labels, table=table / samples, shares=shares),))


def _multinomial(counts: np.ndarray, chances: np.ndarray) -> float:
    logarithm = lgamma(counts.sum() + 1) - sum(lgamma(n + 1) for n in counts)
    return float(np.exp(logarithm + sum(n * log(p) for n, p in zip(counts, chances, strict=True) if n)))


def _outcomes(given: Sequence[Source]) -> tuple[list[str], np.ndarray, np.ndarray]:
    """Names of discrete sources, and all their joint values with the probabilities of these."""
    names: list[str] = []
    rows, chances = np.empty((1, 0)), np.ones(1)
    for source in given:
        names += source.names
        if source.noise is None:
            assert source.table is not None
            assert source.shares is not None
            table, shares = source.table, source.shares
        else:
            values, shares = atoms(source.noise)
            table = values[:, None]
        rows = np.hstack([np.repeat(rows, len(table), axis=0), np.tile(table, (len(rows), 1))])
        chances = np.outer(chances, shares).ravel()
    return names, rows, chances


def _sample_by_sample(run: Run, given: Sequence[Source]) -> Batch:
    """The gradient of a batch in which every sample has random variables, and names, of its own."""
    import sympy

    loss, samples = run.loss, run.optimizer.batch_size
    noises = [source for source in given if source.noise is not None]
    variables = sum(not source.is_discrete for source in noises) * samples
    require(
        variables <= _MOST_VARIABLES,
        f"a batch of {samples} samples has {variables} noise variables that do not enter through their means, "
        f"expected at most {_MOST_VARIABLES}; simulate instead",
    )
    copies = [
        {loss.symbols[name]: sympy.Symbol(f"{name}__{sample}", real=True) for s in given for name in s.names}
        for sample in range(samples)
    ]
    gradient = tuple(sympy.Add(*(slope.xreplace(copy) for copy in copies)) / samples for slope in loss.gradient)
    rows = [_rows(run, source) for source in given if source.noise is None]
    singles = [Source((f"{s.names[0]}__{k}",), s.noise) for s in noises for k in range(samples)]
    if singles and all(source.is_discrete for source in singles):
        many = prod(source.outcomes for source in (*rows, *singles))
        require(many <= _BATCHES, _too_many(run, many))
    return Batch(gradient, (*rows, *sorted(singles, key=lambda source: not source.is_discrete)))


def _rows(run: Run, source: Source) -> Source:
    """All batches of rows as one source; the order of rows does not matter, as the samples' other noise is alike."""
    assert source.table is not None
    number, samples = len(source.table), run.optimizer.batch_size
    without = run.optimizer.sampling == "batch"
    many = comb(number, samples) if without else comb(number + samples - 1, samples)
    require(many <= _BATCHES, _too_many(run, many))
    if without:
        chosen = np.array(list(itertools.combinations(range(number), samples)))
        shares = np.full(len(chosen), 1.0 / len(chosen))
    else:
        chosen = np.array(list(combinations_with_replacement(range(number), samples)))
        alike = np.full(number, 1.0 / number)
        shares = np.array([_multinomial(np.bincount(rows, minlength=number), alike) for rows in chosen])
    names = tuple(f"{name}__{sample}" for sample in range(samples) for name in source.names)
    return Source(names, table=source.table[chosen].reshape(len(chosen), -1), shares=shares)


def _too_many(run: Run, many: int) -> str:
    size = run.optimizer.batch_size
    return f"there are {many} different batches of {size} samples, expected at most {_BATCHES}; simulate instead"
