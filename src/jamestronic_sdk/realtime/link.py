"""One connection to Realtime with any number of channels; the only place that knows the ``realtime`` library.

The stock client (``realtime`` 2.34.1) is treated as a transport that can't be trusted to recover: it gives
up after five attempts, a raising callback ends its listener, unanswered heartbeats go unnoticed, after
a ``system`` error it rejoins by itself and loses the channel, and it takes the good-bye of an earlier join
for one of the present join. So a link lives for one generation only, and so does each join: what goes
wrong is said once and thrown away; ``supervisor.py`` makes the next one.

Promises:
    Nothing raises into the library: what a listener raises costs the link, not its reader.
    Heartbeats carry a ref, so that their replies are seen. A good-bye counts only for the join it names.
    After ``close`` no task or socket of the link is left.

Never:
    No reconnect, no rejoin, no decision: those are the supervisor's.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
from contextvars import ContextVar
from functools import partial
from typing import TYPE_CHECKING, Final, Protocol

from realtime import AsyncRealtimeChannel, AsyncRealtimeClient, RealtimeSubscribeStates
from realtime.exceptions import NotConnectedError as RealtimeNotConnectedError
from realtime.message import ChannelCloseMessage, ChannelErrorMessage, Message, ReplyMessage, ServerMessage
from realtime.types import ChannelStates, RealtimePostgresChangesListenEvent
from typing_extensions import override
from websockets.exceptions import ConnectionClosed, InvalidStatus, WebSocketException

from jamestronic_sdk.errors import ConnectionFailedError, RequestTimeoutError
from jamestronic_sdk.realtime.signals import BroadcastMessage, RowMessage, SocketLoss

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable

    from realtime.message import SuccessSystemPayload
    from realtime.types import BroadcastPayload, PostgresChangesPayload, RealtimeChannelOptions

    from jamestronic_sdk.realtime.channels import Channel

__all__ = ["JoinFailed", "Link", "LinkListener"]

_log = logging.getLogger("jamestronic_sdk.realtime")

_HEARTBEAT_TOPIC: Final = "phoenix"
_LIBRARY_LOGGERS: Final = ("realtime._async.client", "realtime._async.channel", "websockets.client")
_LIBRARY_HEARTBEAT: Final = 24 * 3600
"""Seconds; the library's own heartbeats carry no ref, so they prove nothing and ours replace them."""

_CLOSE_TIMEOUT: Final = 1.0
"""Seconds for the server's answer to our close frame; a half-open socket never answers."""

_REPLAY_LIMIT: Final = 25
"""Messages; the server gives no more (Supabase Realtime, ``messages.ex``)."""


class JoinFailed(Exception):  # noqa: N818 - an answer, and it stays in this room
    """The server answered a join with no, or ended the channel before it was joined."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason: Final = reason


class LinkListener(Protocol):
    """Who is told what happens on a link; every method returns at once."""

    def on_heartbeat(self, ref: str) -> None:
        """The heartbeat with this ref was answered."""
        ...

    def on_socket_lost(self, loss: SocketLoss) -> None:
        """The link is of no more use."""
        ...

    def on_joined(self, channel: Channel) -> None:
        """The join was answered; what it carries follows."""
        ...

    def on_live(self, channel: Channel) -> None:
        """The server says that changes, or stored broadcasts, reach this channel from now on."""
        ...

    def on_channel_lost(self, channel: Channel, reason: str) -> None:
        """A joined channel was ended, or doubts are in order; the link goes on."""
        ...

    def on_row(self, channel: Channel, message: RowMessage) -> None:
        """A row changed."""
        ...

    def on_broadcast(self, channel: Channel, message: BroadcastMessage) -> None:
        """A message came on a private topic."""
        ...


_is_ours: ContextVar[bool] = ContextVar("jamestronic_sdk.realtime.link", default=False)
"""Set while a link runs the library, and inherited by the tasks that the library starts."""


class _QuietLibrary(logging.Filter):
    """Keeps customers' data and repeated alarms out of the log, for our links only.

    The library logs frames that it can't read in full, and each failed attempt twice as an error; the
    one below logs its address, which holds the key, and every frame. The connection says what happened, once.
    """

    @override
    def filter(self, record: logging.LogRecord) -> bool:
        return not _is_ours.get()


for _name in _LIBRARY_LOGGERS:
    logging.getLogger(_name).addFilter(_QuietLibrary())


class _Sentinel(AsyncRealtimeChannel):
    """Stands under the heartbeat's topic, where the client drops the replies, and sees the socket end.

    The client tells only channels that are joined that the socket has ended; so this one always is.
    """

    def __init__(
        self,
        socket: AsyncRealtimeClient,
        on_heartbeat: Callable[[str], None],
        on_end: Callable[[Exception | None], None],
    ) -> None:
        super().__init__(socket, _HEARTBEAT_TOPIC)
        self._on_heartbeat = on_heartbeat
        self._on_end = on_end
        self.state = ChannelStates.JOINED

    @override
    def _handle_message(self, message: ServerMessage) -> None:
        if isinstance(message, ReplyMessage) and message.ref is not None:
            self._on_heartbeat(message.ref)

    @override
    def _notify_subscribe_state(self, status: RealtimeSubscribeStates, error: Exception | None) -> None:
        self._on_end(error)


class _Join(AsyncRealtimeChannel):
    """One join; hears only good-byes of its own, see ``_async/channel.py`` (2.34.1) for those of others."""

    was_accepted = False
    """Whether the server said yes."""

    @override
    def _handle_message(self, message: ServerMessage) -> None:
        if isinstance(message, ChannelCloseMessage | ChannelErrorMessage) and message.ref not in {
            None,
            self.join_push.ref,
        }:
            return
        super()._handle_message(message)

    def forget(self) -> None:
        """End the timers that the library keeps for this join."""
        self.rejoin_timer.reset()
        self.join_push.destroy()
        for push in self.messages_waiting_for_ack.values():
            push.destroy()
        self._release_subscribe_waiter()


class Link:
    """One connection; made, opened once, closed once.

    Args:
        url: Of Realtime, ``http(s)://.../realtime/v1``.
        api_key: The project's key; goes into the query string, as the protocol wants it.
        listener: Who is told.
        timeout: Seconds for the handshake, for the reply to a join, and for a frame to be sent.
    """

    def __init__(self, url: str, api_key: str, listener: LinkListener, *, timeout: float) -> None:
        self._timeout: Final = timeout
        self._listener: Final = listener
        self._client: Final = AsyncRealtimeClient(
            url,
            api_key,
            auto_reconnect=False,
            hb_interval=_LIBRARY_HEARTBEAT,
            # The connection has its own deadlines; the library's must not come first.
            timeout=int(2 * timeout) + 1,
        )
        # The first in the client's table, so that the end of the socket is known before that of a channel.
        self._sentinel: Final = _Sentinel(self._client, self._heartbeat_answered, self._socket_ended)
        self._client.channels[_HEARTBEAT_TOPIC] = self._sentinel
        self._joins: Final[dict[Channel, _Join]] = {}
        self._refusals: Final[dict[Channel, str]] = {}
        self._is_lost = False

    async def open(self) -> None:
        """Connect.

        Raises:
            ConnectionFailedError: The handshake failed; close the link.
            RequestTimeoutError: It took too long; close the link.
        """
        async with self._boundary():
            await self._client.connect()

    async def join(self, channel: Channel, topic: str, token: str, replay_since: int | None) -> None:
        """Join a channel; what follows is told to the listener, ``on_joined`` first.

        Args:
            channel: What to join.
            topic: Its name on this socket, without ``realtime:``.
            token: The access token whose claims decide what the channel carries.
            replay_since: Ask for what was stored on a private topic since then (Unix milliseconds).

        Raises:
            JoinFailed: The server said no; the link is good.
            RequestTimeoutError: No answer in time; whether the link is good is to be found out.
            ConnectionFailedError: The connection is broken; close the link.
        """
        self._client.access_token = token
        self._forget(channel)
        self._refusals.pop(channel, None)
        join = _Join(self._client, f"realtime:{topic}", _options(channel, replay_since))
        for binding in channel.tables:
            join.on_postgres_changes(
                RealtimePostgresChangesListenEvent.All,
                partial(self._on_change, channel),
                table=binding.table,
                schema=binding.schema,
            )
        if channel.is_private:
            join.on_broadcast("*", partial(self._on_broadcast, channel, topic))
        join.on_system(partial(self._on_system, channel))
        self._joins[channel] = self._client.channels[join.topic] = join
        try:
            async with self._boundary():
                await join.subscribe(partial(self._on_state, channel, join))
        except BaseException:
            self._forget(channel)
            raise
        if self._is_lost:
            raise ConnectionFailedError("The connection to Realtime was lost.")
        if not join.was_accepted:
            raise JoinFailed(self._refusals.pop(channel, "the channel was closed"))

    async def leave(self, channel: Channel, topic: str) -> None:
        """Leave a channel, if it was joined under this name; its reply is not waited for.

        Raises:
            ConnectionFailedError, RequestTimeoutError: The connection is broken; close the link.
        """
        self._forget(channel)
        async with self._boundary():
            await self._send(f"realtime:{topic}", "phx_leave", {})

    async def push_token(self, token: str) -> None:
        """Give the server a newer access token for every channel.

        It answers for ``postgres_changes`` with another ``on_live``, and for private topics not at all.

        Raises:
            ConnectionFailedError, RequestTimeoutError: It could not be sent; close the link.
        """
        self._client.access_token = token
        async with self._boundary():
            for join in tuple(self._joins.values()):
                # Not the library's own way: that keeps a timer for a reply that never comes.
                await self._send(
                    join.topic, "access_token", {"access_token": token}, join_ref=join.join_push.ref
                )

    async def send_heartbeat(self, ref: str) -> None:
        """Send a heartbeat; the reply comes as ``on_heartbeat`` with the same ref.

        Raises:
            ConnectionFailedError, RequestTimeoutError: It could not be sent; close the link.
        """
        async with self._boundary():
            await self._client.send(Message(topic=_HEARTBEAT_TOPIC, event="heartbeat", payload={}, ref=ref))

    async def close(self) -> None:
        """Drop the socket; never raises, safe to call at any point."""
        self._is_lost = True
        for channel in tuple(self._joins):
            self._forget(channel)
        self._sentinel.rejoin_timer.reset()
        socket = self._client._ws_connection  # noqa: SLF001  # pyright: ignore[reportPrivateUsage] - 2.34.1 has no other way
        if socket is not None:
            socket.close_timeout = _CLOSE_TIMEOUT
        try:
            async with asyncio.timeout(2 * _CLOSE_TIMEOUT):
                await self._client.close()
        except Exception as error:  # noqa: BLE001 - a socket that is being dropped may fail in any way
            _log.debug("a realtime socket did not close in good order: %s", type(error).__name__)
        finally:
            # The library (2.34.1) ends its tasks only after a good-bye that came to its end.
            for name in ("_listen_task", "_heartbeat_task"):
                task: asyncio.Task[None] | None = getattr(self._client, name)
                if task is not None:
                    task.cancel()

    # --- inside ------------------------------------------------------------------------------------

    async def _send(
        self, topic: str, event: str, payload: dict[str, str], join_ref: str | None = None
    ) -> None:
        ref = self._client._make_ref()  # noqa: SLF001  # pyright: ignore[reportPrivateUsage] - refs are per socket
        await self._client.send(
            Message(topic=topic, event=event, payload=payload, ref=ref, join_ref=join_ref)
        )

    def _forget(self, channel: Channel) -> None:
        """Hear nothing more of a join."""
        join = self._joins.pop(channel, None)
        if join is not None:
            join.forget()
            if self._client.channels.get(join.topic) is join:
                del self._client.channels[join.topic]

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
        except (OSError, WebSocketException, RealtimeNotConnectedError) as error:
            name = type(error).__name__
            raise ConnectionFailedError(f"The connection to Realtime failed: {name}.") from error
        finally:
            _is_ours.reset(was_ours)

    # --- called by the library, inside its read loop ------------------------------------------------

    def _tell(self, call: Callable[[], None]) -> None:
        """Call the listener; what it raises must not end the library's reader unseen."""
        if self._is_lost:
            return
        try:
            call()
        except Exception as error:  # noqa: BLE001 - the boundary to the library; a bug of ours costs one link
            # Without the traceback: the message of an error about a row may quote the row.
            name = type(error).__name__
            _log.error("a message of Realtime could not be taken in: %s", name)
            self._lose(SocketLoss(f"unexpected {name}"))

    def _lose(self, loss: SocketLoss) -> None:
        if not self._is_lost:
            self._is_lost = True
            self._listener.on_socket_lost(loss)

    def _heartbeat_answered(self, ref: str) -> None:
        self._tell(partial(self._listener.on_heartbeat, ref))

    def _socket_ended(self, error: Exception | None) -> None:
        received = error.rcvd if isinstance(error, ConnectionClosed) else None
        code = None if received is None else received.code
        reason = "the connection broke" if code is None else f"the server closed the connection ({code})"
        self._lose(SocketLoss(reason, code))

    def _on_state(
        self, channel: Channel, join: _Join, state: RealtimeSubscribeStates, error: Exception | None
    ) -> None:
        if self._is_lost or self._joins.get(channel) is not join:
            return  # the socket's end says it all, or it is of an earlier join
        if state is RealtimeSubscribeStates.SUBSCRIBED:
            join.was_accepted = True
            self._tell(partial(self._listener.on_joined, channel))
            return
        reason = _brief(error) if error else f"channel {state.value.lower()}"
        # The library would join again by itself, for ever.
        self._forget(channel)
        if join.was_accepted:
            self._tell(partial(self._listener.on_channel_lost, channel, reason))
        else:
            self._refusals[channel] = reason

    def _on_broadcast(self, channel: Channel, topic: str, payload: BroadcastPayload) -> None:
        is_replayed = payload.get("meta", {}).get("replayed", False)
        message = BroadcastMessage(topic, payload["event"], payload["payload"], is_replayed)
        self._tell(partial(self._listener.on_broadcast, channel, message))

    def _on_system(self, channel: Channel, payload: SuccessSystemPayload) -> None:
        if payload.extension == ("system" if channel.is_private else "postgres_changes"):
            self._tell(partial(self._listener.on_live, channel))

    def _on_change(self, channel: Channel, payload: PostgresChangesPayload) -> None:
        self._tell(partial(self._listener.on_row, channel, RowMessage(dict(payload["data"]))))


def _options(channel: Channel, replay_since: int | None) -> RealtimeChannelOptions:
    options: RealtimeChannelOptions = {
        "config": {
            "broadcast": {"ack": False, "self": False},
            "presence": {"key": "", "enabled": False},
            "private": channel.is_private,
        }
    }
    broadcast = options["config"]["broadcast"]
    if channel.is_private and broadcast is not None:
        # The server then says when broadcasts from the database arrive: a reply to the join is less.
        broadcast["replication_ready"] = True
        if replay_since is not None:
            broadcast["replay"] = {"since": replay_since, "limit": _REPLAY_LIMIT}
    return options


def _brief(error: Exception) -> str:
    """One short line: the server's reason, without anything that it may quote at length."""
    text = str(error).strip()
    with contextlib.suppress(ValueError, AttributeError):
        payload = json.loads(text)
        text = str(payload.get("reason") or payload.get("message") or text)
    return text.splitlines()[0][:200] if text else type(error).__name__
