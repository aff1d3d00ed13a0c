"""
A charge that noise removes
===========================

The loss of every sample is the same for ``u, w`` and ``c*u, w/c``. Gradient flow keeps the charge; noise
makes it fall.
"""

import sgdsim

ensemble = sgdsim.simulate(
    "(u*w*x - y)**2/2",
    define={"y": "0.8*x + s*e"},
    constants={"s": 0.5},
    noise={"x": "rademacher", "e": "normal"},
    symmetry=["rescale:u:1,w:-1"],
    initial={"u": 1.6, "w": 0.5},
    learning_rate=0.1,
    trajectories=10_000,
    steps=1000,
    every=20,
    observables={"q": "u**2 - w**2"},
    predict=["charges"],
    title="A charge that noise removes",
)
figure = ensemble.plot("moments", only=["mean(q)"])
