"""``python -m sgdsim``."""

from sgdsim.app.cli import main

main(prog_name="sgdsim")
