"""Distributions: their exact moments against quadrature, and what the kernels draw against their exact moments."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator
from fractions import Fraction
from random import Random
from typing import Any

import mpmath
import numpy as np
import pytest
import sympy

from sgdsim.errors import InputError
from sgdsim.noise import FAMILIES, Noise
from sgdsim.simulation import Simulator
from tests.test_random_numbers import DRAWN, families_run, rejected, two_sided

Density = Callable[..., tuple[Callable[[Any], Any], list[Any]]]

# Densities by hand, with the points between which they are smooth; for atoms, their places and weights.
DENSITIES: dict[str, Density] = {
    "normal": lambda mean, std: (
        lambda x: mpmath.npdf(x, mean, std),
        [mean + place * std for place in (-20, -4, 4, 20)],
    ),
    "uniform": lambda low, high: (lambda x: 1 / (high - low), [low, high]),
    "laplace": lambda mean, scale: (
        lambda x: mpmath.exp(-abs(x - mean) / scale) / (2 * scale),
        [mean + place * scale for place in (-200, -20, 0, 20, 200)],
    ),
}
ATOMS: dict[str, list[tuple[int, float]]] = {"rademacher": [(-1, 0.5), (1, 0.5)]}

EXAMPLES = [
    "normal:-0.3,0.7",
    "normal:1000.1,0.3",
    "uniform:-1,1",
    "uniform:0.1,0.3",
    "uniform:-1,1.0001",
    "uniform:1000,1000.5",
    "laplace:0.2,1.5",
    "laplace:-1e4,0.1",
    "rademacher",
]
HIGHEST = 6


@pytest.fixture(autouse=True)
def _precision() -> Iterator[None]:
    with mpmath.workdps(50):
        yield


def quadrature(noise: Noise, order: int) -> Any:
    """``E X^order``; the arguments are the decimals that the user wrote."""
    if noise.family in ATOMS:
        return mpmath.fsum(weight * mpmath.mpf(place) ** order for place, weight in ATOMS[noise.family])
    density, points = DENSITIES[noise.family](*(mpmath.mpf(repr(value)) for value in noise.arguments))
    return mpmath.quad(lambda x: x**order * density(x), points)


def cumulants_of(moments: list[Any]) -> list[Any]:
    """From the power series of the logarithm of the moment generating function: log(1 + s) = s - s^2/2 + …."""
    n = len(moments)
    s = [0] + [moments[k] / mpmath.factorial(k) for k in range(1, n)]
    power, total = [mpmath.mpf(1)] + [mpmath.mpf(0)] * (n - 1), [mpmath.mpf(0)] * n
    for j in range(1, n):
        power = [mpmath.fsum(power[i] * s[k - i] for i in range(k + 1)) for k in range(n)]
        total = [t - (-1) ** j * p / j for t, p in zip(total, power, strict=True)]
    return [t * mpmath.factorial(k) for k, t in enumerate(total)]


def test_every_family_is_covered():
    assert {*DENSITIES, *ATOMS} == set(FAMILIES) == {Noise.parse(text).family for text in EXAMPLES}


@pytest.mark.parametrize("text", EXAMPLES)
def test_moments_and_cumulants_against_quadrature(text):
    """To the last bits, where the mean is thousands of standard deviations too."""
    noise = Noise.parse(text)
    moments = [quadrature(noise, order) for order in range(HIGHEST + 1)]
    scale = mpmath.sqrt(moments[2])
    for order in range(HIGHEST + 1):
        assert noise.moment(order) == pytest.approx(float(moments[order]), rel=1e-15, abs=float(1e-30 * scale**order))
        exact = noise.exact_moment(order)
        assert abs(mpmath.mpf(exact.p) / exact.q - moments[order]) < 1e-30 * scale**order
    spread = mpmath.sqrt(moments[2] - moments[1] ** 2)
    for order, cumulant in enumerate(cumulants_of(moments)):
        if order:
            expected = 0.0 if abs(cumulant) < 1e-20 * spread**order else float(cumulant)
            assert noise.cumulant(order) == pytest.approx(expected, rel=1e-15)


def test_cumulants_by_hand():
    """Laplace: 2 (k - 1)! b^k for even k. Uniform: B_k (high - low)^k / k. Normal: none beyond the second."""
    assert [Noise.parse("laplace:5,0.5").cumulant(k) for k in range(1, 7)] == [5, 0.5, 0, 0.75, 0, 3.75]
    uniform = Noise.parse("uniform:2,5")
    assert [uniform.cumulant(k) for k in (2, 4, 6)] == pytest.approx([3**2 / 12, -(3**4) / 120, 3**6 / 252])
    assert [Noise.parse("normal:1e8,0.1").cumulant(k) for k in range(1, 7)] == [1e8, 0.01, 0, 0, 0, 0]
    assert [Noise.parse("rademacher").cumulant(k) for k in range(1, 7)] == [0, 1, 0, -2, 0, 16]


@pytest.mark.parametrize("family", list(FAMILIES))
def test_moments_are_exact_for_exact_arguments(family):
    arguments = [Fraction(-2, 7), Fraction(3, 5)][: len(FAMILIES[family].arguments)]
    symbolic = [sympy.Rational(a.numerator, a.denominator) for a in arguments]
    for order in range(HIGHEST + 1):
        fraction = Fraction(FAMILIES[family].moment(order, *arguments))
        rational = sympy.sympify(FAMILIES[family].moment(order, *symbolic), strict=True)
        assert rational.is_Rational
        assert (fraction.numerator, fraction.denominator) == (rational.p, rational.q)


def test_decimals_are_read_as_written():
    assert Noise.parse("normal:0.1,0.3").exact_moment(2) == sympy.Rational(1, 10)
    assert Noise.parse("laplace:0,0.1").exact_moment(4) == sympy.Rational(24, 10**4)
    assert Noise("normal", (np.float64(0.1), 1)).exact_moment(1) == sympy.Rational(1, 10)


def test_moments_in_symbols():
    """The formulas use + - * / alone, so theory may put symbols for the arguments."""
    s = sympy.Symbol("s", positive=True)
    assert FAMILIES["normal"].moment(6, 0, s) == 15 * s**6
    assert sympy.expand(FAMILIES["uniform"].moment(2, -s, s)) == s**2 / 3


@pytest.mark.parametrize("text", EXAMPLES)
def test_text_is_read_back(text):
    noise = Noise.parse(text)
    assert Noise.parse(str(noise)) == noise


def test_defaults():
    assert Noise.parse(" normal ") == Noise("normal", (0.0, 1.0))
    assert Noise.parse("normal:2") == Noise("normal", (2.0, 1.0))
    assert Noise.parse("laplace: 1e-3 , 2") == Noise("laplace", (0.001, 2.0))
    assert Noise.parse("normal:1,0").moment(3) == 1.0


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("norml", "unknown distribution 'norml': did you mean 'normal'?"),
        ("Laplace:0,1", "did you mean 'laplace'?"),
        ("cauchyish", "known are laplace, normal, rademacher, uniform"),
        ("", "unknown distribution ''"),
        ("normal:1,2,3", "has 3 arguments, expected normal:mean,std"),
        ("rademacher:1", "has 1 arguments, expected rademacher"),
        ("uniform", "lacks an argument, expected uniform:low,high"),
        ("uniform:1", "lacks an argument"),
        ("normal:a,1", "an argument that is no number"),
        ("normal:,1", "an argument that is no number"),
        ("normal:0;1", "an argument that is no number"),
        ("normal:nan", "not finite"),
        ("normal:0,inf", "not finite"),
        ("uniform:-inf,0", "not finite"),
        ("normal:0,-1", "needs std >= 0"),
        ("laplace:0,-1e-300", "needs scale >= 0"),
        ("uniform:1,1", "needs low < high"),
        ("uniform:2,1", "needs low < high"),
    ],
)
def test_what_is_no_distribution_is_refused(text, message):
    with pytest.raises(InputError) as error:
        Noise.parse(text, where="loss.noise.z")
    assert str(error.value).startswith("loss.noise.z: ")
    assert message in str(error.value)


# What the kernels draw.


@pytest.fixture(scope="module")
def drawn() -> dict[str, np.ndarray]:
    """A million initial values of each family."""
    (block,) = Simulator(families_run(2**20)).blocks(2**20)
    state = block.state.reshape(len(block.state), len(DRAWN), -1)
    return {name: state[:, i].ravel() for i, name in enumerate(DRAWN)}


def sample_p(values: np.ndarray, noise: Noise) -> dict[str, float]:
    """Moments and cumulants to order 4 against the exact ones."""
    n, p = values.size, {}
    moment = [noise.moment(k) for k in range(9)]
    for k in range(1, 5):
        spread = moment[2 * k] - moment[k] ** 2
        if spread > 0:  # Rademacher: even powers are one
            p[f"moment {k}"] = two_sided(((values**k).mean() - moment[k]) * math.sqrt(n / spread))
    # The sample's own cumulants about the true mean, by the delta method.
    d = values - moment[1]
    central = [central_moment(noise, k) for k in range(9)]
    variance = (d**2).mean()
    fourth = (d**4).mean() - 3 * variance**2
    gradient = d**4 - 6 * central[2] * d**2
    if gradient.std() > 1e-12:
        p["cumulant 4"] = two_sided((fourth - noise.cumulant(4)) * math.sqrt(n / gradient.var()))
        p["cumulant 2"] = two_sided((variance - noise.cumulant(2)) * math.sqrt(n / (central[4] - central[2] ** 2)))
        p["cumulant 3"] = two_sided(((d**3).mean() - noise.cumulant(3)) * math.sqrt(n / central[6]))
    return p


def central_moment(noise: Noise, order: int) -> float:
    mean = noise.exact_moment(1)
    return float(sum(math.comb(order, j) * (-mean) ** (order - j) * noise.exact_moment(j) for j in range(order + 1)))


def test_samples_have_the_exact_moments(drawn):
    """False-alarm rate: one in a million over all families and orders."""
    p = {
        f"{name} {check}": value
        for name, text in DRAWN.items()
        for check, value in sample_p(drawn[name], Noise.parse(text)).items()
    }
    assert len(p) == 3 * 7 + 2
    assert not rejected(p)


@pytest.mark.parametrize("other", ["normal:-0.3,0.703", "laplace:-0.3,0.495", "normal:-0.295,0.7"])
def test_samples_of_another_law_are_found(drawn, other):
    """Negative control: 0.4 % of the width, another shape of equal variance, 1 % of the width in the mean."""
    assert rejected(sample_p(drawn["normal"], Noise.parse(other)))


def test_draws_for_checks_follow_the_same_law():
    random = Random(1)
    for text in DRAWN.values():
        noise = Noise.parse(text)
        values = np.array([noise.draw(random) for _ in range(1000)])
        spread = math.sqrt(noise.cumulant(2) / 1000)
        assert abs(values.mean() - noise.moment(1)) < 5 * spread  # false-alarm rate 6e-7


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("noise_dtype", ["float32", "float64"])
def test_no_deviate_leads_to_infinity(dtype, noise_dtype):
    """The smallest, largest and most central words: a float32 state once rounded a uniform to 1 and took log(0)."""
    simulator = Simulator(families_run(dtype=dtype, noise_dtype=noise_dtype), target="python")
    kernel = simulator.kernel
    extremes = (0, 1, 2**31 - 1, 2**31, 2**31 + 1, 2**32 - 1)
    ends = [float(kernel.uniform64(np.uint32(low), np.uint32(high))) - 0.5 for low in extremes for high in extremes]
    deviates = np.empty((kernel.INITIAL_ROWS, kernel.LANES), kernel.NOISE)
    deviates[:] = np.resize(np.asarray(ends, kernel.NOISE), kernel.LANES)
    state = np.empty(4 * kernel.LANES, kernel.REAL)
    kernel.initial_state(state, deviates.ravel(), simulator.program.initial_array())
    _, uniform, laplace, rademacher = state.reshape(4, -1)[:, : len(ends)]
    assert np.isfinite(laplace).all()
    mean, scale = Noise.parse(DRAWN["laplace"]).arguments
    assert abs(laplace - mean).max() == pytest.approx(52 * math.log(2) * scale, rel=1e-6)
    low, high = Noise.parse(DRAWN["uniform"]).arguments
    assert ((kernel.REAL(low) <= uniform) & (uniform <= kernel.REAL(high))).all()
    assert set(rademacher) == {-1.0, 1.0}
    for (a, x), (b, y) in itertools.pairwise(sorted(zip(ends, laplace, strict=True))):
        assert x >= y or a < 0 < b  # each half falls from its pole at 0: log(2|v|) is 0 at the ends
