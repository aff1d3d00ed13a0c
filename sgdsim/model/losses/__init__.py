"""The catalogue of toy losses: each family has one short file, and one entry here."""

from __future__ import annotations

from collections.abc import Callable

from sgdsim.model.loss import Loss
from sgdsim.model.losses.anharmonic import anharmonic
from sgdsim.model.losses.diagonal_network import diagonal_network
from sgdsim.model.losses.double_well import double_well
from sgdsim.model.losses.linear_regression import linear_regression
from sgdsim.model.losses.logistic import logistic
from sgdsim.model.losses.permutation import permutation
from sgdsim.model.losses.quadratic import quadratic
from sgdsim.model.losses.relu_network import relu_network
from sgdsim.model.losses.rescaling import rescaling, rescaling_neurons, rescaling_vector
from sgdsim.model.losses.river_valley import river_valley
from sgdsim.model.losses.rotation import rotation
from sgdsim.model.losses.scale_invariant import rayleigh, sphere
from sgdsim.model.losses.sign import sign
from sgdsim.model.losses.softmax import softmax

CATALOGUE: dict[str, Callable[..., Loss]] = {
    family.__name__: family
    for family in (
        river_valley,
        quadratic,
        anharmonic,
        double_well,
        linear_regression,
        logistic,
        rescaling,
        rescaling_vector,
        rescaling_neurons,
        diagonal_network,
        relu_network,
        rotation,
        rayleigh,
        sphere,
        softmax,
        sign,
        permutation,
    )
}
