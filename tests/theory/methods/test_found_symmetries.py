"""Symmetries that are found: every declared one of the catalogue, and none that is not there."""

from __future__ import annotations

from dataclasses import replace
from random import Random

import numpy as np
import pytest

from sgdsim.model.data import Data
from sgdsim.model.loss import Loss
from sgdsim.model.losses import CATALOGUE
from sgdsim.model.noise import Noise
from sgdsim.model.symmetry import Symmetry
from sgdsim.prediction import NotApplicable
from sgdsim.theory.methods.found_symmetries import _declared, _map_of, _products, undeclared

NOISE = {name: Noise.parse("normal") for name in ("x", "y")}


def follows(loss: Loss, symmetry: Symmetry) -> bool:
    """True if a symmetry follows from those that the loss declares."""
    alone = replace(loss, symmetries=(symmetry,))
    if symmetry.is_continuous:
        known, new = _declared(loss), _declared(alone)
        return bool(new) and np.linalg.matrix_rank(known + new, tol=1e-6) == len(known)
    maps = {_map_of(loss, one) for one in loss.symmetries if not one.is_continuous}
    return _map_of(loss, symmetry) in _products(maps)


@pytest.mark.parametrize("name", CATALOGUE)
def test_every_declared_symmetry_of_the_catalogue_is_found(name: str) -> None:
    loss = CATALOGUE[name]()
    found = replace(loss, symmetries=undeclared(replace(loss, symmetries=())))
    assert all(follows(found, symmetry) for symmetry in loss.symmetries)
    assert not undeclared(found)


@pytest.mark.parametrize("name", CATALOGUE)
def test_a_loss_that_is_perturbed_at_random_has_none(name: str) -> None:
    """The negative control: a cubic with coefficients of its own for every parameter."""
    loss, random = CATALOGUE[name](), Random(name)
    terms = [f"{random.uniform(0.5, 1.5):.6f}*{p}**3/3 + {random.uniform(0.5, 1.5):.6f}*{p}" for p in loss.parameters]
    assert not undeclared(replace(loss, formula=" + ".join([f"({loss.formula})", *terms]), symmetries=()))


def test_layers_of_matrices() -> None:
    """``A M M^-1 B`` for M in GL(2): four generators, three of them symmetric."""
    names = tuple(f"{layer}[{i}]" for layer in ("a", "b") for i in range(4))
    rows = [[f"(a[{2 * i}]*b[{j}] + a[{2 * i + 1}]*b[{j + 2}])" for j in range(2)] for i in range(2)]
    outputs = [f"({row[0]}*x + {row[1]}*y - {target})**2" for row, target in zip(rows, ("x", "2*y"), strict=True)]
    loss = Loss(" + ".join(outputs), names, noise=NOISE)
    continuous = [one for one in undeclared(loss) if one.is_continuous]
    charges = [loss.charge(one) for one in continuous]
    assert len(continuous) == 4
    assert sum(charge is not None for charge in charges) == 3


def test_powers_of_their_own_and_translations_beside_scales() -> None:
    loss = Loss("(u**2*w - x)**2 + (v - z - y)**2 + exp(p - 2*q)*x", ("u", "w", "v", "z", "p", "q"), noise=NOISE)
    found = {one.name: dict(one.generator) for one in undeclared(loss) if one.name in ("rescale", "translation")}
    assert found["rescale"] == {"u": "1*u", "w": "-2*w"}
    assert len([one for one in undeclared(loss) if one.name == "translation"]) == 2


def test_a_parameter_that_the_loss_does_not_name_is_a_translation() -> None:
    (found,) = undeclared(Loss("u**2 + u*x", ("u", "w"), noise=NOISE))[:1]
    assert (found.name, found.generator) == ("translation", {"w": "1"})


def test_rows_of_data_and_noise_must_have_it_one_by_one() -> None:
    data = Data({"x": (1.0, 2.0, 0.5), "y": (1.0, -1.0, 0.0)})
    even = Loss("(u**2*x - y)**2 + u**3*y", ("u",), data=Data({"x": (1.0, 2.0), "y": (0.0, 0.0)}))
    assert [one.name for one in undeclared(even)] == ["sign"]
    assert not undeclared(replace(even, data=data))


def test_constants_count_as_numbers() -> None:
    def loss(b: float) -> Loss:
        return Loss("a*u**4 + b*w**4 + u**3 + w**3 + (u + w)*x", ("u", "w"), {"a": 1.0, "b": b}, NOISE)

    assert [one.name for one in undeclared(loss(1.0))] == ["permutation"]
    assert not undeclared(loss(1.0001))


def test_very_many_parameters_and_rules_are_refused() -> None:
    names = tuple(f"w[{i}]" for i in range(25))
    with pytest.raises(NotApplicable, match="expected at most 24"):
        undeclared(Loss("norm2(w)", names))
    with pytest.raises(NotApplicable, match="rule of its own"):
        undeclared(Loss("", ("u",), direction={"u": "u"}))
