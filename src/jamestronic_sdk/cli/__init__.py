"""The `jamestronic` command, one room per subject.

Promises:
    ``--help`` imports neither the client nor the local stack: it answers at once.
"""

from __future__ import annotations

from typing import Final

import typer

from jamestronic_sdk.cli._output import ExitCode
from jamestronic_sdk.cli._root import Root
from jamestronic_sdk.cli.account import login, logout, whoami
from jamestronic_sdk.cli.demo import demo
from jamestronic_sdk.cli.doctor import doctor
from jamestronic_sdk.cli.local import local as local_commands
from jamestronic_sdk.cli.sql import sql as sql_commands
from jamestronic_sdk.cli.tickets import tickets as ticket_commands

__all__ = ["ExitCode", "app", "run"]

app: Final[typer.Typer] = typer.Typer(
    cls=Root,
    help="JamesTronic: tickets, who is signed in, the project's health, its SQL, and a local Supabase.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)
app.command()(login)
app.command()(logout)
app.command()(whoami)
app.add_typer(ticket_commands, name="tickets")
app.command()(doctor)
app.add_typer(sql_commands, name="sql")
app.add_typer(local_commands, name="local")
app.command(context_settings={"allow_extra_args": True, "ignore_unknown_options": True})(demo)


def run() -> None:
    """Run the command; ends the process with its exit code."""
    app(prog_name="jamestronic")
