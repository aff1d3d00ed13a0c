"""Recorders: what is measured on the way against NumPy on the snapshots, to the last bits but rounding."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from sgdsim.app.simulate import simulate
from sgdsim.base.errors import InputError
from sgdsim.ensemble import Ensemble
from sgdsim.model.data import Data
from sgdsim.model.loss import Loss
from sgdsim.model.losses import CATALOGUE
from sgdsim.model.noise import Noise
from sgdsim.model.observables import Observable
from sgdsim.model.optimizers import Optimizer
from sgdsim.model.recorder import Autocorrelation, Drift, Histogram, Plane, Recorder
from sgdsim.model.run import Run
from sgdsim.model.schedules import Schedule
from sgdsim.simulation import recorded_statistics
from sgdsim.simulation.run_loop import simulate_runs
from tests import naive
from tests.conftest import COMPILED

N, STEPS = 300, 14
NET = {"slope": 1.0, "sigma": 0.5}
SCHEDULE = Schedule("0.1/(1 + t/10)")
ALL = tuple(range(STEPS + 1))
CLOSE: dict[str, Any] = {"rtol": 1e-12, "atol": 1e-13}

OBSERVABLES = {
    # Plain.
    "q": "charge(rescale)",
    "slope_u": "population_gradient(u)",
    "l": "loss",
    "trace": "hessian_trace",
    "top": "hessian_max",
    # Along the path.
    "work": "window_sum(next(loss) - loss, 0, 14)",
    "step_u": "window_sum(next(u) - u + learning_rate*gradient(u), 0, 14)",
    "noise": "window_sum(x*e, 3, 5)",
    "square": "window_mean(gradient(u)**2, 2, 6)",
    "given": "window_mean(gradient(u) - ((u*w*x - slope*x - sigma*e)*w*x), 0, 14)",
    "expected": "window_sum(population_gradient(w), 4, 9)",
    "rates": "window_sum(learning_rate, 2, 14)",
    "heat": "window_sum(next(charge(rescale)) - charge(rescale), 5, 11)",
    "states": "window_mean(u*w, 5, 11)",
    "largest": "window_max(u*w, 5, 11)",
    "steepest": "window_max(-gradient(u)**2, 2, 6)",
    "lost": "window_max(log(u - 0.9), 2, 13)",
    "at_start": "value_at(u, 0)",
    "at_five": "value_at(u*w, 5)",
    "up": "first_passage(u*w > 0.9)",
    "down": "first_passage(u < 0.8)",
    "begun": "first_passage(w > -5)",
    "never": "first_passage(u > 50)",
}


def make(loss: Loss, **fields: Any) -> Run:
    defaults: dict[str, Any] = {
        "loss": loss,
        "optimizer": Optimizer(),
        "schedule": SCHEDULE,
        "trajectories": N,
        "steps": STEPS,
        "seed": 3,
        "noise_dtype": "float64",
    }
    return Run(**{**defaults, **fields})


def net(**fields: Any) -> Run:
    recorder = Recorder(
        every=2,
        snapshots=ALL,
        observables=tuple(Observable.parse(name, text) for name, text in OBSERVABLES.items()),
        histograms={
            "u": Histogram(0.2, 1.4, 17),
            "q": Histogram(-0.1, 0.1, 5),
            "u,w": Plane(Histogram(0.5, 1.5, 6), Histogram(-0.2, 1.0, 7)),
            "w,q": Plane(Histogram(0.0, 0.6, 2), Histogram(-2.0, 2.0, 3)),
        },
        quantiles=(0.01, 0.25, 0.5, 0.9),
        covariances=True,
        autocorrelations={"u": Autocorrelation(3, (0, 1, 4, 9)), "q": Autocorrelation(0, (5,))},
        drifts={
            "u": Drift("u", Histogram(0.5, 1.5, 8)),
            "q": Drift("w", Histogram(-0.2, 0.8, 5), every=3, start=2),
            "w": Drift("q", Histogram(0.0, 1.0, 4), every=1, start=11),
        },
    )
    initial = {"u": Noise.parse("normal:1.1,0.2"), "w": Noise.parse("normal:0.4,0.2")}
    return make(CATALOGUE["rescaling"](constants=NET), initial=initial, **{"recorder": recorder, **fields})


def simulated(run: Run, target: str = "python", **options: Any) -> Ensemble:
    return simulate_runs([run], scenario="", device=target, **options)


@pytest.fixture(scope="module")
def ensemble() -> Ensemble:
    return simulated(net())


@pytest.fixture(scope="module")
def values(ensemble) -> dict[str, np.ndarray]:
    """The parameters and plain observables after every step, (step, trajectory)."""
    u, w = np.moveaxis(ensemble["theta"], -1, 0)
    hessian = naive.rescaling_hessian(u, w, NET["slope"])
    return {
        "u": u,
        "w": w,
        "q": (u**2 - w**2) / 2,
        "slope_u": (u * w - NET["slope"]) * w,
        "l": naive.rescaling_loss(u, w, **NET),
        "trace": np.trace(hessian, axis1=-2, axis2=-1),
        "top": np.linalg.eigvalsh(hessian)[..., -1],
    }


def measured(ensemble: Ensemble, name: str, record: int = -1) -> np.ndarray:
    """Mean, variance, skewness and excess kurtosis."""
    index = list(ensemble["observable"]).index(name)
    return np.array([ensemble[key][record, index] for key in ("mean", "variance", "skewness", "kurtosis")])


def test_records_stand_where_they_are_asked_for(ensemble):
    """Every other step, the last, and where a correlation looks."""
    assert ensemble["record_step"].tolist() == [0, 2, 3, 4, 5, 6, 7, 8, 10, 12, 14]
    assert ensemble["theta"].shape == (STEPS + 1, N, 2)


@pytest.mark.parametrize("name", ["u", "w", "q", "slope_u", "l", "trace", "top"])
def test_plain_observables_are_functions_of_the_state(name, ensemble, values):
    for record, step in enumerate(ensemble["record_step"]):
        expected = naive.central_moments(values[name][step])
        np.testing.assert_allclose(measured(ensemble, name, record), expected, rtol=1e-9, atol=1e-10)


# Pairs.


def test_covariances_are_those_of_numpy(ensemble, values):
    for record, step in enumerate(ensemble["record_step"]):
        expected = np.cov(values["u"][step], values["w"][step])
        np.testing.assert_allclose(ensemble["covariance"][record], expected, **CLOSE)
    errors = ensemble["covariance_stderr"]
    np.testing.assert_array_equal(errors[:, 0, 1], errors[:, 1, 0])
    # Two groups of 300 trajectories say little of an error: that of the variance comes from the fourth moment.
    assert (errors[:, [0, 1], [0, 1]] > 0).all()


def test_covariance_errors_are_those_of_independent_pairs():
    """Normal starts: var(s_xy) = (s_xx s_yy + s_xy^2)/n; 64 groups tell it to 9 %, and 5 of that are allowed."""
    names = {"x": Noise.parse("normal:1,2"), "y": Noise.parse("normal:0,0.5")}
    n = 64 * 256
    run = make(CATALOGUE["river_valley"](), initial=names, trajectories=n, steps=1, recorder=Recorder(covariances=True))
    found = simulated(run, "cpu")
    assert found["covariance_stderr"][0, 0, 1] == pytest.approx(2 * 0.5 / np.sqrt(n), rel=0.45)
    assert abs(found["covariance"][0, 0, 1]) < 5 * 2 * 0.5 / np.sqrt(n)  # a false-alarm rate of 6e-7


@pytest.mark.parametrize(("name", "start", "lags"), [("u", 3, (0, 1, 4, 9)), ("q", 0, (5,))])
def test_autocorrelations_are_those_of_numpy(name, start, lags, ensemble, values):
    expected = [np.corrcoef(values[name][start], values[name][start + lag])[0, 1] for lag in lags]
    np.testing.assert_allclose(ensemble[f"autocorrelation_{name}"], expected, **CLOSE)
    assert ensemble[f"lag_{name}"].tolist() == list(lags)
    assert (ensemble[f"autocorrelation_{name}_stderr"][np.array(lags) > 0] > 0).all()


def test_an_autocorrelation_of_what_some_have_at_one_time_only_is_not_given():
    """log(w) is no value where w has turned negative: the spreads would be those of other trajectories."""
    recorder = Recorder(
        observables=(Observable("a", "log(w)"), Observable("b", "log(1 + w**2)")),
        autocorrelations={name: Autocorrelation(1, (0, 6)) for name in ("a", "b")},
        snapshots=(1, 7),
    )
    found = simulated(net(recorder=recorder))
    early, late = found["theta"][..., 1]
    assert ((early > 0) != (late > 0)).any()
    same, later = found["autocorrelation_a"]
    assert same == pytest.approx(1, abs=1e-12)
    assert np.isnan(later)
    expected = np.corrcoef(np.log(1 + early**2), np.log(1 + late**2))[0, 1]
    np.testing.assert_allclose(found["autocorrelation_b"], [1, expected], **CLOSE)


def test_covariances_and_autocorrelations_do_not_mix():
    """Even where a parameter is called as the value at a step is."""
    names = ("u", "u_at_2")
    recorder = Recorder(covariances=True, autocorrelations={"u": Autocorrelation(3, (5,))}, snapshots=(3, 8))
    loss = Loss("u**2/2 + u*z + u_at_2**2/2 + u_at_2*z", names, noise={"z": Noise.parse("normal")})
    found = simulated(make(loss, initial=dict.fromkeys(names, Noise.parse("normal")), recorder=recorder))
    early, late = found["theta"][..., 0]
    np.testing.assert_allclose(found["autocorrelation_u"], [np.corrcoef(early, late)[0, 1]], **CLOSE)


# Histograms.


@pytest.mark.parametrize(("first", "second"), [("u", "w"), ("w", "q")])
def test_cells_count_what_numpy_counts(first, second, ensemble, values):
    label = f"{first}_{second}"
    edges = [ensemble[f"edges_{label}_{axis}"] for axis in (1, 2)]
    outside = 0
    for record, step in enumerate(ensemble["record_step"]):
        pair = values[first][step], values[second][step]
        expected = np.histogram2d(*pair, bins=edges)[0]
        np.testing.assert_array_equal(ensemble[f"histogram_{label}"][record], expected)
        assert ensemble[f"outside_{label}"][record] == N - expected.sum()
        outside += N - expected.sum()
    assert outside > 0


@pytest.mark.parametrize("name", ["u", "q"])
def test_quantiles_are_within_a_bin_of_those_of_the_sample(name, ensemble, values):
    edges, levels = ensemble[f"edges_{name}"], ensemble["quantile"]
    seen = 0
    for record, step in enumerate(ensemble["record_step"]):
        exact = np.quantile(values[name][step], levels, method="inverted_cdf")
        found, error = ensemble[f"quantile_{name}"][record], ensemble[f"quantile_{name}_stderr"][record]
        inside = (exact >= edges[0]) & (exact < edges[-1])
        np.testing.assert_array_equal(np.isfinite(found), inside)
        np.testing.assert_array_equal(np.isfinite(error), inside)
        assert (np.abs(found - exact)[inside] <= edges[1] - edges[0]).all()
        assert (error[inside] > 0).all()
        seen += inside.sum()
    assert 0 < seen < levels.size * len(ensemble["record_step"]) or name == "u"


# Drifts.


@pytest.mark.parametrize(
    ("name", "by", "steps"), [("u", "u", range(STEPS)), ("q", "w", range(2, STEPS, 3)), ("w", "q", range(11, STEPS))]
)
def test_drifts_are_those_of_the_snapshots(name, by, steps, ensemble, values):
    """Of successive states: counts exactly, first and second moments of the change to rounding."""
    # Bins of a drift that a histogram has other ones for are called after the drift.
    label = f"drift_{name}" if f"edges_drift_{name}" in ensemble else name
    edges = ensemble[f"edges_{label}"]
    before, after = (np.concatenate([values[name][step + more] for step in steps]) for more in (0, 1))
    at = np.concatenate([values[by][step] for step in steps])
    count, drift, diffusion = naive.changes_by_bin(at, after - before, edges)
    np.testing.assert_array_equal(ensemble[f"count_{name}"], count)
    np.testing.assert_allclose(ensemble[f"drift_{name}"], drift, rtol=1e-10, atol=1e-13)
    np.testing.assert_allclose(ensemble[f"diffusion_{name}"], diffusion, rtol=1e-10, atol=1e-13)
    assert count.sum() < len(at)
    assert (ensemble[f"drift_{name}_stderr"][count > 100] > 0).all()


# Along the path.


def rates() -> np.ndarray:
    return SCHEDULE.rates(STEPS)


def path(values: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Observables along the path, from the states and the gradients that plain SGD must have had."""
    u, w, q, loss = (values[name] for name in ("u", "w", "q", "l"))
    gradient = -np.diff(u, axis=0) / rates()[:, None]
    return {
        "work": loss[-1] - loss[0],
        "square": (gradient[2:6] ** 2).mean(axis=0),
        "expected": ((u * w - NET["slope"]) * u)[5:10].sum(axis=0),
        "heat": q[11] - q[5],
        "states": (u * w)[6:12].mean(axis=0),
        "largest": (u * w)[6:12].max(axis=0),
        "steepest": (-(gradient[2:6] ** 2)).max(axis=0),
        "lost": _max_of_logs(u[3:14] - 0.9),
        "at_start": u[0],
        "at_five": (u * w)[5],
        "up": naive.first_passage(u * w, 0.9),
        "down": naive.first_passage(-u, -0.8),
    }


def _max_of_logs(values: np.ndarray) -> np.ndarray:
    """Not a number where one of them is none."""
    with np.errstate(invalid="ignore"):
        return np.log(values).max(axis=0)


ALONG = ["work", "square", "expected", "heat", "states", "largest", "steepest", "lost", "at_start", "at_five", "up"]


@pytest.mark.parametrize("name", [*ALONG, "down"])
def test_what_runs_along_the_path(name, ensemble, values):
    expected = path(values)[name]
    alive = expected[np.isfinite(expected)]
    assert ensemble["count"][-1, list(ensemble["observable"]).index(name)] == len(alive)
    assert len(alive) == N or (len(alive) > 0 and name in ("up", "down", "lost"))
    np.testing.assert_allclose(measured(ensemble, name), naive.central_moments(alive), rtol=1e-9, atol=1e-10)


def test_a_maximum_has_no_value_before_its_window(ensemble, values):
    """Records see the largest value so far: NumPy's, which takes what is not a number for the largest of all."""
    index, names = list(ensemble["observable"]).index("largest"), ensemble["record_step"].tolist()
    largest = np.maximum.accumulate((values["u"] * values["w"])[6:12])
    for record, step in enumerate(names):
        count = ensemble["count"][record, index]
        assert count == (N if step > 5 else 0)
        if count:
            assert ensemble["mean"][record, index] == pytest.approx(largest[min(step, 11) - 6].mean(), rel=1e-12)
    assert any(step <= 5 for step in names)


@pytest.mark.filterwarnings("ignore:.*(overflow|invalid value) encountered")  # of a logarithm, in the simulator of CUDA
@pytest.mark.parametrize("target", COMPILED)
def test_every_target_has_the_same_maxima(target):
    names = ("largest", "steepest", "lost")
    recorder = Recorder(every=3, observables=tuple(Observable.parse(name, OBSERVABLES[name]) for name in names))
    run = replace(net(), recorder=recorder, trajectories=60)
    one, other = (simulated(run, device) for device in ("python", target))
    for field in ("mean", "variance", "count", "excluded"):
        np.testing.assert_array_equal(other[field], one[field])


def test_first_passages_count_from_the_start(ensemble, values):
    """What starts beyond the level has passed at 0; what never passes has no value; records see those until then."""
    index = list(ensemble["observable"]).index
    assert measured(ensemble, "begun")[0] == 0
    assert (ensemble["count"][:, index("begun")] == N).all()
    assert not ensemble["count"][:, index("never")].any()
    assert (ensemble["excluded"][:, index("never")] == N).all()
    assert np.isnan(measured(ensemble, "never")[0])
    passed = naive.first_passage(values["u"] * values["w"], 0.9)
    expected = [(passed <= step).sum() for step in ensemble["record_step"]]
    assert ensemble["count"][:, index("up")].tolist() == expected
    assert 0 < expected[0] < expected[-1] < N


def test_a_step_is_the_learning_rate_times_the_gradient(ensemble):
    """Of plain SGD, in every trajectory: what is left is rounding."""
    mean, variance, *_ = measured(ensemble, "step_u")
    assert abs(mean) < 1e-14
    assert variance < 1e-29
    mean, variance, *_ = measured(ensemble, "rates")
    assert mean == pytest.approx(rates()[2:].sum(), rel=1e-14)
    assert variance < 1e-28


def test_gradients_are_those_of_the_noise_that_is_seen(ensemble):
    """x and e of the step, state before it: the formula of the gradient by hand leaves rounding."""
    mean, variance, *_ = measured(ensemble, "given")
    assert abs(mean) < 1e-14
    assert variance < 1e-28
    assert measured(ensemble, "noise")[1] == pytest.approx(2, abs=5 * np.sqrt(2 * 2**2 * 4 / N))  # of two products


def test_a_batch_has_one_gradient():
    """With several samples a step too, gradient(u) is what the step was made with."""
    recorder = Recorder(observables=(Observable.parse("s", OBSERVABLES["step_u"]),), snapshots=(0, STEPS))
    found = simulated(net(optimizer=Optimizer(batch_size=3), recorder=recorder))
    mean, variance, *_ = measured(found, "s")
    assert abs(mean) < 1e-14
    assert variance < 1e-29


def assert_agree(one: Ensemble, two: Ensemble, rounding: tuple[str, ...] = ()) -> None:
    """Counts exactly; values of order one to 1e-12, and what divides small ones by each other to 1e-9."""
    assert set(one) == set(two)
    index = [i for i, name in enumerate(one["observable"]) if name not in rounding]
    for name in one:
        a, b = one[name], two[name]
        if a.dtype.kind != "f":
            np.testing.assert_array_equal(a, b, err_msg=name)
            continue
        if one.variables[name].dimensions[-1:] == ("observable",):
            a, b = a[..., index], b[..., index]
        loose = name.endswith("stderr") or name in ("skewness", "kurtosis")
        np.testing.assert_allclose(a, b, **({"rtol": 1e-9, "atol": 1e-10} if loose else CLOSE), err_msg=name)


@pytest.mark.validate
def test_compiled_recorders_agree(ensemble):
    """All of one run but what is rounding alone."""
    assert_agree(ensemble, simulated(net(), "cpu"), rounding=("step_u", "rates", "given"))


# Other runs.


def test_snapshots_of_the_first_trajectories():
    whole, part = (
        simulated(net(recorder=Recorder(snapshots=(0, 8), snapshot_trajectories=kept))) for kept in (None, 270)
    )
    assert part["theta"].shape == (2, 270, 2)
    assert part.variables["theta"].dimensions == ("snapshot", "snapshot_trajectory", "parameter")
    np.testing.assert_array_equal(part["theta"], whole["theta"][:, :270])
    np.testing.assert_array_equal(part["mean"], whole["mean"])


CUBIC = "a**4 + b**4/2 + a*b*c + c**2*a**2 + b*c**3/3 - a*c"


@pytest.mark.parametrize(
    ("formula", "names"),
    [("th**4/4 - th**2/2", ("th",)), (CUBIC, ("a", "b", "c")), ("a**2 + b**2 + c**2", tuple("abc"))],
)
def test_the_largest_eigenvalue_is_that_of_numpy(formula, names):
    """Of one and three parameters, and where all three are the same; the cubic's root to 1e-7 where they are near."""
    loss = Loss(formula, names)
    observables = (Observable.parse("top", "hessian_max"), Observable.parse("trace", "hessian_trace"))
    run = make(
        loss,
        initial=dict.fromkeys(names, Noise.parse("normal:0,0.8")),
        steps=1,
        schedule=Schedule("0.001"),
        recorder=Recorder(observables=observables, snapshots=(0, 1)),
    )
    found = simulated(run)
    if len(names) == 1:
        hessian = (3 * found["theta"] ** 2 - 1)[..., None]
    elif formula == CUBIC:
        a, b, c = np.moveaxis(found["theta"], -1, 0)
        rows = [
            [12 * a**2 + 2 * c**2, c, b + 4 * a * c - 1],
            [c, 6 * b**2, a + c**2],
            [b + 4 * a * c - 1, a + c**2, 2 * a**2 + 2 * b * c],
        ]
        hessian = np.moveaxis(np.array(rows), (0, 1), (-2, -1))
    else:
        hessian = np.broadcast_to(2 * np.eye(3), (2, N, 3, 3))
    top = np.linalg.eigvalsh(hessian)[..., -1]
    trace = np.trace(hessian, axis1=-2, axis2=-1)
    for record in (0, 1):
        mean, variance, *_ = measured(found, "top", record)
        assert mean == pytest.approx(top[record].mean(), rel=1e-9)
        assert variance == pytest.approx(top[record].var(ddof=1), rel=1e-9, abs=1e-12)
        assert measured(found, "trace", record)[0] == pytest.approx(trace[record].mean(), rel=1e-12)


def test_diverged_trajectories_enter_nothing():
    """Starts beyond |x| = 2/sqrt(eta) grow as the cube at every step; the others decay."""
    names = ("x", "y")
    recorder = Recorder(
        every=1,
        snapshots=tuple(range(13)),
        observables=(
            Observable.parse("m", "window_mean(x, 0, 12)"),
            Observable.parse("g", "window_sum(gradient(x)*0 + next(y) - y, 0, 12)"),
            Observable.parse("p", "first_passage(y > 0.3)"),
            Observable.parse("v", "value_at(y, 2)"),
            Observable.parse("one", "value_at(1, 6)"),
        ),
        histograms={"x": Histogram(-3, 3, 6), "x,y": Plane(Histogram(-3, 3, 6), Histogram(-3, 3, 6))},
        quantiles=(0.5,),
        covariances=True,
        autocorrelations={"y": Autocorrelation(2, (0, 9))},
        drifts={"y": Drift("x", Histogram(-10, 10, 4)), "x": Drift("y", Histogram(-3, 3, 3))},
    )
    run = make(
        Loss("x**4/4 + y**2/2 + z*y", names, noise={"z": Noise.parse("normal")}),
        initial={"x": Noise.parse("normal:0,4"), "y": Noise.parse("normal")},
        schedule=Schedule("0.1"),
        steps=12,
        recorder=recorder,
    )
    found = simulated(run)
    x, y = np.moveaxis(found["theta"], -1, 0)
    alive = (np.abs(x) <= 1e100) & (np.abs(y) <= 1e100)
    x, y = np.where(alive, x, np.nan), np.where(alive, y, np.nan)
    counts = alive.sum(axis=1)
    assert N / 4 < counts[-1] < N * 3 / 4
    assert len(set(counts)) > 2  # not all at once
    np.testing.assert_array_equal(found["status"] > 0, ~alive[-1])
    np.testing.assert_array_equal(found["count"][:, 0], counts)
    np.testing.assert_array_equal(found["excluded"][:, 0], N - counts)
    end, early = alive[-1], alive[4]  # all have been looked at after four steps
    assert early.sum() > end.sum()
    passed = np.isfinite(naive.first_passage(y, 0.3))[end].sum()
    # A number has a value where no trajectory is alive, and in the padding of a tile; it is measured in none of them.
    known = [early.sum(), alive[8].sum()]
    assert found["count"][-1, 2:].tolist() == [end.sum(), end.sum(), passed, *known, end.sum()]
    running = {
        "m": x[1:].mean(axis=0)[end],
        "g": (y[-1] - y[0])[end],
        "v": y[2][early],
        "y_at_2": y[2][end],
    }
    for name, expected in running.items():
        np.testing.assert_allclose(measured(found, name), naive.central_moments(expected), rtol=1e-9, atol=1e-10)
    for record in (11, 12):
        pair = x[record][alive[record]], y[record][alive[record]]
        np.testing.assert_allclose(found["covariance"][record], np.cov(*pair), **CLOSE)
        cells = np.histogram2d(*pair, bins=[found["edges_x_y_1"], found["edges_x_y_2"]])[0]
        np.testing.assert_array_equal(found["histogram_x_y"][record], cells)
        assert found["outside_x_y"][record] == counts[record] - cells.sum()
        np.testing.assert_array_equal(found["histogram_x"][record], np.histogram(pair[0], found["edges_x"])[0])
        assert found["underflow_x"][record] + found["overflow_x"][record] == (np.abs(pair[0]) > 3).sum()
        assert abs(found["quantile_x"][record, 0] - np.median(pair[0])) < 1
    correlations = [np.corrcoef(y[2][alive[2 + lag]], y[2 + lag][alive[2 + lag]])[0, 1] for lag in (0, 9)]
    np.testing.assert_allclose(found["autocorrelation_y"], correlations, **CLOSE)
    for name, by, values in (("y", x, y), ("x", y, x)):
        label = f"drift_{name}" if f"edges_drift_{name}" in found else name
        change = np.diff(values, axis=0).reshape(-1)
        count, drift, _ = naive.changes_by_bin(by[:-1].reshape(-1), change, found[f"edges_{label}"])
        np.testing.assert_array_equal(found[f"count_{name}"], count)
        if name == "y":  # changes of x reach 1e99, whose sums round as they come
            np.testing.assert_allclose(found[f"drift_{name}"], drift, rtol=1e-10, atol=1e-13)


def everything(trajectories: int) -> Run:
    """A data set in epochs, Adam, and every recorder."""
    rng = np.random.default_rng(0)
    data = Data({"x": tuple(rng.normal(size=7)), "z": tuple(rng.normal(size=7))})
    observables = {
        "l": "loss",
        "m": "window_mean(a*b, 3, 21)",
        "work": "window_sum(next(loss) - loss, 0, 22)",
        "g": "window_sum(gradient(a)*learning_rate, 5, 18)",
        "p": "first_passage(a > 0.6)",
    }
    recorder = Recorder(
        every=5,
        snapshots=(0, 3, 22),
        observables=tuple(Observable.parse(name, text) for name, text in observables.items()),
        histograms={"a": Histogram(-1, 1, 10), "a,b": Plane(Histogram(-1, 1, 4), Histogram(-1, 1, 5))},
        snapshot_trajectories=trajectories // 2 + 5,
        quantiles=(0.5,),
        covariances=True,
        autocorrelations={"a": Autocorrelation(6, (1, 7))},
        drifts={"a": Drift("a", Histogram(-1, 1, 6)), "b": Drift("l", Histogram(0, 2, 6), 3, 2)},
    )
    return make(
        Loss("(a*b*x - z)**2/2 + s*n*a", ("a", "b"), {"s": 0.1}, {"n": Noise.parse("normal")}, data=data),
        optimizer=Optimizer("adam", batch_size=2, sampling="epoch"),
        initial={"a": Noise.parse("normal:0.3,0.3"), "b": 0.5},
        trajectories=trajectories,
        steps=22,
        recorder=recorder,
    )


@pytest.mark.validate  # 20 s, nearly all of it compilation
def test_no_recorder_depends_on_the_target_or_how_the_run_is_cut():
    """Targets to rounding; threads, spans that end in the middle of epochs, and blocks to every stored bit."""
    run = everything(700)
    reference = simulated(run, "cpu", threads=1)
    assert np.isfinite(reference["mean"][-1]).all()
    assert_agree(simulated(run), reference)
    for threads, span, block in [(2, 4, 256), (1, 8, 512), (2, None, 100_000), (2, 20, 256)]:
        cut = simulated(run, "cpu", threads=threads, span_steps=span, block_trajectories=block)
        differ = [name for name in reference if reference[name].tobytes() != cut[name].tobytes()]
        assert cut.digest() == reference.digest(), (threads, span, block, differ)


@pytest.mark.parametrize(
    ("observables", "histograms", "fields", "name"),
    [
        ({"u_w": "u*w"}, {"u_w": [0, 1, 3], "u,w": [0, 1, 3, 0, 1, 3]}, {}, "histogram_u_w"),
        ({"u_stderr": "u"}, {"u": [0, 1, 3], "u_stderr": [0, 1, 3]}, {"quantiles": (0.5,)}, "quantile_u_stderr"),
        ({"u_w_1": "u"}, {"u_w_1": [0, 1, 3], "u,w": [0, 1, 4, 0, 1, 3]}, {}, "bin_u_w_1"),
    ],
)
def test_variables_of_one_name_are_refused_before_the_run(observables, histograms, fields, name):
    """They would overwrite each other, or fail after hours."""
    with pytest.raises(InputError, match=f"makes a variable '{name}'"):
        simulate(
            CATALOGUE["rescaling"](),
            learning_rate=0.1,
            initial={"u": 1.0, "w": 1.0},
            trajectories=10,
            steps=1,
            device="python",
            observables=observables,
            histograms=histograms,
            **fields,
        )


def test_every_variable_of_a_recorder_is_foreseen():
    """What `check_names` compares is what is written."""
    ensemble = simulate(
        CATALOGUE["rescaling"](),
        learning_rate=0.1,
        initial={"u": 1.0, "w": "normal"},
        trajectories=300,
        steps=2,
        device="python",
        histograms={"u": [0, 2, 3], "u,w": [0, 2, 3, -1, 1, 3]},
        quantiles=(0.5,),
        autocorrelations={"w": Autocorrelation(0, (1,))},
        drifts={"u": Drift("w", Histogram(-1, 1, 4)), "w": Drift("w", Histogram(-1, 1, 4))},
    )
    run = Run(
        CATALOGUE["rescaling"](),
        Optimizer(),
        Schedule("0.1"),
        {"u": 1.0, "w": 0.0},
        300,
        2,
        recorder=Recorder(
            histograms={"u": Histogram(0, 2, 3), "u,w": Plane(Histogram(0, 2, 3), Histogram(-1, 1, 3))},
            quantiles=(0.5,),
            autocorrelations={"w": Autocorrelation(0, (1,))},
            drifts={"u": Drift("w", Histogram(-1, 1, 4)), "w": Drift("w", Histogram(-1, 1, 4))},
        ),
    )
    foreseen = {name for _, names in recorded_statistics._names(run) for name in names}
    kinds = (
        "histogram",
        "underflow",
        "overflow",
        "outside",
        "quantile_",
        "autocorrelation",
        "drift",
        "diffusion",
        "count_",
    )
    written = {name for name in ensemble.variables if name.startswith((*kinds, "bin_", "edge", "lag_"))}
    assert written <= foreseen
