"""
Trajectories
============

Single trajectories in a river valley, and the quantiles of all: fast across, slow along.
"""

import sgdsim

ensemble = sgdsim.simulate(
    "river_valley",
    initial={"x": 1.5, "y": 1.0},
    learning_rate=0.1,
    trajectories=2_000,
    steps=200,
    snapshots=list(range(0, 201, 4)),
    title="Trajectories",
)
figure = ensemble.plot("trajectories", size=(7, 3.4))
