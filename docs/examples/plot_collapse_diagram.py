"""
Where a weight collapses
========================

A saddle repels a weight from zero; noise of its curvature can pin it there all the same. The map is the mean
growth of ``log|x|`` a step, the line is where theory has it vanish.
"""

import numpy as np

import sgdsim

ensemble = sgdsim.simulate(
    "(d*e - a)*x**2/2",
    constants={"a": 0.2, "d": 1.0},
    noise={"e": "rademacher"},
    initial={"x": 1.0},
    learning_rate=0.1,
    sweep={
        "grid": {
            "optimizer.learning_rate": [float(rate) for rate in np.linspace(0.05, 0.8, 10)],
            "loss.constants.d": [float(noise) for noise in np.linspace(0.3, 2.2, 10)],
        }
    },
    trajectories=1_000,
    steps=200,
    predict=["collapse"],
    title="Where a weight collapses",
)
figure = ensemble.plot("diagram")
