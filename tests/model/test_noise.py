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
import scipy.special
import scipy.stats
import sympy

from sgdsim.base.errors import InputError
from sgdsim.formulas.formula import Formula
from sgdsim.model.loss import Loss
from sgdsim.model.noise import FAMILIES, TABLE, Noise
from sgdsim.model.optimizers import Optimizer
from sgdsim.model.run import Run
from sgdsim.model.schedules import Schedule
from sgdsim.simulation.simulator import Simulator
from tests.kernel_calls import Kernels
from tests.kernels.test_random_numbers import DRAWN, families_run, rejected, two_sided
from tests.samples import daily

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
    "exponential": lambda scale: (
        lambda x: mpmath.exp(-x / scale - 1) / scale,
        [place * scale for place in (-1, 0, 4, 20, 200)],
    ),
    "lognormal": lambda mu, sigma: (
        lambda x: mpmath.npdf(mpmath.log(x), mu, sigma) / x,
        [mpmath.exp(mu + place * sigma) for place in range(-20, 26, 3)],
    ),
    "student_t": lambda dof: (
        lambda x: (
            (1 + x**2 / dof) ** (-(dof + 1) / 2)
            * (mpmath.gamma((dof + 1) / 2) / (mpmath.sqrt(mpmath.pi * dof) * mpmath.gamma(dof / 2)))
        ),
        [-mpmath.inf, -10, 0, 10, mpmath.inf],
    ),
}
ATOMS: dict[str, Callable[..., list[tuple[Any, Any]]]] = {
    "rademacher": lambda: [(-1, 0.5), (1, 0.5)],
    "bernoulli": lambda p: [(0, 1 - p), (1, p)],
    "table": lambda *pairs: list(zip(pairs[::2], pairs[1::2], strict=True)),
}

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
    "exponential:0.7",
    "lognormal:0.3,0.4",
    "student_t:13",
    "bernoulli:0.3",
    "table:-1@0.25,0.5@0.5,3.1@0.25",
    "table:7@1",
]
HIGHEST = 6


@pytest.fixture(autouse=True)
def _precision() -> Iterator[None]:
    with mpmath.workdps(50):
        yield


def quadrature(noise: Noise, order: int) -> Any:
    """``E X^order``; the arguments are the decimals that the user wrote."""
    if noise.family in ATOMS:
        atoms = ATOMS[noise.family](*(mpmath.mpf(repr(value)) for value in noise.arguments))
        return mpmath.fsum(weight * mpmath.mpf(place) ** order for place, weight in atoms)
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
    assert {*DENSITIES, *ATOMS} == {*FAMILIES, TABLE} == {Noise.parse(text).family for text in EXAMPLES}


@pytest.mark.parametrize("text", daily(EXAMPLES, *EXAMPLES[::3]))
def test_moments_and_cumulants_against_quadrature(text):
    """To the last bits, where the mean is thousands of standard deviations too."""
    noise = Noise.parse(text)
    moments = [quadrature(noise, order) for order in range(HIGHEST + 1)]
    scale = mpmath.sqrt(moments[2])
    for order in range(HIGHEST + 1):
        assert noise.moment(order) == pytest.approx(float(moments[order]), rel=1e-15, abs=float(1e-30 * scale**order))
        exact = mpmath.mpf(str(noise.exact_moment(order).evalf(50)))
        assert abs(exact - moments[order]) < 1e-30 * scale**order
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


def test_cumulants_of_the_later_families_by_hand():
    """Exponential: (k - 1)! b^k beyond the mean. Student's t: 6/(dof - 4) of kurtosis. Bernoulli: pq, pq(q - p), …."""
    assert [Noise.parse("exponential:0.5").cumulant(k) for k in range(1, 7)] == [0, 0.25, 0.25, 0.375, 0.75, 1.875]
    student = Noise.parse("student_t:10")
    assert [student.cumulant(k) for k in (1, 2, 3)] == [0, 1.25, 0]
    assert student.cumulant(4) / student.cumulant(2) ** 2 == 1
    assert [Noise.parse("bernoulli:0.2").cumulant(k) for k in (1, 2, 3)] == [0.2, 0.16, 0.096]
    lognormal = Noise.parse("lognormal:0.3,0.4")
    mean = math.exp(0.3 + 0.08)
    assert lognormal.cumulant(1) == pytest.approx(mean, rel=1e-15)
    assert lognormal.cumulant(2) == pytest.approx(mean**2 * math.expm1(0.16), rel=1e-14)


@pytest.mark.parametrize(("dof", "highest"), [(0.5, 0), (1, 0), (2, 1), (2.5, 2), (4, 3), (4.0001, 4)])
def test_moments_of_heavy_tails_that_do_not_exist_are_infinite(dof, highest):
    noise = Noise.parse(f"student_t:{dof}")
    for order in range(9):
        assert math.isfinite(noise.moment(order)) == (order <= highest)
        assert math.isfinite(noise.cumulant(order)) == (order <= highest)
        assert noise.exact_moment(order).is_finite == (order <= highest)
    assert noise.moment(highest + 1) == noise.cumulant(highest + 1) == math.inf


def test_moments_beyond_the_largest_float_are_infinite():
    assert Noise.parse("lognormal:0,10").moment(4) == math.inf  # exp(800)
    assert Noise.parse("lognormal:0,10").cumulant(4) == math.inf
    assert Noise.parse("table:-1e200@0.5,0@0.5").moment(3) == -math.inf


RATIONAL = [family for family in FAMILIES if family != "lognormal"]


@pytest.mark.parametrize("family", RATIONAL)
def test_moments_are_exact_for_exact_arguments(family):
    arguments = [Fraction(40, 3)] if family == "student_t" else [Fraction(-2, 7), Fraction(3, 5)]
    arguments = arguments[: len(FAMILIES[family].arguments)]
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
    assert FAMILIES["exponential"].moment(4, s) == 9 * s**4
    assert FAMILIES["lognormal"].moment(2, 0, s) == sympy.exp(2 * s**2)


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
        ("cauchyish", "known are bernoulli, exponential, laplace, lognormal, normal, rademacher, student_t, table"),
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
        ("exponential:-1", "needs scale >= 0"),
        ("lognormal:0,-1", "needs sigma >= 0"),
        ("lognormal:11,1", "needs sigma >= 0 and moments within the numbers: |mu| and sigma at most 10"),
        ("student_t", "lacks an argument, expected student_t:dof"),
        ("student_t:0", "needs dof > 0"),
        ("bernoulli:1.1", "needs 0 <= p <= 1"),
        ("bernoulli:-0.1", "needs 0 <= p <= 1"),
        ("table", "'table:', expected table:value@probability,value@probability,"),
        ("table:1", "expected table:value@probability"),
        ("table:1@0.5,2", "expected table:value@probability"),
        ("table:1@0.5@0.5", "expected table:value@probability"),
        ("table:a@1", "expected table:value@probability"),
        ("table:inf@1", "expected table:value@probability"),
        ("table:1@nan", "expected table:value@probability"),
        ("table:1@0.5,2@0.4", "probabilities 0.5, 0.4 add up to 0.9, expected 1"),
        ("table:1@1.5,2@-0.5", "probabilities 1.5, -0.5"),
        ("table:" + ",".join(f"{i}@0.025" for i in range(40)), "a table of 40 values, expected at most 24"),
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


@pytest.mark.parametrize(
    "other", daily(["normal:-0.3,0.703", "laplace:-0.3,0.495", "normal:-0.295,0.7"], "normal:-0.3,0.703")
)
def test_samples_of_another_law_are_found(drawn, other):
    """Negative control: 0.4 % of the width, another shape of equal variance, 1 % of the width in the mean."""
    assert rejected(sample_p(drawn["normal"], Noise.parse(other)))


def test_draws_for_checks_follow_the_same_law():
    random = Random(1)
    for text in (*DRAWN.values(), *EXAMPLES):
        noise = Noise.parse(text)
        values = np.array([noise.draw(random) for _ in range(200)])
        spread = math.sqrt(noise.cumulant(2) / 200)
        assert abs(values.mean() - noise.moment(1)) <= 5 * spread  # false-alarm rate 6e-7


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("noise_dtype", ["float32", "float64"])
def test_no_deviate_leads_to_infinity(dtype, noise_dtype):
    """The smallest, largest and most central words: a float32 state once rounded a uniform to 1 and took log(0)."""
    simulator = Simulator(families_run(dtype=dtype, noise_dtype=noise_dtype), device="python")
    kernels = Kernels(simulator.program, "python")
    extremes = (0, 1, 2**31 - 1, 2**31, 2**31 + 1, 2**32 - 1)
    ends = [
        float(kernels.engine.uniform64(np.uint32(low), np.uint32(high))) - 0.5 for low in extremes for high in extremes
    ]
    deviates = np.empty((kernels.layout.starts.rows, kernels.lanes), kernels.noise)
    deviates[:] = np.resize(np.asarray(ends, kernels.noise), kernels.lanes)
    state = kernels.initial_state(deviates)
    _, uniform, laplace, rademacher = state[:, : len(ends)]
    assert np.isfinite(laplace).all()
    mean, scale = Noise.parse(DRAWN["laplace"]).arguments
    assert abs(laplace - mean).max() == pytest.approx(52 * math.log(2) * scale, rel=1e-6)
    low, high = Noise.parse(DRAWN["uniform"]).arguments
    assert ((kernels.real(low) <= uniform) & (uniform <= kernels.real(high))).all()
    assert set(rademacher) == {-1.0, 1.0}
    for (a, x), (b, y) in itertools.pairwise(sorted(zip(ends, laplace, strict=True))):
        assert x >= y or a < 0 < b  # each half falls from its pole at 0: log(2|v|) is 0 at the ends


HEAVY = {"e": "exponential:0.7", "l": "lognormal:0.3,0.4", "t": "student_t:3", "m": "student_t:1e9"}


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_no_deviate_leads_to_infinity_in_a_tail(dtype):
    """Of the smallest and largest 64-bit uniforms, and of the largest normals."""
    loss = Loss(" + ".join(f"{name}**2" for name in HEAVY), tuple(HEAVY))
    initial = {name: Noise.parse(text) for name, text in HEAVY.items()}
    run = Run(loss, Optimizer(), Schedule("1"), initial, 1, 1, dtype=dtype, noise_dtype="float64")
    simulator = Simulator(run, device="python")
    kernels = Kernels(simulator.program, "python")
    smallest = float(kernels.engine.uniform64(np.uint32(0), np.uint32(2**31)))  # just beyond one half
    ends = [sign * size for size in (abs(smallest - 0.5), 0.25, 0.5 - 2.0**-53) for sign in (-1, 1)]
    deviates = np.empty((kernels.layout.starts.rows, kernels.lanes), kernels.noise)
    deviates[:] = np.resize(np.asarray(ends, kernels.noise), kernels.lanes)
    state = kernels.initial_state(deviates)
    assert 0 < min(map(abs, ends)) < 2.0**-50
    assert np.isfinite(state).all()
    tail, _, heavy, _ = state
    assert tail.max() > 0.7 * 34
    assert abs(heavy).max() > 1e9 ** (1 / 3)


# What the formulas make of deviates that fill their range evenly: no chance is left.


def evenly(noise: Noise, count: int) -> np.ndarray:
    """Draws from a grid of the deviates."""
    grid = (np.arange(count) + 0.5) / count - 0.5
    axes = [scipy.special.ndtri(grid + 0.5) if name in ("z", "Z") else grid for name in noise.law.deviates]
    mesh = dict(zip(noise.law.deviates, np.meshgrid(*axes), strict=True))
    values = Formula.parse(noise.law.formula).evaluate(
        {**dict(zip(noise.law.arguments, noise.arguments, strict=True)), **mesh}
    )
    return np.ravel(values)


def distance(values: np.ndarray, law: Any) -> float:
    """Between the distribution functions, as in the test of Kolmogorov and Smirnov."""
    return float(np.abs(law.cdf(np.sort(values)) - (np.arange(values.size) + 0.5) / values.size).max())


LAWS = {
    "normal:-0.3,0.7": scipy.stats.norm(-0.3, 0.7),
    "uniform:0.1,0.3": scipy.stats.uniform(0.1, 0.2),
    "laplace:0.2,1.5": scipy.stats.laplace(0.2, 1.5),
    "exponential:0.7": scipy.stats.expon(-0.7, 0.7),
    "lognormal:0.3,0.4": scipy.stats.lognorm(0.4, scale=math.exp(0.3)),
    "student_t:0.5": scipy.stats.t(0.5),
    "student_t:1": scipy.stats.cauchy(),
    "student_t:4": scipy.stats.t(4),
    "student_t:1e12": scipy.stats.norm(),
}


@pytest.mark.parametrize("text", LAWS)
def test_the_formula_draws_the_law(text):
    noise = Noise.parse(text)
    assert distance(evenly(noise, 1000), LAWS[text]) < 1e-3


def test_the_formula_of_another_law_is_found():
    """Negative control: 4 or 4.2 degrees of freedom, 1 % of the width."""
    assert distance(evenly(Noise.parse("student_t:4.2"), 1000), LAWS["student_t:4"]) > 1.5e-3
    assert distance(evenly(Noise.parse("exponential:0.707"), 1000), LAWS["exponential:0.7"]) > 3e-3


def test_students_t_of_many_degrees_of_freedom_keeps_its_digits():
    """It is the polar form of a normal then; exp(x) - 1 of a small x had lost them."""
    law = FAMILIES["student_t"]
    v, u = np.linspace(0.01, 0.49, 25), 0.1
    values = Formula.parse(law.formula).evaluate({"dof": 1e12, "v": v, "u": u})
    np.testing.assert_allclose(values, np.sqrt(-2 * np.log(2 * v)) * np.cos(2 * np.pi * u), rtol=1e-10)


def test_the_largest_table_makes_an_expression():
    """The kernels print it, so that it must be within the bounds of expressions."""
    law = Noise.parse("table:" + ",".join(f"{i}@{1 / 24!r}" for i in range(24))).law
    names = {name: sympy.Symbol(name, real=True) for name in (*law.arguments, *law.deviates)}
    assert Formula.parse(law.formula).expression(names).free_symbols == set(names.values()) - {names["p23"]}


def test_a_value_without_probability_is_left_out():
    assert Noise.parse("table:2@0,1@1,4@0") == Noise("table", (1.0, 1.0))


@pytest.mark.parametrize(
    ("text", "weights"),
    [
        ("rademacher", {-1: 0.5, 1: 0.5}),
        ("bernoulli:0.3", {0: 0.7, 1: 0.3}),
        ("bernoulli:0", {0: 1}),
        ("bernoulli:1", {1: 1}),
        ("table:-1@0.25,0.5@0.5,3.1@0.25", {-1: 0.25, 0.5: 0.5, 3.1: 0.25}),
        ("table:2@0,1@0.125,2@0.875,4@0", {1: 0.125, 2: 0.875}),
        ("table:7@1", {7: 1}),
        ("table:" + ",".join(f"{i}.5@{1 / 24!r}" for i in range(24)), {i + 0.5: 1 / 24 for i in range(24)}),
    ],
)
def test_the_formula_draws_each_value_as_often_as_it_should(text, weights):
    values, counts = np.unique(np.broadcast_to(evenly(Noise.parse(text), 32_000), 32_000), return_counts=True)
    assert values.tolist() == list(weights)
    np.testing.assert_allclose(counts / 32_000, list(weights.values()), rtol=0, atol=2 / 32_000)


@pytest.mark.parametrize(("text", "p"), [("bernoulli:1e-7", 1e-7), ("table:1@1e-7,0@0.9999999", 1e-7)])
@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_rare_events_have_their_probability(text, p, dtype):
    """The threshold is in the fine part of the uniform, also where the state rounds it to float32."""
    law = Noise.parse(text).law
    values = dict(zip(law.arguments, Noise.parse(text).arguments, strict=True))
    uniform = np.array([p * 0.999, p * 1.001], dtype)  # of 2*abs(v)
    drawn = Formula.parse(law.formula).evaluate({**values, "v": uniform / 2})
    assert np.asarray(drawn).tolist() == [1.0, 0.0]
