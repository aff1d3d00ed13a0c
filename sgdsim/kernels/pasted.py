"""Parts of a module's text: pasted parts of files, and indented lines."""

from __future__ import annotations

import ast
from collections.abc import Iterable
from functools import cache
from pathlib import Path


@cache
def _text(name: str) -> str:
    return (Path(__file__).parent / name).read_text(encoding="utf-8")


def pasted(name: str) -> str:
    """The part of a file that is pasted into other modules."""
    return _text(name).partition("# --- pasted from here on ---")[2]


def scalar_functions(file: str, names: Iterable[str], decorator: str = "device") -> str:
    """The texts of plain functions with a decorator, and of the functions and constants that they use in turn."""
    text, nodes = _text(file), _definitions(file)
    wanted: set[str] = set()
    queue = list(names)
    while queue:
        name = queue.pop()
        if name in nodes and name not in wanted:
            wanted.add(name)
            queue += [part.id for part in ast.walk(nodes[name]) if isinstance(part, ast.Name)]
    pasted = dict.fromkeys(node for name, node in nodes.items() if name in wanted)
    return "\n\n".join(
        _decorated(text, node, decorator)
        if isinstance(node, ast.FunctionDef)
        else ast.get_source_segment(text, node) or ""
        for node in pasted
    )


@cache  # reading the elementary functions takes as long as all else that a formula's text takes
def _definitions(file: str) -> dict[str, ast.stmt]:
    """The statements that define the functions and constants of a file, by name."""
    nodes: dict[str, ast.stmt] = {}
    for node in ast.parse(_text(file)).body:
        if isinstance(node, ast.FunctionDef):
            nodes[node.name] = node
        elif isinstance(node, ast.Assign):
            nodes |= {target.id: node for target in ast.walk(node.targets[0]) if isinstance(target, ast.Name)}
    return nodes


def _decorated(text: str, node: ast.FunctionDef, decorator: str) -> str:
    lines = text.splitlines()
    body = node.body[0].lineno - 1
    inline = ["    always_inline()"] if decorator == "device" else []
    return "\n".join([f"@{decorator}", *lines[node.lineno - 1 : body], *inline, *lines[body : node.end_lineno]])


class _Slices(ast.NodeTransformer):
    """A transformer that writes rows as slices."""

    def visit_Call(self, node: ast.Call) -> ast.expr:
        self.generic_visit(node)
        if not (isinstance(node.func, ast.Name) and node.func.id == "row_of"):
            return node
        values, row, lanes = map(ast.unparse, node.args)
        return ast.parse(f"{values}[({row}) * ({lanes}):(({row}) + 1) * ({lanes})]", mode="eval").body


def sliced(text: str) -> str:
    """A text for a GPU, whose functions cannot return a part of an array."""
    return ast.unparse(_Slices().visit(ast.parse(text)))


def indent(lines: Iterable[str]) -> list[str]:
    """Lines, indented by one level."""
    return [f"    {line}" for line in lines]


def lanes(body: Iterable[str]) -> list[str]:
    """Lines in a loop over the trajectories of a tile."""
    return ["for lane in range(LANES):", *indent(body)]
