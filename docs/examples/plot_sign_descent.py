"""
Sign descent on its lattice
===========================

SignSGD moves by the learning rate, up or down. Without noise it ends on an orbit of two points; with noise on
a lattice.
"""

import sgdsim

ensemble = sgdsim.simulate(
    "x**2/2 + sigma*xi*x",
    "signsgd",
    constants={"sigma": 0.3},
    noise={"xi": "normal"},
    initial={"x": 0.025},
    learning_rate=0.05,
    trajectories=20_000,
    steps=200,
    histograms={"x": [-0.5, 0.5, 40]},
    predict=["signsgd"],
    title="Sign descent on its lattice",
)
figure = ensemble.plot("density", only=["x"])
