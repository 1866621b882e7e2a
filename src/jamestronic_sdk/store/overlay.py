"""Own writes under way: what a row looks like as if they had succeeded; pure.

Promises:
    Only what is shown: transitions are told from the database's rows alone, so a guess is never an event.
    A pending write holds back no other row, and is gone as soon as it is answered.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping
    from uuid import UUID

    from jamestronic_sdk.models import Ticket
    from jamestronic_sdk.store.views import View

__all__ = ["Overlay", "PendingWrite"]


@dataclass(frozen=True, slots=True)
class PendingWrite:
    """A command that was sent and not answered yet."""

    ticket_id: UUID
    patch: Mapping[str, Any]
    base: Ticket | None
    """The row that was shown when the command was given; None if the view did not show it."""

    @property
    def attempted(self) -> Ticket | None:
        """The row as the command would leave it."""
        return None if self.base is None else self.base.model_copy(update=dict(self.patch))


class Overlay:
    """The pending writes of a store, oldest first."""

    __slots__ = ("_pending",)

    def __init__(self) -> None:
        self._pending: dict[int, PendingWrite] = {}

    def __bool__(self) -> bool:
        return bool(self._pending)

    @property
    def ticket_ids(self) -> frozenset[UUID]:
        """The tickets with a pending write."""
        return frozenset(write.ticket_id for write in self._pending.values())

    def begin(self, token: int, write: PendingWrite) -> None:
        """A command is on its way."""
        self._pending[token] = write

    def end(self, token: int) -> PendingWrite | None:
        """It was answered."""
        return self._pending.pop(token, None)

    def over(self, rows: Mapping[UUID, Ticket], view: View) -> Mapping[UUID, Ticket]:
        """The rows as they are shown; the same object when nothing is pending."""
        if not self._pending:
            return rows
        shown = dict(rows)
        for write in self._pending.values():
            row = shown.get(write.ticket_id)
            if row is None:
                continue
            patched = row.model_copy(update=dict(write.patch))
            if view.contains(patched):
                shown[write.ticket_id] = patched
            else:
                del shown[write.ticket_id]
        return shown
