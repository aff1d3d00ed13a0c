"""Arrays that are zero nearly everywhere, stored as the places and values of their other elements."""

from __future__ import annotations

from dataclasses import dataclass, field
from math import prod

import numpy as np


@dataclass
class Sparse:
    """Array of whole numbers, most of them zero; only the others take memory.

    Parameters
    ----------
    shape, dtype
        Shape and type of the array.
    index, values
        Places of the elements that are not zero, counted along the flattened array and sorted, and their values.

    Examples
    --------
    >>> status = Sparse((10**12,), "int32")
    >>> status.put(0, 4, np.array([1]), np.array([7]))
    >>> status.rows(0, 3), status.rows(10**12 - 1, 10**12)
    (array([0, 7, 0], dtype=int32), array([0], dtype=int32))
    """

    shape: tuple[int, ...]
    dtype: str
    index: np.ndarray = field(default_factory=lambda: np.empty(0, np.int64))
    values: np.ndarray = field(default_factory=lambda: np.empty(0, np.int64))

    def __len__(self) -> int:
        return self.shape[0]

    def put(self, first: int, last: int, index: np.ndarray, values: np.ndarray) -> None:
        """Replace all elements from one place to another: the given values at their places, zero elsewhere."""
        low, high = np.searchsorted(self.index, (first, last))
        if low == high and not len(index):
            return
        self.index = np.concatenate([self.index[:low], index.astype(np.int64), self.index[high:]])
        self.values = np.concatenate([self.values[:low], values.astype(np.int64), self.values[high:]])

    def between(self, first: int, last: int) -> tuple[np.ndarray, np.ndarray]:
        """Places of the elements that are not zero from ``first`` to ``last``, and their values."""
        low, high = np.searchsorted(self.index, (first, last))
        return self.index[low:high], self.values[low:high]

    def rows(self, start: int, stop: int) -> np.ndarray:
        """Elements ``start`` to ``stop`` along the first axis, as a plain array."""
        stop = min(stop, self.shape[0])
        stride = prod(self.shape[1:])
        shape = max(stop - start, 0), *self.shape[1:]
        found = np.zeros(prod(shape), self.dtype)
        index, values = self.between(start * stride, stop * stride)
        found[index - start * stride] = values
        return found.reshape(shape)

    def at(self, place: int) -> Sparse:
        """Element at one place of the first axis, without that axis."""
        stride = prod(self.shape[1:])
        index, values = self.between(place * stride, (place + 1) * stride)
        return Sparse(self.shape[1:], self.dtype, index - place * stride, values)


def stacked(parts: list[Sparse]) -> Sparse:
    """Several arrays of the same shape as one array with a further, leading axis.

    Examples
    --------
    >>> stacked([Sparse((2,), "int8"), Sparse((2,), "int8", np.array([1]), np.array([5]))]).rows(0, 2).tolist()
    [[0, 0], [0, 5]]
    """
    size = prod(parts[0].shape)
    index = np.concatenate([part.index + number * size for number, part in enumerate(parts)])
    return Sparse((len(parts), *parts[0].shape), parts[0].dtype, index, np.concatenate([part.values for part in parts]))
