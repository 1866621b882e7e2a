"""Presence of the local Realtime server, frame by frame."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any
from uuid import UUID, uuid4

import pytest
from _realtime_client import DEADLINE, RawClient, raw_client
from _realtime_fixtures import Database, RunningRealtime, running_realtime
from realtime_fixtures import client, context, database, fence, realtime  # noqa: F401 - fixtures

from jamestronic_sdk.local.realtime.app import RealtimeOptions

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from jamestronic_sdk.local.context import LocalContext

OK = {"status": "ok", "response": {}}
FAILED = {"status": "error", "response": {}}


@pytest.fixture
def room() -> str:
    return f"room-{uuid4().hex[:8]}"


@pytest.fixture
async def ada(realtime: RunningRealtime) -> AsyncIterator[RawClient]:
    async with raw_client(realtime.url, realtime.context.anon_key) as connected:
        yield connected


@pytest.fixture
async def bob(realtime: RunningRealtime) -> AsyncIterator[RawClient]:
    async with raw_client(realtime.url, realtime.context.anon_key) as connected:
        yield connected


async def enter(client: RawClient, room: str, key: str = "", **config: Any) -> dict[str, Any]:
    """Join with presence; the state."""
    reply = await client.join(room, presence={"key": key, "enabled": True}, **config)
    assert reply["status"] == "ok", reply
    frame = await client.frame()
    assert (frame["event"], frame["ref"]) == ("presence_state", None)
    state: dict[str, Any] = frame["payload"]
    return state


async def send(client: RawClient, room: str, event: str, **fields: object) -> None:
    payload = {"type": "presence", "event": event, **fields}
    await client.send(f"realtime:{room}", "presence", payload, ref="p")


async def reply(client: RawClient) -> dict[str, Any]:
    frame = await client.frame()
    assert (frame["event"], frame["ref"]) == ("phx_reply", "p"), frame
    payload: dict[str, Any] = frame["payload"]
    return payload


async def diff(client: RawClient) -> dict[str, dict[str, list[dict[str, Any]]]]:
    """Joins and leaves of the next frame, references taken out."""
    frame = await client.frame()
    assert (frame["event"], frame["ref"]) == ("presence_diff", None), frame
    return {
        side: {
            key: [
                {name: value for name, value in meta.items() if not name.startswith("phx_")}
                for meta in each["metas"]
            ]
            for key, each in frame["payload"][side].items()
        }
        for side in ("joins", "leaves")
    }


async def test_track_update_untrack(ada: RawClient, bob: RawClient, room: str) -> None:
    """Everybody is told, the one who is present included."""
    assert await enter(ada, room, "ada") == {}
    assert await enter(bob, room, "bob") == {}
    for payload, leaves in (({"at": "home"}, {}), ({"at": "work"}, {"ada": [{"at": "home"}]})):
        await send(ada, room, "track", payload=payload)
        assert await reply(ada) == OK
        for member in (ada, bob):
            assert await diff(member) == {"joins": {"ada": [payload]}, "leaves": leaves}
    await send(ada, room, "TRACK", payload={"at": "work"})  # any case; the same again changes nothing
    assert await reply(ada) == OK
    await send(ada, room, "untrack")
    assert await reply(ada) == OK
    for each in (ada, bob):
        assert await diff(each) == {"joins": {}, "leaves": {"ada": [{"at": "work"}]}}


async def test_references_link_updates(ada: RawClient, room: str) -> None:
    """`phx_ref_prev` is the `phx_ref` that is replaced."""
    await enter(ada, room, "ada")
    frames: list[Any] = []
    for n in range(2):
        await send(ada, room, "track", payload={"n": n})
        await reply(ada)
        frames.append((await ada.frame())["payload"])
    (first,), (second,) = (each["joins"]["ada"]["metas"] for each in frames)
    assert second["phx_ref_prev"] == first["phx_ref"] != second["phx_ref"]
    assert frames[1]["leaves"]["ada"]["metas"] == [first]


async def test_the_state_tells_who_is_there(ada: RawClient, bob: RawClient, room: str) -> None:
    """With the metas as they were told; a key of none is a UUID."""
    await enter(ada, room)
    await send(ada, room, "track", payload={"name": "Ada"})
    await reply(ada)
    told = (await ada.frame())["payload"]["joins"]
    state = await enter(bob, room)
    assert state == told
    (key,) = state
    assert UUID(key).version is not None


async def test_one_key_of_two_connections(ada: RawClient, bob: RawClient, room: str) -> None:
    """Each has a meta of its own."""
    await enter(ada, room, "same")
    await send(ada, room, "track", payload={"n": 1})
    await reply(ada)
    await ada.frame()
    await enter(bob, room, "same")
    await send(bob, room, "track", payload={"n": 2})
    await reply(bob)
    assert await diff(ada) == {"joins": {"same": [{"n": 2}]}, "leaves": {}}
    await bob.send(f"realtime:{room}", "phx_leave", {}, ref="l")
    assert await diff(ada) == {"joins": {}, "leaves": {"same": [{"n": 2}]}}


@pytest.mark.parametrize("way", ["leave", "close", "abort", "rejoin"])
async def test_who_goes_is_no_longer_present(
    ada: RawClient, realtime: RunningRealtime, room: str, way: str
) -> None:
    """Whichever way the channel ends."""
    await enter(ada, room, "ada")
    async with raw_client(realtime.url, realtime.context.anon_key) as bob:
        await enter(bob, room, "bob")
        await send(bob, room, "track", payload={})
        await reply(bob)
        assert await diff(ada) == {"joins": {"bob": [{}]}, "leaves": {}}
        match way:
            case "leave":
                await bob.send(f"realtime:{room}", "phx_leave", {}, ref="l")
            case "close":
                await bob.websocket.close()
            case "abort":
                bob.websocket.transport.abort()
            case _:
                await bob.send(f"realtime:{room}", "phx_join", {}, ref="2", join_ref="2")
        assert await diff(ada) == {"joins": {}, "leaves": {"bob": [{}]}}


async def test_a_channel_without_presence(ada: RawClient, bob: RawClient, room: str) -> None:
    """No state, but the diffs; who tracks is present all the same."""
    await ada.join(room)
    await enter(bob, room)
    await send(ada, room, "track", payload={"x": 1})
    assert await reply(ada) == OK
    assert list((await diff(bob))["joins"].values()) == [[{"x": 1}]]
    assert list((await diff(ada))["joins"].values()) == [[{"x": 1}]]


async def test_messages_that_are_not_valid(ada: RawClient, room: str) -> None:
    """Refused, and the channel goes on."""
    await enter(ada, room)
    await send(ada, room, "track", payload=[1])
    reason = {"reason": "Presence track payload must be a map"}
    assert await reply(ada) == {"status": "error", "response": reason}
    await send(ada, room, "dance")
    assert await reply(ada) == FAILED
    await ada.send(f"realtime:{room}", "presence", {}, ref="p")
    assert await reply(ada) == OK
    await send(ada, room, "untrack")
    assert await reply(ada) == OK
    await ada.heartbeat()


# --- private channels -------------------------------------------------------------------------------------


@asynccontextmanager
async def policies(database: Database, room: str, *rights: str) -> AsyncIterator[None]:
    names: list[str] = []
    for right in rights:
        verb, extension = right.split()
        name = f"test_{uuid4().hex[:8]}"
        test = f"(realtime.topic() = '{room}' and extension = '{extension}')"
        clause = f"insert to anon with check {test}" if verb == "write" else f"select to anon using {test}"
        await database.run(f"create policy {name} on realtime.messages for {clause}")
        names.append(name)
    try:
        yield
    finally:
        for name in names:
            await database.run(f"drop policy {name} on realtime.messages")


async def test_presence_that_may_be_read_and_written(
    ada: RawClient, bob: RawClient, database: Database, room: str
) -> None:
    """Reading it alone is enough for a join."""
    async with policies(database, room, "read presence", "write presence"):
        await enter(ada, room, "ada", private=True)
        await enter(bob, room, "bob", private=True)
        await send(ada, room, "track", payload={})
        assert await reply(ada) == OK
        assert await diff(bob) == {"joins": {"ada": [{}]}, "leaves": {}}


async def test_presence_that_may_not_be_written(ada: RawClient, database: Database, room: str) -> None:
    """A refusal without a reason; remembered."""
    async with policies(database, room, "read presence"):
        await enter(ada, room, private=True)
        for _ in range(2):
            await send(ada, room, "track", payload={})
            assert await reply(ada) == FAILED


async def test_presence_that_may_not_be_read(
    ada: RawClient, bob: RawClient, database: Database, room: str
) -> None:
    """Neither state nor diffs; broadcasts come."""
    async with policies(database, room, "read broadcast", "write presence"):
        for each in (ada, bob):
            answer = await each.join(room, private=True, presence={"enabled": True})
            assert answer["status"] == "ok"
        await send(ada, room, "track", payload={})
        assert await reply(ada) == OK
        await bob.heartbeat()
        await ada.heartbeat()


async def test_presence_begun_by_a_track(
    ada: RawClient, bob: RawClient, database: Database, room: str
) -> None:
    """Who did not ask for it at the join is asked about when it tracks; until then it hears nothing."""
    rights = ("read broadcast", "read presence", "write presence")
    async with policies(database, room, *rights):
        await ada.join(room, private=True)
        await enter(bob, room, "bob", private=True)
        await send(bob, room, "track", payload={})
        assert await reply(bob) == OK
        await diff(bob)
        await ada.heartbeat()
        await send(ada, room, "track", payload={})
        assert await reply(ada) == OK
        assert (await diff(ada))["joins"] == (await diff(bob))["joins"] != {}


# --- limits -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (RealtimeOptions(client_presence_limit=2), "Client presence rate limit exceeded"),
        (RealtimeOptions(presence_rate_limit=1, rate_tick=0.05), "Too many presence messages per second"),
        (RealtimeOptions(payload_limit=5), "Track message size exceeded"),
    ],
)
async def test_limits_close_the_channel(
    context: LocalContext, room: str, options: RealtimeOptions, message: str
) -> None:
    """Each with its own words; the socket stays."""
    async with (
        running_realtime(context, options) as realtime,
        raw_client(realtime.url, context.anon_key) as client,
        asyncio.timeout(DEADLINE),
    ):
        await enter(client, room)
        number = 0
        while True:
            number += 1
            await send(client, room, "track", payload={"n": number})
            frame = await client.frame()
            if frame["event"] == "system":
                break
            assert frame["payload"] == OK
            assert (await client.frame())["event"] == "presence_diff"
        assert frame["payload"]["message"] == message
        assert (await client.frame())["event"] == "phx_close"
        await client.heartbeat()
