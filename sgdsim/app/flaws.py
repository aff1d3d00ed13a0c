"""What is known to be wrong with files that earlier versions have written; the change log has more on each."""

from __future__ import annotations

from contextlib import suppress

from sgdsim.base.errors import InputError
from sgdsim.ensemble import Ensemble

_DEPENDENT = (
    "its log-normal variables are not independent of others, since they were made of the same random words: "
    "simulate it again, see CHANGELOG.md, 0.1.0"
)


def known_flaw(ensemble: Ensemble) -> str:
    """A sentence on what is wrong with an ensemble; empty where nothing is known to be.

    Examples
    --------
    >>> known_flaw(Ensemble({}, {"counter_layout_version": 2}))
    ''
    """
    attributes = ensemble.attributes
    text = str(attributes.get("scenario", ""))
    # Only log-normal noise has 64 bits among 32; all other scenarios need not be read.
    if int(attributes.get("counter_layout_version", 2)) > 1 or "lognormal" not in text:
        return ""
    with suppress(InputError):  # what cannot be read cannot be judged
        return _DEPENDENT if _layout_version(text) > 1 else ""
    return ""


def _layout_version(scenario: str) -> int:
    """The version of the layout of its random words, if it ran today."""
    from sgdsim.input.scenario import Scenario
    from sgdsim.kernels.plan import Plan
    from sgdsim.simulation.run_loop import program_of

    return max(program_of(run, Plan(run)).layout_version for run in Scenario.parse(scenario).runs)
