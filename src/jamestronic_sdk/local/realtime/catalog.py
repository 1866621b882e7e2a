"""What the database's catalogue says about published tables, asked anew for each batch: never stale.

Promises:
    Facts of the moment: a grant, a policy or a column that changed counts from the next batch on.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, LiteralString, TypeAlias

import psycopg
from psycopg import sql

from jamestronic_sdk.errors import BadRequestError
from jamestronic_sdk.local.realtime.filters import Binding, Filter, predicate

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from psycopg.rows import TupleRow

__all__ = ["Column", "Connection", "Table", "check_bindings", "read_table"]

Connection: TypeAlias = "psycopg.AsyncConnection[TupleRow]"

PUBLICATION: Final = "supabase_realtime"


@dataclass(frozen=True, slots=True)
class Column:
    """A column that exists now."""

    name: str
    type_schema: str
    type_name: str
    """``pg_type.typname``, for example ``int8`` or ``_text``."""
    is_key: bool
    """Part of the primary key."""

    @property
    def sql_type(self) -> sql.Identifier:
        """The type without modifier: values from the log already fit it, and ``char`` must not cut them."""
        return sql.Identifier(self.type_schema, self.type_name)


@dataclass(frozen=True, slots=True)
class Table:
    """A table that exists now, as some roles see it."""

    schema: str
    name: str
    has_rls: bool
    columns: tuple[Column, ...]
    """In attribute order."""
    selectable: Mapping[str, frozenset[str]]
    """Role to the names of the columns that it may SELECT."""

    @property
    def keys(self) -> tuple[Column, ...]:
        """The columns of the primary key, in attribute order."""
        return tuple(column for column in self.columns if column.is_key)


_TABLE: Final[LiteralString] = """
select n.nspname, c.relname, c.relrowsecurity, a.attname, tn.nspname, t.typname,
       coalesce(a.attnum = any (i.indkey), false),
       array(select coalesce(has_column_privilege(g.oid, c.oid, a.attnum, 'SELECT'), false)
               from unnest(%s::text[]) with ordinality as r(name, nr)
               left join pg_roles g on g.rolname = r.name
              order by r.nr)
  from pg_class c
  join pg_namespace n on n.oid = c.relnamespace
  join pg_attribute a on a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped
  join pg_type t on t.oid = a.atttypid
  join pg_namespace tn on tn.oid = t.typnamespace
  left join pg_index i on i.indrelid = c.oid and i.indisprimary
 where c.oid = %s
 order by a.attnum
"""

_PUBLISHED: Final[LiteralString] = """
select c.oid, n.nspname, c.relname
  from pg_publication p
 cross join lateral pg_get_publication_tables(p.pubname) t
  join pg_class c on c.oid = t.relid
  join pg_namespace n on n.oid = c.relnamespace
 where p.pubname = %s
"""


async def read_table(connection: Connection, oid: int, roles: Sequence[str]) -> Table | None:
    """The table with that oid as those roles see it, or None if it is gone."""
    cursor = await connection.execute(_TABLE, (list(roles), oid))
    rows: list[tuple[Any, ...]] = await cursor.fetchall()
    if not rows:
        return None
    schema, name, has_rls = rows[0][:3]
    return Table(
        schema=schema,
        name=name,
        has_rls=has_rls,
        columns=tuple(Column(*row[3:7]) for row in rows),
        selectable={role: frozenset(row[3] for row in rows if row[7][at]) for at, role in enumerate(roles)},
    )


async def check_bindings(connection: Connection, role: str, bindings: Sequence[Binding]) -> None:
    """Whether all bindings of a channel can be served; one that can't refuses all of them.

    Raises:
        BadRequestError: The text is for the ``system`` message.
        psycopg.OperationalError: The database is away.
    """
    if (
        await (await connection.execute("select from pg_roles where rolname = %s", (role,))).fetchone()
    ) is None:
        raise BadRequestError(
            _exception(bindings[0], f'ERROR 42704 (undefined_object) role "{role}" does not exist')
        )
    cursor = await connection.execute(_PUBLISHED, (PUBLICATION,))
    published: list[tuple[Any, ...]] = await cursor.fetchall()
    for binding in bindings:
        oids = [oid for oid, schema, name in published if binding.matches(binding.event, schema, name)]
        if not oids:
            raise BadRequestError(
                "Unable to subscribe to changes with given parameters. Please check Realtime is enabled for "
                f"the given connect parameters: {binding.describe()}"
            )
        if binding.filters or binding.select is not None:
            for oid in oids:
                await _check_columns(connection, role, binding, oid)


async def _check_columns(connection: Connection, role: str, binding: Binding, oid: int) -> None:
    table = await read_table(connection, oid, [role])
    if table is None:
        return
    selectable = table.selectable[role]
    for name in binding.select or ():
        if name not in selectable:
            raise BadRequestError(
                _exception(binding, f"ERROR P0001 (raise_exception) invalid column for select {name}")
            )
    for each in binding.filters:
        column = next((column for column in table.columns if column.name == each.column), None)
        if column is None or each.column not in selectable:
            raise BadRequestError(
                _exception(binding, f"ERROR P0001 (raise_exception) invalid column for filter {each.column}")
            )
        await _try_filter(connection, binding, each, column)


async def _try_filter(connection: Connection, binding: Binding, each: Filter, column: Column) -> None:
    """Run the comparison once: a value or an operator that the type does not take is refused now."""
    test, parameters = predicate(each, sql.SQL("null::text"), column.sql_type)
    try:
        # On null most operators return at once; a regular expression is compiled by an own call.
        await connection.execute(sql.SQL("select {}").format(test), parameters)
        if each.operator in {"match", "imatch"}:
            await connection.execute("select '' ~ %s::text", (each.value,))
    except psycopg.OperationalError:
        raise
    except psycopg.Error as error:
        words = re.sub(r"(?<=[a-z])(?=[A-Z])", "_", type(error).__name__).lower()
        first_line = error.diag.message_primary or ""
        raise BadRequestError(
            _exception(binding, f"ERROR {error.sqlstate} ({words}) {first_line}")
        ) from error


def _exception(binding: Binding, text: str) -> str:
    return (
        "Unable to subscribe to changes with given parameters. An exception happened so please check your "
        f"connect parameters: {binding.describe()}. Exception: {text}"
    )
