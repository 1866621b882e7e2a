"""One joined topic of one socket: its subscription, its token, its broadcasts."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, Final

import psycopg
from psycopg_pool import PoolTimeout

from jamestronic_sdk.errors import AuthenticationError, BadRequestError
from jamestronic_sdk.local.realtime import credentials as tokens
from jamestronic_sdk.local.realtime import protocol
from jamestronic_sdk.local.realtime._tasks import raise_if_cancelled
from jamestronic_sdk.local.realtime.changes import Subscriber
from jamestronic_sdk.local.realtime.filters import parse_binding

if TYPE_CHECKING:
    from jamestronic_sdk.local.realtime.credentials import Credentials
    from jamestronic_sdk.local.realtime.protocol import Frame, JoinConfig
    from jamestronic_sdk.local.realtime.socket import Socket

__all__ = ["Channel"]

_log = logging.getLogger("jamestronic_sdk.local.realtime")

_EXPIRY_CHECK_INTERVAL: Final = 300.0
"""Seconds: the hosted server looks at a token at least so often; it also covers a clock that was set."""


class Channel:
    """A joined topic.

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
        self._credentials = credentials
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin to watch the token and to subscribe; after the join was answered."""
        self.stop()
        self._task = self.socket.start_task(self._run(), f"realtime channel {self.name}")

    def stop(self) -> None:
        """End the background work; sends nothing."""
        if self._task is not None:
            self._task.cancel()
            self._task = None

    # --- frames -----------------------------------------------------------------------------------

    def push(self, event: str, payload: object) -> None:
        """A message of the channel itself."""
        self.socket.send(self.topic, event, payload, join_ref=self.join_ref)

    def push_shared(self, event: str, payload: object) -> None:
        """A message that all members get; carries no ref in any version."""
        self.socket.send(self.topic, event, payload)

    def system(self, extension: str, status: str, message: str) -> None:
        """A ``system`` message."""
        self.push("system", protocol.system(self.name, extension=extension, status=status, message=message))

    def receive(self, frame: Frame) -> None:
        """A client's message on this topic other than join and leave."""
        match frame.event:
            case "access_token":
                self._refresh(protocol.usable_token(frame.payload.get("access_token")))
            case "broadcast":
                self._broadcast(frame)
            case "presence":
                self.socket.reply(
                    frame, protocol.error_reply("Presence is not served by the local Realtime server")
                )
            case _:
                _log.debug("ignored event on %s", self.name)

    def _broadcast(self, frame: Frame) -> None:
        wants = self.config.broadcast
        for member in self.socket.server.members(self.topic):
            if member is not self or wants.wants_self:
                member.push_shared("broadcast", frame.payload)
        if wants.wants_ack:
            self.socket.reply(frame, protocol.ok_reply())

    # --- token --------------------------------------------------------------------------------------

    def _refresh(self, token: str | None) -> None:
        if token is None or token == self._credentials.token:
            return
        try:
            self._credentials = tokens.verify(
                self.socket.server.context.jwt_secret, token, key=self.socket.server.context.signing_key
            )
        except AuthenticationError as error:
            self.socket.close_channel(self, error.message)
            return
        # Until the subscription is registered anew, the old claims decide.
        self.start()

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

    # --- postgres_changes -----------------------------------------------------------------------------

    async def _run(self) -> None:
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._expire(), name="realtime channel expiry")
                if self.config.postgres_changes:
                    group.create_task(self._subscribe(), name="realtime channel subscription")
        except ExceptionGroup:
            if self._task is not asyncio.current_task():
                return  # it ended, or starts anew, and what failed was the cleaning up
            # The channel is gone, its socket and the other channels stay: Phoenix supervises the same way.
            _log.exception("a channel crashed")
            self.socket.crash_channel(self)

    async def _subscribe(self) -> None:
        """Register the bindings, say so, and again after each gap of the stream."""
        server = self.socket.server
        try:
            bindings = tuple(parse_binding(each) for each in self.config.postgres_changes)
        except BadRequestError as error:
            self.system("postgres_changes", "error", error.message)
            return
        subscriber = Subscriber(self._credentials.role, self._credentials.claims, bindings)
        while True:
            stream = await server.wait_live()
            await asyncio.sleep(server.options.subscribe_delay)
            try:
                await server.check(subscriber.role, bindings)
            except BadRequestError as error:
                raise_if_cancelled()
                server.unsubscribe(self)
                self.system("postgres_changes", "error", error.message)
                return
            except (psycopg.Error, PoolTimeout) as error:
                raise_if_cancelled()
                self.system("postgres_changes", "error", f'{{:error, "{type(error).__name__}"}}')
                await asyncio.sleep(server.options.subscribe_retry_delay)
                continue
            raise_if_cancelled()
            if stream.ended.is_set():
                continue
            server.subscribe(self, subscriber)
            self.system("postgres_changes", "ok", "Subscribed to PostgreSQL")
            await stream.ended.wait()
