"""The report over a store's metrics."""

from __future__ import annotations

import json
from dataclasses import asdict
from datetime import UTC, datetime, timedelta

from tests.builders import make_ticket

from jamestronic_sdk.store.events import Source, TicketAssigned, TicketEvent, TicketUpdated
from jamestronic_sdk.store.metrics import LatencySummary, StoreMetrics
from jamestronic_sdk.store.report import figures, report

COMMITTED = datetime(2026, 1, 1, tzinfo=UTC)


def event(kind: type[TicketEvent], source: Source, latency: float) -> TicketEvent:
    return kind(
        ticket=make_ticket(),
        source=source,
        observed_at=COMMITTED + timedelta(seconds=latency),
        committed_at=COMMITTED,
    )


def figures_of(latency: float) -> LatencySummary:
    metrics = StoreMetrics()
    metrics.record(event(TicketUpdated, Source.POLL, latency))
    return metrics.latencies[Source.POLL]


def seen() -> StoreMetrics:
    metrics = StoreMetrics()
    for latency in (0.1, 0.2, 0.3):
        metrics.record(event(TicketAssigned, Source.REALTIME, latency))
    metrics.record(event(TicketUpdated, Source.POLL, 20.0))
    metrics.record(event(TicketUpdated, Source.REALTIME, 0.1))
    metrics.counts.update({"gaps": 2, "a_newer_counter": 5})
    return metrics


def test_the_figures_are_json() -> None:
    found = figures(seen())
    assert json.loads(json.dumps(found)) == found
    assert found["events"] == {"TicketAssigned": {"realtime": 3}, "TicketUpdated": {"poll": 1, "realtime": 1}}
    assert found["sources"] == {"realtime": 4, "poll": 1}
    assert found["realtime_to_poll"] == 4.0
    assert found["latencies"]["poll"] == asdict(figures_of(20.0))


def test_known_counters_show_their_zeros_and_unknown_ones_show_up() -> None:
    counts = figures(seen())["counts"]
    assert (counts["gaps"], counts["read_failures"], counts["a_newer_counter"]) == (2, 0, 5)

    class Newer(StoreMetrics):
        restarts = 7
        is_fine = True

        @property
        def drift_ratio(self) -> float:
            return 0.5

        @property
        def waits(self) -> dict[str, LatencySummary]:
            return {"apply": figures_of(0.25)}

    counts = figures(Newer())["counts"]
    assert figures(Newer())["waits"]["apply"]["worst"] == 0.25
    assert "Waits in seconds:" in report(Newer())
    assert (counts["restarts"], counts["drift_ratio"]) == (7, 0.5)
    assert "is_fine" not in counts


def test_the_report_reads_so() -> None:
    text = report(seen())
    assert "Events: 5  (realtime 4, poll 1)" in text
    assert "Realtime to poll: 4.0 to 1" in text
    assert "  TicketUpdated           2  (poll 1, realtime 1)" in text
    assert "  poll                    1  p50 20.000  p95 20.000" in text
    assert "  a_newer_counter         5\n" in f"{text}\n"
    assert not text.endswith("\n")


def test_nothing_has_happened_yet() -> None:
    text = report(StoreMetrics())
    assert "Events: 0" in text
    assert "nothing happened yet" in text
    assert "none measured yet" in text


def test_without_a_poll_there_is_no_ratio() -> None:
    metrics = StoreMetrics()
    metrics.record(event(TicketAssigned, Source.REALTIME, 0.1))
    assert figures(metrics)["realtime_to_poll"] is None
    assert "no poll told anything" in report(metrics)
