"""A simulated server, network and clock around the real engine: one seed, one replayable history.

The world owns all order: one heap of moments, one seeded source of chance. It models what the references
say of the services: messages at most once, judged by row level security when they are read; a DELETE for
everybody; private topics that tell of a leave; transactions that commit later than they began; reads of
several pages, each as of its own moment; an empty 200 of any kind of whole read; a feed that says again that it replicates after having
lost changes in silence; a change log that forgets. And of the program: own writes that succeed, come too late, or
whose answers get lost; a phone that is put away, taken out again, or sleeps.
"""

from __future__ import annotations

import heapq
import random
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from uuid import UUID

from tests.builders import ALICE, BOB, make_ticket, ticket_id

from jamestronic_sdk.errors import JamesTronicError, SchemaMissingError, ServerError
from jamestronic_sdk.models import Ticket
from jamestronic_sdk.store.engine import Engine
from jamestronic_sdk.store.events import Source, TicketConflicted, TicketEvent
from jamestronic_sdk.store.protocol import (
    Background,
    CancelRead,
    ClearTimer,
    CloseFeed,
    Count,
    DigestDone,
    Effect,
    EngineConfig,
    FeedLive,
    FeedLost,
    Foreground,
    Input,
    LookupDone,
    OpenFeed,
    PairsDone,
    Publish,
    ReadDone,
    ReadFailed,
    ReadKind,
    Removal,
    ReportStatus,
    RowChanged,
    RowDeleted,
    RowDoubtful,
    RowLeft,
    SetTimer,
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
from jamestronic_sdk.store.views import View, ViewKind

BEGIN = datetime(2026, 11, 1, tzinfo=UTC)
PEOPLE = (ALICE, BOB, None)


@dataclass
class Faults:
    """How often things go wrong, as probabilities."""

    drop: float = 0.05
    duplicate: float = 0.1
    partial: float = 0.05
    read_failure: float = 0.1
    false_empty: float = 0.05
    cut: float = 0.02
    silent_gap: float = 0.02
    slow: float = 0.1
    reset: float = 0.03
    late_commit: float = 0.15
    own_write: float = 0.15
    lost_answer: float = 0.2
    put_away: float = 0.02
    sleep: float = 0.01
    forget: float = 0.0
    """The change log lacks an entry: only the digest can tell."""


@dataclass
class World:
    """One history."""

    seed: int
    view: View
    writes: int = 60
    faults: Faults = field(default_factory=Faults)
    engine_type: type[Engine] = Engine
    has_change_log: bool = True

    def __post_init__(self) -> None:
        self.rng = random.Random(self.seed)  # noqa: S311 - a simulation
        self.now = 0.0
        self.log: list[tuple[UUID, int, Ticket | None, Ticket | None]] = []
        """The change log: id, version, the row before and after."""
        self.counts: Counter[str] = Counter()
        self.heap: list[tuple[float, int, Callable[[], None]]] = []
        self.order = 0
        self.rows: dict[UUID, Ticket] = {}
        self.deleted: set[UUID] = set()
        self.version = 0
        self.engine = self.engine_type(self.view, EngineConfig(is_sync_wanted=True))
        self.timers: dict[Timer, int] = {}
        self.reads_in_flight: set[int] = set()
        self.connection = 0
        self.is_feed_open = False
        self.status = StoreStatus.CONNECTING
        self.locked: set[UUID] = set()
        self.tokens = 0
        self.conflicts_due: list[UUID] = []
        self.conflicts: list[UUID] = []
        self.is_feed_up = False
        self.is_deaf = False
        self.wire_free_at = 0.0
        self.live_told_at = 0.0
        self.proven_at = -1.0
        self.was_empty = False
        self.calm = False
        self.page_versions: dict[UUID, int] = {}
        """The versions that the read which is being answered found, hidden rows included."""
        self.seen_gone: dict[UUID, int] = {}
        self.told_deleted: set[UUID] = set()
        self.first: dict[UUID, int] | None = None
        self.events: list[TicketEvent] = []

    # --- time --------------------------------------------------------------------------------------

    def later(self, delay: float, action: Callable[[], None]) -> None:
        self.order += 1
        heapq.heappush(self.heap, (self.now + delay, self.order, action))

    def run(self, until: float) -> None:
        while self.heap and self.heap[0][0] <= until:
            self.now, _, action = heapq.heappop(self.heap)
            action()
        self.now = until

    def chance(self, probability: float) -> bool:
        return not self.calm and self.rng.random() < probability

    def wall(self) -> datetime:
        return BEGIN + timedelta(seconds=self.now)

    # --- the engine's side --------------------------------------------------------------------------

    def feed(self, item: Input) -> None:
        for effect in self.engine.handle(item, self.now):
            self.perform(effect)

    def perform(self, effect: Effect) -> None:  # noqa: C901 - one case per effect
        match effect:
            case StartRead():
                assert not self.reads_in_flight, "two reads at once"
                may_ask = effect.kind is ReadKind.LOOKUP or self.engine.status is not StoreStatus.PAUSED
                assert may_ask or self.engine.is_loading, "asked in the background"
                self.reads_in_flight.add(effect.read_id)
                self.read(effect)
            case CancelRead(read_id):
                self.reads_in_flight.discard(read_id)
            case SetTimer(timer, low, high):
                generation = self.timers.get(timer, 0) + 1
                self.timers[timer] = generation
                self.later(self.rng.uniform(low, high), lambda: self.fire(timer, generation))
            case ClearTimer(timer):
                self.timers[timer] = self.timers.get(timer, 0) + 1
            case OpenFeed():
                self.is_feed_open = True
                self.connect()
            case CloseFeed():
                self.is_feed_open = self.is_feed_up = False
                self.connection += 1
            case Publish(events):
                self.publish(events)
            case Count(metric, amount):
                self.counts[metric] += amount
            case ReportStatus(change):
                if change.status is StoreStatus.LIVE and self.status is not StoreStatus.LIVE:
                    assert self.is_feed_open, "live without a feed"
                    assert self.proven_at >= self.live_told_at, "live without a read that began afterwards"
                self.status = change.status
            case _:
                pass

    def fire(self, timer: Timer, generation: int) -> None:
        if self.timers[timer] == generation:
            self.feed(TimerFired(timer))

    def publish(self, events: tuple[TicketEvent, ...]) -> None:
        if self.first is None:
            assert events == (), "told before the first complete state"
            self.first = {key: row.version for key, row in self.engine.tickets.items()}
        for event in events:
            if isinstance(event, TicketConflicted):
                self.conflicts.append(event.ticket.id)
                continue
            self.events.append(event)
            if not event.is_in_view:
                self.check_leave(event)
            else:
                assert self.view.contains(event.ticket), f"not in this view: {event}"
                if event.previous is None:
                    self.check_enter(event)

    def check_enter(self, event: TicketEvent) -> None:
        """No phantom: what was seen gone does not come back by something older."""
        key = event.ticket.id
        assert key not in self.told_deleted, f"came back after its deletion: {event}"
        assert event.ticket.version >= self.seen_gone.get(key, 0), f"came back by an older state: {event}"

    def check_leave(self, event: TicketEvent) -> None:
        """C4: nothing leaves while the database still says what the view held."""
        row = self.rows.get(event.ticket.id)
        assert event.previous is not None
        if event.source is not Source.REALTIME:
            self.seen_gone[event.ticket.id] = self.page_versions.get(event.ticket.id, 0)
        still_there = row is not None and row.version == event.previous.version and self.view.contains(row)
        assert not still_there, f"removed without evidence: {event}"

    def sleep(self) -> None:
        """The machine was suspended: the socket is given up, in this order or the other."""
        steps = [lambda: self.feed(Woke()), self.give_up]
        self.rng.shuffle(steps)
        for step in steps:
            step()

    def give_up(self) -> None:
        if self.is_feed_open:
            self.is_feed_up = False
            self.connection += 1
            self.notice(self.connection)

    # --- the server's side ----------------------------------------------------------------------------

    def is_visible(self, row: Ticket) -> bool:
        """Row level security, as tickets_read_technician_assigned has it."""
        if self.view.kind is ViewKind.OVERVIEW:
            return True
        return row.assigned_technician_id in {ALICE, None}

    def truth(self) -> dict[UUID, int]:
        return {
            key: row.version
            for key, row in self.rows.items()
            if self.is_visible(row) and self.view.contains(row)
        }

    def write(self) -> None:
        number = self.rng.randrange(1, 9)
        key = ticket_id(number)
        if key in self.deleted or key in self.locked:
            return
        is_delete = key in self.rows and self.rng.random() < 0.06
        row = None if is_delete else self.new_row(number)
        self.commit(key, row)

    def new_row(self, number: int) -> Ticket:
        """The row lock is held, the version is taken; the commit may come later."""
        self.version += 1
        return make_ticket(
            number,
            self.version,
            assigned_technician_id=self.rng.choice(PEOPLE),
            status=self.rng.choice(["assigned", "in_progress", "ready"]),
        )

    def commit(self, key: UUID, row: Ticket | None) -> None:
        if not self.chance(self.faults.late_commit):
            self.commit_now(key, row)
            return
        self.locked.add(key)

        def later() -> None:
            self.locked.remove(key)
            self.commit_now(key, row)

        self.later(self.rng.uniform(0.1, 3.0), later)

    def commit_now(self, key: UUID, row: Ticket | None) -> None:
        before = self.rows.get(key)
        if row is None:
            del self.rows[key]
            self.deleted.add(key)
            self.version += 1
            version = self.version
            self.announce(lambda: RowDeleted(key, self.wall()))
        else:
            self.rows[key] = row
            version = row.version
            self.announce(lambda: self.tell_changed(row))
            if before is not None and self.is_visible(before) and not self.is_visible(row):
                self.announce(lambda: RowLeft(Removal(key, version, is_deleted=False), self.wall()))
        if not self.chance(self.faults.forget):
            self.log.append((key, version, before, row))

    # --- the program's side ---------------------------------------------------------------------------

    def write_through(self) -> None:
        """An own write: shown at once, then done, refused, or nobody knows."""
        self.tokens += 1
        token, key = self.tokens, ticket_id(self.rng.randrange(1, 9))
        shown = None if self.first is None else self.engine.tickets.get(key)
        # Nobody sees what the other side has of a ticket that is not in the view.
        patch = {} if shown is None else {"status": "waiting_parts"}
        self.feed(WriteBegun(token, key, patch))
        if shown is not None:
            assert self.engine.tickets[key].status == "waiting_parts", "an own write is not shown"

        def arrive() -> None:
            now = self.rows.get(key)
            is_late = shown is None or now is None or now.version != shown.version or key in self.locked
            row = None
            if not is_late:
                self.version += 1
                row = now.model_copy(update={"status": "waiting_parts", "version": self.version})
                self.commit_now(key, row)
            is_lost = self.chance(self.faults.lost_answer)
            self.later(self.rng.uniform(0.001, 1.0), lambda: answer(row, is_lost=is_lost))

        def answer(row: Ticket | None, *, is_lost: bool) -> None:
            if is_lost:
                self.feed(WriteFailed(token, is_conflict=False, is_certain=False, received_at=self.wall()))
            elif row is None:
                if shown is not None:
                    self.conflicts_due.append(key)
                self.feed(WriteFailed(token, is_conflict=True, is_certain=True, received_at=self.wall()))
            else:
                self.feed(WriteDone(token, row, self.wall()))

        self.later(self.rng.uniform(0.001, 1.0), arrive)

    def put_away(self) -> None:
        self.feed(Background())
        self.later(self.rng.uniform(1.0, 120.0), self.take_out)

    def take_out(self) -> None:
        self.feed(Foreground())
        assert self.engine.is_loading or self.engine._is_backing_off

    def announce(self, tell: Callable[[], Input | None]) -> None:
        """A message to the connection that is up now: polled, judged, sent; or lost on the way."""
        if not self.is_feed_up or self.is_deaf or self.chance(self.faults.drop):
            return
        connection = self.connection

        def poll() -> None:
            item = tell()
            if connection != self.connection or item is None:
                return
            # One socket keeps the order, however slow the network is just now.
            slow = self.rng.uniform(1.0, 5.0) if self.chance(self.faults.slow) else 0.0
            self.wire_free_at = max(self.wire_free_at, self.now + slow + self.rng.uniform(0.001, 0.1))
            self.later(
                self.wire_free_at - self.now, lambda: connection == self.connection and self.deliver(item)
            )

        for _ in range(2 if self.chance(self.faults.duplicate) else 1):
            self.later(self.rng.uniform(0.002, 0.5), poll)

    def tell_changed(self, row: Ticket) -> Input | None:
        """Row level security looks at the row as it is now, the message shows it as it was."""
        current = self.rows.get(row.id)
        if current is None or not self.is_visible(current):
            return None
        return RowDoubtful(row.id) if self.chance(self.faults.partial) else RowChanged(row, self.wall())

    def deliver(self, item: Input) -> None:
        if isinstance(item, RowDeleted):
            self.told_deleted.add(item.ticket_id)
        self.feed(item)

    # --- the feed -------------------------------------------------------------------------------------

    def connect(self) -> None:
        if not self.is_feed_open:
            return
        self.connection += 1
        connection = self.connection

        def live() -> None:
            if connection == self.connection:
                self.is_feed_up, self.is_deaf = True, False
                self.later(
                    self.rng.uniform(0, 0.1), lambda: connection == self.connection and self.tell_live()
                )

        self.later(self.rng.uniform(0.01, 3.0), live)

    def tell_live(self) -> None:
        self.live_told_at = self.now
        self.feed(FeedLive())

    def cut(self) -> None:
        """The socket is gone at once; the client notices later, and comes back by itself."""
        if not self.is_feed_open:
            return
        self.is_feed_up = False
        self.connection += 1
        connection = self.connection
        self.later(self.rng.uniform(0, 20.0), lambda: self.notice(connection))

    def notice(self, connection: int) -> None:
        if connection != self.connection:
            return
        self.feed(FeedLost("cut"))
        self.later(self.rng.uniform(0, 10.0), lambda: connection == self.connection and self.connect())

    def lose_silently(self) -> None:
        """The server's slot dies: changes are lost, then it says again that it replicates."""
        if not self.is_feed_up:
            return
        connection, self.is_deaf = self.connection, True

        def again() -> None:
            if connection == self.connection:
                self.is_deaf = False
                self.tell_live()

        self.later(self.rng.uniform(0.1, 5.0), again)

    # --- reads ----------------------------------------------------------------------------------------

    def sync(self, effect: StartRead) -> None:
        """``sync_tickets``: one statement, so one moment; the answer takes its time."""
        began_at = self.now

        def statement() -> None:
            here = len(self.log)
            is_snapshot = effect.cursor is None or self.chance(self.faults.reset)
            visible = {key: row for key, row in self.rows.items() if self.is_visible(row)}
            versions = {key: row.version for key, row in self.rows.items()}
            upserts, removed = tuple(visible.values()), ()
            if is_snapshot:
                upserts = () if self.is_emptied() else upserts
                self.was_empty = not upserts
            else:
                assert effect.cursor is not None
                upserts, removed = self.changes(int(effect.cursor), here, visible)
            done = SyncDone(effect.read_id, is_snapshot, upserts, removed, str(here), self.wall())
            self.later(self.rng.uniform(0.001, 1.5), lambda: answer(done, versions))

        def answer(done: SyncDone, versions: dict[UUID, int]) -> None:
            self.reads_in_flight.discard(effect.read_id)
            self.page_versions = versions
            self.proven_at = began_at
            self.feed(done)

        self.later(self.rng.uniform(0.001, 0.5), statement)

    def changes(
        self, since: int, until: int, visible: dict[UUID, Ticket]
    ) -> tuple[tuple[Ticket, ...], tuple[Removal, ...]]:
        """The rows to look at that may be seen, and those that concerned the viewer and may not."""
        concerned: dict[UUID, Removal] = {}
        for key, version, before, after in self.log[since:until]:
            if any(row is not None and self.is_visible(row) for row in (before, after)):
                concerned[key] = Removal(key, version, after is None)
        return (
            tuple(visible[key] for key in concerned if key in visible),
            tuple(removal for key, removal in concerned.items() if key not in visible),
        )

    def digest(self, effect: StartRead) -> None:
        def statement() -> None:
            seen = [row for row in self.rows.values() if self.is_visible(row)]
            mixed = 0
            for row in seen:
                mixed ^= hash_of(row.id, row.version)
            self.later(self.rng.uniform(0.001, 0.5), lambda: answer(len(seen), mixed))

        def answer(count: int, mixed: int) -> None:
            self.reads_in_flight.discard(effect.read_id)
            self.feed(DigestDone(effect.read_id, count, mixed))

        self.later(self.rng.uniform(0.001, 0.5), statement)

    def pairs(self, effect: StartRead) -> None:
        """Page by page, as a whole read."""
        found: list[tuple[UUID, int]] = []
        versions: dict[UUID, int] = {}

        def page(numbers: range) -> None:
            wanted = [self.rows[key] for number in numbers if (key := ticket_id(number)) in self.rows]
            versions.update({row.id: row.version for row in wanted})
            found.extend((row.id, row.version) for row in wanted if self.is_visible(row))

        def answer() -> None:
            self.reads_in_flight.discard(effect.read_id)
            self.page_versions = versions
            shown = () if self.is_emptied() else tuple(found)
            self.was_empty = not shown
            self.feed(PairsDone(effect.read_id, shown, self.wall()))

        self.later(0.2, lambda: page(range(1, 5)))
        self.later(self.rng.uniform(0.2, 1.0), lambda: page(range(5, 9)))
        self.later(self.rng.uniform(1.0, 2.0), answer)

    def read(self, effect: StartRead) -> None:  # noqa: C901 - one case per kind
        if self.chance(self.faults.read_failure):
            self.later(self.rng.uniform(0, 2.0), lambda: self.fail(effect))
            return
        if effect.kind is ReadKind.SYNC and not self.has_change_log:
            self.later(0.01, lambda: self.fail(effect, SchemaMissingError("no sync_tickets")))
            return
        if effect.kind is ReadKind.SYNC:
            self.sync(effect)
            return
        if effect.kind is ReadKind.DIGEST:
            self.digest(effect)
            return
        if effect.kind is ReadKind.PAIRS:
            self.pairs(effect)
            return
        began_at = self.now
        pages: list[list[Ticket]] = []
        versions: dict[UUID, int] = {}
        first_page, second_page = self.rng.uniform(0.001, 0.5), self.rng.uniform(0.5, 1.5)
        is_empty = False
        if effect.kind is ReadKind.FULL:
            is_empty = self.is_emptied()

        def page(numbers: range) -> None:
            wanted = [self.rows[key] for number in numbers if (key := ticket_id(number)) in self.rows]
            versions.update({row.id: row.version for row in wanted})
            seen = [row for row in wanted if self.is_visible(row)]
            if effect.kind is ReadKind.FULL:
                pages.append([row for row in seen if self.view.contains(row)])
            else:
                pages.append([row for row in seen if row.id in effect.ticket_ids])

        def answer() -> None:
            self.reads_in_flight.discard(effect.read_id)
            self.page_versions = versions
            if effect.kind is ReadKind.FULL:
                rows = () if is_empty else tuple(row for rows in pages for row in rows)
                self.was_empty = not rows
                self.proven_at = began_at
                self.feed(ReadDone(effect.read_id, rows, self.wall()))
            else:
                rows = tuple(row for rows in pages for row in rows)
                self.feed(LookupDone(effect.read_id, rows, self.wall()))

        self.later(first_page, lambda: page(range(1, 5)))
        self.later(second_page, lambda: page(range(5, 9)))
        self.later(second_page + self.rng.uniform(0.001, 1.0), answer)

    def is_emptied(self) -> bool:
        """A token that lets nobody in; two such answers in a row are more than the engine promises to see."""
        return not self.was_empty and self.chance(self.faults.false_empty)

    def fail(self, effect: StartRead, error: JamesTronicError | None = None) -> None:
        self.reads_in_flight.discard(effect.read_id)
        self.feed(ReadFailed(effect.read_id, error or ServerError("simulated")))

    # --- a whole history ------------------------------------------------------------------------------

    def play(self) -> None:
        """Writes and faults for a while, then calm, then the comparison with the database."""
        self.feed(Start())
        at = 0.0
        for _ in range(self.writes):
            at += self.rng.expovariate(1.0)
            self.later(at, self.write)
            if self.rng.random() < self.faults.cut:
                self.later(at, self.cut)
            if self.rng.random() < self.faults.silent_gap:
                self.later(at, self.lose_silently)
            if self.rng.random() < self.faults.own_write:
                self.later(at, self.write_through)
            if self.rng.random() < self.faults.put_away:
                self.later(at, self.put_away)
            if self.rng.random() < self.faults.sleep:
                self.later(at, self.sleep)
        self.run(at + 0.001)
        self.calm = True
        self.run(at + 400.0)
        self.check()

    def check(self) -> None:
        held = {key: row.version for key, row in self.engine.tickets.items()}
        assert self.engine.can_sync is self.has_change_log
        if not self.faults.forget:
            assert self.counts["drift"] == 0, "the digest found what the change log had missed"
        assert self.engine.status is StoreStatus.LIVE, "not live again"
        assert not self.engine.pending, "an own write is shown for ever"
        assert sorted(self.conflicts) == sorted(self.conflicts_due), "a conflict was not told, or twice"
        assert held == self.truth(), "C1: the view differs from the database"
        assert self.first is not None
        replayed = dict(self.first)
        seen = dict(self.first)
        for event in self.events:
            key, version = event.ticket.id, event.ticket.version
            if event.is_in_view:
                if key in replayed:
                    assert event.previous is not None, "C3: entered twice"
                    assert version > replayed[key], "C2: an older state after a newer one"
                else:
                    assert event.previous is None, "C3: changed before it entered"
                    assert version >= seen.get(key, 0), "C2: an older state after a newer one"
                replayed[key] = version
            else:
                assert replayed.pop(key, None) is not None, "C3: left twice"
            seen[key] = max(version, seen.get(key, 0))
        assert replayed == held, "the replayed events differ from the view"
