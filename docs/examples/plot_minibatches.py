"""
Minibatches of a table
======================

Two hundred rows, drawn in batches of ten, with replacement or in shuffled epochs. Epochs are colder.
"""

import matplotlib.figure
import numpy as np

import sgdsim

random = np.random.default_rng(1)
x = random.normal(size=200)
data = {"x": x, "y": 0.7 * x + 0.5 * random.normal(size=200)}

runs = {
    sampling: sgdsim.simulate(
        "(w*x - y)**2/2",
        data=data,
        batch_size=10,
        sampling=sampling,
        initial={"w": 0.0},
        learning_rate=0.1,
        trajectories=2_000,
        steps=200,
        every=5,
    )
    for sampling in ("replacement", "epoch")
}
figure = matplotlib.figure.Figure(figsize=(6, 3.4))
axes = figure.add_subplot()
for sampling, run in runs.items():
    axes.errorbar(run.steps, run.variance("w"), 2 * run.statistic("variance_stderr", "w"), label=sampling)
axes.set(xlabel="step $t$", ylabel="variance of $w$", yscale="log", ylim=(1e-5, 1e-1))
axes.legend()
