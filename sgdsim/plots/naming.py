"""Short names in panels for long formulas, which the caption gives in full."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

from sgdsim.plots.mathematics import is_typeset, letters, mark, plain
from sgdsim.plots.panel import Contours, Drawing, Line, Panel
from sgdsim.plots.subject import Subject, claim_name, is_named, prediction_label, quantity_label
from sgdsim.prediction import Curve, Prediction

_LONG = 26
"""Number of letters from which on a formula makes a legend hard to read."""
_LONGEST = 110
_NUMBER = re.compile(r"[-+]?[\d.]+(e[-+]?\d+)?(/[\d.]+)?")


@dataclass(frozen=True, eq=False)
class _Claim:
    """A claim that the user has not named, with the panels in which it is drawn."""

    label: str
    prediction: Prediction
    panels: tuple[int, ...]
    joined: bool

    @property
    def formula(self) -> str:
        return claim_name(self.prediction)

    @property
    def control(self) -> bool:
        return self.prediction.expect == "disagrees"

    @property
    def is_number(self) -> bool:
        return bool(_NUMBER.fullmatch(plain(self.formula)))

    @property
    def is_bound(self) -> bool:
        return self.formula.startswith(("<", ">"))

    @property
    def is_long(self) -> bool:
        return letters(self.formula) > _LONG or not is_typeset(self.formula)

    @property
    def says_little(self) -> bool:
        """True if it is no name for a legend: too long, or a number alone."""
        return self.is_long or self.is_number


def with_short_names(subject: Subject, drawing: Drawing) -> Drawing:
    """Drawing in which long formulas in titles and legends have short names, which the caption explains.

    A claim that is alone in its panel is called "prediction". Claims about single numbers are called "predicted
    numbers", as their place tells them apart. Other claims keep their formula, or get a number if it is long.
    """
    claims = list(_unnamed(subject, drawing.panels))
    names: dict[str, str] = {}
    for control in (False, True):
        names |= _names([one for one in claims if one.control == control])
    notes = [*_definitions(subject, drawing.panels), *_formulas(claims, names)]
    panels = tuple(_renamed(panel, names) for panel in drawing.panels)
    return replace(drawing, panels=panels, notes=(*notes, *drawing.notes))


def _unnamed(subject: Subject, panels: Iterable[Panel]) -> Iterator[_Claim]:
    predictions = {prediction_label(one): one for one in subject.predictions if not is_named(one)}
    for label, prediction in predictions.items():
        drawn = [
            (place, part)
            for place, panel in enumerate(panels)
            for part in panel.parts
            if part.label == label and isinstance(part, Line | Contours)
        ]
        if drawn and not isinstance(prediction.measure, Curve):
            joined = any(not isinstance(part, Line) or part.joined for _, part in drawn)
            yield _Claim(label, prediction, tuple(dict.fromkeys(place for place, _ in drawn)), joined)


def _names(claims: list[_Claim]) -> dict[str, str]:
    """New names of the claims that get one."""
    points = [one for one in claims if not one.joined and not one.is_bound]
    called = "predicted numbers" if len(points) > 1 else "predicted number"
    names = dict.fromkeys(points, called) if len(points) > 1 or any(one.says_little for one in points) else {}
    lines = [one for one in claims if one.joined and not one.is_bound]
    places = [place for one in lines for place in one.panels]
    if len(places) == len(set(places)):
        names |= dict.fromkeys(lines, "prediction") if len(lines) > 1 or any(one.says_little for one in lines) else {}
    else:
        names |= {one: f"{quantity_label(one.prediction)} = {one.formula}" for one in lines if one.is_number}
        names |= {one: f"prediction {number}" for number, one in enumerate(lines, 1) if one.is_long}
    return {one.label: one.label.replace(one.formula, name, 1) for one, name in names.items()}


def _renamed(panel: Panel, names: dict[str, str]) -> Panel:
    shared = [name for name in names.values() if not name[-1:].isdigit()]
    parts = []
    for part in panel.parts:
        name = names.get(part.label)
        if name is None:
            parts.append(part)
        elif isinstance(part, Line) and name in shared:
            parts.append(replace(part, label=name, series=0))
        else:
            parts.append(replace(part, label=name))
    return replace(panel, parts=tuple(parts))


def _formulas(claims: Sequence[_Claim], names: dict[str, str]) -> Iterator[str]:
    """Sentences that explain the short names."""
    for control, begin in ((False, "Predicted: "), (True, "To be rejected: ")):
        mine = [one for one in claims if one.control == control and one.label in names and not one.is_number]
        said = [one for one in map(_said, mine, [names[one.label] for one in mine]) if letters(one) <= _LONGEST]
        if said:
            yield f"{begin}{'; '.join(dict.fromkeys(said))}."


def _said(claim: _Claim, name: str) -> str:
    number = re.search(r"\d+$", name.partition(",")[0])
    return f"{f'({number[0]}) ' if number else ''}{quantity_label(claim.prediction)} = {claim.formula}"


def _definitions(subject: Subject, panels: Iterable[Panel]) -> Iterator[str]:
    """Formulas of the observables for which titles have no room."""
    titles = "".join(panel.title for panel in panels)
    for name in subject.observables:
        whole = subject.definition(name)
        if whole not in titles and mark(name) in titles and letters(whole) <= _LONGEST:
            yield f"{whole}."
