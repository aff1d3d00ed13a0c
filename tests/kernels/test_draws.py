"""Random words of each deviate: the documented words at the documented places; see `test_words` too."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sgdsim.kernels.draws import WORDS, Draws
from sgdsim.kernels.philox import STREAMS
from sgdsim.model.loss import Loss
from sgdsim.model.noise import Noise
from sgdsim.model.optimizers import Optimizer
from tests import naive
from tests.kernels.test_source import plain

layouts = st.builds(
    Draws,
    st.lists(st.sampled_from("zZuv"), max_size=6).map(tuple),
    st.one_of(st.integers(1, 9), st.sampled_from([16, 100])),
    st.booleans(),
)
reproducible = settings(derandomize=True, deadline=None, max_examples=100, database=None)


@reproducible
@given(layouts)
def test_words_are_rounded_up_to_1_2_or_a_multiple_of_4(draws):
    n, needed = draws.words_a_step, sum(map(WORDS.__getitem__, draws.kinds)) * draws.samples
    assert n in (0, 1, 2) or n % 4 == 0
    # Partners of odd normals of both widths, the place of wide ones, that of wide uniforms, and the last block.
    assert needed <= n <= needed + 1 + 2 + 2 + 1 + 3
    assert draws.steps_a_draw == {1: 4, 2: 2}.get(n, 1)
    assert draws.rows == n * draws.steps_a_draw
    assert draws.rows % 4 == 0


def test_layouts_by_hand():
    """The rows of the documentation: singles share a block with the next steps, normals go first."""
    assert Draws(()).blocks() == []
    assert taken(Draws(("z",))) == [("normals32", 0, 1), ("normals32", 2, 3)]
    assert taken(Draws(("z", "u")))[0] == ("normals32", 0, 2)
    assert [Draws(("z", "u")).place(index) for index in range(2)] == [(0, 1), (1, 1)]
    assert taken(Draws(("v",))) == [("uniforms64", 0, 1), ("uniforms64", 2, 3)]
    assert [Draws(("u", "z", "z")).place(index) for index in range(3)] == [(2, 1), (0, 2), (1, 2)]
    assert Draws(("u", "v", "z")).blocks() == [
        (0, 1, [("normals32", (0, 1), (0, 1)), ("uniforms32", (2,), (2,))]),
        (1, 2, [("uniforms64", (0, 1), (0,))]),
    ]
    assert [(start, stop) for start, stop, _ in Draws(("z",), samples=9).blocks()] == [(0, 2), (2, 3)]
    assert Draws(("z",), wide_normals=True).blocks() == [(0, 1, [("normals64", (0, 1, 2, 3), (0, 2))])]
    wide = Draws(("z", "u"), samples=3, wide_normals=True)
    assert (wide.words_a_step, [(start, stop) for start, stop, _ in wide.blocks()]) == (16, [(0, 2), (2, 3), (3, 4)])
    mixed = Draws(("Z", "z", "u", "z"))
    assert [mixed.place(index) for index in range(4)] == [(4, 2), (0, 2), (8, 1), (1, 2)]
    assert mixed.layout_version == 2
    assert taken(mixed)[:2] == [("normals32", 0, 1), ("normals64", 0, 1, 2, 3)]
    assert mixed.words_a_step == 12
    single = Draws(("Z", "z", "u"))
    assert taken(single) == [("normals64", 0, 1, 2, 3), ("uniforms32", 2)]
    assert ([single.place(index) for index in range(3)], single.layout_version) == ([(2, 2), (0, 1), (6, 1)], 1)


def taken(draws: Draws) -> list[tuple[str | int, ...]]:
    """The loops of all blocks and their words, in order."""
    return [(loop, *words) for _, _, statements in draws.blocks() for loop, words, _ in statements]


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

    Normals of 32 bits first, sample by sample, in pairs; then those of 64, in pairs of four words, each in a block of
    its own, the first with a 32-bit one that is alone in its block, and then two words are left out; then 32-bit, then
    64-bit uniforms at even words. One word a step: four steps share a block, two: two steps.
    """
    drawn = [{"z": "Z", "u": "v"}.get(kind, kind) if wide else kind for kind in kinds]
    by_kind = {
        kind: [(s, i) for s in range(samples) for i, other in enumerate(drawn) if other == kind] for kind in "zZuv"
    }
    size = {"z": 1, "Z": 2, "u": 1, "v": 2}
    n = sum(size[kind] * len(keys) for kind, keys in by_kind.items())
    words = [w for b in range(16) for w in naive.block(seed, STREAMS["gradient_noise"], 0, trajectory, step, b)]
    first = {"z": 0, "Z": -(-len(by_kind["z"]) // 4) * 4}
    alone = by_kind["z"][-1] if by_kind["Z"] and len(by_kind["z"]) % 4 == 1 else None
    if alone:
        by_kind["Z"].insert(0, by_kind["z"].pop())
        first["Z"] -= 4
    first["u"] = first["Z"] + -(-len(by_kind["Z"]) // 2) * 4 if by_kind["Z"] else -(-len(by_kind["z"]) // 2) * 2
    first["u"] += 2 if alone and len(by_kind["Z"]) % 2 == 0 else 0
    first["v"] = -(-(first["u"] + len(by_kind["u"])) // 2) * 2
    partner = []
    if n <= 2:
        steps = 4 // n
        words = list(naive.block(seed, STREAMS["gradient_noise"], 0, trajectory, step // steps))
        place = step % steps * n
        first = dict.fromkeys("zZv", place) | {"u": place + len(by_kind["z"])}
        # Partners are the normals of neighbouring steps.
        partner = [2 * n * (place // (2 * n)) + j * n for j in range(2)]
    found = {}
    for k, key in enumerate(by_kind["z"]):
        at = first["z"] + k
        low, high = partner if partner and len(by_kind["z"]) == 1 else (at // 2 * 2, at // 2 * 2 + 1)
        found[key] = naive.normal_pair(words[low], words[high])[0 if at == low else 1]
    for k, key in enumerate(by_kind["Z"]):
        at = first["Z"] + 2 * k
        found[key] = wide_normal_pair(tuple(words[at // 4 * 4 : at // 4 * 4 + 4]))[at % 4 // 2]
    for k, key in enumerate(by_kind["u"]):
        found[key] = ((words[first["u"] + k] >> 9) + 0.5) / 2**23 - 0.5
    for k, key in enumerate(by_kind["v"]):
        low, high = words[first["v"] + 2 * k : first["v"] + 2 * k + 2]
        found[key] = (((low + (high << 32)) >> 12) + 0.5) / 2**52 - 0.5
    return found


KINDS = {"z": "normal", "Z": "lognormal", "u": "uniform:-0.5,0.5", "v": "laplace"}


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
        ("Z", 1, False),
        ("zZ", 1, False),
        ("zZZvu", 1, False),
        ("zZuv", 5, False),
        ("zzZ", 1, False),
        ("ZzvuZ", 1, False),
        ("uZz", 3, False),
        ("ZZz", 1, True),
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
    kernels = plain(
        loss,
        optimizer=Optimizer(batch_size=samples),
        lanes=4,
        noise_dtype="float64" if wide else "float32",
    )
    seed, first = 0x0123456789ABCDEF, 2**33 + 4 * 1234
    key, lanes, draws = (np.uint32(seed & 0xFFFFFFFF), np.uint32(seed >> 32)), kernels.lanes, kernels.layout.draws
    for step in (0, 1, 2, 3, 1_000_003):
        phase = step % draws.steps_a_draw
        deviates = kernels.step_deviates(first, step - phase, key)[phase * draws.words_a_step :]
        state = np.zeros(kernels.program.n_variables * lanes)
        kernels.update(state, deviates.reshape(-1), 1.0)
        for lane in range(lanes):
            drawn = expected_deviates(kinds, samples, wide, seed, first + lane, step)
            for index, kind in enumerate(kinds):
                values = [drawn[sample, index] for sample in range(samples)]
                if kind == "v":
                    values = [math.copysign(-math.log(2 * abs(v)), v) for v in values]
                if kind == "Z":
                    values = list(map(math.exp, values))
                found = -state[index * lanes + lane]
                tolerance = 2e-6 if kind == "z" and not wide else 1e-14 * max(1, *values)
                assert found == pytest.approx(np.mean(values), abs=tolerance)
