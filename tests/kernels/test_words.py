"""No two deviates share a random word: every mixture of deviates that a run may draw, by the text of its kernels.

The generated statements are carried out with symbols for numbers: a word is known by its counter, a deviate by the call
that made it and the words that went into it.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from itertools import combinations_with_replacement, product
from types import CodeType, SimpleNamespace
from typing import Any

import pytest

from sgdsim.kernels.draws import Draws
from sgdsim.kernels.formula_functions import deviate_place
from sgdsim.kernels.layout import STATEMENTS, table
from sgdsim.kernels.pasted import pasted
from sgdsim.kernels.philox import STREAMS
from sgdsim.kernels.source import draw_function
from tests.layout_1 import Draws1
from tests.samples import daily

KINDS = "zZuv"
WORDS = {"box_muller32": 2, "box_muller64": 4, "uniform32": 1, "uniform64": 2}
CALLS = {"z": {"box_muller32", "box_muller64"}, "Z": {"box_muller64"}, "u": {"uniform32"}, "v": {"uniform64"}}


class Word(tuple[int, ...]):
    """A word by its counter and its place in the block."""


@dataclass(frozen=True)
class Source:
    """A call with the words that it is given."""

    call: str
    words: tuple[Word, ...]


@dataclass(frozen=True)
class Deviate:
    """Deviate of a call: its first result, or its second."""

    source: Source
    result: int

    def __sub__(self, _: object) -> Deviate:
        return self


class Rows(dict[int, Deviate]):
    """Rows that are written with one deviate each."""

    def __setitem__(self, row: int, value: Deviate) -> None:
        assert row not in self, f"row {row} is written twice"
        super().__setitem__(row, value)


@dataclass(frozen=True)
class Row:
    """The lanes of one row."""

    rows: Any
    first: int
    lanes: int

    def __len__(self) -> int:
        return self.lanes

    def __getitem__(self, lane: int) -> Any:
        return self.rows[self.first + lane]

    def __setitem__(self, lane: int, value: Any) -> None:
        self.rows[self.first + lane] = value


def _row_of(rows: Any, row: int, lanes: int) -> Row:
    return Row(rows, row * lanes, lanes)


def _same(value: Any) -> Any:
    return value


def _maker(call: str) -> Any:
    def make(*words: Word) -> Any:
        found = [Deviate(Source(call, words), result) for result in range(2)]
        return found if call.startswith("box_muller") else found[0]

    return make


def _philox4x32(c0: int, c1: int, c2: int, c3: int, *_: int) -> tuple[Word, ...]:
    return tuple(Word((c0, c1, c2, c3, place)) for place in range(4))


def drawing(
    stream: str,
    draws: Draws,
    lanes: int,
    antithetic: bool,
    make: type[dict[int, Any]] = Rows,
    *,
    from_table: bool = True,
) -> Callable[[int], dict[int, Any]]:
    """Carries out what the CPU reads from a table, or the function of a GPU: what it leaves of the draw of a step."""
    space: dict[str, Any] = {call: _maker(call) for calls in CALLS.values() for call in calls}
    space |= {"np": SimpleNamespace(uint32=_same, int32=_same, float32=lambda _: 0), "philox4x32": _philox4x32}
    space |= {"lane_loop": _same, "tile_loop": _same, "wide_vectors": lambda: None, "row_of": _row_of, "LANES": lanes}
    space |= {name.upper(): number for name, number in STREAMS.items()} | {"IS_WIDE": True}
    space |= {kind.upper(): number for number, kind in enumerate(STATEMENTS)}
    exec(_compiled(_LOOPS, "exec"), space)
    exec(_compiled(draw_function("function", stream, draws), "exec"), space)
    lines, counter = table(draws).tolist(), (0, 0, 0, -2 if antithetic else -1)

    def draw(completed: int) -> dict[int, Any]:
        rows, words = make(), [None] * (4 * lanes)
        if from_table:
            c0 = completed >> (draws.steps_a_draw // 2)
            space["draw"](_Table(lines), space[stream.upper()], c0, rows, words, 0, counter)
        else:
            space["function"](None, rows, words, 0, completed, counter)
        return rows

    return draw


class _Table(list[list[int]]):
    """A table that is read as an array is."""

    def __getitem__(self, place: Any) -> Any:
        line, column = place
        return super().__getitem__(line)[column]


_DRAW = re.search(r"(?s)@tile_loop\ndef draw\(.*?\n\n\n", pasted("cpu_loop.py"))
assert _DRAW is not None
_LOOPS = pasted("deviates.py") + _DRAW[0]


@cache
def _compiled(text: str, mode: str) -> CodeType:
    return compile(text, text, mode)


def check(streams: Mapping[str, Draws], lanes: int = 1, *, antithetic: bool = False) -> None:
    """Two draws of each stream: a deviate is where it is read, is made of its own words, and is nobody else's."""
    owners: dict[Word, Source] = {}
    written: set[Deviate] = set()
    unread: set[Deviate] = set()
    for stream, draws in streams.items():
        steps, rows_a_step = draws.steps_a_draw, draws.words_a_step * lanes
        texts = [deviate_place("rows", draws, index, "sample") for index in range(len(draws.deviates))]
        places = [_compiled(text, "eval") for text in texts]
        own_lanes = range(0, lanes, 2 if antithetic else 1)  # a mirrored trajectory takes what the one before takes
        draw = drawing(stream, draws, lanes, antithetic)
        for rows in (draw(0), draw(steps)):
            for row, made in rows.items():
                if row % lanes not in own_lanes:
                    continue
                assert isinstance(made, Deviate), f"row {row} is left a word"
                assert made not in written, f"{made} is in two rows"
                assert len(set(made.source.words)) == WORDS[made.source.call], f"{made.source} takes a word twice"
                for word in made.source.words:
                    assert owners.setdefault(word, made.source) == made.source, f"{word} is taken by two calls"
                written.add(made)
                unread.add(made)
            for step in range(steps):
                here = {row - step * rows_a_step: made for row, made in rows.items()}
                for sample, lane in product(range(draws.samples), own_lanes):
                    space = {"rows": here, "sample": sample, "lane": lane, "LANES": lanes}
                    for kind, place in zip(draws.kinds, places, strict=True):
                        made = eval(place, space)
                        assert made.source.call in CALLS[kind]
                        assert made in unread, f"{made} is read twice"
                        unread.remove(made)


def mixtures(most: int) -> Iterable[tuple[str, ...]]:
    """All of up to so many deviates."""
    return (deviates for n in range(most + 1) for deviates in combinations_with_replacement(KINDS, n))


def layouts(samples: int) -> Iterator[tuple[tuple[str, ...], bool]]:
    """Every mixture of up to six deviates, in both widths; of single samples, up to four of them in every order."""
    orders = (deviates for n in range(5) for deviates in product(KINDS, repeat=n)) if samples == 1 else ()
    return ((deviates, wide) for deviates in (*mixtures(6), *orders) for wide in (False, True))


def test_tables_and_functions_draw_the_same():
    """What the CPU reads and what a GPU has compiled in."""
    for deviates, wide in product(mixtures(4), (False, True)):
        for samples in (1, 3):
            draws = Draws(deviates, samples, wide)
            one, other = (drawing("gradient_noise", draws, 2, False, from_table=way) for way in (True, False))
            assert one(4) == other(4)


@pytest.mark.parametrize("samples", daily(range(1, 9), 1, 3))
def test_no_two_deviates_share_a_word(samples):
    for deviates, wide in layouts(samples):
        check({"gradient_noise": Draws(deviates, samples, wide)})


def test_nor_do_those_of_starts_noise_and_kicks():
    for deviates, wide in product(mixtures(5), (False, True)):
        drawn, kicks = Draws(deviates, 1, wide), Draws(("z",) * (1 + len(deviates)), 1, wide)
        check({"initial_state": drawn, "gradient_noise": drawn, "optimizer_noise": kicks})


@pytest.mark.parametrize("antithetic", [False, True])
def test_nor_do_those_of_neighbouring_trajectories(antithetic):
    """But for the two of a mirrored pair, which take the same."""
    for deviates in mixtures(3):
        check({"gradient_noise": Draws(deviates, 2)}, lanes=4, antithetic=antithetic)
    one, other = (drawing("gradient_noise", Draws(("z",)), 2, antithetic)(0)[row] for row in (0, 1))
    assert (one == other) == antithetic


def read(draws: Draws) -> list[Deviate]:
    """The deviates of the first step of a draw as they are read, whatever was written over what."""
    rows = drawing("gradient_noise", draws, 1, False, dict)(0)
    places = [draws.place(index) for index in range(len(draws.deviates))]
    return [rows[row + sample * stride] for row, stride in places for sample in range(draws.samples)]


@pytest.mark.parametrize("samples", daily(range(1, 9), 1, 3))
def test_what_was_right_is_as_it_was(samples):
    """Version 2 of the layout changes what shared words in version 1, and nothing else: the same bits as ever."""
    for deviates, wide in layouts(samples):
        new, old = Draws(deviates, samples, wide), Draws1(deviates, samples, wide)
        found = read(old)
        words = [word for source in {made.source for made in found} for word in source.words]
        was_right = len(set(words)) == len(words)
        assert (new.words_a_step == old.words_a_step and read(new) == found) == was_right
        assert new.layout_version == (1 if was_right else 2)


@pytest.mark.parametrize("samples", [1, 2, 3])
def test_the_check_refuses_words_that_are_shared(samples):
    """The negative control: of version 1, all where a normal of 64 bits began in the middle of a block, no others."""
    for deviates, wide in layouts(samples):
        draws = Draws1(deviates, samples, wide)
        pairs = -(-draws.kinds.count("z") * samples // 2)
        if pairs % 2 and "Z" in draws.kinds:
            with pytest.raises(AssertionError, match=r"written twice|two calls"):
                check({"gradient_noise": draws})
        else:
            check({"gradient_noise": draws})


@pytest.mark.parametrize(
    ("wrong", "problem"),
    [
        ([("normals32", (0, 0), (0, 1))], "takes a word twice"),
        ([("normals32", (0, 1), (0, 1)), ("uniforms32", (1,), (2,))], "is taken by two calls"),
        ([("uniforms32", (0,), (0,)), ("uniforms32", (0,), (1,))], "is in two rows"),
        ([("uniforms32", (0,), (0,)), ("uniforms32", (1,), (0,))], "row 0 is written twice"),
        ([("normals32", (0, 1), (0, 1)), ("uniforms32", (2,), (2,))], "'box_muller32' in"),
    ],
)
def test_the_check_refuses_other_faults(wrong, problem, monkeypatch):
    """The other negative controls: a word or a row that is taken twice, and a deviate of another kind."""
    monkeypatch.setattr(Draws, "blocks", lambda self: [(0, 1, wrong)])
    with pytest.raises(AssertionError, match=problem):
        check({"gradient_noise": Draws(("u", "u", "u"))})


def test_the_check_refuses_to_read_twice(monkeypatch):
    """The last one: two deviates that are read in one place."""
    monkeypatch.setattr(Draws, "place", lambda self, index: (0, 1))
    with pytest.raises(AssertionError, match="is read twice"):
        check({"gradient_noise": Draws(("u", "u", "u"))})


def test_the_check_refuses_streams_that_are_one(monkeypatch):
    monkeypatch.setitem(STREAMS, "initial_state", STREAMS["gradient_noise"])
    with pytest.raises(AssertionError, match="is in two rows"):
        check({"initial_state": Draws(("u",)), "gradient_noise": Draws(("u",))})
