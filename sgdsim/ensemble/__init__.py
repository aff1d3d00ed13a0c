"""Ensembles: labelled arrays with their provenance, and the HDF5 file that holds them."""

from sgdsim.ensemble.ensemble import Ensemble, open_parts, save_parts, to_datatree
from sgdsim.ensemble.last_states import LastStates
from sgdsim.ensemble.variable import WHOLE, Attribute, Counted, Rare, Variable

__all__ = [
    "WHOLE",
    "Attribute",
    "Counted",
    "Ensemble",
    "LastStates",
    "Rare",
    "Variable",
    "open_parts",
    "save_parts",
    "to_datatree",
]
