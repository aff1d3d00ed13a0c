"""From an ensemble to error bars and verdicts; the simulator's insides are unknown here."""
