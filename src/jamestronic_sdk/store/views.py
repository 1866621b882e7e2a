"""Who sees what: a view is data that says which tickets are in it and which of them are the viewer's.

Promises:
    A view is a value: equal views read the same rows and classify alike.

Never:
    No I/O. A view never decides what the database lets the viewer read; RLS does.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING
from uuid import UUID  # noqa: TC003 - part of the public signature, resolved at run time by users

from jamestronic_sdk._inputs import checked_words, profile_id
from jamestronic_sdk.errors import ConfigurationError, InvalidInputError
from jamestronic_sdk.models import Role

if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import Final

    from jamestronic_sdk.models import Profile, Ticket

__all__ = ["View", "ViewKind"]


_WORD: Final = 200
"""Characters of a status."""


class ViewKind(StrEnum):
    """From whose eyes tickets are seen."""

    OVERVIEW = "overview"
    """Admins and staff: every ticket; an assignment is news about the ticket."""
    TECHNICIAN = "technician"
    TRANSPORTER = "transporter"
    CUSTOMER = "customer"


_HOLDER_COLUMN: dict[ViewKind, str] = {
    ViewKind.TECHNICIAN: "assigned_technician_id",
    ViewKind.TRANSPORTER: "assigned_transporter_id",
    ViewKind.CUSTOMER: "customer_id",
}

_KIND_OF_ROLE: dict[str, ViewKind] = {
    Role.ADMIN: ViewKind.OVERVIEW,
    Role.STAFF: ViewKind.OVERVIEW,
    Role.TECHNICIAN: ViewKind.TECHNICIAN,
    Role.TRANSPORTER: ViewKind.TRANSPORTER,
    Role.CUSTOMER: ViewKind.CUSTOMER,
}


@dataclass(frozen=True, slots=True)
class View:
    """Which tickets a store holds, and from whose eyes their changes are told.

    Make one with ``View.overview()``, ``View.technician(...)``, ``View.transporter(...)`` or
    ``View.customer(...)``; ``JamesTronic.ticket_store()`` picks by the signed-in role.
    """

    kind: ViewKind
    profile_id: UUID | None = None
    """Whose tickets are "mine"; None for the overview."""
    includes_pool: bool = False
    """Technicians only: the unassigned tickets are in the view, too."""
    statuses: frozenset[str] | None = None
    """Overview only: the statuses that are in the view; None: all."""
    technician_id: UUID | None = None
    """Overview only: whose tickets are in the view (``profiles.id``); None: everybody's, and nobody's."""

    @classmethod
    def overview(
        cls, *, statuses: Iterable[str] | None = None, technician: Profile | UUID | str | None = None
    ) -> View:
        """The tickets that the signed-in admin or staff member may read, all or some.

        Args:
            statuses: Only tickets in one of these; None: in any.
            technician: Only this technician's (a profile, its id, or the id's text); then ``TicketAssigned``
                and ``TicketUnassigned`` are told as that technician would be.

        Raises:
            InvalidInputError: An argument is malformed.
        """
        words = (
            None if statuses is None else frozenset(checked_words(statuses, "statuses", limit=_WORD) or ())
        )
        if words is not None and not words:
            raise InvalidInputError("statuses must name one status at least; None takes all.")
        holder = None if technician is None else profile_id(technician, "technician")
        return cls(ViewKind.OVERVIEW, statuses=words, technician_id=holder)

    @classmethod
    def technician(cls, profile_id: UUID, *, includes_pool: bool = False) -> View:
        """The tickets of one technician, with the unassigned pool on request."""
        return cls(ViewKind.TECHNICIAN, profile_id, includes_pool)

    @classmethod
    def transporter(cls, profile_id: UUID) -> View:
        """The tickets that one transporter moves."""
        return cls(ViewKind.TRANSPORTER, profile_id)

    @classmethod
    def customer(cls, profile_id: UUID) -> View:
        """The tickets of one customer."""
        return cls(ViewKind.CUSTOMER, profile_id)

    @classmethod
    def of_role(cls, role: str, profile_id: UUID) -> View:
        """The view that follows a role.

        Raises:
            ConfigurationError: The role is newer than this version; give a view yourself.
        """
        kind = _KIND_OF_ROLE.get(role)
        if kind is None:
            raise ConfigurationError(
                f"No view is known for the role {role!r}.",
                next_step="Give one: jt.ticket_store(View.customer(profile_id)), for example.",
            )
        return cls(kind, None if kind is ViewKind.OVERVIEW else profile_id)

    @property
    def holder_column(self) -> str | None:
        """The column that says whose ticket it is; None for the overview of everybody's."""
        if self.technician_id is not None:
            return "assigned_technician_id"
        return _HOLDER_COLUMN.get(self.kind)

    @property
    def holder_id(self) -> UUID | None:
        """Whose tickets count as "mine"; None for the overview of everybody's."""
        return self.profile_id or self.technician_id

    @property
    def has_silent_leave(self) -> bool:
        """Whether Postgres Changes hides it when a ticket goes to somebody else.

        Realtime delivers an UPDATE only to those who may see the new row, so every view but the
        overview loses tickets without an event.
        """
        return self.kind is not ViewKind.OVERVIEW

    def is_of_same_person(self, other: View) -> bool:
        """Whether both are of the same kind and the same eyes, whatever of it they hold."""
        return (self.kind, self.profile_id) == (other.kind, other.profile_id)

    @property
    def holds_everything(self) -> bool:
        """Whether all that is visible is in the view: nothing needs to be looked at, row by row."""
        return self.kind is ViewKind.OVERVIEW and self.statuses is None and self.technician_id is None

    def is_mine(self, ticket: Ticket) -> bool:
        """Whether it counts as the viewer's; never true for the overview of everybody's."""
        column = self.holder_column
        return column is not None and getattr(ticket, column) == self.holder_id

    def shows(self, ticket: Ticket) -> bool:
        """Whether row level security lets the viewer read the row, in the view or not.

        As ``tickets_read_technician_assigned`` and its kin say: technicians also read the unassigned ones.
        """
        if self.kind is ViewKind.OVERVIEW or self.is_mine(ticket):
            return True
        return self.kind is ViewKind.TECHNICIAN and ticket.assigned_technician_id is None

    def contains(self, ticket: Ticket) -> bool:
        """Whether the ticket belongs in the view, given that it is visible."""
        if self.statuses is not None and ticket.status not in self.statuses:
            return False
        if self.holder_column is None or self.is_mine(ticket):
            return True
        return self.includes_pool and ticket.assigned_technician_id is None
