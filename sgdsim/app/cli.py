"""The command line. Each command is one call a Python user could make; heavy packages are imported inside."""

from __future__ import annotations

import contextlib
import functools
import os
import signal
import sys
import warnings
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

import click

from sgdsim.base.errors import SgdsimError
from sgdsim.base.interrupts import Interrupts
from sgdsim.base.version import __version__

if TYPE_CHECKING:
    from sgdsim.input.scenario import Scenario

_SIGNALLED = 128  # and the number of the signal: 130 for Ctrl-C


class _Count(click.ParamType):  # type: ignore[type-arg]
    """A whole number, also written 1e6 or 1_000_000."""

    name = "integer"

    def convert(self, value: Any, param: click.Parameter | None, context: click.Context | None) -> int:
        text = str(value)
        try:
            # An integer beyond 2^53 must not pass through a float.
            number: float = int(text) if text.replace("_", "").lstrip("+-").isdecimal() else float(text)
        except ValueError:
            number = float("nan")
        if isinstance(number, float) and not number.is_integer():
            self.fail(f"{text!r}, expected a whole number such as 5000, 5_000 or 5e3", param, context)
        return int(number)


def _reporting_errors(command: Callable[..., Any]) -> Callable[..., Any]:
    """End with one message and the documented exit code; no traceback for a user's mistake."""

    @functools.wraps(command)
    def wrapped(*args: Any, **kwargs: Any) -> Any:
        _fill_standard_streams()
        try:
            with Interrupts(ending=True), _warnings_in_one_line(quiet=bool(kwargs.get("quiet"))):
                return command(*args, **kwargs)
        except SgdsimError as error:
            _tell(f"Error: {error}")
            sys.exit(error.exit_code)
        except KeyboardInterrupt as error:
            number = getattr(error, "number", signal.SIGINT)
            what = "Interrupted" if number == signal.SIGINT else f"Ended by {signal.Signals(number).name}"
            _tell(f"{what}; nothing unfinished is left behind.")
            sys.exit(_SIGNALLED + number)
        except MemoryError:
            _tell("Error: out of memory; take fewer trajectories or snapshots.")
            sys.exit(SgdsimError.exit_code)
        except BrokenPipeError:
            raise  # click ends in silence: who read the output has had enough
        except OSError as error:
            _tell(f"Error: {error}")
            sys.exit(SgdsimError.exit_code)

    return wrapped


def _fill_standard_streams() -> None:
    """Open nothing in the place of a closed standard input, output or error.

    The next file that is opened would take its number: what libraries print would be written into a result.
    """
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        try:
            os.fstat(number)
        except OSError:
            descriptor = os.open(os.devnull, os.O_RDWR)  # takes the lowest number that is free, which is this one
            setattr(sys, name, os.fdopen(descriptor, "w" if number else "r", encoding="utf-8"))


def _print(text: str) -> None:
    """Print a result; what standard output has no letter for is shown escaped."""
    encoding = getattr(sys.stdout, "encoding", None) or "utf-8"
    click.echo(_escaped(text).encode(encoding, "backslashreplace").decode(encoding))


def _tell(text: str) -> None:
    """Print an error or a warning, if somebody listens: nothing is lost because it cannot be told."""
    with contextlib.suppress(OSError, ValueError):
        click.echo(_escaped(text), err=True)


def _escaped(text: str) -> str:
    """The text of files and paths, which may hold anything, without what moves a cursor or is no text."""
    return "".join(one if one.isprintable() or one in "\n\t" else ascii(one)[1:-1] for one in text)


@contextlib.contextmanager
def _warnings_in_one_line(quiet: bool) -> Iterator[None]:
    """Show the warnings of the package as the errors are shown."""

    def show(message: Warning | str, *_: object, **__: object) -> None:
        _tell(f"Warning: {message}")

    with warnings.catch_warnings():
        warnings.simplefilter("ignore" if quiet else "default", RuntimeWarning)
        warnings.showwarning = show
        yield


def _with_options(options: Sequence[Callable[[Any], Any]]) -> Callable[[Any], Any]:
    """Give a command options, in the order in which its help shows them."""
    return functools.partial(functools.reduce, lambda command, option: option(command), options[::-1])


def _several(name: str, variable: str, metavar: str, text: str) -> Callable[[Any], Any]:
    """An option that may be given more than once."""
    return click.option(name, variable, multiple=True, metavar=metavar, help=text)


_RUN_OPTIONS = [
    click.option("-o", "--output", metavar="FILE", help="HDF5 file to write.  [default: results/<name>.h5]"),
    click.option("--trajectories", type=_Count(), help="How many there are (run.trajectories), e.g. 1e6."),
    click.option("--steps", type=_Count(), help="Steps of each (run.steps)."),
    click.option("--seed", type=_Count(), help="Seed of all noise, 64 bits (run.seed)."),
    click.option("--threads", type=_Count(), help="Threads of the CPU to use.  [default: all]"),
    click.option("--device", default="cpu", show_default=True, help="cpu, cuda, cuda:1, or auto: what ends first."),
    _several("--set", "settings", "KEY=VALUE", "Set any value of the scenario, e.g. run.steps=5000."),
    _several("--predict", "predictions", "FORMULA", "'variance(x) = …; order=1; at=final'."),
    click.option("--no-compare", is_flag=True, help="Write the file only."),
    click.option("--overwrite", is_flag=True, help="Replace an existing output file."),
    click.option("--quiet", is_flag=True, help="Only errors."),
]
_SCENARIO_OPTIONS = [
    click.option("--loss", required=True, metavar="FORMULA", help="Of one sample; or a name of the catalogue."),
    _several("--parameter", "parameters", "NAME=VALUE", "Initial value, u=1.5 or w=normal:0,0.3; w[3]=0 is a vector."),
    _several("--constant", "constants", "NAME=NUMBER", "Constant of the formulas."),
    _several("--noise", "noise", "NAME=DISTRIBUTION", "x=normal:0,0.5, or jointly p,q=normal:COVARIANCE.csv."),
    _several("--define", "definitions", "'NAME = FORMULA'", "A name for use in the formulas, 'y = 0.8*x + e'."),
    click.option("--data", metavar="FILE", help="Samples are rows of this table, CSV or HDF5."),
    _several("--symmetry", "symmetries", "SYMMETRY", "Of the loss, e.g. rescale:u:1,w:-1, or generator:FILE."),
    click.option("--optimizer", metavar="NAME[:KEY=VALUE,…]", help="E.g. adam:beta1=0.9,epsilon=0.  [default: sgd]"),
    click.option("--learning-rate", metavar="RATE", help="A number, a schedule, e.g. cosine:0.1,0.001, or file:FILE."),
    click.option("--momentum", metavar="NUMBER", help="Makes SGD the heavy ball."),
    click.option("--weight-decay", metavar="NUMBER", help="E.g. 0.01, or 0.01:decoupled."),
    click.option("--batch-size", type=_Count(), help="Samples of one step.  [default: 1]"),
    click.option("--sampling", metavar="NAME", help="Of the rows of data: replacement, batch or epoch."),
    click.option("--from", "start_from", metavar="FILE", help="Start from the last states in this file."),
    click.option("--dtype", metavar="NAME", help="Of the states: float64 or float32."),
    click.option("--noise-dtype", metavar="NAME", help="Of normal noise: float32 or float64."),
    click.option("--antithetic", is_flag=True, help="Every second trajectory takes the mirrored noise of the last."),
    click.option("--every", type=_Count(), help="Steps from one record to the next."),
    _several("--observable", "observables", "'NAME = FORMULA'", "Record this too, 'q = u**2 - w**2'."),
    _several("--histogram", "histograms", "NAME:LOW,HIGH,BINS", "Of one name, or two: u,w:-4,4,50,-2,2,50."),
    _several("--quantile", "quantiles", "NUMBER", "Read this quantile off each histogram, 0 to 1."),
    click.option("--covariances", is_flag=True, help="Record the covariances."),
    _several("--autocorrelation", "autocorrelations", "NAME:FROM:LAG,…", "Of a name, from a step on, with these lags."),
    _several("--drift", "drifts", "NAME[|BY]:LOW,HIGH,BINS", "Mean and variance of a step by bins: q:-4,4,80."),
    _several("--control", "controls", "NAME", "Take the known part of the noise away from its mean at the end."),
    _several("--snapshot", "snapshots", "STEP", "Keep all states after this step, or final."),
    click.option("--snapshot-trajectories", type=_Count(), help="Keep those of so many trajectories alone."),
    _several("--sweep", "sweeps", "KEY=VALUE,…", "E.g. optimizer.learning_rate=0.1,0.05; several are paired."),
    click.option("--no-automatic", is_flag=True, help="Hold it against no law but your own predictions."),
    click.option("--title", metavar="TEXT", help="Of the file."),
    click.option("--save-scenario", metavar="FILE", help="Write the same as a scenario file too."),
]


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="sgdsim")
def main() -> None:
    """Simulate millions of SGD trajectories and hold them against theory."""


@main.command()
@click.argument("scenario")
@_with_options(_RUN_OPTIONS)
@_reporting_errors
def run(
    scenario: str, output: str | None, settings: tuple[str, ...], predictions: tuple[str, ...], **options: Any
) -> None:
    """Run SCENARIO, a TOML file or the name of a shipped scenario, and hold it against its predictions."""
    from sgdsim.app.workflow import load_parts

    _run(load_parts(scenario, _overrides(settings, options), predictions), output, options)


@main.command()
@_with_options([*_SCENARIO_OPTIONS, *_RUN_OPTIONS])
@_reporting_errors
def simulate(output: str | None, save_scenario: str | None, no_automatic: bool, **options: Any) -> None:
    """Run a scenario that is given by options alone, and hold it against its predictions."""
    from sgdsim.app.workflow import default_output, scenario_from
    from sgdsim.app.workflow import save_scenario as save
    from sgdsim.base.errors import InputError
    from sgdsim.input.options import in_options, scenario_data, scenario_name

    about_run = {name: options.pop(name) for name in ("threads", "device", "no_compare", "overwrite", "quiet")}
    data = scenario_data(automatic=not no_automatic, **options)
    try:
        scenario = scenario_from(data, scenario_name(data), "the command line")
    except InputError as error:
        raise InputError(in_options(str(error))) from None
    if save_scenario is not None:
        save(data, save_scenario, output or default_output(scenario), overwrite=about_run["overwrite"])
    _run([scenario], output, about_run)


@main.command()
@click.argument("file")
@click.option("--json", "as_json", is_flag=True, help="Print JSON instead of the table.")
@_reporting_errors
def compare(file: str, as_json: bool) -> None:
    """Hold the ensemble in FILE against the predictions of its scenario, from the file alone."""
    _show_comparison(file, as_json=as_json)


@main.command()
@click.argument("file")
@click.option("-o", "--output", metavar="FIGURE", help="SVG, PNG or PDF file to write.  [default: FILE with .svg]")
@click.option("--kind", metavar="NAME", help="density, moments, drift, sweep, order, schedule or trajectories.")
@click.option("--size", metavar="WIDTHxHEIGHT", help="In inches, e.g. 7x5.  [default: by what is shown]")
@click.option("--overwrite", is_flag=True, help="Replace an existing figure.")
@_reporting_errors
def plot(file: str, output: str | None, kind: str | None, size: str | None, overwrite: bool) -> None:
    """Draw the ensemble in FILE with the predictions of its scenario, from the file alone."""
    from sgdsim.app.workflow import plot_file
    from sgdsim.ensemble import open_parts
    from sgdsim.plots.drawing import choose_kind, parse_size

    inches = None if size is None else parse_size(size)
    chosen = "" if kind else ", chosen by what the file holds"
    path = plot_file(file, output, kind, inches, overwrite)
    kinds = dict.fromkeys(kind or choose_kind(ensemble) for ensemble in open_parts(file).values())
    _print(f"{path}: {', '.join(kinds)}{chosen}")


@main.command()
@click.argument("file")
@click.option("--digest", is_flag=True, help="Print one sha256 over all variables and the scenario.")
@_reporting_errors
def info(file: str, digest: bool) -> None:
    """Print what FILE holds and where it comes from."""
    from sgdsim.app.catalogue import describe
    from sgdsim.ensemble import open_parts

    for part, ensemble in open_parts(file).items():
        heading, line = (f"Part {part}:\n", f"  {part}") if part else ("", "")
        _print(f"{ensemble.digest()}{line}" if digest else f"{heading}{describe(ensemble)}")


@main.command()
@click.argument("loss", required=False)
@_several("--parameter", "parameters", "NAME", "A parameter, w[3] for a vector.  [default: what is nothing else]")
@_several("--constant", "constants", "NAME=NUMBER", "Constant of the formulas.")
@_several("--noise", "noise", "NAME=DISTRIBUTION", "E.g. x=normal:0,0.5.")
@_several("--define", "definitions", "'NAME = FORMULA'", "A name for use in the formulas, 'y = 0.8*x + e'.")
@_several("--symmetry", "symmetries", "SYMMETRY", "Of the loss, e.g. rescale:u:1,w:-1.")
@click.option("--schedule", metavar="RATE", help="A learning rate, e.g. cosine:0.1,0.001, or file:FILE.")
@click.option("--steps", type=_Count(), help="Of the schedule.  [default: 1000, or the length of its file]")
@_reporting_errors
def show(loss: str | None, schedule: str | None, steps: int | None, **options: tuple[str, ...]) -> None:
    """Print what follows from LOSS, a name of the catalogue or a formula, and the rates of a schedule."""
    from sgdsim.app.loss_report import describe_loss, describe_schedule, loss_from, schedule_from
    from sgdsim.base.errors import InputError

    if loss is None and (schedule is None or any(options.values())):
        raise InputError("expected a loss, e.g. sgdsim show 'a*x**2/2 + z*x' --constant a=1 --noise z=normal")
    texts = [] if loss is None else [describe_loss(loss_from(loss, **options))]
    texts += [] if schedule is None else [describe_schedule(schedule_from(schedule), steps)]
    _print("\n\n".join(texts))


@main.command()
@click.argument("subject", metavar="LOSS|SCENARIO|FILE")
@_several("--parameter", "parameters", "NAME[=VALUE]", "Of the loss, with its initial value.  [default: all, at 1]")
@_several("--constant", "constants", "NAME=NUMBER", "Constant of the formulas.")
@_several("--noise", "noise", "NAME=DISTRIBUTION", "E.g. x=normal:0,0.5.")
@_several("--define", "definitions", "'NAME = FORMULA'", "A name for use in the formulas, 'y = 0.8*x + e'.")
@click.option("--data", metavar="FILE", help="Samples are rows of this table, CSV or HDF5.")
@_several("--symmetry", "symmetries", "SYMMETRY", "Of the loss, e.g. rescale:u:1,w:-1.")
@click.option("--optimizer", metavar="NAME[:KEY=VALUE,…]", help="E.g. momentum:momentum=0.5.  [default: sgd]")
@click.option("--learning-rate", metavar="RATE", help="A number or a schedule.  [default: 0.01]")
@click.option("--momentum", metavar="NUMBER", help="Makes SGD the heavy ball.")
@click.option("--weight-decay", metavar="NUMBER", help="E.g. 0.01, or 0.01:decoupled.")
@click.option("--batch-size", type=_Count(), help="Samples of one step.  [default: 1]")
@click.option("--sampling", metavar="NAME", help="Of the rows of data: replacement, batch or epoch.")
@click.option("--steps", type=_Count(), help="Of the run.  [default: 1000]")
@_several("--set", "settings", "KEY=VALUE", "Set any value of the scenario, e.g. optimizer.learning_rate=0.1.")
@click.option("--point", type=_Count(), default=0, show_default=True, help="Of a sweep, the point to explain.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON instead of text.")
@_reporting_errors
def theory(subject: str, point: int, *, as_json: bool, **options: Any) -> None:
    """Print what theory says about a loss (its name or formula), a scenario, or a FILE that a run has written."""
    from sgdsim.app.theory_report import report_of, to_json, to_text
    from sgdsim.input.subject import scenario_of

    sections = report_of(scenario_of(subject, **options), point)
    _print(to_json(sections) if as_json else to_text(sections))


@main.command()
@click.option("--curvature", type=float, help="Of the valley, a.")
@click.option("--noise", type=float, help="Standard deviation of the valley's gradient noise, sigma.")
@click.option("--slope", type=float, help="Of the river where it ends, g.")
@click.option("--peak", type=float, help="The largest learning rate, eta_max.")
@click.option("--steps", type=_Count(), help="Of the run, N.")
@click.option("--measure", "file", metavar="FILE", help="Measure a, sigma and g in this run instead.")
@click.option("--fast", default="x", show_default=True, metavar="NAME", help="Its parameter across the valley.")
@click.option("--river", default="y", show_default=True, metavar="NAME", help="Its parameter along the river.")
@click.option("-o", "--output", metavar="FIGURE", help="Draw it too: an SVG, PNG or PDF file.")
@click.option("--overwrite", is_flag=True, help="Replace an existing figure.")
@_reporting_errors
def schedule(
    file: str | None, fast: str, river: str, output: str | None, overwrite: bool, **given: float | int | None
) -> None:
    """Print the best learning rates for a river in a valley: a plateau, then harmonic decay."""
    from sgdsim.app.schedule_design import check_figure, describe_design, design_from, measure, plot_design
    from sgdsim.ensemble import Ensemble

    if output is not None:
        check_figure(output, overwrite)
    measured = None if file is None else measure(Ensemble.open(file), fast, river)
    design = design_from(**given, measured=measured)  # type: ignore[arg-type]
    _print(describe_design(design, measured))
    if output is not None:
        _print(f"\n{plot_design(design, output, overwrite)}")


@main.command(name="list")
@click.argument("kind", required=False)
@_reporting_errors
def list_(kind: str | None) -> None:
    """List what there is: losses, symmetries, scenarios, predictions, optimizers, schedules, and more."""
    from sgdsim.app.catalogue import catalogue

    _print(catalogue(kind))


@main.command()
@click.option("--device", default="cpu", show_default=True, help="cpu, cuda, or cuda:1 for the second GPU.")
@_reporting_errors
def bench(device: str) -> None:
    """Time the reference job for a few seconds, and NumPy beside it."""
    from sgdsim.app.bench import measure, report

    _print(report(measure(device), device))


@main.command()
@_reporting_errors
def doctor() -> None:
    """Say what this installation can do: versions, threads, SIMD, cache, CUDA."""
    from sgdsim.app.doctor import examine

    _print(examine())


def _run(scenarios: Sequence[Scenario], output: str | None, options: dict[str, Any]) -> None:
    """Simulate, write the file, and print what it says."""
    from sgdsim.app.catalogue import summary
    from sgdsim.app.workflow import default_output, run_parts

    path = default_output(scenarios[0]) if output is None else output
    quiet = options["quiet"]
    ensembles = run_parts(
        scenarios,
        output,
        threads=options["threads"],
        device=options["device"],
        overwrite=options["overwrite"],
        progress=not quiet,
    )
    if not quiet:
        for scenario, ensemble in zip(scenarios, ensembles, strict=True):
            _print(f"{path}{f', {scenario.part}' if scenario.part else ''}: {summary(ensemble)}")
    if not options["no_compare"]:
        _show_comparison(str(path), quiet=quiet)


def _overrides(settings: tuple[str, ...], options: dict[str, Any]) -> dict[str, Any]:
    """Values by dotted key; the named options win over --set."""
    from sgdsim.input.options import read_settings

    overrides = read_settings(settings)
    for name in ("trajectories", "steps", "seed"):
        if options[name] is not None:
            overrides[f"run.{name}"] = options[name]
    return overrides


def _show_comparison(file: str, *, as_json: bool = False, quiet: bool = False) -> None:
    """Print the table; the exit code is the verdict."""
    from sgdsim.app.workflow import compare_file

    report = compare_file(file)
    if as_json:
        _print(report.to_json())
    elif not quiet:
        _print(report.table())
    if report.disagrees:
        sys.exit(1)


if __name__ == "__main__":
    main()
