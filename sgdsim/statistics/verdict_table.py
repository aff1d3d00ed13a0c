"""Rows of a comparison as text and as JSON."""

from __future__ import annotations

import json
import sys
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import fields
from math import copysign, isinf, isnan
from typing import Any

from sgdsim.prediction import is_named
from sgdsim.statistics.comparison import ALPHA, DOES_NOT_HOLD, Comparison


def format_table(comparisons: Sequence[Comparison], skipped: Iterable[Any] = (), alpha: float = ALPHA) -> str:
    """The rows as aligned text, a line that counts them, and a line for each law that does not apply.

    Parameters
    ----------
    comparisons
        The rows of one file.
    skipped
        Laws that do not apply: objects with ``id``, ``reason`` and ``part``.
    alpha
        The level of the verdicts.

    Examples
    --------
    >>> numbers = (0.5, 0.51, 0.02, 0.5, 0.6, 1.0, 0.1, 0.005)
    >>> row = Comparison("valley", "variance(x)", None, "variance", *numbers, "exact", "inconclusive")
    >>> print(format_table([row]))
    id      quantity     predicted  measured     z      verdict
    valley  variance(x)  0.5        0.51 ± 0.02  +0.50  inconclusive
    0 agree, 0 disagree, 1 inconclusive (Holm over 1 test, alpha = 0.001)
    """
    notes, shared = _shortened_notes([row.note for row in comparisons])
    table = _used(comparisons, notes)
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    lines = ["  ".join(map(str.ljust, line, widths)).rstrip() for line in table]
    lines += [f"[{number}] {text}" for number, text in enumerate(shared, 1)]
    lines.append(summary_line(comparisons, alpha))
    reasons: dict[tuple[str, str], list[str]] = {}
    for one in skipped:
        reasons.setdefault((one.part, one.reason), []).append(one.id)
    for (part, reason), ids in reasons.items():
        where = f"part {part}: " if part else ""
        lines.append(f"{where}{', '.join(ids)} {'does' if len(ids) == 1 else 'do'} not apply: {reason}")
    return "\n".join(lines)


def texts(comparisons: Sequence[Comparison]) -> list[tuple[str, ...]]:
    """The heads of the columns that are not empty, and the cells of every row."""
    return _used(comparisons, [row.note for row in comparisons])


def _used(comparisons: Sequence[Comparison], notes: Sequence[str]) -> list[tuple[str, ...]]:
    header = ("part", "id", "quantity", "point", "predicted", "measured", "z", "verdict", "note")
    table = [header, *((*_cells(row), note) for row, note in zip(comparisons, notes, strict=True))]
    return list(zip(*(column for column in zip(*table, strict=True) if any(column[1:])), strict=True))


_LONG = 80  # characters of a remark from which on it is not repeated in a table
_CONTROL = {"agrees": "rejected (control)", "disagrees": "NOT REJECTED (control)"}


def _cells(row: Comparison) -> tuple[str, ...]:
    measured = "" if isnan(row.measured) else f"{row.measured:.6g}"
    if not isnan(row.stderr):
        measured += f" ± {row.stderr:.2g}"
    return (
        row.part,
        row.id if is_named(row.id) else "claim",  # the quantity tells which claim it is
        row.quantity,
        "" if row.point is None else str(row.point),
        f"{row.predicted + 0.0:.6g}",  # writes -0 as 0
        measured,
        "" if isnan(row.z) else z_text(row.z),
        row.verdict if row.expect == "agrees" else _CONTROL[row.outcome],
    )


def z_text(z: float) -> str:
    """A z as text with two decimals, or with an exponent if it is huge, as when the spread is rounding alone.

    Examples
    --------
    >>> z_text(-1.5), z_text(-2e180)
    ('-1.50', '-2.0e+180')
    """
    return f"{z:+.2f}" if abs(z) < 1e6 else f"{z:+.1e}"


def _shortened_notes(notes: Sequence[str]) -> tuple[list[str], list[str]]:
    """Notes with a number in place of each long remark that several of them share, and these remarks.

    Examples
    --------
    >>> long = "a condition " + 80 * "o"
    >>> _shortened_notes([f"{long}; adiabatic", long, "adiabatic"])[0]
    ['[1]; adiabatic', '[1]', 'adiabatic']
    """
    remarks = [note.split("; ") for note in notes]
    count = Counter(remark for of_row in remarks for remark in of_row)
    shared = [remark for remark, times in count.items() if times > 1 and len(remark) > _LONG]
    numbers = {remark: f"[{number}]" for number, remark in enumerate(shared, 1)}
    return ["; ".join(numbers.get(remark, remark) for remark in of_row) for of_row in remarks], shared


def summary_line(comparisons: Sequence[Comparison], alpha: float) -> str:
    """A line with the number of rows of each verdict."""
    claims, controls = (
        [row for row in comparisons if (row.expect == "agrees") is is_claim] for is_claim in (True, False)
    )
    agrees, disagree, inconclusive = (
        sum(row.verdict == verdict for row in claims) for verdict in ("agrees", "disagrees", "inconclusive")
    )
    if not comparisons:
        return "nothing to compare with: no prediction in the scenario applies"
    outside = sum(row.verdict == DOES_NOT_HOLD for row in claims)
    of_outside = f", {outside} do{'es' if outside == 1 else ''} not hold here" if outside else ""
    tests = sum(not isnan(row.p) for row in comparisons)
    plural = "" if tests == 1 else "s"
    rejected = sum(row.outcome == "agrees" for row in controls)
    of_controls = f"; {rejected} of {len(controls)} controls rejected" if controls else ""
    return (
        f"{agrees} agree{'s' if agrees == 1 else ''}, {disagree} disagree{'s' if disagree == 1 else ''}, "
        f"{inconclusive} inconclusive{of_outside}{of_controls} (Holm over {tests} test{plural}, alpha = {alpha:g})"
    )


def to_json(comparisons: Iterable[Comparison], file: str, scenario: str) -> str:
    """The rows as JSON; a number that was not measured is null. `expect` and `part` are left out if no row has them.

    Examples
    --------
    >>> to_json([], "run.h5", "river_valley")
    '{"file": "run.h5", "scenario": "river_valley", "comparisons": []}'
    """
    comparisons = list(comparisons)
    optional = {field.name: field.default for field in fields(Comparison) if field.name in ("expect", "part")}
    used = {name for name, usual in optional.items() if any(getattr(row, name) != usual for row in comparisons)}
    unused = {"note", *optional} - used
    names = [field.name for field in fields(Comparison) if field.name not in unused]
    rows = [{name: _finite(getattr(row, name)) for name in names} for row in comparisons]
    return json.dumps({"file": file, "scenario": scenario, "comparisons": rows}, allow_nan=False)


def _finite(value: Any) -> Any:
    if isinstance(value, float) and isinf(value):
        return copysign(sys.float_info.max, value)  # JSON has no infinity; null is for what was not measured
    return None if isinstance(value, float) and isnan(value) else value
