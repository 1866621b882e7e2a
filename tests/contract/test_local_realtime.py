"""The local Realtime server, frame by frame, against the reference of the hosted one."""

from __future__ import annotations

import asyncio
import json
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import jwt
import psycopg
import pytest
from _realtime_client import (
    ALICE,
    BOB,
    DEADLINE,
    OWN_ROWS,
    OWNED,
    SUBSCRIBED,
    RawClient,
    binding,
    changes_until,
    raw_client,
)
from _realtime_fixtures import Database, RunningRealtime, connected_database, running_realtime
from _realtime_postgres import running_postgres
from realtime import AsyncRealtimeClient, RealtimeSubscribeStates
from realtime_fixtures import client, context, database, fence, realtime  # noqa: F401 - fixtures
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed, InvalidStatus

from jamestronic_sdk.local.realtime.app import RealtimeOptions

if TYPE_CHECKING:
    from jamestronic_sdk.local.context import LocalContext
    from jamestronic_sdk.local.stack import LocalSupabase


# --- handshake, join, leave -----------------------------------------------------------------------------


async def handshake(url: str) -> tuple[int, bytes]:
    with pytest.raises(InvalidStatus) as caught:
        async with connect(url.replace("http", "ws", 1)):
            pass
    return caught.value.response.status_code, bytes(caught.value.response.body or b"")


async def test_handshake_refusals(realtime: RunningRealtime) -> None:
    """Plain HTTP answers with the hosted texts."""
    base, key = f"{realtime.url}/websocket", realtime.context.anon_key
    old = realtime.token(expires_in=-10)
    assert await handshake(f"{base}?apikey={key}&vsn=9.0.0") == (403, b"")
    for query, text in (
        ("", "API key is missing"),
        (f"?apikey={old}", "Token has expired"),
        ("?apikey=nonsense", "The token provided is not a valid JWT"),
        (f"?apikey={key}x", "Failed to validate JWT signature"),
    ):
        status, body = await handshake(base + query)
        assert (status, json.loads(body)) == (401, {"error": text})


async def test_the_header_wins_over_the_query(realtime: RunningRealtime) -> None:
    """`x-api-key` is looked at first."""
    url = f"{realtime.url.replace('http', 'ws', 1)}/websocket?apikey=nonsense"
    async with connect(url, additional_headers={"x-api-key": realtime.context.anon_key}) as websocket:
        await RawClient(websocket).heartbeat()


async def test_join_echoes_the_bindings_in_order(client: RawClient, database: Database, fence: str) -> None:
    """Each binding comes back as sent, with an id; equal bindings have equal ids."""
    first, second = binding(fence, "INSERT"), binding(fence, "*", filter="id=eq.1")
    reply = await client.join("echo", first, second)
    ids = [each.pop("id") for each in reply["response"]["postgres_changes"]]
    assert reply == {"status": "ok", "response": {"postgres_changes": [first, second]}}
    assert len(set(ids)) == 2
    assert all(0 < each < 2**27 for each in ids)
    assert (await client.system())["message"] == SUBSCRIBED
    await database.run(f"insert into {fence} overriding system value values (1)")
    frame = await client.frame()
    assert frame["payload"]["ids"] == ids


async def test_a_channel_without_bindings_says_nothing(client: RawClient) -> None:
    """No `system` message: there is no subscription."""
    assert await client.join("quiet") == {"status": "ok", "response": {"postgres_changes": []}}
    await client.heartbeat()


async def test_leave(client: RawClient) -> None:
    """Reply, then close with the join's ref; leaving what is not joined is answered, too."""
    await client.join("leave", ref="7")
    await client.send("realtime:leave", "phx_leave", {}, ref="8", join_ref="7")
    ok = {"status": "ok", "response": {}}
    topic = "realtime:leave"
    assert await client.frame() == {"topic": topic, "event": "phx_reply", "payload": ok, "ref": "8"}
    assert await client.frame() == {"topic": topic, "event": "phx_close", "payload": {}, "ref": "7"}
    await client.send(topic, "phx_leave", {}, ref="9")
    assert await client.frame() == {"topic": topic, "event": "phx_reply", "payload": ok, "ref": "9"}
    await client.heartbeat()


async def test_duplicate_join(client: RawClient, database: Database, fence: str) -> None:
    """New reply, close of the old join, then the new channel's messages; changes come once."""
    await client.subscribe("twice", binding(fence))
    reply = await client.join("twice", binding(fence), ref="2")
    assert reply["status"] == "ok"
    assert await client.frame() == {
        "topic": "realtime:twice",
        "event": "phx_close",
        "payload": {},
        "ref": "1",
    }
    assert (await client.system())["message"] == SUBSCRIBED
    await database.run(f"insert into {fence} default values")
    assert (await client.change())["type"] == "INSERT"
    await client.heartbeat()


async def test_a_refused_duplicate_join_ends_both(client: RawClient, realtime: RunningRealtime) -> None:
    """The old channel is gone before the new one is looked at."""
    await client.join("both")
    reply = await client.join("both", token=realtime.token(expires_in=-60), ref="2")
    assert reply["status"] == "error"
    assert (await client.frame())["event"] == "phx_close"
    await client.send("realtime:both", "broadcast", {}, ref="3")
    assert (await client.frame())["payload"]["response"] == {"reason": "unmatched topic"}


async def test_unmatched_topics(client: RawClient) -> None:
    """A push to what is not joined, and a join of what is no Realtime topic."""
    for topic, event in (("realtime:nowhere", "broadcast"), ("other:topic", "phx_join")):
        await client.send(topic, event, {}, ref="5")
        assert await client.frame() == {
            "topic": topic,
            "event": "phx_reply",
            "payload": {"status": "error", "response": {"reason": "unmatched topic"}},
            "ref": "5",
        }


@pytest.mark.parametrize(
    ("name", "config", "reason"),
    [
        ("", {}, "TopicNameRequired: "),
        (
            "p",
            {"private": True},
            "Unauthorized: You do not have permissions to read from this Channel topic: p",
        ),
        ("r", {"broadcast": {"replay": {"since": 1}}}, "UnableToReplayMessages: Replay is not allowed"),
    ],
)
async def test_joins_refused_for_what_they_ask(
    client: RawClient, name: str, config: dict[str, Any], reason: str
) -> None:
    """What is not served is named."""
    reply = await client.join(name, **config)
    assert reply["status"] == "error"
    assert reply["response"]["reason"].startswith(reason)


async def test_joins_refused_for_their_token(client: RawClient, realtime: RunningRealtime) -> None:
    """Code and text of the hosted service."""
    secret = realtime.context.jwt_secret
    for token, reason in (
        (realtime.token(expires_in=-30), "InvalidJWTToken: Token has expired 3"),
        (
            jwt.encode({"role": "anon"}, secret),
            "InvalidJWTToken: Fields `role` and `exp` are required in JWT",
        ),
        ("nonsense", "MalformedJWT: "),
        (jwt.encode({"role": "anon", "exp": 4e9}, secret + "x"), "JwtSignatureError: "),
    ):
        reply = await client.join("token", token=token)
        assert reply["response"]["reason"].startswith(reason)


async def test_a_malformed_frame_is_dropped(client: RawClient) -> None:
    """The socket survives."""
    await client.websocket.send("nonsense")
    await client.websocket.send('{"topic":"realtime:x"}')
    await client.websocket.send(b"\x00binary")
    await client.heartbeat()


async def test_an_opaque_key_stands_for_the_connection(client: RawClient) -> None:
    """`sb_` values are no tokens."""
    assert (await client.join("opaque", token="sb_publishable_x"))["status"] == "ok"


async def test_version_2(realtime: RunningRealtime, database: Database, fence: str) -> None:
    """Arrays; fan-out has no refs, the channel's own messages have the join's."""
    url = f"{realtime.url.replace('http', 'ws', 1)}/websocket?apikey={realtime.context.anon_key}&vsn=2.0.0"
    async with connect(url) as websocket, asyncio.timeout(DEADLINE):
        config = {"config": {"postgres_changes": [binding(fence)]}}
        await websocket.send(json.dumps(["1", "2", "realtime:v2", "phx_join", config]))
        assert json.loads(await websocket.recv())[:4] == ["1", "2", "realtime:v2", "phx_reply"]
        assert json.loads(await websocket.recv())[:4] == ["1", None, "realtime:v2", "system"]
        await database.run(f"insert into {fence} default values")
        assert json.loads(await websocket.recv())[:4] == [None, None, "realtime:v2", "postgres_changes"]


async def test_an_idle_socket_is_closed(context: LocalContext) -> None:
    """With 1000, after the idle time without any frame; heartbeats keep it."""
    options = RealtimeOptions(idle_timeout=0.3)
    async with (
        running_realtime(context, options) as realtime,
        raw_client(realtime.url, context.anon_key) as client,
    ):
        await client.heartbeat()
        async with asyncio.timeout(DEADLINE):
            await client.websocket.wait_closed()
        assert client.websocket.close_code == 1000


async def test_a_frame_over_the_limit_closes_with_1009(client: RawClient) -> None:
    """5,000,000 bytes are the hosted limit."""
    with suppress(ConnectionClosed):
        await client.send("realtime:big", "broadcast", {"x": "x" * 5_000_001})
    async with asyncio.timeout(DEADLINE):
        await client.websocket.wait_closed()
    assert client.websocket.close_code == 1009


async def test_channels_per_socket_are_limited(context: LocalContext) -> None:
    """The hundredth and first is refused, the others stay."""
    async with (
        running_realtime(context, RealtimeOptions(channel_limit=2)) as realtime,
        raw_client(realtime.url, context.anon_key) as client,
    ):
        assert [(await client.join(name))["status"] for name in "abc"] == ["ok", "ok", "error"]


# --- broadcast ------------------------------------------------------------------------------------------


async def test_broadcast_between_clients(client: RawClient, realtime: RunningRealtime) -> None:
    """Relayed verbatim to the others; to the sender only if it asked; acknowledged if it asked."""
    message = {"type": "broadcast", "event": "cursor", "payload": {"x": 1}, "extra": [1]}
    expected = {"topic": "realtime:room", "event": "broadcast", "payload": message, "ref": None}
    ack = {"status": "ok", "response": {}}
    async with raw_client(realtime.url, realtime.context.anon_key) as other:
        await client.join("room")
        await other.join("room", broadcast={"self": True, "ack": True})
        await client.send("realtime:room", "broadcast", message, ref="5")
        assert await other.frame() == expected
        await client.heartbeat()  # neither echo nor acknowledgement
        await other.send("realtime:room", "broadcast", message, ref="6")
        assert await client.frame() == expected
        assert await other.frame() == expected
        assert await other.frame() == {**expected, "event": "phx_reply", "payload": ack, "ref": "6"}


# --- tokens ---------------------------------------------------------------------------------------------


async def test_a_refreshed_token_decides_from_then_on(
    client: RawClient, realtime: RunningRealtime, database: Database, fence: str
) -> None:
    """No reply; a second `Subscribed`, and then the new claims count."""
    table = await database.table(OWNED, rls=True)
    await database.run(OWN_ROWS.format(table))
    alice = realtime.token(sub=ALICE)
    await client.subscribe("refresh", binding(table), binding(fence), token=alice)
    for ignored in (alice, None, "sb_secret_x"):
        await client.send("realtime:refresh", "access_token", {"access_token": ignored})
    await client.heartbeat()
    await client.send("realtime:refresh", "access_token", {"access_token": realtime.token(sub=BOB)}, ref="2")
    assert (await client.system())["message"] == SUBSCRIBED
    await database.together(
        f"insert into {table} values (1, '{ALICE}', 'x'), (2, '{BOB}', 'y')",
        f"insert into {fence} default values",
    )
    assert [data["record"]["id"] for data in await changes_until(client, fence)] == [2]


async def test_a_bad_refresh_closes_that_channel_only(client: RawClient) -> None:
    """System error, then `phx_close` with the join's ref."""
    await client.join("other", ref="1")
    await client.join("bad", ref="2")
    await client.send("realtime:bad", "access_token", {"access_token": "nonsense"}, ref="3")
    assert await client.system() == {
        "channel": "bad",
        "extension": "system",
        "status": "error",
        "message": "The token provided is not a valid JWT",
    }
    closed = await client.frame()
    assert (closed["topic"], closed["event"], closed["ref"]) == ("realtime:bad", "phx_close", "2")
    await client.send("realtime:other", "broadcast", {})
    await client.heartbeat()


async def test_a_token_that_expires_closes_its_channel(
    client: RawClient, realtime: RunningRealtime, fence: str
) -> None:
    """Within about a second; the socket stays."""
    await client.subscribe("expire", binding(fence), token=realtime.token(expires_in=2))
    system = await client.system()
    assert system["message"].startswith("Token has expired ")
    assert (system["extension"], system["status"]) == ("system", "error")
    assert (await client.frame())["event"] == "phx_close"
    await client.heartbeat()


async def test_an_unknown_role_is_told(client: RawClient, realtime: RunningRealtime, fence: str) -> None:
    """The subscription fails, not the server."""
    await client.join("role", binding(fence), token=realtime.token(role="nobody_knows"))
    assert 'role "nobody_knows" does not exist' in (await client.system())["message"]


# --- faults ---------------------------------------------------------------------------------------------


async def test_cut_and_restore(context: LocalContext) -> None:
    """A cut breaks every socket and refuses new ones with 503; restore ends it."""
    async with running_realtime(context) as realtime:
        async with raw_client(realtime.url, context.anon_key) as client:
            await client.join("cut")
            assert await realtime.server.cut() == 1
            async with asyncio.timeout(DEADLINE):
                with pytest.raises(ConnectionClosed):
                    await client.websocket.recv()
            assert not realtime.server.is_ready
            status, _ = await handshake(f"{realtime.url}/websocket?apikey={context.anon_key}")
            assert status == 503
            realtime.server.restore()
        async with raw_client(realtime.url, context.anon_key) as client:
            await client.heartbeat()


async def test_the_slot_is_made_again(
    client: RawClient, database: Database, realtime: RunningRealtime, fence: str
) -> None:
    """Whoever ends the stream's backend: it says `Subscribed` again, and then misses nothing."""
    await client.subscribe("again", binding(fence))
    await database.run("select pg_terminate_backend(active_pid) from pg_replication_slots")
    assert (await client.system())["message"] == SUBSCRIBED
    await database.run(f"insert into {fence} default values")
    assert (await client.change())["type"] == "INSERT"
    async with asyncio.timeout(DEADLINE):
        await realtime.server.messages_stream.wait()
    assert realtime.server.is_ready


async def test_the_questions_connection_is_made_again(
    client: RawClient, database: Database, fence: str
) -> None:
    """Ending the backends that the stream asks is no gap: the batch is asked about again."""
    await client.subscribe("questions", binding(fence))
    await database.run(
        "select pg_terminate_backend(pid) from pg_stat_activity "
        "where application_name = 'realtime' and backend_type = 'client backend'"
    )
    await database.run(f"insert into {fence} default values")
    assert (await client.change())["type"] == "INSERT"


async def test_postgres_restarts() -> None:
    """Sockets stay open; the gap is told when the stream runs again."""
    async with running_postgres() as postgres, running_realtime(postgres.context()) as realtime:
        async with connected_database(postgres.context()) as database:
            table = await database.table("id int primary key")
        async with raw_client(realtime.url, realtime.context.anon_key) as client:
            await client.subscribe("restart", binding(table))
            await postgres.stop()
            assert not realtime.server.is_ready
            await postgres.start()
            system = await client.system()
            while system["status"] != "ok":
                system = await client.system()
            async with connected_database(postgres.context()) as database:
                await database.run(f"insert into {table} values (1)")
            assert (await client.change())["record"] == {"id": 1}


async def test_a_slow_client_is_cut_off_and_holds_up_nobody(context: LocalContext) -> None:
    """Its queue is bounded in bytes."""
    options = RealtimeOptions(queue_limit=100_000)
    async with (
        running_realtime(context, options) as realtime,
        raw_client(realtime.url, context.anon_key) as sender,
        raw_client(realtime.url, context.anon_key) as reader,
    ):
        url = f"{realtime.url.replace('http', 'ws', 1)}/websocket?apikey={context.anon_key}"
        async with connect(url, max_size=None, max_queue=1, ping_interval=None) as slow:
            stuck = RawClient(slow)
            await stuck.join("slow")
            await reader.join("slow")
            await sender.join("slow", broadcast={"ack": True})
            slow.transport.pause_reading()
            message = {"type": "broadcast", "event": "x", "payload": {"x": "x" * 50_000}}
            async with asyncio.timeout(DEADLINE * 3):
                while len(realtime.server.members("realtime:slow")) == 3:
                    await sender.send("realtime:slow", "broadcast", message, ref="b")
                    assert (await sender.frame())["event"] == "phx_reply"
                    assert (await reader.frame())["event"] == "broadcast"
            slow.transport.abort()


# --- the stock client, speed, the database's side --------------------------------------------------------


async def test_the_stock_python_client(local_supabase: LocalSupabase, database: Database) -> None:
    """What users have installed works, through the gateway: subscribe, live, change, leave."""
    table = await database.table("id int primary key, note text")
    client = AsyncRealtimeClient(f"{local_supabase.url}/realtime/v1", token=local_supabase.anon_key)
    states: asyncio.Queue[RealtimeSubscribeStates] = asyncio.Queue()
    systems: asyncio.Queue[Any] = asyncio.Queue()
    got: asyncio.Queue[Any] = asyncio.Queue()
    await client.connect()
    try:
        channel = client.channel("stock")
        channel.on_postgres_changes("*", got.put_nowait, table=table, schema="public")
        channel.on_system(systems.put_nowait)
        await channel.subscribe(lambda state, _error: states.put_nowait(state))
        async with asyncio.timeout(DEADLINE):
            assert await states.get() == RealtimeSubscribeStates.SUBSCRIBED
            await systems.get()
            await database.run(f"insert into {table} values (1, 'x')")
            payload = await got.get()
        assert payload["data"]["record"] == {"id": 1, "note": "x"}
        await channel.unsubscribe()
    finally:
        await client.close()


async def test_send_and_topic(database: Database) -> None:
    """`realtime.send` stores; a payload that is no object is a warning, not a failure."""
    await database.run("select realtime.send('{\"x\": 1}'::jsonb, 'moved', 'room:1', false)")
    await database.run("select realtime.send('[1]'::jsonb, 'moved', 'room:1')")
    rows = await database.run(
        "select id::text, payload, event, topic, private, extension "
        "from realtime.messages where event = 'moved'"
    )
    assert rows == [(rows[0][0], {"x": 1, "id": rows[0][0]}, "moved", "room:1", False, "broadcast")]
    assert await database.run("select realtime.topic()") == [(None,)]


async def test_broadcast_changes(database: Database) -> None:
    """Row triggers store what changed, for a private channel."""
    table = await database.table("id int primary key, note text")
    await database.run(
        f"create function public.{table}_changed() returns trigger language plpgsql security definer "
        "set search_path = '' as $$ begin perform realtime.broadcast_changes("
        "'row:' || coalesce(new.id, old.id), tg_op, tg_op, tg_table_name, tg_table_schema, new, old); "
        "return null; end $$"
    )
    await database.run(
        f"create trigger changed after insert or update or delete on {table} "
        f"for each row execute function public.{table}_changed()"
    )
    await database.run(f"insert into {table} values (1, 'a')")
    await database.run(f"update {table} set note = 'b'")
    await database.run(f"delete from {table}")
    rows = await database.run(
        "select event, private, payload - 'id' "
        "from realtime.messages where topic = 'row:1' order by inserted_at"
    )
    first, second = {"id": 1, "note": "a"}, {"id": 1, "note": "b"}
    assert rows == [
        (
            event,
            True,
            {"schema": "public", "table": table, "operation": event, "record": new, "old_record": old},
        )
        for event, new, old in (("INSERT", first, None), ("UPDATE", second, first), ("DELETE", None, second))
    ]
    with pytest.raises(psycopg.errors.RaiseException):
        await database.run("select realtime.broadcast_changes('t', 'e', 'TRUNCATE', 't', 's', null, null)")
