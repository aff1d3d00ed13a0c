"""The function `simulate`: from a formula and arrays to an ensemble in memory, as the command line does."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from sgdsim.app import dask_workers
from sgdsim.app.extending import extending, go_on
from sgdsim.app.in_shards import scenarios_of
from sgdsim.base import take, toml
from sgdsim.base.errors import InputError
from sgdsim.base.files import check_output
from sgdsim.ensemble import WHOLE, Ensemble
from sgdsim.input.call import read_loss, read_optimizer, read_rates, scenario_tables, starts_of_file
from sgdsim.model.loss import Loss
from sgdsim.model.observables import Observable
from sgdsim.model.optimizers import Optimizer
from sgdsim.model.recorder import Autocorrelation, Drift, Recorder, binned
from sgdsim.model.run import Run
from sgdsim.model.schedules import Schedule
from sgdsim.model.starts import Start
from sgdsim.simulation.checkpoints import seconds_between
from sgdsim.simulation.part_checkpoints import Part
from sgdsim.simulation.run_loop import simulate_runs, work
from sgdsim.simulation.unfinished import Description, unfinished

if TYPE_CHECKING:
    import sympy

    from sgdsim.app.kept_predictions import Told
    from sgdsim.input.scenario import Scenario

Rate = float | str | Schedule | np.ndarray | Callable[[int], float]


def simulate(
    loss: Loss | str | sympy.Expr | Mapping[str, Any],
    optimizer: Optimizer | str | Mapping[str, Any] | None = None,
    *,
    learning_rate: Rate | Sequence[float | str],
    initial: Mapping[str, Start | str | Sequence[Any] | np.ndarray] | None = None,
    trajectories: int | None = None,
    start_from: str | os.PathLike[str] | None = None,
    steps: int | None = None,
    time: float | None = None,
    seed: int = 0,
    constants: Mapping[str, Any] | None = None,
    each: Mapping[str, Any] | None = None,
    noise: Mapping[str, Any] | Sequence[str] | str | None = None,
    define: Mapping[str, Any] | None = None,
    direction: Mapping[str, Any] | None = None,
    state: Mapping[str, Any] | None = None,
    symmetry: Sequence[Any] | None = None,
    data: Any = None,
    momentum: float | None = None,
    batch_size: int | None = None,
    substeps: int | None = None,
    weight_decay: float | str | None = None,
    sampling: str | None = None,
    sweep: Mapping[str, Any] | None = None,
    common_noise: bool = False,
    predict: Sequence[str | Mapping[str, Any]] = (),
    automatic: bool = False,
    every: int | None = None,
    records: int | None = None,
    snapshots: Sequence[int | str] = (),
    snapshot_trajectories: int | None = None,
    observables: Mapping[str, Any] | None = None,
    histograms: Mapping[str, Sequence[float]] | None = None,
    quantiles: Sequence[float] = (),
    covariances: bool = False,
    autocorrelations: Mapping[str, Autocorrelation] | None = None,
    drifts: Mapping[str, Drift] | None = None,
    controls: Sequence[str] = (),
    antithetic: bool = False,
    stop: Sequence[str] = (),
    dtype: Any = "float64",
    noise_dtype: Any = "float32",
    title: str = "",
    threads: int | None = None,
    device: str = "cpu",
    cpu_target: str | None = None,
    progress: bool = False,
    output: str | os.PathLike[str] | None = None,
    save_scenario: str | os.PathLike[str] | None = None,
    overwrite: bool = False,
    resume: bool = False,
    checkpoint_every: float | str | None = None,
    client: Any = None,
    memory_limit: float | str | None = None,
    keep_state: bool = False,
) -> Ensemble:
    """Simulate independent SGD trajectories of a loss.

    Parameters
    ----------
    loss
        A formula, as text or as a SymPy expression; the name of a loss in the catalogue; a table ``[loss]`` as in a
        scenario; or a `Loss`.
    optimizer
        A name, ``"adam:beta1=0.9"``, a table ``[optimizer]`` as in a scenario, or an `Optimizer`; by default plain SGD.
    learning_rate
        A number, a named schedule ``"cosine:0.1,0.001"``, or a formula in ``t`` and ``N``; an array with the rate of
        every step; a function of the step, counted from 0. A list of numbers and schedules makes a sweep.
    initial
        Start of each parameter: a number, a distribution, ``"normal:1,0.1"``, a grid, ``"grid:-1,1"``, or an array with
        a value for each trajectory. The start of a vector or a matrix is an array of its shape, or of the shape
        (trajectory, axes of the parameter…). A variable of the optimizer may have a start, ``"velocity(x)"``; else it
        starts at zero. The names here are the parameters of a formula: ``w[3]`` declares a vector, ``W[3,2]`` a matrix,
        and so does a start ``W`` that is given as rows.
    trajectories, steps, seed
        Number of trajectories, number of steps, and the seed of all random numbers, a whole number below 2**64.
    start_from
        File of a run from whose last states the trajectories start, except for parameters in `initial`. With fewer
        trajectories than in the file, the first ones are taken.
    time
        Sum of the learning rates of all steps, in place of ``steps``; the learning rate must be constant.
    constants, noise, define, direction, state, symmetry, data
        Names in the formula, ``constants={"a": 2.0}, noise={"z": "normal"}``, each as in the table ``[loss]`` of a
        scenario; the columns of data may be arrays.
    momentum, batch_size, substeps, weight_decay, sampling
        Settings of an optimizer that is given by name; see `Optimizer`.
    each
        Constants with a value for each trajectory: arrays (trajectory, axes of the constant…).
    sweep, common_noise
        Lists of values by dotted key, ``{"loss.constants.a": [1, 2]}``. Lists are paired; those under ``"grid"`` are
        combined in all ways. And True if all points draw the same noise.
    predict, automatic
        Ids of laws and formulas, ``["equipartition", "variance(x) = learning_rate/2"]``, for `Ensemble.compare`; all
        that they need is recorded. And True to try the laws that the command line tries on every run.
    every, records, observables
        Number of steps between two records, or number of records, of the moments of all parameters and of observables,
        which are formulas by name.
    snapshots, snapshot_trajectories
        Steps after which the parameters are kept, ``"final"`` for the last; and the number of trajectories, from the
        first on, of which they are kept, by default all.
    histograms, quantiles
        ``[low, high, bins]`` by name, or for two names, ``"u,w": [low, high, bins, low, high, bins]``; and the
        probabilities of the quantiles that are computed from them.
    covariances, autocorrelations, drifts, controls
        See `Recorder`.
    antithetic
        True if trajectories come in pairs with mirrored noise; their number must be even.
    stop
        Bounds such as ``"x > 1"``: a trajectory ends at the first that it passes, and keeps its state.
    dtype, noise_dtype
        Number types of the parameters and of the random numbers: ``"float64"`` or ``"float32"``, also as NumPy types.
    title
        Title of figures and files.
    threads
        Number of threads; by default as many as the process may use.
    device
        ``cpu``; ``cuda``, or ``cuda:1`` for the second GPU; ``auto`` for the one that should finish first; or
        ``python``, which runs the kernels without compiling them.
    cpu_target
        Processors for which this process compiles, from its first kernel on: ``"x86-64-v3"`` or ``"x86-64-v4"``.
    progress
        True to show a progress bar on standard error, if that is a terminal.
    output, overwrite
        HDF5 file to write, and True if it may replace another. Checkpoints are kept beside it during the run.
    save_scenario
        Scenario file to write that describes the same run.
    resume
        True to continue from checkpoints; the file of a finished run is read.
    checkpoint_every
        Seconds between two checkpoints, also as ``"5m"``, or ``"never"``; by default a minute.
    client
        A `dask.distributed.Client`, on whose workers the run is computed, with bit-identical results.
    memory_limit
        Bytes that results may take, also as ``"4GB"``; by default 80 % of the free memory. With an output, snapshots
        that do not fit are kept on the disk.
    keep_state
        True to keep the state of every trajectory beside the output, so that with `resume` a run with more steps or
        trajectories continues from there.

    Returns
    -------
    Ensemble
        The ensemble in memory. Without an output, `Ensemble.save` writes it.

    Raises
    ------
    InputError
        For arguments that do not describe a run, with all problems that were found.
    RunError
        For a GPU that cannot be used, a full disk and the like.

    Examples
    --------
    >>> ensemble = simulate(
    ...     "a*x**2/2 + s*z*x", constants={"a": 1.0, "s": 1.0}, noise={"z": "normal"}, initial={"x": 0.0},
    ...     learning_rate=0.5, trajectories=10_000, steps=50, predict=["variance(x) = 1/3"],
    ... )
    >>> abs(float(ensemble.variance("x")[-1]) - 1 / 3) < 0.02, ensemble.compare().disagrees
    (True, False)
    """
    _compile_for(cpu_target)
    steps, schedules = _length(steps, time, learning_rate)
    recorder = Recorder(
        every,
        tuple(sorted({_step(step, steps) for step in take.each(take.anything)(snapshots, "snapshots")})),
        tuple(Observable.parse(name, text) for name, text in _table(observables, "observables").items()),
        {name: binned(numbers, f"histograms.{name}") for name, numbers in _table(histograms, "histograms").items()},
        snapshot_trajectories,
        tuple(take.each(take.number)(quantiles, "quantiles")),
        covariances,
        _table(autocorrelations, "autocorrelations"),
        _table(drifts, "drifts"),
        tuple(take.each(take.text)(controls, "controls")),
        records,
    )
    own = {
        "constants": constants,
        "each": each,
        "noise": noise,
        "define": define,
        "direction": direction,
        "state": state,
    }
    initial, trajectories = _starts(initial, trajectories, start_from, loss)
    made, starts = read_loss(loss, initial, trajectories, **own, symmetry=symmetry, data=data)
    settings = {"momentum": momentum, "batch_size": batch_size, "substeps": substeps, "weight_decay": weight_decay}
    rule = read_optimizer(optimizer, **settings, sampling=sampling)
    ends = tuple(take.each(take.text)(stop, "stop"))
    of_run = (trajectories, steps, seed, recorder, dtype, noise_dtype, antithetic, ends)
    run = Run(made, rule, schedules[0], starts, *of_run)
    swept: dict[str, Any] = {"sweep": sweep, "common_noise": common_noise}
    tables = scenario_tables(run, schedules, **swept, predict=predict, automatic=automatic, title=title)
    if time is not None:  # each point of a sweep has its own number of steps
        tables["run"] = {key: value for key, value in tables["run"].items() if key != "steps"} | {"time": time}
    where: dict[str, Any] = {"threads": threads, "device": device, "progress": progress, "memory_limit": memory_limit}
    if tables["sweep"] or tables["predict"]:
        from sgdsim.app.workflow import simulate_scenario
        from sgdsim.input.loading import scenario_from

        scenario = scenario_from(tables, made.name, "simulate")
        runs, text, compute = scenario.runs, scenario.toml, partial(simulate_scenario, scenario, **where)
    else:
        runs, text = (run,), toml.dumps(tables)
        compute = partial(simulate_runs, runs, scenario=text, title=tables["title"], **where)
    asked = {"resume": resume, "overwrite": overwrite, "keep_state": keep_state}
    resume, overwrite, keep_state = (take.flag(value, name) for name, value in asked.items())
    if output is None and (resume or keep_state or checkpoint_every is not None):
        raise InputError("resume, keep_state and checkpoint_every: expected an output, beside which checkpoints stand")
    if output is not None:
        check_output(take.path(output, "output"), overwrite or resume)
    answers = _told(scenario, quiet=not progress) if tables["predict"] and not resume else None
    _save(text, made.name, save_scenario, output, overwrite)
    client = None if client is None else dask_workers.checked(client)
    described = Description.new([("", "simulate", text)], overwrite, device, keeps=keep_state)
    how = {"threads": threads, "progress": progress, "memory_limit": memory_limit}
    limits = {"resume": resume, "every": seconds_between(checkpoint_every), "total": work(runs)}
    ensemble = _written(compute, runs, described, output, overwrite, client, limits, how)
    if answers is not None:
        from sgdsim.app.kept_predictions import remember

        remember(ensemble, scenario, answers)
    return ensemble


def _told(scenario: Scenario, quiet: bool) -> list[Told | None]:
    """Predictions of a scenario before it runs; a law that was asked for and applies nowhere is refused."""
    from sgdsim.app.kept_predictions import told_before

    ids = [claim.source.id for claim in scenario.claims if claim.asked]
    (told,) = told_before([scenario], ids, quiet)
    return told


def _written(
    compute: Callable[..., Ensemble],
    runs: Sequence[Run],
    described: Description,
    output: str | os.PathLike[str] | None,
    overwrite: bool,
    client: Any,
    limits: Mapping[str, Any],
    how: Mapping[str, Any],
) -> Ensemble:
    """Compute a run; if there is an output, keep checkpoints beside it and write its file."""
    if output is None and client is None:
        return compute()
    if output is None:
        return dask_workers.run_in_memory(client, scenarios_of(described, "simulate"), described, **how)[0]
    resume = limits["resume"]
    described = extending(output, described, [runs]) if resume else described
    with unfinished(output, described, **limits) as kept:
        go_on(kept, [runs], client)
        if resume and (found := kept.finished()) is not None:
            return found[WHOLE]
        if client is not None or kept.shards:
            scenarios = scenarios_of(kept.described, output)
            ensemble = dask_workers.run_with(client, scenarios, kept, **how, every=limits["every"])[0]
        else:
            ensemble = compute(checkpoints=Part(kept.checkpoints, 0))
        kept.sign(ensemble)
        ensemble.save(output, overwrite=kept.described.overwrite or overwrite)
        kept.keep()
    return ensemble


def _compile_for(target: Any) -> None:
    """Choose the processor that kernels are compiled for."""
    if target is not None:
        from sgdsim.kernels.processor import compile_for

        compile_for(take.text(target, "cpu_target"))


def _starts(initial: Any, trajectories: Any, file: Any, loss: Any) -> tuple[dict[str, Any], int]:
    """Starts of the parameters, and the number of trajectories."""
    initial = _table(initial, "initial")
    if file is not None:
        return starts_of_file(file, initial, loss, take.optional(take.whole)(trajectories, "trajectories"))
    if trajectories is None:
        raise InputError("trajectories: expected how many, a whole number")
    return initial, trajectories


def _save(scenario: str, name: str, path: Any, output: Any, overwrite: bool) -> None:
    """Write the scenario as a file, if a path is given."""
    if path is not None:
        from sgdsim.input.loading import save_scenario

        meant = f"results/{name}.h5" if output is None else output  # the default output of a run of this scenario
        tables = toml.loads(scenario, "simulate")
        save_scenario(tables, Path(take.path(path, "save_scenario")), meant, overwrite=overwrite)


def _length(steps: Any, time: Any, learning_rate: Any) -> tuple[int, list[Schedule]]:
    """Number of steps of the first point, and the schedules of all points."""
    if (steps is None) == (time is None):
        raise InputError("steps: expected it or time, the sum of the learning rates")
    if time is None:
        steps = take.whole(steps, "steps")
        return steps, read_rates(learning_rate, steps)
    schedules = read_rates(learning_rate, 1)
    return schedules[0].steps_in(take.number(time, "time")), schedules


def _table(given: Mapping[str, Any] | None, where: str) -> dict[str, Any]:
    """Table by name; empty for None."""
    return take.optional(take.by_name(take.anything))(given, where) or {}


def _step(value: Any, steps: int) -> int:
    """The number of a step, the last one as ``"final"``."""
    return steps if isinstance(value, str) and value == "final" else take.whole(value, "snapshots")
