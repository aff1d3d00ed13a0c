"""The share of a sample's gradient noise that a batch leaves."""

from __future__ import annotations

import pytest

from sgdsim.model.data import Data
from sgdsim.model.loss import Loss
from sgdsim.model.noise import Noise
from sgdsim.model.optimizers import Optimizer
from sgdsim.prediction import NotApplicable
from sgdsim.theory.methods.batch_noise import batch_share


def test_rows_without_replacement_beside_other_noise_are_refused() -> None:
    """A batch of 2 of N = 4 leaves 1/3 of the rows' variance and 1/2 of the label noise's: no one share."""
    loss = Loss("(x - d - z)**2/2", ("x",), {}, {"z": Noise.parse("normal")}, data=Data({"d": (0.0, 1.0, 2.0, 5.0)}))
    with pytest.raises(NotApplicable, match="different parts"):
        batch_share(Optimizer(batch_size=2, sampling="batch"), loss)
    assert batch_share(Optimizer(batch_size=1, sampling="batch"), loss) == 1
    assert float(batch_share(Optimizer(batch_size=2), loss)) == 0.5
    silent = Loss("(x - d)**2/2", ("x",), {}, {"z": Noise.parse("normal")}, data=loss.data)
    assert float(batch_share(Optimizer(batch_size=2, sampling="batch"), silent)) == pytest.approx(1 / 3)
