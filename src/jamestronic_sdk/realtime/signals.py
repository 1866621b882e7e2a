"""What comes out of Realtime, as data: messages of channels, and the end of a socket."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["BroadcastMessage", "RowMessage", "SocketLoss"]

_EXPECTED_CODES: Final = frozenset({1000, 1001, 1012})
"""Normal end, going away, service restart: how a server says good-bye when it is idle or deployed."""


@dataclass(frozen=True, slots=True)
class RowMessage:
    """One ``postgres_changes`` message, as it came."""

    data: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class BroadcastMessage:
    """One message of a private topic, as it came."""

    topic: str
    """Without ``realtime:``."""
    event: str
    payload: Mapping[str, Any]
    is_replayed: bool = False
    """It was stored while we were away, and was asked for with the join."""


@dataclass(frozen=True, slots=True)
class SocketLoss:
    """A socket is of no more use."""

    reason: str
    code: int | None = None
    """Of the server's close frame; None when the connection just broke."""
    is_ours: bool = False
    """We gave it up, because we slept: no fault of the network or the server."""

    @property
    def is_goodbye(self) -> bool:
        """Whether the server ended it in good order."""
        return self.code in _EXPECTED_CODES
