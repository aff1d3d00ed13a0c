"""Code that all commands share: types of options, errors and warnings in one line, and printing."""

from __future__ import annotations

import contextlib
import difflib
import functools
import os
import signal
import sys
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import click
from rich_click import RichCommand, RichGroup, option_panel

from sgdsim.app import completion
from sgdsim.base.errors import InputError, SgdsimError, escaped
from sgdsim.base.interrupts import Interrupts
from sgdsim.base.numbers import read_number, read_whole
from sgdsim.input.options import TABLE, Option, options

_SIGNALLED = 128  # added to the number of a signal it is the exit code: 130 for Ctrl-C


class Whole(click.ParamType):  # type: ignore[type-arg]
    """A whole number, also written 1e6 or 1_000_000."""

    name = "integer"
    expected = "a whole number such as 5000, 5_000 or 5e3"
    read: Callable[[str], float | None] = staticmethod(read_whole)

    def convert(self, value: Any, param: click.Parameter | None, context: click.Context | None) -> Any:
        """Number that a text spells; click reports any other text."""
        number = None
        with contextlib.suppress(InputError):
            number = self.read(str(value))
        if number is None:
            self.fail(f"{str(value)!r}, expected {self.expected}", param, context)
        return number


class Number(Whole):
    """A finite number, in the notation of all other options."""

    name = "number"
    expected = "a number such as 0.5 or 5e-3"
    read = staticmethod(read_number)


def reporting_errors(command: Callable[..., Any]) -> Callable[..., Any]:
    """End with one message and the documented exit code; no traceback for a user's mistake."""

    @functools.wraps(command)
    def wrapped(*args: Any, **kwargs: Any) -> Any:
        _fill_standard_streams()
        try:
            with Interrupts(ending=True), _warnings_in_one_line(quiet=bool(kwargs.get("quiet"))):
                return command(*args, **kwargs)
        except SgdsimError as error:
            _tell("\n".join([f"Error: {error}", *getattr(error, "__notes__", [])]))
            sys.exit(error.exit_code)
        except KeyboardInterrupt as error:
            number = getattr(error, "number", signal.SIGINT)
            what = "Interrupted" if number == signal.SIGINT else f"Ended by {signal.Signals(number).name}"
            notes = getattr(error, "__notes__", [])
            _tell("\n".join([f"{what}.", *notes]) if notes else f"{what}; nothing unfinished is left behind.")
            sys.exit(_SIGNALLED + number)
        except MemoryError:
            _tell("Error: out of memory; take fewer trajectories or snapshots.")
            sys.exit(SgdsimError.exit_code)
        except BrokenPipeError:  # who read the output has had enough, as `head`: nothing failed
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            sys.exit(_SIGNALLED + signal.SIGPIPE)
        except OSError as error:
            if _is_nowhere():
                _tell("Error: the working folder is gone, expected one that is there")
                sys.exit(InputError.exit_code)
            _tell(f"Error: {error}")
            sys.exit(SgdsimError.exit_code)

    return wrapped


def _is_nowhere() -> bool:
    """Tell whether the folder that relative paths begin in has been removed."""
    try:
        os.getcwd()
    except FileNotFoundError:
        return True
    return False


def _fill_standard_streams() -> None:
    """Open the null device in place of a closed standard input, output or error.

    Otherwise the next file that is opened would get its number, and messages of libraries would be written into it.
    """
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        try:
            os.fstat(number)
        except OSError:
            descriptor = os.open(os.devnull, os.O_RDWR)  # takes the lowest number that is free, which is this one
            setattr(sys, name, os.fdopen(descriptor, "w" if number else "r", encoding="utf-8"))


def print_text(text: str) -> None:
    """Print a result; characters that standard output cannot encode are escaped."""
    print_styled(escaped(text))


def print_styled(text: str) -> None:
    """Print a text with colours; characters that standard output cannot encode are escaped."""
    encoding = getattr(sys.stdout, "encoding", None) or "utf-8"
    click.echo(text.encode(encoding, "backslashreplace").decode(encoding))


def print_json(data: Any) -> None:
    """Print data as JSON; NaN and infinity become null."""
    import json

    click.echo(json.dumps(data, indent=2, default=str))


def _tell(text: str) -> None:
    """Print an error or a warning; if standard error is closed, go on without it."""
    with contextlib.suppress(OSError, ValueError):
        click.echo(escaped(text), err=True)


@contextlib.contextmanager
def _warnings_in_one_line(quiet: bool) -> Iterator[None]:
    """Show the warnings of the package in one line during the block, as errors are shown."""

    def show(message: Warning | str, *_: object, **__: object) -> None:
        _tell(f"Warning: {message}")

    with warnings.catch_warnings():
        warnings.simplefilter("ignore" if quiet else "default", RuntimeWarning)
        warnings.showwarning = show
        yield


def _with_options(options: Sequence[Callable[[Any], Any]]) -> Callable[[Any], Any]:
    """Decorator that gives a command options, in the order of its help."""
    return functools.partial(functools.reduce, lambda command, option: option(command), options[::-1])


def table_options(*names: str, **changes: Mapping[str, str]) -> Callable[[Any], Any]:
    """Decorator that gives a command options of the table, all or those named, with changes to some.

    Examples
    --------
    >>> @click.command
    ... @table_options("seed", seed={"default": "7"})
    ... def run(seed):
    ...     "Run."
    >>> run.params[0].help
    'Seed of all noise, 64 bits.  [default: 7]'
    """
    chosen = [option for option in options() if not names or option.name in names]
    made = [_option(replace(option, **changes.get(option.name, {}))) for option in chosen]  # type: ignore[arg-type]
    return _with_options([*_panels(chosen), *made])


def _panels(chosen: Sequence[Option]) -> list[Callable[[Any], Any]]:
    """Groups of options in the help, under the headings of the table."""
    flags = {heading: [one.flag for one in group if one in chosen] for heading, group in TABLE.items()}
    return [option_panel(heading, options=listed) for heading, listed in flags.items() if listed]


def _option(option: Option) -> Callable[[Any], Any]:
    kinds: dict[str, dict[str, Any]] = {
        "text": {},
        "texts": {"multiple": True},
        "count": {"type": Whole()},
        "switch": {"is_flag": True},
    }
    complete = _COMPLETED.get(option.name) or (completion.files if "FILE" in option.usage else None)
    return click.option(
        *filter(None, (option.short, option.flag)),
        option.name,
        metavar=option.usage or None,
        shell_complete=complete,
        help=option.meaning.replace("`", "") + (f"  [default: {option.default}]" if option.default else ""),
        **kinds[option.kind],
    )


_COMPLETED = {
    "loss": completion.names("losses"),
    "optimizer": completion.names("optimizers"),
    "learning_rate": completion.names("schedules"),
    "sampling": completion.names("samplings"),
    "predictions": completion.names("predictions"),
}
"""Completion of the value of an option, by its name."""


class _Command(RichCommand):
    """A command whose help is drawn by rich; errors stay plain lines, which other programs read."""

    def main(self, *args: Any, **kwargs: Any) -> Any:
        return click.Command.main(self, *args, **kwargs)

    def make_context(self, info_name: str | None, args: list[str], parent: Any = None, **extra: Any) -> click.Context:
        with _in_one_line(f"{parent.command_path} {info_name}" if parent else str(info_name)):
            return super().make_context(info_name, args, parent, **extra)


class Group(RichGroup):
    """A group of commands whose help is drawn by rich; errors stay plain lines."""

    command_class = _Command

    def main(self, *args: Any, **kwargs: Any) -> Any:
        """Run the command that the arguments name; errors of click are printed as plain lines."""
        return click.Group.main(self, *args, **kwargs)

    def make_context(self, info_name: str | None, args: list[str], parent: Any = None, **extra: Any) -> click.Context:
        """Read the arguments before the name of a command; errors in them are reported in one line."""
        with _in_one_line(str(info_name)):
            return super().make_context(info_name, args, parent, **extra)

    def resolve_command(self, ctx: click.Context, args: list[str]) -> Any:
        """Find the command of a name; an unknown name is reported in one line."""
        with _in_one_line(ctx.command_path, *difflib.get_close_matches(args[0], self.list_commands(ctx), n=1)):
            return super().resolve_command(ctx, args)


@contextlib.contextmanager
def _in_one_line(command: str, close: str = "") -> Iterator[None]:
    """Report an error without click's lines on usage; the message ends with where the options are explained.

    It names a command with a name as close as that, as newer versions of click do themselves.
    """
    try:
        yield
    except click.exceptions.NoArgsIsHelpError:
        raise
    except click.UsageError as error:
        found = error.format_message().rstrip(".")
        found += f". Did you mean {close!r}?" if close and "Did you mean" not in found else ""
        raise click.UsageError(f"{found} ({command} --help)") from None


JSON_OPTION = click.option("--json", "as_json", is_flag=True, help="Print JSON instead of text.")
