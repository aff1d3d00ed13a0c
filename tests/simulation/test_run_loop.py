"""The run loop: the oracle's numbers on every target, the same bits however the run is cut."""

from __future__ import annotations

import itertools
from dataclasses import fields, replace

import numpy as np
import pytest

from sgdsim.base.errors import InputError
from sgdsim.ensemble import Ensemble
from sgdsim.kernels.accumulators import Accumulators
from sgdsim.kernels.block import Block
from sgdsim.kernels.program import GROUPS, Program
from sgdsim.model.loss import Loss
from sgdsim.model.losses.river_valley import river_valley
from sgdsim.model.noise import Noise
from sgdsim.model.observables import Observable
from sgdsim.model.optimizers import Optimizer
from sgdsim.model.recorder import Drift, Histogram, Recorder
from sgdsim.model.run import Run
from sgdsim.model.schedules import Schedule
from sgdsim.model.starts import Grid
from sgdsim.simulation.result_arrays import allocate, at
from sgdsim.simulation.run_loop import compute, simulate_runs
from sgdsim.simulation.simulator import Simulator
from tests import naive
from tests.conftest import RIVER


def simulate(run: Run, **options) -> Ensemble:
    return simulate_runs([run], scenario="", **options)


# NumPy warns of them in the threads of the simulator, where nothing can tell it not to.
infinities = pytest.mark.filterwarnings("ignore:(overflow|invalid value|divide by zero) encountered")


def final(steps: int, **fields) -> Recorder:
    return Recorder(snapshots=(steps,), **fields)


def test_every_step_agrees_with_the_oracle(target, river_run):
    """Same random words, formulas by hand: all states of all trajectories to float32 noise rounding."""
    n, steps = 7, 13
    run = river_run(
        trajectories=n,
        steps=steps,
        schedule=Schedule("cosine:0.3,0.01"),
        recorder=Recorder(snapshots=tuple(range(14))),
    )
    theta = simulate(run, device=target)["theta"]
    y0 = 1 + 0.1 * naive.initial_normals(run.seed, n)
    normals = naive.gradient_normals(run.seed, n, steps)
    x, y = naive.river_valley(np.full(n, 0.5), y0, normals, run.schedule.rates(steps), **RIVER)
    np.testing.assert_allclose(theta[..., 0], x, rtol=0, atol=3e-6)
    np.testing.assert_allclose(theta[..., 1], y, rtol=0, atol=3e-6)


def test_float64_noise_agrees_with_python_target(river_run):
    run = river_run(trajectories=5, steps=9, noise_dtype="float64", recorder=final(9))
    one, two = (simulate(run, device=target)["theta"] for target in ("python", "cpu"))
    np.testing.assert_allclose(one, two, rtol=0, atol=1e-14)


def test_plain_python_runs_no_more_lanes_than_it_needs(river_run):
    """A tile has 256; the bits are those of whole tiles."""
    few, many = (river_run(trajectories=n, steps=3, recorder=final(3)) for n in (5, 300))
    assert Simulator(few, device="python").executor.formula.LANES == 8
    assert Simulator(many, device="python").executor.formula.LANES == 256
    one, other = (simulate(run, device="python")["theta"][:, :5] for run in (few, many))
    np.testing.assert_array_equal(one, other)


def test_float32_state_follows_float64_state(target, river_run):
    run = river_run(trajectories=5, steps=20, recorder=final(20))
    narrow = simulate(river_run(trajectories=5, steps=20, dtype="float32", recorder=final(20)), device=target)
    assert narrow["theta"].dtype == np.float32
    np.testing.assert_allclose(narrow["theta"], simulate(run, device=target)["theta"], atol=2e-6)


@pytest.mark.parametrize("batch_size", [3, *(pytest.param(size, marks=pytest.mark.validate) for size in (2, 8))])
def test_batches_average_independent_samples(batch_size, target, river_run):
    """The step from a known state is the mean gradient of batch_size draws of the documented layout."""
    run = river_run(
        trajectories=3,
        steps=1,
        optimizer=Optimizer(batch_size=batch_size),
        recorder=final(1),
        initial={"x": 0.5, "y": 1.0},
    )
    x = simulate(run, device=target)["theta"][0, :, 0]
    words = batch_size if batch_size == 2 else -(-(batch_size + batch_size % 2) // 4) * 4
    for trajectory in range(3):
        blocks = [naive.block(run.seed, 1, 0, trajectory, 0, index) for index in range(-(-words // 4))]
        flat = list(itertools.chain.from_iterable(blocks))
        normals = list(
            itertools.chain.from_iterable(naive.normal_pair(a, b) for a, b in zip(flat[::2], flat[1::2], strict=True))
        )
        expected = 0.5 - 0.1 * (1.5 * 0.5 + np.mean(normals[:batch_size]))
        assert x[trajectory] == pytest.approx(expected, abs=1e-6)


def test_momentum_and_weight_decay_follow_their_definition(target, river_run):
    run = river_run(
        trajectories=4,
        steps=6,
        optimizer=Optimizer("momentum", {"momentum": 0.7, "weight_decay": 0.2}),
        initial={"x": 0.5, "y": 1.0},
        recorder=final(6),
    )
    x, y, vx, vy = np.full(4, 0.5), np.full(4, 1.0), 0.0, 0.0
    for xi in naive.gradient_normals(run.seed, 4, 6):
        gx = (1 + 0.5 * y**2) * x + xi + 0.2 * x
        gy = 0.1 * y + 0.5 * y * x**2 + 0.2 * y
        vx, vy = 0.7 * vx + gx, 0.7 * vy + gy
        x, y = x - 0.1 * vx, y - 0.1 * vy
    np.testing.assert_allclose(simulate(run, device=target)["theta"][0], np.stack([x, y], -1), atol=3e-6)


def test_digest_does_not_depend_on_how_the_run_is_cut(river_run):
    """Threads, span lengths and block sizes: every stored bit is the same."""
    recorder = Recorder(
        every=7,
        snapshots=(0, 3, 30),
        observables=(Observable.parse("u", "a*x**2/2"), Observable.parse("m", "window_mean(x, 5, 29)")),
        histograms={"x": Histogram(-1, 1, 10)},
    )
    run = river_run(trajectories=3000, steps=30, recorder=recorder)
    reference = simulate(run).digest()
    for threads, span, block in [(1, 4, 256), (2, 8, 512), (1, 28, 2560), (2, None, 100_000), (1, 1024, 768)]:
        cut = simulate(run, threads=threads, span_steps=span, block_trajectories=block)
        assert cut.digest() == reference, (threads, span, block)
    assert simulate(river_run(trajectories=3000, steps=30, recorder=recorder, seed=1)).digest() != reference


def test_any_cut_gives_the_same_numbers_and_none_that_never_ends_is_begun(river_run):
    """Kernels draw the noise of four steps at once: spans of other lengths once drew it anew."""
    run = river_run(trajectories=300, steps=21, recorder=Recorder(every=2, snapshots=(21,)))
    cuts = [(1, None), (3, 1), (5, 100), (7, 300), (10**9, 10**9)]
    for device, tried in (("cpu", cuts), ("python", cuts[1:2])):
        reference = simulate(run, device=device).digest()
        for span, block in tried:
            cut = simulate(run, device=device, span_steps=span, block_trajectories=block)
            assert cut.digest() == reference, (device, span, block)
    for value in (0, -1, -4, True, 2.5):
        for name in ("span_steps", "block_trajectories"):
            with pytest.raises(InputError, match=f"{name}: {value}, expected a whole number from 1"):
                simulate(run, **{name: value})
    simulator = Simulator(run)
    into = Accumulators(*(getattr(allocate([simulator.run]), field.name)[0] for field in fields(Accumulators)))
    (block,) = simulator.blocks()
    with pytest.raises(InputError, match="span_steps"):
        next(simulator.spans(block, into, -4))
    with pytest.raises(InputError, match="block_trajectories"):
        next(simulator.blocks(-1))


def test_digest_on_the_python_target_does_not_depend_on_the_cut(river_run):
    run = river_run(trajectories=300, steps=9, recorder=Recorder(every=2, snapshots=(9,)))
    digests = {
        simulate(run, device="python", span_steps=s, block_trajectories=b).digest() for s, b in [(4, 256), (8, 512)]
    }
    assert len(digests) == 1


def test_trajectory_does_not_depend_on_the_size_of_the_ensemble(river_run):
    small, large = (simulate(river_run(trajectories=n, steps=20, recorder=final(20)))["theta"] for n in (100, 1000))
    np.testing.assert_array_equal(small[0], large[0, :100])


def test_trajectories_differ_and_are_uncorrelated(river_run):
    n = 20_000
    x = simulate(river_run(trajectories=n, steps=40, recorder=final(40)))["theta"][0, :, 0]
    assert len(np.unique(x)) == n
    x = (x - x.mean()) / x.std()
    # |z| < 5 on five lags: false-alarm rate 3e-6.
    for lag in (1, 2, 4, 256, 4096):
        assert abs(np.mean(x[lag:] * x[:-lag])) < 5 / np.sqrt(n - lag)


def test_sweep_points_draw_independent_noise_unless_common(river_run):
    run = river_run(trajectories=2000, steps=40, recorder=final(40), initial={"x": 0.0, "y": 0.0})
    own, common = (
        simulate_runs([run, run], scenario="", sweep={"a": (1, 2)}, common_noise=common)["theta"][:, 0, :, 0]
        for common in (False, True)
    )
    np.testing.assert_array_equal(common[0], common[1])
    assert abs(np.corrcoef(own)[0, 1]) < 5 / np.sqrt(2000)  # false-alarm rate 6e-7


def test_moments_equal_those_of_the_snapshot(target, size, river_run):
    n = size(700, 5000)
    run = river_run(trajectories=n, steps=8, recorder=Recorder(every=3, snapshots=(0, 3, 6, 8)))
    ensemble = simulate(run, device=target)
    assert list(ensemble["record_step"]) == list(ensemble["snapshot_step"]) == [0, 3, 6, 8]
    for record, parameter in itertools.product(range(1, 4), range(2)):
        found = [ensemble[name][record, parameter] for name in ("mean", "variance", "skewness", "kurtosis")]
        np.testing.assert_allclose(
            found, naive.central_moments(ensemble["theta"][record, :, parameter]), rtol=1e-10, atol=1e-12
        )
    assert (ensemble["count"] == n).all()
    assert not ensemble["excluded"].any()


def test_moments_far_from_zero_do_not_cancel(target, size, river_run):
    """A mean of 1e6 standard deviations: variance to 1e-9 and kurtosis to 1e-6 of a two-pass reference."""
    n = size(700, 100_000)
    run = river_run(
        trajectories=n,
        steps=1,
        initial={"x": 0.0, "y": Noise.parse("normal:1e6,1")},
        recorder=Recorder(snapshots=(0,)),
    )
    ensemble = simulate(run, device=target)
    mean, variance, skewness, kurtosis = naive.central_moments(ensemble["theta"][0, :, 1])
    assert ensemble["mean"][0, 1] == pytest.approx(mean, rel=1e-15)
    assert ensemble["variance"][0, 1] == pytest.approx(variance, rel=1e-9)
    assert ensemble["skewness"][0, 1] == pytest.approx(skewness, abs=1e-6)
    assert ensemble["kurtosis"][0, 1] == pytest.approx(kurtosis, abs=1e-6)


def test_histograms_count_what_numpy_counts(target, size, river_run):
    n = size(600, 10_000)
    recorder = Recorder(
        every=5, snapshots=(0, 5, 10), histograms={"x": Histogram(-0.2, 0.3, 7), "y": Histogram(0.9, 1.1, 3)}
    )
    ensemble = simulate(river_run(trajectories=n, steps=10, recorder=recorder), device=target)
    for column, name in enumerate("xy"):
        edges = ensemble[f"edges_{name}"]
        for record in range(3):
            values = ensemble["theta"][record, :, column]
            inside = values[values < edges[-1]]
            np.testing.assert_array_equal(ensemble[f"histogram_{name}"][record], np.histogram(inside, edges)[0])
            assert ensemble[f"underflow_{name}"][record] == (values < edges[0]).sum()
            assert ensemble[f"overflow_{name}"][record] == (values >= edges[-1]).sum()


def test_running_mean_is_the_mean_over_its_window(target, size, river_run):
    steps, (start, stop) = 12, (3, 11)
    recorder = Recorder(
        snapshots=tuple(range(steps + 1)),
        observables=(
            Observable.parse("xbar", f"window_mean(x**2, {start}, {stop})"),
            Observable.parse("u", "x*y"),
        ),
    )
    ensemble = simulate(river_run(trajectories=size(50, 50), steps=steps, recorder=recorder), device=target)
    x, y = ensemble["theta"][..., 0], ensemble["theta"][..., 1]
    expected = (x[start + 1 : stop + 1] ** 2).mean(axis=0)
    assert ensemble["mean"][-1, 2] == pytest.approx(expected.mean(), rel=1e-12)
    assert ensemble["variance"][-1, 2] == pytest.approx(expected.var(ddof=1), rel=1e-10)
    assert ensemble["mean"][-1, 3] == pytest.approx((x[-1] * y[-1]).mean(), rel=1e-12)


@infinities
def test_divergence_is_found_reported_and_excluded(target, river_run):
    """eta a = 33: |x| grows by 32 at every step and passes 1e100 after some 66."""
    loss = river_valley(a="a0", c="0", constants={"a0": 33.0, "sigma": 1.0})
    steps = 80
    run = river_run(
        loss=loss,
        schedule=Schedule("1"),
        trajectories=6,
        steps=steps,
        initial={"x": 1.0, "y": 0.0},
        recorder=Recorder(every=10, snapshots=(steps,)),
    )
    ensemble = simulate(run, device=target)
    status = ensemble["status"]
    assert ((status > 60) & (status < 76) & (status % 4 == 0)).all()
    assert np.isnan(ensemble["theta"]).all()
    alive = ensemble["record_step"][:, None] < status
    np.testing.assert_array_equal(ensemble["count"][:, 0], alive.sum(axis=1))
    np.testing.assert_array_equal(ensemble["excluded"][:, 0], (~alive).sum(axis=1))
    assert np.isfinite(ensemble["mean"][0, 0])
    assert np.isnan(ensemble["mean"][-1, 0])
    assert "not_a_number" not in ensemble


def power_run(exponent: float) -> Run:
    """Four steps of five starts down the slope of ``x**p/2``, which is ``p*x**(p - 1)/2``."""
    loss = Loss("x**p/2", ("x",), {"p": exponent})
    return Run(loss, Optimizer(), Schedule("0.1"), {"x": Grid(-1.0, 1.0, 5)}, 5, 4, recorder=final(4))


@infinities
def test_a_sweep_of_an_exponent_is_right_at_each_point(target):
    """Whole exponents are powers of negative numbers too, others are not; at zero both have a slope."""
    exponents = (2.0, 3.0, 2.5)
    runs = [power_run(exponent) for exponent in exponents]
    ensemble = simulate_runs(runs, scenario="", sweep={"loss.constants.p": exponents}, device=target)
    for exponent, found, undefined in zip(exponents, ensemble["theta"], ensemble["not_a_number"], strict=True):
        x = np.linspace(-1.0, 1.0, 5)
        with np.errstate(invalid="ignore"):
            for _ in range(4):
                x = x - 0.1 * exponent * x ** (exponent - 1) / 2
        np.testing.assert_allclose(found[0, :, 0], x, rtol=1e-14)
        np.testing.assert_array_equal(undefined, np.isnan(x))
    assert ensemble["not_a_number"].sum(axis=1).tolist() == [0, 0, 2]
    np.testing.assert_array_equal(ensemble["status"], 4 * ensemble["not_a_number"])


@infinities
def test_what_overflows_is_no_lack_of_a_value(target):
    """A quartic from 1e60 becomes inf - inf within four steps: it is too large, whatever it looks like then."""
    loss = Loss("x**4/4", ("x",))
    initial = {"x": 1e60}
    run = Run(loss, Optimizer(), Schedule("0.1"), initial, trajectories=5, steps=4, recorder=final(4))
    ensemble = simulate(run, device=target)
    assert ensemble["status"].tolist() == [4] * 5
    assert "not_a_number" not in ensemble
    root = Loss("x**4/4 + sqrt(y)", ("x", "y"))
    initial = {"x": 1e40, "y": -1.0}  # x is beyond the limit, as y becomes not a number
    ensemble = simulate(replace(run, loss=root, initial=initial, steps=1, recorder=final(1)), device=target)
    assert ensemble["status"].tolist() == [1] * 5
    assert "not_a_number" not in ensemble


@infinities
def test_one_diverging_trajectory_does_not_touch_the_others(target, size, river_run):
    """Starts of 1e101 are beyond the limit; the rest is as without them."""
    loss = river_valley(a="a0", c="0", constants={"a0": 0.1, "sigma": 0.0})
    run = river_run(
        loss=loss,
        trajectories=size(300, 300),
        steps=8,
        initial={"x": Noise.parse("normal:0,8e99"), "y": 0.0},
        recorder=Recorder(every=4, snapshots=(0, 8)),
    )
    ensemble = simulate(run, device=target)
    start, end = ensemble["theta"][..., 0]
    beyond = np.abs(start) * 0.99**4 > 1e100
    assert 0 < beyond.sum() < len(beyond) / 3
    np.testing.assert_array_equal(ensemble["status"] == 4, beyond)
    np.testing.assert_array_equal(np.isnan(end), ensemble["status"] > 0)
    assert ensemble["count"][0, 0] == (np.abs(start) <= 1e100).sum()


def test_too_much_memory_and_too_many_threads_are_refused(river_run):
    with pytest.raises(InputError, match="GB of memory"):
        simulate(river_run(trajectories=10**12, recorder=final(40)))
    with pytest.raises(InputError, match="--threads: 1000"):
        simulate(river_run(), threads=1000)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"trajectories": 0}, "run.trajectories: 0"),
        ({"steps": -1}, "run.steps: -1"),
        ({"seed": 2**64}, "run.seed"),
        ({"seed": -1}, "run.seed"),
        ({"dtype": "float16"}, "unknown dtype 'float16': did you mean"),
        ({"initial": {"x": 0.0}}, "no initial value for y"),
        ({"initial": {"x": 0.0, "y": 0.0, "xx": 0.0}}, "unknown parameter 'xx': did you mean 'x'"),
        ({"initial": {"x": float("nan"), "y": 0.0}}, "nan is not finite"),
        ({"schedule": Schedule("0")}, "learning_rate: '0' is 0.0 at step 0"),
        ({"schedule": Schedule("linear:0.1,-0.1")}, "at step 20"),
        ({"recorder": Recorder(snapshots=(41,))}, "record.snapshots: 41"),
        ({"recorder": Recorder(observables=(Observable("u", "qq*2"),))}, "unknown name 'qq'"),
        ({"recorder": Recorder(histograms={"z": Histogram(0, 1, 2)})}, "unknown observable 'z'"),
        ({"recorder": Recorder(observables=(Observable("x", "y"),))}, "already taken"),
    ],
)
def test_runs_that_make_no_sense_are_refused(fields, message, river_run):
    with pytest.raises(InputError) as error:
        river_run(**fields)
    assert message in str(error.value)


def test_block_state_is_plain_and_complete(river_run):
    """A block copied between spans goes on to the same bits: the seam for checkpoints and shards."""
    import copy

    simulator = Simulator(river_run(trajectories=500, steps=40, recorder=final(40)))
    results = []
    for stop_over in (None, 16):
        arrays = allocate([simulator.run])
        into = Accumulators(*(getattr(arrays, field.name)[0] for field in fields(Accumulators)))
        (block,) = simulator.blocks()
        if stop_over:
            simulator.advance(block, stop_over, into)
            block = copy.deepcopy(block)
        simulator.advance(block, 40, into)
        results.append(into)
    np.testing.assert_array_equal(results[0].theta, results[1].theta)
    np.testing.assert_array_equal(results[0].moments, results[1].moments)


def test_a_block_goes_on_in_another_process_wherever_it_runs(target, size, river_run):
    """From what `fetch` gives of it, in a simulator that knows nothing else: the state of a checkpoint."""
    n = size(40, 300)
    recorder = Recorder(every=8, snapshots=(16, 40), drifts={"x": Drift("x", Histogram(-2, 2, 4))})
    run = river_run(trajectories=n, steps=40, recorder=recorder)
    results = []
    for stop_over in (None, 16):
        simulator = Simulator(run, device=target)
        into = at(allocate([simulator.run]), 0)
        (block,) = simulator.blocks()
        if stop_over:
            simulator.advance(block, stop_over, into)
            arrays = (simulator.executor.fetch(getattr(block, name)) for name in ("state", "status", "changes"))
            saved = Block(block.first_tile, block.step, *arrays)
            simulator = Simulator(run, device=target)
            block = simulator.restored(saved)
        simulator.advance(block, 40, into)
        results.append(into)
    for name in ("theta", "moments", "changes"):
        np.testing.assert_array_equal(getattr(results[0], name), getattr(results[1], name))


def test_groups_are_parts_of_the_run_wherever_it_runs(target, size, river_run):
    """What two shards measure together is what one run measures: each its own groups, and nothing twice."""
    run = river_run(trajectories=size(20, 300), steps=8, recorder=Recorder(every=4, snapshots=(8,)))
    whole, *parts = (
        compute([run], device=target, units=[(0, groups)]).results for groups in ((0, GROUPS), (0, 1), (1, GROUPS))
    )
    assert (parts[0].moments[0, :, 0, :, 0] > 0).all()
    for name in ("moments", "theta"):
        np.testing.assert_array_equal(getattr(whole, name), sum(getattr(part, name) for part in parts))


def test_a_span_grows_to_the_run_and_no_further(river_run):
    """Over 600 blocks that each take less time than a span may, four times as many steps each time are no number."""
    run = river_run(trajectories=256 * 600, steps=4)
    assert simulate(run, block_trajectories=256)["count"][-1, 0] == run.trajectories


def test_kernels_are_compiled_once_whatever_the_shapes(river_run):
    """Arrays that are slices in one run and whole in another would compile a second time, for seconds."""
    kernel = Simulator(river_run()).kernel
    for snapshots, block in [((), 2**17), ((40,), 256), ((0, 20, 40), 256)]:
        simulate(river_run(trajectories=700, recorder=Recorder(snapshots=snapshots)), block_trajectories=block)
    assert len(kernel.advance.signatures) == 1
    assert len(kernel.initialize.signatures) == 1


@infinities
def test_undefined_and_infinite_values_enter_nothing(target, size, river_run):
    """1/x at x = 0 and log(x) below it are no values: not in moments, histograms, min or max."""
    texts = {
        "a1": "1/x",
        "a2": "min(log(x), 3)",
        "a3": "max(3, log(x))",
        "a4": "where(log(x) < 0, 1, 2)",
        "a5": "x + 1",
    }
    recorder = Recorder(
        observables=tuple(Observable.parse(name, text) for name, text in texts.items()),
        histograms={"a1": Histogram(-1, 1, 2)},
    )
    n = size(100, 100)
    zero = simulate(river_run(trajectories=n, initial={"x": 0.0, "y": 0.0}, steps=1, recorder=recorder), device=target)
    assert zero["count"][0].tolist()[2] == 0
    assert zero["overflow_a1"][0] == zero["underflow_a1"][0] == zero["histogram_a1"][0].sum() == 0
    start = {"x": -1.0, "y": 0.0}
    below = simulate(river_run(trajectories=n, initial=start, steps=1, recorder=recorder), device=target)
    assert below["count"][0].tolist()[2:] == [n, 0, 0, 0, n]


@infinities
def test_divergence_at_the_last_step_is_found(target, river_run):
    """A run of 3 steps, which no multiple of 4 ends."""
    loss = river_valley(a="a0", c="0", constants={"a0": 1e60, "sigma": 0.0})
    run = river_run(
        loss=loss, schedule=Schedule("1"), trajectories=5, steps=3, initial={"x": 1.0, "y": 0.0}, recorder=final(3)
    )
    ensemble = simulate(run, device=target)
    assert ensemble["status"].tolist() == [3] * 5
    assert np.isnan(ensemble["theta"]).all()


def test_heavy_steps_are_cut_into_small_units(river_run):
    """An interrupt waits for one unit; where a step is heavy a block has fewer trajectories."""
    sizes = []
    for batch_size in (1, 256):
        simulator = Simulator(river_run(trajectories=2**17, optimizer=Optimizer(batch_size=batch_size)))
        sizes.append(len(list(simulator.cuts())))
    assert sizes == [1, 8]


def test_the_seed_of_a_sweep_over_seeds_is_not_that_of_its_first_point(river_run):
    runs = [river_run(seed=seed) for seed in (1, 2)]
    ensemble = simulate_runs(runs, scenario="", sweep={"run.seed": (1, 2)})
    assert ensemble.attributes["seed"] == "swept"
    assert not np.array_equal(ensemble["mean"][0], ensemble["mean"][1])


def test_drifts_do_not_depend_on_how_the_run_is_cut(river_run, monkeypatch):
    """More tiles than groups: the order of sums within a group once depended on where spans end."""
    monkeypatch.setattr(Program, "lanes", property(lambda self: 2))
    recorder = Recorder(drifts={"x": Drift("x", Histogram(-2, 2, 5))})
    run = river_run(trajectories=64 * 2 * 2 + 5, steps=12, recorder=recorder)
    cuts = (4, 2**17), (12, 2**17), (8, 64 * 2)
    options = {"device": "python", "scenario": ""}
    digests = {simulate_runs([run], span_steps=n, block_trajectories=block, **options).digest() for n, block in cuts}
    assert len(digests) == 1
