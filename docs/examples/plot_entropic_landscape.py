"""
The force of entropy on a landscape
===================================

Lines of equal loss, the ensemble on it, and the force that noise adds as arrows: all minima are equal for the
loss, and not for noise.
"""

import sgdsim

ensemble = sgdsim.simulate(
    "(u*w - 0.8 - s*e)**2/2",
    constants={"s": 0.7},
    noise={"e": "normal"},
    initial={"u": 1.6, "w": 0.5},
    learning_rate=0.1,
    trajectories=2_000,
    steps=600,
    every=20,
    snapshots=[0, 50, 100, 200, 400, "final"],
    title="The force of entropy on a landscape",
)
figure = ensemble.plot("landscape", only=["u", "w"])
