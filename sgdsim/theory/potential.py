"""What most of theory needs: that every parameter moves by the gradient of the loss."""

from __future__ import annotations

from sgdsim.model.loss import Loss
from sgdsim.prediction import NotApplicable


def require_gradient(loss: Loss) -> None:
    """Refuse parameters that have a direction: no potential, Hessian, temperature or charge is known to go with it.

    Raises
    ------
    NotApplicable
        With their names.

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
