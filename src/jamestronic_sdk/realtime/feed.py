"""What one store is told by Realtime, over the client's shared socket: by which transport, and since when.

Rules (a reader can check the code against them):

1.  ``postgres_changes`` is live when its channel is, see ``supervisor.py``; then the private topics are
    joined as hints, and that they are live is one more gap. A hint that is refused or lost costs nothing
    but time.
2.  ``broadcast`` is live when every private topic is, and down as soon as one is not.
3.  ``auto`` asks for the private topics. While they are live, and the server itself said so, it is
    ``broadcast``. Where one is refused, fails twice in a row, or is not confirmed, it takes
    ``postgres_changes`` beside them; whichever way is whole is the one in use, broadcast first.
4.  Each time that the way in use becomes live, or says so again, or changes, is passed on: it may be a gap.

Promises:
    ``run`` ends only by cancellation, and then nothing of it is left; the last feed takes the socket along.
    What falls back says so once in the log, and by its reason.

Never:
    No interpretation of rows; no user code is awaited.
"""

from __future__ import annotations

import asyncio
import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from jamestronic_sdk.errors import JamesTronicError
from jamestronic_sdk.realtime.channels import Transport

if TYPE_CHECKING:
    from collections.abc import Callable

    from jamestronic_sdk.realtime.channels import Channel
    from jamestronic_sdk.realtime.connection import Connection
    from jamestronic_sdk.realtime.signals import BroadcastMessage, RowMessage

__all__ = ["Feed", "FeedBroadcast", "FeedDown", "FeedRow", "FeedSignal", "FeedUp"]

_log = logging.getLogger("jamestronic_sdk.realtime")

_PATIENCE: Final = 2
"""Failures in a row of a private topic, after which ``auto`` takes the other way as well."""


@dataclass(frozen=True, slots=True)
class FeedUp:
    """We are told of changes, as from now; changes before this may have been missed."""


@dataclass(frozen=True, slots=True)
class FeedDown:
    """The way in use was lost, or an attempt to open one failed; the next attempt follows by itself."""

    reason: str
    attempt: int
    """Failures in a row, from 1; 0 for a server that said good-bye."""


@dataclass(frozen=True, slots=True)
class FeedRow:
    """A message about a row."""

    message: RowMessage


@dataclass(frozen=True, slots=True)
class FeedBroadcast:
    """A message of a private topic."""

    message: BroadcastMessage


FeedSignal = FeedUp | FeedDown | FeedRow | FeedBroadcast


class Feed:
    """One store's share of the connection.

    Args:
        connection: The client's.
        changes: The channel of ``postgres_changes``.
        topics: The private topics that together tell everything; none where nobody knows them.
        transport: What is wanted.
        report: Takes the signals; must not block or raise.
    """

    def __init__(
        self,
        connection: Connection,
        *,
        changes: Channel,
        topics: tuple[Channel, ...],
        transport: Transport,
        report: Callable[[FeedSignal], None],
    ) -> None:
        self._connection: Final = connection
        self._changes: Final = changes
        self._topics: Final = topics
        self._wanted: Final = transport if topics else Transport.POSTGRES_CHANGES
        self._report: Final = report
        self._live: Final[dict[Channel, bool]] = {}
        """What is live, and whether the server itself said so."""
        self._holds_changes = False
        self._in_use: Transport | None = None
        self._has_fallen_back = False

    @property
    def transport(self) -> Transport | None:
        """The one that is live now; None while none is."""
        return self._in_use

    async def run(self) -> None:
        """Report until cancelled."""
        try:
            if self._wanted is Transport.POSTGRES_CHANGES:
                self._hold_changes()
            else:
                self._hold_topics()
        except JamesTronicError as error:
            self._report(FeedDown(error.message, 1))
        try:
            await asyncio.Event().wait()
        finally:
            self._in_use = None
            await self._connection.leave(self)

    def _hold_topics(self) -> None:
        for topic in self._topics:
            self._connection.hold(self, topic)

    def _hold_changes(self) -> None:
        if not self._holds_changes:
            self._holds_changes = True
            self._connection.hold(self, self._changes)

    def _drop_changes(self) -> None:
        if self._holds_changes:
            self._holds_changes = False
            self._live.pop(self._changes, None)
            self._connection.drop(self, self._changes)

    # --- connection.Member -------------------------------------------------------------------------

    def on_live(self, channel: Channel, *, is_confirmed: bool) -> None:
        """A channel is live, or says so again."""
        is_news = channel not in self._live
        self._live[channel] = is_confirmed
        if channel == self._changes:
            if self._in_use is not Transport.BROADCAST:
                self._go_live(Transport.POSTGRES_CHANGES)
            if self._wanted is Transport.POSTGRES_CHANGES and is_news:
                self._hold_topics()
            return
        if not all(topic in self._live for topic in self._topics):
            return
        if self._wanted is Transport.POSTGRES_CHANGES:
            self._go_live(self._in_use)
        elif self._wanted is Transport.BROADCAST or all(self._live[topic] for topic in self._topics):
            self._go_live(Transport.BROADCAST)
            self._drop_changes()
        else:
            self._fall_back("the server does not say whether broadcasts from the database arrive")
            self._go_live(self._in_use)

    def _go_live(self, transport: Transport | None) -> None:
        """Whatever way it is: what was committed before may have been missed."""
        if transport is None:
            return
        if transport is Transport.BROADCAST and self._has_fallen_back:
            self._has_fallen_back = False
            _log.info("broadcast is possible again")
        self._in_use = transport
        self._report(FeedUp())

    def _fall_back(self, reason: str) -> None:
        if self._holds_changes:
            return
        self._has_fallen_back = True
        _log.info("broadcast is not possible, postgres_changes is used instead: %s", reason)
        self._hold_changes()

    def on_channel_lost(self, channel: Channel, reason: str, attempt: int, *, is_refused: bool) -> None:
        """A channel is lost, or was not let in."""
        self._live.pop(channel, None)
        is_hint = channel != self._changes and (
            self._wanted is Transport.POSTGRES_CHANGES or self._in_use is Transport.POSTGRES_CHANGES
        )
        if is_hint:
            return
        if self._in_use is Transport.BROADCAST and channel == self._changes:
            return
        falls_back = self._wanted is Transport.AUTO and channel != self._changes
        if falls_back and (is_refused or attempt >= _PATIENCE):
            was_live = self._in_use is not None
            self._in_use = None
            if was_live:
                self._report(FeedDown(f"broadcast is lost: {reason}", attempt))
            self._fall_back(reason)
            return
        self._in_use = None
        self._report(FeedDown(reason, attempt))

    def on_socket_lost(self, reason: str, attempt: int) -> None:
        """All channels are lost."""
        self._live.clear()
        self._in_use = None
        self._report(FeedDown(reason, attempt))

    def on_row(self, message: RowMessage) -> None:
        """A row changed."""
        self._report(FeedRow(message))

    def on_broadcast(self, message: BroadcastMessage) -> None:
        """A message of a private topic."""
        self._report(FeedBroadcast(message))
