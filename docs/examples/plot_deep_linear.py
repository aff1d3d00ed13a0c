"""
A deep linear network
=====================

Two layers of matrices. Noise of the labels balances them: what gradient flow conserves, the difference of the
layers, falls.
"""

import sgdsim

ensemble = sgdsim.simulate(
    "norm2(W2@(W1@x) - y)/2",
    define={"y": "x + s*e"},
    constants={"s": 0.5},
    noise={"x[2]": "normal", "e[2]": "normal"},
    initial={"W1[2,2]": "normal:0,0.9", "W2[2,2]": "normal:0,0.3"},
    learning_rate=0.05,
    trajectories=4_000,
    steps=500,
    every=10,
    observables={"difference": "norm2(W1) - norm2(W2)"},
    title="A deep linear network",
)
figure = ensemble.plot("moments", only=["mean(difference)"])
