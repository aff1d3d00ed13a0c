"""Simulation of runs: the run loop, devices, checkpoints, shards, and the labelled results."""
