"""Formulas as MathML, which browsers typeset by themselves: no script, no network, and they print."""

from __future__ import annotations

import html
import re
import xml.etree.ElementTree as ET
from typing import Any

from docutils import nodes
from docutils.utils.math import latex2mathml
from sphinx.application import Sphinx

_NAMESPACE = "http://www.w3.org/1998/Math/MathML"
_FENCES = {"|", "⟨", "⟩"}


def _mathml(node: nodes.Element, block: bool) -> str:
    named = latex2mathml.tex2mathml(node.astext(), as_block=block)
    return tidied(re.sub(r"&(?!lt;|gt;|amp;)\w+;", lambda found: html.unescape(found[0]), named))


def tidied(mathml: str) -> str:
    """MathML with bars and angles that are as high as a letter, and no space about a slash.

    Browsers stretch a bar to the height of all that is in its row, and put space about a slash. High brackets are left
    to what they enclose by TeX's `left` and `right`, which has a row of its own.

    Parameters
    ----------
    mathml
        As docutils writes it.
    """
    ET.register_namespace("", _NAMESPACE)
    formula = ET.fromstring(mathml)
    for row in formula.iter():
        enclosed = row.tag == f"{{{_NAMESPACE}}}mrow"
        for place, sign in enumerate(row):
            if sign.text == "/":
                sign.attrib.update(lspace="0", rspace="0")
            elif sign.text in _FENCES and not (enclosed and place in (0, len(row) - 1)):
                sign.attrib.update(stretchy="false", lspace="0", rspace="0")
    return ET.tostring(formula, encoding="unicode")


def _inline(writer: Any, node: nodes.math) -> None:
    writer.body.append(_mathml(node, block=False))
    raise nodes.SkipNode


def _display(writer: Any, node: nodes.math_block) -> None:
    writer.body.append(f'<div class="math">{_mathml(node, block=True)}</div>\n')
    raise nodes.SkipNode


def setup(app: Sphinx) -> dict[str, Any]:
    """Make it known to Sphinx."""
    app.add_html_math_renderer("mathml", (_inline, None), (_display, None))
    return {"parallel_read_safe": True, "parallel_write_safe": True}
