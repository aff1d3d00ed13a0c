"""The directive ``laws``: every law of the package with where it holds, its source and its derivation."""

from __future__ import annotations

import sys
from itertools import groupby
from typing import Any

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective
from typeset import markdown

from sgdsim.theory import LAWS
from sgdsim.theory.law import Law


class _Laws(SphinxDirective):
    """Sections of laws, one for each file that declares some."""

    def run(self) -> list[nodes.Node]:
        """Sections, made from the docstrings."""
        return [
            self._section(_title(module), module.rpartition(".")[2], "", [self._law(law) for law in laws])
            for module, laws in groupby(sorted(LAWS.values(), key=_module), _module)
        ]

    def _law(self, law: Law) -> nodes.section:
        about = f"*{law.title[0].upper()}{law.title[1:]}.*\n\n{markdown(law.derivation)}\n\n"
        about += f"Holds for: {law.holds}.\n\nSource: {law.source}."
        return self._section(law.id, f"law-{law.id}", about, [])

    def _section(self, title: str, anchor: str, text: str, inner: list[nodes.section]) -> nodes.section:
        section = nodes.section(ids=[anchor], names=[anchor])
        section += nodes.title(text=title)
        self.state.nested_parse(text.splitlines(), 0, section)
        section += inner
        return section


def _module(law: Law) -> str:
    return law.at_point.__module__


def _title(module: str) -> str:
    """First sentence of the docstring of a file of laws."""
    return (sys.modules[module].__doc__ or "").partition("\n")[0].rstrip(".").partition(". ")[0]


def setup(app: Sphinx) -> dict[str, Any]:
    """Make it known to Sphinx."""
    app.add_directive("laws", _Laws)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
