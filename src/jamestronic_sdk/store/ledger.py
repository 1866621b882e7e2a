"""What the viewer may see, by version: takes rows and leaves in any order, answers transitions; pure.

The engine's rules 1, 2, 5, 6 and 10 are here; when to read is the engine's.

Promises:
    Any order of the same rows and leaves, with repeats, ends in the same state.
    Each transition is told once, and replaying what was told gives the rows.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from jamestronic_sdk.models import share_names
from jamestronic_sdk.store.classify import changes_between, classify
from jamestronic_sdk.store.events import Certainty, Source, TicketEvent, TicketRemoved, TicketUnassigned
from jamestronic_sdk.store.seen import SeenRows
from jamestronic_sdk.store.tombstones import Tombstone, Tombstones

if TYPE_CHECKING:
    from collections.abc import Iterable
    from collections.abc import Set as AbstractSet
    from datetime import datetime
    from uuid import UUID

    from jamestronic_sdk.models import Ticket
    from jamestronic_sdk.store.protocol import EngineConfig, Removal
    from jamestronic_sdk.store.views import View

__all__ = ["Facts", "Ledger"]


@dataclass(frozen=True, slots=True)
class Facts:
    """Where a row or a leave comes from, for the event that it may cause."""

    source: Source
    received_at: datetime
    committed_at: datetime | None = None
    read_step: int | None = None
    """The engine's step at which the read began that showed it; None: it may be late."""


class Ledger:
    """The rows of one view.

    Args:
        view: Which tickets, and from whose eyes.
        config: Bounds.
    """

    def __init__(self, view: View, config: EngineConfig) -> None:
        self.view: Final = view
        self.rows: Final[dict[UUID, Ticket]] = {}
        """What is in the view."""
        self.seen: Final = SeenRows()
        """Version and last touch of what is in the view and, with the change log, of all that is visible."""
        self.tombstones: Final = Tombstones(config.tombstone_limit, config.tombstone_ttl)
        self.tracks_all: bool = config.is_sync_wanted
        """Whether rows that are visible but not in the view are remembered, too."""
        self.is_told: bool = False
        """Whether transitions are told; not before the first complete state."""
        self.revision: int = 0
        """Rises with every change of ``rows``."""
        self.changed_step: int = 0
        """When ``seen`` changed last."""
        self.events: list[TicketEvent] = []
        """Transitions that nobody has taken yet."""
        self.dropped: Counter[str] = Counter()
        """Rows that were no news: ``duplicates`` and ``stale``."""
        self._grace: Final = config.grace
        self._now = 0.0
        self._step = 0

    def at(self, now: float, step: int) -> None:
        """What follows happens at this time, and is this step of the engine."""
        self._now, self._step = now, step

    # --- rows --------------------------------------------------------------------------------------

    def is_doubtful(self, ticket: Ticket) -> bool:
        """Whether a row that may be late may predate a leave of which only the last seen version is known."""
        stone = self.tombstones.get(ticket.id)
        return (
            stone is not None
            and stone.is_inferred
            and not stone.is_deleted
            and ticket.version > stone.version
            and self._now - stone.at < self._grace
            and self._is_tracked(ticket)
        )

    def apply(self, ticket: Ticket, facts: Facts) -> None:
        """Take the row if it is news; tell what that means for the viewer."""
        if not self._is_news(ticket, facts.read_step):
            return
        if self.view.contains(ticket):
            before = self.rows.get(ticket.id)
            self._see(ticket)
            share_names((ticket,))
            self.rows[ticket.id] = ticket
            self.revision += 1
            self._tell(before, ticket, ticket, facts)
            return
        self._remove(ticket.id, facts, Certainty.OBSERVED, last_word=ticket)
        if self._is_tracked(ticket):
            self._see(ticket)
        else:
            self._bury(ticket.id, ticket.version)

    def load(self, tickets: tuple[Ticket, ...], facts: Facts, *, tracked: bool) -> list[UUID]:
        """Take a whole read, each row once; answers what it did not show and was touched since it began.

        As ``apply`` for each row and then ``confirm``; the first time, much faster.

        Args:
            tickets: What it showed.
            facts: Of the read.
            tracked: It showed all that is tracked, else all that is in the view.
        """
        if self.is_told or len(self.seen) or len(self.tombstones):
            for ticket in tickets:
                self.apply(ticket, facts)
            expected = tuple(self.seen if tracked else self.rows)
            return self.confirm({ticket.id for ticket in tickets}, expected, facts)
        everything = self.view.holds_everything
        held = tickets if everything else tuple(filter(self.view.contains, tickets))
        share_names(held)
        self.rows.update((ticket.id, ticket) for ticket in held)
        self.seen.fill(tickets if everything else filter(self._is_tracked, tickets), self._step)
        self.revision += 1
        self.changed_step = self._step
        return []

    def leave(self, removal: Removal, facts: Facts) -> None:
        """Take the server's word that the row is gone as of this version; what is newer than that stays."""
        seen = self.seen.version(removal.ticket_id)
        if removal.is_deleted or seen is None or seen < removal.version:
            self._remove(removal.ticket_id, facts, Certainty.OBSERVED)
            # A read tells the newest leave as of its moment; a message may tell an older one, late.
            is_newest = facts.read_step is not None
            self._bury(removal.ticket_id, removal.version, is_deleted=removal.is_deleted, is_exact=is_newest)

    def delete(self, ticket_id: UUID, facts: Facts) -> None:
        """The row exists no more; ids are never used again."""
        self._remove(ticket_id, facts, Certainty.OBSERVED)
        self._bury(ticket_id, 0, is_deleted=True)

    def confirm(self, found: AbstractSet[UUID], expected: Iterable[UUID], facts: Facts) -> list[UUID]:
        """Take a read's word for what it did not show; answers what was touched since it began.

        Args:
            found: What it showed.
            expected: What it would have shown.
            facts: Of the read.
        """
        doubtful: list[UUID] = []
        for ticket_id in expected:
            version = self.seen.version(ticket_id)
            if version is None or ticket_id in found:
                continue
            if facts.read_step is not None and self.seen.touched(ticket_id) <= facts.read_step:
                self._remove(ticket_id, facts, Certainty.INFERRED)
                self._bury(ticket_id, version, is_inferred=True)
            else:
                doubtful.append(ticket_id)
        return doubtful

    def knows(self, ticket_id: UUID, version: int) -> bool:
        """Whether this version was seen, a newer one, or a leave that is as new."""
        stone = self.tombstones.get(ticket_id)
        known = self.seen.version(ticket_id) or (0 if stone is None else stone.version)
        return known >= version or (stone is not None and stone.is_deleted)

    # --- inside ------------------------------------------------------------------------------------

    def _is_tracked(self, ticket: Ticket) -> bool:
        return self.view.shows(ticket) if self.tracks_all else self.view.contains(ticket)

    def _is_news(self, ticket: Ticket, read_step: int | None) -> bool:
        seen = self.seen.version(ticket.id)
        if seen is not None:
            if ticket.version <= seen:
                self.dropped["duplicates" if ticket.version == seen else "stale"] += 1
            return ticket.version > seen
        stone = self.tombstones.get(ticket.id)
        if stone is None:
            return True
        if stone.is_deleted:
            return False
        if stone.is_inferred and read_step is not None and read_step > stone.step:
            # It left without a word and is visible again: the same version is news enough.
            return ticket.version >= stone.version
        return ticket.version > stone.version

    def _see(self, ticket: Ticket) -> None:
        self.tombstones.remove(ticket.id)
        self.seen.add(ticket.id, ticket.version, self._step)
        self.changed_step = self._step

    def _remove(
        self, ticket_id: UUID, facts: Facts, certainty: Certainty, *, last_word: Ticket | None = None
    ) -> None:
        """Forget a row, and tell it if it was in the view."""
        if ticket_id in self.seen:
            self.seen.discard(ticket_id)
            self.changed_step = self._step
        held = self.rows.pop(ticket_id, None)
        if held is not None:
            self.revision += 1
            self._tell(held, None, last_word or held, facts, certainty)

    def _bury(
        self,
        ticket_id: UUID,
        version: int,
        *,
        is_inferred: bool = False,
        is_deleted: bool = False,
        is_exact: bool = False,
    ) -> None:
        stone = Tombstone(version, is_inferred, is_deleted, self._now, self._step)
        self.tombstones.add(ticket_id, stone, is_exact=is_exact)

    def _tell(
        self,
        before: Ticket | None,
        after: Ticket | None,
        last_known: Ticket,
        facts: Facts,
        certainty: Certainty = Certainty.OBSERVED,
    ) -> None:
        kind = classify(before, after, self.view, last_known)
        if kind is None or not self.is_told:
            return
        more: dict[str, Any] = {}
        if kind is TicketUnassigned or kind is TicketRemoved:
            more["certainty"] = certainty
        # A row carries its own commit time (updated_at is set by the trigger), unless the last word
        # about it is missing: then nobody knows when it left.
        committed_at = facts.committed_at
        if committed_at is None and (after is not None or last_known is not before):
            committed_at = last_known.updated_at
        self.events.append(
            kind(
                ticket=last_known,
                previous=before,
                source=facts.source,
                observed_at=facts.received_at,
                committed_at=committed_at,
                changes=changes_between(before, last_known),
                is_in_view=after is not None,
                **more,
            )
        )
