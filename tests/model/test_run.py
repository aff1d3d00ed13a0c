"""Runs that make no sense are refused, with the key and what was expected."""

from __future__ import annotations

from typing import Any

import pytest

from sgdsim.base.errors import InputError
from sgdsim.model.data import Data
from sgdsim.model.loss import Loss
from sgdsim.model.losses import CATALOGUE
from sgdsim.model.noise import Noise
from sgdsim.model.observables import Observable
from sgdsim.model.optimizers import Optimizer
from sgdsim.model.recorder import Autocorrelation, Drift, Histogram, Plane, Recorder, binned
from sgdsim.model.run import Run
from sgdsim.model.schedules import Schedule
from sgdsim.model.symmetry import Symmetry
from sgdsim.simulation.run_loop import simulate_runs
from sgdsim.statistics.records import index_of
from sgdsim.theory.claims import parse_user_prediction

BINS = Histogram(0, 1, 2)
THREE = Loss("(th - x)**2/2", ("th",), data=Data({"x": (1.0, 2.0, 3.0)}))


def make(loss: Loss | None = None, **fields: Any) -> Run:
    """Run of 8 steps and 10 trajectories, by default of the two-weight net."""
    loss = loss or CATALOGUE["rescaling"]()
    defaults: dict[str, Any] = {
        "optimizer": Optimizer(),
        "schedule": Schedule("0.1"),
        "initial": dict.fromkeys(loss.parameters, 0.5),
        "trajectories": 10,
        "steps": 8,
    }
    return Run(loss, **{**defaults, **fields})


def observing(text: str, **fields: Any) -> Recorder:
    return Recorder(observables=(Observable.parse("m", text),), **fields)


RUNNING = "m runs along each trajectory, expected a parameter or plain observable"


@pytest.mark.parametrize(
    ("recorder", "message"),
    [
        (Recorder(histograms={"q": BINS}), "record.histograms.q: unknown observable 'q'"),
        (Recorder(histograms={"u,q": Plane(BINS, BINS)}), "record.histograms.u,q: unknown observable 'q'"),
        (Recorder(drifts={"q": Drift("u", BINS)}), "record.drift.q: unknown observable 'q'"),
        (Recorder(drifts={"u": Drift("q", BINS)}), "record.drift.u.by: unknown observable 'q'"),
        (observing("window_mean(u, 0, 4)", drifts={"m": Drift("u", BINS)}), f"record.drift.m: {RUNNING}"),
        (observing("value_at(u, 4)", drifts={"u": Drift("m", BINS)}), f"record.drift.u.by: {RUNNING}"),
        (Recorder(drifts={"u": Drift("u", BINS, 0)}), "record.drift.u.every: 0, expected an integer from 1"),
        (Recorder(drifts={"u": Drift("u", BINS, 1, 8)}), "record.drift.u.from: 8, expected an integer from 0 to 7"),
        (Recorder(autocorrelations={"q": Autocorrelation(0, (1,))}), "unknown name 'q'"),
        (
            observing("first_passage(u > 1)", autocorrelations={"m": Autocorrelation(0, (1,))}),
            f"record.autocorrelation.m: {RUNNING}",
        ),
        (
            Recorder(autocorrelations={"u": Autocorrelation(3, (1, 6))}),
            "record.autocorrelation.u.lags: 6, expected an integer from 0 to 5",
        ),
        (
            Recorder(autocorrelations={"u": Autocorrelation(3, (-1,))}),
            "record.autocorrelation.u.lags: -1, expected an integer from 0 to 5",
        ),
        (Recorder(autocorrelations={"u": Autocorrelation(-3, (4,))}), "record.autocorrelation.u.from: -3, expected"),
        (Recorder(autocorrelations={"u": Autocorrelation(9, (0,))}), "record.autocorrelation.u.from: 9, expected"),
        (
            Recorder(observables=(Observable("u_at_3", "u"),), autocorrelations={"u": Autocorrelation(3, (1,))}),
            "record.observables.u_at_3: the name is already taken",
        ),
        (
            Recorder(quantiles=(0.5, 1.5), histograms={"u": BINS}),
            "record.quantiles: 1.5, expected probabilities between 0 and 1",
        ),
        (Recorder(quantiles=(0.0,), histograms={"u": BINS}), "record.quantiles: 0.0"),
        (Recorder(quantiles=(0.5,)), "record.quantiles: are read off histograms, of which there are none"),
        (Recorder(snapshot_trajectories=11), "record.snapshot_trajectories: 11, expected an integer from 1 to 10"),
        (Recorder(snapshots=(-1,)), "record.snapshots: -1"),
        (Recorder(every=0), "record.every: 0"),
        (observing("window_sum(u, 0, 9)"), "record.observables.m: the window ends at step 9, the run at 8"),
        (observing("value_at(u, 9)"), "record.observables.m: the window ends at step 9, the run at 8"),
        (observing("charge(scale)"), "unknown name 'charge(scale)': did you mean 'charge(rescale)'?"),
        (observing("window_sum(gradient(q), 0, 2)"), "unknown name 'gradient(q)'"),
        (observing("window_sum(next(x), 0, 2)"), "unknown name 'next(x)'"),
        # What speaks of a step has no value in a state.
        (observing("x*u"), "unknown name 'x'"),
        (observing("next(u) - u"), "unknown name 'next(u)'"),
        (observing("u*learning_rate"), "unknown name 'learning_rate'"),
        (observing("value_at(x, 0)"), "unknown name 'x'"),
        (observing("first_passage(next(u) > 0)"), "unknown name 'next(u)'"),
        (observing("y"), "unknown name 'y'"),
    ],
)
def test_recorders_that_make_no_sense_are_refused(recorder, message):
    with pytest.raises(InputError) as error:
        make(recorder=recorder)
    assert message in str(error.value)


@pytest.mark.parametrize("name", ["x", "y", "x*e"])
def test_the_noise_of_a_step_is_that_of_one_sample(name):
    """Batches have several; what they have in common may be asked for."""
    recorder = observing(f"window_sum({name}, 0, 1)")
    make(recorder=recorder)
    with pytest.raises(InputError, match="differs between the 2 samples of a step, expected the noise of single"):
        make(recorder=recorder, optimizer=Optimizer(batch_size=2))
    make(recorder=observing("window_sum(gradient(u), 0, 1)"), optimizer=Optimizer(batch_size=2))


@pytest.mark.parametrize(("loss", "name"), [(None, "x"), (None, "y"), (THREE, "x")])
def test_an_optimizer_without_noise_has_none_to_show(loss, name):
    """There are no words and no rows to read it from."""
    recorder = observing(f"window_sum({name}, 0, 1)")
    with pytest.raises(InputError, match=f"record.observables.m: gradient_descent draws no {name}"):
        make(loss, recorder=recorder, optimizer=Optimizer("gradient_descent"))
    base = "th" if loss else "u"
    make(loss, recorder=observing(f"window_sum(gradient({base}), 0, 1)"), optimizer=Optimizer("gradient_descent"))


@pytest.mark.parametrize("sampling", ["batch", "epoch"])
def test_rows_are_drawn_of_a_data_set_that_is_large_enough(sampling):
    with pytest.raises(InputError, match=f"optimizer.sampling: {sampling!r}, expected only with a data set"):
        make(optimizer=Optimizer(sampling=sampling))
    with pytest.raises(InputError, match=r"optimizer.batch_size: 4, expected an integer from 1 to 3"):
        make(THREE, optimizer=Optimizer(batch_size=4, sampling=sampling))
    make(THREE, optimizer=Optimizer(batch_size=3, sampling=sampling))
    make(THREE, optimizer=Optimizer(batch_size=4))


def test_columns_of_a_data_set_are_noise_to_an_observable():
    with pytest.raises(InputError, match="unknown name 'x'"):
        make(THREE, recorder=observing("x*th"))
    with pytest.raises(InputError, match="differs between the 2 samples"):
        make(THREE, recorder=observing("window_sum(x, 0, 1)"), optimizer=Optimizer(batch_size=2))
    make(THREE, recorder=observing("window_sum(x, 0, 1)"))


@pytest.mark.parametrize(
    ("optimizer", "message"),
    [
        ({"preconditioner": ("1",)}, "optimizer.preconditioner: 1 rows, expected 2, one a parameter"),
        ({"preconditioner": ("x", "1")}, "optimizer.preconditioner: depends on the noise x"),
        ({"preconditioner": ("q", "1")}, "optimizer.preconditioner: unknown name 'q'"),
        ({"metric": (("1", "1"), ("1", "1"))}, "optimizer.metric: has no inverse"),
    ],
)
def test_matrices_that_do_not_fit_the_loss_are_refused(optimizer, message):
    with pytest.raises(InputError) as error:
        make(optimizer=Optimizer(**optimizer))
    assert message in str(error.value)


def test_what_has_no_closed_form_is_refused_before_a_step_is_taken():
    """That takes derivatives, so it is not known before the run is compiled."""
    noise = {"z": Noise.parse("normal")}
    runs = [
        make(Loss("cosh(z*th)", ("th",), noise=noise), recorder=observing("loss")),
        make(Loss("cosh(z*th)", ("th",), noise=noise), optimizer=Optimizer("gradient_descent")),
        make(Loss("cosh(z*a) + b + c + d", ("a", "b", "c", "d"), noise=noise), recorder=observing("hessian_max")),
    ]
    for run in runs:
        with pytest.raises(InputError, match="no closed form"):
            simulate_runs([run], scenario="", device="python")


def test_a_preconditioner_of_the_population_has_a_kernel_for_every_noise():
    """Its moments are compiled in where a formula asks for them."""
    ends = []
    for law in ("normal:0,2", "normal:0,3"):
        loss = Loss("(th*z)**2/2", ("th",), noise={"z": Noise.parse(law)})
        one = Optimizer("sgd", preconditioner=("1/hessian_trace",))
        run = make(loss, optimizer=one, steps=1, recorder=Recorder(snapshots=(1,)))
        ends.append(simulate_runs([run], scenario="", device="python")["theta"][0, :, 0])
    # The gradient grows as the square of the noise, and so does the trace.
    assert ends[0] == pytest.approx(ends[1], rel=1e-12)


def spelled(mu: str, phi: str) -> Run:
    """A run that declares and records everything under two names."""
    definitions: dict[str, Any] = {f"{mu}2": f"{mu}**2"}
    columns = Data({f"d_{phi}": (1.0, 2.0)})
    symmetry = Symmetry(f"turn_{phi}", image={f"{phi}[0]": f"{phi}[1]", f"{phi}[1]": f"{phi}[0]"})
    noise = {f"z_{mu}": Noise.parse("normal")}
    coordinates = (f"{phi}[0]", f"{phi}[1]")
    formula = f"{mu}2*norm2({phi})*d_{phi} + z_{mu}*sum({phi})"
    loss = Loss(formula, coordinates, {mu: 0.5}, noise, definitions, (symmetry,), columns)
    observables = {f"q_{mu}": f"sum({phi})", f"r_{phi}": f"window_sum(next({phi}[0]) - {phi}[0], 0, 2)"}
    recorder = Recorder(
        observables=tuple(Observable.parse(name, text) for name, text in observables.items()),
        histograms={f"q_{mu}": BINS, f"{phi}[0],q_{mu}": Plane(BINS, BINS)},
        drifts={f"q_{mu}": Drift(f"{phi}[1]", BINS)},
        autocorrelations={f"{phi}[0]": Autocorrelation(2, (0, 2))},
        controls=(f"{phi}[0]",),
    )
    return make(loss, initial=dict.fromkeys(coordinates, 0.5), recorder=recorder)


def test_two_spellings_of_a_name_are_one():
    """U+00B5 and U+03BC, U+03D5 and U+03C6, in all that a run takes, and in what is asked of its ensemble."""
    one, other = spelled("\u00b5", "\u03d5"), spelled("\u03bc", "\u03c6")
    ensemble = simulate_runs([one], scenario="", device="python")
    assert ensemble.digest() == simulate_runs([other], scenario="", device="python").digest()
    found = ensemble["histogram_q_\u00b5"]
    assert (found == ensemble["histogram_q_\u03bc"]).all()
    assert "drift_q_\u00b5" in ensemble
    assert index_of(ensemble, "observable", "\u03d5[0]") == index_of(ensemble, "observable", "\u03c6[0]")
    claims = [
        parse_user_prediction(f"mean({phi}[0]) = {mu}") for mu, phi in (("\u00b5", "\u03d5"), ("\u03bc", "\u03c6"))
    ]
    assert claims[0] == claims[1]
    assert claims[0].predictions([one])[0].predicted == 0.5
    with pytest.raises(InputError, match="twice, in two spellings"):
        make(Loss("x", ("x",), {"\u00b5": 1.0, "\u03bc": 2.0}))


def test_all_problems_of_a_run_are_found_at_once():
    """Each check is made once; a scenario made them again, part by part, to say more than the first."""
    with pytest.raises(InputError) as refused:
        Run(
            CATALOGUE["rescaling"](),
            Optimizer(sampling="epoch"),
            Schedule("0.3 - 0.1*t"),
            {"u": float("nan"), "q": 1.0},
            0,
            8,
            -1,
            Recorder(snapshots=(9, 99), histograms={"tt": BINS}, every=0),
            "float16",
        )
    problems = str(refused.value).splitlines()
    expected = ["run.trajectories: 0", "run.seed: -1", "run.dtype: unknown dtype 'float16'", "run.initial.u: nan"]
    expected += ["run.initial.q: unknown parameter", "run.initial: no initial value for w", "record.every: 0"]
    expected += [
        "record.histograms.tt: unknown",
        "optimizer.sampling: 'epoch'",
        "optimizer.learning_rate: '0.3 - 0.1*t'",
    ]
    expected += ["record.snapshots: 9", "record.snapshots: 99"]
    assert len(problems) == len(expected)
    assert all(problem.startswith(start) for problem, start in zip(problems, expected, strict=True))


def test_steps_that_no_memory_holds_are_refused_before_their_rates_are_made(monkeypatch):
    """Also of a call, which knows no scenario."""
    monkeypatch.setattr(Schedule, "rates", lambda *_: pytest.fail("it allocates"))
    loss = CATALOGUE["rescaling"]()
    with pytest.raises(
        InputError, match=r"run\.steps: 1000000000000 steps take 6\.4e\+04 GB of memory, this machine has"
    ):
        Run(loss, Optimizer(), Schedule("0.1"), {"u": 1.0, "w": 1.0}, 10, 10**12)


@pytest.mark.parametrize(
    ("numbers", "problem"),
    [
        ((0.0, 1.0, 10**9), "expected at most 16777216 bins"),
        ((-1e308, 1e308, 10), "expected a width"),
        ((1e16, 1e16 + 4, 100), "expected a width"),
        ((0.0, 5e-324, 1), "expected a width"),
        ((0.0, 5e-324, 10), "expected a width"),
        ((1.0, 0.0, 2), "low < high"),
        ((0.0, float("inf"), 2), "finite number"),
    ],
)
def test_bins_that_cannot_be(numbers, problem):
    """Edges that overflow or coincide, and more of them than memory: of all who make them."""
    for make in (lambda: Histogram(*numbers), lambda: binned(numbers, "here")):
        with pytest.raises(InputError, match=problem):
            make()
    Histogram(1e16, 1e16 + 64, 8)
    Histogram(-8e307, 8e307, 10)


MATRIX = Loss("norm2(W@x - x)/2", ("W[2,2]",), noise={name: Noise.parse("normal") for name in ("x[0]", "x[1]")})


@pytest.mark.parametrize("name", ["muon", "muon_exact"])
@pytest.mark.parametrize(
    ("loss", "fields", "message"),
    [
        (Loss("norm2(W)*a", ("W[2,2]", "a")), {}, "steps matrices, and a is a number, expected a[1,1]"),
        (Loss("norm2(W)*b[0]", ("W[2,2]", "b[3]")), {}, "steps matrices, and b is a vector of 3, expected b[3,1]"),
        (MATRIX, {"stop": ("W[0,0] > 1",)}, "run.stop: "),
        (MATRIX, {"recorder": Recorder(controls=("W[0,0]",))}, "record.controls: "),
        (MATRIX, {"optimizer_start": {"velocity(W)": 1.0}}, "run.initial: "),
        (Loss("norm2(W)", ("W[2,2]",), direction={"W[0,0]": "1"}), {}, "loss.direction: "),
    ],
)
def test_what_has_no_step_of_whole_matrices_is_refused(loss, fields, message, name):
    with pytest.raises(InputError) as error:
        make(loss, optimizer=Optimizer(name), **fields)
    assert message in str(error.value)
    make(loss, optimizer=Optimizer("momentum"), **fields)  # which has steps of numbers


def test_whole_matrices_take_no_substeps_and_no_preconditioner():
    with pytest.raises(InputError, match=r"optimizer.substeps: muon steps whole matrices, expected none"):
        make(MATRIX, optimizer=Optimizer("muon", substeps=2))
    with pytest.raises(InputError, match=r"optimizer.preconditioner: muon takes none"):
        Optimizer("muon", preconditioner=("1",) * 4)
