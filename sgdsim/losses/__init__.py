"""The catalogue of toy losses: one short file a family, one entry here."""

from __future__ import annotations

from collections.abc import Callable

from sgdsim.loss import Loss
from sgdsim.losses.anharmonic import anharmonic
from sgdsim.losses.diagonal_network import diagonal_network
from sgdsim.losses.double_well import double_well
from sgdsim.losses.linear_regression import linear_regression
from sgdsim.losses.logistic import logistic
from sgdsim.losses.permutation import permutation
from sgdsim.losses.quadratic import quadratic
from sgdsim.losses.relu_network import relu_network
from sgdsim.losses.rescaling import rescaling, rescaling_neurons, rescaling_vector
from sgdsim.losses.river_valley import river_valley
from sgdsim.losses.rotation import rotation
from sgdsim.losses.scale_invariant import rayleigh, sphere
from sgdsim.losses.sign import sign
from sgdsim.losses.softmax import softmax

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
