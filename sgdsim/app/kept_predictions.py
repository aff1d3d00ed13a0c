"""Predictions of theory, computed before a run and kept in its file, so that they need not be computed again.

They are variables along ``prediction`` and ``claim``. These are not results of the simulation, so the digest leaves
them out. They are used as long as the scenario, the code and the versions are those that computed them; otherwise
theory is asked anew, and the file stays as it is. The rows of a claim are kept together or not at all: if one of them
cannot be stored as plain data, all are computed again. An answer that a limit of time cut short is kept as it is, with
what it says about the limit. The predictions of an ensemble in memory are kept as long as it exists. The curves of
figures are kept in the cache of the machine that drew them first, see `sgdsim.base.findings`.
"""

from __future__ import annotations

import hashlib
import json
import sys
from collections.abc import Callable, Collection, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any
from weakref import WeakKeyDictionary

import numpy as np

from sgdsim import theory
from sgdsim.app.verdict_screen import further_reasons
from sgdsim.base.budget import OutOfTime, limited
from sgdsim.base.errors import InputError
from sgdsim.base.findings import answered_by, found, is_ours
from sgdsim.ensemble import Ensemble, Variable
from sgdsim.input.builders import Claim
from sgdsim.input.loading import named
from sgdsim.input.scenario import Scenario
from sgdsim.plots.subject import Curves
from sgdsim.prediction import Curve, Number, Prediction
from sgdsim.theory.stored_rows import NotPlain, plain_row, row_of

MOST_ROWS = 10_000
"""Most rows that are kept: the texts of more, as in a large sweep, would take more room than the results."""
_CODE = "computed_by"


@dataclass(frozen=True)
class Told:
    """The answer of theory about a claim: rows, reasons where it does not apply, and True if it had time for all."""

    rows: list[Prediction] = field(default_factory=list)
    skipped: list[theory.Skipped] = field(default_factory=list)
    is_whole: bool = True


def _tell(source: theory.Law | theory.UserPrediction) -> None:
    name = source.id if isinstance(source, theory.Law) else source.name
    if sys.stderr is not None:
        print(f"computing what {name} predicts …", file=sys.stderr, flush=True)


def _asked(claim: Claim, scenario: Scenario, quiet: bool = False) -> Told:
    """Answer of theory about a claim, computed now; a long computation is announced on standard error."""
    ended = OutOfTime.raised
    with limited(say=None if quiet else partial(_tell, claim.source)):
        rows, skipped = theory.predict([claim.source], scenario.runs, claim.seconds)
    return Told(rows, skipped, OutOfTime.raised == ended)


def told_before(
    scenarios: Sequence[Scenario], must_apply: Collection[str] = (), quiet: bool = False
) -> list[list[Told | None]]:
    """Answers of theory about each claim of the parts of a scenario that has not run yet.

    Parameters
    ----------
    scenarios
        Scenarios of all parts.
    must_apply
        Ids of claims of which one that applies to no run is refused.
    quiet
        True to announce nothing on standard error.

    Returns
    -------
    list of list of Told or None
        For each part an answer for each claim. It is None if theory fails: the comparison will report the error, and
        the run is not lost for it.

    Raises
    ------
    InputError
        For claims that must apply and apply to no run, with their reasons.
    """
    told = [[_attempted(claim, one, quiet) for claim in one.claims] for one in scenarios]
    reasons: dict[str, list[str]] = {}
    applies = set[str]()
    for one, answers in zip(scenarios, told, strict=True):
        for claim, answer in zip(one.claims, answers, strict=True):
            if answer is None or answer.rows or not answer.is_whole:
                applies.add(claim.source.id)
            elif claim.source.id in must_apply:
                part = f"part {one.part}: " if one.part else ""
                words = [skipped.reason for skipped in answer.skipped] or ["nothing that it speaks of is recorded"]
                reasons.setdefault(claim.source.id, []).extend(part + reason for reason in words)
    nowhere = [_nowhere(id, words) for id, words in reasons.items() if id not in applies]
    if nowhere:
        raise InputError(
            "\n".join([*nowhere, "nothing was run: expected other laws, another run, or one that is not compared"])
        )
    return told


def _attempted(claim: Claim, scenario: Scenario, quiet: bool) -> Told | None:
    with suppress(Exception):
        return _asked(claim, scenario, quiet)
    return None


def _nowhere(id: str, reasons: Sequence[str]) -> str:
    return f"predict: {id} applies to no run of this scenario: {reasons[0]}{further_reasons(len(reasons) - 1)}"


def with_predictions(ensemble: Ensemble, scenario: Scenario, answers: Iterable[Told | None]) -> Ensemble:
    """The ensemble together with the predictions of its scenario, as far as they can be stored.

    Parameters
    ----------
    ensemble
        The ensemble before it is written.
    scenario
        Its scenario.
    answers
        Answer for each claim, from `told_before`.
    """
    claims: list[str] = []
    skipped: list[str] = []
    rows: list[tuple[int, Prediction, str]] = []
    is_known = all(map(is_ours, _code(scenario)))
    for claim, table, told in zip(scenario.claims, scenario.data["predict"], answers, strict=True):
        if told is None or not (is_known and _is_ours(claim)):
            continue
        with suppress(NotPlain):
            texts = [json.dumps(plain_row(row)) for row in told.rows]
            if len(rows) + len(texts) <= MOST_ROWS:
                rows += [(len(claims), row, text) for row, text in zip(told.rows, texts, strict=True)]
                claims.append(_name(table))
                skipped.append(json.dumps([one.reason for one in told.skipped]))
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


_in_memory: WeakKeyDictionary[Ensemble, dict[str, Told]] = WeakKeyDictionary()


def remember(ensemble: Ensemble, scenario: Scenario, answers: Iterable[Told | None]) -> None:
    """Keep the answers of theory about the claims of an ensemble in memory, as long as the ensemble exists."""
    for claim, name, told in zip(scenario.claims, _names(scenario), answers, strict=True):
        if told is not None and _is_ours(claim):
            _in_memory.setdefault(ensemble, {})[_by(ensemble) + name] = told


def told_of(ensemble: Ensemble, scenario: Scenario, quiet: bool = False) -> list[Told]:
    """Answers about the claims of a scenario, as they were kept in its file or in memory, or else computed now."""
    known = zip(scenario.claims, kept(ensemble, scenario), strict=True)
    told = [answer or _asked(claim, scenario, quiet) for claim, answer in known]
    remember(ensemble, scenario, told)
    return told


def kept(ensemble: Ensemble, scenario: Scenario) -> list[Told | None]:
    """Kept answer about each claim of a scenario; None for a claim that must be computed."""
    by, names = _by(ensemble), _names(scenario)
    remembered = _in_memory.get(ensemble, {})
    known: dict[str, Told] = {}
    if not all(by + name in remembered for name in names):
        with suppress(Exception):  # whatever a damaged file leads to, or one of other code
            if "claim_asked" in ensemble and ensemble.variables["claim_asked"].attributes.get(_CODE) == by:
                known = _read(ensemble)
    told = [remembered.get(by + name, known.get(name)) for name in names]
    return [one and _by_id(one, claim.source.id) for one, claim in zip(told, scenario.claims, strict=True)]


def _by_id(told: Told, id: str) -> Told:
    """An answer under the id that the claim has here: without a name it is that of its place among the claims."""
    rows = [replace(row, id=id) for row in told.rows]
    return replace(told, rows=rows, skipped=[replace(one, id=id) for one in told.skipped])


def curves(scenario: Scenario, kind: str, drawn: Collection[str]) -> tuple[list[Prediction], Curves]:
    """Predictions that a kind of figure draws beside the rows of a scenario: at other records, and in between.

    Only the laws and claims with an id in `drawn` are computed.
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
        laws = [one.source for one in scenario.claims if isinstance(one.source, theory.Law) and one.source.id in drawn]
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
    told = [Told() for _ in ensemble["claim_asked"]]
    if "prediction_row" in ensemble:
        for number, text in zip(ensemble["prediction_claim"], ensemble["prediction_row"], strict=True):
            told[int(number)].rows.append(row_of(json.loads(str(text))))
    names = [str(name) for name in ensemble["claim_asked"]]
    for name, one, text in zip(names, told, ensemble["claim_skipped"], strict=True):
        id = json.loads(name).get("id", "")
        one.skipped.extend(theory.Skipped(id, str(reason)) for reason in json.loads(str(text)))
    return dict(zip(names, told, strict=True))


def _by(ensemble: Ensemble) -> str:
    """Hash of the code that predicts and of the scenario."""
    return hashlib.sha256(f"{answered_by()}\n{ensemble.attributes.get('scenario')}".encode()).hexdigest()


def _names(scenario: Scenario) -> list[str]:
    """The names of claims here: what was asked, or else the laws that are tried on every run."""
    tables = scenario.data["predict"] or [{"id": claim.source.id, "automatic": True} for claim in scenario.claims]
    return [_name(table) for table in tables]


def _name(table: object) -> str:
    return json.dumps(table, sort_keys=True, default=str)


def _is_ours(claim: Claim) -> bool:
    """True if the code of a claim is known; that of a law of the user's own is not."""
    return not isinstance(claim.source, theory.Law) or is_ours(claim.source.at_point)


def _code(scenario: Scenario) -> list[Callable[..., Any]]:
    """Functions on which the mathematics of the runs of a scenario depends."""
    return [function for run in scenario.runs for function in run.code]
