"""A run on the workers of Dask, whose tasks are the shards of the run."""

from __future__ import annotations

import logging
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from sgdsim.app.in_shards import Compute, check_device, compute_shard, one_after_the_other, run_in_shards
from sgdsim.base import take
from sgdsim.base.errors import InputError, RunError
from sgdsim.base.files import atomic_file
from sgdsim.base.version import __version__
from sgdsim.ensemble import Ensemble
from sgdsim.input.scenario import Scenario
from sgdsim.kernels.processor import TARGETS, features, processor, variables
from sgdsim.kernels.program import GROUPS
from sgdsim.model.starts import Listed
from sgdsim.simulation.memory_needs import limits_of_parts
from sgdsim.simulation.shards import Shard
from sgdsim.simulation.unfinished import Description, Unfinished, is_of

ANSWERS = 10.0
"""Seconds within which a cluster must answer and have a worker."""

_SHARDS_A_THREAD = 4  # shards for each thread, so that a fast worker gets more, and little is lost with a worker
_RETRIES = 2  # repetitions of a shard that fails; Dask counts those whose worker dies
_MOST_NAMED = 5
_NO_INTERRUPT = "import signal; signal.signal(signal.SIGINT, signal.SIG_IGN)"
"""Code that our own workers run first: they ignore Ctrl-C, as the command receives it and ends them."""


@contextmanager
def connected(where: str, cpu_target: str | None = None) -> Iterator[Any]:
    """Client of Dask workers, for use in a ``with`` block.

    Parameters
    ----------
    where
        ``local:4`` for four processes here, which end with the block, or the address of a scheduler,
        ``tcp://head:8786``.
    cpu_target
        Processor for which the workers compile; by default their own, which must then be the same for all.

    Raises
    ------
    InputError
        For any other text, without Dask, for a cluster that does not answer, and for workers of another target.
    """
    distributed = _dask()
    if local := re.fullmatch(r"local:([0-9]{1,4})", where.strip()):
        if not int(local[1]):
            raise InputError(f"--dask: {where!r}, expected at least one worker")
        own: dict[str, Any] = {"n_workers": int(local[1]), "threads_per_worker": 1, "dashboard_address": ":0"}
        own["preload"] = _NO_INTERRUPT
        local_cluster = distributed.LocalCluster(**own, silence_logs=logging.CRITICAL)
        with local_cluster as cluster, distributed.Client(cluster) as client:
            yield client
        return
    if not re.fullmatch(r"(tcp|tls|ws|wss)://\S+:[0-9]+", where.strip()):
        raise InputError(f"--dask: {where!r}, expected local:4 or the address of a scheduler, tcp://head:8786")
    try:
        client = distributed.Client(where.strip(), timeout=ANSWERS)
    except OSError:
        raise InputError(f"--dask: {where} does not answer within {ANSWERS:.0f} s: is there a scheduler?") from None
    except (TypeError, ValueError) as error:  # for example TLS without certificates
        raise InputError(f"--dask: {where} cannot be reached: {error}") from None
    with client, nullcontext() if cpu_target is None else _compiling_for(cpu_target, client):
        yield client


@contextmanager
def _compiling_for(target: str, client: Any) -> Iterator[None]:
    """Restart workers with a target in their environment during the block; a worker reads it when it starts."""
    distributed, settings = _dask(), variables(target)

    class Target(distributed.Environ):  # type: ignore[misc, name-defined]
        async def setup(self, nanny: Any) -> None:
            self.before = {name: nanny.env[name] for name in settings if name in nanny.env}
            await super().setup(nanny)

        async def teardown(self, nanny: Any) -> None:
            for name in settings:
                nanny.env.pop(name, None)
            nanny.env.update(self.before)

    name = f"sgdsim-cpu-target-{client.id}"
    client.register_plugin(Target(settings), name=name)
    try:
        checked(client, target)
        yield
    finally:
        if client.status == "running":
            with suppress(OSError):  # a scheduler that has ended needs no clean-up
                client.unregister_worker_plugin(name, nanny=True)


def checked(client: Any, cpu_target: str | None = None) -> Any:
    """The client, if it has workers that all compute the same numbers, for the given target if there is one.

    Raises
    ------
    InputError
        Without a client or a worker, and for workers of another version, processor or target; each is named.
    """
    distributed = _dask()
    if not isinstance(client, distributed.Client) or client.asynchronous:
        raise take.refused(client, "client", "a dask.distributed.Client")
    try:
        client.wait_for_workers(1, timeout=ANSWERS)
    except TimeoutError:
        raise InputError(f"{_address(client)}: no worker has come within {ANSWERS:.0f} s") from None
    found = client.run(_machine, on_error="return")
    _refuse(f"{worker}: {about}" for worker, about in found.items() if isinstance(about, Exception))
    _refuse(_other_versions(worker, about.versions) for worker, about in found.items())
    _refuse(about.lacking(worker) for worker, about in found.items())
    _refuse(about.not_for(cpu_target, worker) for worker, about in found.items())
    first, *others = found
    _refuse(found[one].differing(one, found[first], first) for one in others)
    return client


def run_with(
    client: Any,
    scenarios: Sequence[Scenario],
    run: Unfinished,
    *,
    threads: int | None = None,
    every: float | None = None,
    progress: bool = False,
    memory_limit: float | str | None = None,
) -> list[Ensemble]:
    """Compute a run in shards, on the workers of a client or in this process; see `run_in_shards`."""
    limits_of_parts([one.runs for one in scenarios], run.checkpoints.folder, memory_limit)  # before the run is divided
    if client is not None:
        check_device(run.described.device)
        _refuse_threads(threads)
        _refuse_arrays(scenarios)
    if not run.shards:
        run.cut(shards_for(client, scenarios))
    compute = one_after_the_other(threads, every, memory_limit) if client is None else on_workers(client, every)
    return run_in_shards(scenarios, run.described, run.checkpoints.folder, run.shards, compute, progress, memory_limit)


def run_in_memory(
    client: Any,
    scenarios: Sequence[Scenario],
    described: Description,
    progress: bool,
    memory_limit: float | str | None = None,
    threads: int | None = None,
) -> list[Ensemble]:
    """Compute a run on workers without writing a file, so that all results, with snapshots, must fit into memory."""
    limits_of_parts([one.runs for one in scenarios], None, memory_limit)
    check_device(described.device)
    _refuse_threads(threads)
    _refuse_arrays(scenarios)
    with TemporaryDirectory() as folder:
        of = shards_for(client, scenarios)
        return run_in_shards(scenarios, described, Path(folder), of, on_workers(client), progress, memory_limit)


def _refuse_threads(threads: int | None) -> None:
    """Refuse a number of threads: the cluster sets it, and each thread of a worker computes a shard."""
    if threads is not None:
        raise InputError(f"--threads: {threads}, expected it without workers of Dask, which have threads of their own")


def _refuse_arrays(scenarios: Sequence[Scenario]) -> None:
    """Refuse starts from an array in the memory of this process, of which a worker knows only the digest."""
    for run in (run for one in scenarios for run in one.runs):
        starts = [(f"initial.{name}", start, "'values.csv:x'") for name, start in run.initial_items()]
        starts += [(f"initial.{name}", start, "a distribution") for name, start in run.optimizer_start.items()]
        starts += [(f"each.{name}", start, "constants={'b': 'values.csv:b'}") for name, start in run.loss.drawn.items()]
        for key, start, instead in starts:
            if isinstance(start, Listed) and not start.file:
                raise InputError(f"{key}: an array, which workers of Dask do not have, expected such as {instead}")


def shards_for(client: Any, scenarios: Sequence[Scenario]) -> int:
    """Number of shards into which a run is divided; the results do not depend on it."""
    points = sum(len(one.runs) for one in scenarios)
    threads = sum(int(count) for count in client.nthreads().values())
    return min(GROUPS * points, _SHARDS_A_THREAD * threads)


def on_workers(client: Any, every: float | None = None) -> Compute:
    """Function that computes shards as tasks of a client from `checked`, with a checkpoint every ``every`` seconds.

    Raises
    ------
    RunError
        If the scheduler has ended, or a shard kills its workers.
    """
    distributed = _dask()

    def computing(described: Description, shards: Sequence[Shard], folder: Path) -> Iterator[Shard]:
        arguments = described, str(folder.absolute()), _versions(), every
        futures = {
            client.submit(_computed, shard, *arguments, key=_key(described, shard), retries=_RETRIES): shard
            for shard in shards
        }
        try:
            for future in distributed.as_completed(list(futures)):
                shard = futures.pop(future)
                content = _result(future, shard, client)
                if content is not None:
                    with atomic_file(folder / shard.file_name) as temporary:
                        temporary.write_bytes(content)
                future.release()
                yield shard
        finally:
            if futures and client.status == "running":
                client.cancel(list(futures), force=True)

    return computing


def _computed(
    shard: Shard, described: Description, folder: str, versions: Mapping[str, str], every: float | None
) -> bytes | None:
    """Compute a shard on a worker, into the folder if it is shared; otherwise return the bytes of its file."""
    if other := _other_versions("a worker", _versions(), expected=versions):
        raise InputError(other)
    if is_of(Path(folder), described):
        compute_shard(described, shard, Path(folder), threads=1, every=every)
        return None
    with TemporaryDirectory() as own:
        return compute_shard(described, shard, Path(own), threads=1).read_bytes()


def _result(future: Any, shard: Shard, client: Any) -> bytes | None:
    distributed = _dask()
    if future.status == "cancelled":
        raise RunError(f"{_address(client)}: the scheduler is gone, or has forgotten shard {shard}")
    try:
        content: bytes | None = future.result()
    except distributed.KilledWorker as error:
        raise RunError(
            f"shard {shard}: {error.allowed_failures + 1} workers have died over it, perhaps for lack of memory"
        ) from None
    return content


def _key(described: Description, shard: Shard) -> str:
    return f"sgdsim-{described.id}-{shard.number}"


@dataclass(frozen=True)
class _Machine:
    """Properties of a worker's machine on which numbers and kernels may depend."""

    versions: Mapping[str, str]
    processor: str
    features: frozenset[str]

    def lacking(self, worker: str) -> str:
        """Message about features of the target that the processor lacks; empty if it has all."""
        needed = TARGETS.get(self.processor)
        return f"{worker} has no {needed}, which {self.processor} has" if needed not in (None, *self.features) else ""

    def not_for(self, target: str | None, worker: str) -> str:
        """Message that the worker compiles for another target than it was told to; empty if it does not."""
        if target in (None, self.processor):
            return ""
        return (
            f"{worker} compiles for {self.processor}, not for {target}: without a nanny it does not begin anew; "
            f"let it begin with {' '.join(f'{name}={value}' for name, value in variables(str(target)).items())}"
        )

    def differing(self, worker: str, other: _Machine, of: str) -> str:
        """Message about the differences from the processor of another worker."""
        common = f"--cpu-target {next(iter(TARGETS))} compiles for all"
        if self.processor != other.processor:
            return f"{worker} is {self.processor}, and {of} {other.processor}: {common}"
        differ = sorted(self.features ^ other.features)
        if self.processor in TARGETS or not differ:
            return ""
        return f"{worker} and {of} differ in {', '.join(differ[:_MOST_NAMED])}: {common}"


def _machine() -> _Machine:
    return _Machine(_versions(), processor(), frozenset(features()))


def _versions() -> dict[str, str]:
    """Versions of the libraries that must be the same on all workers."""
    return {"sgdsim": __version__, "numba": version("numba")}


def _other_versions(worker: str, versions: Mapping[str, str], expected: Mapping[str, str] | None = None) -> str:
    """Message about the libraries whose versions differ on a worker; empty if none does."""
    expected = _versions() if expected is None else expected
    other = {name: wanted for name, wanted in expected.items() if versions[name] != wanted}
    said = "; ".join(f"{name} {versions[name]}, and here is {wanted}" for name, wanted in other.items())
    return f"{worker} has {said}" if said else ""


def _refuse(problems: Iterable[str]) -> None:
    found = [problem for problem in problems if problem]
    if found:
        more = f"; and {len(found) - _MOST_NAMED} more workers" if len(found) > _MOST_NAMED else ""
        raise InputError("; ".join(found[:_MOST_NAMED]) + more)


def _address(client: Any) -> str:
    return str(client.scheduler.address if client.scheduler else "the cluster")


def _dask() -> Any:
    try:
        import distributed
    except ImportError:
        raise InputError("--dask: needs Dask, which is not installed: pip install 'sgdsim[distributed]'") from None
    return distributed
