"""
Two wells
=========

Trajectories begin on the hill between two wells and choose. The image is the density over time, the lines are
its quantiles.
"""

import sgdsim

ensemble = sgdsim.simulate(
    "x**4/4 - x**2/2 + z*x",
    noise={"z": "normal"},
    initial={"x": 0.0},
    learning_rate=0.1,
    trajectories=20_000,
    steps=100,
    every=2,
    histograms={"x": [-2, 2, 60]},
    title="Two wells",
)
figure = ensemble.plot("evolution")
