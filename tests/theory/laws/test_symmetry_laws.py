"""Charges, affine gradients and heavy tails on ensembles of a plain simulation, each with a wrong run to reject.

Every assertion on a verdict has a fixed seed; Holm's level of 1e-3 for a whole table is its false-alarm rate.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from sgdsim.ensemble import Ensemble
from sgdsim.formulas import evaluation
from sgdsim.model import rare_events
from sgdsim.model.loss import Loss
from sgdsim.model.noise import Noise
from sgdsim.model.optimizers import Optimizer
from sgdsim.model.recorder import Recorder
from sgdsim.model.run import Run
from sgdsim.model.schedules import Schedule
from sgdsim.model.symmetry import Symmetry
from sgdsim.prediction import NotApplicable
from sgdsim.statistics.comparison import Comparison, compare
from sgdsim.theory import find_law
from tests.statistics.test_estimators import synthetic

RESCALE = Symmetry.parse("rescale:u:1,w:-1")
NOISE = {"z": Noise.parse("normal")}


def linear(noise: str = "uniform:-1,1") -> Loss:
    return Loss("u*w*z", ("u", "w"), {}, {"z": Noise.parse(noise)}, symmetries=(RESCALE,))


def make_run(loss: Loss, rate: str = "0.2", steps: int = 12, **options: object) -> Run:
    initial = dict(zip(loss.parameters, (1.0, 0.4, -0.3), strict=False))
    settings = {"optimizer": Optimizer(), "initial": initial, "trajectories": 64 * 1024, "seed": 5} | options
    return Run(loss=loss, schedule=Schedule(rate), steps=steps, **settings)  # type: ignore[arg-type]


def draws(noise: Noise, rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    if noise.family == "table":
        return rng.choice(noise.arguments[::2], size=shape, p=noise.arguments[1::2])
    return {"normal": rng.normal, "uniform": rng.uniform, "laplace": rng.laplace}[noise.family](
        *noise.arguments, size=shape
    )


def simulate(run: Run) -> Ensemble:
    """SGD by the formulas of loss and optimizer, one step after the other."""
    loss, optimizer, rng = run.loss, run.optimizer, np.random.default_rng(run.seed)
    n, fixed = run.trajectories, run.loss.constants
    theta = {name: np.full(n, float(run.initial[name])) for name in loss.parameters}  # type: ignore[arg-type]
    states = {name: {state: np.zeros(n) for state in optimizer.rule.state} for name in loss.parameters}
    matrix = optimizer.matrix(loss)
    weights = np.eye(len(theta)) if matrix is None else np.array(matrix, dtype=float)
    sums = {one.name: np.zeros(n) for one in run.recorder.observables if one.is_running}
    records, snapshots = [], {}
    for step in range(run.steps + 1):
        values = {**fixed, **theta}
        if step in run.recorder.record_steps(run.steps):
            plain = {o.name: o.formula for o in run.recorder.observables if not o.is_running}
            measured = {name: evaluation.evaluate([loss.expand(text)], values)[0] for name, text in plain.items()}
            records.append({name: np.array(value) for name, value in {**theta, **measured, **sums}.items()})
        if step in run.recorder.snapshots:
            snapshots[step] = {name: value.copy() for name, value in theta.items()}
        if step == run.steps:
            break
        noise = {name: draws(one, rng, (optimizer.batch_size, n)) for name, one in loss.noise.items()}
        gradients = [np.broadcast_to(g, (optimizer.batch_size, n)).mean(0) for g in _gradients(loss, values, noise)]
        rate = float(run.schedule.rates(run.steps)[step])
        for one in run.recorder.observables:
            if one.is_running:
                sums[one.name] = sums[one.name] + _pushed(one.formula, loss, gradients, rate)
        steps = []
        for name, gradient in zip(loss.parameters, gradients, strict=True):
            given = {"theta": theta[name], "gradient": gradient, "t": step, "learning_rate": rate, **states[name]}
            after = optimizer.steps(given)
            states[name] = {state: after[state] for state in states[name]}
            steps.append((after["theta"] - theta[name]) / rate)
        moves = weights @ np.array(steps)
        theta = {name: theta[name] + rate * move for name, move in zip(loss.parameters, moves, strict=True)}
    steps, known = run.recorder.record_steps(run.steps).tolist(), rare_events.attributes([run])
    return synthetic(records, steps, snapshots, lanes=64, attributes=known)


def _gradients(loss: Loss, values: dict[str, np.ndarray], noise: dict[str, np.ndarray]) -> list[np.ndarray]:
    return evaluation.evaluate(loss.gradient, {**values, **noise})


def _pushed(formula: str, loss: Loss, gradients: list[np.ndarray], rate: float) -> np.ndarray:
    import sympy

    symbols = {name: sympy.Symbol(f"g_{i}", real=True) for i, name in enumerate(loss.parameters)}
    expression = loss.expand_step(formula, "sum", {}, symbols, sympy.Float(rate, 17))
    return evaluation.evaluate([expression], {f"g_{i}": g for i, g in enumerate(gradients)})[0]


def verdicts(run: Run, id: str, told: Run | None = None) -> list[Comparison]:
    """The rows of a law for a run, held against an ensemble of another one where that is given."""
    run = replace(run, recorder=run.recorder.merge(find_law(id).requirements(run)))
    simulated = run if told is None else replace(told, recorder=run.recorder)
    return compare(simulate(simulated), find_law(id).predictions([run]))


class TestCharges:
    def test_the_change_of_a_charge_is_exact_path_by_path(self) -> None:
        rows = verdicts(make_run(linear()), "charges")
        identity, mean = rows
        assert identity.measured == pytest.approx(1.0 + 0.16, abs=1e-12)
        assert identity.verdict == "agrees"
        # E Q_t = Q_0*(1 - eta^2 E s^2)^t with E s^2 = 1/3.
        assert mean.predicted == pytest.approx((1.0 - 0.16) / 2 * (1 - 0.04 / 3) ** 12)
        assert mean.verdict == "agrees"

    def test_another_learning_rate_is_rejected(self) -> None:
        rows = verdicts(make_run(linear()), "charges", told=make_run(linear(), rate="0.4"))
        assert rows[1].verdict == "disagrees"

    def test_dynamics_without_the_symmetry_are_rejected(self) -> None:
        # A constant force on u alone: the sum of pushes no longer explains the charge.
        loss = linear()
        broken = Loss("u*w*z + u/5", ("u", "w"), {}, loss.noise)
        object.__setattr__(broken, "symmetries", (RESCALE,))
        rows = verdicts(make_run(loss), "charges", told=make_run(broken))
        assert rows[0].verdict == "disagrees"

    def test_the_charge_of_a_translation_is_kept_but_for_weight_decay(self) -> None:
        shift = Symmetry.parse("translation:u,w")
        loss = Loss("(u - w - z)**2/2", ("u", "w"), {}, NOISE, symmetries=(shift,))
        run = make_run(loss, optimizer=Optimizer("sgd", {"weight_decay": 0.5}))
        rows = verdicts(run, "charges")
        assert rows[0].verdict == "agrees"
        assert "0.282" in rows[0].quantity  # 0.9^12
        told = make_run(loss)
        assert verdicts(run, "charges", told=told)[0].verdict == "disagrees"

    @pytest.mark.parametrize(
        ("optimizer", "why"),
        [(Optimizer("adam"), "no known change"), (Optimizer("sgd", preconditioner=("1", "2")), "matrix")],
    )
    def test_it_says_where_it_does_not_apply(self, optimizer: Optimizer, why: str) -> None:
        with pytest.raises(NotApplicable, match=why):
            find_law("charges").predictions([make_run(linear(), optimizer=optimizer)])


class TestMoments:
    @pytest.mark.parametrize(
        "optimizer",
        [
            Optimizer(batch_size=2),
            Optimizer("momentum", {"momentum": 0.5}),
            Optimizer("sgd", {"weight_decay": 0.2}, preconditioner=(("1", "0.2"), ("0.1", "0.5"))),
        ],
        ids=lambda optimizer: optimizer.name,
    )
    def test_every_linear_optimizer_agrees(self, optimizer: Optimizer) -> None:
        loss = Loss("u**2/2 + 0.3*u*w + w**2 + z*(u + 0.5*w)", ("u", "w"), {}, {"z": Noise.parse("laplace")})
        rows = verdicts(make_run(loss, optimizer=optimizer, recorder=Recorder(every=4)), "affine-moments")
        assert {row.verdict for row in rows} <= {"agrees", "inconclusive"}
        assert {row.quantity for row in rows} >= {"mean(u)", "variance(w)", "variance(u) at step 8"}
        assert all(abs(row.z) < 5 for row in rows)

    def test_another_momentum_is_rejected(self) -> None:
        loss = Loss("u**2/2 + 0.3*u*w + w**2 + z*(u + 0.5*w)", ("u", "w"), {}, NOISE)
        run = make_run(loss, optimizer=Optimizer("momentum", {"momentum": 0.5}))
        told = make_run(loss, optimizer=Optimizer("momentum", {"momentum": 0.6}))
        assert any(row.verdict == "disagrees" for row in verdicts(run, "affine-moments", told=told))

    def test_it_leaves_fast_directions_to_valley(self) -> None:
        with pytest.raises(NotApplicable, match="valley"):
            find_law("affine-moments").predictions([make_run(Loss("u**2/2 + z*u", ("u",), {}, NOISE))])

    def test_it_is_silent_on_anharmonic_losses(self) -> None:
        with pytest.raises(NotApplicable, match="affine"):
            find_law("affine-moments").predictions([make_run(Loss("u**4/4 + z*u", ("u",), {}, NOISE))])


class TestLyapunov:
    LOSS = Loss("(-0.2 + 1.5*z)*u**2/2", ("u",), {}, {"z": Noise.parse("table:-1@0.5,1@0.5")})

    def test_the_typical_growth_agrees(self) -> None:
        mean, variance = verdicts(make_run(self.LOSS, rate="0.4"), "lyapunov")
        # Handbook: (1/2) log|(1 - eta*h)^2 - eta^2 D^2| = -0.107588.
        assert mean.predicted == pytest.approx(-0.107588 * 12, abs=1e-5)
        assert abs(mean.z) < 4
        assert abs(variance.z) < 4

    def test_another_spread_is_rejected(self) -> None:
        told = Loss("(-0.2 + 1.3*z)*u**2/2", ("u",), {}, self.LOSS.noise)
        rows = verdicts(make_run(self.LOSS, rate="0.4"), "lyapunov", told=make_run(told, rate="0.4"))
        assert rows[1].verdict == "disagrees"

    def test_it_needs_a_gradient_that_is_a_factor_times_the_parameter(self) -> None:
        with pytest.raises(NotApplicable, match="random factor"):
            find_law("lyapunov").predictions([make_run(Loss("(u - z)**2/2", ("u",), {}, NOISE))])


class TestTail:
    LOSS = Loss("(x*u - e)**2/2", ("u",), {}, {"x": Noise.parse("normal"), "e": Noise.parse("normal")})

    def test_the_exponent_of_regression(self) -> None:
        run = make_run(self.LOSS, rate="0.8", steps=60, trajectories=64 * 4096)
        (row,) = verdicts(run, "heavy-tail")
        assert row.predicted == pytest.approx(1.546, abs=1e-3)  # handbook
        assert abs(row.z) < 4

    def test_a_lighter_tail_is_rejected(self) -> None:
        run = make_run(self.LOSS, rate="0.8", steps=60, trajectories=64 * 4096)
        (row,) = verdicts(run, "heavy-tail", told=replace(run, schedule=Schedule("0.4")))
        assert abs(row.z) > 5

    @pytest.mark.parametrize(
        ("formula", "why"),
        [("(x*u - 20*x - e)**2/2", "minimum at 20"), ("(x*u - 20*x)**2/2 + 0*e", "collapse|minimum at 20")],
    )
    def test_the_tail_is_about_a_noisy_minimum_at_zero(self, formula: str, why: str) -> None:
        run = make_run(Loss(formula, ("u",), {}, self.LOSS.noise), rate="0.8", steps=60)
        run = replace(run, recorder=find_law("heavy-tail").requirements(run))
        with pytest.raises(NotApplicable, match=why):
            find_law("heavy-tail").predictions([run])

    def test_it_waits_until_the_start_is_forgotten(self) -> None:
        run = make_run(self.LOSS, rate="0.8", steps=6)
        run = replace(run, recorder=find_law("heavy-tail").requirements(run))
        with pytest.raises(NotApplicable, match="remembered"):
            find_law("heavy-tail").predictions([run])


def test_a_variance_that_rare_trajectories_make_is_not_predicted() -> None:
    """At 200 steps the variance is 1e24 and no sample holds it: what it measures is no evidence."""
    run = make_run(TestTail.LOSS, rate="0.8", steps=200)
    assert {row.statistic for row in find_law("affine-moments").predictions([run])} == {"mean"}


def test_a_constant_called_learning_rate_is_not_that_of_the_step() -> None:
    loss = Loss("u*w*z*learning_rate", ("u", "w"), {"learning_rate": 2.0}, NOISE, symmetries=(RESCALE,))
    with pytest.raises(NotApplicable, match="name of the loss"):
        find_law("charges").predictions([make_run(loss)])


def test_numbers_are_finite_where_moments_are_not() -> None:
    run = make_run(TestTail.LOSS, rate="0.8", steps=60)
    rows = find_law("affine-moments").predictions([run])
    assert np.isfinite([row.predicted for row in rows]).all()
