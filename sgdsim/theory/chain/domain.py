"""The part of the state space where a chain lives, its coordinates, and how finely it is computed there."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from sgdsim.formulas.evaluation import evaluate, kinks
from sgdsim.model.noise import Noise
from sgdsim.prediction import NotApplicable
from sgdsim.theory.chain.mesh import Map, Mesh, panelled
from sgdsim.theory.chain.operator import SolvedMesh, solve_mesh
from sgdsim.theory.chain.pilot import spread_of
from sgdsim.theory.chain.settings import (
    CROWDED,
    EDGE,
    EPSILON,
    LEAK,
    LEAST,
    LONGEST,
    LOST,
    PATIENCE,
    UNBOUNDED,
    WIDENED,
    WIDEST,
)
from sgdsim.theory.chain.step import Step
from sgdsim.theory.quadrature.nested import Source
from sgdsim.theory.quadrature.rules import Level

if TYPE_CHECKING:
    import sympy


@dataclass(frozen=True, eq=False)
class Domain:
    """A box of the state space, in the coordinates of its mapping.

    The breaks are pairs of a parameter's number and a value of it at which a panel must end.
    """

    box: tuple[tuple[float, float], ...]
    mapping: Map
    breaks: tuple[tuple[int, float], ...]

    @property
    def width(self) -> float:
        """The largest extent of the box."""
        return max(high - low for low, high in self.box)

    def widened(self, share: float) -> Domain:
        """The domain with a share of its width more on either side."""
        box = tuple((low - share * (high - low), high + share * (high - low)) for low, high in self.box)
        return replace(self, box=box)

    def mesh(self, panels: int, order: int) -> Mesh:
        """The mesh of this domain with a number of panels in each direction."""
        return panelled(self.box, self.mapping, panels, order, self.breaks)


def find_domain(step: Step, pilot: np.ndarray) -> Domain:
    """The domain at whose edge there is hardly any probability, found from the states of a trial.

    Raises
    ------
    NotApplicable
        If there is none: the chain collapses, escapes, or diffuses without bound.
    """
    domain = _first_domain(step, pilot)
    return _of_one(step, domain) if pilot.shape[1] == 1 else _of_two(step, domain)


def _of_one(step: Step, domain: Domain) -> Domain:
    """A domain of one parameter, widened or narrowed until there is next to no probability at its edge."""
    level = noise_levels(step, domain, 0)
    first = domain.width
    for trial in range(60):
        solved = solve_mesh(step, domain.mesh(20, 10), level)
        side = _adapted(solved, domain.box[0])
        if side == domain.box[0]:
            return domain
        if trial > PATIENCE and solved.mesh.edge_share(solved.weights).max() > CROWDED:
            raise NotApplicable(UNBOUNDED)
        domain = replace(domain, box=(side,))
        if not domain.mapping.long and domain.width > WIDEST:
            domain = _long(domain)
            first = domain.width
        elif domain.mapping.long and domain.width > LONGEST:
            return domain
        elif domain.width < 1e-6 * first:
            raise NotApplicable("the chain collapses onto a point; evolve() gives its law after so many steps")
        elif domain.width > 1e3 * first:
            raise NotApplicable(UNBOUNDED)
    raise NotApplicable(UNBOUNDED)


def _adapted(solved: SolvedMesh, side: tuple[float, float]) -> tuple[float, float]:
    """Bounds that are wider if there is probability at an edge, and narrower if the law fills few panels."""
    (axis,) = solved.mesh.axes
    law = np.abs(solved.weights * solved.mesh.growth)
    # At an edge from where the chain hardly returns, rounding hides smaller probabilities.
    limit = min(EDGE + 100 * EPSILON / solved.gap, LEAST)
    ((left, right),) = solved.mesh.edge_share(law) > limit
    low, high = side
    wider = 0.15 * (high - low)
    if left or right:
        return low - wider if left else low, high + wider if right else high
    panels = law.reshape(-1, axis.order).sum(axis=1)
    held = np.flatnonzero(panels > limit * 1e-4 * panels.sum())
    if len(held) < 0.4 * len(panels):
        first, last = max(held[0] - 1, 0), min(held[-1] + 2, len(axis.edges) - 1)
        return float(axis.edges[first]), float(axis.edges[last])
    return side


def _of_two(step: Step, domain: Domain) -> Domain:
    """A domain of two parameters, widened until a step hardly leaves it, or as rarely as the mesh can tell."""
    before, mesh = np.inf, (4, 6) if step.edges or domain.breaks else (5, 8)  # kinks take many nodes: a coarser mesh
    for _ in range(WIDENED):
        solved = solve_mesh(step, domain.mesh(*mesh), noise_levels(step, domain, 0))
        leak = abs(float(solved.weights @ solved.outside))
        if leak < LEAK or leak > before / 3:
            break
        domain, before = domain.widened(0.12), leak
    if solved.mesh.edge_share(solved.weights).max() > 0.3 or leak > LOST:
        raise NotApplicable(UNBOUNDED)
    return domain


def _first_domain(step: Step, pilot: np.ndarray) -> Domain:
    low, high = pilot.min(axis=0), pilot.max(axis=0)
    if pilot.shape[1] == 1:
        matrix = np.diag(spread_of(pilot))
        centre = np.median(pilot, axis=0)
        breaks = state_breaks(step, float(low[0] - 5 * (high - low)[0]), float(high[0] + 5 * (high - low)[0]))
    else:
        centre = pilot.mean(axis=0)
        matrix = np.linalg.cholesky(np.cov(pilot.T) + 1e-14 * np.diag(pilot.var(axis=0)))
        breaks = axis_breaks(step)
        if breaks:
            matrix = np.diag(pilot.std(axis=0))
    mapping = Map(centre, matrix)
    inside = mapping.inwards(list(pilot.T))
    box = tuple((float(v.min() - 0.3 * np.ptp(v)), float(v.max() + 0.3 * np.ptp(v))) for v in inside)
    return Domain(box, mapping, breaks)


def _long(domain: Domain) -> Domain:
    """A domain of one parameter in the inverse hyperbolic sine of its coordinate."""
    mapping = replace(domain.mapping, long=True)
    ((low, high),) = domain.box
    return replace(domain, mapping=mapping, box=((float(np.arcsinh(low)), float(np.arcsinh(high))),))


def state_breaks(step: Step, low: float, high: float) -> tuple[tuple[int, float], ...]:
    """Values of the only parameter at which P f has a kink.

    They are the kinks of the step at noise that is not smoothed: discrete values, and kinks of a noise's density.
    """
    symbol = step.run.loss.theta[0]
    found: set[float] = set()
    for edge in kinks(step.after, symbol):
        for at in _singular(step.sources, {s.name for s in edge.free_symbols}):
            found |= set(sign_changes(edge, symbol.name, {**step.known, **at}, low, high))
    return tuple((0, value) for value in sorted(found)[:_MOST_BREAKS])


_MOST_BREAKS = 12  # kinks at which panels end


def _singular(given: Sequence[Source], used: set[str]) -> list[dict[str, float]]:
    """Values of the random variables at which an edge makes a kink that no noise smooths; none if they are too many."""
    choices: list[list[dict[str, float]]] = []
    for source in given:
        if not used & set(source.names):
            continue
        if source.noise is None:
            assert source.table is not None
            choices.append([dict(zip(source.names, row, strict=True)) for row in source.table.tolist()])
        else:
            choices.append([{source.names[0]: value} for value in _singularities(source.noise)])
    if np.prod([len(choice) for choice in choices]) > _MOST_BREAKS:
        return []
    return [{k: v for part in parts for k, v in part.items()} for parts in itertools.product(*choices)]


def _singularities(noise: Noise) -> list[float]:
    if noise.atoms():
        return [float(value) for value, _ in noise.atoms()]
    return {
        "laplace": [noise.arguments[0]],
        "uniform": list(noise.arguments),
        "exponential": [-noise.arguments[0]],
    }.get(noise.family, [])


def axis_breaks(step: Step) -> tuple[tuple[int, float], ...]:
    """Kinks of the step that lie at a value of one of two parameters: pairs of its number and the value."""
    theta = step.run.loss.theta
    found: set[tuple[int, float]] = set()
    for number, symbol in enumerate(theta):
        for edge in kinks(step.after, symbol):
            names = {s.name for s in edge.free_symbols}
            if theta[1 - number] not in edge.free_symbols and not any(names & set(s.names) for s in step.sources):
                found |= {(number, root) for root in sign_changes(edge, symbol.name, step.known, -1e3, 1e3)}
    return tuple(sorted(found)[:_MOST_BREAKS])


def sign_changes(edge: sympy.Expr, name: str, values: Mapping[str, float], low: float, high: float) -> list[float]:
    """Places at which an expression changes its sign: found between 400 points of an interval, then bisected."""

    def at(x: Any) -> Any:
        return np.broadcast_to(evaluate([edge], {**values, name: x})[0], np.shape(x))

    grid = np.linspace(low, high, 401) + 1e-7 * (high - low)
    signs = at(grid) > 0
    place = np.flatnonzero(signs[1:] != signs[:-1])
    left, right = grid[place], grid[place + 1]
    for _ in range(80):
        middle = (left + right) / 2
        same = (at(middle) > 0) == signs[place]
        left, right = np.where(same, middle, left), np.where(same, right, middle)
    found = (left + right) / 2
    return [float(x) if abs(x) > 1e-15 * (high - low) else 0.0 for x in found]


def noise_levels(step: Step, domain: Domain, fineness: int) -> tuple[Level, ...]:
    """Levels of the quadrature over each source of noise, by fineness.

    Gauss rules serve where functions are smooth; panels where they have kinks, or where tails are heavy.
    """
    edges = [*step.edges, *(step.after[parameter] for parameter in {number for number, _ in domain.breaks})]
    later: set[str] = set()
    kinked: set[str] = set()
    for source in reversed(step.sources):  # an edge needs panels in the last source that it depends on
        used = [edge for edge in edges if set(source.names) & {symbol.name for symbol in edge.free_symbols}]
        fresh = [edge for edge in used if not later & {symbol.name for symbol in edge.free_symbols}]
        if not source.is_discrete:
            later |= set(source.names)
            if fresh or _is_rough(step, source, domain.mapping.long):
                kinked |= set(source.names)
    several = min(sum(not source.is_discrete for source in step.sources), 4)
    if not several:
        return tuple(Level(1) for _ in step.sources)
    smooth = ((24, 32, 48, 64), (10, 14, 18, 24), (6, 8, 10, 12), (4, 5, 6, 7))[several - 1][fineness]
    fine = several - 1 if len(step.after) == 1 else max(several - 1, 2)
    panel = ((8, 12, 16, 20), (6, 8, 10, 12), (4, 5, 6, 7), (3, 4, 5, 6))[fine][fineness]
    return tuple(Level(panel, 1) if set(source.names) & kinked else Level(smooth) for source in step.sources)


def _is_rough(step: Step, source: Source, long: bool) -> bool:
    """True if the noise has heavy tails, or if a narrow range of it throws a state far out to the middle."""
    import sympy

    if source.noise is not None and source.noise.family == "student_t":
        return True
    variable = sympy.Symbol(source.names[0], real=True)
    factors = {symbol for after in step.after for symbol in after.diff(variable).free_symbols}
    return long and bool(factors & set(step.run.loss.theta))


def panels_and_order(step: Step, fineness: int) -> tuple[int, int]:
    """The number of panels of a coordinate and the order of their polynomials, by fineness."""
    if len(step.after) == 1:
        return (24, 48, 72)[fineness], 10
    return ((4, 8), (5, 8), (7, 8))[fineness]
