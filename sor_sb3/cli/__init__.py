"""The ``sor-sb3`` command: parse, call the package, print. A module here holds the commands of one kind.

Exit status: 0 done, 1 the work failed, 2 the user can mend it, 130 interrupted.
"""

import os
import sys

import typer

from sor_sb3.cli import calibrate, compare, data, hub, jobs, looking, markets, plot, tca
from sor_sb3.cli.apps import app
from sor_sb3.errors import UserError, WorkFailed

__all__ = ["app", "calibrate", "compare", "data", "hub", "jobs", "looking", "main", "markets", "plot", "tca"]


def main() -> None:
    """Entry point: a mistake that the user can mend is one sentence and exit status 2; failed work is 1."""
    sys.path.append(os.getcwd())  # where a user's own "module:Class" lies, as for `python -m`
    try:
        app()
    except (UserError, WorkFailed) as error:
        typer.echo(f"error: {error}", err=True)
        sys.exit(2 if isinstance(error, UserError) else 1)
