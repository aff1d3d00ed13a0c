"""Random losses such as users write, as the plain data of a scenario: right simulations, which nothing may accuse.

A *structure* is what a kernel is compiled for: the formula, the families of noise, the optimizer, the batch. Its
constants, its start, learning rate and length are drawn anew for each case, so that many cases share one kernel.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from random import Random
from typing import Any

NAMES = ("x", "y", "u", "w")

WELLS = (
    ("{a}*{p}**2/2", 6),
    ("{a}*{p}**4/4", 1),
    ("{a}*{p}**2/2 + {b}*{p}**4/4", 2),
    ("{a}*({p}**2 - 1)**2/4", 2),
    ("{a}*cosh({p})", 1),
    ("{a}*(softplus({p}) + softplus(-{p}))", 1),
    ("{a}*(1 - cos({p}))", 1),
    ("{a}*({p} - {m})**2/2", 2),
    ("{slow}*{p}**2/2", 2),
    ("{slow}*{p}", 1),
)
"""Potentials of one parameter, with weights; the constants in braces are drawn."""

VALLEYS = (("{a}*{p}**2/2", 3), ("{a}*({p} - {m})**2/2", 1), ("{slow}*{p}**2/2", 2), ("{slow}*{p}", 1))
"""Those with affine gradients: every second loss has no others, since most laws speak of them."""

COUPLINGS = (
    ("exp({k}*{q})*{p}**2/2", 3),
    ("{k}*{q}**2*{p}**2/2", 3),
    ("{c}*{p}*{q}", 2),
    ("({p}*{q} - {m})**2/2", 2),
    ("{c}*sin({p} - {q})", 1),
)
"""Potentials of two parameters; a curvature that depends on a slow one is a river valley."""

NOISES = (
    ("{s}*{n}*{p}", 6),
    ("{s}*{n}*{p}**2/2", 2),
    ("{s}*{n}*{p}*{q}", 1),
    ("{s}*{n}*sin({p})", 1),
)

FAMILIES = (
    ("normal", 6),
    ("uniform:-1,1", 1),
    ("laplace", 1),
    ("rademacher", 2),
    ("exponential", 1),
    ("lognormal:0,0.5", 1),
    ("student_t:9", 1),
    ("bernoulli:0.3", 1),
)

OPTIMIZERS = (
    ("sgd", 10),
    ("momentum", 3),
    ("nesterov", 1),
    ("ema", 1),
    ("signsgd", 1),
    ("rmsprop", 1),
    ("rmsprop_excluding", 1),
    ("adam", 2),
    ("adamw", 1),
    ("langevin", 1),
    ("gradient_descent", 1),
)

STARTS = (("0.0", 3), ("near", 3), ("far", 3), ("normal:{m},{s}", 2), ("uniform:-{s},{s}", 1), ("laplace:{m},{s}", 1))

RANGES = {"a": (0.3, 3.0), "b": (0.1, 1.0), "slow": (0.001, 0.05), "k": (0.05, 1.0), "c": (0.05, 0.5), "s": (0.05, 1.5)}
"""Bounds between which a constant is drawn, uniformly in its logarithm; m is uniform between -1 and 1."""


def _one_of(random: Random, weighted: tuple[tuple[str, int], ...]) -> str:
    texts, weights = zip(*weighted, strict=True)
    return str(random.choices(texts, weights)[0])


@dataclass
class Structure:
    """Structure of a random loss, for which a kernel is compiled."""

    random: Random
    terms: list[str] = field(default_factory=list)
    constants: dict[str, str] = field(default_factory=dict)
    noise: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        random = self.random
        self.parameters = NAMES[: random.choices((1, 2, 3, 4), (7, 7, 4, 2))[0]]
        wells = random.choice((WELLS, VALLEYS))
        for name in self.parameters:
            self._add(_one_of(random, wells), name)
        for _ in range(random.choice((0, 1, 1, 2)) if len(self.parameters) > 1 else 0):
            self._add(_one_of(random, COUPLINGS), *random.sample(self.parameters, 2))
        noisy = [name for name in self.parameters if random.random() < 0.8] or [self.parameters[0]]
        for name in noisy:
            self._add(_one_of(random, NOISES), name, random.choice(self.parameters))
        self.optimizer = _one_of(random, OPTIMIZERS)
        self.batch_size = random.choice((1, 1, 1, 2, 4))
        self.starts = {name: _one_of(random, STARTS) for name in self.parameters}

    def _add(self, template: str, p: str, q: str = "") -> None:
        """A term with constants and noise of its own."""
        names = {"p": p, "q": q}
        for key in (*RANGES, "m"):
            if f"{{{key}}}" in template:
                names[key] = f"{key}{len(self.constants)}"
                self.constants[names[key]] = key
        if "{n}" in template:
            names["n"] = f"n{len(self.noise)}"
            self.noise[names["n"]] = _one_of(self.random, FAMILIES)
        self.terms.append(template.format(**names))

    def case(self, trajectories: int) -> dict[str, Any]:
        """A scenario of this structure, with everything drawn that does not change the kernel."""
        random, steps = self.random, self.random.choice((20, 60, 60, 200, 400))
        optimizer: dict[str, Any] = {"name": self.optimizer, "batch_size": self.batch_size}
        optimizer["learning_rate"] = self._learning_rate(steps)
        if self.optimizer == "langevin":
            optimizer["temperature"] = self._draw("s") ** 2
        if self.optimizer not in ("adamw", "langevin") and random.random() < 0.2:
            optimizer["weight_decay"] = 10 ** random.uniform(-3, -1)
        return {
            "loss": {
                "formula": " + ".join(self.terms),
                "parameters": {name: self._start(text) for name, text in self.starts.items()},
                "constants": {name: self._draw(key) for name, key in self.constants.items()},
                "noise": self.noise,
            },
            "optimizer": optimizer,
            "run": {"trajectories": trajectories, "steps": steps, "seed": random.getrandbits(32)},
            "record": {"every": steps // 4},
        }

    def _draw(self, key: str) -> float:
        if key == "m":
            return round(self.random.uniform(-1, 1), 3)
        low, high = RANGES[key]
        return float(f"{low * (high / low) ** self.random.random():.3g}")

    def _start(self, text: str) -> float | str:
        if text == "near":
            return round(self.random.gauss(0, 0.1), 3)
        if text == "far":
            return self.random.choice((-2.0, -1.0, 1.0, 2.0))
        return text.format(m=self._draw("m"), s=self._draw("s")) if "{" in text else float(text)

    def _learning_rate(self, steps: int) -> float | str:
        adaptive = self.optimizer in ("signsgd", "rmsprop", "rmsprop_excluding", "adam", "adamw")
        rate = float(f"{10 ** self.random.uniform(-2.3, -1.3 if adaptive else -0.4):.3g}")
        kind = self.random.choice(("constant",) * 5 + ("linear", "cosine", "exponential", "step", "inverse"))
        tails = {"linear": "", "cosine": ",0.001", "exponential": f",{steps / 2:g}", "step": f",0.5,{steps // 3}"}
        return rate if kind == "constant" else f"{kind}:{rate}{tails.get(kind, f',{steps / 3:g}')}"


def cases(structures: int, each: int, trajectories: int, seed: int = 0) -> Iterator[dict[str, Any]]:
    """Scenarios of random structures, `each` of every one: the kernels of one structure are the same."""
    for number in range(structures):
        structure = Structure(Random(f"{seed}-{number}"))
        for _ in range(each):
            yield structure.case(trajectories)


def sweeps(number: int, trajectories: int, seed: int = 0) -> Iterator[dict[str, Any]]:
    """Scenarios of plain SGD from a point over four rates, each half of the one before, that reach one time."""
    for place in range(number):
        random = Random(f"sweep-{seed}-{place}")
        structure = Structure(random)
        structure.optimizer = "sgd"
        structure.starts = {name: "near" if "{" in text else text for name, text in structure.starts.items()}
        data, steps = structure.case(trajectories), random.choice((4, 8, 16, 32))
        rate = float(f"{10 ** random.uniform(-2.0, -0.3):.3g}")
        rates = [rate / 2**halves for halves in range(4)]
        data["optimizer"].pop("learning_rate")
        data["run"] = {"trajectories": trajectories, "time": steps * rate, "seed": random.getrandbits(32)}
        yield {**data, "record": {"every": 1000}, "sweep": {"optimizer.learning_rate": rates}}


LAYERS = (
    ("norm2(W@x - V@x - s*e)/2", {"W": (2, 2), "V": (2, 2)}, {"x[2]": 1, "e[2]": 1}),
    ("norm2(W@tanh(x) - s*e)/2", {"W": (2, 2)}, {"x[2]": 1, "e[2]": 1}),
    ("(dot(v, W@x) - dot(b, x) - s*e)**2/2", {"W": (2, 2), "v": (2,), "b": (2,)}, {"x[2]": 1, "e": 1}),
    ("norm2(W.T@W - C - s*diag(e))/4", {"W": (2, 2), "C": (2, 2)}, {"e[2]": 1}),
    ("a*norm2(w)/2 + norm2(w)**2/8 + s*dot(e, w)", {"w": (3,)}, {"e[3]": 1}),
)
"""Losses of matrices and vectors: the formula, shapes (capitals V and C, and b, are constants), noise."""

RULES = (
    {"x": "{a}*x + {c}*y + {s}*n0", "y": "{a}*y - {c}*x + {s}*n1"},
    {"x": "{a}*sin(x) + {c} + {s}*n0*cos(x)"},
    {"x": "{a}*(x**3 - x) + {c}*y + {s}*n0", "y": "{k}*(y - x) + {s}*n0*n1"},
)
"""Parameters that move by rules of their own."""


def array_cases(number: int, trajectories: int, seed: int = 0) -> Iterator[dict[str, Any]]:
    """Scenarios of matrices, vectors, and parameters that move by rules of their own."""
    for place in range(number):
        random = Random(f"arrays-{seed}-{place}")
        structure = Structure(random)
        data = structure.case(trajectories)
        kinds = ("constant:",) * 3 + ("linear:",)
        data["optimizer"] = {
            "name": random.choice(("sgd", "sgd", "sgd", "momentum", "adam")),
            "learning_rate": f"{random.choice(kinds)}{random.uniform(0.01, 0.08):.4f}",
            "batch_size": random.choice((1, 1, 2)),
        }
        data["loss"] = _of_rules(random, structure) if random.random() < 0.4 else _of_arrays(random)
        yield data


def _of_rules(random: Random, structure: Structure) -> dict[str, Any]:
    rules = random.choice(RULES)
    numbers = {key: structure._draw(key) for key in ("a", "c", "s", "k")}
    noise = {name: _one_of(random, FAMILIES) for name in ("n0", "n1") if name in " ".join(rules.values())}
    start = {name: round(random.uniform(-1, 1), 3) for name in rules}
    return {
        "direction": {name: text.format(**numbers) for name, text in rules.items()},
        "parameters": start,
        "noise": noise,
    }


def _of_arrays(random: Random) -> dict[str, Any]:
    formula, shapes, noise = random.choice(LAYERS)
    fixed = {name for name in shapes if name in ("V", "C", "b")}

    def filled(shape: tuple[int, ...]) -> Any:
        if not shape:
            return round(random.gauss(0, 0.6), 3)
        return [filled(shape[1:]) for _ in range(shape[0])]

    constants: dict[str, Any] = {name: filled(shapes[name]) for name in fixed}
    constants |= {name: round(random.uniform(0.2, 0.8), 3) for name in ("s", "a") if f"{name}*" in formula}
    return {
        "formula": formula,
        "parameters": {name: filled(shape) for name, shape in shapes.items() if name not in fixed},
        "constants": constants,
        "noise": {name: random.choice(("normal", "normal", "uniform:-1,1", "laplace")) for name in noise},
    }
