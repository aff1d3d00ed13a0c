"""Observables: plain formulas and windows, as text and back."""

from __future__ import annotations

import pytest

from sgdsim.base.errors import InputError
from sgdsim.model.observables import Observable


@pytest.mark.parametrize(
    ("text", "observable"),
    [
        (" a*x**2/2 ", Observable("u", "a*x**2/2")),
        ("loss", Observable("u", "loss")),
        ("window_mean(x, 10, 20)", Observable("u", "x", (10, 20))),
        ("window_mean( max(x, y) ,0,1e3)", Observable("u", "max(x, y)", (0, 1000))),
        ("window_max(x**2, 0, 20)", Observable("u", "x**2", (0, 20), "max")),
        ("window_mean (x, 1_0, 20)", Observable("u", "x", (10, 20))),
    ],
)
def test_an_observable_is_read_and_written(text, observable):
    assert Observable.parse("u", text) == observable
    assert Observable.parse("u", str(observable)) == observable


@pytest.mark.parametrize(
    ("name", "text", "problem"),
    [
        ("2u", "x", "'2u' is not a name"),
        ("u v", "x", "'u v' is not a name"),
        ("pi", "x", "reserved"),
        ("u", "", "there is no formula"),
        ("u", "sinn(x)", "did you mean 'sin'"),
        ("u", "window_mean(x, 1)", "expected window_mean"),
        ("u", "window_max(x, 1)", r"expected window_max\(formula, start, stop\)"),
        ("u", "widow_max(x, 1, 2)", "unknown function 'widow_max': did you mean 'window_max'"),
        ("u", "window_mean(x, 5, 5)", "expected window_mean"),
        ("u", "window_mean(x, -1, 5)", "expected window_mean"),
        ("u", "window_mean(x, 1.5, 5)", "expected window_mean"),
        ("u", "window_mean(x, a, b)", "expected window_mean"),
        ("u", "2*window_mean(x, 1, 5)", "expected window_mean"),
        ("u", "window_mean(x, 1, inf)", "expected window_mean"),
        ("u", "window_mean(x y, 1, 5)", "invalid syntax"),
        ("u", "window_mean(x, 1, 2) + window_mean(y, 1, 2)", "invalid syntax|unmatched"),
    ],
)
def test_what_is_no_observable(name, text, problem):
    with pytest.raises(InputError, match=problem) as refused:
        Observable.parse(name, text)
    assert str(refused.value).startswith(f"record.observables.{name}: ")
