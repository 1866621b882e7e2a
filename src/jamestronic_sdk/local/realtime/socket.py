"""One websocket: frames in one after the other, frames out through a bounded buffer.

Promises:
    Order: frames go out in the order they were queued, and a join is answered before its channel speaks.
    A second join of a topic: its reply, then ``phx_close`` of the old join, then messages of the new one.

Never:
    Waiting for a slow client: past the limit of the buffer the socket is cut off.
"""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, Final

from aiohttp import WSMsgType, web

from jamestronic_sdk.errors import ApiError, AuthenticationError, BadRequestError, RateLimitedError
from jamestronic_sdk.local.realtime import credentials as tokens
from jamestronic_sdk.local.realtime import protocol
from jamestronic_sdk.local.realtime.channel import Channel
from jamestronic_sdk.local.realtime.filters import binding_id
from jamestronic_sdk.local.realtime.protocol import TOPIC_PREFIX, Frame, JoinConfig, Version

if TYPE_CHECKING:
    from collections.abc import Coroutine

    from jamestronic_sdk.local.realtime.credentials import Credentials
    from jamestronic_sdk.local.realtime.server import RealtimeServer

__all__ = ["Socket"]

_log = logging.getLogger("jamestronic_sdk.local.realtime")

_TOO_MANY_JOINS: Final = "ClientJoinRateLimitReached"
"""The one refusal after which the server closes the socket."""


class Socket:
    """A client's websocket.

    Args:
        server: The server.
        request: The handshake, already accepted.
        version: Serializer.
        credentials: The connection's own token, which stands in where a join has none.
    """

    def __init__(
        self, server: RealtimeServer, request: web.Request, version: Version, credentials: Credentials
    ) -> None:
        self.server: Final = server
        self.version: Final = version
        self.headers: Final = {
            name.lower(): value for name, value in request.headers.items() if name.lower().startswith("x-")
        }
        """What policies see of the handshake; hosted: the same."""
        self._request = request
        self._credentials = credentials
        self._channels: dict[str, Channel] = {}
        self._unsent: list[bytes] = []
        self._group: asyncio.TaskGroup | None = None
        options = server.options
        self._websocket = web.WebSocketResponse(
            timeout=options.close_timeout,
            receive_timeout=options.idle_timeout,
            max_msg_size=options.frame_limit,
            compress=False,
        )

    async def run(self) -> web.WebSocketResponse:
        """Serve until either side closes."""
        await self._websocket.prepare(self._request)
        self.server.add_socket(self)
        try:
            async with asyncio.TaskGroup() as group:
                self._group = group
                while await self._read():
                    pass
                self._drop_channels()
        finally:
            self._group = None
            self._drop_channels()
            self.server.remove_socket(self)
        return self._websocket

    def start_task(self, work: Coroutine[object, object, None], name: str) -> asyncio.Task[None]:
        """Run something that ends with the socket at the latest."""
        assert self._group is not None, "a channel lives only while its socket does"  # noqa: S101
        return self._group.create_task(work, name=name)

    def abort(self) -> None:
        """Break the connection without a word."""
        if self._request.transport is not None:
            self._request.transport.abort()

    async def close(self, code: int) -> None:
        """Close with a code, within ``close_timeout``, after what was said before."""
        self.flush()
        await self._websocket.close(code=code)

    # --- out ----------------------------------------------------------------------------------------

    def send(
        self,
        topic: str,
        event: str,
        payload: object,
        *,
        ref: str | None = None,
        join_ref: str | None = None,
    ) -> None:
        """Queue a frame; a client that is too far behind is cut off."""
        self.send_frame(protocol.encode(self.version, topic, event, payload, ref=ref, join_ref=join_ref))

    def send_frame(self, frame: str | bytes) -> None:
        """Queue a frame that is encoded already."""
        self.write(protocol.wire(frame))

    def write(self, data: bytes) -> None:
        """Queue a frame that ``protocol.wire`` made; it goes out with the others of this turn of the loop.

        Past aiohttp's own writer, which would make the same header for each of a thousand members, and a
        system call for each frame.
        """
        if not self._unsent:
            asyncio.get_running_loop().call_soon(self.flush)
        self._unsent.append(data)

    def flush(self) -> None:
        """Hand what is queued to the operating system, as much of it as it takes; nothing while silent."""
        if self.server.is_silent:
            return
        frames, self._unsent = self._unsent, []
        transport = self._request.transport
        if not frames or transport is None or transport.is_closing() or self._websocket.closed:
            return
        transport.write(frames[0] if len(frames) == 1 else b"".join(frames))
        if transport.get_write_buffer_size() > self.server.options.queue_limit:
            _log.warning("a slow client was cut off")
            self.abort()

    def reply(self, frame: Frame, payload: object) -> None:
        """Answer a client's message."""
        self.send(frame.topic, "phx_reply", payload, ref=frame.ref, join_ref=frame.join_ref)

    # --- in -----------------------------------------------------------------------------------------

    async def _read(self) -> bool:
        """One message; whether there may be more."""
        try:
            message = await self._websocket.receive()
        except TimeoutError:
            await self.close(1000)
            return False
        match message.type:
            case WSMsgType.TEXT:
                await self._receive(protocol.decode(self.version, message.data))
            case WSMsgType.BINARY if self.version is Version.V2:
                await self._receive(protocol.decode_binary(message.data))
            case WSMsgType.BINARY:
                _log.warning("dropped a binary frame")
            case _:
                return False
        return True

    async def _receive(self, frame: Frame | None) -> None:
        if frame is None:
            _log.warning("dropped a malformed frame")
        elif frame.topic == "phoenix" and frame.event == "heartbeat":
            self.reply(frame, protocol.ok_reply())
        elif frame.event == "phx_join":
            await self._join(frame)
        elif frame.event == "phx_leave":
            self._leave(frame)
        elif frame.topic in self._channels:
            await self._channels[frame.topic].receive(frame)
        else:
            self.reply(frame, protocol.error_reply("unmatched topic"))

    async def _join(self, frame: Frame) -> None:
        """Nothing else of the socket is read meanwhile: Phoenix does it the same way."""
        old = self._channels.get(frame.topic)
        if old is not None:
            self._remove(old)
        config = protocol.parse_join(frame.payload)
        try:
            self._check_join(frame.topic, config)
            credentials = self._credentials
            if config.access_token is not None:
                context = self.server.context
                credentials = tokens.verify(context.jwt_secret, config.access_token, key=context.signing_key)
            tokens.check_expiry(credentials)
            join_ref = frame.join_ref if frame.join_ref is not None else frame.ref
            channel = Channel(self, frame.topic, join_ref, config, credentials)
            await channel.prepare()
        except (AuthenticationError, ApiError) as error:
            await self._refuse(frame, error)
            if old is not None:
                self._say_closed(old)
            if isinstance(error, RateLimitedError) and error.code == _TOO_MANY_JOINS:
                await self.close(1001)
            return
        bindings = [{**each, "id": binding_id(each)} for each in config.postgres_changes]
        self.reply(frame, protocol.ok_reply({"postgres_changes": bindings}))
        if old is not None:
            self._say_closed(old)
        self._channels[frame.topic] = channel
        channel.start()

    def _check_join(self, topic: str, config: JoinConfig) -> None:
        """What needs neither a token nor the database.

        Raises:
            BadRequestError: The client's mistake.
            RateLimitedError: Too many of something.
        """
        if not topic.startswith(TOPIC_PREFIX):
            raise BadRequestError("unmatched topic")
        if topic == TOPIC_PREFIX:
            raise BadRequestError("You must provide a topic name", code="TopicNameRequired")
        if self.server.options.private_only and not config.is_private:
            raise BadRequestError("This project only allows private channels", code="PrivateOnly")
        if not self.server.count_join():
            raise RateLimitedError("Too many joins per second", code=_TOO_MANY_JOINS)
        if len(self._channels) >= self.server.options.channel_limit:
            raise RateLimitedError("Too many channels", code="ChannelRateLimitReached")

    async def _refuse(self, frame: Frame, error: AuthenticationError | ApiError) -> None:
        await asyncio.sleep(self.server.options.join_error_delay)
        reason = error.message if error.code is None else f"{error.code}: {error.message}"
        self.reply(frame, protocol.error_reply(reason))

    def _leave(self, frame: Frame) -> None:
        channel = self._channels.get(frame.topic)
        if channel is not None:
            self._remove(channel)
        self.reply(frame, protocol.ok_reply())
        if channel is not None:
            self._say_closed(channel)

    def close_channel(self, channel: Channel, message: str) -> None:
        """Close one channel for a reason; the socket stays."""
        channel.system("system", "error", message)
        self._remove(channel)
        self._say_closed(channel)

    def crash_channel(self, channel: Channel) -> None:
        """Tell the client that a channel failed; the socket stays."""
        self._remove(channel)
        reason = {"reason": "channel_crash"}
        self.send(channel.topic, "phx_error", reason, ref=channel.join_ref, join_ref=channel.join_ref)

    def _say_closed(self, channel: Channel) -> None:
        self.send(channel.topic, "phx_close", {}, ref=channel.join_ref, join_ref=channel.join_ref)

    def _remove(self, channel: Channel) -> None:
        if self._channels.get(channel.topic) is channel:
            del self._channels[channel.topic]
        channel.stop()

    def _drop_channels(self) -> None:
        for channel in tuple(self._channels.values()):
            self._remove(channel)
