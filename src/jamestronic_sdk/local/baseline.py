"""What a reset goes back to: a template database, and the quick way back to it.

Rules:

    1. ``jamestronic_template`` holds the package's SQL and no data of anybody, or what ``save`` found.
    2. A reset compares the shape of the database (its catalogue) with the template's. While only rows have
       changed it puts back those of the tables that differ, in one transaction: every connection, replication
       slot, prepared statement and schema cache stays good. That is the usual case, and takes milliseconds.
    3. Otherwise, or when somebody's open transaction is in the way, the database is made again from the
       template: exact, about a second, and everybody is disconnected.

Never:
    A state in which a crash leaves no database: the two names are swapped in one transaction.
"""

from __future__ import annotations

import asyncio
import contextlib
import datetime as dt
import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, LiteralString, TypeAlias, cast

import psycopg
from psycopg import sql
from psycopg.rows import TupleRow

from jamestronic_sdk.errors import LocalStackError
from jamestronic_sdk.local.realtime import partitions

if TYPE_CHECKING:
    from collections.abc import Callable

    from jamestronic_sdk.local.context import LocalContext

__all__ = ["TEMPLATE", "Baseline", "has_template", "make_template"]

_log: Final = logging.getLogger("jamestronic_sdk.local")

DATABASE: Final = "postgres"
TEMPLATE: Final = "jamestronic_template"
_NEXT: Final = "jamestronic_next"
_OLD: Final = "jamestronic_old"
_OUTSIDE: Final = "template1"
"""Where to stand while the others are renamed."""

_LOCK_TIMEOUT: Final = "2s"
"""For a transaction of somebody else; longer than any request of a test takes."""

_EVICTION_INTERVAL: Final = 0.02
"""Seconds between two looks at who is connected; PostgreSQL itself looks every 0.1 s."""

Connection: TypeAlias = psycopg.AsyncConnection[TupleRow]

# Each DDL statement writes new versions of catalogue rows: their places and the transactions that wrote them
# tell it. Of pg_class only what DDL changes, because statistics and TRUNCATE write there, too. Schema
# realtime is left out, where a server makes and drops daily partitions.
_OF_RELATIONS: Final[dict[LiteralString, LiteralString]] = {
    "pg_attribute": "attrelid",
    "pg_attrdef": "adrelid",
    "pg_index": "indrelid",
    "pg_inherits": "inhparent",
    "pg_rewrite": "ev_class",
    "pg_trigger": "tgrelid",
}
"""Catalogue to its column that names the relation."""

_OF_SPACES: Final[dict[LiteralString, LiteralString]] = {
    "pg_constraint": "connamespace",
    "pg_type": "typnamespace",
}
"""Catalogue to its column that names the schema."""

_WHOLE: Final[tuple[LiteralString, ...]] = (
    "pg_cast",
    "pg_default_acl",
    "pg_enum",
    "pg_event_trigger",
    "pg_extension",
    "pg_foreign_server",
    "pg_operator",
    "pg_policy",
    "pg_proc",
    "pg_publication",
    "pg_publication_namespace",
    "pg_publication_rel",
    "pg_sequence",
    "pg_statistic_ext",
)

_SHAPE: Final = sql.SQL("""
with spaces as (
  select oid, xmin from pg_catalog.pg_namespace
   where nspname not in ('pg_catalog', 'information_schema', 'pg_toast', 'realtime')
     and nspname !~ '^pg_(toast_)?temp_'
), relations as (
  select c.* from pg_catalog.pg_class c join spaces on spaces.oid = c.relnamespace
), parts (identity) as (
  select (oid, relname, relnamespace, reltype, relowner, relam, relkind, relpersistence, relnatts, relchecks,
          relrowsecurity, relforcerowsecurity, relreplident, relacl, reloptions)::text
    from relations
  union all select row(oid, xmin)::text from spaces
  -- What a materialized view holds can't be put back row by row: such a database has no fixed shape.
  union all select gen_random_uuid()::text from relations where relkind = 'm'
  union all {}
)
select count(*) || '.' || coalesce(sum(hashtextextended(identity, 0)), 0) from parts
""").format(
    sql.SQL(" union all ").join(
        [
            *(
                sql.SQL(
                    "select row({}, c.ctid, c.xmin)::text from {} c join relations r on r.oid = {}"
                ).format(
                    sql.Literal(catalog), sql.Identifier("pg_catalog", catalog), sql.Identifier("c", column)
                )
                for catalog, column in _OF_RELATIONS.items()
            ),
            *(
                sql.SQL("select row({}, c.oid, c.xmin)::text from {} c join spaces s on s.oid = {}").format(
                    sql.Literal(catalog), sql.Identifier("pg_catalog", catalog), sql.Identifier("c", column)
                )
                for catalog, column in _OF_SPACES.items()
            ),
            *(
                sql.SQL("select row({}, c.ctid, c.xmin)::text from {} c").format(
                    sql.Literal(catalog), sql.Identifier("pg_catalog", catalog)
                )
                for catalog in _WHOLE
            ),
        ]
    )
)

_RELATIONS: Final[LiteralString] = """
select c.relkind, n.nspname, c.relname, array(
    select a.attname from pg_catalog.pg_attribute a
     where a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped and a.attgenerated = ''
     order by a.attnum
  )
  from pg_catalog.pg_class c join pg_catalog.pg_namespace n on n.oid = c.relnamespace
 where c.relkind in ('r', 'S') and c.relpersistence <> 't'
   and n.nspname not in ('pg_catalog', 'information_schema', 'pg_toast')
 order by n.nspname, c.relname
"""

_EVICT: Final = "select pg_terminate_backend(pid) from pg_catalog.pg_stat_activity where datname = %s"


@dataclass(frozen=True, slots=True)
class _Relation:
    """A table or a sequence, by its name."""

    schema: str
    name: str
    columns: tuple[str, ...]
    """Those that can be written; empty for a sequence."""

    @property
    def identifier(self) -> sql.Identifier:
        return sql.Identifier(self.schema, self.name)


_Digest: TypeAlias = tuple[int, object]
"""Of a table the number of its rows and their hash; of a sequence its value and whether it was given out."""


@dataclass(frozen=True, slots=True)
class _Saved:
    """The template's content."""

    shape: str
    tables: dict[_Relation, _Digest]
    sequences: dict[_Relation, _Digest]
    rows: dict[_Relation, bytes]
    """In the text format of COPY, for the tables that have some."""


class Baseline:
    """The state that ``reset`` returns to.

    Args:
        context: The instance, which runs.
    """

    def __init__(self, context: LocalContext) -> None:
        self._context: Final = context
        self._saved: _Saved | None = None
        self._turn: Final = asyncio.Lock()

    async def reset(self) -> bool:
        """Put everything back.

        Returns:
            Whether the connections survived; otherwise the database was made again.

        Raises:
            LocalStackError: It was not possible; the database is as it was, or as it should be.
        """
        async with self._turn:
            try:
                if await self._put_rows_back():
                    return True
            except psycopg.Error as error:
                _log.warning("a reset makes the database again: %s", _said(error))
            await self._replace(DATABASE, TEMPLATE)
            async with await self._connect() as connection:
                await partitions.ensure(connection, dt.datetime.now(dt.UTC).date())
            return False

    async def prepare(self) -> None:
        """Read the template now, so that the first reset is as quick as the others; a failure is no harm."""
        async with self._turn:
            with contextlib.suppress(psycopg.Error):
                self._saved = self._saved or await self._read_template()

    async def save(self) -> None:
        """Make the present state the one that ``reset`` returns to; disconnects everybody.

        Raises:
            LocalStackError: It was not possible; the old one stays.
        """
        async with self._turn:
            self._saved = None
            await self._replace(TEMPLATE, DATABASE)

    # --- row by row ------------------------------------------------------------------------------------

    async def _put_rows_back(self) -> bool:
        """Make all rows those of the template; False when more than rows has changed."""
        async with await self._connect() as connection:
            saved = self._saved
            if saved is None:
                self._saved = saved = await self._read_template()
            async with connection.transaction():
                await connection.execute(
                    "select set_config('lock_timeout', %s, true),"
                    # How long a lock of autovacuum is waited for before that is cancelled.
                    " set_config('deadlock_timeout', '20ms', true),"
                    # No triggers and no foreign keys: the rows are right as they are.
                    " set_config('session_replication_role', 'replica', true)",
                    (_LOCK_TIMEOUT,),
                )
                tables, sequences = await _relations(connection)
                # Writes that are under way end first, and reads go on.
                await connection.execute(_lock(tables))
                if await _shape(connection) != saved.shape:
                    return False
                now = await _digests(connection, tables, _table_digest)
                for table, digest in now.items():
                    if digest != saved.tables.get(table, _EMPTY):
                        await _restore(connection, table, saved.rows.get(table))
                now = await _digests(connection, sequences, _sequence_digest)
                for sequence, (value, is_called) in saved.sequences.items():
                    if now.get(sequence) != (value, is_called):
                        await connection.execute(
                            "select setval(%s::regclass, %s, %s)",
                            (sequence.identifier.as_string(), value, is_called),
                        )
                await connection.execute(_RESET_SYNC)
        return True

    async def _read_template(self) -> _Saved:
        async with await self._connect(TEMPLATE) as connection:
            tables, sequences = await _relations(connection)
            digests = await _digests(connection, tables, _table_digest)
            return _Saved(
                shape=await _shape(connection),
                tables=digests,
                sequences=await _digests(connection, sequences, _sequence_digest),
                rows={
                    table: await _read(connection, table)
                    for table, digest in digests.items()
                    if digest != _EMPTY
                },
            )

    # --- as a whole ------------------------------------------------------------------------------------

    async def _replace(self, target: str, source: str) -> None:
        """Put a copy of one database in the place of another."""
        try:
            async with await self._connect(_OUTSIDE) as connection:
                await _drop(connection, _NEXT, _OLD)
                async with asyncio.TaskGroup() as group:
                    evictor = group.create_task(self._evict(), name="evictor")
                    await connection.execute(_create(_NEXT, source))
                    await _swap(connection, target)
                    evictor.cancel()
                await _drop(connection, _OLD)
        except (psycopg.Error, ExceptionGroup) as error:
            raise LocalStackError(
                f"The database was not made again: {_said(error)}.",
                next_step="Try again; if it stays, stop and start the local stack.",
            ) from error

    async def _evict(self) -> None:
        """Disconnect everybody from the database, again and again: PostgreSQL copies and renames it alone."""
        async with await self._connect(_OUTSIDE) as connection:
            while True:
                await connection.execute(_EVICT, (DATABASE,))
                await asyncio.sleep(_EVICTION_INTERVAL)

    async def _connect(self, database: str = DATABASE) -> Connection:
        return await psycopg.AsyncConnection.connect(
            self._context.dsn("supabase_admin", database=database, application_name="baseline"),
            autocommit=True,
        )


async def make_template(context: LocalContext) -> None:
    """Make the template from the database as it is, before anybody else is connected.

    Raises:
        LocalStackError: It was not possible.
    """
    await Baseline(context).save()


async def has_template(context: LocalContext) -> bool:
    """Whether there is one: the data of older versions have none."""
    async with await psycopg.AsyncConnection.connect(
        context.dsn("supabase_admin", database=_OUTSIDE)
    ) as connection:
        cursor = await connection.execute("select from pg_database where datname = %s", (TEMPLATE,))
        return await cursor.fetchone() is not None


# What clients of the package's SQL know of the changes so far is worth nothing from now on.
_RESET_SYNC: Final[LiteralString] = """
do $$
begin
  if to_regprocedure('private.reset_sync()') is not null then
    perform private.reset_sync();
  end if;
end
$$
"""

_EMPTY: Final[_Digest] = (0, 0)


def _said(error: Exception) -> str:
    """What went wrong, without the text of a database's error, which may quote rows."""
    if isinstance(error, ExceptionGroup):
        return _said(cast("ExceptionGroup[Exception]", error).exceptions[0])
    return getattr(error, "sqlstate", None) or type(error).__name__


def _create(name: str, template: str) -> sql.Composed:
    return sql.SQL("create database {} template {} owner postgres").format(
        sql.Identifier(name), sql.Identifier(template)
    )


async def _drop(connection: Connection, *names: str) -> None:
    for name in names:
        await connection.execute(
            sql.SQL("drop database if exists {} with (force)").format(sql.Identifier(name))
        )


async def _swap(connection: Connection, target: str) -> None:
    """The next one takes the target's name; the target, if there is one, the old one's."""
    rename = sql.SQL("alter database {} rename to {}")
    async with connection.transaction():
        cursor = await connection.execute("select from pg_database where datname = %s", (target,))
        if await cursor.fetchone() is not None:
            await connection.execute(rename.format(sql.Identifier(target), sql.Identifier(_OLD)))
        await connection.execute(rename.format(sql.Identifier(_NEXT), sql.Identifier(target)))


async def _shape(connection: Connection) -> str:
    cursor = await connection.execute(_SHAPE)
    row = await cursor.fetchone()
    return str(row and row[0])


async def _relations(connection: Connection) -> tuple[list[_Relation], list[_Relation]]:
    """All tables and all sequences."""
    cursor = await connection.execute(_RELATIONS)
    tables: list[_Relation] = []
    sequences: list[_Relation] = []
    for kind, schema, name, columns in await cursor.fetchall():
        is_table = kind in {"r", b"r"}
        (tables if is_table else sequences).append(
            _Relation(schema, name, tuple(columns) if is_table else ())
        )
    return tables, sequences


def _lock(tables: list[_Relation]) -> sql.Composed:
    names = sql.SQL(", only ").join(table.identifier for table in tables)
    return sql.SQL("lock table only {} in exclusive mode").format(names)


def _table_digest(table: _Relation) -> sql.Composed:
    return sql.SQL(
        "select count(*), coalesce(sum(hashtextextended(t::text, 0)), 0) from only {} as t"
    ).format(table.identifier)


def _sequence_digest(sequence: _Relation) -> sql.Composed:
    return sql.SQL("select last_value, is_called from {}").format(sequence.identifier)


async def _digests(
    connection: Connection, relations: list[_Relation], query: Callable[[_Relation], sql.Composed]
) -> dict[_Relation, _Digest]:
    if not relations:
        return {}
    numbered = [
        sql.SQL("select {}, q.* from ({}) q").format(sql.Literal(at), query(relation))
        for at, relation in enumerate(relations)
    ]
    cursor = await connection.execute(sql.SQL(" union all ").join(numbered))
    return {relations[at]: (first, second) for at, first, second in await cursor.fetchall()}


def _columns(table: _Relation) -> sql.Composed:
    return sql.SQL(", ").join(map(sql.Identifier, table.columns))


async def _read(connection: Connection, table: _Relation) -> bytes:
    statement = sql.SQL("copy {} ({}) to stdout").format(table.identifier, _columns(table))
    async with connection.cursor() as cursor, cursor.copy(statement) as copy:
        return b"".join([bytes(chunk) async for chunk in copy])


async def _restore(connection: Connection, table: _Relation, rows: bytes | None) -> None:
    # Not TRUNCATE: it makes new files for the table and its indexes, which takes longer than a few rows.
    await connection.execute(sql.SQL("delete from only {}").format(table.identifier))
    if rows:
        statement = sql.SQL("copy {} ({}) from stdin").format(table.identifier, _columns(table))
        async with connection.cursor() as cursor, cursor.copy(statement) as copy:
            await copy.write(rows)
