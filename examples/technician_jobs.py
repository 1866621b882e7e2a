"""A technician's jobs in a terminal: a ticket appears when it is assigned and goes when it is taken away.

Commands: ``board``, ``status JT-1 in_progress``, ``claim JT-1``, ``release JT-1``, ``quit``.

    eval "$(jamestronic local env)"
    JT_PASSWORD=demo-password python examples/technician_jobs.py --email ben@jamestronic.test
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from console import by_label, run

if TYPE_CHECKING:
    from jamestronic_sdk import JamesTronic, TicketStore


async def carry_out(jt: JamesTronic, store: TicketStore, words: list[str]) -> None:
    """One command of the technician."""
    match words:
        case ["status", label, status] if (ticket := by_label(store, label)) is not None:
            await jt.tickets.set_status(ticket, status, expected_version=ticket.version)
        case ["claim", label]:
            pool = await jt.tickets.list(unassigned=True)
            ticket = next((ticket for ticket in pool if ticket.label == label.upper()), None)
            if ticket is not None:
                await jt.tickets.claim(ticket, expected_version=ticket.version)
        case ["release", label] if (ticket := by_label(store, label)) is not None:
            await jt.tickets.release(ticket)
        case _:
            print("commands: board, status JT-1 in_progress, claim JT-1, release JT-1, quit", flush=True)


if __name__ == "__main__":
    asyncio.run(run("A technician's jobs", carry_out))
