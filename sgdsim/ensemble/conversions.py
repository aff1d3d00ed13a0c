"""An ensemble in the form of other libraries, and as a table in a notebook."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from html import escape
from typing import TYPE_CHECKING, Any

import numpy as np

from sgdsim.base.html import html_table
from sgdsim.base.packages import imported
from sgdsim.ensemble.variable import Attribute, Contents, Variable, labelled, sizes_of

if TYPE_CHECKING:
    import pandas
    import xarray

RECORDED = ("mean", "variance", "skewness", "kurtosis", "mean_stderr", "variance_stderr", "count", "excluded")
"""Statistics of each parameter and observable at each record."""
SWEPT = "sweep_"
_SHOWN = 20  # most rows of a table in a notebook


def as_html(variables: Mapping[str, Variable], attributes: Mapping[str, Attribute]) -> str:
    """HTML table of the last record of every measured quantity, at the first points of a sweep.

    Examples
    --------
    >>> as_html({"x": Variable(("trajectory",), [0.5, 1.5])}, {"title": "Two"})
    '<p><b>Two</b>: trajectory 2</p>'
    """
    sizes = sizes_of(variables)
    about = f"<p><b>{escape(str(attributes.get('title') or 'Ensemble'))}</b>: "
    about += escape(", ".join(f"{name} {size:,}" for name, size in sizes.items()) + lost(variables)) + "</p>"
    if not {"mean", "variance", "observable"} <= variables.keys():
        return about
    kinds = [kind for kind in ("mean", "variance") if f"{kind}_stderr" in variables]
    rows = []
    for place in np.ndindex(variables["mean"].data[..., -1, :].shape):
        at = (*place[:-1], -1, place[-1])
        values = [f"{variables[kind].data[at]:.6g} ± {variables[f'{kind}_stderr'].data[at]:.2g}" for kind in kinds]
        rows.append([*map(str, place[:-1]), str(variables["observable"].data[place[-1]]), *values])
    columns = (*(("point",) if "point" in sizes else ()), f"step {int(variables['record_step'].data[-1])}", *kinds)
    more = f"<p>… and {len(rows) - _SHOWN} more rows</p>" if len(rows) > _SHOWN else ""
    return about + html_table(columns, rows[:_SHOWN]) + more


def lost(variables: Mapping[str, Variable]) -> str:
    """Words on the trajectories that diverged, which no statistic has from then on; empty if none did.

    Examples
    --------
    >>> lost({"status": Variable(("trajectory",), [0, 40, 12])})
    '; 2 diverged'
    """
    found = variables["status"].nonzero if "status" in variables else 0
    return f"; {found:,} diverged" if found else ""


def as_dataframe(variables: Mapping[str, Variable]) -> pandas.DataFrame:
    """Table of all statistics, a row for each observable and record; see `sgdsim.Ensemble.to_dataframe`."""
    pandas = imported("pandas", "to_dataframe")
    kinds = [kind for kind in RECORDED if kind in variables]
    points = range(sizes_of(variables).get("point", 1))
    columns = {kind: np.reshape(variables[kind].data, -1) for kind in kinds}
    swept = {name.removeprefix(SWEPT): variables[name].data for name in variables if name.startswith(SWEPT)}
    rows = [
        (*(values[point] for values in swept.values()), step, name)
        for point in points
        for step in variables["record_step"].data
        for name in variables["observable"].data
    ]
    return pandas.DataFrame(columns, index=pandas.MultiIndex.from_tuples(rows, names=[*swept, "step", "observable"]))


def as_dataset(contents: Contents) -> xarray.Dataset:
    """The variables with their attributes and indexes; see `sgdsim.Ensemble.to_xarray`."""
    xarray = imported("xarray", "to_xarray")
    attributes = dict(contents.attributes)
    coordinates = str(attributes.pop("coordinates", "")).split()  # as xarray does when it opens the file
    dataset = xarray.Dataset(
        {name: (item.dimensions, item.data, labelled(name, item)) for name, item in contents.variables.items()},
        attrs=attributes,
    ).set_coords([name for name in coordinates if name in contents.variables])
    swept = [name for name in coordinates if name.startswith(SWEPT) and name in contents.variables]
    return _unfolded(dataset, swept) if swept else dataset  # type: ignore[no-any-return]


def _unfolded(dataset: Any, swept: Sequence[str]) -> Any:
    """A data set whose swept values are indexes; see `Ensemble.to_xarray`."""
    kinds = {name: list(dict.fromkeys(dataset[name].values.tolist())) for name in swept}
    places = [
        tuple(kinds[name].index(dataset[name].values[point].item()) for name in swept)
        for point in range(dataset.sizes["point"])
    ]
    if len(set(places)) != len(places) or math.prod(map(len, kinds.values())) != len(places):
        for name in swept:
            dataset = dataset.set_xindex(name)
        return dataset
    order = np.argsort([np.ravel_multi_index(place, [*map(len, kinds.values())]) for place in places])
    attributes = {name: dataset[name].attrs for name in swept}
    dataset = dataset.isel(point=order).drop_vars(["point", *swept])
    for name, item in dataset.variables.items():
        if "point" in item.dims:
            shape = (*map(len, kinds.values()), *item.shape[1:])
            dataset = dataset.drop_vars(name).assign(
                {name: ((*swept, *item.dims[1:]), item.values.reshape(shape), item.attrs)}
            )
    return dataset.assign_coords({name: (name, values, attributes[name]) for name, values in kinds.items()})
