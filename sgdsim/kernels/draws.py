"""The assignment of random words to deviates.

A draw is a row of random words. *Sources* turn them into deviates: Box-Muller makes two normals of two words, or of
four if normals have 64 bits; a uniform is made of one word, or of two. Each source has words of its own, and the
kernels are printed from them: no two sources can share a word.

The words of a step are given out kind by kind, in the order of `WORDS`, sample by sample. A source of n words begins at
a multiple of n, so that it lies in one Philox block. A step takes 1, 2 or a multiple of 4 words, rounded up. Steps of
one or two words share a block with those that follow, and a single normal has that of the next step for a partner. A
normal of 32 bits that is alone in its block has the first one of 64 bits for a partner, if there is any. A deviate is
stored in the row of its first word.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from itertools import groupby

# Deviates of the mirrored trajectory of a pair: the place p of what is drawn in its distribution becomes 1 - p.
# `MIRRORS_OF` has the laws for which another change of the deviate does that.
_FOLD = "0.5 - abs({0})"
MIRRORS = {"z": "-{0}", "Z": "-{0}", "u": "-{0}", "v": _FOLD}
MIRRORS_OF = {
    ("laplace", "v"): "-{0}",
    ("student_t", "v"): "{0}",
    ("student_t", "u"): "{0} - 0.5 if {0} > 0 else {0} + 0.5",
}

WORDS = {"z": 1, "Z": 2, "u": 1, "v": 2}
"""Random words of a deviate of each kind: normals and centred uniforms, of 32 and of 64 bits."""

Statement = tuple[str, tuple[int, ...], tuple[int, ...]]
"""A loop of `deviates`, the words of a block that it takes, and the rows of the block that it writes."""

_LOOPS = {"z": "normals32", "Z": "normals64", "u": "uniforms32", "v": "uniforms64"}
_MADE = {"z": 2, "Z": 2, "u": 1, "v": 1}  # number of deviates that a source makes


@dataclass(frozen=True)
class Source:
    """A call that makes deviates of random words.

    Attributes
    ----------
    kind
        Kind of its deviates.
    words
        Its words, in the order of the call, counted from the beginning of the draw.
    rows
        Rows in which its deviates are stored.
    """

    kind: str
    words: tuple[int, ...]
    rows: tuple[int, ...]

    def statement(self, block: int) -> Statement:
        """The statement that makes its deviates in the block that its words are in.

        Examples
        --------
        >>> Source("z", (6, 7), (6, 7)).statement(1)
        ('normals32', (2, 3), (2, 3))
        """
        words, rows = (tuple(place - 4 * block for place in places) for places in (self.words, self.rows))
        return _LOOPS[self.kind], words, rows


@dataclass(frozen=True)
class Draws:
    """The deviates of a draw and their words.

    Parameters
    ----------
    deviates
        Kinds of the deviates of one sample, in order.
    samples
        Number of samples in a step.
    wide_normals
        True if normals and uniforms have 64-bit sources (``noise_dtype = "float64"``).
    """

    deviates: tuple[str, ...]
    samples: int = 1
    wide_normals: bool = False

    @cached_property
    def kinds(self) -> tuple[str, ...]:
        """Kinds of the deviates of one sample as they are drawn."""
        return tuple({"z": "Z", "u": "v"}.get(kind, kind) if self.wide_normals else kind for kind in self.deviates)

    @property
    def has_wide(self) -> bool:
        """True if any deviate has 64 bits."""
        return any(WORDS[kind] == 2 for kind in self.kinds)

    @cached_property
    def words_a_step(self) -> int:
        """Number of words of one step, rounded up to 1, 2 or a multiple of 4."""
        return self._dealt[2] if self._shares_a_block else _rounded_up(self._dealt[2], 4)

    @property
    def steps_a_draw(self) -> int:
        """Number of steps that share one Philox block."""
        return 4 // self.words_a_step if self._shares_a_block else 1

    @property
    def rows(self) -> int:
        """Number of words, and so of rows of deviates, that are drawn at a time."""
        return self.words_a_step * self.steps_a_draw

    def place(self, index: int) -> tuple[int, int]:
        """Row of deviate `index` of the first sample, and the distance to the next sample's."""
        kind, (first, _, _) = self.kinds[index], self._dealt
        before, a_sample = self.kinds[:index].count(kind), self.kinds.count(kind)
        return first[kind] + before * WORDS[kind], a_sample * WORDS[kind]

    def sources(self) -> Iterator[Source]:
        """The sources of a draw, each with words of its own."""
        for kind, places in self._dealt[1].items():
            rows = [step * self.words_a_step + place for step in range(self.steps_a_draw) for place in places]
            for i in range(0, len(rows), _MADE[kind]):
                own = rows[i : i + _MADE[kind]]
                yield Source(kind, tuple(row + k for row in own for k in range(WORDS[kind])), tuple(own))

    def blocks(self) -> list[tuple[int, int, list[Statement]]]:
        """Runs of equal Philox blocks: first block, last block + 1, and the statements of their sources.

        Examples
        --------
        >>> Draws(("u", "z", "z", "Z")).blocks()
        [(0, 1, [('normals32', (0, 1), (0, 1))]), ...]
        """
        statements: list[list[Statement]] = [[] for _ in range(self.rows // 4)]
        for source in self.sources():
            block = source.words[0] // 4
            statements[block].append(source.statement(block))
        runs = [list(run) for _, run in groupby(range(len(statements)), key=statements.__getitem__)]
        return [(run[0], run[-1] + 1, statements[run[0]]) for run in runs]

    @property
    def layout_version(self) -> int:
        """Version of the layout: 2 if version 1 made two deviates of the same words, else 1: then both are the same."""
        # In version 1, two normals of 32 bits shared a block with one of 64, which took all words. And after an even
        # number of 64 bits, the first of which was the partner of a single one of 32, uniforms took words of the last.
        narrow, wide, *uniforms = (self._count(kind) for kind in WORDS)
        shared = narrow % 4 == 2 or (narrow % 4 == 1 and wide % 2 == 0 and any(uniforms))
        return 2 if wide and shared else 1

    @cached_property
    def _dealt(self) -> tuple[dict[str, int], dict[str, range], int]:
        """By kind, the first row and the places of deviates, those of partners included; and the words of a step."""
        first: dict[str, int] = {}
        places: dict[str, range] = {}
        free = 0
        for kind, width in WORDS.items():
            count, unit = self._count(kind), width if self._shares_a_block else width * _MADE[kind]
            if kind == "Z" and count and self._count("z") % 4 == 1:
                # The last normal of 32 bits is alone in its block: it is made with 64, and has the first of 64 for a
                # partner. Two more words are kept free, as they were in version 1 of the layout.
                last = places["z"].stop - 2
                first["Z"] = last + 2
                places |= {"z": range(last), "Z": range(last, last + 2 * _rounded_up(1 + count, 2), 2)}
                free = last + 2 * count + 4
            elif count:
                first[kind] = _rounded_up(free, unit)
                free = _rounded_up(first[kind] + count * width, unit)
                places[kind] = range(first[kind], free, width)
        return first, places, free

    def _count(self, kind: str) -> int:
        """Number of deviates of a kind in a step."""
        return self.kinds.count(kind) * self.samples

    @cached_property
    def _shares_a_block(self) -> bool:
        return 0 < sum(map(WORDS.__getitem__, self.kinds)) * self.samples <= 2


def _rounded_up(n: int, unit: int) -> int:
    return -(-n // unit) * unit
