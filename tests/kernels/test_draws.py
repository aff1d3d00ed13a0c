"""Which random word feeds which deviate: no word twice, and the documented words at the documented places."""

from __future__ import annotations

import math
import re

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sgdsim.kernels.draws import Draws, block_statements
from sgdsim.kernels.philox import STREAMS
from sgdsim.model.loss import Loss
from sgdsim.model.noise import Noise
from sgdsim.model.optimizers import Optimizer
from tests import naive
from tests.kernel_calls import update
from tests.kernels.test_source import python_module

layouts = st.builds(
    Draws,
    st.lists(st.sampled_from("zuv"), max_size=6).map(tuple),
    st.one_of(st.integers(1, 9), st.sampled_from([16, 100])),
    st.booleans(),
)
reproducible = settings(derandomize=True, deadline=None, max_examples=100, database=None)


def width(draws: Draws, deviate: str) -> int:
    return 2 if draws.wide_normals or deviate == "v" else 1


def needed(draws: Draws) -> int:
    return sum(width(draws, deviate) for deviate in draws.deviates) * draws.samples


def words_of(draws: Draws) -> dict[tuple[int, int, int], range]:
    """The words of each (step of a draw, sample, deviate), from where the update reads it."""
    words = {}
    for step in range(draws.steps_a_draw):
        for sample in range(draws.samples):
            for index, deviate in enumerate(draws.deviates):
                row, stride = draws.place(index)
                first = step * draws.words_a_step + row + sample * stride
                words[step, sample, index] = range(first, first + width(draws, deviate))
    return words


@reproducible
@given(layouts)
def test_no_two_deviates_share_a_word(draws):
    used = [word for words in words_of(draws).values() for word in words]
    assert len(set(used)) == len(used)
    assert set(used) <= set(range(draws.rows))
    # Nor does a step reach into another's words, or a 64-bit deviate from one block into the next.
    for (step, _, _), words in words_of(draws).items():
        assert all(word // draws.words_a_step == step for word in words)
        assert words[0] // 4 == words[-1] // 4
        assert len(words) == 1 or words[0] % 2 == 0


@reproducible
@given(layouts)
def test_words_are_rounded_up_to_1_2_or_a_multiple_of_4(draws):
    n = draws.words_a_step
    assert n in (0, 1, 2) or n % 4 == 0
    assert needed(draws) <= n <= needed(draws) + 6  # partners of odd normals, an even place, and the last block
    assert draws.steps_a_draw == {1: 4, 2: 2}.get(n, 1)
    assert draws.rows == n * draws.steps_a_draw
    assert draws.rows % 4 == 0


@reproducible
@given(layouts)
def test_every_row_is_written_once_from_its_own_words(draws):
    """What the blocks' statements write is what the update reads; a normal's partner is in the same statement."""
    written: dict[int, tuple[str, set[int]]] = {}
    blocks = [(start, stop, kinds) for start, stop, kinds in draws.blocks() if stop > start]
    assert [start for start, _, _ in blocks] == [0, *(stop for _, stop, _ in blocks[:-1])][: len(blocks)]
    assert (blocks[-1][1] if blocks else 0) == draws.rows // 4
    for start, stop, kinds in blocks:
        for block in range(start, stop):
            for rows, call in block_statements(kinds):
                words = {4 * block + int(word) for word in re.findall(r"w(\d)", call)}
                for row in rows:
                    assert 4 * block + row not in written
                    written[4 * block + row] = call.partition("(")[0], words
    functions = {"z": "box_muller32", "Z": "box_muller64", "u": "uniform32", "v": "uniform64"}
    for (_, _, index), words in words_of(draws).items():
        function, sources = written[words[0]]
        assert function == functions[draws.word_kind(draws.deviates[index])]
        assert set(words) <= sources
        assert len(sources) == len(words) * (2 if function.startswith("box") else 1)


def test_layouts_by_hand():
    """The rows of the documentation: singles share a block with the next steps, normals go first."""
    assert Draws(()).rows == 0
    assert (Draws(("z",)).words_a_step, Draws(("z",)).blocks()) == (1, [(0, 1, "zzzz")])
    assert (Draws(("z", "u")).words_a_step, Draws(("z", "u")).blocks()) == (2, [(0, 1, "zuzu")])
    assert Draws(("v",)).blocks() == [(0, 1, "v.v.")]
    assert Draws(("u", "z", "z")).blocks() == [(0, 1, "zzu.")]
    assert [Draws(("u", "z", "z")).place(index) for index in range(3)] == [(2, 1), (0, 2), (1, 2)]
    assert Draws(("u", "v", "z")).blocks() == [(0, 1, "z.u."), (1, 2, "v...")]
    assert Draws(("z",), samples=9).blocks() == [(0, 2, "zzzz"), (2, 3, "z...")]
    assert Draws(("z",), wide_normals=True).blocks() == [(0, 1, "Z.Z.")]
    wide = Draws(("z", "u"), samples=3, wide_normals=True)
    assert wide.blocks() == [(0, 1, "Z.Z."), (1, 2, "Z..."), (2, 3, "v.v."), (3, 4, "v...")]


# Values: the same layout by hand, from the words of the oracle.


def wide_normal_pair(words: tuple[int, ...]) -> tuple[float, float]:
    """`naive.normal_pair` with 64 bits for each of radius and angle, the low word first."""
    first, second = words[0] + (words[1] << 32), words[2] + (words[3] << 32)
    signed = first - 2**64 if first >= 2**63 else first
    u = (2 * signed + 1) / 2**65
    radius = math.sqrt(-2 * (math.log1p(u) if u < 0 else math.log(u)))
    turn = (second << 2) % 2**64
    turn -= 2**64 if turn >= 2**63 else 0
    angle = math.pi / 4 + (2 * turn + 1) / 2**65 * math.pi / 2
    z0, z1 = radius * math.cos(angle), radius * math.sin(angle)
    return (-z0 if second >> 63 else z0), (-z1 if (second >> 62) & 1 else z1)


def expected_deviates(
    kinds: str, samples: int, wide: bool, seed: int, trajectory: int, step: int
) -> dict[tuple[int, int], float]:
    """The deviates of one step by (sample, index), by the rules of the design in words.

    Normals first, sample by sample, in pairs; then 32-bit, then 64-bit uniforms at even words. One word a step: four
    steps share a block, two words: two steps.
    """
    normals = [(s, i) for s in range(samples) for i, kind in enumerate(kinds) if kind == "z"]
    narrow = [(s, i) for s in range(samples) for i, kind in enumerate(kinds) if kind == "u" and not wide]
    double = [(s, i) for s in range(samples) for i, kind in enumerate(kinds) if kind == "v" or (kind == "u" and wide)]
    size = 2 if wide else 1
    n = len(normals) * size + len(narrow) + 2 * len(double)
    steps = {1: 4, 2: 2}.get(n, 1)
    if n <= 2:
        words = list(naive.block(seed, STREAMS["gradient_noise"], 0, trajectory, step // steps))
        place = step % steps * n
        first_normal, first_narrow, first_double = place, place + len(normals) * size, place
        # Partners are the normals of neighbouring steps.
        step_words = 1 if n == 1 else 2
        partner = [2 * step_words * (place // (2 * step_words)) + j * step_words for j in range(2)]
    else:
        words = [w for b in range(8) for w in naive.block(seed, STREAMS["gradient_noise"], 0, trajectory, step, b)]
        first_normal = 0
        first_narrow = -(-len(normals) // 2) * 2 * size
        first_double = -(-(first_narrow + len(narrow)) // 2) * 2
        partner = []
    found = {}
    for k, key in enumerate(normals):
        at = first_normal + k * size
        if wide:
            found[key] = wide_normal_pair(tuple(words[at // 4 * 4 : at // 4 * 4 + 4]))[at % 4 // 2]
        else:
            low, high = partner if n <= 2 and len(normals) == 1 else (at // 2 * 2, at // 2 * 2 + 1)
            found[key] = naive.normal_pair(words[low], words[high])[0 if at == low else 1]
    for k, key in enumerate(narrow):
        found[key] = ((words[first_narrow + k] >> 9) + 0.5) / 2**23 - 0.5
    for k, key in enumerate(double):
        low, high = words[first_double + 2 * k : first_double + 2 * k + 2]
        found[key] = (((low + (high << 32)) >> 12) + 0.5) / 2**52 - 0.5
    return found


KINDS = {"z": "normal", "u": "uniform:-0.5,0.5", "v": "laplace"}


@pytest.mark.parametrize(
    ("kinds", "samples", "wide"),
    [
        ("z", 1, False),
        ("u", 1, False),
        ("v", 1, False),
        ("zu", 1, False),
        ("uz", 1, False),
        ("zz", 1, False),
        ("z", 2, False),
        ("z", 5, False),
        ("zuv", 1, False),
        ("vzu", 2, False),
        ("uvzuz", 3, False),
        ("z", 1, True),
        ("zz", 1, True),
        ("zuv", 1, True),
        ("uz", 3, True),
    ],
)
def test_values_come_from_the_documented_words(kinds, samples, wide):
    """Gradients of ``sum(x_i*noise_i)`` after one step from 0 at rate 1: the mean over the batch, sign turned."""
    names = [f"x{i}" for i in range(len(kinds))]
    loss = Loss(
        " + ".join(f"{name}*d{name}" for name in names),
        tuple(names),
        noise={f"d{name}": Noise.parse(KINDS[kind]) for name, kind in zip(names, kinds, strict=True)},
    )
    module, program = python_module(
        loss,
        optimizer=Optimizer(batch_size=samples),
        lanes=4,
        noise_dtype="float64" if wide else "float32",
    )
    seed, first = 0x0123456789ABCDEF, 2**33 + 4 * 1234
    deviates = np.empty(module.DEVIATE_ROWS * module.LANES, module.NOISE)
    for step in (0, 1, 2, 3, 1_000_003):
        module.step_deviates(
            deviates,
            first,
            step // module.STEPS_A_DRAW * module.STEPS_A_DRAW,
            np.uint32(seed & 0xFFFFFFFF),
            np.uint32(seed >> 32),
            0,
        )
        state = np.zeros(program.n_variables * module.LANES)
        offset = step % module.STEPS_A_DRAW * module.WORDS_A_STEP * module.LANES
        update(module, program, state, deviates, 1.0, offset=offset)
        for lane in range(module.LANES):
            drawn = expected_deviates(kinds, samples, wide, seed, first + lane, step)
            for index, kind in enumerate(kinds):
                values = [drawn[sample, index] for sample in range(samples)]
                if kind == "v":
                    values = [math.copysign(-math.log(2 * abs(v)), v) for v in values]
                found = -state[index * module.LANES + lane]
                assert found == pytest.approx(np.mean(values), abs=1e-14 if wide or kind != "z" else 2e-6)
