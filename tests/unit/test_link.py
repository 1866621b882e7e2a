"""The adapter of the stock client, against a server that says what the test wants, also what it should not."""

from __future__ import annotations

import asyncio
import json
from collections import deque
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import pytest
from aiohttp import WSMsgType, web
from realtime_support import CHANGES, PERSON, UNAUTHORIZED
from websockets.asyncio.client import ClientConnection

from jamestronic_sdk.errors import ConnectionFailedError, RequestTimeoutError
from jamestronic_sdk.realtime.link import JoinFailed, Link

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from jamestronic_sdk.realtime.channels import Channel
    from jamestronic_sdk.realtime.signals import BroadcastMessage, RowMessage, SocketLoss

SECRET = "planted-secret-token"
Frame = dict[str, Any]


class Ears:
    """A listener that writes down."""

    def __init__(self) -> None:
        self.told: list[tuple[Any, ...]] = []
        self.raises = False

    def on_heartbeat(self, ref: str) -> None:
        self.told.append(("heartbeat", ref))

    def on_socket_lost(self, loss: SocketLoss) -> None:
        self.told.append(("lost", loss.code, loss.reason))

    def on_joined(self, channel: Channel) -> None:
        self.told.append(("joined", channel.name))

    def on_live(self, channel: Channel) -> None:
        self.told.append(("live", channel.name))

    def on_channel_lost(self, channel: Channel, reason: str) -> None:
        self.told.append(("channel lost", channel.name, reason))

    def on_row(self, channel: Channel, message: RowMessage) -> None:
        if self.raises:
            raise ValueError(str(message.data))
        self.told.append(("row", channel.name, message.data["record"]))

    def on_broadcast(self, channel: Channel, message: BroadcastMessage) -> None:
        self.told.append(("broadcast", channel.name, message.topic, message.event, message.is_replayed))

    async def until(self, predicate: Callable[[], bool]) -> None:
        async with asyncio.timeout(10):
            while not predicate():  # noqa: ASYNC110 - the listener has no event
                await asyncio.sleep(0.001)


@dataclass
class Server:
    """Speaks Phoenix; joins are answered ok unless the test gives something else."""

    url: str = ""
    frames: list[Frame] = field(default_factory=list)
    answers: deque[Callable[[Frame], list[Frame]]] = field(default_factory=deque)
    """For the next joins, in order; then ok."""
    sockets: list[web.WebSocketResponse] = field(default_factory=list)
    requests: list[web.Request] = field(default_factory=list)

    async def serve(self, request: web.Request) -> web.WebSocketResponse:
        socket = web.WebSocketResponse()
        await socket.prepare(request)
        self.sockets.append(socket)
        self.requests.append(request)
        async for message in socket:
            if message.type is WSMsgType.TEXT:
                frame = json.loads(message.data)
                self.frames.append(frame)
                for answer in self._answer(frame):
                    await socket.send_json(answer)
        return socket

    def _answer(self, frame: Frame) -> list[Frame]:
        match frame["event"]:
            case "phx_join":
                return self.answers.popleft()(frame) if self.answers else [ok(frame)]
            case "heartbeat" | "phx_leave":
                return [reply(frame, "ok", {})]
            case _:
                return []

    def sent(self, event: str) -> list[Frame]:
        return [frame for frame in self.frames if frame["event"] == event]

    async def push(self, channel: Channel, event: str, payload: Any, ref: str | None = None) -> None:
        frame = {"topic": f"realtime:{channel.name}", "event": event, "payload": payload, "ref": ref}
        await self.sockets[-1].send_json(frame)


def reply(frame: Frame, status: str, response: Any) -> Frame:
    payload = {"status": status, "response": response}
    return {"topic": frame["topic"], "event": "phx_reply", "payload": payload, "ref": frame["ref"]}


def ok(frame: Frame) -> Frame:
    bindings = [
        {**binding, "id": number}
        for number, binding in enumerate(frame["payload"]["config"]["postgres_changes"], 1)
    ]
    return reply(frame, "ok", {"postgres_changes": bindings})


def system(frame: Frame, extension: str, status: str, message: str) -> Frame:
    payload = {
        "channel": frame["topic"].removeprefix("realtime:"),
        "extension": extension,
        "status": status,
        "message": message,
    }
    return {"topic": frame["topic"], "event": "system", "payload": payload, "ref": None}


@asynccontextmanager
async def serving() -> AsyncIterator[Server]:
    server = Server()
    app = web.Application()
    app.router.add_get("/realtime/v1/websocket", server.serve)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        host, port = runner.addresses[0][:2]
        server.url = f"http://{host}:{port}/realtime/v1"
        yield server
    finally:
        for socket in server.sockets:
            await socket.close()
        await runner.cleanup()


@asynccontextmanager
async def linked(timeout: float = 5.0) -> AsyncIterator[tuple[Server, Link, Ears]]:  # noqa: ASYNC109 - of the link
    """A link that is open; after it, no task of it may be left."""
    async with serving() as server:
        before = asyncio.all_tasks()
        ears = Ears()
        link = Link(server.url, "key", ears, timeout=timeout)
        try:
            await link.open()
            yield server, link, ears
        finally:
            await link.close()
        async with asyncio.timeout(5):
            while any(  # noqa: ASYNC110 - tasks that nobody holds
                "realtime" in repr(task.get_coro()) for task in asyncio.all_tasks() - before
            ):
                await asyncio.sleep(0.001)


async def join(link: Link, channel: Channel, since: int | None = None) -> None:
    await link.join(channel, channel.name, SECRET, since)


async def test_a_join_carries_bindings_token_and_no_replay() -> None:
    async with linked() as (server, link, ears):
        await join(link, CHANGES)
        (frame,) = server.sent("phx_join")
        assert frame["topic"] == f"realtime:{CHANGES.name}"
        assert frame["payload"]["access_token"] == SECRET
        config = frame["payload"]["config"]
        assert config["postgres_changes"] == [{"event": "*", "schema": "public", "table": "tickets"}]
        assert config["private"] is False
        assert config["broadcast"] == {"ack": False, "self": False}
        assert ears.told == [("joined", CHANGES.name)]


async def test_a_private_join_asks_for_the_servers_word_and_on_a_rejoin_for_what_was_missed() -> None:
    async with linked() as (server, link, _):
        await join(link, PERSON)
        await join(link, PERSON, 1_767_225_600_000)
        first, second = (frame["payload"]["config"] for frame in server.sent("phx_join"))
        assert (first["private"], first["broadcast"]["replication_ready"]) == (True, True)
        assert "replay" not in first["broadcast"]
        assert second["broadcast"]["replay"] == {"since": 1_767_225_600_000, "limit": 25}


async def test_live_is_the_servers_word_of_the_right_kind() -> None:
    async with linked() as (server, link, ears):
        server.answers.append(
            lambda frame: [ok(frame), system(frame, "postgres_changes", "ok", "Subscribed")]
        )
        server.answers.append(lambda frame: [ok(frame), system(frame, "system", "ok", "Replication")])
        await join(link, CHANGES)
        await join(link, PERSON)
        await ears.until(lambda: len(ears.told) == 4)
        assert ears.told == [
            ("joined", CHANGES.name),
            ("live", CHANGES.name),
            ("joined", PERSON.name),
            ("live", PERSON.name),
        ]


async def test_messages_come_with_their_channel_and_whether_they_are_replayed() -> None:
    async with linked() as (server, link, ears):
        await join(link, CHANGES)
        await join(link, PERSON)
        for meta in ({}, {"meta": {"id": "1", "replayed": True}}):
            payload = {"type": "broadcast", "event": "ticket_left", "payload": {"version": 1}, **meta}
            await server.push(PERSON, "broadcast", payload)
        data = {
            "schema": "public",
            "table": "tickets",
            "type": "INSERT",
            "commit_timestamp": "2026-11-01T08:59:59.500Z",
            "columns": [],
            "record": {"id": 7},
            "errors": None,
        }
        await server.push(CHANGES, "postgres_changes", {"ids": [1], "data": data})
        await ears.until(lambda: len(ears.told) == 5)
        assert ears.told[2:] == [
            ("broadcast", PERSON.name, PERSON.name, "ticket_left", False),
            ("broadcast", PERSON.name, PERSON.name, "ticket_left", True),
            ("row", CHANGES.name, {"id": 7}),
        ]


async def test_a_refused_join_says_why_and_is_not_repeated_by_the_library() -> None:
    async with linked() as (server, link, ears):
        server.answers.append(lambda frame: [reply(frame, "error", {"reason": UNAUTHORIZED})])
        with pytest.raises(JoinFailed) as raised:
            await join(link, PERSON)
        assert raised.value.reason == UNAUTHORIZED
        await join(link, CHANGES)
        assert ears.told == [("joined", CHANGES.name)]
        assert len(server.sent("phx_join")) == 2


async def test_a_join_without_an_answer_is_bounded_and_its_late_answer_is_nobodys() -> None:
    async with linked(timeout=0.2) as (server, link, ears):
        late: list[Frame] = []

        def keep(frame: Frame) -> list[Frame]:
            late.append(ok(frame))
            return []

        server.answers.append(keep)
        with pytest.raises(RequestTimeoutError):
            await join(link, PERSON)
        await server.sockets[-1].send_json(late[0])
        await link.send_heartbeat("after")
        await ears.until(lambda: ("heartbeat", "after") in ears.told)
        assert ears.told == [("heartbeat", "after")]


@pytest.mark.parametrize(
    ("event", "payload", "reason"),
    [
        ("phx_close", {}, "channel closed"),
        ("phx_error", {"reason": "channel_crash"}, "channel_crash"),
        (
            "system",
            {
                "channel": "x",
                "extension": "system",
                "status": "error",
                "message": "Token has expired 1 seconds ago",
            },
            "Token has expired 1 seconds ago",
        ),
    ],
)
async def test_a_channel_that_ends_is_told_once_and_the_others_go_on(
    event: str, payload: Frame, reason: str
) -> None:
    async with linked() as (server, link, ears):
        await join(link, CHANGES)
        await join(link, PERSON)
        ref = None if event == "system" else server.sent("phx_join")[1]["ref"]
        await server.push(PERSON, event, payload, ref)
        await ears.until(lambda: ("channel lost", PERSON.name, reason) in ears.told)
        # What the server sends after a system error.
        await server.push(PERSON, "phx_close", {}, server.sent("phx_join")[1]["ref"])
        await link.send_heartbeat("after")
        await ears.until(lambda: ("heartbeat", "after") in ears.told)
        assert len([one for one in ears.told if one[0] == "channel lost"]) == 1
        await join(link, PERSON)
        assert ears.told[-1] == ("joined", PERSON.name)


async def test_the_goodbye_of_an_earlier_join_does_not_end_the_present_one() -> None:
    """The order of the wire on a join of a topic that is joined already: the new reply, then the old close."""
    async with linked() as (server, link, ears):
        await join(link, PERSON)
        old = server.sent("phx_join")[0]["ref"]

        def both(frame: Frame) -> list[Frame]:
            close = {"topic": frame["topic"], "event": "phx_close", "payload": {}, "ref": old}
            return [ok(frame), close, system(frame, "system", "ok", "Replication")]

        server.answers.append(both)
        await join(link, PERSON)
        await ears.until(lambda: ears.told[-1] == ("live", PERSON.name))
        assert [one[0] for one in ears.told] == ["joined", "joined", "live"]


@pytest.mark.parametrize("code", [1000, 1001, 1012, 1009, None])
@pytest.mark.parametrize("has_channel", [True, False])
async def test_the_end_of_the_socket_is_told_once_with_its_code(
    code: int | None, *, has_channel: bool
) -> None:
    """Also while no channel is joined, which the library tells nobody."""
    async with linked() as (server, link, ears):
        if has_channel:
            await join(link, CHANGES)
            await join(link, PERSON)
        if code is None:
            transport = server.requests[-1].transport
            assert transport is not None
            transport.abort()
        else:
            await server.sockets[-1].close(code=code)
        await ears.until(lambda: bool(ears.told) and ears.told[-1][0] == "lost")
        assert [one[:2] for one in ears.told if one[0] in {"lost", "channel lost"}] == [("lost", code)]
        with pytest.raises(ConnectionFailedError):
            await join(link, CHANGES)


async def test_a_socket_that_ends_during_a_join_ends_that_too() -> None:
    async with linked() as (server, link, ears):
        arrived = asyncio.Event()

        def ignore(_: Frame) -> list[Frame]:
            arrived.set()
            return []

        server.answers.append(ignore)
        async with asyncio.TaskGroup() as tasks:
            joining = tasks.create_task(expect_failure(join(link, PERSON)))
            await arrived.wait()
            await server.sockets[-1].close(code=1012)
            await joining
        assert [one[:2] for one in ears.told] == [("lost", 1012)]


async def expect_failure(work: Any) -> None:
    with pytest.raises(ConnectionFailedError):
        await work


async def test_a_refused_handshake_is_a_failed_connection(unused_tcp_port: int) -> None:
    link = Link(f"http://127.0.0.1:{unused_tcp_port}/realtime/v1", "key", Ears(), timeout=5)
    with pytest.raises(ConnectionFailedError):
        await link.open()
    await link.close()


async def test_a_newer_token_goes_to_every_channel_and_leaves_no_timer() -> None:
    async with linked() as (server, link, ears):
        await join(link, CHANGES)
        await join(link, PERSON)
        await link.push_token("newer")
        await link.send_heartbeat("after")
        await ears.until(lambda: ("heartbeat", "after") in ears.told)
        frames = server.sent("access_token")
        assert [(frame["topic"], frame["join_ref"]) for frame in frames] == [
            (frame["topic"], frame["ref"]) for frame in server.sent("phx_join")
        ]
        assert {frame["payload"]["access_token"] for frame in frames} == {"newer"}


async def test_leaving_hears_nothing_more_and_may_be_followed_by_a_join() -> None:
    async with linked() as (server, link, ears):
        await join(link, PERSON)
        await link.leave(PERSON, PERSON.name)
        await ears.until(lambda: len(server.sent("phx_leave")) == 1)
        old = server.sent("phx_join")[0]["ref"]
        await server.push(PERSON, "phx_close", {}, old)
        await join(link, PERSON)
        await link.send_heartbeat("after")
        await ears.until(lambda: ("heartbeat", "after") in ears.told)
        assert [one[0] for one in ears.told] == ["joined", "joined", "heartbeat"]


async def test_what_a_listener_raises_costs_the_link_and_is_logged_without_the_row(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async with linked() as (server, link, ears):
        await join(link, CHANGES)
        ears.raises = True
        data = {
            "schema": "public",
            "table": "tickets",
            "type": "INSERT",
            "commit_timestamp": "2026-11-01T08:59:59.500Z",
            "columns": [],
            "record": {"phone": "+15550100"},
            "errors": None,
        }
        await server.push(CHANGES, "postgres_changes", {"ids": [1], "data": data})
        await ears.until(lambda: ears.told[-1] == ("lost", None, "unexpected ValueError"))
    assert "ValueError" in caplog.text
    assert "+15550100" not in caplog.text


async def test_what_the_library_can_not_read_is_not_logged(caplog: pytest.LogCaptureFixture) -> None:
    async with linked() as (server, link, ears):
        await join(link, CHANGES)
        await server.sockets[-1].send_str('{"phone": "+15550100"}')
        await link.send_heartbeat("after")
        await ears.until(lambda: ("heartbeat", "after") in ears.told)
    assert not [one for one in caplog.records if one.levelname in {"WARNING", "ERROR"}]


@pytest.mark.parametrize("way", ["cancelled", "no answer"])
async def test_a_close_that_does_not_come_to_its_end_leaves_no_task_either(
    way: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The library ends its own tasks only after the server's good-bye, for which a dead socket waits in vain."""

    async def never(_: object) -> None:
        await asyncio.Event().wait()

    monkeypatch.setattr(ClientConnection, "close", never)
    monkeypatch.setattr("jamestronic_sdk.realtime.link._CLOSE_TIMEOUT", 0.05)
    async with serving() as server:
        before = asyncio.all_tasks()
        link = Link(server.url, "key", Ears(), timeout=5.0)
        await link.open()
        async with asyncio.TaskGroup() as group:
            closing = group.create_task(link.close())
            if way == "cancelled":
                await asyncio.sleep(0)
                closing.cancel()
        async with asyncio.timeout(5):
            while any("AsyncRealtimeClient" in repr(task) for task in asyncio.all_tasks() - before):  # noqa: ASYNC110 - as above
                await asyncio.sleep(0.001)
