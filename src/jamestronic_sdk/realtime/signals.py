"""What a link says to its feed, and the box that it arrives in."""

from __future__ import annotations

import asyncio
from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Mapping

    from jamestronic_sdk._clock import Clock

__all__ = [
    "BroadcastMessage",
    "HeartbeatAnswered",
    "Inbox",
    "Joined",
    "LinkSignal",
    "Lost",
    "Replicating",
    "RowMessage",
    "TokenChanged",
]

_INBOX_LIMIT: Final = 10_000
"""Signals that may wait for the feed; it only forwards, so a full inbox means a stalled loop: a gap."""


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
class BroadcastMessage:
    """One message of a private topic, as it came."""

    event: str
    payload: Mapping[str, Any]


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


LinkSignal = Joined | Replicating | RowMessage | BroadcastMessage | HeartbeatAnswered | TokenChanged | Lost


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
