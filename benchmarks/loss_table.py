"""The second table: other losses than the reference job's, one row each."""

from __future__ import annotations

import statistics
from collections.abc import Mapping
from dataclasses import dataclass, field

from benchmarks.bar import Bar, table
from benchmarks.losses import LINEAR_NETWORKS, SETTINGS
from benchmarks.tasks import Timing, Timings, ratio

# Each program that ours is compared with, and the least ratio of those that it is held against.
RATIOS = {
    ("NumPy", "float64"): 5.0,
    ("JAX", "vmap of grad, float32"): 6.0,
    ("JAX", "by hand, float32"): 4.0,
    ("JAX", "by hand with rbg, float32"): None,
    ("PyTorch", "by hand, float32"): None,
    ("naive numba", "float64"): None,
}
# The least ratio to JAX's `vmap` of `grad` of a network of tanh, most of whose time is that of tanh.
OF_TANH = {("JAX", "vmap of grad, float32"): 4.0}
# Nanoseconds a step in float32, and how much longer a parameter of a linear network may take than one of the smallest.
FLOAT32_NANOSECONDS, OF_SMALLEST = {"deep_linear_network": 30.0}, 1.5
# Processor seconds from a loss's text to machine code, and those over JAX's first call by `vmap` of `grad`: the most
# for a loss of so many parameters at most.
COMPILE_SECONDS = {8: 1.5, 32: 4.0, 512: 3.0}
COMPILE_RATIO = {8: 1.0, 32: 1.5, 512: 1.5}
# Each variant of ours with the most that it may take of the time of another.
OF_POLYNOMIAL, RECORDING_PERCENT = 2.5, 10.0


@dataclass
class LossResults:
    """All that was measured of other losses.

    Attributes
    ----------
    timings
        Each loss by every program, on one thread.
    alone
        Ours alone: the step of some losses, with recording, and with a polynomial in place of the loss's function.
    compilations, first_calls
        Processor seconds that the kernels of each loss take, and the first call of JAX's `vmap` of `grad`, each in a
        fresh process; empty when not measured.
    common
        Those of what all losses share.
    """

    timings: Timings
    alone: Timings
    compilations: Mapping[str, float] = field(default_factory=dict)
    first_calls: Mapping[str, float] = field(default_factory=dict)
    common: float | None = None

    @property
    def groups(self) -> tuple[Timings, Timings]:
        """All timings."""
        return self.timings, self.alone

    def ours(self, dtype: str = "float64") -> dict[str, Timing]:
        """Ours by loss, with a state of this type; none where it was not timed."""
        return {
            task.job.model: timing
            for task, timing in self.timings.items()
            if (task.peer, task.variant) == ("sgdsim", dtype) and not timing.problem
        }

    def ratios(self, peer: str, variant: str, dtype: str = "float64") -> dict[str, float]:
        """Time of a program relative to ours with this number type, for each loss that was timed."""
        ours = self.ours(dtype)
        return {
            task.job.model: ratio(timing, ours[task.job.model])
            for task, timing in self.timings.items()
            if (task.peer, task.variant) == (peer, variant) and not timing.problem and task.job.model in ours
        }

    def of_variants(self, variant: str, inverse: bool = False) -> dict[str, float]:
        """A variant's time over that of the step as it is, or the inverse, by loss."""
        steps = {task.job.model: timing for task, timing in self.alone.items() if task.variant == "float64"}
        pairs = {
            task.job.model: (timing, steps[task.job.model])
            for task, timing in self.alone.items()
            if task.variant == variant and not timing.problem and not steps[task.job.model].problem
        }
        return {model: ratio(*(pair[::-1] if inverse else pair)) for model, pair in pairs.items()}


@dataclass(frozen=True)
class _Column:
    """One figure of each loss, with its bar as in `Bar`, or none."""

    figure: str
    bar: float | Mapping[int, float] | None
    values: Mapping[str, float]
    at_least: bool = False
    unit: str = ""
    of_tanh: float | None = None

    @property
    def heading(self) -> str:
        if self.bar is None:
            return self.figure
        texts = [f"{self.bar:g}"] if isinstance(self.bar, float) else [f"{bar:g}" for bar in self.bar.values()]
        return f"{self.figure} ({'≥' if self.at_least else '≤'} {' or '.join(texts)}{self.unit})"

    def bar_of(self, model: str) -> float:
        if model.startswith("tanh_network") and self.of_tanh is not None:
            return self.of_tanh
        if isinstance(self.bar, Mapping):
            return next(bar for most, bar in self.bar.items() if len(SETTINGS[model].initial) <= most)
        assert self.bar is not None
        return self.bar

    def bars(self) -> dict[str, Bar]:
        if self.bar is None:
            return {}
        return {
            model: Bar(f"{model}: {self.figure}", self.bar_of(model), value, self.at_least, self.unit)
            for model, value in self.values.items()
        }

    def cells(self, complete: bool) -> dict[str, str]:
        missed = {model for model, bar in self.bars().items() if complete and not bar.met}
        texts = {model: f"{value:.3g}" for model, value in self.values.items()}
        return {model: f"**{text}**" if model in missed else text for model, text in texts.items()}


def _columns(results: LossResults) -> list[_Column]:
    ratios = {model: results.compilations[model] / first for model, first in results.first_calls.items()}
    recording = {model: (value - 1) * 100 for model, value in results.of_variants("recording").items()}
    return [
        *(_ratio_column(results, *key, bar) for key, bar in RATIOS.items()),
        # A state of float32 on both sides.
        *(
            _ratio_column(results, *key, bar, dtype="float32")
            for key, bar in RATIOS.items()
            if bar is not None and "float32" in key[1]
        ),
        _Column("ours / a polynomial", OF_POLYNOMIAL, results.of_variants("polynomial", inverse=True)),
        _Column("a parameter / one of the smallest", OF_SMALLEST, _a_parameter(results)),
        *(
            _Column("ours in float32", bar, {model: value}, unit=" ns")
            for model, bar in FLOAT32_NANOSECONDS.items()
            for value in _median(results.ours("float32"), model)
        ),
        _Column("recording, on top", RECORDING_PERCENT, recording, unit=" %"),
        _Column("compilation", COMPILE_SECONDS, results.compilations, unit=" s"),
        _Column("compilation / first call of JAX", COMPILE_RATIO, ratios),
    ]


def _ratio_column(results: LossResults, peer: str, variant: str, bar: float | None, dtype: str = "float64") -> _Column:
    ours = "ours" if dtype == "float64" else f"ours in {dtype}"
    values = results.ratios(peer, variant, dtype)
    return _Column(f"{peer} {variant} / {ours}", bar, values, at_least=True, of_tanh=OF_TANH.get((peer, variant)))


def bars(results: LossResults) -> list[Bar]:
    """Every figure of the losses that were measured."""
    return [bar for column in _columns(results) for bar in column.bars().values()]


def report(results: LossResults, complete: bool = True) -> str:
    """One row a loss, with what misses its bar in bold; small jobs are not held against it."""
    columns = _columns(results)
    cells = [column.cells(complete) for column in columns]
    ours, z = (results.ours(), results.ours("float32")), _largest_z(results)
    rows = (
        [model, str(len(SETTINGS[model].initial)), str(SETTINGS[model].deviates)]
        + ["".join(f"{time:.2f}" for time in _median(timings, model)) for timings in ours]
        + [cell.get(model, "") for cell in cells]
        + [z[model]]
        for model in z
    )
    head = [
        "loss",
        "parameters",
        "normals",
        "ours, ns a trajectory-step",
        "in float32",
        *(c.heading for c in columns),
        "largest z",
    ]
    return table(head, rows)


def _a_parameter(results: LossResults) -> dict[str, float]:
    """Time per parameter of each linear network, relative to the smallest; all have equal operations per parameter."""
    ours = results.ours()
    found = {model: ours[model] for model in LINEAR_NETWORKS if model in ours}
    smallest = found.get(LINEAR_NETWORKS[0])
    if smallest is None:
        return {}
    size = {model: len(SETTINGS[model].initial) for model in found}
    first = size[LINEAR_NETWORKS[0]]
    return {model: ratio(timing, smallest) * first / size[model] for model, timing in found.items()}


def _median(timings: Mapping[str, Timing], model: str) -> list[float]:
    return [statistics.median(timings[model].nanoseconds)] if model in timings else []


def _largest_z(results: LossResults) -> dict[str, str]:
    found: dict[str, float] = {}
    for task, timing in results.timings.items():
        found[task.job.model] = max(found.get(task.job.model, 0.0), timing.z or 0.0)
    return {model: f"{z:.1f}" for model, z in found.items()}
