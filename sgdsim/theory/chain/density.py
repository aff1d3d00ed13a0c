"""Density and distribution function of one parameter, where continuous noise enters the step affinely."""

from __future__ import annotations

import numpy as np

from sgdsim.base import budget
from sgdsim.formulas.evaluation import evaluate
from sgdsim.prediction import NotApplicable
from sgdsim.theory.chain.operator import MeshLaw
from sgdsim.theory.chain.step import Step
from sgdsim.theory.quadrature.nested import Source, nodes
from sgdsim.theory.quadrature.rules import Level, density

_TARGETS = 64  # points at which a density is computed at once
_NO_DENSITY = (
    "no continuous noise enters the step affinely with a factor that is not random itself, and the law may have no "
    "density; ask for expectations, such as of step(x - 1)"
)


def check_density(step: Step) -> None:
    """Make sure that the stationary law of a step has a density that can be computed.

    Raises
    ------
    NotApplicable
        For two parameters, and where no continuous noise enters the step affinely.
    """
    if len(step.after) > 1:
        raise NotApplicable("a density is computed of one parameter alone; ask for expectations")
    if _smooth_source(step) is None:
        raise NotApplicable(_NO_DENSITY)


def density_after(law: MeshLaw, points: np.ndarray) -> np.ndarray:
    """The density after one step from a law: the law's own density if it is stationary."""
    check_density(law.step)
    found = np.empty(points.size)
    for start in range(0, points.size, _TARGETS):
        budget.check()
        part = slice(start, start + _TARGETS)
        found[part] = law.weights @ _arrival(law.step, law.points, points.ravel()[part], law.level)
    return found.reshape(points.shape)


def distribution_at_nodes(law: MeshLaw) -> tuple[np.ndarray, float]:
    """The distribution function after a step at each node of the mesh, and the probability of the whole mesh.

    The probability should be 1: its difference from 1 is an error.
    """
    mesh, axis = law.mesh, law.mesh.axes[0]
    slope = np.cosh(axis.nodes) if mesh.map.long else np.ones_like(axis.nodes)
    density_here = density_after(law, law.points[:, 0])
    heights = (density_here * slope * mesh.map.matrix[0, 0]).reshape(-1, axis.order)
    places, weights = np.polynomial.legendre.leggauss(axis.order)
    half = np.diff(axis.edges)[:, None] / 2
    series = np.polynomial.legendre.legfit(places, heights.T, axis.order - 1)
    integral = np.polynomial.legendre.legint(series, lbnd=-1)
    within = half * np.polynomial.legendre.legval(places, integral)
    panels = (half * heights * weights).sum(axis=1)
    before = np.append(0.0, np.cumsum(panels)[:-1])[:, None]
    return np.asarray(((before + within) / panels.sum()).ravel()), float(panels.sum())


def _smooth_source(step: Step) -> Source | None:
    """The continuous noise that enters the step affinely, with a factor that is not random itself; None without one."""
    import sympy

    random = {name for source in step.sources for name in source.names}
    for source in step.sources:
        if source.is_discrete or source.samples > 1:
            continue
        variable = sympy.Symbol(source.names[0], real=True)
        slope = step.after[0].diff(variable)
        if slope != 0 and not random & {symbol.name for symbol in slope.free_symbols}:
            return source
    return None


def _arrival(step: Step, points: np.ndarray, targets: np.ndarray, level: tuple[Level, ...]) -> np.ndarray:
    """The probability density of a step from each point to each target, shape (point, target)."""
    import sympy

    source = _smooth_source(step)
    assert source is not None
    assert source.noise is not None
    variable = sympy.Symbol(source.names[0], real=True)
    slope = step.after[0].diff(variable)
    others = [other for other in step.sources if other is not source]
    edges = [edge for edge in step.edges if variable not in edge.free_symbols]
    levels = [fine for fine, other in zip(level, step.sources, strict=True) if other is not source]
    found = nodes(others, edges, step.values(points), levels)
    base, factor = evaluate([step.after[0], slope], {**found.values, variable.name: 0.0})
    shape = np.broadcast_shapes(found.weights.shape, np.shape(base), np.shape(factor))
    shape = (len(points), *shape[1:])
    base, factor, weights = (
        np.broadcast_to(a, shape).reshape(len(points), -1, 1) for a in (base, factor, found.weights)
    )
    with np.errstate(all="ignore"):
        heights = density(source.noise, (targets - base) / factor) / np.abs(factor)
    return np.asarray((weights * np.nan_to_num(heights)).sum(axis=1))
