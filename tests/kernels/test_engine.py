"""The engine is compiled once: a new formula costs its own functions and nothing else."""

from __future__ import annotations

import random
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numba.core import event

from sgdsim.kernels import cache, elementary
from sgdsim.kernels.host import Host
from sgdsim.model.loss import Loss
from sgdsim.model.noise import Noise
from sgdsim.model.observables import Observable
from sgdsim.model.optimizers import Optimizer
from sgdsim.model.run import Recorder, Run
from sgdsim.model.schedules import Schedule
from sgdsim.simulation.simulator import Simulator
from tests.samples import daily

FUNCTIONS = ("exp", "tanh", "sin", "cos", "sigmoid", "softplus", "erf")
CALLED = {"initial_state", "update", "accumulate", "observe"}


def random_formula(choose: random.Random) -> Loss:
    """A loss of two or three parameters, one or two noise variables and two functions."""
    names = ("x", "y", "q")[: choose.choice([2, 3])]
    noise = {name: Noise.parse(choose.choice(["normal", "uniform:-1,1", "rademacher"])) for name in "zw"}
    one, two = choose.sample(FUNCTIONS, 2)
    a, b = choose.choice(names), choose.choice(names)
    text = f"{one}({a}*{choose.randint(1, 99)}/50)*z + {two}(k*{b})*{a} + w*{b}/{choose.randint(2, 99)}"
    return Loss(text + "".join(f" + {name}**2/2" for name in names), names, {"k": 0.7}, noise)


def random_run(choose: random.Random) -> Run:
    """Any optimizer, batch, start and observable."""
    loss = random_formula(choose)
    texts = {"late": "window_mean(x, 2, 8)", "sum_of_squares": "window_sum(x**2 + y**2, 0, 8)", "product": "x*y"}
    observables = tuple(Observable.parse(n, t) for n, t in choose.sample(list(texts.items()), choose.randint(0, 3)))
    optimizer = Optimizer(choose.choice(["sgd", "momentum", "adam", "signsgd"]), batch_size=choose.choice([1, 1, 3]))
    starts = {name: choose.choice([0.3, Noise.parse("normal:0,0.5")]) for name in loss.parameters}
    recorder = Recorder(every=4, observables=observables, covariances=choose.random() < 0.5)
    return Run(loss, optimizer, Schedule("0.05"), starts, 300, 8, seed=choose.randrange(2**32), recorder=recorder)


@contextmanager
def counting() -> Iterator[Counter[str]]:
    """Count the compilations of each function by its name, during the block."""
    found: Counter[str] = Counter()

    class Listener(event.Listener):
        def on_start(self, started: Any) -> None:
            if "type_inference" in started.data["name"]:  # once a function and signature
                found[started.data["qualname"].rpartition(".")[2]] += 1

        def on_end(self, ended: Any) -> None:
            pass

    listener = Listener()
    event.register("numba:run_pass", listener)
    try:
        yield found
    finally:
        event.unregister("numba:run_pass", listener)


def compile_and_start(run: Run) -> None:
    simulator = Simulator(run)
    simulator.compile()
    (block,) = simulator.blocks()
    assert np.isfinite(simulator.final_state(block)[: len(run.loss.parameters), :300]).all()


@pytest.fixture
def engine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The engine, compiled or loaded, and beside it an empty cache of formulas."""
    run = random_run(random.Random(0))
    Simulator(run).compile()
    monkeypatch.setattr(cache, "cache_folder", lambda: tmp_path)


@pytest.mark.parametrize("formulas", daily([3, 10], 3))
def test_a_new_formula_compiles_its_own_functions_alone(formulas, engine):
    """Random formulas with optimizers, batches, starts and recorders of all kinds."""
    choose = random.Random(20251121)
    with counting() as found:
        for _ in range(formulas):
            compile_and_start(random_run(choose))
    own = {name for name in found if name in CALLED}
    functions = {name for name in found if hasattr(elementary, name)}
    assert set(found) == own | functions
    assert min(found[name] for name in ("initial_state", "update", "observe")) == formulas
    assert 0 < found["accumulate"] < formulas


def test_what_the_engine_compiles_is_seen(engine, tmp_path):
    """The control: a function of the engine that nothing has called before is counted."""
    run = random_run(random.Random(0))
    executor = Simulator(run).executor
    assert isinstance(executor, Host)
    with counting() as found:
        executor.kernel.choose.compile("(uint32[::1], int64)")
    assert found["choose"] == 1


@pytest.mark.validate
def test_a_hundred_formulas_take_less_than_two_minutes(engine):
    """Of processor time, from SymPy to machine code."""
    choose = random.Random(1)
    began = time.process_time()
    for _ in range(100):
        compile_and_start(random_run(choose))
    assert time.process_time() - began < 120


def test_what_takes_long_is_said_before(tmp_path, monkeypatch):
    """Of an engine that is not on this machine yet, and only of that."""
    monkeypatch.setattr(cache, "cache_folder", lambda: tmp_path)
    monkeypatch.setattr(cache, "_generator_hash", lambda: "of another version")
    executor = Simulator(random_run(random.Random(0))).executor
    assert executor.notice() == "compiling the engine for float64 states and float32 noise, once on this machine …"
    (tmp_path / f"{executor.kernel.__name__}.advance.abc.nbc").touch()
    assert executor.notice() == ""
