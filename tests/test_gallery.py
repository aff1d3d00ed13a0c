"""The site: every example of the gallery runs, every page can be reached, and every formula of a law is typeset."""

from __future__ import annotations

import importlib.util
import re
import runpy
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from matplotlib.figure import Figure

from sgdsim.theory import LAWS

ROOT = Path(__file__).parent.parent
DOCS = ROOT / "docs"
EXAMPLES = sorted((DOCS / "examples").glob("*.py"))
QUICK = {"plot_first_ensemble.py", "plot_learning_rates.py", "plot_two_schedules.py"}


def _example(path: Path) -> object:
    return pytest.param(path, marks=() if path.name in QUICK else pytest.mark.validate, id=path.stem)


@pytest.mark.parametrize("path", [_example(path) for path in EXAMPLES])
def test_an_example_runs_and_leaves_a_figure(path, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    left = [value for value in runpy.run_path(str(path)).values() if isinstance(value, Figure)]
    assert left
    left[0].savefig(tmp_path / "thumbnail.png")
    assert (tmp_path / "thumbnail.png").stat().st_size > 5000


def test_there_are_examples_enough_and_each_says_what_it_shows():
    assert len(EXAMPLES) >= 20
    for path in EXAMPLES:
        title, rule, empty, *words = path.read_text(encoding="utf-8").split('"""')[1].strip().splitlines()
        assert rule == "=" * len(title), path.name
        assert not empty
        assert words, path.name


def test_every_page_of_the_site_is_in_a_table_of_contents():
    """What Sphinx would warn of, where it is not installed."""
    listed = set()
    for page in DOCS.rglob("*.md"):
        for block in re.findall(r"```\{toctree\}\n(.*?)```", page.read_text(encoding="utf-8"), re.DOTALL):
            for entry in filter(None, block.splitlines()):
                if not entry.startswith(":"):
                    listed |= {found.resolve() for found in page.parent.glob(f"{entry}.md")}
    assert not set(DOCS.rglob("*.md")) - listed - {DOCS / "index.md"}


@pytest.fixture(scope="module")
def typeset():
    """Module that turns docstrings into LaTeX, from the configuration of the site."""
    where = importlib.util.spec_from_file_location("typeset", DOCS / "_sphinx" / "typeset.py")
    module = importlib.util.module_from_spec(where)
    where.loader.exec_module(module)
    return module


def test_formulas_of_docstrings_become_those_of_a_page(typeset):
    formula = "v_(t+1) = eta*sigma^2/(2*T_eff),   <U> -> sqrt(a) for x >= 0"
    assert typeset.latex(formula) == (
        r"v_{t+1} = \eta \,\sigma ^{2}/(2\,T_{\mathrm{eff}}),"
        r"\qquad \langle U\rangle  \to  \sqrt{a} \text{ for } x \ge  0"
    )
    assert typeset.markdown("With ``eta*a`` and `common_noise`, x^2 and <U>.") == (
        r"With $\eta \,a$ and `common_noise`, $x^{2}$ and \<U\>."
    )


@pytest.mark.parametrize("law", LAWS.values(), ids=LAWS)
def test_a_derivation_is_typeset_to_the_end(law, typeset):
    """Brackets are closed, and nothing of the plain writing is left within a formula."""
    text = typeset.markdown(law.derivation)
    formulas = re.findall(r"\$\$\n(.*?)\n\$\$|(?<!\$)\$([^$]+)\$(?!\$)", text, re.DOTALL)
    for display, inline in formulas:
        formula = display or inline
        assert formula.count("{") == formula.count("}")
        assert not re.search(r"(?<!\{)\*|``|<=|>=|->", formula)
    assert text.count("$") % 2 == 0


_FENCE = re.compile(r"^[ \t]*```.*?^[ \t]*```[ \t]*$", re.MULTILINE | re.DOTALL)
_CODE = re.compile(r"``[^`]+``|`[^`]+`")
_MATHEMATICS = re.compile("[Γ-Ωβ-ω²³⁴⁻ᵀ√⟨∇∫₀-₉]")
# Code of PyTorch, whose arguments are named by what is typeset beside them.
_TYPED = re.compile(r"SGD\(")


@pytest.mark.parametrize(
    "page",
    sorted(DOCS.rglob("*.md")),
    ids=lambda page: f"{page.parent.name}/{page.name}",
)
def test_formulas_of_a_page_are_typeset_on_the_site_and_on_github(page):
    """Both read ``$…$``; GitHub takes a backslash before a sign, and a bar in a table, for its own."""
    prose = _FENCE.sub("", page.read_text(encoding="utf-8"))
    code = [span for span in _CODE.findall(prose) if _MATHEMATICS.search(span) and not _TYPED.search(span)]
    assert not code, "formulas as code"
    text = _CODE.sub("", prose)
    assert not [line for line in text.splitlines() if line.startswith("    ") and _MATHEMATICS.search(line)]
    assert text.count("$") % 2 == 0
    for formula in re.findall(r"\$([^$]+)\$", text):
        assert not re.search(r"\\[^A-Za-z\s]|(?<!\\)\|", formula), formula
        assert formula == formula.strip()


def test_the_site_gives_bars_the_height_of_a_letter():
    pytest.importorskip("docutils", reason="the extra docs is not installed")
    pytest.importorskip("sphinx", reason="the extra docs is not installed")
    where = importlib.util.spec_from_file_location("mathml", DOCS / "_sphinx" / "mathml.py")
    module = importlib.util.module_from_spec(where)
    where.loader.exec_module(module)
    formula = '<math xmlns="http://www.w3.org/1998/Math/MathML"><msup><mo>|</mo><mn>2</mn></msup><mo>/</mo>{}</math>'
    enclosed = "<mrow><mo>|</mo><mi>x</mi><mo>|</mo></mrow>"
    assert module.tidied(formula.format(enclosed)) == formula.format(enclosed).replace(
        "<msup><mo>|", '<msup><mo stretchy="false" lspace="0" rspace="0">|'
    ).replace("<mo>/", '<mo lspace="0" rspace="0">/')


@pytest.mark.validate
def test_the_site_builds_without_a_warning(tmp_path):
    """Without its gallery, whose examples are run above; formulas are there as MathML."""
    pytest.importorskip("sphinx_gallery", reason="the extra docs is not installed")
    for name in ("README.md", "CHANGELOG.md", "CONTRIBUTING.md"):
        shutil.copy(ROOT / name, tmp_path)
    shutil.copytree(ROOT / "results", tmp_path / "results", ignore=lambda _, names: set(names) - {"README.md"})
    shutil.copytree(DOCS, tmp_path / "docs", ignore=shutil.ignore_patterns("gallery", "generated"))
    options = ["--fail-on-warning", "--keep-going", "--quiet", "-D", "sphinx_gallery_conf.plot_gallery=0"]
    command = [sys.executable, "-m", "sphinx", *options, "docs", "site"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    laws = (tmp_path / "site" / "reference" / "laws.html").read_text(encoding="utf-8")
    assert laws.count("<math") > 200
    assert all(f'id="law-{name}"' in laws for name in LAWS)
    everything = "".join(page.read_text(encoding="utf-8") for page in (tmp_path / "site").rglob("*.html"))
    assert not re.findall(r"<(?:script|link|img)[^>]*(?:src|href)=\"(?:https?:)?//[^\"]*", everything)
