"""Every loss of the catalogue through the kernels: what is simulated is the step that the formula says."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import sympy

from sgdsim.app.simulate import simulate
from sgdsim.base.errors import InputError
from sgdsim.formulas.symbolic import SYMBOLIC
from sgdsim.model.loss import Loss
from sgdsim.model.losses import CATALOGUE
from sgdsim.model.optimizers import Optimizer
from sgdsim.model.update_rules import OPTIMIZERS
from tests.conftest import OF_NUMBERS, needed
from tests.samples import daily

RATE = 0.03
LANES = 256

# The sample's gradient in NumPy, by the printer of SymPy: nothing of the kernels' printer or elementary functions.
NUMPY = {
    "sigmoid": lambda x: 0.5 * (1 + np.tanh(x / 2)),
    "softplus": lambda x: np.logaddexp(0, x),
    "relu": lambda x: np.maximum(x, 0),
    "step": lambda x: np.where(x > 0, 1.0, 0.0),
    "sign": np.sign,
    "abs": np.abs,
    "tan": np.tan,
    "atan": np.arctan,
    "sinh": np.sinh,
    "cosh": np.cosh,
    "tanh": np.tanh,
    "tanh_slope": lambda x: 1 / np.cosh(x) ** 2,
    "min": np.minimum,
    "max": np.maximum,
    "where": lambda a, b, x, y: np.where(a < b, x, y),
}


def optimizer(name: str) -> Optimizer:
    return Optimizer(name, needed(name))


def start(loss: Loss) -> dict[str, Any]:
    return {name: f"normal:{0.5 + 0.25 * i},0.1" for i, name in enumerate(loss.parameters)}


def run(loss: Loss, target: str, steps: int, chosen: Optimizer | None = None, **options: Any) -> Any:
    return simulate(
        loss,
        chosen,
        learning_rate=RATE,
        initial=start(loss),
        trajectories=LANES,
        steps=steps,
        seed=5,
        snapshots=[0, steps],
        device=target,
        **options,
    )


def gradient(loss: Loss, values: dict[str, np.ndarray]) -> np.ndarray:
    """Gradient of each sample, shape (trajectory, parameter)."""
    entries = [entry.subs({loss.symbols[n]: v for n, v in loss.constants.items()}) for entry in loss.gradient]
    names = [*loss.parameters, *loss.noise]
    arguments = sympy.symbols(f"a:{len(names)}", real=True)
    renamed = [entry.xreplace({loss.symbols[n]: a for n, a in zip(names, arguments, strict=True)}) for entry in entries]
    functions = [sympy.lambdify(arguments, entry, [NUMPY, "numpy"]) for entry in renamed]
    columns = [function(*(values[name] for name in names)) for function in functions]
    return np.stack([np.broadcast_to(column, LANES) for column in columns], axis=1)


def check_step(loss: Loss, chosen: Optimizer) -> None:
    """The state after one step against NumPy's, from the same start and the same noise."""
    drawn = {f"drawn_{i}": f"window_sum({noise}, 0, 1)" for i, noise in enumerate(loss.noise)}
    ensemble = run(loss, "python", 1, chosen, observables=drawn)
    before, after = ensemble["theta"]
    values = dict(zip(loss.parameters, before.T, strict=True)) | noise_of(loss, ensemble)
    step = {"theta": before, "gradient": gradient(loss, values), "learning_rate": RATE, "t": 0.0}
    expected = chosen.steps({**step, **dict.fromkeys(chosen.rule.state, np.zeros_like(before))})["theta"]
    np.testing.assert_allclose(after, expected, rtol=1e-11, atol=1e-12)


@pytest.mark.parametrize("name", daily(CATALOGUE, "river_valley", "rescaling", "relu_network", "softmax"))
def test_a_step_of_sgd_is_what_the_formula_says(name):
    check_step(CATALOGUE[name](), Optimizer())


OTHERS = [
    name for name in OF_NUMBERS if name != "sgd" and not (OPTIMIZERS[name].is_random or OPTIMIZERS[name].population)
]


@pytest.mark.validate
@pytest.mark.parametrize("rule", OTHERS)
@pytest.mark.parametrize("name", CATALOGUE)
def test_a_step_of_every_optimizer_is_what_its_formula_says(name, rule):
    check_step(CATALOGUE[name](), optimizer(rule))


def noise_of(loss: Loss, ensemble: Any) -> dict[str, np.ndarray]:
    """The noise of the step, variable by variable, from a second loss that moves by it and by nothing else."""
    names = {noise: f"copy_{i}" for i, noise in enumerate(loss.noise)}
    if not names:
        return {}
    copies = Loss(
        " + ".join(f"{noise}*{copy}" for noise, copy in names.items()), tuple(names.values()), noise=loss.noise
    )
    moved = simulate(
        copies,
        learning_rate=1.0,
        initial=dict.fromkeys(copies.parameters, 0.0),
        trajectories=LANES,
        steps=1,
        seed=5,
        snapshots=[1],
        device="python",
    )["theta"][0]
    found = {noise: -moved[:, i] for i, noise in enumerate(names)}
    means = dict(zip(ensemble["observable"], ensemble["mean"][-1], strict=True))
    for i, noise in enumerate(names):  # the path observable of the first run says the same
        np.testing.assert_allclose(means[f"drawn_{i}"], found[noise].mean(), rtol=1e-12, atol=1e-14)
    return found


def has_population(loss: Loss) -> bool:
    try:
        return loss.population is not None
    except InputError:
        return False


PAIRS = [(name, "adam") for name in CATALOGUE]
PAIRS += [(name, rule) for name in ("rescaling", "permutation") for rule in OF_NUMBERS if rule != "adam"]


@pytest.mark.validate
@pytest.mark.parametrize(("name", "rule"), PAIRS)
def test_compiled_and_plain_kernels_agree(name, rule):
    """Twelve steps compiled and in plain Python: the same bits."""
    loss = CATALOGUE[name]()
    plain, compiled = (run(loss, target, 12, optimizer(rule)) for target in ("python", "cpu"))
    np.testing.assert_array_equal(compiled["theta"], plain["theta"])
    assert (plain["theta"][0] != plain["theta"][1]).any()


@pytest.mark.parametrize("name", daily(CATALOGUE, "river_valley", "rescaling", "relu_network", "softmax"))
def test_gradient_descent_needs_a_population_loss(name):
    """Where there is none, it is refused; elsewhere it moves."""
    loss = CATALOGUE[name]()
    if has_population(loss):
        ensemble = run(loss, "python", 1, optimizer("gradient_descent"))
        assert (ensemble["theta"][0] != ensemble["theta"][1]).any()
    else:
        with pytest.raises(InputError, match="no closed form"):
            run(loss, "python", 1, optimizer("gradient_descent"))


def test_every_function_of_the_catalogue_is_known_here():
    """A new function of formulas needs its NumPy twin above."""
    own = {name for name in SYMBOLIC if name.isidentifier()}
    assert own - set(NUMPY) <= {"exp", "log", "sqrt", "sin", "cos", "erf", "negative", "sum"}
