"""
The heat capacity of a quartic valley
=====================================

The mean energy over the temperature. To leading order its slope is 1/4, by the virial theorem; a finite
learning rate adds to it.
"""

import numpy as np

import sgdsim

rates = [0.02, 0.04, 0.08, 0.16]
ensemble = sgdsim.simulate(
    "x**4/4 + z*x",
    noise={"z": "normal"},
    initial={"x": "normal:0,0.4"},
    learning_rate=rates,
    common_noise=True,
    trajectories=20_000,
    steps=2000,
    observables={"energy": "window_mean(x**4/4, 1000, 2000)"},
    predict=["mean(energy) = learning_rate/8; resolution=5%"],
    title="The heat capacity of a quartic valley",
)
energy = ensemble.mean("energy")[:, -1]
print(np.diff(energy) / np.diff(np.array(rates) / 2))
figure = ensemble.plot("sweep", only=["energy"])
