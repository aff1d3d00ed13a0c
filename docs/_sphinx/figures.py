"""Figures of the gallery, which are made without pyplot: every one that an example leaves in a variable."""

from __future__ import annotations

from typing import Any

from matplotlib.figure import Figure
from sphinx_gallery.scrapers import figure_rst


def scrape(block: Any, variables: dict[str, Any], configuration: dict[str, Any]) -> str:
    """Save the figures that a block of an example has made, and show them below it."""
    seen = variables["example_globals"].setdefault("__figures__", [])
    paths = []
    for value in list(variables["example_globals"].values()):
        if isinstance(value, Figure) and not any(value is one for one in seen):
            seen.append(value)
            paths.append(next(variables["image_path_iterator"]))
            value.savefig(paths[-1], dpi=150, bbox_inches="tight")
    return figure_rst(paths, configuration["src_dir"])
