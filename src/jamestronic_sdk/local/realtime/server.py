"""The Realtime server: who is connected, who is subscribed, and the stream that feeds them.

Promises:
    A subscription is announced only when it is registered and the stream runs: no later commit is missed.
    A lost stream is a gap; when it runs again every subscription is checked and announced again.
    A slow client is closed, and never holds up another one.
"""

from __future__ import annotations

import asyncio
import logging
from collections import defaultdict
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, Self

import psycopg
from psycopg_pool import AsyncConnectionPool

from jamestronic_sdk.local.realtime import catalog, changes
from jamestronic_sdk.local.realtime.protocol import RawJson
from jamestronic_sdk.local.realtime.replication import Batch, Replication

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from jamestronic_sdk.local.context import LocalContext
    from jamestronic_sdk.local.realtime.channel import Channel
    from jamestronic_sdk.local.realtime.filters import Binding
    from jamestronic_sdk.local.realtime.socket import Socket

__all__ = ["LiveStream", "RealtimeOptions", "RealtimeServer"]

_log = logging.getLogger("jamestronic_sdk.local.realtime")


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


@dataclass(frozen=True, slots=True, eq=False)
class LiveStream:
    """One uninterrupted stretch of the replication stream."""

    ended: asyncio.Event = field(default_factory=asyncio.Event)
    """Set when commits begin to be missed."""


class RealtimeServer:
    """State shared by all sockets; an async context manager that runs the stream.

    Args:
        context: The instance.
        options: Limits and delays.
    """

    def __init__(self, context: LocalContext, options: RealtimeOptions | None = None) -> None:
        self.context: Final = context
        self.options: Final = options if options is not None else RealtimeOptions()
        self.is_cut = False
        """Whether new sockets are refused, see ``cut``."""
        self._sockets: set[Socket] = set()
        self._rooms: dict[str, set[Channel]] = defaultdict(set)
        self._subscribers: dict[changes.Subscriber, Channel] = {}
        self._stream: LiveStream | None = None
        self._is_live = asyncio.Event()
        self._supervisor: asyncio.Task[None] | None = None
        dsn = context.dsn("supabase_admin", application_name="realtime")
        # One connection for the stream's questions, so that its prepared statements stay warm; others
        # for the checks of new subscriptions, so that these never wait for a large transaction.
        self._stream_pool = AsyncConnectionPool(
            dsn, min_size=1, max_size=1, open=False, kwargs={"autocommit": True}, name="realtime stream"
        )
        self._check_pool = AsyncConnectionPool(
            dsn,
            min_size=1,
            max_size=4,
            open=False,
            kwargs={"autocommit": True},
            check=AsyncConnectionPool.check_connection,
            name="realtime checks",
        )
        self._replication = Replication(
            context.dsn("supabase_admin"),
            publication=catalog.PUBLICATION,
            on_live=self._start_stream,
            on_gap=self._end_stream,
            on_batch=self._deliver,
        )

    async def __aenter__(self) -> Self:
        """Start the stream; does not wait until it is live."""
        await self._stream_pool.open()
        await self._check_pool.open()
        # aiohttp may start and clean up an application in different tasks, which a TaskGroup forbids.
        # This task is owned by the server: `aclose` ends it and waits for it.
        self._supervisor = asyncio.get_running_loop().create_task(
            self._replication.run(), name="realtime replication"
        )
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """End the stream and every socket; may be called twice."""
        await self.close_sockets()
        supervisor, self._supervisor = self._supervisor, None
        if supervisor is not None:
            supervisor.cancel()
            with suppress(asyncio.CancelledError):
                await supervisor
        await self._check_pool.close()
        await self._stream_pool.close()

    # --- health and faults --------------------------------------------------------------------------

    @property
    def is_ready(self) -> bool:
        """Whether the stream runs and sockets are accepted."""
        return self._stream is not None and not self.is_cut

    async def wait_live(self) -> LiveStream:
        """The stream, as soon as it runs."""
        while self._stream is None:
            await self._is_live.wait()
        return self._stream

    async def cut(self) -> int:
        """Break every socket, as a lost network does, and refuse new ones with 503 until ``restore``.

        Returns:
            How many sockets there were.
        """
        self.is_cut = True
        sockets = tuple(self._sockets)
        for socket in sockets:
            socket.abort()
        return len(sockets)

    def restore(self) -> None:
        """Accept sockets again."""
        self.is_cut = False

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

    def enter(self, channel: Channel) -> None:
        """A channel was joined."""
        self._rooms[channel.topic].add(channel)

    def leave(self, channel: Channel) -> None:
        """A channel ended: nothing is sent to it any more."""
        self._rooms[channel.topic].discard(channel)
        if not self._rooms[channel.topic]:
            del self._rooms[channel.topic]
        self.unsubscribe(channel)

    def members(self, topic: str) -> Iterable[Channel]:
        """The channels of a topic."""
        return tuple(self._rooms.get(topic, ()))

    # --- postgres_changes -----------------------------------------------------------------------------

    async def check(self, role: str, bindings: Sequence[Binding]) -> None:
        """Whether the bindings can be served, see ``catalog.check_bindings``.

        Raises:
            BadRequestError: They can't.
            psycopg.OperationalError: The database is away.
        """
        async with self._check_pool.connection() as connection:
            await catalog.check_bindings(connection, role, bindings)

    def subscribe(self, channel: Channel, subscriber: changes.Subscriber) -> None:
        """From now on the channel gets the changes of this subscriber, in place of an earlier one."""
        self.unsubscribe(channel)
        self._subscribers[subscriber] = channel

    def unsubscribe(self, channel: Channel) -> None:
        """From now on the channel gets no changes."""
        for subscriber in [each for each, owner in self._subscribers.items() if owner is channel]:
            del self._subscribers[subscriber]

    async def _start_stream(self) -> None:
        # Connections from before a restart of PostgreSQL are replaced before the first question.
        await self._stream_pool.check()
        self._stream = LiveStream()
        self._is_live.set()

    def _end_stream(self) -> None:
        stream, self._stream = self._stream, None
        self._is_live.clear()
        if stream is not None:
            stream.ended.set()

    async def _deliver(self, batch: Batch) -> None:
        if not self._subscribers:
            return
        try:
            deliveries = await self._resolve(batch)
        except psycopg.OperationalError:
            # Nothing was sent yet. The connection was idle and may have died unnoticed; if the database is
            # away, the second try fails, too, and that ends the stream: a gap.
            await self._stream_pool.check()
            deliveries = await self._resolve(batch)
        for delivery in deliveries:
            channel = self._subscribers.get(delivery.subscriber)
            if channel is not None:
                ids = ",".join(map(str, delivery.ids))
                channel.push_shared("postgres_changes", RawJson(f'{{"ids":[{ids}],"data":{delivery.data}}}'))

    async def _resolve(self, batch: Batch) -> list[changes.Delivery]:
        async with self._stream_pool.connection() as connection:
            return await changes.resolve(connection, batch, self._subscribers)
