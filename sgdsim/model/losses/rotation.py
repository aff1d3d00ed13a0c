"""The circular valley: a loss of the distance from the origin alone."""

from __future__ import annotations

from collections.abc import Mapping

from sgdsim.formulas.vectors import coordinates
from sgdsim.model.loss import Loss
from sgdsim.model.losses.vectors import constants_from, count_of
from sgdsim.model.noise import Noise
from sgdsim.model.symmetry import Symmetry


def rotation(dimension: int = 2, noise: str = "normal", constants: Mapping[str, float] | None = None) -> Loss:
    """Circular valley ``(|theta|^2 - r2 - s*xi)^2/4``, invariant under rotations.

    The gradient points along theta: its direction is conserved exactly, sample by sample, while no step passes the
    origin. A symmetry that preserves the norm feels no entropic force.

    Parameters
    ----------
    dimension
        Dimension of theta, from 2.
    noise
        Distribution of ``xi``, in units of ``s``.
    constants
        Values of the squared radius ``r2`` (default 1) and of ``s`` (default 0.5).

    Returns
    -------
    Loss
        A loss in ``theta[0]``, ``theta[1]``, ….

    Raises
    ------
    InputError
        For a dimension below 2.

    Notes
    -----
    Symmetries: the rotation in the plane of each coordinate and the next, from
    which all follow; rotations have no charge. The sign of theta.

    Examples
    --------
    >>> rotation().population
    r2**2/4 - r2*theta[0]**2/2 - r2*theta[1]**2/2 + s**2/4 + theta[0]**4/4 + theta[0]**2*theta[1]**2/2 + theta[1]**4/4
    """
    dimension = count_of(dimension, 2, "dimension")
    planes = [f"rotation:theta[{i}],theta[{i + 1}]" for i in range(dimension - 1)]
    return Loss(
        formula="(norm2(theta) - r2 - s*xi)**2/4",
        parameters=coordinates("theta", dimension),
        constants=constants_from({"r2": 1.0, "s": 0.5}, constants),
        noise={"xi": Noise.parse(noise, "loss.noise")},
        symmetries=tuple(map(Symmetry.parse, (*planes, "sign:theta"))),
        name="rotation",
        description="circular valley of random squared radius",
    )
