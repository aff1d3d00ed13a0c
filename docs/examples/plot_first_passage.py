"""
How long a weight stays in a well
=================================

Every trajectory stops when it has crossed the barrier. The curve is the share of those that are still on
their side.
"""

import matplotlib.figure

import sgdsim

ensemble = sgdsim.simulate(
    "x**4/4 - x**2/2 + z*x",
    noise={"z": "normal"},
    initial={"x": -1.0},
    learning_rate=0.2,
    trajectories=20_000,
    steps=400,
    every=5,
    observables={"left": "where(x < 0, 1, 0)"},
    stop=["x > 0.5"],
)
figure = matplotlib.figure.Figure(figsize=(6, 3.4))
axes = figure.add_subplot()
axes.semilogy(ensemble.steps, ensemble.mean("left"))
axes.set(xlabel="step $t$", ylabel="share with $x < 0$")
axes.set_yticks([1, 0.8, 0.6, 0.4], ["1", "0.8", "0.6", "0.4"])
axes.minorticks_off()
