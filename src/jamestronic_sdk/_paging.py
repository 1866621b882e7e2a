"""Rows that are walked or counted; each request reads only what is asked of it.

Promises:
    Keyset, never offset: a page begins after the last row of the one before, so rows that come or go
    meanwhile neither repeat nor hide others (in the stable orders; see ``TicketOrder``).
"""

from __future__ import annotations

from collections.abc import AsyncIterable, AsyncIterator
from typing import TYPE_CHECKING, Final, Generic, Protocol

from typing_extensions import override

from jamestronic_sdk._inputs import checked_int
from jamestronic_sdk.errors import DataError
from jamestronic_sdk.models import RowT

if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import TypeAlias

    from postgrest import AsyncSelectRequestBuilder

    from jamestronic_sdk._http import Wire

    Narrow: TypeAlias = Callable[[AsyncSelectRequestBuilder], AsyncSelectRequestBuilder]

__all__ = ["RowPages", "RowQuery", "count_rows"]


class _Source(Protocol[RowT]):
    """Where pages come from."""

    async def page(self, after: RowT | None, size: int) -> list[RowT]:
        """At most ``size`` rows that come after one."""
        ...

    async def count(self) -> int:
        """How many there are."""
        ...


class RowPages(AsyncIterator[list[RowT]], Generic[RowT]):
    """Pages of rows, one request each; none is empty."""

    __slots__ = ("_ended", "_last", "_left", "_size", "_source")

    def __init__(self, source: _Source[RowT], *, size: int, limit: int | None) -> None:
        self._source: Final = source
        self._size: Final = size
        self._left = limit
        self._last: RowT | None = None
        self._ended = False

    @override
    async def __anext__(self) -> list[RowT]:
        size = self._size if self._left is None else min(self._size, self._left)
        if self._ended or size == 0:
            raise StopAsyncIteration
        rows = await self._source.page(self._last, size)
        if not rows:
            self._ended = True
            raise StopAsyncIteration
        self._last = rows[-1]
        if self._left is not None:
            self._left -= len(rows)
        return rows


class _Walk(AsyncIterator[RowT], Generic[RowT]):
    """The rows of all pages, one by one."""

    __slots__ = ("_at", "_pages", "_rows")

    def __init__(self, pages: RowPages[RowT]) -> None:
        self._pages: Final = pages
        self._rows: list[RowT] = []
        self._at = 0

    @override
    async def __anext__(self) -> RowT:
        if self._at == len(self._rows):
            self._rows = await anext(self._pages)
            self._at = 0
        row = self._rows[self._at]
        self._at += 1
        return row


class RowQuery(AsyncIterable[RowT], Generic[RowT]):
    """Rows that are read when they are walked or counted, anew each time.

    ::

        async for ticket in jt.tickets.query(technician=me):         # all of them, page by page
            ...
        async for page in jt.tickets.query().pages(size=500):        # lists of at most 500
            ...
        waiting = await jt.tickets.query(status="waiting_parts").count()
        async for note in jt.notes.query(ticket):                    # people and notes likewise
            ...
    """

    __slots__ = ("_limit", "_max_page", "_source")

    def __init__(self, source: _Source[RowT], *, limit: int | None, max_page: int) -> None:
        self._source: Final = source
        self._limit: Final = limit
        self._max_page: Final = max_page

    @override
    def __aiter__(self) -> AsyncIterator[RowT]:
        """All rows, or ``limit`` of them."""
        return _Walk(self.pages())

    def pages(self, size: int | None = None) -> RowPages[RowT]:
        """All rows, or ``limit`` of them, page by page.

        Args:
            size: Rows per request, 1 to 1000; None takes 1000.

        Raises:
            InvalidInputError: ``size`` is out of range.
        """
        rows = self._max_page if size is None else checked_int(size, "size", low=1, high=self._max_page)
        return RowPages(self._source, size=rows, limit=self._limit)

    async def count(self) -> int:
        """How many rows match, whatever ``limit`` says; counted exactly by the database."""
        return await self._source.count()


async def count_rows(wire: Wire, table: str, narrow: Narrow, operation: str) -> int:
    """How many rows of a table match, counted exactly by the database."""
    from postgrest import CountMethod  # noqa: PLC0415 - imports httpx

    from jamestronic_sdk._http import total_of  # noqa: PLC0415

    # Not HEAD: PostgREST 12.0.2 breaks the connection after one, without saying so.
    response = await wire.send(
        lambda raw: narrow(raw.table(table).select("*", count=CountMethod.exact)).limit(1),
        operation=operation,
        target=table,
        replayable=True,
    )
    total = total_of(response)
    if total is None:
        raise DataError(f"{operation}: the server did not count.")
    return total
