"""The version of the package, on its own: packaging and files read it without importing anything."""

__version__ = "0.1.0"
