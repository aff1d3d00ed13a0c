"""First and second law against brute force, quadrature and the numbers of the handbook."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from scipy import integrate, stats

from sgdsim import simulate
from sgdsim.ensemble import Ensemble, Variable
from sgdsim.model.losses.river_valley import river_valley
from sgdsim.model.noise import Noise
from sgdsim.model.optimizers import Optimizer
from sgdsim.model.recorder import Drift, Histogram, Recorder
from sgdsim.model.run import Run
from sgdsim.model.schedules import Schedule
from sgdsim.prediction import DriftCurve, NotApplicable, PathMean
from sgdsim.statistics.comparison import compare
from sgdsim.theory import find_law
from sgdsim.theory.laws import first_law, second_law
from sgdsim.theory.methods.modes import modes
from sgdsim.theory.methods.rivers import river


def make_run(
    id: str, rate: str = "0.2", steps: int = 40, x: float | Noise = 0.0, noise: str = "normal", **options
) -> Run:
    loss = river_valley(a="a0", c="0", noise=noise, constants={"a0": 1.0, "sigma": 1.0})
    run = Run(loss, Optimizer(), Schedule(rate), {"x": x, "y": 0.0}, 1000, steps, **options)
    return replace(run, recorder=run.recorder.merge(find_law(id).requirements(run)))


def rest(rate: float) -> float:
    return rate / (2.0 - rate)


def normal(variance: float, mean: float = 0.0) -> Noise:
    return Noise("normal", (mean, float(np.sqrt(variance))))


# First law


def test_work_and_heat_add_up_in_a_simulation_and_their_means_are_exact():
    loss = river_valley(a="a0*exp(k*y)", c="b*y**2/2", constants={"a0": 1.0, "k": 0.5, "b": 0.1, "sigma": 0.5})
    run = Run(loss, Optimizer(), Schedule("0.2"), {"x": 0.5, "y": normal(0.1)}, 128, 12)
    unused = ("work_on_walls", "heat_of_noise")
    named = {name: str(one) for name, one in first_law.books(run).items() if name not in unused}
    named["change"] = "window_sum(b*(next(y)**2 - y**2)/2 + a0*(exp(k*next(y))*next(x)**2 - exp(k*y)*x**2)/2, 0, 12)"
    ensemble = simulate(
        loss, learning_rate=0.2, initial=run.initial, trajectories=128, steps=12, observables=named, device="python"
    )
    means = dict(zip(map(str, ensemble["observable"]), ensemble["mean"][-1], strict=True))
    assert means["work"] + means["heat"] == pytest.approx(means["change"], abs=1e-13)
    assert means["unbalanced"] == means["unbalanced_symmetric"] == 0
    assert abs(means["work"] - means["work_symmetric"]) > 1e-4  # the splits differ, their sums do not


def test_the_mean_heat_is_that_of_the_recursion():
    run = make_run("first-law", x=normal(1.0))
    rows = {row.quantity: row.predicted for row in find_law("first-law").predictions([run])}
    v = 1.0
    for _ in range(40):
        v = 0.64 * v + 0.04
    assert rows["mean(heat) over 40 steps"] == pytest.approx(v / 2 - 0.5)
    assert rows["mean(heat_of_noise) over 40 steps"] == pytest.approx(40 * 0.02)  # the handbook's .02 a step


def test_the_heat_of_a_step_follows_the_fast_loss_before_it():
    drifts = {"fast_loss_x": Drift("fast_loss_x", Histogram(0.0, 0.3, 5))}
    run = make_run("first-law", x=normal(rest(0.2)))
    recorder = run.recorder.merge(find_law("valley-energy").requirements(run))
    run = replace(run, recorder=replace(recorder, drifts=drifts))
    (row,) = (one for one in find_law("first-law").predictions([run]) if isinstance(one.measure, DriftCurve))
    density = stats.norm(scale=np.sqrt(rest(0.2))).pdf
    for i, value in enumerate(row.measure.values):
        low, high = np.sqrt(2 * 0.06 * i), np.sqrt(2 * 0.06 * (i + 1))
        mass = integrate.quad(density, low, high)[0]
        # Of x'^2/2 - x^2/2 given x, over the bin.
        heat = integrate.quad(lambda x: density(x) * ((0.64 - 1) * x * x + 0.04) / 2, low, high)[0]
        assert value == pytest.approx(heat / mass, rel=1e-6)


def test_a_loss_without_a_valley_is_refused():
    loss = river_valley(a=["1", "2"], c="0")
    with pytest.raises(NotApplicable):
        first_law.books(Run(loss, Optimizer(), Schedule("0.1"), dict.fromkeys(loss.parameters, 0.0), 100, 10))


# Second law


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


# Jarzynski's equality, and the mean work and heat of a river


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


def closing(sigma: float) -> Run:
    loss = river_valley(a="a0*exp(k*y)", c="-g*y", constants={"a0": 0.5, "k": 1.0, "g": 0.2, "sigma": sigma})
    return Run(loss, Optimizer(), Schedule("0.1"), {"x": 0.0, "y": 0.0}, 1000, 150)


def test_mean_work_and_heat_of_a_river_are_those_of_brute_force():
    n, rate, sigma = 20_000, 0.1, 0.1
    random = np.random.default_rng(6)
    x, y, work, heat = np.zeros(n), np.zeros(n), np.zeros(n), np.zeros(n)
    for _ in range(150):
        a = 0.5 * np.exp(y)
        after = x - rate * (a * x + sigma * random.standard_normal(n))
        y = y - rate * (a * x**2 / 2 - 0.2)
        closed = 0.5 * np.exp(y)
        work += (closed - a) * x**2 / 2
        heat += closed * (after**2 - x**2) / 2
        x = after
    means = first_law.river_means(river(closing(sigma)))
    for measured, name in ((work, "work_on_walls"), (heat, "heat")):
        error = measured.std() / np.sqrt(n)
        assert measured.mean() == pytest.approx(means[name], abs=4 * error + 1.5 * sigma**2 * abs(means[name]))
        assert abs(measured.mean()) > 20 * error
    assert means["work_on_walls"] > 0 > means["heat"]  # pressed together, it gives off heat


def test_mean_work_and_heat_take_four_noises():
    runs = [closing(sigma) for sigma in (0.1, 0.2, 0.3, 0.4)]
    runs = [replace(run, recorder=find_law("first-law").requirements(run)) for run in runs]
    found, reasons = find_law("first-law").evaluate(runs)
    assert [row.point for row in found if row.order == 0] == [0, 0, 1, 1, 2, 2, 3, 3]
    assert not reasons
    found, reasons = find_law("first-law").evaluate(runs[:3])
    assert found  # of the books
    assert not [row for row in found if row.order == 0]
    assert reasons == ["mean work and heat of a river take 4 noises or more, not 3"]


def test_mean_work_of_a_noisy_river_is_refused_and_that_of_a_fixed_valley_is_not_asked_for():
    constants = {"a0": 0.5, "k": 1.0, "g": 0.2, "sigma": 0.1, "sigma_y": 0.1}
    loss = river_valley(a="a0*exp(k*y)", c="-g*y", river_noise="normal", constants=constants)
    run = replace(closing(0.1), loss=loss)
    run = replace(run, recorder=find_law("first-law").requirements(run))
    assert find_law("first-law").evaluate([run, run])[1] == ["mean work and heat of a river: it has noise of its own"]
    assert find_law("first-law").evaluate([make_run("first-law", rate) for rate in ("0.1", "0.2")])[1] == []
