"""`jamestronic sql`: the SQL that ships with the package."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Final

import typer

from jamestronic_sdk import sql as sql_files
from jamestronic_sdk.cli._names import now
from jamestronic_sdk.cli._output import ExitCode
from jamestronic_sdk.cli._root import output_of

__all__ = ["sql"]

sql: Final[typer.Typer] = typer.Typer(
    help="The SQL that ships with this package.", no_args_is_help=True, add_completion=False
)


@sql.command("list")
def list_files() -> None:
    """List the SQL files in the order in which they apply, with their checksums."""
    found = sql_files.files()
    output_of().result(
        {"files": [{"name": file.name, "checksum": file.checksum} for file in found]},
        "\n".join(f"{file.checksum[:16]}  {file.name}" for file in found),
    )


@sql.command()
def export(
    migrations: Annotated[
        Path, typer.Option("--migrations", file_okay=False, help="Folder of the Supabase CLI's migrations.")
    ] = Path("supabase/migrations"),
) -> None:
    """Write migrations for `supabase db push`, one for each file that changed since the last export."""
    out = output_of()
    written = sql_files.export(migrations, now=now())
    out.result({"written": [str(path) for path in written]}, "\n".join(map(str, written)))
    if not written:
        out.note(f"Nothing to do: {migrations} is up to date.")


@sql.command()
def check(
    database_url: Annotated[
        str, typer.Argument(envvar="DATABASE_URL", metavar="URL", help="Of the database; or DATABASE_URL.")
    ],
) -> None:
    """Say what of the SQL is missing, outdated or altered in a database: exit code 0 when nothing is."""
    problems = sql_files.check(database_url)
    output_of().result(
        {"ok": not problems, "problems": [asdict(problem) for problem in problems]},
        "\n".join(f"{one.kind:9} {one.file:20} {one.what}" for one in problems)
        or "The database has the SQL of this version.",
    )
    if problems:
        raise typer.Exit(ExitCode.FAILURE)
