"""Maps, landscapes and densities over time; theory as a curve; what a figure can be told to leave out."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

import sgdsim
from sgdsim.app.cli import main
from sgdsim.app.workflow import run_parts
from sgdsim.input.loading import load_parts
from sgdsim.plots.mathematics import mark, typeset, wrapped
from sgdsim.prediction import Prediction
from sgdsim.theory.law import Law

RUN = {"initial": {"x": 1.0}, "trajectories": 256, "steps": 20, "noise": {"z": "normal"}}
STATIONARY = "variance(x) = learning_rate/(a*(2 - a*learning_rate))"


def simulate(**changes):
    given = {"learning_rate": 0.2, "constants": {"a": 1.0}, **RUN, **changes}
    return sgdsim.simulate("a*x**2/2 + z*x", **given)


def images(figure):
    panels = [axes for axes in figure.axes if axes.get_label() != "<colorbar>"]
    return [one for axes in panels for one in axes.collections if type(one).__name__ == "QuadMesh"]


def black(axes):
    return [line for line in axes.lines if line.get_color() == "#000000"]


@pytest.fixture(scope="module")
def grid():
    table = {"optimizer.learning_rate": [0.1, 0.2, 0.6, 1.5], "loss.constants.a": [0.5, 1, 2, 4]}
    return simulate(sweep={"grid": table}, predict=[STATIONARY], steps=60, trajectories=64, device="cpu")


def test_theory_is_a_curve_between_the_points_of_a_sweep():
    figure = simulate(learning_rate=[0.1, 0.4, 1.0], predict=[STATIONARY]).plot()
    (line,) = black(figure.axes[0])
    x, y = line.get_data()
    assert len(x) > 90
    assert y == pytest.approx(x / (2 - x))


def test_what_must_be_rejected_is_a_curve_between_the_points_of_a_sweep_too():
    wrong = "variance(x) = learning_rate/(2*a); expect=disagrees; resolution=10%"
    figure = simulate(learning_rate=[0.1, 0.4, 1.0], predict=[STATIONARY, wrong]).plot()
    (line,) = {line for line in figure.axes[0].lines if len(line.get_xdata()) > 90}.difference(black(figure.axes[0]))
    x, y = line.get_data()
    assert y == pytest.approx(x / 2)


def test_theory_is_a_curve_between_the_records_of_a_run():
    figure = simulate(every=10, predict=["valley"]).plot("moments")
    (line,) = black(figure.axes[0])
    steps, mean = line.get_data()
    assert {1, 2, 3, 20} <= set(steps.tolist())
    assert mean == pytest.approx(0.8**steps)


def test_what_laws_put_together_has_no_panel_and_what_is_of_two_points_no_curve():
    """The loss that a heat capacity is made of is a step to it; between two slopes nothing is predicted."""
    ensemble = simulate(learning_rate=[0.2, 0.4, 0.8], steps=60, predict=["heat-capacity"])
    assert "fast_loss_x" in ensemble["observable"]
    titles = [axes.get_title(loc="left") for axes in ensemble.plot("moments").figure.axes]
    assert [one for one in titles if "fast_loss" in one] == []
    panels = {axes.get_title(loc="left"): axes for axes in ensemble.plot("sweep").axes}
    (slope,) = (axes for title, axes in panels.items() if "/dT at fixed noise" in title)
    joined = [line for line in slope.lines if len(line.get_xdata()) > 1 and line.get_linestyle() not in ("None", "")]
    assert joined == []


def test_a_number_about_all_points_has_no_place_among_them_and_what_must_be_rejected_comes_last():
    claims = ["variance(x) = 9; expect=disagrees", "slope(variance(x), learning_rate) = 0.6; resolution=50%"]
    slope, variance = simulate(learning_rate=[0.1, 0.4], predict=claims).plot("sweep").axes
    assert [label.get_text() for label in slope.get_xticklabels()] == ["all together"]
    assert "slope" in slope.get_title(loc="left")
    assert "variance" in variance.get_title(loc="left")


def test_a_map_has_what_was_measured_and_the_limit_of_stability(grid):
    figure = grid.plot()
    assert figure.get_label() == "diagram"
    *lost, variance = images(figure)
    rates, a = grid["sweep_optimizer.learning_rate"], grid["sweep_loss.constants.a"]
    unstable = rates * a > 2
    values = np.asarray(variance.get_array(), dtype=float)
    assert np.isnan(values).sum() == unstable.sum() == 3
    for point in np.flatnonzero(~unstable):
        row, column = [0.5, 1, 2, 4].index(a[point]), [0.1, 0.2, 0.6, 1.5].index(rates[point])
        assert values[row, column] == grid.variance("x")[point, -1]
    assert not lost  # 60 steps are too few to leave all bounds
    limit = [line for line in figure.axes[0].lines if line.get_color() == "#7F7F7F"]
    x, y = limit[0].get_data()
    assert x * y == pytest.approx(2 + 0 * x, rel=0.02)
    assert any(type(one).__name__ == "QuadContourSet" for axes in figure.axes for one in axes.collections)


def test_a_map_has_contours_where_there_was_no_time_for_theory_in_between(grid, monkeypatch):
    """They go from point to point of the sweep."""
    monkeypatch.setattr("sgdsim.plots.between._predicted", lambda *asked: [])
    monkeypatch.setattr("sgdsim.app.kept_predictions.found", lambda question, find, by: find())
    figure = grid.plot("diagram")
    assert any(type(one).__name__ == "QuadContourSet" for axes in figure.axes for one in axes.collections)


@pytest.mark.validate
def test_numbers_of_both_signs_have_one_contour_where_they_vanish_and_formulas_have_maps():
    """After one step from 1 the mean is 1 - eta a: positive, zero on eta a = 1, negative."""
    table = {"optimizer.learning_rate": [0.1, 0.3, 0.6, 1.5], "loss.constants.a": [0.5, 1, 2, 3]}
    claims = ["mean(x) = 1 - a*learning_rate", "mean(x)**2 = (1 - a*learning_rate)**2"]
    ensemble = simulate(sweep={"grid": table}, predict=claims, steps=1, trajectories=64)
    figure = ensemble.plot()
    mean, square = images(figure)
    (crosses,) = [line for line in figure.axes[0].lines if line.get_marker() == "x"]
    steps = ensemble["sweep_optimizer.learning_rate"] * ensemble["sweep_loss.constants.a"]
    z = ensemble.mean("x")[:, -1] / ensemble["mean_stderr"][:, -1, 0]
    undecided = (np.abs(z) <= 2) & (steps <= 2)
    assert 0 < undecided.sum() < 4
    assert sorted(np.prod(crosses.get_data(), axis=0)) == pytest.approx(sorted(steps[undecided]))
    assert np.asarray(square.get_array()) == pytest.approx(np.asarray(mean.get_array()) ** 2, nan_ok=True)
    assert len(figure.axes) == 4  # two maps and their bars: nothing is drawn twice
    one, several = [
        line for axes in figure.axes for line in axes.collections if type(line).__name__ == "QuadContourSet"
    ]
    assert list(one.levels) == [0.0]
    assert len(several.levels) > 1
    rates, a = np.concatenate([path.vertices for path in one.get_paths()]).T
    assert len(rates) > 10
    assert rates * a == pytest.approx(1 + 0 * a, rel=0.02)


def test_a_landscape_has_the_force_of_entropy():
    """Of (u w - z)^2/2: minus the gradient of (eta/4) E g^2, E g^2 = (u^2 + w^2)(u^2 w^2 + 1)."""
    figure = sgdsim.simulate(
        "(u*w - z)**2/2", **{**RUN, "initial": {"u": "normal:1,0.1", "w": 0.5}}, learning_rate=0.1, snapshots=["final"]
    ).plot("landscape")
    (arrows,) = [one for one in figure.axes[0].collections if type(one).__name__ == "Quiver"]
    u, w = arrows.XY.T
    force = -0.025 * (2 * u * (u**2 * w**2 + 1) + (u**2 + w**2) * 2 * u * w**2)
    assert np.asarray(arrows.U) == pytest.approx(force)
    assert len(images(figure)) == 1
    with pytest.raises(sgdsim.InputError, match="--kind landscape: the file does not hold a loss of two parameters"):
        simulate().plot("landscape")


def test_a_density_over_time_has_quantiles():
    ensemble = simulate(every=2, histograms={"x": [-3, 3, 60]}, trajectories=4096)
    figure = ensemble.plot("evolution")
    values = np.asarray(images(figure)[0].get_array())
    occupied = np.flatnonzero(ensemble["histogram_x"].any(axis=0))
    assert values.shape == (occupied[-1] - occupied[0] + 1, 11)  # bins beyond all trajectories are left out
    assert np.nansum(values[:, -1]) * 0.1 == pytest.approx(1, abs=1e-3)
    median, low, high = (line.get_ydata() for line in black(figure.axes[0]))
    spread = np.sqrt(ensemble.variance("x")[2:])
    assert median[2:] == pytest.approx(ensemble.mean("x")[2:], abs=0.05)
    assert high[2:] - low[2:] == pytest.approx(2 * 1.645 * spread, rel=0.08)
    with pytest.raises(sgdsim.InputError, match="--kind evolution: the file does not hold a histogram"):
        simulate().plot("evolution")


def test_schedules_are_held_against_the_first():
    ensemble = simulate(learning_rate=[0.1, "cosine:0.4,0.01"], every=5, observables={"mean_loss": "loss"})
    figure = ensemble.plot("schedule")
    assert [axes.get_ylabel() for axes in figure.axes][-1] == "ratio"
    line, *_ = figure.axes[-1].containers[0]
    means = ensemble.mean("mean_loss")
    assert line.get_ydata() == pytest.approx(means[1] / means[0])


@pytest.mark.validate
def test_one_name_one_part_no_theory_and_residuals():
    ensemble = simulate(predict=["mean(x) = 0.8**20"], observables={"r": "x**2"}, every=5)
    titles = [axes.get_title(loc="left") for axes in ensemble.plot(only=["r"]).axes]
    assert titles
    assert all("mathrm" not in title and "{r}" in title for title in titles)
    assert len(ensemble.plot(residuals=True).axes) == len(ensemble.plot().axes) + 1
    assert not any(black(axes) for axes in ensemble.plot(theory=False).axes)
    with pytest.raises(sgdsim.InputError, match="--only q: unknown observable 'q'"):
        ensemble.plot(only=["q"])
    with pytest.raises(sgdsim.InputError, match="--style: unknown style 'tlak': did you mean 'talk'"):
        ensemble.plot(style="tlak")
    talk, paper = ensemble.plot(style="talk"), ensemble.plot()
    assert talk.get_size_inches()[0] < paper.get_size_inches()[0]
    assert [text.get_text() for text in talk.figure.texts][-1] == ""


def test_the_command_draws_one_part(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    part = '[[part]]\nname = "{}"\n[part.optimizer]\nlearning_rate = {}\n'
    Path("parts.toml").write_text(
        '[loss]\nformula = "x**2/2 + z*x"\nparameters = { x = 1 }\nnoise = { z = "normal" }\n'
        "[run]\ntrajectories = 8\nsteps = 4\n" + part.format("cold", 0.1) + part.format("hot", 0.5)
    )
    run_parts(load_parts("parts.toml"), "parts.h5", device="python")
    options = ["plot", "parts.h5", "-o", "hot.svg", "--part", "hot", "--no-theory", "--style", "talk", "--only", "x"]
    done = CliRunner().invoke(main, options)
    assert done.exit_code == 0, done.output
    assert "cold" not in Path("hot.svg").read_text()
    done = CliRunner().invoke(main, [*options[:-1], "y", "--overwrite"])
    assert done.exit_code == 2
    assert "--only y: unknown observable 'y'" in done.output
    done = CliRunner().invoke(main, ["plot", "parts.h5", "--part", "hto", "-o", "new.svg"])
    assert done.exit_code == 2
    assert "unknown part 'hto': did you mean 'hot'?" in done.output


def test_what_cannot_be_typeset_stays_as_it_was_written():
    assert typeset(mark("[x, 0, 5]")) == "[x, 0, 5]"
    assert typeset(f"5$ and {mark('where(x < 0')}") == r"5\$ and where(x < 0"
    assert re.sub(r"[{}]", "", typeset(mark("where(abs(c) < 1, a, 0)"))) == r"$\mathrmwhere(|c| < 1,\,a,\,0)$"
    assert "frac" in typeset(mark("s/(2*a)"))  # s/2 a would be another number
    assert "frac" not in typeset(mark("s*a/2"))
    assert typeset(mark("2.628208")) == "$2.628208$"
    assert re.sub(r"[{}]", "", typeset(mark("exp(-(S - 99.95925)**2/8)"))) == r"$e^- \left(S - 99.95925\right)^2 / 8$"
    assert re.sub(r"[{}]", "", typeset(mark("theta[1] = a0*exp(-x)"))) == r"$\theta_1 = a_0\,e^- x$"


def test_a_formula_is_not_broken():
    text = f"the loss of a sample is {mark('a + b + c')} and no more"
    assert any(mark("a + b + c") in line for line in wrapped(text, 26).splitlines())


def test_a_landscape_has_the_flows_of_theory():
    """On the valley u w = 1 the flow of the loss stays; that of the entropic loss has d log Q/dt = -eta s^2."""
    figure = sgdsim.simulate(
        "(u*w - 1 - z)**2/2", **{**RUN, "initial": {"u": 2.0, "w": 0.5}}, learning_rate=0.1, snapshots=["final"]
    ).plot("landscape")
    lines = {line.get_label(): line.get_xydata() for line in figure.axes[0].lines}
    assert lines["flow of the loss"] == pytest.approx(np.array([[2.0, 0.5]]), abs=1e-6)
    u, w = lines["flow of the entropic loss"][-1]
    assert u**2 - w**2 == pytest.approx(3.75 * np.exp(-(0.1**2) * RUN["steps"]), rel=0.02)


def test_without_theory_a_landscape_has_the_loss_and_what_was_measured():
    ensemble = sgdsim.simulate(
        "(u*w - 1 - z)**2/2", **{**RUN, "initial": {"u": 2.0, "w": 0.5}}, learning_rate=0.1, snapshots=["final"]
    )
    (axes, *_) = ensemble.plot("landscape", theory=False).axes
    assert [line.get_label() for line in axes.lines] == ["mean of all"]
    assert "Quiver" not in [type(one).__name__ for one in axes.collections]
    assert "QuadContourSet" in [type(one).__name__ for one in axes.collections]


def test_the_noise_of_langevin_dynamics_has_no_entropic_force():
    """Its temperature pushes too: the force of the gradients' noise is not where the ensemble goes."""
    ensemble = sgdsim.simulate(
        "(u*w - 1 - z)**2/2",
        "langevin:temperature=0.01",
        **{**RUN, "initial": {"u": 2.0, "w": 0.5}, "trajectories": 32},
        learning_rate=0.1,
        snapshots=["final"],
        device="python",
    )
    (axes, *_) = ensemble.plot("landscape").axes
    assert [line.get_label() for line in axes.lines] == ["mean of all", "flow of the loss"]
    assert "Quiver" not in [type(one).__name__ for one in axes.collections]


def test_a_law_that_shows_no_number_is_not_asked_at_other_records(monkeypatch: pytest.MonkeyPatch) -> None:
    ensemble = simulate(predict=["valley"], observables={"r": "abs(x)"}, every=5, steps=21)
    asked: list[str] = []

    def along(laws: list[Law], _: object) -> list[Prediction]:
        asked.extend(law.id for law in laws)
        return []

    monkeypatch.setattr("sgdsim.plots.along.predictions_along", along)
    ensemble.plot("moments", only=["r"])
    assert asked == []
    ensemble.plot("moments")
    assert asked == ["valley"]


def test_a_rate_that_goes_up_and_down_has_no_warm_up():
    ensemble = simulate(learning_rate=lambda step: 0.2 + 0.1 * np.sin(step), every=5)
    assert not [line.get_label() for line in ensemble.plot("schedule").axes[0].lines if "ends" in line.get_label()]


def test_one_statistic_of_a_name():
    ensemble = simulate(predict=["mean(x) = 0.8**20", "variance(x) = 0.1"], observables={"r": "x**2"}, every=5)

    def labels(*only):
        return [re.sub(r"[${}]", "", axes.get_ylabel()) for axes in ensemble.plot(only=list(only)).axes]

    assert labels("variance(x)") == ["variance(x)"]
    assert labels("mean(r)", "x") == ["mean(x)", "variance(x)", "mean(r)"]
    assert labels("skewness(x)") == ["skewness(x)"]
    with pytest.raises(sgdsim.InputError, match=r"--only mean\(q\): unknown observable 'q'"):
        ensemble.plot(only=["mean(q)"])


@pytest.mark.parametrize(
    ("formula", "shown"),
    [
        ("window_mean(x, 0, 5)", r"\left\langle x\right\rangle_0^5"),
        ("B@A.T - norm2(w)", r"B\,A^\top - \Vert w\Vert^2"),
        ("a - (b@c - d@e)", r"a - \left(b\,c - d\,e\right)"),
        ("-(a@b)*c@(-d)", r"- a\,b\,c\,\left(- d\right)"),
        ("(A + B)@C/(n*trace(D))", r"\frac\left(A + B\right)\,Cn\,\mathrmtr(D)"),
    ],
)
def test_matrices_keep_their_order_and_brackets_where_they_are_needed(formula: str, shown: str) -> None:
    assert re.sub(r"[${}]", "", typeset(mark(formula))) == shown


def test_what_was_lost_is_said_and_what_laws_need_comes_last() -> None:
    """Figures and ensembles were silent on diverged trajectories; first steps had the room of what was asked for."""
    run = {"noise": {"z": "normal"}, "initial": {"x": "normal"}, "trajectories": 640, "steps": 12, "every": 3}
    found = sgdsim.simulate("x**4/4 + z*x", learning_rate=0.6, device="python", predict=["first-step"], **run)
    lost = np.count_nonzero(found["status"])
    assert lost
    assert repr(found).endswith(f"; {lost} diverged>")
    assert f"; {lost} diverged" in found._repr_html_()
    figure = found.plot("moments")
    caption = " ".join(" ".join(text.get_text().split()) for text in figure.texts)
    assert f"{lost} trajectories diverged and are left out from then on." in caption
    titles = [axes.get_title(loc="left") for axes in figure.axes]
    assert ["first" in title for title in titles] == sorted("first" in title for title in titles)
    assert any("first" in title for title in titles)
    decayed = sgdsim.simulate("x**2/2 + z*x", learning_rate=0.1, weight_decay=0.1, device="python", **run)
    caption = " ".join(" ".join(text.get_text().split()) for text in decayed.plot("moments").texts)
    assert "weight decay 0.1" in caption
