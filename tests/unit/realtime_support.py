"""What the tests of Realtime's rooms share: links that do what the test says, and a clock that jumps."""

from __future__ import annotations

import asyncio
import random
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from client_support import ManualClock

from jamestronic_sdk.errors import ClientClosedError
from jamestronic_sdk.realtime.channels import Channel, TableBinding
from jamestronic_sdk.realtime.connection import Connection
from jamestronic_sdk.realtime.link import JoinFailed
from jamestronic_sdk.realtime.membership import ConnectionConfig
from jamestronic_sdk.realtime.signals import BroadcastMessage, RowMessage, SocketLoss
from jamestronic_sdk.realtime.supervisor import ConnectionParts

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Coroutine

    from jamestronic_sdk.realtime.link import LinkListener

CHANGES = Channel("tech_tickets_1", tables=(TableBinding("tickets"),))
PERSON = Channel("tickets:person:1", is_private=True)
POOL = Channel("tickets:pool", is_private=True)
ADMIN = Channel("tickets:admin", is_private=True)
ADMIN_CHANGES = Channel("tickets:admin", tables=(TableBinding("tickets"),))

UNAUTHORIZED = "Unauthorized: You do not have permissions to read from this Channel topic"


@dataclass
class Behaviour:
    """What a link of the test does with what it is asked."""

    open_fails: Exception | None = None
    answers_heartbeats: bool = True
    answers_joins: bool = True
    says_live: bool = True
    """Each join is followed by the server's word that the channel is live."""
    refuses: dict[Channel, str | Exception] = field(default_factory=dict)


@dataclass
class Join:
    channel: Channel
    topic: str
    token: str
    replay_since: int | None


class FakeLink:
    """A link under the test's thumb."""

    def __init__(self, listener: LinkListener, behaviour: Behaviour) -> None:
        self.listener, self.behaviour = listener, behaviour
        self.joins: list[Join] = []
        self.left: list[str] = []
        self.pushed: list[str] = []
        self.heartbeats: list[str] = []
        self.is_open = self.is_closed = False

    async def open(self) -> None:
        if self.behaviour.open_fails is not None:
            raise self.behaviour.open_fails
        self.is_open = True

    async def join(self, channel: Channel, topic: str, token: str, replay_since: int | None) -> None:
        self.joins.append(Join(channel, topic, token, replay_since))
        if not self.behaviour.answers_joins:
            await asyncio.Event().wait()
        refusal = self.behaviour.refuses.get(channel)
        await asyncio.sleep(0)
        if isinstance(refusal, Exception):
            raise refusal
        if refusal is not None:
            raise JoinFailed(refusal)
        self.listener.on_joined(channel)
        if self.behaviour.says_live:
            self.listener.on_live(channel)

    async def leave(self, channel: Channel, topic: str) -> None:
        del channel
        self.left.append(topic)

    async def push_token(self, token: str) -> None:
        self.pushed.append(token)

    async def send_heartbeat(self, ref: str) -> None:
        self.heartbeats.append(ref)
        if self.behaviour.answers_heartbeats:
            self.listener.on_heartbeat(ref)

    async def close(self) -> None:
        await asyncio.sleep(0)
        self.is_closed = True

    @property
    def names(self) -> list[str]:
        return [join.topic for join in self.joins]

    def lose(self, reason: str = "the connection broke", code: int | None = None) -> None:
        self.listener.on_socket_lost(SocketLoss(reason, code))


class Listening:
    """A member that writes down what it is told."""

    def __init__(self) -> None:
        self.told: list[tuple[object, ...]] = []

    def on_live(self, channel: Channel, *, is_confirmed: bool) -> None:
        self.told.append(("live", channel.name) if is_confirmed else ("unconfirmed", channel.name))

    def on_channel_lost(self, channel: Channel, reason: str, attempt: int, *, is_refused: bool) -> None:
        self.told.append(("refused" if is_refused else "lost", channel.name, reason, attempt))

    def on_socket_lost(self, reason: str, attempt: int) -> None:
        self.told.append(("down", reason, attempt))

    def on_row(self, message: RowMessage) -> None:
        self.told.append(("row", message.data))

    def on_broadcast(self, message: BroadcastMessage) -> None:
        self.told.append(("broadcast", message.event))


class Bench:
    """A connection, its links and its clock."""

    def __init__(self, behaviour: Behaviour | None, tasks: asyncio.TaskGroup) -> None:
        self.behaviour = behaviour or Behaviour()
        self.tasks = tasks
        self.links: list[FakeLink] = []
        self.clock = ManualClock()
        self.token: str | Exception = "token-1"
        self.token_callbacks: list[Callable[[str | None], None]] = []
        self.wake_callbacks: list[Callable[[], None]] = []
        self.spawned: list[asyncio.Task[None]] = []
        self.is_closed = False
        self.config = ConnectionConfig()
        self.connection = Connection(
            ConnectionParts(
                open_link=self.open_link,
                access_token=self.access_token,
                on_token=self.on_token,
                on_wake=self.on_wake,
                spawn=self.spawn,
                clock=self.clock,
                rng=random.Random(1),  # noqa: S311 - jitter
                config=self.config,
            )
        )

    def on_wake(self, callback: Callable[[], None]) -> Callable[[], None]:
        self.wake_callbacks.append(callback)
        return lambda: self.wake_callbacks.remove(callback)

    def wake(self) -> None:
        """The machine slept."""
        for callback in tuple(self.wake_callbacks):
            callback()

    @property
    def link(self) -> FakeLink:
        return self.links[-1]

    def open_link(self, listener: LinkListener) -> FakeLink:
        self.links.append(FakeLink(listener, self.behaviour))
        return self.links[-1]

    async def access_token(self) -> str:
        if isinstance(self.token, Exception):
            raise self.token
        return self.token

    def on_token(self, callback: Callable[[str | None], None]) -> Callable[[], None]:
        self.token_callbacks.append(callback)
        return lambda: self.token_callbacks.remove(callback)

    def spawn(self, work: Coroutine[object, object, None], name: str) -> asyncio.Task[None]:
        if self.is_closed:
            work.close()
            raise ClientClosedError("The client was closed.")
        self.spawned.append(self.tasks.create_task(work, name=name))
        return self.spawned[-1]

    def renew(self, token: str | None) -> None:
        if token is not None:
            self.token = token
        for callback in tuple(self.token_callbacks):
            callback(token)

    async def until(self, predicate: Callable[[], bool]) -> None:
        async with asyncio.timeout(10):
            while not predicate():  # noqa: ASYNC110 - what is under test tells nobody else
                await asyncio.sleep(0)

    async def settle(self) -> None:
        """Let everything happen that needs no time."""
        for _ in range(30):
            await asyncio.sleep(0)

    async def pass_time(self, seconds: float, step: float = 0.5) -> None:
        for _ in range(round(seconds / step)):
            self.clock.advance(step)
            await self.settle()

    async def pass_until(self, predicate: Callable[[], bool]) -> None:
        """Let time pass, in small steps, until it holds."""
        async with asyncio.timeout(10):
            while not predicate():
                self.clock.advance(0.1)
                await self.settle()

    @property
    def open_links(self) -> list[FakeLink]:
        return [link for link in self.links if not link.is_closed]


@asynccontextmanager
async def bench(behaviour: Behaviour | None = None) -> AsyncIterator[Bench]:
    """A bench; after the test nothing of it may be left but what it holds."""
    async with asyncio.TaskGroup() as tasks:
        made = Bench(behaviour, tasks)
        try:
            yield made
        finally:
            for task in made.spawned:
                task.cancel()
    assert made.open_links == []
    assert made.token_callbacks == []
