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
import logging
from contextvars import ContextVar
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Final

from realtime import AsyncRealtimeChannel, AsyncRealtimeClient, RealtimeSubscribeStates
from realtime.exceptions import NotConnectedError as RealtimeNotConnectedError
from realtime.message import Message, ReplyMessage, ServerMessage
from realtime.types import RealtimePostgresChangesListenEvent
from typing_extensions import override
from websockets.exceptions import InvalidStatus, WebSocketException

from jamestronic_sdk.errors import ConnectionFailedError, RequestTimeoutError
from jamestronic_sdk.realtime.signals import (
    BroadcastMessage,
    HeartbeatAnswered,
    Inbox,
    Joined,
    Lost,
    Replicating,
    RowMessage,
)

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    from realtime.message import SuccessSystemPayload
    from realtime.types import BroadcastPayload, PostgresChangesPayload, RealtimeChannelOptions

__all__ = ["Link", "TableBinding"]

_HEARTBEAT_TOPIC: Final = "phoenix"
_LIBRARY_LOGGERS: Final = ("realtime._async.client", "realtime._async.channel")
_LIBRARY_HEARTBEAT: Final = 24 * 3600
"""Seconds; the library's own heartbeats carry no ref, so they prove nothing and ours replace them."""


@dataclass(frozen=True, slots=True)
class TableBinding:
    """A table whose changes the channel carries."""

    table: str
    schema: str = "public"


_is_ours: ContextVar[bool] = ContextVar("jamestronic_sdk.realtime.link", default=False)
"""Set while a link runs the library, and inherited by the tasks that the library starts."""


class _QuietLibrary(logging.Filter):
    """Keeps customers' data and repeated alarms out of the log, for our links only.

    The library logs frames that it can't read in full, and each failed attempt twice as an error. The
    feed says what happened, once.
    """

    @override
    def filter(self, record: logging.LogRecord) -> bool:
        return not _is_ours.get()


for _name in _LIBRARY_LOGGERS:
    logging.getLogger(_name).addFilter(_QuietLibrary())


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
        topics: Private topics to listen to as well, see ``join_topics``.
        timeout: Seconds for the handshake and for the reply to the join.
    """

    def __init__(
        self,
        url: str,
        api_key: str,
        channel: str,
        bindings: tuple[TableBinding, ...],
        *,
        topics: tuple[str, ...] = (),
        timeout: float,
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
        self._topics: Final = topics
        self._joined_topics: Final[set[str]] = set()
        self._private: Final[list[AsyncRealtimeChannel]] = []

    async def open(self, token: str) -> None:
        """Connect and join; what follows comes as signals.

        Args:
            token: The access token whose claims decide what the channel carries.

        Raises:
            ConnectionFailedError: The handshake failed; close the link.
            RequestTimeoutError: Handshake and join took too long; close the link.
        """
        self._client.access_token = token
        async with self._boundary():
            await self._client.connect()
            await self._channel.subscribe(self._on_state)

    async def join_topics(self) -> bool:
        """Join the private topics; answers whether all let us in.

        They tell sooner what the tables' changes do not tell, so that a refusal costs nothing but time: the
        link stays good without them.

        Raises:
            ConnectionFailedError, RequestTimeoutError: The connection is broken; close the link.
        """
        async with self._boundary():
            for topic in self._topics:
                channel = self._client.channel(topic, _private_channel())
                channel.on_broadcast("*", self._on_broadcast)
                self._private.append(channel)
                await channel.subscribe(partial(self._on_private_state, channel))
        return all(channel.is_joined for channel in self._private)

    async def push_token(self, token: str) -> None:
        """Give the server a newer access token; it answers with another ``Replicating``.

        Raises:
            ConnectionFailedError, RequestTimeoutError: It could not be sent; close the link.
        """
        async with self._boundary():
            await self._client.set_auth(token)

    async def send_heartbeat(self, ref: str) -> None:
        """Send a heartbeat; the reply comes as ``HeartbeatAnswered`` with the same ref.

        Raises:
            ConnectionFailedError, RequestTimeoutError: It could not be sent; close the link.
        """
        async with self._boundary():
            await self._client.send(Message(topic=_HEARTBEAT_TOPIC, event="heartbeat", payload={}, ref=ref))

    async def close(self) -> None:
        """Drop the socket; never raises, safe to call at any point."""
        for channel in (self._channel, *self._private, self._heartbeats):
            channel.rejoin_timer.reset()
            channel.join_push.destroy()
            for push in channel.messages_waiting_for_ack.values():
                push.destroy()
        with contextlib.suppress(Exception):  # a socket that is being dropped may fail in any way
            async with asyncio.timeout(self._timeout):
                await self._client.close()

    @contextlib.asynccontextmanager
    async def _boundary(self) -> AsyncGenerator[None]:
        """Turn what ``realtime`` and ``websockets`` raise into our errors, and bound the time."""
        was_ours = _is_ours.set(True)
        try:
            async with asyncio.timeout(self._timeout):
                yield
        except TimeoutError as error:
            raise RequestTimeoutError("Realtime did not answer in time.") from error
        except InvalidStatus as error:
            raise ConnectionFailedError(
                f"Realtime refused the connection with status {error.response.status_code}."
            ) from error
        except (OSError, RuntimeError, WebSocketException, RealtimeNotConnectedError) as error:
            # RuntimeError: set_auth iterates the channels across awaits (realtime 2.34.1).
            name = type(error).__name__
            raise ConnectionFailedError(f"The connection to Realtime failed: {name}.") from error
        finally:
            _is_ours.reset(was_ours)

    # --- called by the library, inside its read loop ------------------------------------------------

    def _on_state(self, state: RealtimeSubscribeStates, error: Exception | None) -> None:
        if state is RealtimeSubscribeStates.SUBSCRIBED:
            self.inbox.put(Joined())
        else:
            self.inbox.put(
                Lost(f"channel {state.value.lower()}: {_brief(error)}" if error else state.value.lower())
            )

    def _on_private_state(
        self, channel: AsyncRealtimeChannel, state: RealtimeSubscribeStates, _: Exception | None
    ) -> None:
        """A topic that was joined and is lost is a gap; one that refuses us is let go, not asked again."""
        if state is RealtimeSubscribeStates.SUBSCRIBED:
            self._joined_topics.add(channel.topic)
        elif channel.topic in self._joined_topics:
            self.inbox.put(Lost(f"private topic {state.value.lower()}"))
        else:
            # The library would try again for ever, and each refusal blocks the socket for 5 s.
            channel.rejoin_timer.reset()
            self._client.channels.pop(channel.topic, None)

    def _on_broadcast(self, payload: BroadcastPayload) -> None:
        self.inbox.put(BroadcastMessage(payload["event"], payload["payload"]))

    def _on_system(self, payload: SuccessSystemPayload) -> None:
        if payload.extension == "postgres_changes":
            self.inbox.put(Replicating())

    def _on_change(self, payload: PostgresChangesPayload) -> None:
        self.inbox.put(RowMessage(dict(payload["data"])))


def _private_channel() -> RealtimeChannelOptions:
    return {
        "config": {
            "broadcast": {"ack": False, "self": False},
            "presence": {"key": "", "enabled": False},
            "private": True,
        }
    }


def _brief(error: Exception) -> str:
    """One short line: the server's reason, without anything that it may quote at length."""
    return str(error).strip().splitlines()[0][:200] if str(error).strip() else type(error).__name__
