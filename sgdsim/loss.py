"""A loss is a formula; the gradient, the Hessian, the population loss and exact expectations follow from it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from math import isfinite
from typing import TYPE_CHECKING, Any

from sgdsim.errors import InputError
from sgdsim.formula import Formula, check_name
from sgdsim.noise import Noise
from sgdsim.vectors import base_name, gather

if TYPE_CHECKING:
    import sympy

Definition = str | tuple[str, ...]


@dataclass(frozen=True)
class Symmetry:
    """A one-parameter group ``theta -> exp(c A) theta`` (or ``theta + c b``) that leaves every sample's loss alone.

    Parameters
    ----------
    name
        What it is called, e.g. ``rescale``.
    generator
        The direction ``d theta / d c`` of each coordinate that moves, as a formula of the parameters.
    """

    name: str
    generator: Mapping[str, str]


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
        if not self.parameters:
            raise InputError("loss.parameters: a loss needs at least one parameter")
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

    def _monomial(self, names: Iterable[str], powers: Iterable[int]) -> sympy.Expr:
        import sympy

        product = sympy.Integer(1)
        for name, power in zip(names, powers, strict=True):
            moment = self.noise[name].exact_moment(power) if power else sympy.Integer(1)
            if not sympy.sympify(moment, strict=True).is_finite:
                raise InputError(f"the moment of order {power} of {name} ~ {self.noise[name]} does not exist")
            product *= moment
        return product
