"""Rivers with noise of their own, at one temperature and at two."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from sgdsim.model.run import Recorder, Run
from sgdsim.prediction import Moment, NotApplicable, Prediction, Rival, require
from sgdsim.theory.law import law, ratio_row, row
from sgdsim.theory.methods.gibbs import Gibbs
from sgdsim.theory.methods.rivers import River, check_remembered, river, square_of
from sgdsim.theory.recorded_names import name_of


@law(
    "noisy-river",
    "a noisy river in fluctuating walls: the Gibbs law with its first correction",
    source="re-derived",
    holds="a noisy river in fluctuating walls, at rest, over learning rates",
    records=lambda run: Recorder(observables=(square_of(river(run)),)),
    finite_order=True,
)
def noisy_river(run: Run) -> Iterator[Prediction]:
    """A river with noise of its own in fluctuating walls: the Gibbs law with its first correction.

    If both coordinates have the same noise, x and y have the joint density ``exp(-l/T)*(1 + eta*f)`` with ``f = |grad
    l|^2/(4T) - Laplacian l/2`` less its mean (potential-energy), so that to leading order y has the density
    ``exp(-c/T)/sqrt(a)``: the entropy ``-ln(a)/2`` beside the river's energy. No separation of time scales is needed.
    The mean of ``y^2`` is tested over learning rates at one temperature, to order eta inclusive. Re-derived.
    """
    known = river(run)
    require(not abs(known.river_noise / known.noise - 1.0) > 1e-9, "the noise of the river is not that of the walls")
    pull = known.rate * float(known.c(known.start, 2))
    memory = float(np.exp(-2.0 * pull * run.steps))
    check_remembered(known, memory)
    gibbs, square = Gibbs(run), square_of(known)
    corrected = gibbs.expectation(square.formula)
    leading, heat = gibbs.expectation(square.formula, corrected=False), known.temperature
    yield row(
        Moment("mean", name_of(run, square), run.steps),
        float(corrected.value),
        f"mean({square.formula}) at the temperature {heat:.6g}",
        order=1,
        conditions=f"start remembered to {memory:.1g}, numerical error {float(corrected.error):.1g}",
        rival=Rival("without the correction", float(leading.value)),
        small=known.rate,
        series=f"noisy-river {known.walls[0]} {known.bed[0]} {heat:.9g}",
    )


_SAME = 1e-6  # relative difference of temperatures below which they are the same, and the law is noisy-river
_SMALLEST, _DOUBLINGS = 1e-9, 100  # smallest distance from the bottom that is tried, and how often it is doubled
_NODES = 32  # nodes on each panel
_NOTHING = 40.0  # energy above the bottom from which on p is negligible: exp(-40) of its maximum
_BEYOND = 8  # further panels in which p may not have another maximum
_ROUNDING = 1e-12  # relative rounding of the energy


@dataclass(frozen=True)
class Spread:
    """The means of y and of y^2 in the density p."""

    mean: float
    square: float

    @property
    def variance(self) -> float:
        """The variance of y."""
        return self.square - self.mean**2


def spread(known: River, entropy: bool = True) -> Spread:
    """The means of y and of y^2 in the density p; without the entropy, in that of the river alone.

    Raises
    ------
    NotApplicable
        If p cannot be normalised, or has more than one maximum.
    """
    cold, hot = known.rate * known.river_noise / 2.0, known.temperature * entropy

    def energy(y: Any) -> Any:
        return known.c(y) / cold + hot / (2.0 * cold) * np.log(known.a(y))

    def slope(y: float) -> float:
        return float(known.c(y, 1) / cold + hot / (2.0 * cold) * known.a(y, 1) / known.a(y))

    bottom = _bottom(slope, known.start)
    sides = [_panels(energy, bottom, side) for side in (-1.0, 1.0)]
    offsets, weights = (np.concatenate(both) for both in zip(*sides, strict=True))
    weights = weights * np.exp(energy(bottom) - energy(bottom + offsets))
    shift, square = (float(weights @ offsets**p / weights.sum()) for p in (1, 2))
    return Spread(bottom + shift, square + 2.0 * bottom * shift + bottom**2)


@law(
    "two-temperatures",
    "a slow river at a temperature of its own",
    source="re-derived",
    holds="a slow river with noise of its own, at rest",
    records=lambda run: Recorder(observables=(square_of(river(run)),)),
    finite_order=True,
)
def two_temperatures(run: Run) -> Iterator[Prediction]:
    """A slow river with a temperature of its own. Leading order.

    If the river is slow against its walls, each has its own temperature, ``T_x = eta*sigma^2/2`` and ``T_y =
    eta*sigma_y^2/2``. At every y the walls push with the entropic force at T_x, and y has the Gibbs law at T_y, for its
    energy c plus that of this force,

        p(y) ~ exp(-c/T_y)*a^(-T_x/(2*T_y)).

    Neglected are terms of relative order ``eta*a``, ``c''/a`` and ``T_x*(a'/a)^2/a``, of both signs: the finite-eta
    temperature of the walls alone is not a better formula. All three are of order eta if c is proportional to eta, at
    fixed noises, which keeps p as it is. So <y^2> is tested over learning rates with c in proportion. Re-derived.
    """
    known = river(run)
    require(
        known.river_noise > 0.0 and abs(known.river_noise / known.noise - 1.0) >= _SAME,
        "the river has no temperature of its own",
    )
    require(not known.is_flat, "the river is flat: nothing holds it")
    square, law = square_of(known), spread(known)
    predicted, cold, y = law.square, known.rate * known.river_noise / 2.0, known.start
    left = float(np.exp(-known.rate * cold / law.variance * run.steps))
    away = y - law.mean
    memory = (abs(2.0 * law.mean * away) * left + abs(away**2 - law.variance) * left**2) / predicted
    check_remembered(known, memory)
    slow = float(known.c(y, 2) / known.a(y))
    yield ratio_row(
        Moment("mean", name_of(run, square), run.steps),
        predicted,
        f"mean({square.formula}) of a river at T_y = {cold / known.temperature:.4g} T_x over two-temperatures",
        order=0,
        conditions=f"{predicted:.6g}; eta*a = {known.rate * float(known.a(y)):.3g}, c''/a = {slow:.2g}",
        rival=Rival("without entropy", spread(known, entropy=False).square / predicted),
        small=known.rate,
        series=f"two-temperatures {known.walls[0]} {known.noise:.9g} {known.river_noise:.9g} {predicted:.6g}",
    )


def _bottom(slope: Callable[[float], float], start: float) -> float:
    """The place of least energy: the first zero of its slope downhill from the start."""
    from scipy.optimize import brentq

    near = start
    for length in _SMALLEST * 2.0 ** np.arange(_DOUBLINGS):
        far = start - np.sign(slope(start)) * length
        if slope(far) * slope(start) <= 0.0:
            return float(brentq(slope, near, far, xtol=1e-300, rtol=1e-14))
        near = far
    raise NotApplicable("the law of the river cannot be normalised: nothing holds it")


def _panels(energy: Callable[[Any], Any], bottom: float, side: float) -> tuple[np.ndarray, np.ndarray]:
    """Nodes on one side of the bottom, as distances from it, and their weights, out to where p is negligible.

    The first panel is of the law's own width, each further one as long as all before it.
    """
    nodes, weights = np.polynomial.legendre.leggauss(_NODES)
    ends, least = _SMALLEST * 2.0 ** np.arange(_DOUBLINGS), energy(bottom)
    heights = energy(bottom + side * ends) - least
    require(np.any(heights > _NOTHING), "the law of the river cannot be normalised")
    first, last = int(np.argmax(heights > 0.5)), int(np.argmax(heights > _NOTHING))
    high = ends[first : last + 1 + _BEYOND]
    low = np.concatenate([[0.0], high[:-1]])
    offsets = side * (low[:, None] + (high - low)[:, None] * (1.0 + nodes) / 2.0)
    with np.errstate(invalid="ignore"):
        falls = np.diff(energy(bottom + offsets.ravel())) < -_ROUNDING * max(1.0, abs(least))
    require(not np.any(falls), "the law of the river has more than one maximum")
    inside = slice(last + 1 - first)
    return offsets[inside].ravel(), ((high - low)[:, None] * weights / 2.0)[inside].ravel()
