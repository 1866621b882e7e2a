"""The `jamestronic` command: a local stack, and the SQL that ships with the package.

Promises:
    An error of this package is one line on stderr and exit code 1, never a traceback.
"""

from __future__ import annotations

import sys
from typing import Final

import typer

from jamestronic_sdk.cli.local import local as local_commands
from jamestronic_sdk.cli.sql import sql as sql_commands
from jamestronic_sdk.errors import JamesTronicError

__all__ = ["app", "run"]

app: Final[typer.Typer] = typer.Typer(
    help="JamesTronic: a local Supabase, and the SQL of this package.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
app.add_typer(local_commands, name="local")
app.add_typer(sql_commands, name="sql")


def run() -> None:
    """Run the command; ends the process with its exit code."""
    try:
        app()
    except JamesTronicError as error:
        sys.stderr.write(f"{type(error).__name__}: {error}\n")
        sys.exit(1)
