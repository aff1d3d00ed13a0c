"""Output of `sgdsim show`: losses compared with a calculation by hand, rates of schedules, and refusals."""

from __future__ import annotations

import json

import numpy as np
import pytest
from click.testing import CliRunner, Result

from sgdsim.app.cli import main
from sgdsim.app.loss_report import MAX_STEPS, describe_loss, describe_schedule
from sgdsim.base.errors import InputError
from sgdsim.formulas.formula import Formula
from sgdsim.input.subject import loss_of
from sgdsim.model.data import Data
from sgdsim.model.loss import Loss
from sgdsim.model.losses import CATALOGUE
from sgdsim.model.schedules import Schedule

QUICK = ["quadratic", "double_well", "rescaling", "rescaling_neurons", "rotation"]


def show(*arguments: object) -> Result:
    return CliRunner(catch_exceptions=False).invoke(main, ["show", *map(str, arguments)])


def refused(*arguments: object) -> str:
    result = show(*arguments)
    assert (result.exit_code, result.stdout) == (2, "")
    return result.stderr


# Losses.

OPTIONS = ["--constant", "a=2", "--noise", "x=normal", "--noise", "e=laplace", "--define", "y = a*x + e"]


def test_everything_about_a_loss():
    """The gradients, the population loss with its variances 1 and 2, and the charge of the rescaling by hand."""
    result = show("(u*w*x - y)**2/2", *OPTIONS, "--symmetry", "rescale:u:1,w:-1", "--symmetry", "permutation:u,w")
    assert (result.exit_code, result.stderr) == (0, "")
    expected = """\
formula: (u*w*x - y)**2/2
parameters: u, w

constants:
  a = 2

noise:
  x ~ normal:0.0,1.0: mean 0, variance 1
  e ~ laplace:0.0,1.0: mean 0, variance 2

definitions:
  y = a*x + e

gradient of a sample:
  u: w*x*(-a*x - e + u*w*x)
  w: u*x*(-a*x - e + u*w*x)

population loss:
  a**2/2 - a*u*w + u**2*w**2/2 + 1

Hessian of the population loss:
  u, u: w**2
  u, w: -a + 2*u*w
  w, w: u**2

symmetries:
  rescale, generator u: u, w: -w
  permutation, u -> w, w -> u

charges:
  rescale = u**2/2 - w**2/2

symmetries that are not declared:
  sign, u -> -u, w -> -w
"""
    assert result.stdout == expected
    less = show("(u*w*x - y)**2/2", *OPTIONS, "--symmetry", "rescale:u:1,w:-1", "--no-symmetries").stdout
    assert "charges:" in less
    assert "not declared" not in less


@pytest.mark.parametrize(
    ("noise", "shown", "reason"),
    [
        (
            "student_t:3",
            "mean 0, variance 3",
            "there is none: the moment of order 4 of x ~ student_t:3.0 does not exist",
        ),
        ("student_t:2", "mean 0, its variance does not exist", "of order 4"),
        ("student_t:1", "its mean does not exist, its variance does not exist", "of order 4"),
        ("exponential:2", "mean 0, variance 4", "144*w"),
        ("table:-1@0.5,3@0.5", "mean 1, variance 4", "41*w"),
    ],
)
def test_moments_of_the_noise_and_why_there_is_no_population_loss(noise, shown, reason):
    result = show("w*x**4", "--noise", f"x={noise}")
    assert result.exit_code == 0
    assert f": {shown}\n" in result.stdout
    assert reason in result.stdout


def test_a_loss_without_a_closed_form_says_so():
    text = show("relu(w*x)", "--noise", "x=normal").stdout
    assert text.count("there is none: the expectation of relu(w*x) over x has no closed form here") == 2
    assert "w: x*step(w*x)" in text


def test_what_is_nothing_else_is_a_parameter():
    loss = loss_of("b*w[1]**2 + q*z*w[0]", parameters=["q", "w[2]", "b"], noise=["z=normal"])
    assert loss.parameters == ("q", "w[0]", "w[1]", "b")
    loss = loss_of("y + w[1]*v[0] + pi*u", constants=["c=1e-3"], noise=["z[2]=normal"], definitions=["y = c*s*z[1]"])
    assert loss.parameters == ("w[0]", "w[1]", "v[0]", "u", "s")
    assert list(loss.noise) == ["z[0]", "z[1]"]
    assert loss.constants == {"c": 0.001}


def test_a_hessian_without_its_zeros():
    text = describe_loss(loss_of("x**2 + 3*y**2 + x*z"), find_symmetries=False)
    assert text.endswith("  x, x: 2\n  x, z: 1\n  y, y: 6\n  z, z: 0")


def test_vectors_of_definitions_and_data():
    loss = Loss("sum(h*x) - t*x[0]", ("x[0]", "x[1]"), definitions={"h": ("x[0]", "2")}, data=Data({"t": (1.0, 3.0)}))
    text = describe_loss(loss)
    assert "definitions:\n  h = [x[0], 2]\n" in text
    assert "data:\n  2 rows of t\n" in text
    assert "population loss:\n  x[0]**2 - 2*x[0] + 2*x[1]\n" in text


@pytest.mark.parametrize("name", QUICK)
def test_losses_of_the_catalogue(name):
    """Each expression is a formula in the loss's own names."""
    loss = CATALOGUE[name]()
    result = show(name)
    assert result.exit_code == 0
    assert result.stdout.startswith(f"{name}: {loss.description}\n")
    sections = dict(block.split(":\n", 1) for block in result.stdout.strip().split("\n\n")[1:])
    assert sections["population loss"].strip() == str(loss.population)
    lines = [*sections["gradient of a sample"].splitlines(), *sections["Hessian of the population loss"].splitlines()]
    for line in lines:
        Formula.parse(line.partition(": ")[2]).expression(loss.namespace)
    for line in sections.get("charges", "").splitlines():
        charge, formula = line.split(" = ")
        assert Formula.parse(formula).expression(loss.namespace) == loss.charges[charge.strip()]


def test_constants_of_a_loss_of_the_catalogue():
    assert "\n  a = 3\n" in show("double_well", "--constant", "a=3").stdout
    text = show("river_valley", *[part for name in ("a0", "k", "c2") for part in ("--constant", f"{name}=0.5")]).stdout
    assert "parameters: x, y\n" in text
    assert "\n  x, y: 2*a0*k*x*y\n" in text


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        ([], "expected a loss, e.g. sgdsim show "),
        (["--constant", "a=1", "--learning-rate", "0.1"], "expected a loss"),
        (["quadratik"], "unknown loss 'quadratik': did you mean 'quadratic'?"),
        (["vally"], "unknown law 'vally': did you mean 'valley'?"),
        (["Equipartition"], "unknown law 'Equipartition': did you mean 'equipartition'?"),
        (["entropc-force"], "unknown law 'entropc-force': did you mean 'entropic-force'?"),
        (["x**2 +"], "the loss: invalid syntax"),
        (["sinn(x)"], "did you mean 'sin'?"),
        (["3"], "a loss needs at least one parameter"),
        (["quadratic", "--noise", "z=normal"], '--noise: { z = "normal" }, expected text, or a list of texts'),
        (["softmax", "--constant", "a=1"], "--constant: unknown key of softmax 'constants': known are probabilities"),
        (["a*x", "--constant", "a"], "--constant 'a': expected NAME=NUMBER, e.g. a=1"),
        (["a*x", "--constant", "a=b"], "--constant 'a=b': expected NAME=NUMBER, e.g. a=1"),
        (["a*x", "--constant", "a=inf"], "--constant 'a=inf': expected NAME=NUMBER"),
        (
            ["a*x", "--constant", "a[0]=1", "--constant", "a[2]=1"],
            "constants a[0], a[2]: expected each name once, and a vector as a[0], a[1]",
        ),
        (["a*x", "--constant", "a[2]=1"], "a vector of 2 numbers"),
        (["a*x", "--constant", "2=1"], "'2' is not a name"),
        (["z*x", "--noise", "z"], "--noise 'z': expected NAME=DISTRIBUTION, e.g. x=normal:0,0.5"),
        (["z*x", "--noise", "z=norml"], "--noise z: unknown distribution 'norml': did you mean 'normal'?"),
        (["y*x", "--define", "y"], "--define 'y': expected 'NAME = FORMULA'"),
        (["x*y", "--parameter", "x"], "unknown name 'y'"),
        (["x*y", "--symmetry", "rescal:x:1,y:-1"], "--symmetry: unknown symmetry 'rescal': did you mean 'rescale'?"),
        (["x*y + x", "--symmetry", "rescale:x:1,y:-1"], "the loss of a sample changes by x, expected 0"),
        (["sum(w)"], "not a vector"),
    ],
)
def test_what_is_no_loss(arguments, problem):
    message = refused(*arguments)
    assert message.startswith("Error: ")
    assert problem in message


# Schedules.


def rates_shown(text: str) -> dict[int, float]:
    _, *lines = text.partition("\n\n")[0].splitlines()
    return {int(step): float(rate) for step, rate in map(str.split, lines)}


@pytest.mark.parametrize("steps", [1, 2, 5, 10, 11, 12, 66, 67, 999, 1000, 12345])
def test_rates_at_some_steps(steps):
    text = describe_schedule(Schedule("cosine:0.1,0.001"), steps)
    shown = rates_shown(text)
    rates = Schedule("cosine:0.1,0.001").rates(steps)
    assert {0, steps - 1} <= shown.keys()
    assert min(steps, 6) <= len(shown) <= 12
    np.testing.assert_allclose(list(shown.values()), rates[list(shown)], rtol=1e-5)
    assert max(map(len, text.splitlines())) <= 80
    assert text.isascii()


def test_the_picture_of_a_schedule():
    result = CliRunner().invoke(main, ["schedule", "step:0.8,0.25,20", "--steps", "40"])
    assert result.exit_code == 0
    *_, table, picture = result.stdout.split("\n\n")
    assert rates_shown(table)[20] == 0.2
    half = 33 * "*"
    rows = [f"       0.8 |{half}", *["           |" + 33 * " " + "*"] * 8, f"           |{33 * ' '}{half}"]
    rows[6] = rows[6].replace("           |", "       0.4 |")
    rows += ["           |"] * 2 + [f"         0 +{66 * '-'}", f"            0{'39':>65}"]
    rows[0] += "*"
    assert picture.splitlines() == rows


@pytest.mark.parametrize("text", ["linear:1,0", "cosine:1,0.01", "wsd:1,100,300", "exponential:1,200", "0.01", "1 + t"])
@pytest.mark.parametrize("steps", [3, 50, 1000])
def test_the_picture_has_every_rate_in_its_place(text, steps):
    """In the column of its step, in the twelfth of the largest rate that it is in."""
    lines = describe_schedule(Schedule(text), steps).split("\n\n")[1].splitlines()[:12]
    cells = np.array([list(line[12:].ljust(66)) for line in lines[::-1]]) == "*"
    rates = Schedule(text).rates(steps)
    rows = np.clip(np.ceil(rates / rates.max() * 12).astype(int) - 1, 0, 11)
    for column in range(66):
        step = column * steps // 66
        assert cells[rows[step], column]
    assert cells.any(axis=0).all()
    assert cells[-1].any()


def test_a_loss_and_a_schedule():
    text = show("x**2", "--learning-rate", "0.1", "--steps", "1e2").stdout
    assert text.startswith("formula: x**2\n")
    assert "\n\n      step  learning rate\n         0  0.1\n        10  0.1\n" in text


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        (["cosin:0.1"], "optimizer.learning_rate: unknown schedule 'cosin': did you mean 'cosine'?"),
        (["0.2 - 0.1*t"], "'0.2 - 0.1*t' is 0.0 at step 2, expected a finite positive number"),
        (["0.1", "--steps", "0"], f"--steps: 0, expected 1 to {MAX_STEPS}"),
        (["0.1", "--steps", "1e12"], f"--steps: 1000000000000, expected 1 to {MAX_STEPS}"),
        (["0.1", "--steps", "1.5"], "expected a whole number"),
    ],
)
def test_what_is_no_schedule(arguments, problem):
    assert problem in refused("x**2", "--learning-rate", *arguments)


def test_show_takes_a_line_of_simulate(tmp_path):
    """With another word for the command: what a run alone needs is read, and misspelt it is refused."""
    line = ["--loss", "a*x**2/2 + s*z*x", "--constant", "a=1", "--noise", "z=normal", "--parameter", "x=0"]
    line += ["--learning-rate", "cosine:0.1,0.001", "--trajectories", "1e5", "--steps", "200", "--every", "5"]
    line += ["--observable", "q = x**2", "--predict", "valley", "--set", "loss.constants.s=3"]
    line += ["-o", str(tmp_path / "x.h5")]
    text = show(*line).stdout
    assert "\n  a = 1, s = 3\n" in text or "\n  a = 1\n  s = 3\n" in text
    assert "       199  0.001" in text
    assert not [*tmp_path.iterdir()]
    assert "--observable 'q': expected" in refused(*line, "--observable", "q")
    assert "expected it, or y**2" in refused("y**2", *line)


def test_a_schedule_is_shown_or_designed():
    """Not both at once; and as data."""
    shown = CliRunner().invoke(main, ["schedule", "linear:1,0", "--steps", "4", "--json"])
    assert json.loads(shown.stdout) == {"0": 1.0, "1": 0.75, "2": 0.5, "3": 0.25}
    both = CliRunner().invoke(main, ["schedule", "0.1", "--peak", "0.5"])
    assert (both.exit_code, "--peak: expected it without 0.1" in both.output) == (2, True)
    both = CliRunner().invoke(main, ["schedule", "0.1", "--river", "u"])
    assert (both.exit_code, "--river: expected it without 0.1" in both.output) == (2, True)


def test_a_table_of_rates():
    text = describe_schedule(Schedule("mine", table=(0.5, 0.25)), 2)
    assert rates_shown(text) == {0: 0.5, 1: 0.25}
    with pytest.raises(InputError, match="'mine' has 2 rates, expected 3"):
        describe_schedule(Schedule("mine", table=(0.5, 0.25)), 3)


def test_a_schedule_in_a_file(tmp_path):
    """Its rates, as many as there are; another number of steps is refused."""
    path = tmp_path / "rates.txt"
    path.write_text("0.1\n0.05\n")
    shown = CliRunner().invoke(main, ["schedule", f"file:{path}"])
    assert (shown.exit_code, shown.output.splitlines()[2].split()) == (0, ["1", "0.05"])
    assert CliRunner().invoke(main, ["schedule", f"file:{path}", "--steps", "3"]).exit_code == 2
    assert CliRunner().invoke(main, ["schedule", f"file:{path}x"]).exit_code == 2


def test_a_loss_of_the_catalogue_is_shown_with_its_arguments():
    """They are keys of `[loss]` in a scenario, and `--set loss.curvatures=…` on the command line."""
    shown = describe_loss(CATALOGUE["rayleigh"]())
    assert "arguments, with their defaults: curvatures = (1.0, 2.0), noise = 'normal', constants = None" in shown


def test_a_law_is_shown_with_its_derivation():
    from sgdsim.app.loss_report import describe_law

    text = describe_law("equipartition")
    assert "holds for: " in text
    assert "source: " in text
    assert "<U_i> = eta*sigma_i^2 / (2*(2 - eta*a_i))" in text
    assert describe_law("NTL-4") == text
    assert describe_law("quadratic") is None
