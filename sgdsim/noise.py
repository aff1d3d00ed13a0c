"""Distributions of one scalar random variable: how it is drawn, and its exact moments.

A family is one entry of `FAMILIES`. It is drawn as a formula of *standard deviates* that every target provides

- ``z``: standard normal (float32 Box-Muller, or float64 with ``noise_dtype = "float64"``),
- ``u``: uniform strictly inside (-1/2, 1/2) and never zero, 32 bits,
- ``v``: the same with 64 bits, for heavy tails,

and of its arguments, so that the same text runs wherever the kernels run. The arguments stay run-time
constants: a sweep over a scale compiles nothing.

The uniforms are centred because float32 states round them: a tail that is drawn from small values keeps all its
digits, while one drawn from values near 1 would meet ``log(1 - 1)``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from fractions import Fraction
from math import comb, factorial, inf
from random import Random
from typing import Any

from sgdsim.errors import InputError, unknown_name
from sgdsim.formula import Formula


@dataclass(frozen=True)
class Family:
    """A family of distributions.

    Attributes
    ----------
    arguments
        Argument names with their defaults; None where the user must give one.
    deviates
        Standard deviates of one draw, in the order in which they take random words.
    formula
        The draw as a formula of deviates and arguments.
    moment
        ``moment(k, *arguments)`` is the exact ``E X^k``; infinite or undefined moments are ``inf``.
    requirement
        What the arguments must satisfy, for the error message; empty where anything goes.
    valid
        Whether the arguments are acceptable.
    """

    arguments: Mapping[str, float | None]
    deviates: tuple[str, ...]
    formula: str
    moment: Callable[..., Any]
    requirement: str = ""
    valid: Callable[..., bool] = lambda *_: True


# Moments use + - * / alone, so that they are exact when the arguments are exact (SymPy rationals).


def _affine(standard: Callable[[int], int]) -> Callable[..., Any]:
    """Moments of ``location + scale * S`` from the raw moments of a standard variable S."""

    def moment(k: int, location: Any, scale: Any) -> Any:
        return sum(comb(k, j) * location ** (k - j) * scale**j * standard(j) for j in range(k + 1))

    return moment


def _normal(k: int) -> int:
    return 0 if k % 2 else factorial(k) // (2 ** (k // 2) * factorial(k // 2))


def _laplace(k: int) -> int:
    return 0 if k % 2 else factorial(k)


def _uniform(k: int, low: Any, high: Any) -> Any:
    # The geometric form of (high^(k+1) - low^(k+1)) / ((k+1) (high - low)) does not cancel.
    return sum(low**j * high ** (k - j) for j in range(k + 1)) / (k + 1)


FAMILIES: dict[str, Family] = {
    "normal": Family(
        {"mean": 0.0, "std": 1.0},
        ("z",),
        "mean + std*z",
        _affine(_normal),
        "std >= 0",
        lambda _, std: std >= 0,
    ),
    "uniform": Family(
        {"low": None, "high": None},
        ("u",),
        "low + (high - low)*(u + 0.5)",
        _uniform,
        "low < high",
        lambda low, high: low < high,
    ),
    "laplace": Family(
        {"mean": 0.0, "scale": 1.0},
        ("v",),
        "mean - scale*sign(v)*log(2*abs(v))",
        _affine(_laplace),
        "scale >= 0",
        lambda _, scale: scale >= 0,
    ),
    "rademacher": Family({}, ("u",), "sign(u)", lambda k: 1 - k % 2),
}


@dataclass(frozen=True)
class Noise:
    """The distribution of one noise variable, or of a parameter's initial value.

    Parameters
    ----------
    family
        A key of `FAMILIES`.
    arguments
        The values of the family's arguments, in its order.

    Examples
    --------
    >>> noise = Noise.parse("normal:0,2")
    >>> noise.moment(4)
    48.0
    >>> noise.cumulant(4)
    0.0
    """

    family: str
    arguments: tuple[float, ...] = ()

    @classmethod
    def parse(cls, text: str, where: str = "noise") -> Noise:
        """Read ``name`` or ``name:arg,arg``.

        Raises
        ------
        InputError
            For an unknown family, a missing, surplus or non-numeric argument, or one out of range.
        """
        name, _, rest = text.strip().partition(":")
        if name not in FAMILIES:
            raise InputError(f"{where}: {unknown_name('distribution', name, FAMILIES)}")
        family = FAMILIES[name]
        usage = f"{name}:{','.join(family.arguments)}" if family.arguments else name
        given = [part.strip() for part in rest.split(",")] if rest.strip() else []
        if len(given) > len(family.arguments):
            raise InputError(f"{where}: {text!r} has {len(given)} arguments, expected {usage}")
        try:
            values = [float(part) for part in given]
        except ValueError:
            raise InputError(f"{where}: {text!r} has an argument that is no number, expected {usage}") from None
        defaults = list(family.arguments.values())
        arguments = values + [value for value in defaults[len(values) :] if value is not None]
        if len(arguments) < len(defaults):
            raise InputError(f"{where}: {text!r} lacks an argument, expected {usage}")
        if any(not abs(value) < inf for value in arguments):
            raise InputError(f"{where}: {text!r} has an argument that is not finite")
        if not family.valid(*arguments):
            raise InputError(f"{where}: {text!r} needs {family.requirement}")
        return cls(name, tuple(arguments))

    def __str__(self) -> str:
        arguments = ",".join(f"{value!r}" for value in self.arguments)
        return f"{self.family}:{arguments}" if arguments else self.family

    def draw(self, random: Random) -> float:
        """One value, for checks of formulas; ensembles are drawn by the kernels."""
        family = FAMILIES[self.family]
        values = dict(zip(family.arguments, self.arguments, strict=True))
        values |= {name: random.gauss(0, 1) if name == "z" else random.random() - 0.5 for name in family.deviates}
        return float(Formula.parse(family.formula).evaluate(values))

    def moment(self, order: int) -> float:
        """Exact raw moment ``E X^order``; ``inf`` where it does not exist."""
        return float(self._moment(order))

    def exact_moment(self, order: int) -> Any:
        """The same as a SymPy number, each argument read as the decimal it was written as."""
        from sympy import Rational, sympify

        arguments = (Rational(repr(float(value))) for value in self.arguments)
        return sympify(FAMILIES[self.family].moment(order, *arguments), strict=True)

    def cumulant(self, order: int) -> float:
        """Exact cumulant, from the raw moments by the standard recursion."""
        moments = [self._moment(n) for n in range(order + 1)]
        cumulants: list[Any] = [0]
        for n in range(1, order + 1):
            correction = sum(comb(n - 1, m - 1) * cumulants[m] * moments[n - m] for m in range(1, n))
            cumulants.append(moments[n] - correction)
        return float(cumulants[order])

    def _moment(self, order: int) -> Any:
        # In fractions: the terms of a cumulant cancel where the mean is large, to no correct digit in floats.
        return FAMILIES[self.family].moment(order, *(Fraction(repr(float(value))) for value in self.arguments))
