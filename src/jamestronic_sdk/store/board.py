"""An immutable picture of the tickets in a view."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Final
from uuid import UUID

from typing_extensions import override

from jamestronic_sdk.models import Ticket

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = ["TicketBoard"]


class TicketBoard(Mapping[UUID, Ticket]):
    """Tickets by id, in the order of their numbers; never changes, so it can be kept and compared.

    Args:
        tickets: The rows.
        revision: Which state of the store this is; rises with every change.
    """

    __slots__ = ("_by_id", "_by_technician", "revision")

    def __init__(self, tickets: Iterable[Ticket] = (), revision: int = 0) -> None:
        ordered = sorted(tickets, key=lambda ticket: ticket.number)
        self._by_id: Final[dict[UUID, Ticket]] = {ticket.id: ticket for ticket in ordered}
        self._by_technician: dict[UUID | None, tuple[Ticket, ...]] | None = None
        self.revision: Final = revision

    @override
    def __getitem__(self, ticket_id: UUID) -> Ticket:
        return self._by_id[ticket_id]

    @override
    def __iter__(self) -> Iterator[UUID]:
        return iter(self._by_id)

    @override
    def __len__(self) -> int:
        return len(self._by_id)

    @override
    def __repr__(self) -> str:
        return f"TicketBoard({len(self)} tickets, revision={self.revision})"

    def of_technician(self, technician_id: UUID) -> tuple[Ticket, ...]:
        """The tickets that this technician has."""
        return self._index().get(technician_id, ())

    @property
    def unassigned(self) -> tuple[Ticket, ...]:
        """The tickets that nobody has."""
        return self._index().get(None, ())

    def _index(self) -> dict[UUID | None, tuple[Ticket, ...]]:
        if self._by_technician is None:
            groups: dict[UUID | None, list[Ticket]] = {}
            for ticket in self._by_id.values():
                groups.setdefault(ticket.assigned_technician_id, []).append(ticket)
            self._by_technician = {key: tuple(group) for key, group in groups.items()}
        return self._by_technician
