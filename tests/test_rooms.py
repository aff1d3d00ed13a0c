"""The direction of imports between the rooms of the package: none goes up, and some rooms are strangers."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import sgdsim

PACKAGE = Path(sgdsim.__file__).parent
TESTS = Path(__file__).parent

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


@cache
def _imports(text: str) -> list[ast.Import | ast.ImportFrom]:
    """The imports in a text; that each file is parsed once makes these tests three times as fast."""
    return [node for node in ast.walk(ast.parse(text)) if isinstance(node, ast.Import | ast.ImportFrom)]


def imports(path: Path) -> Iterator[tuple[str, int]]:
    """The modules of the package that a file imports anywhere in it, with the line of each."""
    for node in _imports(path.read_text(encoding="utf-8")):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        else:
            assert node.level == 0, f"{path}:{node.lineno}: a relative import"
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        yield from ((name, node.lineno) for name in names if name.partition(".")[0] == "sgdsim")


def module_of(path: Path) -> str:
    """The dotted name of a file of the package."""
    return ".".join(path.relative_to(PACKAGE.parent).with_suffix("").parts).removesuffix(".__init__")


def faults(path: Path, room: str) -> list[str]:
    """Imports of a file that the plan of its room forbids."""
    found = []
    for name, line in imports(path):
        other = room_of(name)
        if FLOORS[other] > FLOORS[room] or {room, other} in STRANGERS:
            found.append(f"{path.name}:{line}: {room or 'the face'} imports {name}")
    return found


def test_no_import_goes_up() -> None:
    files = sorted(PACKAGE.rglob("*.py"))
    assert len(files) > 300
    found = [fault for path in files for fault in faults(path, room_of(module_of(path)))]
    assert not found, "\n".join(found)


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
    """Files of a package that each of its files imports, at its head or inside a function."""
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


COVERED = {
    "app/test_cli.py": "app/command app/completion base/version",
    "app/test_dask_workers.py": "app/in_shards",
    "app/test_html_report.py": "app/page",
    "app/test_theory_report.py": "app/theory_entries app/theory_sections theory/methods/step_formula",
    "ensemble/test_ensemble.py": (
        "base/html base/packages base/sparse ensemble/compact ensemble/conversions ensemble/digest ensemble/reading"
        " ensemble/variable ensemble/writing"
    ),
    "formulas/test_arrays.py": "formulas/limits",
    "formulas/test_formula.py": "formulas/symbolic formulas/walker",
    "formulas/test_graph.py": "formulas/backpropagation",
    "input/test_loading.py": "input/builders input/fields input/schema input/wording",
    "input/test_options.py": "input/option_values",
    "input/test_scenario.py": "base/problems",
    "input/test_snapshots.py": "ensemble/last_states simulation/stored_states",
    "input/test_sweep.py": "input/runs",
    "app/test_simulate.py": "formulas/expressions input/call input/columns input/readers",
    "kernels/test_arrays.py": (
        "kernels/array_functions kernels/array_names kernels/array_plan kernels/array_text kernels/cpu_products"
        " kernels/products model/polar"
    ),
    "kernels/test_cache.py": "kernels/processor kernels/program",
    "kernels/test_curvature.py": "kernels/eigenvalue model/population_points",
    "kernels/test_elementary.py": "kernels/fused kernels/pasted",
    "kernels/test_engine.py": "kernels/block kernels/host kernels/interface kernels/plan",
    "kernels/test_optimizer_kernels.py": "kernels/accumulators kernels/formula_functions",
    "kernels/test_ptx.py": "kernels/cuda_kernels kernels/cuda_measure kernels/gpu kernels/targets/cuda kernels/tile",
    "kernels/test_cuda.py": "kernels/targets/cudasim kernels/one_lane",
    "kernels/test_sampling.py": "kernels/deviates kernels/layout",
    "kernels/test_source.py": (
        "kernels/cpu_loop kernels/formula_loops kernels/measure kernels/targets/cpu kernels/targets/python"
    ),
    "model/losses/test_catalogue.py": (
        "model/losses/anharmonic model/losses/diagonal_network model/losses/double_well model/losses/linear_regression"
        " model/losses/logistic model/losses/permutation model/losses/quadratic model/losses/relu_network"
        " model/losses/rescaling model/losses/rotation model/losses/scale_invariant model/losses/sign"
        " model/losses/softmax model/losses/vectors"
    ),
    "model/test_loss.py": (
        "model/assignments model/data model/expectation model/loss_graph model/symmetry"
        " model/symmetry_check model/written_loss"
    ),
    "model/test_optimizers.py": "model/update_rules",
    "model/test_run.py": "model/recorder",
    "kernels/test_states.py": "model/states",
    "plots/test_drawing.py": (
        "app/figures plots/density plots/evolution plots/landscape plots/moments plots/naming plots/numbers"
        " plots/order plots/panel plots/render plots/schedule plots/style plots/subject plots/sweep plots/ticks"
        " plots/along"
    ),
    "plots/test_kinds.py": (
        "plots/as_written plots/between plots/diagram plots/drift plots/mathematics plots/trajectories"
    ),
    "simulation/test_checkpoints.py": (
        "base/durations base/pieces simulation/assembly simulation/part_checkpoints simulation/provenance"
        " simulation/shards simulation/unfinished"
    ),
    "simulation/test_control_weights.py": "kernels/control_step",
    "simulation/test_flat_memory.py": "base/memory simulation/memory_needs",
    "simulation/test_kept_states.py": "app/extending",
    "simulation/test_run_loop.py": "simulation/result_arrays simulation/simulator",
    "statistics/test_comparison.py": (
        "prediction statistics/conditions statistics/measured statistics/order_test statistics/resolution"
        " statistics/rows statistics/scores statistics/verdict_table"
    ),
    "statistics/test_estimators.py": (
        "statistics/estimate statistics/histograms statistics/records statistics/snapshot_estimators"
    ),
    "statistics/test_false_certainty.py": "statistics/bootstrap statistics/goodness",
    "test_wrong_types.py": "base/take",
    "theory/chain/test_chain.py": (
        "theory/chain/domain theory/chain/mesh theory/chain/operator theory/chain/pilot theory/chain/settings"
    ),
    "theory/chain/test_evolution.py": "theory/chain/legs",
    "theory/laws/test_minibatches.py": "theory/methods/mode_rows",
    "theory/laws/test_gradient_balance.py": "theory/methods/balanced_orbit",
    "theory/laws/test_noisy_river.py": "theory/methods/rivers",
    "theory/laws/test_second_step.py": "theory/methods/first_steps theory/methods/step_noise",
    "theory/methods/test_modes.py": ("theory/methods/directions theory/methods/noise_free_path theory/recorded_names"),
    "theory/methods/test_moment_recursion.py": "theory/methods/gradient_moments theory/methods/moment_matrices",
    "theory/quadrature/test_nested.py": "theory/methods/batch_gradient theory/quadrature/rules",
    "theory/test_claims.py": "theory/claimed_statistics theory/methods/normalised_density",
    "theory/test_laws.py": "theory/law theory/numerical_rows theory/potential",
}
"""By test file, the modules without a test file of their own name that it covers."""


def missing_tests(package: Path, tests: Path, covered: dict[str, str]) -> list[str]:
    """The modules of which no test is known, and what is wrong with the list of those that others cover."""
    modules = {
        str(path.relative_to(package).with_suffix("")) for path in package.rglob("*.py") if path.stem[:2] != "__"
    }
    own = {name for name in modules if (tests / name).with_name(f"test_{Path(name).name}.py").exists()}
    listed = [name for names in covered.values() for name in names.split()]
    files = {test for test in covered if not (tests / test).exists()}
    problems = [f"{name}: no test" for name in modules - own - set(listed)]
    problems += [f"{test}: is not there" for test in files]
    problems += [f"{name}: has a test of its own, and stands in the list" for name in own & set(listed)]
    problems += [f"{name}: is not there, but stands in the list" for name in set(listed) - modules]
    return sorted(problems + [f"{name}: stands twice in the list" for name in listed if listed.count(name) > 1])


def test_every_module_has_a_test_that_mirrors_it_or_is_named() -> None:
    """sgdsim/room/module.py has tests/room/test_module.py, or the list above names the test that holds it."""
    assert not missing_tests(PACKAGE, TESTS, COVERED)


def test_the_tests_that_are_named_reach_what_they_cover() -> None:
    """By what they import, and what that imports; or by commands, options and scenarios, which import inside."""
    found = arrows(PACKAGE)
    for test, names in COVERED.items():
        heads = {name if name in found else name.rpartition(".")[0] for name, _ in imports(TESTS / test)}
        reached, new = set[str](), heads & set(found)
        while new:
            reached |= new
            new = {target for module in new for target in found[module]} - reached
        for name in names.split():
            module = f"sgdsim.{name.replace('/', '.')}"
            by_name = name.startswith(("kernels/", "plots/"))  # texts that are pasted, and kinds of figures
            assert by_name or module in reached, f"{test} does not reach {module}"


def test_a_module_without_a_test_is_found(tmp_path: Path) -> None:
    """The negative controls of the check: a module that nothing covers, and lists that are wrong."""
    (tmp_path / "sgdsim" / "model").mkdir(parents=True)
    (tmp_path / "tests" / "model").mkdir(parents=True)
    for name in ("loss", "noise"):
        (tmp_path / "sgdsim" / "model" / f"{name}.py").write_text("")
    (tmp_path / "tests" / "model" / "test_loss.py").write_text("")

    def found(covered: dict[str, str]) -> list[str]:
        return missing_tests(tmp_path / "sgdsim", tmp_path / "tests", covered)

    assert found({}) == ["model/noise: no test"]
    assert found({"model/test_loss.py": "model/noise"}) == []
    assert found({"model/test_gone.py": "model/noise"}) == ["model/test_gone.py: is not there"]
    assert len(found({"model/test_loss.py": "model/noise model/loss model/gone"})) == 2
