"""Update rules as formulas, merged into the kernel that follows the gradient.

An optimizer is one entry of `OPTIMIZERS`: a `direction` in the names ``theta`` (the parameter), ``gradient`` (of the
batch), ``t`` (completed steps), ``learning_rate``, its hyperparameters, and its own state variables, which start at
zero. Every optimizer takes the step

    theta' = theta - learning_rate*(P direction) - learning_rate*decoupled_weight_decay*theta + kick,

where P is the preconditioner, the identity unless the user gives one; coupled weight decay enters the gradient first.
A rule may have another last formula in place of this one, and another point than theta at which the gradient is taken.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache

from sgdsim.formulas.formula import Formula


@dataclass(frozen=True)
class Rule:
    """An update rule.

    Attributes
    ----------
    direction
        What is taken ``learning_rate`` times, a formula; none where there is a `step`.
    hyperparameters
        Names with their defaults; None where the user must give one.
    state
        State variables, one of each a parameter.
    assignments
        ``(name, formula)`` in order, before the direction; a name is a state variable or an intermediate.
    scalars
        Numbers that all parameters share, ``(name, formula)`` in ``t``, ``learning_rate`` and the hyperparameters.
    kick
        A displacement with the optimizer's own noise ``xi``, standard normal, independent for each parameter, which the
        assignments may have, too.
    point
        Where the gradient is taken, a formula in theta, the state variables before the step and the scalars, which
        assignments know as ``point``; theta by default.
    step
        The parameter after the step, where it is not as above; then there is no preconditioner.
    linear
        Whether the step is linear in theta and the state variables where the gradient is.
    population
        Whether the gradient is that of the population loss, without noise.
    polynomials
        Of a rule that steps whole matrices: coefficients of odd polynomials of degree five, which one after the other
        bring the singular values of the direction near one.
    """

    direction: str
    hyperparameters: Mapping[str, float | None] = field(default_factory=dict)
    state: tuple[str, ...] = ()
    assignments: tuple[tuple[str, str], ...] = ()
    scalars: tuple[tuple[str, str], ...] = ()
    kick: str = ""
    linear: bool = True
    population: bool = False
    point: str = ""
    step: str = ""
    polynomials: tuple[tuple[float, float, float], ...] = ()

    @property
    def is_of_matrices(self) -> bool:
        """Whether the step of an entry depends on its whole matrix."""
        return bool(self.polynomials)

    @property
    def is_random(self) -> bool:
        """Whether there is noise of its own."""
        return any("xi" in parsed(text).names for text in (self.kick or "0", *(text for _, text in self.assignments)))


_ADAM = Rule(
    "mean/correction/(sqrt(square)/root_correction + epsilon)",
    {"beta1": 0.9, "beta2": 0.999, "epsilon": 1e-8},
    ("mean", "square"),
    (("mean", "beta1*mean + share1*gradient"), ("square", "beta2*square + share2*gradient**2")),
    (
        ("share1", "1 - beta1"),  # a scalar: the difference to 1 has few digits in float32
        ("share2", "1 - beta2"),
        ("correction", "1 - beta1**(t + 1)"),
        ("root_correction", "sqrt(1 - beta2**(t + 1))"),
    ),
    linear=False,
)


def _schedule_free(
    hyperparameters: Mapping[str, float], assignments: tuple[tuple[str, str], ...], scalars: tuple[tuple[str, str], ...]
) -> Rule:
    """A rule of Defazio et al. (2024): z takes the steps of a base optimizer, theta is the mean of z over all steps.

    Gradients are taken between them. A step has the weight ``(t + 1)**weight_power*top**2``, where top is the largest
    rate so far; ``weights`` is the sum of all, in units of the last one, so that it counts steps to the digit.
    """
    return Rule(
        "",
        {**hyperparameters, "weight_power": 0.0},
        tuple(dict.fromkeys([*(name for name, _ in assignments), "largest", "weights"])),
        (
            ("top", "max(largest, rate)"),
            ("weights", "1 + weights*(t/(t + 1))**weight_power*(largest/top)**2"),
            ("largest", "top"),
            ("start", "where(t < 1, theta, z)"),
            *assignments,
        ),
        scalars,
        linear=False,
        point="where(t < 1, theta, theta + share*(z - theta))",
        step="theta + (z - theta)/weights",
    )


# Of the singular values, in units of the direction's norm: five of Jordan's bring those from 0.01 to between 0.68 and
# 1.13, where all further ones leave them; four of Newton and Schulz's, of third order, bring 0.68 to one but for 1e-16.
_JORDAN = (3.4445, -4.7750, 2.0315)
_NEWTON_SCHULZ = (1.875, -1.25, 0.375)


def _muon(polynomials: tuple[tuple[float, float, float], ...]) -> Rule:
    """Jordan et al. (2024): the polar factor of a mean that leans to the present gradient, as Nesterov's does."""
    return Rule(
        "share*gradient + momentum*velocity",
        {"momentum": 0.95},
        ("velocity",),
        (("velocity", "momentum*velocity + share*gradient"),),
        (("share", "1 - momentum"),),
        linear=False,
        polynomials=polynomials,
    )


# As torch.optim where it has one: SGD, with nesterov, with dampening = momentum (ema), RMSprop, Adam, AdamW.
OPTIMIZERS: dict[str, Rule] = {
    "sgd": Rule("gradient"),
    # The heavy ball.
    "momentum": Rule(
        "velocity",
        {"momentum": 0.9},
        ("velocity",),
        (("velocity", "momentum*velocity + gradient"),),
    ),
    "nesterov": Rule(
        "gradient + momentum*velocity",
        {"momentum": 0.9},
        ("velocity",),
        (("velocity", "momentum*velocity + gradient"),),
    ),
    # An exponential moving average of the gradient, which starts at the first one.
    "ema": Rule(
        "velocity",
        {"momentum": 0.9},
        ("velocity",),
        (("velocity", "where(t < 1, gradient, momentum*velocity + share*gradient)"),),
        (("share", "1 - momentum"),),
    ),
    "signsgd": Rule("sign(gradient)", linear=False),
    "rmsprop": Rule(
        "gradient/(sqrt(square) + epsilon)",
        {"alpha": 0.99, "epsilon": 1e-8},
        ("square",),
        (("square", "alpha*square + share*gradient**2"),),
        (("share", "1 - alpha"),),
        linear=False,
    ),
    # Divides by the average before it takes up the present gradient; the first step has no other.
    "rmsprop_excluding": Rule(
        "gradient/(sqrt(past) + epsilon)",
        {"alpha": 0.99, "epsilon": 1e-8},
        ("square",),
        (
            ("past", "where(t < 1, gradient**2, square)"),
            ("square", "alpha*past + share*gradient**2"),
        ),
        (("share", "1 - alpha"),),
        linear=False,
    ),
    "adam": _ADAM,
    "adamw": Rule(
        _ADAM.direction,
        {**_ADAM.hyperparameters, "decoupled_weight_decay": 0.01},
        _ADAM.state,
        _ADAM.assignments,
        _ADAM.scalars,
        linear=False,
    ),
    # Chen et al. (2023): the sign of a mean that leans to the present gradient, beside a mean of longer memory.
    "lion": Rule(
        "sign(mixed)",
        {"beta1": 0.9, "beta2": 0.99},
        ("mean",),
        (("mixed", "beta1*mean + share1*gradient"), ("mean", "beta2*mean + share2*gradient")),
        (("share1", "1 - beta1"), ("share2", "1 - beta2")),
        linear=False,
    ),
    "schedule_free_sgd": _schedule_free(
        {"momentum": 0.9},
        (("z", "start - learning_rate*(gradient + decoupled_weight_decay*point)"),),
        (("rate", "learning_rate"), ("share", "1 - momentum")),
    ),
    "schedule_free_adamw": _schedule_free(
        {"beta1": 0.9, "beta2": 0.999, "epsilon": 1e-8},
        (
            ("square", "beta2*square + share2*gradient**2"),
            ("z", "start - rate*(gradient/(sqrt(square) + epsilon) + decoupled_weight_decay*point)"),
        ),
        (("rate", "learning_rate*sqrt(1 - beta2**(t + 1))"), ("share", "1 - beta1"), ("share2", "1 - beta2")),
    ),
    "muon": _muon((_JORDAN,) * 5),
    "muon_exact": _muon((_JORDAN,) * 8 + (_NEWTON_SCHULZ,) * 4),
    "gradient_descent": Rule("gradient", population=True),
    # Welling and Teh (2011): at small steps a Gibbs law of this temperature, besides what the gradient noise adds.
    "langevin": Rule("gradient", {"temperature": None}, kick="sqrt(2*learning_rate*temperature)*xi"),
    # Li et al. (2016): the same with RMSProp's denominator, without the drift by its gradient, as they do.
    "psgld": Rule(
        "scale*gradient",
        {"temperature": None, "alpha": 0.99, "epsilon": 1e-5},
        ("square",),
        (("square", "alpha*square + share*gradient**2"), ("scale", "1/(epsilon + sqrt(square))")),
        (("share", "1 - alpha"),),
        kick="sqrt(2*learning_rate*temperature*scale)*xi",
        linear=False,
    ),
    # Leimkuhler and Matthews (2013): of mass 1, the learning rate is the time step. The last half kick of a step needs
    # the gradient where it ends; it is given with the first one of the next step, which has the same gradient.
    "baoab": Rule(
        "-(half + velocity)/2",
        {"temperature": None, "friction": 1.0},
        ("velocity",),
        (("half", "velocity - push*gradient"), ("velocity", "kept*half + shake*xi")),
        (
            ("push", "where(t < 1, learning_rate/2, learning_rate)"),
            ("kept", "exp(-friction*learning_rate)"),
            ("shake", "sqrt(temperature*(1 - exp(-2*friction*learning_rate)))"),
        ),
    ),
}


@cache
def parsed(text: str) -> Formula:
    """A formula of a rule, read once.

    Examples
    --------
    >>> sorted(parsed("beta1*mean + share1*gradient").names)
    ['beta1', 'gradient', 'mean', 'share1']
    """
    return Formula.parse(text, where="optimizer")
