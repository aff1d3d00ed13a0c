"""Logistic regression of two classes on random inputs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from sgdsim.formulas.vectors import coordinates
from sgdsim.model.loss import Loss
from sgdsim.model.losses.vectors import constant_vector, constants_from, random_vector
from sgdsim.model.noise import Noise


def logistic(
    teacher: Sequence[float] = (1.0, 0.5),
    inputs: str | Sequence[str] = "normal",
    covariance: Sequence[float] | Sequence[Sequence[float]] | None = None,
    noise: str = "normal",
    constants: Mapping[str, float] | None = None,
) -> Loss:
    """Logistic regression ``log(1 + exp(-y*(w.x)))``, random inputs x, ``y = 1`` where ``teacher.x + sigma*e > 0``.

    Else y is -1. With label noise the minimum is finite, along the teacher where the inputs are normal; without, the
    classes are separable and ``|w|`` grows without bound, slower and slower.

    Parameters
    ----------
    teacher
        Weights that determine the labels; as many as there are inputs.
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
        A loss in ``w[0]``, ``w[1]``, ….

    Raises
    ------
    InputError
        For an empty teacher, lengths that differ, and a covariance that is none.

    Notes
    -----
    The textbook loss; no law is about it. No symmetry, and no closed form of the population loss.

    Examples
    --------
    >>> logistic([1.0]).expression
    softplus(-w[0]*x[0]*where(0 < e*sigma + teacher_0*x[0], 1, -1))
    """
    values, vector = constant_vector("teacher", teacher, "teacher")
    x, definitions = random_vector("x", len(teacher), inputs, covariance)
    return Loss(
        formula="softplus(-y*dot(w, x))",
        parameters=coordinates("w", len(teacher)),
        constants=constants_from({"sigma": 1.0, **values}, constants),
        noise={**x, "e": Noise.parse(noise, "loss.noise")},
        definitions={**definitions, "teacher": vector, "y": "where(dot(teacher, x) + sigma*e > 0, 1, -1)"},
        name="logistic",
        description="logistic regression on random inputs",
    )
