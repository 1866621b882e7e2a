"""Changes of tables by the local Realtime server: who gets what, in which shape, after which filters."""

from __future__ import annotations

import asyncio
import statistics
import time
from contextlib import AsyncExitStack
from datetime import datetime
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import pytest
from _realtime_client import (
    ALICE,
    BOB,
    DEADLINE,
    OWN_ROWS,
    OWNED,
    RawClient,
    binding,
    changes_until,
    raw_client,
)
from _realtime_fixtures import Database, RunningRealtime, connected_database
from realtime_fixtures import client, context, database, fence, realtime  # noqa: F401 - fixtures

from jamestronic_sdk.local.realtime.changes import wait_until_visible

if TYPE_CHECKING:
    from jamestronic_sdk.local.context import LocalContext


# --- what is delivered ----------------------------------------------------------------------------------


async def test_the_envelope(client: RawClient, database: Database) -> None:
    """Keys, columns and the commit time."""
    table = await database.table("id bigint primary key, status text, tags text[]")
    ids = await client.subscribe("envelope", binding(table))
    before = time.time()
    await database.run(f"insert into {table} values (7, 'open', '{{a}}')")
    frame = await client.frame()
    data = frame["payload"]["data"]
    moment = data.pop("commit_timestamp")
    assert frame["payload"].keys() == {"ids", "data"}
    assert frame["payload"]["ids"] == ids
    assert data == {
        "schema": "public",
        "table": table,
        "type": "INSERT",
        "columns": [
            {"name": "id", "type": "int8"},
            {"name": "status", "type": "text"},
            {"name": "tags", "type": "_text"},
        ],
        "record": {"id": 7, "status": "open", "tags": ["a"]},
        "errors": None,
    }
    assert len(moment) == len("2026-03-01T10:34:56.789Z")
    assert moment.endswith("Z")
    assert abs(datetime.fromisoformat(moment).timestamp() - before) < DEADLINE


@pytest.mark.parametrize("full", [False, True])
@pytest.mark.parametrize("rls", [False, True])
async def test_insert_update_delete(
    client: RawClient, realtime: RunningRealtime, database: Database, *, full: bool, rls: bool
) -> None:
    """Images by replica identity; a DELETE under row level security shows the key only."""
    table = await database.table(OWNED, full=full, rls=rls)
    await database.run(OWN_ROWS.format(table))
    await client.subscribe("crud", binding(table), token=realtime.token(sub=ALICE))
    got: list[dict[str, Any]] = []
    for statement in (
        f"insert into {table} values (1, '{ALICE}', 'a')",
        f"update {table} set note = 'b'",
        f"update {table} set id = 2",
        f"delete from {table}",
    ):
        await database.run(statement)
        got.append(await client.change())  # one by one: visibility is that of the moment of reading
    first = {"id": 1, "owner": ALICE, "note": "a"}
    second, third = {**first, "note": "b"}, {**first, "note": "b", "id": 2}
    assert [data["type"] for data in got] == ["INSERT", "UPDATE", "UPDATE", "DELETE"]
    assert [data.get("old_record") for data in got] == [
        None,
        first if full else {"id": 1},
        second if full else {"id": 1},
        third if full and not rls else {"id": 2},
    ]
    assert got[0]["record"] == first
    assert [data.get("record") for data in got[1:]] == [second, third, None]


async def test_visibility_follows_the_row_as_it_is_when_read(
    client: RawClient, realtime: RunningRealtime, database: Database, fence: str
) -> None:
    """Enter comes as UPDATE, leave as nothing, insert-then-delete as DELETE, DELETE to everybody."""
    table = await database.table(OWNED, rls=True)
    await database.run(OWN_ROWS.format(table))
    async with raw_client(realtime.url, realtime.context.anon_key) as other:
        both = (binding(table), binding(fence))
        await client.subscribe("rls", *both, token=realtime.token(sub=ALICE))
        await other.subscribe("rls", *both, token=realtime.token(sub=BOB))
        await database.run(f"insert into {table} values (1, '{BOB}', 'x')")
        await database.run(f"insert into {fence} default values")
        assert await changes_until(client, fence) == []
        assert [data["type"] for data in await changes_until(other, fence)] == ["INSERT"]
        # Bob's row becomes Alice's.
        await database.run(f"update {table} set owner = '{ALICE}'")
        await database.run(f"insert into {fence} default values")
        (entered,) = await changes_until(client, fence)
        assert (entered["type"], entered["old_record"]) == ("UPDATE", {"id": 1})
        assert await changes_until(other, fence) == []
        # Gone before it can be read: no INSERT, but the DELETE, to both.
        await database.together(
            f"insert into {table} values (2, '{ALICE}', 'y')", f"delete from {table} where id = 2"
        )
        await database.run(f"insert into {fence} default values")
        for each in (client, other):
            (deleted,) = await changes_until(each, fence)
            assert (deleted["type"], deleted["old_record"]) == ("DELETE", {"id": 2})


async def test_transferred_before_it_is_read(
    client: RawClient, realtime: RunningRealtime, database: Database, fence: str
) -> None:
    """Inserted for Alice and given to Bob in one transaction: Bob gets both, Alice nothing."""
    table = await database.table(OWNED, rls=True)
    await database.run(OWN_ROWS.format(table))
    async with raw_client(realtime.url, realtime.context.anon_key) as other:
        both = (binding(table), binding(fence))
        await client.subscribe("moved", *both, token=realtime.token(sub=ALICE))
        await other.subscribe("moved", *both, token=realtime.token(sub=BOB))
        await database.together(
            f"insert into {table} values (1, '{ALICE}', 'x')",
            f"update {table} set owner = '{BOB}'",
            f"insert into {fence} default values",
        )
        assert await changes_until(client, fence) == []
        got = await changes_until(other, fence)
        assert [(data["type"], data["record"]["owner"]) for data in got] == [
            ("INSERT", ALICE),
            ("UPDATE", BOB),
        ]


async def test_a_commit_is_waited_for_until_it_is_visible(context: LocalContext) -> None:
    """PostgreSQL streams a commit before queries see it: asked then, the row would seem to be missing."""
    async with connected_database(context) as writer, connected_database(context) as reader:
        await writer.run("begin")
        ((xid,),) = await writer.run("select pg_current_xact_id()::text::bigint & 4294967295")
        assert isinstance(xid, int)
        async with asyncio.TaskGroup() as group:
            waiting = group.create_task(wait_until_visible(reader.connection, [xid]))
            done, _ = await asyncio.wait([waiting], timeout=0.05)
            assert not done
            await writer.run("commit")
        await wait_until_visible(reader.connection, [xid])
        await wait_until_visible(reader.connection, [2**32 - 1])  # of the epoch before


async def test_service_role_sees_all(
    client: RawClient, realtime: RunningRealtime, database: Database
) -> None:
    """BYPASSRLS."""
    table = await database.table(OWNED, rls=True)
    await client.subscribe("service", binding(table), token=realtime.context.service_role_key)
    await database.run(f"insert into {table} values (1, '{ALICE}', 'x')")
    assert (await client.change())["record"]["id"] == 1


async def test_a_policy_that_raises_for_somebody_hides_rows_from_them_only(
    realtime: RunningRealtime, database: Database, fence: str
) -> None:
    """Tokens of one role are asked together; the others are asked again without the one that fails."""
    table = await database.table(OWNED, rls=True)
    sub = "(select current_setting('request.jwt.claims', true)::json ->> 'sub')"
    await database.run(
        f"create policy bad on {table} for select to authenticated using "
        f"(1 / (case when {sub} = '{BOB}' then 0 else 1 end) = 1 and (owner is null or owner::text = {sub}))"
    )
    both = (binding(table), binding(fence))
    people = (ALICE, BOB, str(uuid4()))
    async with AsyncExitStack() as stack:
        clients = [
            await stack.enter_async_context(raw_client(realtime.url, realtime.context.anon_key))
            for _ in people
        ]
        for each, person in zip(clients, people, strict=True):
            await each.subscribe("some", *both, token=realtime.token(sub=person))
        await database.together(
            f"insert into {table} values (1, null, 'everybody'), (2, '{ALICE}', 'Alice')",
            f"insert into {fence} default values",
        )
        seen = [[data["record"]["id"] for data in await changes_until(each, fence)] for each in clients]

    assert seen == [[1, 2], [], [1]]


async def test_a_policy_that_raises_hides_its_rows_only(
    client: RawClient, realtime: RunningRealtime, database: Database, fence: str
) -> None:
    """Better than the hosted service, which loses the batch of everybody."""
    table = await database.table(OWNED, rls=True)
    await database.run(f"create policy bad on {table} for select to authenticated using (1 / (id - 1) = 1)")
    await database.run(f"create policy good on {table} for select to anon using (true)")
    async with raw_client(realtime.url, realtime.context.anon_key) as other:
        both = (binding(table), binding(fence))
        await client.subscribe("raise", *both, token=realtime.token(sub=ALICE))
        await other.subscribe("raise", *both)
        await database.together(
            f"insert into {table} values (1, null, 'x'), (2, null, 'y')",
            f"insert into {fence} default values",
        )
        assert [data["record"]["id"] for data in await changes_until(client, fence)] == [2]
        assert [data["record"]["id"] for data in await changes_until(other, fence)] == [1, 2]


async def test_column_grants(client: RawClient, database: Database) -> None:
    """Columns without SELECT are in no image and in no list."""
    table = await database.table("id int primary key, shown text, hidden text", full=True, grant=None)
    await database.run(f"grant select (id, shown) on {table} to anon")
    await client.subscribe("grants", binding(table))
    await database.run(f"insert into {table} values (1, 'a', 'secret')")
    await database.run(f"update {table} set shown = 'b'")
    inserted, updated = await client.change(), await client.change()
    assert [column["name"] for column in inserted["columns"]] == ["id", "shown"]
    assert inserted["record"] == {"id": 1, "shown": "a"}
    assert updated["old_record"] == {"id": 1, "shown": "a"}


@pytest.mark.parametrize(
    ("columns", "grant", "error"),
    [
        ("id int primary key, x int", None, "Error 401: Unauthorized"),
        ("id int, x int", "select", "Error 400: Bad Request, no primary key"),
    ],
)
async def test_error_events_are_bare(
    client: RawClient, database: Database, columns: str, grant: str | None, error: str
) -> None:
    """No values and no time; filters do not matter; with FULL a DELETE still comes."""
    table = await database.table(columns, grant=grant, full=True)
    await database.run(f"grant select (x) on {table} to anon")
    await client.subscribe("bare", binding(table, filter="x=eq.99"))
    await database.run(f"insert into {table} values (1, 2)")
    await database.run(f"update {table} set x = 3")
    bare = {
        "schema": "public",
        "table": table,
        "columns": [],
        "record": {},
        "commit_timestamp": None,
        "errors": [error],
    }
    assert await client.change() == {**bare, "type": "INSERT"}
    assert await client.change() == {**bare, "type": "UPDATE", "old_record": {}}


async def test_several_bindings(client: RawClient, database: Database) -> None:
    """One frame with the ids of all that match, another one per `select`."""
    table = await database.table("id int primary key, a int, b int")
    first, second, third, _ = await client.subscribe(
        "several",
        binding(table),
        binding(table, "INSERT"),
        binding(table, select=["b"]),
        binding(table, "DELETE"),
    )
    await database.run(f"insert into {table} values (1, 2, 3)")
    frames = [(await client.frame())["payload"] for _ in range(2)]
    assert [frame["ids"] for frame in frames] == [[first, second], [third]]
    assert [frame["data"]["record"] for frame in frames] == [{"id": 1, "a": 2, "b": 3}, {"id": 1, "b": 3}]
    assert [column["name"] for column in frames[1]["data"]["columns"]] == ["id", "b"]


async def test_truncate_is_not_delivered(client: RawClient, database: Database, fence: str) -> None:
    """Nor is DDL."""
    table = await database.table("id int primary key")
    await client.subscribe("truncate", binding(table), binding(fence))
    await database.run(f"truncate {table}")
    await database.run(f"alter table {table} add column more text default 'x'")
    await database.run(f"insert into {table} values (1)")
    await database.run(f"insert into {fence} default values")
    assert [data["record"] for data in await changes_until(client, fence)] == [{"id": 1, "more": "x"}]


async def test_order_over_tables_and_large_transactions(
    client: RawClient, database: Database, fence: str
) -> None:
    """The order of the log, also where one transaction comes in several batches."""
    table = await database.table("id int primary key, note text")
    await client.subscribe("order", binding(table), binding(fence))
    await database.together(
        f"insert into {table} select g, 'x' from generate_series(1, 1300) g",
        f"insert into {fence} default values",
    )
    got = await changes_until(client, fence)
    assert [data["record"]["id"] for data in got] == list(range(1, 1301))
    assert len({data["commit_timestamp"] for data in got}) == 1


VALUES = [
    ("bigint", "9223372036854775807", "9223372036854775807"),
    ("smallint", "-7", "-7"),
    ("numeric", "1.50", "1.50"),
    ("numeric", "123456789012345678901234567890.123", "123456789012345678901234567890.123"),
    ("numeric", "'NaN'", "null"),
    ("float8", "0.1", "0.1"),
    ("float8", "'Infinity'", "null"),
    ("real", "'-Infinity'", "null"),
    ("boolean", "true", "true"),
    ("uuid", f"'{ALICE}'", f'"{ALICE}"'),
    ("text", "E'a\"b\\nč'", '"a\\"b\\nč"'),
    ("varchar(9)", "'x'", '"x"'),
    ("name", "'x'", '"x"'),
    ("inet", "'10.0.0.1'", '"10.0.0.1"'),
    ("pg_lsn", "'0/16B3748'", '"0/16B3748"'),
    ("interval", "'1 day 02:03:04'", '"1 day 02:03:04"'),
    ("time", "'12:34:56'", '"12:34:56"'),
    ("point", "'(1,2)'", '"(1,2)"'),
    ("int4range", "'[1,5)'", '"[1,5)"'),
    ("money", "12.34", '"$12.34"'),
    ("varbit", "B'101'", '"101"'),
    ("oid", "42", '"42"'),
    ("timestamptz", "'2026-03-01 10:34:56.7890+00'", '"2026-03-01T10:34:56.789+00:00"'),
    ("timestamptz", "'2026-03-01 10:34:56+00'", '"2026-03-01T10:34:56+00:00"'),
    ("timestamp", "'2026-03-01 12:34:56.789123'", '"2026-03-01T12:34:56.789123"'),
    ("date", "'2026-03-01'", '"2026-03-01"'),
    ("json", "'{\"a\": [1, null]}'", '{"a": [1, null]}'),
    ("jsonb", '\'{"a": {"b": 1.0}}\'', '{"a": {"b": 1.0}}'),
    ("int[]", "'{{1,2},{3,NULL}}'", "[[1, 2], [3, null]]"),
    ("text[]", "'{\"a,b\",NULL}'", '["a,b", null]'),
    ("bytea", "'\\x0102ff'", '"0102ff"'),
    ("public.rt_mood", "'sad'", '"sad"'),
    ("public.rt_pair", "'(1,x)'", '{"a": 1, "b": "x"}'),
    ("public.rt_small", "7", "7"),
    ("char(4)", "'ab'", '"ab  "'),
    ("bit(3)", "B'101'", '"101"'),
    ("text", "null", "null"),
]
"""Type, SQL expression, JSON text on the wire. char(n) and bit(n) are whole, unlike on the hosted service."""


async def test_values(client: RawClient, database: Database) -> None:
    """The database's own `to_jsonb`, digit by digit."""
    await database.run("create type public.rt_mood as enum ('sad', 'glad')")
    await database.run("create type public.rt_pair as (a int, b text)")
    await database.run("create domain public.rt_small as int check (value < 10)")
    columns = ", ".join(f"v{at:02d} {type_}" for at, (type_, _, _) in enumerate(VALUES))
    table = await database.table(f"id int primary key, {columns}")
    await client.subscribe("values", binding(table))
    await database.run(f"insert into {table} values (1, {', '.join(sql for _, sql, _ in VALUES)})")
    text = await client.text()
    for at, (type_, sql, expected) in enumerate(VALUES):
        assert f'"v{at:02d}":{expected}' in text, (type_, sql)
    assert text.index('"id":1') < text.index('"v00":')


@pytest.mark.parametrize("full", [False, True])
async def test_unchanged_values_out_of_line(
    client: RawClient, database: Database, fence: str, *, full: bool
) -> None:
    """Absent by default, copied from the old image with FULL; a filter on them does not match."""
    table = await database.table("id int primary key, n int, big text", full=full)
    await database.run(f"alter table {table} alter column big set storage external")
    (plain, *_) = await client.subscribe(
        "toast", binding(table), binding(table, "UPDATE", filter="big=neq.x"), binding(fence)
    )
    await database.run(f"insert into {table} values (1, 1, repeat('x', 10000))")
    await database.run(f"update {table} set n = 2")
    assert len((await client.change())["record"]["big"]) == 10_000
    frame = await client.frame()
    assert frame["payload"]["ids"] == [plain]
    record = frame["payload"]["data"]["record"]
    assert (record["n"], "big" in record) == (2, full)


async def test_a_change_over_a_mebibyte(client: RawClient, database: Database) -> None:
    """Error 413, with the small values only."""
    table = await database.table("id int primary key, small text, big text")
    await client.subscribe("large", binding(table))
    await database.run(f"insert into {table} values (1, 'x', repeat('y', 1200000))")
    data = await client.change()
    assert data["errors"] == ["Error 413: Payload Too Large"]
    assert data["record"] == {"id": 1, "small": "x"}


# --- filters --------------------------------------------------------------------------------------------

ROWS = {
    1: "'a,b', 5, 10.50, '2026-01-01', true",
    2: "'abc', 7, 3, '2026-06-01', false",
    3: "null, null, null, null, null",
    4: "'ABC', -1, 99, '2025-01-01', null",
}
FILTERS = [
    ("", {1, 2, 3, 4}),
    ("id=eq.1", {1}),
    ("s=eq.abc", {2}),
    ('s=eq."a,b"', {1}),
    ("s=neq.abc", {1, 4}),
    ("s=not.eq.abc", {1, 4}),
    ("n=eq.10.5", {1}),
    ("i=lt.5", {4}),
    ("i=lte.5", {1, 4}),
    ("i=gt.5", {2}),
    ("i=gte.5", {1, 2}),
    ("i=not.gte.5", {4}),
    ("t=gt.2026-01-01", {2}),
    ('s=in.("a,b",abc)', {1, 2}),
    ("s=not.in.(abc)", {1, 4}),
    ("i=in.(5,-1)", {1, 4}),
    ("s=like.a%", {1, 2}),
    ("s=ilike.ab%", {2, 4}),
    ("s=match.^a.c$", {2}),
    ("s=imatch.^a.c$", {2, 4}),
    ("s=is.null", {3}),
    ("s=not.is.null", {1, 2, 4}),
    ("b=is.true", {1}),
    ("b=is.unknown", {3, 4}),
    ("s=isdistinct.abc", {1, 3, 4}),
    ("s=not.isdistinct.abc", {2}),
    ("i=gt.0,s=like.a%,b=is.false", {2}),
]


async def test_filters(client: RawClient, database: Database, fence: str) -> None:
    """Every operator, with nulls, negation, quotes and casts: what PostgreSQL says."""
    table = await database.table("id int primary key, s text, i int, n numeric, t timestamptz, b boolean")
    bindings = [binding(table, "INSERT", filter=text) for text, _ in FILTERS]
    ids = await client.subscribe("filters", *bindings, binding(fence))
    for id_, row in ROWS.items():
        await database.run(f"insert into {table} values ({id_}, {row})")
    await database.run(f"insert into {fence} default values")
    matched: dict[int, set[int]] = {id_: set() for id_ in ids}
    while (payload := (await client.frame())["payload"])["data"]["table"] != fence:
        for id_ in payload["ids"]:
            matched[id_].add(payload["data"]["record"]["id"])
    assert [(text, matched[id_]) for id_, (text, _) in zip(ids, FILTERS, strict=False)] == FILTERS


async def test_filters_and_images(client: RawClient, database: Database, fence: str) -> None:
    """UPDATE looks at the new image; DELETE at the old one, where default identity has only the key."""
    plain = await database.table("id int primary key, s text")
    full = await database.table("id int primary key, s text", full=True, rls=True)
    await database.run(f"create policy all_rows on {full} for select to anon using (true)")
    for table in (plain, full):
        await client.subscribe(table, binding(table, filter="s=eq.in"), binding(fence))
        got: list[str] = []
        for statement in (
            f"insert into {table} values (1, 'out')",
            f"update {table} set s = 'in'",
            f"update {table} set s = 'out'",
            f"update {table} set s = 'in'",
            f"delete from {table}",
        ):
            await database.run(statement)
            await database.run(f"insert into {fence} default values")
            got += [data["type"] for data in await changes_until(client, fence)]
        assert got == ["UPDATE", "UPDATE", *(["DELETE"] if table == full else [])]
        await client.send(f"realtime:{table}", "phx_leave", {}, ref="l")
        assert [(await client.frame())["event"] for _ in range(2)] == ["phx_reply", "phx_close"]


@pytest.mark.parametrize(
    ("wrong", "text"),
    [
        (
            {"table": "nope"},
            "Please check Realtime is enabled for the given connect parameters: [event: INSERT, ",
        ),
        ({"filter": "foo=eq.1"}, "Exception: ERROR P0001 (raise_exception) invalid column for filter foo"),
        (
            {"filter": "id=eq.abc"},
            "ERROR 22P02 (invalid_text_representation) invalid input syntax for type integer",
        ),
        ({"filter": "id=like.1"}, "ERROR 42883 (undefined_function) operator does not exist"),
        ({"filter": "s=match.("}, "ERROR 2201B (invalid_regular_expression)"),
        ({"filter": "id=is.true"}, "ERROR 42804 (datatype_mismatch)"),
        ({"filter": "nonsense"}, "Error parsing `filter` params: "),
        ({"select": "id"}, "Error parsing `select` params: "),
        ({"select": ["foo"]}, "invalid column for select foo"),
        ({"table": "*", "select": ["id"]}, "Column selection is not supported for wildcard subscriptions."),
        ({"table": None}, "No subscription params provided."),
    ],
)
async def test_a_bad_binding_refuses_all_of_the_channel(
    client: RawClient, database: Database, fence: str, wrong: dict[str, Any], text: str
) -> None:
    """One system error; the channel stays joined, its broadcasts work, no changes come."""
    table = await database.table("id int primary key, s text")
    reply = await client.join(
        "bad", binding(fence), {**binding(table, "INSERT"), **wrong}, broadcast={"self": True}
    )
    assert reply["status"] == "ok"
    system = await client.system()
    assert (system["extension"], system["status"], system["channel"]) == ("postgres_changes", "error", "bad")
    assert text in system["message"]
    await database.run(f"insert into {fence} default values")
    async with raw_client(client_url(client), key_of(client)) as other:
        await other.subscribe("good", binding(fence))
        await database.run(f"insert into {fence} default values")
        await other.change()
    await client.send("realtime:bad", "broadcast", {"event": "x"})
    assert (await client.frame())["event"] == "broadcast"


def client_url(client: RawClient) -> str:
    host, port = client.websocket.remote_address[:2]
    return f"http://{host}:{port}"


def key_of(client: RawClient) -> str:
    request = client.websocket.request
    assert request is not None
    return request.path.partition("apikey=")[2].partition("&")[0]


# --- speed --------------------------------------------------------------------------------------------------


async def test_latency(
    client: RawClient, realtime: RunningRealtime, database: Database, capsys: pytest.CaptureFixture[str]
) -> None:
    """From the end of the commit's call to the frame: a push, not a poll."""
    table = await database.table(OWNED, rls=True)
    await database.run(OWN_ROWS.format(table))
    await client.subscribe("speed", binding(table), token=realtime.token(sub=ALICE))
    await database.run(f"insert into {table} values (1, '{ALICE}', '')")
    await client.change()
    times: list[float] = []
    for at in range(50):
        await database.run(f"update {table} set note = '{at}'")
        start = time.perf_counter()
        await client.change()
        times.append(time.perf_counter() - start)
    times.sort()
    with capsys.disabled():
        median, slow = statistics.median(times) * 1000, times[47] * 1000
        print(f"\ncommit to frame, row level security: p50 {median:.1f} ms, p95 {slow:.1f} ms")
    assert statistics.median(times) < 0.5
