"""Update rules of optimizers as formulas, which are compiled into the kernel of a step.

An optimizer is one entry of `OPTIMIZERS`: a `direction`, a formula of ``theta`` (the parameter), ``gradient`` (of the
batch), ``t`` (completed steps), ``learning_rate``, the hyperparameters, and the optimizer's state variables, which
start at zero. Every optimizer takes the step

    theta' = theta - learning_rate*(P direction) - learning_rate*decoupled_weight_decay*theta + kick,

where P is the preconditioner, the identity unless the user gives one; coupled weight decay is added to the gradient
before. A rule may replace this last formula, and may take the gradient at another point than theta.
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
        Formula that the step multiplies by ``learning_rate``; empty if the rule has a `step`.
    hyperparameters
        Names with their defaults; None if the user must give the value.
    state
        Names of the state variables, each with a value for every parameter.
    assignments
        Pairs ``(name, formula)`` in order, before the direction; a name is a state variable or an intermediate value.
    scalars
        Numbers that all parameters share: pairs ``(name, formula)``, in ``t``, ``learning_rate`` and hyperparameters.
    kick
        A displacement by the optimizer's own noise ``xi``, standard normal, independent for each parameter. The
        assignments may contain ``xi``, too.
    point
        The point at which the gradient is taken, a formula of theta, the state variables before the step and the
        scalars; assignments may use it as ``point``. By default it is theta.
    step
        Formula of the parameter after the step, in place of the one above; then there is no preconditioner.
    linear
        True if the step is linear in theta and the state variables wherever the gradient is linear in theta.
    population
        True if the gradient is that of the population loss, without noise.
    polynomials
        For a rule that steps whole matrices: coefficients of odd polynomials of degree five, which one after the other
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
        """True if the step of an entry depends on the whole matrix."""
        return bool(self.polynomials)

    @property
    def is_random(self) -> bool:
        """True if the rule has noise of its own."""
        return any("xi" in parsed(text).names for text in (self.kick or "0", *(text for _, text in self.assignments)))


_ADAM = Rule(
    "mean/correction/(sqrt(square)/root_correction + epsilon)",
    {"beta1": 0.9, "beta2": 0.999, "epsilon": 1e-8},
    ("mean", "square"),
    (("mean", "beta1*mean + share1*gradient"), ("square", "beta2*square + share2*gradient**2")),
    (
        ("share1", "1 - beta1"),  # computed as a scalar, in float64: the difference to 1 has few digits in float32
        ("share2", "1 - beta2"),
        ("correction", "1 - beta1**(t + 1)"),
        ("root_correction", "sqrt(1 - beta2**(t + 1))"),
    ),
    linear=False,
)


def _schedule_free(
    hyperparameters: Mapping[str, float], assignments: tuple[tuple[str, str], ...], scalars: tuple[tuple[str, str], ...]
) -> Rule:
    """A schedule-free rule (Defazio et al. 2024): z takes the steps of a base optimizer, theta is the mean of all z.

    Gradients are taken between theta and z. A step has the weight ``(t + 1)**weight_power*top**2``, where top is the
    largest learning rate so far. ``weights`` is the sum of all weights in units of the last one; for equal weights it
    is exactly the number of steps.
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


# Polynomials that act on the singular values of the direction, in units of its norm. Five of Jordan's bring values from
# 0.01 on to between 0.68 and 1.13, and further ones leave them there. Four of Newton and Schulz's, of third order, then
# bring them to 1 within 1e-16.
_JORDAN = (3.4445, -4.7750, 2.0315)
_NEWTON_SCHULZ = (1.875, -1.25, 0.375)


def _muon(polynomials: tuple[tuple[float, float, float], ...]) -> Rule:
    """Muon (Jordan et al. 2024): a step along the polar factor of a Nesterov average of the gradients."""
    return Rule(
        "share*gradient + momentum*velocity",
        {"momentum": 0.95},
        ("velocity",),
        (("velocity", "momentum*velocity + share*gradient"),),
        (("share", "1 - momentum"),),
        linear=False,
        polynomials=polynomials,
    )


# The rules agree with those of torch.optim where it has them: SGD (``ema`` with dampening = momentum), Nesterov,
# RMSprop, Adam and AdamW.
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
    # The divisor is the average before the present gradient is added; only the first step uses its own gradient.
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
    # Lion (Chen et al. 2023): the sign of a mean in which the present gradient has more weight than in the kept mean.
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
    # Welling and Teh (2011): at small steps the stationary law is Gibbs at this temperature; gradient noise adds to it.
    "langevin": Rule("gradient", {"temperature": None}, kick="sqrt(2*learning_rate*temperature)*xi"),
    # Li et al. (2016): Langevin dynamics with RMSProp's denominator. As there, the drift by its derivative is left out.
    "psgld": Rule(
        "scale*gradient",
        {"temperature": None, "alpha": 0.99, "epsilon": 1e-5},
        ("square",),
        (("square", "alpha*square + share*gradient**2"), ("scale", "1/(epsilon + sqrt(square))")),
        (("share", "1 - alpha"),),
        kick="sqrt(2*learning_rate*temperature*scale)*xi",
        linear=False,
    ),
    # Leimkuhler and Matthews (2013): the mass is 1, and the learning rate is the time step. The second half kick of a
    # step needs the gradient at its end; it is applied together with the first half kick of the next step.
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
    """The formula of a rule's text, kept for later calls.

    Examples
    --------
    >>> sorted(parsed("beta1*mean + share1*gradient").names)
    ['beta1', 'gradient', 'mean', 'share1']
    """
    return Formula.parse(text, where="optimizer")
