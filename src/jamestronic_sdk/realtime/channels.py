"""Channels: their names, without the ``realtime:`` that the wire puts before them, and what they carry.

Promises:
    Admins and staff share one name; everybody else has one per session, so that two devices of one
    person never join each other's channel.

Never:
    No customer's data in a name: servers log them.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Final, Literal

if TYPE_CHECKING:
    from uuid import UUID

__all__ = [
    "OVERVIEW_CHANNEL",
    "POOL_TOPIC",
    "Channel",
    "TableBinding",
    "Transport",
    "TransportName",
    "own_channel",
    "person_topic",
]

OVERVIEW_CHANNEL: Final = "tickets:admin"
"""Admins and staff; ``realtime:tickets:admin`` in frames. Private, it is their topic of broadcasts."""


POOL_TOPIC: Final = "tickets:pool"
"""Private: the unassigned tickets, for technicians (``070_broadcast.sql``)."""


class Transport(StrEnum):
    """How a store is told of changes."""

    AUTO = "auto"
    """``BROADCAST`` where the database lets us into its private topics, else ``POSTGRES_CHANGES``."""
    BROADCAST = "broadcast"
    """By the database's own messages on private topics; needs ``070_broadcast.sql``."""
    POSTGRES_CHANGES = "postgres_changes"
    """By Realtime's stream of row changes."""


TransportName = Literal["auto", "broadcast", "postgres_changes"]
"""``Transport`` for those who write it out."""


@dataclass(frozen=True, slots=True)
class TableBinding:
    """A table whose changes a channel carries."""

    table: str
    schema: str = "public"


@dataclass(frozen=True, slots=True)
class Channel:
    """What is joined; equal channels are joined once per socket, however many stores hold them."""

    name: str
    is_private: bool = False
    """Carries broadcasts to those whom the database lets in."""
    tables: tuple[TableBinding, ...] = ()


def person_topic(profile_id: UUID) -> str:
    """Private: what concerns one person, also that they lost a ticket (``070_broadcast.sql``)."""
    return f"tickets:person:{profile_id}"


def own_channel(prefix: str, profile_id: UUID, opened_at_ms: int) -> str:
    """The channel of somebody with own tickets.

    Args:
        prefix: Whose: ``tech``, ``transporter`` or ``customer``.
        profile_id: ``profiles.id``.
        opened_at_ms: Milliseconds since 1970; makes the name unique per session.
    """
    return f"{prefix}_tickets_{profile_id}_{opened_at_ms}"
