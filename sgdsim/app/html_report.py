"""The page of `sgdsim report` about files: what was simulated, verdicts, figures and provenance."""

from __future__ import annotations

import importlib.util
import os
import shlex
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from html import escape
from math import isfinite
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from sgdsim.app import page
from sgdsim.app.figures import plot_file
from sgdsim.app.verdicts import Report, compare_file
from sgdsim.base import take
from sgdsim.base.errors import InputError, SgdsimError
from sgdsim.base.files import about, atomic_file, check_output
from sgdsim.ensemble import Ensemble, open_parts
from sgdsim.input.scenario import Scenario
from sgdsim.model.run import Run
from sgdsim.simulation.provenance import UNTITLED
from sgdsim.statistics import verdict_table

_NUMBERS = {"point": "point", "predicted": "predicted", "measured": "measured", "z": "z"}
_KEPT = (
    *("title", "scenario", "coordinates", "last_steps"),
    *("certain", "certain_at_start", "ranges", "rarest_start", "rarest_noise"),
)
"""Attributes that are elsewhere on the page, or that only a machine needs."""


def write_report(
    files: Sequence[str | Path], output: str | Path = "report.html", *, overwrite: bool = False
) -> dict[str, Report]:
    """Write one HTML page about files, which needs no other file.

    Parameters
    ----------
    files
        HDF5 files of runs.
    output
        Path of the page.
    overwrite
        True if an existing page may be replaced.

    Returns
    -------
    dict
        Comparison with the predictions, for each file.

    Raises
    ------
    InputError
        For a file that `compare_file` refuses, for no files, and for an output that cannot be written.

    Examples
    --------
    >>> from sgdsim.app.workflow import run_scenario
    >>> from sgdsim.input.loading import load_scenario
    >>> scenario = load_scenario("river_valley", {"run.trajectories": 64, "run.steps": 20})
    >>> with TemporaryDirectory() as folder:
    ...     _ = run_scenario(scenario, f"{folder}/run.h5", device="python")
    ...     _ = write_report([f"{folder}/run.h5"], f"{folder}/report.html")
    ...     Path(folder, "report.html").read_text()[:15]
    '<!DOCTYPE html>'
    """
    paths = [Path(path) for path in take.each(take.path)(files, "files")]
    target = take.path(output, "output")
    if not paths:
        raise InputError("files: there are none, expected files of runs")
    if Path(target).suffix.lower() not in (".html", ".htm"):
        raise InputError(f"{os.fspath(target)}: expected the suffix .html")
    check_output(target, take.flag(overwrite, "overwrite"), paths)
    reports = {os.fspath(path): compare_file(path) for path in paths}
    sections = [_section(number, Path(path), report) for number, (path, report) in enumerate(reports.items())]
    title = "Ensembles of SGD" if len(reports) > 1 else _title(next(iter(open_parts(paths[0]).values())), paths[0])
    body = (_contents(reports) if len(reports) > 1 else "") + "".join(sections)
    with atomic_file(target) as temporary:
        temporary.write_text(page.page(title, body), encoding="utf-8")
    return reports


def _title(ensemble: Ensemble, path: Path) -> str:
    """Title of an ensemble, or else the name of its file."""
    title = str(ensemble.attributes.get("title", UNTITLED))
    return path.stem if title == UNTITLED else title


def _contents(reports: Mapping[str, Report]) -> str:
    rows = "".join(
        f'<li><a href="#file-{number}">{escape(file)}</a>: '
        f"{escape(verdict_table.summary_line(report.comparisons, report.alpha))}</li>"
        for number, (file, report) in enumerate(reports.items())
    )
    return f"<nav><ul>{rows}</ul></nav>"


def _section(number: int, path: Path, report: Report) -> str:
    """Section of the page about one file."""
    with about(path):
        parts = open_parts(path)
    shown = [f'<h2 id="file-{number}">{escape(_title(next(iter(parts.values())), path))}</h2>']
    shown += [f"<p><code>{escape(str(path))}</code></p>"]
    for name, ensemble in parts.items():
        shown += [f"<h3>{escape(name)}</h3>"] if name else []
        shown.append(_simulated(ensemble))
    shown += ["<h3>Verdicts</h3>", _verdicts(report)]
    shown += _figures(path)
    for name, ensemble in parts.items():
        shown.append(_provenance(path, name, ensemble))
    return "".join(shown)


def _simulated(ensemble: Ensemble) -> str:
    """Section on what was simulated, with typeset formulas."""
    text = ensemble.attributes.get("scenario")
    if not text:
        return ""
    scenario = Scenario.parse(str(text), where="the scenario in the file")
    run = scenario.runs[0]
    loss = run.loss
    rows = {"loss of a sample": _formula(run)} if loss.formula else {}
    rows |= {f"direction of {name}": escape(str(rule)) for name, rule in loss.direction.items()}
    rows |= {"definitions": "<br>".join(escape(f"{name} = {one}") for name, one in loss.definitions.items())}
    rows |= {"constants": ", ".join(escape(f"{name} = {value:g}") for name, value in loss.constants.items())}
    rows |= {"noise": ", ".join(escape(f"{name} ~ {noise}") for name, noise in loss.noise.items())}
    rows |= {"data": escape(loss.data.summary) if loss.data else ""}
    rows |= {"start": ", ".join(escape(f"{name} = {start}") for name, start in run.initial_items())}
    rows |= {"optimizer": escape(f"{run.optimizer.name}, batches of {run.optimizer.batch_size}")}
    if "optimizer.learning_rate" not in scenario.sweep:
        rows |= {"learning rate": escape(run.schedule.text)}
    rows |= {"swept": "<br>".join(_swept(key, values) for key, values in scenario.sweep.items())}
    lengths = sorted({one.steps for one in scenario.runs})
    steps = f"{lengths[0]:,}" if len(lengths) == 1 else f"{lengths[0]:,} to {lengths[-1]:,}"
    rows |= {"trajectories": f"{run.trajectories:,}", "steps": steps, "seed": str(run.seed)}
    return page.facts({name: value for name, value in rows.items() if value})


def _swept(key: str, values: Sequence[Any]) -> str:
    distinct = list(dict.fromkeys(map(str, values)))
    more = f", … ({len(distinct)} values)" if len(distinct) > 8 else ""
    return escape(f"{key}: {', '.join(distinct[:8])}{more}")


def _formula(run: Run) -> str:
    """Loss in MathML, which browsers typeset, and as it was written."""
    from sympy.printing.mathml import MathMLPresentationPrinter

    written = f"<code>{escape(run.loss.formula)}</code>"
    with suppress(SgdsimError):
        inner = MathMLPresentationPrinter().doprint(run.loss.expression)
        return f'<math displaystyle="true">{inner}</math><br>{written}'
    return written


def _verdicts(report: Report) -> str:
    columns, *cells = verdict_table.texts(report.comparisons) or [()]
    counted = f"<p>{escape(verdict_table.summary_line(report.comparisons, report.alpha))}</p>"
    if not cells:
        return counted
    rows = []
    for row, texts in zip(report.comparisons, cells, strict=True):
        numbers = [_finite(getattr(row, _NUMBERS[name])) if name in _NUMBERS else None for name in columns]
        rows.append((row.outcome, texts, numbers))
    skipped = "".join(
        f"<li>{escape(f'{one.part}: ' if one.part else '')}{escape(one.id)}: {escape(one.reason)}</li>"
        for one in report.skipped
    )
    folded = page.folded("Laws that do not apply", f"<ul>{skipped}</ul>") if skipped else ""
    return counted + page.verdicts(columns, rows) + folded


def _finite(value: Any) -> float | None:
    return float(value) if value is not None and isfinite(value) else None


def _figures(path: Path) -> Iterator[str]:
    """Figure that shows most, and the landscape if there is one."""
    if importlib.util.find_spec("matplotlib") is None:
        yield "<p>Without figures, which need matplotlib: <code>pip install 'sgdsim[plot]'</code></p>"
        return
    yield "<h3>Figures</h3>"
    with TemporaryDirectory() as folder:
        for kind in (None, "landscape", "evolution"):
            with suppress(InputError) if kind else about(path):
                made = plot_file(path, Path(folder, f"{kind}.svg"), kind, residuals=True)
                yield page.picture(made.read_bytes(), f"{path.name}: {kind or 'theory over estimate'}")


def _provenance(path: Path, part: str, ensemble: Ensemble) -> str:
    """Section on the provenance of a file, and how to repeat the run."""
    attributes = ensemble.attributes
    known = {name: escape(str(value)) for name, value in attributes.items() if name not in _KEPT}
    scenario = str(attributes.get("scenario", ""))
    name = shlex.quote(f"{path.stem}{f'-{part}' if part else ''}")
    again = f"cat > {name}.toml <<'END_OF_SCENARIO'\n{scenario}\nEND_OF_SCENARIO\nsgdsim run {name}.toml -o {name}.h5"
    title = f"Provenance of {part}" if part else "Provenance"
    digest = page.facts({**known, "digest": ensemble.digest()})
    command = "<p>This repeats it, whatever the machine; the digests are then the same:</p>" + page.verbatim(again)
    return page.folded(title, digest) + page.folded(f"How to repeat {part or 'it'}", command)
