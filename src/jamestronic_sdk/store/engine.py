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
    left, with the version of the leave. Every ``digest_interval`` a digest proves that nothing is missing;
    while the feed is live it takes the place of the clock's read. If it differs, and what changed since the
    cursor does not explain that, (id, version) of all that is visible are compared, and what differs is asked
    for by id; if it differs still, everything is read.
12. An own write is shown at once, by an overlay; what is told comes from the answer, by rule 1.
13. In the background for a while, nothing is asked. Back again, the feed begins anew; then, and after a sleep
    of the machine, what was missed is read at once.

Promises:
    Same inputs, same effects. Every (status, signal) pair is in ``TRANSITIONS`` or raises.

Never:
    No clock (the time is an argument), no randomness (timers carry a range), no logging, no await.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Final, assert_never

from jamestronic_sdk.errors import Retry, SchemaMissingError
from jamestronic_sdk.store.classify import changes_between
from jamestronic_sdk.store.events import Source, TicketConflicted
from jamestronic_sdk.store.ledger import Facts, Ledger
from jamestronic_sdk.store.overlay import Overlay, PendingWrite
from jamestronic_sdk.store.proof import Proof, Repair
from jamestronic_sdk.store.protocol import (
    TRANSITIONS,
    Background,
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
    Foreground,
    Freshness,
    FreshnessKind,
    GapFound,
    Input,
    LookupDone,
    OpenFeed,
    PairsDone,
    Publish,
    ReadDone,
    ReadFailed,
    ReadKind,
    RefreshAsked,
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
    StatusChange,
    StoreStatus,
    SyncDone,
    Timer,
    TimerFired,
    Woke,
    WriteBegun,
    WriteDone,
    WriteFailed,
)

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime
    from uuid import UUID

    from jamestronic_sdk.errors import JamesTronicError
    from jamestronic_sdk.models import Ticket
    from jamestronic_sdk.store.views import View

__all__ = ["Engine"]


@dataclass(frozen=True, slots=True)
class _Read:
    read_id: int
    kind: ReadKind
    source: Source
    began_at: float
    began_step: int
    ticket_ids: tuple[UUID, ...] = ()

    def facts(self, received_at: datetime) -> Facts:
        """Of what its answer shows, and does not show."""
        return Facts(self.source, received_at, read_step=self.began_step)


_SOURCE_ORDER: Final = (Source.REFRESH, Source.POLL, Source.REFETCH)
"""Which cause a read carries when several asked for it: the most deliberate one."""


_COMPARISONS: Final = frozenset({ReadKind.DIGEST, ReadKind.PAIRS})
"""Reads that only prove, and fetch no ticket."""

_STALE_AFTER: Final = 1.5
"""Times the interval of the reads behind it that a view is trusted."""


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

    ledger_type: ClassVar[type[Ledger]] = Ledger

    def __init__(self, view: View, config: EngineConfig | None = None) -> None:
        self.view: Final = view
        self.config: Final = config or EngineConfig()
        self._status: StoreStatus | None = None
        self._reason: str | None = None
        self._ledger = self.ledger_type(view, self.config)
        self._can_sync = self.config.is_sync_wanted
        self._cursor: str | None = None
        self._proof = Proof(self.config.digest_interval, self.config.digest_tries)
        self._are_pairs_wanted = False
        self._overlay = Overlay()
        self._conflicts: list[tuple[int, PendingWrite]] = []
        """Own writes that came too late, and when that was known: a lookup that begins then answers how the
        row is now."""
        self._is_complete = False
        self._is_in_background = False
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
        self._catch_up_step: int | None = None
        """Since when a person waits for a read."""
        self._told_status: StatusChange | None = None
        self._redraws = 0
        self._is_redrawn = False
        self._now = 0.0
        self._effects: list[Effect] = []

    # --- reading -----------------------------------------------------------------------------------

    @property
    def tickets(self) -> Mapping[UUID, Ticket]:
        """The rows in the view, own writes under way included; do not change it, it is the engine's own."""
        return self._overlay.over(self._ledger.rows, self.view)

    @property
    def rows(self) -> Mapping[UUID, Ticket]:
        """The rows in the view as the database has them, of which events tell; the engine's own, too."""
        return self._ledger.rows

    @property
    def revision(self) -> int:
        """Rises with every change of ``tickets``."""
        return self._ledger.revision + self._redraws

    @property
    def pending(self) -> frozenset[UUID]:
        """The tickets with an own write under way."""
        return self._overlay.ticket_ids

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
    def is_loading(self) -> bool:
        """Whether what a person waits for is being read; not while a failed read waits for its repetition."""
        return self._catch_up_step is not None and self._read is not None

    @property
    def _is_closed(self) -> bool:
        return self._status is StoreStatus.CLOSED

    @property
    def _is_paused(self) -> bool:
        return self._status is StoreStatus.PAUSED

    @property
    def is_idle(self) -> bool:
        """No read runs or waits, nothing is in doubt."""
        return self._read is None and not self._work.sources and not self._work.doubts

    def has_settled(self, ticket_id: UUID, version: int) -> bool:
        """Whether the view knows that version of the ticket, a newer one, or a leave that is as new."""
        return self._ledger.knows(ticket_id, version)

    def freshness(self, now: float) -> Freshness:
        """How old the view may be at ``now``.

        ``live`` and ``polling`` last 1.5 times the interval of the reads behind them; then it is ``stale``.
        """
        age = None if self._synced_at is None else now - self._synced_at
        is_live = self._status is StoreStatus.LIVE
        reason = self._failure_reason or self._reason
        if age is None or age >= _STALE_AFTER * self._interval or self._is_closed or self._is_paused:
            return Freshness(FreshnessKind.STALE, age, reason)
        return Freshness(FreshnessKind.LIVE if is_live else FreshnessKind.POLLING, age, reason)

    @property
    def _interval(self) -> float:
        """Seconds between reads by the clock."""
        is_live = self._status is StoreStatus.LIVE
        return self.config.live_interval if is_live else self.config.poll_interval

    def status_change(self, now: float) -> StatusChange:
        """Status, freshness and loading, as of now."""
        return StatusChange(self.status, self._reason, self.freshness(now), self.is_loading)

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
        self._ledger.at(now, self._step)
        self._dispatch(item)
        self._start_next_read()
        self._publish()
        self._report_status()
        effects, self._effects = tuple(self._effects), []
        return effects

    def _publish(self) -> None:
        ledger = self._ledger
        self._effects.extend(Count(metric, amount) for metric, amount in ledger.dropped.items())
        ledger.dropped.clear()
        if ledger.events or self._is_redrawn:
            self._effects.append(Publish(tuple(ledger.events)))
            ledger.events.clear()
            self._is_redrawn = False

    def _report_status(self) -> None:
        """Tell how much the view can be trusted, if that is another answer than before; its age is not."""
        change, told = self.status_change(self._now), self._told_status
        if (
            told is None
            or change.status is not told.status
            or change.reason != told.reason
            or change.freshness.kind is not told.freshness.kind
            or change.is_loading is not told.is_loading
        ):
            self._told_status = change
            self._effects.append(ReportStatus(change))

    def _dispatch(self, item: Input) -> None:  # noqa: C901, PLR0912, PLR0915 - one line per input
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
                self._ledger.leave(removal, Facts(Source.REALTIME, received_at, committed_at))
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
            case PairsDone():
                self._on_pairs_done(item)
            case ReadFailed():
                self._on_read_failed(item)
            case TimerFired(timer):
                self._on_timer(timer)
            case RefreshAsked(token):
                self._refreshes.append((token, self._step))
                self._catch_up(Source.REFRESH)
            case Background():
                self._on_background()
            case Foreground():
                self._on_foreground()
            case Woke():
                self._on_woke()
            case WriteBegun():
                self._on_write_begun(item)
            case WriteDone():
                self._on_write_done(item)
            case WriteFailed():
                self._on_write_failed(item)
            case Close():
                self._on_close()
            case _:
                assert_never(item)

    # --- status ------------------------------------------------------------------------------------

    def _signal(self, signal: Signal, reason: str | None = None) -> None:
        status = TRANSITIONS.get((self._status, signal))
        if status is None:
            raise LookupError(f"{signal.value!r} can't happen in status {self._status}")
        self._status, self._reason = status, reason

    def _on_start(self) -> None:
        self._signal(Signal.START)
        self._effects.append(OpenFeed())
        self._catch_up(Source.REFETCH)

    def _on_feed_live(self) -> None:
        if self._is_paused:
            return
        if self._status is StoreStatus.POLLING and self._live_since_step is None:
            self._effects.append(Count("reconnects"))
        self._live_since_step = self._step
        self._want(Source.REFETCH)
        self._effects.append(Count("gaps"))

    def _on_feed_lost(self, reason: str) -> None:
        if self._is_paused:
            return
        self._live_since_step = None
        was_polling = self._status is StoreStatus.POLLING
        self._signal(Signal.FEED_LOST, reason)
        self._effects.append(Count("feed_losses"))
        self._watch_age()
        if not was_polling:
            self._want(Source.POLL)

    def _on_close(self) -> None:
        if self._read is not None:
            self._effects.append(CancelRead(self._read.read_id))
            self._read = None
        self._effects.extend(ClearTimer(timer) for timer in Timer)
        self._effects.append(CloseFeed())
        self._signal(Signal.CLOSE)

    # --- background, sleep -------------------------------------------------------------------------

    def _on_background(self) -> None:
        if not self._is_in_background:
            self._is_in_background = True
            delay = self.config.background_delay
            self._effects.append(SetTimer(Timer.BACKGROUND, delay, delay))

    def _pause(self) -> None:
        """Nobody has looked for a while: ask nothing more, but let finish what was asked by name."""
        self._signal(Signal.PAUSE, "in the background")
        self._live_since_step = None
        self._burst_began_at = None
        self._is_backing_off = False  # the timer that would end it is cleared
        self._effects += [ClearTimer(Timer.READ), ClearTimer(Timer.RECONCILE), CloseFeed()]

    def _on_foreground(self) -> None:
        """Somebody looks: the view may be old, whether it was paused or not."""
        self._is_in_background = False
        self._effects.append(ClearTimer(Timer.BACKGROUND))
        if self._is_paused:
            self._signal(Signal.RESUME)
            self._effects.append(OpenFeed())
        self._catch_up(Source.REFRESH)

    def _on_woke(self) -> None:
        """The view is as old as the sleep was long; the feed finds out by itself what that did to it."""
        if not self._is_paused:
            self._effects += [Count("wakes"), Count("gaps")]
            self._abandon_read()  # its connection hardly outlived the sleep
            self._catch_up(Source.REFETCH)

    # --- own writes --------------------------------------------------------------------------------

    def _on_write_begun(self, item: WriteBegun) -> None:
        base = self.tickets.get(item.ticket_id) if self._is_complete else None
        self._overlay.begin(item.token, PendingWrite(item.ticket_id, item.patch, base))
        self._redraw()

    def _on_write_done(self, item: WriteDone) -> None:
        self._overlay.end(item.token)
        self._redraw()
        self._on_row(item.ticket, Facts(Source.OWN_WRITE, item.received_at, item.ticket.updated_at))

    def _on_write_failed(self, item: WriteFailed) -> None:
        write = self._overlay.end(item.token)
        if write is None:
            return
        self._redraw()
        if item.is_conflict and write.base is not None:
            self._conflicts.append((self._step, write))
        if item.is_conflict or not item.is_certain:
            self._doubt(write.ticket_id)

    def _redraw(self) -> None:
        """What is shown changed, whether or not a row did."""
        self._redraws += 1
        self._is_redrawn = self._is_complete

    def _tell_conflicts(self, read: _Read, found: Mapping[UUID, Ticket], received_at: datetime) -> None:
        """The rows that beat an own write are known now."""
        answered = [
            (step, write)
            for step, write in self._conflicts
            if step <= read.began_step and write.ticket_id in read.ticket_ids
        ]
        for conflict in answered:
            self._conflicts.remove(conflict)
            _, write = conflict
            if write.base is None or write.attempted is None:
                continue
            now = found.get(write.ticket_id) or self._ledger.rows.get(write.ticket_id)
            self._effects.append(Count("conflicts"))
            self._ledger.events.append(
                TicketConflicted(
                    ticket=now or write.base,
                    previous=write.base,
                    attempted=write.attempted,
                    source=Source.OWN_WRITE,
                    observed_at=received_at,
                    committed_at=None if now is None else now.updated_at,
                    changes=changes_between(write.base, now),
                    is_in_view=write.ticket_id in self._ledger.rows,
                )
            )

    # --- messages ----------------------------------------------------------------------------------

    def _on_row_changed(self, item: RowChanged) -> None:
        self._on_row(item.ticket, Facts(Source.REALTIME, item.received_at, item.committed_at))

    def _on_row(self, ticket: Ticket, facts: Facts) -> None:
        """A row that is true but may be late: from a message, or from the answer to an own write."""
        if self._ledger.is_doubtful(ticket):
            self._doubt(ticket.id)
        else:
            self._ledger.apply(ticket, facts)
        self._debounce_read()

    def _on_row_deleted(self, item: RowDeleted) -> None:
        facts = Facts(Source.REALTIME, item.received_at, item.committed_at)
        if item.ticket_id in self._ledger.seen:
            self._debounce_read()
        self._ledger.delete(item.ticket_id, facts)

    def _doubt(self, *ticket_ids: UUID) -> None:
        """Ask for these by id."""
        self._work.doubts.update(dict.fromkeys(ticket_ids))

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
                self._read_by_the_clock()
            case Timer.STALE:
                pass  # the status that is reported now says so
            case Timer.BACKGROUND:
                self._pause()
            case _:
                assert_never(timer)

    # --- reads -------------------------------------------------------------------------------------

    def _read_by_the_clock(self) -> None:
        """While all is well, the digest; if it would be due before the next time, that is."""
        is_well = self._status is StoreStatus.LIVE and self._can_sync and not self._failures
        if is_well and self._now + self._interval >= self._proof.due_at:
            self._proof.due_at = self._now
        else:
            self._want(Source.POLL)

    def _want(self, source: Source) -> None:
        """Ask for a complete read, and end the wait after a failure."""
        self._is_backing_off = False
        self._work.sources.add(source)

    def _catch_up(self, source: Source) -> None:
        """A person waits for a read that begins now, not after a comparison that may hang."""
        self._catch_up_step = self._step
        if self._read is not None and self._read.kind in _COMPARISONS:
            self._abandon_read()
        self._want(source)

    def _abandon_read(self) -> None:
        """Begin the read in flight anew, after what is more urgent."""
        read, self._read = self._read, None
        if read is None:
            return
        self._effects.append(CancelRead(read.read_id))
        match read.kind:
            case ReadKind.SYNC | ReadKind.FULL:
                self._work.sources.add(read.source)
            case ReadKind.LOOKUP:
                self._doubt(*read.ticket_ids)
            case ReadKind.PAIRS:
                self._are_pairs_wanted = True
            case ReadKind.DIGEST:
                pass  # it is still due
            case _:
                assert_never(read.kind)

    def _start_next_read(self) -> None:
        """Start what waits, lookups first: they are small, and somebody's alert hangs on them."""
        if self._read is not None or self._is_backing_off or self._is_closed:
            return
        if self._is_paused:
            self._work.sources &= {Source.REFRESH}
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
        elif self._are_pairs_wanted and not self._is_paused:
            self._are_pairs_wanted = False
            self._begin_read(ReadKind.PAIRS, Source.REFETCH)
        elif self._is_proof_due:
            self._begin_read(ReadKind.DIGEST, Source.REFETCH)
            self._effects.append(Count("digests"))

    @property
    def _is_proof_due(self) -> bool:
        may_ask = self._can_sync and self._is_complete and not self._is_paused
        return may_ask and self._now >= self._proof.due_at

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
        self._doubt(*self._ledger.load(item.tickets, read.facts(item.received_at), tracked=False))
        self._finish_read(read)

    def _on_sync_done(self, item: SyncDone) -> None:
        read = self._take_read(item.read_id)
        if read is None or (item.is_snapshot and self._is_suspicious(read, item.upserts)):
            return
        facts = read.facts(item.received_at)
        if item.is_snapshot:
            self._doubt(*self._ledger.load(item.upserts, facts, tracked=True))
            self._effects.append(Count("snapshots"))
        else:
            for ticket in item.upserts:
                self._ledger.apply(ticket, facts)
        for removal in item.removed:
            self._ledger.leave(removal, facts)
        self._cursor = item.cursor
        self._finish_read(read)

    def _is_suspicious(self, read: _Read, rows: tuple[object, ...]) -> bool:
        """Rule 7: a first whole read without a row, where rows were held, is only asked again."""
        if rows or not self._ledger.seen or not self._is_complete or self._saw_empty:
            self._saw_empty = False
            return False
        self._saw_empty = True
        self._cursor = None
        self._work.sources.add(read.source)
        self._effects.append(Count("empty_reads"))
        return True

    def _finish_read(self, read: _Read) -> None:
        """A whole read, or all changes since the cursor, has been applied."""
        if not self._is_complete:
            self._is_complete = self._ledger.is_told = True
            self._proof.postpone(self._now)
            self._is_redrawn = True
        self._judge_proof(read)
        self._ledger.tombstones.prune(self._now)
        if self._catch_up_step is not None and read.began_step >= self._catch_up_step:
            self._catch_up_step = None
        if self._live_since_step is not None and read.began_step >= self._live_since_step:
            self._signal(Signal.VERIFIED)
        self._trust(read)
        self._settling += self._take_refreshes(read)

    def _trust(self, read: _Read) -> None:
        """The view is as of this read, or newer; the clock asks again after its interval."""
        self._failures = 0
        self._failure_reason = None
        self._synced_at = read.began_at
        if not self._is_paused:
            interval, spread = self._interval, self.config.jitter * self._interval
            self._effects.append(SetTimer(Timer.READ, interval - spread, interval + spread))
            self._watch_age()

    def _watch_age(self) -> None:
        """Say it when the last successful read becomes too old for this status."""
        if self._synced_at is not None:
            left = max(0.0, _STALE_AFTER * self._interval - (self._now - self._synced_at))
            self._effects.append(SetTimer(Timer.STALE, left, left))

    def _on_digest_done(self, item: DigestDone) -> None:
        """Rule 11: equal is proof; different calls for what changed since the cursor, which decides."""
        read = self._take_read(item.read_id)
        if read is None:
            return
        is_equal = self._ledger.seen.matches(item.count, item.digest)
        self._proof.looked(is_equal=is_equal, began_step=read.began_step, now=self._now)
        if is_equal:
            self._trust(read)
        else:
            self._want(Source.REFETCH)

    def _judge_proof(self, read: _Read) -> None:
        """A digest differed: either this later read brought changes that explain it, or rows are missing."""
        if read.kind is not ReadKind.SYNC:
            return
        repair = self._proof.judge(self._ledger.changed_step, self._now)
        if repair is None:
            return
        self._effects.append(Count("drift"))
        if repair is Repair.PAIRS:
            self._are_pairs_wanted = True
        else:
            self._cursor = None
            self._want(Source.REFETCH)
            self._effects.append(Count("drift_full"))

    def _on_pairs_done(self, item: PairsDone) -> None:
        """What is missing or older here is asked for by id; what is not visible any more is removed."""
        read = self._take_read(item.read_id)
        if read is None or self._is_suspicious(read, item.pairs):
            return
        for ticket_id, version in item.pairs:
            if version > (self._ledger.seen.version(ticket_id) or 0):
                self._doubt(ticket_id)
        found = {ticket_id for ticket_id, _ in item.pairs}
        facts = read.facts(item.received_at)
        self._doubt(*self._ledger.confirm(found, tuple(self._ledger.seen), facts))

    def _on_lookup_done(self, item: LookupDone) -> None:
        read = self._take_read(item.read_id)
        if read is None:
            return
        self._failures = 0
        facts = read.facts(item.received_at)
        found = {ticket.id: ticket for ticket in item.tickets}
        for ticket in item.tickets:
            self._ledger.apply(ticket, facts)
        self._doubt(*self._ledger.confirm(found.keys(), read.ticket_ids, facts))
        self._tell_conflicts(read, found, item.received_at)

    def _on_read_failed(self, item: ReadFailed) -> None:
        read = self._take_read(item.read_id)
        if read is None:
            return
        if read.kind in _COMPARISONS:
            self._proof.postpone(self._now)
            if read.kind is ReadKind.DIGEST:
                self._want(Source.POLL)  # the clock waits for an answer
            return
        if read.kind is ReadKind.SYNC and isinstance(item.error, SchemaMissingError):
            # The database has only tables and policies; whole reads do the same, slower.
            self._can_sync = self._ledger.tracks_all = False
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
