"""A loss is a formula; the gradient, the Hessian, the population loss and exact expectations follow from it.

A parameter may move by a rule of its own instead: its direction then stands where its gradient would.
"""

from __future__ import annotations

import hashlib
import itertools
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cached_property
from random import Random
from typing import TYPE_CHECKING, Any, NoReturn

import numpy as np

from sgdsim.base import budget, take
from sgdsim.base.errors import InputError, shortened, unknown_name
from sgdsim.base.findings import found
from sgdsim.formulas.arrays import Shape, Shapes, entries, filled, shape_of
from sgdsim.formulas.evaluation import evaluate
from sgdsim.formulas.expansion import TooManyTerms, bounded, expanded, terms
from sgdsim.formulas.expressions import formula_text
from sgdsim.formulas.formula import Formula
from sgdsim.formulas.names import STEP_NAMES, FormulaError, aliased, check_name, normal, normal_keys
from sgdsim.formulas.vectors import array_of, assigned, base_name, coordinates, gather, shapes, spread
from sgdsim.model.assignments import by_coordinate, check_shape, moved_by, target_shape
from sgdsim.model.data import Data
from sgdsim.model.loss_graph import LossGraph
from sgdsim.model.noise import Noise
from sgdsim.model.starts import Grid, Listed, Start, start_from
from sgdsim.model.states import State, state_coordinates
from sgdsim.model.symmetry import Symmetry

if TYPE_CHECKING:
    import sympy

Definition = str | tuple[str, ...]

_ROUNDING = 1e-9  # of the terms of a sum that is zero
_POINTS = 50  # at which a change under a symmetry is looked for that does not cancel symbolically
_MOST_OPERATIONS = 1_000  # of a gradient that theory works with: a second or two for population loss and Hessian
_MOST_TERMS = 500  # of a loss with matrices; 165 take a second for population loss and Hessian, 1,190 took twenty
MOST_EIGENVALUES = 3  # that radicals give
_MANY_TERMS = 100  # from which on it is worth a look whether an expression is polynomial at all
_MOST_CASES = 64  # rows of data or values of noise, over which a sum is written out


@dataclass(frozen=True)
class Loss:
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
        A finite data set, of which a sample is one row.
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

    formula: str
    parameters: tuple[str, ...]
    constants: Mapping[str, Any] = field(default_factory=dict)
    noise: Mapping[str, Noise] = field(default_factory=dict)
    definitions: Mapping[str, Definition] = field(default_factory=dict)
    symmetries: tuple[Symmetry, ...] = ()
    data: Data | None = None
    direction: Mapping[str, Definition] = field(default_factory=dict)
    states: Mapping[str, State] = field(default_factory=dict)
    name: str = "custom"
    description: str = ""
    references: tuple[str, ...] = ()
    drawn: Mapping[str, Start] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if isinstance(self.parameters, str):  # type: ignore[unreachable]
            raise InputError(
                f"loss.parameters: {self.parameters!r}, expected a sequence of names, ({self.parameters!r},)"
            )
        take.settle(
            self,
            "loss",
            formula=formula_text,
            parameters=take.each(take.text),
            constants=take.by_name(_constant),
            noise=take.by_name(_written(Noise, "a distribution, such as 'normal' or Noise.parse('normal')")),
            definitions=take.by_name(_definition),
            symmetries=take.each(_written(Symmetry, "a symmetry, such as 'sign:u' or Symmetry.parse('sign:u')")),
            data=_data,
            direction=take.by_name(_definition),
            states=take.by_name(_written(State, "a state, such as 'x; start=1' or State.parse('x; start=1')")),
            name=take.text,
            description=take.text,
            references=take.each(take.text),
            drawn=take.by_name(_constant),
        )
        for kind in ("constants", "drawn", "noise", "definitions", "direction", "states"):
            object.__setattr__(self, kind, normal_keys(getattr(self, kind), f"loss.{kind}"))
        names = list(map(normal, self.parameters))
        known = dict.fromkeys(names)  # in order: what stands before decides what a name declares
        parameters = itertools.chain(*(spread(name, known, "loss: parameter") for name in names))
        object.__setattr__(self, "parameters", tuple(parameters))
        for kind in ("constants", "drawn", "noise"):
            object.__setattr__(self, kind, assigned(getattr(self, kind), f"loss.{kind}"))
        everyone = {**self.constants, **self.drawn}
        numbers = {name: value for name, value in everyone.items() if isinstance(value, float | int)}
        object.__setattr__(self, "drawn", {name: one for name, one in everyone.items() if name not in numbers})
        object.__setattr__(self, "constants", numbers)
        if not self.parameters:
            raise InputError("loss.parameters: a loss needs at least one parameter")
        self._check_names()
        if self.formula:
            self._shape(self.formula, "loss formula", scalar=True)
        self._check_direction()
        self._check_states()
        declared = self.symmetries
        groups = itertools.chain(*(one.written_out(shapes(self.parameters)) for one in declared))
        object.__setattr__(self, "symmetries", tuple(groups))
        if declared:
            found(["symmetries", self.plain], lambda: self._check_symmetries(declared), self.code)

    def __hash__(self) -> int:
        return hash((self.formula, self.parameters))

    def _repr_latex_(self) -> str:
        """What a notebook shows: the loss of a sample, or the directions that take its place."""
        from sympy import latex

        rows = [rf"\ell = {latex(self.expression)}"] if self.formula else []
        rows += [rf"d_{{{latex(self.symbols[name])}}} = {latex(rule)}" for name, rule in self.rules.items()]
        return r"$\displaystyle " + r" \quad ".join(rows) + "$"

    @cached_property
    def shapes(self) -> dict[str, Shape]:
        """The shape of each name that its formulas may have, definitions among them; ``()`` of a number.

        Examples
        --------
        >>> Loss("norm2(r)", ("W[2,3]",), {"x": [1, 2, 3]}, definitions={"r": "W@x"}).shapes
        {'W': (2, 3), 'x': (3,), 'r': (2,)}

        Raises
        ------
        FormulaError
            For a definition whose names are not known before it, or whose shapes do not fit.
        """
        found = shapes([*self.carried, *self.constants, *self.random])
        for name, text in self.definitions.items():
            where = f"loss definition {name!r}"
            parts = [_shape(part, where, found, scalar=not isinstance(text, str)) for part in _parts(text)]
            found[name] = parts[0] if isinstance(text, str) else (len(parts),)
        return found

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
        definitions = itertools.chain(*map(_parts, self.definitions.values()))
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

    def _shape(self, text: str, where: str, scalar: bool = False) -> Shape:
        return _shape(text, where, self.shapes, scalar)

    def _check_direction(self) -> None:
        moved = set[str]()
        for name, text in self.direction.items():
            where, found = f"loss.direction.{name}", moved_by(name, self.parameters, f"loss.direction.{name}")
            moved.update(found)
            parts = [self._shape(part, where, scalar=not isinstance(text, str)) for part in _parts(text)]
            check_shape(text, parts[0] if isinstance(text, str) else (len(parts),), target_shape(name, found), where)
        resting = [name for name in self.parameters if name not in moved]
        if resting and not self.formula:
            raise InputError(
                f"loss.formula: nothing moves {', '.join(resting)}, expected a loss, or a direction of each"
            )

    @cached_property
    def words(self) -> dict[str, Shape]:
        """The shapes of `shapes`, and of what observables may name besides: of the step, and quantities but charges."""
        step = {f"next__{name}": shape for name, shape in self.shapes.items() if name not in self.varying}
        own = shapes(self.parameters).items()
        slopes = {f"{kind}__{name}": shape for name, shape in own for kind in ("gradient", "population_gradient")}
        return {**dict.fromkeys((*STEP_NAMES, *self.quantities), ()), **step, **slopes, **self.shapes}

    def _check_states(self) -> None:
        """Refuse unknown names, shapes that do not fit, and next values that are not known yet."""
        fixed = {name: shape for name, shape in self.shapes.items() if name not in self.varying}
        step = {f"next__{name}": shape for name, shape in fixed.items()}
        step |= {f"gradient__{name}": shape for name, shape in shapes(self.parameters).items()}
        later = {base_name(name) for name in self.states}
        for name, state in self.states.items():
            where, own = f"loss.state.{name}", base_name(name)
            formula = Formula.parse(aliased(state.formula), where=where)
            words = {**dict.fromkeys(STEP_NAMES, ()), **step, **self.shapes}
            check_shape(state.formula, _shape(aliased(state.formula), where, words), self.shapes[own], where)
            if read := self.states_in([state.start]):
                raise InputError(f"{where}: start reads {read[0]}, expected numbers, constants and parameters alone")
            known = {name: shape for name, shape in fixed.items() if not self.states_in([name])}
            check_shape(state.start, _shape(state.start, f"{where}: start", known), self.shapes[own], f"{where}: start")
            after = [inner.removeprefix("next__") for inner in formula.names if inner.startswith("next__")]
            for one in sorted(self.reach(after) & later):
                which = "its own" if one == own else f"that of {one}, which stands after it"
                raise InputError(f"{where}: {own} reads a next value that is not known yet, {which}")
            later.discard(own)

    def _check_symmetries(self, declared: Iterable[Symmetry]) -> None:
        """Refuse one that the loss of a sample has not; of large matrices by numbers, and not entry by entry."""
        of_parameters = shapes(self.parameters)
        for one in declared:
            if one.layers and not self.is_small:
                for name, first, second in one.neighbours(of_parameters):
                    _check_neighbours(self, name, first, second)
            else:
                for symmetry in one.written_out(of_parameters):
                    _check_symmetry(self, symmetry)

    @cached_property
    def plain(self) -> list[object]:
        """All that its mathematics depends on, as plain data, numbers with every digit."""
        noise = [[name, one.family, one.arguments, one.law.formula] for name, one in self.noise.items()]
        symmetries = [[one.name, list(one.generator.items()), list(one.image.items())] for one in self.symmetries]
        rows = None if self.data is None else hashlib.sha256(self.data.array.tobytes()).hexdigest()
        texts = self.formula, list(self.definitions.items()), list(self.direction.items())
        states = [(name, str(state)) for name, state in self.states.items()]
        parts = *texts, states, self.parameters, list(self.constants.items())
        return [*parts, noise, symmetries, self.columns, rows, repr(list(self.drawn.items()))]

    @property
    def code(self) -> list[Callable[..., Any]]:
        """Functions on which its mathematics depends too: those of its noise, to which users may have added."""
        drawn = [one for one in (*self.noise.values(), *self.drawn.values()) if isinstance(one, Noise)]
        return [function for noise in drawn for function in noise.code]

    def _check_names(self) -> None:
        """Refuse names that no formula can use, and names of two things."""
        _check_coordinates(self.parameters, "parameter")
        _check_coordinates(self.noise, "noise variable")
        _check_coordinates(self.constants, "constant")
        _check_coordinates(self.drawn, "constant of each trajectory")
        _check_coordinates(self.memory, "state")
        seen: dict[str, str] = {}
        for kind, names in (
            ("parameter", self.parameters),
            ("constant", self.constants),
            ("constant of each trajectory", self.drawn),
            ("noise variable", self.noise),
            ("column of data", self.columns),
            ("definition", self.definitions),
            ("state", self.memory),
        ):
            for base in dict.fromkeys(base_name(name) for name in names):
                check_name(base, where=f"loss: {kind}")
                if base in seen:
                    raise InputError(f"loss: {base!r} is both a {seen[base]} and a {kind}")
                seen[base] = kind

    @property
    def columns(self) -> tuple[str, ...]:
        """Names of the columns of the data set."""
        return () if self.data is None else tuple(self.data.columns)

    @property
    def random(self) -> tuple[str, ...]:
        """Names of all that differs between samples: noise variables, and columns of data."""
        return (*self.noise, *self.columns)

    @cached_property
    def memory(self) -> tuple[str, ...]:
        """The coordinates of all states, in order."""
        return tuple(itertools.chain(*map(state_coordinates, self.states)))

    @property
    def carried(self) -> tuple[str, ...]:
        """All that a trajectory takes from step to step, but for the optimizer's own: parameters, states, constants."""
        return (*self.parameters, *self.memory, *self.drawn)

    def reach(self, names: Iterable[str]) -> frozenset[str]:
        """These names, and all that definitions among them are made of."""
        found = {base_name(name) for name in names}
        for name, text in reversed(list(self.definitions.items())):  # each refers to earlier ones only
            if name in found:
                found.update(*(Formula.parse(part).names for part in _parts(text)))
        return frozenset(found)

    def states_in(self, texts: Iterable[str]) -> tuple[str, ...]:
        """The states that formulas read, by way of definitions too."""
        return self._read_by(texts, self.memory)

    def drawn_in(self, texts: Iterable[str]) -> tuple[str, ...]:
        """The constants of each trajectory that formulas read, by way of definitions and states too."""
        texts = list(texts)
        states = (
            aliased(self.states[name].formula) for name in self.states if base_name(name) in self.states_in(texts)
        )
        starts = (self.states[name].start for name in self.states if base_name(name) in self.states_in(texts))
        return self._read_by([*texts, *states, *starts], self.drawn)

    def _read_by(self, texts: Iterable[str], coordinates_of: Iterable[str]) -> tuple[str, ...]:
        found = self.reach(itertools.chain(*(Formula.parse(aliased(text)).names for text in texts)))
        return tuple(name for name in dict.fromkeys(map(base_name, coordinates_of)) if name in found)

    @cached_property
    def recalled(self) -> tuple[str, ...]:
        """The states that the loss or a direction reads: those whose past the parameters feel."""
        return self.states_in(self._step_texts)

    @cached_property
    def mixed(self) -> tuple[str, ...]:
        """The constants of each trajectory that the loss or a direction reads: the ensemble is a mixture over them."""
        return self.drawn_in(self._step_texts)

    @property
    def _step_texts(self) -> list[str]:
        return [*([self.formula] if self.formula else []), *self._rule_texts]

    @property
    def _rule_texts(self) -> list[str]:
        return list(itertools.chain(*map(_parts, self.direction.values())))

    @cached_property
    def symbols(self) -> dict[str, sympy.Symbol]:
        """One real symbol for each coordinate of what is carried, constant, noise variable and column."""
        import sympy

        names = (*self.carried, *self.constants, *self.random)
        return {name: sympy.Symbol(name, real=True) for name in names}

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

    @cached_property
    def numbers(self) -> dict[str, Any]:
        """The values of constants, and of definitions that are made of them alone; those of vectors are arrays."""
        numbers = gather(self.constants)
        for name, text in self.definitions.items():
            parts = [Formula.parse(part) for part in _parts(text)]
            if all(part.names <= numbers.keys() for part in parts):
                try:
                    values = [part.evaluate(numbers, vector=True) for part in parts]
                except FormulaError:  # no finite value: it is no exponent
                    continue
                numbers[name] = values[0] if isinstance(text, str) else filled((len(values),), values)
        return numbers

    @cached_property
    def quantities(self) -> frozenset[str]:
        """Names that formulas about the loss may use beside its own, and charges; see `quantity`."""
        bases = {base_name(name) for name in self.parameters}
        own = {"loss", "hessian_trace", "hessian_max", *(f"population_gradient__{name}" for name in bases)}
        return frozenset(own - self.namespace_names)

    @property
    def searches(self) -> bool:
        """Whether ``hessian_max`` has no closed form, and kernels search for it."""
        return len(self.parameters) > MOST_EIGENVALUES and "hessian_max" in self.quantities

    def quantities_for(self, names: Iterable[str]) -> frozenset[str]:
        """The `quantities`, and the charges where one of these names speaks of any: SymPy has to find out which."""
        if self.symmetries and any("charge__" in name for name in names):
            return self.quantities | {f"charge__{name}" for name in self.charges}
        return self.quantities

    @cached_property
    def namespace_names(self) -> frozenset[str]:
        """Names of its own."""
        names = (*self.carried, *self.constants, *self.random, *self.definitions)
        return frozenset(base_name(name) for name in names)

    @cached_property
    def varying(self) -> frozenset[str]:
        """Names of all that differs between samples: `random`, and definitions that use it."""
        varying = {base_name(name) for name in self.random}
        for name, text in self.definitions.items():
            if any(Formula.parse(part).names & varying for part in _parts(text)):
                varying.add(name)
        return frozenset(varying)

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
            return _largest_eigenvalue(self.hessian)
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
    def is_partial(self) -> bool:
        """Whether a sample may have no loss at finite parameters, for a root, a logarithm or a division."""
        return any(Formula.parse(text).is_partial(self.numbers) for text in self.texts)

    @property
    def texts(self) -> list[str]:
        """The formulas of the loss, of directions, states and definitions."""
        own = [self.formula] if self.formula else []
        states = [aliased(state.formula) for state in self.states.values()]
        return [*own, *self._rule_texts, *states, *itertools.chain(*map(_parts, self.definitions.values()))]

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
        import sympy

        budget.check()
        used = [name for name in self.random if self.symbols[name] in expression.free_symbols]
        if not used:
            return expression
        symbols = [self.symbols[name] for name in used]
        if terms(expression) > _MANY_TERMS and not expression.is_polynomial(*symbols):
            return self._case_by_case(expression, used)  # SymPy expands it before it sees that
        try:
            polynomial = sympy.Poly(bounded(expression), *symbols)
        except sympy.PolynomialError:
            return self._case_by_case(expression, used)
        return sympy.Add(*(self._moment(dict(zip(used, powers, strict=True))) * c for powers, c in polynomial.terms()))

    def _case_by_case(self, expression: sympy.Expr, used: Sequence[str]) -> sympy.Expr:
        """The expectation of what is not polynomial: an exact sum over rows of data and values of discrete noise."""
        import sympy

        from sgdsim.formulas.symbolic import exact

        weighted: list[tuple[sympy.Expr, dict[str, sympy.Expr]]] = [(sympy.Integer(1), {})]
        rows = [] if self.data is None else [self.data.row(index) for index in range(self.data.rows)]
        if columns := [name for name in used if name in self.columns]:
            weighted = [(sympy.Rational(1, len(rows)), {name: exact(row[name]) for name in columns}) for row in rows]
        for name in (name for name in used if name in self.noise):
            atoms = [(exact(value), exact(share)) for value, share in self.noise[name].atoms()]
            pairs = itertools.product(weighted, atoms or [(None, sympy.Integer(1))])
            weighted = [(w * share, {**at, name: value} if atoms else at) for (w, at), (value, share) in pairs]
            if len(weighted) > _MOST_CASES:
                break
        if not weighted[0][1] or len(weighted) > _MOST_CASES:
            over = ", ".join(used)
            raise InputError(f"the expectation of {shortened(expression)} over {over} has no closed form here")
        return sympy.Add(
            *(
                w * self.expectation(expression.xreplace({self.symbols[n]: v for n, v in at.items()}))
                for w, at in weighted
            )
        )

    def _moment(self, powers: Mapping[str, int]) -> sympy.Expr:
        """The expectation of a product of powers of noise variables and columns."""
        import sympy

        budget.check()

        from sgdsim.formulas.symbolic import exact

        product = sympy.Integer(1)
        rows = {name: power for name, power in powers.items() if power and name in self.columns}
        if self.data is not None and rows:
            product *= exact(self.data.moment(rows))
        for name in (name for name, power in powers.items() if power and name in self.noise):
            moment = self.noise[name].exact_moment(powers[name])
            if not moment.is_finite:
                raise InputError(f"the moment of order {powers[name]} of {name} ~ {self.noise[name]} does not exist")
            product *= moment
        return product


def _definition(value: Any, where: str) -> Definition:
    """A formula, or several that make a vector."""
    several = isinstance(value, Sequence | np.ndarray) and not isinstance(value, str)
    return take.each(formula_text)(value, where) if several else formula_text(value, where)


def _written(kind: type[Noise] | type[State] | type[Symmetry], expected: str) -> take.Reader[Any]:
    """A reader of what may also stand as text, ``normal:0,0.5``."""
    read = take.of_kind(kind, expected)
    return lambda value, where: kind.parse(value, where) if isinstance(value, str) else read(value, where)


def _data(value: Any, where: str) -> Data | None:
    """A data set, also one that is given as its columns."""
    if isinstance(value, Mapping):
        return Data(value)
    return take.optional(take.of_kind(Data, "a Data, its columns by name, or None"))(value, where)


def _constant(value: Any, where: str) -> Any:
    """A number, an array of numbers, or what gives each trajectory its own."""
    if isinstance(value, str | Noise | Grid | Listed):
        return start_from(value, where)
    found = array_of(value, where)
    return filled(shape_of(found), (take.number(entry, where) for entry in entries(found)))


def _shape(text: str, where: str, known: Mapping[str, Shape], scalar: bool = False) -> Shape:
    """The shape of a formula, whose names have these."""
    formula = Formula.parse(text, where=where)
    formula.require(known)
    return formula.shape(known, vector=not scalar)


def _parts(definition: Definition) -> tuple[str, ...]:
    """The formulas of a definition, one for each coordinate of a vector."""
    return (definition,) if isinstance(definition, str) else definition


def _is_whole_power(node: sympy.Expr) -> bool:
    return bool(node.is_Pow and node.exp.is_Integer)


def _derivative(expression: sympy.Expr, symbol: sympy.Symbol) -> sympy.Expr:
    from sgdsim.formulas.symbolic import derivative

    return derivative(expression, symbol)


def _check_symmetry(loss: Loss, symmetry: Symmetry) -> None:
    """Refuse a loss of which some sample changes: symbolically, or in 50 digits at random points."""
    import sympy

    from sgdsim.formulas.symbolic import exact

    directions = {loss.symbols[name]: value for name, value in loss.directions(symmetry).items()}
    random = set(loss.random) & {symbol.name for value in directions.values() for symbol in value.free_symbols}
    if random:
        raise InputError(f"loss.symmetry {symmetry.name!r}: depends on the noise {', '.join(sorted(random))}")
    if not loss.is_small:
        _check_by_numbers(loss, symmetry)
        return
    if symmetry.is_continuous:
        terms = [value * loss.expression.diff(symbol) for symbol, value in directions.items()]
    else:
        terms = [loss.expression.xreplace(directions), -loss.expression]
    constants = {loss.symbols[name]: exact(value) for name, value in loss.constants.items()}
    terms = [term.xreplace(constants) for term in terms]
    change = sympy.Add(*terms)
    with suppress(TooManyTerms):  # then numbers decide alone
        change = expanded(change)
    if change != 0 and not _cancel(loss, terms):
        how = "along its generator" if symmetry.is_continuous else "under it"
        by = shortened(change)
        raise InputError(f"loss.symmetry {symmetry.name!r}: {how} the loss of a sample changes by {by}, expected 0")


def _check_neighbours(loss: Loss, name: str, first: str, second: str) -> None:
    """Refuse layers of which a change of basis between them changes a sample, at random points in double precision."""
    points = _points(loss)
    slopes = LossGraph(loss).slopes(points)
    width = loss.shapes[first][0]
    pairs = []
    for layer, rows in ((first, (width, -1)), (second, (-1, width))):
        theta = np.array([points[key] for key in coordinates(layer, loss.shapes[layer])])
        pairs.append([part.reshape(*rows, theta.shape[-1]) for part in (theta, slopes[layer])])
    (before, before_slope), (after, after_slope) = pairs
    change = _together(before_slope, before) - _together(after.swapaxes(0, 1), after_slope.swapaxes(0, 1))
    size = _together(abs(before_slope), abs(before))
    size += _together(abs(after).swapaxes(0, 1), abs(after_slope).swapaxes(0, 1))
    usable = _usable(name, change, size)
    wrong = np.argwhere((abs(change) > _ROUNDING * size)[..., usable].any(axis=-1))
    if wrong.size:
        i, j = sorted(wrong[0])
        _refuse_change(f"{name}_{i}_{j}", "along its generator", change[i, j, usable])


def _together(left: np.ndarray, right: np.ndarray) -> np.ndarray:
    """The products of each row of one matrix with each of another, at every point."""
    return np.asarray(np.einsum("ikp,jkp->ijp", left, right))


def _check_by_numbers(loss: Loss, symmetry: Symmetry) -> None:
    """Refuse a loss of which some sample changes, at random points in double precision."""
    points, graph = _points(loss), LossGraph(loss)
    directions = loss.directions(symmetry)
    moved = dict(zip(directions, evaluate(list(directions.values()), {**loss.constants, **points}), strict=True))
    if symmetry.is_continuous:
        slopes = {
            key: slope
            for base, array in graph.slopes(points).items()
            for key, slope in zip(coordinates(base, loss.shapes[base]), array.reshape(-1, array.shape[-1]), strict=True)
        }
        terms, how = np.array([slopes[key] * value for key, value in moved.items()]), "along its generator"
    else:
        terms, how = np.array([graph.value({**points, **moved}), -graph.value(points)]), "under it"
    change, size = terms.sum(axis=0), abs(terms).sum(axis=0)
    usable = _usable(symmetry.name, change, size)
    if (abs(change) > _ROUNDING * size)[usable].any():
        _refuse_change(symmetry.name, how, change[usable])


def _usable(name: str, *found: np.ndarray) -> np.ndarray:
    """Which points, along the last axis, are within the domain of a logarithm, say."""
    usable = np.logical_and.reduce([np.isfinite(one).reshape(-1, one.shape[-1]).all(axis=0) for one in found])
    if usable.sum() < _POINTS:
        raise InputError(f"loss.symmetry {name!r}: the loss is not a number at most points, so it cannot be checked")
    return np.asarray(usable)


def _refuse_change(name: str, how: str, changes: np.ndarray) -> NoReturn:
    problem = f"{how} the loss of a sample changes by {float(abs(changes).max()):.3g} at a random point, expected 0"
    raise InputError(f"loss.symmetry {name!r}: {problem}")


def _points(loss: Loss) -> dict[str, np.ndarray]:
    drawn = list(_attempts(loss))
    return {name: np.array([point[name] for point in drawn]) for name in drawn[0]}


def _attempts(loss: Loss) -> Iterator[dict[str, float]]:
    """More random points than are needed, of many sizes, every other one without negative numbers."""
    random = Random(0)
    for attempt in range(10 * _POINTS):
        values = _drawn(loss, random, 10 ** random.uniform(-1, 1))
        yield values | {name: abs(values[name]) for name in loss.carried if attempt % 2}


def _drawn(loss: Loss, random: Random, scale: float) -> dict[str, float]:
    """Random numbers for what is carried, noise as it is distributed, and a row of the data."""
    values = {name: random.gauss(0, scale) for name in loss.carried}
    values |= {name: noise.draw(random) for name, noise in loss.noise.items()}
    return values | ({} if loss.data is None else loss.data.row(random.randrange(loss.data.rows)))


def _cancel(loss: Loss, terms: Sequence[sympy.Expr]) -> bool:
    """Whether terms add up to zero in 50 digits at random points, the noise as it is distributed."""
    from sympy import Float, cse

    from sgdsim.formulas.symbolic import exact

    shared, reduced = cse(terms, order="none")  # a norm is in every term, and is computed once
    usable = 0
    for values in _attempts(loss):
        point = {loss.symbols[name]: exact(round(value, 6)).evalf(60) for name, value in values.items()}
        for symbol, value in shared:
            point[symbol] = value.xreplace(point).evalf(60)
        numbers = [term.xreplace(point).evalf(50) for term in reduced]
        if not all(number.is_Number and number.is_finite for number in numbers):
            continue  # outside the domain of a logarithm, say
        if abs(sum(numbers)) > Float("1e-40") * sum(abs(number) for number in numbers):
            return False
        usable += 1
        if usable == _POINTS:
            return True
    return False


def _largest_eigenvalue(hessian: sympy.Matrix) -> sympy.Expr:
    """In closed form, for up to 3 parameters."""
    from sympy import cos, pi, sqrt

    from sgdsim.formulas.symbolic import SYMBOLIC

    n = hessian.rows
    if n == 1:
        return hessian[0]
    mean = hessian.trace() / n
    rest = hessian - mean * hessian.eye(n)
    if n == 2:
        return mean + sqrt(rest[0, 0] ** 2 + rest[0, 1] ** 2)
    if n > MOST_EIGENVALUES:
        raise InputError(f"hessian_max: has no closed form for {n} parameters, only for up to {MOST_EIGENVALUES}")
    # The roots of the cubic are 2 p cos(phi + 2 pi k/3); atan, which formulas have, gives the angle of det/2 p^3.
    p2 = (rest * rest).trace() / 6
    half = rest.det() / 2
    sine = sqrt(SYMBOLIC["relu"](p2**3 - half**2))  # not below zero by rounding
    along = sqrt(p2**3) + half
    # Half of the angle has its tangent; the angle is pi where two eigenvalues below the third are one.
    angle = SYMBOLIC["where"](0, along, 2 * SYMBOLIC["atan"](sine / along), pi)
    return mean + 2 * sqrt(p2) * cos(angle / 3)


def _check_coordinates(names: Iterable[str], kind: str) -> None:
    """Refuse names given twice, and vectors and matrices that are not all there in order, which formulas rely on."""
    groups: dict[str, list[str]] = {}
    for name in names:
        groups.setdefault(base_name(name), []).append(name)
    for base, group in groups.items():
        if group != list(coordinates(base, shapes(group)[base])):
            first = coordinates(base, (1,) * len(shapes(group)[base]))[0]
            beside = f"; beside {first} all others are entries" if first in group and len(group) > 1 else ""
            raise InputError(
                f"loss: {kind}s {shortened(', '.join(group))}: expected each name once, and a vector as {base}[0], "
                f"{base}[1], …, a matrix row by row{beside}"
            )
