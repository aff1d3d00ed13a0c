"""Figures: what each kind shows, one file a kind; all of them are drawn by `sgdsim.plots.render`."""
