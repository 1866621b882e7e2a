"""Broadcasts of the local Realtime server: from the database, by HTTP, private, replayed, binary."""

from __future__ import annotations

import asyncio
import io
import itertools
import json
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any
from uuid import UUID, uuid4

import aiohttp
import pytest
from _realtime_client import DEADLINE, RawClient, raw_client
from _realtime_fixtures import Database, RunningRealtime, running_realtime
from realtime import AsyncRealtimeChannel, AsyncRealtimeClient, RealtimeSubscribeStates
from realtime_fixtures import client, context, database, fence, realtime  # noqa: F401 - fixtures
from sql_support import committed_world
from websockets.asyncio.client import connect

from jamestronic_sdk.local.realtime.app import RealtimeOptions
from jamestronic_sdk.local.realtime.partitions import ensure, partition_name

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from websockets.asyncio.client import ClientConnection

    from jamestronic_sdk.local.context import LocalContext
    from jamestronic_sdk.local.stack import LocalSupabase

SUBJECT = "cccccccc-0000-4000-8000-000000000003"
OK = {"status": "ok", "response": {}}


@pytest.fixture
def room() -> str:
    """A topic of this test alone."""
    return f"room-{uuid4().hex[:8]}"


@asynccontextmanager
async def policy(database: Database, operation: str, test: str) -> AsyncIterator[None]:
    """A policy on realtime.messages, gone afterwards; made by the application's role."""
    name = f"test_{uuid4().hex[:8]}"
    clause = "with check" if operation == "insert" else "using"
    await database.together(
        "set local role postgres",
        f"create policy {name} on realtime.messages for {operation} to authenticated {clause} ({test})",
    )
    try:
        yield
    finally:
        await database.run(f"drop policy {name} on realtime.messages")


@asynccontextmanager
async def may(database: Database, room: str, *rights: str) -> AsyncIterator[None]:
    """Everybody who is signed in may do these things in the room, for example ``read broadcast``."""
    async with asyncio.timeout(DEADLINE * 3):
        names: list[str] = []
        for right in rights:
            verb, extension = right.split()
            name = f"test_{uuid4().hex[:8]}"
            test = f"(realtime.topic() = '{room}' and extension = '{extension}')"
            clause = (
                f"insert to authenticated with check {test}"
                if verb == "write"
                else f"select to authenticated using {test}"
            )
            await database.run(f"create policy {name} on realtime.messages for {clause}")
            names.append(name)
        try:
            yield
        finally:
            for name in names:
                await database.run(f"drop policy {name} on realtime.messages")


@asynccontextmanager
async def signed_in(realtime: RunningRealtime) -> AsyncIterator[RawClient]:
    async with raw_client(realtime.url, realtime.token(sub=SUBJECT)) as connected:
        yield connected


def broadcast(event: str, payload: object) -> dict[str, object]:
    return {"type": "broadcast", "event": event, "payload": payload}


async def say(client: RawClient, room: str, message: object, ref: str = "b") -> None:
    await client.send(f"realtime:{room}", "broadcast", message, ref=ref)


# --- from the database ------------------------------------------------------------------------------------


async def test_send_reaches_the_members(client: RawClient, database: Database, room: str) -> None:
    """`meta.id` is the row's id, and so is the inner one; numbers keep all their digits."""
    await client.join(room)
    await database.run(
        f"""select realtime.send('{{"n": 12345678901234567890.50}}', 'shifted', '{room}', false)"""
    )
    text = await client.text()
    assert "12345678901234567890.50" in text
    frame = json.loads(text)
    key = frame["payload"]["meta"]["id"]
    assert (frame["topic"], frame["event"], frame["ref"]) == (f"realtime:{room}", "broadcast", None)
    assert frame["payload"] == {
        "type": "broadcast",
        "event": "shifted",
        "payload": {"n": 12345678901234567890.50, "id": key},
        "meta": {"id": key},
    }
    rows = await database.run("select topic, private from realtime.messages where id = %s", UUID(key))
    assert rows == [(room, False)]


async def test_an_id_of_the_caller_stays(client: RawClient, database: Database, room: str) -> None:
    """Only `meta.id` is the row's then."""
    await client.join(room)
    await database.run(f"""select realtime.send('{{"id": 7}}', 'e', '{room}', false)""")
    payload = (await client.frame())["payload"]
    assert payload["payload"] == {"id": 7}
    assert UUID(payload["meta"]["id"]).version == 4


async def test_private_and_public_are_two_rooms(
    client: RawClient, realtime: RunningRealtime, database: Database, room: str
) -> None:
    """Whatever way a message comes, it stays on its side."""
    async with may(database, room, "read broadcast"), signed_in(realtime) as private:
        await client.join(room)
        assert (await private.join(room, private=True))["status"] == "ok"
        await database.run(f"""select realtime.send('{{"id": 1}}', 'private', '{room}')""")
        await database.run(f"""select realtime.send('{{"id": 2}}', 'public', '{room}', false)""")
        assert (await private.frame())["payload"]["event"] == "private"
        assert (await client.frame())["payload"]["event"] == "public"
        await say(client, room, broadcast("x", {}))
        await private.heartbeat()


async def test_a_transaction_that_is_rolled_back_says_nothing(
    client: RawClient, database: Database, room: str
) -> None:
    """Broadcasts come on commit, in order."""
    await client.join(room)
    async with database.undone():
        await database.run(f"""select realtime.send('{{"id": 1}}', 'lost', '{room}', false)""")
    await database.together(
        *(f"""select realtime.send('{{"id": {n}}}', 'kept', '{room}', false)""" for n in range(3))
    )
    assert [(await client.frame())["payload"]["payload"]["id"] for _ in range(3)] == [0, 1, 2]


async def test_rows_that_are_no_messages_are_dropped(
    client: RawClient, database: Database, room: str
) -> None:
    """Without event, privacy or payload nothing is sent."""
    await client.join(room)
    for columns, values in (
        ("event, private", "null, false"),
        ("event, private, payload", "'e', null, '{}'"),
        ("event, private", "'e', false"),
    ):
        await database.run(
            f"insert into realtime.messages (topic, extension, {columns}) values ('{room}', 'broadcast', {values})"
        )
    await database.run(f"""select realtime.send('{{"id": 1}}', 'last', '{room}', false)""")
    assert (await client.frame())["payload"]["event"] == "last"


async def test_row_triggers(realtime: RunningRealtime, database: Database, room: str) -> None:
    """`broadcast_changes` of an INSERT, an UPDATE and a DELETE: whole rows, for a private channel."""
    table = await database.table("id int primary key, note text, code char(3)")
    await database.run(
        f"create function public.{table}_told() returns trigger language plpgsql security definer "
        f"set search_path = '' as $$ begin perform realtime.broadcast_changes('{room}', "
        "tg_op, tg_op, tg_table_name, tg_table_schema, new, old); return null; end $$"
    )
    await database.run(
        f"create trigger told after insert or update or delete on {table} "
        f"for each row execute function public.{table}_told()"
    )
    async with may(database, room, "read broadcast"), signed_in(realtime) as client:
        await client.join(room, private=True)
        await database.run(f"insert into {table} values (1, 'a', 'abc')")
        await database.run(f"update {table} set note = 'b'")
        await database.run(f"delete from {table}")
        first, second = {"id": 1, "note": "a", "code": "abc"}, {"id": 1, "note": "b", "code": "abc"}
        for event, new, old in (("INSERT", first, None), ("UPDATE", second, first), ("DELETE", None, second)):
            payload = (await client.frame())["payload"]
            assert payload["event"] == event
            assert payload["payload"] == {
                "id": payload["meta"]["id"],
                "schema": "public",
                "table": table,
                "operation": event,
                "record": new,
                "old_record": old,
            }


async def test_the_stream_is_made_again(
    client: RawClient, database: Database, realtime: RunningRealtime, room: str
) -> None:
    """What comes after the gap is delivered; what was in it is for a replay."""
    await client.join(room)
    stream = await realtime.server.messages_stream.wait()
    await database.run(
        "select pg_terminate_backend(active_pid) from pg_replication_slots where slot_name like '%messages%'"
    )
    async with asyncio.timeout(DEADLINE):
        await stream.ended.wait()
        await realtime.server.messages_stream.wait()
    await database.run(f"""select realtime.send('{{"id": 1}}', 'after', '{room}', false)""")
    assert (await client.frame())["payload"]["event"] == "after"


# --- partitions -------------------------------------------------------------------------------------------


async def partitions(database: Database) -> set[str]:
    rows = await database.run(
        "select c.relname from pg_inherits i join pg_class c on c.oid = i.inhrelid "
        "where i.inhparent = 'realtime.messages'::regclass"
    )
    return {str(name) for (name,) in rows}


async def test_partitions_are_there_from_yesterday_on(database: Database) -> None:
    """Yesterday to three days ahead."""
    today = datetime.now(UTC).date()
    assert {partition_name(today + timedelta(days=shift)) for shift in range(-1, 4)} <= await partitions(
        database
    )


async def test_days_go_by(database: Database) -> None:
    """Each day one is made and the oldest is dropped; messages of the last three days stay."""
    connection = database.connection
    start = datetime.now(UTC).date()
    try:
        for passed in range(8):
            await ensure(connection, start + timedelta(days=passed))
            await ensure(connection, start + timedelta(days=passed))
            day = start + timedelta(days=passed)
            found = await partitions(database)
            assert {partition_name(day + timedelta(days=shift)) for shift in range(-1, 4)} <= found
            assert min(found) >= partition_name(day - timedelta(days=3))
    finally:
        await ensure(connection, start)
    assert {partition_name(start + timedelta(days=shift)) for shift in range(-1, 4)} <= await partitions(
        database
    )


async def test_without_a_partition_sending_is_a_warning(database: Database, room: str) -> None:
    """The caller's transaction goes on."""
    name = partition_name(datetime.now(UTC).date())
    async with database.undone():
        await database.run(f"alter table realtime.messages detach partition realtime.{name}")
        await database.run(f"select realtime.send('{{}}', 'e', '{room}')")
        assert await database.run(f"select from realtime.messages where topic = '{room}'") == []


# --- private channels -------------------------------------------------------------------------------------


def refused(room: str) -> dict[str, object]:
    reason = f"Unauthorized: You do not have permissions to read from this Channel topic: {room}"
    return {"status": "error", "response": {"reason": reason}}


async def test_without_a_policy_nobody_joins(client: RawClient, realtime: RunningRealtime, room: str) -> None:
    """Neither without a person nor with one; the same name is free as a public channel."""
    async with signed_in(realtime) as person:
        assert await client.join(room, private=True) == refused(room)
        assert await person.join(room, private=True) == refused(room)
        assert (await person.join(room, ref="2"))["status"] == "ok"


async def test_service_role_joins_everything(client: RawClient, realtime: RunningRealtime, room: str) -> None:
    """It passes policies."""
    reply = await client.join(room, private=True, token=realtime.token(role="service_role"))
    assert reply["status"] == "ok"


@pytest.mark.parametrize(
    ("rights", "joins", "hears", "speaks"),
    [
        (["read broadcast"], True, True, False),
        (["write broadcast"], False, False, False),
        (["read broadcast", "write broadcast"], True, True, True),
        (["read presence", "write broadcast"], True, False, True),
    ],
)
async def test_rights(
    realtime: RunningRealtime,
    database: Database,
    room: str,
    rights: list[str],
    *,
    joins: bool,
    hears: bool,
    speaks: bool,
) -> None:
    """A join needs one kind of reading; what may not be read is withheld, what may not be written is dropped."""
    async with (
        may(database, room, *rights),
        signed_in(realtime) as person,
        raw_client(realtime.url, realtime.context.service_role_key) as service,
    ):
        reply = await person.join(room, private=True, presence={"enabled": True}, broadcast={"ack": True})
        if not joins:
            assert reply == refused(room)
            return
        assert reply["status"] == "ok"
        if any(right == "read presence" for right in rights):
            assert (await person.frame())["event"] == "presence_state"
        await service.join(room, private=True)
        await say(service, room, broadcast("from the service", {}))
        if hears:
            assert (await person.frame())["payload"]["event"] == "from the service"
        await say(person, room, broadcast("from a person", {}))
        if speaks:
            assert (await service.frame())["payload"]["event"] == "from a person"
            assert (await person.frame())["payload"] == OK
        await service.heartbeat()
        await person.heartbeat()  # no reply, not even with `ack`


async def test_a_policy_that_raises_is_a_no(realtime: RunningRealtime, database: Database, room: str) -> None:
    """The others are served as before."""
    raising = f"realtime.topic() = '{room}' and 1 / (length(topic) - length(topic)) = 1"
    async with policy(database, "select", raising), signed_in(realtime) as person:
        assert await person.join(room, private=True) == refused(room)
        assert (await person.join("other", ref="2"))["status"] == "ok"


async def test_an_unknown_role_may_nothing(client: RawClient, realtime: RunningRealtime, room: str) -> None:
    """A token's role is any text."""
    assert await client.join(room, private=True, token=realtime.token(role="nobody_knows")) == refused(room)


async def test_what_policies_see(realtime: RunningRealtime, database: Database, room: str) -> None:
    """The topic, the claims in both forms, the role, and the headers of the handshake that begin with x-."""
    test = (
        f"realtime.topic() = '{room}' and auth.uid() = '{SUBJECT}' and current_user = 'authenticated' "
        f"and current_setting('request.jwt.claim.sub') = '{SUBJECT}' "
        "and current_setting('request.jwt.claim.role') = 'authenticated' "
        "and current_setting('request.headers')::json ->> 'x-shop' = 'main'"
    )
    url = f"{realtime.url.replace('http', 'ws', 1)}/websocket?apikey={realtime.token(sub=SUBJECT)}"
    async with (
        policy(database, "select", test),
        connect(url, additional_headers={"X-Shop": "main"}) as websocket,
        signed_in(realtime) as other,
    ):
        assert (await RawClient(websocket).join(room, private=True))["status"] == "ok"
        assert await other.join(room, private=True) == refused(room)


async def test_rights_are_those_of_the_join(realtime: RunningRealtime, database: Database, room: str) -> None:
    """A policy that goes is noticed when the token changes: then the channel is closed."""
    async with signed_in(realtime) as person:
        async with may(database, room, "read broadcast"):
            await person.join(room, private=True)
        await database.run(f"""select realtime.send('{{"id": 1}}', 'still', '{room}')""")
        assert (await person.frame())["payload"]["event"] == "still"
        await person.send(
            f"realtime:{room}", "access_token", {"access_token": realtime.token(sub=SUBJECT, n=2)}
        )
        assert await person.system() == {
            "channel": room,
            "extension": "system",
            "status": "error",
            "message": f"You do not have permissions to read from this Channel topic: {room}",
        }
        assert (await person.frame())["event"] == "phx_close"
        await person.heartbeat()


async def test_one_right_lost_closes_the_channel(
    realtime: RunningRealtime, database: Database, room: str
) -> None:
    """With other words than when nothing is left."""
    async with may(database, room, "read broadcast"), signed_in(realtime) as person:
        async with may(database, room, "read presence"):
            await person.join(room, private=True, presence={"enabled": True})
            assert (await person.frame())["event"] == "presence_state"
        await person.send(
            f"realtime:{room}", "access_token", {"access_token": realtime.token(sub=SUBJECT, n=2)}
        )
        text = f"You no longer have permission to read from this Channel topic: {room}"
        assert (await person.system())["message"] == text
        assert (await person.frame())["event"] == "phx_close"


async def test_a_refreshed_token_writes_anew(
    realtime: RunningRealtime, database: Database, room: str
) -> None:
    """What was refused once is asked again with the new token."""
    async with may(database, room, "read broadcast"), signed_in(realtime) as person:
        await person.join(room, private=True, broadcast={"ack": True})
        await say(person, room, broadcast("x", {}))
        await person.heartbeat()
        async with may(database, room, "write broadcast"):
            await say(person, room, broadcast("x", {}))
            await person.heartbeat()  # remembered
            await person.send(
                f"realtime:{room}", "access_token", {"access_token": realtime.token(sub=SUBJECT, n=2)}
            )
            await say(person, room, broadcast("x", {}))
            assert (await person.frame())["payload"] == OK


async def test_a_technician_who_lost_a_ticket_is_told(
    local_supabase: LocalSupabase, realtime: RunningRealtime
) -> None:
    """The package's own SQL: by policy nobody hears another's topic, by trigger the loser hears of it."""
    with committed_world(local_supabase) as world:
        technician, other = world["technician"], world["technician2"]
        mine, theirs = (f"tickets:person:{each.profile_id}" for each in (technician, other))
        token = realtime.token(sub=str(technician.user_id))
        async with raw_client(realtime.url, realtime.context.anon_key) as client:
            assert (await client.join(mine, private=True, token=token))["status"] == "ok"
            assert (await client.join(theirs, private=True, token=token))["status"] == "error"
            world.connection.execute(
                "update public.tickets set assigned_technician_id = %s where id = %s",
                [other.profile_id, world.tickets["mine"]],
            )
            world.connection.commit()
            payload = (await client.frame())["payload"]
            assert payload["event"] == "ticket_left"
            assert payload["payload"]["ticket_id"] == str(world.tickets["mine"])
            await say(client, mine, broadcast("ticket_left", {}))
            await client.heartbeat()


# --- replay -----------------------------------------------------------------------------------------------


def milliseconds(**ago: float) -> int:
    return int((datetime.now(UTC) - timedelta(**ago)).timestamp() * 1000)


async def test_replay(realtime: RunningRealtime, database: Database, room: str) -> None:
    """The newest ones, oldest first, right after the reply; then live messages."""
    for n in range(5):
        await database.run(f"""select realtime.send('{{"n": {n}}}', 'e', '{room}')""")
    await database.run(f"""select realtime.send('{{"n": 9}}', 'e', '{room}', false)""")
    async with may(database, room, "read broadcast"), signed_in(realtime) as person:
        replay = {"since": milliseconds(hours=1), "limit": 3}
        await person.join(room, private=True, broadcast={"replay": replay})
        frames = [await person.frame() for _ in range(3)]
        assert [frame["payload"]["payload"]["n"] for frame in frames] == [2, 3, 4]
        assert all(frame["payload"]["meta"]["replayed"] is True for frame in frames)
        assert all(frame["payload"]["meta"]["id"] == frame["payload"]["payload"]["id"] for frame in frames)
        await database.run(f"""select realtime.send('{{"n": 5}}', 'e', '{room}')""")
        live = (await person.frame())["payload"]
        assert live["payload"]["n"] == 5
        assert set(live["meta"]) == {"id"}


async def test_replay_starts_at_since(realtime: RunningRealtime, database: Database, room: str) -> None:
    """Older messages stay away, and 25 is the most."""
    await database.run(
        "insert into realtime.messages (topic, extension, event, payload, private, inserted_at) "
        f"select '{room}', 'broadcast', 'e', jsonb_build_object('n', n), true, now() - n * interval '1 second' "
        "from generate_series(1, 40) as n"
    )
    async with may(database, room, "read broadcast"), signed_in(realtime) as person:
        await person.join(
            room, private=True, broadcast={"replay": {"since": milliseconds(hours=1), "limit": 99}}
        )
        assert [(await person.frame())["payload"]["payload"]["n"] for _ in range(25)] == list(
            range(25, 0, -1)
        )
        await person.heartbeat()
    async with may(database, room, "read broadcast"), signed_in(realtime) as person:
        await person.join(room, private=True, broadcast={"replay": {"since": milliseconds(seconds=-30)}})
        await person.heartbeat()


@pytest.mark.parametrize("replay", [{}, {"since": "1"}, {"since": 1, "limit": "2"}, {"since": 10**30}])
async def test_replays_that_are_not_valid(
    realtime: RunningRealtime, database: Database, room: str, replay: dict[str, Any]
) -> None:
    """The join is refused."""
    async with may(database, room, "read broadcast"), signed_in(realtime) as person:
        reply = await person.join(room, private=True, broadcast={"replay": replay})
        assert reply["response"]["reason"] == "UnableToReplayMessages: Replay params are not valid"


async def test_replication_ready(client: RawClient, room: str) -> None:
    """Told once, when broadcasts from the database arrive."""
    await client.join(room, broadcast={"replication_ready": True})
    assert await client.system() == {
        "channel": room,
        "extension": "system",
        "status": "ok",
        "message": "Replication connection established",
    }
    await client.heartbeat()


async def test_replication_that_is_not_ready_closes_the_channel(context: LocalContext, room: str) -> None:
    """After 60 s on the hosted service."""
    options = RealtimeOptions(replication_ready_timeout=0.05)
    async with (
        running_realtime(context, options) as realtime,
        raw_client(realtime.url, context.anon_key) as client,
    ):
        realtime.server.messages_stream.wait = asyncio.Event().wait  # type: ignore[method-assign,assignment]
        await client.join(room, broadcast={"replication_ready": True})
        assert (await client.system())["message"] == "Replication connection was not established in time"
        assert (await client.frame())["event"] == "phx_close"


# --- HTTP -------------------------------------------------------------------------------------------------


@pytest.fixture
async def http() -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession() as session:
        yield session


def post(http: aiohttp.ClientSession, supabase: LocalSupabase, path: str, key: str, **options: Any) -> Any:
    return http.post(f"{supabase.url}/realtime/v1/api/broadcast{path}", headers={"apikey": key}, **options)


@asynccontextmanager
async def through_the_gateway(supabase: LocalSupabase, key: str) -> AsyncIterator[RawClient]:
    async with raw_client(f"{supabase.url}/realtime/v1", key) as client:
        yield client


@pytest.mark.parametrize("key", ["anon_key", "publishable_key"])
async def test_a_batch_by_http(
    local_supabase: LocalSupabase, http: aiohttp.ClientSession, room: str, key: str
) -> None:
    """Through the gateway, with both kinds of keys; `id` becomes `meta.id`."""
    async with through_the_gateway(local_supabase, getattr(local_supabase, key)) as client:
        await client.join(room)
        messages = [
            {"topic": room, "event": "first", "payload": {"x": 1}},
            {"topic": room, "event": "second", "payload": {}, "id": "7"},
        ]
        answer = post(http, local_supabase, "", getattr(local_supabase, key), json={"messages": messages})
        async with answer as response:
            assert (response.status, await response.read()) == (202, b"")
        assert (await client.frame())["payload"] == broadcast("first", {"x": 1})
        assert (await client.frame())["payload"] == {**broadcast("second", {}), "meta": {"id": "7"}}


@pytest.mark.parametrize(
    ("body", "status"),
    [
        ({}, 422),
        ({"messages": "x"}, 422),
        ({"messages": [{"topic": "t", "event": "e"}]}, 422),
        ({"messages": [{"topic": "t", "event": "e", "payload": [1]}]}, 422),
        ({"messages": [{"topic": "", "event": "e", "payload": {}}]}, 422),
        ({"messages": []}, 202),
    ],
)
async def test_batches_that_are_not_valid(
    local_supabase: LocalSupabase, http: aiohttp.ClientSession, body: object, status: int
) -> None:
    """Nothing is sent, and the answer tells what is wrong."""
    async with post(http, local_supabase, "", local_supabase.anon_key, json=body) as response:
        assert response.status == status
        if status == 422:
            assert "errors" in await response.json()


async def test_http_needs_a_token(local_supabase: LocalSupabase, http: aiohttp.ClientSession) -> None:
    """401 with the hosted text."""
    async with post(http, local_supabase, "", "nonsense", json={"messages": []}) as response:
        assert (response.status, await response.json()) == (401, {"message": "Unauthorized"})


async def test_private_messages_by_http(
    local_supabase: LocalSupabase, http: aiohttp.ClientSession, room: str
) -> None:
    """What may not be written is dropped with 202 in a batch, and refused with 403 alone."""
    message = {"topic": room, "event": "e", "payload": {}, "private": True}
    anon, service = local_supabase.anon_key, local_supabase.service_role_key
    async with through_the_gateway(local_supabase, service) as client:
        await client.join(room, private=True)
        for key, status in ((anon, 403), (service, 202)):
            async with post(http, local_supabase, "", key, json={"messages": [message]}) as response:
                assert response.status == 202
            path = f"/{room}/events/alone?private=true"
            async with post(http, local_supabase, path, key, json={"x": 1}) as response:
                assert response.status == status
        assert [(await client.frame())["payload"]["event"] for _ in range(2)] == ["e", "alone"]
        await client.heartbeat()


async def test_one_message_by_http(local_supabase: LocalSupabase, http: aiohttp.ClientSession) -> None:
    """Topic and event are segments of the path; the body is the payload."""
    room = f"a/b {uuid4().hex[:6]}"
    async with through_the_gateway(local_supabase, local_supabase.anon_key) as client:
        await client.join(room)
        path = f"/{room.replace('/', '%2F').replace(' ', '%20')}/events/it%20is"
        async with post(http, local_supabase, path, local_supabase.anon_key, json={"x": 1}) as response:
            assert response.status == 202
        assert (await client.frame())["payload"] == broadcast("it is", {"x": 1})
        bytes_, json_ = "application/octet-stream", "application/json"
        for content_type, body, status in (
            ("text/plain", b"x", 415),
            (json_, b"[1]", 422),
            (json_, b"{", 400),
            (bytes_, b"x" * 3_000_501, 422),
            (bytes_, b"x" * 9_000_000, 413),
        ):
            headers = {"apikey": local_supabase.anon_key, "Content-Type": content_type}
            url = f"{local_supabase.url}/realtime/v1/api/broadcast/t/events/e"
            async with http.post(url, headers=headers, data=io.BytesIO(body)) as response:
                assert response.status == status


# --- version 2.0.0 ----------------------------------------------------------------------------------------


@asynccontextmanager
async def second_version(
    realtime: RunningRealtime, room: str, **config: Any
) -> AsyncIterator[ClientConnection]:
    """A socket of version 2.0.0 that has joined the room."""
    key = realtime.context.service_role_key
    url = f"{realtime.url.replace('http', 'ws', 1)}/websocket?apikey={key}&vsn=2.0.0"
    async with connect(url, max_size=None) as websocket, asyncio.timeout(DEADLINE * 2):
        await websocket.send(json.dumps(["1", "1", f"realtime:{room}", "phx_join", {"config": config}]))
        reply = json.loads(await websocket.recv())
        assert reply[:4] == ["1", "1", f"realtime:{room}", "phx_reply"]
        assert reply[4]["status"] == "ok"
        yield websocket


def push(room: str, event: str, payload: bytes, *, is_json: bool, ref: str = "2") -> bytes:
    """A binary frame of a client."""
    parts = [b"1", ref.encode(), f"realtime:{room}".encode(), event.encode(), b""]
    return bytes([3, *map(len, parts), int(is_json)]) + b"".join(parts) + payload


def pushed(room: str, event: str, payload: bytes, *, is_json: bool, metadata: bytes = b"") -> bytes:
    """A binary frame of the server."""
    parts = [f"realtime:{room}".encode(), event.encode(), metadata]
    return bytes([4, *map(len, parts), int(is_json)]) + b"".join(parts) + payload


async def test_binary_frames_between_versions(
    client: RawClient, realtime: RunningRealtime, room: str
) -> None:
    """JSON reaches both versions, bytes only 2.0.0; text frames stay text."""
    async with (
        second_version(realtime, room, broadcast={"ack": True}) as sender,
        second_version(realtime, room) as reader,
    ):
        await client.join(room)
        await sender.send(push(room, "cursor", b'{"x": 1.50}', is_json=True))
        assert await reader.recv() == pushed(room, "cursor", b'{"x": 1.50}', is_json=True)
        assert json.loads(str(await sender.recv())) == ["1", "2", f"realtime:{room}", "phx_reply", OK]
        text = await client.text()
        assert '"x": 1.50' in text
        assert json.loads(text)["payload"] == broadcast("cursor", {"x": 1.5})
        await sender.send(push(room, "bytes", b"\x00\xff", is_json=False))
        assert await reader.recv() == pushed(room, "bytes", b"\x00\xff", is_json=False)
        await client.heartbeat()
        message = broadcast("text", {"y": 2})
        await say(client, room, message)
        assert json.loads(str(await reader.recv())) == [None, None, f"realtime:{room}", "broadcast", message]


async def test_broken_binary_frames_are_dropped(
    client: RawClient, realtime: RunningRealtime, room: str
) -> None:
    """The socket survives, and nobody gets broken JSON."""
    async with second_version(realtime, room) as sender:
        await client.join(room)
        whole = push(room, "e", b"{}", is_json=True)
        for data in (b"", b"\x03", whole[:12], b"\x00" + whole[1:], push(room, "e", b"{", is_json=True)):
            await sender.send(data)
        await sender.send(whole)
        assert (await client.frame())["payload"]["event"] == "e"


async def test_the_database_sends_bytes(
    client: RawClient, realtime: RunningRealtime, database: Database, room: str
) -> None:
    """`send_binary` reaches version 2.0.0, with the row's id as metadata, live and by replay."""
    async with (
        second_version(realtime, room) as public,
        second_version(realtime, room, private=True) as private,
    ):
        await client.join(room)
        await database.run(f"select realtime.send_binary('\\x00ff', 'e', '{room}', false)")
        await database.run(f"select realtime.send_binary('\\x00ff', 'e', '{room}')")
        rows = await database.run(
            f"select id::text from realtime.messages where topic = '{room}' order by private"
        )
        metadata = [f'{{"id":"{key}"}}'.encode() for (key,) in rows]
        assert await public.recv() == pushed(room, "e", b"\x00\xff", is_json=False, metadata=metadata[0])
        assert await private.recv() == pushed(room, "e", b"\x00\xff", is_json=False, metadata=metadata[1])
        await client.heartbeat()
        replay = {"replay": {"since": milliseconds(hours=1)}}
        async with second_version(realtime, room, private=True, broadcast=replay) as late:
            metadata[1] = metadata[1][:-1] + b',"replayed":true}'
            assert await late.recv() == pushed(room, "e", b"\x00\xff", is_json=False, metadata=metadata[1])


# --- limits -----------------------------------------------------------------------------------------------


async def test_a_broadcast_over_the_limit(context: LocalContext, room: str) -> None:
    """Dropped; an acknowledgement says so, with a bare text."""
    options = RealtimeOptions(payload_limit=1000)
    async with (
        running_realtime(context, options) as realtime,
        raw_client(realtime.url, context.anon_key) as client,
    ):
        await client.join(room, broadcast={"ack": True, "self": True})
        await say(client, room, broadcast("x", {"x": "x" * 1000}))
        payload = {"status": "error", "response": "payload_size_exceeded"}
        assert (await client.frame())["payload"] == payload


async def test_only_private_channels(context: LocalContext, room: str) -> None:
    """When the project is set so."""
    options = RealtimeOptions(private_only=True)
    async with (
        running_realtime(context, options) as realtime,
        raw_client(realtime.url, context.anon_key) as client,
    ):
        reply = await client.join(room)
        assert reply["response"]["reason"] == "PrivateOnly: This project only allows private channels"


async def test_too_many_joins_close_the_socket(context: LocalContext, room: str) -> None:
    """The reply, then 1001; new sockets are refused with 429 meanwhile."""
    options = RealtimeOptions(join_rate_limit=5, rate_tick=0.05, channel_limit=10_000)
    async with (
        running_realtime(context, options) as realtime,
        raw_client(realtime.url, context.anon_key) as client,
    ):
        async with asyncio.timeout(DEADLINE):
            numbers = itertools.count()
            while (reply := await client.join(f"{room}-{next(numbers)}"))["status"] == "ok":
                pass
        reason = "ClientJoinRateLimitReached: Too many joins per second"
        assert reply["response"] == {"reason": reason}
        async with asyncio.timeout(DEADLINE):
            await client.websocket.wait_closed()
        assert client.websocket.close_code == 1001


async def test_too_many_messages_close_their_channels(context: LocalContext, room: str) -> None:
    """Those that are delivered a broadcast while the limit is reached."""
    options = RealtimeOptions(message_rate_limit=5, rate_tick=0.05)
    async with (
        running_realtime(context, options) as realtime,
        raw_client(realtime.url, context.anon_key) as client,
    ):
        await client.join(room, broadcast={"self": True})
        async with asyncio.timeout(DEADLINE):
            while True:
                await say(client, room, broadcast("x", {}))
                frame = await client.frame()
                if frame["event"] != "broadcast":
                    break
        assert frame["payload"]["message"] == "Too many messages per second"
        assert (await client.frame())["event"] == "phx_close"


async def test_too_many_sockets(context: LocalContext) -> None:
    """429 at the handshake."""
    options = RealtimeOptions(connection_limit=1)
    async with (
        running_realtime(context, options) as realtime,
        raw_client(realtime.url, context.anon_key) as client,
    ):
        await client.heartbeat()
        url = f"{realtime.url}/websocket?apikey={context.anon_key}"
        async with aiohttp.ClientSession() as http, http.get(url) as response:
            assert (response.status, await response.json()) == (429, {"error": "Too many connected users"})


# --- the stock Python client ------------------------------------------------------------------------------


def options(**config: Any) -> Any:
    """Of a channel, typed loosely: the client asks for all keys."""
    return {"config": config}


async def test_the_stock_python_client(local_supabase: LocalSupabase, database: Database, room: str) -> None:
    """Broadcast, presence and a private channel, through the gateway."""
    clients = [
        AsyncRealtimeClient(f"{local_supabase.url}/realtime/v1", token=key)
        for key in (local_supabase.anon_key, local_supabase.service_role_key)
    ]
    states: asyncio.Queue[Any] = asyncio.Queue()
    heard: asyncio.Queue[Any] = asyncio.Queue()
    present: asyncio.Queue[str] = asyncio.Queue()

    async def subscribed(channel: AsyncRealtimeChannel) -> None:
        await channel.subscribe(lambda state, _error: states.put_nowait(state))
        assert await states.get() == RealtimeSubscribeStates.SUBSCRIBED

    try:
        async with asyncio.timeout(DEADLINE):
            anon, service = clients
            reader = anon.channel(room, options(private=False))
            reader.on_broadcast("cursor", heard.put_nowait)
            reader.on_presence_join(lambda key, _current, _new: present.put_nowait(key))
            await subscribed(reader)
            writer = service.channel(room, options(private=False, presence={"key": "ada"}))
            await subscribed(writer)
            await writer.send_broadcast("cursor", {"x": 1})
            assert (await heard.get())["payload"] == {"x": 1}
            await writer.track({"name": "Ada"})
            assert await present.get() == "ada"
            private = service.channel(f"{room}-private", options(private=True))
            private.on_broadcast("told", heard.put_nowait)
            await subscribed(private)
            # Again until it is heard: joined is not yet replicating, and what was sent before that is not told.
            while heard.empty():
                await database.run(f"""select realtime.send('{{"n": 1}}', 'told', '{room}-private')""")
                await asyncio.sleep(0.2)
            assert (await heard.get())["payload"]["n"] == 1
    finally:
        for client in clients:
            await client.close()
