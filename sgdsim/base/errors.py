"""What goes wrong, said so that the user can mend it: what, where, what was expected, and a near match."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class SgdsimError(Exception):
    """A failure that is reported to the user as one message, without a traceback."""

    exit_code = 1


class InputError(SgdsimError):
    """The user's input cannot be used: a formula, a scenario, an option or a file."""

    exit_code = 2


class RunError(SgdsimError):
    """The input was good but the run failed: memory, disk, device."""


def shortened(value: object, most: int = 200) -> str:
    """The text of something that may be long, such as an expression.

    Examples
    --------
    >>> shortened("a + b + c", most=5)
    'a + b …'
    """
    text = str(value)
    return text if len(text) <= most else f"{text[:most]} …"


def escaped(text: str) -> str:
    r"""The text of files and paths, which may hold anything, without what moves a cursor or is no text.

    Examples
    --------
    >>> escaped("a\x1b[2Jb")
    'a\\x1b[2Jb'
    """
    return "".join(one if one.isprintable() or one in "\n\t" else ascii(one)[1:-1] for one in text)


def unknown_name(kind: str, name: str, known: Iterable[str]) -> str:
    """Say that `name` is not among the known names of its kind, with a near match or the whole list.

    A vector or a matrix has one name there, unless that of an entry was given.

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
