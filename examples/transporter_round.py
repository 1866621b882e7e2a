"""A transporter's round in a terminal: stops in the order of their times, kept up to date by the store.

Commands: ``round``, ``later JT-1 MINUTES``, ``delivered JT-1``, ``quit``.

    eval "$(jamestronic local env)"
    JT_PASSWORD=... python examples/transporter_round.py --email a-transporter@example.org
"""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from console import by_label, run
from jamestronic_sdk import TicketStatus

if TYPE_CHECKING:
    from jamestronic_sdk import JamesTronic, Ticket, TicketStore

UNSCHEDULED = datetime.max.replace(tzinfo=UTC)


def show(store: TicketStore) -> None:
    """Print what is still to be moved: repaired devices go out, the others come in."""
    stops = [t for t in store.tickets.values() if t.status not in {"completed", "cancelled"}]
    for number, ticket in enumerate(sorted(stops, key=when), 1):
        is_outward = ticket.status == TicketStatus.READY
        address = (ticket.delivery_address if is_outward else ticket.pickup_address) or "no address"
        time = f"{ticket.scheduled_at:%H:%M}" if ticket.scheduled_at else "--:--"
        print(f"{number}. {time} {'bring' if is_outward else 'fetch'} {ticket.label} {address}", flush=True)
    print(f"{len(stops)} stops ({store.freshness.kind})", flush=True)


def when(ticket: Ticket) -> datetime:
    """What the round is sorted by."""
    return ticket.scheduled_at or UNSCHEDULED


async def carry_out(jt: JamesTronic, store: TicketStore, words: list[str]) -> None:
    """One command of the transporter."""
    match words:
        case ["round"]:
            show(store)
        case ["later", label, minutes] if (ticket := by_label(store, label)) and ticket.scheduled_at:
            moved = ticket.scheduled_at + timedelta(minutes=int(minutes))
            await jt.tickets.update(ticket, scheduled_at=moved, expected_version=ticket.version)
        case ["delivered", label] if (ticket := by_label(store, label)) is not None:
            await jt.tickets.set_status(ticket, TicketStatus.COMPLETED, expected_version=ticket.version)
        case _:
            print("commands: round, later JT-1 MINUTES, delivered JT-1, quit", flush=True)


if __name__ == "__main__":
    asyncio.run(run("A transporter's round", carry_out))
