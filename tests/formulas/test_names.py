"""Names: two spellings that Python's grammar takes for one are one, wherever a name is written."""

from __future__ import annotations

import ast

import pytest

from sgdsim.base.errors import InputError
from sgdsim.formulas.names import normal, normal_keys

SPELLINGS = {"µ": "μ", "ϕ": "φ", "ϵ": "ε", "ϑ": "θ", "ﬁ": "fi", "e\u0301": "é", "x": "x", "𝜂": "η"}


@pytest.mark.parametrize(("one", "other"), SPELLINGS.items())
def test_names_are_what_the_grammar_makes_of_them(one: str, other: str) -> None:
    tree = ast.parse(one, mode="eval").body
    assert isinstance(tree, ast.Name)
    assert normal(one) == tree.id == other
    assert normal(f"loss.constants.{one}") == f"loss.constants.{other}"
    assert normal(f"{one}[0],{one}_2") == f"{other}[0],{other}_2"


@pytest.mark.parametrize("text", ["x²", "½", "a·b", "…", "naïve text, 5·3", "", "w[0]"])
def test_what_is_no_name_stays(text: str) -> None:
    assert normal(text) == text


def test_one_name_in_two_spellings_is_one_too_many() -> None:
    with pytest.raises(InputError, match="constants: 'μ' is there twice, in two spellings"):
        normal_keys({"µ": 1.0, "a": 2.0, "μ": 3.0}, "constants")
