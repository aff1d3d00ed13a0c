"""The quartic well of random curvature, whose samples are all even."""

from __future__ import annotations

from collections.abc import Mapping

from sgdsim.model.loss import Loss
from sgdsim.model.losses.vectors import constants_from
from sgdsim.model.noise import Noise
from sgdsim.model.symmetry import Symmetry


def sign(noise: str = "rademacher", constants: Mapping[str, float] | None = None) -> Loss:
    """Even quartic ``(d*xi - a)*theta^2/2 + b*theta^4/4`` of random curvature, invariant under a change of sign.

    The symmetric point theta = 0 is a maximum of the population loss, but attracts whenever the Lyapunov exponent
    ``E log|1 - eta*(d*xi - a)|`` is negative; beside it ``E theta^2 = (a - tau/2)/b`` with ``tau = eta*d^2`` to leading
    order.

    Parameters
    ----------
    noise
        Distribution of ``xi``; the default makes two curvatures, ``d - a`` and ``-d - a``.
    constants
        Values of ``a`` (default 0.2), ``d`` (default 1.5) and ``b`` (default 1).

    Returns
    -------
    Loss
        A loss in ``theta``.

    Notes
    -----
    arXiv:2303.13093, arXiv:2306.04251, arXiv:2407.20209 (the exponent decides collapse); the law
    `lyapunov` is re-derived. Symmetry: sign.

    Examples
    --------
    >>> sign().gradient
    (b*theta**3 + theta*(-a + d*xi),)
    """
    return Loss(
        formula="(d*xi - a)*theta**2/2 + b*theta**4/4",
        parameters=("theta",),
        constants=constants_from({"a": 0.2, "d": 1.5, "b": 1.0}, constants),
        noise={"xi": Noise.parse(noise, "loss.noise")},
        symmetries=(Symmetry.parse("sign:theta"),),
        name="sign",
        description="quartic well of random curvature",
        references=("arXiv:2303.13093", "arXiv:2306.04251", "arXiv:2407.20209"),
    )
