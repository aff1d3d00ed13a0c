"""Panels of the state space on which functions are interpolated by polynomials."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from sgdsim.prediction import stored


@stored
@dataclass(frozen=True, eq=False)
class Axis:
    """Panels of one coordinate, each with `order` Gauss-Legendre nodes."""

    edges: np.ndarray
    order: int

    @cached_property
    def nodes(self) -> np.ndarray:
        """Coordinates of the nodes, panel by panel."""
        points = np.polynomial.legendre.leggauss(self.order)[0]
        half = np.diff(self.edges)[:, None] / 2
        return np.asarray((self.edges[:-1, None] + half * (1 + points)).ravel())

    @cached_property
    def _transform(self) -> np.ndarray:
        """The matrix from the values at the nodes of a panel to the coefficients of Legendre polynomials."""
        points, weights = np.polynomial.legendre.leggauss(self.order)
        degrees = np.arange(self.order)
        return (np.polynomial.legendre.legvander(points, self.order - 1) * weights[:, None] * (degrees + 0.5)).T

    def basis(self, values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """For each value, the index of the first node of its panel and the nodes' factors in the interpolation."""
        inside = np.clip(np.where(np.isnan(values), self.edges[0], values), self.edges[0], self.edges[-1])
        panel = np.clip(np.searchsorted(self.edges, inside, side="right") - 1, 0, len(self.edges) - 2)
        low, high = self.edges[panel], self.edges[panel + 1]
        place = (2 * inside - low - high) / (high - low)
        factors = np.polynomial.legendre.legvander(place.ravel(), self.order - 1) @ self._transform
        return panel * self.order, factors.reshape(*place.shape, self.order)

    def outside(self, values: np.ndarray) -> np.ndarray:
        """True for each value that is beyond either end, or NaN."""
        return np.asarray(~((values >= self.edges[0]) & (values <= self.edges[-1])))


@stored
@dataclass(frozen=True, eq=False)
class Map:
    """Coordinates of the panels: ``theta = centre + matrix @ v``, or ``v = sinh(u)`` where tails are long."""

    centre: np.ndarray
    matrix: np.ndarray
    long: bool = False

    def inwards(self, theta: Sequence[Any]) -> list[Any]:
        """The coordinates of given parameters."""
        inverse = np.linalg.inv(self.matrix)
        shifted = [value - middle for value, middle in zip(theta, self.centre, strict=True)]
        found = [sum(factor * value for factor, value in zip(row, shifted, strict=True) if factor) for row in inverse]
        return [np.arcsinh(value) for value in found] if self.long else found

    def outwards(self, coordinates: np.ndarray) -> np.ndarray:
        """The parameters at given coordinates, shape (point, parameter)."""
        v = np.sinh(coordinates) if self.long else coordinates
        return np.asarray(self.centre + v @ self.matrix.T)


@stored
@dataclass(frozen=True, eq=False)
class Mesh:
    """The product of axes, and where functions on it may have kinks."""

    axes: tuple[Axis, ...]
    map: Map
    kinks: tuple[tuple[int, float], ...] = ()  # (parameter, value)

    @cached_property
    def points(self) -> np.ndarray:
        """The parameters of each state, shape (state, parameter)."""
        grids = np.meshgrid(*(axis.nodes for axis in self.axes), indexing="ij")
        return self.map.outwards(np.array([grid.ravel() for grid in grids]).T)

    @property
    def size(self) -> int:
        """Number of states of the mesh."""
        return int(np.prod([len(axis.nodes) for axis in self.axes]))

    def basis(self, theta: Sequence[np.ndarray]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Indices and factors of the interpolation at given parameters, shape (…, node), and which are off the mesh."""
        coordinates = self.map.inwards(theta)
        shape = np.shape(coordinates[0])
        indices, factors = np.zeros((*shape, 1), dtype=np.int32), np.ones((*shape, 1))
        outside = np.zeros(shape, dtype=bool)
        for axis, values in zip(self.axes, coordinates, strict=True):
            first, row = axis.basis(values)
            columns = first[..., None].astype(np.int32) + np.arange(axis.order, dtype=np.int32)
            indices = (indices[..., :, None] * len(axis.nodes) + columns[..., None, :]).reshape(*shape, -1)
            factors = (factors[..., :, None] * row[..., None, :]).reshape(*shape, -1)
            outside |= axis.outside(values)
        return indices, factors, outside

    @cached_property
    def growth(self) -> np.ndarray:
        """A function of the states whose expectation the law should settle: 1 in the middle, a power far out."""
        grids = np.meshgrid(*(axis.nodes for axis in self.axes), indexing="ij")
        if self.map.long:
            return np.asarray(np.cosh(grids[0].ravel()) ** 2)
        return np.asarray(1 + sum(grid.ravel() ** 4 for grid in grids))

    def masses(self, weights: np.ndarray) -> np.ndarray:
        """Probabilities of the panels: sums of weights, which are no probabilities one by one."""
        shape = [number for axis in self.axes for number in (len(axis.edges) - 1, axis.order)]
        return np.asarray(weights.reshape(shape).sum(axis=tuple(range(1, len(shape), 2))))

    def edge_share(self, weights: np.ndarray) -> np.ndarray:
        """The share of the weights' magnitude in the outer panels, shape (axis, side)."""
        shape = tuple(len(axis.nodes) for axis in self.axes)
        found = np.empty((len(shape), 2))
        for number, axis in enumerate(self.axes):
            others = tuple(other for other in range(len(shape)) if other != number)
            marginal = np.abs(weights).reshape(shape).sum(axis=others)
            found[number] = marginal[: axis.order].sum(), marginal[-axis.order :].sum()
            found[number] /= marginal.sum()
        return found


def panelled(
    box: Sequence[tuple[float, float]],
    mapping: Map,
    panels: int,
    order: int,
    breaks: Sequence[tuple[int, float]] = (),
) -> Mesh:
    """A mesh of panels of equal width, some of which end at the breaks, with finer ones beside these."""
    axes = []
    for number, (low, high) in enumerate(box):
        edges = _spaced(low, high, panels, mapping.long)
        width = (high - low) / panels
        for parameter, value in breaks:
            if parameter != number:
                continue
            point = np.zeros(len(box))
            point[number] = value
            place = mapping.inwards(list(point))[number]
            if not low < place < high:
                continue
            # Finer panels beside a kink, for one parameter only: two would have too many states.
            graded = width * 0.5 ** np.arange(4) if len(box) == 1 else np.empty(0)
            edges = edges[np.abs(edges - place) > (1.2 if len(graded) else 0.4) * width]
            edges = np.concatenate([edges, [place], place - graded, place + graded])
        edges = np.unique(np.clip(edges, low, high))
        edges = edges[np.append(True, np.diff(edges) > 1e-9 * (high - low))]
        edges = np.unique(np.concatenate([[low], edges[1:-1], [high]]))
        axes.append(Axis(edges, order))
    return Mesh(tuple(axes), mapping, tuple(breaks))


def _spaced(low: float, high: float, panels: int, long: bool) -> np.ndarray:
    """Edges of panels of equal width; a long domain has half of them in the middle, and wider ones outside."""
    inner = max(low, -_MIDDLE), min(high, _MIDDLE)
    if not long or inner[0] >= inner[1]:
        return np.linspace(low, high, panels + 1)
    width = max(32.0 / panels, 0.75)
    parts = [np.linspace(*inner, panels // 2 + 1)]
    for start, stop in ((low, inner[0]), (inner[1], high)):
        if stop > start:
            parts.append(np.linspace(start, stop, 2 + int((stop - start) / width)))
    return np.unique(np.concatenate(parts))


_MIDDLE = 4.0  # half the width of the middle of a long domain, in its coordinate
