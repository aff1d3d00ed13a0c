"""Errors, worded so that the user can mend them: what is wrong, where, what was expected, and a near match."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class SgdsimError(Exception):
    """A failure that is reported to the user as one message, without a traceback.

    It is the base class of all errors that sgdsim raises on purpose; ``exit_code`` is that of the command line.

    Examples
    --------
    >>> import sgdsim
    >>> try:
    ...     sgdsim.load_scenario("no_such_scenario")
    ... except sgdsim.SgdsimError as error:
    ...     print(type(error).__name__, error.exit_code)
    InputError 2
    """

    exit_code = 1


class InputError(SgdsimError):
    """A failure of the user's input: a formula, a scenario, an option or a file cannot be used.

    The message names the value, its place, what was expected, and a near match of a misspelt name.

    Examples
    --------
    >>> import sgdsim
    >>> sgdsim.Noise.parse("nromal")
    Traceback (most recent call last):
    sgdsim.base.errors.InputError: noise: unknown distribution 'nromal': did you mean 'normal'?
    """

    exit_code = 2


class RunError(SgdsimError):
    """A failure of the run, though its input was good: memory, disk, a device or an optional library.

    Examples
    --------
    >>> from sgdsim.base.packages import imported
    >>> imported("no_such_library", "this example")
    Traceback (most recent call last):
    sgdsim.base.errors.RunError: ...
    """


def shortened(value: object, most: int = 200) -> str:
    """Text of a value, cut at the given length: an expression may be long.

    Examples
    --------
    >>> shortened("a + b + c", most=5)
    'a + b …'
    """
    text = str(value)
    return text if len(text) <= most else f"{text[:most]} …"


def escaped(text: str) -> str:
    r"""Text from a file or a path, with control characters escaped, so that a terminal can show it.

    Examples
    --------
    >>> escaped("a\x1b[2Jb")
    'a\\x1b[2Jb'
    """
    return "".join(one if one.isprintable() or one in "\n\t" else ascii(one)[1:-1] for one in text)


def unknown_name(kind: str, name: str, known: Iterable[str]) -> str:
    """Message that `name` is not among the known names of its kind, with a near match or the whole list.

    The list names a vector or a matrix once, not each of its entries, unless `name` is itself an entry.

    Examples
    --------
    >>> unknown_name("parameter", "thta", ["theta", "x"])
    "unknown parameter 'thta': did you mean 'theta'?"
    >>> unknown_name("parameter", "q", ["x", "W[0,0]", "W[0,1]"])
    "unknown parameter 'q': known are W, x"
    >>> unknown_name("parameter", "W", ["W[0,0]", "W[0,1]"])
    "unknown parameter 'W': expected one of its entries, such as W[0,0]"
    """
    names = sorted(known)
    short = sorted({one.partition("[")[0] for one in names})
    if name in short:
        entry = next(one for one in names if one.startswith(f"{name}["))
        return f"unknown {kind} {name!r}: expected one of its entries, such as {entry}"
    close = difflib.get_close_matches(name, names if "[" in name else short, n=1)
    if close:
        return f"unknown {kind} {name!r}: did you mean {close[0]!r}?"
    return f"unknown {kind} {name!r}: known are {', '.join(short) or 'none'}"
