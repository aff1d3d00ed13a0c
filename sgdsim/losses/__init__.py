"""The catalogue of toy losses: one short file a family, one entry here."""

from __future__ import annotations

from collections.abc import Callable

from sgdsim.loss import Loss
from sgdsim.losses.river_valley import river_valley

CATALOGUE: dict[str, Callable[..., Loss]] = {
    "river_valley": river_valley,
}
