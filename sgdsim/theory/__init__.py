"""Predictions from the descriptions of a run alone: laws, and the user's own claims."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from math import inf

from sgdsim.base.errors import InputError, unknown_name
from sgdsim.model.run import Recorder, Run
from sgdsim.prediction import NotApplicable, Prediction
from sgdsim.theory.claims import UserPrediction, parse_user_prediction
from sgdsim.theory.law import LAWS, Law, Skipped

# Each file declares its laws when it is imported; `LAWS` has them in this order.
from sgdsim.theory.laws import (  # isort: skip
    valley,  # noqa: F401
    equilibrium,  # noqa: F401
    symmetry_charges,  # noqa: F401
    gradient_balance,  # noqa: F401
    entropic_flow,  # noqa: F401
    affine_gradients,  # noqa: F401
    identities,  # noqa: F401
    first_step,  # noqa: F401
    first_update,  # noqa: F401
    second_step,  # noqa: F401
    last_step,  # noqa: F401
    noise_free,  # noqa: F401
    at_rest,  # noqa: F401
    near_minimum,  # noqa: F401
    heavy_tails,  # noqa: F401
    exact_chain,  # noqa: F401
    momentum_and_decay,  # noqa: F401
    minibatches,  # noqa: F401
    signsgd,  # noqa: F401
    adaptive_optimizers,  # noqa: F401
    lion,  # noqa: F401
    schedule_free,  # noqa: F401
    underdamped_langevin,  # noqa: F401
    any_potential,  # noqa: F401
    cooling,  # noqa: F401
    fastest_cooling,  # noqa: F401
    best_schedule,  # noqa: F401
    entropic_force,  # noqa: F401
    entropic_trap,  # noqa: F401
    noisy_river,  # noqa: F401
    first_law,  # noqa: F401
    second_law,  # noqa: F401
    fluctuation_theorem,  # noqa: F401
)

__all__ = [
    "AUTOMATIC",
    "FORMER_IDS",
    "LAWS",
    "Law",
    "NotApplicable",
    "Prediction",
    "Skipped",
    "UserPrediction",
    "find_law",
    "law_named",
    "parse_user_prediction",
    "predict",
    "requirements",
]

AUTOMATIC = tuple(law.id for law in LAWS.values() if law.automatic)
"""Ids of the laws that an ensemble of the user's own is held against without being asked."""

FORMER_IDS = {
    "NTL-1": "valley",
    "NTL-2": "valley-energy",
    "NTL-3": "correlations",
    "NTL-4": "equipartition",
    "NTL-5": "momentum",
    "NTL-6": "weight-decay",
    "NTL-7": "minibatches",
    "NTL-8": "signsgd-noiseless",
    "NTL-9": "signsgd",
    "NTL-31": "residual-entropy",
    "NTL-10": "rmsprop",
    "NTL-11": "adam",
    "NTL-12": "heat-capacity",
    "NTL-15": "entropy",
    "NTL-13": "virial",
    "NTL-14": "potential-energy",
    "NTL-16": "cooling",
    "NTL-17": "freeze-out",
    "NTL-18": "fastest-cooling",
    "NTL-19": "best-schedule",
    "NTL-20": "entropic-force",
    "NTL-20d": "entropic-force-state-noise",
    "NTL-21": "steep-river",
    "NTL-24": "river-speed",
    "NTL-26": "entropic-force-signsgd",
    "NTL-22": "entropic-trap",
    "NTL-22c": "edge-of-stability",
    "NTL-25": "trap-threshold",
    "NTL-23": "noisy-river",
    "NTL-23b": "two-temperatures",
    "NTL-27": "first-law",
    "NTL-28": "second-law",
    "NTL-29": "hatano-sasa",
    "NTL-29b": "jarzynski",
    "NTL-30": "detailed-balance",
    "NT-7": "charges",
    "NT-26": "affine-moments",
    "NT-20": "lyapunov",
    "NT-28": "heavy-tail",
    "chain": "exact-chain",
}
"""Ids of laws in scenarios and files that were written before laws had names, with their present ids."""


def law_named(id: str) -> Law | None:
    """The law with an id, which may be a former one; None if no law has it.

    Examples
    --------
    >>> law_named("NTL-2").id, law_named("mine")
    ('valley-energy', None)
    """
    return LAWS.get(FORMER_IDS.get(id, id))


def find_law(id: str) -> Law:
    """The law with an id, which may be a former one.

    Raises
    ------
    InputError
        For an unknown id, with a near match.

    Examples
    --------
    >>> find_law("valley-energy").title
    'fast loss and temperature: <U> = T_eff/2 and Var U'
    >>> find_law("NTL-2").id
    'valley-energy'
    """
    found = law_named(id)
    if found is None:
        raise InputError(unknown_name("law", id, LAWS))
    return found


def requirements(laws: Iterable[Law], run: Run, seconds: float = inf) -> Recorder:
    """All that must be recorded so that the laws can be checked, beyond what the run records already.

    Parameters
    ----------
    laws
        The laws that are to be checked.
    run
        The run that they are checked on.
    seconds
        Time that each law may take to tell what it needs.

    Examples
    --------
    >>> from sgdsim.model.losses.river_valley import river_valley
    >>> from sgdsim.model.optimizers import Optimizer
    >>> from sgdsim.model.schedules import Schedule
    >>> loss = river_valley(a="a0", c="0", constants={"a0": 2.0})
    >>> run = Run(loss, Optimizer(), Schedule("0.1"), {"x": 0.0, "y": 0.0}, 100, 10)
    >>> wanted = requirements([find_law("valley"), find_law("valley-energy")], run)
    >>> wanted.snapshots, [str(observable) for observable in wanted.observables]
    ((10,), ['a0*x**2/2'])
    """
    wanted = Recorder()
    for law in laws:
        wanted = wanted.merge(law.requirements(run, seconds))
    return wanted


def predict(
    sources: Iterable[Law | UserPrediction], runs: Sequence[Run], seconds: float = inf
) -> tuple[list[Prediction], list[Skipped]]:
    """Predictions of laws and of the user's claims for the points of a sweep, and the laws that do not apply.

    Parameters
    ----------
    sources
        The laws and claims.
    runs
        The run at each point of the sweep.
    seconds
        Time that each law may take at a point.

    Examples
    --------
    >>> from sgdsim.model.loss import Loss
    >>> from sgdsim.model.optimizers import Optimizer
    >>> from sgdsim.model.schedules import Schedule
    >>> run = Run(Loss("x**4", ("x",)), Optimizer(), Schedule("0.1"), {"x": 1.0}, 100, 10)
    >>> predict([find_law("valley")], [run])[1][0].reason
    'no parameter has a gradient a*p + noise, with noise of its own and a free of both'
    """
    found: list[Prediction] = []
    skipped: list[Skipped] = []
    for source in sources:
        if isinstance(source, UserPrediction):
            found += source.predictions(runs)
            continue
        rows, reasons = source.evaluate(runs, seconds)
        found += rows
        if not rows and not reasons:
            reasons = ["nothing that it speaks of is recorded"]
        skipped += [Skipped(source.id, reason) for reason in reasons]
    return found, skipped
