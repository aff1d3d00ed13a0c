"""The tables of a scenario: the keys of each, and the values that are allowed."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Annotated, Any

from pydantic import Field

from sgdsim.base.problems import attempt_all
from sgdsim.input.fields import (
    ConstantValue,
    Count,
    FormulaText,
    FormulaTexts,
    Level,
    Made,
    Makes,
    Number,
    Resolution,
    Seconds,
    Section,
    Seed,
    StartValue,
    Step,
    Time,
    one_of,
    takes,
    whole,
)
from sgdsim.input.readers import Noises, read_histograms, read_noise, read_observables, read_start_of_each, read_starts
from sgdsim.input.wording import validated
from sgdsim.model.run import DTYPES
from sgdsim.model.symmetry import Symmetry
from sgdsim.prediction import EXPECTED

_FromStep = Annotated[int, takes("a whole number from 0", whole(0))]
_Dtype = Annotated[str, one_of("dtype", DTYPES)]


class About(Section):
    """Keys at the top of a scenario, such as its title."""

    title: str = ""
    references: list[str] = []
    alpha: Level = 1e-3


class SymmetryTable(Section):
    """An entry of ``loss.symmetry`` that is a table."""

    name: str
    generator: dict[str, FormulaText] = {}
    image: dict[str, FormulaText] = {}
    matrix: list[list[Number]] | None = None


def _read_symmetries(entries: Sequence[Any]) -> list[Symmetry | SymmetryTable]:
    """Symmetries built from texts such as ``rescale:u:1,w:-1``, and the tables of the others."""

    def read(index: int, entry: Any) -> Symmetry | SymmetryTable:
        if isinstance(entry, str):
            return Symmetry.parse(entry, "loss.symmetry")
        return validated(SymmetryTable, entry, {"symmetry": SymmetryTable.model_fields}, ("loss", "symmetry", index))

    return attempt_all(partial(read, index, entry) for index, entry in enumerate(entries))


class BesideTable(Section):
    """Keys that ``[loss]`` may have with any loss, also one of the catalogue."""

    direction: dict[str, FormulaTexts] = {}
    state: dict[str, FormulaText] = {}


class LossTable(BesideTable):
    """Table ``[loss]`` of a formula. For a loss of the catalogue the keys are the arguments of that loss instead."""

    formula: FormulaText = ""
    parameters: Annotated[Made, Makes(dict[str, StartValue], partial(read_starts, "loss.parameters"))]
    constants: Annotated[Made, Makes(dict[str, ConstantValue], partial(read_starts, "loss.constants"))] = Made({}, {})
    noise: Annotated[Made, Makes(dict[str, str], read_noise)] = Made({}, Noises({}, {}, {}))
    define: dict[str, FormulaTexts] = {}
    symmetry: Annotated[Made, Makes(list[Any], _read_symmetries)] = Made([], [])
    data: dict[str, Any] | None = None
    name: str = "custom"
    description: str = ""
    references: list[str] = []


class FromTable(Section):
    """Table ``run.from``, which describes the states in a file."""

    file: str
    digest: str
    step: int
    seeds: list[Seed]
    antithetic: bool | None = None  # left out if it is false, so that older files, which lack it, stay valid
    trajectories: Count
    moments: dict[str, Annotated[list[Number], Field(min_length=4, max_length=4)]]


class RunTable(Section):
    """Table ``[run]``: steps, trajectories, starts, seed and number type."""

    trajectories: Count
    steps: Count | None = None
    time: Time | None = None
    seed: Seed = 0
    dtype: _Dtype = "float64"
    noise_dtype: _Dtype = "float32"
    antithetic: bool = False
    stop: list[str] | None = None
    initial: Annotated[Made, Makes(dict[str, StartValue], read_start_of_each)] = Made({}, {})
    from_: FromTable | None = Field(default=None, alias="from")


class AutocorrelationTable(Section):
    """An entry of ``record.autocorrelation``."""

    from_: _FromStep = Field(default=0, alias="from")
    lags: list[_FromStep]


class DriftTable(Section):
    """An entry of ``record.drift``."""

    by: str | None = None
    bins: list[Number]
    every: Count = 1
    from_: _FromStep = Field(default=0, alias="from")


class RecordTable(Section):
    """Table ``[record]``: quantities that are measured, and when."""

    every: Count | None = None
    records: Count | None = None
    snapshots: list[Step] = []
    snapshot_trajectories: Count | None = None
    quantiles: list[Level] = []
    covariances: bool = False
    controls: list[str] = []
    autocorrelation: dict[str, AutocorrelationTable] = {}
    drift: dict[str, DriftTable] = {}
    observables: Annotated[Made, Makes(dict[str, FormulaText], read_observables)] = Made({}, [])
    histograms: Annotated[Made, Makes(dict[str, list[Number]], read_histograms)] = Made({}, {})


class PredictTable(Section):
    """An entry of ``[[predict]]``."""

    id: str | None = None
    formula: str | None = None
    resolution: Resolution | None = None
    expect: Annotated[str, one_of("verdict", EXPECTED)] | None = None
    automatic: bool | None = None
    budget: Seconds | None = None
    order: Any = None
    at: Any = None
    curve: Any = None
    fraction: Any = None
    tolerance: Any = None


TABLES = ("loss", "optimizer", "run", "record", "sweep", "predict")
"""Tables at the top of a scenario."""

BESIDE = tuple(BesideTable.model_fields)
"""Keys that ``[loss]`` may have beside the arguments of a loss of the catalogue."""

TOP = (*About.model_fields, *TABLES, "part")
"""All keys at the top of a scenario."""

_SECTIONS: dict[str, type[Section]] = {
    "loss": LossTable,
    "symmetry": SymmetryTable,
    "run": RunTable,
    "from": FromTable,
    "record": RecordTable,
    "autocorrelation": AutocorrelationTable,
    "drift": DriftTable,
    "predict": PredictTable,
}
KEYS: dict[str, Sequence[str]] = {"": TOP} | {
    name: [field.alias or key for key, field in one.model_fields.items()] for name, one in _SECTIONS.items()
}
"""Known keys of each table, by its name."""
