"""How tickets are read from the data API: one request, page by page, or a whole table in parts.

Promises:
    A whole read is all or nothing, and a page that the server has cut is never taken for the last one.
"""

from __future__ import annotations

import asyncio
import logging
from functools import partial
from typing import TYPE_CHECKING, Final, Generic, TypedDict
from uuid import UUID  # noqa: TC003 - pydantic reads it at run time

from pydantic import TypeAdapter

from jamestronic_sdk._paging import count_rows
from jamestronic_sdk.errors import JamesTronicError
from jamestronic_sdk.models import LAZY, TicketT

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    import httpx
    from postgrest import AsyncSelectRequestBuilder
    from supabase import AsyncClient

    from jamestronic_sdk._filters import Filters, Order
    from jamestronic_sdk._http import Wire
    from jamestronic_sdk._paging import Narrow

__all__ = ["MAX_PAGE", "ListSource", "TicketReads"]

_log: Final = logging.getLogger("jamestronic_sdk.tickets")

# db-max-rows of hosted projects: PostgREST cuts longer pages silently.
MAX_PAGE: Final = 1000

# A whole read of a large table walks so many parts at once. PostgREST's pool has 10 connections by
# default, and others want some, too.
_PARTS: Final = 4

_ALL: Final = "tickets.fetch_all"


class _Pair(TypedDict):
    id: UUID
    version: int


_PAIRS: Final[TypeAdapter[list[_Pair]]] = TypeAdapter(list[_Pair], config=LAZY)


class TicketReads(Generic[TicketT]):
    """The reads behind ``Tickets``."""

    __slots__ = ("_row", "_rows", "wire")

    def __init__(self, wire: Wire, model: type[TicketT]) -> None:
        self.wire: Final = wire
        self._row: Final[TypeAdapter[TicketT]] = TypeAdapter(model)
        self._rows: Final[TypeAdapter[list[TicketT]]] = TypeAdapter(
            list[model],  # type: ignore[valid-type]  # the class is known at run time only
            config=LAZY,
        )

    def parse_row(self, response: httpx.Response, operation: str) -> TicketT:
        """One validated row."""
        from jamestronic_sdk._http import parse  # noqa: PLC0415 - imports httpx

        return parse(self._row, response, operation)

    def parse_rows(self, response: httpx.Response, operation: str) -> list[TicketT]:
        """Validated rows."""
        from jamestronic_sdk._http import parse  # noqa: PLC0415 - imports httpx

        return parse(self._rows, response, operation, iter)

    async def rows(self, narrow: Narrow, operation: str) -> list[TicketT]:
        """The rows of one request."""
        response = await self.wire.send(
            lambda raw: narrow(raw.table("tickets").select("*")),
            operation=operation,
            target="tickets",
            replayable=True,
        )
        return self.parse_rows(response, operation)

    async def count(self, filters: Filters) -> int:
        """How many rows match, counted exactly."""
        return await count_rows(self.wire, "tickets", filters.apply, "tickets.count")

    async def versions(self) -> list[tuple[UUID, int]]:
        """Id and version of all rows, page by page until one is empty, whatever the server cuts pages at."""
        from jamestronic_sdk._http import parse  # noqa: PLC0415 - imports httpx

        pairs: list[tuple[UUID, int]] = []
        while True:
            after = str(pairs[-1][0]) if pairs else None

            def build(raw: AsyncClient, after: str | None = after) -> AsyncSelectRequestBuilder:
                query = raw.table("tickets").select("id,version").order("id").limit(MAX_PAGE)
                return query if after is None else query.gt("id", after)

            response = await self.wire.send(
                build, operation="tickets.versions", target="tickets", replayable=True
            )
            page = parse(_PAIRS, response, "tickets.versions")
            if not page:
                break
            pairs += [(pair["id"], pair["version"]) for pair in page]
        return pairs

    async def all(self, filters: Filters) -> list[TicketT]:
        """All rows that match, by number."""
        size = MAX_PAGE
        first, total = await self._page(filters, (None, None), size, counted=True)
        if len(first) < size:
            if not first or total is None or total <= len(first):
                return first
            # The server's db-max-rows is lower than Supabase's default. Taking its cut for the end of
            # the table would lose tickets silently.
            _log.warning("the data API cuts pages at %d rows", len(first), extra={"rows": len(first)})
            size = len(first)
        newest = await self.rows(lambda query: filters.apply(query).order("number", desc=True).limit(1), _ALL)
        start = first[-1].number
        span = newest[0].number - start if newest else 0
        parts = max(1, min(_PARTS, -(-span // size)))
        bounds = [start + span * part // parts for part in range(parts)]
        # The last part is open at its end: tickets that are made meanwhile belong to it.
        ends: list[int | None] = [*bounds[1:], None]
        walks = [partial(self._walk, filters, between, size) for between in zip(bounds, ends, strict=True)]
        return first + [row for part in await _together(walks) for row in part]

    async def _walk(
        self, filters: Filters, between: tuple[int | None, int | None], size: int
    ) -> list[TicketT]:
        """All rows of a range of numbers: after the first, up to and with the second."""
        rows: list[TicketT] = []
        after, until = between
        while True:
            page, _ = await self._page(filters, (after, until), size)
            rows += page
            if len(page) < size:
                return rows
            after = page[-1].number

    async def _page(
        self, filters: Filters, between: tuple[int | None, int | None], size: int, *, counted: bool = False
    ) -> tuple[list[TicketT], int | None]:
        """One page by number and, when asked, the server's idea of how many there are."""
        from postgrest import CountMethod  # noqa: PLC0415 - imports httpx

        from jamestronic_sdk._http import total_of  # noqa: PLC0415

        after, until = between

        def build(raw: AsyncClient) -> AsyncSelectRequestBuilder:
            # "estimated" counts exactly up to db-max-rows and asks the planner beyond: cheap, and exact
            # just where a cut page has to be told from a short one.
            query = raw.table("tickets").select("*", count=CountMethod.estimated if counted else None)
            query = filters.apply(query)
            if after is not None:
                query = query.gt("number", after)
            if until is not None:
                query = query.lte("number", until)
            return query.order("number").limit(size)

        response = await self.wire.send(build, operation=_ALL, target="tickets", replayable=True)
        return self.parse_rows(response, _ALL), total_of(response)


class ListSource(Generic[TicketT]):
    """Where the pages of one ``list`` come from."""

    __slots__ = ("_filters", "_order", "_reads")

    def __init__(self, reads: TicketReads[TicketT], filters: Filters, order: Order) -> None:
        self._reads: Final = reads
        self._filters: Final = filters
        self._order: Final = order

    async def page(self, after: TicketT | None, size: int) -> list[TicketT]:
        """At most ``size`` rows that come after one."""
        if self._filters.is_empty_set:
            return []
        return await self._reads.rows(
            lambda query: self._order.apply(self._filters.apply(query), after).limit(size), "tickets.list"
        )

    async def count(self) -> int:
        """How many there are."""
        return 0 if self._filters.is_empty_set else await self._reads.count(self._filters)


async def _together(calls: Sequence[Callable[[], Awaitable[list[TicketT]]]]) -> list[list[TicketT]]:
    """Run reads at once; the first failure ends the others and comes out alone, not in a group."""

    async def run(call: Callable[[], Awaitable[list[TicketT]]]) -> list[TicketT]:
        return await call()

    failure: JamesTronicError | None = None
    tasks: list[asyncio.Task[list[TicketT]]] = []
    try:
        async with asyncio.TaskGroup() as group:
            tasks += [group.create_task(run(call), name=_ALL) for call in calls]
    except* JamesTronicError as failures:
        failure = next(one for one in _flat(failures))
    if failure is not None:
        raise failure
    return [task.result() for task in tasks]


def _flat(group: BaseExceptionGroup[JamesTronicError]) -> list[JamesTronicError]:
    found: list[JamesTronicError] = []
    for one in group.exceptions:
        found += _flat(one) if isinstance(one, BaseExceptionGroup) else [one]
    return found
