"""Linear regression on random inputs: the quadratic whose noise depends on where it is."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from sgdsim.formulas.vectors import coordinates
from sgdsim.model.loss import Loss
from sgdsim.model.losses.vectors import constant_vector, constants_from, random_vector
from sgdsim.model.noise import Noise


def linear_regression(
    teacher: Sequence[float] = (1.0, -1.0),
    inputs: str | Sequence[str] = "normal",
    covariance: Sequence[float] | Sequence[Sequence[float]] | None = None,
    noise: str = "normal",
    constants: Mapping[str, float] | None = None,
) -> Loss:
    """Linear regression ``((w - teacher).x - sigma*e)^2/2``, random inputs x, label noise e.

    For inputs of covariance a, dimension d and batch size B the stationary variance of each coordinate is exactly
    ``(eta sigma^2/B)/(2 - eta a (1 + (d + 1)/B))`` where the inputs are normal: to leading order free of a, so that
    sharp directions are hotter and equipartition fails.

    Parameters
    ----------
    teacher
        The weights at the minimum; as many as there are inputs.
    inputs
        Distribution of each input, such as ``normal:0,2`` for a standard deviation of 2; a text alone for all.
    covariance
        Covariance, or its diagonal, of jointly normal inputs of mean zero; None for independent ones, see `inputs`.
    noise
        Distribution of the label noise ``e``, in units of ``sigma``.
    constants
        Values of ``sigma`` (default 1) and of any ``teacher_0``, ``teacher_1``, ….

    Returns
    -------
    Loss
        A loss in ``w[0]``, ``w[1]``, ….

    Raises
    ------
    InputError
        For an empty teacher, lengths that differ, and a covariance that is none.

    Notes
    -----
    The laws `affine-moments` and `minibatches` are re-derived. No symmetry.

    Examples
    --------
    >>> linear_regression([2.0], "normal:0,2").population
    sigma**2/2 + 2*teacher_0**2 - 4*teacher_0*w[0] + 2*w[0]**2
    """
    values, vector = constant_vector("teacher", teacher, "teacher")
    x, definitions = random_vector("x", len(teacher), inputs, covariance)
    return Loss(
        formula="(dot(w - teacher, x) - sigma*e)**2/2",
        parameters=coordinates("w", len(teacher)),
        constants=constants_from({"sigma": 1.0, **values}, constants),
        noise={**x, "e": Noise.parse(noise, "loss.noise")},
        definitions={**definitions, "teacher": vector},
        name="linear_regression",
        description="linear regression on random inputs with label noise",
    )
