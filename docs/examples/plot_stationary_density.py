"""
A stationary density
====================

The density of a weight in a quartic valley, with the law of Gibbs over it, which holds for small learning
rates.
"""

import sgdsim

ensemble = sgdsim.simulate(
    "x**4/4 + xi*x",
    noise={"xi": "normal"},
    initial={"x": "normal:0,0.4"},
    learning_rate=0.02,
    trajectories=20_000,
    steps=400,
    histograms={"x": [-1.6, 1.6, 40]},
    predict=["density(x) = exp(-x**4/(2*learning_rate))"],
    title="A stationary density",
)
print(ensemble.compare())
figure = ensemble.plot("density")
