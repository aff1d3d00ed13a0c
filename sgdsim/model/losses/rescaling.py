"""Two-layer linear nets ``u*w``: one weight a layer, a vector of them, or many hidden neurons."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from sgdsim.formulas.vectors import coordinates
from sgdsim.model.loss import Loss
from sgdsim.model.losses.vectors import constant_vector, constants_from, count_of, random_vector
from sgdsim.model.noise import Noise
from sgdsim.model.symmetry import Symmetry


def rescaling(inputs: str = "normal", noise: str = "normal", constants: Mapping[str, float] | None = None) -> Loss:
    """Two-weight linear net ``(u*w*x - y)^2/2`` with ``y = slope*x + sigma*e``, invariant under rescaling.

    Each step multiplies ``u^2 - w^2`` by exactly ``1 - eta^2 s^2``, s the slope of the sample's loss in ``u*w``: noise
    balances the two layers, which gradient flow never does.

    Parameters
    ----------
    inputs
        Distribution of ``x``; ``table:1@1`` for the constant 1.
    noise
        Distribution of the label noise ``e``, in units of ``sigma``.
    constants
        Values of ``slope`` (default 1) and ``sigma`` (default 0.5).

    Returns
    -------
    Loss
        A loss in ``u`` and ``w``.

    Notes
    -----
    arXiv:2308.06671 (noise balance); the exact chain of the charge is re-derived. Symmetries: rescaling
    ``u -> c u, w -> w/c`` with the charge ``(u^2 - w^2)/2``, exchange of u and w, common sign.

    Examples
    --------
    >>> rescaling().charges
    {'rescale': u**2/2 - w**2/2}
    """
    return Loss(
        formula="(u*w*x - y)**2/2",
        parameters=("u", "w"),
        constants=constants_from({"slope": 1.0, "sigma": 0.5}, constants),
        noise={"x": Noise.parse(inputs, "loss.inputs"), "e": Noise.parse(noise, "loss.noise")},
        definitions={"y": "slope*x + sigma*e"},
        symmetries=tuple(map(Symmetry.parse, ("rescale:u:1,w:-1", "permutation:u,w", "sign:u,w"))),
        name="rescaling",
        description="two-weight linear net on random inputs with label noise",
        references=("arXiv:2308.06671",),
    )


def rescaling_vector(
    teacher: Sequence[float] = (1.0, 0.5),
    inputs: str | Sequence[str] = "normal",
    covariance: Sequence[float] | Sequence[Sequence[float]] | None = None,
    noise: str = "normal",
    constants: Mapping[str, float] | None = None,
) -> Loss:
    """Linear net ``(u*(w.x) - y)^2/2`` of one output weight and a vector, ``y = teacher.x + sigma*e``.

    At stationarity the mean squared gradients of the layers are equal, not their norms: with inputs of covariance S,
    ``u^4 = m.S.m/Tr S`` and ``|w|^2/u^2 = |m|^2 Tr S/m.S.m`` to leading order, m the teacher.

    Parameters
    ----------
    teacher
        The function to learn; as many weights as there are inputs.
    inputs
        Distribution of each input; a text alone for all.
    covariance
        Covariance, or its diagonal, of jointly normal inputs of mean zero; None for independent ones, see `inputs`.
    noise
        Distribution of the label noise ``e``, in units of ``sigma``.
    constants
        Values of ``sigma`` (default 1) and of any ``teacher_0``, ``teacher_1``, ….

    Returns
    -------
    Loss
        A loss in ``u`` and ``w[0]``, ``w[1]``, ….

    Raises
    ------
    InputError
        For an empty teacher, lengths that differ, and a covariance that is none.

    Notes
    -----
    arXiv:2402.07193 (on when noise balances the norms of two layers); the formulas are
    re-derived. Symmetries: rescaling with the charge ``(u^2 - |w|^2)/2``, common sign.

    Examples
    --------
    >>> rescaling_vector([1.0, 0.5], covariance=[1.0, 4.0]).charges
    {'rescale': u**2/2 - w[0]**2/2 - w[1]**2/2}
    """
    values, vector = constant_vector("teacher", teacher, "teacher")
    x, definitions = random_vector("x", len(teacher), inputs, covariance)
    return Loss(
        formula="(u*dot(w, x) - y)**2/2",
        parameters=("u", *coordinates("w", len(teacher))),
        constants=constants_from({"sigma": 1.0, **values}, constants),
        noise={**x, "e": Noise.parse(noise, "loss.noise")},
        definitions={**definitions, "teacher": vector, "y": "dot(teacher, x) + sigma*e"},
        symmetries=tuple(map(Symmetry.parse, ("rescale:u:1,w:-1", "sign:u,w"))),
        name="rescaling_vector",
        description="linear net of one output weight and a vector of input weights",
        references=("arXiv:2402.07193",),
    )


def rescaling_neurons(
    neurons: int = 2, inputs: str = "normal", noise: str = "normal", constants: Mapping[str, float] | None = None
) -> Loss:
    """Linear net ``((u.w)*x - y)^2/2`` of many hidden neurons, each rescalable, ``y = slope*x + sigma*e``.

    All ``u_i + w_i`` are multiplied by the same factor in each step, and all ``u_i - w_i`` by another: the ratios of
    each kind between neurons are conserved exactly, and the neurons do not collapse onto each other.

    Parameters
    ----------
    neurons
        Number of hidden neurons.
    inputs
        Distribution of ``x``.
    noise
        Distribution of the label noise ``e``, in units of ``sigma``.
    constants
        Values of ``slope`` (default 1) and ``sigma`` (default 0.5).

    Returns
    -------
    Loss
        A loss in ``u[0]``, ``u[1]``, … and ``w[0]``, ``w[1]``, ….

    Raises
    ------
    InputError
        For no neuron.

    Notes
    -----
    Symmetries: the rescaling of each neuron with the charge
    ``(u_i^2 - w_i^2)/2``, and the exchange of each neuron with the next, from which all permutations follow.

    Examples
    --------
    >>> rescaling_neurons(neurons=2).charges
    {'rescale': u[0]**2/2 - w[0]**2/2, 'rescale_2': u[1]**2/2 - w[1]**2/2}
    """
    neurons = count_of(neurons, 1, "neurons")
    rescale = [f"rescale:u[{i}]:1,w[{i}]:-1" for i in range(neurons)]
    exchange = [f"permutation:u[{i}],u[{i + 1}];w[{i}],w[{i + 1}]" for i in range(neurons - 1)]
    return Loss(
        formula="(dot(u, w)*x - y)**2/2",
        parameters=(*coordinates("u", neurons), *coordinates("w", neurons)),
        constants=constants_from({"slope": 1.0, "sigma": 0.5}, constants),
        noise={"x": Noise.parse(inputs, "loss.inputs"), "e": Noise.parse(noise, "loss.noise")},
        definitions={"y": "slope*x + sigma*e"},
        symmetries=tuple(map(Symmetry.parse, (*rescale, *exchange))),
        name="rescaling_neurons",
        description="linear net of one input and many hidden neurons",
    )
