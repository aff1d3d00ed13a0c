"""
Cooling
=======

Newton's law of cooling: the heat of a valley under a schedule, step by step, against the recursion that is
exact.
"""

import sgdsim

ensemble = sgdsim.simulate(
    "a*x**2/2 + sigma*xi*x",
    constants={"a": 1.0, "sigma": 1.0},
    noise={"xi": "normal"},
    initial={"x": "normal:0,0.4"},
    learning_rate="wsd:0.3,60,60",
    trajectories=400_000,
    steps=120,
    every=4,
    predict=["cooling"],
    title="Cooling",
)
print(ensemble.compare())
figure = ensemble.plot("moments", only=["mean(fast_loss_x)"])
