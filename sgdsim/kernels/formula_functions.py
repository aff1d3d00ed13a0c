"""The functions that a program's formulas become: start, step, sums along a path and observables, as text.

The loss is differentiated here; what runs the functions is pasted around them in `source`.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping, Sequence
from functools import cached_property

import sympy

from sgdsim.formulas.formula import Formula
from sgdsim.formulas.symbolic import exact
from sgdsim.kernels import control_step, reverse
from sgdsim.kernels.array_names import STATE
from sgdsim.kernels.array_text import ArrayText
from sgdsim.kernels.curvature import FOUND_AT, PATH, Curvature
from sgdsim.kernels.draws import MIRRORS, MIRRORS_OF, Draws
from sgdsim.kernels.layout import Layout
from sgdsim.kernels.pasted import indent, lanes, pasted
from sgdsim.kernels.printer import LONGEST_SUM, KernelPrinter
from sgdsim.kernels.program import Program, column, mirrors_rows, runtime_arguments
from sgdsim.kernels.reverse import Assignments
from sgdsim.model.data import DrawnData
from sgdsim.model.noise import Noise
from sgdsim.model.observables import STOPPED, Observable

MANY = 16
"""Number of parameters from which on the gradient is computed by one sweep back; for fewer, single derivatives give
shorter texts."""
IN_REGISTERS = 64
"""Most variables of a trajectory that a thread of CUDA holds itself: they must fit into its 255 registers."""


_BEGINS = {"passage": "NAN", "value": "NAN", "earlier": "NAN", "max": "REAL(-np.inf)"}
"""First values of running observables, by kind, if not 0: a number that is not finite stands for no value."""


class FormulaFunctions:
    """Writer of the generated functions of one program."""

    def __init__(self, program: Program, *, direct: bool) -> None:
        self.program = program
        self.loss = program.loss
        self.layout = Layout(program)
        self.elementary: set[str] = set()
        # On a GPU all is compiled together, and formulas are called by their names; see `interface`.
        self._first = "formula, " if direct else ""
        self.state = program.variables
        self.names = {name: f"s_{i}" for i, name in enumerate(self.state)}
        self.names |= {name: f"c_{i}" for i, name in enumerate(program.constants)}
        self.names["optimizer.learning_rate"] = "learning_rate"  # a loss may have a learning_rate of its own
        self.scratch_rows = len(self.loss.parameters) if program.optimizer.batch_size > 1 else 0
        self.text = ArrayText(program.dtype, program.lanes)

    def settings(self) -> str:
        """The line that sets the constants in capitals of the formulas' module."""
        return f"N_ROWS, SCRATCH_ROWS = np.uint32({self.layout.sampling_numbers()[1]}), {self.scratch_rows}"

    @cached_property
    def curvature(self) -> Curvature:
        """The writer of the search for the largest eigenvalue of the Hessian."""
        return Curvature(self.program, self.text)

    def helpers(self, target: str) -> str:
        """The texts that the functions call: sums of products of arrays, and the search for an eigenvalue."""
        made = [f"{name} = sum_of_products{spec}" for spec, name in self.text.products.items()]
        text = pasted("cpu_products.py" if target == "cpu" else "products.py")
        search = [self.curvature.functions()] if self.program.searches else []
        return "\n".join([*([text, *made] if made else []), *search])

    def compiled_in(self) -> str:
        """The lines that set the constants which a GPU has compiled in and the CPU gets at run time; see `Layout`."""
        program, layout = self.program, self.layout
        draws, kicks = layout.draws, layout.kicks
        kind, _, *rest = layout.sampling_numbers()
        return f"""
PAIR = {layout.pair}
N_PARAMETERS = {len(self.loss.parameters)}
N_VARIABLES, N_CONSTANTS = {program.n_variables}, {len(program.constants)}
IN_REGISTERS = {program.n_variables <= IN_REGISTERS}
PATH_ROWS, N_RUNNING, HAS_DRIFTS = {program.path_rows}, {len(program.running)}, {program.drifts}
HAS_SUBSTEPS = {program.has_substeps}
WORDS_A_STEP, STEPS_A_DRAW = {draws.words_a_step}, {draws.steps_a_draw}
KICK_WORDS, KICK_STEPS = {kicks.words_a_step}, {kicks.steps_a_draw}
DEVIATE_ROWS, KICK_ROWS = {draws.rows}, {kicks.rows}
START_ROWS, CONSTANT_ROWS, INITIAL_ROWS = {layout.starts.rows}, {layout.constants.rows}, {layout.initial_rows}
ROW_ROWS, ORDER_ROWS = {layout.words.rows}, {layout.order_rows}
SAMPLING = {kind}, N_ROWS, {", ".join(map(str, rest))}
"""

    def functions(self) -> list[str]:
        """The texts of all functions that depend on the program."""
        texts = [self._initial_state(), self._update(), self._accumulate(), self._observe()]
        if self.program.searches:
            self.scratch_rows = max(self.scratch_rows, self.curvature.rows)
        self.elementary |= self.text.functions
        return texts

    def of_one_lane(self) -> str:
        """The functions for a single trajectory on a GPU: tests of divergence, marking it, and taking a snapshot."""
        if self.program.n_variables > IN_REGISTERS:
            return pasted("one_lane.py")
        parameters, variables = range(len(self.loss.parameters)), range(self.program.n_variables)
        counts = [f"n = COUNT(n + (not abs(values[{i}]) <= LIMIT))" for i in parameters]
        beyond = " | ".join(f"(abs(state[{i}]) > LIMIT)" for i in parameters)
        bodies = {
            "count_outside(values)": ["n = COUNT(0)", *counts, "return n"],
            "is_outside(state, lane, lanes, n_parameters)": ["return count_outside(state) > 0"],
            "is_beyond(state, lane, lanes, n_parameters)": [f"return {beyond}"],
            "bury(state, lane, lanes, ends, looked)": [
                f"state[{i}] = NAN if ends[{i}] > looked else state[{i}]" for i in variables
            ],
            "keep(theta, row, state, lane, lanes)": [f"theta[row, {i}] = state[{i}]" for i in parameters],
        }
        # Written out line by line: a loop over variables would keep a GPU from holding them in registers.
        return "\n\n".join(
            "\n".join(["@device", f"def {signature}:", *indent(body), ""]) for signature, body in bodies.items()
        )

    def _initial_state(self) -> str:
        names = {name: f"a_{i}" for i, name in enumerate(self.program.initial_arguments)}
        loads = [f"a_{i} = arguments[{i}]" for i in range(len(names))]
        noise = {name: start for name, start in self.program.initial.items() if isinstance(start, Noise)}
        drawn = {name: noise.pop(name) for name in self.loss.drawn if name in noise}
        values, body = self._noise(noise, self.layout.starts, "0", names)
        constants, loads_of_constants = self._noise(drawn, self.layout.constants, "0", names, self.layout.starts.rows)
        values, body = values | constants, body + loads_of_constants
        found = {name: values.get(name, sympy.Symbol(name, real=True)) for name in self.program.initial}
        found |= self.loss.memory_starts({self.loss.symbols[n]: v for n, v in found.items() if n in self.loss.symbols})
        body += self._statements(names, self._places(found))
        zero = [i for i, name in enumerate(self.state) if name not in found]
        body += [f"state[{i} * LANES + lane] = REAL(0.0)" for i in zero]
        body += self._start_running()
        lines = [*loads, *lanes(body), *self._draw_data()]
        return self._called("initial_state", "state, deviates, scratch, arguments", lines)

    def _draw_data(self) -> list[str]:
        """The lines that draw the data of each trajectory, row by row."""
        data, layout = self.loss.data, self.layout
        if not isinstance(data, DrawnData):
            return []
        given = list(self.program.initial_arguments)
        used = [key for name, law in data.columns.items() for key in runtime_arguments(name, law)]
        names = {key: f"arguments[{given.index(key)}]" for key in used}
        first = layout.starts.rows + layout.constants.rows
        values, body = self._noise(data.columns, layout.data, "sample", names, first)
        places = {
            f"state[({self.program.first_data + i * data.rows} + sample) * LANES + lane]": values[name]
            for i, name in enumerate(data.columns)
        }
        body += self._statements(names, places)
        return [f"for sample in range({data.rows}):", *indent(lanes(body))]

    def _start_running(self) -> list[str]:
        """The lines that set running observables at the start; some have no value yet."""
        begins = {
            row: _BEGINS.get(observable.kind, "REAL(0.0)")
            for row, observable in zip(self.program.running_rows, self.program.running, strict=True)
        }
        rest = range(len(self.state), self.program.first_data)
        return [f"state[{i} * LANES + lane] = {begins.get(i, 'REAL(0.0)')}" for i in rest]

    def _update(self) -> str:
        """The function of one step: the batch's mean gradient, the optimizer's assignments, then those of states."""
        batch_size = self.program.optimizer.batch_size
        names = dict(self.names)
        shared, cut = self._load_shared(names), self.program.has_substeps
        shared += self._load_substep(names) if cut else []
        sweep, gradient, loads = self._sample_gradient(names)
        point = self._point(names)
        lines: list[str] = []
        if batch_size > 1 and loads:
            sums = {f"scratch[{i} * LANES + lane]": entry for i, entry in enumerate(gradient)}
            lines += lanes([f"{target} = REAL(0.0)" for target in sums])
            body = [
                *self._load_state(self.state if point else self.loss.carried),
                *point,
                *loads,
                *self._statements(names, sums, "+=", sweep),
            ]
            point = []
            sweep = []
            lines += [f"for sample in range({batch_size}):", *indent(lanes(body))]
            gradient = [_symbol(f"gradient.{name}") for name in self.loss.parameters]
            names |= {f"gradient.{name}": f"g_{i}" for i, name in enumerate(self.loss.parameters)}
            loads = [f"g_{i} = scratch[{i} * LANES + lane] / REAL({batch_size})" for i in range(len(gradient))]
        loads += self._load_kicks(names)
        updates = self._optimizer_updates(gradient)
        updates |= {} if cut else self._remembered(updates, gradient)
        targets = self._places(updates)
        targets, frozen = self._frozen(targets)
        kept: list[str] = []
        if self.program.path_rows:
            rows = (*(self.loss.symbols[name] for name in self.loss.carried), *gradient)
            path = {f"p_{i}" if cut else f"path[{i} * LANES + lane]": value for i, value in enumerate(rows)}
            targets = path | targets
            kept = self._keep_path() if cut else []
        body = [*self._load_state(self.state), *point, *loads, *self._statements(names, targets, "=", sweep)]
        lines += lanes([*body, *kept, *frozen])
        lines += self._remember_at_the_end() if cut else []
        arguments = "state, deviates, kicks, rows, data, path, scratch, table, constants"
        return self._called("update", arguments, [*self._load_constants(), *shared, *lines])

    def _places(self, updates: Mapping[str, sympy.Expr]) -> dict[str, sympy.Expr]:
        """New values of variables, by the texts of their places."""
        return {f"state[{self.state.index(name)} * LANES + lane]": value for name, value in updates.items()}

    def _frozen(self, targets: Mapping[str, sympy.Expr]) -> tuple[dict[str, sympy.Expr], list[str]]:
        """New values under names of their own, and the lines that store them if a trajectory has not ended."""
        if not self.program.stops:
            return dict(targets), []
        # The passages of a trajectory are NaN until it ends.
        open_ = " & ".join(
            f"(state[{row} * LANES + lane] != state[{row} * LANES + lane])" for row in self.program.stop_rows
        )
        stores = [f"{place} = u_{i} if runs else {place}" for i, place in enumerate(targets)]
        return {f"u_{i}": value for i, value in enumerate(targets.values())}, [f"runs = {open_}", *stores]

    def _load_stopped(self, names: dict[str, str]) -> list[str]:
        """The lines that load when a trajectory has ended, and by which bound: the first of several in one step."""
        places = [f"state[{row} * LANES + lane]" for row in self.program.stop_rows]
        names |= dict(zip(STOPPED, STOPPED, strict=True)) if places else {}
        lines = ["stopped_at = NAN", "stopped_by = REAL(0.0)"] if places else []
        for number, place in reversed([*enumerate(places, 1)]):
            lines.append(f"stopped_at = {place} if {place} == {place} else stopped_at")
            lines.append(f"stopped_by = REAL({number}.0) if {place} == {place} else stopped_by")
        return lines

    def _load_substep(self, names: dict[str, str]) -> list[str]:
        """The lines that load the columns of a substep, which the optimizer takes for a step."""
        names |= {"optimizer.learning_rate": "part_rate", "optimizer.t": "part_t"}
        first = 2 + len(self.program.optimizer.rule.scalars)
        loads = [f"{name} = table[{first + i}]" for i, name in enumerate(("part_rate", "part_t", "share"))]
        place = f"table[{first + 3}]"
        return [*loads, f"begins = {place} > REAL(0.0)", f"ends = {place} < REAL(0.0)"]

    def _keep_path(self) -> list[str]:
        """The lines that keep the state before the first substep, and add up the mean gradient of all substeps."""
        n = len(self.loss.carried)
        lines = []
        for i in range(self.program.path_rows):
            place = f"path[{i} * LANES + lane]"
            added = f"p_{i} if begins else {place}"
            lines.append(f"{place} = {added if i < n else f'(REAL(0.0) if begins else {place}) + share * p_{i}'}")
        return lines

    def _remember_at_the_end(self) -> list[str]:
        """The lines that set states after the last substep, by the whole step."""
        loss, names = self.loss, dict(self.names)
        if not loss.memory:
            return []
        names |= {f"next.{name}": f"n_{i}" for i, name in enumerate(loss.parameters)}
        before, gradients = self._load_path(names)
        names["optimizer.t"] = "t"
        found = self._remembered(
            {name: _symbol(f"next.{name}") for name in loss.parameters},
            [_symbol(f"gradient.{name}") for name in loss.parameters],
        )
        after = [f"n_{i} = state[{i} * LANES + lane]" for i in range(len(loss.parameters))]
        noise: list[str] = []
        if self.program.optimizer.batch_size == 1 and not self.program.optimizer.rule.population:
            noise = [*self._noise(loss.noise, self.layout.draws, "0", names)[1], *self._load_row("0", names)]
        targets, frozen = self._frozen(self._places(found))
        body = [*before, *after, *gradients, *noise, *self._statements(names, targets), *frozen]
        return ["if ends:", *indent(lanes(body))]

    def _sample_gradient(self, names: dict[str, str]) -> tuple[Assignments, list[sympy.Expr], list[str]]:
        """The gradient of one sample, or of the population, with the assignments before it and the lines of loads."""
        if self.program.optimizer.rule.population:
            return *self._at_point(*self._gradient({}, names)), []
        sample = "sample" if self.program.optimizer.batch_size > 1 else "0"
        values, loads = self._noise(self.loss.noise, self.layout.draws, sample, names)
        loads += self._load_row(sample, names)
        noise = {self.loss.symbols[name]: value for name, value in values.items()}
        return *self._at_point(*self._gradient(noise, names)), loads

    def _point(self, names: dict[str, str]) -> list[str]:
        """The lines that compute the point at which the gradient is taken, if the optimizer has one of its own."""
        rule, lines = self.program.optimizer.rule, {}
        if not rule.point:
            return []
        formula = Formula.parse(rule.point, where="optimizer")
        for i, name in enumerate(self.loss.parameters):
            values = self._shared() | {variable: _symbol(f"{variable}.{name}") for variable in rule.state}
            lines[f"y_{i}"] = formula.expression({**values, "theta": self.loss.symbols[name]})
        statements = self._statements(names, lines)
        names |= {f"point.{name}": f"y_{i}" for i, name in enumerate(self.loss.parameters)}
        return statements

    def _at_point(self, sweep: Assignments, gradient: Sequence[sympy.Expr]) -> tuple[Assignments, list[sympy.Expr]]:
        """A gradient, taken at the optimizer's own point if it has one, else at the parameters."""
        if not self.program.optimizer.rule.point:
            return sweep, list(gradient)
        there = {symbol: _symbol(f"point.{symbol.name}") for symbol in self.loss.theta}
        return [(one, value.xreplace(there)) for one, value in sweep], [one.xreplace(there) for one in gradient]

    def _gradient(
        self, noise: Mapping[sympy.Symbol, sympy.Expr], names: Mapping[str, str]
    ) -> tuple[Assignments, list[sympy.Expr]]:
        loss, population = self.loss, self.program.optimizer.rule.population
        rules = loss.population_rules if population else loss.rules
        free = [symbol for symbol in loss.theta if symbol.name not in rules]
        if len(free) < MANY:
            slopes = loss.population_gradient if population else loss.gradient
            return [], [sympy.factor_terms(slope.xreplace(noise)) for slope in slopes]
        expression = loss.population if population else loss.expression
        assignments, swept = self._swept(expression.xreplace(noise), free, names)
        found = {name: sympy.factor_terms(rule.xreplace(noise)) for name, rule in rules.items()}
        found |= {symbol.name: slope for symbol, slope in zip(free, swept, strict=True)}
        return assignments, [found[name] for name in loss.parameters]

    def _swept(
        self, expression: sympy.Expr, theta: Sequence[sympy.Symbol], names: Mapping[str, str]
    ) -> tuple[Assignments, list[sympy.Expr]]:
        """The gradient by one sweep, under the names of the text: the order of its terms depends on the names."""
        text = {symbol: _symbol(names[symbol.name]) for symbol in {*theta, *expression.free_symbols}}
        back = {new: old for old, new in text.items()}
        numbered = (_symbol(f"sweep.{i}") for i in itertools.count())
        assignments, slopes = reverse.gradient(expression.xreplace(text), [text[one] for one in theta], numbered)
        return [(one, value.xreplace(back)) for one, value in assignments], [one.xreplace(back) for one in slopes]

    def _load_row(self, sample: str, names: dict[str, str]) -> list[str]:
        """The lines that load the columns of the row of a sample."""
        data = self.loss.data
        if data is None:
            return []
        names |= {name: f"x_{i}" for i, name in enumerate(data.columns)}
        columns = [f"x_{i} = {column(self.program).format(row=i * data.rows)}" for i in range(len(data.columns))]
        loads = [f"row = rows[{f'{sample} * LANES + ' if sample != '0' else ''}lane]"]
        if mirrors_rows(self.program):
            loads.append("row = np.uint32(N_ROWS - 1 - row) if mirrored(lane) else row")
        return [*loads, *columns]

    def _load_kicks(self, names: dict[str, str]) -> list[str]:
        if not self.program.optimizer.rule.is_random:
            return []
        names |= {f"optimizer.xi.{name}": f"k_{i}" for i, name in enumerate(self.loss.parameters)}
        places = [deviate_place("kicks", self.layout.kicks, i) for i in range(len(self.loss.parameters))]
        return [self._load_deviate(f"k_{i}", place, "normal", "z") for i, place in enumerate(places)]

    def _load_deviate(self, name: str, place: str, family: str, deviate: str) -> str:
        """The line that loads a deviate, mirrored for the second of a pair before rounding, which might make it 0."""
        if not self.program.antithetic:
            return f"{name} = REAL({place})"
        mirrored = MIRRORS_OF.get((family, deviate), MIRRORS[deviate]).format(place)
        return f"{name} = REAL(({mirrored}) if mirrored(lane) else {place})"

    def _load_shared(self, names: dict[str, str]) -> list[str]:
        """The lines that load the numbers of a step which all lanes share; see `Program.step_table`."""
        names["optimizer.learning_rate"], names["optimizer.t"] = "learning_rate", "t"
        scalars = [name for name, _ in self.program.optimizer.rule.scalars]
        names |= {f"optimizer.{name}": f"q_{i}" for i, name in enumerate(scalars)}
        columns = ["learning_rate", "t", *(f"q_{i}" for i in range(len(scalars)))]
        return [f"{column} = table[{i}]" for i, column in enumerate(columns)]

    def _hyperparameters(self) -> dict[str, sympy.Expr]:
        return {
            key: _symbol(f"optimizer.{key}") if f"optimizer.{key}" in self.program.constants else exact(default)
            for key, default in self.program.optimizer.defaults.items()
        }

    def _shared(self) -> dict[str, sympy.Expr]:
        """Values of names in the optimizer's formulas that are the same for all parameters."""
        names = ("learning_rate", "t", *(name for name, _ in self.program.optimizer.rule.scalars))
        return self._hyperparameters() | {name: _symbol(f"optimizer.{name}") for name in names}

    def _optimizer_updates(self, gradient: Sequence[sympy.Expr]) -> dict[str, sympy.Expr]:
        """The next value of every variable that the optimizer changes."""
        optimizer, shared = self.program.optimizer, self._shared()
        updates: dict[str, sympy.Expr] = {}
        directions, inner = [], []
        for name, entry in zip(self.loss.parameters, gradient, strict=True):
            values = shared | {variable: _symbol(f"{variable}.{name}") for variable in optimizer.rule.state}
            values |= {"theta": self.loss.symbols[name], "gradient": entry, "xi": _symbol(f"optimizer.xi.{name}")}
            for target, formula in optimizer.inner():
                values[target] = Formula.parse(formula, where="optimizer").expression(values)
            directions.append(values.get("direction", sympy.Integer(0)))
            inner.append(values)
            updates |= {f"{variable}.{name}": values[variable] for variable in optimizer.rule.state}
        matrix = optimizer.matrix(self.loss)
        if matrix is not None:
            directions = list(matrix * sympy.Matrix(directions))
        final = Formula.parse(optimizer.final, where="optimizer")
        for name, values, direction in zip(self.loss.parameters, inner, directions, strict=True):
            updates[name] = final.expression({**values, "direction": direction})
        return updates

    def _remembered(self, updates: Mapping[str, sympy.Expr], gradient: Sequence[sympy.Expr]) -> dict[str, sympy.Expr]:
        """The next value of every state; noise in it is that of the only sample of the step."""
        loss = self.loss
        if not loss.memory:
            return {}
        after = {symbol: updates[symbol.name] for symbol in loss.theta}
        slopes = dict(zip(loss.parameters, gradient, strict=True))
        found = loss.remembered(after, slopes, _symbol("optimizer.learning_rate"))
        values, _ = self._noise(loss.noise, self.layout.draws, "0", {})
        noise = {loss.symbols[name]: value for name, value in values.items()}
        return {name: value.xreplace(noise) for name, value in found.items()}

    def _accumulate(self) -> str:
        """The function that adds a step's share to each running observable."""
        lines: list[str] = []
        for i, observable in enumerate(self.program.running):
            names = dict(self.names)
            if observable.kind == "control":
                lines += [f"if running == {i}:", *indent(self._control(observable, self.program.running_rows[i]))]
                continue
            lines += [f"if running == {i}:", *indent(self._run(i, observable, names))]
        arguments = "running, completed, part, state, deviates, rows, data, path, weights, scratch, table, constants"
        return self._called("accumulate", arguments, [*self._load_constants(), *self._load_shared({}), *lines])

    def _run(self, i: int, observable: Observable, names: dict[str, str]) -> list[str]:
        """The lines that add a step's share to a running observable."""
        ended = ""
        if observable in self.program.of_step:
            share, loads = self._share_of_step(observable, names)
            ended = " | ".join(f"(state[{row} * LANES + lane] < REAL(completed))" for row in self.program.stop_rows)
        else:
            more = self._found(observable, names)
            share = self.loss.expand(observable.formula, f"observable {observable.name!r}", more)
            loads = self._load_state(self.loss.carried)
        loads += self._load_found(observable)
        body = [*loads, *self._statements(names, {"share": share})]
        body += [f"share = REAL(0.0) if {ended} else share"] if ended else []  # an ended trajectory makes no step
        return [*self.search([observable]), *lanes([*body, *self._take_share(i, observable)])]

    def search(self, observables: Iterable[Observable]) -> list[str]:
        """The lines that find the eigenvalues which observables of a state, or of a step, name."""
        lines: list[str] = []
        for one in observables:
            named, of_step = self.program.searches_for(one), one in self.program.of_step
            if "hessian_max" in named and of_step:
                lines += self.curvature.lines(PATH)
            if named and (not of_step or "next__hessian_max" in named):
                lines += self.curvature.lines()
        return lines

    def _found(self, observable: Observable, names: dict[str, str]) -> dict[str, sympy.Expr]:
        """Symbols of the eigenvalues that an observable names."""
        named = sorted(self.program.searches_for(observable))
        names |= dict(zip(named, named, strict=True))
        return {name: _symbol(name) for name in named}

    def _load_found(self, observable: Observable) -> list[str]:
        """The lines that load the eigenvalues that an observable names."""
        of_step = observable in self.program.of_step
        return [
            f"{name} = scratch[{FOUND_AT[PATH if of_step and name == 'hessian_max' else STATE]} * LANES + lane]"
            for name in sorted(self.program.searches_for(observable))
        ]

    def _take_share(self, i: int, observable: Observable) -> list[str]:
        """The lines that take the share of a running observable into its row."""
        row = self.program.running_rows[i]
        place = f"state[{row} * LANES + lane]"
        if observable.kind == "passage":
            return [f"{place} = REAL(completed) if ({place} != {place}) & (share > REAL(0.0)) else {place}"]
        if observable.kind in ("value", "earlier"):  # a number is one where no trajectory is alive, too
            return [f"{place} = share if state[lane] == state[lane] else NAN"]
        if observable.kind == "max":  # once NaN, it stays NaN
            return [f"{place} = {place} if (share <= {place}) | ({place} != {place}) else share"]
        return self._compensated_sum(row, "part * share" if observable.kind == "mean" else "share")

    def _compensated_sum(self, row: int, share: str) -> list[str]:
        """The lines that add a share, less the surplus that rounding added before (Kahan)."""
        total, excess = f"state[{row} * LANES + lane]", f"state[{row + 1} * LANES + lane]"
        lines = [f"before = {total}", f"added = {share} - {excess}", "after = before + added"]
        return [*lines, f"{excess} = (after - before) - added", f"{total} = after"]

    def _share_of_step(self, observable: Observable, names: dict[str, str]) -> tuple[sympy.Expr, list[str]]:
        """The share of a step for an observable about the step, and the lines that load what it needs."""
        loss = self.loss
        after = {loss.symbols[name]: _symbol(f"next.{name}") for name in loss.carried}
        gradient = {name: _symbol(f"gradient.{name}") for name in loss.parameters}
        where, rate = f"observable {observable.name!r}", _symbol("optimizer.learning_rate")
        share = loss.expand_step(observable.formula, where, after, gradient, rate, self._found(observable, names))
        before, gradients = self._load_path(names)
        loads = [*before, *(f"n_{i} = state[{i} * LANES + lane]" for i in range(len(after))), *gradients]
        names |= {f"next.{name}": f"n_{i}" for i, name in enumerate(loss.carried)}
        if _symbol("optimizer.t") in share.free_symbols:
            names["optimizer.t"] = "t"
        if share.free_symbols & {loss.symbols[name] for name in loss.random}:
            values, noise_loads = self._noise(loss.noise, self.layout.draws, "0", names)
            share = share.xreplace({loss.symbols[name]: value for name, value in values.items()})
            loads += [*noise_loads, *self._load_row("0", names)]
        return share, loads

    def _load_path(self, names: dict[str, str]) -> tuple[list[str], list[str]]:
        """The lines that load the state before the step, and those that load the gradient of the batch."""
        n = len(self.loss.carried)
        names |= {f"gradient.{name}": f"g_{i}" for i, name in enumerate(self.loss.parameters)}
        loads = [f"s_{i} = path[{i} * LANES + lane]" for i in range(n)]
        return loads, [f"g_{i} = path[{n + i} * LANES + lane]" for i in range(len(self.loss.parameters))]

    def _control(self, observable: Observable, row: int) -> list[str]:
        """The lines that add the share of the start, or of a step, to a control."""
        loss, names = self.loss, dict(self.names)
        n = control_step.columns(loss, self.program.optimizer)
        index = self.program.controls.index(observable)
        weights = [_symbol(f"weight.{i}") for i in range(n)]
        names |= {f"weight.{i}": f"b_{i}" for i in range(n)}
        gradient = [_symbol(f"gradient.{name}") for name in loss.parameters]
        rate = _symbol("optimizer.learning_rate")
        step = control_step.step_of(loss, self.program.optimizer, rate, gradient, self._hyperparameters())
        before, gradients = self._load_path(names)
        shares = {
            "if completed == 0:": (control_step.start(loss.theta, weights), self._load_state(loss.parameters)),
            "else:": (control_step.increment(step, weights), [*before, *gradients]),
        }
        lines = [f"b_{i} = REAL(weights[{index * n + i}])" for i in range(n)]
        for condition, (share, loads) in shares.items():
            body = [*loads, *self._statements(names, {"share": share}), *self._compensated_sum(row, "share")]
            lines += [condition, *indent(lanes(body))]
        return lines

    def _observe(self) -> str:
        """The function of all observables; those of a state at which the trajectory is not alive are NaN, not taken."""
        plain = [observable for observable in self.program.observables if not observable.is_running]
        known = dict(self.names)
        loads = [*self._load_state(self.loss.carried), *self._load_stopped(known)]
        stopped = {name: _symbol(name) for name in STOPPED if self.program.stops}
        outputs = {
            f"v_{i}": self.loss.expand(one.formula, f"observable {one.name!r}", stopped | self._found(one, known))
            for i, one in enumerate(plain)
        }
        searched = [one for one in plain if self.program.searches_for(one)][:1]
        loads += [line for one in searched for line in self._load_found(one)]
        values = [f"s_{i}" for i in range(len(self.loss.parameters))]
        running, names = iter(self.program.running_rows), iter(outputs)
        rows = [next(running) if one.is_running else None for one in self.program.observables]
        values += [next(names) if row is None else f"state[{row} * LANES + lane]" for row in rows]
        # What the path was before it was last looked at is known of those that are not alive, too.
        unknown = ["dead"] * len(self.loss.parameters) + [
            "dead" if row is None else f"dead & open_{row}" for row in rows
        ]
        ends = [f"open_{row} = ends[{row}] > looked" for row in rows if row is not None]
        # `&`, not `and`: a branch would keep the loop scalar.
        finite = [f"(abs(s_{i}) <= LIMIT)" for i in range(len(self.loss.parameters))]
        portions = [" & ".join(finite[i : i + LONGEST_SUM]) for i in range(0, len(finite), LONGEST_SUM)]
        body = [*loads, f"dead = not ({portions[0]})", *(f"dead = dead | (not ({one}))" for one in portions[1:])]
        body += self._statements(known, outputs)
        body += [
            f"values[{i} * LANES + lane] = NAN if {one} else {value}"
            for i, (one, value) in enumerate(zip(unknown, values, strict=True))
        ]
        lines = [*self._load_constants(), *self.search(searched), *ends, *lanes(body)]
        return self._called("observe", "state, values, scratch, constants, ends, looked", lines)

    def _called(self, name: str, arguments: str, lines: Iterable[str]) -> str:
        """The text of a function that the engine calls, see `interface`."""
        return "\n".join(
            [
                "@called",
                f"def {name}({self._first}{arguments}):",
                "    wide_vectors()",
                "    distinct_arrays()",
                *indent(lines),
                "",
            ]
        )

    def _load_constants(self) -> list[str]:
        names = enumerate(self.program.constants)
        return [f"c_{i} = constants[{i}]" for i, name in names if not name.startswith("population.")]

    def _load_state(self, variables: Sequence[str]) -> list[str]:
        return [f"s_{i} = state[{i} * LANES + lane]" for i in range(len(variables))]

    def _noise(
        self, noise: Mapping[str, Noise], draws: Draws, sample: str, names: dict[str, str], first: int = 0
    ) -> tuple[dict[str, sympy.Expr], list[str]]:
        """Each noise variable as an expression of its deviates and run-time arguments, and the lines of their loads."""
        expressions: dict[str, sympy.Expr] = {}
        loads: list[str] = []
        for name, distribution in noise.items():
            family = distribution.law
            runtime = runtime_arguments(name, distribution)
            values: dict[str, sympy.Expr] = {
                argument: _symbol(f"{name}.{argument}") if f"{name}.{argument}" in runtime else exact(default)
                for argument, default in family.arguments.items()
            }
            for deviate in family.deviates:
                symbol = f"{name}.deviate.{deviate}"
                names[symbol] = f"d_{first + len(loads)}"
                values[deviate] = _symbol(symbol)
                place = deviate_place("deviates", draws, len(loads), sample, first)
                loads.append(self._load_deviate(names[symbol], place, distribution.family, deviate))
            expressions[name] = Formula.parse(family.formula).expression(values)
        return expressions, loads

    def _statements(
        self,
        names: Mapping[str, str],
        outputs: Mapping[str, sympy.Expr],
        operator: str = "=",
        before: Sequence[tuple[sympy.Symbol, sympy.Expr]] = (),
    ) -> list[str]:
        """The lines of given assignments, then of all outputs, with common subexpressions computed once.

        They are made under the names of the text, since SymPy sums in the order of names: so a loss whose parameters
        are renamed has the same bits.
        """
        names = {**names, **{symbol.name: f"r_{i}" for i, (symbol, _) in enumerate(before)}}
        values = [_renamed(sympy.sympify(value), names) for value in (*(v for _, v in before), *outputs.values())]
        temporaries, reduced = sympy.cse(values, sympy.numbered_symbols("t_", real=True), order="none")
        given = [(_symbol(names[symbol.name]), value) for (symbol, _), value in zip(before, reduced, strict=False)]
        printer = KernelPrinter(self.program.dtype)
        assigned = [(symbol.name, "=", value) for symbol, value in _merged(temporaries, given)]
        assigned += [(target, operator, value) for target, value in zip(outputs, reduced[len(before) :], strict=True)]
        lines = [line for one in assigned for line in printer.assignment(*one)]
        self.elementary |= printer.functions
        return lines


def deviate_place(array: str, draws: Draws, index: int, sample: str = "0", first: int = 0) -> str:
    """The text of the place of deviate `index` of a sample; those of its draw begin at row `first`.

    Examples
    --------
    >>> deviate_place("deviates", Draws(("u", "z"), 3), 0, "sample")
    'deviates[(4 + sample * 1) * LANES + lane]'
    """
    row, stride = draws.place(index)
    row += first
    return f"{array}[{row if sample == '0' else f'({row} + {sample} * {stride})'} * LANES + lane]"


def _merged(temporaries: Assignments, given: Assignments) -> Assignments:
    """Temporaries and given assignments in one order: each temporary as soon as its parts are assigned."""
    place = {symbol: i for i, (symbol, _) in enumerate(given, 1)}
    ready: list[Assignments] = [[] for _ in range(len(given) + 1)]
    for symbol, value in temporaries:
        place[symbol] = max((place.get(part, 0) for part in value.free_symbols), default=0)
        ready[place[symbol]].append((symbol, value))
    return [*ready[0], *(one for first, rest in zip(given, ready[1:], strict=True) for one in (first, *rest))]


def _renamed(expression: sympy.Expr, names: Mapping[str, str]) -> sympy.Expr:
    return expression.xreplace({symbol: _symbol(names[symbol.name]) for symbol in expression.free_symbols})


def _symbol(name: str) -> sympy.Symbol:
    return sympy.Symbol(name, real=True)
