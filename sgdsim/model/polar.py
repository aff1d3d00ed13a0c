"""The polar factor of a matrix, as formulas that an optimizer evaluates one after the other in a step."""

from __future__ import annotations

from dataclasses import dataclass

from sgdsim.base.errors import InputError
from sgdsim.formulas.arrays import Shape


@dataclass(frozen=True)
class Polar:
    """The formulas that replace the direction of a matrix by its polar factor, scaled as in the published algorithm.

    Attributes
    ----------
    first, last
        Formulas before and after the polynomials.
    repeated
        Formulas of one polynomial, with its coefficients a, b and c.
    """

    first: tuple[tuple[str, str], ...]
    repeated: tuple[tuple[str, str], ...]
    last: tuple[tuple[str, str], ...]

    @classmethod
    def of(cls, shape: Shape) -> Polar:
        """The formulas for a matrix of a given shape; a number is a matrix of one by one.

        Examples
        --------
        >>> Polar.of((2, 3)).repeated[0], Polar.of((4, 1)).last
        (('gram', 'direction@direction.T'), (('direction', '2.0*direction'),))
        """
        if len(shape) == 1:
            raise InputError(f"muon steps matrices, expected a matrix such as one of {shape[0]} by 1, not a vector")
        rows, columns = shape or (1, 1)
        if not shape:
            norm, gram, power = "abs(direction)", "direction*direction", "gram*{}"
        elif rows > columns:
            norm, gram, power = "sqrt(norm2(direction))", "direction.T@direction", "{}@gram"
        else:
            norm, gram, power = "sqrt(norm2(direction))", "direction@direction.T", "gram@{}"
        return cls(
            (("direction", f"direction/({norm} + 1e-7)"),),
            (
                ("gram", gram),
                ("third", power.format("direction")),
                ("fifth", power.format("third")),
                ("direction", "a*direction + b*third + c*fifth"),
            ),
            (("direction", f"{max(1.0, rows / columns) ** 0.5!r}*direction"),),
        )
