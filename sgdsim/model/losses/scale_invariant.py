"""Losses of the direction of theta alone: the Rayleigh quotient, and a field on the sphere."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from sgdsim.base import take
from sgdsim.base.errors import InputError
from sgdsim.formulas.vectors import coordinates
from sgdsim.model.loss import Loss
from sgdsim.model.losses.vectors import constant_vector, constants_from, count_of, random_vector
from sgdsim.model.symmetry import Symmetry


def rayleigh(
    curvatures: Sequence[float] = (1.0, 2.0),
    noise: str | Sequence[str] = "normal",
    constants: Mapping[str, float] | None = None,
) -> Loss:
    """Rayleigh quotient ``sum_i (m_i + sigma*xi_i)*theta_i^2/|theta|^2`` of random curvatures, scale invariant.

    The gradient is orthogonal to theta, so the norm only grows without weight decay:
    ``|theta|^2`` gains exactly ``eta^2 |g|^2`` a step.

    Parameters
    ----------
    curvatures
        The mean curvatures m, at least two.
    noise
        Distribution of each ``xi[i]``, in units of ``sigma``; a text alone for all.
    constants
        Values of ``sigma`` (default 0.5) and of any ``m_0``, ``m_1``, ….

    Returns
    -------
    Loss
        A loss in ``theta[0]``, ``theta[1]``, ….

    Raises
    ------
    InputError
        For fewer than two curvatures, and another number of distributions.

    Notes
    -----
    arXiv:2402.07193 (norms only grow); the law of the norm is re-derived. Symmetries: scale with
    the charge ``|theta|^2/2``, the sign of each coordinate. Undefined at theta = 0.

    Examples
    --------
    >>> rayleigh().charges
    {'scale': theta[0]**2/2 + theta[1]**2/2}
    """
    curvatures = take.each(take.number)(curvatures, "loss.curvatures")
    n = len(curvatures)
    if n < 2:
        raise InputError(f"loss.curvatures: {n} numbers, expected at least 2")
    values, vector = constant_vector("m", curvatures, "curvatures")
    xi, _ = random_vector("xi", n, noise, argument="noise")
    return Loss(
        formula="sum((m + sigma*xi)*theta**2)/norm2(theta)",
        parameters=coordinates("theta", n),
        constants=constants_from({"sigma": 0.5, **values}, constants),
        noise=xi,
        definitions={"m": vector},
        symmetries=tuple(map(Symmetry.parse, ("scale:theta", *(f"sign:theta[{i}]" for i in range(n))))),
        name="rayleigh",
        description="Rayleigh quotient of random curvatures",
        references=("arXiv:2402.07193",),
    )


def sphere(dimension: int = 3, noise: str = "normal", constants: Mapping[str, float] | None = None) -> Loss:
    """Field on the sphere ``(-k*theta_0 + sigma*xi.theta)/|theta|``, scale invariant, with isotropic tangential noise.

    With ``R = |theta|^2`` the direction has the Gibbs law of ``-k cos(angle)`` at the temperature
    ``eta*sigma^2/(2R)``; with weight decay lam, ``lam*R/2 = ((d - 1)/2)*T``, the law of an ideal gas.

    Parameters
    ----------
    dimension
        Dimension of theta, from 2.
    noise
        Distribution of each ``xi[i]``; isotropic where normal.
    constants
        Values of ``k`` and ``sigma`` (default 1).

    Returns
    -------
    Loss
        A loss in ``theta[0]``, ``theta[1]``, …; ``theta[0]`` is along the field.

    Raises
    ------
    InputError
        For a dimension below 2.

    Notes
    -----
    arXiv:2511.07308 (ideal gas, Gibbs law); the constants are re-derived. Symmetry: scale
    with the charge ``|theta|^2/2``. Undefined at theta = 0.

    Examples
    --------
    >>> sphere(dimension=2).population
    -k*theta[0]/sqrt(theta[0]**2 + theta[1]**2)
    """
    dimension = count_of(dimension, 2, "dimension")
    xi, _ = random_vector("xi", dimension, noise, argument="noise")
    return Loss(
        formula="(-k*theta[0] + sigma*dot(xi, theta))/sqrt(norm2(theta))",
        parameters=coordinates("theta", dimension),
        constants=constants_from({"k": 1.0, "sigma": 1.0}, constants),
        noise=xi,
        symmetries=(Symmetry.parse("scale:theta"),),
        name="sphere",
        description="field on the sphere with isotropic tangential noise",
        references=("arXiv:2511.07308",),
    )
