"""Densities from formulas: normalised over the whole line, and their distribution functions.

A user's formula gives a density up to a factor. It is integrated between given points, and beyond them, by the 15-point
rule of Gauss and Kronrod (Piessens et al., QUADPACK, 1983), on intervals that are halved until the 7-point rule within
it agrees. Beyond the outermost points ``x = edge ± s (1 - w)/w`` maps the rest to 0 < w < 1, so that tails that fall
off slowly are cut into pieces too.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from sgdsim.base.errors import InputError
from sgdsim.formulas.formula import Formula
from sgdsim.formulas.names import FormulaError

ACCURACY = 1e-9
"""Error of each integral, as a part of the whole."""
MOST_HALVINGS = 200
MOST_PIECES = 20_000
_EPSILONS = 8  # half the width of the narrowest piece, in units of the spacing of floats
_AT_A_JUMP = 1e-6  # error that the narrowest piece may have, as a part of the whole
_FIRST_PIECES = 16  # pieces of each interval: a narrow peak between two points is seen if a node lies on its flank

_NODES = np.array(
    [
        *(0.991455371120812639206854697526329, 0.949107912342758524526189684047851),
        *(0.864864423359769072789712788640926, 0.741531185599394439863864773280788),
        *(0.586087235467691130294144691693013, 0.405845151377397166906606412076961),
        *(0.207784955007898467600689403773245, 0.0),
    ]
)
_KRONROD = np.array(
    [
        *(0.022935322010529224963732008058970, 0.063092092629978553290700663189204),
        *(0.104790010322250183839876322541518, 0.140653259715525918745189590510238),
        *(0.169004726639267902826583426598550, 0.190350578064785409913256402421014),
        *(0.204432940075298892414161999234649, 0.209482141084727828012999174891714),
    ]
)
_GAUSS = np.array(
    [
        *(0.0, 0.129484966168869693270611432679082, 0.0, 0.279705391489276667901467771423780),
        *(0.0, 0.381830050505118944950369775488975, 0.0, 0.417959183673469387755102040816327),
    ]
)


def _both_sides(half: np.ndarray, sign: float) -> np.ndarray:
    return np.concatenate([half, sign * half[-2::-1]])


_X, _K, _G = _both_sides(-_NODES, -1.0), _both_sides(_KRONROD, 1.0), _both_sides(_GAUSS, 1.0)


@dataclass(frozen=True)
class NormalisedDensity:
    """A density that a formula gives up to a factor.

    Parameters
    ----------
    formula
        A formula in a variable and in names with values.
    variable
        The name of the variable in the formula.
    values
        Values of the other names.
    where
        The place of the formula, for messages.

    Examples
    --------
    >>> normal = NormalisedDensity("exp(-x**2/(2*v))", "x", {"v": 4.0})
    >>> normal.cdf(np.array([-2.0, 0.0])).round(6)
    array([0.158655, 0.5     ])
    """

    formula: str
    variable: str
    values: Mapping[str, Any] = field(default_factory=dict)
    where: str = "density"

    def cdf(self, points: np.ndarray) -> np.ndarray:
        """The distribution function at some points.

        Parameters
        ----------
        points
            Values of the variable in any order; two or more different ones give the scale.

        Raises
        ------
        InputError
            If the formula is negative, has no value, or cannot be normalised.
        """
        edges, places = np.unique(points, return_inverse=True)
        parts = self._integrals(edges)
        return np.asarray(np.cumsum(parts[:-1])[places] / parts.sum())

    def _integrals(self, edges: np.ndarray) -> np.ndarray:
        """Integrals of the formula below the first edge, between neighbouring edges, and above the last edge."""
        scale = float(edges[-1] - edges[0]) or 1.0
        density = self._density()

        def below(w: np.ndarray) -> np.ndarray:
            return np.asarray(density(edges[0] - scale * (1.0 - w) / w) * scale / w**2)

        def above(w: np.ndarray) -> np.ndarray:
            return np.asarray(density(edges[-1] + scale * (1.0 - w) / w) * scale / w**2)

        def beyond(function: Callable[[np.ndarray], np.ndarray], whole: float) -> np.ndarray:
            return self._converged(function, np.array([0.0, 1.0]), whole)

        inside = self._converged(density, edges, 0.0)
        whole = float(inside.sum())
        outside = [beyond(function, whole) for function in (below, above)]
        parts = np.concatenate([outside[0], inside, outside[1]])
        if not parts.sum() > 0:
            raise InputError(f"{self.where}: {self.formula!r} is zero everywhere, or almost; expected a density")
        return parts

    def _density(self) -> Callable[[np.ndarray], np.ndarray]:
        formula = Formula.parse(self.formula, where=self.where)

        def density(x: np.ndarray) -> np.ndarray:
            try:
                found = np.broadcast_to(formula.evaluate({**self.values, self.variable: x}), x.shape)
            except FormulaError as error:
                hint = f"expected a density on the whole line, such as where({self.variable} > 0, …, 0)"
                raise InputError(f"{error}\n{hint}") from None
            if (found < 0).any():
                at = float(x[np.unravel_index(np.argmin(found), x.shape)])
                value = float(found.min())
                raise InputError(
                    f"{self.where}: {self.formula!r} is {value:.3g} at {self.variable} = {at:.3g}, "
                    "expected no density below 0"
                )
            return found

        return density

    def _converged(self, function: Callable[[np.ndarray], np.ndarray], edges: np.ndarray, whole: float) -> np.ndarray:
        """Integrals of a function between neighbouring edges, accurate relative to their sum and `whole`."""
        low, high = edges[:-1], edges[1:]
        cuts = low[:, None] + (high - low)[:, None] * np.arange(_FIRST_PIECES + 1) / _FIRST_PIECES
        low, high = cuts[:, :-1].ravel(), cuts[:, 1:].ravel()
        owner = np.repeat(np.arange(len(edges) - 1), _FIRST_PIECES)
        done = np.zeros(len(edges) - 1)
        for _ in range(MOST_HALVINGS):
            centre, half = (low + high) / 2.0, (high - low) / 2.0
            values = function(centre[:, None] + half[:, None] * _X)
            kronrod, gauss = half * (values @ _K), half * (values @ _G)
            total = whole + float(done.sum() + kronrod.sum())
            errors = np.abs(kronrod - gauss) / total if total > 0 else np.zeros_like(kronrod)
            good = errors <= ACCURACY / _FIRST_PIECES
            narrowest = half <= _EPSILONS * np.spacing(np.abs(centre))  # there are hardly floats between the nodes
            good |= narrowest & (errors <= _AT_A_JUMP)
            if (narrowest & ~good).any():
                break
            np.add.at(done, owner[good], kronrod[good])
            low, centre, high, owner = (part[~good] for part in (low, centre, high, owner))
            if not len(low):
                return done
            if len(low) > MOST_PIECES:
                break
            low, high = np.concatenate([low, centre]), np.concatenate([centre, high])
            owner = np.concatenate([owner, owner])
        raise InputError(f"{self.where}: {self.formula!r} cannot be integrated over the whole line to a finite number")
