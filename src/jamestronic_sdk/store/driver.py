"""The only async code below the store's face: carries out the engine's effects, turns results into inputs.

Promises:
    One task feeds the engine. Everything else is a child of that task's group and ends with it.
    What a child can't handle becomes an input; a bug ends the store visibly, never silently.

Never:
    No decision about tickets: those are the engine's. No user code is called.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from typing import TYPE_CHECKING, Final, Protocol, assert_never

from jamestronic_sdk._telemetry import measured_bytes
from jamestronic_sdk.errors import ClientClosedError, JamesTronicError, RequestTimeoutError, StoreError
from jamestronic_sdk.realtime.feed import FeedBroadcast, FeedDown, FeedRow, FeedSignal, FeedUp
from jamestronic_sdk.store.messages import decode, decode_broadcast
from jamestronic_sdk.store.protocol import (
    CancelRead,
    ClearTimer,
    Close,
    CloseFeed,
    Count,
    DigestDone,
    Effect,
    FeedLive,
    FeedLost,
    GapFound,
    Input,
    LookupDone,
    OpenFeed,
    PairsDone,
    Publish,
    ReadDone,
    ReadFailed,
    ReadKind,
    Removal,
    ReportFailure,
    ReportStatus,
    Resolve,
    RowChanged,
    SetTimer,
    Start,
    StartRead,
    StatusChange,
    StoreStatus,
    SyncDone,
    Timer,
    TimerFired,
)

if TYPE_CHECKING:
    import random
    from collections.abc import Callable, Sequence
    from uuid import UUID

    from jamestronic_sdk._clock import Clock
    from jamestronic_sdk._telemetry import StoreTelemetry
    from jamestronic_sdk.models import Ticket
    from jamestronic_sdk.store.engine import Engine
    from jamestronic_sdk.store.events import TicketEvent
    from jamestronic_sdk.store.views import View

__all__ = ["Changes", "Driver", "Listener", "Reader", "RunnableFeed"]

_log = logging.getLogger("jamestronic_sdk.store")

_INPUT_LIMIT: Final = 10_000
"""Rows that may wait for the engine; more means a stalled loop, and a read is cheaper than the backlog."""


@dataclass(frozen=True, slots=True)
class Changes:
    """What ``Reader.read_changes`` answers."""

    is_snapshot: bool
    upserts: tuple[Ticket, ...]
    removed: tuple[Removal, ...]
    cursor: str


class Reader(Protocol):
    """Where the truth is read; raises errors of ``errors.py`` only."""

    async def read_view(self, view: View) -> Sequence[Ticket]:
        """Every row of the view, whole or not at all."""
        ...

    async def read_changes(self, cursor: str | None) -> Changes:
        """What changed for the signed-in person since the cursor; everything without one."""
        ...

    async def read_digest(self) -> tuple[int, int]:
        """Count and XOR over what the signed-in person may see."""
        ...

    async def read_versions(self) -> Sequence[tuple[UUID, int]]:
        """Id and version of every row that the signed-in person may see, whole or not at all."""
        ...

    async def read_ids(self, ticket_ids: Sequence[UUID]) -> Sequence[Ticket]:
        """Those of the rows that the signed-in person may see."""
        ...


class RunnableFeed(Protocol):
    """A supervised feed."""

    async def run(self) -> None:
        """Report until cancelled."""
        ...


class Listener(Protocol):
    """Who is told; every method returns at once and never raises."""

    def on_publish(self, events: tuple[TicketEvent, ...]) -> None:
        """The view changed."""
        ...

    def on_status(self, change: StatusChange) -> None:
        """How much the view can be trusted changed."""
        ...

    def on_resolve(self, token: int, error: JamesTronicError | None) -> None:
        """A refresh was answered."""
        ...

    def on_read_failed(self, error: JamesTronicError) -> None:
        """A read failed; it will be tried again."""
        ...

    def on_count(self, metric: str, amount: int) -> None:
        """Add to a metric."""
        ...

    def on_measured(self, name: str, seconds: float) -> None:
        """Add to a metric of durations."""
        ...


class Driver:
    """Runs one engine.

    Args:
        engine: The rules.
        reader: Where the truth is read.
        make_feed: Makes the feed; given where to report.
        listener: Who is told.
        model: The row's class, for Realtime messages.
        clock: Time.
        rng: Jitter of timers.
        read_timeout: Seconds that one read may take in all; less than the engine's ``tombstone_ttl``.
        telemetry: Spans of reads.
    """

    def __init__(
        self,
        engine: Engine,
        *,
        reader: Reader,
        make_feed: Callable[[Callable[[FeedSignal], None]], RunnableFeed],
        listener: Listener,
        model: type[Ticket],
        clock: Clock,
        rng: random.Random,
        read_timeout: float,
        telemetry: StoreTelemetry,
    ) -> None:
        self._engine: Final = engine
        self._reader: Final = reader
        self._make_feed: Final = make_feed
        self._listener: Final = listener
        self._model: Final = model
        self._clock: Final = clock
        self._rng: Final = rng
        self._read_timeout: Final = read_timeout
        self._telemetry: Final = telemetry
        self._inputs: deque[Input] = deque()
        self._arrived = asyncio.Event()
        self._deadlines: dict[Timer, float] = {}
        self._feed_task: asyncio.Task[None] | None = None
        self._feed_generation = 0
        self._read_task: asyncio.Task[None] | None = None

    def post(self, item: Input) -> None:
        """Give the engine an input; from the loop's thread only."""
        if isinstance(item, RowChanged) and len(self._inputs) >= _INPUT_LIMIT:
            self._inputs = deque(waiting for waiting in self._inputs if not isinstance(waiting, RowChanged))
            item = GapFound()
        self._inputs.append(item)
        self._arrived.set()

    async def run(self) -> None:
        """Run the engine until it is closed.

        Raises:
            Exception: A bug; nothing of the store is left running.
        """
        async with asyncio.TaskGroup() as group:
            self._step(Start(), group)
            while self._engine.status is not StoreStatus.CLOSED:
                await self._wait()
                self._fire_due_timers(group)
                while self._inputs:
                    self._step(self._inputs.popleft(), group)

    async def _wait(self) -> None:
        """Until there is an input, or a timer is due."""
        if self._inputs:
            return
        self._arrived.clear()
        limit = None
        if self._deadlines:
            limit = max(0.0, min(self._deadlines.values()) - self._clock.now())
        await self._clock.wait(self._arrived, limit)

    def _fire_due_timers(self, group: asyncio.TaskGroup) -> None:
        now = self._clock.now()
        for timer in [timer for timer, deadline in self._deadlines.items() if deadline <= now]:
            # An earlier timer's effects may have moved or cleared this one.
            if self._deadlines.get(timer, now + 1) <= now:
                del self._deadlines[timer]
                self._step(TimerFired(timer), group)

    def _step(self, item: Input, group: asyncio.TaskGroup) -> None:
        now = self._clock.now()
        effects = self._engine.handle(item, now)
        self._listener.on_measured("apply", self._clock.now() - now)
        for effect in effects:
            self._perform(effect, group)

    def _perform(self, effect: Effect, group: asyncio.TaskGroup) -> None:  # noqa: C901 - one line per effect
        match effect:
            case Publish(events):
                self._listener.on_publish(events)
            case ReportStatus(change):
                self._listener.on_status(change)
            case ReportFailure(error):
                self._listener.on_read_failed(error)
            case Resolve(token, error):
                self._listener.on_resolve(token, error)
            case Count(metric, amount):
                self._listener.on_count(metric, amount)
            case SetTimer(timer, low, high):
                self._deadlines[timer] = self._clock.now() + self._rng.uniform(low, high)
            case ClearTimer(timer):
                self._deadlines.pop(timer, None)
            case StartRead():
                self._read_task = group.create_task(self._read(effect), name=f"tickets-read-{effect.read_id}")
            case CancelRead():
                _cancel(self._read_task)
            case OpenFeed():
                feed = self._make_feed(partial(self._on_feed, self._feed_generation))
                self._feed_task = group.create_task(feed.run(), name="tickets-feed")
            case CloseFeed():
                self._close_feed()
            case _:
                assert_never(effect)

    def _close_feed(self) -> None:
        """End the feed, and believe nothing of it any more: what it said of its life may be in the queue."""
        _cancel(self._feed_task)
        self._feed_generation += 1
        self._inputs = deque(item for item in self._inputs if not isinstance(item, FeedLive | FeedLost))

    async def _read(self, effect: StartRead) -> None:
        began = self._clock.now()
        try:
            with self._telemetry.reconcile(effect.kind.value) as reconcile, measured_bytes() as traffic:
                async with asyncio.timeout(self._read_timeout):
                    answer = await self._answer(effect)
                reconcile.rows = _rows(answer)
            self._listener.on_count("bytes_in", traffic.received)
            self._listener.on_measured("read", self._clock.now() - began)
            self.post(answer)
        except ClientClosedError as error:
            self.post(ReadFailed(effect.read_id, error))
            self.close()  # what the store is built on is gone for good
        except JamesTronicError as error:
            self.post(ReadFailed(effect.read_id, error))
        except TimeoutError as error:
            failure = RequestTimeoutError(f"A read of tickets took longer than {self._read_timeout:g} s.")
            failure.__cause__ = error
            self.post(ReadFailed(effect.read_id, failure))
        except Exception as error:  # noqa: BLE001 - the supervisor
            # The reader promises typed errors. A bug there must not stop the view, nor pass unseen.
            _log.exception("unexpected error in a read of tickets; it will be repeated")
            failed = StoreError(f"A read of tickets failed unexpectedly: {type(error).__name__}.")
            failed.__cause__ = error
            self.post(ReadFailed(effect.read_id, failed))

    async def _answer(self, effect: StartRead) -> Input:
        match effect.kind:
            case ReadKind.FULL:
                rows = tuple(await self._reader.read_view(self._engine.view))
                return ReadDone(effect.read_id, rows, self._now())
            case ReadKind.SYNC:
                found = await self._reader.read_changes(effect.cursor)
                return SyncDone(
                    effect.read_id, found.is_snapshot, found.upserts, found.removed, found.cursor, self._now()
                )
            case ReadKind.LOOKUP:
                rows = tuple(await self._reader.read_ids(effect.ticket_ids))
                return LookupDone(effect.read_id, rows, self._now())
            case ReadKind.PAIRS:
                pairs = tuple(await self._reader.read_versions())
                return PairsDone(effect.read_id, pairs, self._now())
            case ReadKind.DIGEST:
                count, digest = await self._reader.read_digest()
                return DigestDone(effect.read_id, count, digest)

    def _on_feed(self, generation: int, signal: FeedSignal) -> None:
        if generation != self._feed_generation:
            return
        match signal:
            case FeedUp():
                self.post(FeedLive())
            case FeedDown(reason):
                self.post(FeedLost(reason))
            case FeedRow(message):
                self.post(decode(message.data, self._now(), self._model))
            case FeedBroadcast(message):
                item = decode_broadcast(
                    message.event, message.payload, self._now(), self._model, topic=message.topic
                )
                if item is not None:
                    self.post(item)
            case _:
                assert_never(signal)

    def _now(self) -> datetime:
        return datetime.fromtimestamp(self._clock.wall(), UTC)

    def close(self) -> None:
        """Ask ``run`` to end."""
        self.post(Close())


def _rows(answer: Input) -> int | None:
    """How many rows came, for the span of the read."""
    match answer:
        case ReadDone(tickets=rows) | LookupDone(tickets=rows) | SyncDone(upserts=rows):
            return len(rows)
        case PairsDone(pairs=pairs):
            return len(pairs)
        case _:
            return None


def _cancel(task: asyncio.Task[None] | None) -> None:
    if task is not None:
        task.cancel()
