"""A run whose formulas were checked and compiled before starts without SymPy; another formula needs it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

PROGRAM = """
import sys, warnings
from sgdsim.app.cli import main
warnings.simplefilter("ignore")
sys.argv = ["sgdsim", *sys.argv[1:]]
try:
    main()
except SystemExit as end:
    assert not end.code, end.code
print("sympy" in sys.modules)
"""

REST = "--trajectories 20 --device python --no-compare --overwrite -o out.h5"
OPTIONS = f"--learning-rate 0.2 --steps 8 --every 4 {REST}"

SYMMETRIC = (
    *("simulate", "--loss", "(u*w*x - y)**2/2", "--define", "y = 0.8*x + s*e", "--constant", "s=0.5"),
    *("--noise", "x=rademacher", "--noise", "e=normal", "--parameter", "u=1.6", "--parameter", "w=0.5"),
    *("--symmetry", "rescale:u:1,w:-1", "--observable", "q = u**2 - w**2", *OPTIONS.split()),
)
PARTIAL = (
    *("simulate", "--loss", "(x**2 + 1)**k + log(2 + x) + z*x", "--constant", "k=1.5", "--noise", "z=normal"),
    *("--parameter", "x=1", "--set", 'optimizer.preconditioner=["1 + x**2"]', *OPTIONS.split()),
)
SHIPPED = ("run", "river_valley", "--steps", "8", *REST.split())


def imports_sympy(folder: Path, arguments: tuple[str, ...]) -> bool:
    environment = {**os.environ, "SGDSIM_CACHE_DIR": str(folder / "cache")}
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, *arguments],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.split()[-1] == "True"


@pytest.mark.parametrize("arguments", [PARTIAL, pytest.param(SHIPPED, marks=pytest.mark.validate)])
def test_a_warm_run_does_not_import_sympy(tmp_path, arguments):
    assert imports_sympy(tmp_path, arguments)
    assert not imports_sympy(tmp_path, (*arguments, "--seed", "7"))


@pytest.mark.validate
def test_another_formula_does(tmp_path):
    assert imports_sympy(tmp_path, SYMMETRIC)
    assert not imports_sympy(tmp_path, SYMMETRIC)
    other = tuple(argument.replace("/2", "/4") for argument in SYMMETRIC)
    assert imports_sympy(tmp_path, other)
    assert not imports_sympy(tmp_path, other)
