"""Known errors in files that earlier versions have written; the change log has more on each."""

from __future__ import annotations

from contextlib import suppress

from sgdsim.base.errors import InputError
from sgdsim.ensemble import Ensemble

_DEPENDENT = (
    "its log-normal variables are not independent of others, since they were made of the same random words: "
    "simulate it again, see CHANGELOG.md, 0.1.0"
)


def known_flaw(ensemble: Ensemble) -> str:
    """Sentence about a known error in an ensemble; empty if there is none.

    Examples
    --------
    >>> known_flaw(Ensemble({}, {"counter_layout_version": 2}))
    ''
    """
    attributes = ensemble.attributes
    text = str(attributes.get("scenario", ""))
    # Only log-normal noise mixes 64-bit and 32-bit random numbers; other scenarios need not be read.
    if int(attributes.get("counter_layout_version", 2)) > 1 or "lognormal" not in text:
        return ""
    with suppress(InputError):  # a scenario that cannot be read cannot be judged
        return _DEPENDENT if _layout_version(text) > 1 else ""
    return ""


def _layout_version(scenario: str) -> int:
    """Version of the layout of random words that a scenario would have today."""
    from sgdsim.input.scenario import Scenario
    from sgdsim.kernels.plan import Plan
    from sgdsim.simulation.simulator import program_of

    return max(program_of(run, Plan(run)).layout_version for run in Scenario.parse(scenario).runs)
