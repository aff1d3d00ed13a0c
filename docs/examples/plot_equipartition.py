"""
Equipartition
=============

Three directions of very different curvature carry the same energy, up to what a finite learning rate adds.
"""

import sgdsim

ensemble = sgdsim.simulate(
    "(1*x**2 + 2*y**2 + 4*z**2)/2 + p*x + q*y + r*z",
    noise={"p": "normal", "q": "normal", "r": "normal"},
    initial={"x": 0.0, "y": 0.0, "z": 0.0},
    learning_rate=0.05,
    trajectories=50_000,
    steps=120,
    every=4,
    observables={"U_x": "x**2/2", "U_y": "2*y**2/2", "U_z": "4*z**2/2"},
    predict=[
        f"mean(U_{name}) = learning_rate/(2*(2 - {a}*learning_rate)); resolution=5%"
        for name, a in zip("xyz", (1, 2, 4), strict=True)
    ],
    title="Equipartition",
)
print(ensemble.compare())
figure = ensemble.plot("moments", only=["mean(U_x)", "mean(U_y)", "mean(U_z)"], size=(8, 3.2))
