"""Conditions of most of theory: a step changes the parameters alone, and by the gradient of the loss."""

from __future__ import annotations

from sgdsim.model.loss import Loss
from sgdsim.model.run import Run
from sgdsim.prediction import NotApplicable


def require_simple_steps(run: Run) -> None:
    """Refuse steps that read a state besides the parameters, or are cut into substeps.

    Raises
    ------
    NotApplicable
        For such steps; the message names the step, or the states that it reads.

    Examples
    --------
    >>> from sgdsim.model.optimizers import Optimizer
    >>> from sgdsim.model.schedules import Schedule
    >>> from sgdsim.model.states import State
    >>> loss = Loss("(x - last)**2/2", ("x",), states={"last": State("x")})
    >>> require_simple_steps(Run(loss, Optimizer(), Schedule("0.1"), {"x": 1.0}, 100, 10))
    Traceback (most recent call last):
    sgdsim.prediction.NotApplicable: the step reads last, and so has a memory of its own
    """
    if run.stop:
        raise NotApplicable(f"trajectories end at {', '.join(run.stop)}")
    if run.optimizer_start:
        raise NotApplicable(f"{', '.join(run.optimizer_start)} of {run.optimizer.name} does not start at zero")
    if run.optimizer.substeps > 1:
        raise NotApplicable(f"each step is {run.optimizer.substeps} substeps with the same sample")
    loss, rows = run.loss, run.optimizer.preconditioner or run.optimizer.metric
    entries = [entry for row in rows for entry in ((row,) if isinstance(row, str) else row)]
    read = dict.fromkeys((*loss.recalled, *(loss.states_in(entries) if loss.states else ())))
    if mixed := dict.fromkeys((*loss.mixed, *(loss.drawn_in(entries) if loss.drawn else ()))):
        raise NotApplicable(f"each trajectory has its own {', '.join(mixed)}: the ensemble is a mixture")
    if read:
        raise NotApplicable(f"the step reads {', '.join(read)}, and so has a memory of its own")


def require_gradient(loss: Loss) -> None:
    """Refuse parameters that move along a direction of their own, not by a gradient.

    No potential, Hessian, temperature or charge is known to go with such a direction.

    Raises
    ------
    NotApplicable
        For such parameters; the message names them.

    Examples
    --------
    >>> require_gradient(Loss("", ("x", "y"), direction={"x": "y", "y": "-x"}))
    Traceback (most recent call last):
    sgdsim.prediction.NotApplicable: x, y move by rules of their own, not by gradients
    """
    names = list(loss.direction)
    if len(names) == 1:
        raise NotApplicable(f"{names[0]} moves by a rule of its own, not by a gradient")
    if names:
        raise NotApplicable(f"{', '.join(names)} move by rules of their own, not by gradients")
