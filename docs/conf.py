"""Configuration of Sphinx for the site; `make docs` calls it. Everything is local, so it needs no network."""

from __future__ import annotations

import os
import re
import sys
from pathlib import Path

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE / "_sphinx")]
os.environ["NO_COLOR"] = "1"

from pygments.lexers.python import PythonLexer  # noqa: E402
from sphinx.application import Sphinx  # noqa: E402

import sgdsim  # noqa: E402

project = "sgdsim"
author = "The sgdsim developers"
copyright = f"2026, {author}"
version = release = sgdsim.__version__

extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "numpydoc",
    "sphinx_click",
    "sphinx_gallery.gen_gallery",
    "mathml",
    "laws",
]
source_suffix = {".md": "markdown", ".rst": "restructuredtext"}
exclude_patterns = ["_sphinx", "examples"]

default_role = "py:obj"

myst_enable_extensions = ["dollarmath", "colon_fence"]
myst_fence_as_directive = ["math"]
myst_heading_anchors = 4

autosummary_generate = True
autodoc_typehints = "none"
numpydoc_show_class_members = False
numpydoc_validation_checks = set()

sphinx_gallery_conf = {
    "examples_dirs": "examples",
    "gallery_dirs": "gallery",
    "filename_pattern": r"\.py$",
    "image_scrapers": ("figures.scrape",),
    "within_subsection_order": "FileNameSortKey",
    "show_memory": False,
    "write_computation_times": False,
    "min_reported_time": 1e9,
    "remove_config_comments": True,
    "capture_repr": (),
    "plot_gallery": True,
    "abort_on_example_error": True,
    "download_all_examples": False,
}

html_theme = "pydata_sphinx_theme"
html_title = "sgdsim"
html_math_renderer = "mathml"
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_show_sourcelink = False
html_copy_source = False
html_theme_options = {
    "show_toc_level": 2,
    "navigation_with_keys": False,
    "footer_start": ["copyright"],
    "footer_end": [],
    "secondary_sidebar_items": ["page-toc"],
}

# Pages of the project that stand outside of docs/ are included in a page of the reference, and links lead there.
OUTSIDE = {
    "README.md": "readme",
    "CHANGELOG.md": "changelog",
    "CONTRIBUTING.md": "contributing",
    "results/README.md": "file_format",
}


def lead_inside(app: Sphinx, page: str, source: list[str]) -> None:
    """Turn links out of docs/ into links to the pages that include what is there."""
    up = "../" * (page.count("/") + 1)
    for name, inside in OUTSIDE.items():
        source[0] = source[0].replace(f"]({up}{name}", f"](/reference/{inside}.md")


def lead_inside_from_outside(app: Sphinx, path: Path, page: str, source: list[str]) -> None:
    """Likewise in a page that is included, whose links begin at the top; a file that has no page is named."""
    for name, inside in OUTSIDE.items():
        source[0] = source[0].replace(f"]({name}", f"](/reference/{inside}.md")
    source[0] = re.sub(r"\[([\w./]+\.(?!md\b)\w+)\]\(\1\)", r"`\1`", source[0])


def setup(app: Sphinx) -> None:
    """Connect both; a Snakefile is coloured as the Python that it is."""
    app.add_lexer("snakemake", PythonLexer)
    app.connect("source-read", lead_inside)
    app.connect("include-read", lead_inside_from_outside)
