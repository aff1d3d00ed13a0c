"""Every loss of the catalogue: its formula against one written by hand, its symmetries, its charges, its refusals."""

from __future__ import annotations

import time
from dataclasses import replace
from functools import cache
from random import Random
from typing import Any

import numpy as np
import pytest
import sympy

from sgdsim.app.simulate import simulate
from sgdsim.base.errors import InputError
from sgdsim.formulas.formula import Formula
from sgdsim.formulas.vectors import gather
from sgdsim.input.builders import build_loss
from sgdsim.model.loss import Loss
from sgdsim.model.losses import CATALOGUE
from sgdsim.model.losses.vectors import random_vector
from sgdsim.model.noise import Noise
from sgdsim.model.symmetry import Symmetry


@cache
def default(name: str) -> Loss:
    return CATALOGUE[name]()


NAMES = [name for name in CATALOGUE if name != "river_valley"]  # which has tests of its own
NO_CLOSED_FORM = ("relu_network", "logistic")
SYMMETRIC = [name for name in NAMES if default(name).symmetries]
WITHOUT_SYMMETRY = ("quadratic", "anharmonic", "double_well", "linear_regression", "logistic")


def _teacher(v: dict[str, Any]) -> np.ndarray:
    return np.array([v["teacher_0"], v["teacher_1"]])


def _logistic(v: dict[str, Any]) -> float:
    y = 1 if _teacher(v) @ v["x"] + v["sigma"] * v["e"] > 0 else -1
    return float(np.log1p(np.exp(-y * (v["w"] @ v["x"]))))


def _relu(x: float) -> float:
    return max(x, 0.0)


# The loss of a sample with default arguments, of constants, parameters and noise by name, vectors as arrays.
BY_HAND = {
    "quadratic": lambda v: v["h_0"] * v["x"][0] ** 2 / 2 + v["sigma"] * v["xi"][0] * v["x"][0],
    "anharmonic": lambda v: v["c"] * v["x"] ** 4 / 4 + v["sigma"] * v["xi"] * v["x"],
    "double_well": lambda v: (
        v["a"] / 4 * v["x"] ** 4 - v["b"] / 2 * v["x"] ** 2 + (v["h"] + v["sigma"] * v["xi"]) * v["x"]
    ),
    "linear_regression": lambda v: ((v["w"] - _teacher(v)) @ v["x"] - v["sigma"] * v["e"]) ** 2 / 2,
    "logistic": _logistic,
    "rescaling": lambda v: ((v["u"] * v["w"] - v["slope"]) * v["x"] - v["sigma"] * v["e"]) ** 2 / 2,
    "rescaling_vector": lambda v: ((v["u"] * v["w"] - _teacher(v)) @ v["x"] - v["sigma"] * v["e"]) ** 2 / 2,
    "rescaling_neurons": lambda v: ((v["u"] @ v["w"] - v["slope"]) * v["x"] - v["sigma"] * v["e"]) ** 2 / 2,
    "diagonal_network": lambda v: ((v["u"] * v["w"] - _teacher(v)) @ v["x"] - v["sigma"] * v["e"]) ** 2 / 2,
    "relu_network": lambda v: (
        (v["a"] * _relu(v["w"] * v["x"] + v["b"]) - v["slope"] * _relu(v["x"]) - v["sigma"] * v["e"]) ** 2 / 2
    ),
    "rotation": lambda v: (v["theta"] @ v["theta"] - v["r2"] - v["s"] * v["xi"]) ** 2 / 4,
    "rayleigh": lambda v: (
        v["theta"] @ np.diag([v["m_0"], v["m_1"]] + v["sigma"] * v["xi"]) @ v["theta"] / (v["theta"] @ v["theta"])
    ),
    "sphere": lambda v: (v["sigma"] * v["xi"] - v["k"] * np.eye(3)[0]) @ v["theta"] / np.linalg.norm(v["theta"]),
    "softmax": lambda v: np.log(np.exp(v["z"]).sum()) - v["z"][round(v["label"])],
    "sign": lambda v: (v["d"] * v["xi"] - v["a"]) * v["theta"] ** 2 / 2 + v["b"] * v["theta"] ** 4 / 4,
    "permutation": lambda v: (
        (np.tanh(v["u"] * v["x"]) + np.tanh(v["w"] * v["x"]) - v["mu"] - v["sigma"] * v["e"]) ** 2 / 2
    ),
}


def point(loss: Loss, random: Random) -> dict[str, float]:
    """Parameters of either sign, noise as it is distributed, and the constants."""
    values = {name: random.uniform(-2, 2) for name in loss.parameters}
    return {**values, **{name: noise.draw(random) for name, noise in loss.noise.items()}, **loss.constants}


def by_hand(name: str, values: dict[str, float]) -> float:
    vectors = {k: v.astype(float) if isinstance(v, np.ndarray) else v for k, v in gather(values).items()}
    return float(BY_HAND[name](vectors))


def number(expression: sympy.Expr, values: dict[str, float]) -> float:
    return float(Formula.parse(f"{expression} + 0").evaluate(gather(values)))


def mistaken(symmetry: Symmetry, loss: Loss) -> Symmetry:
    first = loss.parameters[0]
    if symmetry.is_continuous:
        return replace(symmetry, generator={first: "1"})
    return replace(symmetry, image={first: f"{first} + 1"})


def test_all_are_covered():
    assert set(BY_HAND) == set(NAMES)
    assert next(iter(CATALOGUE)) == "river_valley"
    assert {name for name in NAMES if name not in SYMMETRIC} == set(WITHOUT_SYMMETRY)


@pytest.mark.parametrize("name", NAMES)
def test_defaults_build_quickly(name):
    start = time.process_time()
    loss = build_loss({"name": name})
    assert time.process_time() - start < 3.0  # under one on an idle core
    assert loss.name == name
    assert loss.description
    assert all(reference.startswith("arXiv:") for reference in loss.references)
    constants = dict.fromkeys(loss.constants, 0.75)
    assert CATALOGUE[name](constants=constants).constants == constants if constants else name == "softmax"


@pytest.mark.parametrize("name", NAMES)
def test_loss_and_gradient_against_the_formula_by_hand(name):
    loss = default(name)
    random = Random(5)
    step = 1e-5
    for _ in range(10):
        values = point(loss, random)
        assert number(loss.expression, values) == pytest.approx(by_hand(name, values), rel=1e-12, abs=1e-12)
        for parameter, slope in zip(loss.parameters, loss.gradient, strict=True):
            up, down = ({**values, parameter: values[parameter] + s} for s in (step, -step))
            difference = (by_hand(name, up) - by_hand(name, down)) / (2 * step)
            assert number(slope, values) == pytest.approx(difference, rel=1e-6, abs=1e-6)


@pytest.mark.parametrize("name", [name for name in NAMES if name not in NO_CLOSED_FORM])
def test_population_is_the_mean_of_samples(name):
    loss = default(name)
    random = Random(11)
    values = point(loss, random)
    fixed = {key: value for key, value in values.items() if key not in loss.noise}
    assert not set(loss.noise) & {symbol.name for symbol in loss.population.free_symbols}
    draws = [{key: noise.draw(random) for key, noise in loss.noise.items()} for _ in range(800)]
    samples = np.array([by_hand(name, {**fixed, **draw}) for draw in draws])
    error = samples.std() / np.sqrt(len(samples))
    assert abs(samples.mean() - number(loss.population, fixed)) < 4 * error + 1e-12


@pytest.mark.parametrize("name", NO_CLOSED_FORM)
def test_populations_without_a_closed_form_say_so(name):
    with pytest.raises(InputError, match=r"the expectation of .* over x.* has no closed form"):
        _ = default(name).population


def test_population_of_two_neurons_has_a_closed_form_at_a_constant_input():
    assert CATALOGUE["permutation"]().population.has(sympy.Symbol("mu", real=True))
    with pytest.raises(InputError, match="no closed form"):
        _ = CATALOGUE["permutation"](inputs="normal").population


@pytest.mark.parametrize("name", SYMMETRIC)
def test_a_wrong_symmetry_is_refused(name):
    loss = default(name)
    for symmetry in {symmetry.is_continuous: symmetry for symmetry in loss.symmetries}.values():
        with pytest.raises(InputError, match=r"the loss of a sample changes by .*, expected 0") as error:
            replace(loss, symmetries=(mistaken(symmetry, loss),))
        assert any(parameter in str(error.value) for parameter in loss.parameters)


@pytest.mark.parametrize("name", WITHOUT_SYMMETRY)
def test_no_sample_is_even_where_noise_adds_to_the_gradient(name):
    loss = default(name)
    with pytest.raises(InputError, match="changes by"):
        replace(loss, symmetries=(Symmetry("sign", image={p: f"-{p}" for p in loss.parameters}),))


@pytest.mark.parametrize(
    ("name", "arguments", "charges"),
    [
        ("rescaling", {}, {"rescale": "(u**2 - w**2)/2"}),
        ("rescaling_vector", {}, {"rescale": "(u**2 - norm2(w))/2"}),
        ("rescaling_neurons", {}, {"rescale": "(u[0]**2 - w[0]**2)/2", "rescale_2": "(u[1]**2 - w[1]**2)/2"}),
        ("diagonal_network", {}, {"rescale": "(u[0]**2 - w[0]**2)/2", "rescale_2": "(u[1]**2 - w[1]**2)/2"}),
        ("relu_network", {}, {"rescale": "(w**2 + b**2 - a**2)/2"}),
        ("rayleigh", {}, {"scale": "norm2(theta)/2"}),
        ("sphere", {"dimension": 2}, {"scale": "norm2(theta)/2"}),
        ("softmax", {}, {"translation": "sum(z)"}),
        ("softmax", {"probabilities": [0.1, 0.2, 0.3, 0.15, 0.25]}, {"translation": "sum(z)"}),
        ("rotation", {}, {}),
        ("sign", {}, {}),
        ("permutation", {}, {}),
    ],
)
def test_charges(name, arguments, charges):
    loss = CATALOGUE[name](**arguments)
    assert loss.charges.keys() == charges.keys()
    for key, text in charges.items():
        assert sympy.expand(loss.charges[key] - loss.expand(text)) == 0


def slopes(loss: Loss, values: dict[str, float]) -> np.ndarray:
    return np.array([number(slope, values) for slope in loss.gradient])


@pytest.mark.parametrize("name", SYMMETRIC)
def test_continuous_symmetries_to_machine_precision(name):
    """EQV-1, ``g.v = 0``, and EQV-2, ``H v + J^T g = 0``, of the loss of one sample."""
    loss = default(name)
    random = Random(2)
    for symmetry in (symmetry for symmetry in loss.symmetries if symmetry.is_continuous):
        directions = loss.directions(symmetry)
        generator = sympy.Matrix([directions.get(parameter, sympy.Integer(0)) for parameter in loss.parameters])
        jacobian = generator.jacobian(sympy.Matrix(loss.theta))
        for _ in range(3):
            values = point(loss, random)
            v = np.array([number(entry, values) for entry in generator])
            j = np.array([[float(entry) for entry in row] for row in jacobian.tolist()])
            g = slopes(loss, values)
            hessian = np.array([[number(slope.diff(t), values) for t in loss.theta] for slope in loss.gradient])
            assert abs(g @ v) <= 1e-12 * np.linalg.norm(g) * np.linalg.norm(v)
            scale = np.linalg.norm(hessian) * np.linalg.norm(v) + np.linalg.norm(g)
            assert np.linalg.norm(hessian @ v + j.T @ g) <= 1e-12 * scale


@pytest.mark.parametrize("name", SYMMETRIC)
def test_discrete_symmetries_carry_gradients_over(name):
    """EQV-6, ``g(theta) = R^T g(R theta)``, of one sample."""
    loss = default(name)
    values = point(loss, Random(4))
    for symmetry in (symmetry for symmetry in loss.symmetries if not symmetry.is_continuous):
        images = loss.directions(symmetry)
        moved = sympy.Matrix([images.get(parameter, loss.symbols[parameter]) for parameter in loss.parameters])
        matrix = np.array(moved.jacobian(sympy.Matrix(loss.theta)).tolist(), dtype=float)
        there = {p: number(entry, values) for p, entry in zip(loss.parameters, moved, strict=True)}
        np.testing.assert_allclose(
            slopes(loss, values), matrix.T @ slopes(loss, {**values, **there}), rtol=1e-12, atol=1e-12
        )


def test_quadratic_of_a_matrix():
    loss = CATALOGUE["quadratic"]([[1.0, 0.3], [0.3, 2.0]], covariance=[[1.0, 0.5], [0.5, 0.6]], linear=[0.5, -1.0])
    assert {"h_0_0", "h_0_1", "h_1_1", "b_0", "b_1", "sigma"} == set(loss.constants)
    constants = {loss.symbols[name]: value for name, value in loss.constants.items()}
    assert np.array(loss.hessian.subs(constants).tolist(), dtype=float).tolist() == [[1.0, 0.3], [0.3, 2.0]]
    noise = [slope - loss.population.diff(theta) for slope, theta in zip(loss.gradient, loss.theta, strict=True)]
    covariance = [[loss.expectation(a * b).subs(constants) for b in noise] for a in noise]
    np.testing.assert_allclose(np.array(covariance, dtype=float), [[1.0, 0.5], [0.5, 0.6]], rtol=1e-14)
    origin = constants | dict.fromkeys(loss.theta, 0)
    assert [float(loss.population.diff(theta).subs(origin)) for theta in loss.theta] == [0.5, -1.0]


def test_quadratic_of_curvatures():
    loss = CATALOGUE["quadratic"]([1, 0.0, -2], noise=["normal", "rademacher", "normal:0,3"], constants={"h_1": 0.5})
    assert loss.constants == {"sigma": 1.0, "h_0": 1.0, "h_1": 0.5, "h_2": -2.0}
    assert loss.hessian.is_diagonal()
    assert loss.noise["xi[2]"] == Noise("normal", (0.0, 3.0))
    sparse = CATALOGUE["quadratic"]([[1.0, 0.0], [0.0, 0.0]])
    assert set(sparse.constants) == {"sigma", "h_0_0", "h_1_1"}


@pytest.mark.parametrize("p", [1.0, 1.5, 2, 3.0, 6])
def test_anharmonic_powers(p):
    loss = CATALOGUE["anharmonic"](p=p, constants={"c": 0.3})
    for x in (-1.7, -0.2, 0.6):
        values = {"x": x, "xi": 0.4, **loss.constants}
        assert number(loss.expression, values) == pytest.approx(0.3 * abs(x) ** p / p + 0.4 * x, rel=1e-13)
        assert number(loss.gradient[0], values) == pytest.approx(0.3 * np.sign(x) * abs(x) ** (p - 1) + 0.4, rel=1e-13)
    assert loss.expression.is_polynomial(loss.theta[0]) == (p % 2 == 0)


def test_correlated_inputs():
    for name in ("linear_regression", "rescaling_vector", "diagonal_network", "logistic"):
        loss = CATALOGUE[name]([1.0, 0.5], covariance=[[1.0, 0.6], [0.6, 4.0]])
        x = loss.namespace["x"]
        moments = [[loss.expectation(sympy.expand(a * b)) for b in x] for a in x]
        np.testing.assert_allclose(np.array(moments, dtype=float), [[1.0, 0.6], [0.6, 4.0]], rtol=1e-14)
    mixed = CATALOGUE["linear_regression"]([1.0, 0.5], ["normal:0,2", "rademacher"])
    assert [mixed.noise[f"x[{i}]"].family for i in range(2)] == ["normal", "rademacher"]
    assert random_vector("x", 1, "normal", [4.0])[1] == {"x": ("2.0*x_0[0]",)}


def test_softmax_of_many_labels():
    probabilities = [0.2, 0.1, 0.25, 0.05, 0.3, 0.1]
    loss = CATALOGUE["softmax"](probabilities)
    hits = loss.namespace["hit"]
    assert [loss.expectation(sympy.expand(hit)) for hit in hits] == [sympy.Rational(repr(p)) for p in probabilities]
    label = loss.symbols["label"]
    assert [[hit.subs(label, k) for hit in hits] for k in range(6)] == np.eye(6, dtype=int).tolist()
    z = dict(zip(loss.parameters, [900.0, -900.0, 0.0, 1.0, 899.0, 2.0], strict=True))
    assert number(loss.expression, {**z, "label": 1.0}) == pytest.approx(1800 + np.log1p(np.exp(-1)), rel=1e-14)
    assert number(loss.gradient[0], {**z, "label": 1.0}) == pytest.approx(1 / (1 + np.exp(-1)), rel=1e-12)


def test_sizes():
    assert CATALOGUE["rescaling_neurons"](neurons=1).parameters == ("u[0]", "w[0]")
    assert len(CATALOGUE["rescaling_neurons"](neurons=4).symmetries) == 4 + 3
    assert len(CATALOGUE["diagonal_network"](teacher=[1.0, 0.5, 0.0]).charges) == 3
    assert len(CATALOGUE["rotation"](dimension=4).symmetries) == 3 + 1
    assert CATALOGUE["sphere"](dimension=2).parameters == ("theta[0]", "theta[1]")
    assert CATALOGUE["logistic"]([0.5]).parameters == ("w[0]",)


def test_distributions():
    assert CATALOGUE["rescaling"](inputs="rademacher", noise="laplace:0,0.5").noise == {
        "x": Noise("rademacher"),
        "e": Noise("laplace", (0.0, 0.5)),
    }
    assert CATALOGUE["sign"](noise="normal").noise["xi"].family == "normal"
    assert CATALOGUE["permutation"](inputs="rademacher").constants == {"mu": 1.0, "sigma": 1.0}


@pytest.mark.parametrize(
    ("name", "arguments", "message"),
    [
        ("quadratic", {"hessian": []}, "loss.hessian: an empty list, expected a matrix or its diagonal"),
        ("quadratic", {"hessian": [[1.0, 2.0]]}, "loss.hessian: 1 rows of 2 numbers, expected a square matrix"),
        ("quadratic", {"hessian": [[1.0, 2.0], [3.0, 1.0]]}, "loss.hessian: the matrix is not symmetric"),
        ("quadratic", {"hessian": [1.0, 2.0], "linear": [1.0]}, "loss.linear: 1 numbers, expected 2"),
        ("quadratic", {"hessian": [1.0, 2.0], "covariance": [1.0]}, "loss.covariance: a covariance of shape (1, 1)"),
        ("quadratic", {"hessian": [1.0, 2.0], "covariance": [[1.0, 2.0], [2.0, 1.0]]}, "loss.covariance: the cov"),
        ("quadratic", {"hessian": [1.0, 2.0], "covariance": [[1.0], [2.0, 1.0]]}, "loss.covariance: 2 rows of 1, 2"),
        ("quadratic", {"covariance": [-1.0]}, "loss.covariance: the covariance has the eigenvalue -1, expected none"),
        ("quadratic", {"covariance": [1.0], "noise": "laplace"}, "loss.noise: 'laplace', expected 'normal' where"),
        ("quadratic", {"hessian": [1.0, 2.0], "noise": ["normal"]}, "loss.noise: 1 distributions, expected 2"),
        ("quadratic", {"hessian": [float("inf")]}, "loss.hessian[0]: inf, expected a finite number"),
        ("anharmonic", {"p": 0.5}, "loss.p: 0.5, expected a power from 1 to 64"),
        ("anharmonic", {"p": float("nan")}, "loss.p: nan, expected a finite number"),
        ("anharmonic", {"noise": "gauss"}, "loss.noise: unknown distribution 'gauss'"),
        ("double_well", {"noise": "normal:0,-1"}, "loss.noise: 'normal:0,-1' needs std >= 0"),
        ("double_well", {"constants": {"x": 1.0}}, "'x' is both a parameter and a constant"),
        ("linear_regression", {"teacher": []}, "loss.teacher: an empty list, expected at least one number"),
        ("linear_regression", {"inputs": "normal:0,-2"}, "loss.inputs: 'normal:0,-2' needs std >= 0"),
        ("linear_regression", {"inputs": ["normal"] * 3}, "loss.inputs: 3 distributions, expected 2, one a coordinate"),
        ("linear_regression", {"inputs": "laplace", "covariance": [1.0, 1.0]}, "loss.inputs: 'laplace', expected"),
        ("rescaling", {"inputs": "norml"}, "loss.inputs: unknown distribution 'norml': did you mean 'normal'?"),
        ("rescaling_vector", {"teacher": []}, "loss.teacher: an empty list"),
        ("rescaling_neurons", {"neurons": 0}, "loss.neurons: 0, expected at least 1"),
        ("diagonal_network", {"covariance": [[1.0]]}, "loss.covariance: a covariance of shape (1, 1), expected 2 rows"),
        ("rotation", {"dimension": 1}, "loss.dimension: 1, expected at least 2"),
        ("rayleigh", {"curvatures": [1.0]}, "loss.curvatures: 1 numbers, expected at least 2"),
        ("rayleigh", {"noise": ["normal"] * 3}, "loss.noise: 3 distributions, expected 2"),
        ("sphere", {"dimension": 1}, "loss.dimension: 1, expected at least 2"),
        ("softmax", {"probabilities": [1.0]}, "loss.probabilities: 1 numbers, expected 2 to 16"),
        ("softmax", {"probabilities": [0.5, 0.6]}, "loss.probabilities: [0.5, 0.6], expected none below 0, and 1 in"),
        ("softmax", {"probabilities": [1.5, -0.5]}, "loss.probabilities: [1.5, -0.5], expected none below 0"),
        ("sign", {"noise": "bernoulli"}, "loss.noise: 'bernoulli' lacks an argument"),
        ("permutation", {"inputs": "normal", "constants": {"x": 1.0}}, "'x' is both a constant and a noise variable"),
        ("relu_network", {"noise": "normal:0,-1"}, "loss.noise: 'normal:0,-1' needs std >= 0"),
        ("logistic", {"teacher": [1.0], "inputs": ["normal"] * 2}, "loss.inputs: 2 distributions, expected 1"),
    ],
)
def test_what_is_no_loss_is_refused(name, arguments, message):
    with pytest.raises(InputError) as error:
        CATALOGUE[name](**arguments)
    assert message in str(error.value)


def test_arguments_from_a_scenario():
    section = {"name": "quadratic", "hessian": [[1, 0.5], [0.5, 2]], "covariance": [1, 2], "constants": {"sigma": 3}}
    loss = build_loss(section)
    assert loss.constants["h_0_1"] == 0.5
    assert loss.constants["sigma"] == 3
    assert build_loss({"name": "rescaling_neurons", "neurons": 3}).parameters[-1] == "w[2]"
    with pytest.raises(InputError, match=r"loss\.neurons: 2\.5"):
        build_loss({"name": "rescaling_neurons", "neurons": 2.5})
    with pytest.raises(InputError, match=r"loss\.hessian"):
        build_loss({"name": "quadratic", "hessian": "h"})


def states(loss: Loss, initial: dict[str, float], rate: float) -> np.ndarray:
    """All states of three trajectories, (step, trajectory, parameter)."""
    steps = 20
    ensemble = simulate(
        loss,
        learning_rate=rate,
        initial=initial,
        trajectories=3,
        steps=steps,
        seed=7,
        snapshots=range(steps + 1),
        device="python",
    )
    return ensemble["theta"]


def test_steps_conserve_what_the_charge_says():
    """The sum of the logits; u = w stays and |u^2 - w^2| never grows."""
    logits = states(CATALOGUE["softmax"](), {"z[0]": 0.5, "z[1]": -1.0, "z[2]": 2.0}, 0.5)
    np.testing.assert_allclose(logits.sum(axis=-1), 1.5, atol=1e-13)
    assert np.ptp(logits[-1, :, 0]) > 0.01
    balanced = states(CATALOGUE["rescaling"](), {"u": 0.7, "w": 0.7}, 0.1)
    np.testing.assert_array_equal(balanced[..., 0], balanced[..., 1])
    u, w = np.moveaxis(states(CATALOGUE["rescaling"](), {"u": 1.2, "w": 0.3}, 0.05), -1, 0)
    assert (np.diff(np.abs(u**2 - w**2), axis=0) <= 0).all()
