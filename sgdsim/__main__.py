"""``python -m sgdsim``."""

from sgdsim.cli import main

main(prog_name="sgdsim")
