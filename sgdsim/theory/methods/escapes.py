"""Escapes from a minimum over the barriers around it, by large deviations at small learning rates.

In the time ``eta t`` the parameters diffuse with ``eta C``, and leave the minimum a over a saddle s at the rate of
Eyring and Kramers,

    |l_s|/(2 pi) sqrt(det H_a/|det H_s|) exp(-Phi),    Phi = int_a^s 2 grad L . dx/(eta C_uu),

with the curvature l_s down from the saddle and the noise C_uu along the straight path. With one parameter, or noise
that is the same in all places and directions, this is exact for ``eta -> 0``; otherwise it is an estimate.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from sgdsim.model.run import Run
from sgdsim.theory.methods.batch_noise import batch_share
from sgdsim.theory.methods.linear_response import Population, Response

_FURTHEST = 20.0  # distance of a barrier in standard deviations: beyond, no run is long enough
_POINTS = 60  # points along a direction at which the slope is looked at
_NODES = 16  # points of the integral along the path


@dataclass(frozen=True, eq=False)
class Escape:
    """A way out of a minimum.

    Attributes
    ----------
    saddle
        Where it is highest, (parameter,).
    share
        The expected share of the trajectories that have left by it at the end of a run, at most 1.
    """

    saddle: np.ndarray
    share: float


def escapes(run: Run, found: Response) -> list[Escape]:
    """The ways out of the minimum that a run rests in, across the barriers along the axes and the main directions.

    Parameters
    ----------
    run
        Plain SGD at a constant rate.
    found
        Linear response at the minimum.

    Examples
    --------
    >>> from sgdsim.model.loss import Loss
    >>> from sgdsim.model.noise import Noise
    >>> from sgdsim.model.optimizers import Optimizer
    >>> from sgdsim.model.schedules import Schedule
    >>> from sgdsim.theory.methods.linear_response import response
    >>> loss = Loss("(x**2 - 1)**2/4 + z*x", ("x",), noise={"z": Noise.parse("normal")})
    >>> run = Run(loss, Optimizer(), Schedule("0.05"), {"x": 1.0}, 100, 200)
    >>> (one,) = escapes(run, response(run))
    >>> abs(one.saddle.item()) < 1e-9, round(one.share, 6)  # 200*0.05*sqrt(2)/(2 pi)*exp(-0.5/0.05)
    (True, 0.000102)
    """
    about, ways = Population(run.loss, run.optimizer.decay), list[Escape]()
    for direction in _directions(found):
        for saddle in _saddles(about, found, direction):
            if not any(np.allclose(saddle, one.saddle, atol=1e-6) for one in ways):
                ways.append(Escape(saddle, _share(run, about, found, saddle)))
    return ways


def _directions(found: Response) -> Iterator[np.ndarray]:
    """Displacements of a standard deviation."""
    values, axes = np.linalg.eigh(found.covariance)
    spreads = [*np.diag(np.sqrt(np.diag(found.covariance))), *(axes * np.sqrt(np.maximum(values, 0.0))).T]
    for one in spreads if len(values) > 1 else spreads[:1]:
        if one.any():
            yield one
            yield -one


def _saddles(about: Population, found: Response, direction: np.ndarray) -> Iterator[np.ndarray]:
    """The saddle near the first place along a direction from which on the loss falls."""
    distances = np.linspace(0.0, _FURTHEST, _POINTS + 1)[1:]
    for distance in distances:
        place = found.theta + distance * direction
        slope = float(about.gradient(place) @ direction)
        if not np.isfinite(slope):
            return
        if slope < 0.0:
            yield _settled(about, place, float(distance * np.linalg.norm(direction)))
            return


def _settled(about: Population, place: np.ndarray, distance: float) -> np.ndarray:
    """The stationary point that Newton's method finds nearby, or the place itself if it finds none."""
    theta = place
    for _ in range(20):
        step = np.linalg.lstsq(about.hessian(theta), about.gradient(theta), rcond=None)[0]
        theta = theta - step
        if not np.linalg.norm(theta - place) < distance / 2:
            return place
        if np.linalg.norm(step) < 1e-12 * distance:
            break
    return theta if np.linalg.eigvalsh(about.hessian(theta))[0] < 0.0 else place


def _share(run: Run, about: Population, found: Response, saddle: np.ndarray) -> float:
    eta = float(run.schedule.rates(run.steps)[-1])
    path = saddle - found.theta
    share = batch_share(run.optimizer, run.loss)
    nodes, weights = np.polynomial.legendre.leggauss(_NODES)
    barrier = 0.0
    for at, weight in zip((1.0 + nodes) / 2.0, weights / 2.0, strict=True):
        theta = found.theta + at * path
        noise = float(path @ about.noise(theta) @ path) * float(share)
        slope = float(about.gradient(theta) @ path)
        if noise > 0.0:
            barrier += weight * 2.0 * slope * float(path @ path) / (eta * noise)
        elif slope > 0.0:
            return 0.0
    curvatures, there = (np.linalg.eigvalsh(about.hessian(theta)) for theta in (found.theta, saddle))
    steepest = max(abs(float(there[0])), 1e-3 * float(curvatures[-1]))
    rest = np.prod(curvatures[1:] / np.maximum(np.abs(there[1:]), 1e-3 * curvatures[-1]))
    rate = np.sqrt(steepest * curvatures[0] * rest) / (2.0 * np.pi)
    return float(min(1.0, run.steps * eta * rate * np.exp(-max(barrier, 0.0))))
