"""The tilted double well, additive gradient noise."""

from __future__ import annotations

from collections.abc import Mapping

from sgdsim.model.loss import Loss
from sgdsim.model.losses.vectors import constants_from
from sgdsim.model.noise import Noise


def double_well(noise: str = "normal", constants: Mapping[str, float] | None = None) -> Loss:
    """Tilted double well ``a*x^4/4 - b*x^2/2 + h*x``, additive gradient noise ``sigma*xi``.

    Untilted, its minima are at ``x = ±sqrt(b/a)`` below a barrier of ``b^2/(4a)``; with the temperature
    ``eta*sigma^2/2`` the heat capacity rises from 1/2 to a bump at a fifth of the barrier, and ends at 1/4.

    Parameters
    ----------
    noise
        Distribution of ``xi``.
    constants
        Values of ``a``, ``b`` and ``sigma`` (default 1) and of the tilt ``h`` (default 0).

    Returns
    -------
    Loss
        A loss in ``x``.

    Notes
    -----
    Without tilt the population loss is even, but no sample is: the additive noise changes sign with x,
    so that no symmetry is declared. `sign` has one.

    Examples
    --------
    >>> double_well().population
    a*x**4/4 - b*x**2/2 + h*x
    """
    return Loss(
        formula="a*x**4/4 - b*x**2/2 + h*x + sigma*xi*x",
        parameters=("x",),
        constants=constants_from({"a": 1.0, "b": 1.0, "h": 0.0, "sigma": 1.0}, constants),
        noise={"xi": Noise.parse(noise, "loss.noise")},
        name="double_well",
        description="tilted double well, additive gradient noise",
    )
