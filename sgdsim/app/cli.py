"""The command line. Each command is one call a Python user could make; heavy packages are imported inside."""

from __future__ import annotations

import contextlib
import functools
import os
import shutil
import signal
import sys
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import click

from sgdsim.base.errors import InputError, SgdsimError, escaped
from sgdsim.base.interrupts import Interrupts
from sgdsim.base.numbers import read_number, read_whole
from sgdsim.base.version import __version__
from sgdsim.input.options import Option, options

if TYPE_CHECKING:
    from sgdsim.input.scenario import Scenario

_COLUMNS = 80  # of what is no terminal
_SIGNALLED = 128  # and the number of the signal: 130 for Ctrl-C


class _Whole(click.ParamType):  # type: ignore[type-arg]
    """A whole number, also written 1e6 or 1_000_000."""

    name = "integer"
    expected = "a whole number such as 5000, 5_000 or 5e3"
    read: Callable[[str], float | None] = staticmethod(read_whole)

    def convert(self, value: Any, param: click.Parameter | None, context: click.Context | None) -> Any:
        number = None
        with contextlib.suppress(InputError):
            number = self.read(str(value))
        if number is None:
            self.fail(f"{str(value)!r}, expected {self.expected}", param, context)
        return number


class _Number(_Whole):
    """A finite number, by the rules of all other options."""

    name = "number"
    expected = "a number such as 0.5 or 5e-3"
    read = staticmethod(read_number)


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
            if _is_nowhere():
                _tell("Error: the working folder is gone, expected one that is there")
                sys.exit(InputError.exit_code)
            _tell(f"Error: {error}")
            sys.exit(SgdsimError.exit_code)

    return wrapped


def _is_nowhere() -> bool:
    """Whether the folder that relative paths begin in has been removed."""
    try:
        os.getcwd()
    except FileNotFoundError:
        return True
    return False


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
    _print_styled(escaped(text))


def _print_styled(text: str) -> None:
    """Likewise, of a text with colours."""
    encoding = getattr(sys.stdout, "encoding", None) or "utf-8"
    click.echo(text.encode(encoding, "backslashreplace").decode(encoding))


def _tell(text: str) -> None:
    """Print an error or a warning, if somebody listens: nothing is lost because it cannot be told."""
    with contextlib.suppress(OSError, ValueError):
        click.echo(escaped(text), err=True)


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


def _options(*names: str, **changes: Mapping[str, str]) -> Callable[[Any], Any]:
    """Give a command options of the table, all or those of these names, in its order; some of them changed."""
    chosen = [option for option in options() if not names or option.name in names]
    return _with_options([_option(replace(option, **changes.get(option.name, {}))) for option in chosen])  # type: ignore[arg-type]


def _option(option: Option) -> Callable[[Any], Any]:
    kinds: dict[str, dict[str, Any]] = {
        "text": {},
        "texts": {"multiple": True},
        "count": {"type": _Whole()},
        "switch": {"is_flag": True},
    }
    return click.option(
        *filter(None, (option.short, option.flag)),
        option.name,
        metavar=option.usage or None,
        help=option.meaning.replace("`", "") + (f"  [default: {option.default}]" if option.default else ""),
        **kinds[option.kind],
    )


_LOSS_OPTIONS = ("parameters", "constants", "noise", "definitions", "directions", "states", "symmetries", "data")


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="sgdsim")
def main() -> None:
    """Simulate millions of SGD trajectories and hold them against theory."""


@main.command()
@click.argument("scenario")
@_options(
    *("output", "trajectories", "steps", "seed", "threads", "device", "settings", "predictions"),
    *("no_compare", "all_rows", "overwrite", "quiet"),
    no_compare={"meaning": "Write the file only."},
)
@_reporting_errors
def run(scenario: str, settings: tuple[str, ...], predictions: tuple[str, ...], **options: Any) -> None:
    """Run SCENARIO, a TOML file or the name of a shipped scenario, and hold it against its predictions."""
    from sgdsim.input.loading import load_parts

    overrides = _overrides(settings, options)
    _run(load_parts(scenario, overrides, predictions, progress=not options["quiet"]), options)


@main.command()
@_options()
@_reporting_errors
def simulate(**given: Any) -> None:
    """Run a scenario that is given by options alone, and hold it against its predictions."""
    from sgdsim.app.workflow import default_output
    from sgdsim.input.loading import save_scenario, scenario_from
    from sgdsim.input.options import in_options, scenario_data, scenario_name

    about = {option.name: given.pop(option.name) for option in options() if not option.key}
    # Laws that nobody asked for are tried where a table follows; for a file alone they would only record more.
    automatic = not (about["no_automatic"] or about["no_compare"])
    data = scenario_data(settings=about["settings"], automatic=automatic, **given)
    try:
        scenario = scenario_from(data, scenario_name(data), "the command line", progress=not about["quiet"])
    except InputError as error:
        raise InputError(in_options(str(error))) from None
    if about["save_scenario"] is not None:
        output = about["output"] or default_output(scenario)
        save_scenario(data, about["save_scenario"], output, overwrite=about["overwrite"])
    _run([scenario], about)


@main.command()
@click.argument("file")
@_options("all_rows")
@click.option("--json", "as_json", is_flag=True, help="Print JSON instead of the table.")
@_reporting_errors
def compare(file: str, *, as_json: bool, all_rows: bool) -> None:
    """Hold the ensemble in FILE against the predictions of its scenario, from the file alone."""
    _show_comparison(file, as_json=as_json, all_rows=all_rows)


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
    from sgdsim.base.files import about
    from sgdsim.ensemble import open_parts

    texts = []
    with about(file):
        for part, ensemble in open_parts(file).items():
            heading, line = (f"Part {part}:\n", f"  {part}") if part else ("", "")
            texts.append(f"{ensemble.digest()}{line}" if digest else f"{heading}{describe(ensemble)}")
    _print("\n".join(texts))


@main.command()
@click.argument("loss", metavar="[LOSS|LAW]", required=False)
@_options(
    *_LOSS_OPTIONS,
    parameters={"usage": "NAME", "meaning": "A parameter, w[3] for a vector.", "default": "what is nothing else"},
)
@click.option("--schedule", metavar="RATE", help="A learning rate, e.g. cosine:0.1,0.001, or file:FILE.")
@_options("steps", steps={"meaning": "Of the schedule.", "default": "1000, or the length of its file"})
@_reporting_errors
def show(loss: str | None, schedule: str | None, steps: int | None, **options: Any) -> None:
    """Print what follows from LOSS, its name or formula, the derivation of a LAW, and the rates of a schedule.

    Where every parameter has a --direction there need be no LOSS.
    """
    from sgdsim.app.loss_report import describe_law, describe_loss, describe_schedule
    from sgdsim.input.subject import loss_of, schedule_of
    from sgdsim.theory import LAWS

    is_loss = loss is not None or bool(options["directions"])
    if not is_loss and (schedule is None or any(options.values())):
        raise InputError("expected a loss, e.g. sgdsim show 'a*x**2/2 + z*x' --constant a=1 --noise z=normal")
    law = None if loss is None else describe_law(loss)
    texts = [law or describe_loss(loss_of(loss, LAWS, **options))] if is_loss else []
    texts += [] if schedule is None else [describe_schedule(schedule_of(schedule), steps)]
    _print("\n\n".join(texts))


@main.command()
@click.argument("subject", metavar="[LOSS|SCENARIO|FILE]", required=False)
@_options(
    *_LOSS_OPTIONS,
    *("optimizer", "momentum", "learning_rate", "batch_size", "sampling", "weight_decay", "steps", "settings"),
    parameters={"usage": "NAME[=VALUE]", "default": "all, at 1"},
    learning_rate={"default": "0.01"},
    steps={"default": "1000"},
)
@click.option("--point", type=_Whole(), default=0, show_default=True, help="Of a sweep, the point to explain.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON instead of text.")
@_reporting_errors
def theory(subject: str | None, point: int, *, as_json: bool, **options: Any) -> None:
    """Print what theory says about a loss (its name or formula), a scenario, or a FILE that a run has written.

    Where every parameter has a --direction there need be no LOSS.
    """
    from sgdsim.app.theory_report import report_of, to_json, to_text
    from sgdsim.input.subject import scenario_of

    if subject is None and not options["directions"]:
        raise InputError("expected a loss, a scenario or a file, e.g. sgdsim theory 'a*x**2/2' --constant a=1")
    sections = report_of(scenario_of(subject, **options), point)
    _print(to_json(sections) if as_json else to_text(sections))


@main.command()
@click.option("--curvature", type=_Number(), help="Of the valley, a.")
@click.option("--noise", type=_Number(), help="Standard deviation of the valley's gradient noise, sigma.")
@click.option("--slope", type=_Number(), help="Of the river where it ends, g.")
@click.option("--peak", type=_Number(), help="The largest learning rate, eta_max.")
@click.option("--steps", type=_Whole(), help="Of the run, N.")
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
    from sgdsim.base.files import about
    from sgdsim.ensemble import Ensemble

    if output is not None:
        check_figure(output, overwrite, file)
    measured = None
    if file is not None:
        with about(file):
            measured = measure(Ensemble.open(file), fast, river)
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


def _run(scenarios: Sequence[Scenario], options: Mapping[str, Any]) -> None:
    """Simulate, write the file, and print what it says."""
    from sgdsim.app.catalogue import summary
    from sgdsim.app.workflow import default_output, run_parts

    path, quiet = options["output"], options["quiet"]
    if path is None:
        path = default_output(scenarios[0])
    ensembles = run_parts(
        scenarios,
        path,
        threads=options["threads"],
        device="cpu" if options["device"] is None else options["device"],
        overwrite=options["overwrite"],
        progress=not quiet,
    )
    if not quiet:
        for scenario, ensemble in zip(scenarios, ensembles, strict=True):
            _print(f"{path}{f', {scenario.part}' if scenario.part else ''}: {summary(ensemble)}")
    if not options["no_compare"]:
        _show_comparison(str(path), quiet=quiet, all_rows=options["all_rows"])


def _overrides(settings: tuple[str, ...], options: Mapping[str, Any]) -> dict[str, Any]:
    """Values by dotted key; the named options win over --set."""
    from sgdsim.input.options import read_settings

    overrides = read_settings(settings)
    for name in ("trajectories", "steps", "seed"):
        if options[name] is not None:
            overrides[f"run.{name}"] = options[name]
    return overrides


def _show_comparison(file: str, *, as_json: bool = False, quiet: bool = False, all_rows: bool = False) -> None:
    """Print what the predictions come to; the exit code is the verdict."""
    from sgdsim.app.workflow import compare_file

    report = compare_file(file)
    if as_json:
        _print(report.to_json())
    elif not quiet and all_rows:
        _print(report.table())
    elif not quiet:
        is_terminal = sys.stdout.isatty()
        width = shutil.get_terminal_size().columns if is_terminal else _COLUMNS
        _print_styled(report.screen(width, colour=is_terminal and not os.environ.get("NO_COLOR")))
    if report.disagrees:
        sys.exit(1)


if __name__ == "__main__":
    main()
