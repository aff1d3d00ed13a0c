"""Predictions of theory, kept in the file of a run so that they need not be computed again.

They are variables along ``prediction`` and ``claim``. These are not results of the simulation, so the digest leaves
them out. They are used as long as the scenario, the code and the versions are those that computed them; otherwise
theory is asked anew, and the file stays as it is. The rows of a claim are kept together or not at all: if one of them
cannot be stored as plain data, or was cut short, all are computed again. The curves of figures are kept in the cache of
the machine that drew them first, see `sgdsim.base.findings`.
"""

from __future__ import annotations

import hashlib
import json
import sys
from collections.abc import Callable, Collection, Iterable
from contextlib import suppress
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np

from sgdsim import theory
from sgdsim.base.budget import OutOfTime, limited
from sgdsim.base.errors import SgdsimError
from sgdsim.base.findings import answered_by, found, is_ours
from sgdsim.ensemble import Ensemble, Variable
from sgdsim.input.builders import Claim
from sgdsim.input.loading import named
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
    """Rows of a claim, and the reasons where it does not apply; a long computation is announced on standard error."""
    with limited(say=partial(_tell, claim.source.id)):
        return theory.predict([claim.source], scenario.runs, claim.seconds)


def _tell(id: str) -> None:
    if sys.stderr is not None:
        print(f"computing what {id} predicts …", file=sys.stderr, flush=True)


def with_predictions(ensemble: Ensemble, scenario: Scenario) -> Ensemble:
    """The ensemble together with the predictions of its scenario, as far as they can be stored.

    Parameters
    ----------
    ensemble
        The ensemble before it is written.
    scenario
        Its scenario.
    """
    claims: list[str] = []
    skipped: list[str] = []
    rows: list[tuple[int, Prediction, str]] = []
    for claim, table in zip(scenario.claims, scenario.data["predict"], strict=True):
        ended = OutOfTime.raised
        if not (_is_ours(claim) and all(map(is_ours, _code(scenario)))):
            continue
        with suppress(Exception):  # the comparison will report the error; the run must not be lost for it
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
            ("claim",), np.array(claims), {"long_name": "entry of [[predict]], as JSON", _CODE: _by(ensemble)}
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
    """Kept rows of each claim of a scenario; None for a claim that must be computed."""
    known: dict[str, Told] = {}
    with suppress(SgdsimError, KeyError, TypeError, ValueError):  # a damaged file, or one of other code
        if "claim_asked" in ensemble and ensemble.variables["claim_asked"].attributes.get(_CODE) == _by(ensemble):
            known = _read(ensemble)
    tables = scenario.data["predict"]
    of_file = len(tables) == len(scenario.claims)  # otherwise there are also laws that the file does not ask for
    return [known.get(_name(table)) for table in tables] if of_file else [None] * len(scenario.claims)


def curves(scenario: Scenario, kind: str, drawn: Collection[str]) -> tuple[list[Prediction], Curves]:
    """Predictions that a kind of figure draws beside the rows of a scenario: at other records, and in between.

    Between the points of a sweep only the laws and claims with an id in `drawn` are computed.
    """
    made: list[tuple[list[Prediction], Curves]] = []

    def find() -> dict[str, Any]:
        made.append(_computed(scenario, kind, drawn))
        along, between = made[0]
        sweep = {name: values.tolist() for name, values in between.sweep.items()}
        return {"along": _plain_rows(along), "between": _plain_rows(between.predictions), "sweep": sweep}

    if scenario.data["run"].get("from") or not all(map(_is_ours, scenario.claims)):  # not all is in the text
        return _computed(scenario, kind, drawn)
    with suppress(NotPlain):
        question = ["curves", kind, sorted(drawn), scenario.toml, named(scenario.runs)]
        data = found(question, find, _code(scenario))
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
    return [plain_row(replace(row, assumes=())) for row in rows]  # the points of a curve get no verdict


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


def _by(ensemble: Ensemble) -> str:
    """Hash of the code that predicts and of the scenario."""
    return hashlib.sha256(f"{answered_by()}\n{ensemble.attributes.get('scenario')}".encode()).hexdigest()


def _name(table: object) -> str:
    return json.dumps(table, sort_keys=True, default=str)


def _is_ours(claim: Claim) -> bool:
    """True if the code of a claim is known; that of a law of the user's own is not."""
    return not isinstance(claim.source, theory.Law) or is_ours(claim.source.at_point)


def _code(scenario: Scenario) -> list[Callable[..., Any]]:
    """Functions on which the mathematics of the runs of a scenario depends."""
    return [function for run in scenario.runs for function in run.code]
