"""Distributions of one scalar random variable: the formula by which it is drawn, and its exact moments.

A family is one entry of `FAMILIES`. It is drawn by a formula of *standard deviates*, which every target provides,

- ``z``: standard normal (float32 Box-Muller, or float64 with ``noise_dtype = "float64"``),
- ``Z``: standard normal from 64-bit uniforms, whatever the noise dtype, for heavy tails,
- ``u``: uniform strictly inside (-1/2, 1/2) and never zero, on a grid of 2^-23,
- ``v``: the same from 64 bits, for heavy tails and rare events: ``2*abs(v)`` is uniform on (0, 1), exact near 0,

and of its arguments, so that the same text runs wherever the kernels run. The arguments are run-time constants, so a
sweep over a scale compiles nothing new; only default values are compiled in.

The uniforms are centred because float32 rounds them: a tail that is drawn from small values keeps all its digits,
while one drawn from values near 1 would lead to ``log(1 - 1)``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal, localcontext
from fractions import Fraction
from math import comb, factorial, inf
from random import Random
from typing import Any

from sgdsim.base import take
from sgdsim.base.errors import InputError, unknown_name
from sgdsim.base.numbers import to_float
from sgdsim.formulas.formula import Formula


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
        Condition on the arguments, for the error message; empty if there is none.
    valid
        Function that tells whether the arguments are acceptable.
    atoms
        The values of a discrete distribution, each with its probability; empty for a continuous one.
    """

    arguments: Mapping[str, float | None]
    deviates: tuple[str, ...]
    formula: str
    moment: Callable[..., Any]
    requirement: str = ""
    valid: Callable[..., bool] = lambda *_: True
    atoms: Callable[..., Sequence[tuple[Any, Any]]] = lambda *_: ()


# Moments use + - * / and `_exponential` alone, so that they are exact when the arguments are (SymPy rationals).


def _affine(standard: Callable[[int], int]) -> Callable[..., Any]:
    """Function for the moments of ``location + scale * S``, from the raw moments of a standard variable S."""

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


def _centred_exponential(k: int, scale: Any) -> Any:
    """Central moment of an exponential variable: ``E (X - 1)^k`` counts the permutations of k without fixed point."""
    derangements = 1
    for n in range(1, k + 1):
        derangements = n * derangements + (-1) ** n
    return derangements * scale**k


def _student_t(k: int, dof: Any) -> Any:
    if k >= dof:
        return 1 if k == 0 else inf
    moment: Any = 1 - k % 2
    for i in range(1, k // 2 + 1):
        moment = moment * dof * (2 * i - 1) / (dof - 2 * i)
    return moment


def _lognormal(k: int, mu: Any, sigma: Any) -> Any:
    return _exponential(k * mu + k * k * sigma * sigma / 2)


def _exponential(x: Any) -> Any:
    """Exponential function: exact for a SymPy number, a fraction to 50 digits for a fraction."""
    if not isinstance(x, Fraction):
        from sympy import exp

        return exp(x)
    with localcontext() as context:
        context.prec, context.Emax, context.Emin = 50, 10**9, -(10**9)
        return Fraction((Decimal(x.numerator) / x.denominator).exp())


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
    "exponential": Family(  # centred: its mean is zero
        {"scale": 1.0},
        ("v",),
        "-scale*(log(2*abs(v)) + 1)",
        _centred_exponential,
        "scale >= 0",
        lambda scale: scale >= 0,
    ),
    "lognormal": Family(
        {"mu": 0.0, "sigma": 1.0},
        ("Z",),
        "exp(mu + sigma*Z)",
        _lognormal,
        "sigma >= 0 and moments within the numbers: |mu| and sigma at most 10",
        lambda mu, sigma: 0 <= sigma <= 10 and abs(mu) <= 10,
    ),
    # Bailey, Math. Comp. 62 (1994) 779: polar, exact, and without rejection; exp(2*x) - 1 is 2*exp(x)*sinh(x).
    "student_t": Family(
        {"dof": None},
        ("v", "u"),
        "sqrt(2*dof*exp(-log(2*abs(v))/dof)*sinh(-log(2*abs(v))/dof))*cos(2*pi*u)",
        _student_t,
        "dof > 0",
        lambda dof: dof > 0,
    ),
    "rademacher": Family(
        {},
        ("u",),
        "sign(u)",
        lambda k: 1 - k % 2,
        atoms=lambda: [(-1, Fraction(1, 2)), (1, Fraction(1, 2))],
    ),
    "bernoulli": Family(
        {"p": None},
        ("v",),
        "step(p - 2*abs(v))",
        lambda k, p: p if k else 1,
        "0 <= p <= 1",
        lambda p: 0 <= p <= 1,
        lambda p: [(0, 1 - p), (1, p)],
    ),
}

TABLE = "table"
"""Name of the family of discrete distributions, ``table:v@p,v@p,…``, with any number of arguments."""

_HIGHEST_ORDER = 10_000  # highest order of a moment; a formula may raise its highest power to another
_MOST_VALUES = 24  # most values of a table; the length of its formula grows with their square


def _table(values: int) -> Family:
    """The discrete distribution of so many values; its arguments are value, probability, value, probability, …."""

    def chosen(first: int, last: int) -> str:
        # The choice is nested by halves, as functions may not be nested as deeply as there are values.
        if first == last:
            return f"v{first}"
        middle = (first + last) // 2
        beyond = "-".join(["2*abs(v)", *(f"p{i}" for i in range(middle))])
        return f"where({beyond}<p{middle},{chosen(first, middle)},{chosen(middle + 1, last)})"

    def moment(k: int, *arguments: Any) -> Any:
        return sum(v**k * p for v, p in zip(arguments[::2], arguments[1::2], strict=True)) / sum(arguments[1::2])

    def atoms(*arguments: Any) -> list[tuple[Any, Any]]:
        total = sum(arguments[1::2])
        return [(v, p / total) for v, p in zip(arguments[::2], arguments[1::2], strict=True)]

    names = [name for i in range(values) for name in (f"v{i}", f"p{i}")]
    return Family(dict.fromkeys(names), ("v",), chosen(0, values - 1), moment, atoms=atoms)


@dataclass(frozen=True)
class Noise:
    """The distribution of one noise variable, or of a parameter's initial value.

    Parameters
    ----------
    family
        Name of the family, such as ``normal``; ``sgdsim list`` names all. Or ``table``, a discrete distribution.
    arguments
        The values of the family's arguments, in their order.

    Raises
    ------
    InputError
        For an unknown family, a wrong number of arguments, and arguments that the family does not allow.

    Examples
    --------
    >>> from random import Random
    >>> noise = Noise.parse("normal:0,2")
    >>> noise.moment(4), noise.cumulant(4), noise.exact_moment(2)
    (48.0, 0.0, 4)
    >>> Noise.parse("table:-1@0.25,0@0.5,1@0.25").moment(2)
    0.5
    >>> coin = Noise.parse("rademacher")
    >>> coin.draw(Random(1)) in (-1.0, 1.0), coin.atoms()[0]
    (True, (Fraction(-1, 1), Fraction(1, 2)))
    >>> noise.law.arguments, len(noise.code)
    ({'mean': 0.0, 'std': 1.0}, 2)
    """

    family: str
    arguments: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        take.settle(
            self, "noise", family=take.one_of("distribution", (*FAMILIES, TABLE)), arguments=take.each(take.number)
        )
        if self.family == TABLE:
            _check_table(self.arguments, "noise.arguments")
            return
        family, count = FAMILIES[self.family], len(self.arguments)
        if count != len(family.arguments):
            raise InputError(f"noise.arguments: {count} numbers, {self.family} has {len(family.arguments)}")
        if not family.valid(*self.arguments):
            raise InputError(f"noise.arguments: {self.family} needs {family.requirement}")

    @classmethod
    def parse(cls, text: str, where: str = "noise") -> Noise:
        """Distribution of a text such as ``name`` or ``name:argument,argument``.

        Parameters
        ----------
        text
            The family with its arguments, such as ``"normal:0,2"``, or ``"table:value@probability,…"``.
        where
            Name of the value, for messages.

        Returns
        -------
        Noise
            The distribution.

        Raises
        ------
        InputError
            For an unknown family, a missing, surplus or non-numeric argument, or one out of range.
        """
        name, _, rest = (part.strip() for part in take.text(text, where).partition(":"))
        if name == TABLE:
            return cls(TABLE, _table_arguments(rest, where))
        if name not in FAMILIES:
            raise InputError(f"{where}: {unknown_name('distribution', name, (*FAMILIES, TABLE))}")
        family = FAMILIES[name]
        usage = f"{name}:{','.join(family.arguments)}" if family.arguments else name
        given = [part.strip() for part in rest.split(",")] if rest else []
        if len(given) > len(family.arguments):
            raise InputError(f"{where}: {text!r} has {len(given)} arguments, expected {usage}")
        try:
            values = [to_float(part, where) for part in given]
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
        if self.family == TABLE:
            pairs = zip(self.arguments[::2], self.arguments[1::2], strict=True)
            return f"{TABLE}:" + ",".join(f"{value!r}@{probability!r}" for value, probability in pairs)
        arguments = ",".join(f"{value!r}" for value in self.arguments)
        return f"{self.family}:{arguments}" if arguments else self.family

    @property
    def law(self) -> Family:
        """Family of the distribution: the formula by which it is drawn, and its moments."""
        return _table(len(self.arguments) // 2) if self.family == TABLE else FAMILIES[self.family]

    @property
    def code(self) -> tuple[Callable[..., Any], ...]:
        """Functions of the family that compute moments and atoms; they may be a user's own."""
        return self.law.moment, self.law.atoms

    def draw(self, random: Random) -> float:
        """Random value, used to check formulas; the noise of a simulation is drawn by its kernels.

        Parameters
        ----------
        random
            Python's source of random numbers.

        Returns
        -------
        float
            One value.
        """
        law = self.law
        values = dict(zip(law.arguments, self.arguments, strict=True))
        values |= {n: random.gauss(0, 1) if n in ("z", "Z") else random.random() - 0.5 for n in law.deviates}
        return float(Formula.parse(law.formula).evaluate(values))

    def moment(self, order: int) -> float:
        """Exact raw moment ``E X^order``.

        Parameters
        ----------
        order
            A whole number from 0 to 10,000.

        Returns
        -------
        float
            The moment; ``inf`` if it does not exist or is beyond the largest float.
        """
        return _rounded(self._moment(_order(order)))

    def exact_moment(self, order: int) -> Any:
        """Exact raw moment ``E X^order`` as a SymPy number; arguments are taken as the decimals they are written in.

        Parameters
        ----------
        order
            A whole number from 0 to 10,000.

        Returns
        -------
        sympy.Expr
            The moment; infinite if it does not exist.
        """
        from sympy import Rational, sympify

        order = _order(order)
        arguments = (Rational(repr(float(value))) for value in self.arguments)
        return sympify(self.law.moment(order, *arguments), strict=True)

    def atoms(self) -> list[tuple[Fraction, Fraction]]:
        """Values of a discrete distribution, each with its exact probability; empty for a continuous one."""
        arguments = (Fraction(repr(float(value))) for value in self.arguments)
        return [(Fraction(value), Fraction(probability)) for value, probability in self.law.atoms(*arguments)]

    def cumulant(self, order: int) -> float:
        """Exact cumulant, from the raw moments by the standard recursion.

        Parameters
        ----------
        order
            A whole number from 1 to 10,000.

        Returns
        -------
        float
            The cumulant; ``inf`` if a moment up to this order does not exist.
        """
        order = _order(order)
        moments = [self._moment(n) for n in range(order + 1)]
        if inf in moments:
            return inf
        cumulants: list[Any] = [0]
        for n in range(1, order + 1):
            correction = sum(comb(n - 1, m - 1) * cumulants[m] * moments[n - m] for m in range(1, n))
            cumulants.append(moments[n] - correction)
        return _rounded(cumulants[order])

    def _moment(self, order: int) -> Any:
        # Computed in fractions: where the mean is large, the terms of a cumulant cancel, and floats keep no digit.
        return self.law.moment(order, *(Fraction(repr(float(value))) for value in self.arguments))


def _order(value: int) -> int:
    order = take.whole(value, "order")
    if not 0 <= order <= _HIGHEST_ORDER:
        raise InputError(f"order: {order}, expected a whole number from 0 to {_HIGHEST_ORDER}")
    return order


def _rounded(value: Any) -> float:
    try:
        return float(value)
    except OverflowError:
        return inf if value > 0 else -inf


def _table_arguments(text: str, where: str) -> tuple[float, ...]:
    usage = "table:value@probability,value@probability,… with probabilities that add up to 1"
    try:
        pairs = [[to_float(part, where) for part in entry.split("@")] for entry in text.split(",")]
    except ValueError:
        pairs = []
    numbers = tuple(number for pair in pairs for number in pair)
    if not pairs or any(len(pair) != 2 for pair in pairs) or not all(abs(number) < inf for number in numbers):
        raise InputError(f"{where}: 'table:{text}', expected {usage}")
    _check_table(numbers, where)
    # Values of probability zero are dropped: rounded probabilities may add up to less than one, and the last value of
    # the table gets the rest.
    return tuple(number for pair in pairs if pair[1] for number in pair)


def _check_table(numbers: Sequence[float], where: str) -> None:
    """Refuse numbers that are not a table of value, probability, value, probability, …."""
    if not numbers or len(numbers) % 2:
        raise InputError(f"{where}: {len(numbers)} numbers, expected a probability after each value")
    if len(numbers) > 2 * _MOST_VALUES:
        values = len(numbers) // 2
        raise InputError(f"{where}: a table of {values} values, expected at most {_MOST_VALUES}; take a data set")
    total = sum(numbers[1::2])
    if min(numbers[1::2]) < 0 or abs(total - 1) > 1e-6:
        raise InputError(f"{where}: probabilities {', '.join(map(str, numbers[1::2]))} add up to {total}, expected 1")
