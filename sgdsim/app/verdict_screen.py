"""The verdicts on one screen: a line for each law or claim, disagreements first, with its meaning in words."""

from __future__ import annotations

import textwrap
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from math import ceil, inf, isfinite, log10

import click

from sgdsim.base.errors import escaped
from sgdsim.prediction import is_named
from sgdsim.statistics.comparison import DOES_NOT_HOLD, Comparison
from sgdsim.statistics.verdict_table import summary_line, z_text
from sgdsim.theory import LAWS, Skipped

_RANK = ("disagrees", "inconclusive", "agrees", DOES_NOT_HOLD)
_COLOURS = {"disagrees": "red", "inconclusive": "yellow", "agrees": "green", DOES_NOT_HOLD: "cyan"}
_VERDICTS = 30  # width in characters of the column of verdicts
_Z = 11  # width in characters of the column of z
_NARROWEST = 72  # columns; a narrower terminal breaks lines
_OF_STEPS = ("identities", "first-step", "first-update", "second-step")  # laws about single steps only
_MORE = "times the trajectories would decide"
_ALL = "--all shows every row and says why"


def screen(
    comparisons: Sequence[Comparison],
    skipped: Iterable[Skipped],
    alpha: float,
    width: int = 80,
    colour: bool = False,
    points: Mapping[str, Sequence[str]] | None = None,
) -> str:
    """Text with a line for each law or claim of a part, the number of rows, and the laws that do not apply.

    Parameters
    ----------
    comparisons
        Comparisons of one file.
    skipped
        Laws that do not apply.
    alpha
        Probability of one or more false rejections, at which the verdicts were made.
    width
        Width of the terminal, in characters.
    colour
        True to colour the verdicts.
    points
        Labels of the sweep points of each part, such as ``learning_rate = 0.1``; by default their numbers.

    Examples
    --------
    >>> numbers = (0.5, 0.51, 0.02, 0.5, 0.6, 1.0, 0.1, 0.005)
    >>> row = Comparison("valley", "variance(x)", None, "variance", *numbers, "exact", "inconclusive")
    >>> print(screen([row], [], 1e-3))
    valley: variance(x)                   inconclusive                       z +0.50
        consistent; 1 % could not have been seen, 400 times the trajectories would
    0 agree, 0 disagree, 1 inconclusive (Holm over 1 test, alpha = 0.001)
    So nothing is decided.
    """
    groups: dict[tuple[str, str, bool], list[Comparison]] = {}
    for row in comparisons:
        claimed = row.quantity if not is_named(row.id) else ""
        groups.setdefault((row.part, claimed or row.id, row.expect == "agrees"), []).append(row)
    ordered = sorted(groups.values(), key=lambda rows: _RANK.index(_worst(rows)))
    skipped, width = list(skipped), max(width, _NARROWEST)
    lines = [line for rows in ordered for line in _lines(rows, width, colour, points or {})]
    lines += textwrap.wrap(summary_line(comparisons, alpha), width)
    lines += textwrap.wrap(in_words(comparisons), width) + _skipped(skipped, width)
    if any(len(rows) > 1 for rows in ordered) or len({one.id for one in skipped if one.asked}) < len(skipped):
        lines.append(_ALL)
    return "\n".join(lines)


_TOLD = 6.0
"""Deviation in standard errors that no row reaches by chance."""


def in_words(comparisons: Iterable[Comparison]) -> str:
    """One sentence that sums up the decided rows; empty if all rows are controls.

    Examples
    --------
    >>> numbers = (0.5, 0.51, 0.02, 0.5, 0.6, 1.0, 0.1, 0.005)
    >>> row = Comparison("identities", "mean kick of x", None, "mean", *numbers, "exact", "agrees")
    >>> in_words([row])
    'So the steps are those of the formula, as far as was resolved; where they lead was not decided.'
    """
    rows = list(comparisons)
    if any(row.expect != "agrees" and row.outcome != "agrees" for row in rows):
        return "So what is known to be wrong was not rejected: nothing is proven by the rows that agree."
    return _of_claims([row for row in rows if row.expect == "agrees"])


def _of_claims(claims: Sequence[Comparison]) -> str:
    wrong, right = ([row for row in claims if row.verdict == verdict] for verdict in ("disagrees", "agrees"))
    if wrong and all(map(_is_claimed, wrong)):
        several = len({(row.part, row.id, row.quantity) for row in wrong}) > 1
        return f"So {'claims do' if several else 'a claim does'} not hold for what was simulated."
    if wrong:
        return "So either the simulation is not that of its formula, or a law does not hold where it says that it does."
    if not right:
        return "So nothing is decided." if claims else ""
    of_steps = any(row.id in _OF_STEPS for row in right)
    if all(row.id in _OF_STEPS for row in right):
        return "So the steps are those of the formula, as far as was resolved; where they lead was not decided."
    if all(map(_is_claimed, right)):
        return "So what was claimed holds, as far as was resolved."
    return f"So {'the steps are those of the formula, and ' if of_steps else ''}theory holds, as far as was resolved."


def _is_claimed(row: Comparison) -> bool:
    return row.id not in LAWS


def _lines(rows: Sequence[Comparison], width: int, colour: bool, points: Mapping[str, Sequence[str]]) -> list[str]:
    """Lines about a law: its name, verdicts and worst z, and below their meaning in words."""
    counts = _counts(rows).ljust(_VERDICTS)
    verdict = click.style(counts, fg=_COLOURS[_worst(rows)]) if colour else counts
    *above, name = textwrap.wrap(escaped(_name(rows)), width - _VERDICTS - _Z - 2)
    meaning = textwrap.wrap(escaped(_meaning(rows, points)), width, initial_indent="    ", subsequent_indent="    ")
    return [*above, f"{name:<{width - _VERDICTS - _Z - 1}}{verdict} {_worst_z(rows):>{_Z}}".rstrip(), *meaning]


def _worst(rows: Sequence[Comparison]) -> str:
    return min((row.outcome for row in rows), key=_RANK.index)


def _name(rows: Sequence[Comparison]) -> str:
    first = rows[0]
    part = f"{first.part}, " if first.part else ""
    quantities = dict.fromkeys(row.quantity for row in rows)
    if not is_named(first.id):
        return f"{part}{first.quantity}"
    return f"{part}{first.id}: {first.quantity}" if len(quantities) == 1 else f"{part}{first.id}"


def _counts(rows: Sequence[Comparison]) -> str:
    if rows[0].expect != "agrees":
        return "rejected, as it must" if _worst(rows) == "agrees" else "NOT REJECTED"
    found = Counter[str](row.verdict for row in rows)
    if len(rows) == 1:
        return rows[0].verdict
    words = {"agrees": "agree", "disagrees": "disagree", DOES_NOT_HOLD: "do not hold here"}
    several = {one: words.get(one, one) for one in _RANK}
    return ", ".join(f"{found[one]} {one if found[one] == 1 else several[one]}" for one in _RANK if found[one])


def _worst_z(rows: Sequence[Comparison]) -> str:
    """Text of the largest deviation of the decisive rows, in standard errors.

    Rows that satisfy a bound are left out: they may be many standard errors from it, which means nothing. So are those
    inside a tolerance, whose z is zero wherever they are.
    """
    worst = _worst(rows)
    most = _TOLD if rows[0].expect == worst == "agrees" else inf
    decisive = (row for row in rows if row.outcome == worst and not (row.z == 0.0 and _allowed(row)))
    z = max((row.z for row in decisive if abs(row.z) < most), key=abs, default=None)
    return "" if z is None else f"z {z_text(z)}"


def _meaning(rows: Sequence[Comparison], points: Mapping[str, Sequence[str]]) -> str:
    """Outcome of the rows of a law, in words."""
    worst = _worst(rows)
    decisive = [row for row in rows if row.outcome == worst]
    if rows[0].expect != "agrees":
        return "a control: a wrong prediction" if worst == "agrees" else f"a control: {_difference(decisive, points)}"
    if worst == "disagrees":
        return _difference(decisive, points)
    if worst == "inconclusive":
        return _open(decisive)
    return decisive[0].note if worst == DOES_NOT_HOLD else _seen(rows)


def _seen(rows: Sequence[Comparison]) -> str:
    """The deviation that rows which agree would have shown; for a tolerance or a bound, what was expected."""
    seen = max((row for row in rows if isfinite(row.detectable)), key=_factor, default=None)
    if seen is None:
        return ""
    allowed = _allowed(seen)
    if not allowed:
        return f"consistent; {_size(seen, seen.detectable)} would have been seen"
    is_bound = "within" not in allowed
    return allowed if is_bound else f"{allowed}; {_size(seen, seen.detectable)} beyond that would have been seen"


def _allowed(row: Comparison) -> str:
    """Words of the row's note on other numbers that count as right, a tolerance or a bound; empty if there are none."""
    return next((one for one in row.note.split("; ") if one.startswith("expected ")), "")


def _difference(rows: Sequence[Comparison], points: Mapping[str, Sequence[str]]) -> str:
    row = max(rows, key=lambda one: abs(one.z) if isfinite(one.z) else 0.0)
    labels = points.get(row.part, ())
    at = "" if row.point is None else f" at {labels[row.point] if labels else f'point {row.point}'}"
    error = f" ± {row.stderr:.2g}" if isfinite(row.stderr) else ""
    more = f", and {len(rows) - 1} more" if len(rows) > 1 else ""
    return f"{row.quantity}{at} is {row.measured:.6g}{error}, predicted {row.predicted + 0.0:.6g}{more}"


def _open(rows: Sequence[Comparison]) -> str:
    reasons = [found for row in rows if (found := _reason(row))]
    if reasons:
        return Counter(reasons).most_common(1)[0][0]
    row = max(rows, key=_factor)
    missed = f"{_size(row, row.resolution)} could not have been seen"
    return f"consistent; {missed}, {_rounded(_factor(row))} times the trajectories would"


def _reason(row: Comparison) -> str:
    """Reason why a row is not decided, empty if more trajectories would decide it."""
    first, *more = row.note.split("; ")
    if not first.endswith(_MORE) or isinstance(row.order, int):  # the note of an order names other rates
        return first
    return next((one for one in more if one.startswith("its condition that")), "")


def _factor(row: Comparison) -> float:
    """Factor by which the number of trajectories must grow to see a deviation of the size of the resolution."""
    factor = (row.detectable / row.resolution) ** 2 if row.resolution > 0 else 0.0
    return factor if isfinite(factor) else 0.0


def _size(row: Comparison, deviation: float) -> str:
    """Text of a deviation relative to the prediction, or of the deviation itself if the prediction is nearly zero."""
    if abs(row.predicted) > deviation:
        return f"{100 * deviation / abs(row.predicted):.2g} %"
    return f"a deviation of {deviation:.2g}"


def _rounded(number: float) -> str:
    """Number rounded up to two digits, so that with as many trajectories a row is decided.

    Examples
    --------
    >>> _rounded(5.61), _rounded(1234.0)
    ('5.7', '1300')
    """
    unit = 10.0 ** (int(log10(number)) - 1)
    return f"{ceil(number / unit) * unit:.6g}"


def further_reasons(number: int) -> str:
    """Words on reasons that are not shown.

    Examples
    --------
    >>> further_reasons(0), further_reasons(1), further_reasons(99)
    ('', '; and 1 more such reason', '; and 99 more such reasons')
    """
    return f"; and {number} more such reason{'s' if number > 1 else ''}" if number else ""


def _skipped(skipped: Sequence[Skipped], width: int) -> list[str]:
    """Lines about laws that were asked for and do not apply, each with its first reason; the others are counted."""
    asked: dict[tuple[str, str], list[str]] = {}
    for one in skipped:
        if one.asked:
            asked.setdefault((one.part, one.id), []).append(one.reason)
    lines = []
    for (part, id), reasons in asked.items():
        where = f"{part}, " if part else ""
        further = further_reasons(len(reasons) - 1)
        text = escaped(f"{where}{id} does not apply: {reasons[0]}{further}")
        lines += textwrap.wrap(text, width, subsequent_indent="    ", break_on_hyphens=False)
    if others := len({one.id for one in skipped if not one.asked}):
        more = "more " if asked else ""
        lines.append(f"{others} {more}{'law does' if others == 1 else 'laws do'} not apply")
    return lines
