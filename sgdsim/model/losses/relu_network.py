"""One ReLU neuron with its output weight."""

from __future__ import annotations

from collections.abc import Mapping

from sgdsim.model.loss import Loss
from sgdsim.model.losses.vectors import constants_from
from sgdsim.model.noise import Noise
from sgdsim.model.symmetry import Symmetry


def relu_network(inputs: str = "normal", noise: str = "normal", constants: Mapping[str, float] | None = None) -> Loss:
    """ReLU neuron ``(a*relu(w*x + b) - y)^2/2`` with ``y = slope*relu(x) + sigma*e``, invariant under rescaling.

    ``w^2 + b^2 - a^2`` is conserved by gradient flow, and driven by noise until the mean squared gradients of both
    layers are equal. A neuron that is off for every input never moves again.

    Parameters
    ----------
    inputs
        Distribution of ``x``.
    noise
        Distribution of the label noise ``e``, in units of ``sigma``.
    constants
        Values of ``slope`` (default 1) and ``sigma`` (default 0.5).

    Returns
    -------
    Loss
        A loss in ``a``, ``w`` and ``b``.

    Notes
    -----
    arXiv:2308.06671 (noise balance under rescaling); the law `charges` is re-derived. Symmetry:
    rescaling ``a -> a/c, w -> c w, b -> c b`` by positive c. The population loss has no closed form.

    Examples
    --------
    >>> relu_network().charges
    {'rescale': -a**2/2 + b**2/2 + w**2/2}
    """
    return Loss(
        formula="(a*relu(w*x + b) - y)**2/2",
        parameters=("a", "w", "b"),
        constants=constants_from({"slope": 1.0, "sigma": 0.5}, constants),
        noise={"x": Noise.parse(inputs, "loss.inputs"), "e": Noise.parse(noise, "loss.noise")},
        definitions={"y": "slope*relu(x) + sigma*e"},
        symmetries=(Symmetry.parse("rescale:a:-1,w:1,b:1"),),
        name="relu_network",
        description="ReLU neuron with its output weight, random inputs, label noise",
        references=("arXiv:2308.06671",),
    )
