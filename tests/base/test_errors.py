"""Errors: exit codes and near matches."""

from __future__ import annotations

import pytest

from sgdsim.base.errors import InputError, RunError, SgdsimError, unknown_name
from sgdsim.formulas.names import FormulaError


def test_exit_codes():
    assert (InputError.exit_code, RunError.exit_code, SgdsimError.exit_code) == (2, 1, 1)
    assert issubclass(FormulaError, InputError)


@pytest.mark.parametrize(
    ("name", "known", "message"),
    [
        ("thta", ["x", "theta"], "unknown thing 'thta': did you mean 'theta'?"),
        ("q", ["y", "x"], "unknown thing 'q': known are x, y"),
        ("q", [], "unknown thing 'q': known are none"),
        ("", ["x"], "unknown thing '': known are x"),
    ],
)
def test_a_near_match_or_the_whole_list(name, known, message):
    assert unknown_name("thing", name, known) == message
