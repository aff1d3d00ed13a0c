"""The direction of imports between the rooms of the package: none goes up, and some rooms are strangers."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

import sgdsim

PACKAGE = Path(sgdsim.__file__).parent

FLOORS = {
    "base": 1,
    "prediction": 1,
    "formulas": 2,
    "ensemble": 2,
    "model": 3,
    "statistics": 4,
    "theory": 4,
    "kernels": 5,
    "simulation": 6,
    "input": 6,
    "plots": 7,
    "app": 8,
    "": 9,
}
"""Floor of each room; the public face, ``sgdsim/__init__.py`` and ``__main__.py``, is the roof."""

STRANGERS = (
    {"theory", "kernels"},
    {"theory", "simulation"},
    {"theory", "statistics"},
    {"input", "simulation"},
    {"kernels", "statistics"},
)
"""Rooms that never import each other: what theory and simulation share is the formula."""


def room_of(module: str) -> str:
    """The room of a module, by its dotted name; empty for the public face."""
    first = module.removeprefix("sgdsim").removeprefix(".").partition(".")[0]
    return first if first in FLOORS else ""


def imports(path: Path) -> Iterator[tuple[str, int]]:
    """The modules of the package that a file imports anywhere in it, with the line of each."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        names = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}:{node.lineno}: a relative import"
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        yield from ((name, node.lineno) for name in names if name.partition(".")[0] == "sgdsim")


def faults(path: Path, room: str) -> list[str]:
    """What a file of a room imports though its plan forbids it."""
    found = []
    for name, line in imports(path):
        other = room_of(name)
        if FLOORS[other] > FLOORS[room] or {room, other} in STRANGERS:
            found.append(f"{path.name}:{line}: {room or 'the face'} imports {name}")
    return found


@pytest.mark.parametrize("path", sorted(PACKAGE.rglob("*.py")), ids=lambda path: str(path.relative_to(PACKAGE)))
def test_no_import_goes_up(path: Path) -> None:
    module = ".".join(path.relative_to(PACKAGE.parent).with_suffix("").parts).removesuffix(".__init__")
    assert not faults(path, room_of(module))


def test_every_room_has_a_floor() -> None:
    rooms = {path.name for path in PACKAGE.iterdir() if path.is_dir() and path.name != "__pycache__"}
    rooms |= {path.stem for path in PACKAGE.glob("*.py") if not path.stem.startswith("__")}
    assert rooms == set(FLOORS) - {""}


def circles(arrows: dict[str, set[str]]) -> set[str]:
    """The nodes from which a way along arrows leads back to them."""
    reached = {node: set(targets) for node, targets in arrows.items()}
    for middle in arrows:
        for targets in reached.values():
            if middle in targets:
                targets.update(reached[middle])
    return {node for node, targets in reached.items() if node in targets}


def arrows(package: Path) -> dict[str, set[str]]:
    """Which files of a package each of its files imports, at its head or inside a function."""
    files = {
        ".".join(path.relative_to(package.parent).with_suffix("").parts).removesuffix(".__init__"): path
        for path in package.rglob("*.py")
    }
    found = {}
    for module, path in files.items():
        named = {name if name in files else name.rpartition(".")[0] for name, _ in imports(path)}
        found[module] = named & (set(files) - {module})
    return found


def test_no_files_import_each_other_in_a_circle() -> None:
    found = arrows(PACKAGE)
    assert sum(map(len, found.values())) > 2 * len(found)
    assert not circles(found)


def test_a_circle_that_an_import_inside_a_function_hides_is_found(tmp_path: Path) -> None:
    """The negative control: the circle is gone with the import."""
    room = tmp_path / "sgdsim" / "model"
    room.mkdir(parents=True)
    (room / "loss.py").write_text("def f():\n    from sgdsim.model.noise import Noise\n")
    (room / "noise.py").write_text("import sgdsim.model.loss\n")
    assert circles(arrows(tmp_path / "sgdsim")) == {"sgdsim.model.loss", "sgdsim.model.noise"}
    (room / "loss.py").write_text("")
    assert not circles(arrows(tmp_path / "sgdsim"))


def test_a_circle_is_found() -> None:
    """The negative control."""
    assert circles({"a": {"b"}, "b": {"c"}, "c": {"b"}, "d": {"a"}}) == {"b", "c"}


def test_an_import_that_goes_up_is_found(tmp_path: Path) -> None:
    """The negative controls: an import that goes up, a hidden one, and one between strangers."""
    wrong = tmp_path / "wrong.py"
    wrong.write_text("from sgdsim.app import cli\n\ndef f():\n    import sgdsim.simulation.run_loop\n")
    assert len(faults(wrong, "model")) == 2
    wrong.write_text("from sgdsim.theory.law import Law\n")
    assert len(faults(wrong, "kernels")) == 1
    wrong.write_text("from sgdsim.base.errors import InputError\n")
    assert not faults(wrong, "model")
