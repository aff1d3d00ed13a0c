"""The answer on one screen: a line a law, disagreements first, within the width, and in words that are true."""

from __future__ import annotations

import re
from dataclasses import replace
from math import nan

import pytest

from sgdsim.app.verdict_screen import in_words, screen
from sgdsim.statistics.comparison import DOES_NOT_HOLD, Comparison
from sgdsim.theory import Skipped

AGREES = Comparison(
    "valley", "variance(x)", None, "variance", 0.5, 0.501, 0.001, 1.0, 0.3, 1.0, 0.004, 0.005, "exact", "agrees"
)
OPEN = replace(AGREES, quantity="mean(x)", detectable=0.0125, verdict="inconclusive", z=-2.0)
OPEN = replace(OPEN, note="6.2 times the trajectories would decide; adiabatic")
WRONG = replace(AGREES, id="user-1", quantity="mean(y)", measured=0.6, z=100.0, verdict="disagrees")


def lines(*rows, skipped=(), **options):
    return screen(rows, skipped, 1e-3, **options).splitlines()


def test_a_law_has_one_line_and_disagreements_stand_first():
    first, meaning, second, other, summary, words, more = lines(AGREES, OPEN, WRONG)
    assert first.split() == ["mean(y)", "disagrees", "z", "+100.00"]
    assert meaning == "    mean(y) is 0.6 ± 0.001, predicted 0.5"
    assert re.split("  +", second) == ["valley", "1 inconclusive, 1 agrees", "z -2.00"]
    assert other == "    consistent; 1 % could not have been seen, 6.3 times the trajectories would"
    assert summary == "1 agrees, 1 disagrees, 1 inconclusive (Holm over 3 tests, alpha = 0.001)"
    assert words == "So a claim does not hold for what was simulated."
    assert more == "--all shows every row and says why"


def test_several_claims_that_fail_are_told_from_one():
    *_, words = lines(replace(WRONG, id="far"), replace(WRONG, id="near"))
    assert words == "So claims do not hold for what was simulated."
    at_points = (replace(WRONG, id="far", point=point) for point in (1, 2))
    assert "So a claim does not hold for what was simulated." in lines(*at_points)


def test_a_claim_with_a_name_is_called_by_it_and_is_still_a_claim():
    first, *_, words = lines(replace(WRONG, id="far"))
    assert first.startswith("far: mean(y)  ")
    assert words == "So a claim does not hold for what was simulated."


def test_what_agrees_says_what_would_have_been_seen():
    assert lines(AGREES)[1] == "    consistent; 0.8 % would have been seen"
    assert lines(replace(AGREES, predicted=0.0, measured=0.001))[1] == (
        "    consistent; a deviation of 0.004 would have been seen"
    )


def test_an_order_is_decided_by_other_rates_not_by_trajectories():
    assert lines(replace(OPEN, order=1, note="0.1 times these learning rates would decide; c = 2"))[1] == (
        "    0.1 times these learning rates would decide"
    )


def test_a_row_in_doubt_says_why():
    row = replace(OPEN, detectable=nan, z=nan, note="no trajectory is left; more")
    assert lines(row)[0].split() == ["valley:", "mean(x)", "inconclusive"]
    assert lines(row)[1] == "    no trajectory is left"


def test_a_control_that_is_rejected_is_no_disagreement():
    control = replace(WRONG, expect="disagrees")
    assert "rejected, as it must" in lines(control)[0]
    missed = replace(control, verdict="agrees", z=0.3)
    name, meaning, *_ = lines(OPEN, missed)
    assert name.split()[:3] == ["mean(y)", "NOT", "REJECTED"]
    assert meaning == "    a control: mean(y) is 0.6 ± 0.001, predicted 0.5"


def test_laws_that_were_asked_for_say_why_they_do_not_apply():
    skipped = [Skipped("equipartition", "no fast direction", asked=True), Skipped("valley", "no valley")]
    assert lines(AGREES, skipped=skipped)[3:] == [
        "So theory holds, as far as was resolved.",
        "equipartition does not apply: no fast direction",
        "1 more law does not apply",
        "--all shows every row and says why",
    ]
    assert lines(AGREES, skipped=skipped[1:])[4] == "1 law does not apply"


def test_a_law_that_applies_at_no_point_of_a_sweep_takes_no_more_room_than_one_reason():
    reason = "no record after 136 steps and before the last, when x is at rest"
    skipped = [Skipped("entropic-force", f"point {point}: {reason}", asked=True) for point in range(100)]
    *first, last = lines(AGREES, skipped=skipped, width=80)[4:]
    assert (
        " ".join(map(str.strip, first)) == f"entropic-force does not apply: point 0: {reason}; and 99 more such reasons"
    )
    assert max(map(len, first)) <= 80
    assert last == "--all shows every row and says why"


@pytest.mark.parametrize("width", [72, 80, 200])
def test_it_keeps_within_the_width(width):
    long = replace(OPEN, quantity="mean(a_name_of_some_length) at step 1000, and more words", id="user-2")
    assert max(map(len, lines(long, AGREES, width=width))) <= width


def test_colours_are_there_when_they_are_wanted_and_names_bring_none():
    wild = replace(WRONG, quantity="\x1b[2Jmean(y)")
    assert "\x1b[31m" in lines(wild, colour=True)[0]
    assert "\x1b[2J" not in "".join(lines(wild, colour=True))
    assert "\x1b" not in "".join(lines(wild))


def test_one_sentence_says_what_the_decided_rows_mean():
    steps = replace(AGREES, id="identities")
    assert in_words([]) == ""
    assert in_words([replace(WRONG, expect="disagrees")]) == ""
    assert in_words([OPEN]) == "So nothing is decided."
    assert "nothing is proven" in in_words(
        [steps, replace(AGREES, expect="disagrees")]
    )  # a control that was not rejected
    assert in_words([steps, OPEN]).endswith("where they lead was not decided.")
    assert in_words([steps, AGREES]) == (
        "So the steps are those of the formula, and theory holds, as far as was resolved."
    )
    assert in_words([replace(AGREES, id="user-1"), OPEN]) == "So what was claimed holds, as far as was resolved."
    assert in_words([replace(WRONG, id="valley"), steps]).startswith(
        "So either the simulation is not that of its formula"
    )
    assert in_words([WRONG, steps]) == "So a claim does not hold for what was simulated."


def test_z_is_of_the_rows_that_decide():
    """A bound that is kept by 70 standard errors is no reason for alarm."""
    kept = replace(AGREES, id="user-1", z=-70.17)
    assert "70.17" not in "".join(screen([kept], [], 1e-3))
    assert "70.17" not in "".join(screen([replace(OPEN, id="user-1", quantity=kept.quantity), kept], [], 1e-3))


def test_a_point_of_a_sweep_is_called_by_what_was_swept():
    """Nobody knows which learning rate point 87 was."""
    row = replace(WRONG, point=1)
    assert "mean(y) at learning_rate = 0.4 is 0.6" in screen([row], [], 1e-3, points={"": ["", "learning_rate = 0.4"]})
    assert "mean(y) at point 1 is 0.6" in screen([row], [], 1e-3)


def test_one_row_that_does_not_hold_is_one():
    does_not = replace(AGREES, verdict=DOES_NOT_HOLD)
    assert "1 does not hold here" in screen([does_not, AGREES, AGREES], [], 1e-3)


def test_what_more_trajectories_do_not_cure_is_said_in_place_of_their_number():
    """Rows that had lost diverged trajectories were called consistent, with a number of trajectories to decide them."""
    lost = replace(
        OPEN, note="466 trajectories diverged; z not trusted: skewness; 730 times the trajectories would decide"
    )
    assert lines(lost)[1] == "    466 trajectories diverged"
    assert lines(OPEN, lost)[1] == "    466 trajectories diverged"
    pushed = replace(OPEN, note=f"{OPEN.note}; its condition that x is independent fails (measured 1)")
    assert lines(pushed)[1] == "    its condition that x is independent fails (measured 1)"


def test_a_tolerance_or_a_bound_is_what_was_expected():
    """That 0.0022 % would have been seen was said of a row off by 0.07 %, within its tolerance of 2 %."""
    within = replace(AGREES, z=0.0, detectable=0.0001, note="expected to within 0.01; exact")
    first, meaning, *_ = lines(within)
    assert "z" not in first.split()
    assert meaning == "    expected to within 0.01; 0.02 % beyond that would have been seen"
    assert lines(replace(within, note="expected at least 0.5"))[1] == "    expected at least 0.5"


def test_a_control_that_is_not_decided_proves_nothing():
    control = replace(OPEN, id="user-1", expect="disagrees")
    assert "So what is known to be wrong was not rejected" in " ".join(lines(AGREES, control))
