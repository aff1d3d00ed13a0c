"""Symmetries of a loss: their written form, and the Noether charges that follow from them."""

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
"""Short form of each kind of symmetry that has one."""


@dataclass(frozen=True)
class Symmetry:
    """A transformation of the parameters that leaves the loss of every sample unchanged.

    It is a one-parameter group, given by its generator; or a single (discrete) map, given by the images of the
    parameters; or all changes of basis between two layers, which a loss writes out as one-parameter groups.

    Parameters
    ----------
    name
        Name of the symmetry, such as ``rescale``.
    generator
        The direction ``d theta / d c`` of each parameter that moves, a formula of the parameters and constants. The
        directions of a vector are given by coordinate, or together under its base name.
    image
        The image of each parameter that changes, in the same form.
    layers
        Names of matrices ``W1``, ``W2`` that enter the loss only as ``W2 @ W1``, so that ``A @ W1`` and
        ``W2 @ inverse(A)`` give the same loss.

    Raises
    ------
    InputError
        Unless exactly one of generator, image and layers is given.

    Examples
    --------
    >>> from sympy import symbols
    >>> rescale = Symmetry("rescale", {"u": "u", "w": "-w"})
    >>> u, w = symbols("u w", real=True)
    >>> rescale.is_continuous, rescale.directions((u, w), {"u": u, "w": w}, {})
    (True, {'u': u, 'w': -w})
    >>> rescale.charge((u, w), {"u": u, "w": w}, {})
    u**2/2 - w**2/2
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
        """Symmetry of a common kind from its short form.

        Parameters
        ----------
        text
            ``rescale:u:1,w:-1`` (each parameter by its own power), ``scale:u,w`` (all by the same factor),
            ``rotation:u,v``, ``translation:u,w`` (all by the same amount), ``sign:u,w`` (all together),
            ``permutation:u,w`` (u to w to u; several cycles together as ``permutation:u[0],u[1];w[0],w[1]``), or
            ``layers:W1,W2,W3`` (a change of basis between neighbours).
        where
            Name of the symmetry, for messages.

        Returns
        -------
        Symmetry
            The symmetry.

        Raises
        ------
        InputError
            For a text of another form.

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
        """Symmetry of the group ``theta -> exp(c A) theta`` with a matrix A.

        Parameters
        ----------
        name
            Name of the symmetry.
        parameters
            Names of the parameters theta.
        matrix
            The matrix A, shape (parameter, parameter), as rows of numbers.

        Returns
        -------
        Symmetry
            The symmetry.

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
        """The symmetry itself; or, for layers, a group for each entry of the charge ``W1 @ W1.T - W2.T @ W2``.

        Parameters
        ----------
        shapes
            Shapes of all parameters by base name.

        Yields
        ------
        Symmetry
            The symmetry, or the next group.

        Raises
        ------
        InputError
            For layers that are not parameters, or whose shapes do not fit.

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
        """Pairs of neighbouring layers, each with the name of their charge.

        Parameters
        ----------
        shapes
            Shapes of all parameters by base name.

        Yields
        ------
        tuple
            Name of the charge, and names of the layer that is applied first and of the next one.

        Raises
        ------
        InputError
            For layers that are not parameters, or whose shapes do not fit.

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
        """True if the symmetry is a one-parameter group with a generator."""
        return bool(self.generator)

    def directions(
        self, theta: Sequence[sympy.Symbol], namespace: Mapping[str, Any], numbers: Mapping[str, float]
    ) -> dict[str, sympy.Expr]:
        """Generator of the group for each coordinate that moves; for a discrete symmetry the images.

        Parameters
        ----------
        theta
            Symbols of the parameters.
        namespace
            Values of the names in the formulas; see `Loss.namespace`.
        numbers
            Values of constants, so that a constant in an exponent becomes a whole number if it is one.

        Returns
        -------
        dict
            Expressions by coordinate.

        Raises
        ------
        InputError
            For a name that is not a parameter, a parameter that moves twice, and vectors of different lengths.
        """
        where, kind = f"loss.symmetry {self.name!r}", "generator" if self.generator else "image"
        texts, parameters = self.generator or self.image, [symbol.name for symbol in theta]
        return by_coordinate(texts, parameters, namespace, numbers, where, lambda name: f"{where}: {kind} of {name}")

    def charge(
        self, theta: Sequence[sympy.Symbol], namespace: Mapping[str, Any], numbers: Mapping[str, float]
    ) -> sympy.Expr | None:
        """Noether charge Q, whose gradient is the generator and which gradient flow conserves (arXiv:2012.04728).

        For ``theta -> exp(c A) theta`` with a symmetric matrix A it is ``theta^T A theta / 2``, for a translation along
        b it is ``b theta``. A discrete symmetry, a rotation and a generator that is not affine have no charge.

        Parameters
        ----------
        theta, namespace, numbers
            Symbols of the parameters and values of names; see `directions`.

        Returns
        -------
        sympy.Expr or None
            The charge; None if there is none.
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
        # Theta times the generator A theta + b is theta^T A theta + b theta; half of the first term is subtracted.
        whole = [symbol * value for symbol, value in generator.items()]
        half = [a * slope * b / 2 for (a, b), slope in slopes.items()]
        charge = sympy.expand(sympy.Add(*whole) - sympy.Add(*half))
        return charge if charge != 0 else None


def _factor(text: str) -> str:
    return text if re.fullmatch(r"-?[\w.]+", text) else f"({text})"
