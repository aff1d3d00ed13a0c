"""Softmax cross-entropy of the logits themselves, with random labels."""

from __future__ import annotations

from collections.abc import Sequence

from sgdsim.base import take
from sgdsim.base.errors import InputError
from sgdsim.formulas.vectors import coordinates
from sgdsim.model.loss import Loss
from sgdsim.model.noise import Noise
from sgdsim.model.symmetry import Symmetry

_MOST_CLASSES = 16


def softmax(probabilities: Sequence[float] = (0.5, 0.3, 0.2)) -> Loss:
    """Cross-entropy ``log(sum_i exp(z_i)) - z_label`` of logits z and random labels, invariant under translation.

    The sum of the logits is conserved exactly by each step; noise does not break the symmetry. The minimum is at
    ``z_i = log(p_i)`` up to a constant.

    Parameters
    ----------
    probabilities
        Probability of each label; 2 to 16 numbers that add up to 1.

    Returns
    -------
    Loss
        A loss in ``z[0]``, ``z[1]``, ….

    Raises
    ------
    InputError
        For too few or too many labels, and probabilities that are negative or do not add up to 1.

    Notes
    -----
    The logarithm is built of ``softplus``, pair by pair, and never overflows. The
    definition ``hit`` is 1 for the label and 0 for the rest, as polynomials of the label, so that the expectation is
    exact. Symmetry: translation with the charge ``sum_i z_i``.

    Examples
    --------
    >>> softmax([0.75, 0.25]).population
    z[0]/4 - z[1]/4 + softplus(-z[0] + z[1])
    >>> softmax().charges
    {'translation': z[0] + z[1] + z[2]}
    """
    probabilities = take.each(take.number)(probabilities, "loss.probabilities")
    n = len(probabilities)
    if not 2 <= n <= _MOST_CLASSES:
        raise InputError(f"loss.probabilities: {n} numbers, expected 2 to {_MOST_CLASSES}")
    if min(probabilities) < 0 or abs(sum(probabilities) - 1) > 1e-6:
        raise InputError(f"loss.probabilities: {list(probabilities)}, expected none below 0, and 1 in all")
    table = ",".join(f"{i}@{float(p)!r}" for i, p in enumerate(probabilities))
    definitions: dict[str, str | tuple[str, ...]] = {"hit": tuple(_hit(i, n) for i in range(n))}
    level = list(coordinates("z", n))
    while len(level) > 1:
        pairs = [tuple(level[i : i + 2]) for i in range(0, len(level), 2)]
        level = []
        for a, *rest in pairs:
            level.append(f"lse_{len(definitions)}" if rest else a)
            if rest:
                definitions[level[-1]] = f"{a} + softplus({rest[0]} - {a})"
    return Loss(
        formula=f"{level[0]} - dot(hit, z)",
        parameters=coordinates("z", n),
        noise={"label": Noise.parse(f"table:{table}", "loss.probabilities")},
        definitions=definitions,
        symmetries=(Symmetry.parse("translation:z"),),
        name="softmax",
        description="softmax cross-entropy of logits with random labels",
    )


def _hit(i: int, n: int) -> str:
    """The polynomial that is 1 at label i, and 0 at the other labels below n."""
    return "*".join(f"(label - {j})/{i - j}" if i > j else f"({j} - label)/{j - i}" for j in range(n) if j != i)
