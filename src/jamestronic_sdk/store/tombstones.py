"""Rows that left: what is remembered of them, so that nothing old brings them back; pure.

Promises:
    Bounded by number and age.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from uuid import UUID

__all__ = ["Tombstone", "Tombstones"]


@dataclass(frozen=True, slots=True)
class Tombstone:
    """One row that left."""

    version: int
    is_inferred: bool
    """Left by absence: the version is the last one seen, not that of the leave."""
    is_deleted: bool
    at: float
    step: int
    """Of the engine, when it was set."""


class Tombstones:
    """Ticket id -> tombstone, oldest first.

    Args:
        limit: How many are kept.
        ttl: Seconds that they are kept.
    """

    __slots__ = ("_limit", "_stones", "_ttl")

    def __init__(self, limit: int, ttl: float) -> None:
        self._limit: Final = limit
        self._ttl: Final = ttl
        self._stones: OrderedDict[UUID, Tombstone] = OrderedDict()

    def __len__(self) -> int:
        return len(self._stones)

    def get(self, ticket_id: UUID) -> Tombstone | None:
        """The row's tombstone, if it left."""
        return self._stones.get(ticket_id)

    def remove(self, ticket_id: UUID) -> None:
        """The row is back."""
        self._stones.pop(ticket_id, None)

    def add(self, ticket_id: UUID, stone: Tombstone, *, is_exact: bool) -> None:
        """The row left.

        Args:
            ticket_id: Whose.
            stone: What is known.
            is_exact: The version is known to be that of the newest leave.
        """
        held = self._stones.get(ticket_id)
        if held is not None and not stone.is_deleted:
            if held.is_deleted or stone.version <= held.version:
                return  # old news: what is known is later than this leave
            if held.is_inferred and not (stone.is_inferred or is_exact):
                # This may predate the leave that was inferred, so that leave stays in doubt.
                self._stones[ticket_id] = replace(held, version=stone.version)
                return
        self._stones[ticket_id] = stone
        self._stones.move_to_end(ticket_id)
        while len(self._stones) > self._limit:
            self._stones.popitem(last=False)

    def prune(self, now: float) -> None:
        """Forget those that are too old."""
        oldest = now - self._ttl
        while self._stones and next(iter(self._stones.values())).at < oldest:
            self._stones.popitem(last=False)
