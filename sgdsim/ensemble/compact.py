"""Contents of a file in a short form, whose size does not grow with the number of trajectories."""

from __future__ import annotations

import json
import math

import numpy as np

from sgdsim.base.errors import InputError
from sgdsim.base.sparse import Sparse
from sgdsim.ensemble.variable import Contents, Counted, Implied, Rare, Variable, allowed

SCHEMA_VERSION = 1
COMPACT_VERSION = 2
"""Version of a file in the short form of `compact`."""

IMPLIED = "implied_variables"
"""Attribute of a file that lists the variables in the short form."""


def compact(contents: Contents) -> Contents:
    """The contents in a short form, whose size does not grow with the number of trajectories.

    A variable that is nearly always zero is replaced by its values that are not, and their places in the flattened
    array. A coordinate that counts from 0, and a variable without values, are replaced by a description.
    """
    along = {name: item for name, item in contents.variables.items() if "trajectory" in item.dimensions}
    rare = {name: item for name, item in along.items() if isinstance(item, Rare)}
    is_little = all(8 * item.nonzero < math.prod(item.shape) for item in rare.values())
    if not rare or not is_little or any(not isinstance(i, Implied) and math.prod(i.shape) for i in along.values()):
        return contents
    variables = {name: item for name, item in contents.variables.items() if name not in along}
    told = []
    for name, item in along.items():
        values = item.values if isinstance(item, Rare) else None
        kind = "empty" if not isinstance(item, Implied) else "count" if values is None else "rare"
        dtype = item.dtype if isinstance(item, Counted) else values.dtype if values else item.data.dtype.str
        about = {"name": name, "kind": kind, "dimensions": item.dimensions, "shape": item.shape, "dtype": dtype}
        told.append({**about, "attributes": dict(item.attributes)})
        if values is not None:
            where = {
                "units": "1",
                "long_name": f"places where {name} is not 0, counted over {', '.join(item.dimensions)}",
            }
            what = {"units": "1", "long_name": f"{name} there: {item.attributes.get('long_name', '')}"}
            variables[f"{name}_index"] = Variable((f"{name}_index",), values.index, where)
            variables[f"{name}_value"] = Variable((f"{name}_index",), values.values, what)
    return Contents(variables, {**contents.attributes, IMPLIED: json.dumps(told)})


def expanded(stored: Contents) -> Contents:
    """The contents from which `compact` made the short form.

    Raises
    ------
    InputError
        For a description that does not fit the values beside it.
    """
    attributes, variables = dict(stored.attributes), dict(stored.variables)
    for about in json.loads(str(attributes.pop(IMPLIED, "[]"))):
        name, dimensions, shape = str(about["name"]), tuple(about["dimensions"]), tuple(about["shape"])
        dtype, labels = np.dtype(about["dtype"]), allowed(about["attributes"])
        if len(shape) != len(dimensions) or any(not isinstance(n, int) or not 0 <= n < 2**62 for n in shape):
            raise InputError(f"{name!r}: shape {shape}, expected a length for each of {', '.join(dimensions)}")
        if about["kind"] == "count":
            variables[name] = Counted(dimensions[0], shape[0], dtype.str, labels)
        elif about["kind"] == "rare":
            index, values = (variables.pop(f"{name}_{what}").data for what in ("index", "value"))
            if index.dtype.kind != "i" or values.dtype.kind != "i" or not _is_sorted(index, math.prod(shape)):
                raise InputError(f"{name!r}: its places are not those of one value each")
            variables[name] = Rare(dimensions, Sparse(shape, dtype.str, index, values), labels)
        elif math.prod(shape):
            raise InputError(f"{name!r}: its values are missing")
        else:
            variables[name] = Variable(dimensions, np.empty(shape, dtype), labels)
    return Contents(variables, attributes)


def _is_sorted(index: np.ndarray, size: int) -> bool:
    return bool((np.diff(index) > 0).all() and (len(index) == 0 or (index[0] >= 0 and index[-1] < size)))
