"""TicketStore: a live view of tickets, right at all times.

Promises:
    Entering waits for the first complete state; from then on ``tickets`` is always a state that the
    database had for this viewer, and every transition is told once to every reader.
    After ``aclose`` (or the end of ``async with``) no callback runs and no task, timer or socket is left.

Never:
    A callback or a slow reader never stops or delays the store.
"""

from __future__ import annotations

import asyncio
import contextlib
import inspect
import logging
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final, Protocol, Self

from typing_extensions import override

from jamestronic_sdk._inputs import (
    checked_callable,
    checked_flag,
    checked_int,
    checked_seconds,
    checked_wait,
    ticket_id,
)
from jamestronic_sdk._telemetry import StoreTelemetry
from jamestronic_sdk.errors import (
    JamesTronicError,
    RequestTimeoutError,
    StoreClosedError,
    StoreError,
)
from jamestronic_sdk.store.audience import EVENT_LIMIT, Audience
from jamestronic_sdk.store.board import TicketBoard
from jamestronic_sdk.store.commands import StoreCommands
from jamestronic_sdk.store.driver import Driver
from jamestronic_sdk.store.engine import Engine
from jamestronic_sdk.store.events import Source, TicketAssigned, TicketCreated, TicketEvent
from jamestronic_sdk.store.protocol import Background, Close, Foreground, RefreshAsked, StoreStatus, Woke
from jamestronic_sdk.store.streams import StoreChange

if TYPE_CHECKING:
    import random
    from collections.abc import Awaitable, Callable
    from types import TracebackType
    from uuid import UUID

    from jamestronic_sdk._clock import Clock
    from jamestronic_sdk.models import Ticket
    from jamestronic_sdk.realtime.channels import Transport
    from jamestronic_sdk.realtime.feed import FeedSignal
    from jamestronic_sdk.store.driver import Reader, RunnableFeed
    from jamestronic_sdk.store.metrics import StoreMetrics
    from jamestronic_sdk.store.protocol import EngineConfig, Freshness, Input, StatusChange
    from jamestronic_sdk.store.streams import ChangeStream, EventStream, Stream
    from jamestronic_sdk.store.views import View
    from jamestronic_sdk.tickets import TicketRef, Tickets

__all__ = ["EventCallback", "StoreParts", "Subscription", "TicketStore"]

_log = logging.getLogger("jamestronic_sdk.store")

_ABSORB_TIMEOUT: Final = 5.0
"""Seconds that a command waits for the store to know its result. Only a ticket in doubt takes longer than a
turn of the loop, and the command's answer is not worth more waiting."""


@dataclass(frozen=True, slots=True)
class StoreParts:
    """What a store is built on; ``JamesTronic.ticket_store`` fills it in, tests give their own."""

    reader: Reader
    tickets: Tickets[Any]
    """The commands."""
    make_feed: Callable[[Callable[[FeedSignal], None]], RunnableFeed]
    on_token: Callable[[Callable[[str | None], None]], Callable[[], None]]
    """Calls back with each new access token, and with None when the person goes; answers how to stop that."""
    on_wake: Callable[[Callable[[], None]], Callable[[], None]]
    """Calls back after the machine slept; answers how to stop that."""
    model: type[Ticket]
    clock: Clock
    rng: random.Random
    transport: Callable[[], Transport | None] = lambda: None
    """What is live now."""


class EventCallback(Protocol):
    """A function or coroutine function that takes an event."""

    def __call__(self, event: TicketEvent, /) -> Awaitable[object] | object:
        """Take one event."""
        ...


class Subscription:
    """A callback's tie to a store.

    Use it as you like: the store ends it when it closes.
    """

    def __init__(self, stream: EventStream) -> None:
        self._stream = stream
        self.failures: int = 0
        """How often the callback raised; each time was logged, and none ended the subscription."""

    @property
    def is_active(self) -> bool:
        """Whether the callback is still called."""
        return not self._stream.is_closed

    def cancel(self) -> None:
        """Call it no more; a call that runs is let finish. Idempotent."""
        self._stream.end()


class TicketStore:
    """A live view of tickets; made by ``JamesTronic.ticket_store``, entered with ``async with``.

    Args:
        view: Which tickets, and from whose eyes.
        parts: What it is built on.
        config: Delays and bounds.
        ready_timeout: Seconds that entering waits for the first complete state; None waits for ever.
        read_timeout: Seconds for one read of the view, all pages together.
    """

    def __init__(
        self,
        view: View,
        parts: StoreParts,
        *,
        config: EngineConfig,
        ready_timeout: float | None,
        read_timeout: float,
    ) -> None:
        self.view: Final = view
        telemetry = StoreTelemetry(view.kind.value, parts.clock)
        self._audience: Final = Audience(view, parts.clock, telemetry)
        self._parts: Final = parts
        self._ready_timeout: Final = ready_timeout
        self._engine: Final = Engine(view, config)
        self._driver: Final = Driver(
            self._engine,
            reader=parts.reader,
            make_feed=parts.make_feed,
            listener=self._audience,
            model=parts.model,
            clock=parts.clock,
            rng=parts.rng,
            read_timeout=read_timeout,
            telemetry=telemetry,
        )
        self._group: asyncio.TaskGroup | None = None
        self._is_entered = False
        self._tasks: set[asyncio.Task[None]] = set()
        self._ended = asyncio.Event()
        self._failure: StoreError | None = None
        self._board = TicketBoard()
        self._commands: Final = StoreCommands(
            _Writable(self, self._driver, parts.clock, self._require_open), parts.tickets
        )

    @override
    def __repr__(self) -> str:
        kind, rows = self.view.kind.value, len(self._engine.tickets)
        return f"<TicketStore {kind}: {self.status.value}, {rows} tickets>"

    # --- reading -----------------------------------------------------------------------------------

    @property
    def metrics(self) -> StoreMetrics:
        """Counts and latencies since the store was entered."""
        return self._audience.metrics

    @property
    def commands(self) -> StoreCommands:
        """The commands of ``jt.tickets``, shown in ``tickets`` at once while they are under way."""
        return self._commands

    @property
    def tickets(self) -> TicketBoard:
        """The tickets in the view, as an immutable picture of this moment; cheap while nothing changes.

        Own writes under way (``commands``) are shown as if they had succeeded; ``pending`` names them.
        """
        if self._board.revision != self._engine.revision:
            self._board = TicketBoard(self._engine.tickets.values(), self._engine.revision)
        return self._board

    @property
    def pending(self) -> frozenset[UUID]:
        """The tickets with an own write under way."""
        return self._engine.pending

    @property
    def is_loading(self) -> bool:
        """Whether what a person waits for is being read: the first state, a refresh, or all that was missed.

        False while a failed read waits for its repetition: then ``freshness`` says why the view is old.
        """
        return self._engine.is_loading

    @property
    def status(self) -> StoreStatus:
        """How the store learns of changes: connecting, live, polling, paused or closed."""
        return self._engine.status

    @property
    def status_reason(self) -> str | None:
        """Why it is not live; None while it is."""
        return self._engine.reason

    @property
    def reads_change_log(self) -> bool:
        """Whether reads ask the database what changed, which costs the same however many tickets there are.

        False when the database lacks ``060_sync.sql``, or the view is not that of the signed-in role: then
        each read is a whole one, and a ticket that went to somebody else is noticed by its absence.
        """
        return self._engine.can_sync

    @property
    def transport(self) -> Transport | None:
        """What tells of changes now: ``broadcast`` or ``postgres_changes``; None while nothing is live."""
        return self._parts.transport()

    @property
    def freshness(self) -> Freshness:
        """Whether the view is ``live``, ``polling`` or ``stale``, its age in seconds, and why."""
        return self._engine.freshness(self._parts.clock.now())

    def events(self, *, initial: bool = False, limit: int = EVENT_LIMIT) -> EventStream:
        """What happens from now on, as an async iterator of its own.

        Args:
            initial: Begin with one event per ticket that is there already, marked ``initial``.
            limit: Events that may wait before those of one ticket are merged.

        Raises:
            StoreClosedError: The store is closed.
        """
        self._require_open()
        checked_flag(initial, "initial")
        stream = self._audience.add_event_stream(checked_int(limit, "limit", low=1, high=2**63 - 1))
        if initial:
            for event in self._initial_events():
                stream.put(event)
        return stream

    def statuses(self) -> Stream[StatusChange]:
        """Status, freshness and loading now, and whenever one of them changes, as an async iterator.

        Raises:
            StoreClosedError: The store is closed.
        """
        self._require_open()
        stream = self._audience.add_status_stream()
        stream.put(self._engine.status_change(self._parts.clock.now()))
        return stream

    def changes(self, *, interval: float = 0.0) -> ChangeStream:
        """What to draw, now and whenever there is something to redraw, as an async iterator.

        An item is the whole picture of its moment, with all that happened since the one before. While the
        reader draws, changes are gathered: there is never more than one item behind. ::

            async for change in store.changes(interval=0.05):
                draw(change.tickets, change.freshness, is_busy=change.is_loading)

        Args:
            interval: Seconds between items, at least; 0.05 is twenty redraws per second.

        Raises:
            InvalidInputError: ``interval`` is negative.
            StoreClosedError: The store is closed.
        """
        pause = checked_seconds(interval, "interval")
        self._require_open()
        return self._audience.add_change_stream(self._picture, pause)

    def subscribe(self, callback: EventCallback, *, initial: bool = False) -> Subscription:
        """Call a function, or a coroutine function, with every event from now on.

        Calls come one at a time, in order. A callback that raises is logged and counted, and called
        again for the next event; a slow one delays only itself.

        Args:
            callback: Takes the event.
            initial: Begin with one event per ticket that is there already.

        Raises:
            StoreClosedError: The store is closed, or was not entered.
        """
        checked_callable(callback, "callback")
        stream = self.events(initial=initial)
        subscription = Subscription(stream)
        self._spawn(self._call_for_each(stream, callback, subscription), "tickets-subscriber")
        return subscription

    async def wait_for(
        self,
        predicate: Callable[[TicketStore], bool],
        *,
        timeout: float | None = 30.0,  # noqa: ASYNC109 - public
    ) -> None:
        """Wait until the predicate holds; it is tried now and after every change of tickets or status.

        Args:
            predicate: Looks at the store.
            timeout: Seconds; None waits for ever.

        Raises:
            RequestTimeoutError: It did not hold in time; the store goes on.
            StoreClosedError: The store was closed meanwhile.
        """
        checked_callable(predicate, "predicate")
        limit = asyncio.timeout(checked_wait(timeout, "timeout"))
        try:
            async with limit:
                while not predicate(self):
                    self._require_open()
                    self._audience.changed.clear()
                    await self._audience.changed.wait()
        except TimeoutError as error:
            if timeout is None or not limit.expired():
                raise  # the predicate's own
            raise RequestTimeoutError(
                f"The store did not reach the awaited state in {timeout:g} s; it is {self.status.value}."
            ) from error

    async def refresh(self, *, timeout: float | None = 30.0) -> None:  # noqa: ASYNC109 - public
        """Read the view now; when this returns, everything committed before the call is in ``tickets``.

        Args:
            timeout: Seconds; None waits for ever.

        Raises:
            JamesTronicError: The read failed; the view is as it was, and the store goes on by itself.
            RequestTimeoutError: No answer in time; the read goes on.
            StoreClosedError: The store is closed.
        """
        self._require_open()
        checked_wait(timeout, "timeout")
        token, answer = self._audience.expect_refresh()
        self._driver.post(RefreshAsked(token))
        try:
            async with asyncio.timeout(timeout):
                await answer
        except TimeoutError as error:
            if isinstance(error, JamesTronicError):
                raise
            raise RequestTimeoutError(f"The refresh took longer than {timeout:g} s; it goes on.") from error
        finally:
            self._audience.forget_refresh(token)

    async def settled(
        self,
        ticket: TicketRef,
        version: int,
        *,
        timeout: float | None = 30.0,  # noqa: ASYNC109 - public
    ) -> None:
        """Wait until the view knows this version of a ticket, a newer one, or that it left since.

        For a write that went another way than ``commands``: afterwards ``tickets`` is at least as new. What
        Realtime does not bring within a second is read.

        Args:
            ticket: The ticket, its id, or the id's text.
            version: Of the row that the write answered.
            timeout: Seconds; None waits for ever.

        Raises:
            JamesTronicError: The read failed; the store goes on by itself.
            RequestTimeoutError: Not in time; the store goes on.
            StoreClosedError: The store was closed meanwhile.
        """
        wanted = ticket_id(ticket)
        checked_int(version, "version", low=0, high=2**63 - 1)
        checked_wait(timeout, "timeout")
        patience = self._engine.config.reconcile_max_delay
        try:
            await self.wait_for(
                lambda _: self._engine.has_settled(wanted, version),
                timeout=patience if timeout is None else min(patience, timeout),
            )
        except RequestTimeoutError:
            await self.refresh(timeout=timeout)

    def background(self) -> None:
        """Nobody looks at the view now: after a minute, the channel is left and nothing is asked.

        The view stays as it is and is called ``stale``. ``foreground`` ends that; call both as often as you
        like.

        Raises:
            StoreClosedError: The store is closed.
        """
        self._require_open()
        self._driver.post(Background())

    def foreground(self) -> None:
        """Somebody looks at the view again, or might think that it is old: read at once, and go live again.

        Raises:
            StoreClosedError: The store is closed.
        """
        self._require_open()
        self._driver.post(Foreground())

    # --- life --------------------------------------------------------------------------------------

    async def __aenter__(self) -> Self:
        if self._is_entered:
            raise StoreError("A TicketStore can be entered once.", next_step="Make a new one.")
        self._is_entered = True
        self._group = await asyncio.TaskGroup().__aenter__()
        self._spawn(self._run(), "tickets-store")
        try:
            await self._wait_until_ready()
        except BaseException:
            await self._leave()
            raise
        return self

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self._leave()

    async def aclose(self) -> None:
        """Close for good: readers' iterations end, tasks and the socket are released. Idempotent.

        From inside a callback it only asks to close, because the callback itself is waited for.
        """
        self._driver.close()
        if self._group is not None and asyncio.current_task() not in self._tasks:
            await self._ended.wait()
            if self._tasks:
                await asyncio.wait(self._tasks)

    async def _leave(self) -> None:
        """Close, and wait for every task of the store; also when cancelled."""
        self._driver.close()
        group, self._group = self._group, None
        if group is not None:
            await group.__aexit__(None, None, None)

    async def _run(self) -> None:
        """The store's own task: never raises, so that a bug here can't cancel the program's task."""
        unsubscribe = self._parts.on_token(self._on_token)
        forget_wakes = self._parts.on_wake(lambda: self._driver.post(Woke()))
        try:
            await self._driver.run()
        except Exception as error:  # noqa: BLE001 - the supervisor
            _log.exception("the ticket store failed")
            self._failure = StoreError(
                f"The ticket store failed: {type(error).__name__}.", next_step="Make a new one; see the log."
            )
            self._failure.__cause__ = error
            # Nothing is left that its effects could end.
            self._engine.handle(Close(), self._parts.clock.now())
        finally:
            unsubscribe()
            forget_wakes()
            self._end()

    def _on_token(self, token: str | None) -> None:
        """The store ends with the person: rows of one are never compared with those of another."""
        if token is None:
            self._driver.close()

    def _end(self) -> None:
        self._audience.end(self._failure, _closed())
        for task in self._tasks - {asyncio.current_task()}:
            task.cancel()
        self._ended.set()

    async def _wait_until_ready(self) -> None:
        try:
            async with asyncio.timeout(self._ready_timeout):
                while not self._engine.is_complete:
                    if self._audience.fatal_error is not None:
                        raise self._audience.fatal_error
                    if self._ended.is_set():
                        raise self._failure or _closed()
                    self._audience.changed.clear()
                    await self._audience.changed.wait()
        except TimeoutError as error:
            if isinstance(error, JamesTronicError):
                raise
            raise RequestTimeoutError(
                f"The tickets could not be read in {self._ready_timeout:g} s.",
                next_step="Check the network and SUPABASE_URL; ready_timeout=None waits for ever.",
            ) from self._audience.last_error

    def _require_open(self) -> None:
        if self._failure is not None:
            raise self._failure
        if self.status is StoreStatus.CLOSED:
            raise _closed()
        if not self._is_entered:
            raise StoreClosedError(
                "The ticket store is not open yet.",
                next_step="Enter it: async with jt.ticket_store() as store.",
            )

    def _spawn(self, coroutine: Any, name: str) -> None:  # noqa: ANN401 - Coroutine's send type is Any as well
        if self._group is None:
            coroutine.close()
            raise _closed()
        task: asyncio.Task[None] = self._group.create_task(coroutine, name=name)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _call_for_each(
        self, stream: EventStream, callback: EventCallback, subscription: Subscription
    ) -> None:
        try:
            async for event in stream:
                began = self._parts.clock.now()
                await _call(callback, event, subscription)
                self._audience.on_measured("handler", self._parts.clock.now() - began)
        except StoreError:
            return  # the store failed; that was logged, and every method says so

    def _picture(self, events: tuple[TicketEvent, ...]) -> StoreChange:
        now = self._engine.status_change(self._parts.clock.now())
        return StoreChange(
            tickets=self.tickets,
            events=events,
            status=now.status,
            reason=now.reason,
            freshness=now.freshness,
            is_loading=now.is_loading,
            pending=self.pending,
        )

    def _initial_events(self) -> list[TicketEvent]:
        now = datetime.fromtimestamp(self._parts.clock.wall(), UTC)
        return [
            (TicketAssigned if self.view.is_mine(ticket) else TicketCreated)(
                ticket=ticket, source=Source.REFETCH, observed_at=now, initial=True
            )
            for ticket in self._engine.rows.values()
        ]


class _Writable:
    """A store, as its commands see it."""

    def __init__(
        self, store: TicketStore, driver: Driver, clock: Clock, require_open: Callable[[], None]
    ) -> None:
        self._store: Final = store
        self._driver: Final = driver
        self._clock: Final = clock
        self.require_open: Final = require_open

    @property
    def tickets(self) -> TicketBoard:
        return self._store.tickets

    @property
    def viewer_id(self) -> UUID | None:
        return self._store.view.profile_id

    def post(self, item: Input) -> None:
        self._driver.post(item)

    def wall(self) -> datetime:
        return datetime.fromtimestamp(self._clock.wall(), UTC)

    async def absorb(self, ticket_id: UUID, version: int) -> None:
        """Wait until the row is in ``tickets``; a read that fails or a store that ends undo nothing."""
        with contextlib.suppress(JamesTronicError):
            await self._store.settled(ticket_id, version, timeout=_ABSORB_TIMEOUT)


async def _call(callback: EventCallback, event: TicketEvent, subscription: Subscription) -> None:
    """Call user code as a guest: whatever it raises is logged, and only our own cancellation gets through."""
    try:
        answer = callback(event)
        if inspect.isawaitable(answer):
            await answer
    except (Exception, asyncio.CancelledError) as error:
        task = asyncio.current_task()
        if isinstance(error, asyncio.CancelledError) and task is not None and task.cancelling():
            raise
        subscription.failures += 1
        name = getattr(callback, "__qualname__", type(callback).__qualname__)
        _log.exception("a subscriber of ticket events raised: %s", name)


def _closed() -> StoreClosedError:
    return StoreClosedError("The ticket store is closed.", next_step="Make a new one with jt.ticket_store().")
