"""What readers of a store iterate: bounded, one per reader, never in the way of the store.

Promises:
    Putting never waits and never fails. A slow reader loses no state: its events are merged per ticket
    (``coalesce.py``), so that memory is bounded by the number of tickets, and ``merged`` says so.
    Cancelling a wait loses nothing.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Generic, Self, TypeVar

from typing_extensions import override

from jamestronic_sdk.store.coalesce import coalesce

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType
    from uuid import UUID

    from jamestronic_sdk._clock import Clock
    from jamestronic_sdk.errors import JamesTronicError
    from jamestronic_sdk.store.board import TicketBoard
    from jamestronic_sdk.store.events import TicketEvent
    from jamestronic_sdk.store.protocol import Freshness, StoreStatus
    from jamestronic_sdk.store.views import View

__all__ = ["ChangeStream", "EventStream", "StoreChange", "Stream"]

_log = logging.getLogger("jamestronic_sdk.store")
_T = TypeVar("_T")


class Stream(Generic[_T]):
    """An async iterator with one reader; keeps the newest ``limit`` items.

    Use it as a context manager, or call ``aclose``, when you stop before the store is closed.
    """

    def __init__(self, limit: int) -> None:
        self._limit: Final = limit
        self._items: deque[_T] = deque()
        self._arrived = asyncio.Event()
        self._is_closed = False
        self._error: JamesTronicError | None = None

    def put(self, item: _T) -> None:
        """Add an item; called by the store."""
        if self._is_closed:
            return
        self._store(item)
        self._arrived.set()

    def end(self, error: JamesTronicError | None = None) -> None:
        """No more items; the reader's next step ends the iteration, or raises ``error``."""
        if not self._is_closed:
            self._is_closed, self._error = True, error
            self._clear()
            self._arrived.set()

    @property
    def is_closed(self) -> bool:
        """Whether the iteration is over."""
        return self._is_closed

    def _store(self, item: _T) -> None:
        if len(self._items) >= self._limit:
            self._items.popleft()
        self._items.append(item)

    def _take(self) -> _T | None:
        return self._items.popleft() if self._items else None

    def _clear(self) -> None:
        self._items.clear()

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> _T:
        while True:
            item = self._take()
            if item is not None:
                return item
            if self._is_closed:
                if self._error is not None:
                    raise self._error
                raise StopAsyncIteration
            self._arrived.clear()
            await self._arrived.wait()

    async def aclose(self) -> None:
        """Stop listening; idempotent."""
        self.end()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.aclose()


class EventStream(Stream["TicketEvent"]):
    """The events of a store, for one reader.

    Up to ``limit`` events wait as they are. Beyond that, until the reader has caught up, the events of
    one ticket are merged; ``merged`` counts those that were.
    """

    def __init__(self, limit: int, view: View) -> None:
        super().__init__(limit)
        self._view: Final = view
        self._by_ticket: dict[UUID, list[TicketEvent]] = {}
        self.merged: int = 0
        """How many events were merged into others because the reader was slow."""

    @override
    def _store(self, item: TicketEvent) -> None:
        if not self._by_ticket and len(self._items) < self._limit:
            self._items.append(item)
            return
        if not self._by_ticket:
            _log.warning("a reader of ticket events is slow: %s wait; merging per ticket", len(self._items))
            for waiting in self._items:
                self._merge(waiting)
            self._items.clear()
        self._merge(item)

    @property
    def waiting(self) -> int:
        """How many events wait for the reader."""
        return len(self._items) + sum(len(events) for events in self._by_ticket.values())

    def take_all(self) -> tuple[TicketEvent, ...]:
        """What waits, without waiting."""
        taken: list[TicketEvent] = []
        while (event := self._take()) is not None:
            taken.append(event)
        return tuple(taken)

    def _merge(self, event: TicketEvent) -> None:
        before = self._by_ticket.pop(event.ticket.id, [])
        after = coalesce(before, event, self._view)
        self.merged += len(before) + 1 - len(after)
        if after:
            self._by_ticket[event.ticket.id] = after

    @override
    def _take(self) -> TicketEvent | None:
        if self._items:
            return self._items.popleft()
        if not self._by_ticket:
            return None
        ticket_id, waiting = next(iter(self._by_ticket.items()))
        event = waiting.pop(0)
        if not waiting:
            del self._by_ticket[ticket_id]
        return event

    @override
    def _clear(self) -> None:
        super()._clear()
        self._by_ticket.clear()


@dataclass(frozen=True, slots=True)
class StoreChange:
    """All that a user interface draws, and what happened since it drew last."""

    tickets: TicketBoard
    """As they are now, own writes under way included."""
    events: tuple[TicketEvent, ...]
    """Since the item before, in order, merged per ticket where the reader was slow; empty when only the
    status or an own write changed what is shown."""
    status: StoreStatus
    reason: str | None
    """Why it is not live."""
    freshness: Freshness
    is_loading: bool
    """Whether what a person waits for is being read."""
    pending: frozenset[UUID]
    """The tickets with an own write under way."""


class ChangeStream(Stream[StoreChange]):
    """The whole picture each time that there is something to redraw, for one reader; the first item at once.

    However much happens while the reader draws, one item waits: the newest picture with all events.

    Args:
        picture: Makes the item of this moment from the events that wait.
        events: Where they wait.
        clock: Time.
        interval: Seconds between items, at least.
    """

    def __init__(
        self,
        picture: Callable[[tuple[TicketEvent, ...]], StoreChange],
        events: EventStream,
        clock: Clock,
        interval: float,
    ) -> None:
        super().__init__(1)
        self._picture: Final = picture
        self._events: Final = events
        self._clock: Final = clock
        self._interval: Final = interval
        self._not_before = clock.now()
        self._is_due = True
        self._is_over = asyncio.Event()

    def add(self, events: tuple[TicketEvent, ...]) -> None:
        """There is something to redraw; called by the store."""
        for event in events:
            self._events.put(event)
        self._is_due = True
        self._arrived.set()

    @override
    def _take(self) -> StoreChange | None:
        if self._is_closed or not self._is_due:
            return None
        self._is_due = False
        self._not_before = self._clock.now() + self._interval
        return self._picture(self._events.take_all())

    @override
    async def __anext__(self) -> StoreChange:
        wait = self._not_before - self._clock.now()
        if wait > 0:
            await self._clock.wait(self._is_over, wait)
        return await super().__anext__()

    @override
    def _clear(self) -> None:
        self._events.end()
        self._is_over.set()
