"""A morning in the workshop: where the demo's tickets stand when an ephemeral stack begins."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Final

from jamestronic_sdk import JamesTronic, TicketStatus

if TYPE_CHECKING:
    from uuid import UUID

_BEN, _CLEO, _THEO = "ben@jamestronic.test", "cleo@jamestronic.test", "theo@jamestronic.test"
_HOME: Final = "Lindenallee 12, second floor"
_SHOP: Final = "JamesTronic workshop, Kanalstraße 4"

# Running number of the ticket -> who has it, and the way to where it stands.
_WORK: Final[dict[int, tuple[str, tuple[TicketStatus, ...]]]] = {
    2: (_BEN, (TicketStatus.IN_PROGRESS,)),
    3: (_CLEO, ()),
    5: (_BEN, (TicketStatus.IN_PROGRESS, TicketStatus.WAITING_PARTS)),
    6: (_CLEO, (TicketStatus.IN_PROGRESS,)),
    7: (_BEN, ()),
    10: (_CLEO, (TicketStatus.IN_PROGRESS, TicketStatus.READY)),
    11: (_BEN, (TicketStatus.IN_PROGRESS, TicketStatus.COMPLETED)),
}
# Running number -> hours from now.
_TRANSPORT: Final = {3: 2, 10: 4, 12: 26}


async def set_scene(jt: JamesTronic, ids: dict[str, UUID]) -> None:
    """Bring a freshly seeded project to mid-morning.

    Args:
        jt: With the service key.
        ids: E-mail -> ``profiles.id``, as ``seed`` answers.

    Raises:
        JamesTronicError: The project refused.
    """
    tickets = dict(enumerate(await jt.tickets.list(order="oldest"), start=1))
    hour = datetime.now(UTC).replace(minute=0, second=0, microsecond=0)
    for number, hours in _TRANSPORT.items():
        there, back = (_SHOP, _HOME) if number in _WORK and number == 10 else (_HOME, _SHOP)
        await jt.tickets.update(tickets[number], pickup_address=there, delivery_address=back)
        await jt.tickets.schedule_transport(tickets[number], ids[_THEO], hour + timedelta(hours=hours))
    for number, (email, statuses) in _WORK.items():
        await jt.tickets.assign(tickets[number], ids[email])
        for status in statuses:
            await jt.tickets.set_status(tickets[number], status)
