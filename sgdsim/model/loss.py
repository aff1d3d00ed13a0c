"""A loss is a formula; the gradient, the Hessian, the population loss and exact expectations follow from it.

A parameter may move by a rule of its own instead: its direction then stands where its gradient would.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterable, Mapping
from functools import cached_property
from typing import TYPE_CHECKING, Any

from sgdsim.base import take
from sgdsim.base.errors import InputError, unknown_name
from sgdsim.base.findings import found
from sgdsim.formulas.arrays import Shapes, entries, filled, shape_of
from sgdsim.formulas.eigenvalues import MOST_EIGENVALUES, largest_eigenvalue
from sgdsim.formulas.expansion import terms
from sgdsim.formulas.formula import Formula
from sgdsim.formulas.names import aliased
from sgdsim.formulas.vectors import base_name, gather, shapes
from sgdsim.model.assignments import by_coordinate
from sgdsim.model.expectation import expectation
from sgdsim.model.states import state_coordinates
from sgdsim.model.symmetry import Symmetry
from sgdsim.model.symmetry_check import check_by_algebra, check_by_numbers, check_neighbours
from sgdsim.model.written_loss import WrittenLoss, formulas_of

if TYPE_CHECKING:
    import sympy

_MOST_OPERATIONS = 1_000  # of a gradient that theory works with: a second or two for population loss and Hessian
_MOST_TERMS = 500  # of a loss with matrices; 165 take a second for population loss and Hessian, 1,190 took twenty


class Loss(WrittenLoss):
    """A per-sample loss with its parameters, constants, noise and symmetries.

    Everything is text and numbers until a derivative is asked for; SymPy is imported only then.

    Parameters
    ----------
    formula
        The loss of one sample, a text or an expression of SymPy; empty where every parameter has a direction.
    parameters
        Names in the user's order; ``w[3]`` and ``W[6,4]`` are a vector and a matrix, which are kept by coordinate,
        ``w[0]``, ``w[1]``, … and ``W[0,0]``, ``W[0,1]``, ….
    constants
        Name to value: a number, a list, a list of rows, or an array of NumPy's; or to a distribution, a grid or a
        `Listed`, which gives each trajectory its own. Kept by coordinate.
    noise
        Name of each noise variable to its distribution, ``"normal:0,0.5"``; one independent draw each a sample, and for
        each coordinate of ``x[4]``. Kept by coordinate.
    definitions
        Named sub-formulas, in an order in which each refers to earlier ones only; a tuple is a vector.
    symmetries
        Declared symmetries; kept as groups and maps.
    data
        A finite data set, of which a sample is one row: of all trajectories, or a `DrawnData` of each.
    direction
        What takes the place of the gradient of a sample, by parameter or coordinate: formulas of what the loss may
        name; a tuple is a vector.
    states
        What a trajectory remembers, by name; ``trace[3]`` is a vector of three.
    drawn
        Of the constants, those of which each trajectory has its own.
    name, description, references
        For people.

    Raises
    ------
    InputError
        For a name used twice, a name that no formula can use, a constant that is not finite, a formula
        with an unknown name, a declared symmetry that the loss does not have, a parameter that nothing moves, or a
        state that reads the next value of a later one.

    Examples
    --------
    >>> loss = Loss("a*x**2/2 + s*z*x", ("x",), {"a": 2.0, "s": 0.1}, {"z": "normal"})
    >>> loss.gradient
    (a*x + s*z,)
    >>> loss.population
    a*x**2/2
    """

    def __post_init__(self) -> None:
        super().__post_init__()
        declared = self.symmetries
        groups = itertools.chain(*(one.written_out(shapes(self.parameters)) for one in declared))
        object.__setattr__(self, "symmetries", tuple(groups))
        if declared:
            found(["symmetries", self.plain], lambda: self._check_symmetries(declared), self.code)

    def _repr_latex_(self) -> str:
        """What a notebook shows: the loss of a sample, or the directions that take its place."""
        from sympy import latex

        rows = [rf"\ell = {latex(self.expression)}"] if self.formula else []
        rows += [rf"d_{{{latex(self.symbols[name])}}} = {latex(rule)}" for name, rule in self.rules.items()]
        return r"$\displaystyle " + r" \quad ".join(rows) + "$"

    def require_small(self) -> None:
        """Refuse matrices whose loss or derivatives, written out entry by entry, would be long.

        Raises
        ------
        InputError
            With the count of operations, or of terms.
        """
        if self._what_is_long:
            raise InputError(self._what_is_long)

    @property
    def is_small(self) -> bool:
        """Whether its matrices may be written out entry by entry."""
        return not self._what_is_long

    @cached_property
    def _what_is_long(self) -> str:
        """What of its matrices would be long when written out, in words; found once, for every law asks."""
        if all(len(shape) < 2 for shape in self.shapes.values()):
            return ""
        work = Shapes()
        definitions = itertools.chain(*map(formulas_of, self.definitions.values()))
        for text in filter(None, [self.formula, *self._rule_texts, *definitions]):
            Formula.parse(text).in_algebra(self.shapes, work, vector=True)
        count = work.work * len(self.parameters)
        if count > _MOST_OPERATIONS:
            return (
                f"the gradient has about {count:,} operations when its matrices are written out by entries, "
                f"expected at most {_MOST_OPERATIONS:,}"
            )
        try:
            found = terms(self.expression) if self.formula else 0
        except InputError as error:
            return str(error)
        if found > _MOST_TERMS:
            return (
                f"the loss has about {found:,.0f} terms when its matrices are written out by entries, "
                f"expected at most {_MOST_TERMS:,}"
            )
        return ""

    def _check_symmetries(self, declared: Iterable[Symmetry]) -> None:
        """Refuse one that the loss of a sample has not; of large matrices by numbers, and not entry by entry."""
        of_parameters = shapes(self.parameters)
        for one in declared:
            if one.layers and not self.is_small:
                for name, first, second in one.neighbours(of_parameters):
                    check_neighbours(self, name, first, second)
            else:
                for symmetry in one.written_out(of_parameters):
                    self._check_symmetry(symmetry)

    def _check_symmetry(self, symmetry: Symmetry) -> None:
        directions = self.directions(symmetry)
        if self.is_small:
            check_by_algebra(self, symmetry, directions, self.expression)
        else:
            check_by_numbers(self, symmetry, directions)

    @cached_property
    def namespace(self) -> dict[str, Any]:
        """What a formula about this loss may name: symbols, vectors under their base name, definitions."""
        namespace = gather(self.symbols)
        for name, text in self.definitions.items():
            if isinstance(text, str):
                read = Formula.parse(text, where=f"loss definition {name!r}")
                namespace[name] = read.expression(namespace, self.numbers, vector=True)
            else:
                parts = [Formula.parse(part).expression(namespace, self.numbers) for part in text]
                namespace[name] = filled((len(parts),), parts)
        return namespace

    @property
    def searches(self) -> bool:
        """Whether ``hessian_max`` has no closed form, and kernels search for it."""
        return len(self.parameters) > MOST_EIGENVALUES and "hessian_max" in self.quantities

    def quantities_for(self, names: Iterable[str]) -> frozenset[str]:
        """The `quantities`, and the charges where one of these names speaks of any: SymPy has to find out which."""
        if self.symmetries and any("charge__" in name for name in names):
            return self.quantities | {f"charge__{name}" for name in self.charges}
        return self.quantities

    def quantity(self, name: str) -> Any:
        """What a name of `quantities_for` means.

        Parameters
        ----------
        name
            ``loss``, the population loss; ``population_gradient__u``; ``hessian_trace`` and ``hessian_max``, of the
            population loss; ``charge__rescale``, the charge of a symmetry.

        Raises
        ------
        InputError
            Where it has no closed form.
        """
        name = take.text(name, "name")
        if name not in (known := self.quantities_for([name])):
            raise InputError(f"loss: {unknown_name('name of a quantity', name, known)}")
        kind, _, rest = name.partition("__")
        if name == "loss":
            return self.population
        if kind == "charge":
            return self.charges[rest]
        if name == "hessian_trace":
            return self.hessian.trace()
        if name == "hessian_max":
            return largest_eigenvalue(self.hessian)
        return gather({key: self._mean_slope(key) for key in self.parameters if base_name(key) == rest})[rest]

    def expand(self, text: str, where: str = "formula", more: Mapping[str, Any] | None = None) -> sympy.Expr:
        """Read a formula in the names of this loss, its `quantities`, and more."""
        formula = Formula.parse(aliased(text), where=where)
        namespace = {**self.namespace, **(more or {})}
        for name in formula.names & self.quantities_for(formula.names) - namespace.keys():
            try:
                namespace[name] = self.quantity(name)
            except InputError as error:
                raise InputError(f"{where}: {name.replace('__', ' of ')}: {error}") from None
        return formula.expression(namespace, self.numbers)

    def expand_step(
        self,
        text: str,
        where: str,
        after: Mapping[sympy.Symbol, sympy.Expr],
        gradient: Mapping[str, sympy.Expr],
        learning_rate: sympy.Expr,
        more: Mapping[str, Any] | None = None,
    ) -> sympy.Expr:
        """Read a formula about a step: of the state before it, and of what is `after` it by the symbols before.

        Parameters
        ----------
        text, where
            The formula, and what it is, for messages.
        after
            The value of each parameter, and state, after the step.
        gradient
            Of the batch, by coordinate.
        learning_rate
            Of the step; a constant of this name wins, as over ``t``, the completed steps before it: ``optimizer.t``.
        more
            What further names mean, in place of a quantity.
        """
        return self.expand(text, where, self._of_step(text, after, gradient, learning_rate, more))

    def _of_step(
        self,
        text: str,
        after: Mapping[sympy.Symbol, sympy.Expr],
        gradient: Mapping[str, sympy.Expr],
        learning_rate: sympy.Expr,
        given: Mapping[str, Any] | None = None,
    ) -> dict[str, Any]:
        """What a formula about a step may name beyond the loss's own."""
        import sympy

        more: dict[str, Any] = {f"gradient__{base}": value for base, value in gather(gradient).items()}
        more |= given or {}
        for name in Formula.parse(aliased(text)).names - more.keys():
            if name.startswith("next__"):
                inner = name.removeprefix("next__")
                value = self.namespace[inner] if inner in self.namespace else self.quantity(inner)
                more[name] = filled(shape_of(value), (entry.xreplace(after) for entry in entries(value)))
        own = {"learning_rate": learning_rate, "t": sympy.Symbol("optimizer.t", real=True)}
        return more | {name: value for name, value in own.items() if name not in self.namespace}

    def remembered(
        self, after: Mapping[sympy.Symbol, sympy.Expr], gradient: Mapping[str, sympy.Expr], learning_rate: sympy.Expr
    ) -> dict[str, sympy.Expr]:
        """The next value of each coordinate of the states.

        Parameters
        ----------
        after, gradient, learning_rate
            As of `expand_step`; of the parameters after the step.

        Raises
        ------
        InputError
            For vectors that do not fit.
        """
        found: dict[str, sympy.Expr] = {}
        for name, state in self.states.items():
            known = {**after, **{self.symbols[key]: value for key, value in found.items()}}
            more = self._of_step(state.formula, known, gradient, learning_rate)
            found |= self._of_state(name, aliased(state.formula), {**self.namespace, **more})
        return found

    def memory_starts(self, start: Mapping[sympy.Symbol, sympy.Expr]) -> dict[str, sympy.Expr]:
        """Where each coordinate of the states starts, given where the parameters do."""
        found: dict[str, sympy.Expr] = {}
        for name, state in self.states.items():
            found |= self._of_state(name, state.start, self.namespace)
        return {name: value.xreplace(start) for name, value in found.items()}

    def _of_state(self, name: str, text: str, namespace: Mapping[str, Any]) -> dict[str, sympy.Expr]:
        keys, where = state_coordinates(name), f"loss.state.{name}"
        base = base_name(name)
        return by_coordinate({base: text}, keys, namespace, self.numbers, where, lambda _: where)

    @cached_property
    def unsafe(self) -> tuple[sympy.Expr, ...]:
        """What takes a root or the logarithm of an expression that may become negative, in the step of a sample.

        Examples
        --------
        >>> Loss("x**p + (y**2)**p + y**2", ("x", "y"), {"p": 1.5}).unsafe
        (x**p,)
        """
        import sympy

        if not self.is_partial:
            return ()
        moving = {self.symbols[name] for name in (*self.carried, *self.random)}
        values = [*([self.expression] if self.formula else ()), *self.rules.values()]
        found = [node for value in values for node in value.atoms(sympy.Pow, sympy.log) if not _is_whole_power(node)]
        open_ = [node for node in found if node.args[0].free_symbols & moving and not node.args[0].is_nonnegative]
        return tuple(sorted(open_, key=str))

    @cached_property
    def theta(self) -> tuple[sympy.Symbol, ...]:
        """The parameters' symbols, in order."""
        return tuple(self.symbols[name] for name in self.parameters)

    @cached_property
    def expression(self) -> sympy.Expr:
        """The per-sample loss.

        Raises
        ------
        InputError
            Where there is none, since all parameters move by rules of their own.
        """
        if not self.formula:
            raise InputError("there is no loss: all parameters move by rules of their own")
        return Formula.parse(self.formula, where="loss formula").expression(self.namespace, self.numbers)

    @cached_property
    def rules(self) -> dict[str, sympy.Expr]:
        """The directions of a sample by coordinate, of the parameters that have one.

        Raises
        ------
        InputError
            For vectors that do not fit, and what moves twice.
        """
        where = "loss.direction"
        return by_coordinate(
            self.direction, self.parameters, self.namespace, self.numbers, where, lambda name: f"{where}.{name}"
        )

    @cached_property
    def gradient(self) -> tuple[sympy.Expr, ...]:
        """What an optimizer is given of a sample, one entry a parameter: its direction, or else its gradient.

        Examples
        --------
        >>> Loss("x*y", ("x", "y"), direction={"y": "-y"}).gradient
        (y, -y)
        """
        rules, pairs = self.rules, zip(self.parameters, self.theta, strict=True)
        return tuple(rules[name] if name in rules else _derivative(self.expression, symbol) for name, symbol in pairs)

    @cached_property
    def population_gradient(self) -> tuple[sympy.Expr, ...]:
        """The expectation of `gradient` over the noise.

        Raises
        ------
        InputError
            Where it has no closed form.
        """
        return tuple(map(self._mean_slope, self.parameters))

    @cached_property
    def population_rules(self) -> dict[str, sympy.Expr]:
        """The expectations of `rules` over the noise.

        Raises
        ------
        InputError
            As `population_gradient`.
        """
        return {name: self._mean_slope(name) for name in self.rules}

    def _mean_slope(self, name: str) -> sympy.Expr:
        """An entry of `population_gradient`."""
        if name not in self.rules:
            return _derivative(self.population, self.symbols[name])
        try:
            return self.expectation(self.rules[name])
        except InputError as error:
            raise InputError(f"loss.direction.{name}: {error}") from None

    @cached_property
    def hessian(self) -> sympy.Matrix:
        """The Hessian of the population loss, parameter by parameter."""
        import sympy

        slopes = [_derivative(self.population, symbol) for symbol in self.theta]
        return sympy.Matrix([[_derivative(slope, symbol) for symbol in self.theta] for slope in slopes])

    @cached_property
    def charges(self) -> dict[str, sympy.Expr]:
        """Noether charges by the name of their symmetry, numbered where symmetries share it: ``scale``, ``scale_2``."""
        charges: dict[str, sympy.Expr] = {}
        for symmetry in self.symmetries:
            charge = self.charge(symmetry)
            if charge is not None:
                base = re.sub(r"\W", "_", symmetry.name)
                numbered = (f"{base}_{number}" for number in itertools.count(2))
                charges[next(name for name in itertools.chain([base], numbered) if name not in charges)] = charge
        return charges

    def directions(self, symmetry: Symmetry) -> dict[str, sympy.Expr]:
        """The generator of a symmetry by coordinate, or its images; see `Symmetry.directions`."""
        return symmetry.directions(self.theta, self._fixed, self.numbers)

    def charge(self, symmetry: Symmetry) -> sympy.Expr | None:
        """The Noether charge of a symmetry; see `Symmetry.charge`."""
        return symmetry.charge(self.theta, self._fixed, self.numbers)

    @cached_property
    def _fixed(self) -> dict[str, Any]:
        """What a symmetry may name: the noise does not take part in it."""
        random = {base_name(name) for name in self.random}
        return {name: value for name, value in self.namespace.items() if name not in random}

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
            Where the expression is not polynomial in the noise, a moment it needs does not exist, or its terms are very
            many.
        """
        return expectation(self, expression)


def _is_whole_power(node: sympy.Expr) -> bool:
    return bool(node.is_Pow and node.exp.is_Integer)


def _derivative(expression: sympy.Expr, symbol: sympy.Symbol) -> sympy.Expr:
    from sgdsim.formulas.symbolic import derivative

    return derivative(expression, symbol)
