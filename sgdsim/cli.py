"""The command line. Each command is one call a Python user could make; heavy packages are imported inside."""

from __future__ import annotations

import contextlib
import functools
import sys
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import click

from sgdsim import __version__
from sgdsim.errors import SgdsimError

INTERRUPTED = 130


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
        try:
            with _warnings_in_one_line(quiet=bool(kwargs.get("quiet"))):
                return command(*args, **kwargs)
        except SgdsimError as error:
            click.echo(f"Error: {error}", err=True)
            sys.exit(error.exit_code)
        except KeyboardInterrupt:
            click.echo("Interrupted; nothing unfinished is left behind.", err=True)
            sys.exit(INTERRUPTED)
        except MemoryError:
            click.echo("Error: out of memory; take fewer trajectories or snapshots.", err=True)
            sys.exit(SgdsimError.exit_code)
        except BrokenPipeError:
            raise  # click ends in silence: who read the output has had enough
        except OSError as error:
            click.echo(f"Error: {error}", err=True)
            sys.exit(SgdsimError.exit_code)

    return wrapped


@contextlib.contextmanager
def _warnings_in_one_line(quiet: bool) -> Iterator[None]:
    """Show the warnings of the package as the errors are shown."""

    def show(message: Warning | str, *_: object, **__: object) -> None:
        click.echo(f"Warning: {message}", err=True)

    with warnings.catch_warnings():
        warnings.simplefilter("ignore" if quiet else "default", RuntimeWarning)
        warnings.showwarning = show
        yield


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="sgdsim")
def main() -> None:
    """Simulate millions of SGD trajectories and hold them against theory."""


@main.command()
@click.argument("scenario")
@click.option("-o", "--output", metavar="FILE", help="HDF5 file to write.  [default: results/<name>.h5]")
@click.option("--trajectories", type=_Count(), help="Override run.trajectories.")
@click.option("--steps", type=_Count(), help="Override run.steps.")
@click.option("--seed", type=_Count(), help="Override run.seed (64 bits).")
@click.option("--threads", type=_Count(), help="Threads to use.  [default: all]")
@click.option("--set", "settings", multiple=True, metavar="KEY=VALUE", help="Override any value, e.g. run.steps=5000.")
@click.option(
    "--predict", "predictions", multiple=True, metavar="FORMULA", help="'variance(x) = …; order=1; at=final'."
)
@click.option("--no-compare", is_flag=True, help="Write the file only.")
@click.option("--overwrite", is_flag=True, help="Replace an existing output file.")
@click.option("--quiet", is_flag=True, help="Only errors.")
@_reporting_errors
def run(
    scenario: str, output: str | None, settings: tuple[str, ...], predictions: tuple[str, ...], **options: Any
) -> None:
    """Run SCENARIO, a TOML file or the name of a shipped scenario, and hold it against its predictions."""
    from sgdsim.reporting import summary
    from sgdsim.workflow import default_output, load_scenario, run_scenario

    overrides = _overrides(settings, options)
    loaded = load_scenario(scenario, overrides, predictions)
    path = default_output(loaded) if output is None else output
    quiet = options["quiet"]
    ensemble = run_scenario(
        loaded, output, threads=options["threads"], overwrite=options["overwrite"], progress=not quiet
    )
    if not quiet:
        click.echo(f"{path}: {summary(ensemble)}")
    if not options["no_compare"]:
        _show_comparison(str(path), quiet=quiet)


@main.command()
@click.argument("file")
@click.option("--json", "as_json", is_flag=True, help="Print JSON instead of the table.")
@_reporting_errors
def compare(file: str, as_json: bool) -> None:
    """Hold the ensemble in FILE against the predictions of its scenario, from the file alone."""
    _show_comparison(file, as_json=as_json)


@main.command()
@click.argument("file")
@click.option("--digest", is_flag=True, help="Print one sha256 over all variables and the scenario.")
@_reporting_errors
def info(file: str, digest: bool) -> None:
    """Print what FILE holds and where it comes from."""
    from sgdsim.ensemble import Ensemble
    from sgdsim.reporting import describe

    ensemble = Ensemble.open(file)
    click.echo(ensemble.digest() if digest else describe(ensemble))


@main.command(name="list")
@click.argument("kind", required=False)
@_reporting_errors
def list_(kind: str | None) -> None:
    """List what there is: losses, scenarios, predictions, optimizers, schedules, distributions."""
    from sgdsim.reporting import catalogue

    click.echo(catalogue(kind))


@main.command()
@_reporting_errors
def doctor() -> None:
    """Say what this installation can do: versions, threads, SIMD, cache, CUDA."""
    from sgdsim.doctor import examine

    click.echo(examine())


def _overrides(settings: tuple[str, ...], options: dict[str, Any]) -> dict[str, Any]:
    """Values by dotted key; the named options win over --set."""
    from sgdsim import toml
    from sgdsim.errors import InputError

    overrides = {}
    for setting in settings:
        key, equals, value = setting.partition("=")
        if not equals or not key.strip():
            raise InputError(f"--set {setting!r}: expected KEY=VALUE, e.g. run.steps=5000")
        overrides[key.strip()] = toml.parse_value(value.strip())
    for name in ("trajectories", "steps", "seed"):
        if options[name] is not None:
            overrides[f"run.{name}"] = options[name]
    return overrides


def _show_comparison(file: str, *, as_json: bool = False, quiet: bool = False) -> None:
    """Print the table; the exit code is the verdict."""
    from sgdsim.workflow import compare_file

    report = compare_file(file)
    if as_json:
        click.echo(report.to_json())
    elif not quiet:
        click.echo(report.table())
    if report.disagrees:
        sys.exit(1)


if __name__ == "__main__":
    main()
