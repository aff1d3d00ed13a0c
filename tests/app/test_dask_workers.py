"""A run on the workers of Dask: to the same bits as on one machine, whatever happens to them."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sgdsim.app import dask_workers, in_shards
from sgdsim.app.peek import peek
from sgdsim.app.simulate import simulate
from sgdsim.app.workflow import resume_file, run_parts
from sgdsim.base.errors import InputError, RunError
from sgdsim.base.version import __version__
from sgdsim.ensemble import Ensemble
from sgdsim.input.loading import load_parts
from sgdsim.input.scenario import Scenario
from sgdsim.kernels.processor import TARGETS, compile_for, features, processor
from sgdsim.simulation import result_arrays, run_loop
from sgdsim.simulation.memory_needs import output_bytes
from sgdsim.simulation.shards import Shard
from sgdsim.simulation.unfinished import folder_of

distributed = pytest.importorskip("distributed", reason="the extra distributed is not installed")
# Of sockets and processes that Dask leaves to the garbage collector, and of a busy machine.
pytestmark = pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning")

SETTINGS = {
    "run.trajectories": 2000,
    "run.steps": 12,
    "record.every": 4,
    "record.snapshots": [4, "final"],
    "record.histograms": {"x": [-2, 2, 8]},
    "sweep": {"optimizer.learning_rate": [0.1, 0.2]},
}
LONG = {**SETTINGS, "run.trajectories": 40_000, "run.steps": 20_000, "record.every": 20_000, "record.snapshots": [4]}
"""Some seconds, in which workers can be killed."""

HERE = {"n_workers": 2, "threads_per_worker": 1, "dashboard_address": ":0"}


@pytest.fixture(scope="module")
def scenarios() -> list[Scenario]:
    return load_parts("river_valley", SETTINGS)


@pytest.fixture(scope="module")
def whole(scenarios: list[Scenario], tmp_path_factory: pytest.TempPathFactory) -> str:
    return run_parts(scenarios, tmp_path_factory.mktemp("whole") / "run.h5")[0].digest()


@pytest.fixture(scope="module")
def threads() -> Iterator[Any]:
    """Two workers in this process, which are there at once."""
    with distributed.LocalCluster(**HERE, processes=False) as cluster, distributed.Client(cluster) as client:
        yield client


def test_workers_give_the_bits_of_one_machine(threads, scenarios, whole, tmp_path):
    path = tmp_path / "run.h5"
    (ensemble,) = run_parts(scenarios, path, client=threads)
    assert ensemble.digest() == whole
    assert Ensemble.open(path).digest() == whole
    assert ensemble.attributes["shards"] == 8
    assert [one.name for one in tmp_path.iterdir()] == ["run.h5"]


def test_another_seed_gives_another_digest(threads, whole, tmp_path):
    """The negative control."""
    other = load_parts("river_valley", {**SETTINGS, "run.seed": 3})
    assert run_parts(other, tmp_path / "run.h5", client=threads)[0].digest() != whole


def test_simulate_takes_a_client(threads, tmp_path):
    arguments: dict[str, Any] = {"noise": {"z": "normal"}, "initial": {"x": 0.0}, "learning_rate": 0.1}
    arguments |= {"trajectories": 600, "steps": 8, "snapshots": ["final"]}
    here = simulate("x**2/2 + z*x", **arguments).digest()
    assert simulate("x**2/2 + z*x", client=threads, **arguments).digest() == here
    assert simulate("x**2/2 + z*x", client=threads, output=tmp_path / "run.h5", **arguments).digest() == here
    assert Ensemble.open(tmp_path / "run.h5").digest() == here


def test_a_cluster_that_is_lost_leaves_its_shards_and_the_run_goes_on_here(
    threads, scenarios, whole, tmp_path, monkeypatch
):
    path = tmp_path / "run.h5"

    def lost(client: Any, every: float | None) -> in_shards.Compute:
        def computing(described: Any, shards: Any, folder: Path) -> Iterator[Any]:
            for shard in shards[:3]:
                in_shards.compute_shard(described, shard, folder)
                yield shard
            raise RunError("tcp://head:8786: the scheduler is gone")

        return computing

    with monkeypatch.context() as patch:
        patch.setattr(dask_workers, "on_workers", lost)
        with pytest.raises(RunError, match="the scheduler is gone") as caught:
            run_parts(scenarios, path, client=threads)
    assert caught.value.__notes__ == [f"What is done is kept: sgdsim resume {path} goes on from there."]
    assert len(list(folder_of(path).glob("*.shard"))) == 3
    with pytest.raises(InputError, match="--resume goes on with it"):
        run_parts(scenarios, path)
    said = peek(path).splitlines()
    assert said[0] == f"{path}: 3 of 8 shards are done; nobody computes it, sgdsim resume {path} goes on"
    assert said[2].split() == ["step", "trajectories", "mean", "variance"]
    assert said[3].split()[:3] == ["x", "12", "2,000"]
    (folder_of(path) / "3-of-8.shard").write_bytes(b"damaged")  # which is computed again
    computed: list[str] = []
    original = in_shards.compute_shard

    def watched(described: Any, shard: Any, *arguments: Any, **named: Any) -> Path:
        computed.append(str(shard))
        return original(described, shard, *arguments, **named)

    monkeypatch.setattr(in_shards, "compute_shard", watched)
    assert resume_file(path)[0].digest() == whole
    assert computed == ["3/8", "4/8", "5/8", "6/8", "7/8", "8/8"]
    assert [one.name for one in tmp_path.iterdir()] == ["run.h5"]


def test_a_run_that_was_begun_alone_is_not_cut(threads, scenarios, tmp_path, monkeypatch):
    def ended(*_: Any) -> None:
        raise KeyboardInterrupt

    path = tmp_path / "run.h5"
    with monkeypatch.context() as patch:
        patch.setattr(run_loop.Progress, "update", ended)
        with pytest.raises(KeyboardInterrupt):
            run_parts(scenarios, path, checkpoint_every="1h")
    with pytest.raises(InputError, match="was begun on this machine alone"):
        run_parts(scenarios, path, client=threads, resume=True)


# What is refused, with nothing changed.


def test_a_cluster_that_does_not_answer(monkeypatch):
    monkeypatch.setattr(dask_workers, "ANSWERS", 1.0)
    address = "tcp://127.0.0.1:9"
    with pytest.raises(InputError, match=f"--dask: {address} does not answer within 1 s"):  # noqa: SIM117
        with dask_workers.connected(address):
            pass


@pytest.mark.parametrize(
    "where", ["local", "local:0", "local:two", "head", "tcp://head", "foo://x:1", "ucx://h:1", "inproc://a:1"]
)
def test_what_is_no_cluster(where):
    with pytest.raises(InputError, match=f"--dask: '{where}', expected"):  # noqa: SIM117
        with dask_workers.connected(where):
            pass


def test_a_scheduler_that_cannot_be_reached():
    """Without certificates, where TLS needs them: no traceback."""
    with pytest.raises(InputError, match="--dask: tls://localhost:1 cannot be reached: TLS expects"):  # noqa: SIM117
        with dask_workers.connected("tls://localhost:1"):
            pass


def test_without_dask_it_says_how_to_install_it(monkeypatch, scenarios, tmp_path):
    monkeypatch.setitem(sys.modules, "distributed", None)
    with pytest.raises(InputError, match=r"pip install 'sgdsim\[distributed\]'"):
        run_parts(scenarios, tmp_path / "run.h5", client=object())
    assert not list(tmp_path.iterdir())


def test_what_is_no_client(scenarios, tmp_path):
    with pytest.raises(InputError, match=r"client: .*, expected a dask\.distributed\.Client"):
        run_parts(scenarios, tmp_path / "run.h5", client="local:2")


ONE: dict[str, Any] = {"noise": {"z": "normal"}, "initial": {"x": 0.0}, "learning_rate": 0.1, "trajectories": 64}
ONE |= {"steps": 2}


@pytest.mark.parametrize(
    ("limit", "message"),
    [("1 B", "memory_limit: the run needs"), ("nonsense", "memory_limit: 'nonsense', expected a size")],
)
def test_a_memory_limit_holds_before_workers_begin(threads, limit, message, scenarios, tmp_path, monkeypatch):
    monkeypatch.setattr(dask_workers, "on_workers", lambda *_: pytest.fail("was computed"))
    with pytest.raises(InputError, match=message):
        simulate("x**2/2 + z*x", **ONE, client=threads, memory_limit=limit)
    with pytest.raises(InputError, match=message):
        simulate("x**2/2 + z*x", **ONE, client=threads, memory_limit=limit, output=tmp_path / "run.h5")
    with pytest.raises(InputError, match=message):
        run_parts(scenarios, tmp_path / "run.h5", client=threads, memory_limit=limit)
    assert not list(tmp_path.iterdir())


def test_a_number_of_threads_is_refused(threads, scenarios, tmp_path):
    """Those of the workers are the cluster's own."""
    for work in (
        lambda: simulate("x**2/2 + z*x", **ONE, client=threads, threads=1),
        lambda: run_parts(scenarios, tmp_path / "run.h5", client=threads, threads=1),
    ):
        with pytest.raises(InputError, match="--threads: 1, expected it without workers of Dask"):
            work()
    assert not list(tmp_path.iterdir())


def test_workers_save_checkpoints_as_often_as_is_said(threads, scenarios, whole, tmp_path, monkeypatch):
    said = []
    original = dask_workers.compute_shard

    def watched(*arguments: Any, **named: Any) -> Path:
        said.append(named["every"])
        return original(*arguments, **named)

    monkeypatch.setattr(dask_workers, "compute_shard", watched)
    (made,) = run_parts(scenarios, tmp_path / "run.h5", client=threads, checkpoint_every="7s")
    assert made.digest() == whole
    assert set(said) == {7.0}


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"each": {"b": np.ones(64)}}, r"each\.b: an array, .*, expected such as constants={'b': 'values\.csv:b'}"),
        (
            {"constants": {"b": 1.0}, "initial": {"x": np.ones(64)}},
            r"initial\.x: an array, .*, expected such as 'values\.csv:x'",
        ),
        (
            {"constants": {"b": 1.0}, "initial": {"x": 0.0, "velocity(x)": np.ones(64)}, "momentum": 0.5},
            r"initial\.velocity\(x\): an array, .*, expected such as a distribution",
        ),
    ],
)
@pytest.mark.parametrize("output", [None, "run.h5"])
def test_arrays_that_workers_do_not_have_are_refused(threads, given, message, output, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(dask_workers, "on_workers", lambda *_: pytest.fail("was computed"))
    with pytest.raises(InputError, match=message):
        simulate("b*x**2/2 + z*x", **{**ONE, **given}, client=threads, output=output)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(("device", "message"), [("auto", "'auto', expected cpu or cuda"), ("gpu", "unknown device")])
def test_workers_do_not_choose_their_own_device(threads, device, message, scenarios, tmp_path, monkeypatch):
    monkeypatch.setattr(dask_workers, "on_workers", lambda *_: pytest.fail("was computed"))
    with pytest.raises(InputError, match=f"--device: {message}"):
        simulate("x**2/2 + z*x", **ONE, client=threads, device=device)
    with pytest.raises(InputError, match=f"--device: {message}"):
        run_parts(scenarios, tmp_path / "run.h5", client=threads, device=device)
    assert not list(tmp_path.iterdir())


def test_columns_of_a_file_are_for_workers_too(threads, tmp_path, monkeypatch):
    """What the refusal of an array says to do instead."""
    monkeypatch.chdir(tmp_path)
    rows = [(1 + number / 64, number / 8) for number in range(64)]
    (tmp_path / "values.csv").write_text("b,x\n" + "".join(f"{b},{x}\n" for b, x in rows))
    arrays = {"each": {"b": [b for b, _ in rows]}, "initial": {"x": [x for _, x in rows]}}
    files: dict[str, Any] = {"constants": {"b": "values.csv:b"}, "initial": {"x": "values.csv:x"}}
    here = simulate("b*x**2/2 + z*x", **{**ONE, **arrays})
    there = simulate("b*x**2/2 + z*x", **{**ONE, **files}, client=threads)
    for name in ("mean", "variance"):
        np.testing.assert_array_equal(getattr(there, name)("x"), getattr(here, name)("x"))


def test_snapshots_that_do_not_fit_are_put_together_on_the_disk(threads, scenarios, whole, tmp_path, monkeypatch):
    limit, spooled = output_bytes(scenarios[0].runs) - 1, list[Path]()
    original = result_arrays._on_disk
    monkeypatch.setattr(result_arrays, "_on_disk", lambda *given: spooled.append(given[0]) or original(*given))
    path = tmp_path / "run.h5"
    assert run_parts(scenarios, path, client=threads, memory_limit=limit)[0].digest() == whole
    assert spooled == [folder_of(path)]


def test_a_shard_that_ends_its_workers(threads):
    class Future:
        status = "error"

        def result(self) -> None:
            raise distributed.KilledWorker("task", None, 3)

    with pytest.raises(RunError, match="shard 2/3: 4 workers have died over it, perhaps for lack of memory"):
        dask_workers._result(Future(), Shard(2, 3), threads)


@pytest.fixture
def without_nannies() -> Iterator[Any]:
    """Two workers in this process, by an address."""
    with distributed.LocalCluster(**HERE, processes=False, protocol="tcp", host="127.0.0.1") as cluster:
        yield cluster


def test_workers_that_do_not_take_the_target_are_refused(without_nannies):
    address = without_nannies.scheduler_address
    with pytest.raises(InputError, match=r"compiles for .*, not for x86-64-v3: .* NUMBA_CPU_NAME=x86-64-v3 NUMBA"):  # noqa: SIM117
        with dask_workers.connected(address, "x86-64-v3"):
            pass
    assert not without_nannies.scheduler.nanny_plugins


def test_workers_that_compile_for_the_target_are_taken(without_nannies, monkeypatch):
    monkeypatch.setattr(dask_workers, "processor", lambda: "x86-64-v3")
    monkeypatch.setattr(dask_workers, "features", lambda: {"avx2"})
    with dask_workers.connected(without_nannies.scheduler_address, "x86-64-v3") as client:
        assert len(without_nannies.scheduler.nanny_plugins) == 1  # for those that come late
        assert dask_workers.checked(client) is client
    assert not without_nannies.scheduler.nanny_plugins


def test_a_target_that_is_none():
    with pytest.raises(InputError, match="--cpu-target: 'pentium', expected x86-64-v3 or x86-64-v4"):
        compile_for("pentium")


# With processes, which take seconds to begin.


@pytest.fixture(scope="module")
def processes() -> Iterator[Any]:
    with distributed.LocalCluster(**HERE) as cluster, distributed.Client(cluster) as client:
        yield client


@pytest.fixture(scope="module")
def long_whole(tmp_path_factory: pytest.TempPathFactory) -> str:
    return run_parts(load_parts("river_valley", LONG), tmp_path_factory.mktemp("long") / "run.h5")[0].digest()


@pytest.mark.validate
@pytest.mark.parametrize("workers", [1, 3])
def test_any_number_of_workers(workers, scenarios, whole, tmp_path):
    with dask_workers.connected(f"local:{workers}") as client:
        client.wait_for_workers(workers, timeout=60)
        assert run_parts(scenarios, tmp_path / "run.h5", client=client)[0].digest() == whole


@pytest.mark.validate
def test_a_worker_that_is_killed_is_replaced(processes, long_whole, tmp_path):
    """By its pid, in the middle of a shard: another one goes on."""
    path = tmp_path / "run.h5"
    killed: list[int] = []

    def kill() -> None:
        deadline = time.monotonic() + 60
        while len(killed) < 2 and time.monotonic() < deadline:
            for lock in folder_of(path).glob("*.shard.unfinished/lock"):
                words = lock.read_text().split()
                if len(words) > 1 and int(words[1]) not in killed:
                    os.kill(int(words[1]), signal.SIGKILL)
                    killed.append(int(words[1]))
                    time.sleep(1)
                    break
            time.sleep(0.01)

    watcher = threading.Thread(target=kill)
    watcher.start()
    (ensemble,) = run_parts(load_parts("river_valley", LONG), path, client=processes)
    watcher.join()
    assert len(killed) == 2
    assert ensemble.digest() == long_whole
    assert [one.name for one in tmp_path.iterdir()] == ["run.h5"]


@pytest.mark.validate
def test_a_scheduler_that_is_gone(long_whole, tmp_path):
    """A clear message; and then the run goes on without it."""
    path, scenarios = tmp_path / "run.h5", load_parts("river_valley", LONG)
    module, file = [sys.executable, "-m"], tmp_path / "scheduler.json"
    quiet: dict[str, Any] = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL, "cwd": tmp_path}
    scheduler = subprocess.Popen(
        [*module, "distributed.cli.dask_scheduler", "--port", "0", "--scheduler-file", file, "--no-dashboard"], **quiet
    )
    worker = subprocess.Popen(
        [*module, "distributed.cli.dask_worker", "--scheduler-file", file, "--nthreads", "1", "--death-timeout", "20"],
        **quiet,
    )

    def kill() -> None:
        while not list(folder_of(path).glob("*.shard")):
            time.sleep(0.01)
        scheduler.kill()

    try:
        with distributed.Client(scheduler_file=str(file), timeout=60) as client:
            client.wait_for_workers(1, timeout=60)
            watcher = threading.Thread(target=kill)
            watcher.start()
            with pytest.raises(RunError, match="the scheduler is gone"):
                run_parts(scenarios, path, client=client)
            watcher.join()
    finally:
        for process in (worker, scheduler):
            process.terminate()
            process.wait()
    assert 0 < len(list(folder_of(path).glob("*.shard"))) < 4
    assert run_parts(scenarios, path, resume=True)[0].digest() == long_whole


@pytest.mark.validate
def test_workers_without_a_shared_folder(processes, scenarios, whole, tmp_path, monkeypatch):
    """Each process has another folder at this path: what they compute comes over the wire."""
    monkeypatch.chdir(tmp_path)
    received: list[Any] = []
    original = dask_workers._result
    monkeypatch.setattr(dask_workers, "_result", lambda *given: received.append(original(*given)) or received[-1])
    (ensemble,) = run_parts(scenarios, "/proc/self/cwd/run.h5", client=processes)
    assert ensemble.digest() == whole
    assert len(received) == 8
    assert all(received)
    assert (tmp_path / "run.h5").exists()


def put(module: str, name: str, value: Any) -> Any:
    """Change a worker, in place of another machine; what was there before."""
    owner = sys.modules[module]
    before = getattr(owner, name)
    setattr(owner, name, value)
    return before


@contextmanager
def odd(client: Any, module: str, name: str, value: Any) -> Iterator[str]:
    """A worker with another value of something."""
    client.wait_for_workers(2, timeout=60)
    worker = sorted(client.nthreads())[0]
    client.run(__import__, module, workers=[worker])
    before = client.run(put, module, name, value, workers=[worker])[worker]
    try:
        yield worker
    finally:
        client.run(put, module, name, before, workers=[worker])


def without_fma() -> set[str]:
    """Features of this processor without fused multiply-add."""
    return features() - {"fma"}


@pytest.mark.validate
def test_a_worker_of_another_version_is_refused_by_name(processes, scenarios, tmp_path):
    with odd(processes, "sgdsim.app.dask_workers", "__version__", "0.0.9") as worker:  # noqa: SIM117
        with pytest.raises(InputError, match=rf"^{worker} has sgdsim 0\.0\.9, and here is {__version__}$"):
            run_parts(scenarios, tmp_path / "run.h5", client=processes)
    assert not list(tmp_path.iterdir())


@pytest.mark.validate
def test_a_worker_of_another_version_that_comes_late_is_refused_by_its_task(
    processes, scenarios, tmp_path, monkeypatch
):
    monkeypatch.setattr(dask_workers, "checked", lambda client: client)
    with odd(processes, "sgdsim.app.dask_workers", "__version__", "0.0.9"):  # noqa: SIM117
        with pytest.raises(InputError, match=r"a worker has sgdsim 0\.0\.9, and here is"):
            run_parts(scenarios, tmp_path / "run.h5", client=processes)


@pytest.mark.validate
def test_workers_with_other_processors_are_refused_by_name(processes, scenarios, tmp_path):
    with odd(processes, "sgdsim.app.dask_workers", "features", without_fma):  # noqa: SIM117
        with pytest.raises(InputError, match=r"differ in fma: --cpu-target x86-64-v3 compiles for all"):
            run_parts(scenarios, tmp_path / "run.h5", client=processes)
    assert not list(tmp_path.iterdir())


@pytest.mark.validate
@pytest.mark.skipif(TARGETS["x86-64-v3"] not in features(), reason="this processor has no avx2")
def test_all_compile_for_a_common_target_and_the_file_says_so(whole, tmp_path):
    """From the command line, with processes of its own."""
    command = [shutil.which("sgdsim") or str(Path(sys.executable).parent / "sgdsim"), "run", "river_valley"]
    settings = [f"--set={name}={value}" for name, value in SETTINGS.items() if name.startswith("run.")]
    settings += ["--set=record.every=4", "--dask", "local:2", "--no-compare", "--quiet", "-o", "run.h5"]
    digests = set()
    for target in ([], ["--cpu-target", "x86-64-v3", "--overwrite"]):
        subprocess.run([*command, *settings, *target], cwd=tmp_path, check=True)
        ensemble = Ensemble.open(tmp_path / "run.h5")
        digests.add(ensemble.digest())
    assert ensemble.attributes["processor"] == "x86-64-v3"
    assert len(digests) == 1


@pytest.mark.validate
@pytest.mark.skipif(TARGETS["x86-64-v3"] not in features(), reason="this processor has no avx2")
def test_workers_begin_anew_for_a_target_and_once_more_without_it():
    with distributed.LocalCluster(**HERE) as cluster, distributed.Client(cluster) as own:
        own.wait_for_workers(2, timeout=60)
        native = set(own.run(processor).values())
        with dask_workers.connected(cluster.scheduler_address, "x86-64-v3") as client:
            assert set(client.run(processor).values()) == {"x86-64-v3"}
        assert not cluster.scheduler.nanny_plugins
        own.restart()
        own.wait_for_workers(2, timeout=60)
        assert set(own.run(processor).values()) == native


@pytest.mark.validate
def test_an_interrupt_ends_the_command_and_its_workers_in_silence(tmp_path, long_whole):
    """Ctrl-C reaches all processes of a terminal at once; what is done is kept, and goes on without workers."""
    (tmp_path / "long.toml").write_text(load_parts("river_valley", LONG)[0].toml)
    command = [str(Path(sys.executable).parent / "sgdsim"), "run", "long.toml", "--dask", "local:2"]
    process = subprocess.Popen(
        [*command, "-o", "run.h5", "--quiet"], cwd=tmp_path, stderr=subprocess.PIPE, text=True, start_new_session=True
    )
    path = tmp_path / "run.h5"
    while process.poll() is None and not list(folder_of(path).glob("*.shard")):
        time.sleep(0.01)
    os.killpg(process.pid, signal.SIGINT)
    _, said = process.communicate(timeout=60)
    assert process.returncode == 130
    assert said.splitlines() == ["Interrupted.", "What is done is kept: sgdsim resume run.h5 goes on from there."]
    assert resume_file(path)[0].digest() == long_whole
