"""A page of HTML that needs no other file: its style, its script and its parts."""

from __future__ import annotations

import base64
from collections.abc import Iterable, Mapping, Sequence
from html import escape

STYLE = """
:root { color-scheme: light dark; --line: #8884; --soft: #8882; --good: #067a46; --bad: #b3261e; --open: #8a6100; }
body { font: 16px/1.5 system-ui, sans-serif; max-width: 70rem; margin: 0 auto; padding: 1rem; }
h1, h2, h3 { line-height: 1.2; } h2 { margin-top: 3rem; border-top: 1px solid var(--line); padding-top: 1rem; }
table { border-collapse: collapse; width: 100%; font-size: .9rem; } .wide { overflow-x: auto; }
th, td { text-align: left; padding: .25rem .6rem; border-bottom: 1px solid var(--line); vertical-align: top; }
th button { all: unset; cursor: pointer; font-weight: 600; } th button:focus-visible { outline: 2px solid; }
th[aria-sort=ascending] button::after { content: " \\2191"; }
th[aria-sort=descending] button::after { content: " \\2193"; }
td.agrees { color: var(--good); } td.disagrees { color: var(--bad); font-weight: 600; }
td.inconclusive { color: var(--open); }
.filter { display: flex; gap: 1rem; flex-wrap: wrap; margin: .5rem 0; }
figure { margin: 1rem 0; background: #fff; } figure img { max-width: 100%; display: block; margin: auto; }
pre { background: var(--soft); padding: .75rem; overflow-x: auto; font-size: .85rem; }
math { font-size: 1.1rem; margin-left: 0; }
@media print { .filter, nav { display: none; } details > * { display: block; } tr, figure { break-inside: avoid; } }
"""

SCRIPT = """
for (const box of document.querySelectorAll(".verdicts")) {
  const body = box.querySelector("tbody"), heads = [...box.querySelectorAll("th")];
  const text = box.querySelector("input"), verdict = box.querySelector("select"), count = box.querySelector("output");
  const value = (row, column) => row.cells[column].dataset.value ?? row.cells[column].textContent;
  const order = (a, b) => {
    const x = parseFloat(a), y = parseFloat(b);
    return isNaN(x) || isNaN(y) ? (isNaN(x) - isNaN(y) || a.localeCompare(b)) : x - y;
  };
  heads.forEach((head, column) => head.querySelector("button").addEventListener("click", () => {
    const down = head.getAttribute("aria-sort") === "ascending";
    heads.forEach(other => other.removeAttribute("aria-sort"));
    head.setAttribute("aria-sort", down ? "descending" : "ascending");
    const rows = [...body.rows].sort((a, b) => order(value(a, column), value(b, column)));
    body.append(...(down ? rows.reverse() : rows));
  }));
  const filter = () => {
    let shown = 0;
    for (const row of body.rows) {
      const fits = row.textContent.toLowerCase().includes(text.value.toLowerCase());
      row.hidden = !(fits && (!verdict.value || row.dataset.verdict === verdict.value));
      shown += !row.hidden;
    }
    count.textContent = `${shown} of ${body.rows.length} rows`;
  };
  text.addEventListener("input", filter);
  verdict.addEventListener("change", filter);
  filter();
}
"""


def page(title: str, body: str) -> str:
    """HTML of a whole page.

    Examples
    --------
    >>> page("<Mine>", "").splitlines()[3]
    '<title>&lt;Mine&gt;</title>'
    """
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<meta charset="utf-8">\n'
        f"<title>{escape(title)}</title>\n"
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<style>{STYLE}</style>\n<body>\n<h1>{escape(title)}</h1>\n{body}\n<script>{SCRIPT}</script>\n</body>\n</html>\n"
    )


def facts(rows: Mapping[str, str]) -> str:
    """HTML table of names and their values; the values are HTML already.

    Examples
    --------
    >>> facts({"steps": "100"})
    '<table><tr><th scope="row">steps</th><td>100</td></tr></table>'
    """
    lines = "".join(f'<tr><th scope="row">{escape(name)}</th><td>{value}</td></tr>' for name, value in rows.items())
    return f"<table>{lines}</table>"


def verdicts(columns: Sequence[str], rows: Iterable[tuple[str, Sequence[str], Sequence[float | None]]]) -> str:
    """HTML table that can be sorted by every column, and filtered by text and by verdict.

    Parameters
    ----------
    columns
        Titles of the columns.
    rows
        For each row the verdict, the texts of its cells, and the numbers by which numeric cells are sorted.

    Examples
    --------
    >>> "disagrees" in verdicts(["z"], [("disagrees", ["+5"], [5.0])])
    True
    """
    rows = list(rows)
    kinds = dict.fromkeys(verdict for verdict, *_ in rows)
    options = "".join(f"<option>{escape(kind)}</option>" for kind in kinds)
    head = "".join(f'<th scope="col"><button type="button">{escape(name)}</button></th>' for name in columns)
    body = "".join(_row(columns, *row) for row in rows)
    return (
        '<div class="verdicts"><div class="filter"><label>Contains <input type="search"></label>'
        f'<label>Verdict <select><option value="">all</option>{options}</select></label><output></output></div>'
        f'<div class="wide"><table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div></div>'
    )


def _row(columns: Sequence[str], verdict: str, cells: Sequence[str], numbers: Sequence[float | None]) -> str:
    shown = []
    for column, cell, number in zip(columns, cells, numbers, strict=True):
        value = "" if number is None else f' data-value="{number!r}"'
        kind = f' class="{escape(verdict)}"' if column == "verdict" else ""
        shown.append(f"<td{kind}{value}>{escape(cell)}</td>")
    return f'<tr data-verdict="{escape(verdict)}">{"".join(shown)}</tr>'


def picture(svg: bytes, about: str) -> str:
    """HTML of a figure within the page; its identifiers are made unique.

    Examples
    --------
    >>> picture(b"<svg/>", "a figure")
    '<figure><img alt="a figure" src="data:image/svg+xml;base64,PHN2Zy8+"></figure>'
    """
    data = base64.b64encode(svg).decode("ascii")
    return f'<figure><img alt="{escape(about)}" src="data:image/svg+xml;base64,{data}"></figure>'


def folded(title: str, body: str) -> str:
    """HTML of a part of the page that is shown when the reader opens it."""
    return f"<details><summary>{escape(title)}</summary>{body}</details>"


def verbatim(text: str) -> str:
    """HTML of preformatted text."""
    return f"<pre>{escape(text)}</pre>"
