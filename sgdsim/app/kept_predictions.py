"""What theory says of a run, kept in its file by the run that is compared, so that nobody computes it again.

It stands in variables along ``prediction`` and ``claim``, which are no results: the digest leaves them out. They are
read as long as the code and the versions are those that computed them; otherwise theory is asked anew, and the file
stays as it is. What is kept of a claim is all or nothing: where one of its rows has no plain form, or was cut short, it
is computed again. The curves of figures are kept on the machine that drew them first, as findings.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Collection, Iterable
from contextlib import suppress
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np

from sgdsim import theory
from sgdsim.base.budget import OutOfTime, limited
from sgdsim.base.errors import SgdsimError
from sgdsim.base.findings import answered_by, found
from sgdsim.ensemble import Ensemble, Variable
from sgdsim.input.builders import Claim
from sgdsim.input.scenario import Scenario
from sgdsim.plots.subject import Curves
from sgdsim.prediction import Curve, Number, Prediction
from sgdsim.theory.stored_rows import NotPlain, plain_row, row_of

Told = tuple[list[Prediction], list[theory.Skipped]]
"""The rows of a claim, and where it does not apply."""

MOST_ROWS = 10_000
"""That are kept: of more, those of a large sweep, the texts would take more than the results."""
_CODE = "computed_by"


def told_by(claim: Claim, scenario: Scenario) -> Told:
    """The rows of a claim, and where it does not apply; what takes long is told on standard error."""
    with limited(say=partial(_tell, claim.source.id)):
        return theory.predict([claim.source], scenario.runs, claim.seconds)


def _tell(id: str) -> None:
    if sys.stderr is not None:
        print(f"computing what {id} predicts …", file=sys.stderr, flush=True)


def with_predictions(ensemble: Ensemble, scenario: Scenario) -> Ensemble:
    """The ensemble and what its scenario predicts, as far as it can be told and is plain.

    Parameters
    ----------
    ensemble
        Before it is written.
    scenario
        Of which it is.
    """
    claims: list[str] = []
    skipped: list[str] = []
    rows: list[tuple[int, Prediction, str]] = []
    for claim, table in zip(scenario.claims, scenario.data["predict"], strict=True):
        ended = OutOfTime.raised
        if not _is_ours(claim):
            continue
        with suppress(Exception):  # the comparison will say what is wrong, and a run is not lost for it
            told, reasons = told_by(claim, scenario)
            texts = [json.dumps(plain_row(row)) for row in told]
            if OutOfTime.raised == ended and len(rows) + len(told) <= MOST_ROWS:
                rows += [(len(claims), row, text) for row, text in zip(told, texts, strict=True)]
                claims.append(_name(table))
                skipped.append(json.dumps([one.reason for one in reasons]))
    if not claims:
        return ensemble
    made = {
        "claim_asked": Variable(
            ("claim",), np.array(claims), {"long_name": "entry of [[predict]], as JSON", _CODE: answered_by()}
        ),
        "claim_skipped": Variable(("claim",), np.array(skipped), {"long_name": "where it does not apply, as JSON"}),
    }
    columns: dict[str, tuple[str, list[Any]]] = {
        "prediction_claim": ("index of the claim", [number for number, *_ in rows]),
        "prediction_law": ("law, or name of a claim of the user", [row.id for _, row, _ in rows]),
        "prediction_quantity": ("what is predicted", [row.quantity for _, row, _ in rows]),
        "prediction_point": (
            "sweep point, -1 for none",
            [-1 if row.point is None else row.point for _, row, _ in rows],
        ),
        "predicted": ("predicted value", [row.predicted for _, row, _ in rows]),
        "prediction_row": ("all of the prediction, as JSON", [text for *_, text in rows]),
    }
    if rows:
        made |= {
            name: Variable(("prediction",), np.array(data), {"long_name": words})
            for name, (words, data) in columns.items()
        }
    return Ensemble({**ensemble.variables, **made}, ensemble.attributes)


def kept(ensemble: Ensemble, scenario: Scenario) -> list[Told | None]:
    """The rows that are kept of each claim of a scenario; None where it must be computed."""
    known: dict[str, Told] = {}
    with suppress(SgdsimError, KeyError, TypeError, ValueError):  # a file of other code, or damaged
        if "claim_asked" in ensemble and ensemble.variables["claim_asked"].attributes.get(_CODE) == answered_by():
            known = _read(ensemble)
    tables = scenario.data["predict"]
    of_file = len(tables) == len(scenario.claims)  # else others are tried that the file does not ask for
    return [known.get(_name(table)) for table in tables] if of_file else [None] * len(scenario.claims)


def curves(scenario: Scenario, kind: str, drawn: Collection[str]) -> tuple[list[Prediction], Curves]:
    """The rows that a kind of figure draws beside those of a scenario: at other records, and in between.

    Only those laws and claims whose ids are `drawn` are asked what they say in between points of a sweep.
    """
    made: list[tuple[list[Prediction], Curves]] = []

    def find() -> dict[str, Any]:
        made.append(_computed(scenario, kind, drawn))
        along, between = made[0]
        sweep = {name: values.tolist() for name, values in between.sweep.items()}
        return {"along": _plain_rows(along), "between": _plain_rows(between.predictions), "sweep": sweep}

    if scenario.data["run"].get("from") or not all(map(_is_ours, scenario.claims)):  # what they say is not in the text
        return _computed(scenario, kind, drawn)
    with suppress(NotPlain):
        data = found(["curves", kind, sorted(drawn), scenario.toml], find)
        if not made:
            sweep = {name: np.array(values) for name, values in data["sweep"].items()}
            return _rows(data["along"]), Curves(tuple(_rows(data["between"])), sweep)
    return made[0]


def _computed(scenario: Scenario, kind: str, drawn: Collection[str]) -> tuple[list[Prediction], Curves]:
    from sgdsim.plots.along import predictions_along, predictions_on_the_way
    from sgdsim.plots.between import predictions_between

    if kind == "moments":
        laws = [claim.source for claim in scenario.claims if isinstance(claim.source, theory.Law)]
        along = predictions_along(laws, scenario.runs)
        return along, Curves(tuple(predictions_on_the_way(laws, scenario.runs)))
    if kind in ("sweep", "diagram"):
        between = predictions_between(scenario, drawn, over_both=kind == "diagram") or Curves()
        shown = tuple(row for row in between.predictions if isinstance(row.measure, Number | Curve))
        return [], replace(between, predictions=shown)
    return [], Curves()


def _plain_rows(rows: Iterable[Prediction]) -> list[dict[str, Any]]:
    return [plain_row(replace(row, assumes=())) for row in rows]  # a curve is judged by nobody


def _rows(data: Iterable[dict[str, Any]]) -> list[Prediction]:
    return [row_of(one) for one in data]


def _read(ensemble: Ensemble) -> dict[str, Told]:
    told: list[Told] = [([], []) for _ in ensemble["claim_asked"]]
    if "prediction_row" in ensemble:
        for number, text in zip(ensemble["prediction_claim"], ensemble["prediction_row"], strict=True):
            told[int(number)][0].append(row_of(json.loads(str(text))))
    names = [str(name) for name in ensemble["claim_asked"]]
    for name, (_, reasons), text in zip(names, told, ensemble["claim_skipped"], strict=True):
        reasons += [theory.Skipped(json.loads(name).get("id", ""), str(reason)) for reason in json.loads(str(text))]
    return dict(zip(names, told, strict=True))


def _name(table: object) -> str:
    return json.dumps(table, sort_keys=True, default=str)


def _is_ours(claim: Claim) -> bool:
    """Whether the code that answers is known; that of a law of the user's own is not."""
    return not isinstance(claim.source, theory.Law) or claim.source.at_point.__module__.startswith("sgdsim.")
