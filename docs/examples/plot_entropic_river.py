"""
A river that walls move
=======================

The river is flat, but its walls are narrower on one side. Fluctuations across it move it to where they are
wide.
"""

import sgdsim

ensemble = sgdsim.simulate(
    "a0*exp(k*y)*x**2/2 + sigma*xi*x",
    constants={"a0": 2.0, "k": 1.0, "sigma": 1.0},
    noise={"xi": "normal"},
    initial={"x": "normal:0,0.07", "y": 0.0},
    learning_rate=0.02,
    trajectories=100_000,
    steps=800,
    every=20,
    predict=["mean(y) = -learning_rate**2*sigma**2*k*steps/4; tolerance=5%"],
    title="A river that walls move",
)
print(ensemble.compare())
figure = ensemble.plot("moments", only=["mean(y)"])
