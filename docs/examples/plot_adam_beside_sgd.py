"""
Adam beside SGD on the same noise
=================================

Two runs with one seed and so the same gradients' noise. Adam divides by the size of the gradient: its
fluctuation does not fall with the noise.
"""

import matplotlib.figure

import sgdsim

common = {
    "constants": {"sigma": 0.5},
    "noise": {"xi": "normal"},
    "initial": {"x": 1.0},
    "learning_rate": 0.05,
    "trajectories": 10_000,
    "steps": 300,
    "every": 5,
    "seed": 7,
}
formula = "x**2/2 + sigma*xi*x"
runs = {name: sgdsim.simulate(formula, name, **common) for name in ("sgd", "adam")}

figure = matplotlib.figure.Figure(figsize=(6, 3.4))
axes = figure.add_subplot()
for name, run in runs.items():
    axes.errorbar(run.steps, run.variance("x"), 2 * run.statistic("variance_stderr", "x"), label=name)
axes.set(xlabel="step $t$", ylabel=r"variance of $x$")
axes.legend()
