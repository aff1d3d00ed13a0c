"""Which random words make which deviates.

A draw is a row of random words. *Sources* turn them into deviates: Box-Muller makes two normals of two words, or of
four where normals have 64 bits; a uniform is made of one word, or of two. Each source is dealt words of its own, and
what kernels compute is printed from them: no two sources can share a word.

The words of a step are dealt kind by kind, in the order of `WORDS`, sample by sample. A source of n words begins at a
multiple of n, so that it lies in one Philox block. A step takes 1, 2 or a multiple of 4 words, rounded up. Steps of one
or two words share a block with those that follow, and a single normal has the next step's for a partner. A deviate is
stored in the row of its first word.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from itertools import groupby

# What the mirrored trajectory of a pair takes for a deviate: its place p in the distribution of what is drawn becomes
# 1 - p. Of laws that are symmetric in other deviates than -d makes them, in `MIRRORS_OF`.
_FOLD = "0.5 - abs({0})"
MIRRORS = {"z": "-{0}", "Z": "-{0}", "u": "-{0}", "v": _FOLD}
MIRRORS_OF = {
    ("laplace", "v"): "-{0}",
    ("student_t", "v"): "{0}",
    ("student_t", "u"): "{0} - 0.5 if {0} > 0 else {0} + 0.5",
}

WORDS = {"z": 1, "Z": 2, "u": 1, "v": 2}
"""Random words of a deviate of each kind: normals and centred uniforms, of 32 and of 64 bits."""

_CALLS = {
    "z": "box_muller32({})",
    "Z": "box_muller64({})",
    "u": "uniform32({}) - np.float32(0.5)",  # exact
    "v": "uniform64({}) - 0.5",
}
_MADE = {"z": 2, "Z": 2, "u": 1, "v": 1}  # deviates of a source


@dataclass(frozen=True)
class Source:
    """A call that makes deviates of random words.

    Attributes
    ----------
    kind
        Of its deviates.
    words
        Its own, in the order of the call, counted from the beginning of the draw.
    rows
        Where its deviates are stored.
    """

    kind: str
    words: tuple[int, ...]
    rows: tuple[int, ...]

    def statement(self, block: int) -> tuple[tuple[int, ...], str]:
        """Rows and call, both within a block whose words are called w0 … w3.

        Examples
        --------
        >>> Source("z", (6, 7), (6, 7)).statement(1)
        ((2, 3), 'box_muller32(w2, w3)')
        """
        words = ", ".join(f"w{word - 4 * block}" for word in self.words)
        return tuple(row - 4 * block for row in self.rows), _CALLS[self.kind].format(words)


@dataclass(frozen=True)
class Draws:
    """The deviates of a draw and their words.

    Parameters
    ----------
    deviates
        Kinds of the deviates of one sample, in order.
    samples
        Samples a step.
    wide_normals
        Whether normals and uniforms have 64-bit sources (``noise_dtype = "float64"``).
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
        """Whether any deviate has 64 bits."""
        return any(WORDS[kind] == 2 for kind in self.kinds)

    @cached_property
    def words_a_step(self) -> int:
        """Words of one step, rounded up to 1, 2 or a multiple of 4."""
        last = max((firsts.stop for firsts in self._firsts.values()), default=0)
        return last if self._shares_a_block else _rounded_up(last, 4)

    @property
    def steps_a_draw(self) -> int:
        """Steps that share one Philox block."""
        return 4 // self.words_a_step if self._shares_a_block else 1

    @property
    def rows(self) -> int:
        """Words, and so rows of deviates, that are drawn at a time."""
        return self.words_a_step * self.steps_a_draw

    def place(self, index: int) -> tuple[int, int]:
        """Row of deviate `index` of the first sample, and the distance to the next sample's."""
        kind = self.kinds[index]
        firsts = self._firsts[kind]
        return firsts[self.kinds[:index].count(kind)], self.kinds.count(kind) * firsts.step

    def sources(self) -> Iterator[Source]:
        """The sources of a draw, each with words of its own."""
        for kind, firsts in self._firsts.items():
            rows = [step * self.words_a_step + first for step in range(self.steps_a_draw) for first in firsts]
            for i in range(0, len(rows), _MADE[kind]):
                own = rows[i : i + _MADE[kind]]
                yield Source(kind, tuple(row + k for row in own for k in range(WORDS[kind])), tuple(own))

    def blocks(self) -> list[tuple[int, int, list[tuple[tuple[int, ...], str]]]]:
        """Runs of equal Philox blocks: first block, last block + 1, and the statements of their sources.

        Examples
        --------
        >>> Draws(("u", "z", "Z")).blocks()
        [(0, 1, [((0, 1), 'box_muller32(w0, w1)')]), ...]
        """
        statements: list[list[tuple[tuple[int, ...], str]]] = [[] for _ in range(self.rows // 4)]
        for source in self.sources():
            block = source.words[0] // 4
            statements[block].append(source.statement(block))
        runs = [list(run) for _, run in groupby(range(len(statements)), key=statements.__getitem__)]
        return [(run[0], run[-1] + 1, statements[run[0]]) for run in runs]

    @property
    def layout_version(self) -> int:
        """2 where version 1 made normals of 32 and of 64 bits of the same words, else 1: there they are the same."""
        # Behind an odd number of pairs of 32 bits, normals of 64 bits began in the middle of a block.
        pairs = len(self._firsts.get("z", ())) // 2
        return 2 if "Z" in self._firsts and pairs % 2 else 1

    @property
    def was_dependent(self) -> bool:
        """Whether version 1 made two deviates of the same words that are both in use."""
        # Of an odd number of normals the last one's partner was lost, which nobody reads. Behind an even number of 64
        # bits, uniforms took the words of the last one.
        count = {kind: self.kinds.count(kind) * self.samples for kind in WORDS}
        with_uniforms = count["Z"] % 2 == 0 and count["u"] + count["v"] > 0
        return self.layout_version > 1 and (count["z"] % 2 == 0 or with_uniforms)

    @cached_property
    def _firsts(self) -> dict[str, range]:
        """First words of the deviates of each kind in a step, with the partner of a single normal."""
        dealt: dict[str, range] = {}
        free = 0
        for kind, width in WORDS.items():
            count = self.kinds.count(kind) * self.samples
            if count:
                unit = width if self._shares_a_block else width * _MADE[kind]
                first = _rounded_up(free, unit)
                free = _rounded_up(first + count * width, unit)
                dealt[kind] = range(first, free, width)
        return dealt

    @cached_property
    def _shares_a_block(self) -> bool:
        return 0 < sum(map(WORDS.__getitem__, self.kinds)) * self.samples <= 2


def _rounded_up(n: int, unit: int) -> int:
    return -(-n // unit) * unit
