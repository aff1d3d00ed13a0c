"""Which random word feeds which deviate.

One draw is a row of words: first those of the normals, then 32-bit uniforms, then 64-bit uniforms (two words, at
an even place). The number of words is rounded up to 1, 2 or a multiple of 4, so that a draw never straddles two
Philox blocks; draws of one or two words share a block with those of the next steps. A deviate is stored in the
row of its first word.
"""

from __future__ import annotations

from dataclasses import dataclass
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

# Kinds of a word: the deviates z (normal), u, v (centred uniforms of 32 and 64 bits), Z (a normal of two words), and
# the words that belong to the deviate before them or to none.
_FILLER = "."


@dataclass(frozen=True)
class Draws:
    """Layout of the deviates of one step.

    Parameters
    ----------
    deviates
        Kinds of the deviates of one sample, ``z``, ``u`` or ``v``, in order.
    samples
        Samples a step.
    wide_normals
        Whether normals and uniforms have 64-bit sources (``noise_dtype = "float64"``).
    """

    deviates: tuple[str, ...]
    samples: int = 1
    wide_normals: bool = False

    def _places(self) -> tuple[list[str], dict[str, int]]:
        """Kinds of the words of one step, and the place of the first deviate of each kind."""
        kinds = [self.word_kind(deviate) for deviate in self.deviates]
        words: list[str] = []
        first: dict[str, int] = {}
        for kind in "zZuv":
            count = kinds.count(kind) * self.samples
            if count and kind == "v" and len(words) % 2:
                words.append(_FILLER)
            first[kind] = len(words)
            words += ([kind, _FILLER] if kind in "Zv" else [kind]) * count
            # Box-Muller makes normals in pairs; single ones pair up across steps when draws share a block.
            if kind == "z" and count % 2 and self._total() > 2:
                words.append(_FILLER)
            if kind == "Z" and count % 2 and self._total() > 2:
                words += [_FILLER] * 2
        return words, first

    def _total(self) -> int:
        return sum(2 if self.word_kind(deviate) in "Zv" else 1 for deviate in self.deviates) * self.samples

    def word_kind(self, deviate: str) -> str:
        """The kind of word that a deviate takes."""
        return {"z": "Z", "u": "v"}.get(deviate, deviate) if self.wide_normals else deviate

    @property
    def words_a_step(self) -> int:
        """Words of one step, rounded up to 1, 2 or a multiple of 4."""
        n = len(self._places()[0])
        return n if n <= 2 else -(-n // 4) * 4

    @property
    def steps_a_draw(self) -> int:
        """Steps that share one Philox block."""
        return 4 // self.words_a_step if 0 < self.words_a_step <= 2 else 1

    @property
    def rows(self) -> int:
        """Words, and so rows of deviates, that are drawn at a time."""
        return self.words_a_step * self.steps_a_draw

    def place(self, index: int) -> tuple[int, int]:
        """Row of deviate `index` of the first sample, and the distance to the next sample's."""
        kinds = [self.word_kind(deviate) for deviate in self.deviates]
        kind = kinds[index]
        width = 2 if kind in "Zv" else 1
        offset = kinds[:index].count(kind) * width
        return self._places()[1][kind] + offset, kinds.count(kind) * width

    def blocks(self) -> list[tuple[int, int, str]]:
        """Runs of equal Philox blocks: first block, last block + 1, kinds of the four words."""
        words = self._places()[0]
        words += [_FILLER] * (self.words_a_step - len(words))
        words *= self.steps_a_draw
        kinds = ["".join(words[start : start + 4]) for start in range(0, len(words), 4)]
        runs, start = [], 0
        for kind, group in groupby(kinds):
            stop = start + len(list(group))
            runs.append((start, stop, kind))
            start = stop
        return runs


def block_statements(kinds: str) -> list[tuple[tuple[int, ...], str]]:
    """How the four words w0 … w3 of a block become deviates: their rows within the block, and the call.

    Examples
    --------
    >>> block_statements("zzu.")
    [((0, 1), 'box_muller32(w0, w1)'), ((2,), 'uniform32(w2) - np.float32(0.5)')]
    """
    normals = [place for place, kind in enumerate(kinds) if kind == "z"]
    if len(normals) % 2:
        normals.append(normals[-1] + 1)  # the padding word after a single normal
    statements: list[tuple[tuple[int, ...], str]] = [
        ((a, b), f"box_muller32(w{a}, w{b})") for a, b in zip(normals[::2], normals[1::2], strict=True)
    ]
    if "Z" in kinds:
        statements.append(((0, 2), "box_muller64(w0, w1, w2, w3)"))
    for place, kind in enumerate(kinds):
        if kind == "u":
            statements.append(((place,), f"uniform32(w{place}) - np.float32(0.5)"))  # exact
        elif kind == "v":
            statements.append(((place,), f"uniform64(w{place}, w{place + 1}) - 0.5"))
    return statements
