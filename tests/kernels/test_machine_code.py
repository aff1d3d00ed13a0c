"""Machine code on disk: damaged, planted or lost, it is compiled anew, once, and by one process of several."""

from __future__ import annotations

import errno
import json
import os
import pickle
import random
import shutil
import subprocess
import sys
import tempfile
import threading
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from numba import types

from sgdsim.base import cache_files, cache_folder
from sgdsim.kernels import cache
from sgdsim.kernels.workers import Workers
from sgdsim.model.run import Run
from sgdsim.simulation.devices import Device
from sgdsim.simulation.simulator import Simulator
from tests.base.test_cache_folder import ROOT, give_away
from tests.samples import daily

NAME = "sgdsim_run_cpu_tiny"
TEXT = """
from numba import njit

@njit(cache=True)
def double(x):
    return 2 * x

@njit(cache=True)
def quadruple(x):
    return double(double(x))
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """An empty cache folder for this test alone; its modules are forgotten afterwards."""
    monkeypatch.setattr(cache, "cache_folder", lambda: tmp_path)
    monkeypatch.setattr(sys, "dont_write_bytecode", False)
    before = set(sys.modules)
    yield tmp_path
    for name in set(sys.modules) - before:
        if name.startswith("sgdsim_"):
            del sys.modules[name]
    cache_folder._temporary_folder.cache_clear()
    cache_folder.warn_once.cache_clear()


class Start:
    """Start of a new process, in which a tiny module is loaded and called."""

    def __init__(self) -> None:
        sys.modules.pop(NAME, None)
        self.generated = 0
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            self.module: Any = cache._module(NAME, self._generate)
            assert self.module.quadruple(21) == 84
            assert self.module.double(21) == 42
        self.warnings = [str(one.message) for one in caught]
        stats = [function.stats for function in (self.module.double, self.module.quadruple)]
        self.hits, self.misses = (sum(sum(s[i].values()) for s in stats) for i in (1, 2))

    def _generate(self) -> str:
        self.generated += 1
        return TEXT

    @property
    def is_warm(self) -> bool:
        return (self.generated, self.hits, self.misses, self.warnings) == (0, 2, 0, [])


def files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.is_file())


def test_what_is_kept_and_where(folder, monkeypatch):
    """Beside the module, all of it with a checksum, whatever numba would do with its own files."""
    monkeypatch.setenv("NUMBA_CACHE_DIR", str(folder / "elsewhere"))
    first = Start()
    assert (first.generated, first.hits, first.misses, first.warnings) == (1, 0, 2, [])
    kept = Counter(path.suffix for path in files(folder))
    assert kept == {".py": 1, ".pyc": 1, ".nbc": 2, ".lock": 1}
    for path in files(folder):
        assert path.suffix == ".lock" or cache_files.read(path)
    assert first.module.double.stats.cache_path == str(folder)
    assert Start().is_warm


def test_another_signature_is_kept_beside_the_first(folder):
    Start()
    assert Start().module.double(1.5) == 3.0
    again = Start()
    assert again.is_warm
    assert again.module.double(1.5) == 3.0
    assert sum(again.module.double.stats.cache_misses.values()) == 0
    assert len(list(folder.glob("*.nbc"))) == 3


def test_kernels_of_a_gpu_are_kept_alike(folder, monkeypatch):
    """Without a GPU: what is loaded and saved is made up, what numba.cuda does with its cache is not."""
    from numba.cuda import dispatcher

    monkeypatch.setattr(dispatcher.CUDACacheImpl, "rebuild", lambda self, context, payload: payload)
    text = "from numba import cuda\n\n@cuda.jit(cache=True)\ndef nothing(x):\n    pass\n"
    kept = cache._module(NAME, lambda: text).nothing._cache
    codegen = SimpleNamespace(magic_tuple=lambda: ("compute capability", 9, 0))
    context = SimpleNamespace(refresh=lambda: None, codegen=lambda: codegen)
    assert kept.load_overload((types.float64,), context) is None
    kept.save_overload((types.float64,), SimpleNamespace(codegen=codegen, _reduce_states=lambda: {"cubin": b"code"}))
    assert kept.load_overload((types.float64,), context) == {"cubin": b"code"}
    assert kept.load_overload((types.float32,), context) is None
    (path,) = folder.glob("*.nbc")
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.warns(RuntimeWarning, match="is damaged"):
        assert kept.load_overload((types.float64,), context) is None


def replaced(make: Callable[[bytes], bytes]) -> Callable[[Path, pytest.MonkeyPatch], None]:
    def damage(path: Path, _: pytest.MonkeyPatch) -> None:
        path.write_bytes(make(path.read_bytes()))

    return damage


def flipped(share: float) -> Callable[[bytes], bytes]:
    def flip(data: bytes) -> bytes:
        at = int(share * (len(data) - 1))
        return data[:at] + bytes([data[at] ^ 0x10]) + data[at + 1 :]

    return flip


def folder_instead(path: Path, _: pytest.MonkeyPatch) -> None:
    path.unlink()
    (path / "inside").mkdir(parents=True)


def circle_instead(path: Path, _: pytest.MonkeyPatch) -> None:
    path.unlink()
    path.symlink_to(path.name)  # not even root can read it


def unreadable(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if ROOT:  # may read everything, but believes what belongs to nobody else
        give_away(path, monkeypatch)
    else:
        path.chmod(0)


WAYS: dict[str, Callable[[Path, pytest.MonkeyPatch], None]] = {
    "empty": replaced(lambda data: b""),
    "half": replaced(lambda data: data[: len(data) // 2]),
    "zeros": replaced(lambda data: bytes(len(data))),
    "garbage": replaced(lambda data: random.Random(7).randbytes(len(data))),
    **{f"flipped at {share}": replaced(flipped(share)) for share in (0.0, 0.5, 1.0)},
    "a folder in its place": folder_instead,
    "a link to itself in its place": circle_instead,
    "unreadable": unreadable,
    "gone": lambda path, _: path.unlink(),
}


@pytest.mark.parametrize("way", daily(WAYS, "half", "flipped at 0.5", "a folder in its place", "gone"))
def test_damage_is_mended(folder, monkeypatch, way):
    """To each file in turn, and to all at once: it works, says so where it costs time, and is warm again after it."""
    if os.name == "nt" and "link" in way:
        pytest.skip("links need a privilege")
    Start()
    kept = files(folder)
    assert len(kept) == 5
    for damaged in [*([path] for path in kept), kept]:
        for path in filter(Path.is_file, damaged):
            if path.suffix != ".lock" or way == "a folder in its place":  # it is empty: only its being there counts
                WAYS[way](path, monkeypatch)
            if path.suffix == ".py" and path.is_file():
                os.utime(path, (1, 1))  # else the bytecode stands for it, as it should
        mended = Start()
        lost = {path.suffix for path in damaged}
        found = way != "gone"
        assert mended.generated == (".py" in lost)
        assert bool(mended.misses) == (".nbc" in lost or (found and ".py" in lost))
        assert bool(mended.warnings) == (found and bool(lost & {".py", ".nbc"})), (damaged, mended.warnings)
        assert all("compiled anew" in text for text in mended.warnings)
        assert Start().is_warm, (damaged, files(folder))


class Planted:
    """Pickled, something that runs when it is read."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.path,)


@pytest.mark.parametrize("suffix", [".py", ".pyc", ".nbc"])
def test_what_others_planted_is_not_run(folder, monkeypatch, suffix):
    """A file without its checksum, or of another user."""
    Start()
    ran = folder / "ran"
    text = f"import pathlib; pathlib.Path({str(ran)!r}).touch()\n"
    planted = {
        ".py": text.encode(),
        ".pyc": b"\x00" * 16,
        ".nbc": pickle.dumps(Planted(ran)),
    }[suffix]
    paths = [path for path in files(folder) if path.suffix == suffix]
    for path in paths:
        path.write_bytes(planted)
    assert Start().module.double(1) == 2
    assert not ran.exists()
    if suffix == ".pyc":
        return
    for path in paths:
        cache_files.write(path, planted)
        if ROOT:
            give_away(path, monkeypatch)
        else:
            path.chmod(0o666)
    for path in folder.glob("__pycache__/*.pyc"):
        path.unlink()
    assert Start().module.double(1) == 2
    assert not ran.exists()
    # That it would have run: it is the owner and the checksum that are looked at.
    for path in paths:
        path.unlink(missing_ok=True)
        cache_files.write(path, planted)
    for path in folder.glob("__pycache__/*.pyc"):
        path.unlink()
    sys.modules.pop(NAME)
    with pytest.raises(AttributeError) if suffix == ".py" else nullcontext():  # whose module has no functions
        cache._module(NAME, lambda: TEXT).double(1)
    assert ran.exists()


# A full disk.


def full(*_: object, **__: object) -> None:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


@pytest.mark.parametrize("failing", range(4))
def test_a_full_disk_costs_time_alone(folder, monkeypatch, failing):
    """At each write: of the text, the bytecode, and the machine code of two functions."""
    writes, original = [], cache_files.write

    def write(path: Path, data: bytes) -> None:
        writes.append(path)
        if len(writes) > failing and path.is_relative_to(folder):
            full()
        original(path, data)

    monkeypatch.setattr(cache_files, "write", write)
    start = Start()
    assert (start.generated, start.misses) == (2 if failing == 0 else 1, 2)
    assert all("No space left" in text for text in start.warnings)
    if failing == 0:
        (warning,) = start.warnings
        assert "kernels of this process go to" in warning
        assert not Path(start.module.__file__).is_relative_to(folder)
    else:
        assert len(start.warnings) == 1
    monkeypatch.setattr(cache_files, "write", original)
    Start()
    assert Start().is_warm


def test_a_disk_without_room_for_one_more_file_costs_time_alone(folder, monkeypatch):
    """numba wants to make a file before it compiles; what is there already is not thrown away for it."""
    Start()
    before, original = files(folder), tempfile.TemporaryFile

    def temporary(*arguments: Any, dir: Any = None) -> Any:
        return original(*arguments, dir=dir) if Path(dir).is_relative_to(tempfile.gettempdir()) else full()

    monkeypatch.setattr(tempfile, "tempdir", str(folder.parent / "temporary"))
    (folder.parent / "temporary").mkdir()
    monkeypatch.setattr(tempfile, "TemporaryFile", temporary)
    start = Start()
    assert (start.generated, start.misses) == (1, 2)
    (warning,) = start.warnings
    assert "kernels of this process go to" in warning
    assert files(folder) == before


# One process compiles, and the others wait.

BOTH = """
import json, sys, time
from pathlib import Path
from sgdsim.kernels import cache, source
from sgdsim.model.losses.river_valley import river_valley
from sgdsim.model.optimizers import Optimizer
from sgdsim.model.run import Run
from sgdsim.model.schedules import Schedule
from sgdsim.simulation.simulator import Simulator

generated, original = [], source.generate
source.generate = lambda *a: generated.append(1) or original(*a)
loss = river_valley(constants={"a0": 1.0, "k": 0.5, "c2": 0.1})
print("ready", flush=True)
sys.stdin.readline()
simulator = Simulator(Run(loss, Optimizer(), Schedule("0.1"), {"x": 0.0, "y": 1.0}, trajectories=100, steps=4))
simulator.compile()
kernel, formula = simulator.kernel, simulator.executor.formula
misses = [sum(getattr(kernel, name).stats.cache_misses.values()) for name in ("initialize", "advance")]
misses += [1 - getattr(formula, name).cache_hits for name in ("initial_state", "update", "observe")]
print(json.dumps([len(generated), *misses]))
"""


COPIED = pytest.mark.parametrize("copied", [True, pytest.param(False, marks=pytest.mark.validate)])
"""Whether the engine is there already, whose ten seconds the long tests alone spend again."""


def copy_engine(run: Run, folder: Path) -> None:
    """The machine code of the engine from the cache of all tests."""
    Simulator(run, 0, Device.parse("cpu"), Workers(1)).compile()
    for path in cache.cache_folder().glob("sgdsim_engine_cpu_*"):
        if path.suffix != ".lock":
            shutil.copy(path, folder)


@COPIED
def test_of_two_processes_one_compiles(copied, tmp_path, river_run):
    if copied:
        copy_engine(river_run(), tmp_path)
    environment = {**os.environ, "SGDSIM_CACHE_DIR": str(tmp_path)}
    command = [sys.executable, "-W", "error", "-c", BOTH]
    pipes: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    processes = [subprocess.Popen(command, env=environment, **pipes) for _ in range(2)]
    for process in processes:
        assert process.stdout.readline() == "ready\n"
    for process in processes:
        process.stdin.write("go\n")
        process.stdin.flush()
    counts = [json.loads(process.communicate(timeout=500)[0]) for process in processes]
    engine = [0, 0] if copied else [1, 1]
    assert [sum(both) for both in zip(*counts, strict=True)] == [1, *engine, 1, 1, 1]


@COPIED
def test_of_two_threads_one_compiles(copied, tmp_path, monkeypatch, river_run, request):
    if copied:
        copy_engine(river_run(), tmp_path)
    folder = request.getfixturevalue("folder")
    before = set(folder.glob("*.nbc"))
    for name in [name for name in sys.modules if name.startswith("sgdsim_")]:
        monkeypatch.delitem(sys.modules, name)  # the engine, which another test may have loaded from its own folder
    generated: list[str] = []
    source = cache._source()

    def generate(*arguments: Any, original: Callable[..., str] = source.generate) -> str:
        generated.append(original(*arguments))
        return generated[-1]

    monkeypatch.setattr(source, "generate", generate)
    executors: list[Any] = []
    start = threading.Barrier(2)

    def compiled(run: Run) -> None:
        start.wait()
        simulator = Simulator(run, 0, Device.parse("cpu"), Workers(1))
        simulator.compile()
        executors.append(simulator.executor)

    threads = [threading.Thread(target=compiled, args=[river_run()]) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    one, other = executors
    assert one.kernel is other.kernel
    assert one.formula is other.formula
    assert len(generated) == 1
    for function in (one.kernel.initialize, one.kernel.advance):
        assert sum(function.stats.cache_misses.values()) == (0 if copied else 1)
    # None of them goes past the checks into files of numba's own.
    assert {path.suffix for path in files(folder)} == {".py", ".pyc", ".nbc", ".lock"}
    assert len(set(folder.glob("*.nbc")) - before) == (3 if copied else 5)


def test_who_waited_loads_what_was_compiled(folder):
    """Between the first look and the lock another process saves both functions."""
    Start()
    hidden = {path: path.rename(path.with_suffix(".hidden")) for path in folder.glob("*.nbc")}
    (lock,) = [lock for path, lock in cache._locks.items() if path.parent == folder]

    def acquire(original: Callable[[], None] = lock.acquire) -> None:
        original()
        for path, kept in hidden.items():
            if kept.exists():
                kept.rename(path)

    lock.acquire = acquire
    assert Start().is_warm
    assert lock._descriptor is None


def test_others_go_on_when_a_compilation_fails(folder):
    text = TEXT.replace("2 * x", "x.no_such_attribute")
    module: Any = cache._module(NAME, lambda: text)
    (lock,) = [lock for path, lock in cache._locks.items() if path.parent == folder]
    with pytest.raises(Exception, match="no_such_attribute"), cache.compiling():
        module.double(1)
    assert lock._descriptor is None
