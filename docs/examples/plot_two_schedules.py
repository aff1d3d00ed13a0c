"""
Two schedules on the same noise
===============================

A constant learning rate and a cosine, drawn from the same random numbers: the loss over time, and its ratio.
"""

import sgdsim

ensemble = sgdsim.simulate(
    "x**2/2 + z*x",
    noise={"z": "normal"},
    initial={"x": 2.0},
    learning_rate=[0.1, "cosine:0.1,0.001"],
    common_noise=True,
    trajectories=20_000,
    steps=200,
    every=5,
    observables={"mean_loss": "loss"},
    title="Two schedules on the same noise",
)
figure = ensemble.plot("schedule", size=(8, 3.2))
