"""
A learning rate as a Python function
====================================

A schedule can be a function of the step, or an array with one rate a step: here one that goes up and down.
"""

import math

import sgdsim

ensemble = sgdsim.simulate(
    "x**2/2 + z*x",
    noise={"z": "normal"},
    initial={"x": 0.0},
    learning_rate=lambda step: 0.2 + 0.15 * math.sin(2 * math.pi * step / 60),
    trajectories=20_000,
    steps=180,
    every=3,
    observables={"mean_loss": "loss"},
    title="A learning rate as a Python function",
)
figure = ensemble.plot("schedule", size=(7, 3.4))
