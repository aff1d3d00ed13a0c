"""Readers of the values of command-line options, one for each form in which they are written.

A reader takes the flag, for messages, and the text that was given. It returns the value that a scenario would hold.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from sgdsim.base import toml
from sgdsim.base.errors import InputError
from sgdsim.base.numbers import read_number, read_whole
from sgdsim.formulas.names import normal, split_names

Reader = Callable[[str, Any], Any]

FILE_OF_ROWS = ".csv"
"""Suffix of a file that may be given in place of a number or a distribution."""

FILES_OF_DATA = (".csv", ".h5", ".hdf5")

_LAW = re.compile(r"[A-Za-z][\w-]*")

# Readers of numbers and texts.


def as_given(flag: str, given: Any) -> Any:
    """Value as it was given: a count, a name that the scenario checks later, or True for a switch."""
    return given


def text(expected: str) -> Reader:
    """Reader of a text that is not blank."""

    def read(flag: str, given: str) -> str:
        if not given.strip():
            raise _refusal(flag, given, expected)
        return given.strip()

    return read


def each(expected: str) -> Reader:
    """Reader of several texts, none of them blank."""
    return lambda flag, given: [text(expected)(flag, one) for one in given]


def number(flag: str, given: str) -> float:
    """Number that a text spells."""
    found = read_number(given, f"{flag} {given!r}")
    if found is None:
        raise _refusal(flag, given, "a number, e.g. 0.9")
    return found


def number_or_text(expected: str) -> Reader:
    """Reader of a number, or of a text that is not blank."""
    return lambda flag, given: _value(f"{flag} {given!r}", text(expected)(flag, given))


def repeated(flag: str, given: str, name: str) -> InputError:
    """Error for a name that is given twice."""
    return InputError(f"{flag} {given!r}: {name} is given already, expected it once")


def _refusal(flag: str, given: str, expected: str) -> InputError:
    return InputError(f"{flag} {given!r}: expected {expected}")


def _value(where: str, given: str) -> float | str:
    found = read_number(given, where)
    return given.strip() if found is None else found


def _toml_value(where: str, given: str) -> Any:
    """Value of a text: a number, another value of TOML, or else the text itself."""
    found = read_number(given, where)
    return toml.parse_value(given, where) if found is None else found


def _numbers(where: str, given: str) -> list[float] | None:
    found = [read_number(part, where) for part in given.split(",")]
    return None if None in found else [one for one in found if one is not None]


# Readers of NAME=VALUE, NAME:a,b,c and similar forms.


def _check_parameter(name: str, where: str) -> None:
    from sgdsim.formulas.names import parameter_name

    parameter_name(name, where)


def _check_name(name: str, where: str) -> None:
    from sgdsim.formulas.names import check_name

    check_name(name, where)


def _check_key(key: str, where: str) -> None:
    try:
        toml.split_key(key)
    except InputError as error:
        raise InputError(f"{where}: {error}") from None


def _named(
    separator: str,
    usage: str,
    read: Callable[[str, str, int], Any],
    *,
    check: Callable[[str, str], None] = _check_parameter,
    joint: bool = False,
    overlapping: bool = False,
) -> Reader:
    """Reader of texts that give a value to names, such as ``a=2``; it returns the values by name.

    Parameters
    ----------
    separator
        Text between the names and the rest.
    usage
        Form that is expected, for messages.
    read
        Function of the place (for messages), the rest and the number of names; it returns None if it cannot read the
        rest.
    check
        Function that refuses a text that is not a name.
    joint, overlapping
        True if several names may share a text; and True if a name may occur in several texts.
    """

    def read_all(flag: str, texts: Sequence[str]) -> dict[str, Any]:
        found: dict[str, Any] = {}
        taken: set[str] = set()
        for text in texts:
            where = f"{flag} {text!r}"
            left, separated, rest = (part.strip() for part in text.partition(separator))
            names = [normal(name) for name in split_names(left)]
            if not separated or not rest or not all(names) or (len(names) > 1 and not joint):
                raise _refusal(flag, text, usage)
            for name in names:
                check(name, where)
            value = read(where, rest, len(names))
            if value is None:
                raise _refusal(flag, text, usage)
            for name in [",".join(names)] if overlapping else names:
                if name in taken:
                    raise repeated(flag, text, name)
                taken.add(name)
            found[",".join(names)] = value
        return found

    return read_all


def _start(where: str, rest: str, names: int) -> Any:
    return _listed(where, rest) or _value(where, rest) if names == 1 or rest.startswith("level:") else None


def _listed(where: str, rest: str) -> list[Any] | None:
    """A list, or rows, in TOML's notation; None for any other text."""
    value = toml.parse_value(rest, where) if rest.startswith("[") else None
    return value if isinstance(value, list) else None


def _constant(where: str, rest: str, names: int) -> Any:
    from sgdsim.model.starts import is_start

    if rest.endswith(FILE_OF_ROWS):
        return rest
    value = _listed(where, rest) or _value(where, rest)
    return None if isinstance(value, str) and not is_start(value) else value


def _distribution(where: str, rest: str, names: int) -> str | None:
    return rest if read_number(rest, where) is None else None


def _formula(where: str, rest: str, names: int) -> str:
    from sgdsim.formulas.formula import Formula

    return Formula.parse(rest, where=where).text


def _definition(where: str, rest: str, names: int) -> str | list[str]:
    """A formula, or a list of them, ``[p, q]``, which is a vector."""
    if not (rest.startswith("[") and rest.endswith("]")):
        return _formula(where, rest, names)
    return [_formula(where, part.strip(), names) for part in re.split(r",(?![^(\[]*[)\]])", rest[1:-1])]


def _bins(where: str, rest: str, names: int) -> list[float] | None:
    numbers = _numbers(where, rest)
    return numbers if numbers is not None and names <= 2 and len(numbers) == 3 * names else None


def _lags(where: str, rest: str, names: int) -> dict[str, Any] | None:
    start, colon, lags = rest.partition(":")
    steps = [read_whole(step, where) for step in (start, *lags.split(","))]
    return {"from": steps[0], "lags": steps[1:]} if colon and None not in steps else None


NOISE = _named("=", "NAME=DISTRIBUTION, e.g. x=normal:0,0.5 or p,q=normal:1,0.5;0.5,1", _distribution, joint=True)


def noise_or_argument(flag: str, texts: Sequence[str]) -> dict[str, Any] | list[str] | str:
    """Distributions by name; or, for a loss of the catalogue, its argument ``noise``, one distribution or several."""
    plain = [text.strip() for text in texts]
    if all(text and "=" not in text for text in plain):
        return plain if len(plain) > 1 else plain[0]
    return NOISE(flag, texts)  # type: ignore[no-any-return]


def data(flag: str, given: str) -> str | dict[str, Any]:
    """The file of a data set; or the distributions from which its columns are drawn, and the number of rows."""
    expected = "the name of a file, or e.g. x=normal; y=normal:0,0.5; rows=64"
    if "=" not in given or given.strip().endswith(FILES_OF_DATA):
        return text(expected)(flag, given)  # type: ignore[no-any-return]
    found: dict[str, Any] = {}
    for part in filter(None, map(str.strip, given.split(";"))):
        name, equals, value = map(str.strip, part.partition("="))
        if not (name and equals and value):
            raise _refusal(flag, part, expected)
        if name in found:
            raise repeated(flag, part, name)
        found[name] = _value(f"{flag} {part!r}", value)
    return found


def drifts(flag: str, texts: Sequence[str]) -> dict[str, Any]:
    """Bins of drift recorders by name, each with the quantity that is binned."""
    usage = "NAME:LOW,HIGH,BINS, or of bins of another NAME|OTHER:LOW,HIGH,BINS, e.g. q|x:-4,4,80"
    found: dict[str, Any] = {}
    for text in texts:
        where = f"{flag} {text!r}"
        left, colon, rest = (part.strip() for part in text.partition(":"))
        name, bar, by = (normal(part.strip()) for part in left.partition("|"))
        bins = _numbers(where, rest)
        if not colon or not name or bool(bar) != bool(by) or bins is None or len(bins) != 3:
            raise _refusal(flag, text, usage)
        for one in (name, by or name):
            _check_parameter(one, where)
        if name in found:
            raise repeated(flag, text, name)
        found[name] = {"by": by or name, "bins": bins}
    return found


# Readers of swept values.


def _swept(where: str, rest: str, names: int) -> list[Any] | None:
    """Values separated by semicolons, or by commas if these cannot separate arguments; or a list in TOML."""
    if rest.startswith("["):
        values = toml.parse_value(rest, where)
        return values if isinstance(values, list) and values else None
    parts = _split(rest, ";")
    if len(parts) == 1:
        parts = _split(rest, ",")
        _check_clear(where, parts)
    return [_toml_value(where, part) for part in parts] if all(parts) else None


def _split(text: str, separator: str) -> list[str]:
    """The parts of a text between separators, except separators in quotes or brackets."""
    parts, depth, quote = [""], 0, ""
    for letter in text:
        if quote or letter in "\"'":
            quote = "" if letter == quote else quote or letter
        depth += not quote and (letter in "([{") - (letter in ")]}")
        if letter == separator and not quote and depth <= 0:
            parts.append("")
        else:
            parts[-1] += letter
    return [part.strip() for part in parts]


def _check_clear(where: str, parts: Sequence[str]) -> None:
    """Refuse numbers that may be separate values or arguments of the text before them, as in cosine:0.1,0.001."""
    joined: list[str] = []
    for part in parts:
        if joined and ":" in joined[-1] and read_number(part, where) is not None:
            joined[-1] += f",{part}"
        else:
            joined.append(part)
    if len(joined) < len(parts):
        together = ";".join(joined) if len(joined) > 1 else toml.dump_value(joined)
        readings = f"{len(parts)} values, {';'.join(parts)}, or {len(joined)}, {together}"
        raise InputError(f"{where}: is this {readings}? expected semicolons between the values")


# Readers of other options.


def optimizer(flag: str, text: str) -> dict[str, Any]:
    """The keys of ``[optimizer]``: its name and hyperparameters."""
    usage = "NAME, or NAME:KEY=VALUE,KEY=VALUE, e.g. adam:beta1=0.9,epsilon=0"
    name, colon, rest = (part.strip() for part in text.partition(":"))
    if not name.isidentifier() or bool(colon) != bool(rest):
        raise _refusal(flag, text, usage)
    section: dict[str, Any] = {"name": name}
    for part in rest.split(",") if rest else []:
        key, equals, value = (piece.strip() for piece in part.partition("="))
        if not key.isidentifier() or not equals or not value:
            raise _refusal(flag, text, usage)
        if key in section:
            raise repeated(flag, text, key)
        section[key] = _value(f"{flag} {text!r}", value)
    return section


def snapshots(flag: str, texts: Sequence[str]) -> list[int | str]:
    """Steps of snapshots, or ``final``; each may be given once."""
    found: list[int | str] = []
    for text in texts:
        step = "final" if text.strip() == "final" else read_whole(text, f"{flag} {text!r}")
        if step is None:
            raise _refusal(flag, text, "a step, or final")
        if step in found:
            raise repeated(flag, text, text.strip())
        found.append(step)
    return found


def quantiles(flag: str, texts: Sequence[str]) -> list[float]:
    """Probabilities of quantiles; each may be given once."""
    found: list[float] = []
    for text in texts:
        level = read_number(text, f"{flag} {text!r}")
        if level is None or not 0 < level < 1:
            raise _refusal(flag, text, "a number between 0 and 1, e.g. 0.05")
        if level in found:
            raise repeated(flag, text, text.strip())
        found.append(level)
    return found


def claims(flag: str, texts: Sequence[str]) -> list[dict[str, str]]:
    """Entries of ``[[predict]]``, one for each text."""
    return [claim(text) for text in texts]


def claim(text: str) -> dict[str, Any]:
    """An entry of ``[[predict]]``: a law by its id, perhaps with a resolution, or a formula.

    Examples
    --------
    >>> claim("equipartition; resolution=2%"), claim("variance(x) = 1; order=1")
    ({'id': 'equipartition', 'resolution': '2%'}, {'formula': 'variance(x) = 1; order=1'})
    """
    law, *others = (part.strip() for part in text.split(";"))
    if not _LAW.fullmatch(law):
        return {"formula": text}
    given = {key.strip(): value.strip() for key, _, value in (other.partition("=") for other in others)}
    return {"id": law, **{key: _of_law(key, value) for key, value in given.items()}}


def _of_law(key: str, value: str) -> Any:
    return value if value.endswith("%") or key == "expect" else read_number(value)


def settings(flag: str, texts: Iterable[str]) -> dict[str, Any]:
    """Values by dotted key; if a key is given twice, the last value counts."""
    values = {}
    for text in texts:
        key, equals, value = text.partition("=")
        if not equals or not key.strip():
            raise _refusal(flag, text, "KEY=VALUE, e.g. run.steps=5000")
        values[normal(key.strip())] = _toml_value(f"{flag} {text!r}", value.strip())
    return values


RATE = number_or_text("a number, or a text such as cosine:0.1,0.001")
PARAMETERS = _named(
    "=",
    "NAME=VALUE with a number or a distribution, e.g. u=1.5 or w=normal:0,0.3, or u,w=level:CHARGE,PRODUCT",
    _start,
    joint=True,
)
CONSTANTS = _named("=", "NAME=NUMBER, e.g. a=1, rows V=[[1,2],[3,4]] or V=V.csv, or NAME=DISTRIBUTION", _constant)
DEFINITIONS = _named("=", "'NAME = FORMULA', e.g. 'y = 0.8*x + e' or 'x = [p, q]'", _definition, check=_check_name)
DIRECTIONS = _named("=", "'NAME = FORMULA', e.g. 'x = x*(b*y - a)'", _formula)
STATES = _named("=", "'NAME = FORMULA', e.g. 'trace = 0.9*trace + x; start=1'", lambda _, rest, __: rest)
OBSERVABLES = _named("=", "'NAME = FORMULA', e.g. 'q = u**2 - w**2'", lambda _, rest, __: rest, check=_check_name)
HISTOGRAMS = _named(
    ":", "NAME:LOW,HIGH,BINS, e.g. q:-4,4,200, or of two u,w:-4,4,50,-2,2,50", _bins, joint=True, overlapping=True
)
AUTOCORRELATIONS = _named(":", "NAME:FROM:LAG,LAG,… in steps, e.g. x:1000:1,10,100", _lags)
SWEEPS = _named("=", "KEY=VALUE,VALUE,…, e.g. optimizer.learning_rate=0.1,0.05", _swept, check=_check_key)
