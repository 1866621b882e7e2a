"""The admin's board in a terminal: shows every change at once, and takes commands.

Commands: ``board``, ``assign JT-1 NAME``, ``unassign JT-1``, ``create TITLE...``, ``quit``.

    eval "$(jamestronic local env)"
    JT_PASSWORD=demo-password python examples/admin_board.py --email ada@jamestronic.test
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from console import by_label, run
from jamestronic_sdk import Role

if TYPE_CHECKING:
    from jamestronic_sdk import JamesTronic, TicketStore


async def carry_out(jt: JamesTronic, store: TicketStore, words: list[str]) -> None:
    """One command of the admin."""
    match words:
        case ["assign", label, *name]:
            people = await jt.profiles.list(role=Role.TECHNICIAN)
            person = next((p for p in people if p.full_name.lower().startswith(" ".join(name).lower())), None)
            ticket = by_label(store, label)
            if ticket is not None and person is not None:
                await jt.tickets.assign(ticket, person)
        case ["unassign", label] if (ticket := by_label(store, label)) is not None:
            await jt.tickets.unassign(ticket)
        case ["create", *title]:
            await jt.tickets.create(title=" ".join(title))
        case _:
            print("commands: board, assign JT-1 NAME, unassign JT-1, create TITLE, quit", flush=True)


if __name__ == "__main__":
    asyncio.run(run("The admin's board", carry_out))
