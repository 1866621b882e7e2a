"""From a batch of the log to what each subscriber gets: rendering, filters, grants, row level security.

Rules (a subscriber is a role with claims and bindings; an audience is those who differ by claims only):

    1. An INSERT or UPDATE of a table with row level security goes to whom a row with its new key is
       visible at the moment the change is read, asked of the database as that role with those claims.
    2. A DELETE goes to every subscriber whose filters pass; with row level security it shows the key only.
    3. Columns that the role may not SELECT are in no image; without the key there is an error, no row.
    4. Filters look at the new image, for a DELETE at the old one. What the log has not, does not match.
    5. Values are PostgreSQL's: its text, cast to the column's type, through ``to_jsonb``.

Promises:
    Order: deliveries come in the order of the log.
    Isolation: a policy or a filter that raises hides the row from those it was asked for; nobody else.
    Work grows with audiences and with distinct claims, not with subscribers.

Never:
    A role left set: each question is a transaction that is rolled back.
"""

from __future__ import annotations

import asyncio
import json
import logging
import time
from collections import defaultdict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, LiteralString, TypeAlias

import psycopg
from psycopg import sql

from jamestronic_sdk.local.realtime import pgoutput
from jamestronic_sdk.local.realtime.catalog import Column, Connection, read_table
from jamestronic_sdk.local.realtime.filters import Binding, Filter, predicate
from jamestronic_sdk.local.realtime.protocol import RawJson, to_json

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence
    from datetime import datetime

    from jamestronic_sdk.local.realtime.replication import Batch, RowChange

__all__ = ["Audience", "Delivery", "resolve", "wait_until_visible"]

_log = logging.getLogger("jamestronic_sdk.local.realtime")

_SIZE_LIMIT: Final = 1_048_576
"""Bytes of a change, both images; above it the hosted server sends values of at most 64 bytes only."""
_SMALL_VALUE: Final = 64
"""Bytes of JSON text that a value may have in a change above the limit."""

_POLICY_TIMEOUT: Final = "5s"
"""A policy that hangs must not stop the stream for ever; it hides the row instead."""

_VISIBLE_TIMEOUT: Final = 5.0
_VISIBLE_INTERVAL: Final = 0.001
"""Seconds. It takes microseconds, unless the committing process is not scheduled."""

_NOT_FINITE: Final = frozenset({"NaN", "Infinity", "-Infinity"})
_NUMBERS: Final = frozenset({"float4", "float8", "numeric"})

_NULL: Final = "null"

Image: TypeAlias = dict[str, str]
"""Column name to JSON text; a column that the log has not is absent."""

_Seen: TypeAlias = defaultdict[tuple[int, str], set[str]]
"""The claims that see the row of a change, by its place and the role."""


@dataclass(frozen=True, slots=True)
class Audience:
    """Subscribers of one role who ask for the same: they differ by their claims at most."""

    role: str
    bindings: tuple[Binding, ...]


@dataclass(frozen=True, slots=True)
class Delivery:
    """One payload for those of an audience who may see it."""

    audience: Audience
    claims: Collection[str] | None = field(repr=False)
    """Whose, as JSON text; None: everybody's."""
    ids: tuple[int, ...]
    """Of the bindings that matched."""
    data: RawJson


@dataclass(slots=True)
class _Change:
    """A change on its way through the steps."""

    event: str
    committed_at: str
    """As JSON text."""
    candidates: list[tuple[Audience, Binding]]
    new: pgoutput.Tuple | None
    old: dict[str, str | None]
    """The part of the old row that the log has."""
    record: Image = field(default_factory=dict[str, str])
    old_record: Image = field(default_factory=dict[str, str])
    size: int = 0
    texts: dict[object, RawJson] = field(default_factory=dict[object, RawJson])
    """Envelopes already made, by who may share them."""


async def resolve(
    connection: Connection, batch: Batch, audiences: Mapping[Audience, Collection[str]]
) -> list[Delivery]:
    """Who gets what of a batch, in the order of the log.

    Args:
        connection: As a superuser, autocommit.
        batch: Changes of some transactions.
        audiences: Everybody, with the claims of each audience, as JSON text for ``request.jwt.claims``; who
            does not ask for the tables of the batch costs nothing.

    Raises:
        psycopg.OperationalError: The database is away; nothing of the batch is known to be delivered.
    """
    asked: dict[tuple[str, str, str], list[tuple[Audience, Binding]]] = {}
    changes: list[_Change | None] = []
    by_relation: dict[pgoutput.Relation, list[_Change]] = defaultdict(list)
    for row in batch.changes:
        event = type(row.message).__name__.upper()
        key = (event, row.relation.schema, row.relation.table)
        if key not in asked:
            asked[key] = [
                (each, binding) for each in audiences for binding in each.bindings if binding.matches(*key)
            ]
        if asked[key]:
            change = _start(row, event, asked[key])
            changes.append(change)
            by_relation[row.relation].append(change)
    if changes:
        await wait_until_visible(connection, batch.xids)
    found: dict[int, list[Delivery]] = {}
    for relation, those in by_relation.items():
        found |= await _Resolver(connection, relation, those, audiences).run()
    return [delivery for change in changes for delivery in found.get(id(change), ())]


# The log has 32 bits of a transaction's number; the epoch is that of the snapshot, or the one before.
_IS_VISIBLE: Final[LiteralString] = """
with now as (
  select s as snapshot, pg_snapshot_xmax(s)::text::bigint as xmax from pg_current_snapshot() as s
), candidate as (
  select snapshot, xmax, (xmax >> 32 << 32) | given as xid from now, unnest(%s::bigint[]) as given
)
select bool_and(pg_visible_in_snapshot(
         (case when xid > xmax + 2147483648 then xid - 4294967296 else xid end)::text::xid8, snapshot))
  from candidate
"""


async def wait_until_visible(connection: Connection, xids: Collection[int]) -> None:
    """Wait until commits that the log has are ones that queries see.

    PostgreSQL flushes, and with that streams, a commit before it lets other transactions see it; in between
    a row would seem to be missing, and its change would be hidden from everybody.
    """
    deadline = time.monotonic() + _VISIBLE_TIMEOUT
    while True:
        cursor = await connection.execute(_IS_VISIBLE, (list(xids),))
        if await cursor.fetchone() == (True,):
            return
        if time.monotonic() > deadline:
            _log.warning("a commit did not become visible within %g s", _VISIBLE_TIMEOUT)
            return
        await asyncio.sleep(_VISIBLE_INTERVAL)


def _start(row: RowChange, event: str, candidates: list[tuple[Audience, Binding]]) -> _Change:
    columns = row.relation.columns
    message = row.message
    new: pgoutput.Tuple | None
    old: pgoutput.Tuple | None
    match message:
        case pgoutput.Insert():
            new, old = message.new, None
        case pgoutput.Update():
            # Without an old image the key did not change: it is that of the new image.
            new, old = message.new, message.old if message.old is not None else message.new
        case pgoutput.Delete():
            new, old = None, message.old
    kept: dict[str, str | None] = {}
    for column, value in zip(columns, old or (), strict=False):
        if column.is_identity and value is not pgoutput.UNCHANGED:
            kept[column.name] = value
    return _Change(event, _moment(row.committed_at), candidates, new, kept)


def _moment(at: datetime) -> str:
    return json.dumps(at.strftime("%Y-%m-%dT%H:%M:%S") + f".{at.microsecond // 1000:03d}Z")


class _Resolver:
    """The changes of one table in one batch."""

    def __init__(
        self,
        connection: Connection,
        relation: pgoutput.Relation,
        changes: list[_Change],
        audiences: Mapping[Audience, Collection[str]],
    ) -> None:
        self._connection = connection
        self._relation = relation
        self._changes = changes
        self._audiences = audiences
        self._names = [column.name for column in relation.columns]

    async def run(self) -> dict[int, list[Delivery]]:
        """Deliveries by ``id`` of the change."""
        roles = sorted({each.role for change in self._changes for each, _ in change.candidates})
        table = await read_table(self._connection, self._relation.oid, roles)
        if table is None:  # dropped since
            return {}
        self._table = table
        self._types = {column.name: column for column in table.columns}
        await self._render()
        passing = await self._filter()
        visible = await self._look(passing)
        return {
            id(change): self._deliver(at, change, passing[at], visible)
            for at, change in enumerate(self._changes)
        }

    # --- values ---------------------------------------------------------------------------------

    async def _render(self) -> None:
        """Fill in ``record`` and ``old_record`` of all changes with one query."""
        images: list[tuple[Image, dict[str, str | None]]] = []
        for change in self._changes:
            new = self._new_values(change)
            images += [(change.record, new), (change.old_record, change.old)]
            change.size = sum(
                len(name) + len(value or _NULL) + 32
                for image in (new, change.old)
                for name, value in image.items()
            )
        columns = [self._types[name] for name in self._names if name in self._types]
        rows = [[_finite(column, values.get(column.name)) for column in columns] for _, values in images]
        for (image, values), rendered in zip(images, await self._to_json(columns, rows), strict=True):
            if rendered is not None:
                image.update(
                    (column.name, text if text is not None else _NULL)
                    for column, text in zip(columns, rendered, strict=True)
                    if column.name in values
                )

    def _new_values(self, change: _Change) -> dict[str, str | None]:
        """The new image; an unchanged value stored out of line comes from the old one if that is whole."""
        values: dict[str, str | None] = {}
        is_full = self._relation.replica_identity is pgoutput.ReplicaIdentity.FULL
        for name, value in zip(self._names, change.new or (), strict=False):
            if value is not pgoutput.UNCHANGED:
                values[name] = value
            elif is_full and name in change.old:
                values[name] = change.old[name]
        return values

    async def _to_json(
        self, columns: Sequence[Column], rows: Sequence[Sequence[str | None]]
    ) -> Sequence[Sequence[str | None] | None]:
        """JSON texts of the rows; None for a row that the database can't render."""
        if not columns:
            return [() for _ in rows]
        expressions = [
            sql.SQL("to_jsonb(encode({}::bytea, 'hex'))::text").format(_argument(at))
            if column.type_name == "bytea"
            else sql.SQL("to_jsonb({}::{})::text").format(_argument(at), column.sql_type)
            for at, column in enumerate(columns)
        ]
        try:
            return await self._over_rows(sql.SQL("select {}").format(sql.SQL(", ").join(expressions)), rows)
        except psycopg.OperationalError:
            raise
        except psycopg.Error as error:
            if len(rows) == 1:
                _log.error("a change of %s can't be rendered: %s", self._table.name, error.sqlstate)
                return [None]
            return [one for row in rows for one in await self._to_json(columns, [row])]

    async def _over_rows(
        self, select: sql.Composed, rows: Sequence[Sequence[str | None]], parameters: Sequence[Any] = ()
    ) -> list[tuple[Any, ...]]:
        """Run a select over the rows as text columns, keeping their order."""
        query = sql.SQL("{} from {} order by nr").format(select, _source(len(rows[0])))
        cursor = await self._connection.execute(query, [*parameters, *map(list, zip(*rows, strict=True))])
        return await cursor.fetchall()

    # --- filters --------------------------------------------------------------------------------

    async def _filter(self) -> list[list[tuple[Audience, Binding]]]:
        """Per change, the candidates whose filters pass."""
        wanted = {
            each for change in self._changes for _, binding in change.candidates for each in binding.filters
        }
        truth = {each: await self._test(each) for each in wanted}
        return [
            [
                (audience, binding)
                for audience, binding in change.candidates
                if all(truth[each][at] for each in binding.filters)
            ]
            for at, change in enumerate(self._changes)
        ]

    async def _test(self, each: Filter) -> list[bool]:
        """Whether each change passes the filter."""
        column = self._types.get(each.column)
        place = self._names.index(each.column) if each.column in self._names else None
        results = [False] * len(self._changes)
        if column is None or place is None:
            return results
        images = [_value(change, each.column, place) for change in self._changes]
        present = [at for at, value in enumerate(images) if value is not pgoutput.UNCHANGED]
        rows = [[value] for value in images if value is not pgoutput.UNCHANGED]
        if rows:
            test, parameters = predicate(each, _argument(0), column.sql_type)
            try:
                answers = await self._over_rows(sql.SQL("select {}").format(test), rows, parameters)
            except psycopg.OperationalError:
                raise
            except psycopg.Error as error:
                _log.warning("a filter on %s failed: %s", self._table.name, error.sqlstate)
            else:
                for at, (answer,) in zip(present, answers, strict=True):
                    results[at] = answer
        return results

    # --- row level security -----------------------------------------------------------------------

    def _problem(self, change: _Change, role: str) -> str | None:
        """Why the role gets an error in place of the row."""
        keys = self._table.keys
        if change.event == "DELETE":
            return None
        if not keys:
            return "Error 400: Bad Request, no primary key"
        if any(key.name not in self._table.selectable[role] for key in keys):
            return "Error 401: Unauthorized"
        return None

    async def _look(self, passing: list[list[tuple[Audience, Binding]]]) -> _Seen | None:
        """Whose claims see the row of a change now, by the change and the role; None: nobody has to ask."""
        if not self._table.has_rls:
            return None
        wanted: dict[tuple[str, str], dict[int, None]] = defaultdict(dict)
        for at, candidates in enumerate(passing):
            for audience, _ in candidates:
                if self._changes[at].event != "DELETE" and not self._problem(
                    self._changes[at], audience.role
                ):
                    for claims in self._audiences[audience]:
                        wanted[audience.role, claims][at] = None
        # Who has the same question is asked together.
        questions: dict[tuple[str, tuple[int, ...]], list[str]] = defaultdict(list)
        for (role, claims), places in wanted.items():
            questions[role, tuple(places)].append(claims)
        seen: _Seen = defaultdict(set)
        for (role, those), askers in questions.items():
            for claims, visible in zip(askers, await self._ask(role, askers, those), strict=True):
                for at in visible:
                    seen[at, role].add(claims)
        return seen

    async def _ask(self, role: str, askers: Sequence[str], those: Sequence[int]) -> list[Sequence[int]]:
        """Which of those changes' rows each asker sees now; an asker is the claims of a token."""
        keys = self._table.keys
        places = [self._names.index(key.name) for key in keys if key.name in self._names]
        if len(places) != len(keys):
            return [()] * len(askers)
        rows: list[dict[str, str | None]] = []
        for at in those:
            new = self._changes[at].new or ()
            values = [None if (value := new[place]) is pgoutput.UNCHANGED else value for place in places]
            rows.append({f"c{place}": value for place, value in enumerate(values)})
        try:
            async with self._connection.transaction(force_rollback=True):
                await self._connection.execute(
                    "select set_config('statement_timeout', %s, true)", (_POLICY_TIMEOUT,)
                )
                cursor = await self._connection.execute(
                    "select visible from realtime.rows_visible_to(%s, %s, %s, %s)",
                    (self._question(), to_json(rows), role, list(askers)),
                )
                answers: list[tuple[list[int]]] = await cursor.fetchall()
        except psycopg.OperationalError as error:
            if not isinstance(error, psycopg.errors.QueryCanceled):
                raise
            return await self._ask_apart(role, askers, those, f"took longer than {_POLICY_TIMEOUT}")
        except psycopg.Error as error:
            return await self._ask_apart(role, askers, those, f"failed: {error.sqlstate}")
        return [[those[nr - 1] for nr in visible] for (visible,) in answers]

    async def _ask_apart(
        self, role: str, askers: Sequence[str], those: Sequence[int], complaint: str
    ) -> list[Sequence[int]]:
        """Ask again in halves, to find those whose question fails: from them the rows are hidden."""
        if len(askers) > 1:
            half = len(askers) // 2
            return [
                *await self._ask(role, askers[:half], those),
                *await self._ask(role, askers[half:], those),
            ]
        if len(those) > 1:
            return [[one for at in those for one in (await self._ask(role, askers, [at]))[0]]]
        _log.warning("a policy of %s %s", self._table.name, complaint)
        return [()]

    def _question(self) -> str:
        """Which rows of ``$1``, keys as texts, are in the table."""
        keys = self._table.keys
        given = sql.SQL(", ").join([sql.SQL("{} text").format(_argument(at)) for at in range(len(keys))])
        names = sql.SQL(", ").join([*map(_argument, range(len(keys))), sql.Identifier("nr")])
        same = sql.SQL(" and ").join(
            sql.SQL("seen.{} = {}::{}").format(sql.Identifier(key.name), _argument(at), key.sql_type)
            for at, key in enumerate(keys)
        )
        return (
            sql.SQL(
                # No join: that would try the policy on rows that nobody asked for.
                "select coalesce("
                "array_agg(nr) filter (where exists (select from {} as seen where {})), '{{}}')"
                " from rows from (jsonb_to_recordset($1) as ({})) with ordinality as given({})"
            )
            .format(sql.Identifier(self._table.schema, self._table.name), same, given, names)
            .as_string(self._connection)
        )

    # --- frames -----------------------------------------------------------------------------------

    def _deliver(
        self, at: int, change: _Change, passing: list[tuple[Audience, Binding]], seen: _Seen | None
    ) -> list[Delivery]:
        """The payloads of one change: one per audience and set of columns."""
        groups: dict[tuple[Audience, frozenset[str] | None, str | None], list[int]] = {}
        allowed = {id(binding) for _, binding in passing}
        for audience, binding in change.candidates:
            problem = self._problem(change, audience.role)
            if problem is None and id(binding) not in allowed:
                continue
            select = frozenset(binding.select) if binding.select is not None else None
            groups.setdefault((audience, select, problem), []).append(binding.id)
        return [
            Delivery(
                audience,
                None if seen is None or problem or change.event == "DELETE" else seen[at, audience.role],
                tuple(dict.fromkeys(ids)),
                self._envelope(change, audience.role, select, problem),
            )
            for (audience, select, problem), ids in groups.items()
        ]

    def _envelope(
        self, change: _Change, role: str, select: frozenset[str] | None, problem: str | None
    ) -> RawJson:
        keys = frozenset(key.name for key in self._table.keys)
        names = self._table.selectable[role]
        if select is not None:
            names &= select | keys
        shared = (names, problem)
        if shared not in change.texts:
            change.texts[shared] = RawJson(
                self._bare(change, problem) if problem else self._whole(change, names, keys)
            )
        return change.texts[shared]

    def _bare(self, change: _Change, problem: str) -> str:
        images = '"record":{},' + ('"old_record":{},' if change.event == "UPDATE" else "")
        errors = to_json([problem])
        return f'{{{self._head(change)},"commit_timestamp":null,"columns":[],{images}"errors":{errors}}}'

    def _whole(self, change: _Change, names: frozenset[str], keys: frozenset[str]) -> str:
        is_large = change.size > _SIZE_LIMIT
        columns = to_json(
            [
                {"name": column.name, "type": column.type_name}
                for column in self._table.columns
                if column.name in names
            ]
        )
        parts = [self._head(change), f'"commit_timestamp":{change.committed_at}', f'"columns":{columns}']
        if change.event != "DELETE":
            parts.append(f'"record":{_object(change.record, names, is_large=is_large)}')
        if change.event != "INSERT":
            shown = names & keys if change.event == "DELETE" and self._table.has_rls else names
            parts.append(f'"old_record":{_object(change.old_record, shown, is_large=is_large)}')
        parts.append(f'"errors":{to_json(["Error 413: Payload Too Large"] if is_large else None)}')
        return f"{{{','.join(parts)}}}"

    def _head(self, change: _Change) -> str:
        relation = self._relation
        return (
            f'"schema":{to_json(relation.schema)},"table":{to_json(relation.table)},"type":"{change.event}"'
        )


def _object(image: Image, names: frozenset[str], *, is_large: bool) -> str:
    """A JSON object in the key order of jsonb: by length, then bytes."""
    shown = sorted(
        (name for name in image if name in names), key=lambda name: (len(name.encode()), name.encode())
    )
    fields = (
        f"{to_json(name)}:{image[name]}"
        for name in shown
        if not is_large or len(image[name].encode()) <= _SMALL_VALUE
    )
    return f"{{{','.join(fields)}}}"


def _value(change: _Change, name: str, place: int) -> pgoutput.Value:
    """What a filter looks at: the new image, of a DELETE the old one."""
    if change.new is not None:
        return change.new[place]
    return change.old.get(name, pgoutput.UNCHANGED)


def _finite(column: Column, value: str | None) -> str | None:
    """NaN and the infinities of numbers are null, as the hosted server's decoder has them."""
    return None if value in _NOT_FINITE and column.type_name in _NUMBERS else value


def _argument(at: int) -> sql.Identifier:
    return sql.Identifier(f"c{at}")


def _source(count: int) -> sql.Composed:
    """Rows of text columns ``c0``, ``c1``, ... from as many array parameters, numbered by ``nr``."""
    arrays = sql.SQL(", ").join([sql.SQL("%s::text[]")] * count)
    names = sql.SQL(", ").join([*map(_argument, range(count)), sql.Identifier("nr")])
    return sql.SQL("unnest({}) with ordinality as given({})").format(arrays, names)
