"""Symmetries of a loss: how they are written, whether a loss has them, and the charges that follow."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from sgdsim.base import take
from sgdsim.base.errors import InputError, unknown_name
from sgdsim.formulas.arrays import Shape, declared
from sgdsim.formulas.names import normal, normal_keys, split_names
from sgdsim.formulas.vectors import coordinates, gather
from sgdsim.model.assignments import by_coordinate

if TYPE_CHECKING:
    import sympy

KINDS = {
    "rescale": "rescale:u:1,w:-1",
    "scale": "scale:w",
    "rotation": "rotation:u,v",
    "translation": "translation:z",
    "sign": "sign:u",
    "permutation": "permutation:u,w",
    "layers": "layers:W1,W2,…",
}
"""Each kind of symmetry that has a short form, with it."""


@dataclass(frozen=True)
class Symmetry:
    """A transformation of the parameters that leaves every sample's loss alone.

    A one-parameter group, given by its generator, a single (discrete) map, given by the images, or all changes of basis
    between two layers, which a loss writes out as groups.

    Parameters
    ----------
    name
        What it is called, e.g. ``rescale``.
    generator
        The direction ``d theta / d c`` of each parameter that moves, as a formula of the parameters and constants; of
        a vector by its coordinates, or of all of it under its base name.
    image
        What each parameter that changes is mapped to, likewise.
    layers
        Matrices ``W1``, ``W2`` of which the loss knows ``W2 @ W1``: it is the same for ``A @ W1``, ``W2 @ inverse(A)``.

    Raises
    ------
    InputError
        For other than one of generator, images and layers.
    """

    name: str
    generator: Mapping[str, str] = field(default_factory=dict)
    image: Mapping[str, str] = field(default_factory=dict)
    layers: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        texts = take.by_name(take.text)
        take.settle(self, "loss.symmetry", name=take.text, generator=texts, image=texts, layers=take.each(take.text))
        if sum(map(bool, (self.generator, self.image, self.layers))) != 1:
            raise InputError(
                f"loss.symmetry {self.name!r}: expected one of generator, image and layers, of some parameter"
            )
        object.__setattr__(self, "name", normal(self.name))
        for kind in ("generator", "image"):
            object.__setattr__(self, kind, normal_keys(getattr(self, kind), f"loss.symmetry {self.name!r}"))

    def __hash__(self) -> int:
        return hash((self.name, *self.generator.items(), *self.image.items(), *self.layers))

    @classmethod
    def parse(cls, text: str, where: str = "symmetry") -> Symmetry:
        """Read one of the common ones.

        Parameters
        ----------
        text
            ``rescale:u:1,w:-1`` (each parameter by its own power), ``scale:u,w`` (all alike), ``rotation:u,v``,
            ``translation:u,w`` (all alike), ``sign:u,w`` (all at once), ``permutation:u,w`` (u to w to u; several
            cycles at once as ``permutation:u[0],u[1];w[0],w[1]``), ``layers:W1,W2,W3`` (a basis
            between each two neighbours).
        where
            What it is, for messages.

        Raises
        ------
        InputError
            For anything else.

        Examples
        --------
        >>> Symmetry.parse("rescale:u:1,w:-1").generator
        {'u': '1*u', 'w': '-1*w'}
        >>> Symmetry.parse("permutation:u,w").image
        {'u': 'w', 'w': 'u'}
        """
        kind, _, rest = (part.strip() for part in take.text(text, where).partition(":"))
        names = split_names(rest)
        if kind not in KINDS:
            raise InputError(f"{where}: {unknown_name('symmetry', kind, (*KINDS, 'generator'))}")
        if not all(names):
            raise InputError(f"{where}: {text!r}, expected {KINDS[kind]} with the names of parameters")
        match kind, names:
            case "rescale", _ if all(name.count(":") == 1 for name in names):
                powers = [name.split(":") for name in names]
                return cls(kind, {name.strip(): f"{_factor(power.strip())}*{name.strip()}" for name, power in powers})
            case "rotation", [u, v]:
                return cls(kind, {u: f"-{v}", v: u})
            case "scale" | "translation", _:
                return cls(kind, {name: name if kind == "scale" else "1" for name in names})
            case "sign", _:
                return cls(kind, image={name: f"-{name}" for name in names})
            case "layers", [_, _, *_]:
                return cls(kind, layers=tuple(names))
            case "permutation", _:
                cycles = [split_names(cycle) for cycle in rest.split(";")]
                if all(len(cycle) > 1 and all(cycle) for cycle in cycles):
                    image = {a: b for cycle in cycles for a, b in zip(cycle, cycle[1:] + cycle[:1], strict=True)}
                    return cls(kind, image=image)
        raise InputError(f"{where}: {text!r}, expected {KINDS[kind]} with the names of parameters")

    @classmethod
    def linear(cls, name: str, parameters: Sequence[str], matrix: Sequence[Sequence[float]]) -> Symmetry:
        """The group ``theta -> exp(c A) theta`` of a matrix A.

        Raises
        ------
        InputError
            For a matrix of another size, or of zeros alone.

        Examples
        --------
        >>> Symmetry.linear("turn", ("u", "v"), [[0, -1], [1, 0]]).generator
        {'u': '-1*v', 'v': '1*u'}
        """
        name = take.text(name, "loss.symmetry.name")
        parameters = take.each(take.text)(parameters, f"loss.symmetry {name!r}: parameters")
        matrix = take.each(take.each(take.number))(matrix, f"loss.symmetry {name!r}: matrix")
        if [len(row) for row in matrix] != [len(parameters)] * len(parameters):
            raise InputError(
                f"loss.symmetry {name!r}: a matrix of {len(matrix)} rows, expected {len(parameters)} rows and columns, "
                "as many as parameters"
            )
        rows = {
            target: " + ".join(f"{x!r}*{source}" for source, x in zip(parameters, row, strict=True) if x)
            for target, row in zip(parameters, matrix, strict=True)
        }
        return cls(name, {target: row for target, row in rows.items() if row})

    def written_out(self, shapes: Mapping[str, Shape]) -> Iterator[Symmetry]:
        """The symmetry itself; of layers, a group for each entry of the charge ``W1 @ W1.T - W2.T @ W2`` of neighbours.

        Parameters
        ----------
        shapes
            Of all parameters.

        Raises
        ------
        InputError
            For layers that are not there, or cannot be multiplied.

        Examples
        --------
        >>> symmetry, = Symmetry.parse("layers:W,v").written_out({"W": (1, 2), "v": (1,)})
        >>> symmetry.name, symmetry.generator
        ('layers_0_0', {'W[0,0]': '2*W[0,0]', 'W[0,1]': '2*W[0,1]', 'v[0]': '-2*v[0]'})
        """
        if not self.layers:
            yield self
            return
        for name, first, second in self.neighbours(shapes):
            width = shapes[first][0]
            before = gather({key: key for key in coordinates(first, shapes[first])})[first].reshape(width, -1)
            after = gather({key: key for key in coordinates(second, shapes[second])})[second].reshape(-1, width).T
            for i, j in itertools.combinations_with_replacement(range(width), 2):
                factor = "2*" if i == j else ""
                generator: dict[str, str] = {}
                for layer, sign in ((before, ""), (after, "-")):
                    for to, source in ((i, j), (j, i)):
                        generator |= {a: f"{sign}{factor}{b}" for a, b in zip(layer[to], layer[source], strict=True)}
                yield Symmetry(f"{name}_{i}_{j}", generator)

    def neighbours(self, shapes: Mapping[str, Shape]) -> Iterator[tuple[str, str, str]]:
        """Each two layers that follow each other, after what their charges are called.

        Raises
        ------
        InputError
            As `written_out`.

        Examples
        --------
        >>> shapes = {"W1": (3, 2), "W2": (4, 3), "W3": (1, 4)}
        >>> [name for name, *_ in Symmetry.parse("layers:W1,W2,W3").neighbours(shapes)]
        ['layers_W1_W2', 'layers_W2_W3']
        """
        where = f"loss.symmetry 'layers:{','.join(self.layers)}'"
        for name in self.layers:
            if name not in shapes:
                raise InputError(f"{where}: {unknown_name('parameter', name, shapes)}")
            if not shapes[name]:
                raise InputError(f"{where}: {name} is a number, expected a matrix or a vector")
        for first, second in itertools.pairwise(self.layers):
            width = shapes[first][0]
            if shapes[second][-1] != width:
                both = f"{first}{declared(shapes[first])} and {second}{declared(shapes[second])}"
                expected = f"{width} columns of {second}, the rows of {first}, the layer that is applied before it"
                raise InputError(f"{where}: {both} do not fit, expected {expected}")
            yield self.name if len(self.layers) == 2 else f"{self.name}_{first}_{second}", first, second

    @property
    def is_continuous(self) -> bool:
        """Whether it is a group with a generator."""
        return bool(self.generator)

    def directions(
        self, theta: Sequence[sympy.Symbol], namespace: Mapping[str, Any], numbers: Mapping[str, float]
    ) -> dict[str, sympy.Expr]:
        """The generator by coordinate, of those that move; the images by coordinate of a discrete symmetry.

        Parameters
        ----------
        theta
            Symbols of the parameters.
        namespace
            What the formulas may name, as of `Loss.namespace`.
        numbers
            Constants, so that one in an exponent is a whole number where it has such a value.

        Raises
        ------
        InputError
            For a name that is no parameter, one that is moved twice, and vectors that do not fit.
        """
        where, kind = f"loss.symmetry {self.name!r}", "generator" if self.generator else "image"
        texts, parameters = self.generator or self.image, [symbol.name for symbol in theta]
        return by_coordinate(texts, parameters, namespace, numbers, where, lambda name: f"{where}: {kind} of {name}")

    def charge(
        self, theta: Sequence[sympy.Symbol], namespace: Mapping[str, Any], numbers: Mapping[str, float]
    ) -> sympy.Expr | None:
        """The Noether charge Q whose gradient is the generator, which gradient flow conserves.

        ``theta^T A theta / 2`` of a symmetric matrix A, ``b theta`` of a translation; None where there is none: of
        a discrete symmetry, a rotation, or a generator that is not affine.

        Parameters
        ----------
        theta, namespace, numbers
            As of `directions`.
        """
        import sympy

        if not self.is_continuous:
            return None
        directions = self.directions(theta, namespace, numbers)
        generator = {symbol: directions[symbol.name] for symbol in theta if symbol.name in directions}
        slopes = {(a, b): v.diff(b) for a, v in generator.items() for b in theta if b in v.free_symbols}
        slopes = {pair: slope for pair, slope in slopes.items() if slope != 0}
        if any(slope.free_symbols & set(theta) or slopes.get((b, a)) != slope for (a, b), slope in slopes.items()):
            return None
        # Of A theta + b; the half of theta^T A theta that is too much is taken off again.
        whole = [symbol * value for symbol, value in generator.items()]
        half = [a * slope * b / 2 for (a, b), slope in slopes.items()]
        charge = sympy.expand(sympy.Add(*whole) - sympy.Add(*half))
        return charge if charge != 0 else None


def _factor(text: str) -> str:
    return text if re.fullmatch(r"-?[\w.]+", text) else f"({text})"
