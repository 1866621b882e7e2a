"""The names of Realtime channels, without the ``realtime:`` that the wire puts before them.

Promises:
    Admins and staff share one name; everybody else has one per session, so that two devices of one
    person never join each other's channel.

Never:
    No customer's data in a name: servers log them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from uuid import UUID

__all__ = [
    "OVERVIEW_CHANNEL",
    "POOL_TOPIC",
    "own_channel",
    "person_topic",
]

OVERVIEW_CHANNEL: Final = "tickets:admin"
"""Admins and staff; ``realtime:tickets:admin`` in frames."""


POOL_TOPIC: Final = "tickets:pool"
"""Private: the unassigned tickets, for technicians (``070_broadcast.sql``)."""


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
