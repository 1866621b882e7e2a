"""What changed since I last asked: ``sync_tickets`` and ``tickets_digest`` of ``060_sync.sql``."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Final, Generic, Literal
from uuid import UUID

from pydantic import BaseModel, ConfigDict, TypeAdapter

from jamestronic_sdk._filters import Filters
from jamestronic_sdk.errors import DataError
from jamestronic_sdk.models import TicketT

if TYPE_CHECKING:
    import httpx

    from jamestronic_sdk._http import Wire
    from jamestronic_sdk._ticket_reads import TicketReads

__all__ = ["RemovedTicket", "TicketChanges", "TicketDigest", "TicketLog"]

_PAGE: Final = 1000
"""Tickets per request; the most that ``sync_tickets`` answers."""
_RESETS: Final = 2
"""Times that a read begins anew; a cursor that was just given and is refused again is the server's fault."""


class _Frozen(BaseModel):
    model_config: ClassVar[ConfigDict] = ConfigDict(frozen=True)


class RemovedTicket(_Frozen):
    """A ticket that you could see and no longer can."""

    id: UUID
    version: int
    """Of the last change that concerned you: what you hold with a lower version is older."""
    deleted: bool
    """Whether it is gone for everybody."""


class TicketDigest(_Frozen):
    """Count, and XOR of the first 64 bits of MD5(``id:version``), over the tickets that you may see."""

    count: int
    digest: str
    """16 hexadecimal digits."""


class TicketChanges(_Frozen, Generic[TicketT]):
    """What changed for you since a cursor, as of one moment; or everything that you may see."""

    kind: Literal["snapshot", "delta"]
    """``snapshot``: ``upserts`` is all that you may see, whatever you held before is obsolete."""
    upserts: tuple[TicketT, ...]
    """The tickets that changed, or became visible, as they are."""
    removed: tuple[RemovedTicket, ...]
    cursor: str
    """For the next call; opaque, and good for about a week."""


class _Page(_Frozen, Generic[TicketT]):
    kind: Literal["snapshot", "delta", "reset"]
    upserts: tuple[TicketT, ...] = ()
    removed: tuple[RemovedTicket, ...] = ()
    more: bool = False
    cursor: str | None = None
    base: str | None = None


_DIGEST: Final = TypeAdapter(TicketDigest)


class TicketLog(Generic[TicketT]):
    """The change log, on behalf of who is signed in."""

    __slots__ = ("_page", "_reads", "_wire")

    def __init__(self, wire: Wire, reads: TicketReads[TicketT], model: type[TicketT]) -> None:
        self._wire: Final = wire
        self._reads: Final = reads
        self._page: Final[TypeAdapter[_Page[TicketT]]] = TypeAdapter(
            _Page[model]  # type: ignore[valid-type]  # the class is known at run time only
        )

    async def changes(self, cursor: str | None) -> TicketChanges[TicketT]:
        """All pages since the cursor; a cursor that is refused gives a snapshot."""
        from jamestronic_sdk._http import parse  # noqa: PLC0415 - imports httpx

        operation = "tickets.changes"
        upserts: list[TicketT] = []
        removed: list[RemovedTicket] = []
        position, resets = cursor, 0
        while True:
            response = await self._call("sync_tickets", {"cursor": position, "page": _PAGE}, operation)
            page = parse(self._page, response, operation)
            if page.kind == "reset" or page.cursor is None:
                resets += 1
                if resets > _RESETS:
                    raise DataError(f"{operation}: the server refuses its own cursors.")
                position = None
                upserts.clear()
                removed.clear()
                continue
            if position is None and page.more and page.base is not None:
                return await self._large_snapshot(page.base)
            upserts += page.upserts
            removed += page.removed
            position = page.cursor
            if not page.more:
                return TicketChanges[TicketT](
                    kind=page.kind, upserts=tuple(upserts), removed=tuple(removed), cursor=position
                )

    async def _large_snapshot(self, base: str) -> TicketChanges[TicketT]:
        """Everything that I may see, read in several parts at once.

        The parts are of different moments, but what changed since ``base`` comes afterwards; with that, the
        whole is as of one moment again.
        """
        rows = await self._reads.all(Filters({}))
        since = await self.changes(base)
        if since.kind == "snapshot":
            return since
        if since.upserts or since.removed:
            outdated = {row.id for row in since.upserts} | {gone.id for gone in since.removed}
            rows = [row for row in rows if row.id not in outdated] + list(since.upserts)
        # Validated already, row by row.
        return TicketChanges[TicketT].model_construct(
            kind="snapshot", upserts=tuple(rows), removed=(), cursor=since.cursor
        )

    async def digest(self) -> TicketDigest:
        """Count and XOR, now."""
        from jamestronic_sdk._http import parse  # noqa: PLC0415 - imports httpx

        operation = "tickets.digest"
        return parse(_DIGEST, await self._call("tickets_digest", {}, operation), operation)

    async def _call(self, function: str, arguments: dict[str, object], operation: str) -> httpx.Response:
        return await self._wire.send(
            lambda raw: raw.rpc(function, arguments), operation=operation, target=function, replayable=True
        )
