"""Error bars and verdicts from an ensemble alone: nothing here knows the simulator."""
