"""No two deviates share a random word: every mixture of deviates that a run may draw, by the text of its kernels.

The generated statements are carried out with symbols for numbers: a word is known by its counter, a deviate by the call
that made it and the words that went into it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from itertools import combinations_with_replacement, product
from types import CodeType, SimpleNamespace
from typing import Any

import pytest

from sgdsim.kernels.draws import Draws
from sgdsim.kernels.philox import STREAMS
from sgdsim.kernels.source import deviate_place, draw_function
from tests.layout_1 import Draws1

KINDS = "zZuv"
CALLS = {"z": ("box_muller32", 2), "Z": ("box_muller64", 4), "u": ("uniform32", 1), "v": ("uniform64", 2)}


class Word(tuple[int, ...]):
    """A word by its counter and its place in the block."""

    def view(self, _: object) -> Word:
        return self


@dataclass(frozen=True)
class Source:
    """A call with the words that it is given."""

    call: str
    words: tuple[Word, ...]


@dataclass(frozen=True)
class Deviate:
    """What a call makes: its first result, or its second."""

    source: Source
    result: int

    def view(self, _: object) -> Deviate:
        return self

    def __sub__(self, _: object) -> Deviate:
        return self


class Rows(dict[int, Word | Deviate]):
    """Rows that are written with one deviate each, and with words before."""

    def __setitem__(self, row: int, value: Word | Deviate) -> None:
        assert not isinstance(self.get(row), Deviate), f"row {row} is written twice"
        super().__setitem__(row, value)


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
    stream: str, draws: Draws, lanes: int, antithetic: bool, make: type[dict[int, Any]] = Rows
) -> Callable[[int], dict[int, Any]]:
    """Carries out the generated function: what it leaves of the draw of a step."""
    space: dict[str, Any] = {call: _maker(call) for call, _ in CALLS.values()}
    space |= {"np": SimpleNamespace(uint32=_same, int32=_same, float32=_same), "philox4x32": _philox4x32}
    space |= {"lane_loop": _same, "wide_vectors": lambda: None, "LANES": lanes, "PAIR": -2 if antithetic else -1}
    exec(_compiled(draw_function("draw", stream, draws, draws.has_wide, antithetic), "exec"), space)

    def draw(completed: int) -> dict[int, Any]:
        rows = make()
        space["draw"](rows, 0, completed, 0, 0, 0)
        return rows

    return draw


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
                assert len(set(made.source.words)) == len(made.source.words), f"{made.source} takes a word twice"
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
                        assert (made.source.call, len(made.source.words)) == CALLS[kind]
                        assert made in unread, f"{made} is read twice"
                        unread.remove(made)


def mixtures(most: int) -> Iterable[tuple[str, ...]]:
    """All of up to so many deviates."""
    return (deviates for n in range(most + 1) for deviates in combinations_with_replacement(KINDS, n))


def layouts(samples: int) -> Iterator[tuple[tuple[str, ...], bool]]:
    """Every mixture of up to six deviates, in both widths; of single samples, up to four of them in every order."""
    orders = (deviates for n in range(5) for deviates in product(KINDS, repeat=n)) if samples == 1 else ()
    return ((deviates, wide) for deviates in (*mixtures(6), *orders) for wide in (False, True))


@pytest.mark.parametrize("samples", range(1, 9))
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


def is_mixed(draws: Draws) -> bool:
    """Whether normals of 64 bits come behind an odd number of pairs of 32 bits."""
    normals, pairs = draws.kinds.count("Z"), -(-draws.kinds.count("z") * draws.samples // 2)
    return normals > 0 and pairs % 2 == 1


def statements(draws: Draws) -> list[object]:
    """Of each block, and where they are read."""
    blocks = [made for start, stop, made in draws.blocks() for _ in range(start, stop)]
    places = [draws.place(index) for index in range(len(draws.deviates))]
    return [blocks, places, draws.words_a_step, draws.steps_a_draw]


@pytest.mark.parametrize("samples", range(1, 9))
def test_what_was_right_is_as_it_was(samples):
    """A new version of the layout changes what shared words, and nothing else: the same bits as ever."""
    for deviates, wide in layouts(samples):
        new, old = Draws(deviates, samples, wide), Draws1(deviates, samples, wide)
        assert (statements(new) != statements(old)) == is_mixed(new)
        assert new.layout_version == (2 if is_mixed(new) else 1)


@pytest.mark.parametrize("samples", [1, 2, 3, 4])
def test_which_noises_were_dependent(samples):
    """Where one of two deviates of the same words is never read, no harm was done."""
    for deviates, wide in layouts(samples):
        draws = Draws1(deviates, samples, wide)
        rows = drawing("gradient_noise", draws, 1, False, dict)(0)
        places = [draws.place(index) for index in range(len(deviates))]
        read = {rows[row + sample * stride].source for row, stride in places for sample in range(samples)}
        words = [word for source in read for word in source.words]
        assert Draws(deviates, samples, wide).was_dependent == (len(set(words)) < len(words))


@pytest.mark.parametrize("samples", [1, 2, 3])
def test_the_check_refuses_words_that_are_shared(samples):
    """The negative control: of version 1 of the layout, all that mixed normals of 32 and 64 bits, and only that."""
    for deviates, wide in layouts(samples):
        draws = Draws1(deviates, samples, wide)
        if is_mixed(draws):
            with pytest.raises(AssertionError, match=r"written twice|two calls"):
                check({"gradient_noise": draws})
        else:
            check({"gradient_noise": draws})


@pytest.mark.parametrize(
    ("wrong", "problem"),
    [
        ([((0, 1), "box_muller32(w0, w0)")], "takes a word twice"),
        ([((0, 1), "box_muller32(w0, w1)"), ((2,), "uniform32(w1)")], "is taken by two calls"),
        ([((0,), "uniform32(w0)"), ((1,), "uniform32(w0)")], "is in two rows"),
        ([((0,), "uniform32(w0)"), ((0,), "uniform32(w1)")], "row 0 is written twice"),
        ([((0, 1), "box_muller32(w0, w1)"), ((2,), "uniform32(w2)")], "'box_muller32', 2"),
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
