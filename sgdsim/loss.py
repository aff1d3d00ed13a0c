"""A loss is a formula; the gradient, the Hessian, the population loss and exact expectations follow from it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from math import isfinite
from random import Random
from typing import TYPE_CHECKING, Any

from sgdsim.errors import InputError, unknown_name
from sgdsim.formula import Formula, check_name
from sgdsim.noise import Noise
from sgdsim.vectors import base_name, coordinates, gather

if TYPE_CHECKING:
    import sympy

Definition = str | tuple[str, ...]

_MAX_SHOWN = 200  # characters of an expression in a message


@dataclass(frozen=True)
class Symmetry:
    """A one-parameter group ``theta -> exp(c A) theta`` (or ``theta + c b``) that leaves every sample's loss alone.

    Parameters
    ----------
    name
        What it is called, e.g. ``rescale``.
    generator
        The direction ``d theta / d c`` of each parameter that moves, as a formula of the parameters and constants; of
        a vector by its coordinates, or of all of it under its base name.
    """

    name: str
    generator: Mapping[str, str]

    def __hash__(self) -> int:
        return hash((self.name, *self.generator.items()))

    @classmethod
    def parse(cls, text: str, where: str = "symmetry") -> Symmetry:
        """Read one of the common ones.

        Parameters
        ----------
        text
            ``rescale:u:1,w:-1`` (each parameter by its own power), ``scale:w``, ``rotation:u,v`` or ``translation:z``.
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
        """
        kind, _, rest = text.partition(":")
        parts = [[field.strip() for field in part.split(":")] for part in rest.split(",")]
        match kind.strip(), parts if all(map(all, parts)) else []:
            case "rescale", [[_, _], *_] if all(len(part) == 2 for part in parts):
                generator = {name: f"{power}*{name}" for name, power in parts}
            case "scale", [[name]]:
                generator = {name: name}
            case "rotation", [[u], [v]]:
                generator = {u: f"-{v}", v: u}
            case "translation", [[name]]:
                generator = {name: "1"}
            case _:
                raise InputError(
                    f"{where}: {text!r}, expected rescale:u:1,w:-1, scale:w, rotation:u,v or translation:z with the "
                    "names of parameters"
                )
        return cls(kind.strip(), generator)


@dataclass(frozen=True)
class Loss:
    """A per-sample loss with its parameters, constants, noise and symmetries.

    Everything is text and numbers until a derivative is asked for; SymPy is imported only then.

    Parameters
    ----------
    formula
        The loss of one sample.
    parameters
        Coordinates in the user's order; a vector by its coordinates ``w[0]``, ``w[1]``, ….
    constants
        Name to value.
    noise
        Name of each noise variable to its distribution; one independent draw each a sample.
    definitions
        Named sub-formulas, in an order in which each refers to earlier ones only; a tuple is a vector.
    symmetries
        Declared symmetries.
    name, description, references
        For people.

    Raises
    ------
    InputError
        For a name used twice, a name that no formula can use, a constant that is not finite, a formula
        with an unknown name, or a declared symmetry that the loss does not have.

    Examples
    --------
    >>> loss = Loss("a*x**2/2 + s*z*x", ("x",), {"a": 2.0, "s": 0.1}, {"z": Noise.parse("normal")})
    >>> loss.gradient
    (a*x + s*z,)
    >>> loss.population
    a*x**2/2
    """

    formula: str
    parameters: tuple[str, ...]
    constants: Mapping[str, float] = field(default_factory=dict)
    noise: Mapping[str, Noise] = field(default_factory=dict)
    definitions: Mapping[str, Definition] = field(default_factory=dict)
    symmetries: tuple[Symmetry, ...] = ()
    name: str = "custom"
    description: str = ""
    references: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if isinstance(self.parameters, str):  # type: ignore[unreachable]
            raise InputError(
                f"loss.parameters: {self.parameters!r}, expected a sequence of names, ({self.parameters!r},)"
            )
        if not self.parameters:
            raise InputError("loss.parameters: a loss needs at least one parameter")
        _check_coordinates(self.parameters, "parameter")
        _check_coordinates(self.noise, "noise variable")
        seen: dict[str, str] = {}
        for kind, names in (
            ("parameter", self.parameters),
            ("constant", self.constants),
            ("noise variable", self.noise),
            ("definition", self.definitions),
        ):
            for base in dict.fromkeys(base_name(name) for name in names):
                check_name(base, where=f"loss: {kind}")
                if base in seen:
                    raise InputError(f"loss: {base!r} is both a {seen[base]} and a {kind}")
                seen[base] = kind
        for name, value in self.constants.items():
            if not isfinite(value):
                raise InputError(f"loss.constants.{name}: {value} is not finite")
        known = {base_name(name) for name in (*self.parameters, *self.constants, *self.noise)}
        for name, text in self.definitions.items():
            for part in (text,) if isinstance(text, str) else text:
                Formula.parse(part, where=f"loss definition {name!r}").require(known)
            known.add(name)
        Formula.parse(self.formula, where="loss formula").require(known)
        for symmetry in self.symmetries:
            self._check_symmetry(symmetry, known - {base_name(name) for name in self.noise})

    def __hash__(self) -> int:
        return hash((self.formula, self.parameters))

    @cached_property
    def symbols(self) -> dict[str, sympy.Symbol]:
        """One real symbol for each parameter coordinate, constant and noise variable."""
        import sympy

        names = (*self.parameters, *self.constants, *self.noise)
        return {name: sympy.Symbol(name, real=True) for name in names}

    @cached_property
    def namespace(self) -> dict[str, Any]:
        """What a formula about this loss may name: symbols, vectors under their base name, definitions."""
        namespace = gather(self.symbols)
        for name, text in self.definitions.items():
            if isinstance(text, str):
                namespace[name] = Formula.parse(text, where=f"loss definition {name!r}").expression(namespace)
            else:
                namespace[name] = [Formula.parse(part).expression(namespace) for part in text]
        return namespace

    def expand(self, text: str, where: str = "formula") -> sympy.Expr:
        """Read a formula in the names of this loss, and ``loss``, the population loss."""
        formula = Formula.parse(text, where=where)
        namespace = dict(self.namespace)
        if "loss" in formula.names:
            namespace.setdefault("loss", self.population)
        return formula.expression(namespace)

    @cached_property
    def theta(self) -> tuple[sympy.Symbol, ...]:
        """The parameters' symbols, in order."""
        return tuple(self.symbols[name] for name in self.parameters)

    @cached_property
    def expression(self) -> sympy.Expr:
        """The per-sample loss."""
        return Formula.parse(self.formula, where="loss formula").expression(self.namespace)

    @cached_property
    def gradient(self) -> tuple[sympy.Expr, ...]:
        """The per-sample gradient, one entry a parameter."""
        return tuple(self.expression.diff(symbol) for symbol in self.theta)

    @cached_property
    def hessian(self) -> sympy.Matrix:
        """The Hessian of the population loss, parameter by parameter."""
        import sympy

        return sympy.Matrix([[self.population.diff(a, b) for b in self.theta] for a in self.theta])

    @cached_property
    def population(self) -> sympy.Expr:
        """The expectation of the loss over the noise."""
        return self.expectation(self.expression)

    def expectation(self, expression: sympy.Expr) -> sympy.Expr:
        """Exact expectation over the noise of an expression that is polynomial in it.

        Parameters
        ----------
        expression
            In this loss's symbols.

        Raises
        ------
        InputError
            Where the expression is not polynomial in the noise, or a moment it needs does not exist.
        """
        import sympy

        used = [name for name in self.noise if self.symbols[name] in expression.free_symbols]
        if not used:
            return expression
        try:
            polynomial = sympy.Poly(expression, *(self.symbols[name] for name in used))
        except sympy.PolynomialError:
            raise InputError(
                f"the expectation of {expression} over {', '.join(used)} has no closed form here"
            ) from None
        return sympy.Add(*(self._monomial(used, powers) * term for powers, term in polynomial.terms()))

    def _check_symmetry(self, symmetry: Symmetry, known: set[str]) -> None:
        """Refuse a generator along which the loss of some sample changes."""
        import sympy

        where = f"loss.symmetry {symmetry.name!r}"
        moved = [key for name in symmetry.generator for key in self._coordinates_of(name)]
        for name, text in symmetry.generator.items():
            if not self._coordinates_of(name):
                raise InputError(f"{where}: {unknown_name('parameter', name, self.parameters)}")
            Formula.parse(text, where=f"{where}: generator of {name}").require(known)
        if not moved or len(set(moved)) < len(moved):
            raise InputError(
                f"{where}: its generator moves {', '.join(moved) or 'nothing'}, expected each at most once"
            )
        terms = self._change_along(symmetry)
        change = sympy.expand(sympy.Add(*terms))
        if change != 0 and not self._cancel(terms):
            text = str(change)
            text = text if len(text) <= _MAX_SHOWN else f"{text[:_MAX_SHOWN]} …"
            raise InputError(f"{where}: along its generator the loss of a sample changes by {text}, expected 0")

    def _coordinates_of(self, name: str) -> list[str]:
        return [key for key in self.parameters if name in (key, base_name(key))]

    def _change_along(self, symmetry: Symmetry) -> list[sympy.Expr]:
        """The derivative of the per-sample loss along a generator, at this loss's constants: what adds up to zero."""
        slopes = dict(zip(self.parameters, self.gradient, strict=True))
        constants = {self.symbols[name]: _exact(value) for name, value in self.constants.items()}
        terms: list[sympy.Expr] = []
        for name, text in symmetry.generator.items():
            where = f"loss.symmetry {symmetry.name!r}: generator of {name}"
            direction = Formula.parse(text, where=where).expression(self.namespace, vector=True)
            moved = self._coordinates_of(name)
            directions = direction if isinstance(direction, tuple) else (direction,) * len(moved)
            if len(directions) != len(moved):
                raise InputError(f"{where}: {text!r} is a vector of {len(directions)}, expected {len(moved)}")
            terms += [(d * slopes[key]).subs(constants) for d, key in zip(directions, moved, strict=True)]
        return terms

    def _cancel(self, terms: list[sympy.Expr]) -> bool:
        """Whether terms add up to zero in 50 digits at 50 random points, the noise as it is distributed."""
        from sympy import Float

        random = Random(0)
        usable = 0
        for attempt in range(500):
            scale = 10 ** random.uniform(-1, 1)
            theta = [random.gauss(0, scale) for _ in self.theta]
            values = dict(zip(self.parameters, map(abs, theta) if attempt % 2 else theta, strict=True))
            values |= {name: noise.draw(random) for name, noise in self.noise.items()}
            point = {self.symbols[name]: _exact(round(value, 6)) for name, value in values.items()}
            numbers = [term.subs(point).evalf(50) for term in terms]
            if not all(number.is_Number and number.is_finite for number in numbers):
                continue  # outside the domain of a logarithm, say
            if abs(sum(numbers)) > Float("1e-40") * sum(abs(number) for number in numbers):
                return False
            usable += 1
            if usable == 50:
                return True
        return False

    def _monomial(self, names: Iterable[str], powers: Iterable[int]) -> sympy.Expr:
        import sympy

        product = sympy.Integer(1)
        for name, power in zip(names, powers, strict=True):
            moment = self.noise[name].exact_moment(power) if power else sympy.Integer(1)
            if not moment.is_finite:
                raise InputError(f"the moment of order {power} of {name} ~ {self.noise[name]} does not exist")
            product *= moment
        return product


def _exact(value: float) -> sympy.Rational:
    from sympy import Rational

    return Rational(repr(float(value)))


def _check_coordinates(names: Iterable[str], kind: str) -> None:
    """Refuse names given twice, and vectors that are not ``w[0]``, ``w[1]``, … in order, which formulas rely on."""
    groups: dict[str, list[str]] = {}
    for name in names:
        groups.setdefault(base_name(name), []).append(name)
    for base, group in groups.items():
        if group not in ([base], list(coordinates(base, len(group)))):
            raise InputError(
                f"loss: {kind}s {', '.join(group)}: expected each name once, and a vector as {base}[0], {base}[1], …"
            )
