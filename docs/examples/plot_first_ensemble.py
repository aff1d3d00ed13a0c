"""
A valley and its temperature
============================

A quadratic valley with additive gradient noise. The ensemble forgets its start, and its variance comes to
rest where theory says.
"""

import sgdsim

ensemble = sgdsim.simulate(
    "a*x**2/2 + sigma*xi*x",
    constants={"a": 1.0, "sigma": 1.0},
    noise={"xi": "normal"},
    initial={"x": 1.0},
    learning_rate=0.1,
    trajectories=1_000_000,
    steps=60,
    every=10,
    predict=["valley"],
    title="A valley and its temperature",
)
print(ensemble.compare())
figure = ensemble.plot("moments", only=["x"], size=(7, 3.4))
