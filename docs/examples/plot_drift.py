"""
The drift that a weight feels
=============================

In a double well: the mean step given the place, by bins, and the size of its fluctuation. No formula was told
to the recorder.
"""

import sgdsim

ensemble = sgdsim.simulate(
    "x**4/4 - x**2/2 + z*x",
    noise={"z": "normal"},
    initial={"x": "uniform:-1.5,1.5"},
    learning_rate=0.1,
    trajectories=20_000,
    steps=100,
    drifts={"x": sgdsim.Drift("x", sgdsim.Histogram(-1.5, 1.5, 30))},
    title="The drift that a weight feels",
)
figure = ensemble.plot("drift", size=(7, 4))
