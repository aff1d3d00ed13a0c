"""Figures: each kind has a file that decides what to show; `sgdsim.plots.render` draws them all."""
