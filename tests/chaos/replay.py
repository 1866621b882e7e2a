"""Whether a store told the truth: its events over its first snapshot, step by step."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from jamestronic_sdk import TicketAssigned, TicketUnassigned

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from uuid import UUID

    from jamestronic_sdk import Ticket, TicketEvent, View


@dataclass(slots=True)
class Replay:
    """The view as its events tell it, and what is wrong with them."""

    view: View
    tickets: dict[UUID, Ticket]
    events: int = 0
    missed: list[str] = field(default_factory=list[str])
    """Steps that presuppose one that was never told."""
    repeated: list[str] = field(default_factory=list[str])
    """Steps that were told before."""

    def play(self, events: Iterable[TicketEvent]) -> None:
        for event in events:
            self._check(event)
            if event.is_in_view:
                self.tickets[event.ticket.id] = event.ticket
            else:
                self.tickets.pop(event.ticket.id, None)
            self.events += 1

    def _check(self, event: TicketEvent) -> None:
        held = self.tickets.get(event.ticket.id)
        what = f"{type(event).__name__} {event.ticket.number} v{event.ticket.version} by {event.source}"
        if held is None and not event.is_in_view:
            self.repeated.append(f"{what}: it had left")
        elif event.is_in_view and held is not None and held.version >= event.ticket.version:
            self.repeated.append(f"{what}: v{held.version} was told")
        elif event.previous != held:
            self.missed.append(f"{what}: the row before is not what was told last")
        elif isinstance(event, TicketAssigned) and self._has_holder(held) == self._holder(event.ticket):
            self.repeated.append(f"{what}: it had been assigned")
        elif isinstance(event, TicketUnassigned) and self._has_holder(held) is None:
            self.repeated.append(f"{what}: it had been unassigned")

    def _holder(self, ticket: Ticket) -> object:
        """Whose it is, as far as this view distinguishes."""
        if self.view.holder_column is None:
            return ticket.assigned_technician_id
        return True if self.view.is_mine(ticket) else None

    def _has_holder(self, held: Ticket | None) -> object:
        return None if held is None else self._holder(held)

    def differences(self, truth: Mapping[UUID, Ticket]) -> list[str]:
        """Where the state differs, by number and version; no contents."""
        return differences(self.tickets, truth)


def differences(found: Mapping[UUID, Ticket], truth: Mapping[UUID, Ticket]) -> list[str]:
    """Tickets that are missing, left over, or not the same in some field."""
    lines = [f"missing {truth[key].number}" for key in truth.keys() - found.keys()]
    lines += [f"left over {found[key].number}" for key in found.keys() - truth.keys()]
    return lines + [
        f"{truth[key].number} is v{found[key].version}, should be v{truth[key].version}"
        for key in truth.keys() & found.keys()
        if found[key] != truth[key]
    ]
