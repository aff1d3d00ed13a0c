"""Observables that could hide rare events, found from the formulas of a run.

Suppose that an observable has the same value in all trajectories. Either it has that value in every possible
trajectory, or an event that would change it is rare and has not happened. No sample tells which. The formulas tell
when the first is certain:

- nothing random enters the observable, neither a random start nor the noise of the steps; a parameter that begins at
  zero where the loss has no slope in it, whatever the noise, does not move;
- or all randomness is continuous and enters it through sums and products alone: a polynomial that is constant in some
  trajectories is constant.

If neither holds, the formula may still give bounds of the observable, ``where(x > 3, 1, 0)``, and with them how much a
rare event can change its mean. Noise may also have an outcome that is rare itself, ``bernoulli:1e-6``, and that carries
much of a variance: a sample without this outcome shows a spread, but not the true one.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable, Sequence, Set
from dataclasses import dataclass
from functools import cached_property
from math import inf
from typing import Any

import numpy as np

from sgdsim.formulas.arrays import entries, filled, shape_of
from sgdsim.formulas.formula import Formula
from sgdsim.formulas.names import aliased
from sgdsim.formulas.traits import Traits, bounds, traits
from sgdsim.formulas.vanishing import Nearby, nearby
from sgdsim.formulas.vectors import base_name, gather
from sgdsim.model.assignments import moved_by
from sgdsim.model.data import Data
from sgdsim.model.noise import Noise
from sgdsim.model.observables import STOPPED, Observable
from sgdsim.model.run import Run
from sgdsim.model.states import State, state_coordinates

PART = 0.01
"""Fraction of the fourth central moment of a noise; a rare outcome that contributes less does not matter."""

_MOST_STILL = 16
"""Most parameters at zero of which it is tried whether some have no slope though not all together have none."""

_UNKNOWN = Traits(frozenset())


def attributes(runs: Sequence[Run]) -> dict[str, str | float]:
    """Attributes of a file about the rare events that its observables could hide, for all points of a sweep together.

    Parameters
    ----------
    runs
        Runs of the points, which measure the same quantities.

    Returns
    -------
    dict
        ``certain`` and ``certain_at_start``, comma-separated names of quantities that hide no rare event, at all steps
        and before the first step; ``ranges``, a JSON object with the lowest and the highest possible value by name;
        ``rarest_start`` and ``rarest_noise``, the least probability of an outcome that matters, of a start, and of the
        noise or data of a step; 1 if all are continuous.

    Examples
    --------
    >>> from sgdsim.model.loss import Loss
    >>> from sgdsim.model.optimizers import Optimizer
    >>> from sgdsim.model.recorder import Recorder
    >>> from sgdsim.model.schedules import Schedule
    >>> loss = Loss("x**2/2 + x*z + y**2/2", ("x", "y"), noise={"z": Noise.parse("rademacher")})
    >>> recorder = Recorder(observables=(Observable("rare", "where(x > 3, 1, 0)"),))
    >>> run = Run(loss, Optimizer(), Schedule("0.1"), {"x": 0.0, "y": 1.0}, 100, 10, recorder=recorder)
    >>> attributes([run])  # doctest: +NORMALIZE_WHITESPACE
    {'certain': 'y', 'certain_at_start': 'x, y, rare', 'ranges': '{"rare": [0.0, 1.0]}',
     'rarest_start': 1.0, 'rarest_noise': 0.5}
    """
    found = [_Sources(run) for run in runs]
    names = runs[0].measured
    ranges = {name: [one.range_of(name) for one in found] for name in names}
    known = {name: [one for one in several if one is not None] for name, several in ranges.items()}
    whole = {
        name: [min(low for low, _ in several), max(high for _, high in several)]
        for name, several in known.items()
        if len(several) == len(found)
    }
    return {
        "certain": ", ".join(name for name in names if all(one.is_certain(name) for one in found)),
        "certain_at_start": ", ".join(name for name in names if all(one.is_certain_at_start(name) for one in found)),
        "ranges": json.dumps(whole),
        "rarest_start": min(one.rarest_start for one in found),
        "rarest_noise": min(one.rarest_noise for one in found),
    }


@dataclass(frozen=True, eq=False)
class _Sources:
    """The sources of randomness in a run, and the quantities that depend on them."""

    run: Run

    def is_certain(self, name: str) -> bool:
        """True if a quantity that is the same in some trajectories is the same in all possible ones."""
        found, observable = self._measured[name], self._observables.get(name)
        reached = found.names & self._random
        if not reached:
            return True
        if observable is not None and observable.kind in ("passage", "max"):
            return False
        return self._is_polynomial and not found.rough & self._random

    def is_certain_at_start(self, name: str) -> bool:
        """True if this holds before the first step, when nothing has been accumulated along the trajectories."""
        observable = self._observables.get(name)
        if observable is not None and observable.is_running:
            return True
        found, drawn = self._measured[name], self._drawn_starts
        continuous = not any(_is_discrete(noise) for noise in drawn.values())
        remembered = frozenset[str]().union(*(self._begins[name] for name in found.names & self._begins.keys()))
        names, rough = found.names | remembered, found.rough | remembered
        return not names & drawn.keys() or (continuous and not rough & drawn.keys())

    def range_of(self, name: str) -> tuple[float, float] | None:
        """The lowest and the highest value of an observable over all states; None if it has no bounds."""
        observable, pair = self._observables.get(name), bounds(self._measured[name])
        if observable is None or pair is None or observable.kind in ("passage", "control"):
            return None
        start, stop = observable.window or (0, 1)
        times = stop - start if observable.kind == "sum" else 1
        return times * pair[0], times * pair[1]

    @property
    def rarest_start(self) -> float:
        """The least probability of a value of a random start; 1 for continuous ones."""
        return min((_rarest(noise.atoms()) for noise in self._drawn_starts.values()), default=1.0)

    @property
    def rarest_noise(self) -> float:
        """The least probability of an outcome of the noise of a step, or of a row of data in its batch."""
        loss, drawn = self.run.loss, self._drawn
        laws: list[Sequence[tuple[Any, Any]]] = [one.atoms() for name, one in loss.noise.items() if name in drawn]
        laws += [law.atoms() for name, law in loss.own_columns.items() if name in drawn]
        columns = loss.data.columns if isinstance(loss.data, Data) else {}
        laws += [[(value, 1.0 / len(values)) for value in values] for name, values in columns.items() if name in drawn]
        return min(self.run.optimizer.batch_size * min(map(_rarest, laws), default=1.0), 1.0)

    @cached_property
    def _observables(self) -> dict[str, Observable]:
        return {observable.name: observable for observable in self.run.observables}

    @cached_property
    def _measured(self) -> dict[str, Traits]:
        """Traits of all measured quantities."""
        own = {name: Traits.of_name(name) for name in self.run.loss.parameters}
        return own | {name: traits(aliased(one.formula), self._names(one)) for name, one in self._observables.items()}

    @cached_property
    def _namespace(self) -> dict[str, Any]:
        """Traits and values of the names in formulas about the loss."""
        loss = self.run.loss
        namespace = gather({name: Traits.of_name(name) for name in (*loss.carried, *loss.random)})
        namespace |= gather(loss.constants)
        for name, text in loss.definitions.items():
            parts = (text,) if isinstance(text, str) else text
            values = [traits(part, namespace, vector=True) for part in parts]
            namespace[name] = values[0] if isinstance(text, str) else values
        return namespace

    @cached_property
    def _loss(self) -> Traits:
        text = self.run.loss.formula
        found: Traits = traits(text, self._namespace) if text else Traits.of_number(0.0)
        return found

    @cached_property
    def _rules(self) -> dict[str, Traits]:
        """Traits of the directions, by coordinate."""
        loss, found = self.run.loss, dict[str, Traits]()
        for name, text in loss.direction.items():
            moved = moved_by(name, loss.parameters, "loss.direction")
            parts = [text] if isinstance(text, str) else text
            values = [traits(part, self._namespace, vector=True) for part in parts]
            each = list(itertools.chain(*map(entries, values)))
            found |= dict(zip(moved, each if len(each) == len(moved) else each * len(moved), strict=True))
        return found

    @cached_property
    def _rough(self) -> frozenset[str]:
        """Names that enter a step through anything but sums and products."""
        return self._loss.rough.union(*(rule.rough for rule in self._rules.values()))

    @cached_property
    def _moves(self) -> dict[str, frozenset[str]]:
        """Names that the step of each parameter depends on."""
        parameters = self.run.loss.parameters
        terms = self._loss.terms
        slopes = {name: frozenset[str]().union(*(term for term in terms if name in term)) for name in parameters}
        slopes |= {name: rule.names for name, rule in self._rules.items()}
        slopes |= dict.fromkeys(self._still, frozenset[str]())
        if not self._matrix:
            return slopes
        entries = [self._entry(entry).names for entry in self._matrix]
        together = frozenset[str]().union(*slopes.values(), *entries)
        return dict.fromkeys(parameters, together)

    @cached_property
    def _still(self) -> frozenset[str]:
        """Parameters that begin where the loss has no slope in them, whatever the noise: they stay there.

        Only zero is tried, as of losses that are even in a parameter, and only steps that a slope of zero leaves out.
        """
        run, starts = self.run, self.run.initial
        still = {name for name, start in starts.items() if isinstance(start, int | float) and start == 0.0}
        rule, loss = run.optimizer.rule, run.loss
        if not still or self._matrix or loss.direction or run.optimizer_start or rule.is_random or rule.is_of_matrices:
            return frozenset()
        if self._slope_order(still, still) >= 2.0:
            return frozenset(still)
        if len(still) > _MOST_STILL:
            return frozenset()
        while moving := {name for name in still if self._slope_order({name}, still) < 2.0}:
            still -= moving
        return frozenset(still)

    def _slope_order(self, moved: Set[str], still: Set[str]) -> float:
        """Lowest power by which the loss changes if some of the parameters at zero move away from it."""
        loss = self.run.loss
        known = {name: Nearby(inf) for name in (*loss.carried, *loss.random)}
        known |= {name: Nearby(1.0 if name in moved else inf, 0.0) for name in still}
        namespace: dict[str, Any] = gather(known) | gather(loss.constants)
        for name, text in loss.definitions.items():
            parts = [nearby(part, namespace, vector=True) for part in ((text,) if isinstance(text, str) else text)]
            namespace[name] = parts[0] if isinstance(text, str) else parts
        found: Nearby = nearby(loss.formula, namespace)
        return found.power

    @cached_property
    def _changes(self) -> dict[str, frozenset[str]]:
        """Names that the next value of each parameter and state depends on; those of a state's start count too."""
        remembered = {name: one.names | self._begins[name] for name, one in self._remembered.items()}
        return {**self._moves, **remembered}

    @cached_property
    def _remembered(self) -> dict[str, Traits]:
        """Traits of the formulas of states, by coordinate."""
        return self._of_states(lambda state: aliased(state.formula))

    @cached_property
    def _begins(self) -> dict[str, frozenset[str]]:
        """Names that the start of each state depends on."""
        return {name: one.names for name, one in self._of_states(lambda state: state.start).items()}

    def _of_states(self, text: Callable[[State], str]) -> dict[str, Traits]:
        found = dict[str, Traits]()
        for name, state in self.run.loss.states.items():
            names = Formula.parse(text(state)).names - self._namespace.keys()
            meanings = {one: self._read(one) for one in names}
            value, keys = traits(text(state), {**self._namespace, **meanings}, vector=True), state_coordinates(name)
            found |= dict(zip(keys, entries(value) if shape_of(value) else [value] * len(keys), strict=True))
        return found

    def _read(self, name: str) -> Any:
        """Traits of a name in the formula of a state: the next value of a name is random if its value is."""
        kind, _, rest = name.partition("__")
        if kind == "next":
            return self._namespace[rest]
        return self._slope(rest, with_noise=True) if kind == "gradient" else _UNKNOWN

    def _entry(self, text: str) -> Traits:
        """Traits of an entry of a preconditioner or metric, which may contain quantities of the population loss."""
        meanings = {name: self._meaning(name) for name in Formula.parse(aliased(text)).names}
        found: Traits = traits(aliased(text), {**self._namespace, **meanings})
        return found

    @cached_property
    def _matrix(self) -> list[str]:
        """Entries of the preconditioner or metric."""
        optimizer = self.run.optimizer
        rows = optimizer.preconditioner or optimizer.metric
        return [entry for row in rows for entry in ([row] if isinstance(row, str) else row)]

    @cached_property
    def _drawn_starts(self) -> dict[str, Noise]:
        """Random starts and constants of a trajectory; a grid, or the end of another run, is not random."""
        starts = {**self.run.initial, **self.run.loss.drawn}.items()
        return {name: start for name, start in starts if isinstance(start, Noise) and _varies(start)}

    @cached_property
    def _drawn_of_optimizer(self) -> dict[str, Noise]:
        """Random starts of the optimizer's variables, by coordinate: ``square(u)``."""
        starts = self.run.optimizer_start.items()
        return {name: start for name, start in starts if isinstance(start, Noise) and _varies(start)}

    @cached_property
    def _drawn(self) -> frozenset[str]:
        """Names of the noise variables and columns that differ between the samples of the steps."""
        loss, optimizer = self.run.loss, self.run.optimizer
        if optimizer.rule.population:
            return frozenset()
        rows = 1 if loss.data is None else loss.data.rows
        whole = optimizer.sampling != "replacement" and optimizer.batch_size == rows
        columns = () if (rows == 1 or whole) and not loss.own_columns else loss.columns
        return frozenset({name for name, noise in loss.noise.items() if _varies(noise)} | set(columns))

    @cached_property
    def _random(self) -> frozenset[str]:
        """Names whose value differs between trajectories after some steps."""
        kicked = self.run.loss.parameters if self.run.optimizer.rule.is_random else ()
        pushed = (name.partition("(")[2][:-1] for name in self._drawn_of_optimizer)
        found = {*self._drawn_starts, *self._drawn, *kicked, *pushed}
        while True:
            more = {name for name, names in self._changes.items() if names & found} - found
            if self._watched & found:  # then it is random whether a trajectory goes on or has ended
                more |= {*self.run.loss.carried} - found
            if not more:
                return frozenset(found)
            found |= more

    @cached_property
    def _watched(self) -> frozenset[str]:
        """Names that decide whether a trajectory ends."""
        meanings = ({n: self._meaning(n) for n in one.names} for one in self.run.bounds)
        found = (traits(aliased(one.formula), names) for one, names in zip(self.run.bounds, meanings, strict=True))
        return frozenset[str]().union(*(one.names for one in found))

    @cached_property
    def _is_polynomial(self) -> bool:
        """True if each step is a polynomial in continuous random variables."""
        run = self.run
        drawn = self._drawn_starts | self._drawn_of_optimizer
        noises = [*drawn.values(), *(run.loss.noise[name] for name in self._drawn & run.loss.noise.keys())]
        discrete = any(map(_is_discrete, noises)) or self._drawn & set(run.loss.columns)
        entries = [self._entry(entry).names & self._random for entry in self._matrix]
        remembered = (one.rough & self._random for one in self._remembered.values())
        rough = self._rough & self._random or self._watched & self._random or any(entries) or any(remembered)
        return run.optimizer.rule.linear and not discrete and not rough

    def _names(self, observable: Observable) -> dict[str, Any]:
        """Traits of the names in the formula of an observable."""
        names = Formula.parse(aliased(observable.formula)).names
        return {name: self._meaning(name) for name in names}

    def _meaning(self, name: str) -> Any:
        """Traits of a name in a formula about a state or a step."""
        if name in self._namespace:
            return self._namespace[name]
        kind, _, rest = name.partition("__")
        if kind == "next":
            return _each(self._after, self._meaning(rest))
        if kind in ("gradient", "population_gradient"):
            return self._slope(rest, with_noise=kind == "gradient")
        if name in STOPPED and self.run.stop:
            return Traits(frozenset([self._watched]), self._watched)
        if name in ("loss", "hessian_trace", "hessian_max") or kind == "charge":
            return self._quantity(name)
        return _UNKNOWN  # the learning rate and the number of completed steps

    def _quantity(self, name: str) -> Traits:
        """Traits of the population loss, a number of its Hessian, or a charge: a polynomial if its generator is one."""
        parameters = frozenset(self.run.loss.carried)
        if name == "loss":
            terms = frozenset(term & parameters for term in self._loss.terms)
            return Traits(terms - {frozenset()}, self._loss.rough & parameters)
        rough = parameters if name == "hessian_max" else self._loss.rough & parameters
        if name.startswith("charge"):
            moves = (text for symmetry in self.run.loss.symmetries for text in symmetry.generator.values())
            found = [traits(text, self._namespace, vector=True) for text in moves]
            rough = frozenset[str]().union(*(part.rough for one in found for part in entries(one)))
        return Traits(frozenset([parameters]), rough)

    def _slope(self, base: str, with_noise: bool) -> Any:
        """Traits of the gradient of the batch, or of the population loss, by a parameter or a whole vector."""
        parameters = frozenset(self.run.loss.carried)
        found = {
            name: Traits(frozenset([names if with_noise else names & parameters]), self._rough & names)
            for name, names in self._moves.items()
            if base_name(name) == base
        }
        return gather(found)[base]

    def _after(self, before: Traits) -> Traits:
        """Traits of a value after the step, from those before it."""
        names = frozenset[str]().union(before.names, *(self._changes.get(name, frozenset()) for name in before.names))
        return Traits(frozenset([names]), before.rough)


def _each(function: Callable[[Traits], Traits], value: Any) -> Any:
    return filled(shape_of(value), map(function, entries(value)))


def _atoms(noise: Noise) -> list[Any]:
    return [value for value, share in noise.atoms() if share]


def _rarest(atoms: Sequence[tuple[Any, Any]]) -> float:
    """The least probability among the values that contribute a hundredth or more to the fourth central moment."""
    values, shares = np.array([(float(value), float(share)) for value, share in atoms]).reshape(-1, 2).T
    parts = shares * (values - shares @ values) ** 4
    return float(np.min(shares[(parts > 0.0) & (parts >= PART * parts.sum())], initial=1.0))


def _is_discrete(noise: Noise) -> bool:
    return bool(_atoms(noise))


def _varies(noise: Noise) -> bool:
    atoms = _atoms(noise)
    return len(set(atoms)) > 1 if atoms else noise.cumulant(2) > 0
