"""Lines and sections of theoretical results, as text and as JSON."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from math import isfinite
from typing import Any

from sgdsim.base.errors import shortened
from sgdsim.theory.quadrature.nested import Numerical

_LONGEST = 160  # characters of a formula in the text; JSON has the whole formula


@dataclass(frozen=True)
class Entry:
    """One line: a name, a number or a formula, and a note.

    Attributes
    ----------
    name
        Name of the quantity, such as ``variance(x)``.
    value
        A number, a formula, or words.
    error
        Error of a number that is computed numerically; 0 for a number that is exact up to rounding.
    note
        Order of validity and conditions.
    """

    name: str
    value: float | str
    error: float = 0.0
    note: str = ""

    def line(self) -> str:
        """The entry as a line of text."""
        value = shortened(self.value, _LONGEST) if isinstance(self.value, str) else f"{self.value:.8g}"
        if self.error > 1e-7 * abs(float(self.value) if not isinstance(self.value, str) else 0.0):
            value += f" ± {self.error:.1g}"
        text = f"{self.name} = {value}" if self.name else value
        return f"{text}   ({self.note})" if self.note else text


@dataclass(frozen=True)
class Section:
    """A title with its entries, or the reason why there are none."""

    title: str
    entries: tuple[Entry, ...] = ()
    reason: str = ""

    def text(self) -> str:
        """Text of the title and, below, the entries as indented lines."""
        lines = [f"  {entry.line()}" for entry in self.entries] or [f"  does not apply: {self.reason}"]
        return "\n".join([f"{self.title}:", *lines])


def to_text(sections: Iterable[Section]) -> str:
    """Text of the sections, one below the other.

    Examples
    --------
    >>> print(to_text([Section("Tails", reason="there is no noise")]))
    Tails:
      does not apply: there is no noise
    """
    return "\n\n".join(section.text() for section in sections)


def to_json(sections: Iterable[Section]) -> str:
    """JSON of the sections, a list with their entries; NaN and infinity become null.

    Examples
    --------
    >>> to_json([Section("Tails", (Entry("kappa", 2.0),))])
    '[{"title": "Tails", "reason": "", "entries": [{"name": "kappa", "value": 2.0, "error": 0.0, "note": ""}]}]'
    """
    return json.dumps(
        [
            {"title": one.title, "reason": one.reason, "entries": [_plain(entry) for entry in one.entries]}
            for one in sections
        ],
        allow_nan=False,
    )


def _plain(entry: Entry) -> dict[str, Any]:
    numbers = {key: getattr(entry, key) for key in ("value", "error")}
    finite = {k: None if isinstance(v, float) and not isfinite(v) else v for k, v in numbers.items()}
    return {"name": entry.name, **finite, "note": entry.note}


def number(name: str, value: Any, note: str = "") -> Entry:
    """Entry of a number, with its error if it is computed numerically.

    Examples
    --------
    >>> number("Tr H", 2).line()
    'Tr H = 2'
    """
    if isinstance(value, Numerical):
        return Entry(name, float(value.value), float(value.error), note)
    return Entry(name, float(value), 0.0, note)
