"""The Realtime server: who is connected, who is subscribed, and the stream that feeds them.

Promises:
    A subscription is announced only when it is registered and the stream runs: no later commit is missed.
    A lost stream is a gap; when it runs again every subscription is checked and announced again.
    A slow client is closed, and never holds up another one.
    Broadcasts from the database come by a stream of their own: no policy of a table delays them.
"""

from __future__ import annotations

import asyncio
import logging
import time
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial
from typing import TYPE_CHECKING, Final, Self, TypeVar

import psycopg

from jamestronic_sdk.local.pools import make_pool
from jamestronic_sdk.local.realtime import catalog, changes, messages, partitions
from jamestronic_sdk.local.realtime._tasks import raise_if_cancelled
from jamestronic_sdk.local.realtime.limits import Rate
from jamestronic_sdk.local.realtime.protocol import RawJson, Version, encode, wire
from jamestronic_sdk.local.realtime.replication import Batch, Replication
from jamestronic_sdk.local.realtime.rooms import Rooms

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable, Sequence

    from jamestronic_sdk.local.context import LocalContext
    from jamestronic_sdk.local.realtime.channel import Channel
    from jamestronic_sdk.local.realtime.filters import Binding
    from jamestronic_sdk.local.realtime.socket import Socket

__all__ = ["LiveStream", "RealtimeOptions", "RealtimeServer", "StreamState"]

_log = logging.getLogger("jamestronic_sdk.local.realtime")

_Answer = TypeVar("_Answer")

_JANITOR_INTERVAL: Final = 60.0
"""Seconds between looks at the partitions: also soon after a laptop slept for days. Costs one small query."""

_JANITOR_RETRY_DELAY: Final = 1.0
"""Seconds after a failure: without partitions the server is not ready."""

_POOL_TIMEOUT: Final = 5.0
"""Seconds that a question waits for a free connection; a join holds up its socket as long."""

_STREAM_CONNECTIONS: Final = 2
"""One for the questions of each stream."""

_CANCEL_INTERVAL: Final = 1.0
"""Seconds after which what was cancelled and still runs is cancelled again."""


@dataclass(frozen=True, slots=True)
class RealtimeOptions:
    """How the local server behaves; all times in seconds.

    The hosted service waits before it refuses, to slow down clients that hammer it. Locally that only
    makes tests slow, so these delays are 0 unless asked for.
    """

    handshake_error_delay: float = 0.0
    """Before a refused handshake is answered; hosted: 2."""
    join_error_delay: float = 0.0
    """Before a refused join is answered, during which the socket reads nothing; hosted: 5."""
    subscribe_delay: float = 0.0
    """Before a subscription is registered; hosted: 1 to 3 on a cold start and after a token refresh."""
    subscribe_retry_delay: float = 1.0
    """Before a subscription that failed for the database's sake is tried again; hosted: 5 to 10."""
    idle_timeout: float = 60.0
    """A socket from which nothing came for that long is closed with 1000; hosted: 60."""
    close_timeout: float = 1.0
    """Wait for a client's answer to our close frame."""
    channel_limit: int = 100
    """Channels per socket; hosted: 100."""
    frame_limit: int = 5_000_000
    """Bytes of a client's frame; a larger one closes the socket with 1009; hosted: the same."""
    queue_limit: int = 50_000_000
    """Bytes that may wait for a slow client before it is cut off; hosted: about the same."""
    replication_ready_timeout: float = 60.0
    """For a join with ``replication_ready``, then the channel is closed; hosted: 60."""
    payload_limit: int = 3_000_500
    """Characters of JSON, or bytes, of a broadcast or a presence; hosted: 256 to 3,000 KB and 500 bytes."""

    # Limits of a hosted project, off unless asked for: a test suite is faster than any of them allows.
    private_only: bool = False
    """Refuse public channels."""
    connection_limit: int | None = None
    """Sockets; hosted: 200 to 10,000."""
    join_rate_limit: float | None = None
    """Joins per second; hosted: 100 to 2,500."""
    message_rate_limit: float | None = None
    """Broadcasts per second, each sending and each delivery counts; hosted: 100 to 2,500."""
    presence_rate_limit: float | None = None
    """Presences per second; hosted: 20 to 1,000."""
    client_presence_limit: int | None = None
    """Presence messages of a channel in a window; hosted: 5."""
    client_presence_window: float = 30.0
    """Length of that window; hosted: 30."""
    rate_tick: float = 5.0
    """How often a rate is compared with its limit; hosted: 5."""


@dataclass(frozen=True, slots=True, eq=False)
class LiveStream:
    """One uninterrupted stretch of a replication stream."""

    ended: asyncio.Event = field(default_factory=asyncio.Event)
    """Set when commits begin to be missed."""


class StreamState:
    """Whether a replication stream runs now."""

    def __init__(self) -> None:
        self._stream: LiveStream | None = None
        self._is_live = asyncio.Event()

    @property
    def is_live(self) -> bool:
        """Whether commits arrive."""
        return self._stream is not None

    def begin(self) -> None:
        """Commits arrive from now on."""
        self._stream = LiveStream()
        self._is_live.set()

    def end(self) -> None:
        """Commits are missed from now on."""
        stream, self._stream = self._stream, None
        self._is_live.clear()
        if stream is not None:
            stream.ended.set()

    async def wait(self) -> LiveStream:
        """The stream, as soon as it runs."""
        while self._stream is None:
            await self._is_live.wait()
        return self._stream


class RealtimeServer:
    """State shared by all sockets; an async context manager that runs the stream.

    Args:
        context: The instance.
        options: Limits and delays.
    """

    def __init__(self, context: LocalContext, options: RealtimeOptions | None = None) -> None:
        self.context: Final = context
        self.options: Final = options if options is not None else RealtimeOptions()
        self.is_cut: bool = False
        """Whether new sockets are refused, see ``cut``."""
        self.is_silent: bool = False
        """Whether nothing is sent, see ``silence``."""
        self.rooms: Final = Rooms()
        self.changes_stream: Final = StreamState()
        """Of ``postgres_changes``."""
        self.messages_stream: Final = StreamState()
        """Of broadcasts from the database."""
        self._sockets: set[Socket] = set()
        self._subscriptions: dict[Channel, tuple[changes.Audience, str]] = {}
        self._audiences: dict[changes.Audience, dict[str, dict[Channel, None]]] = {}
        """The channels of each audience, by their claims."""
        self._has_partitions = False
        self._tasks: set[asyncio.Task[None]] = set()
        self._joins = Rate(self.options.join_rate_limit, self.options.rate_tick)
        self._messages = Rate(self.options.message_rate_limit, self.options.rate_tick)
        self._presences = Rate(self.options.presence_rate_limit, self.options.rate_tick)
        dsn = context.dsn("supabase_admin", application_name="realtime")
        # A connection for each stream's questions, whose prepared statements stay warm; others for what
        # joins ask, so that these never wait for a large transaction.
        self._stream_pool: Final = make_pool(
            dsn,
            "realtime stream",
            min_size=_STREAM_CONNECTIONS,
            max_size=_STREAM_CONNECTIONS,
            timeout=_POOL_TIMEOUT,
            is_checked=False,
            autocommit=True,
        )
        self.pool: Final = make_pool(
            dsn, "realtime checks", min_size=1, max_size=4, timeout=_POOL_TIMEOUT, autocommit=True
        )
        self._changes_replication = Replication(
            context.dsn("supabase_admin"),
            publication=catalog.PUBLICATION,
            slot="supabase_realtime_replication_slot",
            on_live=self._begin_changes,
            on_gap=self.changes_stream.end,
            on_batch=self._deliver,
        )
        self._messages_replication = Replication(
            context.dsn("supabase_admin"),
            publication=messages.PUBLICATION,
            slot="supabase_realtime_messages_replication_slot",
            on_live=self._begin_messages,
            on_gap=self.messages_stream.end,
            on_batch=self._broadcast_stored,
        )

    async def __aenter__(self) -> Self:
        """Start the stream; does not wait until it is live."""
        await self._stream_pool.open()
        await self.pool.open()
        # aiohttp may start and clean up an application in different tasks, which a TaskGroup forbids.
        # These tasks are owned by the server: `aclose` ends them and waits for them.
        loop = asyncio.get_running_loop()
        self._tasks = {
            loop.create_task(self._changes_replication.run(), name="realtime changes"),
            loop.create_task(self._messages_replication.run(), name="realtime messages"),
            loop.create_task(self._keep_partitions(), name="realtime janitor"),
        }
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """End the streams and every socket; may be called twice."""
        await self.close_sockets()
        while self._tasks:
            for task in self._tasks:
                task.cancel()
            # Not once: a library may take a cancellation for an error of its own, and go on.
            _, self._tasks = await asyncio.wait(self._tasks, timeout=_CANCEL_INTERVAL)
        await self.pool.close()
        await self._stream_pool.close()

    # --- health and faults --------------------------------------------------------------------------

    @property
    def is_ready(self) -> bool:
        """Whether the streams run, messages can be stored, and sockets are accepted."""
        return (
            self.changes_stream.is_live
            and self.messages_stream.is_live
            and self._has_partitions
            and not self.is_cut
        )

    async def wait_live(self) -> LiveStream:
        """The stream of ``postgres_changes``, as soon as it runs."""
        return await self.changes_stream.wait()

    async def cut(self) -> int:
        """Break every socket, as a lost network does, and refuse new ones with 503 until ``restore``.

        Returns:
            How many sockets there were.
        """
        self.is_cut = True
        return self.break_sockets()

    def restore(self) -> None:
        """Accept sockets again."""
        self.is_cut = False

    def break_sockets(self) -> int:
        """Break every socket, as a lost network does; how many there were."""
        sockets = tuple(self._sockets)
        for socket in sockets:
            socket.abort()
        return len(sockets)

    def silence(self) -> None:
        """Send nothing on any socket until ``speak``: to its client it looks like a dead peer."""
        self.is_silent = True

    def speak(self) -> None:
        """Send again, first what has waited."""
        self.is_silent = False
        for socket in self._sockets:
            socket.flush()

    async def drop_slots(self) -> int:
        """Drop the replication slots, as a failover does: a gap; how many there were."""
        async with self.pool.connection() as connection:
            cursor = await connection.execute(
                "select pg_terminate_backend(active_pid) from pg_replication_slots"
                " where temporary and active_pid is not null and slot_name like 'supabase_realtime%'"
            )
            return cursor.rowcount

    async def close_sockets(self) -> None:
        """Say good-bye to every socket with 1012, as the hosted service does when it restarts."""
        with suppress(TimeoutError):
            async with asyncio.timeout(self.options.close_timeout * 2), asyncio.TaskGroup() as group:
                for socket in tuple(self._sockets):
                    group.create_task(socket.close(1012), name="realtime close")

    # --- sockets and rooms ----------------------------------------------------------------------------

    def add_socket(self, socket: Socket) -> None:
        """A socket was accepted."""
        self._sockets.add(socket)

    def remove_socket(self, socket: Socket) -> None:
        """A socket is gone."""
        self._sockets.discard(socket)

    @property
    def is_full(self) -> bool:
        """Whether no more sockets are accepted."""
        limit = self.options.connection_limit
        return limit is not None and len(self._sockets) >= limit

    def leave(self, channel: Channel) -> None:
        """A channel ended: nothing is sent to it any more."""
        self.rooms.leave(channel)
        self.unsubscribe(channel)

    def members(self, topic: str) -> Iterable[Channel]:
        """The public channels of a topic, which is given with ``realtime:``."""
        return self.rooms.members(topic)

    # --- limits -----------------------------------------------------------------------------------------

    @staticmethod
    def clock() -> float:
        """Seconds, for rates."""
        return time.monotonic()

    @property
    def has_too_many_joins(self) -> bool:
        """Whether the limit of joins is reached."""
        return self._joins.is_over(self.clock())

    @property
    def has_too_many_messages(self) -> bool:
        """Whether the limit of messages is reached."""
        return self._messages.is_over(self.clock())

    def count_join(self) -> bool:
        """Count a join; whether it is within the limit."""
        now = self.clock()
        self._joins.add(now)
        return not self._joins.is_over(now)

    def count_message(self) -> bool:
        """Count a broadcast that was sent or delivered; whether it is within the limit."""
        now = self.clock()
        self._messages.add(now)
        return not self._messages.is_over(now)

    def count_presence(self) -> bool:
        """Count a presence; whether it is within the limit."""
        now = self.clock()
        self._presences.add(now)
        return not self._presences.is_over(now)

    # --- broadcasts from the database -------------------------------------------------------------------

    async def _begin_messages(self) -> None:
        self.messages_stream.begin()

    async def _broadcast_stored(self, batch: Batch) -> None:
        heard = [
            message
            for message in messages.stored_messages(batch)
            if self.rooms.has(message.topic, is_private=message.is_private)
        ]
        if heard:
            # Who reads the database because of a message finds what it tells of.
            await self._ask(partial(changes.wait_until_visible, xids=batch.xids))
        for message in heard:
            if len(message.broadcast.payload) > self.options.payload_limit:
                _log.warning("dropped a row of realtime.messages over the limit of the payload")
            elif self.count_message():
                self.rooms.broadcast(
                    message.topic,
                    message.broadcast,
                    is_private=message.is_private,
                    message_id=message.id,
                )

    async def _keep_partitions(self) -> None:
        """Have partitions for the days to come, for as long as the server runs."""
        while True:
            delay = _JANITOR_INTERVAL
            try:
                async with self.pool.connection() as connection:
                    await partitions.ensure(connection, datetime.now(UTC).date())
                self._has_partitions = True
            except psycopg.Error as error:
                _log.warning("the partitions of realtime.messages were not checked: %s", error.sqlstate)
                delay = _JANITOR_RETRY_DELAY
            raise_if_cancelled()
            await asyncio.sleep(delay)

    # --- postgres_changes -----------------------------------------------------------------------------

    async def check(self, role: str, bindings: Sequence[Binding]) -> None:
        """Whether the bindings can be served, see ``catalog.check_bindings``.

        Raises:
            BadRequestError: They can't.
            psycopg.OperationalError: The database is away.
        """
        async with self.pool.connection() as connection:
            await catalog.check_bindings(connection, role, bindings)

    def subscribe(self, channel: Channel, audience: changes.Audience, claims: str) -> None:
        """From now on the channel gets what the audience gets that its claims may see."""
        self.unsubscribe(channel)
        self._subscriptions[channel] = audience, claims
        self._audiences.setdefault(audience, {}).setdefault(claims, {})[channel] = None

    def unsubscribe(self, channel: Channel) -> None:
        """From now on the channel gets no changes."""
        if channel not in self._subscriptions:
            return
        audience, claims = self._subscriptions.pop(channel)
        by_claims = self._audiences[audience]
        del by_claims[claims][channel]
        if not by_claims[claims]:
            del by_claims[claims]
        if not by_claims:
            del self._audiences[audience]

    async def _begin_changes(self) -> None:
        # Connections from before a restart of PostgreSQL are replaced before the first question. Not by
        # the pool's `check`: it takes a cancellation for a broken connection (psycopg_pool 3.3.3).
        await self._ask(_ask_nothing)
        self.changes_stream.begin()

    async def _ask(self, question: Callable[[catalog.Connection], Awaitable[_Answer]]) -> _Answer:
        """Ask the database on behalf of a stream, which waits for the answer.

        Idle connections may have died unnoticed, each costs one try; the pool replaces it. If the database
        is away, the last try fails, too, and that ends the stream: a gap.
        """
        for _ in range(_STREAM_CONNECTIONS):
            with suppress(psycopg.OperationalError):
                async with self._stream_pool.connection() as connection:
                    return await question(connection)
        async with self._stream_pool.connection() as connection:
            return await question(connection)

    async def _deliver(self, batch: Batch) -> None:
        if not self._audiences:
            return
        audiences = {audience: tuple(by_claims) for audience, by_claims in self._audiences.items()}
        for delivery in await self._ask(partial(changes.resolve, batch=batch, audiences=audiences)):
            self._send(delivery)

    def _send(self, delivery: changes.Delivery) -> None:
        """Encode the change once per version and topic, and queue it for everybody who gets it."""
        ids = ",".join(map(str, delivery.ids))
        payload = RawJson(f'{{"ids":[{ids}],"data":{delivery.data}}}')
        frames: dict[tuple[Version, str], bytes] = {}
        by_claims = self._audiences.get(delivery.audience, {})
        for claims in by_claims if delivery.claims is None else delivery.claims:
            for channel in by_claims.get(claims, ()):
                kind = channel.socket.version, channel.topic
                frame = frames.get(kind)
                if frame is None:
                    frame = frames[kind] = wire(encode(*kind, "postgres_changes", payload))
                channel.socket.write(frame)


async def _ask_nothing(connection: catalog.Connection) -> None:
    await connection.execute("")
