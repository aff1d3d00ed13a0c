"""Random formulas of vectors and matrices, with the shapes of their names."""

from __future__ import annotations

from random import Random

from sgdsim.formulas.arrays import Shape

SIZES = (1, 2, 3, 5)
FUNCTIONS = ("tanh", "exp", "sin", "cos", "sigmoid", "softplus", "atan", "erf", "relu", "abs", "cosh", "sinh")
NUMBERS = ("0.5", "1.5", "-0.7", "2")


class Expressions:
    """Makes formulas; each name that it needs is declared in `shapes`.

    Values of names are between 0.2 and 1.2 in size, and functions are those that stay smooth and small there.
    """

    def __init__(self, random: Random) -> None:
        self.random = random
        self.shapes: dict[str, Shape] = {}

    def scalar(self, depth: int) -> str:
        """A formula of a number."""
        random = self.random
        if depth == 0:
            return self._name(())
        n, m = random.choice(SIZES), random.choice(SIZES)
        makers = (
            lambda: f"sum({self.array((n, m), depth - 1)})",
            lambda: f"dot({self.array((n,), depth - 1)}, {self.array((n,), depth - 1)})",
            lambda: f"norm2({self.array((n, m), depth - 1)})/4",
            lambda: f"norm2({self.array((n,), depth - 1)})/3",
            lambda: f"trace({self.array((n, n), depth - 1)})",
            lambda: f"{self._name((n, m))}[{random.randrange(n)},{random.randrange(m)}]",
            lambda: f"({self.scalar(depth - 1)})*({self.scalar(depth - 1)})",
            lambda: self._elementwise((), depth),
        )
        return random.choice(makers)()

    def array(self, shape: Shape, depth: int) -> str:
        """A formula of a shape."""
        random = self.random
        if not shape:
            return self.scalar(depth)
        if depth == 0:
            return self._name(shape)
        k = random.choice(SIZES)
        makers = [lambda: self._elementwise(shape, depth)] * 3
        makers.append(
            lambda: f"({self.array((*shape[:-1], k), depth - 1)})@({self.array((k, *shape[-1:]), depth - 1)})"
        )
        if len(shape) == 2:
            makers.append(lambda: f"transpose({self.array(shape[::-1], depth - 1)})")
            makers.append(lambda: f"outer({self.array(shape[:1], depth - 1)}, {self.array(shape[1:], depth - 1)})")
            if shape[0] == shape[1]:
                makers.append(lambda: f"diag({self.array(shape[:1], depth - 1)})")
                makers.append(lambda: f"({self.array(shape, depth - 1)} + 2*eye({shape[0]}))")
        else:
            makers.append(lambda: f"diag({self.array(shape * 2, depth - 1)})")
            makers.append(lambda: f"({self.array((*shape, k), depth - 1)})@({self.array((k,), depth - 1)})")
            makers.append(lambda: f"{self._name((k, *shape))}[{random.randrange(k)}]")
        return random.choice(makers)()

    def _elementwise(self, shape: Shape, depth: int) -> str:
        random = self.random
        a, b = (self.array(random.choice((shape, shape, ())), depth - 1) for _ in range(2))
        whole = self.array(shape, depth - 1)
        return random.choice(
            (
                f"({whole} + {a})",
                f"({whole} - {a})",
                f"({whole})*({a})",
                f"({whole})/(2 + tanh({a}))",
                f"{random.choice(FUNCTIONS)}(tanh({whole}))",
                f"(tanh({whole}))**{random.choice((2, 3))}",
                f"sqrt(2 + tanh({whole}))",
                f"log(2 + tanh({whole}))",
                f"(2 + tanh({whole}))**1.5",
                f"max({whole}, {a})",
                f"min({whole}, {a})",
                f"where({whole} < {a}, {b}, {whole})",
                f"{random.choice(NUMBERS)}*({whole})",
            )
        )

    def _name(self, shape: Shape) -> str:
        known = [name for name, one in self.shapes.items() if one == shape]
        if known and self.random.random() < 0.6:
            return self.random.choice(known)
        name = f"p{len(self.shapes)}"
        self.shapes[name] = shape
        return name
