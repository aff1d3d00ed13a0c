"""The diagonal linear network: each input through two weights of its own."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from sgdsim.formulas.vectors import coordinates
from sgdsim.model.loss import Loss
from sgdsim.model.losses.vectors import constant_vector, constants_from, random_vector
from sgdsim.model.noise import Noise
from sgdsim.model.symmetry import Symmetry


def diagonal_network(
    teacher: Sequence[float] = (1.0, 0.0),
    inputs: str | Sequence[str] = "normal",
    covariance: Sequence[float] | Sequence[Sequence[float]] | None = None,
    noise: str = "normal",
    constants: Mapping[str, float] | None = None,
) -> Loss:
    """Diagonal linear network ``(sum_i u_i*w_i*x_i - y)^2/2`` with ``y = teacher.x + sigma*e``.

    Noise balances each pair, ``u_i^2 = w_i^2``; for one input the stationary density of ``v = u*w`` is known in closed
    form as eta -> 0, and is normalisable at v = 0 only below a critical learning rate.

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
        Values of ``sigma`` (default 0.5) and of any ``teacher_0``, ``teacher_1``, ….

    Returns
    -------
    Loss
        A loss in ``u[0]``, ``u[1]``, … and ``w[0]``, ``w[1]``, ….

    Raises
    ------
    InputError
        For an empty teacher, lengths that differ, and a covariance that is none.

    Notes
    -----
    arXiv:2308.06671. Where x² varies, the chain at any finite learning rate blows up in the end:
    take ``rademacher`` inputs for decisive tests. Symmetries: the rescaling of each pair with the charge
    ``(u_i^2 - w_i^2)/2``, the exchange of u and w, their common sign.

    Examples
    --------
    >>> diagonal_network([1.0]).charges
    {'rescale': u[0]**2/2 - w[0]**2/2}
    """
    values, vector = constant_vector("teacher", teacher, "teacher")
    n = len(vector)
    x, definitions = random_vector("x", n, inputs, covariance)
    rescale = [f"rescale:u[{i}]:1,w[{i}]:-1" for i in range(n)]
    return Loss(
        formula="(dot(u*w, x) - y)**2/2",
        parameters=(*coordinates("u", n), *coordinates("w", n)),
        constants=constants_from({"sigma": 0.5, **values}, constants),
        noise={**x, "e": Noise.parse(noise, "loss.noise")},
        definitions={**definitions, "teacher": vector, "y": "dot(teacher, x) + sigma*e"},
        symmetries=tuple(map(Symmetry.parse, (*rescale, "permutation:u,w", "sign:u,w"))),
        name="diagonal_network",
        description="diagonal linear network on random inputs with label noise",
        references=("arXiv:2308.06671",),
    )
