"""Laws: what theory predicts for a run, one file a piece of physics; each declares itself when it is imported."""
