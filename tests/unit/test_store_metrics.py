"""What a store counts, and that it forgets."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from tests.builders import make_ticket

from jamestronic_sdk.store.events import Source, TicketUpdated
from jamestronic_sdk.store.metrics import LATENCY_WINDOW, StoreMetrics

AT = datetime(2026, 11, 1, 9, 0, tzinfo=UTC)


def told(source: Source, late: float) -> TicketUpdated:
    return TicketUpdated(
        ticket=make_ticket(1, 2),
        previous=make_ticket(1, 1),
        source=source,
        observed_at=AT + timedelta(seconds=late),
        committed_at=AT,
    )


def test_latencies_are_kept_by_source_and_summed_up() -> None:
    metrics = StoreMetrics()
    for number in range(1, 101):
        metrics.record(told(Source.REALTIME, number / 100))
    metrics.record(told(Source.POLL, 15.0))
    realtime = metrics.latencies[Source.REALTIME]
    assert (realtime.count, realtime.p50, realtime.p95, realtime.p99) == (100, 0.51, 0.95, 0.99)
    assert (realtime.worst, metrics.latencies[Source.POLL].worst) == (1.0, 15.0)
    assert metrics.events["TicketUpdated", Source.REALTIME] == 100


def test_memory_is_bounded() -> None:
    metrics = StoreMetrics()
    for number in range(LATENCY_WINDOW + 10):
        metrics.record(told(Source.REALTIME, number))
        metrics.measure("apply", number)
    assert metrics.latencies[Source.REALTIME].count == LATENCY_WINDOW
    assert metrics.durations["apply"].count == LATENCY_WINDOW


def test_the_share_of_realtime_leaves_own_writes_out() -> None:
    metrics = StoreMetrics()
    assert metrics.realtime_share is None
    metrics.record(told(Source.OWN_WRITE, 0.1))
    assert metrics.realtime_share is None
    metrics.record(told(Source.REALTIME, 0.1))
    metrics.record(told(Source.REALTIME, 0.1))
    metrics.record(told(Source.POLL, 0.1))
    metrics.record(told(Source.REFETCH, 0.1))
    assert metrics.realtime_share == 0.5
