"""Valley modes: which directions are found, and their exact law against an enumeration of all paths."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import product

import numpy as np
import pytest

from sgdsim.model.loss import Loss
from sgdsim.model.losses.river_valley import river_valley
from sgdsim.model.noise import FAMILIES, Family, Noise
from sgdsim.model.optimizers import Optimizer
from sgdsim.model.run import Run
from sgdsim.model.schedules import Schedule
from sgdsim.prediction import NotApplicable
from sgdsim.theory.methods.directions import directions
from sgdsim.theory.methods.modes import Mode, modes
from sgdsim.theory.methods.noise_free_path import noise_free_path

NORMAL = {"z": Noise.parse("normal")}


def make_run(loss: Loss, rate: str = "0.1", steps: int = 10, **options: object) -> Run:
    """A run that starts at 0 in every parameter, unless `initial` says otherwise."""
    optimizer = options.pop("optimizer", Optimizer())
    initial = dict.fromkeys(loss.parameters, 0.0) | dict(options.pop("initial", {}))  # type: ignore[call-overload]
    return Run(loss, optimizer, Schedule(rate), initial, 1000, steps, **options)  # type: ignore[arg-type]


def quadratic(noise: str = "normal", **constants: float) -> Loss:
    values = {"a": 1.0, "s": 1.0, "x0": 0.0} | constants
    return Loss("a*(x - x0)**2/2 + s*z*x", ("x",), values, {"z": Noise.parse(noise)})


@pytest.mark.parametrize(
    ("loss", "found"),
    [
        (river_valley(a="a0", c="0", constants={"a0": 2.0}), {"x": "a0"}),
        (
            river_valley(a=["1", "4"], c="c2*y**2/2", constants={"c2": 0.1}),
            {"x[0]": "1", "x[1]": "4"},
        ),
        (
            river_valley(a="2", c="c2*y**2/2", river_noise="normal", constants={"c2": 0.1}),
            {"x": "2", "y": "c2"},
        ),
        (Loss("cos(y)*x**2 + z*x", ("x", "y"), {}, NORMAL), {"x": "2*cos(y)"}),
        (Loss("x**4 + z*x", ("x",), {}, NORMAL), {}),  # not quadratic
        (Loss("x**2/2", ("x",)), {}),  # no noise
        (Loss("(z*x - 1)**2/2", ("x",), {}, NORMAL), {}),  # noisy curvature
        (Loss("x**2/2 + z*x*y", ("x", "y"), {}, NORMAL), {}),  # noise that depends on the state
        (Loss("(x**2 + y**2)/2 + z*(x + y)", ("x", "y"), {}, NORMAL), {}),  # noise shared by two directions
        (Loss("x**2/2 + x*y + z*x", ("x", "y"), {}, NORMAL), {}),  # a bottom that moves
        (Loss("x**2/2 + (z**2 - 1)*x", ("x",), {}, NORMAL), {}),  # not linear in the noise
    ],
)
def test_fast_directions_follow_from_the_formula(loss: Loss, found: dict[str, str]) -> None:
    assert {d.parameter: str(d.curvature) for d in directions(loss)} == found


def test_a_slow_direction_is_no_mode_of_its_own_where_it_feels_a_faster_one() -> None:
    constants = {"a0": 1.0, "k": 0.5, "c2": 0.1}
    run = make_run(river_valley(river_noise="normal", constants=constants), initial={"y": 1.0})
    assert [mode.parameter for mode in modes(run)] == ["x"]
    assert [mode.adiabatic for mode in modes(run)] == [True]


def test_hills_and_silent_directions_are_passed_over() -> None:
    loss = Loss(
        "a*x**2/2 + b*y**2/2 + c*w**2/2 + u*x + v*y + s*z*w",
        ("x", "y", "w"),
        {"a": 1.0, "b": -0.1, "c": 2.0, "s": 0.0},
        {name: Noise.parse("normal") for name in ("u", "v", "z")},
    )
    assert [mode.parameter for mode in modes(make_run(loss))] == ["x"]


def test_a_curvature_whose_dependence_has_a_zero_constant_is_exact() -> None:
    run = make_run(river_valley(constants={"a0": 1.0, "k": 0.0, "c2": 0.1}))
    assert modes(run)[0].order == "exact"


def _paths(run: Run, noise_size: float, start_size: float) -> Iterator[list[float]]:
    """x after 0, 1, … steps on every path of Rademacher noise, all equally likely, by the plain update."""
    constants, batch = run.loss.constants, run.optimizer.batch_size
    rates = run.schedule.rates(run.steps)
    decay = run.optimizer.values["weight_decay"]
    signs = (-1.0, 1.0)
    for first in signs if start_size else (0.0,):
        for flips in product(signs, repeat=run.steps * batch):
            x = [2.0 + start_size * first]
            for step, rate in enumerate(rates):
                w = sum(flips[step * batch : (step + 1) * batch]) / batch
                gradient = constants["a"] * (x[-1] - constants["x0"]) + noise_size * w
                x.append(x[-1] - rate * (gradient + decay * x[-1]))
            yield x


CASES = {
    "constant": ("0.3", 8, 1, 0.0, 0.0),
    "alternating": ("1.7", 8, 1, 0.0, 0.0),
    "schedule, decay, random start": ("cosine:0.9,0.1", 7, 1, 0.4, 1.5),
    "batch": ("linear:0.5,0.1", 4, 2, 0.2, 0.0),
}


TWO_POINTS = Family(
    {"mean": 0.0, "size": 1.0},
    ("u",),
    "mean + size*sign(u)",
    lambda k, mean, size: ((mean + size) ** k + (mean - size) ** k) / 2,
)


@pytest.fixture(params=CASES, scope="module")
def enumerated(request: pytest.FixtureRequest) -> Iterator[tuple[Mode, np.ndarray]]:
    rate, steps, batch, decay, start = CASES[request.param]
    constants = {"a": 1.1, "s": 0.7, "x0": 0.5}
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(FAMILIES, "two_points", TWO_POINTS)
        run = make_run(
            quadratic("rademacher", **constants),
            rate,
            steps,
            optimizer=Optimizer("sgd", {"weight_decay": decay}, batch),
            initial={"x": Noise("two_points", (2.0, start)) if start else 2.0},
        )
        yield modes(run)[0], np.array(list(_paths(run, 0.7, start)))


def test_cumulants_are_those_of_all_paths(enumerated: tuple[Mode, np.ndarray]) -> None:
    mode, paths = enumerated
    for step in range(paths.shape[1]):
        x = paths[:, step]
        m2, m3, m4 = (np.mean((x - x.mean()) ** k) for k in (2, 3, 4))
        assert mode.cumulants(step) == pytest.approx([x.mean(), m2, m3, m4 - 3 * m2**2], rel=1e-10, abs=1e-13)


def test_fast_loss_is_that_of_all_paths(enumerated: tuple[Mode, np.ndarray]) -> None:
    mode, paths = enumerated
    u = 1.1 * (paths - 0.5) ** 2 / 2
    for step in range(paths.shape[1]):
        expected = u[:, step].mean(), u[:, step].var()
        assert mode.fast_loss(step) == pytest.approx(expected, rel=1e-9, abs=1e-13)


def test_correlations_and_time_averages_are_those_of_all_paths(enumerated: tuple[Mode, np.ndarray]) -> None:
    mode, paths = enumerated
    last = paths.shape[1] - 1
    for start in range(1, last):
        expected = np.corrcoef(paths[:, start], paths[:, last])[0, 1]
        assert mode.correlation(start, last) == pytest.approx(expected, rel=1e-10)
        average = paths[:, start + 1 :].mean(axis=1)
        assert mode.time_average_variance(start, last) == pytest.approx(average.var(), rel=1e-10)
    assert mode.memory(1, 1) == 1.0


def test_the_enumeration_tells_a_wrong_law() -> None:
    """Negative control: a noise scale one per mille off is seen."""
    mode, right = (modes(make_run(quadratic("rademacher", s=s)))[0] for s in (1.001, 1.0))
    assert mode.cumulants(5)[1] != pytest.approx(right.cumulants(5)[1], rel=1e-4)


def test_the_noise_free_path_is_a_plain_loop() -> None:
    constants = {"a0": 1.0, "k": 0.5, "c2": 0.4}
    run = make_run(
        river_valley(constants=constants),
        "linear:0.3,0.1",
        20,
        initial={"x": 0.5, "y": 1.0},
        optimizer=Optimizer("sgd", {"weight_decay": 0.05}),
    )
    x, y = [0.5], [1.0]
    for rate in run.schedule.rates(20):
        gradient_x, gradient_y = (1 + 0.5 * y[-1] ** 2) * x[-1], 0.4 * y[-1] + 0.5 * y[-1] * x[-1] ** 2
        x.append(x[-1] - rate * (gradient_x + 0.05 * x[-1]))
        y.append(y[-1] - rate * (gradient_y + 0.05 * y[-1]))
    path = noise_free_path(run, ("y",))
    assert path["y"] == pytest.approx(y, rel=1e-12)
    mode = modes(run)[0]
    assert mode.curvatures == pytest.approx(1 + 0.5 * np.square(y), rel=1e-12)
    v = 0.0
    for rate, a in zip(mode.rates, mode.curvatures[:-1], strict=True):
        v = (1 - rate * (a + 0.05)) ** 2 * v + rate**2
    assert mode.cumulants(20)[1] == pytest.approx(v, rel=1e-12)


def test_the_mean_gradient_of_noisy_data_is_not_that_of_mean_data() -> None:
    loss = Loss(
        "exp(q)*x**2/2 + z*x + (d*q - e)**2/2",
        ("x", "q"),
        {},
        {name: Noise.parse("normal") for name in ("z", "d", "e")},
    )
    path = noise_free_path(make_run(loss, initial={"q": 1.0}), ("q", "x"))
    assert path["q"][1] == pytest.approx(0.9)


def test_paths_of_vector_coordinates() -> None:
    loss = Loss("exp(w[1])*w[0]**2/2 + z*w[0] + w[1]", ("w[0]", "w[1]"), {}, NORMAL)
    mode = modes(make_run(loss, initial={"w[1]": 0.0}))[0]
    # The slope of w[1] is 1 where w[0] rests at 0.
    assert mode.curvatures == pytest.approx(np.exp(-0.1 * np.arange(11)), rel=1e-12)


@pytest.mark.parametrize(
    ("run", "reason"),
    [
        (make_run(quadratic(), optimizer=Optimizer("momentum")), "optimizer is momentum"),
        (make_run(quadratic(a=21.0)), r"unstable: eta\*a = 2.1 at step 0"),
        (make_run(quadratic(a=-1.0)), "x has curvature -1, gradient noise of variance 1"),
        (make_run(quadratic(s=0.0)), "gradient noise of variance 0"),
        (make_run(Loss("x**4", ("x",))), "no parameter has a gradient"),
        (
            make_run(Loss("y**2*x**2/2 + z*x + cos(y*z)", ("x", "y"), {}, {"z": Noise.parse("normal")})),
            "no parameter",
        ),
    ],
)
def test_where_no_mode_is_the_reason_is_said(run: Run, reason: str) -> None:
    with pytest.raises(NotApplicable, match=reason):
        modes(run)


def test_no_adiabatic_law_while_trajectories_have_different_curvatures() -> None:
    """The spread of the start of y is neglected; the law waits until it has died out."""
    constants = {"a0": 1.0, "k": 0.5, "c2": 0.1}
    start = {"x": 0.0, "y": Noise.parse("normal:1,0.1")}
    with pytest.raises(NotApplicable, match=r"differs between trajectories, by 0\.04"):
        modes(make_run(river_valley(constants=constants), "0.1", 40, initial=start))
    (mode,) = modes(make_run(river_valley(constants=constants), "0.1", 800, initial=start))
    assert mode.spread < 1e-5
