"""NTL-8: SignSGD without noise. Exact.

In a valley x comes down by eta a step, and then alternates between two points that are eta apart. A start that is
uniform over a whole number of ``eta`` to both sides makes the phase of this orbit uniform,

    x ~ U(-eta, eta),    <x^2> = eta^2/3,    <U> = a*eta^2/6 for U = a*x^2/2:

no equipartition. Each orbit has the entropy ln 2.

Re-derived.
"""

from __future__ import annotations

from functools import partial

import numpy as np

from sgdsim.model.noise import Noise
from sgdsim.model.observables import Observable
from sgdsim.model.run import Recorder, Run
from sgdsim.prediction import Distance, Moment, NotApplicable, Prediction
from sgdsim.theory.law import Law, name_of
from sgdsim.theory.methods.gradient_flow import constant_rate
from sgdsim.theory.methods.walls import number

ID = "NTL-8"


def _valleys(run: Run) -> list[tuple[str, float]]:
    """Parameters with a gradient ``a*x`` and nothing else, and their curvatures."""
    loss = run.loss
    if run.optimizer.name != "signsgd" or run.optimizer.decay:
        raise NotApplicable(f"holds for signsgd without weight decay, the optimizer is {run.optimizer.name}")
    slopes = [(name, g / symbol) for name, symbol, g in zip(loss.parameters, loss.theta, loss.gradient, strict=True)]
    fixed = set(loss.symbols.values()) - set(loss.theta) - {loss.symbols[name] for name in loss.random}
    found = [(name, number(run, slope.cancel())) for name, slope in slopes if slope.cancel().free_symbols <= fixed]
    if not any(curvature > 0 for _, curvature in found):
        raise NotApplicable("no parameter has a gradient a*x without noise")
    return [one for one in found if one[1] > 0]


def _fast_loss(name: str, curvature: float) -> Observable:
    label = name.replace("[", "_").replace("]", "")
    return Observable(f"fast_loss_{label}", f"{curvature / 2.0!r}*{name}**2")


def _records(run: Run) -> Recorder:
    return Recorder(observables=tuple(_fast_loss(*one) for one in _valleys(run)), snapshots=(run.steps,))


def _at_point(run: Run) -> list[Prediction]:
    rate = constant_rate(run)
    rows: list[Prediction] = []
    for name, curvature in _valleys(run):
        reach = _reach(run, name, rate)
        if reach > rate * run.steps:
            raise NotApplicable(f"{name} starts up to {reach:g} away, farther than {run.steps} steps go")
        conditions = f"{name}: uniform phase, a = {curvature:g}"
        fast = name_of(run, _fast_loss(name, curvature))
        scale = 0.01 * rate / np.sqrt(3.0)
        rows += [
            Prediction(
                ID, f"mean({name})", Moment("mean", name, run.steps), 0.0, "exact", scale, conditions=conditions
            ),
            _row(run, "variance", name, rate**2 / 3.0, conditions),
            _row(run, "mean", fast, curvature * rate**2 / 6.0, conditions),
        ]
        if run.steps in run.recorder.snapshots:
            measure = Distance(name, run.steps, partial(_uniform_cdf, rate))
            rows.append(Prediction(ID, f"distribution of {name}", measure, 0.0, conditions=conditions))
    return rows


def _reach(run: Run, name: str, rate: float) -> float:
    start = run.initial[name]
    if not isinstance(start, Noise) or start.family != "uniform":
        raise NotApplicable(f"{name} does not start with a uniform phase: run.initial, uniform over multiples of eta")
    low, high = start.arguments
    if any(abs(end / rate - round(end / rate)) > 1e-9 for end in (low, high)):
        raise NotApplicable(f"{name} starts between {low:g} and {high:g}, not multiples of the learning rate {rate:g}")
    return max(abs(low), abs(high))


def _row(run: Run, statistic: str, name: str, value: float, conditions: str) -> Prediction:
    measure = Moment(statistic, name, run.steps)
    return Prediction(ID, f"{statistic}({name})", measure, value, conditions=conditions)


def _uniform_cdf(rate: float, values: np.ndarray) -> np.ndarray:
    return np.clip((np.asarray(values) / rate + 1.0) / 2.0, 0.0, 1.0)


LAW = Law(
    ID,
    "SignSGD without noise: an orbit of two points with a uniform phase",
    "re-derived, sgdsim handbook NTL-8; a steady state of sign descent is quoted in arXiv:2505.10559",
    _records,
    _at_point,
)
