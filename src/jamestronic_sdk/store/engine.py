"""The state machine of the live store, sans I/O: inputs in, effects out.

Rules (a reader can check the code against them):

1.  Order is per ticket, by ``version``. A row is applied only if its version is newer than the row
    or the tombstone held; so messages and reads may arrive in any order, twice, or late.
2.  A transition is told once, from the engine's own before and after.
3.  A message is a hint, a read is the truth: a row from Realtime is applied at once, and a debounced
    read confirms it.
4.  The feed is live only when the server says that it replicates; each time it says so is a possible
    gap, and a read that began afterwards must succeed before the status becomes ``live``.
5.  Absence in a read removes a row only if the row was held when the read began and nothing touched it
    since. Otherwise it is in doubt, and asked for by id.
6.  A row that left by absence may come back by a late message only after a lookup by id.
7.  A read without a single row, where rows were held, is believed the second time.
8.  A failed read removes nothing. Reads never overlap; what is asked during one runs after it.
9.  Nothing is told before the first complete read; nothing at all after ``Close``.
10. Tombstones are bounded by number and age.
11. Where the database has the change log, reads ask it for what changed since the cursor; it says what
    left, with the version of the leave. Every ``digest_interval`` a digest proves that nothing is missing.
    If it differs, and what changed since the cursor does not explain that, the next read is a whole one.

Promises:
    Same inputs, same effects. Every (status, signal) pair is in ``TRANSITIONS`` or raises.

Never:
    No clock (the time is an argument), no randomness (timers carry a range), no logging, no await.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final, assert_never

from jamestronic_sdk.errors import Retry, SchemaMissingError
from jamestronic_sdk.store.classify import changes_between, classify
from jamestronic_sdk.store.events import Certainty, Source, TicketEvent, TicketRemoved, TicketUnassigned
from jamestronic_sdk.store.protocol import (
    TRANSITIONS,
    CancelRead,
    ClearTimer,
    Close,
    CloseFeed,
    Count,
    DigestDone,
    Effect,
    EngineConfig,
    FeedLive,
    FeedLost,
    Freshness,
    FreshnessKind,
    GapFound,
    Input,
    LookupDone,
    OpenFeed,
    Publish,
    ReadDone,
    ReadFailed,
    ReadKind,
    RefreshAsked,
    Removal,
    ReportFailure,
    ReportStatus,
    Resolve,
    RowChanged,
    RowDeleted,
    RowDoubtful,
    RowLeft,
    SetTimer,
    Signal,
    Start,
    StartRead,
    StoreStatus,
    SyncDone,
    Timer,
    TimerFired,
)
from jamestronic_sdk.store.seen import SeenRows

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from datetime import datetime
    from uuid import UUID

    from jamestronic_sdk.errors import JamesTronicError
    from jamestronic_sdk.models import Ticket
    from jamestronic_sdk.store.views import View

__all__ = ["Engine"]


@dataclass(frozen=True, slots=True)
class _Tombstone:
    version: int
    is_inferred: bool
    """Left by absence: the version is the last one seen, not that of the leave."""
    is_deleted: bool
    at: float
    step: int


@dataclass(frozen=True, slots=True)
class _Read:
    read_id: int
    kind: ReadKind
    source: Source
    began_at: float
    began_step: int
    ticket_ids: tuple[UUID, ...] = ()


@dataclass(frozen=True, slots=True)
class _Facts:
    """Where a row comes from, for the event that it may cause."""

    source: Source
    received_at: datetime
    committed_at: datetime | None


_SOURCE_ORDER: Final = (Source.REFRESH, Source.POLL, Source.REFETCH)
"""Which cause a read carries when several asked for it: the most deliberate one."""


class _Work:
    """What waits for the read in flight to end."""

    __slots__ = ("doubts", "sources")

    def __init__(self) -> None:
        self.sources: set[Source] = set()
        self.doubts: dict[UUID, None] = {}


class Engine:
    """The live store's rules for one view.

    Args:
        view: Which tickets, and from whose eyes.
        config: Delays and bounds.
    """

    def __init__(self, view: View, config: EngineConfig | None = None) -> None:
        self.view: Final = view
        self.config: Final = config or EngineConfig()
        self.revision: int = 0
        """Rises with every change of ``tickets``."""
        self._status: StoreStatus | None = None
        self._reason: str | None = None
        self._rows: dict[UUID, Ticket] = {}
        """What is in the view."""
        self._seen = SeenRows()
        """Version and last touch of what is in the view and, with the change log, of all that is visible."""
        self._can_sync = self.config.is_sync_wanted
        self._cursor: str | None = None
        self._digest_due_at = 0.0
        self._digest_differs_since: int | None = None
        """The step at which a digest was asked for that differed."""
        self._digest_tries = 0
        self._seen_changed_step = 0
        self._tombstones: OrderedDict[UUID, _Tombstone] = OrderedDict()
        self._is_complete = False
        self._step = 0
        self._next_read_id = 1
        self._read: _Read | None = None
        self._work = _Work()
        self._live_since_step: int | None = None
        self._synced_at: float | None = None
        self._failures = 0
        self._failure_reason: str | None = None
        self._is_backing_off = False
        self._saw_empty = False
        self._burst_began_at: float | None = None
        self._refreshes: list[tuple[int, int]] = []
        """Token and step of those who wait for a read that begins after the step."""
        self._settling: list[int] = []
        """Tokens whose read is done, but it left rows in doubt."""
        self._now = 0.0
        self._effects: list[Effect] = []
        self._events: list[TicketEvent] = []

    # --- reading -----------------------------------------------------------------------------------

    @property
    def tickets(self) -> Mapping[UUID, Ticket]:
        """The rows in the view; do not change it, it is the engine's own."""
        return self._rows

    @property
    def status(self) -> StoreStatus:
        """How the store learns of changes."""
        return self._status or StoreStatus.CONNECTING

    @property
    def reason(self) -> str | None:
        """Why the status is not ``live``."""
        return self._reason

    @property
    def can_sync(self) -> bool:
        """Whether reads ask the change log; turns false when the database has none."""
        return self._can_sync

    @property
    def is_complete(self) -> bool:
        """Whether one complete read has been applied."""
        return self._is_complete

    @property
    def _is_closed(self) -> bool:
        return self._status is StoreStatus.CLOSED

    @property
    def is_idle(self) -> bool:
        """No read runs or waits, nothing is in doubt."""
        return self._read is None and not self._work.sources and not self._work.doubts

    def freshness(self, now: float) -> Freshness:
        """How old the view may be at ``now``.

        ``live`` and ``polling`` last 1.5 times the interval of the reads behind them; then it is ``stale``.
        """
        age = None if self._synced_at is None else now - self._synced_at
        is_live = self._status is StoreStatus.LIVE
        interval = self.config.live_interval if is_live else self.config.poll_interval
        reason = self._failure_reason or self._reason
        if age is None or age > 1.5 * interval or self._status is StoreStatus.CLOSED:
            return Freshness(FreshnessKind.STALE, age, reason)
        return Freshness(FreshnessKind.LIVE if is_live else FreshnessKind.POLLING, age, reason)

    # --- the one way in ----------------------------------------------------------------------------

    def handle(self, item: Input, now: float) -> tuple[Effect, ...]:
        """Take one input, answer what to do.

        Args:
            item: What happened.
            now: Monotonic time in seconds; never less than at the call before.

        Raises:
            LookupError: The input is impossible in this status; a bug of the driver.
        """
        if self._is_closed:
            return ()
        self._step += 1
        self._now = now
        self._dispatch(item)
        self._start_next_read()
        if self._events:
            self._effects.append(Publish(tuple(self._events)))
        effects, self._effects, self._events = tuple(self._effects), [], []
        return effects

    def _dispatch(self, item: Input) -> None:  # noqa: C901, PLR0912 - one line per input
        match item:
            case Start():
                self._on_start()
            case FeedLive():
                self._on_feed_live()
            case FeedLost(reason):
                self._on_feed_lost(reason)
            case RowChanged():
                self._on_row_changed(item)
            case RowDeleted():
                self._on_row_deleted(item)
            case RowLeft(removal, received_at, committed_at):
                self._apply_removal(removal, _Facts(Source.REALTIME, received_at, committed_at))
                self._debounce_read()
            case RowDoubtful(ticket_id):
                self._doubt(ticket_id)
            case GapFound():
                self._want(Source.REFETCH)
                self._effects.append(Count("gaps"))
            case ReadDone():
                self._on_read_done(item)
            case SyncDone():
                self._on_sync_done(item)
            case DigestDone():
                self._on_digest_done(item)
            case LookupDone():
                self._on_lookup_done(item)
            case ReadFailed():
                self._on_read_failed(item)
            case TimerFired(timer):
                self._on_timer(timer)
            case RefreshAsked(token):
                self._refreshes.append((token, self._step))
                self._want(Source.REFRESH)
            case Close():
                self._on_close()
            case _:
                assert_never(item)

    # --- status ------------------------------------------------------------------------------------

    def _signal(self, signal: Signal, reason: str | None = None) -> None:
        status = TRANSITIONS.get((self._status, signal))
        if status is None:
            raise LookupError(f"{signal.value!r} can't happen in status {self._status}")
        if status is not self._status or reason != self._reason:
            self._status, self._reason = status, reason
            self._effects.append(ReportStatus(status, reason))

    def _on_start(self) -> None:
        self._signal(Signal.START)
        self._effects.append(OpenFeed())
        self._work.sources.add(Source.REFETCH)

    def _on_feed_live(self) -> None:
        self._live_since_step = self._step
        self._want(Source.REFETCH)
        self._effects.append(Count("gaps"))

    def _on_feed_lost(self, reason: str) -> None:
        self._live_since_step = None
        was_polling = self._status is StoreStatus.POLLING
        self._signal(Signal.FEED_LOST, reason)
        self._effects.append(Count("feed_losses"))
        if not was_polling:
            self._want(Source.POLL)

    def _on_close(self) -> None:
        if self._read is not None:
            self._effects.append(CancelRead(self._read.read_id))
            self._read = None
        self._effects.extend(ClearTimer(timer) for timer in Timer)
        self._effects.append(CloseFeed())
        self._signal(Signal.CLOSE)

    # --- messages ----------------------------------------------------------------------------------

    def _on_row_changed(self, item: RowChanged) -> None:
        ticket, tombstone = item.ticket, self._tombstones.get(item.ticket.id)
        facts = _Facts(Source.REALTIME, item.received_at, item.committed_at)
        if tombstone is not None and self._is_resurrection(ticket, tombstone):
            self._doubt(ticket.id)
        else:
            self._apply(ticket, facts)
        self._debounce_read()

    def _is_resurrection(self, ticket: Ticket, tombstone: _Tombstone) -> bool:
        """Whether a newer row may still predate the leave, of which only the last seen version is known."""
        return (
            tombstone.is_inferred
            and not tombstone.is_deleted
            and ticket.version > tombstone.version
            and self._now - tombstone.at < self.config.grace
            and self._is_tracked(ticket)
        )

    def _is_tracked(self, ticket: Ticket) -> bool:
        """Whether the row is remembered as visible: those of the view, with the change log all."""
        return self.view.shows(ticket) if self._can_sync else self.view.contains(ticket)

    def _on_row_deleted(self, item: RowDeleted) -> None:
        facts = _Facts(Source.REALTIME, item.received_at, item.committed_at)
        if item.ticket_id in self._seen:
            self._debounce_read()
        self._remove(item.ticket_id, facts, Certainty.OBSERVED)
        self._bury(item.ticket_id, 0, is_deleted=True)

    def _doubt(self, ticket_id: UUID) -> None:
        self._work.doubts[ticket_id] = None

    def _debounce_read(self) -> None:
        """Ask for the confirming read: after a quiet moment, but not later than the maximum."""
        if self._burst_began_at is None:
            self._burst_began_at = self._now
        waited = self._now - self._burst_began_at
        delay = max(0.0, min(self.config.reconcile_delay, self.config.reconcile_max_delay - waited))
        self._effects.append(SetTimer(Timer.RECONCILE, delay, delay))

    def _on_timer(self, timer: Timer) -> None:
        match timer:
            case Timer.RECONCILE:
                self._burst_began_at = None
                self._work.sources.add(Source.REFETCH)
            case Timer.READ:
                self._want(Source.POLL)
            case _:
                assert_never(timer)

    # --- reads -------------------------------------------------------------------------------------

    def _want(self, source: Source) -> None:
        """Ask for a complete read, and end the wait after a failure."""
        self._is_backing_off = False
        self._work.sources.add(source)

    def _start_next_read(self) -> None:
        """Start what waits, lookups first: they are small, and somebody's alert hangs on them."""
        if self._read is not None or self._is_backing_off or self._is_closed:
            return
        if self._work.doubts:
            ids = tuple(self._work.doubts)[: self.config.lookup_limit]
            for ticket_id in ids:
                del self._work.doubts[ticket_id]
            self._begin_read(ReadKind.LOOKUP, Source.REFETCH, ids)
            self._effects.append(Count("lookups", len(ids)))
            return
        self._effects.extend(Resolve(token, None) for token in self._settling)
        self._settling.clear()
        if self._work.sources:
            source = next(source for source in _SOURCE_ORDER if source in self._work.sources)
            self._work.sources.clear()
            self._effects.append(ClearTimer(Timer.READ))
            self._begin_read(ReadKind.SYNC if self._can_sync else ReadKind.FULL, source)
            self._effects.append(Count("reads"))
        elif self._can_sync and self._is_complete and self._now >= self._digest_due_at:
            self._begin_read(ReadKind.DIGEST, Source.REFETCH)
            self._effects.append(Count("digests"))

    def _begin_read(self, kind: ReadKind, source: Source, ids: tuple[UUID, ...] = ()) -> None:
        cursor = self._cursor if kind is ReadKind.SYNC else None
        self._read = _Read(self._next_read_id, kind, source, self._now, self._step, ids)
        self._next_read_id += 1
        self._effects.append(StartRead(self._read.read_id, kind, ids, cursor))

    def _take_read(self, read_id: int) -> _Read | None:
        """The read in flight if it is this one; late answers to cancelled reads are nobody's."""
        read = self._read
        if read is None or read.read_id != read_id:
            return None
        self._read = None
        return read

    def _on_read_done(self, item: ReadDone) -> None:
        read = self._take_read(item.read_id)
        if read is None or self._is_suspicious(read, item.tickets):
            return
        self._apply_read(read, item.tickets, item.received_at)
        self._confirm_absences(
            read, {ticket.id for ticket in item.tickets}, tuple(self._rows), item.received_at
        )
        self._finish_read(read)

    def _on_sync_done(self, item: SyncDone) -> None:
        read = self._take_read(item.read_id)
        if read is None or (item.is_snapshot and self._is_suspicious(read, item.upserts)):
            return
        self._apply_read(read, item.upserts, item.received_at)
        if item.is_snapshot:
            found = {ticket.id for ticket in item.upserts}
            self._confirm_absences(read, found, tuple(self._seen), item.received_at)
            self._effects.append(Count("snapshots"))
        for removal in item.removed:
            self._apply_removal(removal, _Facts(read.source, item.received_at, None))
        self._cursor = item.cursor
        self._finish_read(read)

    def _is_suspicious(self, read: _Read, tickets: tuple[Ticket, ...]) -> bool:
        """Rule 7: a first whole read without a row, where rows were held, is only asked again."""
        if tickets or not self._rows or not self._is_complete or self._saw_empty:
            self._saw_empty = False
            return False
        self._saw_empty = True
        self._cursor = None
        self._work.sources.add(read.source)
        self._effects.append(Count("empty_reads"))
        return True

    def _apply_removal(self, removal: Removal, facts: _Facts) -> None:
        """The log's word: gone, as of this version. What is newer than that stays."""
        seen = self._seen.version(removal.ticket_id)
        if removal.is_deleted or seen is None or seen < removal.version:
            self._remove(removal.ticket_id, facts, Certainty.OBSERVED)
            self._bury(removal.ticket_id, removal.version, is_deleted=removal.is_deleted, is_exact=True)

    def _finish_read(self, read: _Read) -> None:
        """A whole read, or all changes since the cursor, has been applied."""
        self._failures = 0
        self._failure_reason = None
        self._synced_at = read.began_at
        if not self._is_complete:
            self._is_complete = True
            self._digest_due_at = self._now + self.config.digest_interval
            self._effects.append(Publish(()))
        self._judge_digest(read)
        self._prune_tombstones()
        if self._live_since_step is not None and read.began_step >= self._live_since_step:
            self._signal(Signal.VERIFIED)
        interval = (
            self.config.live_interval if self._status is StoreStatus.LIVE else self.config.poll_interval
        )
        spread = self.config.jitter * interval
        self._effects.append(SetTimer(Timer.READ, interval - spread, interval + spread))
        self._settling += self._take_refreshes(read)

    def _on_digest_done(self, item: DigestDone) -> None:
        """Rule 11: equal is proof; different calls for what changed since the cursor, which decides."""
        read = self._take_read(item.read_id)
        if read is None:
            return
        self._digest_due_at = self._now + self.config.digest_interval
        if self._seen.matches(item.count, item.digest):
            self._digest_tries = 0
            return
        self._digest_differs_since = read.began_step
        self._want(Source.REFETCH)

    def _judge_digest(self, read: _Read) -> None:
        """A digest differed: either this later read brought changes that explain it, or rows are missing."""
        if self._digest_differs_since is None or read.kind is not ReadKind.SYNC:
            return
        were_under_way = self._seen_changed_step > self._digest_differs_since
        self._digest_differs_since = None
        if not were_under_way:
            self._cursor = None
            self._want(Source.REFETCH)
            self._effects.append(Count("drift"))
        self._digest_tries += 1
        if self._digest_tries < self.config.digest_tries:
            self._digest_due_at = self._now
        else:
            self._digest_tries = 0

    def _on_lookup_done(self, item: LookupDone) -> None:
        read = self._take_read(item.read_id)
        if read is None:
            return
        self._failures = 0
        self._apply_read(read, item.tickets, item.received_at)
        found = {ticket.id for ticket in item.tickets}
        self._confirm_absences(read, found, read.ticket_ids, item.received_at)

    def _on_read_failed(self, item: ReadFailed) -> None:
        read = self._take_read(item.read_id)
        if read is None:
            return
        if read.kind is ReadKind.DIGEST:
            self._digest_due_at = self._now + self.config.digest_interval
            return
        if read.kind is ReadKind.SYNC and isinstance(item.error, SchemaMissingError):
            # The database has only tables and policies; whole reads do the same, slower.
            self._can_sync = False
            self._work.sources.add(read.source)
            return
        for ticket_id in read.ticket_ids:
            self._doubt(ticket_id)
        self._failures += 1
        self._failure_reason = type(item.error).__name__
        self._effects += [Count("read_failures"), ReportFailure(item.error)]
        failed = [*self._settling, *self._take_refreshes(read)]
        self._settling.clear()
        self._effects.extend(Resolve(token, item.error) for token in failed)
        self._wait_after_failure(item.error)

    def _wait_after_failure(self, error: JamesTronicError) -> None:
        """Hold back what waits until the clock, the feed or the program says that it is worth a try."""
        self._is_backing_off = True
        cap, base = self.config.retry_cap, self.config.retry_base
        high = cap if error.retry is not Retry.SOON else min(cap, base * 2.0 ** min(self._failures, 16))
        low = high / 2 if error.retry is not Retry.SOON else 0.0
        self._effects.append(SetTimer(Timer.READ, low, high))

    def _take_refreshes(self, read: _Read) -> list[int]:
        """The tokens that this read answers: it began after they were asked."""
        if read.kind is ReadKind.LOOKUP:
            return []
        answered = [token for token, step in self._refreshes if step <= read.began_step]
        self._refreshes = [(token, step) for token, step in self._refreshes if step > read.began_step]
        return answered

    def _apply_read(self, read: _Read, tickets: Iterable[Ticket], received_at: datetime) -> None:
        for ticket in tickets:
            self._apply(ticket, _Facts(read.source, received_at, None), read)

    def _confirm_absences(
        self, read: _Read, found: set[UUID], expected: Iterable[UUID], received_at: datetime
    ) -> None:
        """Rule 5: what the read did not show is gone, or in doubt if anything touched it since."""
        facts = _Facts(read.source, received_at, None)
        for ticket_id in expected:
            version = self._seen.version(ticket_id)
            if version is None or ticket_id in found:
                continue
            if self._seen.touched(ticket_id) <= read.began_step:
                self._remove(ticket_id, facts, Certainty.INFERRED)
                self._bury(ticket_id, version, is_inferred=True)
            else:
                self._doubt(ticket_id)

    # --- rows --------------------------------------------------------------------------------------

    def _apply(self, ticket: Ticket, facts: _Facts, read: _Read | None = None) -> None:
        """Rule 1: take the row if it is news; tell what that means for the viewer."""
        if not self._is_news(ticket, read):
            return
        if self.view.contains(ticket):
            before = self._rows.get(ticket.id)
            self._see(ticket)
            self._rows[ticket.id] = ticket
            self.revision += 1
            self._tell(before, ticket, ticket, facts)
            return
        self._remove(ticket.id, facts, Certainty.OBSERVED, last_word=ticket)
        if self._is_tracked(ticket):
            self._see(ticket)
        else:
            self._bury(ticket.id, ticket.version)

    def _see(self, ticket: Ticket) -> None:
        self._tombstones.pop(ticket.id, None)
        self._seen.add(ticket.id, ticket.version, self._step)
        self._seen_changed_step = self._step

    def _is_news(self, ticket: Ticket, read: _Read | None) -> bool:
        seen = self._seen.version(ticket.id)
        if seen is not None:
            if ticket.version <= seen:
                self._effects.append(Count("duplicates" if ticket.version == seen else "stale"))
            return ticket.version > seen
        tombstone = self._tombstones.get(ticket.id)
        if tombstone is None:
            return True
        if tombstone.is_deleted:
            return False
        if tombstone.is_inferred and read is not None and read.began_step > tombstone.step:
            # It left without a word and is visible again: the same version is news enough.
            return ticket.version >= tombstone.version
        return ticket.version > tombstone.version

    def _remove(
        self, ticket_id: UUID, facts: _Facts, certainty: Certainty, *, last_word: Ticket | None = None
    ) -> None:
        """Forget a row, and tell it if it was in the view."""
        if ticket_id in self._seen:
            self._seen.discard(ticket_id)
            self._seen_changed_step = self._step
        held = self._rows.pop(ticket_id, None)
        if held is not None:
            self.revision += 1
            self._tell(held, None, last_word or held, facts, certainty)

    def _bury(
        self,
        ticket_id: UUID,
        version: int,
        *,
        is_inferred: bool = False,
        is_deleted: bool = False,
        is_exact: bool = False,
    ) -> None:
        held = self._tombstones.get(ticket_id)
        if held is not None and held.is_inferred and not (is_inferred or is_deleted or is_exact):
            # This message may predate the leave that was inferred, so that leave stays in doubt.
            self._tombstones[ticket_id] = replace(held, version=max(version, held.version))
            return
        self._tombstones[ticket_id] = _Tombstone(version, is_inferred, is_deleted, self._now, self._step)
        self._tombstones.move_to_end(ticket_id)
        while len(self._tombstones) > self.config.tombstone_limit:
            self._tombstones.popitem(last=False)

    def _prune_tombstones(self) -> None:
        oldest = self._now - self.config.tombstone_ttl
        while self._tombstones and next(iter(self._tombstones.values())).at < oldest:
            self._tombstones.popitem(last=False)

    def _tell(
        self,
        before: Ticket | None,
        after: Ticket | None,
        last_known: Ticket,
        facts: _Facts,
        certainty: Certainty = Certainty.OBSERVED,
    ) -> None:
        kind = classify(before, after, self.view)
        if kind is None or not self._is_complete:
            return
        more: dict[str, Any] = {}
        if kind is TicketUnassigned or kind is TicketRemoved:
            more["certainty"] = certainty
        # A row carries its own commit time (updated_at is set by the trigger), unless the last word
        # about it is missing: then nobody knows when it left.
        committed_at = facts.committed_at
        if committed_at is None and (after is not None or last_known is not before):
            committed_at = last_known.updated_at
        self._events.append(
            kind(
                ticket=last_known,
                previous=before,
                source=facts.source,
                observed_at=facts.received_at,
                committed_at=committed_at,
                changes=changes_between(before, last_known),
                is_in_view=after is not None,
                **more,
            )
        )
