"""The best schedule for a river in a valley."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from math import log, sqrt

import numpy as np

from sgdsim.model.observables import Observable
from sgdsim.model.run import Recorder, Run
from sgdsim.prediction import Function, Moment, NotApplicable, Prediction, Rival, require
from sgdsim.theory.law import law, row, series
from sgdsim.theory.methods.modes import Mode, modes
from sgdsim.theory.methods.noise_free_path import noise_free_path
from sgdsim.theory.methods.rivers import single_start
from sgdsim.theory.recorded_names import name_of

LOSS = Observable("population_loss", "loss")


@dataclass(frozen=True)
class Design:
    """A river of constant slope in a valley, and the best schedule for it.

    Parameters
    ----------
    curvature, noise
        Curvature ``a`` and noise ``sigma^2`` of the valley.
    slope
        Slope ``g`` of the river at the end.
    peak
        The largest learning rate ``eta_m``.
    steps
        Number of steps of the whole run.

    Examples
    --------
    >>> design = Design(curvature=1.0, noise=1.0, slope=0.02, peak=0.1, steps=600)
    >>> round(design.decay_steps, 1), round(design.final_rate, 7), round(design.closed_form, 6)
    (101.8, 0.0089443, -0.016621)
    """

    curvature: float
    noise: float
    slope: float
    peak: float
    steps: int

    @property
    def contrast(self) -> float:
        """The ratio ``s`` of the peak to the rate at the end."""
        return max(1.0, sqrt(self.curvature * self.noise * self.peak / (2.0 * self.slope**2)))

    @property
    def decay_steps(self) -> float:
        """Length of the decay in steps, unless the run is shorter."""
        return (self.contrast - 1.0) / (self.curvature * self.peak)

    @property
    def final_rate(self) -> float:
        """The learning rate at the end of the decay."""
        return self.peak / self.contrast

    @property
    def text(self) -> str:
        """The schedule as the text of an option."""
        return f"plateau_harmonic:{self.peak:.6g},{self.curvature:.6g},{min(self.decay_steps, self.steps):.6g}"

    @property
    def rates(self) -> np.ndarray:
        """The best learning rates to leading order."""
        left = self.steps - np.arange(self.steps)
        late = np.maximum(0.0, min(self.decay_steps, self.steps) - left)
        return np.asarray(self.peak / (1.0 + self.curvature * self.peak * late))

    @property
    def closed_form(self) -> float:
        """Loss at the end under `rates`, less that of the river at the start, to leading order."""
        s, plateau = self.contrast, self.steps - self.decay_steps
        river = self.slope**2 * (self.peak * plateau + log(s) / self.curvature)
        fast = self.noise * self.peak * (s - 0.5) / (2.0 * s**2)
        return fast - river

    def loss(self, rates: np.ndarray, start: float | None = None) -> float:
        """Exact loss at the end under any rates, less that of the river at the start.

        Parameters
        ----------
        rates
            The learning rate of each step.
        start
            Second moment of x at the start; None for that at rest at the peak.
        """
        v = self._rest if start is None else start
        for rate in rates:
            v = (1.0 - rate * self.curvature) ** 2 * v + rate**2 * self.noise
        return float(self.curvature * v / 2.0 - self.slope**2 * np.sum(rates))

    @property
    def _rest(self) -> float:
        return self.peak * self.noise / (self.curvature * (2.0 - self.peak * self.curvature))

    def alternatives(self) -> dict[str, np.ndarray]:
        """Other schedules with the same peak, by name."""
        left = self.steps - np.arange(self.steps, dtype=float)
        length = max(min(self.decay_steps, float(self.steps)), 1.0)
        ramp = np.minimum(1.0, left / length)
        return {
            "WSD, linear decay to the same end over as many steps": self.final_rate
            + (self.peak - self.final_rate) * ramp,
            "WSD, linear decay to zero over the last half": self.peak * np.minimum(1.0, 2.0 * left / self.steps),
            "cosine to zero": self.peak * (1.0 + np.cos(np.pi * (1.0 - left / self.steps))) / 2.0,
            "linear to zero": self.peak * left / self.steps,
            "harmonic from the first step": self.peak / (1.0 + self.curvature * self.peak * (self.steps - left)),
            "constant": np.full(self.steps, self.peak),
        }


def design_for(run: Run) -> Design:
    """The best design for a run's river, valley, steps and largest rate; the slope is that at the river's end.

    Raises
    ------
    NotApplicable
        For a loss that is not one valley of constant curvature beside one river without noise.
    """
    mode, river = _valley_and_river(run)
    a, noise, peak = mode.curvature, mode.noise_variance, float(mode.rates.max())
    slope = abs(_slope(run, river, noise_free_path(run, [river])[river][-1]))
    for _ in range(200):
        require(slope > 0, "the river has no slope where it ends")
        design = Design(a, noise, slope, peak, run.steps)
        y = single_start(run, river)
        for rate in design.rates:
            y -= rate * _slope(run, river, y)
        new = abs(_slope(run, river, y))
        if abs(new - slope) <= 1e-12 * slope:
            break
        slope = (new + slope) / 2.0
    return design


def _valley_and_river(run: Run) -> tuple[Mode, str]:
    found = modes(run)
    require(
        len(run.loss.parameters) == 2 and len(found) == 1 and not (found[0].adiabatic or found[0].decay),
        "speaks of one valley of constant curvature beside a river, without weight decay",
    )
    (river,) = set(run.loss.parameters) - {found[0].parameter}
    gradient = run.loss.gradient[run.loss.parameters.index(river)]
    fast = run.loss.symbols[found[0].parameter]
    moved = gradient.free_symbols & {fast, *(run.loss.symbols[name] for name in run.loss.random)}
    require(not moved, "the river is moved by the valley, or by noise")
    return found[0], river


def _slope(run: Run, river: str, y: float) -> float:
    from sgdsim.theory.methods.gradient_flow import along

    gradient = run.loss.gradient[run.loss.parameters.index(river)]
    theta = np.array([y if name == river else 0.0 for name in run.loss.parameters])
    return along(run, gradient, theta)


def exact_loss(run: Run) -> float:
    """Mean of the population loss at the end of a run."""
    from sgdsim.theory.methods.gradient_flow import along

    mode, river = _valley_and_river(run)
    single_start(run, river)
    end = float(noise_free_path(run, [river])[river][-1])
    theta = np.array([end if name == river else mode.centre for name in run.loss.parameters])
    return along(run, run.loss.population, theta) + mode.fast_loss(run.steps)[0]


def _records(run: Run) -> Recorder:
    _valley_and_river(run)
    return Recorder(observables=(LOSS,))


def _across(runs: Sequence[Run]) -> Iterator[Prediction]:
    """Rows on the loss by which every other schedule of a sweep exceeds the best."""
    families: dict[str, dict[int, float]] = {}
    best: dict[str, int] = {}
    for point, run in enumerate(runs):
        with suppress(NotApplicable):  # the reason is given at the point itself
            exact, design, family = exact_loss(run), design_for(run), series(run)
            families.setdefault(family, {})[point] = exact
            if np.allclose(run.schedule.rates(run.steps), design.rates, rtol=1e-4):
                best[family] = point
    for family, losses in families.items():
        if family in best:
            least = best[family]
            yield from (_excess(runs, i, least, losses[i] - losses[least]) for i in losses if i != least)


@law(
    "best-schedule",
    "the best schedule for a river in a valley, and what others lose",
    source="re-derived; a decay like 1/t is claimed in arXiv:2505.10559",
    holds="a river in a valley of constant curvature, under any schedule",
    records=_records,
    across=_across,
)
def best_schedule(run: Run) -> Iterator[Prediction]:
    """The best schedule for a river in a valley: a plateau, then harmonic decay. Leading order in eta*a.

    Minimise the loss at the end, ``c(y_N) + a*v_N/2``, where the river runs as ``dy = -eta*c' dt`` under a cap ``eta
    <= eta_m``, and the valley cools as in cooling. By Pontryagin's principle, in continuous time, wherever the cap is
    not active ``d eta/dt = -a*eta^2`` for any shape of the river, so that after t_1

        eta = eta_m/(1 + a*eta_m*(t - t_1)),    N - t_1 = (s - 1)/(a*eta_m),    s = sqrt(a*sigma^2*eta_m/(2*g^2)),

    with ``g = |c'(y_N)|``. The decay is as long whatever N is, and ends at ``eta_m/s``, not at zero. For s <= 1 there
    is none. In the decay the river gains ``g^2*ln(s)/a``; the fast loss that is left is ``sigma^2*eta_m*(s -
    1/2)/(2*s^2)``.

    The loss of any schedule is exact, by the recursion of cooling and the noise-free river, where the curvature is
    constant and the river has no noise; the best schedule of the discrete steps is found by an optimiser over all
    rates.

    That the best decay is about 1/t is claimed in arXiv:2505.10559; the trade-off is re-derived. Neglected are the
    entropic force, other curvatures, and terms of order ``eta_m*a``.
    """
    exact, mode, design = exact_loss(run), _valley_and_river(run)[0], design_for(run)
    best = np.allclose(run.schedule.rates(run.steps), design.rates, rtol=1e-4)
    text = f"s = {design.contrast:.4g}, decay over {design.decay_steps:.4g} steps to {design.final_rate:.4g}"
    yield row(
        Moment("mean", name_of(run, LOSS), run.steps),
        exact,
        "mean(loss)",
        resolution=0.01 * mode.fast_loss(run.steps)[0],
        conditions=f"best schedule to leading order: {text}; {mode.conditions}",
        rival=Rival("closed form", exact - design.loss(design.rates) + design.closed_form) if best else None,
    )


def _excess(runs: Sequence[Run], point: int, best: int, excess: float) -> Prediction:
    own, least = (Moment("mean", name_of(runs[one], LOSS), runs[one].steps, point=one) for one in (point, best))
    return row(
        Function("difference", np.subtract, (own, least)),
        excess,
        f"excess loss over {runs[best].schedule.text}",
        resolution=0.05 * abs(excess),
        point=point,
    )
