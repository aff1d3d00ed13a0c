"""A process that runs one peer on so many threads, on request; `Worker` is the other end.

Every peer has a process of its own, so that environment variables can set its threads, and all are alive at once, so
that their turns can alternate. Requests and answers are lines of JSON.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from functools import cache
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from benchmarks import check, peers
from benchmarks.jobs import Job

_THREAD_VARIABLES = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMBA_NUM_THREADS")
# Threads of OpenMP that wait in a loop starve each other when anything else runs: PyTorch took 5 to 10 times as long.
_ENVIRONMENT = {"JAX_PLATFORMS": "cpu", "OMP_WAIT_POLICY": "PASSIVE"}


class Worker:
    """A peer in its process; used as a context, it ends it.

    Parameters
    ----------
    peer
        A key of `peers.PEERS`.
    threads
        How many it may use; 1 also binds it to one processor.
    """

    def __init__(self, peer: str, threads: int) -> None:
        environment = {**os.environ, **_ENVIRONMENT, **dict.fromkeys(_THREAD_VARIABLES, str(threads))}
        if threads == 1:
            environment["XLA_FLAGS"] = "--xla_cpu_multi_thread_eigen=false intra_op_parallelism_threads=1"
        self._name = f"{peer} on {threads} threads"
        self._process = subprocess.Popen(
            [sys.executable, "-m", "benchmarks.worker", peer, str(threads)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=environment,
            cwd=Path(__file__).parent.parent,
        )

    def ask(self, variant: str, job: Job) -> dict[str, Any]:
        """Simulate once; wall and processor seconds, and the statistics of the final state."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps({"variant": variant, "job": job.describe()}) + "\n")
        self._process.stdin.flush()
        answer = self._process.stdout.readline()
        if not answer:
            raise RuntimeError(f"{self._name} ended with exit code {self._process.wait()}")
        result: dict[str, Any] = json.loads(answer)
        return result

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.close()
        self._process.wait()
        self._process.stdout.close()


def main() -> None:
    """Answer requests until there are no more."""
    peer, threads = sys.argv[1], int(sys.argv[2])
    if threads == 1 and hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)  # whatever the peer prints is not an answer
    models = peers.PEERS[peer].models

    @cache
    def prepared(variant: str, text: str) -> peers.Simulate:
        job = Job(**json.loads(text))
        return models[job.model][variant](job, threads)

    for line in sys.stdin:
        request = json.loads(line)
        wall, cpu = time.perf_counter(), time.process_time()
        state = prepared(request["variant"], json.dumps(request["job"]))()
        seconds = {"wall": time.perf_counter() - wall, "cpu": time.process_time() - cpu}
        answers.write(json.dumps({**seconds, "statistics": check.statistics(state)}) + "\n")


if __name__ == "__main__":
    main()
