"""
A sweep in xarray
=================

What a sweep varies is a coordinate. Selecting, dividing and drawing are those of xarray.
"""

import matplotlib.figure

import sgdsim

ensemble = sgdsim.simulate(
    "a*x**2/2 + z*x",
    constants={"a": 1.0},
    noise={"z": "normal"},
    initial={"x": 0.0},
    learning_rate=0.1,
    sweep={"grid": {"optimizer.learning_rate": [0.05, 0.1, 0.2, 0.4], "loss.constants.a": [0.5, 1.0, 2.0]}},
    trajectories=5_000,
    steps=300,
)
variance = ensemble.to_xarray().variance.sel(observable="x").isel(record=-1)
rate, curvature = variance["sweep_optimizer.learning_rate"], variance["sweep_loss.constants.a"]
scaled = variance * curvature * (2 - rate * curvature) / rate  # 1 everywhere
print(scaled.to_pandas())

figure = matplotlib.figure.Figure(figsize=(6, 3.4))
axes = figure.add_subplot()
for a in curvature.values:
    axes.plot(rate, variance.sel({"sweep_loss.constants.a": a}), "o-", label=f"$a = {a}$")
axes.set(xlabel=r"learning rate $\eta$", ylabel="variance of $x$", xscale="log", yscale="log")
axes.set_xticks(rate.values, rate.values)
axes.set_yticks([0.05, 0.1, 0.2, 0.4], [0.05, 0.1, 0.2, 0.4])
axes.minorticks_off()
axes.legend()
