"""Kernels on disk: what decides a module, where it is kept, and that a second process starts warm."""

from __future__ import annotations

import itertools
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sgdsim.base import cache_files
from sgdsim.kernels import cache
from sgdsim.kernels.program import Program
from sgdsim.kernels.source import generate
from sgdsim.model.loss import Loss
from sgdsim.model.noise import Noise
from sgdsim.model.observables import Observable
from sgdsim.model.optimizers import Optimizer
from tests.kernel_calls import Kernels
from tests.kernels.test_source import make_program


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """An empty cache folder for this test alone; its modules are forgotten afterwards."""
    monkeypatch.setattr(cache, "cache_folder", lambda: tmp_path)
    before = set(sys.modules)
    yield tmp_path
    for name in set(sys.modules) - before:
        if name.startswith("sgdsim_"):
            del sys.modules[name]


def normal(*arguments: float) -> Noise:
    return Noise("normal", arguments or (0.0, 1.0))


def program(**fields: Any) -> Program:
    loss = {
        "formula": "k*x**2/2 + x*z + y*w",
        "parameters": ("x", "y"),
        "constants": {"k": 2.0},
        "noise": {"z": normal(), "w": normal()},
    }
    loss |= {key: fields.pop(key) for key in (*loss, "definitions") if key in fields}
    return make_program(Loss(**loss), **fields)


SAME = {
    "a constant's value": {"constants": {"k": 3.0}},
    "an initial value": {"initial": {"x": 1.0, "y": -1.0}},
    "a constant that no formula names": {"constants": {"k": 2.0, "s": 1.0}},
    "words for people": {},
}
OTHERS = {
    "formula": {"formula": "k*x**4/2 + x*z + y*w"},
    "an equal formula in other words": {"formula": "x**2*k/2 + x*z + y*w"},
    "order of parameters": {"parameters": ("y", "x")},
    "order of noise variables, which is that of their words": {"noise": {"w": normal(), "z": normal()}},
    "family": {"noise": {"z": normal(), "w": Noise.parse("laplace")}},
    "an argument that is no longer the default": {"noise": {"z": normal(), "w": normal(0.0, 2.0)}},
    "name of a constant": {"formula": "q*x**2/2 + x*z + y*w", "constants": {"q": 2.0}},
    "one more constant": {"formula": "s*k*x**2/2 + x*z + y*w", "constants": {"k": 2.0, "s": 1.0}},
    "definitions": {"formula": "u + x*z + y*w", "definitions": {"u": "k*x**2/2"}},
    "an initial distribution": {"initial": {"x": normal(), "y": 0.0}},
    "two of them": {"initial": {"x": normal(), "y": normal()}},
    "its arguments": {"initial": {"x": normal(1.0, 1.0), "y": 0.0}},
    "optimizer": {"optimizer": Optimizer("momentum")},
    "batch size": {"optimizer": Optimizer(batch_size=2)},
    "weight decay": {"optimizer": Optimizer("sgd", {"weight_decay": 0.1})},
    "dtype": {"dtype": "float32"},
    "noise_dtype": {"noise_dtype": "float64"},
    "an observable": {"observables": (Observable("u", "x*y"),)},
    "its formula": {"observables": (Observable("u", "x/y"),)},
    "its window": {"observables": (Observable("u", "x*y", (0, 4)),)},
}


def module_name(program: Program, target: str = "cpu") -> str:
    return cache._name("run", program.description(), target)


@pytest.mark.parametrize("change", list(SAME))
def test_numbers_do_not_make_another_module(change):
    assert module_name(program(**SAME[change])) == module_name(program())
    assert generate(program(**SAME[change]), "cpu") == generate(program(), "cpu")


def test_values_of_arguments_and_windows_do_not_make_another_module():
    """Where they differ from the default, which is compiled in."""
    pairs = [
        [{"noise": {"z": normal(0.0, std), "w": normal()}} for std in (2.0, 3.0)],
        [{"optimizer": Optimizer("sgd", {"weight_decay": decay})} for decay in (0.1, 0.2)],
        [{"observables": (Observable("u", "x*y", window),)} for window in ((0, 4), (3, 9))],
    ]
    for one, other in pairs:
        assert module_name(program(**one)) == module_name(program(**other))


def test_modules_of_one_name_have_one_text():
    """Whatever changes the text changes the name: two programs never meet in the cache."""
    programs = [program(), *(program(**change) for change in OTHERS.values())]
    names = [module_name(p) for p in programs]
    texts = [generate(p, "cpu") for p in programs]
    for (one, a), (other, b) in itertools.combinations(zip(names, texts, strict=True), 2):
        assert one != other or a == b
    for change, name in zip(OTHERS, names[1:], strict=True):
        assert name != names[0], change


def test_target_generator_and_versions_make_another_module(monkeypatch):
    names = {module_name(program()), module_name(program(), "python")}
    monkeypatch.setattr(cache, "_generator_hash", lambda: "another")
    names.add(module_name(program()))
    monkeypatch.setattr(cache, "_versions", lambda: ["99"])
    names.add(module_name(program()))
    assert len(names) == 4


def test_generator_hash_covers_every_file_that_the_text_depends_on():
    """All modules of the package that are imported where a text is generated."""
    code = (
        "import sys; from sgdsim.kernels.source import generate;"
        "from sgdsim.model.losses.river_valley import river_valley;"
        "from sgdsim.kernels.program import Program; from sgdsim.model.optimizers import Optimizer;"
        "loss = river_valley(constants={'a0': 1.0, 'k': 0.5, 'c2': 0.1});"
        "generate(Program(loss, Optimizer(), {'x': 0.0, 'y': 0.0}), 'cpu');"
        "print(*(m.__file__ for n, m in sys.modules.items() if n.startswith('sgdsim.')), sep='\\n')"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    imported = {Path(line) for line in done.stdout.split() if not line.endswith("__init__.py")}
    # Messages, what is refused, the number of the version, how numbers are written that the kernels are given when they
    # run, files, and the time that laws may take.
    others = {"errors.py", "take.py", "version.py", "numbers.py", "findings.py", "cache_folder.py", "cache_files.py"}
    others.add("budget.py")
    assert {path.name for path in imported - set(cache._generator_files())} <= others


# Files.


def test_files_are_whole_and_leftovers_do_no_harm(folder):
    name = module_name(program(), "python")
    leftovers = {f"{name}.py.abcdefgh.part", f"{name}.1.part", "other.part"}
    for leftover in leftovers:
        (folder / leftover).write_text("def half_a_fun")
    module = cache.load(program(), "python")
    assert module.LANES == 256
    text = generate(program(), "python")
    assert cache_files.read(folder / f"{name}.py").decode() == text
    assert {path.name for path in folder.glob("*.part")} == leftovers


def test_a_generator_that_fails_leaves_nothing(folder, monkeypatch):
    def failing(*_: object) -> str:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(cache._source(), "generate", failing)
        with pytest.raises(KeyboardInterrupt):
            cache.load(program(), "python")
    assert [path.suffix for path in folder.glob("sgdsim_run*")] == [".lock"]
    assert cache.load(program(), "python").LANES == 256


def test_a_module_that_is_interrupted_is_not_remembered(folder):
    path = folder / f"{module_name(program(), 'python')}.py"
    cache_files.write(path, b"raise KeyboardInterrupt")
    with pytest.raises(KeyboardInterrupt):
        cache.load(program(), "python")
    path.unlink()
    assert cache.load(program(), "python").LANES == 256


def test_orders_of_noise_are_kept_apart(folder):
    """The same names and families in another order draw other words: the numbers must follow the program."""
    states = []
    for order in (("z", "w"), ("w", "z")):
        kernels = Kernels(program(noise={name: normal() for name in order}), "python")
        deviates = np.zeros((kernels.layout.draws.rows, kernels.lanes), np.float32)
        deviates[0] = 1.0  # the first variable's
        state = np.zeros((2, kernels.lanes))
        kernels.update(state.ravel(), deviates.ravel(), 1.0)
        states.append(state[:, 0])
    np.testing.assert_array_equal(states, [[-1.0, 0.0], [0.0, -1.0]])


WARM = """
import json, sys
from sgdsim.model.losses.river_valley import river_valley
from sgdsim.model.noise import Noise
from sgdsim.model.optimizers import Optimizer
from sgdsim.model.run import Run
from sgdsim.model.schedules import Schedule
from sgdsim.simulation.simulator import Simulator

loss = river_valley(constants={"a0": 1.0, "k": float(sys.argv[1]), "c2": 0.1})
initial = {"x": 0.0, "y": Noise.parse("normal:1,0.1")}
simulator = Simulator(Run(loss, Optimizer(), Schedule("0.1"), initial, trajectories=100, steps=4))
(block,) = simulator.blocks()
stats, update = simulator.kernel.initialize.stats, simulator.executor.formula.update
print(json.dumps({
    "file": simulator.executor.formula.__file__,
    "sympy": "sympy" in sys.modules,
    "hits": sum(stats.cache_hits.values()) + update.cache_hits,
    "misses": sum(stats.cache_misses.values()) + 1 - update.cache_hits,
    "y": block.state[0, 256],
}))
"""


@pytest.mark.validate
def test_second_process_starts_warm(tmp_path):
    """Without SymPy, with the machine code of the first, and to the same bits, at another constant too; or mends it."""
    environment = {**os.environ, "SGDSIM_CACHE_DIR": str(tmp_path)}

    def start(k: float, warnings: str = "error") -> dict[str, Any]:
        command = [sys.executable, "-W", warnings, "-c", WARM, str(k)]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
        return json.loads(done.stdout)

    def flip_a_bit(path: Path) -> None:
        data = bytearray(path.read_bytes())
        data[len(data) // 2] ^= 1
        path.write_bytes(data)

    first, second = start(0.5), start(0.25)
    assert Path(first["file"]).parent == tmp_path
    assert (first["sympy"], first["hits"], first["misses"]) == (True, 0, 2)
    assert (second["sympy"], second["hits"], second["misses"]) == (False, 2, 0)
    assert (first["file"], first["y"]) == (second["file"], second["y"])
    assert len(list(tmp_path.glob("*.py"))) == 2
    assert not list(tmp_path.glob("*.part"))
    for path in tmp_path.glob("*.nbc"):
        flip_a_bit(path)
    mended, again = start(0.5, "ignore"), start(0.5)
    assert (mended["hits"], mended["misses"], again["hits"], again["misses"]) == (0, 2, 2, 0)
    assert first["y"] == mended["y"] == again["y"]
