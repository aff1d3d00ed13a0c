"""The part of the gradient noise of a sample that is left in the mean over a batch."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sgdsim.model.loss import Loss
from sgdsim.model.optimizers import Optimizer
from sgdsim.prediction import require

if TYPE_CHECKING:
    import sympy


def batch_share(optimizer: Optimizer, loss: Loss) -> sympy.Expr:
    """The part of the gradient noise of a sample that is left in the mean over a batch, a fraction.

    Raises
    ------
    NotApplicable
        For rows without replacement beside other noise: a batch leaves a different part of each.

    Examples
    --------
    >>> from sgdsim.model.data import Data
    >>> loss = Loss("(x - z)**2/2", ("x",), data=Data({"z": (0.0, 1.0, 2.0)}))
    >>> batch_share(Optimizer(batch_size=2, sampling="batch"), loss)
    1/4
    """
    import sympy

    if optimizer.rule.population:
        return sympy.Integer(0)
    share, data = sympy.Rational(1, optimizer.batch_size), loss.data
    if data is None or optimizer.sampling == "replacement" or optimizer.batch_size == 1:
        return share
    require(
        not is_mixed(loss), "a batch without replacement leaves different parts of the rows' noise and of the other"
    )
    return share * sympy.Rational(data.rows - optimizer.batch_size, max(data.rows - 1, 1))


def is_mixed(loss: Loss) -> bool:
    """True if the gradient of a sample depends both on its row of data and on other noise.

    Examples
    --------
    >>> from sgdsim.model.noise import Noise
    >>> is_mixed(Loss("z*x", ("x",), noise={"z": Noise.parse("normal")}))
    False
    """
    used = {symbol.name for g in loss.gradient for symbol in g.free_symbols}
    return bool(used & set(loss.columns)) and bool(used & set(loss.noise))
