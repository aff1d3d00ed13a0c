"""NTL-31: the residual entropy of SignSGD. Exact.

On the lattice of SignSGD with normal noise (NTL-9), from a start on one or both of its halves, the Shannon entropy

    H = -sum_x p(x)*ln p(x)

of the stationary law is a sum over the lattice. At a fixed learning rate it does not fall to zero with the noise, but
to ln 2, that of the orbit of two points on which SignSGD without noise ends. A lattice through the bottom itself, where
the noise alone decides, keeps 1.5*ln 2.

What else NTL-31 says needs no law of its own: no schedule cools below ``1/(1/v_0 + n*a^2/sigma^2)``, and the entropy of
a continuous valley has no limit in the cold (NTL-15).

Ours; not to be attributed to arXiv:2505.10559, whose third law is not known to us.
"""

from __future__ import annotations

import numpy as np

from sgdsim.model.noise import Noise
from sgdsim.model.observables import Observable
from sgdsim.model.run import Recorder, Run
from sgdsim.prediction import Function, Moment, NotApplicable, Prediction, Rival
from sgdsim.theory.law import Law, name_of
from sgdsim.theory.laws.ntl9 import lattice_law, mixed_variance
from sgdsim.theory.methods.gradient_flow import constant_rate
from sgdsim.theory.methods.walls import Wall, check_forgotten, walls

ID = "NTL-31"
_LEAST = 1e-6  # probability of a point that is looked at
_MOST = 40  # points


def shannon_entropy(*probabilities: float | np.ndarray) -> np.ndarray:
    """``-sum p*ln p``, in nats.

    Examples
    --------
    >>> float(shannon_entropy(0.5, 0.5, 0.0).round(6))
    0.693147
    """
    p = np.clip(np.array(probabilities, dtype=float), 0.0, 1.0)
    return np.asarray(-np.sum(np.where(p > 0, p * np.log(np.where(p > 0, p, 1.0)), 0.0), axis=0))


def _law(run: Run) -> tuple[Wall, np.ndarray, np.ndarray]:
    """The wall, and the points and probabilities at the end of the run."""
    if run.optimizer.name != "signsgd" or run.optimizer.decay:
        raise NotApplicable(f"holds for signsgd without weight decay, the optimizer is {run.optimizer.name}")
    found, rate = walls(run), constant_rate(run)
    if len(found) > 1 or not found[0].is_normal or found[0].centre:
        raise NotApplicable("holds for one wall about zero with normal noise")
    (wall,) = found
    slowest = 1.0 - rate**2 / (2.0 * mixed_variance(rate, wall.curvature, wall.sigma))
    check_forgotten(wall, max(slowest, 0.0) ** run.steps)
    start = run.initial[wall.parameter]
    atoms: list[tuple[float, float]] = [(float(start), 1.0)] if isinstance(start, float | int) else []
    if isinstance(start, Noise):
        atoms = [(float(value), float(share)) for value, share in start.atoms()]
    if not atoms:
        raise NotApplicable(f"{wall.parameter} starts neither at a number nor at some of a table")
    points, weights = lattice_law(rate, wall.curvature, wall.sigma, atoms[0][0] % rate)
    places = [(value - points[0]) / rate + run.steps for value, _ in atoms]
    if any(abs(place - round(place)) > 1e-9 for place in places):
        raise NotApplicable(f"{wall.parameter} does not start on one lattice with the spacing {rate:g}")
    for half in (0, 1):
        share = sum(p for (_, p), place in zip(atoms, places, strict=True) if round(place) % 2 == half)
        weights[half::2] *= share / weights[half::2].sum()
    kept = weights > _LEAST
    if kept.sum() > _MOST:
        raise NotApplicable(f"{kept.sum()} points of the lattice matter, expected at most {_MOST}")
    return wall, points[kept], weights[kept]


def _indicators(wall: Wall, points: np.ndarray) -> list[Observable]:
    """Whether a trajectory is at each of the points."""
    half = constant_rate(wall.run) / 2.0
    return [
        Observable(f"at_{index}", f"step({half!r} - abs({wall.parameter} - ({float(point)!r})))")
        for index, point in enumerate(points)
    ]


def _records(run: Run) -> Recorder:
    wall, points, _ = _law(run)
    return Recorder(observables=tuple(_indicators(wall, points)))


def _at_point(run: Run) -> list[Prediction]:
    wall, points, weights = _law(run)
    names = [name_of(run, one) for one in _indicators(wall, points)]
    measure = Function("entropy", shannon_entropy, tuple(Moment("mean", name, run.steps) for name in names))
    conditions = f"eta*a/sigma = {constant_rate(run) * wall.curvature / wall.sigma:.4g}, {len(points)} points"
    value, residual = float(shannon_entropy(*weights)), Rival("ln 2", float(np.log(2.0)))
    quantity = f"Shannon entropy of {wall.parameter}"
    return [Prediction(ID, quantity, measure, value, "exact", 0.01, conditions=conditions, rival=residual)]


LAW = Law(
    ID,
    "residual entropy of SignSGD on its lattice",
    "ours, sgdsim handbook NTL-31",
    _records,
    _at_point,
)
