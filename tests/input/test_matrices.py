"""Vectors and matrices as they are declared: in options, in files, in Python; and what is refused."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import sgdsim
from sgdsim.base.errors import InputError
from sgdsim.input.file_references import move_files
from sgdsim.input.loading import load_scenario
from sgdsim.input.scenario import Scenario
from tests.command_line import invoked

RUN = ["--learning-rate", "0.1", "--trajectories", "20", "--steps", "3", "--device", "python", "--quiet"]
TABLES = "[optimizer]\nlearning_rate = 0.1\n[run]\ntrajectories = 10\nsteps = 5\n"
V = [[1.0, -0.5, 0.2], [0.3, 0.8, 0.0]]
COVARIANCE = [[1.0, 0.6, 0.0], [0.6, 1.0, 0.2], [0.0, 0.2, 0.5]]


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def rows(matrix: list[list[float]], name: str) -> None:
    Path(name).write_text("\n".join(",".join(map(str, row)) for row in matrix) + "\n", encoding="utf-8")


def test_rows_and_a_file_of_them_are_one_matrix():
    """In options; the scenario that a run writes has it, and gives the same numbers; so does Python."""
    rows(V, "V.csv")
    rows(COVARIANCE, "C.csv")
    Path("b.csv").write_text("0.5\n-1\n", encoding="utf-8")
    given = ["--loss", "norm2(W@x - V@x - b)/2", "--parameter", "W[2,3]=0.5", "--seed", "4", "--no-automatic"]
    listed = ["--constant", f"V={V}", "--constant", "b=[0.5,-1]"]
    listed += ["--noise", "x[3]=normal:" + ";".join(",".join(map(str, row)) for row in COVARIANCE)]
    files = ["--constant", "V=V.csv", "--constant", "b=b.csv", "--noise", "x[3]=normal:C.csv"]
    for name, own in (("listed", listed), ("files", files)):
        code, output = invoked("simulate", *given, *own, *RUN, "-o", f"{name}.h5", "--save-scenario", f"{name}.toml")
        assert code == 0, output
    again = sgdsim.run_scenario(load_scenario("files.toml"), "again.h5", device="python")
    noise = dict.fromkeys([f"x_normal[{i}]" for i in range(3)], sgdsim.Noise.parse("normal"))
    factor = np.linalg.cholesky(np.array(COVARIANCE))
    mine = sgdsim.simulate(
        sgdsim.Loss(
            "norm2(W@x - V@x - b)/2",
            ("W[2,3]",),
            {"V": np.array(V), "b": [0.5, -1.0], "factor": factor},
            noise,
            {"x": "factor@x_normal"},
        ),
        learning_rate=0.1, initial={"W": np.full((2, 3), 0.5)}, trajectories=20, steps=3, seed=4, device="python",
    )  # fmt: skip
    one = sgdsim.Ensemble.open("listed.h5")["mean"]
    for other in (sgdsim.Ensemble.open("files.h5"), again):
        np.testing.assert_array_equal(other["mean"], one)
    np.testing.assert_allclose(mine["mean"][:, :6], one[:, :6], rtol=1e-12)
    assert np.abs(one[-1, :6] - one[0, :6]).max() > 0.01


def test_starts_are_rows_files_and_distributions():
    """Of a matrix: rows of numbers and distributions, a file, and one entry changed after it."""
    rows([[1.0, 2.0], [3.0, 4.0]], "A.csv")
    code, output = invoked(
        "simulate", "--loss", "norm2(A@x) + norm2(B@x) + norm2(w) + norm2(D@x)", "--noise", "x[2]=rademacher",
        "--parameter", "A=A.csv", "--parameter", 'B=[["normal", 5], [6, 7]]', "--parameter", "w=[8, 9]",
        "--parameter", "D[2,2]=0", "--parameter", "D[1,0]=10", *RUN, "--snapshot", "0", "--no-compare", "-o", "a.h5",
    )  # fmt: skip
    assert code == 0, output
    ensemble = sgdsim.Ensemble.open("a.h5")
    assert ensemble.parameter("A").shape == (1, 20, 2, 2)
    assert (ensemble.parameter("A") == [[1, 2], [3, 4]]).all()
    drawn = ensemble.parameter("B")
    assert (drawn[..., 1, :] == [6, 7]).all()
    assert (drawn[..., 0, 1] == 5).all()
    assert len(np.unique(drawn[..., 0, 0])) == 20
    assert (ensemble.parameter("w") == [8, 9]).all()
    assert (ensemble.parameter("D") == [[0, 0], [10, 0]]).all()


def test_a_matrix_of_noise_and_run_initial():
    """Each entry is a variable of its own, and ``run.initial`` takes rows for what the loss declares."""
    text = '[loss]\nformula = "norm2(W - X)/2"\nparameters = { "W[2,2]" = 0 }\nnoise = { "X[2,2]" = "normal" }\n'
    run = Scenario.parse(text + TABLES + "initial = { W = [[1, 2], [3, 4]] }\n").runs[0]
    assert run.loss.shapes["X"] == (2, 2)
    assert list(run.loss.noise) == ["X[0,0]", "X[0,1]", "X[1,0]", "X[1,1]"]
    assert [run.initial[key] for key in run.loss.parameters] == [1, 2, 3, 4]


def test_layers_in_a_file_have_charges_that_are_recorded():
    text = (
        '[loss]\nformula = "norm2(W2@W1@x)*z"\nparameters = { "W1[2,2]" = 0.5, "W2[1,2]" = 0.3 }\n'
        'constants = { x = [1, 2] }\nnoise = { z = "rademacher" }\nsymmetry = ["layers:W1,W2"]\n'
    )
    run = Scenario.parse(text + TABLES + '[record]\nobservables = { q = "charge(layers_0_1)" }\n').runs[0]
    assert list(run.loss.charges) == ["layers_0_0", "layers_0_1", "layers_1_1"]
    point = dict(zip(run.loss.theta, [0.5] * 4 + [0.3] * 2, strict=True))
    assert run.loss.charges["layers_0_1"].subs(point) == pytest.approx(0.5 - 0.09)


def test_files_of_rows_move_with_the_scenario():
    moved = move_files({"loss": {"constants": {"V": "V.csv", "a": 2}}, "run": {"initial": {"W": "W.csv"}}}, "/a", "/b")
    assert moved == {"loss": {"constants": {"V": "../a/V.csv", "a": 2}}, "run": {"initial": {"W": "../a/W.csv"}}}


LOSS = '[loss]\nformula = "FORMULA"\nparameters = { "W[2,3]" = 0 }\nconstants = { V = CONSTANT }\nnoise = { NOISE }\n'
REFUSED = [
    ("norm2(W@V)", "[1, 2]", "", "shapes [2,3] and [2] do not fit"),
    ("W@V", "[1, 2, 3]", "", "a vector of 2 numbers"),
    ("norm2(W)", "[[1, 2], [3]]", "", "rows of different lengths"),
    ("norm2(W)", '[[1, "a"]]', "", "loss.constants.V"),
    ("norm2(W)", "[]", "", "loss.constants.V"),
    ("norm2(W)", '"missing.csv"', "", "loss.constants.V: missing.csv: no such file"),
    ("norm2(W)", "2", '"x[2]" = "normal:1,0.5,0;0.5,1,0;0,0,1"', "loss.noise.x[2]: a covariance of shape (3, 3)"),
    ("norm2(W)", "2", '"x[2,2]" = "normal:1,0;0,1"', "loss.noise.x[2,2]: a covariance, expected a vector"),
    ("norm2(W)", "2", '"x[2]" = "normal:1,2;2,1"', "loss.noise.x[2]: the covariance has the eigenvalue -1"),
    ("norm2(W)", "2", '"V[2]" = "normal:1,0;0,1"', "'V'"),
]


@pytest.mark.parametrize(("formula", "constant", "noise", "message"), REFUSED)
def test_what_is_no_matrix_or_does_not_fit(formula: str, constant: str, noise: str, message: str):
    text = LOSS.replace("FORMULA", formula).replace("CONSTANT", constant).replace("NOISE", noise)
    Path("scenario.toml").write_text(text + TABLES, encoding="utf-8")
    with pytest.raises(InputError) as error:
        load_scenario("scenario.toml")
    assert message in str(error.value)


@pytest.mark.parametrize(
    ("initial", "message"),
    [
        ("[[1, 2], [3, 4]]", "run.initial.W: a matrix of 2 by 2, expected a matrix of 2 by 3"),
        ("[1, 2, 3]", "run.initial.W: a vector of 3, expected a matrix of 2 by 3"),
        ("[[1, 2, 3], [4]]", "rows of different lengths"),
    ],
)
def test_a_start_of_another_shape(initial: str, message: str):
    text = LOSS.replace("FORMULA", "norm2(W)").replace("CONSTANT", "2").replace("NOISE", "")
    with pytest.raises(InputError) as error:
        Scenario.parse(text + TABLES + f"initial = {{ W = {initial} }}\n")
    assert message in str(error.value)


def test_a_misfit_is_bad_input_with_its_column():
    code, output = invoked(
        "simulate", "--loss", "norm2(W@x - y)", "--parameter", "W[2,3]=0", "--constant", "x=[1,2]", "--constant",
        "y=[1,2]", *RUN, "-o", "a.h5",
    )  # fmt: skip
    assert code == 2
    assert "shapes [2,3] and [2] do not fit" in output
    assert "    norm2(W@x - y)\n           ^\n  expected 3 rows on the right" in output


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--direction", "Q = W"), "unknown parameter 'Q': known are W, b"),
        (("--direction", "WW = W"), "unknown parameter 'WW': did you mean 'W'?"),
        (("--set", "run.initial.Q=1"), "--parameter Q: unknown parameter 'Q': known are W, b"),
        (("--histogram", "Q:0,1,10"), "unknown observable 'Q': known are W, b"),
        (("--histogram", "W:0,1,10"), "unknown observable 'W': expected one of its entries, such as W[0,0]"),
    ],
)
def test_unknown_names_are_listed_without_entries(options: tuple[str, str], message: str):
    declared = ("--parameter", "W[9,9]=1", "--parameter", "b=1")
    code, output = invoked("simulate", "--loss", "norm2(W)/2 + b**2", *declared, *options, *RUN)
    assert code == 2
    assert message in output
    assert "W[8,8]" not in output


@pytest.mark.parametrize(
    ("formula", "options", "message"),
    [
        ("cka(W, U)", (), "shapes [2,3] and [2,4] do not fit\n    cka(W, U)\n    ^\n  expected equally many columns"),
        ("alignment(W, U)", (), "do not fit\n    alignment(W, U)\n    ^\n  expected equal shapes\n"),
        ("dot(W, U)", (), "do not fit\n    dot(W, U)\n    ^\n  expected equal shapes\n"),
        ("alignment(W, 2)", (), "not a vector or a matrix, but a number"),
        ("norm2(b) + norm2(W)", ("--constant", "b[2]=nomal"), "unknown distribution 'nomal': did you mean 'normal'?"),
        ("W", (), "a matrix of 2 by 3 numbers\n    W\n    ^\n  expected one number"),
        (
            "norm2(U) + norm2(W)",
            ("--symmetry", "layers:U,W"),
            "'layers:U,W': U[2,4] and W[2,3] do not fit, expected 2 columns of W, the rows of U, the layer that is",
        ),
        ("norm2(W)", ("--symmetry", "layers:W,Q"), "--symmetry 'layers:W,Q': unknown parameter 'Q': known are U, W"),
        ("norm2(W)", ("--state", "s = s/2", "--state", "r = r/2; start=qq"), "unknown name 'qq': known are U, W, pi"),
    ],
)
def test_what_does_not_fit_is_said_as_it_was_typed(formula: str, options: tuple[str, ...], message: str):
    declared = ("--parameter", "W[2,3]=1", "--parameter", "U[2,4]=1")
    code, output = invoked("simulate", "--loss", formula, *declared, *options, *RUN)
    assert code == 2
    assert message in output


def test_a_loss_of_one_name_is_a_formula_where_it_is_declared():
    """From Python as on the command line, where a misspelt name of the catalogue is still one."""
    code, output = invoked(
        "simulate", "--loss", "y", "--define", "y = x**2/2", "--parameter", "x=1", *RUN, "-o", "y.h5"
    )
    assert code == 0, output
    found = sgdsim.simulate(
        "y", define={"y": "x**2/2"}, initial={"x": 1.0}, learning_rate=0.1, trajectories=20, steps=3, device="python"
    )
    np.testing.assert_array_equal(sgdsim.Ensemble.open("y.h5")["mean"][..., 0], found["mean"][..., 0])
    code, output = invoked("simulate", "--loss", "quadratik", "--parameter", "x=1", *RUN)
    assert (code, "did you mean 'quadratic'?" in output) == (2, True)


def test_a_name_without_its_bracket_is_shown_as_it_was_typed():
    code, output = invoked("show", "norm2(W)", "--parameter", "W[2,3")
    assert code == 2
    assert "--parameter 'W[2,3': 'W[2,3' is not a parameter" in output
    assert "=1.0" not in output


def test_a_list_of_formulas_is_a_vector():
    """Columns of data among them, as in a file; calls and entries have commas of their own."""
    Path("d.csv").write_text("p,q,y\n1,0,1\n0.5,2,0\n", encoding="utf-8")
    options = ["--data", "d.csv", "--parameter", "w[3]=0", "--define", "x = [p, min(p, q), B[0,1]*q]"]
    options += ["--constant", "B=[[1,2]]", "--snapshot", "final", "--no-compare", "--no-automatic", "-o", "d.h5"]
    code, output = invoked("simulate", "--loss", "(dot(w, x) - y)**2/2", *options, *RUN)
    assert code == 0, output
    found = sgdsim.simulate(
        "(dot(w, x) - y)**2/2", data={"p": [1, 0.5], "q": [0, 2], "y": [1, 0]}, initial={"w[3]": 0.0}, constants=
        {"B": [[1, 2]]}, define={"x": ["p", "min(p, q)", "B[0,1]*q"]}, learning_rate=0.1, trajectories=20, steps=3,
        device="python",
    )  # fmt: skip
    np.testing.assert_array_equal(sgdsim.Ensemble.open("d.h5").mean("w"), found.mean("w"))
    assert np.abs(found.mean("w")[-1]).max() > 0.01
    code, output = invoked("simulate", "--loss", "sum(x)", "--define", "x = [p, ]", "--parameter", "p=1", *RUN)
    assert code == 2
