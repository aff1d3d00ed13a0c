"""Version 1 of the layout of random words, in which some normals of 32 and of 64 bits were made of the same words.

What tests of independence must refuse, and what other layouts must still be, bit for bit.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from itertools import groupby

import pytest

from sgdsim.kernels import cache
from sgdsim.kernels.draws import Draws, Statement


class Draws1(Draws):
    """The words of a step kind by kind, of which a normal of 64 bits took all four of the block it began in."""

    layout_version = 1

    def _places(self) -> tuple[list[str], dict[str, int]]:
        words: list[str] = []
        first: dict[str, int] = {}
        several = sum(2 if kind in "Zv" else 1 for kind in self.kinds) * self.samples > 2
        for kind in "zZuv":
            count = self.kinds.count(kind) * self.samples
            if count and kind == "v" and len(words) % 2:
                words.append(".")
            first[kind] = len(words)
            words += ([kind, "."] if kind in "Zv" else [kind]) * count
            if kind in "zZ" and count % 2 and several:
                words += ["."] * (1 if kind == "z" else 2)
        return words, first

    @property
    def words_a_step(self) -> int:
        n = len(self._places()[0])
        return n if n <= 2 else -(-n // 4) * 4

    @property
    def steps_a_draw(self) -> int:
        return 4 // self.words_a_step if 0 < self.words_a_step <= 2 else 1

    def place(self, index: int) -> tuple[int, int]:
        kind = self.kinds[index]
        width = 2 if kind in "Zv" else 1
        return self._places()[1][kind] + self.kinds[:index].count(kind) * width, self.kinds.count(kind) * width

    def blocks(self) -> list[tuple[int, int, list[Statement]]]:
        words = self._places()[0]
        words = (words + ["."] * (self.words_a_step - len(words))) * self.steps_a_draw
        kinds = ["".join(words[start : start + 4]) for start in range(0, len(words), 4)]
        runs, start = [], 0
        for kind, group in groupby(kinds):
            stop = start + len(list(group))
            runs.append((start, stop, _statements(kind)))
            start = stop
        return runs


@contextmanager
def in_use() -> Iterator[None]:
    """Kernels draw like this, under names of their own: none is ever taken for a right one."""
    others = cache._generator_hash()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("sgdsim.kernels.program.Draws", Draws1)
        patch.setattr(cache, "_generator_hash", lambda: f"{others}, layout 1")
        yield


def _statements(kinds: str) -> list[Statement]:
    normals = [place for place, kind in enumerate(kinds) if kind == "z"]
    if len(normals) % 2:
        normals.append(normals[-1] + 1)
    statements: list[Statement] = [("normals32", pair, pair) for pair in zip(normals[::2], normals[1::2], strict=True)]
    if "Z" in kinds:
        statements.append(("normals64", (0, 1, 2, 3), (0, 2)))
    for place, kind in enumerate(kinds):
        if kind == "u":
            statements.append(("uniforms32", (place,), (place,)))
        elif kind == "v":
            statements.append(("uniforms64", (place, place + 1), (place,)))
    return statements
