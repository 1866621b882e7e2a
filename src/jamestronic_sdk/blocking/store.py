"""TicketStore of the blocking face: the same live view, kept by the client's own thread."""

from __future__ import annotations

import copy
import inspect
import logging
import threading
from typing import TYPE_CHECKING, Final, Self

from typing_extensions import override

from jamestronic_sdk._inputs import checked_callable
from jamestronic_sdk.blocking._parts import StoreCommands
from jamestronic_sdk.blocking._portal import SubscriberThread
from jamestronic_sdk.blocking._streams import ChangeStream, EventStream, Stream
from jamestronic_sdk.errors import ClientClosedError, InvalidInputError, StoreError

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractContextManager
    from types import TracebackType
    from uuid import UUID

    from jamestronic_sdk.blocking._portal import Portal
    from jamestronic_sdk.realtime.channels import Transport
    from jamestronic_sdk.store import store as async_store
    from jamestronic_sdk.store.board import TicketBoard
    from jamestronic_sdk.store.events import TicketEvent
    from jamestronic_sdk.store.metrics import StoreMetrics
    from jamestronic_sdk.store.protocol import Freshness, StatusChange, StoreStatus
    from jamestronic_sdk.store.views import View
    from jamestronic_sdk.tickets import TicketRef

__all__ = ["Subscription", "TicketStore"]

_log: Final = logging.getLogger("jamestronic_sdk.store")

# As in the async face.
_EVENT_LIMIT: Final = 1024


class Subscription:
    """A callback's tie to a store.

    Use it as you like: the store ends it when it closes.
    """

    def __init__(self, stream: EventStream) -> None:
        self._stream: Final = stream
        self.failures: int = 0
        """How often the callback raised; each time was logged, and none ended the subscription."""

    @property
    def is_active(self) -> bool:
        """Whether the callback is still called."""
        return not self._stream.is_closed

    def cancel(self) -> None:
        """Call it no more; a call that runs is let finish. Idempotent."""
        self._stream.close()


class TicketStore:
    """A live view of tickets; made by ``JamesTronic.ticket_store``, entered with ``with``.

    Every method may be called from any thread. What is read (``tickets``, ``status``, ...) is one moment's
    picture, also while events arrive.
    """

    def __init__(self, face: async_store.TicketStore, portal: Portal) -> None:
        self.view: Final[View] = face.view
        self._face: Final = face
        self._portal: Final = portal
        self._scope: AbstractContextManager[object] | None = None
        self._threads: list[threading.Thread] = []
        self._lock: Final = threading.Lock()

    @override
    def __repr__(self) -> str:
        return self._portal.read(self._face.__repr__)

    # --- reading -----------------------------------------------------------------------------------

    @property
    def metrics(self) -> StoreMetrics:
        """Counts and latencies since the store was entered, as a copy of this moment."""
        return self._portal.read(lambda: copy.deepcopy(self._face.metrics))

    @property
    def commands(self) -> StoreCommands:
        """The commands of ``jt.tickets``, shown in ``tickets`` at once while they are under way."""
        return StoreCommands(self._portal.read(lambda: self._face.commands), self._portal)

    @property
    def pending(self) -> frozenset[UUID]:
        """The tickets with an own write under way."""
        return self._portal.read(lambda: self._face.pending)

    @property
    def is_loading(self) -> bool:
        """Whether what a person waits for is being read: the first state, a refresh, or all that was missed.

        False while a failed read waits for its repetition: then ``freshness`` says why the view is old.
        """
        return self._portal.read(lambda: self._face.is_loading)

    @property
    def tickets(self) -> TicketBoard:
        """The tickets in the view, as an immutable picture of this moment; cheap while nothing changes.

        Own writes under way (``commands``) are shown as if they had succeeded; ``pending`` names them.
        """
        return self._portal.read(lambda: self._face.tickets)

    @property
    def status(self) -> StoreStatus:
        """How the store learns of changes: connecting, live, polling, paused or closed."""
        return self._portal.read(lambda: self._face.status)

    @property
    def status_reason(self) -> str | None:
        """Why it is not live; None while it is."""
        return self._portal.read(lambda: self._face.status_reason)

    @property
    def reads_change_log(self) -> bool:
        """Whether reads ask the database what changed, which costs the same however many tickets there are.

        False when the database lacks ``060_sync.sql``, or the view is not that of the signed-in role: then
        each read is a whole one, and a ticket that went to somebody else is noticed by its absence.
        """
        return self._portal.read(lambda: self._face.reads_change_log)

    @property
    def transport(self) -> Transport | None:
        """What tells of changes now: ``broadcast`` or ``postgres_changes``; None while nothing is live."""
        return self._portal.read(lambda: self._face.transport)

    @property
    def freshness(self) -> Freshness:
        """Whether the view is ``live``, ``polling`` or ``stale``, its age in seconds, and why."""
        return self._portal.read(lambda: self._face.freshness)

    def events(self, *, initial: bool = False, limit: int = _EVENT_LIMIT) -> EventStream:
        """What happens from now on, as an iterator of its own; each step waits for the next event.

        Args:
            initial: Begin with one event per ticket that is there already, marked ``initial``.
            limit: Events that may wait before those of one ticket are merged.

        Raises:
            StoreClosedError: The store is closed.
        """
        return EventStream(
            self._portal.read(lambda: self._face.events(initial=initial, limit=limit)), self._portal
        )

    def statuses(self) -> Stream[StatusChange]:
        """Status, freshness and loading now, and whenever one of them changes, as an iterator.

        Raises:
            StoreClosedError: The store is closed.
        """
        return Stream(self._portal.read(self._face.statuses), self._portal)

    def changes(self, *, interval: float = 0.0) -> ChangeStream:
        """What to draw, now and whenever there is something to redraw, as an iterator.

        An item is the whole picture of its moment, with all that happened since the one before. While the
        reader draws, changes are gathered: there is never more than one item behind. ::

            for change in store.changes(interval=0.05):
                draw(change.tickets, change.freshness, is_busy=change.is_loading)

        Args:
            interval: Seconds between items, at least; 0.05 is twenty redraws per second.

        Raises:
            InvalidInputError: ``interval`` is negative.
            StoreClosedError: The store is closed.
        """
        return ChangeStream(self._portal.read(lambda: self._face.changes(interval=interval)), self._portal)

    def subscribe(self, callback: Callable[[TicketEvent], object], *, initial: bool = False) -> Subscription:
        """Call a function with every event from now on, in a thread of this subscription.

        Calls come one at a time, in order. A callback that raises is logged and counted, and called
        again for the next event; a slow one delays only itself, and may use the client.

        Args:
            callback: Takes the event.
            initial: Begin with one event per ticket that is there already.

        Raises:
            InvalidInputError: It is no function, or a coroutine function: those need an event loop.
            StoreClosedError: The store is closed, or was not entered.
        """
        checked_callable(callback, "callback")
        if inspect.iscoroutinefunction(callback):
            raise InvalidInputError("callback must be a plain function; the async face takes coroutines.")
        stream = self.events(initial=initial)
        subscription = Subscription(stream)
        thread = SubscriberThread(
            target=self._call_for_each,
            args=(stream, callback, subscription),
            name="jamestronic-subscriber",
            daemon=True,
        )
        with self._lock:
            self._threads = [one for one in self._threads if one.is_alive()]
            self._threads.append(thread)
            thread.start()
        return subscription

    def wait_for(self, predicate: Callable[[TicketStore], bool], *, timeout: float | None = 30.0) -> None:
        """Wait until the predicate holds; it is tried now and after every change of tickets or status.

        It is called on the client's own thread: it may read this store, and must not wait for anything.

        Args:
            predicate: Looks at the store.
            timeout: Seconds; None waits for ever.

        Raises:
            RequestTimeoutError: It did not hold in time; the store goes on.
            StoreClosedError: The store was closed meanwhile.
            BlockingCallError: The predicate made a call that waits.
        """
        checked_callable(predicate, "predicate")
        self._portal.run(lambda: self._face.wait_for(lambda _: predicate(self), timeout=timeout))

    def refresh(self, *, timeout: float | None = 30.0) -> None:
        """Read the view now; when this returns, everything committed before the call is in ``tickets``.

        Args:
            timeout: Seconds; None waits for ever.

        Raises:
            JamesTronicError: The read failed; the view is as it was, and the store goes on by itself.
            RequestTimeoutError: No answer in time; the read goes on.
            StoreClosedError: The store is closed.
        """
        self._portal.run(lambda: self._face.refresh(timeout=timeout))

    def settled(self, ticket: TicketRef, version: int, *, timeout: float | None = 30.0) -> None:
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
        self._portal.run(lambda: self._face.settled(ticket, version, timeout=timeout))

    def background(self) -> None:
        """Nobody looks at the view now: after a minute, the channel is left and nothing is asked.

        The view stays as it is and is called ``stale``. ``foreground`` ends that; call both as often as you
        like.

        Raises:
            StoreClosedError: The store is closed.
        """
        self._portal.read(self._face.background)

    def foreground(self) -> None:
        """Somebody looks at the view again, or might think that it is old: read at once, and go live again.

        Raises:
            StoreClosedError: The store is closed.
        """
        self._portal.read(self._face.foreground)

    # --- life --------------------------------------------------------------------------------------

    def __enter__(self) -> Self:
        scope = self._portal.enter(self._face)
        with self._lock:
            self._scope = scope
        self._portal.add_dependant(self, self.close)
        return self

    def __exit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close for good: readers' iterations end, tasks and the socket are released. Idempotent.

        Waits for callbacks that run, unless it is called by one.
        """
        if self._portal.is_forked:
            return
        if self._scope is not None:
            self._portal.refuse_bad_places("TicketStore.close")
        with self._lock:
            scope, self._scope = self._scope, None
        if scope is not None:
            try:
                self._portal.leave(scope)
            finally:
                self._portal.remove_dependant(self)
        if not isinstance(threading.current_thread(), SubscriberThread):
            for thread in tuple(self._threads):
                thread.join()

    def _call_for_each(
        self, stream: EventStream, callback: Callable[[TicketEvent], object], subscription: Subscription
    ) -> None:
        try:
            for event in stream:
                try:
                    callback(event)
                except Exception:  # noqa: BLE001 - user code is a guest; logged with its traceback
                    subscription.failures += 1
                    name = getattr(callback, "__qualname__", type(callback).__qualname__)
                    _log.exception("a subscriber of ticket events raised: %s", name)
        except (StoreError, ClientClosedError):
            return  # the store or the client is over; every method says so
