"""Speed, measured side by side with the ways in which the same is done without sgdsim; `python -m benchmarks`."""
