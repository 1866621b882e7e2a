"""The daily partitions of ``realtime.messages``: made ahead of time, dropped when their messages are old.

Promises:
    Whenever ``ensure`` has succeeded within the last three days, today has a partition.
    Nothing is locked when there is nothing to do.

Never:
    Waiting behind a long transaction: others would queue up behind the waiting lock.
"""

from __future__ import annotations

from datetime import date, timedelta
from typing import TYPE_CHECKING, Final, LiteralString

from psycopg import sql

if TYPE_CHECKING:
    from jamestronic_sdk.local.realtime.catalog import Connection

__all__ = ["ensure", "partition_name"]

_AHEAD: Final = 3
"""Days for which partitions are made; hosted: the same."""

_KEPT: Final = 3
"""Days after which messages are dropped; hosted: 72 hours, by whole partitions."""

_LOCK_TIMEOUT: Final = "1s"
"""Making and dropping partitions locks the whole table; the caller tries again later."""

_PREFIX: Final = "messages_"

_EXISTING: Final[LiteralString] = """
select child.relname
  from pg_catalog.pg_inherits i
  join pg_catalog.pg_class child on child.oid = i.inhrelid
 where i.inhparent = 'realtime.messages'::regclass
"""


def partition_name(day: date) -> str:
    """The table of a day's messages, in schema ``realtime``."""
    return f"{_PREFIX}{day:%Y_%m_%d}"


async def ensure(connection: Connection, today: date) -> None:
    """Make what is missing of yesterday to three days ahead, and drop what is older than three days.

    Args:
        connection: As a superuser, autocommit.
        today: In UTC, the time zone of ``inserted_at``.

    Raises:
        psycopg.Error: The database is away, or somebody holds a lock; try again later.
    """
    cursor = await connection.execute(_EXISTING)
    existing = {str(name) for (name,) in await cursor.fetchall()}
    wanted = [today + timedelta(days=shift) for shift in range(-1, _AHEAD + 1)]
    limit = partition_name(today - timedelta(days=_KEPT))
    # The names sort like their days. What somebody else attached is left alone.
    old = sorted(name for name in existing if name.startswith(_PREFIX) and name < limit)
    for day in wanted:
        if partition_name(day) not in existing:
            await _change(
                connection,
                # Realtime of several test runs may do the same at the same time.
                sql.SQL(
                    "create table if not exists {} partition of realtime.messages"
                    " for values from ({}) to ({})"
                ).format(
                    sql.Identifier("realtime", partition_name(day)),
                    sql.Literal(day.isoformat()),
                    sql.Literal((day + timedelta(days=1)).isoformat()),
                ),
            )
    for name in old:
        await _change(connection, sql.SQL("drop table if exists {}").format(sql.Identifier("realtime", name)))


async def _change(connection: Connection, statement: sql.Composed) -> None:
    async with connection.transaction():
        await connection.execute("select set_config('lock_timeout', %s, true)", (_LOCK_TIMEOUT,))
        await connection.execute(statement)
