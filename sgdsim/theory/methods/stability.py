"""Linear stability of runs at their start."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from sgdsim.model.run import Run
from sgdsim.theory.methods.population_hessian import population_hessian

_ROUNDING = 1e-9  # rounding of a step's factor: one so near to 1 in size counts as 1


def instabilities(runs: Sequence[Run]) -> list[str | None]:
    """For each run, a sentence that its largest learning rate is too large for the curvature at its mean start.

    The step is linearised at the mean initial state. Along a direction of curvature ``a`` plain SGD multiplies a
    displacement by ``1 - learning_rate*a``, which is unstable for ``learning_rate*a >= 2``. Directions that curve
    downwards are ignored: to leave a saddle is no mishap. Runs of one loss and one start share their curvature.

    Returns
    -------
    list of str or None
        None for a run that is stable, and if the curvature cannot be computed; see `population_hessian`.

    Examples
    --------
    >>> from sgdsim.model.loss import Loss
    >>> from sgdsim.model.noise import Noise
    >>> from sgdsim.model.optimizers import Optimizer
    >>> from sgdsim.model.schedules import Schedule
    >>> loss = Loss("a*x**2/2 + z*x", ("x",), {"a": 5.0}, {"z": Noise.parse("normal")})
    >>> instabilities([Run(loss, Optimizer(), Schedule("0.5"), {"x": 0.0}, 100, 10)])
    ['unstable: learning rate 0.5 times curvature 5 at the mean initial state is 2.5']
    """
    curvatures: dict[tuple[object, ...], float] = {}
    found = []
    for run in runs:
        shared = (id(run.loss), *run.initial.values())
        if shared not in curvatures:
            curvatures[shared] = max(_curvatures(run), default=0.0)
        found.append(_instability(run, curvatures[shared]))
    return found


def _instability(run: Run, curvature: float) -> str | None:
    rate = float(run.schedule.rates(run.steps).max()) / run.optimizer.substeps
    if curvature <= 0:
        return None
    step = None if run.optimizer.preconditioner or run.optimizer.metric else run.optimizer.step_matrix(curvature, rate)
    if step is None:
        return None
    factors = np.linalg.eigvals(step)
    # A factor of 1 is a flat direction, one of -1 swings without end; both are computed up to rounding only.
    if (np.abs(factors) < 1 + _ROUNDING).all() and (factors.real > -1 + _ROUNDING).all():
        return None
    product = f"learning rate {rate:g} times curvature {curvature:g}"
    return f"unstable: {product} at the mean initial state is {rate * curvature:g}"


def _curvatures(run: Run) -> np.ndarray:
    """Eigenvalues of the Hessian of the population loss at the mean initial state; none if it cannot be computed."""
    # Parameters of such a loss move by other rules than the curvature alone.
    if run.loss.direction or run.loss.recalled or run.loss.mixed:
        return np.array([])
    point = {name: start if isinstance(start, float | int) else start.moment(1) for name, start in run.initial.items()}
    hessian = population_hessian(run.loss, point)
    return np.array([]) if hessian is None or not np.isfinite(hessian).all() else np.linalg.eigvalsh(hessian)
