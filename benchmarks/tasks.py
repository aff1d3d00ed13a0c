"""Timing of tasks: every round runs each task once, so that other load on the machine slows all alike."""

from __future__ import annotations

import statistics
import sys
from collections.abc import Iterable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field

from benchmarks import check
from benchmarks.jobs import Job
from benchmarks.worker import PeerError, Worker


@dataclass(frozen=True)
class Task:
    """One program doing one job.

    Parameters
    ----------
    peer, variant
        Keys of `peers.PEERS` and of its models' variants.
    threads
        How many it may use.
    job
        What is simulated.
    """

    peer: str
    variant: str
    threads: int
    job: Job

    def __hash__(self) -> int:
        return hash((self.peer, self.variant, self.threads, self.job.model, self.job.trajectories, self.job.steps))


@dataclass
class Timing:
    """Times of a task.

    Attributes
    ----------
    first
        Seconds on the wall of the first call, compilation included.
    wall, processor
        Seconds of each round, on the wall and of processor time.
    z
        Largest deviation from the reference in standard errors; None where the state is not compared.
    error
        What the program said when it failed.
    """

    task: Task
    first: float = 0.0
    wall: list[float] = field(default_factory=list)
    processor: list[float] = field(default_factory=list)
    z: float | None = None
    error: str = ""

    @property
    def wrong(self) -> bool:
        """True if the task does not simulate the job; then it is not timed."""
        return self.z is not None and self.z > check.Z_LIMIT

    @property
    def problem(self) -> str:
        """Why it is not timed."""
        return self.error or ("another distribution" if self.wrong else "")

    @property
    def nanoseconds(self) -> list[float]:
        """Per trajectory-step, of each round: processor time of one thread, which others do not lengthen, else wall."""
        seconds = self.processor if self.task.threads == 1 and self.processor else self.wall
        return [second / self.task.job.work * 1e9 for second in seconds]


Timings = Mapping[Task, Timing]


def ratio(one: Timing, other: Timing) -> float:
    """Median over the rounds of one's time per trajectory-step over the other's."""
    return statistics.median(a / b for a, b in zip(one.nanoseconds, other.nanoseconds, strict=True))


def speedup(one: Timing, many: Timing) -> float:
    """Median over the rounds of the time on the wall on one thread over that on many."""
    return statistics.median(a / b for a, b in zip(one.wall, many.wall, strict=True))


class Bench:
    """Worker processes, started when first needed and alive until the end.

    Parameters
    ----------
    device
        ``cpu``; or ``cuda``, where each model has a process of its own, so that all compile side by side.
    """

    def __init__(self, device: str = "cpu") -> None:
        self._device = device
        self._workers: dict[tuple[str, int, str], Worker] = {}
        self._stack = ExitStack()

    def __enter__(self) -> Bench:
        return self

    def __exit__(self, *reason: object) -> None:
        self._stack.close()

    def measure(self, tasks: Sequence[Task], rounds: int, reference: Task | None = None) -> dict[Task, Timing]:
        """Run each task once untimed, check it against the reference task's state, then time it in turns.

        Parameters
        ----------
        tasks
            In the order of a round.
        rounds
            Timed calls of each.
        reference
            One of the tasks; the final states of the others must be distributed as its own.
        """
        timings = {task: Timing(task) for task in tasks}
        states = {task: self.prepare(timing) for task, timing in timings.items()}
        if reference is not None:
            for task, timing in timings.items():
                timing.z = 0.0 if task == reference else check.deviation(states[task], states[reference])
        self.time(timings.values(), rounds)
        return timings

    def prepare(self, timing: Timing) -> check.Statistics:
        """The first call, compilation included, and what it ends in."""
        _say(f"preparing {timing.task.peer}, {timing.task.variant}, threads: {timing.task.threads}")
        try:
            answer = self._worker(timing.task).ask(timing.task.variant, timing.task.job)
        except PeerError as error:
            timing.error = str(error)
            return {}
        timing.first = answer["wall"]
        found: check.Statistics = answer["statistics"]
        return found

    def time(self, timings: Iterable[Timing], rounds: int) -> None:
        """Every round runs each task once, but for those that have a problem."""
        for turn in range(rounds):
            _say(f"round {turn + 1} of {rounds}")
            for timing in timings:
                if not timing.problem:
                    self._time_once(timing)

    def warm_up(self, timing: Timing) -> None:
        """A call that is not timed, of another size than the first."""
        self._time_once(timing)
        timing.wall.clear()
        timing.processor.clear()

    def _time_once(self, timing: Timing) -> None:
        try:
            answer = self._worker(timing.task).ask(timing.task.variant, timing.task.job, compare=False)
        except PeerError as error:
            timing.error = str(error)
            return
        timing.wall.append(answer.get("own", answer["wall"]))
        if self._device == "cpu":
            timing.processor.append(answer["cpu"])

    def _worker(self, task: Task) -> Worker:
        key = task.peer, task.threads, "" if self._device == "cpu" else task.job.model
        if key not in self._workers:
            self._workers[key] = self._stack.enter_context(Worker(task.peer, task.threads, self._device))
            self._workers[key].greeting()
        return self._workers[key]


def _say(text: str) -> None:
    if sys.stderr.isatty():
        print(f"\r\033[K{text}", end="", file=sys.stderr, flush=True)
