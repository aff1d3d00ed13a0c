"""Simulate millions of independent SGD trajectories and hold them against theory."""

__version__ = "0.1.0"
