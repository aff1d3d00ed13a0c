"""The loss, given as a formula, from which gradient, Hessian, population loss and exact expectations follow.

A parameter may move by a rule of its own: its *direction* is a formula that takes the place of its gradient.
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

# Most operations of a gradient that is written out entry by entry: population loss and Hessian take a second or two.
_MOST_OPERATIONS = 1_000
# Most terms of a loss with matrices. Population loss and Hessian of 165 terms take a second, of 1,190 twenty seconds.
_MOST_TERMS = 500


class Loss(WrittenLoss):
    """The loss of one sample as a formula, with its parameters, constants, noise and symmetries.

    The loss is kept as text and numbers. SymPy is imported only when a derivative is asked for.

    Parameters
    ----------
    formula
        The loss of one sample, a text or a SymPy expression; empty if every parameter has a direction.
    parameters
        Names of the parameters. ``w[3]`` and ``W[6,4]`` declare a vector and a matrix, which are kept by coordinate,
        ``w[0]``, ``w[1]``, … and ``W[0,0]``, ``W[0,1]``, ….
    constants
        Values by name: a number, a list, a list of rows, or a NumPy array; or a distribution, a grid or a `Listed`,
        which gives each trajectory a value of its own. Kept by coordinate.
    noise
        Distribution of each noise variable by name, such as ``"normal:0,0.5"``. Each sample has an independent draw of
        each variable, and of each coordinate of a vector ``x[4]``. Kept by coordinate.
    definitions
        Named parts of formulas, each of which may use earlier ones; a tuple of formulas is a vector.
    symmetries
        Transformations of the parameters that leave the loss of every sample unchanged; they are checked.
    data
        A finite data set, of which a sample is one row: a `Data` for all trajectories, or a `DrawnData` for each.
    direction
        Formulas that take the place of the gradient of a sample, by parameter or coordinate; a tuple is a vector.
    states
        Variables that a trajectory carries beside the parameters, by name; ``trace[3]`` is a vector of three.
    name, description, references
        Texts for tables and reports.
    drawn
        Constants with a value of their own for each trajectory; they may be given here or among the constants.

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
    >>> loss.population, loss.population_gradient, loss.hessian
    (a*x**2/2, (a*x,), Matrix([[a]]))

    A symmetry gives a charge. Formulas about a loss may use its definitions, its charges and other quantities.

    >>> net = Loss(
    ...     "(u*w*x - y)**2/2",
    ...     ("u", "w"),
    ...     constants={"s": 0.5},
    ...     noise={"x": "normal", "e": "normal"},
    ...     definitions={"y": "2*x + s*e"},
    ...     symmetries=("rescale:u:1,w:-1",),
    ... )
    >>> (rescale,) = net.symmetries
    >>> net.charges, net.charge(rescale), net.directions(rescale)
    ({'rescale': u**2/2 - w**2/2}, u**2/2 - w**2/2, {'u': u, 'w': -w})
    >>> net.quantity("charge__rescale"), "charge__rescale" in net.quantities_for(["charge__rescale"])
    (u**2/2 - w**2/2, True)
    >>> net.expand("hessian_trace + s"), net.expectation(net.expression.diff(net.theta[0], 2))
    (s + u**2 + w**2, w**2)

    The names that formulas use tell what is random, and what a value depends on.

    >>> net.random, net.carried, sorted(net.varying), sorted(net.reach(["y"]))
    (('x', 'e'), ('u', 'w'), ['e', 'x', 'y'], ['e', 's', 'x', 'y'])
    >>> net.namespace["y"], net.symbols["s"], net.numbers, net.texts
    (e*s + 2*x, s, {'s': 0.5}, ['(u*w*x - y)**2/2', '2*x + s*e'])
    >>> sorted(net.quantities), net.namespace_names == set(net.shapes) <= set(net.words)
    (['hessian_max', 'hessian_trace', 'loss', 'population_gradient__u', 'population_gradient__w'], True)
    >>> net.is_small, net.searches, net.is_partial, len(net.plain), len(net.code)
    (True, False, False, 11, 4)
    >>> net.require_small()

    A direction takes the place of a gradient, a state keeps a value for the next step, and a trajectory may have
    constants and data of its own.

    >>> from sgdsim.model.data import DrawnData
    >>> taught = Loss(
    ...     "a*(x - q)**2/2",
    ...     ("x", "y"),
    ...     direction={"y": "y - last"},
    ...     states={"last": "x; start=x"},
    ...     drawn={"a": "uniform:0,1"},
    ...     data=DrawnData({"q": "normal"}, rows=4),
    ... )
    >>> taught.rules, taught.population_rules, taught.memory, taught.recalled
    ({'y': -last + y}, {'y': -last + y}, ('last',), ('last',))
    >>> taught.columns, list(taught.own_columns), taught.mixed
    (('q',), ['q'], ('a', 'q'))
    >>> taught.states_in(["last**2"]), taught.drawn_in(["a*x"])
    (('last',), ('a',))

    A step may be followed symbolically, here one of SGD at the learning rate 1/2.

    >>> from sympy import Rational
    >>> half = Rational(1, 2)
    >>> after = {symbol: symbol - half * slope for symbol, slope in zip(taught.theta, taught.gradient, strict=True)}
    >>> gradient = dict(zip(taught.parameters, taught.gradient, strict=True))
    >>> taught.expand_step("next(y) - y", "change", after, gradient, half)
    last/2 - y/2
    >>> x, y = taught.theta
    >>> taught.remembered(after, gradient, half), taught.memory_starts({x: half})
    ({'last': x}, {'last': 1/2})
    """

    def __post_init__(self) -> None:
        super().__post_init__()
        declared = self.symmetries
        groups = itertools.chain(*(one.written_out(shapes(self.parameters)) for one in declared))
        object.__setattr__(self, "symmetries", tuple(groups))
        if declared:
            found(["symmetries", self.plain], lambda: self._check_symmetries(declared), self.code)

    def _repr_latex_(self) -> str:
        """LaTeX for a notebook: the loss of a sample, or the directions that take its place."""
        from sympy import latex

        rows = [rf"\ell = {latex(self.expression)}"] if self.formula else []
        rows += [rf"d_{{{latex(self.symbols[name])}}} = {latex(rule)}" for name, rule in self.rules.items()]
        return r"$\displaystyle " + r" \quad ".join(rows) + "$"

    def require_small(self) -> None:
        """Refuse a loss whose matrices give too long an expression when they are written out entry by entry.

        Raises
        ------
        InputError
            With the number of operations or of terms.
        """
        if self._what_is_long:
            raise InputError(self._what_is_long)

    @property
    def is_small(self) -> bool:
        """True if the matrices of the loss may be written out entry by entry."""
        return not self._what_is_long

    @cached_property
    def _what_is_long(self) -> str:
        """Reason why the matrices cannot be written out entry by entry; empty if they can. Kept, as every law asks."""
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
        """Refuse a symmetry that the loss of a sample lacks; for large matrices the check is numerical."""
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
        """Values of the names in formulas about this loss: symbols, vectors by their base name, definitions."""
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
        """True if ``hessian_max`` has no closed form, so that kernels compute it iteratively."""
        return len(self.parameters) > MOST_EIGENVALUES and "hessian_max" in self.quantities

    def quantities_for(self, names: Iterable[str]) -> frozenset[str]:
        """Names of `quantities`, together with the charges if a name is one, as these take SymPy to find.

        Parameters
        ----------
        names
            Names in a formula.

        Returns
        -------
        frozenset
            Names that `quantity` knows.
        """
        if self.symmetries and any("charge__" in name for name in names):
            return self.quantities | {f"charge__{name}" for name in self.charges}
        return self.quantities

    def quantity(self, name: str) -> Any:
        """Expression of a quantity that follows from the loss.

        Parameters
        ----------
        name
            ``loss``, the population loss; ``population_gradient__u``, its gradient; ``hessian_trace`` and
            ``hessian_max``, trace and largest eigenvalue of its Hessian; ``charge__rescale``, the charge of a symmetry.

        Returns
        -------
        sympy.Expr or numpy.ndarray
            The expression, or an array of expressions for the gradient by a vector or a matrix.

        Raises
        ------
        InputError
            For an unknown name, and for a quantity without a closed form.
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
        """Expression of a formula in the names of this loss, its `quantities`, and further names.

        Parameters
        ----------
        text
            The formula.
        where
            Name of the formula, for messages.
        more
            Expressions of further names.

        Returns
        -------
        sympy.Expr
            The expression, in the symbols of the loss.

        Raises
        ------
        InputError
            For a formula that cannot be read, an unknown name, and a quantity without a closed form.
        """
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
        """Expression of a formula about a step, in the symbols of the state before the step.

        A constant with the name ``learning_rate`` or ``t`` comes before the learning rate, or the number of completed
        steps; the latter is the symbol ``optimizer.t``.

        Parameters
        ----------
        text, where
            The formula, and its name for messages.
        after
            Expression of each parameter and state after the step.
        gradient
            Gradient of the batch by coordinate.
        learning_rate
            Learning rate of the step.
        more
            Expressions of further names.

        Returns
        -------
        sympy.Expr
            The expression.

        Raises
        ------
        InputError
            For a formula that cannot be read, an unknown name, and a quantity without a closed form.
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
        """Expressions of the names that formulas about a step may use beside the names of the loss."""
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
        """Expression of each coordinate of the states after a step.

        Parameters
        ----------
        after, gradient, learning_rate
            The parameters after the step, the gradient of the batch and the learning rate; see `expand_step`.

        Returns
        -------
        dict
            Expressions by coordinate.

        Raises
        ------
        InputError
            For vectors of different lengths.
        """
        found: dict[str, sympy.Expr] = {}
        for name, state in self.states.items():
            known = {**after, **{self.symbols[key]: value for key, value in found.items()}}
            more = self._of_step(state.formula, known, gradient, learning_rate)
            found |= self._of_state(name, aliased(state.formula), {**self.namespace, **more})
        return found

    def memory_starts(self, start: Mapping[sympy.Symbol, sympy.Expr]) -> dict[str, sympy.Expr]:
        """Expression of each coordinate of the states before the first step.

        Parameters
        ----------
        start
            Starts of the parameters, by symbol.

        Returns
        -------
        dict
            Expressions by coordinate.
        """
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
        """Roots and logarithms in the step of a sample whose argument may become negative.

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
        """Symbols of the parameters, in order."""
        return tuple(self.symbols[name] for name in self.parameters)

    @cached_property
    def expression(self) -> sympy.Expr:
        """Loss of one sample.

        Raises
        ------
        InputError
            If there is no loss, since all parameters move by rules of their own.
        """
        if not self.formula:
            raise InputError("there is no loss: all parameters move by rules of their own")
        return Formula.parse(self.formula, where="loss formula").expression(self.namespace, self.numbers)

    @cached_property
    def rules(self) -> dict[str, sympy.Expr]:
        """Directions of a sample by coordinate, of the parameters that have one in place of a gradient.

        Raises
        ------
        InputError
            For vectors of different lengths, and a parameter with two directions.
        """
        where = "loss.direction"
        return by_coordinate(
            self.direction, self.parameters, self.namespace, self.numbers, where, lambda name: f"{where}.{name}"
        )

    @cached_property
    def gradient(self) -> tuple[sympy.Expr, ...]:
        """Input of the optimizer from one sample: the gradient of each parameter, or the direction in its place.

        Examples
        --------
        >>> Loss("x*y", ("x", "y"), direction={"y": "-y"}).gradient
        (y, -y)
        """
        rules, pairs = self.rules, zip(self.parameters, self.theta, strict=True)
        return tuple(rules[name] if name in rules else _derivative(self.expression, symbol) for name, symbol in pairs)

    @cached_property
    def population_gradient(self) -> tuple[sympy.Expr, ...]:
        """Expectation of `gradient` over noise and data.

        Raises
        ------
        InputError
            If it has no closed form.
        """
        return tuple(map(self._mean_slope, self.parameters))

    @cached_property
    def population_rules(self) -> dict[str, sympy.Expr]:
        """Expectations of `rules` over noise and data.

        Raises
        ------
        InputError
            If one has no closed form.
        """
        return {name: self._mean_slope(name) for name in self.rules}

    def _mean_slope(self, name: str) -> sympy.Expr:
        """Entry of `population_gradient` for one parameter."""
        if name not in self.rules:
            return _derivative(self.population, self.symbols[name])
        try:
            return self.expectation(self.rules[name])
        except InputError as error:
            raise InputError(f"loss.direction.{name}: {error}") from None

    @cached_property
    def hessian(self) -> sympy.Matrix:
        """Hessian of the population loss, shape (parameter, parameter)."""
        import sympy

        slopes = [_derivative(self.population, symbol) for symbol in self.theta]
        return sympy.Matrix([[_derivative(slope, symbol) for symbol in self.theta] for slope in slopes])

    @cached_property
    def charges(self) -> dict[str, sympy.Expr]:
        """Noether charges by the name of their symmetry, with numbers if names repeat: ``scale``, ``scale_2``."""
        charges: dict[str, sympy.Expr] = {}
        for symmetry in self.symmetries:
            charge = self.charge(symmetry)
            if charge is not None:
                base = re.sub(r"\W", "_", symmetry.name)
                numbered = (f"{base}_{number}" for number in itertools.count(2))
                charges[next(name for name in itertools.chain([base], numbered) if name not in charges)] = charge
        return charges

    def directions(self, symmetry: Symmetry) -> dict[str, sympy.Expr]:
        """Generator of a symmetry by coordinate, or its images; see `Symmetry.directions`.

        Parameters
        ----------
        symmetry
            A symmetry of this loss.

        Returns
        -------
        dict
            Expressions by coordinate.
        """
        return symmetry.directions(self.theta, self._fixed, self.numbers)

    def charge(self, symmetry: Symmetry) -> sympy.Expr | None:
        """Noether charge of a symmetry; see `Symmetry.charge`.

        Parameters
        ----------
        symmetry
            A symmetry of this loss.

        Returns
        -------
        sympy.Expr or None
            The charge; None if the symmetry has none.
        """
        return symmetry.charge(self.theta, self._fixed, self.numbers)

    @cached_property
    def _fixed(self) -> dict[str, Any]:
        """Values of the names in formulas of a symmetry, which may not use the noise."""
        random = {base_name(name) for name in self.random}
        return {name: value for name, value in self.namespace.items() if name not in random}

    @cached_property
    def population(self) -> sympy.Expr:
        """Population loss: the expectation of the loss over noise and data."""
        return self.expectation(self.expression)

    def expectation(self, expression: sympy.Expr) -> sympy.Expr:
        """Exact expectation, over noise and data, of an expression that is polynomial in the noise.

        Parameters
        ----------
        expression
            An expression in the symbols of this loss.

        Returns
        -------
        sympy.Expr
            The expectation.

        Raises
        ------
        InputError
            If the expression is not polynomial in the noise, needs a moment that does not exist, or has too many terms.
        """
        return expectation(self, expression)


def _is_whole_power(node: sympy.Expr) -> bool:
    return bool(node.is_Pow and node.exp.is_Integer)


def _derivative(expression: sympy.Expr, symbol: sympy.Symbol) -> sympy.Expr:
    from sgdsim.formulas.symbolic import derivative

    return derivative(expression, symbol)
