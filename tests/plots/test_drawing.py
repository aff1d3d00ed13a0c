"""Figures: what is drawn is what was estimated and predicted; the same bytes each time; no global state."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import matplotlib as mpl
import numpy as np
import pytest
from click.testing import CliRunner
from scipy import stats

from sgdsim import Loss, simulate
from sgdsim.app import figures
from sgdsim.app.cli import main
from sgdsim.app.workflow import run_scenario
from sgdsim.base import toml
from sgdsim.base.errors import InputError, RunError
from sgdsim.ensemble import Ensemble, Variable
from sgdsim.input import loading
from sgdsim.input.scenario import Scenario
from sgdsim.plots import drawing, render
from sgdsim.plots.along import predictions_along
from sgdsim.plots.render import ERRORS
from sgdsim.plots.style import RIVAL, THEORY
from sgdsim.plots.subject import Subject
from sgdsim.prediction import (
    Correlation,
    Curve,
    Density,
    Distance,
    Function,
    Moment,
    PathMean,
    Prediction,
    Rival,
)
from sgdsim.statistics import estimators
from sgdsim.statistics.order_test import Series, order_test
from sgdsim.theory import find_law
from tests.samples import daily
from tests.statistics.test_estimators import EDGES, LANES, stacked, synthetic, with_histogram

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

N = 64 * LANES * 16
STEPS = (0, 5, 10, 20)
RATES = (0.1, 0.2, 0.3, 0.4, 0.6)
SCENARIO: dict[str, Any] = {
    "title": "A valley worth 5$ and no more$",
    "loss": {
        "formula": "a*x**2/2 + s*z*x",
        "parameters": {"x": 1.0},
        "constants": {"a": 1.0, "s": 0.5},
        "noise": {"z": "normal"},
    },
    "optimizer": {"learning_rate": "wsd:0.2,5,10"},
    "run": {"trajectories": 400, "steps": 24, "seed": 3},
    "record": {
        "every": 4,
        "snapshots": [8, 16, "final"],
        "observables": {"energy": "a*x**2/2"},
        "histograms": {"energy": [0.0, 0.5, 20], "x,energy": [-1, 1, 4, 0, 1, 4]},
        "drift": {"x": {"bins": [-0.5, 1.0, 12]}},
    },
    "predict": [{"id": "valley"}],
}


def normal_cdf(values: np.ndarray) -> np.ndarray:
    return np.asarray(stats.norm.cdf(values))


def claim(statistic: str, predicted: float, step: int, **options: Any) -> Prediction:
    return Prediction("user-1", f"{statistic}(x)", Moment(statistic, "x", step), predicted, **options)


def draw(ensemble: Ensemble, predictions: Iterable[Prediction] = (), *given: Any, **looks: Any) -> Figure:
    """With residuals, which are there where they are asked for."""
    return drawing.draw(ensemble, predictions, *given, **{"residuals": True, **looks})


def draw_parts(parts: Sequence[tuple[str, Ensemble, Sequence[Prediction]]]) -> Figure:
    subjects = {name: Subject(ensemble, predictions) for name, ensemble, predictions in parts}
    return drawing.draw_parts(subjects, residuals=True)


def bare(text: str) -> str:
    """A typeset text without what typesets it."""
    return re.sub(r"[${}]", "", text)


def axes_of(figure: Figure, panel: int = 0) -> tuple[Axes, Axes | None]:
    """A panel, and what stands below it."""
    tall = [axes for axes in figure.axes if axes.get_title(loc="left")]
    axes = tall[panel]
    below = [other for other in axes.get_shared_x_axes().get_siblings(axes) if other is not axes]
    return axes, below[0] if below else None


def measured(axes: Axes, number: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """x, y and standard errors of what is drawn with error bars."""
    line, _, (bars,) = axes.containers[number]
    ends = np.array([segment[:, 1] for segment in bars.get_segments()])
    return line.get_xdata(), line.get_ydata(), (ends[:, 1] - ends[:, 0]) / (2 * ERRORS)


def theory(axes: Axes) -> list[tuple[np.ndarray, np.ndarray]]:
    return [(line.get_xdata(), line.get_ydata()) for line in axes.lines if line.get_color() == "#000000"]


def residuals(axes: Axes | None) -> list[tuple[np.ndarray, np.ndarray]]:
    assert axes is not None
    return [(line.get_xdata(), line.get_ydata()) for line in axes.lines if line.get_marker() not in ("None", "")]


def band(axes: Axes | None) -> float:
    """Height of the dashed lines."""
    assert axes is not None
    return max(float(line.get_ydata()[0]) for line in axes.lines if line.get_marker() in ("None", ""))


def texts(figure: Figure) -> str:
    legends = [text.get_text() for legend in figure.legends for text in legend.get_texts()]
    return "\n".join([*(text.get_text() for text in figure.texts), *legends])


def words(figure: Figure) -> str:
    return texts(figure).replace("\n", " ")


@pytest.fixture
def laid_out() -> None:
    """For tests that look at places, sizes or bytes: the layout is computed as for users."""


@pytest.fixture(autouse=True)
def data_alone(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """For all other tests, which look at what is drawn, the layout is left out: it takes most of the time."""
    if "laid_out" not in request.fixturenames:
        monkeypatch.setattr(render, "_check_layout", lambda figure, panels: None)


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file with something for every kind but a sweep and an order."""
    file = tmp_path_factory.mktemp("figures") / "valley.h5"
    scenario = loading.scenario_from(SCENARIO, "valley", "here")
    run_scenario(scenario, file, device="python")
    return file


@pytest.fixture(scope="module")
def relaxing() -> Ensemble:
    """x ~ N(exp(-t/10), 1)."""
    rng = np.random.default_rng(1)
    records = [{"x": rng.normal(np.exp(-step / 10), 1.0, N)} for step in STEPS]
    snapshots = {step: {"x": record["x"]} for step, record in zip(STEPS, records, strict=True)}
    return synthetic(records, STEPS, snapshots)


@pytest.fixture(scope="module")
def sweep() -> Ensemble:
    """x ~ N(0, eta/2 + eta^2/4) at five learning rates."""
    rng = np.random.default_rng(2)
    points = [synthetic([{"x": np.sqrt(eta / 2 + eta**2 / 4) * rng.normal(size=N)}]) for eta in RATES]
    found = stacked(points)
    rates = Variable(("point",), np.array(RATES))
    return Ensemble({**found.variables, "sweep_optimizer.learning_rate": rates}, found.attributes)


# The numbers.


@pytest.mark.parametrize("statistic", ["mean", "variance"])
def test_moments_and_their_residuals_are_those_of_the_estimates(relaxing: Ensemble, statistic: str) -> None:
    """True predictions: some residual leaves the outer band with probability 1e-3; a wrong one does."""
    true = [float(np.exp(-step / 10)) if statistic == "mean" else 1.0 for step in STEPS]
    figure = draw(relaxing, [claim(statistic, value, step) for value, step in zip(true, STEPS, strict=True)])
    axes, below = axes_of(figure)
    estimates = [estimators.statistic(relaxing, statistic, "x", step) for step in STEPS]
    x, y, errors = measured(axes)
    assert list(x) == list(STEPS)
    assert y == pytest.approx([one.value for one in estimates], rel=1e-12)
    assert errors == pytest.approx([one.stderr for one in estimates], rel=1e-9)
    ((at, predicted),) = theory(axes)
    assert list(at) == list(STEPS)
    assert list(predicted) == true
    ((_, z),) = residuals(below)
    assert z == pytest.approx([(one.value - t) / one.stderr for one, t in zip(estimates, true, strict=True)])
    assert band(below) == pytest.approx(stats.t.ppf(1 - 1e-3 / 2 / len(STEPS), 63))
    assert np.abs(z).max() < band(below)

    wrong = draw(relaxing, [claim(statistic, 1.1 * value, step) for value, step in zip(true, STEPS, strict=True)])
    assert np.abs(residuals(axes_of(wrong)[1])[0][1]).max() > band(axes_of(wrong)[1])


@pytest.mark.parametrize("kind", daily(["moments", "numbers", "sweep"], "moments"))
def test_residuals_are_from_what_a_claim_allows(relaxing: Ensemble, sweep: Ensemble, kind: str) -> None:
    """As the z of its verdict: none within a tolerance or a bound, beyond them from their edge."""
    ensemble, step, point = (sweep, 0, 0) if kind == "sweep" else (relaxing, 10, None)
    moment = Moment("variance", "x", step, point)
    measure = Function("function", lambda value: value, (moment,)) if kind == "numbers" else moment
    found = estimators.statistic(sweep.select(0) if kind == "sweep" else relaxing, "variance", "x", step)
    value, off = found.value, 5 * found.stderr
    for allowed, z in (((0.0, 0.0), 5.0), ((off, off / 5), 4.0), ((off, 2 * off), 0.0), ((0.0, np.inf), 0.0)):
        row = Prediction("user-1", "variance(x)", measure, value - off, point=point, allowed=allowed)
        axes = axes_of(draw(ensemble, [row], *(["sweep"] if kind == "sweep" else [])))[1]
        assert [z for _, drawn in residuals(axes) for z in drawn] == pytest.approx([z], abs=1e-9), allowed


def test_a_curve_is_drawn_as_its_moments(relaxing: Ensemble) -> None:
    moments = tuple(Moment("mean", "x", step) for step in STEPS)
    curve = Prediction("user-1", "mean(x)", Curve(moments, (1.0, 0.6, 0.4, 0.1)), np.nan)
    ((x, y),) = theory(axes_of(draw(relaxing, [curve]))[0])
    assert (list(x), list(y)) == (list(STEPS), [1.0, 0.6, 0.4, 0.1])


def test_a_rival_is_drawn_where_the_prediction_is(relaxing: Ensemble) -> None:
    rival = Rival("leading order", 0.5)
    axes, _ = axes_of(draw(relaxing, [claim("variance", 1.0, step, rival=rival) for step in STEPS]))
    (line,) = [line for line in axes.lines if line.get_label() == "leading order"]
    assert (list(line.get_xdata()), list(line.get_ydata())) == (list(STEPS), [0.5] * len(STEPS))
    assert line.is_dashed()


def test_predictions_at_single_steps_are_not_joined(relaxing: Ensemble) -> None:
    axes, _ = axes_of(draw(relaxing, [claim("mean", 1.0, 0), claim("mean", 0.1, 20)]))
    (line,) = [line for line in axes.lines if line.get_color() == "#000000"]
    assert line.get_linestyle() == "None"
    assert line.get_marker() == "D"


def test_a_sweep_against_learning_rates_with_rivals(sweep: Ensemble) -> None:
    true = [eta / 2 + eta**2 / 4 for eta in RATES]
    predictions = [
        claim("variance", value, 0, point=point, rival=Rival("leading order", RATES[point] / 2))
        for point, value in enumerate(true)
    ]
    figure = draw(sweep, predictions)
    assert figure.get_label() == "sweep"
    axes, below = axes_of(figure)
    assert below is not None
    assert below.get_xlabel() == r"learning rate ${\eta}$"
    x, y, errors = measured(axes)
    estimates = [estimators.statistic(sweep.select(point), "variance", "x", 0) for point in range(5)]
    assert list(x) == list(RATES)
    assert y == pytest.approx([one.value for one in estimates])
    assert errors == pytest.approx([one.stderr for one in estimates])
    assert list(theory(axes)[0][1]) == true
    (rival,) = [line for line in axes.lines if line.get_label() == "leading order"]
    assert list(rival.get_ydata()) == [eta / 2 for eta in RATES]
    assert rival.is_dashed()
    ((_, z),) = residuals(below)
    assert z == pytest.approx([(one.value - t) / one.stderr for one, t in zip(estimates, true, strict=True)])


def test_functions_of_several_points_stand_between_them(sweep: Ensemble) -> None:
    """A difference of two points, and a correlation that was not recorded."""
    rows = [
        Prediction(
            "heat-capacity",
            f"slope, points {point} to {point + 1}",
            Function("secant", lambda a, b: b - a, tuple(Moment("mean", "x", 0, p) for p in (point, point + 1))),
            0.0,
        )
        for point in range(4)
    ]
    missing = Prediction("correlations", "correlation of x, lag 1", Correlation("x", (8, 9)), 0.5, point=0)
    figure = draw(sweep, [*rows, missing])
    axes, _ = axes_of(figure)
    assert axes.get_title(loc="left") == "slope"
    assert measured(axes)[0] == pytest.approx([0.15, 0.25, 0.35, 0.5])
    assert "Left out: correlation of x, lag 1 (there are no snapshots)." in words(figure)


def test_a_grid_makes_a_series_of_each_value_of_the_other_key(sweep: Ensemble) -> None:
    """And texts are no numbers to draw lines between."""
    keys = {
        "sweep_loss.constants.a": Variable(("point",), np.array([1.0, 1.0, 2.0, 2.0, 2.0])),
        "sweep_optimizer.learning_rate": Variable(("point",), np.array([0.1, 0.2, 0.1, 0.2, 0.3])),
    }
    axes, _ = axes_of(draw(Ensemble({**sweep.variables, **keys}, sweep.attributes)))
    assert [bare(container.get_label()) for container in axes.containers] == ["a = 1.0", "a = 2.0"]
    assert [list(measured(axes, number)[0]) for number in (0, 1)] == [[0.1, 0.2], [0.1, 0.2, 0.3]]
    kept = {name: one for name, one in sweep.variables.items() if not name.startswith("sweep_")}
    kinds = Variable(("point",), np.array(["sgd", "adam", "rmsprop", "lion", "signsgd"]))
    predictions = [claim("variance", 1.0, 0, point=point) for point in range(5)]
    axes, below = axes_of(draw(Ensemble({**kept, "sweep_optimizer.name": kinds}, sweep.attributes), predictions))
    assert below is not None
    assert [label.get_text() for label in below.get_xticklabels()] == list(kinds.data)
    assert theory(axes)[0][0].tolist() == [0, 1, 2, 3, 4]
    assert [line.get_linestyle() for line in axes.lines if line.get_color() == "#000000"] == ["None"]


def test_an_order_test_draws_the_residual_and_the_fit_that_decides(sweep: Ensemble) -> None:
    predictions = [claim("variance", eta / 2, 0, order=1, point=point, small=eta) for point, eta in enumerate(RATES)]
    figure = draw(sweep, predictions, "order")
    axes, below = axes_of(figure)
    estimates = [estimators.statistic(sweep.select(point), "variance", "x", 0) for point in range(5)]
    rates = np.array(RATES)
    x, y, errors = measured(axes)
    residual = np.array([one.value for one in estimates]) - rates / 2
    assert list(x) == list(RATES)
    assert y == pytest.approx(residual)
    assert errors == pytest.approx([one.stderr for one in estimates])
    test = order_test(Series(rates, estimates, rates / 2, 1), 1e-3)
    fitted = sum(c * rates ** (test.power + k) for k, c in enumerate(test.fit.coefficients))
    assert residuals(below)[0][1] == pytest.approx((residual - fitted) / [one.stderr for one in estimates])
    assert axes.get_yscale() == "log"
    assert f"{test.fit.coefficients[1]:.3g} η²" in words(figure)
    assert below.get_xlabel() == r"learning rate ${\eta}$"


def test_an_order_test_is_drawn_against_what_is_small(sweep: Ensemble) -> None:
    named = {"order": 1, "small_name": "sigma^2"}
    predictions = [claim("variance", eta / 2, 0, point=point, small=eta, **named) for point, eta in enumerate(RATES)]
    figure = draw(sweep, predictions, "order")
    assert axes_of(figure)[1].get_xlabel() == "sigma^2"
    assert " ε²" in words(figure)
    assert "η" not in words(figure)


def test_an_order_test_of_a_mean_over_paths_is_drawn() -> None:
    rng = np.random.default_rng(4)
    values = [np.sqrt(eta) * rng.normal(size=N) for eta in RATES]
    found = stacked([synthetic([{"x": one}], (0,), {0: {"x": one}}) for one in values])
    rates = Variable(("point",), np.array(RATES))
    ensemble = Ensemble({**found.variables, "sweep_optimizer.learning_rate": rates}, found.attributes)
    measure = PathMean("x", (0,), lambda path: path[0] ** 2)
    rows = [Prediction("user-1", "squares", measure, 0.0, 0, point=point, small=eta) for point, eta in enumerate(RATES)]
    axes, _ = axes_of(draw(ensemble, rows, "order"))
    assert measured(axes)[1] == pytest.approx([np.mean(one**2) for one in values])


@pytest.mark.parametrize("recorded", ["histogram", "snapshot"])
def test_a_density_is_that_of_its_counts(relaxing: Ensemble, recorded: str) -> None:
    """Standard normal at the only record; residuals leave the band with probability 1e-3, those of N(0, 1.3) do."""
    values = np.random.default_rng(5).normal(size=N)
    ensemble = synthetic([{"x": values}], (7,), {7: {"x": values}})
    if recorded == "histogram":
        ensemble = with_histogram(ensemble, "x", values, EDGES)
    measure = Density("x", 7, normal_cdf) if recorded == "histogram" else Distance("x", 7, normal_cdf)
    figure = draw(ensemble, [Prediction("user-1", "density(x)", measure, 0.0)])
    assert figure.get_label() == "density"
    axes, below = axes_of(figure)
    (points,) = [line for line in axes.lines if line.get_color() != "#000000"]
    centres, density = points.get_xdata(), points.get_ydata()
    width = centres[1] - centres[0]
    edges = np.append(centres - width / 2, centres[-1] + width / 2)
    counts, _ = np.histogram(values, edges)
    assert density == pytest.approx(counts / (N * width))
    p = np.diff(normal_cdf(edges))
    ((x, y),) = theory(axes)
    assert len(x) > 5 * len(centres)  # a smooth curve, however few the bins are
    assert np.interp(centres, x, y) == pytest.approx(p / width)  # and the mean density of each bin at its middle
    assert y == pytest.approx((normal_cdf(x + width / 2) - normal_cdf(x - width / 2)) / width)
    ((at, z),) = residuals(below)
    enough = np.isin(centres.round(9), at.round(9))
    assert enough.sum() == len(at) > 5
    assert z == pytest.approx(((counts - N * p) / np.sqrt(N * p * (1 - p)))[enough], abs=1e-9)
    assert np.abs(z).max() < band(below)
    wrong = Distance("x", 7, lambda values: normal_cdf(values / 1.3))
    below = axes_of(draw(ensemble, [Prediction("user-1", "density(x)", wrong, 0.0)]))[1]
    assert np.abs(residuals(below)[0][1]).max() > band(below)


def test_a_density_that_must_be_rejected_is_grey_and_has_no_residuals(relaxing: Ensemble) -> None:
    right = Prediction("user-1", "density(x)", Distance("x", 20, lambda x: normal_cdf(x - np.exp(-2))), 0.0)
    wrong = Prediction("user-2", "density(x)", Distance("x", 20, normal_cdf), 0.0, expect="disagrees")
    axes, below = axes_of(draw(relaxing, [right, wrong], "density"))
    assert (len(theory(axes)), len(residuals(below))) == (1, 1)
    (control,) = [line for line in axes.lines if "user-2" in str(line.get_label())]
    assert control.get_color() == RIVAL
    assert axes_of(draw(relaxing, [wrong], "density"))[1] is None


def test_mirrored_pairs_are_not_counted_as_independent(relaxing: Ensemble) -> None:
    ensemble = Ensemble(relaxing.variables, {**relaxing.attributes, "antithetic": 1})
    distance = Prediction("valley", "distribution of x", Distance("x", 20, normal_cdf), 0.0)
    figure = draw(ensemble, [distance], "density")
    assert axes_of(figure)[1] is None
    assert "mirrored pairs" in words(figure)


def test_drifts_are_those_of_the_file(path: Path) -> None:
    ensemble = Ensemble.open(path)
    figure = draw(ensemble, kind="drift")
    for panel, kind in enumerate(("drift", "diffusion")):
        axes, below = axes_of(figure, panel)
        seen = ensemble["count_x"] > 0
        x, y, errors = measured(axes)
        assert x == pytest.approx(ensemble["bin_x"])
        assert y[seen] == pytest.approx(ensemble[f"{kind}_x"][seen])
        known = np.isfinite(ensemble[f"{kind}_x_stderr"]) & seen
        assert errors[known] == pytest.approx(ensemble[f"{kind}_x_stderr"][known])
        assert below is not None
        assert below.patches[0].get_data().values == pytest.approx(ensemble["count_x"])


def test_the_schedule_is_that_of_the_scenario_and_of_the_records(path: Path) -> None:
    figure = draw(Ensemble.open(path), kind="schedule")
    axes, below = axes_of(figure)
    rates = Scenario.parse(toml.dumps(SCENARIO)).runs[0].schedule.rates(24)
    recorded, every = axes.lines[:2]
    assert below is None
    assert list(recorded.get_xdata()) == [4, 8, 12, 16, 20, 24]
    assert recorded.get_ydata() == pytest.approx(rates[3::4])
    assert list(every.get_xdata()) == list(range(1, 25))
    assert every.get_ydata() == pytest.approx(rates)
    assert [line.get_xdata()[0] for line in axes.lines[2:]] == [5, 15]
    assert "warm-up ends at step 5" in texts(figure)
    assert "decay begins after step 15" in texts(figure)


def test_trajectories_are_paths_within_quantiles(relaxing: Ensemble) -> None:
    axes, _ = axes_of(draw(relaxing, kind="trajectories"))
    theta = relaxing["theta"][:, :, 0]
    median, *paths = axes.lines
    assert median.get_ydata() == pytest.approx(np.median(theta, axis=1))
    assert [list(line.get_ydata()) for line in paths] == [theta[:, i].tolist() for i in range(5)]
    wide = axes.collections[0].get_paths()[0].vertices
    assert wide[:, 1].max() == pytest.approx(np.quantile(theta, 0.95, axis=1).max())


# Numbers that no panel of the kind draws.


def fall(step: int, predicted: float) -> Prediction:
    moments = (Moment("mean", "x", step - 5), Moment("mean", "x", step))
    measure = Function("fall", lambda a, b: a - b, moments)
    return Prediction("second-law", f"fall of x, steps {step - 5} to {step}", measure, predicted)


def test_a_number_predicted_at_several_steps_is_drawn_against_them(relaxing: Ensemble) -> None:
    """x falls as exp(-t/10); were it half as much, a residual would leave the outer band."""
    true = [float(np.exp(-(step - 5) / 10) - np.exp(-step / 10)) for step in (5, 10)]
    figure = draw(relaxing, [fall(5, true[0]), fall(10, true[1])])
    axes, below = axes_of(figure)
    estimates = [estimators.statistic(relaxing, "mean", "x", step).value for step in (0, 5, 10)]
    assert axes.get_title(loc="left") == "fall of x"
    assert list(measured(axes)[0]) == [5, 10]
    assert measured(axes)[1] == pytest.approx(-np.diff(estimates))
    assert [y.tolist() for _, y in theory(axes)] == [true]
    assert np.abs(residuals(below)[0][1]).max() < band(below)
    below = axes_of(draw(relaxing, [fall(5, true[0] / 2), fall(10, true[1] / 2)]))[1]
    assert np.abs(residuals(below)[0][1]).max() > band(below)


def test_other_numbers_stand_side_by_side_and_controls_without_residuals(relaxing: Ensemble) -> None:
    square = PathMean("x", (20,), lambda path: path[0] ** 2)
    rows = [
        Prediction("hatano-sasa", "<x^2>", square, 1.0 + float(np.exp(-4))),
        Prediction("hatano-sasa", "<x^2>, wrong", square, 3.0, expect="disagrees"),
    ]
    axes, below = axes_of(draw(relaxing, rows))
    assert below is not None
    assert [label.get_text() for label in below.get_xticklabels()] == ["<x^2>", "<x^2>, wrong"]
    assert measured(axes)[1] == pytest.approx([np.mean(relaxing["theta"][-1] ** 2)] * 2)
    assert theory(axes)[0][1].tolist() == [1.0 + float(np.exp(-4))]
    assert len(residuals(below)[0][1]) == 1


def test_what_a_predicted_number_allows_is_drawn_as_a_bar(relaxing: Ensemble) -> None:
    """A measurement five errors away, within a tolerance of a half percent, looked like a failure."""
    square = PathMean("x", (20,), lambda path: path[0] ** 2)
    number = Prediction("hatano-sasa", "<x^2>", square, 1.0)
    for allowed, drawn in (((0.25, 0.5), [(0.75, 1.5)]), ((0.0, 0.0), []), ((np.inf, 0.0), [])):
        axes, _ = axes_of(draw(relaxing, [replace(number, allowed=allowed)]))
        bars = [one for one in axes.collections if np.allclose(one.get_color(), mpl.colors.to_rgba(THEORY))]
        ends = [tuple(np.asarray(segment)[:, 1].tolist()) for one in bars for segment in one.get_segments()]  # type: ignore[attr-defined]
        assert ends == drawn
        assert any("what they allow" in text.get_text() for text in axes.figure.texts) == bool(drawn)


def test_numbers_without_a_standard_error_have_no_residuals() -> None:
    """One chunk has none: axes of residuals would have no height."""
    records = [{"x": np.random.default_rng(3).normal(size=64)} for _ in STEPS]
    axes, below = axes_of(draw(synthetic(records, STEPS), [fall(5, 0.4), fall(10, 0.2)]))
    assert below is None
    assert len(measured(axes)[0]) == 2


@pytest.mark.usefixtures("laid_out")
def test_parts_show_what_is_predicted_and_each_panel_says_what_is_what(relaxing: Ensemble, tmp_path: Path) -> None:
    """The black line is second-law in one panel, user-1 in another; a part without predictions shows its moments."""
    parts = [
        ("falls", relaxing, [fall(5, 0.4), fall(10, 0.2)]),
        ("still", relaxing, [claim("variance", 1.0, step) for step in STEPS]),
        ("plain", relaxing, []),
    ]
    figure = draw_parts(parts)
    titles = [bare(title) for axes in figure.axes if (title := axes.get_title(loc="left"))]
    assert titles == [
        "falls: fall of x",
        "still: variance of x",
        "plain: mean of x",
        "plain: variance of x",
    ]
    found = [[text.get_text() for text in axes.get_legend().get_texts()] for axes in figure.axes if axes.get_legend()]
    assert found[:2] == [["measured", "second-law, exact"], ["measured", "user-1, exact"]]
    assert not figure.legends
    for name in ("one.svg", "two.svg"):
        drawing.save_figure(draw_parts(parts), tmp_path / name)
    assert (tmp_path / "one.svg").read_bytes() == (tmp_path / "two.svg").read_bytes()


# The texts and the layout.


def test_names_formulas_and_title_are_those_of_the_scenario(path: Path) -> None:
    """A dollar sign is no formula of TeX."""
    figure = draw(Ensemble.open(path))
    found = words(figure)
    assert figure.get_label() == "moments"
    assert SCENARIO["title"] in found
    loss = r"Loss of a sample: a\,x^2 / 2 + s\,x\,z; a = 1, s = 0.5. sgd, \eta = wsd:0.2,5,10,"
    assert f"{loss} 400 trajectories, 24 steps." in bare(found)
    titles = [bare(axes.get_title(loc="left")) for axes in figure.axes]
    energy = r"\mathrmenergy = a\,x^2 / 2"
    assert titles == ["mean of x", "variance of x", f"mean of {energy}", f"variance of {energy}"]
    assert {axes.get_xlabel() for axes in figure.axes} == {"step"}
    title, caption = figure.texts
    assert not title.get_parse_math()
    assert caption.get_parse_math()


@pytest.mark.usefixtures("laid_out")
def test_what_there_is_no_room_for_is_said() -> None:
    x, y = np.random.default_rng(7).normal(size=(2, N))
    ensemble = synthetic([{"x": x, "y": y}] * 3, (0, 10, 20))
    predictions = [claim(name, 1.0, 20) for name in ("mean", "variance", "std", "skewness", "kurtosis")]
    figure = draw(ensemble, predictions)
    assert len([axes for axes in figure.axes if axes.get_title(loc="left")]) == 6
    assert "Left out: variance(y)." in words(figure)


def test_what_stands_in_one_bin_has_no_density() -> None:
    rng = np.random.default_rng(6)
    ensemble = synthetic([{"x": np.zeros(N)}] * 2, (0, 9), {0: {"x": np.ones(N)}, 9: {"x": rng.normal(size=N)}})
    figure = draw(ensemble)
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["step 9"]
    still = synthetic([{"x": np.zeros(N)}], (9,), {9: {"x": np.ones(N)}})
    with pytest.raises(InputError, match=r"--kind density: .* spread over more than one bin"):
        draw(still, kind="density")


DRAWN_KINDS = ("moments", "density", "drift", "schedule", "trajectories")


@pytest.mark.usefixtures("laid_out")
@pytest.mark.parametrize(
    ("kind", "size"),
    daily(
        [(kind, size) for kind in DRAWN_KINDS for size in (None, (5.0, 5.5))],
        ("moments", (5.0, 5.5)),
        *((kind, None) for kind in DRAWN_KINDS),
    ),
)
def test_nothing_overlaps_or_is_cut_off(path: Path, kind: str, size: tuple[float, float] | None) -> None:
    figure = draw(Ensemble.open(path), kind=kind, size=size)
    width, height = figure.get_size_inches() * figure.dpi
    title, caption = (text.get_window_extent() for text in figure.texts)
    legend = figure.legends[0].get_window_extent()
    boxes = [axes.get_tightbbox() for axes in figure.axes]
    assert title.y0 >= legend.y1 - 1
    for box in boxes:
        assert legend.y0 >= box.y1 - 1
        assert caption.y1 <= box.y0 + 1
    for box in (title, caption, legend, *boxes):
        assert box.x0 >= -1
        assert box.y0 >= -1
        assert box.x1 <= width + 1
        assert box.y1 <= height + 1
    if size:
        assert tuple(figure.get_size_inches()) == size


def test_series_differ_in_more_than_colour(sweep: Ensemble) -> None:
    """At least 4 points of each kind stand beside each other: no two have marker and filling in common."""
    axes, _ = axes_of(draw(sweep, kind="moments"))
    assert len({container[0].get_marker() for container in axes.containers}) == len(axes.containers) == 4
    assert len({container[0].get_color() for container in axes.containers}) == 4


@pytest.mark.usefixtures("laid_out")
@pytest.mark.parametrize("size", [(1.0, 5.0), (5.0, 80.0), (float("nan"), 5.0)])
def test_a_size_that_is_no_sheet_of_paper(relaxing: Ensemble, size: tuple[float, float]) -> None:
    with pytest.raises(InputError, match="expected a width and a height of 2 to 50 inches"):
        draw(relaxing, size=size)


@pytest.mark.usefixtures("laid_out")
def test_a_size_that_does_not_hold_the_panels(relaxing: Ensemble) -> None:
    with pytest.raises(InputError, match="size 2x2: too small for 2 panels"):
        draw(relaxing, size=(2.0, 2.0))


# What laws say along the way.


def test_laws_are_asked_at_every_record_as_if_the_run_ended_there() -> None:
    """The variance of x follows v' = (1 - eta*a)^2*v + (eta*s)^2, here for each rate of the schedule."""
    run = loading.scenario_from(SCENARIO, "valley", "here").runs[0]
    rows = predictions_along([find_law("valley")], [run])
    variance, mean, expected = 0.0, 1.0, {}
    for step, eta in enumerate(run.schedule.rates(24), start=1):
        variance, mean = (1 - eta) ** 2 * variance + (eta * 0.5) ** 2, (1 - eta) * mean
        expected["mean", step], expected["variance", step] = mean, variance
    found = {
        (row.measure.statistic, row.measure.step): row.predicted for row in rows if isinstance(row.measure, Moment)
    }
    assert sorted(found) == [(name, step) for name in ("mean", "variance") for step in (4, 8, 12, 16, 20)]
    assert found == pytest.approx({key: expected[key] for key in found})


def test_adiabatic_laws_are_not_asked_before_the_end() -> None:
    scenario = loading.load_scenario("river_valley", {"run.steps": 200})
    assert predictions_along([find_law("valley")], scenario.runs) == []


# The command, and what it refuses.


def run(*arguments: object) -> tuple[int, str, str]:
    result = CliRunner().invoke(main, ["plot", *map(str, arguments)])
    return result.exit_code, result.stdout, result.stderr


@pytest.mark.usefixtures("laid_out")
def test_the_command_says_what_it_drew_and_does_not_replace_it(path: Path, tmp_path: Path) -> None:
    copy = tmp_path / "valley.h5"
    copy.write_bytes(path.read_bytes())
    assert run(copy) == (0, f"{tmp_path / 'valley.svg'}: moments, chosen by what the file holds\n", "")
    before = (tmp_path / "valley.svg").read_bytes()
    code, _, error = run(copy, "--kind", "density")
    assert code == 2
    assert "valley.svg: the file exists, and --overwrite replaces it" in error
    assert (tmp_path / "valley.svg").read_bytes() == before
    assert run(copy, "--kind", "density", "--overwrite", "--size", "7x5")[1] == f"{tmp_path / 'valley.svg'}: density\n"
    assert (tmp_path / "valley.svg").read_bytes() != before


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        (["--kind", "momnets"], "unknown kind of figure 'momnets': did you mean 'moments'?"),
        (["--kind", "sweep"], "--kind sweep: the file does not hold a sweep"),
        (["--kind", "order"], "--kind order: the file does not hold a prediction of finite order"),
        (["-o", "figure.jpg"], "figure.jpg: the suffix is '.jpg', expected one of .svg, .png, .pdf"),
        (["-o", "figure"], "figure: the suffix is 'missing', expected one of .svg, .png, .pdf"),
        (["-o", "no/such/figure.svg"], "there is no folder no/such"),
        (["--size", "7"], "size '7', expected WIDTHxHEIGHT in inches"),
        (["--size", "0x5"], "size 0x5: expected a width and a height"),
    ],
)
def test_what_cannot_be_drawn_is_refused(
    path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str], problem: str
) -> None:
    monkeypatch.chdir(tmp_path)
    code, out, error = run(path, *arguments, *([] if "-o" in arguments else ["-o", "figure.svg"]))
    assert (code, out) == (2, "")
    assert problem in error
    assert list(tmp_path.iterdir()) == []


def test_a_kind_that_nothing_was_recorded_for_says_what_to_record(relaxing: Ensemble) -> None:
    bare = synthetic([{"x": np.arange(float(N))}])
    for kind, what in {"density": "--histogram", "drift": "--drift", "trajectories": "--snapshot"}.items():
        with pytest.raises(InputError, match=rf"--kind {kind}: the file does not hold .*{what}"):
            draw(bare, kind=kind)


def test_a_file_that_is_not_ours(tmp_path: Path) -> None:
    (tmp_path / "a.h5").write_text("no HDF5")
    code, _, error = run(tmp_path / "a.h5")
    assert code == 2
    assert "a.h5" in error


def test_without_matplotlib_there_is_a_remedy(path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    code, _, error = run(path, "-o", tmp_path / "figure.svg")
    assert code == 1
    assert error == "Error: figures need matplotlib, which is not installed: pip install 'sgdsim[plot]'\n"
    with pytest.raises(RunError):
        draw(Ensemble.open(path))


# Which kind.


def test_the_kind_that_shows_most(relaxing: Ensemble, sweep: Ensemble) -> None:
    last = {"record_step": Variable(("record",), np.array([0, 9]))}
    theta = Variable(("snapshot", "trajectory", "parameter"), np.zeros((1, 2, 1)))
    text = toml.dumps({**SCENARIO, "predict": [{"formula": "variance(x) = learning_rate/2", "order": 1}]})
    assert drawing.choose_kind(relaxing) == "moments"
    assert drawing.choose_kind(Ensemble({**last, "theta": theta}, {})) == "density"
    assert drawing.choose_kind(Ensemble(last, {})) == "moments"
    assert drawing.choose_kind(sweep) == "sweep"
    ordered = Ensemble(sweep.variables, {**sweep.attributes, "scenario": text})
    assert drawing.choose_kind(ordered) == "order"
    assert drawing.choose_kind(ordered, ()) == "sweep"  # the law that was asked for does not apply


@pytest.mark.parametrize("automatic", [True, False])
def test_a_law_of_finite_order_that_does_not_apply_is_no_reason_to_draw_orders(
    sweep: Ensemble, automatic: bool
) -> None:
    text = toml.dumps({**SCENARIO, "predict": [{"id": "entropic-flow", "automatic": automatic}]})
    tried = Ensemble(sweep.variables, {**sweep.attributes, "scenario": text})
    assert figures.plot_ensemble(tried).get_label() == "sweep"


# The same bytes, and nothing else changed.


@pytest.mark.usefixtures("laid_out")
@pytest.mark.parametrize("suffix", daily(drawing.SUFFIXES, ".svg", ".png"))
def test_a_figure_has_the_same_bytes_each_time(path: Path, tmp_path: Path, suffix: str) -> None:
    files = [tmp_path / f"{number}{suffix}" for number in (1, 2)]
    for figure in files:
        assert figures.plot_file(path, figure, "schedule") == figure
    assert files[0].read_bytes() == files[1].read_bytes()
    assert sorted(tmp_path.iterdir()) == files


@pytest.mark.usefixtures("laid_out")
@pytest.mark.validate
def test_another_process_writes_the_same_bytes_and_no_pyplot(path: Path, tmp_path: Path) -> None:
    code = f"""
import sys
from sgdsim.app import figures
figures.plot_file({str(path)!r}, {str(tmp_path / "other.svg")!r}, "schedule")
assert "matplotlib" in sys.modules
assert "matplotlib.pyplot" not in sys.modules
"""
    figures.plot_file(path, tmp_path / "here.svg", "schedule")
    subprocess.run([sys.executable, "-W", "error", "-c", code], check=True)
    assert (tmp_path / "here.svg").read_bytes() == (tmp_path / "other.svg").read_bytes()


@pytest.mark.usefixtures("laid_out")
def test_settings_of_the_user_neither_matter_nor_change(relaxing: Ensemble, tmp_path: Path) -> None:
    drawing.save_figure(draw(relaxing, kind="trajectories"), tmp_path / "ours.svg")
    with mpl.rc_context({"font.size": 20.0, "lines.markersize": 30.0, "axes.titlelocation": "center"}):
        before = dict(mpl.rcParams)
        drawing.save_figure(draw(relaxing, kind="trajectories"), tmp_path / "theirs.svg")
        assert dict(mpl.rcParams) == before
    assert (tmp_path / "ours.svg").read_bytes() == (tmp_path / "theirs.svg").read_bytes()


def user_claim(number: int, conditions: str, predicted: float, step: int, **options: Any) -> Prediction:
    measure = Moment("mean", "x", step)
    return Prediction(
        f"user-{number}", "mean(x)", measure, predicted, source="user", conditions=conditions, order="exact", **options
    )


def test_claims_that_are_alike_for_sixty_letters_are_told_apart_and_said_in_the_caption(relaxing: Ensemble) -> None:
    """They were cut there, and one took the place of the other."""
    long = " + ".join(f"s*learning_rate**{power}/{power}" for power in range(2, 8))
    rows = [user_claim(1, f"= {long} + a", 0.1, 20), user_claim(2, f"= {long} + b", 0.2, 20)]
    figure = draw(relaxing, rows, "moments")
    assert {y for _, ys in theory(axes_of(figure)[0]) for y in ys} >= {0.1, 0.2}
    legend = [text.get_text() for text in figure.legends[0].get_texts()]
    assert "predicted numbers" in legend
    assert not any("learning_rate" in text for text in legend)
    assert "Predicted: $\\mathrm{mean}({x})$ = " in words(figure)


def test_legends_call_numbers_by_what_they_are_and_bounds_by_their_sign(relaxing: Ensemble) -> None:
    rows = [user_claim(1, "= 0.75", 0.75, 10), user_claim(2, "= 0.5", 0.5, 20), user_claim(3, "> 0.25", 0.25, 20)]
    figure = draw(relaxing, rows, "moments")
    assert [bare(text.get_text()) for text in figure.legends[0].get_texts()][1:] == ["predicted numbers", "> 0.25"]
    zero = draw(relaxing, [user_claim(1, "= 0", 0.0, 10)], "moments")
    assert [text.get_text() for text in zero.legends[0].get_texts()] == ["measured", "predicted number"]  # it was "0"
    named = [replace(rows[0], id="half")]
    assert [text.get_text() for text in draw(relaxing, named, "moments").legends[0].get_texts()] == ["measured", "half"]


@pytest.mark.parametrize(
    ("rate", "shown"), [("0.10857362047581294", "0.1086"), ("0.02", "0.02"), ("cosine:1,0", "cosine:1,0")]
)
def test_a_caption_has_as_many_digits_of_a_rate_as_are_read(rate: str, shown: str) -> None:
    loss = Loss("x**2/2 + z*x", ("x",), noise={"z": "normal"})
    run = simulate(loss, learning_rate=rate, initial={"x": 1.0}, trajectories=64, steps=4, device="python")
    assert f"${{\\eta}}$ = {shown}," in words(draw(run))
