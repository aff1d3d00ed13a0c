"""
A rule without a loss
=====================

Oja's rule, a direction in place of a gradient: the weights find the principal axis of their inputs and the
length one.
"""

import sgdsim

ensemble = sgdsim.simulate(
    "",
    direction={"w": "-(w@x)*(x - (w@x)*w)"},
    noise={"x[2]": "normal:1,0.6;0.6,1"},
    initial={"w[2]": "normal:0,0.3"},
    learning_rate=0.02,
    trajectories=4_000,
    steps=600,
    every=10,
    observables={"length": "norm2(w)", "along": "(w[0] + w[1])**2/2"},
    title="A rule without a loss",
)
figure = ensemble.plot("moments", only=["mean(length)", "mean(along)"], size=(7, 3.4))
