"""
A hundred learning rates
========================

The variance of a weight over a hundred learning rates, up to the edge of stability, with the exact formula
through it.
"""

import numpy as np

import sgdsim

ensemble = sgdsim.simulate(
    "x**2/2 + z*x",
    noise={"z": "normal"},
    initial={"x": 0.0},
    learning_rate=[float(rate) for rate in np.linspace(0.02, 1.8, 100)],
    trajectories=2_000,
    steps=300,
    predict=["variance(x) = learning_rate/(2 - learning_rate); resolution=20%"],
    title="A hundred learning rates",
)
figure = ensemble.plot("sweep")
