"""The engine's rules, one test each; no clock, no network."""

from __future__ import annotations

from datetime import UTC, datetime
from itertools import permutations
from typing import TypeVar

import pytest
from tests.builders import ALICE, BOB, make_ticket, ticket_id

from jamestronic_sdk.errors import SchemaMissingError, ServerError, StoreError
from jamestronic_sdk.models import Ticket
from jamestronic_sdk.store.engine import Engine
from jamestronic_sdk.store.events import (
    Certainty,
    Source,
    TicketAssigned,
    TicketConflicted,
    TicketCreated,
    TicketEvent,
    TicketRemoved,
    TicketUnassigned,
    TicketUpdated,
)
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
    Woke,
    WriteBegun,
    WriteDone,
    WriteFailed,
)
from jamestronic_sdk.store.seen import hash_of
from jamestronic_sdk.store.views import View

AT = datetime(2026, 11, 1, 9, 0, tzinfo=UTC)
T = TypeVar("T")


class Bench:
    """An engine on the bench: feeds inputs, remembers what came out."""

    def __init__(self, view: View, *rows: Ticket, config: EngineConfig | None = None) -> None:
        self.engine = Engine(view, config)
        self.now = 0.0
        self.effects: list[Effect] = []
        self.events: list[TicketEvent] = []
        self.feed(Start())
        self.read(*rows)

    def feed(self, item: Input, after: float = 0.0) -> list[Effect]:
        self.now += after
        effects = list(self.engine.handle(item, self.now))
        self.effects += effects
        for effect in effects:
            if isinstance(effect, Publish):
                self.events += effect.events
        return effects

    def row(self, ticket: Ticket, after: float = 0.0) -> list[Effect]:
        return self.feed(RowChanged(ticket, AT), after)

    def all(self, kind: type[T]) -> list[T]:
        return [effect for effect in self.effects if isinstance(effect, kind)]

    @property
    def running(self) -> StartRead:
        """The newest read."""
        return self.all(StartRead)[-1]

    def read(self, *rows: Ticket) -> list[Effect]:
        """Answer the read in flight with the whole view."""
        assert self.running.kind is ReadKind.FULL
        return self.feed(ReadDone(self.running.read_id, rows, AT))

    def look_up(self, *rows: Ticket) -> list[Effect]:
        """Answer the lookup in flight."""
        assert self.running.kind is ReadKind.LOOKUP
        return self.feed(LookupDone(self.running.read_id, rows, AT))

    def poll(self, *rows: Ticket) -> list[Effect]:
        """Let the clock start a read, and answer it."""
        self.feed(TimerFired(Timer.READ), after=1.0)
        return self.read(*rows)

    @property
    def told(self) -> list[tuple[type[TicketEvent], int]]:
        return [(type(event), event.ticket.version) for event in self.events]

    @property
    def held(self) -> dict[int, int]:
        return {ticket.number: ticket.version for ticket in self.engine.tickets.values()}


def mine(version: int = 1, number: int = 1, **columns: object) -> Ticket:
    return make_ticket(number, version, assigned_technician_id=ALICE, **columns)


def bobs(version: int = 1, number: int = 1) -> Ticket:
    return make_ticket(number, version, assigned_technician_id=BOB)


def technician(*rows: Ticket) -> Bench:
    return Bench(View.technician(ALICE), *rows)


def overview(*rows: Ticket) -> Bench:
    return Bench(View.overview(), *rows)


# --- the table of statuses ----------------------------------------------------------------------------


@pytest.mark.parametrize("status", [None, *StoreStatus])
@pytest.mark.parametrize("signal", list(Signal))
def test_every_cell_of_the_status_table(status: StoreStatus | None, signal: Signal) -> None:
    expected = TRANSITIONS.get((status, signal))
    impossible = {
        (None, Signal.VERIFIED),
        (None, Signal.FEED_LOST),
        (None, Signal.PAUSE),
        *((other, Signal.RESUME) for other in (None, *StoreStatus) if other is not StoreStatus.PAUSED),
        *((StoreStatus.PAUSED, other) for other in (Signal.VERIFIED, Signal.FEED_LOST, Signal.PAUSE)),
        *((other, Signal.START) for other in StoreStatus),
        *((StoreStatus.CLOSED, other) for other in Signal),
    }
    assert (expected is None) == ((status, signal) in impossible)
    if expected is not None and signal is Signal.CLOSE:
        assert expected is StoreStatus.CLOSED


def test_starting_twice_is_a_bug_of_the_driver() -> None:
    bench = overview()
    with pytest.raises(LookupError, match="start"):
        bench.feed(Start())


def test_start_opens_the_feed_and_reads_at_once() -> None:
    engine = Engine(View.overview())
    effects = engine.handle(Start(), 0.0)
    assert any(isinstance(effect, OpenFeed) for effect in effects)
    assert any(isinstance(effect, StartRead) for effect in effects)
    assert engine.status is StoreStatus.CONNECTING


# --- rule 1: order is per ticket, by version ----------------------------------------------------------


@pytest.mark.parametrize("order", list(permutations([2, 3, 4])))
def test_messages_in_any_order_and_twice_end_in_the_same_state(order: tuple[int, ...]) -> None:
    bench = technician(mine(1))
    for version in (*order, *order):
        bench.row(mine(version))
    assert bench.held == {1: 4}
    versions = [event.ticket.version for event in bench.events]
    assert versions == sorted(set(versions))


def test_a_stale_read_does_not_undo_a_newer_message() -> None:
    bench = technician(mine(1))
    bench.feed(TimerFired(Timer.READ))
    bench.row(bobs(3))
    bench.read(mine(1))
    assert bench.held == {}
    assert bench.told == [(TicketUnassigned, 3)]


def test_a_leave_with_a_known_version_lets_older_messages_in_no_more() -> None:
    bench = technician(mine(1))
    bench.row(bobs(3))
    bench.row(mine(2))
    assert bench.told == [(TicketUnassigned, 3)]
    assert bench.held == {}


# --- rule 2: told once, from the engine's own before and after -------------------------------------------


def test_a_technicians_day() -> None:
    bench = technician()
    bench.row(mine(2))
    bench.row(mine(3, status="in_progress"))
    bench.row(make_ticket(1, 4))
    assert bench.told == [(TicketAssigned, 2), (TicketUpdated, 3), (TicketUnassigned, 4)]
    assert bench.events[1].changes["status"] == ("open", "in_progress")
    assert [event.source for event in bench.events] == [Source.REALTIME] * 3


def test_an_admins_day() -> None:
    bench = overview()
    bench.row(make_ticket(1, 1))
    bench.row(mine(2))
    bench.row(bobs(3))
    bench.row(make_ticket(1, 4))
    bench.feed(RowDeleted(ticket_id(1), AT))
    assert bench.told == [
        (TicketCreated, 1),
        (TicketAssigned, 2),
        (TicketAssigned, 3),
        (TicketUnassigned, 4),
        (TicketRemoved, 4),
    ]


def test_reads_tell_what_messages_missed_and_nothing_twice() -> None:
    bench = technician(mine(1))
    bench.row(mine(2))
    bench.poll(mine(2), mine(5, number=2))
    assert bench.told == [(TicketUpdated, 2), (TicketAssigned, 5)]
    assert bench.events[-1].source is Source.POLL


# --- rule 3: a message is a hint -------------------------------------------------------------------------


def test_a_burst_of_messages_is_confirmed_by_one_debounced_read() -> None:
    bench = technician()
    for version in range(2, 7):
        effects = bench.row(mine(version), after=0.05)
        assert [effect for effect in effects if isinstance(effect, SetTimer)] == [
            SetTimer(Timer.RECONCILE, 0.1, 0.1)
        ]
    before = len(bench.all(StartRead))
    bench.feed(TimerFired(Timer.RECONCILE), after=0.1)
    assert len(bench.all(StartRead)) == before + 1


def test_a_burst_without_a_pause_is_confirmed_within_the_maximum() -> None:
    bench = technician()
    delays: list[float] = []
    for version in range(2, 20):
        effects = bench.row(mine(version), after=0.08)
        delays += [effect.low for effect in effects if isinstance(effect, SetTimer)]
    assert min(delays) == 0.0


# --- rule 4: live is what the server says, and proven by a read -----------------------------------------


def test_live_only_after_a_read_that_began_when_the_feed_was_live() -> None:
    bench = overview()
    bench.feed(TimerFired(Timer.READ))
    bench.feed(FeedLive())
    bench.read()
    assert bench.engine.status is StoreStatus.CONNECTING
    bench.read()
    assert bench.engine.status is StoreStatus.LIVE


def test_each_further_word_of_the_server_is_a_gap() -> None:
    bench = overview()
    bench.feed(FeedLive())
    bench.read()
    before = len(bench.all(StartRead))
    bench.feed(FeedLive())
    assert len(bench.all(StartRead)) == before + 1
    assert bench.engine.status is StoreStatus.LIVE


def test_feed_lost_polls_at_once_then_by_the_clock_and_recovers() -> None:
    bench = overview(make_ticket(1, 1))
    bench.feed(FeedLive())
    bench.read(make_ticket(1, 1))
    bench.feed(FeedLost("the connection failed"))
    assert bench.engine.status is StoreStatus.POLLING
    effects = bench.read(make_ticket(1, 2))
    assert SetTimer(Timer.READ, 24.0, 36.0) in effects
    assert bench.events[-1].source is Source.POLL
    bench.feed(FeedLost("again"))
    assert bench.engine.reason == "again"
    bench.feed(FeedLive())
    assert bench.engine.status is StoreStatus.POLLING
    bench.read(make_ticket(1, 2))
    assert bench.engine.status is StoreStatus.LIVE
    assert bench.engine.reason is None


# --- rule 5 and 6: absence ------------------------------------------------------------------------------


def test_absence_in_a_read_is_an_inferred_leave() -> None:
    bench = technician(mine(1), mine(1, number=2))
    bench.poll(mine(1, number=2))
    (event,) = bench.events
    assert isinstance(event, TicketUnassigned)
    assert event.certainty is Certainty.INFERRED
    assert event.committed_at is None


def test_a_row_that_came_during_a_read_is_asked_for_by_id_and_stays() -> None:
    bench = technician(mine(1, number=2))
    bench.feed(TimerFired(Timer.READ))
    bench.row(mine(7))
    bench.read(mine(1, number=2))
    assert bench.held == {1: 7, 2: 1}
    assert bench.running.ticket_ids == (ticket_id(1),)
    bench.look_up(mine(7))
    assert bench.held == {1: 7, 2: 1}


def test_a_row_in_doubt_that_is_not_found_is_gone() -> None:
    bench = technician(mine(1, number=2))
    bench.feed(TimerFired(Timer.READ))
    bench.row(mine(7))
    bench.read(mine(1, number=2))
    bench.look_up()
    assert bench.held == {2: 1}
    assert bench.told == [(TicketAssigned, 7), (TicketUnassigned, 7)]


def test_a_late_message_does_not_resurrect_a_row_that_left_by_absence() -> None:
    bench = technician(mine(1), mine(1, number=2))
    bench.poll(mine(1, number=2))
    bench.row(mine(2), after=1.0)
    assert bench.held == {2: 1}
    assert bench.running.ticket_ids == (ticket_id(1),)
    bench.look_up()
    assert bench.held == {2: 1}
    assert bench.told == [(TicketUnassigned, 1)]


def test_a_late_message_out_of_the_view_does_not_end_the_doubt_about_a_leave() -> None:
    """Found by simulation: the absence may be younger than both messages."""
    bench = technician(mine(1), mine(1, number=2))
    bench.poll(mine(1, number=2))
    bench.row(bobs(2), after=1.0)
    bench.row(mine(3))
    assert bench.running.ticket_ids == (ticket_id(1),)
    bench.look_up()
    assert bench.told == [(TicketUnassigned, 1)]


def test_a_real_return_after_a_leave_by_absence_is_told() -> None:
    bench = technician(mine(1), mine(1, number=2))
    bench.poll(mine(1, number=2))
    bench.row(mine(9), after=1.0)
    bench.look_up(mine(9))
    assert bench.told == [(TicketUnassigned, 1), (TicketAssigned, 9)]


def test_a_row_that_is_visible_again_without_a_change_comes_back() -> None:
    bench = technician(mine(1), mine(1, number=2))
    bench.poll(mine(1, number=2))
    bench.poll(mine(1), mine(1, number=2))
    assert bench.held == {1: 1, 2: 1}
    assert bench.told == [(TicketUnassigned, 1), (TicketAssigned, 1)]


def test_a_deleted_row_never_comes_back_by_a_stale_read() -> None:
    bench = overview(make_ticket(1, 1))
    bench.feed(TimerFired(Timer.READ))
    bench.feed(RowDeleted(ticket_id(1), AT))
    bench.read(make_ticket(1, 1))
    assert bench.held == {}


def test_a_delete_of_an_unknown_row_tells_nothing() -> None:
    bench = technician()
    bench.feed(RowDeleted(ticket_id(5), AT))
    assert bench.events == []


# --- rule 7 and 8: reads that can't be believed ---------------------------------------------------------


def test_an_empty_read_is_believed_the_second_time() -> None:
    bench = technician(mine(1))
    bench.poll()
    assert bench.held == {1: 1}
    bench.read()
    assert bench.held == {}
    assert bench.told == [(TicketUnassigned, 1)]


def test_an_empty_read_that_is_not_repeated_changes_nothing() -> None:
    bench = technician(mine(1))
    bench.poll()
    bench.read(mine(1))
    assert bench.events == []


def test_a_failed_read_removes_nothing_and_is_repeated_with_jitter() -> None:
    bench = technician(mine(1))
    for failures in range(1, 9):
        bench.feed(TimerFired(Timer.READ))
        effects = bench.feed(ReadFailed(bench.running.read_id, ServerError("boom")))
        (timer,) = [effect for effect in effects if isinstance(effect, SetTimer)]
        assert (timer.low, timer.high) == (0.0, min(30.0, 0.5 * 2**failures))
    assert bench.held == {1: 1}
    assert bench.events == []


def test_an_error_that_repeating_does_not_cure_waits_long() -> None:
    bench = technician(mine(1))
    bench.feed(TimerFired(Timer.READ))
    effects = bench.feed(ReadFailed(bench.running.read_id, StoreError("no")))
    assert SetTimer(Timer.READ, 15.0, 30.0) in effects


def test_nothing_is_read_while_waiting_after_a_failure_but_a_refresh_is() -> None:
    bench = technician(mine(1))
    bench.feed(TimerFired(Timer.READ))
    bench.feed(ReadFailed(bench.running.read_id, ServerError("boom")))
    before = len(bench.all(StartRead))
    bench.feed(RowDoubtful(ticket_id(9)))
    assert len(bench.all(StartRead)) == before
    bench.feed(RefreshAsked(1))
    assert len(bench.all(StartRead)) == before + 1


def test_reads_never_overlap_and_wishes_meanwhile_are_one_more_read() -> None:
    bench = overview()
    bench.feed(TimerFired(Timer.READ))
    before = len(bench.all(StartRead))
    for _ in range(5):
        bench.feed(TimerFired(Timer.RECONCILE))
        bench.feed(GapFound())
    assert len(bench.all(StartRead)) == before
    bench.read()
    assert len(bench.all(StartRead)) == before + 1
    bench.read()
    assert len(bench.all(StartRead)) == before + 1


def test_the_late_answer_of_an_old_read_is_nobodys() -> None:
    bench = overview(make_ticket(1, 1))
    assert bench.feed(ReadDone(1, (), AT)) == []
    assert bench.held == {1: 1}


# --- rule 9: nothing before the first complete state, nothing after the end -------------------------------


def test_nothing_is_told_before_the_first_complete_read() -> None:
    engine = Engine(View.technician(ALICE))
    (read,) = [effect for effect in engine.handle(Start(), 0.0) if isinstance(effect, StartRead)]
    early = engine.handle(RowChanged(mine(5), AT), 0.1)
    assert not [effect for effect in early if isinstance(effect, Publish)]
    done = engine.handle(ReadDone(read.read_id, (mine(3), mine(1, number=2)), AT), 0.2)
    assert [effect.events for effect in done if isinstance(effect, Publish)] == [()]
    assert {ticket.number: ticket.version for ticket in engine.tickets.values()} == {1: 5, 2: 1}


def test_the_first_state_is_published_even_when_empty() -> None:
    assert Publish(()) in technician().effects


def test_close_releases_everything_and_is_final() -> None:
    bench = overview(make_ticket(1, 1))
    bench.feed(TimerFired(Timer.READ))
    effects = bench.feed(Close())
    assert CancelRead(bench.running.read_id) in effects
    assert CloseFeed() in effects
    assert bench.engine.status is StoreStatus.CLOSED
    for item in (FeedLive(), RowChanged(make_ticket(1, 9), AT), TimerFired(Timer.READ), Start(), Close()):
        assert bench.feed(item) == []


# --- rule 10, refreshes, freshness -----------------------------------------------------------------------


def test_tombstones_are_bounded_by_number_and_age() -> None:
    bench = Bench(View.technician(ALICE), config=EngineConfig(tombstone_limit=10, tombstone_ttl=60))
    for number in range(100):
        bench.row(bobs(1, number=number))
    assert len(bench.engine._ledger.tombstones) == 10
    bench.feed(TimerFired(Timer.READ), after=61.0)
    bench.read()
    assert len(bench.engine._ledger.tombstones) == 0


def test_a_refresh_is_answered_by_a_read_that_began_after_it_was_asked() -> None:
    bench = overview()
    bench.feed(TimerFired(Timer.READ))
    bench.feed(RefreshAsked(7))
    assert not [effect for effect in bench.read() if isinstance(effect, Resolve)]
    assert Resolve(7, None) in bench.read()


def test_a_refresh_waits_for_the_rows_that_its_read_left_in_doubt() -> None:
    bench = technician(mine(1, number=2))
    bench.feed(RefreshAsked(7))
    bench.row(mine(3))
    assert not [effect for effect in bench.read(mine(1, number=2)) if isinstance(effect, Resolve)]
    assert Resolve(7, None) in bench.look_up()
    assert bench.held == {2: 1}


def test_a_refresh_hears_of_its_failure() -> None:
    bench = overview()
    bench.feed(RefreshAsked(7))
    error = ServerError("boom")
    assert Resolve(7, error) in bench.feed(ReadFailed(bench.running.read_id, error))


def test_freshness_says_live_polling_or_stale_with_age_and_reason() -> None:
    bench = overview()
    bench.feed(FeedLive())
    bench.read()
    assert bench.engine.freshness(bench.now + 10).kind is FreshnessKind.LIVE
    assert bench.engine.freshness(bench.now + 91).kind is FreshnessKind.STALE
    bench.feed(FeedLost("cable pulled"))
    fresh = bench.engine.freshness(bench.now + 44)
    assert (fresh.kind, fresh.age, fresh.reason) == (FreshnessKind.POLLING, 44.0, "cable pulled")
    assert bench.engine.freshness(bench.now + 46).kind is FreshnessKind.STALE


# --- rule 11: the change log and the digest -----------------------------------------------------------------


class LogBench(Bench):
    """An engine on a database that has the change log."""

    def __init__(self, view: View, *rows: Ticket, config: EngineConfig | None = None) -> None:
        super().__init__(view, *rows, config=config or EngineConfig(is_sync_wanted=True))

    def read(self, *rows: Ticket) -> list[Effect]:
        """The first read: everything that may be seen."""
        return self.sync(*rows, is_snapshot=True)

    def sync(
        self,
        *upserts: Ticket,
        removed: tuple[Removal, ...] = (),
        is_snapshot: bool = False,
        cursor: str = "c",
    ) -> list[Effect]:
        assert self.running.kind is ReadKind.SYNC
        return self.feed(SyncDone(self.running.read_id, is_snapshot, upserts, removed, cursor, AT))

    def compare(self, *rows: Ticket) -> list[Effect]:
        """Answer the comparison in flight; the proof looks again at once."""
        assert self.running.kind is ReadKind.PAIRS
        pairs = tuple((row.id, row.version) for row in rows)
        return self.feed(PairsDone(self.running.read_id, pairs, AT))

    def answer_digest(self, *rows: Ticket) -> list[Effect]:
        assert self.running.kind is ReadKind.DIGEST
        mixed = 0
        for row in rows:
            mixed ^= hash_of(row.id, row.version)
        return self.feed(DigestDone(self.running.read_id, len(rows), mixed))


def test_a_delta_is_asked_from_the_cursor_of_the_one_before() -> None:
    bench = LogBench(View.technician(ALICE), mine(1))
    bench.feed(TimerFired(Timer.READ))
    assert bench.running.cursor == "c"
    bench.sync(mine(2), cursor="d")
    bench.feed(TimerFired(Timer.READ))
    assert bench.running.cursor == "d"
    assert bench.told == [(TicketUpdated, 2)]


def test_what_a_delta_does_not_mention_stays() -> None:
    bench = LogBench(View.technician(ALICE), mine(1), mine(1, number=2))
    bench.feed(TimerFired(Timer.READ))
    bench.sync()
    assert bench.held == {1: 1, 2: 1}


@pytest.mark.parametrize("is_deleted", [False, True])
def test_the_log_tells_a_leave_with_certainty(is_deleted: bool) -> None:  # noqa: FBT001 - a parameter
    bench = LogBench(View.technician(ALICE), mine(1))
    bench.feed(TimerFired(Timer.READ))
    bench.sync(removed=(Removal(ticket_id(1), 5, is_deleted),))
    (event,) = bench.events
    assert isinstance(event, TicketUnassigned)
    assert event.certainty is Certainty.OBSERVED
    bench.row(mine(4))
    assert bench.held == {}
    bench.row(mine(6))
    assert bench.held == ({} if is_deleted else {1: 6})


def test_a_removal_that_is_older_than_what_is_held_changes_nothing() -> None:
    bench = LogBench(View.technician(ALICE), mine(1))
    bench.feed(TimerFired(Timer.READ))
    bench.row(mine(9))
    bench.sync(removed=(Removal(ticket_id(1), 5, is_deleted=False),))
    assert bench.held == {1: 9}


def test_a_database_without_the_log_is_read_whole_from_then_on() -> None:
    engine = Engine(View.overview(), EngineConfig(is_sync_wanted=True))
    effects = engine.handle(Start(), 0.0)
    (read,) = [effect for effect in effects if isinstance(effect, StartRead)]
    assert (read.kind, read.cursor) == (ReadKind.SYNC, None)
    effects = engine.handle(ReadFailed(read.read_id, SchemaMissingError("no sync_tickets")), 0.1)
    (read,) = [effect for effect in effects if isinstance(effect, StartRead)]
    assert read.kind is ReadKind.FULL
    assert not engine.can_sync
    assert not [effect for effect in effects if isinstance(effect, ReportFailure)]


def test_an_equal_digest_is_proof_and_costs_nothing_more() -> None:
    pool = make_ticket(3, 7)
    bench = LogBench(View.technician(ALICE), mine(1), pool)
    assert bench.held == {1: 1}
    bench.feed(TimerFired(Timer.READ), after=61.0)
    bench.sync()
    before = len(bench.all(StartRead))
    bench.answer_digest(mine(1), pool)
    assert len(bench.all(StartRead)) == before
    assert Count("drift") not in bench.effects


def live_log(*rows: Ticket) -> LogBench:
    """Live, after the read that proves it."""
    bench = LogBench(View.technician(ALICE), *rows)
    bench.feed(FeedLive())
    bench.sync()
    assert bench.engine.status is StoreStatus.LIVE
    return bench


def test_an_idle_live_view_asks_one_digest_for_each_time_of_the_clock() -> None:
    bench = live_log(mine(1))
    before = len(bench.all(StartRead))
    for _ in range(3):
        bench.feed(TimerFired(Timer.READ), after=60.0)
        effects = bench.answer_digest(mine(1))
        assert Timer.READ in [effect.timer for effect in effects if isinstance(effect, SetTimer)]
        assert bench.engine.freshness(bench.now) == Freshness(FreshnessKind.LIVE, 0.0, None)
    assert len(bench.all(StartRead)) == before + 3


def test_a_clock_that_is_quicker_than_the_proof_asks_what_changed() -> None:
    """The digest reads all that may be seen; what changed costs the same for any number of tickets."""
    bench = LogBench(
        View.technician(ALICE), mine(1), config=EngineConfig(is_sync_wanted=True, live_interval=5.0)
    )
    bench.feed(FeedLive())
    bench.sync()
    kinds: list[ReadKind] = []
    for _ in range(12):
        bench.feed(TimerFired(Timer.READ), after=5.0)
        kinds.append(bench.running.kind)
        if bench.running.kind is ReadKind.SYNC:
            bench.sync()
        else:
            bench.answer_digest(mine(1))
    assert kinds.count(ReadKind.DIGEST) == 1


def test_a_digest_that_fails_is_followed_by_the_read_whose_place_it_took() -> None:
    bench = live_log(mine(1))
    bench.feed(TimerFired(Timer.READ), after=60.0)
    bench.feed(ReadFailed(bench.running.read_id, ServerError("no")))
    bench.sync()
    assert bench.engine.freshness(bench.now) == Freshness(FreshnessKind.LIVE, 0.0, None)
    bench.feed(TimerFired(Timer.READ), after=60.0)
    bench.feed(ReadFailed(bench.running.read_id, ServerError("no")))
    effects = bench.feed(ReadFailed(bench.running.read_id, ServerError("no")))
    assert [effect.timer for effect in effects if isinstance(effect, SetTimer)] == [Timer.READ]
    bench.feed(TimerFired(Timer.READ), after=1.0)
    assert bench.running.kind is ReadKind.SYNC
    bench.sync()


def test_a_refresh_does_not_wait_for_a_comparison() -> None:
    """It may hang; the refresh is what somebody waits for."""
    bench = live_log(mine(1))
    bench.feed(TimerFired(Timer.READ), after=60.0)
    digest = bench.running
    effects = bench.feed(RefreshAsked(1))
    assert CancelRead(digest.read_id) in effects
    bench.sync()
    assert Resolve(1, None) in bench.effects
    bench.answer_digest()  # it is still due; and differs, so that versions are compared
    bench.sync()
    pairs = bench.running
    assert pairs.kind is ReadKind.PAIRS
    assert CancelRead(pairs.read_id) in bench.feed(Foreground())
    bench.sync()
    assert bench.running.kind is ReadKind.PAIRS


@pytest.mark.parametrize("kind", [ReadKind.SYNC, ReadKind.LOOKUP, ReadKind.DIGEST])
def test_what_was_under_way_before_a_sleep_is_asked_anew(kind: ReadKind) -> None:
    bench = live_log(mine(1))
    if kind is ReadKind.LOOKUP:
        bench.feed(RowDoubtful(ticket_id(1)))
    else:
        bench.feed(TimerFired(Timer.READ if kind is ReadKind.DIGEST else Timer.RECONCILE), after=60.0)
    before = bench.running
    assert before.kind is kind
    assert CancelRead(before.read_id) in bench.feed(Woke())
    if kind is ReadKind.LOOKUP:
        assert bench.running.ticket_ids == before.ticket_ids
        bench.look_up(mine(1))
    assert bench.running.read_id != before.read_id
    bench.sync()


def test_a_digest_that_the_log_explains_is_no_drift() -> None:
    bench = LogBench(View.technician(ALICE), mine(1))
    bench.feed(TimerFired(Timer.READ), after=61.0)
    bench.sync()
    bench.answer_digest(mine(2))
    bench.sync(mine(2))
    assert Count("drift") not in bench.effects
    bench.answer_digest(mine(2))
    assert bench.engine.is_idle


def test_a_digest_that_nothing_explains_is_mended_by_comparing_versions() -> None:
    """One row left, one came and one changed, and the log told nothing of it."""
    bench = LogBench(View.technician(ALICE), mine(1), mine(1, number=2))
    bench.feed(TimerFired(Timer.READ), after=61.0)
    bench.sync()
    now = (mine(2), mine(1, number=3))
    bench.answer_digest(*now)
    bench.sync()
    bench.compare(*now)
    assert set(bench.running.ticket_ids) == {ticket_id(1), ticket_id(3)}
    bench.look_up(*now)
    assert bench.held == {1: 2, 3: 1}
    bench.answer_digest(*now)
    assert bench.engine.is_idle
    assert Count("drift_full") not in bench.effects


def test_a_comparison_that_fails_waits_for_the_next_proof() -> None:
    bench = LogBench(View.technician(ALICE), mine(1))
    bench.feed(TimerFired(Timer.READ), after=61.0)
    bench.sync()
    bench.answer_digest()
    bench.sync()
    assert bench.running.kind is ReadKind.PAIRS
    bench.feed(ReadFailed(bench.running.read_id, ServerError("no")))
    assert bench.held == {1: 1}
    assert bench.engine.is_idle


def test_a_comparison_without_a_single_row_is_believed_the_second_time() -> None:
    """A token that lets nobody in looks like a person who may see nothing."""
    bench = LogBench(View.technician(ALICE), mine(1))
    bench.feed(TimerFired(Timer.READ), after=61.0)
    bench.sync()
    bench.answer_digest()
    bench.sync()
    bench.compare()
    assert bench.held == {1: 1}
    assert bench.running.cursor is None
    bench.sync(mine(1), is_snapshot=True)
    assert bench.held == {1: 1}
    assert bench.events == []


def test_an_empty_snapshot_is_doubted_also_where_only_rows_outside_the_view_were_seen() -> None:
    bench = LogBench(View.technician(ALICE), make_ticket(1, 1))
    assert bench.held == {}
    bench.feed(TimerFired(Timer.READ))
    bench.sync(is_snapshot=True)
    assert Count("empty_reads") in bench.effects
    bench.sync(make_ticket(1, 1), is_snapshot=True)
    bench.feed(TimerFired(Timer.READ), after=61.0)
    bench.sync()
    bench.answer_digest(make_ticket(1, 1))
    assert bench.engine.is_idle


def test_a_digest_that_pairs_do_not_mend_costs_the_cursor() -> None:
    bench = LogBench(View.technician(ALICE), mine(1), mine(1, number=2))
    bench.feed(TimerFired(Timer.READ), after=61.0)
    bench.sync()
    bench.answer_digest(mine(1))
    bench.sync()
    assert Count("drift") in bench.effects
    bench.compare(mine(1), mine(1, number=2))
    bench.answer_digest(mine(1))
    bench.sync()
    assert Count("drift_full") in bench.effects
    assert bench.running.cursor is None
    bench.sync(mine(1), is_snapshot=True)
    assert bench.held == {1: 1}
    bench.answer_digest(mine(1))
    assert bench.engine.is_idle


def test_a_message_that_a_ticket_was_lost_is_a_leave_at_once() -> None:
    bench = technician(mine(1))
    bench.feed(RowLeft(Removal(ticket_id(1), 5, is_deleted=False), AT))
    (event,) = bench.events
    assert isinstance(event, TicketUnassigned)
    assert (event.certainty, event.source) == (Certainty.OBSERVED, Source.REALTIME)
    bench.row(mine(4))
    assert bench.held == {}


def test_an_older_leave_that_is_told_late_does_not_settle_a_leave_that_was_inferred() -> None:
    bench = Bench(View.technician(ALICE, includes_pool=True), mine(34))
    bench.poll()
    bench.read()
    bench.feed(RowLeft(Removal(ticket_id(1), 33, is_deleted=False), AT))
    bench.row(mine(35))
    assert bench.held == {}
    assert bench.running.ticket_ids == (ticket_id(1),)


def test_a_leave_that_a_message_tells_late_is_not_the_newest_one_for_sure() -> None:
    """Mine, Bob's (40), mine again (41), Bob's (42): a read saw the last state, messages tell the others late."""
    bench = technician(mine(23))
    bench.poll()
    bench.read()
    bench.feed(RowLeft(Removal(ticket_id(1), 40, is_deleted=False), AT))
    bench.row(mine(41))
    assert bench.held == {}
    bench.look_up()
    assert bench.told == [(TicketUnassigned, 23)]


# --- rule 12: own writes ----------------------------------------------------------------------------------


def shown(bench: Bench, number: int = 1) -> str | None:
    row = bench.engine.tickets.get(ticket_id(number))
    return None if row is None else str(row.status)


def test_an_own_write_is_shown_at_once_and_told_by_its_answer() -> None:
    bench = technician(mine(1, status="assigned"))
    effects = bench.feed(WriteBegun(1, ticket_id(1), {"status": "in_progress"}))
    assert Publish(()) in effects
    assert shown(bench) == "in_progress"
    assert bench.engine.pending == {ticket_id(1)}
    assert bench.events == []
    bench.feed(WriteDone(1, mine(2, status="in_progress"), AT))
    assert shown(bench) == "in_progress"
    assert bench.engine.pending == frozenset()
    (event,) = bench.events
    assert isinstance(event, TicketUpdated)
    assert event.source is Source.OWN_WRITE
    assert set(event.changes) == {"status"}


def test_an_own_write_that_realtime_tells_first_is_told_once() -> None:
    bench = technician(mine(1, status="assigned"))
    bench.feed(WriteBegun(1, ticket_id(1), {"status": "in_progress"}))
    bench.row(mine(2, status="in_progress"))
    bench.feed(WriteDone(1, mine(2, status="in_progress"), AT))
    assert bench.told == [(TicketUpdated, 2)]


def test_an_own_write_that_leaves_the_view_is_not_shown() -> None:
    bench = technician(mine(1))
    bench.feed(WriteBegun(1, ticket_id(1), {"assigned_technician_id": None}))
    assert shown(bench) is None
    bench.feed(WriteFailed(1, is_conflict=False, is_certain=True, received_at=AT))
    assert shown(bench) is not None
    assert bench.events == []
    assert bench.engine.is_idle


def test_an_own_write_of_unknown_outcome_is_looked_up() -> None:
    bench = technician(mine(1, status="assigned"))
    bench.feed(WriteBegun(1, ticket_id(1), {"status": "in_progress"}))
    bench.feed(WriteFailed(1, is_conflict=False, is_certain=False, received_at=AT))
    assert shown(bench) == "assigned"
    bench.look_up(mine(2, status="in_progress"))
    assert shown(bench) == "in_progress"


def test_a_conflict_is_told_with_both_rows_once_the_newer_one_is_known() -> None:
    bench = technician(mine(1, status="assigned"))
    bench.feed(WriteBegun(1, ticket_id(1), {"status": "in_progress"}))
    bench.feed(WriteFailed(1, is_conflict=True, is_certain=True, received_at=AT))
    assert shown(bench) == "assigned"
    bench.look_up(mine(2, status="ready"))
    update, conflict = bench.events
    assert isinstance(update, TicketUpdated)
    assert isinstance(conflict, TicketConflicted)
    assert (conflict.ticket.status, conflict.attempted.status) == ("ready", "in_progress")
    assert conflict.previous is not None
    assert conflict.previous.version == 1


def test_a_conflict_about_a_ticket_that_was_lost_says_so() -> None:
    bench = technician(mine(1))
    bench.feed(WriteBegun(1, ticket_id(1), {"status": "in_progress"}))
    bench.feed(WriteFailed(1, is_conflict=True, is_certain=True, received_at=AT))
    bench.look_up()
    leave, conflict = bench.events
    assert isinstance(leave, TicketUnassigned)
    assert isinstance(conflict, TicketConflicted)
    assert not conflict.is_in_view


def test_a_conflict_is_not_told_by_a_lookup_that_began_before_it() -> None:
    bench = technician(mine(1))
    bench.feed(RowDoubtful(ticket_id(1)))
    bench.feed(WriteBegun(1, ticket_id(1), {"status": "in_progress"}))
    bench.feed(WriteFailed(1, is_conflict=True, is_certain=True, received_at=AT))
    bench.look_up(mine(1))
    assert bench.events == []
    bench.look_up(mine(2, status="ready"))
    conflict = bench.events[-1]
    assert isinstance(conflict, TicketConflicted)
    assert conflict.ticket.version == 2


def test_a_pending_write_holds_back_no_other_row_and_lies_over_newer_ones() -> None:
    bench = technician(mine(1, status="assigned"), mine(1, number=2))
    bench.feed(WriteBegun(1, ticket_id(1), {"status": "in_progress"}))
    bench.row(mine(5, number=2))
    bench.row(mine(3, title="New"))
    row = bench.engine.tickets[ticket_id(1)]
    assert (row.version, row.title, row.status) == (3, "New", "in_progress")
    assert bench.told == [(TicketUpdated, 5), (TicketUpdated, 3)]


# --- rule 13: background, sleep ---------------------------------------------------------------------------


def live(*rows: Ticket) -> Bench:
    bench = overview(*rows)
    bench.feed(FeedLive())
    bench.read(*rows)
    assert bench.engine.status is StoreStatus.LIVE
    return bench


def test_a_glance_at_another_app_costs_nothing() -> None:
    bench = live()
    assert SetTimer(Timer.BACKGROUND, 60.0, 60.0) in bench.feed(Background())
    effects = bench.feed(Foreground(), after=10.0)
    assert ClearTimer(Timer.BACKGROUND) in effects
    assert bench.running.kind is ReadKind.FULL
    assert bench.engine.status is StoreStatus.LIVE


def test_the_background_is_counted_from_the_first_word_of_it() -> None:
    """A program that says so again and again is no less in the background."""
    bench = live()
    assert SetTimer(Timer.BACKGROUND, 60.0, 60.0) in bench.feed(Background())
    assert bench.feed(Background(), after=30.0) == []
    bench.feed(Foreground())
    assert SetTimer(Timer.BACKGROUND, 60.0, 60.0) in bench.feed(Background())


def test_in_the_background_nothing_is_asked_and_the_view_is_stale() -> None:
    bench = live(make_ticket(1, 1))
    bench.feed(Background())
    effects = bench.feed(TimerFired(Timer.BACKGROUND), after=60.0)
    assert CloseFeed() in effects
    assert bench.engine.status is StoreStatus.PAUSED
    assert bench.engine.freshness(bench.now).kind is FreshnessKind.STALE
    assert len(bench.engine.tickets) == 1
    for item in (TimerFired(Timer.READ), FeedLost("late"), FeedLive(), GapFound(), Woke(), Background()):
        effects = bench.feed(item, after=100.0)
        assert not [effect for effect in effects if isinstance(effect, StartRead | SetTimer | OpenFeed)]
    assert bench.engine.status is StoreStatus.PAUSED


def test_a_refresh_in_the_background_is_answered() -> None:
    bench = live()
    bench.feed(Background())
    bench.feed(TimerFired(Timer.BACKGROUND), after=60.0)
    bench.feed(RefreshAsked(7))
    assert Resolve(7, None) in bench.read(make_ticket(1, 1))
    assert bench.engine.status is StoreStatus.PAUSED


def test_a_refresh_that_fails_in_the_background_loads_no_longer() -> None:
    bench = live()
    bench.feed(Background())
    bench.feed(TimerFired(Timer.BACKGROUND), after=60.0)
    bench.feed(RefreshAsked(7))
    bench.feed(ReadFailed(bench.running.read_id, ServerError("no")))
    bench.feed(TimerFired(Timer.READ), after=30.0)
    assert not bench.engine.is_loading


def test_a_refresh_that_waits_after_a_failure_is_not_forgotten_in_the_background() -> None:
    bench = live(make_ticket(1, 1))
    bench.feed(Background())
    bench.feed(RowDoubtful(ticket_id(1)), after=59.0)
    bench.feed(RefreshAsked(7))
    bench.feed(ReadFailed(bench.running.read_id, ServerError("no")), after=0.5)
    bench.feed(TimerFired(Timer.BACKGROUND), after=0.5)
    bench.look_up(make_ticket(1, 1))
    assert Resolve(7, None) in bench.read(make_ticket(1, 1))


def test_back_in_the_foreground_the_feed_begins_anew_and_what_was_missed_is_read() -> None:
    bench = live()
    bench.feed(Background())
    bench.feed(TimerFired(Timer.BACKGROUND), after=60.0)
    effects = bench.feed(Foreground(), after=600.0)
    assert OpenFeed() in effects
    assert bench.engine.is_loading
    bench.read(make_ticket(1, 1))
    assert not bench.engine.is_loading
    assert bench.engine.status is StoreStatus.CONNECTING
    bench.feed(FeedLive())
    bench.read(make_ticket(1, 1))
    assert bench.engine.status is StoreStatus.LIVE


def test_after_a_sleep_what_was_missed_is_read_at_once() -> None:
    bench = live()
    bench.feed(Woke(), after=3600.0)
    assert bench.engine.is_loading
    bench.read(make_ticket(1, 1))
    assert not bench.engine.is_loading
    assert bench.held == {1: 1}


# --- what is reported ------------------------------------------------------------------------------------


def test_a_view_whose_reads_stop_is_reported_stale() -> None:
    bench = live()
    bench.effects.clear()
    bench.feed(TimerFired(Timer.STALE), after=90.0)
    (report,) = bench.all(ReportStatus)
    assert report.change.freshness.kind is FreshnessKind.STALE
    assert report.change.status is StoreStatus.LIVE


def test_a_view_that_polls_from_now_on_is_stale_sooner() -> None:
    bench = live(make_ticket(1, 1))
    effects = bench.feed(FeedLost("cut"), after=10.0)
    assert SetTimer(Timer.STALE, 35.0, 35.0) in effects


def test_loading_ends_when_a_read_fails_and_begins_with_its_repetition() -> None:
    engine = Engine(View.overview())
    (start,) = [effect for effect in engine.handle(Start(), 0.0) if isinstance(effect, StartRead)]
    assert engine.is_loading
    engine.handle(ReadFailed(start.read_id, ServerError("no")), 1.0)
    assert not engine.is_loading
    engine.handle(TimerFired(Timer.READ), 2.0)
    assert engine.is_loading


def test_a_status_is_reported_once_and_not_because_it_ages() -> None:
    bench = live(make_ticket(1, 1))
    bench.effects.clear()
    bench.row(make_ticket(1, 2), after=1.0)
    bench.feed(TimerFired(Timer.RECONCILE), after=0.1)
    bench.read(make_ticket(1, 2))
    assert bench.all(ReportStatus) == []


def test_settled_is_what_the_view_knows_or_what_left_since() -> None:
    bench = technician(mine(3))
    assert bench.engine.has_settled(ticket_id(1), 3)
    assert not bench.engine.has_settled(ticket_id(1), 4)
    bench.feed(RowLeft(Removal(ticket_id(1), 5, is_deleted=False), AT))
    assert bench.engine.has_settled(ticket_id(1), 4)
    assert not bench.engine.has_settled(ticket_id(2), 1)
