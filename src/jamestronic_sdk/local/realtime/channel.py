"""One joined topic of one socket: its token and rights, its subscription, its broadcasts and presence."""

from __future__ import annotations

import asyncio
import logging
import uuid
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

import psycopg

from jamestronic_sdk.errors import (
    AuthenticationError,
    BadRequestError,
    PermissionDeniedError,
    ServerError,
)
from jamestronic_sdk.local.realtime import authorization, messages, protocol
from jamestronic_sdk.local.realtime import credentials as tokens
from jamestronic_sdk.local.realtime._tasks import raise_if_cancelled
from jamestronic_sdk.local.realtime.authorization import Asker, Extension
from jamestronic_sdk.local.realtime.changes import Audience
from jamestronic_sdk.local.realtime.filters import parse_binding
from jamestronic_sdk.local.realtime.limits import Window
from jamestronic_sdk.local.realtime.protocol import RawJson, Version

if TYPE_CHECKING:
    from collections.abc import Sequence

    from jamestronic_sdk.local.realtime.credentials import Credentials
    from jamestronic_sdk.local.realtime.messages import StoredMessage
    from jamestronic_sdk.local.realtime.protocol import Frame, JoinConfig
    from jamestronic_sdk.local.realtime.rooms import Room
    from jamestronic_sdk.local.realtime.socket import Socket

__all__ = ["Channel"]

_log = logging.getLogger("jamestronic_sdk.local.realtime")

_EXPIRY_CHECK_INTERVAL: Final = 300.0
"""Seconds: the hosted server looks at a token at least so often; it also covers a clock that was set."""

_NOT_REACHED: Final = "Realtime was unable to connect to the project database"


@dataclass(frozen=True, slots=True)
class _Rights:
    """What the token may do here; None means not asked yet. A public channel may everything."""

    reads_broadcasts: bool = True
    reads_presence: bool | None = True
    writes_broadcasts: bool | None = True
    writes_presence: bool | None = True


class Channel:
    """A topic that is being joined, then joined, then closed.

    Args:
        socket: Where it was joined.
        topic: With ``realtime:``.
        join_ref: The client's ref of the join.
        config: What the join asked for.
        credentials: The verified token.
    """

    def __init__(
        self,
        socket: Socket,
        topic: str,
        join_ref: str | None,
        config: JoinConfig,
        credentials: Credentials,
    ) -> None:
        self.socket: Final = socket
        self.topic: Final = topic
        self.name: Final = topic.removeprefix(protocol.TOPIC_PREFIX)
        self.join_ref: Final = join_ref
        self.config: Final = config
        self._server: Final = socket.server
        self._credentials = credentials
        self._rights = _Rights()
        self._room: Room | None = None
        self._task: asyncio.Task[None] | None = None
        self._replayed: Sequence[StoredMessage] = ()
        self._replayed_ids: frozenset[str] = frozenset()
        self._presence_key: Final = config.presence.key or str(uuid.uuid4())
        self._uses_presence = config.presence.is_enabled
        self._tells_replication = config.broadcast.wants_replication_ready
        self._presence_calls = Window(
            self._server.options.client_presence_limit, self._server.options.client_presence_window
        )

    # --- life -----------------------------------------------------------------------------------------

    async def prepare(self) -> None:
        """What a join has to wait for: the rights, and the messages of a replay.

        Raises:
            PermissionDeniedError: The token may not read here.
            BadRequestError: The replay is not valid.
            ServerError: The database did not answer.
        """
        replay = self.config.broadcast.replay
        await self._authorize()
        if replay is None:
            return
        if not self.config.is_private:
            raise BadRequestError("Replay is not allowed for public channels", code="UnableToReplayMessages")
        if not self._rights.reads_broadcasts:
            raise self._refusal()
        parameters = messages.parse_replay(replay)
        self._replayed = await messages.read_replay(self._server.pool, self.name, parameters)
        self._replayed_ids = frozenset(each.id for each in self._replayed)

    def start(self) -> None:
        """Be a member, and begin to watch the token and to subscribe; after the join was answered."""
        self._room = self._server.rooms.enter(self)
        replayed, self._replayed = self._replayed, ()
        for message in replayed:
            self._replay(message)
        if self._uses_presence and self.hears_presence:
            self.push("presence_state", self._room.presence_state())
        self._work()

    def stop(self) -> None:
        """Be no member any more, and end the background work; sends nothing to the client."""
        if self._room is not None:
            self._room = None
            self._server.leave(self)
        if self._task is not None:
            self._task.cancel()
            self._task = None

    def _work(self) -> None:
        """Watch the token and subscribe, from now on with the token of now."""
        if self._task is not None:
            self._task.cancel()
        self._task = self.socket.start_task(self._run(), f"realtime channel {self.name}")

    # --- frames -----------------------------------------------------------------------------------

    def push(self, event: str, payload: object) -> None:
        """A message of the channel itself."""
        self.socket.send(self.topic, event, payload, join_ref=self.join_ref)

    def push_shared(self, event: str, payload: object) -> None:
        """A message that all members get; carries no ref in any version."""
        self.socket.send(self.topic, event, payload)

    def deliver(self, frame: bytes) -> None:
        """A broadcast, encoded by ``wire``; over the limit of the project the channel is closed."""
        self.socket.write(frame)
        if not self._server.count_message():
            self.socket.close_channel(self, "Too many messages per second")

    def system(self, extension: str, status: str, message: str) -> None:
        """A ``system`` message."""
        self.push("system", protocol.system(self.name, extension=extension, status=status, message=message))

    async def receive(self, frame: Frame) -> None:
        """A client's message on this topic other than join and leave; the next one waits for it."""
        match frame.event:
            case "access_token":
                await self._refresh(protocol.usable_token(frame.payload.get("access_token")))
            case "broadcast":
                await self._broadcast(frame)
            case "presence":
                await self._presence(frame)
            case _:
                _log.debug("ignored event on %s", self.name)

    # --- rights -----------------------------------------------------------------------------------

    def _asker(self) -> Asker:
        return Asker(self._credentials, self.name, self.socket.headers)

    def _refusal(self) -> PermissionDeniedError:
        return PermissionDeniedError(
            f"You do not have permissions to read from this Channel topic: {self.name}", code="Unauthorized"
        )

    async def _authorize(self) -> None:
        """Ask what the token may read; what it may write is asked when it writes."""
        if not self.config.is_private:
            return
        asked = {Extension.BROADCAST} | ({Extension.PRESENCE} if self._uses_presence else set[Extension]())
        readable = await authorization.readable(self._server.pool, self._asker(), asked)
        if not readable:
            raise self._refusal()
        self._rights = _Rights(
            reads_broadcasts=Extension.BROADCAST in readable,
            reads_presence=Extension.PRESENCE in readable if self._uses_presence else None,
            writes_broadcasts=None,
            writes_presence=None,
        )

    async def _may_broadcast(self) -> bool:
        if self._rights.writes_broadcasts is None:
            may = await authorization.may_write(self._server.pool, self._asker(), Extension.BROADCAST)
            self._rights = replace(self._rights, writes_broadcasts=may)
        return self._rights.writes_broadcasts is True

    async def _may_track(self) -> bool:
        pool, asker = self._server.pool, self._asker()
        if self._rights.reads_presence is None:
            readable = await authorization.readable(pool, asker, {Extension.PRESENCE})
            self._rights = replace(self._rights, reads_presence=bool(readable))
        if self._rights.writes_presence is None:
            may = await authorization.may_write(pool, asker, Extension.PRESENCE)
            self._rights = replace(self._rights, writes_presence=may)
        return self._rights.writes_presence is True

    @property
    def hears_broadcasts(self) -> bool:
        """Whether broadcasts may be delivered."""
        return self._rights.reads_broadcasts

    @property
    def hears_presence(self) -> bool:
        """Whether presences may be delivered."""
        return self._rights.reads_presence is True

    def has_replayed(self, message_id: str | None) -> bool:
        """Whether the message came by replay already."""
        return message_id in self._replayed_ids

    # --- broadcast --------------------------------------------------------------------------------

    async def _broadcast(self, frame: Frame) -> None:
        try:
            is_allowed = await self._may_broadcast()
        except (PermissionDeniedError, ServerError) as error:
            _log.warning("a broadcast was dropped: %s", error.code)
            return
        if not is_allowed or self._room is None:
            return  # the hosted server says nothing, either, not even where an answer was asked for
        wants, options = self.config.broadcast, self._server.options
        message = frame.broadcast or RawJson(protocol.to_json(frame.payload))
        size = len(message.payload) if isinstance(message, protocol.Broadcast) else len(message)
        is_small = size <= options.payload_limit
        self._server.count_message()
        if is_small:
            self._room.broadcast(message, without=None if wants.wants_self else self)
        if wants.wants_ack:
            too_large = {"status": "error", "response": "payload_size_exceeded"}
            self.socket.reply(frame, protocol.ok_reply() if is_small else too_large)

    def _replay(self, message: StoredMessage) -> None:
        broadcast = message.broadcast
        if broadcast.is_json:
            self.push("broadcast", protocol.broadcast_payload(broadcast))
        elif self.socket.version is Version.V2:
            frame = protocol.encode_broadcast(Version.V2, self.topic, broadcast)
            if frame is not None:
                self.socket.send_frame(frame)

    # --- presence -----------------------------------------------------------------------------------

    async def _presence(self, frame: Frame) -> None:
        if not self._presence_calls.allows(self._server.clock()):
            self.socket.close_channel(self, "Client presence rate limit exceeded")
            return
        failed: dict[str, object] = {"status": "error", "response": {}}
        event = frame.payload.get("event")
        match event.lower() if isinstance(event, str) else None:
            case "track":
                try:
                    is_allowed = await self._may_track()
                except (PermissionDeniedError, ServerError) as error:
                    _log.warning("a presence was dropped: %s", error.code)
                    is_allowed = False
                if is_allowed:
                    self._track(frame)
                else:
                    self.socket.reply(frame, failed)
            case "untrack":
                self.socket.reply(frame, protocol.ok_reply())
                if self._room is not None:
                    self._room.untrack(self)
            case None:
                self.socket.reply(frame, protocol.ok_reply())
            case _:
                self.socket.reply(frame, failed)

    def _track(self, frame: Frame) -> None:
        payload = protocol.mapping(frame.payload.get("payload", {}))
        if payload is None:
            self.socket.reply(frame, protocol.error_reply("Presence track payload must be a map"))
        elif len(protocol.to_json(payload)) > self._server.options.payload_limit:
            self.socket.close_channel(self, "Track message size exceeded")
        elif not self._server.count_presence():
            self.socket.close_channel(self, "Too many presence messages per second")
        elif self._room is not None:
            self._uses_presence = True
            self.socket.reply(frame, protocol.ok_reply())
            self._room.track(self, self._presence_key, payload)

    # --- token --------------------------------------------------------------------------------------

    async def _refresh(self, token: str | None) -> None:
        if token is None or token == self._credentials.token:
            return
        before = self._rights
        try:
            self._credentials = tokens.verify(
                self._server.context.jwt_secret, token, key=self._server.context.signing_key
            )
            await self._authorize()
        except (AuthenticationError, PermissionDeniedError) as error:
            self.socket.close_channel(self, error.message)
            return
        except ServerError as error:
            is_slow = error.code == "QueryCanceled"
            self.socket.close_channel(self, error.message if is_slow else _NOT_REACHED)
            return
        now = self._rights
        if (before.reads_broadcasts and not now.reads_broadcasts) or (
            before.reads_presence is True and now.reads_presence is False
        ):
            self.socket.close_channel(
                self, f"You no longer have permission to read from this Channel topic: {self.name}"
            )
        elif self._room is not None:
            # Until the subscription is registered anew, the old claims decide.
            self._work()

    async def _expire(self) -> None:
        """Wait until the token has expired, then close the channel."""
        while True:
            try:
                tokens.check_expiry(self._credentials)
            except AuthenticationError as error:
                self.socket.close_channel(self, error.message)
                return
            left = self._credentials.expires_at - tokens.now()
            await asyncio.sleep(max(0.0, min(_EXPIRY_CHECK_INTERVAL, left)))

    # --- what runs beside ---------------------------------------------------------------------------

    async def _run(self) -> None:
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._expire(), name="realtime channel expiry")
                if self._tells_replication:
                    group.create_task(self._tell_replication(), name="realtime channel replication")
                if self.config.postgres_changes:
                    group.create_task(self._subscribe(), name="realtime channel subscription")
        except ExceptionGroup:
            if self._task is not asyncio.current_task():
                return  # it ended, or starts anew, and what failed was the cleaning up
            # The channel is gone, its socket and the other channels stay: Phoenix supervises the same way.
            _log.exception("a channel crashed")
            self.socket.crash_channel(self)

    async def _tell_replication(self) -> None:
        """Say once that broadcasts from the database arrive."""
        try:
            async with asyncio.timeout(self._server.options.replication_ready_timeout):
                await self._server.messages_stream.wait()
        except TimeoutError:
            self.socket.close_channel(self, "Replication connection was not established in time")
            return
        self._tells_replication = False
        self.system("system", "ok", "Replication connection established")

    async def _subscribe(self) -> None:
        """Register the bindings, say so, and again after each gap of the stream."""
        server = self._server
        try:
            bindings = tuple(parse_binding(each) for each in self.config.postgres_changes)
        except BadRequestError as error:
            self.system("postgres_changes", "error", error.message)
            return
        audience, claims = Audience(self._credentials.role, bindings), self._credentials.claims
        while True:
            stream = await server.wait_live()
            await asyncio.sleep(server.options.subscribe_delay)
            try:
                await server.check(audience.role, bindings)
            except BadRequestError as error:
                raise_if_cancelled()
                server.unsubscribe(self)
                self.system("postgres_changes", "error", error.message)
                return
            except psycopg.Error as error:
                raise_if_cancelled()
                self.system("postgres_changes", "error", f'{{:error, "{type(error).__name__}"}}')
                await asyncio.sleep(server.options.subscribe_retry_delay)
                continue
            raise_if_cancelled()
            if stream.ended.is_set():
                continue
            server.subscribe(self, audience, claims)
            self.system("postgres_changes", "ok", "Subscribed to PostgreSQL")
            await stream.ended.wait()
