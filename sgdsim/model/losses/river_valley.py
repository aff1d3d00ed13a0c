"""The river valley of arXiv:2505.10559: a slow river along y, fast walls across x.

``l = c(y) + sum_i a_i(y) x_i^2 / 2 + noise``, with additive noise of the gradient, independent in each direction.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from sgdsim.base import take
from sgdsim.formulas.formula import Formula
from sgdsim.formulas.vectors import coordinates
from sgdsim.model.loss import Loss
from sgdsim.model.losses.vectors import constants_from
from sgdsim.model.noise import Noise

_DEFAULTS = {"a0": 1.0, "k": 0.5, "c2": 0.1}


def river_valley(
    a: str | Sequence[str] = "a0*(1 + k*y**2)",
    c: str = "c2*y**2/2",
    noise: str = "normal",
    river_noise: str | None = None,
    constants: Mapping[str, float] | None = None,
) -> Loss:
    """A river valley with any number of walls.

    Parameters
    ----------
    a
        Curvature of the wall as a formula of ``y``: ``a0``, ``a0*exp(k*y)``, ``a0*(1 + k*y**2)``, ``a0*y**m``, ….
        A sequence makes a vector of fast directions ``x[0]``, ``x[1]``, … with distinct curvatures.
    c
        The river, a formula of ``y``.
    noise
        Distribution of ``xi``, the noise of each fast direction's gradient in units of ``sigma``.
    river_noise
        Distribution of ``zeta``, the noise of the river's gradient in units of ``sigma_y``; None for none.
    constants
        Values of the constants in ``a`` and ``c`` (by default ``a0`` = 1, ``k`` = 0.5, ``c2`` = 0.1), of ``sigma``
        (default 1) and of ``sigma_y`` (default 1 with river noise).

    Returns
    -------
    Loss
        A loss in ``x`` (or ``x[0]``, …) and ``y``.

    Examples
    --------
    >>> river_valley(a="a0", c="0", constants={"a0": 2.0}).gradient
    (a0*x + sigma*xi, 0)
    """
    a = take.text(a, "loss.a") if isinstance(a, str) else take.each(take.text)(a, "loss.a")
    c = take.text(c, "loss.c")
    shape = () if isinstance(a, str) else len(a)
    fast = coordinates("x", shape)
    wall = "a*x**2/2 + sigma*xi*x" if isinstance(a, str) else "sum(a*x**2/2 + sigma*xi*x)"
    river = "" if river_noise is None else " + sigma_y*zeta*y"
    walls = (a,) if isinstance(a, str) else a
    used = {name for text in (c, *walls) for name in Formula.parse(text, where="loss.a or loss.c").names}
    defaults = {name: value for name, value in _DEFAULTS.items() if name in used}
    defaults |= {"sigma": 1.0} | ({} if river_noise is None else {"sigma_y": 1.0})
    distributions = {name: Noise.parse(noise, "loss.noise") for name in coordinates("xi", shape)}
    if river_noise is not None:
        distributions["zeta"] = Noise.parse(river_noise, "loss.river_noise")
    return Loss(
        formula=f"c + {wall}{river}",
        parameters=(*fast, "y"),
        constants=constants_from(defaults, constants),
        noise=distributions,
        definitions={"c": c, "a": a},
        name="river_valley",
        description="slow river along y, fast walls across x, additive gradient noise",
        references=("arXiv:2505.10559",),
    )
