"""Docstrings can be read alone, and those of public names are complete: sections, and an example that runs."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

PACKAGE = Path(__file__).parent.parent / "sgdsim"

# A docstring names what is returned, or begins with a verb. One that begins with these words is half of a sentence, or
# says "it" before anybody knows of what: it can be read only with the code around it.
WORDS = "What|Of|Where|Whether|How|As|Which|Who|When|That|If|It|They|The same|This one|Likewise"
HALF_A_SENTENCE = re.compile(rf"({WORDS})\b")
# Files without a text that begins so need no parsing: that takes a second for all of them.
MAY_HAVE_ONE = re.compile(rf'"""\s*({WORDS})\b')

# To draw again what a trajectory has of its own compiles a kernel; to draw a figure is shown by `plot_ensemble`.
NOT_SHOWN = {"Ensemble.drawn", "Ensemble.plot"}

Documented = ast.FunctionDef | ast.ClassDef


def half_sentences(tree: ast.Module) -> Iterator[str]:
    """Docstrings, also those below a constant, that begin with such a word."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str):
            text = node.value.value.strip()
            if HALF_A_SENTENCE.match(text):
                yield f"{node.lineno}: {text.splitlines()[0]}"


@cache
def parsed(module: str) -> ast.Module:
    path = PACKAGE / module.replace(".", "/")
    file = path / "__init__.py" if path.is_dir() else path.with_suffix(".py")
    return ast.parse(file.read_text(encoding="utf-8"))


def definition(module: str, name: str) -> tuple[str, Documented]:
    """The class or function of a name in a module, or where it is imported from, with its module."""
    for node in parsed(module).body:
        if isinstance(node, Documented) and node.name == name:
            return module, node
        if isinstance(node, ast.ImportFrom) and any(one.name == name for one in node.names):
            return definition((node.module or "").removeprefix("sgdsim."), name)
    raise LookupError(f"{module} has no {name}")


def public() -> dict[str, tuple[str, Documented]]:
    """Every public name of the package but its version, with its module and definition."""
    (homes,) = (
        ast.literal_eval(node.value)
        for node in parsed("").body
        if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name) and node.targets[0].id == "_HOMES"
    )
    return {name: definition(module, name) for name, module in homes.items()}


def bodies(module: str, node: ast.ClassDef) -> Iterator[ast.stmt]:
    """Statements of a class and of its bases in this package; of several with a name the first counts."""
    yield from node.body
    for base in node.bases:
        if isinstance(base, ast.Name) and base.id in {*names_in(module)}:
            home, found = definition(module, base.id)
            assert isinstance(found, ast.ClassDef)
            yield from bodies(home, found)


def names_in(module: str) -> Iterator[str]:
    """Names of a module that are defined in this package."""
    for node in parsed(module).body:
        if isinstance(node, Documented):
            yield node.name
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("sgdsim."):
            yield from (one.name for one in node.names)


def section(text: str, title: str) -> str:
    found = re.search(rf"^{title}\n-+\n(.*?)(?=^\w[\w ]*\n---|\Z)", text, re.DOTALL | re.MULTILINE)
    return found[1] if found else ""


def parameters(node: ast.FunctionDef) -> list[str]:
    given = node.args
    several = [*given.posonlyargs, *given.args, *given.kwonlyargs, *filter(None, (given.vararg, given.kwarg))]
    return [one.arg for one in several if one.arg not in ("self", "cls")]


def unnamed(text: str, names: list[str]) -> list[str]:
    """Parameters that the section about them does not name."""
    heads = re.findall(r"^(\S.*)$", section(text, "Parameters"), re.MULTILINE)
    named = {name.strip().lstrip("*") for head in heads for name in head.split(",")}
    return [name for name in names if name not in named]


def gives(node: ast.FunctionDef) -> bool:
    return not (isinstance(node.returns, ast.Constant) and node.returns.value is None)


def lacks(name: str, node: ast.FunctionDef, examples: str) -> Iterator[str]:
    """Parts that the docstring of a function or a method lacks; the examples are its own or those of its class."""
    text = ast.get_docstring(node) or ""
    if not text:
        yield f"{name}: no docstring"
    if missing := unnamed(text, parameters(node)):
        yield f"{name}: no words on {', '.join(missing)}"
    if parameters(node) and gives(node) and not (section(text, "Returns") or section(text, "Yields")):
        yield f"{name}: no Returns"
    if any(isinstance(one, ast.Raise) and one.exc for one in ast.walk(node)) and not section(text, "Raises"):
        yield f"{name}: no Raises"
    called = rf"(?<!\w){node.name}\b" if "." not in name else rf"\.{node.name}\b"
    if ">>>" not in section(text, "Examples") and not re.search(called, examples):
        yield f"{name}: no example"


def lacks_of_class(name: str, node: ast.ClassDef, statements: list[ast.stmt]) -> Iterator[str]:
    text = ast.get_docstring(node) or ""
    examples = section(text, "Examples")
    if ">>>" not in examples:
        yield f"{name}: no example"
    found = [one for one in statements if isinstance(one, ast.FunctionDef)]
    begins = [one for one in found if one.name == "__init__"]
    fields = [
        one.target.id for one in statements if isinstance(one, ast.AnnAssign) and isinstance(one.target, ast.Name)
    ]
    if missing := unnamed(text, parameters(begins[0]) if begins else fields):
        yield f"{name}: no words on {', '.join(missing)}"
    for method in {one.name: one for one in reversed(found) if not one.name.startswith("_")}.values():
        full = f"{name}.{method.name}"
        yield from lacks(full, method, f"{examples} .{method.name}" if full in NOT_SHOWN else examples)


def test_docstrings_can_be_read_alone() -> None:
    found = []
    for path in sorted(PACKAGE.rglob("*.py")):
        place, text = path.relative_to(PACKAGE), path.read_text(encoding="utf-8")
        if MAY_HAVE_ONE.search(text):
            found += [f"{place}:{one}" for one in half_sentences(ast.parse(text))]
    assert not found


def test_public_names_have_complete_docstrings() -> None:
    found: list[str] = []
    for name, (module, node) in public().items():
        if isinstance(node, ast.ClassDef):
            found += lacks_of_class(name, node, list(bodies(module, node)))
        else:
            found += lacks(name, node, "")
    assert not found


def test_half_sentences_and_missing_parts_are_found() -> None:
    """The negative controls."""
    source = 'M = 1\n"""Of a run."""\nclass A:\n    """A class."""\n    def f(self):\n        """What it gives."""\n'
    tree = ast.parse(source)
    assert sorted(half_sentences(tree)) == ["2: Of a run.", "6: What it gives."]
    text = '''
class A:
    """A class.

    Parameters
    ----------
    x
        A number.

    Examples
    --------
    >>> A(1, 2).good
    """

    x: int
    y: int

    @property
    def good(self) -> int:
        """A number."""

    def bad(self, z: int) -> int:
        """A number."""
        raise ValueError("no")
'''
    (node,) = ast.parse(text).body
    assert isinstance(node, ast.ClassDef)
    assert list(lacks_of_class("A", node, node.body)) == [
        "A: no words on y",
        "A.bad: no words on z",
        "A.bad: no Returns",
        "A.bad: no Raises",
        "A.bad: no example",
    ]
