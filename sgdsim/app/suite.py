"""The suite of `sgdsim suite`: models with exact means and variances, with which any simulator of SGD can be tested.

In every model the gradients are affine in the parameters, so their moments obey a closed recursion at any learning rate
(`sgdsim.theory.methods.moment_recursion`). No number of the suite comes from a simulation, and its files can be used
without this package. The rules of acceptance are those of the stochastic test suite of systems biology, DSMTS: Evans,
Gillespie & Wilkinson, Bioinformatics 24, 285 (2008).
"""

from __future__ import annotations

import csv
import io
import json
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cache, cached_property
from math import erfc, inf, sqrt
from pathlib import Path
from typing import Any

import numpy as np

from sgdsim.base import take
from sgdsim.base.errors import InputError, unknown_name
from sgdsim.base.files import atomic_file, check_input, unreadable
from sgdsim.base.numbers import read_number
from sgdsim.base.version import __version__
from sgdsim.input.call import read_loss, read_optimizer
from sgdsim.model.run import Run
from sgdsim.model.schedules import Schedule
from sgdsim.theory.methods.moment_recursion import HIGHEST, recursion

STEPS = (1, 2, 5, 10, 20, 50)
"""Numbers of completed steps at which moments are given; the last is the length of the run."""
TRAJECTORIES = 10_000
"""Fewest trajectories of results, so that the errors of variances are nearly normal."""
MEAN_LIMIT, VARIANCE_LIMIT = 3.0, 5.0
"""Deviations in standard errors beyond which a mean and a variance fail."""
RARE = 1e-3
"""Probability with which a right simulator is rejected as a whole, if all its rows were independent."""

COLUMNS = ("case", "step", "quantity", "trajectories", "mean", "variance")
"""Columns of a table of results."""
_EXACT = 1e-9  # relative tolerance for quantities without spread


@dataclass(frozen=True, eq=False)
class Case:
    """One model of the suite.

    Parameters
    ----------
    name
        Name of the model in files.
    loss, initial
        Loss and starts, see `simulate`.
    tables
        Constants, noise and so on, by the name of the argument of `simulate`.
    optimizer, settings
        Optimizer, and settings such as ``momentum``, see `simulate`.
    learning_rate
        A number or a schedule.
    """

    name: str
    loss: str
    initial: Mapping[str, Any]
    tables: Mapping[str, Any] = field(default_factory=dict)
    optimizer: str = "sgd"
    settings: Mapping[str, Any] = field(default_factory=dict)
    learning_rate: str = "0.2"

    @cached_property
    def run(self) -> Run:
        """Run of the model."""
        loss, starts = read_loss(self.loss, self.initial, **self.tables)
        rule = read_optimizer(self.optimizer, **self.settings)
        return Run(loss, rule, Schedule(self.learning_rate), starts, TRAJECTORIES, STEPS[-1])

    @cached_property
    def expected(self) -> dict[tuple[int, str], tuple[float, float, float]]:
        """Mean, variance and fourth central moment, by step and parameter."""
        found, moments = {}, recursion(self.run, HIGHEST)
        for step in STEPS:
            after = moments.after(step)
            for name in self.run.loss.parameters:
                mean, variance, _, fourth = map(float, after.cumulants(name))
                variance = max(variance, 0.0)
                found[step, name] = mean, variance, max(fourth + 3 * variance**2, variance**2)
        return found

    def described(self) -> dict[str, Any]:
        """Plain data about the model, with all that another simulator needs."""
        run = self.run
        loss, optimizer = run.loss, run.optimizer
        tables = run.describe()
        gradient = loss.gradient
        if optimizer.rule.population:
            gradient = tuple(loss.population.diff(parameter) for parameter in loss.theta)
        return {
            "case": self.name,
            "loss of a sample": loss.formula,
            "gradient of a sample": dict(zip(loss.parameters, map(str, gradient), strict=True)),
            "parameters": tables["loss"]["parameters"],
            "constants": dict(loss.constants),
            "noise": tables["loss"]["noise"],
            "data": tables["loss"]["data"],
            "definitions": tables["loss"]["define"],
            "batch size": optimizer.batch_size,
            "sampling": optimizer.sampling,
            "step": [f"{name} = {formula}" for name, formula in optimizer.assignments()],
            "hyperparameters": dict(optimizer.values),
            "state at the start": dict.fromkeys(optimizer.rule.state, 0.0),
            "learning rates": run.schedule.rates(run.steps).tolist(),
        }


_TRAP = "a*x**2/2 + s*z*x"
_WITH = {"constants": {"a": 1.0, "s": 0.5}}
_NOISES = ("normal", "laplace", "uniform:-1,1", "lognormal:0,0.3", "exponential", "table:-1@0.9,9@0.1", "bernoulli:0.3")
_SCHEDULES = {
    "constant": "0.05",
    "fast": "1.9",
    "linear": "linear:0.5,0.01",
    "cosine": "cosine:0.5,0.01",
    "exponential": "exponential:0.5,20",
    "step": "step:0.4,0.5,10",
    "inverse": "inverse:0.5,10",
    "harmonic": "harmonic:0.8,1",
    "warm-up": "wsd:0.4,10,20",
}
_RULES: dict[str, tuple[str, dict[str, Any]]] = {
    "sgd": ("sgd", {}),
    "momentum": ("momentum:momentum=0.8", {}),
    "nesterov": ("nesterov:momentum=0.8", {}),
    "decay": ("sgd", {"weight_decay": 0.2}),
    "decoupled": ("sgd", {"weight_decay": "0.2:decoupled"}),
    "batch": ("sgd", {"batch_size": 4}),
    "momentum-batch": ("momentum:momentum=0.5", {"batch_size": 2}),
}


@cache  # moments of a model are computed once, for the table, the instructions and every score
def cases() -> tuple[Case, ...]:
    """All models of the suite.

    Examples
    --------
    >>> len(cases()) >= 60, cases()[0].name
    (True, 'trap-normal')
    """
    return (*_traps(), *_slopes(), *_regressions(), *_planes(), *_tables())


def _short(noise: str) -> str:
    return noise.partition(":")[0]


def _traps() -> Iterator[Case]:
    """Models of a quadratic with additive noise, with every distribution, schedule, start and rule."""
    x = {"x": 1.0}
    for noise in _NOISES:
        yield Case(f"trap-{_short(noise)}", _TRAP, x, {**_WITH, "noise": {"z": noise}})
    normal = {**_WITH, "noise": {"z": "normal"}}
    for name, schedule in _SCHEDULES.items():
        yield Case(f"rate-{name}", _TRAP, x, normal, learning_rate=schedule)
    for name, (rule, settings) in _RULES.items():
        if name != "sgd":
            yield Case(f"trap-{name}", _TRAP, x, normal, rule, settings)
    for start in ("normal:1,0.5", "uniform:-2,2", "rademacher", "laplace:1,0.5"):
        yield Case(f"trap-from-{_short(start)}", _TRAP, {"x": start}, normal)
    yield Case("trap-langevin", _TRAP, x, normal, "langevin:temperature=0.1")
    yield Case("trap-full-gradient", _TRAP, {"x": "normal:1,0.5"}, normal, "gradient_descent")


def _slopes() -> Iterator[Case]:
    """Models with a curvature that differs between samples, so that the noise grows with the distance."""
    for noise in _NOISES[:5]:
        for name in ("sgd", "momentum"):
            rule, settings = _RULES[name]
            tables = {"constants": {"a": 1.0, "s": 0.5}, "noise": {"z": noise, "e": "normal:0,0.2"}}
            yield Case(f"slope-{_short(noise)}-{name}", "(a + s*z)*x**2/2 + e*x", {"x": 1.0}, tables, rule, settings)


def _regressions() -> Iterator[Case]:
    """Models of linear regression with a noisy target, with one weight and with two."""
    for name, (rule, settings) in _RULES.items():
        tables = {"constants": {"s": 0.5}, "noise": {"u": "rademacher", "e": "normal"}, "define": {"y": "0.8*u + s*e"}}
        yield Case(f"regression-{name}", "(w*u - y)**2/2", {"w": 0.0}, tables, rule, settings)
        tables = {"constants": {"s": 0.5}, "noise": {"u": "normal", "e": "laplace"}, "define": {"y": "0.8*u + s*e"}}
        yield Case(f"regression-wide-{name}", "(w*u - y)**2/2", {"w": 0.0}, tables, rule, settings, "0.1")
    noise = {"u": "uniform:-1,1", "v": "normal", "e": "normal:0,0.3"}
    for name in ("sgd", "decay", "batch"):
        rule, settings = _RULES[name]
        start = {"w": 1.0, "b": 0.0}
        yield Case(f"regression-two-{name}", "(w*u + b*v - u - e)**2/2", start, {"noise": noise}, rule, settings)


def _planes() -> Iterator[Case]:
    """Models of two coupled parameters with common noise."""
    formula = "a*x**2/2 + b*y**2/2 + c*x*y + z*x + (k*z + e)*y"
    constants = {"a": 1.0, "b": 0.3, "c": 0.2, "k": 0.5}
    for name, (rule, settings) in _RULES.items():
        if name != "momentum-batch":
            tables = {"constants": constants, "noise": {"z": "normal", "e": "rademacher"}}
            yield Case(f"plane-{name}", formula, {"x": 1.0, "y": -1.0}, tables, rule, settings)


def _tables() -> Iterator[Case]:
    """Models with rows of data as samples, drawn with and without replacement."""
    data = {"u": [-1.5, -0.5, 0.2, 0.9, 1.4], "y": [-1.1, -0.6, 0.4, 0.5, 1.3]}
    batches: dict[str, dict[str, Any]] = {
        "data-one": {},
        "data-two": {"batch_size": 2},
        "data-different": {"batch_size": 2, "sampling": "batch"},
        "data-most": {"batch_size": 4, "sampling": "batch"},
    }
    for name, settings in batches.items():
        yield Case(name, "(w*u - y)**2/2", {"w": 0.0}, {"data": data}, "sgd", settings)
    yield Case("data-momentum", "(w*u - y)**2/2", {"w": 0.0}, {"data": data}, "momentum:momentum=0.8", {}, "0.05")


def write_suite(folder: str | os.PathLike[str], *, overwrite: bool = False) -> int:
    """Write the files of the suite, with instructions.

    Parameters
    ----------
    folder
        Folder to create; ``suite.json`` in it describes the models, ``expected.csv`` has their moments.
    overwrite
        True if files in it may be replaced.

    Returns
    -------
    int
        Number of models.

    Raises
    ------
    InputError
        For a folder that cannot be written to.

    Examples
    --------
    >>> from tempfile import TemporaryDirectory
    >>> with TemporaryDirectory() as folder:
    ...     number = write_suite(f"{folder}/suite")
    ...     sorted(path.name for path in Path(folder, "suite").iterdir())
    ['README.md', 'expected.csv', 'suite.json']
    """
    target = Path(take.path(folder, "folder"))
    texts = {"README.md": _readme, "suite.json": _description, "expected.csv": _expected}
    if not take.flag(overwrite, "overwrite"):
        for name in texts:
            if (target / name).exists():
                raise InputError(f"{target / name}: the file exists, and --overwrite replaces it")
    try:
        target.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"{target}: cannot make this folder: {error.strerror}") from None
    for name, text in texts.items():
        with atomic_file(target / name) as temporary:
            temporary.write_text(text(), encoding="utf-8")
    return len(cases())


def _description() -> str:
    about = {"written by": f"sgdsim {__version__}", "steps": STEPS, "trajectories": TRAJECTORIES}
    return json.dumps({**about, "cases": [case.described() for case in cases()]}, indent=1, allow_nan=False) + "\n"


def _expected() -> str:
    text = io.StringIO()
    table = csv.writer(text, lineterminator="\n")
    table.writerow(("case", "step", "quantity", "mean", "variance", "fourth_central_moment"))
    for case in cases():
        for (step, name), moments in case.expected.items():
            table.writerow((case.name, step, name, *map(repr, moments)))
    return text.getvalue()


def _readme() -> str:
    numbers = sum(len(case.expected) for case in cases())
    by_chance = numbers * erfc(MEAN_LIMIT / sqrt(2))
    return f"""# Exact moments of SGD, for any simulator

`suite.json` describes {len(cases())} models: the gradient of one sample, constants, noise, where parameters start, the
formulas of a step in order, and the learning rate of each step. `expected.csv` has the exact mean, variance and fourth
central moment of each parameter after {", ".join(map(str, STEPS))} steps. No number in it was simulated.

A step draws a batch of samples, each with noise of its own, and takes the mean of their gradients; with data, a sample
is a row, drawn with replacement, or different ones for the sampling `batch`. In the formulas of a step, `theta` is each
parameter in turn, `t` the number of completed steps, and `xi` a standard normal number of each parameter's own.

Simulate n = {TRAJECTORIES:,} trajectories or more of each model and write a table with the columns
`{",".join(COLUMNS)}`, the variance with n - 1. With m, v and f for the exact mean,
variance and fourth central moment,

    Z = sqrt(n) (mean - m)/sqrt(v),    |Z| < {MEAN_LIMIT:g},
    Y = sqrt(n) (variance - v)/sqrt(f - v^2 (n - 3)/(n - 1)),    |Y| < {VARIANCE_LIMIT:g}.

Where v = 0, mean and variance must be exact to rounding. Of {numbers} means a right simulator fails about
{by_chance:.1f} by chance, of the variances none. `sgdsim suite --score TABLE.csv` computes this, and rejects what fails
so often that a right simulator would with a probability of about {RARE:g}, as if the steps of a model were independent.
"""


@dataclass(frozen=True)
class Score:
    """The outcome of a table of results.

    Attributes
    ----------
    means, variances
        Numbers of means and of variances that were compared.
    failed
        Case, step, quantity, statistic and deviation in standard errors, of each that is beyond its limit.
    missing
        Cases without results.
    """

    means: int
    variances: int
    failed: tuple[tuple[str, int, str, str, float], ...]
    missing: tuple[str, ...]

    @property
    def allowed(self) -> int:
        """Largest number of means that fail by chance with a probability of at least `RARE`."""
        from scipy.stats import binom

        return int(binom.isf(RARE, max(self.means, 1), erfc(MEAN_LIMIT / sqrt(2))))

    @property
    def accepted(self) -> bool:
        """True if no more fail than a correct simulator may have by chance, and no case is missing."""
        means = sum(statistic == "mean" for *_, statistic, _ in self.failed)
        certain = any(statistic == "variance" or abs(z) == inf for *_, statistic, z in self.failed)
        return not self.missing and not certain and means <= self.allowed

    def table(self) -> str:
        """Text with the failures and the verdict."""
        lines = [
            f"{case}: {statistic} of {name} after {step} steps is off by {z:+.2f} standard errors"
            for case, step, name, statistic, z in self.failed
        ]
        lines += [f"missing: {', '.join(self.missing)}"] if self.missing else []
        verdict = "accepted" if self.accepted else "REJECTED"
        counted = f"{self.means} means and {self.variances} variances, {len(self.failed)} beyond the limits"
        return "\n".join([*lines, f"{verdict}: {counted}; up to {self.allowed} means may be, by chance"])


def score(path: str | os.PathLike[str]) -> Score:
    """Compare a table of another simulator's results with the suite.

    Parameters
    ----------
    path
        CSV file with the columns case, step, quantity, trajectories, mean and variance.

    Raises
    ------
    InputError
        For a file that is not such a table, with the line, the column and what was expected.
    """
    known = {case.name: case for case in cases()}
    failed: list[tuple[str, int, str, str, float]] = []
    seen, rows = set[str](), 0
    for where, row in _rows(take.path(path, "path")):
        if row["case"] not in known:
            raise InputError(f"{where}: {unknown_name('case', row['case'], known)}")
        expected = known[row["case"]].expected
        step, name, n = int(_number(where, row, "step")), row["quantity"], _number(where, row, "trajectories")
        if (step, name) not in expected:
            pairs = ", ".join(dict.fromkeys(f"{name}" for _, name in expected))
            steps = ", ".join(map(str, STEPS))
            raise InputError(f"{where}: {name} after {step} steps, expected {pairs} after {steps}")
        if n < 2:
            raise InputError(f"{where}: trajectories: {n:g}, expected 2 or more")
        mean, variance, fourth = expected[step, name]
        given = _number(where, row, "mean"), _number(where, row, "variance")
        z = _deviation(given[0], mean, sqrt(variance / n), max(abs(mean), 1.0))
        of_square = fourth - variance**2 * (n - 3) / (n - 1)  # n times the exact variance of the sample variance
        y = _deviation(given[1], variance, sqrt(max(of_square, 0.0) / n), 1.0)
        failed += [(row["case"], step, name, "mean", z)] if abs(z) >= MEAN_LIMIT else []
        failed += [(row["case"], step, name, "variance", y)] if abs(y) >= VARIANCE_LIMIT else []
        seen.add(row["case"])
        rows += 1
    missing = tuple(name for name in known if name not in seen)
    return Score(rows, rows, tuple(failed), missing)


def _deviation(given: float, expected: float, error: float, scale: float) -> float:
    """Deviation in standard errors; without a standard error zero, or infinity if it is beyond rounding."""
    difference = given - expected
    if error <= _EXACT * scale * 1e-3:
        return 0.0 if abs(difference) <= _EXACT * scale else float(np.copysign(inf, difference))
    return difference / error


def _rows(path: str | os.PathLike[str]) -> Iterator[tuple[str, Mapping[str, str]]]:
    """Rows of a table, each with its place in the file."""
    check_input(Path(path))
    try:
        text = Path(path).read_text(encoding="utf-8-sig")
    except OSError as error:
        raise unreadable(path, error) from None
    except ValueError:
        raise InputError(f"{path}: is not a text file, expected CSV") from None
    table = csv.DictReader(io.StringIO(text))
    if absent := [column for column in COLUMNS if column not in (table.fieldnames or ())]:
        raise InputError(f"{path}: there is no column {', '.join(absent)}, expected {', '.join(COLUMNS)}")
    for number, row in enumerate(table, 2):
        if any(row[column] is None for column in COLUMNS):
            raise InputError(f"{path}, line {number}: expected {len(COLUMNS)} values")
        yield f"{path}, line {number}", {key: str(value).strip() for key, value in row.items() if key in COLUMNS}


def _number(where: str, row: Mapping[str, str], column: str) -> float:
    number = read_number(row[column])
    if number is None:
        raise InputError(f"{where}: {column}: {row[column]!r}, expected a number")
    return float(number)
