"""A customer's repairs in a terminal, in the customer's words; ends when every repair has ended.

eval "$(jamestronic local env)"
JT_PASSWORD=demo-password python examples/customer_follow_up.py --email customer@jamestronic.test
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final

from console import options, signed_in
from jamestronic_sdk import TicketStatus, TicketUnassigned

if TYPE_CHECKING:
    from jamestronic_sdk import Ticket, TicketStore

WORDS: Final = {
    TicketStatus.OPEN: "we have it on our list",
    TicketStatus.ASSIGNED: "a technician will look at it",
    TicketStatus.IN_PROGRESS: "is being repaired",
    TicketStatus.WAITING_PARTS: "waits for a part",
    TicketStatus.READY: "is repaired and waits for you",
    TicketStatus.COMPLETED: "is with you again",
    TicketStatus.CANCELLED: "will not be repaired",
}
FINAL: Final = {TicketStatus.COMPLETED, TicketStatus.CANCELLED}


def tell(ticket: Ticket) -> None:
    """One line about one repair. A status that a newer database adds is shown as it is."""
    words = WORDS[ticket.status] if isinstance(ticket.status, TicketStatus) else ticket.status
    when = f" (moved on {ticket.scheduled_at:%d %B, %H:%M} UTC)" if ticket.scheduled_at else ""
    print(f"{ticket.label} {ticket.title}: {words}{when}", flush=True)


async def follow(store: TicketStore) -> None:
    """Tell what is there, then every change that a customer cares about."""
    async with store.events(initial=True) as events:
        async for event in events:
            match event:
                case TicketUnassigned():
                    print(f"{event.ticket.label} is no longer in your list", flush=True)
                case _ if event.initial or {"status", "scheduled_at"} & event.changes.keys():
                    tell(event.ticket)
                case _:
                    continue  # a new serial number is no news for a customer
            if all(ticket.status in FINAL for ticket in store.tickets.values()):
                return


async def main() -> None:
    """Sign in and follow."""
    chosen = options("A customer's repairs")
    async with signed_in(chosen) as jt, jt.ticket_store(poll_interval=chosen.poll) as store:
        if store.tickets:
            await follow(store)
        print("nothing is with us at present", flush=True)


if __name__ == "__main__":
    asyncio.run(main())
