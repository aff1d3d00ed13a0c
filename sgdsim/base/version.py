"""Version of the package, in a file of its own: packaging reads it without importing anything."""

__version__ = "0.1.0"
