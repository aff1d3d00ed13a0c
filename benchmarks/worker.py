"""A process that runs one peer on so many threads, or on a GPU, on request; `Worker` is the other end.

Every peer has a process of its own, so that environment variables can set its threads, and all are alive at once, so
that their turns can alternate. Requests and answers are lines of JSON; the first line says whether the peer is fit.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from functools import cache, partial
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from benchmarks import check, peers
from benchmarks.jobs import Job

_THREAD_VARIABLES = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMBA_NUM_THREADS")
# Threads of OpenMP that wait in a loop starve each other when anything else runs: PyTorch took 5 to 10 times as long.
_ON_CPU = {"JAX_PLATFORMS": "cpu", "OMP_WAIT_POLICY": "PASSIVE"}
# Several processes share the GPU: none may take all of its memory.
_ON_GPU = {"JAX_PLATFORMS": "cuda", "XLA_PYTHON_CLIENT_PREALLOCATE": "false"}


class PeerError(Exception):
    """A peer cannot do a job; the message is one line."""


class Worker:
    """A peer in its process; used as a context, it ends it.

    Parameters
    ----------
    peer
        A key of `peers.PEERS`, or of `peers.GPU_PEERS`.
    threads
        How many it may use on the CPU; 1 also binds it to one processor.
    device
        ``cpu`` or ``cuda``.
    """

    def __init__(self, peer: str, threads: int = 1, device: str = "cpu") -> None:
        if device == "cpu":
            environment = {**os.environ, **_ON_CPU, **dict.fromkeys(_THREAD_VARIABLES, str(threads))}
            if threads == 1:
                environment["XLA_FLAGS"] = "--xla_cpu_multi_thread_eigen=false intra_op_parallelism_threads=1"
        else:
            environment = {**os.environ, **_ON_GPU}
        self._name = f"{peer} on {threads} threads" if device == "cpu" else f"{peer} on {device}"
        self._process = subprocess.Popen(
            [sys.executable, "-m", "benchmarks.worker", peer, str(threads), device],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=environment,
            cwd=Path(__file__).parent.parent,
        )

    def greeting(self) -> str:
        """Read once, before anything is asked: the name of the GPU, nothing on the CPU; `PeerError` if it is unfit."""
        return str(self._answer()["gpu"])

    def ask(self, variant: str, job: Job, compare: bool = True) -> dict[str, Any]:
        """Simulate once; wall and processor seconds, and the statistics of the final state if it is to be compared.

        Raises
        ------
        PeerError
            If the peer fails.
        """
        assert self._process.stdin is not None
        request = {"variant": variant, "job": job.describe(), "compare": compare}
        with suppress(BrokenPipeError):  # it has ended, as reading will tell
            self._process.stdin.write(json.dumps(request) + "\n")
            self._process.stdin.flush()
        return self._answer()

    def _answer(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise PeerError(f"{self._name} ended with exit code {self._process.wait()}")
        answer: dict[str, Any] = json.loads(line)
        if "error" in answer:
            raise PeerError(answer["error"])
        return answer

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, place: TracebackType | None
    ) -> None:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.close()
        self._process.wait()
        self._process.stdout.close()


def main() -> None:
    """Answer requests until there are no more."""
    peer, threads, device = sys.argv[1], int(sys.argv[2]), sys.argv[3]
    if device == "cpu" and threads == 1 and hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)  # whatever the peer prints is not an answer
    known = peers.PEERS if device == "cpu" else peers.GPU_PEERS

    @cache
    def prepared(variant: str, text: str) -> peers.Simulate:
        job = Job(**json.loads(text))
        return known[peer].models[job.model][variant](job, threads)

    def simulate(request: dict[str, Any]) -> dict[str, Any]:
        wall, cpu = time.perf_counter(), time.process_time()
        run = prepared(request["variant"], json.dumps(request["job"]))
        state = run()
        seconds = {"wall": time.perf_counter() - wall, "cpu": time.process_time() - cpu}
        if hasattr(run, "seconds"):  # by its own clock, preparations excepted
            seconds["own"] = run.seconds
        return {**seconds, "statistics": check.statistics(state) if request["compare"] else {}}

    def answer(action: Callable[[], dict[str, Any]]) -> None:
        try:
            said = action()
        except Exception as error:  # it is named in the report, and the others go on
            said = {"error": f"{type(error).__name__}: {error}".splitlines()[0]}
        answers.write(json.dumps(said) + "\n")

    answer(lambda: {"gpu": known[peer].gpu() if device == "cuda" else ""})
    for line in sys.stdin:
        answer(partial(simulate, json.loads(line)))


if __name__ == "__main__":
    main()
