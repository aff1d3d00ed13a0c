"""Methods that laws share: flows, expansions, recursions, stationary densities."""
