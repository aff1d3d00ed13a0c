"""Commands as a user calls them."""

from __future__ import annotations

from click.testing import CliRunner

from sgdsim.app.cli import main


def invoked(*arguments: str) -> tuple[int, str]:
    """The exit code and the output; whatever else is raised is a fault."""
    done = CliRunner().invoke(main, arguments)
    assert done.exception is None or isinstance(done.exception, SystemExit), done.exception
    return done.exit_code, done.output
