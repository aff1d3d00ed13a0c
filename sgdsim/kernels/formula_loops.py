"""The functions of a program as loops over the entries of its arrays, see `array_functions`."""

from __future__ import annotations

from sgdsim.kernels.array_functions import ArrayFunctions
from sgdsim.kernels.array_text import each_row, loop
from sgdsim.kernels.formula_functions import FormulaFunctions
from sgdsim.kernels.pasted import indent, lanes
from sgdsim.kernels.program import Program


class FormulaLoops(FormulaFunctions):
    """Writer of the generated functions of one program as loops over arrays, see `array_functions`."""

    def __init__(self, program: Program, *, direct: bool) -> None:
        super().__init__(program, direct=direct)
        self.arrays = ArrayFunctions(program, self.layout)
        self.text = self.arrays.text

    def functions(self) -> list[str]:
        """The texts of all functions that depend on the program."""
        self.scratch_rows = 1
        texts = super().functions()
        self.scratch_rows = max(self.scratch_rows, self.arrays.rows)
        return texts

    def _initial_state(self) -> str:
        lines = self.arrays.initial_state()
        first, last = len(self.loss.carried), len(self.state)
        if last > first:
            lines += each_row(last - first, [f"state[({first} + i) * LANES + lane] = REAL(0.0)"])
        running = self._start_running()
        lines += lanes(running) if running else []
        return self._called("initial_state", "state, deviates, scratch, arguments", [*lines, *self._draw_data()])

    def _update(self) -> str:
        arguments = "state, deviates, kicks, rows, data, path, scratch, table, constants"
        return self._called("update", arguments, [*self.arrays.load_shared(), *self.arrays.update()])

    def _accumulate(self) -> str:
        lines: list[str] = []
        for i, observable in enumerate(self.program.running):
            if self.arrays.reads(observable):
                taken = lanes(["share = scratch[lane]", *self._take_share(i, observable)])
                body = [*self.search([observable]), *self.arrays.share(observable), *taken]
            else:
                body = [*self._load_constants(), *self._run(i, observable, dict(self.names))]
            lines += [f"if running == {i}:", *indent(body)]
        arguments = "running, completed, part, state, deviates, rows, data, path, weights, scratch, table, constants"
        return self._called("accumulate", arguments, [*self.arrays.load_shared(), *lines])

    def _observe(self) -> str:
        n, observables = len(self.loss.parameters), self.program.observables
        rows = {observable.name: n + k for k, observable in enumerate(observables)}
        plain = [one for one in observables if not one.is_running]
        of_loss = [one for one in plain if not self.arrays.reads(one)]
        lines = [
            *loop((), ["scratch[lane] = REAL(0.0)"]),
            *each_row(n, ["scratch[lane] = scratch[lane] if abs(state[i * LANES + lane]) <= LIMIT else REAL(1.0)"]),
            *each_row(n, ["values[i * LANES + lane] = state[i * LANES + lane]"]),
            *self.search([one for one in plain if self.program.searches_for(one)][:1]),
            *self.arrays.observe([one for one in plain if one not in of_loss], rows),
        ]
        if of_loss:
            names = dict(self.names)
            outputs = {
                f"values[{rows[one.name]} * LANES + lane]": self.loss.expand(
                    one.formula, f"observable {one.name!r}", self._found(one, names)
                )
                for one in of_loss
            }
            searched = [one for one in of_loss if self.program.searches_for(one)][:1]
            loads = [line for one in searched for line in self._load_found(one)]
            body = [*self._load_state(self.loss.carried), *loads, *self._statements(names, outputs)]
            lines += [*self._load_constants(), *lanes(body)]
        lines += each_row(
            len(self.program.observable_names),
            ["values[i * LANES + lane] = values[i * LANES + lane] if scratch[lane] < REAL(0.5) else NAN"],
        )
        for observable, row in zip(self.program.running, self.program.running_rows, strict=True):
            if observable.name in rows:
                known = f"(scratch[lane] < REAL(0.5)) | (ends[{row}] <= looked)"
                taken = (
                    f"values[{rows[observable.name]} * LANES + lane] = state[{row} * LANES + lane] if {known} else NAN"
                )
                lines += lanes([taken])
        return self._called("observe", "state, values, scratch, constants, ends, looked", lines)
