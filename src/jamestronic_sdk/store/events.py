"""What a program is told: one event for each transition of a ticket, from the viewer's eyes.

Promises:
    Replaying the events over the first snapshot gives the last snapshot.

Never:
    No customer's data in a ``repr``.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, Any, NamedTuple

from typing_extensions import override

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime

    from jamestronic_sdk.models import Ticket

__all__ = [
    "Certainty",
    "Change",
    "Source",
    "TicketAssigned",
    "TicketConflicted",
    "TicketCreated",
    "TicketEvent",
    "TicketRemoved",
    "TicketUnassigned",
    "TicketUpdated",
]


class Source(StrEnum):
    """How the store learned of a transition."""

    REALTIME = "realtime"
    """A Realtime message."""
    REFETCH = "refetch"
    """The read that confirms Realtime messages, or that follows a gap in them."""
    POLL = "poll"
    """A read by the clock: while Realtime is down, or the safety poll."""
    REFRESH = "refresh"
    """A read that the program asked for."""
    OWN_WRITE = "own write"
    """The answer to a command that this store sent."""


class Certainty(StrEnum):
    """How the store knows that a ticket left the view."""

    OBSERVED = "observed"
    """A message showed the ticket with another holder or deleted, or the change log says that it left."""
    INFERRED = "inferred"
    """A whole read no longer showed it: it went to somebody else, or was deleted."""


class Change(NamedTuple):
    """One column's value before and after."""

    old: Any
    new: Any

    @override
    def __repr__(self) -> str:
        return "Change(...)"


@dataclass(frozen=True, slots=True, kw_only=True)
class TicketEvent:
    """What all events share."""

    ticket: Ticket
    """The row after the transition; where it left the view without a last word, the row last known."""
    previous: Ticket | None = None
    """The row before; None when the view did not hold it."""
    source: Source
    observed_at: datetime
    """When this machine learned of it (UTC)."""
    committed_at: datetime | None = None
    """When the database committed it (UTC): the message's word, else the row's ``updated_at``, else None."""
    changes: Mapping[str, Change] = field(default_factory=dict[str, Change], repr=False)
    """Column -> (old, new), without the bookkeeping columns ``version`` and ``updated_at``."""
    is_in_view: bool = True
    """Whether ``store.tickets`` holds the ticket after the transition."""
    initial: bool = False
    """True for items that only tell a new reader what is there already."""

    @property
    def latency(self) -> float | None:
        """Seconds from commit to this machine's knowledge; None if the commit time is unknown.

        Two clocks are compared, the database's and this machine's, so small negative values occur.
        """
        if self.committed_at is None:
            return None
        return (self.observed_at - self.committed_at).total_seconds()


@dataclass(frozen=True, slots=True, kw_only=True)
class TicketAssigned(TicketEvent):
    """The ticket is the viewer's now; in the overview: it has a (new) technician now."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TicketUnassigned(TicketEvent):
    """The ticket is the viewer's no longer; in the overview: it has no technician any more."""

    certainty: Certainty = Certainty.OBSERVED


@dataclass(frozen=True, slots=True, kw_only=True)
class TicketUpdated(TicketEvent):
    """Other columns changed; ``changes`` says which."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TicketCreated(TicketEvent):
    """The ticket came into the view without becoming the viewer's."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TicketRemoved(TicketEvent):
    """The ticket left the view, and it was not the viewer's."""

    certainty: Certainty = Certainty.OBSERVED


@dataclass(frozen=True, slots=True, kw_only=True)
class TicketConflicted(TicketEvent):
    """Somebody was faster than a command of this store; nothing of it was done.

    No transition: ``ticket`` is the row as it is now, ``previous`` the row that the command was based on.
    """

    attempted: Ticket
    """The row as it was shown while the command was under way."""
