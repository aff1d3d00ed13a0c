"""The functions of a formula with matrices, or with many parameters: loops over entries instead of statements.

The graph of a sample's loss, its gradient, the optimizer's formulas and what is observed are planned and printed; the
length of the text, and so the time to compile it, does not grow with the arrays.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from functools import cached_property
from typing import Any

from sgdsim.formulas.arrays import Shape, Shapes
from sgdsim.formulas.backpropagation import gradient
from sgdsim.formulas.formula import Formula
from sgdsim.formulas.graph import Node
from sgdsim.formulas.names import STEP_NAMES, FormulaError, aliased
from sgdsim.formulas.vectors import base_name
from sgdsim.kernels.array_names import STATE, ArrayNames
from sgdsim.kernels.array_plan import SCRATCH, Output, Place, Plan
from sgdsim.kernels.array_text import ArrayText, each_row
from sgdsim.kernels.curvature import FOUND_AT, PATH
from sgdsim.kernels.draws import MIRRORS, MIRRORS_OF, Draws
from sgdsim.kernels.layout import Layout
from sgdsim.kernels.program import Program, column, mirrors_rows, runtime_arguments
from sgdsim.model.loss import Loss
from sgdsim.model.noise import Noise
from sgdsim.model.observables import Observable
from sgdsim.model.polar import Polar

# Measured on linear networks, ns a step as loops and as statements, in float32, then in float64. 18 parameters (3-3-3):
# 2.3 and 1.3, 5.0 and 2.8. 32 (4-4-4): 2.6 and 3.3, 10.4 and 8.5. 40 (4-5-4): 3.6 and 6.3, 8.3 and 11.2.
MANY = 40
"""Parameters from which loops are faster than statements."""
MUCH = 200
"""Operations on single numbers in a loss from which on statements take a second to compile, even of few parameters."""


def serves(program: Program) -> bool:
    """True if the functions of a program are printed as loops over arrays: if that is possible, and faster."""
    loss, optimizer = program.loss, program.optimizer
    if optimizer.preconditioner or optimizer.metric or program.controls or program.stops or program.has_substeps:
        return False
    if optimizer.rule.population and loss.random:
        return False
    if {*program.initial} != {*loss.parameters, *loss.drawn} or any("[" in name for name in loss.direction):
        return False
    return optimizer.rule.is_of_matrices or len(loss.parameters) >= MANY or _work(loss) > MUCH


def _work(loss: Loss) -> int:
    """The operations on single numbers that the formulas of a loss take."""
    shapes = Shapes()
    for text in loss.texts:
        with suppress(FormulaError):  # names that only a step has, such as the next value of a parameter
            Formula.parse(text).in_algebra(loss.shapes, shapes, vector=True)
    return shapes.work


class ArrayFunctions(ArrayNames):
    """Prints the bodies of the generated functions of a program.

    Parameters
    ----------
    program, layout
        The program, and its layout.

    Attributes
    ----------
    text
        The collector of all that the bodies need: elementary functions and sums of products.
    rows
        Rows of scratch, as many as any of the bodies printed so far needs.
    """

    def __init__(self, program: Program, layout: Layout) -> None:
        super().__init__(program.loss)
        self.program, self.layout = program, layout
        mirror = ["row = np.uint32(N_ROWS - 1 - row) if mirrored(lane) else row"] * mirrors_rows(program)
        batch = program.optimizer.batch_size > 1
        self.text = ArrayText(program.dtype, program.lanes, [f"row = rows[{'sample * LANES + ' * batch}lane]", *mirror])
        self.rows = 0
        self._parameters = self._arrays(self.loss.parameters, "", 0)
        self._memory = self._arrays(self.loss.memory, "", len(self.loss.parameters))
        self._drawn = self._arrays(list(self.loss.drawn), "", len(self.loss.parameters) + len(self.loss.memory))
        self._varying: set[str] = set()
        self._namespace = self._made_namespace(self.loss.noise, layout.draws, program.constants, "constants")
        if program.searches:
            self._namespace["hessian_max"] = self._located("hessian_max", (), [FOUND_AT[STATE]], SCRATCH)
        self._free = 1 + len(FOUND_AT) if program.searches else 1

    # Names.

    def _made_namespace(
        self, noise: Mapping[str, Noise], draws: Draws, constants: Iterable[str], array: str
    ) -> dict[str, Node]:
        """The arrays that a sample's formulas may name, with the definitions of the loss."""
        found = {**self._parameters, **self._memory, **self._drawn, **self._constants(constants, array)}
        found |= self._noise(noise, draws, list(constants), array)
        if self.loss.data is not None:
            columns = [index * self.loss.data.rows for index in range(len(self.loss.columns))]
            by_base: dict[str, list[int]] = {}
            for name, row in zip(self.loss.columns, columns, strict=True):
                by_base.setdefault(base_name(name), []).append(row)
            for base, rows in by_base.items():
                found[base] = self._located(base, self.loss.shapes[base], rows, column(self.program))
                self._varying |= {base, *(f"{base}#{i}" for i in range(len(rows)))}
        return self._defined(found)

    def _constants(self, names: Iterable[str], array: str) -> dict[str, Node]:
        """The constants of a loss, read from an array: those of a step or those of a start."""
        rows: dict[str, list[int]] = {}
        for row, name in enumerate(names):
            if name in self.loss.constants:
                rows.setdefault(base_name(name), []).append(row)
        pattern, suffix = f"{array}[{{row}}]", "" if array == "constants" else ".start"
        return {
            base: self._located(f"{base}{suffix}", self.loss.shapes[base], found, pattern)
            for base, found in rows.items()
        }

    def _noise(
        self, noise: Mapping[str, Noise], draws: Draws, names: list[str], array: str, first: int = 0
    ) -> dict[str, Node]:
        """Each noise as an array that is made of its deviates; one by one if its coordinates have different laws.

        The deviates of the draw stand from row ``first`` on.
        """
        groups: dict[str, dict[str, tuple[Noise, int]]] = {}
        index = 0
        for name, law in noise.items():
            groups.setdefault(base_name(name), {})[name] = law, index
            index += len(law.law.deviates)
        found = {}
        for base, group in groups.items():
            shape = self.loss.shapes[base]
            kinds = {(law.family, *_given(name, law)) for name, (law, _) in group.items()}
            if len(kinds) == 1:
                found[base] = self._of_one_law(base, shape, group, draws, names, array, first)
            else:
                parts = [
                    self._of_one_law(name, (), {name: one}, draws, names, array, first) for name, one in group.items()
                ]
                found[base] = self.graph.stack(parts, shape)
        return found

    def _of_one_law(
        self,
        base: str,
        shape: Shape,
        group: Mapping[str, tuple[Noise, int]],
        draws: Draws,
        names: list[str],
        array: str,
        first: int,
    ) -> Node:
        one, (law, _) = next(iter(group.items()))
        given = _given(one, law)
        values: dict[str, Any] = {}
        for argument, default in law.law.arguments.items():
            if argument in given:
                rows = [names.index(f"{name}.{argument}") for name in group]
                values[argument] = self._located(f"{base}.{argument}", shape, rows, f"{array}[{{row}}]")
            else:
                values[argument] = self.graph.number(default)
        for number, kind in enumerate(law.law.deviates):
            places = [draws.place(index + number) for _, index in group.values()]
            pattern = self._deviate("deviates", law.family, kind)
            name, rows = f"{base}.deviate.{kind}", [first + row for row, _ in places]
            values[kind] = self._located(name, shape, rows, pattern, places[0][1] if draws.samples > 1 else 0)
            self._varying |= {name, *(f"{name}#{i}" for i in range(len(rows)))}
        return self._shaped(Formula.parse(law.law.formula).in_algebra(values, self.graph, vector=True), shape)

    def _deviate(self, array: str, family: str, kind: str) -> str:
        """The text pattern of deviates, mirrored if the trajectory is the second of a pair."""
        place = f"{array}[{{row}} * LANES + lane]"
        if self.program.antithetic:
            mirror = MIRRORS_OF.get((family, kind), MIRRORS[kind]).format(place)
            return f"REAL(({mirror}) if mirrored(lane) else {place})"
        return place if self.layout.noise_dtype == self.program.dtype else f"REAL({place})"

    def _shaped(self, node: Node, shape: Shape) -> Node:
        """An array of a shape, filled with a number; a node that is an array already stays as it is."""
        return node if node.shape else self.graph.filled(node, shape)

    # Formulas.

    def _gradient(self) -> dict[str, Node]:
        """The gradient of a sample at the point where the optimizer takes it, as nodes by parameter."""
        point = self._point()
        namespace = self._at(point) if point else self._namespace
        by = point or self._parameters
        free = [base for base in by if base not in self.loss.direction]
        found: dict[str, Node] = {}
        if free:
            slopes = gradient(self.graph, self._read(self.loss.formula, namespace), [by[base] for base in free])
            found = dict(zip(free, slopes, strict=True))
        for base, text in self.loss.direction.items():
            shape = self.loss.shapes[base]
            parts = [self._read(part, namespace) for part in ([text] if isinstance(text, str) else text)]
            found[base] = self._shaped(parts[0], shape) if isinstance(text, str) else self.graph.stack(parts, shape)
        return {base: found[base] for base in self._parameters}

    def _at(self, values: Mapping[str, Node]) -> dict[str, Node]:
        """The names of formulas, if parameters and states have other values."""
        given = {name: node for name, node in self._namespace.items() if name not in self.loss.definitions}
        return self._defined(given | dict(values))

    def _point(self) -> dict[str, Node]:
        """The point at which the optimizer takes the gradient; empty if that is at the parameters."""
        rule = self.program.optimizer.rule
        if not rule.point:
            return {}
        found = {}
        for base, theta in self._parameters.items():
            values = {**self._shared, **{name: arrays[base] for name, arrays in self._own.items()}, "theta": theta}
            value = Formula.parse(rule.point, where="optimizer").in_algebra(values, self.graph, vector=True)
            found[base] = self._shaped(value, theta.shape)
        return found

    @cached_property
    def _own(self) -> dict[str, dict[str, Node]]:
        """The optimizer's state variables, by name and parameter."""
        keys, first = self.loss.parameters, len(self.loss.carried)
        return {
            variable: self._arrays(keys, f"{variable}.", first + k * len(keys))
            for k, variable in enumerate(self.program.optimizer.rule.state)
        }

    @cached_property
    def _shared(self) -> dict[str, Node]:
        """The names of the optimizer's formulas that are the same for all parameters."""
        found: dict[str, Node] = {}
        for key, default in self.program.optimizer.defaults.items():
            name = f"optimizer.{key}"
            if name in self.program.constants:
                row = list(self.program.constants).index(name)
                found[key] = self._located(name, (), [row], "constants[{row}]")
            else:
                found[key] = self.graph.number(default or 0.0)
        return found | {name: self._local(f"optimizer.{name}", text) for name, text in self._columns().items()}

    def _next(self, slopes: Mapping[str, Node]) -> dict[str, Node]:
        """The next value of everything that the optimizer changes, given the gradient."""
        optimizer = self.program.optimizer
        found: dict[str, Node] = {}
        for base, values in self._given(slopes).items():
            self._assign(values, (*optimizer.inner(), ("theta", optimizer.final)), base)
            found[base] = values["theta"]
            found |= {f"{variable}.{base}": values[variable] for variable in self._own}
        return found

    def _given(self, slopes: Mapping[str, Node]) -> dict[str, dict[str, Node]]:
        """The values of the names in the optimizer's formulas, by parameter."""
        kicks = self._kicks()
        return {
            base: {
                **self._shared,
                **{variable: arrays[base] for variable, arrays in self._own.items()},
                **({"xi": kicks[base]} if kicks else {}),
                "theta": theta,
                "gradient": slopes[base],
            }
            for base, theta in self._parameters.items()
        }

    def _assign(self, values: dict[str, Node], formulas: Iterable[tuple[str, str]], base: str) -> None:
        """Add the values that formulas of the optimizer assign."""
        for target, text in formulas:
            value = Formula.parse(text, where="optimizer").in_algebra(values, self.graph, vector=True)
            values[target] = self._shaped(value, self.loss.shapes[base])

    def _step(self, slopes: Mapping[str, Node], taken: int = 0) -> list[str]:
        """The lines of a step after the gradient."""
        if not self.program.optimizer.rule.is_of_matrices:
            return self._lines(self._step_outputs(slopes, self._next(slopes)), taken)
        optimizer, own = self.program.optimizer, self._given(slopes)
        kept = self._arrays(self.loss.parameters, "direction.", taken, SCRATCH)
        taken += len(self.loss.parameters)
        first, scaled, repeated, after = [], [], [], {}
        coefficients = {name: self._local(f"optimizer.{name}", f"{name}_of_turn") for name in "abc"}
        for base, values in own.items():
            polar = Polar.of(self.loss.shapes[base])
            self._assign(values, optimizer.given, base)
            place = self.places[f"direction.{base}"]
            first.append(Output(place, values["direction"], base))
            first += [Output(self._state_place(f"{name}.{base}"), values[name], base) for name in self._own]
            begun = {"direction": kept[base]}
            self._assign(begun, polar.first, base)
            scaled.append(Output(place, begun["direction"], base))
            turned = {**coefficients, "direction": kept[base]}
            self._assign(turned, polar.repeated, base)
            repeated.append(Output(place, turned["direction"], base))
            last = {**self._shared, "theta": self._parameters[base], "direction": kept[base]}
            self._assign(last, (*polar.last, ("theta", optimizer.final)), base)
            after[base] = last["theta"]
        turns = [f"{name}_of_turn = REAL(polynomials[turn][{i}])" for i, name in enumerate("abc")]
        turns += self._lines(repeated, taken)
        return [
            *self._lines(first, taken),
            *self._lines(scaled, taken),
            f"polynomials = {optimizer.rule.polynomials!r}",
            f"for turn in range({len(optimizer.rule.polynomials)}):",
            *(f"    {line}" for line in turns),
            *self._lines(self._step_outputs(slopes, after), taken),
        ]

    def _kicks(self) -> dict[str, Node]:
        if not self.program.optimizer.rule.is_random:
            return {}
        draws, keys = self.layout.kicks, self.loss.parameters
        rows = {key: draws.place(index)[0] for index, key in enumerate(keys)}
        found = {}
        for base in self._parameters:
            own = [row for key, row in rows.items() if base_name(key) == base]
            pattern = self._deviate("kicks", "normal", "z")
            found[base] = self._located(f"optimizer.xi.{base}", self.loss.shapes[base], own, pattern)
        return found

    def _columns(self) -> dict[str, str]:
        """The numbers of a step that all lanes share, with their names in the text; see `Program.step_table`."""
        scalars = [name for name, _ in self.program.optimizer.rule.scalars]
        return {"learning_rate": "learning_rate", "t": "t", **{name: f"q_{i}" for i, name in enumerate(scalars)}}

    def load_shared(self) -> list[str]:
        """The lines that load the numbers of a step that all lanes share."""
        return [f"{text} = table[{i}]" for i, text in enumerate(self._columns().values())]

    def _of_step(self, names: Iterable[str], after: Mapping[str, Node], slopes: Mapping[str, Node]) -> dict[str, Node]:
        """The names of a formula about the step, besides those of the loss."""
        namespace = self._namespace
        found = {f"gradient__{base}": slope for base, slope in slopes.items()}
        if any(name.startswith("next__") for name in names):
            fixed = {name: node for name, node in namespace.items() if name in self._constants_and_carried}
            found |= {f"next__{name}": node for name, node in self._defined(fixed | dict(after)).items()}
        for name in ("learning_rate", "t"):
            if name not in namespace:
                found[name] = self._local(f"optimizer.{name}", name)
        return found

    @property
    def _constants_and_carried(self) -> set[str]:
        return {base_name(name) for name in (*self.loss.carried, *self.loss.constants)}

    # Bodies of functions.

    def _lines(self, outputs: Sequence[Output], taken: int = 0) -> list[str]:
        plan = Plan(outputs, self.places, taken=taken)
        self.rows = max(self.rows, plan.rows)
        return self.text.lines(plan, plan.stages)

    def initial_state(self) -> list[str]:
        """The lines of the initial state: parameters, states, whose formulas know the parameters, and constants."""
        loss, program = self.loss, self.program
        starts = program.initial
        drawn = {name: start for name, start in starts.items() if isinstance(start, Noise)}
        constants = {name: drawn.pop(name) for name in loss.drawn if name in drawn}
        names = list(program.initial_arguments)
        found = self._noise(drawn, self.layout.starts, names, "arguments")
        found |= self._noise(constants, self.layout.constants, names, "arguments", self.layout.starts.rows)
        numbers = [name for name in (*loss.parameters, *loss.drawn) if name not in drawn | constants]
        rows: dict[str, list[int]] = {}
        for name in numbers:
            rows.setdefault(base_name(name), []).append(names.index(name))
        for base, own in rows.items():
            found[base] = self._located(f"{base}.start", loss.shapes[base], own, "arguments[{row}]")
        theta = {base: found[base] for base in (*self._parameters, *self._drawn)}
        outputs = [Output(self._state_place(base), node, base) for base, node in theta.items()]
        if loss.memory:
            known = self._defined(theta | self._constants(names, "arguments"))
            for name, state in loss.states.items():
                base = base_name(name)
                node = self._shaped(self._read(state.start, known), loss.shapes[base])
                outputs.append(Output(self._state_place(base), node, base))
        return self._lines(outputs)

    def _state_place(self, name: str) -> Place:
        return self.places[name]

    def update(self) -> list[str]:
        """The lines of one step: the batch's mean gradient, the optimizer's assignments, then those of states."""
        batch = self.program.optimizer.batch_size
        slopes = self._gradient()
        if batch == 1 or self.program.optimizer.rule.population:
            return self._step(slopes)
        n = len(self.loss.parameters)
        sums = self._arrays(self.loss.parameters, "sums.", 0, SCRATCH)
        outputs = [Output(self.places[f"sums.{base}"], node, base, "+=") for base, node in slopes.items()]
        plan = Plan(outputs, self.places, frozenset(self._varying), taken=n)
        self.rows = max(self.rows, plan.rows)
        once = [stage for stage in plan.stages if not stage.varies]
        each = [stage for stage in plan.stages if stage.varies]
        lines = each_row(n, ["scratch[i * LANES + lane] = REAL(0.0)"])
        lines += self.text.lines(plan, once)
        lines += [f"for sample in range({batch}):", *(f"    {line}" for line in self.text.lines(plan, each))]
        size = self.graph.number(batch)
        means = {base: self.graph.elementwise("/", node, size) for base, node in sums.items()}
        return lines + self._step(means, taken=n)

    def _step_outputs(self, slopes: Mapping[str, Node], found: Mapping[str, Node]) -> list[Output]:
        """The outputs of a step, given the values that the optimizer has found."""
        after = dict(found)
        outputs = [Output(self._state_place(name), node, name.rpartition(".")[2]) for name, node in after.items()]
        for name, state in self.loss.states.items():
            base, text = base_name(name), aliased(state.formula)
            more = self._of_step(Formula.parse(text).names, after, slopes)
            after[base] = self._shaped(self._read(text, self._namespace | more), self.loss.shapes[base])
            outputs.append(Output(self._state_place(base), after[base], base))
        if self.program.path_rows:
            carried = {**self._parameters, **self._memory, **self._drawn}
            self._path()
            outputs += [Output(self.places[f"path.{base}"], node, base) for base, node in carried.items()]
            outputs += [Output(self.places[f"path.gradient.{base}"], node, base) for base, node in slopes.items()]
        return outputs

    def _path(self) -> tuple[dict[str, Node], dict[str, Node]]:
        """The arrays that a step leaves behind: the state before it, and the gradient."""
        pattern, n = "path[{row} * LANES + lane]", len(self.loss.carried)
        before = self._arrays(self.loss.carried, "path.", 0, pattern)
        return before, self._arrays(self.loss.parameters, "path.gradient.", n, pattern)

    def share(self, observable: Observable) -> list[str]:
        """Lines that leave an observable's share of a state, or of a step, in the first row of scratch."""
        if observable in self.program.of_step:
            node = self._share_of_step(observable)
        else:
            node = self._read(aliased(observable.formula), self._namespace)
        return self._lines([Output(Place(SCRATCH, 0, (), "scratch"), node, "share")], self._free)

    def _share_of_step(self, observable: Observable) -> Node:
        text = aliased(observable.formula)
        after = {**self._parameters, **self._memory, **self._drawn}
        before, slopes = self._path()
        more = self._of_step(Formula.parse(text).names, after, slopes)
        if self.program.searches:
            more["hessian_max"] = self._located("before.hessian_max", (), [FOUND_AT[PATH]], SCRATCH)
            more["next__hessian_max"] = self._namespace["hessian_max"]
        return self._read(text, self._at(before) | more)

    def reads(self, observable: Observable) -> bool:
        """True if the formula of an observable needs nothing that only SymPy finds, such as the population loss."""
        names = {name.removeprefix("next__").removeprefix("gradient__") for name in observable.names}
        return names <= {*self._namespace, *STEP_NAMES, "pi"}

    def observe(self, plain: Sequence[Observable], rows: Mapping[str, int]) -> list[str]:
        """Lines that leave the value of each plain observable in its row of values."""
        outputs = []
        for observable in plain:
            node = self._read(aliased(observable.formula), self._namespace)
            place = Place("values[{row} * LANES + lane]", rows[observable.name], (), "values")
            outputs.append(Output(place, node, observable.name))
        return self._lines(outputs, self._free)


def _given(name: str, law: Noise) -> tuple[str, ...]:
    """The arguments of a law that differ from its defaults."""
    return tuple(key.removeprefix(f"{name}.") for key in runtime_arguments(name, law))
