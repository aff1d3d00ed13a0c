"""Laws of a valley on ensembles of a plain simulation, each with a wrong run to reject."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
from scipy import integrate, stats

from sgdsim.ensemble import Ensemble
from sgdsim.model import rare_events
from sgdsim.model.loss import Loss
from sgdsim.model.losses.river_valley import river_valley
from sgdsim.model.noise import Noise
from sgdsim.model.observables import Observable
from sgdsim.model.optimizers import Optimizer
from sgdsim.model.recorder import Recorder
from sgdsim.model.run import Run
from sgdsim.model.schedules import Schedule
from sgdsim.prediction import Distance, NotApplicable, Prediction
from sgdsim.statistics.comparison import Comparison, compare
from sgdsim.theory import find_law, predict, requirements
from sgdsim.theory.laws import valley
from sgdsim.theory.methods.modes import modes
from tests.samples import daily
from tests.statistics.test_estimators import synthetic
from tests.theory.laws import closed_forms, symmetry_runs
from tests.theory.laws.valley_runs import CURVATURES, LAWS, make_run, recording, simulate, walls


def check(run: Run, ensemble: Ensemble, *laws: str) -> list[Comparison]:
    predictions, skipped = predict([find_law(id) for id in laws or LAWS], [run])
    assert not skipped
    return compare(ensemble, predictions)


RUNS = {
    "gaussian": make_run(walls()),
    "laplace": make_run(walls(noise="laplace")),
    "uniform": make_run(walls(noise="uniform:-1,1")),
    "batch and decay": make_run(walls(), optimizer=Optimizer("sgd", {"weight_decay": 0.2}, 3)),
    "schedule": make_run(walls(), "cosine:0.8,0.05"),
}


@pytest.fixture(scope="module")
def ensembles() -> dict[str, Ensemble]:
    return {name: simulate(run) for name, run in RUNS.items()}


@pytest.mark.parametrize("name", daily(RUNS, "gaussian", "batch and decay", "schedule"))
def test_a_plain_simulation_agrees(name: str, ensembles: dict[str, Ensemble]) -> None:
    """All laws, some 40 rows a run, Holm at 1e-3: false alarm 1e-3 for each of the five runs (fixed seed)."""
    rows = check(RUNS[name], ensembles[name])
    assert not [row for row in rows if row.verdict == "disagrees"]
    assert {row.id for row in rows} == set(LAWS)
    assert all(np.isfinite(row.z) for row in rows)


@pytest.mark.parametrize("id", LAWS)
def test_every_law_rejects_a_wrong_simulation(id: str, ensembles: dict[str, Ensemble]) -> None:
    """Negative control: noise 10 % too large, or for what is free of its scale, a learning rate 10 % too large."""
    off_rate = simulate(make_run(walls(), 0.55))
    assert "disagrees" in {row.verdict for row in check(RUNS["gaussian"], off_rate, id)}
    if id != "correlations":
        louder = simulate(make_run(walls(sigma=1.1)))
        assert "disagrees" in {row.verdict for row in check(RUNS["gaussian"], louder, id)}


KINDS = ["mean", "variance", "ks", "correlation", "total", "valley_count", "relaxation"]


@pytest.mark.parametrize("statistic", daily(KINDS, "variance", "relaxation"))
def test_every_kind_of_row_rejects_a_wrong_simulation(statistic: str) -> None:
    """Negative control by kind: a learning rate 10 % too large is seen in rows of each."""
    rows = check(RUNS["gaussian"], simulate(make_run(walls(), 0.55)))
    assert "disagrees" in {row.verdict for row in rows if row.statistic == statistic}


def test_kurtosis_and_fluctuations_reject_gaussian_noise_where_laplace_was_predicted() -> None:
    rows = check(RUNS["laplace"], simulate(make_run(walls(sigma=np.sqrt(2.0)))))
    for statistic in ("kurtosis", "fluctuation"):
        assert "disagrees" in {row.verdict for row in rows if row.statistic == statistic}
    assert "disagrees" not in {row.verdict for row in rows if row.quantity == "variance(x[1])"}


def test_leading_order_equipartition_is_rejected_where_eta_a_is_beyond_a_half(
    ensembles: dict[str, Ensemble],
) -> None:
    """The handbook's negative control: equipartition LEAD at eta*a > 0.5, and in the total and the count."""
    exact, _ = predict([find_law("equipartition")], [RUNS["gaussian"]])
    leading = [replace(row, predicted=row.rival.predicted, rival=None) for row in exact if row.rival]
    assert len(leading) == len(exact) == 5
    rows = {row.quantity: row for row in compare(ensembles["gaussian"], leading)}
    for quantity in ("mean(fast_loss_x_2)", "total fast loss", "number of fast directions"):
        assert rows[quantity].verdict == "disagrees"
    notes = [row.note for row in compare(ensembles["gaussian"], exact)]
    assert all("leading order gives" in note for note in notes)


def by_quantity(predictions: Sequence[Prediction]) -> dict[str, float]:
    return {prediction.quantity: prediction.predicted for prediction in predictions}


def test_long_runs_reach_the_closed_forms() -> None:
    rate, sigma, noise = 0.4, 0.7, Noise.parse("laplace").cumulant(2)
    run = make_run(walls(noise="laplace", sigma=sigma), rate, 400, initial={})
    predicted = by_quantity(predict(list(LAWS.values()), [run])[0])
    for i, a in enumerate(CURVATURES):
        r, v = 1 - rate * a, valley.stationary_variance(rate, a, noise * sigma**2)
        u = valley.stationary_fast_loss(rate, a, noise * sigma**2)
        kurtosis = closed_forms.stationary_kurtosis(rate, a, 3.0)
        expected = {
            f"variance(x[{i}])": v,
            f"kurtosis(x[{i}])": kurtosis,
            f"mean(fast_loss_x_{i})": u,
            f"variance(fast_loss_x_{i})": 2 * u**2 * (1 + kurtosis / 2),
            f"correlation of x[{i}], lag 5": r**5,
            f"variance(time_average_x_{i})": closed_forms.stationary_time_average_variance(v, r, 200),
            f"heat capacity Var(fast_loss_x_{i})/T²": 0.5 * (1 + kurtosis / 2),
        }
        assert {key: predicted[key] for key in expected} == pytest.approx(expected, rel=1e-9)
    factors = [1 / (1 - rate * a / 2) for a in CURVATURES]
    assert predicted["number of fast directions"] == pytest.approx(sum(factors), rel=1e-9)
    assert predicted["total fast loss"] == pytest.approx(
        sum(valley.stationary_fast_loss(rate, a, noise * sigma**2) for a in CURVATURES), rel=1e-9
    )


def test_the_stationary_law_reproduces_itself_under_one_step() -> None:
    """By quadrature: a Gaussian of valley's variance, pushed through one step, keeps its variance and density."""
    rate, a, sigma = 0.5, 1.7, 0.8
    v = valley.stationary_variance(rate, a, sigma**2)
    before, kick = stats.norm(scale=np.sqrt(v)), stats.norm(scale=rate * sigma)
    for x in (0.0, 0.5, 1.3):
        after, _ = integrate.quad(lambda y, x=x: before.pdf(y) * kick.pdf(x - (1 - rate * a) * y), -6, 6)
        assert after == pytest.approx(before.pdf(x), rel=1e-8)


def test_the_handbooks_figures() -> None:
    assert valley.stationary_variance(1.9, 1.0, 1.0) == pytest.approx(19.0)
    assert closed_forms.stationary_kurtosis(0.5, 1.0, 8.0) == pytest.approx(4.8)
    assert valley.stationary_fast_loss(0.2, 1.0, 0.25) == pytest.approx(0.0138889, rel=1e-5)
    assert closed_forms.stationary_time_average_variance(0.3 / 1.7, 0.7, 2000) == pytest.approx(4.993e-4, rel=1e-3)
    rates = np.linspace(0.39, 0.41, 3)
    u, t = (np.array([f(rate) for rate in rates]) for f in (_fast_loss, _temperature))
    assert closed_forms.heat_capacity_fixed_noise(0.4, 1.0) == pytest.approx((u[2] - u[0]) / (t[2] - t[0]), rel=1e-4)
    assert closed_forms.heat_capacity_fixed_rate(0.4, 1.0) == pytest.approx(u[1] / t[1])


def _fast_loss(rate: float) -> float:
    return valley.stationary_fast_loss(rate, 1.0, 1.0)


def _temperature(rate: float) -> float:
    return valley.temperature(rate, 1.0)


def test_the_distribution_is_that_of_the_last_step() -> None:
    run = make_run(walls(), 0.3, 6, initial={"x[0]": Noise.parse("normal:2,0.5")})
    rows = [row for row in find_law("valley").predictions([run]) if isinstance(row.measure, Distance)]
    measure = rows[0].measure
    assert isinstance(measure, Distance)
    r = 1 - 0.3 * 0.3
    mean, variance = 2 * r**6, 0.25 * r**12 + 0.09 * (1 - r**12) / (1 - r**2)
    x = np.linspace(-1, 4, 7)
    assert measure.cdf(x) == pytest.approx(stats.norm(mean, np.sqrt(variance)).cdf(x), rel=1e-9)


def test_no_distribution_is_claimed_for_other_noise_or_another_start() -> None:
    assert requirements([find_law("valley")], make_run(walls(noise="laplace"))).snapshots == ()
    run = make_run(walls(), initial={f"x[{i}]": Noise.parse("uniform:0,1") for i in range(3)})
    assert not any(isinstance(row.measure, Distance) for row in find_law("valley").predictions([run]))


def test_middle_rows_need_records_and_a_fixed_curvature() -> None:
    bare = recording(Run(walls(), Optimizer(), Schedule("0.1"), dict.fromkeys(walls().parameters, 1.0), 1000, 50))
    assert all("step" not in row.quantity for row in find_law("valley").predictions([bare]))
    with_records = make_run(walls(), 0.1, 50)
    assert "variance(x[1]) at step 12" in by_quantity(find_law("valley").predictions([with_records]))


def test_requirements_skip_what_is_recorded_under_another_name() -> None:
    loss = river_valley(a="a0*(1 + k*y**2)", c="0", constants={"a0": 1.0, "k": 0.5})
    mine = (Observable.parse("thermal", "a*x**2/2"),)
    initial = {"x": 0.0, "y": 1.0}
    run = Run(loss, Optimizer(), Schedule("0.1"), initial, 1000, 50, recorder=Recorder(observables=mine))
    assert requirements([find_law("valley-energy"), find_law("equipartition")], run).observables == ()
    rows = find_law("valley-energy").predictions([run])
    assert {row.quantity for row in rows} == {"mean(thermal)", "variance(thermal)"}
    assert {row.order for row in rows} == {"adiabatic"}
    assert "noise-free path" in rows[0].conditions
    wanted = requirements(LAWS.values(), run)
    assert [str(o) for o in wanted.observables] == ["window_mean(x, 25, 50)"]
    assert wanted.snapshots == (45, 48, 49, 50)


def test_what_is_not_recorded_is_not_predicted() -> None:
    loss = walls()
    bare = Run(loss, Optimizer(), Schedule("0.1"), dict.fromkeys(loss.parameters, 0.0), 1000, 50)
    for id in ("valley-energy", "correlations", "equipartition", "heat-capacity"):
        with pytest.raises(NotApplicable, match="recorded"):
            find_law(id).predictions([bare])


def test_a_law_that_does_not_apply_says_so_and_asks_for_nothing() -> None:
    loss = walls()
    start = dict.fromkeys(loss.parameters, 0.0)
    momentum = Run(loss, Optimizer("momentum"), Schedule("0.1"), start, 1000, 50)
    assert requirements(LAWS.values(), momentum) == Recorder()
    found, skipped = predict(list(LAWS.values()), [momentum])
    assert not found
    assert {one.reason for one in skipped} == {"holds for plain sgd, the optimizer is momentum"}


def test_points_of_a_sweep_beyond_stability_are_named() -> None:
    runs = [make_run(walls(), rate) for rate in (0.5, 0.95)]
    found, skipped = predict([find_law("valley-energy")], runs)
    assert {row.point for row in found} == {0}
    assert skipped[0].reason.startswith("point 1: x[2] is unstable: eta*a = 2.09")


def test_an_adiabatic_valley_agrees_at_the_end() -> None:
    """a(y) on a river that flows: all laws on a plain simulation, false alarm 1e-3 (fixed seed)."""
    constants = {"a0": 1.0, "k": 0.5, "c2": 0.1, "sigma": 0.05}
    loss = river_valley(constants=constants)
    run = make_run(loss, 0.4, 30, initial={"x": 0.0})
    rng, n = np.random.default_rng(3), run.trajectories
    x, y, average = np.zeros(n), np.ones(n), np.zeros(n)
    snapshots = {}
    for step in range(31):
        if step in run.recorder.snapshots:
            snapshots[step] = {"x": x, "y": y}
        if step < 30:
            a, slope = 1 + 0.5 * y**2, 0.5 * 2 * y
            x, y = x - 0.4 * (a * x + 0.05 * rng.normal(size=n)), y - 0.4 * (0.1 * y + slope * x**2 / 2)
            average = average + (x / 15 if step >= 15 else 0.0)
    a = 1 + 0.5 * y**2
    record = {"x": x, "y": y, "fast_loss_x": a * x**2 / 2, "time_average_x": average}
    ensemble = synthetic([record], [30], snapshots, lanes=64, attributes=rare_events.attributes([run]))
    predictions, skipped = predict(list(LAWS.values()), [run])
    assert not skipped
    assert {row.order for row in predictions} == {"adiabatic"}
    rows = compare(ensemble, predictions)
    assert not [row for row in rows if row.verdict == "disagrees"]
    # Negative control: the curvature of the start is not that of the end.
    frozen = make_run(river_valley(constants={**constants, "c2": 1e-9}), 0.4, 30, initial={"x": 0.0})
    wrong, _ = predict([find_law("valley")], [frozen])
    assert "disagrees" in {row.verdict for row in compare(ensemble, wrong)}


def test_predictions_are_plain_numbers() -> None:
    predictions, _ = predict(list(LAWS.values()), [RUNS["batch and decay"]])
    text = json.dumps([[row.id, row.quantity, row.predicted, row.resolution, row.source] for row in predictions])
    assert "re-derived" in text
    assert all(isinstance(row.predicted, float) for row in predictions)
    assert {mode.parameter for mode in modes(RUNS["gaussian"])} == {"x[0]", "x[1]", "x[2]"}


def test_a_valley_whose_mean_pushes_its_curvature_does_not_hold() -> None:
    """A mean ten spreads from rest hid a correlation of displacement and curvature: a right run was accused, z = 7."""
    for k in (0.8, 1e-4):
        loss = Loss("exp(k*y)*x**2/2 + x**2 + y**2/6 + z*x", ("x", "y"), {"k": k}, {"z": Noise.parse("normal")})
        run = symmetry_runs.make_run(loss, rate="exponential:0.05,10", steps=20, initial={"x": 2.0, "y": 0.0})
        run = replace(run, recorder=requirements([find_law("valley-energy")], run))
        rows = symmetry_runs.verdicts(run, "valley")
        assert {"independent fails" in row.note for row in rows} == {k == 0.8}
