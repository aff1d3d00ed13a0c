"""
Momentum heats
==============

The same valley with momentum: the temperature is that of a learning rate ten times as large.
"""

import sgdsim

ensemble = sgdsim.simulate(
    "a*x**2/2 + sigma*xi*x",
    "momentum:momentum=0.9",
    constants={"a": 1.0, "sigma": 1.0},
    noise={"xi": "normal"},
    initial={"x": 0.0},
    learning_rate=0.02,
    trajectories=20_000,
    steps=300,
    every=6,
    predict=["affine-moments"],
    title="Momentum heats",
)
figure = ensemble.plot("moments", only=["variance(x)"])
