"""The largest eigenvalue of a Hessian that is never made: against NumPy's, of 4 to 144 parameters."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from sgdsim.base.errors import InputError
from sgdsim.ensemble import Ensemble
from sgdsim.kernels import source
from sgdsim.kernels.program import Program
from sgdsim.model.data import Data
from sgdsim.model.loss import Loss
from sgdsim.model.noise import Noise
from sgdsim.model.observables import Observable
from sgdsim.model.optimizers import Optimizer
from sgdsim.model.population_points import population_points
from sgdsim.model.recorder import Recorder
from sgdsim.model.run import Run
from sgdsim.model.schedules import Schedule
from sgdsim.simulation.run_loop import simulate_runs
from tests import naive
from tests.conftest import targets
from tests.samples import daily

STEPS, RATE = 2, 0.02
NORMAL = Noise.parse("normal")


def simulated(loss: Loss, target: str, texts: dict[str, str] | None = None, **fields: Any) -> Ensemble:
    observables = tuple(Observable.parse(name, text) for name, text in (texts or {"top": "hessian_max"}).items())
    recorder = Recorder(every=1, snapshots=tuple(range(STEPS + 1)), observables=observables)
    given: dict[str, Any] = {"trajectories": 3, "steps": STEPS, "optimizer": Optimizer(), "seed": 1, **fields}
    initial = fields.pop("initial", dict.fromkeys(loss.parameters, Noise.parse("normal:0.3,0.5")))
    given |= {"initial": initial, "schedule": Schedule(str(RATE))}
    return simulate_runs([Run(loss, recorder=recorder, **given)], scenario="", device=target)


def values(found: Ensemble, name: str) -> np.ndarray:
    return np.asarray(found["mean"][:, list(found["observable"]).index(name)])


def tops(found: Ensemble, hessian: Callable[[np.ndarray], np.ndarray]) -> np.ndarray:
    """NumPy's of each snapshot and trajectory."""
    return np.array([[np.linalg.eigvalsh(hessian(one))[-1] for one in step] for step in found["theta"]])


def by_differences(gradient: Callable[[np.ndarray], np.ndarray], theta: np.ndarray) -> np.ndarray:
    """The Hessian from an exact gradient, to nine digits."""
    steps = 1e-5 * np.eye(len(theta))
    found = np.array([(gradient(theta + one) - gradient(theta - one)) / 2e-5 for one in steps])
    return np.asarray(found + found.T) / 2


@pytest.fixture(autouse=True)
def few_lanes(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Plain Python searches in all lanes of a tile, one after the other."""
    if "cpu" not in request.node.name and "144" not in request.node.name:
        monkeypatch.setattr(Program, "lanes", property(lambda self: 4))


# Scalars, whose population loss has a closed form: of the fourth degree in one noise.
SCALARS = Loss(
    "(a*b*z**2 - c)**2/2 + k*(d - a)**4", ("a", "b", "c", "d"), {"k": 0.3}, {"z": NORMAL}
)  # fmt: skip


def of_scalars(theta: np.ndarray) -> np.ndarray:
    """The Hessian of (3 a²b² - 2abc + c²)/2 + k(d - a)⁴."""
    a, b, c, d = theta
    q = 12 * 0.3 * (d - a) ** 2
    return np.array(
        [
            [3 * b * b + q, 6 * a * b - c, -b, -q],
            [6 * a * b - c, 3 * a * a, -a, 0],
            [-b, -a, 1, 0],
            [-q, 0, 0, q],
        ]
    )


@pytest.mark.parametrize("target", daily(targets(), *({"python"} & {*targets()})))
def test_scalars(target: str) -> None:
    found = simulated(SCALARS, target)
    np.testing.assert_allclose(values(found, "top"), tops(found, of_scalars).mean(axis=1), rtol=1e-6)


def with_spectrum(eigenvalues: list[float]) -> tuple[Loss, np.ndarray]:
    turned = np.linalg.qr(np.random.default_rng(3).normal(size=(len(eigenvalues),) * 2))[0]
    matrix = turned @ np.diag(eigenvalues) @ turned.T
    return Loss("dot(w, M@w)/2", (f"w[{len(eigenvalues)}]",), {"M": (matrix + matrix.T) / 2}), matrix


SPECTRA = {
    "nearly equal": [2.0, 2.0 - 1e-5, 1.0, 0.5, 0.1],
    "equal": [2.0, 2.0, 2.0, 0.0, 0.0],
    "a larger one that is negative": [1.0, -50.0, -3.0, 0.2, 0.1],
    "all negative": [-1.0, -1.2, -40.0, -2.0, -3.0],
    "flat": [0.0] * 5,
}


@pytest.mark.parametrize("name", SPECTRA)
def test_spectra_that_mislead_a_search(name: str) -> None:
    """Of iterated products alone: the largest in size, a mean of neighbours, or none."""
    loss, _ = with_spectrum(SPECTRA[name])
    found = values(simulated(loss, "python", trajectories=1, initial=dict.fromkeys(loss.parameters, 0.1)), "top")
    size = max(map(abs, SPECTRA[name]))
    np.testing.assert_allclose(found, max(SPECTRA[name]), rtol=0, atol=1e-6 * size)


ROWS = Data({"x[0]": (0.3, -0.8, 1.1), "x[1]": (0.6, 0.9, -0.2), "y": (0.5, -1, 0.2)})
TANH = Loss("(dot(v, tanh(W@x)) - y)**2/2", ("W[3,2]", "v[3]"), data=ROWS)


def of_tanh(theta: np.ndarray) -> np.ndarray:
    x, y = ROWS.array[:2].T, ROWS.array[2]

    def gradient(at: np.ndarray) -> np.ndarray:
        slopes = naive.two_layer_gradient(at[:6].reshape(3, 2), at[6:], x, y)
        return np.concatenate([slope.ravel() for slope in slopes])

    return by_differences(gradient, theta)


OF_A_STEP = {
    "top": "hessian_max",
    "most": f"window_max(hessian_max/2 + v[0], 0, {STEPS})",
    "gain": f"window_sum(next(hessian_max) - hessian_max + 0*learning_rate, 0, {STEPS})",
}


@pytest.mark.parametrize(
    ("serves", "target"),
    daily(itertools.product([True, False], targets()), (True, targets()[0]), (False, targets()[0])),
)
def test_a_network_on_rows_of_data(
    serves: bool, target: str, size: Callable[[int, int], int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """As loops and as statements: the mean over the rows, whatever the batch; its largest, its gain in each step."""
    monkeypatch.setattr(source, "serves", lambda program: serves)
    batch = Optimizer(batch_size=2 if serves else 1)
    found = simulated(TANH, target, OF_A_STEP, trajectories=size(2, 20), optimizer=batch)
    expected = tops(found, of_tanh)
    np.testing.assert_allclose(values(found, "top"), expected.mean(axis=1), rtol=1e-6)
    along = (expected / 2 + found.parameter("v")[..., 0])[1:].max(axis=0)
    assert values(found, "most")[-1] == pytest.approx(along.mean(), rel=1e-6)
    gain = (expected - expected[0]).mean(axis=1)
    np.testing.assert_allclose(values(found, "gain"), gain, rtol=0, atol=1e-6 * expected.max())
    assert abs(gain[-1]) > 1e-3


N = 12
LINEAR = Loss(
    "norm2(B@A@x - V@x - s*e)/2", (f"A[{N},6]", f"B[6,{N}]"), {"V": np.eye(6), "s": 0.4},
    {"x[6]": Noise.parse("normal:0.5,2"), "e[6]": Noise.parse("laplace")},
)  # fmt: skip


def of_linear(theta: np.ndarray) -> np.ndarray:
    """Hessian of norm2((B A - V) C^(1/2))/2, where C is the mean of x xᵀ."""
    second = 4 * np.eye(6) + 0.25

    def gradient(at: np.ndarray) -> np.ndarray:
        first, last = at[: 6 * N].reshape(N, 6), at[6 * N :].reshape(6, N)
        error = (last @ first - np.eye(6)) @ second
        return np.concatenate([(last.T @ error).ravel(), (error @ first.T).ravel()])

    return by_differences(gradient, theta)


@pytest.mark.validate
@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_144_parameters_and_noise_without_rows(dtype: str) -> None:
    """The mean over the noise by points, on the CPU, where the other targets take minutes."""
    initial = dict.fromkeys(LINEAR.parameters, Noise.parse("normal:0,0.3"))
    found = simulated(LINEAR, "cpu", trajectories=16, dtype=dtype, initial=initial)
    expected = tops(found, of_linear).mean(axis=1)
    np.testing.assert_allclose(values(found, "top"), expected, rtol=1e-6 if dtype == "float64" else 1e-4)


def test_a_trajectory_ends_where_it_is_too_sharp() -> None:
    found = simulated(SCALARS, "python", stop=("hessian_max > 0.001",))
    assert values(found, "stopped_at")[-1] == 0


def test_what_has_diverged_has_none() -> None:
    found = simulated(SCALARS, "python", initial={"a": 1e60, "b": 1.0, "c": 1.0, "d": 0.0}, steps=STEPS)
    assert found["excluded"][-1, -1] == 3


def test_points_have_the_moments_of_the_noise() -> None:
    points = population_points(LINEAR)
    assert points.names == (*(f"x[{i}]" for i in range(6)), *(f"e[{i}]" for i in range(6)))
    np.testing.assert_allclose(points.values.mean(axis=0), [0.5] * 6 + [0] * 6, atol=1e-12)
    np.testing.assert_allclose(np.cov(points.values.T, bias=True), np.diag([4.0] * 6 + [2.0] * 6), atol=1e-12)
    rows = population_points(Loss("(w*x + e - f)**2", ("w",), noise={"e": NORMAL}, data={"x": (1, 2), "f": (0, 3)}))
    assert rows.values.tolist() == [[1, 0, 1], [1, 0, -1], [2, 3, 1], [2, 3, -1]]


@pytest.mark.parametrize(
    ("formula", "noise", "message"),
    [
        ("norm2(tanh(W@x))", {"x[2]": NORMAL}, "has no closed form"),
        ("norm2(W@W@W@W@W@W@tanh(W@x))", {"x[2]": NORMAL}, "beyond the second degree, .* or samples as rows of data"),
        ("norm2(W)*x", {"x": Noise.parse("student_t:1.5")}, "the moment of order 2 of x"),
        ("", {}, "there is no loss"),
    ],
)
def test_a_hessian_that_nobody_knows(formula: str, noise: dict[str, Noise], message: str) -> None:
    loss = Loss(formula, ("W[2,2]",), noise=noise, direction={} if formula else {"W": "-W"})
    with pytest.raises(InputError, match=message) as error:
        simulated(loss, "python")
    assert "hessian_max" in str(error.value)
