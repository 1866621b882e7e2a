"""Iterators of the blocking face: each step waits on the client's loop."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Final, Generic, Self, TypeVar

from typing_extensions import override

from jamestronic_sdk._auth_changes import AuthChange
from jamestronic_sdk.errors import ClientClosedError
from jamestronic_sdk.models import RowT
from jamestronic_sdk.store.events import TicketEvent
from jamestronic_sdk.store.streams import StoreChange

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from types import TracebackType

    from jamestronic_sdk import _auth_changes, _paging
    from jamestronic_sdk.blocking._portal import Portal
    from jamestronic_sdk.store import streams

__all__ = ["AuthChanges", "ChangeStream", "EventStream", "RowPages", "RowQuery", "Stream"]

_T = TypeVar("_T")


async def _next(source: AsyncIterator[_T]) -> tuple[_T] | None:
    """The next item in a box; None at the end, because StopAsyncIteration belongs to the loop."""
    try:
        return (await anext(source),)
    except StopAsyncIteration:
        return None


def _step(portal: Portal, source: AsyncIterator[_T]) -> _T:
    box = portal.run(lambda: _next(source))
    if box is None:
        raise StopIteration
    return box[0]


class RowPages(Iterator[list[RowT]], Generic[RowT]):
    """Pages of rows, one request each; none is empty."""

    __slots__ = ("_face", "_portal")

    def __init__(self, face: _paging.RowPages[RowT], portal: Portal) -> None:
        self._face: Final = face
        self._portal: Final = portal

    @override
    def __next__(self) -> list[RowT]:
        return _step(self._portal, self._face)


class RowQuery(Iterable[RowT], Generic[RowT]):
    """Rows that are read when they are walked or counted, anew each time.

    ::

        for ticket in jt.tickets.query(technician=me):         # all of them, page by page
            ...
        for page in jt.tickets.query().pages(size=500):        # lists of at most 500
            ...
        waiting = jt.tickets.query(status="waiting_parts").count()
        for note in jt.notes.query(ticket):                    # people and notes likewise
            ...
    """

    __slots__ = ("_face", "_portal")

    def __init__(self, face: _paging.RowQuery[RowT], portal: Portal) -> None:
        self._face: Final = face
        self._portal: Final = portal

    @override
    def __iter__(self) -> Iterator[RowT]:
        """All rows, or ``limit`` of them."""
        # By pages: a step to the loop and back for each row would cost more than the row.
        for page in self.pages():
            yield from page

    def pages(self, size: int | None = None) -> RowPages[RowT]:
        """All rows, or ``limit`` of them, page by page.

        Args:
            size: Rows per request, 1 to 1000; None takes 1000.

        Raises:
            InvalidInputError: ``size`` is out of range.
        """
        return RowPages(self._face.pages(size), self._portal)

    def count(self) -> int:
        """How many rows match, whatever ``limit`` says; counted exactly by the database."""
        return self._portal.run(self._face.count)


class AuthChanges(Iterator[AuthChange]):
    """A stream of changes; use it with ``with``, or call ``close``, also from another thread.

    A reader that does not keep up loses the oldest changes (64 are kept) and never the last one.
    """

    def __init__(self, face: _auth_changes.AuthChanges, portal: Portal) -> None:
        self._face: Final = face
        self._portal: Final = portal

    @override
    def __next__(self) -> AuthChange:
        """The next change; waits for it."""
        return _step(self._portal, self._face)

    def __enter__(self) -> Self:
        """Nothing to do: it listens from the moment it was made."""
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """End the stream: what is queued may still be read, then it stops. Idempotent."""
        self._portal.read(self._face.end)


class Stream(Iterator[_T], Generic[_T]):
    """An iterator with one reader; keeps the newest items.

    Use it with ``with``, or call ``close``, when you stop before the store is closed; another thread may
    do that, too: then the iteration ends.
    """

    def __init__(self, face: streams.Stream[_T], portal: Portal) -> None:
        self._face: Final = face
        self._portal: Final = portal

    @property
    def is_closed(self) -> bool:
        """Whether the iteration is over."""
        return self._face.is_closed

    @override
    def __next__(self) -> _T:
        """The next item; waits for it."""
        try:
            return _step(self._portal, self._face)
        except ClientClosedError:
            # The store went with the client, between two steps or in the middle of one.
            raise StopIteration from None

    def __enter__(self) -> Self:
        """Nothing to do: it listens from the moment it was made."""
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Stop listening; idempotent."""
        self._portal.read(self._face.end)


class EventStream(Stream[TicketEvent]):
    """The events of a store, for one reader.

    Up to ``limit`` events wait as they are. Beyond that, until the reader has caught up, the events of
    one ticket are merged; ``merged`` counts those that were.
    """

    def __init__(self, face: streams.EventStream, portal: Portal) -> None:
        super().__init__(face, portal)
        self._events: Final = face

    @property
    def merged(self) -> int:
        """How many events were merged into others because the reader was slow."""
        return self._events.merged

    @property
    def waiting(self) -> int:
        """How many events wait for the reader."""
        return self._portal.read(lambda: self._events.waiting)


class ChangeStream(Stream[StoreChange]):
    """The whole picture each time that there is something to redraw, for one reader; the first item at once.

    However much happens while the reader draws, one item waits: the newest picture with all events.
    """
