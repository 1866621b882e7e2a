"""One connection to Realtime with one channel; the only place that knows the ``realtime`` library.

The stock client (``realtime`` 2.34.1) is treated as a transport that can't be trusted to recover: it gives
up after five attempts, a raising callback ends its listener, unanswered heartbeats go unnoticed, and after
a ``system`` error it rejoins by itself and loses the channel. So a link lives for one generation only:
whatever goes wrong, it says so once and is thrown away; ``feed.py`` makes the next one.

Promises:
    Every callback only puts a signal into a queue; nothing raises into the library.
    Heartbeats carry a ref, so that their replies are seen.
    After ``close`` no task or socket of the link is left.

Never:
    No reconnect, no decision: that is the feed's.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from realtime import AsyncRealtimeChannel, AsyncRealtimeClient, RealtimeSubscribeStates
from realtime.message import Message, ReplyMessage, ServerMessage
from realtime.types import RealtimePostgresChangesListenEvent
from typing_extensions import override

if TYPE_CHECKING:
    from collections.abc import Mapping

    from realtime.message import SuccessSystemPayload
    from realtime.types import PostgresChangesPayload

    from jamestronic_sdk._clock import Clock

__all__ = [
    "HeartbeatAnswered",
    "Inbox",
    "Joined",
    "Link",
    "LinkSignal",
    "Lost",
    "Replicating",
    "RowMessage",
    "TableBinding",
    "TokenChanged",
]

_HEARTBEAT_TOPIC: Final = "phoenix"
_INBOX_LIMIT: Final = 10_000
"""Signals that may wait for the feed; it only forwards, so a full inbox means a stalled loop: a gap."""
_LIBRARY_HEARTBEAT: Final = 24 * 3600
"""Seconds; the library's own heartbeats carry no ref, so they prove nothing and ours replace them."""


@dataclass(frozen=True, slots=True)
class TableBinding:
    """A table whose changes the channel carries."""

    table: str
    schema: str = "public"


@dataclass(frozen=True, slots=True)
class Joined:
    """The join was answered; the feed is not live yet."""


@dataclass(frozen=True, slots=True)
class Replicating:
    """The server says that the subscription to Postgres is active (each time it says so)."""


@dataclass(frozen=True, slots=True)
class RowMessage:
    """One ``postgres_changes`` message, as it came."""

    data: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class HeartbeatAnswered:
    """The reply to the heartbeat with this ref."""

    ref: str


@dataclass(frozen=True, slots=True)
class TokenChanged:
    """There is a newer access token; put in by the feed itself, so that one task does all the sending."""


@dataclass(frozen=True, slots=True)
class Lost:
    """The link is of no more use."""

    reason: str


LinkSignal = Joined | Replicating | RowMessage | HeartbeatAnswered | TokenChanged | Lost


class Inbox:
    """Signals on their way from the library's callbacks to the feed, bounded."""

    def __init__(self, limit: int = _INBOX_LIMIT) -> None:
        self._signals: deque[LinkSignal] = deque()
        self._limit = limit
        self._arrived = asyncio.Event()

    def put(self, signal: LinkSignal) -> None:
        """Add a signal; when full, everything that waits is dropped for one ``Lost``: a gap, not a leak."""
        if len(self._signals) >= self._limit:
            self._signals.clear()
            signal = Lost("too many messages at once")
        self._signals.append(signal)
        self._arrived.set()

    async def next(self, clock: Clock, limit: float) -> LinkSignal | None:
        """The next signal, or None after ``limit`` seconds; cancelling loses none."""
        if not self._signals:
            self._arrived.clear()
            await clock.wait(self._arrived, max(0.0, limit))
        return self._signals.popleft() if self._signals else None


class _HeartbeatReplies(AsyncRealtimeChannel):
    """Takes the place of a channel under the heartbeat's topic, where the client drops the replies."""

    def __init__(self, socket: AsyncRealtimeClient, inbox: Inbox) -> None:
        super().__init__(socket, _HEARTBEAT_TOPIC)
        self._inbox = inbox

    @override
    def _handle_message(self, message: ServerMessage) -> None:
        if isinstance(message, ReplyMessage) and message.ref is not None:
            self._inbox.put(HeartbeatAnswered(message.ref))


class Link:
    """One connection with one channel; made, opened once, closed once.

    Args:
        url: Of Realtime, ``http(s)://.../realtime/v1``.
        api_key: The project's key; goes into the query string, as the protocol wants it.
        channel: The channel's name, without ``realtime:``.
        bindings: The tables.
        timeout: Seconds for the handshake and for the reply to the join.
    """

    def __init__(
        self, url: str, api_key: str, channel: str, bindings: tuple[TableBinding, ...], *, timeout: float
    ) -> None:
        self.inbox: Final = Inbox()
        self._timeout = timeout
        self._client = AsyncRealtimeClient(
            url,
            api_key,
            auto_reconnect=False,
            hb_interval=_LIBRARY_HEARTBEAT,
            # The feed has its own deadline for the whole opening; the library's must not come first.
            timeout=int(2 * timeout) + 1,
        )
        self._channel = self._client.channel(channel)
        self._heartbeats = _HeartbeatReplies(self._client, self.inbox)
        self._client.channels[_HEARTBEAT_TOPIC] = self._heartbeats
        for binding in bindings:
            self._channel.on_postgres_changes(
                RealtimePostgresChangesListenEvent.All,
                self._on_change,
                table=binding.table,
                schema=binding.schema,
            )
        self._channel.on_system(self._on_system)

    async def open(self, token: str) -> None:
        """Connect and join; what follows comes as signals.

        Args:
            token: The access token whose claims decide what the channel carries.

        Raises:
            OSError, TimeoutError, websockets.exceptions.WebSocketException: The handshake failed.
        """
        async with asyncio.timeout(self._timeout):
            self._client.access_token = token
            await self._client.connect()
            await self._channel.subscribe(self._on_state)

    async def push_token(self, token: str) -> None:
        """Give the server a newer access token; it answers with another ``Replicating``."""
        await self._client.set_auth(token)

    async def send_heartbeat(self, ref: str) -> None:
        """Send a heartbeat; the reply comes as ``HeartbeatAnswered`` with the same ref."""
        await self._client.send(Message(topic=_HEARTBEAT_TOPIC, event="heartbeat", payload={}, ref=ref))

    async def close(self) -> None:
        """Drop the socket; never raises, safe to call at any point."""
        for channel in (self._channel, self._heartbeats):
            channel.rejoin_timer.reset()
            channel.join_push.destroy()
            for push in channel.messages_waiting_for_ack.values():
                push.destroy()
        with contextlib.suppress(Exception):  # a socket that is being dropped may fail in any way
            async with asyncio.timeout(self._timeout):
                await self._client.close()

    # --- called by the library, inside its read loop ------------------------------------------------

    def _on_state(self, state: RealtimeSubscribeStates, error: Exception | None) -> None:
        if state is RealtimeSubscribeStates.SUBSCRIBED:
            self.inbox.put(Joined())
        else:
            self.inbox.put(
                Lost(f"channel {state.value.lower()}: {_brief(error)}" if error else state.value.lower())
            )

    def _on_system(self, payload: SuccessSystemPayload) -> None:
        if payload.extension == "postgres_changes":
            self.inbox.put(Replicating())

    def _on_change(self, payload: PostgresChangesPayload) -> None:
        self.inbox.put(RowMessage(dict(payload["data"])))


def _brief(error: Exception) -> str:
    """One short line: the server's reason, without anything that it may quote at length."""
    return str(error).strip().splitlines()[0][:200] if str(error).strip() else type(error).__name__
