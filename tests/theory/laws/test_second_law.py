"""The second law, against brute force and quadrature."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from scipy import integrate, stats

from sgdsim.ensemble import Ensemble, Variable
from sgdsim.model.losses.river_valley import river_valley
from sgdsim.model.optimizers import Optimizer
from sgdsim.model.recorder import Recorder
from sgdsim.model.run import Run
from sgdsim.model.schedules import Schedule
from sgdsim.prediction import NotApplicable, PathMean
from sgdsim.statistics.comparison import compare
from sgdsim.theory import find_law
from sgdsim.theory.laws import second_law
from sgdsim.theory.methods.modes import modes
from tests.theory.laws.work_runs import make_run, normal, rest


def test_the_divergence_is_that_of_quadrature_and_the_handbook():
    p, q = stats.norm(0.4, 0.7), stats.norm(0.0, 0.5)
    found = integrate.quad(lambda x: p.pdf(x) * (p.logpdf(x) - q.logpdf(x)), -8, 8)[0]
    assert float(second_law.divergence(0.4, 0.49, 0.25)) == pytest.approx(found, rel=1e-8)


def test_the_divergence_falls_as_the_law_says():
    run = make_run("second-law", "0.1", x=normal(1.0, 1.0), recorder=Recorder(every=5))
    rows = find_law("second-law").predictions([run])
    m, v, left = 1.0, 1.0, []
    for step in range(41):
        if step % 5 == 0:
            left.append(float(second_law.divergence(m, v, rest(0.1))))
        m, v = 0.9 * m, 0.81 * v + 0.01
    assert [row.predicted for row in rows] == pytest.approx(-np.diff(left)[: len(rows)])
    assert all(row.predicted > 0 for row in rows)
    assert rows[0].measure.function(1.0, 1.0, 1.0, 1.0) == 0


def test_it_says_nothing_of_a_rate_that_changes():
    with pytest.raises(NotApplicable):
        find_law("second-law").predictions(
            [make_run("second-law", "linear:0.2,0", x=normal(1.0), recorder=Recorder(every=5))]
        )


def test_the_equality_of_hatano_and_sasa_by_integration():
    """Two changes of the rate: the joint law of both states is normal, and its integral is done by Gauss-Hermite."""
    run = make_run("hatano-sasa", "where(t < 3, 0.3, where(t < 5, 0.5, 0.2))", 8, normal(rest(0.3)))
    weight, mean = find_law("hatano-sasa").predictions([run])
    assert weight.measure.steps == (3, 5)
    v3 = rest(0.3)
    nodes, weights = np.polynomial.hermite_e.hermegauss(80)
    z, w = np.meshgrid(nodes, nodes, indexing="ij")
    first = np.sqrt(v3) * z
    second = 0.25 * first + np.sqrt(0.25 + 0.25 * 0.25) * w  # two steps at 0.5: r^2, and eta^2*(1 + r^2)
    shares = np.outer(weights, weights).ravel() / weights.sum() ** 2
    path = np.array([first.ravel(), second.ravel()])
    assert float(shares @ weight.measure.function(path)) == pytest.approx(1.0, abs=1e-9)
    assert float(shares @ mean.measure.function(path)) == pytest.approx(mean.predicted, rel=1e-9)
    assert mean.predicted > 0


def test_excess_entropy_of_many_schedules_is_positive():
    for rate in ("exponential:0.3,10", "linear:0.3,0.01", "0.1 + 0.02*t"):
        start = float(Schedule(rate).rates(24)[0])
        (mode,) = modes(make_run("valley", rate, 24, normal(rest(start))))
        assert second_law.mean_excess(mode) > 0


def test_a_start_that_is_not_at_rest_is_refused():
    with pytest.raises(NotApplicable, match="does not start in the stationary law"):
        find_law("hatano-sasa").predictions([make_run("hatano-sasa", "exponential:0.3,10", 24, normal(1.0))])


def test_skewed_noise_breaks_detailed_balance_as_the_moments_say():
    """Brute force: third cumulants add along the recursion."""
    third = 0.0
    for _ in range(60):
        third = 0.5**3 * third - 0.5**3 * 2.0
    assert second_law.asymmetry(0.5, 1.0, 2.0) == pytest.approx(third * (0.5 - 0.25))
    assert second_law.asymmetry(0.5, 1.0, 2.0) == pytest.approx(-0.071429, abs=1e-6)
    (row,) = find_law("detailed-balance").predictions([make_run("detailed-balance", "0.5", noise="exponential")])
    assert row.predicted == pytest.approx(-0.071429, abs=1e-6)
    (row,) = find_law("detailed-balance").predictions([make_run("detailed-balance", "0.5")])
    assert row.predicted == 0
    with pytest.raises(NotApplicable):
        find_law("detailed-balance").predictions([make_run("detailed-balance", "0.01")])


def test_means_over_paths_agree_with_brute_force_and_a_wrong_one_is_rejected():
    random, states = np.random.default_rng(9), [np.zeros(64 * 512)]
    for _ in range(24):
        states.append(0.5 * states[-1] - 0.5 * (random.exponential(size=64 * 512) - 1.0))
    names = {"parameter": Variable(("parameter",), ["x"]), "snapshot_step": Variable(("snapshot",), [23, 24])}
    theta = Variable(("snapshot", "trajectory", "parameter"), np.array(states[-2:])[:, :, None])
    ensemble = Ensemble({"theta": theta, **names}, {"lanes": 512})
    (row,) = find_law("detailed-balance").predictions([make_run("detailed-balance", "0.5", 24, noise="exponential")])
    assert isinstance(row.measure, PathMean)
    row = replace(row, resolution=abs(row.predicted))  # the distance to the wrong one, 0
    assert compare(ensemble, [row])[0].verdict == "agrees"
    assert compare(ensemble, [replace(row, predicted=0.0)])[0].verdict == "disagrees"


def clock(rate: str = "0.05", steps: int = 60, g: float = 60.0, x: float = 0.1, **options) -> Run:
    loss = river_valley(
        a="a0*(1 + y/width)", c="-g*y", constants={"a0": 1.0, "width": 90.0, "g": g, "sigma": np.sqrt(0.4)}
    )
    run = Run(loss, Optimizer(), Schedule(rate), {"x": normal(x**2), "y": 0.0}, 1000, steps, **options)
    return replace(run, recorder=run.recorder.merge(find_law("jarzynski").requirements(run)))


def test_a_clock_whose_last_bit_hides_the_work_is_refused():
    """W/g is some 1e-4 of y = 180, where the last bit of float32 is 2e-5."""
    with pytest.raises(NotApplicable, match=r'expected dtype = "float64"'):
        find_law("jarzynski").predictions([clock(dtype="float32")])


def test_the_exact_weight_is_a_determinant():
    """``<exp(-sum d_n*x_n^2/2)> = 1/sqrt(det(1 + D*C))`` of the covariance of all states."""
    a, rate, noise, start = 1.0 + np.arange(31) / 15.0, 0.1, 0.3, 0.02
    covariance, r = np.zeros((31, 31)), 1.0 - rate * a
    covariance[0, 0] = start
    for n in range(30):
        covariance[n + 1, : n + 1] = covariance[: n + 1, n + 1] = r[n] * covariance[n, : n + 1]
        covariance[n + 1, n + 1] = r[n] ** 2 * covariance[n, n] + rate**2 * noise
    weights = np.append(np.diff(a), 0.0) / (rate * noise / 2.0)
    expected = np.linalg.det(np.eye(31) + weights[:, None] * covariance) ** -0.5
    assert second_law.exact_weight(a, rate, noise, start) == pytest.approx(expected, rel=1e-12)


def test_the_exact_weight_goes_to_the_equality_in_proportion_to_the_rate():
    """a from 1 to 3 in a time of 10, at T = 0.01."""
    off = []
    for steps in (1000, 2000, 4000):
        rate = 10.0 / steps
        weight = second_law.exact_weight(np.linspace(1.0, 3.0, steps + 1), rate, 0.02 / rate, 0.01)
        off.append(weight - 3**-0.5)
    assert off[0] / off[1] == pytest.approx(2.0, abs=0.02)
    assert off[1] / off[2] == pytest.approx(2.0, abs=0.01)


def test_the_river_is_late_by_the_work_on_its_walls():
    """Brute force, with the back reaction on the river."""
    n, rate, g = 20_000, 0.05, 60.0
    random = np.random.default_rng(7)
    x, y, work = 0.1 * random.standard_normal(n), np.zeros(n), np.zeros(n)
    for _ in range(60):
        after = y - rate * (x**2 / 180.0 - g)
        work += (after - y) / 90.0 * x**2 / 2
        x = x - rate * ((1 + y / 90.0) * x + np.sqrt(0.4) * random.standard_normal(n))
        y = after
    np.testing.assert_allclose(g * (60 * rate * g - y), work, rtol=1e-3, atol=1e-9)
    equality, exact = find_law("jarzynski").predictions([clock()])
    weights = exact.measure.function(y[None])
    np.testing.assert_allclose(weights, np.exp(-work / 0.01), rtol=1e-3)
    error = weights.std() / np.sqrt(n)
    assert weights.mean() == pytest.approx(exact.predicted, abs=4 * error)
    assert abs(weights.mean() - exact.rival.predicted) > 8 * error
    assert equality.order == 0
    assert float(equality.measure.function(y[None]).mean()) == pytest.approx(weights.mean() * np.sqrt(3.0))


def test_a_protocol_may_end_before_the_run_does():
    long, short = clock("where(t < 60, 0.05, 1e-15)", 100), clock()
    assert (
        find_law("jarzynski").predictions([long])[1].predicted
        == find_law("jarzynski").predictions([short])[1].predicted
    )
    with pytest.raises(NotApplicable, match="one learning rate"):
        find_law("jarzynski").predictions([clock("where(t < 60, 0.05, 0.01)", 100)])


def test_a_clock_that_the_walls_can_slow_is_refused_and_a_start_that_is_not_gibbs():
    with pytest.raises(NotApplicable, match="slow the river"):
        find_law("jarzynski").predictions([clock(g=0.1)])
    with pytest.raises(NotApplicable, match="Gibbs"):
        find_law("jarzynski").predictions([clock(x=0.2)])
