"""Losses with matrices, compiled as loops over arrays: against NumPy, statements of scalars, and the oracle."""

from __future__ import annotations

import re
from random import Random
from typing import Any

import numpy as np
import pytest

from sgdsim.formulas.backpropagation import gradient
from sgdsim.formulas.formula import Formula
from sgdsim.formulas.graph import Graph, evaluate
from sgdsim.formulas.vectors import coordinates
from sgdsim.kernels import source
from sgdsim.kernels.array_functions import serves
from sgdsim.kernels.array_text import _pieces
from sgdsim.kernels.program import Program
from sgdsim.model.data import Data
from sgdsim.model.loss import Loss
from sgdsim.model.noise import Noise
from sgdsim.model.observables import Observable
from sgdsim.model.optimizers import Optimizer
from sgdsim.model.recorder import Recorder
from sgdsim.model.run import Run
from sgdsim.model.schedules import Schedule
from sgdsim.model.states import State
from sgdsim.model.update_rules import OPTIMIZERS
from sgdsim.simulation.run_loop import simulate_runs
from tests import naive
from tests.conftest import targets
from tests.kernel_calls import Kernels
from tests.random_arrays import Expressions
from tests.samples import daily

LANES = 2
NEEDED = {name: {"temperature": 0.5} for name in ("langevin", "psgld", "baoab")}


def make_program(loss: Loss, **fields: Any) -> Program:
    return Program(loss, **{"optimizer": Optimizer(), "initial": dict.fromkeys(loss.parameters, 0.0), **fields})


def random_loss(seed: int) -> tuple[Loss, dict[str, tuple[int, ...]]]:
    """A random formula, of whose names some are constants and some are noise."""
    random = Random(f"kernels {seed}")
    while True:
        expressions = Expressions(random)
        text = expressions.scalar(4)
        if len(text) < 1500 and expressions.shapes:
            break
    shapes = expressions.shapes
    names = list(shapes)
    kinds = dict(zip(names, random.choices("pppcn", k=len(names)), strict=True)) | {names[0]: "p"}
    declared = {name: f"{name}[{','.join(map(str, shape))}]" if shape else name for name, shape in shapes.items()}
    constants = {
        key: random.uniform(0.2, 1.2) for name in names if kinds[name] == "c" for key in coordinates(name, shapes[name])
    }
    loss = Loss(
        text,
        tuple(declared[name] for name in names if kinds[name] == "p"),
        constants,
        {declared[name]: Noise.parse("normal") for name in names if kinds[name] == "n"},
    )
    return loss, shapes


def stepped(loss: Loss, shapes: dict[str, tuple[int, ...]], seed: int) -> tuple[np.ndarray, np.ndarray]:
    """The state after one step from a random one, found and expected, (coordinate, lane)."""
    program = make_program(loss)
    kernels = Kernels(program, "python", LANES)
    rng = np.random.default_rng(seed)
    state = rng.uniform(0.2, 1.2, (len(loss.parameters), LANES)) * rng.choice([-1, 1], (len(loss.parameters), LANES))
    deviates = rng.uniform(0.2, 1.2, (kernels.layout.draws.rows, LANES)).astype(np.float32)
    values: dict[str, np.ndarray] = {}
    noise = {
        name: deviates[kernels.layout.draws.place(index)[0]].astype(float) for index, name in enumerate(loss.noise)
    }
    scalars = dict(zip(loss.parameters, state, strict=True)) | noise
    scalars |= {name: np.full(LANES, value) for name, value in loss.constants.items()}
    for name, shape in shapes.items():
        values[name] = np.array([scalars[key] for key in coordinates(name, shape)]).reshape(*shape, LANES)
    graph = Graph()
    names = {name: graph.name(name, shape) for name, shape in shapes.items()}
    free = [name for name in shapes if coordinates(name, shapes[name])[0] in loss.parameters]
    slopes = gradient(graph, Formula.parse(loss.formula).in_algebra(names, graph), [names[name] for name in free])
    found = state.ravel().copy()
    with np.errstate(all="ignore"):
        kernels.update(found, deviates.ravel(), 0.5)
    flat = [
        np.broadcast_to(v, (*shapes[n], LANES)).reshape(-1, LANES)
        for n, v in zip(free, evaluate(slopes, values), strict=True)
    ]
    return found.reshape(state.shape), state - 0.5 * np.concatenate(flat)


@pytest.mark.parametrize("block", [0, 1, *(pytest.param(i, marks=pytest.mark.validate) for i in range(2, 8))])
def test_steps_of_random_formulas(block: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """160 losses: what is kept, and what is overwritten when, differs from one to the next."""
    monkeypatch.setattr(source, "serves", lambda program: True)
    for seed in range(20 * block, 20 * block + 20):
        loss, shapes = random_loss(seed)
        found, expected = stepped(loss, shapes, seed)
        scale = max(1.0, float(abs(expected).max()))
        np.testing.assert_allclose(found, expected, rtol=1e-10, atol=1e-10 * scale, err_msg=f"{seed}: {loss.formula}")


# The same program printed as loops and as statements.

ROWS = Data({f"x[{i}]": tuple(np.linspace(-1, 1.3, 5) * (i + 1)) for i in range(6)} | {"y": (1.2, 0.4, -0.9, 0.1, 0.5)})
ROWS_OF_TWO = Data({"x[0]": ROWS.columns["x[0]"], "x[1]": (0.3, -0.8, 1.1, 0.2, -0.5), "y": ROWS.columns["y"]})
TWO_LAYERS = Loss("(dot(v, tanh(W@x)) - y)**2/2", ("W[6,6]", "v[6]"), data=ROWS)
OF_NOISE = Loss(
    "norm2(r)/2 + a**2*trace(A@S)/4 + sum(A*S)/3",
    ("A[3,3]", "a", "b[3]"),
    {"S": [[1.0, 0.5, 0.2], [0.3, 2.0, 0.1], [0.7, 0.6, 1.5]], "s": 0.3, "mu": 2.0},
    {
        "x[3]": Noise.parse("normal:0.5,2"),
        "e": Noise.parse("uniform:-1,1"),
        "f[0]": Noise.parse("laplace"),
        "f[1]": Noise.parse("rademacher"),
        "f[2]": Noise.parse("normal"),
    },
    definitions={"y": "S@x + s*f", "r": "a*A.T@x - y - e*b**mu", "z": ("a", "s", "x[0]")},
)
WITH_STATES = Loss(
    "norm2(A@x - average)/2 + dot(z, z)*a**2",
    OF_NOISE.parameters,
    OF_NOISE.constants,
    OF_NOISE.noise,
    OF_NOISE.definitions,
    direction={"b": "-outer(b, x)@b + a*trace"},
    states={
        name: State.parse(text)
        for name, text in {
            "average[3]": "average + (next(b) - average)/(t + 1); start=2*b",
            "trace[3]": "s*trace + b*learning_rate + t/8",
            "last[3,3]": "next(A) - gradient(A).T; start=A*S",
        }.items()
    },
)
OF_DRAWN = Loss(
    WITH_STATES.formula,
    WITH_STATES.parameters,
    {name: value for name, value in WITH_STATES.constants.items() if name.startswith("S")},
    WITH_STATES.noise,
    WITH_STATES.definitions,
    direction={"b": "-outer(b, x)@b + a*trace + c"},
    states=WITH_STATES.states,
    drawn={
        **dict.fromkeys(coordinates("c", (3,)), Noise.parse("uniform:0.2,0.4")),
        "s": Noise.parse("normal:0.3,0.1"),
        "mu": Noise.parse("rademacher"),
    },
)
"""Some constants of each trajectory's own, of which its states begin."""
OBSERVABLES = tuple(
    Observable.parse(name, text)
    for name, text in {
        "size": "norm2(A) + a",
        "mean_loss": "loss + hessian_trace/10",
        "average_loss": "window_mean(loss + a, 0, 5)",
        "gain": "window_sum(next(loss) - loss, 0, 5)",
        "most": "window_max(A[0,0]*b[1], 0, 5)",
        "entry": "A[0,2]*s",
        "average_trace": "window_mean(trace(A@S), 0, 5)",
        "along": "window_sum(dot(next(b) - b, gradient(b)) + x[1]*t, 0, 5)",
        "when": "first_passage(a > 0.1)",
        "then": "value_at(sum(A), 3)",
    }.items()
)
PROGRAMS: dict[str, dict[str, Any]] = {
    **{
        name: {"loss": TWO_LAYERS, "optimizer": Optimizer(name, NEEDED.get(name, {}), 3)}
        for name, rule in OPTIMIZERS.items()
        if name != "gradient_descent" and not rule.is_of_matrices  # which has no statements
    },
    "noise": {"loss": OF_NOISE, "observables": OBSERVABLES},
    "noise in batches": {"loss": OF_NOISE, "optimizer": Optimizer("momentum", {"weight_decay": 0.1}, 4)},
    "mirrored": {"loss": OF_NOISE, "optimizer": Optimizer("adam"), "antithetic": True},
    "mirrored rows": {"loss": TWO_LAYERS, "optimizer": Optimizer(batch_size=2), "antithetic": True},
    "states": {"loss": WITH_STATES, "observables": OBSERVABLES, "optimizer": Optimizer("adamw")},
    "drawn constants": {"loss": OF_DRAWN, "observables": OBSERVABLES, "optimizer": Optimizer("adam")},
    "mirrored constants in batches": {"loss": OF_DRAWN, "optimizer": Optimizer(batch_size=2), "antithetic": True},
    "states in batches": {"loss": WITH_STATES, "optimizer": Optimizer("nesterov", {"momentum": 0.5}, 2)},
}
STARTS = {"A": "normal:0.1,0.5", "a": 0.7, "b": "uniform:-1,1", "W": "normal:0,0.5", "v": 0.3}


def started(loss: Loss) -> dict[str, float | Noise]:
    texts = {name: STARTS[name.partition("[")[0]] for name in loss.parameters}
    starts = {name: Noise.parse(text) if isinstance(text, str) else text for name, text in texts.items()}
    return {**starts, **loss.drawn}


def life(kernels: Kernels) -> list[np.ndarray]:
    """All that a tile is and shows from its start over some steps, with deviates that are drawn with NumPy."""
    program, rng = kernels.program, np.random.default_rng(1)
    layout, lanes = kernels.layout, kernels.lanes

    def deviates(rows: int) -> np.ndarray:
        return rng.uniform(-0.5, 0.5, rows * lanes).astype(kernels.noise)

    found = []
    with np.errstate(all="ignore"):
        state = kernels.initial_state(deviates(layout.initial_rows)).ravel()
        for completed in range(4):
            drawn, kicks = deviates(layout.draws.rows), deviates(layout.kicks.rows)
            rows = rng.integers(5, size=program.optimizer.batch_size * lanes).astype(np.uint32)
            path = np.full(program.path_rows * lanes, np.nan, kernels.real)
            kernels.update(state, drawn, 0.1, completed=completed, rows=rows, kicks=kicks, path=path)
            for running in range(len(program.running)):
                table = program.step_table(np.array([0.1]), completed)[0]
                given = state, drawn, rows, program.data_array(), path, np.empty(0), kernels.scratch(), table
                part = kernels.real(0.25) if kernels.target == "python" else 0.25
                kernels.call("accumulate", running, completed + 1, part, *given, program.constant_array())
            found += [state.copy(), kernels.observe(state)]
    return found


@pytest.mark.parametrize(
    "name", daily(PROGRAMS, "adam", "noise", "mirrored rows", "states in batches", "drawn constants")
)
def test_loops_do_what_statements_do(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    fields = PROGRAMS[name]
    program = make_program(**{"initial": started(fields["loss"]), **fields})
    monkeypatch.setattr(source, "serves", lambda program: True)
    loops = life(Kernels(program, "python", LANES))
    monkeypatch.setattr(source, "serves", lambda program: False)
    statements = life(Kernels(program, "python", LANES))
    assert len(loops) == 8
    for one, other in zip(loops, statements, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-9, atol=1e-11)
    assert np.isfinite(loops[-2][: len(program.loss.carried) * LANES]).all()


BITS = [(name, dtype) for name in ("noise", "states", "mirrored rows") for dtype in ("float32", "float64")]


@pytest.mark.parametrize(("name", "dtype"), daily(BITS))
def test_the_same_bits_on_the_cpu(name: str, dtype: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Plain Python adds entry by entry, the processor in vectors and blocks."""
    monkeypatch.setattr(source, "serves", lambda program: True)
    fields = {"noise_dtype": "float64"} if dtype == "float64" else {}
    program = make_program(**{"initial": started(PROGRAMS[name]["loss"]), **PROGRAMS[name]}, dtype=dtype, **fields)
    for one, other in zip(life(Kernels(program, "python")), life(Kernels(program, "cpu")), strict=True):
        np.testing.assert_array_equal(one, other)


# Against the oracle.

SEED, N, STEPS = 11, 3, 6


@pytest.mark.parametrize(
    ("target", "name"),
    # Machine code of most is for the long tests: a second or two each, and the bits are those of Python.
    daily(
        [
            (target, name)
            for target in targets()
            for name, rule in OPTIMIZERS.items()
            if not rule.is_random and not rule.polynomials
        ],
        ("python", "gradient_descent"),
        *((target, "adam") for target in targets()),
    ),
)
def test_every_optimizer_on_two_layers(name: str, target: str) -> None:
    """Batches of a data set, step by step; where the gradient is the population's, all rows."""
    start = {key: 0.02 * i - 0.4 for i, key in enumerate(TWO_LAYERS.parameters)}
    recorder = Recorder(snapshots=tuple(range(STEPS + 1)))
    optimizer = Optimizer(name, {}, 1 if name == "gradient_descent" else 3)
    run = Run(TWO_LAYERS, optimizer, Schedule("0.1/(1 + t)"), start, N, STEPS, SEED, recorder, noise_dtype="float64")
    columns = ROWS.array.T
    expected = np.empty((STEPS + 1, N, len(start)))
    for trajectory in range(N):
        values = {"theta": np.array(list(start.values())), **dict.fromkeys(optimizer.rule.state, np.zeros(len(start)))}
        expected[0, trajectory] = values["theta"]
        for t, rate in enumerate(run.schedule.rates(STEPS)):
            rows = columns
            if name != "gradient_descent":
                rows = columns[naive.rows_with_replacement(SEED, trajectory, t, len(columns), 3)]
            theta = optimizer.point({**values, "t": t, "learning_rate": rate})
            slopes = naive.two_layer_gradient(theta[:36].reshape(6, 6), theta[36:], rows[:, :6], rows[:, 6])
            given = {**values, "gradient": np.concatenate([slope.ravel() for slope in slopes]), "t": t}
            after = optimizer.steps({**given, "learning_rate": rate})
            values = {key: after[key] for key in values}
            expected[t + 1, trajectory] = values["theta"]
    found = simulate_runs([run], scenario="", device=target)["theta"]
    np.testing.assert_allclose(found, expected, rtol=1e-9, atol=1e-12)


SHAPES = {"A": (3, 2), "B": (1, 3)}
MATRICES = Loss("(sum(B@tanh(A@x)) - y)**2/2", ("A[3,2]", "B[1,3]"), data=ROWS_OF_TWO)


@pytest.mark.parametrize(
    ("target", "name"),
    daily(
        [(target, name) for target in targets() for name in ("muon", "muon_exact")],
        *((target, "muon") for target in targets() if target != "cpu"),
    ),
)
def test_whole_matrices_on_two_layers(name: str, target: str) -> None:
    """Batches of a data set, step by step; with one sample, the gradient of A has one direction alone."""
    start = {key: 0.11 * i - 0.4 for i, key in enumerate(MATRICES.parameters)}
    optimizer = Optimizer(name, {"weight_decay": 0.1, "decoupled_weight_decay": 0.2}, 3)
    recorder = Recorder(snapshots=tuple(range(STEPS + 1)))
    run = Run(MATRICES, optimizer, Schedule("0.1/(1 + t)"), start, N, STEPS, SEED, recorder, noise_dtype="float64")
    columns, rates = ROWS_OF_TWO.array.T, run.schedule.rates(STEPS)
    expected = np.empty((STEPS + 1, N, len(start)))
    for trajectory in range(N):
        rows = [columns[naive.rows_with_replacement(SEED, trajectory, t, len(columns), 3)] for t in range(STEPS)]
        first, second = np.split(np.array(list(start.values())), [6])
        values = [{"theta": first.reshape(3, 2)}, {"theta": second.reshape(1, 3)}]
        values = [one | {"velocity": np.zeros(one["theta"].shape)} for one in values]
        expected[0, trajectory] = [*start.values()]
        for t, (batch, rate) in enumerate(zip(rows, rates, strict=True)):
            layers = [one["theta"] for one in values]
            slopes = naive.two_layer_gradient(layers[0], layers[1][0], batch[:, :2], batch[:, 2])
            for one, slope in zip(values, slopes, strict=True):
                given = {**one, "gradient": slope.reshape(one["theta"].shape)}
                lists = {key: value.tolist() for key, value in given.items()}
                after = optimizer.steps({**lists, "t": t, "learning_rate": rate})
                one |= {key: after[key].astype(float) for key in one}
            expected[t + 1, trajectory] = np.concatenate([one["theta"].ravel() for one in values])
    found = simulate_runs([run], scenario="", device=target)["theta"]
    np.testing.assert_allclose(found, expected, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("optimizer", [Optimizer(), Optimizer("momentum", {"momentum": 0.5}), Optimizer(batch_size=2)])
def test_one_parameter_in_loops(optimizer: Optimizer) -> None:
    """A single row of the state, of what an optimizer keeps, and of the sums of a batch: each had no index."""
    c = np.linspace(-1.0, 1.0, 64)
    constants = {**dict(zip(coordinates("c", (64,)), c, strict=True)), "z": 0.5}
    loss = Loss("norm2(tanh(c*x) - z)/2 + 0*e", ("x",), constants, {"e": Noise.parse("rademacher")})
    assert serves(make_program(loss, optimizer=optimizer))
    run = Run(
        loss, optimizer, Schedule("0.01"), {"x": 1.0}, trajectories=LANES, steps=1, recorder=Recorder(snapshots=(1,))
    )
    x = simulate_runs([run], scenario="", device="python")["theta"][-1, 0, 0]
    taken = np.tanh(c)
    assert x == pytest.approx(1.0 - 0.01 * np.sum((taken - 0.5) * (1.0 - taken**2) * c), rel=1e-12)


@pytest.mark.parametrize("least", [1, 2, 4, 64])
def test_the_bodies_of_a_loop_have_every_entry_once(least: int) -> None:
    """Also of an axis that no width divides, whose body has vectors all the same, but for what is left."""
    for length in range(1, 40):
        pieces = _pieces((3, length), least)
        entries = [
            j + step for start, stop, width in pieces for j in range(start, stop, width) for step in range(width)
        ]
        assert entries == [*range(length)]
        assert max(width for *_, width in pieces) <= 7
        if 1 < least < 8 <= length:
            assert pieces[0][2] >= least


def test_a_step_of_axes_that_no_width_divides() -> None:
    shapes = {"A": (11, 11), "B": (11, 11), "x": (11,)}
    names = [*coordinates("A", shapes["A"]), *coordinates("B", shapes["B"])]
    loss = Loss("norm2(B@(A@x) - x)/2", tuple(names), noise={"x[11]": Noise.parse("normal")})
    found, expected = stepped(loss, shapes, 3)
    np.testing.assert_allclose(found, expected, rtol=1e-10, atol=1e-10)


def test_the_text_does_not_grow_with_the_arrays() -> None:
    def lines(n: int) -> int:
        loss = Loss(
            "norm2(B@tanh(A@x) - y)/2",
            (f"A[{n},{n}]", f"B[{n},{n}]"),
            noise={f"x[{n}]": Noise.parse("normal"), f"y[{n}]": Noise.parse("normal")},
        )
        return len(source.generate(make_program(loss, optimizer=Optimizer("adam", {}, 4)), "cpu").splitlines())

    assert lines(8) == lines(32) < 600


def test_a_step_of_whole_matrices_is_short() -> None:
    """Each line takes 30 ms of compilation; with every intermediate result it was 140 of them, and five seconds."""
    noise = {"x[4]": Noise.parse("normal"), "y[4]": Noise.parse("normal")}
    loss = Loss("norm2(B@A@x - y)/2", ("A[8,4]", "B[4,8]"), noise=noise)
    text = source.generate(make_program(loss, optimizer=Optimizer("muon")), "cpu")
    assert len(text.partition("def update")[2].partition("def accumulate")[0].splitlines()) < 100


def test_what_is_overwritten_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two arrays whose steps read each other: the first new one waits in scratch until both are there."""
    monkeypatch.setattr(source, "serves", lambda program: True)
    program = make_program(Loss("sum(u*w*w)/2 + trace(A)", ("u[2]", "w[2]", "A[2,2]")))
    body = source.generate(program, "python").partition("def update")[2].partition("def accumulate")[0]
    assert len(re.findall(r"state\[.*\] = scratch\[.*\]\n", body)) == 2  # a loop for each of u and w, none for A


@pytest.mark.parametrize(
    ("loss", "loops"),
    [
        (Loss("norm2(B@(A@x))", ("A[4,4]", "B[4,4]"), noise={"x[4]": Noise.parse("normal")}), False),
        (Loss("norm2(B@(A@x))", ("A[5,4]", "B[4,5]"), noise={"x[4]": Noise.parse("normal")}), True),
        (Loss("dot(w, x)**2", ("w[40]",), noise={"x[40]": Noise.parse("normal")}), True),
        (Loss("norm2(S@w - x)", ("w[12]",), {"S": np.ones((20, 12))}, {"x[20]": Noise.parse("normal")}), True),
    ],
)
def test_the_faster_of_both_is_chosen(loss: Loss, loops: bool) -> None:
    """By the parameters, or by the work that a constant matrix makes of few."""
    assert source.serves(make_program(loss)) == loops


def test_what_only_statements_can_do_is_left_to_them() -> None:
    loss = Loss("norm2(A@x)", ("A[8,8]",), noise={"x[8]": Noise.parse("normal")})
    assert not source.serves(make_program(loss, optimizer=Optimizer("gradient_descent")))
    assert not source.serves(make_program(loss, optimizer=Optimizer(preconditioner=("1",) * 64)))
    assert source.serves(make_program(loss))
