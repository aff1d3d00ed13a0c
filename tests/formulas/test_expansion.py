"""Products of sums: their terms are counted before any is made."""

import pytest
import sympy

from sgdsim.formulas.expansion import MAX_TERMS, TooManyTerms, bounded, expanded, terms

x, y, z = sympy.symbols("x y z", real=True)


@pytest.mark.parametrize(
    ("expression", "count"),
    [
        (x, 1),
        (sympy.Integer(3), 1),
        (x + y + z, 3),
        ((x + y) * (x + z), 4),
        ((x + y + z) ** 4, 15),
        ((x + y) ** -2, 1),
        (sympy.sqrt(x + y), 1),
        (((x + y) ** 2 + z) ** 2, 10),
        (sympy.exp((x + y) ** 9), 1),
    ],
)
def test_the_count_bounds_the_terms(expression, count):
    assert terms(expression) == count
    assert len(sympy.Add.make_args(sympy.expand(expression))) <= count


def test_few_terms_are_expanded_and_many_are_refused_at_once(monkeypatch):
    assert expanded((x + y) ** 2) == x**2 + 2 * x * y + y**2
    monkeypatch.setattr(sympy, "expand", lambda _: pytest.fail("it expands"))
    with pytest.raises(TooManyTerms, match=r"up to 134,596 terms when expanded, expected at most 10,000"):
        expanded(sympy.Add(*(sympy.exp(k * x * z) for k in range(1, 20))) ** 6)


def test_the_bound_itself_is_allowed():
    assert terms(bounded((x + y) ** (MAX_TERMS - 1))) == pytest.approx(MAX_TERMS)
    with pytest.raises(TooManyTerms):
        bounded((x + y) ** MAX_TERMS)


@pytest.mark.parametrize(
    "expression",
    [
        sympy.sin((x + y + z) ** 200) * x,
        sympy.exp(x * sympy.cos((x + y) ** 200 * (y + z) ** 200)),
        (x + y + z) ** -200 + x,
        sympy.sqrt(1 + (x + y + z) ** 200),
        2 ** ((x + y + z) ** 200),
    ],
)
def test_what_is_expanded_within_functions_and_below_is_counted_too(expression, monkeypatch):
    """SymPy expands there as well, for minutes."""
    assert terms(expression) <= 3
    monkeypatch.setattr(sympy, "expand", lambda _: pytest.fail("it expands"))
    with pytest.raises(TooManyTerms):
        expanded(expression)
