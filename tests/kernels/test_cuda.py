"""The CUDA target against the others: all that a run can ask for, the same numbers.

In the simulator (`make test-cudasim`) every bit is that of the plain target: the same text in NumPy's arithmetic.
On a GPU (`make test-gpu`) floats agree with the CPU's to rounding, and ensembles to their standard errors.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest

from sgdsim.base.errors import RunError
from sgdsim.ensemble import Ensemble
from sgdsim.model.data import Data
from sgdsim.model.loss import Loss
from sgdsim.model.losses import CATALOGUE
from sgdsim.model.noise import FAMILIES, Noise
from sgdsim.model.observables import Observable
from sgdsim.model.optimizers import Optimizer
from sgdsim.model.recorder import Autocorrelation, Drift, Histogram, Plane, Recorder
from sgdsim.model.run import Run
from sgdsim.model.schedules import Schedule
from sgdsim.model.starts import Grid
from sgdsim.simulation.run_loop import simulate_runs
from tests.conftest import OF_NUMBERS, SIMULATED, needed, targets

pytestmark = [
    pytest.mark.skipif("cuda" not in targets(), reason="needs a GPU, or the simulator: make test-cudasim"),
    pytest.mark.filterwarnings("ignore:(overflow|invalid value|divide by zero) encountered"),
]
on_gpu = pytest.mark.skipif(SIMULATED, reason="needs a GPU: make test-gpu")

ORACLE = "python" if SIMULATED else "cpu"


def simulate(run: Run, device: str = "cuda", **options: Any) -> Ensemble:
    return simulate_runs([run], scenario="", device=device, **options)


def run_of(loss: Loss, optimizer: Optimizer | None = None, **fields: Any) -> Run:
    """Few trajectories, the last tile part full, all states kept, noise of 64 bits."""
    start = {name: Noise.parse(f"normal:{0.3 + 0.1 * i},0.1") for i, name in enumerate(loss.parameters)}
    defaults: dict[str, Any] = {
        "loss": loss,
        "optimizer": optimizer or Optimizer(),
        "schedule": Schedule("cosine:0.05,0.01"),
        "initial": start,
        "trajectories": 6 if SIMULATED else 1000,
        "steps": 6,
        "seed": 7,
        "recorder": Recorder(snapshots=tuple(range(7))),
        "noise_dtype": "float64",
    }
    return Run(**{**defaults, **fields})


def check_same(run: Run, tolerance: float = 1e-12) -> None:
    """Every variable that a run writes."""
    one, other = simulate(run, ORACLE), simulate(run)
    assert list(one.variables) == list(other.variables)
    for name in one.variables:
        expected, found = np.asarray(one[name]), np.asarray(other[name])
        if SIMULATED or expected.dtype.kind not in "f":
            np.testing.assert_array_equal(found, expected, err_msg=name)
        elif name not in (
            "group_m2",
            "group_m3",
            "group_m4",
            "skewness",
            "kurtosis",
        ):  # differences of nearly equal ones
            scale = float(np.nanmax(np.abs(expected), initial=1.0))
            np.testing.assert_allclose(found, expected, rtol=100 * tolerance, atol=tolerance * scale, err_msg=name)


# In the simulator each costs a second or two; the others are in the long suite.
_FEW = {"river_valley", "relu_network", "softmax", "momentum", "adam", "langevin", "signsgd", "float64"}


def some(names: Any) -> list[Any]:
    """All of them; in the simulator those that are enough for every day without a mark."""
    enough = _FEW if SIMULATED else names
    return [name if name in enough else pytest.param(name, marks=pytest.mark.validate) for name in names]


@pytest.mark.parametrize("name", some(CATALOGUE))
def test_every_loss(name):
    check_same(run_of(CATALOGUE[name]()))


@pytest.mark.parametrize("name", some([name for name in OF_NUMBERS if name != "sgd"]))
def test_every_optimizer(name):
    values = needed(name)
    check_same(run_of(CATALOGUE["rescaling"](), Optimizer(name, values)))


ARGUMENTS = {"student_t": ":5", "bernoulli": ":0.3", "uniform": ":-1,1", "lognormal": ":0.5"}


@pytest.mark.parametrize("family", FAMILIES)
def test_every_distribution(family):
    noise = Noise.parse(family + ARGUMENTS.get(family, ""))
    check_same(run_of(Loss("x**2/2 + z*x*y + y**2/2", ("x", "y"), noise={"z": noise}), Optimizer(batch_size=3)))


SAMPLINGS = [("replacement", 5, 2), ("replacement", 300, 1), ("batch", 9, 4), ("epoch", 12, 4), ("epoch", 300, 7)]


@pytest.mark.parametrize(("sampling", "rows", "batch_size"), SAMPLINGS)
def test_every_sampling(sampling, rows, batch_size):
    values = tuple(np.random.default_rng(1).normal(size=rows).tolist())
    loss = Loss("(w*x - y)**2/2", ("w",), data=Data({"x": values, "y": values[::-1]}))
    check_same(run_of(loss, Optimizer(batch_size=batch_size, sampling=sampling)))


EVERYTHING = Recorder(
    every=3,
    snapshots=(0, 3, 6),
    observables=(
        Observable.parse("product", "u*w"),
        Observable.parse("lost", "log(u - 0.35)"),
        Observable.parse("mean", "window_mean(u**2, 1, 5)"),
        Observable.parse("largest", "window_max(next(u)*w, 2, 5)"),
        Observable.parse("heat", "window_sum(gradient(u)*(next(u) - u), 0, 6)"),
        Observable.parse("passage", "first_passage(u > 0.31)"),
        Observable.parse("then", "value_at(u, 4)"),
    ),
    histograms={"u": Histogram(0.1, 0.5, 9), "u,w": Plane(Histogram(0.1, 0.5, 3), Histogram(0.2, 0.6, 4))},
    snapshot_trajectories=5,
    quantiles=(0.5,),
    covariances=True,
    autocorrelations={"u": Autocorrelation(2, (0, 2))},
    drifts={"u": Drift("w", Histogram(0.2, 0.6, 5), 1, 2), "product": Drift("product", Histogram(0, 0.3, 4), 2)},
    controls=("u",),
)


@pytest.mark.parametrize("dtype", some(["float64", "float32"]))
def test_every_recorder(dtype):
    run = run_of(CATALOGUE["rescaling"](), recorder=EVERYTHING, dtype=dtype)
    check_same(run, 1e-12 if dtype == "float64" else 1e-5)


def test_mirrored_pairs():
    run = run_of(CATALOGUE["rescaling"](), trajectories=6, antithetic=True)
    check_same(run)
    theta = simulate(run_of(Loss("z*x", ("x",), noise={"z": Noise.parse("normal")}), trajectories=6, antithetic=True,
                            initial={"x": 0.0}))["theta"][-1, :, 0]  # fmt: skip
    np.testing.assert_array_equal(theta[::2], -theta[1::2])


def test_given_starts():
    run = run_of(CATALOGUE["rescaling"](), initial={"u": Grid(0.1, 0.9, 0), "w": 0.5})
    check_same(run)


def test_more_variables_than_a_thread_holds():
    """The state stays in global memory: 22 parameters, each with the two averages of Adam."""
    names = tuple(f"w{i}" for i in range(22))
    text = " + ".join(f"(w{i} - z)**2*w{i - 1}" for i in range(1, 22))
    loss = Loss(text, names, noise={"z": Noise.parse("normal")})
    run = run_of(loss, Optimizer("adam"), trajectories=5, steps=4, recorder=Recorder(snapshots=(0, 4)))
    assert not simulate_module(run).IN_REGISTERS
    check_same(run)


def simulate_module(run: Run) -> Any:
    from sgdsim.simulation.simulator import Simulator

    return Simulator(run, device="cuda").kernel


def test_no_bit_depends_on_spans_blocks_or_memory(monkeypatch):
    from sgdsim.kernels import gpu

    recorder = dataclasses.replace(EVERYTHING, controls=())
    run = run_of(CATALOGUE["rescaling"](), trajectories=10 if SIMULATED else 50_000, steps=7, recorder=recorder)
    reference = simulate(run).digest()
    monkeypatch.setattr(gpu, "_MEASURED_BYTES", 1)
    assert simulate(run, span_steps=4, block_trajectories=8 if SIMULATED else 7 * 256).digest() == reference


def test_the_file_says_where_it_was_made():
    assert simulate(run_of(CATALOGUE["rescaling"]())).attributes["target"].startswith("cuda, ")


def test_a_gpu_that_is_not_there():
    from sgdsim.kernels import gpu

    if SIMULATED:
        pytest.skip("the simulator has any number of them")
    with pytest.raises(RunError, match=r"this machine has \d+, cuda:0"):
        gpu.select(1000)


START_AND_END = Recorder(snapshots=(0, 1))


@on_gpu
@pytest.mark.parametrize("name", CATALOGUE)
def test_one_step_agrees_to_a_few_units_in_the_last_place(name):
    """Of the largest parameter, from the same state with the same noise of 64 bits: no error has had time to grow."""
    run = run_of(CATALOGUE[name](), trajectories=10_000, steps=1, recorder=START_AND_END)
    one, other = simulate(run)["theta"][1], simulate(run, "cpu")["theta"][1]
    assert np.abs(one - other).max() <= 64 * np.finfo(float).eps * np.abs(other).max()


@on_gpu
def test_uniforms_have_the_bits_of_the_cpu():
    """Through a loss that moves by them and by nothing else."""
    loss = Loss("u*x + v*y", ("x", "y"), noise={"u": Noise.parse("uniform"), "v": Noise.parse("uniform")})
    run = run_of(
        loss,
        trajectories=100_000,
        steps=1,
        initial={"x": 0.0, "y": 0.0},
        schedule=Schedule("1"),
        recorder=START_AND_END,
    )
    for noise_dtype in ("float32", "float64"):
        one = dataclasses.replace(run, noise_dtype=noise_dtype)
        np.testing.assert_array_equal(simulate(one)["theta"], simulate(one, "cpu")["theta"])


@on_gpu
@pytest.mark.parametrize(("noise_dtype", "bound"), [("float32", 4e-7), ("float64", 8e-16)])
def test_normals_agree_to_rounding(noise_dtype, bound):
    """Within a few units in the last place of the pair's radius, at most 6.77 and 9.5."""
    loss = Loss("z*x", ("x",), noise={"z": Noise.parse("normal")})
    run = run_of(
        loss, trajectories=1_000_000, steps=1, initial={"x": 0.0}, schedule=Schedule("1"), recorder=START_AND_END
    )
    run = dataclasses.replace(run, noise_dtype=noise_dtype)
    one, other = simulate(run)["theta"][1], simulate(run, "cpu")["theta"][1]
    assert np.abs(one - other).max() < bound * 7


@on_gpu
@pytest.mark.parametrize("name", CATALOGUE)
def test_ensembles_have_the_same_distribution(name):
    """Kolmogorov and Smirnov on every parameter, different seeds; false alarms 1e-4 a loss (Bonferroni)."""
    from scipy.stats import ks_2samp

    loss = CATALOGUE[name]()
    run = run_of(loss, trajectories=200_000, steps=100, recorder=Recorder(snapshots=(100,)), noise_dtype="float32")
    one, other = simulate(run), simulate(dataclasses.replace(run, seed=8), "cpu")
    for i in range(len(loss.parameters)):
        states = one["theta"][0, :, i], other["theta"][0, :, i]
        assert ks_2samp(*states).pvalue > 1e-4 / len(loss.parameters)
    shifted = states[0] + 0.05 * states[0].std()  # what the test must see: 0.020 at a critical value below 0.009
    assert ks_2samp(shifted, states[1]).pvalue < 1e-4 / len(loss.parameters)


@on_gpu
def test_a_run_is_repeated_to_the_bit():
    recorder = dataclasses.replace(EVERYTHING, controls=())
    run = run_of(CATALOGUE["rescaling"](), trajectories=300_000, steps=40, recorder=recorder)
    assert len({simulate(run).digest() for _ in range(3)}) == 1
