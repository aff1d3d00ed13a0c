"""A loss as text: its formulas, names, shapes and numbers, without the algebra of SymPy."""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from sgdsim.base import take
from sgdsim.base.errors import InputError, shortened
from sgdsim.formulas.arrays import Shape, entries, filled, shape_of
from sgdsim.formulas.expressions import formula_text
from sgdsim.formulas.formula import Formula
from sgdsim.formulas.names import STEP_NAMES, FormulaError, aliased, check_name, normal, normal_keys
from sgdsim.formulas.vectors import array_of, assigned, base_name, coordinates, gather, shapes, spread
from sgdsim.model.assignments import check_shape, moved_by, target_shape
from sgdsim.model.data import Data, DrawnData, read_data
from sgdsim.model.noise import Noise
from sgdsim.model.starts import Grid, Listed, Start, start_from
from sgdsim.model.states import State, state_coordinates
from sgdsim.model.symmetry import Symmetry

if TYPE_CHECKING:
    import sympy

Definition = str | tuple[str, ...]


@dataclass(frozen=True)
class WrittenLoss:
    """The texts, names and numbers of a loss; `sgdsim.model.loss.Loss` adds derivatives and expectations.

    Its parameters and errors are those of `Loss`, except that symmetries are not checked.

    Examples
    --------
    >>> loss = WrittenLoss("a*x**2/2 + s*z*x", ("x",), {"a": 2.0, "s": 0.1}, {"z": "normal"})
    >>> loss.random, loss.quantities >= {"loss", "hessian_trace"}
    (('z',), True)
    """

    formula: str
    parameters: tuple[str, ...]
    constants: Mapping[str, Any] = field(default_factory=dict)
    noise: Mapping[str, Noise] = field(default_factory=dict)
    definitions: Mapping[str, Definition] = field(default_factory=dict)
    symmetries: tuple[Symmetry, ...] = ()
    data: Data | DrawnData | None = None
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
        known = dict.fromkeys(names)  # in order, as the names before it decide what a name declares
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

    def __hash__(self) -> int:
        return hash((self.formula, self.parameters))

    @cached_property
    def shapes(self) -> dict[str, Shape]:
        """Shape of each name that the formulas may use, definitions included; ``()`` for a number.

        Examples
        --------
        >>> WrittenLoss("norm2(r)", ("W[2,3]",), {"x": [1, 2, 3]}, definitions={"r": "W@x"}).shapes
        {'W': (2, 3), 'x': (3,), 'r': (2,)}

        Raises
        ------
        FormulaError
            For a definition whose names are not known before it, or whose shapes do not fit.
        """
        found = shapes([*self.carried, *self.constants, *self.random])
        for name, text in self.definitions.items():
            where = f"loss definition {name!r}"
            parts = [_shape(part, where, found, scalar=not isinstance(text, str)) for part in formulas_of(text)]
            found[name] = parts[0] if isinstance(text, str) else (len(parts),)
        return found

    def _check_names(self) -> None:
        """Refuse names that formulas cannot use, and names with two meanings."""
        _check_coordinates(self.parameters, "parameter")
        _check_coordinates(self.noise, "noise variable")
        _check_coordinates(self.constants, "constant")
        _check_coordinates(self.drawn, "constant of each trajectory")
        _check_coordinates(self.memory, "state")
        _check_coordinates(self.own_columns, "column of data")
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

    def _check_direction(self) -> None:
        moved = set[str]()
        for name, text in self.direction.items():
            where, found = f"loss.direction.{name}", moved_by(name, self.parameters, f"loss.direction.{name}")
            moved.update(found)
            parts = [self._shape(part, where, scalar=not isinstance(text, str)) for part in formulas_of(text)]
            check_shape(text, parts[0] if isinstance(text, str) else (len(parts),), target_shape(name, found), where)
        resting = [name for name in self.parameters if name not in moved]
        if resting and not self.formula:
            raise InputError(
                f"loss.formula: nothing moves {', '.join(resting)}, expected a loss, or a direction of each"
            )

    def _check_states(self) -> None:
        """Refuse states with unknown names, with shapes that do not fit, or that use next values not yet known."""
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

    def _shape(self, text: str, where: str, scalar: bool = False) -> Shape:
        return _shape(text, where, self.shapes, scalar)

    @cached_property
    def words(self) -> dict[str, Shape]:
        """Shape of each name that observables may use: those of `shapes`, of a step, and `quantities`, not charges."""
        step = {f"next__{name}": shape for name, shape in self.shapes.items() if name not in self.varying}
        own = shapes(self.parameters).items()
        slopes = {f"{kind}__{name}": shape for name, shape in own for kind in ("gradient", "population_gradient")}
        return {**dict.fromkeys((*STEP_NAMES, *self.quantities), ()), **step, **slopes, **self.shapes}

    @cached_property
    def plain(self) -> list[object]:
        """Plain data on which the mathematics of the loss depends, with all digits of the numbers."""
        noise = [[name, one.family, one.arguments, one.law.formula] for name, one in self.noise.items()]
        symmetries = [[one.name, list(one.generator.items()), list(one.image.items())] for one in self.symmetries]
        rows = hashlib.sha256(self.data.array.tobytes()).hexdigest() if isinstance(self.data, Data) else repr(self.data)
        texts = self.formula, list(self.definitions.items()), list(self.direction.items())
        states = [(name, str(state)) for name, state in self.states.items()]
        parts = *texts, states, self.parameters, list(self.constants.items())
        return [*parts, noise, symmetries, self.columns, rows, repr(list(self.drawn.items()))]

    @property
    def code(self) -> list[Callable[..., Any]]:
        """Functions of the distributions in the loss, on which its mathematics depends; users may have added some."""
        laws = (*self.noise.values(), *self.drawn.values(), *self.own_columns.values())
        drawn = [one for one in laws if isinstance(one, Noise)]
        return [function for noise in drawn for function in noise.code]

    @property
    def columns(self) -> tuple[str, ...]:
        """Names of the columns of the data set; empty without data."""
        return () if self.data is None else tuple(self.data.columns)

    @property
    def own_columns(self) -> Mapping[str, Noise]:
        """Distributions of the columns by name, if each trajectory has a data set of its own; else empty."""
        return self.data.columns if isinstance(self.data, DrawnData) else {}

    @property
    def random(self) -> tuple[str, ...]:
        """Names of the values that differ between samples: noise variables and columns of data."""
        return (*self.noise, *self.columns)

    @cached_property
    def memory(self) -> tuple[str, ...]:
        """Coordinates of all states, in order."""
        return tuple(itertools.chain(*map(state_coordinates, self.states)))

    @property
    def carried(self) -> tuple[str, ...]:
        """Names of the values that a trajectory carries: parameters, states, and constants of its own."""
        return (*self.parameters, *self.memory, *self.drawn)

    def reach(self, names: Iterable[str]) -> frozenset[str]:
        """The given names, and all names in the definitions among them.

        Parameters
        ----------
        names
            Names in a formula.

        Returns
        -------
        frozenset
            Base names.
        """
        found = {base_name(name) for name in names}
        for name, text in reversed(list(self.definitions.items())):  # each refers to earlier ones only
            if name in found:
                found.update(*(Formula.parse(part).names for part in formulas_of(text)))
        return frozenset(found)

    def states_in(self, texts: Iterable[str]) -> tuple[str, ...]:
        """States in formulas, also through definitions.

        Parameters
        ----------
        texts
            The formulas.

        Returns
        -------
        tuple
            Base names of the states.
        """
        return self._read_by(texts, self.memory)

    def drawn_in(self, texts: Iterable[str]) -> tuple[str, ...]:
        """Constants and data in formulas that each trajectory has of its own, also through definitions and states.

        Parameters
        ----------
        texts
            The formulas.

        Returns
        -------
        tuple
            Base names of these constants and columns.
        """
        texts = list(texts)
        states = (
            aliased(self.states[name].formula) for name in self.states if base_name(name) in self.states_in(texts)
        )
        starts = (self.states[name].start for name in self.states if base_name(name) in self.states_in(texts))
        return self._read_by([*texts, *states, *starts], (*self.drawn, *self.own_columns))

    def _read_by(self, texts: Iterable[str], coordinates_of: Iterable[str]) -> tuple[str, ...]:
        found = self.reach(itertools.chain(*(Formula.parse(aliased(text)).names for text in texts)))
        return tuple(name for name in dict.fromkeys(map(base_name, coordinates_of)) if name in found)

    @cached_property
    def recalled(self) -> tuple[str, ...]:
        """States in the loss or in a direction: through these the past acts on the parameters."""
        return self.states_in(self._step_texts)

    @cached_property
    def mixed(self) -> tuple[str, ...]:
        """Constants and data in the loss or a direction that differ between trajectories: the ensemble is a mixture."""
        return self.drawn_in(self._step_texts)

    @property
    def _step_texts(self) -> list[str]:
        return [*([self.formula] if self.formula else []), *self._rule_texts]

    @property
    def _rule_texts(self) -> list[str]:
        return list(itertools.chain(*map(formulas_of, self.direction.values())))

    @property
    def texts(self) -> list[str]:
        """Formulas of the loss, of directions, states and definitions."""
        own = [self.formula] if self.formula else []
        states = [aliased(state.formula) for state in self.states.values()]
        return [*own, *self._rule_texts, *states, *itertools.chain(*map(formulas_of, self.definitions.values()))]

    @cached_property
    def is_partial(self) -> bool:
        """True if the loss may be undefined at some finite parameters: it has a root, a logarithm or a division."""
        return any(Formula.parse(text).is_partial(self.numbers) for text in self.texts)

    @cached_property
    def symbols(self) -> dict[str, sympy.Symbol]:
        """Real SymPy symbols by name: of carried values, constants, noise variables and columns, by coordinate."""
        import sympy

        names = (*self.carried, *self.constants, *self.random)
        return {name: sympy.Symbol(name, real=True) for name in names}

    @cached_property
    def numbers(self) -> dict[str, Any]:
        """Values of the constants, and of definitions made of constants alone; vectors are arrays."""
        numbers = gather(self.constants)
        for name, text in self.definitions.items():
            parts = [Formula.parse(part) for part in formulas_of(text)]
            if all(part.names <= numbers.keys() for part in parts):
                try:
                    values = [part.evaluate(numbers, vector=True) for part in parts]
                except FormulaError:  # a definition without a finite value cannot be an exponent
                    continue
                numbers[name] = values[0] if isinstance(text, str) else filled((len(values),), values)
        return numbers

    @cached_property
    def quantities(self) -> frozenset[str]:
        """Names of quantities that formulas about the loss may use, without the charges; see `quantity`."""
        bases = {base_name(name) for name in self.parameters}
        own = {"loss", "hessian_trace", "hessian_max", *(f"population_gradient__{name}" for name in bases)}
        return frozenset(own - self.namespace_names)

    @cached_property
    def namespace_names(self) -> frozenset[str]:
        """Names that the loss declares, vectors by their base name."""
        names = (*self.carried, *self.constants, *self.random, *self.definitions)
        return frozenset(base_name(name) for name in names)

    @cached_property
    def varying(self) -> frozenset[str]:
        """Names of all values that differ between samples: those in `random`, and definitions that use them."""
        varying = {base_name(name) for name in self.random}
        for name, text in self.definitions.items():
            if any(Formula.parse(part).names & varying for part in formulas_of(text)):
                varying.add(name)
        return frozenset(varying)


def _definition(value: Any, where: str) -> Definition:
    """A formula, or a tuple of formulas that make a vector."""
    several = isinstance(value, Sequence | np.ndarray) and not isinstance(value, str)
    return take.each(formula_text)(value, where) if several else formula_text(value, where)


def _written(kind: type[Noise] | type[State] | type[Symmetry], expected: str) -> take.Reader[Any]:
    """Reader of objects that may also be given as text, such as ``normal:0,0.5``."""
    read = take.of_kind(kind, expected)
    return lambda value, where: kind.parse(value, where) if isinstance(value, str) else read(value, where)


def _data(value: Any, where: str) -> Data | DrawnData | None:
    """A data set, which may be given as a table of its columns."""
    if isinstance(value, DrawnData):
        return value
    if isinstance(value, Mapping):
        drawn = any(isinstance(one, str | Noise) for one in value.values())
        return read_data(value, where) if drawn else Data(value)
    return take.optional(take.of_kind(Data, "a Data, a DrawnData, columns by name, or None"))(value, where)


def _constant(value: Any, where: str) -> Any:
    """A constant: a number, an array of numbers, or an object that gives each trajectory a value of its own."""
    if isinstance(value, str | Noise | Grid | Listed):
        return start_from(value, where)
    found = array_of(value, where)
    return filled(shape_of(found), (take.number(entry, where) for entry in entries(found)))


def _shape(text: str, where: str, known: Mapping[str, Shape], scalar: bool = False) -> Shape:
    """The shape of a formula, given the shapes of its names."""
    formula = Formula.parse(text, where=where)
    formula.require(known)
    return formula.shape(known, vector=not scalar)


def formulas_of(definition: Definition) -> tuple[str, ...]:
    """The formulas of a definition, one for each coordinate of a vector.

    Examples
    --------
    >>> formulas_of("x + y"), formulas_of(("x", "y"))
    (('x + y',), ('x', 'y'))
    """
    return (definition,) if isinstance(definition, str) else definition


def _check_coordinates(names: Iterable[str], kind: str) -> None:
    """Refuse names given twice, and vectors and matrices whose coordinates are not complete and in order."""
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
