"""A simulated server, network and clock around the real engine: one seed, one replayable history.

The world owns all order: one heap of moments, one seeded source of chance. It models what the references
say of the services: messages at most once, judged by row level security when they are read; a DELETE for
everybody; reads of several pages, each as of its own moment; an empty 200; a feed that says again that it
replicates after having lost changes in silence.
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
from jamestronic_sdk.store.events import Source, TicketEvent
from jamestronic_sdk.store.protocol import (
    CancelRead,
    ClearTimer,
    Count,
    DigestDone,
    Effect,
    EngineConfig,
    FeedLive,
    FeedLost,
    Input,
    LookupDone,
    OpenFeed,
    Publish,
    ReadDone,
    ReadFailed,
    ReadKind,
    Removal,
    ReportStatus,
    RowChanged,
    RowDeleted,
    RowDoubtful,
    SetTimer,
    Start,
    StartRead,
    StoreStatus,
    SyncDone,
    Timer,
    TimerFired,
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

    def perform(self, effect: Effect) -> None:
        match effect:
            case StartRead():
                assert not self.reads_in_flight, "two reads at once"
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
                self.connect()
            case Publish(events):
                self.publish(events)
            case Count(metric, amount):
                self.counts[metric] += amount
            case ReportStatus(StoreStatus.LIVE):
                assert self.proven_at >= self.live_told_at, "live without a read that began afterwards"
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
        if key in self.deleted:
            return
        self.version += 1
        before = self.rows.get(key)
        if before is not None and self.rng.random() < 0.06:
            del self.rows[key]
            self.log.append((key, self.version, before, None))
            self.deleted.add(key)
            self.announce(lambda: RowDeleted(key, self.wall()))
            return
        self.rows[key] = make_ticket(
            number,
            self.version,
            assigned_technician_id=self.rng.choice(PEOPLE),
            status=self.rng.choice(["assigned", "in_progress", "ready"]),
        )
        row = self.rows[key]
        self.log.append((key, self.version, before, row))
        self.announce(lambda: self.tell_changed(row))

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
        self.is_feed_up = False
        self.connection += 1
        self.later(self.rng.uniform(0, 20.0), self.notice)

    def notice(self) -> None:
        self.feed(FeedLost("cut"))
        self.later(self.rng.uniform(0, 10.0), self.connect)

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
            if not is_snapshot:
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

    def read(self, effect: StartRead) -> None:
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
        began_at = self.now
        pages: list[list[Ticket]] = []
        versions: dict[UUID, int] = {}
        first_page, second_page = self.rng.uniform(0.001, 0.5), self.rng.uniform(0.5, 1.5)
        is_empty = False
        if effect.kind is ReadKind.FULL:
            # Two empty answers in a row are more than the engine promises to see through.
            is_empty = not self.was_empty and self.chance(self.faults.false_empty)

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
        self.run(at + 0.001)
        self.calm = True
        self.run(at + 400.0)
        self.check()

    def check(self) -> None:
        held = {key: row.version for key, row in self.engine.tickets.items()}
        assert self.engine.can_sync is self.has_change_log
        assert self.counts["drift"] == 0, "the digest found what the change log had missed"
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
