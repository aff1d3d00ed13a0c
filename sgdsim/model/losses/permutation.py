"""Two exchangeable neurons, which noise may make equal."""

from __future__ import annotations

from collections.abc import Mapping

from sgdsim.model.loss import Loss
from sgdsim.model.losses.vectors import constants_from
from sgdsim.model.noise import Noise
from sgdsim.model.symmetry import Symmetry


def permutation(inputs: str | None = None, noise: str = "normal", constants: Mapping[str, float] | None = None) -> Loss:
    """Two exchangeable neurons ``(tanh(u*x) + tanh(w*x) - y)^2/2`` with ``y = mu + sigma*e``.

    The line u = w is invariant; with r the residual, ``u - w`` near it is multiplied by
    ``1 - eta*r*x^2*tanh''(u*x)`` in each step, and dies out where the mean logarithm of that is negative.

    Parameters
    ----------
    inputs
        Distribution of ``x``; None for a constant ``x``, 1 unless `constants` says otherwise.
    noise
        Distribution of the label noise ``e``, in units of ``sigma``.
    constants
        Values of ``mu`` (default 1), ``sigma`` (default 1), and of ``x`` where it is constant.

    Returns
    -------
    Loss
        A loss in ``u`` and ``w``.

    Notes
    -----
    arXiv:2303.13093, arXiv:2306.04251, arXiv:2407.20209 (the exponent decides collapse); the law
    `lyapunov` and the factor are re-derived. Symmetry: exchange of u and w. With random inputs the population loss has
    no closed form.

    Examples
    --------
    >>> permutation(constants={"sigma": 0.5}).symmetries[0].image
    {'u': 'w', 'w': 'u'}
    """
    return Loss(
        formula="(tanh(u*x) + tanh(w*x) - y)**2/2",
        parameters=("u", "w"),
        constants=constants_from({"mu": 1.0, "sigma": 1.0, **({"x": 1.0} if inputs is None else {})}, constants),
        noise={
            **({} if inputs is None else {"x": Noise.parse(inputs, "loss.inputs")}),
            "e": Noise.parse(noise, "loss.noise"),
        },
        definitions={"y": "mu + sigma*e"},
        symmetries=(Symmetry.parse("permutation:u,w"),),
        name="permutation",
        description="two exchangeable neurons with label noise",
        references=("arXiv:2303.13093", "arXiv:2306.04251", "arXiv:2407.20209"),
    )
