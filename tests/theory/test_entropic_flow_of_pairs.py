"""The curve that platonic predicts, found again: descent on the entropic loss of pairs of deep linear networks."""

from __future__ import annotations

import tomllib

import numpy as np
import pytest
from numpy.typing import NDArray

from sgdsim.input.scenario import shipped

Matrices = NDArray[np.float64]
"""Two by two of each pair, (row, column, pair): long vectors are what NumPy is quick at."""

SCENARIO = tomllib.loads(shipped()["platonic"].read_text())
FLOW = next(part for part in SCENARIO["part"] if part["name"] == "flow")
CONSTANTS = SCENARIO["loss"]["constants"]
BEST, FACTOR, INPUTS = (np.array(CONSTANTS[name]) for name in ("V", "N", "S"))
RATE = FLOW["optimizer"]["learning_rate"]
FAST, SLOW = 0.01, 0.1  # steps of descent, before and after pairs have come to their valleys
LANDED = 20.0  # time in units of the learning rate times steps
CHECKED = 12  # values of the curve, which then is nearly one


def product(*factors: Matrices) -> Matrices:
    result = factors[0]
    for factor in factors[1:]:
        columns = [result[:, 0] * factor[0, column] + result[:, 1] * factor[1, column] for column in (0, 1)]
        result = np.stack(columns, axis=1)
    return result


def turned(matrices: Matrices) -> Matrices:
    return matrices.transpose(1, 0, 2)


def trace(*factors: Matrices) -> Matrices:
    found = product(*factors)
    return found[0, 0] + found[1, 1]


class Network:
    """Layers between the view of the inputs and an embedding of the outputs, of many networks at once."""

    def __init__(self, layers: list[Matrices], view: Matrices, embedding: Matrices) -> None:
        self.layers, self.view, self.embedding = layers, view, embedding
        count = view.shape[-1]
        self.inputs, self.best, self.noise = (
            np.repeat(one[:, :, None], count, axis=2) for one in (INPUTS, BEST, FACTOR @ FACTOR.T)
        )

    def below(self) -> list[Matrices]:
        """What leads to each layer, and last the map before the embedding."""
        found = [self.view]
        for layer in self.layers:
            found.append(product(layer, found[-1]))
        return found

    def above(self) -> list[Matrices]:
        """What follows each layer, and first the map behind the view."""
        found = [self.embedding]
        for layer in reversed(self.layers):
            found.insert(0, product(found[0], layer))
        return found

    def entropic_loss(self, rate: float = RATE) -> Matrices:
        """Population loss without its floor, and a quarter of the rate times the mean squared gradient of a sample.

        With the miss C of the map, a layer has ``E |Aᵀr|² |Bx|²``, whose inputs are normal and have four factors.
        """
        below, above = self.below(), self.above()
        miss = product(self.embedding, below[-1]) - self.best
        residual = product(miss, self.inputs, turned(miss)) + self.noise
        total = trace(miss, self.inputs, turned(miss)) / 2
        for a, b in zip(above[1:], below[:-1], strict=True):
            across = product(turned(a), miss, self.inputs, turned(b))
            squares = trace(turned(a), residual, a) * trace(b, self.inputs, turned(b))
            total = total + rate / 4 * (squares + 2 * (across**2).sum((0, 1)))
        return total

    def slopes(self, rate: float = RATE) -> list[Matrices]:
        """Gradient of the entropic loss by each layer."""
        below, above = self.below(), self.above()
        miss = product(self.embedding, below[-1]) - self.best
        missed = product(miss, self.inputs)
        residual = product(missed, turned(miss)) + self.noise
        found = [np.zeros_like(layer) for layer in self.layers]
        of_miss = missed
        for i, (a, b) in enumerate(zip(above[1:], below[:-1], strict=True)):
            seen = product(missed, turned(b))
            across = product(turned(a), seen)
            before, after = trace(b, self.inputs, turned(b)), trace(turned(a), residual, a)
            of_a = rate / 2 * (before * product(residual, a) + 2 * product(seen, turned(seen), a))
            of_b = rate / 2 * (after * product(b, self.inputs) + 2 * product(turned(across), turned(a), missed))
            of_miss = of_miss + rate / 2 * (
                before * product(a, turned(a), missed) + 2 * product(a, across, b, self.inputs)
            )
            self._through_the_layers_above(found, i, of_a, above)
            self._through_the_layers_below(found, i, of_b, below)
        for i in range(len(found)):
            found[i] = found[i] + product(turned(above[i + 1]), of_miss, turned(below[i]))
        return found

    def _through_the_layers_above(self, found: list[Matrices], i: int, slope: Matrices, above: list[Matrices]) -> None:
        for j in range(len(self.layers) - 1, i, -1):
            between = [turned(layer) for layer in self.layers[i + 1 : j]]
            found[j] = found[j] + product(turned(above[j + 1]), slope, *between)

    def _through_the_layers_below(self, found: list[Matrices], i: int, slope: Matrices, below: list[Matrices]) -> None:
        for j in range(i):
            between = [turned(layer) for layer in self.layers[j + 1 : i]]
            found[j] = found[j] + product(*between, slope, turned(below[j]))

    def descended(self, step: float) -> Network:
        layers = [layer - step * slope for layer, slope in zip(self.layers, self.slopes(), strict=True)]
        return Network(layers, self.view, self.embedding)

    def kernel(self) -> Matrices:
        """Of the first layer, times the covariance of the inputs."""
        hidden = product(self.layers[0], self.view)
        return product(turned(hidden), hidden, self.inputs)


def drawn(depth: int, count: int, generator: np.random.Generator) -> Network:
    """Networks with random layers, and embeddings near one, as in the scenario."""
    layers = [generator.normal(0.0, 0.5, (2, 2, count)) for _ in range(depth)]
    view, embedding = (generator.uniform(-0.3, 0.3, (2, 2, count)) + np.eye(2)[:, :, None] for _ in range(2))
    return Network(layers, view, embedding)


def alignments(first: Network, second: Network) -> Matrices:
    one, other = first.kernel(), second.kernel()
    return trace(one, other) / np.sqrt(trace(one, one) * trace(other, other))


def flow(count: int, times: list[float], seed: int) -> Matrices:
    """Alignment of the first layers of all pairs at some times, (time, pair)."""
    generator = np.random.default_rng(seed)
    a, b = drawn(2, count, generator), drawn(3, count, generator)
    found, now = [], 0.0
    for time in times:
        while now < time - 1e-9:
            step = FAST if now < LANDED - 1e-9 else SLOW
            a, b, now = a.descended(step), b.descended(step), now + step
        found.append(alignments(a, b))
    return np.array(found)


def test_the_slopes_are_those_of_the_entropic_loss() -> None:
    """By central differences, for three layers far from any minimum."""
    network = drawn(3, 2, np.random.default_rng(1))
    for layer, slope in zip(network.layers, network.slopes(1.0), strict=True):
        for entry in np.ndindex(2, 2):
            kept, ends = layer[entry].copy(), []
            for step in (1e-5, -1e-5):
                layer[entry] = kept + step
                ends.append(network.entropic_loss(1.0))
            layer[entry] = kept
            assert (ends[0] - ends[1]) / 2e-5 == pytest.approx(slope[entry], rel=1e-7, abs=1e-7)


def test_the_entropic_loss_has_the_mean_squared_gradient_of_a_sample() -> None:
    """By sampling 200,000 gradients of one network, within five standard errors."""
    generator = np.random.default_rng(2)
    network = drawn(3, 1, generator)
    x = np.linalg.cholesky(INPUTS) @ generator.normal(size=(2, 200_000))
    below, above = ([one[..., 0] for one in found] for found in (network.below(), network.above()))
    error = (above[0] @ below[0] - BEST) @ x - FACTOR @ generator.normal(size=x.shape)
    squares = sum(
        ((a.T @ error) ** 2).sum(0) * ((b @ x) ** 2).sum(0) for a, b in zip(above[1:], below[:-1], strict=True)
    )
    claimed = 4 * (network.entropic_loss(1.0) - network.entropic_loss(0.0))
    assert abs(squares.mean() - claimed[0]) < 5 * squares.std() / np.sqrt(squares.size)


@pytest.mark.validate
def test_the_curve_of_the_scenario_is_the_flow() -> None:
    """Of 400 other pairs, within four standard errors of their mean."""
    (claim,) = (one["formula"] for one in FLOW["predict"] if "{" in one["formula"])
    curve = tomllib.loads(f"curve = {claim.partition('=')[2]}")["curve"]
    steps, values = curve["step"][:CHECKED], np.array(curve["value"][:CHECKED])
    found = flow(400, [RATE * step for step in steps], seed=3)
    z = (found.mean(1) - values) / (found.std(1) / np.sqrt(400))
    assert np.abs(z).max() < 4
