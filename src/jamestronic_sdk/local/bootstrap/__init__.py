"""What a cluster gets: once, roles and schemas and Auth's and Realtime's objects; then the application's SQL.

Promises:
    Files run in the order of their names, each in one transaction, as the superuser.
    No password is in a file, a log or a statement's text: the server gets SCRAM verifiers.
"""

from __future__ import annotations

import hashlib
from importlib import resources
from typing import TYPE_CHECKING, Final

import psycopg
from psycopg import sql

from jamestronic_sdk.errors import LocalStackError, SqlError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from jamestronic_sdk.local.context import LocalContext

__all__ = ["apply_sql", "bootstrap", "bootstrap_checksum", "expose_new_tables"]

_LOGIN_ROLES: Final = ("postgres", "authenticator", "supabase_auth_admin")


def _files() -> list[tuple[str, str]]:
    """Name and text of each file, in order."""
    folder = resources.files(__name__)
    found = [
        (entry.name, entry.read_text("utf-8")) for entry in folder.iterdir() if entry.name.endswith(".sql")
    ]
    return sorted(found)


def bootstrap_checksum() -> str:
    """A digest over all files: a cluster that was made from others has another one."""
    digest = hashlib.sha256()
    for name, text in _files():
        digest.update(f"{name}\0{text}\0".encode())
    return digest.hexdigest()


async def bootstrap(context: LocalContext) -> None:
    """Run the files on a new cluster, then set the passwords of the login roles.

    Raises:
        LocalStackError: A file failed; its transaction was rolled back, the cluster is of no use.
    """
    async with await psycopg.AsyncConnection.connect(
        context.dsn("supabase_admin", application_name="bootstrap")
    ) as connection:
        for name, text in _files():
            try:
                async with connection.transaction():
                    await connection.execute(text.encode())
            except psycopg.Error as error:
                raise LocalStackError(
                    f"The bootstrap file {name}, line {_line(error, text)}: {_said(error)}."
                ) from error
        for role in _LOGIN_ROLES:
            verifier = connection.pgconn.encrypt_password(
                context.database_password.encode(), role.encode(), b"scram-sha-256"
            )
            await connection.execute(
                sql.SQL("alter role {} password {}").format(
                    sql.Identifier(role), sql.Literal(verifier.decode())
                )
            )


_EXPOSE: Final = b"""
alter default privileges for role postgres in schema public
  grant all on tables to anon, authenticated, service_role;
alter default privileges for role postgres in schema public
  grant all on sequences to anon, authenticated, service_role;
alter default privileges for role postgres in schema public
  grant all on functions to anon, authenticated, service_role;
"""

# What a hosted project, and the Supabase CLI with `auto_expose_new_tables = false`, take away again.
_DO_NOT_EXPOSE: Final = b"""
alter default privileges for role postgres in schema public
  revoke select, insert, update, delete on tables from anon, authenticated, service_role;
alter default privileges for role postgres in schema public
  revoke usage, select on sequences from anon, authenticated, service_role;
alter default privileges for role postgres in schema public
  revoke execute on functions from anon, authenticated, service_role;
"""


async def expose_new_tables(context: LocalContext, *, is_exposing: bool, database: str) -> None:
    """Set what the API roles may do with what ``postgres`` makes in ``public`` from now on.

    Args:
        context: The instance.
        is_exposing: Everything that policies let them; otherwise nothing that is not granted.
        database: In which one.
    """
    async with await psycopg.AsyncConnection.connect(
        context.dsn("supabase_admin", database=database, application_name="bootstrap")
    ) as connection:
        await connection.execute(_EXPOSE)
        if not is_exposing:
            await connection.execute(_DO_NOT_EXPOSE)


async def apply_sql(
    context: LocalContext,
    files: Sequence[tuple[str, str]],
    applied: Mapping[str, str],
    *,
    database: str = "postgres",
) -> dict[str, str]:
    """Run the application's SQL as the role ``postgres``, each file in one transaction.

    All files run when one is new or changed, because a later one may build on an earlier one; they are
    idempotent. They also run when the database was emptied since.

    Args:
        context: The instance.
        files: Name and text of each file, in order.
        applied: Checksums of the files that ran last, by name.
        database: In which one.

    Returns:
        The checksums that are applied now.

    Raises:
        SqlError: A file failed: it was rolled back, those before it stay.
    """
    checksums = {name: hashlib.sha256(text.encode()).hexdigest() for name, text in files}
    async with await psycopg.AsyncConnection.connect(
        context.dsn("postgres", database=database, application_name="jamestronic sql"), autocommit=True
    ) as connection:
        if checksums == dict(applied):
            cursor = await connection.execute(
                "select exists (select from pg_catalog.pg_class"
                " where relnamespace = to_regnamespace('public') and relkind in ('r', 'p'))"
            )
            if await cursor.fetchone() == (True,):
                return checksums
        for name, text in files:
            try:
                async with connection.transaction():
                    await connection.execute(text.encode())
            except psycopg.Error as error:
                raise SqlError(
                    f"{name}, line {_line(error, text)}: {_said(error)}.",
                    next_step="The file was rolled back; mend it and start again.",
                ) from error
    return checksums


def _said(error: psycopg.Error) -> str:
    """What the server said, in one line."""
    return f"{error.diag.message_primary or type(error).__name__} [{error.sqlstate or 'no SQLSTATE'}]"


def _line(error: psycopg.Error, text: str) -> str:
    """The line of the file that the server points at, or ``?``."""
    position = error.diag.statement_position
    return str(text.count("\n", 0, int(position) - 1) + 1) if position else "?"
