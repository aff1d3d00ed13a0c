"""SignSGD: with noise, without, and the entropy that is left."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import suppress
from functools import partial
from typing import Any

import numpy as np

from sgdsim.formulas.expansion import bounded
from sgdsim.model.noise import Noise
from sgdsim.model.observables import Observable, late
from sgdsim.model.run import Recorder, Run
from sgdsim.prediction import (
    Correlation,
    Distance,
    Function,
    Moment,
    NotApplicable,
    Prediction,
    Rival,
    require,
    stored,
)
from sgdsim.theory.law import at_enough_values, law, ratio_row, row, series
from sgdsim.theory.methods.directions import number
from sgdsim.theory.methods.mode_rows import check_forgotten, mode_losses, stationary_rows
from sgdsim.theory.methods.modes import Mode, constant_rate, steady_modes
from sgdsim.theory.recorded_names import label_of, name_of


def _check_signsgd(run: Run) -> None:
    """Refuse another optimizer, and weight decay."""
    require(
        run.optimizer.name == "signsgd" and not run.optimizer.decay,
        f"holds for signsgd without weight decay, the optimizer is {run.optimizer.name}",
    )


def _valleys(run: Run) -> list[tuple[str, float]]:
    """Parameters with a gradient ``a*x`` and nothing else, and their curvatures."""
    _check_signsgd(run)
    loss = run.loss
    fixed = set(loss.symbols.values()) - set(loss.theta) - {loss.symbols[name] for name in loss.random}
    found = []
    for name, symbol, gradient in zip(loss.parameters, loss.theta, loss.gradient, strict=True):
        slope = bounded(gradient / symbol).cancel()
        if slope.free_symbols <= fixed and (curvature := number(run.loss, slope)) > 0:
            found.append((name, curvature))
    require(found, "no parameter has a gradient a*x without noise")
    return found


def _fast_loss(name: str, curvature: float) -> Observable:
    return Observable(f"fast_loss_{label_of(name)}", f"{curvature / 2.0!r}*{name}**2")


def _signsgd_noiseless_records(run: Run) -> Recorder:
    return Recorder(observables=tuple(_fast_loss(*one) for one in _valleys(run)), snapshots=(run.steps,))


@law(
    "signsgd-noiseless",
    "SignSGD without noise: an orbit of two points with a uniform phase",
    source="re-derived; a steady state of sign descent is quoted in arXiv:2505.10559",
    holds="SignSGD in a valley without noise, at a constant rate",
    records=_signsgd_noiseless_records,
)
def signsgd_noiseless(run: Run) -> Iterator[Prediction]:
    """SignSGD without noise. Exact.

    In a valley x comes down by eta a step, and then alternates between two points that are eta apart. A start that is
    uniform over whole multiples of ``eta`` to both sides makes the phase of this orbit uniform,

        x ~ U(-eta, eta),    <x^2> = eta^2/3,    <U> = a*eta^2/6 for U = a*x^2/2:

    there is no equipartition. Each orbit has the entropy ln 2.

    Re-derived.
    """
    rate, steps = constant_rate(run), run.steps
    for name, curvature in _valleys(run):
        reach = _reach(run, name, rate)
        require(not reach > rate * steps, f"{name} starts up to {reach:g} away, farther than {steps} steps go")
        conditions = f"{name}: uniform phase, a = {curvature:g}"
        fast, scale = name_of(run, _fast_loss(name, curvature)), 0.01 * rate / np.sqrt(3.0)
        yield row(Moment("mean", name, steps), 0.0, resolution=scale, conditions=conditions)
        yield row(Moment("variance", name, steps), rate**2 / 3.0, conditions=conditions)
        yield row(Moment("mean", fast, steps), curvature * rate**2 / 6.0, conditions=conditions)
        if steps in run.recorder.snapshots:
            yield row(Distance(name, steps, partial(_uniform_cdf, rate)), 0.0, conditions=conditions)


def _reach(run: Run, name: str, rate: float) -> float:
    start = run.initial[name]
    if not (isinstance(start, Noise) and start.family == "uniform"):
        raise NotApplicable(f"{name} does not start with a uniform phase: run.initial, uniform over multiples of eta")
    low, high = start.arguments
    require(
        all(abs(end / rate - round(end / rate)) <= 1e-9 for end in (low, high)),
        f"{name} starts between {low:g} and {high:g}, not multiples of the learning rate {rate:g}",
    )
    return max(abs(low), abs(high))


@stored
def _uniform_cdf(rate: float, values: np.ndarray) -> np.ndarray:
    return np.clip((np.asarray(values) / rate + 1.0) / 2.0, 0.0, 1.0)


_PHASES = 64  # phases of the lattice over which an average is taken: the trapezoidal rule for a periodic function


_REACH = 14.0  # displacement, in widths of the noise, beyond which the sign is certain, or where the chain never is


_LEADING_RESOLUTION = 0.02  # resolution of the ratio to leading order: Cauchy noise adds 0.04 at eta*a/s = 0.05


def distribution(noise: Any) -> Any:
    """The distribution of the noise as SciPy's; a number stands for normal noise of that standard deviation."""
    from scipy import stats

    return stats.norm(scale=noise) if isinstance(noise, float | int) else noise


def lattice_law(rate: float, curvature: float, noise: Any, phase: float) -> tuple[np.ndarray, np.ndarray]:
    """The points of the lattice ``phase + eta*Z`` that matter, in order, and their stationary probabilities.

    Parameters
    ----------
    rate, curvature
        The learning rate eta and the curvature a.
    noise
        Symmetric noise, as `distribution` takes it.
    phase
        The phase of the lattice.

    Examples
    --------
    >>> points, weights = lattice_law(1.0, 1.0, 0.5, 0.0)
    >>> points[weights > 0.01], weights[weights > 0.01].round(4)
    (array([-1.,  0.,  1.]), array([0.25  , 0.4886, 0.25  ]))
    """
    noise = distribution(noise)
    most = int(np.ceil(_REACH * noise.ppf(0.84) / (curvature * rate))) + 3
    points = phase + rate * np.arange(-most, most + 1)
    u = curvature * points
    steps = noise.logcdf(-u[:-1]) - noise.logcdf(u[1:])
    # Summed from the middle outwards: with bounded noise, probabilities far out are zero.
    logs = np.concatenate([-np.cumsum(steps[:most][::-1])[::-1], [0.0], np.cumsum(steps[most:])])
    weights = np.exp(logs - logs.max())
    return points, weights / weights.sum()


def parity_moments(rate: float, curvature: float, noise: Any, phase: float) -> tuple[float, float]:
    """Mean and variance on the sublattice ``phase + 2*eta*Z``, where a whole ensemble is at one time.

    Examples
    --------
    >>> round(parity_moments(2.0, 1.0, 1.0, 0.0)[1], 4), round(mixed_variance(2.0, 1.0, 1.0), 4)
    (0.364, 2.1415)
    """
    points, weights = lattice_law(rate, curvature, noise, phase)
    middle = len(points) // 2
    points, weights = points[middle % 2 :: 2], weights[middle % 2 :: 2]
    mean = float(np.average(points, weights=weights))
    return mean, float(np.average((points - mean) ** 2, weights=weights))


def mixed_variance(rate: float, curvature: float, noise: Any) -> float:
    """Variance of an ensemble in which all phases of the lattice are mixed uniformly.

    Examples
    --------
    >>> from scipy import stats
    >>> round(mixed_variance(0.02, 1.0, 1.0), 7), round(mixed_variance(0.02, 1.0, stats.cauchy()), 6)
    (0.0126118, 0.015952)
    """
    phases = 2.0 * rate * np.arange(_PHASES) / _PHASES
    squares = [sum(m * m + v for m, v in [parity_moments(rate, curvature, noise, phase)]) for phase in phases]
    return float(np.mean(squares))


def leading_variance(rate: float, curvature: float, noise: Any) -> float:
    """The variance to leading order, ``eta/(4*a*f(0))``; for normal noise it is ``sqrt(pi/8)*eta*sigma/a``.

    Examples
    --------
    >>> round(leading_variance(0.1, 1.0, 1.0), 6)
    0.062666
    """
    return float(rate / (4.0 * curvature * distribution(noise).pdf(0.0)))


def _noise(mode: Mode) -> Any:
    """The distribution of the gradient noise of a mode.

    Raises
    ------
    NotApplicable
        For noise that is not known to be symmetric, batches of noise that is not normal, and sums of several noises.
    """
    from scipy import stats

    drawn = {name: mode.run.loss.noise[name] for name in mode.direction.couplings}
    if mode.has_normal_noise and not any(noise.cumulant(1) for noise in drawn.values()):
        return distribution(mode.sigma)
    require(
        len(drawn) == 1 and mode.run.optimizer.batch_size == 1,
        "noise that is not normal: holds for one of it, and batches of one",
    )
    ((name, noise),) = drawn.items()
    scale = abs(number(mode.run.loss, mode.direction.couplings[name]))
    match noise.family, noise.arguments:
        case "uniform", (low, high) if low == -high:
            return stats.uniform(-scale * high, 2.0 * scale * high)
        case "laplace", (mean, width) if mean == 0:
            return stats.laplace(scale=scale * width)
        case "student_t", (dof,):
            return stats.t(dof, scale=scale)
    raise NotApplicable(f"holds for symmetric normal, uniform, laplace and student_t noise, {name} is {noise}")


def cusp(rate: float, curvature: float, noise: Any) -> float:
    """The relative amount by which the cusp of Laplace noise raises the variance; 0 for other noise.

    Examples
    --------
    >>> from scipy import stats
    >>> round(cusp(0.02, 1.0, stats.laplace()), 4), cusp(0.02, 1.0, 1.0)
    (0.0798, 0.0)
    """
    noise = distribution(noise)
    has_one = noise.dist.name == "laplace"
    return float(np.sqrt(2.0 * rate * curvature * noise.pdf(0.0) / np.pi)) if has_one else 0.0


def _pull(mode: Mode) -> Observable:
    """The observable ``x*s``, averaged over late times, as in a single step it is mostly the noise of the sign."""
    name = mode.parameter
    return late(
        Observable(f"{label_of(name)}_times_sign", f"{name}*({name} - next({name}))/learning_rate"), mode.run.steps
    )


def _late_loss(mode: Mode) -> Observable:
    return late(mode.direction.fast_loss(mode.run.loss), mode.run.steps)


def _signsgd_records(run: Run) -> Recorder:
    found = _modes(run)
    if not any(_is_mixed(mode, constant_rate(run)) for mode in found):
        return mode_losses(run)
    pulls = () if "learning_rate" in run.loss.namespace_names else tuple(map(_pull, found))
    return mode_losses(run, *pulls, *map(_late_loss, found), snapshots=(run.steps - 1, run.steps))


def _modes(run: Run) -> list[Mode]:
    _check_signsgd(run)
    require(not run.steps < 2, "needs two steps or more")
    found = steady_modes(run, finite=False)
    for mode in found:
        _noise(mode)
    return found


def _is_mixed(mode: Mode, rate: float) -> bool:
    """True if the start mixes all phases; False if it is a number."""
    start = mode.run.initial[mode.parameter]
    if isinstance(start, float | int):
        return False
    if not (isinstance(start, Noise) and start.family == "uniform"):
        raise NotApplicable(f"{mode.parameter} starts neither at a number nor uniformly: its phases are not known")
    periods = (start.arguments[1] - start.arguments[0]) / (2.0 * rate)
    require(
        round(periods) >= 1 and abs(periods - round(periods)) <= 1e-9,
        f"{mode.parameter} starts over {periods:.4g} periods of the lattice, not a whole number",
    )
    return True


def _left(rate: float, mixed: float) -> float:
    """The factor by which a step shrinks a displacement, in the mean."""
    return max(1.0 - rate**2 / (2.0 * mixed), 0.0)


def _moments(mode: Mode, rate: float, noise: Any) -> tuple[float, float, str]:
    """Mean and variance of an ensemble that is on every second point of the lattice at a time, and that in words."""
    start = mode.run.initial[mode.parameter]
    assert isinstance(start, float | int)
    phase = (float(start) - mode.centre + rate * (mode.run.steps % 2)) % (2.0 * rate)
    return *parity_moments(rate, mode.curvature, noise, phase), "every second point of the lattice"


def _identities(mode: Mode, rate: float, variance: float) -> Iterator[Prediction]:
    run, steps = mode.run, mode.run.steps
    if mode.centre == 0 and "learning_rate" not in run.loss.namespace_names:
        yield row(Moment("mean", name_of(run, _pull(mode)), steps), rate / 2.0, conditions="identity")
    if {steps - 1, steps} <= set(run.recorder.snapshots):
        measure = Correlation(mode.parameter, (steps - 1, steps))
        quantity = f"correlation of {mode.parameter}, lag 1"
        yield row(measure, 1.0 - rate**2 / (2.0 * variance), quantity, resolution=0.01)


def _signsgd_across(runs: Sequence[Run]) -> list[Prediction]:
    """Rows on the late fast losses in units of their leading order, at four learning rates or more."""
    rows: list[Prediction] = []
    for point, run in enumerate(runs):
        with suppress(NotApplicable):  # the reason is given at the point itself
            rows += [_over_leading(mode, point) for mode in _modes(run)]
    return at_enough_values(rows)


@law(
    "signsgd",
    "SignSGD with symmetric noise: the law on its lattice, at one parity or with mixed phases, and its leading order",
    source="re-derived; a steady state of sign descent is quoted in arXiv:2505.10559",
    holds="SignSGD in a noisy valley at a constant rate, the start forgotten",
    records=_signsgd_records,
    across=_signsgd_across,
)
def signsgd(run: Run) -> Iterator[Prediction]:
    """SignSGD with symmetric noise, ``x' = x - eta*sign(a*x + xi)``. Exact.

    x lives on a lattice ``delta + eta*Z``, a birth-death chain with detailed balance: with F the distribution
    function of the noise, ``Phi(xi/sigma)`` for normal noise,

        pi(x + eta)/pi(x) = F(-a*x) / F(a*(x + eta)).

    Each step moves by eta, so that the chain has period 2: an ensemble that starts at one point is, after t steps, on
    every second point, with the law 2*pi there. A start that is uniform over a multiple of 2*eta mixes all phases. In
    both cases the stationary variance is a sum over the lattice, finite even for Cauchy noise. Of mixed phases,
    exactly,

        <x s> = eta/2    (s the sign that is taken),    Corr(x_t, x_(t+1)) = 1 - eta^2/(2*v).

    To leading order the drift is ``-2*f(0)*eta*a*x`` with f the density of the noise, and

        v = eta/(4*a*f(0)),    <U> = eta/(8*f(0)),

    that is equipartition; for normal noise ``v = sqrt(pi/8)*eta*sigma/a``, linear in sigma. Neglected terms are of
    order eta if f is smooth at 0. The cusp of Laplace noise, ``F(u) = 1/2 + f(0)*u*(1 - |u|/(2*s) + …)``, weakens the
    drift by a part ``e = a*E|x|^3/(2*s*v)``, of order sqrt(eta): with a normal law ``e = sqrt(2*a^2*v/(pi*s^2)) =
    sqrt(eta*a/(pi*s))``, and ``v = (1 + e + O(e^2))*eta/(4*a*f(0))``. Both are tested over learning rates, as averages
    over late times.

    Re-derived. arXiv:2505.10559 speaks of a steady state of sign descent; its formula is not known to us.
    """
    rate = constant_rate(run)
    for mode in _modes(run):
        noise, is_mixed = _noise(mode), _is_mixed(mode, rate)
        mixed = mixed_variance(rate, mode.curvature, noise)
        check_forgotten(mode, _left(rate, mixed) ** run.steps)
        mean, variance, where = (0.0, mixed, "all phases") if is_mixed else _moments(mode, rate, noise)
        leading = "leading order", mode.curvature * leading_variance(rate, mode.curvature, noise) / 2.0
        conditions = f"{mode.parameter}: {where}, eta*a*f(0) = {rate * mode.curvature * noise.pdf(0.0):.4g}"
        yield from stationary_rows(mode, variance, mode.centre + mean, conditions, leading)
        if is_mixed:
            yield from _identities(mode, rate, mixed)


def _over_leading(mode: Mode, point: int) -> Prediction:
    run, rate, noise = mode.run, constant_rate(mode.run), _noise(mode)
    name, leading = name_of(run, _late_loss(mode)), leading_variance(rate, mode.curvature, noise)
    check_forgotten(mode, _left(rate, leading) ** (run.steps // 2))
    more = cusp(rate, mode.curvature, noise)
    return ratio_row(
        Moment("mean", name, run.steps, point),
        mode.curvature * leading / 2.0,
        f"mean({name}) over eta/(8*f(0))" + (", in powers of sqrt(eta*a/(pi*s))" if more else ""),
        1.0 + more,
        order=1 if more else 0,
        resolution=more / 2.0 or _LEADING_RESOLUTION,  # half of the part that the cusp adds
        conditions=f"{mode.parameter}: eta*a*f(0) = {rate * mode.curvature * noise.pdf(0.0):.4g}",
        small=more or rate,
        small_name="sqrt(eta*a/(pi*s))" if more else "learning rate",
        series=f"signsgd {mode.parameter} {series(run)}",
    )


_LEAST = 1e-6  # least probability of a point that is recorded


_MOST = 40  # most points that are recorded


@stored
def shannon_entropy(*probabilities: float | np.ndarray) -> np.ndarray:
    """Shannon's entropy ``-sum p*ln p``, in nats.

    Examples
    --------
    >>> float(shannon_entropy(0.5, 0.5, 0.0).round(6))
    0.693147
    """
    p = np.clip(np.array(probabilities, dtype=float), 0.0, 1.0)
    return np.asarray(-np.sum(np.where(p > 0, p * np.log(np.where(p > 0, p, 1.0)), 0.0), axis=0))


def _law(run: Run) -> tuple[Mode, np.ndarray, np.ndarray]:
    """The mode of a run, and the points of its lattice with their probabilities at the end."""
    _check_signsgd(run)
    found, rate = steady_modes(run), constant_rate(run)
    require(
        len(found) == 1 and found[0].has_normal_noise and not found[0].centre,
        "holds for one fast direction about zero with normal noise",
    )
    (mode,) = found
    check_forgotten(mode, _left(rate, mixed_variance(rate, mode.curvature, mode.sigma)) ** run.steps)
    start = run.initial[mode.parameter]
    atoms: list[tuple[float, float]] = [(float(start), 1.0)] if isinstance(start, float | int) else []
    if isinstance(start, Noise):
        atoms = [(float(value), float(share)) for value, share in start.atoms()]
    require(atoms, f"{mode.parameter} starts neither at a number nor at some of a table")
    points, weights = lattice_law(rate, mode.curvature, mode.sigma, atoms[0][0] % rate)
    places = [(value - points[0]) / rate + run.steps for value, _ in atoms]
    require(
        not any(abs(place - round(place)) > 1e-9 for place in places),
        f"{mode.parameter} does not start on one lattice with the spacing {rate:g}",
    )
    for half in (0, 1):
        share = sum(p for (_, p), place in zip(atoms, places, strict=True) if round(place) % 2 == half)
        weights[half::2] *= share / weights[half::2].sum()
    kept = weights > _LEAST
    require(not kept.sum() > _MOST, f"{kept.sum()} points of the lattice matter, expected at most {_MOST}")
    return mode, points[kept], weights[kept]


def _indicators(mode: Mode, points: np.ndarray) -> list[Observable]:
    """Observables that are 1 if a trajectory is at a point of the lattice, else 0."""
    half = constant_rate(mode.run) / 2.0
    return [
        Observable(f"at_{index}", f"step({half!r} - abs({mode.parameter} - ({float(point)!r})))")
        for index, point in enumerate(points)
    ]


def _residual_entropy_records(run: Run) -> Recorder:
    mode, points, _ = _law(run)
    return Recorder(observables=tuple(_indicators(mode, points)))


@law(
    "residual-entropy",
    "residual entropy of SignSGD on its lattice",
    source="ours",
    holds="SignSGD on its lattice in one valley, at a constant rate",
    records=_residual_entropy_records,
)
def residual_entropy(run: Run) -> Iterator[Prediction]:
    """The residual entropy of SignSGD. Exact.

    On the lattice of SignSGD with normal noise (signsgd), from a start on one or both of its halves, the Shannon
    entropy

        H = -sum_x p(x)*ln p(x)

    of the stationary law is a sum over the lattice. At a fixed learning rate it does not fall to zero with the noise,
    but to ln 2, the entropy of the orbit of two points on which SignSGD without noise ends. On a lattice through the
    bottom itself, where the noise alone decides, 1.5*ln 2 is left.

    Two related statements are tested by other laws: no schedule cools below ``1/(1/v_0 + n*a^2/sigma^2)``
    (fastest-cooling), and the entropy of a continuous valley has no limit in the cold (entropy).

    Our own statement, not to be attributed to arXiv:2505.10559, whose third law is not known to us.
    """
    mode, points, weights = _law(run)
    moments = tuple(Moment("mean", name_of(run, one), run.steps) for one in _indicators(mode, points))
    yield row(
        Function("entropy", shannon_entropy, moments),
        float(shannon_entropy(*weights)),
        f"Shannon entropy of {mode.parameter}",
        resolution=0.01,
        conditions=f"eta*a/sigma = {constant_rate(run) * mode.curvature / mode.sigma:.4g}, {len(points)} points",
        rival=Rival("ln 2", float(np.log(2.0))),
    )
