"""Which random word feeds which deviate: the documented words at the documented places; see `test_words` too."""

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
from tests.kernel_calls import update
from tests.kernels.test_source import python_module

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
    assert calls(Draws(("z",))) == ["box_muller32(w0, w1)", "box_muller32(w2, w3)"]
    assert calls(Draws(("z", "u")))[0] == "box_muller32(w0, w2)"
    assert [Draws(("z", "u")).place(index) for index in range(2)] == [(0, 1), (1, 1)]
    assert calls(Draws(("v",))) == ["uniform64(w0, w1) - 0.5", "uniform64(w2, w3) - 0.5"]
    assert [Draws(("u", "z", "z")).place(index) for index in range(3)] == [(2, 1), (0, 2), (1, 2)]
    assert Draws(("u", "v", "z")).blocks() == [
        (0, 1, [((0, 1), "box_muller32(w0, w1)"), ((2,), "uniform32(w2) - np.float32(0.5)")]),
        (1, 2, [((0,), "uniform64(w0, w1) - 0.5")]),
    ]
    assert [(start, stop) for start, stop, _ in Draws(("z",), samples=9).blocks()] == [(0, 2), (2, 3)]
    assert Draws(("z",), wide_normals=True).blocks() == [(0, 1, [((0, 2), "box_muller64(w0, w1, w2, w3)")])]
    wide = Draws(("z", "u"), samples=3, wide_normals=True)
    assert (wide.words_a_step, [(start, stop) for start, stop, _ in wide.blocks()]) == (16, [(0, 2), (2, 3), (3, 4)])
    mixed = Draws(("Z", "z", "u", "z"))
    assert [mixed.place(index) for index in range(4)] == [(4, 2), (0, 2), (8, 1), (1, 2)]
    assert calls(mixed)[:2] == ["box_muller32(w0, w1)", "box_muller64(w0, w1, w2, w3)"]
    assert mixed.words_a_step == 12


def calls(draws: Draws) -> list[str]:
    """Of all blocks, in their order."""
    return [call for _, _, statements in draws.blocks() for _, call in statements]


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
    its own; then 32-bit, then 64-bit uniforms at even words. One word a step: four steps share a block, two: two steps.
    """
    drawn = [{"z": "Z", "u": "v"}.get(kind, kind) if wide else kind for kind in kinds]
    by_kind = {
        kind: [(s, i) for s in range(samples) for i, other in enumerate(drawn) if other == kind] for kind in "zZuv"
    }
    size = {"z": 1, "Z": 2, "u": 1, "v": 2}
    n = sum(size[kind] * len(keys) for kind, keys in by_kind.items())
    words = [w for b in range(16) for w in naive.block(seed, STREAMS["gradient_noise"], 0, trajectory, step, b)]
    first = {"z": 0, "Z": -(-len(by_kind["z"]) // 4) * 4}
    first["u"] = first["Z"] + -(-len(by_kind["Z"]) // 2) * 4 if by_kind["Z"] else -(-len(by_kind["z"]) // 2) * 2
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
                if kind == "Z":
                    values = list(map(math.exp, values))
                found = -state[index * module.LANES + lane]
                tolerance = 2e-6 if kind == "z" and not wide else 1e-14 * max(1, *values)
                assert found == pytest.approx(np.mean(values), abs=tolerance)
