"""What one event costs the store's own code, without network or database: ``make bench``.

An event is measured from the decoded JSON of a message to ten readers' queues: validation, order, transition,
digest, delivery.
"""

from __future__ import annotations

import gc
import json
import tracemalloc
from datetime import UTC, datetime
from time import perf_counter
from typing import Any

import pytest
from benchmarks._measure import quantile
from benchmarks._table import Table
from pydantic import TypeAdapter
from tests.builders import ALICE, EPOCH, ticket_id

from jamestronic_sdk._clock import SYSTEM_CLOCK
from jamestronic_sdk._telemetry import StoreTelemetry
from jamestronic_sdk.models import Ticket
from jamestronic_sdk.store.audience import Audience
from jamestronic_sdk.store.engine import Engine
from jamestronic_sdk.store.messages import decode
from jamestronic_sdk.store.protocol import (
    Count,
    DigestDone,
    EngineConfig,
    FeedLive,
    Input,
    Publish,
    ReadDone,
    ReadKind,
    ReportStatus,
    RowChanged,
    SetTimer,
    Start,
    StartRead,
    StoreStatus,
    SyncDone,
    Timer,
    TimerFired,
)
from jamestronic_sdk.store.seen import hash_of
from jamestronic_sdk.store.streams import EventStream
from jamestronic_sdk.store.views import View

AT = datetime(2026, 11, 1, 9, 0, tzinfo=UTC)
READERS = 10
EVENTS = 5_000
TICKETS = TypeAdapter(list[Ticket])


def row(number: int, version: int = 1) -> dict[str, Any]:
    """A ticket as the data API and Realtime show it, with every column."""
    return {
        "id": str(ticket_id(number)),
        "number": number,
        "version": version,
        "title": f"Washing machine {number} leaks",
        "description": "Water on the floor after each wash, worse when it is hot.",
        "status": ("assigned", "in_progress", "ready")[version % 3],
        "priority": "normal",
        "customer_id": str(ticket_id(10**9 + number)),
        "assigned_technician_id": str(ALICE),
        "assigned_transporter_id": None,
        "appliance_type": "washing machine",
        "appliance_brand": "Example",
        "appliance_model": "W-28",
        "appliance_serial": f"SN-{number:08}",
        "pickup_address": None,
        "delivery_address": None,
        "scheduled_at": None,
        "created_by": str(ticket_id(2 * 10**9 + number)),
        "created_at": EPOCH.isoformat(),
        "updated_at": EPOCH.isoformat(),
    }


class Bench:
    """An engine that holds so many tickets, and its readers."""

    def __init__(self, total: int) -> None:
        self.total = total
        self.engine = Engine(View.overview())
        self.audience = Audience(self.engine.view, SYSTEM_CLOCK, StoreTelemetry("overview", SYSTEM_CLOCK))
        self.version = 1
        tickets = TICKETS.validate_json(json.dumps([row(number) for number in range(total)]))
        effects = self.engine.handle(Start(), 0.0)
        (read,) = [effect for effect in effects if isinstance(effect, StartRead)]
        self.engine.handle(ReadDone(read.read_id, tuple(tickets), AT), 0.0)
        self.streams: list[EventStream] = [self.audience.add_event_stream(1024) for _ in range(READERS)]

    def events(self, count: int) -> list[float]:
        """Seconds that each took."""
        taken: list[float] = []
        for number in range(count):
            self.version += 1
            data = {
                "type": "UPDATE",
                "record": row(number * 7919 % self.total, self.version),
                "commit_timestamp": "2026-11-01T09:00:00.123Z",
                "errors": None,
            }
            began = perf_counter()
            for effect in self.engine.handle(decode(data, AT), 1.0):
                if isinstance(effect, Publish):
                    self.audience.on_publish(effect.events)
            taken.append(perf_counter() - began)
            for stream in self.streams:
                assert len(stream.take_all()) == 1
        return taken


def test_one_event_costs_the_same_however_many_tickets_there_are() -> None:
    report = Table("store_apply")
    small, large = Bench(10_000), Bench(100_000)
    taken: dict[str, list[float]] = {"10,000": [], "100,000": []}
    gc.collect()
    for _ in range(EVENTS // 500):  # in turns, so that what else the machine does hits both
        taken["10,000"] += small.events(500)
        taken["100,000"] += large.events(500)
    for name, values in taken.items():
        report.most(f"{name} tickets, 10 readers: p50", 1000 * quantile(values, 0.5), "ms", 0.2)
        report.most(f"{name} tickets, 10 readers: p99", 1000 * quantile(values, 0.99), "ms", 2.0)
    ratio = quantile(taken["100,000"], 0.5) / quantile(taken["10,000"], 0.5)
    report.most("100,000 against 10,000 tickets: p50", ratio, "x", 1.5)
    report.least("events per second, one process", len(taken["10,000"]) / sum(taken["10,000"]), "1/s", 5000)
    report.finish()


@pytest.mark.parametrize("total", [20_000])
def test_a_ticket_takes_no_more_memory_than_its_json_as_dicts(total: int) -> None:
    text = json.dumps([row(number) for number in range(total)])
    TICKETS.validate_json(json.dumps([row(0)]))
    gc.collect()
    tracemalloc.start()
    before = tracemalloc.get_traced_memory()[0]
    dicts = json.loads(text)
    gc.collect()
    plain = tracemalloc.get_traced_memory()[0] - before
    del dicts
    gc.collect()
    before = tracemalloc.get_traced_memory()[0]
    engine = Engine(View.overview())
    (read,) = [effect for effect in engine.handle(Start(), 0.0) if isinstance(effect, StartRead)]
    engine.handle(ReadDone(read.read_id, tuple(TICKETS.validate_json(text)), AT), 0.0)
    gc.collect()
    ours = tracemalloc.get_traced_memory()[0] - before
    tracemalloc.stop()
    assert len(engine.tickets) == total
    report = Table("store_memory")
    report.most("a ticket in the store", ours / total, "bytes")
    report.most("its row as a dict", plain / total, "bytes")
    report.most("ratio", ours / plain, "x", 1.3)
    report.finish()


class Simulated:
    """An idle engine and its readers, with a server that answers at once: ten tickets, one change a minute."""

    def __init__(self) -> None:
        self.engine = Engine(View.overview(), EngineConfig(is_sync_wanted=True))
        self.audience = Audience(self.engine.view, SYSTEM_CLOCK, StoreTelemetry("overview", SYSTEM_CLOCK))
        self.stream = self.audience.add_event_stream(1024)
        self.rows = {number: Ticket.model_validate(row(number)) for number in range(10)}
        self.deadlines: dict[Timer, float] = {}
        self.feed(Start(), 0.0)
        self.feed(FeedLive(), 0.0)

    def feed(self, item: Input, now: float) -> None:
        waiting: list[Input] = [item]
        while waiting:
            for effect in self.engine.handle(waiting.pop(), now):
                match effect:
                    case StartRead(read_id=read_id, kind=ReadKind.DIGEST):
                        mixed = 0
                        for one in self.rows.values():
                            mixed ^= hash_of(one.id, one.version)
                        waiting.append(DigestDone(read_id, len(self.rows), mixed))
                    case StartRead(read_id=read_id, cursor=cursor):
                        rows = tuple(self.rows.values()) if cursor is None else ()
                        waiting.append(SyncDone(read_id, cursor is None, rows, (), "cursor", AT))
                    case SetTimer(timer=timer, low=low, high=high):
                        self.deadlines[timer] = now + (low + high) / 2
                    case Publish(events=events):
                        self.audience.on_publish(events)
                    case ReportStatus(change=change):
                        self.audience.on_status(change)
                    case Count(metric=metric, amount=amount):
                        self.audience.on_count(metric, amount)
                    case _:
                        pass

    def minute(self, now: float, version: int) -> None:
        number = version % 10
        self.rows[number] = Ticket.model_validate(row(number, version))
        self.feed(RowChanged(self.rows[number], AT, AT), now)
        for timer, deadline in tuple(self.deadlines.items()):
            if deadline <= now + 60 and timer is not Timer.STALE:
                del self.deadlines[timer]
                self.feed(TimerFired(timer), max(now, deadline))
        self.stream.take_all()


def test_idle_stores_do_not_grow_in_an_hour() -> None:
    stores = [Simulated() for _ in range(100)]
    held: list[int] = []
    tracemalloc.start()
    for minute in range(1, 91):
        for store in stores:
            store.minute(60.0 * minute, 1 + minute)
        if minute % 30 == 0:
            gc.collect()
            held.append(tracemalloc.get_traced_memory()[0])
    tracemalloc.stop()
    assert all(store.engine.status is StoreStatus.LIVE for store in stores)
    report = Table("store_hour")
    report.most("memory after 90 against 30 simulated minutes", held[2] / held[0], "x", 1.25)
    report.most("memory after 90 against 60 simulated minutes", held[2] / held[1], "x", 1.15)
    report.finish()
