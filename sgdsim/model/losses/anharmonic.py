"""The power-law well of one coordinate, additive gradient noise."""

from __future__ import annotations

from collections.abc import Mapping

from sgdsim.base import take
from sgdsim.base.errors import InputError
from sgdsim.formulas.limits import MAX_POWER
from sgdsim.model.loss import Loss
from sgdsim.model.losses.vectors import constants_from
from sgdsim.model.noise import Noise


def anharmonic(p: float = 4.0, noise: str = "normal", constants: Mapping[str, float] | None = None) -> Loss:
    """Power-law well ``c*|x|^p/p``, additive gradient noise ``sigma*xi``.

    At temperature ``T = eta*sigma^2/2`` the mean loss is ``(T/p)(1 + <V'^2>/sigma^2)`` exactly, so the heat capacity is
    1/p to leading order.

    Parameters
    ----------
    p
        The power, from 1 to 64; a polynomial where it is even.
    noise
        Distribution of ``xi``.
    constants
        Values of ``c`` and ``sigma`` (default 1).

    Returns
    -------
    Loss
        A loss in ``x``.

    Raises
    ------
    InputError
        For another power, or an unknown distribution.

    Notes
    -----
    The law `virial` is re-derived. For p > 2 a step from ``|x|^(p-2) > 2/(c*eta)`` overshoots, and the walker
    escapes. The slope of a power below 2 is steep at the origin: the Hessian is infinite there. No symmetry: the noise
    of a sample changes under ``x -> -x``.

    Examples
    --------
    >>> anharmonic().gradient
    (c*x**3 + sigma*xi,)
    >>> anharmonic(p=1.5).population
    2*c*abs(x)**(3/2)/3
    """
    p = take.number(p, "loss.p")
    if not 1 <= p <= MAX_POWER:
        raise InputError(f"loss.p: {p}, expected a power from 1 to {MAX_POWER}")
    power = f"x**{int(p)}" if p % 2 == 0 else f"abs(x)**{p!r}"
    return Loss(
        formula=f"c*{power}/{p!r} + sigma*xi*x",
        parameters=("x",),
        constants=constants_from({"c": 1.0, "sigma": 1.0}, constants),
        noise={"xi": Noise.parse(noise, "loss.noise")},
        name="anharmonic",
        description="power-law well, additive gradient noise",
    )
