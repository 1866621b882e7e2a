"""Everybody who is told by a store: event streams, status streams, waiting refreshes, metrics.

Promises:
    Telling returns at once and never raises, however many listen and however slow they are.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final
from weakref import WeakSet

from jamestronic_sdk.errors import Retry
from jamestronic_sdk.store.metrics import StoreMetrics
from jamestronic_sdk.store.protocol import StoreStatus
from jamestronic_sdk.store.streams import ChangeStream, EventStream, Stream

if TYPE_CHECKING:
    from collections.abc import Callable

    from jamestronic_sdk._clock import Clock
    from jamestronic_sdk._telemetry import StoreTelemetry
    from jamestronic_sdk.errors import JamesTronicError
    from jamestronic_sdk.store.events import TicketEvent
    from jamestronic_sdk.store.protocol import StatusChange
    from jamestronic_sdk.store.streams import StoreChange
    from jamestronic_sdk.store.views import View

__all__ = ["EVENT_LIMIT", "Audience"]

EVENT_LIMIT: Final = 1024
"""Events that may wait for one reader before they are merged per ticket."""

_STATUS_LIMIT: Final = 64
"""Status changes that may wait for one reader; the oldest are dropped, the newest is what counts."""


class Audience:
    """What the driver tells (``driver.Listener``), spread to whoever listens."""

    def __init__(self, view: View, clock: Clock, telemetry: StoreTelemetry) -> None:
        self._metrics: Final = StoreMetrics()
        self._clock: Final = clock
        self._telemetry: Final = telemetry
        self._not_live_since: float | None = None
        self.last_error: JamesTronicError | None = None
        """Of the newest failed read."""
        self.fatal_error: JamesTronicError | None = None
        """Of a read that can't succeed by repeating."""
        self.changed: Final = asyncio.Event()
        """Set with every change of tickets or status; who waits clears it."""
        self._view: Final = view
        # Weak: who breaks out of an iteration closes nothing, and nobody will ever read it again.
        self._event_streams: WeakSet[EventStream] = WeakSet()
        self._status_streams: WeakSet[Stream[StatusChange]] = WeakSet()
        self._change_streams: WeakSet[ChangeStream] = WeakSet()
        self._refreshes: dict[int, asyncio.Future[None]] = {}
        self._next_token = 1

    @property
    def metrics(self) -> StoreMetrics:
        """Counts and durations, as of now."""
        self._metrics.queue_depth = sum(stream.waiting for stream in self._event_streams)
        return self._metrics

    # --- joining -----------------------------------------------------------------------------------

    def add_event_stream(self, limit: int) -> EventStream:
        """A new reader of events."""
        stream = EventStream(limit, self._view)
        self._event_streams.add(stream)
        return stream

    def add_status_stream(self) -> Stream[StatusChange]:
        """A new reader of status changes."""
        stream: Stream[StatusChange] = Stream(_STATUS_LIMIT)
        self._status_streams.add(stream)
        return stream

    def add_change_stream(
        self, picture: Callable[[tuple[TicketEvent, ...]], StoreChange], interval: float
    ) -> ChangeStream:
        """A new reader of what to redraw."""
        stream = ChangeStream(picture, EventStream(EVENT_LIMIT, self._view), self._clock, interval)
        self._change_streams.add(stream)
        return stream

    def expect_refresh(self) -> tuple[int, asyncio.Future[None]]:
        """A token for ``RefreshAsked``, and what is done when it is answered."""
        token, self._next_token = self._next_token, self._next_token + 1
        answer: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._refreshes[token] = answer
        return token, answer

    def forget_refresh(self, token: int) -> None:
        """Nobody waits for this answer any more."""
        self._refreshes.pop(token, None)

    # --- telling: driver.Listener ------------------------------------------------------------------

    def on_publish(self, events: tuple[TicketEvent, ...]) -> None:
        """The view changed."""
        for event in events:
            self._metrics.record(event)
            self._telemetry.event(type(event).__name__, event.source, event.latency)
            for stream in self._event_streams:
                stream.put(event)
        for changes in self._change_streams:
            changes.add(events)
        self.changed.set()

    def on_status(self, change: StatusChange) -> None:
        """How much the view can be trusted changed."""
        if change.status is StoreStatus.LIVE:
            if self._not_live_since is not None:
                self.on_measured("time_to_live", self._clock.now() - self._not_live_since)
            self._not_live_since = None
        elif self._not_live_since is None:
            self._not_live_since = self._clock.now()
        for stream in self._status_streams:
            stream.put(change)
        for changes in self._change_streams:
            changes.add(())
        self.changed.set()

    def on_resolve(self, token: int, error: JamesTronicError | None) -> None:
        """A refresh was answered."""
        answer = self._refreshes.get(token)
        if answer is None or answer.done():
            return
        if error is None:
            answer.set_result(None)
        else:
            answer.set_exception(error)

    def on_read_failed(self, error: JamesTronicError) -> None:
        """A read failed."""
        self.last_error = error
        if error.retry is Retry.NEVER:
            self.fatal_error = error
        self.changed.set()

    def on_count(self, metric: str, amount: int) -> None:
        """Add to a metric."""
        self._metrics.counts[metric] += amount
        self._telemetry.count(metric, amount)
        if metric == "gaps":
            # A feed that is live again may be live in another way: ``store.transport`` is looked at, too.
            self.changed.set()

    def on_measured(self, name: str, seconds: float) -> None:
        """Add to a metric of durations."""
        self._metrics.measure(name, seconds)

    def end(self, error: JamesTronicError | None, unanswered: JamesTronicError) -> None:
        """The store is over: iterations end (or raise ``error``), waiting refreshes raise."""
        for events in self._event_streams:
            events.end(error)
        for statuses in self._status_streams:
            statuses.end(error)
        for changes in self._change_streams:
            changes.end(error)
        for answer in self._refreshes.values():
            if not answer.done():
                answer.set_exception(error or unanswered)
        self.changed.set()
