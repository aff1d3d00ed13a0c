"""The commands of sgdsim, each also a call from Python."""
