"""From a run to an ensemble: the run loop, where it runs, and what it writes down."""
