"""
Heavy tails
===========

Noise of the curvature multiplies the weight. The stationary law has a tail that falls as a power, though all
noise is bounded.
"""

import sgdsim

ensemble = sgdsim.simulate(
    "(1 + d*e)*x**2/2 + z*x",
    constants={"d": 1.5},
    noise={"e": "rademacher", "z": "normal"},
    initial={"x": 0.0},
    learning_rate=0.6,
    trajectories=20_000,
    steps=300,
    histograms={"x": [-15, 15, 60]},
    title="Heavy tails",
)
figure = ensemble.plot("density")
figure.axes[0].set(yscale="log", ylim=(1e-5, 1))
