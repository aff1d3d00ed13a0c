"""Expectations over noise and data: against sums and quadrature written out here."""

from __future__ import annotations

import mpmath
import numpy as np
import pytest

from sgdsim.base.errors import InputError
from sgdsim.model.data import Data
from sgdsim.model.loss import Loss
from sgdsim.model.noise import Noise
from sgdsim.theory.quadrature.expectation import Expected

X = np.array([-1.2, 0.35])


def _density(name: str, z: mpmath.mpf) -> mpmath.mpf:
    """Standard densities, from the definitions."""
    if name == "normal":
        return mpmath.exp(-(z**2) / 2) / mpmath.sqrt(2 * mpmath.pi)
    if name == "laplace":
        return mpmath.exp(-abs(z)) / 2
    if name == "exponential":
        return mpmath.exp(-(z + 1)) if z >= -1 else mpmath.mpf(0)
    return mpmath.mpf(1) / 3  # uniform:-1,2


ENDS = {"normal": (-12, 12), "laplace": (-60, 60), "exponential": (-1, 60), "uniform:-1,2": (-1, 2)}


def quadrature(function: object, name: str, *breaks: float) -> float:
    low, high = ENDS[name]
    points = sorted({low, high, *(x for x in (-6, -3, -1, 0, 1, 3, 6, *breaks) if low < x < high)})
    return float(mpmath.quad(lambda z: function(z) * _density(name, z), points))  # type: ignore[operator]


@pytest.mark.parametrize("name", ENDS)
def test_polynomials_are_exact_in_symbols(name: str) -> None:
    loss = Loss("(a*x - z)**4/4 + z**3*x", ("x",), {"a": 1.5}, {"z": Noise.parse(name)})
    found = Expected(loss, [loss.expression, loss.gradient[0] ** 2])
    assert not found.is_numerical
    values = found.at({"x": X})
    assert values.value.shape == (2, len(X))
    assert (values.error == 0).all()
    for i, x in enumerate(X):
        value = quadrature(lambda z, x=x: (1.5 * x - z) ** 4 / 4 + z**3 * x, name)
        square = quadrature(lambda z, x=x: (1.5 * (1.5 * x - z) ** 3 + z**3) ** 2, name)
        np.testing.assert_allclose(values.value[:, i], [value, square], rtol=1e-9)
        assert abs(square - (1.5 * (1.5 * x - quadrature(lambda z: z, name)) ** 3) ** 2) > 1e-3  # E g^2 is not g(E z)^2


@pytest.mark.parametrize("name", ENDS)
def test_smooth_functions_are_integrated(name: str) -> None:
    loss = Loss("softplus(x*z) + tanh(x - z)**2", ("x",), {}, {"z": Noise.parse(name)})
    found = Expected(loss, [loss.expression])
    assert found.is_numerical
    values = found.at({"x": X})
    expected = [quadrature(lambda z, x=x: mpmath.log(1 + mpmath.exp(x * z)) + mpmath.tanh(x - z) ** 2, name) for x in X]
    assert (np.abs(values.value[0] - expected) <= 1e-8 + 3 * values.error[0]).all()


@pytest.mark.parametrize("name", ENDS)
def test_kinks_are_integrated_to_ten_digits(name: str) -> None:
    loss = Loss("abs(x - z) + relu(2*z - x)", ("x",), {}, {"z": Noise.parse(name)})
    values = Expected(loss, [loss.expression, loss.gradient[0]]).at({"x": X})
    for i, x in enumerate(X):
        value = quadrature(lambda z, x=x: abs(x - z) + max(2 * z - x, 0), name, x, x / 2)
        slope = quadrature(lambda z, x=x: mpmath.sign(x - z) - (1 if 2 * z > x else 0), name, x, x / 2)
        np.testing.assert_allclose(values.value[:, i], [value, slope], rtol=1e-10, atol=1e-10)


def test_data_and_discrete_noise_are_summed() -> None:
    data, noise = Data({"d": (0.3, -1.0, 2.5)}), {"r": Noise.parse("table:-2@0.25,1@0.75")}
    loss = Loss("abs(x - d*r)", ("x",), {}, noise, data=data)
    found = Expected(loss, [loss.expression, loss.gradient[0] ** 2 * loss.symbols["d"]])
    assert not found.is_numerical
    pairs = [(d, r, p / 3) for d in (0.3, -1.0, 2.5) for r, p in ((-2.0, 0.25), (1.0, 0.75))]
    expected = [sum(p * abs(0.4 - d * r) for d, r, p in pairs), sum(p * d for d, _, p in pairs)]
    np.testing.assert_allclose(found.at({"x": 0.4}).value, expected, rtol=1e-14)


def test_several_variables_at_once() -> None:
    noise = {"y": Noise.parse("normal:0.5,2"), "z": Noise.parse("exponential:0.7")}
    loss = Loss("exp(0.3*y)*z**2*x + y*z", ("x",), {}, noise)
    # E exp(0.3 y) = exp(0.15 + 0.18), E z^2 = 0.49, E y E z = 0.
    assert Expected(loss, [loss.expression]).at({"x": 1.3}).value[0] == pytest.approx(
        1.3 * np.exp(0.33) * 0.49, rel=1e-9
    )


def test_what_does_not_exist_is_refused() -> None:
    loss = Loss("x*z**2", ("x",), {}, {"z": Noise.parse("student_t:2")})
    with pytest.raises(InputError, match="does not exist"):
        Expected(loss, [loss.expression]).at({"x": 1.0})


def test_what_is_long_stays_numerical_and_agrees() -> None:
    terms = " + ".join(f"(z + x)**{k}*sin({k}*x)*cos({k}*x + 1)" for k in range(2, 30))
    loss = Loss(terms, ("x",), {}, {"z": Noise.parse("normal:0,0.5")})
    found = Expected(loss, [loss.gradient[0] ** 2])
    assert found.is_numerical

    def square(z: float) -> float:
        with mpmath.workdps(30):
            slope = mpmath.diff(
                lambda x: sum((z + x) ** k * mpmath.sin(k * x) * mpmath.cos(k * x + 1) for k in range(2, 30)), 0.2
            )
        return float(slope) ** 2

    nodes, weights = np.polynomial.hermite_e.hermegauss(60)
    expected = sum(w * square(0.5 * z) for z, w in zip(nodes, weights, strict=True)) / weights.sum()
    assert found.at({"x": 0.2}).value[0] == pytest.approx(expected, rel=1e-8)
