"""What the viewer may see, by version: the client's half of the digest; pure.

Promises:
    The digest is kept incrementally: one XOR out, one XOR in per change. It equals what
    ``tickets_digest()`` (060_sync.sql) computes over the same rows.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from uuid import UUID

    from jamestronic_sdk.models import Ticket

__all__ = ["SeenRows", "hash_of"]


def hash_of(ticket_id: UUID, version: int) -> int:
    """The first 64 bits of MD5(``id:version``): a checksum that SQL and Python both have, not a secret."""
    text = f"{ticket_id}:{version}".encode()
    return int.from_bytes(hashlib.md5(text, usedforsecurity=False).digest()[:8], "big")


class SeenRows:
    """Ticket id -> version, and the engine's step that touched it last.

    The digest is first computed when it is first asked for, and kept from then on.
    """

    __slots__ = ("_digest", "_rows")

    def __init__(self) -> None:
        self._rows: dict[UUID, tuple[int, int]] = {}
        self._digest: int | None = None

    def add(self, ticket_id: UUID, version: int, step: int) -> None:
        """The row is visible with this version."""
        self.discard(ticket_id)
        self._rows[ticket_id] = (version, step)
        if self._digest is not None:
            self._digest ^= hash_of(ticket_id, version)

    def fill(self, tickets: Iterable[Ticket], step: int) -> None:
        """These rows are visible, and nothing was seen before."""
        self._rows = {ticket.id: (ticket.version, step) for ticket in tickets}

    def discard(self, ticket_id: UUID) -> None:
        """The row is not visible."""
        held = self._rows.pop(ticket_id, None)
        if held is not None and self._digest is not None:
            self._digest ^= hash_of(ticket_id, held[0])

    def version(self, ticket_id: UUID) -> int | None:
        """The version seen, or None."""
        held = self._rows.get(ticket_id)
        return None if held is None else held[0]

    def touched(self, ticket_id: UUID) -> int:
        """The step that touched it last."""
        return self._rows[ticket_id][1]

    def matches(self, count: int, digest: int) -> bool:
        """Whether the server sees the same."""
        if self._digest is None:
            self._digest = 0
            for ticket_id, (version, _) in self._rows.items():
                self._digest ^= hash_of(ticket_id, version)
        return count == len(self._rows) and digest == self._digest

    def __len__(self) -> int:
        return len(self._rows)

    def __contains__(self, ticket_id: UUID) -> bool:
        return ticket_id in self._rows

    def __iter__(self) -> Iterator[UUID]:
        return iter(self._rows)
