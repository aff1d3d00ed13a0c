"""Identities of symmetries: on the whole catalogue, against derivatives by complex steps, and where they must fail."""

from __future__ import annotations

from collections.abc import Callable
from random import Random

import numpy as np
import pytest
import sympy

from sgdsim.formulas.evaluation import evaluate
from sgdsim.model.loss import Loss
from sgdsim.model.losses import CATALOGUE
from sgdsim.model.noise import Noise
from sgdsim.model.symmetry import Symmetry
from sgdsim.theory.methods import symmetry_identities
from sgdsim.theory.methods.linear_response import minimum
from sgdsim.theory.methods.symmetry_identities import TOLERANCE, _relative, _samples, checks

SYMMETRIC = [name for name, family in CATALOGUE.items() if family().symmetries]


@pytest.mark.parametrize("name", SYMMETRIC)
def test_every_identity_holds_to_rounding(name: str) -> None:
    loss = CATALOGUE[name]()
    found = checks(loss)
    assert {check.symmetry for check in found} == {symmetry.name for symmetry in loss.symmetries}
    for check in found:
        assert check.residual <= TOLERANCE, check
        assert check.holds
    for symmetry in loss.symmetries:
        of_this = {check.id for check in found if check.symmetry == symmetry.name}
        assert of_this >= ({"EQV-1", "EQV-2", "EQV-3"} if symmetry.is_continuous else {"EQV-6"})


def _broken(loss: Loss, formula: str) -> Loss:
    """The loss with other samples under its declared symmetries, which the constructor would refuse."""
    other = Loss(formula, loss.parameters, loss.constants, loss.noise, loss.definitions, data=loss.data)
    object.__setattr__(other, "symmetries", loss.symmetries)
    return other


@pytest.mark.parametrize("name", SYMMETRIC)
def test_a_loss_without_its_symmetry_fails_every_identity(name: str) -> None:
    loss = CATALOGUE[name]()
    tilt = " + ".join(f"{0.3 + 0.2 * i}*({p} + {p}**3/3)" for i, p in enumerate(loss.parameters))
    for check in checks(_broken(loss, f"{loss.formula} + {tilt}")):
        assert check.residual > 1e-3, check
        assert not check.holds


@pytest.mark.parametrize("size", [1e-6, 1e-9])
def test_a_small_breaking_is_seen(size: float) -> None:
    loss = CATALOGUE["rescaling"]()
    worst = {check.id: check.residual for check in checks(_broken(loss, f"{loss.formula} + {size}*u**3"))}
    assert all(residual > 1e-3 * size for residual in worst.values())
    assert not any(check.holds for check in checks(_broken(loss, f"{loss.formula} + {size}*u**3")))


def _complex_gradient(function: Callable[[np.ndarray], complex], theta: np.ndarray) -> np.ndarray:
    """To rounding, by complex steps; nothing is differentiated by hand."""
    return np.array([np.imag(function(theta + 1e-30j * unit)) / 1e-30 for unit in np.eye(len(theta))])


def test_against_complex_steps() -> None:
    """EQV-1 to EQV-3 of the Rayleigh quotient, whose residuals in the handbook are some 1e-15."""
    random = np.random.default_rng(4)
    matrix = random.normal(size=(2, 2))
    matrix += matrix.T
    loss = Loss(
        "(a*u**2 + 2*b*u*w + c*w**2)/(u**2 + w**2)", ("u", "w"),
        {"a": matrix[0, 0], "b": matrix[0, 1], "c": matrix[1, 1]},
        symmetries=(Symmetry.parse("scale:u,w"),),
    )  # fmt: skip
    theta = random.normal(size=2)
    by_steps = _complex_gradient(lambda t: (t @ matrix @ t) / (t @ t), theta)
    values = {"u": theta[0], "w": theta[1], **loss.constants}
    found = np.array(evaluate(loss.gradient, values), dtype=float)
    np.testing.assert_allclose(found, by_steps, rtol=1e-13)
    hessian = np.array(evaluate([g.diff(s) for g in loss.gradient for s in loss.theta], values), dtype=float).reshape(
        2, 2
    )
    np.testing.assert_allclose(hessian @ theta, -found, rtol=1e-12)  # H theta = -grad L
    assert theta @ hessian @ theta == pytest.approx(0.0, abs=1e-13)
    assert [check.holds for check in checks(loss)] == [True] * 5


def test_a_generator_that_is_not_linear() -> None:
    """The handbook's (1, 2x): y - x^2 is conserved; there is no transport by a matrix, EQV-4, and no charge, EQV-7."""
    loss = Loss(
        "(y - x**2 - z)**2", ("x", "y"), {}, {"z": Noise.parse("normal")},
        symmetries=(Symmetry("bend", {"x": "1", "y": "2*x"}),),
    )  # fmt: skip
    found = checks(loss)
    assert [check.id for check in found] == ["EQV-1", "EQV-2", "EQV-3"]
    assert all(check.residual < 1e-14 for check in found)


def test_a_map_that_is_not_linear() -> None:
    """EQV-6 for any differentiable map: x -> 1/x keeps log(x)^2; its Hessian has no plain transport."""
    noise = {"z": Noise.parse("normal")}
    loss = Loss("z**2*log(x**2)**2", ("x",), {}, noise, symmetries=(Symmetry("invert", image={"x": "1/x"}),))
    assert [check.id for check in checks(loss)] == ["EQV-6"]
    assert all(check.holds for check in checks(loss))
    assert not any(check.holds for check in checks(_broken(loss, "z**2*log(x**2)**2 + x")))


def test_the_trace_of_the_hessian_along_an_orbit() -> None:
    """EQV-4: d Tr H/dc = -2 Tr(H K), d |g|^2/dc = -2 g^T K g, by differences along the orbit."""
    loss = CATALOGUE["rescaling_vector"]()
    names = loss.parameters
    theta, k = np.array([0.8, -1.1, 0.6]), np.diag([1.0, -1.0, -1.0])
    draw = Random(1)
    sample = dict(loss.constants) | {name: noise.draw(draw) for name, noise in loss.noise.items()}

    def at(c: float) -> tuple[np.ndarray, np.ndarray]:
        values = sample | dict(zip(names, np.exp(c * np.diag(k)) * theta, strict=True))
        numbers = evaluate([*loss.gradient, *(g.diff(s) for g in loss.gradient for s in loss.theta)], values)
        return np.array(numbers[:3], dtype=float), np.array(numbers[3:], dtype=float).reshape(3, 3)

    g, h = at(0.0)
    (ahead_g, ahead_h), (behind_g, behind_h) = at(1e-5), at(-1e-5)
    assert (np.trace(ahead_h) - np.trace(behind_h)) / 2e-5 == pytest.approx(-2 * np.trace(h @ k), rel=1e-8)
    assert (ahead_g @ ahead_g - behind_g @ behind_g) / 2e-5 == pytest.approx(-2 * g @ k @ g, rel=1e-8)


def euler(loss: Loss, model: sympy.Expr, target: sympy.Expr, degree: float) -> float:
    """Residual of EQV-5, Euler's identity: ``grad l . theta = p (f - y) f`` of ``l = (f - y)^2/2``, f homogeneous."""
    worst = 0.0
    for values in _samples(loss, np.random.default_rng(0)):
        f, y, *g = (float(number) for number in evaluate([model, target, *loss.gradient], values))
        theta = np.array([values[name] for name in loss.parameters])
        worst = max(worst, _relative([np.array(g) * theta, np.array([-degree * (f - y) * f])], total=True))
    return worst


@pytest.mark.parametrize(
    ("model", "parameters", "degree"),
    [
        ("u*w*x", ("u", "w"), 2),
        ("a*relu(w*x + b)", ("a", "w", "b"), 2),
        ("c*relu(a*relu(w*x))", ("c", "a", "w"), 3),
        ("(u**2 - w**2)*x", ("u", "w"), 2),
        ("sqrt(u**2 + w**2)*x", ("u", "w"), 1),
    ],
)
def test_euler_s_identity_of_homogeneous_models(model: str, parameters: tuple[str, ...], degree: int) -> None:
    noise = {"x": Noise.parse("normal:0.5,1"), "y": Noise.parse("normal")}
    loss = Loss(f"({model} - y)**2/2", parameters, {}, noise)
    assert euler(loss, loss.expand(model), loss.expand("y"), degree) < 1e-13
    assert euler(loss, loss.expand(model), loss.expand("y"), degree + 1) > 1e-3
    biased = Loss(f"({model} + 0.3*{parameters[0]} + 0.1 - y)**2/2", parameters, {}, noise)
    assert euler(biased, biased.expand(f"{model} + 0.3*{parameters[0]} + 0.1"), biased.expand("y"), degree) > 1e-3


def _linear_net(target: np.ndarray) -> Loss:
    names = (*(f"u[{k}]" for k in range(4)), *(f"w[{k}]" for k in range(4)))
    terms = [
        f"(u[{2 * i}]*w[{j}] + u[{2 * i + 1}]*w[{2 + j}] - ({target[i, j]!r}))**2/2" for i in range(2) for j in range(2)
    ]
    return Loss(" + ".join(terms), names)


def zero_modes(hessian: np.ndarray) -> int:
    """Number of directions without curvature: parameters - d_out*d_in for a linear net at a minimum."""
    values = np.abs(np.linalg.eigvalsh(hessian))
    return int(np.sum(values <= 1e-8 * values.max()))


@pytest.mark.parametrize(("rank", "modes"), [(2, 4), (1, 4)])
def test_zero_modes_of_a_linear_net(rank: int, modes: int) -> None:
    """EQV-8: 8 parameters - 2*2 entries of the map; still so at rank 1, where the layers keep full rank."""
    target = np.array([[1.2, 0.3], [-0.2, 0.8]]) if rank == 2 else np.outer([1.0, 0.5], [0.7, -1.0])
    loss = _linear_net(target.astype(object))
    theta = minimum(loss, np.random.default_rng(0).normal(size=8))
    values = dict(zip(loss.parameters, theta, strict=True))
    hessian = np.array(evaluate(list(loss.hessian), values), dtype=float).reshape(8, 8)
    np.testing.assert_allclose(theta[:4].reshape(2, 2) @ theta[4:].reshape(2, 2), target.astype(float), atol=1e-9)
    assert zero_modes(hessian) == modes
    away = {name: value + 0.3 for name, value in values.items()}
    off = np.array(evaluate(list(loss.hessian), away), dtype=float).reshape(8, 8)
    assert zero_modes(off) < modes  # not at a minimum


def test_points_are_the_same_for_a_seed() -> None:
    loss = CATALOGUE["relu_network"]()
    assert checks(loss, 3) == checks(loss, 3)
    assert len(symmetry_identities._samples(loss, np.random.default_rng(3))) == 8
