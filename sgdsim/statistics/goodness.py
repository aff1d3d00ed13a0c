"""Tests of predicted distributions: as a whole, by histogram, and in their tails."""

from __future__ import annotations

from math import sqrt

import numpy as np

from sgdsim.statistics.scores import FEWEST_TRAJECTORIES, POWER, Score, normal_deviate

FEWEST_EXPECTED = 10.0
"""Fewest values that are expected in a bin: neighbouring bins are merged until there are as many."""
FEWEST_LARGEST = 16
MOST_EQUAL = 0.01
"""Largest part of the largest values that may be equal to another: values on a lattice are no sample of a tail."""
UNSTABLE = 0.01
"""Level at which the tail's exponent in the quarter furthest out is told from that in the rest."""
TOWARDS = 0.5
"""Level below which an exponent that comes closer to the prediction further out may be on its way there."""


def kolmogorov_smirnov(distance: float, n: int) -> Score:
    """The score of the largest distance between a sample's distribution function, of n values, and a predicted one.

    The correction for a finite sample is Stephens's, J. R. Stat. Soc. B 32, 115 (1970).

    Examples
    --------
    >>> round(kolmogorov_smirnov(0.0136, 10_000).p, 3)
    0.049
    """
    from scipy.special import kolmogi, kolmogorov, ndtri

    scale = sqrt(n) + 0.12 + 0.11 / sqrt(n)
    p = float(kolmogorov(scale * distance))

    def seen(level: float) -> float:
        # If the distribution is off by D, a sample is off by D +- sqrt(F(1 - F)/n), and F(1 - F) <= 1/4.
        return float(kolmogi(level) / scale + ndtri(POWER) * 0.5 / sqrt(n))

    return Score(distance, z=normal_deviate(p), p=p, detectable=seen, doubts=_few(n))


def _few(n: float) -> tuple[str, ...]:
    return (f"fewer than {FEWEST_TRAJECTORIES} trajectories",) if n < FEWEST_TRAJECTORIES else ()


def chi_square(counts: np.ndarray, probabilities: np.ndarray, off: np.ndarray | None = None) -> Score:
    r"""The score of counts of independent values against the probabilities of their bins.

    The measured number is the total variation distance, half the sum of all differences in probability, over the merged
    bins. The deviation that would have been seen is a value of it, too: by Cauchy and Schwarz,

        (\sum |p_i - q_i|)^2 = (\sum |p_i - q_i|/\sqrt{q_i} \cdot \sqrt{q_i})^2 <= \sum (p_i - q_i)^2/q_i = \lambda/n,

    so that a total variation of D, and even more so a Kolmogorov distance of D, has a noncentrality of 4 n D^2 or more.

    The p-value is the larger one of Pearson's sum and of twice the logarithm of the likelihood ratio. If ten values are
    expected in one bin and many in the others, Pearson's sum sees a surplus in it too often, and the ratio a lack. True
    laws are rejected at the levels 1e-3, 1e-5 and 1e-6, in units of the level, so often (1e6 samples or more):

    ====================  =============  =============  =============
    expected              Pearson        ratio          larger p
    ====================  =============  =============  =============
    10; 1e6               1.6, 12, 16    0.8, 4.7, 0.3  0.3, 0.7, 0.3
    10, 10; 1e6           1.9, 7.8, 21   1.2, 1.4, 1.7  0.5, 0.4, 1.3
    5 times 10 and 1000   1.5, 4.1, 8.0  1.2, 1.2, 1.0  0.7, 0.6, 0
    30 times 12           1.2, 1.3, 0    1.4, 1.8, 2.0  0.9, 0.7, 0
    ====================  =============  =============  =============

    Parameters
    ----------
    counts
        Counts of all bins, with those below the first edge and above the last.
    probabilities
        The predicted probabilities of these bins.
    off
        The change of the probabilities by rounding: it adds to the noncentrality that is allowed for.

    Examples
    --------
    >>> one = chi_square(np.array([240, 260, 500]), np.array([0.25, 0.25, 0.5]))
    >>> one.measured, round(one.p, 2), one.remarks
    (0.01, 0.67, ('chi-square 0.8 on 2',))
    """
    from scipy.special import chdtrc, chdtri, chndtr, chndtrinc, chndtrix, xlogy

    n = float(counts.sum())
    if not n:
        return Score(doubts=("no live trajectories",))
    if not (np.all(probabilities >= -1e-9) and abs(probabilities.sum() - 1.0) < 1e-6):
        return Score(doubts=("what is predicted is no distribution function",))
    observed, expected = _merged(counts.astype(float), n * np.maximum(probabilities, 0.0))
    freedom = len(observed) - 1
    distance = float(np.abs(observed - expected).sum() / (2.0 * n))
    if not freedom:
        return Score(distance, doubts=("one bin holds all that is expected: bins narrower, or elsewhere",))
    value = float(np.sum((observed - expected) ** 2 / expected))
    smaller = min(value, max(float(2.0 * np.sum(xlogy(observed, observed / expected))), 0.0))
    # Merging bins makes no noncentrality larger; bins with less than one expected value are merged.
    allowed = 0.0 if off is None else n * float(np.sum(off**2 / np.maximum(probabilities, 1.0 / n)))
    p = float(max(chdtrc(freedom, smaller), 1.0 - chndtr(smaller, freedom, allowed)))

    def seen(level: float) -> float:
        limit = max(float(chdtri(freedom, level)), float(chndtrix(1.0 - level, freedom, allowed)))
        return float(sqrt(chndtrinc(limit, freedom, 1.0 - POWER) / n) / 2.0)

    remark = f"chi-square {value:.1f} on {freedom}"
    return Score(distance, z=normal_deviate(p), p=p, detectable=seen, doubts=_few(n), remarks=(remark,))


def _merged(observed: np.ndarray, expected: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Counts and expected counts of merged neighbouring bins, with enough expected in each; the rest joins the last."""
    starts, total = [0], 0.0
    for index, value in enumerate(expected):
        if total >= FEWEST_EXPECTED:
            starts.append(index)
            total = 0.0
        total += value
    if total < FEWEST_EXPECTED and len(starts) > 1:
        starts.pop()
    return np.add.reduceat(observed, starts), np.add.reduceat(expected, starts)


def tail(values: np.ndarray, predicted: float, fraction: float, alpha: float, rounding: float = 0.0) -> Score:
    """The score of Hill's estimator of the exponent of a tail, P(|x| > t) ~ t^-exponent, against a predicted one.

    From the k largest magnitudes the estimate is k over the sum of ``log(x_i/x_(k+1))``, with x_(k+1) the next one; its
    standard error is itself over sqrt(k). The sum has a gamma distribution if the tail is a power from there on, so the
    p-value is exact. So is the p-value of its change further out: the spacings of logarithms are independent (Renyi),
    so that the estimates from the largest quarter and from the other three have a ratio with Fisher's law.

    A tail that may not yet be a power is in doubt: if quarter and whole differ, or if the whole contradicts the
    prediction but the quarter does not, or tends towards it. Samples of Student's t with 3 degrees of freedom, whose
    largest 2 to 10 % are not yet a power, contradict their true exponent at 1e-3 in 70 to 100 % of cases, and without a
    doubt in at most 1 %. Samples of Pareto's law contradict an exponent that is off by 30 %, from the 1000 largest
    values and without a doubt, in 3 of 4 cases.

    Parameters
    ----------
    values
        All values of the sample, finite.
    predicted
        The predicted exponent, positive.
    fraction
        Part of the values that is taken for the tail.
    alpha
        Level at which the prediction would be contradicted.
    rounding
        Largest relative change of values by rounding; as large a change of the mean of their logarithms is allowed for.

    Examples
    --------
    >>> values = np.random.default_rng(1).pareto(2.5, size=100_000) + 1.0
    >>> one = tail(values, 2.5, 0.01, 1e-3)
    >>> round(one.measured, 2), round(one.stderr, 2), one.doubts
    (2.56, 0.08, ())
    """
    k = int(fraction * len(values))
    if k < FEWEST_LARGEST:
        needed = f"{fraction:g} of {len(values)} trajectories"
        return Score(doubts=(f"{needed} are {k}: a tail is estimated from {FEWEST_LARGEST} or more",))
    largest = np.sort(np.partition(np.abs(values), -k - 1)[-k - 1 :])[::-1]
    if not largest[-1] > 0:
        return Score(doubts=(f"fewer than {k} values differ from zero",))
    quarter = k // 4
    whole, far = (float(np.mean(np.log(largest[:m] / largest[m]))) for m in (k, quarter))
    equal = k - len(np.unique(largest[:k]))
    if not far > 0 or equal > MOST_EQUAL * k:
        return Score(doubts=(f"{equal} of the {k} largest values are equal to another: a lattice has no such tail",))
    allowed = float(np.clip(1.0 / predicted - whole, -rounding, rounding))
    p = _gamma_p(k, k * (whole + allowed) * predicted)
    # A deviation that rounding may have hidden would not have been seen: it adds to the detectable one.
    return Score(
        1.0 / whole,
        1.0 / (whole * sqrt(k)),
        (1.0 / whole - predicted) * whole * sqrt(k),
        p,
        lambda level: predicted * (_detectable_change(k, level) + rounding * predicted),
        doubts=(*_few(len(values)), *_instability(k, whole, quarter, far, predicted, p, alpha)),
        remarks=(f"{k} largest; {1.0 / far:.3g} ± {1.0 / (far * sqrt(quarter)):.2g} from {quarter}",),
    )


def _instability(k: int, whole: float, quarter: int, far: float, predicted: float, p: float, alpha: float) -> list[str]:
    """Signs that the tail is not yet a power where it is taken to begin."""
    from scipy.special import fdtr

    rest = (k * whole - quarter * far) / (k - quarter)
    below = float(fdtr(2 * quarter, 2 * (k - quarter), far / rest)) if rest > 0 else 1.0
    change = 2.0 * min(below, 1.0 - below)
    if change < UNSTABLE:
        return [f"not yet a power: the exponent is {1.0 / whole:.3g}, but {1.0 / far:.3g} further out"]
    if p > alpha:
        return []
    closer = abs(np.log(far * predicted)) < abs(np.log(whole * predicted))
    if _gamma_p(quarter, quarter * far * predicted) > alpha:
        return [f"perhaps not yet a power: {1.0 / far:.3g} further out does not contradict the prediction"]
    if closer and change < TOWARDS:
        return [f"perhaps not yet a power: {1.0 / far:.3g} further out is closer to the prediction"]
    return []


def _gamma_p(k: int, value: float) -> float:
    from scipy.special import gammainc, gammaincc

    return float(min(1.0, 2.0 * min(gammainc(k, value), gammaincc(k, value))))


def _detectable_change(k: int, level: float) -> float:
    """Relative change of the exponent, up or down, that is seen with 90 % power."""
    from scipy.special import gammainccinv, gammaincinv

    up = gammaincinv(k, POWER) / gammaincinv(k, level / 2.0) - 1.0
    down = 1.0 - gammaincinv(k, 1.0 - POWER) / gammainccinv(k, level / 2.0)
    return float(max(up, down))
