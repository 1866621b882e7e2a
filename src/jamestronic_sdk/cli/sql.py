"""`jamestronic sql`: the SQL that ships with the package."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Final

import typer

from jamestronic_sdk import sql as sql_files

__all__ = ["sql"]

sql: Final[typer.Typer] = typer.Typer(
    help="The SQL that ships with this package.", no_args_is_help=True, add_completion=False
)


@sql.command("list")
def list_files() -> None:
    """List the SQL files in the order in which they apply, with their checksums."""
    for file in sql_files.files():
        typer.echo(f"{file.checksum[:16]}  {file.name}")


@sql.command()
def export(
    migrations: Annotated[
        Path, typer.Option("--migrations", file_okay=False, help="Folder of the Supabase CLI's migrations.")
    ] = Path("supabase/migrations"),
) -> None:
    """Write migrations for `supabase db push`, one for each file that changed since the last export."""
    written = sql_files.export(migrations, now=datetime.now(UTC))
    for path in written:
        typer.echo(str(path))
    if not written:
        typer.echo(f"Nothing to do: {migrations} is up to date.", err=True)


@sql.command()
def check(
    database_url: Annotated[
        str, typer.Argument(envvar="DATABASE_URL", metavar="URL", help="Of the database; or DATABASE_URL.")
    ],
) -> None:
    """Say what of the SQL is missing, outdated or altered in a database: exit code 0 when nothing is."""
    problems = sql_files.check(database_url)
    for problem in problems:
        typer.echo(f"{problem.kind:9} {problem.file:20} {problem.what}")
    if problems:
        raise typer.Exit(1)
    typer.echo("The database has the SQL of this version.")
